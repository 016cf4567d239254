//! Lists, renames and removes old logs. Which ones is decided in `old_log`.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, renameat, unlinkat};
use rustix::io::Errno;
use svcore::tai::{self, Tai64N};
use svcore::{Context, Failed};

use super::super::config::Processor;
use super::super::old_log::{self, Kind, OldLog};
use super::super::report::Report;
use super::LogDir;
use svcore::label::Label;

/// The old logs in a directory.
pub(super) fn list(directory: &OwnedFd) -> io::Result<Vec<OldLog>> {
    let mut old = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        // A directory with such a name is no log. It cannot be unlinked, and must not keep others from being removed.
        if entry.file_type() != FileType::Directory {
            old.extend(OldLog::from_name(entry.file_name().to_bytes()));
        }
    }
    Ok(old)
}

/// The latest stamp of an old log in a directory. First, old logs whose label is no time that a clock can show are
/// renamed.
pub(super) fn newest_stamp(directory: &OwnedFd, report: &Report) -> Result<Option<Tai64N>, Failed> {
    let doing = || "unable to read directory";
    let mut old = list(directory).while_doing(doing)?;
    if rename_implausible(directory, report, &old) {
        old = list(directory).while_doing(doing)?;
    }
    Ok(old_log::newest_stamp(&old))
}

/// Gives a plausible label to old logs that have none. Returns whether there were any.
fn rename_implausible(directory: &OwnedFd, report: &Report, old: &[OldLog]) -> bool {
    let new_labels = old_log::new_labels(old, tai::now());
    for (label, new_label) in &new_labels {
        for part in old.iter().filter(|old| old.label == *label) {
            let renamed = OldLog { label: *new_label, kind: part.kind };
            match renameat(directory, part.name().as_str(), directory, renamed.name().as_str()) {
                Ok(()) => report.file_warning("renamed, its name is no time", &part.name(), None),
                Err(errno) => {
                    report.file_warning("unable to rename", &part.name(), Some(&errno.into()));
                    return true;
                }
            }
        }
    }
    !new_labels.is_empty()
}

impl LogDir {
    /// Removes unfinished output of processors, and the oldest logs if there are too many.
    pub(super) fn prune(&mut self) -> io::Result<()> {
        let old = list(&self.directory.fd)?;
        let is_abandoned =
            |old: &&OldLog| old.kind == Kind::Output && !self.processing.is_processing(&old.label);
        for output in old.iter().filter(is_abandoned) {
            if let Err(errno) = unlinkat(&self.directory.fd, output.name().as_str(), AtFlags::empty()) {
                let what = "unable to unlink processor leftover";
                self.report.file_warning(what, &output.name(), Some(&errno.into()));
            }
        }
        for label in old_log::surplus(&old, self.config.keep, self.last_stamp) {
            match self.remove(&label, &old) {
                // Another user's file in a sticky directory, or a directory: skipped.
                Ok(()) | Err(Errno::PERM | Errno::ISDIR) => {}
                // No newer log is removed while this one stays. The next rotation tries again.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// The disk is full: removes the oldest log, if `config` (`N`) allows to keep fewer. Returns whether it did.
    pub(super) fn make_room(&mut self) -> bool {
        let keep = self.config.keep_when_full;
        if keep >= self.config.keep {
            return false;
        }
        let Ok(old) = list(&self.directory.fd) else { return false };
        let labels = old_log::removal_order(&old, self.last_stamp);
        let Some(oldest) = labels.first().filter(|_| labels.len() as u64 > keep) else { return false };
        if let Some(part) = old.iter().find(|old| old.label == *oldest && old.kind != Kind::Output) {
            self.report.file_warning("out of disk space, delete", &part.name(), None);
        }
        self.remove(oldest, &old).is_ok()
    }

    /// Removes all files of an old log. If it is being processed, the processor is killed.
    fn remove(&mut self, label: &Label, old: &[OldLog]) -> Result<(), Errno> {
        if self.processing.cancel(label) && matches!(self.config.processor, Some(Processor::Shell(_))) {
            let unprocessed = OldLog { label: *label, kind: Kind::Unprocessed };
            self.report.file_warning("delete unprocessed", &unprocessed.name(), None);
        }
        for part in old.iter().filter(|old| old.label == *label) {
            self.report.file_info("delete", &part.name());
            match unlinkat(&self.directory.fd, part.name().as_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    self.report.warning("unable to unlink oldest logfile", Some(&errno.into()));
                    return Err(errno);
                }
            }
        }
        Ok(())
    }
}
