//! `runsvdir`: keep a `runsv` for each service directory in a directory. Source: runsvdir(8).
//!
//! What comes, goes or ends is acted upon at once: the directory, and the links that lead to it, are watched.
//! As process 1 it ends orderly: all services are stopped and waited for.

mod known;
mod title;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use svcore::event::{self, earlier};
use svcore::scan::{self, Directory, Found, Identity, Plan};
use svcore::sys::signals::{self, Signals};
use svcore::sys::spawn::{Failure, Program, spawn};
use svcore::sys::{clock, start};
use svcore::{Call, Context, Error, Result, exec, say};

use known::{Known, Runsv};
use title::Title;

/// How long a start waits when there could be no process.
const NO_PROCESS: Duration = Duration::from_secs(5);
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
            let what = error.to_string();
            say::supervisor(&[b"runsvdir ", dir.as_bytes(), b": fatal: "], what.as_bytes(), None);
            Ok(call.codes.fatal)
        }
    }
}

fn serve(dir: &OsStr, new_session: bool, log: Option<usize>) -> Result {
    let first = start::is_first_process();
    let mut wanted = vec![signals::CHLD, signals::TERM, signals::HUP];
    if first {
        start::never_end_by_a_bug("runsvdir");
        wanted.push(signals::INT);
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
            let all = event::wait(&mut fds, until);
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
        if came_signal {
            let mut children = false;
            signals.take(|came| match came.signal {
                signals::CHLD => children = true,
                signals::HUP => end = Some(HUNG_UP),
                signals::TERM | signals::INT => end = Some(0),
                _ => {}
            });
            if children {
                runsvdir.reap(now);
            }
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
        if changed || runsvdir.dir.look_at().is_some_and(|at| now >= at) {
            runsvdir.look();
        }
        runsvdir.start_due(now);
    }
}

struct Runsvdir {
    dir: Directory,
    new_session: bool,
    /// The files that `runsv` may be, in the order of PATH, and at last ourselves.
    runsv: Vec<CString>,
    services: Vec<Known>,
    /// Told to leave and forgotten, but still there.
    leaving: Vec<(Identity, Pid)>,
    /// As process 1: all are to leave, and then this is the exit code.
    ending: Option<u8>,
}

impl Runsvdir {
    fn new(dir: &OsStr, new_session: bool) -> Result<Self> {
        let mut runsv = exec::candidates(OsStr::new("runsv"), std::env::var_os("PATH").as_deref());
        runsv.extend(ourselves());
        Ok(Runsvdir {
            dir: Directory::new("runsvdir", dir)?,
            new_session,
            runsv,
            services: Vec::new(),
            leaving: Vec::new(),
            ending: None,
        })
    }

    fn deadline(&self) -> Option<Duration> {
        if self.ending.is_some() {
            return None;
        }
        self.services.iter().fold(self.dir.look_at(), |until, service| match service.runsv {
            Runsv::Dead { not_before } if !self.is_leaving(service.found.identity) => {
                earlier(until, Some(not_before))
            }
            Runsv::Dead { .. } | Runsv::Alive { .. } => until,
        })
    }

    fn is_leaving(&self, identity: Identity) -> bool {
        self.leaving.iter().any(|(leaving, _)| *leaving == identity)
    }

    /// Looks at the directory, tells the runsv of what vanished, and notes what is new.
    fn look(&mut self) {
        let Some(found) = self.dir.look() else { return };
        let known: Vec<&Found> = self.services.iter().map(|service| &service.found).collect();
        let plan = scan::compare(&known, &found, |service| self.dir.is_served(&service.name));
        self.follow(plan);
        self.start_due(clock::monotonic());
    }

    fn follow(&mut self, plan: Plan) {
        for (place, identity) in plan.follow {
            if let Some(service) = self.services.get_mut(place) {
                service.found.identity = identity;
            }
        }
        for place in plan.stop.into_iter().rev() {
            let service = self.services.remove(place);
            self.tell_to_leave(&service);
        }
        self.services.extend(plan.start.into_iter().map(Known::new));
    }

    fn tell_to_leave(&mut self, service: &Known) {
        if let Runsv::Alive { pid, .. } = service.runsv {
            // It may have ended a moment ago; the next SIGCHLD tells.
            let _ = kill_process(pid, Signal::TERM);
            self.leaving.push((service.found.identity, pid));
        }
    }

    /// Starts the runsv of each service that has none and whose time has come.
    fn start_due(&mut self, now: Duration) {
        let Ok(dir) = self.dir.open() else { return };
        for place in 0..self.services.len() {
            let Some(service) = self.services.get(place) else { return };
            let due = matches!(service.runsv, Runsv::Dead { not_before } if now >= not_before);
            if !due || self.is_leaving(service.found.identity) {
                continue;
            }
            let runsv = self.start(&dir, &service.found.name, now);
            if let Some(service) = self.services.get_mut(place) {
                service.runsv = runsv;
            }
        }
    }

    fn start(&self, dir: &OwnedFd, name: &CStr, now: Duration) -> Runsv {
        let runsv: Vec<&CStr> = self.runsv.iter().map(CString::as_c_str).collect();
        let program = Program {
            files: &runsv,
            argv: &[c"runsv", name],
            directory: Some(dir.as_fd()),
            new_session: self.new_session,
            ..Program::default()
        };
        match spawn(&program) {
            Ok(pid) => Runsv::Alive { pid, started: now },
            Err(Failure::Fork(error)) => {
                self.dir.warn(&[b"unable to fork for ", name.to_bytes()].concat(), Some(&error));
                Runsv::Dead { not_before: now + NO_PROCESS }
            }
            Err(Failure::Descriptors(error) | Failure::Directory(error) | Failure::Exec(error)) => {
                let what = [b"unable to start runsv ", name.to_bytes()].concat();
                self.dir.say(b"fatal: ", &what, Some(&error));
                Runsv::Dead { not_before: now + known::PACE }
            }
        }
    }

    /// Takes the ends of all children; as process 1 also of those that nobody else waits for.
    fn reap(&mut self, now: Duration) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if status.exit_status().is_none() && status.terminating_signal().is_none() {
                continue;
            }
            self.leaving.retain(|(_, leaving)| *leaving != pid);
            let mine =
                |service: &Known| matches!(service.runsv, Runsv::Alive { pid: alive, .. } if alive == pid);
            if let Some(place) = self.services.iter().position(mine) {
                if self.ending.is_some() {
                    self.services.remove(place);
                } else if let Some(service) = self.services.get_mut(place) {
                    service.ended(now, status.exit_status() == Some(0));
                }
            }
        }
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

/// The file we are, for where PATH has no runsv.
fn ourselves() -> impl Iterator<Item = CString> {
    let executed = start::executed_path().filter(|path| path.as_bytes().contains(&b'/')).and_then(|path| {
        let path = std::path::absolute(path).ok()?;
        CString::new(OsString::from(path).into_vec()).ok()
    });
    [c"/proc/self/exe".to_owned()].into_iter().chain(executed)
}
