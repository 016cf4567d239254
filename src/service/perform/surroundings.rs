//! What happens to the directory of a service while it is supervised: a log service that appears or is replaced, a
//! `./run` that appears, a `supervise` that vanishes, a directory that is removed and made anew.
//!
//! Only a directory without any link to it (`st_nlink` is 0) is removed. That its name leads nowhere, or elsewhere, or
//! cannot be looked up at the moment says nothing: directories are renamed, and links are switched.
//!
//! Each function here takes one look. Whoever calls is called again by a watch, or by [`Service::deadline`]; nothing
//! loops until the file system holds still.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, fstat, statat};
use rustix::io::Errno;

use super::{
    FOLLOW_AFTER, Log, REPAIR_AFTER, RETRY_FIRST, SETTLED, SETTLED_LAST, Service, home, open_service,
    wanted_at_start,
};
use crate::control::Command;
use crate::error::{Failed, Result};
use crate::files;
use crate::moment::earlier;
use crate::service::pair::Which;
use crate::service::words::{Event, Now};
use crate::status::Want;
use crate::supervise::{self, Supervise};
use crate::sys::watch;

impl Service {
    /// Something in the service directory changed, or nearby.
    pub fn look_again(&mut self, now: Now) {
        if is_removed(self.dir.as_fd()) {
            self.look_for_successor(now);
            return;
        }
        self.look_at_log(now);
        self.look_at_run(now);
        self.look_at_supervise(now);
    }

    /// The directories that are watched for it, by the numbers of their descriptors.
    pub fn watches(&self) -> impl Iterator<Item = i32> {
        let log = self.log.iter().map(|log| log.dir.as_fd());
        [self.dir.as_fd()]
            .into_iter()
            .chain(log)
            .chain(self.log_to_come.iter().chain(&self.around).map(AsFd::as_fd))
            .map(|dir| dir.as_raw_fd())
    }

    /// Its `supervise` directories.
    pub fn supervise_dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.supervise.dir()].into_iter().chain(self.log.iter().map(|log| log.supervise.dir()))
    }

    /// From now on the removal of an entry of `supervise` is told to us by a signal, as a change of the directory is.
    ///
    /// So is each file that we ourselves give another name, so this is for few services.
    pub fn watch_supervise(&mut self) {
        self.watches_supervise = true;
        for dir in self.supervise_dirs() {
            // Where that does not work, it is noticed when something else happens.
            let _ = watch::signal_removals(dir);
        }
    }

    /// Something in a `supervise` directory was removed or got another name.
    pub fn look_for_removals(&mut self, now: Now) {
        if self.supervise.has_lost() || self.log.as_ref().is_some_and(|log| log.supervise.has_lost()) {
            self.look_again(now);
        }
    }

    /// Watches the directories in which the way to ours may change.
    fn watch_around(&mut self) {
        self.around = crate::path::directories_to_watch(self.name.to_bytes(), true)
            .iter()
            .filter_map(|dir| open_service(CWD, dir).ok())
            .filter(|dir| watch::signal_changes(dir.as_fd()).is_ok())
            .collect();
    }

    /// The directory is removed: a new one of its name is to be served in its place.
    fn look_for_successor(&mut self, now: Now) {
        if self.replaced {
            return;
        }
        if !std::mem::replace(&mut self.gone, true) {
            self.warn(b"service directory is gone: waiting for its return", None);
        }
        self.watch_around();
        // It may have come back before the watch was set.
        match files::look(CWD, &self.name) {
            Ok(Some(stat)) if files::is_dir(&stat) => {
                let at = *self.follow_at.get_or_insert(now.at.saturating_add(FOLLOW_AFTER));
                if now.at < at {
                    self.repair_at = earlier(self.repair_at, Some(at));
                    return;
                }
                self.warn(b"service directory was made anew: ending the old service", None);
                self.replaced = true;
                self.tell(now, Which::Main, Event::Command(Command::Exit));
            }
            // Nothing, or a file: the watch tells when that changes.
            Ok(_) if !self.around.is_empty() => self.follow_at = None,
            Ok(_) | Err(_) => {
                self.follow_at = None;
                self.try_again(now);
            }
        }
    }

    /// Takes up a directory `log` that was not there at the start or is another one now, as soon as it can run.
    pub(super) fn look_at_log(&mut self, now: Now) {
        if self.pair.is_leaving() {
            return;
        }
        let known = self.log.as_ref().map(|log| log.identity);
        let Ok(stat) = statat(&self.dir, c"log", AtFlags::empty()) else {
            self.log_to_come = None;
            return;
        };
        if !files::is_dir(&stat) || known == Some(files::identity(&stat)) {
            self.log_to_come = None;
            return;
        }
        let Ok(dir) = open_service(self.dir.as_fd(), c"log") else {
            self.try_again(now);
            return;
        };
        // Before the look at `run`, so that none is missed.
        let _ = watch::signal_changes(dir.as_fd());
        let can_run = files::look(dir.as_fd(), c"run")
            .is_ok_and(|run| run.is_some_and(|run| files::is_executable(&run)));
        if !can_run {
            self.log_to_come = Some(dir);
            return;
        }
        self.log_to_come = None;
        let taken = match &mut self.log {
            Some(log) => log.move_to(dir, &self.name, &self.who),
            None => Log::open(dir, &self.name, &self.who).map(|log| {
                self.pair.add_log(log.machine(now));
                self.log = Some(log);
                if let Some(outputs) = self.outputs.as_mut().filter(|outputs| outputs.log.is_none()) {
                    // Where they cannot be had, it writes to what we have.
                    outputs.log = (outputs.late.0)().ok();
                }
            }),
        };
        if let Err(error) = taken {
            self.failed(now, &error);
            return;
        }
        self.unpublished.1 = true;
        self.new_controls.1 = true;
        if self.watches_supervise {
            self.watch_supervise();
        }
        if known.is_some() {
            // It is to run in the new directory. Its lines wait in the pipe.
            self.tell(now, Which::Log, Event::Command(Command::Restart));
            self.tell(now, Which::Log, Event::Command(Command::Continue));
        } else {
            self.tell(now, Which::Log, Event::Tick);
        }
        self.publish(now);
        if let Some(Err(error)) = self.log.as_mut().map(|log| log.supervise.announce()) {
            self.failed(now, &error);
        }
    }

    /// A `./run` that could not be executed, and is there now, is started when nobody writes to the directory any more.
    ///
    /// Whoever fills a directory file by file may write `down` after `run`.
    fn look_at_run(&mut self, now: Now) {
        let is_there = || files::look(self.dir.as_fd(), c"run").is_ok_and(|run| run.is_some());
        if !self.pair.main().waits_for_run() || !is_there() {
            self.settling = None;
            return;
        }
        let latest = self.settling.map_or(now.at.saturating_add(SETTLED_LAST), |(_, latest)| latest);
        self.settling = Some((now.at.saturating_add(SETTLED), latest));
    }

    /// Tells the service of its `./run` once the directory counts as complete.
    pub(super) fn take_up_if_settled(&mut self, now: Now) {
        if self.settling.take_if(|(earliest, latest)| now.at >= (*earliest).min(*latest)).is_some() {
            let down = wanted_at_start(self.dir.as_fd(), c"down") == Want::Down;
            self.tell(now, Which::Main, Event::RunChanged { down });
        }
    }

    /// A `supervise` that is not what it was is made again after a moment.
    fn look_at_supervise(&mut self, now: Now) {
        let is_in_place = |supervise: &Supervise, parent: BorrowedFd<'_>| {
            supervise.is_in_place(parent) && supervise.is_whole()
        };
        let log = self.log.as_ref();
        if is_in_place(&self.supervise, self.dir.as_fd())
            && log.is_none_or(|log| is_in_place(&log.supervise, log.dir.as_fd()))
        {
            self.around.clear();
            return;
        }
        self.repair_at = earlier(self.repair_at, Some(now.at.saturating_add(REPAIR_AFTER)));
        if self.around.is_empty() {
            // Perhaps the whole directory is going; the last of that is seen only from around it.
            self.watch_around();
            if is_removed(self.dir.as_fd()) {
                self.look_for_successor(now);
            }
        }
    }

    /// Puts in order what was not: watches, `supervise`, the files in it.
    pub(super) fn repair(&mut self, now: Now) {
        if !self.watched {
            self.watched = watch::signal_changes(self.dir.as_fd()).is_ok();
            if !self.watched && watch::MAY_WORK {
                self.try_again(now);
            }
        }
        if is_removed(self.dir.as_fd()) {
            self.look_for_successor(now);
            return;
        }
        self.look_at_log(now);
        self.look_at_run(now);
        if let Err(error) = self.repair_main().and_then(|()| self.repair_log()) {
            self.failed(now, &error);
            return;
        }
        self.publish(now);
        if self.repair_at.is_none() {
            self.failure_said = false;
            self.retry_pause = RETRY_FIRST;
        }
    }

    fn repair_main(&mut self) -> Result<(), Failed> {
        if !self.supervise.is_in_place(self.dir.as_fd()) {
            self.supervise =
                Supervise::open(supervise::MAIN, &home(self.dir.as_fd(), &self.name, false, &self.who))?;
        } else if self.supervise.is_whole() {
            return Ok(());
        } else {
            self.supervise.make_whole()?;
        }
        (self.unpublished.0, self.new_controls.0) = (true, true);
        if self.watches_supervise {
            self.watch_supervise();
        }
        self.supervise.announce()
    }

    fn repair_log(&mut self) -> Result<(), Failed> {
        let Some(log) = &mut self.log else { return Ok(()) };
        if !log.supervise.is_in_place(log.dir.as_fd()) {
            if is_removed(log.dir.as_fd()) {
                // The one that comes in its place is taken up when it is there.
                return Ok(());
            }
            log.supervise =
                Supervise::open(supervise::LOG, &home(log.dir.as_fd(), &self.name, true, &self.who))?;
        } else if log.supervise.is_whole() {
            return Ok(());
        } else {
            log.supervise.make_whole()?;
        }
        (self.unpublished.1, self.new_controls.1) = (true, true);
        if self.watches_supervise {
            let _ = watch::signal_removals(log.supervise.dir());
        }
        log.supervise.announce()
    }

    /// Tells of a failure once, and tries again later.
    pub(super) fn failed(&mut self, now: Now, error: &Failed) {
        if !std::mem::replace(&mut self.failure_said, true) {
            self.warn_of(error);
        }
        self.try_again(now);
    }
}

/// Whether a directory has no name any more.
fn is_removed(dir: BorrowedFd<'_>) -> bool {
    match fstat(dir) {
        Ok(stat) => stat.st_nlink == 0,
        // A network file system says so of what others removed.
        Err(errno) => errno == Errno::STALE,
    }
}
