//! `chpst`: whoever is dropped to stays dropped, and what it reads neither waits nor fills the memory.

use std::fs;
use std::os::unix::fs::symlink;

use support::*;

/// Debian's nobody, and games.
const NOBODY: &str = "65534";

/// A program run by way of another, which needs some program to be there.
fn by_way_of(before: &[&str], words: &[&str]) -> Outcome {
    let chpst = program("chpst");
    run_file(format!("/usr/bin/{}", before[0])).args(&before[1..]).arg(chpst).args(words).go()
}

/// `chpst` of somebody without privileges.
fn as_nobody(words: &[&str]) -> Outcome {
    by_way_of(&["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"], words)
}

#[test]
fn ids_that_are_empty_are_nobody_and_not_root() {
    needs_root();
    for option in ["-u", "-U"] {
        for spec in [":", "::", ":::", ":1000:", "::1000", ":1000:44:", ":1000::44", "::0"] {
            let outcome = run("chpst").args(&[option, spec, "id", "-u"]).go();
            let said = format!("chpst: fatal: empty uid or gid: {spec}\n");
            assert_eq!(
                (outcome.code, outcome.out, outcome.err),
                (Some(111), String::new(), said),
                "{option}"
            );
        }
    }
    for spec in ["", "nobody:", "nobody::games", "nobody:games:"] {
        let outcome = run("chpst").args(&["-u", spec, "id", "-u"]).go();
        assert_eq!(outcome.err, format!("chpst: fatal: unknown user/group: {spec}\n"));
    }
}

#[test]
fn no_capability_is_left_to_come_back_with() {
    needs_root();
    let capabilities = |words: &[&str], user: &str| {
        let outcome =
            by_way_of(words, &["-u", user, "grep", "-E", "Cap(Inh|Prm|Eff|Amb)", "/proc/self/status"]);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{words:?}");
        outcome.out
    };
    const WITHOUT: &str = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                           CapAmb:\t0000000000000000\n";
    let all = "+setuid,+setgid,+net_raw";
    let held = ["--inh-caps", all, "--ambient-caps", all];
    // Somebody who is not root but may become anybody keeps that right over setuid(2), and so does root with the
    // secure bit for it.
    let not_root = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"];
    let fixed = ["setpriv", "--securebits", "+no_setuid_fixup"];
    for before in [&not_root[..], &fixed, &["setpriv"]] {
        assert_eq!(capabilities(&[before, &held].concat(), "nobody"), WITHOUT, "{before:?}");
    }
    // Also where nothing else has to change.
    let same = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    assert_eq!(capabilities(&[&same[..], &held].concat(), "nobody"), WITHOUT);
    // Root stays what it was.
    assert_ne!(capabilities(&["setpriv"], "root"), WITHOUT);
    // What all this is about.
    let back = format!("{} -u :0:0 id -u", program("chpst").display());
    let outcome = by_way_of(&[&not_root[..], &held].concat(), &["-u", "nobody", "sh", "-c", &back]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(111), ""), "{outcome:?}");
}

#[test]
fn ids_that_the_system_only_pretends_to_change_are_noticed() {
    needs_root();
    needs_program("strace");
    for (calls, what) in [
        ("setgroups", "groups"),
        ("setgid,setresgid", "gid"),
        ("setuid,setresuid", "uid"),
        ("setgroups,setgid,setresgid,setuid,setresuid", "groups"),
    ] {
        let inject = format!("inject={calls}:retval=0");
        let strace = ["setpriv", "--groups", "0,44", "strace", "-o", "/dev/null", "-e", &inject];
        let outcome = by_way_of(&strace, &["-u", "nobody", "id", "-u"]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(111), ""), "{calls}");
        assert_eq!(outcome.err, format!("chpst: fatal: unable to drop privileges: {what} did not change\n"));
    }
}

#[test]
fn who_one_is_already_one_may_become() {
    needs_root();
    for words in [&["-u", "nobody"][..], &["-u", ":65534:65534"], &["-u", ":65534:65534:65534"]] {
        let outcome = as_nobody(&[words, &["sh", "-c", "id -u; id -G"]].concat());
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("65534\n65534\n", ""), "{words:?}");
    }
    let with_groups = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--groups", "44,65534,60"];
    let same = ["-u", "nobody:nogroup:games:video", "id", "-u"];
    assert_eq!(by_way_of(&with_groups, &same).out, "65534\n");
    // Which of them is the first makes no difference to the list.
    assert_eq!(
        by_way_of(&["setpriv", "--regid", "60", "--groups", "44"], &["-u", ":7:44:60", "id", "-G"]).out,
        "44 60\n"
    );
    // More, or fewer, need a right.
    for spec in ["nobody", "nobody:nogroup:games", "nobody:nogroup:games:video:audio"] {
        let outcome = by_way_of(&with_groups, &["-u", spec, "id", "-u"]);
        assert_eq!(outcome.err, "chpst: fatal: unable to setgroups: permission denied\n");
    }
    assert_eq!(
        as_nobody(&["-u", ":12345:65534", "id"]).err,
        "chpst: fatal: unable to setuid: permission denied\n"
    );
    assert_eq!(as_nobody(&["-u", "root", "id"]).err, "chpst: fatal: unable to setgid: permission denied\n");
}

#[test]
fn all_groups_are_taken_however_many() {
    needs_root();
    let groups: Vec<String> = (1000..1200).map(|gid| gid.to_string()).collect();
    let spec = format!(":12345:{}", groups.join(":"));
    let outcome = run("chpst").args(&["-u", &spec, "id", "-G"]).go();
    assert_eq!((outcome.out, outcome.err.as_str()), (groups.join(" ") + "\n", ""));
}

/// `chpst -e env true`, with memory and time for what is reasonable.
fn reads(root: &TempDir) -> Outcome {
    let words = ["--signal=KILL", "10", "/usr/bin/prlimit", "--as=300000000"];
    run_file("/usr/bin/timeout")
        .args(&words)
        .arg(program("chpst"))
        .args(&["-e", "env", "sh", "-c", "echo ${A-unset}"])
        .dir(root.path())
        .go()
}

#[test]
fn a_variable_that_never_ends_is_said_and_not_waited_for() {
    let root = TempDir::new();
    fs::create_dir(root.join("env")).unwrap();
    let variable = root.join("env/A");
    let refused = |why: &str| {
        let outcome = reads(&root);
        let said = format!("chpst: fatal: unable to read env/A: {why}\n");
        assert_eq!((outcome.code, outcome.err), (Some(111), said));
        fs::remove_file(&variable).unwrap();
    };
    for device in ["/dev/zero", "/dev/full", "/dev/urandom"] {
        symlink(device, &variable).unwrap();
        refused("not a regular file");
    }
    make_fifo(&variable, 0o700);
    refused("not a regular file");
    // A writer that says nothing.
    make_fifo(&variable, 0o700);
    let writer = fs::OpenOptions::new().read(true).write(true).open(&variable).unwrap();
    refused("not a regular file");
    drop(writer);
    fs::write(&variable, vec![b'x'; 128 * 1024 + 1]).unwrap();
    refused("file too big");
    fs::write(&variable, "").unwrap();
    fs::OpenOptions::new().write(true).open(&variable).unwrap().set_len(1 << 40).unwrap();
    refused("file too big");
    // Only the first line is a value, so what follows may be long.
    fs::write(&variable, "one\n").unwrap();
    fs::OpenOptions::new().write(true).open(&variable).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(reads(&root).out, "one\n");
    fs::remove_file(&variable).unwrap();
    // A way to say that a variable is to go.
    symlink("/dev/null", &variable).unwrap();
    assert_eq!(reads(&root).out, "unset\n");
}

#[test]
fn a_directory_of_too_many_variables_is_said() {
    let root = TempDir::new();
    fs::create_dir(root.join("env")).unwrap();
    for number in 0..16_385 {
        fs::write(root.join(&format!("env/V{number}")), "").unwrap();
    }
    let outcome = reads(&root);
    assert_eq!(outcome.err, "chpst: fatal: unable to read directory: env: argument list too long\n");
    // As much as is too long for any program, but not all of it in memory.
    let root = TempDir::new();
    fs::create_dir(root.join("env")).unwrap();
    for number in 0..200 {
        fs::write(root.join(&format!("env/V{number}")), vec![b'x'; 120_000]).unwrap();
    }
    let outcome = reads(&root);
    assert_eq!(outcome.err, "chpst: fatal: unable to read directory: env: argument list too long\n");
}

#[test]
fn a_file_of_users_that_never_ends_is_said_and_not_waited_for() {
    needs_root();
    let root = TempDir::new();
    fs::create_dir(root.join("etc")).unwrap();
    let file = root.join("etc/passwd");
    let refused = |spec: &str, kind: &str, why: &str| {
        let words = ["--signal=KILL", "10", "/usr/bin/prlimit", "--as=300000000"];
        let outcome = run_file("/usr/bin/timeout")
            .args(&words)
            .arg(program("chpst"))
            .args(&["-/", root.path().to_str().unwrap(), "-u", spec, "/bin/true"])
            .go();
        assert_eq!(outcome.err, format!("chpst: fatal: unable to get {kind} file entry: {why}\n"));
    };
    let device = nix::sys::stat::makedev(1, 5);
    nix::sys::stat::mknod(&file, nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRWXU, device)
        .unwrap();
    refused("nobody", "password", "not a regular file");
    fs::remove_file(&file).unwrap();
    make_fifo(&file, 0o700);
    refused("nobody", "password", "not a regular file");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "nobody:x:65534:65534::/:\n").unwrap();
    let group = root.join("etc/group");
    fs::write(&group, "").unwrap();
    fs::OpenOptions::new().write(true).open(&group).unwrap().set_len(1 << 40).unwrap();
    refused("nobody:games", "group", "file too big");
    fs::rename(&group, &file).unwrap();
    refused("nobody", "password", "file too big");
}

#[test]
fn a_lock_that_a_stranger_linked_elsewhere_makes_no_file_there() {
    needs_root();
    let root = TempDir::new();
    let lock = root.join("lock");
    let elsewhere = root.join("elsewhere");
    let outcome = |link: &str| run("chpst").args(&["-l", link, "echo", "locked"]).dir(root.path()).go();
    symlink("elsewhere", &lock).unwrap();
    // Our own are followed as ever.
    assert_eq!(outcome("lock").out, "locked\n");
    fs::remove_file(&elsewhere).unwrap();
    std::os::unix::fs::lchown(&lock, Some(12_345), None).unwrap();
    let refused = outcome("lock");
    assert_eq!(refused.err, "chpst: fatal: unable to open lock: lock: is a symbolic link\n");
    assert!(!elsewhere.exists());
    // Nor is what is there locked.
    fs::write(&elsewhere, "").unwrap();
    assert_eq!(outcome("lock").code, Some(111));
}

#[test]
fn a_script_that_a_stranger_may_change_is_not_read() {
    needs_root();
    let root = TempDir::new();
    let script = root.file("run", "touch made");
    let outcome = || run("chpst").args(&["-@", "run"]).dir(root.path()).go();
    std::os::unix::fs::chown(&script, Some(12_345), None).unwrap();
    let refused = outcome();
    assert_eq!(refused.err, "chpst: fatal: unable to read run: belongs to another user\n");
    assert!(!root.join("made").exists());
    // A link of his own leads to nothing that he could not execute himself.
    symlink("run", root.join("link")).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(12_345), None).unwrap();
    assert_eq!(
        run("chpst").args(&["-@", "link"]).dir(root.path()).go().err,
        refused.err.replace("run:", "link:")
    );
    std::os::unix::fs::chown(&script, Some(0), None).unwrap();
    assert_eq!((outcome().code, root.join("made").exists()), (Some(0), true));
    // The stranger may use those of root.
    let file = root.join("link").display().to_string();
    assert_eq!(as_nobody(&["-@", &file]).err, "touch: cannot touch 'made': Permission denied\n");
}

/// The owner of standard output, as a shell script finds it where that is `chpst --own-output`.
fn owner_of_output(script: &str) -> String {
    let root = TempDir::new();
    let chpst =
        format!("{} -u nobody --own-output stat -L -c %u /proc/self/fd/1", program("chpst").display());
    let shell = root.script("script", &script.replace("CHPST", &chpst));
    let outcome = run_file(shell).dir(root.path()).go();
    assert_eq!(outcome.err, "", "{script}");
    outcome.out
}

#[test]
fn only_a_pipe_of_ones_own_is_given_away() {
    needs_root();
    // Given away: the shell only makes this pipe, and so does runsv.
    assert_eq!(owner_of_output("CHPST | cat"), format!("{NOBODY}\n"));
    assert_eq!(owner_of_output("exec 3>&1; CHPST 2>&1 | cat >&3"), format!("{NOBODY}\n"));
    // The parent writes there, too, so there may be others who do.
    assert_eq!(owner_of_output("CHPST"), "0\n");
    assert_eq!(owner_of_output("{ CHPST; echo another; } | cat"), "0\nanother\n");
    assert_eq!(owner_of_output("{ CHPST; :; } 2>&1 >out; cat out"), "0\n");
    // Files, and a FIFO, have names by which others reach them.
    assert_eq!(owner_of_output("CHPST >out; cat out"), "0\n");
    assert_eq!(owner_of_output("mkfifo f; cat f & CHPST >f; wait"), "0\n");
    // A pipe that a stranger made, and passed to us.
    let (read, write) = std::io::pipe().unwrap();
    std::os::unix::fs::fchown(&write, Some(12_345), None).unwrap();
    let output = std::process::Command::new(program("chpst"))
        .args(["-u", "nobody", "--own-output", "stat", "-L", "-c", "%u", "/proc/self/fd/1"])
        .stdout(write)
        .output()
        .unwrap();
    let said = "chpst: warning: standard output keeps its owner: it belongs to user 12345\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), said);
    assert_eq!(std::io::read_to_string(read).unwrap(), "12345\n");
}

#[test]
fn a_socket_and_a_terminal_keep_their_owner() {
    needs_root();
    needs_program("script");
    let root = TempDir::new();
    let chpst = program("chpst");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let status = std::process::Command::new(&chpst)
        .args(["-v", "-u", "nobody", "--own-output", "true"])
        .stdout(std::os::fd::OwnedFd::from(theirs))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(status.stderr).unwrap(),
        "chpst: warning: standard output keeps its owner: it is not a pipe\n"
    );
    drop(ours);
    let look = format!("{} -u nobody --own-output stat -L -c %u /proc/self/fd/1", chpst.display());
    let outcome = run_file("/usr/bin/script").args(&["-qec", &look, "typescript"]).dir(root.path()).go();
    assert_eq!(outcome.out.trim(), "0");
}
