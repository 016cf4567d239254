//! Whether the kernel killed processes of our control group for lack of memory.
//!
//! Such an end looks as if somebody had sent KILL; only a counter of the group tells.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fd::AsFd;

use crate::files;
use crate::moment::Moment;

/// Kills that were known at the last look.
static KNOWN: AtomicU64 = AtomicU64::new(0);
/// When the counter was seen to have risen, in milliseconds of the monotonic clock.
static ROSE: AtomicU64 = AtomicU64::new(0);
/// Ends that are seen within this of a rise belong to it: several may be killed before the first is seen.
const TOGETHER: u64 = 1000;

/// What was counted before now is not of our processes.
pub fn begin() {
    KNOWN.store(counted().unwrap_or(0), Relaxed);
}

/// Whether a process that was ended by KILL just now was probably killed for lack of memory.
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

/// The counter of our group, where there is one: in `memory.events`, or with control groups as they were before, in
/// `memory.oom_control`.
fn counted() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next()?, parts.next()?);
        let path = path.trim_end_matches('/');
        // In a container the path may be that of the outside, while the root of the group is what is seen.
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
