//! Processes that serve a directory, found by name in `/proc`.
//!
//! Anybody can give a process any name. So a process is believed only if root or we own it by all four user numbers that a
//! process has, if it was not started from a set-id file, and if it has the same root directory as we. Everything is read
//! through one descriptor of its directory in `/proc`, so it is never about another process that gets its number later.
//! What is read has a limit, so no process can make us read for long.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::process::geteuid;

use crate::files;
use crate::proc_stat::{self, ProcStat, Tag};
use crate::sys::listing;

use super::RUNSVINIT;
use super::announcement;

/// The longest name of a process, with its newline.
const NAME_MAX: usize = 16;
/// The longest command line that is read: it has a path in it, and a few words.
const LINE_MAX: usize = 64 * 1024;
/// The lines of `status` that are used are within this many bytes, unless the process has hundreds of groups.
const STATUS_MAX: usize = 4096;
/// `stat` is never longer: a name and numbers.
const STAT_MAX: usize = 1024;
/// The mode bits of a set-id file.
const SET_ID: u32 = 0o6000;

/// A process of root's or ours with the name of a supervisor.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Whether it surely is a supervisor, started by root or us: we could see that its file is not set-id, or it is
    /// process 1. Otherwise a stranger may have started a set-id program under this name, and chosen its command line.
    pub is_certain: bool,
    is_runsvinit: bool,
    /// Its number in its own PID namespace.
    innermost_pid: i32,
    /// Its directory in `/proc`.
    proc_dir: OwnedFd,
}

/// The processes with one of these names, in the order of their numbers; `None` where there is no `/proc`.
pub(super) fn called(names: &'static [&'static CStr]) -> Option<impl Iterator<Item = Process>> {
    let mut pids = listing::numbers_in(b"/proc").filter(|pids| !pids.is_empty())?;
    crate::sort::sort(&mut pids);
    Some(pids.into_iter().filter_map(|pid| Process::open(pid, names)))
}

impl Process {
    /// Process `pid`, if it has one of these names and can be believed.
    pub(super) fn open(pid: i32, names: &[&CStr]) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let proc_dir = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        // The cheapest checks first: of most processes no more is read.
        if !is_root_or_us(fstat(&proc_dir).ok()?.st_uid) {
            return None;
        }
        let mut name = [0; NAME_MAX];
        let name = files::read_start(proc_dir.as_fd(), c"comm", &mut name).ok()?.strip_suffix(b"\n")?;
        if !names.iter().any(|wanted| wanted.to_bytes() == name) {
            return None;
        }
        let mut status = [0; STATUS_MAX];
        let status = files::read_start(proc_dir.as_fd(), c"status", &mut status).ok()?;
        if !users(status)?.into_iter().all(is_root_or_us) {
            return None;
        }
        let innermost_pid = innermost_pid(status).unwrap_or(pid);
        let root = |root: rustix::io::Result<_>| root.map(|stat| files::identity(&stat));
        let ours = root(statat(CWD, c"/", AtFlags::empty()));
        if root(statat(&proc_dir, c"root", AtFlags::empty())).is_ok_and(|theirs| ours != Ok(theirs)) {
            return None;
        }
        let is_certain = match statat(&proc_dir, c"exe", AtFlags::empty()) {
            _ if pid == 1 => true,
            #[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
            Ok(stat) if u32::from(stat.st_mode) & SET_ID != 0 => return None,
            stat => stat.is_ok(),
        };
        Some(Process { pid, is_certain, is_runsvinit: name == RUNSVINIT.to_bytes(), innermost_pid, proc_dir })
    }

    /// Whether it is a `runsvinit`, not a `runsvdir`.
    #[must_use]
    pub const fn is_runsvinit(&self) -> bool {
        self.is_runsvinit
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stat().is_none_or(|stat| stat.is_zombie)
    }

    /// Whether a signal such as SIGSTOP has stopped it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stat().is_some_and(|stat| stat.is_stopped)
    }

    /// The process that started it, or that took it over.
    #[must_use]
    pub fn parent(&self) -> Option<i32> {
        Some(self.stat()?.parent)
    }

    fn stat(&self) -> Option<ProcStat> {
        let mut stat = [0; STAT_MAX];
        ProcStat::parse(files::read_start(self.proc_dir.as_fd(), c"stat", &mut stat).ok()?)
    }

    /// The directory that it serves.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if we may not know. With any other error it is none that exists for us, or it cannot be found out.
    pub fn directory(&self) -> io::Result<PathBuf> {
        let not_announced = match self.announced_directory() {
            Ok(announced) => return Ok(announced),
            Err(error) => error,
        };
        let mut line = vec![0; LINE_MAX];
        let line = files::read_start(self.proc_dir.as_fd(), c"cmdline", &mut line)?;
        if line.len() >= LINE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let words = line.split(|&byte| byte == 0).skip(1);
        let dir = if self.is_runsvinit {
            first_word(words).ok_or(not_announced)?
        } else {
            directory_of_runsvdir(words).ok_or(io::ErrorKind::NotFound)?
        };
        let dir = Path::new(OsStr::from_bytes(dir));
        Ok(if dir.is_absolute() { dir.to_owned() } else { self.working_directory()?.join(dir) })
    }

    /// The directory that it serves, if that is known and no stranger can have chosen it.
    pub(super) fn certain_directory(&self) -> Option<PathBuf> {
        let announced = self.announced_directory().ok();
        announced.or_else(|| self.is_certain.then(|| self.directory().ok())?)
    }

    /// The directory that it announces in a file. Nobody but root and us can have written that.
    fn announced_directory(&self) -> io::Result<PathBuf> {
        let tag = if self.is_runsvinit { self.tag() } else { None };
        announcement::read(&tag.ok_or(io::ErrorKind::NotFound)?)
    }

    /// What an announcement of it has in its name; `None` if it has ended.
    fn tag(&self) -> Option<Tag> {
        let stat = self.stat().filter(|stat| !stat.is_zombie)?;
        // Of the processes of others we may not know the namespace; usually it is ours.
        let namespace = proc_stat::namespace_in(self.proc_dir.as_fd(), c"ns/pid");
        let namespace = namespace.or_else(proc_stat::our_namespace)?;
        Some(Tag { pid: self.innermost_pid, start: stat.start, namespace })
    }

    /// Its working directory, by a path that leads there for us, too.
    fn working_directory(&self) -> io::Result<PathBuf> {
        let path = readlinkat(&self.proc_dir, c"cwd", Vec::new())?.into_bytes();
        let path = PathBuf::from(OsString::from_vec(path));
        let theirs = files::identity(&statat(&self.proc_dir, c"cwd", AtFlags::empty())?);
        let there = files::identity(&statat(CWD, &path, AtFlags::empty())?);
        if theirs == there { Ok(path) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// The directory in the words after the name of a `runsvdir`. Source: runsvdir(8), `runsvdir [-P] dir [log]`.
fn directory_of_runsvdir<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Option<&'w [u8]> {
    let is_option = |word: &&[u8]| word.starts_with(b"-P") || word.starts_with(b"--");
    words.into_iter().take_while(|word| !word.is_empty()).find(|word| !is_option(word))
}

/// The first word, unless that is an option. For a `runsvinit` that announces nothing: an older one, or one that found no
/// place for the file.
fn first_word<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Option<&'w [u8]> {
    words.into_iter().next().filter(|word| !word.is_empty() && !word.starts_with(b"-"))
}

fn is_root_or_us(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// The words of a line of `/proc/PID/status`.
fn words_of<'s>(status: &'s [u8], name: &str) -> Option<impl DoubleEndedIterator<Item = &'s str>> {
    // Newlines in the name of the process, which comes before, are escaped.
    let mut lines = status.split(|&byte| byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(std::str::from_utf8(line).ok()?.split_whitespace())
}

/// The real, effective, saved and file system user in `/proc/PID/status`.
fn users(status: &[u8]) -> Option<[u32; 4]> {
    let mut numbers = words_of(status, "Uid:")?.map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

/// The number that a process has in its own PID namespace, in `/proc/PID/status`. We may see it in an outer one.
fn innermost_pid(status: &[u8]) -> Option<i32> {
    words_of(status, "NSpid:")?.next_back()?.parse().ok()
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

    #[test]
    fn the_last_number_is_that_of_the_innermost_namespace() {
        assert_eq!(innermost_pid(b"Pid:\t70\nNSpid:\t70\t12\t1\nNSpgid:\t70\n"), Some(1));
        assert_eq!(innermost_pid(b"Pid:\t70\n"), None);
    }

    #[test]
    fn the_directory_is_found_in_a_command_line() {
        let words = |line: &'static str| line.split(' ').map(str::as_bytes);
        for (line, expected) in [
            ("-P /etc/service log", Some("/etc/service")),
            ("service", Some("service")),
            ("-P", None),
            ("", None),
        ] {
            assert_eq!(directory_of_runsvdir(words(line)), expected.map(str::as_bytes), "{line}");
        }
        for (line, expected) in [("/sv -- sh", Some("/sv")), ("-w 5 /sv", None), ("-- sh", None), ("", None)]
        {
            assert_eq!(first_word(words(line)), expected.map(str::as_bytes), "{line}");
        }
    }
}
