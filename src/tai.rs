//! TAI64N time stamps, as daemontools and runit write them.
//!
//! Both label 1970-01-01 00:00:00 UTC with 2^62 + 10 and count no leap second after it. So does `from_unix` of the crate
//! `tai64`, but its `now` and `from_system_time` are 27 seconds ahead of what every runit program writes: use the functions
//! here.

pub use tai64::{Tai64, Tai64N};

/// The label of 1970-01-01 00:00:00 UTC, in seconds.
const EPOCH: u64 = 0x4000_0000_0000_000a;

/// A stamp for `seconds` and `nanos` after 1970-01-01 00:00:00 UTC.
///
/// A clock that is set before 1970 yields the stamp of 1970: such a clock is wrong, and a status must be written all the
/// same.
#[must_use]
pub fn stamp(seconds: i64, nanos: u32) -> Tai64N {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Tai64N(Tai64(EPOCH.saturating_add(seconds)), nanos.min(999_999_999))
}

/// The stamp of now, by the wall clock.
#[must_use]
pub fn now() -> Tai64N {
    let (seconds, nanos) = crate::sys::clock::wall_unix();
    stamp(seconds, nanos)
}

/// Seconds and nanoseconds after 1970-01-01 00:00:00 UTC. A stamp before that counts as that moment.
#[must_use]
pub fn since_1970(stamp: &Tai64N) -> (i64, u32) {
    (i64::try_from(stamp.0.0.saturating_sub(EPOCH)).unwrap_or(i64::MAX), stamp.1)
}

/// The stamp that is `after` later than `stamp`.
#[must_use]
pub(crate) fn later(stamp: &Tai64N, after: std::time::Duration) -> Tai64N {
    let nanos = stamp.1.saturating_add(after.subsec_nanos());
    let carry = u64::from(nanos / 1_000_000_000);
    let seconds = stamp.0.0.saturating_add(after.as_secs()).saturating_add(carry);
    Tai64N(Tai64(seconds), nanos % 1_000_000_000)
}

/// Whole seconds from `then` to `now`; 0 when `then` lies in the future. Source: sv(8), status.
#[must_use]
pub fn seconds_between(then: &Tai64N, now: &Tai64N) -> u64 {
    now.0.0.saturating_sub(then.0.0)
}

/// A stamp as text in UTC with five digits of the second, `2026-11-20_08:20:00.12345`; `between` is the byte between date
/// and time. Source: svlogd(8), -tt and -ttt.
#[must_use]
pub fn human(stamp: &Tai64N, between: u8) -> [u8; 25] {
    let seconds = stamp.0.0.saturating_sub(EPOCH);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let mut text = [b'0'; 25];
    let mut put = |at: usize, digits: usize, mut value: u64| {
        for place in text.iter_mut().skip(at).take(digits).rev() {
            *place = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3600);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    put(20, 5, u64::from(stamp.1) / 10_000);
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, between), (13, b':'), (16, b':'), (19, b'.')] {
        if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
    }
    text
}

/// The days from 1970-01-01 to a date in the Gregorian calendar; `None` if there is no such date, or it is before 1970 or
/// after 9999.
#[must_use]
pub fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (of_year, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let (era, year_of_era) = (year / 400, year % 400);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * of_year + 2) / 5 + day - 1;
    let days = (era * 146_097 + of_era).checked_sub(719_468)?;
    (date(days).2 == day).then_some(days)
}

/// Year, month and day of a day after 1970-01-01, in the Gregorian calendar.
///
/// It counts years from March, so that the leap day is the last day of a year.
const fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let of_era = days % ERA;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + days / ERA * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_shown_in_utc() {
        let shown = |seconds, nanos| String::from_utf8(human(&stamp(seconds, nanos), b'_').to_vec()).unwrap();
        assert_eq!(shown(0, 0), "1970-01-01_00:00:00.00000");
        assert_eq!(shown(951_782_399, 999_999_999), "2000-02-28_23:59:59.99999");
        assert_eq!(shown(951_782_400, 12_345_678), "2000-02-29_00:00:00.01234");
        assert_eq!(shown(4_107_542_400, 0), "2100-03-01_00:00:00.00000");
        assert_eq!(shown(1_795_161_600, 0), "2026-11-20_08:00:00.00000");
    }

    #[test]
    fn dates_and_days_are_the_same() {
        for days in 0..50_000 {
            let (year, month, day) = date(days);
            assert_eq!(days_to(year, month, day), Some(days));
        }
        for (year, month, day) in [(2026, 2, 29), (2026, 13, 1), (2026, 0, 1), (1969, 12, 31), (2026, 4, 31)]
        {
            assert_eq!(days_to(year, month, day), None);
        }
    }

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
