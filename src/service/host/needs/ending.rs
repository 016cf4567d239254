//! The end of all services: each ends after those that need it.

use super::super::{Host, Place};
use crate::control::Command;
use crate::needs::{EndOrder, survey};
use crate::service::step::Now;
use crate::trust;

/// An end of all services in order.
#[derive(Debug)]
pub(super) struct Ending {
    order: EndOrder,
    /// The place of each service of the order.
    places: Vec<Place>,
}

impl Host {
    /// Tells all services to end for good: each after all those that need it, and those that are independent at the same time.
    pub fn end_in_order(&mut self, now: Now) {
        let places: Vec<Place> = self.services().map(|(place, _)| place).collect();
        let order = if self.services().any(|(_, service)| service.has_needs()) {
            let paths: Vec<&[u8]> = places.iter().filter_map(|&place| self.path_of(place)).collect();
            survey::end_order(&paths, &trust::ours())
        } else {
            None
        };
        let Some(order) = order else { return self.command_all(now, Command::Exit) };
        let first: Vec<Place> =
            order.first().into_iter().filter_map(|number| places.get(number).copied()).collect();
        self.needs.ending = Some(Ending { order, places });
        self.end_removals();
        for place in first {
            self.command(now, place, Command::Exit);
        }
    }

    /// Tells those services to end, too, that [`Host::end_in_order`] has not told yet.
    pub fn end_all(&mut self, now: Now) {
        if self.needs.ending.take().is_some() {
            self.command_all(now, Command::Exit);
        }
    }

    /// Whether some services were not told to end yet, because others need them that have not ended.
    #[must_use]
    pub const fn ends_in_order(&self) -> bool {
        self.needs.ending.is_some()
    }

    /// In an end in order: tells those to end that may when the service at this place is over.
    pub(in super::super) fn go_on_ending(&mut self, now: Now, place: Place) {
        let Some(ending) = &mut self.needs.ending else { return };
        let Some(number) = ending.places.iter().position(|it| *it == place) else { return };
        let next = ending.order.ended(number);
        let next: Vec<Place> = next.into_iter().filter_map(|it| ending.places.get(it).copied()).collect();
        if ending.order.is_over() {
            self.needs.ending = None;
        }
        for place in next {
            self.command(now, place, Command::Exit);
        }
    }
}
