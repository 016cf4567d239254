//! One wait for everything that the services and the caller wait for.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd};

use super::{Host, Place};
use crate::event::{self, Wait, Woken};
use crate::moment::{Moment, earlier};
use crate::role::Role;
use crate::sys::residency::release_executable;

/// What became ready in one wait.
pub(super) struct Ready {
    pub(super) signals: bool,
    pub(super) removals: bool,
    /// Whose FIFOs can be read.
    pub(super) controls: Vec<(Place, Role)>,
    /// Which of the other descriptors are ready, in their order.
    pub(super) others: Vec<bool>,
}

impl Host {
    pub(super) fn wait(
        &self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        until: Option<Moment>,
        is_long: bool,
    ) -> Ready {
        let due = earlier(self.due.first().map(|(at, _)| at), self.reap_at);
        let due = earlier(due, self.failures.deadline());
        let mut fds = Vec::with_capacity(others.len().saturating_add(3));
        let mut whose = Vec::new();
        let mut add = |fd, flags| fds.push(PollFd::from_borrowed_fd(fd, flags));
        add(self.signals.as_fd(), PollFlags::IN);
        for (fd, flags) in others {
            add(*fd, *flags);
        }
        if let Some(removals) = &self.removals {
            add(removals.as_fd(), PollFlags::IN);
        }
        match &self.controls {
            Some(controls) => add(controls.as_fd(), PollFlags::IN),
            None => {
                for (place, service) in self.services() {
                    for unit in service.units() {
                        add(unit.control(), PollFlags::IN);
                        whose.push((place, unit.role()));
                    }
                }
            }
        }
        if is_long {
            // Last: pages that are touched between this and the wait stay in memory.
            release_executable();
        }
        let woken = event::wait(&mut fds, Wait::until(earlier(until, due)));
        let mut ready = fds.iter().map(|fd| woken == Woken::Unknown || !fd.revents().is_empty());
        Ready {
            signals: ready.next() == Some(true),
            others: others.iter().map(|_| ready.next() == Some(true)).collect(),
            removals: self.removals.is_some() && ready.next() == Some(true),
            controls: match &self.controls {
                Some(controls) if ready.next() == Some(true) => {
                    controls.ready().into_iter().map(whose_is).collect()
                }
                Some(_) => Vec::new(),
                None => ready.zip(whose).filter(|(ready, _)| *ready).map(|(_, whose)| whose).collect(),
            },
        }
    }
}

/// The number under which a FIFO is watched.
pub(super) fn number_of(place: Place, role: Role) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX >> 1) << 1 | u64::from(role == Role::Log)
}

fn whose_is(number: u64) -> (Place, Role) {
    let role = if number & 1 == 0 { Role::Main } else { Role::Log };
    (Place::try_from(number >> 1).unwrap_or(Place::MAX), role)
}
