//! Which services are to be started and stopped after a look at the directory. Without I/O.
//!
//! A service is identified by its directory, not by its name: it keeps running when a link or directory is renamed, and
//! then has the new name. A service is stopped only if its directory certainly is not there any more. If that could not be
//! looked at, the service stays as it is and the directory is looked at again, so an outage of a disk ends no service.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::time::Duration;

use crate::moment::{Moment, earlier};
use crate::template::ServiceIdentity;

/// A service directory that is being made has settled when it was not changed for this long.
pub(super) const CALM: Duration = Duration::from_millis(50);
/// This long after it was first seen, it counts as settled even if it still changes, or has no executable `run`.
pub(super) const SETTLED: Duration = Duration::from_millis(200);
/// A new name is ignored for this long: `ln -sf` makes a link under another name and then renames it.
const NAMED: Duration = Duration::from_micros(200);
/// When to look again at first at an entry that could not be looked at. A link may also lead to nothing for this long
/// before its service is stopped.
const OUTAGE: Duration = Duration::from_secs(1);
/// How often to look at it later.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A service directory in the directory that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name there.
    pub name: CString,
    /// The identity of the directory.
    pub identity: ServiceIdentity,
}

/// The kind of file that a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory {
        /// Its identity.
        identity: ServiceIdentity,
        /// When it has settled, by its timestamps; [`Moment::START`] if it was not changed lately.
        settled_at: Moment,
    },
    /// Another kind of file, which is no service.
    Other,
    /// It is a link to nothing.
    Nothing,
    /// It could not be looked at.
    Unknown,
}

/// The result of one look.
#[derive(Debug, Default)]
pub struct Listing {
    /// The names, and the kinds of files that they lead to.
    pub entries: Vec<(CString, Kind)>,
    /// Whether surely no name is missing.
    pub complete: bool,
}

impl Listing {
    /// Treats all directories as settled.
    pub fn settle(&mut self) {
        for (_, kind) in &mut self.entries {
            if let Kind::Directory { settled_at, .. } = kind {
                *settled_at = Moment::START;
            }
        }
    }
}

/// What a look changes. A place is an index in the list of known services.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Places of services whose directory is not there any more, ascending.
    pub stop: Vec<usize>,
    /// New services.
    pub start: Vec<Found>,
    /// Places of services whose runsv has followed the name to another directory, and that directory.
    pub follow: Vec<(usize, ServiceIdentity)>,
    /// Places of services whose directory has another name now, and that name.
    pub rename: Vec<(usize, CString)>,
    /// Places of services that are kept although their directory was not seen, ascending.
    pub unseen: Vec<usize>,
    /// When to look again even if no change is reported, if ever.
    pub again: Option<Moment>,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Scan {
    /// New directories that have not settled, and when each was first seen.
    unsettled: BTreeMap<ServiceIdentity, Moment>,
    /// Names of which [`Kind::Unknown`] or [`Kind::Nothing`] was found, which of the two, and since when.
    failing: BTreeMap<CString, (Kind, Moment)>,
    /// Since when listings are incomplete; `None` if the last was complete.
    incomplete_since: Option<Moment>,
    /// Whether there was a look before.
    has_looked: bool,
}

impl Scan {
    /// Compares the known services with a listing. `follows` tells whether the runsv of the service at a place already
    /// serves another directory, to which the name of the service leads now.
    ///
    /// A directory with several names is one service, under the first name of the listing. It keeps that name for as long as
    /// the name leads to the directory.
    pub fn compare(
        &mut self,
        now: Moment,
        known: &[&Found],
        listing: &Listing,
        mut follows: impl FnMut(usize, ServiceIdentity) -> bool,
    ) -> Plan {
        let mut plan = Plan { again: self.note_failures(now, listing), ..Plan::default() };
        let mut kinds: BTreeMap<&CStr, Kind> = BTreeMap::new();
        let mut names: BTreeMap<ServiceIdentity, &CStr> = BTreeMap::new();
        for (name, kind) in &listing.entries {
            kinds.entry(name).or_insert(*kind);
            if let Kind::Directory { identity, .. } = kind {
                names.entry(*identity).or_insert(name);
            }
        }
        let may_be_known =
            |(name, kind): &(CString, Kind)| *kind == Kind::Unknown && self.is_outage(now, name);
        // A name that could not be looked at may be the new name of a service that was renamed.
        let is_certain = listing.complete && !listing.entries.iter().any(may_be_known);
        let mut served = BTreeSet::new();
        served.extend(known.iter().map(|known| known.identity));
        for (place, service) in known.iter().enumerate() {
            let kind = kinds.get(service.name.as_c_str());
            if let Some(name) = names.get(&service.identity) {
                let same = |kind: &Kind| matches!(kind, Kind::Directory { identity, .. } if *identity == service.identity);
                if !kind.is_some_and(same) {
                    plan.rename.push((place, (*name).to_owned()));
                }
                continue;
            }
            let stays = match kind {
                Some(Kind::Directory { identity, .. }) => {
                    if !served.contains(identity) && follows(place, *identity) {
                        served.insert(*identity);
                        plan.follow.push((place, *identity));
                        continue;
                    }
                    !is_certain
                }
                Some(Kind::Unknown) => true,
                Some(Kind::Nothing) => !is_certain || self.is_outage(now, &service.name),
                Some(Kind::Other) | None => !is_certain,
            };
            if stays { plan.unseen.push(place) } else { plan.stop.push(place) }
        }
        self.find_new(now, listing, served, &mut plan);
        self.has_looked = true;
        plan
    }

    /// Whether a name fails, but not for long.
    fn is_outage(&self, now: Moment, name: &CStr) -> bool {
        self.failing.get(name).is_some_and(|(_, since)| now < since.saturating_add(OUTAGE))
    }

    /// Notes which names fail and since when. Returns when to look at them again.
    fn note_failures(&mut self, now: Moment, listing: &Listing) -> Option<Moment> {
        let failing =
            listing.entries.iter().filter(|(_, kind)| matches!(kind, Kind::Nothing | Kind::Unknown));
        let before = std::mem::take(&mut self.failing);
        let since = |name: &CString, kind: Kind| {
            before.get(name).filter(|before| before.0 == kind).map_or(now, |before| before.1)
        };
        self.failing.extend(failing.map(|(name, kind)| (name.clone(), (*kind, since(name, *kind)))));
        if listing.complete {
            self.incomplete_since = None;
        } else {
            self.incomplete_since.get_or_insert(now);
            // A name that is missing may fail as before.
            for (name, since) in before {
                self.failing.entry(name).or_insert(since);
            }
        }
        let since = self.failing.values().map(|(_, since)| since).chain(&self.incomplete_since);
        since.map(|since| Some(again_at(now, *since))).fold(None, earlier)
    }

    /// Adds services to the plan that are new and have settled. `served` are the directories of known services.
    fn find_new(
        &mut self,
        now: Moment,
        listing: &Listing,
        mut served: BTreeSet<ServiceIdentity>,
        plan: &mut Plan,
    ) {
        let mut unsettled = BTreeMap::new();
        let named = if self.has_looked { NAMED } else { Duration::ZERO };
        for (name, kind) in &listing.entries {
            let Kind::Directory { identity, settled_at } = *kind else { continue };
            if served.contains(&identity) {
                continue;
            }
            let first_seen = self.unsettled.get(&identity).copied().unwrap_or(now);
            let ready_at =
                settled_at.min(first_seen.saturating_add(SETTLED)).max(first_seen.saturating_add(named));
            if now >= ready_at {
                served.insert(identity);
                plan.start.push(Found { name: name.clone(), identity });
            } else {
                unsettled.insert(identity, first_seen);
                plan.again = earlier(plan.again, Some(ready_at));
            }
        }
        if !listing.complete {
            for (identity, first_seen) in std::mem::take(&mut self.unsettled) {
                if !served.contains(&identity) {
                    unsettled.entry(identity).or_insert(first_seen);
                }
            }
        }
        self.unsettled = unsettled;
    }
}

/// When to look again at something that has failed since `since`: soon at first, later every few seconds.
#[must_use]
pub fn again_at(now: Moment, since: Moment) -> Moment {
    let soon = since.saturating_add(OUTAGE);
    if now < soon { soon } else { now.saturating_add(LOOK_EVERY) }
}

/// When a directory has settled, by the time since it was `changed` and the time since its `run` was changed, if that is
/// executable. A time of `None` is a change in the future: the clock was set, or is that of another machine.
pub(super) fn settled_at(
    now: Moment,
    changed: Option<Duration>,
    run_changed: Option<Option<Duration>>,
) -> Moment {
    let (age, calm) = match run_changed {
        Some(run) => (changed.min(run), CALM),
        None => (changed, SETTLED),
    };
    now.saturating_add(calm.saturating_sub(age.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::files::Identity;

    fn identity(device: u64, inode: u64) -> ServiceIdentity {
        ServiceIdentity::new(Identity { device, inode }, None)
    }

    const fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    fn found(name: &str, inode: u64) -> Found {
        Found { name: CString::new(name).unwrap(), identity: identity(1, inode) }
    }

    fn directory(inode: u64) -> Kind {
        Kind::Directory { identity: identity(1, inode), settled_at: Moment::START }
    }

    fn listing(entries: &[(&str, Kind)]) -> Listing {
        let entries = entries.iter().map(|(name, kind)| (CString::new(*name).unwrap(), *kind)).collect();
        Listing { entries, complete: true }
    }

    fn compare(scan: &mut Scan, now: u64, known: &[Found], entries: &[(&str, Kind)], follows: bool) -> Plan {
        scan.compare(at(now), &known.iter().collect::<Vec<_>>(), &listing(entries), |_, _| follows)
    }

    fn plan(known: &[Found], entries: &[(&str, Kind)], follows: bool) -> Plan {
        compare(&mut Scan::default(), 0, known, entries, follows)
    }

    #[test]
    fn the_new_is_started_and_the_vanished_is_stopped() {
        let known = [found("a", 1), found("b", 2)];
        let plan = self::plan(&known, &[("b", directory(2)), ("c", directory(3)), ("f", Kind::Other)], false);
        assert_eq!(plan, Plan { stop: vec![0], start: vec![found("c", 3)], ..Plan::default() });
    }

    #[test]
    fn a_renamed_link_is_the_same_service_under_its_new_name() {
        let plan = self::plan(&[found("a", 1)], &[("z", directory(1))], false);
        assert_eq!(plan, Plan { rename: vec![(0, c"z".to_owned())], ..Plan::default() });
        let swapped =
            self::plan(&[found("a", 1), found("b", 2)], &[("a", directory(2)), ("b", directory(1))], true);
        let rename = vec![(0, c"b".to_owned()), (1, c"a".to_owned())];
        assert_eq!(swapped, Plan { rename, ..Plan::default() });
    }

    #[test]
    fn two_names_of_a_directory_are_one_service() {
        let both = [("a", directory(1)), ("b", directory(1))];
        assert_eq!(plan(&[], &both, false).start, [found("a", 1)]);
        assert_eq!(plan(&[found("b", 1)], &both, false), Plan::default());
    }

    #[test]
    fn instances_of_a_template_are_different_services() {
        let of = |instance| ServiceIdentity { instance, ..identity(1, 7) };
        let kind = |instance| Kind::Directory { identity: of(instance), settled_at: Moment::START };
        let found = |name: &CStr, instance| Found { name: name.to_owned(), identity: of(instance) };
        let all = [("g@", kind(0)), ("g@a", kind(1)), ("g@b", kind(2))];
        let known = [found(c"g@", 0), found(c"g@a", 1), found(c"g@b", 2)];
        assert_eq!(plan(&[], &all, false).start, known);
        assert_eq!(plan(&known, &all, false), Plan::default());
        // Under another name it gets another argument, so it is another service.
        let renamed = plan(&known, &[("g@", kind(0)), ("g@a", kind(1)), ("g@c", kind(3))], false);
        assert_eq!((renamed.stop, renamed.start), (vec![2], vec![found(c"g@c", 3)]));
    }

    #[test]
    fn a_link_that_was_switched_is_another_service() {
        let plan = self::plan(&[found("a", 1)], &[("a", directory(2))], false);
        assert_eq!((plan.stop, plan.start), (vec![0], vec![found("a", 2)]));
    }

    #[test]
    fn a_runsv_that_followed_its_name_is_kept() {
        let plan = self::plan(&[found("a", 1)], &[("a", directory(2))], true);
        assert_eq!(plan, Plan { follow: vec![(0, identity(1, 2))], ..Plan::default() });
        let known = [found("a", 1), found("b", 2)];
        let to_served = self::plan(&known, &[("a", directory(2)), ("b", directory(2))], true);
        assert_eq!(to_served.stop, [0]);
    }

    #[test]
    fn what_cannot_be_looked_at_stays_and_is_looked_at_again() {
        let mut scan = Scan::default();
        let known = [found("a", 1)];
        let unknown = [("a", Kind::Unknown)];
        for (now, again) in [(0, 1000), (400, 1000), (1000, 6000), (9000, 14_000)] {
            let plan = compare(&mut scan, now, &known, &unknown, false);
            assert_eq!(plan, Plan { unseen: vec![0], again: Some(at(again)), ..Plan::default() });
        }
        assert_eq!(compare(&mut scan, 14_000, &known, &[("a", directory(1))], false), Plan::default());
    }

    #[test]
    fn a_link_that_leads_nowhere_for_long_stops_its_service() {
        let mut scan = Scan::default();
        let known = [found("a", 1)];
        let plan = compare(&mut scan, 0, &known, &[("a", Kind::Nothing)], false);
        assert_eq!((plan.unseen, plan.again), (vec![0], Some(at(1000))));
        let plan = compare(&mut scan, 1000, &known, &[("a", Kind::Nothing)], false);
        assert_eq!((plan.stop, plan.again), (vec![0], Some(at(6000))));
        let plan = compare(&mut scan, 6000, &[], &[("a", directory(1))], false);
        assert_eq!((plan.start.len(), plan.again), (0, Some(at(6000) + NAMED)));
        let plan = compare(&mut scan, 6001, &[], &[("a", directory(1))], false);
        assert_eq!((plan.start, plan.again), (vec![found("a", 1)], None));
    }

    #[test]
    fn a_name_that_an_incomplete_list_lacks_is_kept() {
        let known = [found("a", 1), found("b", 2)];
        let mut half = listing(&[("b", directory(2))]);
        half.complete = false;
        let plan = Scan::default().compare(at(0), &known.iter().collect::<Vec<_>>(), &half, |_, _| false);
        assert_eq!(plan, Plan { unseen: vec![0], again: Some(at(1000)), ..Plan::default() });
    }

    #[test]
    fn a_service_may_be_what_cannot_be_looked_at_under_another_name() {
        let mut scan = Scan::default();
        let known = [found("a", 1)];
        assert_eq!(compare(&mut scan, 0, &known, &[("b", Kind::Unknown)], false).unseen, [0]);
        assert_eq!(compare(&mut scan, 1000, &known, &[("b", Kind::Unknown)], false).stop, [0]);
    }

    #[test]
    fn a_new_directory_settles_first() {
        let changed = |settled| Kind::Directory { identity: identity(1, 1), settled_at: at(settled) };
        let mut scan = Scan::default();
        assert_eq!(compare(&mut scan, 0, &[], &[], false), Plan::default());
        let mut look = |now, settled| {
            let plan = compare(&mut scan, now, &[], &[("a", changed(settled))], false);
            (plan.start.len(), plan.again)
        };
        assert_eq!(look(10, 30), (0, Some(at(30))));
        assert_eq!(look(30, 45), (0, Some(at(45))));
        assert_eq!(look(190, 240), (0, Some(at(210))));
        assert_eq!(look(210, 260), (1, None));
    }

    #[test]
    fn a_directory_has_settled_some_time_after_its_last_change() {
        let ms = Duration::from_millis;
        let old = Some(ms(5000));
        assert_eq!(settled_at(at(9000), old, Some(old)), at(9000));
        assert_eq!(settled_at(at(9000), old, None), at(9000));
        assert_eq!(settled_at(at(9000), Some(ms(15)), Some(Some(ms(5)))), at(9045));
        assert_eq!(settled_at(at(9000), Some(ms(15)), None), at(9185));
        assert_eq!(settled_at(at(9000), old, Some(None)), at(9050));
    }

    /// A change in the directory, or a failure.
    #[derive(Debug, Clone)]
    enum Happens {
        Link(u8, u8),
        Rename(u8, u8),
        Remove(u8),
        Replace(u8, Kind),
        Fail(u8),
        Miss(u8),
        Pass(u64),
        Asked,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            3 => (0..4_u8, 1..5_u8).prop_map(|(name, inode)| Happens::Link(name, inode)),
            2 => (0..4_u8, 0..4_u8).prop_map(|(from, to)| Happens::Rename(from, to)),
            2 => (0..4_u8).prop_map(Happens::Remove),
            1 => (0..4_u8, prop_oneof![Just(Kind::Other), Just(Kind::Nothing)])
                .prop_map(|(name, kind)| Happens::Replace(name, kind)),
            2 => (0..4_u8).prop_map(Happens::Fail),
            1 => (0..4_u8).prop_map(Happens::Miss),
            3 => (0..1500_u64).prop_map(Happens::Pass),
        ]
    }

    proptest! {
        /// In each look some names fail and others are missing. No service is stopped whose directory has a name. When
        /// nothing fails any more, all directories with a name are served, once and under that name, and no others.
        #[test]
        fn what_is_there_is_served_and_only_what_is_gone_is_stopped(
            story in prop::collection::vec(happens(), 1..60),
        ) {
            let mut truth: BTreeMap<u8, Kind> = BTreeMap::new();
            let mut scan = Scan::default();
            let mut known: Vec<Found> = Vec::new();
            let mut now = at(0);
            // Each inode is first seen with times of its own.
            let mut made: BTreeMap<u64, Moment> = BTreeMap::new();
            // The names that fail, and that are missing, in the look after the next event.
            let mut next = (None, None);
            let mut again = None;
            // At the end there are only looks that the plan asked for.
            let looks = std::iter::repeat_n(Happens::Asked, 20);
            for what in story.into_iter().chain(looks) {
                let (fails, misses) = std::mem::take(&mut next);
                match what {
                    Happens::Link(name, inode) => drop(truth.insert(name, directory(u64::from(inode)))),
                    Happens::Rename(from, to) => {
                        if let Some(kind) = truth.remove(&from) {
                            truth.insert(to, kind);
                        }
                    }
                    Happens::Remove(name) => drop(truth.remove(&name)),
                    Happens::Replace(name, kind) => drop(truth.insert(name, kind)),
                    Happens::Fail(name) => next.0 = Some(name),
                    Happens::Miss(name) => next.1 = Some(name),
                    Happens::Pass(millis) => now = now + Duration::from_millis(millis),
                    Happens::Asked => match again {
                        Some(again) => now = now.max(again),
                        None => break,
                    },
                }
                let entries = truth.iter().filter(|(name, _)| Some(**name) != misses).map(|(name, kind)| {
                    let kind = match kind {
                        _ if Some(*name) == fails => Kind::Unknown,
                        Kind::Directory { identity, .. } => {
                            let made = made.entry(identity.directory.inode).or_insert(now);
                            Kind::Directory { identity: *identity, settled_at: *made + CALM }
                        }
                        kind => *kind,
                    };
                    (CString::new(vec![b'a' + name]).unwrap(), kind)
                });
                let listing = Listing { entries: entries.collect(), complete: misses.is_none() };
                let plan = scan.compare(now, &known.iter().collect::<Vec<_>>(), &listing, |_, _| false);
                again = plan.again;
                for place in &plan.stop {
                    let inode = known[*place].identity.directory.inode;
                    prop_assert!(!truth.values().any(|kind| *kind == directory(inode)), "stopped, but is there");
                }
                for (place, name) in &plan.rename {
                    known[*place].name.clone_from(name);
                }
                for place in plan.stop.iter().rev() {
                    known.remove(*place);
                }
                known.extend(plan.start);
            }
            let served: BTreeSet<ServiceIdentity> = known.iter().map(|known| known.identity).collect();
            prop_assert_eq!(served.len(), known.len());
            let there: BTreeSet<ServiceIdentity> = truth
                .values()
                .filter_map(|kind| if let Kind::Directory { identity, .. } = kind { Some(*identity) } else { None })
                .collect();
            prop_assert_eq!(served, there);
            for known in &known {
                let name = known.name.to_bytes()[0] - b'a';
                let seen = directory(known.identity.directory.inode);
                prop_assert_eq!(truth.get(&name), Some(&seen));
            }
        }
    }
}
