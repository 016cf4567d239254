//! The console: where process 1 speaks, and what its stages are given.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use svcore::event;

/// The longest line.
const LONGEST: usize = 512;

/// Says a line. The console is opened for each, so that one that was lost comes back; where there is none, it goes to
/// standard error. Nothing waits for it, and nothing is allocated.
pub(crate) fn say(parts: &[&[u8]]) {
    let mut line = [0; LONGEST];
    let mut length = 0;
    for byte in
        [b"- runit: ".as_slice()].iter().chain(parts).copied().flatten().take(LONGEST - 1).chain(b"\n")
    {
        if let Some(place) = line.get_mut(length) {
            // To escape it would need memory.
            *place = if is_printable(*byte) { *byte } else { b'?' };
            length += 1;
        }
    }
    if let Some(end) = length.checked_sub(1).and_then(|last| line.get_mut(last)) {
        *end = b'\n';
    }
    let line = line.get(..length).unwrap_or_default();
    match open(OFlags::WRONLY) {
        Some(console) => drop(rustix::io::write(&console, line)),
        None => write_if_taken(rustix::stdio::stderr(), line),
    }
}

/// Whether a byte of a message tells the console nothing but to show it. Ours are ASCII.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn write_if_taken(fd: BorrowedFd<'_>, line: &[u8]) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    event::wait(&mut fds, Some(std::time::Duration::ZERO));
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
