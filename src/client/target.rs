//! A service as `sv` sees it: its directory, and the files and FIFOs of `supervise` in it.

use std::cell::OnceCell;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::reason;
use crate::facts::{self, Facts};
use crate::role::Role;
use crate::say::Message;
use crate::state::{Home, StateDirectory};
use crate::status::{LEN, Status};
use crate::tai::Tai64N;
use crate::template::Instance;
use crate::{files, say, serving, state, supervise, trust};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

/// Why there is no status, or why a request was not sent.
#[derive(Debug)]
pub enum Trouble {
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
    pub fn line(&self, name: &[u8]) -> Vec<u8> {
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

/// What the files of a supervisor tell of a service or of its log service.
#[derive(Debug)]
pub struct View {
    /// The `supervise` directory, or the place that stands in for it.
    pub place: OwnedFd,
    /// The FIFO `ok`, open for writing: poll(2) reports an error on it once the supervisor has left.
    pub ok: OwnedFd,
    /// The 20 bytes.
    pub status: Status,
    facts: OnceCell<Facts>,
}

impl View {
    /// What the file `state` tells; without that file it is empty. Read when this is first asked, so after the status:
    /// facts are published before it, and these are no older.
    pub fn facts(&self) -> &Facts {
        self.facts.get_or_init(|| {
            Some(read_facts_in(self.place.as_fd())).filter(Facts::is_current).unwrap_or_default()
        })
    }

    /// What the supervisor tells: the status, and the facts.
    #[must_use]
    pub fn into_told(self) -> (Status, Facts) {
        self.facts();
        (self.status, self.facts.into_inner().unwrap_or_default())
    }

    /// Until when it counts as flapping, if its supervisor ever published that.
    #[must_use]
    pub fn flaps_until(&self) -> Option<Tai64N> {
        let (file, _) =
            trust::open_regular(self.place.as_fd(), supervise::FLAPS, OFlags::RDONLY, Mode::empty()).ok()?;
        let mut bytes = [0; 12];
        let length = rustix::io::read(&file, &mut bytes).ok()?;
        Tai64N::from_slice(bytes.get(..length)?).ok()
    }
}

/// The directory that services with plain names are in. It is looked for when the first of them is.
#[derive(Debug, Default)]
pub struct Base(OnceCell<Opened>);

/// That directory, once it was looked for.
#[derive(Debug)]
struct Opened {
    path: OsString,
    dir: Result<OwnedFd, Errno>,
}

/// A service named on the command line.
#[derive(Debug)]
pub struct Target {
    /// As typed, with what is not printable escaped: for people.
    pub name: Vec<u8>,
    /// As typed.
    pub typed: Vec<u8>,
    /// Where it is.
    pub path: Vec<u8>,
    dir: Result<OwnedFd, Errno>,
    instance: Option<Instance>,
}

/// Names in a service directory.
#[derive(Debug)]
pub struct Part {
    /// Something that can be opened only where one can go into the directory.
    inside: &'static CStr,
    role: Role,
    pub(super) ok: &'static CStr,
    /// The file that keeps it down.
    pub down: &'static CStr,
}

impl Part {
    /// Whether it is the log service.
    #[must_use]
    pub fn is_log(&self) -> bool {
        self.role == Role::Log
    }
}

/// Those of the service.
pub const MAIN: Part = Part { inside: c".", role: Role::Main, ok: c"supervise/ok", down: c"down" };
/// Those of its log service.
pub const LOG: Part = Part { inside: c"log/.", role: Role::Log, ok: c"log/supervise/ok", down: c"log/down" };

impl Base {
    /// The directory at `path`.
    #[must_use]
    pub fn at(path: OsString) -> Self {
        let dir = open_directory(CWD, path.as_bytes());
        Base(OnceCell::from(Opened { path, dir }))
    }

    fn opened(&self) -> &Opened {
        self.0.get_or_init(|| {
            let path = serving::directory_to_control();
            let dir = open_directory(CWD, path.as_bytes());
            Opened { path, dir }
        })
    }

    /// Its path.
    pub fn path(&self) -> &OsString {
        &self.opened().path
    }
}

impl Target {
    /// The service that `name` means. Source: sv(8).
    pub fn new(name: &OsStr, base: &Base) -> Self {
        let name = name.as_bytes();
        let (path, dir) = if is_path(name) {
            (name.to_vec(), open_directory(CWD, name))
        } else {
            let path = [base.path().as_bytes(), b"/", name].concat();
            let dir = match &base.opened().dir {
                Ok(base) => open_directory(base.as_fd(), name),
                Err(errno) => Err(*errno),
            };
            (path, dir)
        };
        Target::opened(name, path, dir)
    }

    /// The service at `path`, whatever it is called.
    pub(super) fn at(name: &[u8], path: Vec<u8>) -> Self {
        let dir = open_directory(CWD, &path);
        Target::opened(name, path, dir)
    }

    fn opened(name: &[u8], path: Vec<u8>, dir: Result<OwnedFd, Errno>) -> Self {
        let instance = Instance::of(Path::new(OsStr::from_bytes(&path)));
        Target { name: say::printable(name).into_owned(), typed: name.to_vec(), path, dir, instance }
    }

    /// The path of the service that `name` means.
    pub(super) fn path_of(name: &OsStr, base: &Base) -> Vec<u8> {
        let name = name.as_bytes();
        if is_path(name) { name.to_vec() } else { [base.path().as_bytes(), b"/", name].concat() }
    }

    /// Whether it was named by a path, so that SVDIR means nothing.
    pub const fn is_by_path(&self) -> bool {
        is_path(self.name.as_slice())
    }

    /// Which instance of a template it is, if it is one.
    pub(super) const fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }

    /// Closes the directory. Until [`resume`](Target::resume) nothing can be asked.
    pub fn suspend(&mut self) {
        self.dir = Err(Errno::BADF);
    }

    /// Opens the directory again.
    pub fn resume(&mut self) {
        self.dir = open_directory(CWD, &self.path);
    }

    /// The status of the service, or with [`LOG`] of its log service, if a runsv serves it.
    ///
    /// Without one the file may say anything; so that is looked at first.
    pub fn status(&self, part: &Part) -> Result<Status, Trouble> {
        let (place, _) = self.find(part, "open supervise/ok", open_ok)?;
        read_status_in(place.dir.as_fd())
    }

    /// The same, with access to all else that its supervisor tells.
    ///
    /// # Errors
    ///
    /// As for [`Target::status`].
    pub fn view(&self, part: &Part) -> Result<View, Trouble> {
        let (place, ok) = self.find(part, "open supervise/ok", open_ok)?;
        let status = read_status_in(place.dir.as_fd())?;
        Ok(View { place: place.dir, ok, status, facts: OnceCell::new() })
    }

    /// What the file `state` tells, whoever wrote it and whenever.
    #[must_use]
    pub fn last_facts(&self, part: &Part) -> Facts {
        self.open_own(part).map_or_else(|_| Facts::default(), |own| read_facts_in(own.as_fd()))
    }

    /// The status in the file, whoever wrote it and whenever.
    pub fn read_status(&self, part: &Part) -> Result<Status, Trouble> {
        match self.status(part) {
            Err(Trouble::NoDirectory(error)) => Err(Trouble::NoDirectory(error)),
            Err(_) => {
                let own = self.open_own(part).map_err(|it| Trouble::Unable("open supervise/status", it))?;
                read_status_in(own.as_fd())
            }
            status => status,
        }
    }

    /// Finds where a supervisor serves, and opens something there; see [`crate::state`]. `what` is attempted.
    pub fn find<T>(
        &self,
        part: &Part,
        what: &'static str,
        open: impl Fn(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Result<(StateDirectory, T), Trouble> {
        let dir = self.dir()?;
        self.with_home(part, |home| state::find(home, open)).map_err(|error| blame(dir, part, what, error))
    }

    /// The `supervise` of the service directory.
    fn open_own(&self, part: &Part) -> io::Result<OwnedFd> {
        self.with_home(part, |home| home.supervise())
    }

    pub(crate) fn with_home<T>(
        &self,
        part: &Part,
        then: impl FnOnce(&Home<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let dir = self.dir.as_ref().map_err(|errno| io::Error::from(*errno))?.as_fd();
        let log_dir = if part.role == Role::Log { Some(open_directory(dir, b"log")?) } else { None };
        let dir = log_dir.as_ref().map_or(dir, AsFd::as_fd);
        let path = Path::new(OsStr::from_bytes(&self.path));
        then(&Home { dir, path, instance: self.instance(), role: part.role, who: b"" })
    }
}

/// Opens the FIFO by which a supervisor lets itself be known.
pub(super) fn open_ok(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
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

fn read_facts_in(place: BorrowedFd<'_>) -> Facts {
    trust::open_regular(place, supervise::STATE, OFlags::RDONLY, Mode::empty())
        .and_then(|(file, _)| trust::read_at_most(&file, facts::LEN_MAX))
        .map_or_else(|_| Facts::default(), |text| Facts::decode(&text))
}

impl Target {
    /// Whether there is a file `down`.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub fn has_down(&self, part: &Part) -> io::Result<bool> {
        self.look(part.down).map(|stat| stat.is_some())
    }

    /// What a file of the service directory is.
    ///
    /// # Errors
    ///
    /// That of stat(2), but for ENOENT.
    pub fn look(&self, name: &CStr) -> io::Result<Option<Stat>> {
        files::look(self.dir.as_ref().map_err(|errno| io::Error::from(*errno))?.as_fd(), name)
    }

    /// The service directory.
    ///
    /// # Errors
    ///
    /// That it cannot be gone into.
    pub fn dir(&self) -> Result<BorrowedFd<'_>, Trouble> {
        self.dir.as_ref().map(AsFd::as_fd).map_err(|errno| Trouble::NoDirectory((*errno).into()))
    }

    /// Opens `supervise` so that it can be watched.
    pub fn open_supervise(&self) -> Option<OwnedFd> {
        let found = self.find(&MAIN, "", open_ok).map(|(place, _)| place.dir);
        let place = found.or_else(|_| self.open_own(&MAIN)).ok()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&place, c".", flags, Mode::empty()).ok()
    }
}

/// Whether a name is a path from where we are, not a service in the usual directory. Source: sv(8).
const fn is_path(name: &[u8]) -> bool {
    matches!(name, [b'/' | b'.', ..] | [.., b'/'])
}

fn open_directory(at: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    openat(at, path, crate::sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Why something could not be opened: perhaps because one cannot go into the directory that it should be in.
pub(super) fn blame(dir: BorrowedFd<'_>, part: &Part, what: &'static str, error: io::Error) -> Trouble {
    if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
        return Trouble::NotRunning;
    }
    match open_directory(dir, part.inside.to_bytes()) {
        Err(errno) => Trouble::NoDirectory(errno.into()),
        Ok(_) => Trouble::Unable(what, error),
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
