//! Starting a program as a child.
//!
//! On Linux the child borrows our memory until it has executed the program ([`borrow`]): nothing of ours is copied, which
//! would be a good part of what a start costs, and a failure is known when the call returns. Elsewhere, and where an
//! emulator of another processor refuses that, the child is an ordinary fork that reports through a pipe ([`copy`]).

#[cfg(target_os = "linux")]
mod borrow;
mod child;
mod copy;
mod environment;
mod slots;

use std::ffi::CStr;
use std::io;
use std::ops::ControlFlow;
use std::ptr;
use std::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::process::{Pid, WaitOptions, waitpid};

use child::ChildTask;
use environment::PidVariable;
pub use slots::share_table;

/// What one of the child's descriptors 0 to 2 is.
#[derive(Debug, Clone, Copy, Default)]
pub enum Stream<'a> {
    /// The same as ours.
    #[default]
    Inherit,
    /// A copy of this descriptor.
    Is(BorrowedFd<'a>),
    /// Closed.
    Closed,
}

/// A program to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Program<'a> {
    /// The files to try, in this order; the first that can be executed becomes the program.
    pub files: &'a [&'a CStr],
    /// Whether the next file is tried after one could not be executed.
    pub search: Search,
    /// Its arguments, beginning with its name.
    pub argv: &'a [&'a CStr],
    /// Variables, as `NAME=VALUE`, that it gets beside ours, or in the place of those of ours that have the same name.
    pub environment: &'a [&'a CStr],
    /// The name of one more variable, which gets the number of its process as value.
    pub pid_variable: Option<&'a str>,
    /// Its working directory; `None` for ours.
    pub directory: Option<BorrowedFd<'a>>,
    /// Its descriptor 0.
    pub stdin: Stream<'a>,
    /// Its descriptor 1.
    pub stdout: Stream<'a>,
    /// Its descriptor 2.
    pub stderr: Stream<'a>,
    /// More descriptors, each with its number in the child, from 3. If there are several, their numbers here must be higher
    /// than all of those.
    pub others: &'a [(i32, BorrowedFd<'a>)],
    /// Whether it leads a new session, and with that a new process group.
    pub new_session: bool,
    /// Whether it leads a new process group in our session.
    pub new_group: bool,
    /// The file `cgroup.procs` of the control group that it belongs to, open for writing; `None`: the same group as ours.
    pub control_group: Option<BorrowedFd<'a>>,
    /// What it is to the terminal on its descriptor 0.
    pub terminal: Terminal,
    /// Whether SIGPIPE gets its default action back.
    pub default_pipe: bool,
    /// Whether another user owns the file. The owner can hold up whoever executes it, such as by a lease on it
    /// (fcntl(2)), so [`spawn`] then waits no longer than [`BOUND`]. If the execution fails later than that, the child
    /// exits with 111.
    pub bounded: bool,
}

/// How long [`spawn`] waits for the execution of another user's file; see [`Program::bounded`].
pub(crate) const BOUND: Duration = Duration::from_millis(100);

/// What a child is to the terminal on its descriptor 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Terminal {
    /// The same as we are.
    #[default]
    Inherit,
    /// Its foreground, if there is a terminal: the child gets what is typed. In any case it leads a new process group.
    Foreground,
    /// Its session leader: the terminal becomes the controlling one. Only for a child with a new session.
    Controlling,
}

/// What follows after a file could not be executed.
///
/// The function gets the error number to report so far, first ENOENT, and that of the attempt. It returns the number to
/// report: `Continue` if the next file is tried, `Break` if not. It runs in the child, which may share our memory, so it
/// may neither allocate nor lock.
#[derive(Debug, Clone, Copy)]
pub struct Search(pub fn(i32, i32) -> ControlFlow<i32, i32>);

impl Default for Search {
    /// Only the first file is tried.
    fn default() -> Self {
        Search(|_, errno| ControlFlow::Break(errno))
    }
}

/// Why a program was not started.
#[derive(Debug)]
pub struct NotStarted {
    /// The step that failed.
    pub step: Step,
    /// The system's reason.
    pub cause: io::Error,
}

/// A step of the start of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a process.
    Fork,
    /// Enter its control group.
    ControlGroup,
    /// Lay out its descriptors.
    Descriptors,
    /// Change to its directory.
    Directory,
    /// Execute one of the files.
    Exec,
}

impl NotStarted {
    /// Whether there could be no process. That may work a moment later, and says nothing about the program.
    #[must_use]
    pub fn lacks_process(&self) -> bool {
        self.step == Step::Fork
    }
}

/// How many words, with the null at the end, a command line may have that needs no memory of its own.
const ARGV_SHORT: usize = 8;

/// Starts `program`.
///
/// The child has an empty signal mask, the default action for every signal that we catch, and no descriptor of ours but
/// those named in `program`. It inherits everything else.
///
/// # Errors
///
/// [`NotStarted`]; then there is no child that would have to be waited for.
pub fn spawn(program: &Program<'_>) -> Result<Pid, NotStarted> {
    let mut short = [ptr::null(); ARGV_SHORT];
    let mut long = Vec::new();
    let argv = if program.argv.len() < ARGV_SHORT {
        // At least the last place stays null.
        for (slot, word) in short.iter_mut().zip(program.argv) {
            *slot = word.as_ptr();
        }
        short.as_slice()
    } else {
        long.extend(program.argv.iter().map(|word| word.as_ptr()).chain([ptr::null()]));
        long.as_slice()
    };
    let pid_variable = program.pid_variable.map(PidVariable::new);
    let is_ours = program.environment.is_empty() && pid_variable.is_none();
    let environment =
        if is_ours { Vec::new() } else { environment::with(program.environment, pid_variable.as_ref()) };
    let mut task = ChildTask::new(*program, argv, &environment);
    task.pid_value = pid_variable.as_ref().map(PidVariable::value);
    let at = |step: Step| move |cause: io::Error| NotStarted { step, cause };
    let filled = slots::fill(&mut task).map_err(at(Step::Descriptors))?;
    let begun = begin(&mut task);
    slots::empty(filled);
    let pid = begun.map_err(at(Step::Fork))?;
    let Some((step, errno)) = task.failed else { return Ok(pid) };
    // It has ended already, and nobody else knows of it.
    let _ = waitpid(Some(pid), WaitOptions::empty());
    Err(NotStarted { step, cause: io::Error::from_raw_os_error(errno) })
}

#[cfg(target_os = "linux")]
fn begin(task: &mut ChildTask<'_>) -> io::Result<Pid> {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// Whether children cannot borrow our memory here.
    static COPIES: AtomicBool = AtomicBool::new(false);

    // A child that borrows our memory suspends us until it has executed the program.
    if task.program.bounded || COPIES.load(Relaxed) {
        return copy::begin(task);
    }
    let begun = borrow::begin(task);
    match &begun {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
            COPIES.store(true, Relaxed);
            copy::begin(task)
        }
        // An emulator: the child silently got a copy of our memory, so it could not report a failure. This one time a
        // failure looks like a program that exits with 111.
        Ok(_) if !task.seen => {
            COPIES.store(true, Relaxed);
            begun
        }
        _ => begun,
    }
}

#[cfg(not(target_os = "linux"))]
fn begin(task: &mut ChildTask<'_>) -> io::Result<Pid> {
    copy::begin(task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::WaitStatus;

    fn ended(pid: Pid) -> WaitStatus {
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1
    }

    #[test]
    fn a_program_runs_with_its_words_in_its_directory() {
        let dir = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let program = Program {
            files: &[c"/nowhere/sh", c"/bin/sh"],
            search: Search(crate::exec::path_rule),
            argv: &[c"sh", c"-c", c"test \"$PWD\" = / && exit 7"],
            directory: Some(rustix::fd::AsFd::as_fd(&dir)),
            ..Program::default()
        };
        assert_eq!(ended(spawn(&program).unwrap()).exit_status(), Some(7));
    }

    #[test]
    fn extra_variables_take_the_place_of_ours() {
        let script = c"test \"$PATH,$SERVICE,$MY_PID\" = \"/nowhere,a b,$$\" && test -n \"$CARGO_MANIFEST_DIR\" && exit 7";
        let program = Program {
            files: &[c"/bin/sh"],
            argv: &[c"sh", c"-c", script],
            environment: &[c"PATH=/nowhere", c"SERVICE=a b"],
            pid_variable: Some("MY_PID"),
            ..Program::default()
        };
        assert_eq!(ended(spawn(&program).unwrap()).exit_status(), Some(7));
    }

    #[test]
    fn a_descriptor_gets_its_number_whether_that_is_lower_or_the_same() {
        for number in [3, 700] {
            let (_read, write) = std::io::pipe().unwrap();
            let write = rustix::io::fcntl_dupfd_cloexec(&write, 500).unwrap();
            let same = rustix::fd::AsRawFd::as_raw_fd(&write);
            for number in [number, same] {
                let script = std::ffi::CString::new(format!("test -p /dev/fd/{number} && exit 7")).unwrap();
                let program = Program {
                    files: &[c"/bin/sh"],
                    argv: &[c"sh", c"-c", &script],
                    others: &[(number, rustix::fd::AsFd::as_fd(&write))],
                    ..Program::default()
                };
                assert_eq!(ended(spawn(&program).unwrap()).exit_status(), Some(7), "{number}");
            }
        }
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_at_once() {
        let missing = Program { files: &[c"/nowhere/x"], argv: &[c"x"], ..Program::default() };
        match spawn(&missing) {
            Err(NotStarted { step: Step::Exec, cause }) => {
                assert_eq!(cause.raw_os_error(), Some(nix::libc::ENOENT))
            }
            other => panic!("{other:?}"),
        }
        let denied = Program {
            files: &[c"/etc/passwd", c"/nowhere/x"],
            search: Search(crate::exec::path_rule),
            ..missing
        };
        match spawn(&denied) {
            Err(NotStarted { step: Step::Exec, cause }) => {
                assert_eq!(cause.raw_os_error(), Some(nix::libc::EACCES))
            }
            other => panic!("{other:?}"),
        }
    }
}
