//! `svctl import`: makes a service directory for each line of a Procfile.
//!
//! What it writes is listed in the file `.svctl-import` of the directory of services. Run again, it updates what is still as
//! it wrote it, and keeps what people changed; see [`plan`].

mod env_file;
mod plan;
mod procfile;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, FlockOperation, OFlags, flock};
use rustix::io::Errno;
use svcore::error::Context;
use svcore::listed::Listed;
use svcore::say::{self, printable_text};
use svcore::sys::clock;
use svcore::{Error, Failed, Result, trust};

use super::options::Opt;
use super::place::{File, Place, c_string, kind};
use super::script::{self, Script, quoted};
use super::text::say_of;
use super::{Asked, programs, project};
use plan::{Act, Checksum, Found, Manifest, Why};
use procfile::{Fault, Form, Line};

/// The exit code if something new could not be written or removed, since what people made is kept.
const DIFFERS: u8 = 1;
/// The file that lists what was written.
pub(super) const MANIFEST: &[u8] = b".svctl-import";
/// The files that an import writes into the directory of a service.
const FILES: &[&str] = &["run", "log/run", "kill-group"];
/// No Procfile, and no file of variables, is longer.
const TEXT_MAX: usize = 1024 * 1024;

/// Makes the services of a Procfile.
pub(super) fn run(asked: &Asked) -> Result {
    let file = match asked.names.as_slice() {
        [] => OsStr::new("Procfile"),
        [file] => file,
        _ => return Err(Error::Usage(Some("import needs one Procfile".to_owned()))),
    };
    let text = read(file)?;
    let lines = match procfile::parse(&text) {
        Ok(lines) if !lines.is_empty() => lines,
        Ok(_) => return Err(faulty(file, &[], "has no service")),
        Err(faults) => return Err(faulty(file, &faults, "")),
    };
    let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
    let tree = asked.given.value(Opt::Output).map_or_else(|| dir.join(project::TREE), PathBuf::from);
    // Before anything is made.
    let variables = match asked.given.value(Opt::EnvFile) {
        Some(file) => Some(checked_variables(file)?),
        None => None,
    };
    let mut project = Project { procfile: path, dir, variables, tree };
    let mut import = Import::new(asked, &project)?;
    import.keep_variables(&mut project)?;
    import.all(&project, &lines)
}

/// The absolute path of a file of variables that can be used.
fn checked_variables(file: &OsStr) -> Result<PathBuf> {
    env_file::check(&read(file)?).map_err(|fault| faulty(file, &[fault], ""))?;
    Ok(std::path::absolute(file).unwrap_or_else(|_| file.into()))
}

/// Reads a file that people wrote.
fn read(path: &OsStr) -> Result<Vec<u8>> {
    let read = || trust::read_at_most(&trust::open_content(CWD_FD, &c_string(path.as_bytes())?)?, TEXT_MAX);
    let text = read().unable_to("read", path.as_bytes())?;
    Ok(text)
}

const CWD_FD: rustix::fd::BorrowedFd<'static> = CWD;

/// A file that cannot be used, with a line for each of its faults.
fn faulty(path: &OsStr, faults: &[Fault], what: &str) -> Error {
    let path = printable_text(path.as_bytes());
    let mut faults = faults.iter().map(|fault| format!("{path} line {}: {}", fault.number, fault.why));
    let last = faults.next_back().unwrap_or_else(|| format!("{path} {what}"));
    for fault in faults {
        say::err_line(&[b"svctl: ", fault.as_bytes()]);
    }
    Failed::without_cause(last).into()
}

/// Where everything of a project is.
struct Project {
    procfile: PathBuf,
    /// The directory of the Procfile, in which its services run.
    dir: PathBuf,
    /// The file of variables.
    variables: Option<PathBuf>,
    /// The directory of services.
    tree: PathBuf,
}

impl Project {
    /// The directory for the logs of a service.
    fn logs(&self, name: &[u8]) -> Vec<u8> {
        [self.dir.as_os_str().as_bytes(), b"/log/", name].concat()
    }

    /// The files of the service of a line, by their names in its directory. The log service comes first, since a supervisor
    /// that finds `run` starts at once.
    fn files(&self, line: &Line) -> Vec<(&'static str, File)> {
        let procfile = self.procfile.file_name().unwrap_or_default().as_bytes();
        let comment = format!(
            "Written by svctl import from the line {} of {}.\nChange it, and the next import keeps it.",
            printable_text(&line.name),
            printable_text(procfile)
        );
        let mut run = Script::new(&comment);
        run.errors_to_log();
        run.change_directory(self.dir.as_os_str().as_bytes());
        if let Some(variables) = &self.variables {
            run.line(&[b"set -a"]);
            run.line(&[b". ", &quoted(variables.as_os_str().as_bytes()), b" || exit 111"]);
            run.line(&[b"set +a"]);
        }
        let svlogd = programs::command("svlogd");
        let log = script::log_run(&comment, &svlogd, &self.logs(&line.name));
        let mut files = vec![("log/run", File::script(log))];
        match procfile::form(&line.command) {
            Form::Exec(text) => run.line(&[&text]),
            Form::Hosted | Form::Broken => run.line(&[b"exec sh -c ", &quoted(&line.command)]),
        }
        // Signals are to reach what a program starts, too: a script of the project, or what npm runs.
        files.push(("kill-group", File::empty()));
        files.push(("run", File::script(run.into_bytes())));
        files
    }
}

/// An import that is under way.
struct Import<'a> {
    asked: &'a Asked,
    is_dry: bool,
    /// The directory of services; missing only if nothing is to be changed.
    tree: Option<Place>,
    path: Vec<u8>,
    manifest: Manifest,
    /// The services that were updated, and run what they were before.
    to_restart: Vec<Vec<u8>>,
}

/// The path of a file of a service, as the manifest has it.
fn path_in(service: &[u8], file: &str) -> Vec<u8> {
    [service, b"/", file.as_bytes()].concat()
}

/// What came of a service.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    created: bool,
    updated: bool,
    /// Something new could not be written, since it was kept.
    kept: bool,
}

impl<'a> Import<'a> {
    fn new(asked: &'a Asked, project: &Project) -> Result<Self> {
        let is_dry = asked.given.has(Opt::DryRun);
        let path = project.tree.as_os_str().as_bytes().to_vec();
        let tree = if is_dry { Place::open(&path).ok() } else { Some(Place::make(&path)?) };
        let manifest = match &tree {
            Some(tree) => {
                if !is_dry {
                    lock(tree).unable_to("lock", &path)?;
                }
                match c_string(MANIFEST).and_then(|name| tree.read(&name)) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Manifest::default(),
                    read => Manifest::parse(&read.unable_to("read", &tree.path_of(MANIFEST))?.0),
                }
            }
            None => Manifest::default(),
        };
        Ok(Import { asked, is_dry, tree, path, manifest, to_restart: Vec::new() })
    }

    /// Without `--env` a project keeps the file of variables of the import before.
    fn keep_variables(&mut self, project: &mut Project) -> Result<()> {
        if project.variables.is_none()
            && let Some(path) = self.manifest.variables()
        {
            let file = project.dir.join(OsStr::from_bytes(path));
            project.variables = Some(checked_variables(file.as_os_str())?);
        }
        if let Some(file) = &project.variables {
            // A project that is moved as a whole keeps its file.
            let path = file.strip_prefix(&project.dir).unwrap_or(file).as_os_str().as_bytes();
            self.manifest.set_variables(path);
        }
        Ok(())
    }

    /// Makes, updates and removes services.
    fn all(&mut self, project: &Project, lines: &[Line]) -> Result {
        let mut kept = false;
        let mut failure = None;
        for line in lines {
            match self.service(project, line) {
                Ok(outcome) => kept |= outcome.kept,
                Err(failed) => {
                    failure = Some(failed);
                    break;
                }
            }
        }
        if failure.is_none() {
            let gone: Vec<Vec<u8>> = self.manifest.services().into_iter().map(<[u8]>::to_vec).listed();
            for name in gone.iter().filter(|name| !lines.iter().any(|line| line.name == **name)) {
                match self.gone(name) {
                    Ok(is_kept) => kept |= is_kept,
                    Err(failed) => {
                        failure = Some(failed);
                        break;
                    }
                }
            }
        }
        // Also after a failure: what was written is ours.
        if let Some(tree) = self.tree.as_ref().filter(|_| !self.is_dry) {
            tree.write(MANIFEST, &File { content: self.manifest.text(), is_executable: false })?;
        }
        if let Some(failed) = failure {
            return Err(failed.into());
        }
        if !self.is_dry {
            self.say_next();
        }
        Ok(if kept { DIFFERS } else { 0 })
    }

    /// Makes or updates the service of a line.
    fn service(&mut self, project: &Project, line: &Line) -> Result<Outcome, Failed> {
        let name = &line.name;
        let files = project.files(line);
        let service = self.tree.as_ref().and_then(|tree| tree.child(name).ok());
        let mut outcome = Outcome::default();
        let mut to_write = Vec::new();
        for (file_name, file) in &files {
            let path = path_in(name, file_name);
            let wanted = Checksum::of(&file.content, file.is_executable);
            let found = self.found(name, service.as_ref(), file_name);
            match plan::decide(Some(wanted), self.manifest.get(&path), found) {
                Act::Nothing => self.manifest.set(&path, wanted),
                act @ (Act::Create | Act::Update) => {
                    outcome.created |= matches!(found, Found::NoService);
                    outcome.updated |= act == Act::Update || !matches!(found, Found::NoService);
                    to_write.push((*file_name, file, path, wanted));
                }
                Act::Keep(why) => {
                    // What a person changed is as it should be, unless there is something new to write.
                    outcome.kept |= self.manifest.get(&path) != Some(wanted);
                    self.say_kept(&path, why);
                }
                Act::Remove | Act::Forget => {}
            }
        }
        if !self.is_dry
            && let Some(tree) = &self.tree
        {
            if !to_write.is_empty() {
                Place::make(&project.logs(name))?;
                write(tree, name, service.as_ref(), &to_write)?;
            }
            for (_, _, path, wanted) in &to_write {
                self.manifest.set(path, *wanted);
            }
        }
        let runs = || project::is_running(&project.tree.join(OsStr::from_bytes(name)));
        if outcome.updated && runs() {
            self.to_restart.push(name.clone());
        }
        let would = if self.is_dry { "would be " } else { "" };
        let what = match outcome {
            Outcome { created: true, .. } => "made",
            Outcome { updated: true, .. } => "updated; it counts from its next start on",
            _ => return Ok(outcome),
        };
        say_of(name, &[would, what].concat());
        Ok(outcome)
    }

    /// What is at the place of a file.
    fn found(&self, name: &[u8], service: Option<&Place>, file: &str) -> Found {
        let Some(service) = service else {
            let is_nothing = |tree: &Place| matches!(tree.look(name), Ok(None));
            return if self.tree.as_ref().is_none_or(is_nothing) { Found::NoService } else { Found::Other };
        };
        let Ok(file) = c_string(file.as_bytes()) else { return Found::Other };
        match read_in(service, file.to_bytes()) {
            Ok((content, is_executable)) => Found::File(Checksum::of(&content, is_executable)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::NoFile,
            Err(_) => Found::Other,
        }
    }

    /// A service that left the Procfile: with `--prune` it is removed, unless somebody changed it. Whether it could not be
    /// removed.
    fn gone(&mut self, name: &[u8]) -> Result<bool, Failed> {
        let service = self.tree.as_ref().and_then(|tree| tree.child(name).ok());
        let mut is_changed = false;
        let mut paths = Vec::new();
        for file in FILES {
            let path = path_in(name, file);
            if let Some(written) = self.manifest.get(&path) {
                let found = self.found(name, service.as_ref(), file);
                if let Act::Keep(why) = plan::decide(None, Some(written), found) {
                    is_changed = true;
                    self.say_kept(&path, why);
                }
                paths.push(path);
            }
        }
        let Some(service) = service else {
            for path in paths {
                self.manifest.remove(&path);
            }
            return Ok(false);
        };
        let other = if is_changed { None } else { self.other_file(name, &service) };
        let has_prune = self.asked.given.has(Opt::Prune);
        if is_changed || other.is_some() {
            let other = other.map_or_else(String::new, |path| format!(": {}", printable_text(&path)));
            say_of(
                name,
                &format!("is no longer in the Procfile, and stays, since it has a file of yours{other}"),
            );
            return Ok(has_prune);
        }
        if !has_prune {
            say_of(name, "is no longer in the Procfile; --prune removes it");
            return Ok(false);
        }
        if self.is_dry {
            say_of(name, "would be removed");
            return Ok(false);
        }
        let Some(tree) = &self.tree else { return Ok(false) };
        // A supervisor ends a service whose directory has vanished. Until it has, the directory stays under another name.
        let removed =
            [b".".as_slice(), name, b".removed-", std::process::id().to_string().as_bytes()].concat();
        let path = tree.path_of(name);
        tree.rename(name, &removed).unable_to("remove", &path)?;
        let until = clock::monotonic().saturating_add(PRUNE_TIME);
        project::wait_until_unsupervised(Path::new(OsStr::from_bytes(&tree.path_of(&removed))), until);
        tree.remove_all(&removed).unable_to("remove", &path)?;
        for path in paths {
            self.manifest.remove(&path);
        }
        say_of(name, "removed");
        Ok(false)
    }

    /// A file in the directory of a service that neither an import wrote nor a supervisor makes; the directory itself if it
    /// cannot be read.
    fn other_file(&self, name: &[u8], service: &Place) -> Option<Vec<u8>> {
        let is_other =
            |path: &[u8]| path != b"log" && self.manifest.get(&[name, b"/", path].concat()).is_none();
        let unread = || Some(name.to_vec());
        let Ok(names) = service.names() else { return unread() };
        if let Some(other) = names.iter().find(|path| *path != b"supervise" && is_other(path)) {
            return Some(other.clone());
        }
        match service.look(b"log") {
            Ok(Some(stat)) if kind(&stat) == FileType::Directory => {}
            Ok(None) => return None,
            Ok(Some(_)) => return Some(b"log".to_vec()),
            Err(_) => return unread(),
        }
        let Ok(names) = service.child(b"log").and_then(|log| log.names()) else { return unread() };
        let mut paths =
            names.iter().filter(|name| *name != b"supervise").map(|name| [b"log/", name.as_slice()].concat());
        paths.find(|path| is_other(path))
    }

    fn say_kept(&self, path: &[u8], why: Why) {
        let why = match why {
            Why::Changed => "changed since the last import",
            Why::Removed => "removed since the last import; remove the directory to have it again",
            Why::Foreign => "not written by svctl import",
        };
        say_of(&[b"kept ".as_slice(), &self.path, b"/", path].concat(), why);
    }

    /// What starts the services, or makes them run what was written.
    fn say_next(&self) {
        let path = Path::new(OsStr::from_bytes(&self.path));
        if self.to_restart.is_empty() {
            say::out(&[b"next: svctl up", project::option_for(path).as_bytes(), b"\n"]);
        } else {
            let option = project::option_for_others(path);
            let names = self.to_restart.join(b" ".as_slice());
            say::out(&[b"next: svctl restart ", &names, option.as_bytes(), b"\n"]);
        }
        project::say_where_svdir_leads(path);
    }
}

/// How long a service has to end that is removed.
const PRUNE_TIME: Duration = Duration::from_secs(15);

/// Keeps other imports out as long as this process lives.
fn lock(tree: &Place) -> std::io::Result<()> {
    let dir =
        rustix::fs::openat(tree.fd(), c".", OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => flock(&dir, FlockOperation::LockExclusive)?,
        Err(errno) => return Err(errno.into()),
    }
    // The end of this process gives it back.
    std::mem::forget(dir);
    Ok(())
}

/// Writes the files of a service. One that does not exist yet appears complete.
fn write(
    tree: &Place,
    name: &[u8],
    service: Option<&Place>,
    files: &[(&'static str, &File, Vec<u8>, Checksum)],
) -> Result<(), Failed> {
    let new = [b".".as_slice(), name, b".new"].concat();
    let made;
    let into = match service {
        Some(service) => service,
        None => {
            // An import that was killed may have left one.
            let _ = tree.remove_all(&new);
            made = tree.make_child(&new)?;
            &made
        }
    };
    for (path, file, _, _) in files {
        match path.strip_prefix("log/") {
            Some(file_name) => into.make_child(b"log")?.write(file_name.as_bytes(), file)?,
            None => into.write(path.as_bytes(), file)?,
        }
    }
    if service.is_none() {
        tree.rename(&new, name).unable_to("make", &tree.path_of(name))?;
    }
    Ok(())
}

/// Reads a file of a service, or of its log service.
fn read_in(service: &Place, path: &[u8]) -> std::io::Result<(Vec<u8>, bool)> {
    match path.strip_prefix(b"log/") {
        Some(name) => service.child(b"log")?.read(&c_string(name)?),
        None => service.read(&c_string(path)?),
    }
}
