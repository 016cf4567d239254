//! `svctl up` and `svctl down`: start and end a directory of services, such as the one that `svctl import` makes.

mod reporter;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, openat, statat};
use rustix::process::Pid;
use svcore::client::request::{Request, Until, Waits};
use svcore::client::{self, Base, LOG, MAIN, Target};
use svcore::control::Command;
use svcore::error::Context;
use svcore::event::{self, Wait};
use svcore::files::{self, Identity};
use svcore::hint::quoted as shown;
use svcore::listed::Listed;
use svcore::moment::Moment;
use svcore::needs::survey;
use svcore::proc_stat::ProcStat;
use svcore::say::{self, printable, printable_text};
use svcore::serving::{self, Process};
use svcore::status::{State, Want};
use svcore::sys::spawn::{self, Program, Stream};
use svcore::sys::{clock, signal};
use svcore::{Error, Failed, Result, Signal, decimal, own_file, trust};

use super::Asked;
use super::import::MANIFEST;
use super::options::Opt;
use super::place::{Place, c_string};
use super::started::Started;
use super::text::say_of;
use super::tree::Tree;
use reporter::Reporter;

/// The directory of services that belongs to a Procfile, beside it.
pub(super) const TREE: &str = ".services";
/// Where the runsvdir that `svctl up` starts writes its messages, in the directory that it serves.
const MESSAGES: &[u8] = b".svctl-messages";
/// The exit code if a service is not as it should be in time.
const LATE: u8 = 1;
/// How long to wait by default, in seconds, as `sv` does.
const PATIENCE: u64 = 7;
/// How long a runsvdir that was just started may take until it can be seen.
const STARTING: Duration = Duration::from_secs(5);
/// How long the supervisors have to leave when their services are down.
const LEAVING: Duration = Duration::from_secs(10);
/// How often to look where nothing tells of a change.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until a service is as it is wanted: up, or down.
const AS_WANTED: Request = Request::CHECK;
/// Starts a service.
pub(super) const START: Request =
    Request { commands: &[Command::Up], until: &[Until::Up], waits: Waits::Always, kill: false };
/// Stops a service.
pub(super) const STOP: Request = Request { commands: &[Command::Down], until: &[Until::Down], ..START };
/// The same, and kills it if it takes too long.
const FORCE_STOP: Request = Request { kill: true, ..STOP };

/// Starts a runsvdir for the directory, unless it is served, and waits until its services are up.
pub(super) fn up(asked: &Asked) -> Result {
    let path = tree(asked)?;
    let place = Place::open(path.as_os_str().as_bytes()).unable_to("open", path.as_os_str().as_bytes())?;
    let is_dry = asked.given.has(Opt::DryRun);
    let until = clock::monotonic().saturating_add(patience(asked)?);
    // Two at the same time start one runsvdir.
    let lock = if is_dry { None } else { Some(lock(&place)?) };
    let served = serving(&path)?;
    match &served {
        Some(process) => {
            let pid = process.pid.to_string();
            let name: &[u8] = if process.is_runsvinit() { b"runsvinit" } else { b"runsvdir" };
            say::out(&[b"served already by ", name, b" (pid ", pid.as_bytes(), b")\n"]);
        }
        None if is_dry => {
            say::out(&[b"would start runsvdir ", shown(path.as_os_str().as_bytes()).as_bytes(), b"\n"]);
        }
        None => start(&place, &path)?,
    }
    drop(lock);
    if is_dry {
        return Ok(0);
    }
    let names = to_wait_for(&path)?;
    wait_for_supervisors(&names, until);
    let mut is_late = act(&names, &AS_WANTED, until.since(clock::monotonic()));
    is_late |= does_not_stay_up(&names);
    say::out(&[b"to stop all of it: svctl down", option_for(asked, &path).as_bytes(), b"\n"]);
    Ok(if is_late { LATE } else { 0 })
}

/// Stops all services in order, and ends the runsvdir that serves them.
pub(super) fn down(asked: &Asked) -> Result {
    let path = tree(asked)?;
    let Some(process) = serving(&path)? else {
        say::out(&[b"nothing serves ", &printable(path.as_os_str().as_bytes()), b"\n"]);
        return Ok(0);
    };
    may_be_ended(&process)?;
    let pid = process.pid.to_string();
    let names = Tree::at(path.clone()).names()?;
    let paths: Vec<OsString> = names.iter().map(|name| path.join(name).into_os_string()).listed();
    let rounds = rounds(&paths);
    if asked.given.has(Opt::DryRun) {
        for round in &rounds {
            for path in round {
                say::out(&[b"would stop ", &printable(base_name(path)), b"\n"]);
            }
        }
        say::out(&[b"would end runsvdir (pid ", pid.as_bytes(), b")\n"]);
        return Ok(0);
    }
    let patience = patience(asked)?;
    for round in rounds {
        let supervised = round.into_iter().filter(|path| is_supervised(path)).cloned();
        act(&supervised.listed(), &FORCE_STOP, patience);
    }
    end(&process)?;
    let until = clock::monotonic().saturating_add(LEAVING);
    let mut is_over = wait_until(until, || process.has_ended());
    for path in &paths {
        is_over &= wait_until(until, || !is_supervised(path) && !is_log_supervised(path));
    }
    if !is_over {
        let what = "some supervisors have not left yet; svctl list --tree shows their processes";
        return Err(Failed::without_cause(what).into());
    }
    say::out(&[b"ended runsvdir (pid ", pid.as_bytes(), b")\n"]);
    Ok(0)
}

/// Sends a request to the services at these paths, waits for its effect, and prints a line for each. Whether one failed.
pub(super) fn act(paths: &[OsString], request: &Request, patience: Duration) -> bool {
    let mut reporter = Reporter::new();
    client::act(paths, request, true, patience, &mut reporter);
    reporter.finish();
    reporter.failures > 0
}

/// Waits until no supervisor serves the service at a path, nor its log service; for no longer than `time`.
pub(super) fn wait_until_unsupervised(path: &[u8], time: Duration) -> bool {
    let name = OsStr::from_bytes(path);
    let until = clock::monotonic().saturating_add(time);
    wait_until(until, || !is_supervised(name) && !is_log_supervised(name))
}

/// The directory that an import made nearest to where we are: [`TREE`] here, or in a directory above. Only those of ours and
/// of root's count.
pub(super) fn here() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|dir| dir.join(TREE)).find(|tree| {
        let is_ours = |path: &Path| {
            statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| trust::check_owner(&stat).is_ok())
        };
        is_ours(tree) && is_ours(&tree.join(OsStr::from_bytes(MANIFEST)))
    })
}

/// The directory that is to be started or ended. No usual directory of the system is: whoever stops that wants to be
/// asked.
fn tree(asked: &Asked) -> Result<PathBuf> {
    let given = &asked.given;
    if !asked.names.is_empty() {
        return Err(Error::Usage(Some(
            "up and down are for all services; start and stop are for some".to_owned(),
        )));
    }
    let chosen = given.value(Opt::Output).map(PathBuf::from);
    let is_chosen = given.has(Opt::Dir) || given.has(Opt::User) || std::env::var_os("SVDIR").is_some();
    let chosen = chosen.or_else(|| is_chosen.then(|| Tree::new(given).path().to_owned())).or_else(here);
    let why = "there are no imported services here; svctl import makes them, and -o names another directory";
    let tree = chosen.ok_or_else(|| Error::Fatal(Failed::without_cause(why)))?;
    let tree = std::path::absolute(&tree).unwrap_or(tree);
    if tree.is_dir() {
        return Ok(tree);
    }
    Err(rustix::io::Errno::NOENT).unable_to("open", tree.as_os_str().as_bytes()).map_err(Error::from)
}

/// The option by which another call means the same directory.
fn option_for(asked: &Asked, path: &Path) -> String {
    let is_given = [Opt::Output, Opt::Dir, Opt::User].into_iter().any(|opt| asked.given.has(opt));
    if is_given { " -o ".to_owned() + &shown(path.as_os_str().as_bytes()) } else { String::new() }
}

/// How long to wait for services: `-w`, else 7 s.
///
/// # Errors
///
/// That `-w` is no number.
pub(super) fn patience(asked: &Asked) -> Result<Duration> {
    let Some(text) = asked.given.value(Opt::Wait) else { return Ok(Duration::from_secs(PATIENCE)) };
    let seconds = decimal::whole(text.as_bytes());
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Error::Usage(Some(format!(
            "-w {}: it has to be a number of seconds",
            printable_text(text.as_bytes())
        )))
    })
}

/// Keeps others out that start a runsvdir for the same directory.
fn lock(place: &Place) -> Result<OwnedFd> {
    let lock = || -> io::Result<OwnedFd> {
        let dir =
            openat(place.fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        flock(&dir, FlockOperation::LockExclusive)?;
        Ok(dir)
    };
    Ok(lock().unable_to("lock", place.path())?)
}

/// The process that serves a directory.
fn serving(path: &Path) -> Result<Option<Process>> {
    let Some(mut all) = serving::all() else {
        return Err(Failed::without_cause("there is no /proc that tells who serves the directory").into());
    };
    let wanted = identity(path).unable_to("open", path.as_os_str().as_bytes())?;
    Ok(all.find(|process| {
        let served = process.directory().and_then(|dir| identity(&dir));
        served.is_ok_and(|served| served == wanted)
    }))
}

fn identity(path: &Path) -> io::Result<Identity> {
    Ok(files::identity(&statat(CWD, path, AtFlags::empty())?))
}

/// Starts a runsvdir in a session of its own, so that it outlives the terminal, and waits until it can be seen.
fn start(place: &Place, path: &Path) -> Result<()> {
    let open = || -> io::Result<(OwnedFd, OwnedFd)> {
        let messages = trust::create_new(place.fd(), &c_string(MESSAGES)?, Mode::from_raw_mode(0o644))?;
        rustix::fs::fcntl_setfl(&messages, OFlags::APPEND)?;
        let null = openat(CWD, c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((messages, null))
    };
    let (messages, null) = open().unable_to("write", &place.path_of(MESSAGES))?;
    let directory = c_string(path.as_os_str().as_bytes()).while_doing(|| "unable to start runsvdir")?;
    let executables = own_file::to_execute();
    let executables: Vec<&std::ffi::CStr> = executables.iter().map(CString::as_c_str).listed();
    let program = Program {
        files: &executables,
        search: spawn::Search(svcore::exec::path_rule),
        argv: &[c"runsvdir", &directory],
        directory: Some(place.fd()),
        stdin: Stream::Is(null.as_fd()),
        stdout: Stream::Is(messages.as_fd()),
        stderr: Stream::Is(messages.as_fd()),
        new_session: true,
        default_pipe: true,
        ..Program::default()
    };
    let pid = spawn::spawn(&program)
        .map_err(|why| Failed::because(why.cause, "unable to start runsvdir"))?
        .as_raw_nonzero()
        .get();
    let until = clock::monotonic().saturating_add(STARTING);
    let is_seen = wait_until(until, || matches!(serving(path), Ok(Some(_))) || ended_child().is_some());
    if !is_seen || matches!(serving(path), Ok(None)) {
        let what = [b"runsvdir did not start; see ", &*place.path_of(MESSAGES)].concat();
        return Err(Failed::without_cause(what).into());
    }
    let pid = pid.to_string();
    let path = printable(path.as_os_str().as_bytes()).into_owned();
    say::out(&[b"started runsvdir ", &path, b" (pid ", pid.as_bytes(), b")\n"]);
    Ok(())
}

/// A child of ours that has ended.
fn ended_child() -> Option<Pid> {
    let ended = rustix::process::wait(rustix::process::WaitOptions::NOHANG).ok()?;
    ended.map(|(pid, _)| pid)
}

/// The services of a directory that are to be waited for, by their paths. One with a file `down` stays down.
fn to_wait_for(path: &Path) -> Result<Vec<OsString>> {
    let names = Tree::at(path.to_owned()).names()?;
    let paths = names.into_iter().map(|name| path.join(name).into_os_string());
    Ok(paths.listed())
}

/// Waits until each service has a supervisor.
fn wait_for_supervisors(names: &[OsString], until: Moment) {
    for name in names {
        wait_until(until, || is_supervised(name));
    }
}

/// Looks again at services when they have run for a moment, and names those whose process has ended by then. Whether there is
/// one.
pub(super) fn does_not_stay_up(paths: &[OsString]) -> bool {
    let started = |path: &OsString| {
        let target = target(path);
        Started::new(&target, &target.view(&MAIN).ok()?)
    };
    let before: Vec<Option<Started>> = paths.iter().map(started).listed();
    if let Some(until) = before.iter().flatten().map(|started| started.until).max() {
        wait_until(until, || false);
    }
    let mut found = false;
    for (path, before) in paths.iter().zip(before) {
        let Ok(view) = target(path).view(&MAIN) else { continue };
        let status = &view.status;
        let runs = before.map_or(status.state == State::Run, |started| started.still_runs(status));
        // A task that is done has ended as it should.
        if !runs && status.want == Some(Want::Up) && view.facts().done.is_none() {
            let name = base_name(path);
            say_of(name, &format!("does not stay up; to see why: svctl why {}", shown(&printable(name))));
            found = true;
        }
    }
    found
}

fn target(path: &OsStr) -> Target {
    Target::new(path, &Base::default())
}

/// Whether a supervisor serves the service at a path.
pub(super) fn is_supervised(path: &OsStr) -> bool {
    target(path).status(&MAIN).is_ok()
}

fn is_log_supervised(path: &OsStr) -> bool {
    target(path).status(&LOG).is_ok()
}

/// The services at these paths in the order in which they stop: those of a round together, after all that need them.
fn rounds(paths: &[OsString]) -> Vec<Vec<&OsString>> {
    let bytes: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).listed();
    let Some(mut order) = survey::end_order(&bytes, &trust::ours()) else {
        return vec![paths.iter().listed()];
    };
    let mut rounds = Vec::new();
    let mut round = order.first();
    while !round.is_empty() {
        rounds.push(round.iter().filter_map(|number| paths.get(*number)).listed());
        round = round.into_iter().flat_map(|number| order.ended(number)).listed();
    }
    rounds
}

/// The last part of a path.
fn base_name(path: &OsStr) -> &[u8] {
    Path::new(path).file_name().unwrap_or(path).as_bytes()
}

/// Whether the process is one that `svctl down` may end: not the one that a machine or a container runs for.
fn may_be_ended(process: &Process) -> Result<()> {
    let pid = process.pid;
    let why = if process.is_runsvinit() {
        format!("runsvinit (pid {pid}) serves it, and ends with its container: runsvinit --halt")
    } else if pid == 1 || process.parent().is_some_and(is_runit) {
        format!("runsvdir (pid {pid}) is that of the machine, which would halt without it: init 0")
    } else {
        return Ok(());
    };
    Err(Failed::without_cause(why).into())
}

/// Whether a process is runit, which runs stage 2.
fn is_runit(pid: i32) -> bool {
    ProcStat::of(pid).is_some_and(|stat| stat.name == b"runit")
}

/// Tells a runsvdir to end, and its supervisors with it. Source: runsvdir(8), HUP.
fn end(process: &Process) -> Result<()> {
    let doing = || "unable to end runsvdir";
    let pid = Pid::from_raw(process.pid).ok_or_else(|| Failed::without_cause(doing()))?;
    Ok(signal::send(pid, Signal::HUP).while_doing(doing)?)
}

/// Looks again and again until `holds`; whether it held in time.
fn wait_until(until: Moment, mut holds: impl FnMut() -> bool) -> bool {
    while !holds() {
        let now = clock::monotonic();
        if now >= until {
            return false;
        }
        event::wait(&mut [], Wait::Until(now.saturating_add(LOOK_EVERY).min(until)));
    }
    true
}
