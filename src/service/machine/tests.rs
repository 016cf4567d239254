//! The machine against a simulated kernel.
#![allow(clippy::arithmetic_side_effects, reason = "the numbers of a test are small")]

mod policies;
mod properties;
mod world;

use super::unexpected::REPORT_EVERY;
use super::*;
use crate::control::Command;
use crate::service::step::Notice;
use crate::tai::stamp;
use world::World;

fn played(script: &str, has_finish: bool, has_hooks: bool) -> World {
    let mut world = World::new(has_finish, has_hooks);
    world.handle(Event::Tick);
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
    assert_eq!((world.starts, world.machine.next_tick()), (2, None));
}

#[test]
fn a_service_that_ended_soon_is_started_again_a_second_after_its_end() {
    let mut world = played("--!", false, false);
    world.news();
    assert_eq!(world.starts, 1);
    // No report is due, since the exit was reported at once.
    assert_eq!(world.machine.next_tick(), Some(world.now + PACE));
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
    world.handle(Event::HookEnded { hook, pid, instead: true });
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
    assert_eq!(world.machine.next_tick(), Some(now.at + NO_PROCESS));
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
    assert_eq!(
        actions,
        [
            Action::NoteUnexpectedExit(how, Duration::ZERO),
            Action::Publish,
            Action::Start(Script::Finish(how))
        ]
    );
}

#[test]
fn only_what_is_to_end_gets_the_signal_for_that() {
    for (letter, told) in [("d", "e"), ("x", "e"), ("t", "t"), ("k", "")] {
        assert_eq!(played(letter, false, false).sent, told, "{letter}");
    }
    let mut world = played("", false, false);
    world.handle(Event::Command(Command::Restart));
    assert_eq!(world.sent, "e");
    world.news();
    world.pass(PACE);
    // The next TERM is for another process, and is only that.
    world.play('t');
    assert_eq!((world.sent.as_str(), world.starts), ("et", 2));
}

/// Up, ignores its down signal, and is killed two seconds after it got that.
fn stubborn(script: &str, has_finish: bool) -> World {
    let mut world = World::new(has_finish, false);
    (world.timeout, world.stubborn) = (Some(Duration::from_secs(2)), true);
    world.handle(Event::Tick);
    script.chars().for_each(|letter| world.play(letter));
    world
}

#[test]
fn what_does_not_end_in_its_time_is_killed_and_not_before() {
    for script in ["d", "x"] {
        let mut world = stubborn(script, false);
        world.pass(Duration::from_millis(1999));
        assert_eq!(world.sent, "e");
        // A second command does not prolong the timeout.
        world.play('d');
        world.pass(Duration::from_millis(1));
        assert_eq!(world.sent, "eel");
        world.settle();
        assert_eq!(state(&world).0, status::State::Down);
        assert_eq!(world.unexpected, 0, "that it ended was asked for");
    }
    // TERM as such is a signal like others.
    let mut world = stubborn("", false);
    world.handle(Event::Command(Command::Term));
    assert_eq!(world.machine.next_tick(), None);
}

#[test]
fn finish_has_its_own_time() {
    let mut world = stubborn("!.", true);
    assert_eq!(world.machine.next_tick(), Some(world.now + Duration::from_secs(2)));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.sent, "l");
    world.news();
    assert_eq!((state(&world).0, world.starts), (status::State::Run, 2));
    assert_eq!(world.machine.next_tick(), None, "the time is over with what it was for");
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
    // It can still be told to exit.
    let mut world = played("", false, false);
    world.machine.hold();
    "xu".chars().for_each(|letter| world.play(letter));
    world.settle();
    assert_eq!(state(&world), (status::State::Down, Want::Exit));
    // In its second of delay, and while control/u runs.
    let mut world = played("!.", false, false);
    world.machine.hold();
    assert_eq!(world.machine.next_tick(), None);
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
        world.flapping.clone()
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
    assert_eq!(world.flapping, [], "one in twenty seconds");
}

#[test]
fn an_end_nobody_asked_for_is_said_and_repeated_ones_are_counted() {
    let mut world = played("", false, false);
    for _ in 0..25 {
        world.end(Ended::Code(1));
        world.news();
        world.pass(PACE);
    }
    // At 0, 10 and 20 seconds; the four exits after that are reported when ten seconds are over.
    assert_eq!(world.reports.len(), 3);
    world.play('d');
    world.settle();
    assert_eq!(world.reports.len(), 4);
    assert_eq!(world.machine.next_tick(), None);
}

#[test]
fn an_end_that_was_asked_for_is_not_said() {
    for script in ["t.", "d.", "k.", "x."] {
        assert_eq!(played(script, false, false).reports.len(), 0, "{script}");
    }
    // These need not end it, so its end some time later is one by itself.
    for script in ["h.", "i.", "q.", "a.", "1.", "2."] {
        assert_eq!(played(script, false, false).reports.len(), 1, "{script}");
    }
    let mut world = played("", false, false);
    world.end(Ended::Code(0));
    world.news();
    assert_eq!(world.reports.len(), 0, "exit 0");
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
    assert_eq!(machine.next_tick(), Some(now.at));
    let _ = other.step(now, Event::RunChanged { down: true });
    assert_eq!((other.next_tick(), other.want()), (None, Want::Down));
}

/// A machine in the state that the table in the head of the module calls so.
fn in_state(name: &str) -> Machine {
    let now = Now { at: Moment::START + PACE, stamp: stamp(0, 0) };
    let mut machine = Machine::new(now, Want::Up);
    let pid = Pid::from_raw(7).unwrap();
    let hook = Event::HookEnded { hook: Hook::Up, pid: None, instead: false };
    let how = Ended::Code(1);
    let way = [Event::Tick, hook, Event::Started(pid), Event::Ended { pid, how, finish: true }];
    let steps = ["down", "preparing", "", "running", "finishing"].iter().position(|it| *it == name).unwrap();
    way.into_iter().take(steps).for_each(|event| drop(machine.step(now, event)));
    machine
}

#[test]
fn each_event_leads_where_the_table_says() {
    let name = |machine: &Machine| match machine.state {
        MachineState::Down(_) => "down",
        MachineState::Preparing(_) => "preparing",
        MachineState::Running(_) => "running",
        MachineState::Finishing(_) => "finishing",
    };
    let [pid, other] = [7, 8].map(|raw| Pid::from_raw(raw).unwrap());
    let how = Ended::Code(1);
    let ended = |finish| Event::Ended { pid, how, finish };
    let hook = |hook| Event::HookEnded { hook, pid: Some(pid), instead: false };
    let command = |byte| Event::Command(Command::from_byte(byte).unwrap());
    let stay = ["down", "preparing", "running", "finishing"];
    let table = [
        (Event::Tick, ["preparing", "preparing", "running", "finishing"]),
        (command(b'u'), ["preparing", "preparing", "running", "finishing"]),
        (command(b'o'), ["preparing", "preparing", "running", "finishing"]),
        (Event::Started(other), ["down", "running", "running", "finishing"]),
        (Event::NotStarted { finish: true }, ["down", "finishing", "running", "down"]),
        (Event::NotStarted { finish: false }, ["down", "down", "running", "down"]),
        (Event::NoProcess, ["down", "down", "running", "finishing"]),
        (ended(true), ["down", "preparing", "finishing", "finishing"]),
        (ended(false), ["down", "preparing", "down", "finishing"]),
        (Event::Ended { pid: other, how, finish: true }, stay),
        (hook(Hook::Up), stay),
        (Event::Timeout(Some(PACE)), stay),
        (Event::RunChanged { down: false }, stay),
        (Event::Command(Command::Restart), stay),
        (Event::Needs(true), stay),
        (Event::Notice(Notice::Ready), stay),
    ];
    let signals = "dxtkpcahiq12".bytes().map(|byte| (command(byte), stay));
    let hooks = [Hook::Down, Hook::Exit, Hook::Term, Hook::Stop, Hook::Cont, Hook::Hup];
    for (event, expected) in table.into_iter().chain(signals).chain(hooks.map(|it| (hook(it), stay))) {
        for (from, to) in stay.into_iter().zip(expected) {
            let mut machine = in_state(from);
            assert_eq!(name(&machine), from);
            let _ = machine.step(Now { at: Moment::START + PACE, stamp: stamp(0, 0) }, event);
            assert_eq!(name(&machine), to, "{event:?} in {from}");
        }
    }
    // `./finish` runs, and ends; `control/u` ends when nobody wants a start any more.
    let now = Now { at: Moment::START + PACE, stamp: stamp(0, 0) };
    let mut machine = in_state("finishing");
    let _ = machine.step(now, Event::Started(pid));
    let _ = machine.step(now, ended(false));
    assert_eq!(name(&machine), "down");
    let mut machine = in_state("preparing");
    let _ = machine.step(now, command(b'd'));
    let _ = machine.step(now, Event::HookEnded { hook: Hook::Up, pid: None, instead: false });
    assert_eq!(name(&machine), "down");
}
