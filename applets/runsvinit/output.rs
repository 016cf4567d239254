//! What services write, line by line and with their names in front, to our own standard output and error.
//!
//! Nothing is lost: while one of the two takes nothing, nothing is read, and the services wait.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use svcore::event;
use svcore::service::Outputs;
use svcore::sys::clock;
use svcore::sys::interest::Interest;

use super::lines::Lines;

/// What a pipe takes at once whenever it takes anything.
const AT_ONCE: usize = 4096;

/// All writers.
#[derive(Debug)]
pub(crate) struct Output {
    interest: Interest,
    writers: Vec<Option<Writer>>,
    /// What standard output and error did not take yet.
    waiting: [Vec<u8>; 2],
    stamp: bool,
    /// There may be more to be read at once.
    more: bool,
}

#[derive(Debug)]
struct Writer {
    pipe: OwnedFd,
    /// 0: standard output, 1: standard error.
    to: usize,
    lines: Lines,
}

impl Output {
    /// Without writers; `stamp`: lines have the time in front.
    pub(crate) fn new(stamp: bool) -> std::io::Result<Self> {
        Ok(Output {
            interest: Interest::new()?,
            writers: Vec::new(),
            waiting: [Vec::new(), Vec::new()],
            stamp,
            more: false,
        })
    }

    /// Pipes for the service called `name`, and for its log service if it has one.
    pub(crate) fn of(&mut self, name: &[u8], has_log: bool) -> std::io::Result<Outputs> {
        let (out, err) = (self.writer(name, 0)?, self.writer(name, 1)?);
        let name = [name, b"/log"].concat();
        let log = if has_log { Some((self.writer(&name, 0)?, self.writer(&name, 1)?)) } else { None };
        Ok(Outputs { out, err, log })
    }

    fn writer(&mut self, name: &[u8], to: usize) -> std::io::Result<OwnedFd> {
        let (read, write) = std::io::pipe()?;
        let pipe = OwnedFd::from(read);
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let place = self.writers.iter().position(Option::is_none).unwrap_or(self.writers.len());
        self.interest.add(pipe.as_fd(), u64::try_from(place).unwrap_or(u64::MAX))?;
        let writer = Some(Writer { pipe, to, lines: Lines::new(name) });
        match self.writers.get_mut(place) {
            Some(empty) => *empty = writer,
            None => self.writers.push(writer),
        }
        Ok(write.into())
    }

    /// What to wait for, and how: for lines, or until those that we have are taken.
    pub(crate) fn awaited(&self) -> (BorrowedFd<'_>, PollFlags) {
        let [out, err] = &self.waiting;
        if !out.is_empty() {
            (rustix::stdio::stdout(), PollFlags::OUT)
        } else if !err.is_empty() {
            (rustix::stdio::stderr(), PollFlags::OUT)
        } else {
            (self.interest.as_fd(), PollFlags::IN)
        }
    }

    /// Moves what can be moved now. Whether there may be more at once.
    pub(crate) fn pass_on(&mut self) -> bool {
        self.write();
        self.more = false;
        if self.is_waiting() {
            return false;
        }
        let stamp = self.stamp.then(clock::wall);
        let ready = self.interest.ready();
        for place in &ready {
            let Some(place) = usize::try_from(*place).ok().and_then(|place| self.writers.get_mut(place))
            else {
                continue;
            };
            let Some(writer) = place else { continue };
            let Some(out) = self.waiting.get_mut(writer.to) else { continue };
            let mut buffer = [0; 8192];
            match rustix::io::read(&writer.pipe, &mut buffer) {
                Ok(0) => {
                    writer.lines.end(stamp.as_ref(), out);
                    *place = None;
                }
                Ok(length) => {
                    writer.lines.take(buffer.get(..length).unwrap_or_default(), stamp.as_ref(), out);
                }
                Err(_) => {}
            }
        }
        self.write();
        self.more = !ready.is_empty() && !self.is_waiting();
        self.more
    }

    /// Whether there may be more to be moved at once.
    pub(crate) const fn has_more(&self) -> bool {
        self.more
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    fn write(&mut self) {
        let [out, err] = &mut self.waiting;
        write_now(rustix::stdio::stdout(), out);
        write_now(rustix::stdio::stderr(), err);
    }

    /// Moves all that is still in the pipes, until that moment at the latest.
    pub(crate) fn drain(&mut self, until: Duration) {
        loop {
            let more = self.pass_on();
            if !more && !self.is_waiting() {
                break;
            }
            if clock::monotonic() >= until {
                break;
            }
            if !more {
                let (fd, flags) = self.awaited();
                event::wait(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(until));
            }
        }
        let stamp = self.stamp.then(clock::wall);
        for writer in self.writers.iter_mut().flatten() {
            if let Some(out) = self.waiting.get_mut(writer.to) {
                writer.lines.end(stamp.as_ref(), out);
            }
        }
        self.write();
    }
}

/// Writes what is taken without waiting; the descriptor stays as it is, since others have it too.
fn write_now(fd: BorrowedFd<'_>, waiting: &mut Vec<u8>) {
    let mut written = 0;
    while let Some(rest @ [_, ..]) = waiting.get(written..) {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        event::wait(&mut fds, Some(Duration::ZERO));
        if fds.iter().any(|fd| fd.revents().is_empty()) {
            break;
        }
        // Whole lines where that is possible: others write to it as well.
        let some = rest.get(..AT_ONCE).unwrap_or(rest);
        let lines = some.iter().rposition(|&byte| byte == b'\n').map_or(some.len(), |end| end + 1);
        match rustix::io::write(fd, rest.get(..lines).unwrap_or(rest)) {
            Ok(length) => written += length,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => break,
            // Nobody is there to read it, nor will be.
            Err(_) => written = waiting.len(),
        }
    }
    waiting.drain(..written);
}
