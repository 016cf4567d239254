//! Which lines are shown. Pure.

use svcore::tai::Tai64N;

use super::pattern::Pattern;

/// What a line has to be like to be shown.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// From this time on.
    pub(super) since: Option<Tai64N>,
    /// A part of the line matches.
    pub(super) pattern: Option<Pattern>,
}

impl Filter {
    /// Whether a line is shown.
    pub(super) fn passes(&mut self, time: Tai64N, text: &[u8]) -> bool {
        self.since.is_none_or(|since| time >= since)
            && self.pattern.as_mut().is_none_or(|pattern| pattern.matches(text))
    }
}
