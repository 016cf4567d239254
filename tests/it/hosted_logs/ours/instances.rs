//! Logs without `log/run` of the instances of a template: each has its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use support::*;

/// Prints numbered lines with its argument until TERM, then a last one.
const COUNTS: &str =
    "n=0; trap 'echo $1 last; exit' TERM; while :; do n=$((n+1)); echo $1 $n; sleep 0.002; done";

/// A template `h@` with an empty directory `log`, and instances `h@a` and `h@b`.
fn template(tree: &Tree, run: &str) {
    tree.define("h@", run);
    fs::create_dir_all(tree.root.join("sv/h@/log")).unwrap();
    for name in ["a", "b"] {
        symlink("../sv/h@", tree.root.join(&format!("service/h@{name}"))).unwrap();
    }
}

fn path(tree: &Tree, name: &str) -> PathBuf {
    tree.root.join("sv/h@").join(name)
}

fn current(tree: &Tree, name: &str) -> String {
    tree.read("h@", &format!("log/@{name}/current"))
}

fn log_pid(tree: &Tree, name: &str) -> Option<i32> {
    tree.read("h@", &format!("log/supervise/@{name}/pid")).trim().parse().ok()
}

/// The old logs of an instance, joined, and the current one.
fn all(tree: &Tree, name: &str) -> String {
    let directory = path(tree, &format!("log/@{name}"));
    let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<PathBuf> =
        names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('@')).collect();
    names.sort();
    names.into_iter().map(read).chain([current(tree, name)]).collect()
}

/// Removes the links, and waits until the logs are closed.
fn stop(tree: &Tree) {
    for name in ["a", "b"] {
        tree.unlink(&format!("h@{name}"));
    }
    eventually("ended", || ["a", "b"].iter().all(|name| log_pid(tree, name).is_none()));
}

#[test]
fn each_instance_has_a_log_of_its_own_in_which_no_line_is_lost() {
    under_each_supervisor(|tree| {
        template(tree, COUNTS);
        tree.file("h@", "log/config", "s20000\nn0\n");
        tree.start();
        let counts = |name: &str| eventually("counts", || current(tree, name).lines().count() > 20);
        counts("a");
        counts("b");
        assert_eq!(tree.sv(&["restart", "h@a"]).code, Some(0));
        // ALRM, for one of them.
        send(&path(tree, "log/supervise/@a/control"), "a");
        let rotated = |name: &str| all(tree, name) != current(tree, name);
        eventually("rotated", || rotated("a"));
        counts("a");
        assert!(!rotated("b"));
        stop(tree);
        for name in ["a", "b"] {
            let text = all(tree, name);
            let mut expected = 1;
            for line in text.lines() {
                let (of, what) = line.split_once(' ').unwrap();
                assert_eq!(of, name);
                if what == "last" {
                    expected = 1;
                } else {
                    assert_eq!(what, expected.to_string(), "{text}");
                    expected += 1;
                }
            }
            assert_eq!(text.matches("last").count(), if name == "a" { 2 } else { 1 });
        }
        assert!(!path(tree, "log/current").exists());
        assert!(!tree.messages().contains("svlogd"), "{}", tree.messages());
    });
}

#[test]
fn a_keeper_that_is_killed_goes_on_in_the_same_directory() {
    under_each_supervisor(|tree| {
        template(tree, COUNTS);
        tree.start();
        eventually("counts", || ["a", "b"].iter().all(|name| current(tree, name).lines().count() > 20));
        let pid = log_pid(tree, "a").unwrap();
        kill(pid, SIGKILL);
        eventually("again", || log_pid(tree, "a").is_some_and(|new| new != pid));
        for name in ["a", "b"] {
            let lines = current(tree, name).lines().count();
            eventually("goes on", || current(tree, name).lines().count() > lines + 20);
        }
        stop(tree);
        assert!(all(tree, "a").ends_with("a last\n") && all(tree, "b").ends_with("b last\n"));
    });
}

#[test]
fn config_holds_for_each_unless_it_has_its_own_and_main_leads_to_all() {
    under_each_supervisor(|tree| {
        template(tree, "echo $1 begins; exec sleep 1000");
        tree.file("h@", "log/config", "ttt\npx: \n!gzip\n");
        fs::create_dir_all(tree.root.join("elsewhere/@b")).unwrap();
        fs::write(tree.root.join("elsewhere/@b/config"), "py: \n").unwrap();
        fs::write(tree.root.join("elsewhere/config"), "pz: \n").unwrap();
        symlink("../../../elsewhere", path(tree, "log/main")).unwrap();
        tree.start();
        let text = |name: &str| tree.root.read(&format!("elsewhere/@{name}/current"));
        eventually("written", || text("a").ends_with('\n') && text("b").ends_with('\n'));
        let line = text("a");
        assert!(line.as_bytes()[10] == b'T' && line.ends_with(" x: a begins\n"), "{line}");
        assert_eq!(text("b"), "y: b begins\n");
        assert!(!path(tree, "log/@a").exists());
        let log = |name: &str| {
            run_file(executable())
                .args(&["svctl", "log", "-d", "service", name])
                .dir(tree.root.path())
                .go()
                .out
        };
        assert!(log("h@a").contains("x: a begins") && !log("h@a").contains("b begins"), "{}", log("h@a"));
        assert!(log("h@b").contains("b begins"), "{}", log("h@b"));
        // HUP reads it again, and makes what is missing; ALRM rotates, and the old log is compressed.
        send(&path(tree, "log/supervise/@a/control"), "a");
        let is_compressed = || {
            let names = fs::read_dir(tree.root.join("elsewhere/@a")).unwrap();
            names.into_iter().any(|entry| entry.unwrap().path().to_string_lossy().ends_with(".s"))
        };
        eventually("compressed", is_compressed);
        fs::remove_file(path(tree, "log/config")).unwrap();
        fs::remove_dir_all(tree.root.join("elsewhere/@b")).unwrap();
        send(&path(tree, "log/supervise/@b/control"), "h");
        eventually("made", || tree.root.join("elsewhere/@b/current").exists());
        assert_eq!(tree.sv(&["restart", "h@b"]).code, Some(0));
        eventually("by the config beside all", || text("b") == "z: b begins\n");
        assert_eq!(tree.messages(), "");
        stop(tree);
    });
}

#[test]
fn the_account_in_user_owns_the_directory_of_each() {
    needs_root();
    under_each_supervisor(|tree| {
        template(tree, "echo $1; exec sleep 1000");
        tree.file("h@", "log/user", "nobody\n");
        // `log` belongs to root, so that svlogd can make nothing in it; in `main` of another template it can.
        tree.define("m@", "echo $1; exec sleep 1000");
        fs::create_dir_all(tree.root.join("sv/m@/log/main")).unwrap();
        tree.file("m@", "log/user", "nobody\n");
        chown(tree.root.join("sv/m@/log/main"), Some(65534), None).unwrap();
        symlink("../sv/m@", tree.root.join("service/m@a")).unwrap();
        tree.start();
        for directory in ["h@/log/@a", "h@/log/@b", "m@/log/main/@a"] {
            let name = &directory[directory.len() - 1..];
            let path = tree.root.join("sv").join(directory);
            eventually("written", || read(path.join("current")) == format!("{name}\n"));
            for path in [path.join("current"), path] {
                assert_eq!(fs::metadata(&path).unwrap().uid(), 65534, "{}", path.display());
            }
        }
        assert_eq!(tree.messages(), "");
        stop(tree);
        tree.unlink("m@a");
        eventually("ended", || tree.root.read("sv/m@/log/supervise/@a/pid").is_empty());
    });
}

#[test]
fn a_directory_that_a_stranger_made_is_refused() {
    needs_root();
    under_each_supervisor(|tree| {
        template(tree, "echo $1; exec sleep 1000");
        fs::set_permissions(path(tree, "log"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::create_dir(path(tree, "log/@a")).unwrap();
        std::os::unix::fs::lchown(path(tree, "log/@a"), Some(65534), None).unwrap();
        symlink("../../../service", path(tree, "log/@b")).unwrap();
        std::os::unix::fs::lchown(path(tree, "log/@b"), Some(65534), None).unwrap();
        tree.start();
        eventually("told", || tree.messages().contains("/log/@a: belongs to another user"));
        eventually("told", || tree.messages().contains("/log/@b: is a symbolic link"));
        assert!(!path(tree, "log/@a/lock").exists() && !tree.root.join("service/current").exists());
        for name in ["a", "b"] {
            tree.unlink(&format!("h@{name}"));
        }
        eventually("ended", || {
            ["a", "b"].iter().all(|name| tree.read("h@", &format!("supervise/@{name}/pid")).is_empty())
        });
    });
}

#[test]
fn on_failure_gets_the_name_of_the_instance_and_its_last_lines() {
    under_each_supervisor(|tree| {
        template(
            tree,
            "echo $1 fails; until grep -q fails log/@$1/current 2>/dev/null; do sleep 0.05; done; exit 3",
        );
        tree.file("h@", "restart", "never\n");
        tree.root.script("sv/h@/on-failure", "{ echo \"$1 $2 $SERVICE\"; cat; echo end; } >\"called.$1\"");
        // The one for all services gets the variable, too.
        tree.define("g@", "exit 4");
        tree.file("g@", "restart", "never\n");
        symlink("../sv/g@", tree.root.join("service/g@c")).unwrap();
        tree.root.script("service/.on-failure", "echo \"$1 $2 $SERVICE\" >called");
        tree.start();
        for name in ["a", "b"] {
            let called = || tree.read("h@", &format!("called.h@{name}"));
            eventually("called", || called().ends_with("end\n"));
            assert_eq!(called(), format!("h@{name} 3 h@{name}\n{name} fails\nend\n"));
        }
        eventually("called", || tree.root.read("service/called") == "g@c 4 g@c\n");
        tree.unlink("g@c");
        stop(tree);
    });
}
