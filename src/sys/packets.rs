//! Packets between two processes, with descriptors: a pair of UNIX sockets of the type SEQPACKET. Only on Linux.

use std::io;

use rustix::fd::{BorrowedFd, OwnedFd};

/// How many descriptors a packet has at most.
const DESCRIPTORS_MAX: usize = 2;

/// A packet that was received.
#[derive(Debug)]
pub struct Packet {
    /// How many bytes of the buffer it has.
    pub length: usize,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// A pair of connected sockets that children do not inherit.
///
/// # Errors
///
/// That of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    here::pair()
}

/// Sends a packet without waiting.
///
/// # Errors
///
/// That of sendmsg(2): `WouldBlock` if the other side has to receive first.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    here::send(socket, bytes, descriptors)
}

/// Receives a packet without waiting. One of length 0 means that the other side has closed its socket.
///
/// # Errors
///
/// That of recvmsg(2): `WouldBlock` if there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    here::receive(socket, buffer)
}

#[cfg(target_os = "linux")]
mod here {
    use std::io::{IoSlice, IoSliceMut};
    use std::mem::MaybeUninit;

    use rustix::net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    };

    use super::{BorrowedFd, DESCRIPTORS_MAX, OwnedFd, Packet, io};

    pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
    }

    pub(super) fn send(
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
        Ok(())
    }

    pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(Packet { length: received.bytes, descriptors })
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use super::{BorrowedFd, DESCRIPTORS_MAX, OwnedFd, Packet, io};

    pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let _ = DESCRIPTORS_MAX;
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn send(_: BorrowedFd<'_>, _: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn receive(_: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<Packet> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};

    use rustix::fd::AsFd;

    use super::*;

    #[test]
    fn packets_keep_their_bounds_and_their_descriptors() {
        let (one, other) = pair().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        send(one.as_fd(), b"first", &[write.as_fd()]).unwrap();
        send(one.as_fd(), b"second", &[]).unwrap();
        drop(write);
        let mut buffer = [0; 64];
        let mut packet = receive(other.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..packet.length], packet.descriptors.len()), (&b"first"[..], 1));
        let mut write = std::fs::File::from(packet.descriptors.pop().unwrap());
        write.write_all(b"x").unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        let packet = receive(other.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..packet.length], packet.descriptors.len()), (&b"second"[..], 0));
        assert_eq!(receive(other.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(receive(other.as_fd(), &mut buffer).unwrap().length, 0);
    }
}
