//! Our own executable file: to be executed again under another name, or to be installed.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::sys::auxv;

/// The names under which our executable can be executed, in the order in which they are to be tried: the first works
/// also if the file was renamed or removed, the second also where there is no `/proc`.
#[must_use]
pub fn to_execute() -> Vec<CString> {
    let executed = auxv::executed_path().filter(|path| path.as_bytes().contains(&b'/'));
    let executed = executed.and_then(|path| std::path::absolute(path).ok());
    let executed = executed.and_then(|path| CString::new(OsString::from(path).into_vec()).ok());
    [c"/proc/self/exe".to_owned()].into_iter().chain(executed).collect()
}

/// The path of our executable, with all links followed where `/proc` shows it.
#[must_use]
pub(crate) fn path() -> Option<PathBuf> {
    let executed = || std::path::absolute(auxv::executed_path()?).ok().filter(|path| path.exists());
    std::env::current_exe().ok().or_else(executed)
}
