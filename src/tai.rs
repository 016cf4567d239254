//! TAI64N time stamps, as daemontools and runit write them.
//!
//! Both label 1970-01-01 00:00:00 UTC with 2^62 + 10 and count no leap second after it. `tai64` keeps that
//! label in `from_unix`, but its `now` and `from_system_time` lie 27 seconds in the future for every other
//! runit program: use the functions here.

use tai64::Tai64;
pub use tai64::Tai64N;

/// The label of 1970-01-01 00:00:00 UTC, in seconds.
const EPOCH: u64 = 0x4000_0000_0000_000a;

/// A stamp for `seconds` and `nanos` after 1970-01-01 00:00:00 UTC.
///
/// A clock set before 1970 gives the stamp of 1970: such a machine has no clock worth keeping, and a status
/// must still be written.
#[must_use]
pub fn stamp(seconds: i64, nanos: u32) -> Tai64N {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Tai64N(Tai64(EPOCH.saturating_add(seconds)), nanos.min(999_999_999))
}

/// Whole seconds from `then` to `now`; 0 when `then` lies in the future. Source: sv(8), status.
#[must_use]
pub fn seconds_between(then: &Tai64N, now: &Tai64N) -> u64 {
    now.0.0.saturating_sub(then.0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_has_the_label_of_daemontools() {
        assert_eq!(stamp(0, 0).to_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0]);
        assert_eq!(stamp(1, 500).to_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0x01, 0xf4]);
        assert_eq!(stamp(-5, 0), stamp(0, 0));
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(seconds_between(&stamp(100, 999_999_999), &stamp(101, 0)), 1);
        assert_eq!(seconds_between(&stamp(101, 0), &stamp(100, 0)), 0);
    }
}
