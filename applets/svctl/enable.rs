//! `svctl enable` and `svctl disable`.
//!
//! A service is enabled by a link from the served directory to its definition in `/etc/sv`. A directory without links has the
//! services themselves in it; there, a file `down` disables one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use svcore::error::Context;
use svcore::listed::Listed;
use svcore::say::{self, printable, printable_text};
use svcore::sys::clock;
use svcore::{Error, Failed, Result};

use super::lint::name;
use super::options::{Given, Opt};
use super::place::{File, Place, kind, read_link};
use super::tree::Tree;
use super::{Asked, act, project};

/// The exit code if something could not be done for a service.
const FAILED: u8 = 1;
/// Where definitions are.
const USUAL_SOURCE: &str = "/etc/sv";
/// The directories that the services of a system are in, or below.
const SYSTEM: [&[u8]; 2] = [b"/etc/runit/runsvdir/", b"/etc/service/"];
/// The program by which Debian's packages enable services. It is there where `.NAME` means disabled by the administrator.
const UPDATE_SERVICE: &str = "/usr/sbin/update-service";

/// Where the definitions of services are.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Whether somebody chose it, by `-s` or `SVSRC`.
    pub(super) is_chosen: bool,
}

impl Source {
    /// `-s`, else `SVSRC`, else `/etc/sv`.
    pub(super) fn new(given: &Given) -> Self {
        let chosen = given.value(Opt::Source).map(OsStr::to_owned);
        let chosen = chosen.or_else(|| std::env::var_os("SVSRC").filter(|dir| !dir.is_empty()));
        Source { is_chosen: chosen.is_some(), path: chosen.unwrap_or_else(|| USUAL_SOURCE.into()).into() }
    }
}

/// What the served directory has under the name of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Nothing,
    /// A link to a directory.
    Link,
    /// A link to nothing.
    Dangling,
    Directory,
    /// Something that is no service.
    Other,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Already,
    MakeLink,
    /// A link to nothing is in the way.
    ReplaceLink,
    RemoveLink,
    MakeDown,
    RemoveDown,
    /// There is nothing to link to.
    NotDefined,
    /// What has the name is no service.
    InTheWay,
}

/// How to enable. `has_down`: the directory has a file `down`; `is_defined`: there is a definition.
const fn to_enable(entry: Entry, has_down: bool, is_defined: bool) -> Step {
    match (entry, has_down, is_defined) {
        (Entry::Nothing, _, true) => Step::MakeLink,
        (Entry::Dangling, _, true) => Step::ReplaceLink,
        (Entry::Nothing | Entry::Dangling, _, false) => Step::NotDefined,
        (Entry::Directory, true, _) => Step::RemoveDown,
        // A file `down` behind a link is the definition's: whoever wrote it wants to start the service by hand.
        (Entry::Directory | Entry::Link, ..) => Step::Already,
        (Entry::Other, ..) => Step::InTheWay,
    }
}

/// How to disable.
const fn to_disable(entry: Entry, has_down: bool, is_defined: bool) -> Step {
    match (entry, has_down, is_defined) {
        (Entry::Link | Entry::Dangling, ..) => Step::RemoveLink,
        (Entry::Directory, false, _) => Step::MakeDown,
        (Entry::Directory, true, _) | (Entry::Nothing, _, true) => Step::Already,
        (Entry::Nothing, _, false) => Step::NotDefined,
        (Entry::Other, ..) => Step::InTheWay,
    }
}

/// Enables services.
pub(super) fn enable(asked: &Asked) -> Result {
    Change::new(asked, true)?.all()
}

/// Disables services.
pub(super) fn disable(asked: &Asked) -> Result {
    Change::new(asked, false)?.all()
}

/// What is asked for.
struct Change<'a> {
    asked: &'a Asked,
    enables: bool,
    tree: Place,
    source: PathBuf,
}

/// A service that is named.
struct Service {
    name: OsString,
    /// Its definition.
    definition: PathBuf,
}

impl<'a> Change<'a> {
    fn new(asked: &'a Asked, enables: bool) -> Result<Self> {
        if asked.names.is_empty() {
            return Err(Error::Usage(Some("no service is named".to_owned())));
        }
        let tree = Tree::new(&asked.given);
        let path = tree.path().as_os_str().as_bytes();
        let tree = Place::open(path).unable_to("open", path)?;
        let source = Source::new(&asked.given).path;
        Ok(Change { asked, enables, tree, source: std::path::absolute(&source).unwrap_or(source) })
    }

    fn all(&self) -> Result {
        // Patterns and groups mean services of the directory.
        let words = &self.asked.names;
        let are_definitions = words.iter().all(|word| self.source.join(word).is_dir());
        let tree = Tree::new(&self.asked.given);
        let names = if are_definitions { words.clone() } else { tree.selected(words)? };
        let services: Vec<Service> = names.iter().map(|name| self.service(name)).listed();
        let is_now = self.asked.given.has(Opt::Now) && !self.asked.given.has(Opt::DryRun);
        let patience = project::patience(self.asked)?;
        let mut failed = false;
        if is_now && !self.enables {
            // While the link is still there, so that nobody has to guess why the service ends.
            let paths = services.iter().map(|service| self.path(service));
            let supervised: Vec<OsString> = paths.filter(|path| project::is_supervised(path)).listed();
            failed |= project::act(&supervised, &project::STOP, patience);
        }
        // Where the links lead to, while they are there.
        let directories: Vec<PathBuf> = services.iter().map(|service| self.directory(service)).listed();
        let mut done = Vec::new();
        for service in &services {
            match self.one(service) {
                Ok(()) => done.push(service.name.clone()),
                Err(why) => {
                    say::err_line(&[b"svctl: ", service.name.as_bytes(), b": ", why.to_string().as_bytes()]);
                    failed = true;
                }
            }
        }
        let tree = Tree::at(OsStr::from_bytes(self.tree.path()).into());
        // Where nothing serves the directory, supervisors neither come nor leave.
        if is_now && project::is_served(tree.path()) {
            let until = clock::monotonic().saturating_add(patience);
            if self.enables {
                for name in &done {
                    project::wait_until_supervised(&tree.path().join(name), until);
                }
            } else {
                // Who enables it again at once is to find the new supervisor, not the one that is about to leave.
                let is_gone = |service: &Service| !Path::new(&self.path(service)).exists();
                let gone = services.iter().zip(&directories).filter(|(service, _)| is_gone(service));
                for (_, directory) in gone {
                    project::wait_until_unsupervised(directory, until);
                }
            }
        }
        if is_now && self.enables && !done.is_empty() {
            failed |= act::start_these(self.asked, &tree, &done)? != 0;
        }
        Ok(if failed { FAILED } else { 0 })
    }

    /// Where a service is in the served directory.
    fn path(&self, service: &Service) -> OsString {
        let tree = Path::new(OsStr::from_bytes(self.tree.path()));
        let path = tree.join(&service.name);
        std::path::absolute(&path).unwrap_or(path).into_os_string()
    }

    /// The directory of a service, without links; where it is in the served directory if there is none.
    fn directory(&self, service: &Service) -> PathBuf {
        let path = self.path(service);
        std::fs::canonicalize(&path).unwrap_or_else(|_| path.into())
    }

    /// The service that a word means: a path is that of the definition, a name is looked for among the definitions. An
    /// instance `getty@tty1` is a link to the definition `getty@`.
    fn service(&self, word: &OsStr) -> Service {
        if word.as_bytes().contains(&b'/') {
            let definition = std::path::absolute(word).unwrap_or_else(|_| word.into());
            let name = definition.file_name().unwrap_or_default().to_owned();
            return Service { name, definition };
        }
        let mut definition = self.source.join(word);
        let at = word.as_bytes().iter().position(|&byte| byte == b'@');
        if let Some(template) = at.and_then(|at| word.as_bytes().get(..=at))
            && !definition.is_dir()
            && self.source.join(OsStr::from_bytes(template)).is_dir()
        {
            definition = self.source.join(OsStr::from_bytes(template));
        }
        Service { name: word.to_owned(), definition }
    }

    /// Does what is needed for one service.
    fn one(&self, service: &Service) -> Result<(), Failed> {
        let name = service.name.as_bytes();
        if let Some(why) = name::fault(name).filter(|_| self.enables) {
            return Err(Failed::without_cause(format!("it cannot be the name of a service: {why}")));
        }
        let entry = self.entry(name)?;
        let directory = self.tree.child(name);
        let has_down = directory.as_ref().is_ok_and(|dir| matches!(dir.look(b"down"), Ok(Some(_))));
        let definition = &service.definition;
        let is_defined = definition.is_dir();
        if self.enables && matches!(entry, Entry::Nothing | Entry::Dangling) && is_defined {
            let run = definition.join("run");
            if !run.exists() {
                let what = [b"there is no ", run.as_os_str().as_bytes()].concat();
                return Err(Failed::without_cause(what));
            }
        }
        if self.enables && entry == Entry::Link && is_defined {
            self.check_link(name, definition)?;
        }
        let decide = if self.enables { to_enable } else { to_disable };
        let step = decide(entry, has_down, is_defined);
        let link = printable(&self.tree.path_of(name)).into_owned();
        let down = [link.as_slice(), b"/down"].concat();
        let to = printable(service.definition.as_os_str().as_bytes()).into_owned();
        let (done, would): (&[u8], &[u8]) = match step {
            Step::Already if self.enables => (b"is enabled already", b"is enabled already"),
            Step::Already => (b"is disabled already", b"is disabled already"),
            Step::MakeLink | Step::ReplaceLink => (b"enabled by the link ", b"would be enabled by the link "),
            Step::RemoveLink => (b"disabled, without the link ", b"would be disabled, without the link "),
            Step::MakeDown => (b"disabled by the file ", b"would be disabled by the file "),
            Step::RemoveDown => (b"enabled, without the file ", b"would be enabled, without the file "),
            Step::NotDefined => {
                let near =
                    Tree::at(self.source.clone()).nearest(&service.name).map_or_else(String::new, |near| {
                        "; did you mean ".to_owned() + &printable_text(near.as_bytes()) + "?"
                    });
                let what = [b"there is neither ", &*link, b" nor ", &*to, near.as_bytes()].concat();
                return Err(Failed::without_cause(what));
            }
            Step::InTheWay => {
                return Err(Failed::without_cause([&*link, b" is not a directory"].concat()));
            }
        };
        let object: Vec<u8> = match step {
            Step::MakeLink | Step::ReplaceLink => {
                let is_down = service.definition.join("down").exists() && !self.asked.given.has(Opt::Now);
                let note: &[u8] =
                    if is_down { b"; it has a file down, so svctl start has to start it" } else { b"" };
                let old = self.target(name).filter(|_| step == Step::ReplaceLink);
                let old = old.map_or_else(Vec::new, |old| {
                    [b", in place of one to ", &*printable(&old), b", which did not exist"].concat()
                });
                [&*link, b" to ", &*to, &old, note].concat()
            }
            Step::RemoveLink => match self.target(name) {
                Some(target) => [&*link, b" to ", &*printable(&target)].concat(),
                None => link,
            },
            Step::MakeDown | Step::RemoveDown => down,
            Step::Already | Step::NotDefined | Step::InTheWay => Vec::new(),
        };
        let is_dry = self.asked.given.has(Opt::DryRun);
        if !is_dry {
            self.perform(step, name, &service.definition)?;
        }
        say::out(&[&printable(name), b": ", if is_dry { would } else { done }, &object, b"\n"]);
        Ok(())
    }

    /// What the served directory has under this name.
    fn entry(&self, name: &[u8]) -> Result<Entry, Failed> {
        let path = self.tree.path_of(name);
        let Some(stat) = self.tree.look(name).unable_to("look at", &path)? else {
            return Ok(Entry::Nothing);
        };
        let leads_to = || std::fs::metadata(OsStr::from_bytes(&path));
        Ok(match kind(&stat) {
            FileType::Directory => Entry::Directory,
            FileType::Symlink => match leads_to() {
                Ok(stat) if stat.is_dir() => Entry::Link,
                Ok(_) => Entry::Other,
                Err(_) => Entry::Dangling,
            },
            _ => Entry::Other,
        })
    }

    /// Where a link leads to.
    fn target(&self, name: &[u8]) -> Option<Vec<u8>> {
        read_link(self.tree.fd(), name).ok()
    }

    /// Checks that the link of a service leads to its definition.
    fn check_link(&self, name: &[u8], definition: &Path) -> Result<(), Failed> {
        let path = self.tree.path_of(name);
        let real = |path: &OsStr| std::fs::canonicalize(path).ok();
        if real(OsStr::from_bytes(&path)) == real(definition.as_os_str()) {
            return Ok(());
        }
        let target = self.target(name).unwrap_or_default();
        let definition = definition.as_os_str().as_bytes();
        let what = [&*path, b" leads to ", &*target, b", not to ", definition].concat();
        Err(Failed::without_cause(what))
    }

    fn perform(&self, step: Step, name: &[u8], definition: &Path) -> Result<(), Failed> {
        let path = self.tree.path_of(name);
        match step {
            Step::MakeLink | Step::ReplaceLink => {
                // Under another name first, so that the old link is replaced in one step.
                let new = [b".".as_slice(), name, b".new"].concat();
                let link = || {
                    let _ = self.tree.unlink(&new);
                    self.tree.make_link(&new, definition.as_os_str().as_bytes())?;
                    self.tree.rename(&new, name)
                };
                link().unable_to("make the link", &path)?;
                self.forget_choice(name);
            }
            Step::RemoveLink => {
                let target = self.target(name);
                self.tree.unlink(name).unable_to("remove the link", &path)?;
                self.remember_choice(name, target);
            }
            Step::MakeDown => {
                let service = self.tree.child(name).unable_to("open", &path)?;
                service.write(b"down", &File::empty())?;
            }
            Step::RemoveDown => {
                let service = self.tree.child(name).unable_to("open", &path)?;
                service.unlink(b"down").unable_to("remove down in", &path)?;
            }
            Step::Already | Step::NotDefined | Step::InTheWay => {}
        }
        Ok(())
    }

    /// Debian: the link `.NAME`, by which a package knows that the administrator disabled its service, goes.
    fn forget_choice(&self, name: &[u8]) {
        let hidden = [b".".as_slice(), name].concat();
        if self.tree.look(&hidden).is_ok_and(|stat| stat.is_some_and(|stat| kind(&stat) == FileType::Symlink))
        {
            // A package would only leave the service as it is.
            let _ = self.tree.unlink(&hidden);
        }
    }

    /// Debian: makes the link `.NAME`, so that the next upgrade of the package does not enable its service again.
    fn remember_choice(&self, name: &[u8], target: Option<Vec<u8>>) {
        let is_system = std::fs::canonicalize(OsStr::from_bytes(self.tree.path())).is_ok_and(|path| {
            let path = [path.as_os_str().as_bytes(), b"/"].concat();
            SYSTEM.iter().any(|system| path.starts_with(system))
        });
        if let Some(target) = target
            && is_system
            && Path::new(UPDATE_SERVICE).exists()
        {
            let hidden = [b".".as_slice(), name].concat();
            // The service is disabled without it, too.
            let _ = self.tree.make_link(&hidden, &target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_already_stays() {
        for (entry, has_down, is_defined, enable, disable) in [
            (Entry::Nothing, false, true, Step::MakeLink, Step::Already),
            (Entry::Nothing, false, false, Step::NotDefined, Step::NotDefined),
            (Entry::Link, false, true, Step::Already, Step::RemoveLink),
            (Entry::Link, true, true, Step::Already, Step::RemoveLink),
            (Entry::Dangling, false, true, Step::ReplaceLink, Step::RemoveLink),
            (Entry::Dangling, false, false, Step::NotDefined, Step::RemoveLink),
            (Entry::Directory, false, false, Step::Already, Step::MakeDown),
            (Entry::Directory, true, false, Step::RemoveDown, Step::Already),
            (Entry::Other, false, true, Step::InTheWay, Step::InTheWay),
        ] {
            assert_eq!(to_enable(entry, has_down, is_defined), enable, "{entry:?} {has_down} {is_defined}");
            assert_eq!(to_disable(entry, has_down, is_defined), disable, "{entry:?} {has_down} {is_defined}");
        }
    }
}
