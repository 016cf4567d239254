//! Following logs: waits until something is written to one of them, or leads to another one, and for nothing else.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd};
use rustix::stdio::stdout;
use svcore::client::{Base, LOG, Target};
use svcore::event::{self, Wait};
use svcore::label::Label;
use svcore::moment::{Moment, earlier};
use svcore::old_log::{Kind, OldLog};
use svcore::say::Message;
use svcore::sys::clock;
use svcore::sys::watch::{self, Inotify};

use super::LOOK_EVERY;
use super::find::own_name;
use super::lines::Log;
use super::way;

/// What a directory is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The log with this number.
    Log(usize),
    /// What leads to the log of the service in this place, or to one that there is not yet.
    Way(usize),
    /// The supervisor of the log service of the service in this place.
    Status(usize),
    /// The directory of services.
    Tree,
}

/// A reason to watch a directory.
#[derive(Debug, PartialEq, Eq)]
struct Reason {
    what: What,
    /// Only changes of this entry count, and of the directory itself.
    entry: Option<Vec<u8>>,
}

/// What has changed, but for what was written to logs.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The places of services whose log may be another one.
    pub(super) ways: Vec<usize>,
    /// The places of services whose log service has changed.
    pub(super) statuses: Vec<usize>,
    /// Services may have appeared or gone.
    pub(super) is_tree: bool,
    /// Nobody knows what has changed.
    pub(super) is_everything: bool,
}

impl Changed {
    /// Nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        self.ways.is_empty() && self.statuses.is_empty() && !self.is_tree && !self.is_everything
    }
}

/// The watches of directories.
pub(super) struct Follower {
    inotify: Option<Inotify>,
    /// In the order of the numbers of the watches.
    watched: Vec<(i32, Vec<Reason>)>,
    /// Logs without a watch, by number.
    unwatched: Vec<usize>,
}

impl Follower {
    /// Begins to watch the logs. What is written from now on is noticed.
    pub(super) fn new(logs: &[Log]) -> Self {
        let mut follower =
            Follower { inotify: Inotify::new().ok(), watched: Vec::new(), unwatched: Vec::new() };
        for log in logs {
            follower.watch(log);
        }
        if !follower.unwatched.is_empty() {
            let what = "some logs cannot be watched, so they are looked at once a second";
            Message::info("svctl", what).print();
        }
        follower
    }

    /// Watches the directory of a log.
    pub(super) fn watch(&mut self, log: &Log) {
        if !self.add(log.path(), What::Log(log.id), None) && !self.unwatched.contains(&log.id) {
            self.unwatched.push(log.id);
        }
    }

    /// Watches a log no more.
    pub(super) fn forget(&mut self, log: &Log) {
        self.unwatched.retain(|id| *id != log.id);
        self.forget_reasons(&|what| what == What::Log(log.id));
        self.sweep();
    }

    fn forget_reasons(&mut self, is_meant: &dyn Fn(What) -> bool) {
        for (_, reasons) in &mut self.watched {
            reasons.retain(|reason| !is_meant(reason.what));
        }
    }

    /// Ends watches without a reason.
    pub(super) fn sweep(&mut self) {
        let inotify = &self.inotify;
        self.watched.retain(|(watch, reasons)| {
            if reasons.is_empty()
                && let Some(inotify) = inotify
            {
                inotify.remove(*watch);
            }
            !reasons.is_empty()
        });
    }

    /// Watches the directory of services. Returns whether that is possible.
    pub(super) fn watch_tree(&mut self, path: &Path) -> bool {
        self.forget_reasons(&|what| what == What::Tree);
        // Not what it is in, such as /tmp: others may change that all the time.
        for (directory, name) in way::links(path) {
            if directory.join(&name).is_symlink() {
                self.add(&directory, What::Tree, Some(name.as_bytes()));
            }
        }
        self.add(path, What::Tree, None)
    }

    /// Watches what leads to the log of the service in a place: links, the service directory, the log service, and its log
    /// directory if it has one. Returns whether all of it can be watched that has to be. What was watched for this place before
    /// is watched no more after the next [`Follower::sweep`].
    pub(super) fn watch_way(&mut self, place: usize, service: &Path, directory: Option<&Path>) -> bool {
        let what = What::Way(place);
        self.forget_reasons(&|other| other == what || other == What::Status(place));
        let mut is_watched = self.watch_links(service, what);
        if let Some(directory) = directory {
            is_watched &= self.watch_links(directory, what);
        }
        let log = service.join("log");
        let is_service_watched = self.add(service, what, Some(b"log"));
        if !log.is_dir() {
            return is_watched && is_service_watched;
        }
        self.watch_links(&log, what);
        let supervised = self.add(&supervise_of(service), What::Status(place), None);
        if directory.is_some() {
            // A rotation in this directory leads nowhere else.
            let is_log_watched = self.add(&log, what, Some(b"main"));
            self.add(&log, what, Some(b"supervise"));
            return is_watched && is_service_watched && is_log_watched;
        }
        let is_log_watched = self.add(&log, what, None);
        // If these are not there, `log` changes when they are made.
        let _ = self.add(&log.join("main"), what, None);
        let _ = self.add(&log.join("current"), what, None);
        for own in
            own_name(service).into_iter().flat_map(|name| [log.join("main").join(&name), log.join(&name)])
        {
            let _ = self.add(&own, what, None);
        }
        is_watched && is_log_watched && supervised
    }

    /// Watches each link on the way to a directory, and its last part.
    fn watch_links(&mut self, path: &Path, what: What) -> bool {
        let mut is_watched = true;
        for (directory, name) in way::links(path) {
            is_watched &= self.add(&directory, what, Some(name.as_bytes()));
        }
        is_watched
    }

    fn add(&mut self, path: &Path, what: What, entry: Option<&[u8]>) -> bool {
        let watch = CString::new(path.as_os_str().as_bytes()).ok().and_then(|path| {
            let inotify = self.inotify.as_ref().filter(|_| !watch::is_silent(&path))?;
            match what {
                What::Log(_) => inotify.add_writes(&path).ok(),
                What::Way(_) | What::Status(_) | What::Tree => inotify.add_too(&path).ok(),
            }
        });
        let Some(watch) = watch else { return false };
        let reason = Reason { what, entry: entry.map(<[u8]>::to_vec) };
        match self.watched.binary_search_by(|(other, _)| other.cmp(&watch)) {
            Ok(at) => {
                if let Some((_, reasons)) = self.watched.get_mut(at)
                    && !reasons.contains(&reason)
                {
                    reasons.push(reason);
                }
            }
            Err(at) => self.watched.insert(at, (watch, vec![reason])),
        }
        true
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
        let mut ids = self.unwatched.clone();
        let mut rotated: Vec<(usize, Label)> = Vec::new();
        let mut changed = Changed::default();
        if let Some(inotify) = &self.inotify {
            inotify.read_each(|watch, entry| {
                changed.is_everything |= watch < 0;
                let at = self.watched.binary_search_by(|(other, _)| other.cmp(&watch));
                let reasons = at.ok().and_then(|at| self.watched.get(at)).map(|(_, reasons)| reasons);
                for reason in reasons.into_iter().flatten() {
                    if !entry.is_empty() && reason.entry.as_ref().is_some_and(|only| only != entry) {
                        continue;
                    }
                    match reason.what {
                        What::Log(id) => {
                            add_new(&mut ids, id);
                            if let Some(old) = OldLog::from_name(entry).filter(|old| old.kind != Kind::Output)
                            {
                                rotated.push((id, old.label));
                            }
                        }
                        What::Way(place) => add_new(&mut changed.ways, place),
                        What::Status(place) => add_new(&mut changed.statuses, place),
                        What::Tree => changed.is_tree = true,
                    }
                }
            });
        }
        for log in logs {
            if !changed.is_everything && !ids.contains(&log.id) {
                continue;
            }
            log.look();
            for (id, label) in &rotated {
                if *id == log.id {
                    log.was_rotated_to(*label);
                }
            }
            if log.retires.is_none() && !log.is_there() {
                add_new(&mut changed.ways, log.service);
            }
        }
        Ok(changed)
    }
}

fn add_new(list: &mut Vec<usize>, number: usize) {
    // What changes often changes several times in a row.
    if list.last() != Some(&number) && !list.contains(&number) {
        list.push(number);
    }
}

/// Where the supervisor of the log service of a service keeps its status.
fn supervise_of(service: &Path) -> PathBuf {
    let path = service.join("log/supervise");
    if path.is_dir() {
        return path;
    }
    // It may be elsewhere where the service directory cannot be written to.
    let target = Target::new(Path::new(".").join(service).as_os_str(), &Base::default());
    match target.view(&LOG) {
        Ok(view) => {
            let open = PathBuf::from(format!("/proc/self/fd/{}", view.place.as_raw_fd()));
            std::fs::read_link(&open).unwrap_or(open)
        }
        Err(_) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_listed_once() {
        let mut list = Vec::new();
        [1, 1, 2, 1].into_iter().for_each(|number| add_new(&mut list, number));
        assert_eq!(list, [1, 2]);
    }
}
