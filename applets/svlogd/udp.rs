//! Lines as datagrams. Source: svlogd(8), `u` and `U`.

use std::net::{Ipv4Addr, UdpSocket};

use super::config::Udp;

/// Sends lines to one address.
pub(crate) struct Sender {
    udp: Udp,
    socket: Option<UdpSocket>,
}

/// Why a line was not sent; said in the log itself, before the line.
pub(crate) const FAILED: &[u8] = b"warning: failure sending through udp: ";
/// The same, for want of a socket.
pub(crate) const NO_SOCKET: &[u8] = b"warning: no udp socket available: ";

impl Sender {
    /// A sender to the address; that there is no socket is said with each line.
    pub(crate) fn new(udp: Udp) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok();
        let socket = socket.filter(|socket| socket.set_nonblocking(true).is_ok());
        Sender { udp, socket }
    }

    /// Whether lines go there and nowhere else.
    pub(crate) const fn only(&self) -> bool {
        self.udp.only
    }

    /// Sends a line, as it is.
    ///
    /// # Errors
    ///
    /// What is to be said before it.
    pub(crate) fn send(&self, datagram: &[u8]) -> Result<(), &'static [u8]> {
        let socket = self.socket.as_ref().ok_or(NO_SOCKET)?;
        match socket.send_to(datagram, self.udp.to) {
            Ok(sent) if sent == datagram.len() => Ok(()),
            Ok(_) | Err(_) => Err(FAILED),
        }
    }
}
