//! Descriptors by their numbers: which are open, and 0 to 2, which must never be free.

use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};

use nix::libc::{self, c_int};

/// How to open a file whose descriptor only occupies a number: it can be neither read nor written.
#[cfg(target_os = "linux")]
const UNUSABLE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const UNUSABLE: OFlags = OFlags::RDONLY;

/// Makes sure that nothing we open becomes descriptor 0, 1 or 2. Returns which of them were closed.
///
/// Each of these gets something that can be neither read nor written, and that is closed again when we execute a
/// program: the program finds the descriptor closed, as we did.
pub(crate) fn guard_standard_streams() -> [bool; 3] {
    let closed = [0, 1, 2].map(|fd| !is_open(fd));
    for _ in closed.iter().filter(|&&closed| closed) {
        // Each open takes the lowest free number, so it fills one gap.
        if let Ok(fd) = rustix::fs::open("/", UNUSABLE | OFlags::CLOEXEC, Mode::empty()) {
            std::mem::forget(fd);
        }
    }
    closed
}

/// Whether there is a descriptor of this number.
pub(super) fn is_open(fd: c_int) -> bool {
    // SAFETY: only its flags are asked for, of whatever the number stands for.
    let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) });
    flags != Err::<FdFlags, _>(Errno::BADF)
}

/// The highest number of a descriptor that is open, if the system says.
pub(super) fn highest() -> Option<c_int> {
    let highest_in = |directory: &[u8]| super::listing::numbers_in(directory)?.into_iter().max();
    highest_in(b"/proc/self/fd").or_else(|| highest_in(b"/dev/fd"))
}

/// Closes a descriptor by its number.
///
/// Only for a child that executes a program or ends, and owns its table of descriptors.
pub(super) fn close(fd: c_int) {
    // SAFETY: the child has no use for the descriptor.
    unsafe { libc::close(fd) };
}

/// In a child that executes nothing: closes all descriptors from `first` on.
pub(super) fn close_from(first: c_int) {
    #[cfg(target_os = "linux")]
    {
        let from = libc::c_uint::try_from(first).unwrap_or(libc::c_uint::MAX);
        // SAFETY: takes numbers. This process has no use for the descriptors from `first` on.
        if unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) } == 0 {
            return;
        }
    }
    /// How many are closed where nothing says which are open, and there is no limit.
    const MANY: u64 = 65_536;
    let limit = || c_int::try_from(super::limits::open_files().min(MANY)).unwrap_or(c_int::MAX);
    let last = highest().unwrap_or_else(limit);
    for fd in first..=last {
        close(fd);
    }
}
