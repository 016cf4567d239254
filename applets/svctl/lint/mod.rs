//! `svctl lint`: finds in service directories what would keep a service from working, before anything runs.

pub(super) mod name;
mod rules;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, open, statat};
use svcore::error::{Context, reason};
use svcore::listed::Listed;
use svcore::policy::{self, PolicyFile};
use svcore::say::{self, printable_text};
use svcore::sort::sort;
use svcore::{Result, files, hint, sys, trust};

use super::options::Opt;
use super::place::{Place, c_string, kind, read_link};
use super::text::say_of;
use super::tree::Tree;
use super::{Asked, json};
use rules::{Finding, Look, Program};

/// The exit code if something was found.
const FOUND: u8 = 1;
/// As much of a script is read.
const TEXT_MAX: usize = 64 * 1024;
/// The programs of a service, with their paths in its directory. Hooks are found by their directory.
const PROGRAMS: &[&str] = &["run", "finish", "check", "on-failure", "log/run", "log/finish"];
/// The settings of a stop. Source: runit-service(5).
const SETTINGS: &[&str] =
    &["down-signal", "timeout-kill", "timeout-finish", "log/down-signal", "log/timeout-kill"];
/// The hooks. Source: runsv(8), CUSTOMIZE CONTROL.
const HOOKS: &[&str] = &[
    "control/u",
    "control/d",
    "control/t",
    "control/x",
    "control/o",
    "control/p",
    "control/c",
    "control/h",
    "control/a",
    "control/i",
    "control/q",
    "control/1",
    "control/2",
    "control/k",
];
/// What only the directory of a service has in it.
const OF_SERVICE: &[&str] = &["run", "finish", "check", "log", "supervise", "control", "down"];

/// Looks at the directories, or at the served one if none is named, and prints what is wrong.
pub(super) fn run(asked: &Asked) -> Result {
    let tree;
    let dirs: Vec<&Path> = if asked.names.is_empty() {
        tree = Tree::new(&asked.given);
        vec![tree.path()]
    } else {
        asked.names.iter().map(Path::new).listed()
    };
    let mut found = Vec::new();
    for dir in dirs {
        lint(dir, &mut found)?;
    }
    let mut out = String::new();
    if asked.given.has(Opt::Json) {
        json::object(&mut out, &mut |object| {
            object.objects("findings", &found, |object, (service, finding)| {
                object.bytes("service", service);
                object.bytes("file", &finding.file);
                object.text("problem", &finding.what);
            });
        });
        out.push('\n');
        say::out(&[out.as_bytes()]);
    } else {
        for (service, Finding { file, what }) in &found {
            let slash: &[u8] = if file.is_empty() { b"" } else { b"/" };
            say_of(&[service, slash, file].concat(), &printable_text(what.as_bytes()));
        }
    }
    Ok(if found.is_empty() { 0 } else { FOUND })
}

/// Adds what is wrong with a service directory, or with all in a directory of them: each with the path of its service.
fn lint(dir: &Path, found: &mut Vec<(Vec<u8>, Finding)>) -> Result<()> {
    let path = dir.as_os_str().as_bytes();
    let is_service = is_service(dir);
    let mut paths = Vec::new();
    if is_service {
        paths.push(path.to_vec());
    } else {
        let place = Place::open(path).unable_to("read", path)?;
        for name in place.names().unable_to("read", path)? {
            let is_file = statat(place.fd(), OsStr::from_bytes(&name), AtFlags::empty())
                .is_ok_and(|stat| !files::is_dir(&stat));
            if !is_file && !name.starts_with(b".") {
                paths.push(place.path_of(&name));
            }
        }
        sort(&mut paths);
    }
    let services: Vec<Look> = paths.iter().map(|path| look(path)).listed();
    for (path, service) in paths.iter().zip(&services) {
        let mut findings = rules::findings(service);
        // What is beside a single service is not known.
        if !is_service {
            findings.append(&mut rules::wrong_needs(service, &services));
        }
        for finding in findings {
            found.push((path.clone(), finding));
        }
    }
    Ok(())
}

/// Whether a directory is that of a service, and not one of services, of which one may be called `log`.
fn is_service(dir: &Path) -> bool {
    let exists = |path: &Path| path.symlink_metadata().is_ok();
    let is_other = |name: &[u8]| !OF_SERVICE.iter().any(|known| known.as_bytes() == name);
    let names = Place::open(dir.as_os_str().as_bytes()).and_then(|place| place.names()).unwrap_or_default();
    let mut others = names.iter().filter(|name| is_other(name) && !name.starts_with(b"."));
    let has_services = others.any(|name| exists(&dir.join(OsStr::from_bytes(name)).join("run")));
    !has_services && OF_SERVICE.iter().any(|name| exists(&dir.join(name)))
}

/// Looks at the service at a path.
fn look(path: &[u8]) -> Look {
    let absolute = std::path::absolute(OsStr::from_bytes(path)).unwrap_or_default();
    let name = absolute.file_name().unwrap_or_default().as_bytes().to_vec();
    let mut look = Look { name, ..Look::default() };
    // Links are followed here: who looks at a directory wants to know about it, and nothing is changed.
    let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match c_string(path).and_then(|path| Ok(open(&path, flags, Mode::empty())?)) {
        Ok(dir) => dir,
        Err(error) => {
            look.dangling = read_link(CWD, path).ok();
            look.unreadable = Some(reason(&error));
            return look;
        }
    };
    let stat = |name: &[u8], flags| c_string(name).ok().and_then(|name| statat(&dir, &name, flags).ok());
    look.log_is_no_directory = stat(b"log", AtFlags::empty()).is_some_and(|stat| !files::is_dir(&stat));
    for state in ["supervise", "log/supervise"] {
        let is_link = stat(state.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
            .is_some_and(|stat| kind(&stat) == FileType::Symlink);
        if is_link && stat(state.as_bytes(), AtFlags::empty()).is_none() {
            let target = read_link(dir.as_fd(), state.as_bytes()).unwrap_or_default();
            // A supervisor makes the last directory of the path, and what is in /run is made by the boot.
            let above = Path::new(OsStr::from_bytes(&target)).parent().unwrap_or(Path::new("/"));
            if !target.starts_with(b"/run/") && stat(above.as_os_str().as_bytes(), AtFlags::empty()).is_none()
            {
                look.dangling_states.push((state.into(), target));
            }
        }
    }
    for &path_in in PROGRAMS.iter().chain(HOOKS) {
        let program = program(&dir, path, path_in);
        if path_in == "log/run" && !program.is_missing {
            for log in rules::log_directories(&program.text) {
                let from_service =
                    if log.starts_with(b"/") { log.clone() } else { [b"log/", &*log].concat() };
                if stat(&from_service, AtFlags::empty()).is_none() {
                    look.missing_logs.push(log);
                }
            }
        }
        look.programs.push(program);
    }
    for &setting in SETTINGS {
        let mut buffer = [0; 32];
        let text =
            c_string(setting.as_bytes()).and_then(|name| files::read_start(dir.as_fd(), &name, &mut buffer));
        if let Some(expected) = rules::wrong_setting(setting, text.unwrap_or_default().trim_ascii()) {
            look.senseless.push((setting, expected));
        }
    }
    for file in PolicyFile::ALL {
        let Ok(opened) = trust::open_content(dir.as_fd(), file.name()) else { continue };
        let text = trust::read_at_most(&opened, TEXT_MAX).unwrap_or_default();
        if let Some(expected) = rules::senseless(file, &text) {
            look.senseless.push((file.name().to_str().unwrap_or_default(), expected));
        } else if file == PolicyFile::Needs {
            look.needs = policy::needs(&text).unwrap_or_default();
        }
    }
    look
}

/// The directories that a script of a service, such as `log/run`, gives to svlogd: as they are written, and as paths.
pub(super) fn log_directories(service: &Path, script: &str) -> Vec<(Vec<u8>, PathBuf)> {
    let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (Ok(dir), Ok(name)) = (open(service, flags, Mode::empty()), c_string(script.as_bytes())) else {
        return Vec::new();
    };
    let Ok(file) = trust::open_content(dir.as_fd(), &name) else { return Vec::new() };
    let text = trust::read_at_most(&file, TEXT_MAX).unwrap_or_default();
    let from = service.join(script);
    let from = from.parent().unwrap_or(service);
    let paths = rules::log_directories(&text).into_iter();
    paths.map(|path| (path.clone(), from.join(OsStr::from_bytes(&path)))).listed()
}

/// Looks at a program of a service.
fn program(dir: &OwnedFd, service: &[u8], path: &'static str) -> Program {
    let mut program = Program { path, ..Program::default() };
    let Ok(name) = c_string(path.as_bytes()) else { return program };
    if statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
        program.is_missing = true;
        return program;
    };
    let shown = [service, b"/", path.as_bytes()].concat();
    program.cannot_start = hint::before_start(dir.as_fd(), &name, &shown);
    // A group that may write is usual where each user has a group of their own.
    let is_open = |stat: &Stat| stat.st_mode & 0o002 != 0 && kind(stat) == FileType::RegularFile;
    program.everybody_may_write = statat(dir, &name, AtFlags::empty()).is_ok_and(|stat| is_open(&stat));
    if let Ok(file) = trust::open_content(dir.as_fd(), &name) {
        program.text = trust::read_at_most(&file, TEXT_MAX).unwrap_or_default();
    }
    program
}
