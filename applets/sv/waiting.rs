//! Sending a command to all services, and waiting for all of them together.

use std::cell::Cell;
use std::ffi::OsString;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use svcore::Signal;
use svcore::event::{self, Wait};
use svcore::moment::{Moment, earlier};
use svcore::say::{Class, Message};
use svcore::status::Status;
use svcore::sys::signals::Signals;
use svcore::sys::spawn::{self, Program, Stream};
use svcore::sys::watch;
use svcore::sys::{clock, limits, signal};
use svcore::tai;

use super::Teller;
use super::action::{self, Action, Fulfilled};
use super::hint::{self, Served};
use super::service::{MAIN, Sent, Service, Trouble};

/// How often is looked where nothing can be watched.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the end of a runsv may take, and how often is looked meanwhile.
const LEAVING: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Of more than these, changes are gathered for a while, which grows with each.
const FEW: usize = 64;
const EACH: Duration = Duration::from_micros(10);
/// How much longer each service makes the time between two questions to a supervisor that does not tell by itself.
const EACH_ASKED: Duration = Duration::from_micros(40);
/// How soon a `./check` that failed is run again, and how the pauses grow.
const CHECK_FIRST: Duration = Duration::from_millis(20);
const CHECK_LAST: Duration = Duration::from_millis(420);
/// A runsv needs a moment even for those who do not want to wait.
const SHORTEST: Duration = Duration::from_millis(420);

/// Descriptors that are left free: for what is opened for a moment only.
const SPARE: u64 = 16;
/// How often a service is looked at for which no descriptor is left, for each of them.
const EACH_LOOK: Duration = Duration::from_micros(200);
/// How long a `./check` that is told to end has for that.
const ENDING: Duration = Duration::from_millis(300);
/// What tells us to wake.
const AWAITED: [Signal; 3] = [Signal::CHLD, Signal::CHANGE, Signal::IO];
/// What may end us.
const FATAL: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// A service that is waited for.
struct Pending {
    service: Service,
    /// Nothing was to be sent, or it could not be sent yet.
    sent: Option<Sent>,
    /// It is still to be sent: runsvdir has not taken the service up.
    unsent: Option<Trouble>,
    /// The status before the command.
    before: Option<Status>,
    /// The `supervise` directory, if its changes are told to us.
    watch: Option<OwnedFd>,
    /// There are not enough descriptors: all that is held for it is closed, and opened again for each look.
    rests: bool,
    /// Something happened since it was last looked at, or it has to be looked at anyway.
    stirred: bool,
    /// When its runsv was found to have left since the command was sent.
    left: Option<Moment>,
    /// When to look even if nothing happens.
    look_at: Option<Moment>,
    /// What `./check` failed for, and when to run it again if that stays so.
    unchecked: Option<(Status, Moment)>,
    check_pause: Duration,
}

impl Pending {
    fn new(service: Service) -> Self {
        Pending {
            service,
            sent: None,
            unsent: None,
            before: None,
            watch: None,
            rests: false,
            stirred: true,
            left: None,
            look_at: None,
            unchecked: None,
            check_pause: CHECK_FIRST,
        }
    }

    /// When `./check` may be run again, if it failed for this very process.
    fn check_again_at(&self, now: Moment, status: &Status) -> Option<Moment> {
        let (failed_for, at) = self.unchecked.as_ref()?;
        (failed_for == status && now < *at).then_some(*at)
    }

    /// The FIFO of a command, if it is held open and worth to be waited for.
    fn control(&self) -> Option<BorrowedFd<'_>> {
        if self.left.is_some() { None } else { self.sent.as_ref().and_then(Sent::control) }
    }

    /// Whether the command is still to be written, since the FIFO was full.
    fn is_unwritten(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| !sent.written)
    }

    /// The highest number of a descriptor that is held for it.
    fn highest(&self) -> i32 {
        let sent = self.sent.as_ref().map_or(0, Sent::highest);
        let watch = self.watch.as_ref().map_or(0, |watch| watch.as_raw_fd());
        self.service.dir().map_or(0, |dir| dir.as_raw_fd()).max(sent).max(watch)
    }

    fn rest(&mut self) {
        self.watch = None;
        if let Some(sent) = &mut self.sent {
            sent.rest();
        }
        self.service.rest();
    }
}

/// Waits, and runs `./check`.
pub(super) struct Waiter<'a> {
    action: &'a Action,
    /// What is written is not waited for.
    only_sends: bool,
    until: Moment,
    /// The number that no descriptor which is held reaches.
    room: i32,
    /// How many services have no descriptor.
    resting: Cell<u32>,
    /// The shortest time between two looks at a service without an event: it grows with the number of services.
    pause: Cell<Duration>,
    /// Ends of `./check` and changes of directories.
    signals: Option<Signals>,
    /// Changes came while `./check` was waited for, and nobody knows whose.
    missed: Cell<bool>,
    /// SIGPIPE was ignored already when we were started.
    pipe_ignored: bool,
    /// Where `./check` writes its errors, if not where we do.
    silence: Option<OwnedFd>,
}

/// Sends the command to all services named; if it `waits`, waits for its effect on each and says it.
///
/// No longer than `patience`, also for a FIFO that is full.
pub(super) fn act(names: &[OsString], action: &Action, waits: bool, patience: Duration, teller: &mut Teller) {
    let pipe_ignored = signal::ignore_pipe();
    let mut waiter = None;
    let mut pending: Vec<Pending> = Vec::new();
    if waits {
        let waiter = waiter.insert(Waiter::new(action, patience, pipe_ignored));
        pending
            .extend(names.iter().filter_map(|name| waiter.begin(Service::new(name, &teller.base), teller)));
    } else {
        for name in names {
            let service = Service::new(name, &teller.base);
            match service.send(action.bytes) {
                Ok(sent) if sent.written => {}
                Ok(sent) => {
                    let waiter = waiter.get_or_insert_with(|| Waiter {
                        only_sends: true,
                        ..Waiter::new(action, patience, pipe_ignored)
                    });
                    let mut unwritten = Pending { sent: Some(sent), ..Pending::new(service) };
                    waiter.make_room(&mut unwritten);
                    pending.push(unwritten);
                }
                Err(trouble) => refused(&service, action, &trouble, teller),
            }
        }
    }
    let Some(waiter) = &waiter else { return };
    while !pending.is_empty() {
        let now = clock::monotonic();
        teller.now = tai::now();
        let all = waiter.missed.take() || now >= waiter.until;
        waiter.pause.set(for_each(EACH_ASKED, pending.len()));
        pending.retain_mut(|pending| {
            let due = pending.look_at.is_some_and(|at| now >= at);
            !((pending.stirred || due || all) && waiter.is_over(pending, teller))
        });
        teller.flush();
        if !pending.is_empty() && !waiter.missed.get() {
            waiter.wait(&mut pending);
        }
    }
}

/// A time that grows with the number of services.
fn for_each(time: Duration, services: usize) -> Duration {
    time.saturating_mul(u32::try_from(services).unwrap_or(u32::MAX))
}

/// A command could not be sent. That nobody is there who could leave is what `exit` wants.
fn refused(service: &Service, action: &Action, trouble: &Trouble, teller: &mut Teller) {
    if action.bytes.starts_with(b"x") && matches!(trouble, Trouble::NotRunning) {
        gone(service, teller);
    } else {
        teller.trouble(service, trouble, b"");
    }
}

fn gone(service: &Service, teller: &mut Teller) {
    let line = [b"ok: ", service.name.as_slice(), b": runsv not running\n"].concat();
    teller.out.extend_from_slice(&line);
}

impl<'a> Waiter<'a> {
    /// One that waits for no longer than `patience`.
    fn new(action: &'a Action, patience: Duration, pipe_ignored: bool) -> Self {
        let until = clock::monotonic().saturating_add(patience.max(SHORTEST));
        // Three for each that is waited for, as far as that goes.
        limits::raise_open_files();
        let room = i32::try_from(limits::open_files().saturating_sub(SPARE)).unwrap_or(i32::MAX);
        let signals = Signals::wait_for(&AWAITED).ok();
        Waiter {
            action,
            only_sends: false,
            until,
            room,
            resting: Cell::new(0),
            pause: Cell::new(Duration::ZERO),
            signals,
            missed: Cell::new(false),
            pipe_ignored,
            silence: None,
        }
    }

    /// One that runs `./check` and lets nothing of it be seen.
    pub(super) fn silent(action: &'a Action, patience: Duration) -> Self {
        let silence = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok();
        Waiter { silence, ..Waiter::new(action, patience, signal::ignore_pipe()) }
    }

    /// Sends the command to one service. `None` if it is not waited for, which was said.
    fn begin(&self, service: Service, teller: &mut Teller) -> Option<Pending> {
        let watch = self.watch(&service);
        let before = service.read_status(&MAIN).ok();
        let mut pending = Pending { before, watch, ..Pending::new(service) };
        if !self.action.bytes.is_empty() {
            match pending.service.send(self.action.bytes) {
                Ok(sent) => pending.sent = Some(sent),
                Err(trouble) if self.may_be_taken_up(&pending.service, &trouble, teller) => {
                    pending.unsent = Some(trouble);
                }
                Err(trouble) => {
                    refused(&pending.service, self.action, &trouble, teller);
                    return None;
                }
            }
        }
        self.make_room(&mut pending);
        Some(pending)
    }

    /// Closes what is held for a service that would leave too few descriptors for others.
    fn make_room(&self, pending: &mut Pending) {
        if !pending.rests && pending.highest() >= self.room {
            pending.rests = true;
            self.resting.set(self.resting.get().saturating_add(1));
        }
        if pending.rests {
            pending.rest();
        }
    }

    /// How often is looked where nothing can be watched.
    fn look_every(&self) -> Duration {
        LOOK_EVERY.max(EACH_LOOK.saturating_mul(self.resting.get()))
    }

    fn watch(&self, service: &Service) -> Option<OwnedFd> {
        self.signals.as_ref()?;
        let directory = service.open_supervise()?;
        watch::signal_changes(directory.as_fd()).ok().map(|()| directory)
    }

    /// Whether a service without runsv may have one soon: it is to be started, and a runsvdir is there to do it.
    fn may_be_taken_up(&self, service: &Service, trouble: &Trouble, teller: &mut Teller) -> bool {
        let unserved = match trouble {
            Trouble::NotRunning => true,
            Trouble::Unable(_, error) => error.kind() == std::io::ErrorKind::NotFound,
            Trouble::NoDirectory(_) | Trouble::BadFormat => false,
        };
        self.action.bytes == b"u"
            && unserved
            && teller.supervisors.serve(&hint::parent(service)) == Served::Yes
    }

    /// Looks at one service. Whether it need not be waited for any longer; then its outcome was said.
    fn is_over(&self, pending: &mut Pending, teller: &mut Teller) -> bool {
        if pending.rests {
            pending.service.wake();
        }
        let is_over = self.is_over_now(pending, teller);
        if is_over && pending.rests {
            self.resting.set(self.resting.get().saturating_sub(1));
        } else if !is_over {
            self.make_room(pending);
            if pending.rests {
                pending.look_at = Some(clock::monotonic().saturating_add(self.look_every()));
            }
        }
        is_over
    }

    fn is_over_now(&self, pending: &mut Pending, teller: &mut Teller) -> bool {
        let now = clock::monotonic();
        pending.stirred = false;
        pending.look_at = pending.watch.is_none().then(|| now + LOOK_EVERY);
        if let Some(over) = self.is_over_unwritten(pending, now, teller) {
            return over;
        }
        if pending.unsent.is_some() && !self.send_again(pending, now, teller) {
            return now >= self.until;
        }
        if let Some(left) = pending.left {
            // A process that ends closes its descriptors one after the other; but after a while, what has them
            // open is another one.
            let still_served = pending.service.status(&MAIN).is_ok();
            if still_served && now < left + LEAVING {
                pending.look_at = Some(now + LOOK_AGAIN);
                return false;
            }
            gone(&pending.service, teller);
            return true;
        }
        // In this order: a status that is read after the command was taken is not one from before it.
        let taken = pending.sent.as_mut().is_none_or(|sent| pending.service.has_taken(sent, now));
        if !taken && now < self.until && pending.sent.as_ref().is_some_and(Sent::has_reader) {
            // No status is of use before that.
            let asked = pending.sent.as_ref();
            let again = asked.and_then(|sent| sent.ask_again(now, pending.watch.is_some(), self.pause.get()));
            pending.look_at = earlier(pending.look_at, again);
            return false;
        }
        let status = match pending.service.status(&MAIN) {
            Ok(status) => status,
            Err(_) if now < self.until && pending.sent.as_ref().is_some_and(Sent::has_reader) => {
                pending.look_at = Some(now + LOOK_EVERY);
                return false;
            }
            // It had the command, and has left: with its state elsewhere there is not even a FIFO to be found.
            Err(_)
                if self.action.bytes.starts_with(b"x")
                    && pending.sent.as_ref().is_some_and(|it| it.written) =>
            {
                gone(&pending.service, teller);
                return true;
            }
            Err(trouble) => {
                refused(&pending.service, self.action, &trouble, teller);
                return true;
            }
        };
        let taken = taken
            || (now >= self.until
                && action::shows_effect(self.action.bytes, &status, pending.before.as_ref()));
        if taken {
            match action::fulfilled(self.action.until, &status, pending.before.as_ref()) {
                Fulfilled::Yes => {
                    tell(b"ok: ", pending, &status, teller);
                    return true;
                }
                Fulfilled::IfChecked if pending.check_again_at(now, &status).is_some() => {
                    pending.look_at = earlier(pending.look_at, pending.check_again_at(now, &status));
                }
                Fulfilled::IfChecked if self.check(&pending.service, teller) => {
                    // The script took its time; what is told is how it is now.
                    let status = pending.service.read_status(&MAIN).unwrap_or(status);
                    tell(b"ok: ", pending, &status, teller);
                    return true;
                }
                Fulfilled::IfChecked => {
                    let again = clock::monotonic().saturating_add(pending.check_pause);
                    pending.unchecked = Some((status, again));
                    pending.look_at = earlier(pending.look_at, Some(again));
                    pending.check_pause = (pending.check_pause * 2).min(CHECK_LAST);
                }
                Fulfilled::No => {}
            }
        }
        if clock::monotonic() < self.until {
            return false;
        }
        tell(if self.action.kill { b"kill: " } else { b"timeout: " }, pending, &status, teller);
        teller.fail();
        if self.action.kill && pending.sent.is_some() {
            // What comes of it is not looked at.
            let _ = pending.service.send(b"k");
        }
        true
    }

    /// Writes the command if that is still to be done, and says whether that is all, or that there is no more time.
    fn is_over_unwritten(&self, pending: &mut Pending, now: Moment, teller: &mut Teller) -> Option<bool> {
        let sent = pending.sent.as_mut().filter(|sent| !sent.written)?;
        let trouble = match pending.service.write(sent, self.action.bytes) {
            Ok(()) if sent.written => return self.only_sends.then_some(true),
            Ok(()) if now < self.until => {
                pending.look_at = Some(now + LOOK_EVERY);
                return Some(false);
            }
            Ok(()) => Trouble::Unable("write to supervise/control", Errno::AGAIN.into()),
            Err(trouble) => trouble,
        };
        refused(&pending.service, self.action, &trouble, teller);
        Some(true)
    }

    /// Tries once more to send; whether it worked.
    fn send_again(&self, pending: &mut Pending, now: Moment, teller: &mut Teller) -> bool {
        pending.look_at = Some(now + LOOK_EVERY);
        match pending.service.send(self.action.bytes) {
            Ok(sent) => {
                pending.sent = Some(sent);
                pending.unsent = None;
                if pending.watch.is_none() {
                    pending.watch = self.watch(&pending.service);
                }
                true
            }
            Err(trouble) => {
                if now >= self.until {
                    refused(&pending.service, self.action, &trouble, teller);
                }
                false
            }
        }
    }

    /// Waits until something happens to one of them, or one is to be looked at, or the time is over.
    fn wait(&self, pending: &mut [Pending]) {
        let until = pending.iter().filter_map(|pending| pending.look_at).chain([self.until]).min();
        let mut fds: Vec<PollFd<'_>> = self
            .signals
            .iter()
            .map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN))
            .collect();
        let first = fds.len();
        // A FIFO that is written to is in error when its reader, the runsv, has gone; of one that was full it is asked
        // whether it still is.
        fds.extend(pending.iter().filter_map(|pending| {
            let what = if pending.is_unwritten() { PollFlags::OUT } else { PollFlags::empty() };
            pending.control().map(|control| PollFd::from_borrowed_fd(control, what))
        }));
        event::wait(&mut fds, Wait::until(until));
        let told: Vec<bool> = fds.iter().skip(first).map(|fd| !fd.revents().is_empty()).collect();
        for (pending, told) in pending.iter_mut().filter(|pending| pending.control().is_some()).zip(told) {
            pending.stirred |= told;
            if told && self.action.until == b"x" && !pending.is_unwritten() {
                pending.left.get_or_insert_with(clock::monotonic);
            }
        }
        let Some(signals) = &self.signals else { return };
        if pending.len() > FEW {
            // Each of them changes more than once; what has changed twice by then is looked at once.
            let time = clock::monotonic().saturating_add(for_each(EACH, pending.len()));
            event::wait(&mut [], Wait::Until(time.min(self.until)));
        }
        let (mut all, mut changed) = (false, Vec::new());
        signals.take(|came| match came.signal {
            Signal::IO => all = true,
            Signal::CHANGE => changed.push(came.fd),
            _ => {}
        });
        changed.sort_unstable();
        for pending in pending.iter_mut() {
            let watch = pending.watch.as_ref().map(|watch| watch.as_raw_fd());
            pending.stirred |= all || watch.is_some_and(|watch| changed.binary_search(&watch).is_ok());
        }
    }

    /// Whether `./check` agrees, or there is none. It has until the end of our patience.
    pub(super) fn check(&self, service: &Service, teller: &mut Teller) -> bool {
        let name = || [service.name.as_slice(), b"/check"].concat();
        match service.look(c"check") {
            Ok(None) => return true,
            Ok(Some(_)) => {}
            Err(error) => {
                let what = [b"unable to stat ", name().as_slice()].concat();
                Message::warning("", &what).because(&error).print();
                return false;
            }
        }
        // What was said so far comes before what the script says.
        teller.flush();
        let Ok(dir) = service.dir() else { return false };
        let program = Program {
            files: &[c"./check"],
            // Whoever owns it does not make us wait for longer than we want to.
            bounded: true,
            argv: &[c"./check"],
            directory: Some(dir),
            stdout: Stream::Closed,
            // Its children are to end with it when it hangs. Then what ends us at a terminal does not reach it.
            new_session: true,
            stderr: self.silence.as_ref().map_or(Stream::Inherit, |null| Stream::Is(null.as_fd())),
            default_pipe: !self.pipe_ignored,
            ..Program::default()
        };
        let fatal: Vec<Signal> = FATAL.into_iter().filter(|signal| !signal::is_ignored(*signal)).collect();
        if let Some(signals) = &self.signals {
            signals.also(&AWAITED, &fatal);
        }
        let spawned = spawn::spawn(&program);
        let agrees = match spawned {
            Ok(pid) => self.check_agrees(pid, &fatal),
            Err(why) => {
                let no_process = [b"unable to fork for ", name().as_slice()].concat();
                let not_run = [b"unable to run ", name().as_slice()].concat();
                let message = Message::not_started("", &why, &no_process, &not_run);
                Message { class: Class::Warning, ..message }.print();
                // Source: sv(8): a check that cannot be run does not stand in the way.
                !why.lacks_process()
            }
        };
        if let Some(signals) = &self.signals {
            signals.no_more(&AWAITED, &fatal);
        }
        agrees
    }

    /// Whether `./check`, which leads a group of its own, agrees in time. A signal of `fatal` ends it and us.
    fn check_agrees(&self, pid: Pid, fatal: &[Signal]) -> bool {
        loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => return status.exit_status() == Some(0),
                Err(Errno::INTR) | Ok(None) => {}
                Err(_) => return false,
            }
            if clock::monotonic() >= self.until {
                end_group(pid);
                return false;
            }
            if let Some(signal) = self.fatal_signal(fatal, self.until) {
                let _ = signal::send_to_group(pid, signal);
                let until = clock::monotonic().saturating_add(ENDING);
                let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                while matches!(waitid(WaitId::Pid(pid), look), Ok(None)) && clock::monotonic() < until {
                    self.fatal_signal(&[], until);
                }
                // A shell lets what it runs in the background ignore what is typed.
                end_group(pid);
                signal::end_by(signal);
                return false;
            }
        }
    }

    /// Waits until something happens; gives a signal of `fatal` that came.
    fn fatal_signal(&self, fatal: &[Signal], until: Moment) -> Option<Signal> {
        let Some(signals) = &self.signals else {
            event::wait(&mut [], Wait::Until(clock::monotonic() + LOOK_EVERY));
            return None;
        };
        event::wait(&mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)], Wait::Until(until));
        let mut fatal_one = None;
        signals.take(|came| {
            // The end of the check itself is nobody's change.
            if came.signal != Signal::CHLD {
                self.missed.set(true);
            }
            fatal_one = fatal_one.or(Some(came.signal).filter(|signal| fatal.contains(signal)));
        });
        fatal_one
    }
}

/// Kills a group and waits for the end of its leader: until that is waited for the number is that of no other group.
fn end_group(leader: Pid) {
    let _ = signal::send_to_group(leader, Signal::KILL);
    let _ = waitpid(Some(leader), WaitOptions::empty());
}

/// Says how a service is that was waited for.
fn tell(outcome: &[u8], pending: &Pending, status: &Status, teller: &mut Teller) {
    let line = teller.status_line(&pending.service, &MAIN, &pending.service.name, status);
    teller.out.extend_from_slice(outcome);
    teller.out.extend_from_slice(&line);
    teller.out.push(b'\n');
}
