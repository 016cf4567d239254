//! What keeps the processes of `./run` together, so that none stays behind: its process group (`kill-group`) or its control
//! group (`cgroup/`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{io, path::Path};

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::fstat;

use super::Service;
use super::label::Label;
use crate::cgroup::{Cgroup, open_settings};
use crate::error::{Context, Failed};
use crate::facts::Facts;
use crate::files;
use crate::policy::PolicyFile;
use crate::process::Ended;
use crate::recent::Recent;
use crate::say::Message;
use crate::service::step::Now;
use crate::tai::Tai64N;
use crate::{Signal, sys::watch};

/// The user was told that services get no control groups here. The reason is the same for all, so one line is enough.
static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// The control group of a service.
#[derive(Debug, Default)]
pub(super) struct Confinement {
    /// When `./run` last ended after the kernel had killed something in the control group for lack of memory.
    out_of_memory: Option<Tai64N>,
    cgroup: Option<Box<Cgroup>>,
    /// The directory of a group whose last process is waited for, by the number of its descriptor: the end is signalled.
    watched: Option<i32>,
}

impl Confinement {
    /// Whether it has a control group.
    pub(super) const fn has_cgroup(&self) -> bool {
        self.cgroup.is_some()
    }

    /// The directory that is watched for it, by the number of its descriptor.
    pub(super) const fn watched(&self) -> Option<i32> {
        self.watched
    }

    /// Adds what others may want to know.
    pub(super) const fn note_facts(&self, facts: &mut Facts) {
        facts.out_of_memory = self.out_of_memory;
    }

    /// Kills all processes of the control group.
    pub(super) fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// Removes the control group. Returns whether that has to wait for the end of processes in it, which were killed.
    pub(super) fn is_ending(&mut self) -> bool {
        let Some(cgroup) = &mut self.cgroup else { return false };
        // The last process may end before the watch is set, so it is looked once more after that.
        while let Some(left) = cgroup.remove() {
            if self.watched == Some(left.as_raw_fd()) {
                return true;
            }
            self.watched = watch::signal_changes_and_writes(left).ok().map(|()| left.as_raw_fd());
            cgroup.kill();
            if self.watched.is_none() {
                return false;
            }
        }
        self.cgroup = None;
        self.watched = None;
        false
    }
}

/// How `./run` is to be started.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// It leads a process group, which gets the signals.
    pub(super) is_group: bool,
    /// It enters the control group through this file.
    pub(super) entrance: Option<OwnedFd>,
}

impl Service {
    /// The service is taken up: ends what an earlier supervisor left in its control group.
    pub(super) fn take_over_cgroup(&mut self) {
        if self.policies.has(PolicyFile::Cgroup) && open_settings(self.main.dir.as_fd()).is_ok() {
            match self.open_cgroup() {
                Ok(cgroup) => self.confinement.cgroup = Some(cgroup),
                Err(failed) => report(&self.label, &failed),
            }
        }
    }

    /// `./run` is about to be started.
    pub(super) fn confine(&mut self, now: Now) -> Start {
        let mut is_group = self.has_policy_file(PolicyFile::KillGroup);
        let mut entrance = None;
        if self.policies.has(PolicyFile::Cgroup) {
            match open_settings(self.main.dir.as_fd()) {
                Ok(settings) => match self.prepare_cgroup(now, &settings) {
                    Ok(file) => entrance = Some(file),
                    Err(failed) => {
                        report(&self.label, &failed);
                        is_group = true;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let why = crate::error::reason(&error);
                    self.report_policy(PolicyFile::Cgroup, why);
                }
            }
        }
        if entrance.is_none() {
            self.confinement.is_ending();
        }
        Start { is_group, entrance }
    }

    /// `./run` could not enter its control group: it is started once more, with a process group.
    pub(super) fn report_no_cgroup(&self, failed: &Failed) {
        report(&self.label, failed);
    }

    /// `./run` has ended. Kills what is left in its control group, and tells if the kernel killed something in it.
    pub(super) fn end_confinement(&mut self, now: Now, how: Ended) {
        let Some(cgroup) = &mut self.confinement.cgroup else { return };
        cgroup.kill();
        let is_killed = matches!(how, Ended::Signal { signal: Signal::KILL, .. });
        let what = match cgroup.take_killed_for_memory() {
            0 => return,
            _ if is_killed => "out of memory: the kernel has killed it".to_owned(),
            1 => "out of memory: the kernel has killed one of its processes".to_owned(),
            many => format!("out of memory: the kernel has killed {many} of its processes"),
        };
        self.confinement.out_of_memory = Some(now.stamp);
        warn_of_news(&mut self.recent, now, &Message::warning(&self.label.who, &what));
    }

    /// Makes the control group for the next process, and writes its settings.
    fn prepare_cgroup(&mut self, now: Now, settings: &OwnedFd) -> Result<OwnedFd, Failed> {
        self.confinement.watched = None;
        let is_renewed = self.confinement.cgroup.as_mut().is_some_and(|cgroup| cgroup.renew().is_ok());
        if !is_renewed {
            // The first time; or somebody has removed ours, with the one above it.
            self.confinement.cgroup = Some(self.open_cgroup()?);
        }
        let Some(cgroup) = &self.confinement.cgroup else {
            return Err(Failed::without_cause("unable to make one"));
        };
        cgroup.apply(settings.as_fd(), |failed| {
            let message = Message::of(crate::say::Class::Warning, &self.label.who, failed);
            warn_of_news(&mut self.recent, now, &message);
        });
        cgroup.entrance().while_doing(|| "unable to enter it")
    }

    fn open_cgroup(&self) -> Result<Box<Cgroup>, Failed> {
        let stat = fstat(&self.main.dir).while_doing(|| "unable to stat the service directory")?;
        let identity = files::identity(&stat);
        Ok(Box::new(Cgroup::open(self.last_name(), identity)?))
    }

    /// The last name of its path, which is what `sv` calls it.
    pub(super) fn last_name(&self) -> &[u8] {
        let path = Path::new(self.label.name());
        path.file_name().unwrap_or(path.as_os_str()).as_encoded_bytes()
    }
}

/// Tells, once for all services, why there is no control group.
fn report(label: &Label, failed: &Failed) {
    if !IS_REPORTED.swap(true, Relaxed) {
        let what = b"cgroup: no control group can be had, kill-group holds in its place: ";
        label.warn(&[what, failed.doing()].concat(), failed.cause());
    }
}

fn warn_of_news(recent: &mut Recent, now: Now, message: &Message<'_>) {
    if recent.is_new(now.at, &message.text()) {
        message.print_now();
    }
}
