//! Where the log of a service is, or else where its output goes.
//!
//! The command line of the svlogd that runs says it. It may belong to an account of its own, whose programs could say
//! anything; so what is read there is only ever a directory in which nothing but logs is opened.

use std::cell::OnceCell;
use std::ffi::{CString, OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use svcore::client::{Base, LOG, MAIN, Part, Target};
use svcore::listed::Listed;
use svcore::proc_stat::ProcStat;
use svcore::say::printable_text;
use svcore::sys::listing;
use svcore::template::Instance;
use svcore::{files, hint, log_tail, logger};

use super::directory::Directory;

/// The longest command line that is looked at, in bytes.
const LINE_MAX: usize = 64 * 1024;
/// As many parents of an svlogd are looked at to find the service that it belongs to.
const GENERATIONS_MAX: usize = 10;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The log directory.
    Directory(PathBuf),
    /// There is a log service, and no log yet.
    NotYet {
        log_service: Running,
        /// What is missing, in words.
        why: String,
    },
    /// There is no log service; where the output goes, in words.
    Elsewhere(String),
}

/// Finds logs. It looks for processes once.
#[derive(Debug, Default)]
pub(in super::super) struct Finder {
    /// Each svlogd and its parent.
    svlogds: OnceCell<Vec<(i32, i32)>>,
}

impl Finder {
    /// Finds the log of a service by the path of its directory.
    pub(super) fn find(&self, service: &Path) -> Found {
        if !service.is_dir() {
            return Found::Elsewhere(
                match std::fs::symlink_metadata(service) {
                    Ok(stat) if stat.is_symlink() => "it is a link to a directory that does not exist",
                    Ok(_) => "it is not a directory",
                    Err(_) => "there is no such service",
                }
                .to_owned(),
            );
        }
        // With a `.` in front it is a path in any case.
        let target = Target::new(Path::new(".").join(service).as_os_str(), &Base::default());
        let log_service = running(&target, &LOG);
        let logger = log_service.process();
        let told = logger.and_then(|pid| self.told_by(pid, service));
        if let Some(directory) = told.as_ref().filter(|directory| directory.is_dir()) {
            return Found::Directory(directory.clone());
        }
        if let Some(directory) = usual(service) {
            return Found::Directory(directory);
        }
        if let Some(directory) = told {
            return Found::Directory(directory);
        }
        if service.join("log").is_dir() {
            return Found::NotYet { log_service, why: missing(logger) };
        }
        Found::Elsewhere(elsewhere(&target))
    }

    /// The directory in the command line of the svlogd that a log service runs.
    fn told_by(&self, logger: i32, service: &Path) -> Option<PathBuf> {
        let pid = if is_svlogd(logger) { logger } else { self.below(logger)? };
        let line = command_line_of(pid)?;
        // That of a log service without `run` is where the supervisor's rule has it. Source: runit-service(5).
        let keeps_hosted =
            |word: &[u8]| [logger::HOSTED, logger::SHARED].iter().any(|it| it.to_bytes() == word);
        if line.split(|byte| *byte == 0).any(keeps_hosted) {
            let log = service.join("log");
            let main = log.join("main");
            let all = if main.is_dir() { main } else { log };
            return Some(match own_name(service) {
                Some(name) => all.join(name),
                None => all,
            });
        }
        let directory = log_tail::directory_of(&line)?;
        let directory = Path::new(OsStr::from_bytes(directory));
        // Who may not see the working directory of another user's process: a log service begins in `log`.
        let from = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| service.join("log"));
        Some(tidy(&from.join(directory)))
    }

    /// The svlogd that descends from a process, such as a shell.
    fn below(&self, ancestor: i32) -> Option<i32> {
        let svlogds = self.svlogds.get_or_init(|| {
            let pids = listing::numbers_in(b"/proc").unwrap_or_default();
            let stats = pids.into_iter().filter_map(|pid| Some((pid, ProcStat::of(pid)?)));
            stats.filter(|(_, stat)| stat.name == b"svlogd").map(|(pid, stat)| (pid, stat.parent)).listed()
        });
        let descends = |mut parent: i32| {
            for _ in 0..GENERATIONS_MAX {
                if parent == ancestor {
                    return true;
                }
                match ProcStat::of(parent) {
                    Some(stat) => parent = stat.parent,
                    None => return false,
                }
            }
            false
        };
        svlogds.iter().find(|(_, parent)| descends(*parent)).map(|(pid, _)| *pid)
    }
}

/// What a service with a log service and without a log lacks.
fn missing(logger: Option<i32>) -> String {
    match logger {
        Some(pid) => {
            let name = ProcStat::of(pid).map(|stat| printable_text(&stat.name)).unwrap_or_default();
            format!("its log service runs {name} (pid {pid}), and no log directory is known")
        }
        None => "its log service does not run, and there is no log directory".to_owned(),
    }
}

/// Where the output of a service without a log service goes.
fn elsewhere(target: &Target) -> String {
    let pid = match running(target, &MAIN) {
        Running::Process(pid) => pid,
        Running::No => return "no svlogd writes its output, and it does not run".to_owned(),
        Running::Unknown => return "no svlogd writes its output, and it is not supervised".to_owned(),
    };
    match (goes_to(pid, 1), goes_to(pid, 2)) {
        (Some(out), Some(err)) if out == err => format!("no svlogd writes its output, which goes to {out}"),
        (Some(out), Some(err)) => {
            format!("no svlogd writes its output, which goes to {out}; its errors go to {err}")
        }
        _ => format!("no svlogd writes its output, and you may not see where process {pid} writes to"),
    }
}

/// The process of a service, or of its log service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    /// No supervisor tells of one.
    Unknown,
    /// It does not run.
    No,
    /// This one.
    Process(i32),
}

impl Running {
    /// The number of the process, if there is one.
    const fn process(self) -> Option<i32> {
        match self {
            Running::Process(pid) => Some(pid),
            Running::Unknown | Running::No => None,
        }
    }
}

fn running(target: &Target, part: &Part) -> Running {
    match target.status(part) {
        Ok(status) => status.pid.map_or(Running::No, |pid| Running::Process(pid.as_raw_nonzero().get())),
        Err(_) => Running::Unknown,
    }
}

fn is_svlogd(pid: i32) -> bool {
    ProcStat::of(pid).is_some_and(|stat| stat.name == b"svlogd")
}

/// The command line of a process, with a null byte after each word.
fn command_line_of(pid: i32) -> Option<Vec<u8>> {
    let path = CString::new(format!("/proc/{pid}/cmdline")).ok()?;
    let mut line = vec![0; LINE_MAX];
    files::read_start(CWD, &path, &mut line).map(<[u8]>::to_vec).ok()
}

/// The directory that an instance of a template has in that of all their logs, such as `@tty1`; `None` for no instance.
pub(super) fn own_name(service: &Path) -> Option<OsString> {
    Instance::of(service).map(|instance| OsString::from_vec(instance.own_name()))
}

/// The usual places of the log of a service, the first that has one.
fn usual(service: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(service).ok();
    let name = service.file_name().or(real.as_ref()?.file_name())?;
    let of_instance = own_name(service).into_iter();
    let of_instance =
        of_instance.flat_map(|name| ["log/main", "log"].map(|all| service.join(all).join(&name)));
    let places = [
        service.join("log/main"),
        service.join("log/current"),
        service.join("log"),
        Path::new("/var/log").join(name),
    ];
    of_instance.chain(places).find(|place| has_log(place))
}

fn has_log(directory: &Path) -> bool {
    match std::fs::symlink_metadata(directory.join("current")) {
        // A directory of this name may have logs itself.
        Ok(stat) if stat.is_dir() => {}
        Ok(_) => return true,
        // Whoever opens it is told so.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return true,
        Err(_) => {}
    }
    Directory::open(directory).and_then(|directory| directory.labels()).is_ok_and(|labels| !labels.is_empty())
}

/// A path without `.`.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// What a descriptor of a process leads to, in words; `None` if we may not see that.
fn goes_to(pid: i32, fd: i32) -> Option<String> {
    let Ok(target) = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")) else {
        let is_visible = std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok();
        return is_visible.then(|| "nothing, as it has closed that".to_owned());
    };
    let target = target.as_os_str().as_bytes();
    let shown = printable_text(target);
    Some(match target {
        b"/dev/null" => "/dev/null".to_owned(),
        [b'/', ..] if target.starts_with(b"/dev/pts/") || target.starts_with(b"/dev/tty") => {
            format!("the terminal {shown}")
        }
        [b'/', ..] if target.starts_with(b"/dev/") => shown,
        [b'/', ..] => format!("the file {}", hint::quoted(target)),
        _ if target.starts_with(b"pipe:") => match reader_of(target) {
            Some(reader) => format!("a pipe to {reader}"),
            None => "a pipe, perhaps of the container engine, or of who started the supervisor".to_owned(),
        },
        _ if target.starts_with(b"socket:") => "a socket, perhaps of journald: see journalctl(1)".to_owned(),
        _ => shown,
    })
}

/// The process that reads from a pipe, if we may see that: its name and number.
fn reader_of(pipe: &[u8]) -> Option<String> {
    let mut pids = listing::numbers_in(b"/proc")?;
    svcore::sort::sort(&mut pids);
    for pid in pids {
        let Some(fds) = listing::numbers_in(format!("/proc/{pid}/fd").as_bytes()) else { continue };
        for fd in fds {
            let is_pipe = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))
                .is_ok_and(|target| target.as_os_str().as_bytes() == pipe);
            if is_pipe && is_for_reading(pid, fd) {
                let name = printable_text(&ProcStat::of(pid)?.name);
                return Some(format!("{name} (pid {pid})"));
            }
        }
    }
    None
}

/// Whether a descriptor can only be read from. Source: proc_pid_fdinfo(5), `flags` in octal.
fn is_for_reading(pid: i32, fd: i32) -> bool {
    let info = std::fs::read(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.split(|&byte| byte == b'\n').find(|line| line.starts_with(b"flags:"));
    // The access mode is the two lowest bits: a part of the last digit.
    flags.and_then(<[u8]>::last).is_some_and(|digit| matches!(digit, b'0' | b'4'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_without_dots() {
        assert_eq!(tidy(Path::new("/etc/sv/web/log/./main")), Path::new("/etc/sv/web/log/main"));
    }
}
