//! Black-box cases: what the programs do, seen from outside. See [`harness`] for how to run them against stock runit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]
#![allow(missing_docs, unreachable_pub)]

mod chpst;
mod clients;
mod harness;
mod init;
mod install;
mod runsv;
mod runsvdir;
mod served;
mod suite;
mod sv;
mod svlogd;
