//! The options of all commands as data, and those that were given.

use std::ffi::{OsStr, OsString};

use svcore::multicall::is_nearly;

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    Account,
    All,
    Color,
    Dir,
    DryRun,
    EnvFile,
    Failed,
    Follow,
    Grep,
    Help,
    Json,
    Lines,
    Log,
    Now,
    Output,
    Prune,
    Raw,
    Signal,
    Since,
    Source,
    Tree,
    User,
    Utc,
    Variable,
    Version,
    Wait,
    WaitKill,
    Watch,
    WorkingDir,
}

/// How an option is written, and what it does.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) opt: Opt,
    /// Its letter, its word, or both, and after a blank what its value is: `-w, --wait sec`.
    pub(super) shown: &'static str,
    /// What it does, in half a sentence.
    pub(super) about: &'static str,
}

/// The options that each command has.
pub(super) const COMMON: &[Opt] = &[Opt::Dir, Opt::User, Opt::Color, Opt::Help, Opt::Version];

/// All of them. Where two have the same name, no command has both, and the first counts before the command is known.
const SPECS: &[Spec] = &[
    Spec { opt: Opt::Dir, shown: "-d, --dir dir", about: "the directory of services" },
    Spec { opt: Opt::User, shown: "--user", about: "your own services" },
    Spec { opt: Opt::Color, shown: "--color when", about: "always, never or auto" },
    Spec { opt: Opt::Help, shown: "-h, --help", about: "print this" },
    Spec { opt: Opt::Version, shown: "-V, --version", about: "print the version" },
    Spec { opt: Opt::All, shown: "-a, --all", about: "all services of the directory" },
    Spec { opt: Opt::DryRun, shown: "-n, --dry-run", about: "change nothing, and say what would be done" },
    Spec { opt: Opt::Json, shown: "--json", about: "print JSON" },
    Spec { opt: Opt::Failed, shown: "--failed", about: "only services with a problem" },
    Spec { opt: Opt::Tree, shown: "--tree", about: "the processes of each service too" },
    Spec { opt: Opt::Watch, shown: "--watch", about: "print again whenever something changes" },
    Spec { opt: Opt::Follow, shown: "-f, --follow", about: "go on with what is written from now on" },
    Spec { opt: Opt::Lines, shown: "-n, --lines lines", about: "so many lines from the end" },
    Spec { opt: Opt::Since, shown: "--since time", about: "only lines from this time on" },
    Spec { opt: Opt::Grep, shown: "--grep regex", about: "only lines that match" },
    Spec { opt: Opt::Utc, shown: "--utc", about: "times in UTC instead of local time" },
    Spec { opt: Opt::Raw, shown: "--raw", about: "lines as they are in the files" },
    Spec { opt: Opt::Signal, shown: "-s, --signal signal", about: "the signal: TERM, if not given" },
    Spec { opt: Opt::Wait, shown: "-w, --wait sec", about: "wait for up to so many seconds" },
    Spec {
        opt: Opt::WaitKill,
        shown: "--wait-kill",
        about: "send KILL when the time is over, and wait for the end",
    },
    Spec { opt: Opt::Log, shown: "--log", about: "with a log service" },
    Spec { opt: Opt::Account, shown: "-u, --user user", about: "run it as this user" },
    Spec { opt: Opt::Variable, shown: "-e, --env name=value", about: "a variable of its environment" },
    Spec { opt: Opt::EnvFile, shown: "-e, --env file", about: "a file of variables" },
    Spec { opt: Opt::WorkingDir, shown: "-C dir", about: "run it in this directory" },
    Spec {
        opt: Opt::Source,
        shown: "-s, --source dir",
        about: "where service directories are, instead of /etc/sv",
    },
    Spec { opt: Opt::Now, shown: "--now", about: "and wait until it is up, or down" },
    Spec {
        opt: Opt::Output,
        shown: "-o, --output dir",
        about: "the directory of the services of the project",
    },
    Spec { opt: Opt::Prune, shown: "--prune", about: "remove what is no longer in the Procfile" },
];

impl Spec {
    /// Its letter and its word, with their dashes.
    fn names(&self) -> impl Iterator<Item = &'static [u8]> {
        let is_separator = |byte: &u8| matches!(byte, b',' | b' ');
        self.shown.as_bytes().split(is_separator).filter(|word| word.starts_with(b"-"))
    }

    /// Whether it has a value.
    pub(super) fn has_value(&self) -> bool {
        self.shown.as_bytes().rsplit(|&byte| byte == b' ').next().is_some_and(|last| !last.starts_with(b"-"))
    }
}

/// What is known about an option.
pub(super) fn spec(opt: Opt) -> &'static Spec {
    const NONE: Spec = Spec { opt: Opt::Help, shown: "", about: "" };
    SPECS.iter().find(|spec| spec.opt == opt).unwrap_or(&NONE)
}

/// Whether a command with the options `own` may have this one; `None`: the command is not known yet.
fn is_possible(opt: Opt, own: Option<&[Opt]>) -> bool {
    own.is_none_or(|own| own.contains(&opt) || COMMON.contains(&opt))
}

/// The option of this name, such as `-w`, of a command with the options `own`; `None`: the command is not known yet.
pub(super) fn find(name: &[u8], own: Option<&[Opt]>) -> Option<&'static Spec> {
    let called = || SPECS.iter().filter(|spec| spec.names().any(|its| its == name));
    let of_command = called().find(|spec| own.is_some_and(|own| own.contains(&spec.opt)));
    of_command.or_else(|| called().find(|spec| is_possible(spec.opt, own)))
}

/// The word of an option of a command that is nearly this one, with its dashes.
pub(super) fn nearest(word: &[u8], own: Option<&[Opt]>) -> Option<&'static [u8]> {
    let specs = SPECS.iter().filter(|spec| is_possible(spec.opt, own));
    specs
        .flat_map(Spec::names)
        .find(|name| name.strip_prefix(b"--").is_some_and(|name| is_nearly(word, name)))
}

/// The options of a command line, in their order.
#[derive(Debug, Default)]
pub(super) struct Given(Vec<(Opt, OsString)>);

impl Given {
    /// Adds one with its value.
    pub(super) fn add(&mut self, opt: Opt, value: OsString) {
        self.0.push((opt, value));
    }

    /// Which were given.
    pub(super) fn all(&self) -> impl Iterator<Item = Opt> {
        self.0.iter().map(|(opt, _)| *opt)
    }

    /// Whether this one was given.
    pub(super) fn has(&self, opt: Opt) -> bool {
        self.all().any(|given| given == opt)
    }

    /// All values of this one.
    pub(super) fn values(&self, opt: Opt) -> impl Iterator<Item = &OsStr> {
        self.0.iter().filter(move |(given, _)| *given == opt).map(|(_, value)| value.as_os_str())
    }

    /// Its value; that of the last, if it was given more than once.
    pub(super) fn value(&self, opt: Opt) -> Option<&OsStr> {
        self.values(opt).last()
    }
}
