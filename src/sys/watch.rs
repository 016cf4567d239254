//! To be told that a directory changed.
//!
//! Two ways on Linux. inotify says what changed and follows many directories, but a user may have no more than
//! 128 instances by default, so only programs that run few times use it. A `runsv` has dnotify: a signal
//! ([`signals::IO`](super::signals::IO)) for a directory it has open anyway, without any descriptor more.
//! Elsewhere there is neither, and callers look from time to time.

use std::io;

use rustix::fd::BorrowedFd;

/// Sends us [`signals::IO`](super::signals::IO) whenever an entry of `directory` is made, removed or renamed.
///
/// # Errors
///
/// Where the system cannot; then the caller has to look by itself.
pub fn signal_changes(directory: BorrowedFd<'_>) -> io::Result<()> {
    here::signal_changes(directory)
}

pub use here::Inotify;

/// What happened to a watched directory or in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Happened {
    /// Which directory: what [`Inotify::add`] gave, or `None` when events were lost.
    pub watch: Option<i32>,
    /// An entry that was open for reading only was closed.
    pub closed_reading: bool,
}

#[cfg(target_os = "linux")]
mod here {
    use std::ffi::CStr;
    use std::io;
    use std::mem::MaybeUninit;

    use nix::libc;
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

    use super::Happened;

    pub(super) fn signal_changes(directory: BorrowedFd<'_>) -> io::Result<()> {
        // DN_CREATE, DN_DELETE, DN_RENAME, DN_ATTRIB, DN_MULTISHOT of fcntl(2).
        const CHANGES: u32 = 0x04 | 0x08 | 0x10 | 0x20 | 0x8000_0000;
        // SAFETY: takes two numbers.
        match unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_NOTIFY, CHANGES) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// A set of watched directories.
    #[derive(Debug)]
    pub struct Inotify(OwnedFd);

    impl AsFd for Inotify {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Inotify {
        /// An empty set.
        ///
        /// # Errors
        ///
        /// That of inotify_init(2): EMFILE when the user has too many already.
        pub fn new() -> io::Result<Self> {
            Ok(Inotify(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
        }

        /// Watches a directory for entries that come, go or are renamed, and for its own going.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2).
        pub fn add(&self, directory: &CStr) -> io::Result<i32> {
            let flags = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            Ok(inotify::add_watch(&self.0, directory, flags)?)
        }

        /// Watches a `supervise` directory: files renamed into it, marks on its FIFOs, and their closing.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2).
        pub fn add_supervise(&self, directory: &CStr) -> io::Result<i32> {
            let flags = WatchFlags::MOVED_TO
                | WatchFlags::ATTRIB
                | WatchFlags::CLOSE_NOWRITE
                | WatchFlags::DELETE_SELF
                | WatchFlags::ONLYDIR;
            Ok(inotify::add_watch(&self.0, directory, flags)?)
        }

        /// Forgets a directory. That it is gone already is no error.
        pub fn remove(&self, watch: i32) {
            let _ = inotify::remove_watch(&self.0, watch);
        }

        /// Hands over what happened since the last call.
        pub fn take(&self, mut each: impl FnMut(Happened)) {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&self.0, &mut buffer);
            while let Ok(event) = reader.next() {
                let lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                let closed = event.events().contains(ReadFlags::CLOSE_NOWRITE);
                each(Happened {
                    watch: (!lost).then(|| event.wd()),
                    closed_reading: closed && event.file_name() == Some(c"ok"),
                });
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::ffi::CStr;
    use std::io;

    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    use super::Happened;

    pub(super) fn signal_changes(_directory: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A set of watched directories; there are none on this platform.
    #[derive(Debug)]
    pub struct Inotify(OwnedFd);

    impl AsFd for Inotify {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Inotify {
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
        pub fn add(&self, _directory: &CStr) -> io::Result<i32> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn add_supervise(&self, _directory: &CStr) -> io::Result<i32> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Does nothing.
        pub fn remove(&self, _watch: i32) {}

        /// Hands over nothing.
        pub fn take(&self, _each: impl FnMut(Happened)) {}
    }
}
