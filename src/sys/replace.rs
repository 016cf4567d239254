//! Giving a file the name of another, in one step.

use std::ffi::CStr;
use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::renameat;

/// Gives the file `new` the name `name`. What had that name has the name `new` afterwards, or is gone; gives whether it
/// is still there.
///
/// The two names are exchanged where the system can: a disk's file system writes out a new file at once when it is
/// renamed over an existing one (ext4 takes a millisecond for that, and 20 us for the exchange).
///
/// # Errors
///
/// That of rename(2).
pub fn replace(dir: BorrowedFd<'_>, new: &CStr, name: &CStr) -> io::Result<bool> {
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
