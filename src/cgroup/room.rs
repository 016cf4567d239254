//! Moving the supervisor and what it has started out of the group below which services have theirs.

use std::ffi::CString;
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, getppid};

use super::{open_directory, open_write, place, processes, read};
use crate::files;
use crate::proc_stat::ProcStat;
use crate::process_one;

/// How often the processes are listed: new ones may be started meanwhile.
const ROUNDS: u32 = 8;
/// How many parents of processes are looked at in all. There may be long chains.
const PARENTS_MAX: u32 = 20_000;

/// Moves all processes of the group `base` to the group `supervisor` below it, if they are ours. The root of all groups may
/// keep its processes.
///
/// Ours are, for process 1, all that it sees; for another supervisor itself and its descendants; and for a `runsv` those of
/// the `runsvdir` that started it.
///
/// # Errors
///
/// EBUSY if there is a process that is not ours, or new ones come all the time; otherwise that of the system call that
/// failed.
pub(super) fn make(base: BorrowedFd<'_>) -> io::Result<()> {
    let listed = read(base, c"cgroup.procs")?;
    if listed.is_empty() || is_root(base) {
        return Ok(());
    }
    let head = head();
    let mut left = PARENTS_MAX;
    let all = processes(&listed);
    // A process of another PID namespace is listed as 0.
    if listed.starts_with(b"0\n") || !all.iter().all(|pid| is_ours(*pid, head, &mut left)) {
        return Err(Errno::BUSY.into());
    }
    let entrance = entrance(base)?;
    for _ in 0..ROUNDS {
        let listed = read(base, c"cgroup.procs")?;
        if listed.is_empty() {
            return Ok(());
        }
        for pid in processes(&listed).into_iter().filter(|pid| is_ours(*pid, head, &mut left)) {
            let number = format!("{}\n", pid.as_raw_nonzero());
            match rustix::io::write(&entrance, number.as_bytes()) {
                // ESRCH: it has ended.
                Ok(_) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Err(Errno::BUSY.into())
}

/// Moves only this process to the group `supervisor`, before it starts a process that enters a group of its own.
///
/// Several supervisors may have the same group `base`. One of them moves all processes that it has found there a moment
/// before. A process of another supervisor may meanwhile have entered the group of its service, and would be moved out of
/// it again. So no process that is to enter a group may begin in `base`. Process 1 needs none of this: no other supervisor
/// moves its processes, and it does nothing else while it starts one.
///
/// Where this fails, nobody else can move a process there either.
pub(super) fn leave(base: BorrowedFd<'_>) {
    if !process_one::is_process_one()
        && !is_root(base)
        && let Ok(entrance) = entrance(base)
    {
        // cgroups(7): 0 stands for the process that writes it.
        let _ = rustix::io::write(&entrance, b"0\n");
    }
}

/// Makes the group `supervisor`, and opens the file through which a process enters it.
fn entrance(base: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let name = CString::new(place::SUPERVISOR)?;
    match mkdirat(base, &name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    open_write(open_directory(base, &name)?.as_fd(), c"cgroup.procs")
}

/// Whether it is the root of all groups, the only one without a type.
fn is_root(base: BorrowedFd<'_>) -> bool {
    files::look(base, c"cgroup.type").is_ok_and(|stat| stat.is_none())
}

/// The process whose descendants are ours; `None` if all are.
fn head() -> Option<Pid> {
    if process_one::is_process_one() {
        return None;
    }
    let is_runsvdir = |parent: &Pid| stat(*parent).is_some_and(|stat| stat.name == b"runsvdir");
    Some(getppid().filter(is_runsvdir).unwrap_or_else(getpid)).filter(|head| *head != Pid::INIT)
}

fn is_ours(pid: Pid, head: Option<Pid>, left: &mut u32) -> bool {
    let Some(head) = head else { return true };
    let mut at = pid;
    while *left > 0 {
        if at == head {
            return true;
        }
        *left = left.saturating_sub(1);
        match stat(at) {
            Some(stat) if stat.parent > 0 => match Pid::from_raw(stat.parent) {
                Some(parent) => at = parent,
                None => return false,
            },
            Some(_) => return false,
            // It has ended: then it is not there any more.
            None => return at == pid,
        }
    }
    false
}

fn stat(pid: Pid) -> Option<ProcStat> {
    ProcStat::of(pid.as_raw_nonzero().get())
}
