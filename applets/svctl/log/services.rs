//! The services whose logs are shown. With `-f` also those that have no log yet, which are looked at until they have one, and
//! those that appear later. After each change of what leads from the name of a service to its log that is looked for anew.
//! A log has one name: the first that leads to it.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svcore::Result;
use svcore::moment::{Moment, earlier};
use svcore::say::{Message, printable_text};
use svcore::sys::clock;
use svcore::tai::{self, Tai64N};

use super::super::map::Map;
use super::super::tree::{self, Tree};
use super::LOOK_EVERY;
use super::find::{Finder, Found, Running};
use super::follow::{Changed, Follower};
use super::lines::Log;

/// How long after a change of a service without a log it is looked at once a second: its log service may need some time before
/// it starts svlogd, and the directory may be anywhere.
const SOON: Duration = Duration::from_secs(60);
/// The same after a change of the log service of a service with a log: svlogd may get another directory.
const SOON_ANOTHER: Duration = Duration::from_secs(6);
/// How long the log of a service that is gone, or has another one now, is followed: its svlogd may still write its last lines.
const LAST_LINES: Duration = Duration::from_secs(60);

/// The services that are asked for.
pub(super) struct Services<'a> {
    words: &'a [OsString],
    tree: &'a Tree,
    is_followed: bool,
    /// When the command began.
    began: Tai64N,
    /// As the tree calls them.
    known: Map<OsString, ()>,
    /// The names before their lines, by number: of those that have a log, or have a log service and are waited for.
    names: Vec<Vec<u8>>,
    /// Each stays in its place.
    services: Vec<Service>,
    next_look: Moment,
    is_tree_watched: bool,
    /// The number of the next log.
    next_log: usize,
    /// A log is missing or cannot be read, which was reported.
    pub(super) has_failed: bool,
}

/// A service that is asked for.
struct Service {
    /// As it is called before its lines.
    name: OsString,
    path: PathBuf,
    /// The number of its name, if it had a log service at any time.
    number: Option<usize>,
    /// It has a log service, and no log.
    is_awaited: bool,
    /// It has a log that is shown under its name.
    has_log: bool,
    /// Each step on the way to a log, or to another one, is noticed.
    is_watched: bool,
    /// Until then it is looked at once a second.
    soon_until: Moment,
    /// It had a log, whose last line was of this time.
    read_until: Option<Tai64N>,
    /// Its log cannot be read, which was reported.
    has_failed: bool,
}

/// What became of a look for a log.
enum Looked {
    /// It has another log than before.
    New(Box<Log>),
    /// It has the same log, or one that is shown under another name.
    Same,
    /// Where the output goes instead, or what is known of the log service.
    Missing(String),
    /// It cannot be read, which was reported.
    Failed,
}

impl<'a> Services<'a> {
    /// Opens the logs of the services that the words mean, and reports which have none. Of services that nobody has named these
    /// are only reported if no other has a log.
    ///
    /// # Errors
    ///
    /// Those of [`Tree::selected`].
    pub(super) fn open(words: &'a [OsString], tree: &'a Tree, is_followed: bool) -> Result<(Self, Vec<Log>)> {
        let now = clock::monotonic();
        let mut services = Services {
            words,
            tree,
            is_followed,
            began: tai::now(),
            known: Map::default(),
            names: Vec::new(),
            services: Vec::new(),
            next_look: now,
            is_tree_watched: false,
            next_log: 0,
            has_failed: false,
        };
        let (finder, mut logs, mut missing) = (Finder::default(), Vec::new(), Vec::new());
        for (place, name) in tree.selected_or_all(words)?.into_iter().enumerate() {
            let mut service = Service::new(&name, tree);
            services.known.set(name, ());
            match services.look_at(&finder, place, &mut service, &mut logs) {
                Looked::New(log) => logs.push(*log),
                Looked::Missing(why) => missing.push((place, why)),
                Looked::Same | Looked::Failed => {}
            }
            services.services.push(service);
        }
        services.report_missing(&missing, logs.is_empty());
        Ok((services, logs))
    }

    fn report_missing(&mut self, all: &[(usize, String)], is_first_to_come: bool) {
        let are_named = !self.words.is_empty();
        let is_any_awaited = self.is_any_awaited();
        for (place, why) in all {
            let Some(service) = self.services.get(*place) else { continue };
            let what = [service.name.as_bytes(), b": ", why.as_bytes()].concat();
            if service.is_awaited {
                if are_named || is_first_to_come {
                    Message::info("svctl", &what).print();
                }
            } else if are_named || is_first_to_come && !is_any_awaited {
                self.has_failed = true;
                Message::warning("svctl", &what).print();
            }
        }
    }

    /// The names that are printed before lines, by number.
    pub(super) fn names(&self) -> &[Vec<u8>] {
        &self.names
    }

    /// Whether there is no service at all.
    pub(super) const fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether a service has a log service and no log, and is waited for.
    pub(super) fn is_any_awaited(&self) -> bool {
        self.services.iter().any(|service| service.is_awaited)
    }

    /// When to look again although nothing has changed, if ever.
    pub(super) fn next_look(&self, logs: &[Log]) -> Option<Moment> {
        let now = clock::monotonic();
        let is_needed =
            !self.is_tree_watched || self.services.iter().any(|service| service.is_looked_at(now));
        let retires = logs.iter().filter_map(|log| log.retires).min();
        earlier(is_needed.then_some(self.next_look), retires)
    }

    /// Looks which logs the services have now. Returns those that are new.
    pub(super) fn look(
        &mut self,
        changed: &Changed,
        follower: &mut Follower,
        logs: &mut Vec<Log>,
    ) -> Vec<Log> {
        let now = clock::monotonic();
        let is_due = self.next_look(&[]).is_some_and(|at| at <= now);
        if is_due || changed.is_everything {
            self.next_look = now.saturating_add(LOOK_EVERY);
        }
        let is_over = |log: &Log| log.retires.is_some_and(|at| at <= now);
        logs.iter().filter(|log| is_over(log)).for_each(|log| follower.forget(log));
        logs.retain(|log| !is_over(log));
        let is_tree = changed.is_tree || changed.is_everything || is_due && !self.is_tree_watched;
        if is_tree {
            self.look_at_tree(follower);
        }
        let known = logs.len();
        let finder = Finder::default();
        let mut has_looked = false;
        for place in 0..self.services.len() {
            let Some(service) = self.services.get_mut(place) else { continue };
            let has_status_changed = changed.statuses.contains(&place);
            let has_changed = has_status_changed || changed.ways.contains(&place);
            if !(is_tree || has_changed || is_due && service.is_looked_at(now)) {
                continue;
            }
            has_looked = true;
            self.look_in(place, &finder, follower, logs);
            let Some(service) = self.services.get_mut(place) else { continue };
            if service.is_awaited && has_changed {
                service.soon_until = now.saturating_add(SOON);
            } else if service.has_log && has_status_changed {
                service.soon_until = now.saturating_add(SOON_ANOTHER);
            }
        }
        // A log that lost its name may have another one.
        let is_any_free = has_looked && logs.iter().any(|log| log.retires.is_some());
        for place in 0..self.services.len() {
            if is_any_free && self.services.get(place).is_some_and(|service| !service.has_log) {
                self.look_in(place, &finder, follower, logs);
            }
        }
        if has_looked {
            follower.sweep();
        }
        logs.split_off(known.min(logs.len()))
    }

    /// Looks which log the service in a place has now, and adds it if it is new.
    fn look_in(&mut self, place: usize, finder: &Finder, follower: &mut Follower, logs: &mut Vec<Log>) {
        let Some(slot) = self.services.get_mut(place) else { return };
        let mut service = std::mem::replace(slot, Service::new(OsStr::new(""), self.tree));
        let directory = of(place, logs).and_then(|at| logs.get(at)).map(|log| log.path().to_owned());
        // Watched first: what changes after the look is noticed.
        service.is_watched = follower.watch_way(place, &service.path, directory.as_deref());
        if let Looked::New(log) = self.look_at(finder, place, &mut service, logs) {
            follower.watch(&log);
            service.is_watched = follower.watch_way(place, &service.path, Some(log.path()));
            logs.push(*log);
        }
        if let Some(slot) = self.services.get_mut(place) {
            *slot = service;
        }
    }

    /// Adds the services that have appeared.
    fn look_at_tree(&mut self, follower: &mut Follower) {
        let is_asked = self.words.iter().any(|word| !tree::is_path(word)) || self.words.is_empty();
        self.is_tree_watched = !is_asked || follower.watch_tree(self.tree.path());
        // The directory may be away for a moment.
        for name in self.tree.selected_or_all(self.words).unwrap_or_default() {
            if self.known.get(&name).is_none() {
                self.services.push(Service::new(&name, self.tree));
                self.known.set(name, ());
            }
        }
    }

    fn look_at(&mut self, finder: &Finder, place: usize, service: &mut Service, logs: &mut [Log]) -> Looked {
        service.is_awaited = false;
        match finder.find(&service.path) {
            Found::Directory(directory) => {
                match Log::open(service.name.as_bytes(), &directory, self.is_followed) {
                    Ok(log) => {
                        service.has_failed = false;
                        self.give(log, place, service, logs)
                    }
                    Err(error) if self.is_followed && error.kind() == ErrorKind::NotFound => {
                        // Where it will be is not watched.
                        service.is_watched = false;
                        service.number = Some(self.number_of(service));
                        service.is_awaited = true;
                        Looked::Missing(format!(
                            "has no log yet; waiting for it in {}",
                            printable_text(directory.as_os_str().as_bytes())
                        ))
                    }
                    Err(error) => {
                        self.has_failed = true;
                        if !std::mem::replace(&mut service.has_failed, true) {
                            let what = [
                                service.name.as_bytes(),
                                b": unable to read ",
                                directory.as_os_str().as_bytes(),
                            ];
                            Message::warning("svctl", &what.concat()).because(&error).print();
                        }
                        Looked::Failed
                    }
                }
            }
            // What it had may be written to still.
            Found::NotYet { log_service, why } if self.is_followed => {
                // Without a supervisor it is not known where the first sign of one will be.
                service.is_watched &= log_service != Running::Unknown;
                service.is_awaited = true;
                service.number = Some(self.number_of(service));
                Looked::Missing(match log_service {
                    Running::Process(_) => format!("has no log yet; waiting for it: {why}"),
                    Running::No | Running::Unknown => "has no log yet; waiting for it".to_owned(),
                })
            }
            Found::NotYet { why, .. } | Found::Elsewhere(why) => {
                self.take(place, service, logs);
                Looked::Missing(why)
            }
        }
    }

    /// Gives a service this log, unless it has it already, or another service has it, under whose name it is shown.
    fn give(&mut self, mut log: Log, place: usize, service: &mut Service, logs: &mut [Log]) -> Looked {
        let identity = log.identity();
        let same = logs.iter().position(|other| other.identity() == identity);
        if let Some(other) = same.and_then(|at| logs.get_mut(at)) {
            let is_own = other.service == place;
            if !is_own && other.retires.is_none() && other.is_there() {
                self.take(place, service, logs);
                return Looked::Same;
            }
            if !is_own || other.retires.is_some() {
                // The service has another name now, or goes back to the log it had.
                self.take(place, service, logs);
                let Some(other) = same.and_then(|at| logs.get_mut(at)) else { return Looked::Same };
                (other.service, other.number) = (place, self.number_of(service));
                other.retires = None;
                service.number = Some(other.number);
                service.name.as_bytes().clone_into(&mut other.name);
                other.set_path(log.path());
            } else {
                other.set_path(log.path());
            }
            (service.has_log, service.soon_until) =
                (true, service.soon_until.min(clock::monotonic() + SOON_ANOTHER));
            return Looked::Same;
        }
        self.take(place, service, logs);
        log.number = self.number_of(service);
        service.number = Some(log.number);
        (log.service, log.id) = (place, self.next_log);
        self.next_log = self.next_log.saturating_add(1);
        (service.has_log, service.soon_until) = (true, Moment::START);
        if let Some(after) = service.read_until {
            log.after = Some(after);
            log.skip_to_time(after);
        }
        Looked::New(Box::new(log))
    }

    /// Takes its log from a service. What is still written to that is shown for a while.
    fn take(&self, place: usize, service: &mut Service, logs: &mut [Log]) {
        service.has_log = false;
        if let Some(log) = of(place, logs).and_then(|at| logs.get_mut(at)) {
            log.retires = Some(clock::monotonic().saturating_add(LAST_LINES));
            service.read_until = log.read_until().or(service.read_until).or(Some(self.began));
        }
    }

    /// The number of the name of a service, which it gets now if it has none.
    fn number_of(&mut self, service: &Service) -> usize {
        service.number.unwrap_or_else(|| {
            self.names.push(service.name.as_bytes().to_vec());
            self.names.len().saturating_sub(1)
        })
    }
}

/// Which of the logs is that of the service in a place.
fn of(place: usize, logs: &[Log]) -> Option<usize> {
    logs.iter().position(|log| log.service == place && log.retires.is_none())
}

impl Service {
    /// The service of a name, before the first look.
    fn new(name: &OsStr, tree: &Tree) -> Self {
        Service {
            name: shown_name(name).to_owned(),
            path: service_of(name, tree),
            number: None,
            is_awaited: false,
            has_log: false,
            is_watched: false,
            soon_until: clock::monotonic().saturating_add(SOON),
            read_until: None,
            has_failed: false,
        }
    }

    /// Whether it is looked at once a second.
    fn is_looked_at(&self, now: Moment) -> bool {
        // With a log, too: svlogd may get another directory.
        (self.is_awaited || self.has_log) && (!self.is_watched || now < self.soon_until)
    }
}

/// The directory of the service that a word means; `web/log` means the log of `web`, too.
fn service_of(name: &OsStr, tree: &Tree) -> PathBuf {
    let path = if tree::is_path(name) { Path::new(name).to_owned() } else { tree.path().join(name) };
    match path.parent() {
        Some(parent) if path.file_name() == Some(OsStr::new("log")) && parent.join("run").exists() => {
            parent.to_owned()
        }
        _ => path,
    }
}

/// How the service is called: as typed, but without what only says where it is.
fn shown_name(name: &OsStr) -> &OsStr {
    match Path::new(name).file_name() {
        Some(last) if tree::is_path(name) => last,
        _ => name,
    }
}
