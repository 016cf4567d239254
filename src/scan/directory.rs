//! Looking at the directory of service directories, when it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
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
use crate::{files, path};

/// How often it is looked at where it cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often where it can be watched but changes may not be told.
const LOOK_AT_SILENT_EVERY: Duration = Duration::from_secs(30);
/// A list that was made while names changed is not relied upon for what it lacks, but for so many in a row.
const DISTURBED_MOST: u32 = 10;
/// So many names that cannot be looked at are told of one by one at one look.
const TOLD_MOST: usize = 20;

/// A directory of service directories, or of links to them. It and the links that lead to it are watched.
#[derive(Debug)]
pub struct Directory {
    program: &'static str,
    path: CString,
    watch: Option<Inotify>,
    watched: Vec<i32>,
    /// Where the links in it lead.
    targets: Targets,
    /// Said already: that it cannot be watched.
    said_unwatched: bool,
    /// When to look without being told.
    look_at: Option<Moment>,
    /// The tries to read it.
    retry: Retry,
    /// Said already: what keeps it from being read.
    missing: Option<i32>,
    /// Said already: names that cannot be looked at, and why.
    told: BTreeMap<CString, i32>,
    /// How many lists in a row were made while names changed.
    disturbed: u32,
}

/// A link in it, and the directory that it leads to, if it does.
type Link = (CString, Option<Identity>);

/// What changed.
#[derive(Debug, Default)]
struct Changed {
    /// The directory, or the way to it.
    itself: bool,
    /// What its links lead to.
    targets: bool,
}

impl Directory {
    /// The directory at `path`, for a program that has this name in messages. It need not be there yet.
    ///
    /// # Errors
    ///
    /// That there can be no such path.
    pub fn new(program: &'static str, path: &OsStr) -> Result<Self, Failed> {
        let path = CString::new(path.as_bytes())
            .map_err(|_| Failed::without_cause("unable to open current directory"))?;
        Ok(Directory {
            program,
            path,
            watch: None,
            watched: Vec::new(),
            targets: Targets::default(),
            said_unwatched: false,
            look_at: None,
            retry: Retry::default(),
            missing: None,
            told: BTreeMap::new(),
            disturbed: 0,
        })
    }

    /// Its path as it was given.
    #[must_use]
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Says something about it.
    pub fn warn(&self, what: &[u8], cause: Option<&io::Error>) {
        self.say(Class::Warning, what, cause);
    }

    /// Prints a message about it.
    pub fn say(&self, class: Class, what: &[u8], cause: Option<&io::Error>) {
        Message::new(class, &self.who(), what).because(cause).print_now();
    }

    /// The program and the directory, as messages begin.
    #[must_use]
    pub fn who(&self) -> Vec<u8> {
        [self.program.as_bytes(), b" ", self.path.to_bytes()].concat()
    }

    /// What is ready when it changed, where it can be watched.
    pub fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether it or what its links lead to changed; to be asked when [`changes`](Self::changes) is ready.
    pub fn has_changed(&self) -> bool {
        let changed = self.take_changes();
        changed.itself || changed.targets
    }

    fn take_changes(&self) -> Changed {
        let mut changed = Changed::default();
        if let Some(watch) = &self.watch {
            watch.take(|number, name| {
                changed.itself |= number == -1 || self.watched.contains(&number);
                changed.targets |= self.targets.concerns(number, name);
            });
        }
        changed
    }

    /// Watches where new links lead, and forgets those that are gone.
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
        // One that was switched before its way was watched leads elsewhere now.
        let Ok(dir) = self.open() else { return };
        if !new.iter().all(|(name, identity)| Self::leads_to(dir.as_fd(), name, *identity)) {
            self.look_again_at(Some(now));
        }
    }

    /// When to look even if nothing is said to have changed.
    #[must_use]
    pub const fn look_at(&self) -> Option<Moment> {
        self.look_at
    }

    /// Looks not later than this.
    pub fn look_again_at(&mut self, at: Option<Moment>) {
        self.look_at = earlier(self.look_at, at);
    }

    /// Ends the watch; that can take the kernel some milliseconds.
    pub fn stop_watching(&mut self) {
        self.watch = None;
        self.look_at = None;
    }

    /// What is there; `None` if that cannot be told now, which was said.
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
                    self.missing = None;
                } else {
                    let again = self.retry.failed(now);
                    self.look_again_at(Some(again));
                }
                if !is_watched && self.watch.is_some() {
                    // It came after the watches were set.
                    self.look_again_at(Some(now.saturating_add(plan::CALM)));
                }
                self.watch_targets(&links, listing.complete, now);
                let changed = self.take_changes();
                if changed.itself || changed.targets {
                    self.look_again_at(Some(now));
                }
                self.disturbed = if changed.itself && self.disturbed < DISTURBED_MOST {
                    listing.complete = false;
                    self.disturbed + 1
                } else {
                    0
                };
                Some(listing)
            }
            Err(failed) => {
                self.say_missing(&failed);
                // That it appears is told by the watch of the way to it; but what said so may have been wrong.
                let again = self.retry.failed(now);
                self.look_again_at(Some(again));
                None
            }
        }
    }

    /// Warns that it cannot be read, but not at each look for the same reason.
    fn say_missing(&mut self, failed: &Failed) {
        let errno = failed.cause.as_ref().and_then(io::Error::raw_os_error);
        if self.missing != errno {
            Message::of(Class::Warning, &self.who(), failed).print_now();
            self.missing = errno;
        }
    }

    /// That something could not be done to it.
    fn unable(&self, what: &str, errno: Errno) -> Failed {
        Failed::because(errno, [what.as_bytes(), b" ", self.path.to_bytes()].concat())
    }

    /// Watches it and the links on the way to it, before it is read: no change falls in between. Gives whether it is
    /// watched itself.
    ///
    /// What cannot be watched now is tried again at the next look, which then comes by itself.
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
                // That it is missing is found out by reading it; the way to it is watched.
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
                    // It went a moment ago.
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
            if !self.said_unwatched {
                self.warn(b"unable to watch, looking every 5 seconds instead", Some(error));
            }
        } else if silent {
            self.look_again_at(Some(now.saturating_add(LOOK_AT_SILENT_EVERY)));
        }
        self.said_unwatched = failed.is_some();
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
                    self.say_missing(&self.unable("unable to read directory", errno));
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
                    identity: files::identity(&stat),
                    settled_at: settled_at(dir.as_fd(), name, &stat, now, wall),
                },
                Ok(_) => Kind::Other,
                Err(errno) => {
                    let Some(kind) = kind_of_failed(dir.as_fd(), name, errno) else { continue };
                    failed.insert(name.to_owned(), errno);
                    kind
                }
            };
            // Some file systems do not tell the type of an entry.
            if matches!(entry.file_type(), FileType::Symlink | FileType::Unknown) {
                let identity =
                    if let Kind::Directory { identity, .. } = kind { Some(identity) } else { None };
                links.push((name.to_owned(), identity));
            }
            listing.entries.push((name.to_owned(), kind));
        }
        // The end of a directory that is removed while it is read tells nothing.
        listing.complete &= fstat(&dir).is_ok_and(|stat| stat.st_nlink > 0);
        self.tell(&failed, listing.complete);
        Ok(listing)
    }

    /// Says what could not be looked at, each once and not thousands at a time.
    fn tell(&mut self, failed: &BTreeMap<CString, Errno>, complete: bool) {
        let is_told = |name: &CString, errno: &Errno| self.told.get(name) == Some(&errno.raw_os_error());
        let new = || failed.iter().filter(|(name, errno)| !is_told(name, errno));
        for (name, errno) in new().take(TOLD_MOST) {
            self.warn(&[b"unable to stat ", name.to_bytes()].concat(), Some(&(*errno).into()));
        }
        let more = new().count().saturating_sub(TOLD_MOST);
        if more > 0 {
            self.warn(format!("unable to stat {more} more").as_bytes(), None);
        }
        if complete {
            self.told.clear();
        }
        self.told.extend(failed.iter().map(|(name, errno)| (name.clone(), errno.raw_os_error())));
    }

    /// Whether `name` in it is still this directory, which is open as `dir`.
    #[must_use]
    pub fn leads_to(dir: BorrowedFd<'_>, name: &CStr, identity: Identity) -> bool {
        statat(dir, name, AtFlags::empty()).is_ok_and(|stat| files::identity(&stat) == identity)
    }

    /// Opens it, to start something in it.
    ///
    /// # Errors
    ///
    /// That of open(2).
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(openat(CWD, &self.path, sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Whether a supervisor serves the service `name` in it: its `ok` has a reader.
    #[must_use]
    pub fn is_served(&self, name: &CStr) -> bool {
        let path = [self.path.to_bytes(), b"/", name.to_bytes()].concat();
        let path = OsStr::from_bytes(&path);
        let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).is_ok_and(|dir| {
            let home = Home { dir: dir.as_fd(), path: path.as_ref(), role: Role::Main, who: b"" };
            state::is_served(&home)
        })
    }
}

/// What a name is that cannot be looked at; `None` if it went a moment ago.
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

/// When a service directory that is being made has settled, by its times.
fn settled_at(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, now: Moment, wall: (i64, u32)) -> Moment {
    let age = age(stat, wall);
    if age.is_some_and(|age| age >= plan::SETTLED) {
        // The usual case costs nothing more. A `run` that is written to later is not waited for.
        return Moment::START;
    }
    let run = CString::new([name.to_bytes(), b"/run"].concat()).ok();
    let run = run.and_then(|run| statat(dir, &run, AtFlags::empty()).ok()).filter(files::is_executable);
    plan::settled_at(now, age, run.map(|run| self::age(&run, wall)))
}

/// How long before this moment a file was changed; `None` if after it.
#[allow(clippy::cast_lossless, clippy::unnecessary_cast, reason = "widths differ between platforms")]
fn age(stat: &Stat, (seconds, nanos): (i64, u32)) -> Option<Duration> {
    let since = |seconds: i64, nanos: i128| i128::from(seconds) * 1_000_000_000 + nanos;
    let age = since(seconds, i128::from(nanos)) - since(stat.st_ctime as i64, stat.st_ctime_nsec as i128);
    u64::try_from(age).ok().map(Duration::from_nanos)
}
