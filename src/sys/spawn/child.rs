//! What the child does until it has executed the program.

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::ops::ControlFlow;

use nix::libc;
use rustix::fd::{AsRawFd, BorrowedFd};

use super::super::descriptors::close;
use super::super::limits::{self, Resource};
use super::super::signal::{self, Signal};
use super::{Program, Step, Stream, Terminal, environment, slots};

/// All that the child needs. It reads this from our memory.
pub(super) struct ChildTask<'a> {
    pub(super) program: Program<'a>,
    /// The words of the command line, with a null at the end.
    argv: &'a [*const c_char],
    /// Its environment, with a null at the end.
    environment: *const *const c_char,
    /// Where in the environment it writes its own number.
    pub(super) pid_value: Option<&'a [Cell<u8>]>,
    /// The step that failed, and the error number.
    pub(super) failed: Option<(Step, c_int)>,
    /// Whether the child was here, in our memory.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there it never is"))]
    pub(super) seen: bool,
    /// If set, the child begins with our table of descriptors (CLONE_FILES). It then gets a table of its own that has the
    /// descriptors below this number.
    pub(super) shared_below: Option<c_int>,
    /// The only one of `program.others`, in a slot.
    pub(super) other_in_slot: Option<(c_int, BorrowedFd<'a>)>,
}

impl<'a> ChildTask<'a> {
    /// `environment` is a list with a null at the end, or empty for our own.
    pub(super) fn new(
        program: Program<'a>,
        argv: &'a [*const c_char],
        environment: &'a [*const c_char],
    ) -> Self {
        let environment = if environment.is_empty() { environment::ours() } else { environment.as_ptr() };
        let (pid_value, failed, seen, shared_below, other_in_slot) = (None, None, false, None, None);
        ChildTask { program, argv, environment, pid_value, failed, seen, shared_below, other_in_slot }
    }
}

/// Executes the program. Returns only if that failed: with the step and the error number.
///
/// Runs in the child. It may share the memory of its parent, which is suspended meanwhile, so it makes system calls and
/// nothing else: no allocation, no lock.
pub(super) fn become_program(task: &ChildTask<'_>) -> (Step, c_int) {
    let program = &task.program;
    if let Err(failed) = enter_control_group(program).and_then(|()| lay_out(task)) {
        return failed;
    }
    if let Some(value) = task.pid_value {
        environment::write_number(std::process::id(), value);
    }
    // Neither can fail: a new process leads no group.
    if program.new_session {
        let _ = rustix::process::setsid();
    } else if program.new_group {
        let _ = rustix::process::setpgid(None, None);
    }
    take_terminal(program.terminal);
    if program.default_pipe {
        signal::set_default(Signal::PIPE);
    }
    if let Some(open_files) = limits::open_files_before() {
        // Cannot fail: it was lower before we raised it.
        let _ = limits::set_soft_limit(Resource::Nofile, Some(open_files));
    }
    signal::unblock_all();
    let mut report = libc::ENOENT;
    for file in program.files {
        // SAFETY: file and words are nul-terminated, and the lists of words and of the environment end with a null.
        unsafe { libc::execve(file.as_ptr(), task.argv.as_ptr(), task.environment) };
        match (program.search.0)(report, nix::errno::Errno::last_raw()) {
            ControlFlow::Continue(errno) => report = errno,
            ControlFlow::Break(errno) => return (Step::Exec, errno),
        }
    }
    (Step::Exec, report)
}

/// Enters the control group. First, since its descriptor is closed when the child gets a table of its own.
fn enter_control_group(program: &Program<'_>) -> Result<(), (Step, c_int)> {
    let Some(procs) = program.control_group else { return Ok(()) };
    // cgroups(7): 0 stands for the process that writes it.
    match rustix::io::write(procs, b"0\n") {
        Ok(_) => Ok(()),
        Err(errno) => Err((Step::ControlGroup, errno.raw_os_error())),
    }
}

/// Changes the directory and lays out the descriptors.
fn lay_out(task: &ChildTask<'_>) -> Result<(), (Step, c_int)> {
    let program = &task.program;
    let at = |step: Step| move |errno: rustix::io::Errno| (step, errno.raw_os_error());
    if let Some(directory) = program.directory {
        rustix::process::fchdir(directory).map_err(at(Step::Directory))?;
    }
    if let Some(below) = task.shared_below {
        slots::unshare_table(below).map_err(|errno| (Step::Descriptors, errno))?;
    }
    match program.stdin {
        Stream::Inherit => {}
        Stream::Is(fd) => rustix::stdio::dup2_stdin(fd).map_err(at(Step::Descriptors))?,
        Stream::Closed => close(0),
    }
    match program.stdout {
        Stream::Inherit => {}
        Stream::Is(fd) => rustix::stdio::dup2_stdout(fd).map_err(at(Step::Descriptors))?,
        Stream::Closed => close(1),
    }
    match program.stderr {
        Stream::Inherit => {}
        Stream::Is(fd) => rustix::stdio::dup2_stderr(fd).map_err(at(Step::Descriptors))?,
        Stream::Closed => close(2),
    }
    // Last, since their numbers may be those of descriptors that were used above.
    for (number, fd) in program.others.iter().chain(&task.other_in_slot) {
        if fd.as_raw_fd() == *number {
            // It is in its place already, and is only to stay open.
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).map_err(at(Step::Descriptors))?;
            continue;
        }
        // SAFETY: the table is the child's own, and the child has no other use for the number.
        if unsafe { libc::dup2(fd.as_raw_fd(), *number) } == -1 {
            return Err((Step::Descriptors, nix::errno::Errno::last_raw()));
        }
    }
    Ok(())
}

/// Where there is no terminal, or it is another session's, nothing changes.
fn take_terminal(how: Terminal) {
    match how {
        Terminal::Inherit => {}
        Terminal::Foreground => {
            // A process of the background is stopped by TTOU when it does this, unless it blocks TTOU. The mask is
            // emptied before the program is executed.
            signal::block(Signal::TTOU);
            let _ = rustix::process::setpgid(None, None);
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        }
        Terminal::Controlling => {
            let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
        }
    }
}
