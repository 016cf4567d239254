//! Work in another process: a copy of ours, which executes nothing.

use std::ffi::c_int;
use std::fs::File;
use std::io;

use nix::libc;
use rustix::fd::{BorrowedFd, FromRawFd};
use rustix::process::Pid;

use super::signal::Signal;
use super::{arguments, descriptors, signal};

/// The result of clone(2) or fork(2) as a process, or the error that it set.
pub(super) fn pid_of(result: c_int) -> io::Result<Pid> {
    // A `Pid` must not be made of -1.
    if result > 0 { Pid::from_raw(result) } else { None }.ok_or_else(io::Error::last_os_error)
}

/// Does `work` in a copy of this process. The copy exits with the code that `work` returns, and ends when we end.
///
/// # Errors
///
/// That of fork(2).
pub fn fork_to(work: impl FnOnce() -> u8) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    // SAFETY: we have one thread, so the copy is complete and no lock in it is held by anybody.
    match unsafe { libc::fork() } {
        0 => {
            end_with(parent);
            signal::unblock_all();
            let code = work();
            // SAFETY: ends this process only, without what our own end would do.
            unsafe { libc::_exit(code.into()) }
        }
        pid => pid_of(pid),
    }
}

/// Does `work` on files in a copy of this process that has nothing else of ours.
///
/// The copy has `input`, `output` and our standard error, and no other descriptor: no lock of ours outlives us in it. Its
/// name is `name`, so that nobody who looks for us by our name finds it. It leads a session of its own, and ignores HUP
/// and ALRM, which programs are sent to make them look again. `input` and `output` must have numbers above 2.
///
/// # Errors
///
/// That of fork(2).
pub fn fork_to_files(
    name: &str,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    work: impl FnOnce(File, File) -> u8,
) -> io::Result<Pid> {
    let lay_out = || -> rustix::io::Result<()> {
        rustix::stdio::dup2_stdin(input)?;
        rustix::stdio::dup2_stdout(output)
    };
    fork_to(move || {
        signal::default_all();
        for ignored in [Signal::HUP, Signal::ALRM] {
            signal::ignore(ignored);
        }
        // Cannot fail: a new process leads no group.
        let _ = rustix::process::setsid();
        arguments::rename_process(name);
        if lay_out().is_err() {
            return 111;
        }
        descriptors::close_from(3);
        // SAFETY: descriptor 0 was laid out above, and nothing else in this process owns it.
        let input = unsafe { File::from_raw_fd(0) };
        // SAFETY: as above.
        let output = unsafe { File::from_raw_fd(1) };
        work(input, output)
    })
}

/// In a child: makes it end when its parent ends. Without the parent nobody would use the result, and another parent
/// would begin the same work.
fn end_with(parent: Pid) {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        // The parent may have ended before this call. A parent outside of our PID namespace has no number here.
        if rustix::process::getppid().is_some_and(|now| now != parent) {
            // SAFETY: ends this process only.
            unsafe { libc::_exit(111) }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
}
