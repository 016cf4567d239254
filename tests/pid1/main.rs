//! `runsvdir`, and in the modules `runit` and `runsvinit`, as process 1 in a PID namespace of its own.
//!
//! Needs user and PID namespaces (util-linux' `unshare`), and root for all but `runsvdir`.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

mod chpst;
mod command;
mod hosted;
mod hosted_logs;
mod output;
mod runit;
mod runsvinit;
mod shared;
mod trouble;

use std::fs;
use std::process::Command;
use std::time::Duration;

use support::*;

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}

/// A namespace whose process 1 is `runsvdir service`.
struct Namespace {
    init: Process1,
    root: TempDir,
}

impl Namespace {
    fn new(prepare: impl FnOnce(&TempDir), args: &[&str]) -> Self {
        needs_namespaces();
        let root = TempDir::new();
        fs::create_dir_all(root.join("service")).unwrap();
        prepare(&root);
        let unshare = run_file("/usr/bin/unshare")
            .args(&["-Urpf", "--mount-proc", "--kill-child"])
            .arg(bin().join("runsvdir"))
            .args(args)
            .dir(root.path());
        Namespace { init: Process1::start(unshare, "runsvdir", &root.join("err")), root }
    }

    fn is_served(&self, name: &str) -> bool {
        open_fifo(&self.root.join(&format!("service/{name}/supervise/ok"))).is_some()
    }

    fn stat(&self, name: &str) -> String {
        self.root.read(&format!("service/{name}/supervise/stat"))
    }
}

/// A service that says when it was told to end, and takes a moment over it.
fn graceful(root: &TempDir, name: &str) {
    root.script(
        &format!("service/{name}/run"),
        "trap 'sleep 0.2; echo last words; echo ended >>ended; exit' TERM\necho first words\necho >ready\nwhile :; do sleep 0.02; done",
    );
    root.script(&format!("service/{name}/log/run"), "exec cat >>out");
}

fn ready(namespace: &Namespace, name: &str) -> bool {
    namespace.root.join(&format!("service/{name}/ready")).exists()
}

#[test]
fn each_signal_stops_all_in_order_and_ends_with_its_code() {
    for (signal, code) in [(SIGTERM, 0), (SIGINT, 0), (SIGHUP, 111)] {
        let names = ["a", "b", "c"];
        let mut namespace =
            Namespace::new(|root| names.iter().for_each(|name| graceful(root, name)), &["-P", "service"]);
        eventually("ready", || names.iter().all(|name| ready(&namespace, name)));
        namespace.init.signal(signal);
        assert_eq!(namespace.init.exit_code(), code, "signal {signal}");
        for name in names {
            // The service got its TERM and its time, and the log service what it said last.
            assert_eq!(namespace.root.read(&format!("service/{name}/ended")), "ended\n");
            assert_eq!(namespace.root.read(&format!("service/{name}/log/out")), "first words\nlast words\n");
        }
    }
}

#[test]
fn it_ends_as_soon_as_all_are_gone() {
    let prepare = |root: &TempDir| {
        for number in 0..50 {
            root.script(&format!("service/{number}/run"), "exec sleep 1000");
        }
    };
    promptly("the end", Duration::from_millis(900), || {
        let mut namespace = Namespace::new(prepare, &["service"]);
        eventually("up", || (0..50).all(|number| namespace.stat(&number.to_string()) == "run\n"));
        time_of(|| {
            namespace.init.signal(SIGTERM);
            assert_eq!(namespace.init.exit_code(), 0);
        })
    });
}

#[test]
fn services_that_just_started_or_crash_are_stopped_too() {
    let prepare = |root: &TempDir| {
        for number in 0..20 {
            root.script(&format!("service/crash{number}/run"), "exit 1");
            root.script(&format!("service/new{number}/run"), "exec sleep 1000");
        }
    };
    promptly("the end", Duration::from_millis(900), || {
        let mut namespace = Namespace::new(prepare, &["service"]);
        eventually("one is served", || namespace.is_served("new0") || namespace.is_served("crash0"));
        time_of(|| {
            namespace.init.signal(SIGTERM);
            assert_eq!(namespace.init.exit_code(), 0);
        })
    });
}

#[test]
fn nothing_starts_while_it_ends() {
    let mut namespace = Namespace::new(|root| graceful(root, "a"), &["service"]);
    eventually("ready", || ready(&namespace, "a"));
    namespace.init.signal(SIGTERM);
    namespace.root.script("service/late/run", "echo >started; exec sleep 1000");
    assert_eq!(namespace.init.exit_code(), 0);
    assert!(!namespace.root.join("service/late/started").exists());
}

#[test]
fn orphans_are_reaped_and_none_is_left() {
    let prepare = |root: &TempDir| {
        // A thousand grandchildren whose parent does not wait for them.
        let script =
            "i=0; while [ $i -lt 1000 ]; do (sleep 0.1 &) ; i=$((i+1)); done; echo >done; exec sleep 1000";
        root.script("service/a/run", script);
    };
    let namespace = Namespace::new(prepare, &["service"]);
    eventually("made", || namespace.root.join("service/a/done").exists());
    // Its own runsv is all that stays, and no zombie.
    eventually("reaped", || states_of_children(namespace.init.pid) == ['S']);
}

#[test]
fn a_service_that_hangs_is_waited_for_by_the_others_only_in_the_end() {
    let prepare = |root: &TempDir| {
        root.script("service/stubborn/run", "trap '' TERM; echo >ready; while :; do sleep 0.02; done");
        graceful(root, "a");
    };
    let mut namespace = Namespace::new(prepare, &["service"]);
    eventually("ready", || ready(&namespace, "a") && ready(&namespace, "stubborn"));
    namespace.init.signal(SIGTERM);
    eventually("a is gone", || !namespace.is_served("a"));
    assert!(namespace.is_served("stubborn"));
    // What an administrator does then.
    send(&namespace.root.join("service/stubborn/supervise/control"), "k");
    assert_eq!(namespace.init.exit_code(), 0);
}

#[test]
fn an_empty_root_without_dev_and_with_closed_descriptors_is_survived() {
    needs_root();
    let root = TempDir::new();
    for dir in ["service", "bin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(executable(), root.join("bin/runsvdir")).unwrap();
    fs::copy(executable(), root.join("bin/runsv")).unwrap();
    // No shell in it: the service is chpst in a loop of its own, which ends at once.
    fs::create_dir_all(root.join("service/a")).unwrap();
    fs::copy(executable(), root.join("service/a/run")).unwrap();
    let script = format!(
        "exec unshare -rpf --kill-child --root={} /bin/runsvdir /service <&- >&- 2>&-",
        root.path().display()
    );
    let mut shell = Command::new("/bin/sh")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .spawn()
        .unwrap();
    let served = || open_fifo(&root.join("service/a/supervise/ok")).is_some();
    eventually("served", served);
    let parent = i32::try_from(shell.id()).unwrap();
    kill(children_of(parent)[0], SIGTERM);
    eventually("ended", || shell.try_wait().unwrap().is_some());
    assert_eq!(shell.wait().unwrap().code(), Some(0));
}
