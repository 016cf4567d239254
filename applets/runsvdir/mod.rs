//! `runsvdir`: keep a `runsv` for each service directory in a directory. Source: runsvdir(8).
//!
//! Services that appear or vanish, and a runsv that ends, are handled at once: the directory and the links that lead to it
//! are watched. As process 1 it stops all services and waits for them before it ends.

mod ending;
mod services;
mod title;

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait as reap};
use svcore::event::{self, Wait, Woken};
use svcore::moment::{Moment, earlier};
use svcore::say::Message;
use svcore::scan::{Directory, Scan, again_at};
use svcore::sys::signals::Signals;
use svcore::sys::spawn::{Program, Search, spawn};
use svcore::sys::{clock, signal};
use svcore::template::ServiceIdentity;
use svcore::{Call, Context, Error, Failed, Result, Signal, exec, own_file, process_one};

use ending::Untold;
use services::{Runsv, Services, Unverified};
use title::Title;

/// The pause after a start failed because there could be no new process.
const NO_PROCESS: Duration = Duration::from_secs(5);
/// How many ended children are reaped in a turn; more are reaped in the next.
const REAPED_MAX: usize = 256;
/// Exit code after HUP. Source: runsvdir(8).
const HUNG_UP: u8 = 111;

/// Runs the applet until it is told to end.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let mut args = call.args;
    let mut new_session = false;
    if let Some((first, rest)) = args.split_first()
        && (first.as_bytes().starts_with(b"-P") || first.as_bytes().starts_with(b"--"))
    {
        new_session = first.as_bytes().starts_with(b"-P");
        args = rest;
    }
    let (Some(dir), log) = (args.first(), args.get(1)) else { return Err(Error::usage()) };
    // The index of the log argument among all words: after the program's name, the words skipped, and the directory.
    let log = log.map(|_| call.args.len() - args.len() + 2);
    match serve(dir, new_session, log) {
        Ok(code) => Ok(code),
        Err(error) => {
            let who = [b"runsvdir ", dir.as_bytes()].concat();
            Message::fatal(&who, &error.to_string()).print_now();
            Ok(call.codes.fatal)
        }
    }
}

fn serve(dir: &OsStr, new_session: bool, log: Option<usize>) -> Result {
    let first = process_one::is_process_one();
    let mut wanted = vec![Signal::CHLD, Signal::TERM, Signal::HUP, Signal::ALRM];
    if first {
        process_one::survive_bugs("runsvdir");
        wanted.push(Signal::INT);
    }
    let signals = Signals::wait_for(&wanted).while_doing(|| "unable to create selfpipe")?;
    let mut runsvdir = Runsvdir::new(dir, new_session)?;
    let mut title = log.and_then(|index| {
        Title::new(index)
            .map_err(|what| {
                runsvdir.dir.warn(what.as_bytes(), None);
                runsvdir.dir.warn(b"log service disabled.", None);
            })
            .ok()
    });
    runsvdir.look();
    loop {
        let woken = wait(&signals, &runsvdir, title.as_ref());
        let now = clock::monotonic();
        if let Some(title) = &mut title {
            title.advance(now, woken.is_written);
        }
        let requests = Requests::taken_from(woken.has_signal.then_some(&signals));
        runsvdir.reap_if_due(now, requests.reap);
        match requests.end {
            // Source: runsvdir(8). TERM leaves everything running; HUP tells every runsv to leave and waits for none.
            Some(code) if first || code == HUNG_UP => runsvdir.stop_all(code),
            Some(code) => return Ok(code),
            None => {}
        }
        if let Some(code) = runsvdir.ending {
            runsvdir.untold = runsvdir.untold.take().and_then(|untold| untold.go_on(now));
            let is_over = if first { runsvdir.services.is_empty() } else { runsvdir.untold.is_none() };
            if is_over {
                return Ok(code);
            }
            continue;
        }
        let has_changed = woken.has_changed && runsvdir.dir.has_changed();
        if has_changed || requests.look || runsvdir.dir.look_at().is_some_and(|at| now >= at) {
            runsvdir.look();
        }
        runsvdir.verify_if_due(now);
        runsvdir.start_due(now);
    }
}

/// Why a wait ended.
struct Awoken {
    has_signal: bool,
    /// The directory may have changed.
    has_changed: bool,
    /// Something was written for the log argument.
    is_written: bool,
}

fn wait(signals: &Signals, runsvdir: &Runsvdir, title: Option<&Title>) -> Awoken {
    let until = earlier(title.map(Title::deadline), runsvdir.deadline());
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    let watched = runsvdir.dir.changes().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let shown = title.map(|title| PollFd::from_borrowed_fd(title.as_fd(), PollFlags::IN));
    let (is_watched, is_shown) = (watched.is_some(), shown.is_some());
    fds.extend(watched.into_iter().chain(shown));
    let all = event::wait(&mut fds, Wait::until(until)) == Woken::Unknown;
    let mut ready = fds.iter().map(|fd| all || !fd.revents().is_empty());
    let mut next = |is_there: bool| is_there && ready.next() == Some(true);
    Awoken { has_signal: next(true), has_changed: next(is_watched), is_written: next(is_shown) }
}

/// The requests of signals.
#[derive(Default)]
struct Requests {
    /// Children ended.
    reap: bool,
    /// Look at the directory.
    look: bool,
    /// End, with this exit code.
    end: Option<u8>,
}

impl Requests {
    fn taken_from(signals: Option<&Signals>) -> Self {
        let mut requests = Requests::default();
        if let Some(signals) = signals {
            signals.read_each(|came| match came.signal {
                Signal::CHLD => requests.reap = true,
                Signal::ALRM => requests.look = true,
                Signal::HUP => requests.end = Some(HUNG_UP),
                Signal::TERM | Signal::INT => requests.end = Some(0),
                _ => {}
            });
        }
        requests
    }
}

struct Runsvdir {
    dir: Directory,
    scan: Scan,
    new_session: bool,
    /// The files to try as `runsv`: those in PATH, then our own.
    runsv: Vec<CString>,
    services: Services,
    /// Set while the directory cannot be opened to start a runsv in it.
    unopened: Option<Unopened>,
    /// When to reap again, because that failed or there may be more.
    reap_at: Option<Moment>,
    /// The exit code after every runsv has ended, or was told to if we are not process 1.
    ending: Option<u8>,
    /// Services that are told to end after those that need them.
    untold: Option<Untold>,
}

/// A directory that cannot be opened.
#[derive(Clone, Copy)]
struct Unopened {
    since: Moment,
    again_at: Moment,
}

impl Runsvdir {
    fn new(dir: &OsStr, new_session: bool) -> Result<Self, Failed> {
        let mut runsv = exec::candidates(OsStr::new("runsv"), std::env::var_os("PATH").as_deref());
        runsv.extend(own_file::to_execute());
        Ok(Runsvdir {
            dir: Directory::new("runsvdir", dir)?,
            new_session,
            runsv,
            scan: Scan::default(),
            services: Services::default(),
            unopened: None,
            reap_at: None,
            ending: None,
            untold: None,
        })
    }

    fn deadline(&self) -> Option<Moment> {
        if self.ending.is_some() {
            return earlier(self.reap_at, self.untold.as_ref().map(Untold::until));
        }
        let until = earlier(earlier(self.dir.look_at(), self.reap_at), self.services.verify_at());
        // While the directory cannot be opened, nothing is due in it.
        let start = self.services.next_start();
        earlier(until, start.map(|at| self.unopened.map_or(at, |unopened| at.max(unopened.again_at))))
    }

    /// Looks at the directory, tells the runsv of vanished services to exit, and starts one for each new service.
    fn look(&mut self) {
        let Some(listing) = self.dir.look() else { return };
        self.unopened = None;
        let now = clock::monotonic();
        let mut scan = std::mem::take(&mut self.scan);
        let plan =
            scan.compare(now, &self.services.found(), &listing, |place, at| self.has_followed(place, at));
        self.scan = scan;
        self.dir.look_again_at(plan.again);
        tell_to_leave(self.services.apply(now, plan));
        self.start_due(now);
    }

    /// Whether the runsv of a service serves the directory to which its name leads now.
    fn has_followed(&self, place: usize, identity: ServiceIdentity) -> bool {
        let Some(service) = self.services.get(place) else { return false };
        let Runsv::Alive { pid, .. } = service.runsv else { return false };
        !self.services.is_leaving(identity)
            && self.dir.is_served(&service.found.name)
            && has_open(pid, identity) != Some(false)
    }

    /// Ends each runsv that serves another directory than it was started for.
    fn verify_if_due(&mut self, now: Moment) {
        for Unverified { place, pid, identity } in self.services.unverified(now) {
            let is_right = has_open(pid, identity) != Some(false);
            tell_to_leave(self.services.verified(now, place, is_right));
        }
    }

    /// Starts a runsv for each service that has none and whose time has come.
    fn start_due(&mut self, now: Moment) {
        /// When to look again after a name did not lead to its directory.
        const LOOK_AFTER: Duration = Duration::from_millis(20);
        let due = self.services.due(now);
        if due.is_empty() || self.unopened.is_some_and(|unopened| now < unopened.again_at) {
            return;
        }
        let Ok(dir) = self.dir.open() else {
            let since = self.unopened.map_or(now, |unopened| unopened.since);
            self.unopened = Some(Unopened { since, again_at: again_at(now, since) });
            return;
        };
        self.unopened = None;
        for place in due {
            let Some(service) = self.services.get(place) else { return };
            if Directory::leads_to(dir.as_fd(), &service.found.name, service.found.identity.directory) {
                if service.waits(now) && self.dir.is_served(&service.found.name) {
                    self.services.is_served_by_another(now, place);
                    continue;
                }
                let name = service.found.name.clone();
                let runsv = self.start(&dir, place, &name, now);
                self.services.set_runsv(place, runsv);
            } else {
                // It was renamed, which the watch may have reported already, or it cannot be reached.
                self.dir.look_again_at(Some(now.saturating_add(LOOK_AFTER)));
                self.services.not_in_place(place);
            }
        }
    }

    fn start(&mut self, dir: &OwnedFd, place: usize, name: &CStr, now: Moment) -> Runsv {
        let runsv: Vec<&CStr> = self.runsv.iter().map(CString::as_c_str).collect();
        let program = Program {
            files: &runsv,
            search: Search(exec::path_rule),
            argv: &[c"runsv", name],
            directory: Some(dir.as_fd()),
            new_session: self.new_session,
            ..Program::default()
        };
        match spawn(&program) {
            Ok(pid) => Runsv::Alive { pid, started: now },
            Err(why) => {
                let no_process = [b"unable to fork for ", name.to_bytes()].concat();
                let not_run = [b"unable to start runsv ", name.to_bytes()].concat();
                let who = self.dir.who();
                let message = Message::not_started(&who, &why, &no_process, &not_run);
                if self.services.is_new_message(now, place, &message.text()) {
                    message.print_now();
                }
                let pause = if why.lacks_process() { NO_PROCESS } else { services::PACE };
                Runsv::Dead { not_before: now + pause }
            }
        }
    }

    /// Reaps ended children, and as process 1 orphans, if it was told to by a signal or it is due.
    fn reap_if_due(&mut self, now: Moment, is_told: bool) {
        /// When to try again after an error: there is no second signal.
        const AGAIN: Duration = Duration::from_millis(100);
        if !is_told && self.reap_at.is_none_or(|at| now < at) {
            return;
        }
        self.reap_at = None;
        for _ in 0..REAPED_MAX {
            match reap(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if status.exit_status().is_some() || status.terminating_signal().is_some() {
                        self.services.child_ended(now, pid, status.exit_status());
                        if let Some(untold) = &mut self.untold {
                            untold.child_ended(pid);
                        }
                    }
                }
                Ok(None) | Err(Errno::CHILD) => return,
                Err(_) => {
                    self.reap_at = Some(now.saturating_add(AGAIN));
                    return;
                }
            }
        }
        self.reap_at = Some(now);
    }

    /// Tells every runsv to stop its service and exit; where services need others, each after those that need it. When told
    /// twice, all at once. From now on nothing is started.
    fn stop_all(&mut self, code: u8) {
        if self.ending.is_none() {
            let found = self.services.found_with_runsv();
            self.untold = Untold::of(self.dir.path().to_bytes(), &found);
        } else if let Some(untold) = self.untold.take() {
            untold.tell_all();
        }
        let all = self.services.leave_all();
        let in_order = |pid: &Pid| self.untold.as_ref().is_some_and(|untold| untold.has(*pid));
        tell_to_leave(all.into_iter().filter(|pid| !in_order(pid)));
        if let Some(untold) = &mut self.untold {
            untold.begin();
        }
        self.ending.get_or_insert(code);
        // The end of a watch can take the kernel some milliseconds, which pass while the services stop.
        self.dir.stop_watching();
    }
}

fn tell_to_leave(runsv: impl IntoIterator<Item = Pid>) {
    for pid in runsv {
        // If it ended a moment ago, SIGCHLD comes next.
        let _ = signal::send(pid, Signal::TERM);
    }
}

/// Whether a process has this directory open, as runsv has the one that it serves. `None` if that is unknown.
fn has_open(pid: Pid, identity: ServiceIdentity) -> Option<bool> {
    let path = CString::new(format!("/proc/{}/fd", pid.as_raw_nonzero())).ok()?;
    let dir = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // A runsv has a dozen descriptors.
    let mut names = Dir::read_from(&dir).ok()?.flatten().take(100);
    // Stock's runsv has it as its working directory.
    Some(
        names.any(|entry| Directory::leads_to(dir.as_fd(), entry.file_name(), identity.directory))
            || Directory::leads_to(dir.as_fd(), c"../cwd", identity.directory),
    )
}
