//! Timestamps at the beginning of log lines, and times on the command line. Pure: no I/O; clock and time zone are
//! arguments. Source: svlogd(8), -t, -tt and -ttt.

use svcore::decimal;
use svcore::label::{Label, stamp_of};
use svcore::tai::{self, Tai64N};

/// Length of each kind of timestamp.
pub(super) const LENGTH: usize = 25;

/// How many seconds local time is ahead of UTC at a time, which is in seconds after 1970.
pub(super) type Zone<'z> = &'z dyn Fn(i64) -> i64;

/// The timestamp that a line begins with, if it begins with one.
pub(super) fn of_line(line: &[u8]) -> Option<Tai64N> {
    let (text, after) = line.split_first_chunk::<LENGTH>()?;
    if !matches!(after, [] | [b' ' | b'\n', ..]) {
        return None;
    }
    match text {
        [b'@', ..] => of_label(text),
        [b'0'..=b'9', ..] => of_utc(text),
        _ => None,
    }
}

/// What follows a timestamp and the blank after it.
pub(super) fn after(line: &[u8]) -> &[u8] {
    let rest = line.get(LENGTH..).unwrap_or_default();
    rest.strip_prefix(b" ").unwrap_or(rest)
}

fn of_label(label: &Label) -> Option<Tai64N> {
    // svlogd writes small letters.
    let has_capitals = || label.iter().any(u8::is_ascii_uppercase);
    stamp_of(label).filter(|stamp| stamp.1 < 1_000_000_000 && !has_capitals())
}

/// `2026-11-20_08:20:00.12345`, with `_` or `T`.
fn of_utc(text: &Label) -> Option<Tai64N> {
    let [
        y0,
        y1,
        y2,
        y3,
        b'-',
        m0,
        m1,
        b'-',
        d0,
        d1,
        b'_' | b'T',
        h0,
        h1,
        b':',
        i0,
        i1,
        b':',
        s0,
        s1,
        b'.',
        f @ ..,
    ] = text
    else {
        return None;
    };
    let year = number(&[*y0, *y1, *y2, *y3])?;
    let days = tai::days_to(year, number(&[*m0, *m1])?, number(&[*d0, *d1])?)?;
    let second = second_of_day(number(&[*h0, *h1])?, number(&[*i0, *i1])?, number(&[*s0, *s1])?)?;
    let nanos = u32::try_from(number(f)?.checked_mul(10_000)?).ok()?;
    Some(tai::stamp(i64::try_from(days.checked_mul(86_400)?.checked_add(second)?).ok()?, nanos))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() { None } else { decimal::whole(digits) }
}

fn second_of_day(hour: u64, minute: u64, second: u64) -> Option<u64> {
    (hour < 24 && minute < 60 && second < 60)
        .then(|| hour.saturating_mul(3600).saturating_add(minute.saturating_mul(60)).saturating_add(second))
}

/// The time that a text means, such as the value of `--since`; `None` if it means none. See svctl(8) for all forms.
pub(super) fn of_text(text: &[u8], now: Tai64N, zone: Zone<'_>) -> Option<Tai64N> {
    let (now_seconds, now_nanos) = tai::since_1970(&now);
    if let Some(ago) = span(text) {
        return Some(tai::stamp(now_seconds.saturating_sub(ago), now_nanos));
    }
    // Midnight, as local clocks show it.
    let today = now_seconds.saturating_add(zone(now_seconds)).div_euclid(86_400).saturating_mul(86_400);
    match text {
        b"now" => return Some(now),
        b"today" => return Some(tai::stamp(of_local(today, zone), 0)),
        b"yesterday" => return Some(tai::stamp(of_local(today.saturating_sub(86_400), zone), 0)),
        [b'@', rest @ ..] => {
            return match <&Label>::try_from(text) {
                Ok(label) => of_label(label),
                Err(_) => Some(tai::stamp(i64::try_from(number(rest)?).ok()?, 0)),
            };
        }
        _ => {}
    }
    if let Some(time) = time_of_day(text) {
        return Some(tai::stamp(of_local(today.saturating_add(time.0), zone), time.1));
    }
    let (date, rest) = text.split_first_chunk::<10>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else { return None };
    let days = tai::days_to(number(&[*y0, *y1, *y2, *y3])?, number(&[*m0, *m1])?, number(&[*d0, *d1])?)?;
    let days = i64::try_from(days).ok()?.saturating_mul(86_400);
    let (time, is_utc) = match rest {
        [] => ((0, 0), false),
        // As svlogd -tt writes it.
        [b'_', time @ ..] => (time_of_day(time.strip_suffix(b"Z").unwrap_or(time))?, true),
        [b' ' | b'T', time @ ..] => match time.strip_suffix(b"Z") {
            Some(time) => (time_of_day(time)?, true),
            None => (time_of_day(time)?, false),
        },
        _ => return None,
    };
    let seconds = days.saturating_add(time.0);
    Some(tai::stamp(if is_utc { seconds } else { of_local(seconds, zone) }, time.1))
}

/// The time at which local clocks show this. Where clocks are set forward or back, it is one of the times that come near.
fn of_local(local: i64, zone: Zone<'_>) -> i64 {
    let guess = local.saturating_sub(zone(local));
    local.saturating_sub(zone(guess))
}

/// `08:20`, `08:20:15` or `08:20:15.5`: seconds and nanoseconds after midnight.
fn time_of_day(text: &[u8]) -> Option<(i64, u32)> {
    let mut parts = text.splitn(3, |byte| *byte == b':');
    let two = |part: Option<&[u8]>| part.filter(|part| matches!(part.len(), 1 | 2)).and_then(number);
    let (hour, minute) = (two(parts.next())?, two(parts.next())?);
    let (mut second, mut nanos) = (0, 0);
    if let Some(last) = parts.next() {
        let mut last = last.splitn(2, |byte| *byte == b'.');
        second = two(last.next())?;
        if let Some(fraction) = last.next() {
            number(fraction)?;
            let mut digits = fraction.to_vec();
            digits.resize(9, b'0');
            nanos = u32::try_from(number(&digits)?).ok()?;
        }
    }
    Some((i64::try_from(second_of_day(hour, minute, second)?).ok()?, nanos))
}

/// `90s`, `10m`, `1h30m`, `2d`, `1w`: as many seconds.
fn span(text: &[u8]) -> Option<i64> {
    let (mut rest, mut all) = (text, 0_u64);
    while !rest.is_empty() {
        let (count, after) = decimal::leading(rest);
        let [unit, next @ ..] = after else { return None };
        let length = match unit {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        // Without a digit it is a word.
        if after.len() == rest.len() {
            return None;
        }
        all = all.saturating_add(count.saturating_mul(length));
        rest = next;
    }
    (!text.is_empty()).then(|| i64::try_from(all).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use svcore::label::label_of;

    use super::*;

    /// Friday, 2026-11-20 08:00:00.25 UTC.
    const NOW: i64 = 1_795_161_600;

    fn read(text: &str) -> Option<(i64, u32)> {
        // Two hours ahead until 2026-10-25 01:00 UTC, then one.
        let zone = |seconds| if seconds < 1_792_890_000 { 7200 } else { 3600 };
        of_text(text.as_bytes(), tai::stamp(NOW, 250_000_000), &zone).map(|stamp| tai::since_1970(&stamp))
    }

    #[test]
    fn times_are_understood_as_people_write_them() {
        for (text, expected) in [
            ("10m", Some((NOW - 600, 250_000_000))),
            ("1h30m", Some((NOW - 5400, 250_000_000))),
            ("2d", Some((NOW - 172_800, 250_000_000))),
            ("1w1s", Some((NOW - 604_801, 250_000_000))),
            ("now", Some((NOW, 250_000_000))),
            // Local time is UTC+1 now, and was UTC+2 in summer.
            ("today", Some((NOW - 9 * 3600, 0))),
            ("yesterday", Some((NOW - 33 * 3600, 0))),
            ("08:20", Some((NOW - 3600 + 1200, 0))),
            ("8:20:15.5", Some((NOW - 3600 + 1215, 500_000_000))),
            ("2026-11-20", Some((NOW - 9 * 3600, 0))),
            ("2026-11-20 08:20", Some((NOW - 2400, 0))),
            ("2026-11-20T08:20:01", Some((NOW - 2399, 0))),
            ("2026-11-20T08:20:01Z", Some((NOW + 1201, 0))),
            ("2026-11-20_08:20:01.12345", Some((NOW + 1201, 123_450_000))),
            ("2026-07-01 12:00", Some((1_782_900_000, 0))),
            ("@1795161600", Some((NOW, 0))),
            ("@400000006afffd8a00000005", Some((0x6aff_fd80, 5))),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in [
            "",
            "m",
            "10",
            "10x",
            "-10m",
            "25:00",
            "08:60",
            "2026-02-30",
            "2026-11-20x",
            "@",
            "@x",
            "noon",
            "08:20:",
            "h1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("99999999999999999999w"), Some((0, 250_000_000)));
    }

    #[test]
    fn a_line_has_a_stamp_only_where_svlogd_puts_one() {
        let of = |line: &str| of_line(line.as_bytes()).map(|stamp| tai::since_1970(&stamp));
        assert_eq!(of("@400000006afffd8a00000005 x"), Some((0x6aff_fd80, 5)));
        assert_eq!(of("2026-11-20_08:00:00.12345 x"), Some((NOW, 123_450_000)));
        assert_eq!(of("2026-11-20T08:00:00.12345"), Some((NOW, 123_450_000)));
        for line in [
            "",
            "x",
            " @400000006afffd8a00000005 x",
            "@400000006afffd8a00000005x",
            "@400000006afffd8a0000000 x",
            "@400000006AFFFD8A00000005 x",
            "@ffffffffffffffffffffffff x",
            "@400000006afffd8affffffff x",
            "2026-11-20 08:00:00.12345 x",
            "2026-13-20_08:00:00.12345 x",
            "2026-11-20_08:00:00,12345 x",
            "2026-11-20_08:61:00.12345 x",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
        assert_eq!(after(b"@400000006afffd8a00000005 x y"), b"x y");
        assert_eq!(after(b"@400000006afffd8a00000005"), b"");
    }

    proptest! {
        /// Each stamp that svlogd writes is read as the time that it stands for.
        #[test]
        fn what_svlogd_writes_is_read(seconds in 0_i64..200_000_000_000, nanos in 0_u32..1_000_000_000) {
            let stamp = tai::stamp(seconds, nanos);
            let line = [&label_of(&stamp)[..], b" x"].concat();
            prop_assert_eq!(of_line(&line), Some(stamp));
            let line = [&tai::human(&stamp, b'_')[..], b" x"].concat();
            let read = of_line(&line).unwrap();
            prop_assert_eq!((read.0, read.1), (stamp.0, nanos / 10_000 * 10_000));
        }

        /// No text makes it fail, and every line has the same meaning for the rest of the program.
        #[test]
        fn any_text_is_read(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = of_text(&text, tai::stamp(NOW, 0), &|_| 3600);
            let _ = of_line(&text);
        }
    }
}
