//! Patterns of `config`. They are neither globs nor regular expressions. Source: svlogd(8), PATTERN MATCHING.
//!
//! | in the pattern  | matches                                                                            |
//! |-----------------|------------------------------------------------------------------------------------|
//! | `*` at the end  | anything                                                                           |
//! | `*X`            | all up to the first X, at which matching goes on; no other X is ever tried         |
//! | `+X`            | one or more X; if the text ends among them, it matches whatever comes after        |
//! | any other byte  | itself                                                                             |
//!
//! The X after `*` is looked for literally, and then taken as what it is in the pattern: `**` is "has a star".
//! A `+` at the end, or where the text has ended, matches nothing.

use memchr::memchr;
use svcore::slice;

/// Whether `pattern` matches the whole of `text`.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    loop {
        match pattern {
            [] => return text.is_empty(),
            [b'*'] => return true,
            [b'*', next @ ..] => {
                let Some(at) = next.first().and_then(|&wanted| memchr(wanted, text)) else { return false };
                text = slice::part(text, at..);
                pattern = next;
            }
            [b'+', wanted, next @ ..] => {
                let run = text.iter().take_while(|&byte| byte == wanted).count();
                if run == 0 {
                    return false;
                }
                if run == text.len() {
                    return true;
                }
                text = slice::part(text, run..);
                pattern = next;
            }
            [b'+'] => return false,
            [byte, next @ ..] => match text.split_first() {
                Some((first, rest)) if first == byte => (text, pattern) = (rest, next),
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn m(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn what_runit_was_seen_to_do() {
        assert!(m("*ab", "ab") && m("*ab", "xab") && !m("*ab", "xaxab"));
        assert!(m("+ab", "a") && m("+ab", "aaa") && m("+ab", "ab") && m("+ab", "aab") && !m("+ab", "b"));
        assert!(m("**", "a*b") && !m("**", "ab"));
        assert!(m("*", "") && m("*", "x") && m("", "") && !m("", "x"));
        assert!(m("+*: foo: *", "**: foo: bar") && !m("+*: foo: *", "x: foo: bar"));
        assert!(m("*: DEBUG *", "web: DEBUG x") && !m("*: DEBUG *", "web: a: DEBUG x"));
        assert!(!m("a+", "aa") && !m("+a", ""));
    }

    proptest! {
        /// Without operators a pattern is the text itself.
        #[test]
        fn plain_text_matches_itself_only(text in "[a-c]{0,6}", other in "[a-c]{0,6}") {
            prop_assert_eq!(m(&text, &other), text == other);
        }

        /// `*` at the end: the text begins so.
        #[test]
        fn a_star_at_the_end_is_any_end(head in "[ab]{0,4}", text in "[ab]{0,6}") {
            prop_assert_eq!(m(&format!("{head}*"), &text), text.starts_with(&head));
        }
    }
}
