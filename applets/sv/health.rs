//! `sv health`, for health checks and probes of containers: whether each service that is wanted up is up and well. If so it
//! prints nothing and the exit code is 0; otherwise it prints a line for each problem, and the code is 1.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use svcore::client::{Checker, LOG, MAIN, Part, Target, Trouble, View, end_of};
use svcore::facts::Readiness;
use svcore::moment::Moment;
use svcore::sort::sort;
use svcore::status::{State, Want};
use svcore::{Failed, say};

use super::report;
use super::reporter::Reporter;

/// The exit code if there is a problem.
const NOT_WELL: u8 = 1;

/// Checks the named services, or all if none is named. Returns the exit code.
pub(super) fn health(names: &[OsString], patience: Duration, reporter: &mut Reporter) -> u8 {
    let all;
    let names = if names.is_empty() {
        match list(reporter.base.path()) {
            Ok(list) if list.is_empty() => {
                say::out(&[&say::printable(reporter.base.path().as_bytes()), b": no services\n"]);
                return NOT_WELL;
            }
            Ok(list) => {
                all = list;
                &all
            }
            Err(error) => {
                let what = [b"unable to read ", reporter.base.path().as_bytes()].concat();
                say::err_line(&[Failed::because(error, what).to_string().as_bytes()]);
                return NOT_WELL;
            }
        }
    } else {
        names
    };
    let checker = Checker::silent();
    let until = end_of(patience);
    let mut problems = Vec::new();
    for name in names {
        let target = Target::new(name, &reporter.base);
        if let Some(why) = problem(&target, &checker, until, reporter) {
            problems.extend_from_slice(&why);
            problems.push(b'\n');
        }
    }
    say::out(&[&problems]);
    if problems.is_empty() { 0 } else { NOT_WELL }
}

/// The names in the service directory, in order.
fn list(dir: &OsString) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        // With an error a service may be missing in the list, so this is no sign of health.
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(b".") && entry.path().is_dir() {
            names.push(entry.file_name());
        }
    }
    sort(&mut names);
    Ok(names)
}

/// The problem of a service and its log service, if there is one.
fn problem(target: &Target, checker: &Checker, until: Moment, reporter: &mut Reporter) -> Option<Vec<u8>> {
    let view = match target.view(&MAIN) {
        Ok(view) => view,
        Err(trouble) => {
            let may_be_down = target.has_down(&MAIN).is_ok_and(|has_down| has_down);
            return (!may_be_down).then(|| trouble.line(&target.name));
        }
    };
    let is_wanted = view.status.want == Some(Want::Up);
    if is_wanted && let Some(why) = unwell(target, &MAIN, &target.name, &view, reporter) {
        return Some(why);
    }
    let name = [target.name.as_slice(), b"/log"].concat();
    match target.view(&LOG) {
        Ok(view) if view.status.want == Some(Want::Up) => {
            if let Some(why) = unwell(target, &LOG, &name, &view, reporter) {
                return Some(why);
            }
        }
        Err(Trouble::NotRunning | Trouble::BadFormat) => return Some(Trouble::NotRunning.line(&name)),
        // There is no log service, or it is not wanted up.
        Ok(_) | Err(_) => {}
    }
    (is_wanted && !checker.agrees(target, until, reporter))
        .then(|| [target.name.as_slice(), b": check fails"].concat())
}

/// The problem of a service or log service that is wanted up, without regard to its `./check`.
fn unwell(target: &Target, part: &Part, name: &[u8], view: &View, reporter: &Reporter) -> Option<Vec<u8>> {
    let (status, facts) = (&view.status, view.facts());
    let is_ready = facts.readiness != Some(Readiness::NotReady);
    let is_up = status.state == State::Run && status.pid.is_some() && !status.paused && is_ready;
    if !is_up {
        let has_down = target.has_down(part).unwrap_or(false);
        return Some(report::line(name, status, facts, &reporter.now, has_down));
    }
    let flaps = view.flaps_until().is_some_and(|until| reporter.now < until);
    flaps.then(|| [name, b": flapping, ended more than 3 times within 60 s"].concat())
}
