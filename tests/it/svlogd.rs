use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::*;

/// A log directory `log` with its config.
struct Log {
    root: TempDir,
}

impl Log {
    fn new(config: &str) -> Self {
        let root = TempDir::new();
        fs::create_dir(root.join("log")).unwrap();
        if !config.is_empty() {
            root.file("log/config", config);
        }
        Log { root }
    }

    fn svlogd(&self, options: &[&str]) -> Run {
        run("svlogd").args(options).arg("log").dir(self.root.path())
    }

    /// Logs `input`, to its end.
    fn log(&self, options: &[&str], input: impl Into<Vec<u8>>) -> Outcome {
        self.svlogd(options).input(input).go()
    }

    /// Logs `input` without a word.
    #[track_caller]
    fn logs(&self, options: &[&str], input: impl Into<Vec<u8>>) {
        let outcome = self.log(options, input);
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", ""));
    }

    /// Starts it; input comes through the pipe.
    fn start(&self, options: &[&str]) -> (Running, std::io::PipeWriter) {
        self.svlogd(options).piped(&self.root.join("err"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join("log").join(name)
    }

    fn current(&self) -> String {
        read(self.path("current"))
    }

    fn messages(&self) -> String {
        self.root.read("err")
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// Names of old logs with this ending, oldest first.
    fn old(&self, ending: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root.join("log"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('@') && name.ends_with(ending))
            .collect();
        names.sort();
        names
    }

    /// All old logs and `current`, joined.
    fn all(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for name in self.old("").iter().map(String::as_str).chain(["current"]) {
            all.extend(fs::read(self.path(name)).unwrap_or_default());
        }
        all
    }
}

/// Numbered lines.
fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

fn usage(program: &str) -> String {
    format!("usage: {program} [-ttv] [-r c] [-R abc] [-l len] [-b buflen] dir ...\n\n")
}

#[test]
fn wrong_usage_is_said() {
    let name = bin().join("svlogd");
    for words in [&[][..], &["-t"], &["-r", "ab", "dir"], &["-b", "1000", "dir"], &["-l", "1024", "dir"]] {
        let outcome = run("svlogd").args(words).go();
        assert_eq!((outcome.code, outcome.err), (Some(111), usage(name.to_str().unwrap())), "{words:?}");
    }
    let outcome = run("svlogd").args(&["-x", "dir"]).go();
    let expected = format!("svlogd: illegal option -- x\n{}", usage(name.to_str().unwrap()));
    assert_eq!((outcome.code, outcome.err), (Some(111), expected));
}

#[test]
fn capital_v_says_the_version_and_the_usage() {
    let outcome = run("svlogd").arg("-V").go();
    assert_eq!(outcome.code, Some(111));
    assert!(outcome.err.ends_with("dir ...\n\n"), "{}", outcome.err);
}

#[test]
fn lines_go_to_current() {
    let log = Log::new("");
    log.logs(&[], "one\ntwo\n");
    assert_eq!(log.current(), "one\ntwo\n");
    assert_eq!((log.mode("current"), log.mode("lock")), (0o744, 0o600));
}

#[test]
fn a_complete_current_is_appended_to() {
    let log = Log::new("");
    log.logs(&[], "one\n");
    log.logs(&[], "two\n");
    assert_eq!(log.current(), "one\ntwo\n");
    assert_eq!(log.old(""), [] as [&str; 0]);
}

#[test]
fn a_current_that_was_not_completed_is_put_aside() {
    let log = Log::new("");
    log.root.file("log/current", "half\n");
    log.logs(&[], "one\n");
    assert_eq!(log.current(), "one\n");
    let old = log.old(".u");
    assert_eq!(old.len(), 1);
    assert_eq!(read(log.path(&old[0])), "half\n");
}

#[test]
fn an_empty_current_is_used() {
    let log = Log::new("");
    log.root.file("log/current", "");
    log.logs(&[], "one\n");
    assert_eq!((log.current().as_str(), log.old("").len()), ("one\n", 0));
}

#[test]
fn current_is_marked_as_open_while_it_is() {
    let log = Log::new("");
    let (mut svlogd, mut pipe) = log.start(&[]);
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.current() == "one\n");
    assert_eq!(log.mode("current"), 0o644);
    drop(pipe);
    assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
    assert_eq!(log.mode("current"), 0o744);
}

#[test]
fn a_line_is_there_as_soon_as_it_was_read() {
    let log = Log::new("");
    let (_svlogd, mut pipe) = log.start(&["-t"]);
    for number in 0..20 {
        pipe.write_all(b"line\n").unwrap();
        eventually("written", || log.current().lines().count() == number + 1);
    }
}

#[test]
fn a_missing_directory_is_said() {
    let root = TempDir::new();
    let outcome = run("svlogd").arg("none").dir(root.path()).go();
    let expected = "svlogd: warning: unable to open log directory: none: file does not exist\n\
                    svlogd: fatal: no functional log directories.\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn the_other_directories_go_on() {
    let log = Log::new("");
    let outcome = run("svlogd").args(&["none", "log"]).dir(log.root.path()).input("one\n").go();
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.err, "svlogd: warning: unable to open log directory: none: file does not exist\n");
    assert_eq!(log.current(), "one\n");
}

#[test]
fn a_directory_is_used_by_one_at_a_time() {
    let log = Log::new("");
    let (_svlogd, mut pipe) = log.start(&[]);
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.current() == "one\n");
    let outcome = log.log(&[], "two\n");
    let expected = "svlogd: warning: unable to lock directory: log: temporary failure\n\
                    svlogd: fatal: no functional log directories.\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected));
}

#[test]
fn several_directories_have_several_configs() {
    let root = TempDir::new();
    root.file("all/config", "");
    root.file("some/config", "-*\n+*b*\npsome: \n");
    let outcome = run("svlogd").args(&["all", "some"]).dir(root.path()).input("abc\nxyz\n").go();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(
        (root.read("all/current").as_str(), root.read("some/current").as_str()),
        ("abc\nxyz\n", "some: abc\n")
    );
}

#[test]
fn t_puts_a_label_before_each_line() {
    let log = Log::new("");
    log.logs(&["-t"], "one\n\n");
    for (line, expected) in log.current().lines().zip(["one", ""]) {
        let (stamp, text) = line.split_at(26);
        assert!(stamp.starts_with("@40000000") && stamp.ends_with(' '), "{line}");
        assert!(stamp[1..25].bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert_eq!(text, expected);
    }
    assert_eq!(log.current().lines().count(), 2);
}

#[test]
fn tt_and_ttt_put_the_time_before_each_line() {
    let now = run_file("/bin/date").args(&["-u", "+%Y-%m-%d"]).go().out;
    for (option, between) in [("-tt", '_'), ("-ttt", 'T'), ("-tttt", 'T')] {
        let log = Log::new("");
        log.logs(&[option], "one\n");
        let shape: String =
            log.current().chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
        assert_eq!(shape, format!("0000-00-00{between}00:00:00.00000 one\n"));
        assert!(log.current().starts_with(now.trim()), "{}", log.current());
    }
}

#[test]
fn runit_check_appends_and_replaces() {
    let log = Log::new("");
    log.logs(&[], "foo\n");
    log.logs(&[], "bar\nbaz\n");
    log.logs(&["-r:", "-R", "fb"], "foo\nbar\nbaz\n");
    assert_eq!(log.current(), "foo\nbar\nbaz\n:oo\n:ar\n:az\n");
}

#[test]
fn r_replaces_what_is_not_printable() {
    let log = Log::new("");
    log.logs(&["-r", "?"], b"a\tb\x7f\xff\x00c\n".to_vec());
    assert_eq!(log.current(), "a?b???c\n");
}

#[test]
fn capital_r_replaces_by_an_underline() {
    let log = Log::new("");
    log.logs(&["-R", "xy"], b"axbyc\xff\n".to_vec());
    assert_eq!(log.current(), "a_b_c_\n");
}

#[test]
fn only_the_first_len_bytes_are_replaced() {
    let log = Log::new("");
    log.logs(&["-l", "4", "-R", "x"], "xxxxxxxx\nxx\n");
    assert_eq!(log.current(), "____xxxx\n__\n");
}

#[test]
fn lines_of_any_length_pass() {
    let log = Log::new("s0\n");
    let long = "y".repeat(300_000);
    let input = format!("short\n{long}\nafter\n");
    log.logs(&["-t"], input.clone());
    let without_stamps: String = log.current().lines().map(|line| format!("{}\n", &line[26..])).collect();
    assert_eq!(without_stamps, input);
}

#[test]
fn bytes_that_are_no_text_pass() {
    let log = Log::new("s0\n");
    let input: Vec<u8> = (0..=255_u8).cycle().take(5000).chain([b'\n']).collect();
    log.logs(&[], input.clone());
    assert_eq!(fs::read(log.path("current")).unwrap(), input);
}

#[test]
fn a_file_is_never_longer_than_its_limit_and_nothing_is_lost() {
    for (size, options) in
        [(100, &["-l", "50"][..]), (100, &[]), (1000, &["-l", "50"]), (333, &["-l", "10", "-b", "11"])]
    {
        let log = Log::new(&format!("s{size}\nn0\n"));
        let input = lines(0..500);
        log.logs(options, input.clone());
        assert_eq!(String::from_utf8(log.all()).unwrap(), input, "{size} {options:?}");
        for name in log.old(".s") {
            assert!(fs::metadata(log.path(&name)).unwrap().len() <= size, "{size} {options:?}");
            assert_eq!(log.mode(&name), 0o744);
        }
        assert!(log.old(".s").len() >= 3);
    }
}

#[test]
fn lines_are_not_cut_where_there_is_room_for_one_of_len() {
    let log = Log::new("s100\nn0\n");
    log.logs(&["-l", "50"], lines(0..200));
    for name in log.old(".s") {
        let text = read(log.path(&name));
        assert!(text.ends_with('\n') && (50..=100).contains(&text.len()), "{text:?}");
    }
}

#[test]
fn n_old_logs_are_kept() {
    let log = Log::new("s100\nn3\n");
    let input = lines(0..500);
    log.logs(&["-l", "50"], input.clone());
    assert_eq!(log.old(".s").len(), 3);
    // What is left is the end of it.
    assert!(input.ends_with(&String::from_utf8(log.all()).unwrap()));
}

#[test]
fn s0_never_rotates() {
    let log = Log::new("s0\n");
    log.logs(&[], lines(0..200_000));
    assert_eq!(log.old("").len(), 0);
}

#[test]
fn sizes_have_units() {
    let log = Log::new("s2k\nn0\n");
    log.logs(&["-l", "20"], lines(0..1000));
    let sizes: Vec<u64> =
        log.old(".s").iter().map(|name| fs::metadata(log.path(name)).unwrap().len()).collect();
    assert!(sizes.iter().all(|size| (2028..=2048).contains(size)), "{sizes:?}");
}

#[test]
fn comments_and_empty_lines_mean_nothing() {
    let log = Log::new("# s1\n\n#n1\n");
    log.logs(&[], lines(0..100));
    assert_eq!((log.old("").len(), log.current()), (0, lines(0..100)));
}

#[test]
fn runit_check_rotates_by_age() {
    let log = Log::new("t2\n");
    let (_svlogd, mut pipe) = log.start(&[]);
    pipe.write_all(b"foo\n").unwrap();
    eventually("rotated", || log.old(".s").len() == 1);
    assert_eq!((log.current().as_str(), read(log.path(&log.old(".s")[0])).as_str()), ("", "foo\n"));
    steadily("an empty one is left alone", Duration::from_millis(2500), || log.old("").len() == 1);
}

#[test]
fn an_empty_current_does_not_age() {
    let log = Log::new("t2\n");
    let (_svlogd, mut pipe) = log.start(&[]);
    steadily("nothing to rotate", Duration::from_millis(2500), || log.old("").is_empty());
    pipe.write_all(b"foo\n").unwrap();
    eventually("written", || log.current() == "foo\n");
    eventually("rotated", || log.old(".s").len() == 1);
    assert_eq!((log.old("").len(), read(log.path(&log.old(".s")[0])).as_str()), (1, "foo\n"));
}

#[test]
fn what_cannot_be_sent_is_said_in_the_log() {
    // Nobody may send to all without having asked for that.
    let log = Log::new("u255.255.255.255\n");
    log.logs(&[], "one\n");
    let current = log.current();
    assert!(current.contains("warning: failure sending through udp: one\n"), "{current}");
    assert!(current.lines().any(|line| line == "one"), "{current}");
}

#[test]
fn alrm_rotates_what_is_not_empty() {
    let log = Log::new("");
    let (svlogd, mut pipe) = log.start(&[]);
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.current() == "one\n");
    svlogd.signal(SIGALRM);
    eventually("rotated", || log.old(".s").len() == 1 && log.current().is_empty());
    svlogd.signal(SIGALRM);
    steadily("an empty one is left alone", Duration::from_millis(300), || log.old("").len() == 1);
    pipe.write_all(b"two\n").unwrap();
    eventually("written", || log.current() == "two\n");
    assert_eq!(log.old("").len(), 1);
}

#[test]
fn hup_reads_the_config_again() {
    let log = Log::new("pold: \n");
    let (svlogd, mut pipe) = log.start(&["-v"]);
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.current() == "old: one\n");
    log.root.file("log/config", "pnew: \n");
    svlogd.signal(SIGHUP);
    eventually("read again", || log.messages().matches("svlogd: info: read: log/config\n").count() == 2);
    pipe.write_all(b"two\n").unwrap();
    eventually("written", || log.current() == "old: one\nnew: two\n");
}

#[test]
fn hup_opens_directories_that_were_missing() {
    let log = Log::new("");
    let (svlogd, mut pipe) =
        run("svlogd").args(&["log", "late"]).dir(log.root.path()).piped(&log.root.join("err"));
    eventually("said", || log.messages().contains("unable to open log directory: late"));
    fs::create_dir(log.root.join("late")).unwrap();
    svlogd.signal(SIGHUP);
    eventually("open", || log.root.join("late/current").exists());
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.root.read("late/current") == "one\n" && log.current() == "one\n");
}

#[test]
fn hup_without_any_directory_left_is_fatal() {
    let log = Log::new("");
    let (mut svlogd, _pipe) = log.start(&[]);
    eventually("open", || log.path("current").exists());
    fs::remove_dir_all(log.root.join("log")).unwrap();
    svlogd.signal(SIGHUP);
    assert_eq!(svlogd.exit_code(), 111, "{}", log.messages());
    assert!(log.messages().ends_with("svlogd: fatal: no functional log directories.\n"));
}

#[test]
fn term_ends_it_with_all_written() {
    let log = Log::new("");
    let (mut svlogd, mut pipe) = log.start(&[]);
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.current() == "one\n");
    svlogd.signal(SIGTERM);
    assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
    assert_eq!((log.current().as_str(), log.mode("current")), ("one\n", 0o744));
}

#[test]
fn patterns_select() {
    for (config, input, expected) in [
        ("-*b*\n", "abc\nxyz\n", "xyz\n"),
        ("-*\n+*: foo: *\n", "x: foo: 1\nx: bar: 2\n", "x: foo: 1\n"),
        ("-a*\n+ab*\n", "aa\nab\nb\n", "ab\nb\n"),
        ("-\n", "\na\n", "a\n"),
        ("-*ab\n", "ab\nxab\nxaxab\n", "xaxab\n"),
        ("-+ab\n", "ab\naaa\nb\n", "b\n"),
        ("-**\n", "a*b\nab\n", "ab\n"),
        ("-abc\n", "abc\nabcd\n", "abcd\n"),
    ] {
        let log = Log::new(config);
        log.logs(&[], input);
        assert_eq!(log.current(), expected, "{config:?}");
    }
}

#[test]
fn patterns_see_the_line_without_stamp_and_prefix() {
    let log = Log::new("-*\n+a*\npX: \n");
    log.logs(&["-t"], "a\nb\n");
    assert!(log.current().ends_with(" X: a\n") && log.current().lines().count() == 1, "{}", log.current());
}

#[test]
fn patterns_see_the_first_len_bytes() {
    let log = Log::new("-*\n+aaaa\n");
    log.logs(&["-l", "4"], "aaaabbbb\naaaa\naaa\n");
    assert_eq!(log.current(), "aaaabbbb\naaaa\n");
}

#[test]
fn e_tells_standard_error() {
    let log = Log::new("e*bad*\nE*not bad*\n-*secret*\n");
    let outcome = log.log(&[], "bad\nnot bad\nbad secret\nfine\n");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), "bad\nbad secret\n"));
    assert_eq!(log.current(), "bad\nnot bad\nfine\n");
}

#[test]
fn a_long_line_is_told_in_short() {
    let log = Log::new("e*\npX\n");
    let outcome = log.log(&["-l", "4"], "abcdefgh\nabc\nabcd\n");
    assert_eq!(outcome.err, "Xabcd...\nXabc\nXabcd...\n");
    assert_eq!(log.current(), "Xabcdefgh\nXabc\nXabcd\n");
}

#[test]
fn the_prefix_comes_after_the_stamp() {
    let log = Log::new("pweb: \n");
    log.logs(&["-tt"], "one\n");
    assert!(log.current()[25..] == *" web: one\n", "{}", log.current());
}

#[test]
fn a_processor_makes_the_old_log() {
    let log = Log::new("s100\nn0\n!tr a-z A-Z\n");
    log.logs(&["-l", "50"], lines(0..100));
    assert_eq!((log.old(".u").len(), log.old(".t").len()), (0, 0));
    let mut all = String::new();
    for name in log.old(".s") {
        all += &read(log.path(&name));
        assert_eq!(log.mode(&name), 0o744);
    }
    assert_eq!(all + &log.current().to_uppercase(), lines(0..100).to_uppercase());
}

#[test]
fn a_processor_has_a_memory() {
    let log = Log::new("s100\nn0\n!read old <&4; echo $((old+1)) >&5; cat\n");
    log.logs(&["-l", "50"], lines(0..100));
    let count = log.old(".s").len();
    assert!(count > 3);
    assert_eq!(read(log.path("state")).trim(), count.to_string());
}

#[test]
fn a_processor_runs_in_the_log_directory() {
    let log = Log::new("s100\nn0\n!pwd >>where; cat\n");
    log.logs(&["-l", "50"], lines(0..12));
    let expected = fs::canonicalize(log.root.join("log")).unwrap();
    assert!(read(log.path("where")).starts_with(expected.to_str().unwrap()));
}

#[test]
fn a_processor_that_fails_is_run_again() {
    let log = Log::new("n0\n!echo x >>tries; [ $(wc -l <tries) -ge 2 ] && cat\n");
    let (svlogd, mut pipe) = log.start(&[]);
    pipe.write_all(b"one\n").unwrap();
    eventually("written", || log.current() == "one\n");
    svlogd.signal(SIGALRM);
    eventually("processed", || log.old(".s").len() == 1 && log.old(".u").is_empty());
    assert_eq!(log.messages(), "svlogd: warning: processor failed, restart: log\n");
    assert_eq!(read(log.path(&log.old(".s")[0])), "one\n");
}

#[test]
fn leftovers_of_processors_are_removed() {
    let log = Log::new("s100\n");
    log.root.file("log/@400000000000000000000001.t", "x");
    log.logs(&["-l", "50"], lines(0..50));
    assert_eq!(log.old(".t"), [] as [&str; 0]);
}

#[test]
fn other_files_are_left_alone() {
    let log = Log::new("s100\nn1\n");
    for name in ["@40.s", "old.s", "@4000000000000000000000012.s", "@400000000000000000000001.x1"] {
        log.root.file(&format!("log/{name}"), "x");
    }
    log.logs(&["-l", "50"], lines(0..50));
    for name in ["@40.s", "old.s", "@4000000000000000000000012.s", "@400000000000000000000001.x1"] {
        assert!(log.path(name).exists(), "{name}");
    }
}

#[test]
fn v_says_what_is_done() {
    let log = Log::new("s100\nn1\n");
    let outcome = log.log(&["-v", "-l", "50"], lines(0..20));
    let said = outcome.err;
    assert!(said.starts_with("svlogd: info: read: log/config\nsvlogd: info: new: log/current\n"), "{said}");
    let rename =
        said.lines().find(|line| line.starts_with("svlogd: info: rename: log/current @4")).expect(&said);
    assert!(rename.contains(".s "), "{rename}");
    assert!(said.contains("svlogd: info: delete: log/@4"), "{said}");
    assert!(said.ends_with("svlogd: info: close: log\n"), "{said}");
}

#[test]
fn the_name_is_told_as_it_was_typed() {
    let log = Log::new("");
    let outcome = run("svlogd").args(&["-v", "./log/"]).dir(log.root.path()).input("").go();
    assert!(outcome.err.contains("svlogd: info: close: ./log/\n"), "{}", outcome.err);
}

#[test]
fn lines_are_sent_by_udp() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let next = || {
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let log = Log::new(&format!("u127.0.0.1:{port}\npX: \n-b*\n"));
    log.logs(&[], "a\nb\nc\n");
    assert_eq!((next(), next()), ("X: a\n".to_owned(), "X: c\n".to_owned()));
    assert_eq!(log.current(), "X: a\nX: c\n");
    let log = Log::new(&format!("U127.0.0.1:{port}\n"));
    log.logs(&["-l", "4"], "only\nabc\n");
    assert_eq!((next(), next()), ("only...\n".to_owned(), "abc\n".to_owned()));
    assert_eq!(log.current(), "");
}

mod ours {
    use super::*;

    fn zcat(path: &std::path::Path) -> Vec<u8> {
        let output = std::process::Command::new("zcat").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn unzipped(log: &Log) -> Vec<u8> {
        let mut all: Vec<u8> = log.old(".s").iter().flat_map(|name| zcat(&log.path(name))).collect();
        all.extend(fs::read(log.path("current")).unwrap());
        all
    }

    #[test]
    fn a_last_line_without_newline_is_kept() {
        let log = Log::new("");
        log.logs(&[], "one\ntwo");
        assert_eq!(log.current(), "one\ntwo\n");
        let log = Log::new("");
        log.logs(&["-l", "4"], "abcdefgh");
        assert_eq!(log.current(), "abcdefgh\n");
    }

    #[test]
    fn the_line_that_is_under_way_when_term_comes_is_kept() {
        let log = Log::new("");
        let (mut svlogd, mut pipe) = log.start(&[]);
        pipe.write_all(b"one\nhal").unwrap();
        eventually("written", || log.current() == "one\n");
        svlogd.signal(SIGTERM);
        pipe.write_all(b"f\nthree\n").unwrap();
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert_eq!(log.current(), "one\nhalf\n");
    }

    #[test]
    fn a_line_that_does_not_end_does_not_hold_up_term() {
        promptly("the end", Duration::from_secs(3), || {
            let log = Log::new("");
            let (mut svlogd, mut pipe) = log.start(&[]);
            pipe.write_all(b"one\nhalf").unwrap();
            eventually("written", || log.current() == "one\n");
            let took = time_of(|| {
                svlogd.signal(SIGTERM);
                assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
            });
            assert_eq!(log.current(), "one\nhalf\n");
            took
        });
    }

    #[test]
    fn a_processor_that_hangs_does_not_hold_up_term_and_its_log_stays() {
        promptly("the end", Duration::from_secs(6), || {
            let log = Log::new("n0\n!sleep 1000\n");
            let (mut svlogd, mut pipe) = log.start(&[]);
            pipe.write_all(b"one\n").unwrap();
            eventually("written", || log.current() == "one\n");
            svlogd.signal(SIGALRM);
            eventually("rotated", || log.old(".u").len() == 1 && log.current().is_empty());
            pipe.write_all(b"two\n").unwrap();
            eventually("written", || log.current() == "two\n");
            let took = time_of(|| {
                svlogd.signal(SIGTERM);
                assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
            });
            assert_eq!(
                (read(log.path(&log.old(".u")[0])).as_str(), log.current().as_str()),
                ("one\n", "two\n")
            );
            took
        });
    }

    #[test]
    fn what_was_not_read_is_left_for_the_next() {
        let log = Log::new("");
        let (read_end, mut write_end) = std::io::pipe().unwrap();
        let start = || {
            let mut command = std::process::Command::new(bin().join("svlogd"));
            command.arg("log").current_dir(log.root.path()).stdin(read_end.try_clone().unwrap());
            command.spawn().unwrap()
        };
        for round in 0..5 {
            let mut svlogd = start();
            eventually("open", || log.path("current").exists() && log.mode("current") == 0o644);
            write_end.write_all(lines(round * 10..round * 10 + 10).as_bytes()).unwrap();
            kill(svlogd.id().try_into().unwrap(), SIGTERM);
            assert_eq!(svlogd.wait().unwrap().code(), Some(0));
        }
        drop(write_end);
        assert!(start().wait().unwrap().success());
        assert_eq!(log.current(), lines(0..50));
    }

    #[test]
    fn standard_input_is_left_as_it_was() {
        let log = Log::new("");
        let (read_end, write_end) = std::io::pipe().unwrap();
        let mut command = std::process::Command::new(bin().join("svlogd"));
        command.arg("log").current_dir(log.root.path()).stdin(read_end.try_clone().unwrap());
        let mut svlogd = command.spawn().unwrap();
        eventually("open", || log.path("current").exists());
        let flags = || rustix::fs::fcntl_getfl(&read_end).unwrap();
        assert!(!flags().contains(rustix::fs::OFlags::NONBLOCK));
        drop(write_end);
        assert!(svlogd.wait().unwrap().success());
        assert!(!flags().contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[test]
    fn a_bad_line_of_config_is_named_and_skipped() {
        let log = Log::new("s100\nwhat is this\nnx\nu1.2.3\nn0\n");
        let outcome = log.log(&["-l", "50"], lines(0..50));
        let expected = "svlogd: warning: log/config:2: unknown: what is this\n\
                        svlogd: warning: log/config:3: not a number: x\n\
                        svlogd: warning: log/config:4: unable to scan ip address: 1.2.3\n";
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), expected));
        assert_eq!(String::from_utf8(log.all()).unwrap(), lines(0..50));
    }

    #[test]
    fn all_surplus_goes_at_once_when_fewer_are_kept() {
        let log = Log::new("s100\nn0\n");
        log.logs(&["-l", "50"], lines(0..200));
        assert!(log.old(".s").len() > 10);
        log.root.file("log/config", "s100\nn2\n");
        log.logs(&["-l", "50"], lines(0..10));
        assert_eq!(log.old(".s").len(), 2);
    }

    #[test]
    fn a_processor_ended_by_a_signal_has_failed() {
        let log = Log::new("n0\n!echo x >>tries; [ $(wc -l <tries) -ge 2 ] || kill -9 $$; cat\n");
        let (svlogd, mut pipe) = log.start(&[]);
        pipe.write_all(b"one\n").unwrap();
        eventually("written", || log.current() == "one\n");
        svlogd.signal(SIGALRM);
        eventually("processed", || log.old(".s").len() == 1 && log.old(".u").is_empty());
        assert_eq!(read(log.path(&log.old(".s")[0])), "one\n");
    }

    #[test]
    fn gzip_compresses_without_help() {
        for config in ["s5000\nn0\n!gzip\n", "s5000\nn0\n!gzip 1\n", "s5000\nn0\n!gzip 9\n"] {
            let log = Log::new(config);
            // Nothing on PATH, and nothing of the kind is needed.
            let outcome = log.svlogd(&["-l", "50"]).env("PATH", "/nowhere").input(lines(0..5000)).go();
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
            assert_eq!((log.old(".u").len(), log.old(".t").len()), (0, 0));
            assert!(log.old(".s").len() > 5);
            assert_eq!(String::from_utf8(unzipped(&log)).unwrap(), lines(0..5000));
            for name in log.old(".s") {
                assert_eq!(log.mode(&name), 0o744);
                assert!(fs::metadata(log.path(&name)).unwrap().len() < 2500);
            }
        }
    }

    #[test]
    fn the_time_of_a_compressed_log_is_that_of_its_last_line() {
        let log = Log::new("n0\n!gzip\n");
        let (svlogd, mut pipe) = log.start(&[]);
        pipe.write_all(b"one\n").unwrap();
        eventually("written", || log.current() == "one\n");
        let written = fs::metadata(log.path("current")).unwrap().modified().unwrap();
        steadily("time passes", Duration::from_millis(300), || true);
        svlogd.signal(SIGALRM);
        eventually("compressed", || log.old(".s").len() == 1 && log.old(".u").is_empty());
        let compressed = fs::metadata(log.path(&log.old(".s")[0])).unwrap().modified().unwrap();
        assert_eq!(compressed, written);
    }

    #[test]
    fn compression_that_was_interrupted_is_taken_up_at_the_next_start() {
        let log = Log::new("n0\n!gzip\n");
        log.root.file("log/@400000000000000000000001.u", "first\n");
        log.root.file("log/@400000000000000000000001.t", "half of a resu");
        log.root.file("log/@400000000000000000000002.u", "second\n");
        log.logs(&[], "third\n");
        assert_eq!((log.old(".u").len(), log.old(".t").len(), log.old(".s").len()), (0, 0, 2));
        assert_eq!(String::from_utf8(unzipped(&log)).unwrap(), "first\nsecond\nthird\n");
    }

    #[test]
    fn a_log_whose_result_is_complete_is_not_there_twice() {
        let log = Log::new("s5000\nn0\n!gzip\n");
        log.logs(&["-l", "50"], lines(0..1000));
        let name = log.old(".s")[0].clone();
        let unprocessed = name.replace(".s", ".u");
        fs::write(log.path(&unprocessed), zcat(&log.path(&name))).unwrap();
        log.logs(&["-l", "50"], "");
        assert_eq!(log.old(".u").len(), 0);
        assert_eq!(String::from_utf8(unzipped(&log)).unwrap(), lines(0..1000));
    }

    #[test]
    fn a_compressor_that_is_killed_loses_nothing() {
        let log = Log::new("s20000\nn0\n!gzip 9\n");
        let (mut svlogd, mut pipe) = log.start(&["-l", "50"]);
        let parent = svlogd.pid();
        let mut killed = 0;
        for number in 0..60 {
            pipe.write_all(lines(number * 1000..number * 1000 + 1000).as_bytes()).unwrap();
            for child in children_of(parent) {
                if killed < 5 {
                    kill(child, SIGKILL);
                    killed += 1;
                }
            }
        }
        drop(pipe);
        // What failed is tried again after a pause, but not once it is ending.
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        log.logs(&["-l", "50"], "");
        assert_eq!(log.old(".u").len(), 0);
        assert_eq!(unzipped(&log), lines(0..60_000).into_bytes());
    }

    #[test]
    fn compression_holds_up_nobody() {
        let log = Log::new("s200000\nn0\n!gzip 1\n");
        let (mut svlogd, mut pipe) = log.start(&[]);
        let mut text = lines(0..200_000).into_bytes();
        let rest = text.split_off(text.len() / 2);
        pipe.write_all(&text).unwrap();
        // All of it is in files while this one, and most of it, still waits to be compressed.
        let mut compressor = None;
        eventually("a compressor that is held up", || {
            if compressor.is_none() && !log.old(".u").is_empty() {
                compressor = compressor_of(&svlogd);
                compressor.inspect(|&pid| kill(pid, SIGSTOP));
            }
            let is_held_up = compressor.is_some_and(|pid| process_state(pid) == Some('T'));
            // It may have ended a moment before.
            compressor = compressor.filter(|&pid| is_held_up || is_alive(pid));
            if log.old(".u").is_empty() {
                pipe.write_all(&text).unwrap();
            }
            is_held_up
        });
        pipe.write_all(&rest).unwrap();
        eventually("written", || log.current().ends_with("\nline 199999\n"));
        assert!(!log.old(".u").is_empty());
        kill(compressor.unwrap(), SIGCONT);
        drop(pipe);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert_eq!(log.old(".u").len(), 0);
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_name_twice_and_keeps_the_order() {
        let log = Log::new("n0\n");
        // Names of a future in which a file has every name of the present second.
        let (svlogd, mut pipe) = log.start(&[]);
        for number in 0..50 {
            pipe.write_all(format!("{number}\n").as_bytes()).unwrap();
            eventually("written", || log.current() == format!("{number}\n"));
            svlogd.signal(SIGALRM);
            eventually("rotated", || log.old(".s").len() == number + 1 && log.current().is_empty());
        }
        let expected: String = (0..50).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(log.all()).unwrap(), expected);
    }

    #[test]
    fn alrm_hup_and_rotation_lose_nothing_over_a_thousand_rotations() {
        let log = Log::new("s4000\nn0\nt1\n");
        let (mut svlogd, mut pipe) = log.start(&["-l", "100"]);
        eventually("open", || log.path("current").exists());
        for part in 0..400 {
            pipe.write_all(lines(part * 1000..part * 1000 + 1000).as_bytes()).unwrap();
            match part % 7 {
                0 => svlogd.signal(SIGALRM),
                3 => svlogd.signal(SIGHUP),
                _ => {}
            }
        }
        drop(pipe);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert!(log.old(".s").len() > 1000, "{}", log.old(".s").len());
        assert_eq!(log.all(), lines(0..400_000).into_bytes());
    }

    #[test]
    fn a_kill_loses_at_most_what_was_read_and_not_written() {
        let log = Log::new("n0\ns100000\n");
        let (read_end, mut write_end) = std::io::pipe().unwrap();
        let writer = std::thread::spawn(move || write_end.write_all(lines(0..1_000_000).as_bytes()));
        let mut kills = 0;
        let start = || {
            let mut command = std::process::Command::new(bin().join("svlogd"));
            command.arg("log").current_dir(log.root.path()).stdin(read_end.try_clone().unwrap());
            command.spawn().unwrap()
        };
        while !writer.is_finished() {
            let mut svlogd = start();
            eventually("at work", || {
                fs::metadata(log.path("current")).is_ok_and(|meta| meta.len() > 0) || writer.is_finished()
            });
            svlogd.kill().unwrap();
            svlogd.wait().unwrap();
            kills += 1;
        }
        writer.join().unwrap().unwrap();
        let mut last = start();
        drop(read_end);
        assert!(last.wait().unwrap().success());
        // Each kill may cost one block and the beginning of a line, and nothing is there twice or out of order.
        let text = String::from_utf8_lossy(&log.all()).into_owned();
        let mut numbers: Vec<usize> =
            text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
        let found = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), found, "a line is there twice");
        let bytes_lost = lines(0..1_000_000).len() - text.len();
        assert!(
            kills > 0 && bytes_lost <= kills * (64 * 1024 + 2000),
            "{bytes_lost} bytes lost in {kills} kills"
        );
    }

    /// A small file system of its own, in a mount namespace: `script` is run in it, with `$svlogd`.
    fn on_small_disk(script: &str) -> (Outcome, TempDir) {
        let root = TempDir::new();
        fs::create_dir(root.join("log")).unwrap();
        let mount = "mount -t tmpfs -o size=200k,mode=755 none log";
        let possible = run_file("/usr/bin/unshare").args(&["-m", "sh", "-c", mount]).dir(root.path()).go();
        needs("root and mount namespaces (unshare -m)", possible.code == Some(0));
        let script = format!("set -e; {mount}; {script}");
        let outcome = run_file("/usr/bin/unshare")
            .args(&["-m", "sh", "-c", &script])
            .env("svlogd", bin().join("svlogd").as_os_str())
            .dir(root.path())
            .go();
        (outcome, root)
    }

    #[test]
    fn a_full_disk_is_waited_for_and_nothing_is_lost() {
        let script = "printf 's0\\n' >log/config; head -c 150000 /dev/zero >log/ballast
            seq 1 20000 >numbers; : >err
            { cat numbers; echo >fed; } | { $svlogd log 2>err; echo $? >code; } &
            while ! grep -q 'pausing: unable to write to current: log: out of disk space' err; do sleep 0.05; done
            [ ! -e code ]; rm log/ballast; wait
            cat code; cmp numbers log/current && echo same; grep -vc pausing err || :";
        let (outcome, _root) = on_small_disk(script);
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("0\nsame\n0\n", ""));
    }

    #[test]
    fn term_ends_the_wait_for_a_full_disk() {
        let script = "printf 's0\\n' >log/config; head -c 190000 /dev/zero >log/ballast
            mkfifo pipe; : >err; $svlogd log <pipe 2>err & pid=$!
            exec 3>pipe; seq 1 20000 >&3 & feeder=$!
            while ! grep -q 'pausing' err; do sleep 0.05; done
            kill $pid; wait $pid && echo ended; kill $feeder 2>/dev/null || :
            grep -c 'bytes not written' err";
        let (outcome, _root) = on_small_disk(script);
        assert_eq!(outcome.out, "ended\n1\n", "{}", outcome.err);
    }

    #[test]
    fn old_logs_go_when_the_disk_is_full() {
        let script = "printf 's20000\\nn50\\nN2\\n' >log/config
            seq 1 100000 | { $svlogd -l 20 log 2>err; echo $?; }
            grep -c '^svlogd: warning: out of disk space, delete: log/@4.*\\.s$' err >/dev/null && echo deleted
            ls log/@*.s | wc -l | { read n; [ $n -ge 2 ] && echo kept; }
            tail -n 1 log/current";
        let (outcome, _root) = on_small_disk(script);
        assert_eq!(outcome.out, "0\ndeleted\nkept\n100000\n", "{}", outcome.err);
    }

    #[test]
    fn capital_l_loses_lines_and_says_how_many() {
        for (options, warned) in [("-L", 0), ("-LL", 1)] {
            let script = format!(
                "printf 's0\\n' >log/config; head -c 150000 /dev/zero >log/ballast
                # More than there is room for on the disk and in the pipe.
                {{ seq 1 40000; : >fed; while ! [ -e freed ]; do sleep 0.05; done; seq 40001 40100; }} | {{ $svlogd {options} log 2>err; echo $?; }} &
                while ! [ -e fed ]; do sleep 0.05; done
                rm log/ballast; : >freed; wait
                kept=$(grep -c '^[0-9]*$' log/current)
                lost=$(sed -n 's/^svlogd: lost \\([0-9]*\\) lines: out of disk space$/\\1/p' log/current | paste -sd+ | sed 's/$/+0/')
                echo $(($kept + $lost)); tail -n 1 log/current; grep -c 'losing lines: log: out of disk space' err || :"
            );
            let (outcome, _root) = on_small_disk(&script);
            assert_eq!(outcome.out, format!("0\n40100\n40100\n{warned}\n"), "{options} {}", outcome.err);
        }
    }

    #[test]
    fn compression_that_finds_the_disk_full_keeps_the_plain_log() {
        let script = "printf 's81000\\nn0\\n!gzip\\n' >log/config
            head -c 80000 /dev/urandom >random; head -c 80000 /dev/zero >log/ballast
            { cat random; echo; printf 'second %01000d\\n' 7; } >input
            mkfifo pipe; : >err; $svlogd log <pipe 2>err & pid=$!
            exec 3>pipe; cat input >&3
            while ! grep -q 'processor failed' err; do sleep 0.05; done
            ls log/@*.u >/dev/null && echo plain
            rm log/ballast; while ls log/@*.u >/dev/null 2>&1; do sleep 0.05; done
            exec 3>&-; wait $pid; { zcat log/@*.s; cat log/current; } | cmp - input && echo same";
        let (outcome, _root) = on_small_disk(script);
        assert_eq!(outcome.out, "plain\nsame\n", "{}", outcome.err);
    }

    #[test]
    fn a_directory_that_becomes_read_only_is_waited_for() {
        needs_root();
        // Nobody may write to it only as long as it is his.
        let owner =
            |log: &Log, uid: u32| std::os::unix::fs::chown(log.root.join("log"), Some(uid), None).unwrap();
        let log = Log::new("s1000\nn0\n");
        owner(&log, 65534);
        let svlogd = bin().join("svlogd");
        let words = ["-u", "nobody", svlogd.to_str().unwrap(), "-l", "50", "log"];
        let run = run_file(bin().join("chpst")).args(&words).dir(log.root.path());
        let (mut svlogd, mut pipe) = run.piped(&log.root.join("err"));
        pipe.write_all(lines(0..200).as_bytes()).unwrap();
        eventually("logged", || log.all() == lines(0..200).into_bytes());
        owner(&log, 0);
        pipe.write_all(lines(200..2000).as_bytes()).unwrap();
        eventually("said", || {
            log.messages().contains("svlogd: pausing: unable to rename current: log: access denied\n")
        });
        // Commands are served meanwhile.
        svlogd.signal(SIGALRM);
        owner(&log, 65534);
        drop(pipe);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert_eq!(log.all(), lines(0..2000).into_bytes());
    }

    fn number(line: &str) -> usize {
        line.strip_prefix("line ")
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("{line:?}"))
    }

    /// What is kept, old logs first, whether they are compressed or not: one piece of the numbered lines. Gives how many
    /// old logs there are and the number of the line that comes next. A last line may have been cut off by a kill.
    #[track_caller]
    fn one_piece(log: &Log) -> (usize, usize) {
        let mut labels: Vec<String> = log.old("").iter().map(|name| name[..25].to_owned()).collect();
        labels.dedup();
        let mut text = Vec::new();
        for label in &labels {
            let path = |ending: &str| log.path(&format!("{label}.{ending}"));
            let bytes = fs::read(path("s")).or_else(|_| fs::read(path("u"))).unwrap();
            text.extend(if bytes.starts_with(&[0x1f, 0x8b]) { zcat(&path("s")) } else { bytes });
        }
        text.extend(fs::read(log.path("current")).unwrap_or_default());
        let mut text = String::from_utf8(text).unwrap();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        let (first, last) = (number(text.lines().next().unwrap()), number(text.lines().last().unwrap()));
        assert!(text == lines(first..last + 1), "not one piece: {first} to {last}, {}", text.lines().count());
        (labels.len(), last + 1)
    }

    #[track_caller]
    fn one_piece_up_to(log: &Log, end: usize) -> usize {
        let (kept, ended) = one_piece(log);
        assert_eq!(ended, end);
        kept
    }

    #[test]
    fn what_is_kept_is_one_piece_when_compression_is_behind() {
        // Compression takes longer than writing, so it falls behind at once.
        for keep in [1, 3] {
            let log = Log::new(&format!("s300000\nn{keep}\n!gzip 9\n"));
            log.logs(&["-l", "50"], lines(0..500_000));
            assert_eq!(one_piece_up_to(&log, 500_000), keep);
            assert_eq!((log.old(".u").len(), log.old(".t").len()), (0, 0));
        }
    }

    #[test]
    fn what_is_kept_is_one_piece_at_every_moment() {
        let mut was_behind = false;
        eventually("compression was slower than writing", || {
            let log = Log::new("s300000\nn3\n!gzip 9\n");
            let (mut svlogd, mut pipe) = log.start(&["-l", "50"]);
            pipe.write_all(lines(0..500_000).as_bytes()).unwrap();
            was_behind |= !log.old(".u").is_empty();
            kill(svlogd.pid(), SIGKILL);
            eventually("killed", || svlogd.ended().is_some());
            let (kept, _) = one_piece(&log);
            // One more where the kill came between a rotation and the removal.
            assert!((3..=4).contains(&kept), "{kept}");
            was_behind
        });
    }

    fn compressor_of(svlogd: &Running) -> Option<i32> {
        children_of(svlogd.pid()).first().copied()
    }

    /// A log that takes long to compress, under way.
    fn compressing() -> (Log, Running, std::io::PipeWriter, i32) {
        let log = Log::new("s0\nn5\n!gzip 9\n");
        let (svlogd, mut pipe) = log.start(&["-v"]);
        let much = lines(0..3_000_000);
        pipe.write_all(much.as_bytes()).unwrap();
        eventually("written", || {
            fs::metadata(log.path("current")).is_ok_and(|meta| meta.len() == much.len() as u64)
        });
        svlogd.signal(SIGALRM);
        let mut child = None;
        eventually("compresses", || {
            child = compressor_of(&svlogd).filter(|_| !log.old(".t").is_empty());
            child.is_some()
        });
        (log, svlogd, pipe, child.unwrap())
    }

    #[test]
    fn hup_while_it_compresses_holds_up_nothing() {
        let (log, mut svlogd, mut pipe, child) = compressing();
        for round in 0..5 {
            svlogd.signal(SIGHUP);
            eventually("opened again", || log.messages().matches("sighangup received").count() == round + 1);
            pipe.write_all(b"more\n").unwrap();
            eventually("written", || log.current() == "more\n".repeat(round + 1));
        }
        assert!(is_alive(child), "compression was over too soon for this case");
        assert_eq!(svlogd.ended(), None);
        assert!(!log.messages().contains("warning"), "{}", log.messages());
    }

    #[test]
    fn the_compressor_has_its_files_and_nothing_else() {
        let (log, mut svlogd, _pipe, child) = compressing();
        let files = || {
            let mut files: Vec<String> = fs::read_dir(format!("/proc/{child}/fd"))
                .map(|dir| dir.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect())
                .unwrap_or_default();
            files.sort();
            files
        };
        eventually("closed", || files() == ["0", "1", "2"]);
        assert_eq!(process_name(child), "gzip");
        assert!(!read(format!("/proc/{child}/cmdline")).contains("svlogd"));
        assert!(read(format!("/proc/{}/cmdline", svlogd.pid())).contains("svlogd"));
        kill(child, SIGHUP);
        kill(child, SIGALRM);
        steadily("HUP and ALRM are nothing to it", Duration::from_millis(200), || is_alive(child));
        // The lock is free as soon as svlogd is gone, and the compressor goes with it.
        kill(svlogd.pid(), SIGKILL);
        eventually("killed", || svlogd.ended().is_some());
        let begin = Instant::now();
        log.root.file("log/config", "s0\nn5\n");
        let outcome = log.log(&[], "after\n");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{:?}", begin.elapsed());
        eventually("the compressor is gone", || !is_alive(child));
    }

    /// Waits longer than a processor is waited for.
    #[track_caller]
    fn after_patience(what: &str, mut seen: impl FnMut() -> bool) {
        let start = Instant::now();
        while !seen() {
            assert!(start.elapsed() < Duration::from_secs(90), "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_processor_that_hangs_or_fails_does_not_stop_the_log_for_ever() {
        let start = |processor: &str| {
            let log = Log::new(&format!("s1000\nn2\n!{processor}\n"));
            let (svlogd, mut pipe) = log.start(&["-l", "50"]);
            let writer =
                std::thread::spawn(move || pipe.write_all(lines(0..20_000).as_bytes()).map(|()| pipe));
            (log, svlogd, writer)
        };
        for (log, svlogd, writer) in [start("sleep 1000"), start("exit 1")] {
            after_patience("all logged", || log.all().ends_with(b"\nline 19999\n"));
            assert_eq!(one_piece_up_to(&log, 20_000), 2);
            let said = log.messages();
            let told = "svlogd: warning: processor takes too long, logging goes on without: log\n";
            assert_eq!(said.matches(told).count(), 1, "{said}");
            assert!(said.contains("svlogd: warning: delete unprocessed: log/@4"), "{said}");
            drop(writer.join().unwrap().unwrap());
            drop(svlogd);
        }
    }

    #[test]
    fn a_slow_processor_holds_up_nobody_as_long_as_its_logs_are_kept() {
        let log = Log::new("s1000\nn8\n!while ! [ -e go ]; do sleep 0.05; done; cat\n");
        let (mut svlogd, mut pipe) = log.start(&["-l", "50"]);
        for part in 0..6 {
            pipe.write_all(lines(part * 80..part * 80 + 80).as_bytes()).unwrap();
            eventually("written", || log.current().ends_with(&format!("line {}\n", part * 80 + 79)));
        }
        assert!(log.old(".u").len() > 3);
        log.root.file("log/go", "");
        drop(pipe);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert_eq!((log.old(".u").len(), log.old(".t").len(), log.messages().as_str()), (0, 0, ""));
        one_piece_up_to(&log, 480);
    }

    #[test]
    fn what_waits_for_a_processor_is_taken_up_at_the_next_start() {
        let log = Log::new("s1000\nn8\n!sleep 1000\n");
        let (mut svlogd, mut pipe) = log.start(&["-l", "50"]);
        pipe.write_all(lines(0..400).as_bytes()).unwrap();
        eventually("written", || log.current().ends_with("line 399\n"));
        svlogd.signal(SIGTERM);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert!(log.old(".u").len() > 2 && log.old(".s").is_empty());
        log.root.file("log/config", "s1000\nn8\n!cat\n");
        log.logs(&["-l", "50"], "");
        assert_eq!((log.old(".u").len(), log.old(".t").len()), (0, 0));
        one_piece_up_to(&log, 400);
    }

    #[test]
    fn term_ends_the_wait_for_a_processor_with_all_written() {
        let log = Log::new("s1000\nn1\n!sleep 1000\n");
        let (mut svlogd, mut pipe) = log.start(&["-l", "50"]);
        pipe.write_all(lines(0..400).as_bytes()).unwrap();
        eventually("waits", || log.old(".u").len() == 1);
        steadily("waits", Duration::from_millis(300), || !log.current().ends_with("line 399\n"));
        svlogd.signal(SIGTERM);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert!(!log.messages().contains("bytes not written"), "{}", log.messages());
        assert_eq!(one_piece_up_to(&log, 400), 1);
    }

    #[test]
    fn a_number_that_does_not_fit_is_the_largest() {
        for config in [
            "t18446744073709551615\n",
            "t18446744073709551615h\ns18446744073709551616m\nn18446744073709551616\nN99999999999999999999\n",
            "s184467440737095516160\nt9223372036854775807m\n",
        ] {
            let log = Log::new(config);
            log.logs(&["-l", "18446744073709551614", "-b", "18446744073709551616"], lines(0..100));
            assert_eq!(log.current(), lines(0..100), "{config:?}");
        }
    }

    #[test]
    fn a_config_that_is_too_long_is_refused_and_one_that_is_not_kept_at_hup() {
        let log = Log::new("pold: \n");
        let (svlogd, mut pipe) = log.start(&[]);
        pipe.write_all(b"1\n").unwrap();
        eventually("written", || log.current() == "old: 1\n");
        log.root.file("log/config", "#\n".repeat(100_000) + "pnew: \n");
        svlogd.signal(SIGHUP);
        eventually("told", || {
            log.messages() == "svlogd: warning: unable to read config: log: file too big\n"
        });
        pipe.write_all(b"2\n").unwrap();
        eventually("written", || log.current() == "old: 1\nold: 2\n");
        fs::remove_file(log.path("config")).unwrap();
        fs::create_dir(log.path("config")).unwrap();
        svlogd.signal(SIGHUP);
        eventually("told", || log.messages().ends_with("unable to read config: log: not a regular file\n"));
        pipe.write_all(b"3\n").unwrap();
        eventually("written", || log.current() == "old: 1\nold: 2\nold: 3\n");
    }

    #[test]
    fn hup_keeps_what_cannot_be_opened_again_and_what_is_not_written() {
        needs_root();
        let log = Log::new("s1000\nn0\n");
        let own = |uid: u32, mode: u32| {
            std::os::unix::fs::chown(log.root.join("log"), Some(uid), None).unwrap();
            fs::set_permissions(log.root.join("log"), fs::Permissions::from_mode(mode)).unwrap();
        };
        own(65534, 0o755);
        let svlogd = bin().join("svlogd");
        let words = ["-u", "nobody", svlogd.to_str().unwrap(), "-v", "-l", "50", "log"];
        let run = run_file(bin().join("chpst")).args(&words).dir(log.root.path());
        let (mut svlogd, mut pipe) = run.piped(&log.root.join("err"));
        pipe.write_all(lines(0..200).as_bytes()).unwrap();
        eventually("logged", || log.all() == lines(0..200).into_bytes());
        own(0, 0o700);
        pipe.write_all(lines(200..2000).as_bytes()).unwrap();
        eventually("said", || {
            log.messages().contains("svlogd: pausing: unable to rename current: log: access denied\n")
        });
        svlogd.signal(SIGHUP);
        eventually("said", || {
            log.messages().contains("svlogd: warning: unable to open log directory: log: access denied\n")
        });
        own(0, 0o755);
        svlogd.signal(SIGHUP);
        steadily("goes on", Duration::from_millis(300), || svlogd.ended().is_none());
        own(65534, 0o755);
        drop(pipe);
        assert_eq!(svlogd.exit_code(), 0, "{}", log.messages());
        assert_eq!(log.all(), lines(0..2000).into_bytes());
    }

    #[test]
    fn hup_keeps_a_directory_that_was_moved_and_tells_what_is_lost_with_one_that_was_removed() {
        let log = Log::new("");
        let (mut svlogd, mut pipe) = log.start(&[]);
        pipe.write_all(b"one\n").unwrap();
        eventually("written", || log.current() == "one\n");
        fs::rename(log.root.join("log"), log.root.join("moved")).unwrap();
        svlogd.signal(SIGHUP);
        eventually("told", || {
            log.messages().contains("unable to open log directory: log: file does not exist")
        });
        pipe.write_all(b"two\n").unwrap();
        eventually("written", || log.root.read("moved/current") == "one\ntwo\n");
        // With a rotation that cannot be done there are lines that are not written.
        fs::remove_dir_all(log.root.join("moved")).unwrap();
        svlogd.signal(SIGALRM);
        eventually("pauses", || log.messages().contains("pausing: unable to rename current"));
        svlogd.signal(SIGHUP);
        assert_eq!(svlogd.exit_code(), 111, "{}", log.messages());
    }

    #[test]
    fn hup_opens_a_current_that_was_moved_away() {
        let log = Log::new("");
        let (svlogd, mut pipe) = log.start(&[]);
        pipe.write_all(b"one\n").unwrap();
        eventually("written", || log.current() == "one\n");
        fs::rename(log.path("current"), log.path("taken")).unwrap();
        svlogd.signal(SIGHUP);
        eventually("a new one", || log.path("current").exists());
        pipe.write_all(b"two\n").unwrap();
        eventually("written", || log.current() == "two\n");
        assert_eq!((read(log.path("taken")).as_str(), log.mode("taken")), ("one\n", 0o744));
    }

    /// The clock was ahead once, or was set back: names of the future are there, and names of no time at all.
    #[test]
    fn a_new_log_is_not_removed_before_those_with_names_of_the_future() {
        for there in [
            &["@40000000f0000000000000ff.s", "@40000000f000000100000000.s", "@40000000f00000013b9ac9ff.u"][..],
            &["@ffffffffffffffffffffffff.s", "@7fffffffffffffff3b9ac9ff.s", "@400000ffffffffffffffffff.s"],
        ] {
            let log = Log::new("s1000\nn3\n");
            for name in there {
                log.root.file(&format!("log/{name}"), "old\n");
            }
            // Each time it starts anew, and knows of the directory only what it sees.
            for part in 0..10 {
                let outcome = log.log(&["-l", "50"], lines(part * 100..part * 100 + 100));
                assert_eq!(outcome.code, Some(0), "{}", outcome.err);
                assert!(log.old("").len() <= 3);
                let all = String::from_utf8(log.all()).unwrap();
                let ours = all.trim_start_matches("old\n");
                assert!(lines(0..part * 100 + 100).ends_with(ours) && !ours.is_empty(), "{ours}");
            }
            assert_eq!(one_piece_up_to(&log, 1000), 3);
        }
    }

    #[test]
    fn under_runsv_both_sides_can_be_restarted_at_random() {
        const LINES: usize = 1_000_000;
        let service = Service::new()
            .script(
                "run",
                &format!(
                    "n=$(cat ../next 2>/dev/null || echo 1); trap stop=1 TERM\n\
                     while [ $n -le {LINES} ]; do seq $n $((n+999)); n=$((n+1000)); echo $n >../next\n\
                     [ -z \"$stop\" ] || exit; done; : >../done; trap - TERM; exec sleep 1000"
                ),
            )
            .script("log/run", "exec svlogd ./main")
            .file("log/main/config", "s1000000\nn0\n")
            .supervised();
        let next = || read(service.root().join("next"));
        let mut restarts = 0;
        while !service.root().join("done").exists() || restarts < 100 {
            for command in ["tu", "tu"] {
                if restarts % 2 == 0 {
                    service.send_log(command)
                } else {
                    service.send(command)
                }
                restarts += 1;
                // Old enough for the next start to be at once, now and then.
                std::thread::sleep(Duration::from_millis(if restarts % 10 == 0 { 1100 } else { 20 }));
            }
            assert!(restarts < 3000, "does not come to an end: {}", next());
        }
        service.send("d");
        eventually("down", || service.is_down());
        let main = service.path().join("log/main");
        let text = || {
            let mut names: Vec<_> =
                fs::read_dir(&main).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.retain(|name| name.to_str().unwrap().starts_with('@'));
            names.sort();
            let mut all: Vec<u8> = names.iter().flat_map(|name| fs::read(main.join(name)).unwrap()).collect();
            all.extend(fs::read(main.join("current")).unwrap());
            String::from_utf8(all).unwrap()
        };
        eventually("all logged", || text().lines().last() == Some(&LINES.to_string()));
        let mut count: BTreeMap<usize, usize> = BTreeMap::new();
        for line in text().lines() {
            *count.entry(line.parse().expect("a torn line")).or_default() += 1;
        }
        assert_eq!(count.len(), LINES, "a line is missing");
        assert!(count.values().all(|&times| times == 1), "a line is there twice");
    }

    #[test]
    fn little_memory_is_taken() {
        let log = Log::new("s1000000\nn3\n");
        let (svlogd, mut pipe) = log.start(&["-tt"]);
        pipe.write_all(lines(0..500_000).as_bytes()).unwrap();
        let smaps = read(format!("/proc/{}/smaps_rollup", svlogd.pid()));
        let kib = |field: &str| -> u64 {
            let line = smaps.lines().find(|line| line.starts_with(field)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let private = kib("Private_Dirty:");
        assert!(private <= 512, "{private} KiB");
        assert!(fs::metadata(log.path("current")).unwrap().size() > 0);
    }
}
