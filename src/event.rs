//! The one place where a program waits: for descriptors, and until a moment.

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use crate::moment::Moment;
use crate::sys::clock;

/// How long to wait when no descriptor becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: only look which descriptors are ready.
    Poll,
    /// Until the monotonic clock has reached this moment.
    Until(Moment),
    /// Without a limit.
    Forever,
}

impl Wait {
    /// Until the moment, if there is one.
    #[must_use]
    pub fn until(moment: Option<Moment>) -> Self {
        moment.map_or(Wait::Forever, Wait::Until)
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// At least one descriptor is ready; their `revents` tell which.
    Ready,
    /// No descriptor is ready: the time is over, or a signal interrupted the wait.
    NotReady,
    /// The wait itself failed, so nothing is known: treat every descriptor as ready.
    Unknown,
}

/// Waits until one of `fds` is ready, but no longer than `wait` says.
pub fn wait(fds: &mut [PollFd<'_>], wait: Wait) -> Woken {
    let span = |left: std::time::Duration| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    let timeout = match wait {
        Wait::Poll => Some(span(std::time::Duration::ZERO)),
        Wait::Until(moment) => Some(span(moment.since(clock::monotonic()))),
        Wait::Forever => None,
    };
    match poll(fds, timeout.as_ref()) {
        Ok(0) | Err(Errno::INTR) => Woken::NotReady,
        Ok(_) => Woken::Ready,
        // Out of memory for a moment, or more descriptors than the limit allows. The caller reads from all of them,
        // which harms none that is not ready, and comes back here; the pause keeps that from taking the processor.
        Err(_) => {
            let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let _ = poll(&mut [], Some(&pause));
            Woken::Unknown
        }
    }
}
