//! The state of a tree, for `storm` and `faults`: processes as /proc shows them, the files of `supervise`, and what `sv`
//! reports. Both run as process 1 of a PID namespace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::{SIGKILL, State, Status, Want, kill, reap, reference, run_file};

/// A process of the namespace.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// The letter of its state, as in proc(5).
    pub state: char,
    /// Its name.
    pub name: String,
    /// Its command line.
    pub words: Vec<String>,
}

/// Whose program a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    /// A service's, with its serial number.
    Service(u32),
    /// A log service's, with its serial number.
    Log(u32),
}

impl Process {
    /// `sleep 99999.SERIAL` is a service, `sed -n /storm.SERIAL./d` a log service.
    pub fn tag(&self) -> Option<Tag> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["sleep", number] => Some(Tag::Service(number.strip_prefix("99999.1")?.parse().ok()?)),
            ["sed", "-n" | "-u", program] => {
                Some(Tag::Log(program.strip_prefix("/storm.")?.strip_suffix("./d")?.parse().ok()?))
            }
            _ => None,
        }
    }

    /// Whether it has ended and waits to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The run script of a service.
pub fn service_program(serial: u32) -> String {
    format!("#!/bin/sh\nexec sleep 99999.1{serial}\n")
}

/// The run script of a log service.
pub fn log_program(serial: u32) -> String {
    format!("#!/bin/sh\nexec sed -n /storm.{serial}./d\n")
}

/// All processes of the namespace but us.
pub fn processes() -> Vec<Process> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == 1 {
            continue;
        }
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let mut fields = tail.split_whitespace();
        let state = fields.next().and_then(|word| word.chars().next()).unwrap_or('?');
        let parent = fields.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let name = head.split_once('(').map(|(_, name)| name.to_owned()).unwrap_or_default();
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = words.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let mut words: Vec<String> = words.collect();
        words.pop();
        all.push(Process { pid, parent, state, name, words });
    }
    all
}

/// Kills all processes of the namespace but us, and waits until they are gone. `children` are those that their owner
/// reaps.
pub fn end_all(children: &mut [&mut Child]) {
    let known: Vec<i32> = children.iter().map(|child| i32::try_from(child.id()).unwrap()).collect();
    loop {
        let all = processes();
        if all.is_empty() {
            break;
        }
        for process in &all {
            kill(process.pid, SIGKILL);
        }
        for child in &mut *children {
            let _ = child.try_wait();
        }
        reap_orphans(&known);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reaps the orphans, which come to us as process 1, but not `known`.
pub fn reap_orphans(known: &[i32]) {
    for process in processes() {
        if process.parent == 1 && process.is_dead() && !known.contains(&process.pid) {
            reap(process.pid);
        }
    }
}

/// What a descriptor of a process is; `pipe:[N]`.
pub fn descriptor(pid: i32, number: i32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
    link.map(|path| path.display().to_string()).unwrap_or_default()
}

/// What the three files of a `supervise` directory say, if they say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// The process, if there is one.
    pub pid: Option<i32>,
    /// `./run` runs.
    pub runs: bool,
    /// It is to run.
    pub want_up: bool,
}

/// Reads `pid`, `stat` and `status`.
pub fn files(supervise: &Path) -> Result<Files, String> {
    let get = |name: &str| fs::read(supervise.join(name)).map_err(|error| format!("{name}: {error}"));
    let (stat, pid, status) = (get("stat")?, get("pid")?, get("status")?);
    let text = String::from_utf8_lossy(&stat).into_owned();
    let pid: Option<i32> = String::from_utf8_lossy(&pid).trim().parse().ok();
    let status = Status::decode(&status).map_err(|error| format!("status: {error}"))?;
    let there = status.pid;
    // The record has one letter for both. Stock adds what is wanted to `down` as well.
    let word = |text: &str| text.split(',').next().unwrap_or_default().trim().to_owned();
    let same = if reference().is_some() {
        word(&text) == word(&status.text())
    } else {
        status.text() == text.replace("want exit", "want down")
    };
    if !same || there != pid {
        return Err(format!("pid says {pid:?}, stat {:?}, status {there:?} {:?}", text.trim(), status.state));
    }
    Ok(Files { pid, runs: status.state == State::Run, want_up: status.want == Want::Up })
}

/// The lines of `sv status`, by name.
pub fn sv_status(sv: &Path, service: &Path, names: &[String]) -> BTreeMap<String, String> {
    if names.is_empty() {
        return BTreeMap::new();
    }
    let outcome = run_file(sv).arg("status").args(names).env("SVDIR", service).dir(service).go();
    let mut lines = BTreeMap::new();
    for line in outcome.out.lines() {
        let mut parts = line.splitn(3, ": ");
        if let (Some(_), Some(name), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            lines.insert(name.to_owned(), line.to_owned());
        }
    }
    lines
}
