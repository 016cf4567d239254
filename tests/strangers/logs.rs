//! `svlogd` of root in a directory that is not its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::PathBuf;
use std::time::Duration;

use support::*;

const STRANGER: u32 = 65534;

/// A log directory of the stranger's, and a file of root's that nobody else may read.
struct Theirs {
    root: TempDir,
}

impl Theirs {
    fn new() -> Self {
        needs_root();
        let root = TempDir::new();
        fs::create_dir(root.join("log")).unwrap();
        lchown(root.join("log"), Some(STRANGER), Some(STRANGER)).unwrap();
        fs::set_permissions(root.file("secret", "secret\n"), fs::Permissions::from_mode(0o600)).unwrap();
        Theirs { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join("log").join(name)
    }

    /// A file of theirs.
    fn file(&self, name: &str, content: &str) {
        self.root.file(&format!("log/{name}"), content);
        lchown(self.path(name), Some(STRANGER), Some(STRANGER)).unwrap();
    }

    /// A link of theirs to what is root's.
    fn link(&self, name: &str) {
        symlink("../secret", self.path(name)).unwrap();
        lchown(self.path(name), Some(STRANGER), Some(STRANGER)).unwrap();
    }

    fn log(&self, input: &str) -> Outcome {
        run("svlogd").args(&["-l", "50", "log"]).dir(self.root.path()).input(input).go()
    }

    fn old(&self, ending: &str) -> Vec<String> {
        let names = fs::read_dir(self.root.join("log")).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with('@') && name.ends_with(ending));
        names.sort();
        names
    }

    /// Nothing happened to what is root's.
    #[track_caller]
    fn untouched(&self) {
        let secret = fs::metadata(self.root.join("secret")).unwrap();
        assert_eq!((secret.permissions().mode() & 0o7777, secret.uid()), (0o600, 0));
        assert_eq!(self.root.read("secret"), "secret\n");
    }
}

#[test]
fn links_in_the_place_of_current_and_lock_are_refused() {
    for (name, what) in [("current", "unable to open current"), ("lock", "unable to lock directory")] {
        let theirs = Theirs::new();
        theirs.link(name);
        let outcome = theirs.log("one\n");
        assert_eq!(outcome.code, Some(111), "{name}");
        let told = format!("svlogd: warning: {what}: log: is a symbolic link\n");
        assert!(outcome.err.starts_with(&told), "{}", outcome.err);
        theirs.untouched();
    }
}

#[test]
fn other_names_of_files_of_root_are_refused() {
    for name in ["current", "lock"] {
        let theirs = Theirs::new();
        fs::hard_link(theirs.root.join("secret"), theirs.path(name)).unwrap();
        let outcome = theirs.log("one\n");
        assert_eq!(outcome.code, Some(111), "{name}");
        assert!(outcome.err.contains("log: has more than one name\n"), "{}", outcome.err);
        theirs.untouched();
    }
}

#[test]
fn fifos_and_devices_are_not_waited_for_and_not_written_to() {
    for name in ["current", "lock", "config"] {
        for kind in ["p", "c 1 3"] {
            let theirs = Theirs::new();
            let words: Vec<&str> = ["log/x"].into_iter().chain(kind.split_whitespace()).collect();
            let made = run_file("/usr/bin/mknod").args(&words).dir(theirs.root.path()).go();
            needs("the right to make devices", made.code == Some(0));
            fs::rename(theirs.path("x"), theirs.path(name)).unwrap();
            // A reader, so that it could be written to.
            let reader = (kind == "p").then(|| {
                rustix::fs::open(
                    theirs.path(name),
                    rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
                    rustix::fs::Mode::empty(),
                )
                .unwrap()
            });
            let outcome = theirs.log("one\n");
            assert!(outcome.err.contains("log: not a regular file\n"), "{name} {kind} {}", outcome.err);
            assert_eq!(outcome.code, Some(if name == "config" { 0 } else { 111 }), "{name} {kind}");
            let mut byte = [0];
            let got = reader.map(|reader| rustix::io::read(&reader, &mut byte));
            assert!(!matches!(got, Some(Ok(1..))), "{name} was written to");
            drop(theirs);
        }
    }
}

#[test]
fn a_link_that_takes_the_place_of_current_is_not_followed() {
    let theirs = Theirs::new();
    let run = run("svlogd").args(&["-l", "50", "log"]).dir(theirs.root.path());
    let (mut svlogd, mut pipe) = run.piped(&theirs.root.join("err"));
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || read(theirs.path("current")) == "one\n");
    fs::remove_file(theirs.path("current")).unwrap();
    theirs.link("current");
    svlogd.signal(SIGALRM);
    eventually("rotated", || theirs.old(".s").len() == 1);
    pipe.write_all(b"two\n").unwrap();
    eventually("written", || read(theirs.path("current")) == "two\n");
    theirs.untouched();
    // The same at HUP: what is open is kept.
    fs::rename(theirs.path("current"), theirs.path("mine")).unwrap();
    theirs.link("current");
    svlogd.signal(SIGHUP);
    eventually("told", || {
        theirs.root.read("err").contains("unable to open current: log: is a symbolic link")
    });
    pipe.write_all(b"three\n").unwrap();
    eventually("written", || read(theirs.path("mine")) == "two\nthree\n");
    steadily("goes on", Duration::from_millis(100), || svlogd.ended().is_none());
    theirs.untouched();
}

#[test]
fn their_config_is_no_way_to_read_files_of_root() {
    let theirs = Theirs::new();
    theirs.link("config");
    let outcome = theirs.log("one\n");
    assert_eq!(outcome.err, "svlogd: warning: unable to read config: log: is a symbolic link\n");
    assert_eq!((outcome.code, read(theirs.path("current")).as_str()), (Some(0), "one\n"));
    fs::remove_file(theirs.path("config")).unwrap();
    fs::hard_link(theirs.root.join("secret"), theirs.path("config")).unwrap();
    let outcome = theirs.log("two\n");
    assert_eq!(outcome.err, "svlogd: warning: unable to read config: log: has more than one name\n");
    theirs.untouched();
}

/// Configuration tools have it so: Chef's log directories have a link of root's to the file beside `run`.
#[test]
fn a_link_of_roots_own_to_a_config_is_followed() {
    let theirs = Theirs::new();
    theirs.root.file("conf", "pX: \n");
    symlink("../conf", theirs.path("config")).unwrap();
    assert_eq!(theirs.log("one\n").err, "");
    assert_eq!(read(theirs.path("current")), "X: one\n");
}

#[test]
fn their_command_is_not_run_and_nothing_is_lost() {
    let config = "s100\nn0\n!id -u >ran; cat\n";
    let input: String = (0..50).map(|number| format!("line {number}\n")).collect();
    let check = |theirs: &Theirs, told: &str| {
        let outcome = theirs.log(&input);
        let told = format!("svlogd: warning: processor refused: {told}\n");
        assert_eq!((outcome.code, outcome.err), (Some(0), told));
        assert!(!theirs.path("ran").exists());
        let old = theirs.old("");
        assert!(old.len() > 3 && old.iter().all(|name| name.ends_with(".s")), "{old:?}");
        let mut all: String = old.iter().map(|name| read(theirs.path(name))).collect();
        all += &read(theirs.path("current"));
        assert_eq!(all, input);
    };
    let theirs = Theirs::new();
    theirs.file("config", config);
    check(&theirs, "log: belongs to another user");
    // Root's file in their directory: they could put another one there.
    let theirs = Theirs::new();
    theirs.root.file("log/config", config);
    check(&theirs, "log: belongs to another user");
    // Their file in root's directory.
    let theirs = Theirs::new();
    lchown(theirs.root.join("log"), Some(0), Some(0)).unwrap();
    theirs.file("config", config);
    check(&theirs, "log/config: belongs to another user");
    // A file that everybody writes to.
    let theirs = Theirs::new();
    lchown(theirs.root.join("log"), Some(0), Some(0)).unwrap();
    fs::set_permissions(theirs.root.file("log/config", config), fs::Permissions::from_mode(0o666)).unwrap();
    check(&theirs, "log/config: others may write to it");
}

#[test]
fn compression_follows_no_link_of_theirs() {
    let theirs = Theirs::new();
    theirs.file("config", "s100\nn0\n!gzip\n");
    theirs.link("@400000000000000000000001.u");
    fs::hard_link(theirs.root.join("secret"), theirs.path("@400000000000000000000002.u")).unwrap();
    theirs.link("@400000000000000000000003.t");
    theirs.link("newstate");
    theirs.link("state");
    let input: String = (0..50).map(|number| format!("line {number}\n")).collect();
    let outcome = theirs.log(&input);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    for told in ["1.u: is a symbolic link\n", "2.u: has more than one name\n"] {
        let told = format!("svlogd: warning: not processed: log/@40000000000000000000000{told}");
        assert!(outcome.err.contains(&told), "{}", outcome.err);
    }
    theirs.untouched();
    for name in ["@400000000000000000000001.s", "@400000000000000000000002.s"] {
        assert!(!theirs.path(name).exists(), "{name}");
    }
}

/// Root's own command in root's own directory, in which a stranger may make files.
#[test]
fn a_command_of_root_writes_to_no_file_of_a_strangers_choice() {
    let theirs = Theirs::new();
    lchown(theirs.root.join("log"), Some(0), Some(0)).unwrap();
    fs::set_permissions(theirs.root.join("log"), fs::Permissions::from_mode(0o1777)).unwrap();
    theirs.root.file("log/config", "s100\nn0\n!echo x >&5; cat\n");
    theirs.link("newstate");
    let input: String = (0..50).map(|number| format!("line {number}\n")).collect();
    let outcome = theirs.log(&input);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(read(theirs.path("state")), "x\n");
    theirs.untouched();
}

#[test]
fn what_is_told_of_their_config_is_printable() {
    let theirs = Theirs::new();
    theirs.file("config", "\u{1b}[2J\nn\u{9b}1\n");
    let outcome = theirs.log("one\n");
    let printable = outcome.err.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte));
    assert!(printable && outcome.err.contains("log/config:1: unknown: \\x1b[2J\n"), "{:?}", outcome.err);
}

#[test]
fn a_directory_with_the_name_of_an_old_log_stands_in_the_way_of_nothing() {
    let theirs = Theirs::new();
    fs::create_dir(theirs.path("@400000000000000000000001.s")).unwrap();
    theirs.file("config", "s100\nn3\n");
    let lines: String = (0..200).map(|number| format!("line {number:04}\n")).collect();
    let outcome = theirs.log(&lines);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let logs = theirs.old("s").into_iter().filter(|name| theirs.path(name).is_file()).count();
    assert!(logs <= 3, "{logs}");
}
