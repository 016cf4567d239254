//! Where the state of a service is kept, and which of it is believed.
//!
//! The rule, for `runsv`, `runsvdir`, `runsvinit` and `sv` alike. The first of these is used:
//!
//! 1. `$RUNITBOX_STATE/NAME`, if that variable is set and not empty.
//! 2. `supervise` in the service directory, or the directory that a link of this name leads to.
//! 3. Where that cannot be written, as in a read-only image: `/run/runit/supervise/NAME`.
//! 4. `/dev/shm/runit-UID/NAME`.
//! 5. `/tmp/runit-UID/NAME`.
//!
//! An instance of a [`template`](crate::template) such as `getty@tty1` uses `@tty1` in the directory of 2.
//!
//! NAME is the last part of the path of the service directory, after all links in it were followed; of an instance it is the
//! name of the link. A log service has `.log` appended. So the state of a service is found by whichever link the service is reached. Two services can have the
//! same NAME, and so can services of two containers that share a file system: the second uses NAME.1, the third NAME.2. The
//! file `owner` tells them apart: it holds device and inode of the service directory (of `log` for a log service), the
//! number of the mount namespace, for an instance its number, and on a second line the path, for people.
//!
//! Other users can make something of these names before us. So each directory that is made for state, and NAME in it, has
//! to belong to us or to the user root, nobody else may be able to write to it, and no link is followed unless we or the
//! user root made it.
//!
//! A supervisor uses the first NAME whose lock nobody holds, writes `owner`, and then checks whether another supervisor
//! holds another place for the same service. Of two that start at the same time at least one sees the other, since each
//! writes before it checks. A client believes `owner` only while `ok` has a reader, because a supervisor opens `ok` after
//! it has written `owner`.

mod owner;
mod root;

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, flock, fstat, mkdirat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::files;
use crate::role::Role;
use crate::say::Message;
use crate::template::Instance;
use crate::trust::{self, Make, Refusal};

pub(crate) use owner::{OWNER, Owner};
pub use root::VARIABLE;
pub(crate) use root::{Root, given, make_run_runit, open_run_runit, usual};

/// The longest target of a link called `supervise`, in bytes.
const LINK_MAX: usize = 255;
/// How many services, or containers, that share a state root can have the same NAME.
const SAME_NAME_MAX: usize = 64;
/// Mode of a new `supervise`.
const PRIVATE: Mode = Mode::from_raw_mode(0o700);
/// The errors of a directory that cannot be written.
pub(crate) const UNWRITABLE: [Errno; 3] = [Errno::ROFS, Errno::ACCESS, Errno::PERM];

/// A service, or its log service, whose state is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// The service directory, or `log` in it for a log service.
    pub dir: BorrowedFd<'a>,
    /// The path of the service directory.
    pub path: &'a Path,
    /// Which instance of a template it is, if it is one.
    pub instance: Option<&'a Instance>,
    /// Which of the two it is.
    pub role: Role,
    /// How messages about it begin.
    pub who: &'a [u8],
}

/// A `supervise` directory, or a place elsewhere, that a supervisor uses.
#[derive(Debug)]
pub struct StateDirectory {
    /// The directory.
    pub dir: OwnedFd,
    /// Whether it is the `supervise` of the service directory.
    pub own: bool,
}

/// The opened `supervise` of a service directory.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) dir: OwnedFd,
    /// Whether a link led to it.
    pub(crate) linked: bool,
}

impl Home<'_> {
    /// NAME of the rule, if there is one.
    pub(crate) fn name(&self) -> Option<Vec<u8>> {
        let mut logs = usize::from(self.role == Role::Log);
        let mut path = self.path.to_owned();
        while path.file_name().is_some_and(|last| last == "log") {
            logs += 1;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            path = parent.map_or_else(|| ".".into(), Path::to_owned);
        }
        if let Some(instance) = self.instance {
            return Some([instance.name().as_bytes(), &b".log".repeat(logs)].concat());
        }
        // The path may have ended in a link to a log service, or in `.`.
        let mut real = std::fs::canonicalize(path).ok()?;
        while real.file_name().is_some_and(|last| last == "log") && real.parent()?.file_name().is_some() {
            logs += 1;
            real.pop();
        }
        Some([real.file_name()?.as_bytes(), &b".log".repeat(logs)].concat())
    }

    /// What `owner` says in a place for this service.
    pub(crate) fn owner(&self) -> io::Result<Owner> {
        Owner::of(self.dir, self.instance)
    }

    /// Where its own state is, from the service directory on.
    pub(crate) fn own_path(&self) -> CString {
        let instance = self.instance.map(|instance| [b"/", instance.own_name().as_slice()].concat());
        let path = [b"supervise".as_slice(), &instance.unwrap_or_default()].concat();
        // An argument that was part of a path has no null in it.
        CString::new(path).unwrap_or_default()
    }

    /// The users who may have made the target of a link in the service directory: those of `users`, and the owner of the
    /// service directory, who decides what is run anyway.
    fn believed_about_link(&self, users: &[u32]) -> io::Result<Vec<u32>> {
        let mut believed = users.to_vec();
        believed.push(fstat(self.dir)?.st_uid);
        Ok(believed)
    }

    /// Opens `supervise`, or the directory that a link of this name leads to.
    ///
    /// A directory is what the owner of the service directory wants it to be. But strangers may have made the target of a
    /// link first. So it has to belong to the owner, to us or to the user root, or nobody else could have made it.
    ///
    /// In either of them, an instance has a directory of its own.
    fn open_own_for(&self, users: &[u32], make: Make) -> io::Result<Own> {
        let own = self.open_own_of_all(users, make)?;
        let Some(instance) = self.instance else { return Ok(own) };
        let name = CString::new(instance.own_name())?;
        let made = if make == Make::Nothing { Ok(()) } else { mkdirat(&own.dir, &name, PRIVATE) };
        match (trust::search_directory(own.dir.as_fd(), &name), made) {
            (Err(error), Err(errno))
                if error.kind() == io::ErrorKind::NotFound && UNWRITABLE.contains(&errno) =>
            {
                Err(errno.into())
            }
            (opened, _) => Ok(Own { dir: opened?.0, linked: own.linked }),
        }
    }

    /// The same without regard to instances.
    fn open_own_of_all(&self, users: &[u32], make: Make) -> io::Result<Own> {
        match trust::search_directory(self.dir, c"supervise") {
            Ok((dir, _)) => return Ok(Own { dir, linked: false }),
            Err(error) if trust::refusal(&error) == Some(Refusal::Link) => {}
            Err(error) => return Err(error),
        }
        let target = readlinkat(self.dir, c"supervise", Vec::new())?;
        let believed = self.believed_about_link(users)?;
        let way = trust::walk(self.dir, target.to_bytes(), &believed, make)?;
        trust::check_owner_is(&way.stat, &believed).or_else(|refusal| {
            let given_away = way.parent.is_some_and(|dir| trust::check_owner_is(&dir, &believed).is_ok());
            if given_away { Ok(()) } else { Err(refusal) }
        })?;
        Ok(Own { dir: way.dir, linked: true })
    }

    /// Opens the `supervise` of the service directory as a client.
    fn open_own(&self) -> io::Result<Own> {
        self.open_own_for(&believed_by_clients(), Make::Nothing)
    }

    /// Opens the `supervise` of the service directory, whether or not a supervisor uses it.
    ///
    /// # Errors
    ///
    /// That of open(2), or a [`Refusal`].
    pub fn supervise(&self) -> io::Result<OwnedFd> {
        Ok(self.open_own()?.dir)
    }

    /// Opens `supervise`, or the directory that a link of this name leads to, and makes it where it is missing.
    pub(crate) fn make_own(&self) -> io::Result<Own> {
        let made = mkdirat(self.dir, c"supervise", PRIVATE);
        match (self.open_own_for(&trust::ours(), Make::Last(PRIVATE)), made) {
            // Why it could not be made says more than that it does not exist.
            (Err(error), Err(errno))
                if error.kind() == io::ErrorKind::NotFound && UNWRITABLE.contains(&errno) =>
            {
                Err(errno.into())
            }
            (opened, _) => opened,
        }
    }

    /// Whether `supervise` is a link with a target longer than stock follows.
    pub(crate) fn link_is_too_long(&self) -> bool {
        readlinkat(self.dir, c"supervise", Vec::new()).is_ok_and(|target| target.to_bytes().len() > LINK_MAX)
    }

    /// Whether a supervisor, but not one of another container, holds the lock in `supervise`.
    pub(crate) fn own_is_held(&self) -> bool {
        self.open_own().is_ok_and(|own| is_held(own.dir.as_fd()) && !own.is_of_other_container())
    }

    /// Warns, once in the life of this process for each kind of state root, that a state root is not used.
    pub(crate) fn warn_about_root(&self, root: &Root, error: &io::Error) {
        self.warn_once(1 << root.number(), &root.path(), error);
    }

    /// Warns, once in the life of this process for each kind of state root, that the place at `path` below it is not used.
    pub(crate) fn warn_about_place(&self, root: &Root, path: &Path, error: &io::Error) {
        self.warn_once(0x10 << root.number(), path, error);
    }

    /// Warns that no state is kept at `path`, unless there was a warning with the same bit.
    fn warn_once(&self, bit: u8, path: &Path, error: &io::Error) {
        static WARNED: AtomicU8 = AtomicU8::new(0);
        if WARNED.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let what = [b"no state is kept in ", path.as_os_str().as_bytes()].concat();
            Message::warning(self.who, &what).because(error).print_now();
        }
    }

    /// Warns, once in the life of this process, that a link called `supervise` is not followed.
    pub(crate) fn warn_about_link(&self, error: &io::Error) {
        static WARNED: AtomicBool = AtomicBool::new(false);
        if !WARNED.swap(true, Ordering::Relaxed) {
            let what = format!("what the link {} leads to is not used", self.role.supervise());
            Message::warning(self.who, &what).because(error).print_now();
        }
    }

    /// Whether a supervisor holds another place for the service `mine`, which has this NAME. `here` is the place that we
    /// hold.
    pub(crate) fn is_held_elsewhere(&self, name: &[u8], mine: &Owner, here: BorrowedFd<'_>) -> bool {
        let here = fstat(here).map(|stat| files::identity(&stat)).ok();
        let believed = trust::ours();
        let roots = given().into_iter().chain(usual(&[believed[1]]));
        roots.filter_map(|root| root.open(&believed).ok()).any(|root| {
            places(&root, name).any(|(dir, stat)| {
                Some(files::identity(&stat)) != here
                    && trust::check_owner_is(&stat, &believed).is_ok()
                    && Owner::read(dir.as_fd()).is_some_and(|owner| owner.is(mine))
                    && is_held(dir.as_fd())
            })
        })
    }
}

impl Own {
    /// Whether a link led to it and a supervisor of another container uses it.
    pub(crate) fn is_of_other_container(&self) -> bool {
        self.linked && Owner::read(self.dir.as_fd()).is_some_and(|owner| owner.is_of_other_namespace())
    }
}

/// Finds the place that a supervisor uses for a service, and opens something in it with `open`.
///
/// # Errors
///
/// What `open` returns for `supervise` in the service directory; ENXIO if a supervisor of another container uses that.
pub fn find<T>(
    home: &Home<'_>,
    open: impl Fn(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<(StateDirectory, T)> {
    // A supervisor may use a place below a root that we may not open.
    let denied = Cell::new(false);
    let below = |root: Root| {
        let dir = find_below(&root, home, &denied)?;
        let opened = open(dir.as_fd()).ok()?;
        Some((StateDirectory { dir, own: false }, opened))
    };
    if let Some(found) = given().and_then(below) {
        return Ok(found);
    }
    let own = home.open_own().and_then(|own| Ok((open(own.dir.as_fd())?, own)));
    let error = match own {
        Ok((_, own)) if own.is_of_other_container() => Errno::NXIO.into(),
        Ok((opened, own)) => return Ok((StateDirectory { dir: own.dir, own: true }, opened)),
        Err(error) => error,
    };
    let [_, us, first] = believed_by_clients();
    usual(&[us, first]).into_iter().find_map(below).ok_or_else(|| {
        if denied.get() && error.kind() == io::ErrorKind::NotFound { Errno::ACCESS.into() } else { error }
    })
}

/// The root below which the supervisor of another user keeps the state of this service. A client uses it only if told to
/// by `RUNITBOX_STATE`.
#[must_use]
pub fn root_of_another_user(home: &Home<'_>) -> Option<PathBuf> {
    /// Everybody may make entries there, so no more are looked at.
    const ENTRIES_MAX: usize = 10_000;
    let is_denied = Cell::new(false);
    for dir in root::SHARED {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.take(ENTRIES_MAX).flatten() {
            if entry.file_name().as_bytes().starts_with(b"runit-") {
                let path = entry.path();
                if find_below(&Root::Given(path.clone()), home, &is_denied).is_some() {
                    return Some(path);
                }
            }
        }
    }
    None
}

/// Whether a supervisor serves: its `ok` has a reader.
#[must_use]
pub(crate) fn is_served(home: &Home<'_>) -> bool {
    find(home, |dir| trust::open_fifo(dir, c"ok", OFlags::WRONLY)).is_ok()
}

/// The place below `root` that a supervisor uses for exactly this service. Sets `denied` if we may not open `root`.
fn find_below(root: &Root, home: &Home<'_>, denied: &Cell<bool>) -> Option<OwnedFd> {
    let mut believed = believed_by_clients().to_vec();
    let dir = root.open(&believed);
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    denied.set(denied.get() || dir.as_ref().is_err_and(is_denied));
    let dir = dir.ok()?;
    if let Root::Given(_) = root {
        // The caller chose the directory, and so believes its owner.
        believed.extend(fstat(&dir).ok().filter(|stat| !files::others_may_write(stat)).map(|it| it.st_uid));
    }
    let (name, mine) = (home.name()?, home.owner().ok()?);
    places(&dir, &name).find_map(|(dir, stat)| {
        trust::check_owner_is(&stat, &believed).ok()?;
        // In this order, because `owner` was written before `ok` had a reader.
        trust::open_fifo(dir.as_fd(), c"ok", OFlags::WRONLY).ok()?;
        Owner::read(dir.as_fd())?.is(&mine).then_some(dir)
    })
}

/// The directories NAME, NAME.1, … that exist below a root, whoever owns them.
fn places(root: &OwnedFd, name: &[u8]) -> impl Iterator<Item = (OwnedFd, Stat)> {
    (0..SAME_NAME_MAX)
        .map_while(move |number| match trust::search_directory(root.as_fd(), &numbered(name, number)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened.ok()),
        })
        .flatten()
}

/// NAME for 0, NAME.1 for 1 and so on; `None` if `number` is too large.
pub(crate) fn numbered(name: &[u8], number: usize) -> Option<CString> {
    if number >= SAME_NAME_MAX {
        return None;
    }
    let suffix = if number == 0 { String::new() } else { format!(".{number}") };
    CString::new([name, suffix.as_bytes()].concat()).ok()
}

/// Whether a supervisor holds the lock in a place.
fn is_held(dir: BorrowedFd<'_>) -> bool {
    trust::open_regular(dir, c"lock", OFlags::RDONLY, Mode::empty()).is_ok_and(|(lock, _)| {
        // If we get the lock, closing the file releases it.
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// The users whom a client believes: root, its own, and that of process 1, because in a container the user root asks about
/// the services of that user.
fn believed_by_clients() -> [u32; 3] {
    let [root, us] = trust::ours();
    [root, us, statat(CWD, c"/proc/1", AtFlags::empty()).map_or(us, |stat| stat.st_uid)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_directory_whatever_leads_to_it() {
        let root = std::env::temp_dir().join(format!("svcore-state-{}", std::process::id()));
        std::fs::create_dir_all(root.join("sv/web/log/log")).unwrap();
        std::os::unix::fs::symlink("sv/web", root.join("link")).unwrap();
        std::os::unix::fs::symlink("sv/web/log", root.join("loglink")).unwrap();
        let dir = rustix::fs::open(&root, OFlags::RDONLY, Mode::empty()).unwrap();
        let name = |path: &Path, log: bool| {
            let role = if log { Role::Log } else { Role::Main };
            let home = Home { dir: dir.as_fd(), path, instance: None, role, who: b"" };
            home.name().map(|name| String::from_utf8(name).unwrap())
        };
        for (path, log, expected) in [
            ("sv/web", false, "web"),
            ("sv/web/", false, "web"),
            ("link", false, "web"),
            ("link", true, "web.log"),
            ("sv/web/.", false, "web"),
            ("sv/web/log", false, "web.log"),
            ("link/log", false, "web.log"),
            ("link/log/", false, "web.log"),
            ("loglink", false, "web.log"),
            // A service that is called `log`, asked for in two ways.
            ("sv/web/log", true, "web.log.log"),
            ("sv/web/log/log", false, "web.log.log"),
        ] {
            assert_eq!(name(&root.join(path), log).as_deref(), Some(expected), "{path} {log}");
        }
        assert_eq!(name(&root.join("none"), false), None);
        assert_eq!(name(Path::new("/"), false), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
