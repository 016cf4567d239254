//! Lines for a person, one `write` each: `PROG: warning: …`.
//!
//! Never panics and never fails: where nobody can hear, nothing is said. What names, titles and targets of links have in
//! them that is not printable is escaped, so that nobody forges a line or tells the terminal something: see
//! [`printable`].

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::fd::BorrowedFd;

use crate::error::reason;
use crate::sys::output;

/// Writes `parts`, joined, in one call and as far as the descriptor takes them.
pub fn write_all(fd: BorrowedFd<'_>, parts: &[&[u8]]) {
    let line = parts.concat();
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
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

/// Says `PREFIX…what: reason`, or without the reason when there is none, on standard error.
pub fn trouble(prefix: &[&[u8]], what: &[u8], cause: Option<&io::Error>) {
    err(&[&line_of(prefix, what, cause)]);
}

/// Messages of a supervisor that nobody took.
static LOST: AtomicU32 = AtomicU32::new(0);

/// The same for a supervisor, which waits for nobody: what standard error does not take now is not said, and how many
/// messages that were is said with the next.
pub fn supervisor(prefix: &[&[u8]], what: &[u8], cause: Option<&io::Error>) {
    let mut line = line_of(prefix, what, cause);
    let lost = LOST.swap(0, Relaxed);
    if lost > 0 {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let told = format!(": warning: {lost} messages before this could not be written\n");
        line = [name, told.as_bytes(), &line].concat();
    }
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match output::write(rustix::stdio::stderr(), rest) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                LOST.store(lost.saturating_add(1), Relaxed);
                return;
            }
        }
    }
}

fn line_of(prefix: &[&[u8]], what: &[u8], cause: Option<&io::Error>) -> Vec<u8> {
    let mut line = prefix.concat();
    line.extend_from_slice(what);
    if let Some(cause) = cause {
        line.extend_from_slice(b": ");
        line.extend_from_slice(reason(cause).as_bytes());
    }
    let mut line = printable(&line).into_owned();
    line.push(b'\n');
    line
}

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
        let line =
            line_of(&[b"runsv a\nb: ", b"warning: "], b"unable to x", Some(&io::Error::from_raw_os_error(2)));
        assert_eq!(line, b"runsv a\\x0ab: warning: unable to x: file does not exist\n");
    }
}
