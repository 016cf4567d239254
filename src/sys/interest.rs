//! Many descriptors to read from as one that can be waited for.
//!
//! Where there are thousands, saying at each wait which ones is what costs; so the kernel is told once. On Linux that is
//! epoll; elsewhere there is none, and callers list them at each wait.

pub use here::Interest;

#[cfg(target_os = "linux")]
mod here {
    use std::io;
    use std::mem::MaybeUninit;

    use rustix::event::{Timespec, epoll};
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    /// A set of descriptors, each with a number of its owner's.
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

        /// Adds a descriptor. It leaves the set when it is closed.
        ///
        /// # Errors
        ///
        /// That of epoll_ctl(2): the user has too many.
        pub fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
            Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?)
        }

        /// The numbers of those that can be read from now.
        #[must_use]
        pub fn ready(&self) -> Vec<u64> {
            let mut ready = Vec::new();
            let mut some = [MaybeUninit::uninit(); 64];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            // What does not fit stays ready.
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

    /// A set of descriptors; there is none on this platform.
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

        /// None.
        #[must_use]
        pub fn ready(&self) -> Vec<u64> {
            Vec::new()
        }
    }
}
