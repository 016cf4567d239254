//! `svctl log`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{schema, svctl};
use support::*;

/// A directory of services with logs, without supervisors.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        Tree(TempDir::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a service with a log directory, and logs each of these inputs with svlogd, which rotates after each but the
    /// last.
    fn logs(&self, service: &str, options: &[&str], config: &str, inputs: &[&str]) {
        let log = format!("{service}/log/main");
        self.0.script(&format!("{service}/run"), "exec sleep 1000");
        self.0.file(&format!("{log}/config"), config);
        for (number, input) in inputs.iter().enumerate() {
            let is_last = number + 1 == inputs.len();
            let (mut svlogd, mut pipe) =
                run("svlogd").args(options).arg(self.path(&log)).piped(&self.path("err"));
            pipe.write_all(input.as_bytes()).unwrap();
            let current = self.path(&log).join("current");
            let is_written = || fs::read(&current).is_ok_and(|bytes| !bytes.is_empty());
            eventually("written", is_written);
            if !is_last {
                svlogd.signal(SIGALRM);
                eventually("rotated", || !is_written());
            }
            drop(pipe);
            svlogd.exit_code();
        }
    }

    /// Writes a file in the log directory of a service.
    fn file(&self, service: &str, name: &str, content: impl AsRef<[u8]>) {
        self.0.file(&format!("{service}/log/main/{name}"), content);
    }

    /// The same, for a log that svlogd has marked as complete.
    fn complete(&self, service: &str, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.file(&format!("{service}/log/main/{name}"), content);
        fs::set_permissions(path, fs::Permissions::from_mode(0o744)).unwrap();
    }

    fn svctl(&self, words: &[&str]) -> Run {
        svctl().arg("log").arg("-d").arg(self.0.path()).args(words)
    }

    #[track_caller]
    fn shows(&self, words: &[&str], expected: &str) {
        let outcome = self.svctl(words).go();
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), (expected, ""), "{words:?}");
        assert_eq!(outcome.code, Some(0));
    }
}

const FIRST: &str = "@400000006afffe0f00000000.s";
const SECOND: &str = "@400000006afffe1000000000.s";

/// A line with the TAI64N stamp of so many seconds after 2026-11-20 08:00:00 UTC.
fn stamped(seconds: u32, text: &str) -> String {
    format!("@40000000{:08x}00000000 {text}\n", 0x6aff_fe0a + seconds)
}

#[test]
fn old_logs_and_current_are_one_log() {
    let tree = Tree::new();
    tree.logs("web", &[], "", &["a\n", "b\nc\n", "d\n"]);
    tree.shows(&["web"], "a\nb\nc\nd\n");
    tree.shows(&["--raw", "web"], "a\nb\nc\nd\n");
    tree.shows(&["web/log"], "a\nb\nc\nd\n");
    tree.shows(&[tree.path("web").to_str().unwrap()], "a\nb\nc\nd\n");
    tree.shows(&[], "a\nb\nc\nd\n");
    for (lines, expected) in
        [("0", ""), ("1", "d\n"), ("2", "c\nd\n"), ("3", "b\nc\nd\n"), ("9", "a\nb\nc\nd\n")]
    {
        tree.shows(&["-n", lines, "web"], expected);
    }
}

#[test]
fn compressed_logs_are_read() {
    let tree = Tree::new();
    tree.logs("web", &[], "!gzip\n", &["a\n", "b\nc\n", "d\n"]);
    let compressed = fs::read_dir(tree.path("web/log/main")).unwrap().flatten();
    let compressed = compressed.filter(|entry| fs::read(entry.path()).unwrap().starts_with(b"\x1f\x8b"));
    assert_eq!(compressed.count(), 2);
    tree.shows(&["web"], "a\nb\nc\nd\n");
    tree.shows(&["-n", "3", "web"], "b\nc\nd\n");
    tree.shows(&["--grep", "^[ac]$", "web"], "a\nc\n");
}

#[test]
fn stamps_are_shown_as_local_time_or_utc() {
    let tree = Tree::new();
    tree.file("web", "current", stamped(0, "a") + "2026-11-20_08:00:01.12345 b\n" + &stamped(2, "c d"));
    let zone = |words: &[&str], zone: &str| tree.svctl(words).env("TZ", zone).go().out;
    let utc = "2026-11-20 08:00:00.000Z a\n2026-11-20 08:00:01.123Z b\n2026-11-20 08:00:02.000Z c d\n";
    assert_eq!(zone(&["--utc", "web"], "XYZ-2"), utc);
    assert_eq!(zone(&["web"], "XYZ-2"), utc.replace(" 08:", " 10:").replace('Z', ""));
    assert_eq!(zone(&["--raw", "web"], "XYZ-2"), read(tree.path("web/log/main/current")));
    let json = "{\"at\":\"2026-11-20T08:00:00.000000000Z\",\"name\":\"web\",\"line\":\"a\"}";
    assert_eq!(zone(&["--json", "web"], "XYZ-2").lines().next(), Some(json));
}

#[test]
fn several_logs_are_merged_by_time() {
    let tree = Tree::new();
    tree.complete("web", FIRST, stamped(0, "w0") + "more of w0\n" + &stamped(4, "w4"));
    tree.file("web", "current", stamped(6, "w6"));
    tree.file("worker", "current", stamped(1, "k1") + &stamped(5, "k5") + &stamped(5, "k5"));
    let words = |words: &[&str]| {
        let out = tree.svctl(words).arg("--utc").go().out;
        out.replace("2026-11-20 ", "").replace(".000Z", "")
    };
    let all = "web    | 08:00:00 w0\nweb    | more of w0\nworker | 08:00:01 k1\nweb    | 08:00:04 w4\n\
        worker | 08:00:05 k5\nworker | 08:00:05 k5\nweb    | 08:00:06 w6\n";
    assert_eq!(words(&[]), all);
    assert_eq!(words(&["w*"]), all);
    assert_eq!(words(&["-n", "2"]), "worker | 08:00:05 k5\nweb    | 08:00:06 w6\n");
    assert_eq!(words(&["worker"]), "08:00:01 k1\n08:00:05 k5\n08:00:05 k5\n");
    assert_eq!(words(&["--since", "2026-11-20T08:00:05Z"]), all[all.find("worker | 08:00:05").unwrap()..]);
    assert_eq!(words(&["--since", "2026-11-20T08:00:05Z", "-n1"]), "web    | 08:00:06 w6\n");
    assert_eq!(words(&["--grep", "more|k1"]), "web    | more of w0\nworker | 08:00:01 k1\n");
    assert_eq!(words(&["--grep", "w", "-n", "2"]), "web    | 08:00:04 w4\nweb    | 08:00:06 w6\n");
}

#[test]
fn a_line_that_was_cut_by_a_rotation_is_one_line() {
    let tree = Tree::new();
    tree.complete("web", FIRST, "one\ntw");
    tree.complete("web", SECOND, "o\nthree\nfo");
    tree.file("web", "current", "ur\nfi");
    tree.shows(&["web"], "one\ntwo\nthree\nfour\nfi\n");
    tree.shows(&["-n2", "web"], "four\nfi\n");
    tree.shows(&["--raw", "web"], "one\ntwo\nthree\nfour\nfi");
    // svlogd was killed, and nobody goes on with the line.
    tree.file("api", FIRST, "one\ntw");
    tree.file("api", "current", "three\n");
    tree.shows(&["api"], "one\ntw\nthree\n");
    // A line that begins with a timestamp is a new one.
    tree.complete("db", FIRST, "one\ntw");
    tree.file("db", "current", stamped(0, "x"));
    tree.shows(&["--utc", "db"], "one\ntw\n2026-11-20 08:00:00.000Z x\n");
}

#[test]
fn what_cannot_be_read_is_told() {
    let tree = Tree::new();
    tree.complete("web", FIRST, b"\x28\xb5\x2f\xfdrest");
    tree.complete("web", SECOND, b"\x28\xb5\x2f\xfdrest");
    tree.file("web", "current", "a\n");
    let outcome = tree.svctl(&["web"]).go();
    let path = tree.path("web/log/main").join(FIRST);
    let expected = format!(
        "svctl: warning: web: 2 old logs are compressed by zstd, and not shown; to read one: zstd -dc {}\n",
        path.display()
    );
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err), (Some(1), "a\n", expected));
    // What is before the damage is shown.
    tree.logs("api", &[], "!gzip\n", &["one\ntwo\n", "three\n"]);
    let old = fs::read_dir(tree.path("api/log/main")).unwrap().flatten();
    let old =
        old.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|it| it == "s")).unwrap();
    let bytes = fs::read(&old).unwrap();
    fs::write(&old, &bytes[..bytes.len() - 8]).unwrap();
    let outcome = tree.svctl(&["api"]).go();
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), "one\ntwo\nthree\n"));
    assert_eq!(outcome.err, "svctl: warning: api: a log is damaged, and not all of it is shown\n");
    // Only what svlogd can have made is read.
    fs::remove_file(tree.path("web/log/main/current")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tree.path("web/log/main/current")).unwrap();
    let outcome = tree.svctl(&["-n1", "web"]).go();
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
    assert!(outcome.err.contains("web: unable to read current: is a symbolic link"), "{}", outcome.err);
}

#[test]
fn wrong_options_are_refused() {
    let tree = Tree::new();
    tree.file("web", "current", "a\n");
    for (words, why) in [
        (&["--since", "noon"][..], "--since noon is no time"),
        (&["-n", "x"], "-n x is no number of lines"),
        (&["-n", ""], "-n  is no number of lines"),
        (&["--grep", "("], "--grep (: a ( without its )"),
        (&["--raw", "--json"], "--raw and --json exclude each other"),
        (&["--color", "red"], "--color"),
    ] {
        let outcome = tree.svctl(words).go();
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(100), ""), "{words:?}");
        assert!(outcome.err.contains(why), "{words:?}: {}", outcome.err);
    }
}

#[test]
fn names_and_lines_of_any_bytes_are_shown_without_loss() {
    let tree = Tree::new();
    let name = std::ffi::OsStr::from_bytes(b"a\xff\n b");
    let log = tree.path("").join(name).join("log/main");
    fs::create_dir_all(&log).unwrap();
    fs::write(log.join("current"), b"x\xfe\x00y\n").unwrap();
    tree.file("web", "current", "w\n");
    let outcome = tree.svctl(&["--json"]).go();
    assert_eq!(
        outcome.out.lines().next(),
        Some("{\"name\":\"a\\\\xff\\\\x0a b\",\"line\":\"x\u{fffd}\\u0000y\",\"base64\":\"eP4AeQ==\"}")
    );
    let outcome = tree.svctl(&[]).go();
    assert!(outcome.out.starts_with("a\\xff\\x0a b | x"), "{}", outcome.out);
}

#[test]
fn lines_as_json_are_as_the_schema_has_them() {
    schema::needs_validator();
    let tree = Tree::new();
    tree.file("web", "current", stamped(0, "a \"b\\") + "no stamp\n");
    fs::write(tree.path("web/log/main").join(SECOND), b"\xff\x1b[0m\n").unwrap();
    let outcome = tree.svctl(&["--json"]).go();
    assert_eq!((outcome.code, outcome.out.lines().count()), (Some(0), 3), "{outcome:?}");
    schema::validate(&outcome.out);
}

#[test]
fn a_log_that_one_may_not_read_is_told() {
    needs_root();
    let tree = Tree::new();
    tree.file("web", "current", "a\n");
    tree.file("api", "current", "b\n");
    fs::set_permissions(tree.path("web/log/main"), fs::Permissions::from_mode(0o700)).unwrap();
    // The executable is where others may not go.
    let program = TempDir::in_memory();
    fs::copy(executable(), program.join("svctl")).unwrap();
    let words = [
        "-u",
        "nobody",
        program.join("svctl").to_str().unwrap(),
        "log",
        "-d",
        tree.path("").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let outcome = run("chpst").args(&words).go();
    let log = tree.path("web/log/main");
    let expected = format!("svctl: warning: web: unable to read {}: access denied\n", log.display());
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err), (Some(1), "b\n", expected));
}

#[test]
fn several_logs_are_followed() {
    let tree = Tree::new();
    let services: Vec<String> = (0..50).map(|number| format!("s{number:02}")).collect();
    let mut logs: Vec<_> = services
        .iter()
        .map(|name| {
            tree.file(name, "current", "");
            fs::OpenOptions::new().append(true).open(tree.path(name).join("log/main/current")).unwrap()
        })
        .collect();
    let _svctl = tree.svctl(&["-f", "--grep", "shown"]).start(&tree.path("out"));
    let mut expected = String::new();
    for (number, log) in logs.iter_mut().enumerate() {
        log.write_all(b"other\nshown\n").unwrap();
        expected += &format!("s{number:02} | shown\n");
        eventually("shown", || tree.0.read("out") == expected);
    }
}

fn waiting_for(service: &str) -> String {
    format!("svctl: info: {service}: has no log yet; waiting for it\n")
}

#[test]
fn a_log_that_comes_later_is_followed_from_its_first_line() {
    let lines = |count: usize| (0..count).map(|number| format!("line {number}\n")).collect::<String>();
    for (option, dir) in [("-tt", "log/main"), ("-t", "log/current"), ("-ttt", "log"), ("-r_", "log/main")] {
        let tree = Tree::new();
        fs::create_dir_all(tree.path("web/log")).unwrap();
        let outcome = tree.svctl(&["web"]).go();
        let nothing = "svctl: warning: web: its log service does not run, and there is no log directory\n";
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(1), nothing));
        let svctl = tree.svctl(&["-f", "--raw", "web"]).start(&tree.path("out"));
        eventually("waits", || tree.0.read("out") == waiting_for("web"));
        let log = tree.path("web").join(dir);
        fs::create_dir_all(&log).unwrap();
        let (_svlogd, mut input) = run("svlogd").arg(option).arg(&log).piped(&tree.path("err"));
        input.write_all(lines(50).as_bytes()).unwrap();
        eventually("all", || tree.0.read("out").ends_with("line 49\n"));
        let shown = tree.0.read("out").replace(&waiting_for("web"), "");
        let shown: String =
            shown.lines().map(|line| format!("line {}\n", line.rsplit(' ').next().unwrap())).collect();
        assert_eq!(shown, lines(50), "{option} {dir}");
        drop(svctl);
    }
}

#[test]
fn a_log_that_comes_later_is_one_of_several() {
    let tree = Tree::new();
    tree.file("web", "current", "w\n");
    fs::create_dir_all(tree.path("a-longer-name/log/main")).unwrap();
    fs::create_dir_all(tree.path("none")).unwrap();
    let svctl = tree.svctl(&["-f"]).start(&tree.path("out"));
    // Its name counts for the width of the column from the beginning. It was not named, so there is no message.
    let mut expected = "web           | w\n".to_owned();
    eventually("shown", || tree.0.read("out") == expected);
    tree.file("a-longer-name", "current", "a\n");
    expected += "a-longer-name | a\n";
    eventually("found", || tree.0.read("out") == expected);
    // Nothing is missing now, so there is nothing to wake up for.
    let switches = || {
        let status = read(format!("/proc/{}/status", svctl.pid()));
        status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap().to_owned()
    };
    let mut before = switches();
    eventually("idle", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, switches()) == switches()
    });
    steadily("no wake-up", Duration::from_millis(2500), || switches() == before);
    assert_eq!(tree.0.read("out"), expected);
}

#[test]
fn services_that_come_later_are_followed() {
    let tree = Tree::new();
    // In this order: a line without a timestamp has the time of its file.
    tree.file("other", "current", "o\n");
    tree.file("web", "current", "w\n");
    let every = tree.svctl(&["-f", "-n1"]).start(&tree.path("every"));
    let some = tree.svctl(&["-f", "-n1", "w*"]).start(&tree.path("some"));
    let shows = |file: &str, lines: &str| {
        eventually(lines, || tree.0.read(file) == lines);
    };
    shows("every", "web   | w\n");
    shows("some", "w\n");
    // With a log from before, of which as much is shown as of those that were there.
    let worker = TempDir::new();
    worker.file("log/main/current", stamped(0, "old").repeat(5));
    std::os::unix::fs::symlink(worker.path(), tree.path("worker")).unwrap();
    shows("every", "web   | w\nworker | 2026-11-20 08:00:00.000 old\n");
    shows("some", "w\nworker | 2026-11-20 08:00:00.000 old\n");
    // With a log that is made only after it, in two steps.
    fs::create_dir(tree.path("x")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    fs::create_dir(tree.path("x/log")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    fs::create_dir(tree.path("x/log/main")).unwrap();
    tree.file("x", "current", "1\n2\n3\n");
    eventually("x", || tree.0.read("every").ends_with("x      | 1\nx      | 2\nx      | 3\n"));
    fs::OpenOptions::new()
        .append(true)
        .open(tree.path("web/log/main/current"))
        .unwrap()
        .write_all(b"w2\n")
        .unwrap();
    eventually("web", || tree.0.read("every").ends_with("web    | w2\n"));
    eventually("not x", || tree.0.read("some").ends_with("old\nweb    | w2\n"));
    drop((every, some));
}

#[test]
fn in_an_empty_directory_the_first_service_is_waited_for() {
    let (tree, outputs) = (Tree::new(), TempDir::new());
    let nothing = format!("svctl: {}: no services\n", tree.0.path().display());
    let outcome = tree.svctl(&[]).go();
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", nothing.as_str()));
    let svctl = tree.svctl(&["-f"]).start(&outputs.join("out"));
    eventually("waits", || outputs.read("out") == nothing);
    tree.file("web", "current", "w\n");
    eventually("shown", || outputs.read("out") == format!("{nothing}w\n"));
    drop(svctl);
}

#[test]
fn names_of_one_service_and_links_that_lead_elsewhere_are_followed() {
    use std::os::unix::fs::symlink;
    let tree = Tree::new();
    let target = TempDir::new();
    for service in ["one", "two"] {
        target.file(&format!("{service}/log/main/current"), "");
    }
    let link = |service: &str, name: &str| symlink(target.join(service), tree.path(name)).unwrap();
    let log = |service: &str, line: &str| {
        let path = target.join(service).join("log/main/current");
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
    };
    link("one", "a");
    link("one", "b");
    let svctl = tree.svctl(&["-f"]).start(&tree.path("out"));
    let mut expected = Vec::new();
    let mut shows = |lines: &[&'static str]| {
        expected.extend_from_slice(lines);
        expected.sort_unstable();
        eventually(&lines.concat(), || {
            let shown = tree.0.read("out");
            let mut shown: Vec<&str> = shown.lines().collect();
            shown.sort_unstable();
            shown == expected
        });
    };
    // One log is shown under its first name.
    log("one", "0\n");
    shows(&["0"]);
    let current = target.join("one/log/main/current");
    fs::rename(&current, current.with_file_name(FIRST)).unwrap();
    fs::write(&current, "rotated\n").unwrap();
    shows(&["rotated"]);
    fs::remove_file(tree.path("b")).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    link("two", "b");
    log("two", "2\n");
    shows(&["b | 2"]);
    log("one", "3\n");
    shows(&["a | 3"]);
    log("two", "4\n");
    shows(&["b | 4"]);
    drop(svctl);
}

/// Adds a line to the log in a directory.
fn append(dir: &Path, line: &str) {
    let current = fs::OpenOptions::new().append(true).create(true).open(dir.join("current"));
    current.unwrap().write_all(line.as_bytes()).unwrap();
}

#[test]
fn a_log_that_leads_elsewhere_is_followed_without_a_gap() {
    use std::os::unix::fs::symlink;
    let tree = Tree::new();
    let target = TempDir::new();
    let link = |to: &str, path: &Path| {
        let new = target.join("new-link");
        symlink(target.join(to), &new).unwrap();
        fs::rename(new, path).unwrap();
    };
    for number in [1, 2, 3] {
        // From another time, which is not shown.
        target.file(&format!("{number}/web/log/main/current"), stamped(0, "old"));
    }
    for log in ["logs/1", "logs/2"] {
        fs::create_dir_all(target.join(log)).unwrap();
    }
    let main = |dir: &str| target.join(dir).join("web/log/main");
    append(&main("1"), &stamped(1, "first"));
    link("1", &target.join("now"));
    link("now/web", &tree.path("web"));
    let _svctl = tree.svctl(&["-f", "--raw", "-n1"]).start(&tree.path("out"));
    let mut expected = stamped(1, "first");
    eventually("first", || tree.0.read("out") == expected);
    let mut seconds = 1;
    let mut shows = |dirs: &[PathBuf]| {
        for dir in dirs {
            seconds += 1;
            let line = stamped(seconds, "more");
            append(dir, &line);
            expected += &line;
        }
        eventually(&expected, || tree.0.read("out") == expected);
    };
    shows(&[main("1")]);
    // The service, in the middle of the way; the log before is written to once more.
    link("2", &target.join("now"));
    shows(&[main("1")]);
    shows(&[main("2")]);
    // The service.
    link("3/web", &tree.path("web"));
    shows(&[main("3"), main("3")]);
    // The log directory is made anew.
    fs::remove_dir_all(main("3")).unwrap();
    fs::create_dir(main("3")).unwrap();
    shows(&[main("3")]);
    // It becomes a link, and that leads elsewhere.
    fs::remove_dir_all(main("3")).unwrap();
    link("logs/1", &main("3"));
    shows(&[target.join("logs/1")]);
    link("logs/2", &main("3"));
    shows(&[target.join("logs/1"), target.join("logs/2")]);
    // The service is made anew, as a directory.
    fs::remove_file(tree.path("web")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::create_dir(tree.path("web")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::create_dir_all(tree.path("web/log/main")).unwrap();
    shows(&[tree.path("web/log/main")]);
}

#[test]
fn a_log_has_one_name_at_a_time() {
    let tree = Tree::new();
    tree.file("a", "current", "");
    tree.file("c", "current", "");
    tree.0.script("c/run", "exec sleep 1000");
    let twice = tree.path("c");
    let words = ["-f", "c", "c/log", twice.to_str().unwrap()];
    let _named = tree.svctl(&words).start(&tree.path("named"));
    let _all = tree.svctl(&["-f"]).start(&tree.path("all"));
    append(&tree.path("c/log/main"), "1\n");
    eventually("named", || tree.0.read("named") == "1\n");
    eventually("all", || tree.0.read("all") == "c | 1\n");
    fs::rename(tree.path("c"), tree.path("cc")).unwrap();
    append(&tree.path("cc/log/main"), "2\n");
    append(&tree.path("a/log/main"), "3\n");
    eventually("the rest", || tree.0.read("all").contains("| 3\n"));
    append(&tree.path("cc/log/main"), "4\n");
    eventually("the new name", || tree.0.read("all").ends_with("cc | 4\n"));
    let all = tree.0.read("all");
    assert_eq!(all.matches("| 2\n").count(), 1, "{all}");
    assert_eq!(all.matches("| 4\n").count(), 1, "{all}");
}

#[test]
fn lines_that_were_removed_unread_are_reported() {
    let mut followed = Followed::new("s1000\nn2\n", &["-l", "100", "-b", "200"], &["--raw"]);
    followed.svctl.signal(SIGSTOP);
    let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    followed.write(&lines);
    let log = followed.tree.path("web/log/main/current");
    eventually("written", || read(&log).ends_with("line 999\n"));
    followed.svctl.signal(SIGCONT);
    let report = "svctl: warning: web: some lines were removed before they could be read\n";
    eventually("shown", || followed.shown().ends_with("line 999\n") || followed.shown().ends_with(report));
    eventually("reported", || followed.shown().matches(report).count() == 1);
}

#[test]
fn a_log_service_that_starts_later_is_followed_under_each_supervisor() {
    under_any_supervisor(|tree, _| {
        let far = tree.root.join("far");
        fs::create_dir(&far).unwrap();
        // From another time.
        fs::write(far.join("current"), stamped(0, "old").repeat(50)).unwrap();
        tree.define("web", "for i in $(seq 100); do echo line $i; done; exec sleep 1000");
        tree.define("web/log", &format!("sleep 0.3; exec svlogd -tt {}", far.display()));
        tree.link("web");
        let out = tree.root.join("out");
        let _svctl = super::svctl_in(tree).args(&["log", "-f", "-n2", "web"]).start(&out);
        eventually("waits", || read(&out) == waiting_for("web"));
        tree.start();
        eventually("all", || read(&out).ends_with(" line 100\n"));
        let shown = read(&out).replace(&waiting_for("web"), "");
        let shown: Vec<&str> = shown.lines().map(|line| &line[24..]).collect();
        let lines = (1..=100).map(|number| format!("line {number}"));
        let expected: Vec<String> = ["old", "old"].map(str::to_owned).into_iter().chain(lines).collect();
        assert_eq!(shown, expected);
    });
}

/// With `ROUNDS=100` it has as many rounds, in which svlogd starts 0 to 50 ms after svctl.
#[test]
fn no_line_is_lost_or_doubled_whenever_svlogd_starts() {
    let rounds = std::env::var("ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let tree = Tree::new();
        tree.file("web", "config", "s1000\nn0\n!gzip\n");
        let log = tree.path("web/log/main");
        let svctl = tree.svctl(&["-f", "--raw", "-n", "1000", "web"]).start(&tree.path("out"));
        std::thread::sleep(Duration::from_millis(50 * round / rounds));
        let (_svlogd, mut input) =
            run("svlogd").args(&["-tt", "-l100", "-b200"]).arg(&log).piped(&tree.path("err"));
        let lines: String = (0..400).map(|number| format!("line {number}\n")).collect();
        input.write_all(lines.as_bytes()).unwrap();
        eventually("all", || tree.0.read("out").ends_with("line 399\n"));
        drop(svctl);
        let shown = tree.0.read("out").replace(&waiting_for("web"), "");
        let shown: String = shown.lines().map(|line| line[26..].to_owned() + "\n").collect();
        assert_eq!(shown, lines, "round {round}");
        let old =
            fs::read_dir(&log).unwrap().flatten().filter(|entry| entry.file_name().as_bytes()[0] == b'@');
        assert!(old.count() >= 10);
    }
}

/// A log that svlogd writes, and `svctl log -f` of it, whose output goes to a file.
struct Followed {
    tree: Tree,
    svlogd: Running,
    input: std::io::PipeWriter,
    svctl: Running,
}

impl Followed {
    fn new(config: &str, options: &[&str], words: &[&str]) -> Self {
        let tree = Tree::new();
        tree.file("web", "config", config);
        let (svlogd, mut input) =
            run("svlogd").args(options).arg(tree.path("web/log/main")).piped(&tree.path("svlogd"));
        input.write_all(b"first\n").unwrap();
        eventually("logs", || read(tree.path("web/log/main/current")).ends_with("first\n"));
        let svctl = tree.svctl(&["-f"]).args(words).arg("web").start(&tree.path("out"));
        let followed = Followed { tree, svlogd, input, svctl };
        eventually("shown", || followed.shown().contains("first\n"));
        followed
    }

    fn shown(&self) -> String {
        self.tree.0.read("out")
    }

    fn write(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
    }
}

#[test]
fn a_followed_log_shows_each_line_once_over_rotations_and_compression() {
    // Each old log has some twenty lines, and all but three are removed soon.
    for (config, options) in [
        ("s1000\nn3\n!gzip\n", &["-l", "100", "-b", "200", "-t"][..]),
        ("s1000\nn200\n", &["-l100", "-b200"]),
    ] {
        let mut followed = Followed::new(config, options, &["--raw"]);
        let mut expected = String::from("first\n");
        let count = 2000 + 2000 * usize::from(options.len() > 4);
        for number in 0..count {
            let line = format!("line {number} {}\n", "x".repeat(number % 50));
            followed.write(&line);
            expected += &line;
            // As fast as svctl reads; svlogd must not remove what nobody has read.
            if number % 40 == 0 {
                eventually("shown", || followed.shown().contains(&format!("line {number} ")));
            }
        }
        let last = format!("line {} ", count - 1);
        eventually("all shown", || followed.shown().contains(&last) && followed.shown().ends_with('\n'));
        let shown: String =
            followed.shown().lines().map(|line| without_stamp(line).to_owned() + "\n").collect();
        assert_eq!(shown, expected);
    }
}

fn without_stamp(line: &str) -> &str {
    if line.starts_with('@') { &line[26..] } else { line }
}

#[test]
fn a_fast_writer_loses_no_line_while_all_old_logs_are_kept() {
    let mut followed = Followed::new("s2000\nn0\n!gzip\n", &["-l", "100", "-b", "200"], &["--raw"]);
    let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    followed.write(&text);
    eventually("all shown", || followed.shown().ends_with("line 19999\n"));
    assert_eq!(followed.shown(), format!("first\n{text}"));
    let old = fs::read_dir(followed.tree.path("web/log/main")).unwrap().flatten();
    let old: BTreeSet<_> = old
        .filter(|entry| entry.file_name().as_bytes()[0] == b'@')
        .map(|entry| entry.path().with_extension(""))
        .collect();
    assert!(old.len() > 100, "{}", old.len());
}

#[test]
fn a_followed_log_takes_no_time_while_nothing_is_written() {
    let mut followed = Followed::new("", &["-tt"], &["--utc"]);
    let switches = || {
        let status = read(format!("/proc/{}/status", followed.svctl.pid()));
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().to_owned()
    };
    // What was written before may still be on its way.
    let mut before = switches();
    eventually("idle", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, switches()) == switches()
    });
    steadily("no wake-up", Duration::from_millis(2500), || switches() == before);
    followed.write("next\n");
    eventually("shown", || followed.shown().ends_with("Z next\n"));
}

#[test]
fn a_followed_log_goes_on_over_a_killed_svlogd_and_an_emptied_current() {
    let mut followed = Followed::new("", &["-l", "50", "-b", "100"], &[]);
    let part = "x".repeat(200);
    followed.write(&format!("a\n{part}"));
    eventually("shown", || followed.shown().ends_with("a\n"));
    eventually("written", || read(followed.tree.path("web/log/main/current")).ends_with(&part));
    followed.svlogd.kill();
    let log = followed.tree.path("web/log/main");
    let (svlogd, mut input) = run("svlogd").arg(&log).piped(&followed.tree.path("svlogd"));
    input.write_all(b"b\n").unwrap();
    eventually("shown", || followed.shown() == format!("first\na\n{part}\nb\n"));
    fs::write(log.join("current"), "").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    input.write_all(b"c\n").unwrap();
    eventually("shown", || followed.shown().ends_with("b\nc\n"));
    // Another directory in its place.
    fs::rename(&log, log.with_file_name("old")).unwrap();
    fs::create_dir(&log).unwrap();
    svlogd.signal(SIGHUP);
    eventually("new", || log.join("current").exists());
    input.write_all(b"d\n").unwrap();
    eventually("shown", || followed.shown().ends_with("c\nd\n"));
}

#[test]
fn it_ends_when_nobody_reads_and_leaves_the_service_running() {
    let service = Service::new()
        .script("run", "echo one; exec sleep 1000")
        .script("log/run", "mkdir -p main; exec svlogd -t main")
        .up();
    eventually("logged", || service.read("log/main/current").ends_with(" one\n"));
    let pid = service.pid();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = std::process::Command::new(executable());
    command.args(["svctl", "log", "-f", "./s"]).current_dir(service.root()).stdout(writer);
    let mut svctl = Running::from(command.spawn().unwrap());
    drop(command);
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(reader);
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert!(line.ends_with(" one\n"), "{line}");
    drop(reader);
    assert_eq!(svctl.exit_code(), 0);
    assert_eq!((service.pid(), service.is_up()), (pid, true));
}

#[test]
fn the_directory_is_that_of_the_svlogd_that_runs() {
    let elsewhere = TempDir::new();
    let run_log = |exec: &str| format!("mkdir -p {0}/in; cd {0}\n{exec}", elsewhere.path().display());
    for (exec, is_child) in [("exec svlogd -l 500 -tt ./in", false), ("svlogd -r _ in; exit 1", true)] {
        let service = Service::new()
            .script("run", &format!("echo {is_child}; exec sleep 1000"))
            .script("log/run", &run_log(exec))
            .up();
        // An old log of nobody.
        service.write("log/main/current", "old\n");
        let current = elsewhere.join("in/current");
        eventually("logged", || read(&current).ends_with(&format!("{is_child}\n")));
        service.started_log();
        let outcome = svctl().args(&["log", "-n1", "./s"]).dir(service.root()).go();
        assert!(outcome.out.ends_with(&format!("{is_child}\n")), "{outcome:?}");
    }
}

#[test]
fn logs_are_found_under_each_supervisor() {
    under_any_supervisor(|tree, is_stock| {
        let say = |name: &str| format!("echo this is {name}; exec sleep 1000");
        let mut names = vec!["own", "elsewhere", "by-child"];
        tree.define("own", &say("own"));
        tree.define("own/log", "mkdir -p main; exec svlogd -tt ./main");
        tree.define("elsewhere", &say("elsewhere"));
        let far = tree.root.join("far");
        fs::create_dir(&far).unwrap();
        tree.define("elsewhere/log", &format!("exec svlogd -t -l 500 {}", far.display()));
        tree.define("by-child", &say("by-child"));
        tree.define("by-child/log", "mkdir -p in/it; cd in; svlogd it");
        if !is_stock {
            names.extend(["hosted", "linked"]);
            tree.define("hosted", &say("hosted"));
            tree.file("hosted", "log/config", "t");
            tree.define("linked", &say("linked"));
            tree.file("linked", "log/config", "tt");
            fs::create_dir(tree.root.join("target")).unwrap();
            std::os::unix::fs::symlink("../../../target", tree.root.join("sv/linked/log/main")).unwrap();
        }
        names.iter().for_each(|name| tree.link(name));
        tree.sleeper("without");
        tree.start();
        for name in &names {
            let expected = format!("this is {name}\n");
            let shown = || super::svctl_in(tree).args(&["log", "-n1", name]).go();
            eventually(&expected, || shown().out.ends_with(&expected));
            assert_eq!(shown().code, Some(0));
        }
        let all = super::svctl_in(tree).arg("log").go();
        assert_eq!(
            (all.code, all.out.lines().count(), all.err.as_str()),
            (Some(0), names.len(), ""),
            "{all:?}"
        );
        let without = super::svctl_in(tree).args(&["log", "without"]).go();
        assert_eq!((without.code, without.out.as_str()), (Some(1), ""));
        assert!(
            without.err.starts_with("svctl: warning: without: no svlogd writes its output, which goes to"),
            "{}",
            without.err
        );
    });
}

#[test]
fn a_service_without_svlogd_says_where_its_output_goes() {
    let told = |service: &Service| {
        let outcome = svctl().args(&["log", "./s"]).dir(service.root()).go();
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
        outcome.err
    };
    let service = Service::sleeper().up();
    let file = service.root().join("err");
    let line = format!(
        "svctl: warning: s: no svlogd writes its output, which goes to the file {}\n",
        file.display()
    );
    assert_eq!(told(&service), line);
    let service = Service::new().script("run", "exec >/dev/null sleep 1000").up();
    eventually("sleeps", || told(&service).contains("which goes to /dev/null; its errors go to the file "));
    let service = Service::new().script("run", "sleep 1000 | cat").script("log/run", "exec cat").up();
    eventually("logs", || service.log_stat().starts_with("run"));
    eventually("cat", || told(&service).contains("s: its log service runs cat (pid "));
    let service = Service::new().script("run", "exec sleep 1000");
    assert!(told(&service).contains("it is not supervised"));
    let outcome = svctl().args(&["log", "./none"]).dir(service.root()).go();
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(1), "svctl: warning: none: there is no such service\n")
    );
}

/// What `svctl log` shows on a terminal with so many columns; `variables` are those of the shell.
fn on_terminal(columns: u32, variables: &str, tree: &Tree) -> String {
    needs_program("script");
    let (program, dir) = (executable().display(), tree.0.path().display());
    let line = format!("stty cols {columns} -onlcr; {variables} exec {program} svctl log --utc -d {dir}");
    let shown = run_file("/usr/bin/script").args(&["-qefc", &line, "/dev/null"]).env("TERM", "xterm");
    shown.dir(tree.0.path()).go().out
}

#[test]
fn a_terminal_gets_colours_and_nothing_that_controls_it() {
    let tree = Tree::new();
    let long = "x".repeat(250);
    tree.file("web", "current", stamped(0, &format!("\x1b[31mred\x1b[2J {long}")));
    tree.file("worker", "current", stamped(1, "plain"));
    for columns in [80, 200] {
        let shown = on_terminal(columns, "", &tree);
        let expected = format!(
            "\x1b[36mweb    | \x1b[0m\x1b[2m2026-11-20 08:00:00.000Z\x1b[0m \x1b[31mred\\x1b[2J {long}\x1b[0m\n\
            \x1b[33mworker | \x1b[0m\x1b[2m2026-11-20 08:00:01.000Z\x1b[0m plain\n"
        );
        assert_eq!(shown, expected);
        let shown = on_terminal(columns, "NO_COLOR=1", &tree);
        let expected = format!(
            "web    | 2026-11-20 08:00:00.000Z \\x1b[31mred\\x1b[2J {long}\nworker | 2026-11-20 08:00:01.000Z plain\n"
        );
        assert_eq!(shown, expected);
    }
}

#[test]
fn logs_of_stock_svlogd_are_read_and_followed() {
    let stock = Path::new("/usr/bin/svlogd");
    needs("Debian's runit", stock.exists());
    let tree = Tree::new();
    tree.file("web", "config", "s4096\nn50\n!gzip -1\n");
    let log = tree.path("web/log/main");
    let (_svlogd, mut input) = run_file(stock).args(&["-tt", "-l", "200"]).arg(&log).piped(&tree.path("err"));
    let svctl = tree.svctl(&["-f", "--raw", "web"]).start(&tree.path("out"));
    let count = 1000;
    for number in 0..count {
        input.write_all(format!("line {number}\n").as_bytes()).unwrap();
    }
    eventually("all shown", || tree.0.read("out").ends_with("line 999\n"));
    drop(svctl);
    // If svctl is there before the first line, it reports that it waits.
    let shown = tree.0.read("out").replace(&waiting_for("web"), "");
    let numbers: Vec<String> = shown.lines().map(|line| line[26..].to_owned()).collect();
    // The ten last lines were shown first, if some were there.
    let first = numbers[0].strip_prefix("line ").unwrap().parse::<usize>().unwrap();
    let expected: Vec<String> = (first..count).map(|number| format!("line {number}")).collect();
    assert_eq!(numbers, expected);
    let all = tree.svctl(&["--raw", "web"]).go();
    assert_eq!((all.code, all.out.lines().count()), (Some(0), count), "{}", all.err);
}
