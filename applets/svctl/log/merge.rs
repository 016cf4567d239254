//! Several logs as one, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use super::filter::Filter;
use super::lines::Log;

/// Passes all lines that are there to `each`, in the order of their times; lines of one log stay in their order, whatever
/// their times are.
///
/// # Errors
///
/// That of `each`.
pub(super) fn drain(
    logs: &mut [Log],
    filter: &mut Filter,
    each: &mut dyn FnMut(&Log) -> io::Result<()>,
) -> io::Result<()> {
    let mut earliest = BinaryHeap::new();
    for (place, log) in logs.iter_mut().enumerate() {
        if log.next(filter) {
            earliest.push(Reverse((log.time(), place)));
        }
    }
    while let Some(Reverse((_, place))) = earliest.pop() {
        let Some(log) = logs.get_mut(place) else { continue };
        loop {
            each(log)?;
            if !log.next(filter) {
                break;
            }
            let time = (log.time(), place);
            if earliest.peek().is_some_and(|Reverse(other)| *other < time) {
                earliest.push(Reverse(time));
                break;
            }
        }
    }
    Ok(())
}
