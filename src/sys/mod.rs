//! The only `unsafe` code, and the only `cfg` for a platform.
//!
//! Nothing in here decides: each function does one thing to the system and says what came of it.
#![allow(unsafe_code)]

pub mod allocator;
pub mod arguments;
pub mod auxv;
pub mod clock;
pub mod descriptors;
pub mod faults;
pub mod fifo;
pub mod fork;
pub(crate) mod ids;
pub mod interest;
pub mod limits;
pub mod link;
pub mod listing;
pub mod output;
pub mod replace;
pub mod residency;
pub mod signal;
pub mod signals;
pub mod spawn;
pub mod watch;

/// Words for the error numbers that only this platform has.
#[cfg(target_os = "linux")]
#[must_use]
pub fn reason_here(errno: i32) -> &'static str {
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

/// Words for the error numbers that only this platform has.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn reason_here(_errno: i32) -> &'static str {
    "unknown error"
}

/// How a directory is opened that is only looked into by name: it need not be readable.
#[cfg(target_os = "linux")]
pub const SEARCH: rustix::fs::OFlags = rustix::fs::OFlags::PATH;

/// How a directory is opened that is only looked into by name.
#[cfg(not(target_os = "linux"))]
pub const SEARCH: rustix::fs::OFlags = rustix::fs::OFlags::RDONLY;
