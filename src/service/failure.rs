//! When `on-failure` is to be run, and what it is told. Without I/O.

use std::time::Duration;

use crate::moment::Moment;
use crate::process::Ended;

/// The shortest time between two calls for a service.
const EVERY: Duration = Duration::from_secs(10);
/// How long after an end the call is made: the log service gets the last lines written meanwhile.
const SETTLE: Duration = Duration::from_millis(100);

/// What a call tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the last process ended.
    pub how: Ended,
    /// How long it had run.
    pub uptime: Duration,
    /// How many ends nobody had asked for since the last call, this one included.
    pub ends: u32,
}

/// The calls for one service.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FailureCalls {
    /// The last end that nobody had asked for.
    last_end: Option<(Ended, Duration)>,
    /// How many there were since the last call.
    ends: u32,
    last_call: Option<Moment>,
    /// When the next call is due, if there is one to make.
    due: Option<Moment>,
    /// It is due, and waits for its turn.
    is_queued: bool,
}

impl FailureCalls {
    /// `./run` has ended, which nobody had asked for.
    pub(crate) fn ended(&mut self, now: Moment, how: Ended, uptime: Duration) {
        self.last_end = Some((how, uptime));
        self.ends = self.ends.saturating_add(1);
        if how != Ended::Code(0) {
            self.call(now);
        }
    }

    /// The service was given up.
    pub(crate) fn given_up(&mut self, now: Moment) {
        self.call(now);
    }

    fn call(&mut self, now: Moment) {
        let earliest = self.last_call.map_or(Moment::START, |last| last.saturating_add(EVERY));
        self.due.get_or_insert(earliest.max(now.saturating_add(SETTLE)));
    }

    /// When [`FailureCalls::queue_if_due`] has something to do, if ever.
    pub(crate) fn next_tick(&self) -> Option<Moment> {
        self.due.filter(|_| !self.is_queued)
    }

    /// Whether a call became due; it then waits for its turn.
    pub(crate) fn queue_if_due(&mut self, now: Moment) -> bool {
        let is_due = self.next_tick().is_some_and(|at| now >= at);
        self.is_queued |= is_due;
        is_due
    }

    /// It is the turn of the call that waits: makes it.
    pub(crate) fn take(&mut self, now: Moment) -> Option<Failure> {
        self.due.take()?;
        self.is_queued = false;
        self.last_call = Some(now);
        let ends = std::mem::take(&mut self.ends);
        let (how, uptime) = self.last_end.unwrap_or((Ended::Code(0), Duration::ZERO));
        Some(Failure { how, uptime, ends })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    /// Makes the call if it is due.
    fn call(calls: &mut FailureCalls, millis: u64) -> Option<(Ended, u32)> {
        calls.queue_if_due(at(millis));
        let failure = calls.take(at(millis)).filter(|_| true)?;
        Some((failure.how, failure.ends))
    }

    #[test]
    fn the_first_failure_is_told_at_once_and_others_ten_seconds_later() {
        let mut calls = FailureCalls::default();
        let end = |calls: &mut FailureCalls, millis, code| {
            calls.ended(at(millis), Ended::Code(code), Duration::from_secs(1));
        };
        end(&mut calls, 1000, 1);
        assert_eq!(calls.next_tick(), Some(at(1100)));
        assert!(!calls.queue_if_due(at(1099)));
        assert_eq!(call(&mut calls, 1100), Some((Ended::Code(1), 1)));
        end(&mut calls, 2000, 2);
        end(&mut calls, 3000, 0);
        end(&mut calls, 4000, 3);
        assert_eq!(calls.next_tick(), Some(at(11_100)));
        assert_eq!(call(&mut calls, 11_100), Some((Ended::Code(3), 3)));
        assert_eq!(calls.next_tick(), None);
    }

    #[test]
    fn an_exit_with_zero_is_no_failure_but_giving_up_is() {
        let mut calls = FailureCalls::default();
        calls.ended(at(0), Ended::Code(0), Duration::ZERO);
        assert_eq!(calls.next_tick(), None);
        calls.given_up(at(50));
        assert_eq!(calls.next_tick(), Some(at(150)));
        assert_eq!(call(&mut calls, 150), Some((Ended::Code(0), 1)));
    }

    #[test]
    fn an_end_that_gives_up_at_once_is_one_call_and_later_another() {
        let mut calls = FailureCalls::default();
        calls.ended(at(0), Ended::Code(1), Duration::ZERO);
        calls.given_up(at(0));
        assert_eq!(call(&mut calls, 100), Some((Ended::Code(1), 1)));
        calls.given_up(at(500));
        assert_eq!(calls.next_tick(), Some(at(10_100)));
        assert_eq!(call(&mut calls, 10_100), Some((Ended::Code(1), 0)));
    }

    #[test]
    fn one_that_waits_for_its_turn_needs_no_tick() {
        let mut calls = FailureCalls::default();
        calls.ended(at(0), Ended::Code(1), Duration::ZERO);
        assert!(calls.queue_if_due(at(200)) && !calls.queue_if_due(at(300)));
        calls.ended(at(400), Ended::Code(2), Duration::ZERO);
        assert_eq!(calls.next_tick(), None);
        assert_eq!(call(&mut calls, 500), Some((Ended::Code(2), 2)));
    }

    proptest! {
        /// Calls are ten seconds apart, tell every end exactly once, and come after each failure.
        #[test]
        fn every_end_is_told_once(ends in prop::collection::vec((0_u64..20_000, 0_u8..3), 0..40)) {
            let (mut calls, mut now, mut told, mut last) = (FailureCalls::default(), 0, 0, None);
            let mut tick = |calls: &mut FailureCalls, until: u64| {
                while let Some(due) = calls.next_tick().filter(|due| *due <= at(until)) {
                    assert!(calls.queue_if_due(due));
                    told += calls.take(due).unwrap().ends;
                    assert!(last.is_none_or(|last: Moment| due >= last.saturating_add(EVERY)));
                    last = Some(due);
                }
                told
            };
            let mut since_failure = 0;
            for (pause, code) in &ends {
                now += pause;
                tick(&mut calls, now);
                calls.ended(at(now), Ended::Code(*code), Duration::ZERO);
                since_failure = if *code == 0 { since_failure + 1 } else { 0 };
            }
            let told = tick(&mut calls, now + 100_000);
            // What follows the last failure within its ten seconds may be told with it.
            prop_assert!(ends.len() as u32 - told <= since_failure, "{told} of {}", ends.len());
        }
    }
}
