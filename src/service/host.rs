//! One loop for any number of services: waits, and tells each what concerns it.
//!
//! Nobody is waited for but here, so a hook that hangs or a service in its second of delay holds up no other.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::process::{WaitOptions, wait};

use super::pair::Which;
use super::perform::Service;
use super::words::{Ended, Now};
use crate::control::Command;
use crate::event::{self, earlier};
use crate::sys::clock;
use crate::sys::signals::{self, Signals};

/// Services under one supervisor.
#[derive(Debug)]
pub struct Host {
    signals: Signals,
    /// Boxed: a list of the services themselves would take room for four where there is one.
    #[allow(clippy::vec_box, reason = "see above")]
    services: Vec<Box<Service>>,
}

/// The moment it is.
#[must_use]
pub fn now() -> Now {
    Now { at: clock::monotonic(), stamp: clock::wall() }
}

impl Host {
    /// A host without services, that waits for `signals`; CHLD, CHANGE and IO have to be among them.
    #[must_use]
    pub const fn new(signals: Signals) -> Self {
        Host { signals, services: Vec::new() }
    }

    /// Takes a service that was begun.
    pub fn add(&mut self, service: Box<Service>) {
        self.services.push(service);
    }

    /// Waits once, tells everybody, and gives the services that are over.
    #[allow(clippy::vec_box, reason = "as they are kept")]
    pub fn turn(&mut self) -> Vec<Box<Service>> {
        let (came_signal, ready) = self.wait();
        let now = now();
        if came_signal {
            self.take_signals(now);
        }
        for (index, which) in ready {
            if let Some(service) = self.services.get_mut(index) {
                service.read_commands(now, which);
            }
        }
        let mut over = Vec::new();
        let mut index = 0;
        while let Some(service) = self.services.get_mut(index) {
            if service.deadline().is_some_and(|at| now.at >= at) {
                service.tick(now);
            }
            let leaves = service.leave(now);
            service.publish(now);
            if leaves {
                over.push(self.services.swap_remove(index));
            } else {
                index += 1;
            }
        }
        over
    }

    /// Whether there is a service.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    fn wait(&self) -> (bool, Vec<(usize, Which)>) {
        let mut until = None;
        let mut whose = Vec::with_capacity(self.services.len() * 2);
        let mut fds = Vec::with_capacity(self.services.len() * 2 + 1);
        fds.push(PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN));
        for (index, service) in self.services.iter().enumerate() {
            until = earlier(until, service.deadline());
            for which in [Which::Main, Which::Log] {
                if let Some(control) = service.control(which) {
                    fds.push(PollFd::from_borrowed_fd(control, PollFlags::IN));
                    whose.push((index, which));
                }
            }
        }
        let all = event::wait(&mut fds, until);
        let came = |fd: &PollFd<'_>| all || !fd.revents().is_empty();
        let ready =
            fds.iter().skip(1).zip(whose).filter(|(fd, _)| came(fd)).map(|(_, whose)| whose).collect();
        (fds.first().is_some_and(came), ready)
    }

    fn take_signals(&mut self, now: Now) {
        let (mut children, mut changes, mut leave) = (false, false, false);
        self.signals.take(|came| match came.signal {
            signals::CHLD => children = true,
            signals::CHANGE | signals::IO => changes = true,
            signals::TERM => leave = true,
            _ => {}
        });
        if children {
            // One signal may stand for many ends.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let Some(how) = ended(status) else { continue };
                for service in &mut self.services {
                    if service.child_ended(now, pid, how) {
                        break;
                    }
                }
            }
        }
        if changes {
            for service in &mut self.services {
                service.look_again(now);
            }
        }
        if leave {
            for service in &mut self.services {
                service.command(now, Command::Exit);
            }
        }
    }
}

/// How a process ended, if it did.
fn ended(status: rustix::process::WaitStatus) -> Option<Ended> {
    /// Set in the wait status when a core was dumped.
    const CORE: i32 = 0x80;
    let low = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    if let Some(code) = status.exit_status() {
        Some(Ended::Code(low(code)))
    } else {
        let number = low(status.terminating_signal()?);
        Some(Ended::Signal { number, core: status.as_raw() & CORE != 0 })
    }
}
