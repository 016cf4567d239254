//! A root file system of its own, and process 1 in it, with a terminal as its console.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::*;

/// Reads `/usr` of the machine, and has our programs in `/sbin`.
pub struct Root {
    dir: TempDir,
    /// Words before the program, inside: `setpriv …`.
    before: String,
    read_only: bool,
    /// Whether `/run` can be written.
    run: bool,
    devices: bool,
}

/// Makes the mounts and becomes process 1. `$1` is the root; the terminal is ours.
const SET_UP: &str = r#"
R=$1; shift
mount --bind "$R" "$R"
mount --rbind /usr "$R/usr"
mount -t proc proc "$R/proc"
: >"$R/sbin/runitbox"; mount --bind "$EXECUTABLE" "$R/sbin/runitbox"
chroot "$R" /sbin/runitbox --install --with-init /sbin >/dev/null
if [ "$DEVICES" = 1 ]; then
	mount -t tmpfs tmpfs "$R/dev"
	for d in null zero tty; do : >"$R/dev/$d"; mount --bind /dev/$d "$R/dev/$d"; done
	mkdir -m 1777 "$R/dev/shm"
	: >"$R/dev/console"; mount --bind "$(tty)" "$R/dev/console"
fi
[ "$RUN" = 1 ] && mount -t tmpfs -o mode=1777 tmpfs "$R/run"
[ "$READ_ONLY" = 1 ] && mount -o remount,bind,ro "$R"
cd /
exec $BEFORE chroot "$R" $INSIDE "$@"
"#;

/// The case needs to start a [`Machine`]: the mounts of its root need root, not only namespaces.
#[track_caller]
pub fn needs_machine() {
    needs_root();
    needs_namespaces();
}

impl Root {
    /// With the directories of a small system, and no service.
    pub fn new() -> Self {
        let dir = TempDir::new();
        for name in ["bin", "sbin", "usr", "proc", "dev", "run", "tmp", "etc/runit", "etc/service", "var/log"]
        {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        for (name, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64"), ("bin/sh", "/usr/bin/sh")] {
            symlink(target, dir.join(name)).unwrap();
        }
        fs::write(dir.join("set-up"), SET_UP).unwrap();
        Root { dir, before: String::new(), read_only: false, run: true, devices: true }
    }

    /// Writes a shell script.
    pub fn script(self, name: &str, body: &str) -> Self {
        self.dir.script(name, &format!("PATH=/sbin:/usr/sbin:/usr/bin:/bin; export PATH\n{body}"));
        self
    }

    /// Writes a file.
    pub fn file(self, name: &str, content: &str) -> Self {
        self.dir.file(name, content);
        self
    }

    /// Makes a symbolic link.
    pub fn link(self, name: &str, target: &str) -> Self {
        symlink(target, self.dir.join(name)).unwrap();
        self
    }

    /// A service that says when it begins and ends, and takes a moment over the end.
    pub fn graceful(self, name: &str) -> Self {
        let body = format!(
            "trap 'sleep 0.1; echo {name} ends; exit 0' TERM\necho {name} begins\nwhile :; do sleep 0.02; done"
        );
        self.script(&format!("etc/service/{name}/run"), &body)
    }

    /// Stages as the manual has them; `one` and `three` are more lines of those.
    pub fn stages(self, one: &str, three: &str) -> Self {
        self.script("etc/runit/1", &format!("echo stage 1\n{one}"))
            .script("etc/runit/2", "echo stage 2\nexec runsvdir -P /etc/service")
            .script(
                "etc/runit/3",
                &format!("echo stage 3\n{three}\nset -- /etc/service/*\n[ -d \"$1\" ] && sv -w60 force-stop \"$@\" && sv exit \"$@\"\necho stage 3 done"),
            )
    }

    /// What the program is started with inside: `setpriv --reuid 1000 …`.
    pub fn started_by(mut self, words: &str) -> Self {
        self.before = words.to_owned();
        self
    }

    /// The root cannot be written.
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Nothing is mounted at `/run`.
    pub const fn without_run(mut self) -> Self {
        self.run = false;
        self
    }

    /// `/dev` is empty.
    pub const fn without_devices(mut self) -> Self {
        self.devices = false;
        self
    }

    /// Where something in it is, seen from outside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts `words` as process 1.
    pub fn boot(self, words: &[&str]) -> Machine {
        let flag = |set: bool| if set { "1" } else { "0" };
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let command = format!(
            "exec unshare --pid --fork --mount --uts --ipc --propagation private --kill-child sh -e {}/set-up {} {}",
            self.dir.path().display(),
            self.dir.path().display(),
            words.join(" ")
        );
        let script = Command::new("script")
            .args(["-qefc", &command, self.dir.join("console").to_str().unwrap()])
            .env("EXECUTABLE", executable())
            .env("DEVICES", flag(self.devices))
            .env("RUN", flag(self.run))
            .env("READ_ONLY", flag(self.read_only))
            .env("BEFORE", "")
            .env("INSIDE", &self.before)
            .env_remove("CI")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut machine = Machine { root: self, script, init: 0 };
        let names = ["runit", "runsvinit"];
        eventually("process 1", || {
            machine.init = descendants(i32::try_from(machine.script.id()).unwrap())
                .into_iter()
                .find(|&pid| names.contains(&process_name(pid).as_str()))
                .unwrap_or(0);
            machine.init != 0 || machine.script.try_wait().unwrap().is_some()
        });
        machine
    }
}

fn descendants(pid: i32) -> Vec<i32> {
    children_of(pid).into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// A root with its process 1.
pub struct Machine {
    /// Its root file system.
    pub root: Root,
    script: Child,
    /// Its process 1, as it is called outside.
    pub init: i32,
}

impl Machine {
    /// What was written to the console, with plain line ends and without the lines of `script` itself.
    pub fn console(&self) -> String {
        let text = read(self.root.path("console")).replace('\r', "");
        text.lines()
            .filter(|line| !line.starts_with("Script "))
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// Waits until this is on the console.
    #[track_caller]
    pub fn shows(&self, what: &str) {
        if !holds_soon(|| self.console().contains(what)) {
            panic!("never said: {what}\n--- console:\n{}", self.console());
        }
    }

    /// The text of a file; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        read(self.root.path(name))
    }

    /// Sends process 1 a signal from outside.
    pub fn signal(&self, signal: i32) {
        kill(self.init, signal);
    }

    /// Types on the terminal.
    pub fn types(&mut self, text: &str) {
        self.script.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Runs a command inside, as another process of the machine.
    pub fn inside(&self, command: &str) -> Outcome {
        Command::new("nsenter")
            .args(["-t", &self.init.to_string(), "-p", "-m", "-u", "-i"])
            .arg(format!("-r/proc/{}/root", self.init))
            .arg(format!("-w/proc/{}/root", self.init))
            .args(["sh", "-c", &format!("PATH=/sbin:/usr/bin; {command}")])
            .env_remove("CI")
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    /// The same for a command that ends the machine, which may kill it before it has ended by itself.
    #[track_caller]
    pub fn told_to_end(&self, command: &str) {
        let outcome = self.inside(command);
        let is_done = matches!(outcome.code, Some(0 | 137)) && outcome.err.is_empty();
        assert!(is_done, "{command}: {outcome:?}\n--- console:\n{}", self.console());
    }

    /// How process 1 ended: its code, or 128 and the signal. The kernel tells a restart by HUP and a halt by INT.
    #[track_caller]
    pub fn ends(&mut self) -> i32 {
        let mut status = None;
        let ended = holds_soon(|| {
            status = self.script.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            panic!("never ended\n--- console:\n{}", self.console());
        }
        status.unwrap().code().unwrap()
    }

    /// Whether process 1 has ended.
    pub fn has_ended(&mut self) -> bool {
        self.script.try_wait().unwrap().is_some()
    }

    /// The states of the children of process 1.
    pub fn children(&self) -> Vec<char> {
        states_of_children(self.init)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.script.try_wait().unwrap().is_none() {
            // With process 1 the kernel ends all that is in the namespace.
            if self.init != 0 {
                kill(self.init, SIGKILL);
            }
            let _ = self.script.kill();
            let _ = self.script.wait();
        }
    }
}
