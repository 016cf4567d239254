//! One host loop with several services in one process, as a container's process 1 has them.
//!
//! The case is run on the main thread: the host waits for signals of the whole process, which has to have one thread.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

use std::time::{Duration, Instant};

use support::*;
use svcore::Signal;
use svcore::control::Command;
use svcore::service::Service;
use svcore::service::host::{Host, now};
use svcore::sys::signals::Signals;

const NAMES: [&str; 4] = ["plain", "logged", "crashing", "hanging"];

fn main() -> std::process::ExitCode {
    support::run_cases_on_the_main_thread(env!("CARGO_BIN_EXE_runitbox"))
}

#[test]
fn several_services_are_hosted_and_a_hook_that_hangs_holds_up_no_other() {
    let root = TempDir::new();
    let file = |name: &str| root.join(name);
    root.script("plain/run", "exec sleep 1000");
    root.script("logged/run", "echo hello; exec sleep 1000");
    root.script("logged/log/run", "exec cat >>out");
    root.script("crashing/run", "exit 1");
    root.script("hanging/run", "exec sleep 1000");
    root.script("hanging/control/h", "echo $$ >../hook; exec sleep 1000");

    let signals = Signals::wait_for(&[Signal::CHLD, Signal::TERM, Signal::CHANGE, Signal::IO]).unwrap();
    let mut host = Host::of_many(signals);
    for name in NAMES {
        let mut service = Service::open("host", name.as_ref(), file(name).as_os_str(), now()).unwrap();
        service.begin(now());
        host.add(service);
    }
    let stat = |name: &str| read(file(name).join("supervise/stat"));
    turn_until(&mut host, "up", || ["plain", "logged", "hanging"].iter().all(|name| stat(name) == "run\n"));
    turn_until(&mut host, "logged", || read(file("logged/log/out")) == "hello\n");

    send(&file("hanging/supervise/control"), "h");
    turn_until(&mut host, "hangs", || read(file("hook")).ends_with('\n'));
    for (name, command, expected) in
        [("plain", "d", "down\n"), ("hanging", "p", "run, paused\n"), ("plain", "u", "run\n")]
    {
        send(&file(name).join("supervise/control"), command);
        turn_until(&mut host, command, || stat(name) == expected);
    }
    kill(read(file("hook")).trim().parse().unwrap(), SIGKILL);

    kill(std::process::id().try_into().unwrap(), SIGTERM);
    let mut gone = Vec::new();
    let begin = Instant::now();
    while !host.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "left: only {gone:?}");
        let turn = host.turn(&[], None, |_, service| gone.push(service.name().to_owned()));
        if turn.signals.iter().any(|came| came.signal == Signal::TERM) {
            host.command_all(now(), Command::Exit);
        }
    }
    assert_eq!(gone.len(), NAMES.len());
    for name in NAMES {
        assert_eq!(stat(name).split(',').next().unwrap().trim(), "down", "{name}");
        assert!(open_fifo(&file(name).join("supervise/ok")).is_none(), "{name}");
    }
}

/// Turns the host until `seen` holds. Each turn ends at the latest with the next crash of the service that crashes.
fn turn_until(host: &mut Host, what: &str, seen: impl Fn() -> bool) {
    let begin = Instant::now();
    while !seen() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
        host.turn(&[], None, |_, service| panic!("{:?} is over", service.name()));
    }
}
