//! The programs under test, and how they are run.

use std::ffi::OsStr;
use std::fs;
use std::io::{PipeWriter, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use crate::{SIGKILL, TempDir, eventually, kill};

static EXECUTABLE: OnceLock<&str> = OnceLock::new();
static SCRATCH: OnceLock<TempDir> = OnceLock::new();

/// Says where our executable is, to a process that uses it without running cases.
pub fn set_executable(path: &'static str) {
    EXECUTABLE.set(path).unwrap();
}

/// Our executable: the one that was built with the tests, or the file `RUNITBOX_EXECUTABLE`, such as that of a release.
pub fn executable() -> &'static Path {
    static OTHER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let other = OTHER.get_or_init(|| std::env::var_os("RUNITBOX_EXECUTABLE").map(PathBuf::from));
    let built = EXECUTABLE.get().expect("main says where it is");
    other.as_deref().unwrap_or(Path::new(built))
}

/// What all cases of this process share.
pub(crate) fn scratch() -> &'static TempDir {
    SCRATCH.get_or_init(TempDir::new)
}

pub(crate) fn remove_scratch() {
    if let Some(scratch) = SCRATCH.get() {
        let _ = fs::remove_dir_all(scratch.path());
    }
}

/// The directory of another runit, if its programs are under test instead of ours.
pub fn reference() -> Option<PathBuf> {
    std::env::var_os("RUNIT_REFERENCE").map(PathBuf::from)
}

/// What we do, or what stock runit does instead; `why` we differ is for the reader, and in README.
pub fn differs<T>(ours: T, stock: T, why: &str) -> T {
    assert!(!why.is_empty());
    if reference().is_some() { stock } else { ours }
}

/// The number in a variable of the environment.
pub fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The directory of the programs under test, by their names.
pub fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        reference().unwrap_or_else(|| {
            let dir = scratch().join("bin");
            fs::create_dir(&dir).unwrap();
            let installed =
                Command::new(executable()).args(["--install", "-s", "--with-init"]).arg(&dir).output();
            assert!(installed.unwrap().status.success());
            dir
        })
    })
}

/// The file that is a program under test. Packages have some of them in `sbin`, or in a directory of their own.
pub fn program(name: &str) -> PathBuf {
    let usual = bin().join(name);
    let others = ["../sbin", "../../lib/runit"].map(|place| bin().join(place).join(name));
    [usual.clone()].into_iter().chain(others).find(|file| file.exists()).unwrap_or(usual)
}

/// A PATH on which the programs under test come first.
pub fn path_variable() -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin", bin().display())
}

/// What came of a program.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Outcome {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Outcome {
            code: code_of(output.status),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// An exit code, or 128 and the number of a signal.
fn code_of(status: ExitStatus) -> Option<i32> {
    status.code().or(status.signal().map(|signal| 128 + signal))
}

/// A program with its arguments, which is to be run.
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
}

/// `run("chpst")` is `chpst` of the programs under test.
pub fn run(name: &str) -> Run {
    run_file(program(name))
}

/// A program by its path. Its environment has PATH only.
pub fn run_file(file: impl AsRef<Path>) -> Run {
    let mut command = Command::new(file.as_ref());
    command.env_clear().env("PATH", path_variable());
    Run { command, input: None }
}

impl Run {
    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: &[S]) -> Self {
        self.command.args(args);
        self
    }

    /// One more variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// An empty environment.
    pub fn without_env(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Where it is started.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads from standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Starts it with a pipe to its standard input.
    pub fn piped(mut self, err: &Path) -> (Running, PipeWriter) {
        let (read, write) = std::io::pipe().unwrap();
        self.command.stdin(read);
        (self.spawn(err), write)
    }

    /// Starts it, with its messages going to `err`.
    pub fn start(mut self, err: &Path) -> Running {
        self.command.stdin(Stdio::null());
        self.spawn(err)
    }

    fn spawn(mut self, err: &Path) -> Running {
        let err = fs::OpenOptions::new().create(true).append(true).open(err).unwrap();
        self.command.stdout(err.try_clone().unwrap()).stderr(err);
        Running(start(&mut self.command))
    }

    /// Runs it to its end.
    pub fn go(mut self) -> Outcome {
        self.command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(&mut self.command);
        let feeder = self.input.zip(child.stdin.take()).map(|(input, mut stdin)| {
            // Whether all of it is read is the case's business.
            std::thread::spawn(move || drop(stdin.write_all(&input)))
        });
        let output = child.wait_with_output().unwrap();
        feeder.map(std::thread::JoinHandle::join);
        output.into()
    }
}

/// A program that runs. It is killed with its owner.
pub struct Running(Child);

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Running(child)
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Its exit code if it has ended; 128 and the number of a signal.
    pub fn ended(&mut self) -> Option<i32> {
        code_of(self.0.try_wait().unwrap()?)
    }

    /// Waits for its end; its exit code, or 128 and the number of a signal.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let mut code = None;
        eventually("the program ended", || {
            code = self.ended();
            code.is_some()
        });
        code.unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Kills it, unless it has ended.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(SIGKILL);
            let _ = self.0.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a command. A file that was just written cannot be executed as long as a child that another case forked at the
/// same time has it open, until that child executes its program.
fn start(command: &mut Command) -> Child {
    let mut child = None;
    eventually("can be executed", || match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => false,
        started => {
            child = Some(started.unwrap());
            true
        }
    });
    child.unwrap()
}
