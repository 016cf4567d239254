//! Replacing a file by another in one step.

use std::ffi::CStr;
use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::renameat;

/// Renames the file `new` to `name`. The file that had this name either has the name `new` afterwards or is gone; returns
/// whether it still exists.
///
/// Where the system can, the two names are exchanged: when a new file is renamed over an existing one, the file system of
/// a disk writes it out at once (on ext4 that takes a millisecond, and the exchange 20 us).
///
/// # Errors
///
/// That of rename(2).
pub(crate) fn replace(dir: BorrowedFd<'_>, new: &CStr, name: &CStr) -> io::Result<bool> {
    if exchange(dir, new, name).is_ok() {
        return Ok(true);
    }
    Ok(renameat(dir, new, dir, name).map(|()| false)?)
}

#[cfg(target_os = "linux")]
fn exchange(dir: BorrowedFd<'_>, one: &CStr, other: &CStr) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(dir, one, dir, other, rustix::fs::RenameFlags::EXCHANGE)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_dir: BorrowedFd<'_>, _one: &CStr, _other: &CStr) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}
