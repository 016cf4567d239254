//! Exits that nobody asked for: which of them are reported, so that there is no more than one line in ten seconds, and
//! whether there are so many that the service is flapping.

use std::time::Duration;

use crate::moment::Moment;
use crate::process::Ended;

/// The time between two reports. Exits between them are counted in the next one.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(10);
/// A service is flapping when more than [`FLAPPING_EXITS`] unexpected exits fall within this time.
pub(super) const FLAPPING_WINDOW: Duration = Duration::from_secs(60);
/// See [`FLAPPING_WINDOW`].
pub(super) const FLAPPING_EXITS: usize = 3;

/// One exit that nobody asked for, as it is reported to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitReport {
    /// How the process ended.
    pub how: Ended,
    /// How long it had run.
    pub uptime: Duration,
    /// How many exits before this one were not reported, since the report before.
    pub unreported: u32,
}

impl ExitReport {
    /// The report about the program `script` in words.
    #[must_use]
    pub(crate) fn in_words(&self, script: &str) -> String {
        let ExitReport { how, uptime, unreported } = self;
        let uptime = format!("{}.{}s", uptime.as_secs(), uptime.subsec_millis() / 100);
        let again = match unreported {
            0 => String::new(),
            1 => "; it ended once more since the last report".to_owned(),
            more => format!("; it ended {more} times more since the last report"),
        };
        format!("{script} {} after {uptime}{again}", how.in_words())
    }
}

/// The recent exits that nobody asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnexpectedExits {
    /// When the last of them happened, the latest first.
    latest: [Option<Moment>; FLAPPING_EXITS],
    last_report: Option<Moment>,
    /// The last exit since then, with the number of those before it.
    unreported: Option<ExitReport>,
}

impl UnexpectedExits {
    /// Counts an exit at `now`. Returns how long the service counts as flapping from now on, if it does.
    pub(super) fn count(&mut self, now: Moment) -> Option<Duration> {
        let oldest = self.latest.last().copied().flatten();
        self.latest.rotate_right(1);
        if let Some(latest) = self.latest.first_mut() {
            *latest = Some(now);
        }
        let remaining = oldest.map(|oldest| oldest.saturating_add(FLAPPING_WINDOW).since(now));
        remaining.filter(|remaining| !remaining.is_zero())
    }

    /// The report of an exit at `now`; `None` if it is too soon after the last report, and for an exit with 0.
    pub(super) fn report(&mut self, now: Moment, how: Ended, uptime: Duration) -> Option<ExitReport> {
        if how == Ended::Code(0) {
            return None;
        }
        let unreported = self.unreported.map_or(0, |last| last.unreported.saturating_add(1));
        let report = ExitReport { how, uptime, unreported };
        if self.last_report.is_some_and(|last| now < last.saturating_add(REPORT_EVERY)) {
            self.unreported = Some(report);
            return None;
        }
        self.unreported = None;
        self.last_report = Some(now);
        Some(report)
    }

    /// When [`UnexpectedExits::report_due`] has something to report, if ever.
    pub(super) fn next_report(&self) -> Option<Moment> {
        self.unreported.and(self.last_report).map(|last| last.saturating_add(REPORT_EVERY))
    }

    /// The report at `now` of the exits that were not reported when they happened, if it is due.
    pub(super) fn report_due(&mut self, now: Moment) -> Option<ExitReport> {
        self.next_report().filter(|at| now >= *at)?;
        self.last_report = Some(now);
        self.unreported.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signal;

    fn at(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_report_names_reason_and_time() {
        let report = |how, unreported| {
            ExitReport { how, uptime: Duration::from_millis(12_340), unreported }.in_words("./run")
        };
        assert_eq!(report(Ended::Code(1), 0), "./run exited with 1 after 12.3s");
        assert_eq!(
            report(Ended::Signal { signal: Signal::KILL, core: false }, 7),
            "./run was ended by signal 9 after 12.3s; it ended 7 times more since the last report"
        );
    }

    #[test]
    fn exits_between_two_reports_are_counted_in_the_next() {
        let mut exits = UnexpectedExits::default();
        let mut exit = |seconds, code| exits.report(at(seconds), Ended::Code(code), Duration::ZERO);
        assert_eq!(exit(100, 1).map(|report| report.unreported), Some(0));
        assert_eq!((exit(101, 2), exit(102, 3), exit(103, 0)), (None, None, None));
        assert_eq!(exit(110, 4).map(|report| (report.how, report.unreported)), Some((Ended::Code(4), 2)));
        assert_eq!(exits.next_report(), None);
        let _ = exits.report(at(111), Ended::Code(5), Duration::ZERO);
        let _ = exits.report(at(112), Ended::Code(6), Duration::ZERO);
        assert_eq!((exits.next_report(), exits.report_due(at(119))), (Some(at(120)), None));
        let rest = exits.report_due(at(120));
        assert_eq!(rest.map(|report| (report.how, report.unreported)), Some((Ended::Code(6), 1)));
        assert_eq!((exits.next_report(), exits.report_due(at(130))), (None, None));
    }

    #[test]
    fn the_fourth_exit_in_a_minute_is_flapping_until_the_first_is_a_minute_ago() {
        let mut exits = UnexpectedExits::default();
        assert_eq!([100, 110, 120].map(|seconds| exits.count(at(seconds))), [None; 3]);
        assert_eq!(exits.count(at(130)), Some(Duration::from_secs(30)));
        assert_eq!(exits.count(at(170)), None);
    }
}
