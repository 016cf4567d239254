//! The processes of services, with their memory and processor time, from `/proc`.

use std::ffi::CString;

use rustix::fs::CWD;
use svcore::listed::Listed;
use svcore::proc_stat::ProcStat;
use svcore::sort::sort;
use svcore::sys::{auxv, listing};
use svcore::{decimal, files, slice};

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
        self.tree(pid).into_iter().map(|(pid, depth)| measured(pid, depth)).listed()
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
            for (_, child) in children.iter().rev() {
                open.push((*child, depth.saturating_add(1)));
            }
        }
        found
    }
}

fn measured(pid: i32, depth: usize) -> Process {
    let memory = resident_pages(pid).map(|pages| pages.saturating_mul(auxv::page_size()));
    let processor = |stat: ProcStat| stat.processor.saturating_mul(1000) / auxv::clock_ticks();
    let processor = ProcStat::of(pid).map(processor);
    Process { pid, depth, memory, processor }
}

/// The pages of a process that are in memory. Source: proc_pid_statm(5).
fn resident_pages(pid: i32) -> Option<u64> {
    let path = CString::new(format!("/proc/{pid}/statm")).ok()?;
    let mut buffer = [0; 128];
    let text = files::read_start(CWD, &path, &mut buffer).ok()?;
    decimal::whole(text.split(|&byte| byte == b' ').nth(1)?)
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
}
