//! Directories in which `svctl` writes services.
//!
//! Everything goes through open directories, and no link that a stranger made is followed. A file is complete before it has
//! its name, and so is a service: a supervisor may look at any time.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, mkdirat, openat, readlinkat, renameat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use svcore::error::Context;
use svcore::trust::{self, Make};
use svcore::{Failed, files, slice};

/// No script that `svctl` compares with its own is longer.
const LENGTH_MAX: usize = 64 * 1024;
/// How deep a directory may be that is removed.
const DEPTH_MAX: u32 = 8;
/// The mode of directories and scripts, from which the umask takes away.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);
const SCRIPT: Mode = Mode::from_raw_mode(0o755);
const TEXT: Mode = Mode::from_raw_mode(0o644);

/// An open directory.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
    /// Its path, for messages.
    path: Vec<u8>,
}

/// A file that is to be written.
#[derive(Debug)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) is_executable: bool,
}

impl File {
    /// A script.
    pub(super) const fn script(content: Vec<u8>) -> Self {
        File { content, is_executable: true }
    }

    /// An empty file, whose name says all.
    pub(super) const fn empty() -> Self {
        File { content: Vec::new(), is_executable: false }
    }
}

impl Place {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// That it cannot be opened, or that a stranger's link is on the way.
    pub(super) fn open(path: &[u8]) -> io::Result<Self> {
        Self::walk(path, Make::Nothing)
    }

    /// Opens a directory; it and those above it are made if they are missing.
    ///
    /// # Errors
    ///
    /// That it cannot be made or opened.
    pub(super) fn make(path: &[u8]) -> Result<Self, Failed> {
        Self::walk(path, Make::All(DIRECTORY)).unable_to("make", path)
    }

    fn walk(path: &[u8], make: Make) -> io::Result<Self> {
        let way = trust::walk(CWD, path, &trust::ours(), make)?;
        Ok(Place { dir: way.dir, path: path.to_vec() })
    }

    /// Its path.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// It as a descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The path of something in it.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, b"/".as_slice(), name].concat()
    }

    /// Opens a directory in it, which is not a link.
    ///
    /// # Errors
    ///
    /// That of open(2), or that it is a link.
    pub(super) fn child(&self, name: &[u8]) -> io::Result<Self> {
        let dir = trust::open_directory(self.fd(), &c_string(name)?)?.0;
        Ok(Place { dir, path: self.path_of(name) })
    }

    /// The same; it is made if it is missing.
    ///
    /// # Errors
    ///
    /// That it cannot be made or opened.
    pub(super) fn make_child(&self, name: &[u8]) -> Result<Self, Failed> {
        let make = || {
            match mkdirat(&self.dir, &c_string(name)?, DIRECTORY) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.child(name)
        };
        make().unable_to("make", &self.path_of(name))
    }

    /// What a name is, without following a link; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// That of stat(2).
    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match statat(&self.dir, &c_string(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The content of a short regular file, and whether it is executable.
    ///
    /// # Errors
    ///
    /// That it cannot be read, is long, or is something else.
    pub(super) fn read(&self, name: &CStr) -> io::Result<(Vec<u8>, bool)> {
        let (file, stat) = trust::open_regular(self.fd(), name, OFlags::RDONLY, Mode::empty())?;
        Ok((trust::read_at_most(&file, LENGTH_MAX)?, files::is_executable(&stat)))
    }

    /// Writes a file in one step.
    ///
    /// # Errors
    ///
    /// That it cannot be written. Then what had its name is still there.
    pub(super) fn write(&self, name: &[u8], file: &File) -> Result<(), Failed> {
        let new = [b".".as_slice(), name, b".new"].concat();
        let write = || {
            let (new, name) = (c_string(&new)?, c_string(name)?);
            let mode = if file.is_executable { SCRIPT } else { TEXT };
            let to = trust::create_new(self.fd(), &new, mode)?;
            let written =
                write_all(&to, &file.content).and_then(|()| Ok(renameat(&self.dir, &new, &self.dir, &name)?));
            if written.is_err() {
                // What is not complete is of no use to anybody.
                let _ = unlinkat(&self.dir, &new, AtFlags::empty());
            }
            written
        };
        write().unable_to("write", &self.path_of(name))
    }

    /// Renames something in it.
    ///
    /// # Errors
    ///
    /// That of rename(2).
    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        Ok(renameat(&self.dir, &c_string(from)?, &self.dir, &c_string(to)?)?)
    }

    /// Makes a symbolic link in it, which leads to a path.
    ///
    /// # Errors
    ///
    /// That of symlink(2).
    pub(super) fn make_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(symlinkat(&c_string(target)?, &self.dir, &c_string(name)?)?)
    }

    /// Removes a file or a link.
    ///
    /// # Errors
    ///
    /// That of unlink(2).
    pub(super) fn unlink(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.dir, &c_string(name)?, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// That of rmdir(2).
    pub(super) fn remove_directory(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.dir, &c_string(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Removes a directory with all that is in it, but nothing that a link leads to.
    ///
    /// # Errors
    ///
    /// That something cannot be removed, or lies too deep.
    pub(super) fn remove_all(&self, name: &[u8]) -> io::Result<()> {
        self.remove_below(name, DEPTH_MAX)
    }

    fn remove_below(&self, name: &[u8], depth: u32) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
        let child = self.child(name)?;
        for name in child.names()? {
            let is_dir = child.look(&name)?.is_some_and(|stat| kind(&stat) == FileType::Directory);
            if is_dir { child.remove_below(&name, depth)? } else { child.unlink(&name)? }
        }
        self.remove_directory(name)
    }

    /// The names in it, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// That of readdir(3).
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        // The descriptor may be one that can only be searched.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&self.dir, c".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// What a file is.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Where a symbolic link leads to.
///
/// # Errors
///
/// That of readlink(2).
pub(super) fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(readlinkat(dir, &c_string(name)?, Vec::new())?.into_bytes())
}

/// A name for a system call.
///
/// # Errors
///
/// EINVAL if it has a null byte.
pub(super) fn c_string(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL.into())
}

fn write_all(file: &OwnedFd, content: &[u8]) -> io::Result<()> {
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(written) => rest = slice::part(rest, written..),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
