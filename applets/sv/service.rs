//! A service as `sv` sees it: its directory, and the files and FIFOs of `supervise` in it.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use svcore::error::reason;
use svcore::event::{self, Wait};
use svcore::moment::Moment;
use svcore::role::Role;
use svcore::say::Message;
use svcore::state::{Home, Place};
use svcore::status::{LEN, Status};
use svcore::supervise::{OkTimes, Progress};
use svcore::tai::Tai64N;
use svcore::{files, say, state, supervise, trust};

use super::action;

/// How long after the last command was read a supervisor that does not say so has acted upon it.
const SETTLED: Duration = Duration::from_millis(50);
/// How long one may take that seems to have begun and never to end.
const STUCK: Duration = Duration::from_secs(1);
/// How often is asked where nothing tells.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How often a supervisor is asked whose answer is also an event.
const ASK_MARKED: Duration = Duration::from_millis(250);

/// Why there is no status, or why a command was not sent.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No runsv serves it.
    NotRunning,
    /// It cannot be gone into.
    NoDirectory(io::Error),
    /// Something else; what was attempted.
    Unable(&'static str, io::Error),
    /// The status has not the length of one.
    BadFormat,
}

impl Trouble {
    /// The line about service `name`, without its newline.
    pub(crate) fn line(&self, name: &[u8]) -> Vec<u8> {
        match self {
            Trouble::NotRunning => [b"fail: ", name, b": runsv not running"].concat(),
            Trouble::NoDirectory(error) => {
                let why = reason(error).as_bytes();
                [b"fail: ", name, b": unable to change to service directory: ", why].concat()
            }
            Trouble::Unable(what, error) => {
                let what = [name, b": unable to ", what.as_bytes()].concat();
                Message::warning("", &what).because(error).text()
            }
            Trouble::BadFormat => {
                Message::warning("", &[name, b": unable to read supervise/status: bad format"].concat())
                    .text()
            }
        }
    }
}

/// The directory that services with plain names are in.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) path: OsString,
    dir: Result<OwnedFd, Errno>,
}

/// A service named on the command line.
#[derive(Debug)]
pub(crate) struct Service {
    /// As typed, with what is not printable escaped: for people.
    pub(crate) name: Vec<u8>,
    /// Where it is.
    pub(crate) path: Vec<u8>,
    dir: Result<OwnedFd, Errno>,
}

/// Names in a service directory.
#[derive(Debug)]
pub(crate) struct Part {
    /// Something that can be opened only where one can go into the directory.
    inside: &'static CStr,
    role: Role,
    ok: &'static CStr,
    /// The file that keeps it down.
    pub(crate) down: &'static CStr,
}

/// Those of the service.
pub(crate) const MAIN: Part = Part { inside: c".", role: Role::Main, ok: c"supervise/ok", down: c"down" };
/// Those of its log service.
pub(crate) const LOG: Part =
    Part { inside: c"log/.", role: Role::Log, ok: c"log/supervise/ok", down: c"log/down" };

/// A command that was written, or that is to be as soon as the FIFO takes it.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The FIFO, while it is held open.
    control: Option<OwnedFd>,
    /// Where the state is, if not in the service directory.
    elsewhere: Option<OwnedFd>,
    /// The FIFO was not full.
    pub(crate) written: bool,
    /// The marks on `ok` before.
    before: Option<OkTimes>,
    /// When it was found to have been read.
    read_at: Option<Moment>,
    /// It was found to have been acted upon.
    taken: bool,
}

impl Base {
    /// The directory that services with plain names are in.
    pub(crate) fn new(path: OsString) -> Self {
        let dir = open_directory(CWD, path.as_bytes());
        Base { path, dir }
    }
}

impl Service {
    /// The service that `name` means. Source: sv(8).
    pub(crate) fn new(name: &OsStr, base: &Base) -> Self {
        let name = name.as_bytes();
        let (path, dir) = if is_path(name) {
            (name.to_vec(), open_directory(CWD, name))
        } else {
            let path = [base.path.as_bytes(), b"/", name].concat();
            let dir = match &base.dir {
                Ok(base) => open_directory(base.as_fd(), name),
                Err(errno) => Err(*errno),
            };
            (path, dir)
        };
        Service { name: say::printable(name).into_owned(), path, dir }
    }

    /// Whether it was named by a path, so that SVDIR means nothing.
    pub(crate) const fn is_by_path(&self) -> bool {
        is_path(self.name.as_slice())
    }

    /// Closes the directory, for a while: until [`wake`](Service::wake) nothing can be asked.
    pub(crate) fn rest(&mut self) {
        self.dir = Err(Errno::BADF);
    }

    /// Opens the directory again.
    pub(crate) fn wake(&mut self) {
        self.dir = open_directory(CWD, &self.path);
    }

    /// The status of the service, or with [`LOG`] of its log service, if a runsv serves it.
    ///
    /// Without one the file may say anything; so that is looked at first.
    pub(crate) fn status(&self, part: &Part) -> Result<Status, Trouble> {
        let (place, _) = self.find(part, "open supervise/ok", open_ok)?;
        read_status_in(place.dir.as_fd())
    }

    /// The status in the file, whoever wrote it and whenever.
    pub(crate) fn read_status(&self, part: &Part) -> Result<Status, Trouble> {
        match self.status(part) {
            Err(Trouble::NoDirectory(error)) => Err(Trouble::NoDirectory(error)),
            Err(_) => {
                let own = self.open_own(part).map_err(|it| Trouble::Unable("open supervise/status", it))?;
                read_status_in(own.as_fd())
            }
            status => status,
        }
    }

    /// Until when the service flaps, if that was ever said.
    pub(crate) fn flaps_until(&self, part: &Part) -> Option<Tai64N> {
        let (place, _) = self.find(part, "", open_ok).ok()?;
        let (file, _) =
            trust::open_regular(place.dir.as_fd(), supervise::FLAPS, OFlags::RDONLY, Mode::empty()).ok()?;
        let mut bytes = [0; 12];
        let length = rustix::io::read(&file, &mut bytes).ok()?;
        Tai64N::from_slice(bytes.get(..length)?).ok()
    }

    /// Finds where a supervisor serves, and opens something there; see [`svcore::state`]. `what` is attempted.
    fn find<T>(
        &self,
        part: &Part,
        what: &'static str,
        open: impl Fn(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Result<(Place, T), Trouble> {
        let dir = self.dir()?;
        self.with_home(part, |home| state::find(home, open)).map_err(|error| blame(dir, part, what, error))
    }

    /// The `supervise` of the service directory.
    fn open_own(&self, part: &Part) -> io::Result<OwnedFd> {
        self.with_home(part, |home| home.supervise())
    }

    fn with_home<T>(&self, part: &Part, then: impl FnOnce(&Home<'_>) -> io::Result<T>) -> io::Result<T> {
        let dir = self.dir.as_ref().map_err(|errno| io::Error::from(*errno))?.as_fd();
        let log_dir = if part.role == Role::Log { Some(open_directory(dir, b"log")?) } else { None };
        let dir = log_dir.as_ref().map_or(dir, AsFd::as_fd);
        let path = Path::new(OsStr::from_bytes(&self.path));
        then(&Home { dir, path, role: part.role, who: b"" })
    }
}

fn open_ok(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(trust::open_fifo(place, c"ok", OFlags::WRONLY)?.0)
}

fn read_status_in(place: BorrowedFd<'_>) -> Result<Status, Trouble> {
    let mut bytes = [0; LEN];
    let (file, _) = trust::open_regular(place, c"status", OFlags::RDONLY, Mode::empty())
        .map_err(|error| Trouble::Unable("open supervise/status", error))?;
    let length = rustix::io::read(&file, &mut bytes)
        .map_err(|errno| Trouble::Unable("read supervise/status", errno.into()))?;
    if length < LEN {
        return Err(Trouble::BadFormat);
    }
    Status::decode(&bytes).map_err(|_| Trouble::BadFormat)
}

impl Service {
    /// Whether there is a file `down`.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub(crate) fn has_down(&self, part: &Part) -> io::Result<bool> {
        self.look(part.down).map(|stat| stat.is_some())
    }

    /// What a file of the service directory is.
    ///
    /// # Errors
    ///
    /// That of stat(2), but for ENOENT.
    pub(crate) fn look(&self, name: &CStr) -> io::Result<Option<Stat>> {
        files::look(self.dir.as_ref().map_err(|errno| io::Error::from(*errno))?.as_fd(), name)
    }

    /// The service directory.
    ///
    /// # Errors
    ///
    /// That it cannot be gone into.
    pub(crate) fn dir(&self) -> Result<BorrowedFd<'_>, Trouble> {
        self.dir.as_ref().map(AsFd::as_fd).map_err(|errno| Trouble::NoDirectory((*errno).into()))
    }

    /// Writes `bytes` to `control`, in one piece. A FIFO that is full takes them later: see [`Sent::written`].
    ///
    /// Nothing is written where `control` cannot be opened, and need not be. Source: sv(8) of runit 2.1.2.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<Sent, Trouble> {
        let mut sent = Sent {
            control: None,
            elsewhere: None,
            written: false,
            before: None,
            read_at: None,
            taken: false,
        };
        match self.open_control(&mut sent) {
            Err(trouble @ Trouble::Unable("open supervise/control", _)) => {
                let is_wanted = |status| action::is_wanted_already(bytes, &status);
                if !self.status(&MAIN).is_ok_and(is_wanted) {
                    return Err(trouble);
                }
                (sent.written, sent.taken) = (true, true);
                return Ok(sent);
            }
            opened => opened?,
        }
        sent.before = self.marks(&sent);
        self.write(&mut sent, bytes)?;
        Ok(sent)
    }

    /// Tries once to write; see [`Sent::written`].
    pub(crate) fn write(&self, sent: &mut Sent, bytes: &[u8]) -> Result<(), Trouble> {
        if sent.control.is_none() {
            self.open_control(sent)?;
        }
        let Some(control) = &sent.control else { return Ok(()) };
        match rustix::io::write(control, bytes) {
            Ok(written) if written == bytes.len() => sent.written = true,
            // So few bytes are written as a whole or not at all.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Trouble::Unable("write to supervise/control", errno.into())),
        }
        Ok(())
    }

    /// Opens `control` where a supervisor serves.
    fn open_control(&self, sent: &mut Sent) -> Result<(), Trouble> {
        let (place, _) = self.find(&MAIN, "open supervise/ok", open_ok)?;
        let control = trust::open_fifo(place.dir.as_fd(), c"control", OFlags::WRONLY);
        let (control, _) = control.map_err(|error| {
            self.dir()
                .map_or_else(|trouble| trouble, |dir| blame(dir, &MAIN, "open supervise/control", error))
        })?;
        sent.control = Some(control);
        sent.elsewhere = (!place.own).then_some(place.dir);
        Ok(())
    }

    /// Whether the supervisor has acted upon what was sent, so that the status is one from after it.
    pub(crate) fn has_taken(&self, sent: &mut Sent, now: Moment) -> bool {
        if sent.taken {
            return true;
        }
        if !sent.written || (sent.control.is_none() && self.open_control(sent).is_err()) {
            return false;
        }
        let Some(control) = &sent.control else { return false };
        if rustix::io::ioctl_fionread(control).is_ok_and(|unread| unread > 0) {
            return false;
        }
        let read_at = *sent.read_at.get_or_insert(now);
        // In this order: what was read, and after that found idle, was taken. Stock's runsv leaves no mark; it acts
        // within much less than this after it has read.
        let marks = self.marks(sent);
        sent.taken = match marks.map_or(Progress::Unknown, |marks| supervise::progress(sent.before, marks)) {
            Progress::Done => true,
            Progress::NotYet => false,
            Progress::Unknown => now >= read_at.saturating_add(SETTLED),
            Progress::Stuck => now >= read_at.saturating_add(STUCK),
        };
        sent.taken
    }

    /// Opens `supervise` so that it can be watched.
    pub(crate) fn open_supervise(&self) -> Option<OwnedFd> {
        let found = self.find(&MAIN, "", open_ok).map(|(place, _)| place.dir);
        let place = found.or_else(|_| self.open_own(&MAIN)).ok()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&place, c".", flags, Mode::empty()).ok()
    }

    /// The marks on `ok`; see [`svcore::supervise`].
    #[allow(
        clippy::useless_conversion,
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "widths differ"
    )]
    fn marks(&self, sent: &Sent) -> Option<OkTimes> {
        let stat = match &sent.elsewhere {
            Some(place) => statat(place, c"ok", AtFlags::SYMLINK_NOFOLLOW),
            None => statat(self.dir().ok()?, MAIN.ok, AtFlags::SYMLINK_NOFOLLOW),
        }
        .ok()?;
        Some(OkTimes {
            access: (i64::from(stat.st_atime), stat.st_atime_nsec as i64),
            modification: (i64::from(stat.st_mtime), stat.st_mtime_nsec as i64),
        })
    }
}

/// Whether a name is a path from where we are, not a service in the usual directory. Source: sv(8).
const fn is_path(name: &[u8]) -> bool {
    matches!(name, [b'/' | b'.', ..] | [.., b'/'])
}

fn open_directory(at: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    openat(at, path, svcore::sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Why something could not be opened: perhaps because one cannot go into the directory that it should be in.
fn blame(dir: BorrowedFd<'_>, part: &Part, what: &'static str, error: io::Error) -> Trouble {
    if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
        return Trouble::NotRunning;
    }
    match open_directory(dir, part.inside.to_bytes()) {
        Err(errno) => Trouble::NoDirectory(errno.into()),
        Ok(_) => Trouble::Unable(what, error),
    }
}

impl Sent {
    /// When to ask again, if nothing happens before. A supervisor that sets marks changes the directory when it has
    /// acted; where that is `watched`, asking again is only a precaution. `pause`: the shortest time between two questions.
    pub(crate) fn ask_again(&self, now: Moment, watched: bool, pause: Duration) -> Option<Moment> {
        if self.taken || !self.written {
            return None;
        }
        if watched && self.before.is_some_and(|before| before.are_ours()) {
            return Some(now.saturating_add(ASK_MARKED.max(pause)));
        }
        let settled = self.read_at.map(|read_at| read_at.saturating_add(SETTLED)).filter(|at| *at > now);
        Some(settled.unwrap_or_else(|| now.saturating_add(ASK_EVERY.max(pause))))
    }

    /// The FIFO, if it is held open.
    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// Whether a supervisor has it open. One that has just begun lets itself be known by `ok` a little later.
    pub(crate) fn has_reader(&self) -> bool {
        let Some(control) = self.control() else { return false };
        let mut fds = [PollFd::from_borrowed_fd(control, PollFlags::empty())];
        event::wait(&mut fds, Wait::Poll);
        fds.iter().all(|fd| fd.revents().is_empty())
    }

    /// Closes what can be opened again.
    pub(crate) fn rest(&mut self) {
        (self.control, self.elsewhere) = (None, None);
    }

    /// The highest number of a descriptor that is held open.
    pub(crate) fn highest(&self) -> i32 {
        [&self.control, &self.elsewhere].into_iter().flatten().map(|fd| fd.as_raw_fd()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_only_if_they_look_so() {
        for (name, expected) in [
            ("web", false),
            ("web/log", false),
            ("", false),
            ("./web", true),
            ("/x", true),
            ("x/web/", true),
            (".", true),
        ] {
            assert_eq!(is_path(name.as_bytes()), expected, "{name}");
        }
    }
}
