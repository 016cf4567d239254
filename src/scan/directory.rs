//! Watching and reading the directory of service directories.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::plan::{self, Kind, Listing};
use super::retry::Retry;
use super::targets::Targets;
use crate::error::{Failed, Result};
use crate::files::Identity;
use crate::moment::{Moment, earlier};
use crate::role::Role;
use crate::say::{Class, Message};
use crate::state::{self, Home};
use crate::sys::watch::{self, Inotify};
use crate::sys::{self, clock};
use crate::template::{Instance, ServiceIdentity, may_be_instance};
use crate::{files, path};

/// How often to look if the directory cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often to look if it is on a file system that may not report changes.
const LOOK_AT_SILENT_EVERY: Duration = Duration::from_secs(30);
/// A listing that was made while names changed counts as incomplete, but at most this many in a row do.
const DISTURBED_MAX: u32 = 10;
/// At most this many names that cannot be looked at are reported one by one after one look.
const REPORTED_MAX: usize = 20;

/// A directory of service directories, or of links to them. It and the links that lead to it are watched.
#[derive(Debug)]
pub struct Directory {
    program: &'static str,
    path: CString,
    watch: Option<Inotify>,
    watched: Vec<i32>,
    /// The targets of the links in it.
    targets: Targets,
    /// Whether it was reported that it cannot be watched.
    has_reported_unwatched: bool,
    /// When to look even if no change is reported, if ever.
    look_at: Option<Moment>,
    /// The failed tries to read it.
    retry: Retry,
    /// The last reported error (errno) of reading it.
    reported_error: Option<i32>,
    /// The reported names that cannot be looked at, and the error (errno) of each.
    reported_names: BTreeMap<CString, i32>,
    /// How many listings in a row were made while names changed.
    disturbed: u32,
}

/// A link in it, and the directory that it leads to, if any.
type Link = (CString, Option<ServiceIdentity>);

/// What changed.
#[derive(Debug, Default)]
struct Changed {
    /// The directory, or what its path leads to.
    itself: bool,
    /// The targets of its links.
    targets: bool,
}

impl Directory {
    /// The directory at `path`; `program` is the name in messages. It need not exist yet.
    ///
    /// # Errors
    ///
    /// If the path contains a NUL.
    pub fn new(program: &'static str, path: &OsStr) -> Result<Self, Failed> {
        let path = CString::new(path.as_bytes())
            .map_err(|_| Failed::without_cause("unable to open current directory"))?;
        Ok(Directory {
            program,
            path,
            watch: None,
            watched: Vec::new(),
            targets: Targets::default(),
            has_reported_unwatched: false,
            look_at: None,
            retry: Retry::default(),
            reported_error: None,
            reported_names: BTreeMap::new(),
            disturbed: 0,
        })
    }

    /// Its path as it was given.
    #[must_use]
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Prints a warning about it.
    pub fn warn(&self, what: &[u8], cause: Option<&io::Error>) {
        self.say(Class::Warning, what, cause);
    }

    /// Prints a message about it.
    pub(crate) fn say(&self, class: Class, what: &[u8], cause: Option<&io::Error>) {
        Message::new(class, &self.who(), what).because(cause).print_now();
    }

    /// The program and the directory, as messages begin.
    #[must_use]
    pub fn who(&self) -> Vec<u8> {
        [self.program.as_bytes(), b" ", self.path.to_bytes()].concat()
    }

    /// The descriptor that is ready after a change; `None` if it cannot be watched.
    pub fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether it or the targets of its links changed; to be called when [`changes`](Self::changes) is ready.
    pub fn has_changed(&self) -> bool {
        let changed = self.take_changes();
        changed.itself || changed.targets
    }

    fn take_changes(&self) -> Changed {
        let mut changed = Changed::default();
        if let Some(watch) = &self.watch {
            watch.read_each(|number, name| {
                changed.itself |= number == -1 || self.watched.contains(&number);
                changed.targets |= self.targets.concerns(number, name);
            });
        }
        changed
    }

    /// Watches the targets of new links, and no longer those of links that are gone.
    fn watch_targets(&mut self, links: &[Link], complete: bool, now: Moment) {
        let Some(watch) = &self.watch else { return };
        let before = self.targets.watches();
        let mut new = Vec::new();
        for (name, identity) in links {
            if !self.targets.has(name, *identity) {
                self.targets.add(watch, &self.path, name, *identity);
                new.extend(identity.map(|identity| (name, identity)));
            }
        }
        let mut names = BTreeSet::new();
        names.extend(links.iter().map(|(name, _)| name.as_c_str()));
        self.targets.keep(|name| !complete || names.contains(name));
        for old in before.difference(&self.targets.watches()).filter(|old| !self.watched.contains(old)) {
            watch.remove(*old);
        }
        // A link may have been switched before its target was watched.
        let Ok(dir) = self.open() else { return };
        if !new.iter().all(|(name, identity)| Self::leads_to(dir.as_fd(), name, identity.directory)) {
            self.look_again_at(Some(now));
        }
    }

    /// When to look even if no change is reported, if ever.
    #[must_use]
    pub const fn look_at(&self) -> Option<Moment> {
        self.look_at
    }

    /// The next look is to be no later than `at`.
    pub fn look_again_at(&mut self, at: Option<Moment>) {
        self.look_at = earlier(self.look_at, at);
    }

    /// Ends the watch, which can take the kernel some milliseconds.
    pub fn stop_watching(&mut self) {
        self.watch = None;
        self.look_at = None;
    }

    /// Lists the directory. `None` if it cannot be read, which was reported.
    pub fn look(&mut self) -> Option<Listing> {
        self.look_at = None;
        let now = clock::monotonic();
        self.take_changes();
        let is_watched = self.set_watches(now);
        let mut links = Vec::new();
        match self.list(now, &mut links) {
            Ok(mut listing) => {
                if listing.complete {
                    self.retry = Retry::default();
                    self.reported_error = None;
                } else {
                    let again = self.retry.failed(now);
                    self.look_again_at(Some(again));
                }
                if !is_watched && self.watch.is_some() {
                    // It was made after the watches were set.
                    self.look_again_at(Some(now.saturating_add(plan::CALM)));
                }
                self.watch_targets(&links, listing.complete, now);
                let changed = self.take_changes();
                if changed.itself || changed.targets {
                    self.look_again_at(Some(now));
                }
                self.disturbed = if changed.itself && self.disturbed < DISTURBED_MAX {
                    listing.complete = false;
                    self.disturbed + 1
                } else {
                    0
                };
                Some(listing)
            }
            Err(failed) => {
                self.report_error(&failed);
                // The watch on the way to it reports when it appears; but the error may have had another reason.
                let again = self.retry.failed(now);
                self.look_again_at(Some(again));
                None
            }
        }
    }

    /// Warns that it cannot be read, unless the last warning had the same reason.
    fn report_error(&mut self, failed: &Failed) {
        let errno = failed.cause().and_then(io::Error::raw_os_error);
        if self.reported_error != errno {
            Message::of(Class::Warning, &self.who(), failed).print_now();
            self.reported_error = errno;
        }
    }

    /// The error that `what` failed for it.
    fn unable(&self, what: &str, errno: Errno) -> Failed {
        Failed::because(errno, [what.as_bytes(), b" ", self.path.to_bytes()].concat())
    }

    /// Watches it and the links on the way to it. Returns whether it is watched itself. This comes before it is read, so no
    /// change is missed in between.
    ///
    /// If something cannot be watched, the next look comes without a reported change, and tries again.
    fn set_watches(&mut self, now: Moment) -> bool {
        let mut failed = None;
        if self.watch.is_none() {
            self.watched.clear();
            self.watch = Inotify::new().map_err(|error| failed = Some(error)).ok();
        }
        let mut is_watched = false;
        let mut silent = false;
        if let Some(watch) = &self.watch {
            let mut watched = Vec::new();
            let mut add = |dir: &CStr| match watch.add(dir) {
                Ok(number) => {
                    watched.push(number);
                    silent |= watch::is_silent(dir);
                    true
                }
                // Reading it reports that it is missing, and the way to it is watched.
                Err(error)
                    if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) =>
                {
                    false
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            };
            for dir in path::directories_to_watch(self.path.to_bytes(), false) {
                if !add(&dir) {
                    // It vanished a moment ago.
                    self.look_at = earlier(self.look_at, Some(now.saturating_add(LOOK_EVERY)));
                }
            }
            is_watched = add(&self.path);
            if !is_watched {
                // A file is in its place: what replaces that appears in the directory above.
                for dir in path::directories_to_watch(self.path.to_bytes(), true) {
                    add(&dir);
                }
            }
            if watched.is_empty() {
                // Why it cannot be reached is found out by reading it.
                self.look_at = earlier(self.look_at, Some(now.saturating_add(LOOK_EVERY)));
            }
            let is_used = |old: &i32| watched.contains(old) || self.targets.is_watched(*old);
            for old in self.watched.iter().filter(|old| !is_used(old)) {
                watch.remove(*old);
            }
            self.watched = watched;
        }
        if let Some(error) = &failed {
            self.look_again_at(Some(now.saturating_add(LOOK_EVERY)));
            if !self.has_reported_unwatched {
                self.warn(b"unable to watch, looking every 5 seconds instead", Some(error));
            }
        } else if silent {
            self.look_again_at(Some(now.saturating_add(LOOK_AT_SILENT_EVERY)));
        }
        self.has_reported_unwatched = failed.is_some();
        is_watched
    }

    fn list(&mut self, now: Moment, links: &mut Vec<Link>) -> Result<Listing, Failed> {
        statat(CWD, &self.path, AtFlags::empty()).map_err(|errno| self.unable("unable to stat", errno))?;
        let dir =
            openat(CWD, &self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| self.unable("unable to change directory to", errno))?;
        let mut listing = Listing { entries: Vec::new(), complete: true };
        let mut failed = BTreeMap::new();
        let wall = clock::wall_unix();
        for entry in Dir::read_from(&dir).map_err(|errno| self.unable("unable to read directory", errno))? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.report_error(&self.unable("unable to read directory", errno));
                    listing.complete = false;
                    break;
                }
            };
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            let kind = match statat(&dir, name, AtFlags::empty()) {
                Ok(stat) if files::is_dir(&stat) => Kind::Directory {
                    identity: ServiceIdentity::new(
                        files::identity(&stat),
                        self.instance(name, entry.file_type()).as_ref(),
                    ),
                    settled_at: settled_at(dir.as_fd(), name, &stat, now, wall),
                },
                Ok(_) => Kind::Other,
                Err(errno) => {
                    let Some(kind) = kind_of_failed(dir.as_fd(), name, errno) else { continue };
                    failed.insert(name.to_owned(), errno);
                    kind
                }
            };
            // Some file systems do not report the type of an entry.
            if matches!(entry.file_type(), FileType::Symlink | FileType::Unknown) {
                let identity =
                    if let Kind::Directory { identity, .. } = kind { Some(identity) } else { None };
                links.push((name.to_owned(), identity));
            }
            listing.entries.push((name.to_owned(), kind));
        }
        // A directory that was removed while it was read lists nothing any more.
        listing.complete &= fstat(&dir).is_ok_and(|stat| stat.st_nlink > 0);
        self.report_names(&failed, listing.complete);
        Ok(listing)
    }

    /// Warns about names that could not be looked at: about each once, and not about thousands at a time.
    fn report_names(&mut self, failed: &BTreeMap<CString, Errno>, complete: bool) {
        let is_reported =
            |name: &CString, errno: &Errno| self.reported_names.get(name) == Some(&errno.raw_os_error());
        let new = || failed.iter().filter(|(name, errno)| !is_reported(name, errno));
        for (name, errno) in new().take(REPORTED_MAX) {
            self.warn(&[b"unable to stat ", name.to_bytes()].concat(), Some(&(*errno).into()));
        }
        let more = new().count().saturating_sub(REPORTED_MAX);
        if more > 0 {
            self.warn(format!("unable to stat {more} more").as_bytes(), None);
        }
        if complete {
            self.reported_names.clear();
        }
        self.reported_names.extend(failed.iter().map(|(name, errno)| (name.clone(), errno.raw_os_error())));
    }

    /// Whether `name` in the open directory `dir` leads to the directory `identity`.
    #[must_use]
    pub fn leads_to(dir: BorrowedFd<'_>, name: &CStr, identity: Identity) -> bool {
        statat(dir, name, AtFlags::empty()).is_ok_and(|stat| files::identity(&stat) == identity)
    }

    /// The path of a name in it.
    fn path_of(&self, name: &CStr) -> OsString {
        OsString::from_vec([self.path.to_bytes(), b"/", name.to_bytes()].concat())
    }

    /// Which instance of a template a name is. Only a link can be one.
    fn instance(&self, name: &CStr, kind: FileType) -> Option<Instance> {
        if matches!(kind, FileType::Directory) || !may_be_instance(name.to_bytes()) {
            return None;
        }
        Instance::of(Path::new(&self.path_of(name)))
    }

    /// Opens it, to start a runsv in it.
    ///
    /// # Errors
    ///
    /// That of open(2).
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(openat(CWD, &self.path, sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Whether a supervisor serves the service `name`: its `ok` has a reader.
    #[must_use]
    pub fn is_served(&self, name: &CStr) -> bool {
        let path = self.path_of(name);
        let path = Path::new(&path);
        let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).is_ok_and(|dir| {
            let instance = Instance::of(path);
            let instance = instance.as_ref();
            let home = Home { dir: dir.as_fd(), path, instance, role: Role::Main, who: b"" };
            state::is_served(&home)
        })
    }
}

/// The kind of a name of which stat(2) failed; `None` if it vanished a moment ago.
fn kind_of_failed(dir: BorrowedFd<'_>, name: &CStr, errno: Errno) -> Option<Kind> {
    if !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
        return Some(Kind::Unknown);
    }
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => None,
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Some(Kind::Nothing),
        Ok(_) | Err(_) => Some(Kind::Unknown),
    }
}

/// When a service directory has settled, by its timestamps.
fn settled_at(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, now: Moment, wall: (i64, u32)) -> Moment {
    let age = age(stat, wall);
    if age.is_some_and(|age| age >= plan::SETTLED) {
        // The usual case. A `run` that is written to later is not waited for.
        return Moment::START;
    }
    let run = CString::new([name.to_bytes(), b"/run"].concat()).ok();
    let run = run.and_then(|run| statat(dir, &run, AtFlags::empty()).ok()).filter(files::is_executable);
    plan::settled_at(now, age, run.map(|run| self::age(&run, wall)))
}

/// How long before the time `wall` a file was changed; `None` if after it.
#[allow(clippy::cast_lossless, clippy::unnecessary_cast, reason = "widths differ between platforms")]
fn age(stat: &Stat, (seconds, nanos): (i64, u32)) -> Option<Duration> {
    let since = |seconds: i64, nanos: i128| i128::from(seconds) * 1_000_000_000 + nanos;
    let age = since(seconds, i128::from(nanos)) - since(stat.st_ctime as i64, stat.st_ctime_nsec as i128);
    u64::try_from(age).ok().map(Duration::from_nanos)
}
