//! The built-in fallback for a machine without stage files: mounts the file systems of the kernel, and serves the usual
//! service directory with `runsvinit`.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, statat};
use rustix::mount::MountFlags;
use svcore::say::Class;
use svcore::{files, own_file, serving};

use super::console::{self, report};
use super::program::{self, Input};
use super::stages::Event;

/// How long runsvinit has to end after TERM. Its own stop takes one second less, with the option below.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// runsvinit's `-w`, in seconds.
const STOP_SECONDS: &CStr = c"9";

/// The fallback that runs as stage 2.
#[derive(Debug)]
pub(crate) struct Fallback {
    /// Our own executable, which is runsvinit too, under each name to try.
    executables: Vec<CString>,
    directory: CString,
}

impl Fallback {
    /// Prepares the fallback: outside a container it mounts what is not mounted.
    pub(crate) fn new(in_container: bool) -> Self {
        if !in_container {
            mount_all();
        }
        let directory = CString::new(serving::usual_directory().into_vec()).unwrap_or_default();
        if !is_there(&directory) {
            let name = directory.to_bytes();
            report(Class::Warning, &[b"unable to stat ", name, b": file does not exist; waiting for it"]);
        }
        Fallback { executables: own_file::to_execute(), directory }
    }

    /// The service directory.
    pub(crate) fn directory(&self) -> &CStr {
        &self.directory
    }

    /// Starts runsvinit. Where its directory is missing it would end at once, so that is waited for.
    pub(crate) fn start(&self) -> Event {
        if !is_there(&self.directory) {
            return Event::NoProcess;
        }
        // Process 1 allocates nothing any more; an empty name is a file that does not exist.
        let mut files = [c""; 2];
        for (file, executable) in files.iter_mut().zip(&self.executables) {
            *file = executable;
        }
        let argv = [c"runsvinit", c"-w", STOP_SECONDS, &self.directory];
        program::start_with(&files, &argv, Input::WriteOnlyConsole)
    }
}

fn is_there(directory: &CStr) -> bool {
    !matches!(files::look(CWD, directory), Ok(None))
}

/// Mounts what is not mounted, and makes the console, which may have come with `/dev`, our standard streams.
fn mount_all() {
    const PUBLIC: Mode = Mode::from_raw_mode(0o755);
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let file_systems: [(&CStr, &CStr, MountFlags, &CStr); 4] = [
        (c"/proc", c"proc", safe, c""),
        (c"/sys", c"sysfs", safe, c""),
        (c"/dev", c"devtmpfs", MountFlags::NOSUID, c"mode=0755"),
        (c"/run", c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755"),
    ];
    for (path, kind, flags, data) in file_systems {
        let _ = mkdirat(CWD, path, PUBLIC);
        if is_mounted(path) {
            continue;
        }
        if let Err(errno) = rustix::mount::mount(kind, path, kind, flags, data) {
            let why = svcore::error::reason_of(errno.raw_os_error());
            report(Class::Warning, &[b"unable to mount ", path.to_bytes(), b": ", why.as_bytes()]);
        }
    }
    if let Some(console) = console::open_for_program(OFlags::RDWR) {
        let _ = rustix::stdio::dup2_stdin(&console);
        let _ = rustix::stdio::dup2_stdout(&console);
        let _ = rustix::stdio::dup2_stderr(&console);
    }
}

/// Whether a file system is mounted on a directory: its device is not that of the root directory.
fn is_mounted(path: &CStr) -> bool {
    let device =
        |path: &CStr| statat(CWD, path, AtFlags::empty()).map(|stat| files::identity(&stat).device).ok();
    device(path).is_some_and(|there| Some(there) != device(c"/"))
}
