//! The targets of the links in a served directory.
//!
//! A deployment may rename the directory that a link leads to, or switch a link `current` on the way to it. So the
//! directories on the way are watched, and such a change is noticed as soon as one in the served directory itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};

use crate::path;
use crate::sys::watch::Inotify;
use crate::template::ServiceIdentity;

/// An entry on the way to a target: the number of the watch of its directory, and its name.
type WatchedEntry = (i32, Vec<u8>);

/// The ways to the targets of all links.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By the name of the link: the directory that it led to when its way was looked up, and the way.
    ways: BTreeMap<CString, (Option<ServiceIdentity>, Vec<WatchedEntry>)>,
    /// All steps of all ways.
    steps: BTreeSet<WatchedEntry>,
}

impl Targets {
    /// Whether the way of this link is known, and led to this directory. The way of a link to nothing is looked up each
    /// time.
    pub(super) fn has(&self, name: &CStr, identity: Option<ServiceIdentity>) -> bool {
        identity.is_some() && self.ways.get(name).is_some_and(|(known, _)| *known == identity)
    }

    /// Watches the way of the link `name` in the directory at `base`, which leads to the directory `identity` or to nothing.
    ///
    /// If a directory on the way cannot be watched, a change in it is noticed at the next look.
    pub(super) fn add(
        &mut self,
        watch: &Inotify,
        base: &CStr,
        name: &CStr,
        identity: Option<ServiceIdentity>,
    ) {
        let path = [base.to_bytes(), b"/", name.to_bytes()].concat();
        let steps = path::entries_to_watch(&path, true)
            .into_iter()
            .filter_map(|(dir, entry)| Some((watch.add(&dir).ok()?, entry)))
            .collect();
        self.ways.insert(name.to_owned(), (identity, steps));
    }

    /// Forgets all links except those for which `exists` returns true.
    pub(super) fn keep(&mut self, exists: impl Fn(&CStr) -> bool) {
        self.ways.retain(|name, _| exists(name));
        self.steps.clear();
        self.steps.extend(self.ways.values().flat_map(|(_, steps)| steps).cloned());
    }

    /// Whether an event about the entry `name` of a watched directory may have changed the target of a link. With an empty
    /// name the event is about the directory itself.
    pub(super) fn concerns(&self, watch: i32, name: &[u8]) -> bool {
        if name.is_empty() { self.is_watched(watch) } else { self.steps.contains(&(watch, name.to_vec())) }
    }

    /// Whether a directory on a way has this watch.
    pub(super) fn is_watched(&self, watch: i32) -> bool {
        self.steps.range((watch, Vec::new())..).next().is_some_and(|(first, _)| *first == watch)
    }

    /// The watches of all directories on the ways.
    pub(super) fn watches(&self) -> BTreeSet<i32> {
        let mut watches = BTreeSet::new();
        watches.extend(self.steps.iter().map(|(watch, _)| *watch));
        watches
    }
}
