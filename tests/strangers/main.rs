//! What a stranger on the machine, or a user to whom a part was given, can make root's programs do: nothing.
//!
//! The cases need root, which they drop for the stranger's part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]
#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../it/harness.rs"]
mod harness;

mod chpst;
mod init;
mod logs;
mod processes;
mod state;
