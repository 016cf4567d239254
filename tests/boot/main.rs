//! A real kernel in an emulator, with our executable as its first program.
//!
//! Needs root, qemu-system-x86_64 and what `scripts/fetch-boot` brings. The emulation is in software: a boot takes some seconds.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::*;

/// How long a machine may take to do something.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}

fn brought(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/boot").join(name)
}

fn needs_emulator() {
    needs_root();
    needs_program("qemu-system-x86_64");
    needs("what scripts/fetch-boot brings", brought("vmlinuz").exists() && brought("debian.tar").exists());
}

/// A file system in memory, as the kernel unpacks it.
struct Initramfs(Vec<u8>, u32);

impl Initramfs {
    /// With a console and without a shell.
    fn new() -> Self {
        let mut it = Initramfs(Vec::new(), 1);
        for dir in ["bin", "sbin", "dev", "etc", "etc/service"] {
            it.dir(dir);
        }
        it.entry("dev/console", 0o020_600, (5, 1), b"");
        it.file("bin/runitbox", 0o755, &fs::read(executable()).unwrap());
        let list = Command::new(executable()).arg("--list").output().unwrap();
        for name in String::from_utf8(list.stdout).unwrap().lines() {
            it.link(&format!("sbin/{name}"), "/bin/runitbox");
        }
        it.file("bin/payload", 0o755, &fs::read(payload()).unwrap());
        it
    }

    fn dir(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), b"");
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, (0, 0), content);
    }

    fn link(&mut self, name: &str, target: &str) {
        self.entry(name, 0o120_777, (0, 0), target.as_bytes());
    }

    /// A service that does what `script` says; see `payload.rs`.
    fn service(&mut self, name: &str, script: &str) {
        let dir = format!("etc/service/{name}");
        self.dir(&dir);
        self.link(&format!("{dir}/run"), "/bin/payload");
        self.file(&format!("{dir}/script"), 0o644, script.as_bytes());
    }

    /// The format "newc" of cpio.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let fields = [
            self.1,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len()).unwrap(),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len()).unwrap() + 1,
            0,
        ];
        self.1 += 1;
        self.0.extend_from_slice(b"070701");
        for field in fields {
            self.0.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.pad();
        self.0.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }

    fn boot(mut self, append: &str) -> Machine {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        let dir = TempDir::new();
        let file = dir.file("initramfs", &self.0);
        Machine::start(dir, &["-initrd", file.to_str().unwrap()], append)
    }
}

/// An emulated machine.
struct Machine {
    dir: TempDir,
    qemu: Child,
    control: UnixStream,
    /// What the emulator told of the machine.
    events: String,
}

impl Machine {
    fn start(dir: TempDir, words: &[&str], append: &str) -> Self {
        let socket = dir.join("qmp");
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-M", "pc", "-m", "256", "-smp", "1", "-display", "none", "-no-reboot"])
            .args(["-monitor", "none", "-net", "none"])
            .arg("-serial")
            .arg(format!("file:{}", dir.join("serial").display()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .arg("-kernel")
            .arg(brought("vmlinuz"))
            .args(["-append", &format!("console=ttyS0 panic=-1 {append}")])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut control = None;
        eventually("the emulator's socket", || {
            control = UnixStream::connect(&socket).ok();
            control.is_some()
        });
        let mut control = control.unwrap();
        control.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        control.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();
        Machine { dir, qemu, control, events: String::new() }
    }

    fn serial(&self) -> String {
        self.dir.read("serial").replace('\r', "")
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.control.read(&mut buffer) {
            self.events += &String::from_utf8_lossy(&buffer[..length]);
        }
    }

    #[track_caller]
    fn shows(&mut self, what: &str) {
        let start = Instant::now();
        while !self.serial().contains(what) {
            self.listen();
            let ended = self.qemu.try_wait().unwrap().is_some() && !self.serial().contains(what);
            if ended || start.elapsed() > PATIENCE {
                panic!("never said: {what}\n--- serial line:\n{}", self.serial());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses keys, by the emulator's names.
    fn presses(&mut self, keys: &[&str]) {
        let keys: Vec<String> =
            keys.iter().map(|key| format!(r#"{{"type":"qcode","data":"{key}"}}"#)).collect();
        let command = format!(r#"{{"execute":"send-key","arguments":{{"keys":[{}]}}}}"#, keys.join(","));
        self.control.write_all(command.as_bytes()).unwrap();
        self.control.write_all(b"\n").unwrap();
    }

    /// How the machine ended: `guest-shutdown` when it was turned off, `guest-reset` when it started again.
    #[track_caller]
    fn ends(&mut self) -> String {
        let start = Instant::now();
        loop {
            self.listen();
            if self.qemu.try_wait().unwrap().is_some() {
                break;
            }
            if start.elapsed() > PATIENCE {
                panic!("never ended\n--- serial line:\n{}", self.serial());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.listen();
        let serial = self.serial();
        // The kernel's word for a timer that the emulator was too slow for.
        let ours = serial.replace("MP-BIOS bug:", "");
        assert!(!ours.contains("Attempted to kill init") && !ours.contains("bug:"), "{serial}");
        let (_, reason) =
            self.events.rsplit_once("\"SHUTDOWN\"").unwrap_or_else(|| panic!("{}", self.events));
        let (_, reason) = reason.split_once("\"reason\": \"").unwrap();
        reason.split('"').next().unwrap().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[track_caller]
fn in_order(serial: &str, lines: &[&str]) {
    let mut rest = serial;
    for line in lines {
        let Some(at) = rest.find(line) else {
            panic!("not in its place: {line}\n--- serial line:\n{serial}")
        };
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn a_kernel_and_one_file_and_services_are_a_system_that_turns_off() {
    needs_emulator();
    let mut image = Initramfs::new();
    image.link("init", "/sbin/init");
    image.service("web", "say web begins\nmake /run/begun\nwait");
    image.service(
        "looks",
        "await /run/begun\ncat /proc/mounts\nrun /sbin/sv -w60 check web\nrun /sbin/sv health web\nrun /sbin/runit-init 0\nwait",
    );
    let mut machine = image.boot("quiet");
    assert_eq!(machine.ends(), "guest-shutdown");
    let serial = machine.serial();
    in_order(&serial, &["no stages in /etc/runit: serving /etc/service", "power off..."]);
    for part in [
        "web begins",
        "proc /proc proc",
        "sysfs /sys sysfs",
        "devtmpfs /dev devtmpfs",
        "tmpfs /run tmpfs",
        "ok: run: web: (pid",
        "sv health web: exit status: 0",
    ] {
        assert!(serial.contains(part), "{part}: {serial}");
    }
}

#[test]
fn without_stages_ctrl_alt_del_starts_the_machine_again() {
    needs_emulator();
    // As the example makes it.
    needs_program("cpio");
    let dir = TempDir::new();
    let service = dir.join("services/web");
    fs::create_dir_all(&service).unwrap();
    fs::copy(payload(), service.join("run")).unwrap();
    fs::write(service.join("script"), "say web begins\nwait").unwrap();
    let image = dir.join("initramfs.gz");
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/initramfs/make-initramfs"))
        .args([executable(), &dir.join("services"), &image])
        .status();
    assert!(made.unwrap().success());
    let mut machine = Machine::start(dir, &["-initrd", image.to_str().unwrap()], "quiet");
    machine.shows("web begins");
    machine.presses(&["ctrl", "alt", "delete"]);
    assert_eq!(machine.ends(), "guest-reset");
    in_order(&machine.serial(), &["web begins", "system reboot."]);
}

/// The root file system of a small Debian, with our file as its init and the stages of `etc/runit`.
fn debian(probe: &str) -> Machine {
    let dir = TempDir::new();
    let root = dir.join("root");
    fs::create_dir_all(&root).unwrap();
    let unpacked = Command::new("tar")
        .args(["-C", root.to_str().unwrap(), "-xf", brought("debian.tar").to_str().unwrap()])
        .status();
    assert!(unpacked.unwrap().success());
    let into = |from: &Path, name: &str| {
        let to = root.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
    };
    into(executable(), "usr/bin/runitbox");
    let list = Command::new(executable()).arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines() {
        let link = root.join("usr/sbin").join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("/usr/bin/runitbox", link).unwrap();
    }
    for name in ["1", "2", "3", "ctrlaltdel"] {
        into(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/runit").join(name),
            &format!("etc/runit/{name}"),
        );
    }
    write_script(
        &root.join("etc/service/probe/run"),
        &format!(
            "exec >/dev/console 2>&1\nwhile [ ! -e /run/slow ]; do sleep 0.1; done\n{probe}\nexec sleep 1000"
        ),
    );
    write_script(
        &root.join("etc/service/slow/run"),
        "exec >/dev/console 2>&1\ntrap 'sleep 1; echo slow ends; exit' TERM\necho slow begins; : >/run/slow\n\
         while :; do sleep 0.1; done",
    );
    let image = dir.join("image");
    let made = Command::new("/sbin/mke2fs")
        .args(["-qF", "-t", "ext4", "-m", "0", "-d", root.to_str().unwrap(), image.to_str().unwrap(), "600M"])
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    fs::remove_dir_all(&root).unwrap();
    let drive = format!("file={},if=none,id=d,format=raw,snapshot=on", image.display());
    let words = ["-drive", &drive, "-device", "nvme,drive=d,serial=1"];
    Machine::start(dir, &words, "root=/dev/nvme0n1 ro init=/sbin/init quiet")
}

#[test]
fn a_debian_on_ext4_boots_and_ends_by_init_6_with_its_root_written_and_read_only() {
    needs_emulator();
    let probe = "sv -w60 check slow; sv status /etc/service/*; echo comm $(cat /proc/1/comm); findmnt -no OPTIONS / | cut -d, -f1; init 6";
    let mut machine = debian(probe);
    assert_eq!(machine.ends(), "guest-reset");
    in_order(
        &machine.serial(),
        &[
            "- runit: enter stage: /etc/runit/1",
            "- runit: leave stage: /etc/runit/1",
            "- runit: enter stage: /etc/runit/2",
            "slow begins",
            "run: /etc/service/probe: (pid",
            "comm runit\n",
            "rw\n",
            "- runit: enter stage: /etc/runit/3",
            "slow ends",
            "ok: down: /etc/service/slow: ",
            "/ is read-only",
            "- runit: leave stage: /etc/runit/3",
            "- runit: system reboot.",
        ],
    );
}

#[test]
fn a_debian_ends_by_init_0_and_by_ctrl_alt_del() {
    needs_emulator();
    let mut machine = debian("sv -w60 check slow; init 0");
    assert_eq!(machine.ends(), "guest-shutdown");
    in_order(&machine.serial(), &["slow begins", "slow ends", "/ is read-only", "- runit: power off..."]);

    let mut machine =
        debian("sv -w60 check slow; echo ready; ps -o tty= -p 1; cat /proc/sys/kernel/ctrl-alt-del");
    machine.shows("ready");
    machine.presses(&["ctrl", "alt", "delete"]);
    assert_eq!(machine.ends(), "guest-reset");
    in_order(
        &machine.serial(),
        &[
            "ready",
            "- runit: ctrl-alt-del request...",
            "/etc/runit/ctrlaltdel",
            "slow ends",
            "system reboot.",
        ],
    );
}

/// Two services under each kind of supervisor, in a group of its own: one forks without end, one uses memory without end.
const LIMITS: &str = r#"
groups=/sys/fs/cgroup
mkdir -p $groups
mountpoint -q $groups || mount -t cgroup2 none $groups
echo '+pids +memory' >$groups/cgroup.subtree_control
until_it() { until "$@" 2>/dev/null; do sleep 0.2; done; }
for kind in runsvdir runsvinit container; do
	tree=/run/$kind group=$groups/$kind
	mkdir -p $group $tree/bomb/cgroup $tree/eater/cgroup
	echo 40 >$tree/bomb/cgroup/pids.max
	echo 20971520 >$tree/eater/cgroup/memory.max
	# Where a limit does not hold, the machine has to stay usable.
	limit='$(cat /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)'
	printf '#!/bin/bash\n[ "%s/pids.max)" = 40 ] || exec sleep 1000\n' "$limit" >$tree/bomb/run
	echo 'bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000' >>$tree/bomb/run
	printf '#!/bin/sh\n[ "%s/memory.max)" = 20971520 ] || exec sleep 1000\nexec tail /dev/zero\n' "$limit" >$tree/eater/run
	chmod +x $tree/*/run
	echo "echo 0 >$group/cgroup.procs" >/run/start
	# What waits for a container is not in its group.
	case $kind in
	container) printf '%s\n' "exec unshare -C sh -c 'mount -t proc proc /proc; umount $groups; mount -t cgroup2 none $groups; exec runsvinit $tree'" >>/run/start
		unshare -pfm --kill-child sh /run/start 2>/run/err.$kind & ;;
	*) echo "exec $kind $tree" >>/run/start
		sh /run/start 2>/run/err.$kind & ;;
	esac
	held() { [ "$(cat $group/sv.bomb.*/pids.current)" -gt 30 ] && [ "$(cat $group/sv.bomb.*/pids.current)" -le 40 ]; }
	gone() { [ "$(cat $group/sv.bomb.*/cgroup.procs | wc -l)" = 0 ]; }
	until_it held
	echo "$kind: the bomb is held"
	sv -w60 stop $tree/bomb
	until_it gone
	echo "$kind: the bomb is gone"
	until_it grep -q 'eater: warning: out of memory: the kernel has killed it$' /run/err.$kind
	echo "$kind: the eater was killed"
	# A container has its own numbers of processes, and its own /proc.
	case $kind in
	container) why="nsenter -m -p -t $(cat /proc/$!/task/$!/children) svctl why $tree/eater" ;;
	*) why="svctl why $tree/eater" ;;
	esac
	told() { $why | grep -q 'cause: out of memory again and again: the kernel killed it, or a part of it (signal KILL)'; }
	until_it told
	echo "$kind: why tells that"
	[ -d $group/supervisor ] && echo "$kind: moved"
	grep -v 'eater: warning: ' /run/err.$kind
	case $kind in
	runsvdir) kill -HUP $! ;;
	runsvinit) kill -TERM $! ;;
	container) kill -TERM $(cat /proc/$!/task/$!/children) ;;
	esac
	wait $!
	removed() { ! ls -d $group/sv.*; }
	until_it removed
	echo "$kind: removed"
done
init 0
"#;

#[test]
fn control_groups_hold_what_forks_and_eats_without_end() {
    needs_emulator();
    let mut machine = debian(LIMITS);
    assert_eq!(machine.ends(), "guest-shutdown");
    let mut lines = Vec::new();
    for kind in ["runsvdir", "runsvinit", "container"] {
        for what in [
            "the bomb is held",
            "the bomb is gone",
            "the eater was killed",
            "why tells that",
            "moved",
            "removed",
        ] {
            lines.push(format!("{kind}: {what}"));
        }
    }
    in_order(&machine.serial(), &lines.iter().map(String::as_str).collect::<Vec<_>>());
}
