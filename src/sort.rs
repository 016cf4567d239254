//! Sorting with little code.
//!
//! The sort of the standard library is made anew for every type that is sorted, some 5 KiB each. The lists of this
//! program are short, or sorted already, and then a heap sort is as good. `collect` into a tree sorts with it too;
//! `extend` of an empty tree does not.

/// Sorts in ascending order. Equal elements may change places.
pub fn sort<T: Ord>(list: &mut [T]) {
    sort_by(list, |one, other| one < other);
}

/// Sorts so that no element `is_before` one that it comes after. Equal elements may change places.
pub fn sort_by<T>(list: &mut [T], is_before: impl Fn(&T, &T) -> bool) {
    if list.is_sorted_by(|one, other| !is_before(other, one)) {
        return;
    }
    for root in (0..list.len() / 2).rev() {
        sift_down(list, root, &is_before);
    }
    for end in (1..list.len()).rev() {
        list.swap(0, end);
        if let Some(heap) = list.get_mut(..end) {
            sift_down(heap, 0, &is_before);
        }
    }
}

/// Moves the element at `root` down until no child in the heap comes after it.
fn sift_down<T>(heap: &mut [T], mut root: usize, is_before: &impl Fn(&T, &T) -> bool) {
    loop {
        let left = root.saturating_mul(2).saturating_add(1);
        let compares = |one: usize, other: usize| {
            heap.get(one).zip(heap.get(other)).is_some_and(|(one, other)| is_before(one, other))
        };
        let right = left.saturating_add(1);
        let child = if compares(left, right) { right } else { left };
        if !compares(root, child) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(mut list: Vec<u8>) {
            let mut expected = list.clone();
            expected.sort_unstable();
            sort(&mut list);
            prop_assert_eq!(&list, &expected);
            expected.reverse();
            sort_by(&mut list, |one, other| one > other);
            prop_assert_eq!(&list, &expected);
        }
    }
}
