//! The steps of a rotation, and the old logs that go.

use std::io;

use rustix::fs::{AtFlags, Dir, fchmod, fsync, renameat, statat, unlinkat};
use rustix::io::Errno;
use svcore::sys::clock;

use super::super::config::Processor;
use super::super::rotate::{self, Old};
use super::{COMPLETE, LogDir, Step, tell};

impl LogDir {
    /// Does one step of a rotation, and gives the next.
    pub(super) fn perform(&mut self, step: Step) -> Result<Option<Step>, (&'static str, io::Error)> {
        let failed = |what: &'static str| move |error: io::Error| (what, error);
        let current = || self.current.as_ref().ok_or(io::ErrorKind::NotFound);
        Ok(Some(match step {
            // Only a shell's processor is waited for; ours takes any number of old logs after each other.
            Step::Wait
                if self.work.is_busy() && matches!(self.config.processor, Some(Processor::Shell(_))) =>
            {
                Step::Wait
            }
            Step::Wait => Step::Seal,
            Step::Seal => {
                let what = "unable to fsync current logfile";
                match fsync(current().map_err(|kind| (what, kind.into()))?) {
                    // There are places that cannot be synced.
                    Ok(()) | Err(Errno::INVAL | Errno::ROFS) => Step::Mark,
                    Err(errno) => return Err((what, errno.into())),
                }
            }
            Step::Mark => {
                let what = "unable to set mode of current";
                fchmod(current().map_err(|kind| (what, kind.into()))?, COMPLETE)
                    .map_err(|e| (what, e.into()))?;
                Step::Rename
            }
            Step::Rename => {
                let kind = if self.config.processor.is_some() { b'u' } else { b's' };
                let size = self.length;
                let old = self.rename_current(kind).map_err(failed("unable to rename current"))?;
                if self.rules.verbose {
                    let what = format!("current {} {size}", old.name());
                    self.info("rename", &what);
                }
                if self.config.processor.is_some() {
                    self.work.add(old);
                }
                self.current = None;
                self.length = 0;
                Step::Reopen
            }
            Step::Reopen => {
                self.open_current().map_err(failed("unable to create new current"))?;
                self.info("new", "current");
                Step::Prune
            }
            Step::Prune => {
                self.prune().map_err(failed("unable to open directory, want remove old logfile"))?;
                self.work.advance(
                    clock::monotonic(),
                    &self.dir,
                    &self.name,
                    self.config.processor.as_ref(),
                    self.rules.verbose,
                );
                return Ok(None);
            }
        }))
    }

    /// Gives `current` the name of an old log, one that no other has.
    pub(super) fn rename_current(&mut self, kind: u8) -> io::Result<Old> {
        loop {
            let (stamp, label) = rotate::label(clock::wall(), self.last);
            self.last = Some(stamp);
            let is_free = [b's', b'u', b't'].iter().all(|&kind| {
                let name = Old { label, kind }.name();
                statat(&self.dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_err()
            });
            if is_free {
                let old = Old { label, kind };
                renameat(&self.dir, c"current", &self.dir, old.name().as_str())?;
                return Ok(old);
            }
        }
    }

    pub(super) fn old_logs(&self) -> io::Result<Vec<Old>> {
        let mut old = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            old.extend(Old::from_name(entry?.file_name().to_bytes()));
        }
        Ok(old)
    }

    /// Removes leftovers of processors, and the oldest of too many old logs.
    pub(super) fn prune(&mut self) -> io::Result<()> {
        let old = self.old_logs()?;
        for left in old.iter().filter(|old| old.kind == b't' && !self.work.is_at(old)) {
            if let Err(errno) = unlinkat(&self.dir, left.name().as_str(), AtFlags::empty()) {
                tell(
                    "warning",
                    "unable to unlink processor leftover",
                    &self.path(&left.name()),
                    Some(&errno.into()),
                );
            }
        }
        for old in rotate::surplus(&old, self.config.keep, |old| self.work.is_at(old)) {
            self.info("delete", &old.name());
            self.work.forget(&old);
            if let Err(errno) = unlinkat(&self.dir, old.name().as_str(), AtFlags::empty()) {
                tell("warning", "unable to unlink oldest logfile", &self.name, Some(&errno.into()));
            }
        }
        Ok(())
    }

    /// The disk is full: removes the oldest log, if so many are not to be kept then.
    pub(super) fn make_room(&mut self) -> bool {
        let least = self.config.keep_when_full;
        if least >= self.config.keep {
            return false;
        }
        let Ok(old) = self.old_logs() else { return false };
        let count = old.iter().filter(|old| old.kind != b't').count() as u64;
        if count <= least {
            return false;
        }
        let oldest = old.iter().filter(|old| old.kind != b't' && !self.work.is_at(old)).min();
        let Some(oldest) = oldest else { return false };
        let path = self.path(&oldest.name());
        tell("warning", "out of disk space, delete", &path, None);
        self.work.forget(oldest);
        unlinkat(&self.dir, oldest.name().as_str(), AtFlags::empty()).is_ok()
    }
}
