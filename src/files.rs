//! Small files, by their names in an open directory.

use std::ffi::CStr;
use std::io;

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::slice;

/// The mode bit "the owner may execute". Those of the group and of others do not count.
const OWNER_EXEC: u32 = 0o100;

/// The metadata of a file, with links followed; `None` if there is no file.
///
/// # Errors
///
/// That of stat(2), but for ENOENT.
pub fn look(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::empty()) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether it is a directory.
#[must_use]
pub fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether the owner may execute it.
#[must_use]
#[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
pub fn is_executable(stat: &Stat) -> bool {
    u32::from(stat.st_mode) & OWNER_EXEC != 0
}

/// Whether others than the owner may write to it.
#[must_use]
#[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
pub(crate) fn others_may_write(stat: &Stat) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    u32::from(stat.st_mode) & OTHERS_WRITE != 0
}

/// Whether others than the owner of a directory may replace files in it that do not belong to them.
#[must_use]
#[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
pub(crate) fn others_may_exchange(stat: &Stat) -> bool {
    const STICKY: u32 = 0o1000;
    others_may_write(stat) && u32::from(stat.st_mode) & STICKY == 0
}

/// Which file or directory it is: no other has the same identity as long as this one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The inode in it.
    pub inode: u64,
}

/// The identity of a file, from its metadata.
#[must_use]
#[allow(clippy::cast_sign_loss, clippy::cast_lossless, clippy::unnecessary_cast, reason = "widths differ")]
pub fn identity(stat: &Stat) -> Identity {
    Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
}

/// Opens a file for reading, without waiting for a writer if it is a FIFO.
///
/// # Errors
///
/// That of open(2).
pub(crate) fn open_read(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// Reads the start of a file into `buffer`, as much as fits, and returns that.
///
/// # Errors
///
/// That of open(2) or read(2).
pub fn read_start<'b>(dir: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let file = open_read(dir, name)?;
    let mut filled = 0;
    while let Some(room @ [_, ..]) = buffer.get_mut(filled..) {
        match rustix::io::read(&file, room) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(slice::part(buffer, ..filled))
}
