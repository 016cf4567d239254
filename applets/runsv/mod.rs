//! `runsv`: supervise one service and its log service; a [`Host`] of one. Source: runsv(8).

use std::ffi::OsStr;

use svcore::control::Command;
use svcore::say::{Class, Message};
use svcore::service::Service;
use svcore::service::host::{Host, now};
use svcore::sys::signals::Signals;
use svcore::{Call, Context, Error, Failed, Result, Signal, hint};

/// Runs the applet until the service is told to exit.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let [dir] = call.args else { return Err(Error::usage()) };
    match supervise(dir) {
        Ok(()) => Ok(0),
        Err(error) => {
            let who = [b"runsv ", dir_bytes(dir)].concat();
            let hint = hint::of_supervise_lock(dir_bytes(dir), &error);
            Message::of(Class::Fatal, &who, &error).print_now_with(hint.as_deref());
            Ok(call.codes.fatal)
        }
    }
}

fn dir_bytes(dir: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(dir)
}

/// Supervises `dir`, and what takes its place under the same name.
fn supervise(dir: &OsStr) -> Result<(), Failed> {
    let signals = Signals::wait_for(&[Signal::CHLD, Signal::TERM, Signal::CHANGE, Signal::IO])
        .while_doing(|| "unable to create selfpipe")?;
    let mut host = Host::new(signals);
    loop {
        let begin = now();
        let mut service = Service::open("runsv", dir, dir, begin)?;
        service.watch_supervise();
        service.begin(begin);
        host.add(service);
        let mut again = false;
        while !host.is_empty() {
            let turn = host.turn(&[], None, |_, service| again = service.is_replaced());
            if turn.signals.iter().any(|came| came.signal == Signal::TERM) {
                // For good: who was given the FIFO does not take it back.
                host.hold();
                host.command_all(now(), Command::Exit);
            }
        }
        if !again {
            return Ok(());
        }
    }
}
