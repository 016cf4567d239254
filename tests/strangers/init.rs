//! `runsvinit`: what it reads, runs and writes for root belongs to root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use support::*;

const STRANGER: u32 = 12_345;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn give_away(path: &Path) {
    chown(path, Some(STRANGER), None).unwrap();
}

fn said(machine: &Machine) -> String {
    machine.console().trim_end().to_owned() + "\n"
}

type Spoil = fn(&Path);

/// What a stranger may have done to a directory of hooks with the hook `b`, and what is said then.
const SPOILT: [(&str, Spoil, &str, &str); 6] = [
    ("file for its group", |dir| set_mode(&dir.join("b"), 0o775), "/b", "others may write to it"),
    ("file for all", |dir| set_mode(&dir.join("b"), 0o757), "/b", "others may write to it"),
    ("file of somebody", |dir| give_away(&dir.join("b")), "/b", "belongs to another user"),
    ("directory for all", |dir| set_mode(dir, 0o1777), "", "others may write to it"),
    ("directory for its group", |dir| set_mode(dir, 0o770), "", "others may write to it"),
    ("directory of somebody", give_away, "", "belongs to another user"),
];

#[test]
fn a_hook_that_others_may_write_is_not_run() {
    needs_machine();
    for (what, spoil, name, reason) in SPOILT {
        let root = Root::new()
            .script("etc/runit/boot.d/a", "echo boot a")
            .script("etc/runit/boot.d/b", "echo boot b")
            .graceful("web");
        spoil(&root.path("etc/runit/boot.d"));
        let mut machine = root.boot(&["/sbin/runsvinit"]);
        assert_eq!(machine.ends(), 111, "{what}");
        // A boot that leaves out a step is worse than none, and nothing of it is done before.
        assert_eq!(
            said(&machine),
            format!("runsvinit: fatal: /etc/runit/boot.d{name}: {reason}\n"),
            "{what}"
        );

        let root = Root::new()
            .script("etc/runit/halt.d/a", "echo halt a")
            .script("etc/runit/halt.d/b", "echo halt b");
        spoil(&root.path("etc/runit/halt.d"));
        let mut machine = root.boot(&["/sbin/runsvinit", "--", "/bin/sh", "-c", "exit 3"]);
        assert_eq!(machine.ends(), 3, "{what}");
        let others = if name.is_empty() { "" } else { "halt a\n" };
        let expected = format!("runsvinit: warning: /etc/runit/halt.d{name}: {reason}: not run\n{others}");
        assert_eq!(said(&machine), expected, "{what}");
    }
}

#[test]
fn hooks_that_only_root_can_write_are_run() {
    needs_machine();
    let hooked = || {
        Root::new()
            .script("usr-hook", "echo boot b")
            .script("etc/runit/boot.d/a", "echo boot a")
            .link("etc/runit/boot.d/b", "/usr-hook")
            .link("etc/runit/boot.d/leads-nowhere", "/none")
            .file("etc/runit/boot.d/README", "not executable")
    };
    // What is not run may belong to anybody.
    let root = hooked();
    set_mode(&root.path("etc/runit/boot.d/README"), 0o666);
    let mut machine = root.boot(&["/sbin/runsvinit", "--", "/bin/sh", "-c", "exit 3"]);
    assert_eq!((machine.ends(), said(&machine).as_str()), (3, "boot a\nboot b\n"));
    // A volume of Kubernetes has a directory of mode 777, and is mounted read-only.
    let root = hooked();
    set_mode(&root.path("etc/runit/boot.d"), 0o777);
    let mut machine = root.read_only().boot(&["/sbin/runsvinit", "--", "/bin/sh", "-c", "exit 3"]);
    assert_eq!((machine.ends(), said(&machine).as_str()), (3, "boot a\nboot b\n"));
    // Where nothing would be run, nothing is wrong.
    let root = Root::new().file("etc/runit/boot.d/README", "not executable");
    set_mode(&root.path("etc/runit/boot.d"), 0o777);
    let mut machine = root.boot(&["/sbin/runsvinit", "--", "/bin/sh", "-c", "exit 3"]);
    assert_eq!((machine.ends(), said(&machine).as_str()), (3, "\n"));
}

#[test]
fn hooks_that_cannot_be_looked_at_are_not_passed_over() {
    needs_machine();
    let root = Root::new().script("etc/runit/boot.d/a", "echo boot a").graceful("web");
    set_mode(&root.path("etc/runit/boot.d"), 0o700);
    let root = root.started_by("/usr/bin/setpriv --reuid 12345 --regid 12345 --clear-groups");
    let mut machine = root.boot(&["/sbin/runsvinit"]);
    assert_eq!(machine.ends(), 111);
    assert_eq!(said(&machine), "runsvinit: fatal: /etc/runit/boot.d: access denied\n");
}

/// `runsvinit -e DIR -- true`: its code, and what it said.
fn write_environment(dir: &Path) -> (Option<i32>, String) {
    let empty = TempDir::new();
    let words = [dir.as_os_str(), "--".as_ref(), "/bin/true".as_ref()];
    let outcome = run("runsvinit")
        .env("SECRET", "word")
        .env("SVDIR", empty.path())
        .arg("-e")
        .args(&words)
        .dir(dir.parent().unwrap())
        .go();
    (outcome.code, outcome.err)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_environment_is_written_to_new_files_of_its_own() {
    let root = TempDir::new();
    let dir = root.join("env");
    assert_eq!(write_environment(&dir), (Some(0), String::new()));
    assert_eq!(
        (mode(&dir), mode(&dir.join("SECRET")), root.read("env/SECRET")),
        (0o700, 0o600, "word\n".into())
    );
    // A file that others can read, or have open already.
    set_mode(&dir.join("SECRET"), 0o666);
    let mut opened = fs::File::open(dir.join("SECRET")).unwrap();
    fs::write(dir.join("SECRET"), "").unwrap();
    assert_eq!(write_environment(&dir), (Some(0), String::new()));
    let mut read = String::new();
    std::io::Read::read_to_string(&mut opened, &mut read).unwrap();
    assert_eq!(
        (mode(&dir.join("SECRET")), root.read("env/SECRET"), read),
        (0o600, "word\n".into(), String::new())
    );
    // A link, and a second name.
    root.file("elsewhere", "kept");
    for link in [|from: &Path, to: &Path| symlink(from, to), |from: &Path, to: &Path| fs::hard_link(from, to)]
    {
        fs::remove_file(dir.join("SECRET")).unwrap();
        link(&root.join("elsewhere"), &dir.join("SECRET")).unwrap();
        assert_eq!(write_environment(&dir), (Some(0), String::new()));
        assert_eq!((root.read("elsewhere"), root.read("env/SECRET")), ("kept".into(), "word\n".into()));
    }
    // A FIFO is not waited for.
    fs::remove_file(dir.join("SECRET")).unwrap();
    make_fifo(&dir.join("SECRET"), 0o700);
    assert_eq!(write_environment(&dir), (Some(0), String::new()));
    assert_eq!(root.read("env/SECRET"), "word\n");
}

#[test]
fn the_environment_is_not_written_where_others_may_write() {
    needs_root();
    let root = TempDir::new();
    let refused = |dir: &Path, why: &str| {
        let said = format!("runsvinit: fatal: unable to write the environment to {}: {why}\n", dir.display());
        assert_eq!(write_environment(dir), (Some(111), said));
        assert!(!dir.join("SECRET").exists());
    };
    let dir = root.join("env");
    fs::create_dir(&dir).unwrap();
    for mode in [0o777, 0o1777, 0o770] {
        set_mode(&dir, mode);
        refused(&dir, "others may write to it");
    }
    set_mode(&dir, 0o700);
    give_away(&dir);
    refused(&dir, "belongs to another user");
    let real = root.join("real");
    fs::create_dir(&real).unwrap();
    let link = root.join("link");
    symlink(&real, &link).unwrap();
    refused(&link, "is a symbolic link");
    refused(&root.file("file", ""), "not a directory");
}

#[test]
fn a_lease_on_a_file_of_ones_own_holds_up_nobody_else() {
    needs_root();
    needs_program("perl");
    let dir = TempDir::new();
    for name in ["mine", "theirs"] {
        dir.script(&format!("service/{name}/run"), "exec sleep 1000");
    }
    let file = dir.join("service/theirs/run");
    std::os::unix::fs::chown(&file, Some(54321), None).unwrap();
    let mut init = run("runsvinit").args(&["-w", "3", "service"]).dir(dir.path()).start(&dir.join("err"));
    let pid = |name: &str| -> Option<i32> {
        dir.read(&format!("service/{name}/supervise/pid")).trim().parse().ok()
    };
    eventually("up", || pid("mine").is_some() && pid("theirs").is_some());
    // Whoever executes the file waits until the lease is given up, or 45 seconds. 1024 and 1 are F_SETLEASE and F_WRLCK.
    let hold = "$SIG{IO} = 'IGNORE'; open F, '<', $ARGV[0]; fcntl(F, 1024, 1) or die; print STDERR 'holds'; sleep 100";
    let holder = run_file("/usr/bin/perl").args(&["-e", hold]).arg(&file).start(&dir.join("held"));
    eventually("held", || dir.read("held") == "holds");
    let sv = |words: &[&str]| run("sv").args(words).env("SVDIR", dir.join("service")).go();
    let begin = std::time::Instant::now();
    let _ = sv(&["term", "theirs"]);
    assert_eq!(sv(&["-w60", "restart", "mine"]).code, Some(0));
    init.signal(SIGTERM);
    eventually("ended", || init.ended().is_some());
    assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{:?}", begin.elapsed());
    drop(holder);
}

/// Runs a command as root with a `/run` that everybody may write to and in which a stranger did something before.
fn with_open_run(dir: &TempDir, before: &str, command: &str) -> Outcome {
    let script = format!(
        "mount -t tmpfs -o mode=777 tmpfs /run\n\
         setpriv --reuid 54321 --regid 54321 --clear-groups sh -ec '{before}'\n\
         {command}"
    );
    run_file("/usr/bin/unshare")
        .args(&["--mount", "--propagation", "private", "sh", "-ec", &script])
        .env("PATH", path_variable())
        .dir(dir.path())
        .go()
}

#[test]
fn runit_init_and_utmpset_touch_nothing_that_a_stranger_linked_to() {
    needs_root();
    needs_program("setpriv");
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = TempDir::new();
    let victim = dir.file("victim", vec![0; 384 * 2]);
    std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o644)).unwrap();
    let seen = || {
        let meta = std::fs::metadata(&victim).unwrap();
        (meta.mode(), meta.mtime_nsec(), meta.size())
    };
    let before = seen();
    let etc = "mount -t tmpfs tmpfs /etc";
    for number in ["0", "6"] {
        for flag in ["runit.stopit", "runit.reboot"] {
            // Process 1 is not ours to tell, so only the flags are seen to.
            let link = format!("ln -s {} /run/{flag}", victim.display());
            let tell = format!("{etc}; unshare --pid --fork sh -c \"runit-init {number}; :\"");
            let outcome = with_open_run(&dir, &link, &tell);
            assert_eq!(seen(), before, "{flag} {number}: {outcome:?}");
        }
    }
    let link = format!("ln -s {} /run/utmp", victim.display());
    let outcome = with_open_run(&dir, &link, "utmpset tty1");
    assert!(outcome.err.contains("is a symbolic link"), "{outcome:?}");
    let outcome = with_open_run(&dir, "mkfifo /run/utmp", "timeout 5 utmpset tty1");
    assert!(outcome.err.contains("not a regular file"), "{outcome:?}");
    assert_eq!(seen(), before);
}

#[test]
fn the_environment_is_written_nowhere_that_a_strangers_link_leads_to() {
    needs_root();
    let dir = TempDir::new();
    std::fs::create_dir_all(dir.join("service")).unwrap();
    std::fs::create_dir_all(dir.join("precious")).unwrap();
    let link = dir.join("link");
    std::os::unix::fs::symlink(dir.join("precious"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(54321), None).unwrap();
    let outcome =
        run("runsvinit").args(&["-e"]).arg(link.join("new")).args(&["service", "--", "/bin/true"]).go();
    assert_eq!(outcome.code, Some(111), "{outcome:?}");
    assert!(!dir.join("precious/new").exists());
}
