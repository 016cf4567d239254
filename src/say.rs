//! Lines for a person, one `write` each: `PROG: warning: …`.
//!
//! Never panics and never fails: where nobody can hear, nothing is said. What names, titles and targets of links have in
//! them that is not printable is escaped, so that nobody forges a line or tells the terminal something: see
//! [`printable`].

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::fd::BorrowedFd;

use crate::error::{Failed, reason};
use crate::slice;
use crate::sys::output;
use crate::sys::spawn::NotStarted;

/// Writes `parts`, joined, in one call and as far as the descriptor takes them.
pub fn write_all(fd: BorrowedFd<'_>, parts: &[&[u8]]) {
    let line = parts.concat();
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(written @ 1..) => rest = slice::part(rest, written..),
            Err(rustix::io::Errno::INTR) => {}
            // Closed, full or broken: nowhere is left to say so.
            Ok(_) | Err(_) => return,
        }
    }
}

/// `text` with all in it that is not printable as `\xNN`, a byte each: control characters with newline and escape, those
/// that turn the direction of writing, and what is not UTF-8. All else stays as it is.
#[must_use]
pub fn printable(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut shown = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = letter.encode_utf8(&mut bytes).as_bytes();
            if is_printable(letter) { shown.extend_from_slice(bytes) } else { escape(bytes, &mut shown) }
        }
        escape(chunk.invalid(), &mut shown);
    }
    Cow::Owned(shown)
}

/// The same as text.
#[must_use]
pub fn printable_text(text: &[u8]) -> String {
    String::from_utf8_lossy(&printable(text)).into_owned()
}

/// Whether a terminal shows it where it stands, and does nothing else.
fn is_printable(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            // Those that end a line or turn the direction of writing.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(bytes: &[u8], shown: &mut Vec<u8>) {
    for byte in bytes {
        shown.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
    }
}

/// Writes a line to standard error, with what is not printable in it escaped. The newline is added.
pub fn err_line(parts: &[&[u8]]) {
    err(&[&printable(&parts.concat()), b"\n"]);
}

/// Writes text of ours, or lines that were escaped, to standard error.
pub fn err(parts: &[&[u8]]) {
    write_all(rustix::stdio::stderr(), parts);
}

/// Writes text of ours, or lines that were escaped, to standard output.
pub fn out(parts: &[&[u8]]) {
    write_all(rustix::stdio::stdout(), parts);
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The program, or what the message is about, cannot go on.
    Fatal,
    /// The program waits, and then tries again.
    Pausing,
    /// The program goes on without.
    Warning,
    /// Nothing is wrong.
    Info,
}

impl Class {
    /// How messages call it.
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
    /// The program, and which of many it speaks for: `runsv ./web`. Where it is empty the message begins with the class.
    pub who: &'a [u8],
    /// What kind of message it is.
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

    /// A message that something cannot go on.
    #[must_use]
    pub fn fatal(who: &'a (impl AsRef<[u8]> + ?Sized), what: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Class::Fatal, who, what)
    }

    /// A message that something goes on without.
    #[must_use]
    pub fn warning(who: &'a (impl AsRef<[u8]> + ?Sized), what: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Class::Warning, who, what)
    }

    /// A message about something that may be of use to know.
    #[must_use]
    pub fn info(who: &'a (impl AsRef<[u8]> + ?Sized), what: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::new(Class::Info, who, what)
    }

    /// A message about a step that failed.
    #[must_use]
    pub fn of(class: Class, who: &'a (impl AsRef<[u8]> + ?Sized), failed: &'a Failed) -> Self {
        Self::new(class, who, &failed.doing).because(failed.cause.as_ref())
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

    /// The line without its newline; what is not printable in it is not escaped yet.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut line = self.who.to_vec();
        if !line.is_empty() {
            line.extend_from_slice(b": ");
        }
        line.extend_from_slice(self.class.word().as_bytes());
        line.extend_from_slice(b": ");
        line.extend_from_slice(self.what);
        if let Some(cause) = self.cause {
            line.extend_from_slice(b": ");
            line.extend_from_slice(reason(cause).as_bytes());
        }
        line
    }

    fn line(&self) -> Vec<u8> {
        let mut line = printable(&self.text()).into_owned();
        line.push(b'\n');
        line
    }

    /// Writes it to standard error, and waits until it is taken.
    pub fn print(&self) {
        err(&[&self.line()]);
    }

    /// Writes it to standard error for a supervisor, which waits for nobody: if standard error cannot take it now, it is
    /// dropped. The number of those that were dropped is printed before the next one.
    pub fn print_now(&self) {
        let mut line = self.line();
        let dropped = DROPPED.swap(0, Relaxed);
        if dropped > 0 {
            let what = format!("{dropped} messages before this could not be written");
            line = [Message::warning(self.who, &what).line(), line].concat();
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

/// Messages of a supervisor that standard error could not take.
static DROPPED: AtomicU32 = AtomicU32::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped() {
        for (text, shown) in [
            (b"./web \\ ~".as_slice(), r"./web \ ~"),
            ("b\u{fc}ro \u{65e5}\u{672c} \u{1f600}".as_bytes(), "b\u{fc}ro \u{65e5}\u{672c} \u{1f600}"),
            (b"a\nok: run: b", r"a\x0aok: run: b"),
            (b"\x1b[2J\r\t\x7f\0", r"\x1b[2J\x0d\x09\x7f\x00"),
            ("\u{9b}2J".as_bytes(), r"\xc2\x9b2J"),
            (b"\xff\xc3", r"\xff\xc3"),
            ("\u{202e}gpj.\u{2066}".as_bytes(), r"\xe2\x80\xaegpj.\xe2\x81\xa6"),
            ("\u{2028}".as_bytes(), r"\xe2\x80\xa8"),
        ] {
            assert_eq!(printable_text(text), shown.replace("\\\\", "\\"));
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let cause = io::Error::from_raw_os_error(2);
        let line = Message::warning("runsv a\nb", "unable to x").because(&cause).line();
        assert_eq!(line, b"runsv a\\x0ab: warning: unable to x: file does not exist\n");
    }
}
