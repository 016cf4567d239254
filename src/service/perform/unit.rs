//! One supervised program: its machine, its directory, and its `supervise` directory.

use std::ffi::CStr;
use std::io;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::Pid;

use super::label::Label;
use crate::error::{Failed, Result};
use crate::role::Role;
use crate::service::machine::Machine;
use crate::service::step::{Now, Script};
use crate::status::Want;
use crate::supervise::Supervise;
use crate::sys::{signal, watch};
use crate::{Signal, decimal, files, slice, sys};

/// How many bytes of commands are read at a time. The others are read in the next turn, after other services had
/// theirs, so that whoever writes without end holds up no other service.
pub(super) const COMMANDS_MAX: usize = 64;

/// A service, or its log service.
#[derive(Debug)]
pub struct Unit {
    role: Role,
    pub(super) machine: Machine,
    /// The service directory, or `log` in it.
    pub(super) dir: OwnedFd,
    /// Changes of the directory are signalled. Where they are not, it is looked at whenever something else happens.
    pub(super) watched: bool,
    pub(super) supervise: Supervise,
    /// The status may have changed since it was published.
    to_publish: bool,
    /// Commands were done; clients learn that as soon as the status is published.
    to_acknowledge: bool,
    /// `./run` runs as this process and leads a process group; see `kill-group`.
    group: Option<Pid>,
    /// The FIFO `control` is another one than the host knows.
    has_new_control: bool,
    /// The content of `supervise/state`.
    facts: Option<Vec<u8>>,
}

impl Unit {
    /// Opens what the program in `dir` needs, and takes its lock. `is_down` finds out whether it is to stay down at first.
    pub(super) fn open(
        role: Role,
        dir: OwnedFd,
        label: &Label,
        now: Now,
        is_down: impl FnOnce(BorrowedFd<'_>) -> bool,
    ) -> Result<Self, Failed> {
        let supervise = Supervise::open(&label.home(dir.as_fd(), role))?;
        // From here on no new entry of the directory is missed. Set any earlier, it would signal `supervise` too.
        let watched = watch::signal_changes(dir.as_fd()).is_ok();
        let want = if is_down(dir.as_fd()) { Want::Down } else { Want::Up };
        let machine = Machine::new(now, want);
        let (to_publish, to_acknowledge, has_new_control) = (true, false, true);
        let facts = None;
        Ok(Unit {
            role,
            machine,
            dir,
            watched,
            supervise,
            to_publish,
            to_acknowledge,
            has_new_control,
            group: None,
            facts,
        })
    }

    /// Goes on in another directory, with the same process.
    pub(super) fn move_to(&mut self, dir: OwnedFd, label: &Label) -> Result<(), Failed> {
        self.supervise = Supervise::open(&label.home(dir.as_fd(), self.role))?;
        self.watched = watch::signal_changes(dir.as_fd()).is_ok();
        self.dir = dir;
        self.is_new_to_clients();
        Ok(())
    }

    /// Which of the two it is.
    #[must_use]
    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// The process of `./run` or `./finish`, if there is one.
    #[must_use]
    pub const fn pid(&self) -> Option<Pid> {
        self.machine.pid()
    }

    /// The FIFO that commands come from.
    #[must_use]
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.supervise.control()
    }

    /// The directory `supervise`.
    #[must_use]
    pub(crate) fn supervise_dir(&self) -> BorrowedFd<'_> {
        self.supervise.dir()
    }

    /// Whether the FIFO is another one than when this was last asked.
    pub(crate) fn take_new_control(&mut self) -> bool {
        std::mem::take(&mut self.has_new_control)
    }

    /// `supervise` is another directory, or has other files.
    const fn is_new_to_clients(&mut self) {
        (self.to_publish, self.has_new_control) = (true, true);
    }

    /// The status may have changed.
    pub(super) const fn publish_later(&mut self) {
        self.to_publish = true;
    }

    /// Whether the status may have changed.
    pub(super) const fn is_to_publish(&self) -> bool {
        self.to_publish
    }

    /// What `supervise/state` is to say from the next time on; `None`: there is to be no such file.
    pub(super) fn set_facts(&mut self, facts: Option<Vec<u8>>) {
        self.facts = facts;
    }

    /// The status is of no use to anybody any more.
    pub(super) const fn publish_no_more(&mut self) {
        self.to_publish = false;
    }

    /// Publishes the status if it may have changed. Returns whether it did so.
    pub(super) fn publish(&mut self) -> Result<bool, Failed> {
        if !std::mem::take(&mut self.to_publish) {
            return Ok(false);
        }
        let published = self.supervise.publish(&self.machine.status(), self.facts.as_deref());
        self.to_publish = published.is_err();
        published.map(|()| true)
    }

    /// Reads commands. Returns the bytes that came.
    pub(super) fn read_commands<'b>(&mut self, buffer: &'b mut [u8; COMMANDS_MAX + 1]) -> &'b [u8] {
        self.supervise.mark_reading();
        let (most, last) = buffer.split_at_mut(COMMANDS_MAX);
        let mut length = self.supervise.read_control(most).len();
        // Whether `t` is a restart depends on the byte after it.
        if most.last() == Some(&b't') && length == COMMANDS_MAX {
            length = length.saturating_add(self.supervise.read_control(last).len());
        }
        slice::part(buffer, ..length)
    }

    /// The commands that were read are done.
    pub(super) const fn acknowledge_later(&mut self) {
        self.to_acknowledge = true;
    }

    /// Marks commands as done, unless the status that follows from them could not be published yet.
    pub(super) fn acknowledge(&mut self) {
        if self.to_acknowledge && !self.to_publish {
            self.to_acknowledge = false;
            self.supervise.mark_done();
        }
    }

    /// Whether `supervise` is in its place, with all its files.
    pub(super) fn is_in_order(&self) -> bool {
        self.supervise.is_in_place(self.dir.as_fd()) && self.supervise.is_whole()
    }

    /// Makes `supervise` again where it is not in order; `watched`: its removals are signalled.
    pub(super) fn repair(&mut self, label: &Label, watched: bool) -> Result<(), Failed> {
        if !self.supervise.is_in_place(self.dir.as_fd()) {
            if is_removed(self.dir.as_fd()) {
                // A directory that comes in its place is found by its name.
                return Ok(());
            }
            self.supervise = Supervise::open(&label.home(self.dir.as_fd(), self.role))?;
        } else if self.supervise.is_whole() {
            return Ok(());
        } else {
            self.supervise.make_whole()?;
        }
        self.is_new_to_clients();
        if watched {
            self.watch_removals();
        }
        // In this order, so that the first status that clients see is a true one. Without one they can still send
        // commands.
        let published = self.publish();
        self.supervise.announce()?;
        published.map(drop)
    }

    /// From now on a removal in `supervise` is signalled.
    pub(super) fn watch_removals(&self) {
        // Where that does not work, it is noticed when something else happens.
        let _ = watch::signal_removals(self.supervise.dir());
    }

    /// What messages call a script of it.
    pub(super) const fn script_name(&self, script: Script) -> &'static str {
        match (self.role, script) {
            (Role::Main, Script::Run) => "./run",
            (Role::Main, Script::Finish(_)) => "./finish",
            (Role::Log, _) => "log/./run",
        }
    }

    /// The signal that asks it to end: the one in the file `down-signal`, or TERM.
    pub(super) fn down_signal(&self, label: &Label) -> Signal {
        let mut buffer = [0; 32];
        match self.setting(c"down-signal", &mut buffer) {
            None => Signal::TERM,
            Some(text) => std::str::from_utf8(text).ok().and_then(Signal::from_text).unwrap_or_else(|| {
                label.warn(b"down-signal: neither a name nor a number of a signal, sending TERM", None);
                Signal::TERM
            }),
        }
    }

    /// Sends the signal that asks it to end.
    pub(super) fn send_down(&self, pid: Pid, signal: Signal) {
        self.send_to(pid, signal, true);
    }

    /// Sends a signal to a process; one that ends, or that such a one needs, to its whole group if it leads one.
    pub(super) fn send(&self, pid: Pid, signal: Signal) {
        let is_for_group = matches!(signal, Signal::TERM | Signal::KILL | Signal::CONT);
        self.send_to(pid, signal, is_for_group);
    }

    fn send_to(&self, pid: Pid, signal: Signal, is_for_group: bool) {
        let is_sent = is_for_group && self.group == Some(pid) && signal::send_to_group(pid, signal).is_ok();
        // It may lead no group any more. Or it has ended a moment ago; then its end is what counts.
        if !is_sent {
            let _ = signal::send(pid, signal);
        }
    }

    /// `./run` was started as this process, and leads a process group.
    pub(super) const fn note_group(&mut self, pid: Pid) {
        self.group = Some(pid);
    }

    /// The process that leads a process group, if there is one.
    pub(crate) const fn group(&self) -> Option<Pid> {
        self.group
    }

    /// The process that leads the group has ended and is not reaped yet, so the number of the group is still its own: kills
    /// what is left of the group.
    pub(crate) fn end_group(&mut self, leader: Pid) {
        if self.group.take_if(|group| *group == leader).is_some() {
            let _ = signal::send_to_group(leader, Signal::KILL);
        }
    }

    /// How long a script has to end, from the file `timeout-kill` or `timeout-finish`; `None` is without a limit.
    pub(super) fn timeout(&self, script: Script, label: &Label) -> Option<Duration> {
        let name = match script {
            Script::Run => c"timeout-kill",
            Script::Finish(_) => c"timeout-finish",
        };
        let mut buffer = [0; 32];
        let text = self.setting(name, &mut buffer)?;
        match decimal::whole(text) {
            Some(0) => None,
            Some(millis) => Some(Duration::from_millis(millis)),
            None => {
                let what = format!("{}: not a number of milliseconds, ignored", name.to_string_lossy());
                label.warn(what.as_bytes(), None);
                None
            }
        }
    }

    /// A script has not ended within its timeout: reports that it is killed.
    pub(super) fn report_overdue(&self, name: &str, script: Script, label: &Label) {
        let time = self.timeout(script, label).map_or(0, |timeout| timeout.as_millis());
        let what = format!("{name} did not end in {time} ms: killed");
        label.warn(what.as_bytes(), None);
    }

    /// The word in a file of the directory; `None` if there is no such file, or nothing in it.
    fn setting<'b>(&self, name: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let text = files::read_start(self.dir.as_fd(), name, buffer).ok()?.trim_ascii();
        (!text.is_empty()).then_some(text)
    }
}

/// Opens a directory for reading, so that it can be watched; if it is not readable, only for looking up names in it.
pub(super) fn open_directory(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(at, name, OFlags::RDONLY | flags, Mode::empty()) {
        Err(Errno::ACCESS) => Ok(openat(at, name, sys::SEARCH | flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}

/// Any object called `down` keeps a service down.
pub(super) fn wanted_at_start(dir: BorrowedFd<'_>) -> Want {
    if files::look(dir, c"down").is_ok_and(|stat| stat.is_some()) { Want::Down } else { Want::Up }
}

/// Whether a directory has no name any more.
pub(super) fn is_removed(dir: BorrowedFd<'_>) -> bool {
    match fstat(dir) {
        Ok(stat) => stat.st_nlink == 0,
        // What a network file system answers for a directory that another machine removed.
        Err(errno) => errno == Errno::STALE,
    }
}
