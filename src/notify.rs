//! What a service tells of itself, by the messages of sd_notify(3). Without I/O.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3).

use std::time::Duration;

use crate::decimal;

/// The longest message, in bytes. A longer one is ignored.
pub(crate) const MESSAGE_MAX: usize = 4096;
/// The most bytes that are kept of a text about the status.
const TEXT_MAX: usize = 512;
/// How many processes are between a service's process and one of its own, at most.
const GENERATIONS_MAX: usize = 64;

/// One assignment of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// It is ready.
    Ready,
    /// It begins to end.
    Stopping,
    /// It is alive.
    Alive,
    /// It found itself that it does not work any more.
    Failing,
    /// It needs this much more time.
    Extend(Duration),
    /// What it does, for people.
    Status(&'a [u8]),
    /// The number of its main process, as it knows it.
    MainPid(u32),
}

/// The assignments of a message that mean something to us, in their order.
pub(crate) fn words(message: &[u8]) -> impl Iterator<Item = Word<'_>> {
    message.split(|&byte| byte == b'\n').filter_map(word)
}

fn word(line: &[u8]) -> Option<Word<'_>> {
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (line.get(..equals)?, line.get(equals.saturating_add(1)..)?);
    let number = || decimal::whole(value).filter(|_| !value.is_empty());
    match (name, value) {
        (b"READY", b"1") => Some(Word::Ready),
        (b"STOPPING", b"1") => Some(Word::Stopping),
        (b"WATCHDOG", b"1") => Some(Word::Alive),
        (b"WATCHDOG", b"trigger") => Some(Word::Failing),
        (b"EXTEND_TIMEOUT_USEC", _) => number().map(|micros| Word::Extend(Duration::from_micros(micros))),
        (b"STATUS", _) => Some(Word::Status(beginning(value))),
        (b"MAINPID", _) => {
            number().and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0).map(Word::MainPid)
        }
        _ => None,
    }
}

/// At most [`TEXT_MAX`] bytes of a text, which do not end within a character.
fn beginning(text: &[u8]) -> &[u8] {
    let is_boundary = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = text.len().min(TEXT_MAX);
    let end = (end.saturating_sub(3)..=end).rev().find(is_boundary).unwrap_or(end);
    text.get(..end).unwrap_or(text)
}

/// Whether the process `pid` is `ancestor`, or descends from it; `parent` looks up the parent of a process.
pub(crate) fn descends(pid: i32, ancestor: i32, parent: impl Fn(i32) -> Option<i32>) -> bool {
    let parents = std::iter::successors(Some(pid), |&pid| parent(pid).filter(|&parent| parent > 1));
    parents.take(GENERATIONS_MAX).any(|pid| pid == ancestor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_understood_and_others_are_skipped() {
        let message = b"READY=1\nSTATUS=a = b\nMAINPID=42\n\nRELOADING=1\nFDSTORE=1\nX\nWATCHDOG=1\nWATCHDOG=trigger\nSTOPPING=1\nEXTEND_TIMEOUT_USEC=1500000";
        let expected = [
            Word::Ready,
            Word::Status(b"a = b"),
            Word::MainPid(42),
            Word::Alive,
            Word::Failing,
            Word::Stopping,
            Word::Extend(Duration::from_millis(1500)),
        ];
        assert_eq!(words(message).collect::<Vec<_>>(), expected);
        for nothing in
            ["", "READY=0", "READY=1 ", " READY=1", "ready=1", "MAINPID=0", "MAINPID=", "MAINPID=-1"]
        {
            assert_eq!(words(nothing.as_bytes()).next(), None, "{nothing}");
        }
        assert_eq!(words(b"MAINPID=4294967296").next(), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = format!("STATUS={}\u{fc}", "x".repeat(TEXT_MAX - 1));
        assert_eq!(words(long.as_bytes()).next(), Some(Word::Status(&[b'x'; TEXT_MAX - 1])));
        let no_text = [b"STATUS=".as_slice(), &[0x80; 2 * TEXT_MAX]].concat();
        assert_eq!(words(&no_text).next(), Some(Word::Status(&[0x80; TEXT_MAX])));
    }

    #[test]
    fn descent_is_followed_up_to_the_ancestor() {
        let parent = |pid: i32| match pid {
            5 => Some(4),
            4 => Some(3),
            3 => Some(1),
            7 => Some(8),
            8 => Some(7),
            _ => None,
        };
        assert!([3, 4, 5].iter().all(|&pid| descends(pid, 3, parent)));
        assert!([1, 2, 6, 7].iter().all(|&pid| !descends(pid, 3, parent)));
        // An orphan does not descend from process 1, although that is its parent.
        assert!(!descends(3, 1, parent));
    }

    proptest! {
        #[test]
        fn no_message_is_a_panic(message: Vec<u8>) {
            prop_assert!(words(&message).count() <= message.len());
        }
    }
}
