//! Following logs: waits until something is written to one of them, and for nothing else.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::stdio::stdout;
use svcore::event::{self, Wait};
use svcore::moment::{Moment, earlier};
use svcore::say::Message;
use svcore::sys::clock;
use svcore::sys::watch::{self, Inotify};

use super::super::map::Map;
use super::LOOK_EVERY;
use super::lines::Log;

/// What a watch is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// The directory of a log, by its place.
    Log(usize),
    /// A directory of a service without a log, by its place.
    Missing(usize),
    /// The directory of services.
    Tree,
}

/// What has changed, but for logs.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The places of services without a log.
    pub(super) missing: Vec<usize>,
    /// Services may have appeared.
    pub(super) is_tree: bool,
    /// Nobody knows what has changed.
    pub(super) is_everything: bool,
}

/// The watches of the directories of logs.
pub(super) struct Follower {
    inotify: Option<Inotify>,
    /// One directory may be several of these.
    watched: Map<i32, Vec<Watched>>,
    /// Logs without a watch.
    unwatched: Vec<usize>,
}

impl Follower {
    /// Begins to watch the logs. What is written from now on is noticed.
    pub(super) fn new(logs: &[Log]) -> Self {
        let mut follower =
            Follower { inotify: Inotify::new().ok(), watched: Map::default(), unwatched: Vec::new() };
        for (place, log) in logs.iter().enumerate() {
            follower.watch(place, log.path());
        }
        if !follower.unwatched.is_empty() {
            let what = "some logs cannot be watched, so they are looked at once a second";
            Message::info("svctl", what).print();
        }
        follower
    }

    /// Watches the directory of the log in a place.
    pub(super) fn watch(&mut self, place: usize, path: &Path) {
        if !self.add(path, Watched::Log(place)) {
            self.unwatched.push(place);
        }
    }

    /// Watches the directory of services. Returns whether that is possible.
    pub(super) fn watch_tree(&mut self, path: &Path) -> bool {
        self.add(path, Watched::Tree)
    }

    /// Watches a service without a log: its log service, and where its log is usually. Returns whether all of it can be watched that
    /// has to be.
    pub(super) fn watch_missing(&mut self, place: usize, service: &Path) -> bool {
        let what = Watched::Missing(place);
        let log = service.join("log");
        if !log.is_dir() {
            let is_watched = self.add(service, what);
            // It may have been made meanwhile.
            if !log.is_dir() {
                return is_watched;
            }
        }
        let is_watched = self.add(&log, what) && self.add(&log.join("supervise"), what);
        // If these are not there, `log` changes when they are made.
        let _ = self.add(&log.join("main"), what);
        let _ = self.add(&log.join("current"), what);
        is_watched
    }

    fn add(&mut self, path: &Path, what: Watched) -> bool {
        let watch = CString::new(path.as_os_str().as_bytes()).ok().and_then(|path| {
            let inotify = self.inotify.as_ref().filter(|_| !watch::is_silent(&path))?;
            match what {
                Watched::Log(_) => inotify.add_writes(&path).ok(),
                Watched::Missing(_) | Watched::Tree => inotify.add(&path).ok(),
            }
        });
        let Some(watch) = watch else { return false };
        let mut all = self.watched.get(&watch).cloned().unwrap_or_default();
        if !all.contains(&what) {
            all.push(what);
            self.watched.set(watch, all);
        }
        true
    }

    /// Looks at the log in a place again, whose directory may be another one.
    fn look(&mut self, place: usize, logs: &mut [Log]) {
        let Some(log) = logs.get_mut(place) else { return };
        let is_there = log.is_there();
        if !is_there || self.unwatched.contains(&place) {
            // Its old directory may be watched still, which harms nobody.
            self.unwatched.retain(|unwatched| *unwatched != place);
            self.watch(place, log.path());
        }
        if !is_there {
            log.reopen();
        }
        log.look();
    }

    /// Goes on with another directory if a link to a service leads to another one than before. If it leads nowhere, a later
    /// change of the directory of services tells when it does again.
    fn follow_link(&mut self, place: usize, log: &mut Log) {
        if !log.is_there() && self.add(log.path(), Watched::Log(place)) {
            log.reopen();
            log.look();
        }
    }

    /// Waits until something has changed, but no longer than to a moment, and looks at the logs that have.
    ///
    /// # Errors
    ///
    /// Nobody reads standard output any more.
    pub(super) fn wait(&mut self, logs: &mut [Log], until: Option<Moment>) -> io::Result<Changed> {
        let look = (!self.unwatched.is_empty()).then(|| clock::monotonic().saturating_add(LOOK_EVERY));
        let out = stdout();
        // For no event: then only the end of the last reader is one.
        let mut fds = vec![PollFd::from_borrowed_fd(out, PollFlags::empty())];
        fds.extend(
            self.inotify.iter().map(|inotify| PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)),
        );
        event::wait(&mut fds, Wait::until(earlier(look, until)));
        if fds
            .first()
            .is_some_and(|out| out.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL))
        {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut places = self.unwatched.clone();
        let mut changed = Changed::default();
        if let Some(inotify) = &self.inotify {
            inotify.read_each(|watch, _| {
                changed.is_everything |= watch < 0;
                for what in self.watched.get(&watch).into_iter().flatten() {
                    match what {
                        Watched::Log(place) => places.push(*place),
                        Watched::Missing(place) => changed.missing.push(*place),
                        Watched::Tree => changed.is_tree = true,
                    }
                }
            });
        }
        if changed.is_everything {
            places = (0..logs.len()).collect();
        }
        svcore::sort::sort(&mut places);
        places.dedup();
        for place in places {
            self.look(place, logs);
        }
        if changed.is_tree {
            for (place, log) in logs.iter_mut().enumerate() {
                self.follow_link(place, log);
            }
        }
        Ok(changed)
    }
}
