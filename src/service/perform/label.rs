//! What a service is called.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::BorrowedFd;

use crate::error::Failed;
use crate::role::Role;
use crate::say::{Class, Message};
use crate::state::Home;
use crate::template::Instance;

/// The names of a service.
#[derive(Debug)]
pub(super) struct Label {
    /// What messages begin with: the program, and the service as typed.
    pub(super) who: Vec<u8>,
    /// The path of its directory, from where the supervisor is.
    pub(super) path: CString,
    /// Which instance of a template it is, if it is one.
    pub(super) instance: Option<Box<Instance>>,
}

impl Label {
    /// Tells the user of something that the service survives.
    pub(super) fn warn(&self, what: &[u8], cause: Option<&io::Error>) {
        Message::warning(&self.who, what).because(cause).print_now();
    }

    /// The same about a step that failed.
    pub(super) fn warn_of(&self, failed: &Failed) {
        Message::of(Class::Warning, &self.who, failed).print_now();
    }

    /// What the state of the service, or of its log service, is found by; `dir` is the directory of that one.
    pub(super) fn home<'a>(&'a self, dir: BorrowedFd<'a>, role: Role) -> Home<'a> {
        let instance = self.instance.as_deref();
        Home { dir, path: Path::new(self.name()), instance, role, who: &self.who }
    }

    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.path.to_bytes())
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }
}
