//! What is: processes as /proc shows them, the files of `supervise`, and what `sv` says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use svcore::status::{LEN, State, Status, Want};

use crate::harness::*;

/// A process of the story.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub state: char,
    pub name: String,
    pub words: Vec<String>,
}

/// Whose program a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    Service(u32),
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

    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

pub fn service_program(serial: u32) -> String {
    format!("#!/bin/sh\nexec sleep 99999.1{serial}\n")
}

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

pub fn children_of(pid: i32) -> Vec<i32> {
    let children = read(format!("/proc/{pid}/task/{pid}/children").as_ref());
    children.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// What a descriptor of a process is; `pipe:[N]`.
pub fn descriptor(pid: i32, number: i32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
    link.map(|path| path.display().to_string()).unwrap_or_default()
}

/// What the three files of a `supervise` directory say, if they say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    pub pid: Option<i32>,
    pub runs: bool,
    pub want_up: bool,
}

/// Reads `pid`, `stat` and `status`.
pub fn files(supervise: &Path) -> Result<Files, String> {
    let get = |name: &str| fs::read(supervise.join(name)).map_err(|error| format!("{name}: {error}"));
    let (stat, pid, status) = (get("stat")?, get("pid")?, get("status")?);
    let text = String::from_utf8_lossy(&stat).into_owned();
    let pid: Option<i32> = String::from_utf8_lossy(&pid).trim().parse().ok();
    let length = status.len();
    let bytes = <[u8; LEN]>::try_from(status).map_err(|_| format!("status: {length} bytes"))?;
    let status = Status::decode(&bytes).map_err(|error| format!("status: {error:?}"))?;
    let there = status.pid.map(|pid| pid.as_raw_nonzero().get());
    // The record has one letter for both. Stock adds what is wanted to `down` as well.
    let word = |text: &str| text.split(',').next().unwrap_or_default().trim().to_owned();
    let same = if reference().is_some() {
        word(&text) == word(&String::from_utf8_lossy(&status.text()))
    } else {
        status.text() == text.replace("want exit", "want down").as_bytes()
    };
    if !same || there != pid {
        return Err(format!("pid says {pid:?}, stat {:?}, status {there:?} {:?}", text.trim(), status.state));
    }
    Ok(Files { pid, runs: status.state == State::Run, want_up: status.want == Some(Want::Up) })
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
