//! How a path resolves: its names, and the links on the way.

use std::collections::VecDeque;
use std::ffi::CString;

use rustix::fs::{AtFlags, CWD, FileType, readlinkat, statat};

/// The highest number of links that are followed; the same as the kernel's.
pub(crate) const LINKS_MAX: usize = 40;

/// The directories to watch to learn that `path` may resolve differently: those that hold a link on the way, and the one
/// in which the way ends if something is missing. With `end`, also the one that holds what `path` resolves to.
#[must_use]
pub(crate) fn directories_to_watch(path: &[u8], end: bool) -> Vec<CString> {
    let mut found: Vec<CString> = Vec::new();
    for (dir, _) in entries_to_watch(path, end) {
        if !found.contains(&dir) {
            found.push(dir);
        }
    }
    found
}

/// The same directories, each with the name of the entry whose change matters.
#[must_use]
pub(crate) fn entries_to_watch(path: &[u8], end: bool) -> Vec<(CString, Vec<u8>)> {
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

/// The path of the directory that the last name of `path` is in, by the text of the path.
pub(crate) fn parent(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last.saturating_add(1));
    let path = crate::slice::part(path, ..end);
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let name = crate::slice::part(path, slash.map_or(0, |slash| slash.saturating_add(1))..);
    match (name, slash) {
        (b"." | b"..", _) => [path, b"/.."].concat(),
        (b"", _) => b"/".to_vec(),
        (_, None) => b".".to_vec(),
        (_, Some(slash)) => crate::slice::part(path, ..slash.max(1)).to_vec(),
    }
}

/// The names that a path consists of.
pub(crate) fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_parent_is_found_in_the_text() {
        for (path, expected) in [
            ("web", "."),
            ("./web/", "."),
            ("/web", "/"),
            ("/srv/x//", "/srv"),
            ("a/..", "a/../.."),
            (".", "./.."),
            ("/", "/"),
        ] {
            assert_eq!(String::from_utf8(parent(path.as_bytes())).unwrap(), expected, "{path}");
        }
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
            directories_to_watch(in_root(name).as_os_str().as_bytes(), name.ends_with("second"))
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
