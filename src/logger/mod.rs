//! Logs of services without `log/run`.
//!
//! `runsv` starts an `svlogd` for such a log. `runsvinit` starts one for all of them, or one for each account: it sends the
//! pipe and the directory of each log over a socket ([`Loggers`], [`protocol`]). That process stands apart, so that a slow
//! disk holds up no supervisor; a supervisor keeps the pipes, so that no line is lost when the process ends.

pub mod account;
pub mod directory;
mod loggers;
pub mod protocol;

use std::ffi::CStr;

pub use loggers::{Gone, Log, LogEnd, Loggers, MakeOutputs, NotKept};

/// Tells `svlogd` that its standard input is the log of one such service.
pub const HOSTED: &CStr = c"--hosted";
/// Tells it that its standard input is the socket by which a supervisor sends it the logs of many.
pub const SHARED: &CStr = c"--shared";
