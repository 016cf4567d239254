//! `svctl why`: each cause is made for real, and named.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{svctl, svctl_in};
use support::*;

/// Waits until `svctl why` has these words as cause, and these in what mends it.
#[track_caller]
fn because(tree: &Tree, name: &str, cause: &str, mend: &str) {
    let mut out = String::new();
    let is_told = holds_soon(|| {
        out = svctl_in(tree).args(&["why", name]).go().out;
        let found = out.lines().find_map(|line| line.strip_prefix("  cause: ")).unwrap_or_default();
        let mended = out.lines().find_map(|line| line.strip_prefix("  mend: ")).unwrap_or_default();
        found.contains(cause) && mended.contains(mend)
    });
    assert!(is_told, "not {cause}, {mend}:\n{out}");
}

/// A tree with a service of this run script under each supervisor.
fn with_run(run: &str, case: impl Fn(&Tree, bool)) {
    under_any_supervisor(|tree, is_stock| {
        tree.define("web", run);
        tree.link("web");
        tree.start();
        case(tree, is_stock);
    });
}

#[test]
fn nothing_is_wrong_with_what_is_up() {
    with_run("exec sleep 1000", |tree, _| {
        eventually("up", || tree.is_up("web"));
        let outcome = svctl_in(tree).args(&["why", "web"]).go();
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.out.ends_with("  nothing is wrong\n"), "{}", outcome.out);
        assert!(outcome.out.contains("\n  supervisor: runsv"), "{}", outcome.out);
    });
}

#[test]
fn a_service_may_have_no_supervisor() {
    let tree = Tree::new();
    let service = tree.root.join("service");
    tree.sleeper("web");
    because(&tree, "web", &format!("no runsvdir serves {}: start it", service.display()), "");
    tree.define("web/log", "exec cat");
    because(&tree, "web/log", &format!("no runsvdir serves {}: start it", service.display()), "");
    symlink("/nonexistent/db", tree.root.join("service/db")).unwrap();
    because(&tree, "db", "it is a link to /nonexistent/db, which is not there", "");
    because(&tree, "nosuch", "has no service of this name", "");
    tree.define("new", "exec sleep 1000");
    let outcome = svctl_in(&tree).args(&["why", "new"]).env("SVSRC", tree.root.join("sv")).go();
    assert!(outcome.out.ends_with("\n  cause: it is not enabled\n  mend: svctl enable new\n"), "{outcome:?}");
    let outcome = svctl().args(&["-d", "/nonexistent", "why", "web"]).go();
    assert!(outcome.err.contains("unable to read /nonexistent"), "{outcome:?}");
    symlink("/nonexistent/state", tree.root.join("sv/web/supervise")).unwrap();
    because(&tree, "web", "its link supervise leads to /nonexistent/state", "");
}

#[test]
fn another_directory_may_be_meant() {
    under_any_supervisor(|tree, _| {
        let wrong = Tree::new();
        wrong.sleeper("web");
        tree.sleeper("only-there");
        tree.start();
        eventually("up", || tree.is_up("only-there"));
        let right = tree.root.join("service");
        let mend = format!("svctl -d {} why only-there", right.display());
        because(&wrong, "only-there", "has no service of this name, and ", &mend);
        because(&wrong, "web", ", or set SVDIR", "");
    });
}

#[test]
fn others_may_not_know() {
    needs_root();
    let mut tree = Tree::new();
    fs::set_permissions(tree.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    tree.sleeper("web");
    tree.start();
    eventually("up", || tree.is_up("web"));
    let executable = tree.root.join("runitbox");
    fs::copy(support::executable(), &executable).unwrap();
    let words = ["-u", "nobody", executable.to_str().unwrap(), "svctl", "why", "web"];
    let outcome = run("chpst").args(&words).env("SVDIR", tree.root.join("service")).go();
    assert!(outcome.out.starts_with("web: unknown\n"), "{outcome:?}");
    assert!(outcome.out.contains("  cause: you have no permission: become root"), "{outcome:?}");
}

#[test]
fn run_may_be_no_program() {
    with_run("exec sleep 1000", |tree, _| {
        eventually("up", || tree.is_up("web"));
        assert_eq!(svctl_in(tree).args(&["stop", "web"]).go().code, Some(0));
        let run = tree.root.join("sv/web/run");
        let start = || svctl_in(tree).args(&["start", "web"]).go();
        let executable = fs::Permissions::from_mode(0o755);
        fs::remove_file(&run).unwrap();
        start();
        because(tree, "web", "run cannot be started: it is missing; write a script", "");
        fs::create_dir(&run).unwrap();
        because(tree, "web", "/run is a directory", "");
        fs::remove_dir(&run).unwrap();
        fs::write(&run, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        because(tree, "web", "run cannot be started: not executable", "chmod +x ");
        for (content, cause, mend) in [
            (
                b"exec sleep 1000\n".as_slice(),
                "no \"#!/bin/sh\" line at its beginning",
                "sed -i '1i #!/bin/sh' /",
            ),
            (b"#!/no/such/sh\n", "its interpreter /no/such/sh does not exist", ""),
            (b"#!/tmp\n", "run cannot be started: its interpreter /tmp is a directory", ""),
            (b"#!/etc/passwd\n", "run cannot be started: its interpreter /etc/passwd is not executable", ""),
            (b"#!/bin/sh\r\nexec sleep 1000\r\n", "its first line ends in CR", "sed -i"),
            (b"", "it is empty", ""),
            (
                b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x15\0",
                "it is a program for another architecture",
                "",
            ),
        ] {
            fs::remove_file(&run).unwrap();
            fs::write(&run, content).unwrap();
            fs::set_permissions(&run, executable.clone()).unwrap();
            because(tree, "web", cause, mend);
        }
    });
}

#[test]
fn ends_have_their_reasons() {
    for (run, cause, mend) in [
        ("sleep 1000 & exit 0", "keeps it in the foreground", ""),
        ("exec /no/such/program 2>/dev/null", "127: a command in run was not found", "svctl log web"),
        ("exec ./data 2>/dev/null", "126: a command in run is not executable", "svctl log web"),
        ("exit 111", "it exits with 111: as chpst and a run that svctl wrote do", "svctl log web"),
        ("exit 42", "it exits with 42 after", "svctl log web"),
        ("kill -KILL $$", "KILL ends it again and again", ""),
        ("kill -SEGV $$", "the signal SEGV ends it", "svctl log web"),
        ("exec chpst -Q x 2>/dev/null", "it exits with 100", "svctl log web"),
    ] {
        under_each_supervisor(|tree| {
            tree.define("web", run);
            tree.file("web", "data", "");
            tree.file("web", "restart-delay", "100");
            tree.link("web");
            tree.start();
            because(tree, "web", cause, mend);
        });
    }
}

/// The kernel kills what uses too much in the control group of the supervisor. With a group of its own for the service:
/// `tests/boot`.
#[test]
fn the_kernel_may_be_out_of_memory() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::with_memory(64 << 20);
        tree.define("web", "exec tail /dev/zero");
        tree.file("web", "restart-delay", "100");
        tree.link("web");
        tree.start_by(&format!("{}; exec \"$@\"", group.enter()));
        because(tree, "web", "KILL ends it again and again: out of memory, the kernel killed ", "");
    });
}

#[test]
fn stock_does_not_tell_how_a_service_ends() {
    needs_stock("runsv");
    with_run("exit 42", |tree, is_stock| {
        if is_stock {
            because(tree, "web", "how it ends is not recorded", "svctl log web");
        }
    });
}

#[test]
fn a_port_in_use_is_found_in_the_last_lines() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "exec 2>&1; echo 'bind(): Address already in use' >&2; exit 1");
        tree.define("web/log", "mkdir -p main; exec svlogd main");
        tree.link("web");
        tree.start();
        because(tree, "web", "its port is in use: bind(): Address already in use", "ss -ltnp");
    });
}

/// A line of an earlier run is no cause of how the last one ended.
#[test]
fn an_old_line_explains_no_later_end() {
    for svlogd in ["svlogd main", "svlogd -tt main"] {
        under_each_supervisor(|tree| {
            let run = "test -e old && exit 3; touch old; echo 'bind(): Address already in use'; exit 1";
            tree.define("web", run);
            tree.define("web/log", &format!("mkdir -p main; exec {svlogd}"));
            tree.link("web");
            tree.start();
            because(tree, "web", "it exits with 3 after", "svctl log web");
        });
    }
}

#[test]
fn commands_and_files_keep_a_service_down() {
    with_run("exec sleep 1000", |tree, _| {
        eventually("up", || tree.is_up("web"));
        send(&tree.root.join("sv/web/supervise/control"), "p");
        because(tree, "web", "it was stopped by the signal STOP", "svctl kill -s CONT web");
        send(&tree.root.join("sv/web/supervise/control"), "cd");
        because(tree, "web", "it was stopped by a command", "svctl start web");
        tree.file("web", "down", "");
        because(tree, "web", "it has a file down", "svctl start web");
    });
}

#[test]
fn what_mends_it_is_a_command_for_the_same_directory() {
    with_run("exec sleep 1000", |tree, _| {
        tree.file("web", "down", "");
        eventually("stopped", || svctl_in(tree).args(&["stop", "web"]).go().code == Some(0));
        let why = svctl().args(&["why", "web", "-d", "service"]).dir(tree.root.path()).go();
        let mend = why.out.lines().find_map(|line| line.strip_prefix("  mend: ")).unwrap_or_default();
        assert_eq!(mend, "svctl -d service start web", "{why:?}");
        let line = mend.replace("svctl", &format!("{} svctl", executable().display()));
        let mended = run_file("/bin/sh").args(&["-c", &line]).dir(tree.root.path()).go();
        assert_eq!(mended.code, Some(0), "{mended:?}");
        assert!(tree.is_up("web"));
    });
}

#[test]
fn finish_may_take_long() {
    under_any_supervisor(|tree, _| {
        tree.define("web", "exit 0");
        write_script(&tree.root.join("sv/web/finish"), "exec sleep 1000");
        tree.link("web");
        tree.start();
        because(tree, "web", "./run has ended, and ./finish (pid ", "kill -KILL ");
    });
}

#[test]
fn a_hook_may_hang() {
    under_each_supervisor(|tree| {
        tree.define("web", "exec sleep 1000");
        write_script(&tree.root.join("sv/web/control/u"), "sleep 1000");
        tree.link("web");
        tree.start();
        because(tree, "web", "control/u (pid ", "kill ");
    });
    // One that hangs while the service runs.
    under_each_supervisor(|tree| {
        tree.define("web", "exec sleep 1000");
        write_script(&tree.root.join("sv/web/control/t"), "sleep 1000");
        tree.link("web");
        tree.start();
        eventually("up", || tree.is_up("web"));
        send(&tree.root.join("sv/web/supervise/control"), "d");
        because(tree, "web", "control/t (pid ", "kill ");
    });
}

/// A program of `control/` that executed another one has the name of that.
#[test]
fn a_hook_that_hangs_may_have_any_name() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        write_script(&tree.root.join("sv/web/control/t"), "exec sleep 1000");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let stop = svctl_in(tree).args(&["-w", "1", "stop", "web"]).go();
        assert!(stop.out.contains("  cause: a program of control/, sleep 1000 (pid "), "{stop:?}");
        because(tree, "web", "a program of control/, sleep 1000 (pid ", "kill ");
        let why = svctl_in(tree).args(&["why", "web"]).go();
        assert_eq!(why.code, Some(3), "{why:?}");
        let mend = why.out.lines().find_map(|line| line.strip_prefix("  mend: kill ")).unwrap();
        write_script(&tree.root.join("sv/web/control/t"), "exit 1");
        kill(mend.parse().unwrap(), SIGKILL);
        // To stock, one that is killed is one that exits 0, so it has to be told again.
        let stop = ["-w", "1", "stop", "--wait-kill", "web"];
        eventually("down", || svctl_in(tree).args(&stop).go().code == Some(0));
    });
}

/// `control/t` that exits 0 has ended the service, or so the supervisor believes.
#[test]
fn what_was_told_to_end_and_runs_is_not_well() {
    with_run("exec sleep 1000", |tree, _| {
        eventually("up", || tree.is_up("web"));
        write_script(&tree.root.join("sv/web/control/t"), "exit 0");
        eventually("up for a moment", || {
            let list = svctl_in(tree).args(&["list", "--json", "web"]).go().out;
            let age = list.split("\"age\":").nth(1).and_then(|rest| rest.split(',').next());
            // Then it was started a second ago, or longer.
            age.is_some_and(|age| age != "0" && age != "1")
        });
        send(&tree.root.join("sv/web/supervise/control"), "d");
        because(tree, "web", "it was told to end ", "svctl stop --wait-kill web");
        assert_eq!(svctl_in(tree).args(&["why", "web"]).go().code, Some(3));
        let stop = svctl_in(tree).args(&["-w", "1", "stop", "--wait-kill", "web"]).go();
        assert_eq!(stop.code, Some(0), "{stop:?}");
    });
}

#[test]
fn a_service_that_runs_once_is_wanted_down() {
    with_run("exec sleep 1000", |tree, _| {
        tree.file("web", "down", "");
        eventually("stopped", || svctl_in(tree).args(&["stop", "web"]).go().code == Some(0));
        send(&tree.root.join("sv/web/supervise/control"), "o");
        because(tree, "web", "it is to run once", "svctl start web");
        assert_eq!(svctl_in(tree).args(&["why", "web"]).go().code, Some(0));
    });
}

#[test]
fn nothing_is_executed_where_the_file_system_is_noexec() {
    needs_root();
    needs_unshare("-m");
    with_run("exit 3", |tree, _| {
        eventually("served", || !svctl_in(tree).args(&["why", "web"]).go().out.contains("not supervised"));
        // Seen by this command alone.
        let script = "mount --bind sv/web sv/web && mount -o remount,bind,noexec sv/web &&
            \"$0\" svctl lint sv/web; \"$0\" svctl -d service start -w 1 web";
        let outcome = run_file("/usr/bin/unshare")
            .args(&["-m", "sh", "-c", script])
            .arg(executable())
            .dir(tree.root.path())
            .go();
        let lint = "sv/web/run: its file system is mounted noexec\n";
        assert!(outcome.out.starts_with(lint), "{outcome:?}");
        let cause = "  cause: run cannot be started: its file system is mounted noexec\n";
        assert!(outcome.out.ends_with(cause), "{outcome:?}");
    });
}

/// Nothing is recorded of how a log service ends, and it has no log.
#[test]
fn a_log_service_that_fails_is_run_by_hand() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.define("web/log", "exit 9");
        tree.start();
        eventually("up", || tree.is_up("web"));
        because(tree, "web", "its log service is ", "svctl why web/log");
        because(tree, "web/log", "how it ends is not recorded: run it by hand", "./run </dev/null; echo $?)");
        let mut mend = String::new();
        eventually("a command", || {
            let why = svctl_in(tree).args(&["why", "web/log"]).go().out;
            mend = why.lines().find_map(|line| line.strip_prefix("  mend: ")).unwrap_or_default().to_owned();
            mend.contains("./run")
        });
        assert_eq!(run_file("/bin/sh").args(&["-c", &mend]).go().out, "9\n", "{mend}");
    });
}

#[test]
fn a_name_may_look_like_an_option() {
    under_each_supervisor(|tree| {
        tree.define("-dash", "exit 4");
        tree.link("-dash");
        tree.start();
        eventually("named", || {
            let out = svctl_in(tree).args(&["why", "--", "-dash"]).go().out;
            out.ends_with("  mend: svctl log -- -dash\n")
        });
    });
}

#[test]
fn a_log_service_may_be_what_is_wrong() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.root.file("sv/web/log/run", "#!/bin/sh\nexec cat\n");
        tree.start();
        eventually("up", || tree.is_up("web"));
        because(tree, "web", "its log service is restarting; log/run cannot be started: not executable", "");
    });
}

#[test]
fn a_log_directory_may_be_missing() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.define("web/log", "exec svlogd -tt ./main");
        tree.start();
        eventually("up", || tree.is_up("web"));
        let cause = "svlogd's directory ./main does not exist";
        because(tree, "web", cause, "mkdir -p ");
        because(tree, "web/log", cause, "mkdir -p ");
        let mend = svctl_in(tree).args(&["why", "web"]).go().out;
        let mend = mend.lines().find_map(|line| line.strip_prefix("  mend: ")).unwrap();
        assert_eq!(
            run_file("/bin/sh").args(&["-c", mend]).dir(tree.root.path()).go().code,
            Some(0),
            "{mend}"
        );
        eventually("nothing is wrong", || svctl_in(tree).args(&["why", "web"]).go().code == Some(0));
    });
}

#[test]
fn a_log_service_that_is_down_is_a_problem() {
    under_any_supervisor(|tree, _| {
        tree.sleeper("web");
        tree.define("web/log", "exec cat >/dev/null");
        tree.start();
        eventually("up", || tree.is_up("web") && tree.is_up("web/log"));
        assert_eq!(svctl_in(tree).args(&["list"]).go().code, Some(0));
        eventually("down", || svctl_in(tree).args(&["stop", "web/log"]).go().code == Some(0));
        assert_eq!(svctl_in(tree).args(&["list"]).go().code, Some(3));
        because(tree, "web", "its log service is down", "svctl why web/log");
        // Nothing is lost while the service itself is down.
        eventually("down", || svctl_in(tree).args(&["stop", "web"]).go().code == Some(0));
        assert_eq!(svctl_in(tree).args(&["list"]).go().code, Some(0));
    });
}

#[test]
fn a_supervisor_may_be_stopped() {
    with_run("exec sleep 1000", |tree, _| {
        eventually("up", || tree.is_up("web"));
        let out = svctl_in(tree).args(&["why", "web"]).go().out;
        let line = out.lines().find_map(|line| line.strip_prefix("  supervisor: ")).unwrap();
        let (name, pid) = line.split_once(", pid ").unwrap();
        let signal = |signal| run_file("/bin/kill").args(&[signal, pid]).go();
        signal("-STOP");
        because(tree, "web", &format!("its supervisor is stopped ({name}, pid {pid})"), "kill -CONT ");
        let list = svctl_in(tree).args(&["list"]).go();
        let stop = svctl_in(tree).args(&["-w", "1", "stop", "web"]).go();
        signal("-CONT");
        assert!(list.code == Some(3) && list.out.contains("its supervisor is stopped"), "{list:?}");
        assert!(stop.out.contains("  cause: its supervisor is stopped"), "{stop:?}");
    });
}

#[test]
fn what_serves_the_directory_may_be_stopped() {
    with_run("exec sleep 1000", |tree, _| {
        eventually("up", || tree.is_up("web"));
        let above = parent_of(tree.pid("web").unwrap()).unwrap();
        let is_runsv = process_name(above) == "runsv";
        let pid = if is_runsv { parent_of(above).unwrap() } else { above }.to_string();
        let signal = |signal: &str| run_file("/bin/kill").args(&[signal, &pid]).go();
        signal("-STOP");
        tree.sleeper("later");
        because(
            tree,
            "later",
            &format!("(pid {pid}), which serves the directory, is stopped"),
            "kill -CONT ",
        );
        signal("-CONT");
        eventually("up", || tree.is_up("later"));
    });
}

#[test]
fn a_service_may_wait_for_another() {
    under_each_supervisor(|tree| {
        tree.define("db", "exec sleep 1000");
        tree.file("db", "down", "");
        tree.define("web", "exec sleep 1000");
        tree.file("web", "needs", "db");
        tree.link("db");
        tree.link("web");
        tree.start();
        because(tree, "web", "it waits for db (down)", "svctl why db");
    });
}

#[test]
fn needs_may_be_wrong() {
    under_each_supervisor(|tree| {
        for (name, needs) in [("web", "nosuch"), ("one", "two"), ("two", "one")] {
            tree.define(name, "exec sleep 1000");
            tree.file(name, "needs", needs);
            tree.link(name);
        }
        tree.start();
        because(tree, "web", "it waits for nosuch, which does not exist, by the file /", "");
        let out = svctl_in(tree).args(&["why", "one"]).go().out;
        assert!(
            out.contains("  needs: lead back to it, so one is ignored: one needs two needs one"),
            "{out}"
        );
    });
}

#[test]
fn check_is_asked() {
    with_run("exec sleep 1000", |tree, _| {
        write_script(&tree.root.join("sv/web/check"), "exit 1");
        eventually("up", || tree.is_up("web"));
        because(tree, "web", "it runs, and its ./check fails: it exits with 1", "./check >&-; echo $?");
        assert_eq!(svctl_in(tree).args(&["why", "web"]).go().code, Some(3));
        write_script(&tree.root.join("sv/web/check"), "exit 0");
        assert!(svctl_in(tree).args(&["why", "web"]).go().out.contains("\n  check: passes\n"));
        fs::set_permissions(tree.root.join("sv/web/check"), fs::Permissions::from_mode(0o644)).unwrap();
        because(
            tree,
            "web",
            "its ./check cannot be run, so it counts as passing: not executable",
            "chmod +x ",
        );
        let why = svctl_in(tree).args(&["why", "web"]).go();
        assert_eq!((why.code, why.err.as_str()), (Some(3), ""), "{why:?}");
    });
}

#[test]
fn a_full_disk_of_the_log_is_named() {
    needs_root();
    needs_unshare("-m");
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.define("web/log", "exec cat >/dev/null");
    fs::create_dir_all(tree.root.join("sv/web/log/main")).unwrap();
    tree.start();
    eventually("up", || tree.is_up("web"));
    // A small file system of its own, seen by this command alone.
    let script = "mount -t tmpfs -o size=16k none sv/web/log/main && echo x >sv/web/log/main/current &&
        head -c 100000 /dev/zero >sv/web/log/main/full 2>/dev/null; exec \"$0\" svctl -d service why web";
    let outcome = run_file("/usr/bin/unshare")
        .args(&["-m", "sh", "-c", script])
        .arg(executable())
        .dir(tree.root.path());
    let outcome = outcome.go();
    assert!(
        outcome.out.contains("  cause: the disk of its log ") && outcome.out.contains(" is full"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, Some(3));
}
