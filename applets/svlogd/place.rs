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
        /// Its path.
        name: OsString,
    },
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Place {
    /// Its name: that of a directory as typed, or of the directory `log` of a service.
    pub(crate) fn name(&self) -> &[u8] {
        match self {
            Place::Named(name) | Place::Hosted { name, .. } => name.as_bytes(),
        }
    }

    /// What messages call the directory with the files.
    pub(crate) fn directory_name(&self) -> Vec<u8> {
        let main: &[u8] = match self {
            Place::Hosted { log, .. } if kind_of_main(log.as_fd()).is_some() => b"/main",
            Place::Named(_) | Place::Hosted { .. } => b"",
        };
        [self.name(), main].concat()
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
    let name = match kind_of_main(log) {
        Some(FileType::Directory) => return Ok(trust::open_directory(log, c"main")?.0),
        Some(_) => {
            let (link, target) = read_link(log, c"main")?;
            if trust::is_of_others(&link) {
                return Err(Refusal::Link.into());
            }
            target
        }
        None => c".".to_owned(),
    };
    Ok(openat(log, &name, DIRECTORY, Mode::empty())?)
}

/// Whether `main` in the directory `log` of a service is a directory or a link; `None` if it is neither.
fn kind_of_main(log: BorrowedFd<'_>) -> Option<FileType> {
    let stat = statat(log, c"main", AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::Directory | FileType::Symlink).then_some(kind)
}
