//! Whether a directory is a control group of version 2.

use rustix::fd::BorrowedFd;

/// Whether it is one.
#[cfg(target_os = "linux")]
#[must_use]
#[allow(clippy::useless_conversion, reason = "the width differs between platforms")]
pub(crate) fn is_one(directory: BorrowedFd<'_>) -> bool {
    // CGROUP2_SUPER_MAGIC of statfs(2).
    rustix::fs::fstatfs(directory).is_ok_and(|stat| i64::from(stat.f_type) == 0x6367_7270)
}

/// It is not: this platform has none.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub(crate) fn is_one(_directory: BorrowedFd<'_>) -> bool {
    false
}
