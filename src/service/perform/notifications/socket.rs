//! The socket of `notification-socket`: how much is read of it, and who removes a message that comes with descriptors.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::time::Duration;

use rustix::process::Pid;

use crate::moment::Moment;
use crate::sys::notify_socket::NotifySocket;

/// What is read of messages within this time may cost no more than [`BUDGET`]; others wait until it is over, as anybody
/// may send messages.
const WINDOW: Duration = Duration::from_millis(100);
/// See [`WINDOW`].
const BUDGET: u32 = 1024;
/// What a message with descriptors costs beside that: a process.
const COST_OF_DESCRIPTORS: u32 = 128;
/// How many strangers are known at a time.
const STRANGERS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) socket: NotifySocket,
    /// Its address, as a variable of the environment.
    pub(super) variable: CString,
    /// How often the process has to tell that it is alive, as a variable of the environment.
    pub(super) watchdog: Option<CString>,
    /// When the present [`WINDOW`] ends.
    pub(super) window_ends: Moment,
    /// What the messages that were read in it have cost.
    pub(super) spent: u32,
    /// The strangers who have sent something in it, the latest first.
    pub(super) strangers: VecDeque<i32>,
    /// It is not waited for before the end of the window.
    pub(super) is_paused: bool,
    /// When it was last read, more messages may have waited than were read.
    pub(super) is_behind: bool,
    pub(super) removal: Removal,
    /// The host waits for it.
    pub(super) is_known: bool,
}

/// What becomes of the first message in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is to be read.
    No,
    /// It was read, and comes with descriptors: a process is to remove it.
    Due,
    /// This process removes it.
    By(Pid),
}

impl Socket {
    pub(super) fn new(watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = NotifySocket::new()?;
        let variable = CString::new([b"NOTIFY_SOCKET=".as_slice(), &socket.address()?].concat())?;
        let watchdog = watchdog.map(|time| CString::new(format!("WATCHDOG_USEC={}", time.as_micros())));
        Ok(Socket {
            socket,
            variable,
            watchdog: watchdog.transpose()?,
            window_ends: Moment::START,
            spent: 0,
            strangers: VecDeque::new(),
            is_paused: false,
            is_behind: false,
            removal: Removal::No,
            is_known: false,
        })
    }

    /// Whether messages are waited for.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_paused && self.removal == Removal::No
    }

    /// Whether a message may be read now. If not, none is waited for until the window is over.
    pub(super) fn may_read(&mut self, now: Moment) -> bool {
        if now >= self.window_ends {
            (self.window_ends, self.spent) = (now.saturating_add(WINDOW), 0);
            self.strangers.clear();
        }
        self.is_paused = self.spent >= BUDGET;
        !self.is_paused
    }

    pub(super) fn note_stranger(&mut self, sender: i32) {
        self.strangers.truncate(STRANGERS_MAX.saturating_sub(1));
        self.strangers.push_front(sender);
    }

    /// The first message was read: removes it from the queue, or notes that a process is to do that.
    pub(super) fn remove_message(&mut self, has_descriptors: bool) {
        if has_descriptors {
            self.spent = self.spent.saturating_add(COST_OF_DESCRIPTORS);
            self.removal = Removal::Due;
        } else {
            self.socket.remove();
        }
    }

    /// Closes it, or returns it if that takes a process that cannot be had now.
    pub(super) fn close(self) -> Result<(), Self> {
        let Socket { socket, removal, .. } = self;
        let closed = match removal {
            Removal::By(_) => socket.close_elsewhere(),
            Removal::No | Removal::Due => socket.close(),
        };
        closed.map_err(|socket| Socket { socket, is_known: false, ..self })
    }
}
