//! What is left beside the services: orphans, daemons that went into the background, other people's shells.

use super::WHO;
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use svcore::moment::Moment;
use svcore::say::Message;
use svcore::sort;
use svcore::sys::{clock, signal};
use svcore::{Signal, files, process_one};

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

/// Tells all processes to end, but us and `spared` with their children. Those that are not found by `until` are left.
pub(crate) fn end(spared: &[Pid], until: Moment) {
    if spared.is_empty() && process_one::is_process_one() {
        let _ = signal::send_to_every_process(Signal::TERM);
        let _ = signal::send_to_every_process(Signal::CONT);
        return;
    }
    for process in others(spared, until) {
        let _ = signal::send(process.pid, Signal::TERM);
        // One that is stopped would never know.
        let _ = signal::send(process.pid, Signal::CONT);
    }
}

/// Kills what is left, and says so, a line for each as long as there is time for that.
pub(crate) fn kill(until: Moment) {
    for process in others(&[], until) {
        let _ = signal::send(process.pid, Signal::KILL);
        if clock::monotonic() < until {
            let pid = process.pid.as_raw_nonzero().to_string();
            let name = &process.name;
            let what = [b"process ", pid.as_bytes(), b" (", name, b") did not end in time: killed"].concat();
            Message::warning(WHO, &what).print_now();
        }
    }
    if process_one::is_process_one() {
        // What began meanwhile, and all where there is no /proc.
        let _ = signal::send_to_every_process(Signal::KILL);
    }
}

/// All processes that are ours to end, as far as they are found until that moment.
fn others(spared: &[Pid], until: Moment) -> Vec<Process> {
    let first = process_one::is_process_one();
    let all = if first { None } else { descendants(until) };
    chosen(all.unwrap_or_else(|| everybody(until)), getpid(), first, spared)
}

/// All that `/proc` has. It is read once, and how much there is in it is not ours to say.
fn everybody(until: Moment) -> Vec<Process> {
    let pids = numbers(b"/proc").into_iter();
    pids.take_while(|_| clock::monotonic() < until).filter_map(process).collect()
}

/// Our children and theirs, whatever else runs on the machine; `None` if this kernel does not list children.
fn descendants(until: Moment) -> Option<Vec<Process>> {
    let mut all: Vec<Process> = Vec::new();
    let mut above = vec![getpid()];
    let mut is_listed = false;
    while let Some(pid) = above.pop()
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
                above.push(child);
                all.extend(process(child));
            }
        }
    }
    is_listed.then_some(all)
}

/// The entries of a directory that are numbers.
fn numbers(dir: &[u8]) -> Vec<Pid> {
    files::numbers_in(dir).into_iter().flatten().filter_map(|number| Pid::from_raw(number.max(0))).collect()
}

fn process(pid: Pid) -> Option<Process> {
    parsed(pid, &std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
}

/// Those that are not spared, nor children of such; of other processes than 1, only descendants.
fn chosen(mut all: Vec<Process>, us: Pid, first: bool, spared: &[Pid]) -> Vec<Process> {
    sort::sort_by(&mut all, |one, other| one.pid.as_raw_nonzero() < other.pid.as_raw_nonzero());
    let ours = below(&all, &[us]);
    let of_spared = below(&all, spared);
    all.into_iter()
        .zip(ours.into_iter().zip(of_spared))
        .filter(|(process, (ours, spared))| {
            process.pid != us && !process.zombie && (first || *ours) && !spared
        })
        .map(|(process, _)| process)
        .collect()
}

/// Which of `all`, which are in the order of their numbers, are among `above` or descend from them. Each is looked at
/// once, however long the chains are.
fn below(all: &[Process], above: &[Pid]) -> Vec<bool> {
    let place = |pid: i32| all.binary_search_by_key(&pid, |it| it.pid.as_raw_nonzero().get()).ok();
    // Those above need not have been found themselves.
    let mut above: Vec<i32> = above.iter().map(|above| above.as_raw_nonzero().get()).collect();
    sort::sort(&mut above);
    let is_above = |pid: i32| above.binary_search(&pid).is_ok();
    let mut known: Vec<Option<bool>> = all
        .iter()
        .map(|it| (is_above(it.pid.as_raw_nonzero().get()) || is_above(it.parent)).then_some(true))
        .collect();
    let mut way = Vec::new();
    for first in 0..all.len() {
        let mut at = Some(first);
        let found = loop {
            let Some(here) = at else { break false };
            match known.get_mut(here) {
                Some(Some(known)) => break *known,
                Some(unknown) => {
                    // Where the way comes back to itself, which only a look at different moments can show, nobody is
                    // above.
                    *unknown = Some(false);
                    way.push(here);
                    at = all.get(here).and_then(|process| place(process.parent));
                }
                None => break false,
            }
        };
        for here in way.drain(..) {
            if let Some(known) = known.get_mut(here) {
                *known = Some(found);
            }
        }
    }
    known.into_iter().map(|known| known == Some(true)).collect()
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

    fn made_up(number: i32, parent: i32) -> Process {
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
        assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    proptest::proptest! {
        /// The same as going up from each.
        #[test]
        fn below_is_what_leads_up(parents in proptest::collection::vec(0_i32..12, 1..12), above in 1_i32..12) {
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
            proptest::prop_assert_eq!(below(&all, &[pid(above)]), expected);
        }
    }
}
