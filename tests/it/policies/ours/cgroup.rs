//! `cgroup/`. Most cases need root and control groups of version 2, those of limits also the controllers.

use support::*;

/// A service with a child that leaves its session.
const ESCAPING: &str = "setsid sleep 1000 &\necho $! >escaped\nexec sleep 1000";

/// Starts the service `web` with this script, in a group of the case.
fn start(tree: &mut Tree, group: &ControlGroup, run: &str) {
    tree.define("web", run);
    tree.link("web");
    tree.start_by(&format!("{}\nexec \"$@\"", group.enter()));
}

fn escaped(tree: &Tree) -> Option<i32> {
    tree.read("web", "escaped").trim().parse().ok()
}

/// Ends the supervisor in order.
fn stop(tree: &mut Tree) {
    let signal = if tree.supervisor() == "runsvinit" { SIGTERM } else { SIGHUP };
    tree.runsvdir().signal(signal);
    tree.exit_code();
}

#[test]
fn nothing_of_a_service_stays_behind() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        tree.file("web", "cgroup/cgroup.max.descendants", "7\n");
        start(tree, &group, ESCAPING);
        let is_whole = || group.processes_of("web").len() == 2 && escaped(tree).is_some();
        eventually("up", || tree.is_up("web") && is_whole());
        let own = group.of("web").unwrap();
        assert_eq!(read(own.join("cgroup.max.descendants")), "7\n");
        let (run, child) = (tree.pid("web").unwrap(), escaped(tree).unwrap());
        assert_eq!(group.processes_of("web"), [run, child]);
        assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
        eventually("the child ended", || !is_alive(child));
        eventually("again", || is_whole() && escaped(tree) != Some(child));
        assert!(!group.processes_of("web").contains(&child));
        let child = escaped(tree).unwrap();
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("all ended", || !is_alive(child) && group.processes_of("web").is_empty());
        // A setting whose file is gone does not stay.
        std::fs::remove_file(tree.root.join("sv/web/cgroup/cgroup.max.descendants")).unwrap();
        assert_eq!(tree.sv(&["start", "web"]).code, Some(0));
        assert_eq!(read(group.of("web").unwrap().join("cgroup.max.descendants")), "max\n");
        eventually("again", is_whole);
        stop(tree);
        eventually("the group is gone", || group.of("web").is_none());
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn what_a_killed_supervisor_left_is_ended() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        tree.file("web", "cgroup/.keep", "");
        start(tree, &group, ESCAPING);
        eventually("up", || tree.is_up("web") && group.processes_of("web").len() == 2);
        let before = group.processes_of("web");
        // A stranger's group of a similar name is not touched.
        let other = group.path().join("sv.web");
        std::fs::create_dir(&other).unwrap();
        tree.file("web", "down", "");
        if tree.supervisor() == "runsvinit" {
            tree.runsvdir().signal(SIGKILL);
            tree.exit_code();
            tree.start_by(&format!("{}\nexec \"$@\"", group.enter()));
        } else {
            kill(tree.runsv_of("web").unwrap(), SIGKILL);
        }
        // Also where the service is not to be started.
        eventually("ended", || before.iter().all(|pid| !is_alive(*pid)));
        assert!(other.exists());
        std::fs::remove_dir(other).unwrap();
        eventually("served", || tree.sv(&["status", "web"]).out.starts_with("down: "));
    });
}

/// More groups below that of a service than its supervisor removes at a time: as with a process that does not end at once, the
/// kernel refuses to remove the group.
const MANY_GROUPS: &str = "cd $GROUP/sv.web.*\nmkdir $(seq 300)";

#[test]
fn no_setting_of_a_group_that_cannot_be_removed_yet_stays() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        let setting = "cgroup.max.descendants";
        tree.file("web", &format!("cgroup/{setting}"), "400\n");
        let run = MANY_GROUPS.replace("$GROUP", group.path().to_str().unwrap());
        start(tree, &group, &format!("if [ ! -e again ]; then\n{run}\nfi\nexec sleep 1000"));
        let first = || group.of("web").is_some_and(|own| own.join("300").exists());
        eventually("up", || tree.is_up("web") && first());
        tree.file("web", "again", "");
        std::fs::remove_file(tree.root.join(&format!("sv/web/cgroup/{setting}"))).unwrap();
        assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
        let own = read(format!("/proc/{}/cgroup", tree.pid("web").unwrap()));
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let own = group.path().join(own.rsplit('/').next().unwrap());
        assert_eq!(read(own.join(setting)), "max\n");
        // All of them go when the supervisor leaves.
        stop(tree);
        eventually("no group is left", || group.of("web").is_none());
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn each_group_that_a_killed_supervisor_left_is_removed() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        tree.file("web", "cgroup/.keep", "");
        let run = MANY_GROUPS.replace("$GROUP", group.path().to_str().unwrap());
        start(tree, &group, &format!("if [ ! -e again ]; then\n{run}\nfi\nexec sleep 1000"));
        let groups = || std::fs::read_dir(group.path()).unwrap().flatten().map(|entry| entry.path());
        let groups = || groups().filter(|path| path.to_str().unwrap().contains("/sv.web.")).count();
        eventually("up", || group.of("web").is_some_and(|own| own.join("300").exists()));
        tree.file("web", "again", "");
        assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
        assert_eq!(groups(), 2);
        let before = tree.pid("web").unwrap();
        if tree.supervisor() == "runsvinit" {
            tree.runsvdir().signal(SIGKILL);
            tree.exit_code();
            tree.start_by(&format!("{}\nexec \"$@\"", group.enter()));
        } else {
            kill(tree.runsv_of("web").unwrap(), SIGKILL);
        }
        eventually("another", || tree.is_up("web") && tree.pid("web") != Some(before));
        assert!(!is_alive(before));
        // The process in the second group was killed a moment ago.
        assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
        assert_eq!(groups(), 1);
    });
}

#[test]
fn all_processes_are_killed_where_the_kernel_cannot_kill_a_group() {
    needs_program("strace");
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        tree.file("web", "cgroup/.keep", "");
        // Some are in groups below.
        let below = format!("cd {}/sv.web.*\nmkdir -p a/b", group.path().display());
        let enter = "(echo 0 >a/b/cgroup.procs; exec setsid sleep 1000) &\nsetsid sleep 1000 &";
        tree.define("web", &format!("{below}\n{enter}\nexec sleep 1000"));
        tree.link("web");
        // Linux before 5.14 has no such file.
        let trace =
            "strace -D -fqq -o strace.out -P cgroup.kill -e trace=openat -e inject=openat:error=ENOENT";
        tree.start_by(&format!("{}\nexec {trace} \"$@\"", group.enter()));
        let below = || group.of("web").map(|own| read(own.join("a/b/cgroup.procs"))).unwrap_or_default();
        let all = || {
            let mut all = group.processes_of("web");
            all.extend(below().lines().map(|line| line.parse::<i32>().unwrap()));
            all
        };
        eventually("up", || tree.is_up("web") && all().len() == 3 && !below().is_empty());
        let before = all();
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("ended", || before.iter().all(|pid| !is_alive(*pid)));
        assert!(tree.root.read("strace.out").contains("INJECTED"), "{}", tree.root.read("strace.out"));
        assert_eq!(tree.sv(&["start", "web"]).code, Some(0));
        eventually("up", || all().len() == 3 && !below().is_empty());
        stop(tree);
        eventually("no group is left", || group.of("web").is_none());
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn what_cannot_be_set_is_reported_and_the_service_runs() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        for (name, content) in [
            ("cgroup.max.depth", "many"),
            ("cgroup.procs", "1"),
            ("nix.max", "1"),
            ("README", "limits"),
            (".hidden", "x"),
        ] {
            tree.file("web", &format!("cgroup/{name}"), content);
        }
        tree.file("web", "cgroup/cgroup.max.descendants", &"1".repeat(5000));
        start(tree, &group, ESCAPING);
        eventually("up", || tree.is_up("web"));
        let told = tree.messages();
        for what in [
            "cgroup/README: not the name of a setting, ignored\n",
            "cgroup/cgroup.max.depth: unable to set that: ",
            "cgroup/cgroup.max.descendants: unable to read, ignored: file too big\n",
            "cgroup/cgroup.procs: only the supervisor writes to that, ignored\n",
            "cgroup/nix.max: the supervisor's control group has no controller nix to pass on: ",
        ] {
            assert_eq!(told.matches(&format!("web: warning: {what}")).count(), 1, "{what}{told}");
        }
        assert_eq!(told.lines().count(), 5, "{told}");
    });
}

#[test]
fn odd_names_have_groups_too() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[]);
        let names = ["a b", "new\nline", "\\x", "memory.max", &"l".repeat(200)];
        for name in names {
            tree.define(name, "exec sleep 1000");
            tree.file(name, "cgroup/.keep", "");
            tree.link(name);
        }
        start(tree, &group, "exec sleep 1000");
        eventually("up", || names.iter().all(|name| tree.is_up(name)));
        for name in ["a\\x20b", "new\\x0aline", "\\x5cx", "memory.max", &format!("{}~", "l".repeat(163))] {
            let begin = name.strip_suffix('~').unwrap_or(name);
            let entries: Vec<_> =
                std::fs::read_dir(group.path()).unwrap().flatten().map(|it| it.file_name()).collect();
            let is_its =
                |entry: &std::ffi::OsString| entry.to_str().unwrap().starts_with(&format!("sv.{begin}"));
            assert!(entries.iter().any(is_its), "{name} {entries:?}");
        }
    });
}

#[test]
fn where_there_are_no_groups_the_process_group_stands_in() {
    needs_root();
    needs_unshare("--mount");
    under_each_supervisor(|tree| {
        for name in ["web", "db"] {
            tree.define(name, "sleep 1000 & echo $! >child\nexec sleep 1000");
            tree.file(name, "cgroup/pids.max", "10");
            tree.link(name);
        }
        // Hidden, but still in the list of mounts.
        tree.start_by(
            "exec unshare --mount sh -c 'mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"' sh \"$@\"",
        );
        let child = || tree.read("web", "child").trim().parse().ok();
        eventually("up", || tree.is_up("web") && tree.is_up("db") && child().is_some());
        let child = child().unwrap();
        let told = "cgroup: no control group can be had, kill-group holds in its place: no control group file system \
                    of version 2 is mounted that has our group\n";
        let times = if tree.supervisor() == "runsvinit" { 1 } else { 2 };
        eventually("told", || tree.messages().matches(told).count() == times);
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("the child ended", || !is_alive(child));
        assert_eq!(tree.messages().lines().count(), times, "{}", tree.messages());
    });
}

/// The first of these controllers that groups get, and that a group with processes cannot pass on.
fn some_controller() -> &'static str {
    let known = ["memory", "io", "hugetlb"];
    let passed_on = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(|root| read(format!("{root}/cgroup.subtree_control")));
    let is_passed_on =
        |name: &&&str| passed_on.iter().any(|all| all.split_whitespace().any(|one| one == **name));
    known.iter().find(is_passed_on).copied().unwrap_or("memory")
}

#[test]
fn a_supervisor_makes_room_for_controllers() {
    let controller = some_controller();
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[controller]);
        let file = if controller == "hugetlb" { "hugetlb.2MB.max" } else { &format!("{controller}.max") };
        tree.file("web", &format!("cgroup/{file}"), if controller == "io" { "" } else { "1073741824\n" });
        tree.define("db", "exec sleep 1000");
        tree.link("db");
        start(tree, &group, ESCAPING);
        eventually("up", || tree.is_up("web") && tree.is_up("db"));
        let own = group.of("web").unwrap();
        if controller != "io" {
            assert_eq!(read(own.join(file)), "1073741824\n", "{}", tree.messages());
        }
        let others: Vec<i32> = read(group.path().join("supervisor/cgroup.procs"))
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        assert!(others.contains(&tree.runsvdir().pid()) && !others.contains(&tree.pid("web").unwrap()));
        assert_eq!(tree.messages(), "");
        // A supervisor that begins there finds the same groups.
        if tree.supervisor() == "runsvdir" {
            let before = group.processes_of("web");
            kill(tree.runsv_of("web").unwrap(), SIGKILL);
            eventually("another", || tree.is_up("web") && before.iter().all(|pid| !is_alive(*pid)));
            eventually("in the same group", || {
                group.processes_of("web").contains(&tree.pid("web").unwrap_or(0))
            });
        }
    });
}

/// What begins in the common group could be moved from there by another supervisor after it has entered its own.
#[test]
fn no_process_begins_where_another_supervisor_may_move_it() {
    under_each_supervisor(|tree| {
        if tree.supervisor() != "runsvdir" {
            return;
        }
        let group = ControlGroup::new(&[]);
        tree.file("web", "cgroup/.keep", "");
        start(tree, &group, "exec sleep 1000");
        eventually("up", || tree.is_up("web"));
        let runsv = tree.runsv_of("web").unwrap();
        let group_of = |pid: i32| read(format!("/proc/{pid}/cgroup"));
        assert!(group_of(runsv).trim_end().ends_with("/supervisor"), "{}", group_of(runsv));
        assert!(group.processes_of("web").contains(&tree.pid("web").unwrap()));
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn room_is_not_made_at_the_cost_of_others() {
    let controller = some_controller();
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&[controller]);
        let file = if controller == "hugetlb" { "hugetlb.2MB.max" } else { &format!("{controller}.max") };
        tree.file("web", &format!("cgroup/{file}"), "1073741824\n");
        tree.define("web", "exec sleep 1000");
        tree.link("web");
        // Another process is in the group, and it is not the supervisor's.
        let mut other = run_file("/bin/sh")
            .args(&["-c", &format!("{}\nexec sleep 1000", group.enter())])
            .start(&tree.root.join("other"));
        let procs = || read(group.path().join("cgroup.procs"));
        eventually("there", || procs().contains(&other.pid().to_string()));
        tree.start_by(&format!("{}\nexec \"$@\"", group.enter()));
        eventually("up", || tree.is_up("web"));
        assert!(
            tree.messages().contains(&format!("has no controller {controller} to pass on: ")),
            "{}",
            tree.messages()
        );
        // Nor does the group pass anything on, which would keep others from entering it.
        assert!(procs().contains(&other.pid().to_string()));
        assert_eq!(read(group.path().join("cgroup.subtree_control")).trim(), "");
        other.kill();
    });
}

#[test]
fn a_fork_bomb_is_held_and_gone_after_a_stop() {
    under_each_supervisor(|tree| {
        needs_program("bash");
        let group = ControlGroup::new(&["pids"]);
        tree.file("web", "cgroup/pids.max", "40\n");
        // Unlike other shells, bash tries again where there can be no process.
        let bomb = "exec bash -c 'bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000'";
        start(tree, &group, &format!("while [ ! -e go ]; do sleep 0.1; done\n{bomb}"));
        eventually("up", || tree.is_up("web"));
        // Without that limit the machine would be full of it.
        assert_eq!(read(group.of("web").unwrap().join("pids.max")), "40\n", "{}", tree.messages());
        assert_eq!(group.processes_of("web").first(), tree.pid("web").as_ref());
        tree.file("web", "go", "");
        eventually("full", || group.processes_of("web").len() > 20);
        assert_eq!(read(group.of("web").unwrap().join("pids.max")), "40\n");
        assert_eq!(tree.messages(), "");
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
        eventually("gone", || group.processes_of("web").is_empty());
    });
}

#[test]
fn an_end_for_lack_of_memory_is_reported_as_such() {
    under_each_supervisor(|tree| {
        let group = ControlGroup::new(&["memory"]);
        tree.file("web", "cgroup/memory.max", "20000000\n");
        tree.file("web", "cgroup/memory.swap.max", "0\n");
        start(tree, &group, "exec tail /dev/zero");
        let told = "web: warning: out of memory: the kernel has killed it\n";
        eventually("told", || tree.messages().contains(told));
    });
}
