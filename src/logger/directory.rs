//! The directories of a log without `log/run`.
//!
//! The files are in `main` of the directory `log` if that is a directory or a link, otherwise in `log` itself. Those of an
//! instance of a template are in a directory such as `@tty1` there. svlogd makes that if it is missing. One that runs as an
//! account of its own may not be able to; then the supervisor makes it.

use std::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, fchown, mkdirat, statat, unlinkat};

use crate::passwd::Ids;
use crate::trust::{self, Make, Way};

/// Mode of the directory of an instance, before the umask.
pub const MODE: Mode = Mode::from_raw_mode(0o755);

/// Whether `main` in the directory `log` is a directory or a link; `None` if it is neither.
#[must_use]
pub fn kind_of_main(log: BorrowedFd<'_>) -> Option<FileType> {
    let stat = statat(log, c"main", AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::Directory | FileType::Symlink).then_some(kind)
}

/// Makes the directory `name` of an instance for this account, if it is missing.
///
/// Only in a directory in which nobody else than we and root can make or rename anything: in any other one, somebody might
/// put a directory in its place that must not belong to the account. There svlogd has to make it.
///
/// Nothing is reported, since svlogd reports what it cannot open.
pub(crate) fn make_for(log: BorrowedFd<'_>, name: &CStr, ids: &Ids) {
    let path: &[u8] = if kind_of_main(log).is_some() { b"main" } else { b"." };
    let Ok(Way { dir, stat, .. }) = trust::walk(log, path, &trust::ours(), Make::Nothing) else { return };
    if trust::check_owner(&stat).is_err() || mkdirat(&dir, name, MODE).is_err() {
        return;
    }
    let group = ids.gids.first().map(|&gid| Gid::from_raw(gid));
    let made = trust::open_directory(dir.as_fd(), name);
    if !made.is_ok_and(|(made, _)| fchown(&made, Some(Uid::from_raw(ids.uid)), group).is_ok()) {
        // A later start is to try that again.
        let _ = unlinkat(&dir, name, AtFlags::REMOVEDIR);
    }
}
