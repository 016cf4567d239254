//! What happens where there is no memory.

use std::alloc::Layout;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

/// Whether this process waits for memory; see [`wait_for_memory`].
static WAITS: AtomicBool = AtomicBool::new(false);
/// Whether the message about it was written.
static REPORTED: AtomicBool = AtomicBool::new(false);
/// The largest request that is waited for, in bytes. Nothing here needs more, so a larger one is a mistake that no wait
/// would mend.
const LARGEST: usize = 1 << 30;
/// The pause between two attempts, in nanoseconds.
const PAUSE: i64 = 20_000_000;

/// From now on an allocation that fails is tried again until it succeeds, where it would otherwise end the process.
pub(crate) fn wait_for_memory() {
    WAITS.store(true, Release);
}

/// After an allocation failed: pauses, and returns whether to try again.
pub(super) fn pause(layout: Layout) -> bool {
    if !WAITS.load(Acquire) || layout.size() > LARGEST {
        return false;
    }
    if !REPORTED.swap(true, Acquire) {
        // Nothing here may allocate.
        let _ = super::super::output::write(rustix::stdio::stderr(), b"warning: out of memory, waiting\n");
    }
    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: PAUSE };
    let _ = rustix::event::poll(&mut [], Some(&pause));
    true
}
