//! What happens to the stages: events, and the flags that decide what some of them lead to.

use rustix::process::Pid;
use svcore::process::Ended;

/// A stage. Source: runit(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    One,
    Two,
    Three,
}

/// A program that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// `ctrlaltdel`, by INT.
    CtrlAltDel,
    /// `pwrfail`, by PWR.
    PowerFail,
}

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time has passed.
    Tick,
    /// Answer to an action: the program runs.
    Started(Pid),
    /// Answer to an action: the program cannot be executed. This counts as if it had exited 0.
    NotStarted,
    /// Answer to an action: there can be no process for the program now; it is tried again after a pause.
    NoProcess,
    /// A process ended.
    Ended(Pid, Ended),
    /// CONT: stop stage 2, if that is allowed.
    StopRequest,
    /// INT or PWR: run the script.
    Request(Script),
}

/// Which of the flag files are set at the time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// `ctrlaltdel` may be executed.
    pub(crate) ctrl_alt_del: bool,
    /// `pwrfail` may be executed.
    pub(crate) power_fail: bool,
    /// `stopit` is set: CONT may stop stage 2.
    pub(crate) stop_it: bool,
}
