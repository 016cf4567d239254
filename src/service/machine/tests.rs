//! The machine in a world of words: children obey at once, but news of it comes later.
#![allow(clippy::arithmetic_side_effects, reason = "the numbers of a test are small")]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::tai::stamp;

/// A kernel for one service.
struct World {
    now: Moment,
    machine: Machine,
    /// The child, whether it is `./finish`, and how it ended if it did.
    child: Option<(Pid, bool, Option<Ended>)>,
    /// What the machine is still to be told.
    news: VecDeque<Event>,
    next_pid: i32,
    has_finish: bool,
    /// Hooks exist: they run until news of their end is told.
    has_hooks: bool,
    hooks_running: u16,
    last_start: Option<Moment>,
    last_end: Moment,
    last_run_started: Moment,
    starts: u32,
    /// `o` was given to a service that was down.
    once: bool,
    said: Vec<Moment>,
    /// How long a script has to end once it is told to, or has begun.
    patience: Option<Duration>,
    /// The child takes no notice of being told to end.
    stubborn: bool,
    /// What it was told to end by, a letter each: `e` its own signal, `t` TERM, `l` KILL because it was late.
    told: String,
    flaps: Vec<Duration>,
    alone: u32,
    /// Rules that were broken.
    broken: Vec<String>,
}

impl World {
    fn new(has_finish: bool, has_hooks: bool) -> Self {
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
            said: Vec::new(),
            patience: None,
            stubborn: false,
            told: String::new(),
            flaps: Vec::new(),
            alone: 0,
            broken: Vec::new(),
        }
    }

    fn rule(&mut self, holds: bool, what: &str) {
        if !holds {
            self.broken.push(what.to_owned());
        }
    }

    fn tell(&mut self, event: Event) {
        let now =
            Now { at: self.now, stamp: stamp(i64::try_from(self.now.since_start().as_secs()).unwrap(), 0) };
        let actions = self.machine.step(now, event);
        for action in actions {
            if let Some(event) = self.perform(action) {
                self.tell(event);
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Publish => None,
            Action::Say { .. } => {
                let at = self.now;
                let apart = self.said.last().is_none_or(|&last| at >= last + SAY_AGAIN);
                self.rule(apart, "said twice within ten seconds");
                self.said.push(at);
                None
            }
            Action::Start(script) => {
                self.rule(self.child.is_none(), "started beside a child");
                if script == Script::Run {
                    let last_lived_long = self.last_end >= self.last_run_started + PACE;
                    let paced =
                        self.last_start.is_none() || last_lived_long || self.now >= self.last_end + PACE;
                    self.rule(paced, "started again too soon");
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
                    // Suppresses or not by turns.
                    let instead = self.next_pid % 2 == 0;
                    self.news.push_back(Event::HookEnded { hook, pid: target, instead });
                    None
                } else {
                    Some(Event::HookEnded { hook, pid: target, instead: false })
                }
            }
            Action::Patience(_) => Some(Event::Patience(self.patience)),
            Action::OnItsOwn(_) => {
                self.alone += 1;
                None
            }
            Action::Flaps(left) => {
                self.flaps.push(left);
                None
            }
            Action::End(pid) => {
                self.rule(
                    self.child.is_some_and(|(child, finish, _)| child == pid && !finish),
                    "ended a stranger",
                );
                self.told.push('e');
                if !self.stubborn {
                    self.end(Ended::Signal { number: 3, core: false });
                }
                None
            }
            Action::Late(pid, script) => {
                let finish = script != Script::Run;
                let mine =
                    self.child.is_some_and(|(child, is_finish, _)| child == pid && is_finish == finish);
                self.rule(mine, "killed a stranger");
                self.told.push('l');
                self.end(Ended::Signal { number: 9, core: false });
                None
            }
            Action::Signal(pid, signal) => {
                if signal == Signal::TERM {
                    self.told.push('t');
                }
                let mine = self.child.is_some_and(|(child, finish, _)| child == pid && !finish);
                self.rule(mine, "signalled a stranger, or ./finish");
                let number = match signal {
                    Signal::STOP | Signal::CONT => return None,
                    Signal::KILL => 9,
                    _ => 15,
                };
                self.end(Ended::Signal { number, core: false });
                None
            }
        }
    }

    /// The child ends; word of it comes later.
    fn end(&mut self, how: Ended) {
        if let Some((pid, finish, ended @ None)) = &mut self.child {
            *ended = Some(how);
            let event = Event::Ended { pid: *pid, how, finish: self.has_finish && !*finish };
            self.news.push_back(event);
        }
    }

    /// Tells the oldest news.
    fn news(&mut self) {
        let Some(event) = self.news.pop_front() else { return };
        match event {
            Event::Ended { .. } => {
                self.child = None;
                self.last_end = self.now;
            }
            Event::HookEnded { hook, .. } => self.hooks_running &= !(1 << hook.index()),
            _ => {}
        }
        self.tell(event);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.machine.deadline().is_some_and(|at| self.now >= at) {
            self.tell(Event::Tick);
        }
    }

    /// Lets everything that was begun come to its end, a child that obeys signals included.
    fn settle(&mut self) {
        for _ in 0..200 {
            while !self.news.is_empty() {
                self.news();
            }
            if self.child.is_some_and(|(_, finish, _)| finish) {
                self.end(Ended::Code(0));
                continue;
            }
            match self.machine.deadline() {
                Some(at) => self.pass(at.since(self.now)),
                None => return,
            }
        }
    }

    fn play(&mut self, letter: char) {
        match letter {
            '.' => self.news(),
            '-' => self.pass(Duration::from_millis(300)),
            '!' => self.end(Ended::Code(1)),
            '?' => {
                let stranger = Pid::from_raw(9).unwrap();
                self.tell(Event::Ended { pid: stranger, how: Ended::Code(0), finish: self.has_finish });
            }
            letter => {
                if "udxo".contains(letter) {
                    self.once = letter == 'o' && self.machine.status().state == status::State::Down;
                }
                if let Some(command) = u8::try_from(letter).ok().and_then(Command::from_byte) {
                    self.tell(Event::Command(command));
                }
            }
        }
    }
}

fn played(script: &str, has_finish: bool, has_hooks: bool) -> World {
    let mut world = World::new(has_finish, has_hooks);
    world.tell(Event::Tick);
    script.chars().for_each(|letter| world.play(letter));
    world
}

fn state(world: &World) -> (status::State, Want) {
    (world.machine.status().state, world.machine.want())
}

#[test]
fn a_service_that_ran_long_is_started_again_at_once() {
    let mut world = played("----!", false, false);
    world.news();
    assert_eq!((world.starts, world.machine.deadline()), (2, None));
}

#[test]
fn a_service_that_ended_soon_is_started_again_a_second_after_its_end() {
    let mut world = played("--!", false, false);
    world.news();
    assert_eq!(world.starts, 1);
    // The other deadline is that of what is said; none is due, since one line was said at once.
    assert_eq!(world.machine.deadline(), Some(world.now + PACE));
    world.pass(Duration::from_millis(999));
    assert_eq!(world.starts, 1);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.starts, 2);
}

#[test]
fn the_time_that_finish_takes_counts() {
    let mut world = played("!.", true, false);
    assert_eq!(state(&world), (status::State::Finish, Want::Up));
    world.pass(Duration::from_secs(2));
    world.end(Ended::Code(0));
    world.news();
    assert_eq!((world.starts, state(&world).0), (2, status::State::Run));
}

#[test]
fn once_ends_for_good() {
    let mut world = played("d", false, false);
    world.settle();
    world.play('o');
    world.settle();
    assert_eq!(state(&world), (status::State::Run, Want::Down));
    world.end(Ended::Code(0));
    world.settle();
    assert_eq!((world.starts, state(&world)), (2, (status::State::Down, Want::Down)));
}

#[test]
fn once_of_a_running_service_only_changes_what_is_wanted() {
    let world = played("o", false, false);
    assert_eq!((world.starts, state(&world)), (1, (status::State::Run, Want::Down)));
}

#[test]
fn kill_during_finish_does_nothing() {
    let world = played("!.kth", true, false);
    assert_eq!(state(&world).0, status::State::Finish);
    assert_eq!(world.broken, [] as [&str; 0]);
}

#[test]
fn term_is_shown_until_the_process_ends() {
    let mut world = played("t", false, false);
    assert!(world.machine.status().term);
    world.news();
    assert!(!world.machine.status().term);
}

#[test]
fn a_hook_that_exits_0_stands_in_for_the_signal() {
    let mut world = played("", false, true);
    // The start waits for control/u.
    assert_eq!(world.starts, 0);
    world.news();
    assert_eq!(world.starts, 1);
    world.play('t');
    assert!(world.child.unwrap().2.is_none(), "signalled before the hook ended");
    let Some(Event::HookEnded { hook, pid, .. }) = world.news.pop_front() else { panic!("no hook") };
    world.hooks_running = 0;
    world.tell(Event::HookEnded { hook, pid, instead: true });
    assert!(world.child.unwrap().2.is_none() && !world.machine.status().term);
}

#[test]
fn a_command_given_while_its_hook_runs_is_done_after_it() {
    let mut world = played(".p", false, true);
    world.play('p');
    assert_eq!(world.news.len(), 1, "a hook ran twice at a time");
    world.news();
    assert_eq!(world.news.len(), 1, "the second request was lost");
}

#[test]
fn down_while_control_u_runs_prevents_the_start() {
    let mut world = played("d", false, true);
    world.settle();
    assert_eq!((world.starts, state(&world)), (0, (status::State::Down, Want::Down)));
}

#[test]
fn a_failed_fork_is_tried_again_after_five_seconds() {
    let mut world = World::new(false, false);
    let now = Now { at: world.now, stamp: stamp(0, 0) };
    let _ = world.machine.step(now, Event::Tick);
    let _ = world.machine.step(now, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
    let _ = world.machine.step(now, Event::NoProcess);
    assert_eq!(world.machine.deadline(), Some(now.at + NO_PROCESS));
    world.pass(NO_PROCESS);
    assert_eq!(world.starts, 1);
}

#[test]
fn run_that_cannot_be_executed_counts_as_exit_111() {
    let mut machine = Machine::new(Now { at: Moment::START + PACE, stamp: stamp(0, 0) }, Want::Up);
    let now = Now { at: Moment::START + PACE, stamp: stamp(0, 0) };
    let _ = machine.step(now, Event::Tick);
    let _ = machine.step(now, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
    let actions: Vec<Action> = machine.step(now, Event::NotStarted { finish: true }).into_iter().collect();
    let how = Ended::Code(111);
    assert_eq!(actions, [Action::OnItsOwn(how), Action::Publish, Action::Start(Script::Finish(how))]);
}

#[test]
fn only_what_is_to_end_gets_the_signal_for_that() {
    for (letter, told) in [("d", "e"), ("x", "e"), ("t", "t"), ("k", "")] {
        assert_eq!(played(letter, false, false).told, told, "{letter}");
    }
    let mut world = played("", false, false);
    world.tell(Event::Command(Command::Restart));
    assert_eq!(world.told, "e");
    world.news();
    world.pass(PACE);
    // The next TERM is for another process, and is only that.
    world.play('t');
    assert_eq!((world.told.as_str(), world.starts), ("et", 2));
}

/// Up, deaf to its signal, and killed two seconds after it was told to end.
fn stubborn(script: &str, has_finish: bool) -> World {
    let mut world = World::new(has_finish, false);
    (world.patience, world.stubborn) = (Some(Duration::from_secs(2)), true);
    world.tell(Event::Tick);
    script.chars().for_each(|letter| world.play(letter));
    world
}

#[test]
fn what_does_not_end_in_its_time_is_killed_and_not_before() {
    for script in ["d", "x"] {
        let mut world = stubborn(script, false);
        world.pass(Duration::from_millis(1999));
        assert_eq!(world.told, "e");
        // Told again, it has no more time for that.
        world.play('d');
        world.pass(Duration::from_millis(1));
        assert_eq!(world.told, "eel");
        world.settle();
        assert_eq!(state(&world).0, status::State::Down);
        assert_eq!(world.alone, 0, "that it ended was asked for");
    }
    // TERM as such is a signal like others.
    let mut world = stubborn("", false);
    world.tell(Event::Command(Command::Term));
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn finish_has_its_own_time() {
    let mut world = stubborn("!.", true);
    assert_eq!(world.machine.deadline(), Some(world.now + Duration::from_secs(2)));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.told, "l");
    world.news();
    assert_eq!((state(&world).0, world.starts), (status::State::Run, 2));
    assert_eq!(world.machine.deadline(), None, "the time is over with what it was for");
}

#[test]
fn what_is_held_is_not_started_again_whatever_is_typed() {
    for script in ["!.", "t.", "k.o", "d.u", "u!.u"] {
        for has_hooks in [false, true] {
            let mut world = played(".", false, has_hooks);
            world.machine.hold();
            script.chars().for_each(|letter| world.play(letter));
            world.settle();
            world.end(Ended::Code(0));
            world.settle();
            assert_eq!((world.starts, state(&world).0), (1, status::State::Down), "{script}");
        }
    }
    // What tells it to exit is not held up by that.
    let mut world = played("", false, false);
    world.machine.hold();
    "xu".chars().for_each(|letter| world.play(letter));
    world.settle();
    assert_eq!(state(&world), (status::State::Down, Want::Exit));
    // In its second of delay, and while control/u runs.
    let mut world = played("!.", false, false);
    world.machine.hold();
    assert_eq!(world.machine.deadline(), None);
    let mut world = played("", false, true);
    world.machine.hold();
    world.settle();
    assert_eq!((world.starts, state(&world).0), (0, status::State::Down));
}

#[test]
fn more_than_three_ends_in_a_minute_are_flapping_unless_they_were_asked_for() {
    let mut world = played("", false, false);
    let mut end = |script: &str| {
        script.chars().for_each(|letter| world.play(letter));
        world.settle();
        world.pass(Duration::from_secs(10));
        world.flaps.clone()
    };
    for script in ["!", "!", "!", "k", "t"] {
        assert_eq!(end(script), [], "{script}");
    }
    // The fourth, fifty seconds after the first; that one counts for ten seconds more, less the first pauses.
    assert_eq!(end("!").len(), 1);
    let mut world = played("", false, false);
    for _ in 0..6 {
        world.end(Ended::Code(0));
        world.news();
        world.pass(Duration::from_secs(20));
    }
    assert_eq!(world.flaps, [], "one in twenty seconds");
}

#[test]
fn an_end_nobody_asked_for_is_said_and_repeated_ones_are_counted() {
    let mut world = played("", false, false);
    for _ in 0..25 {
        world.end(Ended::Code(1));
        world.news();
        world.pass(PACE);
    }
    // At 0, 10 and 20 seconds; the four after that are told when their ten seconds are over.
    assert_eq!(world.said.len(), 3);
    world.play('d');
    world.settle();
    assert_eq!(world.said.len(), 4);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn an_end_that_was_asked_for_is_not_said() {
    for script in ["t.", "d.", "k.", "x."] {
        assert_eq!(played(script, false, false).said.len(), 0, "{script}");
    }
    // These need not end it, so its end some time later is one by itself.
    for script in ["h.", "i.", "q.", "a.", "1.", "2."] {
        assert_eq!(played(script, false, false).said.len(), 1, "{script}");
    }
    let mut world = played("", false, false);
    world.end(Ended::Code(0));
    world.news();
    assert_eq!(world.said.len(), 0, "exit 0");
}

#[test]
fn a_run_file_that_appears_is_tried_at_once_and_a_down_file_with_it_counts() {
    let mut machine = Machine::new(Now { at: Moment::START + PACE, stamp: stamp(0, 0) }, Want::Up);
    let now = Now { at: Moment::START + PACE, stamp: stamp(0, 0) };
    let _ = machine.step(now, Event::Tick);
    let _ = machine.step(now, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
    let _ = machine.step(now, Event::NotStarted { finish: false });
    assert!(machine.waits_for_run());
    let mut other = machine.clone();
    let _ = machine.step(now, Event::RunChanged { down: false });
    assert_eq!(machine.deadline(), Some(now.at));
    let _ = other.step(now, Event::RunChanged { down: true });
    assert_eq!((other.deadline(), other.want()), (None, Want::Down));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is typed, however late the news (`.`) comes, whenever the service (`!`) or a stranger (`?`) ends: no
    /// rule is broken, and in the end the service is what was last asked for.
    #[test]
    fn no_sequence_breaks_the_rules(
        script in r"([udoxtkpchaiq12!?\-]\.{0,3}){0,60}",
        last in "[udx]",
        has_finish: bool,
        has_hooks: bool,
    ) {
        let mut world = played(&script, has_finish, has_hooks);
        let letter = last.chars().next().unwrap();
        world.play(letter);
        // A signal that a hook stood in for was not sent: such a service is ended from outside.
        for _ in 0..4 {
            world.settle();
            if letter != 'u' && world.child.is_some() {
                world.end(Ended::Code(0));
            }
        }
        prop_assert_eq!(&world.broken, &[] as &[&str]);
        let expected = match letter {
            'u' => (status::State::Run, Want::Up),
            'd' => (status::State::Down, Want::Down),
            _ => (status::State::Down, Want::Exit),
        };
        prop_assert_eq!(state(&world), expected);
    }

    /// The status never contradicts itself.
    #[test]
    fn the_status_is_consistent(script in r"([udoxtkpc!\-]\.{0,3}){0,40}", has_finish: bool, has_hooks: bool) {
        let mut world = World::new(has_finish, has_hooks);
        world.tell(Event::Tick);
        for letter in script.chars() {
            world.play(letter);
            let status = world.machine.status();
            prop_assert!((status.state == status::State::Run) <= status.pid.is_some());
            prop_assert!((status.state == status::State::Down) <= (status.pid.is_none() && !status.term));
            prop_assert!(status.term <= (status.state == status::State::Run));
            prop_assert_eq!(status.pid, world.child.map(|(pid, _, _)| pid));
        }
    }
}
