//! Which processes serve a directory of services, and which directory.
//!
//! `sv` looks here for the directory that its caller means and for hints, and `runsvinit --halt` for the process that is to
//! end. Processes are found by their names in `/proc`, see [`process`]. A `runsvinit` announces the directory that it
//! serves in a file, see [`announcement`]; that of a `runsvdir`, stock's or ours, is in its command line.

mod announcement;
mod process;

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use crate::files;
use crate::proc_stat::ProcStat;

pub use announcement::{Announcement, announce};
pub use process::Process;

/// The name of the process that serves as a container's init.
const RUNSVINIT: &CStr = c"runsvinit";
/// The name of the process that runs a `runsv` for each service.
const RUNSVDIR: &CStr = c"runsvdir";

/// The default directory: `SVDIR`, or the one that was chosen when this was built, or the first of the usual three that
/// exists.
#[must_use]
pub fn usual_directory() -> OsString {
    const USUAL: [&CStr; 3] = [c"/service", c"/etc/service", c"/var/service"];
    let exists = |dir: &&&CStr| files::look(CWD, dir).is_ok_and(|stat| stat.is_some());
    let usual = || USUAL.iter().find(exists).copied().unwrap_or(c"/service");
    std::env::var_os("SVDIR")
        .or_else(|| option_env!("RUNITBOX_SVDIR").map(OsString::from))
        .unwrap_or_else(|| OsStr::from_bytes(usual().to_bytes()).to_owned())
}

/// The directory that a client means. The first of these is used:
///
/// 1. `SVDIR`,
/// 2. what the runsvinit serves that the client descends from,
/// 3. what process 1 serves, if it is a runsvinit,
/// 4. the usual directory, if it exists,
/// 5. what any runsvinit serves,
/// 6. the usual directory.
///
/// Only processes of root's and our own are believed, see [`Process`].
#[must_use]
pub fn directory_to_control() -> OsString {
    if let Some(dir) = std::env::var_os("SVDIR") {
        return dir;
    }
    if let Some(dir) = directory_of_ancestor().or_else(|| Process::open(1, &[RUNSVINIT])?.certain_directory())
    {
        return dir.into();
    }
    let usual = usual_directory();
    if Path::new(&usual).is_dir() {
        return usual;
    }
    let dir = inits().and_then(|mut inits| inits.find_map(|init| init.certain_directory()));
    dir.map_or(usual, Into::into)
}

/// Each runsvinit, in the order of their numbers; `None` where there is no `/proc`.
#[must_use]
pub fn inits() -> Option<impl Iterator<Item = Process>> {
    process::called(&[RUNSVINIT])
}

/// Each runsvdir and runsvinit, in the order of their numbers; `None` where there is no `/proc`.
#[must_use]
pub fn all() -> Option<impl Iterator<Item = Process>> {
    process::called(&[RUNSVDIR, RUNSVINIT])
}

/// What the nearest runsvinit serves that we descend from.
fn directory_of_ancestor() -> Option<PathBuf> {
    /// As many generations are looked at.
    const GENERATIONS_MAX: usize = 100;
    let mut ancestor = ProcStat::own()?.parent;
    for _ in 0..GENERATIONS_MAX {
        let stat = ProcStat::of(ancestor)?;
        if stat.name == RUNSVINIT.to_bytes()
            && let Some(dir) = Process::open(ancestor, &[RUNSVINIT]).and_then(|init| init.certain_directory())
        {
            return Some(dir);
        }
        ancestor = stat.parent;
    }
    None
}
