//! What the cases of all test targets share: how they are run, what they need, and the words they are written in.
//!
//! A target is a list of modules with `#[test]` functions, and this:
//!
//! ```ignore
//! #[macro_use] // for #[test]
//! extern crate support_attribute;
//!
//! fn main() -> std::process::ExitCode {
//!     support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
//! }
//! ```
//!
//! `RUNIT_REFERENCE=dir` runs the same cases against the programs in `dir`, such as Debian's runit; cases in modules
//! called `ours` are about what stock runit does not do (`--skip ours::`), and [`differs`] marks the other
//! deliberate differences in place.
#![allow(clippy::new_without_default, reason = "`new` makes directories")]

mod cases;
mod control_group;
mod files;
mod machine;
mod needs;
mod payload;
mod process1;
mod processes;
mod programs;
mod service;
mod status;
mod tree;
pub mod truth;
mod waiting;

pub use cases::{Case, run_cases, run_cases_on_the_main_thread};
pub use control_group::ControlGroup;
pub use files::{TempDir, make_fifo, open_fifo, read, remove_served, send, write_script};
#[doc(hidden)]
pub use inventory;
pub use machine::{Machine, Root, needs_machine};
pub use needs::{
    needs, needs_namespaces, needs_or_else, needs_program, needs_root, needs_stock, needs_unshare,
};
pub use payload::payload;
pub use process1::Process1;
pub use processes::*;
pub use programs::{
    Outcome, Run, Running, bin, differs, executable, number_of, path_variable, program, reference, run,
    run_file, set_executable,
};
pub use service::Service;
pub use status::{State, Status, Want, stamp};
pub use tree::{Tree, under_any_supervisor, under_each_supervisor};
pub use waiting::{PATIENCE, eventually, holds_soon, promptly, steadily, time_of};
