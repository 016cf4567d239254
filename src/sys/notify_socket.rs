//! A socket for the messages of sd_notify(3), with the credentials of their senders.
//!
//! Its address is an abstract one, which the kernel chooses: a program reaches it whatever user it has become and
//! whatever its root directory is, and nobody can bind it before us or remove it. As anybody in the same network
//! namespace can send to it, the receiver has to look at who did.

pub(crate) use here::NotifySocket;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'b> {
    /// What was sent.
    pub(crate) text: &'b [u8],
    /// The process that sent it; `None` if it is outside of our PID namespace.
    pub(crate) sender: Option<i32>,
}

#[cfg(target_os = "linux")]
mod here {
    use std::io;
    use std::mem::{self, MaybeUninit};

    use nix::libc::{self, c_int, c_void, socklen_t};
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    use super::Message;
    use crate::slice;

    /// Such a socket.
    #[derive(Debug)]
    pub(crate) struct NotifySocket(OwnedFd);

    impl AsFd for NotifySocket {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    /// The credentials of one sender, aligned as the kernel wants it. Descriptors that were sent find no room, and the kernel closes
    /// them.
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

    impl From<NotifySocket> for OwnedFd {
        fn from(socket: NotifySocket) -> Self {
            socket.0
        }
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

        /// Receives a message, if there is one. One that does not fit into `buffer` is received as an empty one.
        ///
        /// # Errors
        ///
        /// That of recvmsg(2).
        pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<Message<'b>>> {
            let mut control = Control([0; CONTROL]);
            let mut part =
                libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
            // SAFETY: all of it may be zero.
            let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_iov = &raw mut part;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut control).cast::<c_void>();
            header.msg_controllen = CONTROL as _;
            // SAFETY: the header names our buffers, with their lengths.
            let received =
                unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
            let Ok(length) = usize::try_from(received) else {
                return match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    error => Err(error),
                };
            };
            let is_whole = header.msg_flags & libc::MSG_TRUNC == 0;
            let text = slice::part(buffer, ..if is_whole { length } else { 0 });
            Ok(Some(Message { text, sender: sender(&header) }))
        }
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

    use super::Message;

    /// Such a socket; never exists on this platform.
    #[derive(Debug)]
    pub(crate) struct NotifySocket(OwnedFd);

    impl AsFd for NotifySocket {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl From<NotifySocket> for OwnedFd {
        fn from(socket: NotifySocket) -> Self {
            socket.0
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
        pub(crate) fn receive<'b>(&self, _buffer: &'b mut [u8]) -> io::Result<Option<Message<'b>>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn a_message_comes_with_its_sender_and_without_its_descriptors() {
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
            assert_eq!(ours.receive(&mut buffer).unwrap(), Some(Message { text, sender: us }));
        }
        assert_eq!(ours.receive(&mut buffer).unwrap(), None);
        let highest = || crate::sys::listing::numbers_in(b"/proc/self/fd").unwrap().len();
        let (_read, write) = std::io::pipe().unwrap();
        let before = highest();
        send_with(&theirs, &write);
        assert_eq!(ours.receive(&mut buffer).unwrap(), Some(Message { text: b"FDSTORE=1", sender: us }));
        assert_eq!(highest(), before);
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
