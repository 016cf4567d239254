//! Looking at the directory of service directories, when it changed.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, statat};

use super::Found;
use crate::error::{Error, Result};
use crate::event::earlier;
use crate::state::{self, Home};
use crate::sys::watch::Inotify;
use crate::sys::{self, clock};
use crate::{exec, files, say};

/// How often it is looked at where it cannot be watched, or is not there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A directory of service directories, or of links to them. It and the links that lead to it are watched.
#[derive(Debug)]
pub struct Directory {
    program: &'static str,
    path: CString,
    watch: Option<Inotify>,
    watched: Vec<i32>,
    /// When to look without being told.
    look_at: Option<Duration>,
    /// Said already: that it is not there.
    missing: Option<i32>,
}

impl Directory {
    /// The directory at `path`, for a program that has this name in messages. It need not be there yet.
    ///
    /// # Errors
    ///
    /// That there can be no such path.
    pub fn new(program: &'static str, path: &OsStr) -> Result<Self> {
        let path =
            CString::new(path.as_bytes()).map_err(|_| Error::fatal("unable to open current directory"))?;
        let mut directory =
            Directory { program, path, watch: None, watched: Vec::new(), look_at: None, missing: None };
        directory.watch = Inotify::new().map_err(|error| directory.warn_unwatched(Some(&error))).ok();
        Ok(directory)
    }

    /// Its path as it was given.
    #[must_use]
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Says something about it.
    pub fn warn(&self, what: &[u8], cause: Option<&io::Error>) {
        self.say(b"warning: ", what, cause);
    }

    /// Says something in a class of messages such as `fatal: `.
    pub fn say(&self, class: &[u8], what: &[u8], cause: Option<&io::Error>) {
        let prefix: [&[u8]; 5] = [self.program.as_bytes(), b" ", self.path.to_bytes(), b": ", class];
        say::supervisor(&prefix, what, cause);
    }

    fn warn_unwatched(&self, cause: Option<&io::Error>) {
        self.warn(b"unable to watch, looking every 5 seconds instead", cause);
    }

    /// What is ready when it changed, where it can be watched.
    pub fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// When to look even if nothing is said to have changed.
    #[must_use]
    pub const fn look_at(&self) -> Option<Duration> {
        self.look_at
    }

    /// Ends the watch; that can take the kernel some milliseconds.
    pub fn stop_watching(&mut self) {
        self.watch = None;
        self.look_at = None;
    }

    /// The service directories that are there; `None` if that cannot be told now, which was said.
    pub fn look(&mut self) -> Option<Vec<Found>> {
        self.look_at = None;
        if let Some(watch) = &self.watch {
            watch.take();
        }
        self.set_watches();
        match self.list() {
            Ok(found) => {
                self.missing = None;
                Some(found)
            }
            Err((what, error)) => {
                // Said when it becomes so, not at each look.
                let errno = error.raw_os_error();
                if self.missing != errno {
                    self.warn(&[what, b" ", self.path.to_bytes()].concat(), Some(&error));
                    self.missing = errno;
                }
                // That it appears is told by the watch of the way to it.
                if self.watch.is_none() || error.kind() != io::ErrorKind::NotFound {
                    let again = clock::monotonic().saturating_add(LOOK_EVERY);
                    self.look_at = earlier(self.look_at, Some(again));
                }
                None
            }
        }
    }

    /// Watches it and the links on the way to it, before it is read: no change falls in between.
    fn set_watches(&mut self) {
        let Some(watch) = &self.watch else {
            self.look_at = Some(clock::monotonic().saturating_add(LOOK_EVERY));
            return;
        };
        let mut failed = None;
        let mut add = |dir: &CStr| watch.add(dir).map_err(|error| failed = Some(error)).ok();
        let mut watched: Vec<i32> =
            exec::way_of(self.path.to_bytes(), false).iter().filter_map(|dir| add(dir)).collect();
        // That it is missing is found out by reading it; the way to it is watched.
        watched.extend(watch.add(&self.path));
        if failed.is_none() && watched.is_empty() {
            failed = Some(io::ErrorKind::Unsupported.into());
        }
        for old in self.watched.iter().filter(|old| !watched.contains(old)) {
            watch.remove(*old);
        }
        self.watched = watched;
        if let Some(error) = failed {
            self.warn_unwatched(Some(&error));
            self.watch = None;
            self.look_at = Some(clock::monotonic().saturating_add(LOOK_EVERY));
        }
    }

    fn list(&self) -> std::result::Result<Vec<Found>, (&'static [u8], io::Error)> {
        let unable = |what: &'static [u8]| move |errno: rustix::io::Errno| (what, io::Error::from(errno));
        statat(CWD, &self.path, AtFlags::empty()).map_err(unable(b"unable to stat"))?;
        let dir =
            openat(CWD, &self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(unable(b"unable to change directory to"))?;
        let unreadable = unable(b"unable to read directory");
        let mut found = Vec::new();
        for entry in Dir::read_from(&dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            match statat(&dir, name, AtFlags::empty()) {
                Ok(stat) if files::is_dir(&stat) => {
                    found.push(Found { name: name.to_owned(), identity: files::identity(&stat) });
                }
                Ok(_) => {}
                Err(errno) => {
                    self.warn(&[b"unable to stat ", name.to_bytes()].concat(), Some(&errno.into()));
                }
            }
        }
        Ok(found)
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
            let home = Home { dir: dir.as_fd(), path: path.as_ref(), log: false, prefix: b"" };
            state::is_served(&home)
        })
    }
}
