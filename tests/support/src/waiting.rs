//! Conditions that are waited for.

use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(5);

/// How long a condition is waited for. Only a case that fails waits so long, and a busy machine may need much of it.
const LIMIT: Duration = Duration::from_secs(90);

/// The same for `sv`, as the number of seconds in `SVWAIT` or after `-w`.
pub const PATIENCE: &str = "60";

/// Looks again and again until `seen` holds; fails after [`LIMIT`].
#[track_caller]
pub fn eventually(what: &str, seen: impl FnMut() -> bool) {
    assert!(holds_soon(seen), "never: {what}");
}

/// Whether `seen` holds within [`LIMIT`], for a case that has more to tell when it does not.
pub fn holds_soon(seen: impl FnMut() -> bool) -> bool {
    holds_within(LIMIT, seen)
}

/// Repeats `trial`, which returns how long something took, until that is less than `limit`; fails if it never is.
///
/// A busy machine makes some trials slow. A program that waits where it should not makes all of them slow.
#[track_caller]
pub fn promptly(what: &str, limit: Duration, mut trial: impl FnMut() -> Duration) {
    let begin = Instant::now();
    let mut all = Vec::new();
    while all.len() < 5 || (all.len() < 100 && begin.elapsed() < LIMIT) {
        let took = trial();
        if took < limit {
            return;
        }
        all.push(took);
    }
    panic!("never within {limit:?}: {what}: {all:?}");
}

/// How long `action` takes.
pub fn time_of(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
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
