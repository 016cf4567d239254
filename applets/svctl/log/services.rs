//! The services whose logs are shown. With `-f` also those that have no log yet, which are looked at until they have one, and
//! those that appear later.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svcore::Result;
use svcore::moment::Moment;
use svcore::say::{Message, printable_text};
use svcore::sys::clock;

use super::super::map::Map;
use super::super::tree::{self, Tree};
use super::LOOK_EVERY;
use super::find::{Finder, Found, Running};
use super::follow::{Changed, Follower};
use super::lines::Log;

/// How long after a change of a service without a log it is looked at once a second: its log service may need some time before
/// it starts svlogd, and the directory may be anywhere.
const SOON: Duration = Duration::from_secs(60);

/// The services that are asked for.
pub(super) struct Services<'a> {
    words: &'a [OsString],
    tree: &'a Tree,
    is_followed: bool,
    /// As the tree calls them.
    known: Map<OsString, ()>,
    /// The names before their lines, by number: of those that have a log, or have a log service and are waited for.
    names: Vec<Vec<u8>>,
    /// Those without a log, each in the place where it was put first.
    missing: Vec<Option<Missing>>,
    /// Until then those that are waited for are looked at once a second.
    soon_until: Moment,
    next_look: Moment,
    is_tree_watched: bool,
    /// A log is missing or cannot be read, which was reported.
    pub(super) has_failed: bool,
}

/// A service without a log.
struct Missing {
    /// As it is called before its lines.
    name: OsString,
    path: PathBuf,
    /// The number of its name, if it had a log service at any time.
    number: Option<usize>,
    /// It has a log service.
    is_awaited: bool,
    /// Each step on the way to a log is noticed.
    is_watched: bool,
}

/// What became of a look for a log.
enum Looked {
    Log(Box<Log>),
    /// Where the output goes instead, or what is known of the log service.
    Missing(Missing, String),
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
            known: Map::default(),
            names: Vec::new(),
            missing: Vec::new(),
            soon_until: now.saturating_add(SOON),
            next_look: now,
            is_tree_watched: false,
            has_failed: false,
        };
        let (finder, mut logs, mut reasons) = (Finder::default(), Vec::new(), Vec::new());
        for name in tree.selected_or_all(words)? {
            let missing = Missing::new(&name, tree);
            services.known.set(name, ());
            match services.look_at(&finder, missing) {
                Looked::Log(log) => logs.push(*log),
                Looked::Missing(missing, why) => {
                    reasons.push(why);
                    services.missing.push(Some(missing));
                }
                Looked::Failed => {}
            }
        }
        services.report_missing(&reasons, logs.is_empty());
        Ok((services, logs))
    }

    fn report_missing(&mut self, reasons: &[String], is_first_to_come: bool) {
        let are_named = !self.words.is_empty();
        let is_any_awaited = self.is_any_awaited();
        for (missing, why) in self.missing.iter().flatten().zip(reasons) {
            let name = missing.name.as_bytes();
            let what = [name, b": ", why.as_bytes()].concat();
            if missing.is_awaited {
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

    /// Whether a service has a log service and no log, and is waited for.
    pub(super) fn is_any_awaited(&self) -> bool {
        self.missing.iter().flatten().any(|missing| missing.is_awaited)
    }

    /// When to look again although nothing has changed, if ever.
    pub(super) fn next_look(&self) -> Option<Moment> {
        let is_soon = clock::monotonic() < self.soon_until;
        let mut awaited = self.missing.iter().flatten().filter(|missing| missing.is_awaited);
        let is_needed = !self.is_tree_watched || awaited.any(|missing| is_soon || !missing.is_watched);
        is_needed.then_some(self.next_look)
    }

    /// Looks for logs that there were not. Returns those that there are now.
    pub(super) fn look(&mut self, changed: &Changed, follower: &mut Follower) -> Vec<Log> {
        let now = clock::monotonic();
        let is_due = self.next_look().is_some_and(|at| at <= now);
        if is_due || changed.is_everything {
            self.next_look = now.saturating_add(LOOK_EVERY);
        }
        if !changed.missing.is_empty() {
            self.soon_until = now.saturating_add(SOON);
        }
        let is_tree = changed.is_tree || changed.is_everything || is_due && !self.is_tree_watched;
        if is_tree {
            self.look_at_tree(follower);
        }
        let (finder, mut logs) = (Finder::default(), Vec::new());
        for place in 0..self.missing.len() {
            let Some(slot) = self.missing.get_mut(place) else { continue };
            let is_timed = |missing: &Missing| is_due && missing.is_awaited;
            let has_changed = is_tree || changed.missing.contains(&place);
            let Some(mut missing) = slot.take_if(|missing| has_changed || is_timed(missing)) else {
                continue;
            };
            // Watched first: what appears after the look is noticed.
            missing.is_watched = follower.watch_missing(place, &missing.path);
            match self.look_at(&finder, missing) {
                Looked::Log(log) => logs.push(*log),
                Looked::Missing(missing, _) => {
                    if let Some(slot) = self.missing.get_mut(place) {
                        *slot = Some(missing);
                    }
                }
                Looked::Failed => {}
            }
        }
        logs
    }

    /// Adds the services that have appeared.
    fn look_at_tree(&mut self, follower: &mut Follower) {
        let is_asked = self.words.iter().any(|word| !tree::is_path(word)) || self.words.is_empty();
        self.is_tree_watched = !is_asked || follower.watch_tree(self.tree.path());
        // The directory may be away for a moment.
        for name in self.tree.selected_or_all(self.words).unwrap_or_default() {
            if self.known.get(&name).is_none() {
                self.missing.push(Some(Missing::new(&name, self.tree)));
                self.known.set(name, ());
            }
        }
    }

    fn look_at(&mut self, finder: &Finder, mut missing: Missing) -> Looked {
        missing.is_awaited = false;
        let why = match finder.find(&missing.path) {
            Found::Directory(directory) => {
                match Log::open(missing.name.as_bytes(), &directory, self.is_followed) {
                    Ok(mut log) => {
                        log.number = self.number_of(&missing);
                        return Looked::Log(Box::new(log));
                    }
                    Err(error) if self.is_followed && error.kind() == ErrorKind::NotFound => {
                        // Where it will be is not watched.
                        missing.is_watched = false;
                        missing.number = Some(self.number_of(&missing));
                        format!(
                            "has no log yet; waiting for it in {}",
                            printable_text(directory.as_os_str().as_bytes())
                        )
                    }
                    Err(error) => {
                        self.has_failed = true;
                        let what =
                            [missing.name.as_bytes(), b": unable to read ", directory.as_os_str().as_bytes()];
                        Message::warning("svctl", &what.concat()).because(&error).print();
                        return Looked::Failed;
                    }
                }
            }
            Found::NotYet { log_service, why } if self.is_followed => {
                // Without a supervisor it is not known where the first sign of one will be.
                missing.is_watched &= log_service != Running::Unknown;
                missing.is_awaited = true;
                missing.number = Some(self.number_of(&missing));
                match log_service {
                    Running::Process(_) => format!("has no log yet; waiting for it: {why}"),
                    Running::No | Running::Unknown => "has no log yet; waiting for it".to_owned(),
                }
            }
            Found::NotYet { why, .. } | Found::Elsewhere(why) => why,
        };
        Looked::Missing(missing, why)
    }

    /// The number of the name of a service, which it gets now if it has none.
    fn number_of(&mut self, missing: &Missing) -> usize {
        missing.number.unwrap_or_else(|| {
            self.names.push(missing.name.as_bytes().to_vec());
            self.names.len().saturating_sub(1)
        })
    }
}

impl Missing {
    /// The service of a name, before the first look.
    fn new(name: &OsStr, tree: &Tree) -> Self {
        Missing {
            name: shown_name(name).to_owned(),
            path: service_of(name, tree),
            number: None,
            is_awaited: false,
            is_watched: false,
        }
    }
}

/// The directory of the service that a word means; `web/log` means the log of `web`, too.
fn service_of(name: &OsStr, tree: &Tree) -> PathBuf {
    let path = if tree::is_path(name) { Path::new(name).to_owned() } else { tree.path().join(name) };
    match path.parent() {
        Some(parent) if path.ends_with("log") && parent.join("run").exists() => parent.to_owned(),
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
