//! A point in time, as against a span of time, which is a [`Duration`].

use std::ops::Add;
use std::time::Duration;

/// A point in time of the monotonic clock, which never steps back.
///
/// Arithmetic saturates: a moment that would be too late to represent is the last one there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the clock. What is due at this moment is due at once.
    pub const START: Moment = Moment(Duration::ZERO);

    /// The moment that is `span` after the start of the clock.
    #[must_use]
    pub const fn from_start(span: Duration) -> Self {
        Moment(span)
    }

    /// The time between the start of the clock and this moment.
    #[must_use]
    pub(crate) const fn since_start(self) -> Duration {
        self.0
    }

    /// The moment that is `span` after this one.
    #[must_use]
    pub const fn saturating_add(self, span: Duration) -> Self {
        Moment(self.0.saturating_add(span))
    }

    /// The time between an earlier moment and this one; zero if the other is later.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, span: Duration) -> Moment {
        self.saturating_add(span)
    }
}

/// The earlier of two moments, where there are any.
#[must_use]
pub fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let (second, last) = (Duration::from_secs(1), Moment::from_start(Duration::MAX));
        assert_eq!(last + second, last);
        assert_eq!((last.since(Moment::START), Moment::START.since(last)), (Duration::MAX, Duration::ZERO));
    }

    #[test]
    fn the_earlier_moment_is_found_among_those_there_are() {
        let [early, late] = [1, 2].map(|seconds| Moment::from_start(Duration::from_secs(seconds)));
        assert_eq!(earlier(Some(late), Some(early)), Some(early));
        assert_eq!((earlier(None, Some(late)), earlier(Some(late), None)), (Some(late), Some(late)));
        assert_eq!(earlier(None, None), None);
    }
}
