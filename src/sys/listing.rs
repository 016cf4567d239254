//! Directories whose entries are numbers, such as those of processes and descriptors.

use rustix::fd::BorrowedFd;
use rustix::fs::{Dir, Mode, OFlags, openat};

/// The numbers in a directory; other names are left out. `None` if it cannot be read.
///
/// Not by the standard library, which panics when the directory cannot be closed.
#[must_use]
pub fn numbers_in(path: &[u8]) -> Option<Vec<i32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(rustix::fs::CWD, path, flags, Mode::empty()).ok()?;
    let entries = Dir::read_from(&dir).ok()?.flatten();
    Some(entries.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect())
}

/// Has the next [`each_name`] begin anew. Returns whether that worked.
pub(crate) fn rewind(directory: BorrowedFd<'_>) -> bool {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0)).is_ok()
}

/// Calls `each` with the name of each entry of a directory that is open for reading, until it returns false. Returns whether
/// all entries were listed.
#[cfg(target_os = "linux")]
pub(crate) fn each_name(directory: BorrowedFd<'_>, mut each: impl FnMut(&[u8]) -> bool) -> bool {
    use std::mem::MaybeUninit;

    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = rustix::fs::RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if each(entry.file_name().to_bytes()) => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// Calls `each` with the name of each entry of a directory, until it returns false. Returns whether all entries were listed.
#[cfg(not(target_os = "linux"))]
pub(crate) fn each_name(directory: BorrowedFd<'_>, mut each: impl FnMut(&[u8]) -> bool) -> bool {
    let Ok(mut entries) = rustix::fs::Dir::read_from(directory) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| each(entry.file_name().to_bytes())))
}
