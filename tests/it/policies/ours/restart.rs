//! `restart`, `restart-delay` and `restart-limit`.

use std::time::{Duration, Instant};

use support::*;

/// A service that notes each start in `starts`, and then does something.
fn counted(tree: &Tree, name: &str, then: &str) {
    tree.define(name, &format!("echo started >>starts\n{then}"));
}

fn starts(tree: &Tree, name: &str) -> usize {
    tree.read(name, "starts").lines().count()
}

fn is_down(tree: &Tree, name: &str) -> bool {
    tree.read(name, "supervise/stat").starts_with("down")
}

#[test]
fn a_task_that_exits_0_is_done_and_not_started_again() {
    for policy in ["never", "on-failure"] {
        under_each_supervisor(|tree| {
            counted(tree, "task", "exit 0");
            tree.file("task", "restart", policy);
            tree.link("task");
            tree.start();
            // The status is published last.
            eventually("done", || tree.fact("task", "done").is_some() && is_down(tree, "task"));
            let status = tree.sv(&["status", "task"]).out;
            assert!(
                status.starts_with("down: task: ") && status.ends_with("s, normally up, done\n"),
                "{status}"
            );
            assert_eq!((starts(tree, "task"), tree.messages().as_str()), (1, ""));
            // A command starts it once more.
            assert_eq!(tree.sv(&["start", "task"]).code, Some(0));
            eventually("done again", || starts(tree, "task") == 2 && tree.fact("task", "done").is_some());
            assert_eq!(tree.fact("task", "starts").as_deref(), Some("2"));
        });
    }
}

#[test]
fn a_failure_is_tried_again_with_on_failure() {
    under_each_supervisor(|tree| {
        counted(tree, "task", "[ $(wc -l <starts) = 3 ]");
        tree.file("task", "restart", "on-failure\n");
        tree.file("task", "restart-delay", "20\n");
        tree.link("task");
        tree.start();
        eventually("done", || tree.fact("task", "done").is_some());
        assert_eq!(starts(tree, "task"), 3);
        let ends: Vec<String> = tree.read("task", "supervise/state").lines().map(str::to_owned).collect();
        let ends: Vec<&str> =
            ends.iter().filter(|line| line.starts_with("end ")).map(|line| &line[30..36]).collect();
        assert_eq!(ends, ["exit 0", "exit 1", "exit 1"]);
    });
}

#[test]
fn a_failure_with_never_is_given_up_and_up_takes_that_back() {
    under_each_supervisor(|tree| {
        counted(tree, "task", "exit 7");
        tree.file("task", "restart", "never");
        tree.link("task");
        tree.start();
        let reason = "./run exited with 7, restart never";
        eventually("given up", || tree.fact("task", "given-up").as_deref() == Some(reason));
        assert!(
            tree.messages().contains(&format!("task: warning: given up: {reason}\n")),
            "{}",
            tree.messages()
        );
        eventually("down", || is_down(tree, "task"));
        let status = tree.sv(&["status", "task"]).out;
        assert!(status.ends_with(&format!(", normally up, want up, given up: {reason}\n")), "{status}");
        let health = tree.sv(&["health", "task"]);
        assert_eq!(health.code, Some(1));
        assert!(health.out.contains(&format!("given up: {reason}")), "{health:?}");
        // Who waits for it to be ready learns that, too.
        tree.file("task", "notification-fd", "3");
        let started = Instant::now();
        let outcome = tree.sv(&["start", "task"]);
        assert!(started.elapsed() < Duration::from_secs(20), "a start that failed is not waited for");
        assert_eq!((outcome.code, &outcome.out[..12]), (Some(1), "fail: down: "), "{outcome:?}");
        assert_eq!(starts(tree, "task"), 2);
    });
}

#[test]
fn too_many_ends_are_given_up() {
    under_each_supervisor(|tree| {
        counted(tree, "web", "exit 3");
        tree.file("web", "restart-limit", "3 60");
        tree.file("web", "restart-delay", "10");
        tree.link("web");
        tree.start();
        eventually("given up", || tree.fact("web", "given-up").as_deref() == Some("3 ends in 60 s"));
        assert_eq!(starts(tree, "web"), 3);
        eventually("down", || is_down(tree, "web"));
        // A command takes it back, and counts from the beginning.
        tree.sv(&["up", "web"]);
        eventually("given up again", || starts(tree, "web") == 6 && tree.fact("web", "given-up").is_some());
        eventually("down again", || is_down(tree, "web"));
    });
}

#[test]
fn ends_that_somebody_asked_for_do_not_count() {
    under_each_supervisor(|tree| {
        counted(tree, "web", "exec sleep 1000");
        tree.file("web", "restart-limit", "1 60");
        tree.file("web", "restart", "never");
        tree.link("web");
        tree.start();
        eventually("started", || starts(tree, "web") == 1 && tree.is_up("web"));
        for number in 2..5 {
            assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
            eventually("started", || starts(tree, "web") == number);
        }
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        assert_eq!((tree.fact("web", "given-up"), tree.fact("web", "done")), (None, None));
    });
}

#[test]
fn finish_gives_up_by_125() {
    under_each_supervisor(|tree| {
        counted(tree, "web", "exit 1");
        tree.root.script("sv/web/finish", "exit 125");
        tree.file("web", "restart", "always");
        tree.link("web");
        // Without such a file the code means nothing.
        counted(tree, "other", "exit 1");
        tree.root.script("sv/other/finish", "exit 125");
        tree.link("other");
        tree.start();
        eventually("given up", || {
            tree.fact("web", "given-up").as_deref() == Some("./finish exited with 125")
        });
        eventually("started again", || starts(tree, "other") > 1);
        assert_eq!(starts(tree, "web"), 1);
    });
}

#[test]
fn pauses_are_doubled_up_to_the_longest() {
    under_each_supervisor(|tree| {
        tree.define("web", "date +%s%N >>starts; exit 1");
        tree.file("web", "restart-delay", "100 400");
        tree.link("web");
        tree.start();
        eventually("5 starts", || starts(tree, "web") >= 5);
        let times: Vec<u64> = tree.read("web", "starts").lines().map(|line| line.parse().unwrap()).collect();
        let pauses: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
        // A busy machine makes them longer, nothing makes them shorter.
        for (pause, least) in pauses.iter().zip([100, 200, 400, 400]) {
            assert!(*pause >= least, "{pauses:?}");
        }
    });
}

#[test]
fn what_makes_no_sense_is_reported_once_and_the_service_runs() {
    under_each_supervisor(|tree| {
        tree.define("web", "sleep 0.01");
        tree.file("web", "restart", "sometimes");
        tree.file("web", "restart-delay", "10 5");
        tree.file("web", "restart-limit", "");
        tree.file("web", "notification-fd", "2");
        tree.link("web");
        tree.start();
        eventually("started twice", || tree.fact("web", "starts").is_some_and(|starts| starts != "1"));
        for line in [
            "restart: not always, on-failure or never, ignored",
            "restart-delay: not MIN or MIN MAX in milliseconds, ignored",
            "restart-limit: empty, ignored",
        ] {
            let line = format!("web: warning: {line}\n");
            assert_eq!(tree.messages().matches(&line).count(), 1, "{line}{}", tree.messages());
        }
        // From the next decision on, a file that makes sense holds.
        tree.file("web", "restart", "on-failure");
        eventually("done", || tree.fact("web", "done").is_some());
    });
}

#[test]
fn what_a_killed_supervisor_left_is_not_believed() {
    let mut service = Service::new().script("run", "exit 0").file("restart", "never").supervised();
    let facts = || service.read("supervise/state");
    eventually("done", || facts().contains("done @") && service.is_down());
    assert!(service.sv(&["status"]).out.ends_with(", done\n"));
    let left = facts();
    service.runsv().kill();
    eventually("killed", || service.runsv().ended().is_some());
    // Stock's runsv, for one, does not remove the file. Otherwise the service would soon be done again.
    service.write("down", "");
    let service = service.supervised();
    service.write("supervise/state", &left);
    let status = service.sv(&["status"]).out;
    assert!(status.starts_with("down: ./s: ") && !status.contains("done"), "{status}");
}
