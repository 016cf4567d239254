//! The probable cause of how a service is, from what was found. Without I/O.

use std::path::PathBuf;
use std::time::Duration;

use svcore::Signal;
use svcore::facts::End;
use svcore::listed::Listed;
use svcore::process::Ended;
use svcore::tai::Tai64N;

use crate::svctl::facts::Condition;
use crate::svctl::text;

/// A run shorter than this counts as an end at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// From so many equal ends on they are "again and again".
const MANY: usize = 2;
/// The stamps of a log and the times of ends come from clocks that differ by so much: the time of a file is that of the last
/// tick of the kernel.
const IMPRECISION: Duration = Duration::from_millis(10);

/// How a service is that another one waits for and that does not exist.
pub(super) const MISSING: &str = "does not exist";

/// What mends a lack of memory.
const MORE_MEMORY: &str = "give it more memory, or make it need less";

/// What was found about a service.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Its name as a word of a shell.
    pub(super) name: String,
    pub(super) condition: Option<Condition>,
    pub(super) has_down: bool,
    pub(super) is_wanted_up: bool,
    /// Why it has no supervisor, and what to do.
    pub(super) unserved: Option<String>,
    /// What is wrong with the file `run`.
    pub(super) run: Option<String>,
    /// What is wrong with the file `log/run`.
    pub(super) log_run: Option<String>,
    /// The last ends, the latest first.
    pub(super) ends: Vec<End>,
    /// Whether its supervisor tells of ends.
    pub(super) knows_ends: bool,
    /// Seconds since its state began.
    pub(super) age: Option<u64>,
    pub(super) given_up: Option<String>,
    /// The services it waits for, each with how that is.
    pub(super) waits: Vec<(String, String)>,
    /// The services from this one to itself of which each needs the next one; empty if there is no such circle.
    pub(super) circle: Vec<String>,
    /// Whether it has a log service; a log service has none.
    pub(super) has_log: bool,
    /// How its log service is, if something is wrong with that.
    pub(super) log: Option<Condition>,
    /// The directory of its log, if its disk is full.
    pub(super) full_disk: Option<String>,
    /// A directory that svlogd is given and that does not exist: as it is written, and its path as a word of a shell.
    pub(super) missing_log: Option<(String, String)>,
    /// The name and the number of its supervisor, if that is stopped by a signal.
    pub(super) stopped: Option<(String, i32)>,
    /// The directory of its log.
    pub(super) log_dir: Option<PathBuf>,
    /// The last lines of its log with their times, the latest last.
    pub(super) lines: Vec<(Option<Tai64N>, String)>,
    /// When its log was last written to.
    pub(super) log_written: Option<Tai64N>,
    /// When the process that runs now was started.
    pub(super) runs_since: Option<Tai64N>,
    /// When the last run that ended began, at the earliest, if its supervisor does not tell of ends.
    pub(super) last_run_guess: Option<Tai64N>,
    /// A program in `control/` that runs: its name, its number, and for how many seconds.
    pub(super) hook: Option<(String, i32, u64)>,
    /// The number of its process.
    pub(super) pid: Option<u64>,
    /// How many processes the kernel killed in the control group of its supervisor, for lack of memory.
    pub(super) killed_for_memory: Option<u64>,
    /// At which of its ends its supervisor told that the kernel had killed processes of it, for lack of memory.
    pub(super) out_of_memory: Option<Tai64N>,
    /// The number of its supervisor, if that is known.
    pub(super) supervisor: Option<u64>,
    /// The answer of its `./check`.
    pub(super) check: Check,
}

/// The answer of `./check`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// There is none, or it was not run.
    #[default]
    None,
    Passes,
    Fails,
}

/// A cause, and the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) what: String,
    pub(super) mend: Option<String>,
}

fn cause(what: impl Into<String>, mend: impl Into<String>) -> Option<Cause> {
    let mend: String = mend.into();
    Some(Cause { what: what.into(), mend: (!mend.is_empty()).then_some(mend) })
}

/// The probable cause; `None` if nothing is wrong.
pub(super) fn of(evidence: &Evidence) -> Option<Cause> {
    let name = &evidence.name;
    let condition = evidence.condition?;
    if let Some((name, pid)) = &evidence.stopped {
        return cause(format!("its supervisor is stopped ({name}, pid {pid})"), format!("kill -CONT {pid}"));
    }
    if let Some(cause) = of_hook(evidence) {
        return Some(cause);
    }
    let of_main = match condition {
        Condition::Unsupervised | Condition::Unknown => of_unserved(evidence),
        Condition::Off => cause(
            "it has a file down, and no supervisor",
            evidence.unserved.clone().unwrap_or_else(|| format!("svctl start {name}")),
        ),
        Condition::Down if evidence.has_down => {
            cause("it has a file down, so it is started only on command", format!("svctl start {name}"))
        }
        Condition::Down if last_failed(evidence) => {
            let why = of_ends(evidence).map_or_else(|| "it ended".to_owned(), |cause| cause.what);
            cause(format!("it is not wanted up; {why}"), format!("svctl start {name}"))
        }
        Condition::Down => cause("it was stopped by a command", format!("svctl start {name}")),
        Condition::Waiting => of_waits(evidence),
        Condition::GivenUp => {
            let reason = evidence.given_up.clone().unwrap_or_default();
            let why = of_start(evidence).map_or_else(String::new, |cause| format!("; {}", cause.what));
            let mend = of_start(evidence).and_then(|cause| cause.mend);
            let mend = mend.map_or_else(String::new, |mend| format!("{mend}; then: "));
            cause(format!("it was given up: {reason}{why}"), format!("{mend}svctl reset {name}"))
        }
        Condition::Paused => cause("it was stopped by the signal STOP", format!("svctl kill -s CONT {name}")),
        Condition::Stopping => {
            let verb = if evidence.is_wanted_up { "restart" } else { "stop" };
            cause("it was told to end, and has not yet ended", format!("svctl {verb} --wait-kill {name}"))
        }
        Condition::Finishing => {
            let pid = evidence.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let kill = evidence.pid.map_or_else(String::new, |pid| format!("; kill -KILL {pid}"));
            cause(
                format!("./run has ended, and ./finish{pid} has not yet"),
                format!("look at {name}/finish{kill}"),
            )
        }
        Condition::NotReady => {
            cause("it runs, and has not told that it is ready", format!("svctl log {name}"))
        }
        Condition::Restarting | Condition::Flapping => of_start(evidence),
        Condition::Up if ends_at_once(evidence) => of_start(evidence),
        Condition::Up if evidence.check == Check::Fails => {
            cause("it runs, and its ./check fails", format!("run ./check in the directory of {name}"))
        }
        Condition::Up | Condition::Done => None,
    };
    of_main.or_else(|| of_log(evidence))
}

/// Whether a service is as somebody wanted it, or will soon be, so what explains that is nothing wrong.
pub(super) fn is_as_asked(evidence: &Evidence) -> bool {
    let is_held_up = evidence.stopped.is_some() || evidence.hook.is_some();
    let is_asked = matches!(
        evidence.condition,
        Some(
            Condition::Down
                | Condition::Off
                | Condition::Stopping
                | Condition::Finishing
                | Condition::NotReady
                | Condition::Done
        )
    );
    is_asked && !is_held_up
}

/// A program in `control/` for which the supervisor waits.
fn of_hook(evidence: &Evidence) -> Option<Cause> {
    let (hook, pid, seconds) = evidence.hook.as_ref()?;
    cause(
        format!("{hook} (pid {pid}) runs since {seconds} s, and the supervisor waits for it"),
        format!("look at {hook}; kill {pid}"),
    )
}

/// Parts a reason such as `not enabled: ln -s …` into what is wrong and what to do.
fn with_mend(why: &str) -> Option<(&str, &str)> {
    let at = why.as_bytes().windows(2).position(|part| part == b": ")?;
    Some((why.get(..at)?, why.get(at.saturating_add(2)..)?))
}

/// Why a service has no supervisor.
fn of_unserved(evidence: &Evidence) -> Option<Cause> {
    // What is wrong with the file is told first only where a supervisor could not even be asked for.
    match &evidence.unserved {
        Some(why) => match with_mend(why) {
            // `not enabled: ln -s …` is a cause and what to do.
            Some((what, mend)) => cause(what, mend),
            None => cause(why.clone(), ""),
        },
        None => cause("no supervisor serves it", ""),
    }
}

fn of_waits(evidence: &Evidence) -> Option<Cause> {
    let name = &evidence.name;
    if let Some((missing, _)) = evidence.waits.iter().find(|(_, state)| state == MISSING) {
        let what = format!("it waits for {missing}, which does not exist");
        return cause(what, format!("add a service {missing}, or remove it from {name}/needs"));
    }
    let waits: Vec<String> = evidence.waits.iter().map(|(name, state)| format!("{name} ({state})")).listed();
    let first = evidence.waits.first().map(|(name, _)| format!("svctl why {name}"));
    cause(format!("it waits for {}", waits.join(", ")), first.unwrap_or_default())
}

/// Why a service does not stay up that is wanted up.
fn of_start(evidence: &Evidence) -> Option<Cause> {
    if let Some(why) = &evidence.run {
        return match with_mend(why) {
            Some((what, mend)) => {
                let what = what.strip_suffix("; mend with").unwrap_or(what);
                cause(format!("run cannot be started: {what}"), mend)
            }
            None => cause(format!("run cannot be started: {why}"), mend_of_run(why, &evidence.name)),
        };
    }
    of_missing_log(evidence).filter(|_| !evidence.has_log).or_else(|| of_ends(evidence))
}

/// What mends a file `run` that cannot be started, by what is wrong with it.
fn mend_of_run(why: &str, name: &str) -> String {
    if has(why, "its interpreter ") {
        format!("install the interpreter, or name another one in the first line of {name}/run")
    } else if has(why, "it is a link to ") {
        format!("make what it links to, or replace the link {name}/run")
    } else if has(why, " is a directory") {
        format!("replace the directory {name}/run by a program or a script")
    } else if has(why, "\"#!/bin/sh\" line") {
        format!("sed -i '1i #!/bin/sh' {name}/run, if it is a script")
    } else if has(why, "for another architecture") {
        "install the program for the architecture of this machine".to_owned()
    } else if has(why, "it is missing") || has(why, "it is empty") {
        format!("write a script {name}/run that executes the program")
    } else {
        String::new()
    }
}

/// A log directory that does not exist: then svlogd does not start.
fn of_missing_log(evidence: &Evidence) -> Option<Cause> {
    let (word, path) = evidence.missing_log.as_ref()?;
    cause(format!("svlogd's directory {word} does not exist"), format!("mkdir -p {path}"))
}

/// What the ends, and what was logged before them, tell.
fn of_ends(evidence: &Evidence) -> Option<Cause> {
    let name = &evidence.name;
    let log = format!("svctl log {name}");
    let last_line = last_line(evidence);
    if let Some(line) = lines_of_last_run(evidence).into_iter().rev().find(|line| is_about_port(line)) {
        return cause(
            format!("its port is in use: {line}"),
            "find who has it: ss -ltnp; or choose another port",
        );
    }
    let Some(last) = evidence.ends.first() else {
        if evidence.knows_ends {
            return cause("it has not ended since its supervisor began", log);
        }
        return cause(
            format!("it ends, and is started again; its supervisor does not tell how it ends{last_line}"),
            log,
        );
    };
    let equal = evidence.ends.iter().take_while(|end| end.how == last.how).count();
    let again = if equal >= MANY { " again and again" } else { "" };
    let after = text::uptime(last.uptime);
    let is_killed_for_memory = last.how != Ended::Code(0) && evidence.out_of_memory == Some(last.at);
    match last.how {
        how if is_killed_for_memory => {
            let how = text::ended(how);
            cause(format!("out of memory{again}: the kernel killed it, or a part of it ({how})"), MORE_MEMORY)
        }
        Ended::Code(0) if last.uptime < AT_ONCE => {
            let probably = if equal >= MANY { "probably" } else { "perhaps" };
            cause(
                format!(
                    "it exits with 0 after {after}{again}: the program {probably} goes into the background"
                ),
                "give it the option that keeps it in the foreground",
            )
        }
        Ended::Code(126) => {
            cause(format!("126: a command in run is not executable{last_line}"), "chmod +x on that command")
        }
        Ended::Code(127) => cause(
            format!("127: a command in run was not found{last_line}"),
            "write its full path, or set PATH in run",
        ),
        Ended::Code(100) => {
            cause(format!("it exits with 100{again}: as chpst does for a wrong option{last_line}"), log)
        }
        Ended::Code(111) => cause(
            format!("it exits with 111{again}: as chpst does if it cannot start the program{last_line}"),
            log,
        ),
        Ended::Code(code) => cause(format!("it exits with {code} after {after}{again}{last_line}"), log),
        Ended::Signal { signal, .. } if signal == Signal::KILL => of_kill(evidence, again),
        Ended::Signal { signal, .. } => {
            let signal = text::signal_name(signal);
            cause(format!("the signal {signal} ends it after {after}{again}{last_line}"), log)
        }
    }
}

/// A stamp as a time that can be compared with other such times. Not by functions of tai64, which may panic.
fn time(stamp: &Tai64N) -> Duration {
    Duration::from_secs(stamp.0.0).saturating_add(Duration::from_nanos(stamp.1.into()))
}

/// When the last run that ended began.
fn last_run(evidence: &Evidence) -> Option<Duration> {
    let began = match evidence.ends.first() {
        Some(end) => time(&end.at).saturating_sub(end.uptime),
        None => time(evidence.last_run_guess.as_ref()?),
    };
    Some(began.saturating_sub(IMPRECISION))
}

/// The lines that were written since the last run began. Of lines without a stamp only the last one has a time, that of the
/// file.
fn lines_of_last_run(evidence: &Evidence) -> Vec<&str> {
    let Some(began) = last_run(evidence) else { return Vec::new() };
    let count = evidence.lines.len();
    let is_since = |number: usize, stamp: &Option<Tai64N>| match stamp {
        Some(stamp) => time(stamp) >= began,
        None => {
            number.saturating_add(1) == count
                && evidence.log_written.is_some_and(|written| time(&written) >= began)
        }
    };
    let lines = evidence.lines.iter().enumerate();
    lines.filter(|(number, (stamp, _))| is_since(*number, stamp)).map(|(_, (_, line))| line.as_str()).listed()
}

/// The last line that a run wrote before it ended, in words; empty if it wrote none.
fn last_line(evidence: &Evidence) -> String {
    let Some(began) = last_run(evidence) else { return String::new() };
    let runs_since = evidence.runs_since.as_ref().map(time);
    let is_before_now = |at: Duration| runs_since.is_none_or(|since| at < since);
    let stamped = evidence
        .lines
        .iter()
        .rev()
        .find(|(stamp, _)| stamp.as_ref().map(time).is_some_and(|at| at >= began && is_before_now(at)));
    if let Some((_, line)) = stamped {
        return format!("; its last line: {line}");
    }
    match (evidence.lines.last(), evidence.log_written.as_ref().map(time)) {
        (Some((None, line)), Some(written)) if written >= began => {
            let whose = if is_before_now(written) { "its last line" } else { "the last line of its log" };
            format!("; {whose}: {line}")
        }
        _ => String::new(),
    }
}

fn of_kill(evidence: &Evidence, again: &str) -> Option<Cause> {
    match evidence.killed_for_memory {
        Some(count @ 1..) => cause(
            format!(
                "KILL ends it{again}: out of memory, the kernel killed {count} processes of its control group"
            ),
            MORE_MEMORY,
        ),
        _ => cause(
            format!("KILL ends it{again}: somebody sent it, or the kernel was out of memory"),
            "dmesg | grep -i oom",
        ),
    }
}

fn of_log(evidence: &Evidence) -> Option<Cause> {
    let name = &evidence.name;
    if let Some(dir) = &evidence.full_disk {
        return cause(
            format!("the disk of its log {dir} is full: svlogd waits, and soon the service does"),
            "make room; or let svlogd lose lines: svlogd -L",
        );
    }
    let log = evidence.log?;
    if let Some(missing) = of_missing_log(evidence) {
        return cause(format!("its log service is {}: {}", log.word(), missing.what), missing.mend?);
    }
    let why = match &evidence.log_run {
        Some(why) => format!("; log/run cannot be started: {why}"),
        None => String::new(),
    };
    cause(format!("its log service is {}{why}", log.word()), format!("svctl why {name}/log"))
}

/// Whether a run without a file `state` looks as if the service ends at once.
fn ends_at_once(evidence: &Evidence) -> bool {
    let ends = evidence.ends.iter().take(MANY);
    !evidence.knows_ends && evidence.age.is_some_and(|age| age < 2) && evidence.run.is_some()
        || evidence.ends.len() >= MANY
            && ends.clone().all(|end| end.uptime < AT_ONCE)
            && evidence.age.is_some_and(|age| age < AT_ONCE.as_secs())
}

/// Whether the last end is one that explains why it is down.
fn last_failed(evidence: &Evidence) -> bool {
    let asked = |signal: Signal| signal == Signal::TERM;
    evidence.ends.first().is_some_and(|end| match end.how {
        Ended::Code(code) => code != 0,
        Ended::Signal { signal, .. } => !asked(signal),
    })
}

/// Whether words are in a text. That of the standard library has 900 bytes for each place where it is used.
pub(super) fn has(text: &str, words: &str) -> bool {
    text.as_bytes().windows(words.len()).any(|part| part == words.as_bytes())
}

/// Whether a line of a log tells that an address is in use already.
fn is_about_port(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["address already in use", "address in use", "eaddrinuse", "errno 98", "port is already allocated"]
        .iter()
        .any(|words| has(&line, words))
}

#[cfg(test)]
mod tests {
    use svcore::tai::stamp;

    use super::*;

    fn end(how: Ended, millis: u64) -> End {
        End { at: stamp(1, 0), how, uptime: Duration::from_millis(millis) }
    }

    fn web(condition: Condition) -> Evidence {
        Evidence {
            name: "web".to_owned(),
            condition: Some(condition),
            knows_ends: true,
            ..Evidence::default()
        }
    }

    #[track_caller]
    fn check(evidence: &Evidence, what: &str, mend: &str) {
        let found = of(evidence).unwrap();
        assert_eq!((found.what.as_str(), found.mend.unwrap_or_default().as_str()), (what, mend));
    }

    fn ended(how: Ended) -> Evidence {
        Evidence { ends: vec![end(how, 100); 3], ..web(Condition::Flapping) }
    }

    #[test]
    fn what_is_well_has_no_cause() {
        assert_eq!(of(&web(Condition::Up)), None);
        assert_eq!(of(&web(Condition::Done)), None);
        let young = Evidence { age: Some(0), ..web(Condition::Up) };
        assert_eq!(of(&young), None);
    }

    #[test]
    fn ends_are_explained() {
        check(
            &ended(Ended::Code(0)),
            "it exits with 0 after 0.1s again and again: the program probably goes into the background",
            "give it the option that keeps it in the foreground",
        );
        let once = Evidence { ends: vec![end(Ended::Code(0), 100)], ..web(Condition::Restarting) };
        check(
            &once,
            "it exits with 0 after 0.1s: the program perhaps goes into the background",
            "give it the option that keeps it in the foreground",
        );
        check(
            &ended(Ended::Code(127)),
            "127: a command in run was not found",
            "write its full path, or set PATH in run",
        );
        check(&ended(Ended::Code(3)), "it exits with 3 after 0.1s again and again", "svctl log web");
        let killed = ended(Ended::Signal { signal: Signal::KILL, core: false });
        check(
            &killed,
            "KILL ends it again and again: somebody sent it, or the kernel was out of memory",
            "dmesg | grep -i oom",
        );
        let for_memory = Evidence { killed_for_memory: Some(2), ..killed };
        assert!(of(&for_memory).unwrap().what.contains("out of memory, the kernel killed 2"));
        let of_child = Evidence { out_of_memory: Some(stamp(1, 0)), ..ended(Ended::Code(137)) };
        let what = "out of memory again and again: the kernel killed it, or a part of it (exit 137)";
        check(&of_child, what, MORE_MEMORY);
        // That was at another end.
        let earlier = Evidence { out_of_memory: Some(stamp(0, 0)), ..ended(Ended::Code(3)) };
        check(&earlier, "it exits with 3 after 0.1s again and again", "svctl log web");
    }

    #[test]
    fn only_what_the_last_run_wrote_explains_its_end() {
        // It ran from 0.9 s to 1 s.
        let told = |lines: &[(Option<Tai64N>, &str)], log_written, runs_since| {
            let lines = lines.iter().map(|(stamp, line)| (*stamp, (*line).to_owned())).collect();
            of(&Evidence { lines, log_written, runs_since, ..ended(Ended::Code(1)) }).unwrap().what
        };
        let at = |millis: u32| Some(stamp(0, millis * 1_000_000));
        let port = "bind: Address already in use";
        let in_use = "its port is in use: bind: Address already in use";
        let plain = "it exits with 1 after 0.1s again and again";
        assert_eq!(told(&[(at(950), port), (at(960), "bye")], None, None), in_use);
        assert_eq!(told(&[(at(500), port)], at(500), None), plain);
        assert_eq!(
            told(&[(at(500), port), (at(950), "bye")], None, None),
            format!("{plain}; its last line: bye")
        );
        // Without stamps, the time of the file is that of its last line.
        assert_eq!(told(&[(None, port)], at(950), None), in_use);
        assert_eq!(
            told(&[(None, port), (None, "bye")], at(950), None),
            format!("{plain}; its last line: bye")
        );
        assert_eq!(told(&[(None, port)], at(500), None), plain);
        assert_eq!(told(&[(None, "hello")], None, None), plain);
        // What runs now may have written it.
        let now = Some(stamp(2, 0));
        assert_eq!(told(&[(now, "hello")], now, now), plain);
        assert_eq!(told(&[(None, "hello")], now, now), format!("{plain}; the last line of its log: hello"));
    }

    #[test]
    fn what_keeps_it_from_starting_comes_before_how_it_ended() {
        let run = Some("not executable: chmod +x web/run".to_owned());
        let evidence = Evidence { run, ..ended(Ended::Code(111)) };
        check(&evidence, "run cannot be started: not executable", "chmod +x web/run");
        let hook = Some(("control/u".to_owned(), 7, 9));
        let evidence = Evidence { hook, ..web(Condition::Restarting) };
        check(
            &evidence,
            "control/u (pid 7) runs since 9 s, and the supervisor waits for it",
            "look at control/u; kill 7",
        );
    }

    #[test]
    fn states_that_are_asked_for_are_explained() {
        check(
            &Evidence { has_down: true, ..web(Condition::Down) },
            "it has a file down, so it is started only on command",
            "svctl start web",
        );
        check(&web(Condition::Down), "it was stopped by a command", "svctl start web");
        check(
            &Evidence { waits: vec![("db".to_owned(), "down".to_owned())], ..web(Condition::Waiting) },
            "it waits for db (down)",
            "svctl why db",
        );
        check(
            &Evidence { waits: vec![("db".to_owned(), MISSING.to_owned())], ..web(Condition::Waiting) },
            "it waits for db, which does not exist",
            "add a service db, or remove it from web/needs",
        );
        let given_up = Some("5 ends in 60 s".to_owned());
        let given_up = Evidence { given_up, condition: Some(Condition::GivenUp), ..ended(Ended::Code(3)) };
        check(
            &given_up,
            "it was given up: 5 ends in 60 s; it exits with 3 after 0.1s again and again",
            "svctl log web; then: svctl reset web",
        );
        let unserved = Some("it is not enabled: ln -s /etc/sv/web /service/".to_owned());
        check(
            &Evidence { unserved, ..web(Condition::Unsupervised) },
            "it is not enabled",
            "ln -s /etc/sv/web /service/",
        );
    }

    #[test]
    fn a_log_service_is_a_cause_when_all_else_is_well() {
        let log_run = Some("it is empty".to_owned());
        let evidence = Evidence { log: Some(Condition::Restarting), log_run, ..web(Condition::Up) };
        check(
            &evidence,
            "its log service is restarting; log/run cannot be started: it is empty",
            "svctl why web/log",
        );
        let evidence = Evidence { full_disk: Some("/var/log/web".to_owned()), ..web(Condition::Up) };
        assert!(of(&evidence).unwrap().what.contains("/var/log/web is full"));
    }
}
