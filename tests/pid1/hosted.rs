//! `runsvinit` and what happens to its services' directories, FIFOs and files.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::runsvinit::boot;
use support::*;

const SLEEP: &str = "exec sleep 1000";

fn stat(machine: &Machine, name: &str) -> String {
    machine.read(&format!("{name}/supervise/stat"))
}

fn is_up(machine: &Machine, name: &str) -> bool {
    let dir = machine.root.path(&format!("{name}/supervise"));
    open_fifo(&dir.join("ok")).is_some() && read(dir.join("stat")) == "run\n"
}

#[test]
fn a_supervise_that_was_made_again_is_listened_to() {
    needs_machine();
    let root = Root::new()
        .script("etc/service/web/run", SLEEP)
        .script("etc/service/web/log/run", "exec cat >/dev/null");
    let mut machine = boot(root, &[]);
    for part in ["etc/service/web", "etc/service/web/log"] {
        eventually("up", || is_up(&machine, part));
        let dir = machine.root.path(part).join("supervise");
        remove_served(&dir);
        eventually("made again", || is_up(&machine, part));
        send(&dir.join("control"), "d");
        eventually("obeyed", || stat(&machine, part).starts_with("down"));
        // The same when only the FIFO goes.
        fs::remove_file(dir.join("control")).unwrap();
        eventually("made again", || {
            dir.join("control").exists() && open_fifo(&dir.join("control")).is_some()
        });
        send(&dir.join("control"), "u");
        eventually("obeyed again", || is_up(&machine, part));
    }
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn a_directory_behind_a_link_that_becomes_a_file_does_not_end_process_1() {
    needs_machine();
    let root = Root::new()
        .script("rel/web/run", SLEEP)
        .script("etc/service/db/run", SLEEP)
        .link("etc/service/web", "/rel/web");
    let mut machine = boot(root, &[]);
    eventually("up", || is_up(&machine, "rel/web") && is_up(&machine, "etc/service/db"));
    let web = machine.root.path("rel/web");
    for _ in 0..5 {
        remove_served(&web);
        fs::write(&web, "").unwrap();
        // The other service is served all the time.
        send(&machine.root.path("etc/service/db/supervise/control"), "d");
        eventually("obeyed", || stat(&machine, "etc/service/db").starts_with("down"));
        send(&machine.root.path("etc/service/db/supervise/control"), "u");
        eventually("obeyed", || is_up(&machine, "etc/service/db"));
        assert!(!machine.has_ended(), "{}", machine.console());
        fs::remove_file(&web).unwrap();
        write_script(&web.join("run"), SLEEP);
        eventually("new up", || is_up(&machine, "rel/web"));
    }
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
}

#[test]
fn floods_of_commands_hold_up_nobody_else() {
    needs_machine();
    let mut root = Root::new();
    for number in 0..4 {
        root = root.script(&format!("etc/service/s{number}/run"), SLEEP);
    }
    let mut machine = boot(root, &["-w", "60"]);
    let control = machine.root.path("etc/service/sN/supervise/control").display().to_string();
    eventually("up", || (0..4).all(|number| is_up(&machine, &format!("etc/service/s{number}"))));
    let enough = AtomicBool::new(false);
    let flood = |fifo: PathBuf| {
        let mut fifo = open_fifo(&fifo).unwrap();
        while !enough.load(Ordering::Relaxed) {
            let _ = fifo.write(&[b'c'; 4096]);
        }
    };
    std::thread::scope(|scope| {
        for number in 0..3 {
            let fifo = PathBuf::from(control.replace("sN", &format!("s{number}")));
            scope.spawn(|| flood(fifo));
        }
        // Whatever happens below, the floods end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..10 {
                let stopped = machine.inside("sv -w60 stop s3; sv -w60 start s3");
                assert_eq!(stopped.code, Some(0), "{stopped:?}");
            }
            let orphan = machine.inside("setsid sh -c 'sleep 0.1 & exit 0'");
            assert_eq!(orphan.code, Some(0));
            eventually("reaped", || !machine.children().contains(&'Z'));
            machine.signal(SIGTERM);
        }));
        let ended = outcome.is_ok() && {
            let begin = std::time::Instant::now();
            eventually("ended", || machine.has_ended());
            begin.elapsed() < Duration::from_secs(30)
        };
        enough.store(true, Ordering::Relaxed);
        assert!(ended, "{outcome:?}\n{}", machine.console());
    });
    assert_eq!(machine.ends(), 0);
}
