//! Whether process 1 is runit, which alone looks at the flags.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, readlinkat};
use svcore::files;

/// What process 1 is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// runit: ours, or stock's.
    Runit,
    /// Another program, of this name.
    Other(Vec<u8>),
    /// It is not known, since there is no `/proc` of this PID namespace.
    Unknown,
}

/// Looks at process 1.
pub(super) fn look() -> First {
    // In a new PID namespace, `/proc` may still be that of another one, with another process 1.
    let own = readlinkat(CWD, c"/proc/self", Vec::new()).ok();
    let is_of_here = own.is_some_and(|own| own.to_bytes() == std::process::id().to_string().as_bytes());
    if !is_of_here {
        return First::Unknown;
    }
    let mut buffer = [0; 64];
    let name = read_line(c"/proc/1/comm", &mut buffer);
    let executable = readlinkat(CWD, c"/proc/1/exe", Vec::new()).ok();
    judge(name, executable.as_deref().map(CStr::to_bytes))
}

fn read_line<'b>(path: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let text = files::read_start(CWD, path, buffer).ok()?;
    Some(text.strip_suffix(b"\n").unwrap_or(text))
}

/// What a process is by the name that the kernel has of it, and by the path of its executable.
fn judge(name: Option<&[u8]>, executable: Option<&[u8]>) -> First {
    const RUNIT: &[u8] = b"runit";
    let file = executable.map(|path| {
        // So the kernel marks one that was replaced, as an upgrade does.
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        Path::new(std::ffi::OsStr::from_bytes(path)).file_name().unwrap_or_default().as_bytes()
    });
    match (name, file) {
        (None, None) => First::Unknown,
        (Some(RUNIT), _) | (_, Some(RUNIT)) => First::Runit,
        (Some(name), _) | (None, Some(name)) => First::Other(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runit_is_known_by_its_name_or_its_file() {
        let judged = |name: &str, file: &str| judge(Some(name.as_bytes()), Some(file.as_bytes()));
        assert_eq!(judged("runit", "/usr/bin/runitbox"), First::Runit);
        assert_eq!(judged("runit", "/usr/sbin/runit"), First::Runit);
        assert_eq!(judged("renamed", "/sbin/runit (deleted)"), First::Runit);
        assert_eq!(judge(Some(b"runit"), None), First::Runit);
        assert_eq!(judged("systemd", "/usr/lib/systemd/systemd"), First::Other(b"systemd".to_vec()));
        assert_eq!(judged("runsvinit", "/sbin/runitbox"), First::Other(b"runsvinit".to_vec()));
        assert_eq!(judge(None, None), First::Unknown);
    }
}
