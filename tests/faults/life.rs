//! A short life under strace, with a call that fails in it, and the question whether all is as if it had not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fault;
use support::truth::{self, Process, Tag};
use support::*;

/// How long it may take until all is right again.
const LIMIT: Duration = Duration::from_secs(10);

/// How long calls fail at most, where more than one does.
const LAST: Duration = Duration::from_secs(3);

/// Answers questions until there are no more.
pub fn serve(dir: &Path) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let fault: Fault = line.parse().unwrap();
        let mut life = Life::new(dir, &fault);
        let lived = if fault.program == "svlogd" { life.of_svlogd() } else { life.of_supervisor() };
        life.end_all();
        let answer = match lived {
            Ok(()) if fault.count == 0 => format!("calls {}", life.calls()),
            Ok(()) if life.refused => "refused".to_owned(),
            Ok(()) => "held".to_owned(),
            // The kernel closes whatever it answers; strace leaves it open, with the lock. So only a panic counts.
            Err(what) if fault.call == "close" && !what.contains("ended with") => "held".to_owned(),
            Err(what) => {
                let said: Vec<String> = read(&life.said).lines().take(6).map(str::to_owned).collect();
                format!("failed: {} | said: {}", what.replace('\n', " "), said.join(" / "))
            }
        };
        println!("{answer}");
        let _ = std::io::stdout().flush();
    }
}

struct Life {
    root: PathBuf,
    said: PathBuf,
    record: PathBuf,
    fault: Fault,
    child: Option<Child>,
    /// It ended before it had started anything, and was started again without a fault.
    refused: bool,
    /// All has been right once, so that it may no longer end by itself.
    has_begun: bool,
    input: Option<(std::io::PipeReader, std::io::PipeWriter)>,
}

impl Life {
    fn new(dir: &Path, fault: &Fault) -> Self {
        let root = dir.join("tree");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("service")).unwrap();
        fs::create_dir_all(root.join("sv")).unwrap();
        let (said, record) = (dir.join("said"), dir.join("strace"));
        let _ = fs::remove_file(&said);
        let _ = fs::remove_file(&record);
        let life = Life {
            root,
            said,
            record,
            fault: fault.clone(),
            child: None,
            refused: false,
            has_begun: false,
            input: None,
        };
        if fault.program != "svlogd" {
            life.define("service/s", 1, Some(2));
            life.define("sv/n", 3, None);
        }
        life
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A service that says a line, which it notes beforehand.
    fn define(&self, at: &str, serial: u32, log: Option<u32>) {
        let script = |path: &str, text: String| {
            fs::write(self.path(path), text).unwrap();
            fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
        };
        fs::create_dir_all(self.path(at)).unwrap();
        script(
            &format!("{at}/run"),
            format!(
                "#!/bin/sh\nread id </proc/sys/kernel/random/uuid\necho $id >>said\necho $id\nexec sleep 99999.1{serial}\n"
            ),
        );
        if let Some(log) = log {
            fs::create_dir_all(self.path(&format!("{at}/log"))).unwrap();
            script(&format!("{at}/log/run"), format!("#!/bin/sh\nexec sed -u /storm.{log}./d >>out\n"));
        }
    }

    fn begin(&mut self, with_fault: bool) {
        let program = self.fault.program.clone();
        let words: &[&str] = match program.as_str() {
            "runsv" => &["service/s"],
            "runsvdir" => &["-P", "service"],
            "runsvinit" => &["-w", "9", "service"],
            _ => &["log"],
        };
        let file = bin().join(&program);
        let mut command = if with_fault {
            let mut command = Command::new("strace");
            // As a grandchild, so that our child is the program. Without -f its children are not seen.
            // -I 2: it lets go of the program when it is told to end.
            command.args(["-I", "2", "-D", "-o"]).arg(&self.record);
            if self.fault.count > 0 {
                let Fault { call, first, error, count, .. } = &self.fault;
                let last = first + count - 1;
                command.args(["-e", &format!("trace={call}")]);
                command.args(["-e", &format!("inject={call}:error={error}:when={first}..{last}")]);
            }
            command.arg(file);
            command
        } else {
            Command::new(file)
        };
        let mut options = fs::OpenOptions::new();
        let said = options.create(true).append(true).open(&self.said).unwrap();
        command.args(words).current_dir(&self.root).env_clear().env("PATH", path_variable());
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        if let Some((read, _)) = &self.input {
            command.stdin(read.try_clone().unwrap());
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// How often each call was made.
    fn calls(&self) -> String {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for line in read(&self.record).lines() {
            if let Some((call, _)) = line.split_once('(')
                && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                *counts.entry(call.to_owned()).or_default() += 1;
            }
        }
        counts.iter().map(|(call, count)| format!("{call}={count}")).collect::<Vec<_>>().join(" ")
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| i32::try_from(child.id()).unwrap())
    }

    /// Its exit code, if it has ended.
    fn ended(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// What has ended though nobody told it to: allowed before it has started anything.
    fn look_after(&mut self) -> Result<(), String> {
        let Some(code) = self.ended() else { return Ok(()) };
        if code >= 128 {
            return Err(format!("ended with {code}"));
        }
        if self.has_begun {
            return Err(format!("ended by itself with {code}"));
        }
        if read(&self.said).is_empty() {
            return Err(format!("ended with {code} and said nothing"));
        }
        self.refused = true;
        self.begin(false);
        Ok(())
    }

    fn wait(&mut self, step: &str, mut wrong: impl FnMut(&mut Self) -> Option<String>) -> Result<(), String> {
        let (mut spent, mut last) = (Duration::ZERO, Instant::now());
        loop {
            let Some(what) = wrong(self) else { return Ok(()) };
            // A machine that has no time for us has none for others.
            spent += last.elapsed().min(Duration::from_millis(50));
            last = Instant::now();
            if spent >= LAST && self.end_fault() {
                spent = Duration::ZERO;
            }
            if spent >= LIMIT {
                return Err(format!("{step}: {what}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Twenty calls may be more than are made: strace lets go, and from now on nothing fails. `true` if it had not yet.
    fn end_fault(&mut self) -> bool {
        if self.fault.count < 2 {
            return false;
        }
        let tracer = || {
            let status = read(format!("/proc/{}/status", self.pid()));
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:\t")?.parse().ok());
            tracer.filter(|&tracer: &i32| tracer > 0)
        };
        let Some(strace) = tracer() else { return false };
        kill(strace, SIGTERM);
        let begin = Instant::now();
        while tracer().is_some() && begin.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    fn sv(&self, words: &[&str]) -> Outcome {
        let service = self.path("service");
        run("sv").args(words).env("SVDIR", &service).dir(&service).go()
    }

    /// What is not true of a service: it runs once, another process than `not`, its files say so, and so does `sv`.
    fn is_wrong(
        &self,
        name: &str,
        at: &str,
        serial: u32,
        log: Option<u32>,
        not: Option<i32>,
    ) -> Option<String> {
        let all = truth::processes();
        let running = |tag: Tag| -> Vec<&Process> {
            all.iter().filter(|process| process.tag() == Some(tag) && !process.is_dead()).collect()
        };
        let [service] = running(Tag::Service(serial))[..] else {
            return Some(format!("{} copies of {name} run", running(Tag::Service(serial)).len()));
        };
        if Some(service.pid) == not {
            return Some(format!("{name}: the old process runs"));
        }
        let agree = |supervise: &str, pid: i32| match truth::files(&self.path(supervise)) {
            Ok(files) if files.pid == Some(pid) && files.runs && files.want_up => None,
            Ok(files) => Some(format!("{pid} runs, {supervise} says {files:?}")),
            Err(text) => Some(format!("{supervise}: {text}")),
        };
        if let Some(wrong) = agree(&format!("{at}/supervise"), service.pid) {
            return Some(wrong);
        }
        let line = self.sv(&["status", name]).out;
        if !line.starts_with(&format!("run: {name}: (pid {}) ", service.pid)) {
            return Some(format!("{} runs, sv status: {line:?}", service.pid));
        }
        if let Some(log) = log {
            let [log] = running(Tag::Log(log))[..] else {
                return Some(format!("{} log services run", running(Tag::Log(log)).len()));
            };
            if let Some(wrong) = agree(&format!("{at}/log/supervise"), log.pid) {
                return Some(wrong);
            }
            if !line.contains(&format!("; run: log: (pid {}) ", log.pid)) {
                return Some(format!("log {} runs, sv status: {line:?}", log.pid));
            }
            if truth::descriptor(service.pid, 1) != truth::descriptor(log.pid, 0) {
                return Some("the service does not write to its log service".to_owned());
            }
        }
        self.zombie(&all)
    }

    fn zombie(&self, all: &[Process]) -> Option<String> {
        let zombie =
            all.iter().find(|process| process.is_dead() && process.parent != 1 && process.parent != 0)?;
        Some(format!("{} of {} is a zombie", zombie.name, zombie.parent))
    }

    fn service(&self, serial: u32) -> Option<i32> {
        let all = truth::processes();
        all.iter()
            .find(|process| process.tag() == Some(Tag::Service(serial)) && !process.is_dead())
            .map(|p| p.pid)
    }

    fn of_supervisor(&mut self) -> Result<(), String> {
        let has_tree = self.fault.program != "runsv";
        self.begin(true);
        self.wait("start", |life| {
            if let Err(what) = life.look_after() {
                return Some(what);
            }
            life.is_wrong("s", "service/s", 1, Some(2), None)
        })?;
        self.has_begun = true;
        let old = self.service(1);
        let mut restarted = self.sv(&["-w", "10", "restart", "s"]);
        if restarted.code != Some(0) && self.end_fault() {
            restarted = self.sv(&["-w", "10", "restart", "s"]);
        }
        if restarted.code != Some(0) {
            return Err(format!("sv restart: {:?} {:?}", restarted.code, restarted.out));
        }
        self.wait("restart", |life| {
            life.look_after().err().or_else(|| life.is_wrong("s", "service/s", 1, Some(2), old))
        })?;
        if has_tree {
            symlink("../sv/n", self.path("service/n")).unwrap();
            self.wait("new link", |life| {
                let wrong = life.look_after().err().or_else(|| life.is_wrong("n", "sv/n", 3, None, None));
                wrong.or_else(|| life.is_wrong("s", "service/s", 1, Some(2), old))
            })?;
            fs::remove_file(self.path("service/n")).unwrap();
            self.wait("link removed", |life| {
                let wrong = life.look_after().err();
                wrong.or_else(|| life.service(3).map(|pid| format!("{pid} of n runs")))
            })?;
            self.wait("after the link", |life| life.is_wrong("s", "service/s", 1, Some(2), old))?;
        }
        kill(self.pid(), if self.fault.program == "runsvdir" { SIGHUP } else { SIGTERM });
        self.wait("stop", |life| {
            if let Some(code) = life.ended() {
                if code >= 128 {
                    return Some(format!("ended with {code}"));
                }
            } else {
                return Some("does not end".to_owned());
            }
            let all = truth::processes();
            let left = all.iter().find(|process| {
                !process.is_dead() && (process.tag().is_some() || process.name.starts_with("runsv"))
            });
            left.map(|process| format!("{} ({}) runs", process.name, process.pid))
        })?;
        let (said, logged) = (read(self.path("service/s/said")), read(self.path("service/s/log/out")));
        if said != logged {
            return Err(format!(
                "{} lines were said, {} are kept",
                said.lines().count(),
                logged.lines().count()
            ));
        }
        Ok(())
    }

    fn of_svlogd(&mut self) -> Result<(), String> {
        fs::create_dir_all(self.path("log")).unwrap();
        fs::write(self.path("log/config"), "s3000\nn0\n").unwrap();
        self.input = Some(std::io::pipe().unwrap());
        self.begin(true);
        let mut expected = String::new();
        let mut number = 0;
        for part in 0..3 {
            let mut lines = String::new();
            for _ in 0..100 {
                number += 1;
                lines.push_str(&format!("line {number:06}\n"));
            }
            expected.push_str(&lines);
            // Fits in the pipe, so that it never blocks.
            self.input.as_mut().unwrap().1.write_all(lines.as_bytes()).unwrap();
            self.wait("lines", |life| {
                let wrong = life.look_after().err();
                wrong.or_else(|| (life.kept() != expected).then(|| life.hole(&expected)))
            })?;
            self.has_begun = true;
            if part < 2 {
                kill(self.pid(), [SIGHUP, 14][part]);
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        // Our own end for reading does not keep the pipe open for writing.
        let (read_end, write_end) = self.input.take().unwrap();
        drop(write_end);
        self.wait("end", |life| match life.ended() {
            None => Some("does not end".to_owned()),
            Some(code) if code >= 128 => Some(format!("ended with {code}")),
            Some(_) => (life.kept() != expected).then(|| life.hole(&expected)),
        })?;
        drop(read_end);
        Ok(())
    }

    /// All that is in the log directory, oldest first.
    fn kept(&self) -> String {
        let Ok(entries) = fs::read_dir(self.path("log")) else { return String::new() };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with('@'));
        names.sort();
        names.push("current".to_owned());
        names.iter().map(|name| read(self.path("log").join(name))).collect()
    }

    fn hole(&self, expected: &str) -> String {
        let kept = self.kept();
        let missing = expected.lines().find(|line| !kept.lines().any(|kept| kept == *line));
        format!(
            "{} of {} lines are kept, missing {missing:?}",
            kept.lines().count(),
            expected.lines().count()
        )
    }

    /// Ends all processes of the namespace but us.
    fn end_all(&mut self) {
        self.input = None;
        truth::end_all(self.child.as_mut().as_mut_slice());
    }
}
