//! The least that a machine needs, where nobody made stages: file systems of the kernel, and the services.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, readlinkat, statat};
use rustix::mount::MountFlags;
use rustix::process::{Pid, test_kill_process};
use svcore::say::Class;
use svcore::sys::spawn::{Program, Search, Stream};
use svcore::{exec, files, own_file, scan};

use super::console::{self, report};
use super::stages::Event;

/// What stage 2 is then: our own runsvinit.
#[derive(Debug)]
pub(super) struct Least {
    /// Our own executable, under each name to try.
    own_file: Vec<CString>,
    pub(super) dir: CString,
}

/// Whether we are process 1 of a machine and not of a container. To be asked before anything is started.
pub(super) fn is_machine() -> bool {
    /// The number that the first of all PID namespaces has in every kernel.
    const FIRST: &[u8] = b"pid:[4026531836]";
    match readlinkat(CWD, c"/proc/self/ns/pid", Vec::new()) {
        Ok(namespace) => namespace.to_bytes() == FIRST,
        // Without /proc: there process 2 is a part of the kernel, and here there is none yet.
        Err(_) => Pid::from_raw(2).is_some_and(|second| test_kill_process(second).is_ok()),
    }
}

impl Least {
    /// Mounts what is missing, on a machine, and finds out what is to be served.
    pub(super) fn new(machine: bool) -> Self {
        if machine {
            mount_all();
        }
        let dir = CString::new(scan::usual_directory().into_vec()).unwrap_or_default();
        Least { own_file: own_file::to_execute(), dir }
    }

    /// Starts the services.
    pub(super) fn start(&self, console: Option<&OwnedFd>) -> Event {
        let to_console = || console.map_or(Stream::Inherit, |console| Stream::Is(console.as_fd()));
        // Without allocation: process 1 has sealed its allocator.
        let mut files = [c""; 2];
        for (file, own) in files.iter_mut().zip(&self.own_file) {
            *file = own;
        }
        super::begin_program(&Program {
            files: &files,
            search: Search(exec::path_rule),
            argv: &[c"runsvinit", c"-w", c"9", &self.dir],
            stdin: to_console(),
            stdout: to_console(),
            stderr: to_console(),
            new_session: true,
            ..Program::default()
        })
    }
}

/// Mounts what is missing, and gives the console that may come with it to us.
fn mount_all() {
    const PUBLIC: Mode = Mode::from_raw_mode(0o755);
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let system: [(&CStr, &CStr, MountFlags, &CStr); 4] = [
        (c"/proc", c"proc", safe, c""),
        (c"/sys", c"sysfs", safe, c""),
        (c"/dev", c"devtmpfs", MountFlags::NOSUID, c"mode=0755"),
        (c"/run", c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755"),
    ];
    for (path, kind, flags, data) in system {
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

/// Whether a directory is on another device than the root.
fn is_mounted(path: &CStr) -> bool {
    let device =
        |path: &CStr| statat(CWD, path, AtFlags::empty()).map(|stat| files::identity(&stat).device).ok();
    device(path).is_some_and(|there| Some(there) != device(c"/"))
}
