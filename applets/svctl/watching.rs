//! Waits for changes of services, from files alone.
//!
//! The directory of services, each service directory and each `supervise` directory is watched, in which supervisors replace
//! files by renaming. The end of a supervisor changes no file: it is seen on the FIFO `ok`, which has no reader then.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use svcore::Result;
use svcore::client::{Base, LOG, MAIN, Part, Target};
use svcore::event::{self, Wait};
use svcore::listed::Listed;
use svcore::moment::{Moment, earlier};
use svcore::sys::watch::Inotify;
use svcore::sys::{clock, limits};

use super::map::Map;
use super::tree::{Tree, without_doubles};

/// How often to look where directories cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The directories of services, watched.
struct Watches {
    inotify: Option<Inotify>,
    /// The watch of the directory of services.
    tree: Option<i32>,
    /// The services by their watches.
    names: Map<i32, OsString>,
    /// The FIFOs `ok` of the supervisors of a service and of its log service.
    supervisors: Map<OsString, Vec<OwnedFd>>,
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for the next change.
    Wait,
    /// Wait for the next change, but no longer than to this moment.
    WaitUntil(Moment),
    /// Wait no more.
    Stop,
}

/// Calls `each` at once, and whenever a service that the words mean may have changed, with the names of those; with no
/// name when the moment has come that it asked for.
///
/// # Errors
///
/// That the directory of services cannot be read at the start, and those of `each`.
pub(super) fn each_change(
    words: &[OsString],
    tree: &Tree,
    each: &mut dyn FnMut(&[OsString]) -> Result<Next>,
) -> Result<()> {
    limits::raise_open_files();
    let mut watches = Watches {
        inotify: Inotify::new().ok(),
        tree: None,
        names: Map::default(),
        supervisors: Map::default(),
    };
    let mut names = tree.selected_or_all(words)?;
    watches.watch_tree(tree);
    watches.watch(&names, tree);
    let mut next = each(&names)?;
    loop {
        let until = match next {
            Next::Stop => return Ok(()),
            Next::Wait => None,
            Next::WaitUntil(moment) => Some(moment),
        };
        let (changed, has_tree_changed) = watches.wait(until);
        if !has_tree_changed {
            watches.watch(&changed, tree);
            next = each(&changed)?;
            continue;
        }
        // The directory may be away for a moment.
        let Ok(now) = tree.selected_or_all(words) else { continue };
        let mut all = now.clone();
        all.append(&mut names);
        let all = without_doubles(&all);
        watches.watch_tree(tree);
        watches.watch(&all, tree);
        names = now;
        next = each(&all)?;
    }
}

impl Watches {
    fn watch_tree(&mut self, tree: &Tree) {
        let path = CString::new(tree.path().as_os_str().as_bytes()).ok();
        let watch = self.inotify.as_ref().zip(path).and_then(|(inotify, path)| inotify.add(&path).ok());
        self.tree = watch;
    }

    /// Watches what there is of these services now.
    fn watch(&mut self, names: &[OsString], tree: &Tree) {
        let base = Base::at(tree.path().into());
        for name in names {
            let target = Target::new(name, &base);
            let mut supervisors = Vec::new();
            self.watch_part(name, &target, &MAIN, &mut supervisors);
            if matches!(target.look(c"log"), Ok(Some(_))) {
                self.watch_part(name, &target, &LOG, &mut supervisors);
            }
            if let Ok(dir) = target.dir() {
                self.watch_directory(name, dir);
            }
            self.supervisors.set(name.clone(), supervisors);
        }
    }

    fn watch_part(&mut self, name: &OsString, target: &Target, part: &Part, supervisors: &mut Vec<OwnedFd>) {
        if let Ok(view) = target.view(part) {
            self.watch_directory(name, view.place.as_fd());
            supervisors.push(view.ok);
        } else if let Ok(dir) = target.dir() {
            // One that is not served now may be so later.
            let place = if part.is_log() { c"log/supervise" } else { c"supervise" };
            let flags = svcore::sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if let Ok(place) = openat(dir, place, flags, Mode::empty()) {
                self.watch_directory(name, place.as_fd());
            }
        }
    }

    fn watch_directory(&mut self, name: &OsString, dir: rustix::fd::BorrowedFd<'_>) {
        let Some(inotify) = &self.inotify else { return };
        if let Ok(watch) = inotify.add_open(dir) {
            self.names.set(watch, name.clone());
        }
    }

    /// Waits for a change, no longer than to a moment. Returns the services that it is about, and whether services may have come or gone.
    fn wait(&mut self, until: Option<Moment>) -> (Vec<OsString>, bool) {
        let Some(inotify) = &self.inotify else {
            let look = clock::monotonic().saturating_add(LOOK_EVERY);
            event::wait(&mut [], Wait::until(earlier(Some(look), until)));
            return (Vec::new(), true);
        };
        let held =
            self.supervisors.iter().flat_map(|(name, fds)| fds.iter().map(move |fd| (name, fd))).listed();
        let mut fds = vec![PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)];
        fds.extend(held.iter().map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::empty())));
        event::wait(&mut fds, Wait::until(until));
        let mut changed: Vec<OsString> = Vec::new();
        for ((name, _), fd) in held.iter().zip(fds.iter().skip(1)) {
            if !fd.revents().is_empty() {
                changed.push(OsStr::from_bytes(name).to_owned());
            }
        }
        let mut has_tree_changed = false;
        inotify.read_each(|watch, _| match self.names.get(&watch) {
            Some(name) => {
                changed.push(name.clone());
            }
            // The number of lost changes is -1.
            None => has_tree_changed |= watch == -1 || Some(watch) == self.tree,
        });
        (without_doubles(&changed), has_tree_changed)
    }
}
