//! Old logs: in which order they were written, and which are too many. Pure: no I/O, no clock.
//! Source: svlogd(8), LOG FILE ROTATION.

use svcore::label::{Label, label_of, next_label};
pub(crate) use svcore::old_log::{Kind, OldLog};
use svcore::sort;
use svcore::tai::Tai64N;

/// The latest stamp in the names of old logs.
pub(crate) fn newest_stamp(old: &[OldLog]) -> Option<Tai64N> {
    old.iter().filter_map(OldLog::stamp).max()
}

/// New labels for the old logs whose label is no time that a clock can show, as pairs of old and new label.
///
/// Such a label sorts after all labels that will be made, so newer logs would count as older ones. The new labels
/// keep the order of the old ones and sort after all others. Rename in the order of the pairs: then no new label is
/// still in use.
pub(crate) fn new_labels(old: &[OldLog], now: Tai64N) -> Vec<(Label, Label)> {
    let mut labels: Vec<Label> =
        old.iter().filter(|old| old.stamp().is_none()).map(|old| old.label).collect();
    sort::sort(&mut labels);
    labels.dedup();
    let mut last = newest_stamp(old);
    let mut pairs = Vec::new();
    for label in labels {
        let Some((stamp, new_label)) = next_label(now, last) else { break };
        last = Some(stamp);
        if new_label < label {
            pairs.push((label, new_label));
        }
    }
    pairs
}

/// The labels of all old logs, in the order in which they are removed: oldest first.
///
/// `last` is the stamp of the last old log that this svlogd made. Its labels are later than all that it found, so a log
/// whose label is later still was put there by somebody else: such logs are removed first.
pub(crate) fn removal_order(old: &[OldLog], last: Option<Tai64N>) -> Vec<Label> {
    let mut labels: Vec<Label> =
        old.iter().filter(|old| old.kind != Kind::Output).map(|old| old.label).collect();
    let last = last.map(|last| label_of(&last));
    let key = |label: &Label| (last.is_none_or(|last| *label <= last), *label);
    sort::sort_by(&mut labels, |one, other| key(one) < key(other));
    labels.dedup();
    labels
}

/// The labels of the old logs to remove so that `keep` are left, in the order of removal; with `keep` 0 all are kept.
///
/// An old log is never kept while a newer one is removed, even if it is being processed: what is kept has no gap.
pub(crate) fn surplus(old: &[OldLog], keep: u64, last: Option<Tai64N>) -> Vec<Label> {
    let mut labels = removal_order(old, last);
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    labels.truncate(if keep == 0 { 0 } else { labels.len().saturating_sub(keep) });
    labels
}

/// Whether the next rotation would remove an old log that has not been processed.
pub(crate) const fn is_processor_behind(unprocessed: u64, keep: u64) -> bool {
    keep > 0 && unprocessed >= keep
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    use svcore::tai::{Tai64, stamp};

    use super::*;
    use svcore::label::CLOCK_LIMIT;

    proptest! {
        /// Whatever names are in the directory, whatever the clock shows, and whenever svlogd restarts: after each
        /// rotation the newest logs are kept without a gap, as many as configured if there are so many, and their names
        /// sort in the order in which they were written.
        #[test]
        fn the_newest_are_kept_without_a_gap(
            there in prop::collection::btree_set(any_label(), 0..12),
            clock in prop::collection::vec(prop_oneof![0_i64..50, Just(0), Just(20_000_000_000)], 1..60),
            restarts in prop::collection::vec(any::<bool>(), 60),
            keep in 0_u64..8,
        ) {
            // Each old log with its number, in the order in which they were written.
            let mut dir: Vec<(OldLog, usize)> =
                there.into_iter().map(|label| OldLog { label, kind: Kind::Saved }).zip(1..).collect();
            let names = |dir: &[(OldLog, usize)]| dir.iter().map(|(old, _)| *old).collect::<Vec<OldLog>>();
            let (mut logged, mut last) = (dir.len(), None);
            for (index, seconds) in clock.iter().enumerate() {
                if restarts[index] || index == 0 {
                    for (from, to) in new_labels(&names(&dir), stamp(*seconds, 0)) {
                        prop_assert!(dir.iter().all(|(old, _)| old.label != to));
                        dir.iter_mut().filter(|(old, _)| old.label == from).for_each(|(old, _)| old.label = to);
                    }
                    last = newest_stamp(&names(&dir));
                }
                let label = loop {
                    let (stamp, label) = next_label(stamp(*seconds, 0), last).unwrap();
                    last = Some(stamp);
                    if dir.iter().all(|(old, _)| old.label != label) {
                        break label;
                    }
                };
                logged += 1;
                dir.push((OldLog { label, kind: Kind::Unprocessed }, logged));
                prop_assert!(dir.iter().rev().skip(1).all(|(old, _)| old.label < label));
                let goes = surplus(&names(&dir), keep, last);
                dir.retain(|(old, _)| !goes.contains(&old.label));
                dir.sort_unstable();
                let left: Vec<usize> = dir.iter().map(|(_, number)| *number).collect();
                let wanted = if keep == 0 { logged } else { logged.min(keep as usize) };
                prop_assert_eq!(left, (logged + 1 - wanted..=logged).collect::<Vec<usize>>());
            }
        }

        /// The same log under two names, one of which is not processed yet, counts once.
        #[test]
        fn a_log_counts_once(count in 0_u8..20, keep in 1_u64..8) {
            let old: Vec<OldLog> = (0..count)
                .flat_map(|n| Kind::ALL.map(|kind| OldLog { label: label_of(&stamp(i64::from(n), 0)), kind }))
                .collect();
            let removed = surplus(&old, keep, None);
            prop_assert_eq!(removed.len() as u64, u64::from(count).saturating_sub(keep));
        }
    }

    /// Labels in a directory: of about now, of the far future, and of no time that a clock can show.
    fn any_label() -> impl Strategy<Value = Label> {
        let near = (0_i64..60, 0_u32..3).prop_map(|(seconds, nanos)| label_of(&stamp(seconds, nanos)));
        let far = (0_u64..3, prop_oneof![0_u32..3, Just(999_999_999), any::<u32>()])
            .prop_map(|(back, nanos)| label_of(&Tai64N(Tai64(CLOCK_LIMIT - 1 - back), nanos)));
        let none =
            (0_u64..3, 0_u32..3).prop_map(|(on, nanos)| label_of(&Tai64N(Tai64(CLOCK_LIMIT + on), nanos)));
        prop_oneof![3 => near, 1 => far, 1 => none, 1 => Just(*b"@ffffffffffffffffffffffff")]
    }
}
