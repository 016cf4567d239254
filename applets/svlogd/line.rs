//! Cuts input into lines. Pure: no I/O.
//!
//! A line of `max` bytes or more (svlogd's `-l`) is long: its first `max` bytes are matched and stamped, and all that
//! follows is passed on as it comes in, however long it is. So an incomplete line is held back only while it has fewer
//! than `max` bytes.

use memchr::memchr;

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A whole line of fewer than `max` bytes, without its newline.
    Line(&'a [u8]),
    /// The first `max` bytes of a long line.
    Head(&'a [u8]),
    /// A further part of a long line.
    More(&'a [u8]),
    /// The last part of a long line, without its newline.
    End(&'a [u8]),
}

/// Cuts input into pieces of lines, and remembers whether the next byte is in a long line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cutter {
    max: usize,
    /// The next byte belongs to a long line whose head was passed on.
    in_long_line: bool,
}

impl Cutter {
    /// A cutter for input that begins with a line. `max` is in bytes.
    pub(crate) const fn new(max: usize) -> Self {
        Cutter { max, in_long_line: false }
    }

    /// Whether the beginning of the current line was passed on already.
    pub(crate) const fn is_in_long_line(&self) -> bool {
        self.in_long_line
    }

    /// Cuts one piece off the beginning of `bytes`. Returns `None` if `bytes` is not a whole piece yet.
    pub(crate) fn cut<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        let all = *bytes;
        if all.is_empty() {
            return None;
        }
        let window = if self.in_long_line { all } else { all.get(..self.max).unwrap_or(all) };
        if let Some(end) = memchr(b'\n', window)
            && let Some((text, [_newline, after @ ..])) = all.split_at_checked(end)
        {
            *bytes = after;
            return Some(if std::mem::take(&mut self.in_long_line) {
                Piece::End(text)
            } else {
                Piece::Line(text)
            });
        }
        if self.in_long_line {
            *bytes = &[];
            return Some(Piece::More(all));
        }
        let (head, after) = all.split_at_checked(self.max)?;
        *bytes = after;
        self.in_long_line = true;
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
        /// However the bytes come in: the pieces joined are the bytes, fewer than `max` bytes are held back, and each
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
            // What is stamped and matched: each whole line, and the head of each long line, even of one that goes on.
            let mut expected: Vec<(Vec<u8>, bool)> = bytes
                .split_inclusive(|&byte| byte == b'\n')
                .filter(|line| line.len() >= max || line.ends_with(b"\n"))
                .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
                .map(|line| (line.get(..max).unwrap_or(line).to_vec(), line.len() >= max))
                .collect();
            // `max` - 1 bytes and a newline are a whole line; without the newline they are held back.
            expected.retain(|(text, long)| *long || text.len() < max);
            prop_assert_eq!(kinds, expected);
        }
    }
}
