//! A program as a child.
//!
//! On Linux the child borrows our memory until it has become the program (`CLONE_VM | CLONE_VFORK`): nothing
//! of ours is copied, which is a good part of what a start costs, and that it could not become the program is
//! known when the call returns. Elsewhere, and where that is refused as by an emulator of another processor, it is an
//! ordinary fork that reports through a pipe.

use std::ffi::{CStr, c_char, c_int};
use std::fs::File;
use std::io;
use std::ptr;
use std::time::Duration;

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use rustix::process::{Pid, WaitOptions, waitpid};

/// What a descriptor of the child is.
#[derive(Debug, Clone, Copy, Default)]
pub enum Stream<'a> {
    /// Ours.
    #[default]
    Inherit,
    /// This one.
    Is(BorrowedFd<'a>),
    /// None.
    Closed,
}

/// A program to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Program<'a> {
    /// The files to try, in order; the first that can be executed is it.
    pub files: &'a [&'a CStr],
    /// Its arguments, with its name.
    pub argv: &'a [&'a CStr],
    /// Where it starts; `None` is where we are.
    pub directory: Option<BorrowedFd<'a>>,
    /// Its descriptor 0.
    pub stdin: Stream<'a>,
    /// Its descriptor 1.
    pub stdout: Stream<'a>,
    /// Its descriptor 2.
    pub stderr: Stream<'a>,
    /// More descriptors, with their numbers in the child. Ours have to be above all of these numbers.
    pub others: &'a [(i32, BorrowedFd<'a>)],
    /// Whether it leads a session, hence a process group, of its own.
    pub new_session: bool,
    /// The terminal that is its descriptor 0: what of it is to become the child's.
    pub terminal: Terminal,
    /// Whether SIGPIPE gets its default action back.
    pub default_pipe: bool,
    /// Whether the file is somebody's who may hold up whoever executes it, such as by a lease on it (fcntl(2)). Then it
    /// is waited for no longer than [`BOUND`]; what fails later is told by the end of the child with 111.
    pub bounded: bool,
}

/// How long the execution of a file of somebody else's is waited for; see [`Program::bounded`].
pub const BOUND: Duration = Duration::from_millis(100);

/// What a child is to be to the terminal on its descriptor 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Terminal {
    /// What we are.
    #[default]
    Inherit,
    /// Its foreground, if there is a terminal: it gets what is typed. In any case a process group of its own.
    Foreground,
    /// The session that it controls; for a child with a new session.
    Controlling,
}

/// Why a program was not started.
#[derive(Debug)]
pub struct NotStarted {
    /// How far it came.
    pub step: Step,
    /// The system's reason.
    pub cause: io::Error,
}

/// A step on the way to a program that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A process is made.
    Fork,
    /// Its descriptors are laid out.
    Descriptors,
    /// It goes to its directory.
    Directory,
    /// It executes one of the files.
    Exec,
}

impl NotStarted {
    /// Whether there could be no process: that may work a moment later, and says nothing about the program.
    #[must_use]
    pub fn lacks_process(&self) -> bool {
        self.step == Step::Fork
    }
}

const STAGE_DESCRIPTORS: c_int = 1;
const STAGE_DIRECTORY: c_int = 2;
const STAGE_EXEC: c_int = 3;

/// How many words, with the null at the end, a command line has without memory of its own.
const ARGV_SHORT: usize = 8;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// All that the child needs; it reads this from our memory, and leaves why it failed.
struct Task<'a> {
    program: Program<'a>,
    argv: &'a [*const c_char],
    failed: (c_int, c_int),
    /// The child was here, in our memory.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there it never is"))]
    seen: bool,
    /// It shares our table of descriptors until it has one of its own, with those below this number.
    beyond: Option<c_int>,
}

/// Starts `program`.
///
/// The child has an empty signal mask, the default action for whatever we catch, and no descriptor of ours
/// but those named; everything else it inherits.
///
/// # Errors
///
/// [`NotStarted`]; then there is no child, and none is left to be waited for.
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
    let mut task = Task { program: *program, argv, failed: (0, 0), seen: false, beyond: None };
    let at = |step: Step| move |cause: io::Error| NotStarted { step, cause };
    let slots = slots::fill(&mut task).map_err(at(Step::Descriptors))?;
    let begun = begin(&mut task);
    slots::empty(slots);
    let pid = begun.map_err(at(Step::Fork))?;
    let (stage, errno) = task.failed;
    if stage == 0 {
        return Ok(pid);
    }
    // It has ended already, and it is nobody's business but ours.
    let _ = waitpid(Some(pid), WaitOptions::empty());
    let step = match stage {
        STAGE_DESCRIPTORS => Step::Descriptors,
        STAGE_DIRECTORY => Step::Directory,
        _ => Step::Exec,
    };
    Err(NotStarted { step, cause: io::Error::from_raw_os_error(errno) })
}

/// Becomes the program, or gives the stage and the error number at which that failed.
///
/// Runs in the child. It may share the memory of its suspended parent, so it makes system calls and nothing
/// else: no allocation, no lock.
fn become_program(task: &Task<'_>) -> (c_int, c_int) {
    let program = &task.program;
    let at = |stage: c_int| move |errno: rustix::io::Errno| (stage, errno.raw_os_error());
    let laid_out = || -> Result<(), (c_int, c_int)> {
        if let Some(directory) = program.directory {
            rustix::process::fchdir(directory).map_err(at(STAGE_DIRECTORY))?;
        }
        if let Some(beyond) = task.beyond {
            slots::take_table(beyond).map_err(|errno| (STAGE_DESCRIPTORS, errno))?;
        }
        match program.stdin {
            Stream::Inherit => {}
            Stream::Is(fd) => rustix::stdio::dup2_stdin(fd).map_err(at(STAGE_DESCRIPTORS))?,
            Stream::Closed => close(0),
        }
        match program.stdout {
            Stream::Inherit => {}
            Stream::Is(fd) => rustix::stdio::dup2_stdout(fd).map_err(at(STAGE_DESCRIPTORS))?,
            Stream::Closed => close(1),
        }
        match program.stderr {
            Stream::Inherit => {}
            Stream::Is(fd) => rustix::stdio::dup2_stderr(fd).map_err(at(STAGE_DESCRIPTORS))?,
            Stream::Closed => close(2),
        }
        // Last, since their numbers may be those of what was used above.
        for (number, fd) in program.others {
            // SAFETY: the number is free or the child's to give away; the table is the child's own.
            if unsafe { libc::dup2(fd.as_raw_fd(), *number) } == -1 {
                return Err((STAGE_DESCRIPTORS, nix::errno::Errno::last_raw()));
            }
        }
        Ok(())
    };
    if let Err(failed) = laid_out() {
        return failed;
    }
    if program.new_session {
        // It is no group leader, having just been made.
        let _ = rustix::process::setsid();
    }
    take_terminal(program.terminal);
    if program.default_pipe {
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    if let Some(open_files) = super::privilege::open_files_before() {
        // Whoever raised the limit may lower it.
        let _ = super::privilege::set_soft_limit(super::privilege::Resource::Nofile, Some(open_files));
    }
    unblock_all();
    // Source: the PATH rule of runsvdir(8) and chpst(8): go on where the file cannot be it; what is said in
    // the end is the last reason that is not merely "no such file".
    let mut said = libc::ENOENT;
    for file in program.files {
        // SAFETY: file and words are nul-terminated and the list of words ends with a null; `environ` is
        // nobody's to change here, since we have one thread.
        let environment = unsafe { environ };
        // SAFETY: as above.
        unsafe { libc::execve(file.as_ptr(), task.argv.as_ptr(), environment) };
        let errno = nix::errno::Errno::last_raw();
        if !crate::exec::goes_on(errno) {
            return (STAGE_EXEC, errno);
        }
        if errno != libc::ENOENT {
            said = errno;
        }
    }
    (STAGE_EXEC, said)
}

/// Where there is no terminal, or it is another session's, nothing changes.
fn take_terminal(how: Terminal) {
    match how {
        Terminal::Inherit => {}
        Terminal::Foreground => {
            // As one of the background we would be stopped for the attempt, if TTOU were not blocked. Our caller
            // unblocks it.
            block(libc::SIGTTOU);
            let _ = rustix::process::setpgid(None, None);
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        }
        Terminal::Controlling => {
            let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
        }
    }
}

fn block(signal: c_int) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes the whole set valid.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was made above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: the set was made above; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}

/// What clone(2) or fork(2) gave.
fn made(pid: c_int) -> io::Result<Pid> {
    // The number of a failure is not one that a `Pid` may be made of.
    if pid > 0 { Pid::from_raw(pid) } else { None }.ok_or_else(io::Error::last_os_error)
}

fn close(fd: c_int) {
    // SAFETY: the child has no use for the descriptor, and owns its table.
    unsafe { libc::close(fd) };
}

fn unblock_all() {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes the whole set valid.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was made above; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) };
}

#[cfg(target_os = "linux")]
fn begin(task: &mut Task<'_>) -> io::Result<Pid> {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// Children cannot borrow our memory here.
    static COPIES: AtomicBool = AtomicBool::new(false);

    // A borrower of our memory suspends us until it has become the program.
    if task.program.bounded || COPIES.load(Relaxed) {
        return begin_copy(task);
    }
    let begun = begin_here(task);
    match &begun {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            COPIES.store(true, Relaxed);
            begin_copy(task)
        }
        // It got a copy of our memory without a word: an emulator. That it could not become the program was not told this
        // time, so its end is that of the program.
        Ok(_) if !task.seen => {
            COPIES.store(true, Relaxed);
            begun
        }
        _ => begun,
    }
}

#[cfg(target_os = "linux")]
fn begin_here(task: &mut Task<'_>) -> io::Result<Pid> {
    use std::mem::MaybeUninit;

    /// Enough for a few calls. It lies in our own stack, of which an idle supervisor keeps every page that was ever
    /// touched: so no more than that.
    const STACK: usize = if cfg!(debug_assertions) { 32 * 1024 } else { 2 * 1024 };
    #[repr(align(16))]
    struct Stack([MaybeUninit<u8>; STACK]);

    extern "C" fn child(task: *mut libc::c_void) -> c_int {
        // SAFETY: it is the `task` that `begin_here` passed, and that waits until we are done with it.
        let task = unsafe { &mut *task.cast::<Task<'_>>() };
        task.seen = true;
        task.failed = become_program(task);
        // SAFETY: ends this process only, and runs nothing of ours on the way.
        unsafe { libc::_exit(111) }
    }

    let table = if task.beyond.is_some() { libc::CLONE_FILES } else { 0 };
    let mut stack = Stack([MaybeUninit::uninit(); STACK]);
    let top = stack.0.as_mut_ptr_range().end;
    // SAFETY: CLONE_VFORK suspends us until the child has executed or ended, so `task` and `stack` outlive
    // its use of them; `stack` is aligned and is used by nobody else. No handler is installed that could change
    // our memory in the child: what we wait for is blocked (see `signals`), and that of faults only ends it.
    let pid = unsafe {
        libc::clone(
            child,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | table | libc::SIGCHLD,
            ptr::from_mut(task).cast(),
        )
    };
    made(pid)
}

#[cfg(not(target_os = "linux"))]
fn begin(task: &mut Task<'_>) -> io::Result<Pid> {
    begin_copy(task)
}

/// With a copy of our memory.
fn begin_copy(task: &mut Task<'_>) -> io::Result<Pid> {
    use std::io::{Read, Write};
    // The table of descriptors is its own, and what reports has to stay open in it until it is the program.
    task.beyond = None;
    let (mut report, low) = io::pipe()?;
    let above = task.program.others.iter().map(|(number, _)| *number).max().unwrap_or(2);
    let mut tell = std::fs::File::from(rustix::io::fcntl_dupfd_cloexec(&low, above.saturating_add(1))?);
    drop(low);
    // SAFETY: the child makes system calls only, see `become_program`, and then ends.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            let (stage, errno) = become_program(task);
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&stage.to_ne_bytes());
            bytes[4..].copy_from_slice(&errno.to_ne_bytes());
            // Without a report it counts as started and its end as that of the program.
            let _ = tell.write_all(&bytes);
            // SAFETY: ends this process only.
            unsafe { libc::_exit(111) }
        }
        1.. => {
            drop(tell);
            if task.program.bounded {
                let mut fds = [PollFd::from_borrowed_fd(report.as_fd(), PollFlags::IN)];
                let bound = Timespec { tv_sec: 0, tv_nsec: i64::from(BOUND.subsec_nanos()) };
                if !matches!(poll(&mut fds, Some(&bound)), Ok(1..)) {
                    return made(pid);
                }
            }
            let mut bytes = [0; 8];
            // The end of the pipe without a byte is its being closed by a successful exec.
            if report.read_exact(&mut bytes).is_ok() {
                let [a, b, c, d, e, f, g, h] = bytes;
                task.failed = (c_int::from_ne_bytes([a, b, c, d]), c_int::from_ne_bytes([e, f, g, h]));
            }
            made(pid)
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does `work` in a process of its own, a copy of ours, that ends with the code it gives, or with us.
///
/// # Errors
///
/// That of fork(2).
pub fn fork_to(work: impl FnOnce() -> u8) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    // SAFETY: we have one thread, so the copy is complete and no lock in it is held by anybody.
    match unsafe { libc::fork() } {
        0 => {
            end_with(parent);
            unblock_all();
            let code = work();
            // SAFETY: ends this process only, without what our own end would do.
            unsafe { libc::_exit(code.into()) }
        }
        pid => made(pid),
    }
}

/// The same for work on files, by a process that has nothing else of ours.
///
/// It has its input, its output and our standard error, and no other descriptor: no lock of ours outlives us in it. It
/// is called `name` for whoever looks for us by our name, leads a session of its own, and HUP and ALRM, with which
/// programs are told to look again, are nothing to it. The descriptors it is given have to lie above 2.
///
/// # Errors
///
/// That of fork(2).
pub fn fork_to_files(
    name: &str,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    work: impl FnOnce(File, File) -> u8,
) -> io::Result<Pid> {
    let laid_out = || -> rustix::io::Result<()> {
        rustix::stdio::dup2_stdin(input)?;
        rustix::stdio::dup2_stdout(output)
    };
    fork_to(move || {
        super::signal::default_all();
        for signal in [libc::SIGHUP, libc::SIGALRM] {
            // SAFETY: nothing of ours runs when it comes.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        // It is no group leader, having just been made.
        let _ = rustix::process::setsid();
        super::start::rename_process(name);
        if laid_out().is_err() {
            return 111;
        }
        close_from(3);
        // SAFETY: it was laid out above and is nobody else's in this process.
        let input = unsafe { File::from_raw_fd(0) };
        // SAFETY: as above.
        let output = unsafe { File::from_raw_fd(1) };
        work(input, output)
    })
}

/// In a child: it ends when its parent does. Without the parent nobody would take the result, and another one would
/// begin the same work.
fn end_with(parent: Pid) {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        // It may have ended before it could be noticed. A parent outside of our PID namespace has no number here.
        if rustix::process::getppid().is_some_and(|now| now != parent) {
            // SAFETY: ends this process only.
            unsafe { libc::_exit(111) }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
}

/// In a child that executes nothing: closes all descriptors from `first` on.
fn close_from(first: c_int) {
    #[cfg(target_os = "linux")]
    {
        let from = libc::c_uint::try_from(first).unwrap_or(libc::c_uint::MAX);
        // SAFETY: takes numbers. This process has no use for the descriptors from `first` on.
        if unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) } == 0 {
            return;
        }
    }
    /// Where nobody says which are open and there is no limit.
    const MANY: u64 = 65_536;
    let open = |directory: &[u8]| crate::files::numbers_in(directory)?.into_iter().max();
    let limit = || c_int::try_from(super::privilege::open_files().min(MANY)).unwrap_or(c_int::MAX);
    let last = open(b"/proc/self/fd").or_else(|| open(b"/dev/fd")).unwrap_or_else(limit);
    for fd in first..=last {
        close(fd);
    }
}

pub use slots::share_table;

/// Children without a copy of our table of descriptors.
///
/// A child gets a copy of it, and keeps a table as large as ours was, however few it has open in the end: with
/// thousands open here that is what most of a start costs, in time and in the kernel's memory. So it shares ours, and
/// takes for itself only what lies below a number; what it is to have of the rest is put into three slots below that.
#[cfg(target_os = "linux")]
mod slots {
    use std::io;
    use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

    use nix::libc::{self, c_int};
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

    use super::{Stream, Task};

    /// The number of the first slot; 0 if there are none.
    static FIRST: AtomicI32 = AtomicI32::new(0);
    /// One for each of the standard streams; behind them lies what they hold when they are empty.
    const COUNT: c_int = 3;
    /// Where there is no /proc, descriptors of others are looked for below this number.
    const EXPECTED: c_int = 256;
    /// The flag of close_range(2) that makes a table of one's own first.
    const UNSHARE: libc::c_uint = 2;

    fn close_range(first: libc::c_uint) -> Result<(), c_int> {
        // SAFETY: takes numbers. The caller has no use for the descriptors from `first` on.
        match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, UNSHARE) } {
            0 => Ok(()),
            _ => Err(nix::errno::Errno::last_raw()),
        }
    }

    /// The highest number of a descriptor that is open, if /proc says.
    fn highest() -> Option<c_int> {
        crate::files::numbers_in(b"/proc/self/fd")?.into_iter().max()
    }

    /// From now on children do not copy our table. To be called before many descriptors are open.
    ///
    /// Where the system cannot, they go on to copy it.
    pub fn share_table() {
        // There is no descriptor of this number, so it only tells whether it could be done.
        if close_range(libc::c_uint::MAX).is_err() {
            return;
        }
        let Ok(unused) = rustix::fs::open(
            "/",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) else {
            return;
        };
        // Above what is open now, this one included: what others left open is for the children, too.
        let is_open = |fd: &c_int| {
            // SAFETY: only its flags are asked for, of whatever the number stands for.
            unsafe { libc::fcntl(*fd, libc::F_GETFD) != -1 }
        };
        let last = highest().unwrap_or_else(|| (3..EXPECTED).rev().find(is_open).unwrap_or(2));
        let first = last.saturating_add(1);
        for slot in first..=first.saturating_add(COUNT) {
            match rustix::io::fcntl_dupfd_cloexec(&unused, slot) {
                Ok(fd) if fd.as_raw_fd() == slot => drop(fd.into_raw_fd()),
                Ok(_) | Err(_) => return,
            }
        }
        FIRST.store(first, Relaxed);
    }

    /// Puts what the child is to have where it will find it; gives what is to be emptied afterwards.
    pub(super) fn fill(task: &mut Task<'_>) -> io::Result<[bool; 3]> {
        let first = FIRST.load(Relaxed);
        if first == 0 || !task.program.others.is_empty() {
            return Ok([false; 3]);
        }
        let mut filled = [false; 3];
        let program = &mut task.program;
        for ((slot, stream), filled) in
            (first..).zip([&mut program.stdin, &mut program.stdout, &mut program.stderr]).zip(&mut filled)
        {
            if let Stream::Is(fd) = stream {
                put(fd.as_fd(), slot)?;
                *filled = true;
                // SAFETY: the slot stays open until the child has it.
                *stream = Stream::Is(unsafe { BorrowedFd::borrow_raw(slot) });
            }
        }
        task.beyond = Some(first.saturating_add(COUNT));
        Ok(filled)
    }

    /// Nothing that the child has is to be kept open by us.
    pub(super) fn empty(filled: [bool; 3]) {
        let first = FIRST.load(Relaxed);
        for (slot, _) in (first..).zip(filled).filter(|(_, filled)| *filled) {
            // SAFETY: it is open since the slots are, and is never closed.
            let unused = unsafe { BorrowedFd::borrow_raw(first.saturating_add(COUNT)) };
            let _ = put(unused, slot);
        }
    }

    fn put(fd: BorrowedFd<'_>, slot: c_int) -> io::Result<()> {
        // SAFETY: the slot is ours, and open.
        let mut slot = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(slot) });
        Ok(rustix::io::dup3(fd, &mut slot, rustix::io::DupFlags::CLOEXEC)?)
    }

    /// In the child: a table of its own, with what lies below `beyond`.
    pub(super) fn take_table(beyond: c_int) -> Result<(), c_int> {
        close_range(libc::c_uint::try_from(beyond).unwrap_or(libc::c_uint::MAX))
    }
}

#[cfg(not(target_os = "linux"))]
mod slots {
    use std::io;

    use super::{Task, c_int};

    /// Nothing: here children are made in another way.
    pub fn share_table() {}

    pub(super) fn fill(_task: &mut Task<'_>) -> io::Result<[bool; 3]> {
        Ok([false; 3])
    }

    pub(super) fn empty(_filled: [bool; 3]) {}

    pub(super) fn take_table(_beyond: c_int) -> Result<(), c_int> {
        Ok(())
    }
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
            argv: &[c"sh", c"-c", c"test \"$PWD\" = / && exit 7"],
            directory: Some(rustix::fd::AsFd::as_fd(&dir)),
            ..Program::default()
        };
        assert_eq!(ended(spawn(&program).unwrap()).exit_status(), Some(7));
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_at_once() {
        let missing = Program { files: &[c"/nowhere/x"], argv: &[c"x"], ..Program::default() };
        match spawn(&missing) {
            Err(NotStarted { step: Step::Exec, cause }) => {
                assert_eq!(cause.raw_os_error(), Some(libc::ENOENT))
            }
            other => panic!("{other:?}"),
        }
        let denied = Program { files: &[c"/etc/passwd", c"/nowhere/x"], ..missing };
        match spawn(&denied) {
            Err(NotStarted { step: Step::Exec, cause }) => {
                assert_eq!(cause.raw_os_error(), Some(libc::EACCES))
            }
            other => panic!("{other:?}"),
        }
    }
}
