//! The two clocks.
//!
//! On Linux by system call and not through the vDSO: the first touch of the vDSO's data page costs a process
//! 8 to 12 KiB of page tables, a tenth of all that an idle `runsv` takes, and the clock is read a few times a
//! restart.

use std::time::Duration;

use crate::moment::Moment;

/// The present moment; never steps back.
#[must_use]
pub fn monotonic() -> Moment {
    let (seconds, nanos) = read(nix::libc::CLOCK_MONOTONIC);
    Moment::from_start(Duration::new(u64::try_from(seconds).unwrap_or(0), nanos))
}

/// The wall clock, which people and other programs read, in seconds and nanoseconds since 1970.
#[must_use]
pub fn wall_unix() -> (i64, u32) {
    read(nix::libc::CLOCK_REALTIME)
}

#[allow(clippy::useless_conversion, reason = "the width of time_t differs between platforms")]
fn read(clock: nix::libc::clockid_t) -> (i64, u32) {
    let mut time = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    // SAFETY: the kernel writes one timespec to the address, which is that of `time`.
    let _ = unsafe { nix::libc::syscall(nix::libc::SYS_clock_gettime, clock, &raw mut time) };
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    // SAFETY: the function writes one timespec to the address, which is that of `time`.
    let _ = unsafe { nix::libc::clock_gettime(clock, &raw mut time) };
    (i64::from(time.tv_sec), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_the_one_of_the_system() {
        let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ours = u64::try_from(wall_unix().0).unwrap();
        assert!(ours.abs_diff(system) <= 1);
        assert!(monotonic() > Moment::START);
    }
}
