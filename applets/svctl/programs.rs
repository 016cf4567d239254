//! How scripts that `svctl` writes call the programs of the suite.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Access, AtFlags, CWD, access, statat};
use svcore::{exec, files};

use super::script::quoted;

/// The words by which a script calls the program `name`: the name alone, if PATH has the program; otherwise `runitbox NAME`,
/// or with the path of our executable.
pub(super) fn command(name: &str) -> Vec<u8> {
    if is_in_path(name) {
        return name.into();
    }
    let suite = if is_in_path("runitbox") {
        b"runitbox".to_vec()
    } else {
        std::env::current_exe()
            .map_or_else(|_| b"runitbox".to_vec(), |path| quoted(path.as_os_str().as_bytes()))
    };
    [&suite, b" ".as_slice(), name.as_bytes()].concat()
}

fn is_in_path(name: &str) -> bool {
    exec::candidates(OsStr::new(name), std::env::var_os("PATH").as_deref()).iter().any(|file| {
        access(file, Access::EXEC_OK).is_ok()
            && statat(CWD, file, AtFlags::empty()).is_ok_and(|stat| !files::is_dir(&stat))
    })
}
