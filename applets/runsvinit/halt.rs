//! `runsvinit --halt`: tells the running one to end.

use rustix::process::{Pid, getpid};
use svcore::sys::signal;
use svcore::{Context, Failed, Result, Signal, serving};

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
    let mut others = serving::inits()?.filter(|init| init.is_certain && init.pid != us);
    Pid::from_raw(others.next()?.pid)
}
