//! The log of a service without `log/run`: this suite keeps it itself.
//!
//! Under `runsv` the log service is an `svlogd` of its own. Under an init that has [`Loggers`] it is one of the logs of a
//! logger: its signals are sent as orders, and its end is reported by the logger. A `log/run` that appears later takes
//! over: the log is told to end, as by TERM, and what it has not read waits in the pipe.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{AtFlags, Stat, fstat, statat};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Service;
use super::unit::{is_removed, wanted_at_start};
use crate::Signal;
use crate::control::Command;
use crate::error::Failed;
use crate::exec;
use crate::files;
use crate::logger::protocol::LogNumber;
use crate::logger::{self, Log, Loggers, NotKept, account};
use crate::own_file;
use crate::process::Ended;
use crate::role::Role;
use crate::say::{Class, Message};
use crate::service::step::{Event, Now, Script};
use crate::status::Want;
use crate::sys::spawn::{NotStarted, Program, Search, Step, Stream, spawn};
use crate::tai::{self, Tai64N};
use crate::template::Instance;

/// A directory that did not change for this many seconds counts as complete: nobody is filling it.
const COMPLETE_AFTER: u64 = 1;

/// What keeps a log, as of the last start of the log service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Keeper {
    /// `log/run`, or nothing yet.
    #[default]
    Script,
    /// An svlogd of its own.
    Svlogd,
    /// A logger, which knows the log by this number.
    Logger(LogNumber),
}

/// What is known of a log that may have no `log/run`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hosting {
    keeper: Keeper,
    /// `log/` is complete without `run`: nobody is filling it.
    pub(super) is_complete: bool,
    /// `log/run` has appeared, and the keeper was told to end.
    gives_way: bool,
}

impl Hosting {
    /// For a directory with this `stat`, taken before anything of ours was made in it.
    pub(super) fn of(stat: &Stat, now: Now) -> Self {
        Hosting { is_complete: is_calm(&changed_at(stat), &now.stamp), ..Hosting::default() }
    }

    /// Whether no `log/run` keeps it.
    pub(super) fn is_hosted(&self) -> bool {
        self.keeper != Keeper::Script
    }

    /// The log at a logger.
    pub(super) const fn at_logger(&self) -> Option<LogNumber> {
        match self.keeper {
            Keeper::Logger(number) => Some(number),
            Keeper::Script | Keeper::Svlogd => None,
        }
    }
}

/// When the directory with this `stat` changed last.
fn changed_at(stat: &Stat) -> Tai64N {
    #[allow(clippy::useless_conversion, reason = "the width of a time differs between platforms")]
    tai::stamp(stat.st_ctime.into(), u32::try_from(stat.st_ctime_nsec).unwrap_or(0))
}

/// Whether a directory that `changed` last then counts as complete. Pure.
fn is_calm(changed: &Tai64N, now: &Tai64N) -> bool {
    tai::seconds_between(changed, now) > COMPLETE_AFTER
}

impl Service {
    /// Logs without `log/run` are kept by these, and not by an svlogd for each.
    pub fn set_loggers(&mut self, loggers: Rc<Loggers>) {
        self.loggers = Some(loggers);
    }

    /// The log that a logger keeps for it.
    #[must_use]
    pub(crate) fn log_at_logger(&self) -> Option<LogNumber> {
        self.log.as_ref()?.hosting.at_logger()
    }

    /// Whether no `log/run` keeps its log.
    pub(super) fn log_is_hosted(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.hosting.is_hosted())
    }

    /// The logger does not keep the log any more.
    pub(crate) fn log_ended(&mut self, now: Now, how: Ended) {
        let Some(pid) = self.log.as_ref().and_then(|log| log.unit.pid()) else { return };
        self.handle(now, Role::Log, Event::Ended { pid, how, finish: false });
    }

    /// Starts the log service if there is no `log/run`. Returns what came of it; `None` if there is a `log/run`.
    ///
    /// Called only after `log/run` was not found.
    pub(super) fn start_hosted_log(&mut self, now: Now) -> Option<Event> {
        let dir = self.log.as_ref()?.unit.dir.as_fd();
        let has_run = !matches!(statat(dir, c"run", AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
        if has_run || is_removed(dir) {
            return None;
        }
        let was_script_that_ran =
            self.log.as_ref().is_some_and(|log| log.hosting.keeper == Keeper::Script && log.ever_started);
        if was_script_that_ran {
            // Perhaps the directory is being removed or replaced, file by file.
            let is_calm = fstat(dir).is_ok_and(|stat| is_calm(&changed_at(&stat), &now.stamp));
            if !is_calm {
                return Some(Event::NotStarted { finish: false });
            }
        } else if !self.log.as_ref()?.hosting.is_complete {
            self.surroundings.settle_log(now.at);
            return Some(Event::NotStarted { finish: false });
        }
        if let Err(failed) = self.prepare_log_directory() {
            return Some(self.log_not_kept(now, &failed));
        }
        Some(match self.loggers.clone() {
            Some(loggers) => self.start_at_logger(now, &loggers),
            None => self.start_svlogd(now),
        })
    }

    fn start_at_logger(&mut self, now: Now, loggers: &Loggers) -> Event {
        let name = self.name_of_log();
        let instance = self.instance().map(Instance::own_name).unwrap_or_default();
        let Some(log) = &mut self.log else { return Event::NotStarted { finish: false } };
        let (pipe, dir) = (log.pipe.read.as_fd(), log.unit.dir.as_fd());
        let kept = loggers.keep(&Log { name: &name, pipe, dir, instance: &instance });
        match kept {
            Ok((number, pid)) => {
                log.hosting.keeper = Keeper::Logger(number);
                Event::Started(pid)
            }
            Err(NotKept::Ended) => Event::NotStarted { finish: false },
            Err(NotKept::NotStarted(why)) => self.svlogd_not_started(now, &why),
            Err(NotKept::Failed(failed)) => self.log_not_kept(now, &failed),
        }
    }

    fn log_not_kept(&mut self, now: Now, failed: &Failed) -> Event {
        let message = Message::of(Class::Fatal, &self.label.who, failed);
        if self.recent.is_new(now.at, &message.text()) {
            message.print_now();
        }
        Event::NotStarted { finish: false }
    }

    /// Makes the directory of an instance where only we can: for the account in `log/user`.
    fn prepare_log_directory(&self) -> Result<(), Failed> {
        let Some(log) = &self.log else { return Ok(()) };
        let log = log.unit.dir.as_fd();
        if let Some(ids) = account::ids_of(log)?
            && let Some(instance) = self.instance()
            && let Ok(name) = CString::new(instance.own_name())
        {
            logger::directory::make_for(log, &name, &ids);
        }
        Ok(())
    }

    fn start_svlogd(&mut self, now: Now) -> Event {
        let name = CString::new(self.name_of_log()).unwrap_or_default();
        let instance = self.instance().and_then(|instance| CString::new(instance.own_name()).ok());
        let mut argv = vec![c"svlogd", logger::HOSTED, &name];
        argv.extend(instance.as_deref());
        let files = own_file::to_execute();
        let files: Vec<&CStr> = files.iter().map(CString::as_c_str).collect();
        let Some(log) = &mut self.log else { return Event::NotStarted { finish: false } };
        let mut program = Program {
            files: &files,
            search: Search(exec::path_rule),
            argv: &argv,
            directory: Some(log.unit.dir.as_fd()),
            stdin: Stream::Is(log.pipe.read.as_fd()),
            new_session: self.of_init,
            ..Program::default()
        };
        if let Some((out, err)) = self.outputs.as_ref().and_then(|outputs| outputs.log.as_ref()) {
            program.stdout = Stream::Is(out.as_fd());
            program.stderr = Stream::Is(err.as_fd());
        }
        match spawn(&program) {
            Ok(pid) => {
                log.hosting.keeper = Keeper::Svlogd;
                Event::Started(pid)
            }
            Err(why) => self.svlogd_not_started(now, &why),
        }
    }

    fn svlogd_not_started(&mut self, now: Now, why: &NotStarted) -> Event {
        let what = match why.step {
            Step::Descriptors => "unable to setup filedescriptor for svlogd of ./log",
            Step::Directory => "unable to change directory to ./log",
            Step::ControlGroup | Step::Fork | Step::Exec => "unable to start svlogd of ./log",
        };
        let message = Message::not_started(&self.label.who, why, "unable to fork, sleeping", what);
        if self.recent.is_new(now.at, &message.text()) {
            message.print_now();
        }
        if why.lacks_process() { Event::NoProcess } else { Event::NotStarted { finish: false } }
    }

    /// The path of the directory `log`, absolute where that can be found out: it is seen by people who are elsewhere.
    fn name_of_log(&self) -> Vec<u8> {
        let path = self.path_of(Role::Log, c"");
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        std::path::absolute(OsStr::from_bytes(path))
            .map_or_else(|_| path.to_vec(), |path| path.into_os_string().into_encoded_bytes())
    }

    /// `log/run` is about to be started: it gets the pipe as it was made.
    pub(super) fn log_becomes_script(&mut self) {
        if let Some(log) = &mut self.log {
            if log.hosting.is_hosted() {
                // A logger made it non-blocking.
                let _ = rustix::io::ioctl_fionbio(&log.pipe.read, false);
            }
            log.hosting = Hosting { is_complete: log.hosting.is_complete, ..Hosting::default() };
            log.ever_started = true;
        }
    }

    /// If `log/run` has appeared beside a log that this suite keeps, tells that to end.
    pub(super) fn give_way_to_log_run(&mut self, now: Now) {
        let Some(log) = self.log.as_mut().filter(|log| log.hosting.is_hosted() && !log.hosting.gives_way)
        else {
            return;
        };
        let run = files::look(log.unit.dir.as_fd(), c"run");
        if run.is_ok_and(|run| run.is_some_and(|run| files::is_executable(&run))) {
            log.hosting.gives_way = true;
            self.handle(now, Role::Log, Event::Command(Command::Restart));
            self.handle(now, Role::Log, Event::Command(Command::Continue));
            self.publish(now);
        }
    }

    /// What messages call the program of one of the two.
    pub(super) fn program_name(&self, role: Role, script: Script) -> &'static str {
        match self.unit(role) {
            Some(_) if role == Role::Log && self.log_is_hosted() => "svlogd of ./log",
            Some(unit) => unit.script_name(script),
            None => "",
        }
    }

    /// Whether nothing of what is watched has changed but the directory of a log that this suite keeps, in which svlogd makes
    /// files of its own.
    pub(crate) fn has_only_hosted_log_changed(&self, is_changed: impl Fn(i32) -> bool) -> bool {
        let Some(log) = self.log.as_ref().filter(|log| log.hosting.is_hosted()) else { return false };
        let log = log.unit.dir.as_raw_fd();
        is_changed(log) && !self.watches().any(|fd| fd != log && is_changed(fd))
    }

    /// Looks for what may have happened then: `log/run` has appeared, or `log/supervise` is gone.
    pub(crate) fn look_at_hosted_log(&mut self, now: Now) {
        self.look_at_log(now);
        let in_place = |log: &super::log::LogUnit| log.unit.supervise.is_in_place(log.unit.dir.as_fd());
        if !self.log.as_ref().is_some_and(|log| in_place(log)) {
            self.look_again(now);
        }
    }

    /// `log/` counts as complete: its log service is started with or without `log/run`.
    pub(super) fn log_is_complete(&mut self, now: Now) {
        let Some(log) = &mut self.log else {
            self.surroundings.log_is_complete = true;
            return self.look_at_log(now);
        };
        log.hosting.is_complete = true;
        let down = wanted_at_start(log.unit.dir.as_fd()) == Want::Down;
        self.handle(now, Role::Log, Event::RunChanged { down });
    }

    /// Sends a signal to a process of one of the two; to a log at a logger, as an order.
    pub(super) fn send(&self, role: Role, pid: Pid, signal: Signal) {
        if !self.order(role, signal)
            && let Some(unit) = self.unit(role)
        {
            unit.send(pid, signal);
        }
    }

    /// Sends the signal that asks one of the two to end.
    pub(super) fn send_down(&self, role: Role, pid: Pid) {
        let Some(unit) = self.unit(role) else { return };
        let signal = unit.down_signal(&self.label);
        if !self.order(role, signal) {
            unit.send_down(pid, signal);
        }
    }

    /// If a logger keeps the log, sends a signal for it as an order. Returns whether it did so.
    fn order(&self, role: Role, signal: Signal) -> bool {
        let number = if role == Role::Log { self.log_at_logger() } else { None };
        let (Some(number), Some(loggers)) = (number, &self.loggers) else { return false };
        loggers.signal(number, signal);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_complete_when_nobody_has_changed_it_for_a_second() {
        let now = tai::stamp(1000, 0);
        assert!(is_calm(&tai::stamp(900, 0), &now));
        assert!(!is_calm(&tai::stamp(999, 0), &now) && !is_calm(&now, &now));
        // The clock was set back.
        assert!(!is_calm(&tai::stamp(2000, 0), &now));
    }
}
