//! `runsvinit` and CMD: which signals reach it, what its end means, and who else is touched.

use std::time::Duration;

use crate::runsvinit::boot;
use support::*;

/// What reaches CMD as it is, but for the real-time ones.
const PASSED_ON: [(i32, &str); 18] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (16, "STKFLT"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (28, "WINCH"),
    (29, "IO"),
];

/// CMD that says what it gets, until it gets `last`.
fn listener(last: i32) -> String {
    format!(
        "for s in $(seq 64); do case $s in 9|17|19|32|33) ;; *) trap \"echo got $s.\" $s 2>/dev/null;; esac; done; \
         trap \"echo got the last; exit 3\" {last}; echo ready; while :; do sleep 0.02; done"
    )
}

fn with_command(root: Root, options: &[&str], command: &str) -> Machine {
    let machine = boot(root, &[options, &["--", "/usr/bin/bash", "-c", command]].concat());
    machine.shows("ready");
    machine
}

#[test]
fn all_signals_but_three_reach_it_as_they_are() {
    needs_machine();
    let mut machine = with_command(Root::new().graceful("web"), &[], &listener(15));
    machine.shows("web begins");
    for (number, name) in PASSED_ON {
        machine.signal(number);
        assert!(!machine.has_ended(), "{name}");
        machine.shows(&format!("got {number}."));
    }
    // 40 is the one by which the kernel tells of changes.
    for number in [34, 36, 38, 40, 50, 64] {
        assert_eq!(machine.inside(&format!("kill -{number} 1")).code, Some(0));
        machine.shows(&format!("got {number}."));
    }
    // They had no other effect, and changes are seen as before.
    assert!(!machine.console().contains("web ends"));
    write_script(&machine.root.path("etc/service/late/run"), "echo late begins; exec sleep 1000");
    machine.shows("late begins");
    remove_served(machine.root.path("etc/service/late"));
    machine.signal(SIGTERM);
    machine.shows("got the last");
    assert_eq!(machine.ends(), 3);
    machine.shows("web ends");
}

#[test]
fn a_queued_number_comes_with_the_signal() {
    needs_machine();
    needs_program("python3");
    let command = "exec python3 -c \"import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [34, 15])\nprint(\\\"ready\\\", flush=True)\nwhile True:\n i = signal.sigwaitinfo([34, 15])\n print(\\\"signal\\\", i.si_signo, \\\"code\\\", i.si_code, flush=True)\n if i.si_signo == 15: break\"";
    let mut machine = with_command(Root::new(), &[], command);
    assert_eq!(machine.inside("kill -q 7 -34 1 || /usr/bin/kill -q 7 -34 1").code, Some(0));
    machine.shows("signal 34 code -1");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn the_orderly_stop_begins_with_term_or_the_signal_that_was_given() {
    needs_machine();
    for (options, last) in [
        (&[][..], 15),
        (&["--stop-signal", "INT"], 2),
        (&["--stop-signal=SIGQUIT"], 3),
        (&["--stop-signal", "34"], 34),
    ] {
        for signal in [SIGTERM, 30, 37] {
            let mut machine = with_command(Root::new().graceful("web"), options, &listener(last));
            machine.shows("web begins");
            assert_eq!(machine.inside(&format!("kill -{signal} 1")).code, Some(0));
            assert_eq!(machine.ends(), 3, "{options:?} {signal}");
            let console = machine.console();
            assert!(console.find("got the last").unwrap() < console.find("web ends").unwrap(), "{console}");
            if last != SIGTERM {
                assert!(!console.contains("got 15."), "{console}");
            }
        }
    }
}

#[test]
fn its_whole_group_gets_them_where_that_is_wanted() {
    needs_machine();
    let child = "sh -c \"trap \\\"echo child got it\\\" USR1; trap \\\"echo child ends; exit\\\" TERM; echo child begins; while :; do sleep 0.02; done\"";
    for (options, reached) in [(&["-g"][..], true), (&[], false)] {
        let command = format!(
            "trap \"echo got it\" USR1; trap \"exit 4\" TERM; {child} & echo ready; while :; do sleep 0.02; done"
        );
        let mut machine = with_command(Root::new(), options, &command);
        machine.shows("child begins");
        machine.signal(10);
        machine.shows("\ngot it");
        if reached {
            machine.shows("child got it");
        } else {
            steadily("not reached", Duration::from_millis(200), || {
                !machine.console().contains("child got it")
            });
        }
        machine.signal(SIGTERM);
        assert_eq!(machine.ends(), 4);
        machine.shows("child ends");
    }
}

#[test]
fn every_exit_code_is_its_own() {
    let dir = TempDir::new();
    let script = format!(
        "for code in $(seq 0 255); do {} {} -- sh -c \"exit $code\"; [ $? = $code ] || echo $code became $?; done",
        program("runsvinit").display(),
        dir.path().display()
    );
    let outcome = run_file("/bin/sh").args(&["-c", &script]).go();
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("", ""));
    // And every signal that can end it.
    let script = format!(
        "for s in 1 2 3 9 10 12 13 14 15 24 25 26 34 64; do {} {} -- sh -c \"kill -$s \\$\\$\"; [ $? = $((128 + s)) ] || echo $s became $?; done",
        program("runsvinit").display(),
        dir.path().display()
    );
    let outcome = run_file("/bin/bash").args(&["-c", &script]).go();
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("", ""));
}

#[test]
fn orphans_come_to_it_also_where_it_is_not_process_1() {
    let dir = TempDir::new();
    // Grandchildren that outlive their parents; then nobody is a zombie, and their new parent is runsvinit.
    let command = "for i in $(seq 50); do (sh -c 'sleep 0.05' &); done; (sh -c 'echo $$ >orphan; exec sleep 1000' &); \
                   while [ ! -s orphan ]; do sleep 0.02; done; echo >ready; exec sleep 1000";
    let runsvinit = run("runsvinit").args(&["none", "--", "sh", "-c", command]).dir(dir.path());
    let mut runsvinit = runsvinit.start(&dir.join("err"));
    eventually("ready", || dir.join("ready").exists());
    let orphan = dir.read("orphan").trim().parse().unwrap();
    eventually("it came", || parent_of(orphan) == Some(runsvinit.pid()));
    eventually("all others are gone", || states_of_children(runsvinit.pid()) == ['S', 'S']);
    runsvinit.signal(SIGTERM);
    assert_eq!(runsvinit.exit_code(), 143);
}

#[test]
fn with_v_it_is_said_once_what_is_served_beside_it() {
    needs_machine();
    let mut machine =
        boot(Root::new().graceful("web"), &["-v", "--", "/bin/sh", "-c", "sleep 0.3; echo cmd"]);
    assert_eq!(machine.ends(), 0);
    let said = "runsvinit: info: serving /etc/service beside the command\n";
    assert_eq!(machine.console().matches(said).count(), 1, "{}", machine.console());
}
