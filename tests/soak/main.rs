//! Ten thousand random commands and kills on twenty services, and then nothing is lost and nobody is left.
//!
//! `SOAK=n` makes it n commands; `SEED=n` repeats a run.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use support::*;

const SERVICES: usize = 20;

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}

/// A small generator, so that a run can be repeated from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }
}

#[test]
fn random_commands_and_kills_lose_nothing() {
    let commands = number_of("SOAK").unwrap_or(10_000);
    let seed = number_of("SEED").unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    eprintln!("soak: {commands} commands, SEED={seed}");
    let mut dice = Dice(seed);
    let names: Vec<String> = (0..SERVICES).map(|number| format!("s{number:02}")).collect();
    let mut tree = Tree::new();
    for name in &names {
        // Each instance says a name of its own and a running number, and notes beforehand that it will.
        tree.define(
            name,
            "read id </proc/sys/kernel/random/uuid; i=0\n\
             while [ $i -lt 200 ]; do i=$((i+1)); echo \"$id $i\" >>said; echo \"$id $i\"; sleep 0.01; done\n\
             exec sleep 1000",
        );
        tree.root.script(&format!("sv/{name}/log/run"), "exec cat >>out");
        if number(name).is_multiple_of(3) {
            tree.root.script(&format!("sv/{name}/finish"), "exit 0");
        }
        tree.link(name);
    }
    tree.start();
    eventually("all up", || names.iter().all(|name| tree.is_up(name)));
    let mut wanted: BTreeMap<&str, bool> = names.iter().map(|name| (name.as_str(), true)).collect();
    for _ in 0..commands {
        let name = &names[dice.roll(SERVICES)];
        let dir = tree.root.join(&format!("sv/{name}"));
        let control = |bytes: &str| {
            // Between two supervisors nobody listens; that is no loss, since nobody was told that it was sent.
            open_fifo(&dir.join("supervise/control"))
                .is_some_and(|mut fifo| std::io::Write::write_all(&mut fifo, bytes.as_bytes()).is_ok())
        };
        match dice.roll(11) {
            0..3 => {
                let up = dice.roll(2) == 0;
                if control(if up { "u" } else { "d" }) {
                    wanted.insert(name, up);
                }
            }
            3 => {
                let letters = ["t", "h", "i", "q", "1", "2", "a", "k", "tcu"];
                let bytes = letters[dice.roll(letters.len())];
                if control(bytes) && bytes == "tcu" {
                    wanted.insert(name, true);
                }
            }
            4 => {
                control("p");
                control("c");
            }
            5 => {
                if let Some(pid) = tree.pid(name) {
                    kill(pid, [SIGKILL, SIGTERM, SIGHUP][dice.roll(3)]);
                }
            }
            6 => {
                control("p");
                if is_silent(&dir) {
                    let bytes: &[u8] = [b"tcu".as_slice(), b"k", b"dku"][dice.roll(3)];
                    let log = dir.join("log/supervise/control");
                    let old = read(dir.join("log/supervise/pid")).trim().parse().unwrap();
                    if open_fifo(&log)
                        .is_some_and(|mut fifo| std::io::Write::write_all(&mut fifo, bytes).is_ok())
                    {
                        eventually("the log service ended", || !is_alive(old));
                    }
                }
                control("c");
            }
            7 => drop(tree.sv(&["status", name])),
            8 => {
                if tree.sv(&["up", name]).code == Some(0) {
                    wanted.insert(name, true);
                }
            }
            _ => std::thread::sleep(Duration::from_millis(dice.roll(3) as u64)),
        }
    }
    for name in &names {
        let state = |name: &str| read(tree.root.join(&format!("sv/{name}/supervise/stat")));
        let expected = if wanted[name.as_str()] { "run" } else { "down" };
        eventually(&format!("{name} is {expected} (SEED={seed})"), || {
            let state = state(name);
            let word = state.trim().split(',').next().unwrap_or_default();
            word == expected && (expected == "down" || tree.is_up(name))
        });
    }
    // No second copy and no zombie: each runsv has at most its service and its log service.
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let runsvdir = tree.runsvdir().pid();
    let runsvs = &children[&runsvdir];
    assert_eq!(runsvs.len(), SERVICES, "SEED={seed}");
    for runsv in runsvs {
        // The last command may still be at work.
        eventually(&format!("{runsv} waits (SEED={seed})"), || process_state(*runsv) == Some('S'));
        for child in children.get(runsv).into_iter().flatten() {
            eventually(&format!("{child} is no zombie (SEED={seed})"), || process_state(*child) != Some('Z'));
        }
        assert!(children.get(runsv).map_or(0, Vec::len) <= 2, "SEED={seed}");
    }
    // Orderly end: each log service reads all that is left.
    let pids: Vec<i32> = runsvs.clone();
    tree.runsvdir().signal(SIGHUP);
    assert_eq!(tree.exit_code(), 111);
    eventually("all gone", || !pids.iter().any(|&pid| is_alive(pid)));
    let mut lines = 0;
    for name in &names {
        let said = tree.root.read(&format!("sv/{name}/said"));
        let out = tree.root.read(&format!("sv/{name}/log/out"));
        let logged: BTreeMap<&str, usize> = out.lines().fold(BTreeMap::new(), |mut count, line| {
            *count.entry(line).or_default() += 1;
            count
        });
        // A service that is killed after it has noted a line and before it has said it never said it: only the
        // last of an instance.
        let mut last_of: BTreeMap<&str, &str> = BTreeMap::new();
        for line in said.lines() {
            last_of.insert(line.split(' ').next().unwrap(), line);
        }
        for line in said.lines() {
            lines += 1;
            let times = logged.get(line).copied().unwrap_or(0);
            let is_last = last_of.values().any(|last| *last == line);
            assert!(
                times == 1 || (times == 0 && is_last),
                "{name}: {line:?} is there {times} times, SEED={seed}"
            );
        }
    }
    eprintln!("soak: {lines} lines, none missing");
    assert!(lines > 100);
}

/// Whether a paused service says nothing and its log service has written all: what a log service has read and not
/// written is lost with it, and that is not for a supervisor to prevent.
fn is_silent(dir: &std::path::Path) -> bool {
    let pid = |part: &str| read(dir.join(part)).trim().parse::<i32>().ok();
    let Some(log) = pid("log/supervise/pid") else { return false };
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(20) {
        let Some(service) = pid("supervise/pid") else { return false };
        let is_paused = process_state(service) == Some('T');
        let is_empty = fs::File::open(format!("/proc/{log}/fd/0"))
            .is_ok_and(|pipe| rustix::io::ioctl_fionread(&pipe).is_ok_and(|unread| unread == 0));
        if is_paused && is_empty && process_state(log) == Some('S') {
            return true;
        }
    }
    false
}

fn number(name: &str) -> usize {
    name.trim_start_matches('s').parse().unwrap()
}
