//! `supervise` directories and state elsewhere: who may lead whom astray.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use support::*;

/// A user that has nothing here.
const STRANGER: &str = "54321";

/// A mount namespace with a `/run`, `/dev/shm` and `/tmp` of its own, and in it a directory `img` that cannot be written.
struct Apart {
    root: TempDir,
    keeper: Running,
}

/// `$1` is our directory, the others have the programs. All stay where they are, also below `/tmp`.
const SET_UP: &str = r#"
mount --bind /tmp /mnt
mount -t tmpfs -o mode=1777 tmpfs /tmp
for dir; do
	case $dir in /tmp/*) mkdir -p "$dir"; mount --bind "/mnt/${dir#/tmp/}" "$dir" ;; esac
done
umount /mnt
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$1/img" "$1/img"
mount -o remount,bind,ro "$1/img"
echo ready >"$1/ready"
exec sleep 100000
"#;

impl Apart {
    /// With services `img/NAME` that sleep. The case needs to be root.
    fn new(names: &[&str]) -> Self {
        needs_root();
        for program in ["setpriv", "nsenter", "unshare"] {
            needs_program(program);
        }
        let root = TempDir::new();
        for name in names {
            root.script(&format!("img/{name}/run"), "exec sleep 1000");
        }
        root.file("precious", "precious");
        let dir = |path: &Path| path.to_str().unwrap().to_owned();
        let words = ["--mount", "--propagation", "private", "sh", "-ec", SET_UP, "sh"];
        let keeper = run_file("/usr/bin/unshare")
            .args(&words)
            .args(&[dir(root.path()), dir(bin()), dir(executable().parent().unwrap())])
            .start(&root.join("keeper"));
        let apart = Apart { root, keeper };
        eventually("apart", || apart.root.join("ready").exists());
        apart
    }

    fn enter(&self, words: &[&str], command: &str) -> Run {
        run_file("/usr/bin/nsenter").args(&["-t", &self.keeper.pid().to_string(), "-m"]).args(words).args(&[
            "sh",
            "-c",
            &format!("cd {}; {command}", self.root.path().display()),
        ])
    }

    fn root(&self, command: &str) -> Outcome {
        self.enter(&[], command).go()
    }

    #[track_caller]
    fn stranger(&self, command: &str) {
        let who = ["setpriv", "--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"];
        let outcome = self.enter(&who, &format!("umask 0; set -e; {command}")).go();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }

    /// Starts a supervisor as root.
    fn runsv(&self, before: &str, name: &str) -> Supervisor<'_> {
        let err = self.root.join("err");
        let _ = fs::remove_file(&err);
        let running = self.enter(&[], &format!("{before} exec runsv {name}")).start(&err);
        Supervisor { apart: self, running }
    }

    fn is_served(&self, dir: &str) -> bool {
        // Without a reader an open for writing waits.
        self.root(&format!("[ -p {dir}/ok ] && timeout 0.2 sh -c ': >{dir}/ok'")).code == Some(0)
    }

    fn messages(&self) -> String {
        self.root.read("err")
    }

    fn precious(&self) -> (String, i64, i64, u64) {
        let meta = fs::metadata(self.root.join("precious")).unwrap();
        (self.root.read("precious"), meta.mtime(), meta.mtime_nsec(), meta.nlink())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

struct Supervisor<'a> {
    apart: &'a Apart,
    running: Running,
}

impl Supervisor<'_> {
    #[track_caller]
    fn serves_in(&mut self, dir: &str) {
        eventually(&format!("served in {dir}"), || {
            assert!(self.running.ended().is_none(), "{}", self.apart.messages());
            self.apart.is_served(dir)
        });
    }

    #[track_caller]
    fn ends(&mut self) -> i32 {
        self.running.exit_code()
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        if self.running.ended().is_none() && !std::thread::panicking() {
            self.running.signal(SIGTERM);
            self.ends();
        }
    }
}

#[test]
fn sv_of_root_believes_no_state_that_a_stranger_made() {
    let apart = Apart::new(&["web"]);
    let before = apart.precious();
    // Where a supervisor of root would have it, and the user's own of that name.
    for dir in ["/dev/shm/runit-0", "/tmp/runit-0"] {
        apart.stranger(&format!(
            "mkdir -p {dir}/web; cd {dir}/web; ln -s $OLDPWD/precious ok; ln -s $OLDPWD/precious control"
        ));
        // A status that says that it runs, as process 1.
        apart.stranger(&format!(
            "printf '\\100\\0\\0\\0\\152\\0\\0\\0\\0\\0\\0\\0\\1\\0\\0\\0\\0u\\0\\1' >{dir}/web/status"
        ));
    }
    for words in ["-w1 restart", "-w1 start", "exit", "status", "-w1 health", "check"] {
        let outcome = apart.root(&format!("sv {words} ./img/web"));
        let says_so = ["unable to open supervise/", "runsv not running"];
        assert_eq!(outcome.code, Some(1), "{words}: {outcome:?}");
        assert!(says_so.iter().any(|text| outcome.out.contains(text)), "{words}: {outcome:?}");
    }
    assert_eq!(apart.precious(), before);
    // Nor where a real FIFO has a reader.
    apart.stranger("cd /dev/shm/runit-0/web; rm ok control; mkfifo ok control; (exec 3<>ok 4<>control; exec sleep 1000 >/dev/null 2>&1) & echo $! >/dev/shm/reader");
    let reader: i32 = apart.root("cat /dev/shm/reader").out.trim().parse().unwrap();
    eventually("read", || apart.is_served("/dev/shm/runit-0/web"));
    let outcome = apart.root("sv status ./img/web");
    kill(reader, SIGKILL);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[test]
fn a_run_that_everybody_may_write_and_that_somebody_did_is_not_used() {
    for (prepare, refused) in [
        (
            "mkdir -p /run/runit/supervise/web; ln -s $PWD/none /run/runit/supervise/web/lock",
            "belongs to another user",
        ),
        ("mkdir -p theirs/supervise 2>/dev/null || :; ln -s $PWD/theirs /run/runit", "is a symbolic link"),
        ("mkdir /run/runit; ln -s $PWD/theirs /run/runit/supervise", "belongs to another user"),
    ] {
        let apart = Apart::new(&["web"]);
        fs::create_dir(apart.path("theirs")).unwrap();
        apart.root("chmod 777 /run");
        apart.stranger(prepare);
        let mut supervisor = apart.runsv("", "./img/web");
        supervisor.serves_in("/dev/shm/runit-0/web");
        let told = format!("runsv ./img/web: warning: no state is kept in /run/runit/supervise: {refused}\n");
        assert!(apart.messages().contains(&told), "{}", apart.messages());
        assert!(!apart.path("none").exists() && fs::read_dir(apart.path("theirs")).unwrap().next().is_none());
        let outcome = apart.root("sv -w60 restart ./img/web; sv status ./img/web");
        assert!(outcome.code == Some(0) && outcome.out.contains("\nrun: ./img/web: (pid "), "{outcome:?}");
    }
}

#[test]
fn where_every_place_was_made_by_somebody_else_the_error_says_what_to_do() {
    let apart = Apart::new(&["web"]);
    apart.root("chmod 777 /run");
    apart.stranger("mkdir /run/runit; ln -s $PWD/none /dev/shm/runit-0");
    let mut supervisor = apart.runsv("", "./img/web");
    supervisor.serves_in("/tmp/runit-0/web");
    assert!(
        apart.messages().contains("no state is kept in /dev/shm/runit-0: is a symbolic link\n"),
        "{}",
        apart.messages()
    );
    drop(supervisor);
    apart.root("rm -r /tmp/runit-0");
    apart.stranger("mkdir /tmp/runit-0");
    let mut supervisor = apart.runsv("", "./img/web");
    assert_eq!(supervisor.ends(), 111);
    let fatal = "runsv ./img/web: fatal: unable to open supervise/lock: read-only file system; ";
    assert!(
        apart.messages().contains(fatal) && apart.messages().contains("RUNITBOX_STATE"),
        "{}",
        apart.messages()
    );
    // As it says.
    let mut supervisor = apart.runsv("RUNITBOX_STATE=$PWD/state/mine", "./img/web");
    supervisor.serves_in("state/mine/web");
    let outcome = apart.root("RUNITBOX_STATE=$PWD/state/mine sv status ./img/web");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!apart.path("none").exists());
}

#[test]
fn what_somebody_made_in_a_shared_runitbox_state_is_passed_over() {
    let apart = Apart::new(&["web"]);
    fs::create_dir(apart.path("theirs")).unwrap();
    apart.stranger("mkdir /tmp/web /tmp/web.log; ln -s $PWD/theirs /tmp/web.1; : >/tmp/web.2");
    let mut supervisor = apart.runsv("RUNITBOX_STATE=/tmp", "./img/web");
    supervisor.serves_in("/tmp/web.3");
    assert!(
        apart.messages().contains("no state is kept in /tmp/web: belongs to another user\n"),
        "{}",
        apart.messages()
    );
    let outcome = apart.root("RUNITBOX_STATE=/tmp sv -w60 restart ./img/web");
    assert!(outcome.code == Some(0) && outcome.out.starts_with("ok: run: "), "{outcome:?}");
    assert!(fs::read_dir(apart.path("theirs")).unwrap().next().is_none());
    drop(supervisor);
    // A link on the way to it is not followed either.
    apart.stranger("ln -s $PWD/theirs /tmp/way");
    let mut supervisor = apart.runsv("RUNITBOX_STATE=/tmp/way/state", "./img/web");
    supervisor.serves_in("/run/runit/supervise/web");
    assert!(
        apart.messages().contains("no state is kept in /tmp/way/state: is a symbolic link\n"),
        "{}",
        apart.messages()
    );
    assert!(fs::read_dir(apart.path("theirs")).unwrap().next().is_none());
}

#[test]
fn the_owner_of_supervise_leads_root_nowhere() {
    let apart = Apart::new(&["web"]);
    apart.root.script("sv/run", "exec sleep 1000");
    for (name, said) in [
        ("lock", "unable to open supervise/lock: is a symbolic link\n"),
        ("control", "unable to open supervise/control: is a symbolic link\n"),
        ("ok", "unable to read supervise/ok: not a fifo\n"),
    ] {
        for target in ["precious", "none"] {
            let before = apart.precious();
            apart.root(&format!("rm -rf sv/supervise; mkdir sv/supervise; chown {STRANGER} sv/supervise"));
            apart.stranger(&format!("ln -s $PWD/{target} sv/supervise/{name}"));
            assert_eq!(apart.runsv("", "./sv").ends(), 111);
            assert_eq!(apart.messages(), format!("runsv ./sv: fatal: {said}"));
            assert_eq!(apart.precious(), before, "{name}");
            assert!(!apart.path("none").exists(), "{name}");
        }
    }
    // A file of root's under another name.
    apart.root("rm -rf sv/supervise; mkdir sv/supervise; ln precious sv/supervise/lock");
    assert_eq!(apart.runsv("", "./sv").ends(), 111);
    assert_eq!(
        apart.messages(),
        "runsv ./sv: fatal: unable to open supervise/lock: has more than one name\n"
    );
    // And nobody is written to by sv, whatever it finds instead of a FIFO.
    apart.root(&format!("rm -rf sv/supervise; mkdir sv/supervise; chown {STRANGER} sv/supervise"));
    let before = apart.precious();
    apart.stranger("ln -s $PWD/precious sv/supervise/ok; ln -s $PWD/precious sv/supervise/control; ln -s /etc/passwd sv/supervise/status");
    let outcome = apart.root("sv down ./sv; sv status ./sv");
    assert_eq!(
        outcome.out,
        "warning: ./sv: unable to open supervise/ok: is a symbolic link\n\
         warning: ./sv: unable to open supervise/ok: is a symbolic link\n"
    );
    assert_eq!(apart.precious(), before);
}

#[test]
fn the_owner_of_supervise_cannot_lead_what_root_publishes_elsewhere() {
    let apart = Apart::new(&["web"]);
    apart.root.script("sv/run", "exec sleep 1000");
    let names = ["pid", "stat", "status", "pid.new", "stat.new", "status.new"];
    for target in ["precious", "none"] {
        let before = apart.precious();
        apart.root(&format!("rm -rf sv/supervise; mkdir sv/supervise; chown {STRANGER} sv/supervise"));
        for name in names {
            apart.stranger(&format!("ln -s $PWD/{target} sv/supervise/{name}"));
        }
        let mut supervisor = apart.runsv("", "./sv");
        supervisor.serves_in("sv/supervise");
        // Again and again, while they are written.
        for _ in 0..5 {
            let pid = apart.root.read("sv/supervise/pid");
            for name in names {
                apart.stranger(&format!("ln -sfn $PWD/{target} sv/supervise/{name}"));
            }
            let outcome = apart.root("sv -w60 restart ./sv");
            assert!(outcome.out.starts_with("ok: run: "), "{outcome:?}");
            assert_ne!(apart.root.read("sv/supervise/pid"), pid);
            assert!(fs::symlink_metadata(apart.path("sv/supervise/status")).unwrap().is_file());
        }
        assert_eq!(apart.precious(), before);
        assert!(!apart.path("none").exists());
    }
}

#[test]
fn a_link_supervise_is_followed_only_where_nobody_else_has_been() {
    for (prepare, link, refused) in [
        ("mkdir /tmp/state", "/tmp/state", "belongs to another user"),
        ("ln -s $PWD/theirs /tmp/state", "/tmp/state", "is a symbolic link"),
        ("ln -s $PWD/theirs /tmp/way", "/tmp/way/state", "is a symbolic link"),
    ] {
        let apart = Apart::new(&["web"]);
        fs::create_dir(apart.path("theirs")).unwrap();
        apart.root.script("sv/run", "exec sleep 1000");
        std::os::unix::fs::symlink(link, apart.path("sv/supervise")).unwrap();
        apart.stranger(prepare);
        let mut supervisor = apart.runsv("", "./sv");
        supervisor.serves_in("/run/runit/supervise/sv");
        let told = format!("runsv ./sv: warning: what the link supervise leads to is not used: {refused}\n");
        assert_eq!(apart.messages(), told);
        assert!(fs::read_dir(apart.path("theirs")).unwrap().next().is_none());
        eventually("run is shown", || apart.root("sv status ./sv").out.starts_with("run: ./sv: (pid "));
    }
    // One that root gave away stays what it was, and its user is served.
    let apart = Apart::new(&["web"]);
    apart.root.script("sv/run", "exec sleep 1000");
    std::os::unix::fs::symlink("/run/runit/supervise.sv", apart.path("sv/supervise")).unwrap();
    apart.root(&format!("mkdir -p /run/runit/supervise.sv; chown {STRANGER} /run/runit/supervise.sv"));
    let mut supervisor = apart.runsv("", "./sv");
    supervisor.serves_in("/run/runit/supervise.sv");
    assert_eq!(apart.messages(), "");
    eventually("run is shown", || apart.root("sv status ./sv").out.starts_with("run: ./sv: (pid "));
}

#[test]
fn who_was_given_the_fifos_may_start_and_stop_and_no_more() {
    let apart = Apart::new(&["web"]);
    apart.root.script("sv/run", "exec sleep 1000");
    let mut supervisor = apart.runsv("", "./sv");
    supervisor.serves_in("sv/supervise");
    // What the hint of sv says.
    let who = ["setpriv", "--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"];
    let ask = |command: &str| apart.enter(&who, command).go();
    let hint = ask("sv -v status ./sv").err;
    let command = "chmod 755 ./sv/supervise; chown USER ./sv/supervise/ok ./sv/supervise/control";
    assert!(hint.contains(command), "{hint}");
    let given = apart.root(&command.replace("USER", STRANGER));
    assert_eq!(given.code, Some(0), "{given:?}");
    let outcome = ask("sv -w60 restart ./sv; sv status ./sv; sv -w60 down ./sv");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_ne!(ask("rm -f sv/supervise/pid; : >sv/supervise/status; : >sv/supervise/x").code, Some(0));
    assert!(apart.path("sv/supervise/pid").exists() && !apart.path("sv/supervise/x").exists());
}
