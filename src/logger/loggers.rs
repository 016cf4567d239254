//! The loggers of a supervisor: the processes that write the logs of its services without `log/run`, one for each account.
//!
//! Nothing here waits: what a socket does not accept is kept and sent when it does. That a logger is started again after it
//! has ended follows from the log services: for each of its logs one ends, and is started again after the usual pause.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Pid;

use super::account;
use super::protocol::{Closed, LogNumber, Order, PACKET_MAX};
use crate::error::{Context, Failed};
use crate::moment::Moment;
use crate::process::Ended;
use crate::sys::clock;
use crate::sys::interest::{self, Interest};
use crate::sys::packets;
use crate::sys::signal;
use crate::sys::spawn::{NotStarted, Program, Stream, spawn};
use crate::{Signal, own_file, recent, slice};

/// How many packets of a logger are received at a time. The others are received in the next turn.
const RECEIVED_MAX: usize = 256;

/// Makes a standard output and a standard error.
pub type MakeOutputs = Box<dyn Fn() -> io::Result<(OwnedFd, OwnedFd)>>;

/// The loggers of a supervisor.
pub struct Loggers {
    /// Made with the first logger.
    interest: OnceCell<Interest>,
    /// Makes their standard output and error, where they are not ours.
    outputs: Option<MakeOutputs>,
    state: Cell<State>,
}

impl std::fmt::Debug for Loggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loggers")
    }
}

/// Changes whenever a log begins or ends.
#[derive(Debug, Default)]
struct State {
    loggers: Vec<Logger>,
    reported: Reported,
    /// The number that was used last, for a log or for a logger.
    last_number: u64,
}

/// What was reported of logs that could not be kept, by the hash of the log's name: the hash of the message, and when.
///
/// A logger cannot remember that: it exits when it keeps no log.
#[derive(Debug, Default)]
struct Reported(BTreeMap<u64, (u64, Moment)>);

impl Reported {
    fn note(&mut self, log: u64, message: u64) {
        let now = clock::monotonic();
        self.0.retain(|_, (_, at)| now < at.saturating_add(recent::EVERY));
        self.0.insert(log, (message, now));
    }

    /// What was reported of a log a short time ago; 0 if nothing was.
    fn of(&self, log: u64) -> u64 {
        let Some((message, at)) = self.0.get(&log) else { return 0 };
        if clock::monotonic() < at.saturating_add(recent::EVERY) { *message } else { 0 }
    }
}

/// One process.
#[derive(Debug)]
struct Logger {
    /// As `interest` knows it.
    number: u64,
    account: Vec<u8>,
    pid: Pid,
    /// `None`: it is told to exit, or has ended.
    socket: Option<OwnedFd>,
    /// With the hash of the name of each.
    logs: BTreeMap<LogNumber, u64>,
    /// What the socket has not accepted yet.
    queue: VecDeque<Queued>,
    /// We have killed it.
    is_killed: bool,
}

#[derive(Debug)]
struct Queued {
    packet: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// A log that is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// What messages call it.
    pub name: &'a [u8],
    /// What the service has written.
    pub pipe: BorrowedFd<'a>,
    /// The directory `log`.
    pub dir: BorrowedFd<'a>,
    /// See [`Order::Keep`].
    pub instance: &'a [u8],
}

/// A log that a logger does not keep any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The log.
    pub number: LogNumber,
    /// How an svlogd of its own would have ended.
    pub how: Ended,
}

/// A logger that has ended.
#[derive(Debug)]
pub struct Gone {
    /// The logs that it kept.
    pub logs: Vec<LogEnd>,
    /// Whether nobody has reported why: it still kept logs, was not killed by us, and has not reported it itself.
    pub is_unexpected: bool,
}

/// Why a log is not kept.
#[derive(Debug)]
pub enum NotKept {
    /// Its account, or its descriptors.
    Failed(Failed),
    /// The logger could not be started.
    NotStarted(NotStarted),
    /// The logger has just ended, which is reported with its end.
    Ended,
}

impl Loggers {
    /// Without a process; the first log starts one. `outputs` makes their standard output and error, if not ours. `None`
    /// on a platform without epoll.
    #[must_use]
    pub fn new(outputs: Option<MakeOutputs>) -> Option<Self> {
        interest::MAY_WORK.then(|| Loggers { interest: OnceCell::new(), outputs, state: Cell::default() })
    }

    /// The descriptor to wait for: then [`Loggers::pass_on`] has something to do. `None` before the first log.
    #[must_use]
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.interest.get().map(AsFd::as_fd)
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.take();
        let result = work(&mut state);
        self.state.set(state);
        result
    }

    /// Has a log kept by the logger of its account. Returns its number, and the process of the logger.
    ///
    /// The pipe becomes non-blocking: a stranger who reads from it must not hold up the other logs.
    ///
    /// # Errors
    ///
    /// See [`NotKept`].
    pub fn keep(&self, log: &Log<'_>) -> Result<(LogNumber, Pid), NotKept> {
        let account = account::key(&log.dir).map_err(NotKept::Failed)?;
        let ready = rustix::io::ioctl_fionbio(log.pipe, true).while_doing(|| "unable to set up log pipe");
        ready.map_err(NotKept::Failed)?;
        let interest = self.interest().while_doing(|| "unable to create epoll instance");
        let interest = interest.map_err(NotKept::Failed)?;
        self.with(|state| {
            let has_account = |logger: &Logger| logger.socket.is_some() && logger.account == account;
            let at = match state.loggers.iter().position(has_account) {
                Some(at) => at,
                None => {
                    state.last_number = state.last_number.wrapping_add(1);
                    let logger = self.start(state.last_number, account, log.name, interest)?;
                    state.loggers.push(logger);
                    state.loggers.len().saturating_sub(1)
                }
            };
            state.last_number = state.last_number.wrapping_add(1);
            let number = state.last_number;
            let Some(logger) = state.loggers.get_mut(at) else {
                return Err(NotKept::Failed(Failed::without_cause("no logger")));
            };
            let hash = recent::hash(log.name);
            let reported = state.reported.of(hash);
            let order = Order::Keep { number, reported, instance: log.instance, name: log.name };
            match logger.send(&order, &[log.pipe, log.dir], interest) {
                Err(error) if has_ended(&error) => {
                    logger.socket = None;
                    return Err(NotKept::Ended);
                }
                sent => sent.while_doing(|| "unable to send log to svlogd").map_err(NotKept::Failed)?,
            }
            logger.logs.insert(number, hash);
            Ok((number, logger.pid))
        })
    }

    fn interest(&self) -> io::Result<&Interest> {
        if self.interest.get().is_none() {
            // It was not there a moment ago.
            let _ = self.interest.set(Interest::new()?);
        }
        self.interest.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Starts a logger. `log` is the name of the first log that it is to keep.
    fn start(
        &self,
        number: u64,
        account: Vec<u8>,
        log: &[u8],
        interest: &Interest,
    ) -> Result<Logger, NotKept> {
        let doing = || "unable to create socket for svlogd";
        let (ours, theirs) = packets::pair().while_doing(doing).map_err(NotKept::Failed)?;
        interest.add(ours.as_fd(), number).while_doing(doing).map_err(NotKept::Failed)?;
        let files = own_file::to_execute();
        let files: Vec<&CStr> = files.iter().map(CString::as_c_str).collect();
        let operands = [account.as_slice(), log].map(|operand| CString::new(operand).unwrap_or_default());
        let mut argv: Vec<&CStr> = vec![c"svlogd", super::SHARED];
        if !account.is_empty() {
            argv.extend(operands.iter().map(CString::as_c_str));
        }
        let mut program = Program {
            files: &files,
            argv: &argv,
            search: crate::sys::spawn::Search(crate::exec::path_rule),
            stdin: Stream::Is(theirs.as_fd()),
            new_session: true,
            ..Program::default()
        };
        // Where they cannot be had, it writes to ours.
        let outputs = self.outputs.as_ref().and_then(|outputs| outputs().ok());
        if let Some((out, err)) = &outputs {
            program.stdout = Stream::Is(out.as_fd());
            program.stderr = Stream::Is(err.as_fd());
        }
        let pid = spawn(&program).map_err(NotKept::NotStarted)?;
        Ok(Logger {
            number,
            account,
            pid,
            socket: Some(ours),
            logs: BTreeMap::new(),
            queue: VecDeque::new(),
            is_killed: false,
        })
    }

    /// Passes a signal to one log, as if an svlogd of its own got it.
    pub fn signal(&self, number: LogNumber, signal: Signal) {
        let Some(interest) = self.interest.get() else { return };
        self.with(|state| {
            let keeps = |logger: &&mut Logger| logger.logs.contains_key(&number);
            if let Some(logger) = state.loggers.iter_mut().find(keeps) {
                // If the logger has just ended, that ends the log, too.
                let _ = logger.send(&Order::Signal { number, signal }, &[], interest);
            }
        });
    }

    /// Sends and receives what is possible without waiting. Returns the logs that were closed.
    pub fn pass_on(&self) -> Vec<LogEnd> {
        let mut ends = Vec::new();
        let Some(interest) = self.interest.get() else { return ends };
        self.with(|state| {
            for logger in &mut state.loggers {
                logger.flush(interest);
                logger.receive(&mut ends, &mut state.reported);
            }
        });
        ends
    }

    /// A process has ended. If it was a logger, all of its logs end with it.
    pub fn process_ended(&self, pid: Pid, how: Ended) -> Option<Gone> {
        self.with(|state| {
            let at = state.loggers.iter().position(|logger| logger.pid == pid)?;
            let mut logger = state.loggers.swap_remove(at);
            let mut logs = Vec::new();
            // What it reported before it ended.
            while logger.receive(&mut logs, &mut state.reported) {}
            let has_reported = matches!(how, Ended::Code(1..));
            let is_unexpected = !logger.logs.is_empty() && !logger.is_killed && !has_reported;
            logs.extend(logger.logs.keys().map(|&number| LogEnd { number, how }));
            Some(Gone { logs, is_unexpected })
        })
    }

    /// Whether a process is a logger.
    #[must_use]
    pub fn is_logger(&self, pid: Pid) -> bool {
        self.with(|state| state.loggers.iter().any(|logger| logger.pid == pid))
    }

    /// Kills all loggers: one that hangs does not read what it is told.
    pub fn kill(&self) {
        self.with(|state| {
            for logger in &mut state.loggers {
                logger.is_killed = true;
                // It may have ended a moment ago.
                let _ = signal::send(logger.pid, Signal::KILL);
            }
        });
    }
}

impl Logger {
    /// Sends an order, after those that wait.
    fn send(
        &mut self,
        order: &Order<'_>,
        descriptors: &[BorrowedFd<'_>],
        interest: &Interest,
    ) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let packet = order.encode();
        if self.queue.is_empty() {
            match packets::send(socket.as_fd(), &packet, descriptors) {
                Err(error) if must_wait(&error) => {}
                sent => return sent,
            }
        }
        // Whoever repeats a command does not make us keep more.
        if self.queue.iter().any(|queued| queued.packet == packet) {
            return Ok(());
        }
        let descriptors = descriptors.iter().map(|fd| fcntl_dupfd_cloexec(fd, 3));
        let descriptors = descriptors.collect::<Result<Vec<OwnedFd>, _>>()?;
        interest.also_writable(socket.as_fd(), self.number, true)?;
        self.queue.push_back(Queued { packet, descriptors });
        Ok(())
    }

    /// Sends what waits, as far as the socket accepts it.
    fn flush(&mut self, interest: &Interest) {
        if self.queue.is_empty() {
            return;
        }
        let Some(socket) = &self.socket else { return self.queue.clear() };
        while let Some(Queued { packet, descriptors }) = self.queue.front() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match packets::send(socket.as_fd(), packet, &borrowed) {
                Err(error) if must_wait(&error) => return,
                // If it failed, the logger has ended.
                Ok(()) | Err(_) => self.queue.pop_front(),
            };
        }
        // If this fails, we are woken more often than needed.
        let _ = interest.also_writable(socket.as_fd(), self.number, false);
    }

    /// Receives reports. Returns whether there may be more.
    fn receive(&mut self, ends: &mut Vec<LogEnd>, all_reported: &mut Reported) -> bool {
        let mut buffer = [0; PACKET_MAX];
        for _ in 0..RECEIVED_MAX {
            let Some(socket) = &self.socket else { return false };
            match packets::receive(socket.as_fd(), &mut buffer) {
                Ok(packet) if packet.length > 0 => {
                    if let Some(Closed { number, how, reported }) =
                        Closed::decode(slice::part(&buffer, ..packet.length))
                        && let Some(log) = self.logs.remove(&number)
                    {
                        if reported != 0 {
                            all_reported.note(log, reported);
                        }
                        ends.push(LogEnd { number, how });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.logs.is_empty() {
                        // It exits when it learns that there will be no more.
                        self.socket = None;
                    }
                    return false;
                }
                // It has ended.
                Ok(_) | Err(_) => self.socket = None,
            }
        }
        true
    }
}

/// Whether an order could not be sent because the logger has ended.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Whether an order is to be sent again later: the socket is full, or too many descriptors are on their way.
fn must_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || [rustix::io::Errno::TOOMANYREFS, rustix::io::Errno::NOBUFS, rustix::io::Errno::NOMEM]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
