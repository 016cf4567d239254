//! How a service is ended: the files `down-signal`, `timeout-kill` and `timeout-finish` in its directory, named as s6
//! has them, and `essential`.

use std::ffi::CStr;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::process::Pid;

use super::{Machine, Service};
use crate::service::pair::Which;
use crate::service::words::{Ended, Script};
use crate::status::Want;
use crate::sys::signal;
use crate::{Signal, decimal, files};

impl Service {
    /// Sends the signal by which one of the two is to end.
    pub(super) fn end(&self, which: Which, pid: Pid) {
        // It may have ended a moment ago; then its end is what counts.
        let _ = signal::send(pid, self.down_signal(which));
    }

    fn down_signal(&self, which: Which) -> Signal {
        let mut buffer = [0; 32];
        let Some(text) = self.setting(which, c"down-signal", &mut buffer) else { return Signal::TERM };
        std::str::from_utf8(text).ok().and_then(Signal::from_text).unwrap_or_else(|| {
            self.warn(b"down-signal: neither a name nor a number of a signal, sending TERM", None);
            Signal::TERM
        })
    }

    /// How long a script has to end; `None`: as long as it takes.
    pub(super) fn patience(&self, which: Which, script: Script) -> Option<Duration> {
        let name = match script {
            Script::Run => c"timeout-kill",
            Script::Finish(_) => c"timeout-finish",
        };
        let mut buffer = [0; 32];
        let text = self.setting(which, name, &mut buffer)?;
        match decimal::whole(text) {
            Some(0) => None,
            Some(millis) => Some(Duration::from_millis(millis)),
            None => {
                self.warn(
                    format!("{}: not a number of milliseconds, ignored", name.to_string_lossy()).as_bytes(),
                    None,
                );
                None
            }
        }
    }

    /// The word in a file of one of the two directories; `None` if there is no such file, or nothing in it.
    fn setting<'b>(&self, which: Which, name: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let text = files::read_start(self.directory_of(which)?, name, buffer).ok()?.trim_ascii();
        (!text.is_empty()).then_some(text)
    }

    fn directory_of(&self, which: Which) -> Option<BorrowedFd<'_>> {
        match which {
            Which::Main => Some(self.dir.as_fd()),
            Which::Log => self.log.as_ref().map(|log| log.dir.as_fd()),
        }
    }

    /// A script did not end in its time.
    pub(super) fn kill_late(&self, which: Which, pid: Pid, script: Script) {
        let time = self.patience(which, script).map_or(0, |patience| patience.as_millis());
        self.warn(format!("{}did not end in {time} ms: killed", of(which, script)).as_bytes(), None);
        let _ = signal::send(pid, Signal::KILL);
    }

    /// `./run` ended by itself; if the service is essential, that is kept for [`Service::take_essential_end`].
    pub(super) fn note_own_end(&mut self, how: Ended) {
        if files::look(self.dir.as_fd(), c"essential").is_ok_and(|stat| stat.is_some()) {
            self.essential_end.get_or_insert(how);
            if self.of_init {
                // Everything ends now; it is not started once more before that.
                self.hold();
            }
        }
    }

    /// How a service with a file `essential` ended by itself, if it did since this was last asked.
    pub const fn take_essential_end(&mut self) -> Option<Ended> {
        self.essential_end.take()
    }

    /// Whether [`Service::take_essential_end`] has something to give.
    #[must_use]
    pub const fn has_essential_end(&self) -> bool {
        self.essential_end.is_some()
    }

    /// Whether the service is down for good; its log service may still read.
    #[must_use]
    pub fn main_is_over(&self) -> bool {
        self.pair.main().want() == Want::Exit && self.pair.main().is_down() && self.hooks.is_empty()
    }

    /// Kills what still runs of one of the two, and says so, a line for each. After that no `./finish` is run.
    pub fn kill(&mut self, which: Which) {
        self.killed |= which == Which::Main;
        let machine = self.pair.get(which);
        if let Some(pid) = machine.and_then(Machine::pid) {
            let is_run = self.pair.get(which).is_some_and(Machine::is_running);
            let script = if is_run { Script::Run } else { Script::Finish(Ended::Code(0)) };
            self.warn(format!("{}did not end in time: killed", of(which, script)).as_bytes(), None);
            let _ = signal::send(pid, Signal::KILL);
        }
        if which == Which::Main {
            for running in &self.hooks {
                let name = format!("control/{} did not end in time: killed", char::from(running.hook.byte()));
                self.warn(name.as_bytes(), None);
                let _ = signal::send(running.pid, Signal::KILL);
            }
        }
    }

    /// From now on nothing is started but `./finish`, and the log service as long as it has something to read.
    pub fn hold(&mut self) {
        self.pair.hold();
    }

    /// The processes of both, and of hooks.
    pub fn processes(&self) -> impl Iterator<Item = Pid> {
        [self.process(Which::Main), self.process(Which::Log)]
            .into_iter()
            .flatten()
            .chain(self.hooks.iter().map(|hook| hook.pid))
    }

    /// The process of one of the two.
    #[must_use]
    pub fn process(&self, which: Which) -> Option<Pid> {
        self.pair.get(which).and_then(Machine::pid)
    }
}

const fn of(which: Which, script: Script) -> &'static str {
    match (which, script) {
        (Which::Main, Script::Run) => "./run ",
        (Which::Main, Script::Finish(_)) => "./finish ",
        (Which::Log, _) => "log/./run ",
    }
}
