//! Scripts of `chpst -@`: whatever the file holds, nothing panics, each word and each problem has a line of the file, and
//! words that are quoted are read back as they were.
//!
//! `scripts/fuzz 60 chpst`
#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../applets/chpst/script.rs"]
mod script;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let arguments = ["./run", "one", "t w o"].map(OsString::from);
    let variable = |name: &OsStr| (name != "NONE").then(|| OsString::from(" a  b"));
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let read = match script::parse(text, &arguments, &variable) {
        Ok(script) => script,
        Err(problem) => return assert!((1..=lines).contains(&problem.line)),
    };
    assert_eq!(read.words.len(), read.lines.len());
    assert!(read.lines.iter().all(|line| (1..=lines).contains(line)));
    let mut quoted = Vec::new();
    for word in &read.words {
        quoted.push(b'\'');
        quoted.extend(word.as_bytes().iter().flat_map(|byte| if *byte == b'\'' { &b"'\\''"[..] } else { std::slice::from_ref(byte) }));
        quoted.extend_from_slice(b"'\n");
    }
    // A carriage return before a line end is refused wherever it is.
    if let Ok(again) = script::parse(&quoted, &[], &|_| None) {
        assert_eq!(again.words, read.words);
    } else {
        assert!(quoted.windows(2).any(|two| two == b"\r\n"));
    }
});
