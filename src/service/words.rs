//! What a [`Machine`](super::machine::Machine) is told and what it asks for.

use std::ffi::CString;
use std::time::Duration;

use rustix::process::Pid;

use crate::Signal;
use crate::control::{Command, Hook};
use crate::moment::Moment;
use crate::tai::Tai64N;

/// The moment at which something happens, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: for deadlines.
    pub at: Moment,
    /// The wall clock: for the status that others read.
    pub stamp: Tai64N,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal {
        /// The number of the signal.
        number: u8,
        /// Whether a core was dumped.
        core: bool,
    },
}

impl Ended {
    /// The two arguments of `./finish`. Source: runsv(8).
    #[must_use]
    pub fn finish_arguments(self) -> (CString, CString) {
        let (code, status) = match self {
            Ended::Code(code) => (i32::from(code), 0),
            // The second is the low byte of the wait status, in which a core dump is the highest bit.
            Ended::Signal { number, core } => (-1, number | if core { 0x80 } else { 0 }),
        };
        (
            CString::new(code.to_string()).unwrap_or_default(),
            CString::new(status.to_string()).unwrap_or_default(),
        )
    }

    /// What a person is told of it, after a name.
    #[must_use]
    pub fn said(self) -> String {
        match self {
            Ended::Code(code) => format!("exited with {code}"),
            Ended::Signal { number, core } => {
                let core = if core { ", core dumped" } else { "" };
                format!("was ended by signal {number}{core}")
            }
        }
    }

    /// What a person is told of an end that nobody asked for, after `uptime`; `more`: how many such ends were not told.
    #[must_use]
    pub fn unasked(self, script: &str, uptime: Duration, more: u32) -> String {
        let uptime = format!("{}.{}s", uptime.as_secs(), uptime.subsec_millis() / 100);
        let again = match more {
            0 => String::new(),
            1 => "; so it did once more since this was last said".to_owned(),
            more => format!("; so it did {more} times more since this was last said"),
        };
        format!("{script} {} after {uptime}{again}", self.said())
    }
}

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// `./run`
    Run,
    /// `./finish`, told how `./run` ended.
    Finish(Ended),
}

/// What the machine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A byte of `supervise/control`, or TERM to the supervisor.
    Command(Command),
    /// The clock moved on; [`Machine::deadline`] says when this is worth saying.
    Tick,
    /// The script asked for runs as this process.
    Started(Pid),
    /// The script asked for could not be executed. For `./run`: whether there is a `./finish`.
    NotStarted {
        /// There is a `./finish`.
        finish: bool,
    },
    /// There could be no process for the script.
    NoProcess,
    /// A child ended. For `./run`: whether there is a `./finish`.
    Ended {
        /// Which.
        pid: Pid,
        /// How.
        how: Ended,
        /// There is a `./finish`.
        finish: bool,
    },
    /// A hook ended, or there is none.
    HookEnded {
        /// Which.
        hook: Hook,
        /// The process it was run for.
        pid: Option<Pid>,
        /// It ran and exited 0: what it stands in for is not done.
        instead: bool,
    },
    /// How long what runs has to end, now that it is told to (`./run`) or has begun (`./finish`).
    Patience(Option<Duration>),
    /// `./run`, which could not be executed, changed.
    RunChanged {
        /// There is a file `down`.
        down: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a script; answer `Started`, `NotStarted` or `NoProcess`.
    Start(Script),
    /// Run `control/C` if it is there; answer `HookEnded`, at once if it is not.
    Hook(Hook, Option<Pid>),
    /// Send a signal.
    Signal(Pid, Signal),
    /// Send the signal by which the service is to end: TERM, or what `down-signal` says.
    End(Pid),
    /// Find out how long the script that runs has to end; answer `Patience`.
    Patience(Script),
    /// The script did not end in its time: kill it, and tell a person.
    Late(Pid, Script),
    /// `./run` ended, and nobody had asked for that.
    OnItsOwn(Ended),
    /// So many such ends came in a short time that it counts as flapping for as long as this.
    Flaps(Duration),
    /// The status may have changed.
    Publish,
    /// Tell a person that `./run` ended without being asked to.
    Say {
        /// How it ended.
        how: Ended,
        /// How long it ran.
        uptime: Duration,
        /// How many such ends were not said since the last that was.
        more: u32,
    },
}

/// What to do for one event, in order.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions([Option<Action>; Self::MAX]);

impl Actions {
    const MAX: usize = 6;

    /// Puts `action` after the others.
    pub(super) fn then(mut self, action: Action) -> Self {
        debug_assert!(self.0.iter().any(Option::is_none), "raise Actions::MAX");
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(action);
        }
        self
    }

    pub(super) fn and(self, others: Actions) -> Self {
        others.into_iter().fold(self, Actions::then)
    }
}

impl IntoIterator for Actions {
    type Item = Action;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Action>, { Actions::MAX }>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

impl<const N: usize> From<[Action; N]> for Actions {
    fn from(list: [Action; N]) -> Self {
        const { assert!(N <= Self::MAX, "raise Actions::MAX") };
        let mut all = [None; Self::MAX];
        for (slot, action) in all.iter_mut().zip(list) {
            *slot = Some(action);
        }
        Actions(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finish_is_told_what_ended_run() {
        let told = |how: Ended| {
            let (code, status) = how.finish_arguments();
            format!("{} {}", code.to_str().unwrap(), status.to_str().unwrap())
        };
        assert_eq!(told(Ended::Code(3)), "3 0");
        assert_eq!(told(Ended::Signal { number: 9, core: false }), "-1 9");
        assert_eq!(told(Ended::Signal { number: 6, core: true }), "-1 134");
    }

    #[test]
    fn an_end_is_said_with_its_reason_and_its_time() {
        let uptime = Duration::from_millis(12_340);
        assert_eq!(Ended::Code(1).unasked("./run", uptime, 0), "./run exited with 1 after 12.3s");
        let killed = Ended::Signal { number: 9, core: false };
        assert_eq!(
            killed.unasked("./run", uptime, 7),
            "./run was ended by signal 9 after 12.3s; so it did 7 times more since this was last said"
        );
    }
}
