//! Messages that a supervisor printed a short time ago, so that equal ones do not follow each other every second.

use std::time::Duration;

use crate::moment::Moment;

/// The time between two equal messages.
pub const EVERY: Duration = Duration::from_secs(10);
/// How many different messages are remembered. With more of them at the same time, some are printed more often.
const REMEMBERED: usize = 4;

/// The messages about one thing that were printed last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent([Option<Printed>; REMEMBERED]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Printed {
    /// The hash of the message.
    hash: u64,
    at: Moment,
}

impl Recent {
    /// Whether a message is to be printed at `now`; then it counts as printed.
    pub fn is_new(&mut self, now: Moment, message: &[u8]) -> bool {
        let hash = hash(message);
        if self.0.iter().flatten().any(|it| it.hash == hash && now < it.at.saturating_add(EVERY)) {
            return false;
        }
        let is_replaceable = |printed: &Option<Printed>| printed.is_none_or(|it| it.hash == hash);
        let slot = match self.0.iter().position(is_replaceable) {
            Some(index) => self.0.get_mut(index),
            // The one that was printed first.
            None => self.0.iter_mut().min_by_key(|printed| printed.map(|it| it.at)),
        };
        if let Some(slot) = slot {
            *slot = Some(Printed { hash, at: now });
        }
        true
    }
}

/// A number for a message. FNV-1a.
#[must_use]
pub fn hash(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn equal_messages_are_ten_seconds_apart_and_different_ones_are_not_held_up() {
        let mut recent = Recent::default();
        let printed =
            [(0, "a"), (1, "a"), (1, "b"), (9, "a"), (10, "a"), (10, "b"), (11, "b"), (19, "a"), (20, "a")]
                .map(|(second, text)| recent.is_new(at(second), text.as_bytes()));
        assert_eq!(printed, [true, false, true, false, true, false, true, false, true]);
    }

    #[test]
    fn of_many_messages_the_last_are_remembered() {
        let mut recent = Recent::default();
        for second in 0..5 {
            assert!(recent.is_new(at(second), format!("{second}").as_bytes()));
        }
        assert!(!recent.is_new(at(5), b"4") && !recent.is_new(at(5), b"1"));
        assert!(recent.is_new(at(5), b"0"), "it was forgotten for the fifth");
    }
}
