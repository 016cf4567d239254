//! Ending a service: in what order it leaves, what is killed, and what a file `essential` means.

use rustix::fd::AsFd;
use rustix::process::Pid;

use super::{RunningHook, Service, log};
use crate::Signal;
use crate::files;
use crate::process::Ended;
use crate::role::Role;
use crate::service::departure::Leave;
use crate::service::machine::Machine;
use crate::service::step::{Now, Script};
use crate::status::Want;
use crate::sys::signal;

/// What is known of the end of a service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct End {
    /// The service had to be killed: there is no more time for `./finish`.
    pub(super) killed: bool,
    /// How the service ended on its own, if it has a file `essential`.
    essential: Option<Ended>,
}

impl Service {
    /// Does the next steps of leaving, if the service is to leave for good. Returns whether everything has ended.
    pub(crate) fn leave(&mut self, now: Now) -> bool {
        loop {
            let is_ending = self.main_is_over() && self.confinement.is_ending();
            let log = self.log.as_deref();
            let unread = log.map_or(0, |log| log.pipe.unread());
            let leave = self.departure.next(
                now,
                &self.main.machine,
                log.map(|log| &log.unit.machine),
                !self.hooks.is_empty() || is_ending || self.on_failure.is_running(),
                unread > 0,
                || log.map_or(log::TIMEOUT, |log| log.exit_timeout()),
            );
            match leave {
                Leave::Stay => return false,
                Leave::Quit => return true,
                Leave::StartLog => self.step_log(now, |log| log.start_once(now)),
                Leave::CloseLog => {
                    if let Some(log) = &mut self.log {
                        log.pipe.write = None;
                    }
                    self.step_log(now, Machine::expect_exit);
                }
                Leave::GiveUp { log, unread: is_unread } => {
                    self.give_up(log, if is_unread { unread } else { 0 });
                    return true;
                }
            }
        }
    }

    /// Leaves although something does not end: the process of the log service, hooks. `lost` bytes in the pipe are lost.
    fn give_up(&self, log: Option<Pid>, lost: u64) {
        if let Some(pid) = log {
            let what = b"the log service does not end, something else still writes to it: leaving";
            self.label.warn(what, None);
            // It would be in the way of the next log service. It may have just ended.
            self.send(Role::Log, pid, Signal::TERM);
            // A stopped process would not handle TERM, and keep the lock, for ever.
            self.send(Role::Log, pid, Signal::CONT);
        }
        if lost > 0 {
            let what = format!("the log service cannot be started: {lost} bytes for it are lost");
            self.label.warn(what.as_bytes(), None);
        }
        for running in &self.hooks {
            self.kill_hook(running, "does not end: killing it");
        }
        self.kill_on_failure();
    }

    fn kill_hook(&self, running: &RunningHook, why: &str) {
        let name = format!("control/{} {why}", char::from(running.hook.byte()));
        self.label.warn(name.as_bytes(), None);
        let _ = signal::send(running.pid, Signal::KILL);
    }

    /// Everything has ended: removes the files that are of no use now.
    pub(crate) fn tidy(&mut self) {
        for unit in self.units_mut() {
            unit.supervise.tidy();
        }
    }

    /// `./run` ended on its own. If the service is essential, that is kept for [`Service::take_essential_end`].
    pub(super) fn note_unexpected_exit(&mut self, how: Ended) {
        if files::look(self.main.dir.as_fd(), c"essential").is_ok_and(|stat| stat.is_some()) {
            self.end.essential.get_or_insert(how);
            if self.of_init {
                // Everything ends now; it is not started once more before that.
                self.hold();
            }
        }
    }

    /// How a service with a file `essential` ended on its own, if it did since this was last asked.
    pub(crate) const fn take_essential_end(&mut self) -> Option<Ended> {
        self.end.essential.take()
    }

    /// Whether [`Service::take_essential_end`] would return something.
    #[must_use]
    pub(crate) const fn has_essential_end(&self) -> bool {
        self.end.essential.is_some()
    }

    /// Whether the service is down for good; its log service may still read.
    #[must_use]
    pub fn main_is_over(&self) -> bool {
        let machine = &self.main.machine;
        machine.want() == Want::Exit && machine.is_down() && self.hooks.is_empty()
    }

    /// Kills what still runs of the service but its log service, with a line for each. After that no `./finish` is run.
    pub(crate) fn kill(&mut self) {
        self.end.killed = true;
        self.kill_overdue(Role::Main);
        self.confinement.kill();
        for running in &self.hooks {
            self.kill_hook(running, "did not end in time: killed");
        }
    }

    /// Kills the process of one of the two, with a line, if there is one.
    fn kill_overdue(&self, role: Role) {
        let Some((unit, pid)) = self.unit(role).and_then(|unit| Some((unit, unit.pid()?))) else { return };
        let script = if unit.machine.is_running() { Script::Run } else { Script::Finish(Ended::Code(0)) };
        let what = format!("{} did not end in time: killed", self.program_name(role, script));
        self.label.warn(what.as_bytes(), None);
        self.send(role, pid, Signal::KILL);
    }

    /// Kills the log service, with a line, if it still runs.
    pub(crate) fn kill_log(&self) {
        self.kill_overdue(Role::Log);
    }

    /// From now on nothing is started but `./finish`, and the log service as long as it has something to read.
    pub(crate) const fn hold(&mut self) {
        self.main.machine.hold();
    }
}
