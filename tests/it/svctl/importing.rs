//! `svctl import`, `up` and `down`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::svctl;
use support::*;

/// A project with a Procfile; `svctl down` ends it before it.
struct Project {
    root: TempDir,
}

impl Project {
    fn new(procfile: &str) -> Self {
        let root = TempDir::new();
        root.file("Procfile", procfile);
        Project { root }
    }

    fn svctl(&self, words: &[&str]) -> Outcome {
        svctl().args(words).dir(self.root.path()).go()
    }

    #[track_caller]
    fn works(&self, words: &[&str]) -> String {
        let outcome = self.svctl(words);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{words:?}: {outcome:?}");
        outcome.out
    }

    fn read(&self, path: &str) -> String {
        self.root.read(path)
    }

    fn join(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn pid(&self, name: &str) -> Option<i32> {
        open_fifo(&self.join(&format!(".services/{name}/supervise/ok")))?;
        self.read(&format!(".services/{name}/supervise/pid")).trim().parse().ok()
    }

    /// The last line of the script of a service.
    fn command(&self, name: &str) -> String {
        self.read(&format!(".services/{name}/run")).lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.join(".services").exists() {
            self.svctl(&["down", "-w", "1"]);
        }
    }
}

#[test]
fn a_project_is_started_and_stopped() {
    // Stock's runsv ends the shell, and not what it started, since it does not know `kill-group`.
    let piped = differs(
        "while :; do echo tick; sleep 1; done | cat",
        "while :; do echo tick; sleep 1; done",
        "kill-group",
    );
    let project = Project::new(&format!(
        "web: echo web in $PWD with $GREETING; exec sleep 1000\n# a comment\nworker: sleep 1000\npiped: {piped}\n"
    ));
    project.root.file("env", "export GREETING='it'\\''s \"x\"'\n");
    let out = project.works(&["import", "Procfile", "--env", "env"]);
    assert_eq!(out, "web: made\nworker: made\npiped: made\nnext: svctl up\n");
    let out = project.works(&["up"]);
    assert!(
        out.starts_with("started runsvdir ") && out.ends_with("to stop all of it: svctl down\n"),
        "{out}"
    );
    for name in ["web", "worker", "piped"] {
        assert!(out.contains(&format!("{name}: up (pid ")), "{out}");
    }
    let here = project.root.path().display().to_string();
    let expected = format!("web in {here} with it's \"x\"\n");
    eventually("logged", || project.read("log/web/current").ends_with(&expected));
    eventually("logged", || project.read("log/piped/current").contains("tick"));
    // From a directory below, too.
    fs::create_dir_all(project.join("a/b")).unwrap();
    let again = svctl().arg("up").dir(&project.join("a/b")).go();
    assert!(again.code == Some(0) && again.out.contains(" is served already by runsvdir (pid "), "{again:?}");
    // What was paused goes on.
    let pid = project.pid("web").unwrap();
    project.works(&["kill", "-s", "STOP", "web"]);
    eventually("paused", || project.svctl(&["list", "web"]).out.contains("paused"));
    project.works(&["up"]);
    eventually("goes on", || process_state(pid) != Some('T'));
    let pids: Vec<i32> = ["web", "worker", "piped"].iter().map(|name| project.pid(name).unwrap()).collect();
    let out = project.works(&["down"]);
    assert!(out.contains("web: down\n") && out.contains("ended runsvdir "), "{out}");
    for pid in pids {
        assert!(!is_alive(pid));
    }
    assert!(project.works(&["down"]).starts_with("nothing serves "));
}

#[test]
fn what_up_starts_survives_the_terminal() {
    needs_program("script");
    let project = Project::new("web: exec sleep 1000\n");
    project.works(&["import"]);
    let command = format!("{} svctl up", executable().display());
    let typescript = project.join("typescript");
    run_file("/usr/bin/script").args(&["-qec", &command]).arg(&typescript).dir(project.root.path()).go();
    // The terminal is gone now.
    let pid = project.pid("web").unwrap();
    steadily("up", std::time::Duration::from_millis(500), || is_alive(pid));
    let messages = fs::metadata(project.join(".services/.svctl-messages")).unwrap();
    assert!(messages.is_file());
    project.works(&["down"]);
}

#[test]
fn a_project_needs_no_program_of_the_suite_in_path() {
    let project = Project::new("web: echo begins; exec sleep 1000\n");
    let path = project.join("path");
    fs::create_dir(&path).unwrap();
    for name in ["mkdir", "sleep"] {
        std::os::unix::fs::symlink(format!("/bin/{name}"), path.join(name)).unwrap();
    }
    let exe = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let ours = fs::canonicalize(executable()).unwrap();
    let go = |word: &str, path: &str| {
        let outcome = svctl().arg(word).env("PATH", path).dir(project.root.path()).go();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{word}: {outcome:?}");
        outcome.out
    };
    let path = path.to_str().unwrap();
    go("import", path);
    go("up", path);
    let runsv = parent_of(project.pid("web").unwrap()).unwrap();
    assert_eq!((exe(runsv), exe(parent_of(runsv).unwrap())), (ours.clone(), ours.clone()));
    eventually("logged", || project.read("log/web/current").ends_with(" begins\n"));
    go("down", path);
    // PATH may have another suite.
    let out = go("up", "/usr/bin:/bin");
    let pid = out.split_once("(pid ").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
    assert_eq!(exe(pid.parse().unwrap()), ours, "{out}");
    go("down", path);
}

#[test]
fn a_service_that_ends_at_once_is_not_up() {
    let project = Project::new("web: exec sleep 1000\nbad: exit 3\n");
    project.works(&["import"]);
    // On a busy machine it may take longer to end than `up` looks.
    eventually("told", || {
        let outcome = project.svctl(&["up", "-w", "2"]);
        assert!(!outcome.out.contains("web: does not"), "{outcome:?}");
        outcome.code == Some(1) && outcome.out.contains("bad: does not stay up; to see why: svctl why bad\n")
    });
}

#[test]
fn trees_stand_side_by_side_and_one_is_started_once() {
    let one = Project::new("web: exec sleep 1000\n");
    let two = Project::new("web: exec sleep 1000\n");
    for project in [&one, &two] {
        project.works(&["import"]);
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| one.works(&["up"]));
        }
        scope.spawn(|| two.works(&["up"]));
    });
    let (first, second) = (one.pid("web").unwrap(), two.pid("web").unwrap());
    assert_eq!(one.read(".services/.svctl-messages"), "");
    one.works(&["down"]);
    assert!(!is_alive(first) && is_alive(second));
    two.works(&["down"]);
    assert!(!is_alive(second));
}

#[test]
fn down_ends_in_order_and_kills_what_ignores_it() {
    let project = Project::new(
        "db: exec sleep 1000\napp: exec sleep 1000\nstubborn: trap '' TERM; : >trapped; while :; do sleep 0.1; done\n",
    );
    project.works(&["import"]);
    project.root.file(".services/app/needs", "db\n");
    project.works(&["up"]);
    let stubborn = project.pid("stubborn").unwrap();
    eventually("it ignores TERM", || project.join("trapped").exists());
    let dry = project.works(&["down", "-n"]);
    let at = |what: &str| dry.find(what).unwrap_or_else(|| panic!("{what}: {dry}"));
    assert!(at("would stop app") < at("would stop db") && dry.contains("would end runsvdir"), "{dry}");
    let outcome = project.svctl(&["down", "-w", "1"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.contains("stubborn: killed, since it took too long"), "{outcome:?}");
    let place = |what: &str| outcome.out.find(what).unwrap();
    assert!(place("app: down") < place("db: down"), "{outcome:?}");
    eventually("killed", || !is_alive(stubborn));
}

#[test]
fn a_tree_that_a_runsvinit_serves_is_not_ended() {
    let project = Project::new("web: exec sleep 1000\n");
    project.works(&["import"]);
    let runsvinit = run_file(executable()).args(&["runsvinit", ".services"]).dir(project.root.path());
    let mut runsvinit = runsvinit.start(&project.join("err"));
    eventually("up", || project.pid("web").is_some());
    let outcome = project.svctl(&["down"]);
    assert_eq!(outcome.code, Some(111));
    assert!(outcome.err.contains("runsvinit --halt"), "{outcome:?}");
    let out = project.works(&["up"]);
    assert!(out.contains(" is served already by runsvinit"), "{out}");
    runsvinit.signal(SIGTERM);
    runsvinit.exit_code();
}

#[test]
fn without_a_project_nothing_is_started_or_stopped() {
    let root = TempDir::new();
    for verb in ["up", "down"] {
        let outcome = svctl().arg(verb).dir(root.path()).go();
        assert_eq!(outcome.code, Some(111));
        assert!(outcome.err.contains("no imported services here"), "{outcome:?}");
        assert_eq!(svctl().args(&[verb, "-o", "nosuch"]).dir(root.path()).go().code, Some(111));
        assert_eq!(svctl().args(&[verb, "web"]).dir(root.path()).go().code, Some(100));
    }
}

#[test]
fn commands_become_the_program_where_they_can() {
    let project = Project::new(
        "plain: bin/server -p 80 'a b'\nsteps: cd web && A=1 npm start\nhosted: a | b\nown: exec x\n",
    );
    project.works(&["import"]);
    assert_eq!(project.command("plain"), "exec bin/server -p 80 'a b'");
    assert_eq!(project.command("steps"), "cd web && A=1 exec npm start");
    assert_eq!(project.command("hosted"), "exec sh -c 'a | b'");
    assert_eq!(project.command("own"), "exec x");
    for name in ["plain", "own", "hosted", "steps"] {
        assert!(project.join(&format!(".services/{name}/kill-group")).exists(), "{name}");
    }
    let mode = fs::metadata(project.join(".services/plain/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert!(project.join("log/plain").is_dir());
    assert_eq!(svctl().args(&["lint", ".services"]).dir(project.root.path()).go().out, "");
}

#[test]
fn import_again_updates_what_it_wrote_and_keeps_what_people_changed() {
    let project = Project::new("web: one\nworker: one\ngone: one\nmine: one\n");
    project.works(&["import"]);
    assert_eq!(project.works(&["import"]), "next: svctl up\n");
    project.root.file(".services/worker/run", "#!/bin/sh\nexec mine\n");
    project.root.file(".services/mine/check", "x");
    project.root.file("Procfile", "web: two\nworker: two\n");
    let dry = project.svctl(&["import", "-n", "--prune"]);
    assert!(
        dry.out.contains("web: would be updated") && dry.out.contains("gone: would be removed"),
        "{dry:?}"
    );
    assert_eq!(project.command("web"), "exec one");
    let outcome = project.svctl(&["import"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let tree = format!("{}/.services", project.root.path().display());
    assert_eq!(
        outcome.out,
        format!(
            "web: updated; it counts from its next start on\n\
             kept {tree}/worker/run: changed since the last import\n\
             gone: is no longer in the Procfile; --prune removes it\n\
             mine: is no longer in the Procfile, and stays, since it has a file of yours: check\n\
             next: svctl up\n"
        )
    );
    assert_eq!((project.command("web"), project.command("worker")), ("exec two".into(), "exec mine".into()));
    assert!(project.join(".services/gone/run").exists());
    let outcome = project.svctl(&["import", "--prune"]);
    assert!(outcome.out.contains("gone: removed\n"), "{outcome:?}");
    assert!(!project.join(".services/gone").exists() && project.join(".services/mine/run").exists());
    // What somebody removed stays removed, and what was made executable or not is a change, too.
    fs::remove_file(project.join(".services/web/log/run")).unwrap();
    fs::set_permissions(project.join(".services/web/run"), fs::Permissions::from_mode(0o644)).unwrap();
    project.root.file("Procfile", "web: three\n");
    let outcome = project.svctl(&["import"]);
    assert!(outcome.out.contains("web/log/run: removed since the last import"), "{outcome:?}");
    assert!(outcome.out.contains("web/run: changed since"), "{outcome:?}");
    assert_eq!(project.command("web"), "exec two");
}

#[test]
fn what_people_changed_is_no_failure_unless_it_is_in_the_way() {
    let project = Project::new("web: one\nworker: one\n");
    project.works(&["import"]);
    project.root.file(".services/web/run", "#!/bin/sh\nexec mine\n");
    fs::remove_file(project.join(".services/worker/log/run")).unwrap();
    let tree = format!("{}/.services", project.root.path().display());
    let kept = format!("kept {tree}/web/run: changed since the last import\n");
    for _ in 0..2 {
        let out = project.works(&["import"]);
        assert!(out.starts_with(&kept) && out.contains("/worker/log/run: removed since"), "{out}");
    }
    // Another line would have to be written there.
    project.root.file("Procfile", "web: two\nworker: one\n");
    for _ in 0..2 {
        assert_eq!(project.svctl(&["import"]).code, Some(1));
    }
    project.root.file("Procfile", "web: one\nworker: one\n");
    project.works(&["import"]);
    // It may leave the Procfile, and cannot be removed.
    project.root.file("Procfile", "worker: one\n");
    let stays = "web: is no longer in the Procfile, and stays, since it has a file of yours\n";
    let out = project.works(&["import"]);
    assert!(out.contains(&kept) && out.contains(stays), "{out}");
    let outcome = project.svctl(&["import", "--prune"]);
    assert!(outcome.code == Some(1) && outcome.out.contains(stays), "{outcome:?}");
    assert_eq!(project.command("web"), "exec mine");
}

#[test]
fn a_service_of_somebody_else_is_kept() {
    let project = Project::new("web: one\n");
    project.root.script(".services/web/run", "exec theirs");
    let outcome = project.svctl(&["import"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.out.contains("web/run: not written by svctl import\n"), "{outcome:?}");
    assert_eq!(project.command("web"), "exec theirs");
    project.root.file("Procfile", "other: one\n");
    let outcome = project.svctl(&["import", "--prune"]);
    assert!(
        outcome
            .out
            .contains("web: is no longer in the Procfile, and stays, since it has a file of yours: run\n"),
        "{outcome:?}"
    );
    assert_eq!(project.command("web"), "exec theirs");
    // Nor is the script of a log service.
    let project = Project::new("web: one\n");
    project.root.script(".services/web/log/run", "exec theirs");
    project.svctl(&["import"]);
    project.root.file("Procfile", "other: one\n");
    let outcome = project.svctl(&["import", "--prune"]);
    assert!(
        outcome.out.contains(
            "web: is no longer in the Procfile, and stays, since it has a file of yours: log/run\n"
        ),
        "{outcome:?}"
    );
    assert!(project.read(".services/web/log/run").ends_with("exec theirs\n"));
    // Nor is what a link leads to.
    let project = Project::new("web: one\n");
    project.root.file("elsewhere/x", "");
    fs::create_dir(project.join(".services")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", project.join(".services/web")).unwrap();
    assert_eq!(project.svctl(&["import"]).code, Some(1));
    assert_eq!(fs::read_dir(project.join("elsewhere")).unwrap().count(), 1);
}

#[test]
fn a_pruned_service_ends() {
    let project = Project::new("web: exec sleep 1000\nold: exec sleep 1000\n");
    project.works(&["import"]);
    project.works(&["up"]);
    let (web, old) = (project.pid("web").unwrap(), project.pid("old").unwrap());
    project.root.file("Procfile", "web: exec sleep 1000\n");
    let out = project.works(&["import", "--prune"]);
    assert!(out.contains("old: removed\n"), "{out}");
    assert!(!is_alive(old) && is_alive(web));
    let left = fs::read_dir(project.join(".services")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("old")), "{left:?}");
}

#[test]
fn the_environment_is_read_again_at_each_start() {
    let project = Project::new("web: echo $A; exec sleep 1000\n");
    project.root.file("env", "A=one\n");
    project.works(&["import", "--env", "env"]);
    project.works(&["up"]);
    eventually("first", || project.read("log/web/current").ends_with(" one\n"));
    project.root.file("env", "export A=\"two\nlines\"\n");
    send(&project.join(".services/web/supervise/control"), "t");
    eventually("second", || project.read("log/web/current").ends_with(" two lines\n"));
}

#[test]
fn what_cannot_be_used_is_listed_and_nothing_is_written() {
    let project = Project::new("web: ok\nno colon\nweb: again\nx/y: z\nq: 'open\n");
    let outcome = project.svctl(&["import"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(111), ""));
    for (number, why) in [(2, "name: command"), (3, "before"), (4, "a name has"), (5, "quote")] {
        let line = outcome.err.lines().find(|line| line.contains(&format!("Procfile line {number}: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{outcome:?}");
    }
    project.root.file("Procfile", "web: ok\n");
    project.root.file("env", "A=1\nrm -rf x\n");
    let outcome = project.svctl(&["import", "--env", "env"]);
    assert!(outcome.err.contains("env line 2: ") && outcome.code == Some(111), "{outcome:?}");
    assert_eq!(project.svctl(&["import", "nosuch"]).code, Some(111));
    project.root.file("Procfile", "# nothing\n");
    assert!(project.svctl(&["import"]).err.contains("has no service"));
    assert!(!project.join(".services").exists() && !project.join("log").exists());
}

/// A command that works with the project although `SVDIR` names another directory.
fn with_svdir(project: &Project, svdir: &TempDir, words: &[&str]) -> Outcome {
    svctl().args(words).env("SVDIR", svdir.path()).dir(project.root.path()).go()
}

#[test]
fn a_project_goes_before_svdir_and_down_ends_only_what_up_started() {
    // The services of the machine, so to speak.
    let machine = TempDir::new();
    machine.script("sshd/run", "exec sleep 1000");
    let runsvdir = run_file(executable()).args(&["runsvdir", "-P"]).arg(machine.path());
    let mut runsvdir = runsvdir.start(&machine.join("messages"));
    eventually("up", || svctl().args(&["is-up", "-d"]).arg(machine.path()).arg("sshd").go().code == Some(0));
    let sshd: i32 = machine.read("sshd/supervise/pid").trim().parse().unwrap();
    let project = Project::new("web: exec sleep 1000\n");
    let tree = project.join(".services").display().to_string();
    let elsewhere = format!("for this one: svctl list -d {tree}; svctl log -d {tree}\n");
    let outcome = with_svdir(&project, &machine, &["import"]);
    assert!(outcome.out.contains("\nnext: svctl up\n") && outcome.out.contains(&elsewhere), "{outcome:?}");
    let outcome = with_svdir(&project, &machine, &["up"]);
    assert!(outcome.out.starts_with(&format!("started runsvdir {tree} (pid ")), "{outcome:?}");
    assert!(outcome.out.contains(&elsewhere), "{outcome:?}");
    let outcome = with_svdir(&project, &machine, &["down"]);
    assert!(outcome.out.contains(&format!("ended runsvdir {tree} (pid ")), "{outcome:?}");
    assert!(is_alive(sshd));
    // What `svctl up` did not start is not ended, even if it is meant.
    for words in [&["down", "-o"][..], &["down", "-n", "-d"]] {
        let outcome = svctl().args(words).arg(machine.path()).go();
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(111), ""), "{outcome:?}");
        let path = machine.path().display();
        assert!(
            outcome.err.contains(&format!(" serves {path}, and svctl up did not start it")),
            "{outcome:?}"
        );
    }
    let elsewhere = TempDir::new();
    let outcome = svctl().arg("down").env("SVDIR", machine.path()).dir(elsewhere.path()).go();
    assert_eq!(outcome.code, Some(111), "{outcome:?}");
    // Nor does `up` start there what somebody stopped.
    svctl().args(&["stop", "-d"]).arg(machine.path()).arg("sshd").go();
    let outcome = svctl().args(&["up", "-o"]).arg(machine.path()).go();
    assert!(outcome.out.contains("which svctl up did not start\nsshd: down\n"), "{outcome:?}");
    assert!(!outcome.out.contains("svctl down"), "{outcome:?}");
    runsvdir.signal(SIGHUP);
    runsvdir.exit_code();
}

#[test]
fn a_project_whose_runsvdir_was_killed_can_be_stopped_and_started() {
    let project = Project::new("web: exec sleep 1000\nworker: exec sleep 1000\n");
    project.works(&["import"]);
    let runsvs = || ["web", "worker"].map(|name| parent_of(project.pid(name).unwrap()).unwrap());
    let kill_runsvdir = |out: &str| {
        let pid = out.split_once("(pid ").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
        let pid: i32 = pid.parse().unwrap();
        kill(pid, SIGKILL);
        eventually("ended", || !is_alive(pid));
    };
    kill_runsvdir(&project.works(&["up"]));
    let before = runsvs();
    let out = project.works(&["down"]);
    assert!(out.contains("web: down\n") && out.contains("ended the supervisors of "), "{out}");
    assert!(!before.into_iter().any(is_alive));
    // A runsvdir that comes later does not start those supervisors, so it cannot end them.
    kill_runsvdir(&project.works(&["up"]));
    let before = runsvs();
    project.works(&["up"]);
    assert_eq!(runsvs(), before);
    let out = project.works(&["down"]);
    assert!(out.contains("ended runsvdir "), "{out}");
    assert!(!before.into_iter().any(is_alive));
    assert!(project.works(&["down"]).starts_with("nothing serves "));
    // What was stopped is started.
    project.works(&["up"]);
    svctl().args(&["stop", "web"]).dir(project.root.path()).go();
    assert!(project.works(&["up"]).contains("web: up (pid "));
}

#[test]
fn an_import_keeps_the_variables_and_tells_what_to_restart() {
    let project = Project::new("web: echo $A; exec sleep 1000\nworker: exec sleep 1000\n");
    project.root.file("env", "A=one\n");
    project.works(&["import", "--env", "env"]);
    project.works(&["up"]);
    project.root.file(
        "Procfile",
        "web: echo again $A; exec sleep 1000\nworker: exec sleep 1000\nnew: exec sleep 9\n",
    );
    let out = project.works(&["import"]);
    assert_eq!(out, "web: updated; it counts from its next start on\nnew: made\nnext: svctl restart web\n");
    assert!(
        project.read(".services/web/run").contains("/env || exit 111\n"),
        "{}",
        project.read(".services/web/run")
    );
    let out = project.works(&["up"]);
    assert!(out.contains("web: runs an older command; to run the new one: svctl restart web\n"), "{out}");
    assert!(!out.contains("worker: runs an older"), "{out}");
    svctl().args(&["restart", "web"]).dir(project.root.path()).go();
    assert!(!project.works(&["up"]).contains("older"));
    eventually("logged", || project.read("log/web/current").ends_with(" again one\n"));
}
