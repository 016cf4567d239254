//! What an installation is asked for and what it changes, decided without looking at any file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// What the rest of the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// How the names are made.
    pub(super) links: Links,
    /// Also the names of what boots a machine.
    pub(super) with_init: bool,
    /// The directory that is `/` to the directory to install in, and to what links there lead to.
    pub(super) root: Option<PathBuf>,
    /// The directory to install in, as typed.
    pub(super) dir: PathBuf,
}

/// How a name leads to the executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// By a relative symbolic link to the executable in the same directory, which is copied there if it is not there yet.
    Symbolic,
    /// By a relative symbolic link to where the executable lies. Nothing is copied.
    InPlace,
    /// The name is a hard link to the executable in the same directory, which is copied there if it is not there yet.
    Hard,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// `--install`.
    Install,
    /// `--uninstall`.
    Uninstall,
    /// `--install-man`.
    InstallPages,
    /// `--uninstall-man`.
    UninstallPages,
}

/// The action that an option of `runitbox` asks for.
pub(super) fn action(option: &[u8]) -> Option<Action> {
    match option {
        b"--install" => Some(Action::Install),
        b"--uninstall" => Some(Action::Uninstall),
        b"--install-man" => Some(Action::InstallPages),
        b"--uninstall-man" => Some(Action::UninstallPages),
        _ => None,
    }
}

/// Reads the words after `--install` and its like.
///
/// # Errors
///
/// [`Error::Usage`] for anything that is not understood.
pub(super) fn parse(words: &[OsString], action: Action) -> Result<Request> {
    let makes_links = action == Action::Install;
    let mut links = Links::Symbolic;
    let (mut with_init, mut root, mut dir) = (false, None, None);
    let mut parser = lexopt::Parser::from_args(words);
    let unknown = |option: &str| Error::Usage(Some(format!("unknown option {option}")));
    while let Some(argument) = parser.next().map_err(|error| Error::Usage(Some(error.to_string())))? {
        match argument {
            lexopt::Arg::Long("hard") if makes_links => links = Links::Hard,
            lexopt::Arg::Short('s') | lexopt::Arg::Long("symbolic") if makes_links => links = Links::InPlace,
            lexopt::Arg::Long("with-init") => with_init = true,
            lexopt::Arg::Long("root") => {
                let value = parser.value().map_err(|error| Error::Usage(Some(error.to_string())))?;
                root = Some(PathBuf::from(value));
            }
            lexopt::Arg::Value(word) if dir.is_none() => dir = Some(PathBuf::from(word)),
            lexopt::Arg::Value(_) => return Err(Error::Usage(Some("more than one directory".to_owned()))),
            lexopt::Arg::Long(word) => return Err(unknown(&format!("--{word}"))),
            lexopt::Arg::Short(letter) => return Err(unknown(&format!("-{letter}"))),
        }
    }
    let dir = dir.ok_or_else(|| Error::Usage(Some("a directory is missing".to_owned())))?;
    Ok(Request { links, with_init, root, dir })
}

/// What is in the place of a file that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// What was to be made.
    AsWanted,
    /// An executable, a link or a page of runitbox, of any version.
    Ours,
    /// A link that leads to the executable that runs by way of others, such as one of update-alternatives(1). It does what
    /// is wanted, but another program made it.
    ByAnotherWay,
    /// Anything else.
    NotOurs,
}

/// Something that is to be in a place, such as a link or a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted<T> {
    /// What is to be made.
    pub(super) item: T,
    /// It belongs to what boots a machine.
    pub(super) is_init: bool,
    /// What is there now.
    pub(super) found: Found,
}

/// What an installation does: each item, and whether it has to be made.
///
/// What boots a machine is left out unless it was asked for. One of ours that is there already is renewed nevertheless:
/// a machine may boot by it.
///
/// # Errors
///
/// The items whose places hold what is not ours. Then nothing may be changed.
pub(super) fn to_install<T>(
    wanted: Vec<Wanted<T>>,
    with_init: bool,
) -> std::result::Result<Vec<(T, bool)>, Vec<T>> {
    let left_out =
        |it: &Wanted<T>| it.is_init && !with_init && matches!(it.found, Found::Nothing | Found::NotOurs);
    let (mut items, mut foreign) = (Vec::new(), Vec::new());
    for it in wanted.into_iter().filter(|it| !left_out(it)) {
        match it.found {
            Found::NotOurs => foreign.push(it.item),
            Found::AsWanted | Found::ByAnotherWay => items.push((it.item, false)),
            Found::Nothing | Found::Ours => items.push((it.item, true)),
        }
    }
    if foreign.is_empty() { Ok(items) } else { Err(foreign) }
}

/// What a removal removes: all that is ours.
///
/// # Errors
///
/// The items that a machine may boot by, if these were not asked for. Then nothing may be removed.
pub(super) fn to_remove<T>(wanted: Vec<Wanted<T>>, with_init: bool) -> std::result::Result<Vec<T>, Vec<T>> {
    let ours = wanted.into_iter().filter(|it| matches!(it.found, Found::AsWanted | Found::Ours));
    let (init, others): (Vec<_>, Vec<_>) = ours.partition(|it| it.is_init);
    let items = |list: Vec<Wanted<T>>| list.into_iter().map(|it| it.item);
    if with_init || init.is_empty() {
        Ok(items(init).chain(items(others)).collect())
    } else {
        Err(items(init).collect())
    }
}

/// The relative path that leads from the directory `from` to `to`. Both are absolute, with all links followed.
pub(super) fn relative(from: &Path, to: &Path) -> PathBuf {
    let (mut from, mut to) = (from.components().peekable(), to.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    from.map(|_| Component::ParentDir).chain(to).collect()
}

/// By this an executable of runitbox is known; the version follows. what(1) prints it.
pub(super) const MARK: &[u8] = b"@(#)runitbox ";
/// The mark, as the executable has it. It is not only compared with, so it is there to the byte.
#[used]
static MARKED: &[u8] = concat!("@(#)runitbox ", env!("CARGO_PKG_VERSION"), "\0").as_bytes();
/// What executables that were made before there was a mark have in them instead.
const BEFORE_THE_MARK: &[u8] = b": the runit supervision suite as one executable\n";

/// Whether this file is an executable of runitbox, of any version.
pub(super) fn is_executable_of_ours(file: &[u8]) -> bool {
    /// ELF, and Mach-O of 64 bits.
    const STARTS: [&[u8]; 2] = [b"\x7fELF", b"\xcf\xfa\xed\xfe"];
    STARTS.iter().any(|start| file.starts_with(start))
        && (contains(file, MARK) || contains(file, BEFORE_THE_MARK))
}

fn contains(file: &[u8], text: &[u8]) -> bool {
    let Some((first, rest)) = text.split_first() else { return true };
    let mut file = file;
    while let Some(at) = file.iter().position(|byte| byte == first) {
        file = file.get(at.saturating_add(1)..).unwrap_or_default();
        if file.starts_with(rest) {
            return true;
        }
    }
    false
}

/// What manual pages of ours begin with, but for the version.
const PAGE: &[u8] = b".\\\" runitbox ";

/// Whether this is a manual page of runitbox, of any version: as text, or as `build.rs` compresses it. If another
/// program compressed it, it is known by its checksum, so only if its text is that of `ours`.
pub(super) fn is_page_of_ours(file: &[u8], ours: &[u8]) -> bool {
    if file.starts_with(PAGE) {
        return true;
    }
    // gzip: ten bytes, of which the fourth has the flags; with only a comment it follows. At the end are the check sum and
    // the length of the text.
    const GZIP: &[u8] = b"\x1f\x8b";
    const ONLY_COMMENT: u8 = 16;
    let end = |file: &[u8]| file.split_last_chunk::<8>().map(|(_, end)| *end);
    let has_comment = file.get(3) == Some(&ONLY_COMMENT)
        && file.get(10..).is_some_and(|comment| comment.starts_with(b"runitbox "));
    file.starts_with(GZIP) && (has_comment || (ours.starts_with(GZIP) && end(file) == end(ours)))
}

/// Whether a link that leads to nothing was one of ours, by the name of what it led to.
pub(super) fn is_name_of_ours(target: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(target)).file_name() == Some(OsStr::new(crate::multicall::SUITE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Request> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>(), Action::Install)
    }

    #[test]
    fn options_stand_before_and_behind_the_directory() {
        let plain = Request { links: Links::Symbolic, with_init: false, root: None, dir: PathBuf::from("d") };
        assert_eq!(asked(&["d"]).unwrap(), plain);
        assert_eq!(asked(&["d", "--hard"]).unwrap(), Request { links: Links::Hard, ..plain.clone() });
        assert_eq!(asked(&["-s", "d"]).unwrap(), Request { links: Links::InPlace, ..plain.clone() });
        let all = Request { with_init: true, root: Some(PathBuf::from("r")), ..plain };
        assert_eq!(asked(&["--root=r", "d", "--with-init"]).unwrap(), all);
        assert_eq!(asked(&["--root", "r", "--with-init", "--", "d"]).unwrap(), all);
        for wrong in [&[][..], &["-x", "d"], &["a", "b"], &["--root"], &["--hard=1", "d"], &["--nosuch", "d"]]
        {
            assert!(matches!(asked(wrong), Err(Error::Usage(Some(_)))), "{wrong:?}");
        }
        assert!(parse(&["--hard".into(), "d".into()], Action::Uninstall).is_err());
    }

    fn wanted(found: &[(&'static str, bool, Found)]) -> Vec<Wanted<&'static str>> {
        found.iter().map(|&(item, is_init, found)| Wanted { item, is_init, found }).collect()
    }

    #[test]
    fn one_thing_that_is_not_ours_forbids_all_and_each_is_named() {
        use Found::{AsWanted, NotOurs, Nothing, Ours};
        let all = wanted(&[("sv", false, Nothing), ("chpst", false, Ours), ("runsv", false, AsWanted)]);
        assert_eq!(to_install(all, false), Ok(vec![("sv", true), ("chpst", true), ("runsv", false)]));
        let all = wanted(&[("sv", false, NotOurs), ("chpst", false, Ours), ("runsv", false, NotOurs)]);
        assert_eq!(to_install(all, false), Err(vec!["sv", "runsv"]));
        let all = || wanted(&[("sv", false, Found::ByAnotherWay)]);
        assert_eq!(
            (to_install(all(), false), to_remove(all(), false)),
            (Ok(vec![("sv", false)]), Ok(vec![]))
        );
    }

    #[test]
    fn what_boots_is_made_when_asked_for_and_renewed_when_there() {
        use Found::{AsWanted, NotOurs, Nothing, Ours};
        let all = || wanted(&[("runit", true, Nothing), ("init", true, NotOurs)]);
        assert_eq!(to_install(all(), false), Ok(vec![]));
        assert_eq!(to_install(all(), true), Err(vec!["init"]));
        let all = || wanted(&[("init", true, Ours), ("sv", false, AsWanted), ("chpst", false, NotOurs)]);
        assert_eq!(to_remove(all(), false), Err(vec!["init"]));
        assert_eq!(to_remove(all(), true), Ok(vec!["init", "sv"]));
        assert_eq!(to_install(wanted(&[("init", true, Ours)]), false), Ok(vec![("init", true)]));
    }

    #[test]
    fn the_way_between_two_places_is_relative() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/usr/bin", "/usr/bin/runitbox"), "runitbox");
        assert_eq!(way("/usr/sbin", "/usr/bin/runitbox"), "../bin/runitbox");
        assert_eq!(way("/", "/bin/runitbox"), "bin/runitbox");
        assert_eq!(way("/a/b/c", "/runitbox"), "../../../runitbox");
    }

    #[test]
    fn an_executable_is_ours_by_the_mark_or_by_what_older_ones_say() {
        let file = |text: &str| is_executable_of_ours(&[b"\x7fELF....", text.as_bytes()].concat());
        assert!(file("xx@(#)runitbox 9.0\0yy"));
        assert!(file("@@(#)runitbox 9.0"));
        assert!(file("...: the runit supervision suite as one executable\n\nusage: "));
        assert!(!file("@(#)runit 2.1.2"));
        assert!(!file(""));
        // A script that contains the mark is not an executable of ours.
        assert!(!is_executable_of_ours(b"#!/bin/sh\n# @(#)runitbox 9.0\n"));
        assert!(is_executable_of_ours(&[b"\x7fELF", MARKED].concat()));
    }

    #[test]
    fn a_page_is_ours_by_its_first_line_its_comment_or_its_check_sum() {
        assert!(is_page_of_ours(b".\\\" runitbox 0.1.0\n.Dd", b""));
        assert!(!is_page_of_ours(b".TH sv 8\n", b""));
        let gzip = |flags: u8, comment: &[u8], end: &[u8]| {
            [b"\x1f\x8b\x08".as_slice(), &[flags, 0, 0, 0, 0, 2, 255], comment, b"...", end].concat()
        };
        let ours = gzip(16, b"runitbox 0.1.0\0", b"12345678");
        assert!(is_page_of_ours(&gzip(16, b"runitbox 0.0.9\0", b"abcdefgh"), &ours));
        assert!(is_page_of_ours(&gzip(0, b"", b"12345678"), &ours));
        assert!(!is_page_of_ours(&gzip(0, b"", b"abcdefgh"), &ours));
        assert!(!is_page_of_ours(b"", &ours));
    }
}
