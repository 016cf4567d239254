//! The file `current` of a log directory.

use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fsync, renameat, statat, unlinkat};
use rustix::io::Errno;
use svcore::moment::Moment;
use svcore::sys::{clock, output};
use svcore::tai::{self, Tai64N};
use svcore::{Context, Failed, trust};

use super::super::completion::{is_complete, mark_complete, mark_incomplete};
use super::super::old_log::{Kind, OldLog};
use super::super::report::Report;
use super::locked_directory::is_name_of;
use svcore::label::next_label;

/// The open `current`.
pub(super) struct Current {
    pub(super) file: OwnedFd,
    /// In bytes.
    pub(super) length: u64,
    /// When it was opened; as long as it is empty, when its age was last checked.
    pub(super) since: Moment,
}

impl Current {
    fn new(file: OwnedFd, stat: &Stat) -> Self {
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        Current { file, length, since: clock::monotonic() }
    }

    /// Has the kernel begin to write it to the disk.
    pub(super) fn begin_to_sync(&self) {
        output::begin_to_sync(self.file.as_fd());
    }

    /// Syncs it, marks it as complete and closes it.
    pub(super) fn close(self) {
        // If the sync or the mark fails, there is nothing left that could be done.
        let _ = fsync(&self.file);
        let _ = mark_complete(&self.file);
    }
}

/// A `current` found or made at the start or at HUP.
pub(super) struct Opened {
    pub(super) current: Current,
    /// It is the file that was open before.
    pub(super) is_same: bool,
    /// The `current` that was found is incomplete and became an old log.
    pub(super) made_old_log: bool,
}

/// Opens `current`, or creates it. One that is not marked as complete, and is not `before`, becomes an unprocessed old
/// log first.
pub(super) fn open_or_create(
    directory: &OwnedFd,
    before: Option<&Current>,
    last: &mut Option<Tai64N>,
) -> Result<Opened, Failed> {
    let mut made_old_log = false;
    match open(directory, OFlags::empty()) {
        Ok((file, stat)) => {
            let is_same = before.is_some_and(|before| is_name_of(directory, c"current", &before.file));
            if is_same || stat.st_size == 0 || is_complete(&stat) {
                if !is_same {
                    mark_incomplete(&file).while_doing(|| "unable to open current")?;
                }
                return Ok(Opened { current: Current::new(file, &stat), is_same, made_old_log });
            }
            make_old_log(directory, Kind::Unprocessed, last).while_doing(|| "unable to rename current")?;
            made_old_log = true;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failed::because(error, "unable to open current")),
    }
    let current = create(directory).while_doing(|| "unable to open current")?;
    Ok(Opened { current, is_same: false, made_old_log })
}

/// Creates the next `current` of a rotation. If somebody has put something else in its place since the last one was
/// renamed, that is not used but removed.
pub(super) fn create_next(directory: &OwnedFd, report: &Report) -> io::Result<Current> {
    let is_unusable = |error: &io::Error| {
        trust::refusal(error).is_some() || error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
    };
    match create(directory) {
        Err(error) if is_unusable(&error) => {
            report.file_warning("unlink what is not a log", "current", Some(&error));
            unlinkat(directory, c"current", AtFlags::empty())?;
            create(directory)
        }
        created => created,
    }
}

fn create(directory: &OwnedFd) -> io::Result<Current> {
    let (file, stat) = open(directory, OFlags::CREATE)?;
    mark_incomplete(&file)?;
    Ok(Current::new(file, &stat))
}

fn open(directory: &OwnedFd, flags: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let flags = flags | OFlags::WRONLY | OFlags::APPEND;
    trust::open_regular(directory.as_fd(), c"current", flags, Mode::from_raw_mode(0o600))
}

/// Renames `current` to an old log of this kind, whose label is later than `last` and not in use. `last` becomes the
/// stamp of that label.
pub(super) fn make_old_log(directory: &OwnedFd, kind: Kind, last: &mut Option<Tai64N>) -> io::Result<OldLog> {
    loop {
        let (stamp, label) = next_label(tai::now(), *last).ok_or(Errno::OVERFLOW)?;
        *last = Some(stamp);
        let old = OldLog { label, kind };
        let mut is_free = true;
        for kind in Kind::ALL {
            match statat(directory, old.with_kind(kind).name().as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => is_free = false,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if is_free {
            renameat(directory, c"current", directory, old.name().as_str())?;
            return Ok(old);
        }
    }
}
