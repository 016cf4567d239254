//! The file `config` of a log directory. Without I/O. Source: svlogd(8), CONFIG FILE.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use svcore::decimal;

use super::pattern;

/// The port of syslog.
const PORT: u16 = 514;

/// What is done with lines that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// `+` and `-`: into the log or not.
    Log(bool),
    /// `e` and `E`: to standard error or not.
    Tell(bool),
}

/// A line that begins with `+`, `-`, `e` or `E`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    effect: Effect,
    pattern: Vec<u8>,
}

/// What old logs go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Processor {
    /// A command for `sh -c`.
    Shell(Vec<u8>),
    /// `!gzip`: our own compression, of this level.
    Gzip(u32),
}

/// Where lines are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Udp {
    pub(crate) to: SocketAddrV4,
    /// `U`: there and nowhere else.
    pub(crate) only: bool,
}

/// All that `config` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Bytes that `current` may have; 0 is without limit.
    pub(crate) size: u64,
    /// Old logs that are kept; 0 is all.
    pub(crate) keep: u64,
    /// Old logs that are kept when the disk is full, if that is less.
    pub(crate) keep_when_full: u64,
    /// How old `current` may get.
    pub(crate) age: Option<Duration>,
    pub(crate) processor: Option<Processor>,
    pub(crate) udp: Option<Udp>,
    /// Put before each line.
    pub(crate) prefix: Vec<u8>,
    pub(crate) rules: Vec<Rule>,
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
            rules: Vec::new(),
        }
    }
}

/// A line that says nothing; its number, and what is wrong with it.
pub(crate) type Complaint = (usize, String);

impl Config {
    /// Reads the text of `config`. Lines that say nothing are complained of and skipped.
    pub(crate) fn parse(text: &[u8]) -> (Self, Vec<Complaint>) {
        let mut config = Config::default();
        let mut complaints = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if let Err(what) = config.take(line) {
                complaints.push((index.saturating_add(1), what));
            }
        }
        (config, complaints)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let Some((letter, value)) = line.split_first() else { return Ok(()) };
        let pattern = || value.to_vec();
        match letter {
            b'#' => {}
            b's' => self.size = scaled(value, &[(b'k', 1024), (b'm', 1024 * 1024)])?,
            b'n' => self.keep = scaled(value, &[])?,
            b'N' => self.keep_when_full = scaled(value, &[])?,
            b't' => {
                let seconds = scaled(value, &[(b'm', 60), (b'h', 3600)])?;
                self.age = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            b'!' if value.is_empty() => self.processor = None,
            b'!' => self.processor = Some(processor(value)),
            b'u' | b'U' => self.udp = Some(Udp { to: address(value)?, only: *letter == b'U' }),
            b'p' => self.prefix = value.to_vec(),
            b'+' | b'-' => self.rules.push(Rule { effect: Effect::Log(*letter == b'+'), pattern: pattern() }),
            b'e' | b'E' => {
                self.rules.push(Rule { effect: Effect::Tell(*letter == b'e'), pattern: pattern() })
            }
            _ => return Err(format!("unknown: {}", printable(line))),
        }
        Ok(())
    }

    /// Whether `text` goes into the log, and whether to standard error: what the last pattern says that matches.
    pub(crate) fn select(&self, text: &[u8]) -> (bool, bool) {
        let mut selected = (true, false);
        for rule in &self.rules {
            let (now, to) = match rule.effect {
                Effect::Log(to) => (&mut selected.0, to),
                Effect::Tell(to) => (&mut selected.1, to),
            };
            if *now != to && pattern::matches(&rule.pattern, text) {
                *now = to;
            }
        }
        selected
    }

    /// Whether what comes in goes into `current` as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.prefix.is_empty() && self.udp.is_none()
    }
}

/// A number and a letter that multiplies it. What follows has never mattered, but no number at all is no value.
fn scaled(text: &[u8], units: &[(u8, u64)]) -> Result<u64, String> {
    if !text.first().is_some_and(u8::is_ascii_digit) {
        return Err(format!("not a number: {}", printable(text)));
    }
    let (value, rest) = decimal::leading(text);
    let factor = units.iter().find(|(unit, _)| rest.first() == Some(unit)).map_or(1, |(_, factor)| *factor);
    Ok(value.saturating_mul(factor))
}

/// `gzip`, and `gzip 1` to `gzip 9`, are ours; anything else is the shell's.
fn processor(command: &[u8]) -> Processor {
    match command {
        b"gzip" => Processor::Gzip(6),
        [b'g', b'z', b'i', b'p', b' ', level @ b'1'..=b'9'] => {
            Processor::Gzip(u32::from(level.saturating_sub(b'0')))
        }
        _ => Processor::Shell(command.to_vec()),
    }
}

/// Text that is told: whoever wrote it has no say in what a terminal or a log makes of it.
fn printable(text: &[u8]) -> String {
    let mut told = String::new();
    for &byte in text {
        match byte {
            b' '..=b'~' => told.push(char::from(byte)),
            _ => told.extend(byte.escape_ascii().map(char::from)),
        }
    }
    told
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

    fn good(text: &str) -> Config {
        let (config, complaints) = Config::parse(text.as_bytes());
        assert_eq!(complaints, []);
        config
    }

    #[test]
    fn each_letter_sets_its_value() {
        let config = good("s10k\nn3\nN2\nt5m\n!cat\npx: \nu1.2.3.4\n# s7\n\n");
        assert_eq!((config.size, config.keep, config.keep_when_full), (10_240, 3, 2));
        assert_eq!(config.age, Some(Duration::from_secs(300)));
        assert_eq!(config.processor, Some(Processor::Shell(b"cat".to_vec())));
        assert_eq!(config.prefix, b"x: ");
        assert_eq!(config.udp, Some(Udp { to: "1.2.3.4:514".parse().unwrap(), only: false }));
        assert_eq!(good("U1.2.3.4:99").udp, Some(Udp { to: "1.2.3.4:99".parse().unwrap(), only: true }));
        assert_eq!(
            (good("s1m").size, good("s0").size, good("t2h").age),
            (1_048_576, 0, Some(Duration::from_secs(7200)))
        );
        assert_eq!((good("t0").age, good("s12x").size), (None, 12));
    }

    #[test]
    fn gzip_is_ours_only_as_that_very_word() {
        let gzip = |text: &str| good(text).processor.unwrap();
        assert_eq!(gzip("!gzip"), Processor::Gzip(6));
        assert_eq!(gzip("!gzip 1"), Processor::Gzip(1));
        for other in ["gzip -1", "gzip 0", "gzip 10", "gzip  1", " gzip", "/bin/gzip"] {
            assert_eq!(gzip(&format!("!{other}")), Processor::Shell(other.into()), "{other}");
        }
    }

    #[test]
    fn a_bad_line_is_complained_of_by_its_number_and_skipped() {
        let (config, complaints) = Config::parse(b"s10\nwhat\nnx\nu1.2.3\nu1.2.3.4:0\nn5");
        assert_eq!((config.size, config.keep, config.udp), (10, 5, None));
        let numbers: Vec<usize> = complaints.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [2, 3, 4, 5]);
        assert_eq!(complaints[2].1, "unable to scan ip address: 1.2.3");
        assert_eq!(complaints[3].1, "unable to scan port number: 1.2.3.4:0");
    }

    #[test]
    fn the_last_pattern_that_matches_counts() {
        let config = good("-*\n+*: foo: *\ne*bad*\nE*bad not*");
        assert_eq!(config.select(b"x: foo: y"), (true, false));
        assert_eq!(config.select(b"x: bar: y"), (false, false));
        assert_eq!(config.select(b"bad"), (false, true));
        assert_eq!(config.select(b"bad not"), (false, false));
        assert_eq!(Config::default().select(b"x"), (true, false));
    }

    proptest! {
        /// No text is a reason to stop, and every line that was not understood is complained of.
        #[test]
        fn any_text_is_read(text in prop::collection::vec(prop_oneof![
            3 => prop::sample::select(b"snNt!uUp+-eE#\n019km.:*".to_vec()), 1 => any::<u8>()], 0..200)
        ) {
            let (_, complaints) = Config::parse(&text);
            let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
            for (number, line) in lines.iter().enumerate() {
                let known = line.first().is_none_or(|letter| b"snNt!uUp+-eE#".contains(letter));
                prop_assert!(known || complaints.iter().any(|(complained, _)| *complained == number + 1));
            }
        }
    }
}
