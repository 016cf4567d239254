//! Signals as something a poll can wait for.
//!
//! On Linux the signals stay blocked and come out of a signalfd: no handler ever runs, so the time between
//! `clone` and `exec` of a child that shares our memory is safe. Elsewhere a handler notes the signal and
//! writes a byte to a pipe. Children start with an empty mask either way ([`spawn`](super::spawn)).
//!
//! SIGPIPE is caught in the same way and never looked at: a supervisor must outlive whoever reads its
//! messages, and a blocked or caught signal is, unlike an ignored one, not passed on to a program.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The number of a signal.
pub type Number = i32;
/// Alarm.
pub const ALRM: Number = nix::libc::SIGALRM;
/// A child ended or stopped.
pub const CHLD: Number = nix::libc::SIGCHLD;
/// Hang up.
pub const HUP: Number = nix::libc::SIGHUP;
/// Somebody reads what we write, no longer.
pub const PIPE: Number = nix::libc::SIGPIPE;
/// Interrupt.
pub const INT: Number = nix::libc::SIGINT;
/// Terminate.
pub const TERM: Number = nix::libc::SIGTERM;
/// Quit.
pub const QUIT: Number = nix::libc::SIGQUIT;
/// End at once.
pub const KILL: Number = nix::libc::SIGKILL;
/// Go on.
pub const CONT: Number = nix::libc::SIGCONT;
/// The first for a program's own use.
pub const USR1: Number = nix::libc::SIGUSR1;
/// The second for a program's own use.
pub const USR2: Number = nix::libc::SIGUSR2;
/// A terminal changed its size.
pub const WINCH: Number = nix::libc::SIGWINCH;
/// Power fails; where there is no such signal, the one that upstream's development line uses.
pub const PWR: Number = here::PWR;
/// A process of the background wrote to the terminal.
pub const TTOU: Number = nix::libc::SIGTTOU;
/// What container managers send for "halt": SIGRTMIN+3 as the usual C library counts.
pub const HALT: Number = 37;
/// More changes of watched directories than can be told one by one.
pub const IO: Number = nix::libc::SIGIO;
/// A watched directory changed; see [`watch`](super::watch). A real-time signal that no C library keeps for itself.
pub const CHANGE: Number = 40;

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// Which.
    pub signal: Number,
    /// For [`CHANGE`]: the number of the descriptor of the directory.
    pub fd: i32,
    /// The number that came with a signal of [`queue`].
    pub value: Option<i32>,
    /// A process sent it, this one or another; otherwise the kernel has something to tell.
    pub sent: bool,
    /// We caused it ourselves: a write to a pipe without a reader.
    pub own: bool,
}

impl Came {
    /// Whether it says that a watched directory changed. The same number may be sent by anybody who may send signals.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        self.signal == CHANGE && !self.sent
    }

    /// Whether it says that more watched directories changed than could be told.
    #[must_use]
    pub const fn is_overflow(&self) -> bool {
        self.signal == IO && !self.sent
    }
}

/// How many signals are handed over at once: a queue that others fill must not be all that we read.
pub const AT_ONCE: usize = 64;

/// The signals waited for, as a descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ignores SIGPIPE, so that a write to a pipe without a reader fails instead of ending the program.
///
/// For a program whose children get it back with [`Program::default_pipe`](super::spawn::Program).
/// Says whether it was ignored before.
pub fn ignore_pipe() -> bool {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler of ours is installed, so none can be replaced while something depends on it.
    let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    matches!(before, Ok(SigHandler::SigIgn))
}

/// Sends any signal, also one that has no name.
///
/// # Errors
///
/// That of kill(2).
pub fn send(pid: rustix::process::Pid, signal: Number) -> io::Result<()> {
    // SAFETY: takes two numbers; the first is that of a process, never of a group.
    match unsafe { nix::libc::kill(pid.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `signal` is ignored.
#[must_use]
pub fn is_ignored(signal: Number) -> bool {
    let mut now = std::mem::MaybeUninit::<nix::libc::sigaction>::zeroed();
    // SAFETY: nothing is changed; what is set is written to the address, which is that of `now`.
    let asked = unsafe { nix::libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: all zeroes are a valid value, and the system wrote another or none.
    asked == 0 && unsafe { now.assume_init() }.sa_sigaction == nix::libc::SIG_IGN
}

/// Ends us by the default action of `signal`, so that whoever waits for us is told so.
pub fn end_by(signal: Number) {
    let mut only = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes the whole set valid.
    unsafe { nix::libc::sigemptyset(only.as_mut_ptr()) };
    // SAFETY: the set was made above.
    unsafe { nix::libc::sigaddset(only.as_mut_ptr(), signal) };
    // SAFETY: the default action runs no code of ours.
    unsafe { nix::libc::signal(signal, nix::libc::SIG_DFL) };
    // SAFETY: takes a number.
    unsafe { nix::libc::raise(signal) };
    // SAFETY: the set was made above; the old mask is not asked for.
    unsafe { nix::libc::sigprocmask(nix::libc::SIG_UNBLOCK, only.as_ptr(), std::ptr::null_mut()) };
}

/// The signal that `text` means: `QUIT`, `SIGQUIT` or a number.
#[must_use]
pub fn number_of(text: &str) -> Option<Number> {
    let highest = 64;
    if let Ok(number) = text.parse::<Number>() {
        return (1..=highest).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as Number)
}

/// Sends a signal as it came to us, with its number if it has one.
///
/// # Errors
///
/// That of kill(2).
#[cfg(target_os = "linux")]
pub fn pass_on(pid: rustix::process::Pid, came: &Came) -> io::Result<()> {
    match came.value {
        Some(value) => queue(pid, came.signal, value),
        None => send(pid, came.signal),
    }
}

/// Sends any signal to all processes of a group.
///
/// # Errors
///
/// That of kill(2).
pub fn send_to_group(group: rustix::process::Pid, signal: Number) -> io::Result<()> {
    if group == rustix::process::Pid::INIT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: takes two numbers; the first is that of a group, and -1, which means all processes, was excluded.
    match unsafe { nix::libc::kill(group.as_raw_nonzero().get().wrapping_neg(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The signals that can be waited for and passed on: all but those that cannot be caught, and those that tell a
/// process of its own fault.
pub fn all() -> impl Iterator<Item = Number> {
    use nix::libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP};
    const NOT: [Number; 9] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP];
    (1..=64).filter(|signal| !NOT.contains(signal))
}

/// Gives every signal its default action, whatever our parent ignored.
pub fn default_all() {
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours. Those that cannot be set are refused.
        unsafe { nix::libc::signal(signal, nix::libc::SIG_DFL) };
    }
}

#[cfg(target_os = "linux")]
pub use here::queue;

#[cfg(target_os = "linux")]
mod here {
    use std::mem::MaybeUninit;

    use super::{Came, Number, OwnedFd, Signals, io};
    use nix::libc;
    use rustix::fd::{AsRawFd, FromRawFd};

    pub(super) const PWR: Number = libc::SIGPWR;

    /// Sends a signal together with a number, which is [`Came::value`] there.
    ///
    /// # Errors
    ///
    /// That of sigqueue(3).
    pub fn queue(pid: rustix::process::Pid, signal: Number, value: i32) -> io::Result<()> {
        // The number is read as the low half of the pointer's place, as `sigval` has it on every byte order.
        let mut with = libc::sigval { sival_ptr: std::ptr::null_mut() };
        // SAFETY: a `sigval` is at least as large as an `int`, and aligned for one.
        unsafe { (&raw mut with).cast::<i32>().write(value) };
        // SAFETY: takes numbers and nothing that is followed.
        match unsafe { libc::sigqueue(pid.as_raw_nonzero().get(), signal, with) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    impl Signals {
        /// Waits for `which` from now on, instead of what they did before.
        ///
        /// # Errors
        ///
        /// That of signalfd(2).
        pub fn wait_for(which: &[Number]) -> io::Result<Self> {
            let wanted = set(which.iter().copied());
            let blocked = set(which.iter().copied().chain([libc::SIGPIPE]));
            for &signal in which {
                set_default(signal);
            }
            // SAFETY: the set is one that `sigemptyset` made; the old mask is not asked for.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const blocked, std::ptr::null_mut()) };
            // SAFETY: the set is one that `sigemptyset` made; -1 asks for a new descriptor.
            let fd = unsafe { libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is new and nobody else's.
            Ok(Signals { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
        }

        /// Waits for `more`, too, beside `those` that were waited for.
        pub fn also(&self, those: &[Number], more: &[Number]) {
            let more_set = set(more.iter().copied());
            // SAFETY: the set is one that `sigemptyset` made; the old mask is not asked for.
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const more_set, std::ptr::null_mut()) };
            self.hears(&set(those.iter().chain(more).copied()));
        }

        /// Leaves `more` to what they do by default, and waits for `those` only.
        pub fn no_more(&self, those: &[Number], more: &[Number]) {
            self.hears(&set(those.iter().copied()));
            let more_set = set(more.iter().copied());
            // SAFETY: the set is one that `sigemptyset` made; the old mask is not asked for.
            unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const more_set, std::ptr::null_mut()) };
        }

        fn hears(&self, which: &libc::sigset_t) {
            // SAFETY: the set is one that `sigemptyset` made, and the descriptor is a signalfd: it gets another set.
            unsafe { libc::signalfd(self.fd.as_raw_fd(), which, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        }

        /// Hands over what came since the last call, the lowest numbers first; of more than [`AT_ONCE`] the rest is
        /// for the next call.
        pub fn take(&self, mut each: impl FnMut(Came)) {
            const SIZE: usize = size_of::<libc::signalfd_siginfo>();
            const TOGETHER: usize = 8;
            let mut buffer = [0_u8; SIZE * TOGETHER];
            for _ in 0..super::AT_ONCE / TOGETHER {
                let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut buffer) else { break };
                let came = buffer.get(..length).unwrap_or_default();
                for info in came.chunks_exact(SIZE) {
                    // Fields of four bytes: `ssi_signo`, `ssi_errno`, `ssi_code`, `ssi_pid`, …; `ssi_fd` and `ssi_int` are
                    // 5 and 11.
                    let field = |index: usize| info.get(index * 4..).and_then(|rest| rest.first_chunk());
                    let number = |index: usize| field(index).map(|bytes| i32::from_ne_bytes(*bytes));
                    if let (Some(signal), Some(fd)) = (number(0), number(5)) {
                        let value = number(2).filter(|&code| code == libc::SI_QUEUE).and(number(11));
                        let code = number(2).unwrap_or(0);
                        let sent = code <= 0;
                        let own = signal == super::PIPE && sent && number(3) == Some(own_pid());
                        each(Came { signal, fd, value, sent, own });
                    }
                }
                if length < buffer.len() {
                    break;
                }
            }
        }
    }

    fn own_pid() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    /// An ignored SIGCHLD would take our children's endings away from us, and children are promised the
    /// default action of what we wait for.
    fn set_default(signal: Number) {
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }

    fn set(which: impl Iterator<Item = Number>) -> libc::sigset_t {
        let mut set = MaybeUninit::uninit();
        // SAFETY: there is room for a set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: `sigemptyset` made the whole set valid.
        let mut set = unsafe { set.assume_init() };
        for signal in which {
            // SAFETY: the set was made above; a number that is no signal is refused.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        set
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

    use super::{Came, Number, OwnedFd, Signals, io};
    use nix::libc;

    pub(super) const PWR: Number = libc::SIGUSR2;

    static CAME: AtomicU64 = AtomicU64::new(0);
    static WAKE: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn note(signal: Number) {
        let errno = nix::errno::Errno::last_raw();
        CAME.fetch_or(1 << (signal & 63), Relaxed);
        // SAFETY: the byte is ours, and `write` may be called in a handler.
        let _ = unsafe { libc::write(WAKE.load(Relaxed), c"".as_ptr().cast(), 1) };
        nix::errno::Errno::set_raw(errno);
    }

    fn catch(signal: Number) {
        // SAFETY: `note` touches two atomics and calls `write`, both allowed in a handler, and leaves `errno` as it
        // found it.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }

    impl Signals {
        /// Waits for `which` from now on, instead of what they did before.
        ///
        /// # Errors
        ///
        /// That of pipe(2).
        pub fn wait_for(which: &[Number]) -> io::Result<Self> {
            let (fd, wake) = std::io::pipe()?;
            let (fd, wake) = (OwnedFd::from(fd), OwnedFd::from(wake));
            rustix::io::ioctl_fionbio(&fd, true)?;
            rustix::io::ioctl_fionbio(&wake, true)?;
            // The handler writes to it for as long as the program runs.
            WAKE.store(rustix::fd::IntoRawFd::into_raw_fd(wake), Relaxed);
            for &signal in which.iter().chain(&[libc::SIGPIPE]) {
                catch(signal);
            }
            Ok(Signals { fd })
        }

        /// Waits for `more`, too.
        pub fn also(&self, _those: &[Number], more: &[Number]) {
            more.iter().for_each(|&signal| catch(signal));
        }

        /// Leaves `more` to what they do by default.
        pub fn no_more(&self, _those: &[Number], more: &[Number]) {
            for &signal in more {
                // SAFETY: the default action runs no code of ours.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
        }

        /// Hands over what came since the last call, each signal at least once.
        pub fn take(&self, mut each: impl FnMut(Came)) {
            // Drained first: a signal that comes after the swap wakes the next poll again.
            let mut scrap = [0_u8; 64];
            while matches!(rustix::io::read(&self.fd, &mut scrap), Ok(1..)) {}
            let came = CAME.swap(0, Relaxed);
            for signal in (0..64).filter(|signal| came & (1 << signal) != 0) {
                each(Came { signal, fd: -1, value: None, sent: true, own: false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("QUIT", Some(3)), ("SIGQUIT", Some(3)), ("term", Some(15)), ("9", Some(9)), ("37", Some(37))]
        {
            assert_eq!(number_of(text), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "QUITE", "SIGSIGTERM"] {
            assert_eq!(number_of(text), None, "{text}");
        }
    }
}
