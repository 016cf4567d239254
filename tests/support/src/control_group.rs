//! A control group (version 2) of a case, in which it starts supervisors.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::*;

/// A group directly below the root of all groups. What runs in it is killed, and it is removed, with its owner.
pub struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    /// Makes one that gets the controllers `wanted`. Where there is no such group the case counts as ignored.
    #[track_caller]
    pub fn new(wanted: &[&str]) -> Self {
        needs_root();
        let root = root();
        needs("control groups of version 2 (mount -t cgroup2)", root.is_some());
        let root = root.unwrap();
        let passed_on = read(root.join("cgroup.subtree_control"));
        for controller in wanted {
            let is_there = passed_on.split_whitespace().any(|other| other == *controller);
            let what = format!("the controller {controller} for groups of version 2");
            needs_or_else(&what, is_there, "tests/boot");
        }
        Self::below(&root)
    }

    /// Makes one whose processes may use so many bytes together. One of version 1 is as good, where the controller is there.
    #[track_caller]
    pub fn with_memory(bytes: u64) -> Self {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let (group, limit) = if version_1.join("memory.limit_in_bytes").exists() {
            needs_root();
            (Self::below(version_1), "memory.limit_in_bytes")
        } else {
            (Self::new(&["memory"]), "memory.max")
        };
        fs::write(group.path.join(limit), bytes.to_string()).unwrap();
        group
    }

    #[track_caller]
    fn below(root: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = root.join(format!("runitbox-case-{}-{number}", std::process::id()));
        needs("control groups that can be written", fs::create_dir(&path).is_ok());
        ControlGroup { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the group of a service below it, if there is one.
    pub fn of(&self, service: &str) -> Option<PathBuf> {
        let begin = format!("sv.{service}.");
        let entries = fs::read_dir(&self.path).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().unwrap().to_str().is_some_and(|name| name.starts_with(&begin)))
    }

    /// The processes in the group of a service.
    pub fn processes_of(&self, service: &str) -> Vec<i32> {
        let procs = self.of(service).map(|path| read(path.join("cgroup.procs"))).unwrap_or_default();
        procs.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Shell commands after which the shell, and what it executes, is in the group.
    pub fn enter(&self) -> String {
        format!("echo 0 >{}/cgroup.procs", self.path.display())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        holds_soon(|| {
            if fs::write(self.path.join("cgroup.kill"), "1").is_err() {
                // Version 1 cannot do that.
                let processes = read(self.path.join("cgroup.procs"));
                processes.lines().for_each(|line| kill(line.parse().unwrap(), SIGKILL));
            }
            remove(&self.path)
        });
    }
}

/// Removes a group and those below it.
fn remove(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok()
}

/// Where the root of all groups is mounted.
fn root() -> Option<PathBuf> {
    let mounts = read("/proc/self/mounts");
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    found.split(' ').nth(1).map(PathBuf::from)
}
