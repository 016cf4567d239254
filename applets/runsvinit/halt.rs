//! `runsvinit --halt`: tells the one that runs to end.

use rustix::process::{Pid, getpid};
use svcore::scan::process;
use svcore::sys::signal;
use svcore::{Context, Failed, Result, Signal};

/// Tells the runsvinit of this container to end with `code`.
pub(crate) fn halt(code: u8) -> Result {
    let pid = find().ok_or_else(|| Failed::without_cause("no runsvinit runs here"))?;
    signal::queue(pid, Signal::HALT, code.into())
        .while_doing(|| format!("unable to tell process {}", pid.as_raw_nonzero()))?;
    Ok(0)
}

/// Process 1 if it is a runsvinit, otherwise the one with the lowest number.
fn find() -> Option<Pid> {
    let us = getpid().as_raw_nonzero().get();
    let mut all = process::called(&[c"runsvinit"])?.filter(|process| process.is_certain && process.pid != us);
    Pid::from_raw(all.next()?.pid)
}
