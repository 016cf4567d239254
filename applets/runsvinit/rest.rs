//! What is left beside the services: orphans, daemons that went into the background, other people's shells.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};
use svcore::say;
use svcore::sys::start;

/// A process as `/proc` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: i32,
    name: Vec<u8>,
    zombie: bool,
}

/// Whether we have children.
pub(crate) fn is_any() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).is_ok()
}

/// Tells all processes to end, but us and `spared` with their children.
pub(crate) fn end(spared: &[Pid]) {
    for process in others(spared) {
        let _ = kill_process(process.pid, Signal::TERM);
        // One that is stopped would never know.
        let _ = kill_process(process.pid, Signal::CONT);
    }
}

/// Kills what is left, and says so, a line for each.
pub(crate) fn kill() {
    for process in others(&[]) {
        let pid = process.pid.as_raw_nonzero().to_string();
        say::supervisor(
            &[b"runsvinit: warning: "],
            &[b"process ", pid.as_bytes(), b" (", &process.name, b") did not end in time: killed"].concat(),
            None,
        );
        let _ = kill_process(process.pid, Signal::KILL);
    }
    if start::is_first_process() {
        // What began meanwhile, and all where there is no /proc.
        let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    }
}

/// All processes that are ours to end.
fn others(spared: &[Pid]) -> Vec<Process> {
    let all: Vec<Process> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            parsed(pid, &std::fs::read(entry.path().join("stat")).ok()?)
        })
        .collect();
    chosen(all, getpid(), start::is_first_process(), spared)
}

/// Those that are not spared, nor children of such; of other processes than 1, only descendants.
fn chosen(all: Vec<Process>, us: Pid, first: bool, spared: &[Pid]) -> Vec<Process> {
    let parent_of = |pid: i32| {
        all.iter().find(|process| process.pid.as_raw_nonzero().get() == pid).map(|process| process.parent)
    };
    let is_below = |process: &Process, above: Pid| {
        let mut at = Some(process.pid.as_raw_nonzero().get());
        // No chain is longer than there are processes.
        for _ in 0..=all.len() {
            match at {
                Some(pid) if pid == above.as_raw_nonzero().get() => return true,
                Some(pid) => at = parent_of(pid),
                None => return false,
            }
        }
        false
    };
    all.iter()
        .filter(|process| process.pid != us && !process.zombie && (first || is_below(process, us)))
        .filter(|process| !spared.iter().any(|spared| is_below(process, *spared)))
        .cloned()
        .collect()
}

/// A line of `/proc/PID/stat`: the name in parentheses, which may hold anything, then the state and the parent.
fn parsed(pid: Pid, stat: &[u8]) -> Option<Process> {
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let mut rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_whitespace();
    let zombie = matches!(rest.next()?, "Z" | "X");
    Some(Process {
        pid,
        parent: rest.next()?.parse().ok()?,
        name: stat.get(open + 1..close)?.to_vec(),
        zombie,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn process(number: i32, parent: i32) -> Process {
        Process { pid: pid(number), parent, name: b"x".to_vec(), zombie: false }
    }

    #[test]
    fn a_name_may_hold_anything() {
        let parsed = parsed(pid(7), b"7 (a) b (c) S 3 7 7 0").unwrap();
        assert_eq!((parsed.name.as_slice(), parsed.parent, parsed.zombie), (b"a) b (c".as_slice(), 3, false));
        assert!(super::parsed(pid(7), b"7 (a) Z 3 7").unwrap().zombie);
        assert_eq!(super::parsed(pid(7), b"7 (a"), None);
    }

    #[test]
    fn log_services_and_their_children_are_spared_and_strangers_are_not_ours() {
        // 1: init; 2: us; 3: a log service with a child 4; 5: a straggler with a child 6; 9: a stranger.
        let all = vec![
            process(1, 0),
            process(2, 1),
            process(3, 2),
            process(4, 3),
            process(5, 2),
            process(6, 5),
            process(9, 1),
        ];
        let numbers = |first, us| -> Vec<i32> {
            chosen(all.clone(), pid(us), first, &[pid(3)])
                .iter()
                .map(|it| it.pid.as_raw_nonzero().get())
                .collect()
        };
        assert_eq!(numbers(false, 2), [5, 6]);
        assert_eq!(numbers(true, 1), [2, 5, 6, 9]);
    }
}
