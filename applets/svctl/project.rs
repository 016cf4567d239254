//! `svctl up` and `svctl down`: start and end a directory of services, such as the one that `svctl import` makes.

mod reporter;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, openat, statat};
use rustix::process::Pid;
use svcore::client::request::{Request, Until, Waits};
use svcore::client::{self, Base, LOG, MAIN, Supervisors, Target, View};
use svcore::control::Command;
use svcore::error::Context;
use svcore::event::{self, Wait};
use svcore::files::{self, Identity};
use svcore::hint::quoted as shown;
use svcore::listed::Listed;
use svcore::moment::Moment;
use svcore::needs::survey;
use svcore::proc_stat::ProcStat;
use svcore::say::{self, printable};
use svcore::serving::{self, Process};
use svcore::status::{State, Want};
use svcore::sys::spawn::{self, Program, Stream};
use svcore::sys::{clock, signal};
use svcore::{Error, Failed, Result, Signal, own_file, tai, trust};

use super::import::MANIFEST;
use super::options::{Given, Opt};
use super::place::{File, Place, c_string};
use super::silent::Silent;
use super::started::Started;
use super::text::say_of;
use super::tree::Tree;
use super::{Asked, act};
use reporter::Reporter;

/// The directory of services that belongs to a Procfile, beside it.
pub(super) const TREE: &str = ".services";
/// Where the runsvdir that `svctl up` starts writes its messages, in the directory that it serves.
const MESSAGES: &[u8] = b".svctl-messages";
/// The file that tells which runsvdir `svctl up` started, in the directory that it serves.
const MARK: &[u8] = b".svctl-up";
/// The exit code if a service is not as it should be in time.
const LATE: u8 = 1;
/// How long a runsvdir that was just started may take until it can be seen.
const STARTING: Duration = Duration::from_secs(5);
/// How long the supervisors have to leave when their services are down.
const LEAVING: Duration = Duration::from_secs(10);
/// How often to look where nothing tells of a change.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until a service is as it is wanted: up and not paused, or down.
const AS_WANTED: Request = Request { until: &[Until::AsWanted, Until::Continued], ..Request::CHECK };
/// Starts a service.
const START: Request =
    Request { commands: &[Command::Up], until: &[Until::Up], waits: Waits::Always, kill: false };
/// Stops a service.
pub(super) const STOP: Request = Request { commands: &[Command::Down], until: &[Until::Down], ..START };
/// The same, and kills it if it takes too long.
const FORCE_STOP: Request = Request { kill: true, ..STOP };
/// Makes a supervisor leave.
const LEAVE: Request =
    Request { commands: &[Command::Exit], until: &[Until::Unsupervised], waits: Waits::Always, kill: false };

/// Starts a runsvdir for the directory, unless it is served, and waits until its services are up.
pub(super) fn up(asked: &Asked) -> Result {
    let path = tree(asked)?;
    let place = open_place(&path)?;
    let is_dry = asked.given.has(Opt::DryRun);
    let until = clock::monotonic().saturating_add(patience(asked)?);
    // Two at the same time start one runsvdir.
    let lock = if is_dry { None } else { Some(lock(&place)?) };
    let served = serving(&path)?;
    let is_ours =
        served.as_ref().is_none_or(|process| Mark::of(process).is_some_and(|mark| mark.is_in(&place)));
    let shown_path = printable(path.as_os_str().as_bytes());
    match &served {
        Some(process) => {
            let pid = process.pid.to_string();
            let name: &[u8] = if process.is_runsvinit() { b"runsvinit" } else { b"runsvdir" };
            let whose: &[u8] = if is_ours { b"" } else { b", which svctl up did not start" };
            let parts: &[&[u8]] = &[&shown_path, b" is served already by ", name, b" (pid ", pid.as_bytes()];
            say::out(&[&parts.concat(), b")", whose, b"\n"]);
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
    let paths = paths_in(&path)?;
    wait_for_supervisors(&paths, until);
    // What `svctl down` or `svctl stop` left down would stay so: its supervisor may be the same as then. The services of a
    // runsvdir of somebody else are that one's business.
    let (to_start, as_wanted): (Vec<OsString>, Vec<OsString>) =
        paths.iter().cloned().partition(|path| is_ours && is_stopped(path));
    if is_ours {
        act::resume(&paths, &Base::default(), &mut Supervisors::default());
    }
    let mut is_late = act(&to_start, &START, until.since(clock::monotonic()));
    is_late |= act(&as_wanted, &AS_WANTED, until.since(clock::monotonic()));
    let option = option_for_others(&path);
    is_late |= does_not_stay_up(&paths, &option);
    for path in paths.iter().filter(|path| runs_an_older_command(path)) {
        let name = base_name(path);
        let what = "runs an older command; to run the new one: svctl restart";
        say_of(name, &format!("{what} {}{option}", shown(&printable(name))));
    }
    if is_ours {
        say::out(&[b"to stop all of it: svctl down", option_for(&path).as_bytes(), b"\n"]);
    }
    say_where_svdir_leads(&path);
    Ok(if is_late { LATE } else { 0 })
}

/// Stops all services in order, and ends the runsvdir that serves them, if `svctl up` started it. Of a runsvdir that was
/// killed, ends the supervisors that are still there.
pub(super) fn down(asked: &Asked) -> Result {
    let path = tree(asked)?;
    let place = open_place(&path)?;
    let shown_path = printable(path.as_os_str().as_bytes());
    let process = serving(&path)?;
    let paths = paths_in(&path)?;
    let mark = Mark::read(&place);
    match &process {
        Some(process) => {
            may_be_ended(process)?;
            if mark.is_none() || Mark::of(process) != mark {
                let pid = process.pid;
                let text = text_of(&shown_path);
                let what = format!(
                    "runsvdir (pid {pid}) serves {text}, and svctl up did not start it, so nothing was stopped; \
                     to end it with its services: kill -HUP {pid}"
                );
                return Err(Failed::without_cause(what).into());
            }
        }
        None if !paths.iter().any(|path| has_supervisor(path)) => {
            say::out(&[b"nothing serves ", &shown_path, b"\n"]);
            return Ok(0);
        }
        None if mark.is_none() => {
            let what = format!(
                "no runsvdir serves {}, but supervisors that svctl up did not start do, so nothing was stopped; \
                 to end one: sv exit DIRECTORY",
                text_of(&shown_path)
            );
            return Err(Failed::without_cause(what).into());
        }
        None => {}
    }
    let what = match &process {
        Some(process) => [b"runsvdir ", &*shown_path, format!(" (pid {})", process.pid).as_bytes()].concat(),
        None => [b"the supervisors of ", &*shown_path, b", which no runsvdir served"].concat(),
    };
    let rounds = rounds(&paths);
    if asked.given.has(Opt::DryRun) {
        for round in &rounds {
            for path in round {
                say::out(&[b"would stop ", &printable(base_name(path)), b"\n"]);
            }
        }
        say::out(&[b"would end ", &what, b"\n"]);
        return Ok(0);
    }
    let patience = patience(asked)?;
    for round in rounds {
        let supervised = round.into_iter().filter(|path| is_supervised(path)).cloned();
        act(&supervised.listed(), &FORCE_STOP, patience);
    }
    let until = clock::monotonic().saturating_add(LEAVING);
    let mut is_over = true;
    if let Some(process) = &process {
        end(process)?;
        is_over = wait_until(until, || process.has_ended());
    }
    // A runsvdir tells those to leave that it started. Others are there if one before it was killed.
    let left: Vec<OsString> = paths.iter().filter(|path| has_supervisor(path)).cloned().listed();
    let (base, mut supervisors) = (Base::default(), Supervisors::default());
    let mut silent = Silent { base: &base, supervisors: &mut supervisors };
    client::act(&left, &LEAVE, true, until.since(clock::monotonic()), &mut silent);
    for path in &paths {
        is_over &= wait_until(until, || !has_supervisor(path));
    }
    if !is_over {
        let what = "some supervisors have not left yet; svctl list --tree shows their processes";
        return Err(Failed::without_cause(what).into());
    }
    // Without it nothing is ended that somebody else starts.
    let _ = place.unlink(MARK);
    say::out(&[b"ended ", &what, b"\n"]);
    Ok(0)
}

/// Sends a request to the services at these paths, waits for its effect, and prints a line for each. Whether one failed.
pub(super) fn act(paths: &[OsString], request: &Request, patience: Duration) -> bool {
    let mut reporter = Reporter::new();
    client::act(paths, request, true, patience, &mut reporter);
    reporter.finish();
    reporter.failures > 0
}

/// Waits until no supervisor serves the service at a path, nor its log service; for no longer than `until`.
pub(super) fn wait_until_unsupervised(path: &Path, until: Moment) -> bool {
    wait_until(until, || !has_supervisor(path.as_os_str()))
}

/// Waits until a supervisor serves the service at a path; for no longer than `until`.
pub(super) fn wait_until_supervised(path: &Path, until: Moment) -> bool {
    wait_until(until, || is_supervised(path.as_os_str()))
}

/// Whether a runsvdir or a runsvinit serves a directory, as far as we may see.
pub(super) fn is_served(path: &Path) -> bool {
    serving(path).is_ok_and(|process| process.is_some())
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
/// asked. What an import made here goes before `SVDIR`, which may lead to the services of the machine.
fn tree(asked: &Asked) -> Result<PathBuf> {
    let given = &asked.given;
    if !asked.names.is_empty() {
        return Err(Error::Usage(Some(
            "up and down are for all services; start and stop are for some".to_owned(),
        )));
    }
    let is_chosen = given.has(Opt::Dir) || given.has(Opt::User);
    let chosen = given.value(Opt::Output).map(PathBuf::from);
    let chosen = chosen.or_else(|| is_chosen.then(|| Tree::new(given).path().to_owned())).or_else(usual);
    let why = "there are no imported services here; svctl import makes them, and -o names another directory";
    let tree = chosen.ok_or_else(|| Error::Fatal(Failed::without_cause(why)))?;
    let tree = std::path::absolute(&tree).unwrap_or(tree);
    if tree.is_dir() {
        return Ok(tree);
    }
    Err(rustix::io::Errno::NOENT).unable_to("open", tree.as_os_str().as_bytes()).map_err(Error::from)
}

/// The directory of `up` and `down` without an option.
fn usual() -> Option<PathBuf> {
    here().or_else(|| std::env::var_os("SVDIR").map(PathBuf::from))
}

/// Whether two paths lead to the same directory.
fn is_same(one: &Path, other: &Path) -> bool {
    identity(one).is_ok_and(|one| identity(other).is_ok_and(|other| one == other))
}

/// The option by which `svctl up` and `svctl down` mean this directory.
pub(super) fn option_for(path: &Path) -> String {
    if usual().is_some_and(|usual| is_same(&usual, path)) { String::new() } else { option(" -o ", path) }
}

/// The option by which the other commands mean this directory.
pub(super) fn option_for_others(path: &Path) -> String {
    let is_meant = is_same(Tree::new(&Given::default()).path(), path);
    if is_meant { String::new() } else { option(" -d ", path) }
}

fn option(option: &str, path: &Path) -> String {
    option.to_owned() + &shown(path.as_os_str().as_bytes())
}

/// Prints how to see these services where `SVDIR` names others.
pub(super) fn say_where_svdir_leads(path: &Path) {
    let option = option_for_others(path);
    if std::env::var_os("SVDIR").is_some() && !option.is_empty() {
        let text =
            format!("SVDIR names another directory; for this one: svctl list{option}; svctl log{option}\n");
        say::out(&[text.as_bytes()]);
    }
}

/// How long to wait for services: `-w`, else as the other commands do.
///
/// # Errors
///
/// That `-w` is no number.
pub(super) fn patience(asked: &Asked) -> Result<Duration> {
    Ok(act::patience(&asked.given)?.unwrap_or_else(act::usual_patience))
}

fn open_place(path: &Path) -> Result<Place> {
    let path = path.as_os_str().as_bytes();
    Ok(Place::open(path).unable_to("open", path)?)
}

fn text_of(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Which runsvdir `svctl up` started. It is in a file of the directory that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    pid: i32,
    /// When it started, as [`ProcStat::start`]: another process may get the number later.
    start: u64,
}

impl Mark {
    /// That of a process.
    fn of(process: &Process) -> Option<Self> {
        Self::of_pid(process.pid)
    }

    fn of_pid(pid: i32) -> Option<Self> {
        Some(Mark { pid, start: ProcStat::of(pid)?.start })
    }

    /// The one in a directory, whether its process is still there or not.
    fn read(place: &Place) -> Option<Self> {
        Self::parse(&place.read(&c_string(MARK).ok()?).ok()?.0)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split_whitespace();
        Some(Mark { pid: words.next()?.parse().ok()?, start: words.next()?.parse().ok()? })
    }

    fn text(self) -> Vec<u8> {
        format!("{} {}\n", self.pid, self.start).into_bytes()
    }

    /// Whether it is the one in a directory.
    fn is_in(self, place: &Place) -> bool {
        Self::read(place) == Some(self)
    }
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
    if let Some(mark) = Mark::of_pid(pid) {
        place.write(MARK, &File { content: mark.text(), is_executable: false })?;
    }
    let until = clock::monotonic().saturating_add(STARTING);
    let is_seen = wait_until(until, || matches!(serving(path), Ok(Some(_))) || ended_child().is_some());
    if !is_seen || matches!(serving(path), Ok(None)) {
        let what = [b"runsvdir did not start; see ", &*place.path_of(MESSAGES)].concat();
        return Err(Failed::without_cause(what).into());
    }
    let pid = pid.to_string();
    let path = printable(path.as_os_str().as_bytes());
    say::out(&[b"started runsvdir ", &path, b" (pid ", pid.as_bytes(), b")\n"]);
    Ok(())
}

/// A child of ours that has ended.
fn ended_child() -> Option<Pid> {
    let ended = rustix::process::wait(rustix::process::WaitOptions::NOHANG).ok()?;
    ended.map(|(pid, _)| pid)
}

/// The services of a directory, by their paths.
fn paths_in(path: &Path) -> Result<Vec<OsString>> {
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
fn does_not_stay_up(paths: &[OsString], option: &str) -> bool {
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
            let why = "does not stay up; to see why: svctl why";
            say_of(name, &format!("{why} {}{option}", shown(&printable(name))));
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

/// Whether the service at a path runs.
pub(super) fn is_running(path: &Path) -> bool {
    target(path.as_os_str()).status(&MAIN).is_ok_and(|status| status.state == State::Run)
}

/// Whether a supervisor serves the service at a path, or its log service.
fn has_supervisor(path: &OsStr) -> bool {
    is_supervised(path) || is_log_supervised(path)
}

/// Whether a service was stopped by a command. One with a file `down` waits for somebody to start it.
fn is_stopped(path: &OsStr) -> bool {
    let target = target(path);
    let is_stopped = |view: &View| view.status.want == Some(Want::Down) && view.facts().done.is_none();
    target.view(&MAIN).is_ok_and(|view| is_stopped(&view)) && matches!(target.look(c"down"), Ok(None))
}

/// Whether the `run` of a service was changed after its process started.
fn runs_an_older_command(path: &OsStr) -> bool {
    let target = target(path);
    let Ok(status) = target.status(&MAIN) else { return false };
    let Ok(run) = std::fs::metadata(Path::new(path).join("run")) else { return false };
    let changed = tai::stamp(run.mtime(), u32::try_from(run.mtime_nsec()).unwrap_or(0));
    status.state == State::Run && changed > status.since
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
