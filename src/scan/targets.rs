//! Where the links of a served directory lead: the directories on the way are watched, so that what is exchanged behind a
//! link is noticed as soon as what changes in the served directory itself.
//!
//! A deployment renames the directory that a link leads to, or switches a link `current` on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};

use crate::files::Identity;
use crate::path;
use crate::sys::watch::Inotify;

/// An entry on the way: the number of the watch of its directory, and its name.
type Step = (i32, Vec<u8>);

/// The ways of all links.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By the name of the link: what it led to when its way was looked up, and the way.
    ways: BTreeMap<CString, (Option<Identity>, Vec<Step>)>,
    /// All steps of all ways.
    steps: BTreeSet<Step>,
}

impl Targets {
    /// Whether the way of this link is known, and led to this directory. One that leads nowhere is looked up each time.
    pub(super) fn has(&self, name: &CStr, identity: Option<Identity>) -> bool {
        identity.is_some() && self.ways.get(name).is_some_and(|(known, _)| *known == identity)
    }

    /// Watches the way of the link `name` in the directory at `base`, which leads to the directory `identity` or nowhere.
    ///
    /// What cannot be watched is noticed later, when something else happens.
    pub(super) fn add(&mut self, watch: &Inotify, base: &CStr, name: &CStr, identity: Option<Identity>) {
        let path = [base.to_bytes(), b"/", name.to_bytes()].concat();
        let steps = path::entries_to_watch(&path, true)
            .into_iter()
            .filter_map(|(dir, entry)| Some((watch.add(&dir).ok()?, entry)))
            .collect();
        self.ways.insert(name.to_owned(), (identity, steps));
    }

    /// Forgets all links but those that `is_there`.
    pub(super) fn keep(&mut self, is_there: impl Fn(&CStr) -> bool) {
        self.ways.retain(|name, _| is_there(name));
        self.steps.clear();
        self.steps.extend(self.ways.values().flat_map(|(_, steps)| steps).cloned());
    }

    /// Whether what happened to the entry `name` of a watched directory may change what a link leads to. Without a name
    /// it happened to the directory itself.
    pub(super) fn concerns(&self, watch: i32, name: &[u8]) -> bool {
        if name.is_empty() { self.is_watched(watch) } else { self.steps.contains(&(watch, name.to_vec())) }
    }

    /// Whether a watch is one of these.
    pub(super) fn is_watched(&self, watch: i32) -> bool {
        self.steps.range((watch, Vec::new())..).next().is_some_and(|(first, _)| *first == watch)
    }

    /// The numbers of all watches.
    pub(super) fn watches(&self) -> BTreeSet<i32> {
        let mut watches = BTreeSet::new();
        watches.extend(self.steps.iter().map(|(watch, _)| *watch));
        watches
    }
}
