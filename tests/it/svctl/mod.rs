//! `svctl`: a module for each command, or for some that belong together.

mod log;
mod words;
