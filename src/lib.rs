//! `svcore`: runit's formats, the life of a service, and the system calls they need.
//!
//! This library knows no applet. What only one program decides lives in that program's folder under
//! `applets/`; what another runit program could read or share lives here.

pub mod actions;
pub(crate) mod cgroup;
pub(crate) mod check;
pub mod client;
pub mod control;
pub mod decimal;
pub mod envdir;
pub mod error;
pub mod event;
pub mod exec;
pub mod facts;
pub mod files;
pub mod hint;
pub mod install;
pub mod label;
pub mod log_tail;
pub mod logger;
pub mod moment;
pub mod multicall;
pub mod needs;
pub(crate) mod notify;
pub mod old_log;
pub mod oom;
pub mod own_file;
pub mod passwd;
pub(crate) mod path;
pub mod policy;
pub(crate) mod printable;
pub mod privilege;
pub mod proc_stat;
pub mod process;
pub mod process_one;
pub mod recent;
pub mod role;
pub mod say;
pub mod scan;
pub mod service;
pub mod serving;
pub mod slice;
pub mod sort;
pub mod state;
pub mod status;
pub mod supervise;
pub mod sys;
pub mod tai;
pub mod template;
pub mod trust;
pub mod utmp;

pub use error::{Context, Error, Failed, Result};
pub use install::{Page, PageContent};
pub use multicall::{Applet, Call, Codes};
pub use sys::signal::Signal;
