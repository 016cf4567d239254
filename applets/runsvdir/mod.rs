//! `runsvdir`: keep a `runsv` for each service directory in a directory. Source: runsvdir(8).
//!
//! What comes, goes or ends is acted upon at once: the directory, and the links that lead to it, are watched.
//! As process 1 it ends orderly: all services are stopped and waited for.

mod scan;
mod title;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, statat};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use svcore::event::{self, earlier};
use svcore::sys::signals::{self, Signals};
use svcore::sys::spawn::{Failure, Program, spawn};
use svcore::sys::watch::Inotify;
use svcore::sys::{clock, start};
use svcore::{Call, Context, Error, Result, exec, files, say};

use scan::{Found, Identity, Known, Plan, Runsv};
use title::Title;

/// How often the directory is looked at where it cannot be watched, or is not there.
const LOOK_EVERY: Duration = Duration::from_secs(5);
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
    let first = rustix::process::getpid().as_raw_nonzero().get() == 1;
    let mut wanted = vec![signals::CHLD, signals::TERM, signals::HUP];
    if first {
        wanted.push(signals::INT);
    }
    let signals = Signals::wait_for(&wanted).while_doing(|| "unable to create selfpipe")?;
    let mut runsvdir = Runsvdir::new(dir, new_session)?;
    let mut title = log.and_then(|index| {
        Title::new(index)
            .map_err(|what| {
                runsvdir.warn(what, None);
                runsvdir.warn("log service disabled.", None);
            })
            .ok()
    });
    let mut next_dot = clock::monotonic() + title::DOT_EVERY;
    runsvdir.watch = runsvdir.new_watch();
    runsvdir.look();
    loop {
        let until = title.as_ref().map(|_| next_dot);
        let until = earlier(until, runsvdir.deadline());
        let (came_signal, changed, written) = {
            let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
            let watched =
                runsvdir.watch.as_ref().map(|watch| PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN));
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
        if changed {
            runsvdir.watch.as_ref().inspect(|watch| watch.take());
        }
        if changed || runsvdir.look_at.is_some_and(|at| now >= at) {
            runsvdir.look();
        }
        runsvdir.start_due(now);
    }
}

struct Runsvdir {
    dir: CString,
    new_session: bool,
    /// The files that `runsv` may be, in the order of PATH, and at last ourselves.
    runsv: Vec<CString>,
    services: Vec<Known>,
    /// Told to leave and forgotten, but still there.
    leaving: Vec<(Identity, Pid)>,
    watch: Option<Inotify>,
    watched: Vec<i32>,
    /// When to look without being told.
    look_at: Option<Duration>,
    /// Said already: that the directory is not there.
    missing: Option<i32>,
    /// As process 1: all are to leave, and then this is the exit code.
    ending: Option<u8>,
}

impl Runsvdir {
    fn new(dir: &OsStr, new_session: bool) -> Result<Self> {
        let dir =
            CString::new(dir.as_bytes()).map_err(|_| Error::fatal("unable to open current directory"))?;
        let mut runsv = exec::candidates(OsStr::new("runsv"), std::env::var_os("PATH").as_deref());
        runsv.extend(ourselves());
        Ok(Runsvdir {
            dir,
            new_session,
            runsv,
            services: Vec::new(),
            leaving: Vec::new(),
            watch: None,
            watched: Vec::new(),
            look_at: None,
            missing: None,
            ending: None,
        })
    }

    fn warn(&self, what: &str, cause: Option<&io::Error>) {
        self.warn_bytes(what.as_bytes(), cause);
    }

    fn warn_bytes(&self, what: &[u8], cause: Option<&io::Error>) {
        say::supervisor(&[b"runsvdir ", self.dir.to_bytes(), b": warning: "], what, cause);
    }

    fn new_watch(&self) -> Option<Inotify> {
        Inotify::new()
            .map_err(|error| self.warn("unable to watch, looking every 5 seconds instead", Some(&error)))
            .ok()
    }

    fn deadline(&self) -> Option<Duration> {
        if self.ending.is_some() {
            return None;
        }
        self.services.iter().fold(self.look_at, |until, service| match service.runsv {
            Runsv::Dead { not_before } if !self.is_leaving(service.identity) => {
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
        self.look_at = None;
        self.set_watches();
        let now = clock::monotonic();
        match self.list() {
            Ok(found) => {
                self.missing = None;
                let dir = self.dir.clone();
                let plan = scan::compare(&self.services, &found, |service| serves(&dir, &service.name));
                self.follow(plan);
                self.start_due(now);
            }
            Err((what, error)) => {
                // Said when it becomes so, not at each look.
                let errno = error.raw_os_error();
                if self.missing != errno {
                    self.warn_bytes(&[what, b" ", self.dir.to_bytes()].concat(), Some(&error));
                    self.missing = errno;
                }
                self.look_at = earlier(self.look_at, Some(now + LOOK_EVERY));
            }
        }
    }

    fn follow(&mut self, plan: Plan) {
        for (place, identity) in plan.follow {
            if let Some(service) = self.services.get_mut(place) {
                service.identity = identity;
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
            self.leaving.push((service.identity, pid));
        }
    }

    /// Watches the directory and the links on the way to it, before it is read: no change falls in between.
    fn set_watches(&mut self) {
        let Some(watch) = &self.watch else {
            self.look_at = Some(clock::monotonic() + LOOK_EVERY);
            return;
        };
        let mut failed = None;
        let mut add = |dir: &CStr| watch.add(dir).map_err(|error| failed = Some(error)).ok();
        let mut watched: Vec<i32> =
            exec::way_of(self.dir.to_bytes(), false).iter().filter_map(|dir| add(dir)).collect();
        // That it is missing is found out by reading it; the way to it is watched.
        watched.extend(watch.add(&self.dir));
        if failed.is_none() && watched.is_empty() {
            failed = Some(io::ErrorKind::Unsupported.into());
        }
        for old in self.watched.iter().filter(|old| !watched.contains(old)) {
            watch.remove(*old);
        }
        self.watched = watched;
        if let Some(error) = failed {
            self.warn("unable to watch, looking every 5 seconds instead", Some(&error));
            self.watch = None;
            self.look_at = Some(clock::monotonic() + LOOK_EVERY);
        }
    }

    /// The service directories that are there.
    fn list(&self) -> std::result::Result<Vec<Found>, (&'static [u8], io::Error)> {
        let unable = |what: &'static [u8]| move |errno: rustix::io::Errno| (what, io::Error::from(errno));
        statat(CWD, &self.dir, AtFlags::empty()).map_err(unable(b"unable to stat"))?;
        let dir = openat(CWD, &self.dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(unable(b"unable to change directory to"))?;
        let unreadable = unable(b"unable to read directory");
        let mut found = Vec::new();
        for entry in Dir::read_from(&dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            match statat(&dir, name, AtFlags::empty()) {
                Ok(stat) if files::is_dir(&stat) => {
                    found.push(Found { name: name.to_owned(), identity: files::identity(&stat) });
                }
                Ok(_) => {}
                Err(errno) => {
                    self.warn_bytes(&[b"unable to stat ", name.to_bytes()].concat(), Some(&errno.into()));
                }
            }
        }
        Ok(found)
    }

    /// Starts the runsv of each service that has none and whose time has come.
    fn start_due(&mut self, now: Duration) {
        let Ok(dir) = self.open() else { return };
        for place in 0..self.services.len() {
            let Some(service) = self.services.get(place) else { return };
            let due = matches!(service.runsv, Runsv::Dead { not_before } if now >= not_before);
            if !due || self.is_leaving(service.identity) {
                continue;
            }
            let runsv = self.start(&dir, &service.name, now);
            if let Some(service) = self.services.get_mut(place) {
                service.runsv = runsv;
            }
        }
    }

    fn open(&self) -> io::Result<OwnedFd> {
        Ok(openat(CWD, &self.dir, svcore::sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
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
                self.warn_bytes(&[b"unable to fork for ", name.to_bytes()].concat(), Some(&error));
                Runsv::Dead { not_before: now + NO_PROCESS }
            }
            Err(Failure::Descriptors(error) | Failure::Directory(error) | Failure::Exec(error)) => {
                let prefix: [&[u8]; 3] = [b"runsvdir ", self.dir.to_bytes(), b": fatal: "];
                say::supervisor(
                    &prefix,
                    &[b"unable to start runsv ", name.to_bytes()].concat(),
                    Some(&error),
                );
                Runsv::Dead { not_before: now + scan::PACE }
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
        self.watch = None;
    }
}

/// Whether a supervisor serves the service `name` in `dir`: its `ok` has a reader.
fn serves(dir: &CStr, name: &CStr) -> bool {
    let Ok(path) = CString::new([dir.to_bytes(), b"/", name.to_bytes(), b"/supervise/ok"].concat()) else {
        return false;
    };
    openat(CWD, &path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// The file we are, for where PATH has no runsv.
fn ourselves() -> impl Iterator<Item = CString> {
    let executed = start::executed_path().filter(|path| path.as_bytes().contains(&b'/')).and_then(|path| {
        let path = std::path::absolute(path).ok()?;
        CString::new(OsString::from(path).into_vec()).ok()
    });
    [c"/proc/self/exe".to_owned()].into_iter().chain(executed)
}
