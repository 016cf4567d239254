//! `runsvchdir`: switch the directory that runsvdir serves. Source: runsvchdir(8).

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlinkat, renameat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use svcore::say::Message;
use svcore::{Call, Context, Error, Failed, Result, files, say};

/// The directory that holds the runlevel directories, unless the environment variable `RUNSVDIR` names another.
const BASE: &str = "/etc/runit/runsvdir";

/// Runs the applet.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let dir = call.args.first().ok_or_else(Error::usage)?;
    switch(dir.as_bytes()).map_or_else(
        |error| {
            Message::fatal(call.typed.as_bytes(), &error.to_string()).print();
            Ok(call.codes.fatal)
        },
        |is_current| {
            let now: &[u8] = if is_current { b": current.\n" } else { b": now current.\n" };
            say::out(&[b"runsvchdir: ", &say::printable(dir.as_bytes()), now]);
            Ok(0)
        },
    )
}

/// Makes `current` a link to `dir`, or to what `previous` is a link to. Returns whether it already was.
fn switch(dir: &[u8]) -> Result<bool, Failed> {
    let named = |what: &str| [dir, b": ", what.as_bytes()].concat();
    if dir.starts_with(b".") {
        return Err(Failed::without_cause(named("must not start with a dot.")));
    }
    let base =
        std::env::var_os("RUNSVDIR").filter(|base| !base.is_empty()).unwrap_or_else(|| OsString::from(BASE));
    let base = openat(
        CWD,
        base.as_os_str(),
        svcore::sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .while_doing(|| [b"unable to chdir: ", base.as_bytes()].concat())?;
    let base = base.as_fd();
    let wanted = match statat(base, dir, AtFlags::empty()) {
        Err(Errno::NOENT) => return Err(Failed::without_cause(named("file does not exist"))),
        wanted => wanted.while_doing(|| [b"unable to stat: ", dir].concat())?,
    };
    if !files::is_dir(&wanted) {
        return Err(Failed::without_cause(named("not a directory.")));
    }
    let current = statat(base, c"current", AtFlags::empty()).while_doing(|| "unable to stat: current")?;
    if files::identity(&wanted) == files::identity(&current) {
        return Ok(true);
    }
    // A link to `previous` would lead back to where `current` leads now, since that is the next `previous`.
    let before = if dir == b"previous" { readlinkat(base, dir, Vec::new()).ok() } else { None };
    make_link(base, before.as_ref().map_or(dir, |target| target.to_bytes()), "current.new")?;
    keep_previous(base)?;
    renameat(base, c"current.new", base, c"current")
        .while_doing(|| "unable to move: current.new to current")?;
    Ok(false)
}

/// Makes `previous` what `current` is now. A link is copied and not renamed, so that `current` exists all the time.
fn keep_previous(base: BorrowedFd<'_>) -> Result<(), Failed> {
    match readlinkat(base, c"current", Vec::new()) {
        Ok(target) => {
            make_link(base, target.to_bytes(), "previous.new")?;
            renameat(base, c"previous.new", base, c"previous")
        }
        Err(_) => {
            remove(base, "previous")?;
            renameat(base, c"current", base, c"previous")
        }
    }
    .while_doing(|| "unable to copy: current to previous")
}

fn make_link(base: BorrowedFd<'_>, target: &[u8], name: &str) -> Result<(), Failed> {
    remove(base, name)?;
    symlinkat(target, base, name)
        .while_doing(|| [b"unable to create: ", name.as_bytes(), b" -> ", target].concat())
}

fn remove(base: BorrowedFd<'_>, name: &str) -> Result<(), Failed> {
    match unlinkat(base, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).while_doing(|| format!("unable to unlink: {name}")),
    }
}
