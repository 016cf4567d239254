//! `supervise/state`: what others may want to know of a service and the 20 bytes of `supervise/status` have no room for.
//!
//! Lines of a name, a blank and a value, in any order. A reader skips lines whose name or value it does not know. The
//! file is absent where nothing of this is used.
//!
//! | line                       | meaning                                                                          |
//! |----------------------------|----------------------------------------------------------------------------------|
//! | `ready @STAMP`             | the service told, at this time, that it is ready                                 |
//! | `ready no`                 | it can tell that, and has not; or it does not run, and is wanted up              |
//! | `done @STAMP`              | it exited 0 at this time, and that was all it was to do                          |
//! | `given-up REASON`          | it is not started any more, until a command asks for it                          |
//! | `waits NAME`               | it is not started before this service is ready; a line for each                  |
//! | `message TEXT`             | what it told of itself                                                           |
//! | `main-pid NUMBER`          | the process that it named as its main one                                        |
//! | `next-start @STAMP`        | it is not started before this time                                               |
//! | `supervisor PID START NAMESPACE` | who wrote the file, see [`Tag`]                                            |
//! | `starts NUMBER`            | how often `./run` was started since the supervisor began                         |
//! | `end @STAMP KIND N MILLIS` | an end of `./run`: KIND is `exit` or `signal`, N its number, MILLIS the time it ran |
//! | `out-of-memory @STAMP`     | when `./run` ended at this time, the kernel had killed processes of it for lack of memory |
//!
//! STAMP is a TAI64N label of 24 hexadecimal digits. Of `end` there are at most [`ENDS_MAX`] lines, the latest first. In a
//! REASON, NAME or TEXT, control characters and backslashes are written as `\xNN`; all other bytes are as they are.
//!
//! Source: runit-service(5), "supervise/state".

use std::time::Duration;

use crate::Signal;
use crate::decimal;
use crate::proc_stat::{ProcStat, Tag};
use crate::process::Ended;
use crate::tai::{Tai64, Tai64N};

/// How many ends are kept.
pub const ENDS_MAX: usize = 5;
/// The longest file that is read, in bytes.
pub const LEN_MAX: usize = 16 * 1024;

/// What `supervise/state` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Whether the service is ready; `None`: it has no way to tell.
    pub readiness: Option<Readiness>,
    /// When it exited 0, if that was all it was to do.
    pub done: Option<Tai64N>,
    /// Why it is not started any more.
    pub given_up: Option<String>,
    /// The services that it waits for.
    pub waits: Vec<Vec<u8>>,
    /// What it told of itself.
    pub message: Option<Vec<u8>>,
    /// The process that it named as its main one.
    pub main_pid: Option<u32>,
    /// It is down, and not started before this time.
    pub next_start: Option<Tai64N>,
    /// Who wrote this.
    pub supervisor: Option<Tag>,
    /// How often `./run` was started since the supervisor began.
    pub starts: u64,
    /// The last ends of `./run`, the latest first.
    pub ends: Vec<End>,
    /// The time of the last end before which the kernel killed processes of the service for lack of memory.
    pub out_of_memory: Option<Tai64N>,
}

/// Whether a service is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Since when.
    Ready(Tai64N),
    /// It has not told so yet.
    NotReady,
}

/// An end of `./run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Tai64N,
    /// How.
    pub how: Ended,
    /// How long it had run.
    pub uptime: Duration,
}

impl Readiness {
    /// Whether it is ready.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Readiness::Ready(_))
    }
}

impl Facts {
    /// Whether the supervisor that wrote this still runs: another one, which does not write such a file, may serve the
    /// service now. Without `/proc`, and from another PID namespace, nobody can tell, and it counts as running.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let Some(supervisor) = self.supervisor.filter(Tag::is_neighbour) else { return true };
        ProcStat::of(supervisor.pid).is_some_and(|stat| stat.start == supervisor.start && !stat.is_zombie)
    }

    /// Whether `./run` has ended and is not started again by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.done.is_some() || self.given_up.is_some()
    }

    /// The content of the file; `None` if there is nothing to write.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b" ", value, b"\n"] {
                text.extend_from_slice(part);
            }
        };
        match self.readiness {
            Some(Readiness::Ready(at)) => line("ready", label(&at).as_bytes()),
            Some(Readiness::NotReady) => line("ready", b"no"),
            None => {}
        }
        if let Some(at) = &self.done {
            line("done", label(at).as_bytes());
        }
        if let Some(reason) = &self.given_up {
            line("given-up", &escaped(reason.as_bytes()));
        }
        for name in &self.waits {
            line("waits", &escaped(name));
        }
        if let Some(message) = &self.message {
            line("message", &escaped(message));
        }
        if let Some(pid) = self.main_pid {
            line("main-pid", pid.to_string().as_bytes());
        }
        if let Some(at) = &self.next_start {
            line("next-start", label(at).as_bytes());
        }
        if let Some(Tag { pid, start, namespace }) = self.supervisor {
            line("supervisor", format!("{pid} {start} {namespace}").as_bytes());
        }
        if self.starts > 0 {
            line("starts", self.starts.to_string().as_bytes());
        }
        for End { at, how, uptime } in &self.ends {
            let (kind, number) = match how {
                Ended::Code(code) => ("exit", i32::from(*code)),
                Ended::Signal { signal, .. } => ("signal", signal.number()),
            };
            line("end", format!("{} {kind} {number} {}", label(at), uptime.as_millis()).as_bytes());
        }
        if let Some(at) = &self.out_of_memory {
            line("out-of-memory", label(at).as_bytes());
        }
        (!text.is_empty()).then_some(text)
    }

    /// Reads the content of the file.
    #[must_use]
    pub fn decode(text: &[u8]) -> Self {
        let mut facts = Facts::default();
        for line in text.split(|&byte| byte == b'\n') {
            let Some(blank) = line.iter().position(|&byte| byte == b' ') else { continue };
            let (name, value) = line.split_at(blank);
            let value = value.get(1..).unwrap_or_default();
            facts.note(name, value);
        }
        facts
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"ready" if value == b"no" => self.readiness = Some(Readiness::NotReady),
            b"ready" => self.readiness = stamp_of(value).map(Readiness::Ready).or(self.readiness),
            b"done" => self.done = stamp_of(value),
            b"given-up" => {
                self.given_up = Some(String::from_utf8_lossy(&unescaped(value)).into_owned());
            }
            b"waits" => self.waits.push(unescaped(value)),
            b"message" => self.message = Some(unescaped(value)),
            b"main-pid" => self.main_pid = number(value),
            b"next-start" => self.next_start = stamp_of(value),
            b"supervisor" => self.supervisor = tag_of(value),
            b"starts" => self.starts = number(value).unwrap_or(0),
            b"out-of-memory" => self.out_of_memory = stamp_of(value),
            b"end" if self.ends.len() < ENDS_MAX => self.ends.extend(end_of(value)),
            _ => {}
        }
    }
}

fn tag_of(value: &[u8]) -> Option<Tag> {
    let mut words = value.split(|&byte| byte == b' ').map(number::<u64>);
    let pid = i32::try_from(words.next()??).ok()?;
    Some(Tag { pid, start: words.next()??, namespace: words.next()?? })
}

fn end_of(value: &[u8]) -> Option<End> {
    let mut words = value.split(|&byte| byte == b' ');
    let at = stamp_of(words.next()?)?;
    let kind = words.next()?;
    let which = words.next()?;
    let how = match kind {
        b"exit" => Ended::Code(number(which)?),
        b"signal" => Ended::Signal { signal: Signal::from_number(number(which)?)?, core: false },
        _ => return None,
    };
    Some(End { at, how, uptime: Duration::from_millis(number(words.next()?)?) })
}

fn number<N: TryFrom<u64>>(text: &[u8]) -> Option<N> {
    let number = decimal::whole(text).filter(|_| !text.is_empty())?;
    N::try_from(number).ok()
}

/// A stamp as TAI64N label.
fn label(stamp: &Tai64N) -> String {
    format!("@{:016x}{:08x}", stamp.0.0, stamp.1)
}

fn stamp_of(label: &[u8]) -> Option<Tai64N> {
    let digits = label.strip_prefix(b"@").filter(|digits| digits.len() == 24)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let (seconds, nanos) = std::str::from_utf8(digits).ok()?.split_at(16);
    let nanos = u32::from_str_radix(nanos, 16).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Tai64N(Tai64(u64::from_str_radix(seconds, 16).ok()?), nanos))
}

/// `text` without bytes that would end a line: control characters and backslashes are `\xNN`.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_control() || byte == b'\\' {
            escaped.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        } else {
            escaped.push(byte);
        }
    }
    escaped
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = match (byte, after) {
            (b'\\', [b'x', high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        plain.push(code.unwrap_or(byte));
        rest = after.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    plain
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tai::stamp;

    fn full() -> Facts {
        let mut facts = Facts {
            readiness: Some(Readiness::Ready(stamp(1000, 5))),
            done: Some(stamp(1001, 0)),
            given_up: Some("5 ends in 60 s".to_owned()),
            waits: vec![b"db".to_vec(), b"a b\n\\x".to_vec()],
            message: Some(b"listening".to_vec()),
            main_pid: Some(812),
            next_start: Some(stamp(1002, 0)),
            supervisor: Some(Tag { pid: 77, start: 123_456, namespace: 4_026_531_836 }),
            starts: 9,
            ends: Vec::new(),
            out_of_memory: Some(stamp(1003, 0)),
        };
        for code in 3..7 {
            let how = Ended::Code(code);
            facts
                .ends
                .insert(0, End { at: stamp(i64::from(code), 1), how, uptime: Duration::from_millis(1234) });
        }
        let how = Ended::Signal { signal: Signal::KILL, core: false };
        facts.ends.insert(0, End { at: stamp(2000, 999_999_999), how, uptime: Duration::ZERO });
        facts
    }

    #[test]
    fn the_lines_are_those_of_the_manual_page() {
        let text = String::from_utf8(full().encode().unwrap()).unwrap();
        assert_eq!(
            text,
            "ready @40000000000003f200000005\ndone @40000000000003f300000000\ngiven-up 5 ends in 60 s\nwaits db\n\
             waits a b\\x0a\\x5cx\nmessage listening\nmain-pid 812\n\
             next-start @40000000000003f400000000\nsupervisor 77 123456 4026531836\nstarts 9\n\
             end @40000000000007da3b9ac9ff signal 9 0\nend @400000000000001000000001 exit 6 1234\n\
             end @400000000000000f00000001 exit 5 1234\nend @400000000000000e00000001 exit 4 1234\n\
             end @400000000000000d00000001 exit 3 1234\n\
             out-of-memory @40000000000003f500000000\n"
        );
        assert_eq!(Facts::default().encode(), None);
    }

    #[test]
    fn what_is_not_known_is_skipped() {
        let facts =
            Facts::decode(b"colour blue\nready maybe\nstarts -1\nend @40 exit 1 2\n\nready\nstarts 3");
        assert_eq!(facts, Facts { starts: 3, ..Facts::default() });
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(name: Vec<u8>, reason: String, starts: u64) {
            let facts = Facts { waits: vec![name], given_up: Some(reason), starts, ..full() };
            prop_assert_eq!(Facts::decode(&facts.encode().unwrap()), facts);
        }

        #[test]
        fn nothing_that_is_read_is_a_panic(text: Vec<u8>) {
            let _ = Facts::decode(&text);
        }
    }
}
