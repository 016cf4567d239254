//! What of a service is opened: its directory, its log service, its outputs.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};

use super::Machine;
use crate::error::{Context, Result};
use crate::service::words::Now;
use crate::status::Want;
use crate::supervise::Supervise;
use crate::sys;
use crate::{files, number, say, state};

/// How long a log service has to read the rest, where `log/timeout-exit` does not say.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A log service's place.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) dir: OwnedFd,
    pub(super) supervise: Supervise,
    /// Both ends, until the service is gone for good.
    pub(super) pipe: Option<(OwnedFd, OwnedFd)>,
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
    pub(super) fn open(dir: OwnedFd, name: &CStr) -> Result<Box<Self>> {
        let (read, write) = io::pipe().while_doing(|| "unable to create log pipe")?;
        let supervise = Supervise::open(dir.as_fd(), "log/supervise", || places(name, b".log"))?;
        Ok(Box::new(Log { dir, supervise, pipe: Some((read.into(), write.into())) }))
    }

    pub(super) fn machine(&self, now: Now) -> Machine {
        Machine::new(now, wanted_at_start(self.dir.as_fd(), c"down"))
    }
}

/// Where else the state of the service at `path` may be, or with `suffix` that of its log service.
pub(super) fn places(path: &CStr, suffix: &[u8]) -> Vec<CString> {
    let name = state::name_of(Path::new(OsStr::from_bytes(path.to_bytes())));
    name.map_or_else(Vec::new, |name| state::places_to_make(&[name.as_slice(), suffix].concat()))
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

/// The directory `log`, if there is one; what is wrong with it is said.
pub(super) fn find_log(dir: BorrowedFd<'_>, prefix: &[u8]) -> Option<OwnedFd> {
    match files::look(dir, c"log") {
        Ok(None) => None,
        Ok(Some(stat)) if files::is_dir(&stat) => open_service(dir, c"log")
            .map_err(|error| {
                say::supervisor(
                    &[prefix, b"warning: "],
                    b"unable to change directory to ./log",
                    Some(&error),
                );
            })
            .ok(),
        Ok(Some(_)) => {
            say::supervisor(&[prefix, b"warning: "], b"./log: not a directory.", None);
            None
        }
        Err(error) => {
            say::supervisor(&[prefix, b"warning: "], b"unable to stat() ./log: ", Some(&error));
            None
        }
    }
}

/// `log/timeout-exit`: milliseconds.
pub(super) fn patience_of(log: BorrowedFd<'_>) -> Duration {
    let mut buffer = [0; 32];
    match files::read_start(log, c"timeout-exit", &mut buffer) {
        Ok(text @ [b'0'..=b'9', ..]) => Duration::from_millis(number::leading(text).0),
        Ok(_) | Err(_) => PATIENCE,
    }
}
