//! Watching directories for changes.
//!
//! Linux has two ways. inotify also reports the removal of the directory itself, but a user may by default have only 128
//! instances, and the kernel takes some milliseconds to close one; so only `runsvdir`, `runsvinit` and `svctl` use it. `runsv` and
//! `sv`, of which there are many, use dnotify: a signal ([`Signal::CHANGE`](super::signal::Signal::CHANGE)) for a
//! directory that is open. Other platforms have neither, and callers look from time to time.

use std::io;

use rustix::fd::BorrowedFd;

/// Sends us [`Signal::CHANGE`](super::signal::Signal::CHANGE), with the number of the descriptor, whenever an entry of
/// `directory` is created, removed, renamed or has its attributes changed; or [`Signal::IO`](super::signal::Signal::IO) without the number when
/// more directories change than the kernel can queue.
///
/// # Errors
///
/// That of fcntl(2), or `Unsupported`; then the caller has to look from time to time.
pub fn signal_changes(directory: BorrowedFd<'_>) -> io::Result<()> {
    here::signal_changes(directory)
}

/// The same, and also when a file in the directory is written to, or when its modification time alone is set: for a
/// client, which waits for the marks of a supervisor.
///
/// # Errors
///
/// As for [`signal_changes`].
pub fn signal_changes_and_writes(directory: BorrowedFd<'_>) -> io::Result<()> {
    here::signal_changes_and_writes(directory)
}

/// The same, but only when an entry is removed: for a directory in which we ourselves create and rename entries.
///
/// # Errors
///
/// As for [`signal_changes`].
pub(crate) fn signal_removals(directory: BorrowedFd<'_>) -> io::Result<()> {
    here::signal_removals(directory)
}

/// Whether this platform can watch directories at all, so that a watch that failed may work later.
pub(crate) const MAY_WORK: bool = cfg!(target_os = "linux");

pub use here::{Inotify, is_silent};

#[cfg(target_os = "linux")]
mod here {
    use std::ffi::CStr;
    use std::io;

    use nix::libc;
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use super::super::signal::Signal;

    // DN_MODIFY, DN_CREATE, DN_DELETE, DN_RENAME, DN_ATTRIB and DN_MULTISHOT of fcntl(2).
    const MODIFY: u32 = 0x02;
    const CREATE: u32 = 0x04;
    const DELETE: u32 = 0x08;
    const RENAME: u32 = 0x10;
    const ATTRIB: u32 = 0x20;
    const MULTISHOT: u32 = 0x8000_0000;

    pub(super) fn signal_changes(directory: BorrowedFd<'_>) -> io::Result<()> {
        signal(directory, CREATE | DELETE | RENAME | ATTRIB | MULTISHOT)
    }

    pub(super) fn signal_changes_and_writes(directory: BorrowedFd<'_>) -> io::Result<()> {
        signal(directory, MODIFY | CREATE | DELETE | RENAME | ATTRIB | MULTISHOT)
    }

    pub(super) fn signal_removals(directory: BorrowedFd<'_>) -> io::Result<()> {
        signal(directory, DELETE | MULTISHOT)
    }

    fn signal(directory: BorrowedFd<'_>, events: u32) -> io::Result<()> {
        /// fcntl(2). The libc crate does not have it.
        const F_SETSIG: libc::c_int = 10;
        // SAFETY: takes two numbers.
        if unsafe { libc::fcntl(directory.as_raw_fd(), F_SETSIG, Signal::CHANGE.number()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: takes two numbers.
        match unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_NOTIFY, events) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Entries are created, removed or renamed, or the directory itself is.
    const ENTRIES: WatchFlags = WatchFlags::CREATE
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM)
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::DELETE_SELF)
        .union(WatchFlags::MOVE_SELF)
        .union(WatchFlags::ONLYDIR);

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

        /// Watches a directory for entries that are created, removed or renamed, and for its own removal.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2).
        pub fn add(&self, directory: &CStr) -> io::Result<i32> {
            Ok(inotify::add_watch(&self.0, directory, ENTRIES)?)
        }

        /// The same, and for what the directory is already watched for.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2).
        pub fn add_too(&self, directory: &CStr) -> io::Result<i32> {
            Ok(inotify::add_watch(&self.0, directory, ENTRIES | WatchFlags::MASK_ADD)?)
        }

        /// Watches a directory for entries that are created, renamed or written to, for its own removal, and for what it is
        /// already watched for.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2).
        pub fn add_writes(&self, directory: &CStr) -> io::Result<i32> {
            let flags = WatchFlags::CREATE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::MODIFY
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::MASK_ADD
                | WatchFlags::ONLYDIR;
            Ok(inotify::add_watch(&self.0, directory, flags)?)
        }

        /// Watches an open directory for entries that are removed, but not for renames.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2); ENOENT where there is no /proc.
        pub(crate) fn add_removals(&self, directory: BorrowedFd<'_>) -> io::Result<i32> {
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            let flags = WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
            Ok(inotify::add_watch(&self.0, path.as_str(), flags)?)
        }

        /// Watches an open directory for entries that are created, removed or renamed, and for its own removal.
        ///
        /// # Errors
        ///
        /// That of inotify_add_watch(2); ENOENT where there is no /proc.
        pub fn add_open(&self, directory: BorrowedFd<'_>) -> io::Result<i32> {
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            self.add(&std::ffi::CString::new(path)?)
        }

        /// Stops watching a directory, which may have been removed already.
        pub fn remove(&self, watch: i32) {
            let _ = inotify::remove_watch(&self.0, watch);
        }

        /// Passes the changes since the last call to `each`: the number of the watch, or -1 if some changes were lost, and
        /// the name of the entry, which is empty for the directory itself.
        ///
        /// One call passes a bounded number of changes, since somebody may create entries without end.
        pub fn read_each(&self, mut each: impl FnMut(i32, &[u8])) {
            /// The watch was removed. The removal of the directory itself was reported before.
            const IGNORED: u32 = 0x8000;
            let mut buffer = [0; 4096];
            for _ in 0..64 {
                let Ok(length @ 1..) = rustix::io::read(&self.0, &mut buffer) else { return };
                let mut rest = crate::slice::part(&buffer, ..length);
                // The fields of inotify(7): wd, mask, cookie, len, and `len` bytes of name.
                while let Some((head, after)) = rest.split_first_chunk::<16>() {
                    let [w0, w1, w2, w3, m0, m1, m2, m3, _, _, _, _, l0, l1, l2, l3] = *head;
                    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
                    let Some((name, next)) = after.split_at_checked(length) else { break };
                    if u32::from_ne_bytes([m0, m1, m2, m3]) & IGNORED == 0 {
                        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                        each(i32::from_ne_bytes([w0, w1, w2, w3]), name);
                    }
                    rest = next;
                }
            }
        }
    }

    /// Whether changes of a directory may go unreported although it can be watched: if its file system belongs to another
    /// machine or to a program, which changes it without this kernel. A file system of unknown type counts as one that
    /// reports changes.
    #[must_use]
    pub fn is_silent(directory: &CStr) -> bool {
        rustix::fs::statfs(directory).is_ok_and(|stat| {
            // The width differs between platforms; the numbers have 32 bits.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
            let kind = stat.f_type as u32;
            SILENT.contains(&kind)
        })
    }

    /// The types of such file systems. Source: linux/magic.h, statfs(2), and the list of coreutils' tail.
    const SILENT: [u32; 21] = [
        0x0000_6969, // NFS
        0x0102_1997, // 9p
        0x6573_5546, // FUSE, virtiofs
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB 2
        0x0000_517b, // SMB
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x0000_564c, // NCP
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x0116_1970, // GFS
        0x7461_636f, // OCFS 2
        0xaad7_aaea, // PanFS
        0x786f_4256, // VirtualBox
        0xbacb_acbc, // VMware
        0x7c7c_6673, // Parallels
        0x6163_6673, // ACFS
        0x00c0_ffee, // hostfs
    ];
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::ffi::CStr;
    use std::io;

    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

    pub(super) fn signal_changes(_directory: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn signal_changes_and_writes(_directory: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn signal_removals(_directory: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A set of watched directories; never exists on this platform.
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
        pub(crate) fn add_removals(&self, _directory: BorrowedFd<'_>) -> io::Result<i32> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn add_too(&self, _directory: &CStr) -> io::Result<i32> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn add_writes(&self, _directory: &CStr) -> io::Result<i32> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn add_open(&self, _directory: BorrowedFd<'_>) -> io::Result<i32> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Does nothing.
        pub fn remove(&self, _watch: i32) {}

        /// Does nothing.
        pub fn read_each(&self, _each: impl FnMut(i32, &[u8])) {}
    }

    /// No directory is watched on this platform, so this does not matter.
    #[must_use]
    pub fn is_silent(_directory: &CStr) -> bool {
        false
    }
}
