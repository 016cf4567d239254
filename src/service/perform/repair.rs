//! When to try again what failed. Without I/O.

use std::time::Duration;

use crate::moment::{Moment, earlier};

/// What failed is tried again after this time, and then after twice as long each time, up to [`LAST`].
pub(super) const FIRST: Duration = Duration::from_millis(50);
/// See [`FIRST`].
const LAST: Duration = Duration::from_secs(5);

/// The next repair: `supervise` is made again, watches are set, the status is published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repair {
    /// When it is due, if anything is to be repaired.
    at: Option<Moment>,
    /// The pause after the next failure.
    pause: Duration,
    /// A failure was reported, and nothing has succeeded since.
    reported: bool,
}

impl Repair {
    pub(super) const fn new() -> Self {
        Repair { at: None, pause: FIRST, reported: false }
    }

    /// When it is due, if ever.
    pub(super) const fn at(&self) -> Option<Moment> {
        self.at
    }

    /// It is due at this moment, if not before.
    pub(super) fn at_latest(&mut self, at: Moment) {
        self.at = earlier(self.at, Some(at));
    }

    /// Something failed at `now`: it is due after a pause, if not before.
    pub(super) fn after_failure(&mut self, now: Moment) {
        if self.at.is_none() {
            self.at = Some(now.saturating_add(self.pause));
            self.pause = self.pause.saturating_mul(2).min(LAST);
        }
    }

    /// Whether it is due; then it counts as being done now.
    pub(super) fn begin_if_due(&mut self, now: Moment) -> bool {
        self.at.take_if(|at| now >= *at).is_some()
    }

    /// Everything is in order.
    pub(super) const fn succeeded(&mut self) {
        self.pause = FIRST;
        self.reported = false;
    }

    /// Whether this failure is the first since everything was in order, and is to be reported.
    pub(super) const fn is_first_failure(&mut self) -> bool {
        !std::mem::replace(&mut self.reported, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_until_something_succeeds() {
        let mut repair = Repair::new();
        let mut now = Moment::START;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            repair.after_failure(now);
            repair.after_failure(now);
            let at = repair.at().unwrap();
            pauses.push(at.since(now).as_millis());
            let before = Moment::from_start(at.since_start() - Duration::from_millis(1));
            assert!(!repair.begin_if_due(before));
            assert!(repair.begin_if_due(at) && !repair.begin_if_due(at));
            now = at;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(repair.is_first_failure() && !repair.is_first_failure());
        repair.succeeded();
        repair.after_failure(now);
        assert!(repair.is_first_failure() && repair.at() == Some(now + FIRST));
    }
}
