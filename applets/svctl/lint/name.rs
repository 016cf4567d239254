//! Names of services. Without I/O.

/// Why a name makes trouble; `None` if it makes none.
pub(in super::super) fn fault(name: &[u8]) -> Option<&'static str> {
    let has = |bytes: &[u8]| name.iter().any(|byte| bytes.contains(byte));
    if name.is_empty() {
        Some("it is empty")
    } else if name.starts_with(b".") {
        Some("runsvdir skips names that begin with a dot")
    } else if name.starts_with(b"-") {
        Some("programs take it for an option")
    } else if has(b"/\0") {
        Some("no file can have it")
    } else if name.iter().any(u8::is_ascii_control) {
        Some("it has a control character, so what sv prints cannot be parsed")
    } else if has(b" ;") {
        Some("it has a blank or a semicolon, so what sv prints cannot be parsed")
    } else if std::str::from_utf8(name).is_err() {
        Some("it is not UTF-8, so what sv prints cannot be parsed")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_programs_cannot_parse_are_found() {
        for name in ["web", "web-1", "getty@tty1", "a.b", "\u{e4}", "a:b", "_x", "1"] {
            assert_eq!(fault(name.as_bytes()), None, "{name}");
        }
        for name in [&b""[..], b".a", b"-a", b"a b", b"a\nb", b"a;b", b"a\xff", b"a/b", b"a\x7fb"] {
            assert!(fault(name).is_some(), "{name:?}");
        }
    }
}
