//! An orderly stop: what is told to end when, and when it is killed. Without I/O.
//!
//! | phase    | is told to end                     | until, in hundredths of the time |
//! |----------|------------------------------------|----------------------------------|
//! | command  | CMD, or the hook that runs         | 60; 85 if there are no services  |
//! | services | all services, hence their log      | 80, their log services 88        |
//! |          | services when they have read all   |                                  |
//! | rest     | what else is left                  | 95                               |
//! | hooks    | nothing: `halt.d` runs             | 98                               |
//!
//! Each phase begins as soon as the one before is over. What has not ended by its moment is killed; what not even that
//! ends is not waited for much longer.

use std::time::Duration;
use svcore::moment::Moment;

/// How long the log services have when all is to be over at once.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long hooks have then.
const HURRIED_HOOKS: Duration = Duration::from_secs(1);
/// How long log services wait for the end of their input before what may hold it open is told to end.
const HELD_OPEN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Begin,
    Command,
    Services,
    Rest,
    Hooks,
    Over,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// CMD, or a hook of `boot.d`, runs.
    pub(crate) command: bool,
    /// Services of which the service itself has not ended.
    pub(crate) services: usize,
    /// Services of which only the log service has not ended.
    pub(crate) logs: usize,
    /// There are other children.
    pub(crate) rest: bool,
    /// Hooks of `halt.d` run or are to.
    pub(crate) hooks: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Do {
    /// Tell CMD to end.
    EndCommand,
    /// Kill it.
    KillCommand,
    /// Tell all services to end.
    EndServices,
    /// Kill those that have not.
    KillServices,
    /// Tell all processes but log services to end: some of them hold open what log services read.
    EndWriters,
    /// Kill the log services.
    KillLogs,
    /// Tell what is left to end.
    EndRest,
    /// Kill it.
    KillRest,
    /// Run the hooks of `halt.d`.
    RunHooks,
    /// Kill the one that runs, and run no other.
    KillHooks,
    /// All is done.
    Exit,
}

/// A stop that is under way.
#[derive(Debug)]
pub(crate) struct Stop {
    phase: Phase,
    command_until: Moment,
    services_until: Moment,
    logs_until: Moment,
    rest_until: Moment,
    hooks_until: Moment,
    /// When the command, services and the rest are left behind, killed and still there.
    left: [Moment; 3],
    /// When only log services were left.
    only_logs: Option<Moment>,
    /// What was done already and is not done twice: a bit for each.
    done: u32,
    /// How often somebody asked for more haste.
    hurries: u32,
}

impl Stop {
    /// A stop that begins now and takes no longer than `total`.
    pub(crate) fn new(now: Moment, total: Duration, services: bool) -> Self {
        let part = |hundredths: u32| now.saturating_add(total.saturating_mul(hundredths) / 100);
        Stop {
            phase: Phase::Begin,
            command_until: part(if services { 60 } else { 85 }),
            services_until: part(80),
            logs_until: part(88),
            rest_until: part(95),
            hooks_until: part(98),
            left: [part(if services { 65 } else { 90 }), part(92), part(97)],
            only_logs: None,
            done: 0,
            hurries: 0,
        }
    }

    /// All is to be over at once; log services are given a moment, unless this was said before.
    pub(crate) fn hurry(&mut self, now: Moment) {
        self.hurries = self.hurries.saturating_add(1);
        let last_words = if self.hurries > 1 { Duration::ZERO } else { LAST_WORDS };
        for (until, time) in [
            (&mut self.command_until, Duration::ZERO),
            (&mut self.services_until, Duration::ZERO),
            (&mut self.logs_until, last_words),
            (&mut self.rest_until, last_words),
            (&mut self.hooks_until, HURRIED_HOOKS),
        ] {
            *until = (*until).min(now.saturating_add(time));
        }
        for (left, until) in self.left.iter_mut().zip([self.command_until, self.logs_until, self.rest_until])
        {
            *left = (*left).min(until.saturating_add(LAST_WORDS));
        }
    }

    /// The next thing to be done now, if there is one; to be asked again until there is none.
    pub(crate) fn step(&mut self, now: Moment, seen: &Seen) -> Option<Do> {
        let [command_left, services_left, rest_left] = self.left.map(|left| now >= left);
        loop {
            match self.phase {
                Phase::Begin => {
                    self.phase = Phase::Command;
                    if seen.command {
                        return Some(Do::EndCommand);
                    }
                }
                Phase::Command if seen.command && !(command_left && self.is_done(Do::KillCommand)) => {
                    return self.once(now >= self.command_until, Do::KillCommand);
                }
                Phase::Command => {
                    self.phase = Phase::Services;
                    return Some(Do::EndServices);
                }
                Phase::Services
                    if seen.services > 0 && !(services_left && self.is_done(Do::KillServices)) =>
                {
                    return self.once(now >= self.services_until, Do::KillServices);
                }
                Phase::Services
                    if seen.services == 0
                        && seen.logs > 0
                        && !(services_left && self.is_done(Do::KillLogs)) =>
                {
                    let since = *self.only_logs.get_or_insert(now);
                    return self
                        .once(now >= self.logs_until, Do::KillLogs)
                        .or_else(|| self.once(now >= since.saturating_add(HELD_OPEN), Do::EndWriters));
                }
                Phase::Services => {
                    self.phase = Phase::Rest;
                    if seen.rest {
                        return Some(Do::EndRest);
                    }
                }
                Phase::Rest if seen.rest && !(rest_left && self.is_done(Do::KillRest)) => {
                    return self.once(now >= self.rest_until, Do::KillRest);
                }
                Phase::Rest => {
                    self.phase = Phase::Hooks;
                    if seen.hooks {
                        return Some(Do::RunHooks);
                    }
                }
                Phase::Hooks if seen.hooks => {
                    if now < self.hooks_until {
                        return None;
                    }
                    self.phase = Phase::Over;
                    return Some(Do::KillHooks);
                }
                Phase::Hooks => self.phase = Phase::Over,
                Phase::Over => return Some(Do::Exit),
            }
        }
    }

    /// When to ask again, if nothing happens before.
    pub(crate) fn deadline(&self, seen: &Seen) -> Option<Moment> {
        let [command_left, services_left, rest_left] = self.left;
        // Until it is killed; then until it is left behind.
        let until = |what: Do, until, left| Some(if self.is_done(what) { left } else { until });
        match self.phase {
            Phase::Begin | Phase::Over => None,
            Phase::Command => until(Do::KillCommand, self.command_until, command_left),
            Phase::Services if seen.services > 0 => {
                until(Do::KillServices, self.services_until, services_left)
            }
            Phase::Services => {
                let since = self.only_logs.filter(|_| !self.is_done(Do::EndWriters));
                let held_open = since.map(|since| since.saturating_add(HELD_OPEN));
                svcore::moment::earlier(until(Do::KillLogs, self.logs_until, services_left), held_open)
            }
            Phase::Rest => until(Do::KillRest, self.rest_until, rest_left),
            Phase::Hooks => Some(self.hooks_until),
        }
    }

    const fn is_done(&self, what: Do) -> bool {
        self.done & 1 << what as u32 != 0
    }

    /// Says to do it when it is due, and only once.
    fn once(&mut self, due: bool, what: Do) -> Option<Do> {
        (due && !self.is_done(what)).then(|| {
            self.done |= 1 << what as u32;
            what
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOTAL: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    fn all(stop: &mut Stop, now: Moment, seen: &Seen) -> Vec<Do> {
        std::iter::from_fn(|| stop.step(now, seen).filter(|it| *it != Do::Exit)).collect()
    }

    #[test]
    fn each_is_told_after_those_before_it_are_gone() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut seen = Seen { command: true, services: 2, logs: 0, rest: true, hooks: true };
        assert_eq!(all(&mut stop, at(0), &seen), [Do::EndCommand]);
        assert_eq!(all(&mut stop, at(100), &seen), []);
        seen.command = false;
        assert_eq!(all(&mut stop, at(200), &seen), [Do::EndServices]);
        (seen.services, seen.logs) = (1, 1);
        assert_eq!(all(&mut stop, at(300), &seen), []);
        (seen.services, seen.logs) = (0, 0);
        assert_eq!(all(&mut stop, at(400), &seen), [Do::EndRest]);
        seen.rest = false;
        assert_eq!(all(&mut stop, at(500), &seen), [Do::RunHooks]);
        seen.hooks = false;
        assert_eq!(stop.step(at(600), &seen), Some(Do::Exit));
    }

    #[test]
    fn with_nothing_left_it_is_over_at_once() {
        let mut stop = Stop::new(at(0), TOTAL, false);
        assert_eq!(stop.step(at(0), &Seen::default()), Some(Do::EndServices));
        assert_eq!(stop.step(at(0), &Seen::default()), Some(Do::Exit));
    }

    #[test]
    fn what_does_not_end_is_killed_once_in_its_time() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut seen = Seen { command: true, services: 1, logs: 1, rest: true, hooks: true };
        assert_eq!(all(&mut stop, at(0), &seen), [Do::EndCommand]);
        assert_eq!(stop.deadline(&seen), Some(at(6000)));
        assert_eq!(all(&mut stop, at(5999), &seen), []);
        assert_eq!(all(&mut stop, at(6000), &seen), [Do::KillCommand]);
        assert_eq!((all(&mut stop, at(6001), &seen), stop.deadline(&seen)), (vec![], Some(at(6500))));
        seen.command = false;
        assert_eq!(all(&mut stop, at(6100), &seen), [Do::EndServices]);
        assert_eq!(stop.deadline(&seen), Some(at(8000)));
        assert_eq!(all(&mut stop, at(8000), &seen), [Do::KillServices]);
        seen.services = 0;
        assert_eq!(all(&mut stop, at(8001), &seen), []);
        assert_eq!(stop.deadline(&seen), Some(at(8800)));
        assert_eq!(all(&mut stop, at(8800), &seen), [Do::KillLogs]);
        seen.logs = 0;
        assert_eq!(all(&mut stop, at(8900), &seen), [Do::EndRest]);
        assert_eq!(all(&mut stop, at(9500), &seen), [Do::KillRest]);
        seen.rest = false;
        assert_eq!(all(&mut stop, at(9600), &seen), [Do::RunHooks]);
        assert_eq!(stop.deadline(&seen), Some(at(9800)));
        assert_eq!(all(&mut stop, at(9800), &seen), [Do::KillHooks]);
        assert_eq!(stop.step(at(9800), &seen), Some(Do::Exit));
    }

    #[test]
    fn who_holds_the_input_of_a_log_service_open_is_told_after_a_second() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let seen = Seen { logs: 1, rest: true, ..Seen::default() };
        assert_eq!(all(&mut stop, at(0), &seen), [Do::EndServices]);
        assert_eq!(stop.deadline(&seen), Some(at(1000)));
        assert_eq!(all(&mut stop, at(1000), &seen), [Do::EndWriters]);
        assert_eq!(stop.deadline(&seen), Some(at(8800)));
    }

    #[test]
    fn haste_leaves_time_for_last_words_only() {
        let mut stop = Stop::new(at(0), TOTAL, true);
        let mut seen = Seen { command: true, services: 1, logs: 1, rest: true, hooks: true };
        assert_eq!(all(&mut stop, at(0), &seen), [Do::EndCommand]);
        stop.hurry(at(100));
        assert_eq!(all(&mut stop, at(100), &seen), [Do::KillCommand]);
        seen.command = false;
        assert_eq!(all(&mut stop, at(101), &seen), [Do::EndServices, Do::KillServices]);
        seen.services = 0;
        assert_eq!((all(&mut stop, at(102), &seen), stop.deadline(&seen)), (vec![], Some(at(600))));
        stop.hurry(at(200));
        assert_eq!(all(&mut stop, at(200), &seen), [Do::KillLogs]);
        seen.logs = 0;
        assert_eq!(all(&mut stop, at(201), &seen), [Do::EndRest, Do::KillRest]);
    }

    proptest! {
        /// Whatever ends when, as long as what is killed ends: it is over in its time, and nothing is told twice.
        #[test]
        fn it_ends_in_its_time(
            total in 0_u64..20_000,
            ends in prop::array::uniform5(0_u64..30_000),
            hurries in prop::collection::vec(0_u64..20_000, 0..3),
            unkillable in prop::array::uniform4(prop::bool::weighted(0.2)),
        ) {
            let total = Duration::from_millis(total);
            let mut stop = Stop::new(at(0), total, true);
            let mut told: Vec<Do> = Vec::new();
            let (mut now, mut over) = (at(0), None);
            for _ in 0..10_000 {
                for hurry in &hurries {
                    if at(*hurry) <= now && at(*hurry) + Duration::from_millis(1) > now {
                        stop.hurry(now);
                    }
                }
                let there = |number: usize, killed: Do| {
                    let dead = told.contains(&killed) && unkillable.get(number) != Some(&true);
                    at(ends[number]) > now && !dead
                };
                let seen = Seen {
                    command: there(0, Do::KillCommand),
                    services: usize::from(there(1, Do::KillServices)),
                    logs: usize::from(there(2, Do::KillLogs)),
                    rest: there(3, Do::KillRest),
                    hooks: there(4, Do::KillHooks),
                };
                match stop.step(now, &seen) {
                    Some(Do::Exit) => {
                        over = Some(now);
                        break;
                    }
                    Some(what) => {
                        prop_assert!(!told.contains(&what), "{what:?} twice");
                        told.push(what);
                    }
                    None => {
                        let next = ends.iter().map(|end| at(*end)).filter(|end| *end > now);
                        let next = next.chain(stop.deadline(&seen)).min();
                        prop_assert!(next.is_some(), "waits for ever");
                        now = next.unwrap_or(now).max(now);
                    }
                }
            }
            prop_assert!(over.is_some_and(|over| over <= Moment::START + total), "{over:?} of {total:?}, {told:?}");
        }
    }
}
