//! What `sv` prints, and how many services failed.

use svcore::client::{self, Base, MAIN, Observer, Part, Supervisors, Target, Trouble, View};
use svcore::facts::Facts;
use svcore::say;
use svcore::say::Message;
use svcore::status::Status;
use svcore::tai::Tai64N;

use super::report;

/// The most failures that an exit code tells.
const FAILURES_MAX: u8 = 99;

/// Collects lines and failures.
pub(super) struct Reporter {
    /// Lines not yet written.
    pub(super) out: Vec<u8>,
    pub(super) failures: u8,
    /// A second line tells what is probably wrong, even if standard error is not a terminal.
    pub(super) hints: bool,
    /// The services are told to start, so a second line tells why one did not.
    pub(super) starts: bool,
    pub(super) base: Base,
    /// The supervisors of directories, for hints.
    pub(super) supervisors: Supervisors,
    /// When the services were last looked at, by the wall clock.
    pub(super) now: Tai64N,
}

impl Reporter {
    /// Counts a failure.
    pub(super) fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1).min(FAILURES_MAX);
    }

    /// Reports the status of a service that was waited for.
    pub(super) fn outcome(&mut self, outcome: &[u8], target: &Target, view: &View) {
        let line = self.status_line(target, &MAIN, &target.name, &view.status, view.facts());
        self.out.extend_from_slice(outcome);
        self.out.extend_from_slice(&line);
        self.out.push(b'\n');
    }

    /// The status of a service, or nothing if it cannot be told whether it is to be down.
    pub(super) fn status_line(
        &mut self,
        target: &Target,
        part: &Part,
        name: &[u8],
        status: &Status,
        facts: &Facts,
    ) -> Vec<u8> {
        match target.has_down(part) {
            Ok(has_down) => report::line(name, status, facts, &self.now, has_down),
            Err(error) => {
                let what = [b"unable to stat ", target.name.as_slice(), b"/", part.down.to_bytes()].concat();
                Message::warning("", &what).because(&error).print();
                self.fail();
                Vec::new()
            }
        }
    }
}

impl Observer for Reporter {
    fn directories(&mut self) -> (&Base, &mut Supervisors) {
        (&self.base, &mut self.supervisors)
    }

    fn looks_at(&mut self, now: Tai64N) {
        self.now = now;
    }

    fn done(&mut self, target: &Target, view: &View) {
        self.outcome(b"ok: ", target, view);
    }

    fn late(&mut self, target: &Target, view: &View, killed: bool) {
        self.outcome(if killed { b"kill: " } else { b"timeout: " }, target, view);
        self.fail();
        if self.starts
            && !killed
            && (self.hints || svcore::hint::is_wanted())
            && let Some(cause) = client::cause_of_late_start(target, view)
        {
            self.flush();
            say::err_line(&[b"  ", cause.as_bytes()]);
        }
    }

    fn given_up(&mut self, target: &Target, view: &View) {
        self.outcome(b"fail: ", target, view);
        self.fail();
    }

    fn needed_is_late(&mut self, target: &Target, view: &View) {
        self.outcome(b"timeout: ", target, view);
    }

    fn needed_is_in_trouble(&mut self, target: &Target, trouble: &Trouble) {
        self.out.extend_from_slice(&trouble.line(&target.name));
        self.out.push(b'\n');
    }

    fn is_needed_by(&mut self, target: &Target, names: &[Vec<u8>]) {
        let names: Vec<_> = names.iter().map(|name| say::printable(name).into_owned()).collect();
        let what = [target.name.as_slice(), b": needed by ", &names.join(b", ".as_slice())].concat();
        self.out.extend_from_slice(&Message::warning("", &what).text());
        self.out.push(b'\n');
    }

    fn has_left(&mut self, target: &Target) {
        let line = [b"ok: ", target.name.as_slice(), b": runsv not running\n"].concat();
        self.out.extend_from_slice(&line);
    }

    fn trouble(&mut self, target: &Target, trouble: &Trouble) {
        self.out.extend_from_slice(&trouble.line(&target.name));
        self.out.push(b'\n');
        self.fail();
        if (self.hints || svcore::hint::is_wanted())
            && let Some(hint) = client::hint(target, self.base.path(), trouble, &mut self.supervisors)
        {
            self.flush();
            say::err_line(&[b"  ", hint.as_bytes()]);
        }
    }

    /// Writes the collected lines.
    fn flush(&mut self) {
        if !self.out.is_empty() {
            say::out(&[&self.out]);
            self.out.clear();
        }
    }
}
