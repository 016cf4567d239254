//! The phase in which everything ends: performs the tasks of [`stop`](super::stop).

use std::ffi::CStr;

use rustix::process::Pid;
use svcore::Signal;
use svcore::moment::Moment;
use svcore::process::Ended;
use svcore::role::Role;
use svcore::say::{Class, Message};
use svcore::service::host::now;
use svcore::sys::{clock, signal};

use super::programs::{Cmd, Hooks};
use super::stop::{Remaining, Stop, Task};
use super::{Init, Phase, WHO, info, others, say_hook};

/// The directory of executables that run after the services.
const HALT: &CStr = c"/etc/runit/halt.d";

/// The data of the stop.
pub(super) struct Stopping {
    plan: Stop,
    /// The hook of `boot.d` that ran when the stop began, if any.
    pub(super) boot: Hooks,
    /// The hooks of `halt.d`.
    pub(super) halt: Hooks,
    /// When the stop has to be complete.
    complete_by: Moment,
}

impl Stopping {
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.plan.deadline()
    }

    /// Another request to stop skips the grace period.
    pub(super) fn hurry(&mut self) {
        self.plan.hurry(clock::monotonic());
    }

    /// A process ended that is neither one of a service nor CMD.
    pub(super) fn other_ended(&mut self, pid: Pid, how: Ended) {
        // A hook of `boot.d` that was told to end has not failed.
        if self.boot.note_end(pid).is_none()
            && let Some(path) = self.halt.note_end(pid)
        {
            if how != Ended::Code(0) {
                say_hook(Class::Warning, &path, how);
            }
            self.start_halt_hook();
        }
    }

    /// Starts the next hook of `halt.d`. One that cannot be started, which was reported, does not hold up the others.
    fn start_halt_hook(&mut self) {
        while self.halt.is_any() && self.halt.start_next().is_err() {}
    }

    /// When to end the search for other processes: when the plan needs attention, but not at once, since a process that is
    /// not found stays alive.
    fn search_until(&self) -> Moment {
        const SHORTEST: std::time::Duration = std::time::Duration::from_millis(100);
        let next = self.plan.deadline().unwrap_or(Moment::START);
        next.max(clock::monotonic().saturating_add(SHORTEST))
    }
}

impl Init<'_> {
    /// Begins to end everything. `code` is the exit code, unless another was decided before.
    pub(super) fn begin_to_stop(&mut self, code: Option<u8>) {
        self.code = self.code.or(code);
        if matches!(self.phase, Phase::Stop(_)) {
            return;
        }
        if self.options.verbose {
            info(b"stopping");
        }
        let now = clock::monotonic();
        self.host.hold();
        self.cmd.cancel();
        let stopping = Box::new(Stopping {
            plan: Stop::new(now, self.options.time, !self.host.is_empty()),
            boot: Hooks::default(),
            halt: Hooks::those_allowed(HALT),
            complete_by: now.saturating_add(self.options.time),
        });
        if let Phase::Boot(hooks) = std::mem::replace(&mut self.phase, Phase::Stop(stopping))
            && let Phase::Stop(stopping) = &mut self.phase
        {
            stopping.boot = hooks;
            stopping.boot.no_more();
        }
    }

    /// Does what is due in the stop, if it has begun. Returns the exit code after everything has ended.
    pub(super) fn advance_stop(&mut self) -> Option<u8> {
        loop {
            let Phase::Stop(stopping) = &self.phase else { return None };
            let remaining = self.remaining(stopping);
            let Phase::Stop(stopping) = &mut self.phase else { return None };
            match stopping.plan.step(clock::monotonic(), &remaining)? {
                Task::Exit => {
                    let complete_by = stopping.complete_by;
                    if let Some(output) = &mut self.output {
                        output.drain(complete_by);
                    }
                    return Some(self.code.unwrap_or(0));
                }
                task => self.perform(task),
            }
        }
    }

    fn remaining(&self, stopping: &Stopping) -> Remaining {
        let services = self.host.services().filter(|(_, service)| !service.main_is_over()).count();
        Remaining {
            command: self.cmd.pid().or(stopping.boot.running()).is_some(),
            services,
            untold: self.host.ends_in_order(),
            logs: self.host.len().saturating_sub(services),
            others: others::have_children(),
            hooks: stopping.halt.is_any(),
        }
    }

    fn perform(&mut self, task: Task) {
        let Phase::Stop(stopping) = &mut self.phase else { return };
        match task {
            Task::EndCommand => {
                if let Cmd::Running(_) = self.cmd {
                    self.signal_cmd(self.options.stop_signal);
                    self.signal_cmd(Signal::CONT);
                } else if let Some(hook) = stopping.boot.running() {
                    let _ = signal::send(hook, Signal::TERM);
                    let _ = signal::send(hook, Signal::CONT);
                }
            }
            Task::KillCommand => {
                let Some(pid) = self.cmd.pid() else { return stopping.boot.kill() };
                Message::warning(WHO, b"the command did not end in time: killed").print_now();
                let _ = signal::send(pid, Signal::KILL);
                self.signal_cmd(Signal::KILL);
            }
            Task::EndServices => {
                self.host.end_in_order(now());
                // The end of a watch can take the kernel some milliseconds, which pass while the services end.
                self.services.dir.stop_watching();
            }
            Task::EndUntold => self.host.end_all(now()),
            Task::KillServices => {
                self.host.end_all(now());
                self.host.kill_services();
            }
            Task::KillLogs => {
                self.host.kill_logs();
                if let Some(loggers) = &self.loggers {
                    loggers.kill();
                }
            }
            Task::EndWriters => {
                let logs: Vec<Pid> =
                    self.host.services().filter_map(|(_, service)| service.unit(Role::Log)?.pid()).collect();
                others::end(&logs, stopping.search_until());
            }
            Task::EndOthers => others::end(&[], stopping.search_until()),
            Task::KillOthers => others::kill(stopping.search_until()),
            Task::RunHooks => stopping.start_halt_hook(),
            Task::KillHooks => stopping.halt.kill(),
            Task::Exit => {}
        }
    }
}
