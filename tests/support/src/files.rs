//! Directories, scripts and FIFOs.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::eventually;

/// A directory that is removed with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    /// An empty directory.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// An empty directory in memory, where the machine has that.
    pub fn in_memory() -> Self {
        let shared = Path::new("/dev/shm");
        if shared.is_dir() { Self::below(shared) } else { Self::new() }
    }

    fn below(above: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = above.join(format!("runitbox-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        // Others have to get in where a case drops its privileges.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and makes the directories above it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a shell script, and makes the directories above it.
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        write_script(&self.join(name), body)
    }

    /// The text of a file; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        read(self.join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a shell script. It is complete before it has its name: a supervisor may look at any time.
pub fn write_script(path: &Path, body: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("being-written");
    fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
    path.to_owned()
}

/// Removes a directory that is served. The supervisor may make a file in it at the same time; then it is tried again.
#[track_caller]
pub fn remove_served(path: impl AsRef<Path>) {
    let path = path.as_ref();
    eventually("removed", || fs::remove_dir_all(path).is_ok());
}

/// The text of a file; empty if there is none.
pub fn read(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Makes a FIFO.
pub fn make_fifo(path: &Path, mode: u32) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_bits_truncate(mode), 0).unwrap();
}

/// Opens a FIFO for writing if it has a reader. A plain open would wait for one for ever.
pub fn open_fifo(path: &Path) -> Option<fs::File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

/// Writes to a FIFO, which must have a reader.
#[track_caller]
pub fn send(path: &Path, bytes: &str) {
    open_fifo(path).expect("no reader").write_all(bytes.as_bytes()).unwrap();
}
