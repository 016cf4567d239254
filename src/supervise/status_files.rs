//! The files in which a supervisor publishes: each is replaced in one piece, and only where it would change.

use std::ffi::CStr;
use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Supervise;
use crate::error::{Context, Failed};
use crate::role::Role;
use crate::status::{self, Status};
use crate::tai::Tai64N;
use crate::{sys, trust};

/// The file with the moment until which a service is flapping: a TAI64N stamp.
pub const FLAPS: &CStr = c"flaps";
/// The file with what `status` has no room for; see [`facts`](crate::facts).
pub const STATE: &CStr = c"state";
/// Mode of new files that others read.
const PUBLIC: Mode = Mode::from_raw_mode(0o644);

/// The content of each file of the status; `None` where that is not known.
#[derive(Debug, Default)]
pub(super) struct StatusFiles {
    pid: Option<Option<Pid>>,
    stat: Option<Vec<u8>>,
    status: Option<[u8; status::LEN]>,
    /// What `state` says; `None`: there is no such file.
    facts: Option<Vec<u8>>,
    /// The old files that an exchange of names has put under the new names, to be written to next; a bit for each
    /// [`File`].
    spares: u8,
}

/// A file that is replaced in one piece.
#[derive(Debug, Clone, Copy)]
enum File {
    Pid,
    Stat,
    Status,
    Flaps,
    State,
}

impl File {
    const fn name(self) -> &'static CStr {
        match self {
            File::Pid => c"pid",
            File::Stat => c"stat",
            File::Status => c"status",
            File::Flaps => FLAPS,
            File::State => STATE,
        }
    }

    /// Its name while it is written.
    const fn new_name(self) -> &'static CStr {
        match self {
            File::Pid => c"pid.new",
            File::Stat => c"stat.new",
            File::Status => c"status.new",
            File::Flaps => c"flaps.new",
            File::State => c"state.new",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Supervise {
    /// Writes `pid`, `state`, `stat` and `status`, in this order and each in one piece, where their content would change.
    /// `facts` is the content of `state`, which is removed without it.
    ///
    /// # Errors
    ///
    /// The first step that failed. What was not written is written at the next call.
    pub(crate) fn publish(&mut self, status: &Status, facts: Option<&[u8]>) -> Result<(), Failed> {
        self.publish_pid(status.pid)?;
        self.publish_facts(facts);
        let text = status.text();
        let bytes = status.encode();
        let mut stat = Ok(());
        if self.status_files.stat.as_ref() != Some(&text) || self.status_files.status != Some(bytes) {
            // Its modification time is when the state changed, so it is written again although the text may be the
            // same.
            stat = self.write(File::Stat, &text);
            self.status_files.stat = stat.is_ok().then_some(text);
        }
        self.publish_bytes(bytes)?;
        stat
    }

    /// Publishes the file `status` alone, which clients read.
    ///
    /// # Errors
    ///
    /// As for [`Supervise::publish`].
    pub(crate) fn publish_record(&mut self, status: &Status) -> Result<(), Failed> {
        self.publish_bytes(status.encode())
    }

    fn publish_bytes(&mut self, bytes: [u8; status::LEN]) -> Result<(), Failed> {
        if self.status_files.status != Some(bytes) {
            self.status_files.status = None;
            self.write(File::Status, &bytes)?;
            self.status_files.status = Some(bytes);
        }
        Ok(())
    }

    /// Where the file cannot be written it is removed, so that it is never wrong; the next call tries again.
    fn publish_facts(&mut self, facts: Option<&[u8]>) {
        if self.status_files.facts.as_deref() == facts {
            return;
        }
        let written = facts.filter(|facts| self.write(File::State, facts).is_ok());
        if written.is_none() {
            self.remove_facts();
        }
        self.status_files.facts = written.map(<[u8]>::to_vec);
    }

    /// Removes `state`, also one that a supervisor left that was killed.
    pub(super) fn remove_facts(&self) {
        let _ = unlinkat(&self.dir, STATE, AtFlags::empty());
    }

    fn publish_pid(&mut self, pid: Option<Pid>) -> Result<(), Failed> {
        if self.status_files.pid == Some(pid) {
            return Ok(());
        }
        self.status_files.pid = None;
        // As in stock runit, the log service has no such file before its first start.
        let is_missing = || self.role == Role::Log && self.has_no_pid();
        if pid.is_some() || !(self.empty_pid() || is_missing()) {
            let text = pid.map(|pid| format!("{}\n", pid.as_raw_nonzero())).unwrap_or_default();
            self.write(File::Pid, text.as_bytes())?;
        }
        self.status_files.pid = Some(pid);
        Ok(())
    }

    fn has_no_pid(&self) -> bool {
        matches!(statat(&self.dir, c"pid", AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    /// Makes `pid` empty, in one step. Returns whether that worked.
    fn empty_pid(&self) -> bool {
        trust::open_regular(self.dir.as_fd(), c"pid", OFlags::WRONLY, Mode::empty())
            .is_ok_and(|(file, _)| rustix::fs::ftruncate(&file, 0).is_ok())
    }

    /// Lets clients know that the service is flapping until this moment of the wall clock. Nothing depends on it.
    pub(crate) fn publish_flapping(&mut self, until: &Tai64N) {
        let _ = self.write(File::Flaps, &until.to_bytes());
    }

    /// Writes a file in one piece: under another name first.
    fn write(&mut self, which: File, bytes: &[u8]) -> Result<(), Failed> {
        let supervise = self.role.supervise();
        let path = || format!("{supervise}/{}", which.new_name().to_string_lossy());
        let failed = |what: &'static str| {
            move |error: io::Error| Failed::because(error, format!("unable to {what} {}", path()))
        };
        let (file, length) = match self.open_new(which) {
            // On a full disk no file can be made, but the existing one has room for so few bytes.
            Err(error) if is_full(&error) => {
                return self.overwrite(which, bytes).map_err(|_| failed("open")(error));
            }
            opened => opened.map_err(failed("open"))?,
        };
        if !bytes.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, bytes, 0)) {
                Ok(written) if written == bytes.len() => {}
                Ok(_) => {
                    return Err(Failed::without_cause(format!("unable to write {}: partial write.", path())));
                }
                Err(Errno::NOSPC | Errno::DQUOT) if self.overwrite(which, bytes).is_ok() => return Ok(()),
                Err(errno) => return Err(failed("write")(errno.into())),
            }
        }
        if length > bytes.len() as u64 {
            rustix::fs::ftruncate(&file, bytes.len() as u64)
                .map_err(|errno| failed("write")(errno.into()))?;
        }
        let replaced = sys::replace::replace(self.dir.as_fd(), which.new_name(), which.name());
        let is_spare = replaced.while_doing(|| {
            let (new, name) = (which.new_name().to_string_lossy(), which.name().to_string_lossy());
            format!("unable to rename {new} to {supervise}/{name}")
        })?;
        let spares = &mut self.status_files.spares;
        *spares = *spares & !which.bit() | if is_spare { which.bit() } else { 0 };
        Ok(())
    }

    /// Writes into the file itself.
    fn overwrite(&self, which: File, bytes: &[u8]) -> io::Result<()> {
        let (file, _) = trust::open_regular(self.dir.as_fd(), which.name(), OFlags::WRONLY, Mode::empty())?;
        if rustix::io::pwrite(&file, bytes, 0)? != bytes.len() {
            return Err(Errno::NOSPC.into());
        }
        Ok(rustix::fs::ftruncate(&file, bytes.len() as u64)?)
    }

    /// Opens the file to write to: the old one that an exchange of names has put there, if it is ours, or a new one.
    /// Returns it with its length.
    fn open_new(&self, which: File) -> io::Result<(OwnedFd, u64)> {
        let name = which.new_name();
        if self.status_files.spares & which.bit() != 0
            && let Ok((file, stat)) =
                trust::open_regular(self.dir.as_fd(), name, OFlags::WRONLY, Mode::empty())
            && stat.st_uid == rustix::process::geteuid().as_raw()
        {
            return Ok((file, u64::try_from(stat.st_size).unwrap_or(0)));
        }
        Ok((trust::create_new(self.dir.as_fd(), name, PUBLIC)?, 0))
    }

    /// Removes the old files that are kept under the new names.
    pub(super) fn remove_spares(&mut self) {
        for which in [File::Pid, File::Stat, File::Status, File::Flaps, File::State] {
            if self.status_files.spares & which.bit() != 0 {
                let _ = unlinkat(&self.dir, which.new_name(), AtFlags::empty());
            }
        }
        self.status_files.spares = 0;
    }
}

/// Whether there is no room for a new file.
fn is_full(error: &io::Error) -> bool {
    [Errno::NOSPC, Errno::DQUOT].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
