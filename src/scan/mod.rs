//! The directory of service directories: what is in it, and what is to be started and stopped for that.
//!
//! [`compare`] decides, without I/O; [`Directory`] looks.

mod directory;
pub mod process;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;

use crate::files;

pub use directory::Directory;
use process::Process;

/// A directory is itself wherever its name goes: device and inode.
pub type Identity = (u64, u64);

/// A service directory in the directory that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name there.
    pub name: CString,
    /// Which directory it is.
    pub identity: Identity,
}

/// What changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Not found any more: places in the list of what is known, ascending.
    pub stop: Vec<usize>,
    /// New.
    pub start: Vec<Found>,
    /// The runsv of this place has followed its name to another directory.
    pub follow: Vec<(usize, Identity)>,
}

/// Compares. `follows` says whether the supervisor of a known service already serves the directory that has now its
/// name.
///
/// A directory under several names is one service, under the name that comes first.
pub fn compare(known: &[&Found], found: &[Found], mut follows: impl FnMut(&Found) -> bool) -> Plan {
    let mut plan = Plan::default();
    let there: BTreeSet<Identity> = found.iter().map(|found| found.identity).collect();
    let mut served: BTreeSet<Identity> = known.iter().map(|known| known.identity).collect();
    for (place, service) in known.iter().enumerate() {
        if there.contains(&service.identity) {
            continue;
        }
        let under_its_name = found
            .iter()
            .find(|found| found.name == service.name)
            .filter(|found| !served.contains(&found.identity) && follows(service));
        match under_its_name {
            Some(found) => {
                served.insert(found.identity);
                plan.follow.push((place, found.identity));
            }
            None => plan.stop.push(place),
        }
    }
    plan.start = found.iter().filter(|found| served.insert(found.identity)).cloned().collect();
    plan
}

/// The directory that is served where nobody says which: `SVDIR`, or one that was chosen when this was built, or the
/// first that is there of the usual three.
#[must_use]
pub fn usual_directory() -> OsString {
    const USUAL: [&CStr; 3] = [c"/service", c"/etc/service", c"/var/service"];
    let there = |dir: &&&CStr| files::look(CWD, dir).is_ok_and(|stat| stat.is_some());
    let usual = || USUAL.iter().find(there).copied().unwrap_or(c"/service");
    std::env::var_os("SVDIR")
        .or_else(|| option_env!("RUNITBOX_SVDIR").map(OsString::from))
        .unwrap_or_else(|| OsStr::from_bytes(usual().to_bytes()).to_owned())
}

/// The directory that a client means: `SVDIR`, or what the runsvinit that is process 1 serves, or the usual; and where
/// that is not there, what any runsvinit serves. Only of root's or our own, see [`process`].
#[must_use]
pub fn directory_to_control() -> OsString {
    const INIT: &[&CStr] = &[c"runsvinit"];
    if let Some(dir) = std::env::var_os("SVDIR") {
        return dir;
    }
    if let Some(dir) = Process::open(1, INIT).and_then(|first| first.directory().ok()) {
        return dir.into();
    }
    let usual = usual_directory();
    if Path::new(&usual).is_dir() {
        return usual;
    }
    let all = process::called(INIT).into_iter().flatten();
    let dir = all.filter(|process| process.is_certain).find_map(|process| process.directory().ok());
    dir.map_or(usual, Into::into)
}

/// The directory in the command line of a `runsvdir` or `runsvinit`; `None` if it names none.
#[must_use]
pub fn directory_of<'w>(program: &[u8], words: impl IntoIterator<Item = &'w [u8]>) -> Option<&'w [u8]> {
    // After a first word that was dropped, empty ones may follow the last.
    let mut words = words.into_iter().take_while(|word| !word.is_empty());
    if program == b"runsvdir" {
        return words.find(|word| !word.starts_with(b"-P") && !word.starts_with(b"--"));
    }
    while let Some(word) = words.next() {
        match word {
            b"--" => return None,
            b"--map" | b"--halt" => drop(words.next()),
            [b'-', b'-', ..] => {}
            // `-vw 5` has its value in the next word, `-vw5` in the same.
            [b'-', letters @ ..] => {
                if letters.iter().position(|letter| b"we".contains(letter)) == letters.len().checked_sub(1) {
                    words.next();
                }
            }
            dir => return Some(dir),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(name: &str, inode: u64) -> Found {
        Found { name: CString::new(name).unwrap(), identity: (1, inode) }
    }

    fn plan(known: &[Found], there: &[Found], follows: bool) -> Plan {
        compare(&known.iter().collect::<Vec<_>>(), there, |_| follows)
    }

    #[test]
    fn the_new_is_started_and_the_vanished_is_stopped() {
        let plan = self::plan(&[found("a", 1), found("b", 2)], &[found("b", 2), found("c", 3)], false);
        assert_eq!(plan, Plan { stop: vec![0], start: vec![found("c", 3)], follow: vec![] });
    }

    #[test]
    fn renaming_a_link_changes_nothing() {
        assert_eq!(plan(&[found("a", 1)], &[found("z", 1)], false), Plan::default());
    }

    #[test]
    fn two_names_of_a_directory_are_one_service() {
        let plan = self::plan(&[], &[found("a", 1), found("b", 1)], false);
        assert_eq!(plan.start, [found("a", 1)]);
    }

    #[test]
    fn a_link_that_was_switched_is_another_service() {
        let plan = self::plan(&[found("a", 1)], &[found("a", 2)], false);
        assert_eq!((plan.stop, plan.start), (vec![0], vec![found("a", 2)]));
    }

    #[test]
    fn a_runsv_that_followed_its_name_is_kept() {
        let plan = self::plan(&[found("a", 1)], &[found("a", 2)], true);
        assert_eq!(plan, Plan { stop: vec![], start: vec![], follow: vec![(0, (1, 2))] });
        let taken = self::plan(&[found("a", 1), found("b", 2)], &[found("a", 2), found("b", 2)], true);
        assert_eq!(taken.stop, [0]);
    }

    #[test]
    fn the_directory_is_found_in_a_command_line() {
        let dir = |program: &str, words: &str| {
            let dir = directory_of(program.as_bytes(), words.split(' ').map(str::as_bytes));
            dir.map(|dir| String::from_utf8(dir.to_vec()).unwrap())
        };
        for (program, words, expected) in [
            ("runsvdir", "-P /etc/service log", Some("/etc/service")),
            ("runsvdir", "service", Some("service")),
            ("runsvinit", "-v -w 5 --map 1=0 --prefix /sv -- sh", Some("/sv")),
            ("runsvinit", "-vw5 --map=1=0 -e/env /sv", Some("/sv")),
            ("runsvinit", "-vw 5 /sv", Some("/sv")),
            ("runsvinit", "-v -- /bin/sh", None),
            ("runsvinit", "-e", None),
            ("runsvinit", "", None),
            ("runsvinit", "-v   ", None),
        ] {
            assert_eq!(dir(program, words).as_deref(), expected, "{program} {words}");
        }
    }

    proptest! {
        /// Afterwards each directory that is there is served exactly once, and none that is not.
        #[test]
        fn the_plan_leads_to_what_was_found(
            before in prop::collection::btree_map("[a-d]", 1_u64..6, 0..4),
            after in prop::collection::btree_map("[a-d]", 1_u64..6, 0..4),
            follows: bool,
        ) {
            let mut seen = std::collections::BTreeSet::new();
            let mut known: Vec<Found> = before
                .iter()
                .filter(|(_, inode)| seen.insert(**inode))
                .map(|(name, inode)| found(name, *inode))
                .collect();
            let list: Vec<Found> = after.iter().map(|(name, inode)| found(name, *inode)).collect();
            let plan = self::plan(&known, &list, follows);
            for (place, identity) in &plan.follow {
                known[*place].identity = *identity;
            }
            for place in plan.stop.iter().rev() {
                known.remove(*place);
            }
            known.extend(plan.start);
            let mut served: Vec<u64> = known.iter().map(|service| service.identity.1).collect();
            served.sort_unstable();
            let there: std::collections::BTreeSet<u64> = after.values().copied().collect();
            prop_assert_eq!(served, there.into_iter().collect::<Vec<u64>>());
        }
    }
}
