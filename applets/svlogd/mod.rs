//! `svlogd`: write standard input to log directories that are rotated. Source: svlogd(8).
//!
//! Input is read in large blocks, and what a block has for a directory is written with one call. No line waits for
//! another: what was read is written before svlogd waits for anything else. Only the beginning of an incomplete line is
//! held back, fewer bytes than `-l`. So if svlogd is killed, at most one block of 64 KiB and that beginning are lost, and
//! nothing that was not read.
//!
//! Descriptor 0 stays blocking, since a non-blocking mode would hold for every process that shares it. It is read only
//! when poll(2) reports that there is input.
//!
//! Where each subject of svlogd(8) is found:
//!
//! | subject                           | decided by (pure)             | done by                                                       |
//! |-----------------------------------|-------------------------------|---------------------------------------------------------------|
//! | options                           | `options`                     | `options`                                                     |
//! | standard input, `-l`, `-r`, `-R`  | `line`, `replace`             | `input`                                                       |
//! | timestamps, `-t`                  | `stamp`, `label`              | `input`                                                       |
//! | log directory, `lock`             |                               | `logdir`, `logdir/locked_directory`                           |
//! | `current`                         | `logdir/pending`, `limit`     | `logdir/current`, `logdir/writing`, `completion`              |
//! | `config`, patterns                | `config`, `pattern`           | `logdir/config_file`                                          |
//! | rotation, old logs                | `limit`, `label`, `old_log`   | `logdir/rotation`, `logdir/old_logs`                          |
//! | disk full, `-L`, `N`              | `logdir/pending`, `old_log`   | `logdir/writing`, `logdir/old_logs`                           |
//! | processor                         | `processor`                   | `processor/job`, `gzip`                                       |
//! | UDP                               |                               | `udp`                                                         |
//! | messages, `-v`                    |                               | `report`                                                      |
//! | signals                           |                               | this file                                                     |

#![deny(clippy::arithmetic_side_effects)]

mod completion;
mod config;
mod gzip;
mod input;
mod limit;
mod line;
mod logdir;
mod old_log;
mod options;
mod pattern;
mod processor;
mod replace;
mod report;
mod stamp;
mod udp;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::process::{WaitOptions, wait};
use svcore::event::{self, Wait, Woken};
use svcore::moment::Moment;
use svcore::say::Message;
use svcore::sys::clock;
use svcore::sys::signals::Signals;
use svcore::{Call, Context, Failed, Result, Signal};

use input::Input;
use logdir::LogDir;
use options::{Options, Settings};

/// After TERM: how long svlogd waits for the end of the current line.
const LINE_END_PATIENCE: Duration = Duration::from_secs(1);
/// After TERM: when svlogd exits, whatever is left to do.
const EXIT_PATIENCE: Duration = Duration::from_secs(4);

/// Runs the applet until its input ends or TERM arrives.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let options = options::parse(call.args)?;
    let signals = Signals::wait_for(&[Signal::TERM, Signal::HUP, Signal::ALRM, Signal::CHLD])
        .while_doing(|| "unable to open current working directory")?;
    let mut svlogd = Svlogd::new(options);
    svlogd.open_all()?;
    svlogd.serve(&signals)?;
    Ok(0)
}

struct Svlogd {
    /// The log directories as typed.
    names: Vec<OsString>,
    settings: Settings,
    input: Input,
    /// Those of the directories that can be used.
    logs: Vec<LogDir>,
}

/// The deadlines that TERM sets.
#[derive(Clone, Copy)]
struct Termination {
    /// Until then the rest of the current line is read.
    line_end: Moment,
    /// Then svlogd exits, whatever is left to do.
    exit: Moment,
}

/// What a wait found.
struct Ready {
    signal: bool,
    input: bool,
}

impl Svlogd {
    fn new(options: Options) -> Self {
        Svlogd {
            settings: options.settings(),
            input: Input::new(&options),
            names: options.directories,
            logs: Vec::new(),
        }
    }

    /// Opens all directories; those that are open are reopened.
    fn open_all(&mut self) -> Result<(), Failed> {
        let mut before = std::mem::take(&mut self.logs);
        for name in &self.names {
            let open = before.iter().position(|log| log.name() == name.as_bytes());
            match open.map(|at| before.remove(at)) {
                Some(mut log) => {
                    if log.reopen() {
                        self.logs.push(log);
                    } else {
                        log.close();
                    }
                }
                None => self.logs.extend(LogDir::open(name, self.settings)),
            }
        }
        if self.logs.is_empty() {
            Err(Failed::without_cause("no functional log directories."))
        } else {
            Ok(())
        }
    }

    /// Logs until the input has ended and everything is written and processed, or until the deadline after TERM.
    fn serve(&mut self, signals: &Signals) -> Result<(), Failed> {
        let mut termination: Option<Termination> = None;
        let mut input_ended = false;
        loop {
            let now = self.now(termination.is_some());
            for log in &mut self.logs {
                log.advance(now);
            }
            if termination.is_some_and(|at| now >= at.line_end || self.input.is_between_lines()) {
                input_ended = true;
            }
            let is_behind = self.logs.iter().any(LogDir::is_behind);
            if input_ended && !is_behind && self.is_finished(now) {
                break;
            }
            if termination.is_some_and(|at| now >= at.exit) {
                break;
            }
            let deadline = termination.map(|at| if input_ended { at.exit } else { at.line_end });
            let ready = self.wait(signals, !input_ended && !is_behind, deadline);
            if ready.signal && self.handle_signals(signals)? && termination.is_none() {
                self.info("sigterm received.");
                let now = clock::monotonic();
                termination = Some(Termination {
                    line_end: now.saturating_add(LINE_END_PATIENCE),
                    exit: now.saturating_add(EXIT_PATIENCE),
                });
                self.logs.iter_mut().for_each(LogDir::hurry);
                continue;
            }
            if ready.input && !input_ended {
                input_ended = match termination {
                    None => self.input.read_block(&mut self.logs),
                    Some(_) => self.input.read_byte(&mut self.logs),
                };
            }
        }
        for log in &mut self.logs {
            log.close();
        }
        Ok(())
    }

    /// The monotonic clock, if anything depends on it; otherwise the call is saved.
    fn now(&self, is_terminating: bool) -> Moment {
        let is_needed = is_terminating || self.logs.iter().any(LogDir::needs_clock);
        if is_needed { clock::monotonic() } else { Moment::START }
    }

    /// After the end of the input: writes its last line. Returns whether everything is written and processed.
    fn is_finished(&mut self, now: Moment) -> bool {
        self.input.end_last_line(&mut self.logs);
        for log in &mut self.logs {
            log.finish(now);
        }
        !self.logs.iter().any(|log| log.is_behind() || log.is_processing())
    }

    /// Waits for a signal, for input if `wants_input`, and for the first deadline.
    fn wait(&self, signals: &Signals, wants_input: bool, deadline: Option<Moment>) -> Ready {
        let deadline = self.logs.iter().map(LogDir::deadline).chain([deadline]).flatten().min();
        let mut fds = [
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN),
        ];
        let polled = if wants_input { &mut fds[..] } else { &mut fds[..1] };
        let woken = event::wait(polled, Wait::until(deadline));
        let is_ready = |fd: &PollFd<'_>| woken == Woken::Unknown || !fd.revents().is_empty();
        let [signal, input] = &fds;
        Ready { signal: is_ready(signal), input: wants_input && is_ready(input) }
    }

    /// Does what the signals that have arrived ask for. Returns whether TERM is among them.
    fn handle_signals(&mut self, signals: &Signals) -> Result<bool, Failed> {
        let (mut term, mut hangup, mut alarm, mut child) = (false, false, false, false);
        signals.read_each(|came| match came.signal {
            Signal::TERM => term = true,
            Signal::HUP => hangup = true,
            Signal::ALRM => alarm = true,
            Signal::CHLD => child = true,
            _ => {}
        });
        if child {
            self.reap(clock::monotonic());
        }
        if alarm {
            self.info("sigalarm received.");
            self.logs.iter_mut().for_each(LogDir::rotate);
        }
        if hangup {
            self.info("sighangup received.");
            self.open_all()?;
        }
        Ok(term)
    }

    fn reap(&mut self, now: Moment) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.info("sigchild received.");
            let succeeded = status.exit_status() == Some(0);
            for log in &mut self.logs {
                if log.processor_ended(pid, succeeded, now) {
                    break;
                }
            }
        }
    }

    fn info(&self, what: &str) {
        if self.settings.verbose {
            Message::info("svlogd", what).print();
        }
    }
}
