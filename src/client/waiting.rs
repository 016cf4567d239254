//! Sends a request to all services, and waits for all of them together.

use std::cell::Cell;
use std::ffi::OsString;
use std::time::Duration;

use crate::Signal;
use crate::event::{self, Wait};
use crate::facts::{Facts, Readiness};
use crate::moment::{Moment, earlier};
use crate::needs::EndOrder;
use crate::sort::sort;
use crate::status::{State, Status};
use crate::sys::watch;
use crate::sys::{clock, limits, signal};
use crate::tai::{self, Tai64N};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;

use super::check::Checker;
use super::needs;
use super::pending::{Pending, Sending};
use super::request::{self, Effect, Request, Until};
use super::sent::Sent;
use super::target::{MAIN, Target, Trouble, View};
use super::{Observer, Served, end_of, parent};

/// How often to look where nothing can be watched.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the end of a runsv may take.
const LEAVING: Duration = Duration::from_millis(100);
/// How often to look meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// With more services than this, changes are gathered for a while, which grows by [`EACH`] with each service.
const FEW: usize = 64;
/// See [`FEW`].
const EACH: Duration = Duration::from_micros(10);
/// How much longer each service makes the time between two questions to a supervisor.
const EACH_ASKED: Duration = Duration::from_micros(200);
/// How often a suspended service is looked at: so often, times their number.
const EACH_LOOK: Duration = Duration::from_micros(200);
/// Descriptors that are kept free for what is opened for a moment only.
const SPARE: u64 = 16;

/// Waits for the effect of a request on many services.
struct Waiter<'a> {
    request: &'a Request,
    /// Only the writing is waited for, not the effect.
    only_sends: bool,
    until: Moment,
    /// When those are told to end that others need.
    middle: Moment,
    /// All descriptors that are held have a lower number.
    room: i32,
    /// How many services are suspended, for lack of descriptors.
    suspended: Cell<u32>,
    /// The shortest time between two looks at a service without an event: it grows with the number of services.
    pause: Cell<Duration>,
    checker: Checker,
}

/// Sends the request to all services named; if it `waits`, waits for its effect on each and reports that.
///
/// No longer than `patience`, also for a FIFO that is full.
pub fn act(
    names: &[OsString],
    request: &Request,
    waits: bool,
    patience: Duration,
    observer: &mut dyn Observer,
) {
    let pipe_ignored = signal::ignore_pipe();
    let mut waiter = None;
    let mut pending: Vec<Pending> = Vec::new();
    let mut needed = Vec::new();
    let mut later: Option<Later<'_>> = None;
    if waits {
        let waiter = waiter.insert(Waiter::new(request, patience, pipe_ignored));
        if request.is_end() {
            later = needs::order_of(names, observer).map(|order| Later::new(names, order));
        }
        for (number, name) in names.iter().enumerate() {
            if later.as_ref().is_some_and(|later| !later.order.may_end(number)) {
                continue;
            }
            let target = Target::new(name, observer.directories().0);
            if request.starts() {
                needs::start(&target, &mut needed);
            }
            let begun = waiter.begin(target, number, observer);
            match (begun, &mut later) {
                (None, Some(later)) => later.next.extend(later.order.ended(number)),
                (begun, _) => pending.extend(begun),
            }
        }
    } else {
        for (number, name) in names.iter().enumerate() {
            let target = Target::new(name, observer.directories().0);
            match Sent::new(&target, request) {
                Ok(sent) if sent.is_written() => {}
                Ok(sent) => {
                    let waiter = waiter.get_or_insert_with(|| Waiter {
                        only_sends: true,
                        ..Waiter::new(request, patience, pipe_ignored)
                    });
                    let mut unwritten = Pending::new(target, number, Sending::Sent(sent));
                    waiter.make_room(&mut unwritten);
                    pending.push(unwritten);
                }
                Err(trouble) => not_sent(&target, request, &trouble, observer),
            }
        }
    }
    let Some(waiter) = &waiter else { return };
    loop {
        waiter.begin_later(&mut later, &mut pending, observer);
        if pending.is_empty() {
            break;
        }
        let now = clock::monotonic();
        observer.looks_at(tai::now());
        let all = waiter.checker.take_missed() || now >= waiter.until;
        waiter.pause.set(for_each(EACH_ASKED, pending.len()));
        pending.retain_mut(|pending| {
            let is_due = pending.look_at.is_some_and(|at| now >= at);
            let is_over = (pending.has_event || is_due || all) && waiter.is_over(pending, observer);
            if let Some(later) = later.as_mut().filter(|_| is_over) {
                later.next.extend(later.order.ended(pending.number));
            }
            !is_over
        });
        let again = observer.waits_for(&mut pending.iter().map(|pending| &pending.target), now);
        let again = earlier(again, later.as_ref().map(|_| waiter.middle));
        observer.flush();
        if !pending.is_empty() && !waiter.checker.has_missed() {
            waiter.wait(&mut pending, again);
        }
    }
    if waits && clock::monotonic() >= waiter.until {
        needs::report_not_ready(&needed, observer);
    }
    if waits && request.is_end() {
        needs::report_dependents(names, observer);
    }
    observer.flush();
}

/// Services that are told to end after others that need them.
struct Later<'n> {
    names: &'n [OsString],
    order: EndOrder,
    /// Those that may end now.
    next: Vec<usize>,
    /// Those that were told.
    told: Vec<bool>,
}

impl<'n> Later<'n> {
    fn new(names: &'n [OsString], order: EndOrder) -> Self {
        let told = (0..names.len()).map(|number| order.may_end(number)).collect();
        Later { names, order, next: Vec::new(), told }
    }
}

/// Whether the process of `./run` that was started then has ended, and its `./finish` too.
fn has_ended(started: Tai64N, status: &Status) -> bool {
    match status.state {
        State::Down => true,
        State::Run => status.since != started,
        State::Finish => false,
    }
}

/// A time that grows with the number of services.
fn for_each(time: Duration, services: usize) -> Duration {
    time.saturating_mul(u32::try_from(services).unwrap_or(u32::MAX))
}

/// A request could not be sent. For `exit`, a missing runsv is success.
fn not_sent(target: &Target, request: &Request, trouble: &Trouble, observer: &mut dyn Observer) {
    if request.is_exit() && matches!(trouble, Trouble::NotRunning) {
        observer.has_left(target);
    } else {
        observer.trouble(target, trouble);
    }
}

impl<'a> Waiter<'a> {
    /// Waits for no longer than `patience`.
    fn new(request: &'a Request, patience: Duration, pipe_ignored: bool) -> Self {
        let until = end_of(patience);
        // Three for each that is waited for, as far as that goes.
        limits::raise_open_files();
        let room = i32::try_from(limits::open_files().saturating_sub(SPARE)).unwrap_or(i32::MAX);
        Waiter {
            request,
            only_sends: false,
            until,
            middle: clock::monotonic().saturating_add(patience / 2),
            room,
            suspended: Cell::new(0),
            pause: Cell::new(Duration::ZERO),
            checker: Checker::new(pipe_ignored),
        }
    }

    /// Sends the request to those whose turn has come: nothing that needs them is left, or half of the time is over.
    fn begin_later(
        &self,
        later: &mut Option<Later<'_>>,
        pending: &mut Vec<Pending>,
        observer: &mut dyn Observer,
    ) {
        let Some(these) = later else { return };
        let is_time = pending.is_empty() || clock::monotonic() >= self.middle;
        if is_time && these.next.is_empty() {
            these.next.extend(0..these.names.len());
        }
        while let Some(number) = these.next.pop() {
            let (Some(name), Some(told @ false)) = (these.names.get(number), these.told.get_mut(number))
            else {
                continue;
            };
            *told = true;
            match self.begin(Target::new(name, observer.directories().0), number, observer) {
                Some(begun) => pending.push(begun),
                None => these.next.extend(these.order.ended(number)),
            }
        }
        if these.told.iter().all(|told| *told) {
            *later = None;
        }
    }

    /// Sends the request to one service. `None` if it is not waited for; the reason was reported.
    fn begin(&self, target: Target, number: usize, observer: &mut dyn Observer) -> Option<Pending> {
        let watch = self.watch(&target);
        let before = target.read_status(&MAIN).ok();
        let sending = if self.request.commands.is_empty() {
            Sending::NothingToSend
        } else {
            match Sent::new(&target, self.request) {
                Ok(sent) => Sending::Sent(sent),
                Err(trouble) if self.may_get_supervisor(&target, &trouble, observer) => Sending::Unserved,
                Err(trouble) => {
                    not_sent(&target, self.request, &trouble, observer);
                    return None;
                }
            }
        };
        let mut pending = Pending::new(target, number, sending);
        (pending.before, pending.watch) = (before, watch);
        self.make_room(&mut pending);
        Some(pending)
    }

    /// Suspends a service whose descriptors would leave too few for others.
    fn make_room(&self, pending: &mut Pending) {
        if !pending.is_suspended && pending.highest() >= self.room {
            pending.is_suspended = true;
            self.suspended.set(self.suspended.get().saturating_add(1));
        }
        if pending.is_suspended {
            pending.suspend();
        }
    }

    fn watch(&self, target: &Target) -> Option<OwnedFd> {
        self.checker.signals()?;
        let directory = target.open_supervise()?;
        watch::signal_changes_and_writes(directory.as_fd()).ok().map(|()| directory)
    }

    /// Whether a service without runsv may get one soon: it is to be started, and a runsvdir is there to do that.
    fn may_get_supervisor(&self, target: &Target, trouble: &Trouble, observer: &mut dyn Observer) -> bool {
        let is_unserved = match trouble {
            Trouble::NotRunning => true,
            Trouble::Unable(_, error) => error.kind() == std::io::ErrorKind::NotFound,
            Trouble::NoDirectory(_) | Trouble::BadFormat => false,
        };
        self.request.is_up() && is_unserved && observer.directories().1.serve(&parent(target)) == Served::Yes
    }

    /// Looks at one service. Whether it need not be waited for any longer; then its outcome was reported.
    fn is_over(&self, pending: &mut Pending, observer: &mut dyn Observer) -> bool {
        if pending.is_suspended {
            pending.target.resume();
        }
        let is_over = self.is_over_now(pending, observer);
        if is_over && pending.is_suspended {
            self.suspended.set(self.suspended.get().saturating_sub(1));
        } else if !is_over {
            self.make_room(pending);
            if pending.is_suspended {
                let pause = LOOK_EVERY.max(EACH_LOOK.saturating_mul(self.suspended.get()));
                pending.look_at = Some(clock::monotonic().saturating_add(pause));
            }
        }
        is_over
    }

    fn is_over_now(&self, pending: &mut Pending, observer: &mut dyn Observer) -> bool {
        let now = clock::monotonic();
        pending.has_event = false;
        pending.look_at = pending.watch.is_none().then(|| now + LOOK_EVERY);
        let executed = match &mut pending.sending {
            Sending::NothingToSend => true,
            Sending::Unserved => {
                pending.look_at = Some(now + LOOK_EVERY);
                if !self.send_again(pending, now, observer) {
                    return now >= self.until;
                }
                false
            }
            Sending::Sent(sent) if !sent.is_written() => {
                match sent.write(&pending.target, self.request) {
                    Ok(()) if sent.is_written() && self.only_sends => return true,
                    Ok(()) if sent.is_written() => {}
                    Ok(()) if now < self.until => {
                        pending.look_at = Some(now + LOOK_EVERY);
                        return false;
                    }
                    Ok(()) => {
                        let trouble = Trouble::Unable("write to supervise/control", Errno::AGAIN.into());
                        not_sent(&pending.target, self.request, &trouble, observer);
                        return true;
                    }
                    Err(trouble) => {
                        not_sent(&pending.target, self.request, &trouble, observer);
                        return true;
                    }
                }
                sent.is_executed(&pending.target, now)
            }
            // In this order: a status that is read after the request was executed is not one from before it.
            Sending::Sent(sent) => sent.is_executed(&pending.target, now),
            Sending::SupervisorLeft(at) => {
                // A process that ends closes its descriptors one after the other; but after a while, what has them
                // open is another one.
                if pending.target.status(&MAIN).is_ok() && now < *at + LEAVING {
                    pending.look_at = Some(now + LOOK_AGAIN);
                    return false;
                }
                observer.has_left(&pending.target);
                return true;
            }
        };
        let sent = pending.sent();
        let has_reader = || sent.is_some_and(Sent::has_reader);
        if !executed && now < self.until && has_reader() {
            // No status is of use before that.
            let again = sent.and_then(|sent| sent.ask_again(now, pending.watch.is_some(), self.pause.get()));
            pending.look_at = earlier(pending.look_at, again);
            return false;
        }
        let mut view = match pending.target.view(&MAIN) {
            Ok(view) => view,
            Err(_) if now < self.until && has_reader() => {
                pending.look_at = Some(now + LOOK_EVERY);
                return false;
            }
            // The supervisor got the request, and has left: with its state elsewhere there is not even a FIFO to be found.
            Err(_) if self.request.is_exit() && sent.is_some_and(Sent::is_written) => {
                observer.has_left(&pending.target);
                return true;
            }
            Err(trouble) => {
                not_sent(&pending.target, self.request, &trouble, observer);
                return true;
            }
        };
        self.has_effect(pending, &mut view, executed, now, observer) || self.is_late(pending, &view, observer)
    }

    /// Whether the request has had its effect, which is reported then.
    fn has_effect(
        &self,
        pending: &mut Pending,
        view: &mut View,
        executed: bool,
        now: Moment,
        observer: &mut dyn Observer,
    ) -> bool {
        let (before, status) = (pending.before.as_ref(), view.status);
        let is_late = now >= self.until;
        let counts_as_executed = executed || is_late && request::shows_effect(self.request, &status, before);
        if !counts_as_executed {
            return false;
        }
        let effect = request::effect(self.request.until, &status, before);
        // Between an end and the next start there may be no moment in which nothing runs.
        let has_ended_since =
            self.request.starts() && pending.started.is_some_and(|started| has_ended(started, &status));
        // What the service told of itself matters only where it is to be up.
        let none = Facts::default();
        let matters = self.request.is_for_up() && (executed || effect != Effect::No);
        let facts = if matters { view.facts() } else { &none };
        match effect {
            Effect::No if status.state == State::Down && facts.done.is_some() => {
                observer.done(&pending.target, view);
            }
            Effect::No if status.state == State::Down && facts.given_up.is_some() => {
                observer.given_up(&pending.target, view);
            }
            _ if has_ended_since && observer.has_ended(&pending.target, true) => {}
            Effect::No if self.request.is_up() && request::has_run(&status, before) => {
                return observer.has_ended(&pending.target, false);
            }
            Effect::No => return false,
            // It is not ready yet, or has ended since the status was read.
            Effect::Yes | Effect::IfChecked
                if status.state == State::Run
                    && (facts.readiness == Some(Readiness::NotReady) || facts.is_over()) =>
            {
                pending.started = Some(status.since);
                return false;
            }
            Effect::Yes => observer.done(&pending.target, view),
            Effect::IfChecked => {
                let not_before = pending.check_again_at(now, &status);
                if not_before.is_some() {
                    pending.look_at = earlier(pending.look_at, not_before);
                    return false;
                }
                if !self.checker.agrees(&pending.target, self.until, observer) {
                    let again = pending.check_failed(clock::monotonic(), status);
                    pending.started = Some(status.since);
                    pending.look_at = earlier(pending.look_at, Some(again));
                    return false;
                }
                // The script took its time; the status is read again.
                match pending.target.view(&MAIN) {
                    Ok(again) => *view = again,
                    Err(_) => view.status = pending.target.read_status(&MAIN).unwrap_or(view.status),
                }
                observer.done(&pending.target, view);
            }
        }
        true
    }

    /// Whether the time is over, which is reported then.
    fn is_late(&self, pending: &Pending, view: &View, observer: &mut dyn Observer) -> bool {
        if clock::monotonic() < self.until {
            return false;
        }
        let kills = self.request.kill;
        observer.late(&pending.target, view, kills);
        if kills && pending.sent().is_some() {
            // The effect of that is not waited for.
            let _ = Sent::new(&pending.target, &Request::KILL);
        }
        true
    }

    /// Tries once more to send; whether that worked.
    fn send_again(&self, pending: &mut Pending, now: Moment, observer: &mut dyn Observer) -> bool {
        match Sent::new(&pending.target, self.request) {
            Ok(sent) => {
                pending.sending = Sending::Sent(sent);
                if pending.watch.is_none() {
                    pending.watch = self.watch(&pending.target);
                }
                true
            }
            Err(trouble) => {
                if now >= self.until {
                    not_sent(&pending.target, self.request, &trouble, observer);
                }
                false
            }
        }
    }

    /// Waits until something happens to a service, or a service is to be looked at, or the time is over; no longer than to
    /// the moment `again`.
    fn wait(&self, pending: &mut [Pending], again: Option<Moment>) {
        let looks = pending.iter().filter_map(|pending| pending.look_at);
        let until = looks.chain([self.until]).chain(again).min();
        let signals = self.checker.signals();
        let mut fds: Vec<PollFd<'_>> =
            signals.iter().map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)).collect();
        let first = fds.len();
        // poll(2) reports an error for a FIFO whose reader, the runsv, has left. A FIFO that was full is awaited.
        fds.extend(pending.iter().filter_map(|pending| {
            let what = if pending.is_unwritten() { PollFlags::OUT } else { PollFlags::empty() };
            pending.control().map(|control| PollFd::from_borrowed_fd(control, what))
        }));
        event::wait(&mut fds, Wait::until(until));
        let ready: Vec<bool> = fds.iter().skip(first).map(|fd| !fd.revents().is_empty()).collect();
        let with_control = pending.iter_mut().filter(|pending| pending.control().is_some());
        for (pending, _) in with_control.zip(ready).filter(|(_, is_ready)| *is_ready) {
            pending.has_event = true;
            if self.request.until == [Until::Unsupervised] && !pending.is_unwritten() {
                pending.sending = Sending::SupervisorLeft(clock::monotonic());
            }
        }
        let Some(signals) = signals else { return };
        if pending.len() > FEW {
            // Each service changes more than once. Services that changed twice until then are looked at once.
            let time = clock::monotonic().saturating_add(for_each(EACH, pending.len()));
            event::wait(&mut [], Wait::Until(time.min(self.until)));
        }
        let (mut all, mut changed) = (false, Vec::new());
        signals.read_each(|came| match came.signal {
            Signal::IO => all = true,
            Signal::CHANGE => changed.push(came.fd),
            _ => {}
        });
        sort(&mut changed);
        for pending in pending.iter_mut() {
            let watch = pending.watch.as_ref().map(|watch| watch.as_raw_fd());
            pending.has_event |= all || watch.is_some_and(|watch| changed.binary_search(&watch).is_ok());
        }
    }
}
