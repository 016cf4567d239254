//! The programs around process 1, as ordinary processes; as process 1 they are in `tests/pid1`.

use support::*;

#[test]
fn without_arguments_the_usage_is_said() {
    for (name, synopsis, code) in
        [("runsvchdir", "dir", 1), ("utmpset", "[-w] line", 1), ("runit-init", "0|6", 0)]
    {
        let outcome = run(name).go();
        let typed = program(name).display().to_string();
        assert_eq!(outcome.err, format!("usage: {typed} {synopsis}\n\n"));
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(code), ""), "{name}");
    }
    // Anything but 0 and 6, which would end the machine that this runs on.
    for word in ["5", "", "help"] {
        assert_eq!(run("runit-init").arg(word).go().code, Some(0));
    }
}

#[test]
fn runit_is_process_1_or_nothing() {
    let outcome = run("runit").go();
    assert_eq!(outcome.err, "- runit: fatal: must be run as process no 1.\n");
    assert_eq!(outcome.code, Some(111));
}

#[test]
fn utmpset_refuses_options_it_does_not_know() {
    let outcome = run("utmpset").arg("-x").go();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.starts_with("utmpset: illegal option -- x\nusage: "), "{}", outcome.err);
}

/// A record as the C library has it; type 7 is a login.
fn record(line: &[u8], user: &[u8]) -> Vec<u8> {
    let mut record = vec![0; 384];
    record[0] = 7;
    record[4] = 99;
    record[8..8 + line.len()].copy_from_slice(line);
    record[44..44 + user.len()].copy_from_slice(user);
    record[76..80].copy_from_slice(b"host");
    record
}

/// Runs utmpset in a mount namespace with this utmp; gives its code, what it said, utmp and wtmp.
fn utmpset(words: &str, utmp: Option<&[u8]>) -> (String, String, Vec<u8>, Option<Vec<u8>>) {
    let dir = TempDir::new();
    if let Some(utmp) = utmp {
        dir.file("utmp", utmp);
    }
    let script = format!(
        "mount -t tmpfs none /run && mount -t tmpfs none /var/log && cd {dir} || exit 99\n\
         [ -e utmp ] && cp utmp /run/utmp\n{utmpset} {words} 2>err; echo $? >code\n\
         cp /run/utmp utmp.after; [ -e /var/log/wtmp ] && cp /var/log/wtmp wtmp.after; exit 0",
        dir = dir.path().display(),
        utmpset = program("utmpset").display(),
    );
    let outcome = run_file("/usr/bin/unshare").args(&["-m", "/bin/sh", "-c", &script]).go();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let file = |name: &str| std::fs::read(dir.join(name)).ok();
    (dir.read("code"), dir.read("err"), file("utmp.after").unwrap_or_default(), file("wtmp.after"))
}

#[test]
fn a_line_is_logged_out_in_place_and_in_wtmp() {
    needs_root();
    let utmp = [record(b"tty1", b""), record(b"tty11", b"x"), record(b"tty1", b"me"), record(b"tty1", b"me")]
        .concat();
    let (code, said, after, wtmp) = utmpset("-w tty1 ignored", Some(&utmp));
    assert_eq!((code.as_str(), said.as_str()), ("0\n", ""));
    // Only the first login on it.
    assert_eq!((&after[..768], &after[1152..]), (&utmp[..768], &utmp[1152..]));
    let changed = &after[768..1152];
    assert_eq!((changed[0], &changed[4..12], &changed[44..332]), (8, &utmp[772..780], [0; 288].as_slice()));
    let seconds = u32::from_ne_bytes(changed[340..344].try_into().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(u64::from(seconds).abs_diff(now) < 60);
    let wtmp = wtmp.unwrap();
    assert_eq!((wtmp.len(), wtmp[0], &wtmp[8..13]), (384, 8, b"tty1\0".as_slice()));
}

#[test]
fn a_line_that_nobody_is_on_is_said_and_wtmp_left_alone() {
    needs_root();
    let utmp = record(b"tty1", b"me");
    let (code, said, after, wtmp) = utmpset("-w tty2", Some(&utmp));
    assert_eq!(said, "utmpset: warning: unable to logout line tty2 in utmp: no such entry\n");
    assert_eq!((code.as_str(), after, wtmp), ("111\n", utmp, None));
    let (code, said, ..) = utmpset("tty2", None);
    assert!(
        said.starts_with("utmpset: fatal: unable to open ") && said.ends_with("utmp: file does not exist\n"),
        "{said}"
    );
    assert_eq!(code, "111\n");
}

mod ours {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_is_refused() {
        let outcome = run("utmpset").arg("x".repeat(33)).go();
        let said =
            format!("utmpset: fatal: unable to logout line {} in utmp: name too long\n", "x".repeat(33));
        assert_eq!((outcome.code, outcome.err), (Some(111), said));
    }

    #[test]
    fn runsvchdir_switches_and_remembers() {
        let dir = TempDir::new();
        for name in ["default", "single"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("default", dir.join("current")).unwrap();
        let to = |name: &str| run("runsvchdir").args(&[name, "ignored"]).env("RUNSVDIR", dir.path()).go();
        let link = |name: &str| std::fs::read_link(dir.join(name)).ok().map(|to| to.display().to_string());
        let outcome = to("default");
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "runsvchdir: default: current.\n"));
        assert_eq!(link("previous"), None);
        let outcome = to("single");
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "runsvchdir: single: now current.\n"));
        assert_eq!(
            (link("current").as_deref(), link("previous").as_deref()),
            (Some("single"), Some("default"))
        );
        to("default");
        assert_eq!(
            (link("current").as_deref(), link("previous").as_deref()),
            (Some("default"), Some("single"))
        );
        assert_eq!((link("current.new"), link("previous.new")), (None, None));
    }

    #[test]
    fn runsvchdir_says_what_is_wrong() {
        let dir = TempDir::new();
        dir.file("file", "");
        std::fs::create_dir(dir.join("there")).unwrap();
        let typed = program("runsvchdir").display().to_string();
        for (name, said) in [
            (".there", ".there: must not start with a dot."),
            ("none", "none: file does not exist"),
            ("file", "file: not a directory."),
            ("there", "unable to stat: current: file does not exist"),
        ] {
            let outcome = run("runsvchdir").arg(name).env("RUNSVDIR", dir.path()).go();
            assert_eq!(outcome.err, format!("{typed}: fatal: {said}\n"));
            assert_eq!(outcome.code, Some(111));
        }
        let outcome = run("runsvchdir").arg("x").env("RUNSVDIR", dir.join("none")).go();
        assert_eq!(
            outcome.err,
            format!("{typed}: fatal: unable to chdir: {}: file does not exist\n", dir.join("none").display())
        );
    }

    /// Runs `runit-init` in namespaces of its own, after `before`; gives what it said, its code, and the flag files
    /// with their modes.
    fn runit_init(word: &str, before: &str) -> (String, Vec<String>) {
        const SHOW: &str = "for f in /etc/runit/stopit /etc/runit/reboot /run/runit.stopit /run/runit.reboot; do \
             [ -e $f ] && echo $(stat -L -c %a $f) $f; done";
        let script = format!(
            "mount -t tmpfs none /run && mount -t tmpfs none /etc || exit 99\n{before}\n\
             {} {word} 2>&1; echo code $?; {SHOW}; exit 0",
            program("runit-init").display(),
        );
        // Process 1 of the namespace, which gets CONT, is the shell.
        let unshare = ["--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", &script];
        let outcome = run_file("/usr/bin/unshare").args(&unshare).go();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let (said, flags) = outcome.out.split_once("code ").unwrap();
        let mut flags: Vec<String> = flags.lines().map(str::to_owned).collect();
        let said = format!("{said}{}", flags.remove(0));
        (said, flags)
    }

    #[test]
    fn runit_init_sets_and_clears_every_flag_that_is_there() {
        needs_root();
        const ETC: &str = "mkdir /etc/runit; install -m 0 /dev/null /etc/runit/stopit;";
        const RUN: &str =
            "install -m 0 /dev/null /run/runit.stopit; install -m 0 /dev/null /run/runit.reboot;";
        for (word, before, flags) in [
            // Upstream has nothing there before the first time.
            ("0", "", &["100 /etc/runit/stopit"][..]),
            ("6", "", &["100 /etc/runit/stopit", "100 /etc/runit/reboot"]),
            ("6", ETC, &["100 /etc/runit/stopit", "100 /etc/runit/reboot"]),
            // Debian's first stage makes its own, and its programs look at no other.
            ("0", RUN, &["100 /run/runit.stopit", "0 /run/runit.reboot"]),
            ("6", RUN, &["100 /run/runit.stopit", "100 /run/runit.reboot"]),
            // One that is missing where the other is.
            ("6", "rm -r /run/*; >/run/runit.stopit", &["100 /run/runit.stopit", "100 /run/runit.reboot"]),
            // A flag of another time must neither be missed nor stay.
            (
                "6",
                &format!("{RUN} {ETC}"),
                &[
                    "100 /etc/runit/stopit",
                    "100 /etc/runit/reboot",
                    "100 /run/runit.stopit",
                    "100 /run/runit.reboot",
                ],
            ),
            (
                "0",
                &format!("{RUN} {ETC} install -m 100 /dev/null /etc/runit/reboot; chmod 100 /run/*"),
                &[
                    "100 /etc/runit/stopit",
                    "0 /etc/runit/reboot",
                    "100 /run/runit.stopit",
                    "0 /run/runit.reboot",
                ],
            ),
            // As Void has it, before its boot script has made what the links lead to.
            (
                "6",
                "mkdir -p /run/runit /etc/runit; ln -s /run/runit/stopit /run/runit/reboot /etc/runit",
                &["100 /etc/runit/stopit", "100 /etc/runit/reboot"],
            ),
            // Where one of the places cannot be written, the other is enough.
            (
                "6",
                &format!("{ETC} mount -o remount,ro /etc"),
                &["0 /etc/runit/stopit", "100 /run/runit.stopit", "100 /run/runit.reboot"],
            ),
            (
                "6",
                &format!("{ETC} {RUN} mount -o remount,ro /etc"),
                &["0 /etc/runit/stopit", "100 /run/runit.stopit", "100 /run/runit.reboot"],
            ),
        ] {
            assert_eq!(
                runit_init(word, before),
                ("0".to_owned(), flags.iter().map(|&flag| flag.to_owned()).collect()),
                "{word} {before}"
            );
        }
    }

    #[test]
    fn runit_init_says_when_no_flag_can_be_set_or_taken_back() {
        needs_root();
        let read_only = "mount -o remount,ro /etc; mount -o remount,ro /run";
        let (said, _) = runit_init("0", read_only);
        assert_eq!(said, "init: fatal: unable to create /etc/runit/stopit: file does not exist\n111");
        let (said, _) = runit_init("6", &format!("mkdir /etc/runit; {read_only}"));
        assert_eq!(said, "init: fatal: unable to create /etc/runit/stopit: read-only file system\n111");
        // A power-off that would become a restart is none.
        let wish = "mkdir /etc/runit; install -m 100 /dev/null /etc/runit/reboot; mount -o remount,ro /etc";
        let (said, _) = runit_init("0", wish);
        assert_eq!(said, "init: fatal: unable to chmod /etc/runit/reboot: read-only file system\n111");
    }

    #[test]
    fn runit_init_does_nothing_where_process_1_is_not_runit() {
        needs_root();
        let own_proc = "mount -t proc proc /proc;";
        for (name, said, flags) in [
            ("sh", "init: fatal: process 1 is sh, not runit: nothing was done\n111", &[][..]),
            ("runsvinit", "init: fatal: process 1 is runsvinit, not runit: nothing was done\n111", &[]),
            ("runit", "0", &["100 /etc/runit/stopit", "100 /etc/runit/reboot"]),
        ] {
            let before = format!("{own_proc} mkdir /etc/runit; printf {name} >/proc/1/comm");
            let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
            assert_eq!(runit_init("6", &before), (said.to_owned(), flags), "{name}");
        }
    }

    #[test]
    fn runsvinit_refuses_what_it_does_not_understand() {
        for words in [&["a", "b"][..], &["-w", "x"], &["--map", "1"], &["--halt", "x"], &["-q"]] {
            let outcome = run("runsvinit").args(words).go();
            assert_eq!(outcome.code, Some(100), "{words:?}");
            assert!(outcome.err.contains("\nusage: runsvinit ["), "{}", outcome.err);
        }
    }

    #[test]
    fn runsvinit_as_an_ordinary_process_serves_and_takes_orphans() {
        let root = TempDir::new();
        root.script("service/a/run", "(sleep 0.2; echo >../../orphan) & exec sleep 1000");
        let mut runsvinit =
            run("runsvinit").args(&["-v", "service"]).dir(root.path()).start(&root.join("err"));
        eventually("up", || root.read("service/a/supervise/stat") == "run\n");
        assert!(root.read("err").contains("became subreaper"), "{}", root.read("err"));
        eventually("orphan", || root.join("orphan").exists());
        runsvinit.signal(SIGTERM);
        eventually("ended", || runsvinit.ended() == Some(0));
        assert_eq!(root.read("service/a/supervise/stat"), "down\n");
    }

    /// `make-initramfs` with a PATH of these programs only, on a service directory that is there.
    fn make_initramfs(root: &TempDir, programs: &[&str], words: &[&std::path::Path]) -> Outcome {
        const ALWAYS: [&str; 17] = [
            "mktemp", "rm", "mkdir", "cp", "chmod", "ln", "mknod", "find", "sort", "mv", "od", "sed", "cat",
            "basename", "dirname", "uname", "tr",
        ];
        let bin = TempDir::new();
        for name in ALWAYS.iter().chain(programs) {
            let file = ["/usr/bin", "/bin"].map(|dir| std::path::Path::new(dir).join(name));
            let file = file.iter().find(|file| file.exists()).unwrap_or_else(|| panic!("{name}"));
            std::os::unix::fs::symlink(file, bin.join(name)).unwrap();
        }
        root.script("services/web/run", "exec sleep 1000");
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/initramfs/make-initramfs");
        run_file(&script).args(words).env("PATH", bin.path()).dir(root.path()).go()
    }

    #[test]
    fn make_initramfs_packs_the_executable_and_its_names() {
        needs_program("cpio");
        let root = TempDir::new();
        let made =
            make_initramfs(&root, &["cpio", "gzip"], &[executable(), "services".as_ref(), "out.gz".as_ref()]);
        assert_eq!((made.code, made.out.as_str(), made.err.as_str()), (Some(0), "", ""));
        let list = run_file("/bin/sh").args(&["-c", "gzip -dc out.gz | cpio --quiet -it"]);
        let list = list.dir(root.path()).go().out;
        for name in ["init", "bin/runitbox", "sbin/init", "sbin/runit", "etc/service/web/run"] {
            assert!(list.lines().any(|line| line == name), "{name}: {list}");
        }
    }

    #[test]
    fn make_initramfs_refuses_a_static_executable_that_is_another_program() {
        needs_program("cpio");
        needs("busybox-static", std::path::Path::new("/bin/busybox").exists());
        let root = TempDir::new();
        let words = ["/bin/busybox".as_ref(), "services".as_ref(), "out.gz".as_ref()];
        let outcome = make_initramfs(&root, &["cpio", "gzip"], &words);
        assert_ne!(outcome.code, Some(0));
        assert!(outcome.err.contains("busybox: not runitbox"), "{}", outcome.err);
        assert!(!root.join("out.gz").exists());
    }

    #[test]
    fn make_initramfs_fails_and_leaves_nothing_when_something_is_wrong() {
        needs_program("cpio");
        let root = TempDir::new();
        root.file("text", "x");
        root.script("liar", "echo sv");
        // The first bytes are those of an executable of an Arm machine.
        let mut other = std::fs::read(executable()).unwrap();
        other[18..20].copy_from_slice(&183_u16.to_le_bytes());
        root.file("other", other);
        for name in ["text", "other"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(root.join(name), mode).unwrap();
        }
        let (services, out) = (root.join("services"), root.join("out.gz"));
        let path = |name: &str| root.join(name);
        for (programs, words, said) in [
            (
                &["gzip"][..],
                [executable().to_owned(), services.clone(), out.clone()],
                "cpio is not installed",
            ),
            (&["cpio"], [executable().to_owned(), services.clone(), out.clone()], "gzip is not installed"),
            (&["cpio", "gzip"], [path("none"), services.clone(), out.clone()], "none: no such file"),
            (
                &["cpio", "gzip"],
                [path("text"), services.clone(), out.clone()],
                "text: not an executable of this machine",
            ),
            (
                &["cpio", "gzip"],
                [path("other"), services.clone(), out.clone()],
                "other: not an executable of this machine",
            ),
            (
                &["cpio", "gzip"],
                [path("liar"), services.clone(), out.clone()],
                "liar: not an executable of this machine",
            ),
            (&["cpio", "gzip"], ["/usr/bin/true".into(), services.clone(), out.clone()], "true: not static"),
            (
                &["cpio", "gzip"],
                [executable().to_owned(), path("text"), out.clone()],
                "text: not a directory",
            ),
            (&["cpio", "gzip"], [executable().to_owned(), services.clone(), path("none/out")], "none/out"),
        ] {
            let words: Vec<&std::path::Path> = words.iter().map(std::path::PathBuf::as_path).collect();
            let outcome = make_initramfs(&root, programs, &words);
            assert!(outcome.code != Some(0), "{said}");
            assert!(
                outcome.err.starts_with("make-initramfs: ") && outcome.err.contains(said),
                "{said}: {}",
                outcome.err
            );
        }
        // A program that fails in the middle.
        std::fs::write(&out, "the old one").unwrap();
        for name in ["cpio", "gzip"] {
            let broken = root.script(&format!("broken/{name}"), "echo half; exit 3");
            let other = if name == "cpio" { "gzip" } else { "cpio" };
            let script =
                format!("PATH={}:$PATH; export PATH; exec \"$@\"", broken.parent().unwrap().display());
            let make = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/initramfs/make-initramfs");
            let outcome = run_file("/bin/sh")
                .args(&["-c", &script, "sh"])
                .arg(make)
                .args(&[executable(), &services, &out])
                .go();
            assert_ne!(outcome.code, Some(0), "{name} {other}");
            assert!(outcome.err.contains(&format!("make-initramfs: {name} failed")), "{}", outcome.err);
            std::fs::remove_dir_all(root.join("broken")).unwrap();
        }
        assert_eq!(root.read("out.gz"), "the old one");
        let files: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert!(files.iter().all(|name| !name.to_string_lossy().starts_with("out.gz.")), "{files:?}");
    }
}
