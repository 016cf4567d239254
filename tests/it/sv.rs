use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use support::*;

const USAGE: &str = "usage: sv [-v] [-w sec] command service ...\n\n";

/// `run: NAME: (pid 7) 0s, more` as `run: NAME: (pid P) Ss, more`: without what differs from run to run.
fn plain(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut after_pid = false;
    for word in line.split(' ') {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (body, end) = match word.find([',', ';', '\n', ')']) {
            Some(at) => word.split_at(at),
            None => (word, ""),
        };
        words.push(if after_pid && digits(body) {
            format!("P{end}")
        } else if body.strip_suffix('s').is_some_and(digits) {
            format!("Ss{end}")
        } else {
            word.to_owned()
        });
        after_pid = word == "(pid";
    }
    words.join(" ")
}

#[track_caller]
fn answers(outcome: &Outcome, code: i32, out: &str) {
    assert_eq!((plain(&outcome.out).as_str(), outcome.err.as_str(), outcome.code), (out, "", Some(code)));
}

#[test]
fn wrong_usage_is_said() {
    let service = Service::sleeper().up();
    for words in [&[][..], &["up"], &["-v"], &["-w", "5", "status"]] {
        let outcome = run("sv").args(words).go();
        assert_eq!(
            (outcome.code, outcome.err.as_str(), outcome.out.as_str()),
            (Some(100), USAGE, ""),
            "{words:?}"
        );
    }
    for word in ["r", "restar", "f", "force", "force-x", "z", "U", ""] {
        let outcome = service.sv(&[word]);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(100), USAGE), "{word}");
    }
}

#[test]
fn bad_options_are_said() {
    let outcome = run("sv").args(&["-x", "up", "s"]).go();
    assert_eq!((outcome.code, outcome.err), (Some(100), format!("sv: illegal option -- x\n{USAGE}")));
    let outcome = run("sv").args(&["-w"]).go();
    assert_eq!(
        (outcome.code, outcome.err),
        (Some(100), format!("sv: option requires an argument -- w\n{USAGE}"))
    );
}

#[test]
fn capital_v_says_the_version_and_the_usage() {
    let outcome = run("sv").arg("-V").go();
    assert_eq!(outcome.code, Some(100));
    assert!(outcome.err.ends_with(USAGE) && outcome.err.lines().count() == 3, "{}", outcome.err);
}

#[test]
fn status_of_a_running_service() {
    let service = Service::sleeper().up();
    answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss\n");
    assert!(service.sv(&["status"]).out.contains(&format!("(pid {}) ", service.pid().unwrap())));
}

#[test]
fn status_of_a_service_that_is_down() {
    let service = Service::sleeper().file("down", "").supervised();
    answers(&service.sv(&["status"]), 0, "down: ./s: Ss\n");
    service.send("u");
    eventually("up", || service.is_up());
    answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss, normally down\n");
    fs::remove_file(service.path().join("down")).unwrap();
    service.send("d");
    eventually("down", || service.is_down());
    answers(&service.sv(&["status"]), 0, "down: ./s: Ss, normally up\n");
}

#[test]
fn status_of_a_service_in_its_delay() {
    let service = Service::new().script("run", "echo x >>../starts").supervised();
    // It is there for a second, and then for a moment not.
    eventually("shown", || plain(&service.sv(&["status"]).out) == "down: ./s: Ss, normally up, want up\n");
}

#[test]
fn status_of_a_service_that_got_term() {
    let service = Service::stubborn().up();
    eventually("trap is set", || read(service.root().join("starts")) == "started\n");
    service.send("d");
    eventually("shown", || service.stat().contains("got TERM"));
    answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss, want down, got TERM\n");
}

#[test]
fn status_of_a_paused_service() {
    let service = Service::sleeper().up();
    service.send("p");
    eventually("paused", || service.stat().contains("paused"));
    answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss, paused\n");
}

#[test]
fn status_of_a_service_that_finishes() {
    let service = Service::sleeper().script("finish", "exec sleep 1000").up();
    service.send("d");
    eventually("finishing", || service.stat() == "finish, want down\n" && service.pid().is_some());
    answers(&service.sv(&["status"]), 0, "finish: ./s: (pid P) Ss, want down\n");
}

#[test]
fn status_tells_of_the_log_service() {
    let service = Service::sleeper().logged().up();
    eventually("log up", || service.log_stat() == "run\n");
    answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss; run: log: (pid P) Ss\n");
    service.send_log("d");
    eventually("log down", || service.log_stat() == "down\n");
    answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss; down: log: Ss, normally up\n");
}

#[test]
fn status_of_the_log_service_alone() {
    let service = Service::sleeper().logged().up();
    eventually("log up", || service.log_stat() == "run\n");
    let outcome = run("sv").args(&["status", "./s/log"]).dir(service.root()).go();
    answers(&outcome, 0, "run: ./s/log: (pid P) Ss\n");
}

#[test]
fn status_of_several_services() {
    let tree = {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.sleeper("b");
        tree.start();
        eventually("up", || tree.is_up("a") && tree.is_up("b"));
        tree
    };
    let outcome = tree.sv(&["status", "a", "nosuch", "b", "none"]);
    let lines: Vec<String> = outcome.out.lines().map(plain).collect();
    let expected = [
        "run: a: (pid P) Ss",
        "fail: nosuch: unable to change to service directory: file does not exist",
        "run: b: (pid P) Ss",
        "fail: none: unable to change to service directory: file does not exist",
    ];
    assert_eq!((lines, outcome.code), (expected.map(str::to_owned).to_vec(), Some(2)));
}

#[test]
fn the_exit_code_counts_to_99() {
    let names: Vec<String> = (0..120).map(|number| format!("/nowhere/{number}")).collect();
    assert_eq!(run("sv").arg("status").args(&names).go().code, Some(99));
}

#[test]
fn a_directory_without_supervise_is_said() {
    let service = Service::sleeper();
    let expected = "warning: ./s: unable to open supervise/ok: file does not exist\n";
    answers(&service.sv(&["status"]), 1, expected);
}

#[test]
fn a_directory_that_is_not_there_is_said() {
    let root = TempDir::new();
    root.file("file", "");
    let go = |name: &str| run("sv").args(&["status", name]).dir(root.path()).go();
    answers(&go("./none"), 1, "fail: ./none: unable to change to service directory: file does not exist\n");
    answers(&go("./file"), 1, "fail: ./file: unable to change to service directory: not a directory\n");
    answers(&go(""), 1, "fail: : unable to change to service directory: file does not exist\n");
}

#[test]
fn an_empty_svdir_leads_nowhere() {
    let outcome = run("sv").args(&["status", "a"]).env("SVDIR", "").go();
    answers(&outcome, 1, "fail: a: unable to change to service directory: file does not exist\n");
}

#[test]
fn a_runsv_that_is_gone_is_said() {
    let mut service = Service::sleeper().up();
    service.send("x");
    service.exit_code();
    answers(&service.sv(&["status"]), 1, "fail: ./s: runsv not running\n");
    answers(&service.sv(&["up"]), 1, "fail: ./s: runsv not running\n");
    answers(&service.sv(&["start"]), 1, "fail: ./s: runsv not running\n");
    answers(&service.sv(&["exit"]), 0, "ok: ./s: runsv not running\n");
    answers(&service.sv(&["shutdown"]), 0, "ok: ./s: runsv not running\n");
}

#[test]
fn a_log_without_runsv_is_said() {
    let service = Service::sleeper().up();
    // A log/run that cannot be executed yet: without one, this suite would keep the log itself.
    service.write("log/run", "");
    let outcome = service.sv(&["status"]);
    let first = "run: ./s: (pid P) Ss; warning: ./s/log: unable to open supervise/ok: file does not exist";
    let stale = differs("\n", "; run: log: (pid P) Ss\n", "a line about nothing follows in stock");
    let out = plain(&outcome.out);
    assert!(out.starts_with(first) && (out.ends_with(stale) || reference().is_some()), "{out}");
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn commands_say_nothing_and_do_not_wait() {
    let service = Service::sleeper().up();
    for word in ["pause", "cont", "hup", "down", "up", "once", "c", "1"] {
        answers(&service.sv(&[word]), 0, "");
    }
}

#[test]
fn v_waits_and_says() {
    let service = Service::sleeper().up();
    answers(&service.sv(&["-v", "down"]), 0, "ok: down: ./s: Ss, normally up\n");
    assert!(service.is_down());
    answers(&service.sv(&["-v", "up"]), 0, "ok: run: ./s: (pid P) Ss\n");
    answers(&service.sv(&["-v", "pause"]), 0, "ok: run: ./s: (pid P) Ss, paused\n");
    answers(&service.sv(&["-v", "cont"]), 0, "ok: run: ./s: (pid P) Ss\n");
}

#[test]
fn w_waits_too() {
    let service = Service::sleeper().up();
    answers(&service.sv(&["-w60", "down"]), 0, "ok: down: ./s: Ss, normally up\n");
    answers(&service.sv(&["-w", "60", "start"]), 0, "ok: run: ./s: (pid P) Ss\n");
}

#[test]
fn start_and_stop_wait() {
    let service = Service::sleeper().file("down", "").supervised();
    answers(&service.sv(&["start"]), 0, "ok: run: ./s: (pid P) Ss, normally down\n");
    assert!(service.is_up());
    answers(&service.sv(&["stop"]), 0, "ok: down: ./s: Ss\n");
    assert!(service.is_down());
}

#[test]
fn restart_waits_for_the_new_process() {
    let service = Service::new().script("run", "exec sleep 1000").up();
    // Older than a second, so there is no delay.
    let begin = Instant::now();
    steadily("runs", Duration::from_millis(2100), || service.is_up());
    let old = service.pid().unwrap();
    let outcome = service.sv(&["restart"]);
    answers(&outcome, 0, "ok: run: ./s: (pid P) Ss\n");
    assert!(!is_alive(old), "{:?}", begin.elapsed());
    assert!(!outcome.out.contains(&old.to_string()));
}

#[test]
fn restart_of_a_service_that_is_down_starts_it() {
    let service = Service::sleeper().file("down", "").supervised();
    answers(&service.sv(&["restart"]), 0, "ok: run: ./s: (pid P) Ss, normally down\n");
}

#[test]
fn try_restart_of_a_service_that_is_down_leaves_it_down() {
    let service = Service::sleeper().file("down", "").supervised();
    answers(&service.sv(&["try-restart"]), 0, "ok: down: ./s: Ss\n");
}

#[test]
fn reload_sends_hup() {
    let service = Service::new()
        .script("run", "trap 'echo hup >>../hups' HUP; echo >../ready; while :; do sleep 0.02; done")
        .up();
    eventually("ready", || service.root().join("ready").exists());
    answers(&service.sv(&["reload"]), 0, "ok: run: ./s: (pid P) Ss\n");
    eventually("hup", || read(service.root().join("hups")) == "hup\n");
}

#[test]
fn shutdown_waits_for_runsv_to_leave() {
    let mut service = Service::sleeper().up();
    answers(&service.sv(&["shutdown"]), 0, "ok: ./s: runsv not running\n");
    assert!(!service.is_served());
    assert_eq!(service.exit_code(), 0);
}

#[test]
fn exit_with_w_waits_too() {
    let service = Service::sleeper().logged().up();
    answers(&service.sv(&["-w60", "exit"]), 0, "ok: ./s: runsv not running\n");
}

#[test]
fn a_service_that_ignores_term_makes_stop_time_out() {
    let service = Service::stubborn().up();
    eventually("trap is set", || read(service.root().join("starts")) == "started\n");
    answers(&service.sv(&["-w1", "stop"]), 1, "timeout: run: ./s: (pid P) Ss, want down, got TERM\n");
    assert!(service.is_up());
}

#[test]
fn force_stop_kills_when_the_time_is_over() {
    let service = Service::stubborn().up();
    eventually("trap is set", || read(service.root().join("starts")) == "started\n");
    answers(&service.sv(&["-w1", "force-stop"]), 1, "kill: run: ./s: (pid P) Ss, want down, got TERM\n");
    eventually("killed", || service.is_down());
}

#[test]
fn force_shutdown_kills_and_runsv_leaves() {
    for word in ["force-shutdown", "X", "E"] {
        let mut service = Service::stubborn().up();
        eventually("trap is set", || read(service.root().join("starts")) == "started\n");
        answers(&service.sv(&["-w1", word]), 1, "kill: run: ./s: (pid P) Ss, want down, got TERM\n");
        assert_eq!(service.exit_code(), 0, "{word}");
    }
}

#[test]
fn svwait_is_the_patience() {
    let service = Service::stubborn().up();
    eventually("trap is set", || read(service.root().join("starts")) == "started\n");
    promptly("an answer", Duration::from_secs(4), || {
        time_of(|| {
            let outcome = run("sv").args(&["stop", "./s"]).env("SVWAIT", "1").dir(service.root()).go();
            answers(&outcome, 1, "timeout: run: ./s: (pid P) Ss, want down, got TERM\n");
        })
    });
}

#[test]
fn a_check_that_agrees_lets_start_succeed() {
    let service = Service::sleeper()
        .file("down", "")
        .script("check", "[ -e ../ready ] && echo checked >>../checks")
        .supervised();
    fs::write(service.root().join("ready"), "").unwrap();
    answers(&service.sv(&["start"]), 0, "ok: run: ./s: (pid P) Ss, normally down\n");
    assert!(read(service.root().join("checks")).starts_with("checked\n"));
}

#[test]
fn a_check_that_does_not_agree_makes_start_time_out() {
    let service = Service::sleeper().script("check", "echo not yet >&2; exit 1").up();
    let outcome = service.sv(&["-w1", "start"]);
    assert_eq!((plain(&outcome.out).as_str(), outcome.code), ("timeout: run: ./s: (pid P) Ss\n", Some(1)));
    assert!(outcome.err.starts_with("not yet\n"), "{}", outcome.err);
}

#[test]
fn a_check_that_agrees_later_is_waited_for() {
    let service = Service::sleeper()
        .file("down", "")
        .script("check", "echo x >>../tries; [ $(wc -l <../tries) -ge 3 ]")
        .supervised();
    answers(&service.sv(&["start"]), 0, "ok: run: ./s: (pid P) Ss, normally down\n");
    assert!(read(service.root().join("tries")).lines().count() >= 3);
}

#[test]
fn a_check_that_cannot_be_executed_is_said_and_agrees() {
    let service = Service::sleeper().file("check", "").up();
    let outcome = service.sv(&["start"]);
    assert_eq!(plain(&outcome.out), "ok: run: ./s: (pid P) Ss\n");
    assert!(outcome.err.starts_with("warning: unable to run ./s/check: access denied\n"), "{}", outcome.err);
}

#[test]
fn the_check_runs_in_the_service_directory_without_standard_output() {
    let service =
        Service::sleeper().script("check", "[ -e /proc/$$/fd/1 ] && echo open >../open; pwd >../seen").up();
    assert_eq!(service.sv(&["start"]).code, Some(0));
    let seen = read(service.root().join("seen"));
    assert!(seen.starts_with(fs::canonicalize(service.path()).unwrap().to_str().unwrap()), "{seen}");
    assert!(!service.root().join("open").exists(), "standard output was open");
}

#[test]
fn check_of_a_running_service() {
    let service = Service::sleeper().script("check", "exit 0").up();
    answers(&service.sv(&["check"]), 0, "ok: run: ./s: (pid P) Ss\n");
}

#[test]
fn check_of_a_service_that_is_to_be_down() {
    let service = Service::sleeper().file("down", "").supervised();
    answers(&service.sv(&["check"]), 0, "ok: down: ./s: Ss\n");
}

#[test]
fn plain_names_are_looked_for_in_svdir() {
    let service = Service::sleeper().logged().up();
    eventually("log up", || service.log_stat() == "run\n");
    let go =
        |name: &str| run("sv").args(&["status", name]).env("SVDIR", service.root()).dir("/".as_ref()).go();
    answers(&go("s"), 0, "run: s: (pid P) Ss; run: log: (pid P) Ss\n");
    answers(&go("s/log"), 0, "run: s/log: (pid P) Ss\n");
    answers(&go("./s"), 1, "fail: ./s: unable to change to service directory: file does not exist\n");
    let absolute = service.path();
    let absolute = absolute.to_str().unwrap();
    answers(&go(absolute), 0, &format!("run: {absolute}: (pid P) Ss; run: log: (pid P) Ss\n"));
}

#[test]
fn a_name_with_a_slash_at_its_end_is_a_path() {
    let service = Service::sleeper().up();
    let outcome = run("sv").args(&["status", "s/"]).env("SVDIR", "/nowhere").dir(service.root()).go();
    answers(&outcome, 0, "run: s/: (pid P) Ss\n");
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let root = TempDir::new();
    let name = std::ffi::OsStr::from_bytes(b"./\xff\xfe");
    let outcome = run("sv").arg("status").arg(name).dir(root.path()).go();
    let shown = differs("fail: ./\\xff\\xfe: ", "fail: ./\u{fffd}", "what is not printable is escaped");
    assert!(outcome.out.starts_with(shown) && outcome.code == Some(1), "{}", outcome.out);
}

#[test]
fn several_services_are_stopped_and_told() {
    let mut tree = Tree::new();
    for name in ["a", "b", "c"] {
        tree.sleeper(name);
    }
    tree.start();
    eventually("up", || ["a", "b", "c"].iter().all(|name| tree.is_up(name)));
    let outcome = tree.sv(&["stop", "a", "b", "c"]);
    let mut lines: Vec<String> = outcome.out.lines().map(plain).collect();
    lines.sort();
    let expected = ["a", "b", "c"].map(|name| format!("ok: down: {name}: Ss, normally up"));
    assert_eq!((lines, outcome.code), (expected.to_vec(), Some(0)));
}

#[test]
fn an_init_script_controls_the_service_of_its_name() {
    let service = Service::sleeper().up();
    let script = service.root().join("init.d/s");
    fs::create_dir(service.root().join("init.d")).unwrap();
    symlink(bin().join("sv"), &script).unwrap();
    let go = |words: &[&str]| run_file(&script).args(words).env("SVDIR", service.root()).go();
    answers(&go(&["status"]), 0, "run: s: (pid P) Ss\n");
    answers(&go(&["stop"]), 0, "ok: down: s: Ss, normally up\n");
    answers(&go(&["status"]), 3, "down: s: Ss, normally up\n");
    answers(&go(&["start", "ignored"]), 0, "ok: run: s: (pid P) Ss\n");
    answers(&go(&["-w", "60", "restart"]), 0, "ok: run: s: (pid P) Ss\n");
    for words in [&[][..], &["stat"], &["nonsense"], &["-V"]] {
        let outcome = go(words);
        assert_eq!(outcome.code, Some(2), "{words:?}");
        assert!(outcome.err.ends_with("usage: s [-w sec] command\n\n"), "{}", outcome.err);
    }
}

#[test]
fn an_init_script_tells_of_a_missing_service() {
    let root = TempDir::new();
    let script = root.join("nosuch");
    symlink(bin().join("sv"), &script).unwrap();
    let outcome = run_file(&script).arg("status").env("SVDIR", root.join("service")).go();
    answers(&outcome, 1, "fail: nosuch: unable to change to service directory: file does not exist\n");
}

#[test]
fn an_init_script_tells_that_a_state_is_not_known() {
    let service = Service::sleeper();
    let script = service.root().join("scripts/s");
    fs::create_dir(service.root().join("scripts")).unwrap();
    symlink(bin().join("sv"), &script).unwrap();
    let go = || run_file(&script).arg("status").env("SVDIR", service.root()).go();
    answers(&go(), 4, "warning: s: unable to open supervise/ok: file does not exist\n");
    let fake = Fake::new(service);
    fs::write(fake.path("status"), "short").unwrap();
    let go = || run_file(&script).arg("status").env("SVDIR", fake.service.root()).go();
    answers(&go(), 4, "warning: s: unable to read supervise/status: bad format\n");
    let fake = fake.without_reader();
    let go = || run_file(&script).arg("status").env("SVDIR", fake.service.root()).go();
    answers(&go(), 1, "fail: s: runsv not running\n");
}

#[test]
fn any_other_first_word_makes_an_init_script_of_that_name() {
    use std::os::unix::process::CommandExt;
    let service = Service::sleeper().up();
    for (name, code, out) in [
        ("s", 0, "run: s: (pid P) Ss\n"),
        ("-s", 1, "fail: -s: unable to change to service directory: file does not exist\n"),
        ("/etc/init.d/s", 0, "run: s: (pid P) Ss\n"),
    ] {
        let mut sv = std::process::Command::new(bin().join("sv"));
        let output = sv.arg0(name).args(["status", "ignored"]).env("SVDIR", service.root()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let outcome =
            Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        answers(&outcome, code, out);
    }
}

/// A `supervise` directory, and a supervisor that does nothing by itself: it has the FIFOs open.
struct Fake {
    service: Service,
    control: Option<fs::File>,
    _ok: Option<fs::File>,
}

impl Fake {
    /// One whose status says that the service runs and is wanted up.
    fn new(service: Service) -> Self {
        let dir = service.path().join("supervise");
        fs::create_dir(&dir).unwrap();
        let fifo = |name: &str| {
            let path = dir.join(name);
            make_fifo(&path, 0o600);
            fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
        };
        let fake = Fake { _ok: Some(fifo("ok")), control: Some(fifo("control")), service };
        fake.publishes(true);
        fake
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.service.path().join("supervise").join(name)
    }

    /// Its status: it runs, or it is down; as wanted.
    fn publishes(&self, runs: bool) {
        let status = Status {
            since: stamp(1_700_000_000 + u64::from(runs)),
            pid: runs.then_some(77),
            paused: false,
            want: if runs { Want::Up } else { Want::Down },
            term: false,
            state: if runs { State::Run } else { State::Down },
        };
        fs::write(self.path("status.new"), status.encode()).unwrap();
        fs::rename(self.path("status.new"), self.path("status")).unwrap();
    }

    fn without_reader(self) -> Self {
        Fake { _ok: None, control: None, ..self }
    }

    /// Lets others in as far as is said.
    fn open_to_others(self, modes: &[(&str, u32)]) -> Self {
        for (name, mode) in modes {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(*mode)).unwrap();
        }
        self
    }
}

/// What is wrong, each with words that `sv` says it of at once; all is said as stock says it.
#[test]
fn what_cannot_be_used_is_said_as_runit_says_it() {
    needs_root();
    needs_stock("sv");
    let all = ["status", "start", "stop", "exit", "check", "up", "down", "x", "-v up", "-v down", "restart"];
    let harmless = ["status", "start", "check", "up", "-v up", "stop", "exit", "restart", "-v down"];
    let none = Service::sleeper();
    fs::remove_dir_all(none.path()).unwrap();
    let open = &[(".", 0o755), ("ok", 0o666), ("status", 0o644)];
    let ok_missing = Fake::new(Service::sleeper());
    fs::remove_file(ok_missing.path("ok")).unwrap();
    let control_missing = Fake::new(Service::sleeper());
    fs::remove_file(control_missing.path("control")).unwrap();
    let cases: [(&str, &Service, &[&str], bool); 7] = [
        ("no directory", &none, &all, false),
        ("no supervise", &Service::sleeper(), &all, false),
        ("no reader", &Fake::new(Service::sleeper()).without_reader().service, &all, false),
        ("no ok", &ok_missing.service, &all, false),
        ("no control", &control_missing.service, &harmless, false),
        (
            "no permission on supervise",
            &Fake::new(Service::sleeper()).open_to_others(&[(".", 0o700)]).service,
            &all,
            true,
        ),
        (
            "no permission on ok",
            &Fake::new(Service::sleeper()).open_to_others(&[(".", 0o755)]).service,
            &all,
            true,
        ),
    ];
    let denied = Fake::new(Service::sleeper()).open_to_others(open);
    let cases = cases.into_iter().chain([("no permission on control", &denied.service, &harmless[..], true)]);
    let mut wrong = Vec::new();
    for (what, service, lines, as_nobody) in cases {
        for line in lines {
            let go = |sv: std::path::PathBuf| {
                let words: Vec<&str> = line.split(' ').collect();
                let run =
                    if as_nobody { run("chpst").args(&["-u", "nobody"]).arg(sv) } else { run_file(&sv) };
                run.args(&words).arg("./s").dir(service.root()).go()
            };
            let (ours, stock) = (go(program("sv")), go("/usr/bin/sv".into()));
            if (plain(&ours.out), ours.code) != (plain(&stock.out), stock.code) {
                wrong.push(format!("{what}, {line}: {ours:?}, and stock {stock:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `sv` with no more than so many descriptors.
fn with_descriptors(limit: u32, words: &[&str], names: &[String]) -> Run {
    let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
    run_file("/bin/sh")
        .args(&["-c", &script])
        .arg(program("sv"))
        .args(words)
        .args(names)
        .env("SVWAIT", PATIENCE)
}

#[test]
fn forty_services_need_no_more_than_64_descriptors() {
    let names: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
    let mut tree = Tree::new();
    names.iter().for_each(|name| tree.sleeper(name));
    tree.start();
    eventually("up", || names.iter().all(|name| tree.is_up(name)));
    let go =
        |words: &[&str]| with_descriptors(64, words, &names).env("SVDIR", tree.root.join("service")).go();
    let all = |outcome: &Outcome, start: &str| {
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{}", outcome.out);
        assert_eq!(outcome.out.lines().filter(|line| line.starts_with(start)).count(), 40, "{}", outcome.out);
    };
    eventually("shown", || go(&["status"]).out.lines().all(|line| line.starts_with("run: ")));
    all(&go(&["status"]), "run: ");
    all(&go(&["stop"]), "ok: down: ");
    assert!(names.iter().all(|name| !tree.is_up(name)));
    all(&go(&["status"]), "down: ");
    all(&go(&["start"]), "ok: run: ");
    all(&go(&["-v", "exit"]), "ok: s");
}

mod ours {
    use super::*;

    #[test]
    fn the_log_service_does_not_hide_the_state_from_an_init_script() {
        let service = Service::sleeper().logged().up();
        let script = service.root().join("scripts/s");
        fs::create_dir(service.root().join("scripts")).unwrap();
        symlink(bin().join("sv"), &script).unwrap();
        service.send("d");
        eventually("down", || service.is_down());
        let outcome = run_file(&script).arg("status").env("SVDIR", service.root()).go();
        assert_eq!(outcome.code, Some(3), "{}", outcome.out);
    }

    #[test]
    fn an_init_script_of_a_service_called_like_an_applet_is_one() {
        let tree = {
            let mut tree = Tree::new();
            tree.sleeper("runsv");
            tree.start();
            eventually("up", || tree.is_up("runsv"));
            tree
        };
        let script = tree.root.join("init.d/runsv");
        fs::create_dir(tree.root.join("init.d")).unwrap();
        symlink("../hop", &script).unwrap();
        symlink(bin().join("sv"), tree.root.join("hop")).unwrap();
        let outcome = run_file(&script).arg("status").env("SVDIR", tree.root.join("service")).go();
        answers(&outcome, 0, "run: runsv: (pid P) Ss\n");
    }

    #[test]
    fn check_of_a_service_that_does_not_come_up_fails() {
        let service = Service::new().supervised();
        let outcome = service.sv(&["-w1", "check"]);
        assert_eq!(
            (plain(&outcome.out).as_str(), outcome.code),
            ("timeout: down: ./s: Ss, normally up, want up\n", Some(1))
        );
    }

    #[test]
    fn a_check_ended_by_a_signal_does_not_agree() {
        let service = Service::sleeper().script("check", "kill -9 $$").up();
        assert_eq!(service.sv(&["-w1", "start"]).code, Some(1));
    }

    #[test]
    fn a_check_that_hangs_does_not_outlast_our_patience() {
        let service = Service::sleeper().script("check", "exec sleep 1000").up();
        promptly("an answer", Duration::from_secs(5), || {
            time_of(|| {
                let outcome = service.sv(&["-w1", "start"]);
                assert_eq!(
                    (plain(&outcome.out).as_str(), outcome.code),
                    ("timeout: run: ./s: (pid P) Ss\n", Some(1))
                );
            })
        });
    }

    #[test]
    fn restart_within_the_second_of_the_start_waits_for_the_new_process() {
        let service = Service::sleeper().up();
        let old = service.pid().unwrap();
        answers(&service.sv(&["restart"]), 0, "ok: run: ./s: (pid P) Ss\n");
        assert!(!is_alive(old) && service.pid() != Some(old));
    }

    #[test]
    fn stop_never_says_down_of_a_service_that_runs() {
        let service = Service::stubborn().file("down", "").supervised();
        for round in 0..100 {
            assert_eq!(service.sv(&["up"]).code, Some(0));
            let outcome = run("sv").args(&["-w0", "stop", "./s"]).dir(service.root()).go();
            // A service that has not set its trap yet obeys, and then it is down indeed: before or after the answer.
            let expected = if service.is_up() { &[Some(1)][..] } else { &[Some(0), Some(1)] };
            assert!(expected.contains(&outcome.code), "round {round}: {outcome:?} {}", service.stat());
            service.send("dk");
            eventually("down", || service.stat() == "down\n");
        }
    }

    #[test]
    fn stop_is_told_at_once() {
        promptly("stop", Duration::from_millis(300), || {
            let service = Service::sleeper().up();
            time_of(|| assert_eq!(service.sv(&["stop"]).code, Some(0)))
        });
    }

    #[test]
    fn stop_of_a_service_that_is_down_is_told_at_once() {
        let service = Service::sleeper().file("down", "").supervised();
        promptly("stop", Duration::from_millis(300), || {
            time_of(|| answers(&service.sv(&["stop"]), 0, "ok: down: ./s: Ss\n"))
        });
    }

    #[test]
    fn no_more_time_than_asked_for_is_waited() {
        let service = Service::stubborn().up();
        eventually("trap is set", || read(service.root().join("starts")) == "started\n");
        promptly("stop", Duration::from_millis(1300), || {
            let waited = time_of(|| assert_eq!(service.sv(&["-w1", "stop"]).code, Some(1)));
            assert!(waited >= Duration::from_millis(990), "{waited:?}");
            waited
        });
    }

    #[test]
    fn up_after_a_pending_down_is_not_lost() {
        let service = Service::stubborn().up();
        eventually("trap is set", || read(service.root().join("starts")) == "started\n");
        assert_eq!(service.sv(&["down"]).code, Some(0));
        eventually("shown", || service.stat() == "run, got TERM, want down\n");
        assert_eq!(service.sv(&["up"]).code, Some(0));
        eventually("taken back", || service.stat() == "run, got TERM\n");
    }

    #[test]
    fn a_name_with_a_slash_at_its_end_is_a_path_for_waiting_too() {
        let service = Service::sleeper().up();
        let outcome = run("sv").args(&["stop", "s/"]).env("SVDIR", "/nowhere").dir(service.root()).go();
        answers(&outcome, 0, "ok: down: s/: Ss, normally up\n");
    }

    #[test]
    fn start_waits_for_a_service_that_was_just_linked() {
        let mut tree = Tree::new();
        tree.start();
        tree.sleeper("first");
        eventually("up", || tree.is_up("first"));
        for round in 0..20 {
            let name = format!("s{round}");
            tree.sleeper(&name);
            answers(&tree.sv(&["start", &name]), 0, &format!("ok: run: {name}: (pid P) Ss\n"));
        }
    }

    #[test]
    fn start_without_runsvdir_does_not_wait() {
        let service = Service::sleeper();
        let said = "warning: ./s: unable to open supervise/ok: file does not exist\n";
        promptly("an answer", Duration::from_millis(500), || {
            time_of(|| answers(&service.sv(&["start"]), 1, said))
        });
    }

    /// The second line that `sv -v status` has for `service`.
    fn hint(service: &Service) -> String {
        let outcome = service.sv(&["-v", "status"]);
        assert_eq!(outcome.code, Some(1));
        assert_eq!(service.sv(&["status"]).err, "", "only with -v, or on a terminal");
        outcome.err
    }

    #[test]
    fn v_says_what_is_probably_wrong() {
        let no_run = Service::new();
        assert_eq!(hint(&no_run), "  it has no file run\n");
        let not_executable = Service::new().file("run", "");
        assert_eq!(hint(&not_executable), "  its file run is not executable: chmod +x ./s/run\n");
        let dangling = Service::sleeper();
        symlink("/nowhere/state", dangling.path().join("supervise")).unwrap();
        assert!(
            hint(&dangling).starts_with("  its link supervise leads to /nowhere/state, which is not there")
        );
        let unserved = Service::sleeper();
        assert!(hint(&unserved).starts_with("  no runsvdir serves /"), "{}", hint(&unserved));
    }

    #[test]
    fn v_says_that_svdir_is_wrong() {
        let outcome = run("sv").args(&["-v", "status", "a"]).env("SVDIR", "/nowhere").go();
        assert_eq!(
            outcome.err,
            "  there is no directory /nowhere: set SVDIR to the one that runsvdir serves\n"
        );
        let root = TempDir::new();
        let outcome = run("sv").args(&["-v", "status", "a"]).env("SVDIR", root.path()).go();
        assert!(outcome.err.contains("has no service of this name"), "{}", outcome.err);
    }

    #[test]
    fn v_says_that_there_is_no_permission() {
        needs_root();
        let service = Service::sleeper().up();
        fs::set_permissions(service.root(), fs::Permissions::from_mode(0o755)).unwrap();
        let words =
            ["-u", "nobody", bin().join("sv").to_str().unwrap(), "-v", "status", "./s"].map(str::to_owned);
        let outcome = run("chpst").args(&words).dir(service.root()).go();
        assert_eq!(outcome.out, "warning: ./s: unable to open supervise/ok: access denied\n");
        assert!(outcome.err.starts_with("  you have no permission"), "{}", outcome.err);
    }

    #[test]
    fn a_thousand_services_are_waited_for_with_few_descriptors() {
        let service = Service::sleeper().up();
        let names = vec!["./s"; 500];
        let sv = bin().join("sv");
        let words = ["-o", "100", sv.to_str().unwrap(), "start"];
        let outcome = run("chpst").args(&words).args(&names).dir(service.root()).go();
        assert_eq!(outcome.code, Some(0), "{}", outcome.out);
        assert_eq!(outcome.out.lines().count(), 500);
    }

    #[test]
    fn hundreds_are_waited_for_with_fewer_descriptors() {
        let service = Service::stubborn().up();
        eventually("trap is set", || read(service.root().join("starts")) == "started\n");
        for (limit, count) in [(256, 400), (24, 100)] {
            let names = vec!["./s".to_owned(); count];
            let go = |words: &[&str]| with_descriptors(limit, words, &names).dir(service.root()).go();
            let outcome = go(&["start"]);
            assert_eq!(outcome.code, Some(0), "{} {}", outcome.out, outcome.err);
            assert_eq!(outcome.out.lines().count(), count);
            // Those that rest are told when the time is over, too.
            let outcome = go(&["-w3", "stop"]);
            let late = "timeout: run: ./s: (pid P) Ss, want down, got TERM";
            assert_eq!(outcome.out.lines().filter(|line| plain(line) == late).count(), count, "{outcome:?}");
            service.send("u");
        }
        let names = vec!["./s".to_owned(); 100];
        let outcome = with_descriptors(24, &["-w1", "force-stop"], &names).dir(service.root()).go();
        assert!(outcome.out.contains("kill: run: ./s: "), "{outcome:?}");
        eventually("killed", || service.is_down());
    }

    /// As much as a FIFO takes.
    fn fill(fifo: &fs::File) -> usize {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        fcntl_setfl(fifo, fcntl_getfl(fifo).unwrap() | OFlags::NONBLOCK).unwrap();
        let mut size = 0;
        while let Ok(written) = rustix::io::write(fifo, &[b'\n'; 4096]) {
            size += written;
        }
        size
    }

    #[test]
    fn a_full_fifo_is_waited_for() {
        for words in [&["down"][..], &["-w60", "stop"], &["hup"]] {
            let fake = Fake::new(Service::sleeper());
            let control = fake.control.as_ref().unwrap();
            let mut rest = fill(control);
            let mut sv = run("sv")
                .args(words)
                .arg("./s")
                .dir(fake.service.root())
                .start(&fake.service.root().join("err"));
            steadily("waits", Duration::from_millis(300), || sv.ended().is_none());
            let mut last = 0;
            let mut bytes = [0; 4096];
            eventually("read", || {
                if let Ok(length) = rustix::io::read(control, &mut bytes) {
                    last = bytes[length - 1];
                    rest = rest.saturating_sub(length);
                }
                last != b'\n'
            });
            fake.publishes(false);
            eventually("ended", || sv.ended().is_some());
            assert_eq!((sv.ended(), rest), (Some(0), 0), "{words:?} {}", fake.service.messages());
        }
    }

    #[test]
    fn a_fifo_that_stays_full_is_said_when_the_time_is_over() {
        let fake = Fake::new(Service::sleeper());
        fill(fake.control.as_ref().unwrap());
        let line = "warning: ./s: unable to write to supervise/control: temporary failure\n";
        answers(&fake.service.sv(&["-w1", "stop"]), 1, line);
        let outcome = run("sv").args(&["down", "./s"]).env("SVWAIT", "1").dir(fake.service.root()).go();
        answers(&outcome, 1, line);
    }

    #[test]
    fn what_others_write_without_end_does_not_hide_the_effect() {
        let fake = Fake::new(Service::sleeper());
        // There is always something unread. First nothing happens, then what was asked for.
        let control = fake.control.as_ref().unwrap();
        rustix::io::write(control, b"\n").unwrap();
        answers(&fake.service.sv(&["-w1", "restart"]), 1, "timeout: run: ./s: (pid P) Ss\n");
        let err = fake.service.root().join("err");
        let mut sv = run("sv").args(&["-w60", "stop", "./s"]).dir(fake.service.root()).start(&err);
        let mut bytes = [0; 64];
        eventually("sent", || {
            let length = rustix::io::read(control, &mut bytes).unwrap();
            rustix::io::write(control, b"\n").unwrap();
            bytes[..length].contains(&b'd')
        });
        fake.publishes(false);
        eventually("ended", || sv.ended().is_some());
        assert_eq!(plain(&fake.service.messages()), "ok: down: ./s: Ss, normally up\n");
    }

    #[test]
    fn marks_that_another_left_are_not_believed() {
        needs_stock("runsv");
        let service = Service::sleeper();
        let mut runsv =
            run_file("/usr/bin/runsv").arg("s").dir(service.root()).start(&service.root().join("err"));
        eventually("up", || service.is_up());
        let marks = |access: &str, modification: &str| {
            for (which, time) in [("-a", access), ("-m", modification)] {
                let touched = run_file("/usr/bin/touch").args(&[which, "-d", time]);
                assert_eq!(touched.arg(service.path().join("supervise/ok")).go().code, Some(0));
            }
        };
        // One that ended when all was taken: nothing shows when the next has acted, so that a while is waited.
        marks("@1700000000.000005777", "@1700000000.000005777");
        for _ in 0..3 {
            let begin = Instant::now();
            answers(&service.sv(&["-v", "cont"]), 0, "ok: run: ./s: (pid P) Ss\n");
            assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
        }
        // One that was killed when something was to be taken.
        marks("@1700000000.000006777", "@1700000000.000005777");
        answers(&service.sv(&["-w60", "cont"]), 0, "ok: run: ./s: (pid P) Ss\n");
        answers(&service.sv(&["-w60", "exit"]), 0, "ok: ./s: runsv not running\n");
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn a_check_that_hangs_leaves_nothing_behind() {
        for words in [&["-w3", "start"][..], &["-w3", "health"]] {
            let service = Service::sleeper().script("check", "sleep 1000 & echo $! >>../children; wait").up();
            assert_eq!(service.sv(words).code, Some(1), "{words:?}");
            let children = read(service.root().join("children"));
            assert!(!children.is_empty());
            for child in children.lines() {
                eventually("gone", || !is_alive(child.parse().unwrap()));
            }
        }
    }

    #[test]
    fn what_ends_sv_ends_its_check() {
        for (signal, hardened) in [(2, false), (SIGTERM, false), (SIGTERM, true)] {
            let trap = if hardened { "trap '' TERM;" } else { "" };
            let check = format!("{trap} sleep 1000 & echo $! >../child; wait; sleep 1000");
            let service = Service::sleeper().script("check", &check).up();
            let child = || read(service.root().join("child")).trim().parse().ok();
            let mut sv =
                run("sv").args(&["start", "./s"]).dir(service.root()).start(&service.root().join("err"));
            eventually("checks", || child().is_some());
            sv.signal(signal);
            eventually("ended", || sv.ended().is_some());
            assert_eq!(sv.ended(), Some(128 + signal));
            eventually("its check too", || !is_alive(child().unwrap()));
        }
    }

    #[test]
    fn a_signal_that_is_ignored_stays_so_during_a_check() {
        let service = Service::sleeper()
            .script("check", "echo >../began; while [ ! -e ../go ]; do sleep 0.01; done")
            .up();
        let words = ["-c", "trap '' HUP; exec \"$0\" start ./s"];
        let run = run_file("/bin/sh").args(&words).arg(program("sv")).dir(service.root());
        let mut sv = run.start(&service.root().join("out"));
        eventually("checks", || service.root().join("began").exists());
        sv.signal(SIGHUP);
        fs::write(service.root().join("go"), "").unwrap();
        eventually("ended", || sv.ended().is_some());
        assert_eq!(sv.ended(), Some(0));
    }

    #[test]
    fn what_is_not_printable_is_escaped_everywhere() {
        let evil = "a\nok: run: b\u{1b}[2J\u{202e}";
        let shown = "a\\x0aok: run: b\\x1b[2J\\xe2\\x80\\xae";
        let mut tree = Tree::new();
        tree.sleeper(evil);
        tree.start();
        eventually("up", || tree.is_up(evil));
        for (words, expected) in [
            (&["status"][..], format!("run: {shown}: (pid P) Ss\n")),
            (&["-v", "cont"], format!("ok: run: {shown}: (pid P) Ss\n")),
            (&["-w60", "stop"], format!("ok: down: {shown}: Ss, normally up\n")),
        ] {
            answers(&tree.sv(&[words, &[evil]].concat()), 0, &expected);
        }
        assert_eq!(tree.sv(&["start", evil]).code, Some(0));
        tree.root.script(&format!("sv/{evil}/check"), "exit 1");
        let outcome = tree.sv(&["-w1", "health"]);
        assert_eq!((outcome.out, outcome.code), (format!("{shown}: check fails\n"), Some(1)));
        fs::write(tree.root.join(&format!("sv/{evil}/check")), "").unwrap();
        fs::set_permissions(tree.root.join(&format!("sv/{evil}/check")), fs::Permissions::from_mode(0o644))
            .unwrap();
        let outcome = tree.sv(&["start", evil]);
        assert!(outcome.err.starts_with(&format!("warning: unable to run {shown}/check: ")), "{outcome:?}");
        // A hint has the name, a path and the target of a link.
        let service = Service::sleeper();
        symlink("/nowhere/\u{1b}]0;x\u{7}", service.path().join("supervise")).unwrap();
        assert!(hint(&service).starts_with("  its link supervise leads to /nowhere/\\x1b]0;x\\x07, "));
    }

    #[test]
    fn sv_works_with_the_runsv_of_others() {
        let stock = std::path::Path::new("/usr/bin/runsv");
        needs_stock("runsv");
        let service = Service::sleeper();
        let mut runsv = run_file(stock).arg("s").dir(service.root()).start(&service.root().join("err"));
        eventually("up", || service.is_up());
        steadily("runs", Duration::from_millis(1100), || service.is_up());
        answers(&service.sv(&["status"]), 0, "run: ./s: (pid P) Ss\n");
        answers(&service.sv(&["restart"]), 0, "ok: run: ./s: (pid P) Ss\n");
        answers(&service.sv(&["stop"]), 0, "ok: down: ./s: Ss, normally up\n");
        answers(&service.sv(&["start"]), 0, "ok: run: ./s: (pid P) Ss\n");
        answers(&service.sv(&["-w60", "exit"]), 0, "ok: ./s: runsv not running\n");
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn the_sv_of_others_works_with_our_runsv() {
        let stock = std::path::Path::new("/usr/bin/sv");
        needs_stock("sv");
        let service = Service::sleeper().up();
        let go = |words: &[&str]| run_file(stock).args(words).arg("./s").dir(service.root()).go();
        answers(&go(&["status"]), 0, "run: ./s: (pid P) Ss\n");
        answers(&go(&["stop"]), 0, "ok: down: ./s: Ss, normally up\n");
        answers(&go(&["start"]), 0, "ok: run: ./s: (pid P) Ss\n");
        answers(&go(&["-w60", "exit"]), 0, "ok: ./s: runsv not running\n");
    }

    #[test]
    fn a_check_that_disagrees_is_not_run_all_the_time() {
        let service = Service::sleeper().script("check", "echo x >>../checks; exit 1").up();
        let outcome = service.sv(&["-w4", "check"]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let checks = read(service.root().join("checks")).lines().count();
        // After 20, 40, 80, 160, 320 and then each 420 ms.
        assert!((2..=15).contains(&checks), "{checks}");
    }

    #[test]
    fn hints_do_not_mislead() {
        let root = TempDir::new();
        std::os::unix::fs::symlink("/no/such/service", root.join("dangling")).unwrap();
        root.script("a/run", "exec sleep 1000");
        let hint = |name: &str| {
            run("sv").args(&["-v", "status", name]).env("SVDIR", root.path()).dir(root.path()).go().err
        };
        assert_eq!(hint(""), "  the name of the service is empty\n");
        assert_eq!(hint("dangling"), "  it is a link to /no/such/service, which is not there\n");
        assert!(!hint("./a").contains("SVDIR"), "{}", hint("./a"));
    }
}
