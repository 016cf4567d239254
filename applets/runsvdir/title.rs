//! The log argument: what services write to our standard error scrolls through an argument of ours, where `ps` shows it.
//!
//! Source: runsvdir(8), log.

use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use svcore::moment::Moment;
use svcore::slice;
use svcore::sys::{arguments, clock};

/// The first characters, conventionally `log: `, never change.
const FIXED: usize = 5;
/// The shortest argument that shows anything.
const SHORTEST: usize = 7;
/// How often a dot is shown, which moves old messages out.
const DOT_EVERY: Duration = Duration::from_secs(900);

/// The argument, and the pipe that standard error leads to.
pub(crate) struct Title {
    pipe: OwnedFd,
    text: &'static mut [u8],
    next_dot: Moment,
}

impl Title {
    /// Redirects standard error to the argument with this index.
    ///
    /// # Errors
    ///
    /// Why that is not possible, in the words of runsvdir(8).
    pub(crate) fn new(index: usize) -> Result<Self, &'static str> {
        let text = arguments::argument_memory(index).filter(|text| text.len() >= SHORTEST);
        let text = text.ok_or("log must have at least seven characters.")?;
        let (read, write) = std::io::pipe().map_err(|_| "unable to create pipe for log.")?;
        // Nobody is to wait: what does not fit in the pipe is dropped.
        let unblocked =
            rustix::io::ioctl_fionbio(&read, true).and_then(|()| rustix::io::ioctl_fionbio(&write, true));
        unblocked
            .and_then(|()| rustix::stdio::dup2_stderr(&write))
            .map_err(|_| "unable to set filedescriptor for log.")?;
        let mut title = Title { pipe: read.into(), text, next_dot: clock::monotonic() + DOT_EVERY };
        title.dot();
        Ok(title)
    }

    /// When the next dot is due.
    pub(crate) const fn deadline(&self) -> Moment {
        self.next_dot
    }

    /// Shows what was written, if anything, and a dot if one is due.
    pub(crate) fn advance(&mut self, now: Moment, is_written: bool) {
        if is_written {
            self.read();
        }
        if now >= self.next_dot {
            self.dot();
            self.next_dot = now + DOT_EVERY;
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = rustix::io::read(&self.pipe, &mut buffer) {
            if let Some(shown) = self.text.get_mut(FIXED..) {
                scroll(shown, slice::part(&buffer, ..length));
            }
        }
    }

    /// Shows a dot.
    fn dot(&mut self) {
        if let Some(shown) = self.text.get_mut(FIXED..) {
            scroll(shown, b".");
        }
    }
}

impl AsFd for Title {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Moves `text` to the left and puts `new`, without NULs, at its end.
fn scroll(text: &mut [u8], new: &[u8]) {
    let new: Vec<u8> = new.iter().copied().filter(|&byte| byte != 0).collect();
    let all: Vec<u8> = [&*text, &new].concat();
    let kept = slice::part(&all, all.len() - text.len()..);
    for (to, from) in text.iter_mut().zip(kept) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_text_pushes_the_old_out() {
        let mut text = *b"......";
        scroll(&mut text, b"ab\0c");
        assert_eq!(&text, b"...abc");
        scroll(&mut text, b"a long message\n");
        assert_eq!(&text, b"ssage\n");
        scroll(&mut text, b"");
        assert_eq!(&text, b"ssage\n");
    }
}
