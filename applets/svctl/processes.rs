//! The processes of services, with their memory and processor time, from `/proc`.

use std::ffi::CString;

use rustix::fs::CWD;
use svcore::proc_stat::ProcStat;
use svcore::sort::sort;
use svcore::sys::listing;
use svcore::{files, slice};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// How many processes of the service are above it.
    pub(super) depth: usize,
    /// Resident memory in bytes, if that is known.
    pub(super) memory: Option<u64>,
    /// Processor time in milliseconds, of the user and of the system, if that is known.
    pub(super) processor: Option<u64>,
}

/// All processes by the numbers of their parents.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Each process after the number of its parent, in their order.
    children: Vec<(i32, i32)>,
}

impl Processes {
    /// Those that there are now; none where there is no `/proc`.
    pub(super) fn look() -> Self {
        let mut all = Processes::default();
        for pid in listing::numbers_in(b"/proc").unwrap_or_default() {
            if let Some(stat) = ProcStat::of(pid).filter(|stat| !stat.is_zombie) {
                all.children.push((stat.parent, pid));
            }
        }
        sort(&mut all.children);
        all
    }

    /// A process and all that descend from it, each after its parent.
    pub(super) fn below(&self, pid: i32) -> Vec<Process> {
        self.tree(pid).into_iter().map(|(pid, depth)| measured(pid, depth)).collect()
    }

    fn tree(&self, pid: i32) -> Vec<(i32, usize)> {
        // Numbers are used again while we look, so there may be a ring.
        const MANY: usize = 10_000;
        let (mut found, mut open) = (Vec::new(), vec![(pid, 0_usize)]);
        while let Some((pid, depth)) = open.pop() {
            found.push((pid, depth));
            if found.len() >= MANY {
                break;
            }
            let place = |pid| self.children.partition_point(|(parent, _)| *parent < pid);
            let children = slice::part(&self.children, place(pid)..place(pid.saturating_add(1)));
            open.extend(children.iter().rev().map(|(_, child)| (*child, depth.saturating_add(1))));
        }
        found
    }
}

fn measured(pid: i32, depth: usize) -> Process {
    let read = |file: &str| {
        let path = CString::new(format!("/proc/{pid}/{file}")).ok()?;
        let mut buffer = [0; 1024];
        let text = files::read_start(CWD, &path, &mut buffer).ok()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let pages = read("statm").and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let memory = pages.map(|pages| pages.saturating_mul(page));
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let millis = |used: u64| used.saturating_mul(1000) / ticks;
    let processor = read("stat").and_then(|line| ticks_used(&line)).map(millis);
    Process { pid, depth, memory, processor }
}

/// The ticks that a process used, of the user and of the system, from its line `stat`. Source: proc_pid_stat(5).
fn ticks_used(line: &str) -> Option<u64> {
    // Fields 14 and 15; field 3 is the first after the name.
    let mut fields = line.get(line.rfind(')')?.saturating_add(1)..)?.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()?.saturating_add(next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_followed_by_its_children() {
        let children = vec![(1, 2), (1, 5), (2, 3), (7, 8)];
        let all = Processes { children };
        assert_eq!(all.tree(1), [(1, 0), (2, 1), (3, 2), (5, 1)]);
        assert_eq!(all.tree(9), [(9, 0)]);
        let ring = Processes { children: vec![(1, 2), (2, 1)] };
        assert_eq!(ring.tree(1).len(), 10_000);
    }

    #[test]
    fn processor_time_is_that_of_user_and_system() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 1 0 4711 99 100\n";
        assert_eq!(ticks_used(line), Some(56));
        assert_eq!(ticks_used("7 (a"), None);
    }
}
