//! Opening files that somebody else may have made.
//!
//! One rule holds for every file in a `supervise`, state or log directory: no link is followed, nothing waits, and type and
//! owner are checked after the file is open, never before, because a name may lead to another file a moment later.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::path::{LINKS_MAX, names};
use crate::{files, slice, sys};

/// Why a file is not used, although it can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is a symbolic link.
    Link,
    /// It is not a regular file.
    NotRegular,
    /// It is not a FIFO.
    NotFifo,
    /// It has more than one name, so somebody may have linked another file here.
    HardLinked,
    /// It belongs to another user.
    OtherOwner,
    /// Others may write to it.
    OthersWrite,
}

impl Refusal {
    /// The words for it in a message, where they follow a colon.
    #[must_use]
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Refusal::Link => "is a symbolic link",
            Refusal::NotRegular => "not a regular file",
            Refusal::NotFifo => "not a fifo",
            Refusal::HardLinked => "has more than one name",
            Refusal::OtherOwner => "belongs to another user",
            Refusal::OthersWrite => "others may write to it",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        io::Error::other(refusal)
    }
}

/// The refusal in an error, if it is one.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<Refusal> {
    error.get_ref()?.downcast_ref::<Refusal>().copied()
}

/// The flags of every open here.
const CAREFUL: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags, mode: Mode) -> io::Result<(OwnedFd, Stat)> {
    let file = openat(dir, name, flags | CAREFUL, mode).map_err(|errno| match errno {
        Errno::LOOP => Refusal::Link.into(),
        errno => io::Error::from(errno),
    })?;
    let stat = fstat(&file)?;
    Ok((file, stat))
}

/// Opens a regular file that has no other name. With `CREATE` in `flags` it is created if it is missing.
///
/// `TRUNC` in `flags` is ignored, since it would act before the file is checked: truncate it afterwards.
///
/// # Errors
///
/// That of open(2), or a [`Refusal`].
pub fn open_regular(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
    mode: Mode,
) -> io::Result<(OwnedFd, Stat)> {
    let (file, stat) = open(dir, name, flags.difference(OFlags::TRUNC), mode)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::NotRegular.into());
    }
    if stat.st_nlink > 1 {
        return Err(Refusal::HardLinked.into());
    }
    Ok((file, stat))
}

/// Opens a FIFO that has no other name: under another name it would belong to another service, too.
///
/// # Errors
///
/// That of open(2), or a [`Refusal`].
pub fn open_fifo(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let (file, stat) = open(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Refusal::NotFifo.into());
    }
    if stat.st_nlink > 1 {
        return Err(Refusal::HardLinked.into());
    }
    Ok((file, stat))
}

/// Opens a directory, but not through a link.
///
/// # Errors
///
/// That of open(2), or a [`Refusal`].
pub fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(OwnedFd, Stat)> {
    directory(dir, name, OFlags::RDONLY)
}

/// The same for a directory whose entries are only used by name, so it need not be readable.
///
/// # Errors
///
/// That of open(2), or a [`Refusal`].
pub(crate) fn search_directory(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(OwnedFd, Stat)> {
    directory(dir, name, sys::SEARCH)
}

fn directory(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<(OwnedFd, Stat)> {
    // With O_DIRECTORY and O_NOFOLLOW, Linux reports ENOTDIR for a link.
    open(dir, name, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|error| {
        let is_link = || {
            statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        };
        if error.kind() == io::ErrorKind::NotADirectory && is_link() { Refusal::Link.into() } else { error }
    })
}

/// Which directories a [`walk`] creates if they are missing, and with which mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// None.
    Nothing,
    /// The last one.
    Last(Mode),
    /// Every one.
    All(Mode),
}

/// Where a [`walk`] arrived.
#[derive(Debug)]
pub struct Way {
    /// The directory that the path leads to.
    pub dir: OwnedFd,
    /// Its metadata.
    pub stat: Stat,
    /// The directory that contains the last name of the path, if the path has one.
    pub parent: Option<Stat>,
}

/// Opens a directory name by name. A link on the way is followed only if one of the users `believed` made it and nobody
/// else can replace it, so nobody else decides where the path leads or where a directory is created.
///
/// The caller has to check the owner of the directory at the end.
///
/// # Errors
///
/// That of the system call that failed, or a [`Refusal`].
pub fn walk(start: BorrowedFd<'_>, path: &[u8], believed: &[u32], make: Make) -> io::Result<Way> {
    let begin = |path: &[u8]| {
        let from = if path.starts_with(b"/") { (CWD, c"/") } else { (start, c".") };
        search_directory(from.0, from.1)
    };
    let (mut dir, mut stat) = begin(path)?;
    let mut parent = None;
    let mut left: VecDeque<Vec<u8>> = names(path).collect();
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let is_up = name == b"..";
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let mode = match make {
            Make::Last(mode) if left.is_empty() => Some(mode),
            Make::All(mode) => Some(mode),
            Make::Last(_) | Make::Nothing => None,
        };
        let next = match search_directory(dir.as_fd(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match mode {
                Some(mode) => {
                    match mkdirat(&dir, &name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    // Somebody may have been quicker, and made something else.
                    let made = search_directory(dir.as_fd(), &name)?;
                    check_owner_is(&made.1, believed)?;
                    Ok(made)
                }
                None => Err(error),
            },
            opened => opened,
        };
        match next {
            Ok((next, its_stat)) => {
                parent = (!is_up).then_some(stat);
                (dir, stat) = (next, its_stat);
            }
            Err(error) if refusal(&error) == Some(Refusal::Link) => {
                let link = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                links += 1;
                let is_theirs = believed.contains(&link.st_uid) && believed.contains(&stat.st_uid);
                if links > LINKS_MAX || !is_theirs || files::others_may_exchange(&stat) {
                    return Err(error);
                }
                let target = readlinkat(&dir, &name, Vec::new())?;
                if target.to_bytes().starts_with(b"/") {
                    (dir, stat) = begin(b"/")?;
                    parent = None;
                }
                for name in names(target.to_bytes()).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(name);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Way { dir, stat, parent })
}

/// Opens a regular file for reading, also through links: for files that an administrator may link, such as those of an
/// environment directory. `/dev/null` counts as an empty file.
///
/// Nothing else is opened, since the open itself can start a device or wake the writer of a FIFO.
///
/// # Errors
///
/// That of stat(2) or open(2), EISDIR, or [`Refusal::NotRegular`].
pub fn open_content(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    has_content(&statat(dir, name, AtFlags::empty())?)?;
    let file = openat(dir, name, flags, Mode::empty())?;
    // The name may lead to another file by now.
    has_content(&fstat(&file)?)?;
    Ok(file)
}

fn has_content(stat: &Stat) -> io::Result<()> {
    let is_null =
        || statat(CWD, c"/dev/null", AtFlags::empty()).is_ok_and(|null| null.st_rdev == stat.st_rdev);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::CharacterDevice if is_null() => Ok(()),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(Refusal::NotRegular.into()),
    }
}

/// Creates a file that nobody else has open or has linked to another place. Whatever had its name is removed first,
/// unless it is a directory.
///
/// # Errors
///
/// That of open(2) or unlink(2).
pub fn create_new(dir: BorrowedFd<'_>, name: &CStr, mode: Mode) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | CAREFUL;
    // Usually nothing has the name, so only a failure leads to a removal.
    for _ in 0..3 {
        match openat(dir, name, flags, mode) {
            Err(Errno::EXIST) => match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            },
            made => return Ok(made?),
        }
    }
    // Somebody creates the file again and again.
    Err(Errno::EXIST.into())
}

/// Whether a file belongs to a user who is neither root nor us.
#[must_use]
pub fn is_of_others(stat: &Stat) -> bool {
    !ours().contains(&stat.st_uid)
}

/// Whether a file belongs to us or to root, and nobody else may write to it.
///
/// # Errors
///
/// A [`Refusal`] with the reason.
pub fn check_owner(stat: &Stat) -> Result<(), Refusal> {
    check_owner_is(stat, &ours())
}

/// The same for other permitted owners than us and root.
///
/// # Errors
///
/// A [`Refusal`] with the reason.
pub(crate) fn check_owner_is(stat: &Stat, believed: &[u32]) -> Result<(), Refusal> {
    if !believed.contains(&stat.st_uid) {
        return Err(Refusal::OtherOwner);
    }
    if files::others_may_write(stat) { Err(Refusal::OthersWrite) } else { Ok(()) }
}

/// The users who are always believed: root, and our effective user.
#[must_use]
pub fn ours() -> [u32; 2] {
    [0, rustix::process::geteuid().as_raw()]
}

/// The whole of a file, if it is not longer than `limit` bytes.
///
/// # Errors
///
/// That of read(2), or EFBIG.
pub fn read_at_most(file: &OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(file, &mut buffer) {
            Ok(0) => return Ok(all),
            Ok(length) => all.extend_from_slice(slice::part(&buffer, ..length)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if all.len() > limit {
            return Err(Errno::FBIG.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_other_names_and_other_types_are_refused() {
        let path = std::env::temp_dir().join(format!("svcore-trust-{}", std::process::id()));
        std::fs::create_dir_all(path.join("dir")).unwrap();
        std::fs::write(path.join("file"), "text").unwrap();
        std::fs::write(path.join("two"), "text").unwrap();
        std::fs::hard_link(path.join("two"), path.join("other")).unwrap();
        symlink("file", path.join("link")).unwrap();
        symlink("dir", path.join("dirlink")).unwrap();
        let dir = rustix::fs::open(&path, OFlags::RDONLY, Mode::empty()).unwrap();
        let dir = dir.as_fd();
        let regular = |name| {
            open_regular(dir, name, OFlags::RDONLY, Mode::empty()).map(drop).map_err(|it| refusal(&it))
        };
        assert_eq!(regular(c"file"), Ok(()));
        assert_eq!(regular(c"link"), Err(Some(Refusal::Link)));
        assert_eq!(regular(c"dir"), Err(Some(Refusal::NotRegular)));
        assert_eq!(regular(c"two"), Err(Some(Refusal::HardLinked)));
        assert_eq!(regular(c"none"), Err(None));
        let content = |name| open_content(dir, name).map(drop).map_err(|it| refusal(&it));
        assert_eq!((content(c"file"), content(c"link"), content(c"two")), (Ok(()), Ok(()), Ok(())));
        assert_eq!((content(c"dir"), content(c"none")), (Err(None), Err(None)));
        assert_eq!(content(c"/dev/zero"), Err(Some(Refusal::NotRegular)));
        assert_eq!(content(c"/dev/null"), Ok(()));
        let fifo = open_fifo(dir, c"file", OFlags::RDONLY).map(drop).map_err(|it| refusal(&it));
        assert_eq!(fifo, Err(Some(Refusal::NotFifo)));
        crate::sys::fifo::make(dir, c"fifo").unwrap();
        let fifo = |name| open_fifo(dir, name, OFlags::RDONLY).map(drop).map_err(|it| refusal(&it));
        assert_eq!(fifo(c"fifo"), Ok(()));
        std::fs::hard_link(path.join("fifo"), path.join("fifo2")).unwrap();
        assert_eq!(fifo(c"fifo"), Err(Some(Refusal::HardLinked)));
        let directory = |name| open_directory(dir, name).map(drop).map_err(|it| refusal(&it));
        assert_eq!(directory(c"dir"), Ok(()));
        assert_eq!(directory(c"dirlink"), Err(Some(Refusal::Link)));
        // What a link leads to keeps its content.
        drop(create_new(dir, c"link", Mode::RUSR).unwrap());
        assert_eq!(std::fs::read(path.join("file")).unwrap(), b"text");
        assert_eq!(std::fs::read(path.join("link")).unwrap(), b"");
        std::fs::remove_dir_all(path).unwrap();
    }
    #[test]
    fn a_walk_makes_what_is_missing_and_follows_links_of_ours_alone() {
        let path = std::env::temp_dir().join(format!("svcore-walk-{}", std::process::id()));
        std::fs::create_dir_all(path.join("dir/sub")).unwrap();
        symlink("dir", path.join("link")).unwrap();
        symlink("../loop", path.join("dir/up")).unwrap();
        symlink("dir/up", path.join("loop")).unwrap();
        let start = rustix::fs::open(&path, OFlags::RDONLY, Mode::empty()).unwrap();
        let us = ours();
        let go = |to: &str, believed: &[u32], make| {
            walk(start.as_fd(), to.as_bytes(), believed, make).map(|way| files::identity(&way.stat))
        };
        let there = |name: &str| {
            let stat = statat(&start, name, AtFlags::empty()).unwrap();
            files::identity(&stat)
        };
        assert_eq!(go("link/./sub", &us, Make::Nothing).unwrap(), there("dir/sub"));
        assert_eq!(go("link/sub/../..", &us, Make::Nothing).unwrap(), there("."));
        assert_eq!(refusal(&go("link/sub", &[u32::MAX], Make::Nothing).unwrap_err()), Some(Refusal::Link));
        assert_eq!(refusal(&go("loop", &us, Make::Nothing).unwrap_err()), Some(Refusal::Link));
        let mode = Mode::RWXU;
        assert_eq!(go("link/a/b", &us, Make::Last(mode)).unwrap_err().kind(), io::ErrorKind::NotFound);
        go("link/a", &us, Make::Last(mode)).unwrap();
        assert_eq!(go("link/x/y", &us, Make::All(mode)).unwrap(), there("dir/x/y"));
        // Where others may put another in its place, no link is followed.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(refusal(&go("link/sub", &us, Make::Nothing).unwrap_err()), Some(Refusal::Link));
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        go("link/sub", &us, Make::Nothing).unwrap();
        std::fs::remove_dir_all(path).unwrap();
    }
}
