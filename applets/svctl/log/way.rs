//! The links on the way to a directory: who changes one of them changes what the path leads to.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many links are followed. Source: path_resolution(7).
const LINKS_MAX: usize = 40;

/// Each link on the way, and the last part of the path whether or not it is a link: the directory that it is in, and its name.
pub(super) fn links(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut found = Vec::new();
    // What is still to be gone, the next part last.
    let mut parts: Vec<OsString> = Vec::new();
    let push = |parts: &mut Vec<OsString>, path: &Path| {
        parts.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
    };
    push(&mut parts, path);
    let (mut at, mut links) = (PathBuf::from("."), 0);
    while let Some(part) = parts.pop() {
        let next = at.join(&part);
        let is_name = matches!(Path::new(&part).components().next(), Some(Component::Normal(_)));
        let target = if is_name { std::fs::read_link(&next).ok() } else { None };
        if is_name && (target.is_some() || parts.is_empty()) {
            found.push((at.clone(), part));
        }
        match target {
            Some(target) if links < LINKS_MAX => {
                links = links.saturating_add(1);
                push(&mut parts, &target);
            }
            _ => at = next,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_link_is_found_in_whatever_part_it_is() {
        let root = std::env::temp_dir().join(format!("svctl-way-{}", std::process::id()));
        let root = root.canonicalize().unwrap_or(root);
        std::fs::create_dir_all(root.join("releases/42/web")).unwrap();
        symlink("releases/42", root.join("current")).unwrap();
        symlink(root.join("current/web"), root.join("web")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let names = |path: &str| -> Vec<OsString> {
            links(&root.join(path))
                .into_iter()
                .filter(|(dir, _)| dir.starts_with(&root))
                .map(|(_, name)| name)
                .collect()
        };
        assert_eq!(names("web"), ["web", "current", "web"]);
        assert_eq!(names("web/log"), ["web", "current", "log"]);
        assert_eq!(names("none"), ["none"]);
        assert_eq!(names("loop").len(), LINKS_MAX + 1);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
