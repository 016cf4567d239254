//! A child that has ended, before it is reaped: its number cannot belong to another process yet.

use std::mem::MaybeUninit;

use nix::libc;
use rustix::io::Errno;
use rustix::process::Pid;

/// A child that has ended, if there is one. It stays a zombie, and each call returns the same one until it is reaped.
///
/// # Errors
///
/// That of waitid(2): ECHILD if there is no child at all.
pub(crate) fn peek() -> rustix::io::Result<Option<Pid>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the address is that of `info`, which has room for the answer.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), look) } != 0 {
        return Err(Errno::from_raw_os_error(nix::errno::Errno::last_raw()));
    }
    // SAFETY: all zeroes are a valid value, and the system wrote another or none.
    let info = unsafe { info.assume_init() };
    // SAFETY: the field is 0 if no child has ended, and the number of a child otherwise.
    let pid = unsafe { info.si_pid() };
    Ok(if pid > 0 { Pid::from_raw(pid) } else { None })
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;
    use crate::sys::fork::fork_to;

    #[test]
    fn a_child_that_has_ended_is_seen_until_it_is_reaped() {
        // Other tests of this process have children too.
        let pid = fork_to(|| 0).unwrap();
        while !std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .unwrap()
            .contains(") Z ")
        {
            std::thread::yield_now();
        }
        assert!(peek().unwrap().is_some());
        assert_eq!(waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status(), Some(0));
    }
}
