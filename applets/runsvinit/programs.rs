//! The programs that are not services: CMD, and the hooks before and after the services.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::WHO;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags, Stat, StatVfsMountFlags, fstat, openat, statvfs};
use rustix::io::Errno;
use rustix::process::Pid;
use svcore::process::Ended;
use svcore::say::{Class, Message};
use svcore::sort::sort_by;
use svcore::sys::signal;
use svcore::sys::spawn::{Program, Search, Stream, Terminal, spawn};
use svcore::trust::{self, Refusal};
use svcore::{Failed, Signal, exec, files, hint};

/// Exit code if CMD does not exist, as that of a shell.
const NOT_FOUND: u8 = 127;
/// Exit code if CMD cannot be executed, as that of a shell.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code if a hook cannot be started.
const NO_HOOK: u8 = 111;

/// The exit code that reports how a program ended.
pub(crate) fn code_of(how: Ended) -> u8 {
    match how {
        Ended::Code(code) => code,
        Ended::Signal { signal, .. } => u8::try_from(signal.number().saturating_add(128)).unwrap_or(u8::MAX),
    }
}

/// CMD: the command that runs beside the services.
#[derive(Debug)]
pub(crate) enum Cmd {
    /// There is none, or it has ended.
    None,
    /// It is to be started.
    Waiting(CommandLine),
    /// It runs.
    Running(Pid),
}

/// The words of CMD, and the standard input that is only its own.
#[derive(Debug)]
pub(crate) struct CommandLine {
    words: Vec<CString>,
    stdin: Option<OwnedFd>,
}

impl Cmd {
    /// CMD of these words, or none without words.
    pub(crate) fn new(words: &[OsString]) -> Self {
        if words.is_empty() { Cmd::None } else { Cmd::Waiting(CommandLine::new(words)) }
    }

    /// Whether it runs or is to be started.
    pub(crate) const fn is_any(&self) -> bool {
        !matches!(self, Cmd::None)
    }

    /// Its process, if it runs.
    pub(crate) const fn pid(&self) -> Option<Pid> {
        if let Cmd::Running(pid) = self { Some(*pid) } else { None }
    }

    /// Starts it, if it waits for that. `Err` is the code to exit with; the reason was reported.
    pub(crate) fn start(&mut self) -> Result<(), u8> {
        if let Cmd::Waiting(line) = self {
            *self = match line.start() {
                Ok(pid) => Cmd::Running(pid),
                Err(code) => {
                    *self = Cmd::None;
                    return Err(code);
                }
            };
        }
        Ok(())
    }

    /// If it was not started yet, it never is.
    pub(crate) fn cancel(&mut self) {
        if let Cmd::Waiting(_) = self {
            *self = Cmd::None;
        }
    }

    /// Notes that a process ended. Returns whether it was CMD.
    pub(crate) fn note_end(&mut self, pid: Pid) -> bool {
        let is_cmd = self.pid() == Some(pid);
        if is_cmd {
            *self = Cmd::None;
        }
        is_cmd
    }
}

impl CommandLine {
    /// Keeps our standard input for CMD. From now on ours, which services inherit, is `/dev/null`.
    fn new(words: &[OsString]) -> Self {
        let words = words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
        let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok();
        if let Ok(null) = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            // If this fails, services share the input with CMD.
            let _ = rustix::stdio::dup2_stdin(&null);
        }
        CommandLine { words, stdin }
    }

    /// Starts CMD as the leader of a process group of its own, in the foreground if it is on a terminal. `Err` is the code to
    /// exit with; the reason was reported.
    fn start(&mut self) -> Result<Pid, u8> {
        let Some(name) = self.words.first() else { return Err(NOT_FOUND) };
        let path = std::env::var_os("PATH");
        let candidates = exec::candidates(OsStr::from_bytes(name.to_bytes()), path.as_deref());
        let files: Vec<&CStr> = candidates.iter().map(CString::as_c_str).collect();
        let argv: Vec<&CStr> = self.words.iter().map(CString::as_c_str).collect();
        let stdin = self.stdin.take();
        let program = Program {
            files: &files,
            search: Search(exec::path_rule),
            argv: &argv,
            stdin: stdin.as_ref().map_or(Stream::Inherit, |stdin| Stream::Is(stdin.as_fd())),
            terminal: Terminal::Foreground,
            ..Program::default()
        };
        spawn(&program).map_err(|why| {
            let error = why.cause;
            let what = [b"unable to run ", name.to_bytes()].concat();
            let hint = hint::of_candidates(&candidates, &error);
            Message::fatal(WHO, &what).because(&error).print_now_with(hint.as_deref());
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
        })
    }
}

/// Programs of a directory that run one after the other, by name.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    /// Those that were not started yet; the next is the last in the list.
    waiting: Vec<CString>,
    running: Option<(Pid, CString)>,
    /// Why no hook may run.
    refused: Option<Failed>,
}

impl Hooks {
    /// The executables in `dir`, or none if one of them is refused: [`Hooks::start_next`] fails then.
    pub(crate) fn all_or_none(dir: &CStr) -> Self {
        let (waiting, refused) = executables(dir);
        match refused.into_iter().next() {
            None => Hooks { waiting, ..Hooks::default() },
            refused => Hooks { refused, ..Hooks::default() },
        }
    }

    /// The executables in `dir` without those that are refused, which are reported.
    pub(crate) fn those_allowed(dir: &CStr) -> Self {
        let (waiting, refused) = executables(dir);
        for refused in refused {
            Message::warning(WHO, &format!("{refused}: not run")).print_now();
        }
        Hooks { waiting, ..Hooks::default() }
    }

    /// Whether one runs, or [`Hooks::start_next`] has something to do or to report.
    pub(crate) const fn is_any(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty() || self.refused.is_some()
    }

    /// The process of the one that runs.
    pub(crate) fn running(&self) -> Option<Pid> {
        self.running.as_ref().map(|(pid, _)| *pid)
    }

    /// Starts the next, unless one runs. `Err` is the code to exit with if it cannot be started; the reason was reported.
    pub(crate) fn start_next(&mut self) -> Result<(), u8> {
        if self.running.is_some() {
            return Ok(());
        }
        if let Some(refused) = self.refused.take() {
            Message::of(Class::Fatal, WHO, &refused).print_now();
            return Err(NO_HOOK);
        }
        let Some(path) = self.waiting.pop() else { return Ok(()) };
        let program = Program { files: &[&path], argv: &[&path], new_session: true, ..Program::default() };
        match spawn(&program) {
            Ok(pid) => {
                self.running = Some((pid, path));
                Ok(())
            }
            Err(why) => {
                let what = [b"unable to run ", path.to_bytes()].concat();
                let hint = hint::of_file(CWD, &path, path.to_bytes(), &why.cause);
                Message::fatal(WHO, &what).because(&why.cause).print_now_with(hint.as_deref());
                Err(NO_HOOK)
            }
        }
    }

    /// Notes that a process ended. Returns its path if it was the one that ran.
    pub(crate) fn note_end(&mut self, pid: Pid) -> Option<CString> {
        self.running.take_if(|(running, _)| *running == pid).map(|(_, path)| path)
    }

    /// No other is started.
    pub(crate) fn no_more(&mut self) {
        self.waiting.clear();
    }

    /// Kills the one that runs, with a warning, and starts no other.
    pub(crate) fn kill(&mut self) {
        self.no_more();
        if let Some((pid, path)) = &self.running {
            let what = [path.to_bytes(), b" did not end in time: killed"].concat();
            Message::warning(WHO, &what).print_now();
            let _ = signal::send(*pid, Signal::KILL);
        }
    }
}

/// The executables in `dir`, in the reverse order of their names, and why others are refused. Without the directory there
/// are none.
///
/// They run with all of our rights, so nobody else may be able to write to them or to replace them.
fn executables(dir: &CStr) -> (Vec<CString>, Vec<Failed>) {
    let failed = |errno: Errno| Failed::because(errno, dir.to_bytes());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened =
        openat(CWD, dir, flags, Mode::empty()).and_then(|fd| Ok((fstat(&fd)?, Dir::read_from(&fd)?)));
    let (stat, entries) = match opened {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Default::default(),
        Err(errno) => return (Vec::new(), vec![failed(errno)]),
    };
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = match &entry {
            Ok(entry) => entry.file_name(),
            Err(errno) => return (Vec::new(), vec![failed(*errno)]),
        };
        let Ok(path) = CString::new([dir.to_bytes(), b"/", name.to_bytes()].concat()) else { continue };
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        match files::look(CWD, &path) {
            Ok(Some(stat)) if files::is_executable(&stat) && !files::is_dir(&stat) => {
                match allowed(&path, &stat) {
                    Ok(()) => found.push(path),
                    Err(refusal) => refused.push(Failed::because(refusal, path.into_bytes())),
                }
            }
            Ok(_) => {}
            Err(error) => refused.push(Failed::because(error, path.into_bytes())),
        }
    }
    if let (Err(refusal), false) = (allowed(dir, &stat), found.is_empty() && refused.is_empty()) {
        return (Vec::new(), vec![Failed::because(refusal, dir.to_bytes())]);
    }
    sort_by(&mut found, |one, other| one > other);
    sort_by(&mut refused, |one, other| one.doing() < other.doing());
    (found, refused)
}

/// Whether only root and we can write to a file. On a read-only file system nobody can, whatever its mode is: volumes of
/// Kubernetes have directories of mode 777.
fn allowed(path: &CStr, stat: &Stat) -> Result<(), Refusal> {
    let is_read_only = || statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    match trust::check_owner(stat) {
        Err(Refusal::OthersWrite) if is_read_only() => Ok(()),
        checked => checked,
    }
}
