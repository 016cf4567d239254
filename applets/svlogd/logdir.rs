//! A log directory: `current`, its rotation, and what is still to be written to it.
//!
//! Nothing in here waits. What cannot be done now is tried again later, from the step that failed: no step before it
//! is done twice, and no byte is written twice. Until then [`LogDir::is_behind`], and nobody reads more input.

mod rotation;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use memchr::{memchr, memchr_iter};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{fchmod, flock, fstat, fsync, openat, renameat, statat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;
use svcore::files;
use svcore::moment::Moment;
use svcore::say::{Class, Message};
use svcore::slice;
use svcore::sys::clock;
use svcore::sys::link::read_link;
use svcore::tai::{self, Tai64N};
use svcore::trust::{self, Refusal};

use super::config::{Config, Processor};
use super::processor::Work;
use super::rotate::{self, Limit, Old};
use super::udp::Sender;
use rotation::{old_logs, set_aside};

/// How long is waited before something that failed is tried again. Source: svlogd(8).
pub(crate) const PAUSE: Duration = Duration::from_secs(3);
/// How long a processor that gives no result is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer `config` is none.
const CONFIG_MAX: usize = 128 * 1024;
/// Mode of `current` while it is written to.
const OPEN: Mode = Mode::from_raw_mode(0o644);
/// Mode of a log that is complete.
pub(crate) const COMPLETE: Mode = Mode::from_raw_mode(0o744);

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

/// Whether the processor is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Some,
    /// It gave no result for too long.
    None,
}

/// What was attempted in vain, and why.
type Failed = (&'static str, io::Error);

/// An open directory, and its lock.
struct Place {
    dir: OwnedFd,
    stat: Stat,
    lock: OwnedFd,
}

impl Place {
    /// Opens and locks a directory. A lock that is `held` already is kept, so that nobody can take it in between.
    fn open(name: &[u8], held: Option<&Place>) -> Result<Self, Failed> {
        let failed = |what: &'static str| move |errno: Errno| (what, io::Error::from(errno));
        let path = CString::new(name).map_err(|error| ("unable to open log directory", error.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &path, flags, Mode::empty()).map_err(failed("unable to open log directory"))?;
        // One that cannot be gone into is told from one that cannot be opened.
        openat(&dir, c".", flags, Mode::empty()).map_err(failed("unable to change directory"))?;
        let stat = fstat(&dir).map_err(failed("unable to open log directory"))?;
        let locked = |error: io::Error| ("unable to lock directory", error);
        let same = held.filter(|held| {
            files::identity(&held.stat) == files::identity(&stat) && is_name_of(&dir, c"lock", &held.lock)
        });
        let lock = match same {
            Some(held) => fcntl_dupfd_cloexec(&held.lock, 0).map_err(|errno| locked(errno.into()))?,
            None => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
                let (lock, _) = trust::open_regular(dir.as_fd(), c"lock", flags, Mode::from_raw_mode(0o600))
                    .map_err(locked)?;
                flock(&lock, FlockOperation::NonBlockingLockExclusive)
                    .map_err(|errno| locked(errno.into()))?;
                lock
            }
        };
        Ok(Place { dir, stat, lock })
    }

    fn is_same(&self, other: &Place) -> bool {
        files::identity(&self.stat) == files::identity(&other.stat)
    }

    /// Whether it was removed, so that what is written to it is nowhere.
    fn is_gone(&self) -> bool {
        fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

/// Whether the file of this name is the one that is open.
fn is_name_of(dir: &OwnedFd, name: &CStr, file: &OwnedFd) -> bool {
    match (statat(dir, name, AtFlags::SYMLINK_NOFOLLOW), fstat(file)) {
        (Ok(named), Ok(open)) => files::identity(&named) == files::identity(&open),
        _ => false,
    }
}

/// A `current` that is ready to be written to.
struct Begun {
    current: OwnedFd,
    length: u64,
    /// It is the one that was open before.
    is_same: bool,
    /// One that was not completed became an old log.
    put_aside: bool,
}

fn open_current(dir: &OwnedFd, flags: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let flags = flags | OFlags::WRONLY | OFlags::APPEND;
    trust::open_regular(dir.as_fd(), c"current", flags, Mode::from_raw_mode(0o600))
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Gives names that are moments to old logs that have none. Says whether there was anything to do.
fn give_moments(dir: &OwnedFd, name: &[u8], old: &[Old]) -> bool {
    let renames = rotate::renames(old, tai::now());
    for (from, to) in &renames {
        for part in old.iter().filter(|old| old.label == *from) {
            let new = Old { label: *to, ..*part };
            let path = [name, b"/", part.name().as_bytes()].concat();
            match renameat(dir, part.name().as_str(), dir, new.name().as_str()) {
                Ok(()) => tell(Class::Warning, "renamed, its name is no time", &path, None),
                Err(errno) => {
                    tell(Class::Warning, "unable to rename", &path, Some(&errno.into()));
                    return true;
                }
            }
        }
    }
    !renames.is_empty()
}

/// Opens `current`; one that was not completed, and is not `ours`, becomes an unprocessed old log.
fn begin(
    dir: &OwnedFd,
    name: &[u8],
    ours: Option<&OwnedFd>,
    last: &mut Option<Tai64N>,
) -> Result<Begun, Failed> {
    let failed = |what: &'static str| move |error: io::Error| (what, error);
    let old = old_logs(dir).map_err(failed("unable to read directory"))?;
    let old = if give_moments(dir, name, &old) {
        old_logs(dir).map_err(failed("unable to read directory"))?
    } else {
        old
    };
    *last = (*last).max(rotate::newest(&old));
    let mut put_aside = false;
    match open_current(dir, OFlags::empty()) {
        Ok((current, stat)) => {
            let is_same = ours.is_some_and(|ours| is_name_of(dir, c"current", ours));
            if is_same || stat.st_size == 0 || files::is_executable(&stat) {
                if !is_same {
                    fchmod(&current, OPEN).map_err(|errno| ("unable to open current", errno.into()))?;
                }
                return Ok(Begun { current, length: size(&stat), is_same, put_aside });
            }
            set_aside(dir, b'u', last).map_err(failed("unable to rename current"))?;
            put_aside = true;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(("unable to open current", error)),
    }
    let (current, stat) = open_current(dir, OFlags::CREATE)
        .and_then(|(current, stat)| {
            fchmod(&current, OPEN)?;
            Ok((current, stat))
        })
        .map_err(failed("unable to open current"))?;
    Ok(Begun { current, length: size(&stat), is_same: false, put_aside })
}

/// Opens `config`. A link is followed where it was root or we who made it, since others may not lead us.
fn open_config(dir: &OwnedFd) -> io::Result<(OwnedFd, Stat)> {
    let opened = trust::open_regular(dir.as_fd(), c"config", OFlags::RDONLY, Mode::empty());
    let is_link = |error: &io::Error| trust::refusal(error) == Some(Refusal::Link);
    match opened {
        Err(error) if is_link(&error) => {}
        opened => return opened,
    }
    let (link, target) = read_link(dir.as_fd(), c"config")?;
    if !is_ours(&link) {
        return Err(Refusal::Link.into());
    }
    trust::open_regular(dir.as_fd(), &target, OFlags::RDONLY, Mode::empty())
}

/// Whether a file belongs to root or to us.
fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw()
}

/// Reads `config`; what is wrong with it is said. One that is missing says nothing.
fn read_config(place: &Place, name: &[u8], verbose: bool) -> io::Result<Config> {
    let path = [name, b"/config"].concat();
    let (file, stat) = match open_config(&place.dir) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(error),
    };
    let text = trust::read_at_most(&file, CONFIG_MAX)?;
    if verbose {
        tell(Class::Info, "read", &path, None);
    }
    let (mut config, complaints) = Config::parse(&text);
    for (number, what) in complaints {
        let what = [name, format!("/config:{number}: ").as_bytes(), what.as_bytes()].concat();
        Message::warning("svlogd", &what).print();
    }
    if matches!(config.processor, Some(Processor::Shell(_)))
        && let Some((of, refusal)) = distrust(&place.stat, &stat, name, &path)
    {
        // Old logs are kept as they are.
        tell(Class::Warning, "processor refused", of, Some(&refusal.into()));
        config.processor = None;
    }
    Ok(config)
}

/// Why a command in `config` is not run: who may write there is not us and not root, and what runs has our rights.
fn distrust<'a>(dir: &Stat, file: &Stat, name: &'a [u8], path: &'a [u8]) -> Option<(&'a [u8], Refusal)> {
    const EVERYBODY_WRITES: u32 = 0o002;
    if !is_ours(dir) {
        return Some((name, Refusal::OtherOwner));
    }
    if !is_ours(file) {
        return Some((path, Refusal::OtherOwner));
    }
    #[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
    let mode = u32::from(file.st_mode);
    (mode & EVERYBODY_WRITES != 0).then_some((path, Refusal::OthersWrite))
}

/// A log directory.
pub(crate) struct LogDir {
    /// As typed.
    name: Vec<u8>,
    place: Place,
    pub(crate) config: Config,
    rules: Rules,
    current: Option<OwnedFd>,
    length: u64,
    /// When `current` was opened.
    since: Moment,
    /// Whole lines, or pieces of long ones, and how many bytes of them are written.
    todo: Vec<u8>,
    done: usize,
    step: Option<Step>,
    last: Option<Tai64N>,
    retry_at: Option<Moment>,
    pub(crate) work: Work,
    patience: Patience,
    /// How long the processor is waited for, while it is.
    wait_until: Option<Moment>,
    /// The end is near, and the processor not waited for.
    hurried: bool,
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
pub(crate) fn tell(class: Class, what: &str, name: &[u8], error: Option<&io::Error>) {
    let what = [what.as_bytes(), b": ", name].concat();
    Message::new(class, "svlogd", &what).because(error).print();
}

impl LogDir {
    /// Opens and locks a directory and its `current`; says why not.
    pub(crate) fn open(name: &OsStr, rules: Rules) -> Option<Self> {
        let name = name.as_bytes();
        let warn = |(what, error): Failed| tell(Class::Warning, what, name, Some(&error));
        let place = Place::open(name, None).map_err(warn).ok()?;
        let config = read_config(&place, name, rules.verbose).unwrap_or_else(|error| {
            warn(("unable to read config", error));
            Config::default()
        });
        let mut last = None;
        let begun = begin(&place.dir, name, None, &mut last).map_err(warn).ok()?;
        let mut log = LogDir {
            name: name.to_vec(),
            place,
            udp: config.udp.map(Sender::new),
            config,
            rules,
            current: None,
            length: 0,
            since: clock::monotonic(),
            todo: Vec::new(),
            done: 0,
            step: None,
            last,
            retry_at: None,
            work: Work::default(),
            patience: Patience::Some,
            wait_until: None,
            hurried: false,
            selected: true,
            lost: 0,
            lost_said: false,
            torn: false,
        };
        log.take(begun);
        Some(log)
    }

    /// Opens it again, with what `config` says now. Where that cannot be done all stays as it is, which is said, and
    /// nothing that is still to be written is lost. Gives whether there is still anything to write to.
    pub(crate) fn reopen(&mut self) -> bool {
        match self.try_reopen() {
            Ok(()) => true,
            Err((what, error)) => {
                tell(Class::Warning, what, &self.name, Some(&error));
                !self.place.is_gone()
            }
        }
    }

    fn try_reopen(&mut self) -> Result<(), Failed> {
        let place = Place::open(&self.name, Some(&self.place))?;
        let config = read_config(&place, &self.name, self.rules.verbose)
            .map_err(|error| ("unable to read config", error))?;
        let begun = begin(&place.dir, &self.name, self.current.as_ref(), &mut self.last)?;
        if !place.is_same(&self.place) {
            self.work.give_up();
        }
        self.place = place;
        self.udp = config.udp.map(Sender::new);
        self.config = config;
        self.retry_at = None;
        self.take(begun);
        Ok(())
    }

    /// Goes on with this `current`.
    fn take(&mut self, begun: Begun) {
        if begun.is_same {
            self.info("append", "current");
        } else {
            self.complete();
            self.since = clock::monotonic();
            // What was under way was about the one before.
            self.step = None;
            self.info(if begun.length > 0 { "append" } else { "new" }, "current");
        }
        self.current = Some(begun.current);
        self.length = begun.length;
        if begun.put_aside
            && let Err(error) = self.prune()
        {
            tell(Class::Warning, "unable to read directory", &self.name, Some(&error));
        }
        if let Some(processor) = &self.config.processor {
            match old_logs(&self.place.dir) {
                Ok(old) => self.work.take_up(&old, &self.place.dir, &self.name, processor),
                Err(error) => tell(Class::Warning, "unable to read directory", &self.name, Some(&error)),
            }
        }
    }

    /// As it was typed.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    fn path(&self, file: &str) -> Vec<u8> {
        [self.name.as_slice(), b"/", file.as_bytes()].concat()
    }

    fn info(&self, what: &str, file: &str) {
        if self.rules.verbose {
            tell(Class::Info, what, &self.path(file), None);
        }
    }

    /// Puts bytes, of which the last is the end of a line unless it is a long one, behind what is to be written.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.todo.extend_from_slice(bytes);
    }

    /// The same for the parts of a line.
    pub(crate) fn push_line(&mut self, stamp: &[u8], text: &[u8], end: &[u8]) {
        let prefix = self.config.prefix.as_slice();
        let parts = [stamp.len(), prefix.len(), text.len(), end.len()];
        self.todo.reserve(parts.into_iter().fold(0, usize::saturating_add));
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
        self.todo.len().saturating_sub(self.done)
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
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let too_old = self.too_old_at().filter(|_| self.length > 0 && self.step.is_none());
        [self.retry_at, too_old, self.work.deadline(), self.wait_until].into_iter().flatten().min()
    }

    /// When `current` gets too old.
    fn too_old_at(&self) -> Option<Moment> {
        self.config.age.map(|age| self.since.saturating_add(age))
    }

    /// Asks for a rotation, unless there is nothing to rotate.
    pub(crate) fn rotate(&mut self) {
        if self.length > 0 && self.step.is_none() {
            self.step = Some(Step::Wait);
        }
    }

    /// Does all that can be done now: writing, rotating, processing.
    pub(crate) fn advance(&mut self, now: Moment) {
        self.work.advance(
            now,
            &self.place.dir,
            &self.name,
            self.config.processor.as_ref(),
            self.rules.verbose,
        );
        if self.too_old_at().is_some_and(|at| now >= at) {
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
                let (length, stamp) = self.rules.stamp.of(&tai::now());
                let line = format!("svlogd: lost {} lines: out of disk space\n", self.lost);
                let line = [slice::part(&stamp, ..length), line.as_bytes()].concat();
                // Where it does not fit, neither will what follows, and is counted too.
                if rustix::io::write(current, &line) == Ok(line.len()) {
                    self.length = self.length.saturating_add(line.len() as u64);
                    (self.lost, self.lost_said) = (0, false);
                    continue;
                }
            }
            match rustix::io::write(current, bytes.get(..room.bytes).unwrap_or(bytes)) {
                Ok(written) => {
                    self.torn = written.checked_sub(1).and_then(|last| bytes.get(last)) != Some(&b'\n');
                    self.done = self.done.saturating_add(written);
                    self.length = self.length.saturating_add(written as u64);
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
        tell(Class::Pausing, what, &self.name, Some(error));
        // Not the time that the caller has: without a deadline nobody had asked for it.
        self.retry_at = Some(clock::monotonic().saturating_add(PAUSE));
    }

    /// Takes the end of a process; says whether it was the processor's.
    pub(crate) fn child_ended(&mut self, pid: Pid, well: bool, now: Moment) -> bool {
        self.work.ended(pid, well, now, &self.name)
    }

    /// Tries again at once what waits for its time, and waits for no processor before it rotates.
    pub(crate) fn hurry(&mut self) {
        self.retry_at = None;
        self.hurried = true;
    }

    /// Gives up what is to be written, and counts it. The end of a line that is written in part is kept.
    fn lose(&mut self, errno: Errno) {
        let bytes = slice::part(&self.todo, self.done..);
        let kept =
            if self.torn { memchr(b'\n', bytes).map_or(bytes.len(), |end| end.saturating_add(1)) } else { 0 };
        let given_up = slice::part(bytes, kept..);
        self.lost = self.lost.saturating_add(memchr_iter(b'\n', given_up).count() as u64);
        let end = self.done.saturating_add(kept);
        self.todo.truncate(end);
        if self.rules.when_full == WhenFull::Warn && !self.lost_said {
            tell(Class::Warning, "losing lines", &self.name, Some(&errno.into()));
            self.lost_said = true;
        }
    }

    /// Completes `current`. What could not be written is lost, which is said.
    pub(crate) fn close(&mut self) {
        if self.unwritten() > 0 {
            let what = format!("{} bytes not written", self.unwritten());
            tell(Class::Warning, &what, &self.name, None);
        }
        self.complete();
        if self.rules.verbose {
            tell(Class::Info, "close", &self.name, None);
        }
    }

    /// Marks `current` as complete, and closes it.
    fn complete(&mut self) {
        if let Some(current) = self.current.take() {
            // Whether it is safely on the disk is nothing that could still be told.
            let _ = fsync(&current);
            let _ = fchmod(&current, COMPLETE);
        }
    }
}
