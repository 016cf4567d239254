//! `notification-fd`, `notification-socket`, `watchdog` and `timeout-ready`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use support::*;

/// A loop of a script that waits for a file.
fn until(file: &str) -> String {
    format!("while [ ! -e {file} ]; do sleep 0.01; done")
}

/// A program that sends each of the messages, before each of which it waits for a file of that number, and then sleeps.
pub(super) fn perl(messages: &[&str]) -> String {
    let messages: Vec<String> = messages.iter().map(|message| format!("\"{message}\"")).collect();
    format!(
        r#"exec perl -e 'use Socket; my $to = $ENV{{NOTIFY_SOCKET}}; $to =~ s/^@/\0/;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die;
my $file = 0;
for my $message ({}) {{
    select(undef, undef, undef, 0.01) until -e $file;
    send($socket, $message, 0, pack_sockaddr_un($to)) or die $!;
    ++$file;
}}
sleep 1000'"#,
        messages.join(", ")
    )
}

pub(super) fn is_ready(tree: &Tree, name: &str) -> bool {
    tree.fact(name, "ready").is_some_and(|since| since.starts_with('@'))
}

pub(super) fn is_unready(tree: &Tree, name: &str) -> bool {
    tree.fact(name, "ready").as_deref() == Some("no")
}

/// Processor time that a process has used.
pub(super) fn processor_time(pid: i32) -> Duration {
    let stat = read(format!("/proc/{pid}/stat"));
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A variable of the environment of a service.
fn variable(tree: &Tree, service: &str, name: &str) -> Option<String> {
    let environment = read(format!("/proc/{}/environ", tree.pid(service)?));
    environment.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

/// A socket that is connected to that of a service.
pub(super) fn connected(tree: &Tree, service: &str) -> UnixDatagram {
    let mut address = None;
    // While a process executes a program, it shows none.
    eventually("has an environment", || {
        address = variable(tree, service, "NOTIFY_SOCKET");
        address.is_some()
    });
    let address = address.unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect_addr(&SocketAddr::from_abstract_name(&address[1..]).unwrap()).unwrap();
    socket
}

#[test]
fn a_newline_on_the_descriptor_means_ready() {
    under_each_supervisor(|tree| {
        for fd in [3, 4, 5, 6, 7, 8, 9, 200] {
            let name = format!("web{fd}");
            let write = if fd < 10 { format!("echo >&{fd}") } else { format!("echo >/dev/fd/{fd}") };
            tree.define(&name, &format!("{}\n{write}\nexec sleep 1000", until("go")));
            tree.file(&name, "notification-fd", &format!("{fd}\n"));
            tree.link(&name);
        }
        tree.start();
        for fd in [3, 4, 5, 6, 7, 8, 9, 200] {
            let name = format!("web{fd}");
            eventually("up", || tree.is_up(&name) && is_unready(tree, &name));
            tree.file(&name, "go", "");
            eventually("ready", || is_ready(tree, &name));
            // The next process has to tell it anew.
            std::fs::remove_file(tree.root.join(&format!("sv/{name}/go"))).unwrap();
            send(&tree.root.join(&format!("sv/{name}/supervise/control")), "t");
            eventually("up and not ready", || is_unready(tree, &name) && tree.is_up(&name));
        }
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn a_closed_descriptor_or_one_without_newline_is_not_ready_and_costs_nothing() {
    under_each_supervisor(|tree| {
        tree.define("closes", "exec 3>&-\n: >done\nexec sleep 1000");
        tree.define("writes", "yes | tr -d '\\n' >&3\n: >done\nexec sleep 1000");
        for name in ["closes", "writes"] {
            tree.file(name, "notification-fd", "3");
            tree.link(name);
        }
        tree.start();
        for name in ["closes", "writes"] {
            eventually("done", || tree.is_up(name) && tree.root.join(&format!("sv/{name}/done")).exists());
            let supervisor = tree.runsv_of(name).unwrap();
            let before = processor_time(supervisor);
            steadily("not ready", Duration::from_millis(500), || is_unready(tree, name));
            let used = processor_time(supervisor).saturating_sub(before);
            assert!(used < Duration::from_millis(100), "{used:?}");
        }
    });
}

#[test]
fn what_an_old_process_left_behind_does_not_count() {
    under_each_supervisor(|tree| {
        tree.define(
            "web",
            &format!(
                "if [ ! -e old ]; then\n({}; echo >&3; : >told) >/dev/null 2>&1 &\n: >old\nfi\nexec sleep 1000",
                until("late")
            ),
        );
        tree.file("web", "notification-fd", "3");
        tree.link("web");
        tree.start();
        // The process that it leaves behind was started.
        eventually("up", || is_unready(tree, "web") && tree.root.join("sv/web/old").exists());
        let pid = tree.pid("web");
        send(&tree.root.join("sv/web/supervise/control"), "t");
        eventually("another", || tree.is_up("web") && tree.pid("web") != pid);
        tree.file("web", "late", "");
        steadily("not ready", Duration::from_millis(300), || is_unready(tree, "web"));
    });
}

#[test]
fn messages_of_the_service_are_understood() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        tree.define(
            "web",
            &perl(&[
                "STATUS=loads\\nMAINPID=$$",
                "READY=1\\nSTATUS=serves \\\\ \\t.\\nX_UNKNOWN=1",
                "RELOADING=1\\nFDSTORE=1",
                "MAINPID=1\\nSTATUS=",
                "STOPPING=1",
            ]),
        );
        tree.file("web", "notification-socket", "");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web") && is_unready(tree, "web"));
        assert_eq!(tree.fact("web", "message"), None);
        tree.file("web", "0", "");
        let pid = tree.pid("web").unwrap().to_string();
        eventually("loads", || tree.fact("web", "message").as_deref() == Some("loads"));
        assert_eq!(tree.fact("web", "main-pid"), Some(pid.clone()));
        let status = run_file(executable()).args(&["svctl", "-d", "service", "status", "web"]);
        let status = status.dir(tree.root.path()).go();
        assert!(status.out.contains(&format!("  main process: {pid}\n")), "{}", status.out);
        assert!(is_unready(tree, "web"));
        tree.file("web", "1", "");
        eventually("ready", || is_ready(tree, "web"));
        assert_eq!(tree.fact("web", "message").as_deref(), Some(r"serves \x5c \x09."));
        tree.file("web", "2", "");
        tree.file("web", "3", "");
        eventually("no message", || tree.fact("web", "message").is_none());
        // Process 1 does not belong to the service.
        assert_eq!(tree.fact("web", "main-pid"), Some(pid));
        assert!(is_ready(tree, "web"));
        tree.file("web", "4", "");
        eventually("not ready", || is_unready(tree, "web"));
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn a_descendant_is_believed_and_a_stranger_is_not() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        // A shell between the two, which is waited for.
        let perl = perl(&["READY=1\\nSTATUS=true"]).replace("sleep 1000", "sleep 1000 until -e \"end\"");
        tree.define("web", &format!("sh -c '({}) & wait'\nexit 0", perl.replace('\'', "'\\''")));
        tree.file("web", "notification-socket", "");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let socket = connected(tree, "web");
        for _ in 0..3 {
            socket.send(format!("READY=1\nSTATUS=false\nMAINPID={}", std::process::id()).as_bytes()).unwrap();
        }
        steadily("not ready", Duration::from_millis(300), || is_unready(tree, "web"));
        tree.file("web", "0", "");
        eventually("ready", || is_ready(tree, "web"));
        assert_eq!(tree.fact("web", "message").as_deref(), Some("true"));
        assert_eq!(tree.fact("web", "main-pid"), None);
        let pids = children_of(tree.pid("web").unwrap());
        send(&tree.root.join("sv/web/supervise/control"), "xk");
        for pid in pids {
            kill(pid, SIGKILL);
        }
    });
}

/// The processes below one.
pub(super) fn children_of(pid: i32) -> Vec<i32> {
    let children = read(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    children.flat_map(|child| children_of(child).into_iter().chain([child])).collect()
}

/// Sends messages for a second, `send` one each time, if there is room for it: they occupy the supervisor for a small part of
/// that, and `web` is ready only when it says so itself.
#[track_caller]
pub(super) fn assert_flood_is_cheap(tree: &Tree, mut send: impl FnMut() -> bool) {
    let supervisor = tree.runsv_of("web").unwrap();
    let (begin, before) = (Instant::now(), processor_time(supervisor));
    let mut sent = 0;
    while begin.elapsed() < Duration::from_secs(1) {
        sent += usize::from(send());
    }
    let used = processor_time(supervisor).saturating_sub(before);
    assert!(used < Duration::from_millis(300) && sent > 16, "{used:?} {sent}");
    assert!(is_unready(tree, "web"));
    tree.file("web", "0", "");
    eventually("ready", || is_ready(tree, "web"));
}

#[test]
fn strangers_who_send_without_end_neither_hold_up_nor_occupy_the_supervisor() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        tree.define("web", &perl(&["READY=1"]));
        tree.file("web", "notification-socket", "");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let socket = connected(tree, "web");
        socket.set_nonblocking(true).unwrap();
        assert_flood_is_cheap(tree, || {
            std::thread::yield_now();
            socket.send(b"READY=1").is_ok()
        });
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
    });
}

#[test]
fn a_service_that_dropped_its_user_and_root_can_tell_it() {
    needs_program("perl");
    needs_root();
    under_each_supervisor(|tree| {
        let script = perl(&["READY=1"]).replace("exec perl", "exec chpst -u nobody perl");
        // What it needs is loaded before.
        let script = script.replace("my $file = 0;", "chroot \"/proc\" if $< == 0; my $file = 0;");
        tree.define("web", &script);
        tree.file("web", "notification-socket", "");
        tree.file("web", "0", "");
        tree.link("web");
        // So that the user can go there.
        let open = run_file("/bin/chmod").args(&["-R", "go+rX"]).arg(tree.root.path()).go();
        assert_eq!(open.code, Some(0));
        tree.start();
        eventually("ready", || is_ready(tree, "web"));
    });
}

#[test]
fn a_service_that_is_silent_for_too_long_is_aborted_and_started_again() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        tree.define("web", &perl(&["READY=1\\nWATCHDOG=1"]));
        tree.file("web", "notification-socket", "");
        tree.file("web", "watchdog", "1000");
        tree.file("web", "0", "");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let pid = tree.pid("web");
        assert_eq!(variable(tree, "web", "WATCHDOG_USEC").as_deref(), Some("1000000"));
        assert_eq!(variable(tree, "web", "WATCHDOG_PID"), pid.map(|pid| pid.to_string()));
        eventually("ready", || is_ready(tree, "web"));
        eventually("another", || tree.pid("web").is_some_and(|new| Some(new) != pid));
        let line = "web: warning: ./run was silent for 1000 ms: sending ABRT\n";
        assert!(tree.messages().contains(line), "{}", tree.messages());
        eventually("noted", || tree.fact("web", "end").is_some_and(|end| end[26..].starts_with("signal 6 ")));
    });
}

#[test]
fn a_service_that_tells_that_it_lives_or_needs_more_time_is_left_alone() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        let alive = r#"for (1..40) { send($socket, "WATCHDOG=1", 0, pack_sockaddr_un($to)) or die; select(undef, undef, undef, 0.1); }
send($socket, "WATCHDOG=trigger", 0, pack_sockaddr_un($to));
sleep 1000"#;
        tree.define("web", &perl(&["EXTEND_TIMEOUT_USEC=6000000", "READY=1"]).replace("sleep 1000", alive));
        tree.file("web", "notification-socket", "");
        tree.file("web", "watchdog", "2000");
        tree.file("web", "0", "");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let pid = tree.pid("web");
        steadily("more time", Duration::from_millis(3000), || tree.pid("web") == pid);
        tree.file("web", "1", "");
        steadily("alive", Duration::from_millis(3000), || tree.pid("web") == pid);
        eventually("another", || tree.pid("web").is_some_and(|new| Some(new) != pid));
        let line = "web: warning: ./run told that it fails: sending ABRT\n";
        assert!(tree.messages().contains(line), "{}", tree.messages());
        assert!(!tree.messages().contains("silent"), "{}", tree.messages());
    });
}

#[test]
fn who_is_not_ready_in_time_is_reported_and_ended_only_with_on_failure() {
    under_each_supervisor(|tree| {
        for name in ["web", "again"] {
            tree.define(name, "echo >>starts\nexec sleep 1000");
            tree.file(name, "notification-fd", "3");
            tree.file(name, "timeout-ready", "500");
            tree.link(name);
        }
        tree.file("again", "restart", "on-failure");
        tree.start();
        eventually("again", || tree.read("again", "starts").len() >= 2);
        let line = "web: warning: ./run was not ready within 500 ms\n";
        eventually("reported", || tree.messages().contains(line));
        assert_eq!(tree.read("web", "starts").len(), 1);
    });
}

#[test]
fn what_makes_no_sense_is_reported_once_and_ignored() {
    under_each_supervisor(|tree| {
        tree.define("web", "exec sleep 1000");
        tree.file("web", "notification-fd", "two");
        tree.file("web", "watchdog", "100");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        for line in [
            "web: warning: notification-fd: not a number from 3 to 1023, ignored\n",
            "web: warning: watchdog: of use only beside notification-socket, ignored\n",
        ] {
            assert_eq!(tree.messages().matches(line).count(), 1, "{}", tree.messages());
        }
        assert_eq!(tree.fact("web", "ready"), None);
        assert_eq!(variable(tree, "web", "NOTIFY_SOCKET"), None);
    });
}

#[test]
fn without_descriptors_a_start_is_tried_again_and_without_a_socket_for_good_it_is_not_ready() {
    needs_program("strace");
    for (error, is_passing) in [("EMFILE", true), ("EAFNOSUPPORT", false)] {
        let tree = Tree::new();
        tree.sleeper("web");
        tree.file("web", "notification-socket", "");
        let inject = format!(
            "exec strace -o strace.out -e trace=socket -e inject=socket:error={error}:when=1 $0 service"
        );
        let run = run_file("/bin/sh").args(&["-c", &inject]).arg(program("runsvinit"));
        let mut init = run.dir(tree.root.path()).start(&tree.root.join("err"));
        eventually("up", || tree.is_up("web") && is_unready(&tree, "web"));
        assert!(tree.root.read("strace.out").contains("INJECTED"));
        assert_eq!(variable(&tree, "web", "NOTIFY_SOCKET").is_some(), is_passing);
        let outcome =
            if is_passing { "not possible now, run is started later: " } else { "not possible, ignored: " };
        let line = format!("web: warning: notification-socket: {outcome}");
        assert_eq!(tree.messages().matches(&line).count(), 1, "{}", tree.messages());
        send(&tree.root.join("sv/web/supervise/control"), "d");
        // strace passes no signal on.
        kill(*children_of(init.pid()).last().unwrap(), SIGTERM);
        eventually("ended", || init.ended().is_some());
    }
}

#[test]
fn a_main_process_that_has_ended_is_no_longer_shown() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        let child = r#"my $child = fork; if (!$child) { sleep 1000; exit }
send($socket, "MAINPID=$child", 0, pack_sockaddr_un($to)) or die;
select(undef, undef, undef, 0.01) until -e "end";
kill 9, $child; wait;
sleep 1000"#;
        tree.define("web", &perl(&["READY=1"]).replace("sleep 1000", child));
        tree.file("web", "notification-socket", "");
        tree.file("web", "0", "");
        tree.link("web");
        tree.start();
        eventually("named", || tree.fact("web", "main-pid").is_some());
        tree.file("web", "end", "");
        eventually("gone", || tree.fact("web", "main-pid").is_none());
        assert!(is_ready(tree, "web"));
    });
}

#[test]
fn what_a_supervisor_in_another_pid_namespace_tells_is_believed() {
    const NAMESPACE: &str = "--pid --fork --kill-child --mount-proc";
    needs_unshare(NAMESPACE);
    for supervisor in ["runsvdir", "runsvinit"] {
        let root = TempDir::new();
        root.script("service/slow/run", "exec sleep 1000");
        root.file("service/slow/notification-fd", "3");
        root.script("service/broken/run", "exit 1");
        root.file("service/broken/restart-limit", "1 60");
        let inside = run_file("/usr/bin/unshare").args(&NAMESPACE.split(' ').collect::<Vec<_>>());
        let inside = inside.arg(program(supervisor)).arg("service").dir(root.path());
        let _inside = inside.start(&root.join("err"));
        let sv = |words: &[&str]| run("sv").args(words).env("SVDIR", root.join("service")).go();
        eventually("up", || sv(&["status", "slow"]).out.starts_with("run: "));
        eventually("given up", || sv(&["status", "broken"]).out.contains("given up: 1 end in 60 s"));
        let started = sv(&["-w", "1", "start", "slow"]);
        assert!(started.code == Some(1) && started.out.contains("not ready"), "{started:?}");
        let health = sv(&["health", "slow"]);
        assert!(health.code == Some(1) && health.out.contains("not ready"), "{health:?}");
    }
}
