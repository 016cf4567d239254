//! One wait for everything that the services and the caller wait for.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd};

use super::{Host, Place};
use crate::event::{self, Wait, Woken};
use crate::moment::{Moment, earlier};
use crate::role::Role;
use crate::service::perform::Teller;
use crate::sys::residency::release_executable;

/// A descriptor of a service that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The FIFO `control`.
    Control(Role),
    /// What `./run` tells something by.
    Teller(Teller),
}

impl Source {
    const ALL: [Source; 5] = [
        Source::Control(Role::Main),
        Source::Control(Role::Log),
        Source::Teller(Teller::Pipe),
        Source::Teller(Teller::Socket),
        Source::Teller(Teller::MainProcess),
    ];
}

/// What became ready in one wait.
pub(super) struct Ready {
    pub(super) signals: bool,
    pub(super) removals: bool,
    /// Whose FIFOs and other descriptors can be read.
    pub(super) sources: Vec<(Place, Source)>,
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
                        whose.push((place, Source::Control(unit.role())));
                    }
                    for (teller, fd) in service.tellers() {
                        add(fd, PollFlags::IN);
                        whose.push((place, Source::Teller(teller)));
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
            sources: match &self.controls {
                Some(controls) if ready.next() == Some(true) => {
                    controls.ready().into_iter().map(whose_is).collect()
                }
                Some(_) => Vec::new(),
                None => ready.zip(whose).filter(|(ready, _)| *ready).map(|(_, whose)| whose).collect(),
            },
        }
    }
}

/// The number under which a descriptor is watched.
pub(super) fn number_of(place: Place, source: Source) -> u64 {
    let which = Source::ALL.iter().position(|other| *other == source).unwrap_or_default();
    u64::try_from(place.saturating_mul(Source::ALL.len()).saturating_add(which)).unwrap_or(u64::MAX)
}

fn whose_is(number: u64) -> (Place, Source) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let source = Source::ALL.get(number % Source::ALL.len()).copied();
    (number / Source::ALL.len(), source.unwrap_or(Source::Control(Role::Main)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_descriptor_of_one_service() {
        for place in [0, 1, 999] {
            for source in Source::ALL {
                assert_eq!(whose_is(number_of(place, source)), (place, source));
            }
        }
    }
}
