//! The svlogd of runsvinit: one process for any number of logs of services without `log/run`. Source: runsvinit(8).
//!
//! Standard input is a socket on which runsvinit sends the pipe and the directory of each log; see
//! [`svcore::logger::protocol`]. Each log is a [`Stream`] of its own: while its disk is full, or a rotation waits for its
//! processor, its pipe is not read, and no other log waits.
//!
//! A signal to this process is meant for all logs. After TERM, or once the socket is closed, the process exits with the
//! last log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitOptions, wait};
use svcore::event::{self, Wait, Woken};
use svcore::logger::account;
use svcore::logger::protocol::{Closed, LogNumber, Order, PACKET_MAX};
use svcore::moment::Moment;
use svcore::process::Ended;
use svcore::recent;
use svcore::say::Message;
use svcore::sys::interest::Interest;
use svcore::sys::signals::Signals;
use svcore::sys::{arguments, clock, limits, packets};
use svcore::{Context, Failed, Result, Signal, slice};

use super::Arrived;
use super::input::Block;
use super::options::Options;
use super::place::Place;
use super::stream::Stream;

/// How many orders are received in one turn.
const ORDERS_MAX: usize = 64;

/// Keeps logs until the socket is closed and the last log has ended.
pub(super) fn serve(options: &Options, operands: &[OsString], signals: &Signals) -> Result {
    arguments::set_process_name("svlogd");
    if let [account, log] = operands {
        account::become_it(account.as_bytes()).map_err(|failed| super::naming(log, failed))?;
    }
    limits::raise_open_files();
    let interest = Interest::new().while_doing(|| "unable to create epoll instance")?;
    let mut shared = Shared {
        options,
        interest,
        logs: BTreeMap::new(),
        due: BTreeSet::new(),
        block: Block::default(),
        ended: Vec::new(),
        reports: VecDeque::new(),
        is_open: true,
    };
    while shared.is_open || !shared.logs.is_empty() {
        shared.turn(signals);
    }
    shared.send_reports();
    Ok(0)
}

/// One log.
struct Kept {
    stream: Stream,
    pipe: OwnedFd,
    /// Whether the pipe is waited for.
    is_awaited: bool,
    /// STOP: it is not read.
    is_stopped: bool,
    /// As it is in [`Shared::due`].
    due: Option<Moment>,
}

struct Shared<'o> {
    options: &'o Options,
    /// The pipes that are waited for, by the numbers of their logs.
    interest: Interest,
    logs: BTreeMap<LogNumber, Kept>,
    /// When a log has something to do although nothing is read.
    due: BTreeSet<(Moment, LogNumber)>,
    block: Block,
    /// Logs that ended in this turn and are to be closed.
    ended: Vec<(LogNumber, Ended)>,
    /// What runsvinit has not received yet.
    reports: VecDeque<Closed>,
    /// Whether runsvinit may still send something.
    is_open: bool,
}

impl Shared<'_> {
    /// Waits once, and does what there is to do.
    fn turn(&mut self, signals: &Signals) {
        let mut socket_flags = PollFlags::IN;
        if !self.reports.is_empty() {
            socket_flags |= PollFlags::OUT;
        }
        let mut fds = [
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.interest.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(rustix::stdio::stdin(), socket_flags),
        ];
        let polled = if self.is_open { &mut fds[..] } else { &mut fds[..2] };
        let until = self.due.first().map(|(at, _)| *at);
        let woken = event::wait(polled, Wait::until(until));
        let is_ready = |fd: &PollFd<'_>| woken == Woken::Unknown || !fd.revents().is_empty();
        let [signal, pipes, socket] = &fds;
        let (signal, pipes, socket) = (is_ready(signal), is_ready(pipes), is_ready(socket));
        let now = clock::monotonic();
        if signal {
            self.handle_signals(&Arrived::read(signals), now);
        }
        if socket && self.is_open {
            self.send_reports();
            self.receive(now);
        }
        if pipes {
            for number in self.interest.ready() {
                if let Some(log) = self.logs.get_mut(&number) {
                    log.stream.read(log.pipe.as_fd(), &mut self.block);
                    self.advance(number, now);
                }
            }
        }
        // Those that become due meanwhile are looked at in the next turn.
        let due: Vec<LogNumber> =
            self.due.iter().take_while(|(at, _)| now >= *at).map(|(_, number)| *number).collect();
        for number in due {
            self.advance(number, now);
        }
        self.close_ended();
        self.send_reports();
    }

    /// Receives orders.
    fn receive(&mut self, now: Moment) {
        let mut buffer = [0; PACKET_MAX];
        for _ in 0..ORDERS_MAX {
            match packets::receive(rustix::stdio::stdin(), &mut buffer) {
                Ok(packet) if packet.length > 0 => {
                    let bytes = slice::part(&buffer, ..packet.length);
                    match Order::decode(bytes) {
                        Some(order @ Order::Keep { .. }) => self.keep(&order, packet.descriptors, now),
                        Some(Order::Signal { number, signal }) => self.signal(number, signal, now),
                        None => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // runsvinit sends nothing any more, or has ended.
                Ok(_) | Err(_) => {
                    self.is_open = false;
                    return;
                }
            }
        }
    }

    /// Begins to keep a log.
    fn keep(&mut self, order: &Order<'_>, descriptors: Vec<OwnedFd>, now: Moment) {
        let &Order::Keep { number, reported, instance, name } = order else { return };
        let Ok([pipe, log]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            // There are too many open files, so the kernel has closed them.
            let failed = Failed::without_cause([b"unable to receive log: ", name].concat());
            Message::of(svcore::say::Class::Fatal, "svlogd", &failed).print_now();
            return self.report(number, Ended::Code(111), 0);
        };
        let instance = CString::new(instance).ok().filter(|instance| !instance.is_empty());
        let place = Place::Hosted { log, name: OsString::from_vec(name.to_vec()), instance };
        let mut stream = Stream::new(self.options, vec![place]);
        let mut reported_now = 0;
        let mut is_new = |message: &[u8]| {
            let message = recent::hash(message);
            if message != reported {
                reported_now = message;
            }
            message != reported
        };
        if !stream.open_all(&mut is_new) {
            // runsvinit sends the log again after a second, and then what was reported.
            return self.report(number, Ended::Code(111), reported_now);
        }
        let kept = Kept { stream, pipe, is_awaited: false, is_stopped: false, due: None };
        self.logs.insert(number, kept);
        self.advance(number, now);
    }

    /// Does with one log what svlogd would if it got this signal.
    fn signal(&mut self, number: LogNumber, signal: Signal, now: Moment) {
        let Some(log) = self.logs.get_mut(&number) else { return };
        match signal {
            Signal::TERM => {
                log.stream.terminate(now);
            }
            Signal::ALRM => log.stream.rotate(),
            Signal::HUP => {
                if !log.stream.open_all(&mut |_| true) {
                    return self.end(number, Ended::Code(111));
                }
            }
            Signal::STOP => log.is_stopped = true,
            Signal::CONT => log.is_stopped = false,
            Signal::CHLD => {}
            // Those that would end svlogd: what is not written is lost.
            signal => return self.end(number, Ended::Signal { signal, core: false }),
        }
        self.advance(number, now);
    }

    fn handle_signals(&mut self, arrived: &Arrived, now: Moment) {
        if arrived.child {
            self.reap(now);
        }
        let wanted =
            [(arrived.alarm, Signal::ALRM), (arrived.hangup, Signal::HUP), (arrived.term, Signal::TERM)];
        for (_, signal) in wanted.into_iter().filter(|(arrived, _)| *arrived) {
            let all: Vec<LogNumber> = self.logs.keys().copied().collect();
            for number in all {
                self.signal(number, signal, now);
            }
        }
        if arrived.term {
            // Nothing more is kept: what is sent now gets an end with this process.
            self.is_open = false;
        }
    }

    fn reap(&mut self, now: Moment) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let succeeded = status.exit_status() == Some(0);
            let whose = self.logs.iter_mut();
            let mut whose = whose.filter_map(|(number, log)| {
                log.stream.processor_ended(pid, succeeded, now).then_some(*number)
            });
            let found = whose.next();
            drop(whose);
            if let Some(number) = found {
                self.advance(number, now);
            }
        }
    }

    /// Does what a log can do now, and notes what it waits for then.
    fn advance(&mut self, number: LogNumber, now: Moment) {
        let Some(log) = self.logs.get_mut(&number) else { return };
        if log.stream.advance(now) {
            return self.ended.push((number, Ended::Code(0)));
        }
        log.stream.release_memory();
        let wants = log.stream.wants_input() && !log.is_stopped;
        if wants != log.is_awaited {
            if wants {
                if self.interest.add(log.pipe.as_fd(), number).is_err() {
                    // Without memory for that in the kernel, runsvinit starts the log again in a second.
                    return self.end(number, Ended::Code(111));
                }
            } else {
                self.interest.remove(log.pipe.as_fd());
            }
            log.is_awaited = wants;
        }
        let due = log.stream.deadline();
        if due != log.due {
            if let Some(at) = std::mem::replace(&mut log.due, due) {
                self.due.remove(&(at, number));
            }
            if let Some(at) = due {
                self.due.insert((at, number));
            }
        }
    }

    /// Closes the logs that ended in this turn. In an orderly stop these are many, and waiting for the disk for one after the
    /// other would take too long.
    fn close_ended(&mut self) {
        for (number, _) in &self.ended {
            if let Some(log) = self.logs.get(number) {
                log.stream.begin_to_sync();
            }
        }
        for (number, how) in std::mem::take(&mut self.ended) {
            self.end(number, how);
        }
    }

    /// Closes a log and reports it, unless that was done.
    fn end(&mut self, number: LogNumber, how: Ended) {
        if let Some(mut log) = self.logs.remove(&number) {
            if let Some(at) = log.due {
                self.due.remove(&(at, number));
            }
            if log.is_awaited {
                // runsvinit has the pipe open, too, so that its end here does not remove it.
                self.interest.remove(log.pipe.as_fd());
            }
            log.stream.close();
            self.report(number, how, 0);
        }
    }

    fn report(&mut self, number: LogNumber, how: Ended, reported: u64) {
        self.reports.push_back(Closed { number, how, reported });
    }

    /// Sends reports, as far as the socket accepts them.
    fn send_reports(&mut self) {
        while let Some(closed) = self.reports.front() {
            match packets::send(rustix::stdio::stdin(), &closed.encode(), &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(()) => {
                    self.reports.pop_front();
                }
                // runsvinit has ended.
                Err(_) => return self.reports.clear(),
            }
        }
    }
}
