//! `svctl`: a module for each command, or for some that belong together.

use support::*;

mod completions;
mod importing;
mod making;
mod words;

/// `svctl` of ours, also where the programs of another runit are under test.
fn svctl() -> Run {
    run_file(executable()).arg("svctl")
}

/// The same on a tree.
fn svctl_in(tree: &Tree) -> Run {
    svctl().env("SVDIR", tree.root.join("service")).dir(tree.root.path())
}
