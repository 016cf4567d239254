//! One input and the log directories that its lines go to. svlogd has one; the svlogd of runsvinit has one for each service.

use std::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::process::Pid;
use svcore::moment::{Moment, earlier};

use super::input::{Block, Input};
use super::logdir::LogDir;
use super::options::{Options, Settings};
use super::place::Place;

/// After TERM: how long svlogd waits for the end of the current line.
const LINE_END_PATIENCE: Duration = Duration::from_secs(1);
/// After TERM: when svlogd gives up what is left to do.
const EXIT_PATIENCE: Duration = Duration::from_secs(4);

/// An input with its log directories.
pub(crate) struct Stream {
    places: Vec<Place>,
    settings: Settings,
    input: Input,
    /// Those of the directories that can be used.
    logs: Vec<LogDir>,
    /// Set by TERM.
    termination: Option<Termination>,
    /// Nothing is read any more.
    input_ended: bool,
}

/// The deadlines that TERM sets.
#[derive(Clone, Copy)]
struct Termination {
    /// Until then the rest of the current line is read.
    line_end: Moment,
    /// Then the stream ends, whatever is left to do.
    exit: Moment,
}

impl Stream {
    /// A stream to these directories. They are opened by [`Stream::open_all`].
    pub(crate) fn new(options: &Options, places: Vec<Place>) -> Self {
        Stream {
            places,
            settings: options.settings(),
            input: Input::new(options),
            logs: Vec::new(),
            termination: None,
            input_ended: false,
        }
    }

    /// Opens all directories; those that are open are reopened. Returns whether at least one can be used. Why another one
    /// cannot be opened is reported, if `is_new` says so of the message.
    pub(crate) fn open_all(&mut self, is_new: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut before = std::mem::take(&mut self.logs);
        for place in &self.places {
            let open = before.iter().position(|log| log.name() == place.name());
            match open.map(|at| before.remove(at)) {
                Some(mut log) => {
                    if log.reopen(place) {
                        self.logs.push(log);
                    } else {
                        log.close();
                    }
                }
                None => self.logs.extend(LogDir::open(place, self.settings, is_new)),
            }
        }
        !self.logs.is_empty()
    }

    /// Does everything that can be done now. Returns whether the stream has ended: the input has, and everything is written
    /// and processed; or the deadline after TERM is over.
    pub(crate) fn advance(&mut self, now: Moment) -> bool {
        for log in &mut self.logs {
            log.advance(now);
        }
        if self.termination.is_some_and(|at| now >= at.line_end || self.input.is_between_lines()) {
            self.input_ended = true;
        }
        if self.input_ended && !self.is_behind() && self.is_finished(now) {
            return true;
        }
        self.termination.is_some_and(|at| now >= at.exit)
    }

    fn is_behind(&self) -> bool {
        self.logs.iter().any(LogDir::is_behind)
    }

    /// After the end of the input: writes its last line. Returns whether everything is written and processed.
    fn is_finished(&mut self, now: Moment) -> bool {
        self.input.end_last_line(&mut self.logs);
        for log in &mut self.logs {
            log.finish(now);
        }
        !self.logs.iter().any(|log| log.is_behind() || log.is_processing())
    }

    /// Whether the input is to be read now.
    pub(crate) fn wants_input(&self) -> bool {
        !self.input_ended && !self.is_behind()
    }

    /// Whether [`Stream::advance`] depends on the time.
    pub(crate) fn needs_clock(&self) -> bool {
        self.termination.is_some() || self.logs.iter().any(LogDir::needs_clock)
    }

    /// When to call [`Stream::advance`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let termination = self.termination.map(|at| if self.input_ended { at.exit } else { at.line_end });
        self.logs.iter().map(LogDir::deadline).fold(termination, earlier)
    }

    /// Reads once from the input `fd`, if that is wanted.
    pub(crate) fn read(&mut self, fd: BorrowedFd<'_>, block: &mut Block) {
        if self.input_ended {
            return;
        }
        self.input_ended = match self.termination {
            None => self.input.read_block(fd, block, &mut self.logs),
            Some(_) => self.input.read_byte(fd, &mut self.logs),
        };
    }

    /// TERM: reads no further than to the end of the current line, and ends. Returns whether this is the first TERM; another
    /// one has no effect.
    pub(crate) fn terminate(&mut self, now: Moment) -> bool {
        if self.termination.is_some() {
            return false;
        }
        self.termination = Some(Termination {
            line_end: now.saturating_add(LINE_END_PATIENCE),
            exit: now.saturating_add(EXIT_PATIENCE),
        });
        self.logs.iter_mut().for_each(LogDir::hurry);
        true
    }

    /// ALRM: begins a rotation of all logs.
    pub(crate) fn rotate(&mut self) {
        self.logs.iter_mut().for_each(LogDir::rotate);
    }

    /// A child has ended. Returns whether it was a processor of this stream.
    pub(crate) fn processor_ended(&mut self, pid: Pid, succeeded: bool, now: Moment) -> bool {
        self.logs.iter_mut().any(|log| log.processor_ended(pid, succeeded, now))
    }

    /// Frees memory that an idle stream does not need: one of many streams of a process.
    pub(crate) fn release_memory(&mut self) {
        self.input.release_memory();
        self.logs.iter_mut().for_each(LogDir::release_memory);
    }

    /// Has the kernel begin to write the logs to the disk, so that closing many of them waits for the disk only once.
    pub(crate) fn begin_to_sync(&self) {
        self.logs.iter().for_each(LogDir::begin_to_sync);
    }

    /// Kills processors and completes the logs. Bytes that are still pending are lost, which is reported.
    pub(crate) fn close(&mut self) {
        self.logs.iter_mut().for_each(LogDir::close);
    }
}
