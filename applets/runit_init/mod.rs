//! `runit-init`, also called `init`: becomes runit as process 1, and otherwise tells it to end the machine. Source:
//! runit-init(8).

mod first;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{CWD, Mode, OFlags, fchmod, ftruncate, mkdirat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use svcore::{Call, Error, Result, exec, multicall, say};

use crate::runit::flags::{self, REBOOT, STOP_IT};
use first::First;

/// What this program becomes.
const RUNIT: &CStr = c"/sbin/runit";
/// The flag.
const SET: Mode = Mode::from_raw_mode(0o100);

/// Runs the applet.
pub(crate) fn main(call: &Call<'_>) -> Result {
    if svcore::sys::start::is_first_process() {
        return become_runit(call);
    }
    let reboot = match call.args.first().map(|word| word.as_bytes()) {
        Some([b'0', ..]) => false,
        Some([b'6', ..]) => true,
        Some(b"-V") => return Err(multicall::version()),
        _ => return Err(Error::usage()),
    };
    if let First::Other(name) = first::look() {
        // It would not look at the flags. They would stay, and count at the next boot with runit.
        let what = [b"process 1 is ".as_slice(), &name, b", not runit: nothing was done"].concat();
        say::trouble(&[b"init: fatal: "], &what, None);
        return Ok(call.codes.fatal);
    }
    match tell(reboot) {
        Ok(()) => {
            // Process 1 may not listen. We cannot know.
            let _ = kill_process(Pid::INIT, Signal::CONT);
            Ok(0)
        }
        Err((what, path, errno)) => {
            let what = [what, path.to_bytes()].concat();
            say::trouble(&[b"init: fatal: "], &what, Some(&errno.into()));
            Ok(call.codes.fatal)
        }
    }
}

/// As process 1: `/sbin/runit`, or ourselves under that name where it cannot be executed.
fn become_runit(call: &Call<'_>) -> Result {
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let error = exec::replace(&[RUNIT.to_owned()], &[c"runit".to_owned()], &environment);
    if error.raw_os_error() != Some(Errno::NOENT.raw_os_error()) {
        say::trouble(&[b"init: warning: "], b"unable to start runit", Some(&error));
    }
    crate::runit::main(call)
}

type Failed = (&'static [u8], &'static CStr, Errno);

/// Sets and takes back every flag that is there: which of them process 1 and the stages look at is for them to know,
/// and one that is left at its old mode would count the next time. Where there is none, one is made: in `/etc/runit`, or
/// what links there lead to, or in `/run`.
fn tell(reboot: bool) -> std::result::Result<(), Failed> {
    let places = set_all(&STOP_IT, [false; 2])?;
    if reboot {
        // Whoever looks for the one flag in a place looks for the other there.
        return set_all(&REBOOT, places).map(drop);
    }
    for path in REBOOT {
        match flags::set_mode(path, Mode::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            // One that is not set need not be taken back.
            Err(_) if !flags::is_set(path) => {}
            Err(errno) => return Err((b"unable to chmod ", path, errno)),
        }
    }
    Ok(())
}

/// Sets the flags that are there, makes those of the places `wanted`, and gives the places of those that are set now.
/// At least one is.
fn set_all(paths: &[&'static CStr; 2], wanted: [bool; 2]) -> std::result::Result<[bool; 2], Failed> {
    let mut failed = None;
    let mut note = |result: std::result::Result<(), Failed>| match result {
        Ok(()) => true,
        Err(error) => {
            // What is said is what the usual place says.
            failed.get_or_insert(error);
            false
        }
    };
    let mut places = [false; 2];
    for ((place, path), wanted) in places.iter_mut().zip(paths).zip(wanted) {
        *place = match flags::set_mode(path, SET) {
            Err(Errno::NOENT | Errno::NOTDIR) => wanted && note(set(path)),
            result => note(result.map_err(|errno| (b"unable to chmod ".as_slice(), *path, errno))),
        };
    }
    if places == [false; 2] {
        let _ = mkdirat(CWD, c"/etc/runit", Mode::from_raw_mode(0o755));
        if let Some(place) =
            places.iter_mut().zip(paths).find_map(|(place, path)| note(set(path)).then_some(place))
        {
            *place = true;
        }
    }
    match failed {
        Some(failed) if places == [false; 2] => Err(failed),
        _ => Ok(places),
    }
}

fn set(path: &'static CStr) -> std::result::Result<(), Failed> {
    let made = flags::open(path, OFlags::WRONLY | OFlags::CREATE, SET).and_then(|(file, _)| {
        ftruncate(&file, 0)?;
        fchmod(&file, SET)
    });
    made.map_err(|errno| (b"unable to create ".as_slice(), path, errno))
}
