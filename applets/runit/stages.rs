//! Which stage comes after which. Without I/O. Source: runit(8).

use std::time::Duration;

use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::process::Ended;

/// How long a start waits when there could be no process, and the least time between two starts of stage 2.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
/// How long stage 2 has to end after TERM, and after KILL.
pub(crate) const STOP: Duration = Duration::from_secs(5);

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    One,
    Two,
    Three,
}

/// A program that a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    CtrlAltDel,
    PowerFail,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The clock moved on.
    Tick,
    /// What was asked for runs.
    Started(Pid),
    /// It could not be executed; then it counts as one that exited 0.
    NotStarted,
    /// There could be no process.
    NoProcess,
    /// A process ended.
    Ended(Pid, Ended),
    /// CONT: stop, if that is allowed.
    Stop,
    /// A signal that has its script.
    Asked(Script),
}

/// What the flag files say, at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// `ctrlaltdel` may be executed.
    pub(crate) ctrl_alt_del: bool,
    /// `pwrfail` may be executed.
    pub(crate) power_fail: bool,
    /// `stopit` may be executed.
    pub(crate) stop_it: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Say it.
    Say(Text),
    /// Start a stage; answer `Started`, `NotStarted` or `NoProcess`.
    Start(Stage),
    /// Start a script; answer `Started`, `NotStarted` or `NoProcess`.
    Run(Script),
    /// TERM, and CONT after it.
    Term(Pid),
    /// KILL.
    Kill(Pid),
    /// KILL to the process group.
    KillGroup(Pid),
    /// The permission to stop is used up.
    TakeStopIt,
    /// All stages are over. The last word on what is to come, if it is not the flag file's.
    Finish(Option<Ending>),
}

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    PowerOff,
    Reboot,
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Enter(Stage),
    Leave(Stage),
    Failed(Stage),
    Crashed(Stage),
    Skipping,
    KillingStage2,
    Restarting,
    SignalsOnlyInStage2,
    CtrlAltDel,
    PowerFail,
    EnterScript(Script),
    LeaveScript(Script),
    ScriptCrashed(Script),
    NotTerminated,
}

/// What is to be done about one event.
pub(crate) type Actions = svcore::actions::Actions<Action>;

/// Messages among the actions.
trait Say {
    /// These actions, and after them a message.
    fn say(self, text: Text) -> Self;
}

impl Say for Actions {
    fn say(self, text: Text) -> Self {
        self.then(Action::Say(text))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be started at this moment.
    Next(Stage, Moment),
    /// Its start was asked for.
    Starting(Stage),
    Running(Stage, Pid),
    /// Stage 2 was told to end; by then it is killed, or with `killed` left.
    Ending {
        pid: Pid,
        until: Moment,
        killed: bool,
    },
    Over,
}

/// The stages.
#[derive(Debug)]
pub(crate) struct Stages {
    state: State,
    /// When stage 2 was started last.
    started: Moment,
    /// The script under way, and its process once it has one.
    script: Option<(Script, Option<Pid>)>,
    /// There are no stages but one that is ours: the least that a machine needs.
    least: bool,
    /// How long stage 2 has to end.
    patience: Duration,
    ending: Option<Ending>,
}

impl Stages {
    /// From stage 1 on.
    pub(crate) const fn new() -> Self {
        Stages {
            state: State::Next(Stage::One, Moment::START),
            started: Moment::START,
            script: None,
            least: false,
            patience: STOP,
            ending: None,
        }
    }

    /// With nothing but stage 2, which has `patience` to end, and no need of permission to do so.
    pub(crate) const fn least(patience: Duration) -> Self {
        Stages { state: State::Next(Stage::Two, Moment::START), least: true, patience, ..Stages::new() }
    }

    /// When to say [`Event::Tick`], if ever.
    pub(crate) const fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Next(_, at) => Some(at),
            State::Ending { until, .. } => Some(until),
            State::Starting(_) | State::Running(..) | State::Over => None,
        }
    }

    /// Takes one event and says what to do about it.
    pub(crate) fn step(&mut self, now: Moment, flags: Flags, event: Event) -> Actions {
        let none = Actions::none();
        match event {
            Event::Tick => self.tick(now),
            Event::Started(pid) => match (&mut self.script, self.state) {
                (Some((_, process @ None)), _) => {
                    *process = Some(pid);
                    none
                }
                (_, State::Starting(stage)) => {
                    self.state = State::Running(stage, pid);
                    none
                }
                _ => none,
            },
            Event::NotStarted => match (self.script, self.state) {
                (Some((script, None)), _) => self.script_ended(now, flags, script, Ended::Code(0)),
                (_, State::Starting(stage)) => self.ended(now, stage, Ended::Code(0)),
                _ => none,
            },
            Event::NoProcess => {
                match (self.script, self.state) {
                    (Some((_, None)), _) => self.script = None,
                    (_, State::Starting(stage)) => self.state = State::Next(stage, now.saturating_add(PAUSE)),
                    _ => {}
                }
                none
            }
            Event::Ended(pid, how) => match (self.script, self.state) {
                (Some((script, Some(process))), _) if process == pid => {
                    self.script_ended(now, flags, script, how)
                }
                (_, State::Running(stage, process)) if process == pid => {
                    // So the least is not started again when it has done what it was there for.
                    self.ended(now, stage, how)
                }
                (_, State::Ending { pid: process, .. }) if process == pid => self.leave_for_stage_3(now),
                _ => none,
            },
            Event::Stop => self.stop(now, flags.stop_it),
            Event::Asked(script) => self.asked(now, flags, script),
        }
    }

    fn tick(&mut self, now: Moment) -> Actions {
        match self.state {
            State::Next(stage, at) if now >= at => {
                self.state = State::Starting(stage);
                if stage == Stage::Two {
                    self.started = now;
                }
                Actions::none().say(Text::Enter(stage)).then(Action::Start(stage))
            }
            State::Ending { pid, until, killed: false } if now >= until => {
                self.state = State::Ending { pid, until: now.saturating_add(STOP), killed: true };
                Actions::none().say(Text::NotTerminated).then(Action::Kill(pid))
            }
            // Not even that helped. What is next does not wait for it.
            State::Ending { until, killed: true, .. } if now >= until => self.leave_for_stage_3(now),
            _ => Actions::none(),
        }
    }

    /// A stage ended by itself.
    fn ended(&mut self, now: Moment, stage: Stage, how: Ended) -> Actions {
        let said = Actions::none();
        let said = match how {
            Ended::Code(0) => said,
            Ended::Code(_) => said.say(Text::Failed(stage)),
            Ended::Signal { .. } => said.say(Text::Crashed(stage)),
        };
        let crashed = matches!(how, Ended::Signal { .. });
        match stage {
            Stage::One if crashed || how == Ended::Code(100) => {
                self.state = State::Next(Stage::Three, now);
                said.say(Text::Leave(stage)).say(Text::Skipping)
            }
            Stage::One => {
                self.state = State::Next(Stage::Two, now);
                said.say(Text::Leave(stage))
            }
            Stage::Two if crashed || how == Ended::Code(111) => {
                let group = match self.state {
                    State::Running(_, pid) => Some(pid),
                    _ => None,
                };
                // Not in a busy loop, and with no sleep where it ran for a while.
                self.state = State::Next(Stage::Two, now.max(self.started.saturating_add(PAUSE)));
                let said = said.say(Text::KillingStage2);
                let killed = group.map_or_else(Actions::none, |pid| Action::KillGroup(pid).into());
                said.and(killed).say(Text::Restarting)
            }
            Stage::Two => {
                self.state = State::Next(Stage::Three, now);
                let said = said.say(Text::Leave(stage));
                if self.least { self.finish(said) } else { said }
            }
            Stage::Three => self.finish(said.say(Text::Leave(stage))),
        }
    }

    fn finish(&mut self, before: Actions) -> Actions {
        self.state = State::Over;
        before.then(Action::Finish(self.ending))
    }

    fn leave_for_stage_3(&mut self, now: Moment) -> Actions {
        self.state = State::Next(Stage::Three, now);
        let said = Actions::none().say(Text::Leave(Stage::Two));
        if self.least { self.finish(said) } else { said }
    }

    fn asked(&mut self, now: Moment, flags: Flags, script: Script) -> Actions {
        let State::Running(Stage::Two, _) = self.state else {
            return self.out_of_place();
        };
        if self.least {
            self.ending = Some(match script {
                Script::CtrlAltDel => Ending::Reboot,
                Script::PowerFail => Ending::PowerOff,
            });
            return self.stop(now, true);
        }
        let (there, text) = match script {
            Script::CtrlAltDel => (flags.ctrl_alt_del, Text::CtrlAltDel),
            Script::PowerFail => (flags.power_fail, Text::PowerFail),
        };
        if !there && script == Script::PowerFail {
            // Whoever says that power fails, as container managers do, wants more than silence.
            self.ending = Some(Ending::PowerOff);
            return Actions::none().say(Text::PowerFail).and(self.stop(now, true));
        }
        if !there || self.script.is_some() {
            return Actions::none();
        }
        self.script = Some((script, None));
        Actions::none().say(text).say(Text::EnterScript(script)).then(Action::Run(script))
    }

    fn script_ended(&mut self, now: Moment, flags: Flags, script: Script, how: Ended) -> Actions {
        self.script = None;
        let said = Actions::none();
        let said = match how {
            Ended::Signal { .. } => said.say(Text::ScriptCrashed(script)),
            Ended::Code(_) => said,
        };
        let said = said.say(Text::LeaveScript(script));
        // Stage 2 may have ended meanwhile.
        if matches!(self.state, State::Running(Stage::Two, _)) {
            said.and(self.stop(now, flags.stop_it))
        } else {
            said
        }
    }

    fn stop(&mut self, now: Moment, allowed: bool) -> Actions {
        match self.state {
            State::Running(Stage::Two, pid) if allowed || self.least => {
                self.state = State::Ending { pid, until: now.saturating_add(self.patience), killed: false };
                Actions::none().then(Action::TakeStopIt).then(Action::Term(pid))
            }
            // It ends already, or is not allowed to.
            State::Running(Stage::Two, _) | State::Ending { .. } | State::Over => Actions::none(),
            State::Next(Stage::Two, _) if self.least => {
                self.state = State::Next(Stage::Three, now);
                self.finish(Actions::none())
            }
            _ => self.out_of_place(),
        }
    }

    fn out_of_place(&self) -> Actions {
        match self.state {
            State::Ending { .. } | State::Over => Actions::none(),
            _ => Actions::none().say(Text::SignalsOnlyInStage2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: Ended = Ended::Signal { number: 11, core: false };

    fn at(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    /// Stages whose programs run as 10, 20, … in the order of their starts.
    struct World {
        stages: Stages,
        next: i32,
        done: Vec<Action>,
        flags: Flags,
    }

    impl World {
        fn new(stages: Stages) -> Self {
            let mut world = World { stages, next: 10, done: Vec::new(), flags: Flags::default() };
            world.tell(at(0), Event::Tick);
            world
        }

        fn tell(&mut self, now: Moment, event: Event) {
            for action in self.stages.step(now, self.flags, event) {
                self.done.push(action);
                if matches!(action, Action::Start(_) | Action::Run(_)) {
                    self.next += 10;
                    self.tell(now, Event::Started(pid(self.next - 10)));
                }
            }
            if self.stages.deadline().is_some_and(|at| now >= at) {
                self.tell(now, Event::Tick);
            }
        }

        /// What was done since this was last asked, without what was said.
        fn done(&mut self) -> Vec<Action> {
            std::mem::take(&mut self.done).into_iter().filter(|it| !matches!(it, Action::Say(_))).collect()
        }

        fn said(&mut self) -> Vec<Text> {
            let said = std::mem::take(&mut self.done).into_iter();
            said.filter_map(|it| if let Action::Say(text) = it { Some(text) } else { None }).collect()
        }
    }

    #[test]
    fn one_leads_to_two_and_two_to_three_and_three_to_the_end() {
        let mut world = World::new(Stages::new());
        assert_eq!(world.done(), [Action::Start(Stage::One)]);
        world.tell(at(1), Event::Ended(pid(10), Ended::Code(0)));
        assert_eq!(world.done(), [Action::Start(Stage::Two)]);
        world.tell(at(9), Event::Ended(pid(20), Ended::Code(0)));
        assert_eq!(world.done(), [Action::Start(Stage::Three)]);
        world.tell(at(9), Event::Ended(pid(30), CRASH));
        assert_eq!(world.done(), [Action::Finish(None)]);
    }

    #[test]
    fn the_results_of_stage_1_lead_where_the_table_says() {
        for (how, next) in [
            (Ended::Code(1), Stage::Two),
            (Ended::Code(111), Stage::Two),
            (Ended::Code(100), Stage::Three),
            (CRASH, Stage::Three),
        ] {
            let mut world = World::new(Stages::new());
            world.done();
            world.tell(at(1), Event::Ended(pid(10), how));
            assert_eq!(world.done(), [Action::Start(next)], "{how:?}");
        }
        let mut world = World::new(Stages::new());
        world.said();
        world.tell(at(1), Event::Ended(pid(10), Ended::Code(100)));
        let one = Stage::One;
        let expected = [Text::Failed(one), Text::Leave(one), Text::Skipping, Text::Enter(Stage::Three)];
        assert_eq!(world.said(), expected);
    }

    fn in_stage_2(stages: Stages) -> World {
        let mut world = World::new(stages);
        if !world.stages.least {
            world.tell(at(1), Event::Ended(pid(10), Ended::Code(0)));
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
            world.tell(at(2), Event::Ended(pid(20), how));
            assert_eq!(world.done(), [Action::KillGroup(pid(20))]);
            assert_eq!(world.stages.deadline(), Some(at(6)));
            world.tell(at(6), Event::Tick);
            assert_eq!(world.done(), [Action::Start(Stage::Two)]);
            // It ran for a while: nothing is waited for.
            world.tell(at(60), Event::Ended(pid(30), how));
            assert_eq!(world.done(), [Action::KillGroup(pid(30)), Action::Start(Stage::Two)]);
        }
        let mut world = in_stage_2(Stages::new());
        world.tell(at(2), Event::Ended(pid(20), Ended::Code(100)));
        assert_eq!(world.done(), [Action::Start(Stage::Three)]);
    }

    #[test]
    fn stop_needs_its_permission_and_ends_in_its_time() {
        let mut world = in_stage_2(Stages::new());
        world.tell(at(2), Event::Stop);
        assert_eq!(world.done, []);
        world.flags.stop_it = true;
        world.tell(at(3), Event::Stop);
        assert_eq!(world.done(), [Action::TakeStopIt, Action::Term(pid(20))]);
        world.tell(at(4), Event::Stop);
        world.tell(at(7), Event::Tick);
        assert_eq!(world.done, []);
        world.tell(at(8), Event::Tick);
        assert_eq!(world.done(), [Action::Kill(pid(20))]);
        let mut other = in_stage_2(Stages::new());
        other.flags.stop_it = true;
        other.tell(at(3), Event::Stop);
        other.tell(at(3), Event::Ended(pid(20), Ended::Code(111)));
        assert_eq!(other.done(), [Action::TakeStopIt, Action::Term(pid(20)), Action::Start(Stage::Three)]);
        // One that not even KILL ends is left behind.
        world.tell(at(13), Event::Tick);
        assert_eq!(world.done(), [Action::Start(Stage::Three)]);
    }

    #[test]
    fn a_script_runs_first_and_stage_2_goes_on_meanwhile() {
        let mut world = in_stage_2(Stages::new());
        world.tell(at(2), Event::Asked(Script::CtrlAltDel));
        assert_eq!(world.done, [], "there is none");
        (world.flags.ctrl_alt_del, world.flags.stop_it) = (true, true);
        world.tell(at(2), Event::Asked(Script::CtrlAltDel));
        world.tell(at(2), Event::Asked(Script::CtrlAltDel));
        assert_eq!(world.done(), [Action::Run(Script::CtrlAltDel)]);
        world.tell(at(9), Event::Ended(pid(30), Ended::Code(1)));
        assert_eq!(world.done(), [Action::TakeStopIt, Action::Term(pid(20))]);
        let mut world = in_stage_2(Stages::new());
        world.flags.power_fail = true;
        world.tell(at(2), Event::Asked(Script::PowerFail));
        world.tell(at(2), Event::Ended(pid(20), Ended::Code(0)));
        world.tell(at(3), Event::Ended(pid(30), Ended::Code(0)));
        assert_eq!(world.done(), [Action::Run(Script::PowerFail), Action::Start(Stage::Three)]);
    }

    #[test]
    fn without_a_script_for_it_failing_power_ends_all_and_never_restarts() {
        let mut world = in_stage_2(Stages::new());
        world.tell(at(2), Event::Asked(Script::PowerFail));
        world.tell(at(3), Event::Ended(pid(20), Ended::Code(0)));
        world.tell(at(4), Event::Ended(pid(30), Ended::Code(0)));
        let finish = Action::Finish(Some(Ending::PowerOff));
        assert_eq!(
            world.done(),
            [Action::TakeStopIt, Action::Term(pid(20)), Action::Start(Stage::Three), finish]
        );
    }

    #[test]
    fn signals_come_too_early_or_too_late_outside_stage_2() {
        let mut world = World::new(Stages::new());
        world.said();
        world.tell(at(0), Event::Stop);
        world.tell(at(0), Event::Asked(Script::CtrlAltDel));
        assert_eq!(world.said(), [Text::SignalsOnlyInStage2; 2]);
    }

    #[test]
    fn without_a_process_it_is_tried_again_and_without_a_file_it_is_over() {
        let mut stages = Stages::new();
        let _ = stages.step(at(0), Flags::default(), Event::Tick);
        let _ = stages.step(at(0), Flags::default(), Event::NoProcess);
        assert_eq!(stages.deadline(), Some(at(5)));
        let _ = stages.step(at(5), Flags::default(), Event::Tick);
        let _ = stages.step(at(5), Flags::default(), Event::NotStarted);
        assert_eq!(stages.state, State::Next(Stage::Two, at(5)));
    }

    #[test]
    fn the_least_needs_no_permission_and_has_no_other_stages() {
        for (event, ending) in [
            (Event::Stop, None),
            (Event::Asked(Script::CtrlAltDel), Some(Ending::Reboot)),
            (Event::Asked(Script::PowerFail), Some(Ending::PowerOff)),
        ] {
            let mut world = in_stage_2(Stages::least(Duration::from_secs(10)));
            world.tell(at(2), event);
            assert_eq!(world.done(), [Action::TakeStopIt, Action::Term(pid(10))]);
            assert_eq!(world.stages.deadline(), Some(at(12)));
            world.tell(at(3), Event::Ended(pid(10), Ended::Code(0)));
            assert_eq!(world.done(), [Action::Finish(ending)]);
        }
    }
}
