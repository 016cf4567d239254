//! How a line is printed: as text for people, as it is in the file, or as JSON. Pure but for the output at the end.

use std::io;

use svcore::listed::Listed;
use svcore::tai::{self, Tai64N};
use svcore::{say, slice};

use super::super::{json, text};
use super::stamp::Zone;

/// How lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// As they are in the file.
    Raw,
    /// An object each.
    Json,
}

/// A line to be printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'l> {
    /// Which of the names it has.
    pub(super) service: usize,
    pub(super) stamp: Option<Tai64N>,
    /// Without timestamp and newline.
    pub(super) text: &'l [u8],
    /// With timestamp.
    pub(super) raw: &'l [u8],
    pub(super) is_ended: bool,
}

/// Prints lines.
pub(super) struct Printer<'z> {
    pub(super) form: Form,
    pub(super) has_colour: bool,
    /// What is not printable is escaped.
    pub(super) escapes: bool,
    pub(super) is_utc: bool,
    pub(super) zone: Zone<'z>,
    names: Vec<Vec<u8>>,
    /// What stands before each line, by number of the service.
    prefixes: Vec<Vec<u8>>,
    /// The second that was printed last, and its text.
    second: Option<(i64, [u8; 19])>,
    /// Where a JSON object is made.
    object: String,
    out: Vec<u8>,
}

/// Lines are written when they are so many bytes together.
const TOGETHER: usize = 128 * 1024;
/// The colours of names: cyan, yellow, green, magenta, blue, and their bright forms.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];
const RESET: &[u8] = b"\x1b[0m";
const DIM: &[u8] = b"\x1b[2m";

impl<'z> Printer<'z> {
    /// Prints lines of services with these names, in this form.
    pub(super) fn new(names: &[Vec<u8>], form: Form, has_colour: bool, zone: Zone<'z>) -> Self {
        let mut printer = Printer {
            form,
            has_colour,
            escapes: false,
            is_utc: false,
            zone,
            names: Vec::new(),
            prefixes: Vec::new(),
            second: None,
            object: String::new(),
            out: Vec::with_capacity(TOGETHER.saturating_add(4096)),
        };
        printer.set_names(names);
        printer
    }

    /// From now on prints lines of services with these names, and makes room for the longest.
    pub(super) fn set_names(&mut self, names: &[Vec<u8>]) {
        self.names = names.to_vec();
        self.prefixes = match self.form {
            Form::Raw | Form::Json => Vec::new(),
            Form::Text => self.text_prefixes(names),
        };
    }

    /// `web    | `, where there is more than one service.
    fn text_prefixes(&self, names: &[Vec<u8>]) -> Vec<Vec<u8>> {
        if names.iter().all(|name| Some(name) == names.first()) {
            return names.iter().map(|_| Vec::new()).listed();
        }
        let names: Vec<String> = names.iter().map(|name| text::escaped(name)).listed();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let coloured = |(number, name): (usize, &String)| {
            let name = format!("{name:width$} | ");
            match COLOURS.get(number % COLOURS.len()).filter(|_| self.has_colour) {
                Some(colour) => format!("\x1b[{colour}m{name}\x1b[0m").into_bytes(),
                None => name.into_bytes(),
            }
        };
        names.iter().enumerate().map(coloured).listed()
    }

    /// Prints a line.
    ///
    /// # Errors
    ///
    /// That of write(2).
    pub(super) fn print(&mut self, line: &Shown<'_>) -> io::Result<()> {
        if let Some(prefix) = self.prefixes.get(line.service) {
            self.out.extend_from_slice(prefix);
        }
        match self.form {
            Form::Raw => self.out.extend_from_slice(line.raw),
            Form::Json => self.json(line),
            Form::Text => self.text(line),
        }
        if line.is_ended || self.form != Form::Raw {
            self.out.push(b'\n');
        }
        if self.out.len() >= TOGETHER { self.flush() } else { Ok(()) }
    }

    fn text(&mut self, line: &Shown<'_>) {
        if let Some(stamp) = line.stamp {
            if self.has_colour {
                self.out.extend_from_slice(DIM);
            }
            self.time(&stamp);
            if self.has_colour {
                self.out.extend_from_slice(RESET);
            }
            self.out.push(b' ');
        }
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        if !self.escapes || line.text.iter().all(is_plain) {
            self.out.extend_from_slice(line.text);
        } else {
            escaped(line.text, self.has_colour, &mut self.out);
        }
    }

    /// `2026-11-20 08:20:00.123`, with a Z for UTC.
    fn time(&mut self, stamp: &Tai64N) {
        let (seconds, nanos) = tai::since_1970(stamp);
        let text = self.second(seconds);
        self.out.extend_from_slice(&text);
        let millis = nanos / 1_000_000;
        let digit = |value: u32| b'0'.wrapping_add(u8::try_from(value % 10).unwrap_or(0));
        self.out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis)]);
        if self.is_utc {
            self.out.push(b'Z');
        }
    }

    /// A second as text. Most lines have that of the line before.
    fn second(&mut self, seconds: i64) -> [u8; 19] {
        if let Some((second, text)) = self.second
            && second == seconds
        {
            return text;
        }
        let ahead = if self.is_utc || self.form == Form::Json { 0 } else { (self.zone)(seconds) };
        let local = tai::human(&tai::stamp(seconds.saturating_add(ahead), 0), b' ');
        let text = *local.first_chunk().unwrap_or(&[b'0'; 19]);
        self.second = Some((seconds, text));
        text
    }

    fn json(&mut self, line: &Shown<'_>) {
        let time = line.stamp.map(|stamp| {
            let (seconds, nanos) = tai::since_1970(&stamp);
            let mut second = self.second(seconds);
            if let Some(blank) = second.get_mut(10) {
                *blank = b'T';
            }
            format!("{}.{nanos:09}Z", String::from_utf8_lossy(&second))
        });
        self.object.clear();
        let name = self.names.get(line.service).map_or(&b""[..], Vec::as_slice);
        json::object(&mut self.object, &mut |object| {
            if let Some(time) = &time {
                object.text("at", time);
            }
            object.bytes("name", name);
            object.text("line", &String::from_utf8_lossy(line.text));
            if std::str::from_utf8(line.text).is_err() {
                object.text("base64", &base64(line.text));
            }
        });
        self.out.extend_from_slice(self.object.as_bytes());
    }

    /// Writes what was printed so far.
    ///
    /// # Errors
    ///
    /// That of write(2).
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), rest) {
                Ok(written) => rest = slice::part(rest, written..),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => wait_for_room(),
                Err(errno) => return Err(errno.into()),
            }
        }
        self.out.clear();
        Ok(())
    }
}

/// Waits until standard output, which somebody has made non-blocking, takes more.
fn wait_for_room() {
    use rustix::event::{PollFd, PollFlags};
    let stdout = rustix::stdio::stdout();
    let mut fds = [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)];
    svcore::event::wait(&mut fds, svcore::event::Wait::Forever);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let digit = usize::try_from(number >> (18_usize.saturating_sub(place.saturating_mul(6))) & 63)
                .unwrap_or(0);
            let digit = if place <= chunk.len() { DIGITS.get(digit).copied() } else { None };
            text.push(char::from(digit.unwrap_or(b'=')));
        }
    }
    text
}

/// Escapes what a terminal does not just show. With `has_colour` what changes the colour stays, and is undone at the end.
fn escaped(text: &[u8], has_colour: bool, out: &mut Vec<u8>) {
    let mut rest = text;
    let mut is_coloured = false;
    while let Some((first, after)) = rest.split_first() {
        if let Some(length) = colour_length(rest).filter(|_| has_colour) {
            let (colour, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            out.extend_from_slice(colour);
            is_coloured = true;
            rest = after;
        } else if *first == b'\t' {
            out.push(b'\t');
            rest = after;
        } else {
            let stops = |byte: &u8| *byte == b'\t' || *byte == 0x1b;
            let end = after.iter().position(stops).map_or(rest.len(), |at| at.saturating_add(1));
            let (some, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            out.extend_from_slice(&say::printable(some));
            rest = after;
        }
    }
    if is_coloured {
        out.extend_from_slice(RESET);
    }
}

/// The length of the control sequence that text begins with, if it only changes the colour or the weight of letters.
fn colour_length(text: &[u8]) -> Option<usize> {
    let parameters = text.strip_prefix(b"\x1b[")?;
    let length = parameters.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    (parameters.get(length) == Some(&b'm')).then(|| length.saturating_add(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(
        form: Form,
        change: impl FnOnce(&mut Printer<'_>),
        names: &[&str],
        line: &[u8],
        stamp: Option<Tai64N>,
    ) -> String {
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut printer = Printer::new(&names, form, false, &|_| 3600);
        change(&mut printer);
        let shown = Shown { service: 0, stamp, text: line, raw: line, is_ended: true };
        printer.print(&shown).unwrap();
        String::from_utf8(std::mem::take(&mut printer.out)).unwrap()
    }

    #[test]
    fn people_see_local_time_and_the_name_where_there_is_more_than_one() {
        let stamp = Some(tai::stamp(1_795_161_600, 123_456_789));
        let text = |change: fn(&mut Printer<'_>), names: &[&str], line: &[u8]| {
            printed(Form::Text, change, names, line, stamp)
        };
        assert_eq!(text(|_| (), &["web"], b"x y"), "2026-11-20 09:00:00.123 x y\n");
        assert_eq!(text(|it| it.is_utc = true, &["web"], b"x"), "2026-11-20 08:00:00.123Z x\n");
        assert_eq!(text(|_| (), &["web", "worker"], b"x"), "web    | 2026-11-20 09:00:00.123 x\n");
        assert_eq!(
            text(|it| it.has_colour = true, &["web"], b"x"),
            "\x1b[2m2026-11-20 09:00:00.123\x1b[0m x\n"
        );
        assert_eq!(printed(Form::Text, |_| (), &["web"], b"x", None), "x\n");
    }

    #[test]
    fn a_line_cannot_control_the_terminal() {
        let escaped = |line: &[u8], has_colour| {
            let change = |it: &mut Printer<'_>| (it.escapes, it.has_colour) = (true, has_colour);
            printed(Form::Text, change, &["web"], line, None)
        };
        assert_eq!(escaped(b"a\x1b[2Jb\tc\r", true), "a\\x1b[2Jb\tc\\x0d\n");
        assert_eq!(escaped(b"\x1b[1;31mred\x1b[m!", true), "\x1b[1;31mred\x1b[m!\x1b[0m\n");
        assert_eq!(escaped(b"\x1b[31mred", false), "\\x1b[31mred\n");
        assert_eq!(escaped("b\u{fc}\u{202e}".as_bytes(), true), "b\u{fc}\\xe2\\x80\\xae\n");
    }

    #[test]
    fn json_loses_nothing() {
        let stamp = Some(tai::stamp(1_795_161_600, 123_456_789));
        assert_eq!(
            printed(Form::Json, |_| (), &["a\\b"], "q\"\\\t\x01\u{e4}".as_bytes(), stamp),
            "{\"at\":\"2026-11-20T08:00:00.123456789Z\",\"name\":\"a\\\\\\\\b\",\"line\":\"q\\\"\\\\\\u0009\\u0001\u{e4}\"}\n"
        );
        assert_eq!(
            printed(Form::Json, |_| (), &["s"], b"a\xff\xfe!", None),
            "{\"name\":\"s\",\"line\":\"a\u{fffd}\u{fffd}!\",\"base64\":\"Yf/+IQ==\"}\n"
        );
    }
}
