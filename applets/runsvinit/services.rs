//! The services of the directory: each that appears is hosted, and each that vanishes is told to leave.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::WHO;
use rustix::fd::AsRawFd;
use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use svcore::control::Command;
use svcore::logger::Loggers;
use svcore::moment::{Moment, earlier};
use svcore::say::{Class, Message};
use svcore::scan::{Directory, Found, Leaving, Listing, Retry, Scan};
use svcore::service::Service;
use svcore::service::host::{Host, Place, now};
use svcore::sys::{clock, limits};
use svcore::template::ServiceIdentity;
use svcore::{Context, Failed, Result, files, hint};

use super::output::Output;

/// The pause before a service is hosted again that was told to exit, or that gave up.
const PACE: Duration = Duration::from_secs(1);
/// The most descriptors that are reserved for other things than services. Where few files may be open, fewer are.
const RESERVE_MAX: u64 = 64;
/// The fewest descriptors that a service needs: its directory, `supervise`, the lock and two FIFOs.
const DESCRIPTORS_MIN: u64 = 5;

/// When to look at the directory again after a name led elsewhere than at the last look.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// How many services begin to be hosted in one turn; signals are read before the next.
const STARTS_MAX: usize = 100;

/// A service whose directory was found.
#[derive(Debug)]
struct Entry {
    found: Found,
    /// Where it is hosted, if it is.
    place: Option<Place>,
    /// It is not hosted before this moment.
    not_before: Moment,
    /// The failed tries to host it.
    retry: Retry,
    /// Whether the last try failed because there were too few descriptors.
    has_no_room: bool,
    /// The last error that was reported about it.
    reported: Option<String>,
    /// Whether the last look could not tell if its directory still exists.
    is_unseen: bool,
}

impl Entry {
    fn new(found: Found) -> Self {
        Entry {
            found,
            place: None,
            not_before: Moment::START,
            retry: Retry::default(),
            has_no_room: false,
            reported: None,
            is_unseen: false,
        }
    }

    /// Reports why it cannot be hosted, unless the last report was the same.
    fn report(&mut self, path: &[u8], error: &Failed) {
        let what = error.to_string();
        if self.reported.as_ref() != Some(&what) {
            let who = [WHO.as_bytes(), b" ", self.found.name.to_bytes()].concat();
            let hint = hint::of_supervise_lock(path, error);
            Message::of(Class::Fatal, &who, error).print_now_with(hint.as_deref());
            self.reported = Some(what);
        }
    }
}

/// The directory and its services.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) dir: Directory,
    scan: Scan,
    entries: BTreeMap<ServiceIdentity, Entry>,
    /// The service that is hosted at each place.
    hosted: BTreeMap<Place, ServiceIdentity>,
    /// Services that vanished, whose entry is gone, and that are still hosted until they have ended.
    leaving: Leaving,
    /// How many services had no room, by the last report.
    reported_without_room: usize,
    /// When the next service is to be hosted, if any.
    next_start: Option<Moment>,
    /// Whether a look has found the directory.
    has_looked: bool,
    /// What keeps the logs without `log/run`.
    loggers: Option<Rc<Loggers>>,
}

/// Why a service is not hosted.
enum Obstacle {
    /// Its descriptors are needed for other things.
    NoRoom,
    /// Its name leads to another directory now.
    Moved,
    Failed(Failed),
}

impl Services {
    /// The services of `dir`; none is hosted yet.
    pub(crate) fn new(dir: &OsStr, loggers: Option<Rc<Loggers>>) -> Result<Self, Failed> {
        Ok(Services {
            dir: Directory::new(WHO, dir)?,
            scan: Scan::default(),
            entries: BTreeMap::new(),
            hosted: BTreeMap::new(),
            leaving: Leaving::default(),
            reported_without_room: 0,
            next_start: None,
            has_looked: false,
            loggers,
        })
    }

    /// Whether the directory can be served: it is there, which it need not be beside a command, and it is not itself a
    /// service directory. Why not is reported.
    pub(crate) fn can_be_served(&self, has_command: bool) -> bool {
        let path = self.dir.path().to_bytes();
        let failed = match statat(CWD, path, AtFlags::empty()) {
            // Another failure may last for a moment only.
            Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP)) => {
                Some(("unable to stat ", errno))
            }
            Ok(stat) if !files::is_dir(&stat) => Some(("unable to change directory to ", Errno::NOTDIR)),
            Ok(_) | Err(_) => None,
        };
        if let Some((what, errno)) = failed {
            let failed = Failed::because(errno, [what.as_bytes(), path].concat());
            if !has_command {
                self.fatal(&failed, None);
            }
            return has_command;
        }
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if statat(CWD, [path, b"/run"].concat(), AtFlags::empty()).is_ok_and(is_file) {
            let above = Path::new(OsStr::from_bytes(path)).parent().map(|above| above.as_os_str().as_bytes());
            let above = above.filter(|above| !above.is_empty()).unwrap_or(b".");
            let hint = ["give the directory above it: ", &hint::quoted(above)].concat();
            self.fatal(&Failed::without_cause("is itself a service directory"), Some(&hint));
            return false;
        }
        true
    }

    fn fatal(&self, failed: &Failed, hint: Option<&str>) {
        Message::of(Class::Fatal, &self.dir.who(), failed).print_now_with(hint);
    }

    /// Whether no service is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks at the directory, tells services that vanished to leave, and hosts new ones. Those for which there was no room
    /// are tried again.
    pub(crate) fn look(&mut self, host: &mut Host, output: &mut Option<Output>) {
        if let Some(mut listing) = self.dir.look() {
            if !std::mem::replace(&mut self.has_looked, true) {
                // What exists at the start was made by hooks or with the image, so nobody is still changing it.
                listing.settle();
            }
            self.apply(&listing, host);
        }
        self.retry_those_without_room();
        self.start_due(host, output);
    }

    /// Applies what a look found.
    fn apply(&mut self, listing: &Listing, host: &mut Host) {
        let identities: Vec<ServiceIdentity> = self.entries.keys().copied().collect();
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
                if let Some(place) = entry.place {
                    host.rename(place, &[self.dir.path().to_bytes(), b"/", name.to_bytes()].concat());
                }
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

    /// Services for which there was no room are tried again now.
    pub(crate) fn retry_those_without_room(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.has_no_room) {
            entry.not_before = Moment::START;
        }
        self.find_next_start();
    }

    /// How many services there is room for, whether they are hosted already or not.
    pub(crate) fn len(&self) -> usize {
        self.entries.values().filter(|entry| !entry.has_no_room).count()
    }

    /// When to look again or to host a service, if ever.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        earlier(self.dir.look_at(), self.next_start)
    }

    fn find_next_start(&mut self) {
        let waiting = self.entries.values().filter(|entry| self.may_start(entry));
        self.next_start = waiting.map(|entry| Some(entry.not_before)).fold(None, earlier);
    }

    /// Whether only time keeps a service from being hosted.
    fn may_start(&self, entry: &Entry) -> bool {
        entry.place.is_none() && !entry.is_unseen && !self.leaving.has(entry.found.identity)
    }

    /// Hosts each service whose time has come.
    pub(crate) fn start_due(&mut self, host: &mut Host, output: &mut Option<Output>) {
        let at = clock::monotonic();
        if self.next_start.is_none_or(|next| at < next) {
            return;
        }
        let is_due = |entry: &&Entry| at >= entry.not_before && self.may_start(entry);
        let limit = limits::open_files();
        let due = self.entries.values().filter(is_due).map(|entry| entry.found.identity);
        let due: Vec<ServiceIdentity> = due.take(STARTS_MAX).collect();
        for identity in due {
            let Some(entry) = self.entries.get(&identity) else { continue };
            let hosted = self.host(entry, limit, host, output);
            let Some(entry) = self.entries.get_mut(&identity) else { continue };
            entry.has_no_room = matches!(hosted, Err(Obstacle::NoRoom));
            match hosted {
                Ok(place) => {
                    entry.place = Some(place);
                    self.hosted.insert(place, identity);
                    (entry.reported, entry.retry) = (None, Retry::default());
                }
                Err(Obstacle::NoRoom) => entry.not_before = entry.retry.failed(at),
                Err(Obstacle::Moved) => {
                    // The watch may have reported this already, so no look need follow.
                    entry.is_unseen = true;
                    self.dir.look_again_at(Some(at.saturating_add(LOOK_AFTER)));
                }
                Err(Obstacle::Failed(error)) => {
                    let path = [self.dir.path().to_bytes(), b"/", entry.found.name.to_bytes()].concat();
                    entry.report(&path, &error);
                    entry.not_before = entry.retry.failed(at);
                }
            }
        }
        self.find_next_start();
        self.report_those_without_room();
    }

    fn report_those_without_room(&mut self) {
        let number = self.entries.values().filter(|entry| entry.has_no_room).count();
        if number == std::mem::replace(&mut self.reported_without_room, number) || number == 0 {
            return;
        }
        let what = format!(
            "{number} services do not fit within the limit of {} open files and are not served",
            limits::open_files()
        );
        self.dir.warn(what.as_bytes(), None);
    }

    /// Begins to host a service.
    fn host(
        &self,
        entry: &Entry,
        limit: u64,
        host: &mut Host,
        output: &mut Option<Output>,
    ) -> std::result::Result<Place, Obstacle> {
        // There may be thousands without room; for these nothing is opened.
        if entry.has_no_room && !self.has_room(limit, DESCRIPTORS_MIN) {
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
        let label = OsStr::from_bytes(name.to_bytes());
        let mut service = Service::open(WHO, label, OsStr::from_bytes(&path), now())?;
        service.set_of_init();
        if let Some(loggers) = &self.loggers {
            service.set_loggers(Rc::clone(loggers));
        }
        if let Some(output) = output {
            let has_log = service.has_log();
            let outputs =
                output.pipes_for(name.to_bytes(), has_log).while_doing(|| "unable to create pipe")?;
            service.set_outputs(outputs);
        }
        Ok(service)
    }

    /// Whether the reserve stays free if `more` descriptors are opened, with a limit of `limit` open files.
    fn has_room(&self, limit: u64, more: u64) -> bool {
        // A new descriptor has the lowest free number, so that number tells how many are open.
        let any = self.dir.changes().unwrap_or(rustix::stdio::stdin());
        match fcntl_dupfd_cloexec(any, 0) {
            Ok(next) => {
                let next = u64::try_from(next.as_raw_fd()).unwrap_or(0);
                next.saturating_add(more).saturating_add(reserve_of(limit)) <= limit
            }
            Err(Errno::MFILE) => false,
            // Whatever it is, opening the service fails with it too, and reports it.
            Err(_) => true,
        }
    }

    /// The name of the service that is hosted at a place.
    pub(crate) fn name(&self, place: Place) -> Option<&[u8]> {
        let entry = self.entries.get(self.hosted.get(&place)?)?;
        Some(entry.found.name.to_bytes())
    }

    /// The service at a place has ended and is not hosted any more. After all that ended at the same time,
    /// [`Services::retry_those_without_room`] is to be called.
    pub(crate) fn departed(&mut self, place: Place, service: &Service) {
        self.leaving.remove(number_of(place));
        let identity = self.hosted.remove(&place);
        if let Some(entry) = identity.and_then(|identity| self.entries.get_mut(&identity)) {
            entry.place = None;
            // The pause lets whoever told it to exit see that it is gone.
            let pace = if service.is_replaced() { Duration::ZERO } else { PACE };
            entry.not_before = clock::monotonic().saturating_add(pace);
        }
    }
}

fn number_of(place: Place) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}

/// How many descriptors are reserved for other things than services, with a limit of `limit` open files.
fn reserve_of(limit: u64) -> u64 {
    (limit / 8).clamp(8, RESERVE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_depends_on_the_limit() {
        let reserves = [0, 20, 64, 256, 512, 1024, 1 << 20, u64::MAX].map(reserve_of);
        assert_eq!(reserves, [8, 8, 8, 32, 64, 64, 64, 64]);
    }
}
