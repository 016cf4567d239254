//! `runit-init`, also called `init`: as process 1 it becomes `runit`; otherwise it asks process 1 to halt or reboot.
//! Source: runit-init(8).

mod first;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{CWD, Mode, OFlags, fchmod, ftruncate, mkdirat};
use rustix::io::Errno;
use rustix::process::Pid;
use svcore::say::{Class, Message};
use svcore::sys::signal;
use svcore::{Call, Context, Error, Failed, Result, Signal, exec, multicall};

use crate::runit::flags::{self, REBOOT, STOP_IT};
use first::First;

/// The program that process 1 becomes.
const RUNIT: &CStr = c"/sbin/runit";
/// The mode of a flag file that is set.
const SET: Mode = Mode::from_raw_mode(0o100);

/// Runs the applet.
pub(crate) fn main(call: &Call<'_>) -> Result {
    if svcore::process_one::is_process_one() {
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
        Message::of(Class::Fatal, "init", &Failed::without_cause(what)).print();
        return Ok(call.codes.fatal);
    }
    match set_flags(reboot) {
        Ok(()) => {
            // Where /proc does not tell what process 1 is, it may be another init, which ignores CONT.
            let _ = signal::send(Pid::INIT, Signal::CONT);
            Ok(0)
        }
        Err(failed) => {
            Message::of(Class::Fatal, "init", &failed).print();
            Ok(call.codes.fatal)
        }
    }
}

/// As process 1: executes `/sbin/runit`. If that cannot be executed, this process runs the runit applet itself.
fn become_runit(call: &Call<'_>) -> Result {
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let error = exec::replace(&[RUNIT.to_owned()], &[c"runit".to_owned()], &environment);
    if error.raw_os_error() != Some(Errno::NOENT.raw_os_error()) {
        Message::warning("init", "unable to start runit").because(&error).print();
    }
    crate::runit::main(call)
}

/// Sets `stopit`, and sets or clears `reboot`.
///
/// A flag file may exist in `/etc/runit` and in `/run`. Every one that exists is changed: we do not know which of them
/// process 1 and the stages read, and one that kept its old mode would count at the next shutdown. If neither exists,
/// one is created: in `/etc/runit` (or where a link there points to), otherwise in `/run`.
fn set_flags(reboot: bool) -> Result<(), Failed> {
    let stop_it_set = set_all(&STOP_IT, [false; 2])?;
    if reboot {
        // A program that reads `stopit` in a directory reads `reboot` in the same one.
        return set_all(&REBOOT, stop_it_set).map(drop);
    }
    for path in REBOOT {
        match flags::set_mode(path, Mode::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            // It could not be changed, but it is not set, so nothing has to be cleared.
            Err(_) if !flags::is_set(path) => {}
            Err(errno) => return Err(errno).while_doing(|| chmod(path)),
        }
    }
    Ok(())
}

/// Sets each of a flag's two files that exists, and creates those for which `create` is true. If none is set then, one
/// is created. Returns which of the two are set: at least one.
fn set_all(paths: &[&'static CStr; 2], create: [bool; 2]) -> Result<[bool; 2], Failed> {
    let mut first_error = None;
    let mut succeeds = |result: Result<(), Failed>| match result {
        Ok(()) => true,
        Err(error) => {
            // The error that is reported is that of the first path, the usual one.
            first_error.get_or_insert(error);
            false
        }
    };
    let mut set = [false; 2];
    for ((is_set, path), create) in set.iter_mut().zip(paths).zip(create) {
        *is_set = match flags::set_mode(path, SET) {
            Err(Errno::NOENT | Errno::NOTDIR) => create && succeeds(create_set(path)),
            result => succeeds(result.while_doing(|| chmod(path))),
        };
    }
    if set == [false; 2] {
        let _ = mkdirat(CWD, c"/etc/runit", Mode::from_raw_mode(0o755));
        let mut files = set.iter_mut().zip(paths);
        if let Some((is_set, _)) = files.find(|(_, path)| succeeds(create_set(path))) {
            *is_set = true;
        }
    }
    match first_error {
        Some(error) if set == [false; 2] => Err(error),
        _ => Ok(set),
    }
}

/// Creates a flag file, or empties the one that somebody created meanwhile, and sets it.
fn create_set(path: &'static CStr) -> Result<(), Failed> {
    let created = flags::open(path, OFlags::WRONLY | OFlags::CREATE, SET).and_then(|(file, _)| {
        ftruncate(&file, 0)?;
        fchmod(&file, SET)
    });
    created.while_doing(|| [b"unable to create ", path.to_bytes()].concat())
}

fn chmod(path: &CStr) -> Vec<u8> {
    [b"unable to chmod ", path.to_bytes()].concat()
}
