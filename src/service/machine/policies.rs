//! The policies of a service: whether and when it is started again, and whether it tells in time that it is ready and
//! alive. Only a service with such files has this.

use std::collections::VecDeque;
use std::time::Duration;

use super::Machine;
use super::state::MachineState;
use crate::Signal;
use crate::facts::{Facts, Readiness};
use crate::moment::{Moment, earlier};
use crate::policy::{Restart, RestartDelay, RestartLimit};
use crate::process::Ended;
use crate::service::step::{Action, Actions, Notice, Now, Script};
use crate::status::Want;
use crate::tai::{self, Tai64N};

/// The exit code by which `./finish` gives the service up. Source: s6-supervise.
const FINISH_GIVES_UP: Ended = Ended::Code(125);
/// How long a process that was sent ABRT has to end, where no file `timeout-kill` says how long.
pub(super) const ABORT_TIME: Duration = Duration::from_secs(10);

/// What the files `restart`, `restart-delay` and `restart-limit` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RestartPolicy {
    pub restart: Restart,
    pub delay: Option<RestartDelay>,
    pub limit: Option<RestartLimit>,
}

/// What a service has that tells when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadyPolicy {
    /// It has to be ready within this time.
    pub timeout: Option<Duration>,
    /// It has to be ready, and then to tell that it is alive, each time within this time.
    pub watchdog: Option<Duration>,
}

/// Why a service is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It ended too often within too short a time.
    TooManyEnds(RestartLimit),
    /// `./finish` asked for it.
    ByFinish,
    /// It ended like this, and is not to be started again.
    NotRestarted(Ended),
}

impl GivenUp {
    /// The reason in words.
    #[must_use]
    pub(crate) fn in_words(self) -> String {
        match self {
            GivenUp::TooManyEnds(RestartLimit { ends, window }) => {
                let plural = if ends == 1 { "" } else { "s" };
                format!("{ends} end{plural} in {} s", window.as_secs())
            }
            GivenUp::ByFinish => "./finish exited with 125".to_owned(),
            GivenUp::NotRestarted(how) => format!("./run {}, restart never", how.in_words()),
        }
    }
}

/// Why a service that is wanted up stays down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It has done what it was to do.
    Done(Tai64N),
    GivenUp(GivenUp),
}

/// What follows an end of `./run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is started again, after this pause or as ever.
    Again(Option<Duration>),
    Done,
    GivenUp(GivenUp),
}

/// The ends that nobody asked for, as far as they decide about the next start.
#[derive(Debug, Clone, Default)]
struct Restarts {
    /// The last pause.
    pause: Option<Duration>,
    /// When the last ends were, the latest at the end.
    ends: VecDeque<Moment>,
}

impl Restarts {
    /// Judges an end at `now`. `is_success`: it exited 0 and on its own.
    fn judge(
        &mut self,
        policy: &RestartPolicy,
        now: Moment,
        how: Ended,
        is_success: bool,
        uptime: Duration,
    ) -> Verdict {
        if is_success && policy.restart != Restart::Always {
            return Verdict::Done;
        }
        if let Some(limit) = policy.limit {
            while self.ends.front().is_some_and(|&end| now.since(end) >= limit.window) {
                self.ends.pop_front();
            }
            self.ends.push_back(now);
            if self.ends.len() >= usize::from(limit.ends) {
                return Verdict::GivenUp(GivenUp::TooManyEnds(limit));
            }
        }
        if policy.restart == Restart::Never {
            return Verdict::GivenUp(GivenUp::NotRestarted(how));
        }
        self.pause = policy.delay.map(|delay| match self.pause {
            Some(last) if uptime <= delay.max => last.saturating_mul(2).clamp(delay.min, delay.max),
            _ => delay.min,
        });
        Verdict::Again(self.pause)
    }
}

/// What is known of the readiness of the process that runs.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// Since when it is ready.
    ready: Option<Tai64N>,
    /// When it is to be ready, and the time that it had.
    timeout: Option<(Moment, Duration)>,
    /// When it is to tell that it is alive, and the time that it has for it.
    watchdog: Option<(Moment, Duration)>,
    /// It was told to end because it did not tell in time: its end is a failure that nobody asked for.
    failed: bool,
}

/// What a process did not tell in time.
enum Overdue {
    Ready(Duration),
    Alive(Duration),
}

impl Watch {
    fn new(now: Moment, policy: ReadyPolicy) -> Self {
        let limit = |time: Option<Duration>| time.map(|time| (now.saturating_add(time), time));
        Watch { ready: None, timeout: limit(policy.timeout), watchdog: limit(policy.watchdog), failed: false }
    }

    fn alive(&mut self, now: Moment) {
        if let Some((at, time)) = &mut self.watchdog {
            *at = now.saturating_add(*time);
        }
    }

    fn extend(&mut self, until: Moment) {
        for (at, _) in self.timeout.iter_mut().chain(&mut self.watchdog) {
            *at = until.max(*at);
        }
    }

    fn overdue(&mut self, now: Moment) -> Option<Overdue> {
        let is_over = |limit: &mut (Moment, Duration)| now >= limit.0;
        if let Some((_, time)) = self.timeout.take_if(is_over) {
            return Some(Overdue::Ready(time));
        }
        self.watchdog.take_if(is_over).map(|(_, time)| Overdue::Alive(time))
    }

    /// Nothing is expected any more.
    const fn release(&mut self) {
        (self.timeout, self.watchdog) = (None, None);
    }
}

/// The policies of a service, and what became of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    /// It needs other services.
    has_needs: bool,
    /// One of them was not ready when this was last asked.
    is_blocked: bool,
    restart: Option<RestartPolicy>,
    restarts: Restarts,
    /// What follows the end of `./run`, as soon as `./finish` has ended.
    verdict: Option<Verdict>,
    rest: Option<Rest>,
    /// When the pause before the next start is over, if a policy says how long it is.
    next_start: Option<Tai64N>,
    /// For the next process.
    ready: Option<ReadyPolicy>,
    /// Of the process that runs.
    watch: Option<Watch>,
}

impl Machine {
    /// Sets whether it needs other services, which are asked for before each start.
    pub(crate) fn set_needs(&mut self, has_needs: bool) {
        if has_needs || self.policies.is_some() {
            self.policies.get_or_insert_default().has_needs = has_needs;
        }
    }

    /// Sets what is done after an end that nobody asked for. `None`: as ever.
    pub(crate) fn set_restart(&mut self, restart: Option<RestartPolicy>) {
        if restart.is_some() || self.policies.is_some() {
            self.policies.get_or_insert_default().restart = restart;
        }
    }

    /// Sets how the next process tells that it is ready. `None`: it does not.
    pub(crate) fn set_ready(&mut self, ready: Option<ReadyPolicy>) {
        if ready.is_some() || self.policies.is_some() {
            self.policies.get_or_insert_default().ready = ready;
        }
    }

    /// Whether only services that it needs keep it from being started.
    #[must_use]
    pub(crate) fn is_blocked(&self) -> bool {
        let is_blocked = self.policies.as_ref().is_some_and(|policies| policies.is_blocked);
        is_blocked && matches!(self.state, MachineState::Down(_)) && self.wants_start()
    }

    /// Whether those who need this service may start, as far as `./run` itself tells: `Some(true)` if it is ready or done,
    /// `None` if it tells nothing and runs.
    #[must_use]
    pub(crate) fn readiness(&self) -> Option<bool> {
        let policies = self.policies.as_deref();
        if policies.is_some_and(|policies| matches!(policies.rest, Some(Rest::Done(_)))) {
            return Some(true);
        }
        if !self.is_running() {
            return Some(false);
        }
        let policies = policies?;
        if let Some(watch) = policies.watch {
            return Some(watch.ready.is_some());
        }
        // A task is ready when it is done.
        let is_task = policies.restart.is_some_and(|policy| policy.restart == Restart::Never);
        is_task.then_some(false)
    }

    /// Adds what others may want to know.
    pub(crate) fn note_facts(&self, facts: &mut Facts) {
        let Some(policies) = &self.policies else { return };
        if self.is_running() {
            facts.readiness = policies.watch.map(|watch| match watch.ready {
                Some(at) => Readiness::Ready(at),
                None => Readiness::NotReady,
            });
        } else if policies.ready.is_some() && policies.rest.is_none() && self.want == Want::Up {
            // Readers see `state` before the `status` that it belongs to: without this line a process that ended before it
            // was ready would look like one that cannot tell.
            facts.readiness = Some(Readiness::NotReady);
        }
        if matches!(self.state, MachineState::Down(_)) && self.wants_start() {
            facts.next_start = policies.next_start;
        }
        match policies.rest {
            Some(Rest::Done(at)) => facts.done = Some(at),
            Some(Rest::GivenUp(reason)) => facts.given_up = Some(reason.in_words()),
            None => {}
        }
    }

    /// Why it stays down, although it may be wanted up.
    pub(super) fn rest(&self) -> Option<Rest> {
        self.policies.as_ref()?.rest
    }

    /// A command asks for a start: what was decided after the last end does not count any more.
    pub(super) fn forget_verdict(&mut self, now: Now) {
        let Some(policies) = &mut self.policies else { return };
        policies.rest = None;
        policies.restarts = Restarts::default();
        if policies.next_start.take().is_some()
            && let MachineState::Down(down) = &mut self.state
        {
            down.not_before = down.not_before.min(now.at);
        }
    }

    /// A command asks it to be down. What is done stays done.
    pub(super) fn forget_given_up(&mut self) {
        if let Some(policies) = &mut self.policies {
            policies.rest = policies.rest.filter(|rest| matches!(rest, Rest::Done(_)));
            policies.restarts = Restarts::default();
        }
    }

    /// Whether the needs are to be asked for before a start. Then it counts as blocked until the answer.
    pub(super) fn is_to_ask_needs(&mut self) -> bool {
        let Some(policies) = self.policies.as_mut().filter(|policies| policies.has_needs) else {
            return false;
        };
        policies.is_blocked = true;
        true
    }

    /// Answers the question for the needs. Returns whether it is to be started now.
    pub(super) fn unblock(&mut self, is_met: bool) -> bool {
        let Some(policies) = &mut self.policies else { return false };
        if !policies.is_blocked {
            return false;
        }
        policies.is_blocked = !is_met;
        is_met
    }

    /// A process of `./run` was started.
    pub(super) fn watch_readiness(&mut self, now: Now) {
        if let Some(policies) = &mut self.policies {
            policies.watch = policies.ready.map(|ready| Watch::new(now.at, ready));
            policies.next_start = None;
        }
    }

    /// When something has to be told by, if the process is running.
    pub(super) fn readiness_due(&self) -> Option<Moment> {
        let watch = self.policies.as_ref()?.watch?;
        earlier(watch.timeout.map(|(at, _)| at), watch.watchdog.map(|(at, _)| at))
    }

    /// `./run` was asked to end: nothing is expected of it any more.
    pub(super) fn expect_nothing(&mut self) {
        if let Some(watch) = self.policies.as_mut().and_then(|policies| policies.watch.as_mut()) {
            watch.release();
        }
    }

    /// Whether the end of the process that runs counts as a failure, whatever it looks like.
    pub(super) fn has_failed(&self) -> bool {
        self.policies.as_ref().and_then(|policies| policies.watch).is_some_and(|watch| watch.failed)
    }

    /// `./run` told something of itself.
    pub(super) fn notice(&mut self, now: Now, notice: Notice) -> Actions {
        let MachineState::Running(running) = &mut self.state else { return Actions::none() };
        let Some(watch) = self.policies.as_mut().and_then(|policies| policies.watch.as_mut()) else {
            return Actions::none();
        };
        match notice {
            Notice::Ready => {
                watch.ready.get_or_insert(now.stamp);
                watch.timeout = None;
                watch.alive(now.at);
                Action::Publish.into()
            }
            Notice::Stopping => {
                watch.ready = None;
                watch.release();
                Action::Publish.into()
            }
            Notice::Alive => {
                watch.alive(now.at);
                Actions::none()
            }
            Notice::Failing => Actions::from(Action::ReportFailing).and(self.end_failed(Some(Signal::ABRT))),
            Notice::Unheard(time) => {
                watch.extend(now.at.saturating_add(time));
                Actions::none()
            }
            Notice::Extend(time) => {
                let until = now.at.saturating_add(time);
                watch.extend(until);
                running.kill_at = running.kill_at.map(|at| at.max(until));
                Actions::none()
            }
        }
    }

    /// Does what is due because the process that runs did not tell something in time.
    pub(super) fn check_readiness(&mut self, now: Now) -> Actions {
        let Some(policies) = &mut self.policies else { return Actions::none() };
        let on_failure = policies.restart.is_some_and(|policy| policy.restart == Restart::OnFailure);
        let Some(watch) = &mut policies.watch else { return Actions::none() };
        match watch.overdue(now.at) {
            None => Actions::none(),
            Some(Overdue::Ready(time)) => {
                let report = Actions::from(Action::ReportNotReady(time));
                if on_failure { report.and(self.end_failed(None)) } else { report }
            }
            Some(Overdue::Alive(time)) => {
                Actions::from(Action::ReportNotAlive(time)).and(self.end_failed(Some(Signal::ABRT)))
            }
        }
    }

    /// Has the process end because it failed; by the signal that asks it to end, or by this one.
    fn end_failed(&mut self, signal: Option<Signal>) -> Actions {
        self.expect_nothing();
        if let Some(watch) = self.policies.as_mut().and_then(|policies| policies.watch.as_mut()) {
            (watch.failed, watch.ready) = (true, None);
        }
        let MachineState::Running(running) = &mut self.state else { return Actions::none() };
        // So that its end is waited for no longer than that of a service that is to be restarted.
        let actions = Actions::from(Action::Publish).then(Action::AskTimeout(Script::Run));
        match signal {
            Some(signal) => actions.then(Action::Send(running.pid, signal)),
            None => {
                running.restart = true;
                actions.and(self.signal(Signal::TERM))
            }
        }
    }

    /// `./run` ended after `uptime`: decides what follows. `is_asked`: somebody asked it to. Returns whether the service is
    /// done.
    pub(super) fn judge(&mut self, now: Now, how: Ended, uptime: Duration, is_asked: bool) -> bool {
        let (want, has_failed) = (self.want, self.has_failed());
        let Some(policies) = &mut self.policies else { return false };
        policies.watch = None;
        let Some(policy) = policies.restart.filter(|_| !is_asked || has_failed) else { return false };
        let is_success = how == Ended::Code(0) && !has_failed;
        let verdict = policies.restarts.judge(&policy, now.at, how, is_success, uptime);
        policies.verdict = Some(verdict).filter(|verdict| want == Want::Up || *verdict == Verdict::Done);
        verdict == Verdict::Done
    }

    /// `./finish` ended.
    pub(super) fn note_finish(&mut self, how: Ended) {
        let is_up = self.want == Want::Up;
        if let Some(policies) = &mut self.policies
            && is_up
            && policies.restart.is_some()
            && how == FINISH_GIVES_UP
        {
            policies.verdict = Some(Verdict::GivenUp(GivenUp::ByFinish));
        }
    }

    /// Nothing runs any more: applies what was decided. Returns the pause before the next start, if one was decided, and
    /// what to report.
    pub(super) fn apply_verdict(&mut self, now: Now) -> (Option<Duration>, Actions) {
        let Some(policies) = &mut self.policies else { return (None, Actions::none()) };
        match policies.verdict.take() {
            None => (None, Actions::none()),
            Some(Verdict::Again(pause)) => {
                policies.next_start = pause.map(|pause| tai::later(&now.stamp, pause));
                (pause, Actions::none())
            }
            Some(Verdict::Done) => {
                policies.rest = Some(Rest::Done(now.stamp));
                if self.want == Want::Up {
                    // Others see a service that is down because it is to be.
                    self.want = Want::Down;
                }
                (None, Actions::none())
            }
            // It may have been told to end meanwhile.
            Some(Verdict::GivenUp(_)) if self.want != Want::Up => (None, Actions::none()),
            Some(Verdict::GivenUp(reason)) => {
                policies.rest = Some(Rest::GivenUp(reason));
                (None, Action::ReportGivenUp(reason).into())
            }
        }
    }
}
