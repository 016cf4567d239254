//! A service with its directories, descriptors and processes: does what [`pair`](super::pair) asks, and decides
//! nothing about its life.

mod ending;
mod hooks;
mod opening;
mod surroundings;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, statat};
use rustix::io::Errno;
use rustix::process::Pid;

pub use opening::{Late, Outputs};
use opening::{Log, PATIENCE, find_log, home, open_service, patience_of, wanted_at_start};

use super::machine::Machine;
use super::pair::{Leave, Pair, Which};
use super::words::{Action, Actions, Ended, Event, Now, Script};
use crate::control::{Command, Hook};
use crate::error::{Context, Failed, Result};
use crate::files::Identity;
use crate::moment::{Moment, earlier};
use crate::say::{Class, Message};
use crate::supervise::{self, Supervise};
use crate::sys::signal;
use crate::sys::spawn::{Program, Step, Stream, spawn};
use crate::sys::watch;
use crate::{Signal, exec, files, oom, slice, tai, trust};

/// How long a missing `supervise` is left alone: it may be on its way out with the whole directory.
const REPAIR_AFTER: Duration = Duration::from_secs(1);
/// How long a new directory in the place of a removed one is left alone: whoever serves the directory of service
/// directories tells us to end as soon as it sees that, and starts another of us there.
const FOLLOW_AFTER: Duration = Duration::from_millis(500);
/// What failed is tried again after this time, and then after twice as long each time, up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// See [`RETRY_FIRST`].
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A directory that is being filled counts as complete when nothing in it changed for so long.
const SETTLED: Duration = Duration::from_millis(20);
/// It counts as complete after this time in any case.
const SETTLED_LAST: Duration = Duration::from_millis(100);
/// How many bytes of commands are read at a time. What is left is read in the next turn, after the other services.
const COMMANDS_MAX: usize = 64;

/// A program of `control/` that runs.
#[derive(Debug)]
struct Running {
    pid: Pid,
    hook: Hook,
    target: Option<Pid>,
}

/// A supervised service, perhaps with a log service.
#[derive(Debug)]
pub struct Service {
    /// What messages begin with: the program and the service as typed.
    who: Vec<u8>,
    name: CString,
    dir: OwnedFd,
    pair: Pair,
    supervise: Supervise,
    log: Option<Box<Log>>,
    hooks: Vec<Running>,
    /// The status of (service, log service) may have changed.
    unpublished: (bool, bool),
    /// Commands were done that clients are still to be told of, once the status is published.
    unacknowledged: (bool, bool),
    /// `log/` is there but not `log/run`; held open because it is watched.
    log_to_come: Option<OwnedFd>,
    /// The directory was removed.
    gone: bool,
    /// Changes of the directory are told to us; where they are not, it is looked at whenever something else happens.
    watched: bool,
    /// `./run` appeared; when the directory counts as complete at the earliest and at the latest.
    settling: Option<(Moment, Moment)>,
    /// Removals in `supervise` are signalled to us.
    watches_supervise: bool,
    /// Held open because they are watched: in them the directory goes, or the new one appears.
    around: Vec<OwnedFd>,
    /// The directory was made anew: after this service has ended, the new one is to be taken up.
    replaced: bool,
    /// When a directory in the place of the removed one is to be followed.
    follow_at: Option<Moment>,
    /// When to look whether something has to be put in order: `supervise` made again, the status published.
    repair_at: Option<Moment>,
    /// How long after a failure the next attempt is made.
    retry_pause: Duration,
    /// A failure was said and has not been overcome since.
    failure_said: bool,
    /// The FIFO of (service, log service) is another one than the host knows.
    new_controls: (bool, bool),
    /// How it ended by itself, if it has a file `essential`.
    essential_end: Option<Ended>,
    /// It had to be killed, and there is no time left for `./finish`.
    killed: bool,
    /// Standard output and error of the service and of its log service, where they are not ours.
    outputs: Option<Box<Outputs>>,
    /// Our supervisor is an init; see [`Service::set_of_init`].
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
    #[inline(never)] // its stack is not to lie under that of everything later
    pub fn open(program: &str, shown: &OsStr, name: &OsStr, now: Now) -> Result<Box<Self>, Failed> {
        let who = [program.as_bytes(), b" ", shown.as_bytes()].concat();
        let failed = || "unable to change to directory";
        let name = CString::new(name.as_bytes()).map_err(|_| Failed::without_cause(failed()))?;
        let dir = open_service(CWD, &name).while_doing(failed)?;
        let supervise = Supervise::open(supervise::MAIN, &home(dir.as_fd(), &name, false, &who))?;
        // From here on nothing that is made in the directory is missed; `supervise` would have been told, too.
        let watched = watch::signal_changes(dir.as_fd()).is_ok();
        let log_dir = find_log(dir.as_fd(), &who)?;
        let log = log_dir.map(|dir| Log::open(dir, &name, &who)).transpose()?;
        let log_machine = log.as_ref().map(|log| log.machine(now));
        let want = wanted_at_start(dir.as_fd(), c"down");
        Ok(Box::new(Service {
            who,
            name,
            dir,
            pair: Pair::new(Machine::new(now, want), log_machine),
            supervise,
            log,
            hooks: Vec::new(),
            unpublished: (true, true),
            unacknowledged: (false, false),
            log_to_come: None,
            gone: false,
            watched,
            watches_supervise: false,
            settling: None,
            around: Vec::new(),
            replaced: false,
            follow_at: None,
            repair_at: (!watched && watch::MAY_WORK).then(|| now.at.saturating_add(RETRY_FIRST)),
            retry_pause: RETRY_FIRST,
            failure_said: false,
            new_controls: (true, true),
            essential_end: None,
            killed: false,
            outputs: None,
            of_init: false,
        }))
    }

    /// Starts what is to run, and only then lets clients know: the first status they see is a true one.
    pub fn begin(&mut self, now: Now) {
        self.tick(now);
        self.publish(now);
        let announced = self.supervise.announce();
        let announced = announced.and(self.log.as_mut().map_or(Ok(()), |log| log.supervise.announce()));
        if let Err(error) = announced {
            // The FIFO was there a moment ago.
            self.failed(now, &error);
        }
    }

    /// Which directory it serves; `None` if that cannot be told.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        rustix::fs::fstat(&self.dir).map(|stat| files::identity(&stat)).ok()
    }

    /// Lets what it and its log service write go elsewhere than to our own standard output and error.
    pub fn set_outputs(&mut self, outputs: Outputs) {
        self.outputs = Some(Box::new(outputs));
    }

    /// It belongs to an init: its programs have sessions of their own, so that what they send to their group reaches
    /// no other; and once an essential one has ended, it is not started again, since everything ends.
    pub const fn set_of_init(&mut self) {
        self.of_init = true;
    }

    /// What messages about this service begin with.
    #[must_use]
    pub fn who(&self) -> &[u8] {
        &self.who
    }

    /// The name as it was given.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }

    /// Whether it ends only because its directory was made anew.
    #[must_use]
    pub const fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// The FIFO of one of the two.
    #[must_use]
    pub fn control(&self, which: Which) -> Option<BorrowedFd<'_>> {
        match which {
            Which::Main => Some(self.supervise.control()),
            Which::Log => self.log.as_ref().map(|log| log.supervise.control()),
        }
    }

    /// When something is due without an event, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let settled = self.settling.map(|(earliest, latest)| earliest.min(latest));
        earlier(earlier(self.pair.deadline(), self.repair_at), settled)
    }

    /// Which FIFOs are others than they were when this was last asked.
    pub fn take_new_controls(&mut self) -> impl Iterator<Item = Which> + use<> {
        let (main, log) = std::mem::take(&mut self.new_controls);
        [(main, Which::Main), (log, Which::Log)]
            .into_iter()
            .filter_map(|(is_new, which)| is_new.then_some(which))
    }

    /// Tells both that time has passed; the log service first.
    pub fn tick(&mut self, now: Now) {
        if self.repair_at.is_some_and(|at| now.at >= at) {
            self.repair_at = None;
            self.repair(now);
        }
        self.take_up_if_settled(now);
        self.tell(now, Which::Log, Event::Tick);
        self.tell(now, Which::Main, Event::Tick);
    }

    /// Takes a command as if it had been read from the FIFO.
    pub fn command(&mut self, now: Now, command: Command) {
        if command == Command::Exit {
            // Somebody wants it gone, not followed.
            self.replaced = false;
        }
        self.tell(now, Which::Main, Event::Command(command));
    }

    /// Reads and does commands of one of the two, and says so when they are done.
    ///
    /// No more than [`COMMANDS_MAX`] bytes, so that whoever writes without end holds up no other service.
    pub fn read_commands(&mut self, now: Now, which: Which) {
        let mut buffer = [0; COMMANDS_MAX + 1];
        let Some(supervise) = self.supervise_of(which) else { return };
        supervise.begin_to_take();
        let (most, last) = buffer.split_at_mut(COMMANDS_MAX);
        let mut length = supervise.take(most).len();
        // Whether `t` is a restart is told by the byte after it.
        if most.last() == Some(&b't') && length == COMMANDS_MAX {
            length = length.saturating_add(supervise.take(last).len());
        }
        // One that is over only has to be let go; it hears nothing any more.
        let length = if which == Which::Main && self.main_is_over() { 0 } else { length };
        for command in Command::all(slice::part(&buffer, ..length)) {
            self.tell(now, which, Event::Command(command));
        }
        if !self.watched {
            self.look_again(now);
        }
        match which {
            Which::Main => self.unacknowledged.0 = true,
            Which::Log => self.unacknowledged.1 = true,
        }
        self.publish(now);
    }

    /// Tells clients that their commands are done. As long as the status is an old one they are not to believe it.
    fn acknowledge(&mut self) {
        let (main, log) = self.unacknowledged;
        if main && !self.unpublished.0 {
            self.unacknowledged.0 = false;
            self.supervise.acknowledge();
        }
        if log && !self.unpublished.1 {
            self.unacknowledged.1 = false;
            if let Some(log) = &self.log {
                log.supervise.acknowledge();
            }
        }
    }

    /// The `supervise` directory of one of the two.
    fn supervise_of(&mut self, which: Which) -> Option<&mut Supervise> {
        match which {
            Which::Main => Some(&mut self.supervise),
            Which::Log => self.log.as_mut().map(|log| &mut log.supervise),
        }
    }

    /// Takes the end of a process; says whether it was one of ours.
    pub fn child_ended(&mut self, now: Now, pid: Pid, how: Ended) -> bool {
        if let Some(which) = self.pair.whose(pid) {
            if !self.watched {
                self.look_again(now);
            }
            let finish = which == Which::Main && self.has_finish();
            self.tell(now, which, Event::Ended { pid, how, finish });
            return true;
        }
        let Some(index) = self.hooks.iter().position(|running| running.pid == pid) else { return false };
        let Running { hook, target, .. } = self.hooks.swap_remove(index);
        let instead = how == Ended::Code(0);
        self.tell(now, Which::Main, Event::HookEnded { hook, pid: target, instead });
        true
    }

    /// Publishes what changed since the last time. What cannot be published is tried again.
    pub fn publish(&mut self, now: Now) {
        let (main, log) = std::mem::take(&mut self.unpublished);
        if self.gone {
            // What is gone with its directory needs no files any more.
            self.acknowledge();
            return;
        }
        let mut trouble = None;
        if main && let Err(failed) = self.supervise.publish(&self.pair.main().status()) {
            self.unpublished.0 = true;
            trouble = Some(failed);
        }
        if log
            && let (Some(log), Some(machine)) = (&mut self.log, self.pair.get(Which::Log))
            && let Err(failed) = log.supervise.publish(&machine.status())
        {
            self.unpublished.1 = true;
            trouble = Some(failed);
        }
        match trouble {
            Some(failed) => {
                if !std::mem::replace(&mut self.failure_said, true) {
                    Message::of(Class::Warning, &self.who, &failed).print_now();
                }
                self.try_again(now);
            }
            None if main || log => {
                self.failure_said = false;
                self.retry_pause = RETRY_FIRST;
            }
            None => {}
        }
        self.acknowledge();
    }

    /// Something failed that is to be tried again.
    fn try_again(&mut self, now: Now) {
        if self.repair_at.is_none() {
            self.repair_at = Some(now.at.saturating_add(self.retry_pause));
            self.retry_pause = self.retry_pause.saturating_mul(2).min(RETRY_LAST);
        }
    }

    /// Whether it is over. Closes the log service's input when the time has come for that.
    pub fn leave(&mut self, now: Now) -> bool {
        loop {
            let log_dir = self.log.as_ref().map(|log| log.dir.as_fd());
            let patience = || log_dir.map_or(PATIENCE, patience_of);
            let unread = self.log.as_ref().map_or(0, |log| log.unread());
            match self.pair.leave(now, !self.hooks.is_empty(), unread > 0, patience) {
                Leave::Stay => return false,
                Leave::Quit => return true,
                Leave::StartLog => {
                    let actions = self.pair.start_log(now);
                    self.perform_all(now, Which::Log, actions);
                }
                Leave::CloseLog => {
                    if let Some(log) = &mut self.log {
                        log.write = None;
                    }
                    let actions = self.pair.log_leaves();
                    self.perform_all(now, Which::Log, actions);
                }
                Leave::GiveUp { log, unread: is_unread } => {
                    if let Some(pid) = log {
                        self.warn(
                            b"the log service does not end, something else still writes to it: leaving",
                            None,
                        );
                        // What stays would be in the way of the next log service. It may have just ended.
                        let _ = signal::send(pid, Signal::TERM);
                        // One that is stopped would keep TERM, and the lock, for ever.
                        let _ = signal::send(pid, Signal::CONT);
                    }
                    if is_unread {
                        let what =
                            format!("the log service cannot be started: {unread} bytes for it are lost");
                        self.warn(what.as_bytes(), None);
                    }
                    for running in &self.hooks {
                        let name =
                            [b"control/".as_slice(), &[running.hook.byte()], b" does not end: killing it"];
                        Message::warning(&self.who, &name.concat()).print_now();
                        let _ = signal::send(running.pid, Signal::KILL);
                    }
                    return true;
                }
            }
        }
    }

    /// It is over: removes what is of use to nobody now.
    pub fn tidy(&mut self) {
        self.supervise.tidy();
        if let Some(log) = &mut self.log {
            log.supervise.tidy();
        }
    }

    fn tell(&mut self, now: Now, which: Which, event: Event) {
        let actions = self.pair.step(now, which, event);
        self.perform_all(now, which, actions);
    }

    /// Does all of `actions`, and after each what follows from it.
    ///
    /// Not by recursion: an idle supervisor keeps every page of stack that it ever touched.
    fn perform_all(&mut self, now: Now, which: Which, actions: Actions) {
        let mut todo: Vec<Action> = actions.into_iter().collect();
        todo.reverse();
        while let Some(action) = todo.pop() {
            if let Some(event) = self.perform(now, which, action) {
                let follow = todo.len();
                todo.extend(self.pair.step(now, which, event));
                if let Some(following) = todo.get_mut(follow..) {
                    following.reverse();
                }
            }
        }
    }

    /// Does one thing, and says what came of it.
    fn perform(&mut self, now: Now, which: Which, action: Action) -> Option<Event> {
        match action {
            Action::Publish => {
                match which {
                    Which::Main => self.unpublished.0 = true,
                    Which::Log => self.unpublished.1 = true,
                }
                None
            }
            Action::Signal(pid, signal) => {
                // It may have ended a moment ago; then its end is what counts.
                let _ = signal::send(pid, signal);
                None
            }
            Action::End(pid) => {
                self.end(which, pid);
                None
            }
            Action::Patience(script) => Some(Event::Patience(self.patience(which, script))),
            Action::Late(pid, script) => {
                self.kill_late(which, pid, script);
                None
            }
            Action::OnItsOwn(how) => {
                if which == Which::Main {
                    self.note_own_end(how);
                }
                None
            }
            Action::Flaps(left) => {
                if let Some(supervise) = self.supervise_of(which) {
                    supervise.flaps(&tai::later(&now.stamp, left));
                }
                None
            }
            Action::Say { how, uptime, more } => {
                let script = if which == Which::Main { "./run" } else { "log/./run" };
                self.warn(how.unasked(script, uptime, more).as_bytes(), None);
                if self.of_init && matches!(how, Ended::Signal { number: 9, .. }) && oom::killed(now.at) {
                    self.warn(b"out of memory: the kernel has killed it", None);
                }
                None
            }
            Action::Start(script) => Some(self.start(now, which, script)),
            Action::Hook(hook, target) => self.start_hook(now, which, hook, target),
        }
    }

    fn start(&mut self, now: Now, which: Which, script: Script) -> Event {
        if self.gone && script == Script::Run {
            // There is nothing to be started, and that was said.
            return Event::NotStarted { finish: false };
        }
        if which == Which::Main && script == Script::Run && self.has_no_run() {
            // As many services without it may come and go, nothing is forked to find that out.
            let missing = io::Error::from(Errno::NOENT);
            Message::fatal(&self.who, "unable to start ./run").because(&missing).print_now();
            return Event::NotStarted { finish: self.has_finish() };
        }
        if which == Which::Log && script == Script::Run {
            // It runs in what is called `log` now.
            self.look_at_log(now);
        }
        let (code, status);
        let (name, argv): (&CStr, &[&CStr]) = match script {
            Script::Run => (c"./run", &[c"./run"]),
            Script::Finish(how) => {
                // What finish may look up about itself is to be true when it does.
                self.publish(now);
                (code, status) = how.finish_arguments();
                (c"./finish", &[c"./finish", &code, &status])
            }
        };
        let of =
            if which == Which::Log { self.log.as_ref().map_or(&self.dir, |log| &log.dir) } else { &self.dir };
        let bounded = is_of_others(of.as_fd(), name);
        let mut program =
            Program { files: &[name], argv, new_session: self.of_init, bounded, ..Program::default() };
        match (which, &self.log) {
            (Which::Main, _) => {
                program.directory = Some(self.dir.as_fd());
                self.set_streams_of_main(&mut program);
            }
            (Which::Log, Some(log)) => {
                program.directory = Some(log.dir.as_fd());
                if let Some((out, err)) = self.outputs.as_ref().and_then(|outputs| outputs.log.as_ref()) {
                    program.stdout = Stream::Is(out.as_fd());
                    program.stderr = Stream::Is(err.as_fd());
                }
                program.stdin = Stream::Is(log.read.as_fd());
            }
            (Which::Log, None) => {}
        }
        let of_log = if which == Which::Log { "log/" } else { "" };
        let name = name.to_string_lossy();
        let why = match spawn(&program) {
            Ok(pid) => return Event::Started(pid),
            Err(why) => why,
        };
        let what = match why.step {
            Step::Descriptors => {
                let log = if which == Which::Log { "./log/run" } else { &name };
                format!("unable to setup filedescriptor for {log}")
            }
            Step::Directory => "unable to change directory to ./log".to_owned(),
            Step::Fork | Step::Exec => format!("unable to start {of_log}{name}"),
        };
        Message::not_started(&self.who, &why, "unable to fork, sleeping", &what).print_now();
        if why.lacks_process() {
            return Event::NoProcess;
        }
        if why.cause.kind() == io::ErrorKind::NotFound
            && let Some(missing) = program
                .directory
                .zip(program.files.first())
                .and_then(|(dir, file)| exec::missing_interpreter(dir, file))
        {
            let missing = String::from_utf8_lossy(missing.to_bytes());
            let what = format!("{of_log}{name}: its interpreter {} does not exist", missing.escape_debug());
            self.warn(what.as_bytes(), None);
        }
        Event::NotStarted { finish: which == Which::Main && script == Script::Run && self.has_finish() }
    }

    /// Where `./run`, `./finish` and the programs of `control/` write.
    fn set_streams_of_main<'s>(&'s self, program: &mut Program<'s>) {
        if let Some(outputs) = &self.outputs {
            program.stdout = Stream::Is(outputs.out.as_fd());
            program.stderr = Stream::Is(outputs.err.as_fd());
        }
        if let Some(write) = self.log.as_ref().and_then(|log| log.write.as_ref()) {
            program.stdout = Stream::Is(write.as_fd());
        }
    }

    /// Whether it is certain that there is no `./run`, after it could not be executed.
    fn has_no_run(&self) -> bool {
        self.pair.main().lacks_run()
            && matches!(statat(&self.dir, c"run", AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    fn has_finish(&self) -> bool {
        !self.killed && files::open_read(self.dir.as_fd(), c"finish").is_ok()
    }

    fn warn(&self, what: &[u8], cause: Option<&io::Error>) {
        Message::warning(&self.who, what).because(cause).print_now();
    }

    fn warn_of(&self, failed: &Failed) {
        Message::of(Class::Warning, &self.who, failed).print_now();
    }
}

/// Whether a file belongs to somebody who is neither root nor us.
fn is_of_others(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(dir, name, AtFlags::empty()).is_ok_and(|stat| trust::is_of_others(&stat))
}
