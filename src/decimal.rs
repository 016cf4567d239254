//! Numbers as runit reads them: decimal digits and nothing else, no sign, no blanks.
#![deny(clippy::arithmetic_side_effects)]

/// The number that `text` begins with, and what follows its digits. A number that is too large is the largest one.
///
/// Without any digit the number is 0. Source: sv(8), -w; chpst(8), -m; svlogd(8), config.
#[must_use]
pub fn leading(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    let value = number.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
    });
    (value, rest)
}

/// The number that all of `text` is. A number that is too large is the largest one, and empty text is 0.
///
/// `None` if it contains anything but digits. Source: chpst(8), limits.
#[must_use]
pub fn whole(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |value, &byte| {
        byte.is_ascii_digit()
            .then(|| value.saturating_mul(10).saturating_add(u64::from(byte.saturating_sub(b'0'))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_digits_is_returned() {
        assert_eq!(leading(b"12k"), (12, &b"k"[..]));
        assert_eq!(leading(b"abc"), (0, &b"abc"[..]));
        assert_eq!(leading(b""), (0, &b""[..]));
        assert_eq!(leading(b"18446744073709551617s"), (u64::MAX, &b"s"[..]));
    }

    #[test]
    fn a_whole_number_has_nothing_but_digits_and_does_not_wrap() {
        assert_eq!(whole(b"12"), Some(12));
        assert_eq!(whole(b""), Some(0));
        assert_eq!(whole(b"1 "), None);
        assert_eq!(whole(b"-1"), None);
        assert_eq!(whole(b"0x1"), None);
        assert_eq!(whole(b"99999999999999999999999"), Some(u64::MAX));
    }
}
