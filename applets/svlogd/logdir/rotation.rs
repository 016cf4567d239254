//! The steps of a rotation: `current` becomes an old log, and a new `current` begins.

use std::time::Duration;

use rustix::fs::fsync;
use rustix::io::Errno;
use svcore::moment::Moment;
use svcore::sys::clock;
use svcore::{Context, Failed};

use super::super::completion::mark_complete;
use super::super::config::Processor;
use super::super::old_log::{self, Kind};
use super::{LogDir, current};

/// How long a rotation waits for a processor that finishes no old log.
const PROCESSOR_PATIENCE: Duration = Duration::from_secs(30);

/// The next step of a rotation that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RotationStep {
    /// Wait until the next old log removes none that is unprocessed.
    AwaitProcessor,
    /// Write `current` to the disk.
    Sync,
    /// Mark `current` as complete.
    MarkComplete,
    /// Give `current` the name of an old log.
    Rename,
    /// Create a new `current`.
    Create,
    /// Remove old logs that are too many.
    Prune,
}

/// Whether rotations wait for the processor if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// They do, and none is waiting now.
    Idle,
    /// One waits, until this moment at the latest.
    Until(Moment),
    /// It finished nothing for too long: none waits until it finishes something.
    Exhausted,
}

impl Patience {
    /// When the wait ends.
    pub(super) const fn deadline(self) -> Option<Moment> {
        match self {
            Patience::Until(moment) => Some(moment),
            Patience::Idle | Patience::Exhausted => None,
        }
    }
}

impl LogDir {
    /// Performs one step of a rotation. Returns the next one, or `None` after the last.
    pub(super) fn perform(&mut self, step: RotationStep) -> Result<Option<RotationStep>, Failed> {
        Ok(Some(match step {
            RotationStep::AwaitProcessor if self.awaits_processor() => RotationStep::AwaitProcessor,
            RotationStep::AwaitProcessor => RotationStep::Sync,
            RotationStep::Sync => {
                match self.opened_current().and_then(|current| fsync(&current.file)) {
                    // INVAL and ROFS: some file systems cannot sync.
                    Err(Errno::INVAL | Errno::ROFS) => {}
                    synced => synced.while_doing(|| "unable to fsync current logfile")?,
                }
                RotationStep::MarkComplete
            }
            RotationStep::MarkComplete => {
                self.opened_current()
                    .and_then(|current| mark_complete(&current.file))
                    .while_doing(|| "unable to set mode of current")?;
                RotationStep::Rename
            }
            RotationStep::Rename => {
                let has_processor = self.config.processor.is_some();
                let kind = if has_processor { Kind::Unprocessed } else { Kind::Saved };
                let length = self.length();
                let old = current::make_old_log(&self.directory.fd, kind, &mut self.last_stamp)
                    .while_doing(|| "unable to rename current")?;
                self.report.file_info("rename", &format!("current {} {length}", old.name()));
                if has_processor {
                    self.processing.add(old);
                }
                self.current = None;
                RotationStep::Create
            }
            RotationStep::Create => {
                let current = current::create_next(&self.directory.fd, &self.report)
                    .while_doing(|| "unable to create new current")?;
                self.current = Some(current);
                self.report.file_info("new", "current");
                RotationStep::Prune
            }
            RotationStep::Prune => {
                self.prune().while_doing(|| "unable to open directory, want remove old logfile")?;
                self.advance_processing(clock::monotonic());
                return Ok(None);
            }
        }))
    }

    fn opened_current(&self) -> Result<&current::Current, Errno> {
        self.current.as_ref().ok_or(Errno::NOENT)
    }

    /// Whether the rotation waits for the processor, because it would remove an old log that is not processed yet.
    ///
    /// A processor that hangs or fails does not stop the log: once it has finished nothing for [`PROCESSOR_PATIENCE`],
    /// no rotation waits until it finishes something.
    fn awaits_processor(&mut self) -> bool {
        if self.processing.take_finished() {
            self.patience = Patience::Idle;
        }
        let is_behind = matches!(self.config.processor, Some(Processor::Shell(_)))
            && old_log::is_processor_behind(self.processing.unprocessed(), self.config.keep);
        if self.patience == Patience::Exhausted {
            return false;
        }
        if !is_behind || self.is_hurried {
            self.patience = Patience::Idle;
            return false;
        }
        let now = clock::monotonic();
        let until = self.patience.deadline().unwrap_or(now.saturating_add(PROCESSOR_PATIENCE));
        if now < until {
            self.patience = Patience::Until(until);
            return true;
        }
        self.report.warning("processor takes too long, logging goes on without", None);
        self.patience = Patience::Exhausted;
        false
    }
}
