//! `runit`: process 1. Runs the three stages, reaps orphans, ends the machine. Source: runit(8).
//!
//! After its start it allocates nothing, waits for nothing but events, and does not end.

mod console;
mod ending;
pub(crate) mod flags;
mod least;
mod stages;

use std::ffi::CStr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, OFlags};
use rustix::process::WaitOptions;
use rustix::system::{RebootCommand, reboot};
use svcore::event::{self, Wait};
use svcore::say::Class;
use svcore::service::host;
use svcore::sys::signals::Signals;
use svcore::sys::spawn::{Program, Stream, Terminal, spawn};
use svcore::sys::{allocator, arguments, clock, signal};
use svcore::{Call, Result, Signal, files, process_one};

use console::{report, say};
use least::Least;
use stages::{Action, Event, Flags, Script, Stage, Stages, Text};

/// How long the least has to end everything.
const LEAST_STOP: Duration = Duration::from_secs(10);

/// How many ended processes are looked at before signals and deadlines are again.
const REAP_AT_ONCE: usize = 64;

/// Runs the applet. It returns only where process 1 is that of a container.
pub(crate) fn main(call: &Call<'_>) -> Result {
    if !process_one::is_process_one() {
        svcore::say::err(&[b"- runit: fatal: must be run as process no 1.\n"]);
        return Ok(call.codes.fatal);
    }
    process_one::survive_bugs("- runit");
    arguments::set_process_name("runit");
    let machine = least::is_machine();
    // It normally is the leader of one already.
    let _ = rustix::process::setsid();
    let signals = wait_for_signals();
    let least = (!has_stages()).then(|| Least::new(machine));
    // Ctrl-alt-del is INT from now on. Not ours to decide in a container.
    let _ = reboot(RebootCommand::CadOff);
    say(&[b"runitbox ", env!("CARGO_PKG_VERSION").as_bytes(), b": booting."]);
    if let Some(least) = &least {
        say(&[b"no stages in /etc/runit: serving ", least.dir.to_bytes()]);
    }
    allocator::seal();
    let stages = if least.is_some() { Stages::least(LEAST_STOP) } else { Stages::new() };
    let mut runit = Runit { stages, signals, least, over: None };
    let ending = runit.run();
    ending::end(&runit.signals, ending, machine, runit.least.is_some());
    Ok(0)
}

struct Runit {
    stages: Stages,
    signals: Signals,
    least: Option<Least>,
    /// All stages are over.
    over: Option<Option<stages::Ending>>,
}

/// Nothing goes on without signals, so it is tried until it works.
fn wait_for_signals() -> Signals {
    let wanted = [
        Signal::CHLD,
        Signal::CONT,
        Signal::INT,
        Signal::PWR,
        // Waited for and then ignored, unless we do the least.
        Signal::TERM,
        Signal::HUP,
        Signal::ALRM,
    ];
    loop {
        match Signals::wait_for(&wanted) {
            Ok(signals) => return signals,
            Err(error) => {
                let why = svcore::error::reason(&error);
                report(Class::Fatal, &[b"unable to create selfpipe, pausing: ", why.as_bytes()]);
                event::wait(&mut [], Wait::Until(clock::monotonic().saturating_add(stages::PAUSE)));
            }
        }
    }
}

/// Waits for signals, until that moment at the latest.
fn wait(signals: &Signals, limit: Wait) {
    event::wait(&mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)], limit);
}

/// Whether any of the stage files is there.
fn has_stages() -> bool {
    let there = |stage| files::look(CWD, path_of(stage)).is_ok_and(|stat| stat.is_some());
    [Stage::One, Stage::Two, Stage::Three].into_iter().any(there)
}

const fn path_of(stage: Stage) -> &'static CStr {
    match stage {
        Stage::One => c"/etc/runit/1",
        Stage::Two => c"/etc/runit/2",
        Stage::Three => c"/etc/runit/3",
    }
}

const fn path_of_script(script: Script) -> &'static CStr {
    match script {
        Script::CtrlAltDel => c"/etc/runit/ctrlaltdel",
        Script::PowerFail => c"/etc/runit/pwrfail",
    }
}

impl Runit {
    fn run(&mut self) -> Option<stages::Ending> {
        self.tell(Event::Tick);
        let mut more = false;
        loop {
            if let Some(ending) = self.over {
                return ending;
            }
            let limit = if more { Wait::Poll } else { Wait::until(self.stages.deadline()) };
            wait(&self.signals, limit);
            let (mut stop, mut ctrl_alt_del, mut power_fail, mut term) = (false, false, false, false);
            self.signals.take(|came| match came.signal {
                Signal::CONT => stop = true,
                Signal::INT => ctrl_alt_del = true,
                Signal::PWR => power_fail = true,
                Signal::TERM => term = true,
                _ => {}
            });
            let mut left = REAP_AT_ONCE;
            while left > 0
                && let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG)
            {
                left -= 1;
                if let Some(how) = host::ended(status) {
                    self.tell(Event::Ended(pid, how));
                }
            }
            more = left == 0;
            // Without stages nobody else is there to be asked for it.
            if stop || (term && self.least.is_some()) {
                self.tell(Event::Stop);
            }
            if ctrl_alt_del {
                self.tell(Event::Asked(Script::CtrlAltDel));
            }
            if power_fail {
                self.tell(Event::Asked(Script::PowerFail));
            }
            self.tell(Event::Tick);
        }
    }

    fn tell(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let flags = Flags {
                ctrl_alt_del: flags::is_set(path_of_script(Script::CtrlAltDel)),
                power_fail: flags::is_set(path_of_script(Script::PowerFail)),
                stop_it: matches!(event, Event::Stop | Event::Ended(..)) && flags::stop_it(),
            };
            // A start is the last of the actions that it is among.
            for action in self.stages.step(clock::monotonic(), flags, event).iter() {
                if let Some(event) = self.perform(action) {
                    next = Some(event);
                }
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Say(text) => self.say(text),
            Action::Start(stage) => return Some(self.start(stage)),
            Action::Run(script) => {
                let console = console::open_for_program(OFlags::WRONLY);
                return Some(begin(path_of_script(script), None, console.as_ref()));
            }
            Action::Term(pid) => {
                let _ = signal::send(pid, Signal::TERM);
                let _ = signal::send(pid, Signal::CONT);
            }
            Action::Kill(pid) => drop(signal::send(pid, Signal::KILL)),
            Action::KillGroup(pid) => drop(signal::send_to_group(pid, Signal::KILL)),
            Action::TakeStopIt => flags::clear_stop_it(),
            Action::Finish(ending) => self.over = Some(ending),
        }
        None
    }

    fn start(&self, stage: Stage) -> Event {
        let console = console::open_for_program(OFlags::WRONLY);
        if let Some(least) = &self.least {
            return least.start(console.as_ref());
        }
        if stage != Stage::One {
            return begin(path_of(stage), None, console.as_ref());
        }
        let input = console::open_for_program(OFlags::RDWR);
        begin(path_of(stage), input.as_ref(), console.as_ref())
    }

    fn say(&self, text: Text) {
        let stage = |stage: Stage| path_of(stage).to_bytes();
        let script = |script: Script| path_of_script(script).to_bytes();
        match text {
            Text::Enter(_) | Text::Leave(_) if self.least.is_some() => {}
            Text::Enter(it) => say(&[b"enter stage: ", stage(it)]),
            Text::Leave(it) => say(&[b"leave stage: ", stage(it)]),
            Text::Failed(it) => report(Class::Warning, &[b"child failed: ", stage(it)]),
            Text::Crashed(it) => report(Class::Warning, &[b"child crashed: ", stage(it)]),
            Text::Skipping => report(Class::Warning, &[b"skipping stage 2..."]),
            Text::KillingStage2 => report(Class::Warning, &[b"killing all processes in stage 2..."]),
            Text::Restarting => report(Class::Warning, &[b"restarting."]),
            Text::SignalsOnlyInStage2 => report(Class::Warning, &[b"signals only work in stage 2."]),
            Text::CtrlAltDel => say(&[b"ctrl-alt-del request..."]),
            Text::PowerFail => say(&[b"power failure..."]),
            Text::EnterScript(it) => say(&[b"enter stage: ", script(it)]),
            Text::LeaveScript(it) => say(&[b"leave stage: ", script(it)]),
            Text::ScriptCrashed(it) => report(Class::Warning, &[b"child crashed: ", script(it)]),
            Text::NotTerminated => report(Class::Warning, &[b"stage 2 not terminated, sending sigkill..."]),
        }
    }
}

/// Starts a program in a session of its own, with the console as its output and `input` as its terminal.
fn begin(path: &CStr, input: Option<&OwnedFd>, console: Option<&OwnedFd>) -> Event {
    let to_console = || console.map_or(Stream::Inherit, |console| Stream::Is(console.as_fd()));
    begin_program(&Program {
        files: &[path],
        argv: &[path],
        stdin: input.map_or_else(to_console, |input| Stream::Is(input.as_fd())),
        stdout: to_console(),
        stderr: to_console(),
        terminal: if input.is_some() { Terminal::Controlling } else { Terminal::Inherit },
        new_session: true,
        ..Program::default()
    })
}

/// Starts a program, or says why not.
fn begin_program(program: &Program<'_>) -> Event {
    let path = program.files.first().map_or(b"".as_slice(), |path| path.to_bytes());
    match spawn(program) {
        Ok(pid) => Event::Started(pid),
        Err(why) if why.lacks_process() => {
            let why = svcore::error::reason(&why.cause);
            report(Class::Fatal, &[b"unable to fork for \"", path, b"\" pausing: ", why.as_bytes()]);
            Event::NoProcess
        }
        Err(why) => {
            let why = svcore::error::reason(&why.cause);
            report(Class::Fatal, &[b"unable to start child: ", path, b": ", why.as_bytes()]);
            Event::NotStarted
        }
    }
}
