//! `svctl start`, `stop`, `restart`, `reload`, `kill` and `reset`: sent to all services first, then waited for together.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use svcore::client::request::{Request, Until, Waits};
use svcore::client::{self, Base, MAIN, Observer, Supervisors, Target, Trouble, View};
use svcore::control::Command;
use svcore::event::{self, Wait};
use svcore::listed::Listed;
use svcore::moment::{Moment, earlier};
use svcore::status::{State, Status, Want};
use svcore::sys::clock;
use svcore::tai;
use svcore::{Error, Result, Signal, decimal, say};

use super::facts::{Condition, Service, Supervising, pid_number};
use super::options::{Given, Opt};
use super::screen::Progress;
use super::silent::Silent;
use super::started::Started;
use super::tree::Tree;
use super::{Asked, FAILED, list, text, why};

/// How long to wait if neither `-w` nor `SVWAIT` says so, in seconds.
const PATIENCE: u64 = 10;
/// How long the end may take after KILL.
const KILLED: Duration = Duration::from_secs(5);
/// How long a supervisor may take to read what was sent to it before.
const FULL: Duration = Duration::from_secs(1);
/// What is reported of a service that has ended before it had run for a moment.
const AT_ONCE: &str = "ended at once";

/// `svctl start`.
pub(super) fn start(asked: &Asked) -> Result {
    act(asked, &STARTING)
}

/// `svctl start` of these services.
pub(super) fn start_these(asked: &Asked, tree: &Tree, names: &[OsString]) -> Result {
    act_on(asked, tree, names, &STARTING)
}

/// `svctl stop`.
pub(super) fn stop(asked: &Asked) -> Result {
    act(asked, &STOPPING)
}

/// `svctl restart`.
pub(super) fn restart(asked: &Asked) -> Result {
    act(asked, &RESTARTING)
}

/// `svctl reload`.
pub(super) fn reload(asked: &Asked) -> Result {
    act(asked, &sending(&[Command::Send(Signal::HUP)], "HUP"))
}

/// `svctl reset`: starts services that were given up, and leaves others alone.
pub(super) fn reset(asked: &Asked) -> Result {
    act(asked, &RESETTING)
}

/// `svctl kill`.
pub(super) fn kill(asked: &Asked) -> Result {
    let word = asked.given.value(Opt::Signal).unwrap_or(OsStr::new("TERM"));
    let signal = word.to_str().and_then(Signal::from_text);
    let commands = signal.and_then(commands_of).ok_or_else(|| {
        let word = text::escaped(word.as_bytes());
        let why = format!("a supervisor sends TERM HUP INT QUIT ALRM USR1 USR2 KILL STOP CONT, not {word}");
        Error::Usage(Some(why))
    })?;
    act(asked, &sending(commands, &signal.map(text::signal_name).unwrap_or_default()))
}

/// What makes a supervisor send a signal.
fn commands_of(signal: Signal) -> Option<&'static [Command]> {
    const COMMANDS: [&[Command]; 10] = [
        &[Command::Term],
        &[Command::Send(Signal::HUP)],
        &[Command::Send(Signal::INT)],
        &[Command::Send(Signal::QUIT)],
        &[Command::Send(Signal::ALRM)],
        &[Command::Send(Signal::USR1)],
        &[Command::Send(Signal::USR2)],
        &[Command::Kill],
        &[Command::Pause],
        &[Command::Continue],
    ];
    let signal_of = |command: &Command| match command {
        Command::Term => Signal::from_text("TERM"),
        Command::Kill => Some(Signal::KILL),
        Command::Pause => Signal::from_text("STOP"),
        Command::Continue => Some(Signal::CONT),
        Command::Send(signal) => Some(*signal),
        _ => None,
    };
    COMMANDS.into_iter().find(|commands| commands.first().and_then(signal_of) == Some(signal))
}

/// What is done to services.
#[derive(Debug, Clone)]
struct Deed {
    request: Request,
    /// The signal that is sent, if that is all: it is reported as sent. Otherwise it is reported how the service is then.
    signal: Option<String>,
    /// What is waited for, as in "web: waiting for it to end".
    waiting: &'static str,
    /// What is reported if it did not happen, as in "web: did not end within 10 s".
    missing: &'static str,
    /// What would be done, for `--dry-run`, as in "would be started".
    would: &'static str,
    /// Only services that were given up are meant.
    only_given_up: bool,
    /// Only services that run are meant.
    only_running: bool,
}

const STARTING: Deed = Deed {
    request: Request {
        commands: &[Command::Up],
        // A process that was told to end before is not the one that counts, and one that is paused is not up.
        until: &[Until::Up, Until::NotEnding, Until::Continued],
        waits: Waits::Always,
        kill: false,
    },
    signal: None,
    waiting: "waiting for it to be up",
    missing: "is not up",
    would: "be started",
    only_given_up: false,
    only_running: false,
};

const STOPPING: Deed = Deed {
    request: Request { commands: &[Command::Down], until: &[Until::Down], waits: Waits::Always, kill: false },
    waiting: "waiting for it to end",
    missing: "did not end",
    would: "be stopped",
    ..STARTING
};

const RESTARTING: Deed = Deed {
    request: Request {
        commands: &[Command::Restart, Command::Up],
        until: &[Until::Replaced, Until::Continued, Until::Up],
        waits: Waits::Always,
        kill: false,
    },
    waiting: "waiting for it to end and to be up again",
    missing: "did not restart",
    would: "be restarted",
    ..STARTING
};

const RESETTING: Deed = Deed { only_given_up: true, ..STARTING };

/// Commands whose effect on the process nobody can see.
fn sending(commands: &'static [Command], signal: &str) -> Deed {
    Deed {
        request: Request { commands, until: &[], waits: Waits::Always, kill: false },
        signal: Some(signal.to_owned()),
        waiting: "waiting for its supervisor",
        missing: "its supervisor did not answer",
        would: "get ",
        only_given_up: false,
        only_running: true,
    }
}

/// How long to wait.
pub(super) fn patience(given: &Given) -> Result<Option<Duration>> {
    let Some(word) = given.value(Opt::Wait) else { return Ok(None) };
    match decimal::whole(word.as_bytes()).filter(|_| !word.is_empty()) {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => {
            let word = text::escaped(word.as_bytes());
            Err(Error::Usage(Some(format!("--wait is a number of seconds, not {word}"))))
        }
    }
}

/// How long to wait, where nothing is asked for.
pub(super) fn usual_patience() -> Duration {
    let seconds = std::env::var_os("SVWAIT").map(|text| decimal::leading(text.as_bytes()).0);
    Duration::from_secs(seconds.unwrap_or(PATIENCE))
}

fn act(asked: &Asked, deed: &Deed) -> Result {
    let tree = Tree::new(&asked.given);
    let names = tree.to_change(&asked.given, &asked.names)?;
    act_on(asked, &tree, &names, deed)
}

fn act_on(asked: &Asked, tree: &Tree, names: &[OsString], deed: &Deed) -> Result {
    let patience = patience(&asked.given)?.unwrap_or_else(usual_patience);
    let mut reporter = Reporter::new(asked, tree, deed, patience)?;
    let (meant, mut out) = (meant(names, tree, deed), String::new());
    let (mut left, mut hopeless) = (Vec::new(), Vec::new());
    for (service, is_meant) in meant {
        if let Err(why) = is_meant {
            reporter.has_failed |= service.condition() == Condition::Finishing;
            out += &format!("{}: {why}\n", text::escaped(service.name.as_bytes()));
        } else if asked.given.has(Opt::DryRun) {
            let name = text::escaped(service.name.as_bytes());
            let signal = deed.signal.as_deref().unwrap_or_default();
            out += &format!("{name}: would {}{signal}; {} now\n", deed.would, service.in_a_sentence());
        } else if deed.request.is_for_up() && why::cannot_start(&service, &reporter.base) {
            hopeless.push(service.name);
        } else {
            left.push(service.name);
        }
    }
    reporter.say(&out);
    if deed.request.is_up() {
        resume(&left, &reporter.base, &mut reporter.supervisors);
    }
    client::act(&hopeless, &deed.request, false, patience, &mut reporter);
    for name in &hopeless {
        reporter.cannot_start(name);
    }
    client::act(&left, &deed.request, true, patience, &mut reporter);
    reporter.wait_for_started();
    reporter.progress.clear();
    if reporter.progress.kills && !reporter.late.is_empty() {
        reporter.kill_late(deed);
    }
    Ok(if reporter.has_failed { FAILED } else { 0 })
}

/// Lets those of the services go on that were paused. That is not waited for.
pub(super) fn resume(names: &[OsString], base: &Base, supervisors: &mut Supervisors) {
    const RESUMING: Request =
        Request { commands: &[Command::Continue], until: &[], waits: Waits::IfAsked, kill: false };
    for name in names {
        if Target::new(name, base).status(&MAIN).is_ok_and(|status| status.paused) {
            let mut silent = Silent { base, supervisors };
            client::act(std::slice::from_ref(name), &RESUMING, false, FULL, &mut silent);
        }
    }
}

/// The services with what keeps each from being meant.
fn meant(names: &[OsString], tree: &Tree, deed: &Deed) -> Vec<(Service, Result<(), String>)> {
    let services = list::services(names, tree).into_iter();
    let meant = services.map(|service| {
        let condition = service.condition();
        let is_served = service.main.status().is_some();
        let runs = service.main.status().is_some_and(|status| status.pid.is_some());
        let why = match () {
            () if is_served && deed.only_given_up && condition != Condition::GivenUp => {
                Err(format!("was not given up, {}", service.in_a_sentence()))
            }
            // A supervisor sends nothing to `./finish`.
            () if is_served && deed.only_running && (!runs || condition == Condition::Finishing) => {
                Err(format!("{}, nothing is sent", service.in_words()))
            }
            () => Ok(()),
        };
        (service, why)
    });
    meant.listed()
}

/// Reports what becomes of services.
struct Reporter<'a> {
    base: Base,
    supervisors: Supervisors,
    progress: Progress,
    deed: &'a Deed,
    patience: Duration,
    /// These did not end in time.
    late: Vec<OsString>,
    /// These run, and are not reported as up before they have run for a moment.
    started: Vec<Started>,
    out: String,
    has_failed: bool,
}

impl<'a> Reporter<'a> {
    fn new(asked: &Asked, tree: &Tree, deed: &'a Deed, patience: Duration) -> Result<Self> {
        Ok(Reporter {
            base: Base::at(tree.path().into()),
            supervisors: Supervisors::default(),
            progress: Progress::new(&asked.given)?,
            deed,
            patience,
            late: Vec::new(),
            started: Vec::new(),
            out: String::new(),
            has_failed: false,
        })
    }

    /// Prints lines, in place of what showed the progress.
    fn say(&mut self, lines: &str) {
        if !lines.is_empty() {
            self.progress.clear();
            say::out(&[lines.as_bytes()]);
        }
    }

    fn line(&mut self, target: &Target, words: &str) {
        self.out += &format!("{}: {words}\n", text::escaped(&target.typed));
    }

    /// A service as it is now.
    fn look(&self, target: &Target) -> Service {
        let name = OsStr::from_bytes(&target.typed);
        Service::look(name, &self.base, tai::now(), &mut Supervising::default())
    }

    /// Adds the cause, if it is known, and what to do.
    fn add_cause(&mut self, target: &Target) {
        let service = self.look(target);
        self.out += &why::cause_lines(&service, &self.base, &mut self.supervisors);
    }

    /// Reports that a service cannot be started, and why: it is wanted up now, and nothing is waited for.
    fn cannot_start(&mut self, name: &OsStr) {
        let target = Target::new(name, &self.base);
        self.line(&target, "cannot be started");
        let service = self.look(&target);
        self.add_cause_of_start(&service);
        self.flush();
    }

    /// Adds the cause why a service that is wanted up is not, if it is known, and what to do.
    fn add_cause_of_start(&mut self, service: &Service) {
        self.out += &why::cause_lines_of_start(service, &self.base, &mut self.supervisors);
        self.has_failed = true;
    }

    /// Waits until each service that runs has run for long enough, or has ended, and reports it.
    fn wait_for_started(&mut self) {
        while let Some(until) = self.report_started(clock::monotonic()) {
            self.flush();
            event::wait(&mut [], Wait::Until(until));
        }
        self.flush();
    }

    /// Reports those that have run for long enough, or have ended since their start. Returns when to look again.
    fn report_started(&mut self, now: Moment) -> Option<Moment> {
        let (due, young) = std::mem::take(&mut self.started).into_iter().partition(|it| it.until <= now);
        self.started = young;
        for started in due {
            self.report_after_start(&started);
        }
        self.started.iter().map(|started| started.until).min()
    }

    fn report_after_start(&mut self, started: &Started) {
        let target = Target::new(&started.name, &self.base);
        let service = self.look(&target);
        match service.main.status() {
            Some(status) if started.still_runs(status) => self.up(&target, status),
            // A task.
            _ if service.condition() == Condition::Done => self.line(&target, Condition::Done.word()),
            _ => self.ended(&target, AT_ONCE),
        }
    }

    /// Reports that a service was started and has ended; `how` are the words for it.
    fn ended(&mut self, target: &Target, how: &str) {
        let service = self.look(target);
        let runs = service.main.status().is_some_and(|status| status.state == State::Run);
        let now = if runs { "it was started again".to_owned() } else { service.in_a_sentence() };
        self.line(target, &format!("{how}; {now}"));
        match service.condition() {
            Condition::Up
            | Condition::NotReady
            | Condition::Restarting
            | Condition::Flapping
            | Condition::Finishing => {
                self.add_cause_of_start(&service);
            }
            _ => self.add_cause(target),
        }
        self.has_failed = true;
    }

    fn up(&mut self, target: &Target, status: &Status) {
        let pid = status.pid.map_or(0, pid_number);
        self.line(target, &format!("up, pid {pid}"));
    }

    /// Shows on a terminal what is waited for. Returns when that is to change.
    fn show_progress(&mut self, targets: &mut dyn Iterator<Item = &Target>, now: Moment) -> Option<Moment> {
        self.flush();
        let first = targets.next()?;
        self.progress.show(&first.typed, targets.count(), self.deed.waiting, Some(self.patience), now)
    }

    /// Sends KILL to the services that are late, and waits again.
    fn kill_late(&mut self, deed: &Deed) {
        let names = std::mem::take(&mut self.late);
        let killing =
            Deed { request: Request { commands: &[Command::Kill], ..deed.request }, ..deed.clone() };
        self.progress.kills = false;
        self.patience = KILLED;
        self.progress.begin = clock::monotonic();
        client::act(&names, &killing.request, true, KILLED, self);
        self.wait_for_started();
        self.progress.clear();
    }
}

impl Observer for Reporter<'_> {
    fn directories(&mut self) -> (&Base, &mut Supervisors) {
        (&self.base, &mut self.supervisors)
    }

    fn done(&mut self, target: &Target, view: &View) {
        let status = &view.status;
        if let Some(signal) = &self.deed.signal {
            self.line(target, &format!("sent {signal}"));
        } else if !self.deed.request.is_for_up() {
            self.line(target, "down");
        } else if let Some(started) = Started::new(target, view) {
            self.started.push(started);
        } else if status.state == State::Run && status.pid.is_some() {
            self.up(target, status);
        } else if view.facts().done.is_some() {
            self.line(target, Condition::Done.word());
        } else {
            // It has ended while its `./check` ran.
            self.ended(target, AT_ONCE);
        }
    }

    fn has_ended(&mut self, target: &Target, was_seen: bool) -> bool {
        self.ended(target, if was_seen { "ended before it was up" } else { AT_ONCE });
        true
    }

    fn late(&mut self, target: &Target, View { status, .. }: &View, _killed: bool) {
        let seconds = self.patience.as_secs();
        let words = format!("{} within {seconds} s", self.deed.missing);
        // A supervisor sends no KILL to `./finish`.
        let is_asked = status.want != Some(Want::Up) || status.term;
        if self.progress.kills && status.state == State::Run && is_asked {
            self.line(target, &format!("{words}; sent KILL"));
            self.late.push(OsStr::from_bytes(&target.typed).to_owned());
            return;
        }
        let service = self.look(target);
        self.line(target, &format!("{words}; {}", service.in_a_sentence()));
        self.add_cause(target);
        self.has_failed = true;
    }

    fn given_up(&mut self, target: &Target, _view: &View) {
        let service = self.look(target);
        self.line(target, &service.in_words());
        self.add_cause(target);
        self.has_failed = true;
    }

    fn has_left(&mut self, target: &Target) {
        self.line(target, "not supervised any more");
    }

    fn trouble(&mut self, target: &Target, _trouble: &Trouble) {
        let service = self.look(target);
        self.line(target, &service.in_words());
        self.add_cause(target);
        self.has_failed = true;
    }

    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.out);
        self.say(&lines);
    }

    fn waits_for(&mut self, targets: &mut dyn Iterator<Item = &Target>, now: Moment) -> Option<Moment> {
        earlier(self.report_started(now), self.show_progress(targets, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_sends_ten_signals() {
        for name in ["TERM", "HUP", "INT", "QUIT", "ALRM", "USR1", "USR2", "KILL", "STOP", "CONT"] {
            assert!(commands_of(Signal::from_text(name).unwrap()).is_some(), "{name}");
        }
        assert!(commands_of(Signal::from_text("WINCH").unwrap()).is_none());
    }
}
