//! A file of variables, as a shell reads it: lines `export NAME=VALUE`. Without I/O.
//!
//! Each start of a service reads the file by `.`, so a line that is no assignment would be executed. This finds it before.

use crate::svctl::script::is_variable;

use super::procfile::Fault;

/// Finds what is no assignment. `export` may be missing, a value may go over several lines in quotes, and there may be
/// comments.
///
/// # Errors
///
/// The first line that is something else.
pub(super) fn check(text: &[u8]) -> Result<(), Fault> {
    let mut rest = text;
    let number = |rest: &[u8]| {
        let read = text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default();
        read.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    };
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        if rest.starts_with(b"#") {
            rest = after(rest, |byte| byte == b'\n');
            continue;
        }
        let here = number(rest);
        rest = assignments(rest).map_err(|why| Fault { number: here, why })?;
    }
}

/// What follows the assignments of a line.
fn assignments(line: &[u8]) -> Result<&[u8], &'static str> {
    let is_export = line.starts_with(b"export ") || line.starts_with(b"export\t");
    let mut rest = if is_export { line.get(7..).unwrap_or_default() } else { line };
    loop {
        rest = without_blanks(rest);
        let length = rest.iter().position(|&byte| byte == b'=' || byte.is_ascii_whitespace());
        let (name, value) = rest.split_at_checked(length.unwrap_or(rest.len())).unwrap_or_default();
        let Some(value) = value.strip_prefix(b"=").filter(|_| is_variable(name)) else {
            return Err("it is not \"export NAME=VALUE\", so a shell would run it");
        };
        rest = without_blanks(after_value(value)?);
        if rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"#") || rest.starts_with(b"\r\n") {
            return Ok(rest.strip_prefix(b"\r").unwrap_or(rest));
        }
        if !is_export {
            return Err("a value with blanks needs quotes");
        }
    }
}

const OPEN: &str = "a quote is not closed";
const COMMAND: &str = "a value has a command in it, and a shell would run it";

/// What follows a value.
fn after_value(value: &[u8]) -> Result<&[u8], &'static str> {
    let mut rest = value;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => break,
            b'\'' => closed(behind, |byte| byte == b'\'').ok_or(OPEN)?,
            b'"' => after_double(behind)?,
            b'\\' => behind.get(1..).ok_or("it ends in a backslash")?,
            b'$' if behind.starts_with(b"(") => return Err(COMMAND),
            b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`' => {
                return Err("a value with one of ;&|<>()` needs quotes");
            }
            _ => behind,
        };
    }
    Ok(rest)
}

/// What follows text in double quotes.
fn after_double(text: &[u8]) -> Result<&[u8], &'static str> {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match byte {
            b'"' => return Ok(behind),
            b'\\' => behind.get(1..).ok_or(OPEN)?,
            b'`' => return Err(COMMAND),
            b'$' if behind.starts_with(b"(") => return Err(COMMAND),
            _ => behind,
        };
    }
    Err(OPEN)
}

/// What follows the first byte of a kind, which has to be there.
fn closed(text: &[u8], is_end: impl Fn(u8) -> bool) -> Option<&[u8]> {
    text.iter().position(|&byte| is_end(byte)).and_then(|at| text.get(at.saturating_add(1)..))
}

/// What follows the first byte of a kind; nothing if there is none.
fn after(text: &[u8], is_end: impl Fn(u8) -> bool) -> &[u8] {
    closed(text, is_end).unwrap_or_default()
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| b" \t".contains(byte)).count();
    text.get(blanks..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn assignments_are_accepted() {
        let text = "# all\n\nexport A=1\nB=2 # two\n  export C='x y' D=\"a \\\" b\nnext line\"\nE=\nF=a\\ b'c'\"d\"\n\
                    G=$HOME/bin:$X\r\nexport H=\"\\$(date -u; id)\" I='$(id)`id`'";
        assert_eq!(check(text.as_bytes()), Ok(()));
        assert_eq!(check(b""), Ok(()));
    }

    #[test]
    fn what_a_shell_would_run_is_found() {
        for (text, number, why) in [
            ("A=1\nrm -rf x\n", 2, "would run it"),
            ("A=hello world\n", 1, "blanks"),
            ("\nA=x;rm y", 2, "needs quotes"),
            ("A='1\nB=2\n\nC=3", 1, "not closed"),
            ("A=\"x", 1, "not closed"),
            ("export A\n", 1, "would run it"),
            ("1A=2", 1, "would run it"),
            ("A=`id`", 1, "needs quotes"),
            ("A=$(id)", 1, "command"),
            ("A=1\nA=x\"y$(id)\"", 2, "command"),
            ("A=\"`id`\"", 1, "command"),
            ("A=\"${B:-$(id)}\"", 1, "command"),
            ("A=x\\", 1, "backslash"),
            ("B='\n\n'\nA = 1", 4, "would run it"),
        ] {
            let fault = check(text.as_bytes()).unwrap_err();
            assert_eq!(fault.number, number, "{text}");
            assert!(fault.why.contains(why), "{text}: {}", fault.why);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail_or_run_for_ever(text in "[A='\"$\\\\()# \n]{0,30}", bytes: Vec<u8>) {
            let _ = check(text.as_bytes());
            let _ = check(&bytes);
        }
    }
}
