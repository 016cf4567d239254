//! Services that wait until those that they need are ready.
//!
//! A service of this host is asked in memory, any other by its files, whose changes are signalled.
//!
//! Services that wait are looked at in turns like those that are due, so that a thousand that wait for one hold up nobody.

mod checks;
mod cycles;
mod ending;

use std::ffi::CString;
use std::time::Duration;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Host, Hosted, Place, sorted::Sorted};
use crate::files;
use crate::moment::{Moment, earlier};
use crate::needs::neighbour::{Found, Neighbour, Watched, believed_by};
use crate::needs::{Known, Standing, resolve, standing};
use crate::policy::Need;
use crate::service::step::Now;
use crate::sys::watch;
use crate::template::ServiceIdentity;

use checks::{Asked, Check};
use cycles::CYCLE_FIRST;
use ending::Ending;

/// How long a sibling of one of many services is expected to be hosted here, before its files are looked at.
const HOSTED_SOON: Duration = Duration::from_secs(1);
/// How long a service waits before writes to its file `needs` are signalled: most waits are shorter, and the watch costs more
/// than the rest of them.
const WATCHED_AFTER: Duration = Duration::from_secs(1);
/// A file `needs` that is written to is read when nothing has changed for this long: at first it may be empty.
const SETTLED: Duration = Duration::from_millis(50);
/// How often to look at what cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a host knows of needs; nothing as long as no service needs another.
#[derive(Debug)]
pub(super) struct Needs {
    /// The places of all services by a hash of their paths, once one was looked for.
    by_path: Option<Sorted<u64>>,
    /// The places of services that wait for one that is not hosted, by a hash of its path.
    awaited: Sorted<u64>,
    checks: Vec<Check>,
    /// All services are told to end, each after those that need it.
    ending: Option<Ending>,
}

/// A service that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    needs: Vec<Needed>,
    /// The users who are believed about what it needs, once that was asked.
    believed: Option<Vec<u32>>,
    /// Its directory, to learn that the file `needs` is written to.
    own: Option<OwnedFd>,
    /// When to watch that.
    watch_at: Option<Moment>,
    /// The file may say something else: when to read it.
    stale_at: Option<Moment>,
    /// Until then siblings are expected to be hosted here.
    hosted_soon: Moment,
    /// When to look for cycles, and the pause before the next look.
    cycles: (Moment, Duration),
    /// When to look at what it needs.
    look_at: Option<Moment>,
}

/// A service that is waited for.
#[derive(Debug)]
struct Needed {
    need: Need,
    path: CString,
    /// The hash of the path.
    key: u64,
    /// Where it is hosted, if it is.
    place: Option<Place>,
    /// If it is hosted elsewhere.
    watched: Watched,
    /// The directory whose `./check` is asked.
    checked: Option<ServiceIdentity>,
    /// It closes a cycle.
    is_ignored: bool,
}

/// Whether a service that is needed is ready, and when to ask again although nothing has happened.
type Answer = (bool, Option<Moment>);

impl Waiting {
    /// When something is due.
    pub(super) fn due(&self) -> Option<Moment> {
        let of_file = earlier(self.stale_at, self.watch_at);
        earlier(earlier(self.look_at, of_file), Some(self.cycles.0))
    }

    /// Whether one of the directories with these descriptors concerns it.
    fn note_changes(&mut self, now: Moment, is_changed: impl Fn(i32) -> bool) -> bool {
        let is_own = self.own.as_ref().is_some_and(|own| is_changed(own.as_raw_fd()));
        let mut watched = self.needs.iter().flat_map(|needed| needed.watched.numbers());
        let is_watched = watched.any(is_changed);
        if is_own {
            self.stale_at = Some(now.saturating_add(SETTLED));
        }
        if !is_watched {
            return is_own;
        }
        self.look_at = Some(Moment::START);
        // Perhaps one that is needed has begun to wait, too.
        self.cycles = (self.cycles.0.min(now.saturating_add(CYCLE_FIRST)), CYCLE_FIRST);
        true
    }
}

fn hash(path: &[u8]) -> u64 {
    // FNV-1a.
    path.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

impl Host {
    /// Answers a service that asks for what it needs, and forgets that one waits when it does not any more.
    pub(super) fn handle_needs(&mut self, now: Now, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if hosted.service.take_asked_needs() {
            match &mut hosted.waiting {
                Some(waiting) => waiting.stale_at = Some(Moment::START),
                None => hosted.waiting = Some(Box::new(Waiting::begin(now.at, hosted))),
            }
            self.look_at_needs(now, place);
        } else if hosted.waiting.is_some() && !hosted.service.waits_for_needs() {
            self.stop_waiting(place);
        }
    }

    /// Does what is due for a service that waits.
    pub(super) fn tick_needs(&mut self, now: Now, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        let Some(waiting) = &mut hosted.waiting else { return };
        if waiting.watch_at.take_if(|at| now.at >= *at).is_some() {
            waiting.watch_own(hosted.service.directory());
            waiting.stale_at = Some(Moment::START);
        }
        if now.at >= waiting.cycles.0 {
            self.look_for_cycles(now.at);
        } else if earlier(waiting.look_at, waiting.stale_at).is_none_or(|at| now.at < at) {
            return;
        }
        self.look_at_needs(now, place);
    }

    /// Directories changed: those who wait for something in them are looked at.
    pub(super) fn note_needs_changed(&mut self, now: Now, is_changed: impl Fn(i32) -> bool) {
        for place in 0..self.places.len() {
            let Some(Some(hosted)) = self.places.get_mut(place) else { continue };
            let Some(waiting) = &mut hosted.waiting else { continue };
            if hosted.service.watches().any(&is_changed) {
                waiting.stale_at = Some(now.at.saturating_add(SETTLED));
            }
            if waiting.note_changes(now.at, &is_changed) || waiting.stale_at.is_some() {
                self.note(place);
            }
        }
    }

    /// Something happened to a service: those who wait for it are looked at, if that matters to them.
    pub(super) fn pass_on_readiness(&mut self, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if hosted.needed_by.is_empty() {
            return;
        }
        let known = hosted.service.known();
        let is_ready = |known: Known| standing(&known) != Standing::NotReady;
        match hosted.last_known.replace(known) {
            Some(before) if before == known || !(is_ready(before) || is_ready(known)) => return,
            _ => {}
        }
        for waiting in hosted.needed_by.clone() {
            self.wake(waiting);
        }
    }

    /// A service is hosted from now on: those who wait for one of its path are looked at.
    pub(super) fn note_added(&mut self, place: Place) {
        let Some(Some(hosted)) = self.places.get(place) else { return };
        let Some(by_path) = &mut self.needs.by_path else { return };
        let key = hash(hosted.path());
        by_path.insert(key, place);
        let waiting: Vec<Place> = self.needs.awaited.all(key).collect();
        for place in waiting {
            self.wake(place);
        }
    }

    /// The directory of a service was renamed: from now on it is the service of this path for those that need it.
    pub fn rename(&mut self, place: Place, path: &[u8]) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if let Some(by_path) = &mut self.needs.by_path {
            by_path.remove(hash(hosted.path()), place);
        }
        hosted.renamed_to = Some(path.into());
        if let Some(waiting) = &mut hosted.waiting {
            // What it needs by a relative path may be another service now.
            waiting.stale_at = Some(Moment::START);
            self.note(place);
        }
        if let Some(Some(hosted)) = self.places.get(place) {
            for waiting in hosted.needed_by.clone() {
                self.wake(waiting);
            }
        }
        self.note_added(place);
    }

    /// The path of the service at a place.
    fn path_of(&self, place: Place) -> Option<&[u8]> {
        self.places.get(place)?.as_ref().map(Hosted::path)
    }

    /// A service is not hosted any more: those who wait for it have to look elsewhere.
    pub(super) fn note_removed(&mut self, place: Place, hosted: &Hosted) {
        if let Some(by_path) = &mut self.needs.by_path {
            by_path.remove(hash(hosted.path()), place);
        }
        for waiting in &hosted.needed_by {
            self.wake(*waiting);
        }
        if let Some(waiting) = &hosted.waiting {
            self.forget(place, waiting);
        }
    }

    /// Has a service that waits looked at in this turn or the next.
    fn wake(&mut self, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if let Some(waiting) = &mut hosted.waiting {
            waiting.look_at = Some(Moment::START);
            self.note(place);
        }
    }

    fn stop_waiting(&mut self, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if let Some(waiting) = hosted.waiting.take() {
            self.forget(place, &waiting);
        }
    }

    /// A service does not wait any more.
    fn forget(&mut self, place: Place, waiting: &Waiting) {
        for needed in &waiting.needs {
            self.needs.awaited.remove(needed.key, place);
            let hosted = needed.place.and_then(|place| self.places.get_mut(place));
            if let Some(Some(hosted)) = hosted {
                hosted.needed_by.retain(|waiting| *waiting != place);
            }
        }
        self.drop_checks();
    }

    /// Looks at all that a service needs, and answers it.
    fn look_at_needs(&mut self, now: Now, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        let Some(mut waiting) = hosted.waiting.take() else { return };
        if !hosted.service.waits_for_needs() {
            self.forget(place, &waiting);
            return;
        }
        if waiting.stale_at.take_if(|at| now.at >= *at).is_some() {
            self.forget(place, &waiting);
            if let Some(Some(hosted)) = self.places.get_mut(place) {
                waiting.read(now.at, hosted);
            }
        }
        waiting.look_at = None;
        let mut waits = Vec::new();
        for index in 0..waiting.needs.len() {
            let (is_ready, again) = self.is_ready(now.at, place, &mut waiting, index);
            waiting.look_at = earlier(waiting.look_at, again);
            if let Some(needed) = waiting.needs.get(index).filter(|_| !is_ready) {
                waits.push(needed.need.name.clone());
            }
        }
        let is_met = waits.is_empty();
        if is_met {
            self.forget(place, &waiting);
        }
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if !is_met {
            hosted.waiting = Some(waiting);
        }
        hosted.service.answer_needs(now, waits);
        // The answer may have led to another question, which comes next time.
        if hosted.waiting.is_some() && !hosted.service.waits_for_needs() {
            self.stop_waiting(place);
        }
    }

    /// Whether one of those that a service needs is ready.
    fn is_ready(&mut self, now: Moment, place: Place, waiting: &mut Waiting, index: usize) -> Answer {
        let Some(needed) = waiting.needs.get_mut(index) else { return (true, None) };
        if needed.is_ignored {
            return (true, None);
        }
        let hosted_at = self.place_of(needed.key, needed.path.to_bytes());
        if hosted_at != needed.place {
            for (place_of, is_new) in [(needed.place, false), (hosted_at, true)] {
                let hosted = place_of.and_then(|it| self.places.get_mut(it)).and_then(Option::as_mut);
                match hosted {
                    Some(hosted) if is_new => {
                        hosted.needed_by.push(place);
                        // Others may know less of it than this one: they learn it when it is passed on.
                        hosted.last_known = None;
                    }
                    Some(hosted) => hosted.needed_by.retain(|it| *it != place),
                    None => {}
                }
            }
            needed.place = hosted_at;
        }
        match hosted_at {
            Some(_) => self.needs.awaited.remove(needed.key, place),
            None => self.needs.awaited.insert(needed.key, place),
        }
        if let Some(hosted_at) = hosted_at {
            needed.watched = Watched::default();
            return self.is_hosted_ready(now, hosted_at, needed);
        }
        let is_sibling = !needed.need.name.contains(&b'/');
        if is_sibling && self.controls.is_some() && now < waiting.hosted_soon {
            let is_missing =
                needed.need.optional && files::look(CWD, &needed.path).is_ok_and(|it| it.is_none());
            return (is_missing, Some(waiting.hosted_soon));
        }
        let own = self.places.get(place).and_then(Option::as_ref);
        let believed = waiting
            .believed
            .get_or_insert_with(|| own.map_or_else(Vec::new, |own| believed_by(own.service.directory())));
        let found = needed.watched.look(&needed.path, believed);
        let again = (needed.watched.is_blind() || !watch::MAY_WORK).then(|| now.saturating_add(LOOK_EVERY));
        match found {
            Found::Missing => (needed.need.optional, again),
            Found::Unserved => (false, again),
            Found::Served(known) => match standing(&known) {
                Standing::Ready => (true, None),
                Standing::NotReady => (false, again),
                Standing::IfChecked => match Neighbour::open(&needed.path, believed) {
                    Ok(neighbour) => {
                        needed.checked = Some(neighbour.identity);
                        let asked = Asked {
                            identity: neighbour.identity,
                            dir: neighbour.dir.as_fd(),
                            instance: neighbour.instance.as_ref(),
                            status: &known.status,
                        };
                        let checked = self.check(now, &asked);
                        (checked.0, earlier(checked.1, again))
                    }
                    Err(_) => (false, again),
                },
            },
        }
    }

    /// The same for one that is hosted here.
    fn is_hosted_ready(&mut self, now: Moment, place: Place, needed: &mut Needed) -> Answer {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return (false, None) };
        let known = hosted.service.known();
        let directory = hosted.service.directory();
        let has_check = || files::look(directory, c"check").is_ok_and(|check| check.is_some());
        let may_be_checked = standing(&known) == Standing::Ready && known.readiness.is_none();
        match standing(&Known { has_check: may_be_checked && has_check(), ..known }) {
            Standing::Ready => (true, None),
            Standing::NotReady => (false, None),
            Standing::IfChecked => {
                let Some(identity) = hosted.service.identity() else { return (false, None) };
                needed.checked = Some(identity);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                match openat(directory, c".", flags, Mode::empty()) {
                    Ok(directory) => {
                        let instance = hosted.service.instance().cloned();
                        let (dir, instance, status) = (directory.as_fd(), instance.as_ref(), &known.status);
                        self.check(now, &Asked { identity, dir, instance, status })
                    }
                    Err(_) => (false, Some(now.saturating_add(LOOK_EVERY))),
                }
            }
        }
    }

    /// The place of the service that was given by this path.
    fn place_of(&mut self, key: u64, path: &[u8]) -> Option<Place> {
        if self.needs.by_path.is_none() {
            let mut by_path = Sorted::new();
            for (place, hosted) in self.places.iter().enumerate() {
                if let Some(hosted) = hosted {
                    by_path.insert(hash(hosted.path()), place);
                }
            }
            self.needs.by_path = Some(by_path);
        }
        let by_path = self.needs.by_path.as_ref()?;
        let mut places = by_path.all(key);
        places.find(|&place| self.path_of(place) == Some(path))
    }
}

impl Needs {
    pub(super) const fn new() -> Self {
        Needs { by_path: None, awaited: Sorted::new(), checks: Vec::new(), ending: None }
    }
}

impl Waiting {
    /// A service begins to wait.
    fn begin(now: Moment, hosted: &mut Hosted) -> Self {
        let mut waiting = Waiting {
            needs: Vec::new(),
            believed: None,
            own: None,
            watch_at: Some(now.saturating_add(WATCHED_AFTER)),
            stale_at: None,
            hosted_soon: now.saturating_add(HOSTED_SOON),
            cycles: (now.saturating_add(CYCLE_FIRST), CYCLE_FIRST),
            look_at: None,
        };
        waiting.read(now, hosted);
        waiting
    }

    /// From now on writes to the file `needs` are signalled. Other changes of the directory are anyway.
    fn watch_own(&mut self, directory: BorrowedFd<'_>) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = openat(directory, c".", flags, Mode::empty()).ok();
        self.own = own.filter(|own| watch::signal_changes_and_writes(own.as_fd()).is_ok());
    }

    /// Reads the file `needs`. If it makes no sense, perhaps since it is just being written, what it said before holds. If it
    /// lists other services than before, these may close a cycle that is to be found soon.
    fn read(&mut self, now: Moment, hosted: &mut Hosted) {
        let path = hosted.path().to_vec();
        let needed = |need: Need| {
            let path = CString::new(resolve(&path, &need.name)).ok()?;
            Some(Needed {
                need,
                key: hash(path.to_bytes()),
                path,
                place: None,
                watched: Watched::default(),
                checked: None,
                is_ignored: false,
            })
        };
        let Some(needs) = hosted.service.read_needs() else { return };
        let needs = needs.into_iter().filter_map(needed).collect();
        let before = std::mem::replace(&mut self.needs, needs);
        if !self.needs.iter().map(|needed| &needed.path).eq(before.iter().map(|needed| &needed.path)) {
            self.cycles = (now.saturating_add(CYCLE_FIRST), CYCLE_FIRST);
            return;
        }
        for (needed, before) in self.needs.iter_mut().zip(&before) {
            needed.is_ignored = before.is_ignored;
        }
    }
}
