//! How soon to try again after a failure. Without I/O.

use std::time::Duration;

use crate::moment::Moment;

/// The first pause; each later one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(5);

/// Failed tries of one thing, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failed: u32,
}

impl Retry {
    /// Another try failed. Returns when to try again.
    pub fn failed(&mut self, now: Moment) -> Moment {
        let pause = FIRST.saturating_mul(1_u32.checked_shl(self.failed).unwrap_or(u32::MAX));
        self.failed = self.failed.saturating_add(1);
        now.saturating_add(pause.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_at_first_and_then_every_few_seconds() {
        let mut retry = Retry::default();
        let pauses: Vec<u128> =
            (0..9).map(|_| retry.failed(Moment::START).since_start().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        let mut long = Retry { failed: u32::MAX };
        assert_eq!(long.failed(Moment::START), Moment::START + LONGEST);
    }
}
