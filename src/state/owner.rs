//! The file `owner` in a place for state: which service the place belongs to.

use std::ffi::CStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, renameat, statat, unlinkat};

use crate::files::{self, Identity};
use crate::template::{Instance, ServiceIdentity};
use crate::{slice, trust};

/// The name of the file.
pub(crate) const OWNER: &CStr = c"owner";
/// All numbers of the file and the newline after them are within this many bytes at its beginning.
const NUMBERS_MAX: usize = 128;

/// The service that a place for state belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The service directory, or `log` in it, and which instance.
    service: ServiceIdentity,
    /// The mount namespace of the supervisor; 0 if it is not known.
    namespace: u64,
}

impl Owner {
    /// The owner of what we keep for a service, by its open directory.
    pub(super) fn of(dir: BorrowedFd<'_>, instance: Option<&Instance>) -> io::Result<Self> {
        let service = ServiceIdentity::new(files::identity(&fstat(dir)?), instance);
        Ok(Owner { service, namespace: our_namespace() })
    }

    /// Whether both are the same service. An unknown namespace counts as the same.
    pub(crate) fn is(&self, other: &Owner) -> bool {
        self.service == other.service && self.may_share_namespace(other.namespace)
    }

    /// Whether its supervisor surely runs in another mount namespace, as in another container.
    pub(super) fn is_of_other_namespace(&self) -> bool {
        !self.may_share_namespace(our_namespace())
    }

    const fn may_share_namespace(&self, other: u64) -> bool {
        self.namespace == other || self.namespace == 0 || other == 0
    }

    /// Reads the file in a place for state; `None` if there is none that can be believed and understood.
    pub(crate) fn read(dir: BorrowedFd<'_>) -> Option<Owner> {
        let (file, _) = trust::open_regular(dir, OWNER, OFlags::RDONLY, Mode::empty()).ok()?;
        let mut start = [0; NUMBERS_MAX];
        let length = rustix::io::read(&file, &mut start).ok()?;
        Owner::parse(slice::part(&start, ..length))
    }

    fn parse(text: &[u8]) -> Option<Owner> {
        let end = text.iter().position(|&byte| byte == b'\n')?;
        let mut numbers = std::str::from_utf8(text.get(..end)?).ok()?.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let directory = Identity { device: number()?, inode: number()? };
        let namespace = number()?;
        let instance = match numbers.next() {
            None => 0,
            Some(number) => number.ok().filter(|&number| number != 0)?,
        };
        let service = ServiceIdentity { directory, instance };
        numbers.next().is_none().then_some(Owner { service, namespace })
    }

    fn text(&self, path: &Path) -> Vec<u8> {
        let ServiceIdentity { directory: Identity { device, inode }, instance } = self.service;
        let instance = if instance == 0 { String::new() } else { format!(" {instance}") };
        let numbers = format!("{device} {inode} {}{instance}\n", self.namespace);
        [numbers.as_bytes(), path.as_os_str().as_bytes(), b"\n"].concat()
    }

    /// Writes the file in one step. `path` is that of the service directory.
    ///
    /// # Errors
    ///
    /// That of open(2), write(2) or rename(2).
    pub(crate) fn write(&self, dir: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        const NEW: &CStr = c"owner.new";
        let real = std::fs::canonicalize(path);
        let text = self.text(real.as_deref().unwrap_or(path));
        let mut file = std::fs::File::from(trust::create_new(dir, NEW, Mode::from_raw_mode(0o644))?);
        let written = file.write_all(&text).and_then(|()| Ok(renameat(dir, NEW, dir, OWNER)?));
        if written.is_err() {
            let _ = unlinkat(dir, NEW, AtFlags::empty());
        }
        written
    }
}

/// The number of our mount namespace; 0 if it is not known.
fn our_namespace() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    let number = || statat(CWD, c"/proc/self/ns/mnt", AtFlags::empty());
    *NUMBER.get_or_init(|| number().map_or(0, |stat| files::identity(&stat).inode))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;

    const fn owner(device: u64, inode: u64, namespace: u64) -> Owner {
        of_instance(device, inode, namespace, 0)
    }

    const fn of_instance(device: u64, inode: u64, namespace: u64, instance: u64) -> Owner {
        Owner { service: ServiceIdentity { directory: Identity { device, inode }, instance }, namespace }
    }

    #[test]
    fn instances_of_a_template_are_not_the_same() {
        assert!(of_instance(1, 2, 3, 4).is(&of_instance(1, 2, 3, 4)));
        assert!(
            !of_instance(1, 2, 3, 4).is(&of_instance(1, 2, 3, 5))
                && !of_instance(1, 2, 3, 4).is(&owner(1, 2, 3))
        );
    }

    #[test]
    fn an_unknown_namespace_is_taken_to_be_ours() {
        let owner = |inode, namespace| owner(1, inode, namespace);
        assert!(owner(2, 3).is(&owner(2, 3)) && owner(2, 0).is(&owner(2, 3)) && owner(2, 3).is(&owner(2, 0)));
        assert!(
            !owner(2, 3).is(&owner(2, 4)) && !owner(2, 3).is(&owner(5, 3)) && !owner(2, 0).is(&owner(5, 0))
        );
    }

    #[test]
    fn what_is_no_owner_is_none() {
        for text in [
            "",
            "\n",
            "1 2 3",
            "1 2\n",
            "1 2 3 4 5\n",
            "1 2 3 0\n",
            "1 2 -3\n",
            " 1 2 3\n",
            "1 2 99999999999999999999\n",
        ] {
            assert_eq!(Owner::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        /// Whatever the path is, the owner that was written is the one that is read.
        #[test]
        fn an_owner_is_read_as_it_was_written(device: u64, inode: u64, namespace: u64, instance: u64, path: Vec<u8>) {
            let owner = of_instance(device, inode, namespace, instance);
            let text = owner.text(Path::new(OsStr::from_bytes(&path)));
            prop_assert_eq!(Owner::parse(&text), Some(owner));
            prop_assert!(text.iter().position(|&byte| byte == b'\n').unwrap() < NUMBERS_MAX);
        }
    }
}
