//! An open log directory with its lock.

use std::ffi::CStr;
use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, statat};
use rustix::io::fcntl_dupfd_cloexec;
use svcore::{Context, Failed, files, trust};

use super::super::place::Place;

/// An open log directory, locked against another svlogd.
pub(super) struct LockedDirectory {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
    lock: OwnedFd,
}

impl LockedDirectory {
    /// Opens and locks a directory. If `held` is the same directory and its lock is still the file `lock`, that lock is
    /// kept, so that no other svlogd can get it meanwhile.
    pub(super) fn open(place: &Place, held: Option<&Self>) -> Result<Self, Failed> {
        let fd = place.open().while_doing(|| "unable to open log directory")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Stock svlogd has another message for a directory that can be opened but not entered.
        openat(&fd, c".", flags, Mode::empty()).while_doing(|| "unable to change directory")?;
        let stat = fstat(&fd).while_doing(|| "unable to open log directory")?;
        let held = held.filter(|held| {
            files::identity(&held.stat) == files::identity(&stat) && is_name_of(&fd, c"lock", &held.lock)
        });
        let lock = match held {
            Some(held) => fcntl_dupfd_cloexec(&held.lock, 0).map_err(io::Error::from),
            None => lock(&fd),
        };
        Ok(LockedDirectory { fd, stat, lock: lock.while_doing(|| "unable to lock directory")? })
    }

    /// Whether both are the same directory, maybe under different names.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        files::identity(&self.stat) == files::identity(&other.stat)
    }

    /// Whether the directory was removed, so that what is written to it is lost.
    pub(super) fn is_removed(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

fn lock(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    let (lock, _) = trust::open_regular(directory.as_fd(), c"lock", flags, Mode::from_raw_mode(0o600))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Whether the file with this name is the one that is open as `file`.
pub(super) fn is_name_of(directory: &OwnedFd, name: &CStr, file: &OwnedFd) -> bool {
    match (statat(directory, name, AtFlags::SYMLINK_NOFOLLOW), fstat(file)) {
        (Ok(named), Ok(open)) => files::identity(&named) == files::identity(&open),
        _ => false,
    }
}
