//! What a stranger says about readiness, and about what is needed, is not believed.

use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use support::*;

/// Who the stranger is.
const STRANGER: u32 = 65534;

fn give_away(path: &Path) {
    chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        if entry.path().is_dir() {
            give_away(&entry.path());
        } else {
            chown(entry.path(), Some(STRANGER), Some(STRANGER)).unwrap();
        }
    }
}

#[test]
fn a_strangers_service_is_never_ready_and_its_check_is_not_run() {
    needs_root();
    under_each_supervisor(|tree| {
        std::fs::set_permissions(tree.root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let theirs = tree.root.join("theirs");
        tree.root.script("theirs/db/run", "exec sleep 1000");
        tree.root.script("theirs/db/check", "id -u >>asked");
        give_away(&theirs);
        let runsv = program("runsv");
        let _theirs = run_file("/usr/bin/setpriv")
            .args(&["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(runsv)
            .arg("db")
            .dir(&theirs)
            .start(&tree.root.join("their-err"));
        eventually("theirs is up", || tree.root.read("theirs/db/supervise/stat").starts_with("run"));
        tree.sleeper("web");
        tree.file("web", "needs", theirs.join("db").to_str().unwrap());
        // A link does not make it ours.
        std::os::unix::fs::symlink(theirs.join("db"), tree.root.join("service/linked")).unwrap();
        tree.start();
        eventually("waits", || tree.fact("web", "waits").is_some());
        steadily("web is down", Duration::from_millis(500), || !tree.is_up("web"));
        assert_eq!(tree.root.read("theirs/db/asked"), "");
        send(&theirs.join("db/supervise/control"), "x");
    });
}

#[test]
fn a_strangers_file_starts_no_service_of_ours() {
    needs_root();
    under_each_supervisor(|tree| {
        tree.sleeper("web");
        tree.sleeper("db");
        tree.sleeper("own");
        for name in ["web", "db", "own"] {
            tree.file(name, "down", "");
        }
        tree.file("web", "needs", "db own");
        give_away(&tree.root.join("sv/web"));
        give_away(&tree.root.join("sv/own"));
        tree.start();
        eventually("served", || tree.sv(&["status", "web", "db", "own"]).code == Some(0));
        tree.sv(&["-w", "1", "start", "web"]);
        assert!(tree.is_up("own") && !tree.is_up("db") && !tree.is_up("web"));
    });
}

#[test]
fn our_supervisor_is_believed_whoever_owns_the_directory() {
    needs_root();
    under_each_supervisor(|tree| {
        tree.sleeper("web");
        tree.sleeper("open");
        tree.sleeper("theirs");
        tree.file("web", "needs", "open theirs");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(tree.root.join("sv/open"), mode).unwrap();
        give_away(&tree.root.join("sv/theirs"));
        tree.start();
        eventually("web is up", || tree.is_up("web"));
    });
}

#[test]
fn a_check_in_the_directory_of_another_user_is_run_only_by_who_hosts_it() {
    needs_root();
    under_each_supervisor(|tree| {
        tree.sleeper("web");
        tree.sleeper("db");
        tree.root.script("sv/db/check", "echo >>asked");
        tree.file("web", "needs", "db");
        give_away(&tree.root.join("sv/db"));
        tree.start();
        if tree.supervisor() == "runsvinit" {
            eventually("web is up", || tree.is_up("web"));
        } else {
            eventually("waits", || tree.is_up("db") && tree.fact("web", "waits").is_some());
            steadily("web is down", Duration::from_millis(500), || !tree.is_up("web"));
            assert_eq!(tree.read("db", "asked"), "");
        }
    });
}
