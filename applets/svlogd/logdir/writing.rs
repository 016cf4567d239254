//! Writes pending bytes to `current`; when the disk is full, makes room or drops lines.

use rustix::io::Errno;
use svcore::Failed;
use svcore::tai;

use super::super::limit::Limit;
use super::super::options::WhenFull;
use super::LogDir;
use super::rotation::RotationStep;

/// Lines that were dropped because the disk is full, and that the log does not mention yet.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    /// The warning of `-LL` was written.
    is_reported: bool,
}

/// How far a write came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Something was done, and more may be.
    Some,
    /// Nothing is pending any more.
    All,
    /// There is no room for the rest of a line whose beginning is written.
    Stuck,
}

impl LogDir {
    /// Writes once to `current`, or finds that it has to be rotated or created first.
    pub(super) fn write(&mut self) -> Result<Written, Failed> {
        if self.pending.is_empty() {
            return Ok(Written::All);
        }
        let stamp = self.stamp();
        let Some(current) = &mut self.current else {
            self.step = Some(RotationStep::Create);
            return Ok(Written::Some);
        };
        let limit = Limit { size: self.config.size, line_max: self.settings.line_max as u64 };
        let room = limit.room(current.length, self.pending.unwritten());
        if room.fits.is_empty() {
            self.step = Some(RotationStep::AwaitProcessor);
            return Ok(Written::Some);
        }
        if self.dropped.lines > 0 && !self.pending.is_in_line() {
            let stamp = stamp.text(tai::now);
            let stamp = stamp.as_ref().map_or(b"".as_slice(), |stamp| stamp);
            let line = format!("svlogd: lost {} lines: out of disk space\n", self.dropped.lines);
            let line = [stamp, line.as_bytes()].concat();
            // If there is no room for it, there is none for what follows either: that is dropped and counted too.
            if rustix::io::write(&current.file, &line) == Ok(line.len()) {
                current.length = current.length.saturating_add(line.len() as u64);
                self.dropped = Dropped::default();
                return Ok(Written::Some);
            }
        }
        match rustix::io::write(&current.file, room.fits) {
            Ok(written) => {
                if room.then_full && written == room.fits.len() {
                    self.step = Some(RotationStep::AwaitProcessor);
                }
                current.length = current.length.saturating_add(written as u64);
                self.pending.wrote(written);
            }
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::DQUOT) if self.make_room() => {}
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) if self.settings.when_full != WhenFull::Wait => {
                self.drop_lines(errno);
                if self.pending.is_in_line() {
                    return Ok(Written::Stuck);
                }
            }
            Err(errno) => return Err(Failed::because(errno, "unable to write to current")),
        }
        Ok(Written::Some)
    }

    /// Drops what is pending and counts its lines.
    fn drop_lines(&mut self, errno: Errno) {
        self.dropped.lines = self.dropped.lines.saturating_add(self.pending.drop_lines());
        if self.settings.when_full == WhenFull::DropAndWarn && !self.dropped.is_reported {
            self.report.warning("losing lines", Some(&errno.into()));
            self.dropped.is_reported = true;
        }
    }
}
