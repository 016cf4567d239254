//! `runit-init`, also called `init`: becomes runit as process 1, and otherwise tells it to end the machine. Source:
//! runit-init(8).

use std::ffi::{CStr, CString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use svcore::{Call, Error, Result, exec, multicall, say};

use crate::runit::flags::{REBOOT, STOP_IT};

/// What this program becomes.
const RUNIT: &CStr = c"/sbin/runit";
/// The flag.
const SET: Mode = Mode::from_raw_mode(0o100);

/// Runs the applet.
pub(crate) fn main(call: &Call<'_>) -> Result {
    if svcore::sys::start::is_first_process() {
        return become_runit(call);
    }
    let reboot = match call.args.first().map(|word| word.as_bytes()) {
        Some([b'0', ..]) => false,
        Some([b'6', ..]) => true,
        Some(b"-V") => return Err(multicall::version()),
        _ => return Err(Error::usage()),
    };
    match tell(reboot) {
        Ok(()) => {
            // Whoever is process 1 there may not listen; that is not for us to know.
            let _ = kill_process(Pid::INIT, Signal::CONT);
            Ok(0)
        }
        Err((what, path, errno)) => {
            let what = [what, path.to_bytes()].concat();
            say::trouble(&[b"init: fatal: "], &what, Some(&errno.into()));
            Ok(call.codes.fatal)
        }
    }
}

/// As process 1: `/sbin/runit`, or ourselves under that name where it cannot be executed.
fn become_runit(call: &Call<'_>) -> Result {
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let error = exec::replace(&[RUNIT.to_owned()], &[c"runit".to_owned()], &environment);
    if error.raw_os_error() != Some(Errno::NOENT.raw_os_error()) {
        say::trouble(&[b"init: warning: "], b"unable to start runit", Some(&error));
    }
    crate::runit::main(call)
}

type Failed = (&'static [u8], &'static CStr, Errno);

/// Sets the flags, in the first place where that is possible: `/etc/runit`, or what links there lead to, or `/run`.
fn tell(reboot: bool) -> std::result::Result<(), Failed> {
    let _ = mkdirat(CWD, c"/etc/runit", Mode::from_raw_mode(0o755));
    set_one(&STOP_IT)?;
    if reboot {
        return set_one(&REBOOT);
    }
    for path in REBOOT {
        match chmodat(CWD, path, Mode::empty(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            // One that is not set need not be taken back.
            Err(_) if !crate::runit::flags::is_set(path) => {}
            Err(errno) => return Err((b"unable to chmod ", path, errno)),
        }
    }
    Ok(())
}

fn set_one(paths: &[&'static CStr; 2]) -> std::result::Result<(), Failed> {
    let [first, second] = paths;
    // What is said is what the usual place says.
    set(first).or_else(|failed| set(second).map_err(|_| failed))
}

fn set(path: &'static CStr) -> std::result::Result<(), Failed> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, path, flags, SET).map_err(|errno| (b"unable to create ".as_slice(), path, errno))?;
    chmodat(CWD, path, SET, AtFlags::empty()).map_err(|errno| (b"unable to chmod ".as_slice(), path, errno))
}
