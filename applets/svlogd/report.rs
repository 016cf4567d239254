//! Messages about a log directory: `svlogd: CLASS: WHAT: DIRECTORY: CAUSE`. Everything in svlogd that deals with a
//! directory reports through here.

use std::io;
use std::time::Duration;

use svcore::error::reason;
use svcore::say;

/// How long svlogd waits after a `pausing` message before it tries again. Source: svlogd(8).
pub(crate) const PAUSE: Duration = Duration::from_secs(3);

/// What could not be done, and why.
pub(crate) type Failed = (&'static str, io::Error);

/// Writes messages about one log directory to standard error.
pub(crate) struct Report {
    /// The directory as typed.
    directory: Vec<u8>,
    /// Whether `info` messages are written (`-v`).
    verbose: bool,
}

impl Report {
    /// Messages about `directory`, which is named as typed.
    pub(crate) fn new(directory: &[u8], verbose: bool) -> Self {
        Report { directory: directory.to_vec(), verbose }
    }

    /// The directory as typed.
    pub(crate) fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// Something about the directory went wrong, and svlogd goes on.
    pub(crate) fn warning(&self, what: &str, cause: Option<&io::Error>) {
        self.write("warning", what, None, cause);
    }

    /// Something about a file in the directory went wrong, and svlogd goes on.
    pub(crate) fn file_warning(&self, what: &str, file: &str, cause: Option<&io::Error>) {
        self.write("warning", what, Some(file), cause);
    }

    /// Something could not be done and is tried again after [`PAUSE`].
    pub(crate) fn pausing(&self, what: &str, cause: &io::Error) {
        self.write("pausing", what, None, Some(cause));
    }

    /// What is done with the directory; only with `-v`.
    pub(crate) fn info(&self, what: &str) {
        if self.verbose {
            self.write("info", what, None, None);
        }
    }

    /// What is done with a file in the directory; only with `-v`.
    pub(crate) fn file_info(&self, what: &str, file: &str) {
        if self.verbose {
            self.write("info", what, Some(file), None);
        }
    }

    /// A line of `config` cannot be used.
    pub(crate) fn config_warning(&self, number: usize, what: &str) {
        let place = format!("/config:{number}: ");
        say::err_line(&[b"svlogd: warning: ", &self.directory, place.as_bytes(), what.as_bytes()]);
    }

    fn write(&self, class: &str, what: &str, file: Option<&str>, cause: Option<&io::Error>) {
        let mut line =
            [b"svlogd: ", class.as_bytes(), b": ", what.as_bytes(), b": ", &self.directory].concat();
        if let Some(file) = file {
            line.push(b'/');
            line.extend_from_slice(file.as_bytes());
        }
        if let Some(cause) = cause {
            line.extend_from_slice(b": ");
            line.extend_from_slice(reason(cause).as_bytes());
        }
        say::err_line(&[&line]);
    }
}
