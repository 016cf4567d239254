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
//!
//! What exists keeps its mode and owner, for others set them. Nothing is removed at the end.
//!
//! The times of `ok` are ours alone. Before commands are read its access time is set to a moment that no mark had
//! before, and when all that came was taken and what followed at once is published, its modification time to the same.
//! So who finds its command read, and after that both times equal, knows that the status is no longer one from before it,
//! whatever others send meanwhile. That the marks are ours is told by the last three digits of their nanoseconds.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, flock, fstat,
    futimens, mkdirat, openat, readlinkat, renameat, statat,
};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Context, Error, Result};
use crate::status::{self, Status};
use crate::tai::Tai64N;
use crate::{files, sys};

/// The longest target of a link called `supervise`, in bytes.
const LINK_MAX: usize = 255;
/// Mode of new files that others read.
const PUBLIC: Mode = Mode::from_raw_mode(0o644);
/// The last three digits of the nanoseconds of a mark.
const SIGNATURE: u32 = 777;
/// A time that is not set.
const LEFT_ALONE: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
/// Mode of a new directory.
const OURS: Mode = Mode::from_raw_mode(0o700);
/// Why a directory cannot be written.
const UNWRITABLE: [Errno; 3] = [Errno::ROFS, Errno::ACCESS, Errno::PERM];
/// The file that tells until when the service flaps: a TAI64N stamp.
pub const FLAPS: &CStr = c"flaps";
/// Mode of new files that are ours.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// What went wrong while the status was written: the attempt, and the system's reason.
pub type Trouble = (Vec<u8>, Option<io::Error>);

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
    /// Held, not used.
    _lock: OwnedFd,
    /// The last mark on `ok`, in seconds and nanoseconds.
    mark: (i64, u32),
    published: Option<([u8; status::LEN], Vec<u8>)>,
    published_pid: Option<Option<Pid>>,
}

impl Supervise {
    /// Makes `supervise` in `parent` where it is missing, takes the lock and opens `control`.
    ///
    /// Where that cannot be written, the first that can of the `places` is it; see [`state`](crate::state).
    ///
    /// # Errors
    ///
    /// What failed, in the words of runsv(8).
    pub fn open(
        parent: BorrowedFd<'_>,
        label: &'static str,
        places: impl FnOnce() -> Vec<CString>,
    ) -> Result<Self> {
        let own = make_directory(parent, label).and_then(|()| Self::open_at(parent, c"supervise", label));
        match own {
            Err(error) if error.is_any_of(&UNWRITABLE) => {
                for place in places() {
                    if !matches!(mkdirat(CWD, &place, OURS), Ok(()) | Err(Errno::EXIST)) {
                        continue;
                    }
                    match Self::open_at(CWD, &place, label) {
                        Ok(supervise) => return Ok(Supervise { elsewhere: Some(place), ..supervise }),
                        Err(error) if error.is_any_of(&UNWRITABLE) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(error)
            }
            own => own,
        }
    }

    fn open_at(parent: BorrowedFd<'_>, name: &CStr, label: &'static str) -> Result<Self> {
        let no_lock = || format!("unable to open {label}/lock");
        let dir = openat(parent, name, sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .while_doing(no_lock)?;
        let lock = openat(
            &dir,
            c"lock",
            OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC,
            PRIVATE,
        )
        .while_doing(no_lock)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .while_doing(|| format!("unable to lock {label}/lock"))?;
        let control = open_control(dir.as_fd(), label)?;
        // Made now, so that what is wrong with it is known before anything runs.
        sys::fifo::make(dir.as_fd(), c"ok").while_doing(|| format!("unable to read {label}/ok"))?;
        let known_pid = (label != "supervise").then_some(None);
        Ok(Supervise {
            label,
            dir,
            elsewhere: None,
            control,
            ok: None,
            _lock: lock,
            mark: (0, 0),
            published: None,
            published_pid: known_pid,
        })
    }

    /// Lets clients know that the supervisor serves: all they look for is in place.
    ///
    /// # Errors
    ///
    /// That `ok` cannot be opened.
    pub fn announce(&mut self) -> Result<()> {
        let ok = files::open_read(self.dir.as_fd(), c"ok")
            .while_doing(|| format!("unable to read {}/ok", self.label))?;
        // Nothing is ever written to it: the least room that it can have will do.
        sys::fifo::shrink(ok.as_fd());
        self.ok = Some(ok);
        self.begin_to_take();
        self.acknowledge();
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
            Ok(length) => buffer.get(..length).unwrap_or_default(),
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

    /// Writes `pid`, `stat` and `status`, in this order and each in one piece, if anything in them changed.
    ///
    /// # Errors
    ///
    /// The first step that failed; the ones after it are not done.
    pub fn publish(&mut self, status: &Status) -> std::result::Result<(), Trouble> {
        let now = (status.encode(), status.text());
        if self.published.as_ref() == Some(&now) {
            return Ok(());
        }
        if self.published_pid != Some(status.pid) {
            let emptied = status.pid.is_none() && self.published_pid.is_some() && self.empty_pid();
            if !emptied {
                let text = status.pid.map(|pid| format!("{}\n", pid.as_raw_nonzero()));
                self.write_new(c"pid.new", text.unwrap_or_default().as_bytes())?;
                self.rename(c"pid.new", c"pid", "pid.new")?;
            }
            self.published_pid = Some(status.pid);
        }
        self.write_new(c"stat.new", &now.1)?;
        let stat_renamed = self.rename(c"stat.new", c"stat", "stat.new");
        self.write_new(c"status.new", &now.0)?;
        self.rename(c"status.new", c"status", "status.new")?;
        self.published = Some(now);
        stat_renamed
    }

    /// Lets `pid` say nothing, in one step; whether that worked.
    fn empty_pid(&self) -> bool {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(&self.dir, c"pid", flags, Mode::empty()).is_ok()
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

    /// Lets clients know that the service flaps until then, by the wall clock. Nothing depends on it.
    pub fn flaps(&self, until: &Tai64N) {
        if self.write_new(c"flaps.new", &until.to_bytes()).is_ok() {
            let _ = self.rename(c"flaps.new", FLAPS, "flaps.new");
        }
    }

    fn write_new(&self, name: &CStr, bytes: &[u8]) -> std::result::Result<(), Trouble> {
        let path = || format!("{}/{}", self.label, name.to_string_lossy());
        let file = openat(
            &self.dir,
            name,
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC,
            PUBLIC,
        )
        .map_err(|errno| (format!("unable to open {}", path()).into_bytes(), Some(errno.into())))?;
        if bytes.is_empty() {
            return Ok(());
        }
        match rustix::io::write(&file, bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err((format!("unable to write {}: partial write.", path()).into_bytes(), None)),
            Err(errno) => Err((format!("unable to write {}", path()).into_bytes(), Some(errno.into()))),
        }
    }

    fn rename(&self, from: &CStr, to: &CStr, what: &str) -> std::result::Result<(), Trouble> {
        renameat(&self.dir, from, &self.dir, to).map_err(|errno| {
            let doing = format!("unable to rename {what} to {}/{}", self.label, to.to_string_lossy());
            (doing.into_bytes(), Some(errno.into()))
        })
    }
}

/// Makes the directory, or the one that a link of its name points to. What exists is left as it is.
fn make_directory(parent: BorrowedFd<'_>, label: &str) -> Result<()> {
    let Err(failed) = mkdirat(parent, c"supervise", OURS) else { return Ok(()) };
    match readlinkat(parent, c"supervise", Vec::new()) {
        Ok(target) if target.to_bytes().len() > LINK_MAX => {
            Err(Error::fatal(format!("unable to readlink ./{label}: name too long")))
        }
        Ok(target) => {
            // It may exist, and where it cannot be made the opening of `lock` says so.
            match mkdirat(parent, &target, OURS) {
                Err(errno) if UNWRITABLE.contains(&errno) => {
                    Err(errno).while_doing(|| format!("unable to open {label}/lock"))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        }
        // No link: a directory, or something whose opening fails with a better reason than ours.
        Err(Errno::INVAL) => Ok(()),
        Err(Errno::NOENT) if UNWRITABLE.contains(&failed) => {
            Err(failed).while_doing(|| format!("unable to open {label}/lock"))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).while_doing(|| format!("unable to readlink ./{label}")),
    }
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

/// Whether a command that has been read was taken, by the marks from before it was sent, if there were any, and now.
#[must_use]
pub fn taken(before: Option<Marks>, now: Marks) -> Taken {
    let is_ours = |time: (i64, i64)| time.1 % 1000 == i64::from(SIGNATURE);
    if !is_ours(now.access) || !is_ours(now.modification) {
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

fn open_control(dir: BorrowedFd<'_>, label: &str) -> Result<OwnedFd> {
    let failed = || format!("unable to open {label}/control");
    let no_fifo = || Error::fatal(format!("{label}/control exists but is not a fifo"));
    sys::fifo::make(dir, c"control").while_doing(failed)?;
    // For writing too: with a writer of our own, reading never meets the end of the file.
    let control =
        match openat(dir, c"control", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::ISDIR | Errno::NXIO) => return Err(no_fifo()),
            opened => opened.while_doing(failed)?,
        };
    let stat = fstat(&control).while_doing(|| format!("unable to stat {label}/control"))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo { Ok(control) } else { Err(no_fifo()) }
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
