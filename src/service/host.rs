//! One loop for any number of services: waits, and tells each what concerns it.
//!
//! Nobody is waited for but here, so a hook that hangs or a service in its second of delay holds up no other. What a
//! turn costs depends on what happened, not on how many services there are: the processes and the moments that each
//! waits for are looked up, and of many the FIFOs are watched by [`Interest`].

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};

use super::perform::{Service, Unit};
use super::step::Now;
use crate::Signal;
use crate::control::Command;
use crate::event::{self, Wait, Woken};
use crate::moment::{Moment, earlier};
use crate::process::Ended;
use crate::role::Role;
use crate::sys::clock;
use crate::sys::interest::Interest;
use crate::sys::residency::release_executable;
use crate::sys::signals::{Came, Signals};
use crate::sys::watch::Inotify;
use crate::tai;

/// A service among others keeps its place, by which it is known here.
pub type Place = usize;

/// Services under one supervisor.
#[derive(Debug)]
pub struct Host {
    signals: Signals,
    places: Vec<Option<Hosted>>,
    /// Places that are empty.
    free: Vec<Place>,
    /// Of many, all FIFOs; the number is that of [`number_of`]. `None`: they are listed at each wait.
    controls: Option<Interest>,
    /// Whose each process is.
    processes: BTreeMap<i32, Place>,
    /// When each is due next.
    due: BTreeSet<(Moment, Place)>,
    /// Of many, removals in their `supervise` directories; and whose each watch is.
    removals: Option<Inotify>,
    watches: BTreeMap<i32, Place>,
    /// There may be ended children that were not taken yet.
    reap_at: Option<Moment>,
    /// See [`Host::release_at_next_wait`].
    release_at_next_wait: Cell<bool>,
}

/// How many ended children are taken in a turn; the others are taken in the next, after commands and deadlines.
const REAPED_MAX: usize = 64;
/// How many services that are due are looked at in a turn.
const DUE_MAX: usize = 64;
/// How long after a failed wait(2) it is tried again.
const REAP_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Hosted {
    service: Box<Service>,
    /// As it is in [`Host::due`].
    due: Option<Moment>,
}

/// What happened in one turn that is not for the services.
#[derive(Debug, Default)]
pub struct Turn {
    /// The signals, in the order in which they are to be looked at.
    pub signals: Vec<Came>,
    /// Ended processes that belong to no service.
    pub strangers: Vec<(Pid, Ended)>,
    /// Which of the other descriptors are ready, in their order.
    pub ready: Vec<bool>,
    /// Something happened to a service or to us: it was not only time that passed, or an orphan that ended.
    pub happened: bool,
    /// A service with a file `essential` that ended by itself.
    pub essential: Option<(Place, Ended)>,
}

/// The moment it is.
#[must_use]
pub fn now() -> Now {
    Now { at: clock::monotonic(), stamp: tai::now() }
}

impl Host {
    /// A host without services, that waits for `signals`; CHLD, CHANGE and IO have to be among them.
    #[must_use]
    pub const fn new(signals: Signals) -> Self {
        Host {
            signals,
            places: Vec::new(),
            free: Vec::new(),
            controls: None,
            processes: BTreeMap::new(),
            due: BTreeSet::new(),
            removals: None,
            watches: BTreeMap::new(),
            reap_at: None,
            release_at_next_wait: Cell::new(false),
        }
    }

    /// The same for many services.
    #[must_use]
    pub fn of_many(signals: Signals) -> Self {
        Host { controls: Interest::new().ok(), removals: Inotify::new().ok(), ..Host::new(signals) }
    }

    /// Takes a service that was begun.
    pub fn add(&mut self, service: Box<Service>) -> Place {
        let hosted = Hosted { service, due: None };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len().saturating_sub(1)
        });
        if let Some(empty) = self.places.get_mut(place) {
            *empty = Some(hosted);
        }
        self.note(place);
        if self.get(place).is_some_and(Service::has_essential_end) {
            self.due_at(place, Moment::START);
        }
        place
    }

    /// One of the services.
    #[must_use]
    pub fn get(&self, place: Place) -> Option<&Service> {
        self.places.get(place)?.as_ref().map(|hosted| &*hosted.service)
    }

    /// All services, with their places.
    pub fn services(&self) -> impl Iterator<Item = (Place, &Service)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(place, hosted)| hosted.as_ref().map(|hosted| (place, &*hosted.service)))
    }

    /// Gives all services a command, as if each had read it.
    pub fn command_all(&mut self, now: Now, command: Command) {
        /// How long a service has before others can read that it got TERM: one that ends sooner is published only
        /// once, as down.
        const SOON: Duration = Duration::from_millis(20);
        for place in 0..self.places.len() {
            self.command_and_look(now, place, command, SOON);
        }
        if command == Command::Exit {
            // Its end takes the kernel some milliseconds, which pass while the services end.
            self.removals = None;
        }
    }

    /// Gives one service a command, as if it had read it.
    pub fn command(&mut self, now: Now, place: Place, command: Command) {
        self.command_and_look(now, place, command, Duration::ZERO);
    }

    /// Gives one service a command, and looks at it `time` later if it still runs then.
    fn command_and_look(&mut self, now: Now, place: Place, command: Command, time: Duration) {
        if let Some(service) = self.service(place) {
            service.command(now, command);
            let runs = service.unit(Role::Main).and_then(Unit::pid).is_some();
            self.note(place);
            self.due_at(place, if runs { now.at.saturating_add(time) } else { now.at });
        }
    }

    /// Kills what has not ended of each service but its log service; see [`Service::kill`].
    pub fn kill_services(&mut self) {
        for hosted in self.places.iter_mut().flatten() {
            hosted.service.kill();
        }
    }

    /// Kills the log services that have not ended; see [`Service::kill_log`].
    pub fn kill_logs(&mut self) {
        for hosted in self.places.iter_mut().flatten() {
            hosted.service.kill_log();
        }
    }

    /// Nothing is started any more; see [`Service::hold`].
    pub fn hold(&mut self) {
        for place in 0..self.places.len() {
            if let Some(service) = self.service(place) {
                service.hold();
                self.note(place);
            }
        }
    }

    /// Lets go of memory that can be had again directly before the next wait, since that is likely to be long; see
    /// [`release_executable`].
    pub fn release_at_next_wait(&self) {
        self.release_at_next_wait.set(true);
    }

    /// Waits once, until `until` or for one of `others` too, tells everybody, and hands over the services that are over.
    pub fn turn(
        &mut self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        until: Option<Moment>,
        mut over: impl FnMut(Place, Box<Service>),
    ) -> Turn {
        let (came_signal, removed, commanded, ready) = self.wait(others, until);
        let mut turn = Turn { ready, ..Turn::default() };
        // Read once, and not at all for the end of an orphan.
        let moment = std::cell::OnceCell::new();
        let now = || *moment.get_or_init(self::now);
        let mut touched = Vec::new();
        if came_signal || self.reap_at.is_some_and(|at| now().at >= at) {
            self.take_signals(&now, &mut turn, &mut touched);
        }
        if removed {
            self.look_for_removals(&now, &mut touched);
        }
        for (place, role) in commanded {
            if let Some(service) = self.service(place) {
                service.read_commands(now(), role);
                touched.push(place);
            }
        }
        for _ in 0..DUE_MAX {
            let Some((_, place)) = self.due.first().copied().filter(|(at, _)| now().at >= *at) else { break };
            if let Some(service) = self.service(place)
                && service.next_tick().is_some_and(|at| now().at >= at)
            {
                service.tick(now());
            }
            touched.push(place);
            // It is noted again below.
            if let Some(Some(hosted)) = self.places.get_mut(place) {
                hosted.due = None;
            }
            self.due.pop_first();
        }
        touched.sort_unstable();
        touched.dedup();
        turn.happened = !touched.is_empty() || !turn.signals.is_empty() || turn.ready.contains(&true);
        for place in touched {
            let Some(service) = self.service(place) else { continue };
            let leaves = service.leave(now());
            turn.essential = turn.essential.or(service.take_essential_end().map(|how| (place, how)));
            service.publish(now());
            if leaves {
                if let Some(mut service) = self.remove(place) {
                    service.tidy();
                    over(place, service);
                }
            } else {
                self.note(place);
            }
        }
        turn
    }

    /// How many services there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// Whether there is no service.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn service(&mut self, place: Place) -> Option<&mut Box<Service>> {
        self.places.get_mut(place)?.as_mut().map(|hosted| &mut hosted.service)
    }

    fn remove(&mut self, place: Place) -> Option<Box<Service>> {
        let hosted = self.places.get_mut(place)?.take()?;
        if let Some(removals) = &self.removals {
            // A watch that is there already has the same number.
            for watch in
                hosted.service.units().filter_map(|unit| removals.add_removals(unit.supervise_dir()).ok())
            {
                removals.remove(watch);
                self.watches.remove(&watch);
            }
        }
        self.free.push(place);
        if let Some(at) = hosted.due {
            self.due.remove(&(at, place));
        }
        for pid in hosted.service.processes() {
            self.processes.remove(&key(pid));
        }
        Some(hosted.service)
    }

    /// Notes what a service waits for, after it did something.
    fn note(&mut self, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        self.processes.extend(hosted.service.processes().map(|pid| (key(pid), place)));
        for unit in hosted.service.units_mut() {
            if !unit.take_new_control() {
                continue;
            }
            if let Some(removals) = &self.removals {
                // Where that does not work, a removed FIFO is noticed when something else happens.
                let watch = removals.add_removals(unit.supervise_dir()).ok();
                self.watches.extend(watch.map(|watch| (watch, place)));
            }
            let number = number_of(place, unit.role());
            let add = |controls: &Interest| controls.add(unit.control(), number).is_ok();
            if !self.controls.as_ref().is_none_or(add) {
                // Then all are listed at each wait, as few are.
                self.controls = None;
            }
        }
        let due = hosted.service.next_tick();
        if due != hosted.due {
            if let Some(at) = hosted.due.take() {
                self.due.remove(&(at, place));
            }
            if let Some(at) = due {
                self.due.insert((at, place));
                hosted.due = Some(at);
            }
        }
    }

    /// Looks at a service at this moment, if not before.
    fn due_at(&mut self, place: Place, at: Moment) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if hosted.due.is_none_or(|due| at < due) {
            if let Some(due) = hosted.due.replace(at) {
                self.due.remove(&(due, place));
            }
            self.due.insert((at, place));
        }
    }

    /// Waits. Gives whether a signal came, whether something was removed, who was sent a command, and which of the others
    /// are ready.
    fn wait(
        &self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        until: Option<Moment>,
    ) -> (bool, bool, Vec<(Place, Role)>, Vec<bool>) {
        let until = earlier(until, self.due.first().map(|(at, _)| *at));
        let until = earlier(until, self.reap_at);
        let mut fds = Vec::with_capacity(others.len() + 3);
        let mut whose = Vec::new();
        let mut add = |fd, flags| fds.push(PollFd::from_borrowed_fd(fd, flags));
        add(self.signals.as_fd(), PollFlags::IN);
        for (fd, flags) in others {
            add(*fd, *flags);
        }
        if let Some(removals) = &self.removals {
            add(removals.as_fd(), PollFlags::IN);
        }
        match &self.controls {
            Some(controls) => add(controls.as_fd(), PollFlags::IN),
            None => {
                for (place, service) in self.services() {
                    for unit in service.units() {
                        add(unit.control(), PollFlags::IN);
                        whose.push((place, unit.role()));
                    }
                }
            }
        }
        if self.release_at_next_wait.take() {
            // Last: what is touched between this and the wait stays in memory.
            release_executable();
        }
        let all = event::wait(&mut fds, Wait::until(until)) == Woken::Unknown;
        let mut came = fds.iter().map(|fd| all || !fd.revents().is_empty());
        let came_signal = came.next() == Some(true);
        let ready = others.iter().map(|_| came.next() == Some(true)).collect();
        let removed = self.removals.is_some() && came.next() == Some(true);
        let commanded = match &self.controls {
            Some(controls) if came.next() == Some(true) => {
                controls.ready().into_iter().map(whose_is).collect()
            }
            Some(_) => Vec::new(),
            None => came.zip(whose).filter(|(came, _)| *came).map(|(_, whose)| whose).collect(),
        };
        (came_signal, removed, commanded, ready)
    }

    fn look_for_removals(&mut self, now: &impl Fn() -> Now, touched: &mut Vec<Place>) {
        let mut places = BTreeSet::new();
        let Some(removals) = &self.removals else { return };
        removals.take(|watch, _| {
            places.extend(self.watches.get(&watch));
        });
        for place in places {
            if let Some(service) = self.service(place) {
                service.look_for_removals(now());
                touched.push(place);
            }
        }
    }

    fn take_signals(&mut self, now: &impl Fn() -> Now, turn: &mut Turn, touched: &mut Vec<Place>) {
        let (mut children, mut all) = (self.reap_at.take().is_some(), false);
        let mut changed = Vec::new();
        self.signals.take(|came| match came.signal {
            Signal::CHLD => children = true,
            _ if came.is_change() => changed.push(came.fd),
            _ if came.is_overflow() => all = true,
            _ => turn.signals.push(came),
        });
        // One signal may stand for many ends.
        for count in 0.. {
            if !children || count == REAPED_MAX {
                self.reap_at = children.then_some(Moment::START);
                break;
            }
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::CHILD) => break,
                Err(_) => {
                    self.reap_at = Some(now().at.saturating_add(REAP_AGAIN));
                    break;
                }
            };
            let Some(how) = Ended::from_status(status) else { continue };
            let place = self.processes.remove(&key(pid));
            let Some((place, service)) = place.and_then(|place| Some((place, self.service(place)?))) else {
                turn.strangers.push((pid, how));
                continue;
            };
            service.child_ended(now(), pid, how);
            touched.push(place);
            // What was started may have ended before the next call.
            self.note(place);
        }
        changed.sort_unstable();
        changed.dedup();
        for place in 0..if all || !changed.is_empty() { self.places.len() } else { 0 } {
            let Some(service) = self.service(place) else { continue };
            let is_among = |fd: i32| changed.binary_search(&fd).is_ok();
            if all || service.watches().any(is_among) {
                service.look_again(now());
                touched.push(place);
            } else if service.units().map(|unit| unit.supervise_dir().as_raw_fd()).any(is_among) {
                service.look_for_removals(now());
                touched.push(place);
            }
        }
    }
}

const fn key(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// The number under which a FIFO is watched.
fn number_of(place: Place, role: Role) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX >> 1) << 1 | u64::from(role == Role::Log)
}

fn whose_is(number: u64) -> (Place, Role) {
    let role = if number & 1 == 0 { Role::Main } else { Role::Log };
    (Place::try_from(number >> 1).unwrap_or(Place::MAX), role)
}
