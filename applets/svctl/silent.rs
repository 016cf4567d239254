//! An observer for commands that report in their own way.

use svcore::client::{Base, Observer, Supervisors, Target, Trouble, View};

/// Reports nothing.
#[derive(Debug)]
pub(super) struct Silent<'a> {
    pub(super) base: &'a Base,
    pub(super) supervisors: &'a mut Supervisors,
}

impl Observer for Silent<'_> {
    fn directories(&mut self) -> (&Base, &mut Supervisors) {
        (self.base, self.supervisors)
    }
    fn done(&mut self, _target: &Target, _view: &View) {}
    fn late(&mut self, _target: &Target, _view: &View, _killed: bool) {}
    fn has_left(&mut self, _target: &Target) {}
    fn trouble(&mut self, _target: &Target, _trouble: &Trouble) {}
    fn flush(&mut self) {}
}
