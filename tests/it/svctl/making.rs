//! `svctl new`, `enable`, `disable` and `lint`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use support::*;

use super::{svctl, svctl_in};

#[test]
fn a_new_service_works() {
    let mut tree = Tree::new();
    let service = tree.root.join("service");
    // Stock's runsvdir goes into the directory, so a relative path would not tell others what it serves.
    tree.start_with(&[service.to_str().unwrap()]);
    let made = svctl()
        .args(&["new", "web", "--log", "--env", "GREETING=it's \"x y\"", "-C", "/", "-s", "sv", "--"])
        .args(&["sh", "-c", "echo $GREETING in $PWD; exec sleep 1000"])
        .dir(tree.root.path())
        .env("SVDIR", &service)
        .go();
    assert_eq!((made.code, made.err.as_str()), (Some(0), ""));
    assert_eq!(made.out, "made sv/web\nnext: svctl enable --now -s sv web\n");
    for (file, mode) in [("run", 0o755), ("log/run", 0o755), ("log/main", 0o755)] {
        let meta = fs::metadata(tree.root.join("sv/web").join(file)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{file}");
    }
    // What it says to do next.
    let enabled = svctl()
        .args(&["enable", "--now", "-s", "sv", "web"])
        .dir(tree.root.path())
        .env("SVDIR", &service)
        .go();
    assert_eq!((enabled.code, enabled.err.as_str()), (Some(0), ""), "{enabled:?}");
    let pid = tree.pid("web").unwrap();
    assert!(enabled.out.ends_with(&format!("web: up, pid {pid}\n")), "{enabled:?}");
    eventually("logged", || tree.root.read("sv/web/log/main/current").contains("it's \"x y\" in /\n"));
    // The script became the program.
    assert_eq!(parent_of(pid), tree.runsv_of("web"));
    assert!(fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"sleep\0"));
}

#[test]
fn a_new_service_in_a_directory_without_links_waits_for_enable() {
    let tree = Tree::new();
    let made = svctl_in(&tree).args(&["new", "a b?", "--", "true"]).go();
    assert_eq!(made.code, Some(100), "{made:?}");
    assert!(made.err.contains("cannot be the name of a service"), "{made:?}");
    let made = svctl_in(&tree).args(&["new", "web", "--", "true", "-x"]).go();
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(tree.root.join("service/web/down").exists());
    assert!(tree.root.read("service/web/run").ends_with("\nexec true -x\n"));
    // A relative program is started from here, and with -C from that directory.
    let run = |words: &[&str]| {
        assert_eq!(svctl_in(&tree).args(words).go().code, Some(0), "{words:?}");
        tree.root.read(&format!("service/{}/run", words[1]))
    };
    let here = tree.root.path().display();
    let expected = format!("\ncd {here} || exit 111\nexec ./server ./x\n");
    assert!(run(&["new", "here", "--", "./server", "./x"]).ends_with(&expected));
    assert!(run(&["new", "there", "-C", "/srv", "--", "./server"]).ends_with("\nexec ./server\n"));
    for name in ["here", "there"] {
        fs::remove_dir_all(tree.root.join("service").join(name)).unwrap();
    }
    assert_eq!(svctl_in(&tree).args(&["enable", "web"]).go().code, Some(0));
    assert!(!tree.root.join("service/web/down").exists());
    // Nothing is overwritten.
    let again = svctl_in(&tree).args(&["new", "web", "--", "false"]).go();
    assert_eq!(again.code, Some(111));
    assert!(again.err.contains("file already exists"), "{again:?}");
    assert!(tree.root.read("service/web/run").ends_with("\nexec true -x\n"));
    assert_eq!(fs::read_dir(tree.root.join("service")).unwrap().count(), 1);
}

#[test]
fn wrong_words_make_nothing() {
    let tree = Tree::new();
    for (words, why) in [
        (&["new", "web"][..], "needs a command"),
        (&["new", "--", "true"], "needs one name"),
        (&["new", "a", "b", "--", "true"], "needs one name"),
        (&["new", "web", "--env", "1A=x", "--", "true"], "NAME=VALUE"),
        (&["new", ".web", "--", "true"], "dot"),
        (&["new", "web", "--user", "no-such-user", "--", "true"], "unknown user or group"),
    ] {
        let outcome = svctl_in(&tree).args(words).go();
        assert_ne!(outcome.code, Some(0), "{words:?}");
        assert!(outcome.err.contains(why), "{words:?} {outcome:?}");
    }
    let dry = svctl_in(&tree).args(&["new", "-n", "web", "--log", "--", "true"]).go();
    assert!(dry.out.contains("would write ") && dry.out.contains("/web/log/run\n"), "{dry:?}");
    assert_eq!(fs::read_dir(tree.root.join("service")).unwrap().count(), 0);
}

#[test]
fn a_user_of_a_new_service_is_that_of_chpst() {
    needs_root();
    let tree = Tree::new();
    let made = svctl_in(&tree).args(&["new", "web", "--user", "nobody", "--", "true"]).go();
    assert_eq!(made.code, Some(0), "{made:?}");
    let run = tree.root.read("service/web/run");
    assert!(run.ends_with("chpst -u nobody true\n"), "{run}");
}

#[test]
fn enabling_and_disabling_says_what_it_did_and_does_nothing_twice() {
    let mut tree = Tree::new();
    tree.define("web", "exec sleep 1000");
    tree.start();
    let go = |words: &[&str]| {
        let outcome = svctl_in(&tree).args(words).env("SVSRC", tree.root.join("sv")).go();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{words:?}");
        outcome.out.replace(tree.root.path().to_str().unwrap(), "")
    };
    let link = tree.root.join("service/web");
    assert_eq!(go(&["enable", "-n", "web"]), "web: would be enabled by the link /service/web to /sv/web\n");
    assert!(!link.exists());
    assert_eq!(go(&["enable", "web"]), "web: enabled by the link /service/web to /sv/web\n");
    assert_eq!(fs::read_link(&link).unwrap(), tree.root.join("sv/web"));
    assert_eq!(go(&["enable", "web"]), "web: is enabled already\n");
    eventually("up", || tree.is_up("web"));
    let pid = tree.pid("web").unwrap();
    let out = go(&["disable", "--now", "web"]);
    assert_eq!(out, "web: down\nweb: disabled, without the link /service/web to /sv/web\n");
    assert!(!is_alive(pid) && !link.is_symlink());
    assert_eq!(go(&["disable", "web"]), "web: is disabled already\n");
    // Its definition says that it is started by hand.
    tree.root.file("sv/web/down", "");
    assert!(go(&["enable", "web"]).ends_with("; it has a file down, so svctl start has to start it\n"));
    fs::remove_file(&link).unwrap();
    // A link to nothing is replaced.
    symlink("/nowhere", &link).unwrap();
    assert_eq!(
        go(&["enable", "web"]),
        "web: enabled by the link /service/web to /sv/web, in place of one to /nowhere, which did not exist; \
         it has a file down, so svctl start has to start it\n"
    );
    assert_eq!(fs::read_link(&link).unwrap(), tree.root.join("sv/web"));
}

#[test]
fn what_is_enabled_and_ends_at_once_is_a_failure() {
    let mut tree = Tree::new();
    tree.define("web", "sleep 0.02; exit 3");
    tree.start();
    let outcome = svctl_in(&tree).args(&["enable", "--now", "web"]).env("SVSRC", tree.root.join("sv")).go();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(outcome.out.contains("\nweb: ended at once; "), "{outcome:?}");
    assert!(outcome.out.contains("  cause: it exits with 3 "), "{outcome:?}");
}

#[test]
fn a_service_that_was_just_disabled_can_be_enabled() {
    let mut tree = Tree::new();
    tree.define("web", "exec sleep 1000");
    tree.start();
    let go =
        |word: &str| svctl_in(&tree).args(&[word, "--now", "web"]).env("SVSRC", tree.root.join("sv")).go();
    for _ in 0..8 {
        let enabled = go("enable");
        assert_eq!((enabled.code, enabled.err.as_str()), (Some(0), ""), "{enabled:?}");
        assert!(enabled.out.contains("\nweb: up, pid "), "{enabled:?}");
        let disabled = go("disable");
        assert_eq!((disabled.code, disabled.err.as_str()), (Some(0), ""), "{disabled:?}");
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_not_replaced() {
    let tree = Tree::new();
    tree.define("web", "exec sleep 1000");
    tree.root.script("elsewhere/web/run", "exec sleep 1000");
    let link = tree.root.join("service/web");
    symlink(tree.root.join("elsewhere/web"), &link).unwrap();
    let go = |name: &str| svctl_in(&tree).args(&["enable", name]).env("SVSRC", tree.root.join("sv")).go();
    let outcome = go("web");
    let root = tree.root.path().display();
    let expected =
        format!("svctl: web: {root}/service/web leads to {root}/elsewhere/web, not to {root}/sv/web\n");
    assert_eq!((outcome.code, outcome.err, outcome.out), (Some(1), expected, String::new()));
    assert_eq!(fs::read_link(&link).unwrap(), tree.root.join("elsewhere/web"));
    // A directory without `run` is no service.
    fs::create_dir(tree.root.join("sv/empty")).unwrap();
    let outcome = go("empty");
    assert_eq!(
        (outcome.code, outcome.err),
        (Some(1), format!("svctl: empty: there is no {root}/sv/empty/run\n"))
    );
    assert!(!tree.root.join("service/empty").is_symlink());
}

#[test]
fn a_directory_without_links_has_the_file_down() {
    let tree = Tree::new();
    tree.root.script("service/web/run", "exec sleep 1000");
    let go = |words: &[&str]| svctl_in(&tree).args(words).go().out;
    assert!(go(&["disable", "web"]).starts_with("web: disabled by the file "));
    assert!(tree.root.join("service/web/down").exists());
    assert_eq!(go(&["disable", "web"]), "web: is disabled already\n");
    assert!(go(&["enable", "web"]).starts_with("web: enabled, without the file "));
    assert!(!tree.root.join("service/web/down").exists());
    assert_eq!(go(&["enable", "web"]), "web: is enabled already\n");
    // A pattern and a group mean the same services in both directions.
    tree.root.script("service/app-1/run", "exec sleep 1000");
    tree.root.script("service/app-2/run", "exec sleep 1000");
    for word in ["app-*", "app"] {
        assert_eq!(go(&["disable", word]).matches(": disabled by the file ").count(), 2, "{word}");
        assert_eq!(
            go(&["enable", word, "app-1"]).matches(": enabled, without the file ").count(),
            2,
            "{word}"
        );
    }
}

#[test]
fn a_definition_goes_before_a_group() {
    let tree = Tree::new();
    for name in ["web", "web-1"] {
        tree.define(name, "exec sleep 1000");
    }
    tree.link("web-1");
    let go = |words: &[&str]| svctl_in(&tree).args(words).env("SVSRC", tree.root.join("sv")).go();
    assert_eq!(go(&["disable", "web"]).out, "web: is disabled already\n");
    assert!(go(&["enable", "web"]).out.starts_with("web: enabled by the link "));
    assert_eq!(go(&["enable", "w*"]).out, "web: is enabled already\nweb-1: is enabled already\n");
    let none = go(&["enable", "x*"]);
    assert_eq!((none.code, none.err.as_str()), (Some(111), "svctl: fatal: no service matches x*\n"));
    let near = go(&["enable", "wbe"]);
    assert!(near.err.ends_with("/sv/wbe; did you mean web?\n"), "{near:?}");
}

#[test]
fn the_directory_of_a_user_is_known_or_nothing_is_done() {
    let root = TempDir::new();
    root.script("service/web/run", "exec sleep 1000");
    let go = |home: &str, words: &[&str]| {
        let svctl = svctl().args(words).env("HOME", home).env("XDG_CONFIG_HOME", "").dir(root.path());
        let outcome = svctl.go();
        (outcome.code, outcome.err + &outcome.out)
    };
    for home in ["", "."] {
        let (code, out) = go(home, &["--user", "disable", "web"]);
        let why = "svctl: --user needs HOME, which is not set to an absolute path\n";
        assert!(code == Some(100) && out.starts_with(why), "{out}");
    }
    assert!(!root.join("service/web/down").exists());
    let home = root.path().to_str().unwrap();
    assert_eq!(go(home, &["--user", "names"]), (Some(0), "web\n".to_owned()));
    let (code, out) = go(home, &["--user", "names", "-d", "."]);
    assert!(code == Some(100) && out.starts_with("svctl: -d and --user exclude each other\n"), "{out}");
}

#[test]
fn what_does_not_exist_is_not_enabled() {
    let tree = Tree::new();
    let outcome = svctl_in(&tree).args(&["enable", "nosuch", "-s", "/nowhere"]).go();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.starts_with("svctl: nosuch: there is neither "), "{outcome:?}");
    tree.root.file("service/file", "x");
    let outcome = svctl_in(&tree).args(&["enable", "file"]).go();
    assert!(outcome.err.contains("is not a directory"), "{outcome:?}");
    assert_eq!(svctl_in(&tree).arg("enable").go().code, Some(100));
}

#[test]
fn an_instance_is_a_link_to_its_template() {
    let tree = Tree::new();
    tree.define("getty@", "exec sleep 1000");
    let outcome = svctl_in(&tree).args(&["enable", "getty@tty1"]).env("SVSRC", tree.root.join("sv")).go();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let link = fs::read_link(tree.root.join("service/getty@tty1")).unwrap();
    assert_eq!(link, tree.root.join("sv/getty@"));
}

#[test]
fn before_the_boot_of_void_services_go_to_the_default_directory() {
    let root = TempDir::new();
    root.script("sv/web/run", "exec sleep 1000");
    fs::create_dir_all(root.join("runsvdir/default")).unwrap();
    symlink("/nowhere/current", root.join("service")).unwrap();
    let go = |words: &[&str]| {
        let svctl = svctl().args(words).env("SVSRC", root.join("sv")).env("SVDIR", root.join("service"));
        let outcome = svctl.env("RUNSVDIR", root.join("runsvdir")).go();
        assert_eq!(outcome.err, "", "{words:?}");
        (outcome.code, outcome.out)
    };
    assert_eq!(go(&["enable", "web"]).0, Some(0));
    assert!(root.join("runsvdir/default/web/run").exists());
    // All commands mean that directory then.
    let (code, out) = go(&["list", "web"]);
    assert!(code == Some(3) && out.contains("web      not supervised"), "{out}");
    assert_eq!(go(&["lint"]), (Some(0), String::new()));
    assert_eq!(go(&["enable", "-n", "web"]), (Some(0), "web: is enabled already\n".to_owned()));
    assert_eq!(go(&["disable", "w*"]).0, Some(0));
    assert!(!root.join("runsvdir/default/web").is_symlink());
    // A directory that is there is never replaced.
    let list = |dir: &str| svctl().args(&["list", "-d", dir]).env("RUNSVDIR", root.join("runsvdir")).go();
    assert_eq!(list("/nowhere").code, Some(111));
}

/// What `svctl lint` prints of a service with these files, without the path of the service; and its exit code.
fn linted(make: impl Fn(&Path)) -> (Option<i32>, String) {
    let root = TempDir::new();
    let service = root.join("web");
    fs::create_dir(&service).unwrap();
    make(&service);
    let outcome = svctl().arg("lint").arg(&service).go();
    assert_eq!(outcome.err, "");
    (outcome.code, outcome.out.replace(&format!("{}/", service.display()), ""))
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn lint_finds_what_keeps_a_service_from_working() {
    const GOOD: &str = "#!/bin/sh\nexec sleep 1\n";
    let run = |text: &'static str, mode| linted(move |dir| write(&dir.join("run"), text, mode));
    assert_eq!(run(GOOD, 0o755), (Some(0), String::new()));
    for (text, mode, told) in [
        (GOOD, 0o644, "run: not executable: chmod +x run\n"),
        ("", 0o755, "run: it is empty\n"),
        ("exec x\n", 0o755, "run: no \"#!/bin/sh\" line at its beginning, or for another architecture\n"),
        ("#!/no/such\n", 0o755, "run: its interpreter /no/such does not exist\n"),
        ("#!/bin/sh\r\n", 0o755, "run: its first line ends in CR; mend with: sed -i 's/\\r$//' run\n"),
        (GOOD, 0o777, "run: everybody may write to it: chmod o-w\n"),
        (
            "#!/bin/sh\nhttpd &\n",
            0o755,
            "run: its last command ends in &, so it ends at once, and what it started is not supervised\n",
        ),
        (
            "\u{7f}ELF\u{2}\u{1}\0\0\0\0\0\0\0\0\0\0\u{2}\0\u{f3}\0",
            0o755,
            "run: it is a program for another architecture\n",
        ),
    ] {
        assert_eq!(run(text, mode), (Some(1), told.to_owned()), "{text}");
    }
    let with = |make: &dyn Fn(&Path)| {
        linted(|dir| {
            write(&dir.join("run"), GOOD, 0o755);
            make(dir);
        })
    };
    assert_eq!(linted(|dir| write(&dir.join("finish"), GOOD, 0o755)).1, "run: it does not exist\n");
    assert_eq!(linted(|dir| fs::create_dir(dir.join("run")).unwrap()).1, "run: run is a directory\n");
    assert_eq!(
        linted(|dir| symlink("../x", dir.join("run")).unwrap()).1,
        "run: it is a link to ../x, which does not exist\n"
    );
    assert_eq!(with(&|dir| write(&dir.join("log"), "", 0o644)).1, "log: it is not a directory\n");
    assert_eq!(
        with(&|dir| write(&dir.join("log/run"), "#!/bin/sh\nexec svlogd -tt ./main\n", 0o755)).1,
        "log/run: svlogd's directory ./main does not exist\n"
    );
    assert_eq!(
        with(&|dir| write(&dir.join("restart"), "sometimes\n", 0o644)).1,
        "restart: it has no effect, since it is not always, on-failure or never\n"
    );
    assert_eq!(
        with(&|dir| write(&dir.join("control/t"), GOOD, 0o644)).1,
        "control/t: not executable: chmod +x control/t\n"
    );
    assert_eq!(
        with(&|dir| symlink("/nowhere/x/y", dir.join("supervise")).unwrap()).1,
        "supervise: it is a link to /nowhere/x/y, which cannot be made\n"
    );
}

#[test]
fn lint_looks_at_all_services_of_a_directory() {
    let tree = Tree::new();
    tree.sleeper("good");
    assert_eq!(svctl_in(&tree).arg("lint").go().code, Some(0));
    symlink("../nowhere", tree.root.join("service/gone")).unwrap();
    fs::create_dir(tree.root.join("service/.hidden")).unwrap();
    tree.root.script("sv/a b/run", "exec sleep 1000");
    tree.link("a b");
    tree.root.file("sv/web/run", "#!/bin/sh\n");
    tree.link("web");
    let outcome = svctl_in(&tree).arg("lint").go();
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(1), ""));
    let place = format!("{}/", tree.root.join("service").display());
    assert_eq!(
        outcome.out.replace(&place, ""),
        "a b: its name: it has a blank or a semicolon, so what sv prints cannot be parsed\n\
         gone: it is a link to ../nowhere, which does not exist\n\
         web/run: not executable: chmod +x web/run\n"
    );
    assert_eq!(svctl().args(&["lint", "/nowhere"]).go().code, Some(111));
    // Also if one of them is called as a file of a service.
    tree.root.script("sv/log/run", "exec sleep 1000");
    tree.link("log");
    assert_eq!(svctl_in(&tree).arg("lint").go().out, outcome.out);
    let json = svctl().args(&["lint", "--json"]).arg(tree.root.join("sv/web")).go();
    let service = tree.root.join("sv/web").display().to_string();
    let what = format!("not executable: chmod +x {service}/run");
    let expected = format!(r#"{{"findings":[{{"service":"{service}","file":"run","problem":"{what}"}}]}}"#);
    assert_eq!((json.code, json.out), (Some(1), expected + "\n"));
    assert_eq!(
        svctl().args(&["lint", "--json"]).arg(tree.root.join("sv/good")).go().out,
        "{\"findings\":[]}\n"
    );
}
