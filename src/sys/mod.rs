//! The ground floor: the only `unsafe` code, and the only `cfg` for a platform.
//!
//! Nothing in here decides, looks anything up or prints a message of the program: each function does one thing to the
//! system and returns the result. It uses nothing of the floors above but the plain values
//! [`Moment`](crate::moment::Moment) and [`slice`](crate::slice).
#![allow(unsafe_code)]

pub mod allocator;
pub mod arguments;
pub mod auxv;
pub mod capabilities;
pub mod clock;
pub(crate) mod control_group;
pub mod descriptors;
pub(crate) mod ended;
pub(crate) mod faults;
pub(crate) mod fifo;
pub mod fork;
pub(crate) mod handle;
pub(crate) mod ids;
pub mod interest;
pub mod limits;
pub mod link;
pub mod listing;
pub mod local_time;
pub(crate) mod notify_socket;
pub mod output;
pub mod packets;
pub(crate) mod pipe;
pub(crate) mod replace;
pub(crate) mod residency;
pub mod signal;
pub mod signals;
pub mod spawn;
pub mod watch;

/// runit's words for the error numbers that only this platform has.
#[cfg(target_os = "linux")]
#[must_use]
pub(crate) fn reason_here(errno: i32) -> &'static str {
    use nix::libc;
    match errno {
        libc::ENOSTR => "not a stream device",
        libc::ENOSR => "out of stream resources",
        libc::ETIME => "timer expired",
        libc::ENONET => "machine not on network",
        libc::ECOMM => "communication error",
        libc::EREMCHG => "remote address changed",
        libc::EADV => "advertise error",
        libc::ESRMNT => "srmount error",
        _ => "unknown error",
    }
}

/// runit's words for the error numbers that only this platform has: there are none.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub(crate) fn reason_here(_errno: i32) -> &'static str {
    "unknown error"
}

/// Whether nothing can be executed on the file system of a path.
#[cfg(target_os = "linux")]
pub(crate) fn is_noexec(path: &[u8]) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(path).is_ok_and(|space| space.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Whether nothing can be executed on the file system of a path: that is not known here.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn is_noexec(_path: &[u8]) -> bool {
    false
}

/// How to open a directory whose entries are only used by name: it need not be readable.
#[cfg(target_os = "linux")]
pub const SEARCH: rustix::fs::OFlags = rustix::fs::OFlags::PATH;

/// How to open a directory whose entries are only used by name.
#[cfg(not(target_os = "linux"))]
pub const SEARCH: rustix::fs::OFlags = rustix::fs::OFlags::RDONLY;
