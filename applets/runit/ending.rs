//! The end of a machine, or of a container.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use svcore::Signal;
use svcore::error::reason_of;
use svcore::event::{self, Wait};
use svcore::say::Class;
use svcore::service::host;
use svcore::service::words::Ended;
use svcore::sys::clock;
use svcore::sys::fork::fork_to;
use svcore::sys::signal;
use svcore::sys::signals::Signals;

use super::console::{report, say};
use super::flags;
use super::stages::Ending;

/// How long writing everything to disk may take.
const SYNC: Duration = Duration::from_secs(60);
/// How long is waited before a machine that does not end is told to again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a machine may take over turning itself off.
const POWER_OFF: Duration = Duration::from_secs(2);

/// Ends everything. Returns only in a container that may not do what machines do, and there there is nothing left.
pub(crate) fn end(signals: &Signals, ending: Option<Ending>, machine: bool, least: bool) {
    say(&[b"sending KILL signal to all processes..."]);
    let _ = signal::send_to_every_process(Signal::KILL);
    let ending = ending.unwrap_or(if flags::reboot() { Ending::Reboot } else { Ending::PowerOff });
    say(&[if ending == Ending::Reboot { b"system reboot." } else { b"power off...".as_slice() }]);
    loop {
        let syncs = !flags::nosync();
        // By another process: not to be held up by a disk that does not answer; and process 1 must not be the one
        // that asks for a halt, since that ends the one who asks.
        let errno = match fork_to(|| last_steps(ending, syncs, least && machine)) {
            Ok(child) => wait_for(signals, child, SYNC),
            Err(_) => Some(last_steps(ending, false, false)),
        };
        match errno {
            Some(errno) if !machine => {
                let why = reason_of(errno.into());
                report(
                    Class::Warning,
                    &[b"unable to end the container: ", why.as_bytes(), b"; exiting instead"],
                );
                return;
            }
            Some(0) => {}
            Some(errno) => report(
                Class::Warning,
                &[b"unable to end the machine: ", reason_of(errno.into()).as_bytes(), b"; trying again"],
            ),
            None => {
                report(Class::Warning, &[b"writing to disk takes too long, going on without"]);
                let _ = last_steps(ending, false, false);
            }
        }
        pause(signals, AGAIN);
    }
}

/// Gives the number of the error.
fn last_steps(ending: Ending, syncs: bool, remounts: bool) -> u8 {
    if syncs {
        rustix::fs::sync();
    }
    if remounts {
        let read_only = rustix::mount::MountFlags::RDONLY;
        // Where it cannot be, it was synced.
        let _ = rustix::mount::mount_remount(c"/", read_only, c"");
    }
    let mut failed = Ok(());
    let commands: &[RebootCommand] = match ending {
        Ending::Reboot => &[RebootCommand::Restart],
        Ending::PowerOff => &[RebootCommand::PowerOff, RebootCommand::Halt],
    };
    for command in commands {
        if *command == RebootCommand::Halt {
            event::wait(&mut [], Wait::Until(clock::monotonic().saturating_add(POWER_OFF)));
            say(&[b"system halt."]);
        }
        failed = reboot(*command);
        if failed.is_err() {
            break;
        }
    }
    failed.err().map_or(0, |errno| u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX))
}

/// Waits for the end of a process, and gives the code it exits with; `None` if it takes too long.
fn wait_for(signals: &Signals, child: Pid, time: Duration) -> Option<u8> {
    let until = clock::monotonic().saturating_add(time);
    loop {
        while clock::monotonic() < until
            && let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG)
        {
            if pid == child {
                return Some(match host::ended(status) {
                    Some(Ended::Code(code)) => code,
                    _ => 0,
                });
            }
        }
        if clock::monotonic() >= until {
            return None;
        }
        super::wait(signals, Wait::Until(until));
        signals.take(|_| {});
    }
}

/// Reaps for a while.
fn pause(signals: &Signals, time: Duration) {
    let until = clock::monotonic().saturating_add(time);
    while clock::monotonic() < until {
        super::wait(signals, Wait::Until(until));
        signals.take(|_| {});
        while clock::monotonic() < until
            && let Ok(Some(_)) = wait(WaitOptions::NOHANG)
        {}
    }
}
