//! Starting `./check` of a service, which clients such as `sv` and the supervisors of those that need the service do.

use std::ffi::CStr;

use rustix::fd::BorrowedFd;
use rustix::process::Pid;

use crate::sys::spawn::{NotStarted, Program, Stream, spawn};
use crate::template::Instance;

/// Starts `./check` in the service directory `dir`, as leader of a session of its own. `streams` are its descriptors 0 to 2.
/// With `default_pipe`, SIGPIPE gets its default action back.
///
/// # Errors
///
/// It could not be started.
pub(crate) fn start(
    dir: BorrowedFd<'_>,
    instance: Option<&Instance>,
    streams: [Stream<'_>; 3],
    default_pipe: bool,
) -> Result<Pid, NotStarted> {
    let argv: &[&CStr] = match instance {
        Some(instance) => &[c"./check", &instance.argument],
        None => &[c"./check"],
    };
    let environment = instance.map(|instance| instance.variable.as_c_str());
    let [stdin, stdout, stderr] = streams;
    spawn(&Program {
        files: &[c"./check"],
        // The owner of the file cannot make us wait for longer than we want to.
        bounded: true,
        argv,
        environment: environment.as_slice(),
        directory: Some(dir),
        stdin,
        stdout,
        stderr,
        // A check that hangs is killed with its children. In exchange, ^C at a terminal does not reach it.
        new_session: true,
        default_pipe,
        ..Program::default()
    })
}
