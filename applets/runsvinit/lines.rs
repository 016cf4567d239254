//! Lines of a writer, with its name before each. Without I/O.

use svcore::tai::{self, Tai64N};

/// The longest line that stays whole, in bytes; a longer one is cut.
const LONGEST: usize = 64 * 1024;

/// The bytes of one writer, until a line is complete.
#[derive(Debug)]
pub(crate) struct Lines {
    /// `NAME | `
    prefix: Vec<u8>,
    /// The line that is not complete yet.
    partial: Vec<u8>,
}

impl Lines {
    /// For the writer called `name`.
    pub(crate) fn new(name: &[u8]) -> Self {
        Lines { prefix: [&svcore::say::printable(name), b" | ".as_slice()].concat(), partial: Vec::new() }
    }

    /// Adds bytes that were read, and appends the lines that are complete to `out`, with `stamp` before them if there is
    /// one.
    pub(crate) fn add(&mut self, bytes: &[u8], stamp: Option<&Tai64N>, out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") || self.partial.len() >= LONGEST {
                self.end(stamp, out);
            }
        }
    }

    /// Completes the line that was begun, if any, and appends it to `out`.
    pub(crate) fn end(&mut self, stamp: Option<&Tai64N>, out: &mut Vec<u8>) {
        if self.partial.is_empty() {
            return;
        }
        if let Some(stamp) = stamp {
            out.extend_from_slice(&tai::human(stamp, b'T'));
            out.extend_from_slice(b"Z ");
        }
        out.extend_from_slice(&self.prefix);
        out.append(&mut self.partial);
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        // After a long line its memory is not needed any more.
        self.partial.shrink_to(1024);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the bytes come, each line comes out whole, once, and with its name.
        #[test]
        fn lines_come_out_whole(text in "[ab\n]{0,200}", cuts in prop::collection::vec(0_usize..200, 0..20)) {
            let mut lines = Lines::new(b"web");
            let mut out = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                lines.add(&text.as_bytes()[from..cut], None, &mut out);
                from = cut;
            }
            lines.end(None, &mut out);
            let expected: String = text.split_inclusive('\n').map(|line| format!("web | {}\n", line.trim_end())).collect();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn the_time_is_in_front() {
        let mut out = Vec::new();
        Lines::new(b"a").add(b"x\n", Some(&tai::stamp(0, 123_456_789)), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "1970-01-01T00:00:00.12345Z a | x\n");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::new(b"a");
        let mut out = Vec::new();
        for _ in 0..20 {
            lines.add(&[b'x'; 4096], None, &mut out);
        }
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert_eq!(out.len(), b"a | ".len() + LONGEST + 1);
    }
}
