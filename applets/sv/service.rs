//! A service as `sv` sees it: files and FIFOs of its `supervise` directory, by path.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use svcore::error::reason;
use svcore::files;
use svcore::status::{LEN, Status};

/// How long after the last command was read a supervisor that does not say so has acted upon it.
pub(crate) const SETTLED: Duration = Duration::from_millis(50);

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
                [b"warning: ", name, b": unable to ", what.as_bytes(), b": ", reason(error).as_bytes()].concat()
            }
            Trouble::BadFormat => [b"warning: ", name, b": unable to read supervise/status: bad format"].concat(),
        }
    }
}

/// A service named on the command line.
#[derive(Debug)]
pub(crate) struct Service {
    /// As typed.
    pub(crate) name: Vec<u8>,
    /// Where it is, ending in a slash; empty for a name that leads nowhere.
    pub(crate) path: Vec<u8>,
}

/// A command that was written.
#[derive(Debug)]
pub(crate) struct Sent {
    control: OwnedFd,
    /// The mark on `ok` before it.
    mark: Option<Mark>,
    /// When it was found to have been read.
    read_at: Option<Duration>,
    /// It was found to have been acted upon.
    taken: bool,
}

/// The modification time of `ok`; see [`svcore::supervise`].
type Mark = (i64, i64);

impl Service {
    /// The service that `name` means. Source: sv(8).
    pub(crate) fn new(name: &OsStr, svdir: &OsStr) -> Self {
        let name = name.as_bytes();
        let typed = matches!(name, [b'/' | b'.', ..] | [.., b'/']);
        let path = if typed {
            [name, b"/"].concat()
        } else if name.is_empty() || svdir.is_empty() {
            Vec::new()
        } else {
            [svdir.as_bytes(), b"/", name, b"/"].concat()
        };
        Service { name: name.to_vec(), path }
    }

    /// Something in the service directory.
    pub(crate) fn file(&self, rest: &str) -> CString {
        if self.path.is_empty() {
            return CString::default();
        }
        CString::new([&self.path, rest.as_bytes()].concat()).unwrap_or_default()
    }

    /// Whether one can go into `rest` of the service directory.
    pub(crate) fn enter(&self, rest: &str) -> io::Result<OwnedFd> {
        let path = self.file(&format!("{rest}."));
        Ok(openat(CWD, &path, svcore::sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The status of the service, or with `log/` of its log service, if a runsv serves it.
    ///
    /// Without one the file may say anything; so that is looked at first.
    pub(crate) fn status(&self, part: &str) -> Result<Status, Trouble> {
        if let Err(errno) = self.open_for_writing(&format!("{part}supervise/ok")) {
            return Err(self.blame(part, "open supervise/ok", errno));
        }
        self.read_status(part)
    }

    /// The status in the file, whoever wrote it and whenever.
    pub(crate) fn read_status(&self, part: &str) -> Result<Status, Trouble> {
        let path = self.file(&format!("{part}supervise/status"));
        let file = openat(CWD, &path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Trouble::Unable("open supervise/status", errno.into()))?;
        let mut bytes = [0; LEN];
        let length = rustix::io::read(&file, &mut bytes)
            .map_err(|errno| Trouble::Unable("read supervise/status", errno.into()))?;
        if length < LEN {
            return Err(Trouble::BadFormat);
        }
        Status::decode(&bytes).map_err(|_| Trouble::BadFormat)
    }

    /// Whether there is a file `down`.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub(crate) fn has_down(&self, part: &str) -> io::Result<bool> {
        files::look(CWD, &self.file(&format!("{part}down"))).map(|stat| stat.is_some())
    }

    /// Writes `bytes` to `control`, in one piece.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<Sent, Trouble> {
        let control = self
            .open_for_writing("supervise/control")
            .map_err(|errno| self.blame("", "open supervise/control", errno))?;
        let mark = self.mark();
        match rustix::io::write(&control, bytes) {
            Ok(written) if written == bytes.len() => Ok(Sent { control, mark, read_at: None, taken: false }),
            Ok(_) => Err(Trouble::Unable("write to supervise/control", Errno::AGAIN.into())),
            Err(errno) => Err(Trouble::Unable("write to supervise/control", errno.into())),
        }
    }

    /// Whether the supervisor has acted upon what was sent, so that the status is one from after it.
    pub(crate) fn has_taken(&self, sent: &mut Sent, now: Duration) -> bool {
        if sent.taken {
            return true;
        }
        if rustix::io::ioctl_fionread(&sent.control).is_ok_and(|unread| unread > 0) {
            return false;
        }
        let read_at = *sent.read_at.get_or_insert(now);
        // Stock's runsv leaves no mark; it acts within much less than this after it has read.
        sent.taken = self.mark() != sent.mark || now >= read_at + SETTLED;
        sent.taken
    }

    /// Opens `supervise` so that it can be watched.
    pub(crate) fn open_supervise(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(CWD, &self.file("supervise"), flags, Mode::empty())?)
    }

    fn mark(&self) -> Option<Mark> {
        let stat = statat(CWD, self.file("supervise/ok"), AtFlags::empty()).ok()?;
        #[allow(clippy::useless_conversion, clippy::cast_possible_wrap, clippy::unnecessary_cast, reason = "widths differ")]
        Some((i64::from(stat.st_mtime), stat.st_mtime_nsec as i64))
    }

    fn open_for_writing(&self, rest: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(CWD, &self.file(rest), flags, Mode::empty())
    }

    /// Why something in the service directory could not be opened: perhaps for want of the directory.
    fn blame(&self, part: &str, what: &'static str, errno: Errno) -> Trouble {
        if errno == Errno::NXIO {
            return Trouble::NotRunning;
        }
        match self.enter(part) {
            Err(error) => Trouble::NoDirectory(error),
            Ok(_) => Trouble::Unable(what, errno.into()),
        }
    }
}

impl Sent {
    /// When it is worth asking again, if nothing happens before: some supervisors leave no mark.
    pub(crate) fn ask_again(&self, now: Duration) -> Option<Duration> {
        if self.taken {
            return None;
        }
        Some(self.read_at.map_or(now + Duration::from_millis(10), |read_at| read_at + SETTLED))
    }

    /// The FIFO.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Writes more; what comes of it is not looked at.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let _ = rustix::io::write(self.control.as_fd(), bytes);
    }
}

/// The directory that a service with a plain name is in.
pub(crate) fn default_directory() -> &'static CStr {
    const USUAL: [&CStr; 3] = [c"/service", c"/etc/service", c"/var/service"];
    let there = |dir: &&&CStr| files::look(CWD, dir).is_ok_and(|stat| stat.is_some());
    USUAL.iter().find(there).copied().unwrap_or(c"/service")
}
