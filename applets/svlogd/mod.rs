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
//! | one input and its directories     |                               | `stream`                                                      |
//! | logs of services without `log/run` | `config`                     | `place`, `shared`                                             |
//! | standard input, `-l`, `-r`, `-R`  | `line`, `replace`             | `input`                                                       |
//! | timestamps, `-t`                  | `stamp`, `label`              | `input`                                                       |
//! | log directory, `lock`             |                               | `place`, `logdir`, `logdir/locked_directory`                  |
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
mod place;
mod processor;
mod replace;
mod report;
mod shared;
mod stamp;
mod stream;
mod udp;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{WaitOptions, wait};
use svcore::event::{self, Wait, Woken};
use svcore::logger::account;
use svcore::moment::Moment;
use svcore::say::Message;
use svcore::sys::clock;
use svcore::sys::signals::Signals;
use svcore::{Call, Context, Failed, Result, Signal};

use input::Block;
use options::Logs;
use place::Place;
use stream::Stream;

/// Runs the applet until its input ends or TERM arrives.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let mut options = options::parse(call.args)?;
    let signals = Signals::wait_for(&[Signal::TERM, Signal::HUP, Signal::ALRM, Signal::CHLD])
        .while_doing(|| "unable to open current working directory")?;
    let operands = std::mem::take(&mut options.directories);
    let places = match options.logs {
        Logs::Named => operands.into_iter().map(Place::Named).collect(),
        Logs::Hosted => vec![hosted(operands)?],
        Logs::Shared => return shared::serve(&options, &operands, &signals),
    };
    let mut svlogd = Svlogd {
        stream: Stream::new(&options, places),
        block: Block::default(),
        verbose: options.settings().verbose,
    };
    svlogd.open_all()?;
    svlogd.serve(&signals)?;
    Ok(0)
}

/// The log of a service without `log/run`, in whose directory `log` runsv has started us. Becomes the user in `log/user`.
fn hosted(operands: Vec<OsString>) -> Result<Place, Failed> {
    let mut operands = operands.into_iter();
    let name = operands.next().unwrap_or_default();
    let instance = operands.next().and_then(|instance| CString::new(instance.into_vec()).ok());
    svcore::sys::arguments::set_process_name("svlogd");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let log = openat(CWD, c".", flags, Mode::empty()).while_doing(|| "unable to open log directory")?;
    let account = account::of(log.as_fd()).map_err(|failed| naming(&name, failed))?;
    if let Some(account) = account {
        account::become_it(&account).map_err(|failed| naming(&name, failed))?;
    }
    Ok(Place::Hosted { log, name, instance })
}

/// Adds which log a failure is about.
fn naming(log: &OsStr, failed: Failed) -> Failed {
    failed.about(log.as_bytes())
}

struct Svlogd {
    stream: Stream,
    block: Block,
    verbose: bool,
}

/// What a wait found.
struct Ready {
    signal: bool,
    input: bool,
}

impl Svlogd {
    fn open_all(&mut self) -> Result<(), Failed> {
        if self.stream.open_all(&mut |_| true) {
            Ok(())
        } else {
            Err(Failed::without_cause("no functional log directories."))
        }
    }

    /// Logs until the input has ended and everything is written and processed, or until the deadline after TERM.
    fn serve(&mut self, signals: &Signals) -> Result<(), Failed> {
        while !self.stream.advance(self.now()) {
            let wants_input = self.stream.wants_input();
            let ready = self.wait(signals, wants_input);
            if ready.signal && self.handle_signals(signals)? && self.stream.terminate(clock::monotonic()) {
                self.info("sigterm received.");
                continue;
            }
            if ready.input {
                self.stream.read(rustix::stdio::stdin(), &mut self.block);
            }
        }
        self.stream.close();
        Ok(())
    }

    /// The monotonic clock, if anything depends on it; otherwise the call is saved.
    fn now(&self) -> Moment {
        if self.stream.needs_clock() { clock::monotonic() } else { Moment::START }
    }

    /// Waits for a signal, for input if `wants_input`, and for the first deadline.
    fn wait(&self, signals: &Signals, wants_input: bool) -> Ready {
        let deadline = self.stream.deadline();
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
        let arrived = Arrived::read(signals);
        if arrived.child {
            self.reap(clock::monotonic());
        }
        if arrived.alarm {
            self.info("sigalarm received.");
            self.stream.rotate();
        }
        if arrived.hangup {
            self.info("sighangup received.");
            self.open_all()?;
        }
        Ok(arrived.term)
    }

    fn reap(&mut self, now: Moment) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.info("sigchild received.");
            self.stream.processor_ended(pid, status.exit_status() == Some(0), now);
        }
    }

    fn info(&self, what: &str) {
        if self.verbose {
            Message::info("svlogd", what).print();
        }
    }
}

/// The signals that have arrived.
#[derive(Default)]
struct Arrived {
    term: bool,
    hangup: bool,
    alarm: bool,
    child: bool,
}

impl Arrived {
    fn read(signals: &Signals) -> Self {
        let mut arrived = Arrived::default();
        signals.read_each(|came| match came.signal {
            Signal::TERM => arrived.term = true,
            Signal::HUP => arrived.hangup = true,
            Signal::ALRM => arrived.alarm = true,
            Signal::CHLD => arrived.child = true,
            _ => {}
        });
        arrived
    }
}
