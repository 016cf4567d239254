//! What should be: a picture of the tree, and for each service directory the answers that may be true of it.
//!
//! It knows no processes, and no clock but for how long an answer may still change. Where two answers are possible, as for a command that was sent while a supervisor
//! was being replaced, it allows both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A small set: of wishes, or of yes and no.
pub type Set = u8;

/// Wanted up.
pub const UP: Set = 1;
/// Wanted down.
pub const DOWN: Set = 2;
/// Wanted once: runs, and is not started again.
pub const ONCE: Set = 4;

/// Does not run.
pub const NO: Set = 1;
/// Runs.
pub const YES: Set = 2;

/// The directory of a log service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    pub serial: u32,
}

/// A service directory. Its serial is that of its programs, in which they can be told from all others.
#[derive(Debug, Clone)]
pub struct Dir {
    /// Whether `run` can be executed.
    pub exec: bool,
    pub down: bool,
    pub log: Option<Log>,
    /// The wishes that may hold.
    pub want: Set,
    /// Whether it may run where `run` cannot be executed, or after `once`.
    pub alive: Set,
    /// The log services that may run; `None` for no log service.
    pub logs: BTreeSet<Option<u32>>,
    /// Whether the output of the service certainly goes to the log service.
    pub piped: bool,
    /// What has to be gone: processes that were killed or told to end.
    pub ended: BTreeSet<i32>,
    /// Reached by a name when the burst began.
    pub was: bool,
    /// Reached by a name now.
    pub is: bool,
    /// It is there, but the link by which it was reached leads nowhere now. That may be a moment's outage, so that it may go
    /// on being served; or not.
    pub maybe: bool,
    /// Its supervisor may have begun anew in this burst.
    pub anew: bool,
    /// A start may be due, so that `exec` matters when it changes.
    pub due: bool,
    /// Its log service may be started again in this burst.
    pub log_due: bool,
    /// Its `supervise` was removed in this burst, and until it is made again `sv` does not reach it.
    pub deaf: bool,
    /// It has waited for a `run` in this burst.
    pub waited: bool,
    /// There was a `down` in this burst.
    pub had_down: bool,
    /// Until then what is seen may not be what it comes to.
    pub unsure_until: Option<Instant>,
}

impl Dir {
    pub fn new(exec: bool, down: bool, log: Option<Log>) -> Self {
        Dir {
            exec,
            down,
            log,
            want: 0,
            alive: NO,
            logs: BTreeSet::new(),
            piped: false,
            ended: BTreeSet::new(),
            was: false,
            is: false,
            maybe: false,
            anew: false,
            due: false,
            log_due: false,
            deaf: false,
            waited: false,
            had_down: false,
            unsure_until: None,
        }
    }

    fn wish(&self) -> Set {
        if self.down { DOWN } else { UP }
    }

    /// Nothing in this burst leaves it open who supervises it.
    pub fn is_steady(&self) -> bool {
        self.is && self.was && !self.anew && !self.deaf
    }

    /// Its process stands, if there is one, and its files name it.
    pub fn is_quiet(&self) -> bool {
        self.is_steady() && !self.due
    }

    /// The same, and no pause of a second is left from before.
    pub fn is_sure(&self) -> bool {
        self.is_quiet() && self.unsure_until.is_none_or(|until| Instant::now() > until)
    }

    /// What a service comes to that waits for a `run` which can be executed: a `down` that is there then counts with ours, as
    /// in a directory that is being filled; stock has looked for it before.
    fn note_waiting(&mut self) {
        self.waited |= !self.exec && self.alive & NO != 0;
        self.had_down |= self.down;
    }

    /// A supervisor takes it up that was not there before.
    fn begins(&mut self) {
        self.want = self.wish();
        self.alive = if self.exec { YES } else { NO };
        self.logs = [self.log.map(|log| log.serial)].into();
        self.piped = false;
        self.anew = true;
        self.due = true;
        self.log_due = true;
    }

    /// A supervisor may have begun anew, or the old one may have gone on.
    fn may_begin(&mut self) {
        self.want |= self.wish();
        self.alive |= if self.exec { YES } else { NO };
        self.logs.insert(self.log.map(|log| log.serial));
        self.anew = true;
        self.due = true;
        self.log_due = true;
    }

    /// The supervisor has ended, and another one takes its place. `certain` if it was seen.
    pub fn supervisor_ends(&mut self, certain: bool) {
        if certain && self.is_steady() {
            self.begins();
        } else {
            self.may_begin();
        }
    }

    /// The service has ended and was not asked to stay down.
    pub fn ends(&mut self, certain: bool) {
        if self.want & ONCE != 0 {
            self.want |= DOWN;
            if certain {
                self.want &= !ONCE;
            }
        }
        if self.exec {
            self.alive |= YES;
        } else if certain {
            self.alive = NO;
        } else {
            self.alive |= NO;
        }
        // What starts now has the log service of now.
        if certain && self.log.is_some() && !self.log_due {
            self.piped = true;
        }
        self.due = true;
    }

    pub fn log_ends(&mut self, certain: bool) {
        let now = self.log.map(|log| log.serial);
        if certain {
            self.logs = [now].into();
        } else {
            self.logs.insert(now);
        }
        self.log_due = true;
    }

    /// A command of `sv` that got through.
    pub fn is_told(&mut self, word: &str) {
        let certain = self.is_steady();
        let quiet = self.is_sure();
        let wants = |this: &mut Self, want: Set| {
            this.want = if certain { want } else { this.want | want };
        };
        match word {
            "up" | "start" => {
                wants(self, UP);
                self.alive |= if self.exec { YES } else { 0 };
                self.due = true;
            }
            "down" | "stop" => {
                wants(self, DOWN);
                self.alive = if certain { NO } else { self.alive | NO };
                self.due = true;
            }
            "once" => {
                wants(self, ONCE);
                if !quiet {
                    // It may have ended before, or after it was told.
                    self.want |= DOWN;
                    self.alive |= NO;
                }
                if self.exec {
                    self.alive = if quiet { YES } else { self.alive | YES };
                }
                self.due = true;
            }
            "restart" => {
                self.ends(quiet);
                wants(self, UP);
            }
            "pause" | "cont" => {}
            "exit" => self.supervisor_ends(certain),
            _ => self.ends(quiet),
        }
    }

    pub fn set_exec(&mut self, exec: bool) {
        self.note_waiting();
        if self.exec != exec {
            self.exec = exec;
            if exec {
                self.alive |= YES;
            } else {
                // A start that was due came before this or after it.
                self.alive |= if self.due { NO | YES } else { 0 };
            }
            self.due = true;
        }
    }

    pub fn set_down(&mut self, down: bool) {
        self.note_waiting();
        self.down = down;
        self.note_waiting();
        if self.anew {
            self.want |= self.wish();
        }
    }

    pub fn set_log(&mut self, log: Option<Log>) {
        let had = self.log.is_some();
        self.log = log;
        match log {
            // The old one may run to its end.
            None => {
                self.logs.insert(None);
            }
            Some(log) => {
                self.logs.insert(Some(log.serial));
                self.logs.remove(&None);
                if !had && self.logs.len() == 1 {
                    self.piped = false;
                }
            }
        }
        self.log_due = true;
    }

    /// The pairs of (wanted up, runs) that may be true.
    pub fn answers(&mut self) -> Vec<(bool, bool)> {
        self.note_waiting();
        if self.waited && self.had_down && self.want & UP != 0 {
            self.want |= DOWN;
        }
        let alive = |set: Set| [(NO, false), (YES, true)].into_iter().filter(move |(bit, _)| set & bit != 0);
        let mut answers = Vec::new();
        if self.want & UP != 0 {
            answers.extend(alive(if self.exec { YES } else { self.alive }).map(|(_, runs)| (true, runs)));
        }
        if self.want & DOWN != 0 {
            answers.push((false, false));
        }
        if self.want & ONCE != 0 {
            answers.extend(alive(self.alive).map(|(_, runs)| (false, runs)));
        }
        answers.dedup();
        answers
    }

    /// After a burst: what was seen is what holds, unless more could still come of this burst, or of one before it: what
    /// waits for its pause of a second to end looks as if it were to stay down.
    pub fn learn(&mut self, want_up: bool, runs: bool, log: Option<u32>, piped: bool) {
        self.ended.clear();
        let now = Instant::now();
        if self.anew || self.due || self.log_due {
            self.unsure_until = Some(now + Duration::from_millis(1500));
        }
        let is_sure = self.unsure_until.is_none_or(|until| now > until);
        if is_sure {
            self.want = match (want_up, runs) {
                (true, _) => UP,
                (false, true) => ONCE,
                (false, false) => DOWN,
            };
            self.alive = if runs { YES } else { NO };
        } else {
            self.alive |= if runs { YES } else { NO };
        }
        if is_sure {
            self.logs = [log].into();
        }
        if self.logs.len() == 1 && is_sure {
            self.piped = piped && runs;
        }
        self.anew = false;
        self.due = false;
        self.log_due = false;
        self.deaf = false;
    }
}

/// What a name in `sv/` or `service/` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory, by its serial.
    Dir(u32),
    /// A link from `service/` to this name in `sv/`.
    Link(String),
    File,
}

/// Both directories, and the service directories in them.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub sv: BTreeMap<String, Entry>,
    pub service: BTreeMap<String, Entry>,
    pub dirs: BTreeMap<u32, Dir>,
    pub next_serial: u32,
    /// What each name in `service/` led to when it last led anywhere; and in this burst before that, which may not have been
    /// noticed.
    pub held: BTreeSet<(String, u32)>,
    /// There is a `runsv` for each name, which may keep its directory until there is another one of that name.
    pub keeps_removed: bool,
}

impl Model {
    pub fn serial(&mut self) -> u32 {
        self.next_serial += 1;
        self.next_serial
    }

    /// The directory behind an entry of `service/`.
    pub fn resolve(&self, entry: &Entry) -> Option<u32> {
        match entry {
            Entry::Dir(serial) => Some(*serial),
            Entry::Link(to) => match self.sv.get(to) {
                Some(Entry::Dir(serial)) => Some(*serial),
                _ => None,
            },
            Entry::File => None,
        }
    }

    /// The names under which directories are served.
    pub fn names(&self) -> BTreeMap<String, u32> {
        let seen = self.service.iter().filter(|(name, _)| !name.starts_with('.'));
        seen.filter_map(|(name, entry)| Some((name.clone(), self.resolve(entry)?))).collect()
    }

    /// Where a directory is, in words below the root.
    pub fn path(&self, serial: u32) -> Option<String> {
        let at = |place: &str, map: &BTreeMap<String, Entry>| {
            let name = map.iter().find(|(_, entry)| **entry == Entry::Dir(serial))?.0;
            Some(format!("{place}/{name}"))
        };
        at("service", &self.service).or_else(|| at("sv", &self.sv))
    }

    /// After names have changed: who is reached now.
    pub fn look(&mut self) {
        let reached: BTreeSet<u32> = self.names().into_values().collect();
        let there: BTreeSet<u32> = self.dirs.keys().copied().filter(|&s| self.path(s).is_some()).collect();
        self.held.extend(self.names());
        let leads_nowhere = |name: &String| match self.service.get(name) {
            Some(Entry::Link(to)) => !self.sv.contains_key(to),
            _ => false,
        };
        let names = self.names();
        let kept: BTreeSet<u32> = self
            .held
            .iter()
            .filter(|(name, serial)| {
                !names.contains_key(name)
                    && (self.keeps_removed || (leads_nowhere(name) && there.contains(serial)))
            })
            .map(|(_, serial)| *serial)
            .collect();
        if !self.keeps_removed {
            let held = |name: &String| names.contains_key(name) || leads_nowhere(name);
            let held = self.held.iter().filter(|(name, _)| held(name)).cloned().collect();
            self.held = held;
        }
        for (serial, dir) in &mut self.dirs {
            let is = reached.contains(serial);
            if is && !dir.is {
                if dir.was || dir.anew || dir.maybe {
                    dir.may_begin();
                } else {
                    dir.begins();
                }
            }
            dir.is = is;
            dir.maybe = !is && kept.contains(serial);
        }
    }

    /// All supervisors are new: nothing is kept that cannot be reached.
    pub fn forget(&mut self) {
        self.held = self.names().into_iter().collect();
        self.dirs.values_mut().for_each(|dir| dir.maybe = false);
    }

    /// A burst begins.
    pub fn begin_burst(&mut self) {
        let known: BTreeSet<u32> = self.dirs.keys().copied().filter(|&s| self.path(s).is_some()).collect();
        self.dirs.retain(|serial, dir| known.contains(serial) || dir.maybe);
        let names = self.names();
        self.held.retain(|(name, serial)| names.get(name).is_none_or(|now| now == serial));
        for dir in self.dirs.values_mut() {
            dir.was = dir.is;
            (dir.waited, dir.had_down) = (false, false);
            dir.note_waiting();
        }
    }
}
