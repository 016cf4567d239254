//! `svctl list`, `status` and `events`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::{on_terminal, svctl, svctl_in};
use support::*;

/// The line of a service in a table.
fn line<'o>(outcome: &'o Outcome, name: &str) -> &'o str {
    outcome.out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{outcome:?}"))
}

/// The words of a line of a table.
fn words(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()
}

#[test]
fn each_service_has_a_line_and_problems_come_first() {
    under_any_supervisor(|tree, is_stock| {
        tree.sleeper("web");
        tree.sleeper("log");
        tree.define("zz", "exit 3");
        tree.link("zz");
        tree.define("off", "exec sleep 1000");
        tree.file("off", "down", "");
        tree.link("off");
        tree.start();
        eventually("up", || tree.is_up("web") && tree.is_up("log"));
        eventually("problem", || svctl_in(tree).go().code == Some(3));
        eventually("off", || tree.read("off", "supervise/stat") == "down\n");
        let ended = if is_stock { "" } else { "exit 3" };
        let mut outcome = svctl_in(tree).go();
        // Each second it runs for a moment.
        eventually("ended", || {
            outcome = svctl_in(tree).go();
            let zz = line(&outcome, "zz");
            zz.contains(ended) && words(zz)[1] != "up"
        });
        assert_eq!(outcome.err, "");
        let names: Vec<&str> =
            outcome.out.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["zz", "log", "off", "web"], "{}", outcome.out);
        let web = words(line(&outcome, "web "));
        let pid = tree.pid("web").unwrap().to_string();
        assert_eq!((web[1], web[3], *web.last().unwrap()), ("up", pid.as_str(), "sleep 1000"), "{web:?}");
        assert!(words(line(&outcome, "off")).ends_with(&["no"]), "{}", outcome.out);
        // What stock does not tell is not there.
        assert_eq!(outcome.out.contains("LAST END"), !is_stock, "{}", outcome.out);
        let failed = || svctl_in(tree).args(&["list", "--failed"]).go().out;
        eventually("only the problem", || failed().lines().count() == 2);
        let well = svctl_in(tree).args(&["list", "web", "off"]).go();
        assert_eq!((well.code, well.out.lines().count()), (Some(0), 3), "{}", well.out);
    });
}

#[test]
fn there_may_be_no_service_or_no_directory() {
    let tree = Tree::new();
    let outcome = svctl_in(&tree).go();
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.out.ends_with("/service: no services\n"), "{outcome:?}");
    let outcome = svctl().args(&["-d", "/nonexistent"]).go();
    assert_eq!(outcome.code, Some(111));
    assert_eq!(outcome.err, "svctl: fatal: unable to read /nonexistent: file does not exist\n");
}

/// What is not there is neither enabled nor not.
#[test]
fn a_name_that_no_service_has_is_reported() {
    let tree = Tree::new();
    tree.sleeper("web");
    let list = svctl_in(&tree).args(&["list", "wbe", "x"]).go();
    assert_eq!(list.code, Some(3), "{list:?}");
    assert!(!list.out.contains("yes") && !list.out.contains("ENABLED"), "{list:?}");
    assert!(list.err.contains(" has no service of this name; did you mean web?\n"), "{list:?}");
    assert!(list.err.ends_with("svctl: warning: x: there is no such service\n"), "{list:?}");
    let json = svctl_in(&tree).args(&["list", "--json", "wbe"]).go().out;
    assert!(!json.contains("enabled"), "{json}");
    tree.define("off", "exec sleep 1000");
    let off = svctl_in(&tree).args(&["list", "off"]).env("SVSRC", tree.root.join("sv")).go();
    assert_eq!(off.err, "svctl: warning: off: it is not enabled: svctl enable off\n");
}

/// One that is never ready is a problem after some time, and every command says so.
#[test]
fn what_never_is_ready_is_a_problem() {
    under_each_supervisor(|tree| {
        tree.sleeper("web");
        tree.file("web", "notification-fd", "3\n");
        tree.start();
        eventually("not ready", || svctl_in(tree).args(&["list"]).go().out.contains("not ready"));
        // As after some time.
        let status = tree.root.join("sv/web/supervise/status");
        let aged = |seconds: u64| {
            let mut bytes = fs::read(&status).unwrap();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            bytes[..8].copy_from_slice(&((1 << 62) + 10 + now - seconds).to_be_bytes());
            fs::write(&status, bytes).unwrap();
            let code = |words: &[&str]| svctl_in(tree).args(words).go().code;
            let told = svctl_in(tree).args(&["list", "--json"]).go().out;
            let failed = svctl_in(tree).args(&["list", "--failed"]).go().out;
            (
                [code(&["list"]), code(&["why", "web"]), code(&["is-up", "web"])].map(|code| code == Some(3)),
                [told.contains("\"problem\":true"), failed.contains("not ready")],
            )
        };
        assert_eq!(aged(0), ([false, false, true], [false, false]));
        assert_eq!(aged(100), ([true, true, true], [true, true]));
        tree.file("web", "timeout-ready", "200000\n");
        assert_eq!(aged(100), ([false, false, true], [false, false]));
    });
}

/// As for a user who may control a service, and not its log service.
#[test]
fn a_log_service_that_is_not_known_is_no_problem() {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.define("web/log", "exec cat >/dev/null");
    tree.start();
    eventually("up", || tree.is_up("web") && tree.is_up("web/log"));
    fs::write(tree.root.join("sv/web/log/supervise/status"), "half").unwrap();
    let list = svctl_in(&tree).args(&["list"]).go();
    assert!(list.code == Some(0) && list.out.contains("unknown"), "{list:?}");
}

#[test]
fn names_of_any_bytes_are_escaped_and_found() {
    let mut tree = Tree::new();
    let names: [&[u8]; 4] = [b"a b", b"new\nline", b"\xff\xfe", b"back\\slash"];
    for name in names {
        let dir = tree.root.join("service").join(OsStr::from_bytes(name));
        fs::create_dir(&dir).unwrap();
        write_script(&dir.join("run"), "exec sleep 1000");
    }
    tree.start();
    eventually("all up", || svctl_in(&tree).args(&["is-up", "--all"]).go().code == Some(0));
    let outcome = svctl_in(&tree).go();
    for shown in ["a b  ", "new\\x0aline  ", "\\xff\\xfe  ", "back\\\\slash  "] {
        assert_eq!(outcome.out.matches(&format!("\n{shown}")).count(), 1, "{shown}: {}", outcome.out);
    }
    let stopped = svctl_in(&tree).args(&["stop", "--all"]).go();
    assert_eq!((stopped.code, stopped.out.lines().count()), (Some(0), 4), "{stopped:?}");
}

#[test]
fn two_hundred_services_are_listed() {
    let tree = Tree::new();
    for number in 0..200 {
        tree.sleeper(&format!("s{number:03}"));
    }
    let outcome = svctl_in(&tree).go();
    assert_eq!((outcome.code, outcome.out.lines().count()), (Some(3), 201));
    assert!(outcome.out.contains("\ns199     not supervised"), "{}", outcome.out);
}

#[test]
fn what_others_left_in_a_directory_is_no_harm() {
    let tree = Tree::new();
    tree.sleeper("web");
    let supervise = tree.root.join("sv/web/supervise");
    fs::create_dir_all(&supervise).unwrap();
    make_fifo(&supervise.join("status"), 0o644);
    make_fifo(&supervise.join("state"), 0o644);
    fs::write(supervise.join("ok"), "").unwrap();
    fs::write(tree.root.join("service/file"), "").unwrap();
    fs::create_dir(tree.root.join("service/.hidden")).unwrap();
    let outcome = svctl_in(&tree).args(&["list", "--json"]).go();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(3), ""));
    assert_eq!(outcome.out.matches("\"name\":").count(), 1, "{}", outcome.out);
}

#[test]
fn half_a_status_is_no_state() {
    let service = Service::sleeper().up();
    fs::write(service.path().join("supervise/status"), "half").unwrap();
    let outcome = svctl().args(&["list", "./s"]).dir(service.root()).go();
    assert!(outcome.out.contains("\n./s      unknown"), "{}", outcome.out);
}

#[test]
fn a_terminal_gets_colours_and_only_the_command_is_cut() {
    let mut tree = Tree::new();
    tree.define("web", &format!("exec sleep 1000 {}", "1 ".repeat(60)));
    tree.link("web");
    tree.start();
    eventually("up", || tree.is_up("web") && svctl_in(&tree).go().out.contains("sleep"));
    for columns in [80, 200] {
        let shown = on_terminal(&tree, columns, "", "list --color never").out;
        let web = shown.lines().nth(1).unwrap();
        let width = usize::try_from(columns).unwrap();
        assert!(web.chars().count() <= width, "{shown}");
        assert_eq!(web.ends_with('\u{2026}'), columns == 80, "{shown}");
        let coloured = on_terminal(&tree, columns, "", "").out;
        assert!(coloured.contains("\u{1b}[33mup\u{1b}[0m"), "{coloured}");
        let plain = on_terminal(&tree, columns, "NO_COLOR=1", "").out;
        assert_eq!(plain.lines().next(), shown.lines().next());
        assert!(!plain.contains('\u{1b}'), "{plain}");
    }
    let outcome = svctl_in(&tree).go();
    assert!(!outcome.out.contains('\u{1b}') && outcome.out.contains(" 1 1\n"), "{}", outcome.out);
    assert!(svctl_in(&tree).args(&["--color=always"]).go().out.contains("\u{1b}[33mup"));
    let wrong = svctl_in(&tree).args(&["--color", "pink"]).go();
    assert_eq!(wrong.code, Some(100));
}

#[test]
fn tree_shows_the_processes_of_a_service() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "sleep 1000 & sleep 1001 & wait");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        eventually("children", || {
            let out = svctl_in(tree).args(&["list", "--tree"]).go().out;
            out.lines().filter(|line| line.starts_with("  \u{2514}") && line.contains("sleep 100")).count()
                == 2
        });
        let out = svctl_in(tree).args(&["list", "--tree"]).go().out;
        assert!(out.starts_with("SERVICE") && out.contains("MEMORY") && out.contains("CPU"), "{out}");
    });
}

#[test]
fn status_shows_all_that_is_known_and_the_end_of_the_log() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; exec sleep 1000");
        tree.define("web/log", "mkdir -p main; exec svlogd main");
        tree.link("web");
        tree.start();
        eventually("logged", || tree.read("web", "log/main/current").contains("line 12"));
        // A process may be seen to work before its supervisor has written that it runs.
        eventually("up", || tree.is_up("web") && tree.is_up("web/log"));
        let outcome = svctl_in(tree).args(&["status", "web"]).go();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        assert!(outcome.out.starts_with("web: up for "), "{}", outcome.out);
        assert!(outcome.out.contains("\n  wanted: up\n"), "{}", outcome.out);
        assert!(outcome.out.contains("  log service: up, pid "), "{}", outcome.out);
        assert!(outcome.out.contains("line 3\n") && !outcome.out.contains("line 2\n"), "{}", outcome.out);
    });
}

#[test]
fn events_are_told_as_they_happen() {
    under_any_supervisor(|tree, is_stock| {
        tree.sleeper("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let out = tree.root.join("events");
        let mut events = svctl_in(tree).arg("events").start(&out);
        // Until it has begun, nothing is told.
        eventually("told", || {
            assert_eq!(svctl_in(tree).args(&["-w", PATIENCE, "restart", "web"]).go().code, Some(0));
            read(&out).contains("web  up, pid ")
        });
        let pid = tree.pid("web").unwrap();
        eventually("the last one", || read(&out).contains(&format!("web  up, pid {pid}")));
        kill(pid, SIGKILL);
        eventually("again", || tree.pid("web").is_some_and(|new| new != pid) && tree.is_up("web"));
        let new = tree.pid("web").unwrap();
        eventually("told again", || read(&out).contains(&format!("web  up, pid {new}")));
        if !is_stock {
            eventually("how", || read(&out).contains("; signal KILL after "));
        }
        // A service that comes, and one that goes.
        tree.sleeper("db");
        eventually("db", || read(&out).contains("db  up, pid "));
        tree.unlink("db");
        eventually("gone", || read(&out).contains("db  not supervised"));
        assert_eq!(events.ended(), None);
    });
}

#[test]
fn a_supervisor_that_is_killed_is_an_event() {
    let mut service = Service::sleeper().up();
    let out = service.root().join("events");
    let _events = svctl().args(&["events", "--json", "./s"]).dir(service.root()).start(&out);
    eventually("told", || {
        service.send("p");
        service.send("c");
        read(&out).contains("\"paused\":true")
    });
    let pid = service.pid().unwrap();
    service.runsv().signal(SIGKILL);
    eventually("unsupervised", || read(&out).contains("\"condition\":\"not supervised\""));
    kill(pid, SIGKILL);
}

#[test]
fn watch_prints_again_only_on_a_change() {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.start();
    eventually("up", || tree.is_up("web"));
    let out = tree.root.join("watched");
    let _watching = svctl_in(&tree).args(&["list", "--watch"]).start(&out);
    eventually("first", || read(&out).matches("SERVICE").count() == 1);
    steadily("one table", std::time::Duration::from_millis(300), || {
        read(&out).matches("SERVICE").count() == 1
    });
    kill(tree.pid("web").unwrap(), SIGKILL);
    eventually("again", || read(&out).matches("SERVICE").count() > 1);
}
