//! `./check`: asks a service whether it is well.

use std::cell::Cell;
use std::time::Duration;

use crate::Signal;
use crate::check;
use crate::event::{self, Wait};
use crate::moment::Moment;
use crate::say::{Class, Message};
use crate::sys::signals::Signals;
use crate::sys::spawn::Stream;
use crate::sys::{clock, signal};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use super::{Observer, Target};

/// How often to look where signals cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a `./check` that is told to end has for that.
const ENDING: Duration = Duration::from_millis(300);
/// The signals that wake us.
const AWAITED: [Signal; 3] = [Signal::CHLD, Signal::CHANGE, Signal::IO];
/// The signals that may end us.
const FATAL: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// How a `./check` failed that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFailure {
    /// It exited with this.
    Exited(i32),
    /// It was ended by this signal.
    Signaled(i32),
    /// It did not end in time.
    Late,
}

/// Runs `./check`, and has the signals that it and directories cause.
pub struct Checker {
    /// Ends of `./check` and changes of directories.
    signals: Option<Signals>,
    /// Directories changed while `./check` ran, and it is not known which.
    missed: Cell<bool>,
    /// SIGPIPE was ignored already when we were started.
    pipe_ignored: bool,
    /// Where `./check` writes its errors, if not where we do.
    silence: Option<OwnedFd>,
    /// How the last `./check` failed.
    failure: Cell<Option<CheckFailure>>,
}

impl Checker {
    /// `pipe_ignored`: SIGPIPE was ignored already when we were started.
    pub(super) fn new(pipe_ignored: bool) -> Self {
        let signals = Signals::wait_for(&AWAITED).ok();
        Checker { signals, missed: Cell::new(false), pipe_ignored, silence: None, failure: Cell::new(None) }
    }

    /// Shows nothing of what `./check` prints.
    #[must_use]
    pub fn silent() -> Self {
        let silence = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok();
        Checker { silence, ..Checker::new(signal::ignore_pipe()) }
    }

    /// The signals that wake us, where they can be waited for.
    pub(super) const fn signals(&self) -> Option<&Signals> {
        self.signals.as_ref()
    }

    /// Whether directories changed while `./check` ran; asked once.
    pub(super) fn take_missed(&self) -> bool {
        self.missed.take()
    }

    /// Whether [`Checker::take_missed`] has something to tell.
    pub(super) fn has_missed(&self) -> bool {
        self.missed.get()
    }

    /// How the last `./check` failed, if it was run and did.
    #[must_use]
    pub const fn failure(&self) -> Option<CheckFailure> {
        self.failure.get()
    }

    /// Whether `./check` agrees, or there is none. It has time until `until`.
    pub fn agrees(&self, target: &Target, until: Moment, observer: &mut dyn Observer) -> bool {
        let name = || [target.name.as_slice(), b"/check"].concat();
        match target.look(c"check") {
            Ok(None) => return true,
            Ok(Some(_)) => {}
            Err(error) => {
                let what = [b"unable to stat ", name().as_slice()].concat();
                Message::warning("", &what).because(&error).print();
                return false;
            }
        }
        self.failure.set(None);
        // What was reported so far comes before what the script prints.
        observer.flush();
        let Ok(dir) = target.dir() else { return false };
        let stderr = self.silence.as_ref().map_or(Stream::Inherit, |null| Stream::Is(null.as_fd()));
        let streams = [Stream::Inherit, Stream::Closed, stderr];
        let fatal: Vec<Signal> = FATAL.into_iter().filter(|signal| !signal::is_ignored(*signal)).collect();
        if let Some(signals) = &self.signals {
            signals.also(&AWAITED, &fatal);
        }
        let agrees = match check::start(dir, target.instance(), streams, !self.pipe_ignored) {
            Ok(pid) => self.succeeds(pid, until, &fatal),
            Err(why) => {
                let no_process = [b"unable to fork for ", name().as_slice()].concat();
                let not_run = [b"unable to run ", name().as_slice()].concat();
                let message = Message::not_started("", &why, &no_process, &not_run);
                Message { class: Class::Warning, ..message }.print();
                // A check that cannot be run is ignored. Source: sv(8).
                !why.lacks_process()
            }
        };
        if let Some(signals) = &self.signals {
            signals.no_more(&AWAITED, &fatal);
        }
        agrees
    }

    /// Whether `./check`, which leads a group of its own, exits 0 in time. A signal of `fatal` ends it and us.
    fn succeeds(&self, pid: Pid, until: Moment, fatal: &[Signal]) -> bool {
        loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => {
                    let exited = status.exit_status().filter(|code| *code != 0).map(CheckFailure::Exited);
                    let failure = exited.or(status.terminating_signal().map(CheckFailure::Signaled));
                    self.failure.set(failure);
                    return status.exit_status() == Some(0);
                }
                Err(Errno::INTR) | Ok(None) => {}
                Err(_) => return false,
            }
            if clock::monotonic() >= until {
                self.failure.set(Some(CheckFailure::Late));
                kill_group(pid);
                return false;
            }
            if let Some(signal) = self.wait_for_signal(until, fatal) {
                let _ = signal::send_to_group(pid, signal);
                let until = clock::monotonic().saturating_add(ENDING);
                let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                while matches!(waitid(WaitId::Pid(pid), look), Ok(None)) && clock::monotonic() < until {
                    self.wait_for_signal(until, &[]);
                }
                // A shell lets its background jobs ignore what is typed at the terminal.
                kill_group(pid);
                signal::end_by(signal);
                return false;
            }
        }
    }

    /// Waits until something happens; returns a signal of `fatal` that came.
    fn wait_for_signal(&self, until: Moment, fatal: &[Signal]) -> Option<Signal> {
        let Some(signals) = &self.signals else {
            event::wait(&mut [], Wait::Until(clock::monotonic() + LOOK_EVERY));
            return None;
        };
        event::wait(&mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)], Wait::Until(until));
        let mut fatal_one = None;
        signals.read_each(|came| {
            // The end of the check itself is no change of a directory.
            if came.signal != Signal::CHLD {
                self.missed.set(true);
            }
            fatal_one = fatal_one.or(Some(came.signal).filter(|signal| fatal.contains(signal)));
        });
        fatal_one
    }
}

/// Kills a group and waits for the end of its leader. Until then no other group can get its number.
fn kill_group(leader: Pid) {
    let _ = signal::send_to_group(leader, Signal::KILL);
    let _ = waitpid(Some(leader), WaitOptions::empty());
}
