//! `runsvinit`: a container's init. One process hosts all services of a directory, runs a command beside them, reaps
//! orphans, and stops everything in order. Source: runsvinit(8).

mod environment;
mod halt;
mod lines;
mod options;
mod output;
mod programs;
mod rest;
mod served;
mod stop;

use std::ffi::CStr;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::Pid;
use svcore::control::Command as Order;
use svcore::moment::{Moment, earlier};
use svcore::process::Ended;
use svcore::role::Role;
use svcore::service::host::{Host, now};
use svcore::sys::signals::{self, Came, Signals};
use svcore::sys::{clock, memory, privilege, signal, spawn, start};
use svcore::{Call, Context, Result, Signal, oom, say, scan};

use options::Options;
use output::Output;
use programs::{Command, Hooks, code_of};
use served::Served;
use stop::{Do, Seen, Stop};

/// Executables that run before the services, and after them.
const BOOT: &CStr = c"/etc/runit/boot.d";
const HALT: &CStr = c"/etc/runit/halt.d";

/// After so long without an event, memory is given back that may not be needed for long.
const CALM: Duration = Duration::from_secs(1);

/// Runs the applet until everything has ended.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let options = options::parse(call.args)?;
    if let Some(code) = options.halt {
        return halt::halt(code);
    }
    let mut init = Init::new(&options)?;
    loop {
        if let Some(code) = init.go_on() {
            return Ok(options.mapped(code));
        }
        init.wait();
    }
}

struct Init<'o> {
    options: &'o Options,
    host: Host,
    served: Served,
    output: Option<Output>,
    boot: Hooks,
    halt: Hooks,
    /// CMD, until it is started.
    command: Option<Command>,
    /// Its process.
    running: Option<Pid>,
    /// All services that were there at the start are taken up.
    serving: bool,
    /// When nothing has happened for so long that nothing is likely to happen soon.
    calm_at: Option<Moment>,
    stop: Option<Stop>,
    /// When the stop has to be over.
    over_at: Moment,
    /// What the exit code comes from, as far as it is known.
    code: Option<u8>,
}

impl<'o> Init<'o> {
    fn new(options: &'o Options) -> Result<Self> {
        signal::default_all();
        if start::is_first_process() {
            start::never_end_by_a_bug("runsvinit");
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
            // CMD may have the terminal; what we say there is not to stop us.
            Signal::TTOU,
        ];
        // What comes is for the command, as if it were process 1 itself.
        let all: Vec<Signal> = Signal::all_to_pass_on().collect();
        let wanted = if options.command.is_empty() { &ours } else { all.as_slice() };
        let signals = Signals::wait_for(wanted).while_doing(|| "unable to create selfpipe")?;
        oom::begin();
        privilege::raise_open_files();
        spawn::share_table();
        if !start::is_first_process() {
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
            host: Host::of_many(signals),
            served,
            output: output.while_doing(|| "unable to create pipe")?,
            boot: Hooks::all_or_none(BOOT),
            halt: Hooks::default(),
            command: (!options.command.is_empty()).then(|| Command::new(&options.command)),
            running: None,
            serving: false,
            calm_at: Some(clock::monotonic().saturating_add(CALM)),
            stop: None,
            over_at: Moment::START,
            code: None,
        })
    }

    /// Does what is due. Gives the exit code when everything has ended.
    fn go_on(&mut self) -> Option<u8> {
        if self.stop.is_none() {
            self.serve();
        }
        while self.stop.is_some() {
            let seen = self.seen();
            match self.stop.as_mut()?.step(clock::monotonic(), &seen)? {
                Do::Exit => {
                    if let Some(output) = &mut self.output {
                        output.drain(self.over_at);
                    }
                    return Some(self.code.unwrap_or(0));
                }
                what => self.perform(what),
            }
        }
        None
    }

    /// CMD, or the hook of `boot.d` that is there before it.
    fn command_process(&self) -> Option<Pid> {
        self.running.or(self.boot.running())
    }

    /// What a stop has to reckon with.
    fn seen(&self) -> Seen {
        let services = self.host.services().filter(|(_, service)| !service.main_is_over()).count();
        Seen {
            command: self.command_process().is_some(),
            services,
            logs: self.host.len().saturating_sub(services),
            rest: rest::is_any(),
            hooks: self.halt.is_any(),
        }
    }

    /// Runs the hooks, and after them the services and CMD.
    fn serve(&mut self) {
        if self.boot.is_any() {
            if let Err(code) = self.boot.go_on() {
                self.begin_to_stop(Some(code));
            }
            return;
        }
        if !std::mem::replace(&mut self.serving, true) {
            self.served.look(&mut self.host, &mut self.output);
            if self.options.verbose {
                info(format!("{} services", self.served.len()).as_bytes());
                if self.command.is_some() {
                    info(&[b"serving ", self.served.dir.path().to_bytes(), b" beside the command"].concat());
                }
            }
        } else {
            self.served.start_due(&mut self.host, &mut self.output);
        }
        if let Some(mut command) = self.command.take() {
            match command.start() {
                Ok(pid) => self.running = Some(pid),
                Err(code) => self.begin_to_stop(Some(code)),
            }
        }
    }

    fn perform(&mut self, what: Do) {
        let now = now();
        let command = self.command_process();
        match what {
            Do::EndCommand => {
                self.boot.no_more();
                // It may have ended a moment ago; then its end is what counts.
                if self.running.is_some() {
                    self.tell_command(self.options.stop_signal);
                    self.tell_command(Signal::CONT);
                } else if let Some(pid) = command {
                    let _ = signal::send(pid, Signal::TERM);
                    let _ = signal::send(pid, Signal::CONT);
                }
            }
            Do::KillCommand => {
                if let Some(pid) = command {
                    say::supervisor(
                        &[b"runsvinit: warning: "],
                        b"the command did not end in time: killed",
                        None,
                    );
                    let _ = signal::send(pid, Signal::KILL);
                    if self.running.is_some() {
                        self.tell_command(Signal::KILL);
                    }
                }
            }
            Do::EndServices => {
                self.host.command_all(now, Order::Exit);
                // Its end can take the kernel some milliseconds, which pass while the services end.
                self.served.dir.stop_watching();
            }
            Do::KillServices => self.host.kill_services(),
            Do::KillLogs => self.host.kill_logs(),
            Do::EndWriters => {
                let logs: Vec<Pid> =
                    self.host.services().filter_map(|(_, service)| service.unit(Role::Log)?.pid()).collect();
                rest::end(&logs, self.until());
            }
            Do::EndRest => rest::end(&[], self.until()),
            Do::KillRest => rest::kill(self.until()),
            Do::RunHooks => self.run_halt_hook(),
            Do::KillHooks => self.halt.kill(),
            Do::Exit => {}
        }
    }

    /// How long may be looked for what is left: until the next of the stop is due, but a moment in any case, since what
    /// is not found is left alive.
    fn until(&self) -> Moment {
        const MOMENT: Duration = Duration::from_millis(100);
        let next = self.stop.as_ref().and_then(|stop| stop.deadline(&self.seen()));
        next.unwrap_or(Moment::START).max(clock::monotonic().saturating_add(MOMENT))
    }

    fn run_halt_hook(&mut self) {
        // One that cannot be started, which was said, does not hold up the others.
        while self.halt.is_any() && self.halt.go_on().is_err() {}
    }

    /// Everything is to end; with `code`, unless another came first.
    fn begin_to_stop(&mut self, code: Option<u8>) {
        self.code = self.code.or(code);
        if self.stop.is_some() {
            return;
        }
        if self.options.verbose {
            info(b"stopping");
        }
        let now = clock::monotonic();
        self.host.hold();
        self.halt = Hooks::those_allowed(HALT);
        self.command = None;
        self.over_at = now.saturating_add(self.options.time);
        self.stop = Some(Stop::new(now, self.options.time, !self.host.is_empty()));
    }

    /// Waits once and takes what came.
    fn wait(&mut self) {
        let mut until = match &self.stop {
            Some(stop) => stop.deadline(&self.seen()),
            None if self.serving => self.served.deadline(),
            None => None,
        };
        if self.output.as_ref().is_some_and(Output::has_more) {
            until = earlier(until, Some(Moment::START));
        }
        until = earlier(until, self.calm_at);
        let serves = self.serving && self.stop.is_none();
        let changes = self.served.dir.changes().filter(|_| serves).map(|fd| (fd, PollFlags::IN));
        let others: Vec<_> = changes.into_iter().chain(self.output.as_ref().map(Output::awaited)).collect();
        let has_changes = changes.is_some();
        let mut left = Vec::new();
        let ours = [self.running, self.boot.running(), self.halt.running()];
        let is_ours = |(pid, _): &(Pid, Ended)| ours.contains(&Some(*pid));
        let turn = loop {
            let turn = self.host.turn(&others, until, |place, service| left.push((place, service)));
            // The end of an orphan changes nothing, unless everything is to end.
            let only_orphans = !turn.happened && !turn.strangers.is_empty() && self.stop.is_none();
            // Nor may it hold up what is due, however many there are.
            let is_due = || until.is_some_and(|until| clock::monotonic() >= until);
            if !only_orphans || is_due() || turn.strangers.iter().any(is_ours) {
                break turn;
            }
        };
        match self.calm_at {
            None if turn.happened => self.calm_at = Some(clock::monotonic().saturating_add(CALM)),
            Some(at) if !turn.happened && clock::monotonic() >= at => {
                self.calm_at = None;
                memory::forget_executable_at_next_wait();
            }
            _ => {}
        }
        let changed = has_changes && turn.ready.first() == Some(&true) && self.served.dir.has_changed();
        if let Some(output) = &mut self.output {
            output.pass_on();
        }
        for came in &turn.signals {
            self.take(came);
        }
        for (pid, how) in &turn.strangers {
            self.ended(*pid, *how);
        }
        if let Some((place, how)) = turn.essential {
            self.essential_ended(place, how);
        }
        let mut look = changed || self.served.dir.look_at().is_some_and(|at| clock::monotonic() >= at);
        // In a stop nothing is taken up again, and a thousand may leave.
        if self.stop.is_none() && !left.is_empty() {
            for (place, service) in left {
                look |= service.is_replaced();
                self.served.left(place, &service);
            }
            self.served.retry();
        }
        if look && self.serving && self.stop.is_none() {
            self.served.look(&mut self.host, &mut self.output);
        }
    }

    fn take(&mut self, came: &Came) {
        if came.own {
            return;
        }
        if matches!(came.signal, Signal::HUP | Signal::ALRM) && self.serving && self.stop.is_none() {
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
            Signal::INT | Signal::QUIT => self.running.is_none(),
            _ => false,
        };
        if is_to_stop {
            match &mut self.stop {
                Some(stop) => stop.hurry(clock::monotonic()),
                None => self.begin_to_stop(None),
            }
        } else if let Some(pid) = self.running {
            // It may have ended a moment ago; then its end is what counts.
            let _ = if self.options.group {
                signal::send_to_group(pid, came.signal)
            } else {
                signals::pass_on(pid, came)
            };
        }
    }

    /// Sends a signal to the command, or to its whole group if that is wanted.
    fn tell_command(&self, signal: Signal) {
        let Some(pid) = self.running else { return };
        let _ =
            if self.options.group { signal::send_to_group(pid, signal) } else { signal::send(pid, signal) };
    }

    /// A process ended that belongs to no service.
    fn ended(&mut self, pid: Pid, how: Ended) {
        if self.running == Some(pid) {
            self.running = None;
            if matches!(how, Ended::Signal { number: 9, .. }) && oom::killed(clock::monotonic()) {
                let what = b"out of memory: the kernel has killed the command";
                say::supervisor(&[b"runsvinit: warning: "], what, None);
            }
            self.begin_to_stop(Some(code_of(how)));
        } else if let Some(path) = self.boot.ended(pid) {
            // One that we told to end ourselves has not failed.
            if how != Ended::Code(0) && self.stop.is_none() {
                say_hook(b"runsvinit: fatal: ", &path, how);
                self.begin_to_stop(Some(code_of(how)));
            }
        } else if let Some(path) = self.halt.ended(pid) {
            if how != Ended::Code(0) {
                say_hook(b"runsvinit: warning: ", &path, how);
            }
            self.run_halt_hook();
        }
    }

    fn essential_ended(&mut self, place: usize, how: Ended) {
        if self.stop.is_none() {
            let name = self.served.name(place).unwrap_or_default();
            let what = [b"essential service ", name, b" ", how.in_words().as_bytes()].concat();
            say::supervisor(&[b"runsvinit: warning: "], &what, None);
        }
        self.begin_to_stop(Some(code_of(how)));
    }
}

fn say_hook(class: &[u8], path: &CStr, how: Ended) {
    say::supervisor(&[class], &[path.to_bytes(), b" ", how.in_words().as_bytes()].concat(), None);
}

fn info(what: &[u8]) {
    say::supervisor(&[b"runsvinit: info: "], what, None);
}
