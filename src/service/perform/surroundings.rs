//! What happens to the directory of a service while it is supervised: a log service that appears, a `./run` that
//! appears, a `supervise` that vanishes, a directory that goes and comes back or is made anew.

use rustix::fd::AsFd;
use rustix::fs::CWD;

use super::{Log, REPAIR_AFTER, Service, open_service, places, wanted_at_start};
use crate::control::Command;
use crate::files;
use crate::service::pair::Which;
use crate::service::words::{Event, Now};
use crate::status::Want;
use crate::supervise::Supervise;
use crate::sys::spawn::number;
use crate::sys::watch;

impl Service {
    /// Something in the service directory changed, or nearby.
    pub fn look_again(&mut self, now: Now) {
        match files::look(CWD, &self.name) {
            Ok(Some(stat)) if files::identity(&stat) == self.identity => {
                if std::mem::take(&mut self.gone) {
                    self.warn(b"service directory is back", None);
                }
            }
            Ok(Some(stat)) if files::is_dir(&stat) => {
                if !self.replaced {
                    self.warn(b"service directory was made anew: ending the old service", None);
                    self.replaced = true;
                    self.gone = true;
                    self.tell(now, Which::Main, Event::Command(Command::Exit));
                }
                return;
            }
            Ok(_) | Err(_) => {
                self.wait_for_return(now);
                return;
            }
        }
        if self.log.is_none() {
            self.look_for_log(now);
        }
        if self.pair.main().waits_for_run()
            && files::look(self.dir.as_fd(), c"run").is_ok_and(|it| it.is_some())
        {
            let down = wanted_at_start(self.dir.as_fd(), c"down") == Want::Down;
            self.tell(now, Which::Main, Event::RunChanged { down });
        }
        let log_is_lost = self.log.as_ref().is_some_and(|log| !log.supervise.is_in_place(log.dir.as_fd()));
        if log_is_lost || !self.supervise.is_in_place(self.dir.as_fd()) {
            // Perhaps the whole directory is going; the last of that is seen only from around it.
            self.repair_at.get_or_insert(now.at.saturating_add(REPAIR_AFTER));
            if self.around.is_empty() {
                self.watch_around();
                self.look_again(now);
            }
        } else {
            self.around.clear();
        }
    }

    /// The directories that are watched for it, by the numbers of their descriptors.
    pub fn watches(&self) -> impl Iterator<Item = i32> {
        [&self.dir].into_iter().chain(&self.log_to_come).chain(&self.around).map(|dir| number(dir.as_fd()))
    }

    /// Watches the directories in which the way to ours may change.
    fn watch_around(&mut self) {
        self.around = crate::exec::way_of(self.name.to_bytes(), true)
            .iter()
            .filter_map(|dir| open_service(CWD, dir).ok())
            .inspect(|dir| {
                // Without it, the change is seen at the next command or end.
                let _ = watch::signal_changes(dir.as_fd());
            })
            .collect();
    }

    /// The directory is gone: the new one is seen from around it.
    fn wait_for_return(&mut self, now: Now) {
        if !self.gone {
            self.warn(b"service directory is gone: waiting for its return", None);
            self.gone = true;
        }
        self.watch_around();
        // It may have come back before the watch was set.
        if files::look(CWD, &self.name).is_ok_and(|stat| stat.is_some()) {
            self.look_again(now);
        }
    }

    /// Takes up a `log/` that was not there at the start, as soon as it can run.
    fn look_for_log(&mut self, now: Now) {
        let Ok(Some(stat)) = files::look(self.dir.as_fd(), c"log") else {
            self.log_to_come = None;
            return;
        };
        if !files::is_dir(&stat) {
            return;
        }
        let Ok(dir) = open_service(self.dir.as_fd(), c"log") else { return };
        let _ = watch::signal_changes(dir.as_fd());
        if !files::look(dir.as_fd(), c"run")
            .is_ok_and(|run| run.is_some_and(|run| files::is_executable(&run)))
        {
            self.log_to_come = Some(dir);
            return;
        }
        self.log_to_come = None;
        match Log::open(dir, &self.name) {
            Ok(log) => {
                self.pair.add_log(log.machine(now));
                self.log = Some(log);
                if let Some(outputs) = self.outputs.as_mut().filter(|outputs| outputs.log.is_none()) {
                    // Where they cannot be had, it writes to what we have.
                    outputs.log = (outputs.late.0)().ok();
                }
                self.unpublished.1 = true;
                self.tell(now, Which::Log, Event::Tick);
                self.publish(now);
                if let Some(Err(error)) = self.log.as_mut().map(|log| log.supervise.announce()) {
                    self.warn_of(&error);
                }
            }
            Err(error) => self.warn_of(&error),
        }
    }

    /// Makes a `supervise` that is gone anew, where the service directory still is.
    pub(super) fn repair(&mut self, now: Now) {
        self.look_again(now);
        self.repair_at = None;
        if self.gone {
            return;
        }
        let mut failed = None;
        if !self.supervise.is_in_place(self.dir.as_fd()) {
            match Supervise::open(self.dir.as_fd(), "supervise", || places(&self.name, b"")) {
                Ok(supervise) => self.supervise = supervise,
                Err(error) => failed = Some(error),
            }
            self.unpublished.0 = true;
        }
        if let Some(log) = &mut self.log
            && !log.supervise.is_in_place(log.dir.as_fd())
        {
            match Supervise::open(log.dir.as_fd(), "log/supervise", || places(&self.name, b".log")) {
                Ok(supervise) => log.supervise = supervise,
                Err(error) => failed = Some(error),
            }
            self.unpublished.1 = true;
        }
        if failed.is_none() {
            self.publish(now);
            failed = self.supervise.announce().err();
            if let Some(log) = &mut self.log {
                failed = failed.or(log.supervise.announce().err());
            }
        }
        if let Some(error) = failed {
            if !self.publishing_failed {
                self.warn_of(&error);
            }
            self.publishing_failed = true;
            self.repair_at = Some(now.at.saturating_add(REPAIR_AFTER));
        }
    }
}
