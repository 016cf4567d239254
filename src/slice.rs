//! Parts of slices whose place is known to be right.
//!
//! An index that is wrong is a bug of ours. It must not end a supervisor, so nothing here panics in a release; but it must
//! not pass for an empty slice unnoticed either, so a build with debug assertions, as in the tests, does panic.

use std::slice::SliceIndex;

/// The part of `slice` at `range`, which lies within it.
#[must_use]
pub fn part<T>(slice: &[T], range: impl SliceIndex<[T], Output = [T]>) -> &[T] {
    let part = slice.get(range);
    debug_assert!(part.is_some(), "a range lies outside of its slice");
    part.unwrap_or_default()
}

/// The same, to be changed.
#[must_use]
pub(crate) fn part_mut<T>(slice: &mut [T], range: impl SliceIndex<[T], Output = [T]>) -> &mut [T] {
    let part = slice.get_mut(range);
    debug_assert!(part.is_some(), "a range lies outside of its slice");
    part.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_an_index_would_return() {
        let mut slice = [1, 2, 3];
        assert_eq!((part(&slice, ..2), part(&slice, 3..)), (&slice[..2], &slice[3..]));
        part_mut(&mut slice, 1..)[0] = 5;
        assert_eq!(slice, [1, 5, 3]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "outside")]
    fn a_wrong_index_is_noticed() {
        let _ = part(&[1], 2..);
    }
}
