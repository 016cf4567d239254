//! Reads the file of `chpst -@`, and says on which line of it something is wrong.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, fstat};
use rustix::io::Errno;
use svcore::say::Message;
use svcore::{Context, Error, Result, slice, trust};

use super::plan::{self, Plan};
use super::script::{self, Loose, Problem, Script};

/// The longest file, in bytes.
const SCRIPT_MAX: usize = 64 * 1024;

/// A script whose plan is being performed.
pub(crate) struct Origin<'a> {
    /// The name of the applet.
    name: &'a OsStr,
    file: &'a [u8],
    script: Script,
}

impl Origin<'_> {
    /// Where in the file the plan gets this value of an option, for the beginning of a message.
    pub(crate) fn place_of(&self, value: &OsStr, option: fn(&Plan) -> Option<&OsString>) -> Vec<u8> {
        let words = &self.script.words;
        // The option has the value as soon as a beginning of the words includes it; the last of several counts.
        let has_value = |count: &usize| {
            let words = [slice::part(words, ..*count), &[OsString::from("x")]].concat();
            plan::parse(self.name, &words).is_ok_and(|plan| option(&plan).is_some_and(|it| it == value))
        };
        let before = (0..words.len()).rev().find(|count| !has_value(count)).unwrap_or(0);
        place(self.file, line_of(&self.script, before))
    }
}

/// A line of a file, for the beginning of a message.
fn place(file: &[u8], line: usize) -> Vec<u8> {
    [file, b": line ", line.to_string().as_bytes(), b": "].concat()
}

/// The line that a word of a script is on.
fn line_of(script: &Script, word: usize) -> usize {
    script.lines.get(word).or(script.lines.last()).copied().unwrap_or(1)
}

/// The plan in the file that is the first of `words`; the others are the arguments of the script. `None` after it was
/// reported what is wrong in the file.
///
/// # Errors
///
/// [`Error::Fatal`] if the file cannot be read or is not to be trusted; [`Error::Version`].
pub(crate) fn plan<'a>(name: &'a OsStr, words: &'a [OsString]) -> Result<Option<(Plan, Origin<'a>)>> {
    let file = words.first().map(|file| file.as_bytes()).unwrap_or_default();
    let text = read(file).while_doing(|| [b"unable to read ", file].concat())?;
    let variable = |name: &OsStr| std::env::var_os(name);
    let read = script::parse(&text, words, &variable).map_err(Wrong::Script);
    let parsed = read.and_then(|script| Ok((parse(name, &script)?, script)));
    match parsed {
        Ok((plan, script)) => Ok(Some((plan, Origin { name, file, script }))),
        Err(Wrong::Other(error)) => Err(error),
        Err(Wrong::Script(Problem { line, what, hint })) => {
            let what = [place(file, line).as_slice(), what.as_bytes()].concat();
            Message::fatal("chpst", &what).print_with(hint);
            Ok(None)
        }
    }
}

enum Wrong {
    Script(Problem),
    Other(Error),
}

fn read(file: &[u8]) -> std::io::Result<Vec<u8>> {
    let path = CString::new(file).map_err(|_| Errno::NOENT)?;
    let file = trust::open_content(CWD, &path)?;
    trust::check_owner(&fstat(&file)?)?;
    trust::read_at_most(&file, SCRIPT_MAX)
}

/// Parses the words as those of a command line.
fn parse(name: &OsStr, script: &Script) -> std::result::Result<Plan, Wrong> {
    let words = &script.words;
    let loose = |loose: &Loose| {
        let what = ["$", &loose.name, " is empty or has blanks; among options write \"$", &loose.name, "\""];
        Err(Wrong::Script(Problem::new(loose.line, what.concat())))
    };
    let error = match plan::parse(name, words) {
        Ok(plan) => {
            let options = words.len().saturating_sub(plan.argv.len());
            return script.loose.iter().find(|loose| loose.after < options).map_or(Ok(plan), loose);
        }
        Err(error) => error,
    };
    let Some(text) = text_of(&error) else { return Err(Wrong::Other(error)) };
    if let Some(first) = script.loose.first() {
        return loose(first);
    }
    let is_wrong = |words: &[OsString]| {
        plan::parse(name, words).is_err_and(|error| text_of(&error).as_ref() == Some(&text))
    };
    let one_more = [words.as_slice(), &[OsString::from("x")]].concat();
    let (mut right, mut wrong) = (words.len().saturating_sub(1), words.len());
    // Otherwise something is missing at the end.
    if is_wrong(&one_more) {
        // Options are read one after the other, so a part of the words is wrong in the same way as soon as it includes
        // the word that is wrong.
        right = 0;
        while wrong.saturating_sub(right) > 1 {
            let middle = right.midpoint(wrong);
            if is_wrong(slice::part(words, ..middle)) { wrong = middle } else { right = middle }
        }
    }
    Err(Wrong::Script(Problem::new(line_of(script, right), text)))
}

/// What is wrong with a command line, in words.
fn text_of(error: &Error) -> Option<String> {
    match error {
        Error::Usage(None) => Some("there is no program after the options".to_owned()),
        Error::Usage(Some(why)) | Error::WrongValue(why) => Some(why.clone()),
        Error::Version | Error::Fatal(_) => None,
    }
}
