//! Who the process is.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Sets the group list, the group and the user, in this order, since after the last nothing more is allowed.
///
/// # Errors
///
/// What was attempted, and the system's reason.
pub fn become_user(uid: u32, gids: &[u32]) -> Result<(), (&'static str, io::Error)> {
    let failed = |what| move |errno: nix::errno::Errno| (what, io::Error::from(errno));
    set_groups(gids).map_err(|error| ("unable to setgroups", error))?;
    if let Some(&gid) = gids.first() {
        nix::unistd::setgid(gid.into()).map_err(failed("unable to setgid"))?;
    }
    nix::unistd::setuid(uid.into()).map_err(failed("unable to setuid"))
}

#[cfg(not(target_vendor = "apple"))]
fn set_groups(gids: &[u32]) -> io::Result<()> {
    let gids: Vec<nix::unistd::Gid> = gids.iter().map(|&gid| gid.into()).collect();
    Ok(nix::unistd::setgroups(&gids)?)
}

#[cfg(target_vendor = "apple")]
fn set_groups(gids: &[u32]) -> io::Result<()> {
    let count = i32::try_from(gids.len()).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the count are those of one slice of gid_t.
    match unsafe { nix::libc::setgroups(count, gids.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The soft limit of open files before [`raise_open_files`]; 0 if that changed nothing.
static OPEN_FILES_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit of open files to the hard one. Children get back what it was.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current != limit.maximum && set_soft_limit(Resource::Nofile, None).is_ok() {
        OPEN_FILES_BEFORE.store(limit.current.unwrap_or(0), Relaxed);
    }
}

/// What children get as their soft limit of open files, if it is not ours.
#[must_use]
pub fn open_files_before() -> Option<u64> {
    Some(OPEN_FILES_BEFORE.load(Relaxed)).filter(|&before| before > 0)
}

/// How many files we may have open.
#[must_use]
pub fn open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What a program may have of something; see [`set_soft_limit`].
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

/// Sets the soft limit to `value` or, if that is lower, to the hard limit; `None` means the hard limit.
///
/// # Errors
///
/// Which call failed, and the system's reason.
pub fn set_soft_limit(what: Resource, value: Option<u64>) -> Result<(), (&'static str, io::Error)> {
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
    rustix::process::setrlimit(resource, limit).map_err(|errno| ("unable to setrlimit()", errno.into()))
}
