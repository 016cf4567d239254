//! The options of all commands as data, and those that were given.

use std::ffi::{OsStr, OsString};
use svcore::listed::Listed;

use lexopt::Arg::{self, Long, Short};

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
    /// Its letter, its word, or both.
    names: &'static [Arg<'static>],
    /// What its value is; empty for one without a value.
    pub(super) value: &'static str,
    /// What it does, in half a sentence.
    pub(super) about: &'static str,
}

/// The options that each command has.
pub(super) const COMMON: &[Opt] = &[Opt::Dir, Opt::User, Opt::Color, Opt::Help, Opt::Version];

const fn flag(opt: Opt, names: &'static [Arg<'static>], about: &'static str) -> Spec {
    Spec { opt, names, value: "", about }
}

const fn valued(opt: Opt, names: &'static [Arg<'static>], value: &'static str, about: &'static str) -> Spec {
    Spec { opt, names, value, about }
}

/// All of them. Where two have the same name, no command has both, and the first counts before the command is known.
const SPECS: &[Spec] = &[
    valued(Opt::Dir, &[Short('d'), Long("dir")], "dir", "the directory of services"),
    flag(Opt::User, &[Long("user")], "your own services"),
    valued(Opt::Color, &[Long("color")], "when", "always, never or auto"),
    flag(Opt::Help, &[Short('h'), Long("help")], "print this"),
    flag(Opt::Version, &[Short('V'), Long("version")], "print the version"),
    flag(Opt::All, &[Short('a'), Long("all")], "all services of the directory"),
    flag(Opt::DryRun, &[Short('n'), Long("dry-run")], "change nothing, and say what would be done"),
    flag(Opt::Json, &[Long("json")], "print JSON"),
    flag(Opt::Failed, &[Long("failed")], "only services with a problem"),
    flag(Opt::Tree, &[Long("tree")], "the processes of each service too"),
    flag(Opt::Watch, &[Long("watch")], "print again whenever something changes"),
    flag(Opt::Follow, &[Short('f'), Long("follow")], "go on with what is written from now on"),
    valued(Opt::Lines, &[Short('n'), Long("lines")], "lines", "so many lines from the end"),
    valued(Opt::Since, &[Long("since")], "time", "only lines from this time on"),
    valued(Opt::Grep, &[Long("grep")], "regex", "only lines that match"),
    flag(Opt::Utc, &[Long("utc")], "times in UTC instead of local time"),
    flag(Opt::Raw, &[Long("raw")], "lines as they are in the files"),
    valued(Opt::Signal, &[Short('s'), Long("signal")], "signal", "the signal: TERM, if not given"),
    valued(Opt::Wait, &[Short('w'), Long("wait")], "sec", "wait for up to so many seconds"),
    flag(Opt::WaitKill, &[Long("wait-kill")], "send KILL when the time is over, and wait for the end"),
    flag(Opt::Log, &[Long("log")], "with a log service"),
    valued(Opt::Account, &[Short('u'), Long("user")], "user", "run it as this user"),
    valued(Opt::Variable, &[Short('e'), Long("env")], "name=value", "a variable of its environment"),
    valued(Opt::EnvFile, &[Short('e'), Long("env")], "file", "a file of variables"),
    valued(Opt::WorkingDir, &[Short('C')], "dir", "run it in this directory"),
    valued(
        Opt::Source,
        &[Short('s'), Long("source")],
        "dir",
        "where service directories are, instead of /etc/sv",
    ),
    flag(Opt::Now, &[Long("now")], "and wait until it is up, or down"),
    valued(Opt::Output, &[Short('o'), Long("output")], "dir", "the directory of the services of the project"),
    flag(Opt::Prune, &[Long("prune")], "remove what is no longer in the Procfile"),
];

impl Spec {
    /// It in a list of options: `-w, --wait sec`.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        for name in self.names {
            if !shown.is_empty() {
                shown += ", ";
            }
            match name {
                Short(letter) => shown += &format!("-{letter}"),
                Long(word) => shown += &format!("--{word}"),
                Arg::Value(_) => {}
            }
        }
        if !self.value.is_empty() {
            shown = shown + " " + self.value;
        }
        shown
    }
}

/// What is known about an option.
pub(super) fn spec(opt: Opt) -> &'static Spec {
    const NONE: Spec = flag(Opt::Help, &[], "");
    SPECS.iter().find(|spec| spec.opt == opt).unwrap_or(&NONE)
}

/// Whether a command with the options `own` may have this one; `None`: the command is not known yet.
fn is_possible(opt: Opt, own: Option<&[Opt]>) -> bool {
    own.is_none_or(|own| own.contains(&opt) || COMMON.contains(&opt))
}

/// The option of this name of a command with the options `own`; `None`: the command is not known yet.
pub(super) fn find(arg: &Arg<'_>, own: Option<&[Opt]>) -> Option<&'static Spec> {
    let called = || SPECS.iter().filter(|spec| spec.names.contains(arg));
    let of_command = called().find(|spec| own.is_some_and(|own| own.contains(&spec.opt)));
    of_command.or_else(|| called().find(|spec| is_possible(spec.opt, own)))
}

/// The words of all options of a command.
pub(super) fn long_names(own: Option<&[Opt]>) -> Vec<&'static str> {
    let specs = SPECS.iter().filter(|spec| is_possible(spec.opt, own));
    let names = specs.flat_map(|spec| spec.names);
    names.filter_map(|name| if let Long(word) = name { Some(*word) } else { None }).listed()
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
