//! The bytes of `supervise/control` and the commands they are. Source: runsv(8), CONTROL.

/// A signal that a command sends to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGALRM
    Alrm,
    /// SIGCONT
    Cont,
    /// SIGHUP
    Hup,
    /// SIGINT
    Int,
    /// SIGKILL
    Kill,
    /// SIGQUIT
    Quit,
    /// SIGSTOP
    Stop,
    /// SIGTERM
    Term,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
}

/// What a byte asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `u`: run, and run again whenever it ends.
    Up,
    /// `o`: run once.
    Once,
    /// `d`: stop and stay down.
    Down,
    /// `x`: stop, and then leave.
    Exit,
    /// `t`: TERM, without a change of what is wanted.
    Term,
    /// `t` with a `c` right after it, as `sv restart` has it: to end, by the signal that the service wants for that.
    Restart,
    /// `k`: KILL.
    Kill,
    /// `p`: STOP.
    Pause,
    /// `c`: CONT.
    Continue,
    /// `a h i q 1 2`: send this signal.
    Send(Signal),
}

impl Command {
    /// The commands that `bytes` are. What means nothing is left out.
    pub fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.iter().enumerate().filter_map(|(place, &byte)| match byte {
            b't' if bytes.get(place + 1) == Some(&b'c') => Some(Command::Restart),
            byte => Command::from_byte(byte),
        })
    }

    /// The command that `byte` is; `None` for a byte that means nothing, such as the newline `echo` adds.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'u' => Command::Up,
            b'o' => Command::Once,
            b'd' => Command::Down,
            b'x' => Command::Exit,
            b't' => Command::Term,
            b'k' => Command::Kill,
            b'p' => Command::Pause,
            b'c' => Command::Continue,
            b'a' => Command::Send(Signal::Alrm),
            b'h' => Command::Send(Signal::Hup),
            b'i' => Command::Send(Signal::Int),
            b'q' => Command::Send(Signal::Quit),
            b'1' => Command::Send(Signal::Usr1),
            b'2' => Command::Send(Signal::Usr2),
            _ => return None,
        })
    }
}

/// A program `control/C` that may stand in for what a command does.
///
/// The order is that of [`Hook::index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `control/u`, before each start of `./run`.
    Up,
    /// `control/d`, after the service was told to stop.
    Down,
    /// `control/x`, after the service was told to stop for good.
    Exit,
    /// `control/C` instead of the signal.
    Instead(Signal),
}

impl Hook {
    /// How many hooks there are.
    pub const COUNT: usize = 13;

    /// The last letter of the program's name.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Hook::Up => b'u',
            Hook::Down => b'd',
            Hook::Exit => b'x',
            Hook::Instead(signal) => match signal {
                Signal::Alrm => b'a',
                Signal::Cont => b'c',
                Signal::Hup => b'h',
                Signal::Int => b'i',
                Signal::Kill => b'k',
                Signal::Quit => b'q',
                Signal::Stop => b'p',
                Signal::Term => b't',
                Signal::Usr1 => b'1',
                Signal::Usr2 => b'2',
            },
        }
    }

    /// A number below [`Hook::COUNT`], another for each hook.
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Hook::Up => 0,
            Hook::Down => 1,
            Hook::Exit => 2,
            Hook::Instead(signal) => 3 + signal as u32,
        }
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
    fn each_hook_has_a_letter_and_a_number_of_its_own() {
        use Signal::{Alrm, Cont, Hup, Int, Kill, Quit, Stop, Term, Usr1, Usr2};
        let signals = [Alrm, Cont, Hup, Int, Kill, Quit, Stop, Term, Usr1, Usr2];
        let hooks: Vec<Hook> =
            [Hook::Up, Hook::Down, Hook::Exit].into_iter().chain(signals.map(Hook::Instead)).collect();
        let letters: std::collections::BTreeSet<u8> = hooks.iter().map(|hook| hook.byte()).collect();
        let numbers: std::collections::BTreeSet<u32> = hooks.iter().map(|hook| hook.index()).collect();
        assert_eq!(letters.into_iter().collect::<Vec<u8>>(), b"12acdhikpqtux");
        assert_eq!(numbers.into_iter().collect::<Vec<u32>>(), (0..13).collect::<Vec<u32>>());
        assert_eq!(hooks.len(), Hook::COUNT);
    }
}
