//! A service that `sv` waits for.

use std::time::Duration;

use crate::moment::Moment;
use crate::status::Status;
use crate::tai::Tai64N;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::sent::Sent;
use super::target::Target;

/// How soon a `./check` that failed is run again.
const CHECK_FIRST: Duration = Duration::from_millis(20);
/// Each pause before the next is twice as long, up to this.
const CHECK_LAST: Duration = Duration::from_millis(420);

/// How far the request to a service has got.
pub(super) enum Sending {
    /// Nothing is to be sent.
    NothingToSend,
    /// No supervisor was there, but one may come.
    Unserved,
    /// It was sent, or is to be as soon as the FIFO takes it.
    Sent(Sent),
    /// It was sent, and the supervisor was found to have left at that moment.
    SupervisorLeft(Moment),
}

/// A service that is waited for.
pub(super) struct Pending {
    pub(super) target: Target,
    /// Its place among those named.
    pub(super) number: usize,
    pub(super) sending: Sending,
    /// The status before the request.
    pub(super) before: Option<Status>,
    /// When the first process was started that counts for the request, and was not ready or well when it was looked at.
    pub(super) started: Option<Tai64N>,
    /// The `supervise` directory, if its changes are reported to us.
    pub(super) watch: Option<OwnedFd>,
    /// There are too few descriptors: everything held for it is closed, and opened again for each look.
    pub(super) is_suspended: bool,
    /// Something happened since the last look.
    pub(super) has_event: bool,
    /// When to look even if nothing happens.
    pub(super) look_at: Option<Moment>,
    /// `./check` failed when this was the status; it is not run again for it before that moment.
    failed_check: Option<(Status, Moment)>,
    check_pause: Duration,
}

impl Pending {
    pub(super) const fn new(target: Target, number: usize, sending: Sending) -> Self {
        Pending {
            target,
            number,
            sending,
            before: None,
            started: None,
            watch: None,
            is_suspended: false,
            has_event: true,
            look_at: None,
            failed_check: None,
            check_pause: CHECK_FIRST,
        }
    }

    /// The request, while its supervisor is there.
    pub(super) const fn sent(&self) -> Option<&Sent> {
        if let Sending::Sent(sent) = &self.sending { Some(sent) } else { None }
    }

    /// The FIFO of a request, if it is held open.
    pub(super) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.sent().and_then(Sent::control)
    }

    /// Whether the request is still to be written, since the FIFO was full.
    pub(super) fn is_unwritten(&self) -> bool {
        self.sent().is_some_and(|sent| !sent.is_written())
    }

    /// When `./check` may be run again, if it failed for this very status.
    pub(super) fn check_again_at(&self, now: Moment, status: &Status) -> Option<Moment> {
        let (failed_for, at) = self.failed_check.as_ref()?;
        (failed_for == status && now < *at).then_some(*at)
    }

    /// Notes that `./check` failed; returns when to run it again.
    pub(super) fn check_failed(&mut self, now: Moment, status: Status) -> Moment {
        let again = now.saturating_add(self.check_pause);
        self.failed_check = Some((status, again));
        self.check_pause = (self.check_pause * 2).min(CHECK_LAST);
        again
    }

    /// The highest number of a descriptor that is held for it.
    pub(super) fn highest(&self) -> i32 {
        let sent = self.sent().map_or(0, Sent::highest);
        let watch = self.watch.as_ref().map_or(0, |watch| watch.as_raw_fd());
        self.target.dir().map_or(0, |dir| dir.as_raw_fd()).max(sent).max(watch)
    }

    /// Closes everything that can be opened again.
    pub(super) fn suspend(&mut self) {
        self.watch = None;
        if let Sending::Sent(sent) = &mut self.sending {
            sent.suspend();
        }
        self.target.suspend();
    }
}
