//! `runsvinit`: a container's init. One process hosts all services of a directory, runs a command beside them, reaps
//! orphans, and stops everything in order. Source: runsvinit(8).
//!
//! | phase | what runs                                       | ends                                              |
//! |-------|-------------------------------------------------|---------------------------------------------------|
//! | boot  | the hooks of `boot.d`, one after the other      | after the last one; stop if one fails             |
//! | serve | the services, and CMD beside them               | with TERM and its like, CMD or an essential service |
//! | stop  | what has not ended yet, then hooks of `halt.d`  | with this process, see [`stop`]                   |

mod environment;
mod halt;
mod lines;
mod options;
mod output;
mod programs;
mod rest;
mod served;
mod stop;
mod stopping;

use std::ffi::CStr;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::Pid;
use svcore::moment::{Moment, earlier};
use svcore::process::Ended;
use svcore::say::{Class, Message};
use svcore::service::Service;
use svcore::service::host::{Host, Place, Turn};
use svcore::sys::signals::{self, Came, Signals};
use svcore::sys::{clock, limits, signal, spawn};
use svcore::{Call, Context, Failed, Result, Signal, hint, oom, process_one, scan};

use options::Options;
use output::Output;
use programs::{Cmd, Hooks, code_of};
use served::Served;
use stopping::Stopping;

/// How our messages begin.
const WHO: &str = "runsvinit";
/// Executables that run before the services.
const BOOT: &CStr = c"/etc/runit/boot.d";

/// Exit code where there is nothing that could be served.
const NO_DIRECTORY: u8 = 111;

/// After this time without an event, the clean pages of the executable are given back to the kernel.
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

/// What this process is at.
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
    served: Served,
    output: Option<Output>,
    cmd: Cmd,
    /// When the executable's pages are given back, unless something happens before. `None`: they were.
    idle_at: Option<Moment>,
    /// The exit code, once something decided it.
    code: Option<u8>,
}

impl<'o> Init<'o> {
    fn new(options: &'o Options) -> Result<Self, Failed> {
        signal::default_all();
        if process_one::is_process_one() {
            process_one::survive_bugs("runsvinit");
        }
        let ours = [
            Signal::CHLD,
            Signal::CHANGE,
            Signal::IO,
            Signal::TERM,
            Signal::INT,
            Signal::PWR,
            Signal::HALT,
            Signal::HUP,
            Signal::ALRM,
            Signal::QUIT,
            Signal::USR1,
            Signal::USR2,
            Signal::WINCH,
            // CMD may own the terminal; a message of ours must not stop us.
            Signal::TTOU,
        ];
        // CMD gets every signal that process 1 gets.
        let all: Vec<Signal> = Signal::all_to_pass_on().collect();
        let wanted = if options.command.is_empty() { &ours } else { all.as_slice() };
        let signals = Signals::wait_for(wanted).while_doing(|| "unable to create selfpipe")?;
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
        let usual = scan::usual_directory();
        let served = Served::new(options.dir.as_deref().unwrap_or(&usual))?;
        let output = options.prefix.then(|| Output::new(options.stamp)).transpose();
        Ok(Init {
            options,
            phase: Phase::Boot(Hooks::all_or_none(BOOT)),
            host: Host::of_many(signals),
            served,
            output: output.while_doing(|| "unable to create pipe")?,
            cmd: Cmd::new(&options.command),
            idle_at: Some(clock::monotonic().saturating_add(IDLE)),
            code: None,
        })
    }

    /// Does what is due. Returns the exit code when everything has ended.
    fn advance(&mut self) -> Option<u8> {
        match &mut self.phase {
            Phase::Boot(hooks) if hooks.is_any() => {
                if let Err(code) = hooks.start_next() {
                    self.begin_to_stop(Some(code));
                }
            }
            Phase::Boot(_) => self.begin_to_serve(),
            Phase::Serve => self.served.start_due(&mut self.host, &mut self.output),
            Phase::Stop(_) => {}
        }
        self.advance_stop()
    }

    fn begin_to_serve(&mut self) {
        if let Err(failed) = self.served.check(self.cmd.is_any()) {
            Message::of(Class::Fatal, &self.served.dir.who(), &failed).print_now();
            self.begin_to_stop(Some(NO_DIRECTORY));
            return;
        }
        self.phase = Phase::Serve;
        self.served.look(&mut self.host, &mut self.output);
        if self.served.is_empty() && !self.cmd.is_any() {
            self.served.dir.warn(b"no services", None);
        }
        if self.options.verbose {
            info(format!("{} services", self.served.len()).as_bytes());
            if self.cmd.is_any() {
                info(&[b"serving ", self.served.dir.path().to_bytes(), b" beside the command"].concat());
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
        for came in &turn.signals {
            self.react_to(came);
        }
        for (pid, how) in &turn.strangers {
            self.stranger_ended(*pid, *how);
        }
        if let Some((place, how)) = turn.essential {
            self.essential_ended(place, how);
        }
        // In a stop nothing is taken up again.
        if let Phase::Serve = self.phase {
            let is_due = self.served.dir.look_at().is_some_and(|at| clock::monotonic() >= at);
            if self.note_departed(departed) || has_changed || is_due {
                self.served.look(&mut self.host, &mut self.output);
            }
        }
    }

    /// Waits until something happens that is not only the end of orphans, or something is due. Returns that, and whether
    /// the service directory changed. `departed` gets the services that have left.
    fn wait_for_more_than_orphans(&mut self, departed: &mut Vec<(Place, Box<Service>)>) -> (Turn, bool) {
        let until = self.deadline();
        let changes = self.served.dir.changes().filter(|_| matches!(self.phase, Phase::Serve));
        let changes = changes.map(|fd| (fd, PollFlags::IN));
        let others: Vec<_> = changes.into_iter().chain(self.output.as_ref().map(Output::awaited)).collect();
        let own = self.own_processes();
        let is_own = |(pid, _): &(Pid, Ended)| own.contains(&Some(*pid));
        let is_stopping = matches!(self.phase, Phase::Stop(_));
        loop {
            let turn = self.host.turn(&others, until, |place, service| departed.push((place, service)));
            // The end of an orphan changes nothing, unless everything is to end.
            let only_orphans = !turn.happened && !turn.strangers.is_empty() && !is_stopping;
            // Nor may orphans hold up what is due, however many there are.
            let is_due = || until.is_some_and(|until| clock::monotonic() >= until);
            if !only_orphans || is_due() || turn.strangers.iter().any(is_own) {
                let is_ready = changes.is_some() && turn.ready.first() == Some(&true);
                return (turn, is_ready && self.served.dir.has_changed());
            }
        }
    }

    /// When something is due without an event, if ever.
    fn deadline(&self) -> Option<Moment> {
        let of_phase = match &self.phase {
            Phase::Boot(_) => None,
            Phase::Serve => self.served.deadline(),
            Phase::Stop(stopping) => stopping.deadline(),
        };
        let has_more = self.output.as_ref().is_some_and(Output::has_more);
        earlier(earlier(of_phase, has_more.then_some(Moment::START)), self.idle_at)
    }

    /// The processes of CMD and of the hooks that run.
    fn own_processes(&self) -> [Option<Pid>; 3] {
        let [boot, halt] = match &self.phase {
            Phase::Boot(hooks) => [hooks.running(), None],
            Phase::Serve => [None, None],
            Phase::Stop(stopping) => [stopping.boot.running(), stopping.halt.running()],
        };
        [self.cmd.pid(), boot, halt]
    }

    /// Gives back memory when nothing has happened for [`IDLE`].
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

    /// Notes services that have left. Whether the directory is to be looked at for their successors.
    fn note_departed(&mut self, departed: Vec<(Place, Box<Service>)>) -> bool {
        if departed.is_empty() {
            return false;
        }
        let mut look = false;
        for (place, service) in departed {
            look |= service.is_replaced();
            self.served.left(place, &service);
        }
        self.served.retry();
        look
    }

    /// A signal came: a request to look again, a request to stop, or one for CMD.
    fn react_to(&mut self, came: &Came) {
        if came.own {
            return;
        }
        if matches!(came.signal, Signal::HUP | Signal::ALRM) && matches!(self.phase, Phase::Serve) {
            self.served.look(&mut self.host, &mut self.output);
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

    /// A process ended that belongs to no service: CMD, a hook, or an orphan.
    fn stranger_ended(&mut self, pid: Pid, how: Ended) {
        if self.cmd.take_end(pid) {
            if matches!(how, Ended::Signal { number: 9, .. }) && oom::killed(clock::monotonic()) {
                let what = b"out of memory: the kernel has killed the command";
                Message::warning(WHO, what).print_now();
            }
            self.begin_to_stop(Some(code_of(how)));
            return;
        }
        match &mut self.phase {
            Phase::Boot(hooks) => {
                if let Some(path) = hooks.take_end(pid)
                    && how != Ended::Code(0)
                {
                    say_hook(Class::Fatal, &path, how);
                    self.begin_to_stop(Some(code_of(how)));
                }
            }
            Phase::Serve => {}
            Phase::Stop(stopping) => stopping.stranger_ended(pid, how),
        }
    }

    fn essential_ended(&mut self, place: Place, how: Ended) {
        if !matches!(self.phase, Phase::Stop(_)) {
            let name = self.served.name(place).unwrap_or_default();
            let what = [b"essential service ", name, b" ", how.in_words().as_bytes()].concat();
            Message::warning(WHO, &what).print_now();
        }
        self.begin_to_stop(Some(code_of(how)));
    }
}

fn say_hook(class: Class, path: &CStr, how: Ended) {
    Message::new(class, WHO, &[path.to_bytes(), b" ", how.in_words().as_bytes()].concat()).print_now();
}

fn info(what: &[u8]) {
    Message::info(WHO, what).print_now();
}
