//! `supervise/status`: the 20 bytes in which `runsv` says how its service is; and the text `supervise/stat`.
//!
//! | bytes  | meaning                                                                       |
//! |--------|-------------------------------------------------------------------------------|
//! | 0..12  | TAI64N stamp, big-endian: when `./run` was started, or when it went down      |
//! | 12..16 | process id, little-endian; 0 when no process runs                             |
//! | 16     | 1 when paused                                                                 |
//! | 17     | `u` when wanted up, `d` when wanted down or gone (daemontools also writes 0)  |
//! | 18     | 1 when TERM was sent and the process has not ended yet                        |
//! | 19     | 0 down, 1 running `./run`, 2 running `./finish`                               |
//!
//! The first 18 bytes are those of daemontools' `svstat`.

use rustix::process::Pid;

use crate::tai::Tai64N;

/// Length of the record, in bytes.
pub const LEN: usize = 20;

/// What the service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No process.
    Down,
    /// `./run`.
    Run,
    /// `./finish`.
    Finish,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Run and run again.
    Up,
    /// Stay down, or do not run again.
    Down,
    /// Go down, and let the supervisor leave. The record has `d` for it.
    Exit,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// When the state began; `./finish` keeps the stamp of `./run`.
    pub since: Tai64N,
    /// The process, if there is one.
    pub pid: Option<Pid>,
    /// STOP was sent and no CONT after it.
    pub paused: bool,
    /// What was asked for; `None` where daemontools wrote a 0.
    pub want: Option<Want>,
    /// TERM was sent to this process.
    pub term: bool,
    /// What the service is doing.
    pub state: State,
}

/// The bytes are no status; holds the offset of the first wrong one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub usize);

impl Status {
    /// The bytes of the file.
    #[must_use]
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let pid = self.pid.map_or(0, |pid| pid.as_raw_nonzero().get()).to_le_bytes();
        let tail = [
            u8::from(self.paused),
            match self.want {
                Some(Want::Up) => b'u',
                Some(Want::Down | Want::Exit) => b'd',
                None => 0,
            },
            u8::from(self.term),
            match self.state {
                State::Down => 0,
                State::Run => 1,
                State::Finish => 2,
            },
        ];
        for (to, from) in bytes.iter_mut().zip(self.since.to_bytes().into_iter().chain(pid).chain(tail)) {
            *to = from;
        }
        bytes
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    ///
    /// [`Malformed`] at the first byte that [`encode`](Self::encode) would not have written.
    pub fn decode(bytes: &[u8; LEN]) -> Result<Self, Malformed> {
        let [stamp @ .., p0, p1, p2, p3, paused, want, term, state] = bytes;
        let pid = i32::from_le_bytes([*p0, *p1, *p2, *p3]);
        if pid < 0 {
            return Err(Malformed(12));
        }
        Ok(Status {
            since: Tai64N::from_slice(stamp).map_err(|_| Malformed(8))?,
            pid: Pid::from_raw(pid),
            paused: flag(*paused).ok_or(Malformed(16))?,
            want: match want {
                b'u' => Some(Want::Up),
                b'd' => Some(Want::Down),
                0 => None,
                _ => return Err(Malformed(17)),
            },
            term: flag(*term).ok_or(Malformed(18))?,
            state: match state {
                0 => State::Down,
                1 => State::Run,
                2 => State::Finish,
                _ => return Err(Malformed(19)),
            },
        })
    }

    /// The line of `supervise/stat`, newline included.
    #[must_use]
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut line = match self.state {
            State::Down => b"down".to_vec(),
            State::Run => b"run".to_vec(),
            State::Finish => b"finish".to_vec(),
        };
        if self.paused {
            line.extend_from_slice(b", paused");
        }
        if self.term {
            line.extend_from_slice(b", got TERM");
        }
        if self.state != State::Down {
            match self.want {
                Some(Want::Down) => line.extend_from_slice(b", want down"),
                Some(Want::Exit) => line.extend_from_slice(b", want exit"),
                Some(Want::Up) | None => {}
            }
        }
        line.push(b'\n');
        line
    }
}

const fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tai::stamp;

    fn pid(raw: i32) -> Option<Pid> {
        Pid::from_raw(raw)
    }

    #[test]
    fn the_golden_records_are_those_of_runit() {
        let down = Status {
            since: stamp(0, 0),
            pid: None,
            paused: false,
            want: Some(Want::Up),
            term: false,
            state: State::Down,
        };
        assert_eq!(down.encode(), *b"\x40\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\0\0u\0\0");
        let finish =
            [0x40, 0, 0, 0, 0x6a, 0xff, 0xd8, 0xba, 0x04, 0x07, 0x78, 0xa4, 0x40, 0x19, 0, 0, 0, 0x64, 0, 2];
        let status = Status::decode(&finish).unwrap();
        assert_eq!((status.pid, status.state, status.want), (pid(6464), State::Finish, Some(Want::Down)));
    }

    #[test]
    fn the_text_has_the_words_in_their_order() {
        let mut status = Status {
            since: stamp(0, 0),
            pid: pid(1),
            paused: false,
            want: Some(Want::Up),
            term: false,
            state: State::Run,
        };
        assert_eq!(status.text(), b"run\n");
        (status.term, status.want) = (true, Some(Want::Down));
        assert_eq!(status.text(), b"run, got TERM, want down\n");
        status.paused = true;
        assert_eq!(status.text(), b"run, paused, got TERM, want down\n");
        (status.term, status.want, status.state) = (false, Some(Want::Exit), State::Finish);
        assert_eq!(status.text(), b"finish, paused, want exit\n");
        status.state = State::Down;
        assert_eq!(status.text(), b"down, paused\n");
    }

    proptest! {
        /// Whatever decodes encodes back to the same bytes, so nothing is read that is not kept.
        #[test]
        fn decoding_loses_nothing(
            seconds in any::<u64>(), nanos in 0_u32..1_000_000_000, pid in -1_i32..100_000,
            paused in 0_u8..3, want in prop_oneof![Just(b'u'), Just(b'd'), Just(0), Just(b'x'), any::<u8>()],
            term in 0_u8..3, state in 0_u8..4,
        ) {
            let mut bytes = [0; LEN];
            bytes[..8].copy_from_slice(&seconds.to_be_bytes());
            bytes[8..12].copy_from_slice(&nanos.to_be_bytes());
            bytes[12..16].copy_from_slice(&pid.to_le_bytes());
            bytes[16..].copy_from_slice(&[paused, want, term, state]);
            match Status::decode(&bytes) {
                Ok(status) => prop_assert_eq!(status.encode(), bytes),
                Err(Malformed(at)) => prop_assert!(
                    pid < 0 || paused > 1 || ![0, b'd', b'u'].contains(&want) || term > 1 || state > 2,
                    "refused at {}", at
                ),
            }
        }
    }
}
