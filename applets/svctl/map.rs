//! A map with little code. One of the standard library has some 5 KiB for each type of keys or values.

use std::ffi::OsString;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;

/// Values by their keys. To add one takes longer the more there are after it; there are a few thousand at most.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    /// The keys in their order, each with the place of its value: as bytes, so that one piece of code searches them all.
    keys: Vec<(Vec<u8>, usize)>,
    values: Vec<V>,
    of: PhantomData<K>,
}

/// What can be a key.
pub(super) trait Key {
    /// Bytes that no other key has.
    fn bytes(&self) -> Vec<u8>;
}

impl Key for i32 {
    fn bytes(&self) -> Vec<u8> {
        self.to_ne_bytes().to_vec()
    }
}

impl Key for &OsString {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Key for OsString {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Key for Vec<usize> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in self {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map { keys: Vec::new(), values: Vec::new(), of: PhantomData }
    }
}

/// The place of the value of a key. A new key gets the place `next`, and `None` is returned.
#[inline(never)]
fn place(keys: &mut Vec<(Vec<u8>, usize)>, key: &[u8], next: usize) -> Option<usize> {
    match search(keys, key) {
        Ok(at) => keys.get(at).map(|(_, place)| *place),
        Err(at) => {
            keys.insert(at, (key.to_vec(), next));
            None
        }
    }
}

fn search(keys: &[(Vec<u8>, usize)], key: &[u8]) -> Result<usize, usize> {
    keys.binary_search_by(|(other, _)| other.as_slice().cmp(key))
}

impl<K: Key, V> Map<K, V> {
    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let (_, place) = self.keys.get(search(&self.keys, &key.bytes()).ok()?)?;
        self.values.get(*place)
    }

    /// Sets the value of a key. Returns the value before.
    pub(super) fn set(&mut self, key: K, value: V) -> Option<V> {
        match place(&mut self.keys, &key.bytes(), self.values.len()) {
            Some(place) => self.values.get_mut(place).map(|old| std::mem::replace(old, value)),
            None => {
                self.values.push(value);
                None
            }
        }
    }

    /// All values with the bytes of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.keys.iter().filter_map(|(key, place)| Some((key.as_slice(), self.values.get(*place)?)))
    }

    /// Removes all.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    proptest::proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(pairs: Vec<(i8, u16)>) {
            let (mut map, mut tree) = (Map::default(), BTreeMap::new());
            for (key, value) in pairs {
                let key = i32::from(key);
                proptest::prop_assert_eq!(map.set(key, value), tree.insert(key, value));
                let other = i32::from(value.to_le_bytes()[0]);
                proptest::prop_assert_eq!(map.get(&other), tree.get(&other));
            }
            let mut all: Vec<u16> = map.iter().map(|(_, value)| *value).collect();
            let mut expected: Vec<u16> = tree.into_values().collect();
            all.sort_unstable();
            expected.sort_unstable();
            proptest::prop_assert_eq!(all, expected);
            map.clear();
            proptest::prop_assert!(map.iter().next().is_none());
        }
    }
}
