//! `runsvinit` where something is wrong: floods, no memory, a fault of its own, a system that refuses, a long `/proc`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::runsvinit::boot;
use support::*;

/// strace at work on a process, until it is told to end.
struct Trace {
    strace: Child,
    file: std::path::PathBuf,
}

impl Trace {
    fn of(machine: &Machine, calls: &str) -> Self {
        let file = machine.root.path("trace");
        let strace = Command::new("strace")
            .args(["-qq", "-e", &format!("trace={calls}"), "-e", "signal=none", "-o"])
            .arg(&file)
            .args(["-p", &machine.init.to_string()])
            .spawn()
            .unwrap();
        let path = format!("/proc/{}/status", machine.init);
        eventually("traced", || !read(&path).contains("TracerPid:\t0\n"));
        Trace { strace, file }
    }

    fn lines(mut self) -> Vec<String> {
        kill(i32::try_from(self.strace.id()).unwrap(), SIGINT);
        let _ = self.strace.wait();
        read(&self.file).lines().map(str::to_owned).collect()
    }
}

#[test]
fn what_is_done_in_one_turn_has_a_bound() {
    needs_machine();
    needs_program("strace");
    let make = "i=0; while [ $i -lt 500 ]; do (sleep 1000 &); i=$((i+1)); done; echo made; exec sleep 1001";
    let mut machine = boot(Root::new().script("etc/service/many/run", make).graceful("web"), &[]);
    machine.shows("web begins");
    machine.shows("made");
    // All end, and signals queue up, while it does not look.
    machine.signal(SIGSTOP);
    eventually("stopped", || process_state(machine.init) == Some('T'));
    machine.inside("pkill -x -f 'sleep 1000'; for i in $(seq 500); do kill -40 1; done");
    eventually("dead", || machine.children().iter().filter(|&&state| state == 'Z').count() >= 500);
    let trace = Trace::of(&machine, "wait4,read,poll,ppoll");
    machine.signal(SIGCONT);
    eventually("reaped", || machine.children().len() <= 3);
    assert_eq!(machine.inside("sv -w60 restart web").code, Some(0));
    let lines = trace.lines();
    for (call, most) in [("wait4(", 100), ("read(", 40)] {
        let mut longest = 0;
        let mut run = 0;
        for line in &lines {
            run = if line.starts_with(call) {
                run + 1
            } else if line.contains("poll(") {
                0
            } else {
                run
            };
            longest = longest.max(run);
        }
        assert!(longest <= most, "{longest} of {call} without a look at anything else");
        assert!(lines.iter().filter(|line| line.starts_with(call)).count() >= 20);
    }
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

/// A chain of processes that is nobody's business.
struct Chain(Child);

impl Chain {
    /// `dir/chain` is there when it is complete.
    fn of(length: usize, dir: &TempDir) -> Self {
        let link = dir.script("link", "[ $1 = 0 ] && : >chain && exec sleep 1000\n\"$0\" $(($1-1))\n:");
        // One makes the next: on a busy machine each would wait for its turn.
        let child = Command::new("setsid")
            .args(["nice", "-n", "-20"])
            .arg(link)
            .arg(length.to_string())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Chain(child)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        kill(-i32::try_from(self.0.id()).unwrap(), SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn a_stop_outside_process_1_takes_no_longer_whatever_strangers_have() {
    needs_root();
    let dir = TempDir::new();
    dir.script(
        "service/deaf/run",
        "trap '' TERM; (while :; do sleep 0.1; done) & echo $! >ready; while :; do sleep 0.1; done",
    );
    let _chain = Chain::of(2000, &dir);
    eventually("a chain", || dir.join("chain").exists());
    promptly("the end", Duration::from_millis(2500), || {
        let _ = std::fs::remove_file(dir.join("service/deaf/ready"));
        let runsvinit = run("runsvinit").args(&["-w", "1", "service"]).dir(dir.path());
        let mut runsvinit = runsvinit.start(&dir.join("err"));
        eventually("ready", || !dir.read("service/deaf/ready").is_empty());
        let took = time_of(|| {
            runsvinit.signal(SIGTERM);
            assert_eq!(runsvinit.exit_code(), 0);
        });
        let left = dir.read("service/deaf/ready").trim().parse().unwrap();
        eventually("killed", || !is_alive(left));
        took
    });
}

#[test]
fn memory_that_cannot_be_had_is_waited_for() {
    needs_machine();
    let mut machine = boot(Root::new().graceful("web"), &[]);
    machine.shows("web begins");
    let status = read(format!("/proc/{}/status", machine.init));
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size = size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    let limit = |bytes: &str| {
        let words = ["--pid", &machine.init.to_string(), &format!("--as={bytes}")];
        assert!(Command::new("prlimit").args(words).status().unwrap().success());
    };
    limit(&format!("{size}:unlimited"));
    for number in 0..600 {
        std::fs::create_dir(machine.root.path(&format!("etc/service/{number}"))).unwrap();
        std::fs::write(machine.root.path(&format!("etc/service/{number}/down")), "").unwrap();
    }
    machine.shows("out of memory");
    let before = processor_time(machine.init);
    std::thread::sleep(Duration::from_millis(500));
    let used = processor_time(machine.init) - before;
    assert!(used < Duration::from_millis(100), "it used the processor for {used:?}");
    limit("unlimited:unlimited");
    eventually("served again", || machine.inside("sv -w60 restart web").code == Some(0));
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    machine.shows("web ends");
}

#[test]
fn a_fault_of_its_own_does_not_end_process_1() {
    use std::os::unix::fs::FileExt;
    needs_machine();
    needs("x86_64", cfg!(target_arch = "x86_64"));
    // An instruction that there is not, and one that is not ours to execute.
    for (code, name) in [(&[0x0f_u8, 0x0b][..], "ILL"), (&[0xf4], "SEGV")] {
        let machine = boot(Root::new().graceful("web"), &[]);
        machine.shows("web begins");
        let mut at = 0;
        eventually("waits", || {
            let call = read(format!("/proc/{}/syscall", machine.init));
            at = call
                .split_whitespace()
                .last()
                .and_then(|pc| u64::from_str_radix(pc.trim_start_matches("0x"), 16).ok())
                .unwrap_or(0);
            at != 0 && process_state(machine.init) == Some('S')
        });
        let memory =
            std::fs::File::options().write(true).open(format!("/proc/{}/mem", machine.init)).unwrap();
        memory.write_all_at(code, at).unwrap();
        machine.signal(1);
        machine.shows(&format!("fatal: bug: signal {name}, only reaping from now on"));
        machine.inside("for i in 1 2 3 4 5; do (sleep 0.05 &); done");
        let lives = || matches!(process_state(machine.init), Some('S' | 'R' | 'D'));
        steadily("lives", Duration::from_millis(300), lives);
        eventually("reaped", || machine.children() == ['S']);
    }
}

#[test]
fn a_fault_that_somebody_else_sends_is_none() {
    needs_machine();
    let mut machine = boot(Root::new().graceful("web"), &[]);
    machine.shows("web begins");
    for signal in [4, 5, 6, 7, 8, 11, 31] {
        assert_eq!(machine.inside(&format!("kill -{signal} 1")).code, Some(0));
        machine.signal(signal);
    }
    assert_eq!(machine.inside("sv -w60 restart web").code, Some(0));
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    assert!(!machine.console().contains("bug"), "{}", machine.console());
}

/// Services that start, and one that cannot, under a `runsvinit` that is started by `words`.
fn serves_as_ever(words: &[&std::ffi::OsStr]) {
    let dir = TempDir::new();
    dir.script("service/web/run", "echo web begins; exec sleep 1000");
    dir.script("service/logged/run", "echo logged; exec sleep 1000");
    dir.script("service/logged/log/run", "exec cat >out");
    dir.file("service/missing/keep", "");
    let (words, executable) = (words.to_vec(), [executable().as_os_str()]);
    let all = [words, executable.to_vec()].concat();
    let said = std::fs::File::create(dir.join("said")).unwrap();
    let mut child = Command::new(all[0])
        .args(&all[1..])
        .args(["runsvinit", "-w", "3", "service", "--", "sh", "-c", "echo cmd begins; exec sleep 1000"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap();
    let missing = "runsvinit missing: fatal: unable to start ./run: file does not exist\n";
    let begun = holds_soon(|| {
        let said = dir.read("said");
        said.contains("web begins\n")
            && said.contains("cmd begins\n")
            && said.contains(missing)
            && dir.read("service/logged/log/out") == "logged\n"
    });
    if !begun {
        let _ = child.kill();
    }
    assert!(begun, "{}", dir.read("said"));
    let started = i32::try_from(child.id()).unwrap();
    let init = if all[0] == "strace" { children_of(started)[0] } else { started };
    kill(init, SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143), "{}", dir.read("said"));
}

#[test]
fn a_system_that_lends_children_no_memory_is_no_obstacle() {
    needs_program("strace");
    // As emulators of another processor refuse it.
    let refused =
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=clone", "-e", "inject=clone:error=EINVAL:when=1"];
    serves_as_ever(&refused.map(std::ffi::OsStr::new));
    let emulator = format!("/usr/bin/qemu-{}-static", std::env::consts::ARCH);
    needs("qemu-user-static", std::path::Path::new(&emulator).exists());
    serves_as_ever(&[emulator.as_ref()]);
}

/// A control group with little memory, of either kind.
struct Group(std::path::PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let groups = read("/proc/self/cgroup");
        let path = |kind: &str| groups.lines().find_map(|line| line.split_once(kind)).map(|(_, path)| path);
        let (above, limit) = match path(":memory:") {
            Some(path) => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
            None => (format!("/sys/fs/cgroup{}", path("0::")?), "memory.max"),
        };
        let dir = std::path::Path::new(&above).join(format!("runitbox-{}", std::process::id()));
        std::fs::create_dir(&dir).ok()?;
        let group = Group(dir);
        std::fs::write(group.0.join(limit), "50000000").ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not before the last of it has ended.
        let _ = holds_soon(|| std::fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn an_end_for_lack_of_memory_is_told_as_that() {
    needs_root();
    let group = Group::new();
    needs("a control group for memory", group.is_some());
    let group = group.unwrap();
    let dir = TempDir::new();
    let eater = "exec perl -e 'my $x = \"a\" x 200_000_000; sleep 1000'";
    dir.script("service/eater/run", &format!("[ -e again ] && exec sleep 1000; : >again; {eater}"));
    dir.script("service/other/run", "[ -e again ] && exec sleep 1000; : >again; kill -9 $$");
    let script = format!(
        "echo $$ >{}/cgroup.procs; cd {}; exec {} -w 3 service -- sh -c 'while [ ! -e go ]; do sleep 0.05; done; {}'",
        group.0.display(),
        dir.path().display(),
        program("runsvinit").display(),
        eater.replace('\'', "'\\''"),
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("said")).unwrap())
        .spawn()
        .unwrap();
    let told = |what: &str| holds_soon(|| dir.read("said").contains(what));
    let service = told("runsvinit eater: warning: out of memory: the kernel has killed it\n");
    dir.file("go", "");
    let command = told("runsvinit: warning: out of memory: the kernel has killed the command\n");
    if !command {
        let _ = child.kill();
    }
    assert!(service && command, "{}", dir.read("said"));
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

#[test]
fn a_missing_interpreter_is_named() {
    let dir = TempDir::new();
    for (name, first) in [("script", "#!/no/such -x\n"), ("tool", "#! /no/such/tool\n")] {
        let path = dir.script(&format!("service/{name}/run"), "");
        std::fs::write(path, first).unwrap();
    }
    // An executable for another C library.
    let mut elf = std::fs::read("/bin/true").unwrap();
    let interpreter = elf.windows(5).position(|bytes| bytes == b"/lib6" || bytes == b"/lib/");
    if let Some(at) = interpreter {
        elf[at..at + 4].copy_from_slice(b"/LIB");
        std::fs::write(dir.script("service/elf/run", ""), elf).unwrap();
    }
    std::fs::write(dir.script("cmd", ""), "#!/no/such/shell\n").unwrap();
    let outcome = run("runsvinit").args(&["service", "--", "./cmd"]).dir(dir.path()).go();
    assert_eq!(outcome.code, Some(127));
    for (name, missing) in [("script", "/no/such"), ("tool", "/no/such/tool")] {
        let lines = format!(
            "runsvinit {name}: fatal: unable to start ./run: file does not exist\n\
             \u{20} its interpreter {missing} does not exist\n"
        );
        assert!(outcome.err.contains(&lines), "{}", outcome.err);
    }
    if interpreter.is_some() {
        let line = "unable to start ./run: file does not exist\n  its interpreter /LIB";
        assert!(outcome.err.contains(line), "{}", outcome.err);
    }
    assert!(
        outcome.err.contains("runsvinit: fatal: unable to run ./cmd: file does not exist\n  its interpreter /no/such/shell does not exist\n"),
        "{}",
        outcome.err
    );
}

#[test]
fn services_that_are_due_at_the_same_time_hold_up_no_signal() {
    needs_machine();
    needs_program("strace");
    // One that cannot be executed is tried each second.
    let root = (0..300).fold(Root::new(), |root, number| root.file(&format!("etc/service/{number}/run"), ""));
    let mut machine = boot(root, &["-v"]);
    machine.shows("300 services");
    let trace = Trace::of(&machine, "clone,poll,ppoll");
    // All are due when it looks again.
    machine.signal(SIGSTOP);
    eventually("stopped", || matches!(process_state(machine.init), Some('T' | 't')));
    std::thread::sleep(Duration::from_millis(1200));
    let clones = || read(&trace.file).matches("clone(").count();
    let before = clones();
    machine.signal(SIGCONT);
    eventually("all tried again", || clones() >= before + 300);
    let mut run = 0;
    let longest = trace
        .lines()
        .iter()
        .map(|line| {
            // A wait for one descriptor is only the question whether a message can be said.
            match line.starts_with("clone(") {
                true => run += 1,
                false if line.contains("}, {") => run = 0,
                false => {}
            }
            run
        })
        .max();
    // Of all 300, those that are due and those whose process has ended, so many of each.
    assert!(longest.is_some_and(|longest| (10..=200).contains(&longest)), "{longest:?}");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}
