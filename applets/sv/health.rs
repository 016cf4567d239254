//! `sv health`: is every service that is wanted up, up and well? Made for container health checks and probes: silent and
//! 0 when all is well, a line for each culprit and 1 when not.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use svcore::status::{State, Status, Want};
use svcore::{Failed, say};

use super::action::{Action, Wait};
use super::service::{LOG, MAIN, Part, Service, Trouble};
use super::waiting::Waiter;
use super::{Teller, report};

/// Exit code when something is not well.
const NOT_WELL: u8 = 1;

/// Looks at the services named, or at all; gives the exit code.
pub(super) fn health(names: &[OsString], patience: Duration, teller: &mut Teller) -> u8 {
    let all;
    let names = if names.is_empty() {
        match list(&teller.base.path) {
            Ok(list) => {
                all = list;
                &all
            }
            Err(error) => {
                let what = [b"unable to read ", teller.base.path.as_bytes()].concat();
                say::err_line(&[Failed::because(error, what).to_string().as_bytes()]);
                return NOT_WELL;
            }
        }
    } else {
        names
    };
    let nothing = Action { bytes: b"", until: b"C", wait: Wait::Always, kill: false };
    let waiter = Waiter::silent(&nothing, patience);
    let mut culprits = Vec::new();
    for name in names {
        let service = Service::new(name, &teller.base);
        if let Some(why) = culprit(&service, &waiter, teller) {
            culprits.extend_from_slice(&why);
            culprits.push(b'\n');
        }
    }
    say::out(&[&culprits]);
    if culprits.is_empty() { 0 } else { NOT_WELL }
}

/// The names in the service directory.
fn list(dir: &OsString) -> std::io::Result<Vec<OsString>> {
    let mut names: Vec<OsString> = std::fs::read_dir(dir)?
        .flatten()
        .filter(|entry| !entry.file_name().as_bytes().starts_with(b".") && entry.path().is_dir())
        .map(|entry| entry.file_name())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// What is wrong with a service, if anything is.
fn culprit(service: &Service, waiter: &Waiter<'_>, teller: &mut Teller) -> Option<Vec<u8>> {
    let status = match service.status(&MAIN) {
        Ok(status) => status,
        Err(trouble) => {
            let may_be_down = service.has_down(&MAIN).is_ok_and(|has_down| has_down);
            return (!may_be_down).then(|| trouble.line(&service.name));
        }
    };
    let is_wanted = status.want == Some(Want::Up);
    if is_wanted && let Some(why) = unwell(service, &MAIN, &service.name, &status, teller) {
        return Some(why);
    }
    let name = [service.name.as_slice(), b"/log"].concat();
    match service.status(&LOG) {
        Ok(status) if status.want == Some(Want::Up) => {
            if let Some(why) = unwell(service, &LOG, &name, &status, teller) {
                return Some(why);
            }
        }
        Err(Trouble::NotRunning | Trouble::BadFormat) => return Some(Trouble::NotRunning.line(&name)),
        // There is no log service, or it is not wanted.
        Ok(_) | Err(_) => {}
    }
    (is_wanted && !waiter.check(service, teller))
        .then(|| [service.name.as_slice(), b": check fails"].concat())
}

/// What is wrong with one that is wanted up.
fn unwell(service: &Service, part: &Part, name: &[u8], status: &Status, teller: &Teller) -> Option<Vec<u8>> {
    let is_up = status.state == State::Run && status.pid.is_some() && !status.paused;
    if !is_up {
        let has_down = service.has_down(part).unwrap_or(false);
        return Some(report::line(name, status, &teller.now, has_down));
    }
    let flaps = service.flaps_until(part).is_some_and(|until| teller.now < until);
    flaps.then(|| [name, b": flapping, ended more than 3 times within 60 s"].concat())
}
