//! Old logs on their way through a processor: `@….u` goes in, `@….t` comes out and becomes `@….s`.
//!
//! A processor is a child process: a shell's, or our own compression. It runs beside svlogd, which never waits for it.
//! Old logs wait for it in a queue while input is read and written, until so many wait that the next rotation would
//! remove one that is not processed.
//!
//! A shell's processor gets the oldest old log first, since it may keep a state from one to the next. The built-in
//! compression keeps none and gets the newest first: if it is slower than the input, the newest one stays longest, so
//! that its work is not wasted.
//!
//! The unprocessed log stays until the result is complete, on the disk and under its name. So if compression is
//! interrupted, even by the end of the machine, it is done again after the next start: nothing is lost or kept twice.

mod job;

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::sort;
use svcore::sys::signal;
use svcore::{Context, Signal, trust};

use super::completion::is_complete;
use super::config::Processor;
use super::old_log::{Kind, OldLog};
use super::report::{PAUSE, Report};
use job::FinishStep;
use svcore::label::Label;

/// The old log that is being processed.
#[derive(Debug, Clone, Copy)]
struct Job {
    old: OldLog,
    state: JobState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobState {
    /// Its processor is to be started.
    ToStart,
    /// Its processor runs.
    Running(Pid),
    /// Its processor succeeded; this is the next step to take.
    Finishing(FinishStep),
}

/// The old logs of a directory that are to be processed.
#[derive(Debug, Default)]
pub(crate) struct Processing {
    /// Oldest first.
    queue: Vec<OldLog>,
    job: Option<Job>,
    /// Something failed and is tried again at this moment.
    retry_at: Option<Moment>,
    /// An old log was processed since the last call of [`take_finished`](Self::take_finished).
    has_finished: bool,
    /// svlogd is about to exit: a processor that fails is not started again.
    pub(crate) is_ending: bool,
}

impl Processing {
    /// Queues an old log that is newer than all others.
    pub(crate) fn add(&mut self, old: OldLog) {
        self.queue.push(old);
    }

    /// Queues the unprocessed ones among the `old` logs of a directory. If the result of one is there already, only the
    /// unprocessed file is removed.
    ///
    /// A shell's processor gets none that is incomplete: stock svlogd never processes those.
    pub(crate) fn resume(
        &mut self,
        old: &[OldLog],
        directory: &OwnedFd,
        report: &Report,
        processor: &Processor,
    ) {
        let is_complete = |old: &OldLog| {
            let stat = statat(directory, old.name().as_str(), AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| is_complete(&stat))
        };
        let in_job = self.job.map(|job| job.old.label);
        let waits = |old: &&OldLog| old.kind == Kind::Unprocessed && Some(old.label) != in_job;
        for unprocessed in old.iter().filter(waits) {
            if old.contains(&unprocessed.with_kind(Kind::Saved)) {
                remove(directory, report, unprocessed);
            } else if !self.queue.contains(unprocessed)
                && (matches!(processor, Processor::Gzip(_)) || is_complete(unprocessed))
            {
                self.queue.push(*unprocessed);
            }
        }
        sort::sort(&mut self.queue);
        for output in old.iter().filter(|old| old.kind == Kind::Output && !self.is_processing(&old.label)) {
            remove(directory, report, output);
        }
    }

    /// Whether an old log is being processed or waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some() || !self.queue.is_empty()
    }

    /// How many old logs are not processed yet.
    pub(crate) fn unprocessed(&self) -> u64 {
        let in_job = self.job.is_some_and(|job| !matches!(job.state, JobState::Finishing(_)));
        u64::try_from(self.queue.len()).unwrap_or(u64::MAX).saturating_add(in_job.into())
    }

    /// Whether an old log was processed since the last call.
    pub(crate) const fn take_finished(&mut self) -> bool {
        std::mem::replace(&mut self.has_finished, false)
    }

    /// Whether the old log with this label is being processed.
    pub(crate) fn is_processing(&self, label: &Label) -> bool {
        self.job.is_some_and(|job| job.old.label == *label)
    }

    /// Cancels the processing of an old log that is about to be removed. Returns whether it was not processed yet.
    pub(crate) fn cancel(&mut self, label: &Label) -> bool {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.label != *label);
        if !self.is_processing(label) {
            return self.queue.len() < before;
        }
        let unprocessed = self.job.is_some_and(|job| !matches!(job.state, JobState::Finishing(_)));
        self.kill_processor();
        self.retry_at = None;
        unprocessed
    }

    /// Kills the processor and empties the queue; the old logs stay unprocessed.
    pub(crate) fn abandon(&mut self) {
        self.kill_processor();
        self.queue.clear();
        self.retry_at = None;
    }

    /// When to call [`advance`](Self::advance) at the latest.
    pub(crate) const fn deadline(&self) -> Option<Moment> {
        self.retry_at
    }

    /// Takes the next old log to be processed from the queue.
    fn take_next(&mut self, processor: Option<&Processor>) -> Option<OldLog> {
        match processor {
            Some(Processor::Gzip(_)) => self.queue.pop(),
            Some(Processor::Shell(_)) if !self.queue.is_empty() => Some(self.queue.remove(0)),
            Some(Processor::Shell(_)) => None,
            // `config` has no processor any more: the old logs stay as they are.
            None => {
                self.queue.clear();
                None
            }
        }
    }

    /// Does everything that can be done now.
    pub(crate) fn advance(
        &mut self,
        now: Moment,
        directory: &OwnedFd,
        report: &Report,
        processor: Option<&Processor>,
    ) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        loop {
            let Some(Job { old, state }) = self.job else {
                let Some(old) = self.take_next(processor) else { return };
                self.job = Some(Job { old, state: JobState::ToStart });
                continue;
            };
            let result = match (state, processor) {
                (JobState::Running(_), _) => return,
                (JobState::ToStart, None) => Ok(None),
                (JobState::ToStart, Some(processor)) => {
                    report.file_info("processing", &old.name());
                    match job::open_input(directory, &old) {
                        // Somebody has removed the old log.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                        // It is not a file that svlogd can have made.
                        Err(error) if trust::refusal(&error).is_some() => {
                            report.file_warning("not processed", &old.name(), Some(&error));
                            Ok(None)
                        }
                        input => input
                            .while_doing(|| "unable to open input for processor")
                            .and_then(|input| job::start(directory, &old, &input, processor))
                            .map(|pid| Some(JobState::Running(pid))),
                    }
                }
                (JobState::Finishing(step), _) => {
                    let next = job::finish(step, directory, report, &old, processor);
                    if matches!(next, Ok(None)) {
                        report.file_info("processed", &old.with_kind(Kind::Saved).name());
                        self.has_finished = true;
                    }
                    next.map(|step| step.map(JobState::Finishing))
                }
            };
            match result {
                Ok(state) => self.job = state.map(|state| Job { old, state }),
                Err(failed) => {
                    report.pausing(&failed);
                    self.retry_at = Some(now.saturating_add(PAUSE));
                    // Somebody has removed the result: it is made again.
                    if state == JobState::Finishing(FinishStep::Rename) && failed.is_any_of(&[Errno::NOENT]) {
                        self.job = Some(Job { old, state: JobState::ToStart });
                    }
                    return;
                }
            }
        }
    }

    /// A child has ended. Returns whether it was the processor.
    pub(crate) fn child_ended(&mut self, pid: Pid, succeeded: bool, now: Moment, report: &Report) -> bool {
        let Some(Job { old, state: JobState::Running(processor) }) = self.job else { return false };
        if processor != pid {
            return false;
        }
        if succeeded {
            self.job = Some(Job { old, state: JobState::Finishing(FinishStep::Rename) });
        } else if self.is_ending {
            report.warning("processor failed", None);
            self.job = None;
        } else {
            report.warning("processor failed, restart", None);
            self.job = Some(Job { old, state: JobState::ToStart });
            self.retry_at = Some(now.saturating_add(PAUSE));
        }
        true
    }

    fn kill_processor(&mut self) {
        if let Some(Job { state: JobState::Running(pid), .. }) = self.job.take() {
            // Between fork and setsid it does not lead a group yet. Either signal may find that it has ended.
            let _ = signal::send_to_group(pid, Signal::KILL);
            let _ = signal::send(pid, Signal::KILL);
        }
    }
}

/// Removes a file of an old log.
fn remove(directory: &OwnedFd, report: &Report, old: &OldLog) {
    if unlinkat(directory, old.name().as_str(), AtFlags::empty()).is_err() {
        report.file_warning("unable to unlink", &old.name(), None);
    }
}
