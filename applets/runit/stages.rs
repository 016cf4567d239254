//! The stages of process 1: which one runs, which one is next, and what signals do. Pure: no I/O; the time is an
//! argument. Source: runit(8).
//!
//! | state      | meaning                              | event: what follows                                           |
//! |------------|--------------------------------------|---------------------------------------------------------------|
//! | `ToStart`  | a stage starts at a given moment     | that moment: `Starting`; fallback, stop request: `Finished`   |
//! | `Starting` | its start was requested              | started: `Running`; no process: `ToStart` after [`PAUSE`]; not started: as after exit 0 |
//! | `Running`  | its process runs                     | its end: see below; in stage 2, a permitted stop request: `Stopping` |
//! | `Stopping` | stage 2 was sent TERM, later KILL    | TERM's deadline: KILL; its end, or KILL's deadline: `ToStart` of stage 3, or `Finished` for the fallback |
//! | `Finished` | all stages are over                  | nothing                                                       |
//!
//! | result of a stage        | after stage 1 | after stage 2                        | after stage 3 |
//! |--------------------------|---------------|--------------------------------------|---------------|
//! | 100                      | stage 3       | stage 3                              | `Finished`    |
//! | 111                      | stage 2       | stage 2, once its group was killed   | `Finished`    |
//! | other codes              | stage 2       | stage 3                              | `Finished`    |
//! | ended by a signal        | stage 3       | stage 2, once its group was killed   | `Finished`    |
//!
//! A script runs beside stage 2, and its end is a stop request. Signals outside stage 2 are only announced.
//!
//! The fallback, for a machine without stages, has stage 2 only: after it comes `Finished`. It needs no permission to
//! stop, and has no scripts: INT stops it and reboots, PWR stops it and powers off.

mod action;
mod event;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::process::Ended;

use action::Announce as _;
pub(crate) use action::{Notice, Shutdown, StageAction, StageActions};
pub(crate) use event::{Event, Flags, Script, Stage};

/// How long a start waits after a failed fork, and the minimum time between two starts of stage 2.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
/// How long stage 2 has to end, after TERM and again after KILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The stage starts at this moment.
    ToStart(Stage, Moment),
    /// The start was requested and is not answered yet.
    Starting(Stage),
    Running(Stage, Pid),
    /// Stage 2 was sent TERM, and KILL if `killed`. It has until this moment to end.
    Stopping {
        pid: Pid,
        until: Moment,
        killed: bool,
    },
    Finished,
}

/// The state machine of the stages.
#[derive(Debug)]
pub(crate) struct Stages {
    state: State,
    /// When stage 2 was last started.
    stage_2_started: Moment,
    /// The script that runs, and its process once it is known.
    script: Option<(Script, Option<Pid>)>,
    /// There are no stage files: stage 2 is the built-in fallback, and the only stage.
    is_fallback: bool,
    /// How long stage 2 has to end after TERM.
    stop_timeout: Duration,
    /// How to shut down, if a signal has decided that.
    shutdown: Option<Shutdown>,
}

impl Stages {
    /// All three stages, beginning with the first.
    pub(crate) const fn new() -> Self {
        Stages {
            state: State::ToStart(Stage::One, Moment::START),
            stage_2_started: Moment::START,
            script: None,
            is_fallback: false,
            stop_timeout: STOP_TIMEOUT,
            shutdown: None,
        }
    }

    /// Only stage 2, the built-in fallback, which has `stop_timeout` to end after TERM.
    pub(crate) const fn fallback(stop_timeout: Duration) -> Self {
        Stages {
            state: State::ToStart(Stage::Two, Moment::START),
            is_fallback: true,
            stop_timeout,
            ..Stages::new()
        }
    }

    /// When the next [`Event::Tick`] is due, if any.
    pub(crate) const fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::ToStart(_, at) => Some(at),
            State::Stopping { until, .. } => Some(until),
            State::Starting(_) | State::Running(..) | State::Finished => None,
        }
    }

    /// Handles one event. Returns what to do.
    pub(crate) fn step(&mut self, now: Moment, flags: Flags, event: Event) -> StageActions {
        let nothing = StageActions::none();
        match event {
            Event::Tick => self.tick(now),
            Event::Started(pid) => {
                match (&mut self.script, self.state) {
                    (Some((_, process @ None)), _) => *process = Some(pid),
                    (_, State::Starting(stage)) => self.state = State::Running(stage, pid),
                    _ => {}
                }
                nothing
            }
            Event::NotStarted => match (self.script, self.state) {
                (Some((script, None)), _) => self.script_ended(now, flags, script, Ended::Code(0)),
                (_, State::Starting(stage)) => self.stage_ended(now, stage, Ended::Code(0)),
                _ => nothing,
            },
            Event::NoProcess => {
                match (self.script, self.state) {
                    (Some((_, None)), _) => self.script = None,
                    (_, State::Starting(stage)) => {
                        self.state = State::ToStart(stage, now.saturating_add(PAUSE));
                    }
                    _ => {}
                }
                nothing
            }
            Event::Ended(pid, how) => match (self.script, self.state) {
                (Some((script, Some(process))), _) if process == pid => {
                    self.script_ended(now, flags, script, how)
                }
                (_, State::Running(stage, process)) if process == pid => self.stage_ended(now, stage, how),
                (_, State::Stopping { pid: process, .. }) if process == pid => self.leave_stage_2(now),
                // An orphan.
                _ => nothing,
            },
            Event::StopRequest => self.stop(now, flags.stop_it),
            Event::Request(script) => self.request(now, flags, script),
        }
    }

    fn tick(&mut self, now: Moment) -> StageActions {
        let nothing = StageActions::none();
        match self.state {
            State::ToStart(stage, at) if now >= at => {
                self.state = State::Starting(stage);
                if stage == Stage::Two {
                    self.stage_2_started = now;
                }
                nothing.announce(Notice::Enter(stage)).then(StageAction::Start(stage))
            }
            State::Stopping { pid, until, killed: false } if now >= until => {
                self.state = State::Stopping { pid, until: now.saturating_add(STOP_TIMEOUT), killed: true };
                nothing.announce(Notice::NotTerminated).then(StageAction::Kill(pid))
            }
            // Not even KILL has ended it: stage 3 begins without waiting any longer.
            State::Stopping { until, killed: true, .. } if now >= until => self.leave_stage_2(now),
            _ => nothing,
        }
    }

    /// A stage ended on its own.
    fn stage_ended(&mut self, now: Moment, stage: Stage, how: Ended) -> StageActions {
        let actions = StageActions::none();
        let (actions, crashed) = match how {
            Ended::Code(0) => (actions, false),
            Ended::Code(_) => (actions.announce(Notice::Failed(stage)), false),
            Ended::Signal { .. } => (actions.announce(Notice::Crashed(stage)), true),
        };
        match stage {
            Stage::One if crashed || how == Ended::Code(100) => {
                self.state = State::ToStart(Stage::Three, now);
                actions.announce(Notice::Leave(stage)).announce(Notice::SkippingStage2)
            }
            Stage::One => {
                self.state = State::ToStart(Stage::Two, now);
                actions.announce(Notice::Leave(stage))
            }
            Stage::Two if crashed || how == Ended::Code(111) => {
                let actions = actions.announce(Notice::KillingStage2);
                let actions = match self.state {
                    State::Running(_, pid) => actions.then(StageAction::KillGroup(pid)),
                    _ => actions,
                };
                // At once if it ran for longer than the pause, but never in a busy loop.
                let at = now.max(self.stage_2_started.saturating_add(PAUSE));
                self.state = State::ToStart(Stage::Two, at);
                actions.announce(Notice::Restarting)
            }
            Stage::Two => actions.and(self.leave_stage_2(now)),
            Stage::Three => self.finish(actions.announce(Notice::Leave(stage))),
        }
    }

    fn leave_stage_2(&mut self, now: Moment) -> StageActions {
        self.state = State::ToStart(Stage::Three, now);
        let actions = StageActions::none().announce(Notice::Leave(Stage::Two));
        if self.is_fallback { self.finish(actions) } else { actions }
    }

    fn finish(&mut self, before: StageActions) -> StageActions {
        self.state = State::Finished;
        before.then(StageAction::Finish(self.shutdown))
    }

    /// INT or PWR: runs the script, or does what is usual without one.
    fn request(&mut self, now: Moment, flags: Flags, script: Script) -> StageActions {
        let is_waiting = self.is_fallback && matches!(self.state, State::ToStart(Stage::Two, _));
        if !is_waiting && !matches!(self.state, State::Running(Stage::Two, _)) {
            return self.reject_signal();
        }
        if self.is_fallback {
            self.shutdown = Some(match script {
                Script::CtrlAltDel => Shutdown::Reboot,
                Script::PowerFail => Shutdown::PowerOff,
            });
            return self.stop(now, true);
        }
        let (may_run, notice) = match script {
            Script::CtrlAltDel => (flags.ctrl_alt_del, Notice::CtrlAltDel),
            Script::PowerFail => (flags.power_fail, Notice::PowerFail),
        };
        if !may_run && script == Script::PowerFail {
            // Whoever reports a power failure wants a shutdown, even without a script: container managers do.
            self.shutdown = Some(Shutdown::PowerOff);
            return StageActions::none().announce(notice).and(self.stop(now, true));
        }
        if !may_run || self.script.is_some() {
            return StageActions::none();
        }
        self.script = Some((script, None));
        StageActions::none()
            .announce(notice)
            .announce(Notice::EnterScript(script))
            .then(StageAction::Run(script))
    }

    fn script_ended(&mut self, now: Moment, flags: Flags, script: Script, how: Ended) -> StageActions {
        self.script = None;
        let actions = StageActions::none();
        let actions = match how {
            Ended::Signal { .. } => actions.announce(Notice::ScriptCrashed(script)),
            Ended::Code(_) => actions,
        };
        let actions = actions.announce(Notice::LeaveScript(script));
        // If stage 2 has ended meanwhile, there is nothing to stop.
        if matches!(self.state, State::Running(Stage::Two, _)) {
            actions.and(self.stop(now, flags.stop_it))
        } else {
            actions
        }
    }

    /// Stops stage 2, if that is permitted.
    fn stop(&mut self, now: Moment, permitted: bool) -> StageActions {
        match self.state {
            State::Running(Stage::Two, pid) if permitted || self.is_fallback => {
                let until = now.saturating_add(self.stop_timeout);
                self.state = State::Stopping { pid, until, killed: false };
                StageActions::none().then(StageAction::ClearStopIt).then(StageAction::Term(pid))
            }
            State::Running(Stage::Two, _) => StageActions::none(),
            // The fallback waits for its next start.
            State::ToStart(Stage::Two, _) if self.is_fallback => self.finish(StageActions::none()),
            _ => self.reject_signal(),
        }
    }

    /// A signal arrived outside stage 2: that is announced. After a stop it is nothing special.
    fn reject_signal(&self) -> StageActions {
        match self.state {
            State::Stopping { .. } | State::Finished => StageActions::none(),
            State::ToStart(..) | State::Starting(_) | State::Running(..) => {
                StageActions::none().announce(Notice::SignalsOnlyInStage2)
            }
        }
    }
}
