//! Conditions that are waited for.

use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(5);

/// Looks again and again until `seen` holds; fails after twenty seconds.
#[track_caller]
pub fn eventually(what: &str, seen: impl FnMut() -> bool) {
    assert!(holds_within(Duration::from_secs(20), seen), "never: {what}");
}

/// Whether `seen` holds within twelve seconds, for a case that has more to tell when it does not.
pub fn holds_soon(seen: impl FnMut() -> bool) -> bool {
    holds_within(Duration::from_secs(12), seen)
}

fn holds_within(limit: Duration, mut seen: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !seen() {
        if begin.elapsed() >= limit {
            return false;
        }
        thread::sleep(INTERVAL);
    }
    true
}

/// Fails if `holds` stops to hold within `time`. There is no event to wait for where nothing may happen.
#[track_caller]
pub fn steadily(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        assert!(holds(), "not steadily: {what}");
        thread::sleep(INTERVAL);
    }
}
