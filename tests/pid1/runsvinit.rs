//! `runsvinit` as a container's process 1: whole lives of a container.

use std::time::{Duration, Instant};

use support::*;

pub fn boot(root: Root, words: &[&str]) -> Machine {
    let mut machine = root.boot(&[&["/sbin/runsvinit"], words].concat());
    // Before that, the kernel drops signals to a process 1 that has said nothing about them.
    eventually("waits for signals", || {
        let status = read(format!("/proc/{}/status", machine.init));
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
        let blocked = blocked.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        blocked & (1 << (SIGTERM - 1)) != 0 || machine.has_ended()
    });
    machine
}

/// Lines of the console that begin like ours.
fn complaints(machine: &Machine) -> Vec<String> {
    machine.console().lines().filter(|line| line.starts_with("runsvinit")).map(str::to_owned).collect()
}

const LATE: &str = "did not end in time: killed";

#[test]
fn each_signal_for_that_stops_all_in_order_and_silently() {
    needs_machine();
    for signal in [SIGTERM, SIGINT, SIGPWR, SIGQUIT] {
        let root = Root::new()
            .graceful("web")
            .graceful("db")
            .script("etc/service/web/log/run", "exec cat >>/etc/service/web/out");
        let mut machine = boot(root, &[]);
        machine.shows("db begins");
        eventually("logged", || machine.read("etc/service/web/out") == "web begins\n");
        machine.signal(signal);
        assert_eq!(machine.ends(), 0, "{signal}");
        machine.shows("db ends");
        assert_eq!(machine.read("etc/service/web/out"), "web begins\nweb ends\n");
        assert_eq!(complaints(&machine), [] as [&str; 0], "{signal}");
    }
    // SIGRTMIN+3 has no name in the kernel.
    let mut machine = boot(Root::new().graceful("web"), &[]);
    machine.shows("web begins");
    assert_eq!(machine.inside("kill -37 1").code, Some(0));
    assert_eq!(machine.ends(), 0);
    machine.shows("web ends");
}

#[test]
fn the_command_ends_first_and_its_code_is_that_of_the_container() {
    needs_machine();
    let command = "trap 'echo cmd ends; exit 5' TERM; echo cmd begins; while :; do sleep 0.02; done";
    let mut machine =
        boot(Root::new().graceful("web"), &["--", "/bin/sh", "-c", &command.replace('\'', "\"")]);
    machine.shows("cmd begins");
    machine.shows("web begins");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 5);
    let console = machine.console();
    assert!(console.find("cmd ends").unwrap() < console.find("web ends").unwrap(), "{console}");
    assert_eq!(complaints(&machine), [] as [&str; 0]);
}

#[test]
fn exit_codes_are_those_of_what_ended() {
    needs_machine();
    for (words, code) in [
        (vec!["--", "/bin/sh", "-c", "exit 0"], 0),
        (vec!["--", "/bin/sh", "-c", "exit 42"], 42),
        (vec!["--", "/bin/sh", "-c", "kill -9 $$"], 137),
        (vec!["--map", "143=0", "--", "/bin/sh", "-c", "kill -15 $$"], 0),
        (vec!["--map", "1=2", "--map=42=7", "--", "/bin/sh", "-c", "exit 42"], 7),
        (vec!["--", "/no/such/thing"], 127),
        (vec!["--", "no-such-thing"], 127),
        (vec!["--", "/etc/service"], 126),
        (vec!["/none", "--", "/bin/sh", "-c", "exit 3"], 3),
    ] {
        let mut machine = boot(Root::new().graceful("web"), &words);
        assert_eq!(machine.ends(), code, "{words:?}");
    }
    let mut machine = boot(Root::new(), &["--", "/bin/sh", "-c", "echo here; exec sleep 1000"]);
    machine.shows("here");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 143);
}

#[test]
fn an_essential_service_that_ends_by_itself_ends_the_container_with_its_code() {
    needs_machine();
    for (run, code) in [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)] {
        let body = format!("echo main begins\n[ -e /restarted ] || exec sleep 1000\n{run}");
        let root = Root::new()
            .graceful("web")
            .script("etc/service/main/run", &body)
            .file("etc/service/main/essential", "");
        let mut machine = boot(root, &[]);
        machine.shows("web begins");
        machine.shows("main begins");
        // A restart that somebody asked for is no end by itself.
        assert_eq!(machine.inside("sv -w60 restart main; >/restarted; sv -w60 restart main").err, "");
        assert_eq!(machine.ends(), code, "{run}");
        machine.shows("web ends");
        machine.shows("essential service main");
    }
    let root =
        Root::new().graceful("web").file("etc/service/main/run", "").file("etc/service/main/essential", "");
    let mut machine = boot(root, &[]);
    assert_eq!(machine.ends(), 111, "one that cannot be started");
}

#[test]
fn who_does_not_end_is_killed_in_time_and_each_is_named() {
    needs_machine();
    promptly("the end", Duration::from_millis(3200), || {
        let deaf = "trap '' TERM; echo $0 deaf; while :; do sleep 0.1; done";
        let root = Root::new()
            .graceful("web")
            .script("etc/service/one/run", deaf)
            // There is no time left for this.
            .script("etc/service/one/finish", "echo finish of one; exec sleep 1000")
            .script("etc/service/two/run", "exec sleep 1000")
            .script("etc/service/two/finish", "echo finishing; exec sleep 1000");
        let mut machine = boot(root, &["-w", "3"]);
        machine.shows("web begins");
        machine.shows("deaf");
        machine.inside("sv -w60 check two");
        let took = time_of(|| {
            machine.signal(SIGTERM);
            assert_eq!(machine.ends(), 0);
        });
        assert!(!machine.console().contains("finish of one"), "{}", machine.console());
        let mut complaints = complaints(&machine);
        complaints.sort();
        assert_eq!(
            complaints,
            [
                format!("runsvinit one: warning: ./run {LATE}"),
                format!("runsvinit two: warning: ./finish {LATE}")
            ]
        );
        took
    });
}

#[test]
fn a_second_signal_is_haste() {
    needs_machine();
    let root = Root::new()
        .script("etc/service/one/run", "trap '' TERM; echo $0 deaf; while :; do sleep 0.1; done")
        .script("etc/service/one/log/run", "exec cat >>/etc/service/one/out");
    let command = "trap : TERM; echo cmd; while :; do sleep 0.1; done";
    let mut machine = boot(root, &["-w", "60", "--", "/bin/sh", "-c", command]);
    machine.shows("cmd");
    eventually("logged", || machine.read("etc/service/one/out").contains("deaf"));
    machine.signal(SIGTERM);
    steadily("waits", Duration::from_millis(200), || !machine.has_ended());
    // Without the second one it would wait for a minute.
    let took = time_of(|| {
        machine.signal(SIGTERM);
        assert_eq!(machine.ends(), 137);
    });
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(
        complaints(&machine),
        [format!("runsvinit: warning: the command {LATE}"), format!("runsvinit one: warning: ./run {LATE}")]
    );
}

#[test]
fn signals_for_the_command_reach_it_and_children_have_them_all() {
    needs_machine();
    let command = "for s in USR1 USR2 WINCH QUIT; do trap \"echo got $s\" $s; done; \
                   grep -E ^Sig[BI][lg] /proc/self/status; echo ready; while :; do sleep 0.02; done";
    let root =
        Root::new().script("etc/service/web/run", "grep -E ^Sig[BI][lg] /proc/self/status; exec sleep 1000");
    let mut machine = boot(
        root.started_by("/usr/bin/env --ignore-signal=USR2,HUP,TTIN"),
        &["--", "/bin/sh", "-c", command],
    );
    machine.shows("ready");
    for (signal, name) in [(SIGUSR1, "USR1"), (SIGUSR2, "USR2"), (SIGWINCH, "WINCH"), (SIGQUIT, "QUIT")] {
        machine.signal(signal);
        machine.shows(&format!("got {name}"));
    }
    eventually("both", || machine.console().matches("SigIgn").count() == 2);
    let console = machine.console();
    assert_eq!(console.matches("SigBlk:\t0000000000000000").count(), 2, "{console}");
    // But for the two that the C library keeps for itself, which cannot be set by it.
    let ignored = console.lines().filter_map(|line| line.strip_prefix("SigIgn:\t"));
    let ignored: Vec<u64> = ignored.map(|mask| u64::from_str_radix(mask, 16).unwrap() & !(3 << 31)).collect();
    assert_eq!(ignored, [0, 0], "{console}");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 143);
}

#[test]
fn services_come_and_go_and_are_controlled_as_ever() {
    needs_machine();
    let mut machine =
        boot(Root::new().graceful("web").script("sv/late/run", "echo late begins; exec sleep 1000"), &["-v"]);
    machine.shows("web begins");
    std::os::unix::fs::symlink("../../sv/late", machine.root.path("etc/service/late")).unwrap();
    machine.shows("late begins");
    let status =
        machine.inside("sv -w60 start late >/dev/null && sv status late web | sed 's/[0-9][0-9]*/N/g'");
    assert_eq!(status.out, "run: late: (pid N) Ns\nrun: web: (pid N) Ns\n", "{status:?}");
    // To look again changes nothing where nothing changed.
    machine.signal(SIGHUP);
    for command in [
        "sv -w60 stop web",
        "sv -w60 start web",
        "sv -w60 restart web",
        "sv -w60 force-stop web",
        "sv -w60 start web",
    ] {
        assert_eq!(machine.inside(command).code, Some(0), "{command}");
    }
    std::fs::remove_file(machine.root.path("etc/service/late")).unwrap();
    eventually("late left", || machine.inside("sv status /sv/late").code == Some(1));
    // Told to exit while it is still there, it comes again.
    assert_eq!(machine.inside("sv -w60 exit web; sv -w60 start web").code, Some(0));
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn a_stop_is_right_while_services_start_crash_or_pause() {
    needs_machine();
    for delay in [0, 5, 30, 300] {
        promptly("the end", Duration::from_secs(2), || {
            let mut root = Root::new();
            for number in 0..10 {
                root = root
                    .script(&format!("etc/service/crash{number}/run"), "exit 1")
                    .script(&format!("etc/service/new{number}/run"), "exec sleep 1000")
                    .script(&format!("etc/service/slow{number}/control/u"), "sleep 0.2")
                    .script(&format!("etc/service/slow{number}/run"), "exec sleep 1000");
            }
            let mut machine = boot(root, &["-w", "60"]);
            // The moment is what is tried here; there is nothing to wait for.
            std::thread::sleep(Duration::from_millis(delay));
            let took = time_of(|| {
                machine.signal(SIGTERM);
                assert_eq!(machine.ends(), 0);
            });
            assert!(!machine.console().contains(LATE), "{}", machine.console());
            took
        });
    }
}

#[test]
fn nothing_is_started_once_it_ends() {
    needs_machine();
    let root = Root::new().graceful("web").script(
        "etc/service/slow/run",
        "trap 'sleep 1; exit' TERM; echo slow begins; while :; do sleep 0.02; done",
    );
    let mut machine = boot(root, &[]);
    machine.shows("slow begins");
    machine.shows("web begins");
    machine.signal(SIGTERM);
    machine.shows("web ends");
    machine.root.path("etc/service/late");
    write_script(&machine.root.path("etc/service/late/run"), "echo late begins");
    let _ = machine.inside("sv -w1 start slow");
    assert_eq!(machine.ends(), 0);
    assert!(!machine.console().contains("late begins"));
    assert_eq!(machine.console().matches("slow begins").count(), 1);
}

#[test]
fn hooks_run_before_and_after_and_one_that_fails_ends_it() {
    needs_machine();
    let root = Root::new()
        .script("etc/runit/boot.d/20-b", "echo boot b")
        .script("etc/runit/boot.d/10-a", "sleep 0.1; echo boot a")
        .file("etc/runit/boot.d/README", "not executable")
        .script("etc/runit/halt.d/bye", "echo bye")
        .graceful("web");
    let mut machine = boot(root, &[]);
    machine.shows("web begins");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    let console = machine.console();
    let places: Vec<usize> = ["boot a", "boot b", "web begins", "web ends", "bye"]
        .iter()
        .map(|text| console.find(text).unwrap_or_else(|| panic!("{text}: {console}")))
        .collect();
    assert!(places.is_sorted(), "{console}");

    for (hook, code) in [("exit 9", 9), ("kill -9 $$", 137)] {
        let root = Root::new()
            .script("etc/runit/boot.d/10-a", hook)
            .script("etc/runit/boot.d/20-b", "echo b")
            .graceful("web");
        let mut machine = boot(root, &[]);
        assert_eq!(machine.ends(), code);
        assert!(!machine.console().contains("web begins") && !machine.console().contains("b\n"));
        machine.shows("/etc/runit/boot.d/10-a");
    }
    // One that hangs is ended by a stop, and that is no failure.
    let mut machine = boot(Root::new().script("etc/runit/boot.d/10-a", "echo hangs; exec sleep 1000"), &[]);
    machine.shows("hangs");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    // One that ignores that is killed, and named.
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    let mut machine = boot(Root::new().script("etc/runit/boot.d/10-a", deaf), &["-w", "1"]);
    machine.shows("deaf");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    machine.shows("runsvinit: warning: /etc/runit/boot.d/10-a did not end in time: killed");
}

#[test]
fn halt_from_inside_ends_it_with_a_code() {
    needs_machine();
    for (words, code) in [("", 0), ("42", 42), ("255", 255)] {
        let mut machine = boot(Root::new().graceful("web"), &["--", "/bin/sh", "-c", "sleep 1000"]);
        machine.shows("web begins");
        machine.told_to_end(&format!("runsvinit --halt {words}"));
        assert_eq!(machine.ends(), code);
        machine.shows("web ends");
    }
}

#[test]
fn the_tree_is_found_however_it_was_called() {
    needs_machine();
    for words in [
        &["/sbin/runitbox", "runsvinit"][..],
        &["/sbin/runitbox", "runsvinit", "-vw", "5"],
        &["/sbin/runsvinit", "-w5", "--", "/usr/bin/sleep", "1000"],
        &["/usr/bin/env", "-C", "/etc", "/sbin/runsvinit", "--map=1=2", "service"],
    ] {
        let mut machine = Root::new().graceful("web").boot(words);
        machine.shows("web begins");
        let status = machine.inside("sv status web");
        assert_eq!(status.code, Some(0), "{words:?}: {status:?}");
        machine.told_to_end("runsvinit --halt");
        assert_eq!(machine.ends(), 0, "{words:?}");
    }
}

#[test]
fn descriptors_that_are_left_open_for_children_reach_them() {
    needs_machine();
    let root = Root::new().script("etc/service/web/run", "echo from the service >&9; exec sleep 1000");
    // 300 lies above what is usually open.
    let command = "exec 9>&1; exec /usr/bin/bash -c \"exec 300>&1; exec /sbin/runsvinit -- /usr/bin/bash -c \\\"echo from the command >&300; exec sleep 1000\\\"\"";
    let mut machine = root.boot(&["/usr/bin/bash", "-c", command]);
    machine.shows("from the service");
    machine.shows("from the command");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 143);
}

#[test]
fn what_services_left_behind_ends_too() {
    needs_machine();
    let root = Root::new()
        .script("etc/service/a/run", "(trap 'echo orphan ends; exit' TERM; while :; do sleep 0.02; done) & echo a begins; exec sleep 1000")
        // The log service reads until what holds its input open has ended.
        .script("etc/service/b/run", "(while :; do sleep 0.02; done) & echo b begins; exec sleep 1000")
        .script("etc/service/b/log/run", "cat >>/etc/service/b/out; echo log ends");
    let mut machine = boot(root, &["-w", "60"]);
    machine.shows("a begins");
    eventually("logged", || machine.read("etc/service/b/out") == "b begins\n");
    // Nothing waits for the time to be over.
    let took = time_of(|| {
        machine.signal(SIGTERM);
        assert_eq!(machine.ends(), 0);
    });
    assert!(took < Duration::from_secs(30), "{took:?}");
    machine.shows("orphan ends");
    machine.shows("log ends");
    assert_eq!(complaints(&machine), [] as [&str; 0]);

    let deaf = "trap '' TERM; (while :; do sleep 0.05; done) & exit 0";
    let mut machine =
        boot(Root::new().script("deaf", deaf), &["-w", "2", "--", "/bin/sh", "-c", "/deaf; sleep 1000"]);
    eventually("there", || machine.children().len() >= 2);
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 143);
    let complaints = complaints(&machine);
    assert!(
        complaints.iter().any(|line| line.contains("process ") && line.ends_with(LATE)),
        "{complaints:?}"
    );
}

#[test]
fn without_a_place_to_write_and_as_nobody_in_particular_all_works() {
    needs_machine();
    let as_user =
        "/usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all --no-new-privs";
    for with_run in [true, false] {
        let mut root = Root::new()
            .graceful("web")
            .script("etc/service/web/log/run", "exec cat")
            .script("etc/service/web/check", "exit 0")
            .read_only()
            .started_by(as_user);
        if !with_run {
            root = root.without_run();
        }
        let mut machine = boot(root, &["-v", "--", "/bin/sh", "-c", "id -u; exec sleep 1000"]);
        machine.shows("1000\n");
        machine.shows("web begins");
        let user = format!("{as_user} sh -c");
        let first = machine.inside(&format!(
            "{user} 'sv -w60 restart web && sv -w60 check web && sv health && sv status web'"
        ));
        assert_eq!(first.code, Some(0), "{first:?}\n{}", machine.console());
        assert!(first.out.contains("; run: log: "), "{first:?}");
        // Root asks, too.
        let root = machine.inside("sv status web");
        assert_eq!(root.code, Some(0), "{root:?}");
        machine.signal(SIGTERM);
        assert_eq!(machine.ends(), 143);
        machine.shows("web ends");
        assert!(!machine.console().contains("fatal"), "{}", machine.console());
    }
}

#[test]
fn without_devices_and_descriptors_it_serves_and_ends() {
    needs_machine();
    let root = Root::new().without_devices().script("etc/service/web/run", "echo here; exec sleep 1000 2>&1");
    let mut machine =
        root.boot(&["/usr/bin/sh", "-c", "exec /sbin/runsvinit -- /usr/bin/sleep 1000 0<&- 1>&- 2>&-"]);
    eventually("up", || machine.inside("sv -w1 start web").code == Some(0));
    machine.told_to_end("runsvinit --halt 5");
    assert_eq!(machine.ends(), 5);
}

#[test]
fn storms_of_orphans_and_kills_leave_nothing() {
    needs_machine();
    let storm =
        "i=0; while [ $i -lt 1000 ]; do (sleep 0.05 &); i=$((i+1)); done; echo storm over; exec sleep 1000";
    let mut machine = boot(Root::new().script("etc/service/storm/run", storm).graceful("web"), &[]);
    machine.shows("web begins");
    for _ in 0..20 {
        let _ = machine.inside("kill -9 $(cat /etc/service/web/supervise/pid)");
    }
    machine.shows("storm over");
    eventually("reaped", || {
        machine.children().iter().all(|&state| state != 'Z') && machine.children().len() <= 3
    });
    assert_eq!(machine.inside("sv -w60 check web").code, Some(0));
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn lines_have_their_names_in_front_and_are_whole() {
    needs_machine();
    let run = "i=0; while [ $i -lt 300 ]; do printf 'one '; printf 'line %s\\n' $i; i=$((i+1)); done; echo last; printf 'without end'; exec sleep 1000";
    let root = Root::new()
        .script("etc/service/a/run", run)
        .script("etc/service/b/run", &format!("exec 1>&2; {run}"))
        .script("etc/service/c/run", "echo logged; echo shouted >&2; exec sleep 1000")
        .script("etc/service/c/log/run", "read line; echo got $line; exec cat >/dev/null");
    let mut machine = boot(root, &["--stamp"]);
    for line in ["a | last", "b | last", "c | shouted", "c/log | got logged"] {
        machine.shows(line);
    }
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    let console = machine.console();
    for name in ["a", "b"] {
        for number in 0..300 {
            assert_eq!(console.matches(&format!("Z {name} | one line {number}\n")).count(), 1, "{console}");
        }
        assert!(console.contains(&format!("Z {name} | without end\n")), "{console}");
    }
    for line in console.lines().filter(|line| !line.is_empty()) {
        let (stamp, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} in\n{console}"));
        assert_eq!((stamp.len(), stamp.ends_with('Z'), rest.contains(" | ")), (26, true, true), "{line}");
    }
}

#[test]
fn the_environment_is_passed_on_and_written_where_wanted() {
    needs_machine();
    let root = Root::new().script("etc/service/web/run", "echo \"service has $WHAT\"; exec sleep 1000");
    let words = [
        "/usr/bin/env",
        "WHAT=two words ",
        "EMPTY=",
        "LINES=a\nb",
        "/sbin/runsvinit",
        "-e",
        "/tmp/env",
        "--",
        "/bin/sh",
        "-c",
    ];
    let command = "echo \"cmd has $WHAT\"; chpst -e /tmp/env sh -c \"echo chpst has \\\"\\$LINES\\\" \\${EMPTY-unset}.\"; ls -ld /tmp/env";
    let mut machine = root.boot(&[words.as_slice(), &[command]].concat());
    assert_eq!(machine.ends(), 0);
    machine.shows("cmd has two words");
    machine.shows("chpst has a\nb .");
    machine.shows("drwx------");
}

#[test]
fn a_command_on_a_terminal_is_its_foreground() {
    needs_machine();
    // What is typed reaches it and what it starts, and nothing else.
    let command =
        "trap \"echo interrupted\" INT; echo ready; read word; echo read $word; sleep 1000; echo after";
    let mut machine = boot(Root::new().graceful("web"), &["--", "/bin/sh", "-c", command]);
    machine.shows("ready");
    machine.shows("web begins");
    machine.types("hello\n");
    machine.shows("read hello");
    eventually("sleeps", || machine.inside("pgrep -x sleep -a | grep -q 1000").code == Some(0));
    machine.types("\x03");
    assert_eq!(machine.ends(), 0);
    machine.shows("interrupted");
    machine.shows("after");
    machine.shows("web ends");
}

#[test]
fn more_services_than_files_are_served_as_far_as_they_go() {
    needs_machine();
    let mut root = Root::new().started_by("/usr/bin/prlimit --nofile=100:200");
    for number in 0..60 {
        root = root.script(&format!("etc/service/{number}/run"), "exec sleep 1000");
    }
    let look = "echo limit $(ulimit -Sn) $(grep FDSize /proc/self/status); exec sleep 1000";
    root = root.script("etc/service/limit/run", look);
    let mut machine = boot(root, &["-v"]);
    machine.shows("services do not fit within the limit of 200 open files");
    machine.shows(" services\n");
    let console = machine.console();
    let number = |before: &str| -> usize {
        let (start, _) = console.split_once(before).unwrap();
        start.split_whitespace().next_back().unwrap().parse().unwrap()
    };
    assert_eq!(number(" services do not fit") + number(" services\n"), 61, "{console}");
    assert!(number(" services\n") > 10, "{console}");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);

    // Of the many descriptors that are open by then, a service has nothing, not even the room for them.
    let root = (0..60).fold(Root::new().started_by("/usr/bin/prlimit --nofile=100:2000"), |root, number| {
        root.script(&format!("etc/service/{number}/run"), look)
    });
    let mut machine = boot(root, &[]);
    eventually("all", || machine.console().matches("limit 100 FDSize").count() == 60);
    let console = machine.console();
    let sizes = console.lines().filter_map(|line| line.split("FDSize:").nth(1)?.trim().parse().ok());
    assert!(sizes.max().unwrap_or(1000) <= 256, "{console}");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);

    let root = Root::new().started_by("/usr/bin/prlimit --nofile=100:200");
    let mut machine =
        boot(root.script("etc/service/limit/run", "echo limit $(ulimit -Sn); exec sleep 1000"), &[]);
    machine.shows("limit 100");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn health_is_silent_or_names_the_culprits() {
    needs_machine();
    let root = Root::new()
        .graceful("web")
        .script("etc/service/web/check", "echo noise; echo more >&2; [ ! -e /unwell ]")
        .graceful("off")
        .file("etc/service/off/down", "");
    let mut machine = boot(root, &[]);
    machine.shows("web begins");
    let healthy = machine.inside("sv health");
    assert_eq!((healthy.code, healthy.out.as_str(), healthy.err.as_str()), (Some(0), "", ""));
    let unwell = machine.inside(">/unwell; sv -w1 health; rm /unwell");
    assert_eq!(unwell.out, "web: check fails\n");
    for _ in 0..4 {
        // Each time another process, and that this one ended has been seen.
        let end = "sv -w60 check web; p=$(cat /etc/service/web/supervise/pid); kill -9 $p; \
                   while [ \"$(cat /etc/service/web/supervise/pid)\" = $p ]; do sleep 0.02; done";
        machine.inside(end);
    }
    machine.inside("sv -w60 check web");
    let flapping = machine.inside("sv health web");
    assert_eq!(
        (flapping.code, flapping.out.as_str()),
        (Some(1), "web: flapping, ended more than 3 times within 60 s\n")
    );
    assert_eq!(machine.inside("sv health off").code, Some(0));
    let none = machine.inside("sv health none");
    assert_eq!(none.code, Some(1));
    assert!(none.out.starts_with("fail: none: "), "{none:?}");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn an_idle_one_sleeps() {
    needs_machine();
    let root = (0..5).fold(Root::new(), |root, number| {
        root.script(&format!("etc/service/{number}/run"), "exec sleep 1000")
            .script(&format!("etc/service/{number}/log/run"), "exec cat")
    });
    let mut machine = boot(root, &["--prefix"]);
    eventually("up", || machine.inside("sv health").code == Some(0));
    let wakes = || {
        let status = read(format!("/proc/{}/status", machine.init));
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    // A second after the last event it gives memory back, and after that nothing.
    let mut last = wakes();
    let mut since = Instant::now();
    eventually("calm", || {
        if wakes() != last {
            (last, since) = (wakes(), Instant::now());
        }
        since.elapsed() > Duration::from_millis(1500)
    });
    steadily("asleep", Duration::from_secs(2), || wakes() == last);
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn an_essential_service_is_never_started_once_more() {
    needs_machine();
    // One that lived for a second or more would be started again without a pause.
    for (round, hook) in (0..20).map(|round| (round, round % 2 == 1)) {
        let mut root = Root::new()
            .script("etc/service/main/run", "echo main begins; sleep 1.1; exit 7")
            .file("etc/service/main/essential", "");
        if hook {
            root = root.script("etc/service/main/control/u", "echo hook");
        }
        let mut machine = boot(root, &[]);
        assert_eq!(machine.ends(), 7);
        let console = machine.console();
        assert_eq!(console.matches("main begins").count(), 1, "round {round}: {console}");
        assert_eq!(console.matches("hook").count(), usize::from(hook), "round {round}: {console}");
    }
}

/// Leaders of the sessions and groups of what runs: `pid session group` for the process that says so.
const WHERE_AM_I: &str = "echo $0 $(ps -o pid=,sid=,pgid= -p $$)";

#[test]
fn each_program_of_a_service_has_a_session_of_its_own() {
    needs_machine();
    let mut machine = boot(
        Root::new()
            .script(
                "etc/service/web/run",
                &format!("{WHERE_AM_I} | sed s/^/run:/ >&2; exec cat run >/dev/null"),
            )
            .script("etc/service/web/finish", &format!("{WHERE_AM_I} | sed s/^/finish:/ >&2"))
            .script("etc/service/web/control/u", &format!("{WHERE_AM_I} | sed s/^/hook:/ >&2"))
            .script("etc/service/web/log/run", &format!("{WHERE_AM_I} | sed s/^/log:/ >&2; exec cat"))
            .script("etc/runit/boot.d/a", &format!("{WHERE_AM_I} | sed s/^/boot:/ >&2")),
        &[],
    );
    for what in ["run:", "finish:", "hook:", "log:", "boot:"] {
        machine.shows(what);
        let console = machine.console();
        let line = console.lines().find(|line| line.starts_with(what)).unwrap();
        let numbers: Vec<&str> = line.split_whitespace().skip(1).collect();
        assert!(numbers[0] == numbers[1] && numbers[0] == numbers[2], "{line}");
    }
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn a_service_that_ends_its_group_ends_nothing_else() {
    needs_machine();
    let root = Root::new()
        .graceful("web")
        .script(
            "etc/service/group/run",
            "trap 'kill 0' EXIT\necho group begins; sleep 1000 & sleep 1.1; exit 1",
        )
        .script("etc/service/pack/run", "exec chpst -vP sh -c 'echo pack begins; exec sleep 1000'");
    let mut machine = boot(root, &["--", "/bin/sh", "-c", "sleep 1000"]);
    machine.shows("web begins");
    machine.shows("pack begins");
    eventually("began twice", || machine.console().matches("group begins").count() > 1);
    assert_eq!(machine.inside("sv -w60 check web pack").code, Some(0));
    assert!(!machine.console().contains("web ends"));
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 143);
}

#[test]
fn what_is_typed_without_a_command_begins_the_orderly_stop_and_reaches_no_service() {
    needs_machine();
    for key in ["\x03", "\x1c"] {
        let body = "trap 'echo interrupted' INT; trap 'echo has quit' QUIT; \
                    trap 'sleep 0.1; echo web ends; exit 0' TERM\necho web begins; while :; do sleep 0.02; done";
        // Process 1 has to have the terminal, as the engine gives it.
        let root = Root::new().script("etc/service/web/run", body);
        let mut machine = root.boot(&["/usr/bin/setsid", "-c", "-w", "/sbin/runsvinit"]);
        machine.shows("web begins");
        machine.types(key);
        machine.shows("web ends");
        assert!(!machine.console().contains("interrupted") && !machine.console().contains("has quit"));
        assert_eq!(machine.ends(), 0);
    }
}
