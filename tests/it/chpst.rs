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
    // Stock takes it for `--`, and runs the program.
    if reference().is_none() {
        is_usage(&["--nosuch", "true"], "chpst: unknown option --nosuch\n");
    }
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

    /// A shell that is nobody's, and has no capabilities.
    fn as_nobody(script: &str) -> Outcome {
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        run_file("/usr/bin/setpriv").args(&nobody).args(&["sh", "-c", script]).go()
    }

    #[test]
    fn stderr_goes_where_stdout_goes_from_the_start() {
        prints(&["--stderr", "sh", "-c", "echo one; echo two >&2"], "one\ntwo\n");
        // Messages of chpst as well.
        let outcome = chpst(&["--stderr", "-u", "no-such-user", "true"]);
        assert_eq!(
            (outcome.out.as_str(), outcome.err.as_str()),
            ("chpst: fatal: unknown user/group: no-such-user\n", "")
        );
        let outcome = chpst(&["-1", "--stderr", "/nowhere/prog"]);
        assert_eq!(outcome.out, "chpst: fatal: unable to run: /nowhere/prog: file does not exist\n");
        let closed = format!("{} --stderr true >&-", program("chpst").display());
        let outcome = run_file("/bin/sh").args(&["-c", &closed]).go();
        let said = "chpst: fatal: unable to put stderr on stdout: file descriptor not open\n";
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), said));
        let closed = format!("{} --stderr sh -c 'echo two >&2' 2>&-", program("chpst").display());
        assert_eq!(run_file("/bin/sh").args(&["-c", &closed]).go().out, "two\n");
    }

    #[test]
    fn umask_is_octal() {
        prints(&["--umask", "027", "sh", "-c", "umask"], "0027\n");
        prints(&["--umask=0", "sh", "-c", "umask"], "0000\n");
        is_usage(&["--umask", "8", "true"], "chpst: --umask: \"8\" is no octal number up to 777\n");
        is_usage(&["--umask", "u=rwx", "true"], "chpst: --umask: \"u=rwx\" is no octal number up to 777\n");
        is_usage(&["--umask"], "chpst: option requires an argument -- umask\n");
    }

    #[test]
    fn of_the_descriptors_those_are_kept_that_are_named() {
        let root = TempDir::new();
        let open = |options: &str| {
            let chpst = program("chpst");
            // A shell closes what it redirects for itself, so another program looks.
            let look = "for f in 3 4 5 6; do [ -e /proc/$$/fd/$f ] && echo $f; done";
            let script = format!(
                "exec 4</dev/null 5</dev/null 6</dev/null; {} {options} sh -c '{look}'",
                chpst.display()
            );
            let outcome = run_file("/bin/sh").args(&["-c", &script]).dir(root.path()).go();
            if outcome.err.is_empty() { outcome.out } else { outcome.err }
        };
        assert_eq!(open(""), "4\n5\n6\n");
        assert_eq!(open("--keep-fd 5"), "5\n");
        assert_eq!(open("--keep-fd 6 --keep-fd 4"), "4\n6\n");
        // The lock is held by a descriptor that chpst has opened.
        assert_eq!(open("--keep-fd 5 -l lock"), "3\n5\n");
        assert_eq!(
            open("--keep-fd 9"),
            "chpst: fatal: unable to keep descriptor 9: file descriptor not open\n"
        );
        for number in ["2", "x", "-1", "", "99999999999"] {
            is_usage(
                &["--keep-fd", number, "true"],
                &format!("chpst: --keep-fd: {number:?} is no number from 3 on\n"),
            );
        }
    }

    #[test]
    fn the_oom_score_is_set_by_who_may() {
        needs_root();
        prints(&["--oom-score", "300", "cat", "/proc/self/oom_score_adj"], "300\n");
        // Root of a container often has no right to lower it.
        let effective = capabilities(&fs::read_to_string("/proc/self/status").unwrap())[2];
        if effective & (1 << 24) != 0 {
            prints(&["--oom-score=-300", "-u", "nobody", "cat", "/proc/self/oom_score_adj"], "-300\n");
        }
        let chpst = program("chpst");
        let score = |score: &str| {
            as_nobody(&format!("{} --oom-score {score} cat /proc/self/oom_score_adj", chpst.display()))
        };
        assert_eq!(score("500").out, "500\n");
        let outcome = score("-500");
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(111), "chpst: fatal: unable to set OOM score: access denied\n")
        );
        is_usage(
            &["--oom-score", "1001", "true"],
            "chpst: --oom-score: \"1001\" is no number from -1000 to 1000\n",
        );
    }

    #[test]
    fn no_new_privileges_needs_no_right() {
        needs_root();
        let show = ["grep", "NoNewPrivs", "/proc/self/status"];
        prints(&[&["-u", "nobody"][..], &show].concat(), "NoNewPrivs:\t0\n");
        prints(&[&["--no-new-privs", "-u", "nobody"][..], &show].concat(), "NoNewPrivs:\t1\n");
        let chpst = program("chpst");
        let outcome = as_nobody(&format!("{} --no-new-privs {}", chpst.display(), show.join(" ")));
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("NoNewPrivs:\t1\n", ""));
    }

    /// The five sets in the order Inh, Prm, Eff, Bnd, Amb, as hexadecimal numbers.
    fn capabilities(status: &str) -> Vec<u64> {
        let sets = status.lines().filter(|line| line.starts_with("Cap"));
        sets.map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn capabilities_are_exactly_those_that_are_named() {
        needs_root();
        let of = |options: &[&str]| {
            let outcome = chpst(&[options, &["cat", "/proc/self/status"]].concat());
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{options:?}");
            capabilities(&outcome.out)
        };
        let all = of(&[])[3];
        let (bind, kill) = (1 << 10, 1 << 5);
        needs("all capabilities but a few", all & (bind | kill) == bind | kill);
        assert_eq!(of(&["-u", "nobody", "--caps", "-all,+net_bind_service"]), [bind; 5]);
        assert_eq!(of(&["-u", "nobody", "--caps=-all,+KILL,+cap_net_bind_service"]), [bind | kill; 5]);
        assert_eq!(of(&["-u", "nobody", "--caps", "-all"]), [0; 5]);
        assert_eq!(of(&["-u", "nobody", "--caps", "-kill"]), [0, 0, 0, all & !kill, 0]);
        assert_eq!(of(&["-u", "nobody", "--caps", "+kill"]), [kill, kill, kill, all, kill]);
        assert_eq!(of(&["-u", "nobody", "--caps", "+all"]), [all; 5]);
        // Root has what is in the bounding set.
        assert_eq!(of(&["--caps", "-all,+kill"]), [kill; 5]);
        assert_eq!(of(&["--caps", "-kill"]), [0, all & !kill, all & !kill, all & !kill, 0]);
        assert_eq!(of(&["-u", "root", "--caps", "-all,+kill"]), [kill; 5]);
        assert_eq!(of(&["-u", "nobody", "--caps", "+setuid", "--no-new-privs"])[2], 1 << 7);
    }

    #[test]
    fn capabilities_that_nobody_has_are_refused() {
        needs_root();
        let chpst = program("chpst");
        let fails = |options: &str, why: &str| {
            let outcome = as_nobody(&format!("{} {options} true", chpst.display()));
            assert_eq!(
                (outcome.code, outcome.err),
                (Some(111), format!("chpst: fatal: {why}\n")),
                "{options}"
            );
        };
        fails("--caps +net_raw", "unable to add capability net_raw: chpst itself does not have it");
        fails("--caps -net_raw", "unable to drop capabilities of the bounding set: permission denied");
        fails("--caps -all", "unable to drop capabilities of the bounding set: permission denied");
        // Those that it has may go on.
        let held = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+kill"];
        let ambient = ["--ambient-caps", "+kill", "--bounding-set", "-all,+kill"];
        let outcome = run_file("/usr/bin/setpriv")
            .args(&held)
            .args(&ambient)
            .arg(&chpst)
            .args(&["-u", "nobody", "--caps", "-all,+kill", "cat", "/proc/self/status"])
            .go();
        assert_eq!((capabilities(&outcome.out), outcome.err.as_str()), (vec![1 << 5; 5], ""));
        for (list, item) in [("kill", "kill"), ("-all,", ""), ("+nothing", "+nothing")] {
            let what = "is not - or + with the name of a capability or all";
            is_usage(&["--caps", list, "true"], &format!("chpst: --caps: {item:?} {what}\n"));
        }
    }

    #[test]
    fn nobody_binds_port_80() {
        needs_root();
        needs_program("perl");
        needs_unshare("-n");
        let bind = "socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(80, INADDR_ANY)) or die \"$!\\n\"; \
                    print \"bound\\n\"";
        let outcome = |options: &[&str]| {
            run_file("/usr/bin/unshare")
                .args(&["-n"])
                .arg(program("chpst"))
                .args(options)
                .args(&["-u", "nobody", "perl", "-MSocket", "-e", bind])
                .go()
        };
        assert_eq!(outcome(&["--caps", "-all,+net_bind_service"]).out, "bound\n");
        assert_eq!(outcome(&["--caps", "-all,+kill"]).err, "Permission denied\n");
        assert_eq!(outcome(&[]).err, "Permission denied\n");
    }

    /// A service of this runsv that opens its standard output, and starts again; what it logs.
    fn opens_its_output(runsv: &std::path::Path, options: &str) -> String {
        let root = TempDir::new();
        let chpst = program("chpst");
        let open = "echo opened >/dev/stdout; echo too >/dev/stderr; echo end; exec sleep 1000";
        let run = format!("exec {} --stderr -u nobody {options} sh -c '{open}'", chpst.display());
        root.script("s/run", &run);
        root.script("s/log/run", "exec cat >>out");
        let mut runsv = run_file(runsv).arg("s").dir(root.path()).start(&root.join("err"));
        let control = root.join("s/supervise/control");
        let ends = |count| root.read("s/log/out").matches("end\n").count() == count;
        eventually("logged", || ends(1));
        send(&control, "t");
        eventually("logged", || ends(2));
        send(&control, "x");
        runsv.exit_code();
        root.read("s/log/out")
    }

    #[test]
    fn a_service_opens_its_own_output() {
        needs_root();
        // The pipe is the user's already when the service starts again.
        let all = "opened\ntoo\nend\n".repeat(2);
        assert_eq!(opens_its_output(&program("runsv"), "--own-output"), all);
        is_usage(&["--own-output", "true"], "chpst: --own-output: there is no -u\n");
    }

    #[test]
    fn a_service_of_stock_runsv_opens_its_own_output() {
        needs_root();
        needs_stock("runsv");
        let stock = std::path::Path::new("/usr/bin/runsv");
        assert_eq!(opens_its_output(stock, "--own-output"), "opened\ntoo\nend\n".repeat(2));
        // Root alone can open what it has made.
        let without = opens_its_output(stock, "");
        assert!(without.contains("Permission denied") && !without.contains("opened"), "{without}");
    }
}
