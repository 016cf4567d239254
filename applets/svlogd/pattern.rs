//! Matches a line against a pattern of `config`. Pure: no I/O. The patterns are neither globs nor regular expressions.
//! Source: svlogd(8), PATTERN MATCHING.
//!
//! | in the pattern  | matches                                                                            |
//! |-----------------|------------------------------------------------------------------------------------|
//! | `*` at the end  | anything                                                                           |
//! | `*X`            | all before the first X, then goes on at that X; later X are never tried            |
//! | `+X`            | one or more X; if the line ends with them, the rest of the pattern is ignored      |
//! | any other byte  | itself                                                                             |
//!
//! The X after `*` is searched literally, and then interpreted as part of the pattern: `**` matches every line with a
//! star in it. A `+` at the end of the pattern, or at the end of the line, matches nothing.

use memchr::memchr;

/// Whether `pattern` matches all of `text`.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    loop {
        match pattern {
            [] => return text.is_empty(),
            [b'*'] => return true,
            [b'*', next @ ..] => {
                let found = next.first().and_then(|&wanted| memchr(wanted, text));
                let Some((_, from_found)) = found.and_then(|at| text.split_at_checked(at)) else {
                    return false;
                };
                (text, pattern) = (from_found, next);
            }
            [b'+', wanted, next @ ..] => {
                let Some(mut after) = text.strip_prefix(&[*wanted]) else { return false };
                while let Some(more) = after.strip_prefix(&[*wanted]) {
                    after = more;
                }
                if after.is_empty() {
                    return true;
                }
                (text, pattern) = (after, next);
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

        /// `*` at the end: the text begins with what is before the `*`.
        #[test]
        fn a_star_at_the_end_is_any_end(head in "[ab]{0,4}", text in "[ab]{0,6}") {
            prop_assert_eq!(m(&format!("{head}*"), &text), text.starts_with(&head));
        }
    }
}
