//! How much more goes into `current` before it has to be rotated. Pure: no I/O. Source: svlogd(8), LOG FILE ROTATION.

use memchr::memchr;

/// When `current` is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The size in bytes that `current` may have; 0 means no limit.
    pub(crate) size: u64,
    /// svlogd's `-l` in bytes: once fewer bytes than this are left, `current` is full at the next end of a line, so
    /// that lines are not cut in two.
    pub(crate) line_max: u64,
}

/// How much of the bytes to be written fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room<'a> {
    /// The first of the bytes, as many as fit.
    pub(crate) fits: &'a [u8],
    /// Whether `current` is full once they are written.
    pub(crate) then_full: bool,
}

impl Limit {
    /// How much of `bytes` fits into a `current` whose size is `length` bytes.
    pub(crate) fn room<'a>(&self, length: u64, bytes: &'a [u8]) -> Room<'a> {
        let all = Room { fits: bytes, then_full: false };
        if self.size == 0 {
            return all;
        }
        let Some(left) = self.size.checked_sub(length).filter(|&left| left > 0) else {
            return Room { fits: &[], then_full: true };
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let fits = bytes.get(..left).unwrap_or(bytes);
        // If the limit is below the length of a line, lines are cut at the limit and nowhere else.
        if let Some(nearly_full) = self.size.checked_sub(self.line_max) {
            let from = nearly_full.saturating_sub(length).saturating_sub(1);
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let newline = fits.get(from..).and_then(|late| memchr(b'\n', late));
            let end = newline.map(|newline| from.saturating_add(newline).saturating_add(1));
            if let Some(lines) = end.and_then(|end| fits.get(..end)) {
                return Room { fits: lines, then_full: true };
            }
        }
        if fits.len() < bytes.len() { Room { fits, then_full: true } } else { all }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_end_near_the_limit_is_enough() {
        let limit = Limit { size: 100, line_max: 50 };
        let line = [&[b'x'; 39][..], b"\n"].concat();
        let room = |limit: Limit, length| {
            let room = limit.room(length, &line);
            (room.fits.len(), room.then_full)
        };
        assert_eq!(room(limit, 0), (40, false));
        assert_eq!(room(limit, 40), (40, true));
        assert_eq!(room(limit, 9), (40, false));
        assert_eq!(room(limit, 10), (40, true));
        assert_eq!(room(limit, 90), (10, true));
        assert_eq!(room(limit, 100), (0, true));
        assert_eq!(room(Limit { size: 0, line_max: 50 }, 1 << 40), (40, false));
    }

    proptest! {
        /// No file is longer than the limit, and each but the last is full.
        #[test]
        fn no_file_is_too_long_and_nothing_is_lost(
            size in 1_u64..200, line_max in 1_u64..60,
            lengths in prop::collection::vec(0_usize..80, 0..40),
        ) {
            let limit = Limit { size, line_max };
            let bytes: Vec<u8> = lengths.iter().flat_map(|&n| [vec![b'x'; n], vec![b'\n']].concat()).collect();
            let (mut files, mut current, mut rest) = (Vec::new(), Vec::new(), bytes.as_slice());
            while !rest.is_empty() {
                let room = limit.room(current.len() as u64, rest);
                current.extend_from_slice(room.fits);
                rest = &rest[room.fits.len()..];
                prop_assert!(room.then_full || rest.is_empty());
                prop_assert!(current.len() as u64 <= size);
                if room.then_full {
                    let near = current.len() as u64 >= size.saturating_sub(line_max) && current.ends_with(b"\n") && line_max <= size;
                    prop_assert!(near || current.len() as u64 == size);
                    files.push(std::mem::take(&mut current));
                }
            }
            files.push(current);
            prop_assert_eq!(files.concat(), bytes);
        }
    }
}
