//! Finding the place for the state of a service: `supervise` in its directory, or one of the places elsewhere that
//! [`state`] lists.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;

use super::{Supervise, failed_to_open};
use crate::error::{Context, Failed, Result};
use crate::role::Role;
use crate::state::{self, Home, Owner, Root, UNWRITABLE};
use crate::trust;

/// Mode of a new directory.
const OURS: Mode = Mode::from_raw_mode(0o700);
/// Why there is no room in a place.
const NO_SPACE: [Errno; 4] = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::NOENT];

/// Why the `supervise` of the service directory is not used.
enum OwnUnusable {
    /// The state may be kept elsewhere.
    Elsewhere(Failed),
    /// The state must not be kept anywhere else.
    Nowhere(Failed),
}

/// What became of one candidate for a place.
enum Candidate {
    Opened(Supervise),
    /// Somebody else has it: try the next.
    Taken,
    /// There is no use in trying others below the same root.
    NoMore,
}

impl Supervise {
    /// Finds the place for the state of a service, makes what is missing, takes the lock and opens `control`.
    ///
    /// [`state`] lists the places.
    ///
    /// # Errors
    ///
    /// What failed, in the words of runsv(8).
    pub(crate) fn open(home: &Home<'_>) -> Result<Self, Failed> {
        if let Some(given) = state::given() {
            // A supervisor without the variable may serve it.
            if home.own_is_held() {
                return Err(Errno::AGAIN)
                    .while_doing(|| format!("unable to lock {}/lock", home.role.supervise()));
            }
            if let Some(supervise) = Self::open_elsewhere(home, &given)? {
                return Ok(supervise);
            }
        }
        let failed = match Self::open_own(home) {
            Err(OwnUnusable::Elsewhere(failed)) => failed,
            Err(OwnUnusable::Nowhere(failed)) => return Err(failed),
            Ok(supervise) => return Ok(supervise),
        };
        for root in state::usual(&[rustix::process::geteuid().as_raw()]) {
            if let Some(supervise) = Self::open_elsewhere(home, &root)? {
                return Ok(supervise);
            }
        }
        let advice = "no place for state is left, set RUNITBOX_STATE to a directory of yours";
        Err(Failed::without_cause(format!("{failed}; {advice}")))
    }

    /// Opens `supervise` in the service directory.
    fn open_own(home: &Home<'_>) -> Result<Self, OwnUnusable> {
        if home.link_is_too_long() {
            let what = format!("unable to readlink ./{}: name too long", home.role.supervise());
            return Err(OwnUnusable::Nowhere(Failed::without_cause(what)));
        }
        let own = home.make_own().map_err(|error| {
            let refused = trust::refusal(&error).is_some();
            if refused {
                home.warn_about_link(&error);
            }
            let failed = failed_to_open(home.role, error);
            if refused || failed.is_any_of(&UNWRITABLE) {
                OwnUnusable::Elsewhere(failed)
            } else {
                OwnUnusable::Nowhere(failed)
            }
        })?;
        let is_of_others = own.is_of_other_container();
        match Self::open_at(own.dir, home) {
            Err(failed) if failed.is_any_of(&UNWRITABLE) => Err(OwnUnusable::Elsewhere(failed)),
            // Two containers have the same link in their image, and share the directory that it leads to.
            Err(failed) if failed.is_any_of(&[Errno::AGAIN]) && is_of_others => {
                Err(OwnUnusable::Elsewhere(failed))
            }
            Ok(supervise) if own.linked => {
                // Another container may have the same link, and others may look there for a service of this name.
                if let Ok(owner) = home.owner() {
                    let _ = owner.write(supervise.dir.as_fd(), home.path);
                }
                Ok(supervise)
            }
            opened => opened.map_err(OwnUnusable::Nowhere),
        }
    }

    /// Opens the first place below `root` that nobody else has; `None` if there is none.
    fn open_elsewhere(home: &Home<'_>, root: &Root) -> Result<Option<Self>, Failed> {
        let (Some(name), Ok(mine)) = (home.name(), home.owner()) else { return Ok(None) };
        let dir = match root.make(&trust::ours()) {
            Ok(dir) => dir,
            Err(error) if is_temporary(&error) => return Err(failed_to_open(home.role, error)),
            Err(error) => {
                if trust::refusal(&error).is_some() || matches!(root, Root::Given(_)) {
                    home.warn_about_root(root, &error);
                }
                return Ok(None);
            }
        };
        for candidate in (0..).map_while(|number| state::numbered(&name, number)) {
            let path = root.path().join(OsStr::from_bytes(candidate.to_bytes()));
            let supervise = match Self::open_candidate(home, root, &dir, &mine, &candidate, &path)? {
                Candidate::Opened(supervise) => supervise,
                Candidate::Taken => continue,
                Candidate::NoMore => return Ok(None),
            };
            match mine.write(supervise.dir.as_fd(), home.path) {
                Ok(()) => {}
                Err(error) if is_temporary(&error) => return Err(failed_to_open(home.role, error)),
                Err(_) => return Ok(None),
            }
            if home.is_held_elsewhere(&name, &mine, supervise.dir.as_fd()) {
                return Err(conflict(home.role, &path));
            }
            let elsewhere = CString::new(path.into_os_string().as_bytes()).ok();
            return Ok(Some(Supervise { elsewhere, ..supervise }));
        }
        Ok(None)
    }

    /// Opens the place `candidate` in `dir`, which is at `path`.
    fn open_candidate(
        home: &Home<'_>,
        root: &Root,
        dir: &OwnedFd,
        mine: &Owner,
        candidate: &CStr,
        path: &Path,
    ) -> Result<Candidate, Failed> {
        if let Err(errno) = mkdirat(dir, candidate, OURS)
            && errno != Errno::EXIST
        {
            return Ok(Candidate::NoMore);
        }
        let opened = trust::search_directory(dir.as_fd(), candidate)
            .and_then(|(place, stat)| Ok(trust::check_owner(&stat).map(|()| place)?));
        let place = match opened {
            Ok(place) => place,
            Err(error) if is_temporary(&error) => return Err(failed_to_open(home.role, error)),
            Err(error) => {
                home.warn_about_place(root, path, &error);
                return Ok(Candidate::Taken);
            }
        };
        let is_ours = || {
            let place = trust::search_directory(dir.as_fd(), candidate);
            let owner = place.ok().and_then(|(place, _)| Owner::read(place.as_fd()));
            owner.is_some_and(|owner| owner.is(mine))
        };
        match Self::open_at(place, home) {
            Ok(supervise) => Ok(Candidate::Opened(supervise)),
            Err(failed) if failed.is_any_of(&[Errno::AGAIN]) && is_ours() => Err(conflict(home.role, path)),
            Err(failed) if failed.is_any_of(&[Errno::AGAIN]) => Ok(Candidate::Taken),
            // It is root's, and we are not.
            Err(failed) if failed.is_any_of(&UNWRITABLE) => Ok(Candidate::Taken),
            Err(failed) if failed.is_any_of(&NO_SPACE) => Ok(Candidate::NoMore),
            Err(failed) => Err(failed),
        }
    }
}

/// Another supervisor serves the same service.
fn conflict(role: Role, path: &Path) -> Failed {
    Failed::because(Errno::AGAIN, format!("unable to lock {}/lock in {}", role.supervise(), path.display()))
}

/// Whether an error is a temporary lack of resources, not a fault of the place.
fn is_temporary(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .iter()
        .any(|it| error.raw_os_error() == Some(it.raw_os_error()))
}
