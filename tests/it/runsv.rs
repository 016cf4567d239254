use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use support::*;

fn usage(program: &str) -> String {
    format!("usage: {program} dir\n\n")
}

#[test]
fn no_directory_is_wrong_usage() {
    let name = bin().join("runsv");
    let outcome = run("runsv").go();
    assert_eq!(
        (outcome.code, outcome.out, outcome.err),
        (Some(1), String::new(), usage(name.to_str().unwrap()))
    );
}

#[test]
fn two_directories_are_wrong_usage() {
    assert_eq!(run("runsv").args(&["a", "b"]).go().code, Some(1));
}

#[test]
fn an_option_is_a_directory_that_is_not_there() {
    let outcome = run("runsv").arg("-V").go();
    let expected = "runsv -V: fatal: unable to change to directory: file does not exist\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn a_file_is_no_service_directory() {
    let root = TempDir::new();
    root.file("s", "");
    let outcome = run("runsv").arg("s").dir(root.path()).go();
    let expected = "runsv s: fatal: unable to change to directory: not a directory\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn a_second_runsv_fails_on_the_lock() {
    let service = Service::sleeper().up();
    let outcome = run("runsv").arg("s").dir(service.root()).go();
    let expected = "runsv s: fatal: unable to lock supervise/lock: temporary failure\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
    assert!(service.is_up());
}

#[test]
fn a_file_called_supervise_is_no_directory() {
    let service = Service::sleeper().file("supervise", "");
    let outcome = run("runsv").arg("s").dir(service.root()).go();
    let expected = "runsv s: fatal: unable to open supervise/lock: not a directory\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn a_link_supervise_whose_parent_is_missing_cannot_be_followed() {
    let service = Service::sleeper();
    symlink("/nowhere/at/all", service.path().join("supervise")).unwrap();
    let outcome = run("runsv").arg("s").dir(service.root()).go();
    let expected = "runsv s: fatal: unable to open supervise/lock: file does not exist\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn a_long_link_supervise_is_refused() {
    let service = Service::sleeper();
    symlink("x".repeat(300), service.path().join("supervise")).unwrap();
    let outcome = run("runsv").arg("s").dir(service.root()).go();
    let expected = "runsv s: fatal: unable to readlink ./supervise: name too long\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn a_control_that_is_no_fifo_is_refused() {
    let service = Service::sleeper().file("supervise/control", "");
    let outcome = run("runsv").arg("s").dir(service.root()).go();
    let expected = "runsv s: fatal: supervise/control exists but is not a fifo\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn the_files_have_their_modes() {
    let service = Service::sleeper().up();
    let modes: Vec<u32> = ["", "/lock", "/control", "/ok", "/pid", "/stat", "/status"]
        .iter()
        .map(|name| service.mode(&format!("supervise{name}")))
        .collect();
    assert_eq!(modes, [0o700, 0o600, 0o600, 0o600, 0o644, 0o644, 0o644]);
    for fifo in ["control", "ok"] {
        let kind = fs::metadata(service.path().join("supervise").join(fifo)).unwrap().file_type();
        assert!(kind.is_fifo(), "{fifo}");
    }
}

#[test]
fn an_existing_supervise_directory_keeps_its_mode() {
    let service = Service::sleeper();
    fs::create_dir(service.path().join("supervise")).unwrap();
    fs::set_permissions(service.path().join("supervise"), fs::Permissions::from_mode(0o755)).unwrap();
    let service = service.up();
    assert_eq!(service.mode("supervise"), 0o755);
}

#[test]
fn existing_fifos_keep_owner_and_mode() {
    needs_root();
    let mut service = Service::sleeper().up();
    service.send("x");
    assert_eq!(service.exit_code(), 0);
    for (fifo, mode) in [("ok", 0o666), ("control", 0o620)] {
        let path = service.path().join("supervise").join(fifo);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, None, Some(1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    service.start();
    eventually("up", || service.is_up());
    for (fifo, mode) in [("ok", 0o666), ("control", 0o620)] {
        assert_eq!(service.mode(&format!("supervise/{fifo}")), mode);
        assert_eq!(fs::metadata(service.path().join("supervise").join(fifo)).unwrap().gid(), 1);
    }
}

#[test]
fn a_link_supervise_is_followed_and_its_target_made() {
    let service = Service::sleeper();
    fs::create_dir(service.root().join("state")).unwrap();
    symlink("../state/s", service.path().join("supervise")).unwrap();
    let service = service.up();
    assert!(service.root().join("state/s/status").exists());
    assert_eq!(service.mode("supervise"), 0o700);
}

#[test]
fn the_status_says_what_runs() {
    let service = Service::sleeper().up();
    let status = service.status();
    assert_eq!((status.state, status.want, status.paused, status.term), (State::Run, Want::Up, false, false));
    assert_eq!(status.pid, service.pid());
    assert_eq!(service.stat(), "run\n");
    assert!(status.age() < 60, "{}", status.age());
}

#[test]
fn a_down_file_keeps_it_down() {
    let service = Service::sleeper().file("down", "").supervised();
    eventually("down", || service.is_down());
    let status = service.status();
    assert_eq!((status.state, status.want, status.pid), (State::Down, Want::Down, None));
    assert_eq!(service.read("supervise/pid"), "");
    service.send("u");
    eventually("up", || service.is_up());
}

#[test]
fn down_stops_it_and_up_starts_it() {
    let service = Service::sleeper().up();
    let pid = service.pid().unwrap();
    service.send("d");
    eventually("down", || service.stat() == "down\n");
    assert!(!is_alive(pid));
    assert_eq!(service.status().want, Want::Down);
    service.send("u");
    eventually("up", || service.is_up());
    assert_ne!(service.pid(), Some(pid));
}

#[test]
fn once_runs_it_once() {
    let service = Service::new().script("run", "echo x >>../starts; sleep 0.1").file("down", "").supervised();
    service.send("o");
    eventually("ran", || read(service.root().join("starts")) == "x\n");
    eventually("down", || service.is_down());
    steadily("once", Duration::from_millis(1300), || read(service.root().join("starts")) == "x\n");
}

#[test]
fn once_of_a_running_service_lets_it_run() {
    let service = Service::sleeper().up();
    service.send("o");
    eventually("wanted down", || service.stat() == "run, want down\n");
    kill(service.pid().unwrap(), SIGKILL);
    eventually("down", || service.stat() == "down\n");
}

#[test]
fn a_dead_service_is_started_again() {
    let service = Service::sleeper().up();
    let pid = service.pid().unwrap();
    kill(pid, SIGKILL);
    eventually("started again", || service.pid().is_some_and(|new| new != pid && is_alive(new)));
}

#[test]
fn a_service_that_ends_at_once_is_started_once_a_second() {
    let begin = Instant::now();
    let service = Service::new().script("run", "date +%s.%N >>../starts").supervised();
    let starts = || -> Vec<f64> {
        let text = read(service.root().join("starts"));
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(|line| line.parse().unwrap()).collect()
    };
    // On a busy machine `date` may be late, now more and now less.
    let is_second = |pair: &[f64]| (0.95..1.5).contains(&(pair[1] - pair[0]));
    eventually("three pauses of a second", || {
        starts().windows(2).filter(|&pair| is_second(pair)).count() >= 3
    });
    let count = starts().len();
    assert!((count - 1) as f64 * 0.95 <= begin.elapsed().as_secs_f64(), "{count} starts");
}

#[test]
fn a_service_that_ran_for_a_second_is_started_without_a_pause() {
    promptly("a start after 1.2 seconds", Duration::from_millis(1900), || {
        let service = Service::new().script("run", "echo $$ >>../starts; exec sleep 1.2").supervised();
        let starts = || read(service.root().join("starts")).lines().count();
        eventually("started", || starts() >= 1);
        let before = starts();
        time_of(|| eventually("started again", || starts() > before))
    });
}

#[test]
fn finish_is_told_the_exit_code() {
    let service = Service::new()
        .script("run", "sleep 0.05; exit 3")
        .script("finish", "echo \"$@\" >>../ended")
        .supervised();
    eventually("finished", || read(service.root().join("ended")).starts_with("3 0\n"));
}

#[test]
fn finish_is_told_the_signal_that_ended_run() {
    let service = Service::sleeper().script("finish", "echo \"$@\" >>../ended").up();
    service.send("d");
    eventually("finished", || read(service.root().join("ended")) == "-1 15\n");
    eventually("down", || service.is_down());
}

#[test]
fn finish_is_told_of_kill() {
    let service = Service::sleeper().script("finish", "echo \"$@\" >>../ended").up();
    service.send("k");
    eventually("finished", || read(service.root().join("ended")).starts_with("-1 9\n"));
}

#[test]
fn finish_is_told_111_when_run_cannot_be_executed() {
    let service = Service::new().script("finish", "echo \"$@\" >>../ended").file("run", "x").supervised();
    eventually("finished", || read(service.root().join("ended")).starts_with("111 0\n"));
    assert!(
        service.messages().contains("runsv s: fatal: unable to start ./run: access denied\n"),
        "{}",
        service.messages()
    );
}

#[test]
fn a_run_that_is_missing_is_said() {
    let service = Service::new().supervised();
    let expected = "runsv s: fatal: unable to start ./run: file does not exist\n";
    eventually("said", || service.messages().starts_with(expected));
}

#[test]
fn a_run_without_interpreter_line_is_said() {
    let service = Service::new().file("run", "echo hello\n");
    fs::set_permissions(service.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    let service = service.supervised();
    let expected = "runsv s: fatal: unable to start ./run: exec format error\n";
    eventually("said", || service.messages().starts_with(expected));
}

#[test]
fn a_finish_that_cannot_be_executed_is_said() {
    let service = Service::new().script("run", "exec sleep 0.1").file("finish", "x").supervised();
    let expected = "runsv s: fatal: unable to start ./finish: access denied\n";
    eventually("said", || service.messages().contains(expected));
}

#[test]
fn finish_is_shown_while_it_runs() {
    let service = Service::sleeper().script("finish", "exec sleep 1000").up();
    let started = service.status().since;
    kill(service.pid().unwrap(), SIGKILL);
    eventually("finishing", || service.stat() == "finish\n" && service.status().pid.is_some());
    let status = service.status();
    assert_eq!((status.state, status.since), (State::Finish, started));
    assert_eq!(status.pid, service.pid());
}

#[test]
fn no_signal_reaches_finish() {
    let service = Service::sleeper().script("finish", "exec sleep 1000").up();
    kill(service.pid().unwrap(), SIGKILL);
    eventually("finishing", || service.stat() == "finish\n" && service.pid().is_some());
    let pid = service.pid();
    service.send("thiqa12");
    service.send("d");
    eventually("wanted down", || service.stat() == "finish, want down\n");
    assert!(is_alive(pid.unwrap()));
    assert_eq!(service.pid(), pid);
}

#[test]
fn term_is_shown_until_it_is_obeyed() {
    let service = Service::stubborn().up();
    eventually("trap is set", || read(service.root().join("starts")) == "started\n");
    service.send("d");
    eventually("shown", || service.stat() == "run, got TERM, want down\n");
    assert!(service.status().term);
    eventually("term", || read(service.root().join("terms")) == "term\n");
    service.send("k");
    eventually("down", || service.stat() == "down\n");
    assert!(!service.status().term);
}

#[test]
fn pause_stops_and_cont_goes_on() {
    let service = Service::sleeper().up();
    let pid = service.pid().unwrap();
    service.send("p");
    eventually("paused", || service.stat() == "run, paused\n" && process_state(pid) == Some('T'));
    assert!(service.status().paused);
    service.send("c");
    eventually("on", || service.stat() == "run\n" && process_state(pid) != Some('T'));
}

#[test]
fn a_paused_service_can_be_stopped() {
    let service = Service::sleeper().up();
    service.send("p");
    eventually("paused", || service.stat() == "run, paused\n");
    service.send("d");
    eventually("down", || service.stat() == "down, paused\n");
}

#[test]
fn each_letter_sends_its_signal() {
    let traps = "for s in HUP ALRM INT QUIT USR1 USR2 TERM; do trap \"echo $s >>../got\" $s; done\n\
                 echo ready >../ready\nwhile :; do sleep 0.02; done";
    let service = Service::new().script("run", traps).up();
    eventually("ready", || read(service.root().join("ready")) == "ready\n");
    let mut expected = String::new();
    for (letter, signal) in [
        ("h", "HUP"),
        ("a", "ALRM"),
        ("i", "INT"),
        ("q", "QUIT"),
        ("1", "USR1"),
        ("2", "USR2"),
        ("t", "TERM"),
    ] {
        service.send(letter);
        expected += signal;
        expected += "\n";
        eventually(signal, || read(service.root().join("got")) == expected);
    }
}

#[test]
fn unknown_bytes_mean_nothing() {
    let service = Service::sleeper().up();
    let pid = service.pid();
    service.send("\n\n zZ@3\0");
    service.send("p\n");
    eventually("paused", || service.stat() == "run, paused\n");
    assert_eq!(service.pid(), pid);
}

#[test]
fn exit_stops_it_and_leaves() {
    let mut service = Service::sleeper().up();
    let pid = service.pid().unwrap();
    service.send("x");
    assert_eq!(service.exit_code(), 0);
    assert!(!is_alive(pid));
    assert!(!service.is_served());
    assert_eq!(service.stat(), "down\n");
}

#[test]
fn term_to_runsv_is_exit() {
    let mut service = Service::sleeper().up();
    let pid = service.pid().unwrap();
    service.runsv().signal(SIGTERM);
    assert_eq!(service.exit_code(), 0);
    assert!(!is_alive(pid));
}

#[test]
fn finish_runs_before_it_leaves() {
    let mut service = Service::sleeper().script("finish", "sleep 0.2; echo done >../done").up();
    service.send("x");
    assert_eq!(service.exit_code(), 0);
    assert_eq!(read(service.root().join("done")), "done\n");
}

#[test]
fn a_service_that_ignores_term_keeps_runsv() {
    let mut service = Service::stubborn().up();
    eventually("trap is set", || read(service.root().join("starts")) == "started\n");
    service.send("x");
    eventually("shown", || service.stat() == "run, got TERM, want exit\n");
    steadily("runs", Duration::from_millis(300), || service.is_up());
    assert_eq!(service.status().want, Want::Down, "the record has d for exit");
    service.send("k");
    assert_eq!(service.exit_code(), 0);
}

#[test]
fn several_bytes_at_once_are_several_commands() {
    let service = Service::sleeper().file("down", "").supervised();
    service.send("up");
    eventually("up, paused", || service.stat() == "run, paused\n");
    service.send("cd");
    eventually("down", || service.stat() == "down\n");
}

/// Run scripts turn themselves off: `[ -e /etc/web.conf ] || exec sv down .`
#[test]
fn run_may_control_its_own_service_at_once() {
    for _ in 0..5 {
        let service = Service::new()
            .script("run", "trap '' TERM; sv down . >../said 2>&1; echo $? >../code")
            .supervised();
        let code = service.root().join("code");
        eventually("answered", || read(&code).ends_with('\n'));
        assert_eq!(read(&code), "0\n", "{}", read(service.root().join("said")));
        eventually("down", || service.is_down());
    }
}

#[test]
fn the_log_service_gets_what_the_service_writes() {
    let service = Service::new().script("run", "echo hello; exec sleep 1000").logged().up();
    eventually("logged", || service.read("log/out") == "hello\n");
    eventually("log up", || service.log_stat() == "run\n");
    assert_eq!(service.mode("log/supervise"), 0o700);
}

#[test]
fn a_link_log_is_a_log_service() {
    let service =
        Service::new().script("run", "echo hello; exec sleep 1000").script("../mylog/run", "exec cat >>out");
    symlink("../mylog", service.path().join("log")).unwrap();
    let service = service.up();
    eventually("logged", || service.read("log/out") == "hello\n");
}

#[test]
fn a_file_log_is_said_and_ignored() {
    let service = Service::sleeper().file("log", "").up();
    assert_eq!(service.messages(), "runsv s: warning: ./log: not a directory.\n");
}

#[test]
fn finish_and_hooks_write_to_the_log_too() {
    let service = Service::new()
        .script("run", "echo run; exec sleep 1000")
        .script("finish", "echo finish")
        .script("control/d", "echo hook")
        .logged()
        .up();
    eventually("logged", || service.read("log/out") == "run\n");
    service.send("d");
    eventually("logged", || {
        let out = service.read("log/out");
        out.contains("hook\n") && out.contains("finish\n")
    });
}

#[test]
fn the_pipe_outlives_both_sides() {
    let service = Service::new().script("run", "echo $$ >>../starts; echo $$; exec sleep 1000").logged().up();
    let lines = || service.read("log/out").lines().count();
    eventually("one", || lines() == 1);
    kill(service.started_log(), SIGKILL);
    let old = service.pid();
    kill(service.pid().unwrap(), SIGKILL);
    eventually("two", || lines() == 2 && service.pid().is_some() && service.pid() != old);
    assert_eq!(service.read("log/out"), read(service.root().join("starts")));
}

#[test]
fn the_log_service_is_controlled_by_its_own_fifo() {
    let service = Service::sleeper().logged().up();
    eventually("log up", || service.log_stat() == "run\n");
    service.send_log("d");
    eventually("log down", || service.log_stat() == "down\n");
    assert!(service.is_up());
    service.send_log("u");
    eventually("log up", || service.log_stat() == "run\n");
}

#[test]
fn exit_means_nothing_to_the_log_service() {
    let service = Service::sleeper().logged().up();
    eventually("log up", || service.log_pid().is_some());
    let pid = service.log_pid();
    service.send_log("x");
    service.send_log("p");
    eventually("paused", || service.log_stat() == "run, paused\n");
    service.send_log("c");
    assert_eq!(service.log_pid(), pid);
}

#[test]
fn a_down_file_keeps_the_log_service_down() {
    let service = Service::sleeper().logged().file("log/down", "").up();
    eventually("log down", || service.log_stat() == "down\n");
}

#[test]
fn the_log_service_reads_all_before_it_leaves() {
    let mut service = Service::new()
        .script(
            "run",
            "trap 'echo last; exit' TERM; echo first; echo >../ready; while :; do sleep 0.02; done",
        )
        .script("log/run", "sleep 0.5; exec cat >>out")
        .up();
    eventually("log up", || service.log_pid().is_some());
    eventually("ready", || service.root().join("ready").exists());
    service.send("x");
    assert_eq!(service.exit_code(), 0);
    assert_eq!(service.read("log/out"), "first\nlast\n");
}

#[test]
fn a_hook_that_exits_0_stands_in_for_the_signal() {
    let service = Service::sleeper().script("control/i", "echo hook >>../hook").up();
    let pid = service.pid();
    service.send("i");
    eventually("ran", || read(service.root().join("hook")) == "hook\n");
    service.send("p");
    eventually("paused", || service.stat() == "run, paused\n");
    assert_eq!(service.pid(), pid);
}

#[test]
fn a_hook_that_fails_does_not() {
    let service = Service::sleeper().script("control/i", "exit 1").up();
    let pid = service.pid().unwrap();
    service.send("i");
    eventually("ended", || !is_alive(pid));
}

#[test]
fn a_hook_without_execute_bit_is_no_hook() {
    let service = Service::sleeper().file("control/i", "#!/bin/sh\nexit 0\n").up();
    let pid = service.pid().unwrap();
    service.send("i");
    eventually("ended", || !is_alive(pid));
}

#[test]
fn a_hook_that_cannot_be_executed_is_said_and_the_signal_sent() {
    let service = Service::sleeper().file("control/t", "no interpreter\n");
    fs::set_permissions(service.path().join("control/t"), fs::Permissions::from_mode(0o755)).unwrap();
    let service = service.up();
    let pid = service.pid().unwrap();
    service.send("t");
    eventually("ended", || !is_alive(pid));
    let expected = "runsv s: fatal: unable to run control/?: exec format error\n";
    assert!(service.messages().contains(expected), "{}", service.messages());
}

#[test]
fn control_u_runs_before_each_start_and_sees_it_down() {
    let service = Service::new()
        .script("run", "echo run >>../order; exec sleep 1000")
        .script("control/u", "echo u $(cat supervise/stat) >>../order; exit 1")
        .up();
    eventually("started", || read(service.root().join("order")) == "u down\nrun\n");
}

#[test]
fn control_d_and_x_run_after_the_signal() {
    let mut service = Service::sleeper()
        .script("control/t", "echo t >>../order; exit 1")
        .script("control/d", "echo d >>../order")
        .script("control/x", "echo x >>../order")
        .up();
    service.send("d");
    eventually("down", || service.is_down() && read(service.root().join("order")) == "t\nd\n");
    service.send("u");
    eventually("up", || service.is_up());
    service.send("x");
    assert_eq!(service.exit_code(), 0);
    assert_eq!(read(service.root().join("order")), "t\nd\nt\nx\n");
}

#[test]
fn runit_check_echo_with_a_newline_is_a_command() {
    // The second case of the reference's own test of runsv.
    let service = Service::new().script("run", "echo starting >>../out; exec sleep 1000").up();
    let service = service.script("control/t", "echo term >>../out; exit 1");
    eventually("starting", || read(service.root().join("out")) == "starting\n");
    service.send("t\n");
    eventually("again", || read(service.root().join("out")) == "starting\nterm\nstarting\n");
}

#[test]
fn runit_check_links_supervise_to_missing_directories() {
    let mut service = Service::new()
        .script("run", "echo starting; exec sleep 14")
        .script("control/t", "echo term; exit 1")
        .script("log/run", "exec cat >foo");
    symlink("foo", service.path().join("supervise")).unwrap();
    symlink("bar", service.path().join("log/supervise")).unwrap();
    service.start();
    eventually("up", || service.read("foo/stat") == "run\n" && service.read("log/bar/stat") == "run\n");
    eventually("logged", || service.read("log/foo") == "starting\n");
    send(&service.path().join("foo/control"), "x");
    assert_eq!(service.exit_code(), 0);
    assert_eq!(service.read("log/foo"), "starting\nterm\n");
}

/// What a script says when nothing but the case's own process is above it.
fn said_without_runsv(script: &str) -> String {
    run_file("/bin/sh").args(&["-c", script]).go().out
}

#[test]
fn the_service_inherits_no_descriptor() {
    // Of a program and not of the shell, which moves descriptors about.
    let service = Service::new().script("run", "ls -l /proc/self/fd; exec sleep 1000").logged().up();
    eventually("seen", || service.read("log/out").lines().count() > 4);
    let fds = service.read("log/out");
    let root = fs::canonicalize(service.root()).unwrap();
    // Messages on 2 are the only file of the case.
    let ours = |line: &&str| {
        (line.contains(root.to_str().unwrap()) && !line.ends_with("/err")) || line.contains("anon_inode")
    };
    assert_eq!(fds.lines().filter(ours).collect::<Vec<_>>(), [] as [&str; 0], "{fds}");
    let log = fds.lines().find(|line| line.contains(" 1 -> pipe:")).expect("standard output is the pipe");
    assert_eq!(fds.matches(log.rsplit(' ').next().unwrap()).count(), 1, "{fds}");
}

#[test]
fn the_service_has_no_blocked_and_no_ignored_signal() {
    const SHOW: &str = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let service = Service::new().script("run", &format!("{SHOW} >../sig; exec sleep 1000")).up();
    eventually("seen", || read(service.root().join("sig")).contains("SigIgn"));
    assert_eq!(read(service.root().join("sig")), said_without_runsv(SHOW));
}

#[test]
fn the_service_runs_in_its_directory_and_in_the_process_group_of_runsv() {
    let mut service = Service::new().script("run", "pwd >../pwd; exec sleep 1000").up();
    eventually("seen", || !read(service.root().join("pwd")).is_empty());
    let expected = fs::canonicalize(service.path()).unwrap();
    assert_eq!(read(service.root().join("pwd")).trim(), expected.to_str().unwrap());
    let group = |pid: i32| -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(stat.rsplit(')').next()?.split_whitespace().nth(2)?.to_owned())
    };
    let runsv = service.runsv().pid();
    assert_eq!(group(service.pid().unwrap()), group(runsv));
}

#[test]
fn stale_files_of_a_killed_runsv_are_taken_over() {
    let mut service = Service::sleeper().up();
    let pid = service.pid().unwrap();
    service.runsv().signal(SIGKILL);
    service.exit_code();
    kill(pid, SIGKILL);
    eventually("gone", || !is_alive(pid));
    service.start();
    eventually("up", || service.is_up() && service.pid() != Some(pid));
}

#[test]
fn the_status_is_always_whole() {
    let service = Service::new().script("run", "exec sleep 0.01").supervised();
    let path = service.path().join("supervise/status");
    eventually("there", || path.exists());
    let begin = Instant::now();
    let mut seen = 0;
    while seen <= 10 || begin.elapsed() < Duration::from_millis(1500) {
        if open_fifo(&service.path().join("supervise/control")).is_some() {
            service.send("k");
        }
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 20);
        seen += 1;
        // Commands are bytes in a pipe that stock's runsv leaves unread for seconds.
        std::thread::sleep(Duration::from_millis(1));
    }
}

mod ours {
    use super::*;

    /// The user id of nobody.
    const NOBODY: u32 = 65534;

    #[test]
    fn a_hook_is_told_the_process() {
        let service = Service::sleeper()
            .script("control/h", "echo \"$#:$1\" >>../told")
            .script("control/u", "echo \"$#:$1\" >>../told")
            .up();
        service.send("h");
        let expected = format!("1:\n1:{}\n", service.pid().unwrap());
        eventually("told", || read(service.root().join("told")) == expected);
    }

    #[test]
    fn a_hook_ended_by_a_signal_counts_as_failed() {
        let service = Service::sleeper().script("control/i", "kill -9 $$").up();
        let pid = service.pid().unwrap();
        service.send("i");
        eventually("ended", || !is_alive(pid));
    }

    #[test]
    fn a_hook_that_hangs_leaves_commands_served() {
        let mut service = Service::sleeper().script("control/h", "echo $$ >../hook; exec sleep 1000").up();
        service.send("h");
        eventually("hangs", || !read(service.root().join("hook")).is_empty());
        let hook: i32 = read(service.root().join("hook")).trim().parse().unwrap();
        service.send("d");
        eventually("down", || service.is_down());
        service.send("u");
        eventually("up", || service.is_up());
        kill(hook, SIGKILL);
        service.send("x");
        assert_eq!(service.exit_code(), 0);
    }

    #[test]
    fn a_hanging_start_hook_leaves_commands_served() {
        let service =
            Service::sleeper().script("control/u", "echo $$ >../hook; exec sleep 1000").supervised();
        eventually("hangs", || !read(service.root().join("hook")).is_empty());
        service.send("d");
        eventually("wanted down", || service.status().want == Want::Down);
        kill(read(service.root().join("hook")).trim().parse().unwrap(), SIGKILL);
        service.send("p");
        eventually("paused", || service.stat() == "down, paused\n");
        assert_eq!(service.pid(), None, "started although it was told to stay down");
    }

    #[test]
    fn commands_are_served_in_the_second_of_delay() {
        promptly("exit in the delay", Duration::from_millis(600), || {
            let mut service = Service::new().script("run", "echo x >>../starts").supervised();
            eventually("ended", || !read(service.root().join("starts")).is_empty() && service.is_down());
            time_of(|| {
                service.send("x");
                assert_eq!(service.exit_code(), 0);
            })
        });
    }

    #[test]
    fn exit_of_a_young_service_is_not_delayed() {
        promptly("exit", Duration::from_millis(600), || {
            let mut service = Service::sleeper().up();
            time_of(|| {
                service.send("x");
                assert_eq!(service.exit_code(), 0);
            })
        });
    }

    #[test]
    fn kill_during_finish_runs_it_only_once() {
        let finish = "echo x >>../finishes; while [ ! -e ../go ]; do sleep 0.02; done";
        let service = Service::sleeper().script("finish", finish).up();
        kill(service.pid().unwrap(), SIGKILL);
        eventually("finishing", || {
            service.stat() == "finish\n" && !read(service.root().join("finishes")).is_empty()
        });
        service.send("kd");
        eventually("wanted down", || service.stat() == "finish, want down\n");
        fs::write(service.root().join("go"), "").unwrap();
        eventually("down", || service.is_down());
        assert_eq!(read(service.root().join("finishes")), "x\n");
    }

    #[test]
    fn a_log_that_appears_is_taken_up_and_written_to_from_the_next_start() {
        let service = Service::new().script("run", "echo line; exec sleep 1000").up();
        let pid = service.pid();
        let service = service.logged();
        eventually("log up", || service.log_stat() == "run\n");
        assert_eq!(service.pid(), pid, "the service was disturbed");
        assert_eq!(service.read("log/out"), "");
        service.send("t");
        eventually("logged", || service.read("log/out") == "line\n");
        assert!(open_fifo(&service.path().join("log/supervise/ok")).is_some());
    }

    #[test]
    fn a_log_run_that_cannot_be_executed_yet_is_waited_for() {
        let service = Service::sleeper().up();
        service.write("log/run", "");
        steadily("quiet", Duration::from_millis(200), || service.messages().is_empty());
        assert_eq!(service.log_stat(), "");
        let service = service.logged();
        eventually("log up", || service.log_stat() == "run\n");
    }

    #[test]
    fn a_run_that_appears_is_started_at_once() {
        promptly("a start", Duration::from_millis(600), || {
            let mut service = Some(Service::new().supervised());
            let said = || service.as_ref().unwrap().messages();
            eventually("said", || said().contains("unable to start ./run"));
            time_of(|| {
                let service = service.take().unwrap().script("run", "exec sleep 1000");
                eventually("up", || service.is_up());
            })
        });
    }

    #[test]
    fn a_directory_made_anew_is_followed_and_the_old_service_ended() {
        let mut service = Service::sleeper().up();
        let old = service.pid().unwrap();
        remove_served(service.path());
        assert!(is_alive(old));
        let runsv = service.runsv().pid();
        fs::create_dir_all(service.path()).unwrap();
        let service = service.script("run", "echo new >../new; exec sleep 1000");
        eventually("old ended", || !is_alive(old));
        eventually("new runs", || service.is_up() && read(service.root().join("new")) == "new\n");
        assert_eq!(parent_of(service.pid().unwrap()), Some(runsv));
    }

    #[test]
    fn a_directory_moved_into_the_place_of_the_old_is_followed() {
        let service = Service::sleeper().up();
        let old = service.pid().unwrap();
        let next = service.root().join("next");
        write_script(&next.join("run"), "echo new >../new; exec sleep 1000");
        remove_served(service.path());
        fs::rename(&next, service.path()).unwrap();
        eventually("old ended", || !is_alive(old));
        eventually("new runs", || service.is_up() && read(service.root().join("new")) == "new\n");
    }

    #[test]
    fn a_supervise_that_was_removed_is_made_again() {
        let service = Service::sleeper().up();
        let pid = service.pid();
        remove_served(service.path().join("supervise"));
        eventually("served again", || service.is_served());
        assert_eq!(service.pid(), pid);
        service.send("d");
        eventually("down", || service.is_down());
    }

    #[test]
    fn a_grandchild_that_holds_the_log_pipe_does_not_keep_runsv() {
        let mut service = Service::new()
            .script("run", "setsid sleep 1000 & echo $! >../grandchild; echo line; exec sleep 1000")
            .logged()
            .file("log/timeout-exit", "300\n")
            .up();
        eventually("logged", || service.read("log/out") == "line\n");
        let begin = Instant::now();
        service.send("x");
        assert_eq!(service.exit_code(), 0);
        // Without the limit it would wait as long as the grandchild runs.
        assert!(begin.elapsed() >= Duration::from_millis(280), "{:?}", begin.elapsed());
        kill(read(service.root().join("grandchild")).trim().parse().unwrap(), SIGKILL);
        let said = service.messages();
        assert!(said.contains("runsv s: warning: the log service does not end"), "{said}");
    }

    #[test]
    fn an_end_nobody_asked_for_is_said_once_in_ten_seconds() {
        let service = Service::new().script("run", "sleep 0.05; exit 7").supervised();
        eventually("said", || service.messages().ends_with("s\n"));
        let said = service.messages();
        assert!(said.starts_with("runsv s: warning: ./run exited with 7 after "), "{said}");
        steadily("once", Duration::from_millis(2500), || service.messages() == said);
    }

    #[test]
    fn an_end_by_a_signal_is_said_with_its_number() {
        let service = Service::sleeper().up();
        kill(service.pid().unwrap(), SIGKILL);
        eventually("said", || {
            service.messages().starts_with("runsv s: warning: ./run was ended by signal 9 after ")
        });
    }

    #[test]
    fn an_end_that_was_asked_for_and_exit_0_are_not_said() {
        let service =
            Service::new().script("run", "exec sleep 0.05").script("finish", "echo x >>../ends").up();
        eventually("two ends", || read(service.root().join("ends")).lines().count() >= 2);
        service.send("d");
        eventually("down", || service.is_down());
        assert_eq!(service.messages(), "");
    }

    #[test]
    fn nothing_is_written_when_nothing_changes() {
        let service = Service::sleeper().up();
        let inode = |name: &str| fs::metadata(service.path().join("supervise").join(name)).unwrap().ino();
        let before = [inode("pid"), inode("stat"), inode("status")];
        let marked = || fs::metadata(service.path().join("supervise/ok")).unwrap().mtime_nsec();
        let mark = marked();
        service.send("u");
        eventually("taken", || marked() != mark);
        assert_eq!([inode("pid"), inode("stat"), inode("status")], before);
    }

    #[test]
    fn the_time_of_stat_is_that_of_the_start() {
        let service = Service::sleeper().up();
        let time = || fs::metadata(service.path().join("supervise/stat")).unwrap().modified().unwrap();
        let (before, pid) = (time(), service.pid());
        service.send("t");
        eventually("restarted", || service.is_up() && service.pid() != pid);
        assert!(time() > before);
    }

    #[test]
    fn a_service_that_writes_to_its_directory_does_not_disturb_runsv() {
        let service = Service::new().script("run", "while :; do echo x >file; rm file; done").up();
        let pid = service.pid();
        steadily("runs", Duration::from_millis(200), || service.pid() == pid);
        service.send("d");
        eventually("down", || service.is_down());
    }

    #[test]
    fn runsv_survives_without_standard_descriptors() {
        let service = Service::sleeper();
        let shell = format!("exec {} s <&- >&- 2>&-", bin().join("runsv").display());
        let mut runsv =
            run_file("/bin/sh").args(&["-c", &shell]).dir(service.root()).start(&service.root().join("err"));
        eventually("up", || service.is_served() && service.is_up());
        let pid = service.pid().unwrap();
        let is_closed = |fd: u32| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_err();
        // The shell has its script open under such a number for a moment, as the dynamic linker has libraries.
        eventually("closed descriptors stay closed", || {
            process_name(pid) == "sleep" && [0, 1, 2].into_iter().all(is_closed)
        });
        service.send("x");
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn runsv_does_not_wait_for_a_reader_of_its_messages() {
        let service = Service::new().script("run", "exit 1").file("down", "");
        // Standard error is a pipe that is full and that nobody reads.
        let (_reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        let mut runsv = std::process::Command::new(bin().join("runsv"))
            .arg("s")
            .current_dir(service.root())
            .stderr(writer)
            .spawn()
            .unwrap();
        eventually("served", || service.is_served());
        service.send("u");
        eventually("ended", || service.status().want == Want::Up && service.is_down());
        service.send("x");
        eventually("left", || runsv.try_wait().unwrap().is_some());
    }

    #[test]
    fn runsv_survives_a_reader_of_its_messages_that_went() {
        let service = Service::new().script("run", "exit 1").file("down", "");
        let shell = format!("{{ {} s 2>&1; echo $? >code; }} | :", bin().join("runsv").display());
        let mut shell =
            run_file("/bin/sh").args(&["-c", &shell]).dir(service.root()).start(&service.root().join("err"));
        eventually("served", || service.is_served());
        service.send("u");
        eventually("ended", || service.status().want == Want::Up && service.is_down());
        service.send("x");
        eventually("left", || read(service.root().join("code")) == "0\n");
        eventually("shell", || shell.ended().is_some());
    }

    #[test]
    fn down_signal_ends_the_service_and_term_is_still_term() {
        let body = "for s in QUIT TERM HUP; do trap \"echo $s >>../got\" $s; done; echo up >>../got\nwhile :; do sleep 0.02; done";
        for (text, ending) in
            [("QUIT\n", "QUIT"), ("sighup", "HUP"), ("3", "QUIT"), ("", "TERM"), ("NONSENSE", "TERM")]
        {
            let service = Service::new().script("run", body).file("down-signal", text).up();
            let got = || read(service.root().join("got"));
            eventually("started", || got() == "up\n");
            service.send("t");
            eventually("TERM", || got() == "up\nTERM\n");
            // As `sv restart` writes it.
            service.send("tcu");
            eventually("restart", || got() == format!("up\nTERM\n{ending}\n"));
            service.send("d");
            eventually("down", || got() == format!("up\nTERM\n{ending}\n{ending}\n"));
            assert_eq!(
                service.messages().contains("down-signal"),
                text == "NONSENSE",
                "{}",
                service.messages()
            );
            service.send("k");
            eventually("gone", || service.is_down());
        }
    }

    #[test]
    fn timeout_kill_is_how_long_a_service_has_to_end() {
        let is_deaf = |service: &Service| read(service.root().join("starts")) == "started\n";
        let service = Service::stubborn().file("timeout-kill", "300\n").up();
        eventually("trap is set", || is_deaf(&service));
        let pid = service.pid().unwrap();
        service.send("t");
        steadily("TERM alone starts no clock", Duration::from_millis(500), || is_alive(pid));
        let begin = std::time::Instant::now();
        service.send("d");
        eventually("killed", || !is_alive(pid));
        assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
        eventually("down", || service.is_down());
        eventually("said", || {
            service.messages().contains("runsv s: warning: ./run did not end in 300 ms: killed\n")
        });
        // 0 is never, and what is no number is said.
        for text in ["0", "soon"] {
            let service = Service::stubborn().file("timeout-kill", text).up();
            eventually("trap is set", || is_deaf(&service));
            let pid = service.pid().unwrap();
            service.send("d");
            eventually("shown", || service.stat() == "run, got TERM, want down\n");
            steadily("never", Duration::from_millis(300), || is_alive(pid));
            assert_eq!(
                service.messages().contains("timeout-kill: not a number"),
                text == "soon",
                "{}",
                service.messages()
            );
        }
    }

    #[test]
    fn timeout_finish_is_how_long_finish_has() {
        let service = Service::sleeper()
            .script("finish", "echo finishing >../finish; exec sleep 1000")
            .file("timeout-finish", "1000")
            .up();
        service.send("d");
        eventually("finishing", || !read(service.root().join("finish")).is_empty());
        eventually("down", || service.is_down());
        assert!(
            service.messages().contains("./finish did not end in 1000 ms: killed"),
            "{}",
            service.messages()
        );
    }

    #[test]
    fn the_pid_file_is_left_alone_while_it_says_the_same() {
        let service = Service::sleeper().file("down", "").supervised();
        service.send("u");
        eventually("up", || service.is_up());
        service.send("d");
        eventually("down", || service.is_down() && service.read("supervise/pid").is_empty());
        let time = || fs::metadata(service.path().join("supervise/pid")).unwrap().modified().unwrap();
        let before = time();
        service.send("p");
        eventually("paused", || service.status().paused);
        assert_eq!(time(), before);
    }

    #[test]
    fn the_state_is_elsewhere_where_the_directory_cannot_be_written() {
        needs_root();
        let service = Service::sleeper().script("log/run", "exec cat");
        let state = TempDir::new();
        // It belongs to the user whom the service runs as; who names it to sv believes that user.
        std::os::unix::fs::chown(state.path(), Some(NOBODY), None).unwrap();
        let mut runsv = run("chpst")
            .args(&["-u", "nobody", "runsv", "s"])
            .env("RUNITBOX_STATE", state.path())
            .dir(service.root())
            .start(&service.root().join("err"));
        // The files come first, and `ok` when they are there.
        let is_up = |dir: &str| {
            state.read(&format!("{dir}/stat")) == "run\n" && open_fifo(&state.join(dir).join("ok")).is_some()
        };
        eventually("up", || is_up("s") && is_up("s.log"));
        assert!(!service.path().join("supervise").exists());
        let sv = |words: &[&str]| {
            run("sv").args(words).env("RUNITBOX_STATE", state.path()).env("SVDIR", service.root()).go()
        };
        for name in ["s", "./s/", "s/log"] {
            let status = run("sv")
                .args(&["status", name])
                .env("RUNITBOX_STATE", state.path())
                .env("SVDIR", service.root())
                .dir(service.root())
                .go();
            assert!(status.code == Some(0) && status.out.starts_with("run: "), "{name}: {status:?}");
        }
        assert!(sv(&["status", "s"]).out.contains("; run: log: (pid "));
        let pid = state.read("s/pid");
        let restarted = sv(&["-w60", "restart", "s"]);
        assert!(
            restarted.out.starts_with("ok: run: s: (pid ") && state.read("s/pid") != pid,
            "{restarted:?}"
        );
        // Without the variable the client looks elsewhere.
        let unknown = run("sv").args(&["status", "s"]).env("SVDIR", service.root()).go();
        assert_eq!(unknown.code, Some(1), "{unknown:?}");
        let exited = sv(&["-w60", "exit", "s"]);
        assert_eq!(exited.out, "ok: s: runsv not running\n", "{exited:?}");
        eventually("left", || runsv.ended() == Some(0));
        // The same where `supervise` is a link to what cannot be made.
        std::os::unix::fs::symlink("/neither-made-by-nobody", service.path().join("supervise")).unwrap();
        std::os::unix::fs::symlink("/not-made-by-nobody", service.path().join("log/supervise")).unwrap();
        // A second one must not serve it at the same time.
        let mut first = run("chpst")
            .args(&["-u", "nobody", "runsv", "s"])
            .env("RUNITBOX_STATE", state.path())
            .dir(service.root())
            .start(&service.root().join("err"));
        eventually("again", || open_fifo(&state.join("s/ok")).is_some());
        let mut second = run("chpst")
            .args(&["-u", "nobody", "runsv", "s"])
            .env("RUNITBOX_STATE", state.path())
            .dir(service.root())
            .start(&service.root().join("err2"));
        eventually("refused", || second.ended() == Some(111));
        let place = state.join("s").display().to_string();
        assert_eq!(
            read(service.root().join("err2")),
            format!("runsv s: fatal: unable to lock supervise/lock in {place}: temporary failure\n")
        );
        first.signal(SIGTERM);
        eventually("ended", || first.ended() == Some(0));
    }

    /// A runsv of the service by its absolute path, as runsvinit has them.
    fn by_path(service: &Service) -> Running {
        let runsv = run("runsv").arg(service.path()).dir(service.root()).start(&service.root().join("err"));
        eventually("up", || service.is_served() && service.is_up());
        runsv
    }

    #[test]
    fn a_renamed_directory_is_the_same_service() {
        let service = Service::sleeper();
        let mut runsv = by_path(&service);
        let pid = service.pid().unwrap();
        let other = service.root().join("other");
        fs::rename(service.path(), &other).unwrap();
        // A change in the directory makes runsv look.
        fs::write(other.join("note"), "").unwrap();
        // Neither its start nor its end is missed under the new name, although another has the old one.
        write_script(&service.path().join("run"), "exec sleep 1000");
        kill(pid, SIGKILL);
        let now = || read(other.join("supervise/pid")).trim().parse().ok().filter(|&now: &i32| now != pid);
        eventually("started again", || now().is_some_and(is_alive));
        assert!(!service.path().join("supervise").exists(), "the other directory was taken up");
        send(&other.join("supervise/control"), "x");
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn a_parent_that_cannot_be_looked_through_for_a_moment_ends_nothing() {
        let service = Service::sleeper();
        let mut runsv = by_path(&service);
        let pid = service.pid().unwrap();
        let moved = service.root().with_extension("moved");
        fs::rename(service.root(), &moved).unwrap();
        fs::write(moved.join("s/note"), "").unwrap();
        kill(pid, SIGKILL);
        let now = || read(moved.join("s/supervise/pid")).trim().parse().ok().filter(|&now: &i32| now != pid);
        eventually("started again", || now().is_some_and(is_alive));
        fs::rename(&moved, service.root()).unwrap();
        eventually("up", || service.is_up());
        assert_eq!(service.messages().matches("gone").count(), 0, "{}", service.messages());
        service.send("x");
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn a_directory_replaced_by_a_file_is_waited_for() {
        let service = Service::sleeper();
        let mut runsv = by_path(&service);
        let old = service.pid().unwrap();
        remove_served(service.path());
        fs::write(service.path(), "").unwrap();
        eventually("noticed", || service.messages().contains("service directory is gone"));
        fs::rename(service.path(), service.root().join("file")).unwrap();
        fs::rename(service.root().join("file"), service.path()).unwrap();
        steadily("alive", Duration::from_millis(300), || runsv.ended().is_none());
        fs::remove_file(service.path()).unwrap();
        fs::create_dir(service.path()).unwrap();
        let service = service.script("run", "exec sleep 1000");
        eventually("new runs", || service.is_up() && service.pid() != Some(old));
        eventually("old ended", || !is_alive(old));
        service.send("x");
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn a_log_made_while_runsv_starts_is_taken_up() {
        needs_program("strace");
        let service = Service::new().script("run", "while :; do echo line; sleep 0.1; done");
        // The watch takes long to be set; what is made meanwhile is found by one of the looks after it.
        let mut strace = run_file("/usr/bin/strace")
            .args(&["-qqo", "/dev/null", "-e", "inject=fcntl:delay_enter=200000"])
            .arg(program("runsv"))
            .arg("s")
            .dir(service.root())
            .start(&service.root().join("err"));
        eventually("begun", || service.path().join("supervise/lock").exists());
        let service = service.logged();
        eventually("log up", || service.log_stat() == "run\n");
        service.send("x");
        eventually("left", || strace.ended().is_some());
    }

    #[test]
    fn a_down_file_that_is_written_after_run_is_obeyed() {
        for _ in 0..10 {
            let service = Service::new().supervised();
            eventually("said", || service.messages().contains("unable to start ./run"));
            let service = service.script("run", "echo x >>../starts; exec sleep 1000").file("down", "");
            eventually("taken up", || service.status().want == Want::Down);
            service.send("o");
            eventually("up", || service.is_up());
            let starts = || read(service.root().join("starts"));
            eventually("noted", || !starts().is_empty());
            assert_eq!(starts(), "x\n");
        }
    }

    #[test]
    fn a_log_directory_that_is_replaced_is_gone_to() {
        let service = Service::new().script("run", "while :; do echo line; sleep 0.05; done").logged().up();
        eventually("logged", || service.read("log/out").contains("line"));
        fs::rename(service.path().join("log"), service.path().join("old")).unwrap();
        let service = service.script("log/run", "exec cat >>new");
        eventually("logged anew", || service.read("log/new").contains("line"));
        eventually("told", || service.log_stat() == "run\n");
        service.send_log("d");
        eventually("controlled", || service.log_stat() == "down\n");
    }

    #[test]
    fn a_link_log_that_is_switched_is_followed() {
        let service = Service::new().script("run", "while :; do echo line; sleep 0.05; done");
        for name in ["one", "two"] {
            write_script(&service.root().join(name).join("run"), "exec cat >>out");
        }
        symlink("../one", service.path().join("log")).unwrap();
        let service = service.up();
        eventually("logged", || read(service.root().join("one/out")).contains("line"));
        symlink("../two", service.path().join("next")).unwrap();
        fs::rename(service.path().join("next"), service.path().join("log")).unwrap();
        eventually("logged anew", || read(service.root().join("two/out")).contains("line"));
    }

    #[test]
    fn lines_that_wait_while_the_log_service_is_in_its_pause_are_read_before_runsv_leaves() {
        let mut service = Service::new()
            .script(
                "run",
                "while [ ! -e ../unread ]; do sleep 0.02; done\n\
                 echo first; echo second; echo x >../written; exec sleep 1000",
            )
            .script("log/run", "[ -e ../../unread ] || { : >../../unread; exec sleep 1000; }\nexec cat >>out")
            .up();
        eventually("written", || read(service.root().join("written")) == "x\n");
        // Its first run ends soon after its start, so the next one is not due before a second is over.
        let log = service.started_log();
        kill(log, SIGKILL);
        eventually("noticed", || service.log_pid() != Some(log));
        service.send("x");
        assert_eq!(service.exit_code(), 0);
        assert_eq!(service.read("log/out"), "first\nsecond\n");
    }

    #[test]
    fn a_linked_supervise_that_vanishes_is_made_again() {
        let service = Service::sleeper().logged();
        for (link, target) in [("supervise", "../main-state"), ("log/supervise", "../../log-state")] {
            symlink(target, service.path().join(link)).unwrap();
        }
        let service = service.up();
        for name in ["main-state", "log-state"] {
            let dir = service.root().join(name);
            remove_served(&dir);
            eventually("served again", || open_fifo(&dir.join("ok")).is_some());
            eventually("told", || read(dir.join("stat")) == "run\n");
        }
        service.send("d");
        eventually("controlled", || service.is_down());
        service.send_log("d");
        eventually("log controlled", || service.log_stat() == "down\n");
    }

    #[test]
    fn a_fifo_or_lock_that_is_removed_alone_is_made_again() {
        let service = Service::sleeper().logged().up();
        for name in ["control", "ok", "lock"] {
            for dir in ["supervise", "log/supervise"] {
                let path = service.path().join(dir).join(name);
                fs::remove_file(&path).unwrap();
                eventually("made again", || path.exists());
            }
        }
        eventually("served", || service.is_served());
        service.send("cd");
        eventually("down", || service.is_down());
        let second = run("runsv").arg("s").dir(service.root()).go();
        assert_eq!(second.code, Some(111), "{second:?}");
    }

    #[test]
    fn a_service_that_survived_a_signal_and_ends_later_ended_by_itself() {
        let service = Service::new()
            .script(
                "run",
                "trap 'echo hup >../hup' HUP; : >../begun\nwhile [ ! -e ../end ]; do sleep 0.02; done\nrm ../end; exit 7",
            )
            .up();
        eventually("begun", || service.root().join("begun").exists());
        service.send("h");
        eventually("got it", || read(service.root().join("hup")) == "hup\n");
        fs::write(service.root().join("end"), "").unwrap();
        eventually("told", || service.messages().contains("./run exited with 7"));
    }

    #[test]
    fn a_status_that_could_not_be_written_is_written_as_soon_as_it_can_be() {
        let mut service = Service::sleeper().up();
        let pid = service.pid().unwrap();
        for name in ["pid.new", "stat.new", "status.new"] {
            let path = service.path().join("supervise").join(name);
            let _ = fs::remove_file(&path);
            fs::create_dir(&path).unwrap();
        }
        service.send("d");
        eventually("ended and taken", || !Path::new(&format!("/proc/{pid}")).exists());
        let runsv = service.runsv().pid();
        eventually("waits again", || process_state(runsv) == Some('S'));
        for name in ["pid.new", "stat.new", "status.new"] {
            fs::remove_dir(service.path().join("supervise").join(name)).unwrap();
        }
        eventually("true again", || service.is_down() && service.pid().is_none());
        assert_eq!(service.messages().matches("unable to open").count(), 1, "{}", service.messages());
    }

    #[test]
    fn a_log_service_that_is_stopped_does_not_outlive_runsv() {
        let mut service = Service::sleeper().logged().file("log/timeout-exit", "100\n").up();
        let log = service.started_log();
        service.send_log("p");
        eventually("stopped", || process_state(log) == Some('T'));
        service.send("x");
        assert_eq!(service.exit_code(), 0);
        eventually("ended", || !is_alive(log));
    }

    #[test]
    fn a_service_of_another_user_can_open_its_standard_output() {
        needs_root();
        let service = Service::new()
            .script("run", "exec chpst -u nobody sh -c 'echo opened >/dev/stdout; exec sleep 1000'")
            .logged()
            .up();
        eventually("logged", || service.read("log/out") == "opened\n");
    }

    #[test]
    fn who_writes_commands_without_end_does_not_keep_runsv_from_its_work() {
        let mut service = Service::sleeper().up();
        let control = service.path().join("supervise/control");
        let flood = std::thread::spawn(move || {
            // Until nobody reads any more.
            let bytes = [b'c'; 4096];
            while let Some(mut fifo) = open_fifo(&control) {
                while fifo.write(&bytes).is_ok() {}
            }
        });
        let pid = service.pid().unwrap();
        kill(pid, SIGKILL);
        eventually("started again", || service.pid().is_some_and(|now| now != pid && is_alive(now)));
        service.runsv().signal(SIGTERM);
        assert_eq!(service.exit_code(), 0);
        flood.join().unwrap();
    }

    /// Services in directories that their runsv cannot write, with a directory for their state.
    struct Elsewhere {
        root: TempDir,
        state: TempDir,
    }

    impl Elsewhere {
        fn new(names: &[&str]) -> Self {
            let elsewhere = Elsewhere { root: TempDir::new(), state: TempDir::new() };
            for name in names {
                elsewhere.root.script(&format!("{name}/run"), "exec sleep 1000");
            }
            std::os::unix::fs::chown(elsewhere.state.path(), Some(NOBODY), None).unwrap();
            elsewhere
        }

        fn start(&self, name: &str) -> Running {
            let words = ["-u", "nobody", "runsv", name];
            run("chpst")
                .args(&words)
                .env("RUNITBOX_STATE", self.state.path())
                .dir(self.root.path())
                .start(&self.root.join("err"))
        }

        fn sv(&self, words: &[&str]) -> Outcome {
            run("sv").args(words).env("RUNITBOX_STATE", self.state.path()).dir(self.root.path()).go()
        }

        fn is_up(&self, name: &str) -> bool {
            self.sv(&["status", name]).out.starts_with("run: ")
        }

        fn pid(&self, name: &str) -> Option<i32> {
            let out = self.sv(&["status", name]).out;
            out.strip_prefix("run: ")?.split_once("(pid ")?.1.split_once(')')?.0.parse().ok()
        }
    }

    fn leave(mut runsv: Running) {
        runsv.signal(SIGTERM);
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn two_services_of_one_name_are_told_apart_elsewhere() {
        needs_root();
        let elsewhere = Elsewhere::new(&["img/web", "img/two/web", "img/web.1"]);
        let names = ["./img/web", "./img/two/web", "./img/web.1"];
        let mut runsvs: Vec<Running> = Vec::new();
        for name in names {
            runsvs.push(elsewhere.start(name));
            eventually(name, || elsewhere.is_up(name));
        }
        let pids = names.map(|name| elsewhere.pid(name).unwrap());
        assert!(pids[0] != pids[1] && pids[1] != pids[2] && pids[0] != pids[2], "{pids:?}");
        assert_eq!(elsewhere.sv(&["-w60", "down", "./img/two/web"]).code, Some(0));
        assert!(!is_alive(pids[1]) && is_alive(pids[0]) && is_alive(pids[2]));
        assert_eq!(elsewhere.sv(&["-w60", "restart", "./img/web.1"]).code, Some(0));
        assert!(elsewhere.pid("./img/web") == Some(pids[0]) && !is_alive(pids[2]));
        // The first place is free now: the second service still has its own, and not two supervisors.
        leave(runsvs.remove(0));
        let outcome = elsewhere.sv(&["status", "./img/web"]);
        assert_eq!(outcome.out, "warning: ./img/web: unable to open supervise/ok: file does not exist\n");
        let mut second = elsewhere.start("./img/two/web");
        eventually("refused", || second.ended() == Some(111));
        runsvs.insert(0, elsewhere.start("./img/web"));
        eventually("again", || elsewhere.is_up("./img/web"));
        assert!(elsewhere.sv(&["status", "./img/two/web"]).out.starts_with("down: "));
        runsvs.into_iter().for_each(leave);
    }

    #[test]
    fn a_service_called_web_log_is_not_the_log_service_of_web() {
        needs_root();
        let elsewhere = Elsewhere::new(&["web", "web.log"]);
        elsewhere.root.script("web/log/run", "exec cat");
        let web = elsewhere.start("./web");
        eventually("both", || elsewhere.is_up("./web") && elsewhere.is_up("./web/log"));
        let other = elsewhere.start("./web.log");
        eventually("the third", || elsewhere.is_up("./web.log"));
        let pids = ["./web", "./web/log", "./web.log"].map(|name| elsewhere.pid(name).unwrap());
        assert_eq!(elsewhere.sv(&["-w60", "down", "./web.log"]).code, Some(0));
        assert!(is_alive(pids[0]) && is_alive(pids[1]) && !is_alive(pids[2]), "{pids:?}");
        assert!(elsewhere.sv(&["status", "./web"]).out.contains("; run: log: (pid "));
        leave(web);
        leave(other);
    }

    #[test]
    fn runitbox_state_holds_also_where_the_directory_can_be_written() {
        let service = Service::sleeper().script("log/run", "exec cat");
        let state = TempDir::new();
        let start = |variable: &str| {
            run("runsv")
                .arg("s")
                .env("RUNITBOX_STATE", variable)
                .dir(service.root())
                .start(&service.root().join("err"))
        };
        let sv = |words: &[&str]| {
            run("sv").args(words).arg("./s").env("RUNITBOX_STATE", state.path()).dir(service.root()).go()
        };
        let variable = state.path().join("deeper/still");
        let mut runsv = start(state.path().to_str().unwrap());
        let is_up = |dir: &str| {
            state.read(&format!("{dir}/stat")) == "run\n" && open_fifo(&state.join(dir).join("ok")).is_some()
        };
        eventually("up", || is_up("s") && is_up("s.log"));
        for dir in ["supervise", "log/supervise"] {
            assert!(!service.path().join(dir).exists(), "{dir}");
        }
        eventually("shown", || {
            let out = sv(&["status"]).out;
            out.starts_with("run: ") && out.contains("; run: log: ")
        });
        assert_eq!(sv(&["-w60", "restart"]).code, Some(0));
        assert_eq!(sv(&["-w60", "exit"]).code, Some(0));
        eventually("left", || runsv.ended() == Some(0));
        // What is missing is made; and where it cannot be made, that is said and the usual place is taken.
        let mut runsv = start(variable.to_str().unwrap());
        eventually("made", || open_fifo(&variable.join("s/ok")).is_some());
        runsv.signal(SIGTERM);
        eventually("left", || runsv.ended() == Some(0));
        let mut runsv = start("/proc/none");
        eventually("usual", || service.is_served() && service.is_up());
        assert!(
            service.messages().contains("warning: no state is kept in /proc/none: "),
            "{}",
            service.messages()
        );
        // Who serves it there is seen by one that has the variable.
        let mut second = start(state.path().to_str().unwrap());
        eventually("refused", || second.ended() == Some(111));
        assert!(sv(&["status"]).out.starts_with("run: "));
        runsv.signal(SIGTERM);
        eventually("left", || runsv.ended() == Some(0));
    }

    #[test]
    fn one_that_starts_twice_at_once_elsewhere_is_served_at_most_once() {
        needs_root();
        let elsewhere = Elsewhere::new(&["img/web", "img/two/web"]);
        for round in 0..20 {
            // The first place has another owner in every second round.
            let other = (round % 2 == 0).then(|| {
                let other = elsewhere.start("./img/two/web");
                eventually("the other", || elsewhere.is_up("./img/two/web"));
                other
            });
            let mut runsvs: Vec<Running> = (0..4).map(|_| elsewhere.start("./img/web")).collect();
            eventually("decided", || {
                let left = runsvs.iter_mut().filter_map(Running::ended).count();
                left == 4 || (left == 3 && elsewhere.is_up("./img/web"))
            });
            other.into_iter().for_each(leave);
            runsvs.into_iter().filter_map(|mut it| it.ended().is_none().then_some(it)).for_each(leave);
        }
    }

    #[test]
    fn what_is_left_in_supervise_is_what_stock_leaves() {
        let mut service = Service::sleeper().logged().up();
        for _ in 0..3 {
            assert_eq!(service.sv(&["-w60", "restart"]).code, Some(0));
        }
        service.send("x");
        assert_eq!(service.exit_code(), 0);
        for dir in ["supervise", "log/supervise"] {
            let mut names: Vec<String> = fs::read_dir(service.path().join(dir))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            // Debian's packages remove these by name, and then the directory.
            assert_eq!(names, ["control", "lock", "ok", "pid", "stat", "status"], "{dir}");
        }
    }

    #[test]
    fn a_run_that_cannot_be_executed_is_tried_once_a_second() {
        for (content, mode) in [("#!/bin/sh\nexec sleep 1000\n", 0o644), ("no interpreter\n", 0o755)] {
            let service = Service::new().script("finish", "echo x >>../finishes").file("run", content);
            fs::set_permissions(service.path().join("run"), fs::Permissions::from_mode(mode)).unwrap();
            let begin = Instant::now();
            let service = service.supervised();
            let finishes = || read(service.root().join("finishes")).lines().count();
            eventually("tried again", || finishes() >= 2);
            steadily("in its pace", Duration::from_millis(1500), || {
                let count = finishes();
                count as f64 * 0.95 <= begin.elapsed().as_secs_f64() + 2.0
            });
        }
    }

    #[test]
    fn who_has_the_fifo_does_not_keep_runsv_from_leaving() {
        let mut service = Service::sleeper().file("down", "").supervised();
        let control = service.path().join("supervise/control");
        let flood = std::thread::spawn(move || {
            while let Some(mut fifo) = open_fifo(&control) {
                while fifo.write(&[b'd'; 512]).is_ok() {}
            }
        });
        service.runsv().signal(SIGTERM);
        assert_eq!(service.exit_code(), 0);
        flood.join().unwrap();
    }

    #[test]
    fn a_full_disk_does_not_keep_the_status_from_being_true() {
        needs_root();
        // In a mount namespace of its own: a small tmpfs, filled when the service is up and has changed nothing since.
        let root = TempDir::new();
        let script = "mount -t tmpfs -o size=100k,nr_inodes=40 tmpfs \"$1\"; cd \"$1\"; mkdir s\n\
            printf '#!/bin/sh\\n[ ! -e ../end ] || exit 1\\nexec sleep 1000\\n' >s/run; chmod 755 s/run\n\
            runsv s >/dev/null 2>&1 & runsv=$!\n\
            until [ \"$(cat s/supervise/stat 2>/dev/null)\" = run ]; do sleep 0.02; done\n\
            : >end; n=0; while touch fill$n 2>/dev/null; do n=$((n+1)); [ $n -lt 100 ] || exit 9; done\n\
            kill -9 $(cat s/supervise/pid)\n\
            n=0; until sv status ./s | grep -q ^down; do n=$((n+1)); [ $n -lt 3000 ] || exit 8; sleep 0.02; done\n\
            kill $runsv; wait $runsv";
        let outcome = run_file("/usr/bin/unshare")
            .args(&["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(root.path())
            .env("PATH", format!("{}:/usr/sbin:/sbin", path_variable()))
            .go();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}
