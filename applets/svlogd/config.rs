//! Parses the text of the file `config` of a log directory. Pure: no I/O. Source: svlogd(8), CONFIG FILE.

use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use svcore::decimal;

use super::pattern;
use super::stamp::LineStamp;

/// The default port: that of syslog.
const PORT: u16 = 514;

/// What a pattern decides about the lines that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// `+` or `-`: whether the line is logged.
    Log(bool),
    /// `e` or `E`: whether the line is written to standard error.
    Stderr(bool),
}

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Into the log.
    pub(crate) log: bool,
    /// To standard error.
    pub(crate) stderr: bool,
}

/// A line of `config` that begins with `+`, `-`, `e` or `E`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    effect: Effect,
    pattern: Vec<u8>,
}

/// What processes old logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Processor {
    /// A command for `sh -c`.
    Shell(CString),
    /// `!gzip`: the built-in compression, with this level.
    Gzip(u32),
}

/// Where lines are sent as datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Udp {
    pub(crate) address: SocketAddrV4,
    /// `U`: lines are only sent and not written to the log.
    pub(crate) only: bool,
}

/// The settings of a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The size in bytes that `current` may have; 0 means no limit.
    pub(crate) size: u64,
    /// How many old logs are kept; 0 means all.
    pub(crate) keep: u64,
    /// How many old logs are kept when the disk is full, if fewer than `keep`.
    pub(crate) keep_when_full: u64,
    /// The age at which `current` is rotated.
    pub(crate) age: Option<Duration>,
    pub(crate) processor: Option<Processor>,
    pub(crate) udp: Option<Udp>,
    /// Written before each line, after the timestamp.
    pub(crate) prefix: Vec<u8>,
    /// The timestamp before each line, by a line `t`, `tt` or `ttt`; only for the log of a service without `log/run`.
    pub(crate) stamp: LineStamp,
    rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            size: 1_000_000,
            keep: 10,
            keep_when_full: 10,
            age: None,
            processor: None,
            udp: None,
            prefix: Vec::new(),
            stamp: LineStamp::None,
            rules: Vec::new(),
        }
    }
}

/// For whom `config` is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A log directory on the command line of svlogd.
    Stock,
    /// The log of a service without `log/run`: the timestamp has no option, so `config` may have a line for it.
    Hosted,
}

/// The number of a line that cannot be used, or not all of it, counted from 1, and what is wrong with it.
pub(crate) type Complaint = (usize, String);

impl Config {
    /// Parses the text of `config`. Lines that cannot be used are skipped; these, and lines that do something else than
    /// what they look like, are returned as complaints.
    pub(crate) fn parse(text: &[u8], dialect: Dialect) -> (Self, Vec<Complaint>) {
        let mut config = Config::default();
        let mut complaints = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if let Err(what) = config.set(line, dialect) {
                complaints.push((index.saturating_add(1), what));
            }
        }
        (config, complaints)
    }

    /// Applies one line, as far as it can be used. The error is what is wrong with it.
    fn set(&mut self, line: &[u8], dialect: Dialect) -> Result<(), String> {
        let Some((letter, value)) = line.split_first() else { return Ok(()) };
        let rule = |effect: Effect| Rule { effect, pattern: value.to_vec() };
        match letter {
            b'#' => {}
            b's' => {
                let size = Number::parse(value, &[(b'k', 1024), (b'm', 1024 * 1024)])?;
                self.size = size.value;
                size.check("bytes")?;
            }
            b'n' | b'N' => {
                let number = Number::parse(value, &[])?;
                *(if *letter == b'n' { &mut self.keep } else { &mut self.keep_when_full }) = number.value;
                number.check("files")?;
            }
            b't' if dialect == Dialect::Hosted && value.iter().all(|&byte| byte == b't') => {
                self.stamp = LineStamp::of_letters(line.len());
            }
            b't' => {
                let seconds = Number::parse(value, &[(b'm', 60), (b'h', 3600)])?;
                self.age = (seconds.value > 0).then(|| Duration::from_secs(seconds.value));
                seconds.check("seconds")?;
            }
            b'!' if value.is_empty() => self.processor = None,
            b'!' => {
                self.processor = Some(processor(value)?);
                check_gzip(self.processor.as_ref(), value)?;
            }
            b'u' | b'U' => self.udp = Some(Udp { address: address(value)?, only: *letter == b'U' }),
            b'p' => self.prefix = value.to_vec(),
            b'+' | b'-' => self.rules.push(rule(Effect::Log(*letter == b'+'))),
            b'e' | b'E' => self.rules.push(rule(Effect::Stderr(*letter == b'e'))),
            _ => return Err(format!("unknown: {}", printable(line))),
        }
        Ok(())
    }

    /// Where a line goes: the last pattern that matches `text` decides.
    pub(crate) fn select(&self, text: &[u8]) -> Selection {
        let mut selection = Selection { log: true, stderr: false };
        for rule in &self.rules {
            let (selected, wanted) = match rule.effect {
                Effect::Log(wanted) => (&mut selection.log, wanted),
                Effect::Stderr(wanted) => (&mut selection.stderr, wanted),
            };
            // Matching costs more than this comparison.
            if *selected != wanted && pattern::matches(&rule.pattern, text) {
                *selected = wanted;
            }
        }
        selection
    }

    /// Whether all input goes into `current` unchanged, as far as `config` decides.
    pub(crate) fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.prefix.is_empty() && self.udp.is_none()
    }
}

/// A number, and perhaps a letter that multiplies it. Stock svlogd ignores what follows, and so do we, but we report it.
struct Number<'t> {
    value: u64,
    /// What follows.
    rest: &'t [u8],
}

impl<'t> Number<'t> {
    /// Without any digit it is an error.
    fn parse(text: &'t [u8], units: &[(u8, u64)]) -> Result<Self, String> {
        if !text.first().is_some_and(u8::is_ascii_digit) {
            return Err(format!("not a number: {}", printable(text)));
        }
        let (value, rest) = decimal::leading(text);
        let (factor, rest) = match rest.split_first() {
            Some((letter, after)) => units
                .iter()
                .find(|(unit, _)| unit == letter)
                .map_or((1, rest), |(_, factor)| (*factor, after)),
            None => (1, rest),
        };
        Ok(Number { value: value.saturating_mul(factor), rest: rest.trim_ascii() })
    }

    /// The error is that something follows which is ignored.
    fn check(&self, unit: &str) -> Result<(), String> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(format!("\"{}\" ignored: {} {unit}", printable(self.rest), self.value))
    }
}

/// `gzip` and `gzip 1` to `gzip 9` mean the built-in compression; anything else is a shell command.
fn processor(command: &[u8]) -> Result<Processor, String> {
    Ok(match command {
        b"gzip" => Processor::Gzip(6),
        [b'g', b'z', b'i', b'p', b' ', level @ b'1'..=b'9'] => {
            Processor::Gzip(u32::from(level.saturating_sub(b'0')))
        }
        // As far as the NUL it would be another command, whose output would take the place of the log.
        _ => Processor::Shell(CString::new(command).map_err(|_| "a command cannot have a NUL byte in it")?),
    })
}

/// The error is that a shell command looks as if it meant the built-in compression.
fn check_gzip(processor: Option<&Processor>, command: &[u8]) -> Result<(), String> {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let is_gzip = words.next() == Some(b"gzip")
        && words.next().is_none_or(|word| word.iter().all(u8::is_ascii_digit))
        && words.next().is_none();
    if is_gzip && matches!(processor, Some(Processor::Shell(_))) {
        let command = printable(command);
        return Err(format!("\"!{command}\" is run by sh; built in are !gzip and !gzip 1 to !gzip 9"));
    }
    Ok(())
}

/// Text for a complaint, with escapes: whoever wrote `config` must not control the terminal or forge lines in a log.
fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    for &byte in text {
        match byte {
            b' '..=b'~' => shown.push(char::from(byte)),
            _ => shown.extend(byte.escape_ascii().map(char::from)),
        }
    }
    shown
}

/// `A.B.C.D` or `A.B.C.D:PORT`.
fn address(text: &[u8]) -> Result<SocketAddrV4, String> {
    let text = printable(text);
    let (host, port) = text.split_once(':').map_or((&*text, None), |(host, port)| (host, Some(port)));
    let host: Ipv4Addr = host.parse().map_err(|_| format!("unable to scan ip address: {text}"))?;
    let port = match port {
        None => PORT,
        Some(port) => {
            let port = u16::try_from(decimal::leading(port.as_bytes()).0).ok().filter(|&port| port > 0);
            port.ok_or_else(|| format!("unable to scan port number: {text}"))?
        }
    };
    Ok(SocketAddrV4::new(host, port))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8]) -> (Config, Vec<Complaint>) {
        Config::parse(text, Dialect::Stock)
    }

    fn good(text: &str) -> Config {
        let (config, complaints) = parse(text.as_bytes());
        assert_eq!(complaints, []);
        config
    }

    #[test]
    fn each_letter_sets_its_value() {
        let config = good("s10k\nn3\nN2\nt5m\n!cat\npx: \nu1.2.3.4\n# s7\n\n");
        assert_eq!((config.size, config.keep, config.keep_when_full), (10_240, 3, 2));
        assert_eq!(config.age, Some(Duration::from_secs(300)));
        assert_eq!(config.processor, Some(Processor::Shell(CString::new("cat").unwrap())));
        assert_eq!(config.prefix, b"x: ");
        assert_eq!(config.udp, Some(Udp { address: "1.2.3.4:514".parse().unwrap(), only: false }));
        assert_eq!(good("U1.2.3.4:99").udp, Some(Udp { address: "1.2.3.4:99".parse().unwrap(), only: true }));
        assert_eq!(
            (good("s1m").size, good("s0").size, good("t2h").age),
            (1_048_576, 0, Some(Duration::from_secs(7200)))
        );
        assert_eq!((good("t0").age, good("n12 \r").keep), (None, 12));
    }

    #[test]
    fn letters_t_alone_are_a_timestamp_in_a_hosted_log_only() {
        let stamp = |text: &[u8]| {
            let (config, complaints) = Config::parse(text, Dialect::Hosted);
            (config.stamp, config.age, complaints.len())
        };
        assert_eq!(stamp(b"t"), (LineStamp::Label, None, 0));
        assert_eq!(stamp(b"tt\nt60"), (LineStamp::Utc(b'_'), Some(Duration::from_secs(60)), 0));
        assert_eq!(stamp(b"ttt"), (LineStamp::Utc(b'T'), None, 0));
        assert_eq!(stamp(b"tx"), (LineStamp::None, None, 1));
        let (config, complaints) = parse(b"tt");
        assert_eq!((config.stamp, complaints), (LineStamp::None, vec![(1, "not a number: t".to_owned())]));
    }

    #[test]
    fn only_the_very_word_gzip_means_the_built_in_compression() {
        let gzip = |text: &str| {
            let (config, complaints) = parse(text.as_bytes());
            (config.processor.unwrap(), complaints.len())
        };
        assert_eq!(gzip("!gzip"), (Processor::Gzip(6), 0));
        assert_eq!(gzip("!gzip 1"), (Processor::Gzip(1), 0));
        for (other, complaints) in [
            ("gzip -1", 0),
            ("gzip 0", 1),
            ("gzip 10", 1),
            ("gzip  1", 1),
            (" gzip", 1),
            ("/bin/gzip", 0),
            ("gzip | cat", 0),
        ] {
            let shell = Processor::Shell(CString::new(other).unwrap());
            assert_eq!(gzip(&format!("!{other}")), (shell, complaints), "{other}");
        }
    }

    #[test]
    fn what_is_ignored_in_a_line_is_reported() {
        let (config, complaints) = parse(b"t5d\ns10kb\nn3 old logs\nN2x\nt1h \n!gzip 12\n!cat\0x");
        assert_eq!((config.size, config.keep, config.keep_when_full), (10_240, 3, 2));
        assert_eq!(config.age, Some(Duration::from_secs(3600)));
        assert_eq!(config.processor, Some(Processor::Shell(c"gzip 12".to_owned())));
        let complaints: Vec<String> =
            complaints.into_iter().map(|(line, what)| format!("{line}: {what}")).collect();
        assert_eq!(
            complaints,
            [
                "1: \"d\" ignored: 5 seconds",
                "2: \"b\" ignored: 10240 bytes",
                "3: \"old logs\" ignored: 3 files",
                "4: \"x\" ignored: 2 files",
                "6: \"!gzip 12\" is run by sh; built in are !gzip and !gzip 1 to !gzip 9",
                "7: a command cannot have a NUL byte in it",
            ]
        );
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number_and_skipped() {
        let (config, complaints) = parse(b"s10\nwhat\nnx\nu1.2.3\nu1.2.3.4:0\nn5");
        assert_eq!((config.size, config.keep, config.udp), (10, 5, None));
        let numbers: Vec<usize> = complaints.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [2, 3, 4, 5]);
        assert_eq!(complaints[2].1, "unable to scan ip address: 1.2.3");
        assert_eq!(complaints[3].1, "unable to scan port number: 1.2.3.4:0");
    }

    #[test]
    fn the_last_pattern_that_matches_counts() {
        let config = good("-*\n+*: foo: *\ne*bad*\nE*bad not*");
        let selected = |config: &Config, text: &[u8]| {
            let selection = config.select(text);
            (selection.log, selection.stderr)
        };
        assert_eq!(selected(&config, b"x: foo: y"), (true, false));
        assert_eq!(selected(&config, b"x: bar: y"), (false, false));
        assert_eq!(selected(&config, b"bad"), (false, true));
        assert_eq!(selected(&config, b"bad not"), (false, false));
        assert_eq!(selected(&Config::default(), b"x"), (true, false));
    }

    proptest! {
        /// Any text can be parsed, and every line that begins with no known letter is reported.
        #[test]
        fn any_text_can_be_parsed(text in prop::collection::vec(prop_oneof![
            3 => prop::sample::select(b"snNt!uUp+-eE#\n019km.:*".to_vec()), 1 => any::<u8>()], 0..200)
        ) {
            let (_, complaints) = parse(&text);
            let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
            for (number, line) in lines.iter().enumerate() {
                let known = line.first().is_none_or(|letter| b"snNt!uUp+-eE#".contains(letter));
                prop_assert!(known || complaints.iter().any(|(complained, _)| *complained == number + 1));
            }
        }
    }
}
