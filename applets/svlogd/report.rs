//! Messages about a log directory: `svlogd: CLASS: WHAT: DIRECTORY: CAUSE`. Everything in svlogd that deals with a
//! directory reports through here.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use svcore::say::{Class, Message};
use svcore::{Failed, hint};

use super::options::Settings;

/// How long svlogd waits after a `pausing` message before it tries again. Source: svlogd(8).
pub(crate) const PAUSE: Duration = Duration::from_secs(3);

/// Writes messages about one log directory to standard error.
#[derive(Clone)]
pub(crate) struct Report {
    /// The directory: as typed, or the path of that of a hosted log.
    directory: Vec<u8>,
    /// Whether `info` messages are written (`-v`).
    verbose: bool,
    /// Whether other logs must not wait until standard error accepts a message.
    is_shared: bool,
}

impl Report {
    /// Messages about `directory`.
    pub(crate) const fn new(directory: Vec<u8>, settings: Settings) -> Self {
        Report { directory, verbose: settings.verbose, is_shared: settings.is_shared }
    }

    /// The same for another directory.
    pub(crate) fn about(&self, directory: Vec<u8>) -> Self {
        Report { directory, ..self.clone() }
    }

    /// Something about the directory went wrong, and svlogd goes on.
    pub(crate) fn warning(&self, what: &str, cause: Option<&io::Error>) {
        self.print(Class::Warning, what.as_bytes(), None, cause);
    }

    /// A step failed, and svlogd goes on without it.
    pub(crate) fn failure(&self, failed: &Failed) {
        self.new_failure(failed, &mut |_| true);
    }

    /// The same, if `is_new` says so of the message.
    pub(crate) fn new_failure(&self, failed: &Failed, is_new: &mut dyn FnMut(&[u8]) -> bool) {
        let what = [failed.doing(), b": ".as_slice(), &self.directory].concat();
        let message = Message::warning("svlogd", &what).because(failed.cause());
        if is_new(&message.text()) {
            self.write(&message, self.hint(failed).as_deref());
        }
    }

    /// What to do about a directory that cannot be opened.
    fn hint(&self, failed: &Failed) -> Option<String> {
        match failed.doing() {
            b"unable to open log directory" if failed.is_any_of(&[Errno::NOENT]) => {
                Some(["make it first: mkdir ", &hint::quoted(&self.directory)].concat())
            }
            b"unable to lock directory" if failed.is_any_of(&[Errno::AGAIN]) => {
                hint::of_lock(&[self.directory.as_slice(), b"/lock"].concat())
            }
            _ => None,
        }
    }

    /// Something about a file in the directory went wrong, and svlogd goes on.
    pub(crate) fn file_warning(&self, what: &str, file: &str, cause: Option<&io::Error>) {
        self.print(Class::Warning, what.as_bytes(), Some(file), cause);
    }

    /// A step failed and is tried again after [`PAUSE`].
    pub(crate) fn pausing(&self, failed: &Failed) {
        self.print(Class::Pausing, failed.doing(), None, failed.cause());
    }

    /// What is done with the directory; only with `-v`.
    pub(crate) fn info(&self, what: &str) {
        if self.verbose {
            self.print(Class::Info, what.as_bytes(), None, None);
        }
    }

    /// What is done with a file in the directory; only with `-v`.
    pub(crate) fn file_info(&self, what: &str, file: &str) {
        if self.verbose {
            self.print(Class::Info, what.as_bytes(), Some(file), None);
        }
    }

    /// A line of `config` cannot be used, or not all of it.
    pub(crate) fn config_warning(&self, number: usize, what: &str) {
        let what = [&self.directory, format!("/config:{number}: ").as_bytes(), what.as_bytes()].concat();
        self.write(&Message::warning("svlogd", &what), None);
    }

    fn print(&self, class: Class, what: &[u8], file: Option<&str>, cause: Option<&io::Error>) {
        let file = file.map(|file| [b"/", file.as_bytes()].concat()).unwrap_or_default();
        let what = [what, b": ", &self.directory, &file].concat();
        self.write(&Message::new(class, "svlogd", &what).because(cause), None);
    }

    fn write(&self, message: &Message<'_>, hint: Option<&str>) {
        if self.is_shared {
            message.print_now_with(hint);
        } else {
            message.print_with(hint);
        }
    }
}
