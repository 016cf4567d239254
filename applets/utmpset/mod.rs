//! `utmpset`: record in utmp and wtmp that a terminal line is logged out. Source: utmpset(8).

use std::ffi::CStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg::{Short, Value};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, SeekFrom, flock, fstat, ftruncate, seek};
use rustix::io::Errno;
use svcore::say::Message;
use svcore::sys::clock;
use svcore::utmp::{LEN, LINE_MAX, Record};
use svcore::{Call, Context, Error, Failed, Result, multicall, trust};

const UTMP: &CStr = c"/var/run/utmp";
const WTMP: &CStr = c"/var/log/wtmp";

/// Runs the applet.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let mut parser = lexopt::Parser::from_args(call.args);
    parser.set_short_equals(false);
    let (mut wtmp, mut line) = (false, None);
    while line.is_none()
        && let Some(arg) = parser.next()?
    {
        match arg {
            Short('w') => wtmp = true,
            Short('V') => return Err(multicall::version()),
            // Further words are ignored. Source: utmpset(8).
            Value(word) => line = Some(word),
            other => return Err(other.unexpected().into()),
        }
    }
    let line = line.ok_or_else(Error::usage)?;
    let line = line.as_bytes();
    let unable = |what: &str| [b"unable to logout line ", line, b" in ", what.as_bytes()].concat();
    if line.len() > LINE_MAX {
        return Err(Failed::without_cause(unable("utmp: name too long")).into());
    }
    if !log_out_in_utmp(line)? {
        Message::warning("utmpset", &unable("utmp: no such entry")).print();
        return Ok(call.codes.fatal);
    }
    if wtmp && let Err(error) = append_to_wtmp(line)? {
        Message::warning("utmpset", &unable("wtmp")).because(&error).print();
        return Ok(call.codes.fatal);
    }
    Ok(0)
}

/// Marks the login on `line` as logged out. Returns whether a login on it was found, and its record written.
fn log_out_in_utmp(line: &[u8]) -> Result<bool, Failed> {
    // Where everybody may write to /run, a stranger may have made the file: no link and no FIFO is opened.
    let (file, _) = trust::open_regular(CWD, UTMP, OFlags::RDWR, Mode::empty())
        .while_doing(|| format!("unable to open {}", UTMP.to_string_lossy()))?;
    lock(&file, UTMP)?;
    let mut at = 0;
    while let Some(mut record) = read_record(file.as_fd()) {
        if record.is_login_on(line) {
            let (seconds, nanos) = clock::wall_unix();
            record.log_out(seconds, nanos);
            let written =
                seek(&file, SeekFrom::Start(at)).and_then(|_| rustix::io::write(&file, record.bytes()));
            return Ok(written == Ok(LEN));
        }
        at = at.saturating_add(u64::try_from(LEN).unwrap_or(0));
    }
    Ok(false)
}

/// The next record; `None` at the end of the file, or if less than a whole record can be read.
fn read_record(file: BorrowedFd<'_>) -> Option<Record> {
    let mut bytes = [0; LEN];
    (rustix::io::read(file, &mut bytes) == Ok(LEN)).then(|| bytes.into())
}

/// Appends a logout record for `line` to wtmp.
///
/// The outer error is fatal; the inner one is only warned of.
fn append_to_wtmp(line: &[u8]) -> Result<io::Result<()>> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    let file = match trust::open_regular(CWD, WTMP, flags, Mode::RUSR | Mode::WUSR) {
        Ok((file, _)) => file,
        Err(error) => return Ok(Err(error)),
    };
    lock(&file, WTMP)?;
    Ok(append_logout(&file, line).map_err(io::Error::from))
}

fn append_logout(file: &OwnedFd, line: &[u8]) -> std::result::Result<(), Errno> {
    let before = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
    let (seconds, nanos) = clock::wall_unix();
    match rustix::io::write(file, Record::of_logout(line, seconds, nanos).bytes()) {
        Ok(LEN) => Ok(()),
        written => {
            // Half a record would make all later records unreadable.
            ftruncate(file, before)?;
            Err(written.err().unwrap_or(Errno::NOSPC))
        }
    }
}

fn lock(file: &OwnedFd, path: &CStr) -> Result<(), Failed> {
    flock(file, FlockOperation::LockExclusive)
        .while_doing(|| format!("unable to lock: {}", path.to_string_lossy()))
}
