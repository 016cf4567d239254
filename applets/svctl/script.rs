//! The text of scripts that `svctl` writes. Without I/O.

/// The first line of each script.
const SHELL: &[u8] = b"#!/bin/sh\n";

/// A script that is put together line by line.
#[derive(Debug)]
pub(super) struct Script(Vec<u8>);

impl Script {
    /// A script without commands. Each line of `comment` gets a `#`.
    pub(super) fn new(comment: &str) -> Self {
        let mut script = Script(SHELL.to_vec());
        for line in comment.lines() {
            script.line(&[b"# ", line.as_bytes()]);
        }
        script
    }

    /// Adds a line.
    pub(super) fn line(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self.0.push(b'\n');
    }

    /// Sends standard error to the log service, too.
    pub(super) fn errors_to_log(&mut self) {
        self.line(&[b"exec 2>&1"]);
    }

    /// Changes the directory, or gives up.
    pub(super) fn change_directory(&mut self, dir: &[u8]) {
        self.line(&[b"cd ", &quoted(dir), b" || exit 111"]);
    }

    /// Its text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The script of a log service: `svlogd` is the command that starts svlogd, and `dir` has the logs.
pub(super) fn log_run(comment: &str, svlogd: &[u8], dir: &[u8]) -> Vec<u8> {
    let dir = quoted(dir);
    let mut script = Script::new(comment);
    script.line(&[b"[ -d ", &dir, b" ] || mkdir -p ", &dir, b" || exit 111"]);
    script.line(&[b"exec ", svlogd, b" -tt ", &dir]);
    script.into_bytes()
}

/// A word as a shell needs it. Unlike [`svcore::hint::quoted`], which is for people, no byte of it is lost.
pub(super) fn quoted(word: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        return word.to_vec();
    }
    let mut text = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' => text.extend_from_slice(br"'\''"),
            byte => text.push(byte),
        }
    }
    text.push(b'\'');
    text
}

/// Words as one command line.
pub(super) fn command_line<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Vec<u8> {
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.append(&mut quoted(word));
    }
    line
}

/// Whether it can be the name of a variable.
pub(super) fn is_variable(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_words_stay_plain() {
        assert_eq!(command_line([&b"httpd"[..], b"-p", b"80", b"", b"it's"]), br"httpd -p 80 '' 'it'\''s'");
        // Otherwise it would be an assignment.
        assert_eq!(quoted(b"A=B"), b"'A=B'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(words in prop::collection::vec(prop::collection::vec(1u8.., 0..12), 1..4)) {
            let line = command_line(words.iter().map(Vec::as_slice));
            let script = [b"printf '%s\\0' ".as_slice(), &line].concat();
            let out = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
            let read: Vec<Vec<u8>> = out.stdout.strip_suffix(b"\0").unwrap().split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, words);
        }
    }
}
