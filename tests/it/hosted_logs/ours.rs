//! Logs of services without `log/run`, under `runsv` and under `runsvinit`.

mod instances;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::time::Duration;

use support::*;

/// Which program supervises the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Runsv,
    Runsvinit,
}

const BOTH: [By; 2] = [By::Runsv, By::Runsvinit];

/// Prints numbered lines until TERM, then a last one.
const COUNTS: &str = "n=0; trap 'echo last; exit' TERM; while :; do n=$((n+1)); echo $n; sleep 0.001; done";

/// A supervisor of `sv/s`, and under runsvinit of what else is in `sv`.
struct Hosted {
    root: TempDir,
    by: By,
    supervisor: Option<Running>,
}

impl Hosted {
    /// A service with this `./run`, and an empty directory `log`.
    fn new(by: By, run: &str) -> Self {
        let root = TempDir::new();
        root.script("sv/s/run", run);
        fs::create_dir(root.join("sv/s/log")).unwrap();
        Hosted { root, by, supervisor: None }
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.root.file(name, content);
        self
    }

    fn script(self, name: &str, body: &str) -> Self {
        self.root.script(name, body);
        self
    }

    /// Starts the supervisor.
    fn begin(mut self) -> Self {
        let supervisor = match self.by {
            By::Runsv => run("runsv").arg("sv/s"),
            By::Runsvinit => run("runsvinit").args(&["-w", "20", "sv"]),
        };
        self.supervisor = Some(supervisor.dir(self.root.path()).start(&self.root.join("err")));
        self
    }

    /// Starts the supervisor, and waits for the log service.
    fn start(self) -> Self {
        let hosted = self.begin();
        hosted.waits_for_log();
        hosted
    }

    fn waits_for_log(&self) {
        eventually("up", || self.log_pid().is_some() && self.stat("s/log") == "run\n");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join("sv/s").join(name)
    }

    fn stat(&self, name: &str) -> String {
        self.root.read(&format!("sv/{name}/supervise/stat"))
    }

    fn log_pid(&self) -> Option<i32> {
        read(self.path("log/supervise/pid")).trim().parse().ok()
    }

    fn current(&self) -> String {
        read(self.path("log/current"))
    }

    fn send(&self, bytes: &str) {
        send(&self.path("supervise/control"), bytes);
    }

    fn send_log(&self, bytes: &str) {
        send(&self.path("log/supervise/control"), bytes);
    }

    fn sv(&self, words: &[&str]) -> Outcome {
        run("sv").args(words).arg("./s").env("SVWAIT", PATIENCE).dir(&self.root.join("sv")).go()
    }

    fn messages(&self) -> String {
        self.root.read("err")
    }

    /// The old logs in a directory, the oldest first.
    fn old(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with('@')).collect();
        names.sort();
        names
    }

    /// All logs in `log`, joined.
    fn all(&self) -> String {
        let old = self.old("log").into_iter().map(|name| read(self.path("log").join(name)));
        old.chain([self.current()]).collect()
    }

    /// Ends the supervisor in order.
    fn ends(&mut self) {
        let supervisor = self.supervisor.as_mut().unwrap();
        supervisor.signal(SIGTERM);
        assert_eq!(supervisor.exit_code(), 0);
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        let pids = ["supervise", "log/supervise"].map(|at| read(self.path(at).join("pid")));
        let Some(supervisor) = &mut self.supervisor else { return };
        if supervisor.ended().is_none() {
            supervisor.kill();
            for pid in pids.iter().filter_map(|pid| pid.trim().parse().ok()).filter(|&pid| is_alive(pid)) {
                kill(pid, SIGKILL);
            }
        }
    }
}

/// The numbers in lines, without a last word.
fn numbers(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[track_caller]
fn assert_complete(text: &str) {
    let found = numbers(text);
    let expected: Vec<u64> = (1..=found.len() as u64).collect();
    assert_eq!(found, expected);
}

#[test]
fn files_are_as_svlogd_makes_them() {
    for by in BOTH {
        let mut hosted =
            Hosted::new(by, "echo one; trap 'echo two; exit' TERM; while :; do sleep 0.02; done")
                .file("sv/s/log/config", "s1m\n")
                .start();
        eventually("written", || hosted.current() == "one\n");
        let mode = |name: &str| fs::metadata(hosted.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("log/current"), mode("log/lock")), (0o644, 0o600));
        let status = hosted.sv(&["status"]).out;
        assert!(status.starts_with("run: ./s: (pid ") && status.contains("; run: log: (pid "), "{status}");
        assert_eq!(process_name(hosted.log_pid().unwrap()), "svlogd");
        hosted.ends();
        assert_eq!(hosted.current(), "one\ntwo\n", "{by:?}");
        let mode = fs::metadata(hosted.path("log/current")).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, hosted.messages().as_str()), (0o744, ""), "{by:?}");
    }
}

#[test]
fn config_has_the_timestamp_and_all_that_svlogd_knows() {
    for by in BOTH {
        let hosted = Hosted::new(by, "seq 1000; exec sleep 1000")
            .file("sv/s/log/config", "s5000\nn2\nttt\npweb: \n-web: 99*\n-99*\n")
            .start();
        eventually("written", || hosted.current().contains("web: 1000\n"));
        let current = hosted.current();
        let line = current.lines().last().unwrap();
        assert!(
            line.len() == 26 + 9 && line.as_bytes()[10] == b'T' && line.ends_with(" web: 1000"),
            "{line}"
        );
        assert_eq!(hosted.old("log").len(), 2, "{by:?}");
        assert!(!hosted.all().contains("web: 998\n") && hosted.all().contains("web: 989\n"));
        // Read again at HUP.
        fs::write(hosted.path("log/config"), "n0\npx: \n").unwrap();
        hosted.send_log("h");
        hosted.send("t");
        eventually("without a stamp", || hosted.current().contains("\nx: 1000\n"));
        assert_eq!(hosted.messages(), "");
    }
}

#[test]
fn alrm_rotates_this_log_alone() {
    for by in BOTH {
        let hosted = Hosted::new(by, "echo one; exec sleep 1000").start();
        let pid = hosted.log_pid();
        eventually("written", || hosted.current() == "one\n");
        hosted.send_log("a");
        eventually("rotated", || hosted.old("log").len() == 1 && hosted.current().is_empty());
        assert_eq!(hosted.log_pid(), pid);
    }
}

#[test]
fn main_leads_to_the_directory_of_the_files() {
    for by in BOTH {
        let hosted = Hosted::new(by, "echo one; exec sleep 1000").file("sv/s/log/config", "pa: \n");
        fs::create_dir(hosted.root.join("elsewhere")).unwrap();
        symlink("../../../elsewhere", hosted.path("log/main")).unwrap();
        let hosted = hosted.start();
        eventually("written", || hosted.root.read("elsewhere/current") == "a: one\n");
        assert!(!hosted.path("log/current").exists());
    }
}

#[test]
fn messages_name_the_directory_of_the_files() {
    for by in BOTH {
        let hosted = Hosted::new(by, "echo one; exec sleep 1000").file("sv/s/log/config", "zz\n");
        symlink("../../../elsewhere", hosted.path("log/main")).unwrap();
        let hosted = hosted.begin();
        let told = |what: &str| eventually(what, || hosted.messages().contains(what));
        told("s/log/main: file does not exist");
        fs::create_dir(hosted.root.join("elsewhere")).unwrap();
        eventually("written", || hosted.root.read("elsewhere/current") == "one\n");
        told("s/log/config:1: ");
        fs::remove_dir_all(hosted.root.join("elsewhere")).unwrap();
        hosted.send_log("h");
        eventually("told again", || hosted.messages().matches("s/log/main: file does not exist").count() > 1);
    }
}

#[test]
fn commands_mean_what_they_mean_for_svlogd() {
    for by in BOTH {
        let hosted = Hosted::new(by, COUNTS).start();
        eventually("written", || numbers(&hosted.current()).len() > 10);
        hosted.send_log("d");
        eventually("down", || hosted.stat("s/log") == "down\n");
        let before = hosted.all();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(hosted.all(), before, "{by:?}");
        hosted.send_log("u");
        eventually("up again", || numbers(&hosted.all()).len() > numbers(&before).len() + 20);
        hosted.send_log("p");
        eventually("paused", || hosted.stat("s/log").contains("paused"));
        // The order is on its way.
        std::thread::sleep(Duration::from_millis(200));
        let length = hosted.all().len();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(hosted.all().len(), length, "{by:?}");
        hosted.send_log("c");
        eventually("continued", || hosted.all().len() > length + 100);
        hosted.send_log("t");
        eventually("started again", || hosted.all().len() > length + 1000);
        hosted.send("d");
        eventually("ended", || hosted.all().ends_with("last\n"));
        assert_complete(&hosted.all());
    }
}

#[test]
fn a_log_run_that_appears_takes_over_and_no_line_is_lost() {
    for by in BOTH {
        let mut hosted = Hosted::new(by, COUNTS).start();
        eventually("written", || numbers(&hosted.current()).len() > 10);
        let hosted_pid = hosted.log_pid();
        hosted.root.script("new/run", "exec cat >>got");
        fs::rename(hosted.root.join("new/run"), hosted.path("log/run")).unwrap();
        eventually("taken over", || numbers(&read(hosted.path("log/got"))).len() > 10);
        assert_ne!(hosted.log_pid(), hosted_pid);
        hosted.ends();
        let all = hosted.all() + &read(hosted.path("log/got"));
        assert!(all.ends_with("last\n"), "{by:?}");
        assert_complete(&all);
    }
}

#[test]
fn a_directory_that_is_being_filled_waits_for_its_run() {
    for by in BOTH {
        let hosted = Hosted::new(by, "exec sleep 1000");
        let hosted = hosted.script("sv/s/log/run", "exec cat >>got").start();
        // A second log directory, filled file by file, and later than the service.
        remove_served(hosted.path("log"));
        fs::create_dir(hosted.path("log")).unwrap();
        fs::write(hosted.path("log/config"), "s100\n").unwrap();
        hosted.root.script("sv/s/log/run", "echo started >>../starts; exec cat >>got");
        eventually("started", || read(hosted.path("starts")) == "started\n");
        assert!(!hosted.path("log/current").exists() && !hosted.path("log/lock").exists(), "{by:?}");
    }
}

#[test]
fn a_log_directory_that_appears_later_is_kept() {
    for by in BOTH {
        let hosted = Hosted::new(by, "echo one; exec sleep 1000");
        fs::remove_dir(hosted.path("log")).unwrap();
        let hosted = hosted.begin();
        eventually("up", || hosted.stat("s") == "run\n");
        fs::create_dir(hosted.path("log")).unwrap();
        eventually("kept", || hosted.stat("s/log") == "run\n");
        hosted.send("t");
        eventually("written", || hosted.current() == "one\n");
    }
}

#[test]
fn a_keeper_that_is_killed_loses_nothing_that_is_written_after() {
    for by in BOTH {
        let mut hosted = Hosted::new(by, COUNTS).start();
        for _ in 0..2 {
            eventually("written", || numbers(&hosted.current()).len() > 20);
            let pid = hosted.log_pid().unwrap();
            kill(pid, SIGKILL);
            eventually("started again", || hosted.log_pid().is_some_and(|new| new != pid));
            eventually("written", || numbers(&hosted.current()).len() > 20);
        }
        hosted.ends();
        let all = hosted.all();
        assert!(all.ends_with("last\n"), "{by:?}: {}", hosted.messages());
        let found = numbers(&all);
        assert!(found.is_sorted(), "{by:?}");
        // What it had read and not written: at most a block each time. With lines that come one by one, none.
        let lost = *found.last().unwrap() - found.len() as u64;
        assert!(lost <= 4, "{by:?}: {lost} lines lost");
    }
}

#[test]
fn the_account_in_user_owns_the_files() {
    needs_root();
    for by in BOTH {
        let hosted = Hosted::new(by, "echo one; exec sleep 1000").file("sv/s/log/user", "nobody\n");
        fs::create_dir(hosted.root.join("elsewhere")).unwrap();
        chown(hosted.root.join("elsewhere"), Some(65534), None).unwrap();
        symlink("../../../elsewhere", hosted.path("log/main")).unwrap();
        let hosted = hosted.start();
        eventually("written", || hosted.root.read("elsewhere/current") == "one\n");
        assert_eq!(fs::metadata(hosted.root.join("elsewhere/current")).unwrap().uid(), 65534);
        let status = fs::read_to_string(format!("/proc/{}/status", hosted.log_pid().unwrap())).unwrap();
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534\n"), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    }
}

#[test]
fn on_failure_reads_the_last_lines_of_a_log_of_the_account_in_user() {
    needs_root();
    for by in BOTH {
        let run = "echo one; until grep -q one ../../elsewhere/current; do sleep 0.1; done; exit 3";
        let hosted = Hosted::new(by, run)
            .file("sv/s/log/user", "nobody\n")
            .file("sv/s/restart", "never\n")
            .script("sv/s/on-failure", "cat >lines; echo end >>lines");
        fs::create_dir(hosted.root.join("elsewhere")).unwrap();
        chown(hosted.root.join("elsewhere"), Some(65534), None).unwrap();
        symlink("../../../elsewhere", hosted.path("log/main")).unwrap();
        let hosted = hosted.begin();
        let lines = || fs::read_to_string(hosted.path("lines")).unwrap_or_default();
        eventually("called", || lines().ends_with("end\n"));
        assert_eq!(lines(), "one\nend\n", "{by:?}");
    }
}

#[test]
fn an_unknown_account_is_reported_with_the_log_every_ten_seconds() {
    needs_root();
    for by in BOTH {
        let hosted = Hosted::new(by, "exec sleep 1000").file("sv/s/log/user", "nosuchuser\n").begin();
        let told = "s: fatal: log/user: nosuchuser: unknown user or group\n";
        eventually("told", || hosted.messages().ends_with(told));
        steadily("told once", Duration::from_millis(2500), || {
            hosted.messages().matches("fatal").count() == 1
        });
    }
}

#[test]
fn a_logger_reports_a_directory_that_cannot_be_opened_every_ten_seconds() {
    let hosted = Hosted::new(By::Runsvinit, "exec sleep 1000");
    symlink("../../../elsewhere", hosted.path("log/main")).unwrap();
    let hosted = hosted.begin();
    let told = |what: &str| hosted.messages().matches(what).count();
    let missing = "unable to open log directory: ";
    eventually("told", || told(missing) == 1);
    steadily("told once", Duration::from_millis(2500), || told(missing) == 1);
    // Something else is told at once, and so is the same after HUP.
    fs::create_dir_all(hosted.root.join("elsewhere/lock")).unwrap();
    eventually("told", || told("unable to lock directory: ") == 1);
    fs::remove_dir(hosted.root.join("elsewhere/lock")).unwrap();
    // Nothing more is made in it then.
    eventually("open", || hosted.root.join("elsewhere/current").exists());
    fs::remove_dir_all(hosted.root.join("elsewhere")).unwrap();
    hosted.send_log("h");
    eventually("told again", || told(missing) >= 2);
}

#[test]
fn whoever_owns_the_log_cannot_choose_to_be_root() {
    needs_root();
    for by in BOTH {
        let hosted = Hosted::new(by, "echo one; exec sleep 1000").file("sv/s/log/user", "root\n");
        chown(hosted.path("log/user"), Some(65534), None).unwrap();
        let hosted = hosted.begin();
        eventually("told", || hosted.messages().contains("unable to read log/user: "));
        assert!(!hosted.path("log/current").exists(), "{by:?}");
    }
}

/// Two services with such logs under one runsvinit.
fn two() -> Hosted {
    let hosted = Hosted::new(By::Runsvinit, COUNTS).script("sv/other/run", COUNTS);
    fs::create_dir(hosted.root.join("sv/other/log")).unwrap();
    hosted
}

#[test]
fn one_process_keeps_all_logs_and_a_removed_service_leaves_the_others() {
    let mut hosted = two().start();
    let other = || hosted.root.read("sv/other/log/supervise/pid").trim().parse::<i32>().ok();
    eventually("other is up", || other().is_some());
    assert_eq!(hosted.log_pid(), other());
    let logger = hosted.log_pid().unwrap();
    eventually("other has logged", || !hosted.root.read("sv/other/log/current").is_empty());
    fs::rename(hosted.root.join("sv/other"), hosted.root.join("away")).unwrap();
    eventually("its log is complete", || hosted.root.read("away/log/current").ends_with("last\n"));
    assert_complete(&hosted.root.read("away/log/current"));
    let before = hosted.all().len();
    eventually("the other goes on", || hosted.all().len() > before + 100);
    assert!(is_alive(logger));
    hosted.ends();
    assert!(!is_alive(logger), "{}", hosted.messages());
    assert_complete(&hosted.all());
}

#[test]
fn a_full_disk_stops_its_own_log_only() {
    let hosted = two();
    let mount =
        "mount -t tmpfs -o size=40k,mode=755 none full && dd if=/dev/zero of=full/filler bs=4k 2>/dev/null";
    fs::create_dir(hosted.root.join("full")).unwrap();
    let tried = run_file("/usr/bin/unshare").args(&["-m", "sh", "-c", "mount -t tmpfs none full"]);
    needs("root and mount namespaces (unshare -m)", tried.dir(hosted.root.path()).go().code == Some(0));
    symlink("../../../full", hosted.path("log/main")).unwrap();
    let script = format!("{mount}; exec runsvinit sv");
    let mut hosted = hosted;
    let unshare = run_file("/usr/bin/unshare").args(&["-m", "sh", "-c", &script]).dir(hosted.root.path());
    let unshare = unshare.env("PATH", path_variable());
    hosted.supervisor = Some(unshare.start(&hosted.root.join("err")));
    eventually("told", || hosted.messages().contains("pausing: unable to write to current"));
    let written = || hosted.root.read("sv/other/log/current");
    let before = written().len();
    eventually("the other is written", || written().len() > before + 1000);
    // The first waits, and goes on once there is room.
    let inside = format!(
        "/proc/{}/root{}",
        hosted.supervisor.as_ref().unwrap().pid(),
        hosted.root.join("full").display()
    );
    fs::remove_file(format!("{inside}/filler")).unwrap();
    eventually("written", || numbers(&read(format!("{inside}/current"))).len() > 10);
    assert_complete(&read(format!("{inside}/current")));
    hosted.ends();
}

#[test]
fn a_logger_that_is_stopped_holds_up_neither_commands_nor_the_stop() {
    let mut hosted = two().start();
    let logger = hosted.log_pid().unwrap();
    kill(logger, 19);
    for _ in 0..1000 {
        hosted.send_log("a");
    }
    assert_eq!(hosted.sv(&["stop"]).code, Some(0));
    assert_eq!(hosted.sv(&["start"]).code, Some(0));
    kill(logger, 18);
    hosted.ends();
}
