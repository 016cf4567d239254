//! Sends lines as UDP datagrams. Source: svlogd(8), `u` and `U`.

use std::net::{Ipv4Addr, UdpSocket};

use super::config::Udp;

/// Sends the lines of one log directory to one address.
pub(crate) struct Sender {
    udp: Udp,
    socket: Option<UdpSocket>,
}

/// Written to the log before a line that could not be sent.
pub(crate) const FAILED: &[u8] = b"warning: failure sending through udp: ";
/// Written to the log before each line if there is no socket.
pub(crate) const NO_SOCKET: &[u8] = b"warning: no udp socket available: ";

impl Sender {
    /// Opens a socket. If that fails, each [`Sender::send`] fails.
    pub(crate) fn new(udp: Udp) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok();
        let socket = socket.filter(|socket| socket.set_nonblocking(true).is_ok());
        Sender { udp, socket }
    }

    /// Whether lines are only sent and not written to the log (`U`).
    pub(crate) const fn is_only_sent(&self) -> bool {
        self.udp.only
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// The warning to write to the log before the line.
    pub(crate) fn send(&self, datagram: &[u8]) -> Result<(), &'static [u8]> {
        let socket = self.socket.as_ref().ok_or(NO_SOCKET)?;
        match socket.send_to(datagram, self.udp.address) {
            Ok(sent) if sent == datagram.len() => Ok(()),
            Ok(_) | Err(_) => Err(FAILED),
        }
    }
}
