//! What a stranger on the machine, or a user to whom a part was given, can make root's programs do: nothing.
//!
//! The cases need root, which they drop for the stranger's part.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

mod announcements;
mod chpst;
mod init;
mod logs;
mod needs;
mod processes;
mod state;

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}
