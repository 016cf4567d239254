//! The line that tells how a service is. Without I/O. Many programs read it: not a byte of it may change.

use svcore::status::{State, Status, Want};
use svcore::tai::{Tai64N, seconds_between};

/// The line, without its newline. `has_down`: there is a file `down`. Source: sv(8), status.
pub(crate) fn line(name: &[u8], status: &Status, now: &Tai64N, has_down: bool) -> Vec<u8> {
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
    line
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
        String::from_utf8(line(b"./s", &status, &stamp(1008, 0), has_down)).unwrap()
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
}
