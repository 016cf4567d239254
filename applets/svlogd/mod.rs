//! `svlogd`: write standard input to log directories that are rotated. Source: svlogd(8).
//!
//! Input is read in large blocks, and what a block has for a directory is written with one call. No line waits for
//! another: what was read is written before anything else is waited for. Of what was read, only the beginning of a line
//! that has not ended is held back, less than `-l` bytes; so if svlogd is killed, at most one block of 64 KiB and that
//! beginning are gone, and nothing that was not read.
//!
//! Descriptor 0 is left as it is: it is read only when there is something to be read, so it need not be made
//! non-blocking, which would hold for everybody who has it.

#![deny(clippy::arithmetic_side_effects)]

mod config;
mod gzip;
mod line;
mod logdir;
mod pattern;
mod processor;
mod rotate;
mod udp;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use lexopt::Arg::{Short, Value};
use memchr::memrchr;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::process::{WaitOptions, wait};
use svcore::event::{self, Wait, Woken};
use svcore::moment::Moment;
use svcore::say::Message;
use svcore::sys::clock;
use svcore::sys::signals::Signals;
use svcore::{Call, Context, Error, Failed, Result, Signal, decimal, multicall, say, slice, tai};

use line::{Cutter, Piece};
use logdir::{LogDir, Rules, Stamp, WhenFull};

/// What is read at once, when there is little and when there is much.
const BLOCK_SMALL: usize = 8 * 1024;
const BLOCK: usize = 64 * 1024;
/// Lines for a directory are written at the latest when there are as many bytes of them.
const ENOUGH: usize = 128 * 1024;
/// svlogd's `-l` and `-b`, where they are not given or 0.
const LENGTH: u64 = 1000;
const BUFFER: u64 = 1024;
/// A line is looked at up to here, whatever `-l` says: as much is held in memory.
const LENGTH_MAX: usize = 16 * 1024 * 1024;
/// After TERM: how long the end of a line is waited for, and how long all of the rest may take.
const LINE_END: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(4);

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    stamps: u32,
    replacement: Option<u8>,
    /// Replaced too; non-printable bytes are, if this is `Some`.
    replaced: Option<Vec<u8>>,
    length: u64,
    buffer: u64,
    lose: u32,
    verbose: bool,
    dirs: Vec<OsString>,
}

/// Runs the applet until its input ends or it is told to end.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let options = parse(call.args)?;
    let signals = Signals::wait_for(&[Signal::TERM, Signal::HUP, Signal::ALRM, Signal::CHLD])
        .while_doing(|| "unable to open current working directory")?;
    let mut svlogd = Svlogd::new(options);
    svlogd.open_all()?;
    svlogd.serve(&signals)?;
    Ok(0)
}

fn parse(args: &[OsString]) -> Result<Options> {
    let mut options = Options {
        stamps: 0,
        replacement: None,
        replaced: None,
        length: LENGTH,
        buffer: BUFFER,
        lose: 0,
        verbose: false,
        dirs: Vec::new(),
    };
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let mut parser = lexopt::Parser::from_args(args);
    parser.set_short_equals(false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('t') => options.stamps = options.stamps.saturating_add(1),
            Short('r') => match parser.value()?.as_bytes() {
                [byte] => options.replacement = Some(*byte),
                _ => return Err(Error::usage()),
            },
            Short('R') => options.replaced = Some(parser.value()?.as_bytes().to_vec()),
            Short('l') => options.length = or(decimal::leading(parser.value()?.as_bytes()).0, LENGTH),
            Short('b') => options.buffer = or(decimal::leading(parser.value()?.as_bytes()).0, BUFFER),
            Short('L') => options.lose = options.lose.saturating_add(1),
            Short('v') => options.verbose = true,
            Short('V') => return Err(multicall::version()),
            Value(dir) => {
                options.dirs.push(dir);
                options.dirs.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if options.dirs.is_empty() || options.buffer <= options.length {
        return Err(Error::usage());
    }
    Ok(options)
}

struct Svlogd {
    options: Options,
    rules: Rules,
    /// What becomes of a byte of the looked-at part of a line, if that is not itself.
    map: Option<Box<[u8; 256]>>,
    logs: Vec<LogDir>,
    input: Vec<u8>,
    /// How many bytes at its beginning are of a line that has not ended.
    held: usize,
    cutter: Cutter,
    /// What is to be told on standard error.
    told: Vec<u8>,
}

impl Svlogd {
    fn new(options: Options) -> Self {
        let length = usize::try_from(options.length).unwrap_or(LENGTH_MAX).min(LENGTH_MAX);
        let rules = Rules {
            verbose: options.verbose,
            line_max: length,
            when_full: match options.lose {
                0 => WhenFull::Wait,
                1 => WhenFull::Lose,
                _ => WhenFull::Warn,
            },
            stamp: match options.stamps {
                0 => Stamp::None,
                1 => Stamp::Label,
                2 => Stamp::Utc(b'_'),
                _ => Stamp::Utc(b'T'),
            },
        };
        let map = replacements(options.replacement, options.replaced.as_deref());
        Svlogd {
            map,
            rules,
            logs: Vec::new(),
            input: vec![0; BLOCK_SMALL.max(length.saturating_mul(2))],
            held: 0,
            cutter: Cutter::new(length),
            told: Vec::new(),
            options,
        }
    }

    /// Opens all directories, again if they were open.
    fn open_all(&mut self) -> Result<()> {
        let mut before = std::mem::take(&mut self.logs);
        for name in &self.options.dirs {
            let at = before.iter().position(|log| log.name() == name.as_bytes());
            match at.map(|at| before.remove(at)) {
                Some(mut log) => {
                    if log.reopen() {
                        self.logs.push(log);
                    } else {
                        log.work.give_up();
                        log.close();
                    }
                }
                None => self.logs.extend(LogDir::open(name, self.rules)),
            }
        }
        if self.logs.is_empty() {
            Err(Failed::without_cause("no functional log directories.").into())
        } else {
            Ok(())
        }
    }

    fn serve(&mut self, signals: &Signals) -> Result<()> {
        // Set by TERM: when to go whatever is left.
        let mut last: Option<Moment> = None;
        let mut line_end = Moment::START;
        let mut ended = false;
        loop {
            let now = self.now(last.is_some());
            for log in &mut self.logs {
                log.advance(now);
            }
            let behind = self.logs.iter().any(LogDir::is_behind);
            if last.is_some() && (now >= line_end || self.is_between_lines()) {
                ended = true;
            }
            if ended && !behind {
                self.end_of_input();
                for log in &mut self.logs {
                    log.work.ending = true;
                    log.advance(now);
                }
                let busy = self.logs.iter().any(|log| log.is_behind() || log.work.is_busy());
                if !busy {
                    break;
                }
            }
            if last.is_some_and(|last| now >= last) {
                break;
            }
            let (came, readable) =
                self.wait(signals, ended || behind, [last, last.and(Some(line_end)).filter(|_| !ended)]);
            if came {
                let taken = take(signals);
                let now = clock::monotonic();
                if taken.child {
                    self.reap(now);
                }
                if taken.alarm {
                    self.info("sigalarm received.");
                    self.logs.iter_mut().for_each(LogDir::rotate);
                }
                if taken.hangup {
                    self.info("sighangup received.");
                    self.open_all()?;
                }
                if taken.term && last.is_none() {
                    self.info("sigterm received.");
                    last = Some(now.saturating_add(LAST));
                    line_end = now.saturating_add(LINE_END);
                    self.logs.iter_mut().for_each(LogDir::hurry);
                    continue;
                }
            }
            if readable && !ended {
                // After TERM no more is taken than the end of the line.
                ended = self.read(if last.is_some() { 1 } else { usize::MAX });
            }
        }
        for log in &mut self.logs {
            log.work.give_up();
            log.close();
        }
        Ok(())
    }

    /// The monotonic clock, if anybody wants to know.
    fn now(&self, ending: bool) -> Moment {
        let looks = |log: &LogDir| log.config.age.is_some() || log.deadline().is_some() || log.work.is_busy();
        let wanted = ending || self.logs.iter().any(looks);
        if wanted { clock::monotonic() } else { Moment::START }
    }

    fn is_between_lines(&self) -> bool {
        self.held == 0 && !self.cutter.in_long()
    }

    /// Waits for a signal, for input unless there is no room for it, or for a moment.
    fn wait(&self, signals: &Signals, no_input: bool, until: [Option<Moment>; 2]) -> (bool, bool) {
        let until = self.logs.iter().map(LogDir::deadline).chain(until).flatten().min();
        let mut fds = [
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN),
        ];
        let asked = if no_input { 1 } else { 2 };
        let all = event::wait(slice::part_mut(&mut fds, ..asked), Wait::until(until)) == Woken::Unknown;
        let [signal, input] = &fds;
        let came = |fd: &PollFd<'_>| all || !fd.revents().is_empty();
        (came(signal), !no_input && came(input))
    }

    fn reap(&mut self, now: Moment) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.info("sigchild received.");
            let well = status.exit_status() == Some(0);
            for log in &mut self.logs {
                if log.child_ended(pid, well, now) {
                    break;
                }
            }
        }
    }

    fn info(&self, what: &str) {
        if self.rules.verbose {
            Message::info("svlogd", what).print();
        }
    }

    /// Reads once, at most `most` bytes, and hands on what is complete. Whether the input has ended.
    fn read(&mut self, most: usize) -> bool {
        let room = slice::part_mut(&mut self.input, self.held..);
        let room = if room.len() > most { slice::part_mut(room, ..most) } else { room };
        let asked = room.len();
        let length = match rustix::io::read(rustix::stdio::stdin(), &mut *room) {
            Ok(0) => return true,
            Ok(length) => length,
            // Somebody else may have been quicker.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return false,
            Err(errno) => {
                let cause = std::io::Error::from(errno);
                Message::warning("svlogd", "unable to read standard input").because(&cause).print();
                return true;
            }
        };
        let input = std::mem::take(&mut self.input);
        let end = self.held.saturating_add(length);
        let rest = self.hand_on(slice::part(&input, ..end));
        self.input = input;
        self.input.copy_within(end.saturating_sub(rest)..end, 0);
        self.held = rest;
        if length == asked && self.input.len() < BLOCK {
            self.input.resize(BLOCK.saturating_add(self.rules.line_max), 0);
        }
        false
    }

    /// Hands lines to the directories; gives how many bytes at the end are of a line that has not ended.
    fn hand_on(&mut self, bytes: &[u8]) -> usize {
        let mut bytes = bytes;
        let plain = self.rules.stamp == Stamp::None && self.map.is_none();
        if plain && self.logs.iter().all(|log| log.config.is_plain()) {
            // Nobody looks at lines, so all of them go on as one.
            if let Some(end) = memrchr(b'\n', bytes) {
                let (lines, rest) = bytes.split_at(end.saturating_add(1));
                for log in &mut self.logs {
                    log.push(lines);
                    log.selected = true;
                }
                self.cutter = Cutter::new(self.rules.line_max);
                bytes = rest;
            }
        }
        if !bytes.is_empty() {
            let (length, stamp) = match self.rules.stamp {
                Stamp::None => (0, [b' '; Stamp::LENGTH]),
                stamp => stamp.of(&tai::now()),
            };
            let stamp = slice::part(&stamp, ..length);
            while let Some(piece) = self.cutter.cut(&mut bytes) {
                self.hand_on_piece(piece, stamp);
                for log in self.logs.iter_mut().filter(|log| log.unwritten() >= ENOUGH && !log.is_stuck()) {
                    log.advance(clock::monotonic());
                }
            }
        }
        if !self.told.is_empty() {
            say::err(&[&self.told]);
            self.told.clear();
        }
        bytes.len()
    }

    fn hand_on_piece(&mut self, piece: Piece<'_>, stamp: &[u8]) {
        let (text, complete) = match piece {
            Piece::Line(text) => (text, true),
            Piece::Head(text) => (text, false),
            Piece::More(text) | Piece::End(text) => {
                for log in self.logs.iter_mut().filter(|log| log.selected) {
                    log.push(text);
                    if matches!(piece, Piece::End(_)) {
                        log.push(b"\n");
                    }
                }
                return;
            }
        };
        let mapped: Vec<u8>;
        let text = match &self.map {
            Some(map) => {
                mapped =
                    text.iter().map(|&byte| map.get(usize::from(byte)).copied().unwrap_or(byte)).collect();
                &mapped
            }
            None => text,
        };
        for log in &mut self.logs {
            let (selected, tell) = log.config.select(text);
            let prefix = log.config.prefix.as_slice();
            let datagram = |end: &[u8]| [stamp, prefix, text, end].concat();
            let short = if complete { b"\n".as_slice() } else { b"...\n" };
            if tell {
                self.told.extend_from_slice(&datagram(short));
            }
            log.selected = selected;
            if !selected {
                continue;
            }
            if let Some(udp) = &log.udp {
                let datagram = datagram(short);
                let only = udp.only();
                if let Err(warning) = udp.send(&datagram) {
                    let warning = [warning, &datagram].concat();
                    log.push(&warning);
                }
                if only {
                    log.selected = false;
                    continue;
                }
            }
            log.push_line(stamp, text, if complete { b"\n" } else { b"" });
        }
    }

    /// The last line gets the newline that it did not have.
    fn end_of_input(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held > 0 || self.cutter.in_long() {
            let mut last = slice::part(&self.input, ..held).to_vec();
            last.push(b'\n');
            self.hand_on(&last);
        }
    }
}

/// What signals came.
#[derive(Default)]
struct Taken {
    term: bool,
    hangup: bool,
    alarm: bool,
    child: bool,
}

fn take(signals: &Signals) -> Taken {
    let mut taken = Taken::default();
    signals.take(|came| match came.signal {
        Signal::TERM => taken.term = true,
        Signal::HUP => taken.hangup = true,
        Signal::ALRM => taken.alarm = true,
        Signal::CHLD => taken.child = true,
        _ => {}
    });
    taken
}

/// What `-r` and `-R` make of each byte; `None` if nothing changes.
fn replacements(replacement: Option<u8>, replaced: Option<&[u8]>) -> Option<Box<[u8; 256]>> {
    if replacement.is_none() && replaced.is_none() {
        return None;
    }
    let by = replacement.unwrap_or(b'_');
    let mut map = Box::new([by; 256]);
    for byte in (b' '..=b'~').filter(|byte| !replaced.unwrap_or_default().contains(byte)) {
        if let Some(place) = map.get_mut(usize::from(byte)) {
            *place = byte;
        }
    }
    Some(map)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn options_are_counted_and_bounded() {
        let parsed = options(&["-ttv", "-t", "-l20", "-b", "21", "-LL", "a", "-x"]).unwrap();
        assert_eq!((parsed.stamps, parsed.length, parsed.buffer, parsed.lose), (3, 20, 21, 2));
        assert_eq!(parsed.dirs, ["a", "-x"]);
        assert_eq!((options(&["-l0", "-b0", "a"]).unwrap().length), 1000);
        for words in [
            &[][..],
            &["-t"],
            &["-r", "ab", "a"],
            &["-r", "", "a"],
            &["-l", "1024", "a"],
            &["-b", "1000", "a"],
            &["-x", "a"],
        ] {
            assert!(matches!(options(words), Err(Error::Usage(_))), "{words:?}");
        }
    }

    #[test]
    fn bytes_are_replaced() {
        let map = replacements(Some(b':'), Some(b"fb")).unwrap();
        let mapped = |byte: u8| map[usize::from(byte)];
        assert_eq!(
            (mapped(b'f'), mapped(b'a'), mapped(b'\t'), mapped(0xff), mapped(b'~')),
            (b':', b'a', b':', b':', b'~')
        );
        assert_eq!(replacements(None, Some(b"x")).unwrap()[usize::from(b'x')], b'_');
        assert!(replacements(None, None).is_none());
    }
}
