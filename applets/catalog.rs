//! Every applet as data: names, options, exit codes. No behaviour.
//!
//! Compiled into `build.rs`, which makes the table of applets, the manual pages, completions and the list of links
//! from it, and into the tests, which compare `Cargo.toml` and `applets/main.rs` with it. A new applet is a folder, an entry
//! here, and a feature and a `mod` line of its name. The synopses are stock runit's to the byte; what we add to the programs is told by `options` only.

/// A program, and the other names it has.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// The folder under `applets/` and the module of the executable. Its Cargo feature has the name of the program.
    pub module: &'static str,
    /// It is only of use on Linux, and left out elsewhere.
    pub linux_only: bool,
    /// It boots a machine, so `--install` makes its names only with `--with-init`.
    pub with_init: bool,
    /// Where packages put it: `bin` or `sbin`.
    pub dir: &'static str,
    /// What it does, in half a sentence.
    pub about: &'static str,
    /// What follows the name in the usage line.
    pub synopsis: &'static str,
    /// Options and operands, and what they mean.
    pub options: &'static [(&'static str, &'static str)],
    /// The words that its first operand may be, and what they mean.
    pub verbs: &'static [(&'static str, &'static str)],
    /// The usage line has the name as typed, not only its last part.
    pub usage_as_typed: bool,
    /// Exit code of a wrong command line.
    pub usage_code: u8,
    /// Exit code of a fatal error.
    pub fatal_code: u8,
    /// How it behaves as an init script, if it can be one.
    pub init_script: Option<InitScript>,
    /// The other names are those of daemontools' programs, and may have a `d` in front.
    pub daemontools: bool,
    /// Other names that the same program serves.
    pub aliases: &'static [Alias],
}

/// A program under the name of a service: `/etc/init.d/web` is a link to it.
pub struct InitScript {
    /// What follows the name in the usage line.
    pub synopsis: &'static str,
    /// Exit code of a wrong command line.
    pub usage_code: u8,
    /// Exit code of a fatal error.
    pub fatal_code: u8,
}

/// Another name of a program.
pub struct Alias {
    /// The name.
    pub name: &'static str,
    /// What it does under this name.
    pub about: &'static str,
    /// What follows the name in the usage line.
    pub synopsis: &'static str,
    /// Options and operands, and what they mean.
    pub options: &'static [(&'static str, &'static str)],
}

/// All of them, by name.
pub const CATALOG: &[Entry] = &[
    Entry {
        name: "chpst",
        module: "chpst",
        linux_only: false,
        with_init: false,
        dir: "bin",
        about: "run a program with a changed process state",
        synopsis: "[-vVP012] [-u user[:group]] [-U user[:group]] [-b argv0] [-e dir] [-/ root] [-C pwd] [-n nice] [-l|-L lock] [-m n] [-d n] [-o n] [-p n] [-f n] [-c n] [-t n] prog",
        options: &[
            (
                "-u user[:group...]",
                "become this user, and these groups instead of the user's own;\nids with a colon in front: -u :1000:100",
            ),
            ("-U user[:group]", "set UID and GID in the environment to the ids of this user"),
            ("-b argv0", "run prog with argv0 as its name"),
            ("-e dir", "set the environment from the files in dir"),
            ("-/ root", "change the root directory"),
            ("-C pwd", "change the working directory, in the new root"),
            ("-n inc", "add inc to the nice level"),
            ("-l lock", "wait for an exclusive lock on the file lock"),
            ("-L lock", "the same, but fail at once if it is locked"),
            ("-m bytes", "limit data, stack, locked memory and address space, each"),
            ("-d bytes", "limit the data segment"),
            ("-o files", "limit the number of open files"),
            ("-p processes", "limit the number of processes of the user"),
            ("-f bytes", "limit the size of files"),
            ("-c bytes", "limit the size of a core file"),
            ("-r bytes", "limit the resident memory"),
            ("-t seconds", "limit the processor time"),
            ("-P", "run prog in a session and process group of its own"),
            ("-0 -1 -2", "close standard input, output, error"),
            ("-N", "put standard input, output and error on /dev/null"),
            ("-v", "say what is skipped"),
            ("-V", "print the version"),
        ],
        verbs: &[],
        usage_as_typed: false,
        usage_code: 100,
        fatal_code: 111,
        init_script: None,
        daemontools: true,
        aliases: &[
            Alias {
                name: "envdir",
                about: "run a program with an environment from a directory",
                synopsis: "dir child",
                options: &[],
            },
            Alias {
                name: "envuidgid",
                about: "run a program with the ids of an account in UID and GID",
                synopsis: "account child",
                options: &[],
            },
            Alias {
                name: "pgrphack",
                about: "run a program in a session of its own",
                synopsis: "child",
                options: &[],
            },
            Alias {
                name: "setlock",
                about: "run a program with a file locked",
                synopsis: "[ -nNxX ] file program [ arg ... ]",
                options: &[
                    ("-n", "do not wait for the lock"),
                    ("-N", "wait for the lock (default)"),
                    ("-x", "exit 0 without a word if the lock or the program cannot be had"),
                    ("-X", "say so and exit 111 (default)"),
                ],
            },
            Alias {
                name: "setuidgid",
                about: "run a program as an account",
                synopsis: "account child",
                options: &[],
            },
            Alias {
                name: "softlimit",
                about: "run a program with limits",
                synopsis: "[-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes] [-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] [-t cpusecs] child",
                options: &[("n", "a number, or = for the hard limit")],
            },
        ],
    },
    Entry {
        name: "runit",
        module: "runit",
        linux_only: true,
        with_init: true,
        dir: "sbin",
        about: "be process 1: run the stages, reap orphans, end the machine",
        synopsis: "",
        options: &[],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 111,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "runit-init",
        module: "runit_init",
        linux_only: true,
        with_init: true,
        dir: "sbin",
        about: "become runit as process 1; otherwise tell it to halt or to reboot",
        synopsis: "0|6",
        options: &[
            ("0", "end all services and turn the machine off"),
            ("6", "end all services and start the machine again"),
        ],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 0,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[Alias {
            name: "init",
            about: "runit-init under the name that the kernel looks for",
            synopsis: "0|6",
            options: &[],
        }],
    },
    Entry {
        name: "runsv",
        module: "runsv",
        linux_only: false,
        with_init: false,
        dir: "bin",
        about: "supervise one service and its log service",
        synopsis: "dir",
        options: &[("dir", "the service directory")],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 1,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "runsvchdir",
        module: "runsvchdir",
        linux_only: false,
        with_init: false,
        dir: "sbin",
        about: "switch the directory that runsvdir serves",
        synopsis: "dir",
        options: &[
            ("dir", "a directory in /etc/runit/runsvdir, which becomes current there"),
            ("RUNSVDIR", "another place than /etc/runit/runsvdir"),
        ],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 1,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "runsvdir",
        module: "runsvdir",
        linux_only: false,
        with_init: false,
        dir: "bin",
        about: "keep a runsv for each service directory in a directory",
        synopsis: "[-P] dir",
        options: &[
            ("-P", "start each runsv in a session and process group of its own"),
            ("dir", "the directory of service directories, or of links to them"),
            ("log", "a third word, of at least seven characters: standard error is shown in it by ps"),
        ],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 1,
        fatal_code: 100,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "runsvinit",
        module: "runsvinit",
        linux_only: true,
        with_init: false,
        dir: "sbin",
        about: "be a container's init: host all services, run a command, stop in order",
        synopsis: "[-gv] [-w sec] [-e dir] [--map code=code] [--stop-signal sig] [--prefix] [--stamp] [dir] [-- cmd [arg ...]] | --halt [code]",
        options: &[
            ("-v", "say what is done"),
            (
                "-w sec",
                "stop everything within sec seconds, such as 1.5; default 9;\nhas to be less than the grace of the container engine",
            ),
            ("-g", "send cmd's signals to its whole process group"),
            ("--stop-signal sig", "tell cmd to end by this signal instead of TERM"),
            ("-e dir", "write the environment to dir, for chpst -e"),
            (
                "--map code=code",
                "exit with the second code instead of the first; may be given more than once",
            ),
            ("--prefix", "put the name of its service before each line of output"),
            ("--stamp", "put the time before that, in UTC; implies --prefix"),
            ("--halt [code]", "tell the runsvinit that runs to stop everything and exit with code, or 0"),
            ("dir", "the directory of service directories; default as for sv"),
            (
                "cmd",
                "a command that is run beside the services, those of the default directory too;\nwhen it ends, everything does",
            ),
            ("-V", "print the version"),
        ],
        verbs: &[],
        usage_as_typed: false,
        usage_code: 100,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "sv",
        module: "sv",
        linux_only: false,
        with_init: false,
        dir: "bin",
        about: "control services and say how they are",
        synopsis: "[-v] [-w sec] command service ...",
        options: &[
            ("-v", "wait until the command has had its effect, and say how the service is"),
            ("-w sec", "wait for up to sec seconds instead of 7 (or SVWAIT); implies -v"),
            ("-V", "print the version"),
            (
                "service",
                "a name in the service directory, or a path with a . or / at its start or a / at its end",
            ),
            (
                "SVDIR",
                "the service directory; else what runsvinit serves as process 1, or the first\nthat exists of /service, /etc/service, /var/service",
            ),
        ],
        verbs: &[
            ("status", "print the state of the service"),
            ("health", "exit 0 if all is well; else 1, and a line for each problem; without service: all"),
            ("up", "start it, and start it again when it ends"),
            ("down", "stop it"),
            ("once", "start it, and do not start it again"),
            ("exit", "stop it, and let runsv end"),
            ("start", "up, and wait"),
            ("stop", "down, and wait"),
            ("shutdown", "exit, and wait"),
            ("restart", "term, cont and up, and wait"),
            ("try-restart", "restart it only if it runs, and wait"),
            ("reload", "hup, and wait"),
            ("check", "nothing but wait"),
            ("force-stop", "stop, and kill when the time is over"),
            ("force-shutdown", "shutdown, and kill when the time is over"),
            ("force-restart", "restart, and kill when the time is over"),
            ("force-reload", "try-restart, and kill when the time is over"),
            ("pause", "send STOP"),
            ("cont", "send CONT"),
            ("hup", "send HUP"),
            ("alarm", "send ALRM"),
            ("interrupt", "send INT"),
            ("quit", "send QUIT"),
            ("1", "send USR1"),
            ("2", "send USR2"),
            ("term", "send TERM"),
            ("kill", "send KILL"),
        ],
        usage_as_typed: false,
        usage_code: 100,
        fatal_code: 100,
        // Source: sv(8), and the Linux Standard Base.
        init_script: Some(InitScript { synopsis: "[-w sec] command", usage_code: 2, fatal_code: 151 }),
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "svlogd",
        module: "svlogd",
        linux_only: false,
        with_init: false,
        dir: "bin",
        about: "write standard input to log directories that are rotated",
        synopsis: "[-ttv] [-r c] [-R abc] [-l len] [-b buflen] dir ...",
        options: &[
            ("-t", "put a TAI64N stamp before each line"),
            ("-tt -ttt", "put the time in UTC before each line; with T between date and time"),
            ("-r c", "replace what is not printable by c"),
            ("-R abc", "replace these bytes too; by _ if there is no -r"),
            ("-l len", "how much of a line is looked at and kept in one file; default 1000"),
            ("-b buflen", "accepted, and has to be more than len; buffers are chosen by need"),
            (
                "-L",
                "lose lines while the disk is full, instead of waiting;\nsay in the log how many; -LL also warns",
            ),
            ("-v", "say what is done"),
            ("-V", "print the version"),
        ],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 111,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
    Entry {
        name: "utmpset",
        module: "utmpset",
        linux_only: true,
        with_init: false,
        dir: "sbin",
        about: "log a line out in utmp and wtmp",
        synopsis: "[-w] line",
        options: &[
            ("-w", "in wtmp too"),
            ("line", "the terminal, without /dev/ in front"),
            ("-V", "print the version"),
        ],
        verbs: &[],
        usage_as_typed: true,
        usage_code: 1,
        fatal_code: 111,
        init_script: None,
        daemontools: false,
        aliases: &[],
    },
];
