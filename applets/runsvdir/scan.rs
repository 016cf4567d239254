//! What is to be started and stopped, from what is known and what was found. Without I/O.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::time::Duration;

use rustix::process::Pid;

/// A runsv that ends sooner than this after its start, twice in a row, or that was told to exit, is started again
/// only after as long a pause.
pub(crate) const PACE: Duration = Duration::from_secs(1);

/// A directory is itself wherever its name goes: device and inode.
pub(crate) type Identity = (u64, u64);

/// A service directory in the directory that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: CString,
    pub(crate) identity: Identity,
}

/// The runsv of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runsv {
    /// It runs.
    Alive { pid: Pid, started: Duration },
    /// It does not, and is not to before this moment.
    Dead { not_before: Duration },
}

/// A service that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: CString,
    pub(crate) identity: Identity,
    pub(crate) runsv: Runsv,
    /// The last runsv ended soon after its start.
    pub(crate) was_quick: bool,
}

/// What changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Not found any more: places in the list of what is known, ascending.
    pub(crate) stop: Vec<usize>,
    /// New.
    pub(crate) start: Vec<Found>,
    /// The runsv of this place has followed its name to another directory.
    pub(crate) follow: Vec<(usize, Identity)>,
}

/// Compares. `follows` says whether the runsv of a known service already serves the directory that has now its name.
///
/// A directory under several names is one service, under the name that comes first.
pub(crate) fn compare(known: &[Known], found: &[Found], mut follows: impl FnMut(&Known) -> bool) -> Plan {
    let mut plan = Plan::default();
    let there: BTreeSet<Identity> = found.iter().map(|found| found.identity).collect();
    let mut served: BTreeSet<Identity> = known.iter().map(|known| known.identity).collect();
    for (place, service) in known.iter().enumerate() {
        if there.contains(&service.identity) {
            continue;
        }
        let under_its_name = found
            .iter()
            .find(|found| found.name == service.name)
            .filter(|found| !served.contains(&found.identity) && follows(service));
        match under_its_name {
            Some(found) => {
                served.insert(found.identity);
                plan.follow.push((place, found.identity));
            }
            None => plan.stop.push(place),
        }
    }
    plan.start = found.iter().filter(|found| served.insert(found.identity)).cloned().collect();
    plan
}

impl Known {
    /// A service whose runsv was not started yet.
    pub(crate) fn new(found: Found) -> Self {
        Known {
            name: found.name,
            identity: found.identity,
            runsv: Runsv::Dead { not_before: Duration::ZERO },
            was_quick: false,
        }
    }

    /// Its runsv ended; `told`: with exit code 0, so somebody told it to.
    ///
    /// The pause after that lets whoever told it see that it is gone.
    pub(crate) fn ended(&mut self, now: Duration, told: bool) {
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
    use proptest::prelude::*;

    use super::*;

    fn found(name: &str, inode: u64) -> Found {
        Found { name: CString::new(name).unwrap(), identity: (1, inode) }
    }

    fn known(name: &str, inode: u64) -> Known {
        Known::new(found(name, inode))
    }

    #[test]
    fn the_new_is_started_and_the_vanished_is_stopped() {
        let plan = compare(&[known("a", 1), known("b", 2)], &[found("b", 2), found("c", 3)], |_| false);
        assert_eq!(plan, Plan { stop: vec![0], start: vec![found("c", 3)], follow: vec![] });
    }

    #[test]
    fn renaming_a_link_changes_nothing() {
        assert_eq!(compare(&[known("a", 1)], &[found("z", 1)], |_| false), Plan::default());
    }

    #[test]
    fn two_names_of_a_directory_are_one_service() {
        let plan = compare(&[], &[found("a", 1), found("b", 1)], |_| false);
        assert_eq!(plan.start, [found("a", 1)]);
    }

    #[test]
    fn a_link_that_was_switched_is_another_service() {
        let plan = compare(&[known("a", 1)], &[found("a", 2)], |_| false);
        assert_eq!((plan.stop, plan.start), (vec![0], vec![found("a", 2)]));
    }

    #[test]
    fn a_runsv_that_followed_its_name_is_kept() {
        let plan = compare(&[known("a", 1)], &[found("a", 2)], |_| true);
        assert_eq!(plan, Plan { stop: vec![], start: vec![], follow: vec![(0, (1, 2))] });
        let taken = compare(&[known("a", 1), known("b", 2)], &[found("a", 2), found("b", 2)], |_| true);
        assert_eq!(taken.stop, [0]);
    }

    #[test]
    fn a_runsv_is_started_again_at_once_unless_it_was_told_or_ends_again_and_again() {
        let at = Duration::from_millis;
        let pid = Pid::from_raw(7).unwrap();
        let mut service = known("a", 1);
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

    proptest! {
        /// Afterwards each directory that is there is served exactly once, and none that is not.
        #[test]
        fn the_plan_leads_to_what_was_found(
            before in prop::collection::btree_map("[a-d]", 1_u64..6, 0..4),
            after in prop::collection::btree_map("[a-d]", 1_u64..6, 0..4),
            follows: bool,
        ) {
            let mut seen = std::collections::BTreeSet::new();
            let mut known: Vec<Known> = before
                .iter()
                .filter(|(_, inode)| seen.insert(**inode))
                .map(|(name, inode)| self::known(name, *inode))
                .collect();
            let list: Vec<Found> = after.iter().map(|(name, inode)| found(name, *inode)).collect();
            let plan = compare(&known, &list, |_| follows);
            for (place, identity) in &plan.follow {
                known[*place].identity = *identity;
            }
            for place in plan.stop.iter().rev() {
                known.remove(*place);
            }
            known.extend(plan.start.into_iter().map(Known::new));
            let mut served: Vec<u64> = known.iter().map(|service| service.identity.1).collect();
            served.sort_unstable();
            let there: std::collections::BTreeSet<u64> = after.values().copied().collect();
            prop_assert_eq!(served, there.into_iter().collect::<Vec<u64>>());
        }
    }
}
