//! One loop for any number of services: waits, and passes each what concerns it.
//!
//! This is the only place that waits, so a hook that hangs, or a service in the pause between two starts, holds up no
//! other. What a turn costs depends on what happened, not on how many services there are: the processes and the moments
//! that each waits for are looked up, and the FIFOs of many are watched by [`Interest`].

mod failures;
mod needs;
mod signalled;
mod sorted;
mod waiting;

use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fd::BorrowedFd;
use rustix::process::Pid;

use super::perform::{Service, Unit};
use super::step::Now;
use crate::control::Command;
use crate::logger::protocol::LogNumber;
use crate::moment::{Moment, earlier};
use crate::needs::Known;
use crate::process::Ended;
use crate::role::Role;
use crate::sort::sort;
use crate::sys::clock;
use crate::sys::interest::Interest;
use crate::sys::signals::{Came, Signals};
use crate::sys::watch::Inotify;
use crate::tai;

use failures::Failures;
use needs::{Needs, Waiting};
use sorted::Sorted;
use waiting::{Source, number_of};

/// The number by which a service is known here, as long as it is hosted.
pub type Place = usize;

/// How many services that are due are looked at in a turn.
const DUE_MAX: usize = 64;

/// Services under one supervisor.
#[derive(Debug)]
pub struct Host {
    signals: Signals,
    places: Vec<Option<Hosted>>,
    /// Places that are empty.
    free: Vec<Place>,
    /// The FIFOs `control` of many services, and what their programs tell something by, each under the number of
    /// [`number_of`]. `None`: each wait lists them all.
    controls: Option<Interest>,
    /// Watches the `supervise` directories of many services for removals. `None`: removals arrive as signals.
    removals: Option<Inotify>,
    /// The place of each watch of [`Host::removals`].
    watches: Sorted<i32>,
    /// The place of each process.
    processes: Sorted<i32>,
    /// The place of each process that leads a group which is to end with it.
    groups: Sorted<i32>,
    /// When the service at each place is due next.
    due: Sorted<Moment>,
    /// The calls of `on-failure`.
    failures: Failures,
    /// There may be ended children that are not reaped yet: when to look.
    reap_at: Option<Moment>,
    /// Whether the next wait is likely to be long; see [`Host::expect_long_wait`].
    expects_long_wait: bool,
    needs: Needs,
}

#[derive(Debug)]
struct Hosted {
    service: Box<Service>,
    /// Its path since the directory was renamed, if it was.
    renamed_to: Option<Box<[u8]>>,
    /// As it is in [`Host::due`].
    due: Option<Moment>,
    /// While it waits for others that it needs.
    waiting: Option<Box<Waiting>>,
    /// The places of those that wait for it.
    needed_by: Vec<Place>,
    /// What those know of it.
    last_known: Option<Known>,
    /// The needs that were reported to close a cycle.
    told_cycles: Vec<Vec<u8>>,
}

impl Hosted {
    const fn new(service: Box<Service>) -> Self {
        Hosted {
            service,
            renamed_to: None,
            due: None,
            waiting: None,
            needed_by: Vec::new(),
            last_known: None,
            told_cycles: Vec::new(),
        }
    }

    /// The path of its directory.
    fn path(&self) -> &[u8] {
        self.renamed_to.as_deref().unwrap_or_else(|| self.service.path())
    }
}

/// What happened in one turn that the services do not handle themselves.
#[derive(Debug, Default)]
pub struct Turn {
    /// The signals, in the order in which they are to be looked at.
    pub signals: Vec<Came>,
    /// The ends of processes that belong to no service.
    pub other_ends: Vec<(Pid, Ended)>,
    /// Which of the other descriptors are ready, in their order.
    pub ready: Vec<bool>,
    /// Something happened to a service or to us: it was not only time that passed, or an orphan that ended.
    pub happened: bool,
    /// A service with a file `essential` that ended on its own.
    pub essential: Option<(Place, Ended)>,
}

/// The present moment on both clocks.
#[must_use]
pub fn now() -> Now {
    Now { at: clock::monotonic(), stamp: tai::now() }
}

impl Host {
    /// A host without services, for few of them. It waits for `signals`; CHLD, CHANGE and IO have to be among them.
    #[must_use]
    pub const fn new(signals: Signals) -> Self {
        Host {
            signals,
            places: Vec::new(),
            free: Vec::new(),
            controls: None,
            removals: None,
            watches: Sorted::new(),
            processes: Sorted::new(),
            groups: Sorted::new(),
            due: Sorted::new(),
            failures: Failures::new(),
            reap_at: None,
            expects_long_wait: false,
            needs: Needs::new(),
        }
    }

    /// The same for many services.
    #[must_use]
    pub fn of_many(signals: Signals) -> Self {
        Host { controls: Interest::new().ok(), removals: Inotify::new().ok(), ..Host::new(signals) }
    }

    /// Hosts a service after [`Service::begin`]. Returns its place.
    pub fn add(&mut self, service: Box<Service>) -> Place {
        let hosted = Hosted::new(service);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len().saturating_sub(1)
        });
        if let Some(empty) = self.places.get_mut(place) {
            *empty = Some(hosted);
        }
        self.note(place);
        self.note_added(place);
        if self.service(place).is_some_and(|service| service.waits_for_needs()) {
            let now = now();
            self.handle_needs(now, place);
            if let Some(service) = self.service(place) {
                service.publish(now);
            }
            self.note(place);
        }
        if self.get(place).is_some_and(Service::has_essential_end) {
            self.look_at_latest(place, Moment::START);
        }
        place
    }

    /// One of the services.
    #[must_use]
    pub(crate) fn get(&self, place: Place) -> Option<&Service> {
        self.places.get(place)?.as_ref().map(|hosted| &*hosted.service)
    }

    /// All services, with their places.
    pub fn services(&self) -> impl Iterator<Item = (Place, &Service)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(place, hosted)| hosted.as_ref().map(|hosted| (place, &*hosted.service)))
    }

    /// Passes a command to all services, as if each had read it.
    pub fn command_all(&mut self, now: Now, command: Command) {
        /// How long a service has before others can read that it got TERM: one that ends sooner is published only
        /// once, as down.
        const SOON: Duration = Duration::from_millis(20);
        for place in 0..self.places.len() {
            self.command_and_look(now, place, command, SOON);
        }
        if command == Command::Exit {
            self.end_removals();
        }
    }

    /// Everything ends: the kernel takes some milliseconds to close the watches, which pass while the services end.
    fn end_removals(&mut self) {
        self.removals = None;
    }

    /// Passes a command to one service, as if it had read it.
    pub fn command(&mut self, now: Now, place: Place, command: Command) {
        self.command_and_look(now, place, command, Duration::ZERO);
    }

    /// Passes a command to one service, and looks at it `time` later if it still runs then.
    fn command_and_look(&mut self, now: Now, place: Place, command: Command, time: Duration) {
        if let Some(service) = self.service(place) {
            service.command(now, command);
            let runs = service.unit(Role::Main).and_then(Unit::pid).is_some();
            self.note(place);
            self.look_at_latest(place, if runs { now.at.saturating_add(time) } else { now.at });
        }
    }

    /// Passes on the ends of logs that loggers kept. `how` says how the log of a number has ended, if it has.
    pub fn end_logs(&mut self, now: Now, how: impl Fn(LogNumber) -> Option<Ended>) {
        for place in 0..self.places.len() {
            let Some(service) = self.service(place) else { continue };
            if let Some(how) = service.log_at_logger().and_then(&how) {
                service.log_ended(now, how);
                self.note(place);
                self.look_at_latest(place, now.at);
            }
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

    /// The next wait is likely to be long: before it begins, the kernel gets back pages that can be read again; see
    /// [`release_executable`].
    pub const fn expect_long_wait(&mut self) {
        self.expects_long_wait = true;
    }

    /// Waits once, no longer than until `until`, and also for `others`. Passes what happened to the services, and calls
    /// `over` with each service that has ended for good.
    pub fn turn(
        &mut self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        until: Option<Moment>,
        over: impl FnMut(Place, Box<Service>),
    ) -> Turn {
        let is_long = std::mem::take(&mut self.expects_long_wait);
        let ready = self.wait(others, until, is_long);
        let mut turn = Turn { ready: ready.others, ..Turn::default() };
        // Read once, and not at all for the end of an orphan.
        let moment = std::cell::OnceCell::new();
        let now = || *moment.get_or_init(self::now);
        let mut touched = Vec::new();
        let reaps_again = self.reap_at.is_some_and(|at| now().at >= at);
        if ready.signals || reaps_again {
            self.handle_signals(&now, &mut turn, &mut touched);
        }
        if ready.removals {
            self.look_for_removals(&now, &mut touched);
        }
        for (place, source) in ready.sources {
            if let Some(service) = self.service(place) {
                match source {
                    Source::Control(role) => service.read_commands(now(), role),
                    Source::Teller(teller) => service.read_notices(now(), teller),
                }
                touched.push(place);
            }
        }
        self.tick_due(&now, &mut touched);
        sort(&mut touched);
        touched.dedup();
        turn.happened = !touched.is_empty() || !turn.signals.is_empty() || turn.ready.contains(&true);
        self.settle(&now, touched, &mut turn, over);
        self.advance_failures(&now);
        turn
    }

    /// Ticks the services that are due.
    fn tick_due(&mut self, now: &impl Fn() -> Now, touched: &mut Vec<Place>) {
        for _ in 0..DUE_MAX {
            let Some((at, place)) = self.due.first().filter(|(at, _)| now().at >= *at) else { break };
            if let Some(service) = self.service(place)
                && service.next_tick().is_some_and(|at| now().at >= at)
            {
                service.tick(now());
            }
            self.tick_needs(now(), place);
            touched.push(place);
            // It is noted again at the end of the turn.
            if let Some(Some(hosted)) = self.places.get_mut(place) {
                hosted.due = None;
            }
            self.due.remove(at, place);
        }
    }

    /// Publishes the services to which something happened, and hands over those that are over.
    fn settle(
        &mut self,
        now: &impl Fn() -> Now,
        touched: Vec<Place>,
        turn: &mut Turn,
        mut over: impl FnMut(Place, Box<Service>),
    ) {
        for place in touched {
            self.handle_needs(now(), place);
            let Some(service) = self.service(place) else { continue };
            let is_over = service.leave(now());
            let is_main_over = service.main_is_over();
            turn.essential = turn.essential.or(service.take_essential_end().map(|how| (place, how)));
            service.publish(now());
            if is_over {
                if let Some(mut service) = self.remove(place) {
                    service.tidy();
                    over(place, service);
                }
            } else {
                self.queue_failure(now, place);
                self.note(place);
                self.pass_on_readiness(place);
            }
            if is_main_over {
                self.go_on_ending(now(), place);
            }
        }
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
        self.note_removed(place, &hosted);
        let Hosted { mut service, due, .. } = hosted;
        if let Some(removals) = &self.removals {
            // Adding a watch that exists returns its number.
            for watch in service.units().filter_map(|unit| removals.add_removals(unit.supervise_dir()).ok()) {
                removals.remove(watch);
                self.watches.remove(watch, place);
            }
        }
        service.close_tellers(|fd| {
            if let Some(controls) = &self.controls {
                controls.remove(fd);
            }
        });
        self.free.push(place);
        if let Some(at) = due {
            self.due.remove(at, place);
        }
        for pid in service.processes() {
            self.processes.remove(key(pid), place);
        }
        if let Some(leader) = service.group() {
            self.groups.remove(key(leader), place);
        }
        Some(service)
    }

    /// Notes what a service waits for, after it did something.
    fn note(&mut self, place: Place) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        for unit in hosted.service.units_mut() {
            if !unit.take_new_control() {
                continue;
            }
            if let Some(removals) = &self.removals
                && let Ok(watch) = removals.add_removals(unit.supervise_dir())
            {
                // Without the watch, a removed FIFO is noticed when something else happens.
                self.watches.insert(watch, place);
            }
            let number = number_of(place, Source::Control(unit.role()));
            let add = |controls: &Interest| controls.add(unit.control(), number).is_ok();
            if !self.controls.as_ref().is_none_or(add) {
                // Then all are listed at each wait, as those of few services are.
                self.controls = None;
            }
        }
        let mut is_complete = true;
        hosted.service.update_tellers(
            |teller, fd| {
                let number = number_of(place, Source::Teller(teller));
                is_complete &= self.controls.as_ref().is_none_or(|all| all.add(fd, number).is_ok());
            },
            |fd| {
                if let Some(controls) = &self.controls {
                    controls.remove(fd);
                }
            },
        );
        if !is_complete {
            self.controls = None;
        }
        for pid in hosted.service.processes() {
            self.processes.insert(key(pid), place);
        }
        if let Some(leader) = hosted.service.group() {
            self.groups.insert(key(leader), place);
        }
        let of_needs = hosted.waiting.as_ref().and_then(|waiting| waiting.due());
        let due = earlier(hosted.service.next_tick(), of_needs);
        if due != hosted.due {
            if let Some(at) = hosted.due.take() {
                self.due.remove(at, place);
            }
            if let Some(at) = due {
                self.due.insert(at, place);
                hosted.due = Some(at);
            }
        }
    }

    /// Looks at a service at this moment, if not before.
    fn look_at_latest(&mut self, place: Place, at: Moment) {
        let Some(Some(hosted)) = self.places.get_mut(place) else { return };
        if hosted.due.is_none_or(|due| at < due) {
            if let Some(due) = hosted.due.replace(at) {
                self.due.remove(due, place);
            }
            self.due.insert(at, place);
        }
    }
}

const fn key(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
