//! Messages for people, one line and one `write` each: `PROG: warning: …`.
//!
//! Nothing here panics or fails: if standard error cannot take a message, the message is dropped. Bytes that are not
//! printable are escaped ([`printable`]), so that a file name can neither forge a line nor control the terminal.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use rustix::fd::BorrowedFd;

pub use crate::printable::{printable, printable_text};

use crate::error::{Failed, reason};
use crate::sys::output;
use crate::sys::spawn::NotStarted;
use crate::{hint, slice};

/// Writes `parts`, joined to one text. What the descriptor does not take is dropped.
pub fn write_all(fd: BorrowedFd<'_>, parts: &[&[u8]]) {
    // Closed, full or broken: there is no other place for a message.
    let _ = try_write_all(fd, parts);
}

fn try_write_all(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> rustix::io::Result<()> {
    let line = parts.concat();
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(written @ 1..) => rest = slice::part(rest, written..),
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Err(rustix::io::Errno::IO),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes a line to standard error. Escapes what is not printable in it, and adds the newline.
pub fn err_line(parts: &[&[u8]]) {
    err(&[&printable(&parts.concat()), b"\n"]);
}

/// Writes text that needs no escaping, or is escaped already, to standard error.
pub fn err(parts: &[&[u8]]) {
    write_all(rustix::stdio::stderr(), parts);
}

/// The first error of [`out`] as its number; 0: none.
static OUT_ERROR: AtomicI32 = AtomicI32::new(0);

/// Writes text that needs no escaping, or is escaped already, to standard output. [`out_error`] returns whether that failed.
pub fn out(parts: &[&[u8]]) {
    if let Err(errno) = try_write_all(rustix::stdio::stdout(), parts) {
        let _ = OUT_ERROR.compare_exchange(0, errno.raw_os_error(), Relaxed, Relaxed);
    }
}

/// The first error of this process in [`out`]: something that was to be printed is lost.
#[must_use]
pub fn out_error() -> Option<io::Error> {
    let number = OUT_ERROR.load(Relaxed);
    (number != 0).then(|| io::Error::from_raw_os_error(number))
}

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something cannot go on: the program, or the service that the message is about.
    Fatal,
    /// The program waits and then tries again.
    Pausing,
    /// Something failed, and the program goes on.
    Warning,
    /// Nothing is wrong.
    Info,
}

impl Class {
    /// The word for it in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Class::Fatal => "fatal",
            Class::Pausing => "pausing",
            Class::Warning => "warning",
            Class::Info => "info",
        }
    }
}

/// A message `WHO: CLASS: WHAT: CAUSE`.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The program, and its service or directory where there are many: `runsv ./web`. If empty, the message begins with
    /// the class.
    pub who: &'a [u8],
    /// How serious it is.
    pub class: Class,
    /// What happened.
    pub what: &'a [u8],
    /// The system's reason, where it gave one.
    pub cause: Option<&'a io::Error>,
}

impl<'a> Message<'a> {
    /// A message without a cause.
    #[must_use]
    pub fn new(
        class: Class,
        who: &'a (impl AsRef<[u8]> + ?Sized),
        what: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        Message { who: who.as_ref(), class, what: what.as_ref(), cause: None }
    }

    /// A message of the class fatal.
    #[must_use]
    pub fn fatal(who: &'a (impl AsRef<[u8]> + ?Sized), what: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Class::Fatal, who, what)
    }

    /// A message of the class warning.
    #[must_use]
    pub fn warning(who: &'a (impl AsRef<[u8]> + ?Sized), what: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Class::Warning, who, what)
    }

    /// A message of the class info.
    #[must_use]
    pub fn info(who: &'a (impl AsRef<[u8]> + ?Sized), what: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Class::Info, who, what)
    }

    /// A message about a step that failed.
    #[must_use]
    pub fn of(class: Class, who: &'a (impl AsRef<[u8]> + ?Sized), failed: &'a Failed) -> Self {
        Self::new(class, who, failed.doing()).because(failed.cause())
    }

    /// A message about a program that could not be started: `no_process` if there could be no process, which is a
    /// warning, since it is tried again; otherwise `not_run`, which is fatal.
    #[must_use]
    pub fn not_started(
        who: &'a (impl AsRef<[u8]> + ?Sized),
        why: &'a NotStarted,
        no_process: &'a (impl AsRef<[u8]> + ?Sized),
        not_run: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        let message =
            if why.lacks_process() { Self::warning(who, no_process) } else { Self::fatal(who, not_run) };
        message.because(&why.cause)
    }

    /// The same message with the system's reason.
    #[must_use]
    pub fn because(self, cause: impl Into<Option<&'a io::Error>>) -> Self {
        Message { cause: cause.into(), ..self }
    }

    /// The first line without its newline, and before anything in it is escaped.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let colon: &[u8] = b": ";
        let after_who = if self.who.is_empty() { b"" } else { colon };
        let (before_reason, reason) = self.cause.map_or((b"".as_slice(), ""), |cause| (colon, reason(cause)));
        let class = self.class.word().as_bytes();
        [self.who, after_who, class, colon, self.what, before_reason, reason.as_bytes()].concat()
    }

    /// All of it, as it is printed, with a second line; see [`hint`].
    #[must_use]
    pub fn lines(&self, hint: Option<&str>) -> Vec<u8> {
        let mut lines = printable(&self.text()).into_owned();
        lines.push(b'\n');
        lines.append(&mut hint::line(hint));
        lines
    }

    /// Writes it to standard error, and waits if standard error cannot take it now.
    pub fn print(&self) {
        self.print_with(None);
    }

    /// The same with a second line.
    pub fn print_with(&self, hint: Option<&str>) {
        err(&[&self.lines(hint)]);
    }

    /// Writes it to standard error without waiting, as a supervisor must: if standard error cannot take it now, it is
    /// dropped. The next message that can be written is preceded by the number of dropped ones.
    pub fn print_now(&self) {
        self.print_now_with(None);
    }

    /// The same with a second line.
    pub fn print_now_with(&self, hint: Option<&str>) {
        let mut line = self.lines(hint);
        let dropped = DROPPED.swap(0, Relaxed);
        if dropped > 0 {
            let what = format!("{dropped} messages before this could not be written");
            line = [Message::warning(self.who, &what).lines(None), line].concat();
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match output::write(rustix::stdio::stderr(), rest) {
                Ok(written @ 1..) => rest = slice::part(rest, written..),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    DROPPED.store(dropped.saturating_add(1), Relaxed);
                    return;
                }
            }
        }
    }
}

/// The number of messages that were dropped since the last one that was written.
static DROPPED: AtomicU32 = AtomicU32::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let cause = io::Error::from_raw_os_error(2);
        let line = Message::warning("runsv a\nb", "unable to x").because(&cause).lines(None);
        assert_eq!(line, b"runsv a\\x0ab: warning: unable to x: file does not exist\n");
    }
}
