//! The one place where a program waits: for descriptors, and until a moment.

use std::time::Duration;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use crate::sys::{clock, memory};

/// Waits until one of `fds` is ready or the monotonic clock has reached `until`, whichever is first.
///
/// Without `until` it waits for as long as it takes: nothing happens, nothing wakes. Gives whether it could not
/// wait; then nothing is known, and each descriptor is worth a look.
pub fn wait(fds: &mut [PollFd<'_>], until: Option<Duration>) -> bool {
    let timeout = until.map(|until| {
        let left = until.saturating_sub(clock::monotonic());
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    });
    memory::forget_executable();
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => false,
        // Out of memory for a moment, or more descriptors than the limit allows. Reading one that is not ready
        // does no harm; meanwhile the processor is left to others.
        Err(_) => {
            let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let _ = poll(&mut [], Some(&pause));
            true
        }
    }
}

/// The earlier of two moments, where there are any.
#[must_use]
pub fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
