//! What happens to the directory of a service while it is supervised: a log service that appears or is replaced, a
//! `./run` that appears, a `supervise` that vanishes, a directory that is removed and made anew.
//!
//! A directory counts as removed only if no link to it exists (`st_nlink` is 0). If its name leads nowhere or
//! elsewhere, or cannot be looked up at the moment, nothing follows from that: directories are renamed, and links are
//! switched.
//!
//! Each function here takes one look. It is called again when a watch signals something, or by [`Service::tick`];
//! nothing loops until the file system holds still.

use std::time::Duration;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, statat};

use super::Service;
use super::log::LogUnit;
use super::unit::{is_removed, open_directory, wanted_at_start};
use crate::control::Command;
use crate::error::Failed;
use crate::files;
use crate::moment::{Moment, earlier};
use crate::path;
use crate::role::Role;
use crate::service::step::{Event, Now};
use crate::status::Want;
use crate::sys::watch;

/// How long a missing `supervise` is left alone: perhaps the whole directory is being removed.
const REPAIR_AFTER: Duration = Duration::from_secs(1);
/// How long a new directory in the place of a removed one is left alone: whoever serves the directory of service
/// directories tells us to end as soon as it sees the new one, and starts another supervisor there.
const FOLLOW_AFTER: Duration = Duration::from_millis(500);
/// A directory that is being filled counts as complete when nothing in it has changed for this long.
const SETTLED: Duration = Duration::from_millis(20);
/// It counts as complete after this time in any case.
const SETTLED_LAST: Duration = Duration::from_millis(100);

/// What is known of the service directory and of what is around it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    presence: Presence,
    /// `./run` appeared, and the directory does not count as complete yet.
    settling: Option<Settling>,
    /// `log/` is there but not `log/run`; held open because it is watched.
    log_to_come: Option<OwnedFd>,
    /// `log/` has no `run`, and does not count as complete yet.
    log_settling: Option<Settling>,
    /// `log/`, which is not taken up yet, counts as complete without `run`.
    pub(super) log_is_complete: bool,
    /// Directories in which the service directory vanishes or the new one appears; held open because they are watched.
    around: Vec<OwnedFd>,
    /// Removals in `supervise` are signalled to us.
    supervise_watched: bool,
}

/// Whether the service directory is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Presence {
    #[default]
    There,
    /// It was removed.
    Gone {
        /// A new one is in its place, and is followed at this moment.
        follow_at: Option<Moment>,
    },
    /// It was removed and made anew. After this service has ended the new one is to be served.
    Replaced,
}

/// When a directory that is being filled counts as complete.
#[derive(Debug, Clone, Copy)]
struct Settling {
    /// If nothing in it changes until then.
    calm_at: Moment,
    /// In any case.
    latest: Moment,
}

impl Settling {
    fn at(self) -> Moment {
        self.calm_at.min(self.latest)
    }

    /// Something has changed now.
    fn again(before: Option<Self>, now: Moment) -> Self {
        let latest = before.map_or(now.saturating_add(SETTLED_LAST), |settling| settling.latest);
        Settling { calm_at: now.saturating_add(SETTLED), latest }
    }
}

impl Surroundings {
    pub(super) const fn is_gone(&self) -> bool {
        !matches!(self.presence, Presence::There)
    }

    pub(super) const fn is_replaced(&self) -> bool {
        matches!(self.presence, Presence::Replaced)
    }

    /// A new directory is not to be served after this service has ended.
    pub(super) const fn do_not_follow(&mut self) {
        if self.is_replaced() {
            self.presence = Presence::Gone { follow_at: None };
        }
    }

    /// When a directory that is being filled counts as complete, if there is one.
    pub(super) fn settled_at(&self) -> Option<Moment> {
        earlier(self.settling.map(Settling::at), self.log_settling.map(Settling::at))
    }

    /// `log/` has no `run` now: perhaps somebody is filling it.
    pub(super) fn settle_log(&mut self, now: Moment) {
        self.log_settling = Some(Settling::again(self.log_settling, now));
    }
}

impl Service {
    /// Something in the service directory changed, or nearby.
    pub(crate) fn look_again(&mut self, now: Now) {
        if is_removed(self.main.dir.as_fd()) {
            self.look_for_successor(now);
            return;
        }
        self.look_at_policies();
        self.look_at_log(now);
        self.look_at_run(now);
        self.look_at_supervise(now);
    }

    /// The directories that are watched for it, by the numbers of their descriptors.
    pub(crate) fn watches(&self) -> impl Iterator<Item = i32> {
        let others = self.surroundings.log_to_come.iter().chain(&self.surroundings.around);
        let of_service = self.units().map(|unit| &unit.dir).chain(others).map(AsRawFd::as_raw_fd);
        of_service.chain(self.confinement.watched())
    }

    /// From now on the removal of an entry of `supervise` is signalled, as a change of the directory is.
    ///
    /// So is each file of our own that we rename there, so this is for few services.
    pub fn watch_supervise(&mut self) {
        self.surroundings.supervise_watched = true;
        for unit in self.units() {
            unit.watch_removals();
        }
    }

    /// Something in a `supervise` directory was removed or renamed.
    pub(crate) fn look_for_removals(&mut self, now: Now) {
        if self.units().any(|unit| unit.supervise.has_lost_a_file()) {
            self.look_again(now);
        }
    }

    /// Watches the directories in which the path of the service directory may come to lead elsewhere.
    fn watch_around(&mut self) {
        let way = path::directories_to_watch(self.label.path().to_bytes(), true);
        self.surroundings.around = way
            .iter()
            .filter_map(|dir| open_directory(CWD, dir).ok())
            .filter(|dir| watch::signal_changes(dir.as_fd()).is_ok())
            .collect();
    }

    /// The directory is removed: a new one of its name is to be served in its place.
    fn look_for_successor(&mut self, now: Now) {
        let follow_at = match self.surroundings.presence {
            Presence::Replaced => return,
            Presence::Gone { follow_at } => follow_at,
            Presence::There => {
                self.label.warn(b"service directory is gone: waiting for its return", None);
                None
            }
        };
        self.watch_around();
        // In this order: it may have come back before the watch was set.
        let found = files::look(CWD, self.label.path());
        let is_directory = |stat: &Option<_>| stat.as_ref().is_some_and(files::is_dir);
        if !found.as_ref().is_ok_and(is_directory) {
            self.surroundings.presence = Presence::Gone { follow_at: None };
            // Without a watch for that, it is looked at again later.
            if found.is_err() || self.surroundings.around.is_empty() {
                self.repair.after_failure(now.at);
            }
            return;
        }
        let at = follow_at.unwrap_or(now.at.saturating_add(FOLLOW_AFTER));
        if now.at < at {
            self.surroundings.presence = Presence::Gone { follow_at: Some(at) };
            self.repair.at_latest(at);
            return;
        }
        self.label.warn(b"service directory was made anew: ending the old service", None);
        self.surroundings.presence = Presence::Replaced;
        self.handle(now, Role::Main, Event::Command(Command::Exit));
    }

    /// Takes up a directory `log` that was not there at the start or is another one now, as soon as it can run.
    pub(super) fn look_at_log(&mut self, now: Now) {
        if self.departure.is_begun() {
            return;
        }
        let known = self.log.as_ref().map(|log| log.identity());
        let stat = statat(&self.main.dir, c"log", AtFlags::empty()).ok();
        let is_new = |stat: &_| files::is_dir(stat) && known != Some(files::identity(stat));
        if !stat.as_ref().is_some_and(is_new) {
            self.surroundings.log_to_come = None;
            if self.surroundings.log_settling.is_some() && self.log.is_some() {
                self.surroundings.settle_log(now.at);
            }
            self.give_way_to_log_run(now);
            return;
        }
        let Ok(dir) = open_directory(self.main.dir.as_fd(), c"log") else {
            self.repair.after_failure(now.at);
            return;
        };
        // Before the look at `run`, so that none is missed.
        let _ = watch::signal_changes(dir.as_fd());
        let run = files::look(dir.as_fd(), c"run");
        let is_missing = matches!(run, Ok(None));
        let can_run = run.is_ok_and(|run| run.is_some_and(|run| files::is_executable(&run)));
        // Without `run` it is kept by this suite, once nobody is filling it any more.
        let is_complete = std::mem::take(&mut self.surroundings.log_is_complete) && is_missing;
        if !can_run && !is_complete {
            self.surroundings.log_to_come = Some(dir);
            if is_missing {
                self.surroundings.settle_log(now.at);
            }
            return;
        }
        (self.surroundings.log_to_come, self.surroundings.log_settling) = (None, None);
        if let Err(error) = self.take_up_log(now, dir, is_complete) {
            self.failed(now, &error);
        }
    }

    fn take_up_log(&mut self, now: Now, dir: OwnedFd, is_complete: bool) -> Result<(), Failed> {
        let is_first = self.log.is_none();
        match &mut self.log {
            Some(log) => log.move_to(dir, &self.label, is_complete)?,
            None => {
                let mut log = LogUnit::open(dir, &self.label, now)?;
                log.hosting.is_complete |= is_complete;
                self.log = Some(log);
                if let Some(outputs) = self.outputs.as_mut().filter(|outputs| outputs.log.is_none()) {
                    // Where they cannot be had, it writes to those of the supervisor.
                    outputs.log = (outputs.late.0)().ok();
                }
            }
        }
        if self.surroundings.supervise_watched {
            self.watch_supervise();
        }
        if is_first {
            self.handle(now, Role::Log, Event::Tick);
        } else {
            // It is to run in the new directory. Its lines wait in the pipe.
            self.handle(now, Role::Log, Event::Command(Command::Restart));
            self.handle(now, Role::Log, Event::Command(Command::Continue));
        }
        self.publish(now);
        self.log.as_mut().map_or(Ok(()), |log| log.unit.supervise.announce())
    }

    /// A `./run` that could not be executed, and is there now, is started when nobody writes to the directory any more.
    ///
    /// Whoever fills a directory file by file may write `down` after `run`.
    fn look_at_run(&mut self, now: Now) {
        let is_there = || files::look(self.main.dir.as_fd(), c"run").is_ok_and(|run| run.is_some());
        if !self.main.machine.waits_for_run() || !is_there() {
            self.surroundings.settling = None;
            return;
        }
        let settling = &mut self.surroundings.settling;
        *settling = Some(Settling::again(*settling, now.at));
    }

    /// Has the new `./run` started once the directory counts as complete.
    pub(super) fn take_up_if_settled(&mut self, now: Now) {
        if self.surroundings.settling.take_if(|settling| now.at >= settling.at()).is_some() {
            let down = wanted_at_start(self.main.dir.as_fd()) == Want::Down;
            self.handle(now, Role::Main, Event::RunChanged { down });
        }
        if self.surroundings.log_settling.take_if(|settling| now.at >= settling.at()).is_some() {
            self.log_is_complete(now);
        }
    }

    /// Has a `supervise` that was removed or replaced made again after a moment.
    fn look_at_supervise(&mut self, now: Now) {
        if self.units().all(|unit| unit.is_in_order()) {
            self.surroundings.around.clear();
            return;
        }
        self.repair.at_latest(now.at.saturating_add(REPAIR_AFTER));
        if self.surroundings.around.is_empty() {
            // Perhaps the whole directory is being removed; the last step of that is seen only from around it.
            self.watch_around();
            if is_removed(self.main.dir.as_fd()) {
                self.look_for_successor(now);
            }
        }
    }

    /// Puts in order what was not: watches, `supervise`, the files in it.
    pub(super) fn put_in_order(&mut self, now: Now) {
        if !self.main.watched {
            self.main.watched = watch::signal_changes(self.main.dir.as_fd()).is_ok();
            if !self.main.watched && watch::MAY_WORK {
                self.repair.after_failure(now.at);
            }
        }
        if is_removed(self.main.dir.as_fd()) {
            self.look_for_successor(now);
            return;
        }
        self.look_at_policies();
        self.look_at_log(now);
        self.look_at_run(now);
        let watched = self.surroundings.supervise_watched;
        let repaired = self.main.repair(&self.label, watched);
        let repaired = repaired.and_then(|()| match &mut self.log {
            Some(log) => log.unit.repair(&self.label, watched),
            None => Ok(()),
        });
        if let Err(error) = repaired {
            self.failed(now, &error);
            return;
        }
        self.publish(now);
        if self.repair.at().is_none() {
            self.repair.succeeded();
        }
    }
}
