//! One executable, many programs: which one is meant, and what becomes of its errors.
//!
//! Which name means what, in this order:
//!
//! 1. A path that leads over a link to an applet that can be an init script is one: `/etc/init.d/web -> /usr/bin/sv`
//!    controls the service `web`, even if the service has the name of an applet.
//! 2. The base name is that of an applet. daemontools' `d` in front of the names of its programs is ignored.
//! 3. The file that was executed is called like an applet, whatever the first word says: `exec -a web /usr/bin/sv` is an
//!    init script, too, and `-runsvdir`, as login programs call a shell, is runsvdir.
//! 4. The first argument is the name of an applet: `runitbox sv status web`.
//!
//! This is the only place that picks exit codes of failures.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::install::{self, Page};
use crate::path::LINKS_MAX;
use crate::say::{Class, Message};
use crate::{hint, say, sys};

/// The name of the whole.
pub(crate) const SUITE: &str = "runitbox";
/// Said when no applet is meant, as a shell says it of a command that is not there.
const NO_APPLET: u8 = 127;
/// The suite's own failures.
const FAILED: u8 = 111;
/// The suite's own wrong usage.
const USAGE: u8 = 100;

/// Exit codes of an applet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// The command line is wrong.
    pub usage: u8,
    /// Something failed that it cannot go on without.
    pub fatal: u8,
}

/// An applet under one of its names.
#[derive(Debug, Clone, Copy)]
pub struct Applet {
    /// The name.
    pub name: &'static str,
    /// The name under which its family is declared; `chpst` for `envdir`.
    pub family: &'static str,
    /// What follows the name in the usage line, to the byte what stock runit prints.
    pub synopsis: &'static str,
    /// What it does, in half a sentence.
    pub about: &'static str,
    /// Options and operands with what they mean, for `--help`.
    pub options: &'static [(&'static str, &'static str)],
    /// The words that its first operand may be, with what they mean, for `--help`.
    pub verbs: &'static [(&'static str, &'static str)],
    /// Whether the usage line has the name as typed, or only its last part.
    pub usage_as_typed: bool,
    /// It boots a machine: `--install` leaves it out without `--with-init`.
    pub with_init: bool,
    /// How it behaves under the name of a service, if it can be an init script.
    pub init_script: Option<InitScript>,
    /// It is a program of daemontools, which may have a `d` in front of its name.
    pub daemontools: bool,
    /// Its exit codes.
    pub codes: Codes,
    /// Its program.
    pub main: fn(&Call<'_>) -> Result,
}

/// An applet as an init script.
#[derive(Debug, Clone, Copy)]
pub struct InitScript {
    /// What follows the name in the usage line.
    pub synopsis: &'static str,
    /// Its exit codes.
    pub codes: Codes,
}

/// What picked the applet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickedBy {
    /// The name of the program.
    Name,
    /// The first argument: `runitbox sv status web`.
    FirstArgument,
    /// A link to it that has the name of a service: it is that service's init script.
    InitScript,
}

/// How an applet was called.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The name as typed: `argv[0]`.
    pub typed: &'a OsStr,
    /// The last part of it.
    pub name: &'a OsStr,
    /// The words after it.
    pub args: &'a [OsString],
    /// Which of descriptors 0, 1 and 2 were closed.
    pub closed: [bool; 3],
    /// What picked it.
    pub picked_by: PickedBy,
    /// The exit codes of its failures.
    pub codes: Codes,
}

impl Call<'_> {
    /// Whether it is called as an init script, by the name of a service.
    #[must_use]
    pub fn is_init_script(&self) -> bool {
        self.picked_by == PickedBy::InitScript
    }
}

/// What a command line asks for.
enum Asked<'a> {
    Applet { applet: &'a Applet, picked_by: PickedBy, typed: &'a OsStr, args: &'a [OsString] },
    Suite(&'a [OsString]),
}

/// Runs the applet that `argv` asks for and gives the code to exit with.
#[must_use]
pub fn run(table: &[Applet], pages: &[Page], argv: &[OsString]) -> u8 {
    let closed = sys::descriptors::guard_standard_streams();
    let (typed, args) =
        argv.split_first().map_or((OsStr::new(SUITE), argv), |(first, args)| (first.as_os_str(), args));
    let executed = sys::auxv::executed_path();
    let (applet, picked_by, typed, args) = match select(table, typed, executed.as_deref(), args) {
        Asked::Applet { applet, picked_by, typed, args } => (applet, picked_by, typed, args),
        Asked::Suite(args) => return suite(table, pages, args),
    };
    let name = base_name(typed);
    let mut applet = *applet;
    match picked_by {
        PickedBy::FirstArgument => {
            sys::arguments::drop_first_argument();
            sys::arguments::set_process_name(applet.name);
        }
        PickedBy::Name => {
            if executed.as_ref().is_some_and(|path| base_name(path) != applet.name) {
                sys::arguments::set_process_name(applet.name);
            }
        }
        PickedBy::InitScript => {
            if let Some(script) = applet.init_script {
                (applet.codes, applet.synopsis) = (script.codes, script.synopsis);
            }
        }
    }
    if picked_by != PickedBy::InitScript
        && let [word] = args
        && word == "--help"
    {
        help(&applet, pages);
        return 0;
    }
    finish(&applet, pages, &Call { typed, name, args, closed, picked_by, codes: applet.codes })
}

fn finish(applet: &Applet, pages: &[Page], call: &Call<'_>) -> u8 {
    (applet.main)(call).unwrap_or_else(|error| {
        // Where stock has a meaning for these words, so has the applet.
        if let (Error::Usage(_), [word], false) = (&error, call.args, call.is_init_script()) {
            if word == "-h" {
                help(applet, pages);
                return 0;
            }
            if word == "--version" {
                say::out(&[version_line().as_bytes()]);
                return 0;
            }
        }
        report(applet, call, &error);
        match error {
            Error::Usage(_) | Error::WrongValue(_) | Error::Version => applet.codes.usage,
            Error::Fatal(_) => applet.codes.fatal,
        }
    })
}

/// Says why, in the shape all of runit has.
fn report(applet: &Applet, call: &Call<'_>, error: &Error) {
    let name = call.name.as_bytes();
    let (before, why) = match error {
        Error::Fatal(failed) => return Message::of(Class::Fatal, applet.family, failed).print(),
        Error::Usage(what) => (what.as_ref(), None),
        Error::WrongValue(why) => (None, Some(why)),
        Error::Version => (None, None),
    };
    if let Some(what) = before {
        say::err_line(&[name, b": ", what.as_bytes()]);
    }
    let typed = if applet.usage_as_typed { call.typed.as_bytes() } else { name };
    let typed = say::printable(undaemonized(applet, typed));
    // Every word of an init script is a command.
    let has_help = !call.is_init_script() && !matches!(error, Error::Version);
    let hint = has_help.then(|| hint_about_usage(applet, call, why.map_or("", String::as_str)));
    let hint = hint::line(hint.as_deref());
    say::err(&[b"usage: ", &typed, b" ", applet.synopsis.as_bytes(), b"\n\n", &hint]);
}

/// What is wrong with the command line, if that is known, and where help is.
fn hint_about_usage(applet: &Applet, call: &Call<'_>, why: &str) -> String {
    let suite = if call.picked_by == PickedBy::FirstArgument { "runitbox " } else { "" };
    let separator = if why.is_empty() { "" } else { "; " };
    [why, separator, "try: ", suite, applet.name, " --help"].concat()
}

/// The names of daemontools' programs are printed without the `d`.
fn undaemonized<'n>(applet: &Applet, name: &'n [u8]) -> &'n [u8] {
    name.strip_prefix(b"d").filter(|rest| *rest == applet.name.as_bytes()).unwrap_or(name)
}

/// `-V`: prints the version, and returns the error by which the usage line follows.
#[must_use]
pub fn version() -> Error {
    say::err(&[version_line().as_bytes()]);
    Error::Version
}

/// The name of the suite and its version, with a newline.
#[must_use]
pub fn version_line() -> String {
    format!("{SUITE} {}\n", env!("CARGO_PKG_VERSION"))
}

fn base_name(path: &OsStr) -> &OsStr {
    let bytes = path.as_bytes();
    OsStr::from_bytes(bytes.rsplit(|&byte| byte == b'/').next().unwrap_or(bytes))
}

fn find<'t>(table: &'t [Applet], name: &OsStr) -> Option<&'t Applet> {
    let exact = |name: &[u8]| table.iter().find(|applet| applet.name.as_bytes() == name);
    let name = name.as_bytes();
    exact(name).or_else(|| {
        let plain = name.strip_prefix(b"d")?;
        exact(plain).filter(|applet| applet.daemontools)
    })
}

fn select<'a>(
    table: &'a [Applet],
    typed: &'a OsStr,
    executed: Option<&OsStr>,
    args: &'a [OsString],
) -> Asked<'a> {
    let as_typed = |applet, picked_by| Asked::Applet { applet, picked_by, typed, args };
    let name = base_name(typed);
    let known = find(table, name);
    if known.is_none_or(|applet| applet.init_script.is_none())
        && name != SUITE
        && (known.is_none() || typed.as_bytes().contains(&b'/'))
        && let Some(path) = path_of(typed, executed, known.is_some())
        && let Some(script) = script_on_the_way(table, path)
    {
        return as_typed(script, PickedBy::InitScript);
    }
    if let Some(applet) = known {
        return as_typed(applet, PickedBy::Name);
    }
    if name != SUITE
        && let Some(applet) = executed.and_then(|path| find(table, base_name(path)))
    {
        let is_script = applet.init_script.is_some();
        return as_typed(applet, if is_script { PickedBy::InitScript } else { PickedBy::Name });
    }
    if let Some((first, rest)) = args.split_first()
        && let Some(applet) = find(table, base_name(first))
    {
        return Asked::Applet { applet, picked_by: PickedBy::FirstArgument, typed: first, args: rest };
    }
    Asked::Suite(args)
}

/// The file that was executed as `typed`.
fn path_of(typed: &OsStr, executed: Option<&OsStr>, known: bool) -> Option<PathBuf> {
    if typed.as_bytes().contains(&b'/') {
        return Some(typed.into());
    }
    if known {
        return None;
    }
    let executed = executed.filter(|path| base_name(path) == typed);
    executed.map(PathBuf::from).or_else(|| {
        crate::exec::candidates(typed, std::env::var_os("PATH").as_deref())
            .into_iter()
            .map(|file| PathBuf::from(OsString::from_vec(file.into_bytes())))
            .find(|file| file.symlink_metadata().is_ok())
    })
}

/// The applet that can be an init script, if a link on the way from `path` has its name as target.
fn script_on_the_way(table: &[Applet], mut path: PathBuf) -> Option<&Applet> {
    for _ in 0..LINKS_MAX {
        let target = std::fs::read_link(&path).ok()?;
        let script = target.file_name().and_then(|name| find(table, name));
        if let Some(script) = script.filter(|applet| applet.init_script.is_some()) {
            return Some(script);
        }
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    None
}

/// `runitbox` itself.
fn suite(table: &[Applet], pages: &[Page], args: &[OsString]) -> u8 {
    let word = args.first().map(|word| word.as_bytes());
    if let Some((option, words)) = args.split_first()
        && let Some(result) = install::run(option.as_bytes(), words, table, pages)
    {
        return result.unwrap_or_else(|error| failed(&error));
    }
    match (word, args.len()) {
        (Some(b"--list"), 1) => {
            say::out(&[names(table).as_bytes()]);
            0
        }
        (Some(b"--version" | b"-V"), 1) => {
            say::out(&[version_line().as_bytes()]);
            0
        }
        (Some(b"--help" | b"-h"), 1) => {
            say::out(&[overview(table).as_bytes()]);
            0
        }
        (word, _) => {
            if let Some(word) = word {
                say::err_line(&[SUITE.as_bytes(), b": no applet is called ", word]);
                if let Some((name, verb)) = nearest(table, word) {
                    let hint = ["did you mean: runitbox ", name, " ", verb].concat();
                    say::err(&[&hint::line(Some(hint.trim_end()))]);
                }
            }
            say::err(&[overview(table).as_bytes()]);
            NO_APPLET
        }
    }
}

/// The applet that has this name but for one slip of the finger, or that has a verb of such a name; and the verb.
fn nearest(table: &[Applet], word: &[u8]) -> Option<(&'static str, &'static str)> {
    for applet in table {
        if is_nearly(word, applet.name.as_bytes()) {
            return Some((applet.name, ""));
        }
        for (verb, _) in applet.verbs {
            if is_nearly(word, verb.as_bytes()) {
                return Some((applet.name, verb));
            }
        }
    }
    None
}

/// Whether the word is the name, or its beginning, or differs from it by one letter too many, missing or wrong, or by two
/// that are exchanged.
#[must_use]
pub fn is_nearly(word: &[u8], name: &[u8]) -> bool {
    if word.len() < 2 || name.starts_with(word) {
        return word.len() > 1;
    }
    let (mut one, mut other) = (word, name);
    while let (Some((a, rest)), Some((b, other_rest))) = (one.split_first(), other.split_first())
        && a == b
    {
        (one, other) = (rest, other_rest);
    }
    while let (Some((a, rest)), Some((b, other_rest))) = (one.split_last(), other.split_last())
        && a == b
    {
        (one, other) = (rest, other_rest);
    }
    match (one, other) {
        ([a, b], [c, d]) => a == d && b == c,
        (one, other) => one.len() < 2 && other.len() < 2 && name.len() > 2,
    }
}

/// Reports why the suite itself failed, and returns the exit code.
fn failed(error: &Error) -> u8 {
    match error {
        Error::Usage(_) | Error::WrongValue(_) | Error::Version => {
            if let Error::Usage(Some(what)) = error {
                say::err_line(&[SUITE.as_bytes(), b": ", what.as_bytes()]);
            }
            let lines = install::USAGE.map(|line| format!("{SUITE} {line}\n"));
            say::err(&[b"usage: ", lines.join("       ").as_bytes(), b"\n"]);
            USAGE
        }
        Error::Fatal(failed) => {
            Message::of(Class::Fatal, SUITE, failed).print();
            FAILED
        }
    }
}

fn names(table: &[Applet]) -> String {
    table.iter().fold(String::new(), |list, applet| list + applet.name + "\n")
}

fn overview(table: &[Applet]) -> String {
    let mut text = format!(
        "{SUITE} {}: the runit supervision suite as one executable\n\n\
         usage: {SUITE} APPLET [argument ...]\n       \
         {SUITE} --list | --version | --help\n{}\
         or call it by the name of an applet. APPLET --help says more.\n\napplets:\n",
        env!("CARGO_PKG_VERSION"),
        install::USAGE.map(|line| format!("       {SUITE} {line}\n")).concat()
    );
    for applet in table {
        text += &format!("  {:<12} {}\n", applet.name, applet.about);
    }
    text
}

fn help(applet: &Applet, pages: &[Page]) {
    let mut text = format!("usage: {} {}\n\n{}\n", applet.name, applet.synopsis, applet.about);
    if !applet.options.is_empty() {
        text.push('\n');
    }
    for (option, meaning) in applet.options.iter().chain(applet.verbs) {
        for (index, line) in meaning.lines().enumerate() {
            let shown = if index == 0 { option } else { "" };
            text += &format!("  {shown:<22} {line}\n");
        }
    }
    text += &format!(
        "\nexit code of wrong usage: {}, of a fatal error: {}\n",
        applet.codes.usage, applet.codes.fatal
    );
    // Beside stock runit, the page of that name is stock's.
    if install::has_page(applet.family, pages) {
        text += &format!("manual page: {}(8)\n", applet.family);
    }
    say::out(&[text.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applet(name: &'static str, family: &'static str) -> Applet {
        Applet {
            name,
            family,
            synopsis: "",
            about: "",
            options: &[],
            verbs: &[],
            usage_as_typed: true,
            with_init: false,
            init_script: (name == "sv")
                .then_some(InitScript { synopsis: "", codes: Codes { usage: 3, fatal: 4 } }),
            daemontools: name != family,
            codes: Codes { usage: 1, fatal: 2 },
            main: |_| Ok(0),
        }
    }

    fn meant(argv: &[&str]) -> String {
        executed_as(None, argv)
    }

    fn executed_as(executed: Option<&str>, argv: &[&str]) -> String {
        let table = [
            applet("chpst", "chpst"),
            applet("envdir", "chpst"),
            applet("runsv", "runsv"),
            applet("sv", "sv"),
        ];
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        match select(&table, &argv[0], executed.map(OsStr::new), &argv[1..]) {
            Asked::Applet { typed, picked_by: PickedBy::InitScript, .. } => {
                format!("script {}", typed.display())
            }
            Asked::Applet { applet, typed, args, .. } => {
                format!("{} {} {}", applet.name, typed.display(), args.len())
            }
            Asked::Suite(args) => format!("suite {}", args.len()),
        }
    }

    #[test]
    fn the_base_name_picks_the_applet_and_nothing_less_than_all_of_it() {
        assert_eq!(meant(&["/x/runsv", "a"]), "runsv /x/runsv 1");
        assert_eq!(meant(&["runsv"]), "runsv runsv 0");
        assert_eq!(meant(&["mysv"]), "suite 0");
        assert_eq!(meant(&["runsvx", "b"]), "suite 1");
    }

    #[test]
    fn the_first_argument_picks_the_applet_where_the_name_does_not() {
        assert_eq!(meant(&["runitbox", "sv", "status"]), "sv sv 1");
        assert_eq!(meant(&["/x/renamed", "runsv", "a"]), "runsv runsv 1");
        assert_eq!(meant(&["runitbox", "--list"]), "suite 1");
        assert_eq!(meant(&["sv", "runsv"]), "sv sv 1");
    }

    #[test]
    fn the_file_that_was_executed_counts_where_the_name_says_nothing() {
        let sv = |argv: &[&str]| executed_as(Some("/usr/bin/sv"), argv);
        assert_eq!(sv(&["foo", "status"]), "script foo");
        assert_eq!(sv(&["-foo", "status"]), "script -foo");
        assert_eq!(sv(&["", "status"]), "script ");
        assert_eq!(sv(&["foo", "runsv"]), "script foo");
        assert_eq!(sv(&["runitbox", "--list"]), "suite 1");
        assert_eq!(executed_as(Some("/usr/bin/runsv"), &["-runsv", "a"]), "runsv -runsv 1");
        assert_eq!(executed_as(Some("/usr/bin/runitbox"), &["foo", "sv", "a"]), "sv sv 1");
        assert_eq!(executed_as(Some("/x/foo"), &["foo", "a"]), "suite 1");
    }

    #[test]
    fn a_word_that_is_nearly_a_name_is_recognized() {
        let sv = Applet { verbs: &[("status", ""), ("start", "")], ..applet("sv", "sv") };
        let table = [applet("runsv", "runsv"), applet("runsvdir", "runsvdir"), sv];
        let near = |word: &str| nearest(&table, word.as_bytes()).map(|(name, verb)| format!("{name} {verb}"));
        for (word, expected) in [
            ("strat", "sv start"),
            ("stat", "sv status"),
            ("start", "sv start"),
            ("runsvdri", "runsvdir "),
            ("unsv", "runsv "),
            ("runsvv", "runsv "),
            ("ruxsv", "runsv "),
        ] {
            assert_eq!(near(word).as_deref(), Some(expected), "{word}");
        }
        for word in ["", "s", "x", "ls", "frobnicate", "trats"] {
            assert_eq!(near(word), None, "{word}");
        }
    }

    #[test]
    fn the_d_of_daemontools_is_ignored() {
        assert_eq!(meant(&["denvdir"]), "envdir denvdir 0");
        assert_eq!(meant(&["dchpst"]), "suite 0");
        assert_eq!(meant(&["drunsv"]), "suite 0");
    }
}
