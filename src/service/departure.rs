//! In which order a service and its log service leave for good. Without I/O.
//!
//! The pipe between the two lives as long as the supervisor, so either side may end and start again and no line is
//! lost. The log service gets no signal: when the service has ended for good, the supervisor closes its end of the
//! pipe, the log service reads the lines that are still in it, and ends on its own.

use std::time::Duration;

use rustix::process::Pid;

use super::machine::Machine;
use super::step::Now;
use crate::control::Command;
use crate::moment::Moment;
use crate::role::Role;
use crate::status::Want;

/// How often a log service is started to read the lines in the pipe, before it counts as unable to.
const STARTS_MAX: u8 = 3;

/// What is to be done about leaving.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Nothing now.
    Stay,
    /// Start the log service, which does not run, for the lines that it has not read; and ask again.
    StartLog,
    /// Close the pipe, and ask again.
    CloseLog,
    /// Everything has ended.
    Quit,
    /// What still runs does not end in time: leave without it.
    GiveUp {
        /// The process of the log service, if that still runs.
        log: Option<Pid>,
        /// The log service could not be started, so lines for it are lost.
        unread: bool,
    },
}

/// How far a service has got on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It is not on its way out, or its main program has not ended yet.
    NotBegun,
    /// The service has ended for good. What else runs is waited for.
    Begun {
        /// No longer than until this moment.
        until: Moment,
        /// The pipe is closed.
        pipe_closed: bool,
        /// How often the log service was started for the lines in the pipe.
        log_starts: u8,
    },
}

impl Departure {
    /// Whether the service has ended for good, and only what else runs is waited for.
    #[must_use]
    pub(crate) const fn is_begun(self) -> bool {
        matches!(self, Departure::Begun { .. })
    }

    /// Whether one of the two may get a command.
    #[must_use]
    pub(crate) const fn accepts(self, role: Role, command: Command) -> bool {
        let changes_want = matches!(command, Command::Up | Command::Once | Command::Down | Command::Exit);
        // Once the service has ended for good, nothing could be started with the pipe.
        let is_late = self.is_begun() && changes_want;
        // The log service leaves last and on its own.
        let tells_log_to_exit = matches!((role, command), (Role::Log, Command::Exit));
        !is_late && !tells_log_to_exit
    }

    /// When to ask again although nothing has happened, if ever.
    #[must_use]
    pub(crate) const fn deadline(self) -> Option<Moment> {
        match self {
            Departure::NotBegun => None,
            Departure::Begun { until, .. } => Some(until),
        }
    }

    /// What is to be done now, if the service is to leave. `hooks`: programs of `control/` still run. `unread`: the
    /// pipe holds lines that the log service has not read.
    ///
    /// `timeout` is how long the log service and the hooks have to end; it is called once.
    pub(crate) fn next(
        &mut self,
        now: Now,
        main: &Machine,
        log: Option<&Machine>,
        hooks: bool,
        unread: bool,
        timeout: impl FnOnce() -> Duration,
    ) -> Leave {
        if main.want() != Want::Exit || !main.is_down() {
            return Leave::Stay;
        }
        let log_pid = log.and_then(Machine::pid);
        let unread = unread && log_pid.is_none() && log.is_some_and(|log| log.want() != Want::Down);
        if log_pid.is_none() && !hooks && !unread {
            return Leave::Quit;
        }
        if *self == Departure::NotBegun {
            let until = now.at.saturating_add(timeout());
            *self = Departure::Begun { until, pipe_closed: false, log_starts: 0 };
        }
        let Departure::Begun { until, pipe_closed, log_starts } = self else { return Leave::Stay };
        if log_pid.is_some() && !*pipe_closed {
            *pipe_closed = true;
            Leave::CloseLog
        } else if unread && *log_starts < STARTS_MAX {
            *log_starts = log_starts.saturating_add(1);
            Leave::StartLog
        } else if now.at >= *until {
            Leave::GiveUp { log: log_pid, unread }
        } else {
            Leave::Stay
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::{Action, Actions, Event};
    use super::*;
    use crate::control::Hook;
    use crate::process::Ended;
    use crate::status::State;
    use crate::tai::stamp;

    fn now(millis: u64) -> Now {
        Now { at: Moment::from_start(Duration::from_millis(millis)), stamp: stamp(0, 0) }
    }

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    /// A service and its log service.
    struct Pair {
        main: Machine,
        log: Option<Machine>,
        departure: Departure,
    }

    impl Pair {
        fn new(main: Machine, log: Option<Machine>) -> Self {
            Pair { main, log, departure: Departure::NotBegun }
        }

        fn get(&mut self, role: Role) -> &mut Machine {
            match role {
                Role::Main => &mut self.main,
                Role::Log => self.log.as_mut().unwrap(),
            }
        }

        fn step(&mut self, now: Now, role: Role, event: Event) -> Actions {
            match event {
                Event::Command(command) if !self.departure.accepts(role, command) => Actions::none(),
                event => self.get(role).step(now, event),
            }
        }

        fn leave(&mut self, at: u64, hooks: bool, unread: bool, timeout: Duration) -> Leave {
            self.departure.next(now(at), &self.main, self.log.as_ref(), hooks, unread, || timeout)
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Both run: the service as 1, the log service as 2.
    fn running() -> Pair {
        let machine = || Machine::new(now(0), Want::Up);
        let mut pair = Pair::new(machine(), Some(machine()));
        for (role, raw) in [(Role::Log, 2), (Role::Main, 1)] {
            let _ = pair.step(now(0), role, Event::Tick);
            let _ = pair.step(now(0), role, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
            let _ = pair.step(now(0), role, Event::Started(pid(raw)));
        }
        pair
    }

    fn command(pair: &mut Pair, role: Role, command: Command) {
        let _ = pair.step(now(10), role, Event::Command(command));
    }

    fn end(pair: &mut Pair, at: u64, raw: i32) -> Actions {
        let role = if pair.main.pid() == Some(pid(raw)) { Role::Main } else { Role::Log };
        pair.step(now(at), role, Event::Ended { pid: pid(raw), how: Ended::Code(0), finish: false })
    }

    fn leave(pair: &mut Pair, at: u64) -> Leave {
        pair.leave(at, false, false, TIMEOUT)
    }

    #[test]
    fn the_log_service_leaves_after_the_service_and_by_itself() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        assert_eq!(leave(&mut pair, 10), Leave::Stay);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::CloseLog);
        let _ = pair.get(Role::Log).expect_exit();
        assert_eq!(leave(&mut pair, 20), Leave::Stay);
        let status = pair.get(Role::Log).status();
        assert_eq!((status.state, status.want, status.term), (State::Run, Some(Want::Exit), false));
        let _ = end(&mut pair, 30, 2);
        assert_eq!(leave(&mut pair, 30), Leave::Quit);
    }

    #[test]
    fn a_log_service_that_stays_is_left_after_its_time() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::CloseLog);
        let _ = pair.get(Role::Log).expect_exit();
        assert_eq!(pair.departure.deadline(), Some(now(5020).at));
        assert_eq!(leave(&mut pair, 5019), Leave::Stay);
        assert_eq!(leave(&mut pair, 5020), Leave::GiveUp { log: Some(pid(2)), unread: false });
    }

    #[test]
    fn the_log_service_runs_again_while_the_service_is_still_ending() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        let actions: Vec<Action> = end(&mut pair, 2000, 2).into_iter().collect();
        assert!(actions.contains(&Action::Hook(Hook::Up, None)), "{actions:?}");
    }

    #[test]
    fn the_log_service_is_not_told_to_exit() {
        let mut pair = running();
        command(&mut pair, Role::Log, Command::Exit);
        assert_eq!(pair.get(Role::Log).want(), Want::Up);
    }

    #[test]
    fn nothing_starts_once_the_pipe_is_closed() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::CloseLog);
        let _ = pair.get(Role::Log).expect_exit();
        for role in [Role::Main, Role::Log] {
            command(&mut pair, role, Command::Up);
            command(&mut pair, role, Command::Once);
            assert_eq!(pair.get(role).want(), Want::Exit);
        }
    }

    #[test]
    fn up_takes_exit_back_while_the_service_still_runs() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        command(&mut pair, Role::Main, Command::Up);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::Stay);
    }

    #[test]
    fn a_hook_that_still_runs_is_waited_for() {
        let mut pair = Pair::new(Machine::new(now(0), Want::Down), None);
        command(&mut pair, Role::Main, Command::Exit);
        assert_eq!(pair.leave(10, true, false, TIMEOUT), Leave::Stay);
        assert_eq!(pair.leave(20, false, false, TIMEOUT), Leave::Quit);
    }

    #[test]
    fn lines_that_are_left_are_read_by_one_more_run_of_the_log_service() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        let _ = end(&mut pair, 20, 2);
        let _ = end(&mut pair, 30, 1);
        assert_eq!(pair.leave(30, false, true, TIMEOUT), Leave::StartLog);
        let actions: Vec<Action> = pair.get(Role::Log).start_once(now(30)).into_iter().collect();
        assert!(actions.contains(&Action::Hook(Hook::Up, None)), "{actions:?}");
        let _ = pair.step(now(30), Role::Log, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
        let _ = pair.step(now(30), Role::Log, Event::Started(pid(3)));
        assert_eq!(pair.leave(30, false, true, TIMEOUT), Leave::CloseLog);
        let _ = pair.get(Role::Log).expect_exit();
        let _ = end(&mut pair, 40, 3);
        assert_eq!(pair.leave(40, false, false, TIMEOUT), Leave::Quit);
    }

    #[test]
    fn a_log_service_that_cannot_read_what_is_left_is_left_after_its_time() {
        let mut pair = running();
        command(&mut pair, Role::Main, Command::Exit);
        let _ = end(&mut pair, 20, 2);
        let _ = end(&mut pair, 30, 1);
        for _ in 0..STARTS_MAX {
            assert_eq!(pair.leave(30, false, true, TIMEOUT), Leave::StartLog);
        }
        assert_eq!(pair.leave(30, false, true, TIMEOUT), Leave::Stay);
        assert_eq!(pair.leave(5030, false, true, TIMEOUT), Leave::GiveUp { log: None, unread: true });
    }

    #[test]
    fn a_log_service_that_is_wanted_down_is_not_started_for_what_is_left() {
        let mut pair = running();
        command(&mut pair, Role::Log, Command::Down);
        let _ = end(&mut pair, 15, 2);
        command(&mut pair, Role::Main, Command::Exit);
        let _ = end(&mut pair, 30, 1);
        assert_eq!(pair.leave(30, false, true, Duration::ZERO), Leave::Quit);
    }
}
