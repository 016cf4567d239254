//! What a service is called.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::BorrowedFd;

use crate::error::Error;
use crate::role::Role;
use crate::say;
use crate::state::Home;

/// The names of a service.
#[derive(Debug)]
pub(super) struct Label {
    /// What messages begin with: the program and the service as typed.
    pub(super) prefix: Vec<u8>,
    /// The path of its directory, from where the supervisor is.
    pub(super) path: CString,
}

impl Label {
    /// Tells the user of something that the service survives.
    pub(super) fn warn(&self, what: &[u8], cause: Option<&io::Error>) {
        say::supervisor(&[&self.prefix, b"warning: "], what, cause);
    }

    /// The same of an error that says itself what was being done.
    pub(super) fn warn_of(&self, error: &Error) {
        self.warn(error.to_string().as_bytes(), None);
    }

    /// Tells the user what keeps a program from running.
    pub(super) fn fatal(&self, what: &[u8], cause: Option<&io::Error>) {
        say::supervisor(&[&self.prefix, b"fatal: "], what, cause);
    }

    /// What the state of the service, or of its log service, is found by; `dir` is the directory of that one.
    pub(super) fn home<'a>(&'a self, dir: BorrowedFd<'a>, role: Role) -> Home<'a> {
        Home { dir, path: Path::new(self.name()), role, prefix: &self.prefix }
    }

    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.path.to_bytes())
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }
}
