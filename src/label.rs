//! Labels: TAI64N stamps as text, in the names of old logs and before lines. Pure: no I/O, no clock.

use crate::tai::{Tai64, Tai64N};

/// `@` and the 24 hexadecimal digits of a stamp. Labels sort as their stamps do.
pub type Label = [u8; 25];

/// No clock shows this second or a later one: it is some 35,000 years from now.
pub const CLOCK_LIMIT: u64 = (1 << 62) | (1 << 40);

/// The label of a stamp.
#[must_use]
pub fn label_of(stamp: &Tai64N) -> Label {
    let mut label = [b'@'; 25];
    let digits = stamp.to_bytes();
    let digits = digits.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in label.iter_mut().skip(1).zip(digits) {
        *place = match digit {
            0..=9 => b'0'.wrapping_add(digit),
            _ => b'a'.wrapping_add(digit.wrapping_sub(10)),
        };
    }
    label
}

/// The stamp of a label; `None` if it is later than any clock can show.
#[must_use]
pub fn stamp_of(label: &Label) -> Option<Tai64N> {
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0_u64, |number, &byte| Some(number << 4 | u64::from(char::from(byte).to_digit(16)?)))
    };
    let (seconds, nanos) = label.get(1..)?.split_first_chunk::<16>()?;
    let seconds = number(seconds).filter(|&seconds| seconds < CLOCK_LIMIT)?;
    Some(Tai64N(Tai64(seconds), u32::try_from(number(nanos)?).ok()?))
}

/// The stamp and label for a new old log: those of now, or of the nanosecond after `last` if the clock shows no later
/// time than that. `None` if there is no later stamp.
#[must_use]
pub fn next_label(now: Tai64N, last: Option<Tai64N>) -> Option<(Tai64N, Label)> {
    let stamp = match last {
        Some(last) if last >= now => stamp_after(last)?,
        _ => now,
    };
    Some((stamp, label_of(&stamp)))
}

fn stamp_after(stamp: Tai64N) -> Option<Tai64N> {
    match stamp.1.checked_add(1).filter(|&nanos| nanos < 1_000_000_000) {
        Some(nanos) => Some(Tai64N(stamp.0, nanos)),
        None => Some(Tai64N(Tai64(stamp.0.0.checked_add(1)?), 0)),
    }
}

#[cfg(test)]
mod tests {
    use crate::tai::stamp;

    use super::*;

    #[test]
    fn a_label_is_later_than_the_last_one_whatever_the_clock_does() {
        let (first, label) = next_label(stamp(100, 5), None).unwrap();
        assert_eq!(&label, b"@400000000000006e00000005");
        let (second, _) = next_label(stamp(100, 5), Some(first)).unwrap();
        let (third, _) = next_label(stamp(7, 0), Some(second)).unwrap();
        assert!(first < second && second < third);
        assert_eq!(next_label(stamp(200, 0), Some(third)).unwrap().0, stamp(200, 0));
        assert_eq!(next_label(stamp(1, 0), Some(stamp(100, 999_999_999))).unwrap().0, stamp(101, 0));
        assert_eq!(next_label(stamp(1, 0), Some(Tai64N(Tai64(u64::MAX), 999_999_999))), None);
    }

    #[test]
    fn a_label_has_a_stamp_if_a_clock_can_have_shown_it() {
        assert_eq!(stamp_of(b"@400000000000006e00000005"), Some(stamp(100, 5)));
        assert_eq!(stamp_of(b"@400000ffffffffffffffffff"), Some(Tai64N(Tai64(CLOCK_LIMIT - 1), u32::MAX)));
        assert_eq!(stamp_of(b"@400001000000000000000000"), None);
        assert_eq!(stamp_of(b"@ffffffffffffffffffffffff"), None);
    }

    #[test]
    fn the_digits_of_a_label_are_those_of_its_stamp() {
        for nanos in [0, 0x0123_4567, 0x89ab_cdef] {
            let stamp = Tai64N(Tai64(0x3edc_ba98_7654_3210), nanos);
            assert_eq!(stamp_of(&label_of(&stamp)), Some(stamp));
        }
        assert_eq!(&label_of(&Tai64N(Tai64(0x0123_4567_89ab_cdef), 0)), b"@0123456789abcdef00000000");
    }
}
