//! What is sent to services, and when that has had its effect. Without I/O. Source: sv(8).

use crate::control::Command;
use crate::status::{State, Status, Want};

/// When `sv` waits for the effect of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// With `-v` or `-w`.
    IfAsked,
    /// Always.
    Always,
}

/// What is sent to a service, and what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Written to `supervise/control` in one piece.
    pub commands: &'static [Command],
    /// What has to be true of the status in the end: all of these.
    pub until: &'static [Until],
    /// Whether that is waited for.
    pub waits: Waits,
    /// Whether KILL is sent when the time is over.
    pub kill: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// `./run` runs, and `./check` agrees.
    Up,
    /// No process runs that was told to end.
    NotEnding,
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

impl Request {
    /// Sends nothing, and waits until the service is as it is wanted.
    pub const CHECK: Request =
        Request { commands: &[], until: &[Until::AsWanted], waits: Waits::Always, kill: false };

    /// Kills the process, and does not wait for its end.
    pub const KILL: Request =
        Request { commands: &[Command::Kill], until: &[], waits: Waits::IfAsked, kill: false };

    /// The bytes to write.
    pub fn bytes(&self) -> Vec<u8> {
        self.commands.iter().flat_map(|command| command.bytes()).copied().collect()
    }

    /// Whether the supervisor is to leave.
    pub fn is_exit(&self) -> bool {
        self.commands == [Command::Exit]
    }

    /// Whether the service is to be up in the end, or as it is wanted.
    #[must_use]
    pub fn is_for_up(&self) -> bool {
        let is_for_up = |until| matches!(until, Until::Up | Until::Replaced | Until::AsWanted | Until::Once);
        self.until.iter().copied().any(is_for_up)
    }

    /// Whether the service is to end, and to stay down.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.commands, [Command::Down | Command::Exit])
    }

    /// Whether the service is to be started in the end, or started again.
    #[must_use]
    pub fn starts(&self) -> bool {
        self.commands.last() == Some(&Command::Up)
    }

    /// Whether the service is only to be started.
    pub fn is_up(&self) -> bool {
        self.commands == [Command::Up]
    }
}

/// Whether a request has had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It has.
    Yes,
    /// It has, if `./check` agrees.
    IfChecked,
    /// Not yet.
    No,
}

/// Whether all of `until` is true of `status`. `before` is the status from before the request, if that was known.
#[must_use]
pub fn effect(until: &[Until], status: &Status, before: Option<&Status>) -> Effect {
    until.iter().map(|&until| effect_of(until, status, before)).max().unwrap_or(Effect::Yes)
}

fn effect_of(until: Until, status: &Status, before: Option<&Status>) -> Effect {
    let yes_if = |is_true: bool| if is_true { Effect::Yes } else { Effect::No };
    let is_new = before.is_none_or(|before| before.since != status.since);
    let runs = status.pid.is_some();
    match until {
        Until::Up if runs && status.state == State::Run => Effect::IfChecked,
        Until::Up => Effect::No,
        Until::NotEnding => yes_if(!status.term),
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
#[must_use]
pub(crate) fn is_wanted_already(request: &Request, status: &Status) -> bool {
    match request.commands.first() {
        Some(Command::Up) => status.want == Some(Want::Up),
        // A service that runs once is not wanted up either.
        Some(Command::Down) => wants_down(status) && status.term,
        _ => false,
    }
}

/// Whether a service that was down has been started since `before`, and has ended.
#[must_use]
pub(crate) fn has_run(status: &Status, before: Option<&Status>) -> bool {
    before.is_some_and(|before| before.state == State::Down && before.since != status.since)
        && status.state != State::Run
}

/// Whether `status` shows a state that began since `before`, and that the service is wanted as the request has it. When
/// the time is over that counts as the effect, although nobody could see that the bytes were read: others may write
/// without end.
#[must_use]
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

    use super::*;
    use crate::tai::stamp;

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
        let restart = [Until::Replaced, Until::Continued, Until::Up];
        let now = |status: &Status| effect(&restart, status, Some(&old));
        assert_eq!(now(&old), Effect::No);
        assert_eq!(now(&told), Effect::No);
        assert_eq!(now(&ended), Effect::No);
        assert_eq!(now(&status(State::Finish, 9, 100)), Effect::No);
        assert_eq!(now(&new), Effect::IfChecked);
    }

    #[test]
    fn a_service_that_was_down_has_run_if_it_is_down_since_another_time() {
        let before = status(State::Down, 0, 1);
        assert!(!has_run(&before, Some(&before)));
        assert!(!has_run(&status(State::Run, 7, 2), Some(&before)));
        assert!(has_run(&status(State::Down, 0, 2), Some(&before)));
        assert!(has_run(&status(State::Finish, 7, 2), Some(&before)));
        // The end of a process that ran before tells nothing of the next.
        assert!(!has_run(&status(State::Down, 0, 2), Some(&status(State::Run, 7, 1))));
        assert!(!has_run(&before, None));
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
