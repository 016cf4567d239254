//! Old logs on their way through a processor: `@….u` goes in, `@….t` comes out and becomes `@….s`.
//!
//! A processor is a process, the shell's or our own compression; it runs beside us, and nothing here waits for it. Old
//! logs wait for it in a queue, and input is read and written meanwhile, until so many wait that the next rotation would
//! be the end of one that was not processed.
//!
//! A shell's processor gets the oldest first, since it may have a memory. Our compression has none and begins with the
//! newest: when it is slower than the input, that one stays longest, so that no work is done in vain.
//!
//! Until the result is complete, on the disk and under its name, the unprocessed log stays. So compression that was
//! interrupted, by the end of the machine even, is begun again at the next start, and nothing is lost or there twice.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, renameat, statat, unlinkat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::say::Class;
use svcore::sys::signal;
use svcore::sys::spawn::{self, Program, Stream, spawn};
use svcore::{Signal, files, trust};

use super::config::Processor;
use super::logdir::{COMPLETE, PAUSE, tell};
use super::rotate::Old;

/// Descriptors that are passed on lie above all numbers that they get.
const ABOVE: i32 = 10;

/// What failed when it is the old log itself.
const INPUT: &str = "unable to open input for processor";

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
    /// Oldest first.
    queue: Vec<Old>,
    job: Option<(Old, Stage)>,
    retry_at: Option<Moment>,
    /// One was processed since this was asked for.
    done: bool,
    /// A processor that fails is not started again.
    pub(crate) ending: bool,
}

impl Work {
    /// Puts an old log, which is newer than all others, at the end of the queue.
    pub(crate) fn add(&mut self, old: Old) {
        self.queue.push(old);
    }

    /// Takes up what was left undone. Where the result is there already, only the rest is done.
    ///
    /// What was put aside unfinished has never been a shell's processor's business.
    pub(crate) fn take_up(&mut self, old: &[Old], dir: &OwnedFd, name: &[u8], processor: &Processor) {
        let is_complete = |old: &Old| {
            let stat = statat(dir, old.name().as_str(), AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| files::is_executable(&stat))
        };
        let at_work = self.job.map(|(job, _)| job.label);
        let waits = |old: &&Old| old.kind == b'u' && Some(old.label) != at_work;
        for unprocessed in old.iter().filter(waits) {
            let saved = Old { kind: b's', ..*unprocessed };
            if old.contains(&saved) {
                remove(dir, name, unprocessed);
            } else if !self.queue.contains(unprocessed)
                && (matches!(processor, Processor::Gzip(_)) || is_complete(unprocessed))
            {
                self.queue.push(*unprocessed);
            }
        }
        self.queue.sort_unstable();
        for left in old.iter().filter(|old| old.kind == b't' && !self.is_at(&old.label)) {
            remove(dir, name, left);
        }
    }

    /// Whether something is processed, or waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some() || !self.queue.is_empty()
    }

    /// How many are not processed yet.
    pub(crate) fn unprocessed(&self) -> u64 {
        let at_work = self.job.is_some_and(|(_, stage)| !matches!(stage, Stage::Finishing(_)));
        u64::try_from(self.queue.len()).unwrap_or(u64::MAX).saturating_add(at_work.into())
    }

    /// Whether one was processed since the last call.
    pub(crate) const fn take_done(&mut self) -> bool {
        std::mem::replace(&mut self.done, false)
    }

    /// Whether this is the log that is worked on.
    pub(crate) fn is_at(&self, label: &[u8; 25]) -> bool {
        self.job.is_some_and(|(job, _)| job.label == *label)
    }

    /// It is to be removed, and so not to be processed; work on it is given up. Whether it was not processed yet.
    pub(crate) fn forget(&mut self, label: &[u8; 25]) -> bool {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.label != *label);
        if !self.is_at(label) {
            return self.queue.len() < before;
        }
        let unprocessed = !matches!(self.job, Some((_, Stage::Finishing(_))));
        self.end_process();
        self.retry_at = None;
        unprocessed
    }

    /// When it is worth trying again.
    pub(crate) const fn deadline(&self) -> Option<Moment> {
        self.retry_at
    }

    /// The one to be processed next.
    fn next(&mut self, processor: Option<&Processor>) -> Option<Old> {
        match processor {
            Some(Processor::Gzip(_)) => self.queue.pop(),
            Some(Processor::Shell(_)) if !self.queue.is_empty() => Some(self.queue.remove(0)),
            Some(Processor::Shell(_)) => None,
            // `config` has none any more: what waits is left as it is.
            None => {
                self.queue.clear();
                None
            }
        }
    }

    /// Does what can be done now.
    pub(crate) fn advance(
        &mut self,
        now: Moment,
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
                let Some(next) = self.next(processor) else { return };
                self.job = Some((next, Stage::Waiting));
                continue;
            };
            let path = |kind: u8| [name, b"/", Old { kind, ..old }.name().as_bytes()].concat();
            let next = match (stage, processor) {
                (Stage::Running(_), _) => return,
                (Stage::Waiting, None) => {
                    self.job = None;
                    continue;
                }
                (Stage::Waiting, Some(processor)) => {
                    if verbose {
                        tell(Class::Info, "processing", &path(b'u'), None);
                    }
                    start(dir, &old, processor).map(Stage::Running)
                }
                (Stage::Finishing(step), _) => match finish(step, dir, name, &old, processor) {
                    Ok(Some(step)) => Ok(Stage::Finishing(step)),
                    Ok(None) => {
                        if verbose {
                            tell(Class::Info, "processed", &path(b's'), None);
                        }
                        self.done = true;
                        self.job = None;
                        continue;
                    }
                    Err(failed) => Err(failed),
                },
            };
            match next {
                Ok(stage) => self.job = Some((old, stage)),
                // Somebody removed it.
                Err((INPUT, error)) if error.kind() == io::ErrorKind::NotFound => self.job = None,
                // It is none of ours.
                Err((INPUT, error)) if trust::refusal(&error).is_some() => {
                    tell(Class::Warning, "not processed", &path(b'u'), Some(&error));
                    self.job = None;
                }
                Err((what, error)) => {
                    tell(Class::Pausing, what, name, Some(&error));
                    self.retry_at = Some(now.saturating_add(PAUSE));
                    // Somebody removed the result: it is made again.
                    if stage == Stage::Finishing(Step::Rename) && error.kind() == io::ErrorKind::NotFound {
                        self.job = Some((old, Stage::Waiting));
                    }
                    return;
                }
            }
        }
    }

    /// Takes the end of a process; says whether it was ours.
    pub(crate) fn ended(&mut self, pid: Pid, well: bool, now: Moment, dir: &[u8]) -> bool {
        let Some((old, Stage::Running(running))) = self.job else { return false };
        if running != pid {
            return false;
        }
        if well {
            self.job = Some((old, Stage::Finishing(Step::Rename)));
        } else if self.ending {
            tell(Class::Warning, "processor failed", dir, None);
            self.job = None;
        } else {
            tell(Class::Warning, "processor failed, restart", dir, None);
            self.job = Some((old, Stage::Waiting));
            self.retry_at = Some(now.saturating_add(PAUSE));
        }
        true
    }

    /// Ends what runs and forgets the rest; the logs stay unprocessed.
    pub(crate) fn give_up(&mut self) {
        self.end_process();
        self.queue.clear();
        self.retry_at = None;
    }

    fn end_process(&mut self) {
        if let Some((_, Stage::Running(pid))) = self.job.take() {
            // It leads a group, unless it has only just been made, and may have ended.
            let _ = signal::send_to_group(pid, Signal::KILL);
            let _ = signal::send(pid, Signal::KILL);
        }
    }
}

/// A descriptor that can be passed on.
fn passable(fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, ABOVE)?)
}

/// Opens a file of ours for reading.
fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let (fd, _) = trust::open_regular(dir, &name, OFlags::RDONLY | flags, NEW)?;
    passable(&fd)
}

/// Makes a file to be written, in place of any other.
fn create(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    passable(&trust::create_new(dir, &name, NEW)?)
}

/// Mode of what is made.
const NEW: Mode = Mode::from_raw_mode(0o644);

fn start(dir: &OwnedFd, old: &Old, processor: &Processor) -> Result<Pid, (&'static str, io::Error)> {
    let failed = |what: &'static str| move |error: io::Error| (what, error);
    let files = dir.as_fd();
    let input = open(files, &old.name(), OFlags::empty()).map_err(failed(INPUT))?;
    let output = create(files, &Old { kind: b't', ..*old }.name())
        .map_err(failed("unable to open output for processor"))?;
    match processor {
        Processor::Shell(command) => {
            let state =
                open(files, "state", OFlags::CREATE).map_err(failed("unable to open state for processor"))?;
            let new_state =
                create(files, "newstate").map_err(failed("unable to open newstate for processor"))?;
            let command = CString::new(command.as_slice()).unwrap_or_default();
            spawn(&Program {
                files: &[c"/bin/sh"],
                argv: &[c"sh", c"-c", &command],
                directory: Some(files),
                stdin: Stream::Is(input.as_fd()),
                stdout: Stream::Is(output.as_fd()),
                others: &[(4, state.as_fd()), (5, new_state.as_fd())],
                // So that all of it can be ended.
                new_session: true,
                ..Program::default()
            })
            .map_err(|why| {
                let what = match why.step {
                    spawn::Step::Fork => "unable to fork for processor",
                    spawn::Step::Descriptors => "unable to move filedescriptor for processor",
                    spawn::Step::Directory => "unable to change directory, want processor",
                    spawn::Step::Exec => "unable to run processor",
                };
                (what, why.cause)
            })
        }
        Processor::Gzip(level) => super::gzip::start(input.as_fd(), output.as_fd(), *level)
            .map_err(failed("unable to fork for processor")),
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
    let files = dir.as_fd();
    let saved = Old { kind: b's', ..*old }.name();
    Ok(match step {
        Step::Rename => {
            let output = Old { kind: b't', ..*old }.name();
            renameat(dir, output.as_str(), dir, saved.as_str())
                .map_err(|errno| ("unable to rename processed", errno.into()))?;
            Some(Step::Mark)
        }
        Step::Mark => {
            let marked = CString::new(saved.as_str())
                .map_err(io::Error::from)
                .and_then(|saved| trust::open_regular(files, &saved, OFlags::RDONLY, Mode::empty()))
                .and_then(|(file, _)| Ok(fchmod(&file, COMPLETE)?));
            match marked {
                // Somebody put another file there, or took it away: not ours to mark.
                Err(error) if trust::refusal(&error).is_some() || error.kind() == io::ErrorKind::NotFound => {
                }
                marked => marked.map_err(|error| ("unable to set mode of processed", error))?,
            }
            Some(Step::Remove)
        }
        Step::Remove => {
            remove(dir, name, old);
            matches!(processor, Some(Processor::Shell(_))).then_some(Step::State)
        }
        Step::State => {
            if statat(dir, c"newstate", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                renameat(dir, c"newstate", dir, c"state")
                    .map_err(|errno| ("unable to rename state", errno.into()))?;
            }
            None
        }
    })
}

fn remove(dir: &OwnedFd, name: &[u8], old: &Old) {
    if unlinkat(dir, old.name().as_str(), AtFlags::empty()).is_err() {
        tell(Class::Warning, "unable to unlink", &[name, b"/", old.name().as_bytes()].concat(), None);
    }
}
