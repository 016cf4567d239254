//! An observer for commands that report in their own way.

use svcore::client::{Base, Observer, Supervisors, Target, Trouble, View};
use svcore::tai::Tai64N;

/// Reports nothing.
#[derive(Debug)]
pub(super) struct Silent<'a> {
    pub(super) base: &'a Base,
    pub(super) supervisors: &'a mut Supervisors,
}

impl Observer for Silent<'_> {
    fn base(&self) -> &Base {
        self.base
    }
    fn supervisors(&mut self) -> &mut Supervisors {
        self.supervisors
    }
    fn looks_at(&mut self, _now: Tai64N) {}
    fn done(&mut self, _target: &Target, _view: &View) {}
    fn late(&mut self, _target: &Target, _view: &View, _killed: bool) {}
    fn has_left(&mut self, _target: &Target) {}
    fn trouble(&mut self, _target: &Target, _trouble: &Trouble) {}
    fn flush(&mut self) {}
}
