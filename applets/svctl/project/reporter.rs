//! What `svctl` prints of services that it waits for, a line for each.

use svcore::client::{self, Base, Observer, Supervisors, Target, Trouble, View};
use svcore::say;
use svcore::status::{State, Status};

/// Prints lines, and counts services that are not as they should be.
pub(in super::super) struct Reporter {
    out: Vec<u8>,
    pub(in super::super) failures: u32,
    base: Base,
    supervisors: Supervisors,
}

impl Reporter {
    pub(in super::super) fn new() -> Self {
        Reporter { out: Vec::new(), failures: 0, base: Base::default(), supervisors: Supervisors::default() }
    }

    /// Prints what is left.
    pub(in super::super) fn finish(&mut self) {
        self.flush();
    }

    fn line(&mut self, target: &Target, parts: &[&[u8]]) {
        let name = target.name.rsplit(|&byte| byte == b'/').next().unwrap_or(&target.name);
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(&parts.concat());
        self.out.push(b'\n');
    }

    fn state(&mut self, target: &Target, status: &Status, before: &[u8]) {
        let pid = status.pid.map_or(0, |pid| pid.as_raw_nonzero().get()).to_string();
        match status.state {
            State::Run => self.line(target, &[before, b"up (pid ", pid.as_bytes(), b")"]),
            State::Down => self.line(target, &[before, b"down"]),
            State::Finish => self.line(target, &[before, b"in ./finish (pid ", pid.as_bytes(), b")"]),
        }
    }
}

impl Observer for Reporter {
    fn directories(&mut self) -> (&Base, &mut Supervisors) {
        (&self.base, &mut self.supervisors)
    }

    fn done(&mut self, target: &Target, View { status, .. }: &View) {
        self.state(target, status, b"");
    }

    fn late(&mut self, target: &Target, View { status, .. }: &View, killed: bool) {
        self.state(
            target,
            status,
            if killed { b"killed, since it took too long; was " } else { b"not in time: " },
        );
        self.failures = self.failures.saturating_add(1);
    }

    fn has_left(&mut self, target: &Target) {
        self.line(target, &[b"no longer supervised"]);
    }

    fn trouble(&mut self, target: &Target, trouble: &Trouble) {
        self.failures = self.failures.saturating_add(1);
        self.flush();
        say::err_line(&[&trouble.line(&target.name)]);
        if let Some(hint) = client::hint(target, self.base.path(), trouble, &mut self.supervisors) {
            say::err_line(&[b"  ", hint.as_bytes()]);
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            say::out(&[&self.out]);
            self.out.clear();
        }
    }
}
