//! The probable cause of how a service is, from what was found. Without I/O.

use std::path::PathBuf;
use std::time::Duration;

use svcore::Signal;
use svcore::client::CheckFailure;
use svcore::facts::End;
use svcore::hint::quoted;
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
const MORE_MEMORY: &str = "; give it more memory, or make it need less";
/// How a command begins that mends something. What begins otherwise is for people.
const COMMANDS: [&str; 5] = ["svctl ", "ln ", "chmod ", "kill ", "sed "];

/// What was found about a service.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Its name as a word of a shell.
    pub(super) name: String,
    pub(super) condition: Option<Condition>,
    pub(super) has_down: bool,
    pub(super) is_wanted_up: bool,
    /// It is the log service of another one.
    pub(super) is_log: bool,
    /// It runs, and was told to end so many seconds ago, and `control/t` was run instead of sending TERM.
    pub(super) told_to_end: Option<u64>,
    /// It runs, and is not started again when it ends.
    pub(super) runs_once: bool,
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
    /// Its directory as a word of a shell.
    pub(super) directory: String,
}

/// The answer of `./check`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Check {
    /// There is none, or it was not run.
    #[default]
    None,
    Passes,
    /// How, if it was run.
    Fails(Option<CheckFailure>),
    /// It cannot be run, and why.
    Unusable(String),
}

impl Check {
    /// How it fails, in words; `None` if it does not.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Check::None | Check::Passes => None,
            Check::Fails(None) => Some("fails".to_owned()),
            Check::Fails(Some(CheckFailure::Exited(code))) => Some(format!("fails: it exits with {code}")),
            Check::Fails(Some(CheckFailure::Signaled(number))) => {
                Some(format!("fails: the signal {number} ends it"))
            }
            Check::Fails(Some(CheckFailure::Late)) => Some("fails: it does not end in time".to_owned()),
            Check::Unusable(why) => Some(format!("cannot be run: {why}")),
        }
    }
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
        Condition::Off => {
            let mend = of_unserved(evidence)?;
            cause(format!("it has a file down, and {}", mend.what), mend.mend.unwrap_or_default())
        }
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
            let mend = mend.map_or_else(String::new, |mend| format!("{mend}; "));
            cause(format!("it was given up: {reason}{why}"), format!("{mend}svctl reset {name}"))
        }
        Condition::Paused => cause("it was stopped by the signal STOP", format!("svctl kill -s CONT {name}")),
        Condition::Stopping => {
            let verb = if evidence.is_wanted_up { "restart" } else { "stop" };
            cause("it was told to end, and has not yet ended", format!("svctl {verb} --wait-kill {name}"))
        }
        Condition::Finishing => {
            let pid = evidence.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let kill = evidence.pid.map_or_else(String::new, |pid| format!("kill -KILL {pid}"));
            cause(format!("./run has ended, and ./finish{pid} has not yet"), kill)
        }
        Condition::NotReady => {
            cause("it runs, and has not told that it is ready", format!("svctl log {name}"))
        }
        Condition::Restarting | Condition::Flapping => of_start(evidence),
        Condition::Up if ends_at_once(evidence) => of_start(evidence),
        Condition::Up => of_told_to_end(evidence).or_else(|| of_check(evidence)),
        Condition::Done => None,
    };
    of_main.or_else(|| of_log(evidence)).or_else(|| {
        let what = "it is to run once, so it is not started again when it ends";
        cause(what, format!("svctl start {name}")).filter(|_| evidence.runs_once)
    })
}

/// Why a service still runs that is wanted down.
fn of_told_to_end(evidence: &Evidence) -> Option<Cause> {
    let seconds = evidence.told_to_end?;
    cause(
        format!(
            "it was told to end {seconds} s ago and still runs: control/t was run instead of sending TERM"
        ),
        format!("svctl stop --wait-kill {}", evidence.name),
    )
}

fn of_check(evidence: &Evidence) -> Option<Cause> {
    if let Check::Unusable(why) = &evidence.check {
        let (what, mend) = with_mend(why);
        return cause(format!("its ./check cannot be run, so it counts as passing: {what}"), mend);
    }
    let fails = evidence.check.failure()?;
    let run = by_hand(evidence, "./check >&-");
    cause(format!("it runs, and its ./check {fails}"), run)
}

/// What a person can type to run a program of a service.
fn by_hand(evidence: &Evidence, program: &str) -> String {
    format!("(cd {} && {program}; echo $?)", evidence.directory)
}

/// A name as the last word of an `svctl` command.
pub(super) fn word(name: &[u8]) -> String {
    let dashes = if name.starts_with(b"-") { "-- " } else { "" };
    format!("{dashes}{}", quoted(name))
}

/// Whether a service is as somebody wanted it, or will soon be, so what explains that is nothing wrong.
pub(super) fn is_as_asked(evidence: &Evidence) -> bool {
    let is_held_up = evidence.stopped.is_some() || evidence.hook.is_some();
    let is_asked = match evidence.condition {
        Some(Condition::Up) => evidence.runs_once && evidence.check.failure().is_none(),
        Some(
            Condition::Down
            | Condition::Off
            | Condition::Stopping
            | Condition::Finishing
            | Condition::NotReady
            | Condition::Done,
        ) => true,
        _ => false,
    };
    is_asked && !is_held_up
}

/// A program in `control/` for which the supervisor waits.
fn of_hook(evidence: &Evidence) -> Option<Cause> {
    let (hook, pid, seconds) = evidence.hook.as_ref()?;
    cause(
        format!("{hook} (pid {pid}) runs since {seconds} s, and the supervisor waits for it"),
        format!("kill {pid}"),
    )
}

/// Parts a reason such as `not enabled: ln -s …` into what is wrong and the command that mends it, which may be empty.
fn with_mend(why: &str) -> (&str, &str) {
    let parts = || {
        let at = why.as_bytes().windows(2).position(|part| part == b": ")?;
        Some((why.get(..at)?, why.get(at.saturating_add(2)..)?))
    };
    let is_command = |mend: &str| COMMANDS.iter().any(|command| mend.starts_with(command));
    parts().filter(|(_, mend)| is_command(mend)).unwrap_or((why, ""))
}

/// Why a service has no supervisor.
fn of_unserved(evidence: &Evidence) -> Option<Cause> {
    // What is wrong with the file is told first only where a supervisor could not even be asked for.
    let (what, mend) = with_mend(evidence.unserved.as_deref().unwrap_or("no supervisor serves it"));
    cause(what, mend)
}

fn of_waits(evidence: &Evidence) -> Option<Cause> {
    if let Some((missing, _)) = evidence.waits.iter().find(|(_, state)| state == MISSING) {
        let needs = format!("{}/needs", evidence.directory);
        return cause(format!("it waits for {missing}, which does not exist, by the file {needs}"), "");
    }
    let waits: Vec<String> = evidence.waits.iter().map(|(name, state)| format!("{name} ({state})")).listed();
    let first = evidence.waits.first().map(|(name, _)| format!("svctl why {}", word(name.as_bytes())));
    cause(format!("it waits for {}", waits.join(", ")), first.unwrap_or_default())
}

/// Why a service does not stay up that is wanted up.
fn of_start(evidence: &Evidence) -> Option<Cause> {
    if let Some(why) = &evidence.run {
        let (what, mend) = with_mend(why);
        let what = what.strip_suffix("; mend with").unwrap_or(what);
        let (advice, mend) = if has(why, "\"#!/bin/sh\" line") {
            ("; if it is a script, add one", format!("sed -i '1i #!/bin/sh' {}/run", evidence.directory))
        } else if has(why, "it is missing") || has(why, "it is empty") {
            ("; write a script that executes the program", String::new())
        } else {
            ("", mend.to_owned())
        };
        return cause(format!("run cannot be started: {what}{advice}"), mend);
    }
    of_missing_log(evidence).filter(|_| !evidence.has_log).or_else(|| of_ends(evidence))
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
        return cause(format!("its port is in use: {line}"), "ss -ltnp");
    }
    let Some(last) = evidence.ends.first() else {
        if evidence.knows_ends {
            return cause("it has not ended since its supervisor began", log);
        }
        let (advice, mend) = if evidence.is_log {
            (": run it by hand", by_hand(evidence, "./run </dev/null"))
        } else {
            ("", log)
        };
        let what = "it ends, and is started again; how it ends is not recorded";
        return cause(format!("{what}{advice}{last_line}"), mend);
    };
    let equal = evidence.ends.iter().take_while(|end| end.how == last.how).count();
    let again = if equal >= MANY { " again and again" } else { "" };
    let after = text::uptime(last.uptime);
    let is_killed_for_memory = last.how != Ended::Code(0) && evidence.out_of_memory == Some(last.at);
    match last.how {
        how if is_killed_for_memory => {
            let how = text::ended(how);
            let what = format!("out of memory{again}: the kernel killed it, or a part of it ({how})");
            cause(what + MORE_MEMORY, "")
        }
        Ended::Code(0) if last.uptime < AT_ONCE => {
            let probably = if equal >= MANY { "probably" } else { "perhaps" };
            cause(
                format!(
                    "it exits with 0 after {after}{again}: the program {probably} goes into the background; \
                     give it the option that keeps it in the foreground"
                ),
                "",
            )
        }
        Ended::Code(126) => cause(format!("126: a command in run is not executable{last_line}"), log),
        Ended::Code(127) => {
            cause(format!("127: a command in run was not found; check its path, or PATH{last_line}"), log)
        }
        Ended::Code(100) => {
            cause(format!("it exits with 100{again}: as chpst does for a wrong option{last_line}"), log)
        }
        Ended::Code(111) => cause(
            format!(
                "it exits with 111{again}: as chpst and a run that svctl wrote do if they cannot start \
                 the program{last_line}"
            ),
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

/// Whether a file was written later than a time that was written into it at once.
pub(super) fn is_later(written: &Tai64N, stamp: &Tai64N) -> bool {
    time(written).saturating_sub(time(stamp)) >= IMPRECISION * 10
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
                "KILL ends it{again}: out of memory, the kernel killed {count} processes of its control \
                 group{MORE_MEMORY}"
            ),
            "",
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
            format!(
                "the disk of its log {dir} is full: svlogd waits, and soon the service does; make room, \
                 or let svlogd lose lines by -L"
            ),
            "",
        );
    }
    let log = evidence.log?;
    if let Some(missing) = of_missing_log(evidence) {
        return cause(format!("its log service is {}: {}", log.word(), missing.what), missing.mend?);
    }
    let why = match &evidence.log_run {
        Some(why) => format!("; log/run cannot be started: {}", with_mend(why).0),
        None => String::new(),
    };
    cause(format!("its log service is {}{why}", log.word()), format!("svctl why {name}/log"))
}

/// Whether a run without a file `state` looks as if the service ends at once.
fn ends_at_once(evidence: &Evidence) -> bool {
    let ends = evidence.ends.iter().take(MANY);
    !evidence.knows_ends && evidence.age.is_some_and(|age| age < 2) && evidence.run.is_some()
        || evidence.ends.len() >= MANY
            && ends.clone().all(|end| end.uptime < AT_ONCE && !is_by_term(end.how))
            && evidence.age.is_some_and(|age| age < AT_ONCE.as_secs())
}

/// Whether a process was ended as commands end it.
fn is_by_term(how: Ended) -> bool {
    matches!(how, Ended::Signal { signal, .. } if signal == Signal::TERM)
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
    [
        "address already in use",
        "address in use",
        "connection in use",
        "eaddrinuse",
        "errno 98",
        "port is already allocated",
    ]
    .iter()
    .any(|words| has(&line, words))
        || has(&line, "port ") && has(&line, " is already in use")
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
            directory: "/srv/web".to_owned(),
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
    fn a_service_that_was_restarted_often_is_well() {
        let term = Ended::Signal { signal: Signal::TERM, core: false };
        let evidence = |how| Evidence { ends: vec![end(how, 100); 3], age: Some(0), ..web(Condition::Up) };
        assert_eq!(of(&evidence(term)), None);
        assert!(of(&evidence(Ended::Code(3))).is_some());
    }

    #[test]
    fn ends_are_explained() {
        check(
            &ended(Ended::Code(0)),
            "it exits with 0 after 0.1s again and again: the program probably goes into the background; \
             give it the option that keeps it in the foreground",
            "",
        );
        let once = Evidence { ends: vec![end(Ended::Code(0), 100)], ..web(Condition::Restarting) };
        check(
            &once,
            "it exits with 0 after 0.1s: the program perhaps goes into the background; give it the option \
             that keeps it in the foreground",
            "",
        );
        check(
            &ended(Ended::Code(127)),
            "127: a command in run was not found; check its path, or PATH",
            "svctl log web",
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
        let what = "out of memory again and again: the kernel killed it, or a part of it (exit 137); \
                    give it more memory, or make it need less";
        check(&of_child, what, "");
        // That was at another end.
        let earlier = Evidence { out_of_memory: Some(stamp(0, 0)), ..ended(Ended::Code(3)) };
        check(&earlier, "it exits with 3 after 0.1s again and again", "svctl log web");
    }

    #[test]
    fn programs_tell_in_many_ways_that_a_port_is_in_use() {
        for line in [
            "bind(): Address already in use",
            "Error: listen EADDRINUSE: address already in use :::3000",
            "Port 3000 is already in use",
            "[ERROR] Connection in use: ('127.0.0.1', 8000)",
        ] {
            assert!(is_about_port(line), "{line}");
        }
        assert!(!is_about_port("the port is closed") && !is_about_port("the file is already in use"));
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
        check(&evidence, "control/u (pid 7) runs since 9 s, and the supervisor waits for it", "kill 7");
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
            "it waits for db, which does not exist, by the file /srv/web/needs",
            "",
        );
        let given_up = Some("5 ends in 60 s".to_owned());
        let given_up = Evidence { given_up, condition: Some(Condition::GivenUp), ..ended(Ended::Code(3)) };
        check(
            &given_up,
            "it was given up: 5 ends in 60 s; it exits with 3 after 0.1s again and again",
            "svctl log web; svctl reset web",
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
