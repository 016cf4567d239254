//! Second lines: what a message comes from. On a terminal, and with `RUNITBOX_HINTS=1`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use support::*;

mod ours {
    use super::*;

    fn with_hints(program: &str, words: &[&str], dir: &Path) -> Outcome {
        run(program).args(words).env("RUNITBOX_HINTS", "1").dir(dir).go()
    }

    /// What `runsv s` prints within a moment about a service whose `run` is this file.
    fn told_about_run(content: &[u8], mode: u32) -> String {
        let service = Service::new();
        let path = service.path().join("run");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        told_about(&service)
    }

    fn told_about(service: &Service) -> String {
        let runsv = run("runsv").arg("s").env("RUNITBOX_HINTS", "1").dir(service.root());
        let _runsv = runsv.start(&service.root().join("err"));
        eventually("told", || service.messages().contains("\n  "));
        service.messages()
    }

    #[test]
    fn a_run_that_cannot_be_started_is_explained() {
        const MISSING: &str = "runsv s: fatal: unable to start ./run: file does not exist\n";
        const DENIED: &str = "runsv s: fatal: unable to start ./run: access denied\n";
        const FORMAT: &str = "runsv s: fatal: unable to start ./run: exec format error\n";
        for (content, mode, first, second) in [
            ("#!/no/such -x\n", 0o755, MISSING, "its interpreter /no/such does not exist"),
            (
                "#!/bin/sh\r\nexec x\r\n",
                0o755,
                MISSING,
                r"its first line ends in CR; mend with: sed -i 's/\r$//' s/run",
            ),
            ("#!/bin/sh\n", 0o644, DENIED, "not executable: chmod +x s/run"),
            (
                "exec sleep 9\n",
                0o755,
                FORMAT,
                "no \"#!/bin/sh\" line at its beginning, or for another architecture",
            ),
        ] {
            let said = told_about_run(content.as_bytes(), mode);
            assert_eq!(said, format!("{first}  {second}\n"));
        }
        let service = Service::new();
        fs::create_dir(service.path().join("run")).unwrap();
        assert_eq!(told_about(&service), format!("{DENIED}  s/run is a directory\n"));
    }

    #[test]
    fn the_exit_codes_of_a_shell_are_explained() {
        for (command, code, second) in [
            ("no-such-program 2>/dev/null", 127, "127: a command was not found"),
            ("/etc/passwd 2>/dev/null", 126, "126: a command is not executable"),
        ] {
            let said = told_about_run(format!("#!/bin/sh\n{command}\n").as_bytes(), 0o755);
            let (first, rest) = said.split_once('\n').unwrap();
            assert!(
                first.starts_with(&format!("runsv s: warning: ./run exited with {code} after 0.")),
                "{said}"
            );
            assert_eq!(rest, format!("  {second}\n"));
        }
        let said = told_about_run(b"#!/usr/bin/env sh\r\n", 0o755);
        assert!(said.contains("\n  its first line ends in CR; mend with: sed"), "{said}");
    }

    #[test]
    fn a_name_in_a_command_is_quoted() {
        let root = TempDir::new();
        root.file("a; b/run", "#!/bin/sh\n");
        let runsv = run("runsv").arg("a; b").env("RUNITBOX_HINTS", "1").dir(root.path());
        let _runsv = runsv.start(&root.join("err"));
        eventually("told", || root.read("err").contains("\n  not executable: chmod +x 'a; b/run'\n"));
    }

    #[test]
    fn only_people_get_a_second_line_and_it_comes_once_in_a_while() {
        let service = Service::new().file("run", "#!/no/such\n");
        let path = service.path().join("run");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        const FIRST: &str = "runsv s: fatal: unable to start ./run: file does not exist\n";
        let go = |value: &str| {
            let err = service.root().join(format!("err{value}"));
            let _runsv = run("runsv").arg("s").env("RUNITBOX_HINTS", value).dir(service.root()).start(&err);
            eventually("told", || !read(&err).is_empty());
            std::thread::sleep(Duration::from_millis(3500));
            read(err)
        };
        // It is tried again each second.
        assert_eq!(go("0"), FIRST);
        assert_eq!(go(""), FIRST);
        needs_program("script");
        let (runsv, typescript) = (program("runsv"), service.root().join("typescript"));
        let command = format!("timeout 5 {} s", runsv.display());
        run_file("/usr/bin/script").args(&["-qec", &command]).arg(&typescript).dir(service.root()).go();
        let said = read(typescript).replace('\r', "");
        assert!(said.contains(&format!("{FIRST}  its interpreter /no/such does not exist\n")), "{said}");
    }

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let mut service = Service::sleeper().up();
        let second = with_hints("runsv", &["s"], service.root());
        let pid = service.runsv().pid();
        let expected = format!(
            "runsv s: fatal: unable to lock supervise/lock: temporary failure\n  another runsv (pid {pid}) supervises it\n"
        );
        assert_eq!((second.code, second.err), (Some(111), expected));
    }

    #[test]
    fn a_runsv_that_cannot_have_the_lock_is_not_started_again_and_again() {
        let mut tree = Tree::new();
        tree.sleeper("a");
        tree.start();
        eventually("up", || tree.is_up("a"));
        let runsv = tree.runsv_of("a").unwrap();
        tree.runsvdir().signal(SIGTERM);
        assert_eq!(tree.exit_code(), 0);
        tree.start();
        let lines = || tree.messages().matches("unable to lock supervise/lock").count();
        eventually("told", || lines() > 0);
        steadily("told once", Duration::from_millis(3500), || lines() == 1);
        // When the other leaves, its place is taken soon.
        kill(runsv, SIGTERM);
        eventually("taken over", || tree.runsv_of("a").is_some_and(|new| new != runsv));
        assert_eq!(lines(), 1);
    }

    #[test]
    fn numbers_for_ids_are_explained() {
        let root = TempDir::new();
        for (words, first, second) in [
            (["-u", "1000", "true"], "unknown user/group: 1000", "for a number write :1000:1000"),
            (["-u", "10:20", "true"], "unknown user/group: 10:20", "for a number write :10:20"),
            (["-U", ":1000", "true"], "invalid uid/gids: 1000", "a group is needed as well: :1000:1000"),
            (
                ["-u", "root:0", "true"],
                "unknown user/group: root:0",
                "names and numbers cannot be mixed: user:group or :1000:1000",
            ),
        ] {
            let outcome = with_hints("chpst", &words, root.path());
            assert_eq!(
                (outcome.code, outcome.err),
                (Some(111), format!("chpst: fatal: {first}\n  {second}\n"))
            );
        }
        let outcome = with_hints("setuidgid", &["7", "true"], root.path());
        assert!(
            outcome.err.ends_with("\n  a name is needed here; with a number: chpst -u :7:7\n"),
            "{outcome:?}"
        );
        // What is proposed works.
        let outcome = with_hints("chpst", &["-U", ":1000:1000", "sh", "-c", "echo $UID"], root.path());
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "1000\n"));
    }

    #[test]
    fn wrong_usage_names_the_option_and_where_help_is() {
        let root = TempDir::new();
        for (program, words, code, why) in [
            ("chpst", &["-n", "abc", "true"][..], 100, "-n abc: not a number; try: chpst --help"),
            ("chpst", &["-o", "lots", "true"], 100, "-o lots: not a number; try: chpst --help"),
            (
                "chpst",
                &["-l", "a", "-L", "b", "true"],
                100,
                "-l and -L: there can be one lock only; try: chpst --help",
            ),
            ("chpst", &["-x"], 100, "try: chpst --help"),
            ("softlimit", &["-o", "x", "true"], 100, "-o x: not a number"),
            ("svlogd", &["-r", "ab", "x"], 111, "-r ab: has to be one character; try: svlogd --help"),
            (
                "svlogd",
                &["-l", "2000", "-b", "1000", "x"],
                111,
                "-b 1000: has to be more than -l 2000; try: svlogd --help",
            ),
            ("sv", &["up"], 100, "try: sv --help"),
            ("runsv", &[], 1, "try: runsv --help"),
        ] {
            let plain = run(program).args(words).dir(root.path()).go();
            let outcome = with_hints(program, words, root.path());
            assert_eq!((outcome.code, outcome.err), (Some(code), format!("{}  {why}\n", plain.err)));
        }
        let version = with_hints("chpst", &["-V"], root.path());
        assert!(!version.err.contains("--help"), "{version:?}");
    }

    #[test]
    fn help_and_version_are_there_where_stock_has_no_other_meaning_for_them() {
        for program in ["chpst", "sv", "svlogd", "runsvinit", "envdir"] {
            let help = run(program).arg("--help").go();
            assert_eq!(run(program).arg("-h").go(), help, "{program}");
            let version = run(program).arg("--version").go();
            assert_eq!((version.code, version.err.as_str()), (Some(0), ""), "{program}");
            assert!(version.out.starts_with("runitbox "), "{program}");
        }
        for program in ["runsv", "runsvchdir"] {
            assert_eq!(run(program).arg("-h").go().code, Some(111), "{program}");
        }
    }

    #[test]
    fn each_verb_of_sv_has_a_line_of_its_own() {
        let help = run("sv").arg("--help").go().out;
        let lines: Vec<&str> = help.lines().filter(|line| line.starts_with("  ")).collect();
        for verb in ["status", "health", "up", "down", "once", "start", "restart", "force-stop", "1", "kill"]
        {
            assert_eq!(
                lines.iter().filter(|line| line.split_whitespace().next() == Some(verb)).count(),
                1,
                "{verb}"
            );
        }
        for line in lines {
            assert!(line.len() > 25 && &line[24..25] == " " && &line[25..26] != " ", "{line}");
        }
    }

    #[test]
    fn a_word_that_is_nearly_a_name_is_answered_by_the_name() {
        let root = TempDir::new();
        let go = |word: &str| {
            run_file(executable()).arg(word).env("RUNITBOX_HINTS", "1").dir(root.path()).go().err
        };
        assert!(
            go("strat")
                .starts_with("runitbox: no applet is called strat\n  did you mean: runitbox sv start\n")
        );
        assert!(go("runsvdri").contains("\n  did you mean: runitbox runsvdir\n"));
        assert!(!go("frobnicate").contains("did you mean"));
    }

    #[test]
    fn a_path_without_a_dot_is_explained() {
        let service = Service::sleeper();
        let root = service.root().join("..");
        let name = format!("{}/s", service.root().file_name().unwrap().to_str().unwrap());
        let outcome = run("sv").args(&["-v", "status", &name]).env("SVDIR", "/nowhere").dir(&root).go();
        assert_eq!(outcome.err, format!("  a path needs ./ in front: ./{name}\n"));
    }

    #[test]
    fn health_of_nothing_is_not_well() {
        let root = TempDir::new();
        let outcome = run("sv").arg("health").env("SVDIR", root.path()).go();
        assert_eq!(
            (outcome.code, outcome.out),
            (Some(1), format!("{}: no services\n", root.path().display()))
        );
    }

    #[test]
    fn services_of_another_user_are_found_with_a_hint() {
        needs_root();
        let root = TempDir::new();
        root.script("hinted/run", "exec sleep 1000");
        let mut runsv = run("chpst")
            .args(&["-u", ":4321:4321", "runsv", "hinted"])
            .dir(root.path())
            .start(&root.join("err"));
        let sv = |words: &[&str], state: &str| {
            let sv = run("sv").args(words).arg("./hinted").dir(root.path());
            if state.is_empty() { sv.go() } else { sv.env("RUNITBOX_STATE", state).go() }
        };
        const STATE: &str = "/dev/shm/runit-4321";
        eventually("up", || sv(&["status"], STATE).out.starts_with("run: "));
        let outcome = sv(&["-v", "status"], "");
        assert_eq!(outcome.err, format!("  another user supervises it: set RUNITBOX_STATE={STATE}\n"));
        assert_eq!(sv(&["-w60", "exit"], STATE).code, Some(0));
        assert_eq!(runsv.exit_code(), 0);
        let _ = fs::remove_dir_all(STATE);
    }

    #[test]
    fn a_file_is_no_directory_of_services_and_that_is_told_once() {
        let root = TempDir::new();
        root.file("afile", "");
        let _runsvdir = run("runsvdir").arg("afile").dir(root.path()).start(&root.join("err"));
        let expected = "runsvdir afile: warning: unable to change directory to afile: not a directory\n";
        eventually("told", || !root.read("err").is_empty());
        steadily("told once", Duration::from_millis(6000), || root.read("err") == expected);
        // What replaces it is served at once.
        root.script("new/a/run", "exec sleep 1000");
        fs::remove_file(root.join("afile")).unwrap();
        fs::rename(root.join("new"), root.join("afile")).unwrap();
        eventually("served", || open_fifo(&root.join("afile/a/supervise/ok")).is_some());
        assert_eq!(run("sv").args(&["-w5", "exit", "./afile/a"]).dir(root.path()).go().code, Some(0));
    }

    #[test]
    fn svlogd_tells_what_it_does_with_its_directory_and_its_config() {
        let root = TempDir::new();
        let outcome = with_hints("svlogd", &["./main"], root.path());
        assert_eq!(
            outcome.err,
            "svlogd: warning: unable to open log directory: ./main: file does not exist\n  \
             make it first: mkdir ./main\nsvlogd: fatal: no functional log directories.\n"
        );
        root.file("main/config", "t5d\ns10kb\n!gzip 12\nn5 \n");
        let outcome = run("svlogd").arg("./main").dir(root.path()).go();
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (
                Some(0),
                "svlogd: warning: ./main/config:1: \"d\" ignored: 5 seconds\n\
                 svlogd: warning: ./main/config:2: \"b\" ignored: 10240 bytes\n\
                 svlogd: warning: ./main/config:3: \"!gzip 12\" is run by sh; built in are !gzip and !gzip 1 to !gzip 9\n"
            )
        );
    }

    #[test]
    fn a_command_with_a_nul_byte_loses_no_log() {
        let root = TempDir::new();
        root.file("main/config", "s20\n!cat\0x\n");
        let outcome = run("svlogd")
            .args(&["-l", "10", "./main"])
            .dir(root.path())
            .input("one\ntwo\nthree\nfour\nfive\n")
            .go();
        assert_eq!(outcome.err, "svlogd: warning: ./main/config:2: a command cannot have a NUL byte in it\n");
        let mut logs: Vec<_> =
            fs::read_dir(root.join("main")).unwrap().map(|entry| entry.unwrap().path()).collect();
        logs.sort();
        let kept = |path: &&std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with('@') || name == "current"
        };
        let text: String = logs.iter().filter(kept).map(read).collect();
        assert_eq!(text, "one\ntwo\nthree\nfour\nfive\n");
    }

    #[test]
    fn runsvinit_without_anything_to_serve_tells_why() {
        let root = TempDir::new();
        root.script("service/db/run", "exec sleep 1000");
        fs::create_dir(root.join("empty")).unwrap();
        let go = |dir: &str| {
            let err = root.join("err of what fails");
            let _ = fs::remove_file(&err);
            let code = run("runsvinit").arg(dir).dir(root.path()).start(&err).exit_code();
            (code, read(err))
        };
        let missing = "runsvinit /nowhere/sv: fatal: unable to stat /nowhere/sv: file does not exist\n";
        assert_eq!(go("/nowhere/sv"), (111, missing.to_owned()));
        let itself = "runsvinit service/db: fatal: is itself a service directory\n  give the directory above it: service\n";
        assert_eq!(go("service/db"), (111, itself.to_owned()));
        let mut empty = run("runsvinit").arg("empty").dir(root.path()).start(&root.join("err"));
        eventually("told", || root.read("err") == "runsvinit empty: warning: no services\n");
        empty.signal(SIGTERM);
        assert_eq!(empty.exit_code(), 0);
        // Beside a command the directory may be missing.
        let command = run("runsvinit").args(&["/nowhere", "--", "true"]).dir(root.path()).go();
        assert_eq!(command.code, Some(0), "{command:?}");
    }

    #[test]
    fn runsvinit_repeats_itself_only_after_a_while() {
        let root = TempDir::new();
        root.file("service/missing/keep", "");
        root.file("service/denied/run", "");
        let mut runsvinit =
            run("runsvinit").args(&["-w1", "service"]).dir(root.path()).start(&root.join("err"));
        let count = |text: &str| root.read("err").matches(text).count();
        let missing = "runsvinit missing: fatal: unable to start ./run: file does not exist\n";
        let denied = "runsvinit denied: fatal: unable to start ./run: access denied\n  not executable: chmod +x service/denied/run\n";
        eventually("told", || count(missing) + count(denied) == 2);
        steadily("told once", Duration::from_millis(3500), || (count(missing), count(denied)) == (1, 1));
        runsvinit.signal(SIGTERM);
        runsvinit.exit_code();
    }

    #[test]
    fn runsvchdir_previous_goes_back() {
        let dir = TempDir::new();
        for name in ["a", "b"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.join("current")).unwrap();
        let to = |name: &str| {
            let outcome = run("runsvchdir").arg(name).env("RUNSVDIR", dir.path()).go();
            let link = |name: &str| fs::read_link(dir.join(name)).unwrap().display().to_string();
            (outcome.out, link("current"), link("previous"))
        };
        let is = |out: &str, current: &str, previous: &str| {
            (format!("runsvchdir: {out}: now current.\n"), current.to_owned(), previous.to_owned())
        };
        assert_eq!(to("b"), is("b", "b", "a"));
        assert_eq!(to("previous"), is("previous", "a", "b"));
        assert_eq!(to("previous"), is("previous", "b", "a"));
    }
}
