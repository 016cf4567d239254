use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use support::*;

#[test]
fn no_directory_is_wrong_usage() {
    let name = bin().join("runsvdir");
    for args in [&[][..], &["-P"], &["--"]] {
        let outcome = run("runsvdir").args(args).go();
        let expected = format!("usage: {} [-P] dir\n\n", name.display());
        assert_eq!((outcome.code, outcome.err), (Some(1), expected), "{args:?}");
    }
}

#[test]
fn what_is_there_is_started() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.sleeper("b");
    tree.start();
    eventually("up", || tree.is_up("a") && tree.is_up("b"));
}

#[test]
fn what_appears_is_started() {
    let mut tree = Tree::new();
    tree.start();
    tree.sleeper("a");
    eventually("up", || tree.is_up("a"));
}

#[test]
fn what_vanishes_is_stopped() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.start();
    eventually("up", || tree.is_up("a"));
    let pid = tree.pid("a").unwrap();
    tree.unlink("a");
    eventually("stopped", || !is_alive(pid) && tree.pid("a").is_none());
}

#[test]
fn a_dead_runsv_is_started_again() {
    let mut tree = Tree::new();
    tree.define("a", "exec sleep 1000");
    fs::write(tree.root.join("sv/a/down"), "").unwrap();
    tree.link("a");
    tree.start();
    let ok = tree.root.join("sv/a/supervise/ok");
    let served = || open_fifo(&ok).is_some();
    eventually("served", served);
    let runsvdir = tree.runsvdir().pid();
    let runsv: i32 = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|&pid| parent_of(pid) == Some(runsvdir))
        .unwrap();
    kill(runsv, SIGKILL);
    eventually("ended", || !is_alive(runsv));
    eventually("served again", served);
}

#[test]
fn names_with_a_dot_and_files_are_skipped() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    fs::rename(tree.root.join("service/a"), tree.root.join("service/.a")).unwrap();
    fs::write(tree.root.join("service/file"), "").unwrap();
    tree.sleeper("b");
    tree.start();
    eventually("up", || tree.is_up("b"));
    assert!(!tree.is_up("a"));
    assert_eq!(tree.messages(), "");
}

#[test]
fn a_link_that_leads_nowhere_is_said() {
    let mut tree = Tree::new();
    tree.link("none");
    tree.sleeper("a");
    tree.start();
    eventually("up", || tree.is_up("a"));
    assert_eq!(tree.messages(), "runsvdir service: warning: unable to stat none: file does not exist\n");
}

#[test]
fn two_names_of_one_directory_are_one_service() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    symlink("../sv/a", tree.root.join("service/b")).unwrap();
    tree.start();
    eventually("up", || tree.is_up("a"));
    steadily("one", Duration::from_millis(300), || tree.messages().is_empty());
}

#[test]
fn a_missing_directory_is_said() {
    let mut tree = Tree::new();
    tree.start_with(&["nowhere"]);
    let expected = "runsvdir nowhere: warning: unable to stat nowhere: file does not exist\n";
    eventually("said", || tree.messages().starts_with(expected));
}

#[test]
fn term_ends_it_and_leaves_the_services() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.start();
    eventually("up", || tree.is_up("a"));
    let pid = tree.pid("a").unwrap();
    tree.runsvdir().signal(SIGTERM);
    assert_eq!(tree.exit_code(), 0);
    assert!(is_alive(pid) && tree.is_up("a"));
}

#[test]
fn hup_stops_the_services_and_ends_it_with_111() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.sleeper("b");
    tree.start();
    eventually("up", || tree.is_up("a") && tree.is_up("b"));
    let pids = [tree.pid("a").unwrap(), tree.pid("b").unwrap()];
    tree.runsvdir().signal(SIGHUP);
    assert_eq!(tree.exit_code(), 111);
    eventually("stopped", || !pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn each_runsv_has_a_session_of_its_own_with_p() {
    let session = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().to_owned()
    };
    for (args, own) in [(&["-P", "service"][..], true), (&["-Pxyz", "service"], true), (&["service"], false)]
    {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.start_with(args);
        eventually("up", || tree.is_up("a"));
        let runsv = tree.runsv_of("a").unwrap();
        assert_eq!(session(runsv) == runsv.to_string(), own, "{args:?}");
        assert_eq!(session(tree.pid("a").unwrap()), session(runsv));
    }
}

#[test]
fn runsv_is_called_by_its_name_and_that_of_the_service() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.start();
    eventually("up", || tree.is_up("a"));
    let runsv = tree.runsv_of("a").unwrap();
    assert_eq!(fs::read(format!("/proc/{runsv}/cmdline")).unwrap(), b"runsv\0a\0");
    assert_eq!(process_name(runsv), "runsv");
    let cwd = fs::read_link(format!("/proc/{}/cwd", tree.pid("a").unwrap())).unwrap();
    assert_eq!(cwd, fs::canonicalize(tree.root.join("sv/a")).unwrap());
}

#[test]
fn a_link_to_the_directory_that_is_switched_is_followed() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.define("b", "exec sleep 1000");
    fs::create_dir(tree.root.join("other")).unwrap();
    symlink("../sv/b", tree.root.join("other/b")).unwrap();
    symlink("service", tree.root.join("current")).unwrap();
    tree.start_with(&["current"]);
    eventually("up", || tree.is_up("a"));
    let pid = tree.pid("a").unwrap();
    symlink("other", tree.root.join("current.new")).unwrap();
    fs::rename(tree.root.join("current.new"), tree.root.join("current")).unwrap();
    eventually("switched", || tree.is_up("b") && !is_alive(pid));
}

#[test]
fn the_log_argument_shows_what_services_say() {
    let mut tree = Tree::new();
    tree.define("a", "echo trouble in a >&2; exec sleep 1000");
    tree.link("a");
    tree.start_with(&["service", &format!("log: {}", ".".repeat(80))]);
    eventually("up", || tree.is_up("a"));
    let pid = tree.runsvdir().pid();
    let shown = || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    eventually("shown", || shown().contains("trouble in a\n"));
    let shown = shown();
    let log = shown.split('\0').nth(2).unwrap();
    assert_eq!((log.len(), &log[..5]), (85, "log: "));
    assert_eq!(tree.messages(), "", "it goes there and nowhere else");
}

#[test]
fn a_short_log_argument_is_said() {
    let mut tree = Tree::new();
    tree.start_with(&["service", "log: "]);
    let expected = "runsvdir service: warning: log must have at least seven characters.\n\
                    runsvdir service: warning: log service disabled.\n";
    eventually("said", || tree.messages() == expected);
}

#[test]
fn a_runsv_that_cannot_be_executed_is_said() {
    let tree = Tree::new();
    tree.sleeper("a");
    let path = tree.root.join("path");
    fs::create_dir(&path).unwrap();
    write_script(&path.join("runsv"), "exit 0");
    fs::write(path.join("runsv"), "no interpreter line\n").unwrap();
    let err = tree.root.join("err");
    let mut runsvdir =
        run("runsvdir").arg("service").dir(tree.root.path()).env("PATH", path.as_os_str()).start(&err);
    let expected = "runsvdir service: fatal: unable to start runsv a: exec format error\n";
    eventually("said", || tree.messages().starts_with(expected));
    runsvdir.signal(SIGTERM);
    eventually("ended", || runsvdir.ended().is_some());
}

#[test]
fn a_runsv_in_path_is_used_before_any_other() {
    let tree = Tree::new();
    tree.define("a", "exec sleep 1000");
    tree.link("a");
    let path = tree.root.join("path");
    fs::create_dir(&path).unwrap();
    write_script(&path.join("runsv"), "echo \"$0 $1\" >>wrapped; exec sleep 1000");
    let err = tree.root.join("err");
    let mut runsvdir = run("runsvdir")
        .arg("service")
        .dir(tree.root.path())
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .start(&err);
    let wrapped = tree.root.join("service/wrapped");
    eventually("wrapped", || read(&wrapped).ends_with(" a\n"));
    // HUP takes the wrapper, and the sleep it has become, along.
    runsvdir.signal(SIGHUP);
    eventually("ended", || runsvdir.ended() == Some(111));
}

#[test]
fn a_link_that_is_switched_ends_with_the_new_service() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.define("b", "exec sleep 1000");
    tree.start();
    eventually("up", || tree.is_up("a"));
    for (new, old) in [("b", "a"), ("a", "b")].repeat(10) {
        tree.switch("a", new);
        eventually("switched", || tree.is_up(new) && tree.pid(old).is_none());
    }
}

#[test]
fn a_renamed_link_or_directory_keeps_its_service() {
    let mut tree = Tree::new();
    tree.sleeper("a");
    tree.sleeper("x");
    fs::create_dir_all(tree.root.join("service/dir")).unwrap();
    symlink("../service/dir", tree.root.join("sv/dir")).unwrap();
    write_script(&tree.root.join("service/dir/run"), "exec sleep 1000");
    tree.start();
    eventually("up", || tree.is_up("a") && tree.is_up("dir") && tree.is_up("x"));
    let before = ["a", "dir"].map(|name| tree.pid(name));
    fs::rename(tree.root.join("service/a"), tree.root.join("service/z")).unwrap();
    fs::rename(tree.root.join("service/dir"), tree.root.join("service/moved")).unwrap();
    fs::remove_file(tree.root.join("sv/dir")).unwrap();
    symlink("../service/moved", tree.root.join("sv/dir")).unwrap();
    let other = tree.pid("x");
    tree.unlink("x");
    eventually("the look after that", || tree.pid("x").is_none() && !is_alive(other.unwrap()));
    steadily("kept", Duration::from_millis(300), || ["a", "dir"].map(|name| tree.pid(name)) == before);
    // The next runsv is started with the name that leads there now.
    for (name, argument) in [("a", "z"), ("dir", "moved")] {
        let (service, runsv) = (tree.pid(name).unwrap(), tree.runsv_of(name).unwrap());
        kill(runsv, SIGKILL);
        let expected = format!("runsv\0{argument}\0");
        eventually("another", || {
            tree.runsv_of(name)
                .is_some_and(|new| new != runsv && read(format!("/proc/{new}/cmdline")) == expected)
        });
        // It was nobody's from then on.
        kill(service, SIGKILL);
    }
}

#[test]
fn what_comes_back_within_a_moment_is_served_again() {
    let mut tree = Tree::new();
    tree.define("up/a", "exec sleep 1000");
    symlink("up/a", tree.root.join("sv/a")).unwrap();
    tree.link("a");
    tree.start();
    eventually("up", || tree.is_up("a"));
    fs::rename(tree.root.join("sv/up"), tree.root.join("sv/away")).unwrap();
    tree.sleeper("b");
    eventually("it looked", || tree.is_up("b"));
    fs::rename(tree.root.join("sv/away"), tree.root.join("sv/up")).unwrap();
    // Stock stops it first.
    eventually("up again", || tree.is_up("a"));
    std::thread::sleep(Duration::from_millis(1500));
    eventually("still up", || tree.is_up("a"));
}

mod ours {
    use super::*;

    #[test]
    fn a_switched_link_is_served_under_its_own_name() {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.define("b", "exec sleep 1000");
        tree.start();
        eventually("up", || tree.is_up("a"));
        // Where `ln` is held up between making its link and renaming it, that name is served: the busier the machine,
        // the more often.
        let (mut own, mut rounds) = (0, 0);
        while own < 6 {
            assert!(rounds < 100, "{own} of {rounds}");
            let new = if rounds % 2 == 0 { "b" } else { "a" };
            tree.switch("a", new);
            let mut words = String::new();
            eventually("switched", || {
                words = tree
                    .runsv_of(new)
                    .map(|runsv| read(format!("/proc/{runsv}/cmdline")))
                    .unwrap_or_default();
                words.starts_with("runsv\0")
            });
            own += u32::from(words == "runsv\0a\0");
            rounds += 1;
        }
    }

    #[test]
    fn what_is_exchanged_behind_a_link_is_followed_at_once() {
        // Stock looks only when the served directory itself changes.
        promptly("two exchanges", Duration::from_secs(4), || {
            let mut tree = Tree::new();
            for version in ["v1", "v2", "v3"] {
                tree.define(
                    &format!("{version}/web"),
                    &format!("echo {version} >>../../../ran; exec sleep 1000"),
                );
            }
            // A deployment by a link on the way, and one by renaming the directory itself.
            symlink("v1", tree.root.join("sv/current")).unwrap();
            symlink("../sv/current/web", tree.root.join("service/web")).unwrap();
            tree.start();
            let pid = |version: &str| tree.pid(&format!("{version}/web")).filter(|&pid| is_alive(pid));
            let ran = || tree.root.read("ran");
            eventually("v1 up", || ran() == "v1\n" && pid("v1").is_some());
            time_of(|| {
                symlink("v2", tree.root.join("sv/next")).unwrap();
                fs::rename(tree.root.join("sv/next"), tree.root.join("sv/current")).unwrap();
                eventually("v2 up", || ran() == "v1\nv2\n" && pid("v2").is_some() && pid("v1").is_none());
                fs::rename(tree.root.join("sv/v2/web"), tree.root.join("sv/v2/old")).unwrap();
                fs::rename(tree.root.join("sv/v3/web"), tree.root.join("sv/v2/web")).unwrap();
                eventually("v3 up", || ran() == "v1\nv2\nv3\n" && pid("v2").is_some());
                eventually("old ended", || tree.pid("v2/old").is_none_or(|old| !is_alive(old)));
            })
        });
    }

    #[test]
    fn other_changes_beside_what_a_link_leads_to_wake_for_no_look() {
        needs_program("strace");
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.start();
        eventually("up", || tree.is_up("a"));
        let trace = tree.root.join("trace");
        let mut strace = run_file("/usr/bin/strace")
            .args(&["-qq", "-s", "8192", "-e", "trace=getdents64,read", "-o"])
            .arg(&trace)
            .args(&["-p", &tree.runsvdir().pid().to_string()])
            .start(&tree.root.join("strace"));
        eventually("traced", || {
            read(format!("/proc/{}/status", tree.runsvdir().pid()))
                .contains(&format!("TracerPid:\t{}", strace.pid()))
        });
        for number in 0..20 {
            fs::write(tree.root.join(&format!("sv/note{number}")), "").unwrap();
        }
        eventually("heard of", || read(&trace).contains("note19"));
        assert!(!read(&trace).contains("getdents64"), "{}", read(&trace));
        strace.signal(SIGTERM);
        eventually("ended", || strace.ended().is_some());
    }

    #[test]
    fn a_link_that_leads_nowhere_for_a_moment_keeps_its_service() {
        let mut tree = Tree::new();
        tree.define("up/a", "exec sleep 1000");
        symlink("up/a", tree.root.join("sv/a")).unwrap();
        tree.link("a");
        tree.start();
        eventually("up", || tree.is_up("a"));
        let mut pid = tree.pid("a");
        let away = || fs::rename(tree.root.join("sv/up"), tree.root.join("sv/away")).unwrap();
        let back = || fs::rename(tree.root.join("sv/away"), tree.root.join("sv/up")).unwrap();
        let mut times = 0;
        promptly("a look", Duration::from_millis(900), || {
            // The one before was too long, and ended it.
            eventually("up", || tree.is_up("a"));
            pid = tree.pid("a");
            times += 1;
            time_of(|| {
                away();
                let name = format!("b{times}");
                tree.sleeper(&name);
                eventually("it looked", || tree.is_up(&name));
                back();
            })
        });
        steadily("undisturbed", Duration::from_millis(1500), || tree.pid("a") == pid);
        // What is away for longer is stopped, and comes back without a change of the directory.
        away();
        tree.sleeper("c");
        eventually("stopped", || !is_alive(pid.unwrap()));
        back();
        eventually("up again", || tree.is_up("a"));
        let expected = "runsvdir service: warning: unable to stat a: file does not exist\n";
        assert_eq!(tree.messages(), expected.repeat(times + 1));
    }

    #[test]
    fn a_directory_that_is_filled_in_place_is_complete_when_it_is_started() {
        let mut tree = Tree::new();
        tree.start();
        tree.sleeper("warm");
        eventually("up", || tree.is_up("warm"));
        let file = |number: u32, name: &str| tree.root.join(&format!("service/d{number}/{name}"));
        let make = |number: u32| {
            time_of(|| {
                fs::create_dir(file(number, "")).unwrap();
                let run = file(number, "run");
                fs::write(&run, "#!/bin/sh\ntouch started\nexec sleep 1000\n").unwrap();
                fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
                // As long as a shell takes to start `touch`.
                std::thread::sleep(Duration::from_millis(5));
                fs::write(file(number, "down"), "").unwrap();
            })
        };
        let times: Vec<(u32, Duration)> = (1..41).map(|number| (number, make(number))).collect();
        eventually("served", || (1..41).all(|number| open_fifo(&file(number, "supervise/ok")).is_some()));
        // For the tree to be ended.
        for number in 1..41 {
            symlink(format!("../service/d{number}"), tree.root.join(&format!("sv/d{number}"))).unwrap();
        }
        // Without settling it was half of them. What is held up for longer than 50 ms is not waited for.
        let soon = times.iter().filter(|(_, time)| *time < Duration::from_millis(40));
        let started = soon.filter(|(number, _)| file(*number, "started").exists()).count();
        assert!(started < 3, "{started} of 40 were started although they were to stay down: {times:?}");
    }

    #[test]
    fn a_link_to_what_is_there_since_long_is_not_waited_for() {
        let mut tree = Tree::new();
        tree.define("a", "exec sleep 1000");
        tree.start();
        tree.sleeper("warm");
        eventually("up", || tree.is_up("warm"));
        std::thread::sleep(Duration::from_millis(220));
        // With what it takes to make `supervise`; what is new is waited for 50 ms at least.
        promptly("a start", Duration::from_millis(40), || {
            let took = time_of(|| {
                tree.link("a");
                eventually("up", || tree.is_up("a"));
            });
            tree.unlink("a");
            eventually("down", || tree.pid("a").is_none());
            // `supervise` was made, which is a change too.
            std::thread::sleep(Duration::from_millis(220));
            took
        });
    }

    /// Starts runsvdir in a user namespace, which has limits of its own.
    fn where_nothing_can_be_watched(tree: &Tree) -> Running {
        let deny = "echo 0 >/proc/sys/user/max_inotify_instances";
        let inside = |script: &str| run_file("/usr/bin/unshare").args(&["-Ur", "sh", "-c", script]);
        needs("user namespaces (unshare -Ur)", inside(deny).go().code == Some(0));
        inside(&format!("{deny} && exec runsvdir service"))
            .dir(tree.root.path())
            .start(&tree.root.join("err"))
    }

    #[test]
    fn alarm_lets_it_look_at_once() {
        promptly("a look", Duration::from_secs(1), || {
            let tree = Tree::new();
            let mut runsvdir = where_nothing_can_be_watched(&tree);
            eventually("started", || tree.messages().contains("unable to watch"));
            tree.sleeper("a");
            let took = time_of(|| {
                runsvdir.signal(SIGALRM);
                eventually("up", || tree.is_up("a") || runsvdir.ended().is_some());
            });
            runsvdir.signal(SIGHUP);
            eventually("ended", || runsvdir.ended() == Some(111));
            eventually("gone", || !tree.is_up("a"));
            took
        });
    }

    #[test]
    fn it_rests_while_its_directory_is_missing_and_a_runsv_has_died() {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.start();
        eventually("up", || tree.is_up("a"));
        let (service, runsv) = (tree.pid("a").unwrap(), tree.runsv_of("a").unwrap());
        fs::rename(tree.root.join("service"), tree.root.join("away")).unwrap();
        kill(runsv, SIGKILL);
        kill(service, SIGKILL);
        let pid = tree.runsvdir().pid();
        eventually("said", || tree.messages().contains("unable to stat service"));
        let before = processor_time(pid);
        std::thread::sleep(Duration::from_millis(500));
        let used = processor_time(pid) - before;
        assert!(used < Duration::from_millis(50), "it used the processor for {used:?}");
        fs::rename(tree.root.join("away"), tree.root.join("service")).unwrap();
        eventually("up again", || tree.is_up("a"));
    }

    #[test]
    fn a_removal_of_many_says_nothing() {
        let mut tree = Tree::new();
        for number in 0..400 {
            let dir = tree.root.join(&format!("sv/{number}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("down"), "").unwrap();
            tree.link(&number.to_string());
        }
        tree.start();
        let served = |number: u32| open_fifo(&tree.root.join(&format!("sv/{number}/supervise/ok"))).is_some();
        eventually("all served", || (0..400).all(served));
        let removed =
            run_file("/bin/sh").args(&["-c", "rm -f service/*; rm -rf sv/*"]).dir(tree.root.path()).go();
        assert_eq!(removed.code, Some(0), "{removed:?}");
        let pid = tree.runsvdir().pid();
        eventually("all gone", || children_of(pid).is_empty());
        let said = tree.messages();
        let of_runsvdir: Vec<&str> = said.lines().filter(|line| line.starts_with("runsvdir")).collect();
        assert_eq!(of_runsvdir, [] as [&str; 0]);
    }

    #[test]
    fn what_appears_is_started_within_milliseconds() {
        let mut tree = Tree::new();
        tree.start();
        tree.sleeper("warm");
        eventually("up", || tree.is_up("warm"));
        let mut times = 0;
        promptly("a start", Duration::from_millis(500), || {
            times += 1;
            let name = format!("a{times}");
            tree.define(&name, "exec sleep 1000");
            time_of(|| {
                tree.link(&name);
                eventually("up", || tree.is_up(&name));
            })
        });
    }

    #[test]
    fn a_dead_runsv_is_started_again_at_once() {
        promptly("another", Duration::from_millis(700), || {
            let mut tree = Tree::new();
            tree.sleeper("a");
            tree.start();
            eventually("up", || tree.is_up("a"));
            let (service, runsv) = (tree.pid("a").unwrap(), tree.runsv_of("a").unwrap());
            let took = time_of(|| {
                kill(runsv, SIGKILL);
                eventually("another", || tree.runsv_of("a").is_some_and(|new| new != runsv));
            });
            // The old service was nobody's from then on.
            kill(service, SIGKILL);
            took
        });
    }

    #[test]
    fn more_than_a_thousand_services_are_served() {
        let mut tree = Tree::new();
        for number in 0..1050 {
            let dir = tree.root.join(&format!("service/{number}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("down"), "").unwrap();
        }
        tree.start();
        let served =
            |number: u32| open_fifo(&tree.root.join(&format!("service/{number}/supervise/ok"))).is_some();
        eventually("all served", || (0..1050).all(served));
        tree.runsvdir().signal(SIGHUP);
        assert_eq!(tree.exit_code(), 111);
        let served =
            |number: u32| open_fifo(&tree.root.join(&format!("service/{number}/supervise/ok"))).is_some();
        eventually("all gone", || !(0..1050).any(served));
    }

    #[test]
    fn a_chain_of_links_is_followed_at_each_step() {
        promptly("a switch", Duration::from_millis(700), || {
            let mut tree = Tree::new();
            tree.sleeper("a");
            tree.define("b", "exec sleep 1000");
            for dir in ["other", "run"] {
                fs::create_dir(tree.root.join(dir)).unwrap();
            }
            symlink("../sv/b", tree.root.join("other/b")).unwrap();
            symlink("../service", tree.root.join("run/current")).unwrap();
            symlink("run/current", tree.root.join("chain")).unwrap();
            tree.start_with(&["chain"]);
            eventually("up", || tree.is_up("a"));
            let pid = tree.pid("a").unwrap();
            time_of(|| {
                symlink("../other", tree.root.join("run/new")).unwrap();
                fs::rename(tree.root.join("run/new"), tree.root.join("run/current")).unwrap();
                eventually("switched", || tree.is_up("b") && !is_alive(pid));
            })
        });
    }

    #[test]
    fn a_directory_that_comes_later_is_served() {
        let mut tree = Tree::new();
        tree.define("a", "exec sleep 1000");
        tree.start_with(&["later/dir"]);
        eventually("said", || tree.messages().contains("unable to stat later/dir"));
        fs::create_dir_all(tree.root.join("later/dir")).unwrap();
        symlink("../../sv/a", tree.root.join("later/dir/a")).unwrap();
        eventually("up", || tree.is_up("a"));
        assert_eq!(tree.messages().lines().count(), 1, "{}", tree.messages());
    }

    #[test]
    fn a_directory_that_was_replaced_is_served() {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.define("b", "exec sleep 1000");
        tree.start();
        eventually("up", || tree.is_up("a"));
        let pid = tree.pid("a").unwrap();
        fs::create_dir(tree.root.join("new")).unwrap();
        symlink("../sv/b", tree.root.join("new/b")).unwrap();
        fs::rename(tree.root.join("service"), tree.root.join("old")).unwrap();
        fs::rename(tree.root.join("new"), tree.root.join("service")).unwrap();
        eventually("switched", || tree.is_up("b") && !is_alive(pid));
    }

    #[test]
    fn runsv_is_ourselves_where_path_has_none() {
        let tree = Tree::new();
        tree.sleeper("a");
        let err = tree.root.join("err");
        let mut runsvdir = run_file(executable())
            .args(&["runsvdir", "-P", "service"])
            .dir(tree.root.path())
            .env("PATH", "/usr/bin/nowhere:/bin/nowhere")
            .start(&err);
        // Its script finds `sleep` without a PATH of its own.
        eventually("served", || open_fifo(&tree.root.join("sv/a/supervise/ok")).is_some());
        runsvdir.signal(SIGHUP);
        eventually("ended", || runsvdir.ended() == Some(111));
        eventually("gone", || open_fifo(&tree.root.join("sv/a/supervise/ok")).is_none());
    }

    #[test]
    fn it_is_seen_by_its_own_name_when_started_as_an_applet() {
        let tree = Tree::new();
        let err = tree.root.join("err");
        let mut runsvdir =
            run_file(executable()).args(&["runsvdir", "-P", "service"]).dir(tree.root.path()).start(&err);
        let proc = format!("/proc/{}", runsvdir.pid());
        eventually("named", || read(format!("{proc}/comm")) == "runsvdir\n");
        let cmdline = fs::read(format!("{proc}/cmdline")).unwrap();
        assert!(cmdline.starts_with(b"runsvdir\0-P\0service\0"), "{}", String::from_utf8_lossy(&cmdline));
        assert!(cmdline.iter().skip(20).all(|&byte| byte == 0));
        runsvdir.signal(SIGTERM);
        eventually("ended", || runsvdir.ended() == Some(0));
    }

    #[test]
    fn a_service_whose_definition_was_made_anew_has_one_runsv() {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.start();
        eventually("up", || tree.is_up("a"));
        let (old, runsv) = (tree.pid("a").unwrap(), tree.runsv_of("a").unwrap());
        remove_served(tree.root.join("sv/a"));
        tree.define("a", "exec sleep 2000");
        eventually("new", || tree.is_up("a") && !is_alive(old));
        // The next look at the directory finds another inode under the name. Either the runsv followed it, or it left
        // for another one.
        tree.sleeper("b");
        eventually("b up", || tree.is_up("b"));
        let new = tree.pid("a").unwrap();
        steadily("undisturbed", Duration::from_millis(300), || tree.pid("a") == Some(new));
        assert!(tree.runsv_of("a") == Some(runsv) || !is_alive(runsv), "two of them");
        assert!(!tree.messages().contains("unable to lock"), "{}", tree.messages());
    }

    #[test]
    fn a_service_that_was_made_anew_has_one_runsv_also_with_its_state_elsewhere() {
        let tree = Tree::new();
        tree.sleeper("a");
        let state = tree.root.join("state");
        let mut runsvdir = run("runsvdir")
            .arg("service")
            .dir(tree.root.path())
            .env("RUNITBOX_STATE", &state)
            .start(&tree.root.join("err"));
        let pid = |name: &str| -> Option<i32> {
            let outcome = run("sv")
                .args(&["status", name])
                .env("RUNITBOX_STATE", &state)
                .env("SVDIR", tree.root.join("service"))
                .go();
            outcome.out.strip_prefix("run: ")?.split_once("(pid ")?.1.split_once(')')?.0.parse().ok()
        };
        eventually("up", || pid("a").is_some());
        let old = pid("a").unwrap();
        let runsv = parent_of(old);
        remove_served(tree.root.join("sv/a"));
        tree.define("a", "exec sleep 2000");
        eventually("new", || pid("a").is_some_and(|pid| pid != old) && !is_alive(old));
        let new = pid("a");
        tree.sleeper("b");
        eventually("b up", || pid("b").is_some());
        steadily("undisturbed", Duration::from_millis(300), || pid("a") == new);
        assert!(parent_of(new.unwrap()) == runsv || !is_alive(runsv.unwrap()), "two of them");
        assert!(!tree.messages().contains("unable to lock"), "{}", tree.messages());
        assert!(!state.join("a.1").exists());
        runsvdir.signal(SIGHUP);
        eventually("ended", || runsvdir.ended() == Some(111));
        eventually("gone", || pid("a").is_none() && pid("b").is_none());
    }

    #[test]
    fn where_nothing_can_be_watched_it_says_so_once_and_looks() {
        let tree = Tree::new();
        let mut runsvdir = where_nothing_can_be_watched(&tree);
        let expected = "runsvdir service: warning: unable to watch, looking every 5 seconds instead: \
                        process cannot open more files\n";
        eventually("said", || tree.messages() == expected);
        tree.sleeper("a");
        eventually("up", || tree.is_up("a"));
        assert_eq!(tree.messages(), expected);
        runsvdir.signal(SIGHUP);
        eventually("ended", || runsvdir.ended() == Some(111));
        eventually("gone", || !tree.is_up("a"));
    }

    #[test]
    fn the_tree_makes_no_system_call_when_nothing_happens() {
        let mut tree = Tree::new();
        for number in 0..10 {
            tree.sleeper(&format!("s{number}"));
        }
        tree.start();
        eventually("up", || (0..10).all(|number| tree.is_up(&format!("s{number}"))));
        let mut pids: Vec<i32> = (0..10).filter_map(|number| tree.runsv_of(&format!("s{number}"))).collect();
        pids.push(tree.runsvdir().pid());
        // Every wake-up is a voluntary switch; who never wakes has no more of them.
        let switches = || -> Vec<String> {
            let of = |pid: &i32| read(format!("/proc/{pid}/status"));
            let line = |text: String| {
                text.lines().filter(|line| line.contains("voluntary_ctxt")).collect::<String>()
            };
            pids.iter().map(of).map(line).collect()
        };
        let mut before = switches();
        eventually("calm", || {
            std::thread::sleep(Duration::from_millis(200));
            std::mem::replace(&mut before, switches()) == switches()
        });
        steadily("idle", Duration::from_secs(6), || switches() == before);
    }
}
