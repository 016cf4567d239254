//! A signal: its number and its name, sending it, and what it does to us.

use std::io;

use nix::libc;
use rustix::process::Pid;

/// A signal, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// The process gives up, as by abort(3).
    pub(crate) const ABRT: Signal = Signal(libc::SIGABRT);
    /// Alarm.
    pub const ALRM: Signal = Signal(libc::SIGALRM);
    /// A fault: memory that is mapped, but cannot be had.
    pub(crate) const BUS: Signal = Signal(libc::SIGBUS);
    /// A child ended or stopped.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// Go on.
    pub const CONT: Signal = Signal(libc::SIGCONT);
    /// Hang up.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// A fault: no instruction of the processor.
    pub(crate) const ILL: Signal = Signal(libc::SIGILL);
    /// Interrupt.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// End at once.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// A write to a pipe without a reader.
    pub(crate) const PIPE: Signal = Signal(libc::SIGPIPE);
    /// Power fails; where there is no such signal, the one that upstream's development line uses.
    pub const PWR: Signal = Signal(PWR);
    /// Quit.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// A fault: memory that is not mapped.
    pub const SEGV: Signal = Signal(libc::SIGSEGV);
    /// Stop until CONT.
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    /// Terminate.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// Stop until CONT, typed at a terminal.
    pub const TSTP: Signal = Signal(libc::SIGTSTP);
    /// A process of the background read from the terminal.
    pub const TTIN: Signal = Signal(libc::SIGTTIN);
    /// A process of the background wrote to the terminal.
    pub(crate) const TTOU: Signal = Signal(libc::SIGTTOU);
    /// The first for a program's own use.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// The second for a program's own use.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// What container managers send for "halt": SIGRTMIN+3 as the usual C library counts.
    pub const HALT: Signal = Signal(37);
    /// More watched directories changed than the kernel could report one by one.
    pub const IO: Signal = Signal(libc::SIGIO);
    /// A watched directory changed; see [`watch`](super::watch). A real-time signal that no C library keeps for itself.
    pub const CHANGE: Signal = Signal(40);

    /// The highest number of a signal.
    const LAST: i32 = 64;

    /// The signal of this number, if it can be one.
    #[must_use]
    pub(crate) const fn from_number(number: i32) -> Option<Self> {
        if number >= 1 && number <= Self::LAST { Some(Signal(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The signal that `text` names: `QUIT`, `SIGQUIT` or a number.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number);
        }
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let named = format!("SIG{name}").parse::<nix::sys::signal::Signal>();
        named.ok().map(|signal| Signal(signal as i32))
    }

    /// Every signal of this system.
    pub(crate) fn every() -> impl Iterator<Item = Self> {
        (1..=Self::LAST).map(Signal)
    }

    /// The signals that can be waited for and passed on: all but those that cannot be caught, and those by which the
    /// kernel reports a fault of the process itself.
    pub fn all_to_pass_on() -> impl Iterator<Item = Self> {
        use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP};
        const NOT: [i32; 9] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP];
        Self::every().filter(|signal| !NOT.contains(&signal.0))
    }
}

#[cfg(target_os = "linux")]
const PWR: i32 = libc::SIGPWR;
#[cfg(not(target_os = "linux"))]
const PWR: i32 = libc::SIGUSR2;

/// Sends a signal to one process.
///
/// # Errors
///
/// That of kill(2).
pub fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    kill(pid.as_raw_nonzero().get(), signal)
}

/// Sends a signal to all processes of a group.
///
/// # Errors
///
/// That of kill(2). The group of process 1 is refused, since its number would mean every process.
pub fn send_to_group(group: Pid, signal: Signal) -> io::Result<()> {
    if group == Pid::INIT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    kill(group.as_raw_nonzero().get().wrapping_neg(), signal)
}

/// Sends a signal to every process that we may send one to, but for process 1 and, where the kernel does so, ourselves.
///
/// # Errors
///
/// That of kill(2).
pub fn send_to_every_process(signal: Signal) -> io::Result<()> {
    kill(-1, signal)
}

fn kill(whom: i32, signal: Signal) -> io::Result<()> {
    // SAFETY: takes two numbers.
    match unsafe { libc::kill(whom, signal.0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal together with a number, which arrives as [`Came::value`](super::signals::Came::value).
///
/// # Errors
///
/// That of sigqueue(3).
#[cfg(target_os = "linux")]
pub fn queue(pid: Pid, signal: Signal, value: i32) -> io::Result<()> {
    // The number is read as the low half of the pointer's place, as `sigval` has it on every byte order.
    let mut with = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: a `sigval` is at least as large as an `int`, and aligned for one.
    unsafe { (&raw mut with).cast::<i32>().write(value) };
    // SAFETY: takes numbers and nothing that is followed.
    match unsafe { libc::sigqueue(pid.as_raw_nonzero().get(), signal.0, with) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ignores `signal`.
pub(super) fn ignore(signal: Signal) {
    // SAFETY: nothing of ours runs when it comes.
    unsafe { libc::signal(signal.0, libc::SIG_IGN) };
}

/// Ignores SIGPIPE, so that a write to a pipe without a reader fails instead of ending the program. Returns whether it
/// was ignored before.
///
/// For a program whose children get the default action back with
/// [`Program::default_pipe`](super::spawn::Program::default_pipe).
pub fn ignore_pipe() -> bool {
    let before = is_ignored(Signal::PIPE);
    ignore(Signal::PIPE);
    before
}

/// Whether `signal` is ignored.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed; the present action is written to the address, which is that of `now`.
    let asked = unsafe { libc::sigaction(signal.0, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: all zeroes are a valid value, and the system wrote another or none.
    asked == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Gives every signal its default action, whatever our parent ignored.
pub fn default_all() {
    for signal in Signal::every() {
        // Those that cannot be set are refused.
        set_default(signal);
    }
}

/// Gives a signal its default action.
pub(super) fn set_default(signal: Signal) {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(signal.0, libc::SIG_DFL) };
}

/// Ends us by the default action of `signal`, so that whoever waits for us sees that signal.
pub fn end_by(signal: Signal) {
    let only = set_of([signal]);
    set_default(signal);
    // SAFETY: takes a number.
    unsafe { libc::raise(signal.0) };
    // SAFETY: the set is valid; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, std::ptr::null_mut()) };
}

/// Blocks `signal`.
pub(super) fn block(signal: Signal) {
    let only = set_of([signal]);
    // SAFETY: the set is valid; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const only, std::ptr::null_mut()) };
}

/// Unblocks every signal.
pub(super) fn unblock_all() {
    let none = set_of([]);
    // SAFETY: the set is valid; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// A set of signals as the system calls take it.
pub(super) fn set_of(which: impl IntoIterator<Item = Signal>) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: there is room for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `sigemptyset` made the whole set valid.
    let mut set = unsafe { set.assume_init() };
    for signal in which {
        // SAFETY: the set was made above; a number that is no signal is refused.
        unsafe { libc::sigaddset(&raw mut set, signal.0) };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("QUIT", Some(3)), ("SIGQUIT", Some(3)), ("term", Some(15)), ("9", Some(9)), ("37", Some(37))]
        {
            assert_eq!(Signal::from_text(text).map(Signal::number), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "QUITE", "SIGSIGTERM"] {
            assert_eq!(Signal::from_text(text), None, "{text}");
        }
    }
}
