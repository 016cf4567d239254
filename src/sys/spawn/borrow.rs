//! A child that borrows our memory, and suspends us meanwhile, until it has executed the program (`CLONE_VM`,
//! `CLONE_VFORK`).

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use nix::libc;
use rustix::process::Pid;

use super::super::fork::pid_of;
use super::child::{ChildTask, become_program};

/// Size of the child's stack, in bytes.
///
/// It lies in our own stack, of which an idle supervisor keeps every page that was ever touched, so it is small. The child
/// makes a few system calls and calls nothing that allocates or formats. Built for release it was measured to need 952
/// bytes (musl) or 1,136 (glibc); a test keeps a quarter of the stack free. Without optimization it needs several times as
/// much.
const STACK: usize = if cfg!(debug_assertions) { 32 * 1024 } else { 2 * 1024 };

/// What lies at the end of the stack that the child reaches last. If it has changed, the child wrote beyond its stack.
const GUARD: u128 = 0x5f3a_91c7_0d2e_68b4_a1f0_4c9d_37e6_528b;

#[repr(C, align(16))]
struct Stack {
    guard: u128,
    memory: [MaybeUninit<u8>; STACK],
}

/// Starts the child.
///
/// # Errors
///
/// That of clone(2).
pub(super) fn begin(task: &mut ChildTask<'_>) -> io::Result<Pid> {
    extern "C" fn child(task: *mut libc::c_void) -> c_int {
        // SAFETY: it is the `task` of `begin`, which is suspended until we no longer use it.
        let task = unsafe { &mut *task.cast::<ChildTask<'_>>() };
        task.seen = true;
        task.failed = Some(become_program(task));
        // SAFETY: ends this process only, and runs nothing of ours on the way.
        unsafe { libc::_exit(111) }
    }

    let table = if task.shared_below.is_some() { libc::CLONE_FILES } else { 0 };
    let mut stack = Stack { guard: 0, memory: [MaybeUninit::uninit(); STACK] };
    // SAFETY: a value of our own. Volatile, so that it is written before the child runs.
    unsafe { ptr::write_volatile(&raw mut stack.guard, GUARD) };
    #[cfg(test)]
    stack.memory.fill(MaybeUninit::new(tests::UNTOUCHED));
    let top = stack.memory.as_mut_ptr_range().end;
    // SAFETY: CLONE_VFORK suspends us until the child has executed the program or ended, so `task` and `stack` live
    // longer than its use of them; `stack` is aligned and nobody else uses it. No handler is installed that could
    // change our memory in the child: the signals that we wait for are blocked (see `signals`), and the handler of
    // faults only ends it.
    let pid = unsafe {
        libc::clone(
            child,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | table | libc::SIGCHLD,
            ptr::from_mut(task).cast(),
        )
    };
    let made = pid_of(pid);
    #[cfg(test)]
    tests::note(&stack.memory);
    // SAFETY: a value of our own. Volatile, since the compiler does not know that the child may have written to it.
    if unsafe { ptr::read_volatile(&raw const stack.guard) } != GUARD {
        // Whatever lies below may have been overwritten, too.
        std::process::abort();
    }
    made
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::sys::spawn::{Program, Stream, Terminal, spawn};

    /// What the stack is filled with.
    pub(super) const UNTOUCHED: u8 = 0xa5;
    static MOST: AtomicUsize = AtomicUsize::new(0);

    /// Notes how much of its stack a child has used.
    pub(super) fn note(memory: &[MaybeUninit<u8>; STACK]) {
        // SAFETY: all of it was filled.
        let is_untouched = |byte: &&MaybeUninit<u8>| unsafe { byte.assume_init() } == UNTOUCHED;
        MOST.fetch_max(STACK - memory.iter().take_while(is_untouched).count(), Relaxed);
    }

    #[test]
    fn a_child_leaves_a_quarter_of_its_stack_untouched() {
        let null =
            rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
        let stream = Stream::Is(rustix::fd::AsFd::as_fd(&null));
        let program = Program {
            files: &[c"/nowhere/true", c"/bin/true"],
            search: crate::sys::spawn::Search(crate::exec::path_rule),
            argv: &[c"true"],
            directory: Some(rustix::fs::CWD).filter(|_| false),
            stdin: stream,
            stdout: stream,
            stderr: stream,
            new_session: true,
            terminal: Terminal::Controlling,
            default_pipe: true,
            ..Program::default()
        };
        for terminal in [Terminal::Inherit, Terminal::Foreground, Terminal::Controlling] {
            let pid = spawn(&Program { terminal, ..program }).unwrap();
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        }
        let used = MOST.load(Relaxed);
        assert!(used > 0 && used <= STACK / 4 * 3, "{used} of {STACK} bytes");
    }
}
