//! `svctl why`: why a service is as it is, and what mends it; and `svctl status`, which shows all that is known.

mod cause;

use std::ffi::{CStr, OsStr};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, open, statat};
use rustix::process::Pid;
use svcore::client::{Base, Checker, MAIN, Supervisors, Target, end_of, hint, parent};
use svcore::facts::Readiness;
use svcore::hint::{before_start, lock_holder, quoted};
use svcore::listed::Listed;
use svcore::policy::{self, PolicyFile};
use svcore::proc_stat::ProcStat;
use svcore::status::{State, Want};
use svcore::sys::listing;
use svcore::tai::{self, Tai64, Tai64N, seconds_between};
use svcore::{Error, Result, files, oom, say, serving, sys, trust};

use super::act::usual_patience;
use super::enable::Source;
use super::facts::{Condition, Service, Supervising, Unit, command_of, full_disk, pid_number};
use super::json::object;
use super::options::{Given, Opt};
use super::screen::Screen;
use super::silent::Silent;
use super::tree::{Tree, is_path};
use super::{Asked, NOT_UP, lint, list, log, text};
use cause::{Cause, Check, Evidence};

/// How many lines of a log are looked at for a cause.
const LINES: usize = 10;
/// A supervisor that does not tell of ends starts a service again after a second. So its last run began at most about this
/// long before its state, in seconds.
const LAST_RUN: u64 = 2;
/// As many services are looked at for a circle of needs.
const NEEDED_MAX: usize = 1000;
/// As much of a file `needs` is read, in bytes.
const NEEDS_LEN_MAX: usize = 64 * 1024;
/// A program in `control/` that has run for so long hangs, in seconds; `svctl stop -w 1` waits no longer.
const HANGS: u64 = 1;

/// `svctl why`.
pub(super) fn run(asked: &Asked) -> Result {
    let (tree, services) = named(asked)?;
    let screen = Screen::new(&asked.given)?;
    let base = Base::at(tree.path().into());
    let mut supervisors = Supervisors::default();
    let mut out = String::new();
    let mut is_any_wrong = false;
    for service in &services {
        let evidence = gather(service, &base, &mut supervisors, true);
        head(service, &screen, &mut out);
        explain(service, &evidence, &mut out);
        is_any_wrong |= service.has_problem();
        match cause_of(&evidence, &base) {
            Some(cause) => {
                add_cause(&cause, &mut out);
                is_any_wrong |= !cause::is_as_asked(&evidence);
            }
            None => out += "  nothing is wrong\n",
        }
    }
    say::out(&[out.as_bytes()]);
    Ok(if is_any_wrong { NOT_UP } else { 0 })
}

/// `svctl status`.
pub(super) fn status(asked: &Asked) -> Result {
    let (tree, services) = named(asked)?;
    let code = if services.iter().any(Service::has_problem) { NOT_UP } else { 0 };
    if asked.given.has(Opt::Json) {
        let mut out = String::new();
        object(&mut out, &mut |object| {
            object.bytes("tree", tree.path().as_os_str().as_bytes());
            object.objects("services", &services, |object, service| service.write(object));
        });
        say::out(&[out.as_bytes(), b"\n"]);
        return Ok(code);
    }
    let screen = Screen::new(&asked.given)?;
    let base = Base::at(tree.path().into());
    let mut supervisors = Supervisors::default();
    let mut out = String::new();
    for service in &services {
        let evidence = gather(service, &base, &mut supervisors, false);
        head(service, &screen, &mut out);
        explain(service, &evidence, &mut out);
        if service.has_problem()
            && let Some(cause) = cause_of(&evidence, &base)
        {
            add_cause(&cause, &mut out);
        }
        if !evidence.lines.is_empty() {
            out += "  last lines of its log:\n";
        }
        for (stamp, line) in &evidence.lines {
            let stamp = stamp.as_ref().map_or_else(String::new, |stamp| text::clock(stamp) + "  ");
            out += &format!("    {stamp}{line}\n");
        }
    }
    say::out(&[out.as_bytes()]);
    Ok(code)
}

/// The services that are named; there has to be one.
fn named(asked: &Asked) -> Result<(Tree, Vec<Service>)> {
    if asked.names.is_empty() {
        return Err(Error::Usage(Some("no service is named".to_owned())));
    }
    let tree = Tree::new(&asked.given);
    let services = list::services(&tree.selected(&asked.names)?, &tree);
    Ok((tree, services))
}

/// The probable cause, and what mends it, a line each, for a service that did not do what it should.
pub(super) fn cause_lines(service: &Service, base: &Base, supervisors: &mut Supervisors) -> String {
    lines_of(&gather(service, base, supervisors, false), base)
}

/// The same for a service that was just told to start: its files do not show that yet.
pub(super) fn cause_lines_of_start(service: &Service, base: &Base, supervisors: &mut Supervisors) -> String {
    let mut evidence = gather(service, base, supervisors, false);
    evidence.condition = Some(Condition::Restarting);
    lines_of(&evidence, base)
}

/// The probable cause. The command that mends it names the directory, where it would mean another one otherwise.
fn cause_of(evidence: &Evidence, base: &Base) -> Option<Cause> {
    let mut cause = cause::of(evidence)?;
    if let Some(mend) = &mut cause.mend
        && cause::has(mend, "svctl ")
        && !cause::has(mend, "svctl -d ")
        && Tree::new(&Given::default()).path() != Path::new(base.path())
    {
        let option = format!("-d {} ", quoted(base.path().as_bytes()));
        *mend = with_option(mend, &option);
    }
    Some(cause)
}

/// Commands in which each `svctl` has got an option.
fn with_option(commands: &str, option: &str) -> String {
    let mut out = String::new();
    for word in commands.split_inclusive(' ') {
        out.push_str(word);
        if word == "svctl " {
            out.push_str(option);
        }
    }
    out
}

fn lines_of(evidence: &Evidence, base: &Base) -> String {
    let mut lines = String::new();
    if let Some(cause) = cause_of(evidence, base) {
        add_cause(&cause, &mut lines);
    }
    lines
}

fn add_cause(cause: &Cause, out: &mut String) {
    *out += &format!("  cause: {}\n", cause.what);
    if let Some(mend) = &cause.mend {
        *out += &format!("  mend: {mend}\n");
    }
}

/// The first line about a service.
fn head(service: &Service, screen: &Screen, out: &mut String) {
    let state = list::style(service).paint(&service.in_words(), screen.is_coloured);
    let age = service.age().map_or_else(String::new, |age| format!(" for {}", text::age(age)));
    let pid = service.main.status().and_then(|status| status.pid);
    let pid = pid.map_or_else(String::new, |pid| format!(", pid {}", pid_number(pid)));
    *out += &format!("{}: {state}{age}{pid}\n", text::escaped(service.name.as_bytes()));
}

/// What is known, a line each.
fn explain(service: &Service, evidence: &Evidence, out: &mut String) {
    let mut line = |what: &str, words: &str| *out += &format!("  {what}: {words}\n");
    line("directory", &text::escaped(&service.path));
    if let Some(wanted) = wanted(&service.main) {
        line("wanted", wanted);
    }
    if !service.command.is_empty() {
        line("command", &text::command_line(&service.command));
    }
    if let Some(pid) = evidence.supervisor {
        let name = i32::try_from(pid).ok().and_then(ProcStat::of).map(|stat| text::escaped(&stat.name));
        line("supervisor", &format!("{}, pid {pid}", name.unwrap_or_default()));
    }
    if let Some(facts) = service.main.facts() {
        match &facts.readiness {
            Some(Readiness::Ready(at)) => line("ready", &format!("since {}", text::clock(at))),
            Some(Readiness::NotReady) => line("ready", "not yet"),
            None => {}
        }
        if let Some(message) = &facts.message {
            line("message", &text::escaped(message));
        }
        if let Some(pid) = facts.main_pid {
            line("main process", &pid.to_string());
        }
        if let Some(restarts) = service.main.restarts() {
            line("restarts", &restarts.to_string());
        }
        for end in &facts.ends {
            let words = format!(
                "{}, {} after {}",
                text::clock(&end.at),
                text::ended(end.how),
                text::uptime(end.uptime)
            );
            line("ended", &words);
        }
    }
    if !evidence.circle.is_empty() {
        let needs = evidence.circle.join(" needs ");
        line("needs", &format!("lead back to it, so one is ignored: {needs}"));
    }
    match &evidence.check {
        Check::None => {}
        Check::Passes => line("check", "passes"),
        failed => line("check", &failed.failure().unwrap_or_default()),
    }
    if let Some(log) = &service.log {
        let pid = log.status().and_then(|status| status.pid);
        let pid = pid.map_or_else(String::new, |pid| format!(", pid {}", pid_number(pid)));
        let dir = evidence.log_dir.as_ref();
        let dir = dir.map(|dir| format!(", in {}", text::escaped(dir.as_os_str().as_bytes())));
        let dir = dir.unwrap_or_default();
        line("log service", &format!("{}{pid}{dir}", log.condition(&service.now).word()));
    }
}

/// What is wanted, and by whom.
fn wanted(unit: &Unit) -> Option<&'static str> {
    Some(match (unit.status()?.want?, unit.has_down()) {
        (Want::Up, false) => "up",
        (Want::Up, true) => "up, by a command; it has a file down",
        (Want::Down | Want::Exit, true) => "down, it has a file down",
        (Want::Down | Want::Exit, false) => "down, by a command",
    })
}

/// The supervisor of a service: it holds the lock. `None` if the system does not tell.
fn supervisor(target: &Target) -> Option<u64> {
    let view = target.view(&MAIN).ok()?;
    lock_holder(view.place.as_fd(), c"lock")
}

/// Looks for all that may be a cause. `runs_check`: the answer of `./check` is asked for.
fn gather(service: &Service, base: &Base, supervisors: &mut Supervisors, runs_check: bool) -> Evidence {
    let target = &Target::new(&service.name, base);
    let status = service.main.status();
    let unserved = match &service.main.told {
        Err(trouble) => no_such(service, base)
            .or_else(|| stopped_scanner(target))
            .or_else(|| hint(target, base.path(), trouble, supervisors)),
        Ok(_) => None,
    };
    let last_facts;
    let facts = match service.main.facts() {
        Some(facts) => facts,
        None => {
            // Those from before.
            last_facts = target.last_facts(&MAIN);
            &last_facts
        }
    };
    let supervisor = supervisor(target);
    let path = Path::new(OsStr::from_bytes(&service.path));
    let logs_in = given_logs(service, path);
    let log_dir = log::directory_of(&log::Finder::default(), path);
    // While svlogd runs, its command line tells. Otherwise the script does, if it can be read like that.
    let log_runs = service.log.as_ref().and_then(Unit::status).is_some_and(|status| status.pid.is_some());
    let is_meant =
        |dir: &PathBuf| log_runs || logs_in.is_empty() || logs_in.iter().any(|(_, it)| is_same(it, dir));
    let log_dir = log_dir.filter(is_meant).or_else(|| logs_in.first().map(|(_, dir)| dir.clone()));
    let missing_log = logs_in.iter().find(|(_, dir)| matches!(dir.try_exists(), Ok(false)));
    let stopped = service.stopped_supervisor.clone().or_else(|| {
        let pid = i32::try_from(supervisor?).ok()?;
        Some((Supervising::default().stopped(pid)?.to_owned(), pid))
    });
    let lines = log_dir.iter().flat_map(|dir| log::last_lines(dir, LINES));
    let lines = lines.map(|(stamp, line)| (stamp, text::escaped(&line))).listed();
    let waits = facts.waits.iter().map(|name| (text::escaped(name), neighbour(target, name)));
    let log_has_problem = service.log.as_ref().filter(|_| service.log_has_problem());
    let told_at = last_told(target);
    let told = told_at.map(|told| seconds_between(&told, &tai::now()));
    let is_wanted_down = service.main.status().is_some_and(|it| {
        it.state == State::Run && it.pid.is_some() && it.want == Some(Want::Down) && !it.term
    });
    let is_told_to_end = is_wanted_down
        && status.zip(told_at).is_some_and(|(status, told)| cause::is_later(&told, &status.since))
        && matches!(target.look(c"control/t"), Ok(Some(_)));
    Evidence {
        name: cause::word(service.name.as_bytes()),
        is_log: path.ends_with("log") && path.parent().is_some_and(|above| above.join("run").exists()),
        told_to_end: told.filter(|_| is_told_to_end),
        runs_once: is_wanted_down && !is_told_to_end,
        condition: Some(service.condition()),
        has_down: service.main.has_down(),
        is_wanted_up: service.main.status().is_some_and(|status| status.want == Some(Want::Up)),
        unserved,
        run: not_startable(target, c"run"),
        log_run: service.log.as_ref().and_then(|_| not_startable(target, c"log/run")),
        knows_ends: facts.starts > 0 || !facts.ends.is_empty(),
        ends: facts.ends.clone(),
        age: service.age(),
        given_up: facts.given_up.as_ref().map(|reason| text::escaped(reason.as_bytes())),
        waits: waits.listed(),
        circle: circle(path),
        has_log: service.log.is_some(),
        log: log_has_problem.map(|log| log.condition(&service.now)),
        full_disk: log_dir.as_deref().and_then(full_disk),
        missing_log: missing_log.map(|(word, dir)| (text::escaped(word), quoted(dir.as_os_str().as_bytes()))),
        stopped,
        log_written: log_dir.as_deref().and_then(last_written),
        runs_since: status.filter(|status| status.state == State::Run).map(|status| status.since),
        last_run_guess: status.map(|status| {
            let Tai64N(Tai64(seconds), nanos) = status.since;
            Tai64N(Tai64(seconds.saturating_sub(LAST_RUN)), nanos)
        }),
        directory: quoted(&service.path),
        log_dir,
        lines,
        hook: hook(service, target, told),
        pid: status.and_then(|status| status.pid).map(pid_number),
        killed_for_memory: supervisor.and_then(oom::count_around),
        out_of_memory: facts.out_of_memory,
        supervisor,
        check: if runs_check { check(service, target, base, supervisors) } else { Check::None },
    }
}

/// The directories that the script of its log service gives to svlogd, or its own script, if it is a log service.
fn given_logs(service: &Service, path: &Path) -> Vec<(Vec<u8>, PathBuf)> {
    if service.log.is_some() {
        lint::log_directories(path, "log/run")
    } else if path.ends_with("log") {
        lint::log_directories(path, "run")
    } else {
        Vec::new()
    }
}

/// Whether two paths lead to the same directory.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The process that serves the directory of a service without a supervisor, if it is stopped by a signal, and what mends that.
fn stopped_scanner(target: &Target) -> Option<String> {
    let dir = parent(target);
    let serves = |process: &serving::Process| process.directory().is_ok_and(|it| is_same(&it, &dir));
    let process = serving::all()?.find(|process| process.is_stopped() && serves(process))?;
    let name = if process.is_runsvinit() { "runsvinit" } else { "runsvdir" };
    Some(format!(
        "{name} (pid {pid}), which serves the directory, is stopped: kill -CONT {pid}",
        pid = process.pid
    ))
}

/// Where a service is that is not in the directory, or which one was probably meant.
pub(super) fn no_such(service: &Service, base: &Base) -> Option<String> {
    let (name, tree) = (&service.name, Tree::at(base.path().into()));
    if is_path(name) || tree.has(name) {
        return None;
    }
    let word = cause::word(name.as_bytes());
    if Source::new(&Given::default()).path.join(name).is_dir() {
        return Some(format!("it is not enabled: svctl enable {word}"));
    }
    let none = format!("{} has no service of this name", text::escaped(base.path().as_bytes()));
    if let Some(dir) = other_tree(name) {
        let shown = text::escaped(dir.as_os_str().as_bytes());
        let dir = quoted(dir.as_os_str().as_bytes());
        return Some(format!("{none}, and {shown} has one: svctl -d {dir} why {word}"));
    }
    let nearest = tree.nearest(name)?;
    Some(format!("{none}; did you mean {}?", text::escaped(nearest.as_bytes())))
}

/// A served directory with a service of this name.
fn other_tree(name: &OsStr) -> Option<PathBuf> {
    serving::all()?.filter_map(|process| process.directory().ok()).find(|dir| dir.join(name).is_dir())
}

/// How a service is that another one waits for.
fn neighbour(target: &Target, name: &[u8]) -> String {
    let beside = Path::new(OsStr::from_bytes(&target.path)).parent().unwrap_or(Path::new("/"));
    // A path replaces all of that.
    let path = beside.join(OsStr::from_bytes(name));
    let is_missing =
        |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_missing(&path) {
        return cause::MISSING.to_owned();
    }
    let absolute = std::path::absolute(&path).unwrap_or(path);
    let base = Base::at("/".into());
    Service::look(absolute.as_os_str(), &base, tai::now(), &mut Supervising::default()).in_words()
}

/// The services from one to itself of which each needs the next one; empty if there is no such circle. Needs with a slash, which
/// are in other directories, are left out.
fn circle(service: &Path) -> Vec<String> {
    let (Some(name), Some(beside)) = (service.file_name(), service.parent()) else { return Vec::new() };
    let name = name.as_bytes();
    // Each service that was reached, and the number of the one that needs it.
    let mut reached = vec![(name.to_vec(), 0)];
    let mut next = 0_usize;
    while let Some((needing, _)) = reached.get(next) {
        for need in needs_of(&beside.join(OsStr::from_bytes(needing))) {
            if need == name {
                let mut circle = vec![text::escaped(name)];
                let mut number = next;
                while let Some((one, by)) = reached.get(number).filter(|_| number > 0) {
                    circle.push(text::escaped(one));
                    number = *by;
                }
                circle.push(text::escaped(name));
                circle.reverse();
                return circle;
            }
            if reached.len() < NEEDED_MAX && !reached.iter().any(|(one, _)| *one == need) {
                reached.push((need, next));
            }
        }
        next = next.saturating_add(1);
    }
    Vec::new()
}

/// The names in the file `needs` of a service.
fn needs_of(service: &Path) -> Vec<Vec<u8>> {
    let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = open(service, flags, Mode::empty()) else { return Vec::new() };
    let Ok(file) = trust::open_content(dir.as_fd(), PolicyFile::Needs.name()) else { return Vec::new() };
    let text = trust::read_at_most(&file, NEEDS_LEN_MAX).unwrap_or_default();
    let needs = policy::needs(&text).unwrap_or_default().into_iter();
    needs.map(|need| need.name).filter(|name| !name.contains(&b'/')).listed()
}

/// Whether a service that has a supervisor cannot be started, whatever is sent.
pub(super) fn cannot_start(service: &Service, base: &Base) -> bool {
    service.main.status().is_some_and(|status| status.pid.is_none())
        && not_startable(&Target::new(&service.name, base), c"run").is_some()
}

/// What is wrong with a program of a service.
fn not_startable(target: &Target, file: &CStr) -> Option<String> {
    let dir = target.dir().ok()?;
    let path = [&target.path, b"/".as_slice(), file.to_bytes()].concat();
    let is_missing = rustix::fs::statat(dir, file, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_err();
    if is_missing {
        return Some("it is missing".to_owned());
    }
    before_start(dir, file, &path)
}

/// When a log in a directory was last written to.
fn last_written(dir: &Path) -> Option<Tai64N> {
    modified(CWD, &dir.join("current"))
}

/// When a file was last written to.
fn modified(dir: BorrowedFd<'_>, file: &Path) -> Option<Tai64N> {
    let stat = statat(dir, file, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "widths differ between platforms")]
    let nanos = u32::try_from(stat.st_mtime_nsec as i64).unwrap_or(0);
    #[allow(clippy::useless_conversion, reason = "widths differ between platforms")]
    let seconds = i64::from(stat.st_mtime);
    Some(tai::stamp(seconds, nanos))
}

/// When the status of a service was written: when a command told it to end, if none came later.
fn last_told(target: &Target) -> Option<Tai64N> {
    modified(target.view(&MAIN).ok()?.place.as_fd(), Path::new("status"))
}

/// A program in `control/` of this service that runs for longer than it should: a child of a supervisor in this directory.
/// Its command line names it, unless it executed another program. Then it is a child that began after the status was
/// written, `told` seconds ago, while the service does not become what is wanted.
fn hook(service: &Service, target: &Target, told: Option<u64>) -> Option<(String, i32, u64)> {
    let has_hooks = matches!(target.look(c"control"), Ok(Some(stat)) if files::is_dir(&stat));
    let status = service.main.status().filter(|_| has_hooks)?;
    let is_held_up = match status.state {
        State::Run => status.want == Some(Want::Down),
        State::Down => status.want == Some(Want::Up),
        State::Finish => false,
    };
    let log = service.log.as_ref().and_then(Unit::status);
    let known = [status.pid, log.and_then(|log| log.pid)];
    let path = std::fs::canonicalize(OsStr::from_bytes(&service.path)).ok()?;
    let mut supervising = Supervising::default();
    for pid in listing::numbers_in(b"/proc")? {
        let Some(stat) = ProcStat::of(pid).filter(|stat| supervising.is_supervisor(stat.parent)) else {
            continue;
        };
        let words = command_of(pid);
        let age = stat.age_in_seconds()?;
        let is_hook = |word: &&Vec<u8>| word.starts_with(b"control/") || word.starts_with(b"./control/");
        let hook = match words.iter().take(3).find(is_hook) {
            // It runs on after a command to start the service again, which does not wait for it.
            Some(hook) if hook.ends_with(b"/d") && status.want == Some(Want::Up) => continue,
            Some(hook) => text::escaped(hook),
            None if is_held_up
                && !known.contains(&Pid::from_raw(pid))
                && told.is_some_and(|told| age <= told.saturating_add(1)) =>
            {
                format!("a program of control/, {}", text::command_line(&words))
            }
            None => continue,
        };
        let is_here = || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == path);
        if age >= HANGS && is_here() {
            return Some((hook, pid, age));
        }
    }
    None
}

fn check(service: &Service, target: &Target, base: &Base, supervisors: &mut Supervisors) -> Check {
    let has_check = matches!(target.look(c"check"), Ok(Some(_)));
    let runs = service.main.status().is_some_and(|status| status.state == State::Run && status.pid.is_some());
    if !has_check || !runs {
        return Check::None;
    }
    if let Some(why) = not_startable(target, c"check") {
        return Check::Unusable(why);
    }
    let mut silent = Silent { base, supervisors };
    let checker = Checker::silent();
    let agrees = checker.agrees(target, end_of(usual_patience()), &mut silent);
    if agrees { Check::Passes } else { Check::Fails(checker.failure()) }
}
