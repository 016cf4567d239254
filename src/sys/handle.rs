//! A process that stays the same one, although its number may become that of another (pidfd).

use std::io;

use rustix::process::Pid;

#[cfg(target_os = "linux")]
pub(crate) use here::Handle;
#[cfg(not(target_os = "linux"))]
pub(crate) use nowhere::Handle;

#[cfg(target_os = "linux")]
mod here {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    use super::{Pid, io};

    /// A process, also after its end. It can be waited for until the process has ended.
    #[derive(Debug)]
    pub(crate) struct Handle(OwnedFd);

    impl AsFd for Handle {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl From<Handle> for OwnedFd {
        fn from(handle: Handle) -> Self {
            handle.0
        }
    }

    impl Handle {
        /// The process that has this number now.
        ///
        /// # Errors
        ///
        /// That of pidfd_open(2).
        pub(crate) fn of(pid: Pid) -> io::Result<Self> {
            Ok(Handle(pidfd_open(pid, PidfdFlags::empty())?))
        }

        /// Whether it has ended, be it reaped or not. Before Linux 5.3 nobody can tell.
        pub(crate) fn has_ended(&self) -> bool {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
        }

        /// Kills it.
        ///
        /// # Errors
        ///
        /// That of pidfd_send_signal(2): ESRCH if it has ended.
        pub(crate) fn kill(&self) -> io::Result<()> {
            Ok(pidfd_send_signal(&self.0, Signal::KILL)?)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    use super::{Pid, io};

    /// A process; never exists on this platform.
    #[derive(Debug)]
    pub(crate) enum Handle {}

    impl AsFd for Handle {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match *self {}
        }
    }

    impl From<Handle> for OwnedFd {
        fn from(handle: Handle) -> Self {
            match handle {}
        }
    }

    impl Handle {
        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub(crate) fn of(_pid: Pid) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never called.
        pub(crate) fn has_ended(&self) -> bool {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub(crate) fn kill(&self) -> io::Result<()> {
            match *self {}
        }
    }
}
