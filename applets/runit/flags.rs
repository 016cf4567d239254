//! Files whose mode is a flag: the owner may execute them, or not. `/etc/runit/…` may be links into `/run`; Debian's
//! programs look only at those in `/run`.

use std::ffi::CStr;

use rustix::fs::{CWD, Mode, chmodat};
use svcore::files;

/// Permission to stop stage 2.
pub(crate) const STOP_IT: [&CStr; 2] = [c"/etc/runit/stopit", c"/run/runit.stopit"];
/// The machine is to start again.
pub(crate) const REBOOT: [&CStr; 2] = [c"/etc/runit/reboot", c"/run/runit.reboot"];

/// Whether the owner may execute a file.
pub(crate) fn is_set(path: &CStr) -> bool {
    files::look(CWD, path).is_ok_and(|stat| stat.is_some_and(|stat| files::is_executable(&stat)))
}

/// Whether stage 2 may be stopped.
pub(crate) fn stop_it() -> bool {
    STOP_IT.into_iter().any(is_set)
}

/// That permission is used up.
pub(crate) fn take_stop_it() {
    for path in STOP_IT.into_iter().filter(|path| is_set(path)) {
        // Where it cannot be taken away, it is there again the next time.
        let _ = chmodat(CWD, path, Mode::empty(), rustix::fs::AtFlags::empty());
    }
}

/// Whether the machine is to start again after its end.
pub(crate) fn reboot() -> bool {
    REBOOT.into_iter().any(is_set)
}

/// Whether nothing is to be written to disk at the end.
pub(crate) fn nosync() -> bool {
    files::look(CWD, c"/etc/runit/nosync").is_ok_and(|stat| stat.is_some())
}
