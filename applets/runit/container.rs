//! Whether this process 1 is that of a container.

use rustix::fs::{CWD, readlinkat};
use rustix::process::{Pid, test_kill_process};

/// Whether we are process 1 of a container and not of a machine. Ask before any process is started.
pub(crate) fn is_container() -> bool {
    /// The link to the first of all PID namespaces: its number is the same in every kernel.
    const FIRST: &[u8] = b"pid:[4026531836]";
    let Ok(namespace) = readlinkat(CWD, c"/proc/self/ns/pid", Vec::new()) else {
        // Without /proc: on a machine, process 2 is a part of the kernel; in a container there is none yet.
        let second = Pid::from_raw(2).map(test_kill_process);
        return !matches!(second, Some(Ok(())));
    };
    namespace.to_bytes() != FIRST
}
