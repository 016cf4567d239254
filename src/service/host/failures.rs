//! The calls of `on-failure` of all services: one at a time, and none runs for ever.

use std::collections::VecDeque;
use std::time::Duration;

use rustix::process::Pid;

use super::{Host, Place};
use crate::Signal;
use crate::moment::Moment;
use crate::process::Ended;
use crate::service::step::Now;
use crate::sys::signal;

/// How long a call may run.
const TIME: Duration = Duration::from_secs(60);
/// How long it then has to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The call that runs, and the services that wait for theirs.
#[derive(Debug)]
pub(super) struct Failures {
    running: Option<Call>,
    queue: VecDeque<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    place: Place,
    pid: Pid,
    /// When it has run too long.
    until: Option<Moment>,
    /// It was told to end.
    is_told: bool,
}

impl Failures {
    pub(super) const fn new() -> Self {
        Failures { running: None, queue: VecDeque::new() }
    }

    /// When the call that runs has run too long, if there is one.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.running.and_then(|call| call.until)
    }
}

impl Host {
    /// Something happened to this service: if a call is due, it waits for its turn.
    pub(super) fn queue_failure(&mut self, now: &impl Fn() -> Now, place: Place) {
        if let Some(service) = self.service(place)
            && service.has_failure()
            && service.queues_failure(now())
        {
            self.failures.queue.push_back(place);
        }
    }

    /// Makes the next call, if none runs, and ends one that has run too long.
    pub(super) fn advance_failures(&mut self, now: &impl Fn() -> Now) {
        if let Some(call) = self.failures.running {
            if call.until.is_some_and(|until| now().at >= until) {
                self.end_call(now(), call);
            }
            return;
        }
        while let Some(place) = self.failures.queue.pop_front() {
            let Some(service) = self.service(place) else { continue };
            let Some(pid) = service.start_on_failure(now()) else { continue };
            let until = Some(now().at.saturating_add(TIME));
            self.failures.running = Some(Call { place, pid, until, is_told: false });
            return;
        }
    }

    fn end_call(&mut self, now: Now, call: Call) {
        let Call { place, pid, is_told, .. } = call;
        if let Some(service) = self.get(place) {
            let what = if is_told { "does not end: killed" } else { "has run for 60 s: ending it" };
            service.report_slow_on_failure(what);
        }
        let signal = if is_told { Signal::KILL } else { Signal::TERM };
        // It leads a group, unless its execution takes very long.
        if signal::send_to_group(pid, signal).is_err() {
            let _ = signal::send(pid, signal);
        }
        let until = Some(now.at.saturating_add(GRACE)).filter(|_| !is_told);
        self.failures.running = Some(Call { until, is_told: true, ..call });
    }

    /// A process ended. Returns the place of the service whose call it was, if it was one.
    pub(super) fn note_end_of_call(&mut self, pid: Pid, how: Ended) -> bool {
        let Some(call) = self.failures.running.take_if(|call| call.pid == pid) else { return false };
        if let Some(service) = self.service(call.place) {
            service.on_failure_ended(pid, how);
            // It may wait for this to leave.
            self.look_at_latest(call.place, Moment::START);
        }
        true
    }
}
