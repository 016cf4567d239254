//! Failures and their causes, and runit's words for the errors of the system.

use std::fmt;
use std::io;

/// A result. Without parameters, that of an applet: its exit code or [`Error`].
pub type Result<T = u8, E = Error> = std::result::Result<T, E>;

/// A step that failed: what was being done, and its cause. No larger than a pointer, since it is passed on in many places.
#[derive(Debug)]
pub struct Failed(Box<Step>);

#[derive(Debug)]
struct Step {
    doing: Vec<u8>,
    cause: Option<io::Error>,
}

/// Why an applet gives up.
///
/// It has no exit code: that depends on the applet (see [`Codes`](crate::Codes)), so the dispatcher picks it.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong. Holds what is printed before the usage line: nothing, or a line such as
    /// `illegal option -- x`.
    Usage(Option<String>),
    /// The same where stock prints the usage line alone. Holds what follows that for people: which option is wrong, and
    /// why.
    WrongValue(String),
    /// `-V`: the version was printed, and the usage line follows. Nothing is wrong.
    Version,
    /// A step failed without which the applet cannot go on.
    Fatal(Failed),
}

impl Failed {
    /// A failure without an error of the system.
    #[must_use]
    pub fn without_cause(doing: impl Into<Vec<u8>>) -> Self {
        Failed(Box::new(Step { doing: doing.into(), cause: None }))
    }

    /// A failure with an error of the system.
    #[must_use]
    pub fn because(cause: impl Into<io::Error>, doing: impl Into<Vec<u8>>) -> Self {
        Self::with_cause(cause.into(), doing.into())
    }

    /// In one place for all kinds of errors.
    #[inline(never)]
    fn with_cause(cause: io::Error, doing: Vec<u8>) -> Self {
        Failed(Box::new(Step { doing, cause: Some(cause) }))
    }

    #[inline(never)]
    fn unable_to(cause: io::Error, verb: &str, path: &[u8]) -> Self {
        Self::with_cause(cause, [b"unable to ", verb.as_bytes(), b" ", path].concat())
    }

    /// The same, and what it was about after a colon.
    #[must_use]
    pub fn about(mut self, what: &[u8]) -> Self {
        for part in [b": ", what] {
            self.0.doing.extend_from_slice(part);
        }
        self
    }

    /// What was being done, such as `unable to open supervise/lock`. Bytes, since it may contain names of files.
    #[must_use]
    pub fn doing(&self) -> &[u8] {
        &self.0.doing
    }

    /// The error of the system, if there was one.
    #[must_use]
    pub const fn cause(&self) -> Option<&io::Error> {
        self.0.cause.as_ref()
    }

    /// Whether the error of the system is one of these.
    #[must_use]
    pub fn is_any_of(&self, reasons: &[rustix::io::Errno]) -> bool {
        let Some(cause) = self.cause() else { return false };
        reasons.iter().any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()))
    }
}

impl Error {
    /// A wrong command line, for which only the usage line is printed.
    #[must_use]
    pub const fn usage() -> Self {
        Error::Usage(None)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Error::Fatal(failed)
    }
}

/// The words of getopt(3), which existing scripts and tests know.
impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        let letter = |option: &str| option.trim_start_matches('-').chars().next().unwrap_or('-');
        Error::Usage(Some(match error {
            lexopt::Error::MissingValue { option: Some(option) } => {
                let letter = letter(&option);
                let option = option.strip_prefix("--").map_or_else(|| letter.to_string(), str::to_owned);
                format!("option requires an argument -- {option}")
            }
            // getopt(3) takes `--word` for the option `-`.
            lexopt::Error::UnexpectedOption(option) if option.starts_with("--") => {
                "illegal option -- -".to_owned()
            }
            lexopt::Error::UnexpectedOption(option) => format!("illegal option -- {}", letter(&option)),
            other => return Error::Usage(Some(other.to_string())),
        }))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::printable::printable_text(self.doing()))?;
        self.cause().map_or(Ok(()), |cause| write!(f, ": {}", reason(cause)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(what) => f.write_str(what.as_deref().unwrap_or("wrong usage")),
            Error::WrongValue(why) => f.write_str(why),
            Error::Version => f.write_str("version"),
            Error::Fatal(failed) => failed.fmt(f),
        }
    }
}

/// Adds to an error of the system what was being done.
pub trait Context<T> {
    /// Makes an error a [`Failed`].
    ///
    /// # Errors
    ///
    /// [`Failed`] whenever `self` is an error.
    fn while_doing<S: Into<Vec<u8>>>(self, doing: impl FnOnce() -> S) -> Result<T, Failed>;

    /// The same for what was to be done to a file: `unable to open /path`.
    ///
    /// # Errors
    ///
    /// [`Failed`] whenever `self` is an error.
    fn unable_to(self, verb: &str, path: &[u8]) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn while_doing<S: Into<Vec<u8>>>(self, doing: impl FnOnce() -> S) -> Result<T, Failed> {
        self.map_err(|cause| Failed::because(cause, doing()))
    }

    fn unable_to(self, verb: &str, path: &[u8]) -> Result<T, Failed> {
        self.map_err(|cause| Failed::unable_to(cause.into(), verb, path))
    }
}

/// runit's words for an error, the same on every platform and in every language.
#[must_use]
pub fn reason(error: &io::Error) -> &'static str {
    match (error.raw_os_error(), crate::trust::refusal(error)) {
        (Some(errno), _) => reason_of(errno),
        (None, Some(refusal)) => refusal.words(),
        (None, None) => "unknown error",
    }
}

/// runit's words for an error number.
#[must_use]
pub fn reason_of(errno: i32) -> &'static str {
    use nix::libc;
    match errno {
        0 => "no error",
        libc::ENOENT => "file does not exist",
        libc::EACCES => "access denied",
        libc::EPERM => "permission denied",
        libc::EISDIR => "is a directory",
        libc::ENOTDIR => "not a directory",
        libc::EEXIST => "file already exists",
        libc::EAGAIN => "temporary failure",
        libc::ENXIO => "device not configured",
        libc::EINTR => "interrupted system call",
        libc::EIO => "input/output error",
        libc::ENOMEM => "out of memory",
        libc::ENOSPC => "out of disk space",
        libc::ENOEXEC => "exec format error",
        libc::ETXTBSY => "text busy",
        libc::E2BIG => "argument list too long",
        libc::ELOOP => "symbolic link loop",
        libc::ENAMETOOLONG => "file name too long",
        libc::EROFS => "read-only file system",
        libc::EMFILE => "process cannot open more files",
        libc::ENFILE => "system cannot open more files",
        libc::EBADF => "file descriptor not open",
        libc::ECHILD => "no child processes",
        libc::ESRCH => "no such process",
        libc::EPIPE => "broken pipe",
        libc::EINVAL => "invalid argument",
        libc::EBUSY => "device busy",
        libc::EXDEV => "cross-device link",
        libc::ENODEV => "device does not support operation",
        libc::EFBIG => "file too big",
        libc::ESPIPE => "unseekable descriptor",
        libc::EMLINK => "too many links",
        libc::ENOTEMPTY => "directory not empty",
        libc::EDQUOT => "disk quota exceeded",
        libc::ESTALE => "stale NFS file handle",
        libc::EDEADLK => "operation would cause deadlock",
        libc::EFAULT => "bad address",
        libc::ENOTTY => "not a tty",
        libc::ENOTBLK => "not a block device",
        libc::ETIMEDOUT => "timed out",
        libc::EINPROGRESS => "operation in progress",
        libc::EALREADY => "operation already in progress",
        libc::ENOTSOCK => "not a socket",
        libc::EDESTADDRREQ => "destination address required",
        libc::EMSGSIZE => "message too long",
        libc::EPROTO => "protocol error",
        libc::EPROTOTYPE => "incorrect protocol type",
        libc::ENOPROTOOPT => "protocol not available",
        libc::EPROTONOSUPPORT => "protocol not supported",
        libc::ESOCKTNOSUPPORT => "socket type not supported",
        libc::EOPNOTSUPP => "operation not supported",
        libc::EPFNOSUPPORT => "protocol family not supported",
        libc::EAFNOSUPPORT => "address family not supported",
        libc::EADDRINUSE => "address already used",
        libc::EADDRNOTAVAIL => "address not available",
        libc::ENETDOWN => "network down",
        libc::ENETUNREACH => "network unreachable",
        libc::ENETRESET => "network reset",
        libc::ECONNABORTED => "connection aborted",
        libc::ECONNRESET => "connection reset",
        libc::ECONNREFUSED => "connection refused",
        libc::ENOBUFS => "out of buffer space",
        libc::EISCONN => "already connected",
        libc::ENOTCONN => "not connected",
        libc::ESHUTDOWN => "socket shut down",
        libc::ETOOMANYREFS => "too many references",
        libc::EHOSTDOWN => "host down",
        libc::EHOSTUNREACH => "host unreachable",
        libc::EUSERS => "too many users",
        libc::ENOLCK => "no locks available",
        libc::ENOSYS => "system call not available",
        libc::EDOM => "input out of range",
        libc::ERANGE => "output out of range",
        libc::EREMOTE => "too many levels of remote in path",
        libc::ENOMSG => "no message of desired type",
        libc::EBADMSG => "bad message type",
        libc::EIDRM => "identifier removed",
        libc::EMULTIHOP => "multihop attempted",
        libc::ENOLINK => "link severed",
        _ => crate::sys::reason_here(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_denials_have_different_words() {
        assert_eq!(reason_of(nix::libc::EACCES), "access denied");
        assert_eq!(reason_of(nix::libc::EPERM), "permission denied");
        assert_eq!(reason_of(0), "no error");
        assert_eq!(reason_of(99_999), "unknown error");
        assert_eq!(reason(&io::Error::other("x")), "unknown error");
    }

    #[test]
    fn options_are_refused_in_the_words_of_getopt() {
        let words = |error: lexopt::Error| match Error::from(error) {
            Error::Usage(Some(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(words(lexopt::Error::UnexpectedOption("-x".into())), "illegal option -- x");
        assert_eq!(words(lexopt::Error::UnexpectedOption("--xyz".into())), "illegal option -- -");
        let missing = lexopt::Error::MissingValue { option: Some("-w".into()) };
        assert_eq!(words(missing), "option requires an argument -- w");
        let missing = lexopt::Error::MissingValue { option: Some("--umask".into()) };
        assert_eq!(words(missing), "option requires an argument -- umask");
    }
}
