//! Cuts what was read into lines. Without I/O.
//!
//! A line of `max` bytes or more (svlogd's `-l`) is long: its first `max` bytes are looked at and stamped, and all
//! that follows is passed on as it comes, however much it is. So what has to be held back for a line to become
//! complete is less than `max` bytes.

use memchr::memchr;
use svcore::slice;

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A line of less than `max` bytes, without its newline.
    Line(&'a [u8]),
    /// The first `max` bytes of a long line.
    Head(&'a [u8]),
    /// More of a long line.
    More(&'a [u8]),
    /// The last of a long line, without its newline.
    End(&'a [u8]),
}

/// Where in a line the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cutter {
    max: usize,
    /// Within a long line, after its head.
    in_long: bool,
}

impl Cutter {
    /// At the beginning of a line.
    pub(crate) const fn new(max: usize) -> Self {
        Cutter { max, in_long: false }
    }

    /// Whether a line has begun of which something was passed on already.
    pub(crate) const fn in_long(&self) -> bool {
        self.in_long
    }

    /// Cuts one piece off the beginning of `bytes`; `None` if they are not a whole piece yet.
    pub(crate) fn cut<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        let all = *bytes;
        if all.is_empty() {
            return None;
        }
        let window = if self.in_long { all } else { all.get(..self.max).unwrap_or(all) };
        if let Some(end) = memchr(b'\n', window) {
            let (text, rest) = all.split_at(end);
            *bytes = slice::part(rest, 1..);
            return Some(if std::mem::take(&mut self.in_long) {
                Piece::End(text)
            } else {
                Piece::Line(text)
            });
        }
        if self.in_long {
            *bytes = &[];
            return Some(Piece::More(all));
        }
        let (head, rest) = all.split_at_checked(self.max)?;
        *bytes = rest;
        self.in_long = true;
        Some(Piece::Head(head))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut<'a>(max: usize, mut bytes: &'a [u8]) -> (Vec<Piece<'a>>, &'a [u8]) {
        let mut cutter = Cutter::new(max);
        let pieces = std::iter::from_fn(|| cutter.cut(&mut bytes)).collect();
        (pieces, bytes)
    }

    #[test]
    fn a_line_shorter_than_the_limit_is_whole_and_one_as_long_is_long() {
        let (pieces, rest) = cut(4, b"abc\n\nabcd\nabcdefg\nxy");
        let expected = [
            Piece::Line(b"abc"),
            Piece::Line(b""),
            Piece::Head(b"abcd"),
            Piece::End(b""),
            Piece::Head(b"abcd"),
            Piece::End(b"efg"),
        ];
        assert_eq!((pieces.as_slice(), rest), (&expected[..], &b"xy"[..]));
    }

    proptest! {
        /// However the bytes come in, the pieces joined are the bytes, less than a line's limit is held back, and each
        /// line has one beginning.
        #[test]
        fn joined_pieces_are_the_input(
            bytes in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..300),
            cuts in prop::collection::vec(1_usize..50, 1..20),
            max in 1_usize..20,
        ) {
            let mut cutter = Cutter::new(max);
            let (mut held, mut joined, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
            let mut rest = bytes.as_slice();
            for size in cuts.iter().cycle() {
                let (came, later) = rest.split_at((*size).min(rest.len()));
                rest = later;
                held.extend_from_slice(came);
                let mut left = held.as_slice();
                while let Some(piece) = cutter.cut(&mut left) {
                    let (text, newline) = match piece {
                        Piece::Line(text) | Piece::End(text) => (text, true),
                        Piece::Head(text) | Piece::More(text) => (text, false),
                    };
                    prop_assert!(!matches!(piece, Piece::Head(_)) || text.len() == max);
                    prop_assert!(!matches!(piece, Piece::Line(_)) || text.len() < max);
                    joined.extend_from_slice(text);
                    joined.extend(newline.then_some(b'\n'));
                    match piece {
                        Piece::Line(text) => kinds.push((text.to_vec(), false)),
                        Piece::Head(text) => kinds.push((text.to_vec(), true)),
                        Piece::More(_) | Piece::End(_) => {}
                    }
                }
                held = left.to_vec();
                prop_assert!(held.len() < max);
                if rest.is_empty() {
                    break;
                }
            }
            joined.extend_from_slice(&held);
            prop_assert_eq!(&joined, &bytes);
            // What is stamped and matched: a line, or the head of a long one, also of one that has not ended.
            let mut expected: Vec<(Vec<u8>, bool)> = bytes
                .split_inclusive(|&byte| byte == b'\n')
                .filter(|line| line.len() >= max || line.ends_with(b"\n"))
                .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
                .map(|line| (line.get(..max).unwrap_or(line).to_vec(), line.len() >= max))
                .collect();
            // One byte short of the limit with its newline is a whole line; without one it is held back.
            expected.retain(|(text, long)| *long || text.len() < max);
            prop_assert_eq!(kinds, expected);
        }
    }
}
