//! `on-failure`, and `.on-failure` for all services of a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use support::*;

/// Notes how it was called in the file `calls` of its directory, and what it read.
const NOTE: &str = "{ echo \"$#: $*\"; cat; } >>calls";

fn calls(tree: &Tree, service: &str) -> Vec<String> {
    tree.read(service, "calls").lines().map(str::to_owned).collect()
}

#[test]
fn it_is_told_how_the_service_ended_and_reads_its_last_lines() {
    under_each_supervisor(|tree| {
        tree.define("web", "for n in $(seq 30); do echo line $n; done\nsleep 0.2\nexit 3");
        tree.file("web", "restart", "never");
        tree.root.script("sv/web/log/run", "mkdir -p main other; exec svlogd -l 100 ./main ./other");
        tree.root.script("sv/web/on-failure", NOTE);
        // The program of the service comes first.
        tree.root.script("service/.on-failure", "echo shared >>calls");
        tree.link("web");
        tree.start();
        eventually("called", || calls(tree, "web").len() == 21);
        let calls = calls(tree, "web");
        let words: Vec<&str> = calls[0].split(' ').collect();
        assert_eq!(
            (words[0], words[1], words[2], words[3], words[5]),
            ("5:", "web", "3", "0", "1"),
            "{calls:?}"
        );
        assert!((200..60_000).contains(&words[4].parse::<u64>().unwrap()), "{calls:?}");
        let lines: Vec<String> = (11..31).map(|number| format!("line {number}")).collect();
        assert_eq!(calls[1..], lines);
        assert!(!tree.root.join("service/calls").exists());
    });
}

#[test]
fn one_program_serves_all_services_that_have_none() {
    under_each_supervisor(|tree| {
        for (name, run) in [("one", "kill -9 $$"), ("two", "exit 1")] {
            tree.define(name, run);
            tree.file(name, "restart", "never");
            tree.link(name);
        }
        tree.root.script("service/.on-failure", "echo \"begin $*\" >>calls; sleep 0.3; echo end >>calls");
        tree.start();
        let lines =
            || -> Vec<String> { tree.root.read("service/calls").lines().map(str::to_owned).collect() };
        eventually("called twice", || lines().len() == 4);
        let calls = lines();
        let call_of =
            |name: &str| calls.iter().find(|line| line.contains(&format!("begin {name} "))).unwrap();
        assert!(
            call_of("one").starts_with("begin one -1 9 ") && call_of("two").starts_with("begin two 1 0 "),
            "{calls:?}"
        );
        if tree.supervisor() == "runsvinit" {
            // One after the other.
            assert!(calls[1] == "end" && calls[3] == "end", "{calls:?}");
        }
    });
}

#[test]
fn ends_between_two_calls_are_counted() {
    under_each_supervisor(|tree| {
        tree.define("web", "echo started >>starts; exit 1");
        tree.root.script("sv/web/on-failure", NOTE);
        tree.file("web", "restart-delay", "1000");
        tree.link("web");
        let begin = Instant::now();
        tree.start();
        eventually("called twice", || calls(tree, "web").len() == 2);
        assert!(begin.elapsed() >= Duration::from_secs(10));
        let calls = calls(tree, "web");
        assert!(calls[0].ends_with(" 1"), "{calls:?}");
        let ends: usize = calls[1].rsplit(' ').next().unwrap().parse().unwrap();
        let starts = tree.read("web", "starts").lines().count();
        assert!(ends >= 2 && ends < starts, "{calls:?} {starts}");
    });
}

#[test]
fn only_failures_are_told() {
    under_each_supervisor(|tree| {
        tree.define("asked", "exec sleep 1000");
        tree.define("zero", "sleep 0.1");
        tree.define("limited", "exit 0");
        tree.file("limited", "restart-limit", "1 60");
        for name in ["asked", "zero", "limited"] {
            tree.root.script(&format!("sv/{name}/on-failure"), NOTE);
            tree.link(name);
        }
        tree.start();
        eventually("up", || tree.is_up("asked"));
        assert_eq!(tree.sv(&["restart", "asked"]).code, Some(0));
        // Giving up is one, whatever the exit code.
        eventually("given up", || calls(tree, "limited").len() == 1);
        assert!(calls(tree, "limited")[0].starts_with("5: limited 0 0 "));
        eventually("ended", || tree.fact("zero", "starts").is_some_and(|starts| starts != "1"));
        assert!(calls(tree, "asked").is_empty() && calls(tree, "zero").is_empty());
    });
}

#[test]
fn a_call_that_hangs_holds_up_neither_the_restart_nor_a_stop() {
    under_each_supervisor(|tree| {
        tree.define("web", "[ -e started ] && exec sleep 1000; : >started; exit 1");
        tree.root.script("sv/web/on-failure", "trap '' TERM; echo $$ >hangs; while :; do sleep 0.1; done");
        tree.link("web");
        tree.start();
        eventually("up again", || tree.is_up("web") && !tree.read("web", "hangs").is_empty());
        let call: i32 = tree.read("web", "hangs").trim().parse().unwrap();
        assert!(is_alive(call));
        let begin = Instant::now();
        let signal = if tree.supervisor() == "runsvinit" { SIGTERM } else { SIGHUP };
        tree.runsvdir().signal(signal);
        eventually("all ended", || !is_alive(call) && tree.runsvdir().ended().is_some());
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    });
}

#[test]
fn a_call_is_ended_after_a_minute() {
    // Both at once, since it takes so long.
    std::thread::scope(|scope| {
        for stubborn in [false, true] {
            scope.spawn(move || {
                let mut service = Service::new()
                    .script("run", "exit 1")
                    .script(
                        "on-failure",
                        &format!(
                            "{}\nsleep 1000 & echo $! >child\necho $$ >hangs\nwait; wait",
                            if stubborn { "trap '' TERM" } else { "" }
                        ),
                    )
                    .file("restart", "never")
                    .supervised();
                let number = |name| service.read(name).trim().parse::<i32>().ok();
                eventually("called", || number("hangs").is_some());
                let (call, child) = (number("hangs").unwrap(), number("child").unwrap());
                let begin = Instant::now();
                eventually("ended", || !is_alive(call) && !is_alive(child));
                assert!(begin.elapsed() > Duration::from_secs(55), "{:?}", begin.elapsed());
                let told = service.messages();
                assert!(told.contains("on-failure has run for 60 s: ending it\n"), "{told}");
                assert_eq!(told.contains("on-failure does not end: killed\n"), stubborn, "{told}");
                service.send("x");
                assert_eq!(service.exit_code(), 0);
            });
        }
    });
}

#[test]
fn a_program_that_others_can_replace_is_not_run() {
    under_each_supervisor(|tree| {
        tree.define("web", "exit 1");
        tree.file("web", "restart", "never");
        tree.root.script("service/.on-failure", "echo called >calls");
        fs::set_permissions(tree.root.join("service"), fs::Permissions::from_mode(0o1777)).unwrap();
        tree.link("web");
        tree.start();
        let told = "web: warning: .on-failure, or its directory: others may write to it, ignored\n";
        eventually("told", || tree.messages().contains(told));
        assert!(!tree.root.join("service/calls").exists());
    });
}
