//! The console: process 1 writes its messages there, and its programs get it as their input and output.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use svcore::event::{self, Wait};
use svcore::say::Class;
use svcore::slice;

/// The longest message with its newline, in bytes. Longer ones are cut.
const LONGEST: usize = 512;

/// Prints a message on the console, or on standard error if there is no console. It never blocks and allocates nothing.
///
/// The console is opened for each message: if it was lost and is back, it is used again.
pub(crate) fn say(parts: &[&[u8]]) {
    let mut line = [0; LONGEST];
    write(fill(&mut line, None, parts));
}

fn write(line: &[u8]) {
    match open(OFlags::WRONLY) {
        Some(console) => drop(rustix::io::write(&console, line)),
        None => write_if_ready(rustix::stdio::stderr(), line),
    }
}

/// Prints a message of a class: `warning: …`.
pub(crate) fn report(class: Class, parts: &[&[u8]]) {
    let mut line = [0; LONGEST];
    write(fill(&mut line, Some(class), parts));
}

/// A message with our name in front. Bytes that are not printable become `?`, since escapes would need memory.
fn fill<'l>(line: &'l mut [u8; LONGEST], class: Option<Class>, parts: &[&[u8]]) -> &'l [u8] {
    let mut length = 0;
    let mut add = |text: &[u8]| {
        // One place stays free for the newline.
        for (place, &byte) in line.iter_mut().take(LONGEST - 1).skip(length).zip(text) {
            *place = if is_printable(byte) { byte } else { b'?' };
            length += 1;
        }
    };
    add(b"- runit: ");
    if let Some(class) = class {
        add(class.word().as_bytes());
        add(b": ");
    }
    parts.iter().for_each(|part| add(part));
    if let Some(end) = line.get_mut(length) {
        *end = b'\n';
    }
    slice::part(line, ..=length)
}

/// Whether a byte cannot be part of a control sequence. Our own texts are ASCII.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Writes unless that would block.
fn write_if_ready(fd: BorrowedFd<'_>, line: &[u8]) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    event::wait(&mut fds, Wait::Poll);
    if fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT)) {
        let _ = rustix::io::write(fd, line);
    }
}

/// Opens the console without waiting for a carrier, and without making it our controlling terminal.
fn open(access: OFlags) -> Option<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, c"/dev/console", flags, Mode::empty()).ok()
}

/// Opens the console for a program. Programs expect that writing to it blocks.
pub(crate) fn open_for_program(access: OFlags) -> Option<OwnedFd> {
    let console = open(access)?;
    let flags = fcntl_getfl(&console).ok()?;
    fcntl_setfl(&console, flags.difference(OFlags::NONBLOCK)).ok()?;
    Some(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_control_characters() {
        let line = |parts: &[&[u8]]| fill(&mut [0; LONGEST], None, parts).to_vec();
        assert_eq!(line(&[b"enter stage: ", b"/etc/runit/1"]), b"- runit: enter stage: /etc/runit/1\n");
        assert_eq!(line(&[b"serving ", b"/a\n\x1b[2J\x9b\x7f"]), b"- runit: serving /a??[2J??\n");
        let long = line(&[&[b'x'; 2000]]);
        assert_eq!((long.len(), long.last()), (LONGEST, Some(&b'\n')));
    }
}
