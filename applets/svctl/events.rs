//! `svctl events`: a line for each change of state, as it happens.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use rustix::process::Pid;
use svcore::Result;
use svcore::facts::End;
use svcore::say;
use svcore::tai::Tai64N;

use super::facts::{Condition, Service, pid_number};
use super::json::object;
use super::map::Map;
use super::options::Opt;
use super::screen::Screen;
use super::tree::Tree;
use super::{Asked, list, text, watching};

/// What makes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    words: String,
    pid: Option<Pid>,
    since: Option<Tai64N>,
    last_end: Option<End>,
    log: Option<Condition>,
}

impl Seen {
    fn of(service: &Service) -> Self {
        let status = service.main.status();
        Seen {
            words: service.in_words(),
            pid: status.and_then(|status| status.pid),
            since: status.map(|status| status.since),
            last_end: service.main.facts().and_then(|facts| facts.ends.first().copied()),
            log: service.log.as_ref().map(|log| log.condition(&service.now)),
        }
    }

    /// Whether the supervisor has replaced only one of its files: the end of a process is told, and the status is still the one
    /// from before. The other file follows at once, and is a change of its own.
    fn is_half(&self) -> bool {
        let end = self.last_end.as_ref().map(|end| end.at);
        self.pid.is_some() && self.words != Condition::Finishing.word() && end > self.since
    }
}

/// Runs the command. It ends by a signal, or if nobody can read what it prints.
pub(super) fn run(asked: &Asked) -> Result {
    let tree = Tree::new(&asked.given);
    let screen = Screen::new(&asked.given)?;
    let mut known: Map<OsString, Seen> = Map::default();
    let mut is_first = true;
    watching::each_change(&asked.names, &tree, &mut |names| {
        let mut out = String::new();
        for service in &list::services(names, &tree) {
            let seen = Seen::of(service);
            if seen.is_half() {
                continue;
            }
            let before = known.get(&service.name);
            if !is_first && before != Some(&seen) {
                if asked.given.has(Opt::Json) {
                    write_json(service, &mut out);
                } else {
                    out += &line(service, &seen, before, &screen);
                }
            }
            known.set(service.name.clone(), seen);
        }
        is_first = false;
        say::out(&[out.as_bytes()]);
        Ok(if say::out_error().is_some() { watching::Next::Stop } else { watching::Next::Wait })
    })?;
    Ok(0)
}

fn write_json(service: &Service, out: &mut String) {
    object(out, &mut |object| {
        object.text("at", &text::time(&service.now));
        object.object("service", &mut |object| service.write(object));
    });
    out.push('\n');
}

fn line(service: &Service, seen: &Seen, before: Option<&Seen>, screen: &Screen) -> String {
    let mut line = format!("{}  {}  ", text::clock(&service.now), text::escaped(service.name.as_bytes()));
    line += &list::style(service).paint(&seen.words, screen.is_coloured);
    if let Some(pid) = seen.pid {
        line += &format!(", pid {}", pid_number(pid));
    }
    if let Some(end) = &seen.last_end
        && before.is_some_and(|before| before.last_end != seen.last_end)
    {
        line += &format!("; {} after {}", text::ended(end.how), text::uptime(end.uptime));
    }
    if let Some(log) = seen.log
        && before.is_none_or(|before| before.log != seen.log)
    {
        line += &format!("; log service {}", log.word());
    }
    line.push('\n');
    line
}
