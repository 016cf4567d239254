//! The services of the directory: taken up when they appear, told to leave when they vanish.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fd::AsFd;
use rustix::io::Errno;
use svcore::control::Command;
use svcore::event::earlier;
use svcore::scan::{self, Directory, Found, Identity};
use svcore::service::Service;
use svcore::service::host::{Host, Place, now};
use svcore::service::pair::Which;
use svcore::sys::{clock, privilege, spawn};
use svcore::{Context, Error, Result, say};

use super::output::Output;

/// How long one that was told to exit, or left because of trouble, is left alone.
const PACE: Duration = Duration::from_secs(1);
/// How long one that could not be taken up is left alone.
const TROUBLE: Duration = Duration::from_secs(5);
/// Descriptors that are left for other things than services.
const RESERVE: u64 = 64;
/// Why there is no room for one more service.
const NO_ROOM: [Errno; 2] = [Errno::MFILE, Errno::NFILE];

/// A service that is there.
#[derive(Debug)]
struct Entry {
    found: Found,
    /// Where it is hosted, if it is.
    place: Option<Place>,
    /// Not taken up before this moment; `None`: not before something changes.
    not_before: Option<Duration>,
    /// What stood in the way of taking it up, once that was said.
    said: Option<String>,
}

/// The directory and its services.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) dir: Directory,
    entries: Vec<Entry>,
    /// Told to leave and forgotten, but still there.
    leaving: Vec<(Identity, Place)>,
    /// How many were said not to fit.
    unfit: usize,
    /// When one of the services is to be taken up.
    due: Option<Duration>,
}

impl Served {
    /// The services of `dir`; none is taken up yet.
    pub(crate) fn new(dir: &OsStr) -> Result<Self> {
        let dir = Directory::new("runsvinit", dir)?;
        Ok(Served { dir, entries: Vec::new(), leaving: Vec::new(), unfit: 0, due: None })
    }

    /// Looks at the directory and takes up what is new. What could not be taken up is tried again.
    pub(crate) fn look(&mut self, host: &mut Host, output: &mut Option<Output>) {
        if let Some(found) = self.dir.look() {
            let known: Vec<&Found> = self.entries.iter().map(|entry| &entry.found).collect();
            let plan = scan::compare(&known, &found, |_| false);
            for place in plan.stop.into_iter().rev() {
                let entry = self.entries.remove(place);
                if let Some(place) = entry.place {
                    self.leaving.push((entry.found.identity, place));
                    host.command(now(), place, Command::Exit);
                }
            }
            self.entries.extend(plan.start.into_iter().map(|found| Entry {
                found,
                place: None,
                not_before: Some(Duration::ZERO),
                said: None,
            }));
        }
        self.retry();
        self.start_due(host, output);
    }

    /// Those that did not fit may do so now.
    pub(crate) fn retry(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.place.is_none()) {
            entry.not_before.get_or_insert(Duration::ZERO);
        }
        self.find_due();
    }

    /// When something is to be done here.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        earlier(self.dir.look_at(), self.due)
    }

    /// Finds out anew when one is to be taken up.
    fn find_due(&mut self) {
        self.due = self.entries.iter().fold(None, |until, entry| match entry.place {
            None if !self.is_leaving(entry.found.identity) => earlier(until, entry.not_before),
            _ => until,
        });
    }

    fn is_leaving(&self, identity: Identity) -> bool {
        self.leaving.iter().any(|(leaving, _)| *leaving == identity)
    }

    /// Takes up each service whose time has come.
    pub(crate) fn start_due(&mut self, host: &mut Host, output: &mut Option<Output>) {
        let Some(due) = self.due else { return };
        let at = clock::monotonic();
        if at < due {
            return;
        }
        let mut unfit = 0;
        let mut tried = false;
        for index in 0..self.entries.len() {
            let Some(entry) = self.entries.get(index) else { return };
            if entry.place.is_some() || self.is_leaving(entry.found.identity) {
                continue;
            }
            if entry.not_before.is_none_or(|not_before| at < not_before) {
                unfit += usize::from(entry.not_before.is_none());
                continue;
            }
            tried = true;
            let taken = self.take_up(entry, host, output);
            let Some(entry) = self.entries.get_mut(index) else { return };
            match taken {
                Ok(place) => {
                    entry.place = Some(place);
                    entry.said = None;
                }
                Err(error) if error.is_any_of(&NO_ROOM) => {
                    entry.not_before = None;
                    unfit += 1;
                }
                Err(error) => {
                    let what = error.to_string();
                    if entry.said.as_ref() != Some(&what) {
                        say_fatal(&entry.found.name, &what);
                        entry.said = Some(what);
                    }
                    entry.not_before = Some(at.saturating_add(TROUBLE));
                }
            }
        }
        self.find_due();
        if tried && unfit != self.unfit {
            self.unfit = unfit;
            if unfit > 0 {
                let what = format!(
                    "{unfit} services do not fit within the limit of {} open files and are not served",
                    privilege::open_files()
                );
                self.dir.warn(what.as_bytes(), None);
            }
        }
    }

    fn take_up(&self, entry: &Entry, host: &mut Host, output: &mut Option<Output>) -> Result<Place> {
        let name = entry.found.name.as_c_str();
        let path = [self.dir.path().to_bytes(), b"/", name.to_bytes()].concat();
        let path = CString::new(path).map_err(|_| Error::fatal("unable to change to directory"))?;
        let shown = OsStr::from_bytes(name.to_bytes());
        let mut service = Service::open("runsvinit", shown, OsStr::from_bytes(path.to_bytes()), now())?;
        service.set_of_init();
        if let Some(output) = output {
            let has_log = service.control(Which::Log).is_some();
            let outputs = output.of(name.to_bytes(), has_log).while_doing(|| "unable to create pipe")?;
            service.set_outputs(outputs);
        }
        // The numbers are given out from the lowest on.
        let highest = service
            .control(Which::Log)
            .or_else(|| service.control(Which::Main))
            .map_or(0, |control| spawn::number(control.as_fd()));
        if u64::try_from(highest).unwrap_or(0).saturating_add(RESERVE) > privilege::open_files() {
            return Err(no_room());
        }
        let begun = service.begin(now());
        let place = host.add(service);
        if let Err(error) = begun {
            // What was started must not be left alone.
            host.command(now(), place, Command::Exit);
            say_fatal(name, &error.to_string());
        }
        Ok(place)
    }

    /// The name of the service at a place of the host.
    pub(crate) fn name(&self, place: Place) -> Option<&[u8]> {
        let entry = self.entries.iter().find(|entry| entry.place == Some(place));
        entry.map(|entry| entry.found.name.to_bytes())
    }

    /// A service has left; [`Served::retry`] is to follow when all have that left at the same time.
    pub(crate) fn left(&mut self, place: Place, service: &Service) {
        self.leaving.retain(|(_, leaving)| *leaving != place);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.place == Some(place)) {
            entry.place = None;
            // Whoever told it to exit is to see that it is gone.
            let pace = if service.is_replaced() { Duration::ZERO } else { PACE };
            entry.not_before = Some(clock::monotonic().saturating_add(pace));
        }
    }
}

fn say_fatal(name: &CStr, what: &str) {
    say::supervisor(&[b"runsvinit ", name.to_bytes(), b": fatal: "], what.as_bytes(), None);
}

fn no_room() -> Error {
    Error::Fatal { doing: Vec::new(), cause: Some(io::Error::from(Errno::MFILE)) }
}
