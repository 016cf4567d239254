//! The policy files of a service: which there are, and what they say when that is needed.

use std::ffi::CStr;
use std::io;
use std::sync::OnceLock;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, statat};

use super::Service;
use super::contents::Contents;
use super::notifications::NoResources;
use crate::facts::Facts;
use crate::files;
use crate::policy::{self, PolicyFile, PolicyFiles, RestartDelay, RestartLimit, Senseless};
use crate::proc_stat::Tag;
use crate::service::machine::{ReadyPolicy, RestartPolicy};
use crate::service::step::Now;

/// The longest file that is read, in bytes.
const LEN_MAX: usize = 16 * 1024;
/// The longest file with a word or numbers, in bytes.
const SHORT_MAX: usize = 128;

/// Which policy files a service has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Policies {
    files: PolicyFiles,
    /// Those about which the user was told that they make no sense.
    reported: PolicyFiles,
}

impl Policies {
    pub(super) const fn new(files: PolicyFiles) -> Self {
        Policies { files, reported: PolicyFiles::NONE }
    }

    /// Whether this one is there.
    pub(super) const fn has(&self, file: PolicyFile) -> bool {
        self.files.has(file)
    }

    /// Whether the service tells when it is ready.
    pub(super) const fn tell_ready(&self) -> bool {
        self.has(PolicyFile::NotificationFd) || self.has(PolicyFile::NotificationSocket)
    }
}

impl Service {
    /// The directory changed: finds out which policy files it has.
    pub(super) fn look_at_policies(&mut self) {
        let files = Contents::list(self.main.dir.as_fd(), true).policies;
        if files.is_empty() && self.policies.files.is_empty() {
            return;
        }
        self.policies = Policies::new(files);
        self.main.machine.set_needs(files.has(PolicyFile::Needs));
    }

    /// `./run` is about to be started, or has ended: tells the machine when it is started again.
    pub(super) fn read_restart(&mut self) {
        if !self.policies.files.has_restart() {
            self.main.machine.set_restart(None);
            return;
        }
        let restart = self.read_policy(PolicyFile::Restart, policy::Restart::parse).unwrap_or_default();
        let delay = self.read_policy(PolicyFile::RestartDelay, RestartDelay::parse);
        let limit = self.read_policy(PolicyFile::RestartLimit, RestartLimit::parse);
        self.main.machine.set_restart(Some(RestartPolicy { restart, delay, limit }));
    }

    /// `./run` is about to be started: makes what it can tell something by, and tells the machine.
    ///
    /// # Errors
    ///
    /// That of [`Service::open_notifications`].
    pub(super) fn open_readiness(&mut self, now: Now) -> Result<(), NoResources> {
        let timeout = self.read_policy(PolicyFile::TimeoutReady, policy::millis);
        let watchdog = self.read_policy(PolicyFile::Watchdog, policy::millis);
        let tells = self.policies.tell_ready();
        for (file, is_there) in [(PolicyFile::TimeoutReady, timeout), (PolicyFile::Watchdog, watchdog)] {
            if is_there.is_some() && !tells {
                self.report_policy(file, "of use only beside notification-fd or notification-socket");
            }
        }
        let is_alive = self.policies.has(PolicyFile::NotificationSocket);
        if watchdog.is_some() && tells && !is_alive {
            self.report_policy(PolicyFile::Watchdog, "of use only beside notification-socket");
        }
        let watchdog = watchdog.filter(|_| is_alive);
        let tells = tells && self.open_notifications(now, watchdog)?;
        let has_watchdog = self.notifications.as_ref().is_some_and(|it| it.has_watchdog());
        let watchdog = watchdog.filter(|_| has_watchdog);
        self.main.machine.set_ready(tells.then_some(ReadyPolicy { timeout, watchdog }));
        Ok(())
    }

    /// What a policy file says; `None` if it is not there or makes no sense, which is reported once.
    pub(super) fn read_policy<P>(
        &mut self,
        file: PolicyFile,
        parse: impl FnOnce(&[u8]) -> Result<P, Senseless>,
    ) -> Option<P> {
        if !self.policies.has(file) {
            return None;
        }
        let dir = self.main.dir.as_fd();
        let mut short = [0; SHORT_MAX];
        let mut long;
        let mut text = files::read_start(dir, file.name(), &mut short);
        let mut room = SHORT_MAX;
        if file == PolicyFile::Needs && text.as_ref().is_ok_and(|text| text.len() == SHORT_MAX) {
            // Few are that long.
            long = vec![0; LEN_MAX];
            text = files::read_start(dir, file.name(), &mut long);
            room = LEN_MAX;
        }
        match text {
            Ok(text) if text.len() == room => self.report_policy(file, "too long"),
            Ok(text) if text.trim_ascii().is_empty() => self.report_policy(file, "empty"),
            Ok(text) => match parse(text) {
                Ok(policy) => return Some(policy),
                Err(Senseless(expected)) => self.report_policy(file, &format!("not {expected}")),
            },
            // It was removed a moment ago; a link that leads nowhere is still there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_entry(dir, file.name()) => {}
            Err(error) => {
                let name = file.name().to_string_lossy();
                if self.is_news(file) {
                    self.label.warn(format!("unable to read {name}, ignored").as_bytes(), Some(&error));
                }
            }
        }
        None
    }

    /// Whether a policy file without content is there.
    pub(super) fn has_policy_file(&self, file: PolicyFile) -> bool {
        // A directory that could not be listed may have each.
        self.policies.has(file)
            && files::look(self.main.dir.as_fd(), file.name()).is_ok_and(|stat| stat.is_some())
    }

    /// Whether there is anything of the name of a policy file.
    pub(super) fn has_policy_entry(&self, file: PolicyFile) -> bool {
        self.policies.has(file) && is_entry(self.main.dir.as_fd(), file.name())
    }

    /// Tells the user, once until the directory changes, why a file has no effect.
    pub(super) fn report_policy(&mut self, file: PolicyFile, why: &str) {
        if self.is_news(file) {
            let what = format!("{}: {why}, ignored", file.name().to_string_lossy());
            self.label.warn(what.as_bytes(), None);
        }
    }

    /// Whether nothing was reported about the file yet; from now on it was.
    fn is_news(&mut self, file: PolicyFile) -> bool {
        let is_news = !self.policies.reported.has(file);
        self.policies.reported.add(file.name().to_bytes());
        is_news
    }

    /// What `supervise/state` is to say; `None` where nothing of it is used.
    pub(super) fn facts(&self) -> Option<Facts> {
        let mut facts = self.main.machine.facts()?;
        if let Some(notifications) = &self.notifications {
            notifications.note_facts(&mut facts);
        }
        self.confinement.note_facts(&mut facts);
        facts.waits = self.waits().to_vec();
        facts.supervisor = own_tag();
        Some(facts)
    }
}

/// Whether a directory has an entry of this name, whatever it leads to.
fn is_entry(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Our own tag; `None` without `/proc`.
fn own_tag() -> Option<Tag> {
    static OWN: OnceLock<Option<Tag>> = OnceLock::new();
    *OWN.get_or_init(Tag::own)
}
