//! How a log is marked as complete: its owner may execute it. Source: svlogd(8), LOG DIRECTORY.
//!
//! `current` is marked when svlogd closes or rotates it. If svlogd is killed the mark is missing, so the next svlogd
//! knows that the file may lack its end, and makes an old log of it.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, Stat, fchmod};
use rustix::io::Errno;
use svcore::files;

/// Mode of `current` while it is written to.
const INCOMPLETE: Mode = Mode::from_raw_mode(0o644);
/// Mode of a complete log.
const COMPLETE: Mode = Mode::from_raw_mode(0o744);

/// Whether the log with this `stat` is marked as complete.
pub(crate) fn is_complete(stat: &Stat) -> bool {
    files::is_executable(stat)
}

/// Marks a log as complete.
pub(crate) fn mark_complete(log: &OwnedFd) -> Result<(), Errno> {
    fchmod(log, COMPLETE)
}

/// Marks a log as one that is written to.
pub(crate) fn mark_incomplete(log: &OwnedFd) -> Result<(), Errno> {
    fchmod(log, INCOMPLETE)
}
