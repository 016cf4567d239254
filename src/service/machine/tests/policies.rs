//! The policies, a table of events each, and what holds whatever happens.

use proptest::prelude::*;

use super::super::policies::ABORT_TIME;
use super::super::*;
use super::state;
use super::world::World;
use crate::Signal;
use crate::control::Command;
use crate::policy::{Restart, RestartDelay, RestartLimit};
use crate::service::step::Notice;
use crate::tai::stamp;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn restarting(restart: Restart, delay: Option<(u64, u64)>, limit: Option<(u16, u64)>) -> World {
    let delay = delay.map(|(min, max)| RestartDelay { min: MS(min), max: MS(max) });
    let limit = limit.map(|(ends, seconds)| RestartLimit { ends, window: Duration::from_secs(seconds) });
    let mut world = World::new(false, false);
    world.paced = false;
    world.machine.set_restart(Some(RestartPolicy { restart, delay, limit }));
    world.handle(Event::Tick);
    world
}

fn telling(timeout: Option<u64>, watchdog: Option<u64>, restart: Restart) -> World {
    let mut world = World::new(false, false);
    world.machine.set_restart(Some(RestartPolicy { restart, ..RestartPolicy::default() }));
    let (timeout, watchdog) = (timeout.map(MS), watchdog.map(MS));
    world.machine.set_ready(Some(ReadyPolicy { timeout, watchdog }));
    world.handle(Event::Tick);
    world
}

fn end(world: &mut World, how: Ended) {
    world.end(how);
    world.news();
}

fn given_up(world: &World) -> Option<String> {
    world.machine.facts().and_then(|facts| facts.given_up)
}

#[test]
fn what_follows_an_end() {
    let killed = Ended::Signal { signal: Signal::SEGV, core: false };
    // Policy, how it ends; whether it is started again, is done, is given up.
    for (restart, how, expected) in [
        (Restart::Always, Ended::Code(0), (true, false, false)),
        (Restart::Always, killed, (true, false, false)),
        (Restart::OnFailure, Ended::Code(0), (false, true, false)),
        (Restart::OnFailure, Ended::Code(1), (true, false, false)),
        (Restart::OnFailure, killed, (true, false, false)),
        (Restart::Never, Ended::Code(0), (false, true, false)),
        (Restart::Never, Ended::Code(1), (false, false, true)),
        (Restart::Never, killed, (false, false, true)),
    ] {
        let mut world = restarting(restart, None, None);
        end(&mut world, how);
        world.settle();
        let facts = world.machine.facts().unwrap();
        let outcome = (world.starts == 2, facts.done.is_some(), facts.given_up.is_some());
        assert_eq!(outcome, expected, "{restart:?} {how:?}");
        assert_eq!(world.machine.readiness() == Some(true), facts.done.is_some());
        // Whatever follows, `u` starts it.
        if world.starts == 1 {
            world.play('u');
            world.pass(PACE);
            assert_eq!((world.starts, state(&world)), (2, (status::State::Run, Want::Up)));
        }
    }
}

#[test]
fn an_end_that_was_asked_for_decides_nothing() {
    for restart in [Restart::OnFailure, Restart::Never] {
        let mut world = restarting(restart, None, Some((1, 60)));
        world.play('t');
        world.settle();
        assert_eq!((world.starts, world.told.len()), (2, 0));
        world.play('d');
        world.settle();
        assert_eq!((state(&world), given_up(&world)), ((status::State::Down, Want::Down), None));
    }
}

#[test]
fn the_pause_is_doubled_and_a_long_run_makes_it_short_again() {
    let mut world = restarting(Restart::Always, Some((100, 500)), None);
    let mut pauses = Vec::new();
    for uptime in [0, 0, 0, 0, 500, 501, 0] {
        world.pass(MS(uptime));
        end(&mut world, Ended::Code(1));
        let pause = world.machine.next_tick().unwrap().since(world.now);
        pauses.push(pause.as_millis());
        world.pass(pause);
    }
    assert_eq!(pauses, [100, 200, 400, 500, 500, 100, 200]);
}

#[test]
fn a_command_ends_the_pause() {
    for command in ['u', 'o'] {
        let mut world = restarting(Restart::Always, Some((60_000, 60_000)), None);
        end(&mut world, Ended::Code(1));
        assert_eq!(world.machine.facts().unwrap().next_start, Some(stamp(160, 0)));
        world.pass(PACE);
        assert_eq!(world.starts, 1);
        world.play(command);
        assert_eq!((world.starts, world.machine.facts().unwrap().next_start), (2, None));
    }
}

#[test]
fn a_task_that_is_done_stays_done_when_it_is_told_to_stop() {
    let mut world = restarting(Restart::OnFailure, None, None);
    end(&mut world, Ended::Code(0));
    world.play('d');
    assert!(world.machine.facts().unwrap().done.is_some());
    world.play('u');
    assert!(world.machine.facts().unwrap().done.is_none());
}

#[test]
fn what_was_given_up_waits_for_a_command_also_when_run_changes() {
    let mut world = restarting(Restart::Never, None, None);
    let now = Now { at: world.now, stamp: stamp(100, 0) };
    world.machine = Machine::new(now, Want::Up);
    world.machine.set_restart(Some(RestartPolicy { restart: Restart::Never, ..RestartPolicy::default() }));
    let hook = Event::HookEnded { hook: Hook::Up, pid: None, instead: false };
    for event in [Event::Tick, hook, Event::NotStarted { finish: false }, Event::RunChanged { down: false }] {
        drop(world.machine.step(now, event));
    }
    assert!(given_up(&world).is_some() && world.machine.next_tick().is_none());
}

#[test]
fn ends_count_within_the_window_only() {
    let mut world = restarting(Restart::Always, Some((10, 10)), Some((3, 60)));
    for _ in 0..6 {
        end(&mut world, Ended::Code(0));
        world.pass(Duration::from_secs(30));
    }
    assert_eq!((world.starts, given_up(&world)), (7, None));
    world.pass(Duration::from_secs(60));
    for _ in 0..3 {
        end(&mut world, Ended::Code(0));
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.starts, given_up(&world).as_deref()), (9, Some("3 ends in 60 s")));
    assert_eq!(world.told, ["3 ends in 60 s"]);
    world.pass(Duration::from_secs(1000));
    assert_eq!(world.starts, 9);
}

#[test]
fn what_it_needs_is_asked_for_before_each_start() {
    let mut world = World::new(false, false);
    world.machine.set_needs(true);
    world.needs_are_met = false;
    world.handle(Event::Tick);
    assert_eq!((world.starts, world.asked_needs, world.machine.is_blocked()), (0, 1, true));
    assert_eq!(world.machine.next_tick(), None);
    // Not wanted any more: then nothing keeps it down.
    world.play('d');
    assert!(!world.machine.is_blocked());
    world.handle(Event::Needs(true));
    assert_eq!(world.starts, 0);
    world.play('u');
    assert!(world.machine.is_blocked());
    world.handle(Event::Needs(false));
    world.handle(Event::Needs(true));
    assert_eq!((world.starts, state(&world)), (1, (status::State::Run, Want::Up)));
    // What becomes of them while it runs does not matter.
    world.handle(Event::Needs(false));
    end(&mut world, Ended::Code(1));
    world.pass(PACE);
    assert_eq!((world.starts, world.machine.is_blocked()), (1, true));
}

#[test]
fn a_process_is_ready_when_it_tells() {
    let mut world = telling(Some(1000), None, Restart::Always);
    assert_eq!(world.machine.readiness(), Some(false));
    world.handle(Event::Notice(Notice::Ready));
    assert_eq!((world.machine.readiness(), world.machine.next_tick()), (Some(true), None));
    world.handle(Event::Notice(Notice::Stopping));
    assert_eq!(world.machine.readiness(), Some(false));
    world.handle(Event::Notice(Notice::Ready));
    // The next process has to tell anew.
    world.play('t');
    world.settle();
    assert_eq!((world.starts, world.machine.readiness()), (2, Some(false)));
}

#[test]
fn who_is_not_ready_in_time_is_reported_and_ended_only_with_on_failure() {
    for (restart, starts) in [(Restart::Always, 1), (Restart::OnFailure, 2)] {
        let mut world = telling(Some(1000), None, restart);
        world.pass(MS(999));
        assert!(world.told.is_empty());
        // A service may ask for more time, and its messages may be late.
        world.handle(Event::Notice(Notice::Unheard(MS(500))));
        world.pass(MS(499));
        assert!(world.told.is_empty());
        world.handle(Event::Notice(Notice::Extend(MS(500))));
        world.pass(MS(499));
        assert!(world.told.is_empty());
        world.pass(MS(1));
        assert_eq!(world.told, ["not ready"]);
        assert_eq!(world.sent, if restart == Restart::OnFailure { "e" } else { "" });
        while !world.news.is_empty() {
            world.news();
        }
        world.pass(PACE);
        assert_eq!(world.starts, starts, "{restart:?}");
        if restart == Restart::OnFailure {
            assert_eq!(world.unexpected, 1);
        }
    }
}

#[test]
fn an_end_after_the_timeout_is_a_failure_also_with_0() {
    let mut world = telling(Some(1000), None, Restart::OnFailure);
    world.stubborn = true;
    world.pass(MS(1000));
    end(&mut world, Ended::Code(0));
    assert_eq!((world.unexpected, world.machine.facts().unwrap().done), (1, None));
}

#[test]
fn who_is_silent_gets_abrt_and_then_kill() {
    let mut world = telling(None, Some(1000), Restart::Always);
    world.pass(MS(900));
    world.handle(Event::Notice(Notice::Ready));
    for _ in 0..5 {
        world.pass(MS(900));
        world.handle(Event::Notice(Notice::Alive));
    }
    assert!(world.told.is_empty());
    world.pass(MS(1000));
    assert_eq!(
        (world.told.as_slice(), world.machine.readiness()),
        (["not alive".to_owned()].as_slice(), Some(false))
    );
    let (_, _, ended) = world.child.unwrap();
    assert_eq!(ended, Some(Ended::Signal { signal: Signal::ABRT, core: false }));
    world.news();
    assert_eq!(world.unexpected, 1);
    // One that survives ABRT.
    let mut world = telling(None, Some(1000), Restart::Always);
    world.handle(Event::Tick);
    world.pass(MS(1000));
    world.child.as_mut().unwrap().2 = None;
    world.news.clear();
    assert_eq!(world.machine.next_tick(), Some(world.now + ABORT_TIME));
    world.pass(ABORT_TIME);
    assert!(world.sent.ends_with('l'));
}

#[test]
fn nothing_is_expected_of_a_service_that_was_told_to_end() {
    let mut world = telling(Some(1000), Some(1000), Restart::OnFailure);
    world.stubborn = true;
    world.play('d');
    assert_eq!(world.machine.next_tick(), None);
    world.pass(MS(5000));
    assert!(world.told.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens: a service never starts before what it needs is ready, what is given up or done is never started
    /// without a command, and there are at most as many starts in the window as the limit has.
    #[test]
    fn policies_hold_whatever_happens(
        script in r"([udtoxk!0ynr\-]\.{0,3}){0,60}",
        restart in prop::sample::select(vec![Restart::Always, Restart::OnFailure, Restart::Never]),
        limit in 1_u16..4,
        has_hooks: bool,
    ) {
        let mut world = World::new(false, has_hooks);
        world.paced = false;
        let delay = Some(RestartDelay { min: MS(10), max: MS(100) });
        let limit = RestartLimit { ends: limit, window: Duration::from_secs(5) };
        world.machine.set_restart(Some(RestartPolicy { restart, delay, limit: Some(limit) }));
        world.machine.set_needs(true);
        world.handle(Event::Tick);
        // Starts since the last command.
        let mut starts: Vec<Moment> = Vec::new();
        for letter in script.chars() {
            let (before, was_over) = (world.starts, world.machine.facts().is_some_and(|facts| facts.is_over()));
            let (were_met, was_preparing) = (world.needs_are_met, matches!(world.machine.state, MachineState::Preparing(_)));
            match letter {
                'y' | 'n' => {
                    world.needs_are_met = letter == 'y';
                    world.handle(Event::Needs(letter == 'y'));
                }
                'r' => world.handle(Event::Notice(Notice::Ready)),
                '0' => world.end(Ended::Code(0)),
                letter => world.play(letter),
            }
            if Command::from_byte(u8::try_from(letter).unwrap_or(0)).is_some() {
                starts.clear();
            } else if world.starts > before {
                prop_assert!(!was_over, "started although it was done or given up");
                prop_assert!(world.needs_are_met || were_met || was_preparing, "started before what it needs");
                starts.push(world.now);
                starts.retain(|&start| world.now.since(start) < limit.window);
                prop_assert!(starts.len() <= usize::from(limit.ends), "{:?}", starts);
            }
            let facts = world.machine.facts().unwrap();
            prop_assert!(!facts.is_over() || world.machine.pid().is_none());
        }
        prop_assert_eq!(&world.broken, &[] as &[&str]);
    }
}
