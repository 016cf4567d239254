//! What commands do, and the hooks in `control/` that may stand in for their signals.

use rustix::process::Pid;

use super::Machine;
use super::state::{Down, MachineState, Preparing};
use crate::Signal;
use crate::control::{Command, Hook};
use crate::service::step::{Action, Actions, Now, Script};
use crate::status::Want;

impl Machine {
    pub(super) fn command(&mut self, now: Now, command: Command) -> Actions {
        match command {
            // It is to end for good. Whoever writes to the FIFO neither starts it again nor takes the exit back.
            Command::Up | Command::Once if self.held => Actions::none(),
            Command::Down if self.held && self.want == Want::Exit => Actions::none(),
            Command::Up => {
                self.forget_verdict(now);
                self.set_want(Want::Up, false);
                Actions::from(Action::Publish).and(self.start_if_due(now, false))
            }
            Command::Once => {
                self.forget_verdict(now);
                self.set_want(Want::Down, true);
                Actions::from(Action::Publish).and(self.start_if_due(now, false))
            }
            Command::Down | Command::Exit => {
                self.forget_given_up();
                self.set_want(if command == Command::Exit { Want::Exit } else { Want::Down }, false);
                Actions::from(Action::Publish).and(self.stop())
            }
            Command::Restart => {
                if let MachineState::Running(running) = &mut self.state {
                    running.restart = true;
                }
                self.stop()
            }
            Command::Term => self.signal(Signal::TERM),
            Command::Kill => self.signal(Signal::KILL),
            Command::Send(signal) => self.signal(signal),
            Command::Pause | Command::Continue => {
                let pause = command == Command::Pause;
                if self.is_running() {
                    return self.signal(if pause { Signal::STOP } else { Signal::CONT });
                }
                self.paused = pause;
                Action::Publish.into()
            }
        }
    }

    /// Sets what is wanted. A wanted start, as by `o`, counts only if `./run` is not running already.
    pub(super) const fn set_want(&mut self, want: Want, start_once: bool) {
        self.want = want;
        if let MachineState::Down(Down { once, .. }) | MachineState::Preparing(Preparing { once }) =
            &mut self.state
        {
            *once = start_once;
        }
    }

    /// Asks `./run` to end; its timeout begins now.
    fn stop(&mut self) -> Actions {
        if !self.is_running() {
            return Actions::none();
        }
        self.expect_nothing();
        Actions::from(Action::AskTimeout(Script::Run)).and(self.signal(Signal::TERM))
    }

    /// Sends a signal to `./run`, after its hook and only if that does not stand in for it.
    pub(super) fn signal(&mut self, signal: Signal) -> Actions {
        let MachineState::Running(running) = &mut self.state else { return Actions::none() };
        // Other signals are not meant to end it: a service that survived HUP and crashes later crashed on its own.
        running.asked |= matches!(signal, Signal::TERM | Signal::KILL);
        let pid = running.pid;
        match Hook::instead_of(signal) {
            Some(hook) => self.start_hook(hook, Some(pid)),
            None => Action::Send(pid, signal).into(),
        }
    }

    pub(super) fn start_hook(&mut self, hook: Hook, pid: Option<Pid>) -> Actions {
        if self.hooks.ask_for(hook) { Action::Hook(hook, pid).into() } else { Actions::none() }
    }

    pub(super) fn hook_ended(&mut self, now: Now, hook: Hook, pid: Option<Pid>, instead: bool) -> Actions {
        match hook {
            Hook::Up => match self.state {
                MachineState::Preparing(_) if self.wants_start() => Action::Start(Script::Run).into(),
                MachineState::Preparing(Preparing { once }) => {
                    self.state = MachineState::Down(Down { not_before: now.at, once });
                    Action::Publish.into()
                }
                MachineState::Down(_) | MachineState::Running(_) | MachineState::Finishing(_) => {
                    Actions::none()
                }
            },
            Hook::Down | Hook::Exit => Actions::none(),
            Hook::Term => self.hook_of_term_ended(pid, instead),
            Hook::Alrm
            | Hook::Cont
            | Hook::Hup
            | Hook::Int
            | Hook::Kill
            | Hook::Quit
            | Hook::Stop
            | Hook::Usr1
            | Hook::Usr2 => self.hook_of_signal_ended(hook, pid, instead),
        }
    }

    /// The hook of a signal other than TERM ended.
    fn hook_of_signal_ended(&mut self, hook: Hook, pid: Option<Pid>, instead: bool) -> Actions {
        // The process that it was started for may have ended meanwhile.
        let Some(pid) = self.running().filter(|&running| pid == Some(running)) else {
            return Actions::none();
        };
        let sent = match hook.signal() {
            Some(signal) if !instead => Action::Send(pid, signal).into(),
            _ => Actions::none(),
        };
        if matches!(hook, Hook::Stop | Hook::Cont) {
            self.paused = hook == Hook::Stop;
            return sent.then(Action::Publish);
        }
        sent
    }

    fn hook_of_term_ended(&mut self, pid: Option<Pid>, instead: bool) -> Actions {
        let mut actions = Actions::none();
        let mut for_process = None;
        if let MachineState::Running(running) = &mut self.state {
            if pid != Some(running.pid) {
                // It was started for a process before this one.
                return actions;
            }
            let pid = running.pid;
            let stops = std::mem::take(&mut running.restart) || self.want != Want::Up;
            if !instead {
                running.term = true;
                let send = if stops { Action::SendDownSignal(pid) } else { Action::Send(pid, Signal::TERM) };
                actions = actions.then(send).then(Action::Publish);
            }
            if self.want != Want::Up {
                actions = actions.then(Action::Send(pid, Signal::CONT));
            }
            for_process = Some(pid);
        }
        match self.want {
            Want::Up => actions,
            Want::Down => actions.and(self.start_hook(Hook::Down, for_process)),
            Want::Exit => actions.and(self.start_hook(Hook::Exit, for_process)),
        }
    }
}
