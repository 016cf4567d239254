//! The file in which a process announces the directory that it serves.
//!
//! It is called `serves.NAMESPACE.PID`, after the PID namespace and the number of the process, so two containers that share
//! a file system have different files. It lies in the first of these directories in which it can be made:
//!
//! 1. `/run/runit`,
//! 2. `$RUNITBOX_STATE`, if that variable is set,
//! 3. `/dev/shm/runit-UID`,
//! 4. `/tmp/runit-UID`.
//!
//! The first line holds the numbers of the process, of its start (see [`Tag`]) and of the PID namespace; the
//! second line, which ends at the last newline of the file, is the absolute path of the directory.
//!
//! A reader starts from a process that it trusts (see [`super::process`]) and believes the file only if all three numbers
//! fit, if it belongs to root or to us, if nobody else may write to it, and if it has no other name. So neither a file
//! that an ended process left behind is believed, nor one of a stranger.

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::proc_stat::Tag;
use crate::state::{self, Root};
use crate::trust;

/// How the names of the files begin.
const PREFIX: &str = "serves.";
/// How the name of a file ends that is being written.
const NEW: &str = ".new";
/// A file is no longer than this: three numbers and a path.
const LENGTH_MAX: usize = 8192;

/// A file of ours, which is removed at the end.
#[derive(Debug)]
#[must_use = "the file is removed when this is dropped"]
pub struct Announcement {
    place: Place,
    name: CString,
}

/// A directory in which announcements lie.
#[derive(Debug)]
enum Place {
    RunRunit,
    StateRoot(Root),
}

/// Announces that this process serves `dir`, and removes what ended processes of ours left behind. `None` if there is no
/// place for that, or no `/proc` in which anybody could find us.
pub fn announce(dir: &OsStr) -> Option<Announcement> {
    let us = Tag::own()?;
    let text = us.text(&std::path::absolute(dir).ok()?);
    let name = us.file_name()?;
    let uid = rustix::process::geteuid().as_raw();
    places(&[uid]).find_map(|place| {
        let place_dir = place.make().ok()?;
        remove_stale(&place_dir, uid, us.namespace);
        write(place_dir.as_fd(), &us, &text).ok()?;
        Some(Announcement { place, name: name.clone() })
    })
}

/// The directory that a process announces to serve.
///
/// # Errors
///
/// `PermissionDenied` if it may be announced in a place that we may not open; otherwise `NotFound`.
pub(super) fn read(tag: &Tag) -> io::Result<PathBuf> {
    let name = tag.file_name().ok_or(io::ErrorKind::NotFound)?;
    let [root, us] = trust::ours();
    let mut is_denied = false;
    for place in places(&[us, root]) {
        match read_in(&place, &name, tag) {
            Ok(path) => return Ok(path),
            Err(error) => is_denied |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Err(if is_denied { io::ErrorKind::PermissionDenied } else { io::ErrorKind::NotFound }.into())
}

fn read_in(place: &Place, name: &CStr, tag: &Tag) -> io::Result<PathBuf> {
    let (file, stat) = trust::open_regular(place.open()?.as_fd(), name, OFlags::RDONLY, Mode::empty())?;
    trust::check_owner(&stat)?;
    Ok(tag.path_in(&trust::read_at_most(&file, LENGTH_MAX)?).ok_or(io::ErrorKind::NotFound)?)
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Ok(dir) = self.place.open() {
            let _ = unlinkat(&dir, &self.name, AtFlags::empty());
        }
    }
}

/// The places in which announcements of the users `uids` may lie.
fn places(uids: &[u32]) -> impl Iterator<Item = Place> {
    let roots = state::given().into_iter().chain(state::usual(uids)).filter(|root| *root != Root::Run);
    std::iter::once(Place::RunRunit).chain(roots.map(Place::StateRoot))
}

impl Place {
    fn open(&self) -> io::Result<OwnedFd> {
        match self {
            Place::RunRunit => state::open_run_runit(&trust::ours()),
            Place::StateRoot(root) => root.open(&trust::ours()),
        }
    }

    fn make(&self) -> io::Result<OwnedFd> {
        match self {
            Place::RunRunit => state::make_run_runit(&trust::ours()),
            Place::StateRoot(root) => root.make(&trust::ours()),
        }
    }
}

impl Tag {
    fn file_name(&self) -> Option<CString> {
        CString::new(format!("{PREFIX}{}.{}", self.namespace, self.pid)).ok()
    }

    /// The content of the file.
    fn text(&self, path: &Path) -> Vec<u8> {
        let numbers = format!("{} {} {}\n", self.pid, self.start, self.namespace);
        [numbers.as_bytes(), path.as_os_str().as_bytes(), b"\n"].concat()
    }

    /// The path in the content of a file, if that is about this process.
    fn path_in(&self, text: &[u8]) -> Option<PathBuf> {
        let numbers = self.text(Path::new(""));
        let path = text.strip_prefix(numbers.strip_suffix(b"\n")?)?.strip_suffix(b"\n")?;
        // A NUL cannot be in a path.
        let is_path = path.starts_with(b"/") && !path.contains(&0);
        is_path.then(|| PathBuf::from(OsStr::from_bytes(path)))
    }
}

/// Writes the file in one step, so nobody reads half of it.
fn write(dir: BorrowedFd<'_>, tag: &Tag, text: &[u8]) -> io::Result<()> {
    let name = tag.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let new = CString::new([name.to_bytes(), NEW.as_bytes()].concat())?;
    let mut file = std::fs::File::from(trust::create_new(dir, &new, Mode::from_raw_mode(0o644))?);
    let written = file.write_all(text).and_then(|()| Ok(renameat(dir, &new, dir, &name)?));
    if written.is_err() {
        let _ = unlinkat(dir, &new, AtFlags::empty());
    }
    written
}

/// Removes the files of user `uid` about processes of our PID namespace that have ended. Those about other namespaces
/// stay, since we cannot see their processes.
fn remove_stale(dir: &OwnedFd, uid: u32, namespace: u64) {
    let Ok(entries) = openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(Dir::read_from)
    else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().ok().and_then(|name| pid_in(name, namespace)) else { continue };
        let is_ours = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_uid == uid);
        if is_ours && is_stale(dir.as_fd(), name, pid) {
            let _ = unlinkat(dir, name, AtFlags::empty());
        }
    }
}

/// The number of the process that a file of this name is about, if that is one of this PID namespace.
fn pid_in(name: &str, namespace: u64) -> Option<i32> {
    let name = name.strip_suffix(NEW).unwrap_or(name);
    let (of, pid) = name.strip_prefix(PREFIX)?.split_once('.')?;
    if of.parse() == Ok(namespace) { pid.parse().ok() } else { None }
}

/// Whether the file `name`, which is about a process that has or had the number `pid`, is about one that has ended.
fn is_stale(dir: BorrowedFd<'_>, name: &CStr, pid: i32) -> bool {
    let Some(number) = Pid::from_raw(pid) else { return false };
    if test_kill_process(number) == Err(Errno::SRCH) {
        return true;
    }
    let is_complete = !name.to_bytes().ends_with(NEW.as_bytes());
    let content = trust::open_regular(dir, name, OFlags::RDONLY, Mode::empty())
        .and_then(|(file, _)| trust::read_at_most(&file, LENGTH_MAX));
    is_complete
        && Tag::of_neighbour(pid)
            .is_some_and(|living| content.is_ok_and(|content| living.path_in(&content).is_none()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_files_of_a_namespace_have_a_process_in_it() {
        for (name, expected) in [
            ("serves.7.12", Some(12)),
            ("serves.7.12.new", Some(12)),
            ("serves.8.12", None),
            ("serves.7.x", None),
            ("serves.7", None),
            ("serves.7.12.3", None),
            ("supervise", None),
        ] {
            assert_eq!(pid_in(name, 7), expected, "{name}");
        }
    }

    #[test]
    fn a_file_about_another_process_names_no_directory() {
        let tag = Tag { pid: 7, start: 100, namespace: 3 };
        assert_eq!(tag.path_in(b"7 100 3\n/sv\n"), Some("/sv".into()));
        for text in [
            "",
            "7 100 3\n",
            "7 100 3\nsv\n",
            "7 100 3\n/sv",
            "8 100 3\n/sv\n",
            "7 101 3\n/sv\n",
            "7 100 4\n/sv\n",
        ] {
            assert_eq!(tag.path_in(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        /// Whatever is in the path, newlines too, it is read as it was written.
        #[test]
        fn a_path_is_read_as_it_was_written(pid: i32, start: u64, namespace: u64, end in "[^\0]{0,30}") {
            let (tag, path) = (Tag { pid, start, namespace }, PathBuf::from(format!("/{end}")));
            prop_assert_eq!(tag.path_in(&tag.text(&path)), Some(path));
        }
    }
}
