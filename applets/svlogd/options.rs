//! Parses the command line. Pure: no I/O. Source: svlogd(8).

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg::{Long, Short, Value};
use svcore::{Error, Result, decimal, multicall};

use super::replace::Replacements;
use super::stamp::LineStamp;

/// Values of `-l` and `-b`, in bytes, if they are not given or 0.
const LINE_MAX_DEFAULT: u64 = 1000;
const BUFFER_DEFAULT: u64 = 1024;
/// The largest value of `-l` that is used, in bytes: so much may have to be held in memory.
const LINE_MAX_LIMIT: usize = 16 * 1024 * 1024;

/// The command line as typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How many times `-t` is given.
    t: usize,
    /// `-r`: replaces non-printable bytes.
    replacement: Option<u8>,
    /// `-R`: bytes that are replaced too.
    replaced: Option<Vec<u8>>,
    /// `-l`
    line_max: u64,
    /// `-b`, which is only checked: svlogd has buffers of its own size.
    buffer: u64,
    /// How many times `-L` is given.
    lose: u32,
    verbose: bool,
    /// Whose logs are written.
    pub(crate) logs: Logs,
    /// The log directories, or what `logs` says.
    pub(crate) directories: Vec<OsString>,
}

/// Whose logs are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Logs {
    /// Standard input is written to the directories on the command line.
    Named,
    /// `--hosted`: standard input is the log of a service without `log/run`. The working directory is its `log`. The
    /// operands are what messages call that, and for an instance of a template its directory there, such as `@tty1`.
    Hosted,
    /// `--shared`: standard input is a socket of runsvinit, which sends any number of logs. The operands, if there are any,
    /// are the account whose files they are, and what messages call the first of these logs.
    Shared,
}

/// What to do when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Wait, and read no input.
    Wait,
    /// `-L`: drop lines.
    Drop,
    /// `-LL`: drop lines and warn.
    DropAndWarn,
}

/// The settings from the command line that hold for all log directories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) verbose: bool,
    /// svlogd's `-l`, in bytes: lines of this length or longer are long.
    pub(crate) line_max: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) stamp: LineStamp,
    /// Whether the process has logs of other services, too, which must not wait for what this one does.
    pub(crate) is_shared: bool,
}

impl Options {
    /// The settings for all log directories.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            verbose: self.verbose,
            line_max: usize::try_from(self.line_max).unwrap_or(LINE_MAX_LIMIT).min(LINE_MAX_LIMIT),
            when_full: match self.lose {
                0 => WhenFull::Wait,
                1 => WhenFull::Drop,
                _ => WhenFull::DropAndWarn,
            },
            stamp: LineStamp::of_letters(self.t),
            is_shared: self.logs == Logs::Shared,
        }
    }

    /// The bytes to replace, if any.
    pub(crate) fn replacements(&self) -> Option<Replacements> {
        Replacements::new(self.replacement, self.replaced.as_deref())
    }
}

/// Parses the arguments.
///
/// # Errors
///
/// [`Error::Usage`].
pub(crate) fn parse(args: &[OsString]) -> Result<Options> {
    let mut options = Options {
        t: 0,
        replacement: None,
        replaced: None,
        line_max: LINE_MAX_DEFAULT,
        buffer: BUFFER_DEFAULT,
        lose: 0,
        verbose: false,
        logs: Logs::Named,
        directories: Vec::new(),
    };
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let mut parser = lexopt::Parser::from_args(args);
    parser.set_short_equals(false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('t') => options.t = options.t.saturating_add(1),
            Short('r') => {
                let value = parser.value()?;
                let [byte] = value.as_bytes() else {
                    let why = format!("-r {}: has to be one character", value.display());
                    return Err(Error::WrongValue(why));
                };
                options.replacement = Some(*byte);
            }
            Short('R') => options.replaced = Some(parser.value()?.as_bytes().to_vec()),
            Short('l') => {
                options.line_max = or(decimal::leading(parser.value()?.as_bytes()).0, LINE_MAX_DEFAULT);
            }
            Short('b') => options.buffer = or(decimal::leading(parser.value()?.as_bytes()).0, BUFFER_DEFAULT),
            Short('L') => options.lose = options.lose.saturating_add(1),
            Short('v') => options.verbose = true,
            Short('V') => return Err(multicall::version()),
            Long("hosted") => options.logs = Logs::Hosted,
            Long("shared") => options.logs = Logs::Shared,
            Value(directory) => {
                options.directories.push(directory);
                options.directories.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if options.buffer <= options.line_max {
        let Options { buffer, line_max, .. } = options;
        return Err(Error::WrongValue(format!("-b {buffer}: has to be more than -l {line_max}")));
    }
    let is_right_number = match options.logs {
        Logs::Named => !options.directories.is_empty(),
        Logs::Hosted => matches!(options.directories.len(), 1 | 2),
        Logs::Shared => matches!(options.directories.len(), 0 | 2),
    };
    if !is_right_number {
        return Err(Error::usage());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn options_are_counted_and_bounded() {
        let parsed = options(&["-ttv", "-t", "-l20", "-b", "21", "-LL", "a", "-x"]).unwrap();
        assert_eq!((parsed.t, parsed.line_max, parsed.buffer, parsed.lose), (3, 20, 21, 2));
        assert_eq!(parsed.directories, ["a", "-x"]);
        assert_eq!((options(&["-l0", "-b0", "a"]).unwrap().line_max), 1000);
        for words in [
            &[][..],
            &["-t"],
            &["-r", "ab", "a"],
            &["-r", "", "a"],
            &["-l", "1024", "a"],
            &["-b", "1000", "a"],
            &["-x", "a"],
        ] {
            assert!(matches!(options(words), Err(Error::Usage(_) | Error::WrongValue(_))), "{words:?}");
        }
    }

    #[test]
    fn logs_of_services_have_their_number_of_operands() {
        assert_eq!(options(&["--hosted", "/s/log"]).unwrap().logs, Logs::Hosted);
        assert_eq!(options(&["--shared"]).unwrap().logs, Logs::Shared);
        assert_eq!(options(&["--hosted", "/s/log", "@a"]).unwrap().directories, ["/s/log", "@a"]);
        assert!(options(&["--shared", "/s/log", "log"]).unwrap().settings().is_shared);
        for words in [
            &["--hosted"] as &[&str],
            &["--hosted", "a", "b", "c"],
            &["--shared", "a"],
            &["--shared", "a", "b", "c"],
        ] {
            assert!(options(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn each_kind_of_stamp_has_its_number_of_t() {
        let stamp = |words: &[&str]| options(words).unwrap().settings().stamp;
        assert_eq!((stamp(&["a"]), stamp(&["-t", "a"])), (LineStamp::None, LineStamp::Label));
        assert_eq!(
            (stamp(&["-tt", "a"]), stamp(&["-tttt", "a"])),
            (LineStamp::Utc(b'_'), LineStamp::Utc(b'T'))
        );
    }
}
