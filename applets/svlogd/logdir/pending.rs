//! Bytes on their way into `current`. Pure: no I/O.

use memchr::{memchr, memchr_iter};
use svcore::slice;

/// Bytes to be written to `current`: whole lines, and parts of long lines.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// How many of the bytes are written.
    written: usize,
    /// The last byte that was written is not the end of a line.
    in_line: bool,
}

impl Pending {
    /// The bytes that are not written yet.
    pub(super) fn unwritten(&self) -> &[u8] {
        slice::part(&self.bytes, self.written..)
    }

    /// How many bytes are not written yet.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    /// Whether everything is written.
    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the last byte that was written is not the end of a line.
    pub(super) const fn is_in_line(&self) -> bool {
        self.in_line
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for so many more bytes, so that several calls of [`push`](Self::push) allocate at most once.
    pub(super) fn reserve(&mut self, more: usize) {
        self.bytes.reserve(more);
    }

    /// The first `count` of the unwritten bytes are written now.
    pub(super) fn wrote(&mut self, count: usize) {
        if let Some(last) = count.checked_sub(1).and_then(|last| self.unwritten().get(last)) {
            self.in_line = *last != b'\n';
        }
        self.written = self.written.saturating_add(count);
        self.forget_written();
    }

    /// Frees the room of the bytes that are written, once all are.
    fn forget_written(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// Frees the memory, if everything is written.
    pub(super) fn release_memory(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Drops the unwritten bytes, but keeps the rest of a line whose beginning is written. Returns how many lines were
    /// dropped.
    pub(super) fn drop_lines(&mut self) -> u64 {
        let unwritten = self.unwritten();
        let line_end = || memchr(b'\n', unwritten).map_or(unwritten.len(), |end| end.saturating_add(1));
        let kept = if self.in_line { line_end() } else { 0 };
        let dropped = memchr_iter(b'\n', unwritten).filter(|newline| *newline >= kept).count();
        self.bytes.truncate(self.written.saturating_add(kept));
        self.forget_written();
        dropped as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(bytes: &[u8], written: usize) -> Pending {
        let mut pending = Pending::default();
        pending.push(bytes);
        if written > 0 {
            pending.wrote(written);
        }
        pending
    }

    #[test]
    fn what_is_written_is_not_pending_any_more() {
        let mut pending = pending(b"ab\ncd\n", 3);
        assert_eq!((pending.unwritten(), pending.len(), pending.is_in_line()), (&b"cd\n"[..], 3, false));
        pending.wrote(1);
        assert_eq!((pending.unwritten(), pending.is_in_line()), (&b"d\n"[..], true));
        pending.wrote(2);
        assert!(pending.is_empty() && !pending.is_in_line());
    }

    #[test]
    fn lines_are_dropped_but_not_the_rest_of_one_that_is_partly_written() {
        let dropped = |bytes: &[u8], written: usize| {
            let mut pending = pending(bytes, written);
            let lines = pending.drop_lines();
            (lines, String::from_utf8(pending.unwritten().to_vec()).unwrap())
        };
        assert_eq!(dropped(b"ab\ncd\n", 0), (2, String::new()));
        assert_eq!(dropped(b"ab\ncd\n", 3), (1, String::new()));
        assert_eq!(dropped(b"ab\ncd\nef\n", 1), (2, "b\n".to_owned()));
        assert_eq!(dropped(b"ab\n", 1), (0, "b\n".to_owned()));
        assert_eq!(dropped(b"abcd", 1), (0, "bcd".to_owned()));
    }
}
