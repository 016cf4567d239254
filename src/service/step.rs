//! One step of a [`Machine`](super::machine::Machine): the event that it is given, and the actions that it returns.

use std::time::Duration;

use rustix::process::Pid;

use super::machine::{ExitReport, GivenUp};
use crate::Signal;
use crate::control::{Command, Hook};
use crate::moment::Moment;
use crate::process::Ended;
use crate::tai::Tai64N;

/// The present moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: for deadlines.
    pub at: Moment,
    /// The wall clock: for the status that others read.
    pub stamp: Tai64N,
}

/// A program of the service directory that has a process of its own in the life of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// `./run`
    Run,
    /// `./finish`, which gets as arguments how `./run` ended.
    Finish(Ended),
}

/// What `./run` told of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It is ready.
    Ready,
    /// It is about to end.
    Stopping,
    /// It is alive; see the file `watchdog`.
    Alive,
    /// It found itself that it does not work any more.
    Failing,
    /// Every limit of time that runs for it is to be no shorter than this, from now on.
    Extend(Duration),
    /// Its messages cannot be read now: it is not judged by their lack within this time.
    Unheard(Duration),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A byte of `supervise/control`, or TERM to the supervisor.
    Command(Command),
    /// Time has passed; [`Machine::next_tick`](super::machine::Machine::next_tick) tells when this is due.
    Tick,
    /// Answers [`Action::Start`]: the script runs as this process.
    Started(Pid),
    /// Answers [`Action::Start`]: the script could not be executed.
    NotStarted {
        /// The script is `./run`, and there is a `./finish`.
        finish: bool,
    },
    /// Answers [`Action::Start`]: the kernel refused a new process, or something that it needs.
    NoProcess,
    /// A child process ended.
    Ended {
        /// The process.
        pid: Pid,
        /// How it ended.
        how: Ended,
        /// There is a `./finish`.
        finish: bool,
    },
    /// Answers [`Action::Hook`]: the hook ended, or there is no such hook.
    HookEnded {
        /// The hook.
        hook: Hook,
        /// The process of `./run` for which it was started.
        pid: Option<Pid>,
        /// It exited 0, so the signal that it stands in for is not sent.
        instead: bool,
    },
    /// Answers [`Action::AskTimeout`]: how long the script has to end from now on; `None` is without a limit.
    Timeout(Option<Duration>),
    /// Answers [`Action::AskNeeds`]: whether each service that this one needs is ready. Comes again when that changes.
    Needs(bool),
    /// `./run` told something of itself.
    Notice(Notice),
    /// `./run`, which could not be executed, changed.
    RunChanged {
        /// There is a file `down`.
        down: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a script; answer `Started`, `NotStarted` or `NoProcess`.
    Start(Script),
    /// Run `control/C` for the process of `./run`; answer `HookEnded`, at once if there is no such hook.
    Hook(Hook, Option<Pid>),
    /// Send a signal.
    Send(Pid, Signal),
    /// Send the signal that asks the service to end: TERM, or the one in the file `down-signal`.
    SendDownSignal(Pid),
    /// Find out how long the script has to end; answer `Timeout`.
    AskTimeout(Script),
    /// The script has not ended within its timeout: kill it, and tell the user.
    KillOverdue(Pid, Script),
    /// `./run` ended after this time, although nobody had asked it to; see the files `essential` and `on-failure`.
    NoteUnexpectedExit(Ended, Duration),
    /// `./run` ended on its own too often. The service counts as flapping for this long.
    MarkFlapping(Duration),
    /// Tell the user that `./run` ended on its own.
    ReportExit(ExitReport),
    /// Find out whether each service that this one needs is ready; answer `Needs`.
    AskNeeds,
    /// Tell the user that `./run` was not ready within this time.
    ReportNotReady(Duration),
    /// Tell the user that `./run` did not tell within this time that it is alive.
    ReportNotAlive(Duration),
    /// Tell the user that `./run` told that it does not work any more.
    ReportFailing,
    /// Tell the user that the service is given up.
    ReportGivenUp(GivenUp),
    /// The status may have changed: publish it.
    Publish,
}

/// What is to be done about one event.
pub(crate) type Actions = crate::actions::Actions<Action>;
