//! The console: where process 1 speaks, and what its stages are given.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use svcore::event::{self, Wait};
use svcore::say::Class;
use svcore::slice;

/// The longest line.
const LONGEST: usize = 512;

/// Says a line. The console is opened for each, so that one that was lost comes back; where there is none, it goes to
/// standard error. Nothing waits for it, and nothing is allocated.
pub(crate) fn say(parts: &[&[u8]]) {
    let mut line = [0; LONGEST];
    write(fill(&mut line, None, parts));
}

fn write(line: &[u8]) {
    match open(OFlags::WRONLY) {
        Some(console) => drop(rustix::io::write(&console, line)),
        None => write_if_taken(rustix::stdio::stderr(), line),
    }
}

/// Says something of a class: `warning: …`.
pub(crate) fn report(class: Class, parts: &[&[u8]]) {
    let mut line = [0; LONGEST];
    write(fill(&mut line, Some(class), parts));
}

/// A line with our name in front; what is not printable in it becomes `?`, since to escape it would need memory.
fn fill<'l>(line: &'l mut [u8; LONGEST], class: Option<Class>, parts: &[&[u8]]) -> &'l [u8] {
    let class = class.map(|class| [class.word().as_bytes(), b": "]);
    let name: [&[u8]; 1] = [b"- runit: "];
    let bytes = name.iter().chain(class.iter().flatten()).chain(parts).copied().flatten().copied();
    let bytes = bytes.map(|byte| if is_printable(byte) { byte } else { b'?' });
    let mut length = 0;
    for (place, byte) in line.iter_mut().zip(bytes.take(LONGEST - 1).chain([b'\n'])) {
        *place = byte;
        length += 1;
    }
    slice::part(line, ..length)
}

/// Whether a byte of a message tells the console nothing but to show it. Ours are ASCII.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn write_if_taken(fd: BorrowedFd<'_>, line: &[u8]) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    event::wait(&mut fds, Wait::Poll);
    if fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT)) {
        let _ = rustix::io::write(fd, line);
    }
}

/// Opens it without waiting for a line, and without becoming its session.
fn open(how: OFlags) -> Option<OwnedFd> {
    let flags = how | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, c"/dev/console", flags, Mode::empty()).ok()
}

/// Opens it for a program, which is promised that its output waits where it has to.
pub(crate) fn open_for_program(how: OFlags) -> Option<OwnedFd> {
    let console = open(how)?;
    let flags = fcntl_getfl(&console).ok()?;
    fcntl_setfl(&console, flags.difference(OFlags::NONBLOCK)).ok()?;
    Some(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_console_nothing_but_its_text() {
        let line = |parts: &[&[u8]]| fill(&mut [0; LONGEST], None, parts).to_vec();
        assert_eq!(line(&[b"enter stage: ", b"/etc/runit/1"]), b"- runit: enter stage: /etc/runit/1\n");
        assert_eq!(line(&[b"serving ", b"/a\n\x1b[2J\x9b\x7f"]), b"- runit: serving /a??[2J??\n");
        let long = line(&[&[b'x'; 2000]]);
        assert_eq!((long.len(), long.last()), (LONGEST, Some(&b'\n')));
    }
}
