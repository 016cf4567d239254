//! `runitbox --install` and its like; stock runit has nothing of the kind.

#[allow(dead_code)]
#[path = "../../applets/catalog.rs"]
mod catalog;

mod ours {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::catalog;
    use support::*;

    /// All names, and those of them that boot a machine.
    fn names() -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
        let family = |entry: &'static catalog::Entry| {
            std::iter::once(entry.name).chain(entry.aliases.iter().map(|alias| alias.name))
        };
        let init = catalog::CATALOG.iter().filter(|entry| entry.with_init);
        (catalog::CATALOG.iter().flat_map(family).collect(), init.flat_map(family).collect())
    }

    fn usual_names() -> BTreeSet<&'static str> {
        let (all, init) = names();
        all.difference(&init).copied().collect()
    }

    /// A directory with the executable in `new/runitbox` and an empty `bin`.
    struct Box {
        root: TempDir,
    }

    impl Box {
        fn new() -> Self {
            let root = TempDir::new();
            fs::create_dir_all(root.join("new")).unwrap();
            fs::create_dir_all(root.join("bin")).unwrap();
            // The executable of the tests is large, and most cases copy it.
            fs::hard_link(executable(), root.join("new/runitbox"))
                .or_else(|_| fs::copy(executable(), root.join("new/runitbox")).map(drop))
                .unwrap();
            Box { root }
        }

        fn go(&self, words: &[&str]) -> Outcome {
            run_file(self.root.join("new/runitbox")).args(words).dir(self.root.path()).go()
        }

        #[track_caller]
        fn succeeds(&self, words: &[&str]) -> String {
            let outcome = self.go(words);
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{words:?} {outcome:?}");
            outcome.out
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.join(name)
        }

        /// The names in a directory with what each is, to compare two moments.
        fn content(&self, dir: &str) -> Vec<String> {
            let mut all: Vec<String> = fs::read_dir(self.path(dir))
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    let meta = entry.path().symlink_metadata().unwrap();
                    let target = fs::read_link(entry.path()).unwrap_or_default();
                    format!("{} {} {}", entry.file_name().display(), target.display(), meta.ino())
                })
                .collect();
            all.sort();
            all
        }

        fn names_in(&self, dir: &str) -> BTreeSet<String> {
            let entries = fs::read_dir(self.path(dir)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }

        /// An executable of an older version: it has neither the mark of this one, nor its bytes.
        fn older(&self, name: &str) -> PathBuf {
            let text = "\x7fELF\x02...: the runit supervision suite as one executable\n\nusage: ...";
            let path = self.root.file(name, text);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        }
    }

    fn link(path: &Path) -> String {
        fs::read_link(path).unwrap().to_str().unwrap().to_owned()
    }

    fn owned(names: &BTreeSet<&str>, more: &[&str]) -> BTreeSet<String> {
        names.iter().chain(more).map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_executable_is_copied_and_relative_links_lead_to_it() {
        let it = Box::new();
        let said = it.succeeds(&["--install", "bin"]);
        let names: Vec<&str> = usual_names().into_iter().collect();
        assert_eq!(said, format!("installed in bin: runitbox {}\n", names.join(" ")));
        assert_eq!(it.names_in("bin"), owned(&usual_names(), &["runitbox"]), "init only if asked for");
        assert!(names.iter().all(|name| link(&it.path("bin").join(name)) == "runitbox"));
        let copy = it.path("bin/runitbox").metadata().unwrap();
        assert_eq!(copy.permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read(it.path("bin/runitbox")).unwrap(), fs::read(executable()).unwrap());
        assert_eq!(run_file(it.path("bin/sv")).go().code, Some(100));
        // Twice is as good as once, also by the installed one, which is not copied onto itself.
        assert_eq!(it.succeeds(&["--install", "bin"]), said);
        let before = it.content("bin");
        let again = run_file(it.path("bin/runitbox")).arg("--install").arg(it.path("bin")).go();
        assert_eq!((again.code, again.err.as_str()), (Some(0), ""));
        assert_eq!(it.content("bin"), before);
    }

    #[test]
    fn hard_links_and_links_in_place_are_made_when_asked_for() {
        let it = Box::new();
        it.succeeds(&["--install", "--hard", "bin"]);
        let first = it.path("bin/runitbox").metadata().unwrap();
        assert_eq!(first.nlink(), usual_names().len() as u64 + 1);
        assert!(
            usual_names()
                .iter()
                .all(|name| { it.path("bin").join(name).symlink_metadata().unwrap().ino() == first.ino() })
        );
        // From hard links to symbolic ones and back.
        it.succeeds(&["--install", "bin"]);
        assert_eq!(link(&it.path("bin/sv")), "runitbox");
        let before = it.path("bin/runitbox").metadata().unwrap().ino();
        let again = run_file(it.path("bin/runitbox")).args(&["--install", "--hard"]).arg(it.path("bin")).go();
        assert_eq!(again.code, Some(0), "{again:?}");
        assert_eq!(it.path("bin/sv").symlink_metadata().unwrap().ino(), before);
        it.succeeds(&["--uninstall", "bin"]);
        it.succeeds(&["--install", "-s", "bin"]);
        assert_eq!(it.names_in("bin"), owned(&usual_names(), &[]), "nothing is copied");
        assert_eq!(link(&it.path("bin/sv")), "../new/runitbox");
        assert_eq!(run_file(it.path("bin/sv")).go().code, Some(100));
    }

    #[test]
    fn what_boots_is_installed_and_removed_only_when_asked_for() {
        let it = Box::new();
        let (all, init) = names();
        assert_eq!(init, ["init", "runit", "runit-init"].into());
        it.succeeds(&["--install", "--with-init", "bin"]);
        assert_eq!(it.names_in("bin"), owned(&all, &["runitbox"]));
        let before = it.content("bin");
        let refused = it.go(&["--uninstall", "bin"]);
        assert_eq!(refused.code, Some(111));
        assert_eq!(
            refused.err,
            "runitbox: a machine may boot by what is in bin: init runit runit-init\n\
             runitbox: fatal: nothing was removed; to remove these too, add --with-init\n"
        );
        assert_eq!(it.content("bin"), before);
        it.succeeds(&["--uninstall", "--with-init", "bin"]);
        assert_eq!(it.names_in("bin"), BTreeSet::new());
        // An init that is not ours prevents nothing without --with-init.
        it.root.file("bin/init", "mine");
        it.succeeds(&["--install", "bin"]);
        assert_eq!(it.root.read("bin/init"), "mine");
        assert_eq!(it.go(&["--install", "--with-init", "bin"]).code, Some(111));
        it.succeeds(&["--uninstall", "bin"]);
        assert_eq!(it.names_in("bin"), ["init".to_owned()].into());
    }

    #[test]
    fn an_older_version_is_replaced_however_it_was_installed() {
        let it = Box::new();
        // Hard links of it, with what boots: what there was before `--with-init`.
        let older = it.older("bin/runitbox");
        for name in names().0 {
            fs::hard_link(&older, it.path("bin").join(name)).unwrap();
        }
        it.succeeds(&["--install", "bin"]);
        assert_eq!(it.names_in("bin"), owned(&names().0, &["runitbox"]));
        assert!(names().0.iter().all(|name| link(&it.path("bin").join(name)) == "runitbox"));
        assert_eq!(run_file(it.path("bin/runitbox")).arg("--version").go().code, Some(0));
        // Absolute links to one, and to one that is gone.
        it.succeeds(&["--uninstall", "--with-init", "bin"]);
        it.older("elsewhere/runitbox");
        symlink(it.path("elsewhere/runitbox"), it.path("bin/sv")).unwrap();
        symlink(it.path("gone/runitbox"), it.path("bin/runsv")).unwrap();
        symlink("/gone/runitbox", it.path("bin/runitbox")).unwrap();
        it.succeeds(&["--install", "bin"]);
        assert_eq!(
            (link(&it.path("bin/sv")), link(&it.path("bin/runsv"))),
            ("runitbox".into(), "runitbox".into())
        );
        assert!(it.path("bin/runitbox").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn what_is_not_ours_is_listed_and_nothing_is_done() {
        let it = Box::new();
        it.root.file("bin/sv", "mine");
        // A script that names us is not ours, nor is a directory, nor a link to another program, nor one of a manager of
        // alternatives to an older version.
        it.root.script("bin/chpst", "# @(#)runitbox 9: the runit supervision suite as one executable");
        fs::create_dir(it.path("bin/svlogd")).unwrap();
        symlink("/bin/sh", it.path("bin/runsv")).unwrap();
        symlink("/gone/busybox", it.path("bin/softlimit")).unwrap();
        it.older("old/runitbox");
        symlink(it.path("old/runitbox"), it.path("alternative")).unwrap();
        symlink("../alternative", it.path("bin/runsvdir")).unwrap();
        // These are ours.
        it.older("bin/runsvinit");
        let before = it.content("bin");
        for words in [&["--install", "bin"][..], &["--install", "-s", "bin"], &["--install", "--hard", "bin"]]
        {
            let refused = it.go(words);
            let foreign = ["chpst", "runsv", "runsvdir", "softlimit", "sv", "svlogd"];
            let lines = foreign.map(|name| format!("runitbox: not part of runitbox: bin/{name}\n")).concat();
            assert_eq!(refused.err, lines + "runitbox: fatal: nothing was installed in bin\n");
            assert_eq!((refused.code, refused.out.as_str()), (Some(111), ""));
            assert_eq!(it.content("bin"), before);
        }
        assert_eq!(it.succeeds(&["--uninstall", "bin"]), "removed from bin: runsvinit\n");
        assert_eq!(it.names_in("bin").len(), 6);
    }

    #[test]
    fn a_link_of_somebody_else_that_leads_to_us_is_left_alone() {
        let it = Box::new();
        symlink("../new/runitbox", it.path("bin/runitbox")).unwrap();
        symlink("bin/runitbox", it.path("alternative")).unwrap();
        symlink("../alternative", it.path("bin/sv")).unwrap();
        it.succeeds(&["--install", "bin"]);
        assert_eq!(link(&it.path("bin/sv")), "../alternative");
        // What is called runitbox there leads to the executable already, so it is not copied.
        assert_eq!(link(&it.path("bin/runitbox")), "../new/runitbox");
        assert_eq!(link(&it.path("bin/chpst")), "runitbox");
        it.succeeds(&["--uninstall", "bin"]);
        assert_eq!(it.names_in("bin"), ["sv".to_owned()].into());
    }

    #[test]
    fn a_root_is_what_paths_and_links_begin_in() {
        let it = Box::new();
        fs::create_dir_all(it.path("image/usr/sbin")).unwrap();
        symlink("/usr/sbin", it.path("image/sbin")).unwrap();
        symlink("../../../../../usr", it.path("image/up")).unwrap();
        for dir in ["/sbin", "up/sbin"] {
            let said = it.succeeds(&["--install", "--with-init", "--root", "image", dir]);
            let shown = it.path("image/usr/sbin").canonicalize().unwrap().display().to_string();
            assert!(said.starts_with(&format!("installed in {shown}: runitbox chpst ")), "{said}");
            assert_eq!(it.names_in("image/usr/sbin"), owned(&names().0, &["runitbox"]));
        }
        // One that was installed from inside, with absolute links.
        fs::remove_file(it.path("image/usr/sbin/sv")).unwrap();
        symlink("/sbin/runitbox", it.path("image/usr/sbin/sv")).unwrap();
        it.succeeds(&["--install", "--root", "image", "/sbin"]);
        assert_eq!(link(&it.path("image/usr/sbin/sv")), "runitbox");
        let refused = it.go(&["--install", "-s", "--root", "image", "/sbin"]);
        assert_eq!(refused.code, Some(111));
        assert!(
            refused.err.starts_with("runitbox: fatal: links would lead out of the root, to /"),
            "{refused:?}"
        );
        it.succeeds(&["--uninstall", "--with-init", "--root=image", "/sbin"]);
        assert_eq!(it.names_in("image/usr/sbin"), BTreeSet::new());
    }

    #[test]
    fn a_failure_in_the_middle_leaves_what_was_there() {
        needs_program("strace");
        let it = Box::new();
        it.older("bin/runitbox");
        it.older("bin/chpst");
        symlink("runitbox", it.path("bin/sv")).unwrap();
        let before = it.content("bin");
        // The names that are renamed are many; the fifth is in the middle.
        for (call, number) in
            [("renameat", 1), ("renameat", 5), ("linkat", 1), ("symlinkat", 4), ("write", 3), ("fsync", 1)]
        {
            let failed = run_file("/usr/bin/strace")
                .args(&["-qq", "-o", "/dev/null", "-e", "trace=/^(renameat2?|linkat|symlinkat|write|fsync)$"])
                .args(&["-e", &format!("inject=/^{call}2?$:error=EIO:when={number}")])
                .args(&["new/runitbox", "--install", "bin"])
                .dir(it.root.path())
                .go();
            assert_eq!(failed.code, Some(111), "{call} {failed:?}");
            assert!(failed.err.starts_with("runitbox: fatal: unable to "), "{call} {failed:?}");
            assert!(failed.err.ends_with(": input/output error\n"), "{call} {failed:?}");
            assert_eq!(it.content("bin"), before, "{call}");
        }
        it.succeeds(&["--install", "bin"]);
        assert_eq!(it.names_in("bin"), owned(&usual_names(), &["runitbox"]));
    }

    #[test]
    fn what_an_installation_left_that_was_killed_is_in_nobodys_way() {
        let it = Box::new();
        it.root.file("bin/.runitbox-new-sv", "half");
        it.root.file("bin/.runitbox-old-sv", "half");
        it.succeeds(&["--install", "bin"]);
        assert_eq!(it.names_in("bin"), owned(&usual_names(), &["runitbox"]));
    }

    #[test]
    fn install_says_what_is_wrong() {
        let it = Box::new();
        for (words, said) in [
            (&["--install"][..], "runitbox: a directory is missing\n"),
            (&["--install", "-x", "bin"], "runitbox: unknown option -x\n"),
            (&["--uninstall", "--hard", "bin"], "runitbox: unknown option --hard\n"),
            (&["--install", "bin", "bin"], "runitbox: more than one directory\n"),
        ] {
            let wrong = it.go(words);
            assert_eq!((wrong.code, wrong.out.as_str()), (Some(100), ""), "{words:?}");
            assert!(wrong.err.starts_with(&format!("{said}usage: runitbox --install ")), "{wrong:?}");
        }
        let outcome = it.go(&["--install", "/nowhere/dir"]);
        let said = "runitbox: fatal: unable to open the directory /nowhere/dir: file does not exist\n";
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), said));
    }

    #[test]
    fn pages_are_installed_rendered_and_help_names_one_only_if_it_is_ours() {
        let it = Box::new();
        let help = |name: &str| {
            run_file(it.path("new/runitbox")).args(&[name, "--help"]).env("MANPATH", it.path("man")).go().out
        };
        assert!(!help("sv").contains("manual page"));
        let said = it.succeeds(&["--install-man", "man"]);
        assert!(said.contains("installed in man/man8: chpst.8.gz envdir.8 "), "{said}");
        assert!(help("sv").ends_with("\nmanual page: sv(8)\n"));
        assert!(help("envdir").ends_with("\nmanual page: chpst(8)\n"));
        assert!(!it.names_in("man/man8").contains("init.8"), "only with --with-init");
        it.succeeds(&["--install-man", "--with-init", "man"]);
        assert!(it.names_in("man/man8").contains("init.8"));
        let unpack = |name: &str| {
            let gzip = run_file("/bin/sh").args(&["-c", &format!("gzip -dc man/man8/{name}")]);
            gzip.dir(it.root.path()).go().out
        };
        let page = unpack("sv.8.gz");
        assert!(page.starts_with(&format!(".\\\" runitbox {}\n.Dd ", env!("CARGO_PKG_VERSION"))), "{page}");
        assert!(!page.contains("@VERSION@") && !page.contains("@OPTIONS@"), "{page}");
        assert!(it.root.read("man/man8/envdir.8").ends_with("\n.so man8/chpst.8\n"));
        // As a distribution compresses it, and not at all.
        fs::write(it.path("page"), &page).unwrap();
        let shell = |script: &str| run_file("/bin/sh").args(&["-ec", script]).dir(it.root.path()).go();
        assert_eq!(shell("gzip -1n <page >man/man8/sv.8.gz").code, Some(0));
        assert!(help("sv").contains("manual page: sv(8)"));
        assert_eq!(shell("rm man/man8/sv.8.gz; cp page man/man8/sv.8").code, Some(0));
        assert!(help("sv").contains("manual page: sv(8)"));
        it.succeeds(&["--uninstall-man", "man"]);
        assert_eq!(it.names_in("man/man8"), BTreeSet::new());
        // Stock's, in both forms.
        for stock in [
            "rm -f man/man8/*; echo .TH sv 8 >man/man8/sv.8",
            "rm -f man/man8/*; echo .TH sv 8 | gzip >man/man8/sv.8.gz",
        ] {
            shell(stock);
            assert!(!help("sv").contains("manual page"), "{stock}");
            let before = it.content("man/man8");
            let refused = it.go(&["--install-man", "man"]);
            assert_eq!(refused.code, Some(111), "{refused:?}");
            assert!(refused.err.starts_with("runitbox: not part of runitbox: man/man8/sv.8"), "{refused:?}");
            assert_eq!(it.content("man/man8"), before);
            it.succeeds(&["--uninstall-man", "man"]);
            assert_eq!(it.content("man/man8"), before);
        }
    }

    #[test]
    fn the_mark_is_in_the_executable() {
        let file = fs::read(executable()).unwrap();
        let mark = format!("@(#)runitbox {}\0", env!("CARGO_PKG_VERSION"));
        assert!(file.windows(mark.len()).any(|window| window == mark.as_bytes()));
    }

    /// An applet is known in its folder, the catalog, `Cargo.toml` and `applets/main.rs`.
    #[test]
    fn features_and_modules_are_those_of_the_catalog() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = read(root.join("Cargo.toml"));
        let features = manifest.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
        let features: Vec<&str> = features.lines().filter(|line| !line.starts_with('#')).collect();
        let names = catalog::CATALOG.iter().map(|entry| entry.name);
        let declared = features.iter().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
        let wanted: BTreeSet<&str> = names.clone().chain(["default", "gzip", "man", "pie"]).collect();
        assert_eq!(declared.collect::<BTreeSet<_>>(), wanted);
        let default = features.iter().find_map(|line| line.strip_prefix("default = ")).unwrap();
        let default: BTreeSet<&str> =
            default.trim_matches(['[', ']']).split(", ").map(|name| name.trim_matches('"')).collect();
        assert_eq!(default, names.chain(["gzip", "man"]).collect());

        let source = read(root.join("applets/main.rs"));
        for entry in catalog::CATALOG {
            let system = if entry.linux_only { ", target_os = \"linux\")" } else { "" };
            let all = if entry.linux_only { "all(" } else { "" };
            let line = format!("#[cfg({all}feature = \"{}\"{system})]\nmod {};\n", entry.name, entry.module);
            assert!(source.contains(&line), "{line}");
            assert!(root.join("applets").join(entry.module).join("mod.rs").exists());
        }
        let folders = fs::read_dir(root.join("applets")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(folders.filter(|path| path.is_dir()).count(), catalog::CATALOG.len());
    }
}
