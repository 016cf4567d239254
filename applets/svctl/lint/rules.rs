//! What is wrong with a service, from a look at its files. Without I/O.

use svcore::listed::Listed;
use svcore::policy::{self, Need, PolicyFile, RestartDelay, RestartLimit, Senseless};
use svcore::say::printable_text;
use svcore::{Signal, decimal};

use super::name;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The file, relative to the service directory; empty for the directory itself.
    pub(super) file: Vec<u8>,
    pub(super) what: String,
}

/// A service directory as it was found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) name: Vec<u8>,
    /// The name is that of a link to this, which does not exist. Then nothing else is known.
    pub(super) dangling: Option<Vec<u8>>,
    /// Why the directory cannot be looked into. Then nothing else is known.
    pub(super) unreadable: Option<&'static str>,
    /// `run`, `finish`, `check`, those of the log service, and hooks.
    pub(super) programs: Vec<Program>,
    /// There is something called `log` that is no directory.
    pub(super) log_is_no_directory: bool,
    /// `supervise`, and that of the log service, where it is a link to nothing.
    pub(super) dangling_states: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories that `log/run` names and that do not exist.
    pub(super) missing_logs: Vec<Vec<u8>>,
    /// Policy files whose content makes no sense, and what it should be.
    pub(super) senseless: Vec<(&'static str, &'static str)>,
    /// What the file `needs` names.
    pub(super) needs: Vec<Need>,
}

/// A program of a service.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Its path in the service directory.
    pub(super) path: &'static str,
    pub(super) is_missing: bool,
    /// Why it cannot be started, if it cannot.
    pub(super) cannot_start: Option<String>,
    /// Everybody may write to it.
    pub(super) everybody_may_write: bool,
    /// How it begins.
    pub(super) text: Vec<u8>,
}

/// Everything that is wrong.
pub(super) fn findings(look: &Look) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut add = |file: &[u8], what: String| all.push(Finding { file: file.to_vec(), what });
    if let Some(why) = name::fault(&look.name) {
        add(b"", format!("its name: {why}"));
    }
    if let Some(target) = &look.dangling {
        add(b"", format!("it is a link to {}, which does not exist", printable_text(target)));
        return all;
    }
    if let Some(why) = look.unreadable {
        add(b"", why.to_owned());
        return all;
    }
    if look.log_is_no_directory {
        add(b"log", "it is not a directory".to_owned());
    }
    for (path, target) in &look.dangling_states {
        add(path, format!("it is a link to {}, which cannot be made", printable_text(target)));
    }
    for program in &look.programs {
        let path = program.path.as_bytes();
        let is_needed = path == b"run";
        if program.is_missing {
            if is_needed {
                add(path, "it does not exist".to_owned());
            }
            continue;
        }
        if let Some(why) = &program.cannot_start {
            add(path, why.clone());
        }
        if program.everybody_may_write {
            add(path, "everybody may write to it: chmod o-w".to_owned());
        }
        if (is_needed || path == b"log/run") && goes_to_background(&program.text) {
            add(
                path,
                "its last command ends in &, so it ends at once, and what it started is not supervised"
                    .to_owned(),
            );
        }
    }
    for dir in &look.missing_logs {
        add(b"log/run", format!("svlogd's directory {} does not exist", printable_text(dir)));
    }
    for (file, expected) in &look.senseless {
        add(file.as_bytes(), format!("it has no effect, since it is not {expected}"));
    }
    all
}

/// What is wrong with the content of a policy file: what it should be.
pub(super) fn senseless(file: PolicyFile, text: &[u8]) -> Option<&'static str> {
    let parsed = match file {
        PolicyFile::NotificationFd => policy::notification_fd(text).map(drop),
        PolicyFile::Watchdog | PolicyFile::TimeoutReady => policy::millis(text).map(drop),
        PolicyFile::Needs => policy::needs(text).map(drop),
        PolicyFile::Restart => policy::Restart::parse(text).map(drop),
        PolicyFile::RestartDelay => RestartDelay::parse(text).map(drop),
        PolicyFile::RestartLimit => RestartLimit::parse(text).map(drop),
        // These are not read.
        PolicyFile::NotificationSocket
        | PolicyFile::KillGroup
        | PolicyFile::Cgroup
        | PolicyFile::OnFailure => Ok(()),
    };
    parsed.err().map(|Senseless(expected)| expected)
}

/// What is wrong with the content of `down-signal` or a timeout: what it should be. An empty one is none.
pub(super) fn wrong_setting(file: &str, text: &[u8]) -> Option<&'static str> {
    let (is_right, expected) = if file.ends_with("signal") {
        let is_signal = std::str::from_utf8(text).ok().and_then(Signal::from_text).is_some();
        (is_signal, "the name or number of a signal")
    } else {
        (decimal::whole(text).is_some(), "a number of milliseconds")
    };
    (!is_right && !text.is_empty()).then_some(expected)
}

/// What is wrong with the needs of the services of a directory: for each service, what its file `needs` should not have.
pub(super) fn wrong_needs(service: &Look, services: &[Look]) -> Vec<Finding> {
    let of = |name: &[u8]| services.iter().find(|service| service.name == name);
    let finding = |what: String| Finding { file: b"needs".to_vec(), what };
    let mut findings = Vec::new();
    for need in &service.needs {
        // What is in another directory is not known.
        if !need.name.contains(&b'/') && !need.optional && of(&need.name).is_none() {
            findings.push(finding(format!("there is no service {}", printable_text(&need.name))));
        }
    }
    // Everything that is needed, directly or not.
    let mut reached: Vec<&[u8]> = service.needs.iter().map(|need| need.name.as_slice()).listed();
    let mut next = 0_usize;
    while let Some(name) = reached.get(next).copied() {
        next = next.saturating_add(1);
        for need in of(name).map_or(&[][..], |needed| &needed.needs) {
            if !reached.contains(&need.name.as_slice()) {
                reached.push(&need.name);
            }
        }
    }
    if reached.contains(&service.name.as_slice()) {
        findings.push(finding("it needs itself, through others or directly".to_owned()));
    }
    findings
}

/// The lines of a shell script that are commands, without blanks around them; none if it is for another interpreter.
fn commands(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let interpreter = first.strip_prefix(b"#!").unwrap_or_default().trim_ascii();
    let program = interpreter.split(|byte| b" \t".contains(byte)).next().unwrap_or_default();
    let is_shell =
        [&b"/sh"[..], b"/dash", b"/bash", b"/ash", b"/ksh", b"/mksh"].iter().any(|sh| program.ends_with(sh));
    let lines = lines.map(<[u8]>::trim_ascii);
    lines.filter(move |line| is_shell && !line.is_empty() && !line.starts_with(b"#"))
}

/// Whether a script ends by starting something in the background.
fn goes_to_background(text: &[u8]) -> bool {
    let ends_in_one = |line: &[u8]| line.ends_with(b"&") && !line.ends_with(b"&&") && !line.ends_with(br"\&");
    commands(text).next_back().is_some_and(ends_in_one)
}

/// The directories that a script of a log service passes to svlogd, as far as they are plain words, unless it may make
/// them itself.
pub(super) fn log_directories(text: &[u8]) -> Vec<Vec<u8>> {
    let makes = |line: &[u8]| line.windows(5).any(|word| word == b"mkdir");
    if commands(text).any(makes) {
        return Vec::new();
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    let mut directories = Vec::new();
    for line in commands(text) {
        let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
        if !words.any(|word| word == b"svlogd" || word.ends_with(b"/svlogd")) {
            continue;
        }
        while let Some(word) = words.next() {
            match word {
                // Options whose value is the next word.
                [b'-', b'r' | b'R' | b'l' | b'b'] => drop(words.next()),
                [b'-', ..] => {}
                word if word.iter().all(is_plain) => directories.push(word.to_vec()),
                // What a shell makes of it, or what follows it, is not known here.
                _ => break,
            }
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(look: &Look) -> Vec<String> {
        let text = |finding: Finding| format!("{}: {}", printable_text(&finding.file), finding.what);
        findings(look).into_iter().map(text).collect()
    }

    fn service(programs: Vec<Program>) -> Look {
        Look { name: b"web".to_vec(), programs, ..Look::default() }
    }

    #[test]
    fn a_service_that_can_start_has_no_findings() {
        let run = Program { path: "run", text: b"#!/bin/sh\nexec x\n".to_vec(), ..Program::default() };
        let finish = Program { path: "finish", is_missing: true, ..Program::default() };
        assert_eq!(told(&service(vec![run, finish])), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found() {
        let run = || Program { path: "run", ..Program::default() };
        let one = |program| told(&service(vec![program])).concat();
        assert_eq!(one(Program { is_missing: true, ..run() }), "run: it does not exist");
        assert_eq!(one(Program { cannot_start: Some("x".to_owned()), ..run() }), "run: x");
        assert!(one(Program { everybody_may_write: true, ..run() }).contains("chmod o-w"));
        assert!(
            one(Program { text: b"#!/bin/sh\nhttpd &\n\n# x\n".to_vec(), ..run() }).contains("ends in &")
        );
        assert_eq!(one(Program { text: b"#!/bin/sh\nhttpd &\nwait\n".to_vec(), ..run() }), "");
        assert_eq!(one(Program { text: b"#!/usr/bin/python\nx &\n".to_vec(), ..run() }), "");
        let dangling = Look { dangling: Some(b"/x".to_vec()), ..service(vec![run()]) };
        assert_eq!(told(&dangling), [": it is a link to /x, which does not exist"]);
        let log = Look { log_is_no_directory: true, ..service(Vec::new()) };
        assert_eq!(told(&log), ["log: it is not a directory"]);
        let named = Look { name: b"a b".to_vec(), ..Look::default() };
        assert!(told(&named).concat().contains("its name: "));
        let logs = Look { missing_logs: vec![b"./main".to_vec()], ..service(Vec::new()) };
        assert_eq!(told(&logs), ["log/run: svlogd's directory ./main does not exist"]);
    }

    #[test]
    fn settings_of_a_stop_are_signals_and_milliseconds() {
        for (file, text, is_right) in [
            ("down-signal", "INT", true),
            ("down-signal", "SIGQUIT", true),
            ("log/down-signal", "3", true),
            ("down-signal", "FOO", false),
            ("timeout-kill", "0", true),
            ("timeout-kill", "", true),
            ("timeout-finish", "1s", false),
        ] {
            assert_eq!(wrong_setting(file, text.as_bytes()).is_none(), is_right, "{file} {text}");
        }
    }

    #[test]
    fn needs_are_services_and_no_cycle() {
        let service = |name: &str, needs: &str| Look {
            name: name.as_bytes().to_vec(),
            needs: policy::needs(needs.as_bytes()).unwrap(),
            ..Look::default()
        };
        let told = |services: &[Look]| -> Vec<usize> {
            services.iter().map(|service| wrong_needs(service, services).len()).collect()
        };
        assert_eq!(told(&[service("app", "db cache? ./x /y"), service("db", "")]), [0, 0]);
        assert_eq!(told(&[service("app", "db cache"), service("db", "")]), [1, 0]);
        assert_eq!(
            told(&[service("a", "b"), service("b", "c"), service("c", "a"), service("d", "a")]),
            [1, 1, 1, 0]
        );
        assert_eq!(told(&[service("a", "a")]), [1]);
    }

    #[test]
    fn directories_of_logs_are_plain_words_after_svlogd() {
        let found = |script: &str| {
            let text = format!("#!/bin/sh\n{script}\n");
            log_directories(text.as_bytes())
                .iter()
                .map(|dir| printable_text(dir))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found("exec svlogd -tt ./main"), "./main");
        assert_eq!(found("exec chpst -u log svlogd -l 500 -ttv /var/log/a b"), "/var/log/a b");
        assert_eq!(found("exec svlogd -tt \"$DIR\""), "");
        assert_eq!(found("mkdir -p main\nexec svlogd main"), "");
        assert_eq!(found("exec logger"), "");
        assert_eq!(found("# svlogd x"), "");
    }
}
