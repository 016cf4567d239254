//! `runit`: process 1. Runs the three stages, reaps orphans, shuts the machine down. Source: runit(8).
//!
//! `stages` decides what comes next; this file does it. Once it has started, runit allocates nothing, waits in poll(2)
//! only, and never exits on a machine.

mod console;
mod container;
mod fallback;
pub(crate) mod flags;
mod program;
mod shutdown;
mod signals;
mod stages;

use std::ffi::CStr;

use rustix::fs::CWD;
use rustix::process::WaitOptions;
use rustix::system::{RebootCommand, reboot};
use svcore::event::Wait;
use svcore::process::Ended;
use svcore::say::Class;
use svcore::sys::signals::Signals;
use svcore::sys::{allocator, arguments, clock, signal};
use svcore::{Call, Result, Signal, files, process_one};

use console::{report, say};
use fallback::Fallback;
use program::Input;
use stages::{Event, Flags, Notice, Script, Shutdown, Stage, StageAction, Stages};

/// How many ended processes are reaped before signals and deadlines get their turn again.
const REAP_AT_ONCE: usize = 64;

/// Runs the applet. Returns only in a container.
pub(crate) fn main(call: &Call<'_>) -> Result {
    if !process_one::is_process_one() {
        svcore::say::err(&[b"- runit: fatal: must be run as process no 1.\n"]);
        return Ok(call.codes.fatal);
    }
    process_one::survive_bugs("- runit");
    arguments::set_process_name("runit");
    let in_container = container::is_container();
    // Fails if process 1 leads a session already, which is usual.
    let _ = rustix::process::setsid();
    let signals = signals::take_over();
    let fallback = (!has_stages()).then(|| Fallback::new(in_container));
    // From now on ctrl-alt-del sends INT. In a container this is not permitted, and not our business.
    let _ = reboot(RebootCommand::CadOff);
    say(&[b"runitbox ", env!("CARGO_PKG_VERSION").as_bytes(), b": booting."]);
    if let Some(fallback) = &fallback {
        say(&[b"no stages in /etc/runit: serving ", fallback.directory().to_bytes()]);
    }
    allocator::seal();
    let stages = match fallback {
        Some(_) => Stages::fallback(fallback::STOP_TIMEOUT),
        None => Stages::new(),
    };
    let mut runit = Runit { stages, signals, fallback, finished: None };
    let shutdown = runit.run();
    let remounts = runit.fallback.is_some() && !in_container;
    shutdown::shut_down(&runit.signals, shutdown, in_container, remounts);
    Ok(0)
}

struct Runit {
    stages: Stages,
    signals: Signals,
    fallback: Option<Fallback>,
    /// Set once all stages are over: how to shut down, if a signal has decided that.
    finished: Option<Option<Shutdown>>,
}

/// Whether at least one stage file exists.
fn has_stages() -> bool {
    let exists = |stage| files::look(CWD, path_of(stage)).is_ok_and(|stat| stat.is_some());
    [Stage::One, Stage::Two, Stage::Three].into_iter().any(exists)
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
    /// Runs the stages until all are over. Returns how to shut down, if a signal has decided that.
    fn run(&mut self) -> Option<Shutdown> {
        self.handle(Event::Tick);
        let mut may_have_more_to_reap = false;
        loop {
            if let Some(shutdown) = self.finished {
                return shutdown;
            }
            let limit = if may_have_more_to_reap { Wait::Poll } else { Wait::until(self.stages.deadline()) };
            signals::wait(&self.signals, limit);
            let (mut cont, mut int, mut pwr, mut term) = (false, false, false, false);
            self.signals.read_each(|came| match came.signal {
                Signal::CONT => cont = true,
                Signal::INT => int = true,
                // What podman sends to an entry called `/sbin/init`, and what systemd calls halt.
                Signal::PWR | Signal::HALT => pwr = true,
                Signal::TERM => term = true,
                _ => {}
            });
            may_have_more_to_reap = self.reap();
            // Without stages there is no other program that would act on TERM.
            if cont || (term && self.fallback.is_some()) {
                self.handle(Event::StopRequest);
            }
            if int {
                self.handle(Event::Request(Script::CtrlAltDel));
            }
            if pwr {
                self.handle(Event::Request(Script::PowerFail));
            }
            self.handle(Event::Tick);
        }
    }

    /// Reaps children and orphans that have ended, at most [`REAP_AT_ONCE`]. Returns whether there may be more.
    fn reap(&mut self) -> bool {
        for _ in 0..REAP_AT_ONCE {
            let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) else { return false };
            if let Some(how) = Ended::from_status(status) {
                self.handle(Event::Ended(pid, how));
            }
        }
        true
    }

    /// Handles an event, and the answers to the actions that follow from it.
    fn handle(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let flags = Flags {
                ctrl_alt_del: flags::is_set(path_of_script(Script::CtrlAltDel)),
                power_fail: flags::is_set(path_of_script(Script::PowerFail)),
                stop_it: matches!(event, Event::StopRequest | Event::Ended(..)) && flags::stop_it(),
            };
            // At most one of the actions has an answer: a start, which is the last of them.
            for action in self.stages.step(clock::monotonic(), flags, event) {
                if let Some(answer) = self.perform(action) {
                    next = Some(answer);
                }
            }
        }
    }

    /// Performs an action. Returns the answer of one that starts a program.
    fn perform(&mut self, action: StageAction) -> Option<Event> {
        match action {
            StageAction::Announce(notice) => self.announce(notice),
            StageAction::Start(stage) => return Some(self.start(stage)),
            StageAction::Run(script) => {
                return Some(program::start(path_of_script(script), Input::WriteOnlyConsole));
            }
            StageAction::Term(pid) => {
                let _ = signal::send(pid, Signal::TERM);
                let _ = signal::send(pid, Signal::CONT);
            }
            StageAction::Kill(pid) => drop(signal::send(pid, Signal::KILL)),
            StageAction::KillGroup(pid) => drop(signal::send_to_group(pid, Signal::KILL)),
            StageAction::ClearStopIt => flags::clear_stop_it(),
            StageAction::Finish(shutdown) => self.finished = Some(shutdown),
        }
        None
    }

    fn start(&self, stage: Stage) -> Event {
        match (&self.fallback, stage) {
            (Some(fallback), _) => fallback.start(),
            (None, Stage::One) => program::start(path_of(stage), Input::Terminal),
            (None, Stage::Two | Stage::Three) => program::start(path_of(stage), Input::WriteOnlyConsole),
        }
    }

    fn announce(&self, notice: Notice) {
        let stage = |stage: Stage| path_of(stage).to_bytes();
        let script = |script: Script| path_of_script(script).to_bytes();
        match notice {
            Notice::Enter(_) | Notice::Leave(_) if self.fallback.is_some() => {}
            Notice::Enter(it) => say(&[b"enter stage: ", stage(it)]),
            Notice::Leave(it) => say(&[b"leave stage: ", stage(it)]),
            Notice::Failed(it) => report(Class::Warning, &[b"child failed: ", stage(it)]),
            Notice::Crashed(it) => report(Class::Warning, &[b"child crashed: ", stage(it)]),
            Notice::SkippingStage2 => report(Class::Warning, &[b"skipping stage 2..."]),
            Notice::KillingStage2 => report(Class::Warning, &[b"killing all processes in stage 2..."]),
            Notice::Restarting => report(Class::Warning, &[b"restarting."]),
            Notice::SignalsOnlyInStage2 => report(Class::Warning, &[b"signals only work in stage 2."]),
            Notice::CtrlAltDel => say(&[b"ctrl-alt-del request..."]),
            Notice::PowerFail => say(&[b"power failure..."]),
            Notice::EnterScript(it) => say(&[b"enter stage: ", script(it)]),
            Notice::LeaveScript(it) => say(&[b"leave stage: ", script(it)]),
            Notice::ScriptCrashed(it) => report(Class::Warning, &[b"child crashed: ", script(it)]),
            Notice::NotTerminated => {
                report(Class::Warning, &[b"stage 2 not terminated, sending sigkill..."]);
            }
        }
    }
}
