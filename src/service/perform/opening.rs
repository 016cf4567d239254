//! What of a service is opened: its directory, its log service, its outputs.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::Machine;
use crate::error::{Context, Failed, Result};
use crate::files::Identity;
use crate::say::Message;
use crate::service::words::Now;
use crate::state::Home;
use crate::status::Want;
use crate::supervise::{self, Supervise};
use crate::sys;
use crate::sys::watch;
use crate::{decimal, files};

/// How long a log service has to read the rest, where `log/timeout-exit` does not say.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Mode of a pipe that a service may open again by a name such as /dev/stdout.
const WRITABLE: Mode = Mode::from_raw_mode(0o622);

/// A log service's place.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) dir: OwnedFd,
    pub(super) identity: Identity,
    pub(super) supervise: Supervise,
    /// The pipe between the two, where the log service reads.
    pub(super) read: OwnedFd,
    /// Where the service writes, until it is gone for good.
    pub(super) write: Option<OwnedFd>,
}

/// Where what a service writes goes, if not to our own standard output and error.
#[derive(Debug)]
pub struct Outputs {
    /// Standard output of the service, if it has no log service.
    pub out: OwnedFd,
    /// Standard error of the service.
    pub err: OwnedFd,
    /// Standard output and error of the log service, if there is one.
    pub log: Option<(OwnedFd, OwnedFd)>,
    /// Makes those of a log service that comes later.
    pub late: Late,
}

/// See [`Outputs::late`].
pub struct Late(pub Box<dyn Fn() -> io::Result<(OwnedFd, OwnedFd)>>);

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Late")
    }
}

impl Log {
    pub(super) fn open(dir: OwnedFd, name: &CStr, who: &[u8]) -> Result<Box<Self>, Failed> {
        let (read, write) = io::pipe().while_doing(|| "unable to create log pipe")?;
        let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
        // So that the service can open /dev/stdout, whatever user it becomes. Only its own processes can get at it.
        let _ = rustix::fs::fchmod(&write, WRITABLE);
        let (dir, identity, supervise) = Self::take_over(dir, name, who)?;
        Ok(Box::new(Log { dir, identity, supervise, read, write: Some(write) }))
    }

    /// Opens what a directory `log` needs, and watches it.
    fn take_over(dir: OwnedFd, name: &CStr, who: &[u8]) -> Result<(OwnedFd, Identity, Supervise), Failed> {
        let identity =
            fstat(&dir).map(|stat| files::identity(&stat)).while_doing(|| "unable to stat ./log")?;
        let supervise = Supervise::open(supervise::LOG, &home(dir.as_fd(), name, true, who))?;
        // Where that does not work, it is looked at before each start.
        let _ = watch::signal_changes(dir.as_fd());
        Ok((dir, identity, supervise))
    }

    /// Goes on in another directory, with the same pipe.
    pub(super) fn move_to(&mut self, dir: OwnedFd, name: &CStr, who: &[u8]) -> Result<(), Failed> {
        (self.dir, self.identity, self.supervise) = Self::take_over(dir, name, who)?;
        Ok(())
    }

    /// How many bytes the log service has not read.
    pub(super) fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.read).unwrap_or(0)
    }

    pub(super) fn machine(&self, now: Now) -> Machine {
        Machine::new(now, wanted_at_start(self.dir.as_fd(), c"down"))
    }
}

/// What the state of the service at `path`, or of its log service, is found by; `dir` is its directory.
pub(super) fn home<'a>(dir: BorrowedFd<'a>, path: &'a CStr, log: bool, who: &'a [u8]) -> Home<'a> {
    Home { dir, path: Path::new(OsStr::from_bytes(path.to_bytes())), log, who }
}

/// Opens a directory so that it can be watched, or, where it must not be read, at least used.
pub(super) fn open_service(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(at, name, OFlags::RDONLY | flags, Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => Ok(openat(at, name, sys::SEARCH | flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}

/// Any object called `down` keeps it down.
pub(super) fn wanted_at_start(dir: BorrowedFd<'_>, down: &CStr) -> Want {
    if files::look(dir, down).is_ok_and(|stat| stat.is_some()) { Want::Down } else { Want::Up }
}

/// The directory `log`, if there is one; what is wrong with it for good is said.
///
/// # Errors
///
/// What is wrong only for a moment, such as too many open files: a service that started without its log service would
/// write elsewhere until its next start.
pub(super) fn find_log(dir: BorrowedFd<'_>, who: &[u8]) -> Result<Option<OwnedFd>, Failed> {
    let lasts = |error: &io::Error| {
        [Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    };
    let (what, error): (&[u8], _) = match files::look(dir, c"log") {
        Ok(None) => return Ok(None),
        Ok(Some(stat)) if !files::is_dir(&stat) => {
            Message::warning(who, "./log: not a directory.").print_now();
            return Ok(None);
        }
        Ok(Some(_)) => match open_service(dir, c"log") {
            Ok(log) => return Ok(Some(log)),
            Err(error) => (b"unable to change directory to ./log", error),
        },
        Err(error) => (b"unable to stat() ./log: ", error),
    };
    if lasts(&error) {
        Message::warning(who, what).because(&error).print_now();
        return Ok(None);
    }
    Err(error).while_doing(|| what.trim_ascii_end().strip_suffix(b":").unwrap_or(what))
}

/// `log/timeout-exit`: milliseconds.
pub(super) fn patience_of(log: BorrowedFd<'_>) -> Duration {
    let mut buffer = [0; 32];
    match files::read_start(log, c"timeout-exit", &mut buffer) {
        Ok(text @ [b'0'..=b'9', ..]) => Duration::from_millis(decimal::leading(text).0),
        Ok(_) | Err(_) => PATIENCE,
    }
}
