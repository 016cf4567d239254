//! Named pipes relative to a directory.

use std::ffi::CStr;
use std::io;

use rustix::fd::BorrowedFd;
use rustix::fs::Mode;

/// The mode of a new pipe.
const MODE: Mode = Mode::from_raw_mode(0o600);

/// Makes the named pipe `name` in `dir`, with mode 0600 less the umask. One that exists stays as it is.
///
/// # Errors
///
/// That of mkfifo(2), but for EEXIST.
pub(crate) fn make(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match make_new(dir, name) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
        made => made,
    }
}

/// Makes the buffer of a named pipe as small as the system allows, where it can be set.
pub(crate) fn shrink(fifo: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(fifo, 1);
    #[cfg(not(target_os = "linux"))]
    let _ = fifo;
}

#[cfg(not(target_vendor = "apple"))]
fn make_new(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::mkfifoat(dir, name, MODE)?)
}

// macOS has mkfifoat only since version 13, so the pipe is made by the path of the directory.
#[cfg(target_vendor = "apple")]
fn make_new(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let path = [rustix::fs::getpath(dir)?.as_bytes(), b"/", name.to_bytes()].concat();
    let path = std::ffi::CString::new(path)?;
    // SAFETY: the path is nul-terminated.
    match unsafe { nix::libc::mkfifo(path.as_ptr(), MODE.as_raw_mode()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
