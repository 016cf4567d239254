//! Templates: a link such as `getty@tty1` to a directory `getty@` is a service of its own, an instance of the template.
//!
//! Its programs get `tty1` as first argument, and `SERVICE=getty@tty1` in their environment. Its state is in `@tty1`
//! below `supervise`, and the log that this suite keeps for it in `@tty1` below `log`. Many links to one directory are as many services.
//!
//! A name is that of an instance if it leads to a directory whose own name ends with `@` and is the beginning of that
//! name.
//!
//! Source: runit-service(5), TEMPLATES.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::files::Identity;

/// An instance of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What distinguishes it: `tty1`.
    pub argument: CString,
    /// The variable `SERVICE`, with the name of the service: `SERVICE=getty@tty1`.
    pub variable: CString,
}

impl Instance {
    /// The instance that a path means: that of a service directory, or of the directory `log` in it. `None` if it means no
    /// instance.
    ///
    /// Of most paths the last name tells that, without a look at the file system.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let mut path = path;
        while path.file_name().is_some_and(|name| name == "log") {
            path = path.parent()?;
        }
        let Some(Component::Normal(name)) = path.components().next_back() else { return None };
        if !may_be_instance(name.as_bytes()) {
            return None;
        }
        let directory = std::fs::canonicalize(path).ok()?;
        let argument = argument(name.as_bytes(), directory.file_name()?.as_bytes())?;
        let variable = [b"SERVICE=".as_slice(), name.as_bytes()].concat();
        Some(Instance { argument: CString::new(argument).ok()?, variable: CString::new(variable).ok()? })
    }

    /// The name of the service: `getty@tty1`.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        let variable = self.variable.to_bytes();
        OsStr::from_bytes(variable.strip_prefix(b"SERVICE=").unwrap_or(variable))
    }

    /// The name of what is its own in a directory of all instances, such as its state in `supervise` and its log in `log`:
    /// `@tty1`.
    #[must_use]
    pub fn own_name(&self) -> Vec<u8> {
        [b"@", self.argument.to_bytes()].concat()
    }

    /// A number for its argument, which is not 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        // FNV-1a.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.argument.to_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix).max(1)
    }
}

/// Whether a name has an `@` with something behind it, so that it may be that of an instance.
#[must_use]
pub fn may_be_instance(name: &[u8]) -> bool {
    name.iter().position(|&byte| byte == b'@').is_some_and(|at| at.saturating_add(1) < name.len())
}

/// The argument of the instance `name` of the template `directory`; `None` if it is none.
fn argument<'a>(name: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let argument = name.strip_prefix(directory).filter(|argument| !argument.is_empty())?;
    directory.ends_with(b"@").then_some(argument)
}

/// Which service it is: as long as this one exists, no other has the same directory and the same argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceIdentity {
    /// Its directory.
    pub directory: Identity,
    /// The [number](Instance::number) of its instance; 0 if it is none.
    pub instance: u64,
}

impl ServiceIdentity {
    /// The service in this directory, or this instance of it.
    #[must_use]
    pub fn new(directory: Identity, instance: Option<&Instance>) -> Self {
        ServiceIdentity { directory, instance: instance.map_or(0, Instance::number) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_to_a_template_is_an_instance() {
        let root = std::env::temp_dir().join(format!("svcore-template-{}", std::process::id()));
        for dir in ["getty@/log", "web/log", "a@b@", "plain@x"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (target, link) in [
            ("getty@", "getty@tty1"),
            ("getty@tty1", "getty@far"),
            ("getty@", "other@tty1"),
            ("getty@tty1", "other"),
            ("web", "web@x"),
            ("a@b@", "a@b@c@"),
            ("a@b@", "a@c"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let argument =
            |name: &str| Instance::of(&root.join(name)).map(|it| it.argument.into_string().unwrap());
        for (name, expected) in [
            ("getty@tty1", Some("tty1")),
            ("getty@tty1/", Some("tty1")),
            ("getty@tty1/log", Some("tty1")),
            ("getty@tty1/log/", Some("tty1")),
            ("a@b@c@", Some("c@")),
            // A link to a link of another name: that of the first counts.
            ("getty@far", Some("far")),
            ("getty@", None),
            ("getty@tty1/.", Some("tty1")),
            ("getty@tty1/..", None),
            ("getty@none", None),
            ("other@tty1", None),
            ("other", None),
            ("web@x", None),
            ("web/log", None),
            ("a@c", None),
            ("plain@x", None),
        ] {
            assert_eq!(argument(name).as_deref(), expected, "{name}");
        }
        let instance = Instance::of(&root.join("getty@tty1")).unwrap();
        assert_eq!(
            (instance.name(), instance.variable.as_c_str()),
            (OsStr::new("getty@tty1"), c"SERVICE=getty@tty1")
        );
        assert_eq!(instance.own_name(), b"@tty1");
        std::fs::remove_dir_all(root).unwrap();
    }

    proptest! {
        /// Whatever is an instance begins with the template's name, and the quick look never denies it.
        #[test]
        fn a_quick_look_denies_no_instance(name in "[a@]{0,5}", directory in "[a@]{0,4}") {
            if let Some(argument) = argument(name.as_bytes(), directory.as_bytes()) {
                prop_assert_eq!([directory.as_bytes(), argument].concat(), name.as_bytes());
                prop_assert!(may_be_instance(name.as_bytes()));
            }
        }
    }
}
