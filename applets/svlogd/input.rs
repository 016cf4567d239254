//! The input: read in large blocks, cut into lines, and handed to every log directory that selects them.

use memchr::memrchr;
use rustix::buffer::spare_capacity;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use svcore::say::{self, Message};
use svcore::slice;
use svcore::sys::{clock, output};
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

/// The bytes of one read. All inputs of a process share it, so that an idle one takes little memory.
#[derive(Default)]
pub(crate) struct Block(Vec<u8>);

impl Block {
    /// Makes room for one read after the `held` bytes, of lines up to `line_max` bytes.
    fn begin(&mut self, held: &[u8], line_max: usize) {
        self.0.clear();
        self.0.reserve(BLOCK_SMALL.max(line_max.saturating_mul(2)));
        self.0.extend_from_slice(held);
    }

    /// The read filled the room: the next one gets more.
    fn grow(&mut self, line_max: usize) {
        if self.0.capacity() < BLOCK_LARGE {
            let wanted = BLOCK_LARGE.saturating_add(line_max);
            self.0.reserve_exact(wanted.saturating_sub(self.0.len()));
        }
    }
}

/// What one descriptor is read from.
pub(crate) struct Input {
    /// What was read and not handed on yet: the beginning of an incomplete line.
    held: Vec<u8>,
    lines: Lines,
}

impl Input {
    pub(crate) fn new(options: &Options) -> Self {
        let settings = options.settings();
        Input {
            held: Vec::new(),
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
        self.held.is_empty() && !self.lines.cutter.is_in_long_line()
    }

    /// Reads once, and hands the complete lines to the log directories. Returns whether the input has ended.
    pub(crate) fn read_block(&mut self, fd: BorrowedFd<'_>, block: &mut Block, logs: &mut [LogDir]) -> bool {
        let line_max = self.lines.settings.line_max;
        block.begin(&self.held, line_max);
        let room = block.0.capacity().saturating_sub(block.0.len());
        let read = rustix::io::read(fd, spare_capacity(&mut block.0));
        if matches!(read, Ok(1..)) {
            let incomplete = self.lines.hand_on(&block.0, logs);
            let complete = block.0.len().saturating_sub(incomplete);
            self.held.clear();
            self.held.extend_from_slice(slice::part(&block.0, complete..));
        }
        if read == Ok(room) {
            block.grow(line_max);
        }
        has_ended(read)
    }

    /// The same for one byte: whatever follows the current line stays unread, for the next svlogd.
    pub(crate) fn read_byte(&mut self, fd: BorrowedFd<'_>, logs: &mut [LogDir]) -> bool {
        let mut byte = [0];
        let read = rustix::io::read(fd, &mut byte);
        if read == Ok(1) {
            self.held.extend_from_slice(&byte);
            let incomplete = self.lines.hand_on(&self.held, logs);
            let complete = self.held.len().saturating_sub(incomplete);
            self.held.drain(..complete);
        }
        has_ended(read)
    }

    /// After the end of the input: ends the last line if it has no newline, and hands it on.
    pub(crate) fn end_last_line(&mut self, logs: &mut [LogDir]) {
        if !self.is_between_lines() {
            self.held.push(b'\n');
            self.lines.hand_on(&self.held, logs);
            self.held.clear();
        }
    }

    /// Frees memory that an idle input does not need: one of many inputs of a process.
    pub(crate) fn release_memory(&mut self) {
        self.held.shrink_to_fit();
    }
}

/// Whether a read found the end of the input. If it failed, that is reported, and counts as the end.
fn has_ended(read: Result<usize, Errno>) -> bool {
    match read {
        Ok(length) => length == 0,
        // AGAIN: another process that has the same descriptor was faster, or made it non-blocking.
        Err(Errno::INTR | Errno::AGAIN) => false,
        Err(errno) => {
            let cause = std::io::Error::from(errno);
            Message::warning("svlogd", "unable to read standard input").because(&cause).print();
            true
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
        // All of them have the same.
        let stamp = logs.first().map_or(self.settings.stamp, LogDir::stamp);
        let is_plain = stamp == LineStamp::None && self.replacements.is_none();
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
            let stamp = stamp.text(tai::now);
            while let Some(piece) = self.cutter.cut(&mut bytes) {
                self.hand_on_piece(piece, stamp.as_ref(), logs);
                for log in logs.iter_mut().filter(|log| log.pending() >= PENDING_ENOUGH && !log.is_pausing())
                {
                    log.advance(clock::monotonic());
                }
            }
        }
        if !self.for_stderr.is_empty() {
            if self.settings.is_shared {
                // The other logs do not wait for it.
                let _ = output::write(rustix::stdio::stderr(), &self.for_stderr);
            } else {
                say::err(&[&self.for_stderr]);
            }
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
