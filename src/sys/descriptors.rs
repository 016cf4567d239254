//! Descriptors by their numbers: which are open, which stay open, and 0 to 2, which must never be free.

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

/// Lets only those of `numbers` among the descriptors from `first` on stay open when a program is executed.
///
/// # Errors
///
/// The number that is not open, and EBADF.
pub fn keep_only(first: c_int, numbers: &[c_int]) -> Result<(), (c_int, Errno)> {
    if let Some(&number) = numbers.iter().find(|&&number| !is_open(number)) {
        return Err((number, Errno::BADF));
    }
    close_on_exec_from(first);
    for &number in numbers {
        // SAFETY: the descriptor is open, and only its flags are changed.
        let kept = rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::empty());
        kept.map_err(|errno| (number, errno))?;
    }
    Ok(())
}

/// Closes all descriptors from `first` on when a program is executed.
fn close_on_exec_from(first: c_int) {
    #[cfg(target_os = "linux")]
    if close_range(first, libc::CLOSE_RANGE_CLOEXEC) {
        return;
    }
    for fd in first..=last() {
        // SAFETY: only the flags are changed, of whatever the number stands for.
        let _ = rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(fd) }, FdFlags::CLOEXEC);
    }
}

/// Whether it is an end of a pipe that has no name: a FIFO has one, and whoever may open it can be on its other end.
#[cfg(target_os = "linux")]
#[must_use]
#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the width differs between platforms")]
pub fn is_anonymous_pipe(fd: BorrowedFd<'_>) -> bool {
    /// The file system of such pipes. Source: statfs(2).
    const PIPEFS_MAGIC: u64 = 0x5049_5045;
    rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == PIPEFS_MAGIC)
}

/// The same. Nobody has to own a pipe here to open it by way of `/dev/stdout`.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn is_anonymous_pipe(_fd: BorrowedFd<'_>) -> bool {
    false
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
    if close_range(first, 0) {
        return;
    }
    for fd in first..=last() {
        close(fd);
    }
}

/// Does with all descriptors from `first` on what `flags` say. Returns whether the kernel can.
#[cfg(target_os = "linux")]
fn close_range(first: c_int, flags: libc::c_uint) -> bool {
    let from = libc::c_uint::try_from(first).unwrap_or(libc::c_uint::MAX);
    // SAFETY: takes numbers. The caller has no use for the descriptors from `first` on.
    unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, flags) == 0 }
}

/// The highest number that a descriptor may have.
fn last() -> c_int {
    /// How many there may be where nothing says which are open, and there is no limit.
    const MANY: u64 = 65_536;
    let limit = || c_int::try_from(super::limits::open_files().min(MANY)).unwrap_or(c_int::MAX);
    highest().unwrap_or_else(limit)
}
