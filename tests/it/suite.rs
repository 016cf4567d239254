//! The executable as a whole; stock runit has nothing of the kind.

mod ours {
    use std::fs;
    use std::os::unix::fs::symlink;

    use support::*;

    const NAMES: [&str; 18] = [
        "chpst",
        "envdir",
        "envuidgid",
        "init",
        "pgrphack",
        "runit",
        "runit-init",
        "runsv",
        "runsvchdir",
        "runsvdir",
        "runsvinit",
        "setlock",
        "setuidgid",
        "softlimit",
        "sv",
        "svctl",
        "svlogd",
        "utmpset",
    ];

    fn runitbox(words: &[&str]) -> Outcome {
        run_file(executable()).args(words).go()
    }

    #[test]
    fn list_has_every_name_once() {
        let outcome = runitbox(&["--list"]);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
        assert_eq!(outcome.out.lines().collect::<Vec<_>>(), NAMES);
    }

    #[test]
    fn version_and_help_go_to_standard_output() {
        let version = runitbox(&["--version"]);
        assert_eq!(
            (version.code, version.out, version.err),
            (Some(0), format!("runitbox {}\n", env!("CARGO_PKG_VERSION")), String::new())
        );
        let help = runitbox(&["--help"]);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
        for name in NAMES {
            assert!(help.out.contains(&format!("\n  {name} ")), "{name}: {}", help.out);
        }
    }

    #[test]
    fn each_applet_has_help() {
        for name in NAMES {
            let outcome = run(name).arg("--help").go();
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{name}");
            assert!(outcome.out.starts_with(&format!("usage: {name} ")), "{}", outcome.out);
            assert_eq!(outcome, runitbox(&[name, "--help"]), "{name}");
        }
        assert!(run("chpst").arg("--help").go().out.contains("-N "));
    }

    #[test]
    fn the_first_argument_is_the_applet() {
        let outcome = runitbox(&["chpst", "echo", "x"]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "x\n"));
        let outcome = runitbox(&["sv"]);
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(100), "usage: sv [-v] [-w sec] command service ...\n\n")
        );
    }

    #[test]
    fn what_is_no_applet_lists_them_with_127() {
        for words in [&[][..], &["nosuch"], &["nosuch", "sv"], &["--nosuch"]] {
            let outcome = runitbox(words);
            assert_eq!((outcome.code, outcome.out.as_str()), (Some(127), ""), "{words:?}");
            assert!(outcome.err.contains("\n  runsvdir "), "{}", outcome.err);
        }
    }

    #[test]
    fn an_unknown_name_is_no_init_script_unless_it_leads_over_sv() {
        let root = TempDir::new();
        symlink(executable(), root.join("web")).unwrap();
        let outcome = run_file(root.join("web")).arg("status").go();
        assert_eq!(outcome.code, Some(127));
        // Found along PATH, the name has no directory.
        symlink(bin().join("sv"), root.join("mail")).unwrap();
        let shell = run_file("/bin/sh").args(&["-c", "mail status"]).env("SVDIR", "/nowhere");
        let outcome = shell.env("PATH", root.path()).go();
        assert_eq!(outcome.out, "fail: mail: unable to change to service directory: file does not exist\n");
    }

    #[test]
    fn a_renamed_executable_takes_the_first_argument() {
        let root = TempDir::new();
        fs::copy(executable(), root.join("rb")).unwrap();
        let outcome = run_file(root.join("rb")).args(&["chpst", "echo", "x"]).go();
        assert_eq!(outcome.out, "x\n");
    }

    #[test]
    fn an_empty_environment_is_survived() {
        let outcome = run_file(executable()).args(&["chpst", "/usr/bin/env"]).without_env().go();
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""));
    }

    #[test]
    fn closed_descriptors_are_survived_and_passed_on() {
        let root = TempDir::new();
        let script = format!(
            "exec {} chpst sh -c 'for f in 0 1 2; do [ -e /proc/$$/fd/$f ] && echo $f >>open; done; echo done >>open' <&- >&- 2>&-",
            executable().display()
        );
        let outcome = run_file("/bin/sh").args(&["-c", &script]).dir(root.path()).go();
        assert_eq!((outcome.err.as_str(), root.read("open").as_str()), ("", "done\n"));
    }

    #[test]
    fn a_closed_standard_output_harms_nobody() {
        let script = format!("{} --list >&-; echo $?", executable().display());
        let outcome = run_file("/bin/sh").args(&["-c", &script]).go();
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("0\n", ""));
    }

    #[test]
    fn what_is_not_printable_is_escaped_in_messages() {
        let evil = "x\n\u{1b}[2J";
        let shown = "x\\x0a\\x1b[2J";
        assert!(runitbox(&[evil]).err.starts_with(&format!("runitbox: no applet is called {shown}\n")));
        let outcome = runitbox(&["chpst", &format!("/nowhere/{evil}")]);
        assert_eq!(
            outcome.err,
            format!("chpst: fatal: unable to run: /nowhere/{shown}: file does not exist\n")
        );
        let outcome = runitbox(&["runsv", &format!("/nowhere/{evil}")]);
        assert!(outcome.err.starts_with(&format!("runsv /nowhere/{shown}: fatal: ")), "{}", outcome.err);
        let outcome = runitbox(&["svlogd", &format!("/nowhere/{evil}")]);
        assert!(outcome.err.contains(&format!("/nowhere/{shown}: ")), "{}", outcome.err);
        let root = TempDir::new();
        for dir in ["a", evil] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        symlink("a", root.join("current")).unwrap();
        let outcome = run("runsvchdir").arg(evil).env("RUNSVDIR", root.path()).go();
        assert_eq!(outcome.out, format!("runsvchdir: {shown}: now current.\n"));
    }

    #[test]
    fn the_file_that_was_executed_tells_what_the_name_does_not() {
        use std::os::unix::process::CommandExt;
        let go = |file: &str, name: &str, words: &[&str]| {
            let mut command = std::process::Command::new(bin().join(file));
            let output = command.arg0(name).args(words).env("SVDIR", "/nowhere").output().unwrap();
            (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
        };
        let unserved = "unable to change to service directory: file does not exist\n";
        assert_eq!(go("sv", "foo", &["status", "x"]), (Some(1), format!("fail: foo: {unserved}")));
        assert_eq!(go("sv", "-foo", &["status"]), (Some(1), format!("fail: -foo: {unserved}")));
        assert_eq!(go("sv", "", &["status"]), (Some(1), format!("fail: : {unserved}")));
        assert_eq!(go("chpst", "-chpst", &["echo", "x"]), (Some(0), "x\n".to_owned()));
        assert_eq!(go("runsv", "foo", &[]), (Some(1), "usage: foo dir\n\n".to_owned()));
    }

    #[test]
    fn the_name_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let root = TempDir::new();
        let name = root.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        symlink(executable(), &name).unwrap();
        assert_eq!(run_file(&name).go().code, Some(127));
    }

    #[test]
    fn the_executable_is_static() {
        let bytes = fs::read(executable()).unwrap();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let number = |at: usize| usize::try_from(word(at)).unwrap();
        let half = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
        assert_eq!(&bytes[..5], b"\x7fELF\x02");
        // Program headers of ELF64: PT_INTERP is 3, PT_DYNAMIC 2.
        let (start, size, count) = (number(32), half(54), half(56));
        let headers: Vec<(usize, usize)> =
            (0..count).map(|index| start + index * size).map(|at| (number(at) & 0xffff_ffff, at)).collect();
        assert!(headers.iter().all(|(kind, _)| *kind != 3), "{headers:?}");
        // One that is position-independent has a dynamic part, in which it tells itself what to relocate. A library
        // that has to be loaded (DT_NEEDED, 1) would be in there, too.
        let dynamic = headers.iter().filter(|(kind, _)| *kind == 2);
        for (_, at) in dynamic.clone() {
            let (from, length) = (number(at + 8), number(at + 32));
            assert!((from..from + length).step_by(16).all(|entry| word(entry) != 1));
        }
        // ET_DYN is 3.
        assert_eq!(half(16) == 3, cfg!(feature = "pie"), "see SECURITY.md");
        assert_eq!(dynamic.count(), usize::from(cfg!(feature = "pie")));
    }
}
