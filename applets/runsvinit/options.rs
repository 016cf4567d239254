//! The options and operands. Without I/O.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use svcore::{Error, Result, Signal, decimal, multicall};

/// How long a stop may take without `-w`: container managers kill after 10 seconds.
const TIME: Duration = Duration::from_secs(9);

/// The options and operands, see runsvinit(8).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `-v`: report what is done.
    pub(crate) verbose: bool,
    /// `-w`: how long a stop may take.
    pub(crate) time: Duration,
    /// `--stop-signal`: the signal that tells the command to end.
    pub(crate) stop_signal: Signal,
    /// `-g`: signals for the command go to its whole process group.
    pub(crate) group: bool,
    /// `-e`: the directory to which the environment is written.
    pub(crate) environment: Option<OsString>,
    /// `--map`: exit codes, and those that replace them.
    pub(crate) map: Vec<(u8, u8)>,
    /// `--prefix`: lines have the name of their service before them.
    pub(crate) prefix: bool,
    /// `--stamp`: and before that the time.
    pub(crate) stamp: bool,
    /// `--halt`: serve nothing, but tell the running one to end with this code.
    pub(crate) halt: Option<u8>,
    /// The directory of services, if it was named.
    pub(crate) dir: Option<OsString>,
    /// The words after `--`.
    pub(crate) command: Vec<OsString>,
}

/// Parses the words after the name of the program.
pub(crate) fn parse(args: &[OsString]) -> Result<Options> {
    let mut options = Options {
        verbose: false,
        time: TIME,
        stop_signal: Signal::TERM,
        group: false,
        environment: None,
        map: Vec::new(),
        prefix: false,
        stamp: false,
        halt: None,
        dir: None,
        command: Vec::new(),
    };
    let ours = args.iter().position(|word| word == "--").unwrap_or(args.len());
    let (ours, command) = args.split_at(ours);
    // The ENTRYPOINT of an image may end in two dashes, and the user may type them once more.
    options.command.extend(command.iter().skip_while(|word| *word == "--").cloned());
    let mut halt = false;
    let mut parser = lexopt::Parser::from_args(ours);
    parser.set_short_equals(false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('v') => options.verbose = true,
            Short('V') => return Err(multicall::version()),
            Short('w') => {
                let word = parser.value()?;
                options.time =
                    seconds(word.as_bytes()).ok_or_else(|| wrong("not a number of seconds", &word))?;
            }
            Short('g') => options.group = true,
            Long("stop-signal") => {
                let word = parser.value()?;
                let signal = word.to_str().and_then(Signal::from_text);
                options.stop_signal = signal.ok_or_else(|| wrong("not a signal", &word))?;
            }
            Short('e') => options.environment = Some(parser.value()?),
            Long("map") => {
                let word = parser.value()?;
                options.map.push(mapping(&word).ok_or_else(|| wrong("not CODE=CODE", &word))?);
            }
            Long("prefix") => options.prefix = true,
            Long("stamp") => (options.prefix, options.stamp) = (true, true),
            Long("halt") => halt = true,
            Value(word) if halt && options.halt.is_none() => {
                options.halt = Some(code(&word).ok_or_else(|| wrong("not an exit code", &word))?);
            }
            Value(word) if options.dir.is_none() && !halt => options.dir = Some(word),
            Value(word) => return Err(wrong("one DIR only; a command goes after --", &word)),
            other => return Err(other.unexpected().into()),
        }
    }
    if halt {
        options.halt.get_or_insert(0);
    }
    Ok(options)
}

fn wrong(what: &str, word: &OsString) -> Error {
    Error::Usage(Some(format!("{}: {what}", word.display())))
}

/// A number of seconds such as `3`, `1.5` or `.5`; one that is too large becomes the largest.
fn seconds(text: &[u8]) -> Option<Duration> {
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let (whole, part) = (parts.next()?, parts.next().unwrap_or_default());
    let digits = || whole.iter().chain(part);
    if digits().next().is_none() || !digits().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = part.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0_u32, |nanos, digit| nanos.wrapping_mul(10).wrapping_add(u32::from(digit & 15)));
    Some(Duration::new(decimal::whole(whole)?, nanos))
}

fn code(word: &OsString) -> Option<u8> {
    word.to_str()?.parse().ok()
}

fn mapping(word: &OsString) -> Option<(u8, u8)> {
    let (from, to) = word.to_str()?.split_once('=')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

impl Options {
    /// The exit code that replaces `code`.
    pub(crate) fn mapped(&self, code: u8) -> u8 {
        self.map.iter().rev().find(|(from, _)| *from == code).map_or(code, |(_, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Options> {
        parse(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_follows_two_dashes_is_the_command() {
        let options = parsed("-v -w 3 /sv -- sh -c -v --").unwrap();
        assert_eq!((options.verbose, options.time), (true, Duration::from_secs(3)));
        assert_eq!(options.dir, Some("/sv".into()));
        assert_eq!(options.command, ["sh", "-c", "-v", "--"]);
        assert_eq!(parsed("/sv -- -- sh --").unwrap().command, ["sh", "--"]);
        let options = parsed("--prefix --").unwrap();
        assert_eq!((options.prefix, options.dir, options.command), (true, None, vec![]));
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        for (word, millis) in [("1.5", 1500), ("0.001", 1), (".25", 250), ("2.", 2000), ("0", 0)] {
            assert_eq!(parsed(&format!("-w {word}")).unwrap().time, Duration::from_millis(millis), "{word}");
        }
        assert_eq!(parsed("-w 99999999999999999999").unwrap().time, Duration::from_secs(u64::MAX));
        assert_eq!(parsed("-w 1.9999999999").unwrap().time, Duration::new(1, 999_999_999));
    }

    #[test]
    fn the_signal_for_the_command_has_a_name_or_a_number() {
        let options = parsed("-g --stop-signal INT").unwrap();
        assert_eq!((options.group, options.stop_signal), (true, Signal::INT));
        assert_eq!(parsed("--stop-signal=37").unwrap().stop_signal, Signal::HALT);
        assert_eq!(parsed("/sv").unwrap().stop_signal, Signal::TERM);
    }

    #[test]
    fn codes_are_mapped() {
        let options = parsed("--map 143=0 --map=137=1").unwrap();
        assert_eq!([143, 137, 7].map(|code| options.mapped(code)), [0, 1, 7]);
    }

    #[test]
    fn halt_has_a_code_or_ends_with_0() {
        assert_eq!(parsed("--halt").unwrap().halt, Some(0));
        assert_eq!(parsed("--halt 42").unwrap().halt, Some(42));
        assert_eq!(parsed("/sv").unwrap().halt, None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for words in [
            "-w x",
            "-w",
            "-w .",
            "-w -1",
            "-w 1e3",
            "-w 1.5.2",
            "--stop-signal NO",
            "--stop-signal 65",
            "--map 1",
            "--map 300=1",
            "--map 1=",
            "a b",
            "-x",
            "--what",
            "--halt 256",
            "--halt x",
            "--halt 1 2",
            "-w=3",
        ] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }
}
