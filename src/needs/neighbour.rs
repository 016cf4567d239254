//! A service that is needed, as its files show it to the supervisor of another one.
//!
//! What strangers made is not believed: what its supervisor publishes has to belong to a user who decides anyway what is run, and that
//! supervisor has to serve. Then the directory may belong to anybody: its supervisor runs what is in it. But only a directory that
//! belongs to such a user is believed about what else would be done for it: its `check` is run, and its `needs` count.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, Stat, accessat, fstat, openat};

use super::Known;
use crate::facts::{self, Facts, Readiness};
use crate::files::{self, Identity};
use crate::policy::{self, Need, PolicyFile, Restart};
use crate::role::Role;
use crate::state::{self, Home, Root};
use crate::status::{LEN, State, Status};
use crate::supervise::STATE;
use crate::sys::{self, watch};
use crate::template::{Instance, ServiceIdentity};
use crate::{path, trust};

/// The longest file `needs` that is read, in bytes.
pub const NEEDS_MAX: usize = 16 * 1024;
/// The longest file `restart` that is read, in bytes.
const RESTART_MAX: usize = 128;

/// What a look at a service finds.
#[derive(Debug)]
pub enum Found {
    /// There is no such directory.
    Missing,
    /// It is not supervised, or not believed.
    Unserved,
    /// It is supervised.
    Served(Known),
}

/// Directories that are watched for a service.
#[derive(Debug, Default)]
pub struct Watched {
    directories: Vec<OwnedFd>,
    /// The directory in which its supervisor publishes, if one was found.
    place: Option<Identity>,
}

/// A service directory.
#[derive(Debug)]
pub struct Neighbour<'p> {
    path: &'p CStr,
    /// The directory.
    pub dir: OwnedFd,
    /// Which directory it is.
    pub identity: ServiceIdentity,
    /// Which instance of a template it is, if it is one.
    pub instance: Option<Instance>,
}

impl<'p> Neighbour<'p> {
    /// Opens the service directory at `path`, if it belongs to one of the users `believed`, and not everybody may write to it.
    ///
    /// # Errors
    ///
    /// That of open(2), or [`OtherOwner`](trust::Refusal::OtherOwner) or [`OthersWrite`](trust::Refusal::OthersWrite).
    pub fn open(path: &'p CStr, believed: &[u32]) -> io::Result<Self> {
        let (neighbour, stat) = Self::open_anybodys(path)?;
        check_owner(&stat, believed)?;
        Ok(neighbour)
    }

    /// The same, whoever it belongs to.
    fn open_anybodys(path: &'p CStr) -> io::Result<(Self, Stat)> {
        let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        let stat = fstat(&dir)?;
        let instance = Instance::of(Path::new(OsStr::from_bytes(path.to_bytes())));
        let identity = ServiceIdentity::new(files::identity(&stat), instance.as_ref());
        Ok((Neighbour { path, dir, identity, instance }, stat))
    }

    fn home(&self) -> Home<'_> {
        let path = Path::new(OsStr::from_bytes(self.path.to_bytes()));
        Home { dir: self.dir.as_fd(), path, instance: self.instance.as_ref(), role: Role::Main, who: b"" }
    }

    /// The directory in which its supervisor publishes, if there is one.
    fn place(&self, believed: &[u32]) -> Option<OwnedFd> {
        let open_ok = |dir: BorrowedFd<'_>| trust::open_fifo(dir, c"ok", OFlags::WRONLY);
        let (place, (_, ok)) = state::find(&self.home(), open_ok).ok()?;
        check_owner(&ok, believed).ok()?;
        check_owner(&fstat(&place.dir).ok()?, believed).ok()?;
        Some(place.dir)
    }

    /// What its supervisor publishes in `place`.
    fn known(&self, place: BorrowedFd<'_>, believed: &[u32]) -> Option<Known> {
        let read = |name, limit| {
            let (file, stat) = trust::open_regular(place, name, OFlags::RDONLY, Mode::empty()).ok()?;
            check_owner(&stat, believed).ok()?;
            trust::read_at_most(&file, limit).ok()
        };
        // In this order, because `state` is written before `status`.
        let status = Status::decode(read(c"status", LEN)?.first_chunk()?).ok()?;
        let facts = read(STATE, facts::LEN_MAX).map(|text| Facts::decode(&text)).filter(Facts::is_current);
        let mut known = Known {
            status,
            is_done: facts.as_ref().is_some_and(|facts| facts.done.is_some()),
            readiness: facts
                .as_ref()
                .and_then(|facts| facts.readiness)
                .map(|readiness| matches!(readiness, Readiness::Ready(_))),
            is_task: false,
            has_check: false,
        };
        if status.state == State::Run && !known.is_done && known.readiness.is_none() {
            let has = |file: &CStr| files::look(self.dir.as_fd(), file).is_ok_and(|stat| stat.is_some());
            let tells =
                || has(PolicyFile::NotificationFd.name()) || has(PolicyFile::NotificationSocket.name());
            if facts.is_some() && tells() {
                // It has just ended, and the status will follow.
                known.readiness = Some(false);
            }
            known.is_task = self.is_task();
            known.has_check = has(c"check");
        }
        Some(known)
    }

    /// Whether it is not restarted whatever happens.
    fn is_task(&self) -> bool {
        let mut buffer = [0; RESTART_MAX];
        let text = files::read_start(self.dir.as_fd(), PolicyFile::Restart.name(), &mut buffer);
        text.is_ok_and(|text| Restart::parse(text) == Ok(Restart::Never))
    }

    /// What its file `needs` says; nothing if there is none, or it makes no sense, which its own supervisor reports.
    #[must_use]
    pub fn needs(&self) -> Vec<Need> {
        needs_in(self.dir.as_fd())
    }
}

/// What the file `needs` of a service directory says; nothing if there is none, or it makes no sense.
#[must_use]
pub fn needs_in(dir: BorrowedFd<'_>) -> Vec<Need> {
    let text = trust::open_content(dir, PolicyFile::Needs.name())
        .and_then(|file| trust::read_at_most(&file, NEEDS_MAX.saturating_sub(1)));
    text.ok().and_then(|text| policy::needs(&text).ok()).unwrap_or_default()
}

/// The users who are believed about what the service in `dir` needs: root, we, and the owner of `dir`, who decides what is run anyway.
#[must_use]
pub fn believed_by(dir: BorrowedFd<'_>) -> Vec<u32> {
    let mut believed = trust::ours().to_vec();
    believed.extend(fstat(dir).map(|stat| stat.st_uid));
    believed
}

/// A group may write: it is the user's own where the umask is 002, and a team's otherwise.
#[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
fn check_owner(stat: &Stat, believed: &[u32]) -> Result<(), trust::Refusal> {
    const EVERYBODY_WRITES: u32 = 0o002;
    if !believed.contains(&stat.st_uid) {
        return Err(trust::Refusal::OtherOwner);
    }
    let everybody = u32::from(stat.st_mode) & EVERYBODY_WRITES != 0;
    if everybody { Err(trust::Refusal::OthersWrite) } else { Ok(()) }
}

/// Looks at the service at `path`.
#[must_use]
pub fn look(path: &CStr, believed: &[u32]) -> Found {
    let neighbour = match Neighbour::open_anybodys(path) {
        Ok((neighbour, _)) => neighbour,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Found::Missing;
        }
        Err(_) => return Found::Unserved,
    };
    let place = neighbour.place(believed);
    let known = place.and_then(|place| neighbour.known(place.as_fd(), believed));
    known.map_or(Found::Unserved, Found::Served)
}

impl Watched {
    /// The numbers of the descriptors of the directories.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        use rustix::fd::AsRawFd;
        self.directories.iter().map(AsRawFd::as_raw_fd)
    }

    /// Whether something that concerns the service may change without a signal to us.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.directories.is_empty()
    }

    /// Watches whatever tells that the service at `path` changes, and only then looks at it.
    #[must_use]
    pub fn look(&mut self, path: &CStr, believed: &[u32]) -> Found {
        /// A supervisor that comes or leaves between watch and look is looked for again so often.
        const TRIES: u8 = 3;
        for _ in 0..TRIES {
            let neighbour = Neighbour::open_anybodys(path).ok().map(|(neighbour, _)| neighbour);
            let place = neighbour.as_ref().and_then(|neighbour| neighbour.place(believed));
            let identity = place.as_ref().and_then(|place| identity_of(place.as_fd()));
            if !(identity.is_some() && identity == self.place) {
                self.directories = match &place {
                    Some(place) => watched(place.as_fd()).into_iter().collect(),
                    None => around(path, neighbour.as_ref()),
                };
                self.place = identity;
            }
            let (Some(neighbour), Some(place)) = (neighbour, place) else {
                match look(path, believed) {
                    // It came a moment ago.
                    Found::Served(_) => continue,
                    other => return other,
                }
            };
            if let Some(known) = neighbour.known(place.as_fd(), believed) {
                return Found::Served(known);
            }
        }
        // A supervisor that has just begun publishes before it opens `ok`, so there is an event to come.
        Found::Unserved
    }
}

fn identity_of(dir: BorrowedFd<'_>) -> Option<Identity> {
    fstat(dir).map(|stat| files::identity(&stat)).ok()
}

/// Has changes of a directory signalled, as long as the returned descriptor is open.
fn watched(dir: BorrowedFd<'_>) -> Option<OwnedFd> {
    // To be watched it has to be opened for reading.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(dir, c".", flags, Mode::empty()).ok()?;
    watch::signal_changes(dir.as_fd()).ok().map(|()| dir)
}

/// Watches the directories in which a supervisor of the service at `path` will be seen to come.
fn around(path: &CStr, neighbour: Option<&Neighbour<'_>>) -> Vec<OwnedFd> {
    let own = neighbour.map_or_else(|| c"supervise".to_owned(), |neighbour| neighbour.home().own_path());
    let mut places = vec![[path.to_bytes(), b"/", own.to_bytes()].concat()];
    if let Some(neighbour) = neighbour
        && let Some(name) = neighbour.home().name()
    {
        places.extend(
            roots_of(neighbour).iter().map(|root| [root.path().as_os_str().as_bytes(), b"/", &name].concat()),
        );
    }
    let mut names: Vec<CString> = Vec::new();
    for place in places {
        names.extend(path::directories_to_watch(&place, true));
        names.extend(CString::new(place));
    }
    names.dedup();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |name: &CString| openat(CWD, name, flags, Mode::empty()).ok();
    names.iter().filter_map(open).filter(|dir| watch::signal_changes(dir.as_fd()).is_ok()).collect()
}

/// The state roots that a supervisor of the service would use, if not its `supervise`.
fn roots_of(neighbour: &Neighbour<'_>) -> Vec<Root> {
    let mut roots: Vec<Root> = state::given().into_iter().collect();
    let is_writable = accessat(&neighbour.dir, c".", Access::WRITE_OK, AtFlags::empty()).is_ok();
    if !is_writable {
        let [_, us] = trust::ours();
        roots.extend(state::usual(&[us]));
    }
    roots
}
