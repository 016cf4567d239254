//! The directory of service directories: what is in it, and what is to be started and stopped for that.
//!
//! [`Scan`] decides, without I/O; [`Directory`] looks.

mod directory;
mod leaving;
mod plan;
pub mod process;
mod retry;
mod targets;

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;

use crate::files;
pub use crate::files::Identity;

pub use directory::Directory;
pub use leaving::Leaving;
pub use plan::{Found, Kind, Listing, Plan, Scan, again_at};
use process::Process;
pub use retry::Retry;

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
    use super::*;

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
}
