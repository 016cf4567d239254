//! Running `on-failure`: the program of the service, or `.on-failure` beside all services.

use std::ffi::{CStr, CString};
use std::io;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, fstat};
use rustix::process::Pid;

use super::Service;
use super::unit::open_directory;
use crate::files;
use crate::log_tail;
use crate::moment::Moment;
use crate::policy::PolicyFile;
use crate::process::Ended;
use crate::role::Role;
use crate::service::failure::{Failure, FailureCalls};
use crate::service::step::Now;
use crate::sys::pipe;
use crate::sys::signal;
use crate::sys::spawn::{NotStarted, Program, Stream, spawn};
use crate::template::Instance;
use crate::{Signal, path, trust};

/// The program of the service.
const OWN: &CStr = c"on-failure";
/// The program for all services of a directory.
const SHARED: &CStr = c".on-failure";

/// How long the absence of [`SHARED`] is believed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a service knows of its calls of `on-failure`.
#[derive(Debug, Default)]
pub(super) struct OnFailure {
    calls: FailureCalls,
    /// There was a [`SHARED`] program when that was last looked for.
    has_shared: bool,
    looked_at: Option<Moment>,
    /// The call that runs.
    pid: Option<Pid>,
}

impl OnFailure {
    /// Whether a call runs.
    pub(super) const fn is_running(&self) -> bool {
        self.pid.is_some()
    }

    /// When a call is due, if ever.
    pub(super) fn next_tick(&self) -> Option<Moment> {
        self.calls.next_tick()
    }
}

impl Service {
    /// `./run` has ended, which nobody had asked for.
    pub(super) fn note_failure(&mut self, now: Now, how: Ended, uptime: Duration) {
        if self.policies.has(PolicyFile::OnFailure)
            || (how != Ended::Code(0) && self.has_shared_program(now.at))
            || self.on_failure.has_shared
        {
            self.on_failure.calls.ended(now.at, how, uptime);
        }
    }

    /// The service was given up.
    pub(super) fn note_given_up(&mut self, now: Now) {
        if self.policies.has(PolicyFile::OnFailure) || self.has_shared_program(now.at) {
            self.on_failure.calls.given_up(now.at);
        }
    }

    /// Whether there is a program for all services. A service that fails again and again looks only from time to time.
    fn has_shared_program(&mut self, now: Moment) -> bool {
        let looked_at = self.on_failure.looked_at;
        if looked_at.is_none_or(|at| now >= at.saturating_add(LOOK_AGAIN)) {
            let parent = path::parent(self.label.path().to_bytes());
            let path = CString::new([&parent, b"/".as_slice(), SHARED.to_bytes()].concat());
            let is_there = |path: CString| files::look(CWD, &path).is_ok_and(|stat| stat.is_some());
            self.on_failure.has_shared = path.is_ok_and(is_there);
            self.on_failure.looked_at = Some(now);
        }
        self.on_failure.has_shared
    }

    /// Whether a call became due, which then waits for its turn.
    pub(crate) fn queues_failure(&mut self, now: Now) -> bool {
        self.on_failure.calls.queue_if_due(now.at)
    }

    /// Whether a call may be due; see [`Service::queues_failure`].
    pub(crate) fn has_failure(&self) -> bool {
        self.on_failure.calls.next_tick().is_some()
    }

    /// It is the turn of this service: makes the call that is due. Returns its process.
    pub(crate) fn start_on_failure(&mut self, now: Now) -> Option<Pid> {
        let failure = self.on_failure.calls.take(now.at)?;
        if self.surroundings.is_gone() || self.main.machine.is_held() {
            return None;
        }
        let own = files::look(self.main.dir.as_fd(), OWN).ok().flatten();
        let pid = match own.filter(|_| self.policies.has(PolicyFile::OnFailure)) {
            Some(stat) if files::is_executable(&stat) => {
                self.call(now, &failure, None, c"./on-failure", trust::is_of_others(&stat))
            }
            Some(_) => {
                self.report_policy(PolicyFile::OnFailure, "not executable");
                None
            }
            None => {
                let dir = self.shared_program()?;
                self.call(now, &failure, Some(&dir), c"./.on-failure", false)
            }
        };
        self.on_failure.pid = pid;
        pid
    }

    /// The directory of the program for all services, if that can be run and nobody else than us and root can replace it.
    fn shared_program(&mut self) -> Option<OwnedFd> {
        let path = CString::new(path::parent(self.label.path().to_bytes())).ok()?;
        let dir = open_directory(CWD, &path).ok()?;
        let stat = files::look(dir.as_fd(), SHARED).ok()??;
        let check = || -> io::Result<()> {
            trust::check_owner(&fstat(&dir)?)?;
            Ok(trust::check_owner(&stat)?)
        };
        let checked = check();
        if let Err(error) = checked {
            let why = trust::refusal(&error).map_or("unable to look", trust::Refusal::words);
            self.label.warn(format!(".on-failure, or its directory: {why}, ignored").as_bytes(), None);
            return None;
        }
        if !files::is_executable(&stat) {
            self.label.warn(b".on-failure: not executable, ignored", None);
            return None;
        }
        Some(dir)
    }

    /// Starts a program with what it is to be told. It runs in `shared`, or in the service directory.
    fn call(
        &mut self,
        now: Now,
        failure: &Failure,
        shared: Option<&OwnedFd>,
        file: &CStr,
        bounded: bool,
    ) -> Option<Pid> {
        // What it may look up about the service is to be true when it does.
        self.publish(now);
        let (code, signal) = failure.how.finish_arguments();
        let number = |number: u128| CString::new(number.to_string()).unwrap_or_default();
        let (uptime, ends) = (number(failure.uptime.as_millis()), number(failure.ends.into()));
        let name = CString::new(self.last_name()).unwrap_or_default();
        let lines = self.log_lines();
        let input = pipe::with_content(&lines).ok();
        let environment = self.instance().map(|instance| instance.variable.as_c_str());
        let mut program = Program {
            files: &[file],
            argv: &[file, &name, &code, &signal, &uptime, &ends],
            environment: environment.as_slice(),
            directory: Some(shared.unwrap_or(&self.main.dir).as_fd()),
            stdin: input.as_ref().map_or(Stream::Inherit, |input| Stream::Is(input.as_fd())),
            new_session: self.of_init,
            new_group: true,
            bounded,
            ..Program::default()
        };
        self.set_streams_of_main(&mut program);
        match spawn(&program) {
            Ok(pid) => Some(pid),
            Err(NotStarted { cause, .. }) => {
                let file = file.to_bytes();
                let what = [b"unable to run ".as_slice(), file.strip_prefix(b"./").unwrap_or(file)].concat();
                self.label.warn(&what, Some(&cause));
                None
            }
        }
    }

    /// The last lines of its log, if there is one that can be read.
    fn log_lines(&self) -> Vec<u8> {
        let instance = self.instance().filter(|_| self.log_is_hosted()).map(Instance::own_name);
        match self.unit(Role::Log) {
            Some(log) => log_tail::last_lines(log.dir.as_fd(), log.pid(), instance.as_deref()),
            None => open_directory(self.main.dir.as_fd(), c"log")
                .map_or_else(|_| Vec::new(), |dir| log_tail::last_lines(dir.as_fd(), None, None)),
        }
    }

    /// A call has ended. Returns whether it was one of this service.
    pub(crate) fn on_failure_ended(&mut self, pid: Pid, how: Ended) -> bool {
        if self.on_failure.pid.take_if(|running| *running == pid).is_none() {
            return false;
        }
        if how != Ended::Code(0) {
            self.label.warn(format!("on-failure {}", how.in_words()).as_bytes(), None);
        }
        true
    }

    /// A call has not ended in time.
    pub(crate) fn report_slow_on_failure(&self, what: &str) {
        self.label.warn(format!("on-failure {what}").as_bytes(), None);
    }

    /// The service leaves: ends the call that still runs.
    pub(super) fn kill_on_failure(&self) {
        if let Some(pid) = self.on_failure.pid {
            self.report_slow_on_failure("does not end: killing it");
            let _ = signal::send_to_group(pid, Signal::KILL);
            let _ = signal::send(pid, Signal::KILL);
        }
    }
}
