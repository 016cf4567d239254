//! The ids that this process has.

use std::io;

/// Sets the real, the effective and the saved group id. Needs no right for an id that is one of the three already.
///
/// # Errors
///
/// That of setresgid(2).
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    let gid = gid.into();
    Ok(nix::unistd::setresgid(gid, gid, gid)?)
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    Ok(nix::unistd::setgid(gid.into())?)
}

/// Sets the real, the effective and the saved user id. Needs no right for an id that is one of the three already.
///
/// # Errors
///
/// That of setresuid(2).
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    let uid = uid.into();
    Ok(nix::unistd::setresuid(uid, uid, uid)?)
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    Ok(nix::unistd::setuid(uid.into())?)
}

/// Sets the effective user id to that of root, and the others, too, if there is a right to.
///
/// # Errors
///
/// That of setuid(2).
pub(crate) fn become_root() -> io::Result<()> {
    Ok(nix::unistd::setuid(0.into())?)
}

/// The real, the effective and the saved group id. Where the system does not tell the saved one, the effective one
/// stands for it.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub(crate) fn gids() -> [u32; 3] {
    let unknown = [u32::MAX; 3];
    nix::unistd::getresgid()
        .map_or(unknown, |ids| [ids.real, ids.effective, ids.saved].map(nix::unistd::Gid::as_raw))
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(crate) fn gids() -> [u32; 3] {
    let effective = rustix::process::getegid().as_raw();
    [rustix::process::getgid().as_raw(), effective, effective]
}

/// The same of the user.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub(crate) fn uids() -> [u32; 3] {
    let unknown = [u32::MAX; 3];
    nix::unistd::getresuid()
        .map_or(unknown, |ids| [ids.real, ids.effective, ids.saved].map(nix::unistd::Uid::as_raw))
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(crate) fn uids() -> [u32; 3] {
    let effective = rustix::process::geteuid().as_raw();
    [rustix::process::getuid().as_raw(), effective, effective]
}

/// The supplementary groups.
///
/// # Errors
///
/// That of getgroups(2).
pub(crate) fn groups() -> io::Result<Vec<u32>> {
    Ok(rustix::process::getgroups()?.into_iter().map(rustix::process::Gid::as_raw).collect())
}

/// Sets the supplementary groups.
///
/// # Errors
///
/// That of setgroups(2).
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn set_groups(gids: &[u32]) -> io::Result<()> {
    let gids: Vec<nix::unistd::Gid> = gids.iter().map(|&gid| gid.into()).collect();
    Ok(nix::unistd::setgroups(&gids)?)
}

#[cfg(target_vendor = "apple")]
pub(crate) fn set_groups(gids: &[u32]) -> io::Result<()> {
    let count = i32::try_from(gids.len()).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the count are those of one slice of gid_t.
    match unsafe { nix::libc::setgroups(count, gids.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
