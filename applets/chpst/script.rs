//! The words of a script for `chpst -@`. Pure: no I/O.
//!
//! What is accepted means what sh(1) makes of it, with two exceptions: a line end only separates words, and the value of a
//! variable is never a pattern of file names. Everything else that a shell would treat in a special way is an error, so
//! that nobody believes that a shell reads the file. Source: chpst(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The words of a script.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// The words, options first.
    pub(crate) words: Vec<OsString>,
    /// The line on which each word begins, counted from 1.
    pub(crate) lines: Vec<usize>,
    /// The unquoted variables that stand for no word, or may stand for several.
    pub(crate) loose: Vec<Loose>,
}

/// An unquoted variable whose value is empty or has blanks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loose {
    /// How many complete words come before it.
    pub(crate) after: usize,
    /// Its line.
    pub(crate) line: usize,
    /// Its name.
    pub(crate) name: String,
}

/// Why a script is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) what: String,
    /// What to do about it, if `what` does not say that.
    pub(crate) hint: Option<&'static str>,
}

impl Problem {
    /// A problem that explains itself.
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        Problem { line, what: what.into(), hint: None }
    }
}

/// Splits the text of a script into words.
///
/// `arguments` are the file's name and the arguments of the script: `$0`, `$1` and so on. `variable` looks up a variable.
///
/// # Errors
///
/// The first [`Problem`].
pub(crate) fn parse(
    text: &[u8],
    arguments: &[OsString],
    variable: &dyn Fn(&OsStr) -> Option<OsString>,
) -> Result<Script, Problem> {
    let line_at = |at: usize| text.iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
    if let Some(at) = text.windows(2).position(|two| two == b"\r\n") {
        let what = "ends in a carriage return, as in files from Windows";
        let hint = Some("remove the carriage returns, such as with: sed -i 's/\\r$//' FILE");
        return Err(Problem { line: line_at(at), what: what.to_owned(), hint });
    }
    if let Some(at) = text.iter().position(|&byte| byte == 0) {
        return Err(Problem::new(line_at(at), "has a NUL byte"));
    }
    let mut reader =
        Reader { text, at: 0, line: 1, arguments, variable, word: None, script: Script::default() };
    while let Some(byte) = reader.peek() {
        match byte {
            b' ' | b'\t' | b'\n' => reader.skip(),
            b'#' => reader.skip_comment(),
            _ => reader.read_word()?,
        }
    }
    Ok(reader.script)
}

struct Reader<'a> {
    text: &'a [u8],
    /// The place of the next byte.
    at: usize,
    /// The line of the next byte.
    line: usize,
    arguments: &'a [OsString],
    variable: &'a dyn Fn(&OsStr) -> Option<OsString>,
    /// The word that is being read, once it has a part, if only an empty one in quotes; and its line.
    word: Option<(Vec<u8>, usize)>,
    script: Script,
}

impl Reader<'_> {
    /// The next byte. A backslash with a line end after it counts as nothing, and is skipped.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\\n")) {
            self.at += 2;
            self.line += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes the next byte as it is.
    fn take(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn skip(&mut self) {
        self.take();
    }

    /// A comment ends with its line, also after a backslash.
    fn skip_comment(&mut self) {
        while self.text.get(self.at).is_some_and(|&byte| byte != b'\n') {
            self.at += 1;
        }
    }

    fn problem(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.line, what)
    }

    /// Adds to the current word, which then exists.
    fn add(&mut self, bytes: &[u8]) {
        self.word.get_or_insert_with(|| (Vec::new(), self.line)).0.extend_from_slice(bytes);
    }

    /// Ends the current word, if there is one.
    fn end_word(&mut self) {
        if let Some((word, line)) = self.word.take() {
            self.script.words.push(OsString::from_vec(word));
            self.script.lines.push(line);
        }
    }

    fn read_word(&mut self) -> Result<(), Problem> {
        if self.take_all_arguments() {
            return Ok(());
        }
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' => break,
                b'\'' => self.read_single_quotes()?,
                b'"' => self.read_double_quotes()?,
                b'\\' => {
                    self.skip();
                    let byte = self.take().ok_or_else(|| self.problem("nothing after the backslash"))?;
                    self.add(&[byte]);
                }
                b'$' => self.read_unquoted_variable()?,
                b'~' if self.word.is_none() => return Err(self.special("~")),
                b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'`' | b'*' | b'?' | b'[' => {
                    return Err(self.special(&char::from(byte).to_string()));
                }
                byte => {
                    self.add(&[byte]);
                    self.skip();
                }
            }
        }
        self.end_word();
        Ok(())
    }

    /// A character that has a meaning for a shell.
    fn special(&self, character: &str) -> Problem {
        self.problem(format!(
            "unquoted {character}: no shell reads this file; write '{character}' for the character"
        ))
    }

    /// Reads `"$@"`, if that is the whole word, and adds the arguments.
    fn take_all_arguments(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(after) = rest.strip_prefix(b"\"$@\"") else { return false };
        if !matches!(after.first(), None | Some(b' ' | b'\t' | b'\n')) {
            return false;
        }
        self.at += rest.len() - after.len();
        for argument in self.arguments.iter().skip(1) {
            self.script.words.push(argument.clone());
            self.script.lines.push(self.line);
        }
        true
    }

    fn read_single_quotes(&mut self) -> Result<(), Problem> {
        let begin = self.line;
        self.add(b"");
        self.skip();
        loop {
            match self.take() {
                Some(b'\'') => return Ok(()),
                Some(byte) => self.add(&[byte]),
                None => return Err(Problem::new(begin, "the quote ' is not closed")),
            }
        }
    }

    fn read_double_quotes(&mut self) -> Result<(), Problem> {
        let begin = self.line;
        self.add(b"");
        self.skip();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.skip();
                    return Ok(());
                }
                Some(b'$') => {
                    let (value, _) = self.read_variable()?;
                    self.add(value.as_bytes());
                }
                Some(b'`') => {
                    return Err(self.problem("` in double quotes: no shell reads this file; write \\`"));
                }
                Some(b'\\') => {
                    self.skip();
                    match self.take() {
                        Some(byte @ (b'$' | b'`' | b'"' | b'\\')) => self.add(&[byte]),
                        Some(byte) => self.add(&[b'\\', byte]),
                        None => {}
                    }
                }
                Some(byte) => {
                    self.add(&[byte]);
                    self.skip();
                }
                None => return Err(Problem::new(begin, "the quote \" is not closed")),
            }
        }
    }

    /// The value of an unquoted variable is split at its blanks.
    fn read_unquoted_variable(&mut self) -> Result<(), Problem> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n');
        let (after, line) = (self.script.words.len(), self.line);
        let (value, name) = self.read_variable()?;
        let value = value.as_bytes();
        if value.is_empty() || value.iter().any(is_blank) {
            self.script.loose.push(Loose { after, line, name });
        }
        for byte in value {
            if is_blank(byte) { self.end_word() } else { self.add(&[*byte]) }
        }
        Ok(())
    }

    /// Reads a variable from its `$` on. Returns its value and its name.
    fn read_variable(&mut self) -> Result<(OsString, String), Problem> {
        self.skip();
        let in_braces = self.peek() == Some(b'{');
        if in_braces {
            self.skip();
        }
        let mut name = String::new();
        while let Some(byte) = self.peek() {
            let is_number = name.starts_with(|first: char| first.is_ascii_digit());
            let is_part = match byte {
                b'0'..=b'9' => !is_number || in_braces,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => !is_number,
                _ => false,
            };
            if !is_part {
                break;
            }
            name.push(char::from(byte));
            self.skip();
        }
        match (self.peek(), name.is_empty(), in_braces) {
            (Some(b'@'), true, false) => {
                return Err(self.problem("$@ has to be a word of its own, in quotes: \"$@\""));
            }
            (Some(b'('), true, false) => {
                return Err(self.problem("$(: no shell reads this file, so no command is run by it"));
            }
            (_, true, false) => {
                return Err(self.problem("$ without the name of a variable; write '$' for the character"));
            }
            (Some(b'}'), false, true) => self.skip(),
            (_, _, true) => {
                return Err(
                    self.problem(format!("${{{name}: only ${{NAME}} is known, and nothing else in braces"))
                );
            }
            (_, false, false) => {}
        }
        let value = if name.starts_with(|first: char| first.is_ascii_digit()) {
            name.parse().ok().and_then(|number: usize| self.arguments.get(number)).cloned()
        } else {
            (self.variable)(OsStr::new(&name))
        };
        let value = value.ok_or_else(|| Problem {
            hint: Some("a script gets the variables that chpst was started with; those of -e are set later"),
            ..self.problem(format!("${name} is not set"))
        })?;
        Ok((value, name))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Variables of the cases.
    const VARIABLES: [(&str, &str); 4] =
        [("A", "one"), ("B", " two  three "), ("EMPTY", ""), ("GLOB", "4*5")];
    /// The name of the script and its arguments.
    const ARGUMENTS: [&str; 4] = ["./run", "first", "", "the third"];

    fn read(text: &[u8]) -> Result<Script, Problem> {
        let arguments = ARGUMENTS.map(OsString::from);
        let variable = |name: &OsStr| {
            VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        parse(text, &arguments, &variable)
    }

    #[track_caller]
    fn are(text: &str, words: &[&str]) {
        assert_eq!(read(text.as_bytes()).unwrap().words, words, "{text}");
    }

    #[track_caller]
    fn is_wrong(text: &str, line: usize, what: &str) {
        let problem = read(text.as_bytes()).unwrap_err();
        assert_eq!((problem.line, problem.what.contains(what)), (line, true), "{text}: {problem:?}");
    }

    #[test]
    fn words_are_separated_by_blanks_and_line_ends() {
        are(
            "#!/sbin/chpst -@\n-u web  --stderr\n\t-e ./env # a comment\nprog -f\n",
            &["-u", "web", "--stderr", "-e", "./env", "prog", "-f"],
        );
        are("a\\\nb c\\\n d#e #f\\\ng", &["ab", "c", "d#e", "g"]);
        are("", &[]);
        assert_eq!(read(b"#!\n a 'b\nc' d\\\ne f\n").unwrap().lines, [2, 2, 3, 4]);
    }

    #[test]
    fn quotes_and_backslashes_are_those_of_sh() {
        are(r#"'a b' "c d" e\ f '' "" 'g'"h"i"#, &["a b", "c d", "e f", "", "", "ghi"]);
        are(
            r#"'$A \x' "\$A \x \\ \" \`" \$A \* '*' "|" \# '~' a~b"#,
            &[r"$A \x", "$A \\x \\ \" `", "$A", "*", "*", "|", "#", "~", "a~b"],
        );
        are("\"a\\\nb\" 'a\\\nb' \"c\nd\"", &["ab", "a\\\nb", "c\nd"]);
    }

    #[test]
    fn variables_are_replaced_and_split_without_quotes() {
        are(
            r#"$A ${A}x "$B" $B x$EMPTY"" $GLOB"#,
            &["one", "onex", " two  three ", "two", "three", "x", "4*5"],
        );
        are(r#"$EMPTY a "$EMPTY" b$B$A"#, &["a", "", "b", "two", "three", "one"]);
        are(r#"$1 "$3" ${3}x $0 $10"#, &["first", "the third", "the", "thirdx", "./run", "first0"]);
        are(r#"a "$@" b"#, &["a", "first", "", "the third", "b"]);
        assert_eq!(
            read(b"a $EMPTY\nx$B $A").unwrap().loose,
            [
                Loose { after: 1, line: 1, name: "EMPTY".to_owned() },
                Loose { after: 1, line: 2, name: "B".to_owned() },
            ]
        );
    }

    #[test]
    fn what_a_shell_would_do_is_an_error() {
        for character in ["|", "&", ";", "<", ">", "(", ")", "`", "*", "?", "["] {
            is_wrong(&format!("a\nb{character}c"), 2, &format!("unquoted {character}"));
        }
        is_wrong("a ~/b", 1, "unquoted ~");
        is_wrong("a\n$(b)", 2, "$(");
        is_wrong("a \"$(b)\"", 1, "$(");
        is_wrong("a \"`b`\"", 1, "` in double quotes");
        is_wrong("a\n\n${A:-b}", 3, "${A: only");
        is_wrong("${A", 1, "only");
        is_wrong("${}", 1, "only");
        is_wrong("${#A}", 1, "only");
        for text in ["$", "a$ b", "$$", "$?", "$#", "$*", "$-", "\"$\"", "$'a'"] {
            is_wrong(text, 1, "$ without the name");
        }
        is_wrong("$@", 1, "a word of its own");
        is_wrong("\"a$@\"", 1, "a word of its own");
        is_wrong("\"$@\"a", 1, "a word of its own");
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        is_wrong("a\nb $NONE c", 2, "$NONE is not set");
        is_wrong("$4", 1, "$4 is not set");
        is_wrong("${99999999999999999999}", 1, "is not set");
        is_wrong("a\n'b\nc", 2, "the quote ' is not closed");
        is_wrong("a\n\"b\nc", 2, "the quote \" is not closed");
        is_wrong("a\\", 1, "nothing after the backslash");
        is_wrong("a\nb\r\n", 2, "carriage return");
        is_wrong("a\nb\0c", 2, "NUL");
        are("a\rb", &["a\rb"]);
    }

    /// The words that sh makes of the text, or `None` where it finds a mistake.
    fn by_sh(text: &str) -> Option<Vec<Vec<u8>>> {
        let script = format!("set -- {text}\nprintf '%s\\0' \"$#\" \"$@\"");
        let output = Command::new("sh")
            .args(["-fuc", &script])
            .args(ARGUMENTS)
            .env_clear()
            .envs(VARIABLES)
            .output()
            .unwrap();
        let words = output.stdout.strip_suffix(b"\0")?;
        Some(words.split(|&byte| byte == 0).skip(1).map(<[u8]>::to_vec).collect())
    }

    /// Parts of which texts are made. A line end by itself would end the command for sh.
    #[rustfmt::skip]
    const PARTS: [&str; 34] = [
        " ", " ", "  ", "\t", "a", "-u", "é", "=", "{", "}", "!", "%", "\\\n", "\\ ", "\\\\", "\\$", "\\\"", "\\'", "a#",
        "'", "\"", "'b c'", "\"d e\"", "$A", "${A}", "$B", "$EMPTY", "\"$B\"", "\"$@\"", "$1", "$3", "$", "~",
        "\"a$A\\x\"",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever is accepted has the meaning that it has for sh.
        #[test]
        fn what_is_accepted_means_the_same_to_sh(
            parts in prop::collection::vec(prop::sample::select(&PARTS), 0..9),
            end in prop::sample::select(&["", " #", " #a 'b", "\\"]),
        ) {
            let text = parts.concat() + end;
            if let Ok(script) = read(text.as_bytes()) {
                let words: Vec<Vec<u8>> = script.words.into_iter().map(OsString::into_vec).collect();
                prop_assert_eq!(Some(words), by_sh(&text), "{}", text);
            }
        }

        /// Any bytes are parsed without a panic, and each word has a line of the file.
        #[test]
        fn any_bytes_have_words_or_a_problem(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let lines = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
            match read(&text) {
                Ok(script) => {
                    prop_assert_eq!(script.words.len(), script.lines.len());
                    prop_assert!(script.lines.iter().all(|line| (1..=lines).contains(line)));
                }
                Err(problem) => prop_assert!((1..=lines).contains(&problem.line)),
            }
        }
    }
}
