//! Second lines: what a message probably comes from, and what to do about it.
//!
//! The first line of a message is stock runit's to the byte, since programs read it. The second is for people, so it is
//! printed only where one is likely to read it: on a terminal, with `RUNITBOX_HINTS=1`, and always in the output of a
//! container. It begins with two blanks.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::libc;
use rustix::fd::BorrowedFd;
use rustix::fs::{CWD, Mode, OFlags, readlinkat};
use rustix::io::Errno;

use crate::error::Failed;
use crate::files::{self, Identity};
use crate::process::Ended;
use crate::say::{printable, printable_text};
use crate::{decimal, exec, sys, trust};

/// Second lines are printed if this variable is 1, and not if it is 0. Otherwise they are if standard error is a terminal.
const VARIABLE: &str = "RUNITBOX_HINTS";
/// As much of a file as is looked at: an interpreter line, or the headers of a program.
const START_MAX: usize = 4096;
/// As much of `/proc/locks` as is read.
const LOCKS_MAX: usize = 256 * 1024;

static ALWAYS: AtomicBool = AtomicBool::new(false);

/// From now on this process prints second lines wherever its messages go.
pub fn always() {
    ALWAYS.store(true, Relaxed);
}

/// Whether second lines are printed.
#[must_use]
pub fn is_wanted() -> bool {
    match std::env::var_os(VARIABLE) {
        Some(value) if value == "1" => true,
        Some(value) if value == "0" => false,
        _ => ALWAYS.load(Relaxed) || rustix::termios::isatty(rustix::stdio::stderr()),
    }
}

/// A second line with its newline; empty if none is wanted, or there is none.
#[must_use]
pub fn line(hint: Option<&str>) -> Vec<u8> {
    match hint.filter(|_| is_wanted()) {
        Some(hint) => [b"  ", &*printable(hint.as_bytes()), b"\n"].concat(),
        None => Vec::new(),
    }
}

/// A word as it is typed in a shell, so that no name in a command that is proposed can be another command.
#[must_use]
pub fn quoted(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(byte);
    let shown = printable_text(word);
    if !word.is_empty() && word.iter().all(is_plain) {
        return shown;
    }
    ["'", &shown.replace('\'', r"'\''"), "'"].concat()
}

/// Why `file` in `dir` was not executed, if a look at it tells. `path` leads to it from where the user is.
#[inline(never)] // keeps this large frame out of the stack of the caller's loop
#[must_use]
pub fn of_file(dir: BorrowedFd<'_>, file: &CStr, path: &[u8], cause: &io::Error) -> Option<String> {
    if !is_wanted() {
        return None;
    }
    let mut buffer = [0; START_MAX];
    let start = files::read_start(dir, file, &mut buffer).unwrap_or_default();
    let look = Look::at(dir, file, start)?;
    of_look(&look, path, cause.raw_os_error()?)
}

/// The same for the first of `candidates` that exists; they are relative to the working directory.
#[must_use]
pub fn of_candidates(candidates: &[CString], cause: &io::Error) -> Option<String> {
    let is_there = |file: &&CString| matches!(files::look(CWD, file), Ok(Some(_)));
    let file = candidates.iter().find(is_there).or(candidates.first())?;
    of_file(CWD, file, file.to_bytes(), cause)
}

/// What a look at a file found that could not be executed.
struct Look<'a> {
    /// Whether it is a directory, is executable, and is empty; `None` if there is no file.
    stat: Option<(bool, bool, bool)>,
    /// What it leads to, if it is a link.
    link: Option<CString>,
    /// How it begins.
    start: &'a [u8],
    /// What is wrong with its interpreter, if it has one.
    interpreter_fault: Option<Fault>,
}

/// What is wrong with an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Missing,
    Directory,
    NotExecutable,
}

impl Fault {
    fn of(dir: BorrowedFd<'_>, interpreter: &CStr) -> Option<Self> {
        match files::look(dir, interpreter) {
            Ok(None) => Some(Fault::Missing),
            Ok(Some(stat)) if files::is_dir(&stat) => Some(Fault::Directory),
            Ok(Some(stat)) if !files::is_executable(&stat) => Some(Fault::NotExecutable),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// The error of an execution.
    const fn errno(self) -> i32 {
        match self {
            Fault::Missing => libc::ENOENT,
            Fault::Directory | Fault::NotExecutable => libc::EACCES,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Fault::Missing => "does not exist",
            Fault::Directory => "is a directory",
            Fault::NotExecutable => "is not executable",
        }
    }
}

impl<'a> Look<'a> {
    /// Looks at a file that begins with `start`; `None` if that fails.
    fn at(dir: BorrowedFd<'_>, file: &CStr, start: &'a [u8]) -> Option<Self> {
        let stat = files::look(dir, file).ok()?;
        let interpreter = exec::interpreter(start).and_then(|it| CString::new(it.path()).ok());
        Some(Look {
            stat: stat.map(|stat| (files::is_dir(&stat), files::is_executable(&stat), stat.st_size == 0)),
            link: readlinkat(dir, file, Vec::new()).ok(),
            start,
            interpreter_fault: interpreter.and_then(|it| Fault::of(dir, &it)),
        })
    }
}

/// Why `file` in `dir` would not be executed, as far as a look at it tells before anybody tries. `path` leads to it from where
/// the user is. `None` if nothing is wrong with it, or if there is no file.
#[must_use]
pub fn before_start(dir: BorrowedFd<'_>, file: &CStr, path: &[u8]) -> Option<String> {
    let mut buffer = [0; START_MAX];
    let start = files::read_start(dir, file, &mut buffer);
    let is_read = start.is_ok();
    let look = Look::at(dir, file, start.unwrap_or_default())?;
    let Some(errno) = expected(&look, machine().as_ref()) else {
        return sys::is_noexec(path).then(|| "its file system is mounted noexec".to_owned());
    };
    // A file that we may not read can be anything.
    if is_read || errno != libc::ENOEXEC { of_look(&look, path, errno) } else { None }
}

/// The error that an execution would have; `None` if it would probably have none.
fn expected(look: &Look<'_>, machine: Option<&Machine>) -> Option<i32> {
    let Some((is_dir, is_executable, _)) = look.stat else { return Some(libc::ENOENT) };
    if is_dir || !is_executable {
        Some(libc::EACCES)
    } else if look.start.starts_with(b"\x7fELF") {
        let theirs = Machine::of(look.start);
        let fits = machine.zip(theirs.as_ref()).is_none_or(|(ours, theirs)| ours.runs(theirs));
        if fits { look.interpreter_fault.map(Fault::errno) } else { Some(libc::ENOEXEC) }
    } else if look.start.starts_with(b"#!") {
        let has_return = of_carriage_return(look.start, b"").is_some();
        look.interpreter_fault.map(Fault::errno).or(has_return.then_some(libc::ENOENT))
    } else {
        Some(libc::ENOEXEC)
    }
}

/// What a program is for, from its ELF header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    /// 32 or 64 bits, and the order of bytes.
    kind: [u8; 2],
    number: [u8; 2],
}

impl Machine {
    fn of(start: &[u8]) -> Option<Self> {
        let [0x7f, b'E', b'L', b'F', bits, order, .., low, high] = start.get(..20)? else { return None };
        Some(Machine { kind: [*bits, *order], number: [*low, *high] })
    }

    /// Whether a machine that runs `self` usually runs `other`, too: 64-bit ones of Intel and of Arm run 32-bit programs.
    fn runs(&self, other: &Machine) -> bool {
        const PAIRS: [([u8; 2], [u8; 2]); 2] = [([62, 0], [3, 0]), ([183, 0], [40, 0])];
        self == other || PAIRS.contains(&(self.number, other.number))
    }
}

/// What our own executable is for.
fn machine() -> Option<Machine> {
    let mut buffer = [0; 20];
    Machine::of(files::read_start(CWD, c"/proc/self/exe", &mut buffer).ok()?)
}

fn of_look(look: &Look<'_>, path: &[u8], errno: i32) -> Option<String> {
    let Some((is_dir, is_executable, is_empty)) = look.stat else {
        let target = printable_text(look.link.as_ref()?.to_bytes());
        return (errno == libc::ENOENT).then(|| format!("it is a link to {target}, which does not exist"));
    };
    match errno {
        libc::ENOENT => of_carriage_return(look.start, path).or_else(|| of_interpreter(look, errno)),
        libc::EACCES if is_dir => Some(format!("{} is a directory", printable_text(path))),
        libc::EACCES if !is_executable => Some(format!("not executable: chmod +x {}", quoted(path))),
        libc::EACCES => Some(
            of_interpreter(look, errno)
                .unwrap_or_else(|| "you may not execute it, or its file system is mounted noexec".to_owned()),
        ),
        libc::ENOEXEC => Some(
            if is_empty {
                "it is empty"
            } else if look.start.starts_with(b"\x7fELF") {
                "it is a program for another architecture"
            } else {
                r##"no "#!/bin/sh" line at its beginning, or for another architecture"##
            }
            .to_owned(),
        ),
        _ => None,
    }
}

/// What is wrong with the interpreter of a file, if that is why the execution failed with `errno`.
fn of_interpreter(look: &Look<'_>, errno: i32) -> Option<String> {
    let fault = look.interpreter_fault.filter(|fault| fault.errno() == errno)?;
    let interpreter = exec::interpreter(look.start)?;
    let why = match interpreter {
        _ if fault != Fault::Missing => "",
        exec::Interpreter::OfScript(b"/bin/sh") => ": it is a script, and there is no shell here",
        exec::Interpreter::OfScript(_) => "",
        exec::Interpreter::OfProgram(_) => ": it is linked for another C library",
    };
    Some(format!("its interpreter {} {}{why}", printable_text(interpreter.path()), fault.words()))
}

/// Whether the interpreter line of a file ends in a carriage return, as files from Windows do, and how to mend that.
fn of_carriage_return(start: &[u8], path: &[u8]) -> Option<String> {
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    line.ends_with(b"\r")
        .then(|| format!(r"its first line ends in CR; mend with: sed -i 's/\r$//' {}", quoted(path)))
}

/// What the exit code of a script means that a shell gives if it cannot run a command; see [`of_file`] for the rest.
#[inline(never)]
#[must_use]
pub fn of_end(how: Ended, dir: BorrowedFd<'_>, file: &CStr, path: &[u8]) -> Option<String> {
    if !is_wanted() {
        return None;
    }
    let mut buffer = [0; 256];
    match how {
        // As `env` exits when it is to find `bash\r`.
        Ended::Code(127) => {
            let start = files::read_start(dir, file, &mut buffer).unwrap_or_default();
            Some(of_carriage_return(start, path).unwrap_or_else(|| "127: a command was not found".to_owned()))
        }
        Ended::Code(126) => Some("126: a command is not executable".to_owned()),
        _ => None,
    }
}

/// Who holds the lock that a supervisor could not have on a service whose directory is `dir`.
#[must_use]
pub fn of_supervise_lock(dir: &[u8], failed: &Failed) -> Option<String> {
    let lock =
        failed.doing().strip_prefix(b"unable to lock ").filter(|_| failed.is_any_of(&[Errno::AGAIN]))?;
    // The state may be elsewhere: `supervise/lock in PLACE`.
    match lock.iter().position(|byte| *byte == b' ') {
        Some(end) => of_lock(&[lock.get(end..)?.strip_prefix(b" in ")?, b"/lock"].concat()),
        None => of_lock(&[dir, b"/", lock].concat()),
    }
}

/// Who holds the lock on the file at a path, if the system tells.
#[must_use]
pub fn of_lock(path: &[u8]) -> Option<String> {
    if !is_wanted() {
        return None;
    }
    let path = CString::new(path).ok()?;
    let pid = lock_holder(CWD, &path)?;
    let mut name = [0; 16];
    let path = CString::new(format!("/proc/{pid}/comm")).ok()?;
    let name = files::read_start(CWD, &path, &mut name).ok()?.trim_ascii_end();
    let pid = pid.to_string();
    let name = printable_text(name);
    Some(match name.as_str() {
        "runsv" => ["another runsv (pid ", &pid, ") supervises it"].concat(),
        name => [name, " (pid ", &pid, ") has the lock"].concat(),
    })
}

/// The process that holds the lock on a file, if the system tells.
#[must_use]
pub fn lock_holder(dir: BorrowedFd<'_>, file: &CStr) -> Option<u64> {
    let (_, stat) = trust::open_regular(dir, file, OFlags::RDONLY, Mode::empty()).ok()?;
    let mut locks = vec![0; LOCKS_MAX];
    holder(files::read_start(CWD, c"/proc/locks", &mut locks).ok()?, files::identity(&stat))
}

/// The process that holds the lock of flock(2) on a file, from the text of `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`. A line with `->` is of one that waits for it.
fn holder(locks: &[u8], file: Identity) -> Option<u64> {
    // As Linux has them in the number of a device.
    let major = file.device >> 8 & 0xfff | file.device >> 32 & !0xfff;
    let minor = file.device & 0xff | file.device >> 12 & !0xff;
    let place = format!("{major:02x}:{minor:02x}:{}", file.inode);
    for line in locks.split(|&byte| byte == b'\n') {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        if words.nth(1) == Some(b"FLOCK")
            && let Some(pid) = words.nth(2)
            && words.next() == Some(place.as_bytes())
        {
            return decimal::whole(pid).filter(|pid| *pid > 0);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: Look<'_> =
        Look { stat: Some((false, true, false)), link: None, start: b"#!/bin/sh\n", interpreter_fault: None };

    fn told(look: &Look<'_>, errno: i32) -> String {
        of_look(look, b"b/run", errno).unwrap_or_default()
    }

    #[test]
    fn a_file_that_exists_but_does_not_is_explained() {
        let missing =
            |start| told(&Look { start, interpreter_fault: Some(Fault::Missing), ..SCRIPT }, libc::ENOENT);
        assert_eq!(missing(b"#! /no/such -x\n"), "its interpreter /no/such does not exist");
        assert_eq!(
            missing(b"#!/bin/sh\n"),
            "its interpreter /bin/sh does not exist: it is a script, and there is no shell here"
        );
        assert_eq!(
            missing(b"#!/bin/sh\r\nexec x\r\n"),
            r"its first line ends in CR; mend with: sed -i 's/\r$//' b/run"
        );
        assert_eq!(told(&SCRIPT, libc::ENOENT), "");
        let link = Look { stat: None, link: Some(c"../x".to_owned()), ..SCRIPT };
        assert_eq!(told(&link, libc::ENOENT), "it is a link to ../x, which does not exist");
        assert_eq!(told(&Look { link: None, ..link }, libc::ENOENT), "");
    }

    #[test]
    fn what_is_not_executable_is_explained() {
        let denied = |is_dir, executable| {
            told(&Look { stat: Some((is_dir, executable, false)), ..SCRIPT }, libc::EACCES)
        };
        assert_eq!(denied(false, false), "not executable: chmod +x b/run");
        assert_eq!(denied(true, true), "b/run is a directory");
        assert!(denied(false, true).contains("noexec"));
        let directory = Look { interpreter_fault: Some(Fault::Directory), ..SCRIPT };
        assert_eq!(told(&directory, libc::EACCES), "its interpreter /bin/sh is a directory");
        let plain = Look { interpreter_fault: Some(Fault::NotExecutable), ..SCRIPT };
        assert_eq!(told(&plain, libc::EACCES), "its interpreter /bin/sh is not executable");
        let format =
            |start, empty| told(&Look { start, stat: Some((false, true, empty)), ..SCRIPT }, libc::ENOEXEC);
        assert_eq!(format(b"", true), "it is empty");
        assert!(format(b"exec x\n", false).contains("\"#!/bin/sh\""));
        assert_eq!(format(b"\x7fELF\x02", false), "it is a program for another architecture");
    }

    #[test]
    fn what_cannot_start_is_known_before() {
        let elf = |bits: u8, number: u8| [b"\x7fELF".as_slice(), &[bits, 1], &[0; 12], &[number, 0]].concat();
        let ours = Machine::of(&elf(2, 62));
        let errno = |look: &Look<'_>| expected(look, ours.as_ref());
        let with = |stat, start: &[u8]| errno(&Look { stat, start, ..SCRIPT });
        assert_eq!(errno(&SCRIPT), None);
        assert_eq!(errno(&Look { interpreter_fault: Some(Fault::Missing), ..SCRIPT }), Some(libc::ENOENT));
        assert_eq!(errno(&Look { interpreter_fault: Some(Fault::Directory), ..SCRIPT }), Some(libc::EACCES));
        assert_eq!(with(SCRIPT.stat, b"#!/bin/sh\r\n"), Some(libc::ENOENT));
        assert_eq!(with(None, b""), Some(libc::ENOENT));
        assert_eq!(with(Some((true, true, false)), b""), Some(libc::EACCES));
        assert_eq!(with(Some((false, false, false)), b"#!/bin/sh\n"), Some(libc::EACCES));
        assert_eq!(with(SCRIPT.stat, b"echo\n"), Some(libc::ENOEXEC));
        assert_eq!(with(SCRIPT.stat, &elf(2, 62)), None);
        assert_eq!(with(SCRIPT.stat, &elf(1, 3)), None);
        assert_eq!(with(SCRIPT.stat, &elf(2, 183)), Some(libc::ENOEXEC));
    }

    #[test]
    fn a_name_in_a_command_is_only_a_name() {
        assert_eq!(quoted(b"sv/web-1/run"), "sv/web-1/run");
        assert_eq!(quoted(b"a;rm -r b/run"), "'a;rm -r b/run'");
        assert_eq!(quoted(b"it's"), r"'it'\''s'");
        assert_eq!(quoted(b""), "''");
    }

    #[test]
    fn the_holder_of_a_lock_is_in_the_list_of_the_kernel() {
        let locks = b"1: POSIX  ADVISORY  WRITE 11 08:01:7 0 EOF\n\
            2: FLOCK  ADVISORY  WRITE 12 08:01:70 0 EOF\n\
            3: FLOCK  ADVISORY  WRITE 13 08:01:7 0 EOF\n\
            3: -> FLOCK  ADVISORY  WRITE 14 08:01:7 0 EOF\n";
        let file = |inode| Identity { device: 0x801, inode };
        assert_eq!([7, 70, 8].map(|inode| holder(locks, file(inode))), [Some(13), Some(12), None]);
        assert_eq!(holder(b"garbage\n1: FLOCK ADVISORY WRITE 0 08:01:7", file(7)), None);
    }
}
