//! Files whose mode is a flag: the owner may execute them, or not. `/etc/runit/…` may be links into `/run`; Debian's
//! programs look only at those in `/run`.

//!
//! Where `/run` is everybody's, others may have been there first. So there no link is followed, and a flag is a regular
//! file of root's or ours. What `/etc/runit` has is root's, links too. Nothing here allocates.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, chmodat, fchmod, fstat, openat};
use rustix::io::Errno;
use svcore::{files, trust};

/// Permission to stop stage 2.
pub(crate) const STOP_IT: [&CStr; 2] = [c"/etc/runit/stopit", c"/run/runit.stopit"];
/// The machine is to start again.
pub(crate) const REBOOT: [&CStr; 2] = [c"/etc/runit/reboot", c"/run/runit.reboot"];

/// Opens a flag, with more `flags` than every opening has.
///
/// # Errors
///
/// That of open(2); EPERM and ELOOP if it is not one of root's or ours.
pub(crate) fn open(path: &CStr, flags: OFlags, mode: Mode) -> Result<(OwnedFd, Stat), Errno> {
    let follow = if path.to_bytes().starts_with(b"/run/") { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = flags | follow | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, mode)?;
    let stat = fstat(&file)?;
    let is_flag = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
    if is_flag && !trust::is_of_others(&stat) { Ok((file, stat)) } else { Err(Errno::PERM) }
}

/// Whether the owner may execute a file.
pub(crate) fn is_set(path: &CStr) -> bool {
    open(path, OFlags::PATH, Mode::empty()).is_ok_and(|(_, stat)| files::is_executable(&stat))
}

/// Gives a flag that is there this mode.
///
/// # Errors
///
/// That of open(2) or chmod(2); EPERM and ELOOP if it is not one of root's or ours.
pub(crate) fn set_mode(path: &CStr, mode: Mode) -> Result<(), Errno> {
    match open(path, OFlags::RDONLY, Mode::empty()) {
        Ok((file, _)) => fchmod(&file, mode),
        // Without the right to read what is our own, its name has to do.
        Err(Errno::ACCESS) => {
            open(path, OFlags::PATH, Mode::empty())?;
            chmodat(CWD, path, mode, rustix::fs::AtFlags::empty())
        }
        Err(errno) => Err(errno),
    }
}

/// Whether stage 2 may be stopped.
pub(crate) fn stop_it() -> bool {
    STOP_IT.into_iter().any(is_set)
}

/// That permission is used up.
pub(crate) fn take_stop_it() {
    for path in STOP_IT.into_iter().filter(|path| is_set(path)) {
        // Where it cannot be taken away, it is there again the next time.
        let _ = set_mode(path, Mode::empty());
    }
}

/// Whether the machine is to start again after its end.
pub(crate) fn reboot() -> bool {
    REBOOT.into_iter().any(is_set)
}

/// Whether nothing is to be written to disk at the end.
pub(crate) fn nosync() -> bool {
    files::look(CWD, c"/etc/runit/nosync").is_ok_and(|stat| stat.is_some())
}
