//! What a service needs, as far as the service itself knows: the host finds out whether that is ready.

use rustix::fd::{AsFd, BorrowedFd};

use super::Service;
use crate::needs::Known;
use crate::policy::{self, Need, PolicyFile};
use crate::role::Role;
use crate::service::step::{Event, Now};

/// What is known of the services that a service needs.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// The machine asks whether they are ready.
    is_asked: bool,
    /// Those that were not, as they are called in the file.
    waits: Vec<Vec<u8>>,
}

impl Service {
    /// The machine asks whether what it needs is ready. The host answers by [`Service::answer_needs`].
    pub(super) const fn ask_needs(&mut self) {
        self.needs.is_asked = true;
    }

    /// Whether the machine asks; then the question is taken over.
    pub(crate) fn take_asked_needs(&mut self) -> bool {
        std::mem::take(&mut self.needs.is_asked)
    }

    /// Whether it waits for nothing but what it needs.
    #[must_use]
    pub(crate) fn waits_for_needs(&self) -> bool {
        self.main.machine.is_blocked()
    }

    /// Whether it has a file `needs`.
    #[must_use]
    pub(crate) const fn has_needs(&self) -> bool {
        self.policies.has(PolicyFile::Needs)
    }

    /// What the file `needs` says, and nothing without that file; `None` if it makes no sense, which is reported once.
    pub(crate) fn read_needs(&mut self) -> Option<Vec<Need>> {
        let needs = self.read_policy(PolicyFile::Needs, policy::needs);
        // A link that leads nowhere is there, too.
        needs.or_else(|| (!self.has_policy_entry(PolicyFile::Needs)).then(Vec::new))
    }

    /// Answers whether what it needs is ready: `waits` are the names of those that are not.
    pub(crate) fn answer_needs(&mut self, now: Now, waits: Vec<Vec<u8>>) {
        let is_met = waits.is_empty();
        if is_met || self.needs.waits != waits {
            self.needs.waits = waits;
            self.handle(now, Role::Main, Event::Needs(is_met));
        }
    }

    /// The names of those that it waits for.
    pub(super) fn waits(&self) -> &[Vec<u8>] {
        if self.waits_for_needs() { &self.needs.waits } else { &[] }
    }

    /// How it stands with those that need it; whether there is a `./check` is not looked for.
    #[must_use]
    pub(crate) fn known(&self) -> Known {
        let machine = &self.main.machine;
        let readiness = machine.readiness();
        Known {
            status: machine.status(),
            is_done: readiness == Some(true) && !machine.is_running(),
            readiness,
            is_task: false,
            has_check: false,
        }
    }

    /// The service directory.
    #[must_use]
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.main.dir.as_fd()
    }

    /// Warns about one of those that it needs.
    pub(crate) fn warn_of_need(&self, what: &[u8], cause: Option<&std::io::Error>) {
        self.label.warn(&[b"needs: ", what].concat(), cause);
    }
}
