//! A log directory: its files, and in which order they were written. Source: svlogd(8), LOG FILE ROTATION.
//!
//! svlogd may rotate and compress at any time. So a file is known by its label and its identity, and a name is looked for
//! again when it is not there any more.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, openat, statat};
use svcore::files::{self, Identity};
use svcore::label::Label;
use svcore::old_log::{Kind, OldLog};
use svcore::sort::sort;
use svcore::{slice, tai, trust};

use super::super::place::read_link;

use tai::Tai64N;

/// An opened log directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    fd: OwnedFd,
}

/// One of its files, opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) identity: Identity,
    /// In bytes, when it was opened.
    pub(super) size: u64,
    /// When it was last written to.
    pub(super) written: Tai64N,
}

impl Opened {
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "widths differ between platforms")]
    fn new(file: OwnedFd) -> io::Result<Self> {
        let stat = fstat(&file)?;
        let nanos = u32::try_from(stat.st_mtime_nsec as i64).unwrap_or(0);
        Ok(Opened {
            identity: files::identity(&stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            written: tai::stamp(i64::from(stat.st_mtime), nanos),
            file: file.into(),
        })
    }
}

impl Directory {
    /// Opens the directory at a path.
    ///
    /// # Errors
    ///
    /// That of open(2).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory { path: path.to_owned(), fd: openat(rustix::fs::CWD, path, flags, Mode::empty())? })
    }

    /// Whether the path still leads to this directory.
    pub(super) fn is_there(&self) -> bool {
        statat(rustix::fs::CWD, &self.path, AtFlags::empty())
            .is_ok_and(|stat| self.identity() == Some(files::identity(&stat)))
    }

    /// Which directory it is. As long as it is open, no other has its identity.
    pub(super) fn identity(&self) -> Option<Identity> {
        fstat(&self.fd).ok().map(|stat| files::identity(&stat))
    }

    /// The labels of all old logs, oldest first. The unfinished output of a processor counts as nothing.
    ///
    /// # Errors
    ///
    /// That of getdents(2).
    pub(super) fn labels(&self) -> io::Result<Vec<Label>> {
        let mut labels = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let old = OldLog::from_name(entry?.file_name().to_bytes());
            labels.extend(old.filter(|old| old.kind != Kind::Output).map(|old| old.label));
        }
        sort(&mut labels);
        labels.dedup();
        Ok(labels)
    }

    /// Opens `current`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// That of open(2), or a refusal.
    pub(super) fn current(&self) -> io::Result<Option<Opened>> {
        self.file(c"current")
    }

    /// Opens an old log; `None` if it was removed.
    ///
    /// # Errors
    ///
    /// That of open(2), or a refusal.
    pub(super) fn old(&self, label: &Label) -> io::Result<Option<Opened>> {
        // A processor makes `s` before it removes `u`, so `s` may have appeared between two looks.
        for kind in [Kind::Saved, Kind::Unprocessed, Kind::Saved] {
            let name = CString::new(OldLog { label: *label, kind }.name())?;
            if let Some(opened) = self.file(&name)? {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    /// The path of the file that an old log is in, for messages.
    pub(super) fn path_of(&self, label: &Label) -> PathBuf {
        let path = |kind| self.path.join(OldLog { label: *label, kind }.name());
        let saved = path(Kind::Saved);
        if saved.exists() { saved } else { path(Kind::Unprocessed) }
    }

    fn file(&self, name: &CStr) -> io::Result<Option<Opened>> {
        match trust::open_regular(self.fd.as_fd(), name, OFlags::RDONLY, Mode::empty()) {
            Ok((file, _)) => Opened::new(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The label that a file which was `current` has got. `None` if it is still `current`, or if nobody knows: it was
    /// removed, and there is no `/proc`.
    pub(super) fn label_of(&self, file: &File, identity: Identity, labels: &[Label]) -> Option<Label> {
        // The kernel knows the last name of an open file even after it was removed, as it is once it is compressed.
        let link = read_link(rustix::fs::CWD, format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes());
        if let Ok(link) = link {
            let name = Path::new(std::ffi::OsStr::from_bytes(&link)).file_name()?.as_bytes();
            let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
            if let Some(old) = OldLog::from_name(name) {
                return Some(old.label);
            }
        }
        let is_it = |label: &&Label| {
            [Kind::Saved, Kind::Unprocessed].into_iter().any(|kind| {
                let name = OldLog { label: **label, kind }.name();
                statat(&self.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| files::identity(&stat) == identity)
            })
        };
        labels.iter().rev().find(is_it).copied()
    }
}

/// How a file is compressed, by its first bytes, if it is; and the program that can read it.
pub(super) fn compression(start: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"LZIP", "lzip"),
    ];
    KNOWN.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, program)| *program)
}

/// The first bytes of a file.
///
/// # Errors
///
/// That of read(2).
pub(super) fn start_of(file: &File, buffer: &mut [u8; 8]) -> io::Result<usize> {
    loop {
        match rustix::io::pread(file, &mut *buffer, 0) {
            Err(rustix::io::Errno::INTR) => {}
            read => return Ok(slice::part(buffer, ..read?).len()),
        }
    }
}
