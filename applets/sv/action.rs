//! What a word asks for, and when it is fulfilled. Without I/O. Source: sv(8).

use svcore::status::{State, Status, Want};

/// When a command is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// With `-v` or `-w`.
    IfAsked,
    /// Always.
    Always,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    /// What is written to `supervise/control`, in one piece.
    pub(crate) bytes: &'static [u8],
    /// What has to hold in the end, a letter each: those of `bytes`, and `C` for `check`.
    pub(crate) until: &'static [u8],
    /// When it is waited for.
    pub(crate) wait: Wait,
    /// Whether KILL follows when the time is over.
    pub(crate) kill: bool,
}

/// What a word asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To say how the service is.
    Status,
    /// To find out whether all is well.
    Health,
    /// To do something.
    Do(Action),
}

/// What `word` asks for; `None` if nothing. As an init script, other words with an `s` are not `status`.
///
/// The words listed in full come first, then the first letter counts: Debian's scripts say `sv int`, and `usr1`
/// has always been `up`.
pub(crate) fn asked(word: &[u8], init_script: bool) -> Option<Asked> {
    let quiet = |bytes| Action { bytes, until: bytes, wait: Wait::IfAsked, kill: false };
    let waited = |bytes| Action { wait: Wait::Always, ..quiet(bytes) };
    let forced = |bytes| Action { kill: true, ..waited(bytes) };
    Some(Asked::Do(match word {
        b"start" => waited(b"u"),
        b"stop" => waited(b"d"),
        b"shutdown" => waited(b"x"),
        b"restart" => waited(b"tcu"),
        b"reload" => waited(b"h"),
        b"try-restart" => waited(b"tc"),
        b"check" => Action { until: b"C", ..waited(b"") },
        b"force-stop" => forced(b"d"),
        b"force-shutdown" => forced(b"x"),
        b"force-reload" => forced(b"tc"),
        b"force-restart" => forced(b"tcu"),
        b"status" => return Some(Asked::Status),
        b"health" if !init_script => return Some(Asked::Health),
        [b's', ..] if !init_script => return Some(Asked::Status),
        [b'D', ..] => forced(b"d"),
        [b'T', ..] => forced(b"tc"),
        [b'X' | b'E', ..] => forced(b"x"),
        [b'u', ..] => quiet(b"u"),
        [b'd', ..] => quiet(b"d"),
        [b'o', ..] => quiet(b"o"),
        [b'p', ..] => quiet(b"p"),
        [b'c', ..] => quiet(b"c"),
        [b'h', ..] => quiet(b"h"),
        [b'a', ..] => quiet(b"a"),
        [b'i', ..] => quiet(b"i"),
        [b'q', ..] => quiet(b"q"),
        [b'1', ..] => quiet(b"1"),
        [b'2', ..] => quiet(b"2"),
        [b't', ..] => quiet(b"t"),
        [b'k', ..] => quiet(b"k"),
        [b'x' | b'e', ..] => quiet(b"x"),
        _ => return None,
    }))
}

/// Whether a command has had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fulfilled {
    /// It has.
    Yes,
    /// It has, if `./check` agrees.
    IfChecked,
    /// Not yet.
    No,
}

/// Whether all of `until` holds in `status`. `before` is the status from before the command, if it was known.
///
/// `x` is not for the status to say.
pub(crate) fn fulfilled(until: &[u8], status: &Status, before: Option<&Status>) -> Fulfilled {
    until.iter().map(|&letter| holds(letter, status, before)).max().unwrap_or(Fulfilled::Yes)
}

/// Whether `bytes` ask for what is wanted already, so that nothing need be sent. Source: sv(8) of runit 2.1.2.
pub(crate) fn is_wanted_already(bytes: &[u8], status: &Status) -> bool {
    match bytes.first() {
        Some(b'u') => status.want == Some(Want::Up),
        // One that runs once is not wanted up either.
        Some(b'd') => matches!(status.want, Some(Want::Down | Want::Exit)) && status.term,
        _ => false,
    }
}

/// Whether `status` shows a state that began since `before`, and that `bytes` are wanted. When the time is over that counts
/// as the effect, although it could not be seen that they were read: others may write without end.
pub(crate) fn shows_effect(bytes: &[u8], status: &Status, before: Option<&Status>) -> bool {
    let is_new = before.is_some_and(|before| before.since != status.since);
    let wants_down = matches!(status.want, Some(Want::Down | Want::Exit));
    is_new
        && match bytes.last() {
            Some(b'u') => !wants_down,
            Some(b'd') => wants_down,
            _ => true,
        }
}

fn holds(letter: u8, status: &Status, before: Option<&Status>) -> Fulfilled {
    let yes_if = |holds: bool| if holds { Fulfilled::Yes } else { Fulfilled::No };
    let is_new = before.is_none_or(|before| before.since != status.since);
    let wants_down = matches!(status.want, Some(Want::Down | Want::Exit));
    match letter {
        b'u' if status.pid.is_some() && status.state == State::Run => Fulfilled::IfChecked,
        b'u' => Fulfilled::No,
        b'd' => yes_if(status.pid.is_none() && status.state == State::Down),
        b'C' => holds(if wants_down { b'd' } else { b'u' }, status, before),
        b't' | b'k' if status.pid.is_none() => yes_if(wants_down),
        b't' | b'k' if is_new && !status.term => Fulfilled::IfChecked,
        b't' | b'k' => Fulfilled::No,
        b'o' => yes_if(if status.pid.is_none() { is_new } else { wants_down }),
        b'p' => yes_if(status.pid.is_none() || status.paused),
        b'c' => yes_if(status.pid.is_none() || !status.paused),
        b'x' => Fulfilled::No,
        _ => Fulfilled::Yes,
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;
    use svcore::tai::stamp;

    use super::*;

    fn bytes(word: &str) -> String {
        match asked(word.as_bytes(), false) {
            None => "usage".to_owned(),
            Some(Asked::Status) => "status".to_owned(),
            Some(Asked::Health) => "health".to_owned(),
            Some(Asked::Do(action)) => {
                let bytes = String::from_utf8(action.bytes.to_vec()).unwrap();
                let wait = if action.wait == Wait::Always { "+" } else { "" };
                let kill = if action.kill { "!" } else { "" };
                format!("{bytes}{wait}{kill}")
            }
        }
    }

    #[test]
    fn words_and_letters_are_those_of_runit() {
        for (words, expected) in [
            ("u up usr1", "u"),
            ("d down", "d"),
            ("o once", "o"),
            ("p pause", "p"),
            ("c cont checks", "c"),
            ("h hup heal healthy", "h"),
            ("health", "health"),
            ("a alarm", "a"),
            ("i int interrupt", "i"),
            ("q quit", "q"),
            ("1", "1"),
            ("2", "2"),
            ("t term try", "t"),
            ("k kill", "k"),
            ("e x exit", "x"),
            ("s st stat status starts", "status"),
            ("start", "u+"),
            ("stop", "d+"),
            ("shutdown", "x+"),
            ("restart", "tcu+"),
            ("reload", "h+"),
            ("try-restart", "tc+"),
            ("check", "+"),
            ("force-stop D Down", "d+!"),
            ("force-reload T", "tc+!"),
            ("force-restart", "tcu+!"),
            ("force-shutdown X E", "x+!"),
            ("r restar f force force-x z - U K", "usage"),
        ] {
            for word in words.split(' ') {
                assert_eq!(bytes(word), expected, "{word}");
            }
        }
        assert_eq!(bytes(""), "usage");
    }

    #[test]
    fn an_init_script_knows_status_by_its_full_name_only() {
        assert_eq!(asked(b"status", true), Some(Asked::Status));
        assert_eq!(asked(b"stat", true), None);
        assert!(asked(b"condrestart", true).is_some());
    }

    fn status(state: State, pid: i32, since: i64) -> Status {
        let want = Some(Want::Up);
        Status { since: stamp(since, 0), pid: Pid::from_raw(pid), paused: false, want, term: false, state }
    }

    #[test]
    fn a_restart_is_over_with_the_new_process_and_not_with_the_old() {
        let old = status(State::Run, 7, 100);
        let told = Status { term: true, ..old };
        let ended = Status { pid: None, state: State::Down, ..status(State::Down, 0, 101) };
        let new = status(State::Run, 8, 101);
        let now = |status: &Status| fulfilled(b"tcu", status, Some(&old));
        assert_eq!(now(&old), Fulfilled::No);
        assert_eq!(now(&told), Fulfilled::No);
        assert_eq!(now(&ended), Fulfilled::No);
        assert_eq!(now(&status(State::Finish, 9, 100)), Fulfilled::No);
        assert_eq!(now(&new), Fulfilled::IfChecked);
    }

    #[test]
    fn check_follows_what_is_wanted() {
        let mut down = status(State::Down, 0, 1);
        assert_eq!(fulfilled(b"C", &down, None), Fulfilled::No);
        down.want = Some(Want::Down);
        assert_eq!(fulfilled(b"C", &down, None), Fulfilled::Yes);
        assert_eq!(fulfilled(b"C", &status(State::Run, 7, 1), None), Fulfilled::IfChecked);
    }

    #[test]
    fn once_is_over_when_it_runs_so_or_has_run() {
        let before = status(State::Down, 0, 1);
        let wants_down = |status: Status| Status { want: Some(Want::Down), ..status };
        assert_eq!(fulfilled(b"o", &wants_down(before), Some(&before)), Fulfilled::No);
        assert_eq!(fulfilled(b"o", &wants_down(status(State::Run, 7, 2)), Some(&before)), Fulfilled::Yes);
        assert_eq!(fulfilled(b"o", &status(State::Run, 7, 2), Some(&before)), Fulfilled::No);
        assert_eq!(fulfilled(b"o", &wants_down(status(State::Down, 0, 3)), Some(&before)), Fulfilled::Yes);
    }
}
