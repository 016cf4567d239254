//! What is done for one old log: its processor is started, and once that has succeeded the result gets its name.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, renameat, statat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Pid;
use svcore::sys::spawn::{self, Program, Stream, spawn};
use svcore::{Context, Failed, trust};

use super::super::completion::mark_complete;
use super::super::config::Processor;
use super::super::gzip;
use super::super::old_log::{Kind, OldLog};
use super::super::report::Report;
use super::remove;

/// Files for the processor are opened with descriptors from this number on, so that none is closed or replaced when they
/// become its descriptors 0, 1, 4 and 5.
const DESCRIPTOR_MIN: i32 = 10;

/// Mode of new files.
const NEW: Mode = Mode::from_raw_mode(0o644);

/// A step after a processor that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinishStep {
    /// Give its output the name of a saved log.
    Rename,
    /// Mark that as complete.
    MarkComplete,
    /// Remove the unprocessed log.
    Remove,
    /// Make `newstate` the `state` for the next old log.
    RenameState,
}

/// Opens an old log for its processor.
pub(super) fn open_input(directory: &OwnedFd, old: &OldLog) -> io::Result<OwnedFd> {
    open(directory.as_fd(), &old.name(), OFlags::empty())
}

/// Starts the processor of an old log.
pub(super) fn start(
    directory: &OwnedFd,
    old: &OldLog,
    input: &OwnedFd,
    processor: &Processor,
) -> Result<Pid, Failed> {
    let directory = directory.as_fd();
    let output = create(directory, &old.with_kind(Kind::Output).name())
        .while_doing(|| "unable to open output for processor")?;
    match processor {
        Processor::Shell(command) => {
            let state = open(directory, "state", OFlags::CREATE)
                .while_doing(|| "unable to open state for processor")?;
            let new_state =
                create(directory, "newstate").while_doing(|| "unable to open newstate for processor")?;
            spawn(&Program {
                files: &[c"/bin/sh"],
                argv: &[c"sh", c"-c", command],
                directory: Some(directory),
                stdin: Stream::Is(input.as_fd()),
                stdout: Stream::Is(output.as_fd()),
                others: &[(4, state.as_fd()), (5, new_state.as_fd())],
                // So that all of its processes can be killed as a group.
                new_session: true,
                ..Program::default()
            })
            .map_err(|not_started| {
                let doing = match not_started.step {
                    spawn::Step::Fork | spawn::Step::ControlGroup => "unable to fork for processor",
                    spawn::Step::Descriptors => "unable to move filedescriptor for processor",
                    spawn::Step::Directory => "unable to change directory, want processor",
                    spawn::Step::Exec => "unable to run processor",
                };
                Failed::because(not_started.cause, doing)
            })
        }
        Processor::Gzip(level) => {
            gzip::start(input.as_fd(), output.as_fd(), *level).while_doing(|| "unable to fork for processor")
        }
    }
}

/// Performs one step after the processor. Returns the next one, or `None` after the last.
pub(super) fn finish(
    step: FinishStep,
    directory: &OwnedFd,
    report: &Report,
    old: &OldLog,
    processor: Option<&Processor>,
) -> Result<Option<FinishStep>, Failed> {
    let saved = old.with_kind(Kind::Saved).name();
    Ok(match step {
        FinishStep::Rename => {
            let output = old.with_kind(Kind::Output).name();
            renameat(directory, output.as_str(), directory, saved.as_str())
                .while_doing(|| "unable to rename processed")?;
            Some(FinishStep::MarkComplete)
        }
        FinishStep::MarkComplete => {
            let marked = CString::new(saved)
                .map_err(io::Error::from)
                .and_then(|saved| {
                    trust::open_regular(directory.as_fd(), &saved, OFlags::RDONLY, Mode::empty())
                })
                .and_then(|(file, _)| Ok(mark_complete(&file)?));
            match marked {
                // Somebody has removed the file or put another in its place, which is not ours to mark.
                Err(error) if trust::refusal(&error).is_some() || error.kind() == io::ErrorKind::NotFound => {
                }
                marked => marked.while_doing(|| "unable to set mode of processed")?,
            }
            Some(FinishStep::Remove)
        }
        FinishStep::Remove => {
            remove(directory, report, old);
            matches!(processor, Some(Processor::Shell(_))).then_some(FinishStep::RenameState)
        }
        FinishStep::RenameState => {
            if statat(directory, c"newstate", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                renameat(directory, c"newstate", directory, c"state")
                    .while_doing(|| "unable to rename state")?;
            }
            None
        }
    })
}

/// Opens a file for reading, for a processor.
fn open(directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let (file, _) = trust::open_regular(directory, &name, OFlags::RDONLY | flags, NEW)?;
    for_processor(&file)
}

/// Creates a file for a processor to write to, in place of any other.
fn create(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    for_processor(&trust::create_new(directory, &name, NEW)?)
}

/// The same open file with a descriptor from [`DESCRIPTOR_MIN`] on.
fn for_processor(file: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(file, DESCRIPTOR_MIN)?)
}
