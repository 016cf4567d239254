//! Black-box cases: what the programs do, seen from outside. See `support` for how to run them against stock runit.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

mod chpst;
mod chpst_script;
mod clients;
mod hints;
mod hosted_logs;
mod init;
mod install;
mod policies;
mod runsv;
mod runsvdir;
mod served;
mod suite;
mod sv;
mod svctl;
mod svlogd;
mod terminal;

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}
