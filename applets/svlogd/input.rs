//! Standard input: read in large blocks, cut into lines, and handed to every log directory that selects them.

use memchr::memrchr;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use svcore::say::{self, Message};
use svcore::sys::clock;
use svcore::tai;

use super::line::{Cutter, Piece};
use super::logdir::LogDir;
use super::options::{Options, Settings};
use super::replace::Replacements;
use super::stamp::{LineStamp, StampText};

/// How many bytes are read at once: the small block until one is filled, the large one from then on.
const BLOCK_SMALL: usize = 8 * 1024;
const BLOCK_LARGE: usize = 64 * 1024;
/// Once this many bytes are pending for a directory they are written, even while a block is being cut into lines.
const PENDING_ENOUGH: usize = 128 * 1024;

/// Standard input.
pub(crate) struct Input {
    /// What was read and not handed on yet. Between two reads, that is the beginning of an incomplete line.
    bytes: Vec<u8>,
    lines: Lines,
}

impl Input {
    pub(crate) fn new(options: &Options) -> Self {
        let settings = options.settings();
        Input {
            bytes: Vec::with_capacity(BLOCK_SMALL.max(settings.line_max.saturating_mul(2))),
            lines: Lines {
                cutter: Cutter::new(settings.line_max),
                settings,
                replacements: options.replacements(),
                for_stderr: Vec::new(),
            },
        }
    }

    /// Whether everything that was read ended with a newline.
    pub(crate) const fn is_between_lines(&self) -> bool {
        self.bytes.is_empty() && !self.lines.cutter.is_in_long_line()
    }

    /// Reads once, and hands the complete lines to the log directories. Returns whether the input has ended.
    pub(crate) fn read_block(&mut self, logs: &mut [LogDir]) -> bool {
        // The incomplete line has less than `line_max` bytes, so that this much is always free.
        self.bytes.reserve(self.lines.settings.line_max.max(1));
        let room = self.bytes.capacity().saturating_sub(self.bytes.len());
        let result = rustix::io::read(rustix::stdio::stdin(), spare_capacity(&mut self.bytes));
        let ended = self.hand_on(result, logs);
        if result == Ok(room) && self.bytes.capacity() < BLOCK_LARGE {
            let wanted = BLOCK_LARGE.saturating_add(self.lines.settings.line_max);
            self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
        }
        ended
    }

    /// The same for one byte: whatever follows the current line stays unread, for the next svlogd.
    pub(crate) fn read_byte(&mut self, logs: &mut [LogDir]) -> bool {
        let mut byte = [0];
        let result = rustix::io::read(rustix::stdio::stdin(), &mut byte);
        if result == Ok(1) {
            self.bytes.extend_from_slice(&byte);
        }
        self.hand_on(result, logs)
    }

    /// Hands on what a read has added to the input. Returns whether the input has ended.
    fn hand_on(&mut self, read: Result<usize, Errno>, logs: &mut [LogDir]) -> bool {
        match read {
            Ok(0) => true,
            Ok(_) => {
                let incomplete = self.lines.hand_on(&self.bytes, logs);
                let complete = self.bytes.len().saturating_sub(incomplete);
                self.bytes.drain(..complete);
                false
            }
            // AGAIN: another process that has the same descriptor was faster, or made it non-blocking.
            Err(Errno::INTR | Errno::AGAIN) => false,
            Err(errno) => {
                let cause = std::io::Error::from(errno);
                Message::warning("svlogd", "unable to read standard input").because(&cause).print();
                true
            }
        }
    }

    /// After the end of the input: ends the last line if it has no newline, and hands it on.
    pub(crate) fn end_last_line(&mut self, logs: &mut [LogDir]) {
        if !self.is_between_lines() {
            self.bytes.push(b'\n');
            self.lines.hand_on(&self.bytes, logs);
            self.bytes.clear();
        }
    }
}

/// Hands lines to the log directories.
struct Lines {
    cutter: Cutter,
    settings: Settings,
    replacements: Option<Replacements>,
    /// Lines of this block that patterns select for standard error.
    for_stderr: Vec<u8>,
}

impl Lines {
    /// Hands on all complete lines in `bytes`. Returns how many bytes at the end are an incomplete line.
    fn hand_on(&mut self, bytes: &[u8], logs: &mut [LogDir]) -> usize {
        let mut bytes = bytes;
        let is_plain = self.settings.stamp == LineStamp::None && self.replacements.is_none();
        if is_plain
            && logs.iter().all(|log| log.config.is_plain())
            && let Some(last) = memrchr(b'\n', bytes)
            && let Some((lines, incomplete)) = bytes.split_at_checked(last.saturating_add(1))
        {
            // No single line has to be looked at, so all of them are handed on as one piece.
            for log in &mut *logs {
                log.push(lines);
                log.selected = true;
            }
            self.cutter = Cutter::new(self.settings.line_max);
            bytes = incomplete;
        }
        if !bytes.is_empty() {
            let stamp = self.settings.stamp.text(tai::now);
            while let Some(piece) = self.cutter.cut(&mut bytes) {
                self.hand_on_piece(piece, stamp.as_ref(), logs);
                for log in logs.iter_mut().filter(|log| log.pending() >= PENDING_ENOUGH && !log.is_pausing())
                {
                    log.advance(clock::monotonic());
                }
            }
        }
        if !self.for_stderr.is_empty() {
            say::err(&[&self.for_stderr]);
            self.for_stderr.clear();
        }
        bytes.len()
    }

    fn hand_on_piece(&mut self, piece: Piece<'_>, stamp: Option<&StampText>, logs: &mut [LogDir]) {
        let (text, is_whole) = match piece {
            Piece::Line(text) => (text, true),
            Piece::Head(text) => (text, false),
            Piece::More(text) | Piece::End(text) => {
                for log in logs.iter_mut().filter(|log| log.selected) {
                    log.push(text);
                    if matches!(piece, Piece::End(_)) {
                        log.push(b"\n");
                    }
                }
                return;
            }
        };
        let replaced: Vec<u8>;
        let text = match &self.replacements {
            Some(replacements) => {
                replaced = replacements.apply(text);
                &replaced
            }
            None => text,
        };
        for log in logs {
            let selection = log.config.select(text);
            // The line as it goes to standard error and to UDP: of a long one only the head.
            let short_line = || {
                let stamp = stamp.map_or(b"".as_slice(), |stamp| stamp);
                let end: &[u8] = if is_whole { b"\n" } else { b"...\n" };
                [stamp, &log.config.prefix, text, end].concat()
            };
            if selection.stderr {
                self.for_stderr.extend_from_slice(&short_line());
            }
            log.selected = selection.log;
            if !selection.log {
                continue;
            }
            if let Some(udp) = &log.udp {
                let datagram = short_line();
                let is_only_sent = udp.is_only_sent();
                if let Err(warning) = udp.send(&datagram) {
                    let warning = [warning, &datagram].concat();
                    log.push(&warning);
                }
                if is_only_sent {
                    log.selected = false;
                    continue;
                }
            }
            log.push_line(stamp, text, is_whole);
        }
    }
}
