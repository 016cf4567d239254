//! Symbolic links themselves, not what they lead to.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::Stat;

/// The metadata and the target of a symbolic link. Both belong to the same link, even if its name is given to another one
/// meanwhile.
///
/// # Errors
///
/// That of open(2), stat(2) or readlink(2).
pub fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(Stat, CString)> {
    here::read_link(dir, name)
}

#[cfg(target_os = "linux")]
mod here {
    use super::{BorrowedFd, CStr, CString, Stat, io};
    use rustix::fs::{Mode, OFlags, fstat, openat, readlinkat};

    pub(super) fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(Stat, CString)> {
        let link = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        Ok((fstat(&link)?, readlinkat(&link, c"", Vec::new())?))
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use super::{BorrowedFd, CStr, CString, Stat, io};
    use rustix::fs::{AtFlags, readlinkat, statat};

    /// Here the name may be given to another link between two calls. That is noticed, unless it is given back as well.
    pub(super) fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(Stat, CString)> {
        let before = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let target = readlinkat(dir, name, Vec::new())?;
        let after = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((after, target))
    }
}
