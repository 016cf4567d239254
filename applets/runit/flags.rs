//! Flag files: a flag is set if the owner may execute its file. The files in `/etc/runit` may be links into `/run`;
//! Debian's programs read only those in `/run`.
//!
//! Where everybody may write to `/run`, a stranger may have created the file first. So no link is followed there, and a
//! flag has to be a regular file that belongs to root or to our own user. `/etc/runit` and the links in it are root's.
//! Nothing in here allocates.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, chmodat, fchmod, fstat, openat};
use rustix::io::Errno;
use svcore::{files, trust};

/// Set if CONT may stop stage 2.
pub(crate) const STOP_IT: [&CStr; 2] = [c"/etc/runit/stopit", c"/run/runit.stopit"];
/// Set if the machine is to be rebooted and not powered off.
pub(crate) const REBOOT: [&CStr; 2] = [c"/etc/runit/reboot", c"/run/runit.reboot"];

/// Opens a flag file; `flags` are added to those that every open here uses.
///
/// # Errors
///
/// The error of open(2); EPERM or ELOOP if the file cannot be a flag (see the head of this file).
pub(crate) fn open(path: &CStr, flags: OFlags, mode: Mode) -> Result<(OwnedFd, Stat), Errno> {
    let follow = if path.to_bytes().starts_with(b"/run/") { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = flags | follow | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, mode)?;
    let stat = fstat(&file)?;
    let is_flag = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
    if is_flag && !trust::is_of_others(&stat) { Ok((file, stat)) } else { Err(Errno::PERM) }
}

/// Whether the flag is set: the owner may execute its file.
pub(crate) fn is_set(path: &CStr) -> bool {
    open(path, OFlags::PATH, Mode::empty()).is_ok_and(|(_, stat)| files::is_executable(&stat))
}

/// Changes the mode of a flag file that exists.
///
/// # Errors
///
/// The error of open(2) or chmod(2); EPERM or ELOOP if the file cannot be a flag (see the head of this file).
pub(crate) fn set_mode(path: &CStr, mode: Mode) -> Result<(), Errno> {
    match open(path, OFlags::RDONLY, Mode::empty()) {
        Ok((file, _)) => fchmod(&file, mode),
        // Mode 0 forbids us to open our own file for reading. It is checked without that, then changed by its name.
        Err(Errno::ACCESS) => {
            open(path, OFlags::PATH, Mode::empty())?;
            chmodat(CWD, path, mode, rustix::fs::AtFlags::empty())
        }
        Err(errno) => Err(errno),
    }
}

/// Whether the flag `stopit` is set: CONT may stop stage 2.
pub(crate) fn stop_it() -> bool {
    STOP_IT.into_iter().any(is_set)
}

/// Clears the flag `stopit`: the permission holds for one stop.
pub(crate) fn clear_stop_it() {
    for path in STOP_IT.into_iter().filter(|path| is_set(path)) {
        // If this fails, the permission stays for the next CONT; there is nothing better to do.
        let _ = set_mode(path, Mode::empty());
    }
}

/// Whether the flag `reboot` is set: the machine is to be rebooted and not powered off.
pub(crate) fn reboot() -> bool {
    REBOOT.into_iter().any(is_set)
}

/// Whether `/etc/runit/nosync` exists: no sync(2) before the end of the machine.
pub(crate) fn nosync() -> bool {
    files::look(CWD, c"/etc/runit/nosync").is_ok_and(|stat| stat.is_some())
}
