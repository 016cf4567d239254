//! Users and groups from the text of `/etc/passwd` and `/etc/group`, and the argument of `chpst -u`.
//!
//! The functions of the C library are not used: in a static program they cannot load plug-ins for other sources of users,
//! and chpst(8) names these two files only.

use std::fmt;

/// The user and the groups that a program gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The groups; the first is the group of the process. Never empty.
    pub gids: Vec<u32>,
}

/// Why an argument names no user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No such user, or no such group.
    Unknown,
    /// A number is missing. It must not count as 0, which is root.
    Empty,
    /// A number has other characters than digits, or is larger than an id can be. Holds what follows the leading colon.
    Numbers(Vec<u8>),
    /// The file could not be read.
    Unreadable,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Unknown => "unknown user or group",
            Refused::Empty => "empty uid or gid",
            Refused::Numbers(_) => "invalid uid or gids",
            Refused::Unreadable => "unreadable user or group file",
        })
    }
}

/// Looks `spec` up: `user`, `user:group…` by name, `:uid:gid…` by number.
///
/// `passwd` and `group` return the text of the files; each is called at most once, and only if needed.
/// Source: chpst(8), -u.
///
/// # Errors
///
/// [`Refused`].
pub fn find(
    spec: &[u8],
    passwd: impl FnOnce() -> Option<Vec<u8>>,
    group: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<Ids, Refused> {
    let (mut passwd, mut group) = (Some(passwd), Some(group));
    find_in(spec, &mut || passwd.take()?(), &mut || group.take()?())
}

/// The same, once for all kinds of files.
fn find_in(
    spec: &[u8],
    passwd: &mut dyn FnMut() -> Option<Vec<u8>>,
    group: &mut dyn FnMut() -> Option<Vec<u8>>,
) -> Result<Ids, Refused> {
    if let Some(numbers) = spec.strip_prefix(b":") {
        return by_number(numbers);
    }
    let mut names = spec.split(|&byte| byte == b':');
    let user = names.next().unwrap_or_default();
    let text = passwd().ok_or(Refused::Unreadable)?;
    let (uid, gid) = user_in(&text, user).ok_or(Refused::Unknown)?;
    let mut names = names.peekable();
    if names.peek().is_none() {
        return Ok(Ids { uid, gids: vec![gid] });
    }
    let text = group().ok_or(Refused::Unreadable)?;
    let gids =
        names.map(|name| group_in(&text, name)).collect::<Option<Vec<u32>>>().ok_or(Refused::Unknown)?;
    Ok(Ids { uid, gids })
}

fn by_number(numbers: &[u8]) -> Result<Ids, Refused> {
    let fields = || numbers.split(|&byte| byte == b':');
    if fields().any(<[u8]>::is_empty) {
        return Err(Refused::Empty);
    }
    let ids = fields().map(id).collect::<Option<Vec<u32>>>();
    match ids.as_deref() {
        Some([uid, gids @ ..]) if !gids.is_empty() => Ok(Ids { uid: *uid, gids: gids.to_vec() }),
        _ => Err(Refused::Numbers(numbers.to_vec())),
    }
}

/// An id: digits only, and at least one. The largest number is refused, since it means "no change" to the system.
fn id(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let value = crate::decimal::whole(text)?;
    u32::try_from(value).ok().filter(|&value| value != u32::MAX)
}

/// The user and the group of `name` in the text of `/etc/passwd`.
#[must_use]
pub fn user_in(passwd: &[u8], name: &[u8]) -> Option<(u32, u32)> {
    let mut fields = line_of(passwd, name)?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    Some((uid, gid))
}

/// The number of group `name` in the text of `/etc/group`.
#[must_use]
pub(crate) fn group_in(group: &[u8], name: &[u8]) -> Option<u32> {
    id(line_of(group, name)?.nth(1)?)
}

/// The fields after the first in the line that begins with `name`.
fn line_of<'t>(text: &'t [u8], name: &[u8]) -> Option<impl Iterator<Item = &'t [u8]>> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        (!name.is_empty() && fields.next() == Some(name)).then_some(fields)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\nempty:x:::\nnobody:x:65534:65533::/:/x\n";
    const GROUP: &[u8] = b"root:x:0:\ngames:x:60:a,b\nvideo:x:44:\n";

    fn ids(spec: &str) -> Result<Ids, Refused> {
        find(spec.as_bytes(), || Some(PASSWD.to_vec()), || Some(GROUP.to_vec()))
    }

    fn are(uid: u32, gids: &[u32]) -> Result<Ids, Refused> {
        Ok(Ids { uid, gids: gids.to_vec() })
    }

    #[test]
    fn names_are_looked_up() {
        assert_eq!(ids("nobody"), are(65534, &[65533]));
        assert_eq!(ids("nobody:games"), are(65534, &[60]));
        assert_eq!(ids("nobody:video:games"), are(65534, &[44, 60]));
    }

    #[test]
    fn what_is_in_no_file_is_unknown() {
        for spec in ["", "nob", "1000:1000", "nobody:", "nobody:none", "broken", "empty", "nobody:games:x"] {
            assert_eq!(ids(spec), Err(Refused::Unknown), "{spec}");
        }
    }

    #[test]
    fn numbers_are_taken_as_they_are() {
        assert_eq!(ids(":1:2"), are(1, &[2]));
        assert_eq!(ids(":0:1:2:3"), are(0, &[1, 2, 3]));
        assert_eq!(ids(":4294967294:4294967294"), are(4_294_967_294, &[4_294_967_294]));
    }

    #[test]
    fn an_empty_number_is_nobody() {
        for spec in [":", "::", ":::", ":1000:", "::1000", ":1:2:", ":1::2"] {
            assert_eq!(ids(spec), Err(Refused::Empty), "{spec}");
        }
    }

    #[test]
    fn numbers_that_are_no_ids_are_refused_and_not_wrapped() {
        for spec in ["1", "x:1", "1:x", "4294967295:1", "4294967296:1", "1:18446744073709551617", "-1:1"] {
            assert_eq!(ids(&format!(":{spec}")), Err(Refused::Numbers(spec.into())), "{spec}");
        }
    }

    #[test]
    fn the_groups_are_read_only_when_named() {
        assert_eq!(find(b"nobody", || Some(PASSWD.to_vec()), || None), are(65534, &[65533]));
        assert_eq!(find(b"nobody:games", || Some(PASSWD.to_vec()), || None), Err(Refused::Unreadable));
        assert_eq!(find(b":1:1", || None, || None), are(1, &[1]));
    }

    proptest! {
        /// No argument leads to root, or to root's group, without naming it.
        #[test]
        fn root_is_named(spec in ":[0-2:]{0,6}") {
            let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0') && !id.is_empty();
            if let Ok(ids) = ids(&spec) {
                let words: Vec<&str> = spec.split(':').skip(1).collect();
                prop_assert_eq!(ids.gids.len() + 1, words.len());
                for (id, word) in std::iter::once(ids.uid).chain(ids.gids).zip(words) {
                    prop_assert_eq!(id == 0, is_zero(word));
                }
            }
        }

        /// A user is found by its whole name only, whatever the file contains.
        #[test]
        fn only_whole_names_match(name in "[ab]{1,3}", other in "[ab]{1,3}", uid in 0_u32..1000) {
            let text = format!("{name}:x:{uid}:7::/:\n");
            let expected = (name == other).then_some((uid, 7));
            prop_assert_eq!(user_in(text.as_bytes(), other.as_bytes()), expected);
        }
    }
}
