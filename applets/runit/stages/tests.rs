//! Tests of the stages.

use super::*;

const CRASH: Ended = Ended::Signal { signal: svcore::Signal::SEGV, core: false };

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(seconds))
}

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap()
}

/// Stages whose programs get the process ids 10, 20, … in the order of their starts.
struct World {
    stages: Stages,
    next: i32,
    done: Vec<StageAction>,
    flags: Flags,
}

impl World {
    fn new(stages: Stages) -> Self {
        let mut world = World { stages, next: 10, done: Vec::new(), flags: Flags::default() };
        world.handle(at(0), Event::Tick);
        world
    }

    fn handle(&mut self, now: Moment, event: Event) {
        for action in self.stages.step(now, self.flags, event) {
            self.done.push(action);
            if matches!(action, StageAction::Start(_) | StageAction::Run(_)) {
                self.next += 10;
                self.handle(now, Event::Started(pid(self.next - 10)));
            }
        }
        if self.stages.deadline().is_some_and(|at| now >= at) {
            self.handle(now, Event::Tick);
        }
    }

    /// The actions since the last call, without announcements.
    fn done(&mut self) -> Vec<StageAction> {
        std::mem::take(&mut self.done)
            .into_iter()
            .filter(|it| !matches!(it, StageAction::Announce(_)))
            .collect()
    }

    fn announced(&mut self) -> Vec<Notice> {
        let done = std::mem::take(&mut self.done).into_iter();
        done.filter_map(|it| if let StageAction::Announce(notice) = it { Some(notice) } else { None })
            .collect()
    }
}

#[test]
fn one_leads_to_two_and_two_to_three_and_three_to_the_end() {
    let mut world = World::new(Stages::new());
    assert_eq!(world.done(), [StageAction::Start(Stage::One)]);
    world.handle(at(1), Event::Ended(pid(10), Ended::Code(0)));
    assert_eq!(world.done(), [StageAction::Start(Stage::Two)]);
    world.handle(at(9), Event::Ended(pid(20), Ended::Code(0)));
    assert_eq!(world.done(), [StageAction::Start(Stage::Three)]);
    world.handle(at(9), Event::Ended(pid(30), CRASH));
    assert_eq!(world.done(), [StageAction::Finish(None)]);
}

#[test]
fn the_result_of_stage_1_decides_which_stage_is_next() {
    for (how, next) in [
        (Ended::Code(1), Stage::Two),
        (Ended::Code(111), Stage::Two),
        (Ended::Code(100), Stage::Three),
        (CRASH, Stage::Three),
    ] {
        let mut world = World::new(Stages::new());
        world.done();
        world.handle(at(1), Event::Ended(pid(10), how));
        assert_eq!(world.done(), [StageAction::Start(next)], "{how:?}");
    }
    let mut world = World::new(Stages::new());
    world.announced();
    world.handle(at(1), Event::Ended(pid(10), Ended::Code(100)));
    let one = Stage::One;
    let expected =
        [Notice::Failed(one), Notice::Leave(one), Notice::SkippingStage2, Notice::Enter(Stage::Three)];
    assert_eq!(world.announced(), expected);
}

fn in_stage_2(stages: Stages) -> World {
    let mut world = World::new(stages);
    if !world.stages.is_fallback {
        world.handle(at(1), Event::Ended(pid(10), Ended::Code(0)));
    } else {
        world.next = 30;
    }
    world.done();
    world
}

#[test]
fn stage_2_is_started_again_after_a_crash_and_after_111() {
    for how in [CRASH, Ended::Code(111)] {
        let mut world = in_stage_2(Stages::new());
        world.handle(at(2), Event::Ended(pid(20), how));
        assert_eq!(world.done(), [StageAction::KillGroup(pid(20))]);
        assert_eq!(world.stages.deadline(), Some(at(6)));
        world.handle(at(6), Event::Tick);
        assert_eq!(world.done(), [StageAction::Start(Stage::Two)]);
        // It ran for longer than the pause: it is started again at once.
        world.handle(at(60), Event::Ended(pid(30), how));
        assert_eq!(world.done(), [StageAction::KillGroup(pid(30)), StageAction::Start(Stage::Two)]);
    }
    let mut world = in_stage_2(Stages::new());
    world.handle(at(2), Event::Ended(pid(20), Ended::Code(100)));
    assert_eq!(world.done(), [StageAction::Start(Stage::Three)]);
}

#[test]
fn a_stop_needs_permission_and_has_deadlines() {
    let mut world = in_stage_2(Stages::new());
    world.handle(at(2), Event::StopRequest);
    assert_eq!(world.done, []);
    world.flags.stop_it = true;
    world.handle(at(3), Event::StopRequest);
    assert_eq!(world.done(), [StageAction::ClearStopIt, StageAction::Term(pid(20))]);
    world.handle(at(4), Event::StopRequest);
    world.handle(at(7), Event::Tick);
    assert_eq!(world.done, []);
    world.handle(at(8), Event::Tick);
    assert_eq!(world.done(), [StageAction::Kill(pid(20))]);
    let mut other = in_stage_2(Stages::new());
    other.flags.stop_it = true;
    other.handle(at(3), Event::StopRequest);
    other.handle(at(3), Event::Ended(pid(20), Ended::Code(111)));
    assert_eq!(
        other.done(),
        [StageAction::ClearStopIt, StageAction::Term(pid(20)), StageAction::Start(Stage::Three)]
    );
    // If not even KILL ends it, stage 3 begins without waiting for it.
    world.handle(at(13), Event::Tick);
    assert_eq!(world.done(), [StageAction::Start(Stage::Three)]);
}

#[test]
fn a_script_runs_first_while_stage_2_goes_on() {
    let mut world = in_stage_2(Stages::new());
    world.handle(at(2), Event::Request(Script::CtrlAltDel));
    assert_eq!(world.done, [], "there is none");
    (world.flags.ctrl_alt_del, world.flags.stop_it) = (true, true);
    world.handle(at(2), Event::Request(Script::CtrlAltDel));
    world.handle(at(2), Event::Request(Script::CtrlAltDel));
    assert_eq!(world.done(), [StageAction::Run(Script::CtrlAltDel)]);
    world.handle(at(9), Event::Ended(pid(30), Ended::Code(1)));
    assert_eq!(world.done(), [StageAction::ClearStopIt, StageAction::Term(pid(20))]);
    let mut world = in_stage_2(Stages::new());
    world.flags.power_fail = true;
    world.handle(at(2), Event::Request(Script::PowerFail));
    world.handle(at(2), Event::Ended(pid(20), Ended::Code(0)));
    world.handle(at(3), Event::Ended(pid(30), Ended::Code(0)));
    assert_eq!(world.done(), [StageAction::Run(Script::PowerFail), StageAction::Start(Stage::Three)]);
}

#[test]
fn without_its_script_a_power_failure_stops_stage_2_and_powers_off() {
    let mut world = in_stage_2(Stages::new());
    world.handle(at(2), Event::Request(Script::PowerFail));
    world.handle(at(3), Event::Ended(pid(20), Ended::Code(0)));
    world.handle(at(4), Event::Ended(pid(30), Ended::Code(0)));
    let finish = StageAction::Finish(Some(Shutdown::PowerOff));
    assert_eq!(
        world.done(),
        [StageAction::ClearStopIt, StageAction::Term(pid(20)), StageAction::Start(Stage::Three), finish]
    );
}

#[test]
fn signals_outside_stage_2_are_only_reported() {
    let mut world = World::new(Stages::new());
    world.announced();
    world.handle(at(0), Event::StopRequest);
    world.handle(at(0), Event::Request(Script::CtrlAltDel));
    assert_eq!(world.announced(), [Notice::SignalsOnlyInStage2; 2]);
}

#[test]
fn a_failed_fork_is_tried_again_and_a_missing_file_counts_as_success() {
    let mut stages = Stages::new();
    let _ = stages.step(at(0), Flags::default(), Event::Tick);
    let _ = stages.step(at(0), Flags::default(), Event::NoProcess);
    assert_eq!(stages.deadline(), Some(at(5)));
    let _ = stages.step(at(5), Flags::default(), Event::Tick);
    let _ = stages.step(at(5), Flags::default(), Event::NotStarted);
    assert_eq!(stages.state, State::ToStart(Stage::Two, at(5)));
}

#[test]
fn the_fallback_needs_no_permission_and_has_no_other_stages() {
    for (event, ending) in [
        (Event::StopRequest, None),
        (Event::Request(Script::CtrlAltDel), Some(Shutdown::Reboot)),
        (Event::Request(Script::PowerFail), Some(Shutdown::PowerOff)),
    ] {
        let mut world = in_stage_2(Stages::fallback(Duration::from_secs(10)));
        world.handle(at(2), event);
        assert_eq!(world.done(), [StageAction::ClearStopIt, StageAction::Term(pid(10))]);
        assert_eq!(world.stages.deadline(), Some(at(12)));
        world.handle(at(3), Event::Ended(pid(10), Ended::Code(0)));
        assert_eq!(world.done(), [StageAction::Finish(ending)]);
    }
}

#[test]
fn a_fallback_that_waits_for_its_directory_is_started_later_and_can_be_ended() {
    let mut stages = Stages::fallback(STOP_TIMEOUT);
    let flags = Flags::default();
    let _ = stages.step(at(0), flags, Event::Tick);
    assert_eq!(stages.step(at(0), flags, Event::NoProcess).into_iter().count(), 0);
    assert_eq!(stages.deadline(), Some(at(0) + PAUSE));
    let mut world = World { stages, next: 10, done: Vec::new(), flags };
    world.handle(at(1), Event::Request(Script::PowerFail));
    assert_eq!(world.done(), [StageAction::Finish(Some(Shutdown::PowerOff))]);
}
