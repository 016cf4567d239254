//! Processes and signals.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::read;

#[allow(missing_docs, reason = "signal(7) has their meaning")]
mod signals {
    pub const SIGHUP: i32 = 1;
    pub const SIGINT: i32 = 2;
    pub const SIGQUIT: i32 = 3;
    pub const SIGKILL: i32 = 9;
    pub const SIGUSR1: i32 = 10;
    pub const SIGUSR2: i32 = 12;
    pub const SIGALRM: i32 = 14;
    pub const SIGTERM: i32 = 15;
    pub const SIGCONT: i32 = 18;
    pub const SIGSTOP: i32 = 19;
    pub const SIGWINCH: i32 = 28;
    pub const SIGPWR: i32 = 30;
}
pub use signals::*;

/// Sends a signal to a process, or to a group whose number is given as negative.
pub fn kill(pid: i32, signal: i32) {
    let signal = Signal::from_named_raw(signal).unwrap();
    let target = Pid::from_raw(pid.abs()).unwrap();
    let _ = match pid {
        ..0 => rustix::process::kill_process_group(target, signal),
        _ => rustix::process::kill_process(target, signal),
    };
}

/// Reaps a child that has ended. For children that were not started by [`std::process`].
pub fn reap(pid: i32) {
    let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    process_state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The letter of the state of a process, as in proc(5).
pub fn process_state(pid: i32) -> Option<char> {
    stat_fields(pid)?.split_whitespace().next()?.chars().next()
}

/// How long the main thread of a process has used a processor.
pub fn processor_time(pid: i32) -> Duration {
    let text = read(format!("/proc/{pid}/schedstat"));
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the process runs, and the kernel counts"))
}

/// The parent of a process.
pub fn parent_of(pid: i32) -> Option<i32> {
    stat_fields(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// The fields behind the name, which may have blanks.
fn stat_fields(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.to_owned())
}

/// The name of a process; empty if there is none.
pub fn process_name(pid: i32) -> String {
    read(format!("/proc/{pid}/comm")).trim_end().to_owned()
}

/// The children of a process.
pub fn children_of(pid: i32) -> Vec<i32> {
    let children = read(format!("/proc/{pid}/task/{pid}/children"));
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The states of the children of a process.
pub fn states_of_children(pid: i32) -> Vec<char> {
    children_of(pid).into_iter().filter_map(process_state).collect()
}
