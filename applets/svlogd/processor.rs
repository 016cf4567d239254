//! Old logs on their way through a processor: `@….u` goes in, `@….t` comes out and becomes `@….s`.
//!
//! A processor is a process, the shell's or our own compression; it runs beside us, and nothing here waits for it. With a
//! shell's, the next rotation does: there is one at a time for a directory, as there always was. Compression holds up
//! nobody: old logs wait for it in a queue, and input is read and written meanwhile.
//!
//! Until the result is complete, on the disk and under its name, the unprocessed log stays. So compression that was
//! interrupted, by the end of the machine even, is begun again at the next start, and nothing is lost or there twice.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, chmodat, openat, renameat, unlinkat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal, kill_process};
use svcore::files;
use svcore::sys::spawn::{Failure, Program, Stream, spawn};

use super::config::Processor;
use super::logdir::{PAUSE, tell};
use super::rotate::Old;

/// Descriptors that are passed on lie above all numbers that they get.
const ABOVE: i32 = 10;

/// What comes after a processor that did well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Rename,
    Mark,
    Remove,
    State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be started.
    Waiting,
    Running(Pid),
    Finishing(Step),
}

/// The old logs of a directory that are to be processed.
#[derive(Debug, Default)]
pub(crate) struct Work {
    queue: VecDeque<Old>,
    job: Option<(Old, Stage)>,
    retry_at: Option<Duration>,
    /// A processor that fails is not started again.
    pub(crate) ending: bool,
}

impl Work {
    /// Puts an old log at the end of the queue.
    pub(crate) fn add(&mut self, old: Old) {
        self.queue.push_back(old);
    }

    /// Takes up what was left undone. Where the result is there already, only the rest is done.
    pub(crate) fn take_up(&mut self, old: &[Old], dir: &OwnedFd, name: &[u8]) {
        let mut undone: Vec<Old> = old.iter().copied().filter(|old| old.kind == b'u').collect();
        undone.sort_unstable();
        for unprocessed in undone {
            let saved = Old { kind: b's', ..unprocessed };
            if old.contains(&saved) && !self.is_at(&unprocessed) {
                remove(dir, name, &unprocessed);
            } else if !self.is_at(&unprocessed) && !self.queue.contains(&unprocessed) {
                self.add(unprocessed);
            }
        }
        for left in old.iter().filter(|old| old.kind == b't' && !self.is_at(old)) {
            remove(dir, name, left);
        }
    }

    /// Whether something is processed, or waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some() || !self.queue.is_empty()
    }

    /// Whether this is the log that is worked on.
    pub(crate) fn is_at(&self, old: &Old) -> bool {
        self.job.is_some_and(|(job, _)| job.label == old.label)
    }

    /// It is to be removed, and so not to be processed.
    pub(crate) fn forget(&mut self, old: &Old) {
        self.queue.retain(|queued| queued.label != old.label);
    }

    /// When it is worth trying again.
    pub(crate) const fn deadline(&self) -> Option<Duration> {
        self.retry_at
    }

    /// Does what can be done now.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        dir: &OwnedFd,
        name: &[u8],
        processor: Option<&Processor>,
        verbose: bool,
    ) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        loop {
            let Some((old, stage)) = self.job else {
                let Some(next) = self.queue.pop_front() else { return };
                self.job = Some((next, Stage::Waiting));
                continue;
            };
            let path = |kind: u8| [name, b"/", Old { kind, ..old }.name().as_bytes()].concat();
            let next = match (stage, processor) {
                (Stage::Running(_), _) => return,
                // `config` has none any more: what waits is left as it is.
                (Stage::Waiting, None) => {
                    self.job = None;
                    continue;
                }
                (Stage::Waiting, Some(processor)) => {
                    if verbose {
                        tell("info", "processing", &path(b'u'), None);
                    }
                    start(dir, &old, processor).map(Stage::Running)
                }
                (Stage::Finishing(step), _) => match finish(step, dir, name, &old, processor) {
                    Ok(Some(step)) => Ok(Stage::Finishing(step)),
                    Ok(None) => {
                        if verbose {
                            tell("info", "processed", &path(b's'), None);
                        }
                        self.job = None;
                        continue;
                    }
                    Err(failed) => Err(failed),
                },
            };
            match next {
                Ok(stage) => self.job = Some((old, stage)),
                // Somebody removed it.
                Err((_, error)) if stage == Stage::Waiting && error.kind() == io::ErrorKind::NotFound => {
                    self.job = None;
                }
                Err((what, error)) => {
                    tell("pausing", what, name, Some(&error));
                    self.retry_at = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    /// Takes the end of a process; says whether it was ours.
    pub(crate) fn ended(&mut self, pid: Pid, well: bool, now: Duration, dir: &[u8]) -> bool {
        let Some((old, Stage::Running(running))) = self.job else { return false };
        if running != pid {
            return false;
        }
        if well {
            self.job = Some((old, Stage::Finishing(Step::Rename)));
        } else if self.ending {
            tell("warning", "processor failed", dir, None);
            self.job = None;
        } else {
            tell("warning", "processor failed, restart", dir, None);
            self.job = Some((old, Stage::Waiting));
            self.retry_at = Some(now + PAUSE);
        }
        true
    }

    /// Ends what runs; the log stays unprocessed.
    pub(crate) fn kill(&mut self) {
        if let Some((_, Stage::Running(pid))) = self.job {
            // It may have just ended.
            let _ = kill_process(pid, Signal::KILL);
        }
        self.queue.clear();
        self.job = None;
    }
}

/// Opens a file so that it can be passed on.
fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(fcntl_dupfd_cloexec(&fd, ABOVE)?)
}

const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::TRUNC);

fn start(dir: &OwnedFd, old: &Old, processor: &Processor) -> Result<Pid, (&'static str, io::Error)> {
    let failed = |what: &'static str| move |error: io::Error| (what, error);
    let files = dir.as_fd();
    let input =
        open(files, &old.name(), OFlags::RDONLY).map_err(failed("unable to open input for processor"))?;
    let output = open(files, &Old { kind: b't', ..*old }.name(), NEW)
        .map_err(failed("unable to open output for processor"))?;
    match processor {
        Processor::Shell(command) => {
            let state = open(files, "state", OFlags::RDONLY | OFlags::CREATE)
                .map_err(failed("unable to open state for processor"))?;
            let new_state =
                open(files, "newstate", NEW).map_err(failed("unable to open newstate for processor"))?;
            let command = CString::new(command.as_slice()).unwrap_or_default();
            spawn(&Program {
                files: &[c"/bin/sh"],
                argv: &[c"sh", c"-c", &command],
                directory: Some(files),
                stdin: Stream::Is(input.as_fd()),
                stdout: Stream::Is(output.as_fd()),
                others: &[(4, state.as_fd()), (5, new_state.as_fd())],
                ..Program::default()
            })
            .map_err(|failure| match failure {
                Failure::Fork(error) => ("unable to fork for processor", error),
                Failure::Descriptors(error) => ("unable to move filedescriptor for processor", error),
                Failure::Directory(error) => ("unable to change directory, want processor", error),
                Failure::Exec(error) => ("unable to run processor", error),
            })
        }
        Processor::Gzip(level) => {
            super::gzip::start(input, output, *level).map_err(failed("unable to fork for processor"))
        }
    }
}

/// Does one step after the processor, and gives the next.
fn finish(
    step: Step,
    dir: &OwnedFd,
    name: &[u8],
    old: &Old,
    processor: Option<&Processor>,
) -> Result<Option<Step>, (&'static str, io::Error)> {
    let saved = Old { kind: b's', ..*old }.name();
    Ok(match step {
        Step::Rename => {
            let output = Old { kind: b't', ..*old }.name();
            renameat(dir, output.as_str(), dir, saved.as_str())
                .map_err(|errno| ("unable to rename processed", errno.into()))?;
            Some(Step::Mark)
        }
        Step::Mark => {
            chmodat(dir, saved.as_str(), Mode::from_raw_mode(0o744), AtFlags::empty())
                .map_err(|errno| ("unable to set mode of processed", errno.into()))?;
            Some(Step::Remove)
        }
        Step::Remove => {
            remove(dir, name, old);
            matches!(processor, Some(Processor::Shell(_))).then_some(Step::State)
        }
        Step::State => {
            if files::look(dir.as_fd(), c"newstate").is_ok_and(|stat| stat.is_some()) {
                renameat(dir, c"newstate", dir, c"state")
                    .map_err(|errno| ("unable to rename state", errno.into()))?;
            }
            None
        }
    })
}

fn remove(dir: &OwnedFd, name: &[u8], old: &Old) {
    if unlinkat(dir, old.name().as_str(), AtFlags::empty()).is_err() {
        tell("warning", "unable to unlink", &[name, b"/", old.name().as_bytes()].concat(), None);
    }
}
