//! `sv` on a terminal, where a person reads what it prints. Elsewhere it is stock's to the byte, which the other cases show.

mod ours {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use support::*;

    /// What `sv` with these words prints on a terminal, and its exit code.
    fn on_terminal(words: &str, service: &Service, variables: &[(&str, &str)]) -> (Option<i32>, String) {
        needs_program("script");
        let typescript = service.root().join("typescript");
        let command = format!("exec {} {words}", program("sv").display());
        let mut run = run_file("/usr/bin/script").args(&["-qec", &command]).arg(&typescript);
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let outcome = run.dir(service.root()).go();
        (outcome.code, outcome.out.replace('\r', ""))
    }

    fn off_terminal(words: &[&str], service: &Service) -> Outcome {
        run("sv").args(words).env("RUNITBOX_HINTS", "1").dir(service.root()).go()
    }

    #[test]
    fn a_word_that_is_no_command_ends_no_service() {
        let service = Service::sleeper().up();
        for (word, told) in [
            ("enabel", "sv: enabel is no command; did you mean svctl enable?\n"),
            ("enable", "sv: enable is no command; did you mean svctl enable?\n"),
            ("disable", "sv: disable is no command; did you mean svctl disable?\n"),
            ("dwon", "sv: dwon is no command; did you mean down?\n"),
            ("restrat", "sv: restrat is no command; did you mean restart?\n"),
            ("uninstall", "sv: uninstall is no command\n"),
        ] {
            let (code, out) = on_terminal(&format!("{word} ./s"), &service, &[]);
            assert_eq!(code, Some(100), "{word}: {out}");
            assert!(out.starts_with(&format!("{told}usage: sv ")), "{out}");
            // Nor where hints are not wanted.
            assert_eq!(
                on_terminal(&format!("{word} ./s"), &service, &[("RUNITBOX_HINTS", "0")]).0,
                Some(100)
            );
        }
        // What people type works as ever.
        for word in ["s", "stat", "u", "cont", "int", "T", "force-reload"] {
            let (code, out) = on_terminal(&format!("{word} ./s"), &service, &[]);
            assert_eq!(code, Some(0), "{word}: {out}");
        }
    }

    #[test]
    fn without_a_terminal_first_letters_count_as_in_stock() {
        let mut service = Service::sleeper().up();
        // That of `exit`, even with hints.
        let outcome = off_terminal(&["enabel", "./s"], &service);
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", ""));
        assert_eq!(service.exit_code(), 0);
    }

    #[test]
    fn a_start_that_takes_too_long_has_its_cause_as_second_line() {
        let service = Service::new().supervised();
        let told = |words: &str| on_terminal(words, &service, &[]);
        service.send("d");
        let (code, out) = told("-w1 start ./s");
        assert_eq!(code, Some(1));
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("timeout: down: ./s: "), "{out}");
        assert_eq!(lines[1], "  it has no file run");
        fs::write(service.path().join("run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(service.path().join("run"), fs::Permissions::from_mode(0o644)).unwrap();
        let expected = "\n  ./run cannot be started: not executable: chmod +x ./s/run\n";
        assert!(told("-w1 start ./s").1.ends_with(expected));
        // With -v, and with hints, without a terminal, too.
        let plain = run("sv").args(&["-w1", "start", "./s"]).dir(service.root()).go();
        assert_eq!(plain.err, "", "{plain:?}");
        for outcome in [
            run("sv").args(&["-v", "-w1", "start", "./s"]).dir(service.root()).go(),
            off_terminal(&["-w1", "start", "./s"], &service),
        ] {
            assert!(
                outcome.err.ends_with(&expected[1..]) && outcome.out.starts_with("timeout: "),
                "{outcome:?}"
            );
        }
        // Only where something was to start.
        let stop = run("sv").args(&["-v", "-w1", "check", "./s"]).dir(service.root()).go();
        assert!(!stop.err.contains("cannot be started"), "{stop:?}");
    }

    #[test]
    fn a_check_that_fails_is_the_cause() {
        let service = Service::sleeper().script("check", "exit 1").up();
        let outcome = off_terminal(&["-w1", "start", "./s"], &service);
        assert_eq!(
            outcome.err, "  it runs, and ./check fails; to see why: (cd ./s && ./check)\n",
            "{outcome:?}"
        );
        service.write("run", "#!/bin/sh\nexit 3\n");
        service.send("t");
        eventually("ends again and again", || service.pid().is_none());
        let outcome = off_terminal(&["-w1", "start", "./s"], &service);
        assert!(
            outcome.err.contains("./check fails") || outcome.err.contains("./run exited with 3 after 0."),
            "{outcome:?}"
        );
    }
}
