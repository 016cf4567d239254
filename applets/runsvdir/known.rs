//! A service that is kept, and when its runsv is started again. Without I/O.

use std::time::Duration;

use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::scan::Found;

/// A runsv that ends sooner than this after its start, twice in a row, or that was told to exit, is started again
/// only after as long a pause.
pub(crate) const PACE: Duration = Duration::from_secs(1);

/// The runsv of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runsv {
    /// It runs.
    Alive { pid: Pid, started: Moment },
    /// It does not, and is not to before this moment.
    Dead { not_before: Moment },
}

/// A service that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) found: Found,
    pub(crate) runsv: Runsv,
    /// The last runsv ended soon after its start.
    pub(crate) was_quick: bool,
    /// The last look could not tell whether its directory is there. Until one can, nothing is started.
    pub(crate) is_unseen: bool,
    /// Its runsv was found to have opened the directory that is meant.
    pub(crate) is_verified: bool,
}

impl Known {
    /// A service whose runsv was not started yet.
    pub(crate) fn new(found: Found) -> Self {
        let runsv = Runsv::Dead { not_before: Moment::START };
        Known { found, runsv, was_quick: false, is_unseen: false, is_verified: false }
    }

    /// When its runsv may be started, if it has none.
    pub(crate) const fn not_before(&self) -> Option<Moment> {
        match self.runsv {
            Runsv::Alive { .. } => None,
            Runsv::Dead { not_before } => Some(not_before),
        }
    }

    /// Its runsv ended; `told`: with exit code 0, so somebody told it to.
    ///
    /// The pause after that lets whoever told it see that it is gone.
    pub(crate) fn ended(&mut self, now: Moment, told: bool) {
        let Runsv::Alive { started, .. } = self.runsv else { return };
        let quick = now < started.saturating_add(PACE);
        let pause = told || (quick && self.was_quick);
        let not_before = if pause { now.saturating_add(PACE) } else { now };
        self.runsv = Runsv::Dead { not_before };
        self.was_quick = quick;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runsv_is_started_again_at_once_unless_it_was_told_or_ends_again_and_again() {
        let at = |millis| Moment::from_start(Duration::from_millis(millis));
        let pid = Pid::from_raw(7).unwrap();
        let mut service = Known::new(Found {
            name: c"a".to_owned(),
            identity: svcore::files::Identity { device: 1, inode: 1 },
        });
        let alive = |started| Runsv::Alive { pid, started: at(started) };
        let dead = |not_before| Runsv::Dead { not_before: at(not_before) };
        service.runsv = alive(0);
        service.ended(at(10), false);
        assert_eq!(service.runsv, dead(10));
        service.runsv = alive(10);
        service.ended(at(20), false);
        assert_eq!(service.runsv, dead(1020));
        service.runsv = alive(1020);
        service.ended(at(2020), false);
        assert_eq!(service.runsv, dead(2020));
        service.runsv = alive(2020);
        service.ended(at(9000), true);
        assert_eq!(service.runsv, dead(10_000));
    }
}
