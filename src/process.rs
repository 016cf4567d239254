//! Processes: how one ended.

use std::ffi::CString;

use rustix::process::WaitStatus;

use crate::Signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal {
        /// The signal.
        signal: Signal,
        /// Whether a core was dumped.
        core: bool,
    },
}

impl Ended {
    /// What wait(2) reported; `None` if the process was only stopped or continued.
    #[must_use]
    pub fn from_status(status: WaitStatus) -> Option<Self> {
        /// Set in the wait status when a core was dumped.
        const CORE: i32 = 0x80;
        if let Some(code) = status.exit_status() {
            Some(Ended::Code(u8::try_from(code).unwrap_or(u8::MAX)))
        } else {
            let signal = Signal::from_number(status.terminating_signal()?)?;
            Some(Ended::Signal { signal, core: status.as_raw() & CORE != 0 })
        }
    }

    /// The two arguments of `./finish`. Source: runsv(8).
    #[must_use]
    pub(crate) fn finish_arguments(self) -> (CString, CString) {
        let (code, status) = match self {
            Ended::Code(code) => (i32::from(code), 0),
            // The second is the low byte of the wait status, in which a core dump is the highest bit.
            Ended::Signal { signal, core } => (-1, signal.number() | if core { 0x80 } else { 0 }),
        };
        (
            CString::new(code.to_string()).unwrap_or_default(),
            CString::new(status.to_string()).unwrap_or_default(),
        )
    }

    /// The same in words, to be put after the name of the program.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Ended::Code(code) => format!("exited with {code}"),
            Ended::Signal { signal, core } => {
                let core = if core { ", core dumped" } else { "" };
                format!("was ended by signal {}{core}", signal.number())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finish_is_told_what_ended_run() {
        let told = |how: Ended| {
            let (code, status) = how.finish_arguments();
            format!("{} {}", code.to_str().unwrap(), status.to_str().unwrap())
        };
        assert_eq!(told(Ended::Code(3)), "3 0");
        assert_eq!(told(Ended::Signal { signal: Signal::KILL, core: false }), "-1 9");
        assert_eq!(told(Ended::Signal { signal: Signal::ABRT, core: true }), "-1 134");
    }
}
