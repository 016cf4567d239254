//! `svctl log`: what the services have logged, as svlogd has written it: old logs, compressed ones too, and `current`.
//!
//! It only reads, and needs no svlogd that runs. Each log is read line by line ([`lines`]), several are merged by the time
//! of their lines ([`merge`]), and with `-f` it waits for more ([`follow`]).

mod buffer;
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
mod services;
mod show;
mod stamp;
mod way;

use std::collections::VecDeque;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::termios::isatty;
use svcore::say::{self, printable_text};
use svcore::sys::{limits, local_time};
use svcore::tai::{self, Tai64N};
use svcore::{Context, Error, Result, decimal, slice};

use super::Asked;
use super::options::{Given, Opt};
use super::screen::Screen;
use super::tree::Tree;
use filter::Filter;
pub(super) use find::Finder;
use find::Found;
use follow::{Changed, Follower};
use lines::Log;
use pattern::Pattern;
use services::Services;
use show::{Form, Printer, Shown};

/// How often to look at what cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// As many lines are shown before those that are followed.
const LINES_BEFORE: u64 = 10;
/// The exit code where a log could not be shown, or not all of it.
const NOT_ALL: u8 = 1;
/// With more logs than this, each has a small buffer, in bytes.
const FEW: usize = 4;
const SMALL: usize = 32 * 1024;
/// A line that is shown beside other facts of a service is cut after this many bytes.
const SHOWN_MAX: usize = 1000;

/// What is asked for.
struct Plan {
    is_followed: bool,
    /// When the command began.
    began: Tai64N,
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
pub(super) fn directory_of(finder: &Finder, service: &Path) -> Option<PathBuf> {
    match finder.find(service) {
        Found::Directory(directory) => Some(directory),
        Found::NotYet { .. } | Found::Elsewhere(_) => None,
    }
}

/// The last lines in a log directory, without their timestamps, and those; the latest last, and none if it cannot be read.
/// Of a longer line than [`SHOWN_MAX`] the rest is left out.
pub(super) fn last_lines(directory: &Path, count: usize) -> Vec<(Option<Tai64N>, Vec<u8>)> {
    let name = directory.as_os_str().as_bytes();
    let Ok(mut log) = Log::open(name, directory, false) else { return Vec::new() };
    log.buffer_size = SMALL;
    log.skip_to_last(u64::try_from(count).unwrap_or(u64::MAX), None);
    let (mut filter, mut last) = (Filter::default(), Vec::new());
    while log.next(&mut filter) {
        let text = log.text();
        let start = slice::part(text, ..text.len().min(SHOWN_MAX));
        let cut: &[u8] = if start.len() < text.len() { b"..." } else { b"" };
        last.push((log.stamp(), [start, cut].concat()));
        // There are a few.
        if last.len() > count {
            last.remove(0);
        }
    }
    last
}

/// Runs the command.
pub(super) fn run(asked: &Asked) -> Result {
    let mut plan = plan(&asked.given)?;
    let tree = Tree::new(&asked.given);
    limits::raise_open_files();
    let (mut services, mut logs) = Services::open(&asked.names, &tree, plan.is_followed)?;
    if services.is_empty() {
        say::err_line(&[b"svctl: ", &say::printable(tree.path().as_os_str().as_bytes()), b": no services"]);
        if !plan.is_followed {
            return Ok(0);
        }
    } else if logs.is_empty() && !services.is_any_awaited() {
        return Ok(NOT_ALL);
    }
    match show(&mut logs, &mut services, &mut plan) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        shown => shown.while_doing(|| "unable to write to standard output")?,
    }
    let has_failed = services.has_failed || logs.iter().any(|log| log.has_failed);
    Ok(if has_failed { NOT_ALL } else { 0 })
}

fn plan(given: &Given) -> Result<Plan> {
    let is_utc = given.has(Opt::Utc);
    let zone = |seconds| if is_utc { 0 } else { local_time::ahead_of_utc(seconds) };
    let mut filter = Filter::default();
    if let Some(text) = given.value(Opt::Since) {
        filter.since = stamp::of_text(text.as_bytes(), tai::now(), &zone);
        if filter.since.is_none() {
            let text = printable_text(text.as_bytes());
            return Err(Error::Usage(Some(format!(
                "--since {text} is no time; one is 10m, 08:20, \"2026-11-20 08:20\" or yesterday"
            ))));
        }
    }
    if let Some(text) = given.value(Opt::Grep) {
        let pattern = Pattern::new(text.as_bytes()).map_err(|why| {
            let (text, why) = (printable_text(text.as_bytes()), printable_text(why.as_bytes()));
            Error::Usage(Some(format!("--grep {text}: {why}")))
        });
        filter.pattern = Some(pattern?);
    }
    let mut last = None;
    if let Some(text) = given.value(Opt::Lines) {
        last = decimal::whole(text.as_bytes()).filter(|_| !text.is_empty());
        if last.is_none() {
            let text = printable_text(text.as_bytes());
            return Err(Error::Usage(Some(format!("-n {text} is no number of lines"))));
        }
    }
    let form = match (given.has(Opt::Raw), given.has(Opt::Json)) {
        (true, true) => return Err(Error::Usage(Some("--raw and --json exclude each other".to_owned()))),
        (true, false) => Form::Raw,
        (false, true) => Form::Json,
        (false, false) => Form::Text,
    };
    let is_followed = given.has(Opt::Follow);
    Ok(Plan {
        is_followed,
        began: tai::now(),
        last: last.or_else(|| (is_followed && filter.since.is_none()).then_some(LINES_BEFORE)),
        filter,
        form,
        is_utc,
        has_colour: Screen::new(given)?.is_coloured,
    })
}

fn show(logs: &mut Vec<Log>, services: &mut Services<'_>, plan: &mut Plan) -> io::Result<()> {
    let mut printer = Printer::new(services.names(), plan.form, plan.has_colour, &local_time::ahead_of_utc);
    printer.is_utc = plan.is_utc;
    printer.escapes = isatty(rustix::stdio::stdout());
    // Watched first: nothing that is written from now on is missed.
    let mut follower = plan.is_followed.then(|| Follower::new(logs));
    limit_buffers(logs, services);
    show_before(logs, plan, None, &mut printer)?;
    printer.flush()?;
    logs.iter_mut().for_each(Log::report_unread);
    let Some(follower) = &mut follower else { return Ok(()) };
    logs.iter_mut().for_each(Log::look);
    let mut changed = Changed { is_everything: true, ..Changed::default() };
    loop {
        if !changed.is_empty() {
            // What a log has is read before another one takes its place.
            merge::drain(logs, &mut plan.filter, &mut |log| printer.print(&shown(log)))?;
        }
        let names_before = services.names().len();
        let mut found = services.look(&changed, follower, logs);
        if services.names().len() > names_before {
            printer.set_names(services.names());
        }
        if !found.is_empty() {
            limit_buffers(&mut found, services);
            // One that takes the place of another begins where that ended.
            let mut goes_on = Vec::new();
            while let Some(at) = found.iter().position(|log| log.after.is_some()) {
                goes_on.push(found.remove(at));
            }
            show_before(&mut found, plan, Some(plan.began), &mut printer)?;
            found.append(&mut goes_on);
            found.iter_mut().for_each(Log::look);
            logs.append(&mut found);
        }
        merge::drain(logs, &mut plan.filter, &mut |log| printer.print(&shown(log)))?;
        printer.flush()?;
        logs.iter_mut().for_each(Log::report_unread);
        let until = services.next_look(logs);
        changed = follower.wait(logs, until)?;
    }
}

fn limit_buffers(logs: &mut [Log], services: &Services<'_>) {
    if services.names().len() > FEW {
        logs.iter_mut().for_each(|log| log.buffer_size = SMALL);
    }
}

/// Prints what is there. Only the last lines of it are wanted, and all that were written from `new` on.
fn show_before(
    logs: &mut [Log],
    plan: &mut Plan,
    new: Option<Tai64N>,
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    if let Some(since) = plan.filter.since {
        logs.iter_mut().for_each(|log| log.skip_to_time(since));
    }
    let Some(last) = plan.last else {
        return merge::drain(logs, &mut plan.filter, &mut |log| printer.print(&shown(log)));
    };
    if plan.filter.pattern.is_none() && plan.filter.since.is_none() {
        logs.iter_mut().for_each(|log| log.skip_to_last(last, new));
    }
    let keep = usize::try_from(last).unwrap_or(usize::MAX);
    let mut kept = VecDeque::new();
    merge::drain(logs, &mut plan.filter, &mut |log| {
        if new.is_some_and(|new| log.time() >= new) {
            print_kept(&mut kept, printer)?;
            return printer.print(&shown(log));
        }
        kept.push_back(Kept {
            service: log.number,
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
    print_kept(&mut kept, printer)
}

fn print_kept(kept: &mut VecDeque<Kept>, printer: &mut Printer<'_>) -> io::Result<()> {
    while let Some(Kept { service, stamp, before_text, raw, is_ended }) = kept.pop_front() {
        let text = raw.get(before_text..).unwrap_or_default();
        printer.print(&Shown { service, stamp, text, raw: &raw, is_ended })?;
    }
    Ok(())
}

fn shown(log: &Log) -> Shown<'_> {
    let service = log.number;
    Shown { service, stamp: log.stamp(), text: log.text(), raw: log.raw(), is_ended: log.is_ended() }
}
