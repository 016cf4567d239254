//! `svctl`: shows, explains, controls and makes services, for people and for programs. Source: svctl(8).
//!
//! Unlike `sv` it is strict: commands are whole words, and an option that a command does not have is refused. It works with
//! any runit, since all that it knows it reads from files of a service directory and from `/proc`. What the supervisor of a
//! service does not tell is absent, never wrong.
//!
//! Each command is a module with a function `run`.

mod act;
mod enable;
mod events;
mod facts;
mod import;
mod json;
mod lint;
mod list;
mod log;
mod make;
mod map;
mod names;
mod options;
mod place;
mod processes;
mod programs;
mod project;
mod screen;
mod script;
mod silent;
mod started;
mod table;
mod text;
mod tree;
mod wait;
mod watching;
mod why;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use svcore::listed::Listed;
use svcore::multicall::{self, is_nearly};
use svcore::say::{self, printable_text};
use svcore::{Call, Error, Failed, Result};

use options::{COMMON, Given, Opt};
use tree::Tree;

/// The exit code if a service that is wanted up is not up.
const NOT_UP: u8 = 3;
/// The exit code if something did not work for a service.
const FAILED: u8 = 1;

/// A command: the first word that is no option.
#[derive(Debug)]
struct Verb {
    name: &'static str,
    /// What follows the name in its usage line.
    synopsis: &'static str,
    /// The options that only some commands have. [`COMMON`] ones have all.
    options: &'static [Opt],
    run: fn(&Asked) -> Result,
}

/// What is asked for.
#[derive(Debug)]
struct Asked {
    /// The options.
    given: Given,
    /// The operands before `--`.
    names: Vec<OsString>,
    /// The operands after `--`. Of a command that runs no program they are names.
    after: Vec<OsString>,
}

/// All commands. `applets/catalog.rs` says of each what it does, in the same order.
const VERBS: &[Verb] = &[
    Verb {
        name: "list",
        synopsis: "[--failed] [--tree] [--watch] [--json] [name ...]",
        options: &[Opt::Failed, Opt::Tree, Opt::Watch, Opt::Json],
        run: list::run,
    },
    Verb { name: "status", synopsis: "[--json] name ...", options: &[Opt::Json], run: why::status },
    Verb { name: "why", synopsis: "name ...", options: &[], run: why::run },
    Verb {
        name: "log",
        synopsis: "[-f] [-n lines] [--since time] [--grep regex] [--utc] [--raw | --json] [name ...]",
        options: &[Opt::Follow, Opt::Lines, Opt::Since, Opt::Grep, Opt::Utc, Opt::Raw, Opt::Json],
        run: log::run,
    },
    Verb { name: "events", synopsis: "[--json] [name ...]", options: &[Opt::Json], run: events::run },
    Verb {
        name: "start",
        synopsis: "[-n] [-w sec] name ... | --all",
        options: &[Opt::DryRun, Opt::Wait, Opt::All],
        run: act::start,
    },
    Verb {
        name: "stop",
        synopsis: "[-n] [-w sec] [--wait-kill] name ... | --all",
        options: &[Opt::DryRun, Opt::Wait, Opt::WaitKill, Opt::All],
        run: act::stop,
    },
    Verb {
        name: "restart",
        synopsis: "[-n] [-w sec] [--wait-kill] name ... | --all",
        options: &[Opt::DryRun, Opt::Wait, Opt::WaitKill, Opt::All],
        run: act::restart,
    },
    Verb {
        name: "reload",
        synopsis: "[-n] [-w sec] name ... | --all",
        options: &[Opt::DryRun, Opt::Wait, Opt::All],
        run: act::reload,
    },
    Verb {
        name: "kill",
        synopsis: "[-n] [-s signal] name ... | --all",
        options: &[Opt::DryRun, Opt::Signal, Opt::All],
        run: act::kill,
    },
    Verb {
        name: "wait",
        synopsis: "[-w sec] up|down|ready|done name ... | --all",
        options: &[Opt::Wait, Opt::All],
        run: wait::wait,
    },
    Verb {
        name: "once",
        synopsis: "[-n] [-w sec] name",
        options: &[Opt::DryRun, Opt::Wait],
        run: wait::once,
    },
    Verb {
        name: "reset",
        synopsis: "[-n] [-w sec] name ... | --all",
        options: &[Opt::DryRun, Opt::Wait, Opt::All],
        run: act::reset,
    },
    Verb { name: "is-up", synopsis: "name ... | --all", options: &[Opt::All], run: wait::is_up },
    Verb {
        name: "new",
        synopsis: "[-n] [--log] [--user user] [--env name=value] [-C dir] [-s dir] name -- command [arg ...]",
        options: &[Opt::DryRun, Opt::Log, Opt::Account, Opt::Variable, Opt::WorkingDir, Opt::Source],
        run: make::run,
    },
    Verb {
        name: "enable",
        synopsis: "[-n] [--now] [-w sec] [-s dir] name ...",
        options: &[Opt::DryRun, Opt::Now, Opt::Wait, Opt::Source],
        run: enable::enable,
    },
    Verb {
        name: "disable",
        synopsis: "[-n] [--now] [-w sec] [-s dir] name ...",
        options: &[Opt::DryRun, Opt::Now, Opt::Wait, Opt::Source],
        run: enable::disable,
    },
    Verb { name: "lint", synopsis: "[--json] [dir ...]", options: &[Opt::Json], run: lint::run },
    Verb {
        name: "import",
        synopsis: "[-n] [-o dir] [--env file] [--prune] [Procfile]",
        options: &[Opt::DryRun, Opt::Output, Opt::EnvFile, Opt::Prune],
        run: import::run,
    },
    Verb {
        name: "up",
        synopsis: "[-n] [-w sec] [-o dir]",
        options: &[Opt::DryRun, Opt::Wait, Opt::Output],
        run: project::up,
    },
    Verb {
        name: "down",
        synopsis: "[-n] [-w sec] [-o dir]",
        options: &[Opt::DryRun, Opt::Wait, Opt::Output],
        run: project::down,
    },
    Verb { name: "names", synopsis: "[--log]", options: &[Opt::Log], run: names::run },
];

/// Runs the applet.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let (verb, asked) = parse(call.args)?;
    let code = if asked.given.has(Opt::Help) {
        help(verb);
        0
    } else if asked.given.has(Opt::Version) {
        say::out(&[multicall::version_line().as_bytes()]);
        0
    } else {
        Tree::check(&asked.given)?;
        (verb.run)(&asked)?
    };
    match say::out_error() {
        // A reader that has seen enough, such as `head`, is no error.
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failed::because(error, "unable to write to standard output").into())
        }
        _ => Ok(code),
    }
}

/// The command and what it is asked for. `list` is the command if there is none.
fn parse(words: &[OsString]) -> Result<(&'static Verb, Asked)> {
    let mut verb: Option<&'static Verb> = None;
    let mut asked = Asked { given: Given::default(), names: Vec::new(), after: Vec::new() };
    let mut parser = lexopt::Parser::from_args(words);
    loop {
        if let Some(mut raw) = parser.try_raw_args()
            && raw.next_if(|word| word == "--").is_some()
        {
            asked.after = raw.listed();
            break;
        }
        let Some(arg) = parser.next().map_err(in_our_words)? else { break };
        let arg = match arg {
            lexopt::Arg::Value(word) if verb.is_none() => {
                verb = Some(verb_called(&word)?);
                continue;
            }
            lexopt::Arg::Value(word) => {
                asked.names.push(word);
                continue;
            }
            arg => arg,
        };
        let Some(spec) = options::find(written(&arg).as_bytes(), verb.map(|verb| verb.options)) else {
            return Err(unknown_option(&arg, verb));
        };
        let value = if spec.has_value() { parser.value().map_err(in_our_words)? } else { OsString::new() };
        asked.given.add(spec.opt, value);
    }
    let verb = match verb {
        Some(verb) => verb,
        None => verb_called(OsStr::new("list"))?,
    };
    for opt in asked.given.all() {
        if !COMMON.contains(&opt) && !verb.options.contains(&opt) {
            let why = format!("{} has no option {}", verb.name, options::spec(opt).shown);
            return Err(Error::Usage(Some(why)));
        }
    }
    if verb.name != "new" {
        asked.names.append(&mut asked.after);
    }
    Ok((verb, asked))
}

/// The command of a name, which has to be whole.
fn verb_called(word: &OsStr) -> Result<&'static Verb> {
    let word = word.as_bytes();
    VERBS.iter().find(|verb| verb.name.as_bytes() == word).ok_or_else(|| {
        let near = VERBS.iter().find(|verb| is_nearly(word, verb.name.as_bytes()));
        let near = near.map_or_else(String::new, |verb| format!("; did you mean {}?", verb.name));
        Error::Usage(Some(format!("{} is no command{near}", printable_text(word))))
    })
}

/// An option as it is written.
fn written(arg: &lexopt::Arg<'_>) -> String {
    match arg {
        lexopt::Arg::Long(word) => format!("--{word}"),
        lexopt::Arg::Short(letter) => format!("-{letter}"),
        lexopt::Arg::Value(_) => String::new(),
    }
}

fn unknown_option(arg: &lexopt::Arg<'_>, verb: Option<&Verb>) -> Error {
    let near = match arg {
        lexopt::Arg::Long(word) => options::nearest(word.as_bytes(), verb.map(|verb| verb.options)),
        _ => None,
    };
    let near = near.map_or_else(String::new, |name| format!("; did you mean {}?", printable_text(name)));
    let of = verb.map_or("svctl", |verb| verb.name);
    Error::Usage(Some(format!("{of} has no option {}{near}", printable_text(written(arg).as_bytes()))))
}

/// What is wrong with an option, in words of ours.
fn in_our_words(error: lexopt::Error) -> Error {
    Error::Usage(Some(match error {
        lexopt::Error::MissingValue { option: Some(option) } => {
            format!("option {} needs a value", printable_text(option.as_bytes()))
        }
        lexopt::Error::UnexpectedValue { option, .. } => {
            format!("option {} takes no value", printable_text(option.as_bytes()))
        }
        _ => "an option is not understood".to_owned(),
    }))
}

/// Prints the options of a command.
fn help(verb: &Verb) {
    let about = crate::TABLE.iter().find(|applet| applet.name == "svctl");
    let about = about.and_then(|applet| applet.verbs.iter().find(|(name, _)| *name == verb.name));
    let about = about.map_or("", |(_, about)| about);
    let mut text = format!("usage: svctl {} {}\n\n{about}\n\n", verb.name, verb.synopsis);
    for opt in verb.options.iter().chain(COMMON) {
        let spec = options::spec(*opt);
        // An option of its own has the same name.
        let place =
            if *opt == Opt::User && verb.name == "new" { "; it stands before the word new" } else { "" };
        text += &format!("  {:<22} {}{place}\n", spec.shown, spec.about);
    }
    say::out(&[text.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> (&'static str, Asked) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (verb, asked) = parse(&words).unwrap();
        (verb.name, asked)
    }

    fn refused(words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words).unwrap_err().to_string()
    }

    #[test]
    fn the_catalog_has_the_same_commands() {
        let svctl = crate::TABLE.iter().find(|applet| applet.name == "svctl").unwrap();
        let told: Vec<&str> = svctl.verbs.iter().map(|(name, _)| *name).collect();
        assert_eq!(told, VERBS.iter().map(|verb| verb.name).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_command_services_are_listed() {
        assert_eq!(parsed(&[]).0, "list");
        let (verb, asked) = parsed(&["--json", "-d", "/x"]);
        assert_eq!((verb, asked.given.value(Opt::Dir)), ("list", Some(OsStr::new("/x"))));
        assert!(asked.given.has(Opt::Json));
    }

    #[test]
    fn options_stand_anywhere_and_two_dashes_end_them() {
        let (verb, asked) = parsed(&["--dir=/x", "stop", "web", "-w5", "--", "-w"]);
        assert_eq!((verb, asked.names), ("stop", ["web", "-w"].map(OsString::from).to_vec()));
        assert_eq!(asked.given.value(Opt::Wait), Some(OsStr::new("5")));
        let (_, asked) = parsed(&["new", "web", "--", "httpd", "-f"]);
        assert_eq!((asked.names.len(), asked.after), (1, ["httpd", "-f"].map(OsString::from).to_vec()));
    }

    #[test]
    fn one_letter_can_be_two_options() {
        assert!(parsed(&["log", "-n", "20"]).1.given.has(Opt::Lines));
        assert!(parsed(&["stop", "-n", "web"]).1.given.has(Opt::DryRun));
        assert!(parsed(&["-n", "stop", "web"]).1.given.has(Opt::DryRun));
        assert!(parsed(&["--user", "new", "web", "--user", "www"]).1.given.has(Opt::User));
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_nearest_word() {
        assert_eq!(refused(&["strat"]), "strat is no command; did you mean start?");
        assert_eq!(refused(&["sta"]), "sta is no command; did you mean status?");
        assert_eq!(refused(&["x"]), "x is no command");
        assert_eq!(refused(&["list", "--jsno"]), "list has no option --jsno; did you mean --json?");
        assert_eq!(refused(&["why", "--json"]), "why has no option --json");
        assert_eq!(refused(&["--json", "why"]), "why has no option --json");
        assert_eq!(refused(&["stop", "-w"]), "option -w needs a value");
        assert_eq!(refused(&["list", "--json=1"]), "option --json takes no value");
        assert_eq!(refused(&["why", "a\nb", "-\n"]), "why has no option -\\x0a");
    }
}
