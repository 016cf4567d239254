//! Users and groups from the text of `/etc/passwd` and `/etc/group`, and what `chpst -u` says about them.
//!
//! The C library is not asked: a static program has no plug-ins for other sources of users, and chpst(8) speaks
//! of these two files only.

use std::fmt;

/// The most groups that `chpst -u` takes.
pub const GROUPS_MAX: usize = 60;

/// Who a program becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The groups; the first is the group of the process. Never empty.
    pub gids: Vec<u32>,
}

/// Why a specification means nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No such user, or no such group.
    Unknown,
    /// Numbers that are none, or larger than an id can be; holds what follows the leading colon.
    Numbers(Vec<u8>),
    /// The file could not be read.
    Unreadable,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Unknown => "unknown user or group",
            Refused::Numbers(_) => "invalid uid or gids",
            Refused::Unreadable => "unreadable user or group file",
        })
    }
}

/// Looks `spec` up: `user`, `user:group…` by name, `:uid:gid…` by number.
///
/// `passwd` and `group` give the text of the files; each is asked at most once, and only if needed.
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
    if let Some(numbers) = spec.strip_prefix(b":") {
        return by_number(numbers).ok_or_else(|| Refused::Numbers(numbers.to_vec()));
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
    let gids = names
        .take(GROUPS_MAX)
        .map(|name| group_in(&text, name))
        .collect::<Option<Vec<u32>>>()
        .ok_or(Refused::Unknown)?;
    Ok(Ids { uid, gids })
}

fn by_number(numbers: &[u8]) -> Option<Ids> {
    let mut fields = numbers.split(|&byte| byte == b':').map(id);
    let uid = fields.next()??;
    let gids = fields.take(GROUPS_MAX).collect::<Option<Vec<u32>>>()?;
    (!gids.is_empty()).then_some(Ids { uid, gids })
}

/// An id: digits only, nothing is 0, and the largest number means "no change" to the system and is refused.
fn id(text: &[u8]) -> Option<u32> {
    let value = crate::number::whole(text)?;
    u32::try_from(value).ok().filter(|&value| value != u32::MAX)
}

/// The user and the group of `name` in the text of `/etc/passwd`.
#[must_use]
pub fn user_in(passwd: &[u8], name: &[u8]) -> Option<(u32, u32)> {
    let mut fields = line_of(passwd, name)?;
    let uid = id(fields.nth(1).filter(|uid| !uid.is_empty())?)?;
    let gid = id(fields.next().filter(|gid| !gid.is_empty())?)?;
    Some((uid, gid))
}

/// The number of group `name` in the text of `/etc/group`.
#[must_use]
pub fn group_in(group: &[u8], name: &[u8]) -> Option<u32> {
    id(line_of(group, name)?.nth(1).filter(|gid| !gid.is_empty())?)
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
        assert_eq!(ids(":1000:"), are(1000, &[0]));
        assert_eq!(ids(":0:1:2:3"), are(0, &[1, 2, 3]));
        assert_eq!(ids(":4294967294:4294967294"), are(4_294_967_294, &[4_294_967_294]));
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
        /// A user is found by no name but the whole of it, whatever the file says.
        #[test]
        fn only_whole_names_match(name in "[ab]{1,3}", other in "[ab]{1,3}", uid in 0_u32..1000) {
            let text = format!("{name}:x:{uid}:7::/:\n");
            let expected = (name == other).then_some((uid, 7));
            prop_assert_eq!(user_in(text.as_bytes(), other.as_bytes()), expected);
        }
    }
}
