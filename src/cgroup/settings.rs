//! The files in `cgroup/` of a service directory, each of which is written to the file of its name in the control group.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};

use super::{Cgroup, place, room, write};
use crate::error::Failed;
use crate::sort::sort;
use crate::sys::listing;
use crate::trust;

/// How many files are read.
const FILES_MAX: usize = 64;
/// The longest one, in bytes.
const LEN_MAX: usize = 4096;

impl Cgroup {
    /// Writes each setting in the directory `settings` of the service directory. Passes what cannot be done to `failed`.
    pub(crate) fn apply(&self, settings: BorrowedFd<'_>, mut failed: impl FnMut(&Failed)) {
        let mut names: Vec<CString> = Vec::new();
        let is_complete = listing::each_name(settings, |name| {
            // Hidden files are no settings, and editors leave some.
            if !name.starts_with(b".") {
                names.extend(CString::new(name));
            }
            names.len() <= FILES_MAX
        });
        if !is_complete {
            failed(&Failed::without_cause(format!("cgroup: more than {FILES_MAX} files, some are ignored")));
            names.truncate(FILES_MAX);
        }
        sort(&mut names);
        let mut enabled: Vec<(Vec<u8>, bool)> = Vec::new();
        for name in &names {
            let about = |what: &str| [b"cgroup/", name.to_bytes(), what.as_bytes()].concat();
            let controller = match place::controller_of(name.to_bytes()) {
                Ok(controller) => controller,
                Err(why) => {
                    failed(&Failed::without_cause(about(&format!(": {why}, ignored"))));
                    continue;
                }
            };
            if let Some(controller) = controller
                && !enabled.iter().any(|(other, _)| other == controller)
            {
                let is_there = self.enable(controller);
                if let Err(error) = &is_there {
                    let controller = String::from_utf8_lossy(controller);
                    let what = about(&format!(
                        ": the supervisor's control group has no controller {controller} to pass on"
                    ));
                    failed(&Failed::because(again(error), what));
                }
                enabled.push((controller.to_vec(), is_there.is_ok()));
            }
            let lacks =
                |controller: &[u8]| enabled.iter().any(|(other, there)| other == controller && !there);
            if controller.is_some_and(lacks) {
                continue;
            }
            match trust::open_content(settings, name).and_then(|file| trust::read_at_most(&file, LEN_MAX)) {
                Ok(text) => {
                    // The kernel takes the settings of one device at a time.
                    for line in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
                        if !line.is_empty()
                            && let Err(error) = self.set(name, line)
                        {
                            failed(&Failed::because(error, about(": unable to set that")));
                        }
                    }
                }
                // It was removed a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed(&Failed::because(error, about(": unable to read, ignored"))),
            }
        }
    }

    fn set(&self, name: &CString, line: &[u8]) -> io::Result<()> {
        write(self.own.dir.as_fd(), name, line)
    }

    /// Has the group above pass a controller on.
    fn enable(&self, controller: &[u8]) -> io::Result<()> {
        // With processes in it the kernel would refuse most controllers, and accept others, such as `pids`, at the price that
        // no process can enter the groups below.
        room::make(self.base.as_fd())?;
        write(self.base.as_fd(), c"cgroup.subtree_control", &[b"+", controller].concat())
    }
}

/// Opens the directory with the settings of a service.
///
/// # Errors
///
/// That of open(2).
pub(crate) fn open_settings(service: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(service, c"cgroup", flags, Mode::empty())?)
}

/// The same error once more.
fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
