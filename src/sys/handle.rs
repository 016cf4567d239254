//! A process that stays the same one, although its number may become that of another (pidfd).

use std::io;

use rustix::process::Pid;

#[cfg(target_os = "linux")]
pub(crate) use here::Handle;
#[cfg(not(target_os = "linux"))]
pub(crate) use nowhere::Handle;

#[cfg(target_os = "linux")]
mod here {
    use rustix::fd::OwnedFd;
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    use super::{Pid, io};

    /// A process, also after its end.
    #[derive(Debug)]
    pub(crate) struct Handle(OwnedFd);

    impl Handle {
        /// The process that has this number now.
        ///
        /// # Errors
        ///
        /// That of pidfd_open(2).
        pub(crate) fn of(pid: Pid) -> io::Result<Self> {
            Ok(Handle(pidfd_open(pid, PidfdFlags::empty())?))
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
    use super::{Pid, io};

    /// A process; never exists on this platform.
    #[derive(Debug)]
    pub(crate) enum Handle {}

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
        ///
        /// # Errors
        ///
        /// None.
        pub(crate) fn kill(&self) -> io::Result<()> {
            match *self {}
        }
    }
}
