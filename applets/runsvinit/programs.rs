//! CMD, and the hooks before and after the services.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags, Stat, StatVfsMountFlags, fstat, openat, statvfs};
use rustix::io::Errno;
use rustix::process::Pid;
use svcore::error::reason;
use svcore::process::Ended;
use svcore::sys::signal;
use svcore::sys::spawn::{Program, Stream, Terminal, spawn};
use svcore::trust::{self, Refusal};
use svcore::{Signal, exec, files, say};

/// A program that is not there, and one that cannot be executed, as shells have it.
const NOT_THERE: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// A hook that could not be started.
const NO_HOOK: u8 = 111;

/// The code that a container's end tells of how a program ended.
pub(crate) const fn code_of(how: Ended) -> u8 {
    match how {
        Ended::Code(code) => code,
        Ended::Signal { number, .. } => number.saturating_add(128),
    }
}

/// CMD, and the standard input that is only its own.
#[derive(Debug)]
pub(crate) struct Command {
    words: Vec<CString>,
    stdin: Option<OwnedFd>,
}

impl Command {
    /// CMD; from now on our standard input, which services inherit, is `/dev/null`.
    pub(crate) fn new(words: &[OsString]) -> Self {
        let words = words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
        let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok();
        if let Ok(null) = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            // Where this fails, services share what CMD has.
            let _ = rustix::stdio::dup2_stdin(&null);
        }
        Command { words, stdin }
    }

    /// Starts it, as the leader of a process group of its own, and in the foreground if it is on a terminal; otherwise
    /// the code to end with, and why was said.
    pub(crate) fn start(&mut self) -> Result<Pid, u8> {
        let Some(name) = self.words.first() else { return Err(NOT_THERE) };
        let files = exec::candidates(OsStr::from_bytes(name.to_bytes()), std::env::var_os("PATH").as_deref());
        let files: Vec<&CStr> = files.iter().map(CString::as_c_str).collect();
        let argv: Vec<&CStr> = self.words.iter().map(CString::as_c_str).collect();
        let stdin = self.stdin.take();
        let program = Program {
            files: &files,
            argv: &argv,
            stdin: stdin.as_ref().map_or(Stream::Inherit, |stdin| Stream::Is(stdin.as_fd())),
            terminal: Terminal::Foreground,
            ..Program::default()
        };
        spawn(&program).map_err(|failure| {
            let error = io::Error::from(failure);
            let what = [b"unable to run ", name.to_bytes()].concat();
            say::supervisor(&[b"runsvinit: fatal: "], &what, Some(&error));
            if error.kind() == io::ErrorKind::NotFound
                && let Some(missing) = files.iter().find_map(|file| exec::missing_interpreter(CWD, file))
            {
                let missing = String::from_utf8_lossy(missing.to_bytes());
                let what = format!("its interpreter {} does not exist", missing.escape_debug());
                say::supervisor(&[b"runsvinit: fatal: "], what.as_bytes(), None);
            }
            if error.kind() == io::ErrorKind::NotFound { NOT_THERE } else { NOT_EXECUTABLE }
        })
    }
}

/// Programs of a directory that run one after the other, by name.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    /// The last is the next.
    left: Vec<CString>,
    running: Option<(Pid, CString)>,
    /// Why none is run.
    refused: Option<Refused>,
}

/// A hook or a directory that is not used, and why.
type Refused = (Vec<u8>, io::Error);

impl Hooks {
    /// The executables in `dir`, or none if one of them is refused: [`Hooks::go_on`] fails then.
    pub(crate) fn all_or_none(dir: &CStr) -> Self {
        let (left, refused) = executables(dir);
        match refused.into_iter().next() {
            None => Hooks { left, ..Hooks::default() },
            refused => Hooks { refused, ..Hooks::default() },
        }
    }

    /// The executables in `dir` without those that are refused, which is said.
    pub(crate) fn those_allowed(dir: &CStr) -> Self {
        let (left, refused) = executables(dir);
        for (path, error) in refused {
            let what = [&path, b": ".as_slice(), reason(&error).as_bytes(), b": not run"].concat();
            say::supervisor(&[b"runsvinit: warning: "], &what, None);
        }
        Hooks { left, ..Hooks::default() }
    }

    /// Whether one runs, or is to.
    pub(crate) const fn is_any(&self) -> bool {
        self.running.is_some() || !self.left.is_empty() || self.refused.is_some()
    }

    /// The process of the one that runs.
    pub(crate) fn running(&self) -> Option<Pid> {
        self.running.as_ref().map(|(pid, _)| *pid)
    }

    /// Starts the next, unless one runs. `Err` is the code of one that cannot be started, which was said.
    pub(crate) fn go_on(&mut self) -> Result<(), u8> {
        if self.running.is_some() {
            return Ok(());
        }
        if let Some((path, error)) = self.refused.take() {
            say::supervisor(&[b"runsvinit: fatal: "], &path, Some(&error));
            return Err(NO_HOOK);
        }
        let Some(path) = self.left.pop() else { return Ok(()) };
        let program = Program { files: &[&path], argv: &[&path], new_session: true, ..Program::default() };
        match spawn(&program) {
            Ok(pid) => {
                self.running = Some((pid, path));
                Ok(())
            }
            Err(failure) => {
                let what = [b"unable to run ", path.to_bytes()].concat();
                say::supervisor(&[b"runsvinit: fatal: "], &what, Some(&failure.into()));
                Err(NO_HOOK)
            }
        }
    }

    /// Takes the end of a process, if it is the one that runs. `Some` is its name.
    pub(crate) fn ended(&mut self, pid: Pid) -> Option<CString> {
        self.running.take_if(|(running, _)| *running == pid).map(|(_, path)| path)
    }

    /// No other is run.
    pub(crate) fn no_more(&mut self) {
        self.left.clear();
    }

    /// Kills the one that runs and says so; no other is run.
    pub(crate) fn kill(&mut self) {
        self.no_more();
        if let Some((pid, path)) = &self.running {
            let what = [path.to_bytes(), b" did not end in time: killed"].concat();
            say::supervisor(&[b"runsvinit: warning: "], &what, None);
            let _ = signal::send(*pid, Signal::KILL);
        }
    }
}

/// The executables in `dir`, the first by name last, and those that are refused; of a directory that is not there, none.
///
/// They run with all that we may do, so nobody else may be able to write them, or others in their place.
fn executables(dir: &CStr) -> (Vec<CString>, Vec<Refused>) {
    let failed = |errno: Errno| (dir.to_bytes().to_vec(), io::Error::from(errno));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened =
        openat(CWD, dir, flags, Mode::empty()).and_then(|fd| Ok((fstat(&fd)?, Dir::read_from(&fd)?)));
    let (stat, entries) = match opened {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Default::default(),
        Err(errno) => return (Vec::new(), vec![failed(errno)]),
    };
    let (mut left, mut refused) = (Vec::new(), Vec::new());
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
                    Ok(()) => left.push(path),
                    Err(refusal) => refused.push((path.into_bytes(), refusal.into())),
                }
            }
            Ok(_) => {}
            Err(error) => refused.push((path.into_bytes(), error)),
        }
    }
    if let (Err(refusal), false) = (allowed(dir, &stat), left.is_empty() && refused.is_empty()) {
        return (Vec::new(), vec![(dir.to_bytes().to_vec(), refusal.into())]);
    }
    left.sort_unstable_by(|one, other| other.cmp(one));
    refused.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    (left, refused)
}

/// Whether only root and we can write a file. Where the file system is read-only its mode says nothing: volumes of
/// Kubernetes have directories of mode 777.
fn allowed(path: &CStr, stat: &Stat) -> Result<(), Refusal> {
    let is_read_only = || statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    match trust::check_owner(stat) {
        Err(Refusal::OthersWrite) if is_read_only() => Ok(()),
        checked => checked,
    }
}
