//! Lines for a person, one `write` each: `PROG: warning: …`.
//!
//! Never panics and never fails: where nobody can hear, nothing is said.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::BorrowedFd;

use crate::error::reason;

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

/// Writes to standard error.
pub fn err(parts: &[&[u8]]) {
    write_all(rustix::stdio::stderr(), parts);
}

/// Writes to standard output.
pub fn out(parts: &[&[u8]]) {
    write_all(rustix::stdio::stdout(), parts);
}

/// Says `PREFIX…what: reason`, or without the reason when there is none, on standard error.
pub fn trouble(prefix: &[&[u8]], what: &[u8], cause: Option<&io::Error>) {
    err(&[&line_of(prefix, what, cause)]);
}

/// The same for a supervisor, which waits for nobody: where standard error takes nothing now, nothing is said.
pub fn supervisor(prefix: &[&[u8]], what: &[u8], cause: Option<&io::Error>) {
    let mut fds = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
    crate::event::wait(&mut fds, Some(Duration::ZERO));
    // A pipe that is ready takes at least a page at once, which is more than any of our lines.
    if fds.iter().all(|fd| fd.revents().contains(PollFlags::OUT)) {
        trouble(prefix, what, cause);
    }
}

fn line_of(prefix: &[&[u8]], what: &[u8], cause: Option<&io::Error>) -> Vec<u8> {
    let mut line = prefix.concat();
    line.extend_from_slice(what);
    if let Some(cause) = cause {
        line.extend_from_slice(b": ");
        line.extend_from_slice(reason(cause).as_bytes());
    }
    line.push(b'\n');
    line
}
