//! Shuts down: ends all processes, syncs, and powers the machine off or reboots it; or ends the container.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use svcore::Signal;
use svcore::error::reason_of;
use svcore::event::{self, Wait};
use svcore::process::Ended;
use svcore::say::Class;
use svcore::sys::clock;
use svcore::sys::fork::fork_to;
use svcore::sys::signal;
use svcore::sys::signals::Signals;

use super::console::{report, say};
use super::flags;
use super::signals;
use super::stages::Shutdown;

/// How long the child that syncs and shuts down may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);
/// How long runit waits before it tries again to shut down.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a machine has to power off before it is halted instead.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(2);

/// Kills all processes and shuts down. Without a `shutdown`, the flag `reboot` decides. If `remounts`, the root file
/// system is made read-only.
///
/// Returns only in a container that has not the right to shut down; by then none of its other processes is left.
pub(crate) fn shut_down(signals: &Signals, shutdown: Option<Shutdown>, in_container: bool, remounts: bool) {
    say(&[b"sending KILL signal to all processes..."]);
    let _ = signal::send_to_every_process(Signal::KILL);
    let shutdown = shutdown.unwrap_or(if flags::reboot() { Shutdown::Reboot } else { Shutdown::PowerOff });
    say(&[if shutdown == Shutdown::Reboot { b"system reboot." } else { b"power off...".as_slice() }]);
    loop {
        let syncs = !flags::nosync();
        // In a child: a disk that does not answer must not block process 1, and reboot(2) with the command to halt
        // ends the process that calls it.
        let errno = match fork_to(|| sync_and_reboot(shutdown, syncs, remounts)) {
            Ok(child) => wait_for_exit(signals, child, SYNC_TIMEOUT),
            Err(_) => Some(sync_and_reboot(shutdown, false, false)),
        };
        match errno {
            Some(errno) if in_container => {
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
                let _ = sync_and_reboot(shutdown, false, false);
            }
        }
        reap_for(signals, RETRY_AFTER);
    }
}

/// Syncs if `syncs`, makes the root file system read-only if `remounts`, and calls reboot(2). Returns the error number of
/// that call, or 0.
fn sync_and_reboot(shutdown: Shutdown, syncs: bool, remounts: bool) -> u8 {
    if syncs {
        rustix::fs::sync();
    }
    if remounts {
        let read_only = rustix::mount::MountFlags::RDONLY;
        // If this fails, the file system was synced at least.
        let _ = rustix::mount::mount_remount(c"/", read_only, c"");
    }
    let mut result = Ok(());
    let commands: &[RebootCommand] = match shutdown {
        Shutdown::Reboot => &[RebootCommand::Restart],
        Shutdown::PowerOff => &[RebootCommand::PowerOff, RebootCommand::Halt],
    };
    for command in commands {
        if *command == RebootCommand::Halt {
            event::wait(&mut [], Wait::Until(clock::monotonic().saturating_add(POWER_OFF_TIMEOUT)));
            say(&[b"system halt."]);
        }
        result = reboot(*command);
        if result.is_err() {
            break;
        }
    }
    result.err().map_or(0, |errno| u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX))
}

/// Waits until a child exits, and reaps others meanwhile. Returns its exit code, 0 if a signal ended it, and `None` after
/// `timeout`.
fn wait_for_exit(signals: &Signals, child: Pid, timeout: Duration) -> Option<u8> {
    let until = clock::monotonic().saturating_add(timeout);
    loop {
        while clock::monotonic() < until
            && let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG)
        {
            if pid == child {
                return Some(match Ended::from_status(status) {
                    Some(Ended::Code(code)) => code,
                    _ => 0,
                });
            }
        }
        if clock::monotonic() >= until {
            return None;
        }
        signals::wait(signals, Wait::Until(until));
        signals.read_each(|_| {});
    }
}

/// Waits for `span`, and reaps processes meanwhile.
fn reap_for(signals: &Signals, span: Duration) {
    let until = clock::monotonic().saturating_add(span);
    while clock::monotonic() < until {
        signals::wait(signals, Wait::Until(until));
        signals.read_each(|_| {});
        while clock::monotonic() < until
            && let Ok(Some(_)) = wait(WaitOptions::NOHANG)
        {}
    }
}
