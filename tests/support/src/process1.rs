//! Process 1 of a namespace, in the root of the machine.

use std::path::Path;

use crate::{Run, Running, SIGKILL, children_of, eventually, kill, process_name};

/// An `unshare` and its child, which is process 1 of a namespace. Both end with their owner.
pub struct Process1 {
    unshare: Running,
    /// Its process id outside the namespace.
    pub pid: i32,
}

impl Process1 {
    /// Runs an `unshare --fork`, and waits until its child is called `name`. Messages go to `err`.
    pub fn start(unshare: Run, name: &str, err: &Path) -> Self {
        let unshare = unshare.start(err);
        let find = || children_of(unshare.pid()).into_iter().find(|&child| process_name(child) == name);
        let mut pid = None;
        eventually("process 1", || {
            pid = find();
            pid.is_some()
        });
        Process1 { unshare, pid: pid.unwrap() }
    }

    /// Sends it a signal from outside.
    pub fn signal(&self, signal: i32) {
        kill(self.pid, signal);
    }

    /// Waits for its end; its exit code, or 128 and the number of a signal.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        self.unshare.exit_code()
    }
}

impl Drop for Process1 {
    fn drop(&mut self) {
        if self.unshare.ended().is_none() {
            // With process 1 the kernel ends all that is in the namespace.
            self.signal(SIGKILL);
            self.exit_code();
        }
    }
}
