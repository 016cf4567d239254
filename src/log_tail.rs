//! The last lines of a log that `svlogd` writes.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fstat};
use rustix::process::{Pid, geteuid};

use crate::logger::account;
use crate::{files, slice, trust};

/// How many lines are returned.
const LINES: usize = 20;
/// How much of the end of the log is read for them, in bytes.
const TAIL: usize = 32 * 1024;
/// How much of a command line is read, in bytes.
const WORDS_MAX: usize = 4096;

/// The last lines of the log that the log service in `dir` writes; `process` is its process, if it runs. Empty if there is
/// no log that can be found and believed. `instance`: the directory of the instance, such as `@tty1`, if this suite keeps the
/// log of one.
///
/// The log is that of the first directory on the command line of `svlogd`; or else the one in `main`, or in `dir` itself.
#[must_use]
pub(crate) fn last_lines(dir: BorrowedFd<'_>, process: Option<Pid>, instance: Option<&[u8]>) -> Vec<u8> {
    let of_process = process.and_then(|pid| {
        let path = directory_of(&of_proc(pid, "cmdline")?)?.to_vec();
        Some((path, user_of(&of_proc(pid, "status")?)?))
    });
    // Without `log/run` the log belongs to the user that is named beside it.
    let owner = account::ids_of(dir).ok().flatten().map(|ids| ids.uid);
    let owner = owner.unwrap_or_else(|| fstat(dir).map_or(0, |stat| stat.st_uid));
    let own = [b"main".as_slice(), b"."].into_iter().map(|path| match instance {
        Some(instance) => ([path, b"/", instance].concat(), owner),
        None => (path.to_vec(), owner),
    });
    let found = of_process.into_iter().chain(own).find_map(|(path, user)| open(dir, &path, user).ok());
    found.and_then(|(file, length)| tail(&file, length).ok()).unwrap_or_default()
}

/// Opens `current` in the directory `path`, and returns its length. It has to belong to `user`, who writes it: somebody else
/// might have named a file here that he may not read.
fn open(dir: BorrowedFd<'_>, path: &[u8], user: u32) -> io::Result<(OwnedFd, u64)> {
    let believed = [0, geteuid().as_raw(), user];
    let way = trust::walk(dir, path, &believed, trust::Make::Nothing)?;
    let (file, stat) = trust::open_regular(way.dir.as_fd(), c"current", OFlags::RDONLY, Mode::empty())?;
    if stat.st_uid != user {
        return Err(trust::Refusal::OtherOwner.into());
    }
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

/// The last lines of a file.
fn tail(file: &OwnedFd, length: u64) -> io::Result<Vec<u8>> {
    let begin = length.saturating_sub(TAIL as u64);
    let mut buffer = vec![0; TAIL];
    let mut filled = 0;
    while let Some(room @ [_, ..]) = buffer.get_mut(filled..) {
        let at = begin.saturating_add(filled as u64);
        match rustix::io::pread(file, room, at)? {
            0 => break,
            more => filled = filled.saturating_add(more),
        }
    }
    let text = slice::part(&buffer, ..filled);
    Ok(last_of(text, begin == 0).to_vec())
}

/// The last lines of `text`. Unless that `is_whole`, its first line may lack its beginning, and does not count.
fn last_of(text: &[u8], is_whole: bool) -> &[u8] {
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').rev();
    let length: usize = lines.by_ref().take(LINES).map(<[u8]>::len).sum();
    let is_cut = !is_whole && lines.next().is_none();
    let last = slice::part(text, text.len().saturating_sub(length)..);
    match last.iter().position(|&byte| byte == b'\n') {
        Some(end) if is_cut => slice::part(last, end.saturating_add(1)..),
        _ => last,
    }
}

/// The first directory on the command line of a process, whose words are separated by null bytes, if it is that of an
/// `svlogd`. Source: svlogd(8).
#[must_use]
pub fn directory_of(words: &[u8]) -> Option<&[u8]> {
    /// Options of svlogd that have a value, ours and stock's.
    const WITH_VALUE: &[u8] = b"rRlb";
    let mut words = words.split(|&byte| byte == 0);
    let is_svlogd = |word: &[u8]| word.rsplit(|&byte| byte == b'/').next() == Some(b"svlogd");
    if !is_svlogd(words.next()?) && !is_svlogd(words.next()?) {
        return None;
    }
    while let Some(word) = words.next() {
        match word.strip_prefix(b"-") {
            Some(b"-") => return words.next().filter(|word| !word.is_empty()),
            Some(letters @ [_, ..]) => {
                let value = letters.iter().position(|letter| WITH_VALUE.contains(letter));
                if value.is_some_and(|at| at.saturating_add(1) == letters.len()) {
                    words.next();
                }
            }
            Some([]) | None => return Some(word).filter(|word| !word.is_empty()),
        }
    }
    None
}

/// The user as whom a process runs, by the content of its file `status`; `None` if it has several.
fn user_of(status: &[u8]) -> Option<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut users = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let first = users.next()?;
    if users.all(|user| user == first) { first.parse().ok() } else { None }
}

fn of_proc(pid: Pid, name: &str) -> Option<Vec<u8>> {
    let path = CString::new(format!("/proc/{}/{name}", pid.as_raw_nonzero())).ok()?;
    let mut buffer = vec![0; WORDS_MAX];
    files::read_start(CWD, &path, &mut buffer).map(<[u8]>::to_vec).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_the_first_that_svlogd_was_given() {
        let directory = |words: &[&str]| {
            let line: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            directory_of(&line).map(|dir| String::from_utf8(dir.to_vec()).unwrap())
        };
        for (line, expected) in [
            ("svlogd ./main", "./main"),
            ("svlogd main other", "main"),
            ("/usr/bin/svlogd -tt ./main ./other", "./main"),
            ("svlogd -tt -r _ -l1000 -b 2000 /var/log/web /x", "/var/log/web"),
            ("/usr/bin/svlogd -ttr_ main", "main"),
            ("svlogd -ttr _ main", "main"),
            ("svlogd -R-x ./main", "./main"),
            ("svlogd -- ./main", "./main"),
            ("svlogd -- -x", "-x"),
            ("svlogd svlogd", "svlogd"),
            ("runitbox svlogd -ttr _ -l 10 -b99 ./main", "./main"),
            ("/sbin/runitbox svlogd -t ./main", "./main"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(directory(&words).as_deref(), Some(expected), "{line}");
        }
        for line in ["", "svlogd", "svlogd -tt", "svlogd -r", "svlogd --", "sh ./run", "cat main"] {
            let words: Vec<&str> = line.split_terminator(' ').collect();
            assert_eq!(directory(&words), None, "{line}");
        }
    }

    #[test]
    fn the_last_lines_are_whole_ones() {
        let text: String = (0..30).map(|number| format!("line {number}\n")).collect();
        let last: String = (10..30).map(|number| format!("line {number}\n")).collect();
        assert_eq!(last_of(text.as_bytes(), true), last.as_bytes());
        assert_eq!(last_of(text.as_bytes(), false), last.as_bytes());
        assert_eq!(last_of(b"one\ntwo\nthr", true), b"one\ntwo\nthr");
        assert_eq!(last_of(b"one\ntwo\nthr", false), b"two\nthr");
        assert_eq!((last_of(b"", true), last_of(b"long", false)), (b"".as_slice(), b"long".as_slice()));
    }

    #[test]
    fn a_process_that_may_be_two_users_is_none() {
        assert_eq!(user_of(b"Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t1\t1\t1\t1\n"), Some(7));
        assert_eq!((user_of(b"Uid:\t7\t0\t7\t7\n"), user_of(b"Name:\tx\n")), (None, None));
    }
}
