//! Named pipes relative to a directory.

use std::ffi::CStr;
use std::io;

use rustix::fd::BorrowedFd;

/// Makes the named pipe `name` in `dir` with mode 0600 before the umask. One that exists is left as it is.
///
/// # Errors
///
/// That of mkfifo(2), but for EEXIST.
pub fn make(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match make_new(dir, name) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
        made => made,
    }
}

/// Lets a named pipe take no more memory than it has to, where that can be said.
pub fn shrink(fifo: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(fifo, 1);
    #[cfg(not(target_os = "linux"))]
    let _ = fifo;
}

#[cfg(not(target_vendor = "apple"))]
fn make_new(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    Ok(nix::unistd::mkfifoat(dir, name, mode)?)
}

// There is no mkfifoat in the systems that we support, so the directory's path is asked for.
#[cfg(target_vendor = "apple")]
fn make_new(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = rustix::fs::getpath(dir)?;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()))
        .join(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    Ok(nix::unistd::mkfifo(&path, mode)?)
}
