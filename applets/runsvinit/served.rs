//! The services of the directory: taken up when they appear, told to leave when they vanish.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::WHO;
use rustix::fd::AsRawFd;
use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use svcore::control::Command;
use svcore::moment::{Moment, earlier};
use svcore::say::{Class, Message};
use svcore::scan::{Directory, Found, Identity, Leaving, Listing, Retry, Scan};
use svcore::service::Service;
use svcore::service::host::{Host, Place, now};
use svcore::sys::{clock, limits};
use svcore::{Context, Failed, Result, files, hint};

use super::output::Output;

/// How long one that was told to exit, or left because of trouble, is left alone.
const PACE: Duration = Duration::from_secs(1);
/// The most descriptors that are left for other things than services; where few files may be open, fewer are.
const RESERVE: u64 = 64;
/// Descriptors that the smallest service takes: its directory, `supervise`, the lock and two FIFOs.
const LEAST: u64 = 5;

/// When a directory has another name than it had a moment ago, the whole is looked at again after this time.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// How many are taken up in one turn; signals are looked at before the next.
const AT_ONCE: usize = 100;

/// A service that is there.
#[derive(Debug)]
struct Entry {
    found: Found,
    /// Where it is hosted, if it is.
    place: Option<Place>,
    /// Not taken up before this moment.
    not_before: Moment,
    /// The tries to take it up.
    retry: Retry,
    /// There was no room for it.
    unfit: bool,
    /// What stood in the way of taking it up, once that was said.
    said: Option<String>,
    /// The last look could not tell whether its directory is there.
    is_unseen: bool,
}

impl Entry {
    fn new(found: Found) -> Self {
        Entry {
            found,
            place: None,
            not_before: Moment::START,
            retry: Retry::default(),
            unfit: false,
            said: None,
            is_unseen: false,
        }
    }

    /// Says what stood in the way, unless that was said last time.
    fn say(&mut self, error: &Failed) {
        let what = error.to_string();
        if self.said.as_ref() != Some(&what) {
            let who = [WHO.as_bytes(), b" ", self.found.name.to_bytes()].concat();
            Message::of(Class::Fatal, &who, error).print_now();
            self.said = Some(what);
        }
    }
}

/// The directory and its services.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) dir: Directory,
    scan: Scan,
    entries: BTreeMap<Identity, Entry>,
    /// Which of them is hosted at each place.
    hosted: BTreeMap<Place, Identity>,
    /// Told to leave and forgotten, but still there.
    leaving: Leaving,
    /// How many were said not to fit.
    unfit: usize,
    /// When one of the services is to be taken up.
    due: Option<Moment>,
    /// At least one look found the directory.
    has_looked: bool,
}

/// What stands in the way of taking a service up.
enum Obstacle {
    /// It would take descriptors that are needed for other things.
    NoRoom,
    /// Its name leads to another directory by now.
    Moved,
    Failed(Failed),
}

impl Served {
    /// The services of `dir`; none is taken up yet.
    pub(crate) fn new(dir: &OsStr) -> Result<Self, Failed> {
        Ok(Served {
            dir: Directory::new(WHO, dir)?,
            scan: Scan::default(),
            entries: BTreeMap::new(),
            hosted: BTreeMap::new(),
            leaving: Leaving::default(),
            unfit: 0,
            due: None,
            has_looked: false,
        })
    }

    /// Whether the directory can be served: it is there, which it need not be beside a command, and it is not itself a
    /// service directory.
    pub(crate) fn check(&self, has_command: bool) -> Result<(), Failed> {
        let path = self.dir.path().to_bytes();
        let doing = |what: &str| [what.as_bytes(), b" ", path].concat();
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let stat = match statat(CWD, path, AtFlags::empty()) {
            // Another failure may last for a moment only.
            Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP)) if !has_command => {
                return Err(Failed::because(errno, doing("unable to stat")));
            }
            Err(_) => return Ok(()),
            Ok(stat) => stat,
        };
        if !files::is_dir(&stat) {
            let failed = Failed::because(Errno::NOTDIR, doing("unable to change directory to"));
            return if has_command { Ok(()) } else { Err(failed) };
        }
        if statat(CWD, [path, b"/run"].concat(), AtFlags::empty()).is_ok_and(is_file) {
            let parent = std::path::absolute(OsStr::from_bytes(path)).ok();
            let parent = parent.as_deref().and_then(Path::parent).map(|parent| {
                format!("give the directory above it: {}", hint::quoted(parent.as_os_str().as_bytes()))
            });
            return Err(Failed::without_cause("is itself a service directory").with_hint(parent));
        }
        Ok(())
    }

    /// Whether no service is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks at the directory and takes up what is new. What could not be taken up is tried again.
    pub(crate) fn look(&mut self, host: &mut Host, output: &mut Option<Output>) {
        if let Some(mut listing) = self.dir.look() {
            if !std::mem::replace(&mut self.has_looked, true) {
                // What is there before us was made before us, by hooks or by the image: nobody is still at it.
                listing.settle();
            }
            self.follow(&listing, host);
        }
        self.retry();
        self.start_due(host, output);
    }

    fn follow(&mut self, listing: &Listing, host: &mut Host) {
        let identities: Vec<Identity> = self.entries.keys().copied().collect();
        let known: Vec<&Found> = self.entries.values().map(|entry| &entry.found).collect();
        let plan = self.scan.compare(clock::monotonic(), &known, listing, |_, _| false);
        self.dir.look_again_at(plan.again);
        for entry in self.entries.values_mut() {
            entry.is_unseen = false;
        }
        for identity in plan.unseen.iter().filter_map(|&place| identities.get(place)) {
            if let Some(entry) = self.entries.get_mut(identity) {
                entry.is_unseen = true;
            }
        }
        for (place, name) in plan.rename {
            if let Some(entry) = identities.get(place).and_then(|identity| self.entries.get_mut(identity)) {
                entry.found.name = name;
            }
        }
        for identity in plan.stop.iter().filter_map(|&place| identities.get(place)) {
            if let Some(place) = self.entries.remove(identity).and_then(|entry| entry.place) {
                self.hosted.remove(&place);
                self.leaving.add(number_of(place), *identity);
                host.command(now(), place, Command::Exit);
            }
        }
        self.entries.extend(plan.start.into_iter().map(|found| (found.identity, Entry::new(found))));
    }

    /// Those that did not fit may do so now.
    pub(crate) fn retry(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.unfit) {
            entry.not_before = Moment::START;
        }
        self.find_due();
    }

    /// How many services are there and fit, whether they are taken up already or not.
    pub(crate) fn len(&self) -> usize {
        self.entries.values().filter(|entry| !entry.unfit).count()
    }

    /// When something is to be done here.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        earlier(self.dir.look_at(), self.due)
    }

    /// Finds out anew when one is to be taken up.
    fn find_due(&mut self) {
        let waiting = self.entries.values().filter(|entry| self.may_be_taken_up(entry));
        self.due = waiting.map(|entry| Some(entry.not_before)).fold(None, earlier);
    }

    /// Whether nothing but time keeps a service from being taken up.
    fn may_be_taken_up(&self, entry: &Entry) -> bool {
        entry.place.is_none() && !entry.is_unseen && !self.leaving.has(entry.found.identity)
    }

    /// Takes up each service whose time has come.
    pub(crate) fn start_due(&mut self, host: &mut Host, output: &mut Option<Output>) {
        let Some(due) = self.due else { return };
        let at = clock::monotonic();
        if at < due {
            return;
        }
        let is_due = |entry: &&Entry| at >= entry.not_before && self.may_be_taken_up(entry);
        let limit = limits::open_files();
        let due = self.entries.values().filter(is_due).map(|entry| entry.found.identity);
        let due: Vec<Identity> = due.take(AT_ONCE).collect();
        for identity in due {
            let Some(entry) = self.entries.get(&identity) else { continue };
            let taken = self.take_up(entry, limit, host, output);
            let Some(entry) = self.entries.get_mut(&identity) else { continue };
            entry.unfit = matches!(taken, Err(Obstacle::NoRoom));
            match taken {
                Ok(place) => {
                    entry.place = Some(place);
                    self.hosted.insert(place, identity);
                    (entry.said, entry.retry) = (None, Retry::default());
                }
                Err(Obstacle::NoRoom) => entry.not_before = entry.retry.failed(at),
                Err(Obstacle::Moved) => {
                    // The watch tells too, but it may have done so before.
                    entry.is_unseen = true;
                    self.dir.look_again_at(Some(at.saturating_add(LOOK_AFTER)));
                }
                Err(Obstacle::Failed(error)) => {
                    entry.say(&error);
                    entry.not_before = entry.retry.failed(at);
                }
            }
        }
        self.find_due();
        self.say_unfit();
    }

    fn say_unfit(&mut self) {
        let unfit = self.entries.values().filter(|entry| entry.unfit).count();
        if unfit == std::mem::replace(&mut self.unfit, unfit) || unfit == 0 {
            return;
        }
        let what = format!(
            "{unfit} services do not fit within the limit of {} open files and are not served",
            limits::open_files()
        );
        self.dir.warn(what.as_bytes(), None);
    }

    fn take_up(
        &self,
        entry: &Entry,
        limit: u64,
        host: &mut Host,
        output: &mut Option<Output>,
    ) -> std::result::Result<Place, Obstacle> {
        // Making a thousand of them that do not fit, again and again, is spared.
        if entry.unfit && !self.has_room(limit, LEAST) {
            return Err(Obstacle::NoRoom);
        }
        let mut service = self.open(entry, output).map_err(Obstacle::Failed)?;
        if service.identity() != Some(entry.found.identity) {
            return Err(Obstacle::Moved);
        }
        if !self.has_room(limit, 0) {
            return Err(Obstacle::NoRoom);
        }
        service.begin(now());
        Ok(host.add(service))
    }

    fn open(&self, entry: &Entry, output: &mut Option<Output>) -> Result<Box<Service>, Failed> {
        let name = entry.found.name.as_c_str();
        let path = [self.dir.path().to_bytes(), b"/", name.to_bytes()].concat();
        let shown = OsStr::from_bytes(name.to_bytes());
        let mut service = Service::open("runsvinit", shown, OsStr::from_bytes(&path), now())?;
        service.set_of_init();
        if let Some(output) = output {
            let has_log = service.has_log();
            let outputs = output.of(name.to_bytes(), has_log).while_doing(|| "unable to create pipe")?;
            service.set_outputs(outputs);
        }
        Ok(service)
    }

    /// Whether so many descriptors more leave enough for other things than services.
    fn has_room(&self, limit: u64, more: u64) -> bool {
        // The numbers are given out from the lowest on.
        let any = self.dir.changes().unwrap_or(rustix::stdio::stdin());
        match fcntl_dupfd_cloexec(any, 0) {
            Ok(next) => {
                let next = u64::try_from(next.as_raw_fd()).unwrap_or(0);
                next.saturating_add(more).saturating_add(reserve_of(limit)) <= limit
            }
            Err(Errno::MFILE) => false,
            // What opens files for it tells.
            Err(_) => true,
        }
    }

    /// The name of the service at a place of the host.
    pub(crate) fn name(&self, place: Place) -> Option<&[u8]> {
        let entry = self.entries.get(self.hosted.get(&place)?)?;
        Some(entry.found.name.to_bytes())
    }

    /// A service has left; [`Served::retry`] is to follow when all have that left at the same time.
    pub(crate) fn left(&mut self, place: Place, service: &Service) {
        self.leaving.remove(number_of(place));
        let identity = self.hosted.remove(&place);
        if let Some(entry) = identity.and_then(|identity| self.entries.get_mut(&identity)) {
            entry.place = None;
            // Whoever told it to exit is to see that it is gone.
            let pace = if service.is_replaced() { Duration::ZERO } else { PACE };
            entry.not_before = clock::monotonic().saturating_add(pace);
        }
    }
}

fn number_of(place: Place) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}

/// How many descriptors are left for other things than services where so many files may be open.
fn reserve_of(limit: u64) -> u64 {
    (limit / 8).clamp(8, RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_is_fitted_to_the_limit() {
        let reserves = [0, 20, 64, 256, 512, 1024, 1 << 20, u64::MAX].map(reserve_of);
        assert_eq!(reserves, [8, 8, 8, 32, 64, 64, 64, 64]);
    }
}
