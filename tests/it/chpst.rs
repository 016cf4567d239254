use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use support::*;

const SYNOPSIS: &str = "[-vVP012] [-u user[:group]] [-U user[:group]] [-b argv0] [-e dir] [-/ root] [-C pwd] [-n nice] \
                        [-l|-L lock] [-m n] [-d n] [-o n] [-p n] [-f n] [-c n] [-t n] prog";
const SYNOPSIS_2_1_2: &str = "[-vVP012] [-u user[:group]] [-U user[:group]] [-b argv0] [-e dir] [-/ root] [-n nice] \
                              [-l|-L lock] [-m n] [-d n] [-o n] [-p n] [-f n] [-c n] prog";

fn synopsis() -> &'static str {
    differs(SYNOPSIS, SYNOPSIS_2_1_2, "the usage of 2.2.0 and later")
}

/// `chpst` with these words.
fn chpst(words: &[&str]) -> Outcome {
    run("chpst").args(words).go()
}

#[track_caller]
fn prints(words: &[&str], expected: &str) {
    let outcome = chpst(words);
    assert_eq!(
        (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
        (Some(0), expected, ""),
        "{words:?}"
    );
}

#[track_caller]
fn fails(words: &[&str], expected: &str) {
    let outcome = chpst(words);
    assert_eq!((outcome.code, outcome.err), (Some(111), format!("chpst: fatal: {expected}\n")), "{words:?}");
}

#[track_caller]
fn is_usage(words: &[&str], before: &str) {
    let outcome = chpst(words);
    let usage = outcome.err.strip_prefix(before).expect(&outcome.err);
    assert!(usage.starts_with("usage: chpst [-v") && usage.ends_with(" prog\n\n"), "{usage}");
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(100), ""));
}

#[test]
fn no_program_is_wrong_usage() {
    let outcome = chpst(&[]);
    if reference().is_none() {
        assert_eq!(outcome.err, format!("usage: chpst {}\n\n", synopsis()));
    }
    is_usage(&[], "");
    is_usage(&["-v"], "");
    is_usage(&["--"], "");
}

#[test]
fn an_unknown_option_is_said() {
    is_usage(&["-x", "true"], "chpst: illegal option -- x\n");
}

#[test]
fn a_missing_argument_is_said() {
    is_usage(&["-u"], "chpst: option requires an argument -- u\n");
}

#[test]
fn bad_numbers_are_wrong_usage() {
    for words in [["-o", "1x"], ["-m", "-1"], ["-n", "x"], ["-f", "0x10"], ["-d", " 1"]] {
        is_usage(&[words[0], words[1], "true"], "");
    }
}

#[test]
fn two_locks_are_wrong_usage() {
    is_usage(&["-l", "a", "-L", "b", "true"], "");
}

#[test]
fn the_exit_code_is_that_of_the_program() {
    for code in ["0", "1", "100", "111", "255"] {
        assert_eq!(chpst(&["sh", "-c", &format!("exit {code}")]).code, code.parse().ok());
    }
}

#[test]
fn options_after_the_program_are_its_own() {
    prints(&["echo", "-v", "--", "-u"], "-v -- -u\n");
    prints(&["--", "echo", "x"], "x\n");
}

#[test]
fn a_missing_program_is_said() {
    fails(&["/nowhere/prog"], "unable to run: /nowhere/prog: file does not exist");
    fails(&["no-such-program-anywhere"], "unable to run: no-such-program-anywhere: file does not exist");
}

#[test]
fn a_program_that_cannot_be_executed_is_said() {
    let root = TempDir::new();
    let prog = root.file("prog", "x");
    let prog = prog.to_str().unwrap();
    fails(&[prog], &format!("unable to run: {prog}: access denied"));
    fs::set_permissions(prog, fs::Permissions::from_mode(0o755)).unwrap();
    fails(&[prog], &format!("unable to run: {prog}: exec format error"));
}

#[test]
fn path_is_searched_in_order() {
    let root = TempDir::new();
    root.file("one/prog", "not executable");
    root.script("two/prog", "echo two");
    root.script("three/prog", "echo three");
    let path = |dirs: &[&str]| {
        dirs.iter().map(|dir| root.join(dir).display().to_string()).collect::<Vec<_>>().join(":")
    };
    let outcome = run("chpst").arg("prog").env("PATH", path(&["one", "none", "two", "three"])).go();
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "two\n"));
    let outcome = run("chpst").arg("prog").env("PATH", path(&["one", "none"])).go();
    assert_eq!(outcome.err, "chpst: fatal: unable to run: prog: access denied\n");
}

#[test]
fn an_empty_path_element_is_the_current_directory() {
    let root = TempDir::new();
    root.script("prog", "echo here");
    let outcome = run("chpst").arg("prog").env("PATH", "/nowhere::/nowhere").dir(root.path()).go();
    assert_eq!(outcome.out, "here\n");
}

#[test]
fn without_path_the_usual_directories_are_searched() {
    let outcome = run("chpst").args(&["sh", "-c", "echo yes"]).without_env().go();
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "yes\n"));
}

#[test]
fn b_sets_the_name() {
    let outcome = chpst(&["-b", "name", "cat", "/proc/self/cmdline"]);
    assert_eq!(outcome.out, "name\0/proc/self/cmdline\0");
    fails(&["-b", "name", "/nowhere/prog"], "unable to run: name: file does not exist");
}

#[test]
fn e_sets_removes_and_empties() {
    let root = TempDir::new();
    root.file("env/SET", "one\ntwo\n");
    root.file("env/TRIMMED", " a b \t \n");
    root.file("env/EMPTY", "\n");
    root.file("env/GONE", "");
    root.file("env/NUL", "a\0b\n");
    root.file("env/DOS", "x\r\n");
    root.file("env/LAST", "no newline");
    root.file("env/.HIDDEN", "x");
    let outcome = run("chpst")
        .args(&["-e", "env", "env", "-0"])
        .env("GONE", "x")
        .env("KEPT", "y")
        .env("SET", "old")
        .dir(root.path())
        .go();
    let mut entries: Vec<&str> =
        outcome.out.split_terminator('\0').filter(|entry| !entry.starts_with("PATH=")).collect();
    entries.sort_unstable();
    assert_eq!(
        entries,
        ["DOS=x\r", "EMPTY=", "KEPT=y", "LAST=no newline", "NUL=a\nb", "SET=one", "TRIMMED= a b"]
    );
}

#[test]
fn a_long_value_is_taken_whole() {
    let root = TempDir::new();
    let value = "x".repeat(100_000);
    root.file("env/LONG", &value);
    let outcome = run("chpst").args(&["-e", "env", "sh", "-c", "echo ${#LONG}"]).dir(root.path()).go();
    assert_eq!(outcome.out, "100000\n");
}

#[test]
fn a_directory_in_an_environment_directory_is_skipped() {
    let root = TempDir::new();
    root.file("env/sub/x", "");
    let go = |options: &str| run("chpst").args(&[options, "env", "true"]).dir(root.path()).go();
    assert_eq!((go("-e").code, go("-e").err.as_str()), (Some(0), ""));
    assert_eq!(go("-ve").err, "chpst: warning: unable to read env/sub: is a directory\n");
}

#[test]
fn a_missing_environment_directory_is_said() {
    fails(&["-e", "/nowhere", "true"], "unable to switch to directory: /nowhere: file does not exist");
}

#[test]
fn the_path_that_is_searched_is_the_old_one() {
    let root = TempDir::new();
    root.file("env/PATH", "/nowhere");
    let outcome = run("chpst").args(&["-e", "env", "sh", "-c", "echo $PATH"]).dir(root.path()).go();
    assert_eq!(outcome.out, "/nowhere\n");
}

#[test]
fn u_takes_user_and_group_from_the_database() {
    needs_root();
    // Debian: nobody is 65534 in group 65534, and games is group 60.
    prints(&["-u", "nobody", "sh", "-c", "id -u; id -g; id -G"], "65534\n65534\n65534\n");
    prints(&["-u", "nobody:games", "sh", "-c", "id -u; id -g; id -G"], "65534\n60\n60\n");
    prints(&["-u", "nobody:games:video", "sh", "-c", "id -g; id -G"], "60\n60 44\n");
}

#[test]
fn u_takes_numbers_after_a_colon() {
    needs_root();
    prints(&["-u", ":1234:5678", "sh", "-c", "id -u; id -g; id -G"], "1234\n5678\n5678\n");
    prints(&["-u", ":1:2:3:4", "sh", "-c", "id -g; id -G"], "2\n2 3 4\n");
}

#[test]
fn unknown_users_and_groups_are_said() {
    fails(&["-u", "no-such-user", "true"], "unknown user/group: no-such-user");
    fails(&["-u", "nobody:no-such-group", "true"], "unknown user/group: nobody:no-such-group");
    fails(&["-u", "1000:1000", "true"], "unknown user/group: 1000:1000");
    fails(&["-U", "no-such-user", "true"], "unknown user/group: no-such-user");
}

#[test]
fn ids_that_are_none_are_said() {
    fails(&["-u", ":x:1", "true"], "invalid uid/gids: x:1");
    fails(&["-u", ":1", "true"], "invalid uid/gids: 1");
    fails(&["-u", ":1:1x", "true"], "invalid uid/gids: 1:1x");
}

#[test]
fn capital_u_sets_the_environment_only() {
    needs_root();
    prints(&["-U", "nobody:games", "sh", "-c", "echo $UID $GID $(id -u)"], "65534 60 0\n");
}

#[test]
fn capital_u_comes_after_the_environment_directory() {
    let root = TempDir::new();
    root.file("env/UID", "7");
    let outcome =
        run("chpst").args(&["-U", ":5:6", "-e", "env", "sh", "-c", "echo $UID $GID"]).dir(root.path()).go();
    assert_eq!(outcome.out, "5 6\n");
}

#[test]
fn n_changes_the_nice_level() {
    needs_root();
    prints(&["-n", "5", "nice"], "5\n");
    prints(&["-n", "+3", "nice"], "3\n");
    prints(&["-n", "", "nice"], "0\n");
    prints(&["-n", "-2", "-u", "nobody", "nice"], "-2\n");
}

#[test]
fn limits_are_soft_limits() {
    prints(&["-o", "33", "sh", "-c", "ulimit -Sn"], "33\n");
    prints(&["-c", "1024", "sh", "-c", "ulimit -Sc"], "2\n");
    prints(&["-f", "5120", "sh", "-c", "ulimit -Sf"], "10\n");
    prints(&["-t", "77", "sh", "-c", "ulimit -St"], "77\n");
    prints(&["-p", "4321", "sh", "-c", "ulimit -Sp"], "4321\n");
    let hard = run_file("/bin/sh").args(&["-c", "ulimit -Hn"]).go().out;
    prints(&["-o", "33", "sh", "-c", "ulimit -Hn"], &hard);
}

#[test]
fn m_limits_four_kinds_of_memory() {
    let script = "ulimit -Sd; ulimit -Ss; ulimit -Sl; ulimit -Sv";
    prints(
        &["-m", "104857600", "sh", "-c", script],
        "102400\n102400\n102400\n102400\n"
            .replace("102400\n102400\n102400\n102400\n", &m_expected())
            .as_str(),
    );
}

/// Locked memory has a hard limit that may be lower.
fn m_expected() -> String {
    let hard = run_file("/bin/sh").args(&["-c", "ulimit -Hl"]).go().out;
    let locked = hard.trim().parse::<u64>().map_or(102_400, |hard| hard.min(102_400));
    format!("102400\n102400\n{locked}\n102400\n")
}

#[test]
fn a_limit_above_the_hard_one_is_the_hard_one() {
    let hard = run_file("/bin/sh").args(&["-c", "ulimit -Hn"]).go().out;
    prints(&["-o", "1000000000", "sh", "-c", "ulimit -Sn"], &hard);
    prints(&["-o", "18446744073709551615", "sh", "-c", "ulimit -Sn"], &hard);
}

#[test]
fn the_later_limit_holds() {
    prints(&["-o", "33", "-o", "44", "sh", "-c", "ulimit -Sn"], "44\n");
}

#[test]
fn root_is_changed_before_the_user_is_looked_up() {
    needs_root();
    let root = TempDir::new();
    fs::create_dir_all(root.join("etc")).unwrap();
    root.file("etc/passwd", "inside:x:4711:4712::/:\n");
    root.file("etc/group", "inside:x:4712:\n");
    // Nothing can be run in it, which comes after all else.
    let outcome = chpst(&["-/", root.path().to_str().unwrap(), "-u", "inside", "/bin/true"]);
    assert_eq!(outcome.err, "chpst: fatal: unable to run: /bin/true: file does not exist\n");
    let outcome = chpst(&["-/", root.path().to_str().unwrap(), "-u", "nobody", "/bin/true"]);
    assert_eq!(outcome.err, "chpst: fatal: unknown user/group: nobody\n");
}

#[test]
fn a_missing_root_is_said() {
    fails(&["-/", "/nowhere", "true"], "unable to change directory: /nowhere: file does not exist");
}

#[test]
fn a_lock_is_held_by_the_program() {
    let root = TempDir::new();
    let lock = root.join("lock");
    let lock = lock.to_str().unwrap();
    let script = format!("{} -L {lock} true; echo $?", bin().join("chpst").display());
    let outcome = chpst(&["-l", lock, "sh", "-c", &script]);
    assert_eq!(
        (outcome.out, outcome.err),
        ("111\n".to_owned(), format!("chpst: fatal: unable to lock: {lock}: temporary failure\n"))
    );
    prints(&["-L", lock, "echo", "free"], "free\n");
    assert_eq!(fs::metadata(lock).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_lock_is_waited_for() {
    let root = TempDir::new();
    let script = format!(
        "{0} -l lock sh -c 'echo has; >has; sleep 0.4; echo leaves' & while [ ! -e has ]; do sleep 0.01; done\n\
         {0} -l lock echo next; wait",
        bin().join("chpst").display()
    );
    let outcome = run_file("/bin/sh").args(&["-c", &script]).dir(root.path()).go();
    assert_eq!(outcome.out, "has\nleaves\nnext\n");
}

#[test]
fn a_lock_that_cannot_be_opened_is_said() {
    fails(&["-l", "/nowhere/lock", "true"], "unable to open lock: /nowhere/lock: file does not exist");
}

#[test]
fn p_makes_a_session() {
    let outcome = chpst(&["-P", "sh", "-c", "cut -d' ' -f1,6 /proc/$$/stat"]);
    let ids: Vec<&str> = outcome.out.split_whitespace().collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn descriptors_are_closed() {
    let open = |words: &[&str]| {
        // What the shell redirects is its own; the descriptors are those of its child.
        let root = TempDir::new();
        let all: Vec<&str> = words
            .iter()
            .copied()
            .chain(["sh", "-c", "for f in 0 1 2; do [ -e /proc/$$/fd/$f ] && echo $f >>open; done"])
            .collect();
        run("chpst").args(&all).dir(root.path()).go();
        root.read("open")
    };
    assert_eq!(open(&[]), "0\n1\n2\n");
    assert_eq!(open(&["-0"]), "1\n2\n");
    assert_eq!(open(&["-1"]), "0\n2\n");
    assert_eq!(open(&["-2"]), "0\n1\n");
    assert_eq!(open(&["-012"]), "");
}

#[test]
fn what_is_closed_already_cannot_be_closed() {
    let chpst = bin().join("chpst");
    let script = format!("{} -0 {} -0 true 2>&1", chpst.display(), chpst.display());
    let outcome = run_file("/bin/sh").args(&["-c", &script]).go();
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (Some(111), "chpst: fatal: unable to close stdin: file descriptor not open\n")
    );
}

#[test]
fn an_ignored_sigpipe_stays_ignored_and_no_other() {
    const SHOW: &str = "grep SigIgn /proc/self/status";
    let chpst = bin().join("chpst");
    for (trap, shows) in [("trap '' PIPE; ", true), ("", false)] {
        let script = format!("{trap}{} sh -c '{SHOW}'", chpst.display());
        let outcome = run_file("/bin/sh").args(&["-c", &script]).go();
        let ignored = u64::from_str_radix(outcome.out.trim_start_matches("SigIgn:").trim(), 16).unwrap();
        assert_eq!(ignored & (1 << 12) != 0, shows, "{}", outcome.out);
    }
}

#[test]
fn words_that_are_no_utf_8_are_passed_on() {
    use std::os::unix::ffi::OsStrExt;
    let word = std::ffi::OsStr::from_bytes(b"a\xff\xfe");
    let outcome = run("chpst").args(&["sh", "-c", "printf %s \"$1\" | od -An -tx1", "x"]).arg(word).go();
    assert_eq!(outcome.out.trim(), "61 ff fe");
}

/// An alias of chpst: a link to it, as users make them; Debian's package has none.
fn alias(root: &TempDir, name: &str) -> Run {
    let file = root.join(name);
    if !file.exists() {
        symlink(bin().join("chpst"), &file).unwrap();
    }
    run_file(&file)
}

#[track_caller]
fn alias_usage(name: &str, words: &[&str], expected: &str) {
    let root = TempDir::new();
    let outcome = alias(&root, name).args(words).go();
    assert_eq!(
        (outcome.code, outcome.err),
        (Some(100), format!("usage: {expected}\n\n")),
        "{name} {words:?}"
    );
}

#[test]
fn the_other_names_have_their_usage() {
    alias_usage("envdir", &["dir"], "envdir dir child");
    alias_usage("denvdir", &[], "envdir dir child");
    alias_usage("envuidgid", &["nobody"], "envuidgid account child");
    alias_usage("setuidgid", &[], "setuidgid account child");
    alias_usage("pgrphack", &[], "pgrphack child");
    alias_usage("setlock", &["file"], "setlock [ -nNxX ] file program [ arg ... ]");
    alias_usage(
        "softlimit",
        &[],
        "softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes] \
         [-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] [-t cpusecs] child",
    );
}

#[test]
fn setuidgid_takes_an_account() {
    needs_root();
    let root = TempDir::new();
    let outcome = alias(&root, "setuidgid").args(&["nobody", "sh", "-c", "id -u; id -G"]).go();
    assert_eq!(outcome.out, "65534\n65534\n");
    let outcome = alias(&root, "setuidgid").args(&["nobody:games", "true"]).go();
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(111), "chpst: fatal: unknown account: nobody:games\n")
    );
}

#[test]
fn envuidgid_sets_the_environment() {
    needs_root();
    let root = TempDir::new();
    let outcome = alias(&root, "envuidgid").args(&["nobody", "sh", "-c", "echo $UID $GID $(id -u)"]).go();
    assert_eq!(outcome.out, "65534 65534 0\n");
    let outcome = alias(&root, "envuidgid").args(&["nobodyy", "true"]).go();
    assert_eq!(outcome.err, "chpst: fatal: unknown account: nobodyy\n");
}

#[test]
fn envdir_does_not_skip_directories() {
    let root = TempDir::new();
    root.file("env/sub/x", "");
    let outcome = alias(&root, "envdir").args(&["env", "true"]).dir(root.path()).go();
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(111), "chpst: fatal: unable to read env/sub: is a directory\n")
    );
    root.file("ok/A", "1");
    let outcome = alias(&root, "envdir").args(&["ok", "sh", "-c", "echo $A"]).dir(root.path()).go();
    assert_eq!(outcome.out, "1\n");
}

#[test]
fn pgrphack_makes_a_session() {
    let root = TempDir::new();
    let outcome = alias(&root, "pgrphack").args(&["sh", "-c", "cut -d' ' -f1,6 /proc/$$/stat"]).go();
    let ids: Vec<&str> = outcome.out.split_whitespace().collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn softlimit_knows_all_and_equals() {
    let root = TempDir::new();
    let hard = run_file("/bin/sh").args(&["-c", "ulimit -Hn"]).go().out;
    let outcome =
        alias(&root, "softlimit").args(&["-o", "33", "-t", "7", "sh", "-c", "ulimit -Sn; ulimit -St"]).go();
    assert_eq!(outcome.out, "33\n7\n");
    let outcome = alias(&root, "softlimit").args(&["-o", "=", "sh", "-c", "ulimit -Sn"]).go();
    assert_eq!(outcome.out, hard);
    let outcome = alias(&root, "softlimit")
        .args(&["-a", "200000000", "-s", "1048576", "sh", "-c", "ulimit -Sv; ulimit -Ss"])
        .go();
    assert_eq!(outcome.out, "195312\n1024\n");
}

#[test]
fn softlimit_answers_a_bad_number_with_the_usage_of_chpst() {
    let root = TempDir::new();
    let outcome = alias(&root, "softlimit").args(&["-o", "1x", "true"]).go();
    assert_eq!(outcome.code, Some(100));
    assert!(
        outcome.err.starts_with("usage: softlimit [-v") && outcome.err.ends_with(" prog\n\n"),
        "{}",
        outcome.err
    );
}

#[test]
fn setlock_gives_up_or_not() {
    let root = TempDir::new();
    let locked = |options: &[&str]| {
        let holder =
            run("chpst").args(&["-l", "lock", "sleep", "1000"]).dir(root.path()).start(&root.join("err"));
        eventually("held", || {
            run("chpst").args(&["-L", "lock", "true"]).dir(root.path()).go().code == Some(111)
        });
        let outcome = alias(&root, "setlock").args(options).args(&["lock", "true"]).dir(root.path()).go();
        holder.signal(SIGKILL);
        let mut holder = holder;
        eventually("free", || holder.ended().is_some());
        outcome
    };
    let fails_at_once = differs("-n", "-N", "daemontools' meaning; stock has -n and -N the wrong way round");
    let failed = locked(&[fails_at_once]);
    assert_eq!(
        (failed.code, failed.err.as_str()),
        (Some(111), "chpst: fatal: unable to lock: lock: temporary failure\n")
    );
    let quiet = locked(&[fails_at_once, "-x"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
    let free = alias(&root, "setlock").args(&["lock", "echo", "got it"]).dir(root.path()).go();
    assert_eq!(free.out, "got it\n");
}

#[test]
fn setlock_is_quiet_about_a_missing_program_with_x() {
    let root = TempDir::new();
    let go =
        |option: &str| alias(&root, "setlock").args(&[option, "lock", "/nowhere/prog"]).dir(root.path()).go();
    assert_eq!((go("-x").code, go("-x").err.as_str()), (Some(0), ""));
    assert_eq!(
        (go("-X").code, go("-X").err.as_str()),
        (Some(111), "chpst: fatal: unable to run: /nowhere/prog: file does not exist\n")
    );
}

mod ours {
    use super::*;

    #[test]
    fn capital_c_changes_the_directory() {
        let root = TempDir::new();
        let path = fs::canonicalize(root.path()).unwrap();
        prints(&["-C", path.to_str().unwrap(), "pwd"], &format!("{}\n", path.display()));
        fails(&["-C", "/nowhere", "true"], "unable to change directory: /nowhere: file does not exist");
    }

    #[test]
    fn capital_n_puts_all_three_on_dev_null() {
        let root = TempDir::new();
        let script = "for f in 0 1 2; do readlink /proc/$$/fd/$f >>fds; done; echo lost; echo lost >&2";
        let outcome = run("chpst").args(&["-N", "sh", "-c", script]).dir(root.path()).go();
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("", ""));
        assert_eq!(root.read("fds").lines().next(), Some("/dev/null"));
        assert_eq!(root.read("fds").lines().nth(2), Some("/dev/null"));
    }

    #[test]
    fn a_program_that_cannot_be_run_is_said_with_2_too() {
        fails(&["-2", "/nowhere/prog"], "unable to run: /nowhere/prog: file does not exist");
        fails(&["-N", "/nowhere/prog"], "unable to run: /nowhere/prog: file does not exist");
    }

    #[test]
    fn a_link_that_leads_nowhere_changes_no_variable() {
        let root = TempDir::new();
        root.file("env/A", "1");
        symlink("none", root.join("env/B")).unwrap();
        let outcome = run("chpst")
            .args(&["-e", "env", "sh", "-c", "echo $A-$B"])
            .env("B", "kept")
            .dir(root.path())
            .go();
        assert_eq!(outcome.out, "1-kept\n");
    }

    #[test]
    fn huge_ids_are_refused_and_not_wrapped() {
        fails(&["-u", ":4294967296:1", "true"], "invalid uid/gids: 4294967296:1");
        fails(&["-u", ":1:4294967295", "true"], "invalid uid/gids: 1:4294967295");
    }

    #[test]
    fn the_largest_limits_are_the_hard_limit() {
        let hard = run_file("/bin/sh").args(&["-c", "ulimit -Hn"]).go().out;
        prints(&["-o", "9223372036854775808", "sh", "-c", "ulimit -Sn"], &hard);
    }

    #[test]
    fn a_path_element_that_is_no_directory_is_skipped() {
        let root = TempDir::new();
        root.file("file", "");
        root.script("two/prog", "echo two");
        let path = format!("{}:{}", root.join("file").display(), root.join("two").display());
        let outcome = run("chpst").arg("prog").env("PATH", path).go();
        assert_eq!(outcome.out, "two\n", "{}", outcome.err);
    }
}
