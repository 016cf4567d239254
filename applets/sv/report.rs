//! The line that tells how a service is. Without I/O. Many programs read it: not a byte of it may change.

use svcore::facts::{Facts, Readiness};
use svcore::say;
use svcore::status::{State, Status, Want};
use svcore::tai::{Tai64N, seconds_between};

/// The line, without its newline. `has_down`: there is a file `down`. Source: sv(8), status.
pub(crate) fn line(name: &[u8], status: &Status, facts: &Facts, now: &Tai64N, has_down: bool) -> Vec<u8> {
    let state: &[u8] = match status.state {
        State::Down => b"down: ",
        State::Run => b"run: ",
        State::Finish => b"finish: ",
    };
    let runs = status.pid.is_some();
    let pid = status.pid.map_or(0, |pid| pid.as_raw_nonzero().get());
    let pid = if status.state == State::Down { String::new() } else { format!("(pid {pid}) ") };
    let age = format!("{}s", seconds_between(&status.since, now));
    let mut line = [state, name, b": ", pid.as_bytes(), age.as_bytes()].concat();
    let wants_down = matches!(status.want, Some(Want::Down | Want::Exit));
    for (holds, word) in [
        (runs && has_down, ", normally down"),
        (!runs && !has_down, ", normally up"),
        (runs && status.paused, ", paused"),
        (!runs && status.want == Some(Want::Up), ", want up"),
        (runs && wants_down, ", want down"),
        (runs && status.term, ", got TERM"),
    ] {
        if holds {
            line.extend_from_slice(word.as_bytes());
        }
    }
    add_facts(&mut line, status, facts, now);
    line
}

/// Adds what stock services do not have.
fn add_facts(line: &mut Vec<u8>, status: &Status, facts: &Facts, now: &Tai64N) {
    let mut add = |words: &[&[u8]]| {
        line.extend_from_slice(b", ");
        words.iter().for_each(|word| line.extend_from_slice(word));
    };
    if status.state == State::Run {
        match &facts.readiness {
            Some(Readiness::Ready(at)) => {
                add(&[b"ready ", seconds_between(at, now).to_string().as_bytes(), b"s"]);
            }
            Some(Readiness::NotReady) => add(&[b"not ready"]),
            None => {}
        }
    }
    if status.state != State::Down {
        return;
    }
    if let Some(reason) = &facts.given_up {
        add(&[b"given up: ", &say::printable(reason.as_bytes())]);
    }
    if facts.done.is_some() {
        add(&[b"done"]);
    }
    if let Some(at) = &facts.next_start {
        add(&[b"restarts in ", seconds_between(now, at).to_string().as_bytes(), b"s"]);
    }
    if !facts.waits.is_empty() {
        let names: Vec<_> = facts.waits.iter().map(|name| say::printable(name)).collect();
        add(&[b"waits for ", &names.join(b", ".as_slice())]);
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;
    use svcore::tai::stamp;

    use super::*;

    fn line_of(state: State, pid: i32, want: Want, change: impl Fn(&mut Status), has_down: bool) -> String {
        let since = stamp(1000, 999_999_999);
        let mut status =
            Status { since, pid: Pid::from_raw(pid), paused: false, want: Some(want), term: false, state };
        change(&mut status);
        String::from_utf8(line(b"./s", &status, &Facts::default(), &stamp(1008, 0), has_down)).unwrap()
    }

    #[test]
    fn the_lines_are_those_of_runit() {
        let as_is = |_: &mut Status| {};
        assert_eq!(line_of(State::Run, 3743, Want::Up, as_is, false), "run: ./s: (pid 3743) 8s");
        assert_eq!(
            line_of(State::Run, 3743, Want::Up, |s| s.paused = true, false),
            "run: ./s: (pid 3743) 8s, paused"
        );
        assert_eq!(
            line_of(State::Finish, 6464, Want::Down, as_is, false),
            "finish: ./s: (pid 6464) 8s, want down"
        );
        assert_eq!(line_of(State::Down, 0, Want::Down, as_is, false), "down: ./s: 8s, normally up");
        assert_eq!(line_of(State::Down, 0, Want::Down, as_is, true), "down: ./s: 8s");
        assert_eq!(line_of(State::Down, 0, Want::Up, as_is, false), "down: ./s: 8s, normally up, want up");
        assert_eq!(
            line_of(State::Run, 16451, Want::Down, as_is, true),
            "run: ./s: (pid 16451) 8s, normally down, want down"
        );
        assert_eq!(
            line_of(State::Run, 812, Want::Exit, |s| s.term = true, false),
            "run: ./s: (pid 812) 8s, want down, got TERM"
        );
        assert_eq!(
            line_of(State::Finish, 0, Want::Up, as_is, false),
            "finish: ./s: (pid 0) 8s, normally up, want up"
        );
    }

    #[test]
    fn what_a_service_with_policies_has_comes_last() {
        let line = |state, want, facts: &Facts| {
            let (since, pid) = (stamp(1000, 0), Pid::from_raw(7).filter(|_| state != State::Down));
            let status = Status { since, pid, paused: false, want: Some(want), term: false, state };
            String::from_utf8(line(b"s", &status, facts, &stamp(1008, 0), false)).unwrap()
        };
        let plain = Facts::default();
        let ready = Facts { readiness: Some(Readiness::Ready(stamp(1005, 0))), ..plain.clone() };
        let not_ready = Facts { readiness: Some(Readiness::NotReady), ..plain.clone() };
        assert_eq!(line(State::Run, Want::Up, &ready), "run: s: (pid 7) 8s, ready 3s");
        assert_eq!(line(State::Run, Want::Up, &not_ready), "run: s: (pid 7) 8s, not ready");
        assert_eq!(line(State::Down, Want::Down, &ready), "down: s: 8s, normally up");
        let done = Facts { done: Some(stamp(1, 0)), ..plain.clone() };
        assert_eq!(line(State::Down, Want::Down, &done), "down: s: 8s, normally up, done");
        let given_up = Facts { given_up: Some("5 ends in 60 s".to_owned()), ..plain.clone() };
        let expected = "down: s: 8s, normally up, want up, given up: 5 ends in 60 s";
        assert_eq!(line(State::Down, Want::Up, &given_up), expected);
        let pausing = Facts { next_start: Some(stamp(1068, 0)), ..plain.clone() };
        let expected = "down: s: 8s, normally up, want up, restarts in 60s";
        assert_eq!(line(State::Down, Want::Up, &pausing), expected);
        let waits = Facts { waits: vec![b"db".to_vec(), b"a\nb".to_vec()], ..plain };
        let expected = "down: s: 8s, normally up, want up, waits for db, a\\x0ab";
        assert_eq!(line(State::Down, Want::Up, &waits), expected);
    }
}
