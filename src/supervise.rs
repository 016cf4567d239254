//! A `supervise` directory from the side of the supervisor: lock, FIFOs, and the three files of the status.
//!
//! | name      | mode | what                                                                      |
//! |-----------|------|---------------------------------------------------------------------------|
//! | `lock`    | 0600 | held with flock(2) while the supervisor lives                             |
//! | `control` | 0600 | FIFO of commands, a byte each; see [`control`](crate::control)            |
//! | `ok`      | 0600 | FIFO that has a reader while the supervisor lives; made known last        |
//! | `pid`     | 0644 | the process id and a newline, or nothing                                  |
//! | `stat`    | 0644 | a line of text; its modification time is when the state changed           |
//! | `status`  | 0644 | 20 bytes; see [`status`](crate::status)                                   |
//! | `flaps`   | 0644 | a TAI64N stamp, in a service that ended too often: until then it flaps     |
//! | `owner`   | 0644 | whose it is, where the directory is elsewhere; see [`state`](crate::state) |
//!
//! What exists keeps its mode and owner, for others set them. Nothing is removed at the end.
//!
//! The times of `ok` are ours alone. Before commands are read its access time is set to a moment that no mark had
//! before, and when all that came was taken and what followed at once is published, its modification time to the same.
//! So who finds its command read, and after that both times equal, knows that the status is no longer one from before it,
//! whatever others send meanwhile. That the marks are ours is told by the last three digits of their nanoseconds.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, flock, fstat,
    futimens, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Context, Failed, Result};
use crate::state::{self, Home, Owner, Root, UNWRITABLE};
use crate::status::{self, Status};
use crate::tai::Tai64N;
use crate::trust::{self, Refusal};
use crate::{files, slice, sys};

/// How messages call the directory of a service, and that of a log service.
pub const MAIN: &str = "supervise";
/// See [`MAIN`].
pub const LOG: &str = "log/supervise";
/// Mode of new files that others read.
const PUBLIC: Mode = Mode::from_raw_mode(0o644);
/// The last three digits of the nanoseconds of a mark.
const SIGNATURE: u32 = 777;
/// A time that is not set.
const LEFT_ALONE: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
/// Mode of a new directory.
const OURS: Mode = Mode::from_raw_mode(0o700);
/// Why there is no room in a place.
const NO_SPACE: [Errno; 4] = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::NOENT];
/// The file that tells until when the service flaps: a TAI64N stamp.
pub const FLAPS: &CStr = c"flaps";
/// Mode of new files that are ours.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// Why the `supervise` of the service directory is not used.
enum NotHere {
    /// The state can be elsewhere.
    Elsewhere(Failed),
    /// It must not be anywhere else.
    Nowhere(Failed),
}

/// An open and locked `supervise` directory.
#[derive(Debug)]
pub struct Supervise {
    /// How messages call it: `supervise` or `log/supervise`.
    label: &'static str,
    dir: OwnedFd,
    /// Where it is, if not in the service directory.
    elsewhere: Option<CString>,
    control: OwnedFd,
    ok: Option<OwnedFd>,
    lock: OwnedFd,
    /// The last mark on `ok`, in seconds and nanoseconds.
    mark: (i64, u32),
    published: Published,
}

/// What each file of the status says; `None` where that is not known.
#[derive(Debug, Default)]
struct Published {
    pid: Option<Option<Pid>>,
    stat: Option<Vec<u8>>,
    status: Option<[u8; status::LEN]>,
    /// The files that an exchange of names left, to be written next time; a bit for each [`File`].
    spares: u8,
}

/// A file that is replaced in one piece.
#[derive(Debug, Clone, Copy)]
enum File {
    Pid,
    Stat,
    Status,
    Flaps,
}

impl File {
    const fn name(self) -> &'static CStr {
        match self {
            File::Pid => c"pid",
            File::Stat => c"stat",
            File::Status => c"status",
            File::Flaps => FLAPS,
        }
    }

    /// Its name while it is written.
    const fn new_name(self) -> &'static CStr {
        match self {
            File::Pid => c"pid.new",
            File::Stat => c"stat.new",
            File::Status => c"status.new",
            File::Flaps => c"flaps.new",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Supervise {
    /// Finds the place for the state of a service, makes what is missing, takes the lock and opens `control`.
    ///
    /// Which place that is says [`state`].
    ///
    /// # Errors
    ///
    /// What failed, in the words of runsv(8).
    pub fn open(label: &'static str, home: &Home<'_>) -> Result<Self, Failed> {
        if let Some(given) = state::given() {
            // Somebody without the variable may serve it.
            if home.own_is_held() {
                return Err(Errno::AGAIN).while_doing(|| format!("unable to lock {label}/lock"));
            }
            if let Some(supervise) = Self::open_elsewhere(label, home, &given)? {
                return Ok(supervise);
            }
        }
        let failed = match Self::open_own(label, home) {
            Err(NotHere::Elsewhere(failed)) => failed,
            Err(NotHere::Nowhere(failed)) => return Err(failed),
            Ok(supervise) => return Ok(supervise),
        };
        for root in state::usual(&[rustix::process::geteuid().as_raw()]) {
            if let Some(supervise) = Self::open_elsewhere(label, home, &root)? {
                return Ok(supervise);
            }
        }
        let advice = "no place for state is left, set RUNITBOX_STATE to a directory of yours";
        Err(Failed::without_cause(format!("{failed}; {advice}")))
    }

    /// Opens `supervise` in the service directory.
    fn open_own(label: &'static str, home: &Home<'_>) -> Result<Self, NotHere> {
        if home.link_is_too_long() {
            let what = format!("unable to readlink ./{label}: name too long");
            return Err(NotHere::Nowhere(Failed::without_cause(what)));
        }
        let own = home.make_own().map_err(|error| {
            let refused = trust::refusal(&error).is_some();
            if refused {
                home.tell_own(label, &error);
            }
            let failed = failed_to_open(label, error);
            if refused || failed.is_any_of(&UNWRITABLE) {
                NotHere::Elsewhere(failed)
            } else {
                NotHere::Nowhere(failed)
            }
        })?;
        let is_of_others = home.is_of_others(&own);
        match Self::open_at(own.dir, label) {
            Err(failed) if failed.is_any_of(&UNWRITABLE) => Err(NotHere::Elsewhere(failed)),
            // Two containers with one link in their image, and the place that it leads to is shared.
            Err(failed) if failed.is_any_of(&[Errno::AGAIN]) && is_of_others => {
                Err(NotHere::Elsewhere(failed))
            }
            Ok(supervise) if own.linked => {
                // Another container may have the same link, and others may look there for a service of this name.
                if let Ok(owner) = home.owner() {
                    let _ = owner.write(supervise.dir.as_fd(), home.path);
                }
                Ok(supervise)
            }
            opened => opened.map_err(NotHere::Nowhere),
        }
    }

    /// Opens the first place below `root` that nobody else has; `None` if there is none.
    fn open_elsewhere(label: &'static str, home: &Home<'_>, root: &Root) -> Result<Option<Self>, Failed> {
        let (Some(name), Ok(mine)) = (home.name(), home.owner()) else { return Ok(None) };
        let dir = match root.open(&trust::ours(), true) {
            Ok(dir) => dir,
            Err(error) if is_for_now(&error) => return Err(failed_to_open(label, error)),
            Err(error) => {
                if trust::refusal(&error).is_some() || matches!(root, Root::Given(_)) {
                    home.tell(root, &root.path(), &error, false);
                }
                return Ok(None);
            }
        };
        for candidate in (0..).map_while(|number| state::numbered(&name, number)) {
            let path = || root.path().join(OsStr::from_bytes(candidate.to_bytes()));
            if let Err(errno) = mkdirat(&dir, &candidate, OURS)
                && errno != Errno::EXIST
            {
                return Ok(None);
            }
            let opened = trust::search_directory(dir.as_fd(), &candidate)
                .and_then(|(place, stat)| Ok(trust::check_owner(&stat).map(|()| place)?));
            let place = match opened {
                Ok(place) => place,
                Err(error) if is_for_now(&error) => return Err(failed_to_open(label, error)),
                Err(error) => {
                    home.tell(root, &path(), &error, true);
                    continue;
                }
            };
            let is_ours = || {
                let place = trust::search_directory(dir.as_fd(), &candidate);
                let owner = place.ok().and_then(|(place, _)| Owner::read(place.as_fd()));
                owner.is_some_and(|owner| owner.is(&mine))
            };
            let conflict = || {
                let what = format!("unable to lock {label}/lock in {}", path().display());
                Err(Errno::AGAIN).while_doing(|| what)
            };
            let supervise = match Self::open_at(place, label) {
                Ok(supervise) => supervise,
                Err(failed) if failed.is_any_of(&[Errno::AGAIN]) => {
                    if is_ours() {
                        return conflict();
                    }
                    continue;
                }
                // It is root's, and we are not.
                Err(failed) if failed.is_any_of(&UNWRITABLE) => continue,
                Err(failed) if failed.is_any_of(&NO_SPACE) => return Ok(None),
                Err(failed) => return Err(failed),
            };
            match mine.write(supervise.dir.as_fd(), home.path) {
                Ok(()) => {}
                Err(error) if is_for_now(&error) => return Err(failed_to_open(label, error)),
                Err(_) => return Ok(None),
            }
            if home.is_held_elsewhere(&name, &mine, supervise.dir.as_fd()) {
                return conflict();
            }
            let elsewhere = CString::new(path().into_os_string().as_bytes()).ok();
            return Ok(Some(Supervise { elsewhere, ..supervise }));
        }
        Ok(None)
    }

    /// Takes the lock in the directory and opens `control`.
    fn open_at(dir: OwnedFd, label: &'static str) -> Result<Self, Failed> {
        let lock = open_lock(dir.as_fd(), label)?;
        take_lock(&lock, label)?;
        let control = open_control(dir.as_fd(), label)?;
        // Made now, so that what is wrong with it is known before anything runs.
        make_ok(dir.as_fd(), label)?;
        // To be watched it has to be opened for reading.
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&dir, c".", readable, Mode::empty()).unwrap_or(dir);
        Ok(Supervise {
            label,
            dir,
            elsewhere: None,
            control,
            ok: None,
            lock,
            mark: (0, 0),
            published: Published::default(),
        })
    }

    /// Lets clients know that the supervisor serves: all they look for is in place.
    ///
    /// # Errors
    ///
    /// That `ok` cannot be opened.
    pub fn announce(&mut self) -> Result<(), Failed> {
        let ok = open_ok(self.dir.as_fd()).while_doing(|| format!("unable to read {}/ok", self.label))?;
        // Nothing is ever written to it: the least room that it can have will do.
        sys::fifo::shrink(ok.as_fd());
        self.ok = Some(ok);
        self.begin_to_take();
        self.acknowledge();
        Ok(())
    }

    /// The directory; the removal of an entry is signalled with the number of this descriptor.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether the directory, the lock or a FIFO was removed: a quick look.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        let is_removed = |file: BorrowedFd<'_>| fstat(file).is_ok_and(|stat| stat.st_nlink == 0);
        [&self.dir, &self.lock, &self.control]
            .into_iter()
            .chain(&self.ok)
            .any(|file| is_removed(file.as_fd()))
    }

    /// Whether lock and FIFOs are still those in the directory.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_there = |file: BorrowedFd<'_>, name: &CStr| {
            let ours = fstat(file).map(|stat| files::identity(&stat)).ok();
            let there = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
            ours.is_some() && ours == there.map(|stat| files::identity(&stat)).ok()
        };
        is_there(self.lock.as_fd(), c"lock")
            && is_there(self.control.as_fd(), c"control")
            && self.ok.as_ref().is_some_and(|ok| is_there(ok.as_fd(), c"ok"))
    }

    /// Makes lock and FIFOs that were removed again. [`Supervise::announce`] is to follow.
    ///
    /// # Errors
    ///
    /// What failed, in the words of runsv(8).
    pub fn make_whole(&mut self) -> Result<(), Failed> {
        let lock = open_lock(self.dir.as_fd(), self.label)?;
        // One that is still there is locked by ourselves.
        if let (Ok(ours), Ok(there)) = (fstat(&self.lock), fstat(&lock))
            && files::identity(&ours) != files::identity(&there)
        {
            take_lock(&lock, self.label)?;
            self.lock = lock;
        }
        self.control = open_control(self.dir.as_fd(), self.label)?;
        sys::fifo::make(self.dir.as_fd(), c"ok")
            .while_doing(|| format!("unable to read {}/ok", self.label))?;
        self.published = Published::default();
        Ok(())
    }

    /// The FIFO that commands come from.
    #[must_use]
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The commands that came, as many as fit.
    pub fn take<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        match rustix::io::read(&self.control, &mut *buffer) {
            Ok(length) => slice::part(buffer, ..length),
            Err(_) => &[],
        }
    }

    /// Says that commands are about to be read.
    pub fn begin_to_take(&mut self) {
        self.mark = next_mark(self.mark, sys::clock::wall_unix());
        self.set_times(self.mark_time(), LEFT_ALONE);
    }

    /// Says that every command that was read was taken and its effect published.
    pub fn acknowledge(&self) {
        self.set_times(LEFT_ALONE, self.mark_time());
    }

    fn mark_time(&self) -> Timespec {
        Timespec { tv_sec: self.mark.0, tv_nsec: self.mark.1.into() }
    }

    fn set_times(&self, last_access: Timespec, last_modification: Timespec) {
        let Some(ok) = &self.ok else { return };
        // Where the FIFO is somebody else's we may not; clients then fall back to waiting a little.
        let _ = futimens(ok, &Timestamps { last_access, last_modification });
    }

    /// Writes `pid`, `stat` and `status`, in this order and each in one piece, where they do not say so already.
    ///
    /// # Errors
    ///
    /// The first step that failed. What was not written is written at the next call.
    pub fn publish(&mut self, status: &Status) -> Result<(), Failed> {
        self.publish_pid(status.pid)?;
        let text = status.text();
        let mut stat = Ok(());
        if self.published.stat.as_ref() != Some(&text) || self.published.status != Some(status.encode()) {
            // Its time tells others since when, so it is written again although the text may be the same.
            stat = self.write(File::Stat, &text);
            self.published.stat = stat.is_ok().then_some(text);
        }
        let bytes = status.encode();
        if self.published.status != Some(bytes) {
            self.published.status = None;
            self.write(File::Status, &bytes)?;
            self.published.status = Some(bytes);
        }
        stat
    }

    fn publish_pid(&mut self, pid: Option<Pid>) -> Result<(), Failed> {
        if self.published.pid == Some(pid) {
            return Ok(());
        }
        self.published.pid = None;
        // As in stock runit, the log service has no such file before its first start.
        let is_missing = || self.label == LOG && self.has_no_pid();
        if pid.is_some() || !(self.empty_pid() || is_missing()) {
            let text = pid.map(|pid| format!("{}\n", pid.as_raw_nonzero())).unwrap_or_default();
            self.write(File::Pid, text.as_bytes())?;
        }
        self.published.pid = Some(pid);
        Ok(())
    }

    fn has_no_pid(&self) -> bool {
        matches!(statat(&self.dir, c"pid", AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    /// Lets `pid` say nothing, in one step; whether that worked.
    fn empty_pid(&self) -> bool {
        trust::open_regular(self.dir.as_fd(), c"pid", OFlags::WRONLY, Mode::empty())
            .is_ok_and(|(file, _)| rustix::fs::ftruncate(&file, 0).is_ok())
    }

    /// Whether `supervise` in `parent` is still this directory.
    #[must_use]
    pub fn is_in_place(&self, parent: BorrowedFd<'_>) -> bool {
        let ours = fstat(&self.dir).map(|stat| files::identity(&stat)).ok();
        let there = match &self.elsewhere {
            None => statat(parent, c"supervise", AtFlags::empty()),
            Some(place) => statat(CWD, place, AtFlags::empty()),
        };
        let there = there.map(|stat| files::identity(&stat)).ok();
        ours.is_some() && ours == there
    }

    /// Removes what nobody else knows of: who removes a service directory file by file must not find more than what
    /// runsv(8) lists.
    pub fn tidy(&mut self) {
        for which in [File::Pid, File::Stat, File::Status, File::Flaps] {
            if self.published.spares & which.bit() != 0 {
                let _ = unlinkat(&self.dir, which.new_name(), AtFlags::empty());
            }
        }
        self.published.spares = 0;
        // Both are of use only while somebody serves.
        for name in [FLAPS, state::OWNER] {
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
        }
    }

    /// Lets clients know that the service flaps until then, by the wall clock. Nothing depends on it.
    pub fn flaps(&mut self, until: &Tai64N) {
        let _ = self.write(File::Flaps, &until.to_bytes());
    }

    /// Writes a file in one piece: under another name first.
    fn write(&mut self, which: File, bytes: &[u8]) -> Result<(), Failed> {
        let path = || format!("{}/{}", self.label, which.new_name().to_string_lossy());
        let failed = |what: &'static str| {
            move |error: io::Error| Failed::because(error, format!("unable to {what} {}", path()))
        };
        let (file, length) = match self.open_new(which) {
            // On a full disk no file can be made, but the one that is there has room for so few bytes.
            Err(error) if is_full(&error) => {
                return self.overwrite(which, bytes).map_err(|_| failed("open")(error));
            }
            opened => opened.map_err(failed("open"))?,
        };
        if !bytes.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, bytes, 0)) {
                Ok(written) if written == bytes.len() => {}
                Ok(_) => {
                    return Err(Failed::without_cause(format!("unable to write {}: partial write.", path())));
                }
                Err(Errno::NOSPC | Errno::DQUOT) if self.overwrite(which, bytes).is_ok() => return Ok(()),
                Err(errno) => return Err(failed("write")(errno.into())),
            }
        }
        if length > bytes.len() as u64 {
            rustix::fs::ftruncate(&file, bytes.len() as u64)
                .map_err(|errno| failed("write")(errno.into()))?;
        }
        let replaced = sys::replace::replace(self.dir.as_fd(), which.new_name(), which.name());
        let is_spare = replaced.while_doing(|| {
            let (new, name) = (which.new_name().to_string_lossy(), which.name().to_string_lossy());
            format!("unable to rename {new} to {}/{name}", self.label)
        })?;
        self.published.spares = self.published.spares & !which.bit() | if is_spare { which.bit() } else { 0 };
        Ok(())
    }

    /// Writes into the file itself.
    fn overwrite(&self, which: File, bytes: &[u8]) -> io::Result<()> {
        let (file, _) = trust::open_regular(self.dir.as_fd(), which.name(), OFlags::WRONLY, Mode::empty())?;
        if rustix::io::pwrite(&file, bytes, 0)? != bytes.len() {
            return Err(Errno::NOSPC.into());
        }
        Ok(rustix::fs::ftruncate(&file, bytes.len() as u64)?)
    }

    /// Opens the file that is to be written: the one that an exchange of names left, if it is ours, or a new one. With
    /// its length.
    fn open_new(&self, which: File) -> io::Result<(OwnedFd, u64)> {
        let name = which.new_name();
        if self.published.spares & which.bit() != 0
            && let Ok((file, stat)) =
                trust::open_regular(self.dir.as_fd(), name, OFlags::WRONLY, Mode::empty())
            && stat.st_uid == rustix::process::geteuid().as_raw()
        {
            return Ok((file, u64::try_from(stat.st_size).unwrap_or(0)));
        }
        Ok((trust::create_new(self.dir.as_fd(), name, PUBLIC)?, 0))
    }
}

/// Whether there is no room for a new file.
fn is_full(error: &io::Error) -> bool {
    [Errno::NOSPC, Errno::DQUOT].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Makes the FIFO `ok`, where it is missing.
fn make_ok(dir: BorrowedFd<'_>, label: &str) -> Result<(), Failed> {
    sys::fifo::make(dir, c"ok")
        .and_then(|()| check_ok(dir))
        .while_doing(|| format!("unable to read {label}/ok"))
}

fn open_lock(dir: BorrowedFd<'_>, label: &str) -> Result<OwnedFd, Failed> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    trust::open_regular(dir, c"lock", flags, PRIVATE)
        .map(|(lock, _)| lock)
        .map_err(|error| failed_to_open(label, error))
}

fn take_lock(lock: &OwnedFd, label: &str) -> Result<(), Failed> {
    flock(lock, FlockOperation::NonBlockingLockExclusive)
        .while_doing(|| format!("unable to lock {label}/lock"))
}

/// The mark after `last` at the time `now`: a later one, whatever the clock does. Seconds and nanoseconds.
fn next_mark(last: (i64, u32), now: (i64, u32)) -> (i64, u32) {
    const SECOND: u32 = 1_000_000_000;
    let mark = (now.0, now.1 / 1000 * 1000 + SIGNATURE);
    if mark > last {
        return mark;
    }
    let nanos = last.1.saturating_add(1000);
    if nanos < SECOND { (last.0, nanos) } else { (last.0.saturating_add(1), SIGNATURE) }
}

/// The times of `ok`, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// When it was last accessed.
    pub access: (i64, i64),
    /// When it was last modified.
    pub modification: (i64, i64),
}

/// What the marks tell of a command that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// Not yet.
    NotYet,
    /// Nothing: whoever read it leaves no marks. Those that are there may be from another before.
    Unknown,
    /// It is being taken since before it was sent; or whoever began to take left, and the next leaves no marks.
    Stuck,
}

impl Marks {
    /// Whether a supervisor of ours set both times: a later change of them can be waited for.
    #[must_use]
    pub fn are_ours(&self) -> bool {
        let is_ours = |time: (i64, i64)| time.1 % 1000 == i64::from(SIGNATURE);
        is_ours(self.access) && is_ours(self.modification)
    }
}

/// Whether a command that has been read was taken, by the marks from before it was sent, if there were any, and now.
#[must_use]
pub fn taken(before: Option<Marks>, now: Marks) -> Taken {
    if !now.are_ours() {
        return Taken::Unknown;
    }
    // A supervisor that leaves marks has left one since, or had left it and not acknowledged yet.
    match (now.access == now.modification, before == Some(now)) {
        (true, false) => Taken::Yes,
        (true, true) => Taken::Unknown,
        (false, false) => Taken::NotYet,
        (false, true) => Taken::Stuck,
    }
}

fn failed_to_open(label: &str, cause: io::Error) -> Failed {
    Failed::because(cause, format!("unable to open {label}/lock"))
}

fn open_control(dir: BorrowedFd<'_>, label: &str) -> Result<OwnedFd, Failed> {
    let failed = || format!("unable to open {label}/control");
    sys::fifo::make(dir, c"control").while_doing(failed)?;
    // For writing too: with a writer of our own, reading never meets the end of the file.
    match trust::open_fifo(dir, c"control", OFlags::RDWR) {
        Ok((control, _)) => Ok(control),
        Err(error) => {
            let is_none = trust::refusal(&error) == Some(Refusal::NotFifo)
                || [Errno::ISDIR, Errno::NXIO]
                    .iter()
                    .any(|it| error.raw_os_error() == Some(it.raw_os_error()));
            if is_none {
                return Err(Failed::without_cause(format!("{label}/control exists but is not a fifo")));
            }
            Err(error).while_doing(failed)
        }
    }
}

/// Whether `ok` is a FIFO; it is opened last, for that says that we serve.
fn check_ok(dir: BorrowedFd<'_>) -> io::Result<()> {
    let stat = statat(dir, c"ok", AtFlags::SYMLINK_NOFOLLOW)?;
    let is_fifo = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    if is_fifo { Ok(()) } else { Err(Refusal::NotFifo.into()) }
}

/// Whether an error says that something is lacking for the moment, not that a place is wrong.
fn is_for_now(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .iter()
        .any(|it| error.raw_os_error() == Some(it.raw_os_error()))
}

fn open_ok(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(trust::open_fifo(dir, c"ok", OFlags::RDONLY)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(access: (i64, i64), modification: (i64, i64)) -> Marks {
        Marks { access, modification }
    }

    #[test]
    fn marks_are_told_from_other_times() {
        let old = Some(marks((4, 777), (4, 777)));
        assert_eq!(taken(old, marks((5, 123_777), (5, 123_777))), Taken::Yes);
        assert_eq!(taken(old, marks((6, 123_777), (5, 123_777))), Taken::NotYet);
        assert_eq!(taken(old, marks((5, 123_000), (5, 123_000))), Taken::Unknown);
        assert_eq!(taken(old, marks((6, 123_000), (5, 123_777))), Taken::Unknown);
        assert_eq!(taken(None, marks((5, 123_777), (5, 123_777))), Taken::Yes);
    }

    #[test]
    fn marks_that_do_not_change_are_not_those_of_whoever_reads() {
        let idle = marks((4, 777), (4, 777));
        assert_eq!(taken(Some(idle), idle), Taken::Unknown);
        let busy = marks((5, 777), (4, 777));
        assert_eq!(taken(Some(busy), busy), Taken::Stuck);
        assert_eq!(taken(Some(busy), marks((5, 777), (5, 777))), Taken::Yes);
    }

    #[test]
    fn each_mark_is_later_than_the_last_whatever_the_clock_does() {
        let mut mark = (1000, SIGNATURE);
        // The clock was set back; a second has room for a million of marks.
        for _ in 0..1_000_010 {
            let next = next_mark(mark, (5, 0));
            assert!(next > mark && next.1 < 1_000_000_000 && next.1 % 1000 == SIGNATURE, "{next:?}");
            mark = next;
        }
        assert_eq!(next_mark(mark, (2000, 123_456)), (2000, 123_777));
        assert_eq!(next_mark((i64::MAX, 999_999_777), (0, 0)), (i64::MAX, SIGNATURE));
    }
}
