//! Names, times and amounts as text. Without I/O, but for the local time zone.

use std::time::Duration;

use svcore::listed::Listed;
use svcore::process::Ended;
use svcore::say::{self, printable, printable_text};
use svcore::sys::local_time;
use svcore::tai::{self, Tai64N, human};

/// A name or another text of somebody else, so that it can be shown and nothing of it is lost: a backslash is `\\`, and each
/// byte that is not printable or not UTF-8 is `\xNN`.
pub(super) fn escaped(text: &[u8]) -> String {
    let mut shown = String::new();
    for (number, part) in text.split(|&byte| byte == b'\\').enumerate() {
        if number > 0 {
            shown.push_str(r"\\");
        }
        shown.push_str(&printable_text(part));
    }
    shown
}

/// Prints a line about a service or a file.
pub(super) fn say_of(name: &[u8], words: &str) {
    say::out(&[&printable(name), b": ", words.as_bytes(), b"\n"]);
}

/// The words of a command, escaped, with blanks between them.
pub(super) fn command_line(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| escaped(word)).listed().join(" ")
}

/// A span of time in its largest unit: `42s`, `12m`, `20h`, `3d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long a process ran: below ten seconds with a fraction.
pub(super) fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 10 { format!("{seconds}.{:01}s", time.subsec_millis() / 100) } else { age(seconds) }
}

/// A stamp as RFC 3339 has it, in UTC: `2026-11-21T08:20:00.123456789Z`.
pub(super) fn time(stamp: &Tai64N) -> String {
    let text = human(stamp, b'T');
    let to_seconds = String::from_utf8_lossy(text.get(..19).unwrap_or_default()).into_owned();
    format!("{to_seconds}.{:09}Z", stamp.1)
}

/// A stamp for people: to the second, in local time.
pub(super) fn clock(stamp: &Tai64N) -> String {
    clock_at(stamp, local_time::ahead_of_utc(tai::since_1970(stamp).0))
}

/// The same in a zone that is so many seconds ahead of UTC.
fn clock_at(at: &Tai64N, ahead: i64) -> String {
    let there = tai::stamp(tai::since_1970(at).0.saturating_add(ahead), at.1);
    let text = human(&there, b' ');
    String::from_utf8_lossy(text.get(..19).unwrap_or_default()).into_owned()
}

/// How a process ended: `exit 1`, `KILL`.
pub(super) fn ended(how: Ended) -> String {
    match how {
        Ended::Code(code) => format!("exit {code}"),
        Ended::Signal { signal, .. } => format!("signal {}", signal_name(signal)),
    }
}

/// The name of a signal without `SIG`, or its number.
pub(super) fn signal_name(signal: svcore::Signal) -> String {
    let name = nix::sys::signal::Signal::try_from(signal.number()).ok();
    name.map_or_else(
        || signal.number().to_string(),
        |name| name.as_str().get(3..).unwrap_or_default().to_owned(),
    )
}

/// Bytes of memory: `12 MB`.
pub(super) fn memory(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    match bytes {
        0..MIB => format!("{}K", bytes / KIB),
        _ if bytes < 10 * MIB => format!("{}.{}M", bytes / MIB, bytes % MIB * 10 / MIB),
        _ if bytes < 10_240 * MIB => format!("{}M", bytes / MIB),
        _ => format!("{}G", bytes / (1024 * MIB)),
    }
}

#[cfg(test)]
mod tests {
    use svcore::Signal;
    use svcore::tai::stamp;

    use super::*;

    #[test]
    fn nothing_of_a_name_is_lost() {
        for (name, shown) in [
            (b"web 1".as_slice(), "web 1"),
            (b"a\\xff", r"a\\xff"),
            (b"a\xff", r"a\xff"),
            (b"a\nb\\", r"a\x0ab\\"),
            ("b\u{fc}ro".as_bytes(), "b\u{fc}ro"),
        ] {
            assert_eq!(escaped(name), shown);
        }
    }

    proptest::proptest! {
        /// Two different names never look the same.
        #[test]
        fn what_is_escaped_can_be_unescaped(name: Vec<u8>) {
            let shown = escaped(&name);
            let mut plain = Vec::new();
            let mut rest = shown.as_bytes();
            while let Some((&byte, after)) = rest.split_first() {
                let (byte, after) = match (byte, after) {
                    (b'\\', [b'\\', after @ ..]) => (b'\\', after),
                    (b'\\', [b'x', high, low, after @ ..]) => {
                        let digits = [*high, *low];
                        let digits = std::str::from_utf8(&digits).unwrap();
                        (u8::from_str_radix(digits, 16).unwrap(), after)
                    }
                    (byte, after) => (byte, after),
                };
                plain.push(byte);
                rest = after;
            }
            proptest::prop_assert_eq!(plain, name);
        }
    }

    #[test]
    fn amounts_have_the_unit_that_fits() {
        let ages = [0, 99, 100, 5999, 6000, 172_799, 172_800].map(age);
        assert_eq!(ages, ["0s", "99s", "1m", "99m", "1h", "47h", "2d"]);
        assert_eq!(uptime(Duration::from_millis(1250)), "1.2s");
        assert_eq!([500, 1 << 21, 50 << 20, 40 << 30].map(memory), ["0K", "2.0M", "50M", "40G"]);
        assert_eq!(ended(Ended::Code(111)), "exit 111");
        assert_eq!(ended(Ended::Signal { signal: Signal::KILL, core: false }), "signal KILL");
        assert_eq!(time(&stamp(0, 5)), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(clock_at(&stamp(86_400, 5), 3600), "1970-01-02 01:00:00");
    }
}
