//! What services are where there is no shell: does what the file `script` beside it says, a line each.
//!
//! `say TEXT`, `sleep MILLISECONDS`, `run PROGRAM [ARGUMENT …]` (and say its output and its code), `cat FILE`, `make FILE`
//! (an empty one), `await FILE` (until it exists), `wait` until the end. Built by the cases with the compiler alone, as a static executable.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

fn main() {
    let script = std::fs::read_to_string("script").unwrap_or_default();
    for line in script.lines() {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        match verb {
            "say" => say(rest),
            "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0))),
            "cat" => say(std::fs::read_to_string(rest).unwrap_or_default().trim_end()),
            "make" => drop(std::fs::File::create(rest)),
            "await" => {
                while !std::path::Path::new(rest).exists() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            "run" => match Command::new(words[0]).args(&words[1..]).output() {
                Ok(output) => {
                    say(String::from_utf8_lossy(&output.stdout).trim_end());
                    say(String::from_utf8_lossy(&output.stderr).trim_end());
                    say(&format!("{rest}: {}", output.status));
                }
                Err(error) => say(&format!("{rest}: {error}")),
            },
            "wait" => loop {
                std::thread::sleep(Duration::from_secs(1000));
            },
            _ => say(&format!("what is {verb}?")),
        }
    }
}

/// Where nobody listens, nothing is said.
fn say(text: &str) {
    if !text.is_empty() {
        let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
    }
}
