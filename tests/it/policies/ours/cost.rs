//! A service without policy files costs what it did before there were any.

use support::*;

/// System calls of a stop and of a start when there were no policy files yet, without fcntl(2): a debug build has more of
/// those. Sometimes the end of the process and its command are read in one turn.
const STOP_MAX: usize = 62;
const START_MAX: usize = 62;

#[test]
fn a_start_a_stop_and_an_idle_time_have_no_more_system_calls() {
    needs_program("strace");
    let service = Service::sleeper();
    let trace = service.root().join("trace");
    let mut strace = run_file("/usr/bin/strace")
        .args(&["-qqo", trace.to_str().unwrap(), "-e", "trace=!fcntl"])
        .arg(program("runsv"))
        .arg("s")
        .dir(service.root())
        .start(&service.root().join("err"));
    let calls = || read(&trace).lines().count();
    // The last line is a wait that has begun and not ended.
    let idle = || {
        eventually("idle", || {
            let before = calls();
            std::thread::sleep(std::time::Duration::from_millis(300));
            before == calls()
        });
        calls()
    };
    eventually("up", || service.is_up());
    let up = idle();
    service.send("d");
    eventually("down", || service.is_down());
    let down = idle();
    service.send("u");
    eventually("up again", || service.is_up());
    let up_again = idle();
    assert!(down - up <= STOP_MAX, "{} for a stop: {}", down - up, read(&trace));
    assert!(up_again - down <= START_MAX, "{} for a start: {}", up_again - down, read(&trace));
    for file in [
        "notification",
        "watchdog",
        "timeout-ready",
        "needs",
        "restart",
        "kill-group",
        "cgroup",
        "on-failure",
        "\"state",
    ] {
        // The one look when it begins is for what another supervisor left.
        let looks = read(&trace).matches(file).count();
        assert_eq!(looks, usize::from(file == "\"state"), "{file}: {}", read(&trace));
    }
    service.send("x");
    eventually("left", || strace.ended().is_some());
}

#[test]
fn a_service_that_waits_when_it_begins_publishes_that_once() {
    needs_program("strace");
    let service = Service::sleeper().file("needs", "absent\n");
    let trace = service.root().join("trace");
    let mut strace = run_file("/usr/bin/strace")
        .args(&["-qqo", trace.to_str().unwrap(), "-e", "trace=openat"])
        .arg(program("runsv"))
        .arg("s")
        .dir(service.root())
        .start(&service.root().join("err"));
    eventually("it waits", || service.read("supervise/state").contains("absent"));
    let calls = read(&trace);
    assert_eq!(calls.matches("\"state.new\", O_WRONLY").count(), 1, "{calls}");
    service.send("x");
    eventually("left", || strace.ended().is_some());
}
