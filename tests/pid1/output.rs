//! What `runsvinit` writes, and what services write through it: to those who do not read, and to full disks.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::runsvinit::boot;
use support::*;

/// How long an end may take that waits for nobody: less than the time that services have by their `-w`, and so much more
/// than it takes that a busy machine does not matter.
const SOON: Duration = Duration::from_secs(30);

/// `runsvinit` as an ordinary process that serves `service` in a directory.
fn serve(dir: &TempDir, options: &[&str], out: impl Into<Stdio>, err: impl Into<Stdio>) -> Child {
    Command::new(program("runsvinit"))
        .args(options)
        .arg("service")
        .current_dir(dir.path())
        .env("PATH", path_variable())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap()
}

fn ends_soon(child: &mut Child) {
    let begin = Instant::now();
    kill(i32::try_from(child.id()).unwrap(), SIGTERM);
    let mut code = None;
    let ended = holds_soon(|| {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    if !ended {
        kill(i32::try_from(child.id()).unwrap(), SIGKILL);
    }
    assert!(ended && begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(code.unwrap().code(), Some(0));
}

const CHATTY: &str =
    "echo $$ >ready; while :; do echo a line that is long enough to fill something soon; done";

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_stop_and_no_command() {
    for options in [&["-w", "2", "--prefix"][..], &["-w", "2", "--stamp"]] {
        let dir = TempDir::new();
        dir.script("service/a/run", CHATTY);
        dir.script("service/b/run", &format!("exec 1>&2; {CHATTY}"));
        dir.script("service/quiet/run", "exec sleep 1000");
        let (_unread, out) = std::io::pipe().unwrap();
        let mut child = serve(&dir, options, out.try_clone().unwrap(), out);
        eventually("both", || dir.join("service/a/ready").exists() && dir.join("service/b/ready").exists());
        // The pipe is full, and both wait.
        let waits = |name: &str| {
            let pid = dir.read(&format!("service/{name}/ready"));
            read(format!("/proc/{}/wchan", pid.trim())).contains("pipe")
        };
        eventually("full", || waits("a") && waits("b"));
        eventually("quiet up", || open_fifo(&dir.join("service/quiet/supervise/ok")).is_some());
        let sv = run("sv").env("SVDIR", dir.join("service")).args(&["-w60", "restart", "quiet"]).go();
        assert_eq!(sv.code, Some(0), "{sv:?}");
        ends_soon(&mut child);
    }
}

#[test]
fn a_pipe_that_others_fill_between_holds_up_nothing() {
    needs_program("strace");
    // Services write through us with `--prefix`, and the command, or without it services, to the same pipe.
    for options in [&["-w", "2", "--prefix"][..], &["-w", "2"]] {
        let dir = TempDir::new();
        for name in ["a", "b", "c"] {
            dir.script(&format!("service/{name}/run"), &format!("exec 1>&2; {CHATTY}"));
        }
        dir.script("service/quiet/run", "exec sleep 1000");
        let (mut unread, out) = std::io::pipe().unwrap();
        let script = format!("cd {}; exec \"$0\" \"$@\" -- sh -c '{CHATTY}'", dir.path().display());
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script])
            .arg(program("runsvinit"))
            .args(options)
            .arg("service")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        eventually("ready", || {
            ["a", "b", "c"].iter().all(|name| dir.join(&format!("service/{name}/ready")).exists())
        });
        let sv = |words: &[&str]| run("sv").env("SVDIR", dir.join("service")).args(words).go();
        // Its writes are held up a little, so that the others are always faster.
        let pid = child.id().to_string();
        let mut strace = Command::new("strace")
            .args(["-qq", "-e", "trace=write,pwritev2", "-e", "signal=none", "-o", "/dev/null"])
            .args(["-e", "inject=write,pwritev2:delay_enter=30000", "-p", &pid])
            .spawn()
            .unwrap();
        for _ in 0..30 {
            // A moment with room, for which all compete.
            let mut some = [0; 4096];
            unread.read_exact(&mut some).unwrap();
            sv(&["kill", "quiet"]);
        }
        for _ in 0..3 {
            let restarted = sv(&["-w60", "restart", "quiet"]);
            if restarted.code != Some(0) {
                let _ = (strace.kill(), child.kill());
            }
            assert_eq!(restarted.code, Some(0), "{options:?}");
        }
        let _ = (strace.kill(), strace.wait());
        let begin = Instant::now();
        kill(i32::try_from(child.id()).unwrap(), SIGTERM);
        assert!(holds_soon(|| child.try_wait().unwrap().is_some()));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
}

fn read_all(mut from: PipeReader) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn messages_that_nobody_took_are_counted() {
    let dir = TempDir::new();
    dir.script("service/quiet/run", "echo $$ >ready; exec sleep 1000");
    let (mut unread, err) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&err, true).unwrap();
    let full = err.try_clone().unwrap();
    let mut filled = 0;
    while let Ok(length) = rustix::io::write(&full, &[b'.'; 4096]) {
        filled += length;
    }
    rustix::io::ioctl_fionbio(&err, false).unwrap();
    drop(full);
    // It says that it became subreaper and what it serves, to nobody.
    let mut child = serve(&dir, &["-v", "-w", "60"], Stdio::null(), err);
    eventually("ready", || dir.join("service/quiet/ready").exists());
    let mut scrap = vec![0; filled];
    unread.read_exact(&mut scrap).unwrap();
    ends_soon(&mut child);
    let said = read_all(unread);
    let first = said.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("runsvinit: warning: ")
            && first.ends_with(" messages before this could not be written")
            && said.ends_with("\nrunsvinit: info: stopping\n"),
        "{said}"
    );
}

#[test]
fn a_stopped_terminal_holds_up_no_stop() {
    needs_machine();
    for options in [&["-w", "3"][..], &["-w", "3", "--prefix"]] {
        let root = Root::new()
            .script("etc/service/chatty/run", "while :; do echo a line; sleep 0.01; done")
            .script("etc/service/ends/run", "kill -9 $$");
        let mut machine = boot(root, options);
        machine.shows("a line");
        // ^S
        machine.types("\x13");
        let mut length = 0;
        eventually("stopped", || {
            let before = std::mem::replace(&mut length, machine.console().len());
            std::thread::sleep(Duration::from_millis(100));
            before == machine.console().len()
        });
        machine.inside("sv -w1 kill ends chatty");
        let begin = Instant::now();
        machine.signal(SIGTERM);
        let gone = holds_soon(|| process_state(machine.init).is_none_or(|state| state == 'Z'));
        machine.types("\x11");
        assert!(gone && begin.elapsed() < SOON, "{options:?} {:?}", begin.elapsed());
        assert_eq!(machine.ends(), 0);
    }
}

#[test]
fn lines_for_a_full_device_are_counted() {
    let dir = TempDir::new();
    dir.script("service/a/run", "for i in 1 2 3; do echo $i; done; echo >ready; exec sleep 1000");
    let (said, err) = std::io::pipe().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut child = serve(&dir, &["--prefix", "-w", "60"], full, err);
    eventually("ready", || dir.join("service/a/ready").exists());
    ends_soon(&mut child);
    assert_eq!(
        read_all(said),
        "runsvinit: warning: unable to write to standard output, lines are dropped: out of disk space\n\
         runsvinit: warning: 3 lines for standard output were dropped\n"
    );
}

#[test]
fn a_log_service_that_comes_later_has_its_name_in_front() {
    needs_machine();
    let run = "echo web begins; while :; do echo tick; sleep 0.1; done";
    let mut machine = boot(Root::new().script("etc/service/web/run", run), &["--prefix"]);
    machine.shows("web | web begins");
    let log = "read line; echo got $line; echo shouted >&2; exec cat >/dev/null";
    write_script(&machine.root.path("sv/new/run"), log);
    std::fs::rename(machine.root.path("sv/new"), machine.root.path("etc/service/web/log")).unwrap();
    machine.inside("sv -w60 restart web");
    machine.shows("web/log | got ");
    machine.shows("web/log | shouted");
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn lines_that_nobody_took_before_the_end_are_counted() {
    let dir = TempDir::new();
    dir.script("service/a/run", "seq 1 30000 & echo >ready; exec sleep 1000");
    let err = dir.join("err");
    let (unread, out) = std::io::pipe().unwrap();
    let mut child = serve(&dir, &["-w", "1", "--prefix"], out, File::create(&err).unwrap());
    eventually("begun", || dir.join("service/a/ready").exists());
    let filled = || rustix::io::ioctl_fionread(&unread).unwrap();
    let mut before = 0;
    eventually("full", || {
        let is_full = filled() > 50_000 && filled() == before;
        before = filled();
        is_full
    });
    ends_soon(&mut child);
    let said = read(&err);
    let lost = said.lines().find_map(|line| line.strip_prefix("runsvinit: warning: "));
    let lost: usize = lost
        .and_then(|line| line.strip_suffix(" lines for standard output were dropped")?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    let mut taken = String::new();
    { unread }.read_to_string(&mut taken).unwrap();
    assert!(lost > 0 && lost + taken.lines().count() <= 30_000, "{lost}, {}", taken.lines().count());
}
