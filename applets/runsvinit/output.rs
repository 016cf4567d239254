//! The lines that services write, passed on to our own standard output and error with the names of the services before
//! them.
//!
//! No line is lost: while one of the two accepts nothing, nothing is read from the services, so they wait and we do not.
//! Only lines that can never be written, such as to a full disk, are dropped and counted.

use std::cell::Cell;
use std::rc::Rc;

use super::WHO;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use svcore::event::{self, Wait};
use svcore::moment::Moment;
use svcore::say::Message;
use svcore::service::{Late, Outputs};
use svcore::slice;
use svcore::sys::interest::Interest;
use svcore::sys::{clock, output};
use svcore::tai;

use super::lines::Lines;

/// A pipe that accepts anything accepts as many bytes in one write.
const PIECE: usize = 4096;

/// All writers, and what they have written.
#[derive(Debug)]
pub(crate) struct Output {
    interest: Interest,
    /// Each has the index that `interest` knows it by. `None`: all of its programs have ended.
    writers: Vec<Option<Writer>>,
    /// Writers that were made since the last turn, for log services that began to exist after their service was started.
    new_writers: Rc<NewWriters>,
    targets: Targets,
    /// Whether lines have the time before them.
    stamp: bool,
    /// Whether there may be more to read without waiting.
    has_more: bool,
}

/// One of our standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standard {
    Output,
    Error,
}

/// A service or log service, as one that writes to one of its standard streams.
#[derive(Debug)]
struct Writer {
    pipe: OwnedFd,
    to: Standard,
    lines: Lines,
}

/// Our standard output and error.
#[derive(Debug)]
struct Targets {
    output: Target,
    error: Target,
}

/// One of the two.
#[derive(Debug)]
struct Target {
    name: &'static str,
    /// The same file opened once more, if only that makes writes return instead of waiting.
    own: Option<OwnedFd>,
    shared: BorrowedFd<'static>,
    /// Lines that it has not accepted yet.
    waiting: Vec<u8>,
    /// How many lines were dropped since the last one that was written.
    dropped: u64,
}

#[derive(Default)]
struct NewWriters(Cell<Vec<Writer>>);

impl std::fmt::Debug for NewWriters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewWriters")
    }
}

impl Targets {
    fn of(&mut self, to: Standard) -> &mut Target {
        match to {
            Standard::Output => &mut self.output,
            Standard::Error => &mut self.error,
        }
    }

    /// The first that has not accepted all lines yet.
    fn full(&self) -> Option<&Target> {
        [&self.output, &self.error].into_iter().find(|target| !target.waiting.is_empty())
    }

    fn both(&mut self) -> [&mut Target; 2] {
        [&mut self.output, &mut self.error]
    }

    fn write(&mut self) {
        self.both().into_iter().for_each(Target::write);
    }
}

impl Writer {
    /// A new one, and the end of its pipe for the program.
    fn new(name: &[u8], to: Standard) -> std::io::Result<(Self, OwnedFd)> {
        let (read, write) = std::io::pipe()?;
        let pipe = OwnedFd::from(read);
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok((Writer { pipe, to, lines: Lines::new(name) }, write.into()))
    }
}

impl Target {
    fn new(name: &'static str, shared: BorrowedFd<'static>) -> Self {
        Target { name, own: output::own(shared), shared, waiting: Vec::new(), dropped: 0 }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(self.shared, AsFd::as_fd)
    }

    /// Writes as much as it accepts.
    fn write(&mut self) {
        let mut written = 0;
        while let Some(unwritten @ [_, ..]) = self.waiting.get(written..) {
            // Whole lines if possible, since CMD may write to the same file.
            let piece = unwritten.get(..PIECE).unwrap_or(unwritten);
            let length = piece.iter().rposition(|&byte| byte == b'\n').map_or(piece.len(), |end| end + 1);
            let lines = slice::part(piece, ..length);
            let done = match &self.own {
                Some(own) => rustix::io::write(own, lines).map_err(std::io::Error::from),
                None => output::write(self.shared, lines),
            };
            match done {
                Ok(length) => {
                    written += length;
                    self.report_dropped();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // The disk is full, or the reader has ended.
                Err(error) => {
                    if self.dropped == 0 {
                        let what = format!("unable to write to {}, lines are dropped", self.name);
                        Message::warning(WHO, &what).because(&error).print_now();
                    }
                    self.dropped = self.dropped.saturating_add(count_lines(unwritten));
                    written = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..written);
        if self.waiting.is_empty() {
            // After a burst its memory is not needed any more.
            self.waiting.shrink_to(PIECE);
        }
    }

    /// Reports how many lines were dropped since the last report, if any.
    fn report_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let what = format!("{dropped} lines for {} were dropped", self.name);
            Message::warning(WHO, &what).print_now();
        }
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    u64::try_from(lines).unwrap_or(u64::MAX)
}

impl Output {
    /// Without writers. With `stamp`, lines have the time before them.
    pub(crate) fn new(stamp: bool) -> std::io::Result<Self> {
        Ok(Output {
            interest: Interest::new()?,
            writers: Vec::new(),
            new_writers: Rc::default(),
            targets: Targets {
                output: Target::new("standard output", rustix::stdio::stdout()),
                error: Target::new("standard error", rustix::stdio::stderr()),
            },
            stamp,
            has_more: false,
        })
    }

    /// Pipes for the service called `name`, and for its log service if it has one.
    pub(crate) fn pipes_for(&mut self, name: &[u8], has_log: bool) -> std::io::Result<Outputs> {
        let (out, err) = self.pipes(name)?;
        let name = [name, b"/log"].concat();
        let log = if has_log { Some(self.pipes(&name)?) } else { None };
        Ok(Outputs { out, err, log, late: self.late(&name) })
    }

    /// Makes pipes for the program called `name` later.
    pub(crate) fn late(&self, name: &[u8]) -> Late {
        let (name, new_writers) = (name.to_vec(), Rc::clone(&self.new_writers));
        Late(Box::new(move || {
            let (out, out_end) = Writer::new(&name, Standard::Output)?;
            let (err, err_end) = Writer::new(&name, Standard::Error)?;
            let mut all = new_writers.0.take();
            all.extend([out, err]);
            new_writers.0.set(all);
            Ok((out_end, err_end))
        }))
    }

    /// Pipes for the standard output and error of a program.
    fn pipes(&mut self, name: &[u8]) -> std::io::Result<(OwnedFd, OwnedFd)> {
        let (out, out_end) = Writer::new(name, Standard::Output)?;
        let (err, err_end) = Writer::new(name, Standard::Error)?;
        self.add(out)?;
        self.add(err)?;
        Ok((out_end, err_end))
    }

    fn add(&mut self, writer: Writer) -> std::io::Result<()> {
        let index = self.writers.iter().position(Option::is_none).unwrap_or(self.writers.len());
        self.interest.add(writer.pipe.as_fd(), u64::try_from(index).unwrap_or(u64::MAX))?;
        match self.writers.get_mut(index) {
            Some(empty) => *empty = Some(writer),
            None => self.writers.push(Some(writer)),
        }
        Ok(())
    }

    /// The descriptor to wait for, and how: until a target accepts the lines that we have, or else until there are more.
    pub(crate) fn awaited(&self) -> (BorrowedFd<'_>, PollFlags) {
        self.targets
            .full()
            .map_or((self.interest.as_fd(), PollFlags::IN), |target| (target.fd(), PollFlags::OUT))
    }

    /// Reads and writes once as much as is possible without waiting.
    pub(crate) fn pass_on(&mut self) {
        for writer in self.new_writers.0.take() {
            // If this fails the pipe has no reader, and the log service gets an error when it writes.
            let _ = self.add(writer);
        }
        self.targets.write();
        self.has_more = false;
        if self.targets.full().is_some() {
            return;
        }
        let stamp = self.stamp.then(tai::now);
        let ready = self.interest.ready();
        for index in &ready {
            let slot = usize::try_from(*index).ok().and_then(|index| self.writers.get_mut(index));
            let Some(slot) = slot else { continue };
            let Some(writer) = slot else { continue };
            let waiting = &mut self.targets.of(writer.to).waiting;
            let mut buffer = [0; 8192];
            match rustix::io::read(&writer.pipe, &mut buffer) {
                Ok(0) => {
                    writer.lines.end(stamp.as_ref(), waiting);
                    *slot = None;
                }
                Ok(length) => writer.lines.add(slice::part(&buffer, ..length), stamp.as_ref(), waiting),
                // It was not ready after all.
                Err(_) => {}
            }
        }
        self.targets.write();
        self.has_more = !ready.is_empty() && self.targets.full().is_none();
    }
    /// Whether [`Output::pass_on`] may find more to do without waiting.
    pub(crate) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Passes on everything that is still in the pipes, until `until` at the latest. What is not passed on by then is
    /// counted as dropped.
    pub(crate) fn drain(&mut self, until: Moment) {
        loop {
            self.pass_on();
            let is_done = !self.has_more && self.targets.full().is_none();
            if is_done || clock::monotonic() >= until {
                break;
            }
            if !self.has_more {
                let (fd, flags) = self.awaited();
                event::wait(&mut [PollFd::from_borrowed_fd(fd, flags)], Wait::Until(until));
            }
        }
        let stamp = self.stamp.then(tai::now);
        for writer in self.writers.iter_mut().flatten() {
            writer.lines.end(stamp.as_ref(), &mut self.targets.of(writer.to).waiting);
        }
        self.targets.write();
        self.count_unwritten();
        self.targets.both().into_iter().for_each(Target::report_dropped);
    }

    /// Counts the lines that are still in the pipes, and those that were read but not written.
    fn count_unwritten(&mut self) {
        /// A pipe holds no more than this, unless a service made it larger.
        const READS_MAX: usize = 1024;
        for writer in self.writers.iter().flatten() {
            let dropped = &mut self.targets.of(writer.to).dropped;
            let mut buffer = [0; 4096];
            for _ in 0..READS_MAX {
                let Ok(length @ 1..) = rustix::io::read(&writer.pipe, &mut buffer) else { break };
                *dropped = dropped.saturating_add(count_lines(slice::part(&buffer, ..length)));
            }
        }
        for target in self.targets.both() {
            target.dropped = target.dropped.saturating_add(count_lines(&target.waiting));
        }
    }
}
