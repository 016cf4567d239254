//! The pipe of `notification-fd`.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use crate::slice;

/// Without a newline in so many bytes, nothing more is read from the descriptor.
const BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    /// How many bytes may still be read.
    left: usize,
    /// The host knows it.
    pub(super) is_known: bool,
    /// The end for the process, until it has it, and its number there.
    pub(super) write: Option<(i32, OwnedFd)>,
}

impl Pipe {
    pub(super) fn new(number: i32) -> io::Result<Self> {
        let (read, write) = io::pipe()?;
        let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
        fcntl_setfl(&read, OFlags::NONBLOCK)?;
        Ok(Pipe { read, left: BYTES_MAX, is_known: false, write: Some((number, write)) })
    }

    /// Reads some bytes. Returns whether there was a newline, which ends everything; or `None` if nothing will come any
    /// more.
    pub(super) fn read(&mut self) -> Option<bool> {
        let mut buffer = [0; 256];
        match rustix::io::read(&self.read, &mut buffer) {
            Ok(0) => None,
            Ok(length) => {
                self.left = self.left.saturating_sub(length);
                let has_newline = slice::part(&buffer, ..length).contains(&b'\n');
                if has_newline || self.left > 0 { Some(has_newline) } else { None }
            }
            Err(Errno::AGAIN | Errno::INTR) => Some(false),
            Err(_) => None,
        }
    }
}
