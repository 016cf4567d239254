//! What is known of standard output: whether it is a terminal, how wide it is, and whether colours are wanted; and the line
//! on a terminal that shows what is waited for.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::stdio::stdout;
use rustix::termios::{isatty, tcgetwinsize};
use svcore::moment::Moment;
use svcore::say::{self, printable_text};
use svcore::sys::clock;
use svcore::{Error, Result};

use super::options::{Given, Opt};
use super::text;

/// From then on it is shown what is waited for.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

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

/// The line that shows what is waited for.
pub(super) struct Progress {
    screen: Screen,
    /// Since when it is waited.
    pub(super) begin: Moment,
    /// KILL is sent when the time is over.
    pub(super) kills: bool,
    is_shown: bool,
}

impl Progress {
    /// Nothing is shown yet.
    ///
    /// # Errors
    ///
    /// As for [`Screen::new`].
    pub(super) fn new(given: &Given) -> Result<Self> {
        Ok(Progress {
            screen: Screen::new(given)?,
            begin: clock::monotonic(),
            kills: given.has(Opt::WaitKill),
            is_shown: false,
        })
    }

    /// Removes the line.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            say::out(&[b"\r\x1b[K"]);
        }
    }

    /// Shows on a terminal that the service `first` and `more` others are waited for, for what, and for how long at most. Returns
    /// when that is to change.
    pub(super) fn show(
        &mut self,
        first: &[u8],
        more: usize,
        waiting: &str,
        patience: Option<Duration>,
        now: Moment,
    ) -> Option<Moment> {
        let width = self.screen.width?;
        let waited = now.since(self.begin);
        let next = self.begin.saturating_add(Duration::from_secs(waited.as_secs().saturating_add(1)));
        if waited < PROGRESS_AFTER {
            return Some(next);
        }
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let of = patience.map_or_else(String::new, |patience| format!(" of {} s", patience.as_secs()));
        let then = if self.kills { ", then KILL" } else { "" };
        let line = format!("{}{more}: {waiting}, {} s{of}{then}", text::escaped(first), waited.as_secs());
        let line: String = line.chars().take(width.saturating_sub(1)).collect();
        say::out(&[b"\r\x1b[K", line.as_bytes()]);
        self.is_shown = true;
        Some(next)
    }
}
