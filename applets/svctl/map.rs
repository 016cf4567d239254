//! A map with little code. One of the standard library has some 5 KiB for each type of keys or values.

/// Pairs in the order of their keys. To add one takes longer the more there are after it; there are a few thousand at most.
#[derive(Debug, Clone)]
pub(super) struct Map<K, V>(Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map(Vec::new())
    }
}

impl<K: Ord, V> Map<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    /// Sets the value of a key. Returns the value before.
    pub(super) fn set(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => self.0.get_mut(place).map(|(_, old)| std::mem::replace(old, value)),
            Err(place) => {
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    /// All pairs in the order of their keys.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, (K, V)> {
        self.0.iter()
    }

    /// Removes all pairs.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    proptest::proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(pairs: Vec<(u8, u16)>) {
            let (mut map, mut tree) = (Map::default(), BTreeMap::new());
            for (key, value) in pairs {
                proptest::prop_assert_eq!(map.set(key, value), tree.insert(key, value));
                proptest::prop_assert_eq!(map.get(&value.to_le_bytes()[0]), tree.get(&value.to_le_bytes()[0]));
            }
            proptest::prop_assert!(map.iter().copied().eq(tree));
            map.clear();
            proptest::prop_assert!(map.iter().next().is_none());
        }
    }
}
