//! `sv`: controls services and prints their status. Source: sv(8).
//!
//! Requests to many services are sent first, then all are waited for together, by events: `supervise` directories
//! are watched. A status from before the request was executed is never reported.

mod health;
mod report;
mod reporter;
mod verb;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use lexopt::Arg::{Short, Value};
use svcore::client::request::Waits;
use svcore::client::{self, Base, LOG, MAIN, Observer, Supervisors, Target, Trouble};
use svcore::control::Command;
use svcore::facts::Facts;
use svcore::say::{self, Message};
use svcore::status::State;
use svcore::{Call, Error, Result, decimal, multicall, tai};

use reporter::Reporter;
use verb::Verb;

/// How long to wait by default, in seconds.
const PATIENCE: u64 = 7;

/// Exit codes of `status` as an init script. Source: sv(8).
const SCRIPT_UNSERVED: u8 = 1;
const SCRIPT_DOWN: u8 = 3;
const SCRIPT_UNKNOWN: u8 = 4;

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    verbose: bool,
    wait: Option<u64>,
    words: Vec<OsString>,
}

/// Runs the applet; returns the number of services that failed.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let options = parse(call.args)?;
    let (word, names) = options.words.split_first().ok_or_else(Error::usage)?;
    let script = [call.name.to_owned()];
    let names = if call.is_init_script() { &script } else { names };
    if !call.is_init_script() && rustix::termios::isatty(rustix::stdio::stderr()) {
        refuse_unknown(word.as_bytes())?;
    }
    let verb = verb::verb(word.as_bytes(), call.is_init_script()).ok_or_else(Error::usage)?;
    if names.is_empty() && verb != Verb::Health {
        return Err(Error::usage());
    }
    let mut reporter = Reporter {
        out: Vec::new(),
        failures: 0,
        hints: options.verbose,
        starts: matches!(verb, Verb::Do(request) if request.commands.contains(&Command::Up)),
        base: Base::default(),
        supervisors: Supervisors::default(),
        now: tai::now(),
    };
    let patience = options.wait.or_else(patience_of_environment).unwrap_or(PATIENCE);
    let patience = Duration::from_secs(patience);
    let code = match verb {
        Verb::Status if call.is_init_script() => {
            let target = Target::new(call.name, &reporter.base);
            script_status(&target, &mut reporter)
        }
        Verb::Status => {
            for name in names {
                // A failure was reported and counted.
                let _ = status(&Target::new(name, &reporter.base), &mut reporter);
            }
            reporter.failures
        }
        Verb::Health => health::health(names, patience, &mut reporter),
        Verb::Do(request) => {
            let waits = request.waits == Waits::Always || options.verbose || options.wait.is_some();
            client::act(names, &request, waits, patience, &mut reporter);
            reporter.failures
        }
    };
    reporter.flush();
    Ok(code)
}

fn parse(args: &[OsString]) -> Result<Options> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(args);
    parser.set_short_equals(false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('v') => options.verbose = true,
            Short('w') => options.wait = Some(decimal::leading(parser.value()?.as_bytes()).0),
            Short('V') => return Err(multicall::version()),
            // The first operand ends the options.
            Value(word) => {
                options.words.push(word);
                options.words.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn patience_of_environment() -> Option<u64> {
    std::env::var_os("SVWAIT").map(|text| decimal::leading(text.as_bytes()).0)
}

/// Refuses what only the first letter makes a command, since a person who types `enabel` does not mean `exit`.
fn refuse_unknown(word: &[u8]) -> Result<()> {
    let verbs = |applet: &str| {
        let applet = crate::TABLE.iter().find(|known| known.name == applet);
        applet.map_or(&[][..], |applet| applet.verbs).iter().map(|(name, _)| *name)
    };
    if verb::is_known(word, verbs("sv")) {
        return Ok(());
    }
    let is_near = |name: &&str| multicall::is_nearly(word, name.as_bytes());
    let of_sv = verbs("sv").find(is_near).map(|name| ["; did you mean ", name, "?"].concat());
    let of_svctl = || verbs("svctl").find(is_near).map(|name| ["; did you mean svctl ", name, "?"].concat());
    let near = of_sv.or_else(of_svctl).unwrap_or_default();
    Err(Error::Usage(Some(say::printable_text(word) + " is no command" + &near)))
}

/// Reports the status of a service and of its log service.
fn status(target: &Target, reporter: &mut Reporter) -> std::result::Result<svcore::status::Status, Trouble> {
    let view = target.view(&MAIN).inspect_err(|trouble| reporter.trouble(target, trouble))?;
    let line = reporter.status_line(target, &MAIN, &target.name, &view.status, view.facts());
    reporter.out.extend_from_slice(&line);
    log_status(target, reporter);
    reporter.out.push(b'\n');
    Ok(view.status)
}

/// Reports the status of the log service, if there is one, on the same line.
fn log_status(target: &Target, reporter: &mut Reporter) {
    // Most services have none; one look is less than two attempts to open something in it.
    if matches!(target.look(c"log"), Ok(None)) {
        return;
    }
    let trouble = match target.status(&LOG) {
        Ok(status) => {
            let line = reporter.status_line(target, &LOG, b"log", &status, &Facts::default());
            reporter.out.extend_from_slice(b"; ");
            reporter.out.extend_from_slice(&line);
            return;
        }
        Err(trouble) => trouble,
    };
    let name = [target.name.as_slice(), b"/log"].concat();
    let line = match &trouble {
        Trouble::NoDirectory(error) => {
            let what = [name.as_slice(), b": unable to change directory"].concat();
            Message::warning("", &what).because(error).text()
        }
        _ => trouble.line(&name),
    };
    reporter.out.extend_from_slice(b"; ");
    reporter.out.extend_from_slice(&line);
    reporter.fail();
}

/// `status` as an init script. Source: sv(8), and the Linux Standard Base.
fn script_status(target: &Target, reporter: &mut Reporter) -> u8 {
    match status(target, reporter) {
        // The log service does not count here.
        Ok(status) if status.state == State::Down => SCRIPT_DOWN,
        Ok(status) if status.pid.is_some() => 0,
        Err(Trouble::NotRunning | Trouble::NoDirectory(_)) => SCRIPT_UNSERVED,
        Ok(_) | Err(Trouble::Unable(..) | Trouble::BadFormat) => SCRIPT_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words).unwrap()
    }

    #[test]
    fn the_first_operand_ends_the_options() {
        let parsed = options(&["-vw5", "status", "-v", "-w"]);
        assert!(parsed.verbose);
        assert_eq!(
            (parsed.wait, parsed.words),
            (Some(5), ["status", "-v", "-w"].map(OsString::from).to_vec())
        );
        assert_eq!(options(&["-w", "abc", "up"]).wait, Some(0));
        assert_eq!(options(&["-w7x", "up"]).wait, Some(7));
        assert_eq!(options(&["--", "-v"]).words, ["-v"]);
    }
}
