//! `runsvinit --halt`: tells the one that runs to end.

use rustix::process::{Pid, getpid};
use svcore::sys::signals;
use svcore::{Context, Error, Result};

/// Tells the runsvinit of this container to end with `code`.
pub(crate) fn halt(code: u8) -> Result {
    let pid = find().ok_or_else(|| Error::fatal("no runsvinit runs here"))?;
    signals::queue(pid, signals::HALT, code.into())
        .while_doing(|| format!("unable to tell process {}", pid.as_raw_nonzero()))?;
    Ok(0)
}

/// Process 1 if it is a runsvinit, otherwise the one with the lowest number.
fn find() -> Option<Pid> {
    let us = getpid().as_raw_nonzero().get();
    let is_one = |pid: i32| {
        pid != us && std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"runsvinit\n")
    };
    let all = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Pid::from_raw(pids.filter(|pid| is_one(*pid)).min()?)
}
