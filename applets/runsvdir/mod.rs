//! `runsvdir`: keep a `runsv` for each service directory in a directory. Source: runsvdir(8).
//!
//! What comes, goes or ends is acted upon at once: the directory, and the links that lead to it, are watched.
//! As process 1 it ends orderly: all services are stopped and waited for.

mod known;
mod title;

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};
use svcore::event::{self, Wait, Woken};
use svcore::moment::{Moment, earlier};
use svcore::say::Message;
use svcore::scan::{Directory, Found, Identity, Leaving, Plan, Scan, again_at};
use svcore::sys::signals::Signals;
use svcore::sys::spawn::{Program, Search, spawn};
use svcore::sys::{clock, signal};
use svcore::{Call, Context, Error, Failed, Result, Signal, exec, own_file, process_one};

use known::{Known, Runsv};
use title::Title;

/// How long a start waits when there could be no process.
const NO_PROCESS: Duration = Duration::from_secs(5);
/// How long a runsv may take to open its directory.
const OPENED: Duration = Duration::from_millis(300);
/// How many ended children are taken in a turn; the others are taken in the next.
const REAPED_MAX: usize = 256;
/// Exit code of a runsv that cannot serve.
const FATAL: i32 = 111;
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
    // The log argument's number among all words: what was skipped, and the program's own name.
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
    let mut next_dot = clock::monotonic() + title::DOT_EVERY;
    runsvdir.look();
    loop {
        let until = title.as_ref().map(|_| next_dot);
        let until = earlier(until, runsvdir.deadline());
        let (came_signal, changed, written) = {
            let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
            let watched = runsvdir.dir.changes().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let shown = title.as_ref().map(|title| PollFd::from_borrowed_fd(title.as_fd(), PollFlags::IN));
            let has_watch = watched.is_some();
            fds.extend(watched.into_iter().chain(shown));
            let all = event::wait(&mut fds, Wait::until(until)) == Woken::Unknown;
            let came = |index: usize| all || fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
            (came(0), has_watch && came(1), came(1 + usize::from(has_watch)))
        };
        let now = clock::monotonic();
        if let Some(title) = &mut title {
            if written {
                title.read();
            }
            if now >= next_dot {
                title.dot();
                next_dot = now + title::DOT_EVERY;
            }
        }
        let mut end = None;
        let changed = changed && runsvdir.dir.has_changed();
        let mut look = changed || runsvdir.dir.look_at().is_some_and(|at| now >= at);
        let mut children = runsvdir.reap_at.is_some_and(|at| now >= at);
        if came_signal {
            signals.take(|came| match came.signal {
                Signal::CHLD => children = true,
                Signal::ALRM => look = true,
                Signal::HUP => end = Some(HUNG_UP),
                Signal::TERM | Signal::INT => end = Some(0),
                _ => {}
            });
        }
        if children {
            runsvdir.reap(now);
        }
        if let Some(code) = end {
            if first {
                runsvdir.stop_all(code);
            } else {
                // Stock's two ways: TERM leaves everything running, HUP tells the runsvs and does not wait.
                if code == HUNG_UP {
                    runsvdir.stop_all(code);
                }
                return Ok(code);
            }
        }
        if let Some(code) = runsvdir.ending {
            if runsvdir.services.is_empty() && runsvdir.leaving.is_empty() {
                return Ok(code);
            }
            continue;
        }
        if look {
            runsvdir.look();
        }
        runsvdir.verify_if_due(now);
        runsvdir.start_due(now);
    }
}

struct Runsvdir {
    dir: Directory,
    scan: Scan,
    new_session: bool,
    /// The files that `runsv` may be, in the order of PATH, and at last ourselves.
    runsv: Vec<CString>,
    services: Vec<Known>,
    /// Told to leave and forgotten, but still there.
    leaving: Leaving,
    /// Since when the directory cannot be opened to start something in it, and when to try again.
    closed: Option<(Moment, Moment)>,
    /// When to ask again for ended children: that failed.
    reap_at: Option<Moment>,
    /// When to look whether each runsv serves the directory that it was started for.
    verify_at: Option<Moment>,
    /// As process 1: all are to leave, and then this is the exit code.
    ending: Option<u8>,
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
            services: Vec::new(),
            leaving: Leaving::default(),
            closed: None,
            reap_at: None,
            verify_at: None,
            ending: None,
        })
    }

    fn deadline(&self) -> Option<Moment> {
        if self.ending.is_some() {
            return self.reap_at;
        }
        let until = earlier(earlier(self.dir.look_at(), self.reap_at), self.verify_at);
        let start = self.services.iter().filter(|service| self.may_start(service)).map(Known::not_before);
        let start = start.fold(None, earlier);
        // As long as the directory cannot be opened, nothing is due in it.
        earlier(until, start.map(|at| self.closed.map_or(at, |(_, again)| at.max(again))))
    }

    /// Whether nothing but time keeps a service from being started.
    fn may_start(&self, service: &Known) -> bool {
        service.not_before().is_some() && !service.is_unseen && !self.leaving.has(service.found.identity)
    }

    /// Looks at the directory, tells the runsv of what vanished, and notes what is new.
    fn look(&mut self) {
        let Some(listing) = self.dir.look() else { return };
        self.closed = None;
        let now = clock::monotonic();
        let mut scan = std::mem::take(&mut self.scan);
        let known: Vec<&Found> = self.services.iter().map(|service| &service.found).collect();
        let follows = |place: usize, identity| {
            self.services.get(place).is_some_and(|service| self.follows(service, identity))
        };
        let plan = scan.compare(now, &known, &listing, follows);
        self.scan = scan;
        self.dir.look_again_at(plan.again);
        self.follow(plan);
        self.start_due(now);
    }

    /// Whether the runsv of a service serves the directory to which its name leads now.
    fn follows(&self, service: &Known, identity: Identity) -> bool {
        let Runsv::Alive { pid, .. } = service.runsv else { return false };
        !self.leaving.has(identity)
            && self.dir.is_served(&service.found.name)
            && has_open(pid, identity) != Some(false)
    }

    fn follow(&mut self, plan: Plan) {
        for (place, identity) in plan.follow {
            if let Some(service) = self.services.get_mut(place) {
                service.found.identity = identity;
            }
        }
        if !plan.rename.is_empty() {
            // A runsv that was just being started may have opened what has the old name now.
            self.verify_at.get_or_insert(clock::monotonic().saturating_add(OPENED));
        }
        for (place, name) in plan.rename {
            if let Some(service) = self.services.get_mut(place) {
                service.found.name = name;
            }
        }
        let (mut unseen, mut stop) = (plan.unseen.into_iter().peekable(), plan.stop.into_iter().peekable());
        for (place, mut service) in std::mem::take(&mut self.services).into_iter().enumerate() {
            if stop.next_if_eq(&place).is_some() {
                self.tell_to_leave(&service);
            } else {
                service.is_unseen = unseen.next_if_eq(&place).is_some();
                self.services.push(service);
            }
        }
        self.services.extend(plan.start.into_iter().map(Known::new));
    }

    /// Ends each runsv that serves another directory than it was started for: names were exchanged before it opened its
    /// own. It is then started again.
    fn verify_if_due(&mut self, now: Moment) {
        if self.verify_at.take_if(|at| now >= *at).is_none() {
            return;
        }
        let mut wrong = Vec::new();
        for (place, service) in (0..).zip(&mut self.services) {
            let Runsv::Alive { pid, started } = service.runsv else { continue };
            if service.is_verified {
                continue;
            }
            if now < started.saturating_add(OPENED) {
                let at = started.saturating_add(OPENED);
                self.verify_at = earlier(self.verify_at, Some(at));
            } else if has_open(pid, service.found.identity) == Some(false) {
                wrong.push(place);
            } else {
                service.is_verified = true;
            }
        }
        for place in wrong {
            let Some(service) = self.services.get(place).cloned() else { continue };
            self.tell_to_leave(&service);
            if let Some(service) = self.services.get_mut(place) {
                service.runsv = Runsv::Dead { not_before: now };
            }
        }
    }

    fn tell_to_leave(&mut self, service: &Known) {
        if let Runsv::Alive { pid, .. } = service.runsv {
            // It may have ended a moment ago; the next SIGCHLD tells.
            let _ = signal::send(pid, Signal::TERM);
            self.leaving.add(number_of(pid), service.found.identity);
        }
    }

    /// Starts the runsv of each service that has none and whose time has come; not too many before we listen again.
    fn start_due(&mut self, now: Moment) {
        const AT_ONCE: usize = 200;
        const LOOK_AFTER: Duration = Duration::from_millis(20);
        let is_due = |service: &Known| {
            service.not_before().is_some_and(|not_before| now >= not_before) && self.may_start(service)
        };
        let due: Vec<usize> = (0..)
            .zip(&self.services)
            .filter(|(_, it)| is_due(it))
            .map(|(place, _)| place)
            .take(AT_ONCE)
            .collect();
        if due.is_empty() || self.closed.is_some_and(|(_, again)| now < again) {
            return;
        }
        let Ok(dir) = self.dir.open() else {
            let since = self.closed.map_or(now, |(since, _)| since);
            self.closed = Some((since, again_at(now, since)));
            return;
        };
        self.closed = None;
        for place in due {
            let Some(service) = self.services.get(place) else { return };
            if !Directory::leads_to(dir.as_fd(), &service.found.name, service.found.identity) {
                // It was renamed, which the watch tells too, or cannot be reached; a look finds out.
                self.dir.look_again_at(Some(now.saturating_add(LOOK_AFTER)));
                if let Some(service) = self.services.get_mut(place) {
                    service.is_unseen = true;
                }
                continue;
            }
            let runsv = self.start(&dir, &service.found.name, now);
            if let Some(service) = self.services.get_mut(place) {
                service.runsv = runsv;
                service.is_verified = false;
            }
        }
    }

    fn start(&self, dir: &OwnedFd, name: &CStr, now: Moment) -> Runsv {
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
                Message::not_started(&self.dir.who(), &why, &no_process, &not_run).print_now();
                Runsv::Dead { not_before: now + if why.lacks_process() { NO_PROCESS } else { known::PACE } }
            }
        }
    }

    /// Takes the ends of all children; as process 1 also of those that nobody else waits for.
    fn reap(&mut self, now: Moment) {
        const AGAIN: Duration = Duration::from_millis(100);
        self.reap_at = None;
        for _ in 0..REAPED_MAX {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::CHILD) => return,
                Err(_) => {
                    // No signal tells of them once more.
                    self.reap_at = Some(now.saturating_add(AGAIN));
                    return;
                }
            };
            if status.exit_status().is_none() && status.terminating_signal().is_none() {
                continue;
            }
            self.leaving.remove(number_of(pid));
            let mine =
                |service: &Known| matches!(service.runsv, Runsv::Alive { pid: alive, .. } if alive == pid);
            if let Some(place) = self.services.iter().position(mine) {
                if self.ending.is_some() {
                    self.services.remove(place);
                } else if let Some(service) = self.services.get_mut(place) {
                    service.ended(now, status.exit_status() == Some(0));
                    if status.exit_status() == Some(FATAL) {
                        // Perhaps another of them holds its lock.
                        self.verify_at.get_or_insert(now.saturating_add(OPENED));
                    }
                }
            }
        }
        self.reap_at = Some(now);
    }

    /// Tells every runsv to stop its service and leave. From now on nothing is started.
    fn stop_all(&mut self, code: u8) {
        for service in std::mem::take(&mut self.services) {
            self.tell_to_leave(&service);
        }
        self.ending.get_or_insert(code);
        // Its end can take the kernel some milliseconds, which now pass while the services stop.
        self.dir.stop_watching();
    }
}

fn number_of(pid: Pid) -> u64 {
    u64::from(pid.as_raw_nonzero().get().unsigned_abs())
}

/// Whether a process has this directory open, as runsv has the one that it serves. `None` if that cannot be told.
fn has_open(pid: Pid, identity: Identity) -> Option<bool> {
    let path = CString::new(format!("/proc/{}/fd", pid.as_raw_nonzero())).ok()?;
    let dir = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // A runsv has a dozen.
    let mut names = Dir::read_from(&dir).ok()?.flatten().take(100);
    // Stock's runsv has it as its working directory.
    Some(
        names.any(|entry| Directory::leads_to(dir.as_fd(), entry.file_name(), identity))
            || Directory::leads_to(dir.as_fd(), c"../cwd", identity),
    )
}
