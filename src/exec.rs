//! Where a program is, where a name leads, and becoming another program.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, FileType, readlinkat, statat};

use crate::files;

/// Searched where PATH is not set.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
/// How many links are followed, as the kernel has it.
const LINKS_MAX: usize = 40;

/// The files that `name` may stand for, in the order in which they are tried.
///
/// A name with a slash is a file itself; an empty element of PATH is the current directory. Source: chpst(8),
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

/// The interpreter that a file asks for and that is not there: then the system says of the file that it does not exist.
#[must_use]
pub fn missing_interpreter(dir: BorrowedFd<'_>, file: &CStr) -> Option<CString> {
    let mut buffer = [0; 4096];
    let start = files::read_start(dir, file, &mut buffer).ok()?;
    let name = if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii();
        line.split(|byte| b" \t".contains(byte)).next()?
    } else {
        interpreter_of_elf(start)?
    };
    let name = CString::new(name).ok().filter(|name| !name.is_empty())?;
    matches!(files::look(dir, &name), Ok(None)).then_some(name)
}

/// The name in the part `INTERP` of an executable, if all of that lies within its start.
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

/// Becomes the first of `files` that can be executed. Returns only with the reason why there is none.
///
/// The reason is the last that is not merely "no such file". Signal actions, mask and descriptors stay as they
/// are. There is no detour over a shell for a file without an interpreter line.
#[must_use]
pub fn replace(files: &[CString], argv: &[CString], environment: &[CString]) -> io::Error {
    let mut report = libc::ENOENT;
    for file in files {
        let Err(errno) = nix::unistd::execve(file, argv, environment);
        // A path through something that is no directory is as good as no path.
        let errno = if errno == Errno::ENOTDIR { Errno::ENOENT } else { errno };
        match path_rule(report, errno as i32) {
            ControlFlow::Continue(errno) => report = errno,
            ControlFlow::Break(errno) => return io::Error::from_raw_os_error(errno),
        }
    }
    io::Error::from_raw_os_error(report)
}

/// The directories in which an entry has to change for `path` to mean another file: those that hold a link on
/// the way, and the one in which the way breaks off. With `end`, also the one that holds what `path` leads to.
#[must_use]
pub fn way_of(path: &[u8], end: bool) -> Vec<CString> {
    let mut found: Vec<CString> = Vec::new();
    for (dir, _) in steps_of(path, end) {
        if !found.contains(&dir) {
            found.push(dir);
        }
    }
    found
}

/// The same, each with the name of the entry that has to change there.
#[must_use]
pub fn steps_of(path: &[u8], end: bool) -> Vec<(CString, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = if path.starts_with(b"/") { b"/".to_vec() } else { b".".to_vec() };
    let mut left: VecDeque<Vec<u8>> = names(path).collect();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let (Ok(here), Ok(next)) =
            (CString::new(at.clone()), CString::new([at.as_slice(), b"/", &name].concat()))
        else {
            break;
        };
        let is_link = statat(CWD, &next, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        if is_link != Ok(false) || (end && left.is_empty()) {
            found.push((here, name));
        }
        match is_link {
            Ok(false) => at = next.into_bytes(),
            Ok(true) => {
                links += 1;
                let Ok(target) = readlinkat(CWD, &next, Vec::new()) else { break };
                if links > LINKS_MAX {
                    break;
                }
                if target.to_bytes().starts_with(b"/") {
                    at = b"/".to_vec();
                }
                for name in names(target.to_bytes()).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(name);
                }
            }
            Err(_) => break,
        }
    }
    found
}

/// The names that a path is made of.
pub(crate) fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
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

    #[test]
    fn the_way_has_the_directories_of_links_and_of_what_is_missing() {
        let root = std::env::temp_dir().join(format!("svcore-way-{}", std::process::id()));
        let in_root = |name: &str| root.join(name);
        std::fs::create_dir_all(in_root("real/dir")).unwrap();
        std::fs::create_dir_all(in_root("links")).unwrap();
        std::os::unix::fs::symlink("../second", in_root("links/first")).unwrap();
        std::os::unix::fs::symlink("real/dir", in_root("second")).unwrap();
        let way = |name: &str| -> Vec<String> {
            let canonical = |dir: &CString| {
                std::fs::canonicalize(dir.to_str().unwrap()).unwrap().to_str().unwrap().to_owned()
            };
            way_of(in_root(name).as_os_str().as_bytes(), name.ends_with("second"))
                .iter()
                .map(canonical)
                .collect()
        };
        let root_name = std::fs::canonicalize(&root).unwrap().to_str().unwrap().to_owned();
        assert_eq!(way("links/first"), [format!("{root_name}/links"), root_name.clone()]);
        assert_eq!(way("real/dir"), [] as [String; 0]);
        assert_eq!(way("second"), [root_name.clone(), format!("{root_name}/real")]);
        assert_eq!(way("real/none/x"), [format!("{root_name}/real")]);
        assert_eq!(way("second/none"), [root_name.clone(), format!("{root_name}/real/dir")]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
