//! The steps of a rotation, and the old logs that go.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, fchmod, fsync, renameat, statat, unlinkat};
use rustix::io::Errno;
use svcore::say::Class;
use svcore::sys::clock;
use svcore::tai::{self, Tai64N};
use svcore::trust;

use super::super::config::Processor;
use super::super::rotate::{self, Old};
use super::{COMPLETE, LogDir, OPEN, PATIENCE, Patience, Step, open_current, size, tell};

impl LogDir {
    /// Does one step of a rotation, and gives the next.
    pub(super) fn perform(&mut self, step: Step) -> Result<Option<Step>, (&'static str, io::Error)> {
        let failed = |what: &'static str| move |error: io::Error| (what, error);
        if step == Step::Wait && self.waits_for_processor() {
            return Ok(Some(Step::Wait));
        }
        let current = || self.current.as_ref().ok_or(io::ErrorKind::NotFound);
        Ok(Some(match step {
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
                let old = set_aside(&self.place.dir, kind, &mut self.last)
                    .map_err(failed("unable to rename current"))?;
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
                let (current, length) = self.new_current().map_err(failed("unable to create new current"))?;
                self.current = Some(current);
                self.length = length;
                self.since = clock::monotonic();
                self.info("new", "current");
                Step::Prune
            }
            Step::Prune => {
                self.prune().map_err(failed("unable to open directory, want remove old logfile"))?;
                self.work.advance(
                    clock::monotonic(),
                    &self.place.dir,
                    &self.name,
                    self.config.processor.as_ref(),
                    self.rules.verbose,
                );
                return Ok(None);
            }
        }))
    }

    /// Whether the rotation has to wait, for the next old log would be the end of one that is not processed yet.
    ///
    /// A processor that hangs or fails does not stop the log: after a while without any result none is waited for,
    /// until there is one again.
    fn waits_for_processor(&mut self) -> bool {
        if self.work.take_done() {
            (self.patience, self.wait_until) = (Patience::Some, None);
        }
        let behind = matches!(self.config.processor, Some(Processor::Shell(_)))
            && rotate::is_processor_behind(self.work.unprocessed(), self.config.keep);
        if !behind || self.patience == Patience::None || self.hurried {
            self.wait_until = None;
            return false;
        }
        let now = clock::monotonic();
        if now < *self.wait_until.get_or_insert(now.saturating_add(PATIENCE)) {
            return true;
        }
        tell(Class::Warning, "processor takes too long, logging goes on without", &self.name, None);
        (self.patience, self.wait_until) = (Patience::None, None);
        false
    }

    /// A new `current`. What somebody put in its place since the last one was renamed is not used, and goes.
    fn new_current(&self) -> io::Result<(OwnedFd, u64)> {
        let unusable = |error: &io::Error| {
            trust::refusal(error).is_some() || error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
        };
        match open_current(&self.place.dir, OFlags::CREATE) {
            Err(error) if unusable(&error) => {
                tell(Class::Warning, "unlink what is not a log", &self.path("current"), Some(&error));
                unlinkat(&self.place.dir, c"current", AtFlags::empty())?;
                open_current(&self.place.dir, OFlags::CREATE)
            }
            opened => opened,
        }
        .and_then(|(current, stat)| {
            fchmod(&current, OPEN)?;
            Ok((current, size(&stat)))
        })
    }

    /// Removes leftovers of processors, and the oldest of too many old logs.
    pub(super) fn prune(&mut self) -> io::Result<()> {
        let old = old_logs(&self.place.dir)?;
        for left in old.iter().filter(|old| old.kind == b't' && !self.work.is_at(&old.label)) {
            if let Err(errno) = unlinkat(&self.place.dir, left.name().as_str(), AtFlags::empty()) {
                tell(
                    Class::Warning,
                    "unable to unlink processor leftover",
                    &self.path(&left.name()),
                    Some(&errno.into()),
                );
            }
        }
        for label in rotate::surplus(&old, self.config.keep, self.last) {
            match self.remove(&label, &old) {
                // One that we may not remove, as the only one, is not ours.
                Ok(()) | Err(Errno::PERM | Errno::ISDIR) => {}
                // It goes the next time, and before all others.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Removes an old log, whatever there is of it. Work on it is given up.
    fn remove(&mut self, label: &[u8; 25], old: &[Old]) -> Result<(), Errno> {
        if self.work.forget(label) && matches!(self.config.processor, Some(Processor::Shell(_))) {
            let path = self.path(&Old { label: *label, kind: b'u' }.name());
            tell(Class::Warning, "delete unprocessed", &path, None);
        }
        for part in old.iter().filter(|old| old.label == *label) {
            self.info("delete", &part.name());
            match unlinkat(&self.place.dir, part.name().as_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    tell(Class::Warning, "unable to unlink oldest logfile", &self.name, Some(&errno.into()));
                    return Err(errno);
                }
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
        let Ok(old) = old_logs(&self.place.dir) else { return false };
        let labels = rotate::in_order(&old, self.last);
        let Some(oldest) = labels.first().filter(|_| labels.len() as u64 > least) else { return false };
        if let Some(part) = old.iter().find(|old| old.label == *oldest && old.kind != b't') {
            tell(Class::Warning, "out of disk space, delete", &self.path(&part.name()), None);
        }
        self.remove(oldest, &old).is_ok()
    }
}

/// Gives `current` the name of an old log, later than all others.
pub(super) fn set_aside(dir: &OwnedFd, kind: u8, last: &mut Option<Tai64N>) -> io::Result<Old> {
    loop {
        let (stamp, label) = rotate::label(tai::now(), *last).ok_or(Errno::OVERFLOW)?;
        *last = Some(stamp);
        let mut is_free = true;
        for kind in [b's', b'u', b't'] {
            let name = Old { label, kind }.name();
            match statat(dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => is_free = false,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if is_free {
            let old = Old { label, kind };
            renameat(dir, c"current", dir, old.name().as_str())?;
            return Ok(old);
        }
    }
}

pub(super) fn old_logs(dir: &OwnedFd) -> io::Result<Vec<Old>> {
    let mut old = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        // A directory is no log, and must not stand in the way of their removal.
        if entry.file_type() != FileType::Directory {
            old.extend(Old::from_name(entry.file_name().to_bytes()));
        }
    }
    Ok(old)
}
