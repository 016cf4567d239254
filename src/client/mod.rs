//! Services from the side of a client: what `sv` and `svctl` share.
//!
//! [`Target`] finds the state of a service and reads it, [`request`] decides what to send and when that has had its effect,
//! [`act`] sends it to many services and waits for all of them together. What is printed is up to the
//! [`Observer`].

mod cause;
mod check;
mod late;
mod needs;
mod pending;
pub mod request;
mod sent;
mod target;
mod waiting;

use std::time::Duration;

pub use cause::{Served, Supervisors, hint, parent};
pub use check::Checker;
pub use late::cause_of_late_start;
pub use target::{Base, LOG, MAIN, Part, Target, Trouble, View};
pub use waiting::act;

use crate::moment::Moment;
use crate::sys::clock;
use crate::tai::Tai64N;

/// What a client reports of services that it waits for, and what it knows of them all.
pub trait Observer {
    /// The directory that services with plain names are in, and the processes that serve directories.
    fn directories(&mut self) -> (&Base, &mut Supervisors);

    /// The services are looked at, at this time of the wall clock.
    fn looks_at(&mut self, _now: Tai64N) {}

    /// The request had its effect on a service.
    fn done(&mut self, target: &Target, view: &View);

    /// The time was over before that. `killed`: the service is sent KILL.
    fn late(&mut self, target: &Target, view: &View, killed: bool);

    /// A service that was to be started has been, and has ended: before that could be seen, or, if it `was_seen`, before it was
    /// ready or well. Returns whether it need not be waited for any longer: its supervisor may start it again.
    fn has_ended(&mut self, _target: &Target, _was_seen: bool) -> bool {
        false
    }

    /// The request cannot have its effect: the service is given up.
    fn given_up(&mut self, target: &Target, view: &View) {
        self.late(target, view, false);
    }

    /// A service that one of the others needs was not ready in time.
    fn needed_is_late(&mut self, _target: &Target, _view: &View) {}

    /// A service that one of the others needs, and that was not ready in time, cannot be asked.
    fn needed_is_in_trouble(&mut self, _target: &Target, _trouble: &Trouble) {}

    /// Services with these names need a service that was told to end, and are up.
    fn is_needed_by(&mut self, _target: &Target, _names: &[Vec<u8>]) {}

    /// The supervisor of a service has left, which is what was asked for.
    fn has_left(&mut self, target: &Target);

    /// A service cannot be used.
    fn trouble(&mut self, target: &Target, trouble: &Trouble);

    /// Writes what was reported.
    fn flush(&mut self);

    /// What is still waited for, at each look. Returns when to be called again, even if nothing happens until then.
    fn waits_for(&mut self, _targets: &mut dyn Iterator<Item = &Target>, _now: Moment) -> Option<Moment> {
        None
    }
}

/// When waiting ends that begins now. A runsv and a `./check` need a moment even for those who do not want to wait.
#[must_use]
pub fn end_of(patience: Duration) -> Moment {
    const SHORTEST: Duration = Duration::from_millis(420);
    clock::monotonic().saturating_add(patience.max(SHORTEST))
}
