//! The line `stat` of a process in `/proc`. Source: proc_pid_stat(5).

use std::ffi::{CStr, CString};

use std::sync::OnceLock;

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, readlinkat, statat};
use rustix::process::getpid;

use crate::files;
use crate::sys::auxv;

/// The line is never longer: a name of at most 15 bytes and numbers.
const LINE_MAX: usize = 1024;

/// The fields that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStat {
    /// The name of the process, at most 15 bytes of any kind.
    pub name: Vec<u8>,
    /// Whether it has ended and was not reaped yet.
    pub is_zombie: bool,
    /// Whether a signal such as SIGSTOP has stopped it.
    pub is_stopped: bool,
    /// The number of its parent; 0 if that is outside of the PID namespace of `/proc`.
    pub parent: i32,
    /// The processor time that it used, of the user and of the system, in ticks of the kernel.
    pub processor: u64,
    /// When it started, in ticks of the kernel after boot. A process that gets the number of an ended one has another
    /// start.
    pub start: u64,
}

impl ProcStat {
    /// Parses the line; `None` if it is not one.
    #[must_use]
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        // Between the parent, which is field 4, and field 14; between fields 15 and 22.
        const BEFORE_PROCESSOR: usize = 9;
        const BEFORE_START: usize = 6;
        // The name is in parentheses, and may contain some.
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(line.get(close + 1..)?).ok()?.split_whitespace();
        let state = fields.next()?;
        let (is_zombie, is_stopped) = (matches!(state, "Z" | "X"), state == "T");
        let parent = fields.next()?.parse().ok()?;
        let mut number = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
        let processor = number(BEFORE_PROCESSOR)?.saturating_add(number(0)?);
        let start = number(BEFORE_START)?;
        let name = line.get(open + 1..close)?.to_vec();
        Some(ProcStat { name, is_zombie, is_stopped, parent, processor, start })
    }

    /// Reads that of process `pid`, a number in the PID namespace of `/proc`. `None` if it has ended, or there is no `/proc`.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let path = CString::new(format!("/proc/{pid}/stat")).ok()?;
        let mut line = [0; LINE_MAX];
        Self::parse(files::read_start(CWD, &path, &mut line).ok()?)
    }

    /// How long ago it started, in whole seconds; `None` where there is no `/proc`.
    #[must_use]
    pub fn age_in_seconds(&self) -> Option<u64> {
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let since_boot: u64 = uptime.split('.').next()?.parse().ok()?;
        Some(since_boot.saturating_sub(self.start / auxv::clock_ticks()))
    }

    /// Reads our own, even if `/proc` is that of another PID namespace. `None` if there is no `/proc`.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::parse(&std::fs::read("/proc/self/stat").ok()?)
    }
}

/// A process: no other one ever has all three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Its number in its own PID namespace.
    pub pid: i32,
    /// See [`ProcStat::start`].
    pub start: u64,
    /// Its PID namespace, by the inode of the namespace's file in `/proc`.
    pub namespace: u64,
}

impl Tag {
    /// Our own; `None` without `/proc`.
    #[must_use]
    pub fn own() -> Option<Self> {
        let pid = getpid().as_raw_nonzero().get();
        Some(Tag { pid, start: ProcStat::own()?.start, namespace: our_namespace()? })
    }

    /// That of a living process of our own PID namespace; `None` if `/proc` is that of another namespace.
    pub(crate) fn of_neighbour(pid: i32) -> Option<Self> {
        if !is_of_our_namespace() {
            return None;
        }
        Some(Tag { pid, start: ProcStat::of(pid)?.start, namespace: our_namespace()? })
    }

    /// Whether it is a process of our own PID namespace, whose number means something to us.
    #[must_use]
    pub fn is_neighbour(&self) -> bool {
        our_namespace() == Some(self.namespace) && is_of_our_namespace()
    }
}

/// Whether the numbers in `/proc` are those of our PID namespace.
#[must_use]
pub(crate) fn is_of_our_namespace() -> bool {
    let own = readlinkat(CWD, c"/proc/self", Vec::new());
    own.is_ok_and(|own| own.to_bytes() == std::process::id().to_string().as_bytes())
}

/// The number of our own PID namespace; `None` where there is no `/proc`.
pub(crate) fn our_namespace() -> Option<u64> {
    static OURS: OnceLock<Option<u64>> = OnceLock::new();
    *OURS.get_or_init(|| namespace_in(CWD, c"/proc/self/ns/pid"))
}

/// The number of the PID namespace of which this is the file in `/proc`; `None` if we may not know.
pub(crate) fn namespace_in(dir: BorrowedFd<'_>, file: &CStr) -> Option<u64> {
    Some(files::identity(&statat(dir, file, AtFlags::empty()).ok()?).inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let line = b"7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 100\n";
        let expected = ProcStat {
            name: b"a) b (c".to_vec(),
            is_zombie: false,
            is_stopped: false,
            parent: 3,
            processor: 11,
            start: 4711,
        };
        assert_eq!(ProcStat::parse(line), Some(expected));
        let zombie = b"7 (a) Z 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711";
        assert!(ProcStat::parse(zombie).unwrap().is_zombie);
        let stopped = b"7 (a) T 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711";
        assert!(ProcStat::parse(stopped).unwrap().is_stopped);
    }

    #[test]
    fn what_is_no_such_line_is_none() {
        for line in
            ["", "7 (a", "7 a) (b S 1", "7 (a) S 3 7 7 0", "7 (a) S x 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4"]
        {
            assert_eq!(ProcStat::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn our_own_can_be_read() {
        let number = |pid: rustix::process::Pid| pid.as_raw_nonzero().get();
        let own = ProcStat::own().unwrap();
        assert_eq!(own.parent, rustix::process::getppid().map_or(0, number));
        assert_eq!(ProcStat::of(number(rustix::process::getpid())).unwrap().start, own.start);
    }
}
