//! Writing without waiting, to descriptors that are shared with other processes.
//!
//! O_NONBLOCK belongs to the open file, which children and others share, so it must not be set there. For a pipe and a
//! socket the system call takes a flag; a terminal, and a pipe on an old kernel, is opened once more for us alone.

use std::ffi::CStr;
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};

use nix::libc;

/// The same pipe or terminal, opened once more so that writes to it do not wait. `None` if it cannot be opened, or need
/// not be, since writes to it never wait for a reader.
#[must_use]
pub fn own(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let is_pipe = kind(fd)? == FileType::Fifo;
    if !is_pipe && !rustix::termios::isatty(fd) {
        return None;
    }
    // Without allocation: the message may be that there is no memory.
    let mut path = [0; 32];
    write!(path.as_mut_slice(), "{}/{}", here::DIRECTORY, fd.as_raw_fd()).ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Writes as much as can be written without waiting, and returns how many bytes that were.
///
/// # Errors
///
/// `WouldBlock` if that is nothing, or that of write(2).
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    match kind(fd) {
        Some(FileType::Socket) => send(fd, bytes),
        Some(FileType::Fifo) => match here::write_now(fd, bytes) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => to_own(fd, bytes),
            done => done,
        },
        Some(FileType::CharacterDevice) if rustix::termios::isatty(fd) => to_own(fd, bytes),
        _ => Ok(rustix::io::write(fd, bytes)?),
    }
}

fn kind(fd: BorrowedFd<'_>) -> Option<FileType> {
    rustix::fs::fstat(fd).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

fn to_own(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if let Some(own) = own(fd) {
        return Ok(rustix::io::write(&own, bytes)?);
    }
    // There is no /proc, or we may not open it. So poll tells whether there is room; only another process that fills it at
    // the same moment can make us wait.
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = poll(&mut fds, Some(&now));
    if fds.iter().any(|fd| fd.revents().is_empty()) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::write(fd, bytes)?)
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are ours for as long as the call takes.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(target_os = "linux")]
mod here {
    use std::io::{self, IoSlice};

    use rustix::fd::BorrowedFd;
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};

    pub(super) const DIRECTORY: &str = "/proc/self/fd";

    pub(super) fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        // The offset -1 stands for the current position.
        pwritev2(fd, &[IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT).map_err(|errno| match errno {
            Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM => io::ErrorKind::Unsupported.into(),
            errno => errno.into(),
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::io;

    use rustix::fd::BorrowedFd;

    pub(super) const DIRECTORY: &str = "/dev/fd";

    pub(super) fn write_now(_fd: BorrowedFd<'_>, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Has the kernel begin to write a file to the disk, without waiting. Where that is not possible, nothing happens.
pub fn begin_to_sync(file: BorrowedFd<'_>) {
    // Linux begins to write before it drops pages; those that are not written yet stay.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

#[cfg(test)]
mod tests {
    use rustix::fd::AsFd;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_takes_what_fits_and_then_fails() {
        let (read, full) = io::pipe().unwrap();
        for _ in 0..2 {
            while write(full.as_fd(), &[b'x'; 4096]).is_ok() {}
        }
        let refused = write(full.as_fd(), b"x").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let own = own(full.as_fd()).unwrap();
        assert_eq!(rustix::io::write(&own, b"x"), Err(rustix::io::Errno::AGAIN));
        // The open file that others share is not changed.
        assert!(!rustix::fs::fcntl_getfl(&full).unwrap().contains(OFlags::NONBLOCK));
        drop((read, own));
        assert!(write(full.as_fd(), b"x").is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe));
    }
}
