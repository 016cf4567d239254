//! The control group (version 2) of a service, below that of its supervisor.
//!
//! The supervisor's own group is the one that `/proc/self/cgroup` names, in the directory that `/proc/self/mountinfo` says;
//! on a machine that has both versions that is usually `/sys/fs/cgroup/unified`. Nothing outside of that group is touched,
//! and in it only groups with the name of a service of ours, see [`place`].
//!
//! A group that has processes of its own cannot pass controllers to groups in which there are processes (but for the root of
//! all groups). So where there are settings to write, the supervisor moves itself and what it has started to a group called
//! `supervisor` beside those of the services. A `runsv` moves itself there in any case. See [`room`].
//!
//! Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

mod place;
mod room;
mod settings;

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::Pid;

pub(crate) use settings::open_settings;

use crate::error::{Context, Failed};
use crate::files::{self, Identity};
use crate::sys::control_group;
use crate::sys::handle::Handle;
use crate::sys::listing;
use crate::trust;

/// The longest list of mounts that is read, in bytes.
const MOUNTS_MAX: usize = 4 * 1024 * 1024;
/// The longest file of a group that is read, in bytes.
const FILE_MAX: usize = 256 * 1024;
/// How many groups below that of a service are removed with it. A service may make some.
const BELOW_MAX: u32 = 256;
/// How deep they may lie.
const DEPTH_MAX: u32 = 16;
/// How many groups a service may have at a time: that of its process, and earlier ones that cannot be removed yet.
const GROUPS_MAX: u32 = 4;
/// How often the processes are listed and killed where the kernel cannot kill all at once.
const ROUNDS: u32 = 16;

/// The control group of a service.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// The group below which it is.
    base: OwnedFd,
    /// The name of the first group; others have a number behind it.
    name: CString,
    /// The group of its process.
    own: Group,
    /// Groups of processes before, which could not be removed yet.
    earlier: Vec<Group>,
    /// What the counter of processes killed for lack of memory was when it was last read.
    killed: u64,
}

/// A group below that of the supervisor.
#[derive(Debug)]
struct Group {
    name: CString,
    dir: OwnedFd,
}

impl Cgroup {
    /// Makes the group of the service `name`, whose directory is `identity`. What an earlier supervisor of this service left
    /// in such groups is killed.
    ///
    /// # Errors
    ///
    /// There is no group of ours, or it is not writable.
    pub(crate) fn open(name: &[u8], identity: Identity) -> Result<Self, Failed> {
        let base = base()?;
        room::leave(base.as_fd());
        let name = place::group_name(name, identity);
        let doing = || "unable to make one";
        let mut earlier = left_behind(base.as_fd(), &name).while_doing(doing)?;
        let own = match make(base.as_fd(), &name).while_doing(doing)? {
            Some(own) => own,
            None => earlier.pop().ok_or(Errno::EXIST).while_doing(doing)?,
        };
        Ok(Cgroup { base, name, own, earlier, killed: 0 })
    }

    /// Makes it anew for the next process, so that no setting and no counter of the last one stays. If the last one cannot be
    /// removed, since something still ends in it, the new one has another name; only if there are [`GROUPS_MAX`] of them, the
    /// last one is used as it is.
    ///
    /// # Errors
    ///
    /// That of mkdir(2) or open(2).
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        let base = self.base.as_fd();
        self.earlier.retain(|group| !group.clear(base));
        let is_gone = self.own.clear(base);
        match make(base, &self.name)? {
            Some(own) => {
                let last = std::mem::replace(&mut self.own, own);
                self.earlier.extend(Some(last).filter(|_| !is_gone));
            }
            None if is_gone => return Err(Errno::EXIST.into()),
            None => {}
        }
        self.killed = self.killed_for_memory().unwrap_or(0);
        Ok(())
    }

    /// The file through which a process enters it, open for writing.
    ///
    /// # Errors
    ///
    /// That of open(2).
    pub(crate) fn entrance(&self) -> io::Result<OwnedFd> {
        open_write(self.own.dir.as_fd(), c"cgroup.procs")
    }

    /// Kills all processes in it and below it, and those of earlier processes that have not ended yet.
    pub(crate) fn kill(&self) {
        self.own.kill();
        self.earlier.iter().for_each(Group::kill);
    }

    /// Removes it. Returns the directory of a group whose processes have not ended yet, if there is one: in there
    /// `cgroup.events` is changed when the last one ends.
    pub(crate) fn remove(&mut self) -> Option<BorrowedFd<'_>> {
        let base = self.base.as_fd();
        self.earlier.retain(|group| !group.remove(base));
        let own = Some(&self.own).filter(|own| !own.remove(base));
        own.or_else(|| self.earlier.first()).map(|group| group.dir.as_fd())
    }

    /// How many processes in it the kernel killed for lack of memory since this was last asked.
    pub(crate) fn take_killed_for_memory(&mut self) -> u64 {
        let Some(killed) = self.killed_for_memory() else { return 0 };
        let new = killed.saturating_sub(self.killed);
        self.killed = killed;
        new
    }

    fn killed_for_memory(&self) -> Option<u64> {
        place::number_of(b"oom_kill", &read(self.own.dir.as_fd(), c"memory.events").ok()?)
    }
}

impl Group {
    /// Kills all processes in it and below it.
    fn kill(&self) {
        kill_all(self.dir.as_fd(), self.name.to_bytes());
    }

    /// Kills what is in it, and removes it. Returns false if it is still there.
    fn clear(&self, base: BorrowedFd<'_>) -> bool {
        let events = read(self.dir.as_fd(), c"cgroup.events").unwrap_or_default();
        if place::number_of(b"populated", &events) != Some(0) {
            self.kill();
        }
        self.remove(base)
    }

    /// Removes it. Returns false if processes in it have not ended yet.
    fn remove(&self, base: BorrowedFd<'_>) -> bool {
        let mut room = BELOW_MAX;
        let _ = remove_below(self.dir.as_fd(), &mut room, DEPTH_MAX);
        !matches!(unlinkat(base, &self.name, AtFlags::REMOVEDIR), Err(Errno::BUSY))
    }
}

/// The group below which services have theirs.
fn base() -> Result<OwnedFd, Failed> {
    let own = read(CWD, c"/proc/self/cgroup").while_doing(|| "unable to read /proc/self/cgroup")?;
    let path = place::base_group(&own)
        .ok_or_else(|| Failed::without_cause("this process is in no group of version 2"))?;
    let mounts = open(CWD, c"/proc/self/mountinfo", OFlags::RDONLY);
    let mounts = mounts.and_then(|mounts| trust::read_at_most(&mounts, MOUNTS_MAX));
    let mounts = mounts.while_doing(|| "unable to read /proc/self/mountinfo")?;
    let is_group = |dir: &OwnedFd| control_group::is_one(dir.as_fd());
    let directories = place::directories_of(&path, &mounts);
    directories.iter().filter_map(|dir| open_directory(CWD, dir).ok()).find(is_group).ok_or_else(|| {
        Failed::without_cause("no control group file system of version 2 is mounted that has our group")
    })
}

/// Clears the groups that an earlier supervisor of a service left. Returns those that cannot be removed yet.
fn left_behind(base: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<Group>> {
    let mut left = Vec::new();
    for number in 0..GROUPS_MAX {
        let name = place::numbered(name, number);
        let group = match open_directory(base, &name) {
            Ok(dir) => Group { name, dir },
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Only we and root can have made it in a group of ours, unless somebody else may write there.
        if trust::is_of_others(&fstat(&group.dir)?) {
            return Err(trust::Refusal::OtherOwner.into());
        }
        if !group.clear(base) {
            left.push(group);
        }
    }
    Ok(left)
}

/// Makes the first group of a service that is not there; `None` if all are there.
fn make(base: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Group>> {
    for number in 0..GROUPS_MAX {
        let name = place::numbered(name, number);
        match mkdirat(base, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) => return open_directory(base, &name).map(|dir| Some(Group { name, dir })),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// Kills all processes in a group and below it. `path` is the end of its path in the tree of groups.
fn kill_all(dir: BorrowedFd<'_>, path: &[u8]) {
    // Since Linux 5.14.
    if write(dir, c"cgroup.kill", b"1").is_ok() {
        return;
    }
    // Nothing new is to be started meanwhile, if the group has this controller.
    let _ = write(dir, c"pids.max", b"0");
    for _ in 0..ROUNDS {
        let mut room = BELOW_MAX;
        if kill_each(dir, path, &mut room, DEPTH_MAX) == 0 {
            break;
        }
    }
}

/// Kills each process that is listed in a group or below it. Returns how many there were.
fn kill_each(dir: BorrowedFd<'_>, path: &[u8], room: &mut u32, depth: u32) -> u32 {
    let mut killed = 0_u32;
    for pid in processes(&read(dir, c"cgroup.procs").unwrap_or_default()) {
        let Ok(handle) = Handle::of(pid) else { continue };
        // After the handle was opened: from now on its number cannot be that of another process.
        if is_in(pid, path) {
            let _ = handle.kill();
            killed = killed.saturating_add(1);
        }
    }
    each_below(dir, room, depth, |below, room| {
        killed = killed.saturating_add(kill_each(below.as_fd(), path, room, depth.saturating_sub(1)));
    });
    killed
}

/// Whether a process is in the group with this end of its path, or below it.
fn is_in(pid: Pid, path: &[u8]) -> bool {
    let Ok(file) = CString::new(format!("/proc/{}/cgroup", pid.as_raw_nonzero())) else { return false };
    let Ok(text) = read(CWD, &file) else { return false };
    place::is_in(&text, path)
}

/// The processes in the content of `cgroup.procs`. A process that has no number here is left out.
fn processes(text: &[u8]) -> Vec<Pid> {
    let numbers = text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    numbers.filter_map(|line| Pid::from_raw(line.parse().ok().filter(|&pid| pid > 0)?)).collect()
}

/// Removes the groups below one.
fn remove_below(dir: BorrowedFd<'_>, room: &mut u32, depth: u32) -> bool {
    let mut is_all = true;
    let mut names = Vec::new();
    each_name_below(dir, room, |name| names.push(name));
    for name in names {
        if depth > 0
            && let Ok(below) = open_directory(dir, &name)
        {
            is_all &= remove_below(below.as_fd(), room, depth.saturating_sub(1));
        }
        is_all &= unlinkat(dir, &name, AtFlags::REMOVEDIR).is_ok();
    }
    is_all
}

fn each_below(dir: BorrowedFd<'_>, room: &mut u32, depth: u32, mut each: impl FnMut(OwnedFd, &mut u32)) {
    let mut names = Vec::new();
    each_name_below(dir, room, |name| names.push(name));
    for name in names.iter().filter(|_| depth > 0) {
        if let Ok(below) = open_directory(dir, name) {
            each(below, room);
        }
    }
}

/// Passes the name of each group below one to `each`, as long as there is `room`.
fn each_name_below(dir: BorrowedFd<'_>, room: &mut u32, mut each: impl FnMut(CString)) {
    listing::rewind(dir);
    listing::each_name(dir, |name| {
        if let Ok(name) = CString::new(name)
            && !matches!(name.to_bytes(), b"." | b"..")
            && files::look(dir, &name).is_ok_and(|stat| stat.as_ref().is_some_and(files::is_dir))
        {
            *room = room.saturating_sub(1);
            each(name);
        }
        *room > 0
    });
}

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn open_write(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::WRONLY)
}

/// Reads a file of the kernel.
fn read(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    trust::read_at_most(&open(dir, name, OFlags::RDONLY)?, FILE_MAX)
}

/// Writes a file of a group in one call.
fn write(dir: BorrowedFd<'_>, name: &CStr, text: &[u8]) -> io::Result<()> {
    let file = open_write(dir, name)?;
    rustix::io::write(&file, text)?;
    Ok(())
}
