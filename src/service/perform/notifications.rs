//! What `./run` tells of itself: by the descriptor of `notification-fd`, and by the socket of `notification-socket`.
//!
//! Each process of `./run` gets a pipe and a socket of its own, so nothing that was told of another process counts for
//! it. Of messages to the socket only those count that `./run` or a process that descends from it has sent.
//!
//! Anybody may send descriptors with a message, and their last close may take long; see [`notify_socket`](crate::sys::notify_socket).
//! So a message with descriptors is read while it stays in the queue, and a process of its own removes it. Until that has
//! ended the socket is not waited for: only the messages of this service are late.

mod pipe;
mod socket;

use std::ffi::CString;
use std::io;
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Service;
use crate::facts::Facts;
use crate::moment::{Moment, earlier};
use crate::notify::{self, MESSAGE_MAX, Word};
use crate::policy::{self, PolicyFile};
use crate::proc_stat::{self, ProcStat};
use crate::role::Role;
use crate::say::Message;
use crate::service::step::{Event, Notice, Now};
use crate::sys::handle::Handle;

use pipe::Pipe;
use socket::{Removal, Socket};

/// How many messages are read in one turn.
const MESSAGES_MAX: usize = 64;
/// The cost of a message: most of it is to find out whose the sender is.
const COST: u32 = 64;
/// The cost of a message of a stranger who is known already. It is small, so that a stranger who sends without end does not keep
/// the messages of the service waiting.
const COST_OF_STRANGER: u32 = 1;
/// How long after there could be no process it is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Descriptors or memory are missing, which may pass.
#[derive(Debug)]
pub(super) struct NoResources;

/// Whether what failed may succeed a moment later.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC)
    )
}

/// By what `./run` can tell something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Teller {
    /// The pipe of `notification-fd`.
    Pipe,
    /// The socket of `notification-socket`.
    Socket,
    /// The process that it named as its main one: it tells its end.
    MainProcess,
}

/// What a process of `./run` can tell something by, and what it told.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    /// Once it runs.
    pid: Option<Pid>,
    pipe: Option<Pipe>,
    socket: Option<Socket>,
    message: Option<Vec<u8>>,
    main_pid: Option<u32>,
    /// The same process, if it is another one than that of `./run`, and the kernel can report its end.
    main_process: Option<MainProcess>,
    /// Pipes and processes that nobody waits for any more. They are closed when the host knows that.
    retired: Vec<OwnedFd>,
    /// The same of sockets.
    retired_sockets: Vec<Socket>,
    /// When the process that is missing for a socket is tried to be made again.
    again_at: Moment,
}

#[derive(Debug)]
struct MainProcess {
    handle: Handle,
    /// The host waits for it.
    is_known: bool,
}

impl Notifications {
    /// The descriptors to wait for.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (Teller, BorrowedFd<'_>)> {
        let pipe = self.pipe.iter().map(|pipe| (Teller::Pipe, pipe.read.as_fd()));
        let socket = self.socket.iter().filter(|socket| socket.is_awaited());
        let main = self.main_process.iter().map(|process| (Teller::MainProcess, process.handle.as_fd()));
        pipe.chain(socket.map(|socket| (Teller::Socket, socket.socket.as_fd()))).chain(main)
    }

    /// Variables that the process gets.
    pub(super) fn environment(&self) -> impl Iterator<Item = &CString> {
        self.socket.iter().flat_map(|socket| std::iter::once(&socket.variable).chain(&socket.watchdog))
    }

    /// Whether the process gets its own number, too: those that it starts need not tell that they are alive.
    pub(super) fn has_watchdog(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.watchdog.is_some())
    }

    /// The descriptor that the process gets, and its number there.
    pub(super) fn descriptor(&self) -> Option<(i32, BorrowedFd<'_>)> {
        let (number, write) = self.pipe.as_ref()?.write.as_ref()?;
        Some((*number, write.as_fd()))
    }

    /// The process runs.
    pub(super) fn started(&mut self, pid: Pid) {
        self.pid = Some(pid);
        if let Some(pipe) = &mut self.pipe {
            // With an end of ours, the end of the process would not be noticed.
            pipe.write = None;
        }
    }

    /// The process has ended, or was not started: nothing more is read.
    pub(super) fn retire(&mut self) {
        self.retire_pipe();
        self.retired_sockets.extend(self.socket.take());
        self.forget_main();
        (self.pid, self.message) = (None, None);
    }

    /// There is no main process any more.
    fn forget_main(&mut self) {
        self.main_pid = None;
        if let Some(MainProcess { handle, is_known: true }) = self.main_process.take() {
            self.retired.push(handle.into());
        }
    }

    /// A process was named as the main one. Returns whether it belongs to the service.
    fn note_main(&mut self, pid: u32) -> bool {
        let Some(named) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
        // The end of `./run` ends all anyway.
        let handle = Some(named).filter(|_| self.pid != Some(named)).and_then(|named| Handle::of(named).ok());
        // Asked after its handle was made: as long as it is there, that is the handle of no other.
        if !self.is_of_service(named.as_raw_nonzero().get()) {
            return false;
        }
        if self.main_pid.replace(pid) != Some(pid) {
            self.forget_main();
            self.main_pid = Some(pid);
            self.main_process = handle.map(|handle| MainProcess { handle, is_known: false });
        }
        true
    }

    fn retire_pipe(&mut self) {
        if let Some(Pipe { read, is_known: true, .. }) = self.pipe.take() {
            self.retired.push(read);
        }
    }

    /// Whether nothing of it is of use.
    fn is_idle(&self) -> bool {
        let has_nothing = self.pipe.is_none() && self.socket.is_none() && self.main_process.is_none();
        has_nothing && self.retired.is_empty() && self.retired_sockets.is_empty()
    }

    /// When a pause is over, or a process is tried to be made again, if ever.
    pub(super) fn next_tick(&self) -> Option<Moment> {
        let is_due = self.socket.as_ref().is_some_and(|socket| socket.removal == Removal::Due);
        let again = is_due || !self.retired_sockets.is_empty();
        let paused = self.socket.as_ref().filter(|socket| socket.is_paused).map(|socket| socket.window_ends);
        earlier(paused, Some(self.again_at).filter(|_| again))
    }

    /// Ends a pause that is over.
    pub(super) fn tick(&mut self, now: Moment) {
        if let Some(socket) = &mut self.socket {
            socket.is_paused &= now < socket.window_ends;
        }
        if now >= self.again_at {
            self.again_at = now.saturating_add(AGAIN);
        }
    }

    /// The process that removes a message.
    pub(super) fn remover(&self) -> Option<Pid> {
        match self.socket.as_ref()?.removal {
            Removal::By(pid) => Some(pid),
            Removal::No | Removal::Due => None,
        }
    }

    /// A process has ended. Returns whether it was the one that removes a message. If that was killed before it had done so,
    /// the message is read again, which changes nothing.
    pub(super) fn remover_ended(&mut self, pid: Pid) -> bool {
        let socket = self.socket.as_mut().filter(|socket| socket.removal == Removal::By(pid));
        socket.map(|socket| socket.removal = Removal::No).is_some()
    }

    /// Makes the process that removes a message, if one is due.
    fn begin_removal(&mut self) {
        if let Some(socket) = self.socket.as_mut().filter(|socket| socket.removal == Removal::Due)
            && let Ok(pid) = socket.socket.remove_elsewhere()
        {
            socket.removal = Removal::By(pid);
        }
    }

    pub(super) fn note_facts(&self, facts: &mut Facts) {
        (facts.message, facts.main_pid) = (self.message.clone(), self.main_pid());
    }

    /// The process that was named as the main one, if it is still there: another process may get its number later.
    fn main_pid(&self) -> Option<u32> {
        self.main_pid.filter(|&pid| i32::try_from(pid).is_ok_and(|pid| self.is_of_service(pid)))
    }

    /// Whether a process is the one of `./run`, or descends from it.
    fn is_of_service(&self, sender: i32) -> bool {
        let Some(ours) = self.pid.map(|pid| pid.as_raw_nonzero().get()) else { return false };
        sender == ours
            || (proc_stat::is_of_our_namespace()
                && notify::descends(sender, ours, |pid| ProcStat::of(pid).map(|stat| stat.parent)))
    }

    /// Reads messages. Adds what follows from them to `notices`, and returns whether something else is known now.
    fn read_messages(&mut self, now: Moment, notices: &mut Vec<Notice>) -> bool {
        let mut buffer = vec![0; MESSAGE_MAX];
        let mut has_news = false;
        let main_pid = self.main_pid;
        for _ in 0..MESSAGES_MAX {
            let Some(socket) = &mut self.socket else { break };
            socket.is_behind = true;
            if socket.removal != Removal::No || !socket.may_read(now) {
                break;
            }
            let Ok(Some(message)) = socket.socket.peek(&mut buffer) else {
                socket.is_behind = false;
                break;
            };
            socket.remove_message(message.has_descriptors);
            // Whoever has no number here is in none of our namespaces.
            let sender = message.sender.filter(|sender| !socket.strangers.contains(sender));
            socket.spent =
                socket.spent.saturating_add(if sender.is_some() { COST } else { COST_OF_STRANGER });
            let Some(sender) = sender else { continue };
            if !self.is_of_service(sender) {
                if let Some(socket) = &mut self.socket {
                    socket.note_stranger(sender);
                }
                continue;
            }
            for word in notify::words(message.text) {
                match word {
                    Word::Ready => notices.push(Notice::Ready),
                    Word::Stopping => notices.push(Notice::Stopping),
                    Word::Alive => notices.push(Notice::Alive),
                    Word::Failing => notices.push(Notice::Failing),
                    Word::Extend(time) => notices.push(Notice::Extend(time)),
                    Word::Status(text) => {
                        self.message = Some(text.to_vec()).filter(|text| !text.is_empty());
                        has_news = true;
                    }
                    Word::MainPid(pid) => has_news |= self.note_main(pid),
                }
            }
            // Where the kernel does not report the end.
            self.main_pid = self.main_pid();
        }
        has_news || self.main_pid != main_pid
    }
}

impl Service {
    /// Makes what the next process of `./run` can tell something by, as the files say. Returns whether the service is to tell
    /// when it is ready; it stays not ready where it never can.
    ///
    /// # Errors
    ///
    /// What is missing now may be there a moment later, so `./run` is not to be started without it. This was reported.
    pub(super) fn open_notifications(
        &mut self,
        now: Now,
        watchdog: Option<Duration>,
    ) -> Result<bool, NoResources> {
        self.retire_notifications();
        let fd = self.read_policy(PolicyFile::NotificationFd, policy::notification_fd);
        let wants_socket = self.policies.has(PolicyFile::NotificationSocket);
        let pipe = match fd.map(Pipe::new).transpose() {
            Ok(pipe) => pipe,
            Err(error) => self.not_opened(now, PolicyFile::NotificationFd, &error)?,
        };
        let socket = match wants_socket.then(|| Socket::new(watchdog)).transpose() {
            Ok(socket) => socket,
            Err(error) => self.not_opened(now, PolicyFile::NotificationSocket, &error)?,
        };
        if pipe.is_some() || socket.is_some() {
            let notifications = self.notifications.get_or_insert_default();
            (notifications.pipe, notifications.socket) = (pipe, socket);
        }
        Ok(fd.is_some() || wants_socket)
    }

    /// A pipe or a socket could not be made: reports it, unless the same was reported a short time ago.
    fn not_opened<T>(
        &mut self,
        now: Now,
        file: PolicyFile,
        error: &io::Error,
    ) -> Result<Option<T>, NoResources> {
        let is_passing = is_passing(error);
        let outcome =
            if is_passing { "not possible now, run is started later" } else { "not possible, ignored" };
        let what = format!("{}: {outcome}", file.name().to_string_lossy());
        let message = Message::warning(&self.label.who, what.as_bytes()).because(error);
        if self.recent.is_new(now.at, &message.text()) {
            message.print_now();
        }
        if is_passing { Err(NoResources) } else { Ok(None) }
    }

    /// Whatever the process of `./run` told counts no more.
    pub(super) fn retire_notifications(&mut self) {
        if let Some(notifications) = &mut self.notifications {
            notifications.retire();
        }
    }

    /// The descriptors to wait for.
    pub(crate) fn tellers(&self) -> impl Iterator<Item = (Teller, BorrowedFd<'_>)> {
        self.notifications.iter().flat_map(|notifications| notifications.awaited())
    }

    /// Tells the host what has changed since the last time: passes descriptors to `add` that are to be waited for, and to
    /// `remove` those that are not any more, before they are closed.
    pub(crate) fn update_tellers(
        &mut self,
        mut add: impl FnMut(Teller, BorrowedFd<'_>),
        mut remove: impl FnMut(BorrowedFd<'_>),
    ) {
        let Some(notifications) = &mut self.notifications else { return };
        for retired in notifications.retired.drain(..) {
            remove(retired.as_fd());
        }
        for socket in std::mem::take(&mut notifications.retired_sockets) {
            if socket.is_known {
                remove(socket.socket.as_fd());
            }
            notifications.retired_sockets.extend(socket.close().err());
        }
        // What was told is published before a sender that waits for the close of its descriptor goes on.
        notifications.begin_removal();
        if let Some(pipe) = &mut notifications.pipe
            && !std::mem::replace(&mut pipe.is_known, true)
        {
            add(Teller::Pipe, pipe.read.as_fd());
        }
        if let Some(process) = &mut notifications.main_process
            && !std::mem::replace(&mut process.is_known, true)
        {
            add(Teller::MainProcess, process.handle.as_fd());
        }
        if let Some(socket) = &mut notifications.socket
            && socket.is_known != socket.is_awaited()
        {
            socket.is_known = socket.is_awaited();
            let fd = socket.socket.as_fd();
            if socket.is_known { add(Teller::Socket, fd) } else { remove(fd) }
        }
        if notifications.is_idle() {
            self.notifications = None;
        }
    }

    /// It leaves the host: passes the descriptors that are waited for to `remove`, before they are closed.
    pub(crate) fn close_tellers(&mut self, remove: impl FnMut(BorrowedFd<'_>)) {
        self.retire_notifications();
        self.update_tellers(|_, _| {}, remove);
        if let Some(notifications) = &mut self.notifications {
            // There is no process that could close these, and nobody tries again: they stay open rather than hold us up.
            std::mem::forget(std::mem::take(&mut notifications.retired_sockets));
        }
    }

    /// Has the service not judged before all messages that wait are read: there may be a pause, or a process that removes the
    /// first one.
    pub(super) fn note_unheard(&mut self, now: Now) {
        let socket = self.notifications.as_ref().and_then(|notifications| notifications.socket.as_ref());
        if socket.is_some_and(|socket| socket.is_behind) {
            self.handle(now, Role::Main, Event::Notice(Notice::Unheard(AGAIN)));
        }
    }

    /// Reads what `./run` told by one of the two.
    pub(crate) fn read_notices(&mut self, now: Now, teller: Teller) {
        let Some(notifications) = &mut self.notifications else { return };
        let mut notices = Vec::new();
        match teller {
            Teller::Pipe => match notifications.pipe.as_mut().map(Pipe::read) {
                None | Some(Some(false)) => {}
                Some(Some(true)) => {
                    notifications.retire_pipe();
                    notices.push(Notice::Ready);
                }
                Some(None) => notifications.retire_pipe(),
            },
            Teller::Socket => {
                if notifications.read_messages(now.at, &mut notices) {
                    self.main.publish_later();
                }
            }
            Teller::MainProcess => {
                // A message that was read in the same turn may have named another.
                if notifications.main_process.as_ref().is_some_and(|process| process.handle.has_ended()) {
                    notifications.forget_main();
                    self.main.publish_later();
                }
            }
        }
        for notice in notices {
            self.handle(now, Role::Main, Event::Notice(notice));
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn a_service_is_behind_until_all_its_messages_are_read() {
        let mut notifications = Notifications {
            socket: Some(Socket::new(None).unwrap()),
            pid: Some(rustix::process::getpid()),
            ..Notifications::default()
        };
        let variable = notifications.environment().next().unwrap().clone();
        let name = variable.to_bytes().strip_prefix(b"NOTIFY_SOCKET=@").unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let second = Moment::START.saturating_add(Duration::from_secs(1));
        let mut heard = 0;
        let mut read_at = |at: Moment| {
            let mut notices = Vec::new();
            notifications.read_messages(at, &mut notices);
            heard += notices.len();
            (notifications.socket.as_ref().unwrap().is_behind, heard)
        };
        // The queue may be as short as ten messages. The budget of a window is spent after sixteen.
        for is_behind in [false, true] {
            (0..10).for_each(|_| assert_eq!(sender.send(b"WATCHDOG=1").unwrap(), 10));
            assert_eq!(read_at(second).0, is_behind);
        }
        assert_eq!(read_at(second), (true, 16));
        assert_eq!(read_at(second.saturating_add(AGAIN)), (false, 20));
    }
}
