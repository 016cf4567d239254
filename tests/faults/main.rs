//! Each system call of a supervisor, and of svlogd, made to fail: once, or for twenty calls. Afterwards all is as if it had
//! not.
//!
//! A short life (start with a log service, restart, a new service, stop; for svlogd lines, HUP, ALRM, end) is recorded by
//! strace, and then lived again for each call and error: the wanted state is reached within ten seconds, `sv` tells the
//! truth, `pid`, `stat` and `status` are right, there is one copy, no zombie, and no line is lost. Only the supervisor's own
//! calls fail, not those of its children.
//!
//! What cannot begin at all may say so and end, as long as it has started nothing; it is then started again as by a
//! supervisor of its own, and that is counted as refused.
//!
//! - as a test: the calls that make and write files and a few more, three errors, once; as many, mixed by `SEED`, as fit in
//!   `FAULT_SECONDS=n` (130).
//! - `FAULTS=all`: all calls and errors, once and for twenty calls (`scripts/faults`). Prints a table.
//! - `FAULTS='runsv openat 7 EIO 1'`: that one, and what was seen.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

mod life;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::*;

const PROGRAMS: [&str; 4] = ["runsv", "runsvdir", "runsvinit", "svlogd"];

/// A call that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    program: String,
    call: String,
    /// Which of its calls is the first that fails, from 1.
    first: u32,
    error: String,
    /// How many fail.
    count: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.program, self.call, self.first, self.error, self.count)
    }
}

impl FromStr for Fault {
    type Err = ();

    fn from_str(words: &str) -> Result<Self, ()> {
        let words: Vec<&str> = words.split(' ').collect();
        let [program, call, first, error, count] = words.as_slice() else { return Err(()) };
        Ok(Fault {
            program: (*program).to_owned(),
            call: (*call).to_owned(),
            first: first.parse().map_err(drop)?,
            error: (*error).to_owned(),
            count: count.parse().map_err(drop)?,
        })
    }
}

/// Calls that make and write files, and a few more on which much hangs; and their errors.
const SHORT: [(&str, [&str; 3]); 11] = [
    ("openat", ["EIO", "EMFILE", "EINTR"]),
    ("write", ["EIO", "ENOSPC", "EINTR"]),
    ("renameat", ["EIO", "ENOSPC", "EINTR"]),
    ("renameat2", ["EIO", "ENOSPC", "EINTR"]),
    ("mkdirat", ["EIO", "ENOSPC", "EINTR"]),
    ("mknodat", ["EIO", "ENOSPC", "EINTR"]),
    ("ftruncate", ["EIO", "ENOSPC", "EINTR"]),
    ("clone", ["EAGAIN", "ENOMEM", "EINTR"]),
    ("inotify_add_watch", ["EIO", "ENOSPC", "EINTR"]),
    ("newfstatat", ["EIO", "EMFILE", "EINTR"]),
    ("wait4", ["EIO", "ENOMEM", "EINTR"]),
];

/// Calls that cannot fail for a reason that passes, or whose failure is no fault of the machine's: memory of the start,
/// signals to one's own children, the end itself.
const NEVER: [&str; 24] = [
    "execve",
    "exit_group",
    "exit",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "rt_sigreturn",
    "rt_sigprocmask",
    "rt_sigaction",
    "sigaltstack",
    "getpid",
    "getuid",
    "geteuid",
    "kill",
    "tgkill",
    "clock_gettime",
    "prlimit64",
    "restart_syscall",
    "umask",
];

fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "openat" | "open" => &["EIO", "EMFILE", "ENFILE", "ENOSPC", "EROFS", "EACCES", "ENOMEM", "EINTR"],
        "write" | "pwrite64" | "writev" => &["EIO", "ENOSPC", "EAGAIN", "EINTR", "EDQUOT"],
        "read" | "pread64" => &["EIO", "EAGAIN", "EINTR"],
        "clone" | "clone3" | "vfork" | "fork" => &["EAGAIN", "ENOMEM", "EINTR"],
        "wait4" | "waitid" => &["EIO", "ENOMEM", "EINTR"],
        "epoll_pwait" | "epoll_wait" | "ppoll" | "poll" => &["EINTR", "ENOMEM"],
        "close" => &["EIO", "EINTR"],
        "fcntl" | "dup3" | "dup2" | "pipe2" | "epoll_create1" | "signalfd4" | "timerfd_create" => {
            &["EMFILE", "ENFILE", "ENOMEM", "EINTR"]
        }
        "newfstatat" | "fstat" | "statx" | "faccessat" | "faccessat2" | "readlinkat" | "readlink" => {
            &["EIO", "EACCES", "ENOENT", "ENOMEM", "EINTR"]
        }
        _ => &["EIO", "ENOSPC", "EMFILE", "ENOMEM", "EROFS", "EINTR"],
    }
}

fn main() -> ExitCode {
    let executable = env!("CARGO_BIN_EXE_runitbox");
    let Some(dir) = std::env::var_os("FAULTS_WORKER") else { return support::run_cases(executable) };
    support::set_executable(executable);
    life::serve(Path::new(&dir));
    ExitCode::SUCCESS
}

/// A process that lives one life after the other, as process 1 of a namespace.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let mut child = Command::new("unshare")
            .args(["-Urmpf", "--mount-proc", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .env("FAULTS_WORKER", dir)
            .env("TMPDIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Worker { child, input, output }
    }

    /// Asks for one life; its answer is a line.
    fn ask(&mut self, question: &str) -> String {
        let mut answer = String::new();
        let asked = writeln!(self.input, "{question}").and_then(|()| self.output.read_line(&mut answer));
        match asked {
            Ok(0) | Err(_) => format!("failed: the harness ended: {:?}", self.child.wait()),
            Ok(_) => answer.trim_end().to_owned(),
        }
    }
}

/// The calls of a life without faults, and how often each is made.
fn calls(worker: &mut Worker, program: &str) -> BTreeMap<String, u32> {
    let answer = worker.ask(&format!("{program} - 0 - 0"));
    let counts =
        answer.strip_prefix("calls ").unwrap_or_else(|| panic!("{program} without a fault: {answer}"));
    counts
        .split(' ')
        .map(|word| {
            word.split_once('=').map(|(call, count)| (call.to_owned(), count.parse().unwrap())).unwrap()
        })
        .collect()
}

#[test]
fn faults_leave_all_as_it_should_be() {
    needs_program("strace");
    needs_unshare("-Urmpf --mount-proc");
    let begin = Instant::now();
    let what = std::env::var("FAULTS").unwrap_or_default();
    let all = what == "all";
    let dir = TempDir::in_memory();
    let worker = |number: u64| Worker::start(&dir.join(&number.to_string()));
    if let Ok(fault) = what.parse::<Fault>() {
        let answer = worker(0).ask(&format!("{fault}"));
        println!("{fault}: {answer}");
        assert!(!answer.starts_with("failed"), "{answer}");
        return;
    }
    let only: Vec<String> = std::env::var("PROGRAMS").map_or_else(
        |_| PROGRAMS.map(str::to_owned).to_vec(),
        |words| words.split_whitespace().map(str::to_owned).collect(),
    );
    let mut cases = Vec::new();
    let mut recorder = worker(0);
    for program in &only {
        for (call, count) in calls(&mut recorder, program) {
            let short = SHORT.iter().find(|(name, _)| *name == call);
            let errors: &[&str] = match (all, short) {
                (true, _) if NEVER.contains(&call.as_str()) => continue,
                (true, _) => errors_of(&call),
                (false, Some((_, errors))) => errors,
                (false, None) => continue,
            };
            for first in 1..=count {
                for error in errors {
                    for count in if all { [1, 20].as_slice() } else { &[1] } {
                        cases.push(Fault {
                            program: program.clone(),
                            call: call.clone(),
                            first,
                            error: (*error).to_owned(),
                            count: *count,
                        });
                    }
                }
            }
        }
    }
    drop(recorder);
    // Mixed, so that what fits is a bit of everything; the same bit for the same seed.
    let seed = number_of("SEED").unwrap_or(1);
    let key = |fault: &Fault| {
        fault.to_string().bytes().fold(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(17)
        })
    };
    cases.sort_by_key(key);
    let possible = cases.len();
    let seconds = number_of("FAULT_SECONDS").unwrap_or(if all { 0 } else { 130 });
    let until = (seconds > 0).then(|| begin + Duration::from_secs(seconds));
    let workers = number_of("FAULT_WORKERS").unwrap_or(16);
    println!("faults: {possible} cases, SEED={seed}, {workers} at once, at most {seconds} s (0: no limit)");
    let queue = Arc::new(Mutex::new(cases.into_iter()));
    let results = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..workers)
        .map(|number| {
            let (queue, results, mut worker) = (queue.clone(), results.clone(), worker(number + 1));
            std::thread::spawn(move || {
                while until.is_none_or(|until| Instant::now() < until) {
                    let Some(fault) = queue.lock().unwrap().next() else { break };
                    let answer = worker.ask(&fault.to_string());
                    if answer.starts_with("failed") {
                        let _ = writeln!(std::io::stdout(), "{fault}: {answer}");
                    }
                    results.lock().unwrap().push((fault, answer));
                }
                drop(worker.input);
                let _ = worker.child.wait();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let results = results.lock().unwrap();
    let failed = results.iter().filter(|(_, answer)| answer.starts_with("failed")).count();
    table(&results);
    println!(
        "faults: {} of {possible} cases, {failed} failed, {:.0} s",
        results.len(),
        begin.elapsed().as_secs_f32()
    );
    assert_eq!(failed, 0, "some cases failed; see above");
}

/// For each program and call: how many, refused, failed.
fn table(results: &[(Fault, String)]) {
    let mut rows: BTreeMap<(String, String), [usize; 3]> = BTreeMap::new();
    for (fault, answer) in results {
        let sums = [(fault.program.clone(), fault.call.clone()), (fault.program.clone(), "all".to_owned())];
        for row in sums {
            let row = rows.entry(row).or_default();
            row[0] += 1;
            row[1] += usize::from(answer.starts_with("refused"));
            row[2] += usize::from(answer.starts_with("failed"));
        }
    }
    println!("| program | call | cases | refused at the start | failed |\n|---|---|---:|---:|---:|");
    for ((program, call), [cases, refused, failed]) in &rows {
        println!("| {program} | {call} | {cases} | {refused} | {failed} |");
    }
}
