//! A log service, and the pipe from the service to it.

use std::io;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, Stat, fstat};
use rustix::io::Errno;

use super::hosted_log::Hosting;
use super::label::Label;
use super::unit::{Unit, open_directory, wanted_at_start};
use crate::decimal;
use crate::error::{Context, Failed, Result};
use crate::files::{self, Identity};
use crate::role::Role;
use crate::service::step::Now;
use crate::status::Want;

/// How long a log service has to read what is in the pipe, unless `log/timeout-exit` says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Mode of a pipe that a service may open again by a name such as /dev/stdout.
const WRITABLE: Mode = Mode::from_raw_mode(0o622);

/// A log service.
#[derive(Debug)]
pub(super) struct LogUnit {
    pub(super) unit: Unit,
    identity: Identity,
    pub(super) pipe: Pipe,
    pub(super) hosting: Hosting,
    /// `log/run` was started once.
    pub(super) ever_started: bool,
}

/// The pipe from the service to the log service.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Where the log service reads.
    pub(super) read: OwnedFd,
    /// Where the service writes, until it has ended for good.
    pub(super) write: Option<OwnedFd>,
}

impl Pipe {
    fn new() -> Result<Self, Failed> {
        let (read, write) = io::pipe().while_doing(|| "unable to create log pipe")?;
        let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
        // So that the service can open /dev/stdout, whatever user it becomes. Only its own processes can reach it.
        let _ = rustix::fs::fchmod(&write, WRITABLE);
        Ok(Pipe { read, write: Some(write) })
    }

    /// How many bytes the log service has not read.
    pub(super) fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.read).unwrap_or(0)
    }
}

impl LogUnit {
    pub(super) fn open(dir: OwnedFd, label: &Label, now: Now) -> Result<Box<Self>, Failed> {
        let pipe = Pipe::new()?;
        // Before anything of ours is made in it.
        let stat = stat(&dir)?;
        let (identity, hosting) = (files::identity(&stat), Hosting::of(&stat, now));
        let unit = Unit::open(Role::Log, dir, label, now, |dir| wanted_at_start(dir) == Want::Down)?;
        Ok(Box::new(LogUnit { unit, identity, pipe, hosting, ever_started: false }))
    }

    /// Goes on in another directory, with the same pipe.
    /// `is_complete`: it counts as complete without `run`.
    pub(super) fn move_to(&mut self, dir: OwnedFd, label: &Label, is_complete: bool) -> Result<(), Failed> {
        let stat = stat(&dir)?;
        self.unit.move_to(dir, label)?;
        self.identity = files::identity(&stat);
        self.hosting.is_complete = is_complete;
        Ok(())
    }

    /// Which directory it runs in.
    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// How long it has to read what is in the pipe: the milliseconds in `log/timeout-exit`, or [`TIMEOUT`].
    pub(super) fn exit_timeout(&self) -> Duration {
        let mut buffer = [0; 32];
        match files::read_start(self.unit.dir.as_fd(), c"timeout-exit", &mut buffer) {
            Ok(text @ [b'0'..=b'9', ..]) => Duration::from_millis(decimal::leading(text).0),
            Ok(_) | Err(_) => TIMEOUT,
        }
    }
}

fn stat(dir: &OwnedFd) -> Result<Stat, Failed> {
    fstat(dir).while_doing(|| "unable to stat ./log")
}

/// The directory `log`, if there is one. What is permanently wrong with it is reported.
///
/// # Errors
///
/// What is wrong only temporarily, such as too many open files: a service that started without its log service would
/// write elsewhere until its next start.
pub(super) fn find_log(dir: BorrowedFd<'_>, label: &Label) -> Result<Option<OwnedFd>, Failed> {
    let is_lasting = |error: &io::Error| {
        [Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    };
    let (what, error): (&[u8], _) = match files::look(dir, c"log") {
        Ok(None) => return Ok(None),
        Ok(Some(stat)) if !files::is_dir(&stat) => {
            label.warn(b"./log: not a directory.", None);
            return Ok(None);
        }
        Ok(Some(_)) => match open_directory(dir, c"log") {
            Ok(log) => return Ok(Some(log)),
            Err(error) => (b"unable to change directory to ./log", error),
        },
        Err(error) => (b"unable to stat() ./log: ", error),
    };
    if is_lasting(&error) {
        label.warn(what, Some(&error));
        return Ok(None);
    }
    Err(error).while_doing(|| what.trim_ascii_end().strip_suffix(b":").unwrap_or(what))
}
