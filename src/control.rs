//! The commands that are written to `supervise/control`, one byte each. Source: runsv(8), CONTROL.

use crate::Signal;

/// A command to runsv.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `u`: start the service, and start it again whenever it ends.
    Up,
    /// `o`: start the service once.
    Once,
    /// `d`: stop and stay down.
    Down,
    /// `x`: stop, and then runsv exits.
    Exit,
    /// `t`: send TERM; whether the service is wanted up or down stays as it is.
    Term,
    /// `t` directly followed by `c`, which is what `sv restart` writes: stop the service by the signal that it chose for that,
    /// and start it again.
    Restart,
    /// `k`: send KILL.
    Kill,
    /// `p`: send STOP.
    Pause,
    /// `c`: send CONT.
    Continue,
    /// `a h i q 1 2`: send this signal.
    Send(Signal),
}

impl Command {
    /// The commands in `bytes`. Bytes that are no command are ignored.
    pub(crate) fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.iter().enumerate().filter_map(|(place, &byte)| match byte {
            b't' if bytes.get(place + 1) == Some(&b'c') => Some(Command::Restart),
            byte => Command::from_byte(byte),
        })
    }

    /// The bytes that a client writes for this command. For [`Command::Restart`] that includes [`Command::Continue`]: a
    /// stopped process would not react to the first.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Command::Up => b"u",
            Command::Once => b"o",
            Command::Down => b"d",
            Command::Exit => b"x",
            Command::Term => b"t",
            Command::Restart => b"tc",
            Command::Kill => b"k",
            Command::Pause => b"p",
            Command::Continue => b"c",
            Command::Send(Signal::ALRM) => b"a",
            Command::Send(Signal::HUP) => b"h",
            Command::Send(Signal::INT) => b"i",
            Command::Send(Signal::QUIT) => b"q",
            Command::Send(Signal::USR1) => b"1",
            Command::Send(Signal::USR2) => b"2",
            // No byte sends it.
            Command::Send(_) => b"",
        }
    }

    /// The command of a byte; `None` if it is none, such as the newline that `echo` adds.
    #[must_use]
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'u' => Command::Up,
            b'o' => Command::Once,
            b'd' => Command::Down,
            b'x' => Command::Exit,
            b't' => Command::Term,
            b'k' => Command::Kill,
            b'p' => Command::Pause,
            b'c' => Command::Continue,
            b'a' => Command::Send(Signal::ALRM),
            b'h' => Command::Send(Signal::HUP),
            b'i' => Command::Send(Signal::INT),
            b'q' => Command::Send(Signal::QUIT),
            b'1' => Command::Send(Signal::USR1),
            b'2' => Command::Send(Signal::USR2),
            _ => return None,
        })
    }
}

/// A program `control/C` that runsv runs for a command C. Source: runsv(8), CUSTOMIZE CONTROL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `control/u`: before each start of `./run`.
    Up,
    /// `control/d`: after a command to stop.
    Down,
    /// `control/x`: after a command to stop and exit.
    Exit,
    /// `control/a`: instead of ALRM.
    Alrm,
    /// `control/c`: instead of CONT.
    Cont,
    /// `control/h`: instead of HUP.
    Hup,
    /// `control/i`: instead of INT.
    Int,
    /// `control/k`: instead of KILL.
    Kill,
    /// `control/q`: instead of QUIT.
    Quit,
    /// `control/p`: instead of STOP.
    Stop,
    /// `control/t`: instead of TERM.
    Term,
    /// `control/1`: instead of USR1.
    Usr1,
    /// `control/2`: instead of USR2.
    Usr2,
}

impl Hook {
    /// All of them, in the order of [`Hook::index`].
    const ALL: [Hook; Hook::COUNT] = [
        Hook::Up,
        Hook::Down,
        Hook::Exit,
        Hook::Alrm,
        Hook::Cont,
        Hook::Hup,
        Hook::Int,
        Hook::Kill,
        Hook::Quit,
        Hook::Stop,
        Hook::Term,
        Hook::Usr1,
        Hook::Usr2,
    ];

    /// How many hooks there are.
    pub(crate) const COUNT: usize = 13;

    /// The hook that runs before this signal is sent, and may replace it; `None` for a signal without a hook.
    #[must_use]
    pub(crate) fn instead_of(signal: Signal) -> Option<Self> {
        Hook::ALL.into_iter().find(|hook| hook.signal() == Some(signal))
    }

    /// The signal that this hook may replace; `None` for a hook that replaces nothing.
    #[must_use]
    pub(crate) const fn signal(self) -> Option<Signal> {
        Some(match self {
            Hook::Up | Hook::Down | Hook::Exit => return None,
            Hook::Alrm => Signal::ALRM,
            Hook::Cont => Signal::CONT,
            Hook::Hup => Signal::HUP,
            Hook::Int => Signal::INT,
            Hook::Kill => Signal::KILL,
            Hook::Quit => Signal::QUIT,
            Hook::Stop => Signal::STOP,
            Hook::Term => Signal::TERM,
            Hook::Usr1 => Signal::USR1,
            Hook::Usr2 => Signal::USR2,
        })
    }

    /// The letter that is the name of the program.
    #[must_use]
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Hook::Up => b'u',
            Hook::Down => b'd',
            Hook::Exit => b'x',
            Hook::Alrm => b'a',
            Hook::Cont => b'c',
            Hook::Hup => b'h',
            Hook::Int => b'i',
            Hook::Kill => b'k',
            Hook::Quit => b'q',
            Hook::Stop => b'p',
            Hook::Term => b't',
            Hook::Usr1 => b'1',
            Hook::Usr2 => b'2',
        }
    }

    /// Its own number below [`Hook::COUNT`].
    #[must_use]
    pub(crate) const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fourteen_letters_are_commands() {
        let letters: Vec<u8> = (0..=255).filter(|&byte| Command::from_byte(byte).is_some()).collect();
        assert_eq!(letters, b"12acdhikopqtux");
    }

    #[test]
    fn term_before_cont_is_a_restart() {
        let all: Vec<Command> = Command::all(b"t\ntcut").collect();
        assert_eq!(all, [Command::Term, Command::Restart, Command::Continue, Command::Up, Command::Term]);
    }

    #[test]
    fn what_a_client_writes_is_what_the_supervisor_reads() {
        let of_a_byte = (0..=255).filter_map(Command::from_byte);
        for command in of_a_byte {
            assert_eq!(Command::all(command.bytes()).collect::<Vec<_>>(), [command]);
        }
        let restart: Vec<Command> = Command::all(Command::Restart.bytes()).collect();
        assert_eq!(restart, [Command::Restart, Command::Continue]);
    }

    #[test]
    fn each_hook_has_a_letter_and_a_number_of_its_own() {
        let hooks = Hook::ALL;
        let letters: std::collections::BTreeSet<u8> = hooks.iter().map(|hook| hook.byte()).collect();
        let numbers: std::collections::BTreeSet<u32> = hooks.iter().map(|hook| hook.index()).collect();
        assert_eq!(letters.into_iter().collect::<Vec<u8>>(), b"12acdhikpqtux");
        assert_eq!(numbers.into_iter().collect::<Vec<u32>>(), (0..13).collect::<Vec<u32>>());
        let signals = Hook::ALL.into_iter().filter_map(Hook::signal);
        assert!(
            signals.clone().count() == 10 && signals.into_iter().all(|it| Hook::instead_of(it).is_some())
        );
    }
}
