//! Services whose process has just been started, and which count as up only when they have run for a moment.
//!
//! A supervisor reports a process that runs as soon as it has made it, whatever becomes of it. A service that tells when it is
//! ready, or has a `./check`, needs no such moment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use svcore::client::{Target, View};
use svcore::facts::Readiness;
use svcore::moment::Moment;
use svcore::status::{State, Status};
use svcore::sys::clock;
use svcore::tai::{self, Tai64N};

/// How long a process has to run, from its start. A shell that does not find a command ends after 2 ms, a Python program whose
/// port is in use after 50 ms, and on a busy machine after some times that.
const SHORTEST_RUN: Duration = Duration::from_millis(300);

/// A process that has not run for long enough yet.
#[derive(Debug)]
pub(super) struct Started {
    /// The service, as it was named.
    pub(super) name: OsString,
    status: Status,
    /// When it has run for long enough.
    pub(super) until: Moment,
}

impl Started {
    /// The process of a service that is up, if only time can tell whether it stays up.
    pub(super) fn new(target: &Target, view: &View) -> Option<Self> {
        let left = left(&view.status, &tai::now())?;
        let is_ready = matches!(view.facts().readiness, Some(Readiness::Ready(_)));
        if is_ready || matches!(target.look(c"check"), Ok(Some(_))) {
            return None;
        }
        Some(Started {
            name: OsStr::from_bytes(&target.typed).to_owned(),
            status: view.status,
            until: clock::monotonic().saturating_add(left),
        })
    }

    /// Whether the service still has this process.
    pub(super) fn still_runs(&self, status: &Status) -> bool {
        status.state == State::Run && status.pid == self.status.pid && status.since == self.status.since
    }
}

/// How much longer the process has to run; `None` if it has run for long enough, or there is none. After a start that lies in
/// the future, since the clock was set back, that is the whole time.
fn left(status: &Status, now: &Tai64N) -> Option<Duration> {
    // Not by `duration_since` of tai64, which may panic.
    let time =
        |stamp: &Tai64N| Duration::from_secs(stamp.0.0).saturating_add(Duration::from_nanos(stamp.1.into()));
    let age = time(now).saturating_sub(time(&status.since));
    let runs = status.state == State::Run && status.pid.is_some();
    SHORTEST_RUN.checked_sub(age).filter(|left| runs && !left.is_zero())
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;
    use svcore::status::Want;
    use svcore::tai::stamp;

    use super::*;

    #[test]
    fn only_a_young_process_has_time_left() {
        let status = |state, pid| Status {
            since: stamp(100, 900_000_000),
            pid: Pid::from_raw(pid),
            paused: false,
            want: Some(Want::Up),
            term: false,
            state,
        };
        let millis = Duration::from_millis;
        for (state, pid, now, expected) in [
            (State::Run, 7, stamp(100, 900_000_000), Some(millis(300))),
            (State::Run, 7, stamp(101, 100_000_000), Some(millis(100))),
            (State::Run, 7, stamp(101, 200_000_000), None),
            (State::Run, 7, stamp(90, 0), Some(millis(300))),
            (State::Down, 0, stamp(101, 0), None),
            (State::Finish, 7, stamp(101, 0), None),
        ] {
            assert_eq!(left(&status(state, pid), &now), expected, "{state:?} {pid} {now:?}");
        }
    }
}
