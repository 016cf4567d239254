//! Where a log directory is found.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat};
use rustix::io::Errno;
use svcore::logger::directory::{self, kind_of_main};
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
        /// The directory in that of the files that an instance of a template has for its own, such as `@tty1`.
        instance: Option<CString>,
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
        let of_instance = match self {
            Place::Hosted { instance: Some(instance), .. } => [b"/", instance.to_bytes()].concat(),
            Place::Named(_) | Place::Hosted { .. } => Vec::new(),
        };
        [self.name_of_all(), of_instance].concat()
    }

    /// What messages call the directory that has the files of a service, or the directories of all instances.
    pub(crate) fn name_of_all(&self) -> Vec<u8> {
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
            Place::Hosted { log, instance: None, .. } => open_hosted(log.as_fd()),
            Place::Hosted { log, instance: Some(instance), .. } => {
                open_instance(&open_hosted(log.as_fd())?, instance)
            }
        }
    }

    /// Opens the directory that has the directories of all instances; `None` if this is not the log of one.
    pub(crate) fn open_all(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Place::Hosted { log, instance: Some(_), .. } => open_hosted(log.as_fd()).map(Some),
            Place::Named(_) | Place::Hosted { .. } => Ok(None),
        }
    }
}

/// Opens `main` in the directory `log` of a service if that is a directory or leads to one, otherwise `log` itself.
fn open_hosted(log: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match kind_of_main(log) {
        Some(FileType::Directory) => Ok(trust::open_directory(log, c"main")?.0),
        Some(_) => follow(log, c"main"),
        None => Ok(openat(log, c".", DIRECTORY, Mode::empty())?),
    }
}

/// Opens the directory that a link leads to.
///
/// It is followed only if it belongs to root or to our own user: with a link of his own, a stranger could make svlogd write
/// anywhere.
fn follow(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let (link, target) = read_link(directory, name)?;
    if trust::is_of_others(&link) {
        return Err(Refusal::Link.into());
    }
    Ok(openat(directory, &target, DIRECTORY, Mode::empty())?)
}

/// Opens the directory of an instance, which may be a link as `main` may be. It is made if it is missing.
///
/// One that a stranger made is refused: he could read the log, and have it written where it fills a disk.
fn open_instance(all: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let look = || statat(all, name, AtFlags::SYMLINK_NOFOLLOW);
    let found = match look() {
        Err(Errno::NOENT) => match mkdirat(all, name, directory::MODE) {
            // Somebody may have been quicker.
            Ok(()) | Err(Errno::EXIST) => look(),
            Err(errno) => Err(errno),
        },
        found => found,
    };
    if FileType::from_raw_mode(found?.st_mode) == FileType::Symlink {
        return follow(all.as_fd(), name);
    }
    let (opened, stat) = trust::open_directory(all.as_fd(), name)?;
    if may_be_of_stranger(&fstat(all)?, &stat) { Err(Refusal::OtherOwner.into()) } else { Ok(opened) }
}

/// Whether a directory in the directory `all` was perhaps made by somebody else than root, our own user, and the owner of
/// `all`.
fn may_be_of_stranger(all: &Stat, directory: &Stat) -> bool {
    let only_we_make_any = trust::check_owner(all).is_ok();
    !only_we_make_any && trust::is_of_others(directory) && directory.st_uid != all.st_uid
}
