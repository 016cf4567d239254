//! A `supervise` directory from the side of the supervisor: lock, FIFOs, and the three files of the status.
//!
//! | name      | mode | what                                                                       |
//! |-----------|------|----------------------------------------------------------------------------|
//! | `lock`    | 0600 | held with flock(2) while the supervisor lives                              |
//! | `control` | 0600 | FIFO of commands, a byte each; see [`control`](crate::control)             |
//! | `ok`      | 0600 | FIFO that has a reader while the supervisor lives; opened last             |
//! | `pid`     | 0644 | the process id and a newline, or nothing                                   |
//! | `stat`    | 0644 | a line of text; its modification time is when the state changed            |
//! | `status`  | 0644 | 20 bytes; see [`status`](crate::status)                                    |
//! | `state`   | 0644 | lines of text, only where there is something to say; see [`facts`](crate::facts) |
//! | `flaps`   | 0644 | only for a service that exits too often: until when it is flapping, TAI64N |
//! | `owner`   | 0644 | only outside of a service directory: whose state it is; see [`state`]      |
//!
//! Files that exist keep their mode and owner, which others may have set. Nothing that runsv(8) lists is removed.
//!
//! The timestamps of `ok` are a progress marker; see [`marks`].

mod marks;
mod place;
mod status_files;

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context, Failed, Result};
use crate::role::Role;
use crate::state::{self, Home};
use crate::trust::{self, Refusal};
use crate::{files, slice, sys};

use marks::Mark;
pub use marks::{OkTimes, Progress, progress};
use status_files::StatusFiles;
pub use status_files::{FLAPS, STATE};

/// Mode of new files that only we open.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// An open and locked `supervise` directory.
#[derive(Debug)]
pub struct Supervise {
    role: Role,
    dir: OwnedFd,
    /// Where it is, from the service directory on.
    own_path: CString,
    /// Where it is, if not in the service directory.
    elsewhere: Option<CString>,
    control: OwnedFd,
    ok: Option<OwnedFd>,
    lock: OwnedFd,
    mark: Mark,
    status_files: StatusFiles,
}

impl Supervise {
    /// Locks the directory and opens `control`.
    fn open_at(dir: OwnedFd, home: &Home<'_>) -> Result<Self, Failed> {
        let role = home.role;
        let lock = open_lock(dir.as_fd(), role)?;
        take_lock(&lock, role)?;
        let control = open_control(dir.as_fd(), role)?;
        // Made now, so that what is wrong with it is known before anything runs.
        make_ok(dir.as_fd(), role)?;
        // To be watched it has to be opened for reading.
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&dir, c".", readable, Mode::empty()).unwrap_or(dir);
        let supervise = Supervise {
            role,
            dir,
            own_path: home.own_path(),
            elsewhere: None,
            control,
            ok: None,
            lock,
            mark: Mark::default(),
            status_files: StatusFiles::default(),
        };
        supervise.remove_facts();
        Ok(supervise)
    }

    /// Lets clients know that the supervisor serves: everything that they look for is in place.
    ///
    /// # Errors
    ///
    /// That `ok` cannot be opened.
    pub fn announce(&mut self) -> Result<(), Failed> {
        let ok = open_ok(self.dir.as_fd())
            .while_doing(|| format!("unable to read {}/ok", self.role.supervise()))?;
        // Nothing is ever written to it, so the smallest buffer will do.
        sys::fifo::shrink(ok.as_fd());
        self.ok = Some(ok);
        self.mark_reading();
        self.mark_done();
        Ok(())
    }

    /// The directory; the removal of an entry is signalled with the number of this descriptor.
    #[must_use]
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether the directory, the lock or a FIFO was removed: a quick look.
    #[must_use]
    pub(crate) fn has_lost_a_file(&self) -> bool {
        let is_removed = |file: BorrowedFd<'_>| fstat(file).is_ok_and(|stat| stat.st_nlink == 0);
        [&self.dir, &self.lock, &self.control]
            .into_iter()
            .chain(&self.ok)
            .any(|file| is_removed(file.as_fd()))
    }

    /// Whether lock and FIFOs are still those in the directory.
    #[must_use]
    pub(crate) fn is_whole(&self) -> bool {
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
    pub(crate) fn make_whole(&mut self) -> Result<(), Failed> {
        let lock = open_lock(self.dir.as_fd(), self.role)?;
        // The old file, if it is still in place, is already locked by us.
        if let (Ok(ours), Ok(there)) = (fstat(&self.lock), fstat(&lock))
            && files::identity(&ours) != files::identity(&there)
        {
            take_lock(&lock, self.role)?;
            self.lock = lock;
        }
        self.control = open_control(self.dir.as_fd(), self.role)?;
        sys::fifo::make(self.dir.as_fd(), c"ok")
            .while_doing(|| format!("unable to read {}/ok", self.role.supervise()))?;
        self.status_files = StatusFiles::default();
        Ok(())
    }

    /// The FIFO that commands come from.
    #[must_use]
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Reads commands, as many as fit into `buffer`. Returns those that came.
    pub(crate) fn read_control<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        match rustix::io::read(&self.control, &mut *buffer) {
            Ok(length) => slice::part(buffer, ..length),
            Err(_) => &[],
        }
    }

    /// Whether `supervise` in `parent` is still this directory.
    #[must_use]
    pub(crate) fn is_in_place(&self, parent: BorrowedFd<'_>) -> bool {
        let ours = fstat(&self.dir).map(|stat| files::identity(&stat)).ok();
        let there = match &self.elsewhere {
            None => statat(parent, &self.own_path, AtFlags::empty()),
            Some(place) => statat(CWD, place, AtFlags::empty()),
        };
        let there = there.map(|stat| files::identity(&stat)).ok();
        ours.is_some() && ours == there
    }

    /// Removes the files that runsv(8) does not list, so that whoever removes a service directory file by file finds
    /// only those that it lists.
    pub(crate) fn tidy(&mut self) {
        self.remove_spares();
        // They are of use only while somebody serves.
        for name in [FLAPS, STATE, state::OWNER] {
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}

/// Makes the FIFO `ok`, where it is missing.
fn make_ok(dir: BorrowedFd<'_>, role: Role) -> Result<(), Failed> {
    sys::fifo::make(dir, c"ok")
        .and_then(|()| check_ok(dir))
        .while_doing(|| format!("unable to read {}/ok", role.supervise()))
}

/// Whether `ok` is a FIFO. It is not opened yet: clients take an open `ok` as a sign that the supervisor serves.
fn check_ok(dir: BorrowedFd<'_>) -> io::Result<()> {
    let stat = statat(dir, c"ok", AtFlags::SYMLINK_NOFOLLOW)?;
    let is_fifo = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    if is_fifo { Ok(()) } else { Err(Refusal::NotFifo.into()) }
}

fn open_ok(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(trust::open_fifo(dir, c"ok", OFlags::RDONLY)?.0)
}

fn open_lock(dir: BorrowedFd<'_>, role: Role) -> Result<OwnedFd, Failed> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    trust::open_regular(dir, c"lock", flags, PRIVATE)
        .map(|(lock, _)| lock)
        .map_err(|error| failed_to_open(role, error))
}

fn failed_to_open(role: Role, cause: io::Error) -> Failed {
    Failed::because(cause, format!("unable to open {}/lock", role.supervise()))
}

fn take_lock(lock: &OwnedFd, role: Role) -> Result<(), Failed> {
    flock(lock, FlockOperation::NonBlockingLockExclusive)
        .while_doing(|| format!("unable to lock {}/lock", role.supervise()))
}

fn open_control(dir: BorrowedFd<'_>, role: Role) -> Result<OwnedFd, Failed> {
    let failed = || format!("unable to open {}/control", role.supervise());
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
                let what = format!("{}/control exists but is not a fifo", role.supervise());
                return Err(Failed::without_cause(what));
            }
            Err(error).while_doing(failed)
        }
    }
}
