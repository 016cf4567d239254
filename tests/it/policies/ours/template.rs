//! Links such as `getty@tty1` to a directory `getty@`.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use support::*;

/// The state of an instance of `getty@`.
fn state(tree: &Tree, instance: &str, name: &str) -> String {
    tree.root.read(&format!("sv/getty@/supervise/@{instance}/{name}"))
}

fn pid(tree: &Tree, instance: &str) -> Option<i32> {
    state(tree, instance, "pid").trim().parse().ok().filter(|&pid| is_alive(pid))
}

fn is_up(tree: &Tree, instance: &str) -> bool {
    pid(tree, instance).is_some() && state(tree, instance, "stat") == "run\n"
}

fn instance(tree: &Tree, name: &str) {
    symlink("../sv/getty@", tree.root.join(&format!("service/getty@{name}"))).unwrap();
}

/// Tells the instances to end, and waits for that.
fn stop(tree: &Tree, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|name| format!("getty@{name}")).collect();
    let words: Vec<&str> = ["stop"].into_iter().chain(names.iter().map(String::as_str)).collect();
    assert_eq!(tree.sv(&words).code, Some(0));
}

#[test]
fn each_link_is_a_service_with_its_own_argument_and_state() {
    under_each_supervisor(|tree| {
        for (name, then) in [
            ("run", "exec sleep 1000"),
            ("finish", ":"),
            ("check", ":"),
            ("control/t", "exit 1"),
            ("control/d", "exit 1"),
        ] {
            // Both may run at once.
            let first = match name {
                "finish" => "until grep -q ^control/d \"out.$1\"; do sleep 0.01; done\n",
                _ => "",
            };
            let script = format!("{first}echo {name} $# \"$@\" $SERVICE >>\"out.$1\"\n{then}");
            tree.root.script(&format!("sv/getty@/{name}"), &script);
        }
        tree.define("plain@", "echo $# $SERVICE >out\nexec sleep 1000");
        tree.link("plain@");
        instance(tree, "tty1");
        instance(tree, "a b@c");
        tree.start();
        eventually("up", || is_up(tree, "tty1") && is_up(tree, "a b@c") && tree.is_up("plain@"));
        // `run` is up before it has written anything.
        eventually("told", || {
            let has_begun = |name: &str| tree.read("getty@", &format!("out.{name}")).ends_with('\n');
            has_begun("tty1") && has_begun("a b@c") && tree.read("plain@", "out") == "0\n"
        });
        let status = tree.sv(&["status", "getty@tty1"]);
        let first = pid(tree, "tty1").unwrap();
        assert!(status.out.starts_with(&format!("run: getty@tty1: (pid {first}) ")), "{status:?}");
        let checked = tree.sv(&["check", "getty@a b@c"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        // By a path, too, and with a slash behind.
        let other = pid(tree, "a b@c").unwrap();
        let status = tree.sv(&["status", "./service/getty@a b@c/"]);
        assert!(status.out.contains(&format!("(pid {other}) ")), "{status:?}");
        // A command for one does not concern the other.
        stop(tree, &["tty1"]);
        assert_eq!((pid(tree, "tty1"), pid(tree, "a b@c")), (None, Some(other)));
        stop(tree, &["a b@c"]);
        let expected = |instance: &str| {
            let check = if instance == "tty1" {
                String::new()
            } else {
                format!("check 1 {instance} getty@{instance}\n")
            };
            format!(
                "run 1 {instance} getty@{instance}\n{check}control/t 2 {instance} PID getty@{instance}\n\
                 control/d 2 {instance} PID getty@{instance}\nfinish 3 {instance} -1 15 getty@{instance}\n"
            )
        };
        for (instance, pid) in [("tty1", first), ("a b@c", other)] {
            let out = tree.read("getty@", &format!("out.{instance}"));
            assert_eq!(out.replace(&format!(" {pid} "), " PID "), expected(instance));
        }
        assert!(!tree.messages().contains("getty"), "{}", tree.messages());
    });
}

#[test]
fn an_instance_ends_with_its_link_and_no_other_does() {
    under_each_supervisor(|tree| {
        tree.define("getty@", "exec sleep 1000");
        for name in ["a", "b", "c"] {
            instance(tree, name);
        }
        tree.start();
        eventually("up", || ["a", "b", "c"].iter().all(|name| is_up(tree, name)));
        let kept = [pid(tree, "b"), pid(tree, "c")];
        tree.unlink("getty@a");
        eventually("down", || pid(tree, "a").is_none());
        // Another name is another argument.
        fs::rename(tree.root.join("service/getty@c"), tree.root.join("service/getty@d")).unwrap();
        eventually("renamed", || is_up(tree, "d") && pid(tree, "c").is_none());
        assert_eq!(pid(tree, "b"), kept[0]);
        instance(tree, "a");
        eventually("again", || is_up(tree, "a"));
        stop(tree, &["a", "b", "d"]);
    });
}

#[test]
fn a_link_to_something_else_is_no_instance() {
    under_each_supervisor(|tree| {
        tree.define("web", "echo $# $SERVICE >>out\nexec sleep 1000");
        symlink("../sv/web", tree.root.join("service/web@x")).unwrap();
        tree.start();
        eventually("told", || tree.is_up("web") && tree.read("web", "out") == "0\n");
        assert!(tree.sv(&["status", "web@x"]).out.starts_with("run: web@x: "));
    });
}

#[test]
fn the_log_service_of_an_instance_is_its_own() {
    under_each_supervisor(|tree| {
        tree.define("getty@", "echo \"from $1\"\nexec sleep 1000");
        tree.root.script("sv/getty@/log/run", "echo \"$# $SERVICE\" >\"out.$1\"\nexec cat >>\"out.$1\"");
        instance(tree, "a");
        instance(tree, "b");
        tree.start();
        for name in ["a", "b"] {
            let expected = format!("1 getty@{name}\nfrom {name}\n");
            eventually("logged", || tree.read("getty@", &format!("log/out.{name}")) == expected);
            let log = format!("getty@{name}/log");
            eventually("served", || tree.sv(&["status", &log]).out.starts_with(&format!("run: {log}: ")));
            let status = tree.sv(&["status", &format!("getty@{name}")]).out;
            assert!(status.contains("; run: log: (pid "), "{status}");
        }
        for name in ["a", "b"] {
            assert_eq!(tree.sv(&["shutdown", &format!("getty@{name}")]).code, Some(0));
        }
    });
}

#[test]
fn the_state_of_an_instance_can_be_elsewhere() {
    under_each_supervisor(|tree| {
        tree.define("getty@", "exec sleep 1000");
        let state = tree.root.join("state");
        fs::create_dir(&state).unwrap();
        instance(tree, "a");
        instance(tree, "a.1");
        let mut supervisors = Vec::new();
        for name in ["getty@a", "getty@a.1"] {
            let run = run("runsv").arg(name).env("RUNITBOX_STATE", &state);
            supervisors.push(run.dir(&tree.root.join("service")).start(&tree.root.join("err")));
        }
        let pid =
            |name: &str| -> Option<i32> { tree.root.read(&format!("state/{name}/pid")).trim().parse().ok() };
        // The file `pid` is written before the status.
        let is_up =
            |name: &str| tree.root.read(&format!("state/{name}/stat")) == "run\n" && pid(name).is_some();
        let sv = |name: &str| {
            let sv = run("sv").args(&["status", name]).env("SVDIR", tree.root.join("service"));
            sv.env("RUNITBOX_STATE", &state).go()
        };
        eventually("up", || {
            ["getty@a", "getty@a.1"].iter().all(|name| is_up(name) && sv(name).out.starts_with("run"))
        });
        for name in ["getty@a", "getty@a.1"] {
            let status = sv(name);
            assert!(status.out.contains(&format!("(pid {}) ", pid(name).unwrap())), "{status:?}");
        }
        assert!(!tree.root.join("sv/getty@/supervise").exists());
        for mut supervisor in supervisors {
            supervisor.signal(SIGTERM);
            assert_eq!(supervisor.exit_code(), 0);
        }
    });
}

#[test]
fn a_lost_state_directory_of_an_instance_is_made_again() {
    under_each_supervisor(|tree| {
        tree.define("getty@", "exec sleep 1000");
        instance(tree, "a");
        instance(tree, "b");
        tree.start();
        eventually("up", || is_up(tree, "a") && is_up(tree, "b"));
        let (one, other) = (pid(tree, "a"), pid(tree, "b"));
        fs::remove_dir_all(tree.root.join("sv/getty@/supervise/@a")).unwrap();
        eventually("again", || pid(tree, "a") == one && is_up(tree, "a"));
        steadily("the same", Duration::from_millis(100), || pid(tree, "b") == other && pid(tree, "a") == one);
        stop(tree, &["a", "b"]);
    });
}

#[test]
fn an_instance_can_be_needed_and_is_asked_by_its_own_check() {
    under_each_supervisor(|tree| {
        tree.define("getty@", "exec sleep 1000");
        tree.root.script("sv/getty@/check", "[ -e \"ready.$1\" ]");
        tree.define("web", "exec sleep 1000");
        tree.file("web", "needs", "getty@a getty@b");
        instance(tree, "a");
        instance(tree, "b");
        tree.link("web");
        tree.start();
        eventually("waits", || tree.fact("web", "waits").is_some() && is_up(tree, "a") && is_up(tree, "b"));
        tree.file("getty@", "ready.a", "");
        eventually("waits for one", || tree.fact("web", "waits").as_deref() == Some("getty@b"));
        steadily("waits", Duration::from_millis(200), || tree.pid("web").is_none());
        tree.file("getty@", "ready.b", "");
        eventually("up", || tree.is_up("web"));
        stop(tree, &["a", "b"]);
    });
}
