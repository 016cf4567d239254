//! A service and its log service: two machines, and who leaves first. Without I/O.
//!
//! The pipe between them lives as long as the supervisor, so either side may end and start again and no line is
//! lost. The log service is never told to end: when the service is gone for good, its input is closed, and when
//! it has read what is left, it ends by itself.

use std::time::Duration;

use rustix::process::Pid;

use super::machine::Machine;
use super::words::{Actions, Event, Now};
use crate::control::Command;
use crate::moment::{Moment, earlier};
use crate::status::Want;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The service.
    Main,
    /// Its log service.
    Log,
}

/// What is to be done about leaving.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Nothing.
    Stay,
    /// Start the log service, which is between two runs, for the lines that it has not read; and ask again.
    StartLog,
    /// Close the pipe, and ask again.
    CloseLog,
    /// All is done.
    Quit,
    /// What is left does not end; go without it.
    GiveUp {
        /// The log service, if it is that.
        log: Option<Pid>,
        /// The log service could not be started, and lines are left for it.
        unread: bool,
    },
}

/// A service, perhaps with a log service.
#[derive(Debug, Clone)]
pub struct Pair {
    main: Machine,
    /// Boxed, since most have none and there may be thousands.
    log: Option<Box<Machine>>,
    /// The service is gone for good, and the rest is on its way out.
    leaving: Option<Leaving>,
}

/// How far a pair has got that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaving {
    /// The rest has time until then.
    until: Moment,
    /// Our side of the pipe's writing end is closed.
    closed: bool,
    /// How often the log service was started for the lines that were left.
    starts: u8,
}

/// How often a log service is started to read what is left, before it counts as unable to.
const STARTS_MAX: u8 = 3;

impl Pair {
    /// A pair that never ran.
    #[must_use]
    pub fn new(main: Machine, log: Option<Machine>) -> Self {
        Pair { main, log: log.map(Box::new), leaving: None }
    }

    /// The service.
    #[must_use]
    pub const fn main(&self) -> &Machine {
        &self.main
    }

    /// One of the two, if it exists.
    #[must_use]
    pub fn get(&self, which: Which) -> Option<&Machine> {
        match which {
            Which::Main => Some(&self.main),
            Which::Log => self.log(),
        }
    }

    fn log(&self) -> Option<&Machine> {
        self.log.as_deref()
    }

    /// Adds a log service to a service that had none.
    pub fn add_log(&mut self, log: Machine) {
        self.log.get_or_insert_with(|| Box::new(log));
    }

    /// Which of the two has this process.
    #[must_use]
    pub fn whose(&self, pid: Pid) -> Option<Which> {
        if self.main.pid() == Some(pid) {
            Some(Which::Main)
        } else {
            self.log().filter(|log| log.pid() == Some(pid)).map(|_| Which::Log)
        }
    }

    /// Takes one event for one of the two and says what to do about it.
    pub fn step(&mut self, now: Now, which: Which, event: Event) -> Actions {
        if let Event::Command(command) = event {
            let changes_want = matches!(command, Command::Up | Command::Once | Command::Down | Command::Exit);
            // Once the pipe is closed nothing could be started with it. The log service leaves last and by
            // itself, so it is not told to.
            if (self.leaving.is_some() && changes_want) || (which == Which::Log && command == Command::Exit) {
                return Actions::default();
            }
        }
        match which {
            Which::Main => self.main.step(now, event),
            Which::Log => self.log.as_mut().map_or_else(Actions::default, |log| log.step(now, event)),
        }
    }

    /// When something is due without an event, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let log = self.log().and_then(Machine::deadline);
        earlier(earlier(self.main.deadline(), log), self.leaving.map(|leaving| leaving.until))
    }

    /// Whether it is time to go, and what is to be done for that. `hooks`: programs of `control/` still run. `unread`:
    /// the pipe holds lines that the log service has not read.
    ///
    /// `patience` is how long the log service has to read the rest; it is asked once.
    pub fn leave(
        &mut self,
        now: Now,
        hooks: bool,
        unread: bool,
        patience: impl FnOnce() -> Duration,
    ) -> Leave {
        if self.main.want() != Want::Exit || !self.main.is_down() {
            return Leave::Stay;
        }
        let log = self.log().and_then(Machine::pid);
        let unread = unread && log.is_none() && self.log().is_some_and(|log| log.want() != Want::Down);
        if log.is_none() && !hooks && !unread {
            return Leave::Quit;
        }
        let leaving = self.leaving.get_or_insert_with(|| Leaving {
            until: now.at.saturating_add(patience()),
            closed: false,
            starts: 0,
        });
        if log.is_some() && !leaving.closed {
            leaving.closed = true;
            Leave::CloseLog
        } else if unread && leaving.starts < STARTS_MAX {
            leaving.starts = leaving.starts.saturating_add(1);
            Leave::StartLog
        } else if now.at >= leaving.until {
            Leave::GiveUp { log, unread }
        } else {
            Leave::Stay
        }
    }

    /// Whether the service is gone for good and only the rest is waited for.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Starts the log service once; see [`Leave::StartLog`].
    pub fn start_log(&mut self, now: Now) -> Actions {
        self.log.as_mut().map_or_else(Actions::default, |log| log.start_once(now))
    }

    /// The service is not started any more, whatever is or will be wanted.
    pub const fn hold(&mut self) {
        self.main.hold();
    }

    /// The pipe was closed: the log service is to end by itself.
    pub fn log_leaves(&mut self) -> Actions {
        self.log.as_mut().map_or_else(Actions::default, |log| log.leave())
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::{Action, Ended};
    use super::*;
    use crate::control::Hook;
    use crate::status::State;
    use crate::tai::stamp;

    fn now(millis: u64) -> Now {
        Now { at: Moment::from_start(Duration::from_millis(millis)), stamp: stamp(0, 0) }
    }

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    /// Both run: the service as 1, the log service as 2.
    fn running() -> Pair {
        let machine = || Machine::new(now(0), Want::Up);
        let mut pair = Pair::new(machine(), Some(machine()));
        for (which, raw) in [(Which::Log, 2), (Which::Main, 1)] {
            let _ = pair.step(now(0), which, Event::Tick);
            let _ = pair.step(now(0), which, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
            let _ = pair.step(now(0), which, Event::Started(pid(raw)));
        }
        pair
    }

    fn command(pair: &mut Pair, which: Which, command: Command) {
        let _ = pair.step(now(10), which, Event::Command(command));
    }

    fn end(pair: &mut Pair, at: u64, raw: i32) -> Actions {
        let which = pair.whose(pid(raw)).unwrap();
        pair.step(now(at), which, Event::Ended { pid: pid(raw), how: Ended::Code(0), finish: false })
    }

    fn leave(pair: &mut Pair, at: u64) -> Leave {
        pair.leave(now(at), false, false, || Duration::from_secs(5))
    }

    #[test]
    fn the_log_service_leaves_after_the_service_and_by_itself() {
        let mut pair = running();
        command(&mut pair, Which::Main, Command::Exit);
        assert_eq!(leave(&mut pair, 10), Leave::Stay);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::CloseLog);
        let _ = pair.log_leaves();
        assert_eq!(leave(&mut pair, 20), Leave::Stay);
        let status = pair.get(Which::Log).unwrap().status();
        assert_eq!((status.state, status.want, status.term), (State::Run, Some(Want::Exit), false));
        let _ = end(&mut pair, 30, 2);
        assert_eq!(leave(&mut pair, 30), Leave::Quit);
    }

    #[test]
    fn a_log_service_that_stays_is_left_after_its_time() {
        let mut pair = running();
        command(&mut pair, Which::Main, Command::Exit);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::CloseLog);
        let _ = pair.log_leaves();
        assert_eq!(pair.deadline(), Some(now(5020).at));
        assert_eq!(leave(&mut pair, 5019), Leave::Stay);
        assert_eq!(leave(&mut pair, 5020), Leave::GiveUp { log: Some(pid(2)), unread: false });
    }

    #[test]
    fn the_log_service_runs_again_while_the_service_is_still_ending() {
        let mut pair = running();
        command(&mut pair, Which::Main, Command::Exit);
        let actions: Vec<Action> = end(&mut pair, 2000, 2).into_iter().collect();
        assert!(actions.contains(&Action::Hook(Hook::Up, None)), "{actions:?}");
    }

    #[test]
    fn the_log_service_is_not_told_to_exit() {
        let mut pair = running();
        command(&mut pair, Which::Log, Command::Exit);
        assert_eq!(pair.get(Which::Log).unwrap().want(), Want::Up);
    }

    #[test]
    fn nothing_starts_once_the_pipe_is_closed() {
        let mut pair = running();
        command(&mut pair, Which::Main, Command::Exit);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::CloseLog);
        let _ = pair.log_leaves();
        for which in [Which::Main, Which::Log] {
            command(&mut pair, which, Command::Up);
            command(&mut pair, which, Command::Once);
            assert_eq!(pair.get(which).unwrap().want(), Want::Exit);
        }
    }

    #[test]
    fn up_takes_exit_back_while_the_service_still_runs() {
        let mut pair = running();
        command(&mut pair, Which::Main, Command::Exit);
        command(&mut pair, Which::Main, Command::Up);
        let _ = end(&mut pair, 20, 1);
        assert_eq!(leave(&mut pair, 20), Leave::Stay);
    }

    #[test]
    fn a_hook_that_still_runs_is_waited_for() {
        let mut pair = Pair::new(Machine::new(now(0), Want::Down), None);
        command(&mut pair, Which::Main, Command::Exit);
        let patience = || Duration::from_secs(5);
        assert_eq!(pair.leave(now(10), true, false, patience), Leave::Stay);
        assert_eq!(pair.leave(now(20), false, false, patience), Leave::Quit);
    }

    #[test]
    fn lines_that_are_left_are_read_by_one_more_run_of_the_log_service() {
        let mut pair = running();
        let patience = || Duration::from_secs(5);
        command(&mut pair, Which::Main, Command::Exit);
        let _ = end(&mut pair, 20, 2);
        let _ = end(&mut pair, 30, 1);
        assert_eq!(pair.leave(now(30), false, true, patience), Leave::StartLog);
        let actions: Vec<Action> = pair.start_log(now(30)).into_iter().collect();
        assert!(actions.contains(&Action::Hook(Hook::Up, None)), "{actions:?}");
        let _ =
            pair.step(now(30), Which::Log, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
        let _ = pair.step(now(30), Which::Log, Event::Started(pid(3)));
        assert_eq!(pair.leave(now(30), false, true, patience), Leave::CloseLog);
        let _ = pair.log_leaves();
        let _ = end(&mut pair, 40, 3);
        assert_eq!(pair.leave(now(40), false, false, patience), Leave::Quit);
    }

    #[test]
    fn a_log_service_that_cannot_read_what_is_left_is_left_after_its_time() {
        let mut pair = running();
        let patience = || Duration::from_secs(5);
        command(&mut pair, Which::Main, Command::Exit);
        let _ = end(&mut pair, 20, 2);
        let _ = end(&mut pair, 30, 1);
        for _ in 0..STARTS_MAX {
            assert_eq!(pair.leave(now(30), false, true, patience), Leave::StartLog);
        }
        assert_eq!(pair.leave(now(30), false, true, patience), Leave::Stay);
        assert_eq!(pair.leave(now(5030), false, true, patience), Leave::GiveUp { log: None, unread: true });
    }

    #[test]
    fn a_log_service_that_is_wanted_down_is_not_started_for_what_is_left() {
        let mut pair = running();
        command(&mut pair, Which::Log, Command::Down);
        let _ = end(&mut pair, 15, 2);
        command(&mut pair, Which::Main, Command::Exit);
        let _ = end(&mut pair, 30, 1);
        assert_eq!(pair.leave(now(30), false, true, || Duration::ZERO), Leave::Quit);
    }
}
