//! What services write, line by line and with their names in front, to our own standard output and error.
//!
//! Nothing is lost: while one of the two takes nothing, nothing is read, and the services wait; we do not. Only what
//! can never be written is dropped, such as to a full disk, and counted.

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

/// What a pipe takes at once whenever it takes anything.
const AT_ONCE: usize = 4096;

/// All writers.
#[derive(Debug)]
pub(crate) struct Output {
    interest: Interest,
    writers: Vec<Option<Writer>>,
    /// Those that came meanwhile: log services that were not there at the start.
    late: Rc<Coming>,
    /// Standard output and error.
    targets: [Target; 2],
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

/// Where lines go.
#[derive(Debug)]
struct Target {
    name: &'static str,
    /// Opened once more, where that is what makes writes not wait.
    own: Option<OwnedFd>,
    shared: BorrowedFd<'static>,
    /// What it did not take yet.
    waiting: Vec<u8>,
    /// Lines that could not be written since the last that could.
    lost: u64,
}

#[derive(Default)]
struct Coming(Cell<Vec<Writer>>);

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coming")
    }
}

impl Writer {
    /// And what it writes to.
    fn new(name: &[u8], to: usize) -> std::io::Result<(Self, OwnedFd)> {
        let (read, write) = std::io::pipe()?;
        let pipe = OwnedFd::from(read);
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok((Writer { pipe, to, lines: Lines::new(name) }, write.into()))
    }
}

impl Target {
    fn new(name: &'static str, shared: BorrowedFd<'static>) -> Self {
        Target { name, own: output::own(shared), shared, waiting: Vec::new(), lost: 0 }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(self.shared, AsFd::as_fd)
    }

    /// Writes what is taken without waiting.
    fn write(&mut self) {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = self.waiting.get(written..) {
            // Whole lines where that is possible: others write to it as well.
            let some = rest.get(..AT_ONCE).unwrap_or(rest);
            let lines = some.iter().rposition(|&byte| byte == b'\n').map_or(some.len(), |end| end + 1);
            let lines = rest.get(..lines).unwrap_or(rest);
            let done = match &self.own {
                Some(own) => rustix::io::write(own, lines).map_err(std::io::Error::from),
                None => output::write(self.shared, lines),
            };
            match done {
                Ok(length) => {
                    written += length;
                    if self.lost > 0 {
                        self.tell_lost();
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // A full disk, or nobody is there to read it, nor will be.
                Err(error) => {
                    let lines = rest.iter().filter(|&&byte| byte == b'\n').count();
                    if self.lost == 0 {
                        let what = format!("unable to write to {}, lines are dropped", self.name);
                        Message::warning(WHO, &what).because(&error).print_now();
                    }
                    self.add_lost(lines);
                    written = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..written);
        if self.waiting.is_empty() {
            // What much at once took is not kept for ever.
            self.waiting.shrink_to(AT_ONCE);
        }
    }

    fn add_lost(&mut self, lines: usize) {
        self.lost = self.lost.saturating_add(u64::try_from(lines).unwrap_or(u64::MAX));
    }

    fn tell_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        let what = format!("{lost} lines for {} were dropped", self.name);
        Message::warning(WHO, &what).print_now();
    }
}

impl Output {
    /// Without writers; `stamp`: lines have the time in front.
    pub(crate) fn new(stamp: bool) -> std::io::Result<Self> {
        Ok(Output {
            interest: Interest::new()?,
            writers: Vec::new(),
            late: Rc::default(),
            targets: [
                Target::new("standard output", rustix::stdio::stdout()),
                Target::new("standard error", rustix::stdio::stderr()),
            ],
            stamp,
            more: false,
        })
    }

    /// Pipes for the service called `name`, and for its log service if it has one.
    pub(crate) fn of(&mut self, name: &[u8], has_log: bool) -> std::io::Result<Outputs> {
        let (out, err) = (self.writer(name, 0)?, self.writer(name, 1)?);
        let name = [name, b"/log"].concat();
        let log = if has_log { Some((self.writer(&name, 0)?, self.writer(&name, 1)?)) } else { None };
        let coming = Rc::clone(&self.late);
        let late = Late(Box::new(move || {
            let (out, err) = (Writer::new(&name, 0)?, Writer::new(&name, 1)?);
            let mut all = coming.0.take();
            all.extend([out.0, err.0]);
            coming.0.set(all);
            Ok((out.1, err.1))
        }));
        Ok(Outputs { out, err, log, late })
    }

    fn writer(&mut self, name: &[u8], to: usize) -> std::io::Result<OwnedFd> {
        let (writer, write) = Writer::new(name, to)?;
        self.listen_to(writer)?;
        Ok(write)
    }

    fn listen_to(&mut self, writer: Writer) -> std::io::Result<()> {
        let place = self.writers.iter().position(Option::is_none).unwrap_or(self.writers.len());
        self.interest.add(writer.pipe.as_fd(), u64::try_from(place).unwrap_or(u64::MAX))?;
        match self.writers.get_mut(place) {
            Some(empty) => *empty = Some(writer),
            None => self.writers.push(Some(writer)),
        }
        Ok(())
    }

    /// What to wait for, and how: for lines, or until those that we have are taken.
    pub(crate) fn awaited(&self) -> (BorrowedFd<'_>, PollFlags) {
        self.targets
            .iter()
            .find(|target| !target.waiting.is_empty())
            .map_or((self.interest.as_fd(), PollFlags::IN), |target| (target.fd(), PollFlags::OUT))
    }

    /// Moves what can be moved now. Whether there may be more at once.
    pub(crate) fn pass_on(&mut self) -> bool {
        for writer in self.late.0.take() {
            // Without it, the log service finds that nobody reads.
            let _ = self.listen_to(writer);
        }
        self.write();
        self.more = false;
        if self.is_waiting() {
            return false;
        }
        let stamp = self.stamp.then(tai::now);
        let ready = self.interest.ready();
        for place in &ready {
            let Some(place) = usize::try_from(*place).ok().and_then(|place| self.writers.get_mut(place))
            else {
                continue;
            };
            let Some(writer) = place else { continue };
            let Some(out) = self.targets.get_mut(writer.to).map(|target| &mut target.waiting) else {
                continue;
            };
            let mut buffer = [0; 8192];
            match rustix::io::read(&writer.pipe, &mut buffer) {
                Ok(0) => {
                    writer.lines.end(stamp.as_ref(), out);
                    *place = None;
                }
                Ok(length) => {
                    writer.lines.take(slice::part(&buffer, ..length), stamp.as_ref(), out);
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
        self.targets.iter().any(|target| !target.waiting.is_empty())
    }

    fn write(&mut self) {
        self.targets.iter_mut().for_each(Target::write);
    }

    /// Moves all that is still in the pipes, until that moment at the latest.
    pub(crate) fn drain(&mut self, until: Moment) {
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
                event::wait(&mut [PollFd::from_borrowed_fd(fd, flags)], Wait::Until(until));
            }
        }
        let stamp = self.stamp.then(tai::now);
        for writer in self.writers.iter_mut().flatten() {
            if let Some(target) = self.targets.get_mut(writer.to) {
                writer.lines.end(stamp.as_ref(), &mut target.waiting);
            }
        }
        self.write();
        self.count_rest();
        for target in self.targets.iter_mut().filter(|target| target.lost > 0) {
            target.tell_lost();
        }
    }

    /// Counts what nobody took in time: in the pipes, and what was read but not written.
    fn count_rest(&mut self) {
        /// A pipe holds no more than this, unless a service made it larger.
        const READS_MAX: usize = 1024;
        let lines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
        for writer in self.writers.iter().flatten() {
            let Some(target) = self.targets.get_mut(writer.to) else { continue };
            let mut buffer = [0; 4096];
            for _ in 0..READS_MAX {
                let Ok(length @ 1..) = rustix::io::read(&writer.pipe, &mut buffer) else { break };
                target.add_lost(lines(slice::part(&buffer, ..length)));
            }
        }
        for target in &mut self.targets {
            let waiting = lines(&target.waiting);
            target.add_lost(waiting);
        }
    }
}
