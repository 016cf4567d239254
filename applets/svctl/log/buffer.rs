//! What was read of a log and is not yet divided into lines.

use std::io::{self, Read};

use svcore::slice;

/// Bytes that were read.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// What was not used yet is between these two.
    pub(super) from: usize,
    pub(super) to: usize,
    /// There is no newline between `from` and here.
    pub(super) scanned: usize,
    /// Here begins another file than before, which may or may not go on with the line.
    pub(super) seam: Option<usize>,
    /// The file before the seam is complete.
    pub(super) is_complete: bool,
}

impl Buffer {
    pub(super) fn rest(&self) -> &[u8] {
        slice::part(&self.bytes, self.from..self.to)
    }

    /// Notes that another file begins.
    pub(super) fn add_seam(&mut self, is_complete: bool) {
        // What was before an empty file goes on after it, or does not.
        let is_double = self.seam == Some(self.to);
        if self.from < self.to && !is_double {
            (self.seam, self.is_complete) = (Some(self.to), is_complete);
        }
    }

    /// Reads more; how many bytes.
    pub(super) fn fill(&mut self, content: &mut impl Read, size: usize) -> io::Result<usize> {
        if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            self.to = self.to.saturating_sub(self.from);
            self.scanned = self.scanned.saturating_sub(self.from);
            self.seam = self.seam.map(|seam| seam.saturating_sub(self.from));
            self.from = 0;
        }
        if self.bytes.len() < self.to.saturating_add(size / 2) {
            self.bytes.resize(self.to.saturating_add(size), 0);
        }
        loop {
            match content.read(self.bytes.get_mut(self.to..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let length = read?;
                    self.to = self.to.saturating_add(length);
                    return Ok(length);
                }
            }
        }
    }
}
