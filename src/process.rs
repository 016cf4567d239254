//! Processes: how one ended.

use std::ffi::CString;

use rustix::process::WaitStatus;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal {
        /// The number of the signal.
        number: u8,
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
        let low = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        if let Some(code) = status.exit_status() {
            Some(Ended::Code(low(code)))
        } else {
            let number = low(status.terminating_signal()?);
            Some(Ended::Signal { number, core: status.as_raw() & CORE != 0 })
        }
    }

    /// The two arguments of `./finish`. Source: runsv(8).
    #[must_use]
    pub fn finish_arguments(self) -> (CString, CString) {
        let (code, status) = match self {
            Ended::Code(code) => (i32::from(code), 0),
            // The second is the low byte of the wait status, in which a core dump is the highest bit.
            Ended::Signal { number, core } => (-1, number | if core { 0x80 } else { 0 }),
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
            Ended::Signal { number, core } => {
                let core = if core { ", core dumped" } else { "" };
                format!("was ended by signal {number}{core}")
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
        assert_eq!(told(Ended::Signal { number: 9, core: false }), "-1 9");
        assert_eq!(told(Ended::Signal { number: 6, core: true }), "-1 134");
    }
}
