//! The lines of a Procfile: `name: command`. Without I/O.

use crate::svctl::script::is_variable;

/// A line that describes a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The name of the service.
    pub(super) name: Vec<u8>,
    /// What a shell would get.
    pub(super) command: Vec<u8>,
    /// Its number in the file, from 1.
    pub(super) number: usize,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    pub(super) why: &'static str,
}

/// How a command is written into a script so that the script becomes the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// The text ends in `exec PROGRAM …`.
    Exec(Vec<u8>),
    /// Only a shell of its own can run it.
    Hosted,
    /// No shell can: a quote is not closed, or the line ends in a backslash.
    Broken,
}

/// The services of a Procfile, in its order.
///
/// # Errors
///
/// All lines that are neither empty, nor a comment, nor `name: command`.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Line>, Vec<Fault>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let number = index.saturating_add(1);
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match service(line) {
            Ok((name, _)) if lines.iter().any(|line| line.name == name) => {
                faults.push(Fault { number, why: "a service of this name was there before" });
            }
            Ok((name, command)) => {
                lines.push(Line { name: name.to_vec(), command: command.to_vec(), number });
            }
            Err(why) => faults.push(Fault { number, why }),
        }
    }
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}

/// Name and command of a line.
fn service(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let (Some(name), Some(command)) = (parts.next(), parts.next()) else {
        return Err("it is not \"name: command\"");
    };
    if !is_name(name) {
        return Err("a name has letters, digits and _-.@+ only, and begins with a letter, a digit or _");
    }
    let command = command.trim_ascii();
    if command.is_empty() || command.starts_with(b"#") {
        return Err("it has no command");
    }
    if command.contains(&0) {
        return Err("it has a null byte");
    }
    match form(command) {
        Form::Broken => Err("a quote is not closed, or it ends in a backslash"),
        Form::Exec(_) | Form::Hosted => Ok((name, command)),
    }
}

/// Whether it can be the name of a service without being misread by a shell, a person or `sv`.
pub(super) fn is_name(name: &[u8]) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(is_first) && name.iter().all(|byte| is_first(byte) || b"-.@+".contains(byte))
}

/// Words that a shell understands itself where a command begins, so that `exec` cannot stand before them.
const OF_SHELL: &str = "! . : [ [[ alias bg break case cd command continue do done elif else esac eval exit export fg fi for \
    function hash if jobs local read readonly return select set shift source then time times trap type ulimit umask unalias \
    unset until wait while { }";
/// Those of them that may stand before `&&` or `;` in the script itself.
const STEPS: &str = ". : cd export set ulimit umask unset";

/// Whether a word is one of a list.
fn is_in(list: &str, word: &[u8]) -> bool {
    list.split_ascii_whitespace().any(|one| one.as_bytes() == word)
}

/// How to write a command. Steps that are joined by `&&` or `;` stay in the script, and the last one is executed; with
/// any other operator, and with commands in commands, a shell of its own has to stay.
pub(super) fn form(command: &[u8]) -> Form {
    let Some(scan) = scan(command) else { return Form::Broken };
    let Some((last, steps)) = scan.starts.split_last().filter(|_| !scan.is_complex) else {
        return Form::Hosted;
    };
    for step in steps {
        let (_, word) = first_word(command.get(*step..).unwrap_or_default());
        if is_in(OF_SHELL, word) && !is_in(STEPS, word) || word == b"exec" || word.is_empty() {
            return Form::Hosted;
        }
    }
    let (before, end) = command.split_at_checked(*last).unwrap_or((command, b""));
    let (skipped, word) = first_word(end);
    if is_in(OF_SHELL, word) || word.is_empty() || word.starts_with(b"#") {
        return Form::Hosted;
    }
    if word == b"exec" {
        return Form::Exec(command.to_vec());
    }
    let (assignments, program) = end.split_at_checked(skipped).unwrap_or((end, b""));
    Form::Exec([before, assignments, b"exec ", program].concat())
}

/// What a scan of a command finds.
struct Scan {
    /// Where its simple commands begin.
    starts: Vec<usize>,
    /// It has an operator other than `&&` and `;`, or commands in commands.
    is_complex: bool,
}

/// Commands in commands may have quotes in quotes. Only a shell understands them.
const NESTED: Scan = Scan { starts: Vec::new(), is_complex: true };

/// Looks at a command as a shell does; `None` if a quote is not closed.
fn scan(command: &[u8]) -> Option<Scan> {
    let mut found = Scan { starts: vec![0], is_complex: false };
    let mut at = 0_usize;
    let mut in_double = false;
    let mut is_word_start = true;
    let next = |at: usize| command.get(at.saturating_add(1)).copied();
    while let Some(&byte) = command.get(at) {
        let mut step = 1;
        match (byte, in_double) {
            (b'\\', _) => {
                next(at)?;
                step = 2;
            }
            (b'"', _) => in_double = !in_double,
            (b'\'', false) => step = length_to(command, at, b'\'')?,
            (b'$', _) if next(at) == Some(b'{') => {
                let length = length_to(command, at, b'}')?;
                let inside = command.get(at.saturating_add(2)..at.saturating_add(length)).unwrap_or_default();
                if inside.iter().any(|byte| b"$`'\"\\{".contains(byte)) {
                    return Some(NESTED);
                }
                step = length;
            }
            (b'$', _) if next(at) == Some(b'(') => return Some(NESTED),
            (b'`', _) => return Some(NESTED),
            // Up to the end of the line.
            (b'#', false) if is_word_start => break,
            (b'&', false) if next(at) == Some(b'&') => {
                step = 2;
                found.starts.push(at.saturating_add(step));
            }
            (b';', false) if next(at) != Some(b';') => found.starts.push(at.saturating_add(step)),
            // `2>&1` and `>&2` are redirections.
            (b'&', false)
                if at.checked_sub(1).and_then(|at| command.get(at)).is_some_and(|b| b"<>".contains(b)) => {}
            // An operator at the end leaves nothing to execute, and `<<` would read the rest of the script.
            (b';' | b'&' | b'|' | b'(' | b')', false) => found.is_complex = true,
            (b'<', false) if next(at) == Some(b'<') => found.is_complex = true,
            _ => {}
        }
        is_word_start = !in_double && b" \t;&|".contains(&byte);
        at = at.saturating_add(step);
    }
    (!in_double).then_some(found)
}

/// How far it is from `at` to just behind the next `end`.
fn length_to(command: &[u8], at: usize, end: u8) -> Option<usize> {
    let after = command.get(at.saturating_add(1)..)?;
    Some(after.iter().position(|&byte| byte == end)?.saturating_add(2))
}

/// The first word of a simple command that is no assignment, and where it begins.
fn first_word(command: &[u8]) -> (usize, &[u8]) {
    let mut at = 0_usize;
    loop {
        let rest = command.get(at..).unwrap_or_default();
        let blanks = rest.len().saturating_sub(rest.trim_ascii_start().len());
        at = at.saturating_add(blanks);
        let rest = command.get(at..).unwrap_or_default();
        let word = rest.get(..word_length(rest)).unwrap_or_default();
        if word.is_empty() || !is_assignment(word) {
            return (at, word);
        }
        at = at.saturating_add(word.len());
    }
}

/// How long the first word is, with its quotes.
fn word_length(text: &[u8]) -> usize {
    let mut at = 0_usize;
    let mut quote = None;
    while let Some(&byte) = text.get(at) {
        match (byte, quote) {
            (b'\\', None | Some(b'"')) => at = at.saturating_add(1),
            (byte, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            (b'\'' | b'"', None) => quote = Some(byte),
            (b' ' | b'\t' | b';' | b'&', None) => break,
            _ => {}
        }
        at = at.saturating_add(1);
    }
    at.min(text.len())
}

/// Whether a word is `NAME=…`.
fn is_assignment(word: &[u8]) -> bool {
    let name = word.split(|&byte| byte == b'=').next().unwrap_or_default();
    name.len() < word.len() && is_variable(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formed(command: &str) -> String {
        match form(command.as_bytes()) {
            Form::Exec(text) => String::from_utf8(text).unwrap(),
            Form::Hosted => "hosted".to_owned(),
            Form::Broken => "broken".to_owned(),
        }
    }

    #[test]
    fn a_simple_command_is_executed() {
        for (command, expected) in [
            ("bin/rails s -p 3000", "exec bin/rails s -p 3000"),
            ("echo \"a; b\" 'c | d' e\\;f", "exec echo \"a; b\" 'c | d' e\\;f"),
            ("A=1 B='x y' env", "A=1 B='x y' exec env"),
            ("cd web && npm start", "cd web && exec npm start"),
            ("make; ./server", "make; exec ./server"),
            ("cd a && X=1 ./b ; c -d", "cd a && X=1 ./b ; exec c -d"),
            ("exec ./server", "exec ./server"),
            ("./server 2>&1 >/dev/null", "exec ./server 2>&1 >/dev/null"),
            ("./server -p ${PORT:-80} # a; b", "exec ./server -p ${PORT:-80} # a; b"),
            ("./server -p $PORT", "exec ./server -p $PORT"),
            ("a#b c", "exec a#b c"),
        ] {
            assert_eq!(formed(command), expected);
        }
    }

    #[test]
    fn only_what_needs_a_shell_gets_one() {
        for command in [
            "a | b",
            "a & b",
            "a &",
            "a || b",
            "(a)",
            "a $(b)",
            "a \"`b`\"",
            "if a; then b; fi",
            "cd x",
            "A=1",
            "while :; do a; done",
            "a;",
            "a;# x",
            "a && b; # x",
            "a && ",
            "! a",
            "{ a; }",
            "cat <<x",
            "a ${B:-\"}\"} c",
            "a; exit 3",
            "exit 1 && a",
            "case a in b) c ;; esac",
            "trap x TERM; a",
        ] {
            assert_eq!(formed(command), "hosted", "{command}");
        }
    }

    #[test]
    fn open_quotes_are_no_command() {
        for command in ["a 'b", "a \"b", "a \\", "a ${b", "\"it's"] {
            assert_eq!(formed(command), "broken", "{command}");
        }
        assert_eq!(formed("\"it's\""), "exec \"it's\"");
    }

    #[test]
    fn lines_are_services_comments_or_faults() {
        let text = b"# all\r\n\nweb: rails s\r\n  worker-1 : x\n  job:  a: b \n";
        let faults = parse(text).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.number).collect::<Vec<_>>(), [4]);
        let lines = parse(b"# all\r\n\nweb: rails s\r\n  job:a: b ").unwrap();
        let plain = |name: &[u8], command: &[u8], number| Line {
            name: name.to_vec(),
            command: command.to_vec(),
            number,
        };
        assert_eq!(lines, [plain(b"web", b"rails s", 3), plain(b"job", b"a: b", 4)]);
        let why = |text: &[u8]| parse(text).unwrap_err().first().unwrap().why;
        assert!(why(b"web: a\nweb: b").contains("before"));
        assert!(why(b"web").contains("name: command"));
        assert!(why(b"web:  ").contains("no command"));
        assert!(why(b"web: # x").contains("no command"));
        assert!(why(b"web: 'a").contains("quote"));
        for name in ["a/b", ".a", "-a", "a b", "", "..", "\u{e4}"] {
            assert!(why(format!("{name}: x").as_bytes()).contains("name has"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(text: Vec<u8>, command in "[a&;|'\"$\\\\{}()#= ]{0,20}") {
            let _ = parse(&text);
            let _ = form(command.as_bytes());
        }
    }
}
