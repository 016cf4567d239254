//! Many descriptors behind one that can be waited for (epoll).
//!
//! With thousands of descriptors, passing all of them to each poll(2) would be most of its cost, so the kernel gets them
//! once. Other platforms than Linux have no epoll, and callers pass all descriptors to each wait.

pub use here::Interest;

/// Whether there can be an [`Interest`].
pub const MAY_WORK: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
mod here {
    use std::io;
    use std::mem::MaybeUninit;

    use rustix::event::{Timespec, epoll};
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    /// A set of descriptors, each with a number that the caller chooses.
    #[derive(Debug)]
    pub struct Interest(OwnedFd);

    impl AsFd for Interest {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Interest {
        /// An empty set.
        ///
        /// # Errors
        ///
        /// That of epoll_create(2).
        pub fn new() -> io::Result<Self> {
            Ok(Interest(epoll::create(epoll::CreateFlags::CLOEXEC)?))
        }

        /// Adds a descriptor, until it is closed.
        ///
        /// # Errors
        ///
        /// That of epoll_ctl(2), such as ENOSPC if the user has too many.
        pub fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
            Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?)
        }

        /// For a descriptor of the set: whether it is also waited for until it can be written to.
        ///
        /// # Errors
        ///
        /// That of epoll_ctl(2).
        pub fn also_writable(&self, fd: BorrowedFd<'_>, number: u64, also: bool) -> io::Result<()> {
            let flags = epoll::EventFlags::IN;
            let flags = if also { flags | epoll::EventFlags::OUT } else { flags };
            Ok(epoll::modify(&self.0, fd, epoll::EventData::new_u64(number), flags)?)
        }

        /// Removes a descriptor. If it is not in the set, nothing changes.
        pub fn remove(&self, fd: BorrowedFd<'_>) {
            let _ = epoll::delete(&self.0, fd);
        }

        /// The numbers of the descriptors that can be read from now.
        #[must_use]
        pub fn ready(&self) -> Vec<u64> {
            let mut ready = Vec::new();
            let mut some = [MaybeUninit::uninit(); 64];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            // Those that do not fit stay ready for the next call.
            if let Ok((events, _)) = epoll::wait(&self.0, &mut some, Some(&now)) {
                ready.extend(events.iter().map(|event| event.data.u64()));
            }
            ready
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::io;

    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    /// A set of descriptors; never exists on this platform.
    #[derive(Debug)]
    pub struct Interest(OwnedFd);

    impl AsFd for Interest {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Interest {
        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn add(&self, _fd: BorrowedFd<'_>, _number: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn also_writable(&self, _fd: BorrowedFd<'_>, _number: u64, _also: bool) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// There is none.
        pub fn remove(&self, _fd: BorrowedFd<'_>) {}

        /// None.
        #[must_use]
        pub fn ready(&self) -> Vec<u64> {
            Vec::new()
        }
    }
}
