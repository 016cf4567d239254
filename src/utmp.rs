//! Records of utmp and wtmp, byte for byte as the usual C library of 64-bit Linux has them. Source: utmp(5).
//!
//! | at  | bytes | what                                         |
//! |-----|-------|----------------------------------------------|
//! | 0   | 2     | type, and two of nothing                     |
//! | 4   | 4     | process id                                   |
//! | 8   | 32    | line, with a NUL after it if there is room   |
//! | 40  | 4     | id                                           |
//! | 44  | 32    | user                                         |
//! | 76  | 256   | host                                         |
//! | 332 | 8     | how the process ended; session follows       |
//! | 340 | 8     | seconds and microseconds since 1970          |

use std::ops::Range;

use crate::slice;

/// Size of a record, in bytes.
pub const LEN: usize = 384;
/// The longest name of a line, in bytes.
pub const LINE_MAX: usize = LINE.end - LINE.start;

const TYPE: Range<usize> = 0..2;
const LINE: Range<usize> = 8..40;
const USER: Range<usize> = 44..76;
const HOST: Range<usize> = 76..332;
const SECONDS: Range<usize> = 340..344;
const MICROS: Range<usize> = 344..348;
/// `DEAD_PROCESS`
const DEAD: i16 = 8;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record([u8; LEN]);

impl From<[u8; LEN]> for Record {
    fn from(bytes: [u8; LEN]) -> Self {
        Record(bytes)
    }
}

impl Record {
    /// A record that the user of `line` logged out at this time. A name that is too long is cut.
    #[must_use]
    pub fn of_logout(line: &[u8], seconds: i64, nanos: u32) -> Self {
        let mut record = Record([0; LEN]);
        for (place, byte) in slice::part_mut(&mut record.0, LINE).iter_mut().zip(line) {
            *place = *byte;
        }
        record.log_out(seconds, nanos);
        record
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// Whether somebody is logged in on `line`.
    #[must_use]
    pub fn is_login_on(&self, line: &[u8]) -> bool {
        let name = slice::part(&self.0, LINE);
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        name == line && self.0.get(USER.start).is_some_and(|&byte| byte != 0)
    }

    /// Changes it to a record that the user logged out at this time.
    pub fn log_out(&mut self, seconds: i64, nanos: u32) {
        self.set(USER, &[0; USER.end - USER.start]);
        self.set(HOST, &[0; HOST.end - HOST.start]);
        self.set(TYPE, &DEAD.to_ne_bytes());
        // The field has 32 bits; read as an unsigned number it lasts until 2106.
        let seconds = u32::try_from(seconds).unwrap_or(0);
        self.set(SECONDS, &seconds.to_ne_bytes());
        self.set(MICROS, &(nanos / 1000).to_ne_bytes());
    }

    fn set(&mut self, range: Range<usize>, bytes: &[u8]) {
        for (place, byte) in slice::part_mut(&mut self.0, range).iter_mut().zip(bytes) {
            *place = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(line: &[u8], user: &[u8]) -> Record {
        let mut record = Record::of_logout(line, 0, 0);
        record.set(TYPE, &7_i16.to_ne_bytes());
        record.set(USER, user);
        record.set(HOST, b"far.away");
        record
    }

    #[test]
    fn the_place_of_each_field_is_that_of_the_c_library() {
        let record = Record::of_logout(b"tty1", 0x0102_0304, 5_000_000);
        let bytes = record.bytes();
        assert_eq!(bytes[0..2], 8_i16.to_ne_bytes());
        assert_eq!(&bytes[8..13], b"tty1\0");
        assert_eq!(bytes[340..344], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[344..348], 5000_u32.to_ne_bytes());
        assert!(bytes[44..332].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_login_is_found_by_its_line_and_logged_out() {
        let full = [b'x'; LINE_MAX];
        let mut record = login(b"tty1", b"me");
        assert!(record.is_login_on(b"tty1"));
        assert!(!record.is_login_on(b"tty") && !record.is_login_on(b"tty11"));
        assert!(login(&full, b"me").is_login_on(&full));
        assert!(!login(b"tty1", b"").is_login_on(b"tty1"));
        record.log_out(7, 0);
        assert!(!record.is_login_on(b"tty1"));
        assert_eq!(record, Record::of_logout(b"tty1", 7, 0));
    }
}
