//! A log directory: `current`, its rotation, and what is still to be written to it.
//!
//! Nothing in here waits. What cannot be done now is tried again later, from the step that failed: no step before it
//! is done twice, and no byte is written twice. Until then [`LogDir::is_behind`], and nobody reads more input.

mod rotation;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use memchr::{memchr, memchr_iter};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, openat};
use rustix::io::Errno;
use rustix::process::Pid;
use svcore::error::reason;
use svcore::sys::clock;
use svcore::tai::{self, Tai64N};
use svcore::{files, say};

use super::config::{Config, Processor};
use super::processor::Work;
use super::rotate::{self, Limit};
use super::udp::Sender;

/// How long is waited before something that failed is tried again. Source: svlogd(8).
pub(crate) const PAUSE: Duration = Duration::from_secs(3);
/// Mode of `current` while it is written to.
const OPEN: Mode = Mode::from_raw_mode(0o644);
/// Mode of a log that is complete.
const COMPLETE: Mode = Mode::from_raw_mode(0o744);

/// What is done when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Wait, and read nothing.
    Wait,
    /// Lose lines.
    Lose,
    /// Lose lines, and warn.
    Warn,
}

/// What holds for all directories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) verbose: bool,
    /// svlogd's `-l`.
    pub(crate) line_max: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) stamp: Stamp,
}

/// What is put before each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    None,
    /// `@` and 24 digits.
    Label,
    /// The time in UTC, with this between date and time.
    Utc(u8),
}

impl Stamp {
    /// With the blank behind it, in bytes.
    pub(crate) const LENGTH: usize = 26;

    /// The stamp of this moment and the blank behind it; the first of the two says how much of it counts.
    pub(crate) fn of(self, moment: &Tai64N) -> (usize, [u8; Self::LENGTH]) {
        let text = match self {
            Stamp::None => return (0, [b' '; Self::LENGTH]),
            Stamp::Label => rotate::text(moment),
            Stamp::Utc(between) => tai::human(moment, between),
        };
        let mut stamp = [b' '; Self::LENGTH];
        for (to, from) in stamp.iter_mut().zip(text) {
            *to = from;
        }
        (Self::LENGTH, stamp)
    }
}

/// A step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Wait for the processor of the last old log.
    Wait,
    /// Bring `current` to the disk.
    Seal,
    /// Mark it complete.
    Mark,
    /// Give it its name.
    Rename,
    /// Open a new one.
    Reopen,
    /// Remove what is too much.
    Prune,
}

/// What a directory that is opened again has to know of its past.
pub(crate) struct Kept {
    unwritten: Vec<u8>,
    selected: bool,
    last: Option<Tai64N>,
    lost: u64,
    torn: bool,
    pub(crate) work: Work,
}

impl Default for Kept {
    fn default() -> Self {
        Kept {
            unwritten: Vec::new(),
            selected: true,
            last: None,
            lost: 0,
            torn: false,
            work: Work::default(),
        }
    }
}

/// A log directory.
pub(crate) struct LogDir {
    /// As typed.
    name: Vec<u8>,
    dir: OwnedFd,
    /// Held, not used.
    _lock: OwnedFd,
    pub(crate) config: Config,
    rules: Rules,
    current: Option<OwnedFd>,
    length: u64,
    /// When `current` was opened.
    since: Duration,
    /// Whole lines, or pieces of long ones, and how many bytes of them are written.
    todo: Vec<u8>,
    done: usize,
    step: Option<Step>,
    last: Option<Tai64N>,
    retry_at: Option<Duration>,
    pub(crate) work: Work,
    pub(crate) udp: Option<Sender>,
    /// The line that is under way goes into the log.
    pub(crate) selected: bool,
    /// Lines lost since the disk is full.
    lost: u64,
    /// That was warned of.
    lost_said: bool,
    /// What was written last is not the end of a line.
    torn: bool,
}

/// Says something about a directory, in svlogd's shape.
pub(crate) fn tell(class: &str, what: &str, name: &[u8], error: Option<&io::Error>) {
    let mut line = [b"svlogd: ", class.as_bytes(), b": ", what.as_bytes(), b": ", name].concat();
    if let Some(error) = error {
        line.extend_from_slice(b": ");
        line.extend_from_slice(reason(error).as_bytes());
    }
    say::err_line(&[&line]);
}

impl LogDir {
    /// Opens and locks a directory and its `current`; says why not.
    pub(crate) fn open(name: &OsStr, rules: Rules, kept: Kept) -> Option<Self> {
        let bytes = name.as_bytes();
        let warn = |what: &'static str| move |error: io::Error| tell("warning", what, bytes, Some(&error));
        let path = CString::new(bytes).ok()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &path, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(warn("unable to open log directory"))
            .ok()?;
        // One that cannot be gone into is told from one that cannot be opened.
        openat(&dir, c".", flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(warn("unable to change directory"))
            .ok()?;
        let lock_flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = openat(&dir, c"lock", lock_flags, Mode::from_raw_mode(0o600))
            .and_then(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).map(|()| lock))
            .map_err(io::Error::from)
            .map_err(warn("unable to lock directory"))
            .ok()?;
        let mut log = LogDir {
            name: bytes.to_vec(),
            dir,
            _lock: lock,
            config: Config::default(),
            rules,
            current: None,
            length: 0,
            since: clock::monotonic(),
            todo: kept.unwritten,
            done: 0,
            step: None,
            last: kept.last,
            retry_at: None,
            work: kept.work,
            udp: None,
            selected: kept.selected,
            lost: kept.lost,
            lost_said: false,
            torn: kept.torn,
        };
        log.configure();
        log.begin().map_err(|(what, error)| tell("warning", what, bytes, Some(&error))).ok()?;
        Some(log)
    }

    /// As it was typed.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Completes `current` and gives what the next one of the same name has to know. Ends this one, and its lock.
    pub(crate) fn hand_over(mut self) -> Kept {
        let unwritten = self.todo.split_off(self.done.min(self.todo.len()));
        self.todo.clear();
        self.done = 0;
        self.close();
        let LogDir { selected, last, lost, torn, work, .. } = self;
        Kept { unwritten, selected, last, lost, torn, work }
    }

    fn path(&self, file: &str) -> Vec<u8> {
        [self.name.as_slice(), b"/", file.as_bytes()].concat()
    }

    fn info(&self, what: &str, file: &str) {
        if self.rules.verbose {
            tell("info", what, &self.path(file), None);
        }
    }

    /// Reads `config`; what is wrong with it is said.
    fn configure(&mut self) {
        let text = match files::open_read(self.dir.as_fd(), c"config").and_then(|file| files::read_all(&file))
        {
            Ok(text) => {
                self.info("read", "config");
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tell("warning", "unable to read config", &self.name, Some(&error));
                Vec::new()
            }
        };
        let (config, complaints) = Config::parse(&text);
        for (number, what) in complaints {
            let place = format!("/config:{number}: ");
            let line = [b"svlogd: warning: ", self.name.as_slice(), place.as_bytes(), what.as_bytes()];
            say::err_line(&line);
        }
        self.udp = config.udp.map(Sender::new);
        self.config = config;
    }

    /// Opens `current`; one that was not completed becomes an unprocessed old log.
    fn begin(&mut self) -> Result<(), (&'static str, io::Error)> {
        let failed = |what: &'static str| move |error: io::Error| (what, error);
        let before = files::look(self.dir.as_fd(), c"current").map_err(failed("unable to stat current"))?;
        let unclean = before.is_some_and(|stat| stat.st_size > 0 && !files::is_executable(&stat));
        if unclean {
            self.rename_current(b'u').map_err(failed("unable to rename current"))?;
            self.prune().map_err(failed("unable to read directory"))?;
        }
        self.info(if before.is_some() && !unclean { "append" } else { "new" }, "current");
        self.open_current().map_err(failed("unable to open current"))?;
        if let Some(Processor::Gzip(_)) = self.config.processor {
            let old = self.old_logs().map_err(failed("unable to read directory"))?;
            self.work.take_up(&old, &self.dir, &self.name);
        }
        Ok(())
    }

    fn open_current(&mut self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let current = openat(&self.dir, c"current", flags, Mode::from_raw_mode(0o600))?;
        fchmod(&current, OPEN)?;
        self.length = u64::try_from(fstat(&current)?.st_size).unwrap_or(0);
        self.current = Some(current);
        self.since = clock::monotonic();
        Ok(())
    }

    /// Puts bytes, of which the last is the end of a line unless it is a long one, behind what is to be written.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.todo.extend_from_slice(bytes);
    }

    /// The same for the parts of a line.
    pub(crate) fn push_line(&mut self, stamp: &[u8], text: &[u8], end: &[u8]) {
        let prefix = self.config.prefix.as_slice();
        self.todo.reserve(stamp.len() + prefix.len() + text.len() + end.len());
        if let Some(stamp) = stamp.first_chunk::<{ Stamp::LENGTH }>() {
            // Of known length, so it is copied without a call.
            self.todo.extend_from_slice(stamp);
        }
        if !prefix.is_empty() {
            self.todo.extend_from_slice(prefix);
        }
        self.todo.extend_from_slice(text);
        if let [newline] = end {
            self.todo.push(*newline);
        }
    }

    /// How much is to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.todo.len() - self.done
    }

    /// Whether something is left over that could not be done, and that is waited for.
    pub(crate) fn is_behind(&self) -> bool {
        self.step.is_some() || (self.unwritten() > 0 && self.lost == 0)
    }

    /// Whether what is left over waits for its time.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.retry_at.is_some()
    }

    /// When it is worth trying again, or `current` gets too old.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let too_old =
            self.config.age.filter(|_| self.length > 0 && self.step.is_none()).map(|age| self.since + age);
        [self.retry_at, too_old, self.work.deadline()].into_iter().flatten().min()
    }

    /// Asks for a rotation, unless there is nothing to rotate.
    pub(crate) fn rotate(&mut self) {
        if self.length > 0 && self.step.is_none() {
            self.step = Some(Step::Wait);
        }
    }

    /// Does all that can be done now: writing, rotating, processing.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.work.advance(now, &self.dir, &self.name, self.config.processor.as_ref(), self.rules.verbose);
        if self.config.age.is_some_and(|age| now >= self.since + age) {
            if self.length == 0 {
                // It begins to age with what is written to it.
                self.since = now;
            }
            self.rotate();
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let limit = Limit { size: self.config.size, line: self.rules.line_max as u64 };
        loop {
            if let Some(step) = self.step {
                match self.perform(step) {
                    Ok(next) => {
                        self.step = next;
                        if next == Some(Step::Wait) {
                            return;
                        }
                        continue;
                    }
                    Err((what, error)) => {
                        self.pause(what, &error);
                        return;
                    }
                }
            }
            let Some(bytes) = self.todo.get(self.done..).filter(|bytes| !bytes.is_empty()) else { break };
            let room = limit.room(self.length, bytes);
            if room.bytes == 0 {
                self.step = Some(Step::Wait);
                continue;
            }
            let Some(current) = &self.current else {
                self.step = Some(Step::Reopen);
                continue;
            };
            if self.lost > 0 && !self.torn {
                let (length, stamp) = self.rules.stamp.of(&clock::wall());
                let line = format!("svlogd: lost {} lines: out of disk space\n", self.lost);
                let line = [stamp.get(..length).unwrap_or_default(), line.as_bytes()].concat();
                // Where it does not fit, neither will what follows, and is counted too.
                if rustix::io::write(current, &line) == Ok(line.len()) {
                    self.length += line.len() as u64;
                    (self.lost, self.lost_said) = (0, false);
                    continue;
                }
            }
            match rustix::io::write(current, bytes.get(..room.bytes).unwrap_or(bytes)) {
                Ok(written) => {
                    self.torn = written.checked_sub(1).and_then(|last| bytes.get(last)) != Some(&b'\n');
                    self.done += written;
                    self.length += written as u64;
                    if room.full && written == room.bytes {
                        self.step = Some(Step::Wait);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT) if self.make_room() => {}
                Err(errno @ (Errno::NOSPC | Errno::DQUOT)) if self.rules.when_full != WhenFull::Wait => {
                    self.lose(errno);
                    if self.torn {
                        return;
                    }
                }
                Err(errno) => {
                    self.pause("unable to write to current", &errno.into());
                    return;
                }
            }
        }
        self.todo.clear();
        self.done = 0;
    }

    fn pause(&mut self, what: &str, error: &io::Error) {
        tell("pausing", what, &self.name, Some(error));
        // Not the time that the caller has: without a deadline nobody had asked for it.
        self.retry_at = Some(clock::monotonic() + PAUSE);
    }

    /// Takes the end of a process; says whether it was the processor's.
    pub(crate) fn child_ended(&mut self, pid: Pid, well: bool, now: Duration) -> bool {
        self.work.ended(pid, well, now, &self.name)
    }

    /// Tries again at once what waits for its time.
    pub(crate) fn hurry(&mut self) {
        self.retry_at = None;
    }

    /// Gives up what is to be written, and counts it. The end of a line that is written in part is kept.
    fn lose(&mut self, errno: Errno) {
        let bytes = self.todo.get(self.done..).unwrap_or_default();
        let kept = if self.torn { memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1) } else { 0 };
        let given_up = bytes.get(kept..).unwrap_or_default();
        self.lost += memchr_iter(b'\n', given_up).count() as u64;
        let end = self.done + kept;
        self.todo.truncate(end);
        if self.rules.when_full == WhenFull::Warn && !self.lost_said {
            tell("warning", "losing lines", &self.name, Some(&errno.into()));
            self.lost_said = true;
        }
    }

    /// Completes `current`. What could not be written is lost, which is said.
    pub(crate) fn close(&mut self) {
        if self.unwritten() > 0 {
            let what = format!("{} bytes not written", self.unwritten());
            tell("warning", &what, &self.name, None);
        }
        if let Some(current) = self.current.take() {
            // Whether it is safely on the disk is nothing that could still be told.
            let _ = fsync(&current);
            let _ = fchmod(&current, COMPLETE);
        }
        if self.rules.verbose {
            tell("info", "close", &self.name, None);
        }
    }
}
