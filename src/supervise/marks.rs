//! The progress marker in the timestamps of `ok`: how a client learns that its command is done.
//!
//! Nothing ever goes through the FIFO `ok`: the supervisor only holds it open, and clients only open it. The kernel
//! sets the access time of a FIFO when bytes are read from it and the modification time when bytes are written, so it
//! never touches those of `ok`, and they keep what the supervisor writes there:
//!
//! - Before it reads commands, it sets the access time to a new mark, later than all marks before.
//! - When every command that it read is executed, and the status that follows at once is published, it sets the
//!   modification time to the same mark.
//!
//! So a client whose bytes have left `control`, and that after this finds both times equal, reads a status that is
//! newer than its command, whatever other clients send meanwhile.
//!
//! The last three digits of the nanoseconds of a mark are 777. By them clients tell it from times that are no marks:
//! the `runsv` of stock sets none, and on a file system with timestamps coarser than a nanosecond the digits are
//! lost. Then clients wait a little for the status, as they have to with stock.

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};

use super::Supervise;
use crate::sys::clock;

/// The last three digits of the nanoseconds of a mark.
const SIGNATURE: u32 = 777;
/// In place of a time that futimens(2) is to leave as it is.
const UNCHANGED: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };

/// A mark: seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Mark(i64, u32);

impl Mark {
    /// The mark after this one at the time `now` of the wall clock: a later one, even if that clock was set back.
    fn next(self, now: (i64, u32)) -> Mark {
        const SECOND: u32 = 1_000_000_000;
        let mark = Mark(now.0, now.1 / 1000 * 1000 + SIGNATURE);
        if mark > self {
            return mark;
        }
        let nanos = self.1.saturating_add(1000);
        if nanos < SECOND { Mark(self.0, nanos) } else { Mark(self.0.saturating_add(1), SIGNATURE) }
    }

    fn time(self) -> Timespec {
        Timespec { tv_sec: self.0, tv_nsec: self.1.into() }
    }
}

impl Supervise {
    /// Tells clients that commands are about to be read.
    pub(crate) fn mark_reading(&mut self) {
        self.mark = self.mark.next(clock::wall_unix());
        self.set_times_of_ok(self.mark.time(), UNCHANGED);
    }

    /// Tells clients that every command that was read is executed and its effect published.
    pub(crate) fn mark_done(&self) {
        self.set_times_of_ok(UNCHANGED, self.mark.time());
    }

    fn set_times_of_ok(&self, last_access: Timespec, last_modification: Timespec) {
        let Some(ok) = &self.ok else { return };
        // Fails where the FIFO belongs to somebody else. Then clients wait a little for the status.
        let _ = futimens(ok, &Timestamps { last_access, last_modification });
    }
}

/// The times of `ok`, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OkTimes {
    /// When it was last accessed.
    pub access: (i64, i64),
    /// When it was last modified.
    pub modification: (i64, i64),
}

impl OkTimes {
    /// Whether both are marks of a supervisor of ours.
    fn are_ours(&self) -> bool {
        let is_mark = |time: (i64, i64)| time.1 % 1000 == i64::from(SIGNATURE);
        is_mark(self.access) && is_mark(self.modification)
    }
}

/// What the times of `ok` say about a command that has left `control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The command is done, and the status is published.
    Done,
    /// Not yet.
    NotYet,
    /// Nothing: whoever read the command sets no marks. Marks that are there may be those of an earlier supervisor.
    Unknown,
    /// A supervisor was doing commands when this one was sent, and either still is, or has ended and was followed by a
    /// supervisor that sets no marks.
    Stuck,
}

/// How far the supervisor is with a command that has left `control`. `before`: the times of `ok` from before it was
/// sent, if there were any.
#[must_use]
pub fn progress(before: Option<OkTimes>, now: OkTimes) -> Progress {
    if !now.are_ours() {
        return Progress::Unknown;
    }
    // A supervisor that sets marks has changed a time since then, or had set one and was not done yet.
    match (now.access == now.modification, before == Some(now)) {
        (true, false) => Progress::Done,
        (true, true) => Progress::Unknown,
        (false, false) => Progress::NotYet,
        (false, true) => Progress::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(access: (i64, i64), modification: (i64, i64)) -> OkTimes {
        OkTimes { access, modification }
    }

    #[test]
    fn marks_are_told_from_other_times() {
        let old = Some(times((4, 777), (4, 777)));
        assert_eq!(progress(old, times((5, 123_777), (5, 123_777))), Progress::Done);
        assert_eq!(progress(old, times((6, 123_777), (5, 123_777))), Progress::NotYet);
        assert_eq!(progress(old, times((5, 123_000), (5, 123_000))), Progress::Unknown);
        assert_eq!(progress(old, times((6, 123_000), (5, 123_777))), Progress::Unknown);
        assert_eq!(progress(None, times((5, 123_777), (5, 123_777))), Progress::Done);
    }

    #[test]
    fn marks_that_do_not_change_are_not_those_of_whoever_reads() {
        let idle = times((4, 777), (4, 777));
        assert_eq!(progress(Some(idle), idle), Progress::Unknown);
        let busy = times((5, 777), (4, 777));
        assert_eq!(progress(Some(busy), busy), Progress::Stuck);
        assert_eq!(progress(Some(busy), times((5, 777), (5, 777))), Progress::Done);
    }

    #[test]
    fn each_mark_is_later_than_the_last_whatever_the_clock_does() {
        let mut mark = Mark(1000, SIGNATURE);
        // The clock was set back; a second has room for a million of marks.
        for _ in 0..1_000_010 {
            let next = mark.next((5, 0));
            assert!(next > mark && next.1 < 1_000_000_000 && next.1 % 1000 == SIGNATURE, "{next:?}");
            mark = next;
        }
        assert_eq!(mark.next((2000, 123_456)), Mark(2000, 123_777));
        assert_eq!(Mark(i64::MAX, 999_999_777).next((0, 0)), Mark(i64::MAX, SIGNATURE));
    }
}
