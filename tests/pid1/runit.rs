//! `runit` as process 1: whole lives of a machine.

use std::time::Duration;

use support::*;

/// What the kernel makes of reboot(2) in a PID namespace.
const RESTARTED: i32 = 129;
const HALTED: i32 = 130;
const ALLOW: &str = "touch /etc/runit/stopit /etc/runit/reboot; chmod 0 /etc/runit/stopit /etc/runit/reboot";

fn boot(root: Root) -> Machine {
    root.boot(&["/sbin/runit"])
}

/// Asserts that these lines are said in this order.
#[track_caller]
fn in_order(machine: &Machine, lines: &[&str]) {
    let console = machine.console();
    let mut rest = console.as_str();
    for line in lines {
        let Some(at) = rest.find(line) else { panic!("not in its place: {line}\n--- console:\n{console}") };
        rest = &rest[at + line.len()..];
    }
    assert!(!console.contains("bug:"), "{console}");
}

#[test]
fn init_0_and_init_6_end_the_machine_in_order() {
    needs_machine();
    for (word, how, last) in [("0", HALTED, "power off..."), ("6", RESTARTED, "system reboot.")] {
        let mut machine = boot(Root::new().stages(ALLOW, "").graceful("web"));
        machine.shows("web begins");
        machine.told_to_end(&format!("runit-init {word}"));
        assert_eq!(machine.ends(), how);
        in_order(
            &machine,
            &[
                "- runit: runitbox ",
                "- runit: enter stage: /etc/runit/1",
                "stage 1\n",
                "- runit: leave stage: /etc/runit/1",
                "- runit: enter stage: /etc/runit/2",
                "web begins",
                "- runit: leave stage: /etc/runit/2",
                "- runit: enter stage: /etc/runit/3",
                "web ends",
                "stage 3 done",
                "- runit: leave stage: /etc/runit/3",
                "- runit: sending KILL signal to all processes...",
                &format!("- runit: {last}"),
            ],
        );
    }
}

#[test]
fn init_is_runit_init_and_becomes_runit_as_process_1() {
    needs_machine();
    let mut machine = Root::new().stages(ALLOW, "").boot(&["/sbin/init", "auto", "ro"]);
    machine.shows("stage 2");
    assert_eq!(process_name(machine.init), "runit");
    machine.told_to_end("init 0");
    assert_eq!(machine.ends(), HALTED);
}

#[test]
fn flags_that_are_links_into_run_are_followed_as_void_has_them() {
    needs_machine();
    let make = "mkdir -p /run/runit; touch /run/runit/stopit /run/runit/reboot; chmod 0 /run/runit/stopit /run/runit/reboot";
    let root = Root::new()
        .stages(make, "ls -l /run/runit/")
        .link("etc/runit/stopit", "/run/runit/stopit")
        .link("etc/runit/reboot", "/run/runit/reboot");
    let mut machine = boot(root.read_only());
    machine.shows("stage 2");
    machine.told_to_end("init 6");
    assert_eq!(machine.ends(), RESTARTED);
    // The permission is used up, the wish stands.
    in_order(&machine, &["stage 3", "---x------", "reboot", "----------", "stopit"]);
}

#[test]
fn flags_of_debian_in_run_work_where_etc_cannot_be_written() {
    needs_machine();
    let mut machine = boot(Root::new().stages("", "ls -l /run/").read_only());
    machine.shows("stage 2");
    machine.told_to_end("runit-init 6");
    assert_eq!(machine.ends(), RESTARTED);
    in_order(&machine, &["stage 3", "---x------", "runit.reboot", "----------", "runit.stopit"]);
}

#[test]
fn debians_process_1_is_told_by_our_runit_init() {
    needs_machine();
    needs_stock("runit");
    const MAKE: &str = "install -m 0 /dev/null /run/runit.stopit; install -m 0 /dev/null /run/runit.reboot";
    for (word, how, flag) in [("0", HALTED, "0\n"), ("6", RESTARTED, "100\n")] {
        let root = Root::new().stages(MAKE, "echo \"flag is $(stat -c %a /run/runit.reboot)\"");
        let mut machine = root.boot(&["/usr/sbin/runit"]);
        machine.shows("stage 2");
        machine.told_to_end(&format!("init {word}"));
        machine.shows(&format!("flag is {flag}"));
        assert_eq!(machine.ends(), how);
    }
}

#[test]
fn a_stop_needs_its_permission() {
    needs_machine();
    let mut machine = boot(Root::new().stages("", "").graceful("web"));
    machine.shows("web begins");
    machine.signal(SIGCONT);
    machine.signal(SIGINT);
    machine.signal(SIGTERM);
    machine.signal(SIGHUP);
    steadily("runs on", Duration::from_millis(300), || !machine.has_ended());
    assert!(!machine.console().contains("stage 3"));
}

#[test]
fn ctrl_alt_del_runs_its_script_and_stops() {
    needs_machine();
    let script = "echo three fingers; touch /etc/runit/stopit /etc/runit/reboot; chmod 100 /etc/runit/stopit /etc/runit/reboot";
    let mut machine = boot(Root::new().stages("", "").script("etc/runit/ctrlaltdel", script));
    machine.shows("stage 2");
    machine.signal(SIGINT);
    assert_eq!(machine.ends(), RESTARTED);
    in_order(
        &machine,
        &[
            "- runit: ctrl-alt-del request...",
            "- runit: enter stage: /etc/runit/ctrlaltdel",
            "three fingers",
            "- runit: leave stage: /etc/runit/ctrlaltdel",
            "- runit: leave stage: /etc/runit/2",
            "stage 3 done",
        ],
    );
}

#[test]
fn failing_power_runs_its_script_or_ends_all_and_never_restarts() {
    needs_machine();
    let mut machine =
        boot(Root::new().stages(ALLOW, "").script("etc/runit/pwrfail", "echo dark; runit-init 0"));
    machine.shows("stage 2");
    machine.signal(SIGPWR);
    assert_eq!(machine.ends(), HALTED);
    in_order(
        &machine,
        &["- runit: power failure...", "dark", "- runit: leave stage: /etc/runit/pwrfail", "stage 3 done"],
    );

    // Without a script, and although the flag of an earlier life says otherwise.
    let root = Root::new().stages("touch /etc/runit/reboot; chmod 100 /etc/runit/reboot", "");
    let mut machine = boot(root.graceful("web"));
    machine.shows("web begins");
    machine.signal(SIGPWR);
    assert_eq!(machine.ends(), HALTED);
    in_order(&machine, &["web ends", "stage 3 done", "power off"]);
}

#[test]
fn results_of_stages_lead_where_the_manual_says() {
    needs_machine();
    let ends = |one: &str, two: &str| {
        let root = Root::new()
            .script("etc/runit/1", one)
            .script("etc/runit/2", two)
            .script("etc/runit/3", "echo three");
        let mut machine = boot(root);
        assert_eq!(machine.ends(), HALTED);
        machine
    };
    let machine = ends("exit 100", "echo two");
    assert!(!machine.console().contains("two"), "{}", machine.console());
    in_order(
        &machine,
        &["- runit: warning: child failed: /etc/runit/1", "- runit: warning: skipping stage 2...", "three"],
    );
    let machine = ends("kill -SEGV $$", "echo two");
    assert!(!machine.console().contains("two"), "{}", machine.console());
    in_order(&machine, &["- runit: warning: child crashed: /etc/runit/1", "three"]);
    in_order(
        &ends("exit 3", "echo two; exit 4"),
        &["child failed: /etc/runit/1", "two", "child failed: /etc/runit/2", "three"],
    );
    // Missing files count as success, and are said.
    let mut machine = boot(Root::new().script("etc/runit/3", "kill -KILL $$"));
    assert_eq!(machine.ends(), HALTED);
    in_order(
        &machine,
        &[
            "- runit: fatal: unable to start child: /etc/runit/1: file does not exist",
            "- runit: fatal: unable to start child: /etc/runit/2: file does not exist",
            "- runit: warning: child crashed: /etc/runit/3",
        ],
    );
}

#[test]
fn stage_2_is_started_again_after_a_crash_and_after_111() {
    needs_machine();
    for end in ["exit 111", "kill -SEGV $$"] {
        let two =
            format!("[ -e /again ] && {{ echo second; exit 0; }}\n>/again\nsleep 1000 & echo first\n{end}");
        let mut machine = boot(Root::new().script("etc/runit/1", ":").script("etc/runit/2", &two));
        machine.shows("restarting");
        // Its process group went with it.
        eventually("killed", || machine.children().is_empty());
        assert_eq!(machine.ends(), HALTED);
        in_order(
            &machine,
            &["first", "killing all processes in stage 2...", "- runit: warning: restarting.", "second"],
        );
    }
}

#[test]
fn a_stage_2_that_does_not_end_is_killed_after_five_seconds() {
    needs_machine();
    promptly("the end", Duration::from_secs(8), || {
        let mut machine = boot(
            Root::new()
                .stages(ALLOW, "")
                .script("etc/runit/2", "trap '' TERM; echo deaf; while :; do sleep 1; done"),
        );
        machine.shows("deaf");
        let took = time_of(|| {
            machine.told_to_end("init 0");
            assert_eq!(machine.ends(), HALTED);
        });
        assert!(took > Duration::from_millis(4500), "{took:?}");
        in_order(&machine, &["stage 2 not terminated, sending sigkill...", "stage 3"]);
        took
    });
}

#[test]
fn orphans_are_reaped_in_every_stage() {
    needs_machine();
    let orphans = "i=0; while [ $i -lt 200 ]; do (sleep 0.01 &); i=$((i+1)); done\n\
                   while pgrep -x sleep >/dev/null || grep -qs '^State:.Z' /proc/[0-9]*/status; do :; done\n\
                   echo no zombies";
    let root = Root::new()
        .script("etc/runit/1", orphans)
        .script("etc/runit/2", orphans)
        .script("etc/runit/3", orphans);
    let mut machine = boot(root);
    assert_eq!(machine.ends(), HALTED);
    in_order(&machine, &["no zombies", "no zombies", "no zombies"]);
}

#[test]
fn stages_have_the_console_and_their_signals() {
    needs_machine();
    // The shell reads its status itself, and first: it blocks signals while it starts a program.
    let look = "while IFS= read -r line; do case $line in SigBlk*|SigIgn*) echo \"$line\";; esac; done </proc/$$/status
                for fd in 0 1 2; do grep ^flags: /proc/$$/fdinfo/$fd; done";
    let root = Root::new().script("etc/runit/1", look).script("etc/runit/2", look);
    let mut machine = boot(root);
    assert_eq!(machine.ends(), HALTED);
    let console = machine.console();
    let flags =
        console.lines().filter_map(|line| u32::from_str_radix(line.strip_prefix("flags:\t")?, 8).ok());
    // Whoever writes to it waits until it is written.
    let waits: Vec<bool> = flags.map(|flags| flags & 0o4000 == 0).collect();
    assert_eq!(waits, [true; 6], "{console}");
    assert_eq!(console.matches("SigBlk:\t0000000000000000").count(), 2, "{console}");
    // What was ignored before process 1 stays so; nothing else is.
    let ours = read("/proc/self/status");
    let ignored = |text: &str| -> Vec<u64> {
        let masks = text.lines().filter_map(|line| line.strip_prefix("SigIgn:\t"));
        masks.map(|mask| u64::from_str_radix(mask, 16).unwrap()).collect()
    };
    // The test runner ignores SIGPIPE for itself only; the C library has two signals of its own.
    let comparable = |mask: &u64| mask & !(1 << 12) & !(3 << 31);
    let seen: Vec<u64> = ignored(&console).iter().map(comparable).collect();
    assert_eq!(seen, [comparable(&ignored(&ours)[0]); 2], "{console}");
}

#[test]
fn where_it_may_not_end_the_machine_it_says_so_and_exits() {
    needs_machine();
    let root = Root::new().stages(ALLOW, "").started_by("/usr/bin/setpriv --bounding-set -sys_boot");
    let mut machine = boot(root);
    machine.shows("stage 2");
    machine.told_to_end("init 0");
    assert_eq!(machine.ends(), 0);
    in_order(&machine, &["power off...", "unable to end the container: permission denied"]);
}

#[test]
fn nosync_and_a_lost_console_and_an_empty_dev_are_no_trouble() {
    needs_machine();
    let root = Root::new().stages(ALLOW, "").file("etc/runit/nosync", "").without_devices();
    let mut machine = root.boot(&["/usr/bin/sh", "-c", "exec /sbin/runit 0<&- 1>&- 2>&-"]);
    // There is nothing to read; in stage 2 there is runsvdir.
    eventually("up", || machine.inside("pgrep -x runsvdir").code == Some(0));
    machine.told_to_end("runit-init 0");
    assert_eq!(machine.ends(), HALTED);
}

#[test]
fn without_stages_the_services_are_served_and_the_machine_ends() {
    needs_machine();
    for (how, code) in [("runit-init 0", HALTED), ("runit-init 6", RESTARTED)] {
        let root =
            Root::new().graceful("web").script("etc/service/web/log/run", "exec cat >>/etc/service/web/out");
        std::fs::remove_dir(root.path("etc/runit")).unwrap();
        let mut machine = boot(root.graceful("db"));
        machine.shows("db begins");
        eventually("logged", || machine.read("etc/service/web/out") == "web begins\n");
        eventually("well", || machine.inside("sv -w60 check db web && sv health").code == Some(0));
        machine.told_to_end(how);
        assert_eq!(machine.ends(), code);
        in_order(&machine, &["no stages in /etc/runit: serving /etc/service", "db begins", "db ends"]);
        assert_eq!(machine.read("etc/service/web/out"), "web begins\nweb ends\n");
    }
    for (signal, code) in [(SIGINT, RESTARTED), (SIGPWR, HALTED), (SIGTERM, HALTED)] {
        let mut machine = boot(Root::new().graceful("db"));
        machine.shows("db begins");
        machine.signal(signal);
        assert_eq!(machine.ends(), code, "{signal}");
        in_order(&machine, &["db ends"]);
    }
}

#[test]
fn without_stages_and_services_it_waits_for_the_directory() {
    needs_machine();
    let root = Root::new();
    std::fs::remove_dir(root.path("etc/service")).unwrap();
    let mut machine = boot(root);
    machine.shows("unable to stat /service: file does not exist; waiting for it");
    let make = "mkdir -p /service/web; printf '#!/bin/sh\necho web begins; exec sleep 1000\n' >/service/web/run; chmod +x /service/web/run";
    assert_eq!(machine.inside(make).code, Some(0));
    machine.shows("web begins");
    machine.signal(SIGPWR);
    assert_eq!(machine.ends(), HALTED);
    let root = Root::new();
    std::fs::remove_dir(root.path("etc/service")).unwrap();
    let mut machine = boot(root);
    machine.shows("waiting for it");
    machine.signal(SIGINT);
    assert_eq!(machine.ends(), RESTARTED);
}

/// RTMIN+3, which is 37 as the usual C library counts.
#[test]
fn the_halt_of_container_engines_is_a_power_failure() {
    needs_machine();
    let mut machine = boot(Root::new().stages("", "").graceful("web"));
    machine.shows("web begins");
    assert_eq!(machine.inside("kill -37 1").code, Some(0));
    assert_eq!(machine.ends(), HALTED);
    in_order(&machine, &["power failure...", "web ends", "stage 3 done"]);
    let mut machine = boot(Root::new().graceful("db"));
    machine.shows("db begins");
    assert_eq!(machine.inside("kill -37 1").code, Some(0));
    assert_eq!(machine.ends(), HALTED);
    in_order(&machine, &["db ends"]);
}

#[test]
fn kills_of_children_do_not_shake_it() {
    needs_machine();
    let mut machine = boot(Root::new().stages(ALLOW, "").graceful("web"));
    machine.shows("web begins");
    for _ in 0..20 {
        let _ = machine.inside("for p in $(pgrep -x runsv) $(pgrep -x runsvdir) $(cat /etc/service/web/supervise/pid); do kill -9 $p; done");
    }
    assert!(!machine.has_ended());
    machine.shows("killing all processes in stage 2");
    eventually("served again", || machine.inside("sv -w1 check /etc/service/web").code == Some(0));
    machine.told_to_end("init 0");
    assert_eq!(machine.ends(), HALTED);
}
