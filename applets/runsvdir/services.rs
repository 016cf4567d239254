//! The services, and what is to be done for them. Without I/O.
//!
//! | the runsv of a service | event                                   | what follows                                    |
//! |------------------------|-----------------------------------------|-------------------------------------------------|
//! | dead, not before T     | T, and the directory is in its place    | it is started                                   |
//! | alive                  | it ended                                | it is started again, perhaps after a pause      |
//! | dead, it exited 111    | another runsv serves the directory      | nothing for [`EVERY`], see [`Known::waits`]     |
//! | alive                  | the directory vanished                  | TERM; the service is forgotten, see [`Leaving`] |
//! | alive                  | it has opened another directory         | TERM; another runsv is started                  |

use std::time::Duration;

use rustix::process::Pid;
use svcore::moment::{Moment, earlier};
use svcore::recent::{EVERY, Recent};
use svcore::scan::{Found, Leaving, Plan};
use svcore::template::ServiceIdentity;

/// A runsv that ends sooner than this after its start, twice in a row, or that was told to exit, is started again
/// only after a pause of this length.
pub(crate) const PACE: Duration = Duration::from_secs(1);
/// How long a runsv may take to open its directory.
const OPENED: Duration = Duration::from_millis(300);
/// How many runsv are started in a turn.
const STARTS_MAX: usize = 200;
/// Exit code of a runsv that cannot serve.
const FATAL: i32 = 111;

/// The runsv of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runsv {
    Alive { pid: Pid, started: Moment },
    Dead { not_before: Moment },
}

/// A service whose directory was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) found: Found,
    pub(crate) runsv: Runsv,
    /// Whether the last runsv ended soon after its start.
    was_quick: bool,
    /// Whether the last look could not tell if the directory still exists. Until a look can, nothing is started.
    is_unseen: bool,
    /// Whether the runsv was found to have opened the directory of the service.
    is_verified: bool,
    /// The last runsv could not serve: until then none is started as long as another one serves the directory.
    waits_until: Option<Moment>,
    /// The messages about a runsv that could not be started.
    recent: Recent,
}

impl Known {
    /// A service whose runsv was not started yet.
    fn new(found: Found) -> Self {
        let runsv = Runsv::Dead { not_before: Moment::START };
        let (was_quick, is_unseen, is_verified) = (false, false, false);
        Known {
            found,
            runsv,
            was_quick,
            is_unseen,
            is_verified,
            waits_until: None,
            recent: Recent::default(),
        }
    }

    /// Whether no runsv is started now if another one serves the directory, such as that of an earlier runsvdir.
    ///
    /// It would only say that it cannot have the lock.
    pub(crate) fn waits(&self, now: Moment) -> bool {
        self.waits_until.is_some_and(|until| now < until)
    }

    /// When its runsv may be started, if it has none.
    const fn not_before(&self) -> Option<Moment> {
        match self.runsv {
            Runsv::Alive { .. } => None,
            Runsv::Dead { not_before } => Some(not_before),
        }
    }

    /// Its runsv ended. If with exit code 0, somebody told it to; the pause lets them see that it has ended.
    fn ended(&mut self, now: Moment, code: Option<i32>) {
        let told = code == Some(0);
        self.waits_until = (code == Some(FATAL)).then(|| now.saturating_add(EVERY));
        let Runsv::Alive { started, .. } = self.runsv else { return };
        let quick = now < started.saturating_add(PACE);
        let pause = told || (quick && self.was_quick);
        let not_before = if pause { now.saturating_add(PACE) } else { now };
        self.runsv = Runsv::Dead { not_before };
        self.was_quick = quick;
    }
}

/// A runsv that has had time to open its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unverified {
    pub(crate) place: usize,
    pub(crate) pid: Pid,
    /// The directory that it should have open.
    pub(crate) identity: ServiceIdentity,
}

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Services {
    known: Vec<Known>,
    /// Forgotten services whose runsv was told to exit and has not ended yet.
    leaving: Leaving,
    /// When to verify that each runsv serves the directory that it was started for.
    verify_at: Option<Moment>,
}

impl Services {
    /// The service at a place.
    pub(crate) fn get(&self, place: usize) -> Option<&Known> {
        self.known.get(place)
    }

    /// The directories and names, each at its place.
    pub(crate) fn found(&self) -> Vec<&Found> {
        self.known.iter().map(|service| &service.found).collect()
    }

    /// The names, each with its runsv if that is alive.
    pub(crate) fn found_with_runsv(&self) -> Vec<(Vec<u8>, Option<Pid>)> {
        let runsv = |service: &Known| match service.runsv {
            Runsv::Alive { pid, .. } => Some(pid),
            Runsv::Dead { .. } => None,
        };
        self.known.iter().map(|service| (service.found.name.to_bytes().to_vec(), runsv(service))).collect()
    }

    /// Whether every runsv has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.leaving.is_empty()
    }

    /// Whether a runsv that was told to exit still has this directory.
    pub(crate) fn is_leaving(&self, identity: ServiceIdentity) -> bool {
        self.leaving.has(identity)
    }

    /// When the first runsv is to be started, if any.
    pub(crate) fn next_start(&self) -> Option<Moment> {
        self.known.iter().filter(|it| self.may_start(it)).map(Known::not_before).fold(None, earlier)
    }

    /// When [`Services::unverified`] is to be asked, if ever.
    pub(crate) const fn verify_at(&self) -> Option<Moment> {
        self.verify_at
    }

    /// Whether nothing but time keeps a runsv from being started.
    fn may_start(&self, service: &Known) -> bool {
        service.not_before().is_some() && !service.is_unseen && !self.leaving.has(service.found.identity)
    }

    /// The places whose runsv is to be started now; no more than [`STARTS_MAX`].
    pub(crate) fn due(&self, now: Moment) -> Vec<usize> {
        let is_due =
            |service: &Known| service.not_before().is_some_and(|at| now >= at) && self.may_start(service);
        let due = (0..).zip(&self.known).filter(|(_, service)| is_due(service));
        due.map(|(place, _)| place).take(STARTS_MAX).collect()
    }

    /// The runsv at a place was started, or could not be.
    pub(crate) fn set_runsv(&mut self, place: usize, runsv: Runsv) {
        if let Some(service) = self.known.get_mut(place) {
            service.runsv = runsv;
            service.is_verified = false;
        }
    }

    /// Another runsv serves the directory of the service at a place.
    pub(crate) fn is_served_by_another(&mut self, now: Moment, place: usize) {
        self.set_runsv(place, Runsv::Dead { not_before: now.saturating_add(PACE) });
    }

    /// Whether a message about the runsv at a place is to be printed.
    pub(crate) fn is_new_message(&mut self, now: Moment, place: usize, message: &[u8]) -> bool {
        self.known.get_mut(place).is_none_or(|service| service.recent.is_new(now, message))
    }

    /// The name of a service does not lead to its directory. The next look will tell why.
    pub(crate) fn not_in_place(&mut self, place: usize) {
        if let Some(service) = self.known.get_mut(place) {
            service.is_unseen = true;
        }
    }

    /// Applies the changes of a look at the directory. Returns the runsv that are to be told to exit.
    pub(crate) fn apply(&mut self, now: Moment, plan: Plan) -> Vec<Pid> {
        for (place, identity) in plan.follow {
            if let Some(service) = self.known.get_mut(place) {
                service.found.identity = identity;
            }
        }
        if !plan.rename.is_empty() {
            // A runsv that was just started may have opened another directory, which has the old name now.
            self.verify_at.get_or_insert(now.saturating_add(OPENED));
        }
        for (place, name) in plan.rename {
            if let Some(service) = self.known.get_mut(place) {
                service.found.name = name;
            }
        }
        let mut told = Vec::new();
        let (mut unseen, mut stop) = (plan.unseen.into_iter().peekable(), plan.stop.into_iter().peekable());
        for (place, mut service) in std::mem::take(&mut self.known).into_iter().enumerate() {
            if stop.next_if_eq(&place).is_some() {
                told.extend(self.leave(&service));
            } else {
                service.is_unseen = unseen.next_if_eq(&place).is_some();
                self.known.push(service);
            }
        }
        self.known.extend(plan.start.into_iter().map(Known::new));
        told
    }

    /// The service is to be forgotten. Returns its runsv, which is to be told to exit.
    fn leave(&mut self, service: &Known) -> Option<Pid> {
        let Runsv::Alive { pid, .. } = service.runsv else { return None };
        self.leaving.add(number_of(pid), service.found.identity);
        Some(pid)
    }

    /// Forgets all services. Returns each runsv, which is to be told to exit.
    pub(crate) fn leave_all(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.known).iter().filter_map(|service| self.leave(service)).collect()
    }

    /// Once it is time to verify: every runsv that has had time to open its directory and was not verified yet.
    pub(crate) fn unverified(&mut self, now: Moment) -> Vec<Unverified> {
        let mut ready = Vec::new();
        if self.verify_at.take_if(|at| now >= *at).is_none() {
            return ready;
        }
        for (place, service) in (0..).zip(&self.known) {
            let Runsv::Alive { pid, started } = service.runsv else { continue };
            if service.is_verified {
                continue;
            }
            let at = started.saturating_add(OPENED);
            if now < at {
                self.verify_at = earlier(self.verify_at, Some(at));
            } else {
                ready.push(Unverified { place, pid, identity: service.found.identity });
            }
        }
        ready
    }

    /// Notes whether the runsv at a place has opened the directory of its service. If it has not, names were exchanged before
    /// it opened one: the returned runsv is to be told to exit, and another will be started.
    pub(crate) fn verified(&mut self, now: Moment, place: usize, is_right: bool) -> Option<Pid> {
        let service = self.known.get_mut(place)?;
        if is_right {
            service.is_verified = true;
            return None;
        }
        let service = service.clone();
        let pid = self.leave(&service);
        self.set_runsv(place, Runsv::Dead { not_before: now });
        pid
    }

    /// A child ended, with the exit code `code` unless a signal ended it.
    pub(crate) fn child_ended(&mut self, now: Moment, pid: Pid, code: Option<i32>) {
        self.leaving.remove(number_of(pid));
        let is_mine =
            |service: &&mut Known| matches!(service.runsv, Runsv::Alive { pid: own, .. } if own == pid);
        if let Some(service) = self.known.iter_mut().find(is_mine) {
            service.ended(now, code);
            if code == Some(FATAL) {
                // Perhaps a runsv that opened the wrong directory holds its lock.
                self.verify_at.get_or_insert(now.saturating_add(OPENED));
            }
        }
    }
}

fn number_of(pid: Pid) -> u64 {
    u64::from(pid.as_raw_nonzero().get().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use svcore::files::Identity;

    fn identity(device: u64, inode: u64) -> ServiceIdentity {
        ServiceIdentity::new(Identity { device, inode }, None)
    }

    #[test]
    fn a_runsv_is_started_again_at_once_unless_it_was_told_or_ends_again_and_again() {
        let at = |millis| Moment::from_start(Duration::from_millis(millis));
        let pid = Pid::from_raw(7).unwrap();
        let mut service = Known::new(Found { name: c"a".to_owned(), identity: identity(1, 1) });
        let alive = |started| Runsv::Alive { pid, started: at(started) };
        let dead = |not_before| Runsv::Dead { not_before: at(not_before) };
        service.runsv = alive(0);
        service.ended(at(10), Some(1));
        assert_eq!(service.runsv, dead(10));
        service.runsv = alive(10);
        service.ended(at(20), None);
        assert_eq!(service.runsv, dead(1020));
        service.runsv = alive(1020);
        service.ended(at(2020), None);
        assert_eq!(service.runsv, dead(2020));
        service.runsv = alive(2020);
        service.ended(at(9000), Some(0));
        assert_eq!(service.runsv, dead(10_000));
        assert!(!service.waits(at(9000)));
        service.runsv = alive(10_000);
        service.ended(at(10_010), Some(FATAL));
        assert!(service.waits(at(20_009)) && !service.waits(at(20_010)));
    }

    fn found(name: &std::ffi::CStr, inode: u64) -> Found {
        Found { name: name.to_owned(), identity: identity(1, inode) }
    }

    fn started(services: &mut Services, place: usize, pid: i32) {
        let runsv = Runsv::Alive { pid: Pid::from_raw(pid).unwrap(), started: Moment::START };
        services.set_runsv(place, runsv);
    }

    #[test]
    fn a_directory_is_not_served_again_before_the_old_runsv_has_left() {
        let mut services = Services::default();
        let start = |inode| Plan { start: vec![found(c"a", inode)], ..Plan::default() };
        assert_eq!(services.apply(Moment::START, start(1)), []);
        assert_eq!(services.due(Moment::START), [0]);
        started(&mut services, 0, 7);
        let pid = Pid::from_raw(7).unwrap();
        assert_eq!(services.apply(Moment::START, Plan { stop: vec![0], ..start(1) }), [pid]);
        assert_eq!((services.due(Moment::START), services.next_start()), (vec![], None));
        services.child_ended(Moment::START, pid, Some(0));
        assert_eq!(services.due(Moment::START), [0]);
    }

    #[test]
    fn a_runsv_that_opened_another_directory_is_replaced() {
        let at = |millis| Moment::from_start(Duration::from_millis(millis));
        let mut services = Services::default();
        let _ =
            services.apply(at(0), Plan { start: vec![found(c"a", 1), found(c"b", 2)], ..Plan::default() });
        started(&mut services, 0, 7);
        started(&mut services, 1, 8);
        assert_eq!(services.unverified(at(1000)), [], "no name was exchanged");
        let _ = services.apply(at(0), Plan { rename: vec![(0, c"b".to_owned())], ..Plan::default() });
        assert_eq!((services.unverified(at(299)), services.verify_at()), (vec![], Some(at(300))));
        let places: Vec<usize> = services.unverified(at(300)).iter().map(|it| it.place).collect();
        assert_eq!(places, [0, 1]);
        assert_eq!(services.verified(at(300), 0, true), None);
        assert_eq!(services.verified(at(300), 1, false), Pid::from_raw(8));
        assert_eq!(services.due(at(300)), [], "the old runsv still has the directory");
        services.child_ended(at(310), Pid::from_raw(8).unwrap(), Some(0));
        assert_eq!(services.due(at(310)), [1]);
    }
}
