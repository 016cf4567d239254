//! The life of one supervised process, without I/O: events in, actions out.
//!
//! Nothing here reads a clock, a file or a process; the caller does, and tells. So every path can be walked in
//! a test, in no time and without a child.
//!
//! | state     | what is there                                       | left by                                 |
//! |-----------|-----------------------------------------------------|-----------------------------------------|
//! | down      | nothing; perhaps a moment before which nothing starts | `u`, `o`, or the moment, when wanted up |
//! | preparing | `control/u`, or nothing at all when there is none   | its end                                 |
//! | running   | `./run`                                             | its end                                 |
//! | finishing | `./finish`, or not yet                              | its end                                 |
//!
//! Source: runsv(8).
#![deny(clippy::arithmetic_side_effects)]

use std::time::Duration;

use rustix::process::Pid;

use super::words::{Action, Actions, Ended, Event, Now, Script};
use crate::Signal;
use crate::control::{Command, Hook};
use crate::moment::{Moment, earlier};
use crate::status::{self, Status, Want};
use crate::tai::Tai64N;

/// A service that ran for less than this is started again only after as long a pause.
pub const PACE: Duration = Duration::from_secs(1);
/// How long a start waits when there could be no process.
pub const NO_PROCESS: Duration = Duration::from_secs(5);
/// Ends that nobody asked for are said at most once in this time.
pub const SAY_AGAIN: Duration = Duration::from_secs(10);
/// A service flaps when more than [`FLAPPING_ENDS`] ends that nobody asked for fall within this time.
pub const FLAPPING: Duration = Duration::from_secs(60);
/// See [`FLAPPING`].
pub const FLAPPING_ENDS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Preparing,
    Running(Pid),
    Finishing(Ended, Option<Pid>),
}

/// One supervised process.
#[derive(Debug, Clone)]
pub struct Machine {
    state: State,
    want: Want,
    /// `o` was given while down and `./run` was not started yet.
    once: bool,
    paused: bool,
    term: bool,
    /// Somebody sent TERM or KILL, so the end of this process is no surprise.
    asked: bool,
    /// It is to be started again after the TERM that is under way.
    restart: bool,
    /// Nothing is started any more, whatever is wanted.
    held: bool,
    /// When what runs is killed, if it has not ended by then.
    late_at: Option<Moment>,
    /// The last ends that nobody asked for, the latest first.
    ends: [Option<Moment>; FLAPPING_ENDS],
    /// The last start failed because of the file `./run` itself.
    run_unusable: bool,
    /// `./run` was started at least once.
    ran: bool,
    since: Tai64N,
    started: Moment,
    not_before: Moment,
    /// Which hooks run, and which were asked for again meanwhile; a bit for each [`Hook::index`].
    hooks: u16,
    hooks_again: u16,
    /// When the last unasked end was said, and the ends after it.
    said: Option<Moment>,
    unsaid: u32,
    last_end: (Ended, Duration),
}

impl Machine {
    /// A service that never ran.
    #[must_use]
    pub fn new(now: Now, want: Want) -> Self {
        Machine {
            state: State::Down,
            want,
            once: false,
            paused: false,
            term: false,
            asked: false,
            restart: false,
            held: false,
            late_at: None,
            ends: [None; FLAPPING_ENDS],
            run_unusable: false,
            ran: false,
            since: now.stamp,
            started: Moment::START,
            not_before: Moment::START,
            hooks: 0,
            hooks_again: 0,
            said: None,
            unsaid: 0,
            last_end: (Ended::Code(0), Duration::ZERO),
        }
    }

    /// What others are told.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            since: self.since,
            pid: self.pid(),
            paused: self.paused,
            want: Some(self.want),
            term: self.term,
            state: match self.state {
                State::Down | State::Preparing => status::State::Down,
                State::Running(_) => status::State::Run,
                State::Finishing(..) => status::State::Finish,
            },
        }
    }

    /// The process, if there is one.
    #[must_use]
    pub const fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Down | State::Preparing | State::Finishing(_, None) => None,
            State::Running(pid) | State::Finishing(_, Some(pid)) => Some(pid),
        }
    }

    /// What was asked for last.
    #[must_use]
    pub const fn want(&self) -> Want {
        self.want
    }

    /// Neither `./run` nor `./finish` runs or is about to.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        match self.state {
            State::Down => true,
            // What prepares a start that nobody wants any more holds nobody up.
            State::Preparing => !self.is_to_start(),
            State::Running(_) | State::Finishing(..) => false,
        }
    }

    /// Whether `./run` itself is what keeps it from running; then [`Event::RunChanged`] is of use.
    #[must_use]
    pub const fn waits_for_run(&self) -> bool {
        matches!(self.state, State::Down) && self.run_unusable
    }

    /// Whether the last start failed because of `./run` itself.
    #[must_use]
    pub const fn lacks_run(&self) -> bool {
        self.run_unusable
    }

    /// When to say [`Event::Tick`], if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let start = match self.state {
            State::Down => self.is_to_start().then_some(self.not_before),
            State::Finishing(_, None) => Some(self.not_before),
            State::Preparing | State::Running(_) | State::Finishing(..) => None,
        };
        let say = self.said.filter(|_| self.unsaid > 0).map(|said| said.saturating_add(SAY_AGAIN));
        earlier(earlier(start, say), self.late_at)
    }

    /// Whether it is `./run` that runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Whether nothing is started any more; see [`Machine::hold`].
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held
    }

    const fn is_to_start(&self) -> bool {
        (matches!(self.want, Want::Up) || self.once) && !self.held
    }

    /// From now on nothing is started, whatever is or will be wanted.
    pub const fn hold(&mut self) {
        self.held = true;
    }

    /// Starts it once, and without the pause after its last end, if it is down: a log service that has lines left to
    /// read.
    pub fn start_once(&mut self, now: Now) -> Actions {
        if self.state != State::Down {
            return Actions::default();
        }
        self.once = true;
        self.not_before = self.not_before.min(now.at);
        self.start_if_due(now)
    }

    /// It is to end by itself, without a signal: a log service whose input was closed.
    pub fn leave(&mut self) -> Actions {
        self.want = Want::Exit;
        self.once = false;
        [Action::Publish].into()
    }

    /// Takes one event and says what to do about it.
    pub fn step(&mut self, now: Now, event: Event) -> Actions {
        match event {
            Event::Command(command) => self.command(now, command),
            Event::Tick => self.tick(now),
            Event::Started(pid) => self.has_started(now, pid),
            Event::NotStarted { finish } => match self.state {
                State::Preparing => {
                    self.once = false;
                    self.started = now.at;
                    self.run_unusable = true;
                    // runsv(8): a ./run that cannot be executed counts as one that exited 111.
                    let how = Ended::Code(111);
                    Actions::from([Action::OnItsOwn(how)]).and(self.run_ended(now, how, finish))
                }
                State::Finishing(..) => self.went_down(now),
                State::Down | State::Running(_) => Actions::default(),
            },
            Event::NoProcess => {
                self.not_before = now.at.saturating_add(NO_PROCESS);
                match self.state {
                    State::Preparing => {
                        self.state = State::Down;
                        [Action::Publish].into()
                    }
                    State::Down | State::Running(_) | State::Finishing(..) => Actions::default(),
                }
            }
            Event::Ended { pid, how, finish } => match self.state {
                State::Running(mine) if mine == pid => {
                    let alone = if self.asked { Actions::default() } else { self.ended_alone(now, how) };
                    alone.and(self.run_ended(now, how, finish))
                }
                State::Finishing(_, Some(mine)) if mine == pid => self.went_down(now),
                // The end of a stranger.
                State::Down | State::Preparing | State::Running(_) | State::Finishing(..) => {
                    Actions::default()
                }
            },
            Event::HookEnded { hook, pid, instead } => {
                let bit = 1_u16.wrapping_shl(hook.index());
                self.hooks &= !bit;
                let again = self.hooks_again & bit != 0;
                self.hooks_again &= !bit;
                let done = self.hook_ended(hook, pid, instead);
                if again && self.running().is_some() {
                    done.and(self.hook(hook, self.running()))
                } else {
                    done
                }
            }
            Event::Patience(patience) => {
                let until = patience.map(|patience| now.at.saturating_add(patience));
                self.late_at = earlier(self.late_at, until.filter(|_| self.pid().is_some()));
                Actions::default()
            }
            Event::RunChanged { down } => {
                if !self.waits_for_run() {
                    return Actions::default();
                }
                // Whoever makes a service directory under a running supervisor writes `down` no later than
                // `run`, so it is looked at again before the very first start.
                if down && !self.ran && self.want == Want::Up {
                    self.want = Want::Down;
                }
                self.run_unusable = false;
                self.not_before = now.at;
                [Action::Publish].into()
            }
        }
    }

    fn command(&mut self, now: Now, command: Command) -> Actions {
        match command {
            // It ends, and whoever tells it to end is not held up.
            Command::Up | Command::Once if self.held => Actions::default(),
            // Nor does who has the FIFO take that back.
            Command::Down if self.held && self.want == Want::Exit => Actions::default(),
            Command::Up => {
                self.want = Want::Up;
                self.once = false;
                Actions::from([Action::Publish]).and(self.start_if_due(now))
            }
            Command::Once => {
                self.want = Want::Down;
                self.once = matches!(self.state, State::Down | State::Preparing);
                Actions::from([Action::Publish]).and(self.start_if_due(now))
            }
            Command::Down | Command::Exit => {
                self.want = if command == Command::Exit { Want::Exit } else { Want::Down };
                self.once = false;
                Actions::from([Action::Publish]).and(self.end())
            }
            Command::Restart => {
                self.restart = self.running().is_some();
                self.end()
            }
            Command::Term => self.signal(Signal::TERM),
            Command::Kill => self.signal(Signal::KILL),
            Command::Send(signal) => self.signal(signal),
            Command::Pause | Command::Continue => {
                let pause = command == Command::Pause;
                match self.state {
                    State::Running(_) => self.signal(if pause { Signal::STOP } else { Signal::CONT }),
                    State::Down | State::Preparing | State::Finishing(..) => {
                        self.paused = pause;
                        [Action::Publish].into()
                    }
                }
            }
        }
    }

    /// Tells `./run` to end; from now on its time is counted.
    fn end(&mut self) -> Actions {
        match self.running() {
            Some(_) => Actions::from([Action::Patience(Script::Run)]).and(self.signal(Signal::TERM)),
            None => Actions::default(),
        }
    }

    /// A signal goes to `./run` only, and only if its hook does not stand in for it.
    fn signal(&mut self, signal: Signal) -> Actions {
        match self.state {
            State::Running(pid) => {
                // Only what is sent to end it: a service that survived HUP and crashes later crashed by itself.
                self.asked |= matches!(signal, Signal::TERM | Signal::KILL);
                match Hook::instead_of(signal) {
                    Some(hook) => self.hook(hook, Some(pid)),
                    None => [Action::Signal(pid, signal)].into(),
                }
            }
            State::Down | State::Preparing | State::Finishing(..) => Actions::default(),
        }
    }

    /// Runs a hook; one that still runs is run again afterwards.
    fn hook(&mut self, hook: Hook, pid: Option<Pid>) -> Actions {
        let bit = 1_u16.wrapping_shl(hook.index());
        if self.hooks & bit != 0 {
            self.hooks_again |= bit;
            return Actions::default();
        }
        self.hooks |= bit;
        [Action::Hook(hook, pid)].into()
    }

    fn hook_ended(&mut self, hook: Hook, pid: Option<Pid>, instead: bool) -> Actions {
        let mine = self.running().filter(|&running| pid == Some(running));
        let send =
            mine.filter(|_| !instead).zip(hook.signal()).map(|(pid, signal)| Action::Signal(pid, signal));
        match hook {
            Hook::Up => match self.state {
                State::Preparing if self.is_to_start() => [Action::Start(Script::Run)].into(),
                State::Preparing => {
                    self.state = State::Down;
                    [Action::Publish].into()
                }
                State::Down | State::Running(_) | State::Finishing(..) => Actions::default(),
            },
            Hook::Down | Hook::Exit => Actions::default(),
            Hook::Term => {
                let ends = std::mem::take(&mut self.restart) || self.want != Want::Up;
                let sent = mine
                    .filter(|_| !instead)
                    .map(|pid| if ends { Action::End(pid) } else { Action::Signal(pid, Signal::TERM) });
                self.term |= sent.is_some();
                let mut actions = sent.map_or_else(Actions::default, |sent| [sent, Action::Publish].into());
                let after = match self.want {
                    Want::Up => return actions,
                    Want::Down => Hook::Down,
                    Want::Exit => Hook::Exit,
                };
                if mine.is_none() && self.running().is_some() {
                    // It was meant for a process before this one.
                    return actions;
                }
                if let Some(pid) = mine {
                    actions = actions.then(Action::Signal(pid, Signal::CONT));
                }
                actions.and(self.hook(after, mine))
            }
            Hook::Stop | Hook::Cont => {
                if mine.is_none() {
                    return Actions::default();
                }
                self.paused = hook == Hook::Stop;
                send.map_or_else(Actions::default, |sent| [sent].into()).then(Action::Publish)
            }
            Hook::Alrm | Hook::Hup | Hook::Int | Hook::Kill | Hook::Quit | Hook::Usr1 | Hook::Usr2 => {
                send.map_or_else(Actions::default, |sent| [sent].into())
            }
        }
    }

    const fn running(&self) -> Option<Pid> {
        match self.state {
            State::Running(pid) => Some(pid),
            State::Down | State::Preparing | State::Finishing(..) => None,
        }
    }

    fn tick(&mut self, now: Now) -> Actions {
        let said = match self.said {
            Some(said) if self.unsaid > 0 && now.at >= said.saturating_add(SAY_AGAIN) => {
                let (how, uptime) = self.last_end;
                let more = self.unsaid.saturating_sub(1);
                self.unsaid = 0;
                self.said = Some(now.at);
                Actions::from([Action::Say { how, uptime, more }])
            }
            _ => Actions::default(),
        };
        let late = self.late_at.is_some_and(|at| now.at >= at);
        match self.state {
            State::Running(pid) if late => {
                (self.late_at, self.asked) = (None, true);
                said.then(Action::Late(pid, Script::Run))
            }
            State::Finishing(how, Some(pid)) if late => {
                self.late_at = None;
                said.then(Action::Late(pid, Script::Finish(how)))
            }
            State::Finishing(how, None) if now.at >= self.not_before => {
                said.then(Action::Start(Script::Finish(how)))
            }
            State::Down => said.and(self.start_if_due(now)),
            State::Preparing | State::Running(_) | State::Finishing(..) => said,
        }
    }

    fn start_if_due(&mut self, now: Now) -> Actions {
        if self.state == State::Down && self.is_to_start() && now.at >= self.not_before {
            self.state = State::Preparing;
            self.hook(Hook::Up, None)
        } else {
            Actions::default()
        }
    }

    fn has_started(&mut self, now: Now, pid: Pid) -> Actions {
        match self.state {
            State::Preparing => {
                self.state = State::Running(pid);
                self.since = now.stamp;
                self.started = now.at;
                self.ran = true;
                self.run_unusable = false;
                (self.once, self.paused, self.term) = (false, false, false);
                (self.asked, self.restart, self.late_at) = (false, false, None);
                [Action::Publish].into()
            }
            State::Finishing(how, _) => {
                self.state = State::Finishing(how, Some(pid));
                [Action::Publish, Action::Patience(Script::Finish(how))].into()
            }
            State::Down | State::Running(_) => Actions::default(),
        }
    }

    fn run_ended(&mut self, now: Now, how: Ended, finish: bool) -> Actions {
        self.term = false;
        self.late_at = None;
        if finish {
            self.state = State::Finishing(how, None);
            [Action::Publish, Action::Start(Script::Finish(how))].into()
        } else {
            self.went_down(now)
        }
    }

    fn went_down(&mut self, now: Now) -> Actions {
        self.state = State::Down;
        self.term = false;
        self.late_at = None;
        self.since = now.stamp;
        self.not_before =
            if self.started.saturating_add(PACE) > now.at { now.at.saturating_add(PACE) } else { now.at };
        Actions::from([Action::Publish]).and(self.start_if_due(now))
    }

    /// `./run` ended and nobody had asked for that.
    fn ended_alone(&mut self, now: Now, how: Ended) -> Actions {
        let first = self.ends.last().copied().flatten();
        self.ends.rotate_right(1);
        if let Some(latest) = self.ends.first_mut() {
            *latest = Some(now.at);
        }
        let left = first.map(|first| first.saturating_add(FLAPPING).since(now.at));
        let alone = self.say(now, how).then(Action::OnItsOwn(how));
        match left {
            Some(left) if left > Duration::ZERO => alone.then(Action::Flaps(left)),
            _ => alone,
        }
    }

    fn say(&mut self, now: Now, how: Ended) -> Actions {
        if how == Ended::Code(0) {
            return Actions::default();
        }
        let uptime = now.at.since(self.started);
        if self.said.is_some_and(|said| now.at < said.saturating_add(SAY_AGAIN)) {
            self.unsaid = self.unsaid.saturating_add(1);
            self.last_end = (how, uptime);
            return Actions::default();
        }
        let more = self.unsaid;
        self.unsaid = 0;
        self.said = Some(now.at);
        [Action::Say { how, uptime, more }].into()
    }
}

#[cfg(test)]
mod tests;
