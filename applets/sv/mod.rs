//! `sv`: control services and say how they are. Source: sv(8).
//!
//! Commands to many services are sent first, then all are waited for together, by events: `supervise` directories
//! are watched. An answer is never taken from a status that was written before the command was acted upon.

mod action;
mod health;
mod hint;
mod report;
mod service;
mod waiting;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use lexopt::Arg::{Short, Value};
use svcore::say::Message;
use svcore::status::State;
use svcore::tai::{self, Tai64N};
use svcore::{Call, Error, Result, decimal, multicall, say, scan};

use action::{Asked, Wait};
use service::{Base, LOG, MAIN, Part, Service, Trouble};

/// How long is waited where nobody says, in seconds.
const PATIENCE: u64 = 7;
/// The most failures that an exit code tells.
const FAILURES_MAX: u8 = 99;

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

/// What goes out, and what went wrong.
struct Teller {
    /// Lines not yet written.
    out: Vec<u8>,
    failures: u8,
    /// A second line tells what is probably wrong, even if nobody is there to read it.
    hints: bool,
    base: Base,
    /// Who serves directories, for hints.
    supervisors: hint::Supervisors,
    /// When the services were last looked at, by the wall clock.
    now: Tai64N,
}

/// Runs the applet; gives the number of services that failed.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let options = parse(call.args)?;
    let (word, names) = options.words.split_first().ok_or_else(Error::usage)?;
    let script = [call.name.to_owned()];
    let names = if call.is_init_script() { &script } else { names };
    let asked = action::asked(word.as_bytes(), call.is_init_script()).ok_or_else(Error::usage)?;
    if names.is_empty() && asked != Asked::Health {
        return Err(Error::usage());
    }
    let base = Base::new(scan::directory_to_control());
    let mut teller = Teller {
        out: Vec::new(),
        failures: 0,
        hints: options.verbose,
        base,
        supervisors: hint::Supervisors::default(),
        now: tai::now(),
    };
    let patience = options.wait.or_else(patience_of_environment).unwrap_or(PATIENCE);
    let patience = Duration::from_secs(patience);
    let code = match asked {
        Asked::Status if call.is_init_script() => {
            let service = Service::new(call.name, &teller.base);
            script_status(&service, &mut teller)
        }
        Asked::Status => {
            for name in names {
                // What is wrong was said and counted.
                let _ = status(&Service::new(name, &teller.base), &mut teller);
            }
            teller.failures
        }
        Asked::Health => health::health(names, patience, &mut teller),
        Asked::Do(action) => {
            let waits = action.wait == Wait::Always || options.verbose || options.wait.is_some();
            waiting::act(names, &action, waits, patience, &mut teller);
            teller.failures
        }
    };
    teller.flush();
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

/// Says how a service and its log service are.
fn status(service: &Service, teller: &mut Teller) -> std::result::Result<svcore::status::Status, Trouble> {
    let status = service.status(&MAIN).inspect_err(|trouble| teller.trouble(service, trouble, b""))?;
    let line = teller.status_line(service, &MAIN, &service.name, &status);
    teller.out.extend_from_slice(&line);
    log_status(service, teller);
    teller.out.push(b'\n');
    Ok(status)
}

/// Says how the log service is, if there is one, after what was said of the service.
fn log_status(service: &Service, teller: &mut Teller) {
    // Most services have none; one look is less than two attempts to open something in it.
    if matches!(service.look(c"log"), Ok(None)) {
        return;
    }
    let trouble = match service.status(&LOG) {
        Ok(status) => {
            let line = teller.status_line(service, &LOG, b"log", &status);
            teller.out.extend_from_slice(b"; ");
            teller.out.extend_from_slice(&line);
            return;
        }
        Err(trouble) => trouble,
    };
    let name = [service.name.as_slice(), b"/log"].concat();
    let line = match &trouble {
        Trouble::NoDirectory(error) => {
            let what = [name.as_slice(), b": unable to change directory"].concat();
            Message::warning("", &what).because(error).text()
        }
        _ => trouble.line(&name),
    };
    teller.out.extend_from_slice(b"; ");
    teller.out.extend_from_slice(&line);
    teller.fail();
}

/// `status` as an init script. Source: sv(8), and the Linux Standard Base.
fn script_status(service: &Service, teller: &mut Teller) -> u8 {
    let said = status(service, teller);
    match said {
        // The log service does not count here.
        Ok(status) if status.state == State::Down => SCRIPT_DOWN,
        Ok(status) if status.pid.is_some() => 0,
        Err(Trouble::NotRunning | Trouble::NoDirectory(_)) => SCRIPT_UNSERVED,
        Ok(_) | Err(Trouble::Unable(..) | Trouble::BadFormat) => SCRIPT_UNKNOWN,
    }
}

impl Teller {
    /// Notes a failure.
    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1).min(FAILURES_MAX);
    }

    /// Says why a service cannot be used, with `before` in front.
    fn trouble(&mut self, service: &Service, trouble: &Trouble, before: &[u8]) {
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(&trouble.line(&service.name));
        self.out.push(b'\n');
        self.fail();
        if (self.hints || rustix::termios::isatty(rustix::stdio::stderr()))
            && let Some(hint) = hint::hint(service, &self.base.path, trouble, &mut self.supervisors)
        {
            self.flush();
            say::err_line(&[b"  ", hint.as_bytes()]);
        }
    }

    /// How `service` is, or nothing if it cannot be told whether it is to be down.
    fn status_line(
        &mut self,
        service: &Service,
        part: &Part,
        name: &[u8],
        status: &svcore::status::Status,
    ) -> Vec<u8> {
        match service.has_down(part) {
            Ok(has_down) => report::line(name, status, &self.now, has_down),
            Err(error) => {
                let what = [b"unable to stat ", service.name.as_slice(), b"/", part.down.to_bytes()].concat();
                Message::warning("", &what).because(&error).print();
                self.fail();
                Vec::new()
            }
        }
    }

    /// Writes what was said so far.
    fn flush(&mut self) {
        if !self.out.is_empty() {
            say::out(&[&self.out]);
            self.out.clear();
        }
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
