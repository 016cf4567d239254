//! The states of a machine: each holds what is known only as long as it lasts.

use rustix::process::Pid;

use crate::moment::Moment;
use crate::process::Ended;

/// What the process is doing.
#[derive(Debug, Clone, Copy)]
pub(super) enum MachineState {
    Down(Down),
    Preparing(Preparing),
    Running(Running),
    Finishing(Finishing),
}

/// Nothing runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    /// Nothing is started before this moment.
    pub(super) not_before: Moment,
    /// `o` was given: one start is wanted, whatever else is.
    pub(super) once: bool,
}

/// `control/u` runs; `./run` is started at its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preparing {
    /// See [`Down::once`].
    pub(super) once: bool,
}

/// `./run` runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) started: Moment,
    /// A command asked it to end, or it was killed because it was overdue: its exit is not unexpected.
    pub(super) asked: bool,
    /// TERM, or what stands for it, was sent.
    pub(super) term: bool,
    /// The TERM for which a hook runs is the first half of a restart.
    pub(super) restart: bool,
    /// When it is killed if it has not ended by then.
    pub(super) kill_at: Option<Moment>,
}

/// `./run` has ended, and `./finish` has not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finishing {
    /// How `./run` ended.
    pub(super) how: Ended,
    /// When `./run` was started.
    pub(super) started: Moment,
    pub(super) finish: Finish,
}

/// The process of `./finish`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    /// There is none: it is about to be started, or the kernel refused one.
    NotStarted { not_before: Moment },
    /// It runs, and is killed at this moment if it has not ended by then.
    Runs { pid: Pid, kill_at: Option<Moment> },
}

/// What the starts of `./run` have shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum RunFile {
    /// It was not started yet, or not since it changed.
    Untried,
    /// It could be executed at the last start.
    Usable,
    /// The last start failed because of the file itself.
    Unusable {
        /// An earlier start did not fail.
        ever_ran: bool,
    },
}
