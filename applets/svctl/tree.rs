//! Which services are meant: the served directory, and names, patterns and groups in it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, open};
use svcore::error::Context;
use svcore::listed::Listed;
use svcore::multicall::is_nearly;
use svcore::say::printable_text;
use svcore::sort::sort;
use svcore::{Error, Failed, Result, serving};

use super::map::Map;
use super::options::{Given, Opt};
use super::project;

/// The directory that services with plain names are in.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
}

impl Tree {
    /// The directory that the options mean. The first of these is used:
    ///
    /// 1. `-d`,
    /// 2. with `--user` the first of `$XDG_CONFIG_HOME/service`, `~/.config/service` and `~/service` that exists,
    /// 3. without `SVDIR`, the directory that an import made here or above, see [`project::here`],
    /// 4. what `sv` would use, see [`serving::directory_to_control`].
    ///
    /// In the root of a Void system that is not booted it is the directory of the next boot, see [`before_boot`].
    pub(super) fn new(given: &Given) -> Self {
        let is_named = std::env::var_os("SVDIR").is_some();
        let (path, is_usual) = match given.value(Opt::Dir) {
            Some(dir) => (dir.into(), false),
            None if given.has(Opt::User) => (own_directory().unwrap_or_default(), false),
            None => {
                let here = if is_named { None } else { project::here() };
                (here.unwrap_or_else(|| serving::directory_to_control().into()), !is_named)
            }
        };
        let is_not_there = !path.is_dir() && (is_usual || path.is_symlink());
        Tree { path: if is_not_there { before_boot().unwrap_or(path) } else { path } }
    }

    /// Checks that the options mean one directory.
    ///
    /// # Errors
    ///
    /// That `-d` and `--user` are given, or that nobody knows where the services of the user are.
    pub(super) fn check(given: &Given) -> Result<()> {
        let why = match given.has(Opt::User) {
            true if given.has(Opt::Dir) => "-d and --user exclude each other",
            true if Tree::new(given).path.as_os_str().is_empty() => {
                "--user needs HOME, which is not set to an absolute path"
            }
            _ => return Ok(()),
        };
        Err(Error::Usage(Some(why.to_owned())))
    }

    /// The directory at `path`.
    pub(super) const fn at(path: PathBuf) -> Self {
        Tree { path }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all services, in order. A file is no service, nor is what has a dot at its start.
    ///
    /// # Errors
    ///
    /// That the directory cannot be read.
    pub(super) fn names(&self) -> Result<Vec<OsString>> {
        let path = self.path.as_os_str().as_bytes();
        let list = self.list();
        // Whoever named it knows that it was named.
        let is_usual =
            || std::env::var_os("SVDIR").is_none() && self.path == Path::new(&serving::usual_directory());
        if list.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) && is_usual() {
            let what = format!(
                "there is no directory {}: set SVDIR to the one that runsvdir serves, or use -d",
                printable_text(path)
            );
            return Err(Failed::without_cause(what).into());
        }
        Ok(list.unable_to("read", path)?)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(open(&self.path, flags, Mode::empty())?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let is_service = match entry.file_type() {
                FileType::Directory => true,
                // A link to nothing is a service that cannot be started.
                FileType::Symlink | FileType::Unknown => {
                    let path = self.path.join(name);
                    path.is_dir() || !path.exists()
                }
                _ => false,
            };
            if is_service && !name.as_bytes().starts_with(b".") {
                names.push(name.to_owned());
            }
        }
        sort(&mut names);
        Ok(names)
    }

    /// The services that the words mean; see [`select`].
    ///
    /// # Errors
    ///
    /// That the directory cannot be read, or that a pattern matches nothing.
    pub(super) fn selected(&self, words: &[OsString]) -> Result<Vec<OsString>> {
        let is_plain = |word: &OsString| is_path(word) || self.path.join(word).is_dir();
        if words.iter().all(is_plain) {
            return Ok(without_doubles(words));
        }
        let names = self.names()?;
        let mut selected = Vec::new();
        for word in words {
            selected.append(&mut select(word, &names)?);
        }
        Ok(without_doubles(&selected))
    }

    /// Whether there is anything of this name, or at this path, and be it a link to nothing. What nobody may look at counts.
    pub(super) fn has(&self, name: &OsStr) -> bool {
        let path = if is_path(name) { PathBuf::from(name) } else { self.path.join(name) };
        !path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// The service that is probably meant by a name that no service has.
    pub(super) fn nearest(&self, name: &OsStr) -> Option<OsString> {
        self.list().ok()?.iter().find(|other| is_nearly(name.as_bytes(), other.as_bytes())).cloned()
    }

    /// The services that the words mean; without a word all, for commands that change nothing.
    ///
    /// # Errors
    ///
    /// As for [`Tree::selected`].
    pub(super) fn selected_or_all(&self, words: &[OsString]) -> Result<Vec<OsString>> {
        if words.is_empty() { self.names() } else { self.selected(words) }
    }

    /// The services that a command is to change: those that the words mean, or all with `--all`.
    ///
    /// # Errors
    ///
    /// As for [`Tree::selected`]; and that neither words nor `--all` were given, or both.
    pub(super) fn to_change(&self, given: &Given, words: &[OsString]) -> Result<Vec<OsString>> {
        match (given.has(Opt::All), words) {
            (true, []) => self.names(),
            (true, _) => Err(Error::Usage(Some("names and --all exclude each other".to_owned()))),
            (false, []) => {
                Err(Error::Usage(Some("no service is named; --all is for all of them".to_owned())))
            }
            (false, words) => self.selected(words),
        }
    }
}

/// Whether a word is a path from where we are, not the name of a service. Source: sv(8).
pub(super) fn is_path(word: &OsStr) -> bool {
    matches!(word.as_bytes(), [b'/' | b'.', ..] | [.., b'/'])
}

/// The names that a word means:
///
/// 1. the word itself, if it is a path or a name, or the log service of one, such as `web/log`;
/// 2. all names that match it, if it is a pattern with `*`, `?` or `[`;
/// 3. all names that begin with it and a `-`;
/// 4. otherwise the word itself, and whoever uses it reports that there is no such service.
fn select(word: &OsStr, names: &[OsString]) -> Result<Vec<OsString>> {
    let is_name = |word: &OsStr| names.iter().any(|name| name == word);
    let of_log = || Path::new(word).parent().filter(|_| word.as_bytes().ends_with(b"/log"));
    if is_path(word) || is_name(word) || of_log().is_some_and(|of| is_name(of.as_os_str())) {
        return Ok(vec![word.to_owned()]);
    }
    let all = |matches: &dyn Fn(&[u8]) -> bool| -> Vec<OsString> {
        names.iter().filter(|name| matches(name.as_bytes())).cloned().listed()
    };
    let bytes = word.as_bytes();
    if bytes.iter().any(|byte| b"*?[".contains(byte)) {
        let found = all(&|name| matches(bytes, name));
        if found.is_empty() {
            let what = format!("no service matches {}", printable_text(bytes));
            return Err(Failed::without_cause(what).into());
        }
        return Ok(found);
    }
    let group = all(&|name| name.strip_prefix(bytes).is_some_and(|rest| rest.starts_with(b"-")));
    Ok(if group.is_empty() || bytes.is_empty() { vec![word.to_owned()] } else { group })
}

pub(super) fn without_doubles(names: &[OsString]) -> Vec<OsString> {
    let mut seen = Map::default();
    names.iter().filter(|name| seen.set(*name, ()).is_none()).cloned().listed()
}

/// Whether a name matches a pattern of the shell: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`, and `\` before a character.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on when what follows the last `*` does not match: that star, and what it matched so far.
    let (mut pattern, mut name, mut star) = (pattern, name, None);
    loop {
        match (step(pattern), name) {
            (Some(Step::Many(rest)), _) => {
                star = Some((rest, name));
                pattern = rest;
                continue;
            }
            (Some(Step::One(set, rest)), [first, after @ ..]) if set.has(*first) => {
                (pattern, name) = (rest, after);
                continue;
            }
            (None, []) => return true,
            _ => {}
        }
        match star {
            Some((after_star, [_, more @ ..])) => {
                (pattern, name, star) = (after_star, more, Some((after_star, more)));
            }
            _ => return false,
        }
    }
}

/// The first part of a pattern, and what follows it.
enum Step<'p> {
    Many(&'p [u8]),
    One(Set<'p>, &'p [u8]),
}

/// The bytes that a part of a pattern matches.
enum Set<'p> {
    Any,
    This(u8),
    OneOf(&'p [u8]),
    NoneOf(&'p [u8]),
}

impl Set<'_> {
    fn has(&self, byte: u8) -> bool {
        match self {
            Set::Any => true,
            Set::This(this) => *this == byte,
            Set::OneOf(list) => is_in(list, byte),
            Set::NoneOf(list) => !is_in(list, byte),
        }
    }
}

fn is_in(list: &[u8], byte: u8) -> bool {
    match list {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&byte) || is_in(rest, byte),
        [first, rest @ ..] => *first == byte || is_in(rest, byte),
        [] => false,
    }
}

fn step(pattern: &[u8]) -> Option<Step<'_>> {
    Some(match pattern {
        [] => return None,
        [b'*', rest @ ..] => Step::Many(rest),
        [b'?', rest @ ..] => Step::One(Set::Any, rest),
        [b'\\', this, rest @ ..] => Step::One(Set::This(*this), rest),
        [b'[', inside @ ..] => {
            let (is_not, list) = match inside {
                [b'!' | b'^', list @ ..] => (true, list),
                list => (false, list),
            };
            // A `]` at the start is one of the list.
            let end = list.iter().skip(1).position(|byte| *byte == b']').map(|at| at.saturating_add(1));
            match end.and_then(|end| list.split_at_checked(end)) {
                Some((list, [_, rest @ ..])) => {
                    Step::One(if is_not { Set::NoneOf(list) } else { Set::OneOf(list) }, rest)
                }
                _ => Step::One(Set::This(b'['), inside),
            }
        }
        [this, rest @ ..] => Step::One(Set::This(*this), rest),
    })
}

/// Where Void and Debian have the directories of services that runsvchdir(8) chooses from, and the one for each boot.
const RUNSVDIR: &str = "/etc/runit/runsvdir";

/// The directory of services of the next boot: in the root of a Void system that is not booted, `/var/service` leads through
/// `current`, which is made by the boot, to nothing.
fn before_boot() -> Option<PathBuf> {
    let all = std::env::var_os("RUNSVDIR").map_or_else(|| PathBuf::from(RUNSVDIR), PathBuf::from);
    Some(all.join("default")).filter(|default| default.is_dir())
}

/// Where a user keeps services of their own; never below where we are, which may be a stranger's directory.
fn own_directory() -> Option<PathBuf> {
    let below = |variable: &str, path: &str| {
        let dir = PathBuf::from(std::env::var_os(variable)?);
        dir.is_absolute().then(|| dir.join(path))
    };
    let mut first = None;
    for dir in
        [below("XDG_CONFIG_HOME", "service"), below("HOME", ".config/service"), below("HOME", "service")]
    {
        match dir {
            Some(dir) if dir.is_dir() => return Some(dir),
            Some(dir) if first.is_none() => first = Some(dir),
            _ => {}
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(word: &str) -> String {
        let names = ["a*b", "rails", "rails-web", "rails-worker", "web-1", "web-2", "x"].map(OsString::from);
        match select(OsStr::new(word), &names) {
            Ok(found) => found.join(OsStr::new(" ")).into_string().unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_word_is_a_name_a_pattern_or_a_group() {
        for (word, expected) in [
            ("x", "x"),
            ("x/log", "x/log"),
            ("web", "web-1 web-2"),
            ("rails", "rails"),
            ("rails*", "rails rails-web rails-worker"),
            ("a*b", "a*b"),
            ("*x", "x"),
            ("nosuch", "nosuch"),
            ("nosuch*", "no service matches nosuch*"),
            ("./web*", "./web*"),
            ("", ""),
        ] {
            assert_eq!(selected(word), expected, "{word}");
        }
    }

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("?", "", false),
            ("w?b", "web", true),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[", "[", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("*a", "aaab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    proptest::proptest! {
        /// A pattern that is long and full of stars takes no time to speak of.
        #[test]
        fn many_stars_are_quick(stars in 1_usize..200) {
            let name = b"a".repeat(2000);
            let pattern = [b"*a".repeat(stars), b"b".to_vec()].concat();
            proptest::prop_assert!(!matches(&pattern, &name));
        }
    }
}
