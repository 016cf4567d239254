//! Finding a program, and becoming it.

use std::ffi::{CString, OsStr};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;
/// Where programs are looked for if PATH is not set.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// The files that the program `name` may be, in the order in which they are tried.
///
/// A name with a slash is a path; an empty element of PATH stands for the current directory. Source: chpst(8),
/// runsvdir(8).
#[must_use]
pub fn candidates(name: &OsStr, path: Option<&OsStr>) -> Vec<CString> {
    let name = name.as_bytes();
    if name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    path.map_or(DEFAULT_PATH, OsStr::as_bytes)
        .split(|&byte| byte == b':')
        .map(|dir| if dir.is_empty() { b".".as_slice() } else { dir })
        .filter_map(|dir| CString::new([dir, b"/", name].concat()).ok())
        .collect()
}

/// The PATH rule, for [`Search`](crate::sys::spawn::Search): the next file is tried where this one cannot be the program,
/// and the reason to report is the last that is not merely "no such file".
///
/// Source: runsvdir(8), chpst(8).
pub fn path_rule(report: i32, errno: i32) -> ControlFlow<i32, i32> {
    match errno {
        libc::ENOENT => ControlFlow::Continue(report),
        libc::EACCES | libc::EPERM | libc::EISDIR | libc::ENOTDIR => ControlFlow::Continue(errno),
        _ => ControlFlow::Break(errno),
    }
}

/// What a file says it is to be executed by. If that is missing, the system reports that the file itself does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpreter<'s> {
    /// Of a script: the first word of its line `#!`.
    OfScript(&'s [u8]),
    /// Of a dynamically linked program: the dynamic linker.
    OfProgram(&'s [u8]),
}

impl<'s> Interpreter<'s> {
    /// The path of the interpreter.
    #[must_use]
    pub const fn path(self) -> &'s [u8] {
        match self {
            Interpreter::OfScript(path) | Interpreter::OfProgram(path) => path,
        }
    }
}

/// The interpreter that a file names which begins with `start`.
#[must_use]
pub fn interpreter(start: &[u8]) -> Option<Interpreter<'_>> {
    let interpreter = if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii();
        Interpreter::OfScript(line.split(|byte| b" \t".contains(byte)).next()?)
    } else {
        Interpreter::OfProgram(interpreter_of_elf(start)?)
    };
    Some(interpreter).filter(|interpreter| !interpreter.path().is_empty())
}

/// The interpreter named in the part `INTERP` of an ELF executable, if all of that lies within `start`.
fn interpreter_of_elf(start: &[u8]) -> Option<&[u8]> {
    const INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = start.get(at..at.checked_add(length)?)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if start.get(5) == Some(&2) {
            bytes.iter().fold(0, fold)
        } else {
            bytes.iter().rev().fold(0, fold)
        })
    };
    let index = |number: u64| usize::try_from(number).ok();
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = start.get(4) == Some(&2);
    let (table, each, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for part in 0..count {
        let at = index(table.checked_add(part.checked_mul(each)?)?)?;
        if number(at, 4)? == INTERP {
            let (place, length) = if wide {
                (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?)
            } else {
                (number(at.checked_add(4)?, 4)?, number(at.checked_add(16)?, 4)?)
            };
            let place = index(place)?;
            let name = start.get(place..place.checked_add(index(length)?)?)?;
            return name.split(|&byte| byte == 0).next();
        }
    }
    None
}

/// Becomes the first of `files` that can be executed. Returns only if none can be, with the reason that [`path_rule`]
/// picks.
///
/// Signal actions, mask and descriptors stay as they are. A file without an interpreter line is not passed to a shell.
#[must_use]
pub fn replace(files: &[CString], argv: &[CString], environment: &[CString]) -> io::Error {
    let mut report = libc::ENOENT;
    for file in files {
        let Err(errno) = nix::unistd::execve(file, argv, environment);
        // A path through something that is no directory counts as a missing file.
        let errno = if errno == Errno::ENOTDIR { Errno::ENOENT } else { errno };
        match path_rule(report, errno as i32) {
            ControlFlow::Continue(errno) => report = errno,
            ControlFlow::Break(errno) => return io::Error::from_raw_os_error(errno),
        }
    }
    io::Error::from_raw_os_error(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(name: &str, path: Option<&str>) -> Vec<String> {
        let files = candidates(OsStr::new(name), path.map(OsStr::new));
        files.into_iter().map(|file| file.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_is_looked_for_along_path_and_a_path_is_not() {
        assert_eq!(tried("a/b", Some("/x")), ["a/b"]);
        assert_eq!(tried("a", Some("/x::/y:")), ["/x/a", "./a", "/y/a", "./a"]);
        assert_eq!(tried("a", None), ["/bin/a", "/usr/bin/a"]);
        assert_eq!(tried("a", Some("")), ["./a"]);
    }
}
