//! The directory that is installed in: what is there, and how it is exchanged, all or nothing.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, linkat, openat,
    readlinkat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::plan::{Found, is_executable_of_ours, is_name_of_ours, is_page_of_ours};
use crate::error::{Context, Failed, Result};
use crate::files::Identity;
use crate::path::{LINKS_MAX, names};
use crate::{files, slice, trust};

/// Longer files are not ours. An executable with all information for debuggers has some 40 MB.
const FILE_MAX: usize = 256 << 20;
const READ_ONLY: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A file that is to be in the directory.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Its name.
    pub(super) name: CString,
    /// What it is.
    pub(super) content: Content,
}

/// What a file is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A copy of the executable that runs.
    Executable,
    /// A symbolic link with this target.
    Link(CString),
    /// A hard link to the file of this name in the same directory.
    HardLink(CString),
    /// A manual page.
    Page(Vec<u8>),
    /// A manual page, compressed where ours is not or the other way round. It is never made. If there is one
    /// that is not ours, ours is not installed, since man(1) could show the other.
    OtherForm(Vec<u8>),
}

/// The executable that runs.
#[derive(Debug)]
pub(super) struct Executable {
    /// Where it lies, with all links followed.
    pub(super) path: PathBuf,
    file: OwnedFd,
    identity: Identity,
}

impl Executable {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// That of the system call that failed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = openat(CWD, path, READ_ONLY, Mode::empty())?;
        let identity = files::identity(&fstat(&file)?);
        Ok(Executable { path: path.canonicalize()?, file, identity })
    }

    /// Writes a copy of it.
    fn copy_to(&self, file: &OwnedFd) -> io::Result<()> {
        let mut buffer = [0; 1 << 16];
        let mut at = 0;
        loop {
            match rustix::io::pread(&self.file, &mut buffer, at) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    write_whole(file, slice::part(&buffer, ..length))?;
                    at += length as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn write_whole(file: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = slice::part(bytes, written..),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// A directory to install in.
#[derive(Debug)]
pub(super) struct InstallDirectory {
    /// Its path as messages show it.
    pub(super) shown: PathBuf,
    /// Its path with all links followed.
    pub(super) real: PathBuf,
    /// What is `/` to links.
    root: PathBuf,
    dir: OwnedFd,
    /// Which files are executables of ours: often many names are the same file.
    known: Vec<(Identity, bool)>,
}

impl InstallDirectory {
    /// Opens a directory. `root` is `/` to `dir` and to the links on the way. No other installation changes it until it is
    /// closed.
    ///
    /// # Errors
    ///
    /// That of the system call that failed.
    pub(super) fn open(dir: &Path, root: Option<&Path>) -> io::Result<Self> {
        let (root, real, shown) = locate(dir, root)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &real, flags, Mode::empty())?;
        // Some file systems have no locks. Two installations at a time are not protected from each other there.
        let _ = flock(&dir, FlockOperation::LockExclusive);
        Ok(InstallDirectory { shown, real, root, dir, known: Vec::new() })
    }

    /// The same, and makes it if it does not exist, but not its parents.
    ///
    /// # Errors
    ///
    /// That of the system call that failed.
    pub(super) fn open_or_make(dir: &Path, root: Option<&Path>) -> io::Result<Self> {
        match InstallDirectory::open(dir, root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Err(error) };
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let parent = InstallDirectory::open(parent, root)?;
                rustix::fs::mkdirat(&parent.dir, name, Mode::from_raw_mode(0o755))?;
                InstallDirectory::open(dir, root)
            }
            opened => opened,
        }
    }

    /// The path of a file in it, for messages.
    pub(super) fn path_of(&self, name: &CStr) -> Vec<u8> {
        self.shown.join(OsStr::from_bytes(name.to_bytes())).into_os_string().into_vec()
    }

    /// Whether a file lies beneath what is `/` here.
    pub(super) fn is_in_root(&self, real: &Path) -> bool {
        real.starts_with(&self.root)
    }

    /// Whether a name leads to the executable that runs.
    pub(super) fn leads_to(&self, name: &CStr, executable: &Executable) -> bool {
        resolve(&self.root, &self.real, name.to_bytes())
            .and_then(|file| Ok(statat(CWD, &file, AtFlags::SYMLINK_NOFOLLOW)?))
            .is_ok_and(|stat| files::identity(&stat) == executable.identity)
    }

    /// What is in the place of an item.
    ///
    /// # Errors
    ///
    /// That of the system call that failed.
    pub(super) fn look(&mut self, item: &Item, executable: Option<&Executable>) -> io::Result<Found> {
        let stat = match statat(&self.dir, &item.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            stat => stat?,
        };
        let ours = |is_ours| if is_ours { Found::Ours } else { Found::NotOurs };
        let path = self.real.join(OsStr::from_bytes(item.name.to_bytes()));
        let identity = files::identity(&stat);
        let is_running = executable.is_some_and(|executable| executable.identity == identity);
        match (FileType::from_raw_mode(stat.st_mode), &item.content) {
            (FileType::RegularFile, Content::Page(page) | Content::OtherForm(page)) => {
                let file = read(&path)?;
                Ok(if file == *page { Found::AsWanted } else { ours(is_page_of_ours(&file, page)) })
            }
            (FileType::RegularFile, Content::Executable) if is_running => Ok(Found::AsWanted),
            (FileType::RegularFile, Content::HardLink(other))
                if is_running && self.is_file(other, identity) =>
            {
                Ok(Found::AsWanted)
            }
            (FileType::RegularFile, _) => Ok(ours(self.is_executable(&path)?)),
            (FileType::Symlink, Content::Executable | Content::Link(_) | Content::HardLink(_)) => {
                let target = readlinkat(&self.dir, &item.name, Vec::new())?;
                match &item.content {
                    Content::Link(wanted) if *wanted == target => Ok(Found::AsWanted),
                    _ if self.is_link_of_ours(target.to_bytes())? => Ok(Found::Ours),
                    Content::Link(_) if executable.is_some_and(|it| self.leads_to(&item.name, it)) => {
                        Ok(Found::ByAnotherWay)
                    }
                    _ => Ok(Found::NotOurs),
                }
            }
            _ => Ok(Found::NotOurs),
        }
    }

    fn is_file(&self, name: &CStr, identity: Identity) -> bool {
        statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| files::identity(&stat) == identity)
    }

    /// Whether a link with this target is one that an installation made: it leads to an executable of ours and to no other
    /// link, except to one that is called `runitbox`.
    fn is_link_of_ours(&mut self, target: &[u8]) -> io::Result<bool> {
        let parent = target.rsplitn(2, |&byte| byte == b'/').nth(1).unwrap_or_default();
        let parent = if target.starts_with(b"/") { [b"/", parent].concat() } else { parent.to_owned() };
        let file = resolve(&self.root, &self.real, &parent).and_then(|parent| {
            let path = Path::new(OsStr::from_bytes(target));
            let file = path.file_name().map_or_else(|| parent.clone(), |name| parent.join(name));
            let is_link = file.symlink_metadata()?.is_symlink();
            if is_link && is_name_of_ours(target) {
                resolve(&self.root, &parent, file.file_name().unwrap_or_default().as_bytes())
            } else {
                Ok(file)
            }
        });
        match file {
            Ok(file) => self.is_executable(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(is_name_of_ours(target)),
            Err(error) => Err(error),
        }
    }

    /// Whether a file is an executable of ours. It is not if it is a link.
    fn is_executable(&mut self, path: &Path) -> io::Result<bool> {
        let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let identity = files::identity(&stat);
        if let Some(&(_, is_ours)) = self.known.iter().find(|(known, _)| *known == identity) {
            return Ok(is_ours);
        }
        let is_ours = is_executable_of_ours(&read(path)?);
        self.known.push((identity, is_ours));
        Ok(is_ours)
    }

    /// Puts items in their places, which hold nothing or what is ours: all, or none of them if one cannot be put there.
    ///
    /// Everything is made under other names first, and what is there gets a second name. Then each item is renamed to its
    /// place, so at no time is a name missing, and if that fails what was there is put back. An executable has to come
    /// before the hard links to it.
    ///
    /// # Errors
    ///
    /// The step that could not be done, with the error of the system.
    pub(super) fn exchange(&self, items: &[&Item], executable: Option<&Executable>) -> Result<(), Failed> {
        let mut renamed = 0_usize;
        let result = self.prepare(items, executable).and_then(|()| {
            for item in items {
                renameat(&self.dir, new_name(item), &self.dir, &item.name)
                    .while_doing(|| self.unable("replace", &item.name))?;
                renamed += 1;
            }
            Ok(())
        });
        if result.is_err() {
            for item in items.iter().take(renamed) {
                if renameat(&self.dir, old_name(item), &self.dir, &item.name) == Err(Errno::NOENT) {
                    self.remove_if_there(&item.name);
                }
            }
        }
        for item in items {
            self.remove_if_there(&new_name(item));
            self.remove_if_there(&old_name(item));
        }
        // Not every file system can do this for a directory.
        let _ = fsync(&self.dir);
        result
    }

    fn prepare(&self, items: &[&Item], executable: Option<&Executable>) -> Result<(), Failed> {
        for item in items {
            // Left by an installation that was killed.
            self.remove_if_there(&new_name(item));
            self.remove_if_there(&old_name(item));
        }
        for (index, item) in items.iter().enumerate() {
            let before = slice::part(items, ..index);
            self.make(item, before, executable).while_doing(|| self.unable("make", &item.name))?;
            match linkat(&self.dir, &item.name, &self.dir, old_name(item), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(errno)
                        .while_doing(|| self.unable("keep for the case of a failure", &item.name));
                }
            }
        }
        Ok(())
    }

    /// Makes an item under its new name.
    fn make(&self, item: &Item, before: &[&Item], executable: Option<&Executable>) -> io::Result<()> {
        let new = new_name(item);
        let create = |mode| {
            let file = trust::create_new(self.dir.as_fd(), &new, Mode::from_raw_mode(mode))?;
            // The umask has cleared bits of the mode.
            fchmod(&file, Mode::from_raw_mode(mode))?;
            Ok::<_, io::Error>(file)
        };
        match &item.content {
            Content::Executable => {
                let file = create(0o755)?;
                executable.map_or(Ok(()), |executable| executable.copy_to(&file))?;
                fsync(&file)?;
            }
            Content::Page(page) | Content::OtherForm(page) => {
                let file = create(0o644)?;
                write_whole(&file, page)?;
                fsync(&file)?;
            }
            Content::Link(target) => symlinkat(target, &self.dir, &new)?,
            Content::HardLink(other) => {
                let made = before.iter().find(|made| made.name == *other);
                let other = made.map_or_else(|| other.clone(), |made| new_name(made));
                linkat(&self.dir, &other, &self.dir, &new, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Removes items.
    ///
    /// # Errors
    ///
    /// The item that could not be removed, with the error of the system.
    pub(super) fn remove(&self, items: &[&Item]) -> Result<(), Failed> {
        for item in items {
            unlinkat(&self.dir, &item.name, AtFlags::empty())
                .while_doing(|| self.unable("remove", &item.name))?;
        }
        Ok(())
    }

    /// `unable to DO: PATH`.
    fn unable(&self, to_do: &str, name: &CStr) -> Vec<u8> {
        [b"unable to ", to_do.as_bytes(), b": ", &self.path_of(name)].concat()
    }

    fn remove_if_there(&self, name: &CStr) {
        let _ = unlinkat(&self.dir, name, AtFlags::empty());
    }
}

fn new_name(item: &Item) -> CString {
    prefixed(c".runitbox-new-", &item.name)
}

fn old_name(item: &Item) -> CString {
    prefixed(c".runitbox-old-", &item.name)
}

fn prefixed(prefix: &CStr, name: &CStr) -> CString {
    let mut bytes = prefix.to_bytes().to_owned();
    bytes.extend_from_slice(name.to_bytes());
    CString::new(bytes).unwrap_or_default()
}

/// The whole of a regular file; nothing of any other.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = openat(CWD, path, READ_ONLY | OFlags::NOFOLLOW, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    trust::read_at_most(&file, FILE_MAX)
}

/// An installed page, by way of links too; `None` if there is none.
pub(super) fn read_page(path: &Path) -> Option<Vec<u8>> {
    const PAGE_MAX: usize = 1 << 20;
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    trust::read_at_most(&trust::open_content(CWD, &name).ok()?, PAGE_MAX).ok()
}

/// What is `/` to `dir`, the path of `dir` with all links followed, and the path that messages show.
fn locate(dir: &Path, root: Option<&Path>) -> io::Result<(PathBuf, PathBuf, PathBuf)> {
    let Some(root) = root else { return Ok((PathBuf::from("/"), dir.canonicalize()?, dir.to_owned())) };
    let root = root.canonicalize()?;
    let real = resolve(&root, &root, dir.as_os_str().as_bytes())?;
    Ok((root, real.clone(), real))
}

/// A path with all links followed; it and its links do not lead out of `root`, which is `/` to them. `start` is the
/// directory that a relative path begins in. Both have no links in them.
///
/// # Errors
///
/// That of the system call that failed; ELOOP.
fn resolve(root: &Path, start: &Path, path: &[u8]) -> io::Result<PathBuf> {
    let begin = |path: &[u8], start: &Path| {
        if path.starts_with(b"/") { root.to_owned() } else { start.to_owned() }
    };
    let mut at = begin(path, start);
    let mut left: VecDeque<Vec<u8>> = names(path).collect();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == b".." {
            if at != root {
                at.pop();
            }
            continue;
        }
        let next = at.join(OsStr::from_bytes(&name));
        if !next.symlink_metadata()?.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        let target = std::fs::read_link(&next)?.into_os_string().into_vec();
        at = begin(&target, &at);
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    Ok(at)
}
