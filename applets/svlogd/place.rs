//! Where a log directory is found.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use svcore::sys::link::read_link;
use svcore::trust::{self, Refusal};

/// A log directory that may be opened more than once.
pub(crate) enum Place {
    /// By its name, as typed.
    Named(OsString),
    /// The log of a service without `log/run`.
    Hosted {
        /// The directory `log` of the service.
        log: OwnedFd,
        /// What messages call it.
        name: OsString,
    },
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Place {
    /// What messages call it.
    pub(crate) fn name(&self) -> &[u8] {
        match self {
            Place::Named(name) | Place::Hosted { name, .. } => name.as_bytes(),
        }
    }

    /// The directory `log` of a service, in which `config` may be although the log is elsewhere.
    pub(crate) fn log(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Place::Named(_) => None,
            Place::Hosted { log, .. } => Some(log.as_fd()),
        }
    }

    /// Opens the directory.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        match self {
            Place::Named(name) => Ok(openat(CWD, &CString::new(name.as_bytes())?, DIRECTORY, Mode::empty())?),
            Place::Hosted { log, .. } => open_hosted(log.as_fd()),
        }
    }
}

/// Opens `main` in the directory `log` of a service if that is a directory or leads to one, otherwise `log` itself.
///
/// A link is followed only if it belongs to root or to our own user: with a link of his own, a stranger could make svlogd
/// write anywhere.
fn open_hosted(log: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let kind = statat(log, c"main", AtFlags::SYMLINK_NOFOLLOW);
    let kind = kind.map(|stat| FileType::from_raw_mode(stat.st_mode));
    let name = match kind {
        Ok(FileType::Directory) => return Ok(trust::open_directory(log, c"main")?.0),
        Ok(FileType::Symlink) => {
            let (link, target) = read_link(log, c"main")?;
            if trust::is_of_others(&link) {
                return Err(Refusal::Link.into());
            }
            target
        }
        Ok(_) | Err(_) => c".".to_owned(),
    };
    Ok(openat(log, &name, DIRECTORY, Mode::empty())?)
}
