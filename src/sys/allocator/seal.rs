//! A check that nothing is allocated any more.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

static SEALED: AtomicBool = AtomicBool::new(false);

/// From now on nothing should be allocated. A build with debug assertions reports an allocation on standard error, and
/// goes on.
pub fn seal() {
    SEALED.store(true, Release);
}

/// Reports an allocation after [`seal`].
pub(super) fn check() {
    if cfg!(debug_assertions) && SEALED.load(Acquire) {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"bug: allocated after the start\n");
    }
}
