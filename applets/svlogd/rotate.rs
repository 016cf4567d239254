//! When `current` becomes an old log, what that one is called, and which old one goes. Without I/O.
//! Source: svlogd(8), LOG FILE ROTATION.

use memchr::memchr;
use svcore::tai::Tai64N;

/// Length of the name of an old log: `@`, 24 digits, `.` and a letter.
const NAME: usize = 27;

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
                return Room { bytes: from + end + 1, full: true };
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
}

/// The old logs to be removed so that `keep` are left, oldest first. One that is `busy` is never among them.
pub(crate) fn surplus(old: &[Old], keep: u64, busy: impl Fn(&Old) -> bool) -> Vec<Old> {
    let mut old: Vec<Old> = old.iter().copied().filter(|old| old.kind != b't').collect();
    let Some(mut surplus) = usize::try_from(keep).ok().and_then(|keep| old.len().checked_sub(keep)) else {
        return Vec::new();
    };
    if keep == 0 {
        return Vec::new();
    }
    old.sort_unstable();
    old.retain(|old| {
        let goes = surplus > 0 && !busy(old);
        surplus -= usize::from(goes);
        goes
    });
    old
}

/// A label for now that is later than the one before, whatever the clock does.
pub(crate) fn label(now: Tai64N, last: Option<Tai64N>) -> (Tai64N, [u8; 25]) {
    let stamp = last.map(next).filter(|next| *next > now).unwrap_or(now);
    (stamp, text(&stamp))
}

fn next(stamp: Tai64N) -> Tai64N {
    let mut next = stamp;
    if next.1 >= 999_999_999 {
        next.0.0 = next.0.0.saturating_add(1);
        next.1 = 0;
    } else {
        next.1 += 1;
    }
    next
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
        let (first, text) = label(stamp(100, 5), None);
        assert_eq!(&text, b"@400000000000006e00000005");
        let (second, _) = label(stamp(100, 5), Some(first));
        let (third, _) = label(stamp(7, 0), Some(second));
        assert!(first < second && second < third);
        assert_eq!(label(stamp(200, 0), Some(third)).0, stamp(200, 0));
        assert_eq!(label(stamp(1, 0), Some(stamp(100, 999_999_999))).0, stamp(101, 0));
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

        /// What goes is the oldest, never a busy one, and as many stay as are to be kept or are busy.
        #[test]
        fn the_oldest_go(numbers in prop::collection::btree_set(0_u8..50, 0..20), keep in 0_u64..12, busy in 0_u8..50) {
            let old: Vec<Old> = numbers
                .iter()
                .map(|&n| Old { label: text(&stamp(i64::from(n), 0)), kind: if n % 3 == 0 { b'u' } else { b's' } })
                .rev()
                .collect();
            let busy = text(&stamp(i64::from(busy), 0));
            let gone = surplus(&old, keep, |old| old.label == busy);
            prop_assert!(gone.iter().all(|old| old.label != busy));
            let left: Vec<&Old> = old.iter().filter(|old| !gone.contains(old)).collect();
            prop_assert!(keep != 0 || gone.is_empty());
            prop_assert!(keep == 0 || left.len() as u64 <= keep || left.iter().filter(|o| o.label != busy).count() < left.len());
            prop_assert!(left.len() as u64 >= keep.min(old.len() as u64));
            for stays in left.iter().filter(|old| old.label != busy) {
                prop_assert!(gone.iter().all(|gone| gone < *stays));
            }
        }
    }
}
