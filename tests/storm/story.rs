//! A story: a fresh tree, its supervisor, and bursts of operations on both, each followed by the question whether all is
//! as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::model::*;
use support::truth::{self, Tag};
use support::*;

/// A small generator, so that a story can be repeated from its seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds give stories that have nothing in common.
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.roll(2);
        }
        dice
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.roll(from.len())].clone()) }
    }
}

/// Who supervises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Runsvdir,
    Runsvinit,
    /// One `runsv` for each directory, started again by us as `runsvdir` would.
    Runsv,
}

/// What a story was: how many operations, and what was not right at its end.
pub struct Ended {
    pub operations: usize,
    pub bursts: usize,
    pub failure: Option<Failure>,
}

pub struct Failure {
    pub kind: String,
    pub text: String,
}

const SV: [&str; 5] = ["v0", "v1", "v2", "v3", "v4"];
const SERVICE: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What is done, each as often as it stands here.
const KINDS: [&str; 30] = [
    "mkdir",
    "mkdir",
    "cp",
    "deploy",
    "mv-dir",
    "mv-link",
    "ln-sfn",
    "ln-sfn",
    "ln",
    "rm",
    "by-file",
    "swap",
    "log-anew",
    "touch",
    "run-anew",
    "rm-log",
    "chmod",
    "chmod",
    "rm-supervise",
    "down",
    "down",
    "outage",
    "command",
    "command",
    "command",
    "command",
    "kill",
    "kill-log",
    "kill-runsv",
    "kill-all",
];

pub struct Story {
    mode: Mode,
    /// The only kinds of operations, by `ONLY`; empty for all.
    only: String,
    root: PathBuf,
    dice: Dice,
    model: Model,
    /// The supervisor, or in [`Mode::Runsv`] one for each name.
    supervisors: BTreeMap<String, (Child, Instant)>,
    /// What has been done in this burst.
    done: Vec<String>,
    /// Found wrong while an operation was done.
    wrong: Option<(String, String)>,
    full: bool,
    /// This burst has ended a process or a supervisor, so that there may be the pause of a second.
    pauses: bool,
    blinked: bool,
    verbose: bool,
    /// For each directory what was seen of it: wanted up, runs, its log service, whether they are connected.
    last_seen: BTreeMap<u32, (bool, bool, Option<u32>, bool)>,
}

fn set_mode(path: &Path, mode: u32) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
}

impl Story {
    pub fn new(root: &Path, seed: u64, mode: Mode) -> Self {
        for place in ["service", "sv", "fill"] {
            let path = root.join(place);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
        }
        fs::create_dir_all(root.join("service")).unwrap();
        fs::create_dir_all(root.join("sv")).unwrap();
        let mut story = Story {
            mode,
            only: std::env::var("ONLY").unwrap_or_default(),
            root: root.to_owned(),
            dice: Dice::new(seed),
            model: Model { keeps_removed: mode == Mode::Runsv, ..Model::default() },
            supervisors: BTreeMap::new(),
            done: Vec::new(),
            wrong: None,
            full: false,
            pauses: false,
            blinked: false,
            verbose: std::env::var_os("VERBOSE").is_some(),
            last_seen: BTreeMap::new(),
        };
        // A tree with a bit of everything.
        let service: &[(&str, bool)] = if mode == Mode::Runsv {
            &[("a", true), ("b", false), ("c", true)]
        } else {
            &[("d", true), ("e", false)]
        };
        for &(name, logged) in service {
            let serial = story.fill_dir(&format!("service/{name}"), logged, false);
            story.model.service.insert(name.to_owned(), Entry::Dir(serial));
        }
        if mode != Mode::Runsv {
            for (name, logged) in [("v0", true), ("v1", false), ("v2", true)] {
                let serial = story.fill_dir(&format!("sv/{name}"), logged, false);
                story.model.sv.insert(name.to_owned(), Entry::Dir(serial));
            }
            for (name, to) in [("a", "v0"), ("b", "v1")] {
                story.link(name, to);
            }
        }
        story.model.look();
        story
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn write(&self, below: &str, content: &str, mode: u32) {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        if let Ok(mut file) = options.open(self.path(below)) {
            let _ = file.write_all(content.as_bytes());
        }
    }

    /// Makes a service directory in place, file by file in any order. The model learns it.
    fn fill_dir(&mut self, at: &str, logged: bool, down: bool) -> u32 {
        let serial = self.model.serial();
        let log = logged.then(|| Log { serial: self.model.serial() });
        let mut parts = vec!["run"];
        if down {
            parts.push("down");
        }
        if logged {
            parts.push("log");
        }
        fs::create_dir(self.path(at)).unwrap();
        while !parts.is_empty() {
            let part = parts.remove(self.dice.roll(parts.len()));
            match part {
                "run" => self.write(&format!("{at}/run"), &truth::service_program(serial), 0o755),
                "down" => self.write(&format!("{at}/down"), "", 0o644),
                _ => self.make_log(at, log.unwrap()),
            }
        }
        let mut dir = Dir::new(true, down, log);
        self.settle_doubt(at, &mut dir);
        self.model.dirs.insert(serial, dir);
        serial
    }

    fn make_log(&self, at: &str, log: Log) {
        let _ = fs::create_dir(self.path(&format!("{at}/log")));
        self.write(&format!("{at}/log/run"), &truth::log_program(log.serial), 0o755);
    }

    /// A `down` that came long after `run` may have come too late.
    fn settle_doubt(&self, at: &str, dir: &mut Dir) {
        let when = |name: &str| {
            let metadata = fs::metadata(self.path(&format!("{at}/{name}"))).ok()?;
            Some(metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000)
        };
        if let (true, Some(run), Some(down)) = (dir.down, when("run"), when("down"))
            && down - run > 12
        {
            dir.want = UP | DOWN;
            dir.anew = true;
        }
    }

    fn link(&mut self, name: &str, to: &str) {
        symlink(format!("../sv/{to}"), self.path(&format!("service/{name}"))).unwrap();
        self.model.service.insert(name.to_owned(), Entry::Link(to.to_owned()));
    }

    // Supervisors.

    fn begin_supervisors(&mut self) {
        let names: Vec<String> = match self.mode {
            Mode::Runsvdir | Mode::Runsvinit => vec!["service".to_owned()],
            Mode::Runsv => self.model.names().into_keys().collect(),
        };
        for name in names {
            if let Some((child, begun)) = self.supervisors.get_mut(&name)
                && (child.try_wait().unwrap().is_none() || begun.elapsed() < Duration::from_millis(100))
            {
                continue;
            }
            let mut options = fs::OpenOptions::new();
            let err = options.create(true).append(true).open(self.root.with_extension("err")).unwrap();
            let (program, words) = match self.mode {
                Mode::Runsvdir => ("runsvdir", vec!["-P", "service"]),
                Mode::Runsvinit => ("runsvinit", vec!["-w", "5", "service"]),
                Mode::Runsv => ("runsv", vec![name.as_str()]),
            };
            let place = if self.mode == Mode::Runsv { self.path("service") } else { self.root.clone() };
            let child = Command::new(bin().join(program))
                .args(words)
                .current_dir(place)
                .env_clear()
                .env("PATH", path_variable())
                .stdin(Stdio::null())
                .stdout(err.try_clone().unwrap())
                .stderr(err)
                .spawn()
                .unwrap();
            self.supervisors.insert(name, (child, Instant::now()));
        }
    }

    /// Ends all processes of the namespace but us.
    fn end_all(&mut self) {
        let mut children: Vec<&mut Child> = self.supervisors.values_mut().map(|(child, _)| child).collect();
        truth::end_all(&mut children);
        self.supervisors.clear();
    }

    /// Orphans are ours, as process 1 of the namespace.
    fn reap(&mut self) {
        let known: Vec<i32> =
            self.supervisors.values().map(|(child, _)| i32::try_from(child.id()).unwrap()).collect();
        truth::reap_orphans(&known);
    }

    /// The process that supervises a directory.
    fn supervisor_of(&self, serial: u32) -> Option<i32> {
        let all = truth::processes();
        let log = self.model.dirs[&serial].logs.iter().flatten().copied().collect::<Vec<_>>();
        let tagged = all.iter().find(|process| {
            !process.is_dead()
                && match process.tag() {
                    Some(Tag::Service(tag)) => tag == serial,
                    Some(Tag::Log(tag)) => log.contains(&tag),
                    None => false,
                }
        });
        if let Some(tagged) = tagged {
            let parent = all.iter().find(|process| process.pid == tagged.parent)?;
            return (parent.pid > 1 && parent.name.starts_with("runsv")).then_some(parent.pid);
        }
        let lock = self.path(&format!("{}/supervise/lock", self.model.path(serial)?));
        let lock = fs::metadata(lock).ok()?;
        let holds = |pid: i32| {
            fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
                fds.flatten().any(|fd| {
                    fs::metadata(fd.path()).is_ok_and(|of| (of.dev(), of.ino()) == (lock.dev(), lock.ino()))
                })
            })
        };
        all.iter().find(|process| process.name == "runsv" && holds(process.pid)).map(|process| process.pid)
    }

    fn note_ended(&mut self, serial: u32) {
        // Whoever runs now must not be who runs afterwards.
        let path = self.model.path(serial);
        let quiet = self.model.dirs[&serial].is_quiet();
        if let (Some(path), true) = (path, quiet) {
            let pid = read(self.path(&format!("{path}/supervise/pid"))).trim().parse::<i32>().ok();
            let tag = Some(Tag::Service(serial));
            let all = truth::processes();
            if let Some(process) = all.iter().find(|process| Some(process.pid) == pid && process.tag() == tag)
            {
                self.model.dirs.get_mut(&serial).unwrap().ended.insert(process.pid);
            }
        }
    }

    // Operations. Which one, and on what, is decided by the dice and the tree alone, so that a seed repeats it.

    fn say(&mut self, what: String) {
        if self.verbose {
            println!("    {what}");
        }
        self.done.push(what);
    }

    fn dirs(&self) -> Vec<u32> {
        self.model.dirs.keys().copied().filter(|&serial| self.model.path(serial).is_some()).collect()
    }

    fn served(&self) -> Vec<u32> {
        let mut served: Vec<u32> = self.model.names().into_values().collect();
        served.sort_unstable();
        served.dedup();
        served
    }

    fn links(&self) -> Vec<String> {
        let links = self.model.service.iter().filter(|(_, entry)| matches!(entry, Entry::Link(_)));
        links.map(|(name, _)| name.clone()).collect()
    }

    fn free(&self, names: &[&str], map: &BTreeMap<String, Entry>) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).filter(|name| !map.contains_key(name)).collect()
    }

    /// All entries that are directories, as words below the root.
    fn places(&self) -> Vec<(String, u32)> {
        self.dirs().into_iter().map(|serial| (self.model.path(serial).unwrap(), serial)).collect()
    }

    fn entry(&mut self, path: &str) -> (&mut BTreeMap<String, Entry>, String) {
        let (place, name) = path.split_once('/').unwrap();
        let map = if place == "sv" { &mut self.model.sv } else { &mut self.model.service };
        (map, name.to_owned())
    }

    fn put(&mut self, path: &str, entry: Option<Entry>) {
        let (map, name) = self.entry(path);
        match entry {
            Some(entry) => map.insert(name, entry),
            None => map.remove(&name),
        };
        self.model.look();
    }

    /// A place where a directory can be made.
    fn free_place(&mut self) -> Option<String> {
        let service = self.free(&SERVICE, &self.model.service);
        if self.mode == Mode::Runsv {
            let service: Vec<String> = service.into_iter().filter(|name| name.as_str() < "d").collect();
            return self.dice.pick(&service).map(|name| format!("service/{name}"));
        }
        let sv = self.free(&SV, &self.model.sv);
        let place = self.dice.roll(2);
        if place == 0 {
            self.dice.pick(&service).map(|name| format!("service/{name}"))
        } else {
            self.dice.pick(&sv).map(|name| format!("sv/{name}"))
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Err(error) = fs::rename(self.path(from), self.path(to)) {
            self.wrong = Some(("rename".to_owned(), format!("mv {from} {to}: {error}")));
        }
    }

    fn remove_tree(&mut self, path: &str) {
        let full = self.path(path);
        for _ in 0..200 {
            match fs::remove_dir_all(&full) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
                // A supervisor may have made its own files again meanwhile; `rm -r` would have to be called again as
                // well.
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        self.wrong = Some(("cannot be removed".to_owned(), format!("rm -r {path}: 200 times not empty")));
    }

    /// One operation. `false` if it cannot be done on this tree.
    fn operation(&mut self) -> bool {
        let runsv = self.mode == Mode::Runsv;
        let kind = self.dice.roll(KINDS.len());
        // On a full disk nothing can be filled.
        let needs_room = ["mkdir", "cp", "deploy", "by-file", "log-anew", "run-anew", "rm-log"];
        if self.full && needs_room.contains(&KINDS[kind]) {
            return false;
        }
        let only = &self.only;
        if !only.is_empty() && !only.split(',').any(|name| name == KINDS[kind]) {
            return false;
        }
        match KINDS[kind] {
            "mkdir" => self.new_in_place(),
            "cp" => self.copy(),
            "deploy" => !runsv && self.deploy(),
            "mv-dir" => !runsv && self.move_directory(),
            "mv-link" => !runsv && self.move_link(),
            "ln-sfn" => !runsv && self.switch_link(),
            "ln" => !runsv && self.new_link(),
            "rm" => self.remove(),
            "by-file" => self.by_file(),
            "swap" => !runsv && self.swap(),
            "log-anew" => self.log_anew(),
            "touch" => self.touch(),
            "run-anew" => self.remake_run(),
            "rm-log" => self.remove_log(),
            "chmod" => self.mode_of_run(),
            "rm-supervise" => self.remove_supervise(),
            "down" => self.down_file(),
            "outage" => self.outage(),
            "command" => self.command(),
            "kill" => self.kill_service(),
            "kill-log" => self.kill_log(),
            "kill-runsv" => self.kill_supervisor(),
            _ => (!only.is_empty() || self.dice.roll(3) == 0) && self.kill_all(),
        }
    }

    fn new_in_place(&mut self) -> bool {
        let Some(place) = self.free_place() else { return false };
        let (logged, down) = (self.dice.roll(2) == 0, self.dice.roll(3) == 0);
        self.say(format!(
            "mkdir {place}, filled with run{}{}",
            if down { ", down" } else { "" },
            if logged { ", log/" } else { "" }
        ));
        let serial = self.fill_dir(&place, logged, down);
        self.put(&place, Some(Entry::Dir(serial)));
        true
    }

    fn copy(&mut self) -> bool {
        let Some(place) = self.free_place() else { return false };
        let (logged, down) = (self.dice.roll(2) == 0, self.dice.roll(3) == 0);
        let template = self.path("template");
        let _ = fs::remove_dir_all(&template);
        let serial = self.fill_dir("template", logged, down);
        self.say(format!("cp -r template {place} (down: {down}, log: {logged})"));
        let copied = Command::new("cp").arg("-r").arg(&template).arg(self.path(&place)).status().unwrap();
        assert!(copied.success());
        let mut dir = self.model.dirs.remove(&serial).unwrap();
        self.settle_doubt(&place, &mut dir);
        self.model.dirs.insert(serial, dir);
        self.put(&place, Some(Entry::Dir(serial)));
        let _ = fs::remove_dir_all(&template);
        true
    }

    /// A new directory takes the place of an old one behind its links.
    fn deploy(&mut self) -> bool {
        let olds: Vec<(String, u32)> =
            self.places().into_iter().filter(|(path, _)| path.starts_with("sv/")).collect();
        let Some((path, _)) = self.dice.pick(&olds) else { return false };
        let (logged, down) = (self.dice.roll(2) == 0, self.dice.roll(4) == 0);
        let wait = self.dice.roll(3);
        self.say(format!(
            "deploy {path}: mv away, mv the new one into place, rm -r the old one after {wait} ms"
        ));
        let new = self.fill_dir("new", logged, down);
        // Complete before it has its name.
        self.model.dirs.get_mut(&new).unwrap().anew = false;
        self.rename(&path, "old");
        self.put(&path, None);
        self.rename("new", &path);
        self.put(&path, Some(Entry::Dir(new)));
        std::thread::sleep(Duration::from_millis(wait as u64));
        self.remove_tree("old");
        true
    }

    fn move_directory(&mut self) -> bool {
        let Some((from, serial)) = ({
            let places = self.places();
            self.dice.pick(&places)
        }) else {
            return false;
        };
        let Some(to) = self.free_place() else { return false };
        self.say(format!("mv {from} {to}"));
        self.rename(&from, &to);
        // One step: the new name is there when the old one is gone.
        let (map, name) = self.entry(&from);
        map.remove(&name);
        self.put(&to, Some(Entry::Dir(serial)));
        true
    }

    fn move_link(&mut self) -> bool {
        let (links, free) = (self.links(), self.free(&SERVICE, &self.model.service));
        let (Some(from), Some(to)) = (self.dice.pick(&links), self.dice.pick(&free)) else { return false };
        self.say(format!("mv service/{from} service/{to} (a link)"));
        self.rename(&format!("service/{from}"), &format!("service/{to}"));
        let entry = self.model.service.remove(&from).unwrap();
        self.put(&format!("service/{to}"), Some(entry));
        true
    }

    /// As `ln -sfn` of coreutils: a link with a name of its own, renamed.
    fn switch_link(&mut self) -> bool {
        let links = self.links();
        let Some(link) = self.dice.pick(&links) else { return false };
        let to = SV[self.dice.roll(SV.len())].to_owned();
        self.say(format!("ln -sfn ../sv/{to} service/{link}"));
        let temporary = format!("service/Cu{:06}", self.dice.roll(1_000_000));
        if symlink(format!("../sv/{to}"), self.path(&temporary)).is_err() {
            return true;
        }
        self.put(&temporary, Some(Entry::Link(to.clone())));
        self.rename(&temporary, &format!("service/{link}"));
        let (map, name) = self.entry(&temporary);
        map.remove(&name);
        self.put(&format!("service/{link}"), Some(Entry::Link(to)));
        true
    }

    fn new_link(&mut self) -> bool {
        let free = self.free(&SERVICE, &self.model.service);
        let Some(name) = self.dice.pick(&free) else { return false };
        let to = SV[self.dice.roll(SV.len())].to_owned();
        self.say(format!("ln -s ../sv/{to} service/{name}"));
        self.link(&name, &to);
        self.model.look();
        true
    }

    fn remove(&mut self) -> bool {
        let links = self.links();
        if !links.is_empty() && self.dice.roll(2) == 0 {
            let link = self.dice.pick(&links).unwrap();
            self.say(format!("rm service/{link} (a link)"));
            let _ = fs::remove_file(self.path(&format!("service/{link}")));
            self.put(&format!("service/{link}"), None);
            return true;
        }
        let places = self.places();
        if places.len() < 3 {
            return false;
        }
        let (path, _) = self.dice.pick(&places).unwrap();
        self.say(format!("rm -r {path}"));
        self.remove_tree(&path);
        self.put(&path, None);
        true
    }

    /// A directory is replaced by a file; or the file by a directory.
    fn by_file(&mut self) -> bool {
        let files: Vec<String> = [("sv", &self.model.sv), ("service", &self.model.service)]
            .into_iter()
            .flat_map(|(place, map)| {
                map.iter()
                    .filter(|(_, entry)| **entry == Entry::File)
                    .map(move |(name, _)| format!("{place}/{name}"))
            })
            .collect();
        if let Some(path) = self.dice.pick(&files) {
            self.say(format!("rm {path} (a file), and a directory in its place"));
            let _ = fs::remove_file(self.path(&path));
            let logged = self.dice.roll(2) == 0;
            let serial = self.fill_dir(&path, logged, false);
            self.put(&path, Some(Entry::Dir(serial)));
            return true;
        }
        let places = self.places();
        if places.len() < 3 {
            return false;
        }
        let (path, _) = self.dice.pick(&places).unwrap();
        self.say(format!("rm -rf {path}; : >{path}"));
        self.remove_tree(&path);
        self.write(&path, "", 0o644);
        self.put(&path, Some(Entry::File));
        true
    }

    fn swap(&mut self) -> bool {
        let entries: Vec<String> = self.model.service.keys().cloned().collect();
        let (Some(a), Some(b)) = (self.dice.pick(&entries), self.dice.pick(&entries)) else { return false };
        if a == b {
            return false;
        }
        let at_once = self.dice.roll(2) == 0;
        let (path_a, path_b) = (format!("service/{a}"), format!("service/{b}"));
        let (entry_a, entry_b) = (self.model.service[&a].clone(), self.model.service[&b].clone());
        if at_once {
            self.say(format!("swap {a} and {b} at once"));
            let (from, to) = (self.path(&path_a), self.path(&path_b));
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, &from, here, &to, rustix::fs::RenameFlags::EXCHANGE).unwrap();
            self.model.service.insert(a, entry_b);
            self.put(&path_b, Some(entry_a));
        } else {
            self.say(format!("mv {a} .swap; mv {b} {a}; mv .swap {b}"));
            self.rename(&path_a, "service/.swap");
            self.put(&path_a, None);
            self.put("service/.swap", Some(entry_a.clone()));
            self.rename(&path_b, &path_a);
            self.put(&path_b, None);
            self.put(&path_a, Some(entry_b));
            self.rename("service/.swap", &path_b);
            self.put("service/.swap", None);
            self.put(&path_b, Some(entry_a));
        }
        true
    }

    fn some_dir(&mut self) -> Option<(String, u32)> {
        let places = self.places();
        self.dice.pick(&places)
    }

    /// `log/` is made, or removed and made anew.
    fn log_anew(&mut self) -> bool {
        let Some((path, serial)) = self.some_dir() else { return false };
        let log = Log { serial: self.model.serial() };
        if self.model.dirs[&serial].log.is_some() {
            self.say(format!("rm -r {path}/log, and made anew"));
            self.remove_tree(&format!("{path}/log"));
            self.model.dirs.get_mut(&serial).unwrap().set_log(None);
        } else {
            self.say(format!("mkdir {path}/log, filled"));
        }
        self.make_log(&path, log);
        self.model.dirs.get_mut(&serial).unwrap().set_log(Some(log));
        true
    }

    fn remove_log(&mut self) -> bool {
        let Some((path, serial)) = self.some_dir() else { return false };
        if self.model.dirs[&serial].log.is_none() {
            return false;
        }
        self.say(format!("rm -r {path}/log"));
        self.remove_tree(&format!("{path}/log"));
        self.model.dirs.get_mut(&serial).unwrap().set_log(None);
        true
    }

    fn touch(&mut self) -> bool {
        let Some((path, _)) = self.some_dir() else { return false };
        let what = ["", "/run", "/supervise"][self.dice.roll(3)];
        self.say(format!("touch {path}{what}"));
        if let Ok(file) = fs::File::open(self.path(&format!("{path}{what}"))) {
            let now = std::time::SystemTime::now();
            let _ = file.set_times(fs::FileTimes::new().set_modified(now).set_accessed(now));
        }
        true
    }

    /// As an editor does: a new file renamed over the old one.
    fn remake_run(&mut self) -> bool {
        let Some((path, serial)) = self.some_dir() else { return false };
        self.say(format!("mv {path}/run.new {path}/run"));
        self.write(&format!("{path}/run.new"), &truth::service_program(serial), 0o755);
        self.rename(&format!("{path}/run.new"), &format!("{path}/run"));
        self.model.dirs.get_mut(&serial).unwrap().set_exec(true);
        true
    }

    fn mode_of_run(&mut self) -> bool {
        let Some((path, serial)) = self.some_dir() else { return false };
        let exec = !self.model.dirs[&serial].exec;
        let mode = if exec { 0o755 } else { 0o644 };
        self.say(format!("chmod {mode:o} {path}/run"));
        set_mode(&self.path(&format!("{path}/run")), mode);
        self.model.dirs.get_mut(&serial).unwrap().set_exec(exec);
        true
    }

    fn remove_supervise(&mut self) -> bool {
        let Some((path, serial)) = self.some_dir() else { return false };
        let part = if self.model.dirs[&serial].log.is_some() && self.dice.roll(2) == 0 { "/log" } else { "" };
        self.say(format!("rm -r {path}{part}/supervise"));
        // Once: what a supervisor makes again while it is removed may stay.
        self.model.dirs.get_mut(&serial).unwrap().deaf = true;
        let _ = fs::remove_dir_all(self.path(&format!("{path}{part}/supervise")));
        true
    }

    fn down_file(&mut self) -> bool {
        let Some((path, serial)) = self.some_dir() else { return false };
        let down = !self.model.dirs[&serial].down;
        let file = self.path(&format!("{path}/down"));
        if down {
            self.say(format!(": >{path}/down"));
            self.write(&format!("{path}/down"), "", 0o644);
        } else {
            self.say(format!("rm {path}/down"));
            let _ = fs::remove_file(file);
        }
        self.model.dirs.get_mut(&serial).unwrap().set_down(down);
        true
    }

    /// All definitions are away for a moment.
    fn outage(&mut self) -> bool {
        let place = if self.mode == Mode::Runsv {
            let Some((path, _)) = self.some_dir() else { return false };
            path
        } else {
            "sv".to_owned()
        };
        let wait = [0, 3, 30][self.dice.roll(3)];
        self.say(format!("mv {place} away, and back after {wait} ms"));
        self.rename(&place, "away");
        if place == "sv" {
            let sv = std::mem::take(&mut self.model.sv);
            self.model.look();
            std::thread::sleep(Duration::from_millis(wait));
            self.rename("away", "sv");
            self.model.sv = sv;
            self.model.look();
        } else {
            let (map, name) = self.entry(&place);
            let entry = map.remove(&name);
            self.model.look();
            std::thread::sleep(Duration::from_millis(wait));
            self.rename("away", &place);
            self.put(&place, entry);
        }
        true
    }

    fn sv(&self, words: &[&str]) -> Outcome {
        let service = self.path("service");
        run("sv").args(words).env("SVDIR", &service).dir(&service).go()
    }

    fn command(&mut self) -> bool {
        let names: Vec<(String, u32)> = self.model.names().into_iter().collect();
        let Some((name, serial)) = self.dice.pick(&names) else { return false };
        let words = [
            "up", "up", "up", "down", "down", "once", "restart", "start", "stop", "term", "kill", "hup",
            "exit", "pause",
        ];
        let word = words[self.dice.roll(words.len())];
        self.say(format!("sv {word} {name}"));
        let dir = &self.model.dirs[&serial];
        let steady = dir.is_steady();
        let quiet = dir.is_quiet() && dir.exec;
        if matches!(word, "restart" | "exit" | "term" | "kill" | "hup" | "down" | "stop") {
            self.pauses = true;
            self.note_ended(serial);
        }
        let outcome = match word {
            // These wait, which is only right when they can succeed.
            "restart" | "start" if !quiet => self.sv(&["up", &name]),
            "restart" | "start" | "stop" => self.sv(&["-w", "5", word, &name]),
            "pause" => {
                let paused = self.sv(&["pause", &name]);
                if paused.code == Some(0) { self.sv(&["cont", &name]) } else { paused }
            }
            _ => self.sv(&[word, &name]),
        };
        let told = if matches!(word, "restart" | "start") && !quiet { "up" } else { word };
        if told != "restart" && word == "restart" {
            self.model.dirs.get_mut(&serial).unwrap().ended.clear();
        }
        if outcome.code == Some(0) {
            self.model.dirs.get_mut(&serial).unwrap().is_told(told);
        } else if steady && !self.full {
            self.wrong = Some((
                format!("sv {word} failed"),
                format!("sv {word} {name}: {:?} {:?} {:?}", outcome.code, outcome.out, outcome.err),
            ));
        } else {
            let dir = self.model.dirs.get_mut(&serial).unwrap();
            dir.ended.clear();
            // It may have got through before it failed.
            let anew = dir.anew;
            dir.anew = true;
            dir.is_told(told);
            dir.anew = anew || told == "exit";
        }
        true
    }

    fn kill_service(&mut self) -> bool {
        let served = self.served();
        let Some(serial) = self.dice.pick(&served) else { return false };
        let path = self.model.path(serial).unwrap();
        self.say(format!("kill -9 the service of {path}"));
        self.pauses = true;
        let quiet = self.model.dirs[&serial].is_sure();
        let all = truth::processes();
        if let Some(process) = all.iter().find(|process| process.tag() == Some(Tag::Service(serial))) {
            kill(process.pid, SIGKILL);
            let dir = self.model.dirs.get_mut(&serial).unwrap();
            dir.ended.insert(process.pid);
            dir.ends(quiet);
        } else if !quiet {
            self.model.dirs.get_mut(&serial).unwrap().due = true;
        }
        true
    }

    fn kill_log(&mut self) -> bool {
        let served: Vec<u32> =
            self.served().into_iter().filter(|serial| self.model.dirs[serial].log.is_some()).collect();
        let Some(serial) = self.dice.pick(&served) else { return false };
        let path = self.model.path(serial).unwrap();
        self.say(format!("kill -9 the log service of {path}"));
        self.pauses = true;
        let dir = self.model.dirs.get_mut(&serial).unwrap();
        let quiet = dir.is_sure() && !dir.log_due;
        let logs = dir.logs.clone();
        let all = truth::processes();
        let log = all
            .iter()
            .find(|process| matches!(process.tag(), Some(Tag::Log(tag)) if logs.contains(&Some(tag))));
        if let Some(log) = log {
            kill(log.pid, SIGKILL);
            dir.ended.insert(log.pid);
            dir.log_ends(quiet);
        }
        true
    }

    fn kill_supervisor(&mut self) -> bool {
        if self.mode == Mode::Runsvinit {
            return self.kill_all();
        }
        let served = self.served();
        let Some(serial) = self.dice.pick(&served) else { return false };
        let path = self.model.path(serial).unwrap();
        self.say(format!("kill -9 runsv of {path} with its children"));
        self.pauses = true;
        match self.supervisor_of(serial) {
            Some(runsv) => {
                // The children as an administrator would, who wants no second copy.
                kill(runsv, 19);
                let children = children_of(runsv);
                kill(runsv, SIGKILL);
                for child in children {
                    kill(child, SIGKILL);
                    self.model.dirs.get_mut(&serial).unwrap().ended.insert(child);
                }
                self.model.dirs.get_mut(&serial).unwrap().supervisor_ends(true);
            }
            None => self.model.dirs.get_mut(&serial).unwrap().supervisor_ends(false),
        }
        true
    }

    fn kill_all(&mut self) -> bool {
        if self.mode == Mode::Runsv {
            return false;
        }
        self.say(format!("kill -9 {:?} and all that runs, and start it again", self.mode));
        self.pauses = true;
        self.end_all();
        self.begin_supervisors();
        self.model.forget();
        for dir in self.model.dirs.values_mut() {
            if dir.is {
                let wish = if dir.down { DOWN } else { UP };
                dir.supervisor_ends(true);
                // All of it was ended, whatever was in doubt.
                dir.want = wish;
                dir.ended.clear();
            }
        }
        true
    }

    /// Takes what room there is.
    fn fill(&mut self) {
        let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(self.path("fill")) else {
            return;
        };
        for size in [65536, 4096, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    // The answer.

    /// What is not as it should be; the kind of it first.
    fn differences(&mut self) -> Vec<(String, String)> {
        self.begin_supervisors();
        self.reap();
        let mut wrong: Vec<(String, String)> = Vec::new();
        let mut say = |kind: &str, text: String| wrong.push((kind.to_owned(), text));
        let all = truth::processes();
        let names = self.model.names();
        let words: Vec<String> = names.keys().cloned().collect();
        let sv = program("sv");
        let lines = truth::sv_status(&sv, &self.path("service"), &words);
        let known: BTreeSet<i32> =
            self.supervisors.values().map(|(child, _)| i32::try_from(child.id()).unwrap()).collect();
        let alive = |tag: Tag| {
            all.iter().filter(|process| process.tag() == Some(tag) && !process.is_dead()).collect::<Vec<_>>()
        };
        let answers: BTreeMap<u32, Vec<(bool, bool)>> =
            self.model.dirs.iter_mut().map(|(&serial, dir)| (serial, dir.answers())).collect();
        let mut learned: BTreeMap<u32, (bool, bool, Option<u32>, bool)> = BTreeMap::new();
        let mut expected_tags = BTreeSet::new();
        for (&serial, dir) in &self.model.dirs {
            if dir.maybe {
                expected_tags.insert(Tag::Service(serial));
                expected_tags.extend(dir.logs.iter().flatten().map(|&log| Tag::Log(log)));
                if alive(Tag::Service(serial)).len() > 1 {
                    say("two copies", format!("directory {serial}, whose link leads nowhere, runs twice"));
                }
            }
            if !dir.is {
                continue;
            }
            let path = self.model.path(serial).unwrap();
            expected_tags.insert(Tag::Service(serial));
            let running = alive(Tag::Service(serial));
            if running.len() > 1 {
                let pids: Vec<i32> = running.iter().map(|process| process.pid).collect();
                say("two copies", format!("{path}: {pids:?} run, which is more than one copy"));
            }
            let logs: Vec<(u32, &truth::Process)> = dir
                .logs
                .iter()
                .flatten()
                .flat_map(|&log| alive(Tag::Log(log)).into_iter().map(move |process| (log, process)))
                .collect();
            expected_tags.extend(dir.logs.iter().flatten().map(|&log| Tag::Log(log)));
            for pid in &dir.ended {
                if running.iter().chain(logs.iter().map(|(_, process)| process)).any(|p| p.pid == *pid) {
                    say("old process", format!("{path}: {pid} was to end and runs"));
                }
            }
            let supervise = self.path(&path).join("supervise");
            let files = match truth::files(&supervise) {
                Ok(files) => files,
                Err(text) => {
                    say("files", format!("{path}/supervise: {text}"));
                    continue;
                }
            };
            let runs = !running.is_empty();
            let answers = &answers[&serial];
            if !answers.contains(&(files.want_up, runs)) {
                let words = |(up, runs): (bool, bool)| {
                    format!(
                        "want {}, {}",
                        if up { "up" } else { "down" },
                        if runs { "runs" } else { "does not run" }
                    )
                };
                let may: Vec<String> = answers.iter().map(|&answer| words(answer)).collect();
                let kind = if answers.iter().any(|&(_, may)| may == runs) {
                    "want"
                } else if runs {
                    "runs"
                } else {
                    "does not run"
                };
                say(kind, format!("{path}: is {:?}, may be {may:?}", words((files.want_up, runs))));
            }
            if runs && files.pid != running.first().map(|process| process.pid) {
                let pid = running.first().map(|process| process.pid);
                say("pid", format!("{path}: {pid:?} runs, and pid says {:?}", files.pid));
            }
            if files.runs && !runs && dir.exec {
                say("status", format!("{path}: status says that it runs"));
            }
            // The log service.
            let log = logs.first().map(|(serial, _)| *serial);
            if logs.len() > 1 {
                say(
                    "two logs",
                    format!("{path}: log services {:?}", logs.iter().map(|l| l.1.pid).collect::<Vec<_>>()),
                );
            }
            if !dir.logs.contains(&log) {
                say("log", format!("{path}: the log service that runs is {log:?}, may be {:?}", dir.logs));
            }
            let piped = logs.first().zip(running.first()).is_some_and(|((_, log), service)| {
                let input = truth::descriptor(log.pid, 0);
                !input.is_empty() && input == truth::descriptor(service.pid, 1)
            });
            if dir.piped && log.is_some() && runs && !piped {
                say("pipe", format!("{path}: the service does not write to the log service"));
            }
            if let Some((number, log)) = logs.first()
                && dir.log.is_some_and(|log| log.serial == *number)
            {
                match truth::files(&self.path(&path).join("log/supervise")) {
                    Ok(files) if files.pid == Some(log.pid) && files.runs => {}
                    Ok(files) => say("log pid", format!("{path}/log: {} runs, files say {files:?}", log.pid)),
                    Err(text) => say("log files", format!("{path}/log/supervise: {text}")),
                }
            }
            // What sv says under each name.
            for name in names.iter().filter(|(_, of)| **of == serial).map(|(name, _)| name) {
                let line = lines.get(name).map_or("", String::as_str);
                let right = match running.first() {
                    Some(process) => line.starts_with(&format!("run: {name}: (pid {}) ", process.pid)),
                    None => {
                        line.starts_with(&format!("down: {name}: ")) || !dir.exec && line.starts_with("run: ")
                    }
                };
                if !right {
                    let pid = running.first().map(|process| process.pid);
                    say("sv status", format!("sv status {name} ({path}, process {pid:?}): {line:?}"));
                }
                if let (Some((number, log)), true) = (logs.first(), right)
                    && dir.log.is_some_and(|log| log.serial == *number)
                    && !line.contains(&format!("; run: log: (pid {}) ", log.pid))
                {
                    say("sv status log", format!("sv status {name} ({path}, log {}): {line:?}", log.pid));
                }
            }
            learned.insert(serial, (files.want_up, runs, log, piped));
        }
        let shells: Vec<&truth::Process> =
            all.iter().filter(|process| process.words.iter().any(|word| word == "./run")).collect();
        for process in &all {
            if process.is_dead() && !known.contains(&process.pid) {
                say(
                    "zombie",
                    format!("{} ({}) of {} is a zombie", process.pid, process.name, process.parent),
                );
            }
            if let Some(tag) = process.tag()
                && !process.is_dead()
                && !expected_tags.contains(&tag)
            {
                say("left", format!("{} {tag:?} runs, whose directory is not served", process.pid));
            }
        }
        if !shells.is_empty() {
            say("not settled", format!("{} programs are starting", shells.len()));
        }
        if self.mode != Mode::Runsvinit {
            let supervisors =
                all.iter().filter(|process| process.name == "runsv" && !process.is_dead()).count();
            let dirs = self.model.dirs.values().filter(|dir| dir.is).count();
            let more = self.model.dirs.values().filter(|dir| dir.maybe).count();
            let spare = if self.mode == Mode::Runsv { self.model.service.len().max(3) } else { dirs + more };
            if supervisors < dirs || supervisors > dirs.max(spare) {
                say("supervisors", format!("{supervisors} runsv for {dirs} directories"));
            }
        }
        if wrong.is_empty() {
            for (serial, seen) in learned {
                self.last_seen.insert(serial, seen);
            }
        }
        wrong
    }

    /// One burst and its check. What is wrong, if anything.
    fn burst(&mut self, first: bool) -> Option<Failure> {
        self.done.clear();
        self.wrong = None;
        self.pauses = first;
        self.model.begin_burst();
        if !first {
            let wanted = self.only.is_empty() || self.only.contains("fill");
            self.full = wanted && self.dice.roll(if self.only.is_empty() { 12 } else { 2 }) == 0;
            if self.full {
                self.say("fill the disk".to_owned());
                self.fill();
            }
            let count = 3 + self.dice.roll(6);
            let mut tries = 0;
            while self.done.len() < count && tries < 100 && self.wrong.is_none() {
                tries += 1;
                let did = self.operation();
                if did && self.full {
                    self.fill();
                }
                if did && self.dice.roll(4) == 0 {
                    std::thread::sleep(Duration::from_millis(self.dice.roll(20) as u64));
                }
            }
        }
        let was_full = std::mem::take(&mut self.full);
        if was_full {
            let _ = fs::remove_file(self.path("fill"));
        }
        self.blinked = self.model.dirs.values().any(|dir| dir.was && dir.is && dir.anew);
        self.check(was_full)
    }

    /// Waits until all is right and stays so for a moment, or the time is over.
    fn check(&mut self, was_full: bool) -> Option<Failure> {
        let mut limit = if reference().is_some() { 6_000 } else { 2_000 };
        // The pause of a second after a short life is stock's, and there may be one for the supervisor and one for the
        // service. What could not be written on a full disk is tried again each few seconds.
        limit += if self.pauses { 1_500 } else { 0 };
        limit += if was_full { 5_000 } else { 0 };
        let limit = Duration::from_millis(limit);
        let calm = Duration::from_millis(if self.blinked { 150 } else { 40 });
        let (mut spent, mut right_for) = (Duration::ZERO, Duration::ZERO);
        let mut wrong = self.wrong.take().into_iter().collect::<Vec<_>>();
        if wrong.is_empty() {
            let mut last = Instant::now();
            loop {
                wrong = self.differences();
                // A machine that has no time for us has none for others: a look counts for no more than 40 ms.
                let step = last.elapsed().min(Duration::from_millis(40));
                last = Instant::now();
                spent += step;
                right_for = if wrong.is_empty() { right_for + step } else { Duration::ZERO };
                if right_for >= calm || (spent >= limit && !wrong.is_empty()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(15));
            }
        }
        if wrong.is_empty() {
            for (serial, (want_up, runs, log, piped)) in std::mem::take(&mut self.last_seen) {
                if let Some(dir) = self.model.dirs.get_mut(&serial) {
                    dir.learn(want_up, runs, log, piped);
                }
            }
            return None;
        }
        let kind = wrong[0].0.clone();
        let mut text: String =
            wrong.iter().map(|(kind, text)| format!("  {kind}: {text}\n")).collect::<Vec<_>>().concat();
        for (&serial, dir) in &self.model.dirs {
            if let (Some(path), true) = (self.model.path(serial), dir.is) {
                let exec = if dir.exec { "" } else { ", run is not executable" };
                let down = if dir.down { ", down" } else { "" };
                let log = dir.log.map_or(String::new(), |log| format!(", log {}", log.serial));
                text.push_str(&format!("  {path} is directory {serial}{exec}{down}{log}\n"));
            }
        }
        for (name, entry) in &self.model.service {
            text.push_str(&format!("  service/{name} is {entry:?}\n"));
        }
        for (name, entry) in &self.model.sv {
            text.push_str(&format!("  sv/{name} is {entry:?}\n"));
        }
        Some(Failure { kind, text })
    }

    /// Until so many bursts, or `until`.
    pub fn tell(mut self, bursts: usize, until: Option<Instant>) -> Ended {
        self.begin_supervisors();
        let (mut operations, mut number) = (0, 0);
        let mut failure = None;
        while number <= bursts && failure.is_none() && until.is_none_or(|until| Instant::now() < until) {
            if self.verbose {
                println!("  burst {number}");
            }
            failure = self.burst(number == 0).map(|failure| Failure {
                text: format!(
                    "{:?}, burst {number}:\n    {}\n{}",
                    self.mode,
                    self.done.join("\n    "),
                    failure.text
                ),
                ..failure
            });
            operations += self.done.len();
            number += 1;
        }
        self.end_all();
        Ended { operations, bursts: number.saturating_sub(1), failure }
    }
}
