//! What is known of standard output: whether it is a terminal, how wide it is, and whether colours are wanted.

use std::ffi::OsStr;

use rustix::stdio::stdout;
use rustix::termios::{isatty, tcgetwinsize};
use svcore::say::printable_text;
use svcore::{Error, Result};

use super::options::{Given, Opt};

/// Standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    /// The columns of the terminal, if it is one.
    pub(super) width: Option<usize>,
    /// Whether colours are wanted.
    pub(super) is_coloured: bool,
}

impl Screen {
    /// Standard output, with what `--color`, `NO_COLOR` and `TERM` say.
    ///
    /// # Errors
    ///
    /// The value of `--color` is none.
    pub(super) fn new(given: &Given) -> Result<Self> {
        let is_terminal = isatty(stdout());
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_usual = is_terminal && !is_set("NO_COLOR") && !is_dumb;
        let is_coloured = match given.value(Opt::Color).and_then(OsStr::to_str) {
            None if !given.has(Opt::Color) => is_usual,
            Some("auto") => is_usual,
            Some("always") => true,
            Some("never") => false,
            _ => {
                let value = given.value(Opt::Color).unwrap_or_default();
                let value = printable_text(std::os::unix::ffi::OsStrExt::as_bytes(value));
                return Err(Error::Usage(Some(format!("--color is always, never or auto, not {value}"))));
            }
        };
        let columns = || tcgetwinsize(stdout()).map(|size| usize::from(size.ws_col)).ok();
        let width = if is_terminal { columns().filter(|columns| *columns > 0) } else { None };
        Ok(Screen { width, is_coloured })
    }
}
