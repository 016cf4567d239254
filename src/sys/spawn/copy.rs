//! A child with a copy of our memory (fork(2)), which reports a failure through a pipe.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Read, Write};

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::Pid;

use super::super::fork::pid_of;
use super::child::{ChildTask, become_program};
use super::{BOUND, Step};

/// A report: the step and the error number, as two numbers of four bytes.
const REPORT: usize = 8;

/// Starts the child.
///
/// # Errors
///
/// That of fork(2) or pipe(2).
pub(super) fn begin(task: &mut ChildTask<'_>) -> io::Result<Pid> {
    // The child has a table of descriptors of its own, and the pipe must stay open in it until it executes the program.
    task.shared_below = None;
    let (mut report, low) = io::pipe()?;
    let others = task.program.others.iter().chain(&task.other_in_slot);
    let above = others.map(|(number, _)| *number).max().unwrap_or(2);
    let mut reporter = File::from(rustix::io::fcntl_dupfd_cloexec(&low, above.saturating_add(1))?);
    drop(low);
    // SAFETY: the child makes system calls only, see `become_program`, and then ends.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            // If the report cannot be written, the child counts as started, and its end as that of the program.
            let _ = reporter.write_all(&encode(become_program(task)));
            // SAFETY: ends this process only.
            unsafe { libc::_exit(111) }
        }
        1.. => {
            drop(reporter);
            if task.program.bounded {
                let mut fds = [PollFd::from_borrowed_fd(report.as_fd(), PollFlags::IN)];
                let bound = Timespec { tv_sec: 0, tv_nsec: i64::from(BOUND.subsec_nanos()) };
                if !matches!(poll(&mut fds, Some(&bound)), Ok(1..)) {
                    return pid_of(pid);
                }
            }
            // A successful execve closes the pipe: then it ends without a byte.
            let mut bytes = [0; REPORT];
            if report.read_exact(&mut bytes).is_ok() {
                task.failed = Some(decode(bytes));
            }
            pid_of(pid)
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn encode((step, errno): (Step, c_int)) -> [u8; REPORT] {
    let ([a, b, c, d], [e, f, g, h]) = ((step as c_int).to_ne_bytes(), errno.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}

fn decode([a, b, c, d, e, f, g, h]: [u8; REPORT]) -> (Step, c_int) {
    let number = c_int::from_ne_bytes([a, b, c, d]);
    let steps = [Step::Fork, Step::ControlGroup, Step::Descriptors, Step::Directory];
    let step = steps.into_iter().find(|step| *step as c_int == number).unwrap_or(Step::Exec);
    (step, c_int::from_ne_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        for step in [Step::Fork, Step::ControlGroup, Step::Descriptors, Step::Directory, Step::Exec] {
            assert_eq!(decode(encode((step, libc::ENOENT))), (step, libc::ENOENT));
        }
    }
}
