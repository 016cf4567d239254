//! A directory of services and its `runsvdir`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::*;

/// A directory of service directories, and the runsvdir that serves it.
pub struct Tree {
    /// `sv` has the definitions, `service` the links to those that are enabled, `err` what was said.
    pub root: TempDir,
    runsvdir: Option<Running>,
    /// The program that serves it.
    supervisor: &'static str,
    /// It is Debian's.
    is_stock: bool,
}

/// Runs a case under `runsvdir`, which has a `runsv` for each service, and under `runsvinit`, which hosts all of them.
pub fn under_each_supervisor(case: impl Fn(&mut Tree)) {
    for supervisor in ["runsvdir", "runsvinit"] {
        eprintln!("under {supervisor}:");
        let mut tree = Tree::new();
        tree.supervisor = supervisor;
        case(&mut tree);
    }
}

/// The same, and under Debian's `runsvdir` and `runsv`, where that is installed. The case is told whether it is under those.
pub fn under_any_supervisor(case: impl Fn(&mut Tree, bool)) {
    under_each_supervisor(|tree| case(tree, false));
    if Path::new("/usr/bin/runsvdir").exists() {
        eprintln!("under stock:");
        let mut tree = Tree::new();
        tree.is_stock = true;
        case(&mut tree, true);
    }
}

impl Tree {
    /// An empty one.
    pub fn new() -> Self {
        let root = TempDir::new();
        for dir in ["sv", "service"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        Tree { root, runsvdir: None, supervisor: "runsvdir", is_stock: false }
    }

    /// Defines a service by its run script.
    pub fn define(&self, name: &str, run: &str) {
        self.root.script(&format!("sv/{name}/run"), run);
    }

    /// Enables a service.
    pub fn link(&self, name: &str) {
        symlink(format!("../sv/{name}"), self.root.join(&format!("service/{name}"))).unwrap();
    }

    /// Lets the link `name` lead to another definition, as `ln -sfn` does: it makes a link under another name and
    /// renames it.
    #[track_caller]
    pub fn switch(&self, name: &str, to: &str) {
        let link = self.root.join(&format!("service/{name}"));
        let made = run_file("/bin/ln").args(&["-sfn", &format!("../sv/{to}")]).arg(link).go();
        assert_eq!(made.code, Some(0), "{made:?}");
    }

    /// A service that runs until it is told to end, defined and enabled.
    pub fn sleeper(&self, name: &str) {
        self.define(name, "exec sleep 1000");
        self.link(name);
    }

    /// Disables a service.
    pub fn unlink(&self, name: &str) {
        fs::remove_file(self.root.join(&format!("service/{name}"))).unwrap();
    }

    /// Writes a file of a service.
    pub fn file(&self, service: &str, name: &str, content: &str) {
        self.root.file(&format!("sv/{service}/{name}"), content);
    }

    /// The text of a file of a service; empty if there is none.
    pub fn read(&self, service: &str, name: &str) -> String {
        self.root.read(&format!("sv/{service}/{name}"))
    }

    /// The line of `supervise/state` of a service that begins with this name, without it.
    pub fn fact(&self, service: &str, name: &str) -> Option<String> {
        let text = self.read(service, "supervise/state");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
    }

    /// Starts `runsvdir service`.
    pub fn start(&mut self) {
        self.start_with(&["service"]);
    }

    /// Starts runsvdir with these arguments.
    pub fn start_with(&mut self, args: &[&str]) {
        let run = match self.is_stock {
            true => run_file("/usr/bin/runsvdir").env("PATH", "/usr/bin:/bin"),
            false => run(self.supervisor),
        };
        let run = run.args(args).dir(self.root.path());
        self.runsvdir = Some(run.start(&self.root.join("err")));
    }

    /// Starts it by a shell command, which is to end with `exec "$@"`.
    pub fn start_by(&mut self, command: &str) {
        let run = run_file("/bin/sh").args(&["-c", command, "sh"]).arg(program(self.supervisor));
        self.runsvdir = Some(run.arg("service").dir(self.root.path()).start(&self.root.join("err")));
    }

    /// The program that serves it.
    pub const fn supervisor(&self) -> &'static str {
        self.supervisor
    }

    /// Its runsvdir.
    pub fn runsvdir(&mut self) -> &mut Running {
        self.runsvdir.as_mut().unwrap()
    }

    /// The process of a service that is supervised.
    pub fn pid(&self, name: &str) -> Option<i32> {
        let dir = self.root.join(&format!("sv/{name}/supervise"));
        open_fifo(&dir.join("ok"))?;
        read(dir.join("pid")).trim().parse().ok()
    }

    /// Whether a service is supervised and its process runs, and `status`, which stock writes last, says so.
    pub fn is_up(&self, name: &str) -> bool {
        let status = fs::read(self.root.join(&format!("sv/{name}/supervise/status"))).unwrap_or_default();
        let published = Status::decode(&status).ok().and_then(|status| status.pid);
        self.pid(name).is_some_and(|pid| is_alive(pid) && published == Some(pid))
    }

    /// What runsvdir and the services wrote to standard output and error.
    pub fn messages(&self) -> String {
        self.root.read("err")
    }

    /// The process that supervises a service.
    pub fn runsv_of(&self, name: &str) -> Option<i32> {
        let parent = parent_of(self.pid(name)?)?;
        is_alive(parent).then_some(parent)
    }

    /// `sv` with these words, on this tree, and with patience.
    pub fn sv(&self, words: &[&str]) -> Outcome {
        let sv = run("sv").args(words).env("SVDIR", self.root.join("service")).env("SVWAIT", PATIENCE);
        sv.dir(self.root.path()).go()
    }

    /// Waits for the end of runsvdir.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        self.runsvdir().exit_code()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(runsvdir) = &mut self.runsvdir {
            if self.supervisor == "runsvinit" {
                runsvdir.signal(SIGTERM);
                holds_soon(|| runsvdir.ended().is_some());
            }
            runsvdir.kill();
        }
        for service in fs::read_dir(self.root.join("sv")).unwrap().flatten().map(|entry| entry.path()) {
            let mut parts = vec!["supervise".to_owned(), "log/supervise".to_owned()];
            for part in parts.clone() {
                // Those of instances, if it is a template.
                let entries = fs::read_dir(service.join(&part)).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                parts.extend(names.filter(|name| name.starts_with('@')).map(|name| format!("{part}/{name}")));
            }
            for part in &parts {
                let pid =
                    || read(service.join(part).join("pid")).trim().parse().ok().filter(|&pid| is_alive(pid));
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
