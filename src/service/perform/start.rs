//! Starting the programs of a service: `./run`, `./finish` and the hooks in `control/`.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use rustix::process::Pid;

use super::confinement::Start;
use super::notifications::Notifications;
use super::{RunningHook, Service};
use crate::control::Hook;
use crate::error::Failed;
use crate::role::Role;
use crate::say::Message;
use crate::service::step::{Event, Now, Script};
use crate::sys::spawn::{NotStarted, Program, Step, Stream, spawn};
use crate::{files, hint, trust};

impl Service {
    /// Does what comes before the start of a script. Returns how `./run` is confined, or what came of the start if there
    /// is none.
    fn prepare(&mut self, now: Now, role: Role, script: Script) -> Result<Start, Event> {
        match script {
            // The directory is gone, which was reported.
            Script::Run if self.surroundings.is_gone() => Err(Event::NotStarted { finish: false }),
            Script::Run => match role {
                Role::Main if self.has_no_run() => {
                    // As many services without it may come and go, nothing is forked to find that out.
                    let missing = io::Error::from(Errno::NOENT);
                    let message = Message::fatal(&self.label.who, "unable to start ./run").because(&missing);
                    if self.recent.is_new(now.at, &message.text()) {
                        message.print_now();
                    }
                    Err(Event::NotStarted { finish: self.has_finish() })
                }
                Role::Main => {
                    self.read_restart();
                    self.open_readiness(now).map_err(|_| Event::NoProcess)?;
                    Ok(self.confine(now))
                }
                // It runs in what is called `log` now.
                Role::Log => {
                    self.look_at_log(now);
                    Ok(Start::default())
                }
            },
            // What finish may look up about itself is to be true when it does.
            Script::Finish(_) => {
                self.publish(now);
                Ok(Start::default())
            }
        }
    }

    /// Starts a script of one of the two. Returns what came of it.
    pub(super) fn start(&mut self, now: Now, role: Role, script: Script) -> Event {
        let confined = match self.prepare(now, role, script) {
            Ok(confined) => confined,
            Err(event) => return event,
        };
        let Some(unit) = self.unit(role) else { return Event::NotStarted { finish: false } };
        let (code, status);
        let file = match script {
            Script::Run => c"./run",
            Script::Finish(_) => c"./finish",
        };
        let found = statat(&unit.dir, file, AtFlags::empty());
        if role == Role::Log {
            if matches!(found, Err(Errno::NOENT))
                && let Some(event) = self.start_hosted_log(now)
            {
                return event;
            }
            self.log_becomes_script();
        }
        let Some(unit) = self.unit(role) else { return Event::NotStarted { finish: false } };
        let mut argv: Vec<&CStr> = vec![file];
        let mut environment: Vec<&CStr> = Vec::new();
        if let Some(instance) = self.instance() {
            argv.push(&instance.argument);
            environment.push(&instance.variable);
        }
        if let Script::Finish(how) = script {
            (code, status) = how.finish_arguments();
            argv.extend([code.as_c_str(), &status]);
        }
        let told_by = self.notifications.as_deref().filter(|_| (role, script) == (Role::Main, Script::Run));
        environment.extend(told_by.into_iter().flat_map(Notifications::environment).map(CString::as_c_str));
        let descriptor = told_by.and_then(Notifications::descriptor);
        let mut program = Program {
            files: &[file],
            argv: &argv,
            environment: &environment,
            pid_variable: told_by.filter(|it| it.has_watchdog()).map(|_| "WATCHDOG_PID"),
            others: descriptor.as_slice(),
            directory: Some(unit.dir.as_fd()),
            new_session: self.of_init,
            bounded: found.is_ok_and(|stat| trust::is_of_others(&stat)),
            new_group: confined.is_group,
            control_group: confined.entrance.as_ref().map(AsFd::as_fd),
            ..Program::default()
        };
        match role {
            Role::Main => self.set_streams_of_main(&mut program),
            Role::Log => self.set_streams_of_log(&mut program),
        }
        let mut started = spawn(&program);
        if let Err(NotStarted { step: Step::ControlGroup, cause }) = started {
            self.report_no_cgroup(&Failed::because(cause, "unable to enter it"));
            (program.new_group, program.control_group) = (true, None);
            started = spawn(&program);
        }
        let is_group = program.new_group;
        match started {
            Ok(pid) => {
                if let Some(notifications) =
                    self.notifications.as_mut().filter(|_| (role, script) == (Role::Main, Script::Run))
                {
                    notifications.started(pid);
                }
                if is_group && let Some(unit) = self.unit_mut(role) {
                    unit.note_group(pid);
                }
                Event::Started(pid)
            }
            Err(why) => self.not_started(now, role, script, file, &why),
        }
    }

    /// A script could not be started: reports why. Returns what came of the start.
    fn not_started(&mut self, now: Now, role: Role, script: Script, file: &CStr, why: &NotStarted) -> Event {
        let Some(unit) = self.unit(role) else { return Event::NotStarted { finish: false } };
        let name = unit.script_name(script);
        let what = match (why.step, role) {
            (Step::Descriptors, Role::Main) => format!("unable to setup filedescriptor for {name}"),
            (Step::Descriptors, Role::Log) => "unable to setup filedescriptor for ./log/run".to_owned(),
            (Step::Directory, _) => "unable to change directory to ./log".to_owned(),
            (Step::Fork | Step::ControlGroup | Step::Exec, _) => format!("unable to start {name}"),
        };
        if (role, script) == (Role::Main, Script::Run) {
            self.retire_notifications();
        }
        self.report_not_started(now, role, file, why, "unable to fork, sleeping", &what);
        if why.lacks_process() {
            return Event::NoProcess;
        }
        let finish = role == Role::Main && script == Script::Run && self.has_finish();
        Event::NotStarted { finish }
    }

    /// Runs `control/C` of the service, if there is one that can be run. Returns that it ended, if there is none.
    pub(super) fn start_hook(&mut self, now: Now, hook: Hook, target: Option<Pid>) -> Option<Event> {
        let done = Some(Event::HookEnded { hook, pid: target, instead: false });
        let starts_nothing = hook == Hook::Up && self.main.machine.is_held();
        if self.surroundings.is_gone() || starts_nothing {
            return done;
        }
        let letter = char::from(hook.byte());
        let Ok(name) = CString::new(format!("control/{letter}")) else { return done };
        let bounded = match files::look(self.main.dir.as_fd(), &name) {
            Ok(Some(stat)) if files::is_executable(&stat) => trust::is_of_others(&stat),
            Ok(_) => return done,
            // There is no directory `control` at all.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTDIR) => return done,
            Err(error) => {
                self.label.warn(format!("unable to stat control/{letter}").as_bytes(), Some(&error));
                return done;
            }
        };
        // runsv(8): a hook may look at the status, and then sees the one from before the start.
        self.publish(now);
        let pid = target.map(|pid| pid.as_raw_nonzero().to_string()).unwrap_or_default();
        let Ok(pid) = CString::new(pid) else { return done };
        let instance = self.instance();
        let argv: &[&CStr] = match instance {
            Some(instance) => &[&name, &instance.argument, &pid],
            None => &[&name, &pid],
        };
        let environment = instance.map(|instance| instance.variable.as_c_str());
        let mut program = Program {
            files: &[&name],
            argv,
            environment: environment.as_slice(),
            directory: Some(self.main.dir.as_fd()),
            new_session: self.of_init,
            bounded,
            ..Program::default()
        };
        self.set_streams_of_main(&mut program);
        match spawn(&program) {
            Ok(pid) => {
                self.hooks.push(RunningHook { pid, hook, target });
                None
            }
            Err(why) => {
                let no_process = format!("unable to fork for control/{letter}");
                self.report_not_started(now, Role::Main, &name, &why, &no_process, "unable to run control/?");
                done
            }
        }
    }

    /// Reports that a program of one of the two could not be started, unless the same was reported a short time ago; see
    /// [`Message::not_started`].
    fn report_not_started(
        &mut self,
        now: Now,
        role: Role,
        file: &CStr,
        why: &NotStarted,
        no_process: &str,
        not_run: &str,
    ) {
        let message = Message::not_started(&self.label.who, why, no_process, not_run);
        if self.recent.is_new(now.at, &message.text()) {
            let hint = self.hint_of(role, file, why);
            message.print_now_with(hint.as_deref());
        }
    }

    /// Why a program of one of the two was not executed.
    fn hint_of(&self, role: Role, file: &CStr, why: &NotStarted) -> Option<String> {
        let unit = self.unit(role).filter(|_| why.step == Step::Exec)?;
        hint::of_file(unit.dir.as_fd(), file, &self.path_of(role, file), &why.cause)
    }

    /// The path of a file of one of the two, from where the supervisor is.
    pub(super) fn path_of(&self, role: Role, file: &CStr) -> Vec<u8> {
        let file = file.to_bytes();
        let file = file.strip_prefix(b"./").unwrap_or(file);
        let log: &[u8] = if role == Role::Log { b"log/" } else { b"" };
        [self.label.path().to_bytes(), b"/", log, file].concat()
    }

    /// Where `./run`, `./finish` and the programs of `control/` write.
    pub(super) fn set_streams_of_main<'s>(&'s self, program: &mut Program<'s>) {
        if let Some(outputs) = &self.outputs {
            program.stdout = Stream::Is(outputs.out.as_fd());
            program.stderr = Stream::Is(outputs.err.as_fd());
        }
        if let Some(write) = self.log.as_ref().and_then(|log| log.pipe.write.as_ref()) {
            program.stdout = Stream::Is(write.as_fd());
        }
    }

    /// Where the log service reads and writes.
    fn set_streams_of_log<'s>(&'s self, program: &mut Program<'s>) {
        if let Some((out, err)) = self.outputs.as_ref().and_then(|outputs| outputs.log.as_ref()) {
            program.stdout = Stream::Is(out.as_fd());
            program.stderr = Stream::Is(err.as_fd());
        }
        if let Some(log) = &self.log {
            program.stdin = Stream::Is(log.pipe.read.as_fd());
        }
    }

    /// Whether it is certain that there is no `./run`, after it could not be executed.
    fn has_no_run(&self) -> bool {
        self.main.machine.lacks_run()
            && matches!(statat(&self.main.dir, c"run", AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    /// Whether there is a `./finish` that is to be run.
    pub(super) fn has_finish(&self) -> bool {
        !self.end.killed && files::open_read(self.main.dir.as_fd(), c"finish").is_ok()
    }
}
