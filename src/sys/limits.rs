//! Limits of resources.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The soft limit of open files before [`raise_open_files`]; 0 if that changed nothing.
static OPEN_FILES_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit of open files to the hard one. Children get the old soft limit back.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current != limit.maximum && set_soft_limit(Resource::Nofile, None).is_ok() {
        OPEN_FILES_BEFORE.store(limit.current.unwrap_or(0), Relaxed);
    }
}

/// The soft limit of open files that children get, if it differs from ours.
#[must_use]
pub(super) fn open_files_before() -> Option<u64> {
    Some(OPEN_FILES_BEFORE.load(Relaxed)).filter(|&before| before > 0)
}

/// How many files we may have open.
#[must_use]
pub fn open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What a limit is about; see [`set_soft_limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Data segment, in bytes.
    Data,
    /// Stack, in bytes.
    Stack,
    /// Locked memory, in bytes.
    Memlock,
    /// Address space, in bytes.
    As,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Size of a file written, in bytes.
    Fsize,
    /// Core dump, in bytes.
    Core,
    /// Resident memory, in bytes.
    Rss,
    /// Processor time, in seconds.
    Cpu,
}

/// Sets the soft limit to `value`, but at most to the hard limit; `None` stands for the hard limit.
///
/// # Errors
///
/// That of setrlimit(2).
pub fn set_soft_limit(what: Resource, value: Option<u64>) -> io::Result<()> {
    let resource = match what {
        Resource::Data => rustix::process::Resource::Data,
        Resource::Stack => rustix::process::Resource::Stack,
        Resource::Memlock => rustix::process::Resource::Memlock,
        Resource::As => rustix::process::Resource::As,
        Resource::Nofile => rustix::process::Resource::Nofile,
        Resource::Nproc => rustix::process::Resource::Nproc,
        Resource::Fsize => rustix::process::Resource::Fsize,
        Resource::Core => rustix::process::Resource::Core,
        Resource::Rss => rustix::process::Resource::Rss,
        Resource::Cpu => rustix::process::Resource::Cpu,
    };
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = match (value, limit.maximum) {
        (Some(value), Some(hard)) => Some(value.min(hard)),
        (Some(value), None) => Some(value),
        (None, hard) => hard,
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}
