//! What other people's tools do with ours, in the words in which they do it: the calls, the files they read, and what they
//! take out of them. Debian's own scripts are run as they are, where they are installed.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::*;

/// A tree with one service called `web`, which is up.
fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.start();
    eventually("up", || tree.sv(&["status", "web"]).out.starts_with("run: web: (pid "));
    tree
}

/// `sv` by full paths, as most tools call it; standard error has to stay empty.
#[track_caller]
fn sv(words: &[&str], path: &Path) -> Outcome {
    let outcome = run("sv").args(words).arg(path).go();
    assert_eq!(outcome.err, "", "{words:?}");
    outcome
}

/// Whether a service can be told something: what scripts wait for with `test -p`.
fn has_ok(service: &Path) -> bool {
    fs::metadata(service.join("supervise/ok")).is_ok_and(|ok| ok.file_type().is_fifo())
}

/// What Ansible's `runit` module makes of the first part of a status: state, process, seconds.
fn as_ansible(out: &str) -> (&str, Option<u32>, Option<u64>) {
    let service = out.split("; ").next().unwrap();
    let after = |begin: &str, end: char| {
        service.match_indices(begin).find_map(|(at, _)| service[at + begin.len()..].split(end).next())
    };
    let pid = after("(pid ", ')').and_then(|word| word.parse().ok());
    let seconds = service
        .split(' ')
        .find_map(|word| word.trim_end().trim_end_matches(',').strip_suffix('s')?.parse().ok());
    let state = match service {
        _ if service.starts_with("run:") => "started",
        _ if service.starts_with("down:") => "stopped",
        _ => "unknown",
    };
    (state, pid, seconds)
}

/// The script of Debian's packages with a service sends ALRM to `runsvdir` after it has made the link.
#[test]
fn runit_helper_sends_alrm_and_the_service_is_there() {
    let mut tree = tree();
    let web = tree.pid("web");
    for name in ["one", "two"] {
        tree.sleeper(name);
        // Not twice within a second, which Debian's runsvdir takes for one.
        tree.runsvdir().signal(SIGALRM);
        let service = tree.root.join(&format!("service/{name}"));
        eventually("the pipe", || has_ok(&service));
        eventually("up", || sv(&["status"], &service).out.starts_with("run: "));
        assert_eq!(tree.runsvdir().ended(), None, "ALRM ended runsvdir");
    }
    for _ in 0..20 {
        tree.runsvdir().signal(SIGALRM);
    }
    steadily("nothing else happens", Duration::from_millis(300), || {
        tree.runsvdir().ended().is_none() && tree.pid("web") == web
    });
}

/// The case needs a file of Debian's package.
fn needs_debian(file: &str) {
    needs(&format!("{file} (apt-get install runit)"), Path::new(file).exists());
}

fn executable_file(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `invoke-run` is the interpreter of the scripts of Debian's packages: it needs its directory, `chpst -e` and `sv`.
#[test]
fn invoke_run_runs_the_script_with_its_environment() {
    needs_debian("/usr/lib/runit/invoke-run");
    needs_root();
    let mut tree = Tree::new();
    // An image may have a policy that nothing is started; the service does not see it.
    let script = "exec unshare -m /bin/sh -c '\n\
                  [ ! -e /usr/sbin/policy-rc.d ] || mount --bind /dev/null /usr/sbin/policy-rc.d\n\
                  exec /usr/lib/runit/invoke-run \"$@\"' sh \"$@\"";
    let interpreter = tree.root.script("interpreter", script);
    let run = format!("#!{}\necho \"$COLOUR $NAME $PWD\" >>seen\nexec sleep 1000\n", interpreter.display());
    executable_file(&tree.root.join("sv/invoked/run"), &run);
    tree.root.file("sv/invoked/env/COLOUR", "blue\n");
    tree.link("invoked");
    tree.start();
    eventually("up", || tree.root.read("sv/invoked/seen").ends_with('\n'));
    let seen = tree.root.read("sv/invoked/seen");
    let words: Vec<&str> = seen.split_whitespace().collect();
    // The name is that of the directory which the shell finds itself in.
    assert!(matches!(words.as_slice(), ["blue", "invoked", path] if path.ends_with("/invoked")), "{seen}");
    eventually("sleeps", || {
        let pid = tree.pid("invoked").unwrap_or(0);
        process_name(pid) == "sleep"
    });
}

/// `finish-default` of Debian's packages: a `run` that ends with 162 is told to stay down, from within its `finish`.
#[test]
fn finish_default_takes_a_service_down() {
    needs_debian("/usr/lib/runit/finish-default");
    needs_debian("/etc/default/runit");
    let mut tree = Tree::new();
    tree.root.script("sv/broken/run", "echo >>starts\nexit 162");
    let finish = format!(
        "#!/bin/sh\nexport SVDIR={}\n. /usr/lib/runit/finish-default \"$@\"\n",
        tree.root.join("service").display()
    );
    executable_file(&tree.root.join("sv/broken/finish"), &finish);
    tree.link("broken");
    tree.start();
    eventually("down", || tree.sv(&["status", "broken"]).out.starts_with("down: broken: "));
    eventually("not wanted", || {
        let out = tree.sv(&["status", "broken"]).out;
        out.starts_with("down: broken: ") && out.contains("normally up") && !out.contains("want up")
    });
    let starts = tree.root.read("sv/broken/starts");
    steadily("stays down", Duration::from_millis(1500), || tree.root.read("sv/broken/starts") == starts);
}

/// `update-service` adds, lists, checks and removes links, and asks `sv` whether a directory is supervised already.
#[test]
fn update_service_adds_and_removes() {
    needs_debian("/usr/sbin/update-service");
    needs_root();
    let mut tree = Tree::new();
    tree.define("web", "exec sleep 1000");
    tree.start();
    let (definition, enabled) = (tree.root.join("sv/web"), tree.root.join("service"));
    let update =
        |words: &[&str]| run_file("/usr/sbin/update-service").args(words).env("SVDIR", &enabled).go();
    let path = definition.to_str().unwrap();
    let added = update(&["--add", path]);
    assert_eq!((added.code, added.out.as_str(), added.err.as_str()), (Some(0), "Service web added.\n", ""));
    eventually("up", || tree.sv(&["status", "web"]).out.starts_with("run: web: "));
    assert_eq!(update(&["--add", path]).out, "Service web already added.\n");
    assert_eq!(update(&["--check", "web"]).code, Some(0));
    // Under another name it is refused: sv sees that it is supervised.
    let other = update(&["--add", path, "other"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.err.contains("is currently controlled by a runsv(8) process."), "{other:?}");
    let pid = tree.pid("web").unwrap();
    assert_eq!(update(&["--remove", path]).code, Some(0));
    eventually("stopped", || !is_alive(pid));
    assert_eq!(update(&["--check", "web"]).code, Some(1));
}

/// Ansible, module `runit`: states by `sv status` with the full path, whatever is on standard error is the state.
#[test]
fn ansible_reads_the_state_and_changes_it() {
    let tree = tree();
    let (service, source) = (tree.root.join("service/web"), tree.root.join("sv/web"));
    let pid = tree.pid("web").unwrap();
    let seen = sv(&["status"], &service).out;
    let (state, of, seconds) = as_ansible(&seen);
    assert_eq!((state, of), ("started", u32::try_from(pid).ok()), "{seen}");
    assert!(seconds.is_some_and(|seconds| seconds < 60), "{seen}");
    assert_eq!(sv(&["stop"], &service).code, Some(0));
    let seen = sv(&["status"], &service).out;
    let (state, of, seconds) = as_ansible(&seen);
    assert!(state == "stopped" && of.is_none() && seconds.is_some(), "{seen}");
    assert_eq!(sv(&["start"], &service).code, Some(0));
    assert_eq!(sv(&["restart"], &service).code, Some(0));
    // Stock may answer before the service has ended.
    eventually("started", || {
        as_ansible(&sv(&["status"], &service).out).0 == "started"
            && tree.pid("web").is_some_and(|new| new != pid)
    });
    // enabled: no. It stops the definition by its own path, and removes the link.
    let pid = tree.pid("web").unwrap();
    let stopped = sv(&["force-stop"], &source);
    assert!(stopped.code == Some(0) && stopped.out.starts_with("ok: down: "), "{stopped:?}");
    assert!(!is_alive(pid));
    tree.unlink("web");
    eventually("let go", || !tree.is_up("web") && sv(&["status"], &source).code == Some(1));
    assert_eq!(as_ansible(&sv(&["status"], &source).out).0, "unknown");
}

/// node_exporter (go-runit): the 20 bytes of `supervise/status`.
#[test]
fn node_exporter_decodes_the_status() {
    let tree = tree();
    let decode = || {
        let bytes = fs::read(tree.root.join("sv/web/supervise/status")).unwrap();
        assert_eq!(bytes.len(), 20);
        let seconds = u64::from_be_bytes(bytes[..8].try_into().unwrap()) - ((1 << 62) + 10);
        let pid = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
        // Since when, who, wanted up, and 0, 1 or 2 for down, run and finish.
        (seconds, pid, bytes[17] == b'u', bytes[19])
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (since, pid, wanted, state) = decode();
    assert_eq!((i32::try_from(pid).ok(), wanted, state), (tree.pid("web"), true, 1));
    assert!(since <= now() && now() - since < 60, "{since} {}", now());
    assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
    let (down_since, pid, wanted, state) = decode();
    assert_eq!((pid, wanted, state), (0, false, 0));
    assert!(down_since >= since && down_since <= now());
    // Its list of services is that of the directories with a `supervise/status` that can be read.
    assert_eq!(fs::metadata(tree.root.join("sv/web/supervise/status")).unwrap().mode() & 0o777, 0o644);
}

/// vsv: the words of `stat`, the number in `pid`, and the time of `stat` as that of the last change.
#[test]
fn vsv_reads_stat_and_its_time() {
    let tree = tree();
    let file = |name: &str| tree.root.join(&format!("sv/web/supervise/{name}"));
    let changed = || fs::metadata(file("stat")).unwrap().modified().unwrap();
    let begun = changed();
    assert!(begun.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(read(file("stat")), "run\n");
    assert_eq!(read(file("pid")), format!("{}\n", tree.pid("web").unwrap()));
    // To look changes nothing, nor does to ask for what is.
    tree.sv(&["status", "web"]);
    tree.sv(&["up", "web"]);
    tree.sv(&["start", "web"]);
    let is_kept = changed() == begun;
    assert!(differs(is_kept, true, "its time is read as uptime; stock writes it at each command"));
    let pid = tree.pid("web");
    assert_eq!(tree.sv(&["restart", "web"]).code, Some(0));
    eventually("another", || tree.pid("web").is_some_and(|new| Some(new) != pid) && changed() > begun);
    assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
    eventually("down", || read(file("stat")) == "down\n" && read(file("pid")).is_empty());
}

/// Puppet, provider `runit`: running by a line, stopped by a failure whose text it knows, and else an error.
#[test]
fn puppet_knows_each_answer() {
    let tree = tree();
    let daemon = tree.root.join("sv/web");
    // It asks for the definition, not for the link.
    let running = sv(&["status"], &daemon);
    assert!(running.code == Some(0) && running.out.starts_with("run: "), "{running:?}");
    assert_eq!(sv(&["stop"], &daemon).code, Some(0));
    let stopped = sv(&["status"], &daemon);
    assert!(stopped.code == Some(0) && !stopped.out.contains("run: "), "{stopped:?}");
    // Never supervised.
    tree.define("never", "exec sleep 1000");
    let never = sv(&["status"], &tree.root.join("sv/never"));
    assert!(never.code == Some(1) && never.out.contains("warning: "), "{never:?}");
    assert!(never.out.ends_with(": unable to open supervise/ok: file does not exist\n"), "{never:?}");
    // No longer supervised.
    tree.unlink("web");
    eventually("let go", || sv(&["status"], &daemon).out.ends_with("runsv not running\n"));
    assert_eq!(sv(&["status"], &daemon).code, Some(1));
}

/// Chef's cookbook: waits for the pipe, then takes the log service from behind the semicolon.
#[test]
fn chef_waits_for_the_pipe_and_sees_the_log_service() {
    let tree = tree();
    tree.define("logged", "exec sleep 1000");
    tree.root.script("sv/logged/log/run", "exec cat >/dev/null");
    tree.link("logged");
    let service = tree.root.join("service/logged");
    eventually("both pipes", || has_ok(&service) && has_ok(&service.join("log")));
    eventually("both run", || {
        let out = sv(&["status"], &service).out;
        let parts: Vec<&str> = out.split(';').collect();
        parts.len() == 2 && parts[0].starts_with("run:") && parts[1].trim().starts_with("run: log: (pid ")
    });
    // It restarts the log service by its own path.
    let before = tree.root.read("sv/logged/log/supervise/pid");
    let restarted = sv(&["-w", "60", "restart"], &service.join("log"));
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    assert!(restarted.out.starts_with("ok: run: "), "{restarted:?}");
    // Stock may answer before the service has ended.
    eventually("another", || {
        !["", &before].contains(&tree.root.read("sv/logged/log/supervise/pid").as_str())
    });
}

/// Salt, pyinfra and others cut the line at blanks and colons.
#[test]
fn the_words_of_a_status_stand_where_they_are_looked_for() {
    let tree = tree();
    let path = tree.root.join("service/web");
    let out = sv(&["status"], &path).out;
    let words: Vec<&str> = out.trim_end().split(' ').collect();
    let name = format!("{}:", path.display());
    let pid = format!("{})", tree.pid("web").unwrap());
    assert_eq!(words[..4], ["run:", &name, "(pid", &pid], "{out}");
    assert!(words.len() == 5 && words[4].ends_with('s'), "{out}");
    assert_eq!(out.trim_end().split(": ").count(), 3, "{out}");
    // specinfra: grep -E '^run: '. A service that waits to be started again is not up.
    assert_eq!(tree.sv(&["down", "web"]).code, Some(0));
    eventually("down", || tree.sv(&["status", "web"]).out.starts_with("down: web: "));
    let out = tree.sv(&["status", "web"]).out;
    let words: Vec<&str> = out.trim_end().split(' ').collect();
    assert!(
        matches!(words.as_slice(), ["down:", "web:", age, "normally", "up"] if age.ends_with("s,")),
        "{out}"
    );
}

/// Scripts that stop a machine (Void) or a container (my_init) give all services at once, and count lines.
#[test]
fn all_services_are_stopped_by_one_call() {
    let mut tree = Tree::new();
    let names: Vec<String> = (0..40).map(|number| format!("s{number:02}")).collect();
    names.iter().for_each(|name| tree.sleeper(name));
    tree.start();
    eventually("up", || names.iter().all(|name| tree.is_up(name)));
    let paths: Vec<_> = names.iter().map(|name| tree.root.join(&format!("service/{name}"))).collect();
    // With few descriptors, as in a container.
    let shell = format!("ulimit -n 64; exec {} -w 60 force-stop \"$@\"", program("sv").display());
    let stopped = run_file("/bin/sh").args(&["-c", &shell, "sv"]).args(&paths).go();
    assert_eq!((stopped.code, stopped.err.as_str()), (Some(0), ""), "{stopped:?}");
    let lines: Vec<&str> = stopped.out.lines().collect();
    assert_eq!(lines.len(), names.len());
    for path in &paths {
        let begin = format!("ok: down: {}: ", path.display());
        assert_eq!(lines.iter().filter(|line| line.starts_with(&begin)).count(), 1, "{begin}");
    }
    assert!(!tree.sv(&["status", "s00", "s39"]).out.contains("run: "));
}

/// GDK, omnibus and Debian look for the tree by what `ps` shows.
#[test]
fn processes_are_called_as_ps_and_pgrep_expect() {
    let mut tree = Tree::new();
    tree.sleeper("web");
    tree.start_with(&["-P", "service"]);
    eventually("up", || tree.is_up("web"));
    let pid = tree.runsvdir().pid();
    let words = |pid: i32| {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.trim_end_matches('\0').split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(process_name(pid), "runsvdir");
    let said = words(pid);
    assert!(said[0].ends_with("runsvdir") && said[1..] == ["-P", "service"], "{said:?}");
    let runsv = tree.runsv_of("web").unwrap();
    assert_eq!(process_name(runsv), "runsv");
    assert_eq!(words(runsv), ["runsv", "web"]);
    assert_eq!(parent_of(runsv), Some(pid));
}

/// `/etc/init.d/NAME` is a link to `sv`: what `service NAME status` and invoke-rc.d take from the code.
#[test]
fn a_link_of_init_d_answers_with_the_codes_of_lsb() {
    let tree = tree();
    let link = tree.root.join("init.d/web");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(program("sv"), &link).unwrap();
    let call = |word: &str| run_file(&link).arg(word).env("SVDIR", tree.root.join("service")).go();
    assert_eq!(call("status").code, Some(0));
    let stopped = call("stop");
    assert!(stopped.code == Some(0) && stopped.out.starts_with("ok: down: web: "), "{stopped:?}");
    assert_eq!(call("status").code, Some(3));
    assert_eq!(call("start").code, Some(0));
    let first = tree.pid("web");
    assert_eq!(call("restart").code, Some(0));
    if reference().is_some() {
        // Debian's can return before the old process has ended.
        let is_another = || tree.pid("web").is_some_and(|new| Some(new) != first);
        eventually("started again", || is_another() && call("status").code == Some(0));
    }
    assert_eq!(call("status").code, Some(0));
    assert_eq!(call("nonsense").code, Some(2));
}
