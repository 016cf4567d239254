//! Why a service that was told to start is not up in time.

use std::time::Duration;

use crate::facts::{Facts, Readiness};
use crate::hint;
use crate::process::Ended;
use crate::say::printable_text;
use crate::status::{State, Status};

use super::target::{Target, View};

/// The probable cause, in words. `view` is that of the moment when the time was over.
#[must_use]
pub fn cause_of_late_start(target: &Target, view: &View) -> Option<String> {
    let (status, facts) = (&view.status, view.facts());
    let run = [target.path.as_slice(), b"/run"].concat();
    let look = Look {
        cannot_start: target.dir().ok().and_then(|dir| hint::before_start(dir, c"run", &run)),
        has_run: !matches!(target.look(c"run"), Ok(None)),
        has_check: matches!(target.look(c"check"), Ok(Some(_))),
        path: &target.path,
    };
    cause(status, facts, &look)
}

/// What the files of the service say.
struct Look<'a> {
    /// Why `./run` cannot be started.
    cannot_start: Option<String>,
    has_run: bool,
    has_check: bool,
    path: &'a [u8],
}

fn cause(status: &Status, facts: &Facts, look: &Look<'_>) -> Option<String> {
    if !look.has_run {
        return Some("it has no file run".to_owned());
    }
    if let Some(why) = &look.cannot_start {
        return Some(["./run cannot be started: ", why].concat());
    }
    if let Some(why) = &facts.given_up {
        return Some(format!("it was given up: {}", printable_text(why.as_bytes())));
    }
    if !facts.waits.is_empty() {
        let names: Vec<String> = facts.waits.iter().map(|name| printable_text(name)).collect();
        return Some(format!("it waits for {}", names.join(", ")));
    }
    let last = facts.ends.first();
    match status.state {
        State::Run if status.paused => Some("it is paused: sv cont".to_owned()),
        State::Run if facts.readiness == Some(Readiness::NotReady) => {
            Some("it runs, and has not told that it is ready".to_owned())
        }
        State::Run if look.has_check => {
            let path = hint::quoted(look.path);
            Some(format!("it runs, and ./check fails; to see why: (cd {path} && ./check)"))
        }
        State::Finish => Some("./run has ended, and ./finish still runs".to_owned()),
        State::Run | State::Down => {
            let last = last?;
            let how = match last.how {
                Ended::Code(code) => format!("exited with {code}"),
                Ended::Signal { signal, .. } => format!("was ended by signal {}", signal.number()),
            };
            Some(format!("./run {how} after {}", seconds(last.uptime)))
        }
    }
}

/// A span of time for people: `0.1 s`.
fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::*;
    use crate::facts::End;
    use crate::status::Want;
    use crate::tai::stamp;

    const LOOK: Look<'_> = Look { cannot_start: None, has_run: true, has_check: false, path: b"/sv/web" };

    fn status(state: State) -> Status {
        let pid = Pid::from_raw(7).filter(|_| state != State::Down);
        Status { since: stamp(1, 0), pid, paused: false, want: Some(Want::Up), term: false, state }
    }

    fn told(state: State, facts: &Facts, look: &Look<'_>) -> String {
        cause(&status(state), facts, look).unwrap_or_default()
    }

    #[test]
    fn the_cause_is_what_the_files_and_the_supervisor_say() {
        let none = Facts::default();
        assert_eq!(told(State::Down, &none, &Look { has_run: false, ..LOOK }), "it has no file run");
        let broken = Look { cannot_start: Some("not executable: x".to_owned()), ..LOOK };
        assert_eq!(told(State::Down, &none, &broken), "./run cannot be started: not executable: x");
        let given_up = Facts { given_up: Some("5 ends in 60 s".to_owned()), ..Facts::default() };
        assert_eq!(told(State::Down, &given_up, &LOOK), "it was given up: 5 ends in 60 s");
        let waits = Facts { waits: vec![b"db".to_vec(), b"mq".to_vec()], ..Facts::default() };
        assert_eq!(told(State::Down, &waits, &LOOK), "it waits for db, mq");
        let end = |how| End { at: stamp(1, 0), how, uptime: Duration::from_millis(150) };
        let ended = Facts { ends: [end(Ended::Code(3))].into(), ..Facts::default() };
        assert_eq!(told(State::Down, &ended, &LOOK), "./run exited with 3 after 0.1 s");
        assert_eq!(told(State::Finish, &ended, &LOOK), "./run has ended, and ./finish still runs");
        assert_eq!(told(State::Down, &none, &LOOK), "");
        let checked = Look { has_check: true, ..LOOK };
        let expected = "it runs, and ./check fails; to see why: (cd /sv/web && ./check)";
        assert_eq!(told(State::Run, &none, &checked), expected);
        let not_ready = Facts { readiness: Some(Readiness::NotReady), ..Facts::default() };
        assert_eq!(told(State::Run, &not_ready, &checked), "it runs, and has not told that it is ready");
    }
}
