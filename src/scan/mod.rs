//! The directory of service directories: what is in it, and what is to be started and stopped for that.
//!
//! [`Scan`] decides, without I/O; [`Directory`] looks.

mod directory;
mod leaving;
mod plan;
mod retry;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use crate::files;

pub use directory::Directory;
pub use leaving::Leaving;
pub use plan::{Found, Identity, Kind, Listing, Plan, Scan, again_at};
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
/// that is not there, what any runsvinit serves.
#[must_use]
pub fn directory_to_control() -> OsString {
    if let Some(dir) = std::env::var_os("SVDIR") {
        return dir;
    }
    let is_init = |process: &Path| {
        let mut name = [0; 16];
        let comm = CString::new(process.join("comm").into_os_string().as_bytes()).unwrap_or_default();
        files::read_start(CWD, &comm, &mut name).is_ok_and(|name| name == b"runsvinit\n")
    };
    let first = Path::new("/proc/1");
    if is_init(first)
        && let Some(dir) = directory_of_process(first)
    {
        return dir.into();
    }
    let usual = usual_directory();
    if Path::new(&usual).is_dir() {
        return usual;
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let dir = processes.filter(|process| is_init(process)).find_map(|process| directory_of_process(&process));
    dir.map_or(usual, Into::into)
}

/// The directory that a process serves, as a path for us; `process` is its directory in `/proc`.
#[must_use]
pub fn directory_of_process(process: &Path) -> Option<PathBuf> {
    let line = std::fs::read(process.join("cmdline")).ok()?;
    let mut words = line.split(|&byte| byte == 0);
    let program = words.next()?.rsplit(|&byte| byte == b'/').next()?;
    let Some(dir) = directory_of(program, words) else {
        return (program == b"runsvinit").then(|| usual_directory().into());
    };
    Some(if dir.starts_with(b"/") {
        PathBuf::from(OsStr::from_bytes(dir))
    } else {
        process.join("cwd").join(OsStr::from_bytes(dir))
    })
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
