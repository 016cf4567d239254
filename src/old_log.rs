//! The names of old logs in a log directory. Pure: no I/O, no clock. Source: svlogd(8), LOG FILE ROTATION.

use crate::label::{Label, stamp_of};
use crate::tai::Tai64N;

/// Length of the name of an old log: its label, a dot and a letter.
const NAME_LENGTH: usize = 27;

/// What the last letter of the name of an old log says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `s`: complete, and processed if there is a processor.
    Saved,
    /// `t`: the output of a processor that has not finished.
    Output,
    /// `u`: not processed yet.
    Unprocessed,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Kind::Saved, Kind::Output, Kind::Unprocessed];

    const fn letter(self) -> u8 {
        match self {
            Kind::Saved => b's',
            Kind::Output => b't',
            Kind::Unprocessed => b'u',
        }
    }
}

/// An old log, as its name describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OldLog {
    /// Its label.
    pub label: Label,
    /// What it is.
    pub kind: Kind,
}

impl OldLog {
    /// The old log that has this name; `None` if it is not the name of an old log.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let (label, ending) = name.split_first_chunk::<25>()?;
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let ([b'@', digits @ ..], [b'.', letter]) = (label, ending) else { return None };
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == *letter)?;
        digits.iter().all(is_digit).then_some(OldLog { label: *label, kind })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = String::with_capacity(NAME_LENGTH);
        name.extend(self.label.iter().map(|&byte| char::from(byte)));
        name.push('.');
        name.push(char::from(self.kind.letter()));
        name
    }

    /// The name that the same log has as another kind.
    #[must_use]
    pub const fn with_kind(self, kind: Kind) -> Self {
        OldLog { label: self.label, kind }
    }

    /// When it was rotated, which is after its last line; `None` if its label is no time that a clock can show.
    #[must_use]
    pub fn stamp(&self) -> Option<Tai64N> {
        stamp_of(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_old_logs_are_told_from_others() {
        let name = "@400000000000000a00000000.s";
        assert_eq!(OldLog::from_name(name.as_bytes()).unwrap().name(), name);
        for other in [
            "current",
            "@400000000000000a00000000.x",
            "@400000000000000A00000000.s",
            "@40.s",
            "lock",
            "x400000000000000a00000000.s",
            "@400000000000000a00000000.ss",
            "@400000000000000a00000000",
        ] {
            assert_eq!(OldLog::from_name(other.as_bytes()), None, "{other}");
        }
    }
}
