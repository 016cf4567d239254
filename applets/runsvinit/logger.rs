//! The loggers: processes that keep the logs of services without `log/run`, one for each account. Source: runsvinit(8).
//!
//! A slow or full disk holds up a logger and never us: nothing here waits. See [`svcore::logger`].

use std::rc::Rc;

use rustix::process::Pid;
use svcore::logger::{LogEnd, Loggers};
use svcore::process::Ended;
use svcore::say::Message;
use svcore::service::host::{Host, now};
use svcore::sort;

use super::WHO;
use super::output::Output;

/// The loggers; none where a process cannot wait for many descriptors at once: there each log has an svlogd of its own.
pub(super) fn new(output: Option<&Output>) -> Option<Rc<Loggers>> {
    Loggers::new(output.map(|output| output.late(b"svlogd").0)).map(Rc::new)
}

/// Sends and receives what is possible without waiting.
pub(super) fn pass_on(loggers: &Loggers, host: &mut Host) {
    end_logs(host, loggers.pass_on());
}

/// A process has ended. Returns whether it was a logger.
pub(super) fn process_ended(loggers: &Loggers, host: &mut Host, pid: Pid, how: Ended) -> bool {
    let Some(gone) = loggers.process_ended(pid, how) else { return false };
    if gone.is_unexpected {
        let what = format!("svlogd for logs of services {}: their lines wait in the pipes", how.in_words());
        Message::warning(WHO, &what).print_now();
    }
    end_logs(host, gone.logs);
    true
}

/// Lets each service know that its log has ended.
fn end_logs(host: &mut Host, mut ends: Vec<LogEnd>) {
    if ends.is_empty() {
        return;
    }
    sort::sort_by(&mut ends, |one, other| one.number < other.number);
    host.end_logs(now(), |number| {
        let at = ends.binary_search_by_key(&number, |end| end.number).ok()?;
        ends.get(at).map(|end| end.how)
    });
}
