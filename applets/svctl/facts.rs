//! What is known of a service. What nobody tells is absent, never wrong.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, stat, statvfs};
use rustix::process::Pid;
use svcore::client::{Base, LOG, MAIN, Part, Target, Trouble, View};
use svcore::facts::{Facts, Readiness};
use svcore::listed::Listed;
use svcore::policy::{self, PolicyFile};
use svcore::proc_stat::{ProcStat, Tag};
use svcore::status::{State, Status, Want};
use svcore::tai::{Tai64N, seconds_between};
use svcore::{files, trust};

use super::json::Object;
use super::map::Map;
use super::text;

/// How many seconds a service may take until it is ready, if it does not say how many.
const TIME_TO_BE_READY: u64 = 10;
/// The longest command line that is read.
const COMMAND_MAX: usize = 4096;

/// A service, at one moment.
#[derive(Debug)]
pub(super) struct Service {
    /// Its name as in the directory, or as typed.
    pub(super) name: OsString,
    /// Where its directory is.
    pub(super) path: Vec<u8>,
    pub(super) main: Unit,
    /// Its log service, if it has a directory `log`.
    pub(super) log: Option<Unit>,
    /// What its process executes: name and arguments.
    pub(super) command: Vec<Vec<u8>>,
    /// The name and the number of its supervisor, if that is stopped by a signal.
    pub(super) stopped_supervisor: Option<(String, i32)>,
    /// The directory of its log, if nothing more can be written there. It is looked at by `list`, `status` and `why`.
    pub(super) full_log: Option<String>,
    /// When that was looked at.
    pub(super) now: Tai64N,
}

/// What is known of a service without its log service, or of its log service.
#[derive(Debug)]
pub(super) struct Unit {
    /// What its supervisor tells, or why there is none.
    pub(super) told: Result<Told, Trouble>,
    /// Whether it has a file `down`; `None` if it does not exist, or may not be looked at.
    pub(super) has_down: Option<bool>,
    /// It counts as one that exits too often until then.
    flaps_until: Option<Tai64N>,
    /// How many seconds it may take until it is ready.
    time_to_be_ready: u64,
}

/// What a supervisor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: Status,
    pub(super) facts: Facts,
}

/// How a service is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// It runs, and is ready if it can tell.
    Up,
    /// It runs, and has not told that it is ready.
    NotReady,
    /// It was stopped by SIGSTOP.
    Paused,
    /// It runs, and was told to end.
    Stopping,
    /// It ended, and `./finish` runs.
    Finishing,
    /// It is down, as it should be.
    Down,
    /// It is down, and will be started again.
    Restarting,
    /// It runs, and exits too often.
    Flapping,
    /// It is not started before others are ready.
    Waiting,
    /// It is not started any more.
    GivenUp,
    /// It was a task, and is done.
    Done,
    /// No supervisor serves it.
    Unsupervised,
    /// It has no supervisor, and a file `down`.
    Off,
    /// We may not know, or the files are broken.
    Unknown,
}

impl Unit {
    fn new(target: &Target, part: &Part) -> Self {
        let view = target.view(part);
        let flaps_until = view.as_ref().ok().and_then(View::flaps_until);
        let told = view.map(|view| {
            let (status, mut facts) = view.into_told();
            // Only a process that runs can tell whether it is ready.
            facts.readiness = facts.readiness.filter(|_| status.state == State::Run);
            Told { status, facts }
        });
        let has_down = target.has_down(part).ok();
        let is_not_ready = |told: &Told| !part.is_log() && told.facts.readiness == Some(Readiness::NotReady);
        let time_to_be_ready = told.as_ref().is_ok_and(is_not_ready).then(|| time_to_be_ready(target));
        let time_to_be_ready = time_to_be_ready.flatten().unwrap_or(TIME_TO_BE_READY);
        Unit { told, has_down, flaps_until, time_to_be_ready }
    }

    /// How it is at this moment.
    pub(super) fn condition(&self, now: &Tai64N) -> Condition {
        let Told { status, facts } = match &self.told {
            Ok(told) => told,
            Err(Trouble::BadFormat | Trouble::Unable(..)) if !self.is_missing() => return Condition::Unknown,
            Err(_) if self.has_down() => return Condition::Off,
            Err(_) => return Condition::Unsupervised,
        };
        let is_wanted = status.want == Some(Want::Up);
        let flaps = self.flaps_until.is_some_and(|until| *now < until);
        match status.state {
            State::Down if facts.given_up.is_some() => Condition::GivenUp,
            // A command to end it lets it go on, which the record does not tell.
            State::Run
                if status.pid.is_some()
                    && status.paused
                    && !(status.term && status.want == Some(Want::Down)) =>
            {
                Condition::Paused
            }
            State::Run if status.pid.is_some() && (status.term || status.want == Some(Want::Exit)) => {
                Condition::Stopping
            }
            State::Run if status.pid.is_some() && flaps => Condition::Flapping,
            State::Run if status.pid.is_some() && facts.readiness == Some(Readiness::NotReady) => {
                Condition::NotReady
            }
            State::Run if status.pid.is_some() => Condition::Up,
            State::Finish if status.pid.is_some() => Condition::Finishing,
            _ if facts.done.is_some() => Condition::Done,
            // Also one that is to run once, which is not wanted up.
            _ if !facts.waits.is_empty() => Condition::Waiting,
            _ if is_wanted && flaps => Condition::Flapping,
            _ if is_wanted => Condition::Restarting,
            _ => Condition::Down,
        }
    }

    /// Whether there is no supervisor because nothing of one is there.
    fn is_missing(&self) -> bool {
        match &self.told {
            Err(Trouble::Unable(_, error)) => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether there is a file `down`.
    pub(super) fn has_down(&self) -> bool {
        self.has_down == Some(true)
    }

    /// Its status, if a supervisor tells it.
    pub(super) fn status(&self) -> Option<&Status> {
        self.told.as_ref().ok().map(|told| &told.status)
    }

    /// What its supervisor tells beside the status; nothing where it has none.
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.told.as_ref().ok().map(|told| &told.facts)
    }

    /// How often it was started again, if that is known.
    pub(super) fn restarts(&self) -> Option<u64> {
        self.facts().filter(|facts| facts.starts > 0).map(|facts| facts.starts.saturating_sub(1))
    }

    /// Whether it is ready, if it can tell.
    pub(super) fn is_ready(&self) -> Option<bool> {
        let readiness = self.facts()?.readiness?;
        Some(matches!(readiness, Readiness::Ready(_)))
    }

    /// Whether it is wanted up and is not, or exits too often.
    pub(super) fn has_problem(&self, now: &Tai64N) -> bool {
        let is_wanted = self.status().is_none_or(|status| status.want == Some(Want::Up));
        let age = self.status().map_or(0, |status| seconds_between(&status.since, now));
        match self.condition(now) {
            Condition::NotReady => is_wanted && age >= self.time_to_be_ready,
            Condition::Up | Condition::Stopping | Condition::Down | Condition::Off | Condition::Done => false,
            Condition::Finishing => is_wanted,
            Condition::Paused
            | Condition::Restarting
            | Condition::Flapping
            | Condition::Waiting
            | Condition::GivenUp
            | Condition::Unsupervised
            | Condition::Unknown => true,
        }
    }
}

impl Condition {
    /// In words, for the table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::NotReady => "not ready",
            Condition::Paused => "paused",
            Condition::Stopping => "stopping",
            Condition::Finishing => "finishing",
            Condition::Down | Condition::Off => "down",
            Condition::Restarting => "restarting",
            Condition::Flapping => "flapping",
            Condition::Waiting => "waiting",
            Condition::GivenUp => "given up",
            Condition::Done => "done",
            Condition::Unsupervised => "not supervised",
            Condition::Unknown => "unknown",
        }
    }
}

/// Supervisors by their numbers: whether a process of this number is one.
#[derive(Debug, Default)]
pub(super) struct Supervising(Map<i32, Option<Supervisor>>);

/// A supervisor: its name, and whether it is stopped by a signal.
#[derive(Debug, Clone)]
struct Supervisor {
    name: &'static str,
    is_stopped: bool,
}

impl Supervising {
    /// Whether `pid` is the number of a supervisor. Its children are those of services.
    pub(super) fn is_supervisor(&mut self, pid: i32) -> bool {
        self.supervisor(pid).is_some()
    }

    /// The name of the supervisor of this number, if it is one that is stopped by a signal.
    pub(super) fn stopped(&mut self, pid: i32) -> Option<&'static str> {
        self.supervisor(pid).filter(|supervisor| supervisor.is_stopped).map(|supervisor| supervisor.name)
    }

    fn supervisor(&mut self, pid: i32) -> Option<Supervisor> {
        if let Some(known) = self.0.get(&pid) {
            return known.clone();
        }
        let supervisor = ProcStat::of(pid).and_then(|stat| {
            let name = ["runsv", "runsvinit"].into_iter().find(|name| name.as_bytes() == stat.name)?;
            Some(Supervisor { name, is_stopped: stat.is_stopped })
        });
        self.0.set(pid, supervisor.clone());
        supervisor
    }
}

impl Service {
    /// Looks at the service that a name in `base`, or a path, means.
    pub(super) fn look(name: &OsStr, base: &Base, now: Tai64N, supervising: &mut Supervising) -> Self {
        let target = Target::new(name, base);
        let main = Unit::new(&target, &MAIN);
        let has_log = matches!(target.look(c"log"), Ok(Some(stat)) if files::is_dir(&stat));
        let log = has_log.then(|| Unit::new(&target, &LOG));
        let pid = main.status().and_then(|status| status.pid);
        let command = pid.map_or_else(Vec::new, |pid| command(pid, supervising));
        let stopped_supervisor = stopped_supervisor(&main, supervising);
        let (name, path) = (name.to_owned(), target.path);
        Service { name, path, main, log, command, stopped_supervisor, full_log: None, now }
    }

    /// How it is.
    pub(super) fn condition(&self) -> Condition {
        self.main.condition(&self.now)
    }

    /// Whether it is up: it runs, and has told that it is ready if it can tell.
    pub(super) fn is_up(&self) -> bool {
        let runs = |status: &Status| status.state == State::Run && status.pid.is_some() && !status.paused;
        self.main.status().is_some_and(runs) && self.main.is_ready() != Some(false)
    }

    /// Whether something is wrong with it or with its log service.
    pub(super) fn has_problem(&self) -> bool {
        self.main.has_problem(&self.now)
            || self.log_has_problem()
            || self.stopped_supervisor.is_some()
            || self.full_log.is_some()
    }

    /// Whether something is wrong with its log service. It may be missing where there is no supervisor at all. If it is down,
    /// nobody reads what the service writes.
    pub(super) fn log_has_problem(&self) -> bool {
        let (Some(log), Some(status)) = (&self.log, self.main.status()) else { return false };
        let writes = status.state == State::Run && status.pid.is_some();
        match log.condition(&self.now) {
            // Whoever may control the service may have no access to its log service.
            Condition::Unknown => false,
            Condition::Down | Condition::Off => writes,
            _ => log.has_problem(&self.now),
        }
    }

    /// Seconds since its state began.
    pub(super) fn age(&self) -> Option<u64> {
        self.main.status().map(|status| seconds_between(&status.since, &self.now))
    }

    /// How it is, in words, with all that belongs to it.
    pub(super) fn in_words(&self) -> String {
        let facts = self.main.facts();
        let condition = self.condition();
        match (condition, facts) {
            (Condition::Waiting, Some(facts)) => {
                let names: Vec<String> = facts.waits.iter().map(|name| text::escaped(name)).listed();
                format!("waits for {}", names.join(", "))
            }
            (Condition::GivenUp, Some(facts)) => {
                let reason = facts.given_up.as_deref().unwrap_or_default();
                format!("given up: {}", text::escaped(reason.as_bytes()))
            }
            _ if self.stopped_supervisor.is_some() => {
                format!("{}; its supervisor is stopped", condition.word())
            }
            _ => condition.word().to_owned(),
        }
    }

    /// The same as a sentence: `it is up`.
    pub(super) fn in_a_sentence(&self) -> String {
        let words = self.in_words();
        match self.condition() {
            Condition::Waiting => format!("it {words}"),
            Condition::GivenUp => format!("it was {words}"),
            _ => format!("it is {words}"),
        }
    }

    /// Writes all that is known.
    pub(super) fn write(&self, object: &mut Object<'_>) {
        object.bytes("name", self.name.as_bytes());
        object.bytes("path", &self.path);
        object.text("condition", self.condition().word());
        object.boolean("problem", self.has_problem());
        object.boolean("up", self.is_up());
        self.write_unit(&self.main, object);
        if let Some(log) = &self.log {
            object.object("log", &mut |object| {
                object.text("condition", log.condition(&self.now).word());
                self.write_unit(log, object);
            });
        }
        if !self.command.is_empty() {
            object.list("command", &self.command);
        }
    }

    fn write_unit(&self, unit: &Unit, object: &mut Object<'_>) {
        if let Some(has_down) = unit.has_down {
            object.boolean("enabled", !has_down);
        }
        object.boolean("supervised", unit.told.is_ok());
        let Ok(Told { status, facts }) = &unit.told else { return };
        object.text(
            "state",
            match status.state {
                State::Down => "down",
                State::Run => "run",
                State::Finish => "finish",
            },
        );
        if let Some(want) = status.want {
            object.text("want", if want == Want::Up { "up" } else { "down" });
        }
        if let Some(pid) = status.pid {
            object.number("pid", pid_number(pid));
        }
        object.text("since", &text::time(&status.since));
        object.number("age", seconds_between(&status.since, &self.now));
        object.boolean("paused", status.paused);
        object.boolean("got_term", status.term);
        match &facts.readiness {
            Some(Readiness::Ready(at)) => {
                object.boolean("ready", true);
                object.text("ready_since", &text::time(at));
            }
            Some(Readiness::NotReady) => object.boolean("ready", false),
            None => {}
        }
        if let Some(at) = &facts.done {
            object.text("done", &text::time(at));
        }
        if let Some(reason) = &facts.given_up {
            object.bytes("given_up", reason.as_bytes());
        }
        if !facts.waits.is_empty() {
            object.list("waits_for", &facts.waits);
        }
        if let Some(message) = &facts.message {
            object.bytes("message", message);
        }
        if let Some(pid) = facts.main_pid {
            object.number("main_pid", pid.into());
        }
        if facts.starts > 0 {
            object.number("starts", facts.starts);
        }
        if let Some(restarts) = unit.restarts() {
            object.number("restarts", restarts);
        }
        if !facts.ends.is_empty() {
            object.objects("ends", &facts.ends, |object, end| {
                object.text("at", &text::time(&end.at));
                match end.how {
                    svcore::process::Ended::Code(code) => object.number("code", code.into()),
                    svcore::process::Ended::Signal { signal, .. } => {
                        object.text("signal", &text::signal_name(signal));
                    }
                }
                object.seconds("uptime", end.uptime);
            });
        }
    }
}

/// After how many seconds a supervisor should have ended a service that is not ready, if a file `timeout-ready` says so.
fn time_to_be_ready(target: &Target) -> Option<u64> {
    let file = trust::open_content(target.dir().ok()?, PolicyFile::TimeoutReady.name()).ok()?;
    let text = trust::read_at_most(&file, COMMAND_MAX).ok()?;
    // The supervisor needs a moment for that.
    Some(policy::millis(&text).ok()?.as_secs().saturating_add(2))
}

/// The supervisor of a service, if it is stopped by a signal: the parent of the service's process, or who wrote its state.
fn stopped_supervisor(unit: &Unit, supervising: &mut Supervising) -> Option<(String, i32)> {
    let told = unit.told.as_ref().ok()?;
    let parent = told.status.pid.and_then(|pid| ProcStat::of(pid.as_raw_nonzero().get()));
    let pid = parent.map(|stat| stat.parent).or(told
        .facts
        .supervisor
        .filter(Tag::is_neighbour)
        .map(|supervisor| supervisor.pid))?;
    Some((supervising.stopped(pid)?.to_owned(), pid))
}

/// The directory of a log, if nothing more can be written there. Some room is for root alone.
pub(super) fn full_disk(dir: &Path) -> Option<String> {
    let space = statvfs(dir).ok()?;
    let is_of_root = || stat(dir.join("current")).is_ok_and(|stat| stat.st_uid == 0);
    let has_no_room = space.f_bavail == 0 && (space.f_bfree == 0 || !is_of_root());
    let is_full = has_no_room || space.f_files > 0 && space.f_ffree == 0;
    is_full.then(|| text::escaped(dir.as_os_str().as_bytes()))
}

/// The number of a process.
pub(super) fn pid_number(pid: Pid) -> u64 {
    u64::from(pid.as_raw_nonzero().get().unsigned_abs())
}

/// What a process executes, if it is the child of a supervisor; a number from another PID namespace may be that of any
/// process here.
fn command(pid: Pid, supervising: &mut Supervising) -> Vec<Vec<u8>> {
    let pid = pid.as_raw_nonzero().get();
    let is_its = ProcStat::of(pid).is_some_and(|stat| supervising.is_supervisor(stat.parent));
    if is_its { command_of(pid) } else { Vec::new() }
}

/// What a process executes: name and arguments.
pub(super) fn command_of(pid: i32) -> Vec<Vec<u8>> {
    let mut buffer = [0; COMMAND_MAX];
    let Ok(path) = CString::new(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    let Ok(line) = files::read_start(rustix::fd::AsFd::as_fd(&CWD), &path, &mut buffer) else {
        return Vec::new();
    };
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|&byte| byte == 0).map(<[u8]>::to_vec).listed()
}

#[cfg(test)]
mod tests {
    use svcore::tai::stamp;

    use super::*;

    const NOW: i64 = 1000;

    fn unit(state: State, pid: i32, want: Want, change: impl Fn(&mut Told)) -> Unit {
        let status = Status {
            since: stamp(NOW, 0),
            pid: Pid::from_raw(pid),
            paused: false,
            want: Some(want),
            term: false,
            state,
        };
        let mut told = Told { status, facts: Facts::default() };
        change(&mut told);
        Unit { told: Ok(told), has_down: Some(false), flaps_until: None, time_to_be_ready: 10 }
    }

    #[test]
    fn a_condition_is_one_word_for_all_that_is_told() {
        use Condition as C;
        let of = |state, pid, want, change: &dyn Fn(&mut Told)| {
            let unit = unit(state, pid, want, change);
            (unit.condition(&stamp(NOW, 0)), unit.has_problem(&stamp(NOW, 0)))
        };
        let as_is = |_: &mut Told| {};
        assert_eq!(of(State::Run, 7, Want::Up, &as_is), (C::Up, false));
        assert_eq!(of(State::Run, 7, Want::Down, &as_is), (C::Up, false), "it was started once");
        assert_eq!(of(State::Run, 7, Want::Down, &|told| told.status.term = true), (C::Stopping, false));
        assert_eq!(of(State::Run, 7, Want::Up, &|told| told.status.paused = true), (C::Paused, true));
        let stopped_while_paused = |told: &mut Told| (told.status.paused, told.status.term) = (true, true);
        assert_eq!(of(State::Run, 7, Want::Down, &stopped_while_paused), (C::Stopping, false));
        assert_eq!(of(State::Finish, 7, Want::Up, &as_is), (C::Finishing, true));
        assert_eq!(of(State::Finish, 7, Want::Down, &as_is), (C::Finishing, false));
        assert_eq!(of(State::Down, 0, Want::Down, &as_is), (C::Down, false));
        assert_eq!(of(State::Down, 0, Want::Up, &as_is), (C::Restarting, true));
        let waits = |told: &mut Told| told.facts.waits.push(b"db".to_vec());
        assert_eq!(of(State::Down, 0, Want::Up, &waits), (C::Waiting, true));
        let given_up = |told: &mut Told| told.facts.given_up = Some(String::new());
        assert_eq!(of(State::Down, 0, Want::Down, &given_up), (C::GivenUp, true));
        let done = |told: &mut Told| told.facts.done = Some(stamp(NOW, 0));
        assert_eq!(of(State::Down, 0, Want::Up, &done), (C::Done, false));
        let not_ready = |told: &mut Told| told.facts.readiness = Some(Readiness::NotReady);
        assert_eq!(of(State::Run, 7, Want::Up, &not_ready), (C::NotReady, false));
        let unit = unit(State::Run, 7, Want::Up, not_ready);
        let has_problem = [9, 10].map(|age| unit.has_problem(&stamp(NOW + age, 0)));
        assert_eq!(has_problem, [false, true]);
    }

    #[test]
    fn without_a_supervisor_a_file_down_decides() {
        let alone = |has_down| {
            let told = Err(Trouble::NotRunning);
            let unit = Unit { told, has_down, flaps_until: None, time_to_be_ready: 10 };
            (unit.condition(&stamp(NOW, 0)), unit.has_problem(&stamp(NOW, 0)))
        };
        assert_eq!(alone(Some(true)), (Condition::Off, false));
        assert_eq!(alone(Some(false)), (Condition::Unsupervised, true));
        assert_eq!(alone(None), (Condition::Unsupervised, true));
    }
}
