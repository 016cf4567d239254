//! `./check` of services that others need: run only while somebody waits for it, and once at a time.

use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::Pid;

use super::super::Host;
use super::{Answer, Waiting};
use crate::Signal;
use crate::check;
use crate::moment::Moment;
use crate::process::Ended;
use crate::service::step::Now;
use crate::status::Status;
use crate::sys::signal;
use crate::sys::spawn::Stream;
use crate::template::{Instance, ServiceIdentity};

/// How soon a `./check` that failed is run again.
const CHECK_FIRST: Duration = Duration::from_millis(20);
/// Each pause before the next is twice as long, up to this.
const CHECK_LAST: Duration = Duration::from_secs(1);
/// How long a `./check` may take.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// The `./check` of a service that somebody waits for.
#[derive(Debug)]
pub(super) struct Check {
    /// The service directory.
    identity: ServiceIdentity,
    /// While it runs, and when it is killed.
    runs: Option<(Pid, Moment)>,
    /// The process for which it was run the last time.
    asked_for: Status,
    /// It agreed to that.
    has_agreed: bool,
    /// It is not run again before this moment.
    not_before: Moment,
    pause: Duration,
}

/// A service whose `./check` is asked.
pub(super) struct Asked<'a> {
    pub(super) identity: ServiceIdentity,
    /// The service directory.
    pub(super) dir: BorrowedFd<'a>,
    /// Which instance of a template it is, if it is one.
    pub(super) instance: Option<&'a Instance>,
    pub(super) status: &'a Status,
}

impl Host {
    /// A child ended. Whether it was a `./check`.
    pub(in super::super) fn check_ended(&mut self, now: Now, pid: Pid, how: Ended) -> bool {
        let is_it = |check: &&mut Check| check.runs.is_some_and(|(own, _)| own == pid);
        let Some(check) = self.needs.checks.iter_mut().find(is_it) else { return false };
        check.runs = None;
        check.has_agreed = how == Ended::Code(0);
        check.not_before = now.at.saturating_add(check.pause);
        check.pause = check.pause.saturating_mul(2).min(CHECK_LAST);
        let identity = check.identity;
        for place in 0..self.places.len() {
            let Some(Some(hosted)) = self.places.get(place) else { continue };
            if hosted.waiting.as_ref().is_some_and(|waiting| waiting.asks(identity)) {
                self.wake(place);
            }
        }
        self.drop_checks();
        true
    }

    /// Asks `./check` of a service.
    pub(super) fn check(&mut self, now: Moment, asked: &Asked<'_>) -> Answer {
        let Asked { identity, status, .. } = *asked;
        let number = self.needs.checks.iter().position(|check| check.identity == identity);
        let number = number.unwrap_or_else(|| {
            self.needs.checks.push(Check {
                identity,
                runs: None,
                asked_for: *status,
                has_agreed: false,
                not_before: Moment::START,
                pause: CHECK_FIRST,
            });
            self.needs.checks.len().saturating_sub(1)
        });
        let Some(check) = self.needs.checks.get_mut(number) else { return (false, None) };
        let is_same = (check.asked_for.pid, check.asked_for.since) == (status.pid, status.since);
        if let Some((pid, kill_at)) = check.runs {
            if now >= kill_at {
                // Its end is an event.
                let _ = signal::send_to_group(pid, Signal::KILL);
                return (false, None);
            }
            return (false, Some(kill_at));
        }
        if check.has_agreed && is_same {
            return (true, None);
        }
        if is_same && now < check.not_before {
            return (false, Some(check.not_before));
        }
        check.asked_for = *status;
        check.has_agreed = false;
        match start(asked) {
            Ok(pid) => {
                let kill_at = now.saturating_add(CHECK_TIME);
                check.runs = Some((pid, kill_at));
                (false, Some(kill_at))
            }
            Err(true) => {
                check.not_before = now.saturating_add(CHECK_LAST);
                (false, Some(check.not_before))
            }
            // A check that cannot be run is ignored. Source: sv(8).
            Err(false) => {
                check.has_agreed = true;
                (true, None)
            }
        }
    }

    /// Forgets each check for which nobody waits any more, and kills it if it runs.
    pub(super) fn drop_checks(&mut self) {
        if self.needs.checks.is_empty() {
            return;
        }
        let places = &self.places;
        let is_asked = |check: &Check| {
            let mut waiting = places.iter().flatten().filter_map(|hosted| hosted.waiting.as_ref());
            waiting.any(|waiting| waiting.asks(check.identity))
        };
        self.needs.checks.retain(|check| {
            let is_asked = is_asked(check);
            if let Some((pid, _)) = check.runs.filter(|_| !is_asked) {
                let _ = signal::send_to_group(pid, Signal::KILL);
            }
            is_asked || check.runs.is_some()
        });
    }
}

impl Waiting {
    /// Whether it waits for the `./check` in this directory.
    fn asks(&self, identity: ServiceIdentity) -> bool {
        self.needs.iter().any(|needed| needed.checked == Some(identity))
    }
}

/// Starts `./check`. The error tells whether that may work later.
fn start(asked: &Asked<'_>) -> Result<Pid, bool> {
    let null = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok();
    let silence = null.as_ref().map_or(Stream::Closed, |null| Stream::Is(null.as_fd()));
    check::start(asked.dir, asked.instance, [silence; 3], false).map_err(|why| why.lacks_process())
}
