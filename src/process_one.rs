//! Process 1: a machine or a container lives exactly as long as it does, so a bug must not end it.

use rustix::process::{Pid, WaitOptions, getpid, wait};

use crate::say::Message;
use crate::sys::allocator;
use crate::sys::faults::{self, AfterFault, Decide, Fault};
use crate::sys::output;
use crate::sys::signal::Signal;

/// Whether we are process 1, of a machine or of a container.
#[must_use]
pub fn is_process_one() -> bool {
    getpid() == Pid::INIT
}

/// From now on neither a bug of ours nor a lack of memory ends this process: the services and the orphans still need it.
///
/// `name` begins the message about a panic. The profile says `panic = "abort"`, and the abort follows when the hook
/// returns; so the hook does not return. Other bugs become signals of the kernel, see [`faults`].
pub fn survive_bugs(name: &'static str) {
    allocator::wait_for_memory();
    faults::catch::<ReapAfterFault>();
    std::panic::set_hook(Box::new(move |info| {
        Message::fatal(name, &format!("bug: {info}")).print_now();
        only_reap()
    }));
}

/// After a fault of process 1: reports it, and goes on with nothing but reaping.
struct ReapAfterFault;

impl Decide for ReapAfterFault {
    fn decide(fault: Fault) -> AfterFault {
        let us = getpid();
        if fault.sent && fault.sender != Some(us) {
            // Another process pretends that there was a fault.
            return AfterFault::GoOn;
        }
        if us != Pid::INIT {
            // A child that has not executed its program yet.
            return AfterFault::End;
        }
        let message: &[u8] = match fault.signal {
            Signal::SEGV => b"fatal: bug: signal SEGV, only reaping from now on\n",
            Signal::BUS => b"fatal: bug: signal BUS, only reaping from now on\n",
            Signal::ILL => b"fatal: bug: signal ILL, only reaping from now on\n",
            Signal::ABRT => b"fatal: bug: signal ABRT, only reaping from now on\n",
            _ => b"fatal: bug: a fault, only reaping from now on\n",
        };
        let _ = output::write(rustix::stdio::stderr(), message);
        only_reap()
    }
}

/// What is still done after a bug: the ends of orphans are collected. Makes system calls and nothing else.
fn only_reap() -> ! {
    loop {
        // Waits as long as there is any child. Orphans become children of process 1.
        while wait(WaitOptions::empty()).is_ok() {}
        let second = rustix::thread::Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = rustix::thread::nanosleep(&second);
    }
}
