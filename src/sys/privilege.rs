//! Who the process is.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Context, Failed, Result};

/// Sets the group list, the group and the user, in this order, since after the last nothing more is allowed; and then
/// looks whether that is so.
///
/// Groups that are as they should be already are not set: that would need a right. Whoever becomes another than root
/// has no capability left.
///
/// # Errors
///
/// [`Failed`]. What has been changed by then is not taken back, so the caller must end.
pub fn become_user(uid: u32, gids: &[u32]) -> Result<(), Failed> {
    let gid = gids.first().copied().ok_or_else(|| Failed::without_cause("unable to setgroups"))?;
    if groups_with(gid)? != sorted(gids.to_vec()) {
        set_groups(gids).while_doing(|| "unable to setgroups")?;
    }
    set_gid(gid.into()).while_doing(|| "unable to setgid")?;
    set_uid(uid.into()).while_doing(|| "unable to setuid")?;

    let wrong = |what: &str| Failed::without_cause(format!("unable to drop privileges: {what}"));
    if uid != 0 {
        clear_capabilities().while_doing(|| "unable to drop capabilities")?;
    }
    if groups_with(gid)? != sorted(gids.to_vec()) {
        return Err(wrong("groups did not change"));
    }
    if gids_are() != [gid; 3] {
        return Err(wrong("gid did not change"));
    }
    if uids_are() != [uid; 3] {
        return Err(wrong("uid did not change"));
    }
    if uid != 0 && nix::unistd::setuid(0.into()).is_ok() {
        return Err(wrong("there is a way back to root"));
    }
    Ok(())
}

/// The group list, and `gid`: whether that is in the list too makes no difference.
fn groups_with(gid: u32) -> Result<Vec<u32>, Failed> {
    let list = rustix::process::getgroups().while_doing(|| "unable to getgroups")?;
    Ok(sorted(list.into_iter().map(rustix::process::Gid::as_raw).chain([gid]).collect()))
}

fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    crate::sort::sort(&mut ids);
    ids.dedup();
    ids
}

/// Sets the real, the effective and the saved id, each of which may be one of the three without any right.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn set_gid(gid: nix::unistd::Gid) -> nix::Result<()> {
    nix::unistd::setresgid(gid, gid, gid)
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn set_gid(gid: nix::unistd::Gid) -> nix::Result<()> {
    nix::unistd::setgid(gid)
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn set_uid(uid: nix::unistd::Uid) -> nix::Result<()> {
    nix::unistd::setresuid(uid, uid, uid)
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn set_uid(uid: nix::unistd::Uid) -> nix::Result<()> {
    nix::unistd::setuid(uid)
}

/// The real, the effective and the saved id. Where the last cannot be had, the attempt to become root shows it.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn gids_are() -> [u32; 3] {
    let unknown = [u32::MAX; 3];
    nix::unistd::getresgid()
        .map_or(unknown, |ids| [ids.real, ids.effective, ids.saved].map(nix::unistd::Gid::as_raw))
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn gids_are() -> [u32; 3] {
    let effective = rustix::process::getegid().as_raw();
    [rustix::process::getgid().as_raw(), effective, effective]
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn uids_are() -> [u32; 3] {
    let unknown = [u32::MAX; 3];
    nix::unistd::getresuid()
        .map_or(unknown, |ids| [ids.real, ids.effective, ids.saved].map(nix::unistd::Uid::as_raw))
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn uids_are() -> [u32; 3] {
    let effective = rustix::process::geteuid().as_raw();
    [rustix::process::getuid().as_raw(), effective, effective]
}

/// Gives up all capabilities, those too that the program that we become would get from us.
///
/// The kernel does that only when root becomes somebody else, and not even then if a secure bit says so.
#[cfg(target_os = "linux")]
fn clear_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};
    match clear_ambient_capability_set() {
        // A kernel before 4.3 has none.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "other platforms can fail")]
fn clear_capabilities() -> io::Result<()> {
    Ok(())
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
