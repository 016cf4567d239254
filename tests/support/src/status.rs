//! The record `supervise/status`, as runsv(8) and daemontools have it. The cases do not ask the library under test what
//! its bytes mean.

use std::time::{SystemTime, UNIX_EPOCH};

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No process.
    Down,
    /// `./run`.
    Run,
    /// `./finish`.
    Finish,
}

/// What was asked for. A record has `Down` for `exit` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Run and run again.
    Up,
    /// Do not run again.
    Down,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// When the state began, as a TAI64N stamp.
    pub since: [u8; 12],
    /// The process, if there is one.
    pub pid: Option<i32>,
    /// STOP was sent and no CONT after it.
    pub paused: bool,
    /// What was asked for.
    pub want: Want,
    /// TERM was sent to this process.
    pub term: bool,
    /// What the service is doing.
    pub state: State,
}

/// What a TAI64N stamp has for 1970.
const EPOCH: u64 = (1 << 62) + 10;

/// The TAI64N stamp of a full second since 1970.
pub fn stamp(seconds: u64) -> [u8; 12] {
    let mut stamp = [0; 12];
    stamp[..8].copy_from_slice(&(EPOCH + seconds).to_be_bytes());
    stamp
}

impl Status {
    /// Reads the bytes of the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let bytes: [u8; 20] = bytes.try_into().map_err(|_| format!("{} bytes", bytes.len()))?;
        let wrong = |at: usize| format!("byte {at} is {}", bytes[at]);
        let flag = |at: usize| match bytes[at] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(wrong(at)),
        };
        let pid = i32::from_le_bytes(bytes[12..16].try_into().unwrap());
        Ok(Status {
            since: bytes[..12].try_into().unwrap(),
            pid: match pid {
                ..0 => return Err(format!("the process is {pid}")),
                0 => None,
                _ => Some(pid),
            },
            paused: flag(16)?,
            want: match bytes[17] {
                b'u' => Want::Up,
                b'd' => Want::Down,
                _ => return Err(wrong(17)),
            },
            term: flag(18)?,
            state: match bytes[19] {
                0 => State::Down,
                1 => State::Run,
                2 => State::Finish,
                _ => return Err(wrong(19)),
            },
        })
    }

    /// The bytes of the file.
    pub fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..12].copy_from_slice(&self.since);
        bytes[12..16].copy_from_slice(&self.pid.unwrap_or(0).to_le_bytes());
        bytes[16] = self.paused.into();
        bytes[17] = if self.want == Want::Up { b'u' } else { b'd' };
        bytes[18] = self.term.into();
        bytes[19] = match self.state {
            State::Down => 0,
            State::Run => 1,
            State::Finish => 2,
        };
        bytes
    }

    /// The line that `supervise/stat` has at the same time; it has `want exit` for some of `want down`.
    pub fn text(&self) -> String {
        let state = match self.state {
            State::Down => "down",
            State::Run => "run",
            State::Finish => "finish",
        };
        let paused = if self.paused { ", paused" } else { "" };
        let term = if self.term { ", got TERM" } else { "" };
        let want = if self.state != State::Down && self.want == Want::Down { ", want down" } else { "" };
        format!("{state}{paused}{term}{want}\n")
    }

    /// Seconds since the state began.
    pub fn age(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        (now + EPOCH).saturating_sub(u64::from_be_bytes(self.since[..8].try_into().unwrap()))
    }
}
