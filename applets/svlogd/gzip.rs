//! `!gzip`: compression by ourselves, in an image without a shell and without gzip.
//!
//! It runs in a process of its own, which borrows nothing from the one that logs, its lock and its name neither: reading
//! and writing of new lines go on beside it, and its memory, half a megabyte for its buffers and the compressor, is gone
//! with it. It is nicer than us,
//! so where there is one processor new lines come first.

use std::fs::File;
use std::io;

use rustix::fd::BorrowedFd;
use rustix::process::Pid;
use svcore::slice;
use svcore::sys::fork::fork_to_files;

/// Level 1 of the compressor is faster than that of gzip and compresses less; its level 2 compresses as much.
#[cfg(feature = "gzip")]
const WEAKEST: u32 = 2;
/// How much nicer than us.
const NICE: i32 = 10;

/// What `ps` shows. Who sends svlogd a signal by name means us and not this.
const NAME: &str = "gzip";

/// Compresses `input` into `output` in another process, which exits 0 when all is on the disk.
pub(super) fn start(input: BorrowedFd<'_>, output: BorrowedFd<'_>, level: u32) -> io::Result<Pid> {
    fork_to_files(NAME, input, output, move |input, output| {
        // Being nice is no condition.
        let _ = rustix::process::nice(NICE);
        u8::from(compress(input, output, level).is_err())
    })
}

/// The time of the result is that of the last line in it.
#[cfg(feature = "gzip")]
fn compress(mut input: File, output: File, level: u32) -> io::Result<()> {
    let written = input.metadata()?.modified()?;
    let seconds = written.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let builder = flate2::GzBuilder::new().mtime(u32::try_from(seconds).unwrap_or(0));
    let mut encoder = builder
        .write(io::BufWriter::with_capacity(64 * 1024, output), flate2::Compression::new(level.max(WEAKEST)));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match io::Read::read(&mut input, &mut buffer)? {
            0 => break,
            length => io::Write::write_all(&mut encoder, slice::part(&buffer, ..length))?,
        }
    }
    let output = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    output.set_modified(written)?;
    output.sync_all()
}

#[cfg(not(feature = "gzip"))]
fn compress(_input: File, _output: File, _level: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
