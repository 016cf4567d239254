//! `svctl log`: what the services have logged, as svlogd has written it: old logs, compressed ones too, and `current`.
//!
//! It only reads, and needs no svlogd that runs. Each log is read line by line ([`lines`]), several are merged by the time
//! of their lines ([`merge`]), and with `-f` it waits for more ([`follow`]).

mod content;
mod directory;
mod filter;
mod find;
mod follow;
#[cfg(feature = "gzip")]
mod inflate;
mod lines;
mod merge;
mod pattern;
mod seek;
mod show;
mod stamp;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::termios::isatty;
use svcore::say::{Message, printable_text};
use svcore::sys::{limits, local_time};
use svcore::tai::{self, Tai64N};
use svcore::{Context, Error, Result, decimal};

use super::Asked;
use super::options::{Given, Opt};
use super::screen::Screen;
use super::tree::{self, Tree};
use filter::Filter;
use find::{Finder, Found};
use follow::Follower;
use lines::Log;
use pattern::Pattern;
use show::{Form, Printer, Shown};

/// As many lines are shown before those that are followed.
const LINES_BEFORE: u64 = 10;
/// The exit code where a log could not be shown, or not all of it.
const NOT_ALL: u8 = 1;
/// With more logs than this, each has a small buffer, in bytes.
const FEW: usize = 4;
const SMALL: usize = 32 * 1024;

/// What is asked for.
struct Plan {
    is_followed: bool,
    /// Only so many lines from the end.
    last: Option<u64>,
    filter: Filter,
    form: Form,
    is_utc: bool,
    has_colour: bool,
}

/// A line that is kept until it is known whether it is one of the last.
struct Kept {
    service: usize,
    stamp: Option<Tai64N>,
    /// How many bytes at its beginning are the timestamp.
    before_text: usize,
    raw: Vec<u8>,
    is_ended: bool,
}

/// The log directory of a service by the path of its directory, if it has one.
pub(super) fn directory_of(service: &Path) -> Option<PathBuf> {
    match Finder::default().find(service) {
        Found::Directory(directory) => Some(directory),
        Found::Elsewhere(_) => None,
    }
}

/// The last lines in a log directory, without their timestamps, and those; the latest last, and none if it cannot be read.
pub(super) fn last_lines(directory: &Path, count: usize) -> Vec<(Option<Tai64N>, Vec<u8>)> {
    let name = directory.as_os_str().as_bytes();
    let Ok(mut log) = Log::open(name, directory, false) else { return Vec::new() };
    log.buffer_size = SMALL;
    log.skip_to_last(u64::try_from(count).unwrap_or(u64::MAX));
    let (mut filter, mut last) = (Filter::default(), VecDeque::new());
    while log.next(&mut filter) {
        if last.len() >= count {
            last.pop_front();
        }
        last.push_back((log.stamp(), log.text().to_vec()));
    }
    last.into()
}

/// Runs the command.
pub(super) fn run(asked: &Asked) -> Result {
    let mut plan = plan(&asked.given)?;
    let tree = Tree::new(&asked.given);
    let names = tree.selected_or_all(&asked.names)?;
    limits::raise_open_files();
    let (mut logs, mut has_failed) = open(&names, &tree, !asked.names.is_empty(), plan.is_followed);
    if logs.is_empty() {
        return Ok(NOT_ALL);
    }
    if logs.len() > FEW {
        logs.iter_mut().for_each(|log| log.buffer_size = SMALL);
    }
    match show(&mut logs, &mut plan) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        shown => shown.while_doing(|| "unable to write to standard output")?,
    }
    has_failed |= logs.iter().any(|log| log.has_failed);
    Ok(if has_failed { NOT_ALL } else { 0 })
}

fn plan(given: &Given) -> Result<Plan> {
    let is_utc = given.has(Opt::Utc);
    let zone = |seconds| if is_utc { 0 } else { local_time::ahead_of_utc(seconds) };
    let since = given.value(Opt::Since).map(|text| {
        stamp::of_text(text.as_bytes(), tai::now(), &zone).ok_or_else(|| {
            let text = printable_text(text.as_bytes());
            Error::Usage(Some(format!(
                "--since {text} is no time; one is 10m, 08:20, \"2026-11-20 08:20\" or yesterday"
            )))
        })
    });
    let pattern = given.value(Opt::Grep).map(|text| {
        Pattern::new(text.as_bytes()).map_err(|why| {
            Error::Usage(Some(format!(
                "--grep {}: {}",
                printable_text(text.as_bytes()),
                printable_text(why.as_bytes())
            )))
        })
    });
    let last = given.value(Opt::Lines).map(|text| {
        decimal::whole(text.as_bytes()).filter(|_| !text.is_empty()).ok_or_else(|| {
            Error::Usage(Some(format!("-n {} is no number of lines", printable_text(text.as_bytes()))))
        })
    });
    let form = match (given.has(Opt::Raw), given.has(Opt::Json)) {
        (true, true) => return Err(Error::Usage(Some("--raw and --json exclude each other".to_owned()))),
        (true, false) => Form::Raw,
        (false, true) => Form::Json,
        (false, false) => Form::Text,
    };
    let (since, last) = (since.transpose()?, last.transpose()?);
    let is_followed = given.has(Opt::Follow);
    Ok(Plan {
        is_followed,
        last: last.or_else(|| (is_followed && since.is_none()).then_some(LINES_BEFORE)),
        filter: Filter { since, pattern: pattern.transpose()? },
        form,
        is_utc,
        has_colour: Screen::new(given)?.is_coloured,
    })
}

/// Opens the logs of services, and reports those that have none. Of services that nobody has named these are only reported if
/// no other has a log. Returns whether a log is missing.
fn open(names: &[OsString], tree: &Tree, are_named: bool, is_followed: bool) -> (Vec<Log>, bool) {
    let finder = Finder::default();
    let (mut logs, mut without, mut has_failed) = (Vec::new(), Vec::new(), false);
    for name in names {
        let service = service_of(name, tree);
        let shown = shown_name(name);
        let directory = match finder.find(&service) {
            Found::Directory(directory) => directory,
            Found::Elsewhere(why) => {
                without.push((shown, why));
                continue;
            }
        };
        match Log::open(shown.as_bytes(), &directory, is_followed) {
            Ok(log) => logs.push(log),
            Err(error) => {
                has_failed = true;
                let what =
                    [shown.as_bytes(), b": unable to read ", directory.as_os_str().as_bytes()].concat();
                Message::warning("svctl", &what).because(&error).print();
            }
        }
    }
    if are_named || logs.is_empty() {
        has_failed |= !without.is_empty();
        for (name, why) in without {
            Message::warning("svctl", &[name.as_bytes(), b": ", why.as_bytes()].concat()).print();
        }
    }
    (logs, has_failed)
}

/// The directory of the service that a word means; `web/log` means the log of `web`, too.
fn service_of(name: &OsStr, tree: &Tree) -> PathBuf {
    let path = if tree::is_path(name) { Path::new(name).to_owned() } else { tree.path().join(name) };
    match path.parent() {
        Some(parent) if path.ends_with("log") && parent.join("run").exists() => parent.to_owned(),
        _ => path,
    }
}

/// How the service is called: as typed, but without what only says where it is.
fn shown_name(name: &OsStr) -> &OsStr {
    match Path::new(name).file_name() {
        Some(last) if tree::is_path(name) => last,
        _ => name,
    }
}

fn show(logs: &mut [Log], plan: &mut Plan) -> io::Result<()> {
    let names: Vec<Vec<u8>> = logs.iter().map(|log| log.name.clone()).collect();
    let mut printer = Printer::new(&names, plan.form, plan.has_colour, &local_time::ahead_of_utc);
    printer.is_utc = plan.is_utc;
    printer.escapes = isatty(rustix::stdio::stdout());
    // Watched first: nothing that is written from now on is missed.
    let mut follower = plan.is_followed.then(|| Follower::new(logs));
    show_before(logs, plan, &mut printer)?;
    printer.flush()?;
    logs.iter_mut().for_each(Log::report_unreadable);
    let Some(follower) = &mut follower else { return Ok(()) };
    logs.iter_mut().for_each(Log::look);
    loop {
        merge::drain(logs, &mut plan.filter, &mut |service, log| printer.print(&shown(service, log)))?;
        printer.flush()?;
        logs.iter_mut().for_each(Log::report_unreadable);
        follower.wait(logs)?;
    }
}

/// Prints what is there.
fn show_before(logs: &mut [Log], plan: &mut Plan, printer: &mut Printer<'_>) -> io::Result<()> {
    if let Some(since) = plan.filter.since {
        logs.iter_mut().for_each(|log| log.skip_to_time(since));
    }
    let Some(last) = plan.last else {
        return merge::drain(logs, &mut plan.filter, &mut |service, log| printer.print(&shown(service, log)));
    };
    if plan.filter.pattern.is_none() && plan.filter.since.is_none() {
        logs.iter_mut().for_each(|log| log.skip_to_last(last));
    }
    let keep = usize::try_from(last).unwrap_or(usize::MAX);
    let mut kept = VecDeque::new();
    merge::drain(logs, &mut plan.filter, &mut |service, log| {
        kept.push_back(Kept {
            service,
            stamp: log.stamp(),
            before_text: log.raw().len().saturating_sub(log.text().len()),
            raw: log.raw().to_vec(),
            is_ended: log.is_ended(),
        });
        if kept.len() > keep {
            kept.pop_front();
        }
        Ok(())
    })?;
    for Kept { service, stamp, before_text, raw, is_ended } in &kept {
        let text = raw.get(*before_text..).unwrap_or_default();
        let (service, stamp, is_ended) = (*service, *stamp, *is_ended);
        printer.print(&Shown { service, stamp, text, raw, is_ended })?;
    }
    Ok(())
}

fn shown(service: usize, log: &Log) -> Shown<'_> {
    Shown { service, stamp: log.stamp(), text: log.text(), raw: log.raw(), is_ended: log.is_ended() }
}
