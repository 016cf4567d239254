//! `svctl names`: the names of all services, a line each, for the completion of shells.

use svcore::Result;
use svcore::say;

use super::Asked;
use super::options::Opt;
use super::tree::Tree;

/// Prints the names. With `--log` only those of services with a directory `log`. A name with a newline is left out, since
/// no reader could tell it from two names.
pub(super) fn run(asked: &Asked) -> Result {
    use std::os::unix::ffi::OsStrExt;

    let tree = Tree::new(&asked.given);
    let mut out = Vec::new();
    for name in tree.names()? {
        let has_newline = name.as_bytes().contains(&b'\n');
        let is_wanted = !asked.given.has(Opt::Log) || tree.path().join(&name).join("log").is_dir();
        if is_wanted && !has_newline {
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
        }
    }
    say::out(&[&out]);
    Ok(0)
}
