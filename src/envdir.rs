//! Environment directories: what a file does to the variable of its name. Source: chpst(8), -e.

/// The longest value, in bytes. Linux passes no longer string to a program, and the name of the variable is part of it.
pub const VALUE_MAX: usize = 128 * 1024;
/// The highest number of files in a directory. It is bounded since each change searches the whole environment.
pub const FILES_MAX: usize = 16 * 1024;
/// The highest sum of the lengths of all values, in bytes: more than any program can get.
pub const ALL_MAX: usize = 16 * 1024 * 1024;

/// A change of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set it to this value.
    Set(Vec<u8>),
    /// Remove it.
    Remove,
}

/// The change that a file with this content makes.
///
/// An empty file removes the variable. Any other file sets it to its first line, without the blanks and tabs at the end of
/// the line, and with each NUL replaced by a newline.
#[must_use]
pub fn change_of(content: &[u8]) -> Change {
    if content.is_empty() {
        return Change::Remove;
    }
    let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let kept = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let value = line.iter().take(kept).map(|&byte| if byte == 0 { b'\n' } else { byte }).collect();
    Change::Set(value)
}

/// The environment, each entry `NAME=value`, after the changes, which are made in their order.
///
/// A change first removes all entries of its name, of which there may be several.
#[must_use]
pub fn apply(environment: Vec<Vec<u8>>, changes: &[(Vec<u8>, Change)]) -> Vec<Vec<u8>> {
    let mut result = environment;
    for (name, change) in changes {
        result.retain(|entry| entry.strip_prefix(name.as_slice()).is_none_or(|rest| !rest.starts_with(b"=")));
        if let Change::Set(value) = change {
            result.push([name.as_slice(), b"=", value].concat());
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(value: &[u8]) -> Change {
        Change::Set(value.to_vec())
    }

    #[test]
    fn the_first_line_is_the_value() {
        assert_eq!(change_of(b"1\n2\n"), set(b"1"));
        assert_eq!(change_of(b"no newline"), set(b"no newline"));
        assert_eq!(change_of(b" a b \t \nx"), set(b" a b"));
        assert_eq!(change_of(b"dos\r\n"), set(b"dos\r"));
        assert_eq!(change_of(b"a\0b\n"), set(b"a\nb"));
        assert_eq!(change_of(b"a\0\n"), set(b"a\n"));
        assert_eq!(change_of(b"\n"), set(b""));
        assert_eq!(change_of(b"  "), set(b""));
        assert_eq!(change_of(b""), Change::Remove);
    }

    proptest! {
        /// Whatever was there before: afterwards each name is as its last change made it, and other names are
        /// untouched.
        #[test]
        fn the_last_change_of_a_name_holds(
            before in prop::collection::vec("[A-C]{1,2}=[a-z]{0,2}", 0..6),
            changes in prop::collection::vec(("[A-C]{1,2}", prop::option::of("[a-z]{0,2}")), 0..6),
        ) {
            let changes: Vec<(Vec<u8>, Change)> = changes
                .into_iter()
                .map(|(name, value)| (name.into_bytes(), value.map_or(Change::Remove, |v| set(v.as_bytes()))))
                .collect();
            let before: Vec<Vec<u8>> = before.into_iter().map(String::into_bytes).collect();
            let after = apply(before.clone(), &changes);
            let of = |all: &[Vec<u8>], name: &[u8]| -> Vec<Vec<u8>> {
                all.iter().filter(|e| e.split(|&b| b == b'=').next() == Some(name)).cloned().collect()
            };
            for name in ["A", "B", "C", "AA", "AB", "BA"].map(str::as_bytes) {
                let expected = match changes.iter().rev().find(|(n, _)| n == name) {
                    Some((_, Change::Set(value))) => vec![[name, b"=", value].concat()],
                    Some((_, Change::Remove)) => vec![],
                    None => of(&before, name),
                };
                prop_assert_eq!(of(&after, name), expected);
            }
        }
    }
}
