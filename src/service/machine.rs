//! The life of one supervised process as a pure state machine: events in, actions out.
//!
//! Nothing here reads a clock, a file or a process. The caller passes the time with each event, does the actions that
//! are returned, and passes what came of them as the next events. So a test can walk every path without a child and
//! without waiting.
//!
//! | state     | what runs                                                                   |
//! |-----------|-----------------------------------------------------------------------------|
//! | down      | nothing; a start may be pending                                             |
//! | preparing | `control/u`, or nothing if there is no such hook                            |
//! | running   | `./run`                                                                     |
//! | finishing | `./finish`, or nothing while the kernel refuses a process for it            |
//!
//! What each event does in each state. A bold word is the next state; without one the state is kept.
//!
//! | event                | down        | preparing        | running                   | finishing       |
//! |----------------------|-------------|------------------|---------------------------|-----------------|
//! | `u`                  | want, start | want             | want                      | want            |
//! | `o`                  | once, start | once             | want                      | want            |
//! | `d`, `x`             | want        | want             | want, stop                | want            |
//! | restart              | -           | -                | stop                      | -               |
//! | `p`, `c`             | note        | note             | hook                      | note            |
//! | other signals        | -           | -                | hook                      | -               |
//! | tick                 | start       | -                | kill                      | kill, retry     |
//! | started              | -           | **running**      | -                         | note            |
//! | not started          | -           | as an exit 111   | -                         | **down**, start |
//! | no process           | -           | **down**         | -                         | note            |
//! | ended                | -           | -                | **finishing** or **down** | **down**, start |
//! | hook `u` ended       | -           | run, or **down** | -                         | -               |
//! | hook `t` ended       | last hook   | last hook        | send, last hook           | last hook       |
//! | hook `d`, `x` ended  | -           | -                | -                         | -               |
//! | hook `p`, `c` ended  | -           | -                | send, note                | -               |
//! | other hook ended     | -           | -                | send                      | -               |
//! | timeout              | -           | -                | note                      | note            |
//! | `./run` changed      | note        | -                | -                         | -               |
//! | needs                | start, or - | -                | -                         | -               |
//! | notice               | -           | -                | note                      | -               |
//!
//! - want: what is wanted changes. `o` means: wanted down. once: and one start is wanted all the same.
//! - start: **preparing**, with hook `u`, if a start is wanted, the pause since the last exit is over, and the services
//!   that it needs are ready.
//! - run: start `./run`, if a start is still wanted.
//! - stop: hook `t`; `timeout-kill` is counted from now on.
//! - hook: hook of the signal, at whose end the signal is sent.
//! - send: send the signal, unless the hook stands in for it.
//! - last hook: hook `d` or `x`, if that is wanted now.
//! - kill: if the timeout is over; also what has not told in time that it is ready or alive is ended, see `policies.rs`. retry: start `./finish`, if that failed and the pause is over.
//! - ended: only the process of that state. **finishing** starts `./finish`; without one the next state is **down**.
//! - no process: the next try is in 5 s.
//! - A service that is done or given up wants no start until the next `u` or `o`.
//! - note: only the status or a moment changes.
//!
//! A tick also reports, in every state, the exits that were not reported when they happened.
//!
//! Source: runsv(8).
#![deny(clippy::arithmetic_side_effects)]

mod commands;
mod hooks;
mod policies;
mod state;
mod unexpected;

use std::time::Duration;

use rustix::process::Pid;

use super::step::{Action, Actions, Event, Now, Script};
use crate::control::Hook;
use crate::facts::{self, End, Facts};
use crate::moment::{Moment, earlier};
use crate::process::Ended;
use crate::status::{self, Status, Want};
use crate::tai::Tai64N;

use hooks::RunningHooks;
use policies::Policies;
pub(crate) use policies::{GivenUp, ReadyPolicy, RestartPolicy};
use state::{Down, Finish, Finishing, MachineState, Preparing, RunFile, Running};
pub(crate) use unexpected::ExitReport;
use unexpected::UnexpectedExits;

/// A service that ran for less than this is started again only after as long a pause.
pub(crate) const PACE: Duration = Duration::from_secs(1);
/// The pause before the next try to start when the kernel refused a new process.
pub(crate) const NO_PROCESS: Duration = Duration::from_secs(5);

/// One supervised process.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    state: MachineState,
    want: Want,
    /// Nothing is started any more, whatever is wanted; see [`Machine::hold`].
    held: bool,
    /// For the status: STOP was sent and no CONT after it, or `p` and no `c` came while `./run` did not run.
    paused: bool,
    /// For the status: when `./run` was started, or when the service went down.
    since: Tai64N,
    run_file: RunFile,
    hooks: RunningHooks,
    exits: UnexpectedExits,
    history: History,
    /// `None`: the service has no policy files.
    policies: Option<Box<Policies>>,
}

/// How often `./run` was started, and how it ended.
#[derive(Debug, Clone, Default)]
struct History {
    starts: u32,
    /// The last ends, the latest first.
    ends: Vec<End>,
    /// One of the ends was unexpected.
    has_unexpected: bool,
}

impl Machine {
    /// A service that never ran.
    #[must_use]
    pub(crate) fn new(now: Now, want: Want) -> Self {
        Machine {
            state: MachineState::Down(Down { not_before: Moment::START, once: false }),
            want,
            held: false,
            paused: false,
            since: now.stamp,
            run_file: RunFile::Untried,
            hooks: RunningHooks::default(),
            exits: UnexpectedExits::default(),
            history: History::default(),
            policies: None,
        }
    }

    /// What others may want to know of it, beside its status; `None` if it never ended on its own and has no policies.
    #[must_use]
    pub(crate) fn facts(&self) -> Option<Facts> {
        if self.policies.is_none() && !self.history.has_unexpected {
            return None;
        }
        let ends = self.history.ends.clone();
        let mut facts = Facts { starts: self.history.starts.into(), ends, ..Facts::default() };
        self.note_facts(&mut facts);
        Some(facts)
    }

    /// The status that others read.
    #[must_use]
    pub(crate) const fn status(&self) -> Status {
        let (state, term) = match self.state {
            MachineState::Down(_) | MachineState::Preparing(_) => (status::State::Down, false),
            MachineState::Running(running) => (status::State::Run, running.term),
            MachineState::Finishing(_) => (status::State::Finish, false),
        };
        let (since, paused, want) = (self.since, self.paused, Some(self.want));
        Status { since, pid: self.pid(), paused, want, term, state }
    }

    /// The process of `./run` or `./finish`, if there is one.
    #[must_use]
    pub(crate) const fn pid(&self) -> Option<Pid> {
        match self.state {
            MachineState::Running(Running { pid, .. })
            | MachineState::Finishing(Finishing { finish: Finish::Runs { pid, .. }, .. }) => Some(pid),
            MachineState::Down(_) | MachineState::Preparing(_) | MachineState::Finishing(_) => None,
        }
    }

    /// What was asked for last.
    #[must_use]
    pub(crate) const fn want(&self) -> Want {
        self.want
    }

    /// Whether neither `./run` nor `./finish` runs or is about to.
    #[must_use]
    pub(crate) fn is_down(&self) -> bool {
        match self.state {
            MachineState::Down(_) => true,
            // The start for which `control/u` runs may not be wanted any more.
            MachineState::Preparing(_) => !self.wants_start(),
            MachineState::Running(_) | MachineState::Finishing(_) => false,
        }
    }

    /// Whether it is only down because `./run` could not be executed; then [`Event::RunChanged`] is of use.
    #[must_use]
    pub(crate) const fn waits_for_run(&self) -> bool {
        matches!(self.state, MachineState::Down(_)) && self.lacks_run()
    }

    /// Whether the last start failed because of `./run` itself.
    #[must_use]
    pub(crate) const fn lacks_run(&self) -> bool {
        matches!(self.run_file, RunFile::Unusable { .. })
    }

    /// When [`Event::Tick`] is due, if ever.
    #[must_use]
    pub(crate) fn next_tick(&self) -> Option<Moment> {
        let next = match self.state {
            MachineState::Down(_) if self.is_blocked() => None,
            MachineState::Down(down) => self.wants_start().then_some(down.not_before),
            MachineState::Preparing(_) => None,
            MachineState::Running(running) => earlier(running.kill_at, self.readiness_due()),
            MachineState::Finishing(finishing) => match finishing.finish {
                Finish::NotStarted { not_before } => Some(not_before),
                Finish::Runs { kill_at, .. } => kill_at,
            },
        };
        earlier(next, self.exits.next_report())
    }

    /// Whether it is `./run` that runs.
    #[must_use]
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.state, MachineState::Running(_))
    }

    /// Whether nothing is started any more; see [`Machine::hold`].
    #[must_use]
    pub(crate) const fn is_held(&self) -> bool {
        self.held
    }

    /// Whether `./run` is to be started, now or after a pause.
    fn wants_start(&self) -> bool {
        let once = match self.state {
            MachineState::Down(Down { once, .. }) | MachineState::Preparing(Preparing { once }) => once,
            MachineState::Running(_) | MachineState::Finishing(_) => false,
        };
        (matches!(self.want, Want::Up) || once) && !self.held && self.rest().is_none()
    }

    /// From now on nothing is started, whatever is or will be wanted.
    pub(crate) const fn hold(&mut self) {
        self.held = true;
    }

    /// If it is down, starts it once, without the pause after its last exit: a log service with unread lines.
    pub(crate) fn start_once(&mut self, now: Now) -> Actions {
        let MachineState::Down(down) = &mut self.state else { return Actions::none() };
        down.once = true;
        down.not_before = down.not_before.min(now.at);
        self.start_if_due(now, false)
    }

    /// It will end by itself, without a signal: a log service whose input was closed.
    pub(crate) fn expect_exit(&mut self) -> Actions {
        self.set_want(Want::Exit, false);
        Action::Publish.into()
    }

    /// Handles one event. Returns what to do about it.
    pub(crate) fn step(&mut self, now: Now, event: Event) -> Actions {
        match event {
            Event::Command(command) => self.command(now, command),
            Event::Tick => self.tick(now),
            Event::Started(pid) => self.started(now, pid),
            Event::NotStarted { finish } => self.not_started(now, finish),
            Event::NoProcess => self.no_process(now),
            Event::Ended { pid, how, finish } => self.ended(now, pid, how, finish),
            Event::HookEnded { hook, pid, instead } => {
                let again = self.hooks.ended(hook);
                let actions = self.hook_ended(now, hook, pid, instead);
                match self.running() {
                    Some(pid) if again => actions.and(self.start_hook(hook, Some(pid))),
                    _ => actions,
                }
            }
            Event::Timeout(timeout) => {
                let at = timeout.map(|timeout| now.at.saturating_add(timeout));
                if let MachineState::Running(Running { kill_at, .. })
                | MachineState::Finishing(Finishing { finish: Finish::Runs { kill_at, .. }, .. }) =
                    &mut self.state
                {
                    *kill_at = earlier(*kill_at, at);
                }
                if self.has_failed()
                    && let MachineState::Running(Running { kill_at: kill_at @ None, .. }) = &mut self.state
                {
                    *kill_at = Some(now.at.saturating_add(policies::ABORT_TIME));
                }
                Actions::none()
            }
            Event::Needs(is_met) => {
                if self.unblock(is_met) {
                    self.start_if_due(now, true)
                } else {
                    Action::Publish.into()
                }
            }
            Event::Notice(notice) => self.notice(now, notice),
            Event::RunChanged { down } => self.run_changed(now, down),
        }
    }

    /// The process of `./run`, if it runs.
    const fn running(&self) -> Option<Pid> {
        match self.state {
            MachineState::Running(Running { pid, .. }) => Some(pid),
            MachineState::Down(_) | MachineState::Preparing(_) | MachineState::Finishing(_) => None,
        }
    }

    fn tick(&mut self, now: Now) -> Actions {
        let report = self.exits.report_due(now.at).map(Action::ReportExit);
        let report = report.map_or_else(Actions::none, Actions::from);
        match &mut self.state {
            MachineState::Down(_) => report.and(self.start_if_due(now, false)),
            MachineState::Preparing(_) => report,
            MachineState::Running(running) => {
                if running.kill_at.take_if(|at| now.at >= *at).is_none() {
                    return report.and(self.check_readiness(now));
                }
                running.asked = true;
                report.then(Action::KillOverdue(running.pid, Script::Run))
            }
            MachineState::Finishing(finishing) => {
                let script = Script::Finish(finishing.how);
                match &mut finishing.finish {
                    Finish::NotStarted { not_before } if now.at >= *not_before => {
                        report.then(Action::Start(script))
                    }
                    Finish::NotStarted { .. } => report,
                    Finish::Runs { pid, kill_at } => match kill_at.take_if(|at| now.at >= *at) {
                        Some(_) => report.then(Action::KillOverdue(*pid, script)),
                        None => report,
                    },
                }
            }
        }
    }

    /// Begins a start that is wanted, if the pause is over. `needs_are_met`: the services that it needs are ready.
    fn start_if_due(&mut self, now: Now, needs_are_met: bool) -> Actions {
        match self.state {
            MachineState::Down(Down { not_before, once }) if self.wants_start() && now.at >= not_before => {
                if !needs_are_met && self.is_to_ask_needs() {
                    return Action::AskNeeds.into();
                }
                self.state = MachineState::Preparing(Preparing { once });
                self.start_hook(Hook::Up, None)
            }
            _ => Actions::none(),
        }
    }

    fn started(&mut self, now: Now, pid: Pid) -> Actions {
        match &mut self.state {
            MachineState::Preparing(_) => {
                self.state = MachineState::Running(Running {
                    pid,
                    started: now.at,
                    asked: false,
                    term: false,
                    restart: false,
                    kill_at: None,
                });
                self.since = now.stamp;
                self.run_file = RunFile::Usable;
                self.paused = false;
                self.history.starts = self.history.starts.saturating_add(1);
                self.watch_readiness(now);
                Action::Publish.into()
            }
            MachineState::Finishing(finishing) => {
                finishing.finish = Finish::Runs { pid, kill_at: None };
                let script = Script::Finish(finishing.how);
                Actions::from(Action::Publish).then(Action::AskTimeout(script))
            }
            MachineState::Down(_) | MachineState::Running(_) => Actions::none(),
        }
    }

    fn not_started(&mut self, now: Now, finish: bool) -> Actions {
        match self.state {
            MachineState::Preparing(_) => {
                let ever_ran =
                    matches!(self.run_file, RunFile::Usable | RunFile::Unusable { ever_ran: true });
                self.run_file = RunFile::Unusable { ever_ran };
                // runsv(8): a ./run that cannot be executed counts as one that exited 111.
                let how = Ended::Code(111);
                let _ = self.judge(now, how, Duration::ZERO, false);
                Actions::from(Action::NoteUnexpectedExit(how, Duration::ZERO))
                    .and(self.run_ended(now, now.at, how, finish))
            }
            MachineState::Finishing(finishing) => self.go_down(now, finishing.started),
            MachineState::Down(_) | MachineState::Running(_) => Actions::none(),
        }
    }

    fn no_process(&mut self, now: Now) -> Actions {
        let retry_at = now.at.saturating_add(NO_PROCESS);
        match &mut self.state {
            MachineState::Preparing(Preparing { once }) => {
                self.state = MachineState::Down(Down { not_before: retry_at, once: *once });
                Action::Publish.into()
            }
            MachineState::Finishing(finishing) => {
                finishing.finish = Finish::NotStarted { not_before: retry_at };
                Actions::none()
            }
            MachineState::Down(_) | MachineState::Running(_) => Actions::none(),
        }
    }

    /// A process ended, perhaps another than that of this state.
    fn ended(&mut self, now: Now, pid: Pid, how: Ended, has_finish: bool) -> Actions {
        match self.state {
            MachineState::Running(running) if running.pid == pid => {
                let is_asked = running.asked && !self.has_failed();
                let unexpected =
                    if is_asked { Actions::none() } else { self.unexpected_exit(now, running.started, how) };
                let uptime = now.at.since(running.started);
                self.history.add(End { at: now.stamp, how, uptime }, !is_asked);
                self.judge(now, how, uptime, is_asked);
                unexpected.and(self.run_ended(now, running.started, how, has_finish))
            }
            MachineState::Finishing(Finishing {
                started, finish: Finish::Runs { pid: mine, .. }, ..
            }) if mine == pid => {
                self.note_finish(how);
                self.go_down(now, started)
            }
            MachineState::Down(_)
            | MachineState::Preparing(_)
            | MachineState::Running(_)
            | MachineState::Finishing(_) => Actions::none(),
        }
    }

    /// `./run`, which was started at `started`, ended on its own.
    fn unexpected_exit(&mut self, now: Now, started: Moment, how: Ended) -> Actions {
        let uptime = now.at.since(started);
        let report = self.exits.report(now.at, how, uptime).map(Action::ReportExit);
        let actions =
            report.map_or_else(Actions::none, Actions::from).then(Action::NoteUnexpectedExit(how, uptime));
        match self.exits.count(now.at) {
            Some(time) => actions.then(Action::MarkFlapping(time)),
            None => actions,
        }
    }

    /// `./run`, which was started at `started`, has ended: `./finish` is next, if there is one.
    fn run_ended(&mut self, now: Now, started: Moment, how: Ended, has_finish: bool) -> Actions {
        if !has_finish {
            return self.go_down(now, started);
        }
        let finish = Finish::NotStarted { not_before: now.at };
        self.state = MachineState::Finishing(Finishing { how, started, finish });
        Actions::from(Action::Publish).then(Action::Start(Script::Finish(how)))
    }

    /// Nothing runs any more.
    fn go_down(&mut self, now: Now, started: Moment) -> Actions {
        let (pause, report) = self.apply_verdict(now);
        let not_before =
            pause.map_or_else(|| next_start(now.at, started), |pause| now.at.saturating_add(pause));
        self.state = MachineState::Down(Down { not_before, once: false });
        self.since = now.stamp;
        report.then(Action::Publish).and(self.start_if_due(now, false))
    }

    fn run_changed(&mut self, now: Now, down: bool) -> Actions {
        let (MachineState::Down(state), RunFile::Unusable { ever_ran }) = (&mut self.state, self.run_file)
        else {
            return Actions::none();
        };
        state.not_before = now.at;
        // Whoever makes a service directory under a running supervisor writes `down` no later than `run`, so the
        // file counts as if it had been there when the supervisor began.
        if down && !ever_ran && self.want == Want::Up {
            self.want = Want::Down;
        }
        self.run_file = if ever_ran { RunFile::Usable } else { RunFile::Untried };
        Action::Publish.into()
    }
}

impl History {
    fn add(&mut self, end: End, is_unexpected: bool) {
        self.has_unexpected |= is_unexpected;
        self.ends.truncate(facts::ENDS_MAX.saturating_sub(1));
        self.ends.insert(0, end);
    }
}

/// The earliest next start of a service that is down since `now`, and whose `./run` was started at `started`.
const fn next_start(now: Moment, started: Moment) -> Moment {
    let ran_long = now.since(started).as_nanos() >= PACE.as_nanos();
    if ran_long { now } else { now.saturating_add(PACE) }
}

#[cfg(test)]
mod tests;
