//! Places that are found by a key: the process that a service has, the moment at which it is due.

use std::collections::VecDeque;

use super::Place;

/// Pairs of a key and a place, in their order.
///
/// Keys come and go mostly in their order and near the ends, where a deque is as fast as a tree; and there are at most
/// a few thousand of them.
#[derive(Debug)]
pub(super) struct Sorted<K>(VecDeque<(K, Place)>);

impl<K: Ord + Copy> Sorted<K> {
    pub(super) const fn new() -> Self {
        Sorted(VecDeque::new())
    }

    /// Adds a pair, if it is not there already.
    pub(super) fn insert(&mut self, key: K, place: Place) {
        if let Err(index) = self.0.binary_search(&(key, place)) {
            self.0.insert(index, (key, place));
        }
    }

    /// Removes a pair, if it is there.
    pub(super) fn remove(&mut self, key: K, place: Place) {
        if let Ok(index) = self.0.binary_search(&(key, place)) {
            self.0.remove(index);
        }
    }

    /// Whether there is no pair.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pair with the lowest key.
    pub(super) fn first(&self) -> Option<(K, Place)> {
        self.0.front().copied()
    }

    /// The places of a key.
    pub(super) fn all(&self, key: K) -> impl Iterator<Item = Place> {
        let index = self.0.partition_point(|(other, _)| *other < key);
        self.0.range(index..).take_while(move |(other, _)| *other == key).map(|(_, place)| *place)
    }

    /// The place of a key that only one place has.
    pub(super) fn find(&self, key: K) -> Option<Place> {
        let index = self.0.partition_point(|(other, _)| *other < key);
        self.0.get(index).filter(|(other, _)| *other == key).map(|(_, place)| *place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(steps in prop::collection::vec((any::<bool>(), 0..20_i32, 0..4_usize), 0..200)) {
            let (mut sorted, mut set) = (Sorted::new(), BTreeSet::new());
            for (adds, key, place) in steps {
                if adds {
                    sorted.insert(key, place);
                    set.insert((key, place));
                } else {
                    sorted.remove(key, place);
                    set.remove(&(key, place));
                }
                prop_assert_eq!(sorted.first(), set.first().copied());
                let found = set.range((key, 0)..=(key, Place::MAX)).next().map(|(_, place)| *place);
                prop_assert_eq!(sorted.find(key), found);
                prop_assert!(sorted.all(key).eq(set.range((key, 0)..=(key, Place::MAX)).map(|(_, place)| *place)));
            }
            prop_assert!(sorted.0.into_iter().eq(set));
        }
    }
}
