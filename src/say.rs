//! Lines for a person, one `write` each: `PROG: warning: …`.
//!
//! Never panics and never fails: where nobody can hear, nothing is said.

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
    line.push(b'\n');
    line
}
