//! `svctl wait`, `once` and `is-up`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use svcore::client::request::{Request, Until, Waits};
use svcore::client::{self, Base, Checker, MAIN, Supervisors, Target, end_of};
use svcore::control::Command;
use svcore::facts::End;
use svcore::listed::Listed;
use svcore::moment::{Moment, earlier};
use svcore::proc_stat::ProcStat;
use svcore::process::Ended;
use svcore::status::{State, Want};
use svcore::sys::clock;
use svcore::tai::{self, seconds_between};
use svcore::{Error, Result, say};

use super::act::patience;
use super::facts::{Condition, Service};
use super::options::Opt;
use super::screen::Progress;
use super::silent::Silent;
use super::tree::Tree;
use super::watching::{self, Next};
use super::{Asked, FAILED, NOT_UP, list, text, why};

/// How soon a `./check` that failed is run again.
const CHECK_AGAIN: Duration = Duration::from_millis(400);
/// How long `svctl once` waits for the start before it tells what is wrong.
const STARTING: Duration = Duration::from_secs(3);
/// The ages of a process and of what was told of it differ by no more seconds, which are whole ones.
const SAME_AGE: u64 = 2;
/// What a shell adds to the number of a signal.
const SIGNAL_CODE: i32 = 128;

/// What `svctl wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Up,
    Down,
    Ready,
    Done,
}

/// `svctl wait`.
pub(super) fn wait(asked: &Asked) -> Result {
    let patience = patience(&asked.given)?;
    let mut progress = Progress::new(&asked.given)?;
    let (word, names) = asked.names.split_first().ok_or_else(|| wrong_state("nothing"))?;
    let state = match word.as_bytes() {
        b"up" => For::Up,
        b"down" => For::Down,
        b"ready" => For::Ready,
        b"done" => For::Done,
        other => return Err(wrong_state(&text::escaped(other))),
    };
    let tree = Tree::new(&asked.given);
    let mut left = tree.to_change(&asked.given, names)?;
    let until = patience.map(|patience| clock::monotonic().saturating_add(patience));
    let word = text::escaped(word.as_bytes());
    let waiting = format!("waiting for it to be {word}");
    let mut look = Look::new(&tree);
    let unknown: Vec<OsString> = left.iter().filter(|name| !tree.has(name)).cloned().listed();
    if !unknown.is_empty() {
        look.report_failed(&unknown, &tree, "");
        return Ok(FAILED);
    }
    let words = left.clone();
    let mut has_failed = false;
    watching::each_change(&words, &tree, &mut |changed| {
        // A look without a name is one for a `./check`, or the last.
        let names = if changed.is_empty() { &left } else { changed };
        let mut settled = Vec::new();
        for service in &list::services(names, &tree) {
            if left.contains(&service.name) && look.is_there(service, state) {
                let name = text::escaped(service.name.as_bytes());
                progress.clear();
                say::out(&[format!("{name}: {}\n", service.in_words()).as_bytes()]);
                settled.push(service.name.clone());
            } else if left.contains(&service.name)
                && matches!(state, For::Ready | For::Done)
                && service.condition() == Condition::GivenUp
            {
                // Only a command starts it again.
                progress.clear();
                look.report_failed(std::slice::from_ref(&service.name), &tree, "");
                has_failed = true;
                settled.push(service.name.clone());
            }
        }
        left.retain(|name| !settled.contains(name));
        let now = clock::monotonic();
        Ok(match until {
            _ if left.is_empty() => Next::Stop,
            Some(until) if now >= until => Next::Stop,
            _ => {
                let first = left.first().map_or(&b""[..], |name| name.as_bytes());
                let shown = progress.show(first, left.len().saturating_sub(1), &waiting, patience, now);
                earlier(earlier(until, look.again(now)), shown).map_or(Next::Wait, Next::WaitUntil)
            }
        })
    })?;
    progress.clear();
    let seconds = patience.unwrap_or_default().as_secs();
    look.report_failed(&left, &tree, &format!("is not {word} within {seconds} s; "));
    Ok(if left.is_empty() && !has_failed { 0 } else { FAILED })
}

fn wrong_state(word: &str) -> Error {
    Error::Usage(Some(format!("wait needs up, down, ready or done, not {word}")))
}

/// Whether services are as they are waited for.
struct Look {
    base: Base,
    checker: Checker,
    supervisors: Supervisors,
    /// It is looked again although nothing changes: a `./check` failed, or a process has no supervisor.
    looks_again: bool,
}

impl Look {
    fn new(tree: &Tree) -> Self {
        Look {
            base: Base::at(tree.path().into()),
            checker: Checker::silent(),
            supervisors: Supervisors::default(),
            looks_again: false,
        }
    }

    fn is_there(&mut self, service: &Service, state: For) -> bool {
        let Some(status) = service.main.status() else {
            // Without a supervisor it is down. What is not there, or may not be looked at, is not known to be down.
            let is_unserved = matches!(service.condition(), Condition::Off | Condition::Unsupervised);
            let is_there = || Target::new(&service.name, &self.base).dir().is_ok();
            let is_left = self.left_behind(service).is_some();
            self.looks_again |= is_left;
            return state == For::Down && is_unserved && !is_left && is_there();
        };
        let is_down = status.state == State::Down && status.pid.is_none();
        let is_done = || service.main.facts().is_some_and(|facts| facts.done.is_some());
        match state {
            // One that is wanted up is started again, unless it was given up or is done.
            For::Down => {
                is_down
                    && matches!(
                        service.condition(),
                        Condition::Down | Condition::Off | Condition::GivenUp | Condition::Done
                    )
            }
            // A supervisor that does not tell of the end of a task leaves it down and unwanted.
            For::Done => is_down && (is_done() || status.want != Some(Want::Up)),
            For::Up => service.is_up() && !status.term,
            For::Ready if is_done() => true,
            For::Ready if !service.is_up() || status.term => false,
            For::Ready if service.main.is_ready().is_some() => true,
            For::Ready => {
                let agrees = self.agrees(&Target::new(&service.name, &self.base));
                self.looks_again |= !agrees;
                agrees
            }
        }
    }

    /// Reports services that are not as they were waited for; `late` are the words for it if the time is over.
    fn report_failed(&mut self, names: &[OsString], tree: &Tree, late: &str) {
        for service in list::services(names, tree) {
            let name = text::escaped(service.name.as_bytes());
            let (words, cause) = if let Some(pid) = self.left_behind(&service) {
                let words = "its process still runs, without a supervisor".to_owned();
                (words, format!("  mend: kill {pid}\n"))
            } else {
                let words = if late.is_empty() { service.in_words() } else { service.in_a_sentence() };
                (words, why::cause_lines(&service, &self.base, &mut self.supervisors))
            };
            say::out(&[format!("{name}: {late}{words}\n{cause}").as_bytes()]);
        }
    }

    /// The process of a service, if its supervisor was killed and it still runs.
    fn left_behind(&self, service: &Service) -> Option<i32> {
        if service.main.status().is_some() {
            return None;
        }
        let status = Target::new(&service.name, &self.base).read_status(&MAIN).ok()?;
        let pid = status.pid?.as_raw_nonzero().get();
        let age = ProcStat::of(pid).filter(|stat| !stat.is_zombie)?.age_in_seconds()?;
        // Another process may have the number by now.
        (seconds_between(&status.since, &tai::now()).abs_diff(age) <= SAME_AGE).then_some(pid)
    }

    fn agrees(&mut self, target: &Target) -> bool {
        let mut silent = Silent { base: &self.base, supervisors: &mut self.supervisors };
        self.checker.agrees(target, end_of(CHECK_AGAIN), &mut silent)
    }

    /// When to look again though nothing changed.
    fn again(&mut self, now: Moment) -> Option<Moment> {
        std::mem::take(&mut self.looks_again).then(|| now.saturating_add(CHECK_AGAIN))
    }
}

/// `svctl is-up`: prints nothing.
pub(super) fn is_up(asked: &Asked) -> Result {
    let tree = Tree::new(&asked.given);
    let names = tree.to_change(&asked.given, &asked.names)?;
    let services = list::services(&names, &tree);
    Ok(if services.iter().all(Service::is_up) { 0 } else { NOT_UP })
}

/// `svctl once`: exits as the task does.
pub(super) fn once(asked: &Asked) -> Result {
    let tree = Tree::new(&asked.given);
    let names = tree.selected(&asked.names)?;
    let [name] = names.as_slice() else {
        return Err(Error::Usage(Some("once runs one service".to_owned())));
    };
    let services = list::services(&names, &tree);
    let Some(before) = services.first() else { return Ok(FAILED) };
    let shown = text::escaped(name.as_bytes());
    let base = Base::at(tree.path().into());
    let mut supervisors = Supervisors::default();
    let Some(status) = before.main.status().copied() else {
        failed(&shown, before, &base, &mut supervisors);
        return Ok(FAILED);
    };
    if status.pid.is_some() || status.want == Some(Want::Up) {
        let already = if status.pid.is_some() { " already" } else { ", and it is wanted up" };
        let line = format!("{shown}: {}{already}; stop it first\n", before.in_words());
        say::out(&[line.as_bytes()]);
        return Ok(FAILED);
    }
    if asked.given.has(Opt::DryRun) {
        say::out(&[format!("{shown}: would be run once\n").as_bytes()]);
        return Ok(0);
    }
    let asked_patience = patience(&asked.given)?;
    let until = asked_patience.map(|patience| clock::monotonic().saturating_add(patience));
    let mut start = clock::monotonic().saturating_add(STARTING);
    send_once(
        &names,
        &base,
        asked_patience.map_or(STARTING, |patience| patience.min(STARTING)),
        &mut supervisors,
    );
    let mut ended = None;
    let mut has_started = false;
    watching::each_change(&names, &tree, &mut |_| {
        let services = list::services(&names, &tree);
        let Some(service) = services.first() else { return Ok(Next::Stop) };
        has_started |= has_run(before, service);
        ended = end_after(before, service);
        let now = clock::monotonic();
        if service.condition() == Condition::Waiting {
            // What it needs may take its time.
            start = now.saturating_add(STARTING);
        }
        let start = Some(start).filter(|_| !has_started);
        let is_over = |moment: Option<Moment>| moment.is_some_and(|moment| now >= moment);
        Ok(match until {
            _ if ended.is_some() || is_over(start) || is_over(until) => Next::Stop,
            _ if start.is_some() => earlier(start, until).map_or(Next::Wait, Next::WaitUntil),
            Some(until) => Next::WaitUntil(until),
            None => Next::Wait,
        })
    })?;
    Ok(match ended {
        Some(Outcome::Ended(Ended::Code(code))) => code,
        Some(Outcome::Ended(Ended::Signal { signal, .. })) => {
            say::out(&[format!("{shown}: ended by signal {}\n", text::signal_name(signal)).as_bytes()]);
            u8::try_from(SIGNAL_CODE.saturating_add(signal.number())).unwrap_or(FAILED)
        }
        Some(Outcome::Unknown) => {
            say::out(&[format!("{shown}: ended; its supervisor does not tell how\n").as_bytes()]);
            FAILED
        }
        None => {
            let services = list::services(&names, &tree);
            services.first().iter().for_each(|service| failed(&shown, service, &base, &mut supervisors));
            FAILED
        }
    })
}

fn failed(shown: &str, service: &Service, base: &Base, supervisors: &mut Supervisors) {
    let line = format!("{shown}: {}\n", service.in_words());
    say::out(&[line.as_bytes(), why::cause_lines(service, base, supervisors).as_bytes()]);
}

/// Sends the command to run once, and waits until it is executed.
fn send_once(names: &[OsString], base: &Base, patience: Duration, supervisors: &mut Supervisors) {
    const ONCE: Request =
        Request { commands: &[Command::Once], until: &[Until::Once], waits: Waits::Always, kill: false };
    let mut silent = Silent { base, supervisors };
    client::act(names, &ONCE, true, patience, &mut silent);
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ended(Ended),
    /// The supervisor does not tell.
    Unknown,
}

/// Whether a process was started since `before`.
fn has_run(before: &Service, now: &Service) -> bool {
    let since = |service: &Service| service.main.status().map(|status| status.since);
    now.main.status().is_some_and(|status| status.pid.is_some()) || since(before) != since(now)
}

/// How the task ended that was started after `before`; `None` while it runs.
fn end_after(before: &Service, now: &Service) -> Option<Outcome> {
    let last = |service: &Service| -> Option<End> { service.main.facts()?.ends.first().copied() };
    let status = now.main.status()?;
    if status.state != State::Down || !has_run(before, now) {
        return None;
    }
    match last(now) {
        Some(end) if last(before) != Some(end) => Some(Outcome::Ended(end.how)),
        _ => Some(Outcome::Unknown),
    }
}
