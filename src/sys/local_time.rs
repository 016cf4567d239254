//! The time zone of the user, by the C library: `TZ`, or `/etc/localtime`.

/// How many seconds local time is ahead of UTC at a time, which is in seconds after 1970. 0 if the C library does not know.
#[must_use]
#[allow(
    clippy::useless_conversion,
    irrefutable_let_patterns,
    reason = "the width of time_t differs between platforms"
)]
pub fn ahead_of_utc(seconds: i64) -> i64 {
    let Ok(seconds) = seconds.try_into() else { return 0 };
    let mut parts = std::mem::MaybeUninit::<nix::libc::tm>::zeroed();
    // SAFETY: the function reads one number and writes one `tm`, and both addresses are those of our own variables.
    let made = unsafe { nix::libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if made.is_null() {
        return 0;
    }
    // SAFETY: the function has filled it; and a `tm` of zeroes is a valid one, too.
    let parts = unsafe { parts.assume_init() };
    parts.tm_gmtoff.into()
}
