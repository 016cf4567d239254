//! Programs in `control/` that stand in for what a command does, or come with it.

use std::ffi::CString;

use rustix::fd::AsFd;
use rustix::process::Pid;

use super::{Running, Service};
use crate::control::Hook;
use crate::say::Message;
use crate::service::pair::Which;
use crate::service::words::{Event, Now};
use crate::sys::spawn::{Program, spawn};
use crate::{files, trust};

impl Service {
    /// Runs `control/C` of the service, if there is one that can be run.
    pub(super) fn start_hook(
        &mut self,
        now: Now,
        which: Which,
        hook: Hook,
        target: Option<Pid>,
    ) -> Option<Event> {
        let done = Some(Event::HookEnded { hook, pid: target, instead: false });
        let starts_nothing = hook == Hook::Up && self.pair.main().is_held();
        if which == Which::Log || self.gone || starts_nothing {
            return done;
        }
        let letter = char::from(hook.byte());
        let Ok(name) = CString::new(format!("control/{letter}")) else { return done };
        let bounded = match files::look(self.dir.as_fd(), &name) {
            Ok(Some(stat)) if files::is_executable(&stat) => trust::is_of_others(&stat),
            Ok(_) => return done,
            // No directory `control` at all.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTDIR) => return done,
            Err(error) => {
                self.warn(format!("unable to stat control/{letter}").as_bytes(), Some(&error));
                return done;
            }
        };
        // A hook may look at the status, and is promised that of before the start.
        self.publish(now);
        let pid = target.map(|pid| pid.as_raw_nonzero().to_string()).unwrap_or_default();
        let Ok(pid) = CString::new(pid) else { return done };
        let mut program = Program {
            files: &[&name],
            argv: &[&name, &pid],
            directory: Some(self.dir.as_fd()),
            new_session: self.of_init,
            bounded,
            ..Program::default()
        };
        self.set_streams_of_main(&mut program);
        match spawn(&program) {
            Ok(pid) => {
                self.hooks.push(Running { pid, hook, target });
                None
            }
            Err(why) => {
                let no_process = format!("unable to fork for control/{letter}");
                Message::not_started(&self.who, &why, &no_process, "unable to run control/?").print_now();
                done
            }
        }
    }
}
