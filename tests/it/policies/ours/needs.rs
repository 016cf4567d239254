//! `needs`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use support::*;

/// How long something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(400);

/// A service that notes its start in `order`, and runs. It is ready when that is noted.
fn noted(tree: &Tree, name: &str, needs: &str) {
    tree.define(name, &format!("echo {name} >>../../order\n: >started\nexec sleep 1000"));
    tree.root.script(&format!("sv/{name}/check"), "[ -e started ]");
    if !needs.is_empty() {
        tree.file(name, "needs", needs);
    }
    tree.link(name);
}

fn order(tree: &Tree) -> Vec<String> {
    tree.root.read("order").lines().map(str::to_owned).collect()
}

/// The names in the lines `waits`.
fn waits(tree: &Tree, name: &str) -> Vec<String> {
    let state = tree.read(name, "supervise/state");
    state.lines().filter_map(|line| line.strip_prefix("waits ")).map(str::to_owned).collect()
}

#[test]
fn each_starts_after_those_that_it_needs() {
    under_each_supervisor(|tree| {
        noted(tree, "a", "b # the last of all\n");
        noted(tree, "b", "c d\n");
        noted(tree, "c", "e");
        noted(tree, "d", "e");
        noted(tree, "e", "");
        tree.start();
        eventually("all have started", || order(tree).len() == 5);
        let order = order(tree).concat();
        assert!(["edcba", "ecdba"].contains(&order.as_str()), "{order}");
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn one_that_is_down_is_waited_for_and_named() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "db");
        noted(tree, "db", "");
        tree.file("db", "down", "");
        tree.start();
        eventually("waits", || waits(tree, "web") == ["db"]);
        let status = tree.sv(&["status", "web"]).out;
        assert!(status.ends_with("s, normally up, want up, waits for db\n"), "{status}");
        steadily("web is down", A_WHILE, || !tree.is_up("web"));
        // It stays down when it is not wanted any more, and asks again when it is.
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        assert_eq!(waits(tree, "web"), [] as [&str; 0]);
        assert_eq!(tree.sv(&["start", "db"]).code, Some(0));
        steadily("web is down", A_WHILE, || !tree.is_up("web"));
        assert_eq!(tree.sv(&["start", "web"]).code, Some(0));
        eventually("noted", || order(tree) == ["db", "web"]);
        // That one of them ends does not end the other.
        assert_eq!(tree.sv(&["stop", "db"]).code, Some(0));
        steadily("web is up", A_WHILE, || tree.is_up("web"));
        // But it is not started again without it.
        let pid = tree.pid("web").unwrap();
        kill(pid, SIGKILL);
        eventually("waits again", || waits(tree, "web") == ["db"]);
        assert_eq!(tree.sv(&["start", "db"]).code, Some(0));
        eventually("up again", || tree.is_up("web"));
    });
}

#[test]
fn check_is_asked_until_it_agrees_and_only_while_somebody_waits() {
    under_each_supervisor(|tree| {
        for number in 0..3 {
            noted(tree, &format!("web{number}"), "db");
        }
        noted(tree, "db", "");
        let check = "echo asked >>asked\nmkdir busy || echo two >>two\nsleep 0.05\nrmdir busy\n[ -e ready ]";
        tree.root.script("sv/db/check", check);
        tree.start();
        let asked = || tree.read("db", "asked").lines().count();
        eventually("asked", || asked() >= 4);
        assert_eq!(order(tree), ["db"]);
        assert_eq!(waits(tree, "web0"), ["db"]);
        tree.file("db", "ready", "");
        eventually("up", || (0..3).all(|number| tree.is_up(&format!("web{number}"))));
        // One process asks once at a time.
        if tree.runsv_of("web0") == tree.runsv_of("web1") {
            assert_eq!(tree.read("db", "two"), "");
        }
        let asked_by_now = asked();
        steadily("not asked any more", A_WHILE, || asked() == asked_by_now);
        assert!(tree.messages().is_empty(), "{}", tree.messages());
    });
}

#[test]
fn a_check_that_hangs_holds_up_nobody_else() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "db");
        noted(tree, "db", "");
        tree.root.script("sv/db/check", "echo $$ >pid; exec sleep 1000");
        noted(tree, "other", "last");
        noted(tree, "last", "");
        tree.start();
        eventually("others are up", || tree.is_up("other") && tree.is_up("db"));
        eventually("asked", || !tree.read("db", "pid").is_empty());
        let check: i32 = tree.read("db", "pid").trim().parse().unwrap();
        assert!(!tree.is_up("web"));
        // Nobody waits for it any more.
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("the check is killed", || !is_alive(check));
    });
}

#[test]
fn one_that_can_tell_is_waited_for_until_it_has() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "db");
        tree.define(
            "db",
            "echo db >>../../order\nuntil [ -e go ]; do sleep 0.02; done\necho >&3\nexec sleep 1000",
        );
        tree.file("db", "notification-fd", "3\n");
        // It is not asked where the service tells.
        tree.root.script("sv/db/check", ": >asked");
        tree.link("db");
        tree.start();
        eventually("it runs", || order(tree) == ["db"] && waits(tree, "web") == ["db"]);
        steadily("web waits", A_WHILE, || waits(tree, "web") == ["db"] && order(tree) == ["db"]);
        tree.file("db", "go", "");
        eventually("up", || tree.is_up("web"));
        assert!(!tree.root.join("sv/db/asked").exists());
    });
}

/// Those who look in the turn in which the event comes must not keep it from the others.
#[test]
fn all_that_wait_learn_at_once_that_one_is_ready() {
    under_each_supervisor(|tree| {
        let names = ["w1", "w2", "w3", "w4"];
        names.iter().for_each(|name| noted(tree, name, "db"));
        tree.define("db", "until [ -e go ]; do sleep 0.02; done\necho >&3\nexec sleep 1000");
        tree.file("db", "notification-fd", "3\n");
        tree.link("db");
        tree.start();
        eventually("they wait", || names.iter().all(|name| waits(tree, name) == ["db"]));
        if tree.supervisor() != "runsvinit" {
            tree.file("db", "go", "");
            eventually("up", || names.iter().all(|name| tree.is_up(name)));
            return;
        }
        // When it goes on, the event is there and a look that was due 2.1 s after the start; the next is 2.4 s later.
        thread::sleep(Duration::from_secs(1));
        tree.runsvdir().signal(SIGSTOP);
        tree.file("db", "go", "");
        thread::sleep(Duration::from_millis(1300));
        let begin = Instant::now();
        tree.runsvdir().signal(SIGCONT);
        eventually("up", || names.iter().all(|name| tree.is_up(name)));
        assert!(begin.elapsed() < Duration::from_millis(2300), "{:?}", begin.elapsed());
    });
}

#[test]
fn a_task_is_waited_for_until_it_is_done() {
    under_each_supervisor(|tree| {
        noted(tree, "app", "migration");
        tree.define("migration", "echo migration >>../../order\nuntil [ -e go ]; do sleep 0.02; done");
        tree.file("migration", "restart", "never");
        tree.link("migration");
        tree.start();
        eventually("it runs", || order(tree) == ["migration"] && waits(tree, "app") == ["migration"]);
        steadily("app waits", A_WHILE, || {
            order(tree) == ["migration"] && waits(tree, "app") == ["migration"]
        });
        tree.file("migration", "go", "");
        eventually("up", || tree.is_up("app"));
        eventually("in order", || order(tree) == ["migration", "app"]);
        // It stays done.
        assert_eq!(tree.sv(&["restart", "app"]).code, Some(0));
        eventually("again", || order(tree) == ["migration", "app", "app"]);
    });
}

#[test]
fn one_that_is_given_up_is_waited_for() {
    under_each_supervisor(|tree| {
        noted(tree, "app", "task");
        tree.define("task", "[ -e good ] && exec sleep 1000\nexit 1");
        tree.file("task", "restart-limit", "1 60");
        // Until it ends it runs, and would be ready.
        tree.root.script("sv/task/check", "[ -e good ]");
        tree.link("task");
        tree.start();
        eventually("given up", || tree.fact("task", "given-up").is_some());
        eventually("waits", || waits(tree, "app") == ["task"]);
        tree.file("task", "good", "");
        assert_eq!(tree.sv(&["up", "task"]).code, Some(0));
        eventually("up", || tree.is_up("app"));
    });
}

#[test]
fn a_cycle_is_told_once_and_holds_up_nobody() {
    under_each_supervisor(|tree| {
        noted(tree, "a", "b");
        noted(tree, "b", "c");
        noted(tree, "c", "a");
        noted(tree, "self", "self");
        noted(tree, "x", "a");
        tree.start();
        eventually("all have started", || order(tree).len() == 5);
        let order: Vec<String> = order(tree).into_iter().filter(|name| name != "self").collect();
        assert_eq!(order, ["c", "b", "a", "x"]);
        let messages = tree.messages();
        let mut lines: Vec<&str> = messages.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "c: warning: needs: not waiting for a, since that is a cycle: a needs b needs c needs a",
                "self: warning: needs: not waiting for self, since that is a cycle: self needs self",
            ]
        );
    });
}

#[test]
fn a_cycle_that_is_made_while_its_services_wait_is_found_soon() {
    under_each_supervisor(|tree| {
        noted(tree, "a", "missing");
        noted(tree, "b", "a");
        tree.start();
        eventually("wait", || waits(tree, "a") == ["missing"] && waits(tree, "b") == ["a"]);
        // The pauses between two looks for a cycle have grown to some seconds.
        thread::sleep(Duration::from_secs(5));
        let begin = Instant::now();
        tree.file("a", "needs", "b");
        eventually("up", || tree.is_up("a") && tree.is_up("b"));
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        eventually("noted", || order(tree).len() == 2);
        assert_eq!(order(tree), ["b", "a"]);
    });
}

#[test]
fn services_that_all_need_each_other_are_told_in_one_short_line_each() {
    under_each_supervisor(|tree| {
        const NUMBER: usize = 12;
        let names: Vec<String> = (0..NUMBER).map(|number| format!("s{number:02}")).collect();
        for name in &names {
            let others: Vec<&str> = names.iter().filter(|it| *it != name).map(String::as_str).collect();
            noted(tree, name, &others.join(" "));
        }
        tree.start();
        eventually("all have started", || order(tree).len() == NUMBER);
        assert_eq!(order(tree), names.iter().rev().map(String::as_str).collect::<Vec<_>>());
        let messages = tree.messages();
        assert_eq!(messages.lines().count(), NUMBER - 1, "{messages}");
        assert!(messages.lines().all(|line| line.len() <= 200), "{messages}");
        let last = "s11: warning: needs: not waiting for s00, since that is a cycle: s00 needs s01 needs s02 needs ... \
                    needs s09 needs s10 needs s11 needs s00; nor for 10 others\n";
        assert!(messages.contains(last), "{messages}");
    });
}

/// More services than the first look of a `runsv` goes through.
#[test]
fn a_long_cycle_is_told_once_too() {
    under_each_supervisor(|tree| {
        const LENGTH: usize = 20;
        for number in 0..LENGTH {
            noted(tree, &format!("s{number:02}"), &format!("s{:02}", (number + 1) % LENGTH));
        }
        tree.start();
        eventually("all have started", || order(tree).len() == LENGTH);
        let messages = tree.messages();
        assert_eq!(messages.lines().count(), 1, "{messages}");
        assert!(
            messages.contains("s19: warning: needs: not waiting for s00, since that is a cycle"),
            "{messages}"
        );
    });
}

#[test]
fn one_that_is_missing_is_waited_for_unless_it_is_optional() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "db?");
        noted(tree, "app", "cache");
        tree.start();
        eventually("up", || tree.is_up("web"));
        eventually("waits", || waits(tree, "app") == ["cache"]);
        noted(tree, "cache", "");
        eventually("up", || tree.is_up("app"));
        eventually("in order", || order(tree) == ["web", "cache", "app"]);
    });
}

#[test]
fn a_name_means_the_service_that_has_it_now() {
    under_each_supervisor(|tree| {
        let services = tree.root.join("service");
        let rename = |from: &str, to: &str| fs::rename(services.join(from), services.join(to)).unwrap();
        let restart = |tree: &Tree| kill(tree.pid("web").unwrap(), SIGKILL);
        noted(tree, "web", "db");
        noted(tree, "db", "");
        noted(tree, "other", "");
        tree.file("other", "down", "");
        tree.start();
        eventually("up", || tree.is_up("web"));
        rename("db", "db2");
        // The supervisor has to see it.
        thread::sleep(A_WHILE);
        restart(tree);
        eventually("waits for a name that nobody has", || waits(tree, "web") == ["db"]);
        rename("other", "db");
        steadily("web is down", A_WHILE, || !tree.is_up("web"));
        rename("db", "other");
        rename("db2", "db");
        eventually("up again", || tree.is_up("web"));
        // Two change their names.
        rename("db", "db2");
        rename("other", "db");
        rename("db2", "other");
        thread::sleep(A_WHILE);
        restart(tree);
        eventually("waits for the other", || waits(tree, "web") == ["db"]);
        assert_eq!(tree.sv(&["start", "db"]).code, Some(0));
        eventually("up with the other", || tree.is_up("web"));
        assert!(tree.is_up("db") && tree.is_up("other"));
    });
}

#[test]
fn a_service_of_another_tree_is_needed_by_its_path() {
    for relative in [false, true] {
        under_each_supervisor(|tree| {
            let other = Service::new().script("run", "exec sleep 1000").file("down", "");
            let path = other.path();
            let path = path.to_str().unwrap();
            let up = tree.root.path().parent().unwrap().to_str().unwrap().len();
            let relative_path = format!("../../..{}", &path[up..]);
            noted(tree, "web", if relative { &relative_path } else { path });
            tree.start();
            eventually("waits", || waits(tree, "web").len() == 1);
            let other = other.supervised();
            steadily("web is down", A_WHILE, || !tree.is_up("web"));
            other.send("u");
            eventually("up", || tree.is_up("web"));
            assert_eq!(tree.messages(), "");
        });
    }
}

#[test]
fn a_change_of_the_file_counts_at_once_for_one_that_waits() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "bd");
        noted(tree, "db", "");
        tree.file("db", "down", "");
        tree.start();
        eventually("waits", || waits(tree, "web") == ["bd"]);
        // As an editor does, and in place.
        tree.file("web", "needs.new", "bd db");
        fs::rename(tree.root.join("sv/web/needs.new"), tree.root.join("sv/web/needs")).unwrap();
        eventually("waits for both", || waits(tree, "web") == ["bd", "db"]);
        tree.file("web", "needs", "db");
        eventually("waits for the other", || waits(tree, "web") == ["db"]);
        fs::remove_file(tree.root.join("sv/web/needs")).unwrap();
        eventually("up", || tree.is_up("web"));
    });
}

#[test]
fn a_file_that_makes_no_sense_is_told_and_has_no_effect() {
    under_each_supervisor(|tree| {
        noted(tree, "a", "db ? x");
        noted(tree, "b", "\n# nothing\n");
        noted(tree, "c", &"x".repeat(20_000));
        tree.define("d", "exec sleep 1000");
        fs::create_dir_all(tree.root.join("sv/d/needs")).unwrap();
        tree.link("d");
        tree.define("e", "exec sleep 1000");
        std::os::unix::fs::symlink("nowhere", tree.root.join("sv/e/needs")).unwrap();
        tree.link("e");
        tree.start();
        eventually("up", || ["a", "b", "c", "d", "e"].iter().all(|name| tree.is_up(name)));
        let messages = tree.messages();
        for line in [
            "a: warning: needs: not names of services, ignored\n",
            "c: warning: needs: too long, ignored\n",
            "d: warning: unable to read needs, ignored: is a directory\n",
            "e: warning: unable to read needs, ignored: file does not exist\n",
        ] {
            assert!(messages.contains(line), "{messages}");
        }
        assert_eq!(messages.lines().count(), 4, "{messages}");
    });
}

#[test]
fn start_starts_what_is_needed_too() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "api cache?");
        noted(tree, "api", "db");
        noted(tree, "db", "");
        noted(tree, "other", "");
        for name in ["web", "api", "db", "other"] {
            tree.file(name, "down", "");
        }
        tree.start();
        eventually("served", || tree.sv(&["status", "web", "api", "db", "other"]).code == Some(0));
        let started = tree.sv(&["start", "web"]);
        assert!(started.out.starts_with("ok: run: web: ") && started.out.lines().count() == 1, "{started:?}");
        assert_eq!((started.code, order(tree).concat().as_str()), (Some(0), "dbapiweb"));
        assert!(!tree.is_up("other"));
        // By a path, from elsewhere.
        assert_eq!(tree.sv(&["stop", "web", "api", "db"]).code, Some(0));
        let path = tree.root.join("service/web");
        assert_eq!(tree.sv(&["start", path.to_str().unwrap()]).code, Some(0));
        assert!(tree.is_up("api") && tree.is_up("db"));
    });
}

#[test]
fn a_start_that_is_late_names_what_was_not_ready() {
    under_each_supervisor(|tree| {
        noted(tree, "web", "api");
        noted(tree, "api", "db gone");
        noted(tree, "db", "");
        tree.root.script("sv/db/check", "exit 1");
        tree.start();
        eventually("served", || tree.sv(&["status", "web", "api", "db"]).code == Some(0));
        eventually("waits", || waits(tree, "web") == ["api"] && waits(tree, "api") == ["db", "gone"]);
        let started = tree.sv(&["-w", "1", "start", "web"]);
        let lines: Vec<&str> = started.out.lines().collect();
        assert!(
            lines[0].starts_with("timeout: down: web: ") && lines[0].ends_with(", waits for api"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("timeout: down: api: ") && lines[1].ends_with(", waits for db, gone"),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("fail: gone: unable to change to service directory: "), "{lines:?}");
        assert_eq!((lines.len(), started.code), (3, Some(1)), "{lines:?}");
    });
}

#[test]
fn stop_names_those_that_need_it_and_leaves_them_alone() {
    under_each_supervisor(|tree| {
        for (name, needs) in
            [("web", "db"), ("api", "../../sv/db"), ("down", "db"), ("db", ""), ("other", "")]
        {
            noted(tree, name, needs);
        }
        tree.file("down", "down", "");
        tree.start();
        eventually("up", || ["web", "api", "db", "other"].iter().all(|name| tree.is_up(name)));
        let stopped = tree.sv(&["stop", "db"]);
        let lines: Vec<&str> = stopped.out.lines().collect();
        assert!(lines[0].starts_with("ok: down: db: "), "{lines:?}");
        assert_eq!((&lines[1..], stopped.code), (&["warning: db: needed by api, web"][..], Some(0)));
        assert!(tree.is_up("web") && tree.is_up("api"));
        // Those that are stopped, too, are not named.
        let stopped = tree.sv(&["stop", "db", "web", "api", "other"]);
        assert!(stopped.out.lines().all(|line| line.starts_with("ok: ")), "{stopped:?}");
    });
}

/// A service that notes its end in `ends`.
fn ending(tree: &Tree, name: &str, needs: &str, end: &str) {
    let run =
        format!("trap '{end}\necho {name} >>../../ends; exit 0' TERM\n: >up\nwhile :; do sleep 0.02; done");
    tree.define(name, &run);
    if !needs.is_empty() {
        tree.file(name, "needs", needs);
    }
    tree.link(name);
}

fn ends(tree: &Tree) -> Vec<String> {
    tree.root.read("ends").lines().map(str::to_owned).collect()
}

#[test]
fn services_that_are_stopped_together_end_before_those_that_they_need() {
    under_each_supervisor(|tree| {
        ending(tree, "a", "", "");
        ending(tree, "b", "a", "sleep 0.1");
        ending(tree, "c", "b", "sleep 0.1");
        tree.start();
        eventually("up", || {
            ["a", "b", "c"].iter().all(|name| {
                !tree.read(name, "up").is_empty() || tree.root.join(&format!("sv/{name}/up")).exists()
            })
        });
        let stopped = tree.sv(&["stop", "a", "b", "c"]);
        assert_eq!(
            (stopped.code, ends(tree)),
            (Some(0), vec!["c".into(), "b".into(), "a".into()]),
            "{stopped:?}"
        );
    });
}

#[test]
fn an_orderly_stop_ends_those_first_that_need_others() {
    for supervisor in [("runsvinit", SIGTERM), ("runsvdir", SIGHUP)] {
        under_each_supervisor(|tree| {
            if tree.supervisor() != supervisor.0 {
                return;
            }
            ending(tree, "a", "", "");
            ending(tree, "b", "a", "sleep 0.1");
            ending(tree, "c", "b", "sleep 0.1");
            ending(tree, "d", "a", "sleep 0.2");
            ending(tree, "x", "y", "");
            ending(tree, "y", "x", "");
            let names = ["a", "b", "c", "d", "x", "y"];
            tree.start();
            eventually("up", || names.iter().all(|name| tree.root.join(&format!("sv/{name}/up")).exists()));
            tree.runsvdir().signal(supervisor.1);
            eventually("all ended", || ends(tree).len() == names.len());
            let ends = ends(tree);
            let place = |name: &str| ends.iter().position(|end| end == name).unwrap();
            assert!(
                place("c") < place("b") && place("b") < place("a") && place("d") < place("a"),
                "{ends:?}"
            );
            assert!(place("x") < place("y"), "{ends:?}");
            let code = if supervisor.0 == "runsvdir" { 111 } else { 0 };
            assert_eq!(tree.exit_code(), code);
        });
    }
}

#[test]
fn one_that_does_not_end_holds_up_those_that_it_needs_only_for_a_while() {
    let tree = Tree::new();
    ending(&tree, "a", "", "");
    tree.define("b", "trap '' TERM\n: >up\nwhile :; do sleep 0.02; done");
    tree.file("b", "needs", "a");
    tree.link("b");
    let mut init =
        run("runsvinit").args(&["-w", "3", "service"]).dir(tree.root.path()).start(&tree.root.join("err"));
    eventually("up", || tree.root.join("sv/b/up").exists());
    init.signal(SIGTERM);
    assert_eq!(init.exit_code(), 0);
    assert_eq!(ends(&tree), ["a"]);
    assert!(
        tree.messages().contains("b: warning: ./run did not end in time: killed\n"),
        "{}",
        tree.messages()
    );
    assert!(!tree.messages().contains(" a: "), "{}", tree.messages());
}

#[test]
fn needs_that_are_being_written_start_nothing() {
    under_each_supervisor(|tree| {
        for name in ["web", "db", "other"] {
            tree.sleeper(name);
        }
        for name in ["db", "other"] {
            tree.file(name, "down", "");
        }
        tree.file("web", "needs", "db\n");
        tree.start();
        eventually("waits", || tree.fact("web", "waits").as_deref() == Some("db"));
        tree.file("web", "needs", "");
        eventually("reported", || tree.messages().contains("web: warning: needs: empty, ignored\n"));
        steadily("web is down", A_WHILE, || !tree.is_up("web"));
        let needs = tree.root.join("sv/web/needs");
        std::os::unix::fs::symlink("nowhere", tree.root.join("sv/web/needs.new")).unwrap();
        fs::rename(tree.root.join("sv/web/needs.new"), &needs).unwrap();
        steadily("web is still down", A_WHILE, || !tree.is_up("web"));
        tree.file("web", "other-needs", "other\n");
        fs::rename(tree.root.join("sv/web/other-needs"), &needs).unwrap();
        eventually("waits for another", || tree.fact("web", "waits").as_deref() == Some("other"));
        assert_eq!(tree.sv(&["up", "other"]).code, Some(0));
        eventually("web is up", || tree.is_up("web"));
    });
}
