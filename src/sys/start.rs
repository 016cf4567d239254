//! What C's `main` is given, and what has to be looked at before anything is opened.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};

/// The memory of the arguments, for those who write into it: `ps` reads it there.
static ARGV: AtomicPtr<*mut c_char> = AtomicPtr::new(std::ptr::null_mut());
static ARGC: AtomicUsize = AtomicUsize::new(0);

/// Copies the arguments and remembers where they lie.
///
/// # Safety
///
/// `argc` and `argv` are those that the C runtime called `main` with.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *mut *mut c_char) -> Vec<OsString> {
    let argc = usize::try_from(argc).unwrap_or(0);
    ARGV.store(argv, Relaxed);
    ARGC.store(argc, Relaxed);
    (0..argc).filter_map(|index| pointer(index).map(word)).collect()
}

/// The words of `main`, as they lie in memory.
fn pointer(index: usize) -> Option<*mut c_char> {
    let argv = ARGV.load(Relaxed);
    if argv.is_null() || index >= ARGC.load(Relaxed) {
        return None;
    }
    // SAFETY: `argv` has `argc` places, and `index` is below that.
    let place = unsafe { argv.add(index) };
    // SAFETY: as above.
    let word = unsafe { *place };
    (!word.is_null()).then_some(word)
}

fn word(at: *mut c_char) -> OsString {
    // SAFETY: the runtime's words are nul-terminated and live as long as the process.
    let text = unsafe { CStr::from_ptr(at) };
    OsStr::from_bytes(text.to_bytes()).to_owned()
}

/// The memory of argument `index`, without its nul, to be written over.
///
/// Called once for an argument: two borrows of it at a time would be wrong.
#[must_use]
pub fn argument_memory(index: usize) -> Option<&'static mut [u8]> {
    let at = pointer(index)?;
    // SAFETY: as in `word`.
    let length = unsafe { CStr::from_ptr(at) }.to_bytes().len();
    // SAFETY: the memory is the process' own, writable, as long as it, and lent only here.
    Some(unsafe { std::slice::from_raw_parts_mut(at.cast(), length) })
}

/// Drops the first argument from what `ps` shows: `runitbox runsv x` becomes `runsv x`.
pub fn drop_first_argument() {
    let (Some(first), Some(second)) = (pointer(0), pointer(1)) else { return };
    let last = ARGC.load(Relaxed).saturating_sub(1);
    let Some(last) = pointer(last) else { return };
    // SAFETY: the words are nul-terminated.
    let last_length = unsafe { CStr::from_ptr(last) }.to_bytes().len();
    let end = (last as usize).saturating_add(last_length).saturating_add(1);
    // The kernel lays the words out one after the other; where it did not, nothing is changed.
    let (Some(shift), Some(length)) =
        ((second as usize).checked_sub(first as usize), end.checked_sub(second as usize))
    else {
        return;
    };
    // SAFETY: [first, end) is the memory of the words, of which [second, end) is moved to the front.
    unsafe { std::ptr::copy(second, first, length) };
    // SAFETY: [first + length, end) is the rest of the same memory.
    let rest = unsafe { first.add(length) };
    // SAFETY: as above.
    unsafe { std::ptr::write_bytes(rest, 0, shift) };
    let argc = ARGC.load(Relaxed);
    let argv = ARGV.load(Relaxed);
    for index in 1..argc {
        let Some(at) = pointer(index) else { return };
        // SAFETY: it points into the moved memory, `shift` behind where the word now begins.
        let at = unsafe { at.sub(shift) };
        // SAFETY: `argv` has `argc` places, and `index - 1` is below that.
        let place = unsafe { argv.add(index.saturating_sub(1)) };
        // SAFETY: as above.
        unsafe { *place = at };
    }
    ARGC.store(argc.saturating_sub(1), Relaxed);
}

/// Whether we are process 1, of a machine or of a container.
#[must_use]
pub fn is_first_process() -> bool {
    rustix::process::getpid() == rustix::process::Pid::INIT
}

/// A bug of ours does not end this process, nor does a lack of memory: services and orphans go on to need it.
///
/// The profile says `panic = "abort"`, and the abort comes when the hook returns; so it does not. What is no panic is a
/// signal by which the kernel tells of a fault.
pub fn never_end_by_a_bug(name: &'static str) {
    super::memory::wait_where_there_is_none();
    here::catch_faults();
    std::panic::set_hook(Box::new(move |info| {
        let bug = info.to_string();
        crate::say::Message::fatal(name, &format!("bug: {bug}")).print_now();
        only_reap()
    }));
}

/// All that is left to do after a bug. Makes system calls and nothing else.
fn only_reap() -> ! {
    loop {
        // Orphans still come to process 1. This waits for as long as there are any.
        while rustix::process::wait(rustix::process::WaitOptions::empty()).is_ok() {}
        let second = rustix::thread::Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = rustix::thread::nanosleep(&second);
    }
}

/// Sets the name that `ps -o comm` and `pgrep` see.
pub fn set_process_name(name: &str) {
    here::set_process_name(name);
}

/// In a child that executes nothing: gives it another name, by which alone it is found.
pub fn rename_process(name: &str) {
    set_process_name(name);
    for index in 0.. {
        let Some(memory) = argument_memory(index) else { break };
        memory.fill(0);
        if index == 0 {
            // Where there is no room for all of it the beginning has to do.
            for (to, from) in memory.iter_mut().zip(name.bytes()) {
                *to = from;
            }
        }
    }
}

/// Makes sure that nothing we open becomes descriptor 0, 1 or 2; says which of them were closed.
///
/// In their place comes something that can be neither read nor written, and that a program we become does not
/// get: for it they are closed as they were.
pub fn guard_descriptors() -> [bool; 3] {
    let closed = |fd: c_int| {
        // SAFETY: only its flags are asked for, of whatever the number stands for.
        let flags = rustix::io::fcntl_getfd(unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) });
        flags == Err::<FdFlags, _>(Errno::BADF)
    };
    let were = [closed(0), closed(1), closed(2)];
    for _ in were.iter().filter(|&&closed| closed) {
        // The lowest free number is taken, so each open fills one gap.
        if let Ok(fd) = rustix::fs::open("/", here::UNUSABLE | OFlags::CLOEXEC, Mode::empty()) {
            std::mem::forget(fd);
        }
    }
    were
}

/// The path by which the kernel was asked to execute us, if it says.
#[must_use]
pub fn executed_path() -> Option<OsString> {
    here::executed_path()
}

#[cfg(target_os = "linux")]
mod here {
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    use super::{OFlags, OsString, c_char};
    use nix::libc;

    /// The signals by which a process is told of its own fault.
    const FAULTS: [libc::c_int; 7] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

    /// A stack for after a fault, since that may have been one of the stack. Only the pages that are used take memory;
    /// what the kernel puts there has up to 12 KiB.
    #[repr(C, align(4096))]
    struct Stack(UnsafeCell<[u8; Stack::SIZE]>);

    impl Stack {
        const SIZE: usize = 64 * 1024;
    }

    // SAFETY: nobody touches it but the kernel and the handler that runs on it.
    unsafe impl Sync for Stack {}

    static STACK: Stack = Stack(UnsafeCell::new([0; Stack::SIZE]));

    extern "C" fn at_fault(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        let us = rustix::process::getpid();
        // SAFETY: the kernel gives what the handler was asked for with SA_SIGINFO, and it stays until that returns.
        let info = unsafe { &*info };
        // SAFETY: it is a number in any case, and only looked at where somebody sent the signal.
        let sender = unsafe { info.si_pid() };
        let code = info.si_code;
        let sent = code <= 0;
        if sent && sender != us.as_raw_nonzero().get() {
            // Somebody else says so; it is not true.
            return;
        }
        if us != rustix::process::Pid::INIT {
            // A child that has not yet become its program. The fault comes again, and ends it.
            // SAFETY: the default action runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            if sent {
                // SAFETY: ends this process only.
                unsafe { libc::_exit(111) };
            }
            return;
        }
        let said: &[u8] = match signal {
            libc::SIGSEGV => b"fatal: bug: signal SEGV, only reaping from now on\n",
            libc::SIGBUS => b"fatal: bug: signal BUS, only reaping from now on\n",
            libc::SIGILL => b"fatal: bug: signal ILL, only reaping from now on\n",
            libc::SIGABRT => b"fatal: bug: signal ABRT, only reaping from now on\n",
            _ => b"fatal: bug: a fault, only reaping from now on\n",
        };
        let _ = crate::sys::output::write(rustix::stdio::stderr(), said);
        super::only_reap()
    }

    pub(super) fn catch_faults() {
        let stack = libc::stack_t { ss_sp: STACK.0.get().cast(), ss_flags: 0, ss_size: Stack::SIZE };
        // SAFETY: the memory is there for ever and nobody else's.
        unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: an action of zeros is a valid one; `sa_mask` is an empty set.
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = at_fault as *const () as libc::sighandler_t;
        // A second fault, in the handler, is to end in it, too.
        action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO | libc::SA_NODEFER;
        for signal in FAULTS {
            // SAFETY: the handler makes system calls and touches nothing of ours; `action` is complete.
            unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
        }
    }

    pub(super) const UNUSABLE: OFlags = OFlags::PATH;

    pub(super) fn set_process_name(name: &str) {
        if let Ok(name) = std::ffi::CString::new(name) {
            // A name that is not set is only not seen.
            let _ = rustix::thread::set_name(&name);
        }
    }

    pub(super) fn executed_path() -> Option<OsString> {
        // SAFETY: reads a table that the kernel left for us.
        let at = unsafe { libc::getauxval(libc::AT_EXECFN) } as *mut c_char;
        (!at.is_null()).then(|| super::word(at))
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use super::{OFlags, OsString};

    pub(super) const UNUSABLE: OFlags = OFlags::RDONLY;

    pub(super) fn catch_faults() {}

    pub(super) fn set_process_name(_name: &str) {}

    pub(super) fn executed_path() -> Option<OsString> {
        None
    }
}
