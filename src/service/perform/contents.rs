//! What a service directory contains: one listing instead of a look for each file that it may have.

use rustix::fd::BorrowedFd;

use crate::policy::PolicyFiles;
use crate::sys::listing;

/// A directory with more entries than this counts as one that cannot be listed.
const ENTRIES_MAX: usize = 1000;

/// The entries that matter. What cannot be listed may have each of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents {
    pub(super) policies: PolicyFiles,
    pub(super) has_log: bool,
    pub(super) has_down: bool,
}

impl Contents {
    /// May have everything.
    pub(super) const UNKNOWN: Contents =
        Contents { policies: PolicyFiles::ALL, has_log: true, has_down: true };

    /// Lists the directory. `again`: it was listed before by the same descriptor.
    pub(super) fn list(dir: BorrowedFd<'_>, again: bool) -> Self {
        let mut contents = Contents { policies: PolicyFiles::default(), has_log: false, has_down: false };
        let mut room = ENTRIES_MAX;
        let is_complete = (!again || listing::rewind(dir))
            && listing::each_name(dir, |name| {
                match name {
                    b"log" => contents.has_log = true,
                    b"down" => contents.has_down = true,
                    name => contents.policies.add(name),
                }
                room = room.saturating_sub(1);
                room > 0
            });
        if is_complete { contents } else { Contents::UNKNOWN }
    }
}
