//! The end of all services where some need others: each is told to end after those that need it.

use std::time::Duration;

use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::needs::EndOrder;
use svcore::needs::survey::end_order;
use svcore::sys::clock;
use svcore::trust;

use super::tell_to_leave;

/// After this time all that are left are told, whatever needs them.
const TIME: Duration = Duration::from_secs(7);

/// Services that were not told to end yet.
pub(super) struct Untold {
    order: EndOrder,
    /// The runsv of each service, with whether it was told; `None`: it has ended.
    runsv: Vec<Option<(Pid, bool)>>,
    until: Moment,
}

impl Untold {
    /// The services in the directory at `path`, each with its name and its runsv; `None` if none of them needs another.
    pub(super) fn of(path: &[u8], services: &[(Vec<u8>, Option<Pid>)]) -> Option<Self> {
        let paths: Vec<Vec<u8>> =
            services.iter().map(|(name, _)| [path, b"/", name.as_slice()].concat()).collect();
        let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
        let order = end_order(&paths, &trust::ours())?;
        let runsv = services.iter().map(|(_, pid)| pid.map(|pid| (pid, false))).collect();
        Some(Untold { order, runsv, until: clock::monotonic().saturating_add(TIME) })
    }

    /// Tells those that nobody needs.
    pub(super) fn begin(&mut self) {
        let ended = |(number, runsv): (usize, &Option<_>)| runsv.is_none().then_some(number);
        let ended: Vec<usize> = self.runsv.iter().enumerate().filter_map(ended).collect();
        for number in ended {
            self.order.ended(number);
        }
        self.tell();
    }

    /// Whether the end of this runsv is waited for.
    pub(super) fn has(&self, pid: Pid) -> bool {
        self.runsv.iter().flatten().any(|(own, _)| *own == pid)
    }

    /// When all that are left are told.
    pub(super) const fn until(&self) -> Moment {
        self.until
    }

    /// A child ended; perhaps a runsv, and others may end now.
    pub(super) fn child_ended(&mut self, pid: Pid) {
        let is_it = |runsv: &Option<(Pid, bool)>| runsv.is_some_and(|(own, _)| own == pid);
        if let Some(number) = self.runsv.iter().position(is_it) {
            if let Some(runsv) = self.runsv.get_mut(number) {
                *runsv = None;
            }
            self.order.ended(number);
            self.tell();
        }
    }

    /// What is left to be told, if anything. When the time is over, nothing is.
    pub(super) fn go_on(self, now: Moment) -> Option<Self> {
        if now >= self.until {
            self.tell_all();
            return None;
        }
        self.runsv.iter().flatten().any(|(_, is_told)| !is_told).then_some(self)
    }

    /// Tells all that were not told.
    pub(super) fn tell_all(self) {
        tell_to_leave(self.runsv.into_iter().flatten().filter(|(_, is_told)| !is_told).map(|(pid, _)| pid));
    }

    /// Tells those that may end and were not told.
    fn tell(&mut self) {
        for (number, runsv) in self.runsv.iter_mut().enumerate() {
            if let Some((pid, is_told @ false)) = runsv
                && self.order.may_end(number)
            {
                *is_told = true;
                tell_to_leave([*pid]);
            }
        }
    }
}
