//! `runsvinit` as process 1, and logs of services without `log/run`.

use std::fs;

use crate::runsvinit::boot;
use support::*;

/// A root with services whose last line comes when they are told to end.
fn root_of(number: usize) -> Root {
    let mut root = Root::new();
    for number in 0..number {
        let run = format!(
            "trap 'echo {number} ends; exit' TERM; echo {number} begins; while :; do sleep 0.05; done"
        );
        root = root.script(&format!("etc/service/s{number}/run"), &run);
        root = root.file(&format!("etc/service/s{number}/log/config"), "n3\n");
    }
    root
}

fn log(machine: &Machine, number: usize) -> String {
    machine.read(&format!("etc/service/s{number}/log/current"))
}

fn logger(machine: &Machine, name: &str) -> Option<i32> {
    machine.read(&format!("etc/service/{name}/log/supervise/pid")).trim().parse().ok()
}

#[test]
fn the_stop_waits_until_each_log_has_the_last_line_of_its_service() {
    needs_machine();
    const SERVICES: usize = 60;
    let mut machine = boot(root_of(SERVICES), &["-w", "60"]);
    let all = || (0..SERVICES).all(|number| log(&machine, number) == format!("{number} begins\n"));
    eventually("written", all);
    eventually("one process for all", || {
        let first = logger(&machine, "s0");
        first.is_some() && (0..SERVICES).all(|number| logger(&machine, &format!("s{number}")) == first)
    });
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    for number in 0..SERVICES {
        assert_eq!(log(&machine, number), format!("{number} begins\n{number} ends\n"));
    }
    assert!(!machine.console().contains("runsvinit"), "{}", machine.console());
}

#[test]
fn a_logger_that_is_killed_in_a_container_is_started_again_for_all() {
    needs_machine();
    let mut machine = boot(root_of(3), &["-w", "60"]);
    eventually("written", || (0..3).all(|number| log(&machine, number) == format!("{number} begins\n")));
    let killed = machine.inside("sleep 1.1; kill -9 $(cat /etc/service/s0/log/supervise/pid)");
    assert_eq!(killed.code, Some(0));
    machine.shows("svlogd for logs of services was ended by signal 9: their lines wait in the pipes");
    // svlogd makes an old log of a current that it finds incomplete.
    let has_old = || {
        let mut names = fs::read_dir(machine.root.path("etc/service/s2/log")).unwrap();
        names.any(|entry| entry.unwrap().file_name().as_encoded_bytes().starts_with(b"@"))
    };
    eventually("goes on", || has_old() && logger(&machine, "s2").is_some());
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    assert!((0..3).all(|number| log(&machine, number) == format!("{number} ends\n")));
}

#[test]
fn whoever_holds_a_pipe_open_does_not_hold_up_the_end() {
    needs_machine();
    let run = "(trap '' TERM; exec sleep 1000) & trap 'echo ends; exit' TERM; echo begins; while :; do sleep 0.05; done";
    let root = Root::new().script("etc/service/s0/run", run).file("etc/service/s0/log/config", "n3\n");
    let mut machine = boot(root, &["-w", "4"]);
    eventually("written", || log(&machine, 0) == "begins\n");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    assert_eq!(log(&machine, 0), "begins\nends\n");
    machine.shows("runsvinit s0: warning: svlogd of ./log did not end in time: killed");
    assert!(!machine.console().contains("their lines wait"), "{}", machine.console());
}
