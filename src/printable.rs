//! Text of others, made safe to be shown: it can neither forge a line nor control the terminal.

use std::borrow::Cow;

/// `text` with each byte that is not printable as `\xNN`: control characters such as newline and escape, characters that
/// change the direction of writing, and whatever is not UTF-8. Everything else stays as it is.
#[must_use]
pub fn printable(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut shown = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = letter.encode_utf8(&mut bytes).as_bytes();
            if is_printable(letter) { shown.extend_from_slice(bytes) } else { escape(bytes, &mut shown) }
        }
        escape(chunk.invalid(), &mut shown);
    }
    Cow::Owned(shown)
}

/// The same, as a string.
#[must_use]
pub fn printable_text(text: &[u8]) -> String {
    String::from_utf8_lossy(&printable(text)).into_owned()
}

/// Whether a terminal just shows the character, in its place.
fn is_printable(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            // Those that end a line or change the direction of writing.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(bytes: &[u8], shown: &mut Vec<u8>) {
    for byte in bytes {
        shown.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped() {
        for (text, shown) in [
            (b"./web \\ ~".as_slice(), r"./web \ ~"),
            ("b\u{fc}ro \u{65e5}\u{672c} \u{1f600}".as_bytes(), "b\u{fc}ro \u{65e5}\u{672c} \u{1f600}"),
            (b"a\nok: run: b", r"a\x0aok: run: b"),
            (b"\x1b[2J\r\t\x7f\0", r"\x1b[2J\x0d\x09\x7f\x00"),
            ("\u{9b}2J".as_bytes(), r"\xc2\x9b2J"),
            (b"\xff\xc3", r"\xff\xc3"),
            ("\u{202e}gpj.\u{2066}".as_bytes(), r"\xe2\x80\xaegpj.\xe2\x81\xa6"),
            ("\u{2028}".as_bytes(), r"\xe2\x80\xa8"),
        ] {
            assert_eq!(printable_text(text), shown.replace("\\\\", "\\"));
        }
    }
}
