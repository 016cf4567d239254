//! `kill-group`.

use support::*;

/// A child that does not end on TERM, and one that does, in the group of `./run`.
const CHILDREN: &str = "sh -c \"trap '' TERM; : >armed; while :; do sleep 0.1; done\" & echo $! >stubborn
sleep 1000 & echo $! >obedient";

fn number(tree: &Tree, name: &str) -> i32 {
    // The file is empty for a moment when the service starts again.
    eventually("written", || tree.read("web", name).ends_with('\n'));
    tree.read("web", name).trim().parse().unwrap()
}

/// Starts a service that is up when it has its children and has done `first`.
fn start(tree: &mut Tree, first: &str, run: &str) {
    tree.define("web", &format!("rm -f ready armed\n{CHILDREN}\n{first}\n: >ready\n{run}"));
    tree.link("web");
    tree.start();
    let is_there = |name: &str| tree.root.join(&format!("sv/web/{name}")).exists();
    eventually("up", || tree.is_up("web") && is_there("ready") && is_there("armed"));
}

#[test]
fn what_is_left_of_the_group_ends_with_run() {
    under_each_supervisor(|tree| {
        tree.file("web", "kill-group", "");
        tree.root.script("sv/web/finish", "ps -o pgid= -p $$ >finish-group");
        start(tree, "", "exec sleep 1000");
        let (run, stubborn, obedient) =
            (tree.pid("web").unwrap(), number(tree, "stubborn"), number(tree, "obedient"));
        // It ends on its own.
        kill(run, SIGKILL);
        eventually("both ended", || !is_alive(stubborn) && !is_alive(obedient));
        eventually("again", || {
            tree.pid("web").is_some_and(|pid| pid != run) && number(tree, "stubborn") != stubborn
        });
        assert!(is_alive(number(tree, "stubborn")));
        let group = tree.read("web", "finish-group");
        assert!(!group.trim().is_empty() && group.trim() != run.to_string(), "{group}");
        let stubborn = number(tree, "stubborn");
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("ended", || !is_alive(stubborn));
    });
}

#[test]
fn the_signals_that_end_it_go_to_all_of_it() {
    under_each_supervisor(|tree| {
        tree.file("web", "kill-group", "");
        // It stays when it gets TERM or HUP, so what its children got is seen.
        let traps = "trap 'echo term >>got' TERM\ntrap 'echo hup >>got' HUP";
        start(tree, traps, "while :; do sleep 0.02; done");
        let obedient = number(tree, "obedient");
        assert_eq!(tree.sv(&["hup", "web"]).code, Some(0));
        eventually("hup", || tree.read("web", "got") == "hup\n");
        assert!(is_alive(obedient), "HUP is for ./run alone");
        assert_eq!(tree.sv(&["term", "web"]).code, Some(0));
        eventually("term", || !is_alive(obedient) && tree.read("web", "got") == "hup\nterm\n");
        let stubborn = number(tree, "stubborn");
        assert!(is_alive(stubborn));
        // `timeout-kill` kills all of it.
        tree.file("web", "timeout-kill", "100");
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("killed", || !is_alive(stubborn));
    });
}

#[test]
fn without_the_file_children_stay_behind() {
    under_each_supervisor(|tree| {
        start(tree, "", "exec sleep 1000");
        let (stubborn, obedient) = (number(tree, "stubborn"), number(tree, "obedient"));
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        assert!(is_alive(stubborn) && is_alive(obedient));
        kill(stubborn, SIGKILL);
        kill(obedient, SIGKILL);
    });
}

#[test]
fn the_file_holds_from_the_next_start_on() {
    under_each_supervisor(|tree| {
        start(tree, "", "exec sleep 1000");
        let (run, obedient) = (tree.pid("web").unwrap(), number(tree, "obedient"));
        tree.file("web", "kill-group", "");
        assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
        eventually("again", || {
            tree.pid("web").is_some_and(|pid| pid != run) && number(tree, "obedient") != obedient
        });
        assert!(is_alive(obedient));
        kill(obedient, SIGKILL);
        let stubborn = number(tree, "stubborn");
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("ended", || !is_alive(stubborn));
    });
}
