//! State roots: the directories that keep the state of many services, outside of the service directories.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::trust::{self, Make, Refusal};
use crate::{files, sys};

/// The variable that names the state root.
pub const VARIABLE: &str = "RUNITBOX_STATE";
/// The directories below which each user has a state root: the first is memory, and containers have it even if their
/// image is read-only; the second exists even where nothing else does.
pub(super) const SHARED: [&str; 2] = ["/dev/shm", "/tmp"];
/// Mode of a directory into which others may look.
const PUBLIC: Mode = Mode::from_raw_mode(0o755);
/// Mode of a directory that only its owner may use.
const PRIVATE: Mode = Mode::from_raw_mode(0o700);

/// A state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    /// The one that [`VARIABLE`] names.
    Given(PathBuf),
    /// `/run/runit/supervise`.
    Run,
    /// The one of a user, by its number, below a directory that everybody may write to.
    Shared(&'static str, u32),
}

/// Whether missing directories are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fail,
    Make,
}

/// The state root that [`VARIABLE`] names.
pub(crate) fn given() -> Option<Root> {
    std::env::var_os(VARIABLE).filter(|root| !root.is_empty()).map(|root| Root::Given(root.into()))
}

/// The state roots that are tried, in this order, where the service directory cannot be written; `uids` are the users
/// whose roots are meant.
pub(crate) fn usual(uids: &[u32]) -> Vec<Root> {
    let mut roots = vec![Root::Run];
    for root in SHARED.iter().flat_map(|dir| uids.iter().map(|uid| Root::Shared(dir, *uid))) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

/// Opens `/run/runit` if one of the users `believed` owns it and nobody else may write to it.
///
/// # Errors
///
/// That of open(2), or a [`Refusal`].
pub(crate) fn open_run_runit(believed: &[u32]) -> io::Result<OwnedFd> {
    run_runit(believed, Missing::Fail)
}

/// The same, but makes it where it is missing.
///
/// # Errors
///
/// Also that of mkdir(2).
pub(crate) fn make_run_runit(believed: &[u32]) -> io::Result<OwnedFd> {
    run_runit(believed, Missing::Make)
}

impl Root {
    /// Its path.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Root::Given(path) => path.clone(),
            Root::Run => "/run/runit/supervise".into(),
            Root::Shared(dir, uid) => format!("{dir}/runit-{uid}").into(),
        }
    }

    /// A number for each kind of root, less than 4.
    pub(super) fn number(&self) -> u8 {
        match self {
            Root::Given(_) => 0,
            Root::Run => 1,
            Root::Shared(dir, _) if *dir == SHARED[0] => 2,
            Root::Shared(..) => 3,
        }
    }

    /// Opens it, to look for state in it. It has to belong to one of the users `believed`; one that [`VARIABLE`] names may
    /// belong to anybody, since the caller chose it.
    ///
    /// # Errors
    ///
    /// That of open(2), or a [`Refusal`].
    pub(crate) fn open(&self, believed: &[u32]) -> io::Result<OwnedFd> {
        self.open_or_make(believed, Missing::Fail)
    }

    /// Opens it, to keep state in it, and makes what is missing. It has to belong to one of the users `believed`.
    ///
    /// # Errors
    ///
    /// That of open(2) or mkdir(2), or a [`Refusal`].
    pub(crate) fn make(&self, believed: &[u32]) -> io::Result<OwnedFd> {
        self.open_or_make(believed, Missing::Make)
    }

    fn open_or_make(&self, believed: &[u32], missing: Missing) -> io::Result<OwnedFd> {
        match self {
            Root::Given(path) => {
                let make = if missing == Missing::Make { Make::All(PUBLIC) } else { Make::Nothing };
                let way = trust::walk(CWD, path.as_os_str().as_bytes(), believed, make)?;
                match trust::check_owner_is(&way.stat, believed) {
                    // Others may write to it, as to /tmp or to a volume that many containers share. So each entry
                    // is checked, too.
                    Ok(()) | Err(Refusal::OthersWrite) => Ok(way.dir),
                    // State is read from anybody's root, but kept only where nobody else can remove it.
                    Err(_) if missing == Missing::Fail && !files::others_may_write(&way.stat) => Ok(way.dir),
                    Err(refusal) => Err(refusal.into()),
                }
            }
            Root::Run => {
                let run_runit = run_runit(believed, missing)?;
                entry(run_runit.as_fd(), b"supervise", PUBLIC, believed, missing)
            }
            Root::Shared(dir, uid) => {
                let dir = system_directory(dir)?;
                entry(dir.as_fd(), format!("runit-{uid}").as_bytes(), PRIVATE, believed, missing)
            }
        }
    }
}

fn run_runit(believed: &[u32], missing: Missing) -> io::Result<OwnedFd> {
    entry(system_directory("/run")?.as_fd(), b"runit", PUBLIC, believed, missing)
}

/// Opens a directory that belongs to the system: it needs no check.
fn system_directory(path: &str) -> io::Result<OwnedFd> {
    let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, OsStr::new(path), flags, Mode::empty())?)
}

/// Opens the directory `name` in `dir`, if one of the users `believed` owns it and nobody else may write to it.
fn entry(
    dir: rustix::fd::BorrowedFd<'_>,
    name: &[u8],
    mode: Mode,
    believed: &[u32],
    missing: Missing,
) -> io::Result<OwnedFd> {
    let make = if missing == Missing::Make { Make::Last(mode) } else { Make::Nothing };
    let way = trust::walk(dir, name, believed, make)?;
    trust::check_owner_is(&way.stat, believed)?;
    Ok(way.dir)
}
