//! What the cases are written in: service directories as data, programs that are ended, conditions waited for.
//!
//! `RUNIT_REFERENCE=dir` runs the same cases against the programs in `dir`, such as Debian's runit; cases in modules
//! called `ours` are about what stock runit does not do (`--skip ours::`), and [`differs`] marks the other
//! deliberate differences in place.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use svcore::status::{LEN, Status};

/// Whether the programs under test are another runit's.
pub fn reference() -> Option<PathBuf> {
    std::env::var_os("RUNIT_REFERENCE").map(PathBuf::from)
}

/// Ours, or what stock runit does instead; `why` we differ is for the reader, and in README.
pub fn differs<T>(ours: T, stock: T, why: &str) -> T {
    assert!(!why.is_empty());
    if reference().is_some() { stock } else { ours }
}

/// Whether a case can run at all. Where it cannot, that is a failure in CI, and elsewhere said loudly.
pub fn can_run(what_it_needs: &str, it_has: bool) -> bool {
    if !it_has {
        assert!(std::env::var_os("CI").is_none(), "CI has to have what this case needs: {what_it_needs}");
        // Past the capture of the test runner, which shows nothing of what passes.
        let _ = writeln!(std::io::stderr(), "\n*** NOT RUN, since it needs {what_it_needs} ***\n");
    }
    it_has
}

/// Whether we are root; see [`can_run`].
pub fn is_root() -> bool {
    can_run("root", nix::unistd::geteuid().is_root())
}

/// Debian's runit; see [`can_run`].
pub fn has_stock(program: &str) -> bool {
    can_run("Debian's runit (apt-get install runit)", Path::new("/usr/bin").join(program).exists())
}

/// The directory of the programs under test, by their names.
pub fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        reference().unwrap_or_else(|| {
            let dir = std::env::temp_dir().join(format!("runitbox-bin-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            let installed =
                Command::new(executable()).args(["--install", "-s", "--with-init"]).arg(&dir).output();
            assert!(installed.unwrap().status.success());
            dir
        })
    })
}

/// Our executable.
pub fn executable() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_runitbox"))
}

/// A directory that goes with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("runitbox-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        // Others have to get in where a case drops its privileges.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        write_script(&self.join(name), body)
    }

    pub fn read(&self, name: &str) -> String {
        read(&self.join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a shell script, complete before it has its name: a supervisor may look at any time.
pub fn write_script(path: &Path, body: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("being-written");
    fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
    path.to_owned()
}

/// The text of a file, or nothing.
pub fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// What came of a program.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A program under test with its arguments.
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
}

/// `run("chpst")` is `chpst` of the programs under test.
pub fn run(name: &str) -> Run {
    run_file(&program(name))
}

/// The file that is a program under test. Packages have some of them in `sbin`, or in a directory of their own.
pub fn program(name: &str) -> PathBuf {
    let usual = bin().join(name);
    let others = ["../sbin", "../../lib/runit"].map(|place| bin().join(place).join(name));
    [usual.clone()].into_iter().chain(others).find(|file| file.exists()).unwrap_or(usual)
}

pub fn run_file(file: &Path) -> Run {
    let mut command = Command::new(file);
    command.env_clear().env("PATH", path_variable());
    Run { command, input: None }
}

pub fn path_variable() -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin", bin().display())
}

impl Run {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: &[S]) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self) -> Self {
        self.command.env_clear();
        self
    }

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
    pub fn piped(mut self, err: &Path) -> (Running, std::io::PipeWriter) {
        let (read, write) = std::io::pipe().unwrap();
        let err = fs::OpenOptions::new().create(true).append(true).open(err).unwrap();
        self.command.stdin(read).stdout(err.try_clone().unwrap()).stderr(err);
        (Running(self.command.spawn().unwrap()), write)
    }

    pub fn go(mut self) -> Outcome {
        self.command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let feeder = self.input.zip(child.stdin.take()).map(|(input, mut stdin)| {
            // Whether all of it is read is the case's business.
            std::thread::spawn(move || drop(stdin.write_all(&input)))
        });
        let output = child.wait_with_output().unwrap();
        feeder.map(std::thread::JoinHandle::join);
        Outcome {
            code: output.status.code().or(output.status.signal().map(|signal| 128 + signal)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts it, with its messages going to `err`.
    pub fn start(mut self, err: &Path) -> Running {
        let err = fs::OpenOptions::new().create(true).append(true).open(err).unwrap();
        self.command.stdin(Stdio::null()).stdout(err.try_clone().unwrap()).stderr(err);
        Running(self.command.spawn().unwrap())
    }
}

/// A program that runs.
pub struct Running(Child);

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Its exit code if it has ended; 128 and the number of a signal.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.0.try_wait().unwrap()?;
        status.code().or(status.signal().map(|signal| 128 + signal))
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(SIGKILL);
            let _ = self.0.wait();
        }
    }
}

/// Sends a signal to a process of ours.
pub fn kill(pid: i32, signal: i32) {
    let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

pub const SIGHUP: i32 = 1;
pub const SIGKILL: i32 = 9;
pub const SIGTERM: i32 = 15;

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    process_state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

pub fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

/// Looks again and again until `seen` holds; fails after twenty seconds.
#[track_caller]
pub fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let start = Instant::now();
    while !seen() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks for `time` that `holds` does not stop to hold. For what must not happen there is nothing to wait for.
#[track_caller]
pub fn steadily(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(holds(), "not steadily: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A service directory, and its runsv once it is supervised.
pub struct Service {
    root: TempDir,
    runsv: Option<Running>,
    name: String,
}

impl Service {
    /// A service called `s` in a directory of its own.
    pub fn new() -> Self {
        let service = Service { root: TempDir::new(), runsv: None, name: "s".to_owned() };
        fs::create_dir_all(service.path()).unwrap();
        service
    }

    /// A service that runs until it is told to end.
    pub fn sleeper() -> Self {
        Service::new().script("run", "exec sleep 1000")
    }

    /// A service that notes that it got TERM and goes on.
    pub fn stubborn() -> Self {
        Service::new().script(
            "run",
            "trap 'echo term >>../terms' TERM\necho started >>../starts\nwhile :; do sleep 0.02; done",
        )
    }

    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn script(self, name: &str, body: &str) -> Self {
        write_script(&self.path().join(name), body);
        self
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.write(name, content);
        self
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A log service that appends to `log/out`.
    pub fn logged(self) -> Self {
        self.script("log/run", "exec cat >>out")
    }

    /// Starts runsv, and waits until it serves.
    pub fn supervised(mut self) -> Self {
        self.start();
        self
    }

    pub fn start(&mut self) {
        let err = self.root.join("err");
        self.runsv = Some(run("runsv").arg(&self.name).dir(self.root.path()).start(&err));
        eventually("supervised", || self.is_served() || self.runsv.as_mut().unwrap().ended().is_some());
    }

    /// Supervised, and up.
    pub fn up(self) -> Self {
        let service = self.supervised();
        eventually("up", || service.is_up());
        service
    }

    pub fn is_served(&self) -> bool {
        open_fifo(&self.path().join("supervise/ok")).is_some()
    }

    pub fn is_up(&self) -> bool {
        self.stat().starts_with("run") && self.pid().is_some()
    }

    pub fn is_down(&self) -> bool {
        self.stat().starts_with("down")
    }

    /// Writes bytes to the control FIFO.
    pub fn send(&self, bytes: &str) {
        send(&self.path().join("supervise/control"), bytes);
    }

    pub fn send_log(&self, bytes: &str) {
        send(&self.path().join("log/supervise/control"), bytes);
    }

    /// The text `stat`, or nothing as long as the other two files, which are replaced one after the other, do not
    /// say the same.
    pub fn stat(&self) -> String {
        self.stat_below("supervise", self.pid())
    }

    /// The same of the log service.
    pub fn log_stat(&self) -> String {
        self.stat_below("log/supervise", self.log_pid())
    }

    fn stat_below(&self, supervise: &str, pid: Option<i32>) -> String {
        let text = self.read(&format!("{supervise}/stat"));
        let bytes = fs::read(self.path().join(supervise).join("status")).unwrap_or_default();
        let status = <[u8; LEN]>::try_from(bytes).ok().and_then(|bytes| Status::decode(&bytes).ok());
        let agrees = |status: Status| {
            let recorded = status.pid.map(|pid| pid.as_raw_nonzero().get());
            // The record has one letter for both.
            status.text() == text.replace("want exit", "want down").as_bytes() && recorded == pid
        };
        if status.is_some_and(agrees) { text } else { String::new() }
    }

    pub fn pid(&self) -> Option<i32> {
        self.read("supervise/pid").trim().parse().ok()
    }

    pub fn log_pid(&self) -> Option<i32> {
        self.read("log/supervise/pid").trim().parse().ok()
    }

    pub fn status(&self) -> Status {
        let bytes: [u8; LEN] = fs::read(self.path().join("supervise/status")).unwrap().try_into().unwrap();
        Status::decode(&bytes).unwrap()
    }

    pub fn read(&self, name: &str) -> String {
        read(&self.path().join(name))
    }

    /// What runsv and the service wrote to standard output and error.
    pub fn said(&self) -> String {
        self.root.read("err")
    }

    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path().join(name)).unwrap().permissions().mode() & 0o7777
    }

    pub fn runsv(&mut self) -> &mut Running {
        self.runsv.as_mut().unwrap()
    }

    /// Waits for the end of runsv.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let mut code = None;
        eventually("runsv ended", || {
            code = self.runsv.as_mut().unwrap().ended();
            code.is_some()
        });
        code.unwrap()
    }

    /// `sv` with these words and the service's directory.
    pub fn sv(&self, words: &[&str]) -> Outcome {
        run("sv").args(words).arg("./s").dir(self.root.path()).go()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let pids = [self.pid(), self.log_pid()];
        let Some(runsv) = &mut self.runsv else { return };
        if runsv.ended().is_none() {
            runsv.signal(SIGKILL);
            let _ = runsv.0.wait();
            // Without runsv the files say what runs. It was ours a moment ago.
            for pid in pids.into_iter().flatten().filter(|&pid| is_alive(pid)) {
                kill(pid, SIGKILL);
            }
        }
    }
}

/// Opens a FIFO for writing if it has a reader. A plain open would wait for one for ever.
pub fn open_fifo(path: &Path) -> Option<fs::File> {
    fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()
}

#[track_caller]
pub fn send(path: &Path, bytes: &str) {
    open_fifo(path).expect("no reader").write_all(bytes.as_bytes()).unwrap();
}

/// A directory of service directories, and the runsvdir that serves it.
pub struct Tree {
    pub root: TempDir,
    runsvdir: Option<Running>,
}

impl Tree {
    /// An empty one: `sv` for definitions, `service` for what is enabled.
    pub fn new() -> Self {
        let root = TempDir::new();
        for dir in ["sv", "service"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        Tree { root, runsvdir: None }
    }

    pub fn define(&self, name: &str, run: &str) {
        self.root.script(&format!("sv/{name}/run"), run);
    }

    pub fn link(&self, name: &str) {
        std::os::unix::fs::symlink(format!("../sv/{name}"), self.root.join(&format!("service/{name}")))
            .unwrap();
    }

    /// A service that runs until it is told to end, defined and enabled.
    pub fn sleeper(&self, name: &str) {
        self.define(name, "exec sleep 1000");
        self.link(name);
    }

    pub fn unlink(&self, name: &str) {
        fs::remove_file(self.root.join(&format!("service/{name}"))).unwrap();
    }

    pub fn start(&mut self) {
        self.start_with(&["service"]);
    }

    pub fn start_with(&mut self, args: &[&str]) {
        let run = run("runsvdir").args(args).dir(self.root.path());
        self.runsvdir = Some(run.start(&self.root.join("err")));
    }

    pub fn runsvdir(&mut self) -> &mut Running {
        self.runsvdir.as_mut().unwrap()
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        let dir = self.root.join(&format!("sv/{name}/supervise"));
        open_fifo(&dir.join("ok"))?;
        read(&dir.join("pid")).trim().parse().ok()
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.pid(name).is_some_and(is_alive)
    }

    pub fn said(&self) -> String {
        self.root.read("err")
    }

    /// The process that supervises a service.
    pub fn runsv_of(&self, name: &str) -> Option<i32> {
        let parent = parent_of(self.pid(name)?)?;
        is_alive(parent).then_some(parent)
    }

    pub fn sv(&self, words: &[&str]) -> Outcome {
        run("sv").args(words).env("SVDIR", self.root.join("service")).dir(self.root.path()).go()
    }

    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let mut code = None;
        eventually("runsvdir ended", || {
            code = self.runsvdir.as_mut().unwrap().ended();
            code.is_some()
        });
        code.unwrap()
    }
}

pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(runsvdir) = &mut self.runsvdir
            && runsvdir.ended().is_none()
        {
            runsvdir.signal(SIGKILL);
            let _ = runsvdir.0.wait();
        }
        for service in fs::read_dir(self.root.join("sv")).unwrap().flatten().map(|entry| entry.path()) {
            for part in ["supervise", "log/supervise"] {
                let pid =
                    || read(&service.join(part).join("pid")).trim().parse().ok().filter(|&pid| is_alive(pid));
                // First whoever would start it again, while its child still names it.
                if open_fifo(&service.join(part).join("ok")).is_some() {
                    if let Some(runsv) = pid().and_then(parent_of).filter(|&runsv| runsv > 1) {
                        kill(runsv, SIGKILL);
                    } else if let Some(mut control) = open_fifo(&service.join(part).join("control")) {
                        let _ = control.write_all(b"x");
                    }
                }
                if let Some(pid) = pid() {
                    kill(pid, SIGKILL);
                }
            }
        }
    }
}
