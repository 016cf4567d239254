//! The signals by which the kernel reports a fault of the process itself, such as SEGV.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "elsewhere faults are not caught"))]

use rustix::process::Pid;

use super::signal::Signal;

/// A fault, or a signal that looks like one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// The signal.
    pub signal: Signal,
    /// The process that sent it; `None` if the kernel did, or if the sender has no number here.
    pub sender: Option<Pid>,
    /// Whether a process sent it.
    pub sent: bool,
}

/// What happens after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFault {
    /// Nothing: it was no fault.
    GoOn,
    /// The process ends by the default action of the signal.
    End,
}

/// Decides about a fault; may also never return. It runs on a stack of its own, perhaps while anything is half done, so
/// it may make system calls and nothing else: no allocation, no lock.
pub(crate) trait Decide {
    /// What happens after `fault`.
    fn decide(fault: Fault) -> AfterFault;
}

/// From now on `D` decides what happens after a fault. Only on Linux; elsewhere nothing changes.
pub(crate) fn catch<D: Decide>() {
    #[cfg(target_os = "linux")]
    here::catch::<D>();
}

#[cfg(target_os = "linux")]
mod here {
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    use nix::libc;
    use rustix::process::Pid;

    use super::{AfterFault, Decide, Fault, Signal};

    /// The signals of faults.
    const FAULTS: [libc::c_int; 7] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

    /// A stack for the handler, since the fault may be that the stack is exhausted. Only the pages that are used take
    /// memory; the kernel's frame alone may take 12 KiB.
    #[repr(C, align(4096))]
    struct Stack(UnsafeCell<[u8; Stack::SIZE]>);

    impl Stack {
        const SIZE: usize = 64 * 1024;
    }

    // SAFETY: only the kernel touches it, and the handler that runs on it.
    unsafe impl Sync for Stack {}

    static STACK: Stack = Stack(UnsafeCell::new([0; Stack::SIZE]));

    extern "C" fn at_fault<D: Decide>(
        number: libc::c_int,
        info: *mut libc::siginfo_t,
        _context: *mut libc::c_void,
    ) {
        let Some(signal) = Signal::from_number(number) else { return };
        // SAFETY: the kernel passes what SA_SIGINFO asked for, and it stays valid until the handler returns.
        let info = unsafe { &*info };
        let sent = info.si_code <= 0;
        // SAFETY: the field is a number in any case, and only used where a process sent the signal.
        let sender = unsafe { info.si_pid() };
        let sender = if sent && sender > 0 { Pid::from_raw(sender) } else { None };
        if D::decide(Fault { signal, sender, sent }) == AfterFault::End {
            // A fault happens again as soon as this returns, and then ends the process.
            super::super::signal::set_default(signal);
            if sent {
                // SAFETY: ends this process only.
                unsafe { libc::_exit(111) };
            }
        }
    }

    pub(super) fn catch<D: Decide>() {
        let stack = libc::stack_t { ss_sp: STACK.0.get().cast(), ss_flags: 0, ss_size: Stack::SIZE };
        // SAFETY: the memory exists for ever, and nothing else uses it.
        unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: an action of zeros is a valid one; `sa_mask` is an empty set.
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = at_fault::<D> as *const () as libc::sighandler_t;
        // A second fault, in the handler itself, ends up in the handler, too.
        action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO | libc::SA_NODEFER;
        for signal in FAULTS {
            // SAFETY: the handler makes system calls and touches nothing of ours; `action` is complete.
            unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
        }
    }
}
