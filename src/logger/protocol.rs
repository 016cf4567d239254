//! What a supervisor and its logger send each other, one packet each. Pure: no I/O.
//!
//! | from       | kind | then                                       | descriptors           |
//! |------------|------|--------------------------------------------|-----------------------|
//! | supervisor | `k`  | number, message, instance, null byte, name | pipe, directory `log` |
//! | supervisor | `s`  | number, number of the signal               |                       |
//! | logger     | `e`  | number, exit code, message                 |                       |
//! | logger     | `e`  | number, minus number of signal, message    |                       |
//!
//! The instance is empty for a service that is none. Of a message there is the hash, and 0 if there is no message. It and the
//! number of a log have 8 bytes, other numbers have 4, each with the lowest byte first. The supervisor and its logger are the
//! same executable, so there are no versions.

use crate::Signal;
use crate::process::Ended;

/// The number that a supervisor gives to a log. No two logs have the same, not even one after the other.
pub type LogNumber = u64;

/// The longest packet, in bytes; longer names are cut.
pub const PACKET_MAX: usize = 1024;

/// What the supervisor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// Keep a log, whose pipe and directory come with the packet.
    Keep {
        /// The log from now on.
        number: LogNumber,
        /// Why it could not be kept a short time ago, which was reported then: the hash of that message, or 0.
        reported: u64,
        /// The directory of an instance of a template in that of the log, such as `@tty1`; empty for no instance.
        instance: &'a [u8],
        /// What messages call it.
        name: &'a [u8],
    },
    /// Treat the log as svlogd would if it got this signal.
    Signal {
        /// The log.
        number: LogNumber,
        /// The signal.
        signal: Signal,
    },
}

/// What the logger reports: a log is closed and nothing of it is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The log.
    pub number: LogNumber,
    /// How an svlogd of its own would have ended.
    pub how: Ended,
    /// Why it was not kept at all, if that was reported now: the hash of the message, or 0.
    pub reported: u64,
}

impl<'a> Order<'a> {
    /// The log that it is about.
    #[must_use]
    pub const fn number(&self) -> LogNumber {
        match self {
            Order::Keep { number, .. } | Order::Signal { number, .. } => *number,
        }
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Order::Keep { number, reported, instance, name } => {
                let (number, reported) = (number.to_le_bytes(), reported.to_le_bytes());
                let mut packet = [b"k".as_slice(), &number, &reported, instance, b"\0", name].concat();
                packet.truncate(PACKET_MAX);
                packet
            }
            Order::Signal { number, signal } => {
                [b"s", number.to_le_bytes().as_slice(), &signal.number().to_le_bytes()].concat()
            }
        }
    }

    /// The order in a packet; `None` if it is none.
    #[must_use]
    pub fn decode(packet: &'a [u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let number = LogNumber::from_le_bytes(*number);
        match kind {
            b'k' => {
                let (reported, rest) = rest.split_first_chunk()?;
                let reported = u64::from_le_bytes(*reported);
                let end = rest.iter().position(|&byte| byte == 0)?;
                let (instance, name) = (rest.get(..end)?, rest.get(end.checked_add(1)?..)?);
                Some(Order::Keep { number, reported, instance, name })
            }
            b's' => {
                let signal = Signal::from_number(i32::from_le_bytes(rest.try_into().ok()?))?;
                Some(Order::Signal { number, signal })
            }
            _ => None,
        }
    }
}

impl Closed {
    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let how = match self.how {
            Ended::Code(code) => i32::from(code),
            Ended::Signal { signal, .. } => signal.number().saturating_neg(),
        };
        let (number, reported) = (self.number.to_le_bytes(), self.reported.to_le_bytes());
        [b"e".as_slice(), &number, &how.to_le_bytes(), &reported].concat()
    }

    /// The report in a packet; `None` if it is none.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (number, rest) = packet.strip_prefix(b"e")?.split_first_chunk()?;
        let (how, reported) = rest.split_first_chunk()?;
        let reported = u64::from_le_bytes(reported.try_into().ok()?);
        let how = match i32::from_le_bytes(*how) {
            code @ 0.. => Ended::Code(u8::try_from(code).ok()?),
            signal => Ended::Signal { signal: Signal::from_number(signal.checked_neg()?)?, core: false },
        };
        Some(Closed { number: LogNumber::from_le_bytes(*number), how, reported })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is sent is what arrives, and whatever arrives, nothing panics.
        #[test]
        fn packets_arrive_as_they_were_sent(
            number: u64,
            reported: u64,
            instance in prop::collection::vec(1..255_u8, 0..20),
            name in prop::collection::vec(any::<u8>(), 0..50),
            signal in 1..31_i32,
            code: u8,
            noise in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let orders = [
                Some(Order::Keep { number, reported, instance: &instance, name: &name }),
                Signal::from_number(signal).map(|signal| Order::Signal { number, signal }),
            ];
            for order in orders.into_iter().flatten() {
                let packet = order.encode();
                prop_assert_eq!(Order::decode(&packet), Some(order));
            }
            let ends = [Some(Ended::Code(code)), Signal::from_number(signal).map(|signal| Ended::Signal { signal, core: false })];
            for how in ends.into_iter().flatten() {
                let closed = Closed { number, how, reported };
                prop_assert_eq!(Closed::decode(&closed.encode()), Some(closed));
            }
            let _ = (Order::decode(&noise), Closed::decode(&noise));
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = [b'x'; 5000];
        assert_eq!(
            Order::Keep { number: 1, reported: 0, instance: b"", name: &name }.encode().len(),
            PACKET_MAX
        );
    }
}
