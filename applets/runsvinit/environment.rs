//! The environment written to files, for `chpst -e`. Source: runsvinit(8), -e.
//!
//! It may contain secrets. So only new files are written, which nobody else has open or may read, in a directory that no
//! one else can replace by a link.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use svcore::slice;
use svcore::trust::{self, Make};
use svcore::{Context, Failed, Result};

/// Writes our environment to the directory `dir`, which is made if it is not there.
pub(crate) fn write(dir: &OsStr) -> Result<(), Failed> {
    let doing = || [b"unable to write the environment to ", dir.as_bytes()].concat();
    let fd = open(dir).while_doing(doing)?;
    for (name, value) in std::env::vars_os() {
        let name = name.as_bytes();
        if name.starts_with(b".") || name.contains(&b'/') {
            continue;
        }
        write_one(fd.as_fd(), name, value.as_bytes())
            .while_doing(|| [doing().as_slice(), b"/", name].concat())?;
    }
    Ok(())
}

fn open(dir: &OsStr) -> io::Result<OwnedFd> {
    // On the way to the directory, links of root and of ours are followed; the directory itself may not be a link.
    let end = dir.as_bytes().iter().rposition(|&byte| byte != b'/').map_or(1, |last| last.saturating_add(1));
    let path = slice::part(dir.as_bytes(), ..end.min(dir.len()));
    let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => path.split_at(slash.saturating_add(1)),
        None => (&b"."[..], path),
    };
    let name = CString::new(name)?;
    let parent = trust::walk(CWD, parent, &trust::ours(), Make::Nothing)?.dir;
    match mkdirat(&parent, &name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let (fd, stat) = trust::open_directory(parent.as_fd(), &name)?;
    trust::check_owner(&stat)?;
    Ok(fd)
}

fn write_one(dir: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let file = trust::create_new(dir, &CString::new(name)?, Mode::RUSR | Mode::WUSR)?;
    // chpst turns NUL into newline.
    let text: Vec<u8> =
        value.iter().map(|&byte| if byte == b'\n' { 0 } else { byte }).chain([b'\n']).collect();
    io::Write::write_all(&mut std::fs::File::from(file), &text)
}
