//! Real containers, from images that hold little more than our executable.
//!
//! Needs podman with runc (Debian: podman runc conmon uidmap buildah), busybox-static for images with a shell, and root.
//! No image is pulled.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

mod kube;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::*;

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}

/// How long the engines wait before they kill, unless they are told otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// podman with storage and settings of our own.
struct Engine {
    dir: PathBuf,
}

/// Ready, with the images `services` and `shell`.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    needs_root();
    needs_program("podman");
    needs_program("runc");
    needs("busybox-static", Path::new("/bin/busybox").exists());
    ENGINE.get_or_init(Engine::new)
}

/// Soft and hard limits that an engine without more rights than we have may give.
fn limits() -> String {
    let limit = |option: &str| {
        let output = Command::new("sh").args(["-c", &format!("ulimit -H{option}")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap_or(u64::MAX)
    };
    let (files, processes) = (limit("n").min(20_000), limit("u").min(32_768));
    format!("[\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]")
}

impl Engine {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("containers");
        // What the last run left.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let settings = format!(
            "[containers]\ndefault_ulimits = {}\nnetns = \"none\"\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n",
            limits()
        );
        fs::write(dir.join("containers.conf"), settings).unwrap();
        let engine = Engine { dir };
        // The example of `etc/container/scratch`, with services that are static programs.
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/container/scratch/Dockerfile");
        let context = engine.context("services", &fs::read_to_string(example).unwrap());
        service(&context, "web", "say web begins\nwait");
        service(&context, "db", "say db begins\nwait");
        engine.build("services", &context);
        let context = engine.context(
            "shell",
            "FROM scratch\nCOPY runitbox /sbin/runitbox\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
             RUN [\"/sbin/runitbox\", \"--install\", \"-s\", \"/sbin\"]\nCOPY service /etc/service\n\
             ENTRYPOINT [\"/sbin/runsvinit\", \"-w\", \"4\", \"/etc/service\", \"--\"]\n",
        );
        fs::copy("/bin/busybox", context.join("busybox")).unwrap();
        write_script(
            &context.join("service/web/run"),
            "trap 'echo web ends; exit' TERM\necho web begins\nwhile :; do sleep 0.1; done",
        );
        engine.build("shell", &context);
        engine
    }

    fn context(&self, name: &str, dockerfile: &str) -> PathBuf {
        let context = self.dir.join(name);
        fs::create_dir_all(context.join("service")).unwrap();
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        fs::copy(executable(), context.join("runitbox")).unwrap();
        context
    }

    fn build(&self, name: &str, context: &Path) {
        let words = [
            "build",
            "-q",
            "--format",
            "docker",
            "--isolation",
            "chroot",
            "-t",
            name,
            context.to_str().unwrap(),
        ];
        let built = self.podman(&words);
        assert!(built.status.success(), "{built:?}");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
            .arg("--root")
            .arg(self.dir.join("root"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .args(["--storage-driver", "vfs"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    fn podman(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Starts a container in the background.
    fn run(&self, words: &[&str]) -> Container<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let started = self.podman(&[["run", "-d", "--name", &name].as_slice(), words].concat());
        assert!(started.status.success(), "{started:?}");
        Container { engine: self, name }
    }
}

fn service(context: &Path, name: &str, script: &str) {
    let dir = context.join("service").join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::copy(payload(), dir.join("run")).unwrap();
    fs::write(dir.join("script"), script).unwrap();
}

struct Container<'e> {
    engine: &'e Engine,
    name: String,
}

impl Container<'_> {
    fn messages(&self) -> String {
        let logs = self.engine.podman(&["logs", &self.name]);
        [logs.stdout, logs.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    }

    #[track_caller]
    fn shows(&self, what: &str) {
        assert!(holds_soon(|| self.messages().contains(what)), "never said: {what}\n--- {}", self.messages());
    }

    fn exec(&self, words: &[&str]) -> Outcome {
        self.engine.podman(&[["exec", &self.name].as_slice(), words].concat()).into()
    }

    /// `stop`, for a container in which nothing needs its time: it exits with 0, nothing is killed, and the grace is not
    /// used up. The engine alone may need seconds where the machine is busy.
    #[track_caller]
    fn stops_at_once(&self) {
        let (code, took) = self.stop();
        let said = self.messages();
        assert!(
            code == "0" && took < GRACE && !said.contains("did not end in time"),
            "{code} {took:?} {said}"
        );
    }

    /// `stop`: the exit code, and how long it took.
    fn stop(&self) -> (String, Duration) {
        let begin = Instant::now();
        let stopped = self.engine.podman(&["stop", "-t", &GRACE.as_secs().to_string(), &self.name]);
        assert!(stopped.status.success(), "{stopped:?}");
        let took = begin.elapsed();
        let code = self.engine.podman(&["inspect", "-f", "{{.State.ExitCode}}", &self.name]);
        (String::from_utf8(code.stdout).unwrap().trim().to_owned(), took)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.engine.podman(&["rm", "-f", "-t", "0", &self.name]);
    }
}

#[test]
fn the_example_is_healthy_is_controlled_and_stops_at_once() {
    let engine = engine();
    let container = engine.run(&["services"]);
    container.shows("web begins");
    container.shows("db begins");
    let health = engine.podman(&["healthcheck", "run", &container.name]);
    assert_eq!((health.status.code(), health.stdout.as_slice()), (Some(0), b"".as_slice()), "{health:?}");
    let restarted = container.exec(&["/sbin/sv", "restart", "web"]);
    assert!(restarted.code == Some(0) && restarted.out.starts_with("ok: run: web: (pid "), "{restarted:?}");
    // sv finds the tree by itself.
    assert!(container.exec(&["/sbin/sv", "status", "db"]).out.starts_with("run: db: (pid "));
    for _ in 0..4 {
        assert_eq!(container.exec(&["/sbin/sv", "-w", "60", "start", "web"]).code, Some(0));
        // Not asked for as far as the supervisor can see.
        let pid = container.exec(&["/sbin/sv", "status", "web"]).out;
        let pid = pid.split_once("(pid ").unwrap().1.split(')').next().unwrap().to_owned();
        let host = engine.podman(&["top", &container.name, "hpid", "pid"]);
        let table = String::from_utf8(host.stdout).unwrap();
        let line =
            table.lines().find(|line| line.split_whitespace().nth(1) == Some(&pid)).unwrap().to_owned();
        kill(line.split_whitespace().next().unwrap().parse().unwrap(), SIGKILL);
        eventually("another", || {
            !container.exec(&["/sbin/sv", "status", "web"]).out.contains(&format!("(pid {pid})"))
        });
    }
    assert_eq!(container.exec(&["/sbin/sv", "-w", "60", "start", "web"]).code, Some(0));
    let health = engine.podman(&["healthcheck", "run", &container.name]);
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    container.stops_at_once();
}

#[test]
fn a_service_that_ignores_term_does_not_use_up_the_grace() {
    let engine = engine();
    let container = engine.run(&[
        "shell",
        "sh",
        "-c",
        "mkdir -p /etc/service/deaf; printf '#!/bin/sh\\ntrap \"\" TERM\\necho deaf begins\\nwhile :; do sleep 0.1; done\\n' >/run/r; chmod 755 /run/r; mv /run/r /etc/service/deaf/run; trap 'exit 7' TERM; while :; do sleep 0.1; done",
    ]);
    container.shows("web begins");
    container.shows("deaf begins");
    let (code, took) = container.stop();
    let said = container.messages();
    assert_eq!(code, "7", "{said}");
    // Had the grace been used up, the engine would have killed it, with 137.
    assert!(took > Duration::from_secs(3), "{took:?}");
    assert!(
        said.contains("web ends")
            && said.contains("runsvinit deaf: warning: ./run did not end in time: killed"),
        "{said}"
    );
}

#[test]
fn read_only_without_capabilities_and_as_a_user_all_works() {
    let engine = engine();
    let strict =
        ["--read-only", "--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    // With and without a place under /run.
    for more in [vec!["--tmpfs", "/run"], vec!["--read-only-tmpfs=false"]] {
        let container = engine.run(&[strict.as_slice(), &more, &["services"]].concat());
        container.shows("web begins");
        assert_eq!(container.exec(&["/sbin/sv", "-w", "60", "restart", "web"]).code, Some(0));
        let health = container.exec(&["/sbin/sv", "health"]);
        assert_eq!((health.code, health.out.as_str()), (Some(0), ""), "{more:?} {health:?}");
        container.stops_at_once();
        assert!(!container.messages().contains("fatal"), "{}", container.messages());
    }
}

#[test]
fn a_shell_on_a_terminal_has_job_control_and_its_code_is_the_containers() {
    let engine = engine();
    let podman = engine.command(&["run", "--rm", "-it", "shell", "sh"]);
    let words: Vec<String> = podman.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let typescript = engine.dir.join("typescript");
    let mut script = Command::new("script")
        .args(["-qefc", &format!("exec podman {}", words.join(" ")), typescript.to_str().unwrap()])
        .env("CONTAINERS_CONF", engine.dir.join("containers.conf"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let shown = |text: &str| read(&typescript).contains(text);
    eventually("services", || shown("web begins"));
    eventually("a prompt", || shown("# "));
    keys.write_all(b"echo $((6*7)) control; jobs\n").unwrap();
    eventually("the shell", || shown("42 control"));
    assert!(!shown("can't access tty"), "{}", read(&typescript));
    keys.write_all(b"sleep 1000\n").unwrap();
    eventually("the echo", || shown("sleep 1000"));
    // Ctrl-C ends what runs and neither the shell nor a service.
    let mut asked = 0;
    eventually("interrupted", || {
        asked += 1;
        keys.write_all(format!("\x03echo after $((100+{asked}))\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        shown(&format!("after {}", 100 + asked))
    });
    keys.write_all(b"sv status web\nexit 3\n").unwrap();
    eventually("ended", || script.try_wait().unwrap().is_some());
    assert_eq!(script.wait().unwrap().code(), Some(3), "{}", read(&typescript));
    assert!(shown("run: web: (pid ") && shown("web ends"), "{}", read(&typescript));
}

#[test]
fn an_image_whose_entry_is_runsvdir_stops_in_order() {
    let engine = engine();
    let container = engine.run(&["--entrypoint", "[\"/sbin/runsvdir\",\"-P\",\"/etc/service\"]", "shell"]);
    container.shows("web begins");
    assert_eq!(container.exec(&["sv", "-w", "60", "restart", "web"]).code, Some(0));
    container.stops_at_once();
    assert_eq!(container.messages().matches("web ends").count(), 2, "{}", container.messages());
}

#[test]
fn beside_another_init_it_works_as_well() {
    let engine = engine();
    let catatonit = Path::new("/usr/bin/catatonit");
    needs_program("catatonit");
    let container = engine.run(&["--init", "--init-path", catatonit.to_str().unwrap(), "services"]);
    container.shows("web begins");
    assert_eq!(container.exec(&["/sbin/sv", "-w", "60", "restart", "web"]).code, Some(0));
    assert_eq!(container.exec(&["/sbin/runsvinit", "--halt", "42"]).code, Some(0));
    let code = engine.podman(&["wait", &container.name]);
    assert_eq!(String::from_utf8(code.stdout).unwrap().trim(), "42");
}

#[test]
fn redis_runs_as_its_own_user_in_an_image_without_a_shell() {
    let engine = engine();
    needs_program("redis-server");
    needs_program("redis-cli");
    let context = engine.context(
        "redis",
        "FROM scratch\nCOPY runitbox /sbin/runitbox\nRUN [\"/sbin/runitbox\", \"--install\", \"-s\", \"/sbin\"]\n\
         COPY root /\nCOPY --chown=59999:59999 data /data\nCOPY service /etc/service\n\
         ENTRYPOINT [\"/sbin/runsvinit\", \"--prefix\", \"/etc/service\", \"--\"]\n",
    );
    // The two programs, and the libraries that they are linked to.
    let root = context.join("root");
    let add = |file: &str| {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    };
    for program in ["/usr/bin/redis-server", "/usr/bin/redis-cli"] {
        add(program);
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        for word in String::from_utf8(libraries.stdout).unwrap().split_whitespace() {
            if word.starts_with('/') {
                add(word);
            }
        }
    }
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:\nredis:x:59999:59999::/data:\n").unwrap();
    fs::create_dir_all(context.join("data")).unwrap();
    let run = context.join("service/redis/run");
    fs::create_dir_all(run.parent().unwrap()).unwrap();
    let script = "#!/sbin/chpst -@\n# The account, and where the data is\n-u redis --stderr --umask 027 -C /data\n\
                  --caps -all --no-new-privs --own-output\n\
                  /usr/bin/redis-server --port 0 --unixsocket $SOCKET --save '' --logfile /dev/stdout\n";
    fs::write(&run, script).unwrap();
    fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    engine.build("redis", &context);
    let container = engine.run(&["-e", "SOCKET=/data/redis.sock", "redis"]);
    container.shows("redis | ");
    container.shows("ready to accept connections");
    let ping = container.exec(&["/usr/bin/redis-cli", "-s", "/data/redis.sock", "ping"]);
    assert_eq!((ping.code, ping.out.as_str()), (Some(0), "PONG\n"), "{ping:?}");
    assert_ne!(container.exec(&["/bin/sh", "-c", "true"]).code, Some(0), "there is no shell");
    let table = engine.podman(&["top", &container.name, "huser", "comm", "capeff"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let redis: Vec<&str> =
        table.lines().find(|line| line.contains("redis")).unwrap().split_whitespace().collect();
    assert_eq!((redis[0], *redis.last().unwrap()), ("59999", "none"), "{table}");
    container.stops_at_once();
    // It was told to end, and did.
    container.shows("bye bye");
}
