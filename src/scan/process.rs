//! Processes that serve a directory, found by name in `/proc`.
//!
//! Anybody may call a process what he likes. So only those are believed that belong to root or to us in all ways in which
//! a process belongs to somebody, that were not started from a file which changes who they are, and that see the
//! same root directory as we. All is read through one descriptor, which is that of the process and never that of
//! another which has its number later; and no more is read than a supervisor has to say.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::process::geteuid;

use crate::files;

use super::{directory_of, usual_directory};

/// The longest name of a process, with its newline.
const NAME_MAX: usize = 16;
/// The longest command line that is read: it has a path in it, and a few words.
const LINE_MAX: usize = 64 * 1024;
/// As much of `status` as is needed.
const STATUS_MAX: usize = 1024;
/// Mode bits of a file that changes who a process is.
const SET_ID: u32 = 0o6000;

/// A process that is believed to be what its name says.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Whether it is certain that nobody else made it say what it says: what it was started from could be looked at,
    /// or it is process 1.
    pub is_certain: bool,
    dir: OwnedFd,
}

/// Those called one of `names`, in ascending order; `None` where there is nothing to look at.
pub fn called(names: &'static [&'static CStr]) -> Option<impl Iterator<Item = Process>> {
    let numbers = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers: Vec<i32> =
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| *pid > 0).collect();
    crate::sort::sort(&mut numbers);
    let some = !numbers.is_empty();
    some.then(|| numbers.into_iter().filter_map(|pid| Process::open(pid, names)))
}

impl Process {
    /// The process with this number, if it is called one of `names` and can be believed.
    #[must_use]
    pub fn open(pid: i32, names: &[&CStr]) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        // First what is known at the least cost: of most processes it is all that is read.
        if !is_root_or_us(fstat(&dir).ok()?.st_uid) {
            return None;
        }
        let mut name = [0; NAME_MAX];
        let name = files::read_start(dir.as_fd(), c"comm", &mut name).ok()?.strip_suffix(b"\n")?;
        if !names.iter().any(|wanted| wanted.to_bytes() == name) {
            return None;
        }
        let mut status = [0; STATUS_MAX];
        let status = files::read_start(dir.as_fd(), c"status", &mut status).ok()?;
        if !users(status)?.into_iter().all(is_root_or_us) {
            return None;
        }
        let root = |root: rustix::io::Result<_>| root.map(|stat| files::identity(&stat));
        let ours = root(statat(CWD, c"/", AtFlags::empty()));
        if root(statat(&dir, c"root", AtFlags::empty())).is_ok_and(|theirs| ours != Ok(theirs)) {
            return None;
        }
        let is_certain = match statat(&dir, c"exe", AtFlags::empty()) {
            _ if pid == 1 => true,
            #[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
            Ok(stat) if u32::from(stat.st_mode) & SET_ID != 0 => return None,
            stat => stat.is_ok(),
        };
        Some(Process { pid, is_certain, dir })
    }

    /// The directory that it serves.
    ///
    /// # Errors
    ///
    /// That it does not say, or that we may not know.
    pub fn directory(&self) -> io::Result<PathBuf> {
        let unsaid = || io::Error::from(io::ErrorKind::NotFound);
        let mut line = vec![0; LINE_MAX];
        let line = files::read_start(self.dir.as_fd(), c"cmdline", &mut line)?;
        if line.len() >= LINE_MAX {
            return Err(unsaid());
        }
        let mut words = line.split(|&byte| byte == 0);
        let program = words.next().and_then(|word| word.rsplit(|&byte| byte == b'/').next());
        let Some(dir) = directory_of(program.unwrap_or_default(), words) else {
            return if program == Some(b"runsvinit") { Ok(usual_directory().into()) } else { Err(unsaid()) };
        };
        let dir = Path::new(OsStr::from_bytes(dir));
        Ok(if dir.is_absolute() { dir.to_owned() } else { self.working_directory()?.join(dir) })
    }

    /// Where it is, as a path that leads there for us, too.
    fn working_directory(&self) -> io::Result<PathBuf> {
        let path = readlinkat(&self.dir, c"cwd", Vec::new())?.into_bytes();
        let path = PathBuf::from(OsString::from_vec(path));
        let theirs = files::identity(&statat(&self.dir, c"cwd", AtFlags::empty())?);
        let there = files::identity(&statat(CWD, &path, AtFlags::empty())?);
        if theirs == there { Ok(path) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn is_root_or_us(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// The real, effective, saved and file system user in `/proc/PID/status`.
fn users(status: &[u8]) -> Option<[u32; 4]> {
    // The name comes before, with its newlines escaped.
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut numbers = std::str::from_utf8(line).ok()?.split_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_four_users() {
        assert_eq!(users(b"Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\n"), Some([1, 2, 3, 4]));
        assert_eq!(users(b"Name:\tx\nUid:\t1\t2\t3\n"), None);
        assert_eq!(users(b"Name:\tUid: 1 2 3 4\n"), None);
    }
}
