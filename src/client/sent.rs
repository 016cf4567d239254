//! A request that was sent to a target, and how far its supervisor has got with it.
//!
//! The status is worth reading only after the supervisor has executed the request; before, it is the old one. Our
//! supervisors mark that on `supervise/ok`, see [`crate::supervise`]. Other supervisors leave no mark: a moment after
//! the bytes were read, they count as executed.

use std::time::Duration;

use crate::event::{self, Wait};
use crate::moment::Moment;
use crate::supervise::{self, OkTimes};
use crate::trust;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, OFlags, statat};
use rustix::io::Errno;

use super::request::{self, Request};
use super::target::{MAIN, Target, Trouble, blame, open_ok};

/// How long after the bytes were read a supervisor without marks has executed them.
const SETTLED: Duration = Duration::from_millis(50);
/// How long a supervisor may take that seems to have begun and never to end.
const STUCK: Duration = Duration::from_secs(1);
/// How often a supervisor without marks is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How often a supervisor is asked whose answer is also an event.
const ASK_MARKED: Duration = Duration::from_millis(250);

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// The FIFO was full.
    Unwritten,
    /// The bytes are in the FIFO, as far as we know.
    Written,
    /// The supervisor read them; this was seen first at that moment.
    Read(Moment),
    /// The status is one from after them.
    Executed,
}

/// A request that was sent, or is to be as soon as the FIFO takes it.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The FIFO, while it is held open.
    control: Option<OwnedFd>,
    /// Where the state is, if not in the service directory.
    elsewhere: Option<OwnedFd>,
    /// The marks on `ok` before the request.
    before: Option<OkTimes>,
    /// The supervisor has set a mark since, so it will set another when it has executed the request.
    is_marked: bool,
    delivery: Delivery,
}

impl Sent {
    /// Writes the request to `control` in one piece. A FIFO that is full gets it later: see [`Sent::is_written`].
    ///
    /// Nothing is written where `control` cannot be opened, and need not be. Source: sv(8) of runit 2.1.2.
    pub(crate) fn new(target: &Target, request: &Request) -> Result<Self, Trouble> {
        let mut sent = Sent {
            control: None,
            elsewhere: None,
            before: None,
            is_marked: false,
            delivery: Delivery::Unwritten,
        };
        match sent.open_control(target) {
            Err(trouble @ Trouble::Unable("open supervise/control", _)) => {
                let is_wanted = |status| request::is_wanted_already(request, &status);
                if !target.status(&MAIN).is_ok_and(is_wanted) {
                    return Err(trouble);
                }
                sent.delivery = Delivery::Executed;
                return Ok(sent);
            }
            opened => opened?,
        }
        sent.before = sent.marks(target);
        sent.write(target, request)?;
        Ok(sent)
    }

    /// Whether the request is in the FIFO, or was.
    pub(crate) fn is_written(&self) -> bool {
        self.delivery != Delivery::Unwritten
    }

    /// Tries once to write; see [`Sent::is_written`].
    pub(crate) fn write(&mut self, target: &Target, request: &Request) -> Result<(), Trouble> {
        if self.control.is_none() {
            self.open_control(target)?;
        }
        let Some(control) = &self.control else { return Ok(()) };
        let bytes = request.bytes();
        match rustix::io::write(control, &bytes) {
            Ok(written) if written == bytes.len() => self.delivery = Delivery::Written,
            // So few bytes are written as a whole or not at all.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Trouble::Unable("write to supervise/control", errno.into())),
        }
        Ok(())
    }

    /// Opens `control` where a supervisor serves.
    fn open_control(&mut self, target: &Target) -> Result<(), Trouble> {
        let (place, _) = target.find(&MAIN, "open supervise/ok", open_ok)?;
        let control = trust::open_fifo(place.dir.as_fd(), c"control", OFlags::WRONLY);
        let (control, _) = control.map_err(|error| {
            target
                .dir()
                .map_or_else(|trouble| trouble, |dir| blame(dir, &MAIN, "open supervise/control", error))
        })?;
        self.control = Some(control);
        self.elsewhere = (!place.own).then_some(place.dir);
        Ok(())
    }

    /// Whether the supervisor has executed the request, so that the status is one from after it.
    pub(crate) fn is_executed(&mut self, target: &Target, now: Moment) -> bool {
        match self.delivery {
            Delivery::Executed => return true,
            Delivery::Unwritten => return false,
            Delivery::Written | Delivery::Read(_) => {}
        }
        if self.control.is_none() && self.open_control(target).is_err() {
            return false;
        }
        let Some(control) = &self.control else { return false };
        if rustix::io::ioctl_fionread(control).is_ok_and(|unread| unread > 0) {
            return false;
        }
        let read_at = if let Delivery::Read(at) = self.delivery { at } else { now };
        self.delivery = Delivery::Read(read_at);
        // In this order: bytes that were read, before the supervisor was found idle, were executed.
        let marks = self.marks(target);
        let is_executed = match marks
            .map_or(supervise::Progress::Unknown, |marks| supervise::progress(self.before, marks))
        {
            supervise::Progress::Done => true,
            supervise::Progress::NotYet => {
                self.is_marked = true;
                false
            }
            supervise::Progress::Unknown => now >= read_at.saturating_add(SETTLED),
            supervise::Progress::Stuck => now >= read_at.saturating_add(STUCK),
        };
        if is_executed {
            self.delivery = Delivery::Executed;
        }
        is_executed
    }

    /// When to ask [`Sent::is_executed`] again, if nothing happens before. A supervisor that sets marks changes the
    /// directory by that; where changes are `watched`, asking again is only a precaution. `pause`: the shortest time
    /// between two questions.
    pub(crate) fn ask_again(&self, now: Moment, watched: bool, pause: Duration) -> Option<Moment> {
        let read_at = match self.delivery {
            Delivery::Unwritten | Delivery::Executed => return None,
            Delivery::Written => None,
            Delivery::Read(at) => Some(at),
        };
        if watched && self.is_marked {
            return Some(now.saturating_add(ASK_MARKED.max(pause)));
        }
        let settled = read_at.map(|read_at| read_at.saturating_add(SETTLED)).filter(|at| *at > now);
        Some(settled.unwrap_or_else(|| now.saturating_add(ASK_EVERY.max(pause))))
    }

    /// The FIFO, if it is held open.
    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// Whether a supervisor has the FIFO open. A supervisor that has just begun opens `ok` a little later.
    pub(crate) fn has_reader(&self) -> bool {
        let Some(control) = self.control() else { return false };
        let mut fds = [PollFd::from_borrowed_fd(control, PollFlags::empty())];
        event::wait(&mut fds, Wait::Poll);
        fds.iter().all(|fd| fd.revents().is_empty())
    }

    /// Closes what can be opened again.
    pub(crate) fn suspend(&mut self) {
        (self.control, self.elsewhere) = (None, None);
    }

    /// The highest number of a descriptor that is held open.
    pub(crate) fn highest(&self) -> i32 {
        [&self.control, &self.elsewhere].into_iter().flatten().map(|fd| fd.as_raw_fd()).max().unwrap_or(0)
    }

    /// The marks on `ok`; see [`crate::supervise`].
    #[allow(
        clippy::useless_conversion,
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "widths differ"
    )]
    fn marks(&self, target: &Target) -> Option<OkTimes> {
        let stat = match &self.elsewhere {
            Some(place) => statat(place, c"ok", AtFlags::SYMLINK_NOFOLLOW),
            None => statat(target.dir().ok()?, MAIN.ok, AtFlags::SYMLINK_NOFOLLOW),
        }
        .ok()?;
        Some(OkTimes {
            access: (i64::from(stat.st_atime), stat.st_atime_nsec as i64),
            modification: (i64::from(stat.st_mtime), stat.st_mtime_nsec as i64),
        })
    }
}
