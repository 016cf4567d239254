//! Waiting for signals with poll(2).
//!
//! On Linux the signals stay blocked and are read from a signalfd: no handler ever runs, so nothing can change our memory
//! between `clone` and `execve` of a child that borrows it. Elsewhere a handler notes the signal and writes a byte to a
//! pipe. Children start with an empty mask either way ([`spawn`](super::spawn)).
//!
//! SIGPIPE is blocked or caught in the same way, and not used: a supervisor must outlive the reader of its messages. An
//! ignored signal would do for us, but programs would inherit that.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use super::signal::Signal;
#[cfg(target_os = "linux")]
use super::signal::{queue, send};

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// The signal.
    pub signal: Signal,
    /// For [`Signal::CHANGE`]: the number of the descriptor of the directory.
    pub fd: i32,
    /// The number that came with a signal of `queue` in [`signal`](super::signal).
    pub value: Option<i32>,
    /// Whether a process sent it, this one or another; if not, the kernel did.
    pub sent: bool,
    /// Whether we caused it ourselves, by a write to a pipe without a reader.
    pub own: bool,
}

impl Came {
    /// Whether it reports a change of a watched directory. A process may send the same signal, which reports nothing.
    #[must_use]
    pub(crate) fn is_change(&self) -> bool {
        self.signal == Signal::CHANGE && !self.sent
    }

    /// Whether it reports that more watched directories changed than the kernel could report one by one.
    #[must_use]
    pub(crate) fn is_overflow(&self) -> bool {
        self.signal == Signal::IO && !self.sent
    }
}

/// The highest number of signals that one call of [`Signals::read_each`] reads: other processes may fill the queue faster than
/// we empty it.
#[cfg(target_os = "linux")]
pub(crate) const AT_ONCE: usize = 64;

/// A descriptor that can be read from when one of a set of signals has come.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends a signal on as it came to us, with its number if it has one.
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

#[cfg(target_os = "linux")]
mod here {
    use nix::libc;
    use rustix::fd::{AsRawFd, FromRawFd};

    use super::{Came, OwnedFd, Signal, Signals, io};
    use crate::sys::signal::{set_default, set_of};

    impl Signals {
        /// From now on the signals `which` are waited for, instead of having their action.
        ///
        /// # Errors
        ///
        /// That of signalfd(2).
        pub fn wait_for(which: &[Signal]) -> io::Result<Self> {
            let wanted = set_of(which.iter().copied());
            let blocked = set_of(which.iter().copied().chain([Signal::PIPE]));
            // With SIGCHLD ignored there would be no ends of children to wait for; and children are promised the default
            // action of the signals that we wait for.
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

        /// From now on the signals `more` are waited for, too, beside `those` that already were.
        pub fn also(&self, those: &[Signal], more: &[Signal]) {
            let more_set = set_of(more.iter().copied());
            // SAFETY: the set is one that `sigemptyset` made; the old mask is not asked for.
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const more_set, std::ptr::null_mut()) };
            self.set(&set_of(those.iter().chain(more).copied()));
        }

        /// From now on only `those` are waited for; `more` have their default action again.
        pub fn no_more(&self, those: &[Signal], more: &[Signal]) {
            self.set(&set_of(those.iter().copied()));
            let more_set = set_of(more.iter().copied());
            // SAFETY: the set is one that `sigemptyset` made; the old mask is not asked for.
            unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const more_set, std::ptr::null_mut()) };
        }

        fn set(&self, which: &libc::sigset_t) {
            // SAFETY: the set is one that `sigemptyset` made, and the descriptor is a signalfd: it gets another set.
            unsafe { libc::signalfd(self.fd.as_raw_fd(), which, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        }

        /// Passes the signals that came since the last call to `each`, the lowest numbers first, but at most [`AT_ONCE`];
        /// the others come with the next call.
        pub fn read_each(&self, mut each: impl FnMut(Came)) {
            const SIZE: usize = size_of::<libc::signalfd_siginfo>();
            const TOGETHER: usize = 8;
            let mut buffer = [0_u8; SIZE * TOGETHER];
            for _ in 0..super::AT_ONCE / TOGETHER {
                let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut buffer) else { break };
                let came = crate::slice::part(&buffer, ..length);
                for info in came.chunks_exact(SIZE) {
                    // Fields of four bytes: `ssi_signo`, `ssi_errno`, `ssi_code`, `ssi_pid`, …; `ssi_fd` and `ssi_int` are
                    // 5 and 11.
                    let field = |index: usize| info.get(index * 4..).and_then(|rest| rest.first_chunk());
                    let number = |index: usize| field(index).map(|bytes| i32::from_ne_bytes(*bytes));
                    if let (Some(signal), Some(fd)) = (number(0).and_then(Signal::from_number), number(5)) {
                        let value = number(2).filter(|&code| code == libc::SI_QUEUE).and(number(11));
                        let code = number(2).unwrap_or(0);
                        let sent = code <= 0;
                        let own = signal == Signal::PIPE && sent && number(3) == Some(own_pid());
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
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

    use nix::libc;

    use super::{Came, OwnedFd, Signal, Signals, io};
    use crate::sys::signal::set_default;

    static CAME: AtomicU64 = AtomicU64::new(0);
    static WAKE: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn note(signal: i32) {
        let errno = nix::errno::Errno::last_raw();
        CAME.fetch_or(1 << (signal & 63), Relaxed);
        // SAFETY: the byte is ours, and `write` may be called in a handler.
        let _ = unsafe { libc::write(WAKE.load(Relaxed), c"".as_ptr().cast(), 1) };
        nix::errno::Errno::set_raw(errno);
    }

    fn catch(signal: Signal) {
        // SAFETY: `note` touches two atomics and calls `write`, both allowed in a handler, and restores `errno`.
        unsafe { libc::signal(signal.number(), note as *const () as libc::sighandler_t) };
    }

    impl Signals {
        /// From now on the signals `which` are waited for, instead of having their action.
        ///
        /// # Errors
        ///
        /// That of pipe(2).
        pub fn wait_for(which: &[Signal]) -> io::Result<Self> {
            let (fd, wake) = std::io::pipe()?;
            let (fd, wake) = (OwnedFd::from(fd), OwnedFd::from(wake));
            rustix::io::ioctl_fionbio(&fd, true)?;
            rustix::io::ioctl_fionbio(&wake, true)?;
            // The handler writes to it for as long as the program runs.
            WAKE.store(rustix::fd::IntoRawFd::into_raw_fd(wake), Relaxed);
            for &signal in which.iter().chain(&[Signal::PIPE]) {
                catch(signal);
            }
            Ok(Signals { fd })
        }

        /// From now on the signals `more` are waited for, too.
        pub fn also(&self, _those: &[Signal], more: &[Signal]) {
            more.iter().for_each(|&signal| catch(signal));
        }

        /// From now on the signals `more` have their default action again.
        pub fn no_more(&self, _those: &[Signal], more: &[Signal]) {
            more.iter().for_each(|&signal| set_default(signal));
        }

        /// Passes each signal that came since the last call to `each`.
        pub fn read_each(&self, mut each: impl FnMut(Came)) {
            // Drained first: a signal that comes after the swap wakes the next poll again.
            let mut scrap = [0_u8; 64];
            while matches!(rustix::io::read(&self.fd, &mut scrap), Ok(1..)) {}
            let came = CAME.swap(0, Relaxed);
            for signal in Signal::every().filter(|signal| came & (1 << (signal.number() & 63)) != 0) {
                each(Came { signal, fd: -1, value: None, sent: true, own: false });
            }
        }
    }
}
