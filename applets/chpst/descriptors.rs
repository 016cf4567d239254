//! What `chpst` does with open descriptors: keeps, replaces, closes and gives them away.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Uid, fchown, fstat, openat, statat};
use rustix::io::Errno;
use svcore::files::identity;
use svcore::say::Message;
use svcore::sys::descriptors;
use svcore::{Context, Failed, Result};

use super::plan::Plan;

/// What comes before everything else: the program keeps no other descriptors than it should, and whatever is said from
/// now on goes where standard output goes, if the plan has that. Returns which of descriptors 0 to 2 are closed then, of
/// those that were `closed`.
pub(crate) fn prepare(plan: &Plan, mut closed: [bool; 3]) -> Result<[bool; 3], Failed> {
    if !plan.keep.is_empty() {
        descriptors::keep_only(3, &plan.keep).map_err(|(number, errno)| {
            Failed::because(errno, format!("unable to keep descriptor {number}"))
        })?;
    }
    if plan.stderr {
        let copied =
            if closed[1] { Err(Errno::BADF) } else { rustix::stdio::dup2_stderr(rustix::stdio::stdout()) };
        copied.while_doing(|| "unable to put stderr on stdout")?;
        closed[2] = false;
    }
    Ok(closed)
}

/// The pipes among standard output and error that are of this service alone. The others are left out, and with `-v` it is
/// said why.
///
/// The supervisor has made such a pipe, and holds it, but does not use it itself. A pipe on which the parent writes or
/// reads is shared with whatever else the parent has started.
pub(crate) fn own_pipes(plan: &Plan, closed: [bool; 3]) -> Vec<BorrowedFd<'static>> {
    let (stdout, stderr) = (rustix::stdio::stdout(), rustix::stdio::stderr());
    let mut pipes = Vec::new();
    for (fd, name, is_closed) in [(stdout, "output", closed[1]), (stderr, "error", closed[2])] {
        match (is_closed, why_not_ours(fd)) {
            (false, None) => pipes.push(fd),
            (true, _) => {}
            (false, Some(why)) => {
                if plan.verbose {
                    let what = format!("standard {name} keeps its owner: {why}");
                    Message::warning("chpst", &what).print();
                }
            }
        }
    }
    pipes
}

/// Why a descriptor is no pipe of this service alone; `None` if it is one.
fn why_not_ours(fd: BorrowedFd<'_>) -> Option<&'static str> {
    const UNKNOWN: &str = "the descriptors of the parent process cannot be seen";
    let Ok(stat) = fstat(fd) else { return Some("it is not open") };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo || !descriptors::is_anonymous_pipe(fd) {
        return Some("it is not a pipe");
    }
    let Some(parent) = rustix::process::getppid() else { return Some(UNKNOWN) };
    let dir = format!("/proc/{}/fd", parent.as_raw_nonzero());
    let Ok(dir) = openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return Some(UNKNOWN);
    };
    for number in ["0", "1", "2"] {
        match statat(&dir, number, AtFlags::empty()) {
            Ok(other) if identity(&other) == identity(&stat) => {
                return Some("the parent process uses it, too");
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(_) => return Some(UNKNOWN),
        }
    }
    None
}

/// Makes pipes those of the new user, so that it can open `/dev/stdout` and `/dev/stderr`. A pipe that somebody else owns
/// is left alone.
pub(crate) fn give_away(pipes: &[BorrowedFd<'static>], uid: u32) -> Result<(), Failed> {
    let us = rustix::process::geteuid().as_raw();
    for pipe in pipes {
        let owner = fstat(pipe).while_doing(|| "unable to give standard output away")?.st_uid;
        if owner == us {
            fchown(pipe, Some(Uid::from_raw(uid)), None)
                .while_doing(|| "unable to give standard output away")?;
        } else if owner != uid {
            let what = format!("standard output keeps its owner: it belongs to user {owner}");
            Message::warning("chpst", &what).print();
        }
    }
    Ok(())
}

/// Closes or replaces descriptors 0 to 2. Returns a copy of the original standard error if that is closed or replaced:
/// the message that the program cannot be run goes there.
pub(crate) fn close_standard(plan: &Plan, closed: [bool; 3]) -> Result<Option<OwnedFd>, Failed> {
    let stderr_goes = plan.close[2] || plan.null;
    let saved_stderr =
        if stderr_goes { rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok() } else { None };
    if plan.null {
        let null = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .while_doing(|| "unable to open /dev/null")?;
        let replaced = rustix::stdio::dup2_stdin(&null)
            .and_then(|()| rustix::stdio::dup2_stdout(&null))
            .and_then(|()| rustix::stdio::dup2_stderr(&null));
        replaced.while_doing(|| "unable to open /dev/null")?;
    }
    for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        if plan.close.get(number) != Some(&true) {
            continue;
        }
        if closed.get(number) == Some(&true) && !plan.null {
            return Err(Errno::BADF).while_doing(|| format!("unable to close {name}"));
        }
        // Closed by the exec and not now: a file opened before then would get the free number.
        let fd = match number {
            0 => rustix::stdio::stdin(),
            1 => rustix::stdio::stdout(),
            _ => rustix::stdio::stderr(),
        };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)
            .while_doing(|| format!("unable to close {name}"))?;
    }
    Ok(saved_stderr)
}
