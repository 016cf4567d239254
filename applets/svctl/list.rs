//! `svctl list`: a table of services, those with a problem first.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use svcore::Result;
use svcore::client::Base;
use svcore::listed::Listed;
use svcore::say;
use svcore::tai::{self, seconds_between};

use super::facts::{Condition, Service, Supervising, command_of, full_disk, pid_number};
use super::json::{Object, object};
use super::options::Opt;
use super::processes::{Process, Processes};
use super::screen::Screen;
use super::table::{self, Cell, Style};
use super::text;
use super::tree::{Tree, is_path};
use super::{Asked, NOT_UP, log, watching, why};

/// A service that has its state for a shorter time than this is shown as young, in seconds.
const YOUNG: u64 = 60;
/// The headings of the columns. A column without any text is left out, so `MEMORY` and `CPU` are there with `--tree` only.
const HEADS: [&str; 12] = [
    "SERVICE", "STATE", "SINCE", "PID", "MEMORY", "CPU", "LAST END", "RESTARTS", "READY", "LOG", "ENABLED",
    "COMMAND",
];

/// Runs the command.
pub(super) fn run(asked: &Asked) -> Result {
    let tree = Tree::new(&asked.given);
    if asked.given.has(Opt::Watch) {
        return watch(asked, &tree);
    }
    let screen = Screen::new(&asked.given)?;
    let services = look(asked, &tree)?;
    warn_of_missing(&tree, &services);
    say::out(&[text_of(asked, &tree, &services, &screen).as_bytes()]);
    Ok(exit_code(&services))
}

/// Reports names that no service has: why that is, or which name was probably meant.
fn warn_of_missing(tree: &Tree, services: &[Service]) {
    let base = Base::at(tree.path().into());
    for service in services.iter().filter(|service| !is_path(&service.name) && !tree.has(&service.name)) {
        let why = why::no_such(service, &base).unwrap_or_else(|| "there is no such service".to_owned());
        let what = format!("{}: {why}", text::escaped(service.name.as_bytes()));
        say::Message::warning("svctl", &what).print();
    }
}

/// Prints the table again whenever a service changes.
fn watch(asked: &Asked, tree: &Tree) -> Result {
    let mut last = String::new();
    watching::each_change(&asked.names, tree, &mut |_| {
        let screen = Screen::new(&asked.given)?;
        let text = text_of(asked, tree, &look(asked, tree)?, &screen);
        if text != last {
            let clear = if screen.width.is_some() { "\x1b[H\x1b[2J" } else { "" };
            say::out(&[clear.as_bytes(), text.as_bytes()]);
            last = text;
        }
        Ok(if say::out_error().is_some() { watching::Next::Stop } else { watching::Next::Wait })
    })?;
    Ok(0)
}

fn text_of(asked: &Asked, tree: &Tree, services: &[Service], screen: &Screen) -> String {
    if asked.given.has(Opt::Json) {
        json(asked, tree, services)
    } else {
        shown(asked, tree, services, screen)
    }
}

/// Looks at the services that are asked for, those with a problem first.
fn look(asked: &Asked, tree: &Tree) -> Result<Vec<Service>> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    // The names are in order already.
    for service in services(&tree.selected_or_all(&asked.names)?, tree) {
        if service.has_problem() { first.push(service) } else { rest.push(service) }
    }
    if !asked.given.has(Opt::Failed) {
        first.append(&mut rest);
    }
    Ok(first)
}

/// Looks at the services of these names.
pub(super) fn services(names: &[std::ffi::OsString], tree: &Tree) -> Vec<Service> {
    let base = Base::at(tree.path().into());
    let now = tai::now();
    let mut supervising = Supervising::default();
    let logs = log::Finder::default();
    let look = |name: &std::ffi::OsString| {
        let mut service = Service::look(name, &base, now, &mut supervising);
        if service.log.is_some() && service.main.told.is_ok() {
            let log = log::directory_of(&logs, Path::new(OsStr::from_bytes(&service.path)));
            service.full_log = log.as_deref().and_then(full_disk);
        }
        service
    };
    names.iter().map(look).listed()
}

/// Whether all that is wanted up is up.
fn exit_code(services: &[Service]) -> u8 {
    if services.iter().any(Service::has_problem) { NOT_UP } else { 0 }
}

fn json(asked: &Asked, tree: &Tree, services: &[Service]) -> String {
    let processes = asked.given.has(Opt::Tree).then(Processes::look);
    let mut out = String::new();
    object(&mut out, &mut |object| {
        object.bytes("tree", tree.path().as_os_str().as_bytes());
        object.objects("services", services, |object, service| {
            service.write(object);
            if let Some(processes) = &processes {
                object.objects("processes", below(service, processes), write_process);
            }
        });
    });
    out.push('\n');
    out
}

fn write_process(object: &mut Object<'_>, process: Process) {
    object.number("pid", u64::from(process.pid.unsigned_abs()));
    object.number("depth", u64::try_from(process.depth).unwrap_or(u64::MAX));
    if let Some(memory) = process.memory {
        object.number("memory", memory);
    }
    if let Some(processor) = process.processor {
        object.seconds("processor", std::time::Duration::from_millis(processor));
    }
    object.list("command", &command_of(process.pid));
}

/// The processes of a service, if its process is surely that.
fn below(service: &Service, processes: &Processes) -> Vec<Process> {
    let pid = service.main.status().and_then(|status| status.pid);
    match pid {
        Some(pid) if !service.command.is_empty() => processes.below(pid.as_raw_nonzero().get()),
        _ => Vec::new(),
    }
}

fn shown(asked: &Asked, tree: &Tree, services: &[Service], screen: &Screen) -> String {
    if services.is_empty() {
        let what = if asked.given.has(Opt::Failed) { "no service has a problem" } else { "no services" };
        return format!("{}: {what}\n", text::escaped(tree.path().as_os_str().as_bytes()));
    }
    let processes = asked.given.has(Opt::Tree).then(Processes::look);
    let mut rows = Vec::new();
    for service in services {
        rows.push(row(service));
        if let Some(processes) = &processes {
            for process in &below(service, processes) {
                rows.push(row_of_process(process));
            }
        }
    }
    table::lines(&HEADS, &rows, screen.width, screen.is_coloured)
}

fn row_of_process(process: &Process) -> Vec<Cell> {
    let mut row = HEADS.iter().map(|_| Cell::default()).listed();
    let mut fill = |column: usize, text: String| {
        if let Some(cell) = row.get_mut(column) {
            *cell = Cell { text, style: Style::Faint };
        }
    };
    fill(0, format!("{}\u{2514}", "  ".repeat(process.depth)));
    fill(3, process.pid.to_string());
    fill(4, process.memory.map_or_else(String::new, text::memory));
    let processor = process.processor.map(std::time::Duration::from_millis);
    fill(5, processor.map_or_else(String::new, text::uptime));
    fill(HEADS.len() - 1, text::command_line(&command_of(process.pid)));
    row
}

fn row(service: &Service) -> Vec<Cell> {
    let facts = service.main.facts();
    let plain = |text: Option<String>| Cell::from(text.unwrap_or_default());
    let last_end = facts.and_then(|facts| facts.ends.first()).map(|end| {
        format!("{}, {} ago", text::ended(end.how), text::age(seconds_between(&end.at, &service.now)))
    });
    let ready = service.main.is_ready().map(|ready| if ready { "yes" } else { "no" }.to_owned());
    let pid = service.main.status().and_then(|status| status.pid);
    let log = service.log.as_ref().map_or_else(Cell::default, |log| {
        let word = if service.full_log.is_some() { "disk full" } else { log.condition(&service.now).word() };
        let is_bad = service.full_log.is_some() || service.log_has_problem();
        Cell { text: word.to_owned(), style: if is_bad { Style::Bad } else { Style::Plain } }
    });
    vec![
        Cell::from(text::escaped(service.name.as_bytes())),
        Cell { text: service.in_words(), style: style(service) },
        plain(service.age().map(text::age)),
        plain(pid.map(|pid| pid_number(pid).to_string())),
        Cell::default(),
        Cell::default(),
        plain(last_end),
        plain(service.main.restarts().map(|restarts| restarts.to_string())),
        plain(ready),
        log,
        plain(service.main.has_down.map(|has_down| if has_down { "no" } else { "yes" }.to_owned())),
        Cell { text: text::command_line(&service.command), style: Style::Faint },
    ]
}

/// The colour of a state: by what it is, and by its age.
pub(super) fn style(service: &Service) -> Style {
    match service.condition() {
        _ if service.main.has_problem(&service.now) || service.stopped_supervisor.is_some() => Style::Bad,
        Condition::Up if service.age().is_some_and(|age| age < YOUNG) => Style::Young,
        Condition::NotReady | Condition::Stopping | Condition::Finishing => Style::Young,
        Condition::Up => Style::Good,
        _ => Style::Faint,
    }
}
