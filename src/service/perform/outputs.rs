//! Where the programs of a service write, if not to the supervisor's own standard output and error.

use std::io;

use rustix::fd::OwnedFd;

/// Descriptors for the programs of one service.
#[derive(Debug)]
pub struct Outputs {
    /// Standard output of the service, if it has no log service.
    pub out: OwnedFd,
    /// Standard error of the service.
    pub err: OwnedFd,
    /// Standard output and error of the log service, if there is one.
    pub log: Option<(OwnedFd, OwnedFd)>,
    /// Makes those of a log service that appears later.
    pub late: Late,
}

/// See [`Outputs::late`].
pub struct Late(pub Box<dyn Fn() -> io::Result<(OwnedFd, OwnedFd)>>);

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Late")
    }
}
