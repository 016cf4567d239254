//! What signals tell: children have ended, and watched directories have changed.

use std::time::Duration;

use rustix::fd::AsRawFd;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};

use super::{Host, Place, Turn, key};
use crate::Signal;
use crate::moment::Moment;
use crate::process::Ended;
use crate::service::step::Now;
use crate::sort::sort;
use crate::sys::ended;

/// How many ended children are reaped in a turn. The others are reaped in the next, after commands and what is due.
const REAPED_MAX: usize = 64;
/// How long after a failed wait(2) it is tried again.
const REAP_AGAIN: Duration = Duration::from_millis(10);

impl Host {
    /// Something was removed in the `supervise` directory of one of many services.
    pub(super) fn look_for_removals(&mut self, now: &impl Fn() -> Now, touched: &mut Vec<Place>) {
        let Some(removals) = &self.removals else { return };
        let mut places = Vec::new();
        removals.read_each(|watch, _| places.extend(self.watches.find(watch)));
        sort(&mut places);
        places.dedup();
        for place in places {
            if let Some(service) = self.service(place) {
                service.look_for_removals(now());
                touched.push(place);
            }
        }
    }

    pub(super) fn handle_signals(
        &mut self,
        now: &impl Fn() -> Now,
        turn: &mut Turn,
        touched: &mut Vec<Place>,
    ) {
        let (mut children, mut overflow) = (self.reap_at.take().is_some(), false);
        let mut changed = Vec::new();
        self.signals.read_each(|came| match came.signal {
            Signal::CHLD => children = true,
            _ if came.is_change() => changed.push(came.fd),
            _ if came.is_overflow() => overflow = true,
            _ => turn.signals.push(came),
        });
        if children {
            self.reap(now, turn, touched);
        }
        if overflow || !changed.is_empty() {
            sort(&mut changed);
            changed.dedup();
            self.look_at_changed(now, &changed, overflow, touched);
        }
    }

    /// Passes on the ends of processes. One signal may stand for many.
    fn reap(&mut self, now: &impl Fn() -> Now, turn: &mut Turn, touched: &mut Vec<Place>) {
        for _ in 0..REAPED_MAX {
            let (pid, status) = match self.wait_for_one() {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(Errno::CHILD) => return,
                Err(_) => {
                    self.reap_at = Some(now().at.saturating_add(REAP_AGAIN));
                    return;
                }
            };
            let Some(how) = Ended::from_status(status) else { continue };
            if self.note_end_of_call(pid, how) {
                continue;
            }
            let place = self.processes.find(key(pid));
            if let Some(place) = place {
                self.processes.remove(key(pid), place);
            }
            let Some((place, service)) = place.and_then(|place| Some((place, self.service(place)?))) else {
                if self.check_ended(now(), pid, how) {
                    continue;
                }
                turn.other_ends.push((pid, how));
                continue;
            };
            service.child_ended(now(), pid, how);
            touched.push(place);
            // What was started for it may have ended before the next call.
            self.note(place);
        }
        self.reap_at = Some(Moment::START);
    }

    /// Reaps a child that has ended, if there is one. What is left of its group is killed before that, as long as the number
    /// of the group cannot belong to another.
    fn wait_for_one(&mut self) -> rustix::io::Result<Option<(Pid, WaitStatus)>> {
        if self.groups.is_empty() {
            return wait(WaitOptions::NOHANG);
        }
        let Some(pid) = ended::peek()? else { return Ok(None) };
        if let Some(place) = self.groups.find(key(pid)) {
            self.groups.remove(key(pid), place);
            if let Some(service) = self.service(place) {
                service.end_group(pid);
            }
        }
        waitpid(Some(pid), WaitOptions::NOHANG)
    }

    /// Passes on changes of watched directories, whose descriptors have these numbers; with `overflow` there were more
    /// changes than the kernel could report one by one.
    fn look_at_changed(
        &mut self,
        now: &impl Fn() -> Now,
        changed: &[i32],
        overflow: bool,
        touched: &mut Vec<Place>,
    ) {
        let is_changed = |fd: i32| changed.binary_search(&fd).is_ok();
        for place in 0..self.places.len() {
            let Some(service) = self.service(place) else { continue };
            if !overflow && service.has_only_hosted_log_changed(is_changed) {
                service.look_at_hosted_log(now());
                touched.push(place);
            } else if overflow || service.watches().any(is_changed) {
                service.look_again(now());
                touched.push(place);
            } else if service.units().any(|unit| is_changed(unit.supervise_dir().as_raw_fd())) {
                service.look_for_removals(now());
                touched.push(place);
            }
        }
        self.note_needs_changed(now(), |fd| overflow || is_changed(fd));
    }
}
