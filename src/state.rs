//! Where the state of a service lies, and whom it is believed to.
//!
//! The rule, for `runsv`, `runsvdir`, `runsvinit` and `sv` alike:
//!
//! 1. `$RUNITBOX_STATE/NAME`, if that variable is set and not empty.
//! 2. `supervise` in the service directory, or what a link of this name leads to.
//! 3. Where that cannot be written, as in a read-only image: `/run/runit/supervise/NAME`.
//! 4. Otherwise `/dev/shm/runit-UID/NAME`, and at last `/tmp/runit-UID/NAME`.
//!
//! NAME is the last part of the path of the service directory, with all links in it followed, and `.log` after it for
//! the log service. So whatever link a service is reached by, its state is found. Two services can have one NAME, and so
//! can services of two containers that share a file system: the second has NAME.1, the next NAME.2. The file `owner` in
//! it tells them apart: device and inode of the service directory (of `log` for a log service), the number of the mount
//! namespace, and on a second line the path, for people.
//!
//! Other users can make something of these names before us. So each directory that is made for state, and NAME in it, has
//! to belong to us or to root, nobody else may write to it, and no link is followed but for those that we or root made.
//!
//! A supervisor takes the first NAME whose lock nobody holds, writes `owner`, and then looks whether another place is held
//! for the same service. Of two that start at the same time at least one sees the other, for each writes before it looks.
//! A client believes `owner` only while `ok` has a reader, which a supervisor opens after it has written `owner`.

use std::ffi::{CStr, CString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, flock, fstat, mkdirat, openat, readlinkat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::files::Identity;
use crate::role::Role;
use crate::say::Message;
use crate::trust::{self, Make, Refusal};
use crate::{files, sys};

/// The variable that names another directory.
pub const VARIABLE: &str = "RUNITBOX_STATE";
/// The longest target of a link called `supervise`, in bytes.
const LINK_MAX: usize = 255;
/// How many services, or containers, that share a place can have the same NAME.
const MOST: usize = 64;
/// The file that says whose the state is.
pub(crate) const OWNER: &CStr = c"owner";
/// Mode of a directory that others may look into.
const OPEN: Mode = Mode::from_raw_mode(0o755);
/// Mode of a directory that is ours.
const OURS: Mode = Mode::from_raw_mode(0o700);

/// A service, or its log service, by its service directory.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// The directory whose state it is: the service directory, or `log` in it.
    pub dir: BorrowedFd<'a>,
    /// The path of the service directory.
    pub path: &'a Path,
    /// Whose state it is: that of the service, or that of its log service.
    pub role: Role,
    /// What messages about it begin with.
    pub who: &'a [u8],
}

/// Whose a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    device: u64,
    inode: u64,
    /// The mount namespace; 0 where it is not known.
    namespace: u64,
}

/// A `supervise` directory in which a supervisor serves.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// It is the `supervise` of the service directory.
    pub own: bool,
}

/// A `supervise` that is opened.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) dir: OwnedFd,
    /// A link led to it.
    pub(crate) linked: bool,
}

/// A directory with the state of many services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    /// What the variable says.
    Given(PathBuf),
    /// The usual one.
    Run,
    /// One for each user, in a directory that everybody may write to; containers have the first even if they are
    /// read-only.
    Shared(&'static str, u32),
}

impl Home<'_> {
    /// NAME of the rule, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<Vec<u8>> {
        let mut logs = usize::from(self.role == Role::Log);
        let mut path = self.path.to_owned();
        while path.file_name().is_some_and(|last| last == "log") {
            logs += 1;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            path = parent.map_or_else(|| ".".into(), Path::to_owned);
        }
        // What leads to a log service may be a link, or `.`.
        let mut real = std::fs::canonicalize(path).ok()?;
        while real.file_name().is_some_and(|last| last == "log") && real.parent()?.file_name().is_some() {
            logs += 1;
            real.pop();
        }
        Some([real.file_name()?.as_bytes(), &b".log".repeat(logs)].concat())
    }

    /// Whose the state is to be.
    pub(crate) fn owner(&self) -> io::Result<Owner> {
        let Identity { device, inode } = files::identity(&fstat(self.dir)?);
        Ok(Owner { device, inode, namespace: namespace() })
    }

    /// Who may have made what a link in the service directory leads to. Whoever owns it says what is run anyway.
    fn believed(&self, asking: bool) -> io::Result<Vec<u32>> {
        let mut believed = if asking { askers().to_vec() } else { trust::ours().to_vec() };
        believed.push(fstat(self.dir)?.st_uid);
        Ok(believed)
    }

    /// Opens `supervise`, or what a link of this name leads to.
    ///
    /// A directory is what the owner of the service directory wants it to be. Where a link leads somebody else may have
    /// been before, so there it has to belong to the owner, to us or to root, or nobody else could have made it.
    pub(crate) fn open_own(&self, make: bool) -> io::Result<Own> {
        match trust::search_directory(self.dir, c"supervise") {
            Ok((dir, _)) => return Ok(Own { dir, linked: false }),
            Err(error) if trust::refusal(&error) == Some(Refusal::Link) => {}
            Err(error) => return Err(error),
        }
        let target = readlinkat(self.dir, c"supervise", Vec::new())?;
        let believed = self.believed(!make)?;
        let make = if make { Make::Last(OURS) } else { Make::Nothing };
        let way = trust::walk(self.dir, target.to_bytes(), &believed, make)?;
        trust::check_owner_is(&way.stat, &believed).or_else(|refusal| {
            let given_away = way.parent.is_some_and(|dir| trust::check_owner_is(&dir, &believed).is_ok());
            if given_away { Ok(()) } else { Err(refusal) }
        })?;
        Ok(Own { dir: way.dir, linked: true })
    }

    /// Opens the `supervise` of the service directory, whether or not somebody serves.
    ///
    /// # Errors
    ///
    /// That of open(2), or why it is not used.
    pub fn supervise(&self) -> io::Result<OwnedFd> {
        Ok(self.open_own(false)?.dir)
    }

    /// Makes `supervise` where it is missing, or the directory that a link of this name leads to, and opens it.
    pub(crate) fn make_own(&self) -> io::Result<Own> {
        let made = mkdirat(self.dir, c"supervise", OURS);
        match (self.open_own(true), made) {
            // Why it could not be made says more than that it is not there.
            (Err(error), Err(errno))
                if error.kind() == io::ErrorKind::NotFound && UNWRITABLE.contains(&errno) =>
            {
                Err(errno.into())
            }
            (opened, _) => opened,
        }
    }

    /// Whether `supervise` is a link that says more than stock follows.
    pub(crate) fn link_is_too_long(&self) -> bool {
        readlinkat(self.dir, c"supervise", Vec::new()).is_ok_and(|target| target.to_bytes().len() > LINK_MAX)
    }

    /// Whether a supervisor holds the lock in `supervise`, other than one of another container.
    pub(crate) fn own_is_held(&self) -> bool {
        self.open_own(false).is_ok_and(|own| is_held(own.dir.as_fd()) && !self.is_of_others(&own))
    }

    /// Whether the `supervise` that a link leads to is used by another container.
    pub(crate) fn is_of_others(&self, own: &Own) -> bool {
        own.linked
            && Owner::read(own.dir.as_fd()).is_some_and(|owner| !is_same_or_0(owner.namespace, namespace()))
    }

    /// Says once in the life of this process that state is not kept in a place.
    pub(crate) fn tell(&self, root: &Root, path: &Path, error: &io::Error, inside: bool) {
        static TOLD: AtomicU8 = AtomicU8::new(0);
        let bit = match root {
            Root::Given(_) => 1,
            Root::Run => 2,
            Root::Shared(dir, _) if *dir == SHARED[0] => 4,
            Root::Shared(..) => 8,
        } << if inside { 4 } else { 0 };
        if TOLD.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let what = [b"no state is kept in ", path.as_os_str().as_bytes()].concat();
            Message::warning(self.who, &what).because(error).print_now();
        }
    }

    /// Says once that a link called `supervise` is not followed.
    pub(crate) fn tell_own(&self, error: &io::Error) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::Relaxed) {
            let what = format!("what the link {} leads to is not used", self.role.supervise());
            Message::warning(self.who, &what).because(error).print_now();
        }
    }

    /// Whether another place is held by a supervisor of the same service; `here` is the place that we hold.
    pub(crate) fn is_held_elsewhere(&self, name: &[u8], mine: &Owner, here: BorrowedFd<'_>) -> bool {
        let here = fstat(here).map(|stat| files::identity(&stat)).ok();
        let believed = trust::ours();
        let roots = given().into_iter().chain(usual(&[believed[1]]));
        roots.filter_map(|root| root.open(&believed, false).ok()).any(|root| {
            places(&root, name).any(|(dir, stat)| {
                Some(files::identity(&stat)) != here
                    && trust::check_owner_is(&stat, &believed).is_ok()
                    && Owner::read(dir.as_fd()).is_some_and(|owner| owner.is(mine))
                    && is_held(dir.as_fd())
            })
        })
    }
}

/// Finds where a supervisor serves, and opens something there with `open`.
///
/// # Errors
///
/// What `open` says about `supervise` in the service directory; ENXIO if that is served for another container.
pub fn find<T>(home: &Home<'_>, open: impl Fn(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<(Place, T)> {
    // Where we may not look, one may serve.
    let denied = std::cell::Cell::new(false);
    let elsewhere = |root: Root| {
        let dir = find_in(&root, home, &denied)?;
        let opened = open(dir.as_fd()).ok()?;
        Some((Place { dir, own: false }, opened))
    };
    if let Some(found) = given().and_then(elsewhere) {
        return Ok(found);
    }
    let own = home.open_own(false).and_then(|own| Ok((open(own.dir.as_fd())?, own)));
    let error = match own {
        Ok((_, own)) if home.is_of_others(&own) => Errno::NXIO.into(),
        Ok((opened, own)) => return Ok((Place { dir: own.dir, own: true }, opened)),
        Err(error) => error,
    };
    let [_, us, first] = askers();
    usual(&[us, first]).into_iter().find_map(elsewhere).ok_or_else(|| {
        if denied.get() && error.kind() == io::ErrorKind::NotFound { Errno::ACCESS.into() } else { error }
    })
}

/// The root below which the supervisor of another user keeps the state of this service. A client uses it only if told to
/// by `RUNITBOX_STATE`.
#[must_use]
pub fn root_of_another_user(home: &Home<'_>) -> Option<PathBuf> {
    /// Everybody may make entries there.
    const ENTRIES_MAX: usize = 10_000;
    let entries =
        SHARED.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flat_map(|dir| dir.take(ENTRIES_MAX));
    let is_root = |name: &[u8]| {
        name.strip_prefix(b"runit-").is_some_and(|uid| !uid.is_empty() && uid.iter().all(u8::is_ascii_digit))
    };
    let mut roots =
        entries.flatten().filter(|entry| is_root(entry.file_name().as_bytes())).map(|entry| entry.path());
    let is_denied = std::cell::Cell::new(false);
    roots.find(|path| find_in(&Root::Given(path.clone()), home, &is_denied).is_some())
}

/// Whether a supervisor serves: its `ok` has a reader.
#[must_use]
pub fn is_served(home: &Home<'_>) -> bool {
    find(home, |dir| trust::open_fifo(dir, c"ok", OFlags::WRONLY)).is_ok()
}

/// The place below `root` in which a supervisor serves exactly this service.
fn find_in(root: &Root, home: &Home<'_>, denied: &std::cell::Cell<bool>) -> Option<OwnedFd> {
    let mut believed = askers().to_vec();
    let dir = root.open(&believed, false);
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    denied.set(denied.get() || dir.as_ref().is_err_and(is_denied));
    let dir = dir.ok()?;
    if let Root::Given(_) = root {
        // Who names a directory believes whom it belongs to.
        believed.extend(fstat(&dir).ok().filter(|stat| !files::others_may_write(stat)).map(|it| it.st_uid));
    }
    let (name, mine) = (home.name()?, home.owner().ok()?);
    places(&dir, &name).find_map(|(dir, stat)| {
        trust::check_owner_is(&stat, &believed).ok()?;
        // In this order: what is written in `owner` was so before `ok` had a reader.
        trust::open_fifo(dir.as_fd(), c"ok", OFlags::WRONLY).ok()?;
        Owner::read(dir.as_fd())?.is(&mine).then_some(dir)
    })
}

/// The directories of this NAME that are there, whosever they are.
fn places(root: &OwnedFd, name: &[u8]) -> impl Iterator<Item = (OwnedFd, Stat)> {
    (0..MOST)
        .map_while(move |number| match trust::search_directory(root.as_fd(), &numbered(name, number)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened.ok()),
        })
        .flatten()
}

/// NAME, NAME.1, NAME.2, …
pub(crate) fn numbered(name: &[u8], number: usize) -> Option<CString> {
    if number >= MOST {
        return None;
    }
    let suffix = if number == 0 { String::new() } else { format!(".{number}") };
    CString::new([name, suffix.as_bytes()].concat()).ok()
}

/// Whether somebody holds the lock of a `supervise` directory.
fn is_held(dir: BorrowedFd<'_>) -> bool {
    trust::open_regular(dir, c"lock", OFlags::RDONLY, Mode::empty()).is_ok_and(|(lock, _)| {
        // Ours ends with the descriptor.
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Whom a client believes: root, itself, and whoever process 1 runs as: in a container, root asks after the services of
/// that user.
fn askers() -> [u32; 3] {
    let [root, us] = trust::ours();
    [root, us, statat(CWD, c"/proc/1", AtFlags::empty()).map_or(us, |stat| stat.st_uid)]
}

/// Why a directory cannot be written.
pub(crate) const UNWRITABLE: [Errno; 3] = [Errno::ROFS, Errno::ACCESS, Errno::PERM];
/// The first is memory; the other is there even where nothing else is.
const SHARED: [&str; 2] = ["/dev/shm", "/tmp"];

/// What the variable says.
pub(crate) fn given() -> Option<Root> {
    std::env::var_os(VARIABLE).filter(|root| !root.is_empty()).map(|root| Root::Given(root.into()))
}

/// The roots that are tried where the service directory cannot be written.
pub(crate) fn usual(uids: &[u32]) -> Vec<Root> {
    let mut roots = vec![Root::Run];
    for root in SHARED.iter().flat_map(|dir| uids.iter().map(|uid| Root::Shared(dir, *uid))) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

impl Root {
    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Root::Given(path) => path.clone(),
            Root::Run => "/run/runit/supervise".into(),
            Root::Shared(dir, uid) => format!("{dir}/runit-{uid}").into(),
        }
    }

    /// Opens it. What is missing is made, if that is wanted; what somebody else made is refused.
    pub(crate) fn open(&self, believed: &[u32], make: bool) -> io::Result<OwnedFd> {
        // The beginning is the system's.
        let start =
            |path: &str| openat(CWD, path, sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let made = |make: bool, how: Make| if make { how } else { Make::Nothing };
        let checked = |start: BorrowedFd<'_>, name: &[u8], mode: Mode| {
            let way = trust::walk(start, name, believed, made(make, Make::Last(mode)))?;
            trust::check_owner_is(&way.stat, believed)?;
            Ok(way.dir)
        };
        match self {
            Root::Given(path) => {
                let make_all = made(make, Make::All(OPEN));
                let way = trust::walk(CWD, path.as_os_str().as_bytes(), believed, make_all)?;
                match trust::check_owner_is(&way.stat, believed) {
                    // As /tmp, or a volume that every container may write to: what is in it is looked at.
                    Ok(()) | Err(Refusal::OthersWrite) => Ok(way.dir),
                    // Who asks may name anybody's; who serves keeps nothing where somebody else can take it away.
                    Err(_) if !make && !files::others_may_write(&way.stat) => Ok(way.dir),
                    Err(refusal) => Err(refusal.into()),
                }
            }
            Root::Run => {
                let dir = checked(start("/run")?.as_fd(), b"runit", OPEN)?;
                checked(dir.as_fd(), b"supervise", OPEN)
            }
            Root::Shared(dir, uid) => checked(start(dir)?.as_fd(), format!("runit-{uid}").as_bytes(), OURS),
        }
    }
}

/// The number of our mount namespace; 0 where that is not to be known.
fn namespace() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    let number = || statat(CWD, c"/proc/self/ns/mnt", AtFlags::empty());
    *NUMBER.get_or_init(|| number().map_or(0, |stat| files::identity(&stat).inode))
}

const fn is_same_or_0(one: u64, other: u64) -> bool {
    one == other || one == 0 || other == 0
}

impl Owner {
    /// Whether both are one service. Where a namespace is not known it is taken to be the same.
    pub(crate) const fn is(&self, other: &Owner) -> bool {
        self.device == other.device
            && self.inode == other.inode
            && is_same_or_0(self.namespace, other.namespace)
    }

    /// What the file in a `supervise` directory says.
    pub(crate) fn read(dir: BorrowedFd<'_>) -> Option<Owner> {
        let (file, _) = trust::open_regular(dir, OWNER, OFlags::RDONLY, Mode::empty()).ok()?;
        // The numbers are at its beginning.
        let mut start = [0; 128];
        let length = rustix::io::read(&file, &mut start).ok()?;
        Owner::parse(start.get(..length)?)
    }

    fn parse(text: &[u8]) -> Option<Owner> {
        let end = text.iter().position(|&byte| byte == b'\n')?;
        let mut numbers = std::str::from_utf8(text.get(..end)?).ok()?.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let owner = Owner { device: number()?, inode: number()?, namespace: number()? };
        numbers.next().is_none().then_some(owner)
    }

    fn text(&self, path: &Path) -> Vec<u8> {
        let numbers = format!("{} {} {}\n", self.device, self.inode, self.namespace);
        [numbers.as_bytes(), path.as_os_str().as_bytes(), b"\n"].concat()
    }

    /// Writes the file, in one step. `path` is that of the service directory.
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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

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
            let home = Home { dir: dir.as_fd(), path, role, who: b"" };
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

    #[test]
    fn an_unknown_namespace_is_taken_to_be_ours() {
        let owner = |inode, namespace| Owner { device: 1, inode, namespace };
        assert!(owner(2, 3).is(&owner(2, 3)) && owner(2, 0).is(&owner(2, 3)) && owner(2, 3).is(&owner(2, 0)));
        assert!(
            !owner(2, 3).is(&owner(2, 4)) && !owner(2, 3).is(&owner(5, 3)) && !owner(2, 0).is(&owner(5, 0))
        );
    }

    #[test]
    fn what_is_no_owner_is_none() {
        for text in
            ["", "\n", "1 2 3", "1 2\n", "1 2 3 4\n", "1 2 -3\n", " 1 2 3\n", "1 2 99999999999999999999\n"]
        {
            assert_eq!(Owner::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        /// Whatever the path is, the owner that was written is the one that is read.
        #[test]
        fn an_owner_is_read_as_it_was_written(device: u64, inode: u64, namespace: u64, path: Vec<u8>) {
            let owner = Owner { device, inode, namespace };
            let text = owner.text(Path::new(OsStr::from_bytes(&path)));
            prop_assert_eq!(Owner::parse(&text), Some(owner));
            prop_assert!(text.iter().position(|&byte| byte == b'\n').unwrap() < 128);
        }
    }
}
