//! A kernel for one service: children obey at once, but news of it comes later.

use std::collections::VecDeque;

use super::super::*;
use super::REPORT_EVERY;
use crate::Signal;
use crate::control::Command;
use crate::tai::stamp;

/// The service, its child process, and the clock.
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) machine: Machine,
    /// The process, whether it is `./finish`, and how it ended if it has.
    pub(super) child: Option<(Pid, bool, Option<Ended>)>,
    /// Events that the machine has not got yet.
    pub(super) news: VecDeque<Event>,
    pub(super) next_pid: i32,
    pub(super) has_finish: bool,
    /// Every hook exists, and runs until the machine gets the news of its end.
    pub(super) has_hooks: bool,
    pub(super) hooks_running: u16,
    pub(super) last_start: Option<Moment>,
    pub(super) last_end: Moment,
    pub(super) last_run_started: Moment,
    pub(super) starts: u32,
    /// `o` was given to a service that was down.
    pub(super) once: bool,
    pub(super) reports: Vec<Moment>,
    /// What the machine gets when it asks for a timeout.
    pub(super) timeout: Option<Duration>,
    /// The process ignores its down signal.
    pub(super) stubborn: bool,
    /// What was sent to end the process, a letter each: `e` its down signal, `t` TERM, `l` KILL because it was overdue.
    pub(super) sent: String,
    pub(super) flapping: Vec<Duration>,
    pub(super) unexpected: u32,
    /// What the services that it needs are when it asks.
    pub(super) needs_are_met: bool,
    pub(super) asked_needs: u32,
    /// What was reported about policies.
    pub(super) told: Vec<String>,
    /// The rule about the pause between two starts holds.
    pub(super) paced: bool,
    /// Rules that were broken.
    pub(super) broken: Vec<String>,
}

impl World {
    pub(super) fn new(has_finish: bool, has_hooks: bool) -> Self {
        let now = Moment::from_start(Duration::from_secs(100));
        World {
            now,
            machine: Machine::new(Now { at: now, stamp: stamp(100, 0) }, Want::Up),
            child: None,
            news: VecDeque::new(),
            next_pid: 100,
            has_finish,
            has_hooks,
            hooks_running: 0,
            last_start: None,
            last_end: Moment::START,
            last_run_started: Moment::START,
            starts: 0,
            once: false,
            reports: Vec::new(),
            timeout: None,
            stubborn: false,
            sent: String::new(),
            flapping: Vec::new(),
            unexpected: 0,
            needs_are_met: true,
            asked_needs: 0,
            told: Vec::new(),
            paced: true,
            broken: Vec::new(),
        }
    }

    fn rule(&mut self, holds: bool, what: &str) {
        if !holds {
            self.broken.push(what.to_owned());
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let now =
            Now { at: self.now, stamp: stamp(i64::try_from(self.now.since_start().as_secs()).unwrap(), 0) };
        let actions = self.machine.step(now, event);
        for action in actions {
            if let Some(event) = self.perform(action) {
                self.handle(event);
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Publish => None,
            Action::AskNeeds => {
                self.asked_needs += 1;
                Some(Event::Needs(self.needs_are_met))
            }
            Action::ReportNotReady(_) => {
                self.told.push("not ready".to_owned());
                None
            }
            Action::ReportNotAlive(_) => {
                self.told.push("not alive".to_owned());
                None
            }
            Action::ReportFailing => {
                self.told.push("failing".to_owned());
                None
            }
            Action::ReportGivenUp(reason) => {
                self.told.push(reason.in_words());
                None
            }
            Action::ReportExit(_) => {
                let at = self.now;
                let apart = self.reports.last().is_none_or(|&last| at >= last + REPORT_EVERY);
                self.rule(apart, "reported twice within ten seconds");
                self.reports.push(at);
                None
            }
            Action::Start(script) => {
                self.rule(self.child.is_none(), "started beside a child");
                if script == Script::Run {
                    let last_lived_long = self.last_end >= self.last_run_started + PACE;
                    let paced =
                        self.last_start.is_none() || last_lived_long || self.now >= self.last_end + PACE;
                    self.rule(paced || !self.paced, "started again too soon");
                    let wanted = self.machine.want() == Want::Up || std::mem::take(&mut self.once);
                    self.rule(wanted, "started what nobody wanted");
                    self.last_start = Some(self.now);
                    self.last_run_started = self.now;
                    self.starts += 1;
                }
                self.next_pid += 1;
                let pid = Pid::from_raw(self.next_pid).unwrap();
                self.child = Some((pid, script != Script::Run, None));
                Some(Event::Started(pid))
            }
            Action::Hook(hook, target) => {
                let bit = 1 << hook.index();
                self.rule(self.hooks_running & bit == 0, "ran a hook twice at a time");
                if self.has_hooks {
                    self.hooks_running |= bit;
                    // Every second one stands in for its signal.
                    let instead = self.next_pid % 2 == 0;
                    self.news.push_back(Event::HookEnded { hook, pid: target, instead });
                    None
                } else {
                    Some(Event::HookEnded { hook, pid: target, instead: false })
                }
            }
            Action::AskTimeout(_) => Some(Event::Timeout(self.timeout)),
            Action::NoteUnexpectedExit(..) => {
                self.unexpected += 1;
                None
            }
            Action::MarkFlapping(time) => {
                self.flapping.push(time);
                None
            }
            Action::SendDownSignal(pid) => {
                self.rule(
                    self.child.is_some_and(|(child, finish, _)| child == pid && !finish),
                    "sent a down signal to another process",
                );
                self.sent.push('e');
                if !self.stubborn {
                    self.end(Ended::Signal { signal: Signal::QUIT, core: false });
                }
                None
            }
            Action::KillOverdue(pid, script) => {
                let finish = script != Script::Run;
                let mine =
                    self.child.is_some_and(|(child, is_finish, _)| child == pid && is_finish == finish);
                self.rule(mine, "killed another process");
                self.sent.push('l');
                self.end(Ended::Signal { signal: Signal::KILL, core: false });
                None
            }
            Action::Send(pid, signal) => {
                if signal == Signal::TERM {
                    self.sent.push('t');
                }
                let mine = self.child.is_some_and(|(child, finish, _)| child == pid && !finish);
                self.rule(mine, "signalled another process, or ./finish");
                let signal = match signal {
                    Signal::STOP | Signal::CONT => return None,
                    Signal::KILL | Signal::ABRT => signal,
                    _ => Signal::TERM,
                };
                self.end(Ended::Signal { signal, core: false });
                None
            }
        }
    }

    /// The process ends; the machine gets to know it later.
    pub(super) fn end(&mut self, how: Ended) {
        if let Some((pid, finish, ended @ None)) = &mut self.child {
            *ended = Some(how);
            let event = Event::Ended { pid: *pid, how, finish: self.has_finish && !*finish };
            self.news.push_back(event);
        }
    }

    /// Passes the oldest event to the machine.
    pub(super) fn news(&mut self) {
        let Some(event) = self.news.pop_front() else { return };
        match event {
            Event::Ended { .. } => {
                self.child = None;
                self.last_end = self.now;
            }
            Event::HookEnded { hook, .. } => self.hooks_running &= !(1 << hook.index()),
            _ => {}
        }
        self.handle(event);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.machine.next_tick().is_some_and(|at| self.now >= at) {
            self.handle(Event::Tick);
        }
    }

    /// Waits until nothing happens any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            while !self.news.is_empty() {
                self.news();
            }
            if self.child.is_some_and(|(_, finish, _)| finish) {
                self.end(Ended::Code(0));
                continue;
            }
            match self.machine.next_tick() {
                Some(at) => self.pass(at.since(self.now)),
                None => return,
            }
        }
    }

    pub(super) fn play(&mut self, letter: char) {
        match letter {
            '.' => self.news(),
            '-' => self.pass(Duration::from_millis(300)),
            '!' => self.end(Ended::Code(1)),
            '?' => {
                let other = Pid::from_raw(9).unwrap();
                self.handle(Event::Ended { pid: other, how: Ended::Code(0), finish: self.has_finish });
            }
            letter => {
                if "udxo".contains(letter) {
                    self.once = letter == 'o' && self.machine.status().state == status::State::Down;
                }
                if let Some(command) = u8::try_from(letter).ok().and_then(Command::from_byte) {
                    self.handle(Event::Command(command));
                }
            }
        }
    }
}
