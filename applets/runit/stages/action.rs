//! What the stages ask process 1 to do.

use rustix::process::Pid;
use svcore::actions::Actions;

use super::event::{Script, Stage};

/// An action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageAction {
    /// Print a notice on the console.
    Announce(Notice),
    /// Start a stage. The answer is `Started`, `NotStarted` or `NoProcess`.
    Start(Stage),
    /// Start a script. The answer is `Started`, `NotStarted` or `NoProcess`.
    Run(Script),
    /// Send TERM, and then CONT.
    Term(Pid),
    /// Send KILL.
    Kill(Pid),
    /// Send KILL to the process group.
    KillGroup(Pid),
    /// Clear the flag `stopit`.
    ClearStopIt,
    /// All stages are over: shut down. `None` leaves the choice to the flag `reboot`.
    Finish(Option<Shutdown>),
}

/// How the machine shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    PowerOff,
    Reboot,
}

/// A notice on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Enter(Stage),
    Leave(Stage),
    Failed(Stage),
    Crashed(Stage),
    SkippingStage2,
    KillingStage2,
    Restarting,
    SignalsOnlyInStage2,
    CtrlAltDel,
    PowerFail,
    EnterScript(Script),
    LeaveScript(Script),
    ScriptCrashed(Script),
    NotTerminated,
}

/// The actions of one step.
pub(crate) type StageActions = Actions<StageAction>;

/// Messages among the actions.
pub(super) trait Announce {
    /// These actions, and a message after them.
    fn announce(self, notice: Notice) -> Self;
}

impl Announce for StageActions {
    fn announce(self, notice: Notice) -> Self {
        self.then(StageAction::Announce(notice))
    }
}
