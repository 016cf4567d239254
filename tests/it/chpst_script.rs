//! Scripts whose first line is `#!/sbin/chpst -@`.

mod ours {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use support::*;

    /// Writes an executable script for `chpst -@`, under a name of its own first: a supervisor may look at any time.
    fn write(path: &Path, body: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("being-written");
        fs::write(&new, format!("#!{} -@\n{body}", program("chpst").display())).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    /// Runs a script with arguments.
    fn script(body: &str, arguments: &[&str]) -> Outcome {
        let root = TempDir::new();
        write(&root.join("run"), body);
        run_file("./run").args(arguments).env("NAME", "a  value").env("EMPTY", "").dir(root.path()).go()
    }

    #[track_caller]
    fn is_wrong(body: &str, line: usize, what: &str) {
        let outcome = script(body, &[]);
        let expected = format!("chpst: fatal: ./run: line {line}: {what}\n");
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(100), expected.as_str()), "{body}");
        assert_eq!(outcome.out, "", "{body}");
    }

    #[test]
    fn options_and_program_are_in_the_file() {
        let body = "# a comment\n-b shown --umask 027\n\t-o 77 # another\nsh -c 'echo $0; ulimit -Sn; umask; exit 42'";
        let outcome = script(body, &[]);
        assert_eq!(
            (outcome.code, outcome.out.as_str(), outcome.err.as_str()),
            (Some(42), "shown\n77\n0027\n", "")
        );
    }

    #[test]
    fn words_are_those_of_sh() {
        let body =
            "printf [%s] 'a b' \"$NAME\" $NAME x\\ y $EMPTY \"$EMPTY\" ${NAME}\\\n1 \"$0\" \"$2\" \"$@\"\n";
        let body = body.replace("[%s]", "'[%s]'");
        let outcome = script(&body, &["one", "t w o", ""]);
        assert_eq!((outcome.err.as_str(), outcome.code), ("", Some(0)));
        assert_eq!(outcome.out, "[a b][a  value][a][value][x y][][a][value1][./run][t w o][one][t w o][]");
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_passed_on() {
        let root = TempDir::new();
        write(&root.join("run"), "");
        let mut text = fs::read(root.join("run")).unwrap();
        text.extend_from_slice(b"printf %s a\xff\xfe");
        fs::write(root.join("run"), text).unwrap();
        let output = std::process::Command::new(root.join("run")).output().unwrap();
        assert_eq!(output.stdout, b"a\xff\xfe");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        const SHELL: &str = "no shell reads this file";
        is_wrong("a | b", 2, &format!("unquoted |: {SHELL}; write '|' for the character"));
        is_wrong("a\n\nls *.c", 4, &format!("unquoted *: {SHELL}; write '*' for the character"));
        is_wrong("echo $(date)", 2, &format!("$(: {SHELL}, so no command is run by it"));
        is_wrong("echo \"`date`\"", 2, &format!("` in double quotes: {SHELL}; write \\`"));
        is_wrong("echo ${A:-b}", 2, "${A: only ${NAME} is known, and nothing else in braces");
        is_wrong("echo\n$NONE", 3, "$NONE is not set");
        is_wrong("echo \"\n'", 2, "the quote \" is not closed");
        is_wrong("echo $1", 2, "$1 is not set");
        is_wrong("-u web\n-x prog", 3, "illegal option -- x");
        is_wrong("-u web\n-o\n1x\nprog -y", 4, "-o 1x: not a number");
        is_wrong("-o 5 -l a\n\n-L b prog", 4, "-l and -L: there can be one lock only");
        is_wrong("-u web\n--umask 9 prog", 3, "--umask: \"9\" is no octal number up to 777");
        is_wrong("-u web\n-u", 3, "option requires an argument -- u");
        is_wrong("-u web\n--umask", 3, "option requires an argument -- umask");
        is_wrong("-v\n-@ other", 3, "illegal option -- @");
        is_wrong("-v\n--nosuch=x true", 3, "unknown option --nosuch");
        is_wrong("-u web\n", 2, "there is no program after the options");
        is_wrong("", 1, "there is no program after the options");
    }

    #[test]
    fn an_unknown_user_is_reported_with_the_line() {
        for (body, line, user) in [
            ("-u nosuch true", 2, "nosuch"),
            ("-P\n-u\nnosuch\ntrue -u other", 4, "nosuch"),
            ("-u root\n-unosuch\ntrue", 3, "nosuch"),
            ("-u root\n-U nosuch\ntrue", 3, "nosuch"),
            ("-u nosuch\n-n 1 -u nosuch:other\ntrue", 3, "nosuch:other"),
        ] {
            let outcome = script(body, &[]);
            let expected = format!("chpst: fatal: ./run: line {line}: unknown user/group: {user}\n");
            assert_eq!((outcome.code, outcome.err.as_str()), (Some(111), expected.as_str()), "{body}");
        }
    }

    #[test]
    fn an_empty_variable_never_makes_the_next_word_the_user() {
        let what = "$EMPTY is empty or has blanks; among options write \"$EMPTY\"";
        is_wrong("-u $EMPTY root id", 2, what);
        is_wrong("-P\n-u $EMPTY id", 3, what);
        is_wrong("-u $NAME id", 2, "$NAME is empty or has blanks; among options write \"$NAME\"");
        let outcome = script("-u \"$EMPTY\" id", &[]);
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(111), "chpst: fatal: ./run: line 2: unknown user/group: \n")
        );
        // Before the program it is as in sh: a program that another one runs, or not.
        assert_eq!(script("-v\n$EMPTY echo $EMPTY $NAME", &[]).out, "a value\n");
    }

    #[test]
    fn line_ends_of_windows_are_named() {
        let root = TempDir::new();
        let said = "ends in a carriage return, as in files from Windows";
        for (text, line) in [("-@\r\necho hello\r\n", 1), ("-@\necho\necho hello\r\n", 3)] {
            fs::write(root.join("run"), format!("#!{} {text}", program("chpst").display())).unwrap();
            fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
            let outcome = run_file("./run").dir(root.path()).env("RUNITBOX_HINTS", "0").go();
            assert_eq!(outcome.err, format!("chpst: fatal: ./run: line {line}: {said}\n"));
            assert_eq!((outcome.code, outcome.out.as_str()), (Some(100), ""));
        }
    }

    #[test]
    fn options_on_the_first_line_are_said_to_be_wrong() {
        let root = TempDir::new();
        fs::write(root.join("run"), format!("#!{} -@ -u web\necho\n", program("chpst").display())).unwrap();
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        let outcome = run_file("./run").dir(root.path()).go();
        assert_eq!(outcome.code, Some(100));
        assert!(
            outcome.err.starts_with("chpst: -@: other options begin on the second line of the file\nusage: ")
        );
        let outcome = run("chpst").arg("-@").go();
        assert!(outcome.err.starts_with("chpst: option requires an argument -- @\nusage: "), "{outcome:?}");
    }

    #[test]
    fn what_cannot_be_a_script_is_named() {
        let root = TempDir::new();
        let fails = |name: &str, why: &str| {
            let outcome = run("chpst").args(&["-@", name]).dir(root.path()).go();
            let expected = format!("chpst: fatal: unable to read {name}: {why}\n");
            assert_eq!((outcome.code, outcome.err), (Some(111), expected));
        };
        fails("none", "file does not exist");
        fs::create_dir(root.join("dir")).unwrap();
        fails("dir", "is a directory");
        make_fifo(&root.join("fifo"), 0o700);
        fails("fifo", "not a regular file");
        fails("/dev/zero", "not a regular file");
        root.file("long", "echo a\n# ".to_owned() + &"x".repeat(64 * 1024));
        fails("long", "file too big");
        root.file("nul", "echo a\necho \0\n");
        let outcome = run("chpst").args(&["-@", "nul"]).dir(root.path()).go();
        assert_eq!(outcome.err, "chpst: fatal: nul: line 2: has a NUL byte\n");
        let script = root.file("script", "echo here");
        for mode in [0o775, 0o666] {
            fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
            fails("script", "others may write to it");
        }
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
        symlink("script", root.join("link")).unwrap();
        assert_eq!(run("chpst").args(&["-@", "link"]).dir(root.path()).go().out, "here\n");
    }

    #[test]
    fn as_long_as_it_may_be_is_read() {
        let long = "x".repeat(60 * 1024);
        let outcome = script(&format!("printf %s\n{long}\n"), &[]);
        assert_eq!(outcome.out, long);
    }

    #[test]
    fn variables_of_an_environment_directory_are_for_the_program_alone() {
        let root = TempDir::new();
        root.file("env/A", "inside");
        write(&root.join("run"), "-e ./env sh -c 'echo $A $1' sh $A");
        let outcome = run_file("./run").dir(root.path()).env("A", "outside").go();
        assert_eq!(outcome.out, "inside outside\n");
        let outcome = run_file("./run").dir(root.path()).env("RUNITBOX_HINTS", "1").go();
        let hint = "  a script gets the variables that chpst was started with; those of -e are set later\n";
        assert_eq!(outcome.err, format!("chpst: fatal: ./run: line 2: $A is not set\n{hint}"));
    }

    #[test]
    fn what_is_built_into_a_shell_is_no_program() {
        let root = TempDir::new();
        write(&root.join("run"), "-v\nexec sleep 1");
        let outcome = run_file("./run").dir(root.path()).env("RUNITBOX_HINTS", "1").go();
        let hint = "  no shell reads the script: exec, cd, export, A=b and the like are not known in it\n";
        assert_eq!(outcome.err, format!("chpst: fatal: unable to run: exec: file does not exist\n{hint}"));
        assert_eq!(outcome.code, Some(111));
    }

    #[test]
    fn as_one_executable_it_works_from_the_command_line_alone() {
        let root = TempDir::new();
        root.file("file", "echo $1");
        let outcome = run_file(executable()).args(&["chpst", "-@", "file", "argument"]).dir(root.path()).go();
        assert_eq!(outcome.out, "argument\n");
    }

    /// A service whose `run`, `finish` and log need no shell, and what it did.
    fn lives(runsv: &Path) {
        let root = TempDir::new();
        let dir = root.join("s");
        write(&dir.join("run"), "--stderr\n/bin/sh -c 'echo up; echo problem >&2; exec sleep 1000'");
        write(&dir.join("finish"), "/bin/sh -c 'echo \"$@\" >>ended' finish \"$@\"");
        write(&dir.join("log/run"), "-C .\ntee out");
        let mut runsv = run_file(runsv).arg("s").dir(root.path()).start(&root.join("err"));
        eventually("logged", || root.read("s/log/out") == "up\nproblem\n");
        send(&dir.join("supervise/control"), "d");
        eventually("finished", || root.read("s/ended") == "-1 15\n");
        // What is wrong with it appears in the log, and it is tried again.
        write(&dir.join("run"), "--stderr\na | b");
        send(&dir.join("supervise/control"), "u");
        eventually("finished", || root.read("s/ended").starts_with("-1 15\n100 0\n"));
        assert!(root.read("err").contains("chpst: fatal: ./run: line 3: unquoted |"), "{}", root.read("err"));
        send(&dir.join("supervise/control"), "x");
        runsv.exit_code();
    }

    #[test]
    fn a_service_needs_no_shell() {
        lives(&program("runsv"));
    }

    #[test]
    fn a_service_of_stock_runsv_needs_no_shell() {
        needs_stock("runsv");
        lives(Path::new("/usr/bin/runsv"));
    }
}
