//! What a verb of the command line asks for, and when that has happened. Without I/O. Source: sv(8).

use svcore::Signal;
use svcore::control::Command;
use svcore::status::{State, Status, Want};

/// When `sv` waits for the effect of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// With `-v` or `-w`.
    IfAsked,
    /// Always.
    Always,
}

/// What is sent to a service, and what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Written to `supervise/control` in one piece.
    pub(crate) commands: &'static [Command],
    /// What has to be true of the status in the end: all of these.
    pub(crate) until: &'static [Until],
    pub(crate) waits: Waits,
    /// Whether KILL is sent when the time is over.
    pub(crate) kill: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// `./run` runs, and `./check` agrees.
    Up,
    /// Nothing runs.
    Down,
    /// [`Until::Up`] or [`Until::Down`], whichever is wanted.
    AsWanted,
    /// The process is another one than before, and `./check` agrees; or nothing runs and nothing is to.
    Replaced,
    /// It runs once, or has run.
    Once,
    /// The process is stopped by SIGSTOP.
    Paused,
    /// The process is not stopped by SIGSTOP.
    Continued,
    /// The supervisor has left. The status cannot show that.
    Unsupervised,
}

/// What a verb asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Print the status.
    Status,
    /// Find out whether everything that is wanted up is up and well.
    Health,
    /// Send commands to the service.
    Do(Request),
}

impl Request {
    /// Sends nothing, and waits until the service is as it is wanted.
    pub(crate) const CHECK: Request =
        Request { commands: &[], until: &[Until::AsWanted], waits: Waits::Always, kill: false };

    /// Kills the process, and does not wait for its end.
    pub(crate) const KILL: Request =
        Request { commands: &[Command::Kill], until: &[], waits: Waits::IfAsked, kill: false };

    /// The bytes to write.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.commands.iter().flat_map(|command| command.bytes()).copied().collect()
    }

    /// Whether the supervisor is to leave.
    pub(crate) fn is_exit(&self) -> bool {
        self.commands == [Command::Exit]
    }

    /// Whether the service is only to be started.
    pub(crate) fn is_up(&self) -> bool {
        self.commands == [Command::Up]
    }
}

/// What `word` asks for; `None` if it is no verb. As an init script, other words with an `s` are not `status`.
///
/// The words listed in full come first, then the first letter counts: Debian's scripts call `sv int`, and `usr1` has
/// always been `up`.
pub(crate) fn verb(word: &[u8], init_script: bool) -> Option<Verb> {
    use Command::{Continue, Down, Exit, Kill, Once, Pause, Restart, Send, Term, Up};
    const RESTART: &[Command] = &[Restart, Up];
    const RESTARTED: &[Until] = &[Until::Replaced, Until::Continued, Until::Up];
    const RELOADED: &[Until] = &[Until::Replaced, Until::Continued];
    let quiet = |commands, until| Request { commands, until, waits: Waits::IfAsked, kill: false };
    let waited = |commands, until| Request { waits: Waits::Always, ..quiet(commands, until) };
    let forced = |commands, until| Request { kill: true, ..waited(commands, until) };
    Some(Verb::Do(match word {
        b"start" => waited(&[Up], &[Until::Up]),
        b"stop" => waited(&[Down], &[Until::Down]),
        b"shutdown" => waited(&[Exit], &[Until::Unsupervised]),
        b"restart" => waited(RESTART, RESTARTED),
        b"reload" => waited(&[Send(Signal::HUP)], &[]),
        b"try-restart" => waited(&[Restart], RELOADED),
        b"check" => Request::CHECK,
        b"force-stop" => forced(&[Down], &[Until::Down]),
        b"force-shutdown" => forced(&[Exit], &[Until::Unsupervised]),
        b"force-reload" => forced(&[Restart], RELOADED),
        b"force-restart" => forced(RESTART, RESTARTED),
        b"status" => return Some(Verb::Status),
        b"health" if !init_script => return Some(Verb::Health),
        [b's', ..] if !init_script => return Some(Verb::Status),
        [b'D', ..] => forced(&[Down], &[Until::Down]),
        [b'T', ..] => forced(&[Restart], RELOADED),
        [b'X' | b'E', ..] => forced(&[Exit], &[Until::Unsupervised]),
        [b'u', ..] => quiet(&[Up], &[Until::Up]),
        [b'd', ..] => quiet(&[Down], &[Until::Down]),
        [b'o', ..] => quiet(&[Once], &[Until::Once]),
        [b'p', ..] => quiet(&[Pause], &[Until::Paused]),
        [b'c', ..] => quiet(&[Continue], &[Until::Continued]),
        [b'h', ..] => quiet(&[Send(Signal::HUP)], &[]),
        [b'a', ..] => quiet(&[Send(Signal::ALRM)], &[]),
        [b'i', ..] => quiet(&[Send(Signal::INT)], &[]),
        [b'q', ..] => quiet(&[Send(Signal::QUIT)], &[]),
        [b'1', ..] => quiet(&[Send(Signal::USR1)], &[]),
        [b'2', ..] => quiet(&[Send(Signal::USR2)], &[]),
        [b't', ..] => quiet(&[Term], &[Until::Replaced]),
        [b'k', ..] => quiet(&[Kill], &[Until::Replaced]),
        [b'x' | b'e', ..] => quiet(&[Exit], &[Until::Unsupervised]),
        _ => return None,
    }))
}

/// Whether a request has had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// It has.
    Yes,
    /// It has, if `./check` agrees.
    IfChecked,
    /// Not yet.
    No,
}

/// Whether all of `until` is true of `status`. `before` is the status from before the request, if that was known.
pub(crate) fn effect(until: &[Until], status: &Status, before: Option<&Status>) -> Effect {
    until.iter().map(|&until| effect_of(until, status, before)).max().unwrap_or(Effect::Yes)
}

fn effect_of(until: Until, status: &Status, before: Option<&Status>) -> Effect {
    let yes_if = |is_true: bool| if is_true { Effect::Yes } else { Effect::No };
    let is_new = before.is_none_or(|before| before.since != status.since);
    let runs = status.pid.is_some();
    match until {
        Until::Up if runs && status.state == State::Run => Effect::IfChecked,
        Until::Up => Effect::No,
        Until::Down => yes_if(!runs && status.state == State::Down),
        Until::AsWanted => {
            effect_of(if wants_down(status) { Until::Down } else { Until::Up }, status, before)
        }
        Until::Replaced if !runs => yes_if(wants_down(status)),
        Until::Replaced if is_new && !status.term => Effect::IfChecked,
        Until::Replaced => Effect::No,
        Until::Once => yes_if(if runs { wants_down(status) } else { is_new }),
        Until::Paused => yes_if(!runs || status.paused),
        Until::Continued => yes_if(!runs || !status.paused),
        Until::Unsupervised => Effect::No,
    }
}

const fn wants_down(status: &Status) -> bool {
    matches!(status.want, Some(Want::Down | Want::Exit))
}

/// Whether `status` shows that what is asked for was asked for before, so that nothing need be sent. Source: sv(8) of
/// runit 2.1.2.
pub(crate) fn is_wanted_already(request: &Request, status: &Status) -> bool {
    match request.commands.first() {
        Some(Command::Up) => status.want == Some(Want::Up),
        // A service that runs once is not wanted up either.
        Some(Command::Down) => wants_down(status) && status.term,
        _ => false,
    }
}

/// Whether `status` shows a state that began since `before`, and that the service is wanted as the request has it. When
/// the time is over that counts as the effect, although nobody could see that the bytes were read: others may write
/// without end.
pub(crate) fn shows_effect(request: &Request, status: &Status, before: Option<&Status>) -> bool {
    let is_new = before.is_some_and(|before| before.since != status.since);
    is_new
        && match request.commands.last() {
            Some(Command::Up) => !wants_down(status),
            Some(Command::Down) => wants_down(status),
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;
    use svcore::tai::stamp;

    use super::*;

    fn bytes(word: &str) -> String {
        match verb(word.as_bytes(), false) {
            None => "usage".to_owned(),
            Some(Verb::Status) => "status".to_owned(),
            Some(Verb::Health) => "health".to_owned(),
            Some(Verb::Do(request)) => {
                let bytes = String::from_utf8(request.bytes()).unwrap();
                let wait = if request.waits == Waits::Always { "+" } else { "" };
                let kill = if request.kill { "!" } else { "" };
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
        assert_eq!(verb(b"status", true), Some(Verb::Status));
        assert_eq!(verb(b"stat", true), None);
        assert!(verb(b"condrestart", true).is_some());
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
        let Some(Verb::Do(restart)) = verb(b"restart", false) else { panic!("no verb") };
        let now = |status: &Status| effect(restart.until, status, Some(&old));
        assert_eq!(now(&old), Effect::No);
        assert_eq!(now(&told), Effect::No);
        assert_eq!(now(&ended), Effect::No);
        assert_eq!(now(&status(State::Finish, 9, 100)), Effect::No);
        assert_eq!(now(&new), Effect::IfChecked);
    }

    #[test]
    fn check_follows_what_is_wanted() {
        let mut down = status(State::Down, 0, 1);
        assert_eq!(effect(&[Until::AsWanted], &down, None), Effect::No);
        down.want = Some(Want::Down);
        assert_eq!(effect(&[Until::AsWanted], &down, None), Effect::Yes);
        assert_eq!(effect(&[Until::AsWanted], &status(State::Run, 7, 1), None), Effect::IfChecked);
    }

    #[test]
    fn once_is_over_when_it_runs_so_or_has_run() {
        let before = status(State::Down, 0, 1);
        let wants_down = |status: Status| Status { want: Some(Want::Down), ..status };
        assert_eq!(effect(&[Until::Once], &wants_down(before), Some(&before)), Effect::No);
        assert_eq!(effect(&[Until::Once], &wants_down(status(State::Run, 7, 2)), Some(&before)), Effect::Yes);
        assert_eq!(effect(&[Until::Once], &status(State::Run, 7, 2), Some(&before)), Effect::No);
        assert_eq!(
            effect(&[Until::Once], &wants_down(status(State::Down, 0, 3)), Some(&before)),
            Effect::Yes
        );
    }
}
