//! The built-in processor `!gzip`: compresses an old log without a shell and without the program gzip.
//!
//! It runs in a child process with a name of its own and without the directory's lock. So new lines are read and written
//! meanwhile, and its memory, half a megabyte for buffers and compressor, is freed when it exits. The child lowers its
//! priority: where there is only one CPU, new lines come first.

use std::fs::File;
use std::io;

use rustix::fd::BorrowedFd;
use rustix::process::Pid;
use svcore::sys::fork::fork_to_files;

/// The level used for `!gzip 1`: the library's level 1 compresses less than gzip's, its level 2 as much.
#[cfg(feature = "gzip")]
const LEVEL_MIN: u32 = 2;
/// What is added to the nice level of the child.
const NICE: i32 = 10;

/// The name of the child in `ps`. With a name of its own it gets no signal that pkill(1) sends to svlogd.
const NAME: &str = "gzip";

/// Starts a child that compresses `input` into `output`. It exits 0 once the result is synced to disk.
pub(super) fn start(input: BorrowedFd<'_>, output: BorrowedFd<'_>, level: u32) -> io::Result<Pid> {
    fork_to_files(NAME, input, output, move |input, output| {
        // Without it the compression works as well.
        let _ = rustix::process::nice(NICE);
        u8::from(compress(input, output, level).is_err())
    })
}

/// Compresses `input` into `output`, and gives `output` the modification time of `input`: that of its last line.
#[cfg(feature = "gzip")]
fn compress(mut input: File, output: File, level: u32) -> io::Result<()> {
    let written = input.metadata()?.modified()?;
    let seconds = written.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let builder = flate2::GzBuilder::new().mtime(u32::try_from(seconds).unwrap_or(0));
    let mut encoder = builder.write(
        io::BufWriter::with_capacity(64 * 1024, output),
        flate2::Compression::new(level.max(LEVEL_MIN)),
    );
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match io::Read::read(&mut input, &mut buffer)? {
            0 => break,
            length => {
                let block = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
                io::Write::write_all(&mut encoder, block)?;
            }
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
