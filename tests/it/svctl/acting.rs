//! `svctl start`, `stop`, `restart`, `reload`, `kill`, `wait`, `once`, `reset` and `is-up`.

use std::time::{Duration, Instant};

use super::{on_terminal, svctl_in};
use support::*;

fn go(tree: &Tree, words: &[&str]) -> (Option<i32>, String) {
    let outcome = svctl_in(tree).args(words).env("SVWAIT", PATIENCE).go();
    assert_eq!(outcome.err, "", "{words:?}");
    (outcome.code, outcome.out)
}

/// Whether a service has a supervisor, which has written its status.
fn is_served(tree: &Tree, name: &str) -> bool {
    go(tree, &["list", "--json", name]).1.contains("\"supervised\":true")
}

fn pid(tree: &Tree, name: &str) -> i32 {
    tree.pid(name).unwrap()
}

#[test]
fn services_are_started_stopped_and_restarted() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.sleeper("db");
        tree.start();
        eventually("up", || tree.is_up("web") && tree.is_up("db"));
        assert_eq!(go(tree, &["is-up", "web", "db"]), (Some(0), String::new()));
        let (code, out) = go(tree, &["stop", "web", "db"]);
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        assert_eq!((code, lines), (Some(0), vec!["db: down", "web: down"]));
        assert_eq!(go(tree, &["is-up", "web"]), (Some(3), String::new()));
        assert_eq!(tree.pid("web"), None);
        let (code, out) = go(tree, &["start", "web"]);
        assert_eq!((code, out), (Some(0), format!("web: up, pid {}\n", pid(tree, "web"))));
        let old = pid(tree, "web");
        let (code, out) = go(tree, &["restart", "web"]);
        assert_ne!(pid(tree, "web"), old);
        assert_eq!((code, out), (Some(0), format!("web: up, pid {}\n", pid(tree, "web"))));
    });
}

#[test]
fn nothing_is_changed_without_a_name_or_by_a_dry_run() {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.sleeper("web-2");
    tree.start();
    eventually("up", || tree.is_up("web") && tree.is_up("web-2"));
    let outcome = svctl_in(&tree).arg("stop").go();
    assert_eq!(outcome.code, Some(100));
    assert!(outcome.err.starts_with("svctl: no service is named; --all is for all of them\n"), "{outcome:?}");
    assert_eq!(
        go(&tree, &["stop", "-n", "web"]),
        (Some(0), "web: would be stopped; it is up now\n".to_owned())
    );
    let hup = "web: would get HUP; it is up now\n".to_owned();
    assert_eq!(go(&tree, &["reload", "-n", "web"]), (Some(0), hup));
    assert_eq!(svctl_in(&tree).args(&["stop", "--all", "web"]).go().code, Some(100));
    assert!(tree.is_up("web"));
    // A name is not its group.
    assert_eq!(go(&tree, &["stop", "web"]).0, Some(0));
    assert!(tree.is_up("web-2"));
    assert_eq!(go(&tree, &["stop", "w*"]).0, Some(0));
    assert_eq!(tree.pid("web-2"), None);
    let none = svctl_in(&tree).args(&["stop", "x*"]).go();
    assert_eq!((none.code, none.err.as_str()), (Some(111), "svctl: fatal: no service matches x*\n"));
}

#[test]
fn a_group_is_all_that_begin_with_its_name() {
    let mut tree = Tree::new();
    for name in ["rails-web", "rails-worker", "railsx"] {
        tree.sleeper(name);
    }
    tree.start();
    eventually("up", || ["rails-web", "rails-worker", "railsx"].iter().all(|name| tree.is_up(name)));
    assert_eq!(go(&tree, &["stop", "rails"]).1.lines().count(), 2);
    assert!(tree.is_up("railsx"));
}

#[test]
fn a_start_that_cannot_work_tells_why_at_once() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        assert_eq!(go(tree, &["stop", "web"]).0, Some(0));
        let run = tree.root.join("sv/web/run");
        run_file("/bin/chmod").arg("-x").arg(&run).go();
        promptly("the cause", Duration::from_secs(5), || {
            time_of(|| {
                let (code, out) = go(tree, &["start", "web"]);
                assert_eq!(code, Some(1));
                let start = "web: cannot be started\n  cause: run cannot be started: not executable\n  mend: chmod +x ";
                assert!(out.starts_with(start), "{out}");
            })
        });
        let (code, out) = go(tree, &["start", "nosuch"]);
        assert_eq!(code, Some(1));
        assert!(out.starts_with("nosuch: not supervised\n  cause: "), "{out}");
    });
}

/// Does it up to five times, until the answer is right: on a busy machine a program that ends at once may take so long that it
/// counts as up.
#[track_caller]
fn answers(tree: &Tree, words: &[&str], is_right: impl Fn(Option<i32>, &str) -> bool) -> String {
    let mut all = Vec::new();
    for _ in 0..5 {
        let (code, out) = go(tree, words);
        if is_right(code, &out) {
            return out;
        }
        all.push((code, out));
        go(tree, &["stop", "--all"]);
    }
    panic!("{words:?}: {all:?}");
}

#[test]
fn what_ends_at_once_was_not_started() {
    under_any_supervisor(|tree, is_stock| {
        for (name, run) in [("ends", "exit 3"), ("soon", "sleep 0.02; exit 3"), ("stays", "exec sleep 1000")]
        {
            tree.define(name, run);
            tree.file(name, "down", "");
            tree.link(name);
        }
        tree.start();
        eventually("served", || ["ends", "soon", "stays"].iter().all(|name| is_served(tree, name)));
        let cause =
            |how: &str| if is_stock { "how it ends is not recorded".to_owned() } else { how.to_owned() };
        for name in ["ends", "soon"] {
            promptly("the end", Duration::from_millis(900), || {
                assert_eq!(go(tree, &["stop", name]), (Some(0), format!("{name}: down\n")));
                let begin = Instant::now();
                let (code, out) = go(tree, &["start", name]);
                let took = begin.elapsed();
                if code == Some(0) {
                    // The machine is busy; see `answers`.
                    return Duration::MAX;
                }
                assert!(out.starts_with(&format!("{name}: ended at once; it ")), "{out}");
                let cause = cause("it exits with 3 after ");
                assert!(out.contains("\n  cause: ") && out.contains(&cause), "{out}");
                took
            });
        }
        let out = answers(tree, &["start", "ends", "soon", "stays"], |code, out| {
            code == Some(1) && out.matches(": ended at once; ").count() == 2
        });
        assert!(out.contains(&format!("stays: up, pid {}\n", pid(tree, "stays"))), "{out}");
        tree.define("stays", "sleep 0.02; exit 3");
        answers(tree, &["restart", "stays"], |code, out| {
            code == Some(1) && out.starts_with("stays: ended at once; ")
        });
    });
}

#[test]
fn a_task_that_is_started_is_done() {
    under_each_supervisor(|tree| {
        tree.define("task", "sleep 0.05");
        for (name, content) in [("down", ""), ("restart", "on-failure")] {
            tree.file("task", name, content);
        }
        tree.link("task");
        tree.start();
        eventually("served", || is_served(tree, "task"));
        answers(tree, &["start", "task"], |code, out| (code, out) == (Some(0), "task: done\n"));
    });
}

#[test]
fn what_tells_that_it_is_ready_is_up_at_once() {
    under_each_supervisor(|tree| {
        tree.define("web", "echo >&3; exec sleep 1000");
        tree.file("web", "notification-fd", "3");
        tree.define("db", "exec sleep 1000");
        write_script(&tree.root.join("sv/db/check"), "exit 0");
        for name in ["web", "db"] {
            tree.file(name, "down", "");
            tree.link(name);
        }
        tree.start();
        eventually("served", || ["web", "db"].iter().all(|name| is_served(tree, name)));
        for name in ["web", "db"] {
            promptly("up", Duration::from_millis(250), || {
                let time = time_of(|| assert_eq!(go(tree, &["start", name]).0, Some(0)));
                assert_eq!(go(tree, &["stop", name]).0, Some(0));
                time
            });
        }
    });
}

#[test]
fn what_ignores_term_is_killed_only_if_asked_for() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "trap : TERM\necho $$ >ready\nwhile :; do sleep 0.02; done");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web") && !tree.read("web", "ready").is_empty());
        let (code, out) = go(tree, &["stop", "-w1", "web"]);
        assert_eq!(code, Some(1));
        assert!(out.starts_with("web: did not end within 1 s; it is stopping\n  cause: "), "{out}");
        assert!(out.ends_with("  mend: svctl stop --wait-kill web\n"), "{out}");
        assert!(tree.is_up("web"));
        let (code, out) = go(tree, &["restart", "-w1", "web"]);
        assert_eq!(code, Some(1));
        assert!(out.ends_with("  mend: svctl restart --wait-kill web\n"), "{out}");
        let (code, out) = go(tree, &["stop", "-w1", "--wait-kill", "web"]);
        assert_eq!((code, out.as_str()), (Some(0), "web: did not end within 1 s; sent KILL\nweb: down\n"));
    });
}

#[test]
fn a_terminal_shows_what_is_waited_for() {
    let mut tree = Tree::new();
    tree.define("web", "trap : TERM\necho $$ >ready\nwhile :; do sleep 0.02; done");
    tree.link("web");
    tree.start();
    eventually("up", || tree.is_up("web") && !tree.read("web", "ready").is_empty());
    let outcome = on_terminal(&tree, 80, "", "stop -w3 --wait-kill web");
    assert_eq!(outcome.code, Some(0));
    let waiting = "\r\u{1b}[Kweb: waiting for it to end, 1 s of 3 s, then KILL";
    assert!(outcome.out.contains(waiting), "{:?}", outcome.out);
    assert!(
        outcome.out.ends_with("\r\u{1b}[Kweb: did not end within 3 s; sent KILL\nweb: down\n"),
        "{outcome:?}"
    );
}

#[test]
fn a_terminal_shows_which_state_is_waited_for() {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.sleeper("db");
    tree.start();
    eventually("up", || tree.is_up("web") && tree.is_up("db"));
    let outcome = on_terminal(&tree, 80, "", "wait -w3 down web db");
    assert_eq!(outcome.code, Some(1));
    let waiting = "\r\u{1b}[Kweb and 1 more: waiting for it to be down, 1 s of 3 s";
    assert!(outcome.out.contains(waiting), "{:?}", outcome.out);
    let late = "\r\u{1b}[Kweb: is not down within 3 s; it is up\ndb: is not down within 3 s; it is up\n";
    assert!(outcome.out.ends_with(late), "{:?}", outcome.out);
}

#[test]
fn what_is_paused_goes_on_when_it_is_started_or_restarted() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        for verb in ["start", "restart"] {
            assert_eq!(go(tree, &["kill", "-s", "STOP", "web"]).0, Some(0));
            eventually("paused", || go(tree, &["list", "web"]).1.contains("paused"));
            let (code, out) = go(tree, &[verb, "web"]);
            assert_eq!((code, out), (Some(0), format!("web: up, pid {}\n", pid(tree, "web"))), "{verb}");
            eventually(verb, || process_state(pid(tree, "web")) != Some('T'));
            assert_eq!(go(tree, &["is-up", "web"]).0, Some(0), "{verb}");
        }
    });
}

#[test]
fn what_its_supervisor_left_behind_is_not_down() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let (process, supervisor) = (pid(tree, "web"), tree.runsv_of("web").unwrap());
        tree.runsvdir().kill();
        kill(supervisor, SIGKILL);
        eventually("no supervisor", || !is_served(tree, "web"));
        let (code, out) = go(tree, &["wait", "-w1", "down", "web"]);
        let told = format!(
            "web: is not down within 1 s; its process still runs, without a supervisor\n  mend: kill {process}\n"
        );
        assert_eq!((code, out), (Some(1), told));
        let out = tree.root.join("waited");
        let mut wait = svctl_in(tree).args(&["wait", "down", "web"]).start(&out);
        kill(process, SIGKILL);
        assert_eq!(wait.exit_code(), 0);
        assert_eq!(read(&out), "web: not supervised\n");
    });
}

#[test]
fn signals_go_through_the_supervisor() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "for s in HUP USR1 INT; do trap \"echo $s >>got\" $s; done\necho >ready\nwhile :; do sleep 0.02; done");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web") && !tree.read("web", "ready").is_empty());
        assert_eq!(go(tree, &["reload", "web"]), (Some(0), "web: sent HUP\n".to_owned()));
        eventually("HUP", || tree.read("web", "got") == "HUP\n");
        assert_eq!(go(tree, &["kill", "-s", "SIGUSR1", "web"]), (Some(0), "web: sent USR1\n".to_owned()));
        eventually("USR1", || tree.read("web", "got") == "HUP\nUSR1\n");
        let wrong = svctl_in(tree).args(&["kill", "-s", "WINCH", "web"]).go();
        assert_eq!(wrong.code, Some(100));
        let old = pid(tree, "web");
        assert_eq!(go(tree, &["kill", "-s", "9", "web"]).0, Some(0));
        eventually("another", || tree.pid("web").is_some_and(|new| new != old));
    });
}

#[test]
fn a_state_is_waited_for() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.start();
        let up = go(tree, &["wait", "-w", PATIENCE, "up", "web"]);
        assert_eq!(up, (Some(0), "web: up\n".to_owned()));
        let out = tree.root.join("waited");
        let mut wait = svctl_in(tree).args(&["wait", "down", "web"]).start(&out);
        assert_eq!(wait.ended(), None);
        send(&tree.root.join("sv/web/supervise/control"), "d");
        assert_eq!(wait.exit_code(), 0);
        assert_eq!(read(&out), "web: down\n");
        let (code, out) = go(tree, &["wait", "-w1", "up", "web"]);
        assert_eq!(code, Some(1));
        let late = "web: is not up within 1 s; it is down\n  cause: it was stopped by a command\n";
        assert!(out.starts_with(late), "{out}");
        assert_eq!(svctl_in(tree).args(&["wait", "wet", "web"]).go().code, Some(100));
    });
}

#[test]
fn what_is_not_known_to_be_down_is_waited_for() {
    under_any_supervisor(|tree, _| {
        tree.define("ends", "exec false");
        tree.link("ends");
        tree.sleeper("broken");
        tree.start();
        eventually("restarting", || go(tree, &["list", "ends"]).1.contains("restarting"));
        assert_eq!(go(tree, &["wait", "-w1", "down", "ends"]).0, Some(1));
        eventually("between two starts", || {
            let (code, out) = go(tree, &["once", "ends"]);
            assert_eq!(code, Some(1), "{out}");
            out.ends_with("ing, and it is wanted up; stop it first\n")
        });
        assert_eq!(go(tree, &["wait", "-w1", "down", "nosuch"]).0, Some(1));
        eventually("up", || tree.is_up("broken"));
        tree.file("broken", "supervise/status", "");
        assert_eq!(go(tree, &["wait", "-w1", "down", "broken"]).0, Some(1));
        // A directory without a supervisor is down.
        tree.define("idle", "exec sleep 1000");
        let idle = tree.root.join("sv/idle");
        assert_eq!(go(tree, &["wait", "-w1", "down", idle.to_str().unwrap()]).0, Some(0));
    });
}

#[test]
fn nothing_is_sent_to_finish() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "exec sleep 1000");
        write_script(&tree.root.join("sv/web/finish"), "exec sleep 1000");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let (code, out) = go(tree, &["stop", "-w1", "--wait-kill", "web"]);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.starts_with("web: did not end within 1 s; it is finishing\n"), "{out}");
        let finish = pid(tree, "web");
        assert!(out.ends_with(&format!("mend: kill -KILL {finish}\n")), "{out}");
        let (code, out) = go(tree, &["kill", "-s", "KILL", "web"]);
        assert_eq!((code, out.as_str()), (Some(1), "web: finishing, nothing is sent\n"));
        run_file("/bin/kill").args(&["-KILL", &finish.to_string()]).go();
        assert_eq!(go(tree, &["wait", "-w", PATIENCE, "down", "web"]).0, Some(0));
    });
}

#[test]
fn a_full_disk_is_an_error() {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.start();
    eventually("up", || tree.is_up("web"));
    let command = format!("exec {} svctl \"$@\" >/dev/full", executable().display());
    for words in [
        &["list", "--json"][..],
        &["status", "web"],
        &["start", "web"],
        &["list", "--watch"],
        &["list", "--help"],
    ] {
        let outcome = run_file("/bin/sh")
            .args(&["-c", &command, "sh"])
            .args(words)
            .env("SVDIR", tree.root.join("service"))
            .go();
        assert_eq!(outcome.code, Some(111), "{words:?} {outcome:?}");
        assert!(outcome.err.contains("unable to write to standard output: "), "{words:?} {outcome:?}");
    }
}

#[test]
fn a_service_is_waited_for_before_it_is_supervised() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        let out = tree.root.join("waited");
        let mut wait = svctl_in(tree).args(&["wait", "up", "web"]).start(&out);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(wait.ended(), None);
        tree.start();
        assert_eq!(wait.exit_code(), 0);
        assert_eq!(read(&out), "web: up\n");
    });
}

#[test]
fn nothing_is_waited_for_that_does_not_exist() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.start();
        let place = tree.root.join("service").display().to_string();
        for state in ["up", "down", "ready", "done"] {
            let (code, out) = go(tree, &["wait", state, "wbe", "web"]);
            let expected = format!(
                "wbe: not supervised\n  cause: {place} has no service of this name; did you mean web?\n"
            );
            assert_eq!((code, out), (Some(1), expected), "{state}");
        }
        assert_eq!(go(tree, &["wait", "down", "./nosuch"]).0, Some(1));
        assert_eq!(go(tree, &["wait", "up", "web/lgo"]).0, Some(1));
    });
}

#[test]
fn a_task_is_run_once_and_its_code_is_ours() {
    under_any_supervisor(|tree, is_stock| {
        for (name, run) in [("task", "sleep 0.1; exit 7"), ("good", "sleep 0.1"), ("killed", "kill -9 $$")] {
            tree.define(name, run);
            tree.file(name, "down", "");
            tree.link(name);
        }
        tree.sleeper("web");
        tree.start();
        eventually("served", || ["task", "good", "killed"].iter().all(|name| is_served(tree, name)));
        eventually("up", || tree.is_up("web"));
        if is_stock {
            let told = "task: ended by a command, or its supervisor does not tell how\n".to_owned();
            assert_eq!(go(tree, &["once", "task"]), (Some(1), told));
        } else {
            assert_eq!(go(tree, &["once", "task"]), (Some(7), String::new()));
            assert_eq!(go(tree, &["once", "good"]), (Some(0), String::new()));
            assert_eq!(
                go(tree, &["once", "killed"]),
                (Some(137), "killed: ended by signal KILL\n".to_owned())
            );
            assert_eq!(go(tree, &["once", "task"]), (Some(7), String::new()));
        }
        assert_eq!(go(tree, &["once", "web"]), (Some(1), "web: up already; stop it first\n".to_owned()));
    });
}

/// Where a supervisor records nothing else of a service, it does not record the end that a command asked for.
#[test]
fn a_task_that_a_command_ends_was_ended_by_it() {
    under_any_supervisor(|tree, _| {
        tree.define("task", "trap '' TERM; : >trapped; exec sleep 1000");
        tree.file("task", "down", "");
        tree.link("task");
        tree.start();
        eventually("served", || is_served(tree, "task"));
        let out = tree.root.join("once");
        let mut once = svctl_in(tree).args(&["once", "task"]).start(&out);
        eventually("trapped", || tree.root.join("sv/task/trapped").exists());
        eventually("up", || tree.is_up("task"));
        assert_eq!(go(tree, &["kill", "task"]), (Some(0), "task: sent TERM\n".to_owned()));
        eventually("told", || tree.read("task", "supervise/stat").contains("got TERM"));
        // Time for the command to see that, too.
        steadily("it runs", std::time::Duration::from_millis(500), || once.ended().is_none());
        assert_eq!(go(tree, &["kill", "-s", "KILL", "task"]).0, Some(0));
        assert_eq!(once.exit_code(), 1);
        let told = read(&out);
        assert!(told.starts_with("task: ended by a command"), "{told}");
    });
}

#[test]
fn what_was_given_up_is_taken_back() {
    under_each_supervisor(|tree| {
        tree.define("web", "[ -e works ] && exec sleep 1000; exit 1");
        tree.file("web", "restart-limit", "2 60");
        tree.file("web", "restart-delay", "10");
        tree.link("web");
        tree.start();
        eventually("given up", || tree.fact("web", "given-up").is_some());
        let status = svctl_in(tree).args(&["why", "web"]).go();
        assert!(
            status.out.contains("cause: it was given up: ") && status.out.contains("exits with 1"),
            "{status:?}"
        );
        assert!(status.out.contains("svctl reset web"), "{status:?}");
        tree.file("web", "works", "");
        let (code, out) = go(tree, &["reset", "web"]);
        assert_eq!((code, out), (Some(0), format!("web: up, pid {}\n", pid(tree, "web"))));
        let again = "web: was not given up, it is up\n".to_owned();
        assert_eq!(go(tree, &["reset", "web"]), (Some(0), again));
    });
}

#[test]
fn ready_is_waited_for() {
    under_each_supervisor(|tree| {
        tree.define("web", "while [ ! -e go ]; do sleep 0.02; done; echo >&3; exec sleep 1000");
        tree.file("web", "notification-fd", "3");
        tree.link("web");
        tree.start();
        eventually("runs", || tree.pid("web").is_some());
        let out = tree.root.join("waited");
        let mut wait = svctl_in(tree).args(&["wait", "ready", "web"]).start(&out);
        eventually("not ready", || svctl_in(tree).args(&["list"]).go().out.contains("not ready"));
        assert_eq!(svctl_in(tree).args(&["is-up", "web"]).go().code, Some(3));
        assert_eq!(wait.ended(), None);
        tree.file("web", "go", "");
        assert_eq!(wait.exit_code(), 0);
        assert_eq!(svctl_in(tree).args(&["is-up", "web"]).go().code, Some(0));
    });
}

#[test]
fn what_ends_before_it_is_ready_was_never_up() {
    under_each_supervisor(|tree| {
        tree.define("web", "sleep 0.4; exit 9");
        tree.file("web", "notification-fd", "3");
        tree.file("web", "down", "");
        tree.link("web");
        tree.start();
        eventually("served", || is_served(tree, "web"));
        for round in 0..8 {
            let (code, out) = go(tree, &["start", "web"]);
            assert_eq!(code, Some(1), "round {round}: {out}");
            assert!(out.starts_with("web: ended "), "round {round}: {out}");
            let (code, out) = go(tree, &["wait", "-w1", "ready", "web"]);
            assert_eq!(code, Some(1), "round {round}: {out}");
            assert_eq!(go(tree, &["stop", "web"]).0, Some(0));
        }
        let outcome = tree.sv(&["-w3", "start", "web"]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
    });
}

#[test]
fn what_ends_late_and_is_started_again_at_once_is_reported() {
    under_any_supervisor(|tree, is_stock| {
        let run = "sleep 1.3; exit 9";
        tree.define("tells", run);
        tree.file("tells", "notification-fd", "3");
        tree.define("checked", run);
        write_script(&tree.root.join("sv/checked/check"), "exit 1");
        // A stock supervisor does not know how a service tells.
        let names = if is_stock { &["checked"][..] } else { &["tells", "checked"] };
        for name in names {
            tree.file(name, "down", "");
            tree.link(name);
        }
        tree.start();
        eventually("served", || names.iter().all(|name| is_served(tree, name)));
        for name in names {
            for verb in ["start", "restart"] {
                let (code, out) = go(tree, &[verb, "-w60", name]);
                assert_eq!(code, Some(1), "{out}");
                assert!(out.starts_with(&format!("{name}: ended before it was up; it ")), "{verb}: {out}");
                assert!(is_stock || out.contains("\n  cause: it exits with 9 after "), "{verb}: {out}");
            }
        }
    });
}

#[test]
fn a_process_that_is_about_to_end_was_not_started() {
    under_any_supervisor(|tree, _| {
        tree.define(
            "web",
            "[ -e quick ] && exec sleep 1000\ntrap 'sleep 2; exit' TERM\necho $$ >ready\nwhile :; do sleep 0.02; done",
        );
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web") && !tree.read("web", "ready").is_empty());
        let old = pid(tree, "web");
        tree.file("web", "quick", "");
        assert_eq!(go(tree, &["stop", "-w1", "web"]).0, Some(1));
        let (code, out) = go(tree, &["start", "-w60", "web"]);
        assert_ne!(pid(tree, "web"), old);
        assert_eq!((code, out), (Some(0), format!("web: up, pid {}\n", pid(tree, "web"))));
    });
}

#[test]
fn what_runs_once_waits_for_what_it_needs() {
    under_each_supervisor(|tree| {
        tree.define("db", "while [ ! -e go ]; do sleep 0.02; done; echo >&3; exec sleep 1000");
        tree.file("db", "notification-fd", "3");
        tree.define("task", "exit 7");
        tree.file("task", "needs", "db");
        tree.file("task", "down", "");
        tree.link("db");
        tree.link("task");
        tree.start();
        eventually("served", || is_served(tree, "task") && tree.pid("db").is_some());
        let out = tree.root.join("once");
        let mut once = svctl_in(tree).args(&["once", "-w60", "task"]).start(&out);
        eventually("it waits", || svctl_in(tree).args(&["list"]).go().out.contains("waits for db"));
        let (code, out) = go(tree, &["wait", "-w4", "down", "task"]);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.starts_with("task: is not down within 4 s; it waits for db\n"), "{out}");
        assert_eq!(once.ended(), None);
        tree.file("db", "go", "");
        assert_eq!(once.exit_code(), 7);
    });
}

#[test]
fn a_restart_starts_what_the_service_needs() {
    under_each_supervisor(|tree| {
        tree.sleeper("db");
        tree.sleeper("web");
        tree.file("web", "needs", "db");
        tree.start();
        eventually("up", || tree.is_up("web") && tree.is_up("db"));
        assert_eq!(go(tree, &["stop", "web", "db"]).0, Some(0));
        let (code, out) = go(tree, &["restart", "-w60", "web"]);
        assert_eq!((code, out), (Some(0), format!("web: up, pid {}\n", pid(tree, "web"))));
        assert!(tree.is_up("db"));
    });
}

#[test]
fn what_was_given_up_is_not_waited_for() {
    under_each_supervisor(|tree| {
        tree.define("web", "exit 1");
        tree.file("web", "restart-limit", "2 60");
        tree.link("web");
        tree.start();
        eventually("given up", || tree.fact("web", "given-up").is_some());
        for state in ["ready", "done"] {
            let (code, out) = go(tree, &["wait", state, "web"]);
            assert_eq!(code, Some(1), "{out}");
            assert!(out.starts_with("web: given up: ") && out.contains("\n  cause: "), "{out}");
        }
    });
}
