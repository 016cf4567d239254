//! Services that vanished and were told to leave, until they have ended. Without I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::template::ServiceIdentity;

/// The services that are leaving, each with its directory and a number: that of its process, or of its place in a host.
///
/// Thousands may leave at once, so both questions are answered by a search in a tree.
#[derive(Debug, Default)]
pub struct Leaving {
    by_number: BTreeMap<u64, ServiceIdentity>,
    by_directory: BTreeSet<(ServiceIdentity, u64)>,
}

impl Leaving {
    /// The service `number` in this directory was told to leave.
    pub fn add(&mut self, number: u64, identity: ServiceIdentity) {
        self.by_number.insert(number, identity);
        self.by_directory.insert((identity, number));
    }

    /// The service `number` has ended. Returns whether it was leaving.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(identity) = self.by_number.remove(&number) else { return false };
        self.by_directory.remove(&(identity, number))
    }

    /// Whether a service of this directory is leaving.
    #[must_use]
    pub fn has(&self, identity: ServiceIdentity) -> bool {
        self.by_directory.range((identity, 0)..=(identity, u64::MAX)).next().is_some()
    }

    /// Whether no service is leaving.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Identity;

    fn identity(device: u64, inode: u64) -> ServiceIdentity {
        ServiceIdentity::new(Identity { device, inode }, None)
    }

    #[test]
    fn a_directory_is_free_when_the_last_of_it_has_left() {
        let mut leaving = Leaving::default();
        let [one, two] = [1, 2].map(|inode| identity(1, inode));
        leaving.add(7, one);
        leaving.add(8, one);
        leaving.add(9, two);
        assert!(leaving.remove(7) && !leaving.remove(7));
        assert!(leaving.has(one) && leaving.has(two) && !leaving.has(identity(2, 1)));
        assert!(leaving.remove(8) && !leaving.has(one) && !leaving.is_empty());
        assert!(leaving.remove(9) && leaving.is_empty());
    }
}
