//! Whose files a log is: the file `user` beside it.

use std::ffi::CStr;
use std::io;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Context, Failed};
use crate::passwd::{self, Ids, Refused};
use crate::{privilege, trust};

/// The longest name of an account, in bytes.
const ACCOUNT_MAX: usize = 256;
/// The longest `/etc/passwd` or `/etc/group` that is read, in bytes.
const DATABASE_MAX: usize = 16 * 1024 * 1024;

/// The account in the file `user` of the directory `log`: as for `chpst -u`. `None` without the file: our own.
///
/// Only a file of root or of our own user is believed: whoever the log belongs to may not choose to be root.
///
/// # Errors
///
/// The file cannot be read, is refused, or is empty. Then nobody knows whose the log is, so it must not be written.
pub fn of(log: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Failed> {
    let doing = || "unable to read log/user";
    let (file, stat) = match trust::open_regular(log, c"user", OFlags::RDONLY, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.while_doing(doing)?,
    };
    trust::check_owner(&stat).map_err(io::Error::from).while_doing(doing)?;
    let text = trust::read_at_most(&file, ACCOUNT_MAX).while_doing(doing)?;
    let account = text.trim_ascii();
    if account.is_empty() {
        return Err(Failed::without_cause("log/user is empty"));
    }
    Ok(Some(account.to_vec()))
}

/// Becomes this account, for good.
///
/// # Errors
///
/// There is no such account, or the rights to become it are missing. Then the caller must end.
pub fn become_it(account: &[u8]) -> Result<(), Failed> {
    let ids = look_up(account)?;
    privilege::become_user(ids.uid, &ids.gids, 0)
}

/// The ids of the user who writes the log; `None` without the file `user`: our own.
///
/// # Errors
///
/// See [`of`]; or there is no such account.
pub(crate) fn ids_of(log: BorrowedFd<'_>) -> Result<Option<Ids>, Failed> {
    of(log)?.map(|account| look_up(&account)).transpose()
}

fn look_up(account: &[u8]) -> Result<Ids, Failed> {
    find(account).map_err(|refused| {
        Failed::without_cause([b"log/user: ", account, b": ", refused.to_string().as_bytes()].concat())
    })
}

fn find(account: &[u8]) -> Result<Ids, Refused> {
    let read = |path: &CStr| match read_database(path) {
        Ok(text) => Some(text),
        // Without the file every name is unknown.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    };
    passwd::find(account, || read(c"/etc/passwd"), || read(c"/etc/group"))
}

fn read_database(path: &CStr) -> io::Result<Vec<u8>> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    trust::read_at_most(&file, DATABASE_MAX)
}

/// The same for the directory of a log that is open already.
///
/// # Errors
///
/// See [`of`].
pub(crate) fn key(log: &impl AsFd) -> Result<Vec<u8>, Failed> {
    Ok(of(log.as_fd())?.unwrap_or_default())
}
