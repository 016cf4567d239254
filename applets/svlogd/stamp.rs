//! The timestamp before each line (`-t`, `-tt`, `-ttt`). Pure: no I/O; the clock is an argument.

use svcore::tai::{self, Tai64N};

use svcore::label::label_of;

/// The kind of timestamp that is written before each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineStamp {
    /// None.
    None,
    /// `-t`: a TAI64N label.
    Label,
    /// `-tt` and `-ttt`: the time in UTC, with this byte between date and time.
    Utc(u8),
}

/// A timestamp and the blank after it. All kinds have the same length.
pub(crate) type StampText = [u8; 26];

impl LineStamp {
    /// The kind for this number of letters `t`: `-t`, `-tt`, `-ttt`; more are as three.
    pub(crate) const fn of_letters(number: usize) -> Self {
        match number {
            0 => LineStamp::None,
            1 => LineStamp::Label,
            2 => LineStamp::Utc(b'_'),
            _ => LineStamp::Utc(b'T'),
        }
    }

    /// The text for lines that were read now, if lines have a timestamp. Only then is the clock read.
    pub(crate) fn text(self, clock: impl FnOnce() -> Tai64N) -> Option<StampText> {
        let text = match self {
            LineStamp::None => return None,
            LineStamp::Label => label_of(&clock()),
            LineStamp::Utc(between) => tai::human(&clock(), between),
        };
        let mut stamp = [b' '; 26];
        for (to, from) in stamp.iter_mut().zip(text) {
            *to = from;
        }
        Some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_ends_with_a_blank() {
        let text = |kind: LineStamp| {
            kind.text(|| tai::stamp(100, 5)).map(|text| String::from_utf8(text.to_vec()).unwrap())
        };
        assert_eq!(text(LineStamp::None), None);
        assert_eq!(text(LineStamp::Label).as_deref(), Some("@400000000000006e00000005 "));
        assert_eq!(text(LineStamp::Utc(b'T')).as_deref(), Some("1970-01-01T00:01:40.00000 "));
    }
}
