//! `runsvinit`: a container's init. One process hosts all services of a directory, runs a command (CMD) beside them, reaps
//! orphans, and stops everything in order. Source: runsvinit(8).
//!
//! | phase | what runs                                         | what ends the phase                               |
//! |-------|---------------------------------------------------|---------------------------------------------------|
//! | boot  | the hooks of `boot.d`, one after the other        | the last hook; the stop follows at once if one fails |
//! | serve | the services, and CMD beside them                 | a signal such as TERM; the end of CMD or of an essential service |
//! | stop  | processes that still run, then hooks of `halt.d`  | the end of this process, see [`stop`]             |

mod environment;
mod halt;
mod lines;
mod logger;
mod options;
mod others;
mod output;
mod programs;
mod services;
mod stop;
mod stopping;

use std::ffi::CStr;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::Pid;
use svcore::logger::Loggers;
use svcore::moment::{Moment, earlier};
use svcore::process::Ended;
use svcore::say::{Class, Message};
use svcore::service::Service;
use svcore::service::host::{Host, Place, Turn};
use svcore::serving::Announcement;
use svcore::sys::signals::{self, Came, Signals};
use svcore::sys::{clock, limits, signal, spawn};
use svcore::{Call, Context, Failed, Result, Signal, hint, oom, process_one, serving};

use options::Options;
use output::Output;
use programs::{Cmd, Hooks, code_of};
use services::Services;
use stopping::Stopping;

/// How each message of ours begins.
const WHO: &str = "runsvinit";
/// The directory of executables that run before the services.
const BOOT: &CStr = c"/etc/runit/boot.d";

/// Exit code if there is no directory of service directories.
const NO_DIRECTORY: u8 = 111;

/// After this time without an event, the kernel gets back the pages of the executable.
const IDLE: Duration = Duration::from_secs(1);

/// Runs the applet until everything has ended.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let options = options::parse(call.args)?;
    if let Some(code) = options.halt {
        return halt::halt(code);
    }
    hint::always();
    let mut init = Init::new(&options)?;
    loop {
        if let Some(code) = init.advance() {
            return Ok(options.mapped(code));
        }
        init.wait();
    }
}

/// The phase, with the data that only it has.
enum Phase {
    /// The hooks of `boot.d` run.
    Boot(Hooks),
    /// The services and CMD run.
    Serve,
    /// Everything ends.
    Stop(Box<Stopping>),
}

struct Init<'o> {
    options: &'o Options,
    phase: Phase,
    host: Host,
    services: Services,
    output: Option<Output>,
    /// What keeps the logs without `log/run`.
    loggers: Option<Rc<Loggers>>,
    cmd: Cmd,
    /// When the kernel gets back the pages of the executable, unless something happens before. `None`: it has them back.
    idle_at: Option<Moment>,
    /// The exit code, once something decided it.
    code: Option<u8>,
    /// The file that announces the directory; it exists as long as this value.
    _announcement: Option<Announcement>,
}

impl<'o> Init<'o> {
    fn new(options: &'o Options) -> Result<Self, Failed> {
        signal::default_all();
        if process_one::is_process_one() {
            process_one::survive_bugs("runsvinit");
        }
        let signals = signals_to_wait_for(!options.command.is_empty());
        let signals = Signals::wait_for(&signals).while_doing(|| "unable to create selfpipe")?;
        oom::begin();
        limits::raise_open_files();
        spawn::share_table();
        if !process_one::is_process_one() {
            let subreaper = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            if options.verbose {
                match subreaper {
                    Ok(()) => info(b"not process 1: became subreaper, so that orphans come to us"),
                    Err(_) => info(b"not process 1, nor subreaper: orphans go elsewhere"),
                }
            }
        }
        if let Some(dir) = &options.environment {
            environment::write(dir)?;
        }
        let dir = options.dir.clone().unwrap_or_else(serving::usual_directory);
        let output = options.prefix.then(|| Output::new(options.stamp)).transpose();
        let output = output.while_doing(|| "unable to create pipe")?;
        let loggers = logger::new(output.as_ref());
        let services = Services::new(&dir, loggers.clone())?;
        let announcement = serving::announce(&dir);
        if announcement.is_none() && options.verbose {
            info(b"the directory is announced nowhere: sv may need SVDIR");
        }
        Ok(Init {
            options,
            phase: Phase::Boot(Hooks::all_or_none(BOOT)),
            host: Host::of_many(signals),
            services,
            output,
            loggers,
            cmd: Cmd::new(&options.command),
            idle_at: Some(clock::monotonic().saturating_add(IDLE)),
            code: None,
            _announcement: announcement,
        })
    }

    /// Does what is due. Returns the exit code after everything has ended.
    fn advance(&mut self) -> Option<u8> {
        match &mut self.phase {
            Phase::Boot(hooks) if hooks.is_any() => {
                if let Err(code) = hooks.start_next() {
                    self.begin_to_stop(Some(code));
                }
            }
            Phase::Boot(_) => self.begin_to_serve(),
            Phase::Serve => self.services.start_due(&mut self.host, &mut self.output),
            Phase::Stop(_) => {}
        }
        self.advance_stop()
    }

    fn begin_to_serve(&mut self) {
        if !self.services.can_be_served(self.cmd.is_any()) {
            self.begin_to_stop(Some(NO_DIRECTORY));
            return;
        }
        self.phase = Phase::Serve;
        self.services.look(&mut self.host, &mut self.output);
        if self.services.is_empty() && !self.cmd.is_any() {
            self.services.dir.warn(b"no services", None);
        }
        if self.options.verbose {
            info(format!("{} services", self.services.len()).as_bytes());
            if self.cmd.is_any() {
                info(&[b"serving ", self.services.dir.path().to_bytes(), b" beside the command"].concat());
            }
        }
        if let Err(code) = self.cmd.start() {
            self.begin_to_stop(Some(code));
        }
    }

    /// Waits once, and reacts to what happened.
    fn wait(&mut self) {
        let mut departed = Vec::new();
        let (turn, has_changed) = self.wait_for_more_than_orphans(&mut departed);
        self.watch_idleness(turn.happened);
        if let Some(output) = &mut self.output {
            output.pass_on();
        }
        if let Some(loggers) = &self.loggers
            && loggers.awaited().is_some()
            && turn.ready.last() == Some(&true)
        {
            logger::pass_on(loggers, &mut self.host);
        }
        for came in &turn.signals {
            self.react_to(came);
        }
        for (pid, how) in &turn.other_ends {
            self.other_ended(*pid, *how);
        }
        if let Some((place, how)) = turn.essential {
            self.essential_ended(place, how);
        }
        // In a stop no service is hosted again.
        if let Phase::Serve = self.phase {
            let is_due = self.services.dir.look_at().is_some_and(|at| clock::monotonic() >= at);
            if self.note_departed(departed) || has_changed || is_due {
                self.services.look(&mut self.host, &mut self.output);
            }
        }
    }

    /// Waits until something is due, or something happens other than the end of orphans. Returns what happened, and whether
    /// the service directory changed. Adds services that have ended to `departed`.
    fn wait_for_more_than_orphans(&mut self, departed: &mut Vec<(Place, Box<Service>)>) -> (Turn, bool) {
        let until = self.deadline();
        let changes = self.services.dir.changes().filter(|_| matches!(self.phase, Phase::Serve));
        let changes = changes.map(|fd| (fd, PollFlags::IN));
        let output = self.output.as_ref().map(Output::awaited);
        let loggers = self.loggers.as_ref().and_then(|loggers| loggers.awaited());
        let loggers = loggers.map(|fd| (fd, PollFlags::IN));
        let others: Vec<_> = changes.into_iter().chain(output).chain(loggers).collect();
        let own = self.own_processes();
        let is_logger = |pid: Pid| self.loggers.as_ref().is_some_and(|loggers| loggers.is_logger(pid));
        let is_own = |(pid, _): &(Pid, Ended)| own.contains(&Some(*pid)) || is_logger(*pid);
        let is_stopping = matches!(self.phase, Phase::Stop(_));
        loop {
            let turn = self.host.turn(&others, until, |place, service| departed.push((place, service)));
            // The end of an orphan matters only to the stop.
            let only_orphans = !turn.happened && !turn.other_ends.is_empty() && !is_stopping;
            // What is due must not wait for orphans, however many end.
            let is_due = || until.is_some_and(|until| clock::monotonic() >= until);
            if !only_orphans || is_due() || turn.other_ends.iter().any(is_own) {
                let is_ready = changes.is_some() && turn.ready.first() == Some(&true);
                return (turn, is_ready && self.services.dir.has_changed());
            }
        }
    }

    /// When something is due, if ever.
    fn deadline(&self) -> Option<Moment> {
        let of_phase = match &self.phase {
            Phase::Boot(_) => None,
            Phase::Serve => self.services.deadline(),
            Phase::Stop(stopping) => stopping.deadline(),
        };
        let has_more = self.output.as_ref().is_some_and(Output::has_more);
        earlier(earlier(of_phase, has_more.then_some(Moment::START)), self.idle_at)
    }

    /// The processes of CMD and of the hooks, if they run.
    fn own_processes(&self) -> [Option<Pid>; 3] {
        let [boot, halt] = match &self.phase {
            Phase::Boot(hooks) => [hooks.running(), None],
            Phase::Serve => [None, None],
            Phase::Stop(stopping) => [stopping.boot.running(), stopping.halt.running()],
        };
        [self.cmd.pid(), boot, halt]
    }

    /// Notes whether something happened, and gives memory back when nothing has for [`IDLE`].
    fn watch_idleness(&mut self, has_something_happened: bool) {
        match self.idle_at {
            None if has_something_happened => {
                self.idle_at = Some(clock::monotonic().saturating_add(IDLE));
            }
            Some(at) if !has_something_happened && clock::monotonic() >= at => {
                self.idle_at = None;
                self.host.expect_long_wait();
            }
            _ => {}
        }
    }

    /// Notes services that have ended. Returns whether one of them ended because its directory was made anew: then the next
    /// look finds the new one.
    fn note_departed(&mut self, departed: Vec<(Place, Box<Service>)>) -> bool {
        if departed.is_empty() {
            return false;
        }
        let mut is_replaced = false;
        for (place, service) in departed {
            is_replaced |= service.is_replaced();
            self.services.departed(place, &service);
        }
        self.services.retry_those_without_room();
        is_replaced
    }

    /// Reacts to a signal: a request to look again, a request to stop, or one for CMD.
    fn react_to(&mut self, came: &Came) {
        if came.own {
            return;
        }
        if matches!(came.signal, Signal::HUP | Signal::ALRM) && matches!(self.phase, Phase::Serve) {
            self.services.look(&mut self.host, &mut self.output);
        }
        let is_to_stop = match came.signal {
            Signal::TERM | Signal::PWR => true,
            Signal::HALT => {
                if let Some(code) = came.value {
                    self.code = Some(u8::try_from(code & 0xff).unwrap_or(0));
                }
                true
            }
            Signal::INT | Signal::QUIT => self.cmd.pid().is_none(),
            _ => false,
        };
        if is_to_stop {
            match &mut self.phase {
                Phase::Stop(stopping) => stopping.hurry(),
                Phase::Boot(_) | Phase::Serve => self.begin_to_stop(None),
            }
        } else if let Some(pid) = self.cmd.pid() {
            // CMD may have ended a moment ago; then its end is what counts.
            let _ = if self.options.group {
                signal::send_to_group(pid, came.signal)
            } else {
                signals::pass_on(pid, came)
            };
        }
    }

    /// Sends a signal to CMD, or with `-g` to its whole group.
    fn signal_cmd(&self, signal: Signal) {
        let Some(pid) = self.cmd.pid() else { return };
        // CMD may have ended a moment ago; then its end is what counts.
        let _ =
            if self.options.group { signal::send_to_group(pid, signal) } else { signal::send(pid, signal) };
    }

    /// A process ended that is not one of a service: CMD, a hook, or an orphan.
    fn other_ended(&mut self, pid: Pid, how: Ended) {
        if let Some(loggers) = &self.loggers
            && logger::process_ended(loggers, &mut self.host, pid, how)
        {
            return;
        }
        if self.cmd.note_end(pid) {
            if matches!(how, Ended::Signal { signal: Signal::KILL, .. }) && oom::killed(clock::monotonic()) {
                let what = b"out of memory: the kernel has killed the command";
                Message::warning(WHO, what).print_now();
            }
            self.begin_to_stop(Some(code_of(how)));
            return;
        }
        match &mut self.phase {
            Phase::Boot(hooks) => {
                if let Some(path) = hooks.note_end(pid)
                    && how != Ended::Code(0)
                {
                    say_hook(Class::Fatal, &path, how);
                    self.begin_to_stop(Some(code_of(how)));
                }
            }
            Phase::Serve => {}
            Phase::Stop(stopping) => stopping.other_ended(pid, how),
        }
    }

    fn essential_ended(&mut self, place: Place, how: Ended) {
        if !matches!(self.phase, Phase::Stop(_)) {
            let name = self.services.name(place).unwrap_or_default();
            let what = [b"essential service ", name, b" ", how.in_words().as_bytes()].concat();
            Message::warning(WHO, &what).print_now();
        }
        self.begin_to_stop(Some(code_of(how)));
    }
}

/// The signals that we read instead of letting them act: all, since none may end us and leave the services running. A
/// command gets those that we do not use. Without one, TSTP and TTIN still stop a job of a shell.
fn signals_to_wait_for(has_command: bool) -> Vec<Signal> {
    // Not TTOU: a message of ours must not stop us while the command owns the terminal.
    const STOPPING: [Signal; 2] = [Signal::TSTP, Signal::TTIN];
    Signal::all_to_pass_on().filter(|signal| has_command || !STOPPING.contains(signal)).collect()
}

fn say_hook(class: Class, path: &CStr, how: Ended) {
    Message::new(class, WHO, &[path.to_bytes(), b" ", how.in_words().as_bytes()].concat()).print_now();
}

fn info(what: &[u8]) {
    Message::info(WHO, what).print_now();
}
