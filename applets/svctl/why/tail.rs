//! The last lines that svlogd wrote for a service.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::svctl::facts::Service;
use crate::svctl::text;

/// As much of the end of `current` is read.
const END_MAX: u64 = 16 * 1024;

/// The directory of the log, where the usual places have one.
pub(super) fn directory(service: &Service) -> Option<PathBuf> {
    let path = PathBuf::from(OsStr::from_bytes(&service.target.path));
    let name = path.file_name().unwrap_or_default().to_owned();
    let dirs = [
        path.join("log/main"),
        path.join("log/current"),
        path.join("log"),
        PathBuf::from("/var/log").join(name),
    ];
    dirs.into_iter().find(|dir| dir.join("current").is_file())
}

/// The last lines, the latest last; at most `count`.
pub(super) fn last_lines(service: &Service, count: usize) -> Vec<String> {
    let Some(dir) = directory(service) else { return Vec::new() };
    let Ok(mut file) = File::open(dir.join("current")) else { return Vec::new() };
    let size = file.metadata().map_or(0, |data| data.len());
    let start = size.saturating_sub(END_MAX);
    let mut end = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err() || file.take(END_MAX).read_to_end(&mut end).is_err() {
        return Vec::new();
    }
    let end = end.strip_suffix(b"\n").unwrap_or(&end);
    let mut lines: Vec<&[u8]> = end.split(|&byte| byte == b'\n').collect();
    if start > 0 && !lines.is_empty() {
        // The first one may be cut.
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(count);
    lines.into_iter().skip(skip).filter(|line| !line.is_empty()).map(text::escaped).collect()
}
