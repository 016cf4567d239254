//! A socket for the messages of sd_notify(3), with the credentials of their senders.
//!
//! Its address is an abstract one, which the kernel chooses: a program reaches it whatever user it has become and
//! whatever its root directory is, and nobody can bind it before us or remove it. As anybody in the same network
//! namespace can send to it, the receiver has to look at who did.
//!
//! A message may come with descriptors. Whoever receives it closes those that find no room, and the last close of a file can
//! take as long as its sender likes: that of a TCP socket with `SO_LINGER` waits for the other side. So we only look at a
//! message before it is received (`MSG_PEEK`): the descriptors stay open in the queue meanwhile, so that no close of ours is
//! the last one. One with descriptors is then received, and thereby removed, by a process of its own.

pub(crate) use here::NotifySocket;

/// A message, which is still in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'b> {
    /// What was sent.
    pub(crate) text: &'b [u8],
    /// The process that sent it; `None` if it is outside of our PID namespace.
    pub(crate) sender: Option<i32>,
    /// Descriptors come with it: it is to be removed by [`NotifySocket::remove_elsewhere`].
    pub(crate) has_descriptors: bool,
}

#[cfg(target_os = "linux")]
mod here {
    use std::io::{self, Read};
    use std::mem::{self, MaybeUninit};
    use std::ptr;
    use std::time::Duration;

    use nix::libc::{self, c_int, c_void, socklen_t};
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
    use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
    use rustix::process::Pid;

    use super::Message;
    use crate::slice;
    use crate::sys::fork::fork_to_files;
    use crate::sys::signal::{Signal, set_default};

    /// The name of the processes that remove messages and close sockets.
    const HELPER: &str = "notification";
    /// How long the removal of a message may wait, where a signal can end that.
    const REMOVAL_MAX: Duration = Duration::from_millis(100);
    /// How many messages a closed socket is looked through for descriptors.
    const LOOKED_AT_MAX: usize = 64;

    /// Such a socket.
    #[derive(Debug)]
    pub(crate) struct NotifySocket(OwnedFd);

    impl AsFd for NotifySocket {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    /// The credentials of one sender, aligned as the kernel wants it. Descriptors that were sent find no room: then the kernel
    /// closes those that it opened for us, and sets `MSG_CTRUNC`.
    #[repr(C, align(8))]
    struct Control([u8; CONTROL]);

    // SAFETY: computes a length.
    const CONTROL: usize = unsafe { libc::CMSG_SPACE(mem::size_of::<libc::ucred>() as u32) } as usize;

    fn checked(result: c_int) -> io::Result<c_int> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    fn empty_address() -> libc::sockaddr_un {
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] }
    }

    impl NotifySocket {
        /// A new socket with an address of its own.
        ///
        /// # Errors
        ///
        /// That of socket(2), setsockopt(2) or bind(2).
        pub(crate) fn new() -> io::Result<Self> {
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: takes numbers.
            let fd = checked(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
            // SAFETY: the descriptor is new, so nobody else owns it.
            let socket = NotifySocket(unsafe { OwnedFd::from_raw_fd(fd) });
            let on: c_int = 1;
            // SAFETY: the option is an int of ours.
            checked(unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    libc::SO_PASSCRED,
                    (&raw const on).cast::<c_void>(),
                    mem::size_of::<c_int>() as socklen_t,
                )
            })?;
            let address = empty_address();
            // An address without a name: the kernel chooses one that nobody has.
            let length = mem::size_of::<libc::sa_family_t>() as socklen_t;
            // SAFETY: the address is longer than that.
            checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
            Ok(socket)
        }

        /// Its address as NOTIFY_SOCKET has it: with `@` for the null byte at the beginning.
        ///
        /// # Errors
        ///
        /// That of getsockname(2).
        pub(crate) fn address(&self) -> io::Result<Vec<u8>> {
            let mut address = empty_address();
            let mut length = mem::size_of_val(&address) as socklen_t;
            // SAFETY: the kernel writes at most `length` bytes.
            checked(unsafe {
                libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length)
            })?;
            let name = (length as usize).saturating_sub(mem::size_of::<libc::sa_family_t>());
            let name = slice::part(&address.sun_path, 1..name).iter().flat_map(|byte| byte.to_ne_bytes());
            Ok(std::iter::once(b'@').chain(name).collect())
        }

        /// The first message of the queue, if there is one; it stays there. One that does not fit into `buffer` is seen as an
        /// empty one.
        ///
        /// # Errors
        ///
        /// That of recvmsg(2).
        pub(crate) fn peek<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<Message<'b>>> {
            let mut control = Control([0; CONTROL]);
            let mut part =
                libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
            // SAFETY: all of it may be zero.
            let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut control).cast::<c_void>();
            header.msg_controllen = CONTROL as _;
            let flags = libc::MSG_PEEK | libc::MSG_CMSG_CLOEXEC;
            // SAFETY: the header names our buffers, with their lengths.
            let received = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags) };
            let Ok(length) = usize::try_from(received) else {
                return match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    error => Err(error),
                };
            };
            let is_whole = header.msg_flags & libc::MSG_TRUNC == 0;
            let text = slice::part(buffer, ..if is_whole { length } else { 0 });
            let has_descriptors = header.msg_flags & libc::MSG_CTRUNC != 0;
            Ok(Some(Message { text, sender: sender(&header), has_descriptors }))
        }

        /// Removes the first message of the queue, which [`NotifySocket::peek`] has found to be without descriptors.
        pub(crate) fn remove(&self) {
            remove_first(self.as_fd());
        }

        /// Removes the first message of the queue in another process, in which the kernel closes its descriptors. Returns that
        /// process. Until it has ended, nobody else may look at the queue: it is not known whether the message is still there,
        /// and whoever looks at it in the moment in which it is removed may be the one who closes its descriptors last.
        ///
        /// The process has no room for the descriptors either. Then nothing is flushed when they are closed, which could wait
        /// for the file system of a user (FUSE), whatever signal comes.
        ///
        /// # Errors
        ///
        /// That of fork(2).
        pub(crate) fn remove_elsewhere(&self) -> io::Result<Pid> {
            fork_to_files(HELPER, self.as_fd(), self.as_fd(), |socket, _| {
                end_after(REMOVAL_MAX);
                remove_first(socket.as_fd());
                0
            })
        }

        /// Closes the socket, and with it the descriptors that came with messages in its queue: if there are such, in another
        /// process. Nobody else may be removing messages.
        ///
        /// # Errors
        ///
        /// The socket, if there can be no such process now.
        pub(crate) fn close(self) -> Result<(), Self> {
            // From now on nothing comes.
            let _ = shutdown(&self.0, Shutdown::Read);
            for _ in 0..LOOKED_AT_MAX {
                match self.peek(&mut []) {
                    Ok(None) => return Ok(()),
                    Ok(Some(Message { has_descriptors: false, .. })) => self.remove(),
                    Ok(Some(_)) | Err(_) => break,
                }
            }
            self.close_elsewhere()
        }

        /// Closes the socket in another process, which nobody has to wait for.
        ///
        /// # Errors
        ///
        /// The socket, if there can be no such process now.
        pub(crate) fn close_elsewhere(self) -> Result<(), Self> {
            let Ok((ours_is_closed, ours)) = io::pipe() else { return Err(self) };
            let begun = fork_to_files(HELPER, self.as_fd(), ours_is_closed.as_fd(), |socket, mut pipe| {
                // It has to close the socket after us. Nothing is ever written.
                let _ = pipe.read(&mut [0]);
                // The end of a process closes it, and does not linger for that.
                mem::forget(socket);
                0
            });
            if begun.is_err() {
                return Err(self);
            }
            drop(self);
            drop(ours);
            Ok(())
        }
    }

    fn remove_first(socket: BorrowedFd<'_>) {
        let _ = recv(socket, &mut [0], RecvFlags::DONTWAIT);
    }

    /// Ends this process by a signal, unless it ends sooner.
    fn end_after(time: Duration) {
        set_default(Signal::ALRM);
        let value = libc::timeval { tv_sec: 0, tv_usec: time.subsec_micros() as _ };
        let once = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
        // SAFETY: the value is ours; the one before is not asked for.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const once, ptr::null_mut()) };
    }

    /// The sender that the kernel named.
    fn sender(header: &libc::msghdr) -> Option<i32> {
        // SAFETY: the kernel has filled the header, whose buffer is still there.
        let first = unsafe { libc::CMSG_FIRSTHDR(header) };
        // SAFETY: it is null, or within the buffer and aligned as that is.
        let first = unsafe { first.as_ref() }?;
        if (first.cmsg_level, first.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) {
            return None;
        }
        // SAFETY: it is within the buffer, which has room for just these credentials.
        let data = unsafe { libc::CMSG_DATA(first) };
        // SAFETY: a message of this type contains credentials; perhaps not aligned.
        let credentials = unsafe { data.cast::<libc::ucred>().read_unaligned() };
        Some(credentials.pid).filter(|&pid| pid > 0)
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::io;

    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
    use rustix::process::Pid;

    use super::Message;

    /// Such a socket; never exists on this platform.
    #[derive(Debug)]
    pub(crate) struct NotifySocket(OwnedFd);

    impl AsFd for NotifySocket {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl NotifySocket {
        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub(crate) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub(crate) fn address(&self) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub(crate) fn peek<'b>(&self, _buffer: &'b mut [u8]) -> io::Result<Option<Message<'b>>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// There is nothing to remove.
        pub(crate) fn remove(&self) {}

        /// Never succeeds.
        ///
        /// # Errors
        ///
        /// Always.
        pub(crate) fn remove_elsewhere(&self) -> io::Result<Pid> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Closes the socket.
        ///
        /// # Errors
        ///
        /// None.
        pub(crate) fn close(self) -> Result<(), Self> {
            Ok(())
        }

        /// Closes the socket.
        ///
        /// # Errors
        ///
        /// None.
        pub(crate) fn close_elsewhere(self) -> Result<(), Self> {
            Ok(())
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn a_message_is_seen_with_its_sender_and_its_descriptors_stay_in_the_queue() {
        let ours = NotifySocket::new().unwrap();
        let address = ours.address().unwrap();
        assert_eq!(address.first(), Some(&b'@'));
        let address = SocketAddr::from_abstract_name(&address[1..]).unwrap();
        let theirs = UnixDatagram::unbound().unwrap();
        theirs.connect_addr(&address).unwrap();
        theirs.send(b"READY=1").unwrap();
        theirs.send(&[b'x'; 65]).unwrap();
        theirs.send(b"").unwrap();
        let us = i32::try_from(std::process::id()).ok();
        let mut buffer = [0; 64];
        for text in [b"READY=1".as_slice(), b"", b""] {
            for _ in 0..2 {
                let message = Message { text, sender: us, has_descriptors: false };
                assert_eq!(ours.peek(&mut buffer).unwrap(), Some(message));
            }
            ours.remove();
        }
        assert_eq!(ours.peek(&mut buffer).unwrap(), None);
        let (mut read, write) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        send_with(&theirs, &write);
        theirs.send(b"READY=1").unwrap();
        drop(write);
        let message = || Message { text: b"FDSTORE=1", sender: us, has_descriptors: true };
        for _ in 0..2 {
            assert_eq!(ours.peek(&mut buffer).unwrap(), Some(message()));
        }
        // It is still open in the queue.
        assert_eq!(read.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let pid = ours.remove_elsewhere().unwrap();
        let ended = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1;
        assert_eq!(ended.exit_status(), Some(0));
        assert_eq!(read.read(&mut [0]).unwrap(), 0);
        let message = Message { text: b"READY=1", sender: us, has_descriptors: false };
        assert_eq!(ours.peek(&mut buffer).unwrap(), Some(message));
    }

    #[test]
    fn what_is_queued_is_closed_with_the_socket() {
        for has_descriptors in [false, true] {
            let ours = NotifySocket::new().unwrap();
            let address = ours.address().unwrap();
            let theirs = UnixDatagram::unbound().unwrap();
            theirs.connect_addr(&SocketAddr::from_abstract_name(&address[1..]).unwrap()).unwrap();
            let (mut read, write) = std::io::pipe().unwrap();
            theirs.send(b"READY=1").unwrap();
            if has_descriptors {
                send_with(&theirs, &write);
            }
            drop(write);
            ours.close().unwrap();
            assert_eq!(read.read(&mut [0]).unwrap(), 0);
            assert!(theirs.send(b"READY=1").is_err());
        }
    }

    fn send_with(socket: &UnixDatagram, fd: &impl std::os::fd::AsRawFd) {
        use nix::libc;
        let mut control = [0_u64; 16];
        let mut text = *b"FDSTORE=1";
        let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        // SAFETY: all of it may be zero.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: computes a length.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(16) } as _;
        // SAFETY: the header is filled.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: it is within the buffer, and aligned as that is.
        let first = unsafe { &mut *first };
        (first.cmsg_level, first.cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        // SAFETY: computes a length.
        first.cmsg_len = unsafe { libc::CMSG_LEN(16) } as _;
        // SAFETY: the buffer has room for it.
        let data = unsafe { libc::CMSG_DATA(first) };
        // SAFETY: the same.
        unsafe { data.cast::<[i32; 4]>().write_unaligned([fd.as_raw_fd(); 4]) };
        use std::os::fd::AsRawFd as _;
        // SAFETY: the header names our buffers.
        assert!(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) } > 0);
    }
}
