//! The signals of process 1.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use svcore::Signal;
use svcore::event::{self, Wait};
use svcore::say::Class;
use svcore::sys::clock;
use svcore::sys::signals::Signals;

use super::console::report;
use super::stages::PAUSE;

/// Takes over the signals that process 1 gets. Nothing works without them, so a failure is tried again until it works.
pub(crate) fn take_over() -> Signals {
    let wanted = [
        Signal::CHLD,
        Signal::CONT,
        Signal::INT,
        Signal::PWR,
        Signal::HALT,
        // Used by the fallback only. With stages they are taken over too, and ignored.
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
                event::wait(&mut [], Wait::Until(clock::monotonic().saturating_add(PAUSE)));
            }
        }
    }
}

/// Waits for a signal, but no longer than `limit`.
pub(crate) fn wait(signals: &Signals, limit: Wait) {
    event::wait(&mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)], limit);
}
