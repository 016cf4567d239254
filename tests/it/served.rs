//! What `runsvinit` serves, when it is not process 1.

mod ours {
    use std::fs;
    use std::time::Duration;

    use support::*;

    /// A tree under a runsvinit, which is ended before it.
    struct Init {
        tree: Tree,
        runsvinit: Running,
    }

    impl Init {
        /// Starts it by a shell command, in which `$0` stands for it.
        fn start(tree: Tree, command: &str) -> Self {
            let run = run_file("/bin/sh").args(&["-c", command]).arg(program("runsvinit"));
            let runsvinit = run.dir(tree.root.path()).start(&tree.root.join("err"));
            Init { tree, runsvinit }
        }
    }

    impl Drop for Init {
        fn drop(&mut self) {
            self.runsvinit.signal(SIGTERM);
            // What is left then is killed.
            holds_soon(|| self.runsvinit.ended().is_some());
        }
    }

    #[test]
    fn a_link_that_is_switched_ends_with_the_new_service() {
        let tree = Tree::new();
        tree.sleeper("a");
        tree.define("b", "exec sleep 1000");
        let init = Init::start(tree, "exec $0 service");
        let tree = &init.tree;
        eventually("up", || tree.is_up("a"));
        for (new, old) in [("b", "a"), ("a", "b")].repeat(10) {
            tree.switch("a", new);
            eventually("switched", || tree.is_up(new) && tree.pid(old).is_none());
        }
    }

    #[test]
    fn a_renamed_link_keeps_its_service_and_is_served_on() {
        let tree = Tree::new();
        tree.sleeper("a");
        let init = Init::start(tree, "exec $0 service");
        let tree = &init.tree;
        eventually("up", || tree.is_up("a"));
        let pid = tree.pid("a").unwrap();
        fs::rename(tree.root.join("service/a"), tree.root.join("service/z")).unwrap();
        tree.sleeper("b");
        eventually("the look after that", || tree.is_up("b"));
        assert_eq!(tree.pid("a"), Some(pid));
        // It is taken up again under the name that leads there now.
        send(&tree.root.join("sv/a/supervise/control"), "x");
        eventually("another", || tree.pid("a").is_some_and(|new| new != pid && is_alive(new)));
        assert_eq!(tree.messages(), "");
    }

    #[test]
    fn what_could_not_be_taken_up_once_is_tried_again() {
        needs_program("strace");
        for (call, error, which) in
            [("mkdirat", "EIO", 1), ("mkdirat", "ENOSPC", 1), ("mknodat", "EIO", 2), ("openat", "EMFILE", 6)]
        {
            promptly(&format!("up after {call} {error}"), Duration::from_secs(4), || {
                let tree = Tree::new();
                tree.sleeper("a");
                let inject = format!(
                    "exec strace -o strace.out -e trace={call} -e inject={call}:error={error}:when={which} $0 service"
                );
                let mut init = Init::start(tree, &inject);
                let took = time_of(|| eventually("up", || init.tree.is_up("a")));
                assert!(init.tree.root.read("strace.out").contains("INJECTED"));
                // strace passes no signal on.
                send(&init.tree.root.join("sv/a/supervise/control"), "d");
                kill(children_of(init.runsvinit.pid())[0], SIGTERM);
                eventually("ended", || init.runsvinit.ended().is_some());
                took
            });
        }
    }

    #[test]
    fn as_many_as_fit_are_served_where_few_files_may_be_open() {
        for (services, least) in [(6, 6), (30, 8)] {
            let tree = Tree::new();
            for number in 0..services {
                tree.sleeper(&format!("s{number}"));
            }
            let init = Init::start(tree, "ulimit -n 64; exec $0 service");
            let tree = &init.tree;
            let up = || (0..services).filter(|number| tree.is_up(&format!("s{number}"))).count();
            eventually("up", || up() >= least);
            let told = || {
                let left = services - up();
                let what = format!("{left} services do not fit within the limit of 64 open files");
                tree.messages().contains(&what) == (left > 0)
            };
            eventually("told", told);
            let left = services - up();
            // There is room when some have left.
            for number in 0..services {
                let name = format!("s{number}");
                if left > 0 && tree.is_up(&name) {
                    tree.unlink(&name);
                }
            }
            eventually("others", || up() >= least);
        }
    }

    #[test]
    fn the_command_and_the_services_control_the_tree_that_they_are_in() {
        let tree = Tree::new();
        tree.sleeper("a");
        // `start` also waits until it is served.
        tree.define("b", "sv -w 60 start a >../../seen; exec sleep 1000");
        tree.link("b");
        // Others run at the same time, and there may be a usual directory.
        let run = run("runsvinit").args(&["-w", "5", "service", "--", "sh", "-c"]);
        let command =
            "sv -w 60 start a b; until [ -s seen ]; do sleep 0.01; done; cat seen; cd /; exec sv status a";
        let outcome = run.arg(command).dir(tree.root.path()).go();
        let lines: Vec<&str> = outcome.out.lines().collect();
        for (line, begin) in lines.iter().zip(["ok: run: a: ", "ok: run: b: ", "ok: run: a: ", "run: a: "]) {
            assert!(line.starts_with(begin), "{outcome:?}");
        }
        assert_eq!((lines.len(), outcome.code), (4, Some(0)), "{outcome:?}");
    }

    #[test]
    fn a_signal_that_means_nothing_to_it_does_not_end_it() {
        let tree = Tree::new();
        tree.sleeper("a");
        let init = Init::start(tree, "exec $0 service");
        let pid = init.runsvinit.pid();
        eventually("up", || init.tree.is_up("a"));
        // Not: what stops it (INT, QUIT, TERM, PWR, 37), what reports a fault (ILL to BUS, SEGV, SYS), what no process can
        // catch (KILL, STOP), what stops a job (TSTP, TTIN), and what C libraries keep for themselves (32, 33; 34 with musl).
        let all = "for signal in 1 10 12 13 14 16 17 18 22 23 24 25 26 27 28 29 35 36 $(seq 38 64); do kill -$signal $0; done";
        let sent = run_file("/bin/sh").args(&["-c", all]).arg(pid.to_string()).go();
        assert_eq!((sent.code, sent.err.as_str()), (Some(0), ""));
        let out = init.tree.sv(&["-w", "5", "restart", "a"]);
        assert_eq!(out.code, Some(0), "{out:?}");
        assert!(is_alive(pid) && init.tree.messages() == "", "{}", init.tree.messages());
    }
}
