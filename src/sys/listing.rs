//! Directories whose entries are numbers, such as those of processes and descriptors.

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
