//! When `current` becomes an old log, what that one is called, and which old one goes. Without I/O.
//! Source: svlogd(8), LOG FILE ROTATION.

use memchr::memchr;
use svcore::tai::{Tai64, Tai64N};

/// Length of the name of an old log: `@`, 24 digits, `.` and a letter.
const NAME: usize = 27;
/// A second, some 35,000 years from now, that no clock shows.
const NEVER: u64 = (1 << 62) | (1 << 40);

/// How much `current` may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// In bytes; 0 is without limit.
    pub(crate) size: u64,
    /// svlogd's `-l`: within this distance of the limit the end of a line is enough, so that lines are not cut.
    pub(crate) line: u64,
}

/// What is to be done with bytes for `current`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many of them fit.
    pub(crate) bytes: usize,
    /// `current` is full after them.
    pub(crate) full: bool,
}

impl Limit {
    /// How much of `bytes` goes into a `current` that has `length` bytes.
    pub(crate) fn room(&self, length: u64, bytes: &[u8]) -> Room {
        let all = Room { bytes: bytes.len(), full: false };
        if self.size == 0 {
            return all;
        }
        let Some(left) = self.size.checked_sub(length).filter(|&left| left > 0) else {
            return Room { bytes: 0, full: true };
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let fits = bytes.get(..left).unwrap_or(bytes);
        // A limit below the length of a line never leaves room for one more: no line end is early enough.
        if let Some(soft) = self.size.checked_sub(self.line) {
            let from = usize::try_from(soft.saturating_sub(length).saturating_sub(1)).unwrap_or(usize::MAX);
            let end = fits.get(from..).and_then(|late| memchr(b'\n', late));
            if let Some(end) = end {
                return Room { bytes: from.saturating_add(end).saturating_add(1), full: true };
            }
        }
        if fits.len() < bytes.len() { Room { bytes: fits.len(), full: true } } else { all }
    }
}

/// An old log, from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Old {
    /// `@` and 24 digits.
    pub(crate) label: [u8; 25],
    /// `s` for saved, `u` for unprocessed, `t` for the processor's unfinished output.
    pub(crate) kind: u8,
}

impl Old {
    /// The old log of this name, if it is the name of one.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        let (label, rest) = name.split_first_chunk::<25>()?;
        let digits =
            label.get(1..)?.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit));
        match (label.first()?, rest) {
            (b'@', [b'.', kind @ (b's' | b'u' | b't')]) if digits => Some(Old { label: *label, kind: *kind }),
            _ => None,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        let mut name = String::with_capacity(NAME);
        name.extend(self.label.iter().map(|&byte| char::from(byte)));
        name.push('.');
        name.push(char::from(self.kind));
        name
    }

    /// The moment in its name, if any clock was ever there.
    pub(crate) fn stamp(&self) -> Option<Tai64N> {
        let mut number = 0_u128;
        for &byte in self.label.iter().skip(1) {
            let digit = char::from(byte).to_digit(16)?;
            number = number.checked_mul(16)?.checked_add(digit.into())?;
        }
        let seconds = u64::try_from(number.checked_shr(32)?).ok().filter(|&seconds| seconds < NEVER)?;
        Some(Tai64N(Tai64(seconds), u32::try_from(number & u128::from(u32::MAX)).ok()?))
    }
}

/// The latest moment that an old log has in its name.
pub(crate) fn newest(old: &[Old]) -> Option<Tai64N> {
    old.iter().filter_map(Old::stamp).max()
}

/// New labels for names of no moment, in their order, so that there is always a later name than all that are there.
///
/// Each is new when those before it have their new one.
pub(crate) fn renames(old: &[Old], now: Tai64N) -> Vec<([u8; 25], [u8; 25])> {
    let mut labels: Vec<[u8; 25]> =
        old.iter().filter(|old| old.stamp().is_none()).map(|old| old.label).collect();
    labels.sort_unstable();
    labels.dedup();
    let mut last = newest(old);
    let mut renames = Vec::new();
    for from in labels {
        let Some((stamp, to)) = label(now, last) else { break };
        last = Some(stamp);
        if to < from {
            renames.push((from, to));
        }
    }
    renames
}

/// The labels of all old logs, in the order in which they go.
///
/// `last` is the latest that is ours. What has a later name is not, since our names are later than all that were there
/// before; it goes before ours do.
pub(crate) fn in_order(old: &[Old], last: Option<Tai64N>) -> Vec<[u8; 25]> {
    let mut labels: Vec<[u8; 25]> = old.iter().filter(|old| old.kind != b't').map(|old| old.label).collect();
    let last = last.map(|last| text(&last));
    labels.sort_unstable_by_key(|label| (last.is_none_or(|last| *label <= last), *label));
    labels.dedup();
    labels
}

/// The labels of the old logs that have to go so that `keep` are left, the first to go first; 0 keeps all.
///
/// None goes while an older one stays, whether that is worked on or not: what is kept is always one piece.
pub(crate) fn surplus(old: &[Old], keep: u64, last: Option<Tai64N>) -> Vec<[u8; 25]> {
    let mut labels = in_order(old, last);
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    labels.truncate(if keep == 0 { 0 } else { labels.len().saturating_sub(keep) });
    labels
}

/// Whether the next old log would be the end of one that waits for the processor: then it is worth waiting.
pub(crate) const fn is_processor_behind(unprocessed: u64, keep: u64) -> bool {
    keep > 0 && unprocessed >= keep
}

/// A label for now that is later than the one before, whatever the clock does; `None` if there is none.
pub(crate) fn label(now: Tai64N, last: Option<Tai64N>) -> Option<(Tai64N, [u8; 25])> {
    let stamp = match last {
        Some(last) if last >= now => next(last)?,
        _ => now,
    };
    Some((stamp, text(&stamp)))
}

fn next(stamp: Tai64N) -> Option<Tai64N> {
    match stamp.1.checked_add(1).filter(|&nanos| nanos < 1_000_000_000) {
        Some(nanos) => Some(Tai64N(stamp.0, nanos)),
        None => Some(Tai64N(Tai64(stamp.0.0.checked_add(1)?), 0)),
    }
}

/// `@` and the stamp in 24 hexadecimal digits.
pub(crate) fn text(stamp: &Tai64N) -> [u8; 25] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'@'; 25];
    let digits = stamp.to_bytes();
    let digits = digits.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in text.iter_mut().skip(1).zip(digits) {
        *place = DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0');
    }
    text
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    use svcore::tai::stamp;

    use super::*;

    #[test]
    fn a_line_end_near_the_limit_is_enough() {
        let limit = Limit { size: 100, line: 50 };
        let line = [&[b'x'; 39][..], b"\n"].concat();
        assert_eq!(limit.room(0, &line), Room { bytes: 40, full: false });
        assert_eq!(limit.room(40, &line), Room { bytes: 40, full: true });
        assert_eq!(limit.room(9, &line), Room { bytes: 40, full: false });
        assert_eq!(limit.room(10, &line), Room { bytes: 40, full: true });
        assert_eq!(limit.room(90, &line), Room { bytes: 10, full: true });
        assert_eq!(limit.room(100, &line), Room { bytes: 0, full: true });
        assert_eq!(Limit { size: 0, line: 50 }.room(1 << 40, &line), Room { bytes: 40, full: false });
    }

    #[test]
    fn names_of_old_logs_are_told_from_others() {
        let name = "@400000000000000a00000000.s";
        assert_eq!(Old::from_name(name.as_bytes()).unwrap().name(), name);
        for other in [
            "current",
            "@400000000000000a00000000.x",
            "@400000000000000A00000000.s",
            "@40.s",
            "lock",
            "x400000000000000a00000000.s",
            "@400000000000000a00000000.ss",
            "@400000000000000a00000000",
        ] {
            assert_eq!(Old::from_name(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_label_is_later_than_the_last_one_whatever_the_clock_does() {
        let (first, text) = label(stamp(100, 5), None).unwrap();
        assert_eq!(&text, b"@400000000000006e00000005");
        let (second, _) = label(stamp(100, 5), Some(first)).unwrap();
        let (third, _) = label(stamp(7, 0), Some(second)).unwrap();
        assert!(first < second && second < third);
        assert_eq!(label(stamp(200, 0), Some(third)).unwrap().0, stamp(200, 0));
        assert_eq!(label(stamp(1, 0), Some(stamp(100, 999_999_999))).unwrap().0, stamp(101, 0));
        assert_eq!(label(stamp(1, 0), Some(Tai64N(Tai64(u64::MAX), 999_999_999))), None);
    }

    #[test]
    fn a_name_is_a_moment_if_a_clock_can_have_shown_it() {
        let stamp_of = |name: &str| Old::from_name(name.as_bytes()).unwrap().stamp();
        assert_eq!(stamp_of("@400000000000006e00000005.s"), Some(stamp(100, 5)));
        assert_eq!(stamp_of("@400000ffffffffffffffffff.u"), Some(Tai64N(Tai64(NEVER - 1), u32::MAX)));
        assert_eq!(stamp_of("@400001000000000000000000.s"), None);
        assert_eq!(stamp_of("@ffffffffffffffffffffffff.s"), None);
    }

    proptest! {
        /// No file is longer than the limit, and none but the last ends without reason.
        #[test]
        fn no_file_is_too_long_and_nothing_is_lost(
            size in 1_u64..200, line in 1_u64..60,
            lengths in prop::collection::vec(0_usize..80, 0..40),
        ) {
            let limit = Limit { size, line };
            let bytes: Vec<u8> = lengths.iter().flat_map(|&n| [vec![b'x'; n], vec![b'\n']].concat()).collect();
            let (mut files, mut current, mut rest) = (Vec::new(), Vec::new(), bytes.as_slice());
            while !rest.is_empty() {
                let room = limit.room(current.len() as u64, rest);
                current.extend_from_slice(&rest[..room.bytes]);
                rest = &rest[room.bytes..];
                prop_assert!(room.full || rest.is_empty());
                prop_assert!(current.len() as u64 <= size);
                if room.full {
                    let near = current.len() as u64 >= size.saturating_sub(line) && current.ends_with(b"\n") && line <= size;
                    prop_assert!(near || current.len() as u64 == size);
                    files.push(std::mem::take(&mut current));
                }
            }
            files.push(current);
            prop_assert_eq!(files.concat(), bytes);
        }

        /// A directory with whatever names, a clock that does what it likes, and a restart now and then: what is kept
        /// after each rotation is one piece that ends with what was logged last, at most as many as are to be kept, and
        /// no fewer if enough was logged. The names sort as it was logged.
        #[test]
        fn what_is_kept_is_one_piece_that_ends_with_the_last(
            there in prop::collection::btree_set(any_label(), 0..12),
            clock in prop::collection::vec(prop_oneof![0_i64..50, Just(0), Just(20_000_000_000)], 1..60),
            restarts in prop::collection::vec(any::<bool>(), 60),
            keep in 0_u64..8,
        ) {
            // Each with its number, in the order in which it was logged, which is that of the names.
            let mut dir: Vec<(Old, usize)> =
                there.into_iter().map(|label| Old { label, kind: b's' }).zip(1..).collect();
            let names = |dir: &[(Old, usize)]| dir.iter().map(|(old, _)| *old).collect::<Vec<Old>>();
            let (mut logged, mut last) = (dir.len(), None);
            for (index, seconds) in clock.iter().enumerate() {
                if restarts[index] || index == 0 {
                    for (from, to) in renames(&names(&dir), stamp(*seconds, 0)) {
                        prop_assert!(dir.iter().all(|(old, _)| old.label != to));
                        dir.iter_mut().filter(|(old, _)| old.label == from).for_each(|(old, _)| old.label = to);
                    }
                    last = newest(&names(&dir));
                }
                let text = loop {
                    let (stamp, text) = label(stamp(*seconds, 0), last).unwrap();
                    last = Some(stamp);
                    if dir.iter().all(|(old, _)| old.label != text) {
                        break text;
                    }
                };
                logged += 1;
                dir.push((Old { label: text, kind: b'u' }, logged));
                prop_assert!(dir.iter().rev().skip(1).all(|(old, _)| old.label < text));
                let goes = surplus(&names(&dir), keep, last);
                dir.retain(|(old, _)| !goes.contains(&old.label));
                dir.sort_unstable();
                let left: Vec<usize> = dir.iter().map(|(_, number)| *number).collect();
                let wanted = if keep == 0 { logged } else { logged.min(keep as usize) };
                prop_assert_eq!(left, (logged + 1 - wanted..=logged).collect::<Vec<usize>>());
            }
        }

        /// The same log under two names, one of which is not processed yet, counts once.
        #[test]
        fn a_log_counts_once(count in 0_u8..20, keep in 1_u64..8) {
            let old: Vec<Old> = (0..count)
                .flat_map(|n| b"sut".map(|kind| Old { label: text(&stamp(i64::from(n), 0)), kind }))
                .collect();
            let goes = surplus(&old, keep, None);
            prop_assert_eq!(goes.len() as u64, u64::from(count).saturating_sub(keep));
        }
    }

    /// Names in a directory: of about now, of the far future, and of no time at all.
    fn any_label() -> impl Strategy<Value = [u8; 25]> {
        let near = (0_i64..60, 0_u32..3).prop_map(|(seconds, nanos)| text(&stamp(seconds, nanos)));
        let far = (0_u64..3, prop_oneof![0_u32..3, Just(999_999_999), any::<u32>()])
            .prop_map(|(back, nanos)| text(&Tai64N(Tai64(NEVER - 1 - back), nanos)));
        let none = (0_u64..3, 0_u32..3).prop_map(|(on, nanos)| text(&Tai64N(Tai64(NEVER + on), nanos)));
        prop_oneof![3 => near, 1 => far, 1 => none, 1 => Just(*b"@ffffffffffffffffffffffff")]
    }
}
