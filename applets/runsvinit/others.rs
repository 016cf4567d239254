//! Processes that are neither services nor CMD, and that a stop ends too: orphans, daemons in the background, shells of
//! `docker exec`.

use super::WHO;
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use svcore::moment::Moment;
use svcore::proc_stat::ProcStat;
use svcore::say::Message;
use svcore::sort;
use svcore::sys::{clock, listing, signal};
use svcore::{Signal, process_one};

/// A process and what `/proc` says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: Pid,
    stat: ProcStat,
}

/// Whether we have children, whatever they are.
pub(crate) fn have_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).is_ok()
}

/// Tells all processes to end, except us, those `spared` and their descendants. The search for them ends at `until`.
pub(crate) fn end(spared: &[Pid], until: Moment) {
    if spared.is_empty() && process_one::is_process_one() {
        let _ = signal::send_to_every_process(Signal::TERM);
        let _ = signal::send_to_every_process(Signal::CONT);
        return;
    }
    for process in to_end(spared, until) {
        let _ = signal::send(process.pid, Signal::TERM);
        // A stopped process handles TERM only after CONT.
        let _ = signal::send(process.pid, Signal::CONT);
    }
}

/// Kills all processes but us, and prints a line for each until the moment `until`.
pub(crate) fn kill(until: Moment) {
    for process in to_end(&[], until) {
        let _ = signal::send(process.pid, Signal::KILL);
        if clock::monotonic() < until {
            let pid = process.pid.as_raw_nonzero().to_string();
            let name = &process.stat.name;
            let what = [b"process ", pid.as_bytes(), b" (", name, b") did not end in time: killed"].concat();
            Message::warning(WHO, &what).print_now();
        }
    }
    if process_one::is_process_one() {
        // Processes that were started meanwhile, and all processes where there is no /proc.
        let _ = signal::send_to_every_process(Signal::KILL);
    }
}

/// The processes that we are to end: as process 1 all, otherwise our descendants. The search ends at `until`.
fn to_end(spared: &[Pid], until: Moment) -> Vec<Process> {
    let first = process_one::is_process_one();
    let all = if first { None } else { descendants(until) };
    chosen(all.unwrap_or_else(|| everybody(until)), getpid(), first, spared)
}

/// All processes in `/proc`. How many there are is not up to us, so the search ends at `until`.
fn everybody(until: Moment) -> Vec<Process> {
    let pids = numbers(b"/proc").into_iter();
    pids.take_while(|_| clock::monotonic() < until).filter_map(process).collect()
}

/// Our descendants, however many other processes the machine has; `None` if this kernel does not list children.
fn descendants(until: Moment) -> Option<Vec<Process>> {
    let mut all: Vec<Process> = Vec::new();
    let mut parents = vec![getpid()];
    let mut is_listed = false;
    while let Some(pid) = parents.pop()
        && clock::monotonic() < until
    {
        let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
        for task in numbers(tasks.as_bytes()) {
            let Ok(children) = std::fs::read_to_string(format!("{tasks}/{}/children", task.as_raw_nonzero()))
            else {
                continue;
            };
            is_listed = true;
            for child in
                children.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?))
            {
                parents.push(child);
                all.extend(process(child));
            }
        }
    }
    is_listed.then_some(all)
}

/// The entries of a directory of processes.
fn numbers(dir: &[u8]) -> Vec<Pid> {
    let numbers = listing::numbers_in(dir).into_iter().flatten();
    numbers.filter_map(|number| Pid::from_raw(number.max(0))).collect()
}

fn process(pid: Pid) -> Option<Process> {
    Some(Process { pid, stat: ProcStat::of(pid.as_raw_nonzero().get())? })
}

/// Of `all`, those that are to end: neither us nor zombies, nor those `spared` and their descendants. Only process 1, for
/// which `first` is true, ends others than its descendants.
fn chosen(mut all: Vec<Process>, us: Pid, first: bool, spared: &[Pid]) -> Vec<Process> {
    sort::sort_by(&mut all, |one, other| one.pid.as_raw_nonzero() < other.pid.as_raw_nonzero());
    let ours = descend_from(&all, &[us]);
    let of_spared = descend_from(&all, spared);
    all.into_iter()
        .zip(ours.into_iter().zip(of_spared))
        .filter(|(process, (ours, spared))| {
            process.pid != us && !process.stat.is_zombie && (first || *ours) && !spared
        })
        .map(|(process, _)| process)
        .collect()
}

/// For each process in `all`, which are in the order of their numbers: whether it is one of `ancestors` or descends from
/// one. Each process is visited once, however long the chains of parents are.
fn descend_from(all: &[Process], ancestors: &[Pid]) -> Vec<bool> {
    let index_of = |pid: i32| all.binary_search_by_key(&pid, |it| it.pid.as_raw_nonzero().get()).ok();
    // The ancestors need not be in `all` themselves.
    let mut ancestors: Vec<i32> = ancestors.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    sort::sort(&mut ancestors);
    let is_ancestor = |pid: i32| ancestors.binary_search(&pid).is_ok();
    let mut answers: Vec<Option<bool>> = all
        .iter()
        .map(|it| (is_ancestor(it.pid.as_raw_nonzero().get()) || is_ancestor(it.stat.parent)).then_some(true))
        .collect();
    let mut chain = Vec::new();
    for first in 0..all.len() {
        let mut next = Some(first);
        let answer = loop {
            let Some(index) = next else { break false };
            match answers.get_mut(index) {
                Some(Some(answer)) => break *answer,
                Some(unknown) => {
                    // A chain that returns to itself ends here without an ancestor. It can exist only in `all`, since the
                    // processes were not read all at once.
                    *unknown = Some(false);
                    chain.push(index);
                    next = all.get(index).and_then(|process| index_of(process.stat.parent));
                }
                None => break false,
            }
        };
        for index in chain.drain(..) {
            if let Some(slot) = answers.get_mut(index) {
                *slot = Some(answer);
            }
        }
    }
    answers.into_iter().map(|answer| answer == Some(true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn made_up(number: i32, parent: i32) -> Process {
        let stat = ProcStat {
            name: b"x".to_vec(),
            is_zombie: false,
            is_stopped: false,
            parent,
            processor: 0,
            start: 0,
        };
        Process { pid: pid(number), stat }
    }

    #[test]
    fn log_services_and_their_children_are_spared_and_strangers_are_not_ours() {
        // 1: init; 2: us; 3: a log service with a child 4; 5: an orphan with a child 6; 9: a process of somebody else.
        let all = vec![
            made_up(1, 0),
            made_up(2, 1),
            made_up(3, 2),
            made_up(4, 3),
            made_up(5, 2),
            made_up(6, 5),
            made_up(9, 1),
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

    #[test]
    fn chains_that_are_long_or_closed_cost_no_more_than_others() {
        // A stranger's chain in either order of numbers, one that closes, and a long one of ours.
        let up = (10_000..40_000).map(|number| made_up(number, number - 1));
        let down = (40_000..70_000).map(|number| made_up(number, (number + 1) % 70_000));
        let ours =
            (70_000..100_000).map(|number| made_up(number, if number == 70_000 { 2 } else { number - 1 }));
        let all: Vec<Process> = [made_up(2, 1), made_up(5, 6), made_up(6, 5)]
            .into_iter()
            .chain(up)
            .chain(down)
            .chain(ours)
            .collect();
        let begin = std::time::Instant::now();
        assert_eq!(chosen(all, pid(2), false, &[pid(99_999)]).len(), 29_999);
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{:?}", begin.elapsed());
    }

    proptest::proptest! {
        /// The same as going up from each.
        #[test]
        fn descendants_are_what_leads_up(parents in proptest::collection::vec(0_i32..12, 1..12), above in 1_i32..12) {
            let all: Vec<Process> =
                (1..).zip(&parents).map(|(number, parent)| made_up(number, *parent)).collect();
            let leads_up = |number: i32| {
                let mut at = number;
                for _ in 0..=all.len() {
                    if at == above {
                        return all.iter().any(|it| it.pid == pid(number));
                    }
                    let Some(parent) = at.checked_sub(1).and_then(|index| parents.get(index as usize)) else { return false };
                    at = *parent;
                }
                false
            };
            let expected: Vec<bool> = all.iter().map(|it| leads_up(it.pid.as_raw_nonzero().get())).collect();
            proptest::prop_assert_eq!(descend_from(&all, &[pid(above)]), expected);
        }
    }
}
