//! A service with its directories, descriptors and processes: does the actions that its machines return, and decides
//! nothing about its life.

mod confinement;
mod contents;
mod ending;
mod hosted_log;
mod label;
mod log;
mod needs;
mod notifications;
mod on_failure;
mod outputs;
mod policies;
mod repair;
mod start;
mod surroundings;
mod unit;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fd::AsFd;
use rustix::fs::CWD;
use rustix::process::Pid;

pub(crate) use notifications::Teller;
pub use outputs::{Late, Outputs};
pub use unit::Unit;

use confinement::Confinement;
use contents::Contents;
use ending::End;
use label::Label;
use log::{LogUnit, find_log};
use needs::Needs;
use notifications::Notifications;
use on_failure::OnFailure;
use policies::Policies;
use repair::Repair;
use surroundings::Surroundings;
use unit::{COMMANDS_MAX, open_directory, wanted_at_start};

use super::departure::Departure;
use super::machine::Machine;
use super::step::{Action, Actions, Event, Now, Script};
use crate::control::{Command, Hook};
use crate::error::{Context, Failed, Result};
use crate::files;
use crate::logger::Loggers;
use crate::moment::{Moment, earlier};
use crate::policy::PolicyFile;
use crate::process::Ended;
use crate::recent::Recent;
use crate::role::Role;
use crate::say::Message;
use crate::status::Want;
use crate::sys::watch;
use crate::template::{Instance, ServiceIdentity};
use crate::{Signal, hint, oom, tai};

/// A program of `control/` that runs.
#[derive(Debug)]
struct RunningHook {
    pid: Pid,
    hook: Hook,
    /// The process of `./run` for which it was started.
    target: Option<Pid>,
}

/// A supervised service, perhaps with a log service.
#[derive(Debug)]
pub struct Service {
    label: Label,
    main: Unit,
    log: Option<Box<LogUnit>>,
    departure: Departure,
    hooks: Vec<RunningHook>,
    surroundings: Surroundings,
    policies: Policies,
    /// What `./run` can tell something by, where it has files for that.
    notifications: Option<Box<Notifications>>,
    confinement: Confinement,
    needs: Needs,
    on_failure: OnFailure,
    repair: Repair,
    end: End,
    /// The messages about programs that could not be started.
    recent: Recent,
    /// Standard output and error of the programs, where they are not those of the supervisor.
    outputs: Option<Box<Outputs>>,
    /// What keeps the log if there is no `log/run`; without them it is an svlogd of its own.
    loggers: Option<Rc<Loggers>>,
    /// The supervisor is an init; see [`Service::set_of_init`].
    of_init: bool,
}

impl Service {
    /// Opens the service directory `name`, relative to where we are, and takes it into supervision. Messages about it
    /// begin with `program` and `shown`.
    ///
    /// Nothing is started before the first [`Service::tick`].
    ///
    /// # Errors
    ///
    /// What failed, in the words of runsv(8).
    #[inline(never)] // keeps this large frame out of the stack of the caller's loop
    pub fn open(program: &str, shown: &OsStr, name: &OsStr, now: Now) -> Result<Box<Self>, Failed> {
        let who = [program.as_bytes(), b" ", shown.as_bytes()].concat();
        let failed = || "unable to change to directory";
        let path = CString::new(name.as_bytes()).map_err(|_| Failed::without_cause(failed()))?;
        let dir = open_directory(CWD, &path).while_doing(failed)?;
        let instance = Instance::of(Path::new(name)).map(Box::new);
        let label = Label { who, path, instance };
        // Listed after the watch is set.
        let mut contents = None;
        let mut main = Unit::open(Role::Main, dir, &label, now, |dir| {
            contents.insert(Contents::list(dir, false)).has_down && wanted_at_start(dir) == Want::Down
        })?;
        let contents = contents.unwrap_or(Contents::UNKNOWN);
        main.machine.set_needs(contents.policies.has(PolicyFile::Needs));
        let log_dir = if contents.has_log { find_log(main.dir.as_fd(), &label)? } else { None };
        let log = log_dir.map(|dir| LogUnit::open(dir, &label, now)).transpose()?;
        let mut repair = Repair::new();
        if !main.watched && watch::MAY_WORK {
            repair.at_latest(now.at.saturating_add(repair::FIRST));
        }
        Ok(Box::new(Service {
            label,
            main,
            log,
            departure: Departure::NotBegun,
            hooks: Vec::new(),
            surroundings: Surroundings::default(),
            policies: Policies::new(contents.policies),
            notifications: None,
            confinement: Confinement::default(),
            needs: Needs::default(),
            on_failure: OnFailure::default(),
            repair,
            end: End::default(),
            recent: Recent::default(),
            outputs: None,
            loggers: None,
            of_init: false,
        }))
    }

    /// Records that nothing runs yet, lets clients know, and only then starts what is to run: `./run` may call `sv` for its
    /// own service at once.
    pub fn begin(&mut self, now: Now) {
        for unit in self.units_mut() {
            // A failure is reported below, where everything is published.
            let _ = unit.supervise.publish_record(&unit.machine.status());
        }
        let announced = self.main.supervise.announce();
        let announced = announced.and(self.log.as_mut().map_or(Ok(()), |log| log.unit.supervise.announce()));
        if let Err(error) = announced {
            // The FIFO was there a moment ago.
            self.failed(now, &error);
        }
        self.take_over_cgroup();
        self.tick(now);
        // A service that asks for what it needs is published by its host, once that has answered.
        if !self.waits_for_needs() {
            self.publish(now);
        }
    }

    /// Which service it is; `None` if that cannot be found out.
    #[must_use]
    pub fn identity(&self) -> Option<ServiceIdentity> {
        let directory = files::identity(&rustix::fs::fstat(&self.main.dir).ok()?);
        Some(ServiceIdentity::new(directory, self.instance()))
    }

    /// Which instance of a template it is, if it is one.
    #[must_use]
    pub(crate) fn instance(&self) -> Option<&Instance> {
        self.label.instance.as_deref()
    }

    /// Lets its programs write elsewhere than to the standard output and error of the supervisor.
    pub fn set_outputs(&mut self, outputs: Outputs) {
        self.outputs = Some(Box::new(outputs));
    }

    /// It belongs to an init: its programs have sessions of their own, so that what they send to their group reaches
    /// no other; and once an essential one has ended, it is not started again, since everything ends.
    pub const fn set_of_init(&mut self) {
        self.of_init = true;
    }

    /// The name as it was given.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.label.name()
    }

    /// The path of its directory, as it was given.
    #[must_use]
    pub(crate) fn path(&self) -> &[u8] {
        self.label.path().to_bytes()
    }

    /// Whether it ends only because its directory was made anew.
    #[must_use]
    pub const fn is_replaced(&self) -> bool {
        self.surroundings.is_replaced()
    }

    /// Whether it has a log service.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// One of the two, if it exists.
    #[must_use]
    pub fn unit(&self, role: Role) -> Option<&Unit> {
        match role {
            Role::Main => Some(&self.main),
            Role::Log => self.log.as_ref().map(|log| &log.unit),
        }
    }

    fn unit_mut(&mut self, role: Role) -> Option<&mut Unit> {
        match role {
            Role::Main => Some(&mut self.main),
            Role::Log => self.log.as_mut().map(|log| &mut log.unit),
        }
    }

    /// The service, and its log service if there is one.
    pub(crate) fn units(&self) -> impl Iterator<Item = &Unit> {
        [&self.main].into_iter().chain(self.log.iter().map(|log| &log.unit))
    }

    /// The same, to be changed.
    pub(crate) fn units_mut(&mut self) -> impl Iterator<Item = &mut Unit> {
        [&mut self.main].into_iter().chain(self.log.iter_mut().map(|log| &mut log.unit))
    }

    /// The processes of both, of hooks, and the one that removes a message.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Pid> {
        // A logger has logs of other services, too.
        let log = self.log.iter().filter(|log| log.hosting.at_logger().is_none()).map(|log| &log.unit);
        [&self.main]
            .into_iter()
            .chain(log)
            .filter_map(Unit::pid)
            .chain(self.hooks.iter().map(|hook| hook.pid))
            .chain(self.notifications.as_ref().and_then(|notifications| notifications.remover()))
    }

    /// The process of `./run`, if it leads a process group that is to end with it.
    pub(crate) const fn group(&self) -> Option<Pid> {
        self.main.group()
    }

    /// That process has ended, and is not reaped yet: kills what is left of its group.
    pub(crate) fn end_group(&mut self, leader: Pid) {
        self.main.end_group(leader);
    }

    /// When [`Service::tick`] is due, if ever.
    #[must_use]
    pub(crate) fn next_tick(&self) -> Option<Moment> {
        let of_units = self.units().map(|unit| unit.machine.next_tick()).fold(None, earlier);
        let of_service = earlier(self.departure.deadline(), self.surroundings.settled_at());
        let of_service = earlier(of_service, self.on_failure.next_tick());
        let of_notifications =
            self.notifications.as_ref().and_then(|notifications| notifications.next_tick());
        earlier(earlier(earlier(of_units, of_service), self.repair.at()), of_notifications)
    }

    /// Does what is due at this moment; first for the log service.
    pub(crate) fn tick(&mut self, now: Now) {
        if self.repair.begin_if_due(now.at) {
            self.put_in_order(now);
        }
        self.take_up_if_settled(now);
        if let Some(notifications) = &mut self.notifications {
            notifications.tick(now.at);
            // After a pause, and after a time in which the supervisor did not run: what came in it counts before the
            // service is judged.
            self.read_notices(now, Teller::Socket);
            self.note_unheard(now);
        }
        self.handle(now, Role::Log, Event::Tick);
        self.handle(now, Role::Main, Event::Tick);
    }

    /// Does a command as if it had been read from the FIFO.
    pub(crate) fn command(&mut self, now: Now, command: Command) {
        if command == Command::Exit {
            // Somebody wants it gone, so no other service follows in its directory.
            self.surroundings.do_not_follow();
        }
        self.handle(now, Role::Main, Event::Command(command));
    }

    /// Reads commands of one of the two and does them.
    pub(crate) fn read_commands(&mut self, now: Now, role: Role) {
        let mut buffer = [0; COMMANDS_MAX + 1];
        let is_over = role == Role::Main && self.main_is_over();
        let Some(unit) = self.unit_mut(role) else { return };
        let commands = unit.read_commands(&mut buffer);
        // Commands for a service that has ended for good are dropped.
        for command in Command::all(if is_over { &[] } else { commands }) {
            self.handle(now, role, Event::Command(command));
        }
        if !self.main.watched {
            self.look_again(now);
        }
        if let Some(unit) = self.unit_mut(role) {
            unit.acknowledge_later();
        }
        self.publish(now);
    }

    /// Handles the end of a process of this service.
    pub(crate) fn child_ended(&mut self, now: Now, pid: Pid, how: Ended) {
        let role = self.units().find(|unit| unit.pid() == Some(pid)).map(Unit::role);
        if let Some(role) = role {
            if !self.main.watched {
                self.look_again(now);
            }
            let finish = role == Role::Main && self.has_finish();
            let is_run = role == Role::Main && self.main.machine.is_running();
            if is_run {
                self.read_restart();
                // What it told before its end.
                for teller in [Teller::Pipe, Teller::Socket] {
                    self.read_notices(now, teller);
                }
                self.retire_notifications();
                self.end_confinement(now, how);
            }
            self.handle(now, role, Event::Ended { pid, how, finish });
            return;
        }
        if self.notifications.as_mut().is_some_and(|notifications| notifications.remover_ended(pid)) {
            return;
        }
        let Some(index) = self.hooks.iter().position(|running| running.pid == pid) else { return };
        let RunningHook { hook, target, .. } = self.hooks.swap_remove(index);
        let instead = how == Ended::Code(0);
        self.handle(now, Role::Main, Event::HookEnded { hook, pid: target, instead });
    }

    /// Publishes what changed since the last time. What cannot be published is tried again.
    pub(crate) fn publish(&mut self, now: Now) {
        let is_gone = self.surroundings.is_gone();
        let (mut published, mut trouble) = (false, None);
        if self.main.is_to_publish() {
            let facts = self.facts();
            self.main.set_facts(facts.and_then(|facts| facts.encode()));
        }
        for unit in self.units_mut() {
            if is_gone {
                // The files are gone with the directory.
                unit.publish_no_more();
            }
            match unit.publish() {
                Ok(did) => published |= did,
                Err(failed) => trouble = Some(failed),
            }
            unit.acknowledge();
        }
        if let Some(failed) = trouble {
            self.failed(now, &failed);
        } else if published {
            self.repair.succeeded();
        }
    }

    /// Passes an event to the machine of one of the two, and does what it returns.
    fn handle(&mut self, now: Now, role: Role, event: Event) {
        let actions = self.step(now, role, event);
        self.perform_all(now, role, actions);
    }

    fn step(&mut self, now: Now, role: Role, event: Event) -> Actions {
        match event {
            Event::Command(command) if !self.departure.accepts(role, command) => Actions::none(),
            event => self.unit_mut(role).map_or_else(Actions::none, |unit| unit.machine.step(now, event)),
        }
    }

    /// Does with the machine of the log service what is no event, and what it returns.
    fn step_log(&mut self, now: Now, step: impl FnOnce(&mut Machine) -> Actions) {
        if let Some(log) = &mut self.log {
            let actions = step(&mut log.unit.machine);
            self.perform_all(now, Role::Log, actions);
        }
    }

    /// Does all of `actions`, and after each what follows from it.
    ///
    /// Not by recursion: an idle supervisor keeps every page of stack that it ever touched.
    fn perform_all(&mut self, now: Now, role: Role, actions: Actions) {
        let mut todo: Vec<Action> = actions.into_iter().rev().collect();
        while let Some(action) = todo.pop() {
            if let Some(event) = self.perform(now, role, action) {
                todo.extend(self.step(now, role, event).into_iter().rev());
            }
        }
    }

    /// Does one action. Returns the event that answers it, if that is known at once.
    fn perform(&mut self, now: Now, role: Role, action: Action) -> Option<Event> {
        match action {
            Action::Publish => self.unit_mut(role)?.publish_later(),
            Action::Send(pid, signal) => self.send(role, pid, signal),
            Action::SendDownSignal(pid) => self.send_down(role, pid),
            Action::AskTimeout(script) => {
                return Some(Event::Timeout(self.unit(role)?.timeout(script, &self.label)));
            }
            Action::KillOverdue(pid, script) => {
                let name = self.program_name(role, script);
                self.unit(role)?.report_overdue(name, script, &self.label);
                self.send(role, pid, Signal::KILL);
            }
            Action::NoteUnexpectedExit(how, uptime) if role == Role::Main => {
                self.note_unexpected_exit(how);
                self.note_failure(now, how, uptime);
            }
            Action::NoteUnexpectedExit(..) => {}
            Action::MarkFlapping(time) => {
                self.unit_mut(role)?.supervise.publish_flapping(&tai::later(&now.stamp, time));
            }
            // The logger reports why it closed a log, or its supervisor that the logger ended.
            Action::ReportExit(_) if role == Role::Log && self.log_at_logger().is_some() => {}
            Action::ReportExit(report) if role == Role::Log && self.log_is_hosted() => {
                let name = self.program_name(role, Script::Run);
                self.label.warn(report.in_words(name).as_bytes(), None);
            }
            Action::ReportExit(report) => {
                let unit = self.unit(role)?;
                let what = report.in_words(unit.script_name(Script::Run));
                let hint =
                    hint::of_end(report.how, unit.dir.as_fd(), c"./run", &self.path_of(role, c"./run"));
                Message::warning(&self.label.who, &what).print_now_with(hint.as_deref());
                let is_killed = matches!(report.how, Ended::Signal { signal: Signal::KILL, .. });
                if self.of_init && is_killed && oom::killed(now.at) && !self.confinement.has_cgroup() {
                    self.label.warn(b"out of memory: the kernel has killed it", None);
                }
            }
            Action::AskNeeds => self.ask_needs(),
            Action::ReportNotReady(time) => {
                let what = format!("./run was not ready within {} ms", time.as_millis());
                self.label.warn(what.as_bytes(), None);
            }
            Action::ReportFailing => self.label.warn(b"./run told that it fails: sending ABRT", None),
            Action::ReportNotAlive(time) => {
                let what = format!("./run was silent for {} ms: sending ABRT", time.as_millis());
                self.label.warn(what.as_bytes(), None);
            }
            Action::ReportGivenUp(reason) => {
                self.label.warn(format!("given up: {}", reason.in_words()).as_bytes(), None);
                self.note_given_up(now);
            }
            Action::Start(script) => return Some(self.start(now, role, script)),
            Action::Hook(hook, target) => match role {
                Role::Main => return self.start_hook(now, hook, target),
                // A log service has none.
                Role::Log => return Some(Event::HookEnded { hook, pid: target, instead: false }),
            },
        }
        None
    }

    /// Something failed that is tried again; the user is told of the first failure.
    fn failed(&mut self, now: Now, failed: &Failed) {
        if self.repair.is_first_failure() {
            self.label.warn_of(failed);
        }
        self.repair.after_failure(now.at);
    }
}
