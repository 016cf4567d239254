//! An orderly stop: when processes are told to end, and when they are killed. Without I/O.
//!
//! | phase    | told to end at its beginning             | killed at, in percent of the time | given up at |
//! |----------|------------------------------------------|-----------------------------------|-------------|
//! | command  | CMD, or the hook of `boot.d` that runs   | 60; 85 without services           | 65; 90      |
//! | services | all services; one that others need, when | 80                                | 92          |
//! |          | they have ended, or after 70 percent     |                                   |             |
//! | logs     | nothing: a log service ends by itself    | 88                                | 92          |
//! |          | when it has read what its service wrote  |                                   |             |
//! | others   | every other process                      | 95                                | 97          |
//! | hooks    | nothing: the hooks of `halt.d` run       | 98                                | 98          |
//!
//! A phase begins as soon as the one before it ends. A process that survives SIGKILL is given up: the stop goes on without
//! it.

use std::time::Duration;

use svcore::moment::{Moment, earlier};

/// How long log services may go on after a request to hurry, and killed processes take to end.
const HURRIED_LOGS: Duration = Duration::from_millis(500);
/// How long the hooks of `halt.d` may run after a request to hurry.
const HURRIED_HOOKS: Duration = Duration::from_secs(1);
/// How long log services wait for the end of their input before the processes that may hold it open are told to end.
const HELD_OPEN: Duration = Duration::from_secs(1);

/// The processes that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Remaining {
    /// CMD, or a hook of `boot.d`, runs.
    pub(crate) command: bool,
    /// Services that have not ended.
    pub(crate) services: usize,
    /// Some of them were not told to end yet, because others need them.
    pub(crate) untold: bool,
    /// Ended services whose log service has not ended.
    pub(crate) logs: usize,
    /// Other children run.
    pub(crate) others: bool,
    /// Hooks of `halt.d` run, or wait for their turn.
    pub(crate) hooks: bool,
}

/// What is to be done for the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Tell CMD, or the hook of `boot.d`, to end.
    EndCommand,
    /// Kill it.
    KillCommand,
    /// Tell the services to end, each after those that need it.
    EndServices,
    /// Tell those services to end that were not told yet.
    EndUntold,
    /// Kill the services that have not ended.
    KillServices,
    /// Tell all processes but log services to end: some of them hold the input of a log service open.
    EndWriters,
    /// Kill the log services.
    KillLogs,
    /// Tell the other processes to end.
    EndOthers,
    /// Kill them.
    KillOthers,
    /// Run the hooks of `halt.d`.
    RunHooks,
    /// Kill the hook that runs, and run no other.
    KillHooks,
    /// The stop is complete.
    Exit,
}

/// How long a phase may last.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// When the processes of the phase that still run are killed.
    kill_at: Moment,
    /// When the stop goes on without those that survived that.
    give_up_at: Moment,
}

impl Limit {
    /// Makes the kill no later than at `kill_at`; after it, processes have [`HURRIED_LOGS`] to end.
    fn hurry(&mut self, kill_at: Moment) {
        self.kill_at = self.kill_at.min(kill_at);
        self.give_up_at = self.give_up_at.min(self.kill_at.saturating_add(HURRIED_LOGS));
    }

    /// When the phase needs attention next.
    const fn next(self, killed: bool) -> Moment {
        if killed { self.give_up_at } else { self.kill_at }
    }
}

/// The limit of each phase.
#[derive(Debug)]
struct Limits {
    command: Limit,
    /// When all services are told to end, whatever needs them.
    untold: Moment,
    services: Limit,
    logs: Limit,
    others: Limit,
    hooks: Moment,
}

/// The phase of a stop. `killed`: whether its processes were killed.
#[derive(Debug, Clone, Copy)]
enum StopPhase {
    Begin,
    Command {
        killed: bool,
    },
    Services {
        killed: bool,
    },
    Logs {
        killed: bool,
        /// When the processes that may hold the input of log services open are told to end; `None` if they were.
        end_writers_at: Option<Moment>,
    },
    Others {
        killed: bool,
    },
    Hooks,
    Over,
}

/// What to do in a phase.
enum Next {
    Wait,
    Kill,
    GoOn,
}

/// What to do in a phase whose processes still run, or not.
fn wait_or_kill(do_run: bool, now: Moment, limit: Limit, killed: &mut bool) -> Next {
    match (do_run, *killed) {
        (true, false) if now >= limit.kill_at => {
            *killed = true;
            Next::Kill
        }
        (true, true) if now >= limit.give_up_at => Next::GoOn,
        (true, _) => Next::Wait,
        (false, _) => Next::GoOn,
    }
}

/// The plan of a stop.
#[derive(Debug)]
pub(crate) struct Stop {
    phase: StopPhase,
    limits: Limits,
    /// Whether there was a request to hurry.
    hurried: bool,
    /// Some services were not told to end yet.
    has_untold: bool,
}

impl Stop {
    /// A stop that begins now and takes no longer than `total`.
    pub(crate) fn new(now: Moment, total: Duration, has_services: bool) -> Self {
        let at = |percent: u32| now.saturating_add(total.saturating_mul(percent) / 100);
        let limit = |kill, give_up| Limit { kill_at: at(kill), give_up_at: at(give_up) };
        Stop {
            phase: StopPhase::Begin,
            limits: Limits {
                command: if has_services { limit(60, 65) } else { limit(85, 90) },
                untold: at(70),
                services: limit(80, 92),
                logs: limit(88, 92),
                others: limit(95, 97),
                hooks: at(98),
            },
            hurried: false,
            has_untold: false,
        }
    }

    /// Skips the grace period. At the first request log services keep half a second, at the second they do not.
    pub(crate) fn hurry(&mut self, now: Moment) {
        let logs_until = if self.hurried { now } else { now.saturating_add(HURRIED_LOGS) };
        self.hurried = true;
        self.limits.command.hurry(now);
        self.limits.logs.hurry(logs_until);
        self.limits.services.kill_at = self.limits.services.kill_at.min(now);
        // Killed services and killed log services are given up at the same time.
        self.limits.services.give_up_at = self.limits.services.give_up_at.min(self.limits.logs.give_up_at);
        self.limits.others.hurry(logs_until);
        self.limits.hooks = self.limits.hooks.min(now.saturating_add(HURRIED_HOOKS));
    }

    /// The next task; to be called again until there is none.
    pub(crate) fn step(&mut self, now: Moment, remaining: &Remaining) -> Option<Task> {
        self.has_untold = remaining.untold;
        loop {
            let limits = &self.limits;
            let (next, task) = match &mut self.phase {
                StopPhase::Begin => {
                    (StopPhase::Command { killed: false }, remaining.command.then_some(Task::EndCommand))
                }
                StopPhase::Command { killed } => {
                    match wait_or_kill(remaining.command, now, limits.command, killed) {
                        Next::Wait => return None,
                        Next::Kill => return Some(Task::KillCommand),
                        Next::GoOn => (StopPhase::Services { killed: false }, Some(Task::EndServices)),
                    }
                }
                StopPhase::Services { killed: false }
                    if remaining.untold && now >= limits.untold && now < limits.services.kill_at =>
                {
                    return Some(Task::EndUntold);
                }
                StopPhase::Services { killed } => {
                    match wait_or_kill(remaining.services > 0, now, limits.services, killed) {
                        Next::Wait => return None,
                        Next::Kill => return Some(Task::KillServices),
                        Next::GoOn if remaining.services == 0 && remaining.logs > 0 => {
                            let end_writers_at = Some(now.saturating_add(HELD_OPEN));
                            (StopPhase::Logs { killed: false, end_writers_at }, None)
                        }
                        Next::GoOn => {
                            (StopPhase::Others { killed: false }, remaining.others.then_some(Task::EndOthers))
                        }
                    }
                }
                StopPhase::Logs { killed, end_writers_at } => {
                    match wait_or_kill(remaining.logs > 0, now, limits.logs, killed) {
                        Next::Wait => {
                            return end_writers_at.take_if(|at| now >= *at).map(|_| Task::EndWriters);
                        }
                        Next::Kill => return Some(Task::KillLogs),
                        Next::GoOn => {
                            (StopPhase::Others { killed: false }, remaining.others.then_some(Task::EndOthers))
                        }
                    }
                }
                StopPhase::Others { killed } => {
                    match wait_or_kill(remaining.others, now, limits.others, killed) {
                        Next::Wait => return None,
                        Next::Kill => return Some(Task::KillOthers),
                        Next::GoOn => (StopPhase::Hooks, remaining.hooks.then_some(Task::RunHooks)),
                    }
                }
                StopPhase::Hooks if remaining.hooks && now < limits.hooks => return None,
                StopPhase::Hooks => (StopPhase::Over, remaining.hooks.then_some(Task::KillHooks)),
                StopPhase::Over => return Some(Task::Exit),
            };
            self.phase = next;
            if task.is_some() {
                return task;
            }
        }
    }

    /// When to call [`Stop::step`] again, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let limits = &self.limits;
        match self.phase {
            StopPhase::Begin | StopPhase::Over => None,
            StopPhase::Command { killed } => Some(limits.command.next(killed)),
            StopPhase::Services { killed: false } if self.has_untold => {
                Some(limits.untold.min(limits.services.kill_at))
            }
            StopPhase::Services { killed } => Some(limits.services.next(killed)),
            StopPhase::Logs { killed, end_writers_at } => {
                earlier(Some(limits.logs.next(killed)), end_writers_at)
            }
            StopPhase::Others { killed } => Some(limits.others.next(killed)),
            StopPhase::Hooks => Some(limits.hooks),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOTAL: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    fn all(stop: &mut Stop, now: Moment, remaining: &Remaining) -> Vec<Task> {
        std::iter::from_fn(|| stop.step(now, remaining).filter(|it| *it != Task::Exit)).collect()
    }

    #[test]
    fn each_is_told_after_those_before_it_are_gone() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut remaining =
            Remaining { command: true, services: 2, others: true, hooks: true, ..Remaining::default() };
        assert_eq!(all(&mut stop, at(0), &remaining), [Task::EndCommand]);
        assert_eq!(all(&mut stop, at(100), &remaining), []);
        remaining.command = false;
        assert_eq!(all(&mut stop, at(200), &remaining), [Task::EndServices]);
        (remaining.services, remaining.logs) = (1, 1);
        assert_eq!(all(&mut stop, at(300), &remaining), []);
        (remaining.services, remaining.logs) = (0, 0);
        assert_eq!(all(&mut stop, at(400), &remaining), [Task::EndOthers]);
        remaining.others = false;
        assert_eq!(all(&mut stop, at(500), &remaining), [Task::RunHooks]);
        remaining.hooks = false;
        assert_eq!(stop.step(at(600), &remaining), Some(Task::Exit));
    }

    #[test]
    fn where_nothing_runs_it_is_complete_at_once() {
        let mut stop = Stop::new(at(0), TOTAL, false);
        assert_eq!(stop.step(at(0), &Remaining::default()), Some(Task::EndServices));
        assert_eq!(stop.step(at(0), &Remaining::default()), Some(Task::Exit));
    }

    #[test]
    fn what_does_not_end_is_killed_once_in_its_time() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut remaining =
            Remaining { command: true, services: 1, untold: false, logs: 1, others: true, hooks: true };
        assert_eq!(all(&mut stop, at(0), &remaining), [Task::EndCommand]);
        assert_eq!(stop.deadline(), Some(at(6000)));
        assert_eq!(all(&mut stop, at(5999), &remaining), []);
        assert_eq!(all(&mut stop, at(6000), &remaining), [Task::KillCommand]);
        assert_eq!((all(&mut stop, at(6001), &remaining), stop.deadline()), (vec![], Some(at(6500))));
        remaining.command = false;
        assert_eq!(all(&mut stop, at(6100), &remaining), [Task::EndServices]);
        assert_eq!(stop.deadline(), Some(at(8000)));
        assert_eq!(all(&mut stop, at(8000), &remaining), [Task::KillServices]);
        remaining.services = 0;
        assert_eq!(all(&mut stop, at(8001), &remaining), []);
        assert_eq!(stop.deadline(), Some(at(8800)));
        assert_eq!(all(&mut stop, at(8800), &remaining), [Task::KillLogs]);
        remaining.logs = 0;
        assert_eq!(all(&mut stop, at(8900), &remaining), [Task::EndOthers]);
        assert_eq!(all(&mut stop, at(9500), &remaining), [Task::KillOthers]);
        remaining.others = false;
        assert_eq!(all(&mut stop, at(9600), &remaining), [Task::RunHooks]);
        assert_eq!(stop.deadline(), Some(at(9800)));
        assert_eq!(all(&mut stop, at(9800), &remaining), [Task::KillHooks]);
        assert_eq!(stop.step(at(9800), &remaining), Some(Task::Exit));
    }

    #[test]
    fn those_that_others_need_are_told_before_they_are_killed() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut remaining = Remaining { services: 2, untold: true, ..Remaining::default() };
        assert_eq!(all(&mut stop, at(0), &remaining), [Task::EndServices]);
        assert_eq!(stop.deadline(), Some(at(7000)));
        assert_eq!(all(&mut stop, at(6999), &remaining), []);
        assert_eq!(stop.step(at(7000), &remaining), Some(Task::EndUntold));
        remaining.untold = false;
        assert_eq!((all(&mut stop, at(7001), &remaining), stop.deadline()), (vec![], Some(at(8000))));
        // Where there is no time to tell them, they are killed with the others.
        let mut stop = Stop::new(at(0), TOTAL, true);
        remaining.untold = true;
        assert_eq!(all(&mut stop, at(0), &remaining), [Task::EndServices]);
        stop.hurry(at(100));
        assert_eq!(all(&mut stop, at(100), &remaining), [Task::KillServices]);
    }

    #[test]
    fn holders_of_the_input_of_a_log_service_are_told_to_end_after_a_second() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let remaining = Remaining { logs: 1, others: true, ..Remaining::default() };
        assert_eq!(all(&mut stop, at(0), &remaining), [Task::EndServices]);
        assert_eq!(stop.deadline(), Some(at(1000)));
        assert_eq!(all(&mut stop, at(1000), &remaining), [Task::EndWriters]);
        assert_eq!(stop.deadline(), Some(at(8800)));
    }

    #[test]
    fn a_request_to_hurry_leaves_time_to_log_services_only() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut remaining =
            Remaining { command: true, services: 1, untold: false, logs: 1, others: true, hooks: true };
        assert_eq!(all(&mut stop, at(0), &remaining), [Task::EndCommand]);
        stop.hurry(at(100));
        assert_eq!(all(&mut stop, at(100), &remaining), [Task::KillCommand]);
        remaining.command = false;
        assert_eq!(all(&mut stop, at(101), &remaining), [Task::EndServices, Task::KillServices]);
        remaining.services = 0;
        assert_eq!((all(&mut stop, at(102), &remaining), stop.deadline()), (vec![], Some(at(600))));
        stop.hurry(at(200));
        assert_eq!(all(&mut stop, at(200), &remaining), [Task::KillLogs]);
        remaining.logs = 0;
        assert_eq!(all(&mut stop, at(201), &remaining), [Task::EndOthers, Task::KillOthers]);
    }

    proptest! {
        /// Whatever ends when, as long as what is killed ends: it is over in its time, and nothing is told twice.
        #[test]
        fn it_ends_in_its_time(
            total in 0_u64..20_000,
            ends in prop::array::uniform5(0_u64..30_000),
            hurries in prop::collection::vec(0_u64..20_000, 0..3),
            unkillable in prop::array::uniform4(prop::bool::weighted(0.2)),
            untold: bool,
        ) {
            let total = Duration::from_millis(total);
            let mut stop = Stop::new(at(0), total, true);
            let mut told: Vec<Task> = Vec::new();
            let (mut now, mut over) = (at(0), None);
            for _ in 0..10_000 {
                for hurry in &hurries {
                    if at(*hurry) <= now && at(*hurry) + Duration::from_millis(1) > now {
                        stop.hurry(now);
                    }
                }
                let there = |number: usize, killed: Task| {
                    let dead = told.contains(&killed) && unkillable.get(number) != Some(&true);
                    at(ends[number]) > now && !dead
                };
                let remaining = Remaining {
                    command: there(0, Task::KillCommand),
                    services: usize::from(there(1, Task::KillServices)),
                    untold: untold && !told.contains(&Task::EndUntold) && !told.contains(&Task::KillServices),
                    logs: usize::from(there(2, Task::KillLogs)),
                    others: there(3, Task::KillOthers),
                    hooks: there(4, Task::KillHooks),
                };
                match stop.step(now, &remaining) {
                    Some(Task::Exit) => {
                        over = Some(now);
                        break;
                    }
                    Some(what) => {
                        prop_assert!(!told.contains(&what), "{what:?} twice");
                        told.push(what);
                    }
                    None => {
                        let next = ends.iter().map(|end| at(*end)).filter(|end| *end > now);
                        let next = next.chain(stop.deadline()).min();
                        prop_assert!(next.is_some(), "waits for ever");
                        now = next.unwrap_or(now).max(now);
                    }
                }
            }
            prop_assert!(over.is_some_and(|over| over <= Moment::START + total), "{over:?} of {total:?}, {told:?}");
        }
    }
}
