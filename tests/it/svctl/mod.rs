//! `svctl`: a module for each command, or for some that belong together.

use std::path::Path;

use support::*;

mod acting;
mod causes;
mod completions;
mod importing;
mod log;
mod making;
mod schema;
mod seeing;
mod words;

/// `svctl` of ours, also where the programs of another runit are under test.
fn svctl() -> Run {
    run_file(executable()).arg("svctl")
}

/// The same on a tree.
fn svctl_in(tree: &Tree) -> Run {
    svctl().env("SVDIR", tree.root.join("service")).dir(tree.root.path())
}

/// What a command of `svctl` shows on a terminal of so many columns; `variables` are those of the shell.
fn on_terminal(tree: &Tree, columns: u32, variables: &str, words: &str) -> Outcome {
    needs_program("script");
    let dir = tree.root.join("service");
    let command =
        format!("{variables} SVDIR={} exec {} svctl {words}", dir.display(), executable().display());
    let line = format!("stty cols {columns} -onlcr; {command}");
    run_file("/usr/bin/script")
        .args(&["-qefc", &line, "/dev/null"])
        .env("TERM", "xterm")
        .dir(Path::new("/"))
        .go()
}
