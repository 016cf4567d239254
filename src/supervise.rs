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
    futimens, mkdirat, openat, readlinkat, statat,
};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Context, Error, Result};
use crate::status::{self, Status};
use crate::tai::Tai64N;
use crate::{files, sys, trust};

/// How messages call the directory of a service, and that of a log service.
pub const MAIN: &str = "supervise";
/// See [`MAIN`].
pub const LOG: &str = "log/supervise";
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
        let dir = open_dir(parent, name).while_doing(|| format!("unable to open {label}/lock"))?;
        let lock = open_lock(dir.as_fd(), label)?;
        take_lock(&lock, label)?;
        let control = open_control(dir.as_fd(), label)?;
        // Made now, so that what is wrong with it is known before anything runs.
        sys::fifo::make(dir.as_fd(), c"ok").while_doing(|| format!("unable to read {label}/ok"))?;
        // Where that does not work, a removed FIFO is noticed when something else happens.
        let _ = sys::watch::signal_removals(dir.as_fd());
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

    /// The directory; the removal of an entry is signalled with the number of this descriptor.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
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
    pub fn make_whole(&mut self) -> Result<()> {
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
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(_) => &[],
        }
    }

    /// Says that commands are about to be read.
    pub fn begin_to_take(&mut self) {
        let (seconds, nanos) = sys::clock::wall_unix();
        let now = (seconds, nanos / 1000 * 1000 + SIGNATURE);
        // Another one each time, whatever the clock does.
        self.mark = if now > self.mark { now } else { (self.mark.0, self.mark.1.saturating_add(1000)) };
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
    pub fn publish(&mut self, status: &Status) -> std::result::Result<(), Trouble> {
        self.publish_pid(status.pid)?;
        let text = status.text();
        let mut stat = Ok(());
        if self.published.stat.as_ref() != Some(&text) || self.published.status != Some(status.encode()) {
            // Its time tells others since when, so it is written again although the text may be the same.
            stat = self.write(c"stat.new", c"stat", &text);
            self.published.stat = stat.is_ok().then_some(text);
        }
        let bytes = status.encode();
        if self.published.status != Some(bytes) {
            self.published.status = None;
            self.write(c"status.new", c"status", &bytes)?;
            self.published.status = Some(bytes);
        }
        stat
    }

    fn publish_pid(&mut self, pid: Option<Pid>) -> std::result::Result<(), Trouble> {
        if self.published.pid == Some(pid) {
            return Ok(());
        }
        self.published.pid = None;
        // As in stock runit, the log service has no such file before its first start.
        let is_missing = || self.label == LOG && self.has_no_pid();
        if pid.is_some() || !(self.empty_pid() || is_missing()) {
            let text = pid.map(|pid| format!("{}\n", pid.as_raw_nonzero())).unwrap_or_default();
            self.write(c"pid.new", c"pid", text.as_bytes())?;
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

    /// Lets clients know that the service flaps until then, by the wall clock. Nothing depends on it.
    pub fn flaps(&self, until: &Tai64N) {
        let _ = self.write(c"flaps.new", FLAPS, &until.to_bytes());
    }

    /// Writes a file in one piece: as `new` first, which then gets its name.
    fn write(&self, new: &CStr, name: &CStr, bytes: &[u8]) -> std::result::Result<(), Trouble> {
        let path = || format!("{}/{}", self.label, new.to_string_lossy());
        let failed = |what: &'static str| {
            move |error| (format!("unable to {what} {}", path()).into_bytes(), Some(error))
        };
        let (file, length) = self.open_new(new).map_err(failed("open"))?;
        if !bytes.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, bytes, 0)) {
                Ok(written) if written == bytes.len() => {}
                Ok(_) => {
                    return Err((format!("unable to write {}: partial write.", path()).into_bytes(), None));
                }
                Err(errno) => return Err(failed("write")(errno.into())),
            }
        }
        if length > bytes.len() as u64 {
            rustix::fs::ftruncate(&file, bytes.len() as u64)
                .map_err(|errno| failed("write")(errno.into()))?;
        }
        sys::replace::replace(self.dir.as_fd(), new, name).map_err(|error| {
            let (new, name) = (new.to_string_lossy(), name.to_string_lossy());
            let doing = format!("unable to rename {new} to {}/{name}", self.label);
            (doing.into_bytes(), Some(error))
        })
    }

    /// Opens the file of this name that an exchange of names left, if it is ours, or makes it; with its length.
    fn open_new(&self, name: &CStr) -> io::Result<(OwnedFd, u64)> {
        let uid = rustix::process::geteuid().as_raw();
        match trust::open_regular(self.dir.as_fd(), name, OFlags::WRONLY, Mode::empty()) {
            Ok((file, stat)) if stat.st_uid == uid => Ok((file, u64::try_from(stat.st_size).unwrap_or(0))),
            Ok(_) | Err(_) => Ok((trust::create_new(self.dir.as_fd(), name, PUBLIC)?, 0)),
        }
    }
}

/// Opens the directory so that it can be watched, or, where it must not be read, at least used.
fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(parent, name, OFlags::RDONLY | flags, Mode::empty()) {
        Err(Errno::ACCESS) => openat(parent, name, sys::SEARCH | flags, Mode::empty()),
        opened => opened,
    }
}

fn open_lock(dir: BorrowedFd<'_>, label: &str) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(dir, c"lock", flags, PRIVATE).while_doing(|| format!("unable to open {label}/lock"))
}

fn take_lock(lock: &OwnedFd, label: &str) -> Result<()> {
    flock(lock, FlockOperation::NonBlockingLockExclusive)
        .while_doing(|| format!("unable to lock {label}/lock"))
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

/// Whether all commands that were read when `ok` had these times were taken; `None` if the marks are not ours.
///
/// Both in seconds and nanoseconds.
#[must_use]
pub fn is_idle(access: (i64, i64), modification: (i64, i64)) -> Option<bool> {
    let is_ours = |time: (i64, i64)| time.1 % 1000 == i64::from(SIGNATURE);
    (is_ours(access) && is_ours(modification)).then_some(access == modification)
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

    #[test]
    fn marks_are_told_from_other_times() {
        assert_eq!(is_idle((5, 123_777), (5, 123_777)), Some(true));
        assert_eq!(is_idle((6, 123_777), (5, 123_777)), Some(false));
        assert_eq!(is_idle((5, 123_000), (5, 123_000)), None);
        assert_eq!(is_idle((6, 123_000), (5, 123_777)), None);
    }
}
