//! One service and its `runsv`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::*;

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

    /// Where its directory is.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The directory in which its directory is.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a script of it.
    pub fn script(self, name: &str, body: &str) -> Self {
        write_script(&self.path().join(name), body);
        self
    }

    /// Writes a file of it.
    pub fn file(self, name: &str, content: &str) -> Self {
        self.write(name, content);
        self
    }

    /// The same, for a service that is used on.
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

    /// Starts runsv, and waits until it serves or has ended.
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

    /// Whether a runsv reads its FIFO.
    pub fn is_served(&self) -> bool {
        open_fifo(&self.path().join("supervise/ok")).is_some()
    }

    /// Whether its files say that it runs.
    pub fn is_up(&self) -> bool {
        self.stat().starts_with("run") && self.pid().is_some()
    }

    /// Whether its files say that it is down.
    pub fn is_down(&self) -> bool {
        self.stat().starts_with("down")
    }

    /// Writes bytes to the control FIFO.
    pub fn send(&self, bytes: &str) {
        send(&self.path().join("supervise/control"), bytes);
    }

    /// Writes bytes to the control FIFO of the log service.
    pub fn send_log(&self, bytes: &str) {
        send(&self.path().join("log/supervise/control"), bytes);
    }

    /// The text `stat`; empty while it disagrees with the other two files, which runsv replaces one after the other.
    pub fn stat(&self) -> String {
        self.stat_below("supervise", self.pid())
    }

    /// The same of the log service; empty until it can be asked and told, too.
    pub fn log_stat(&self) -> String {
        match open_fifo(&self.path().join("log/supervise/ok")) {
            Some(_) => self.stat_below("log/supervise", self.log_pid()),
            None => String::new(),
        }
    }

    fn stat_below(&self, supervise: &str, pid: Option<i32>) -> String {
        let text = self.read(&format!("{supervise}/stat"));
        let bytes = fs::read(self.path().join(supervise).join("status")).unwrap_or_default();
        // The record has one letter for both.
        let agrees =
            |status: Status| status.text() == text.replace("want exit", "want down") && status.pid == pid;
        if Status::decode(&bytes).is_ok_and(agrees) { text } else { String::new() }
    }

    /// What the file `pid` has.
    pub fn pid(&self) -> Option<i32> {
        self.read("supervise/pid").trim().parse().ok()
    }

    /// What the file `pid` of the log service has.
    pub fn log_pid(&self) -> Option<i32> {
        self.read("log/supervise/pid").trim().parse().ok()
    }

    /// The process of the log service, which may start after that of the service.
    pub fn started_log(&self) -> i32 {
        eventually("the log service runs", || self.log_pid().is_some());
        self.log_pid().unwrap()
    }

    /// The record `status`.
    pub fn status(&self) -> Status {
        Status::decode(&fs::read(self.path().join("supervise/status")).unwrap()).unwrap()
    }

    /// The text of a file of it; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        read(self.path().join(name))
    }

    /// What runsv and the service wrote to standard output and error.
    pub fn messages(&self) -> String {
        self.root.read("err")
    }

    /// The permissions of a file of it.
    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path().join(name)).unwrap().permissions().mode() & 0o7777
    }

    /// Its runsv.
    pub fn runsv(&mut self) -> &mut Running {
        self.runsv.as_mut().unwrap()
    }

    /// Waits for the end of runsv.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        self.runsv().exit_code()
    }

    /// `sv` with these words and the service's directory, and with patience.
    pub fn sv(&self, words: &[&str]) -> Outcome {
        run("sv").args(words).arg("./s").env("SVWAIT", PATIENCE).dir(self.root.path()).go()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let pids = [self.pid(), self.log_pid()];
        let Some(runsv) = &mut self.runsv else { return };
        if runsv.ended().is_none() {
            runsv.kill();
            // Without runsv the files say what runs. It was ours a moment ago.
            for pid in pids.into_iter().flatten().filter(|&pid| is_alive(pid)) {
                kill(pid, SIGKILL);
            }
        }
    }
}
