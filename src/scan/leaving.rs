//! Services that were told to leave and are forgotten, but still there. Without I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::Identity;

/// Their directories, and what tells them apart: a process, or a place.
///
/// Thousands may leave at once, so each question is a look into a tree.
#[derive(Debug, Default)]
pub struct Leaving {
    which: BTreeMap<u64, Identity>,
    whose: BTreeSet<(Identity, u64)>,
}

impl Leaving {
    /// The service `number` in this directory was told to leave.
    pub fn add(&mut self, number: u64, identity: Identity) {
        self.which.insert(number, identity);
        self.whose.insert((identity, number));
    }

    /// The service `number` has left. Gives whether it was to.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(identity) = self.which.remove(&number) else { return false };
        self.whose.remove(&(identity, number))
    }

    /// Whether a service in this directory is still to leave.
    #[must_use]
    pub fn has(&self, identity: Identity) -> bool {
        self.whose.range((identity, 0)..=(identity, u64::MAX)).next().is_some()
    }

    /// Whether all have left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.which.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_when_the_last_of_it_has_left() {
        let mut leaving = Leaving::default();
        let [one, two] = [1, 2].map(|inode| Identity { device: 1, inode });
        leaving.add(7, one);
        leaving.add(8, one);
        leaving.add(9, two);
        assert!(leaving.remove(7) && !leaving.remove(7));
        assert!(leaving.has(one) && leaving.has(two) && !leaving.has(Identity { device: 2, inode: 1 }));
        assert!(leaving.remove(8) && !leaving.has(one) && !leaving.is_empty());
        assert!(leaving.remove(9) && leaving.is_empty());
    }
}
