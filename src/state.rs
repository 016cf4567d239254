//! Where the state of a service lies whose directory cannot be written: a read-only image, another user's directory.
//!
//! The rule, for `runsv`, `runsvdir`, `runsvinit` and `sv` alike:
//!
//! 1. `supervise` in the service directory, or what a link of this name leads to, if it can be written.
//! 2. Otherwise `$RUNITBOX_STATE/NAME`, if that variable is set and not empty.
//! 3. Otherwise `/run/runit/supervise/NAME`; and where that cannot be written either, `/dev/shm/runit-UID/NAME`.
//!
//! NAME is the last part of the path of the service directory, with all links in it followed, and `.log` after it for
//! the log service. So whatever link a service is reached by, its state is found. A client takes the first of these
//! places in which a supervisor serves.

use std::ffi::{CString, OsStr};
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, mkdirat, statat};

use crate::files;

/// The variable that names another directory.
pub const VARIABLE: &str = "RUNITBOX_STATE";
/// The directory where the variable does not.
const USUAL: &str = "/run/runit/supervise";
/// A directory of memory that everybody may write to; containers have it even if they are read-only.
const SHARED: &str = "/dev/shm";

/// NAME of the rule. `path` leads to a service directory, or to the directory `log` in one.
#[must_use]
pub fn name_of(path: &Path) -> Option<Vec<u8>> {
    let (path, suffix): (PathBuf, &[u8]) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(last)) if last == "log" => {
            (if parent.as_os_str().is_empty() { ".".into() } else { parent.to_owned() }, b".log")
        }
        _ => (path.to_owned(), b""),
    };
    let real = std::fs::canonicalize(path).ok()?;
    Some([real.file_name()?.as_bytes(), suffix].concat())
}

/// The places for NAME as a supervisor tries them, with the directories above them made.
#[must_use]
pub fn places_to_make(name: &[u8]) -> Vec<CString> {
    let uid = rustix::process::geteuid().as_raw();
    roots(&[uid])
        .into_iter()
        .filter(|root| {
            if root.starts_with(SHARED) {
                // Everybody may make something of this name there: only our own will do.
                let _ = mkdirat(CWD, root.as_path(), Mode::RWXU);
                is_private(root, uid)
            } else {
                // Whether that worked is seen when it is used.
                let _ = DirBuilder::new().recursive(true).mode(0o755).create(root);
                true
            }
        })
        .filter_map(|root| place(&root, name))
        .collect()
}

/// The places for NAME as a client looks at them.
#[must_use]
pub fn places_to_find(name: &[u8]) -> Vec<CString> {
    let ours = rustix::process::geteuid().as_raw();
    // In a container, root asks after the services of whoever process 1 runs as.
    let first = statat(CWD, c"/proc/1", AtFlags::empty()).map_or(ours, |stat| stat.st_uid);
    roots(&[ours, first]).iter().filter_map(|root| place(root, name)).collect()
}

fn roots(uids: &[u32]) -> Vec<PathBuf> {
    if let Some(root) = std::env::var_os(VARIABLE).filter(|root| !root.is_empty()) {
        return vec![root.into()];
    }
    let shared = uids.iter().map(|uid| PathBuf::from(format!("{SHARED}/runit-{uid}")));
    [PathBuf::from(USUAL)].into_iter().chain(shared).collect()
}

fn place(root: &Path, name: &[u8]) -> Option<CString> {
    CString::new(root.join(OsStr::from_bytes(name)).into_os_string().as_bytes()).ok()
}

fn is_private(path: &Path, uid: u32) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| files::is_dir(&stat) && stat.st_uid == uid && !files::others_may_write(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_directory_whatever_leads_to_it() {
        let root = std::env::temp_dir().join(format!("svcore-state-{}", std::process::id()));
        std::fs::create_dir_all(root.join("sv/web/log")).unwrap();
        std::os::unix::fs::symlink("sv/web", root.join("link")).unwrap();
        let name = |path: &str| name_of(&root.join(path)).map(|name| String::from_utf8(name).unwrap());
        for (path, expected) in [
            ("sv/web", "web"),
            ("sv/web/", "web"),
            ("link", "web"),
            ("sv/web/.", "web"),
            ("sv/web/log", "web.log"),
            ("link/log", "web.log"),
            ("link/log/", "web.log"),
        ] {
            assert_eq!(name(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(name("none"), None);
        assert_eq!(name_of(Path::new("/")), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
