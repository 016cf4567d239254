//! A pipe with content and without a writer: what a program is to read from standard input.

use std::io::{self, Write};

use rustix::fd::OwnedFd;

use super::super::slice;

/// A pipe from which `content` can be read. If it has room for less, the last lines of that.
///
/// # Errors
///
/// That of pipe(2) or write(2).
pub(crate) fn with_content(content: &[u8]) -> io::Result<OwnedFd> {
    let mut content = content;
    loop {
        let (read, mut write) = io::pipe()?;
        rustix::io::ioctl_fionbio(&write, true)?;
        let written = if content.is_empty() { 0 } else { write.write(content)? };
        if written == content.len() {
            return Ok(read.into());
        }
        // A user who has many pipes gets small ones.
        let last = slice::part(content, content.len().saturating_sub(written)..);
        let line =
            last.iter().position(|&byte| byte == b'\n').map_or(last.len(), |end| end.saturating_add(1));
        content = slice::part(last, line..);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn read(content: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        File::from(with_content(content).unwrap()).read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn what_fits_is_read_and_then_the_end() {
        assert_eq!(read(b""), b"");
        assert_eq!(read(b"one\ntwo\n"), b"one\ntwo\n");
        let long: Vec<u8> = (0..100_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let end = read(&long);
        assert!(end.len() > 1000 && long.ends_with(&end) && long[long.len() - end.len() - 1] == b'\n');
    }
}
