//! Whether the kernel killed processes of our control group for lack of memory.
//!
//! Such a process looks as if somebody had sent it KILL; only a counter of the control group shows the reason.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fd::AsFd;

use crate::files;
use crate::moment::Moment;

/// The value of the counter when it was last read.
static KNOWN: AtomicU64 = AtomicU64::new(0);
/// When the counter was last found to have risen, in milliseconds of the monotonic clock.
static ROSE: AtomicU64 = AtomicU64::new(0);
/// A process that is found killed within this time of a rise, in milliseconds, counts as killed for lack of memory: the
/// kernel may kill several before we notice the first.
const TOGETHER: u64 = 1000;

/// Notes the value of the counter: what it counted before now was none of our processes.
pub fn begin() {
    KNOWN.store(counted().unwrap_or(0), Relaxed);
}

/// Whether the kernel probably killed a process for lack of memory that was just found ended by KILL.
#[must_use]
pub fn killed(now: Moment) -> bool {
    let now = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
    let Some(counted) = counted() else { return false };
    if counted > KNOWN.swap(counted, Relaxed) {
        ROSE.store(now, Relaxed);
        return true;
    }
    let rose = ROSE.load(Relaxed);
    rose > 0 && now.saturating_sub(rose) < TOGETHER
}

/// How many processes the kernel killed for lack of memory in the control group of a process, and in version 2 of control groups
/// also below that, since the group exists.
#[must_use]
pub fn count_around(pid: u64) -> Option<u64> {
    counted_in(&format!("/proc/{pid}/cgroup"))
}

/// The counter of our control group, if it has one: in `memory.events`, or in version 1 of control groups in
/// `memory.oom_control`.
fn counted() -> Option<u64> {
    counted_in("/proc/self/cgroup")
}

/// The same of the control group in this file of `/proc`.
fn counted_in(file: &str) -> Option<u64> {
    let groups = read(file)?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next()?, parts.next()?);
        let path = path.trim_end_matches('/');
        // In a container the path may be the one outside of it, while the mounted root is our own group.
        let places = if kinds.is_empty() {
            [format!("/sys/fs/cgroup{path}/memory.events"), "/sys/fs/cgroup/memory.events".to_owned()]
        } else if kinds.split(',').any(|kind| kind == "memory") {
            [
                format!("/sys/fs/cgroup/memory{path}/memory.oom_control"),
                "/sys/fs/cgroup/memory/memory.oom_control".to_owned(),
            ]
        } else {
            return None;
        };
        places.iter().find_map(|place| number_in(&read(place)?))
    })
}

fn number_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn read(path: &str) -> Option<String> {
    let path = std::ffi::CString::new(path).ok()?;
    let mut buffer = [0; 4096];
    let text = files::read_start(rustix::fs::CWD.as_fd(), &path, &mut buffer).ok()?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_in_both_forms() {
        assert_eq!(number_in("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(number_in("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(number_in("oom 1\n"), None);
    }
}
