//! What a file of a log directory contains, whether or not it is compressed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use svcore::files;

use super::directory::{Opened, compression, start_of};
#[cfg(feature = "gzip")]
use super::inflate::Gunzip;

/// The content of a file, read from its beginning on.
pub(super) enum Content {
    /// As it is.
    Plain {
        file: File,
        /// How many bytes are read at most.
        left: u64,
    },
    /// Compressed by gzip.
    #[cfg(feature = "gzip")]
    Gzip(Box<Gunzip>),
}

/// Why there is no content.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is compressed, and only this program can read it.
    Compressed(&'static str),
    /// The system's reason.
    Failed(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Unreadable::Failed(error)
    }
}

impl Content {
    /// The content of a file, but no more than `limit` bytes of one that is not compressed.
    pub(super) fn of(opened: Opened, limit: u64) -> Result<Self, Unreadable> {
        let mut start = [0; 8];
        let length = start_of(&opened.file, &mut start)?;
        match compression(start.get(..length).unwrap_or_default()) {
            None => Ok(Content::Plain { file: opened.file, left: limit }),
            #[cfg(feature = "gzip")]
            Some("gzip") => Ok(Content::Gzip(Box::new(Gunzip::new(opened.file)))),
            Some(program) => Err(Unreadable::Compressed(program)),
        }
    }

    /// Skips to a place. Of a compressed file nothing is skipped.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        match self {
            Content::Plain { file, left } => {
                *left = left.saturating_sub(offset);
                file.seek(SeekFrom::Start(offset)).map(drop)
            }
            #[cfg(feature = "gzip")]
            Content::Gzip(_) => Ok(()),
        }
    }

    /// Whether svlogd has marked the file as complete by now.
    pub(super) fn is_complete(&self) -> bool {
        let file = match self {
            Content::Plain { file, .. } => file,
            #[cfg(feature = "gzip")]
            Content::Gzip(decoder) => decoder.file(),
        };
        rustix::fs::fstat(file).is_ok_and(|stat| files::is_executable(&stat))
    }

    /// Begins again, since a file that is not compressed has become shorter.
    pub(super) fn rewind(&mut self) {
        match self {
            Content::Plain { file, left } => {
                *left = u64::MAX;
                // A regular file can be read from any place.
                let _ = file.rewind();
            }
            #[cfg(feature = "gzip")]
            Content::Gzip(_) => {}
        }
    }

    /// How far a file that is not compressed was read.
    pub(super) fn position(&mut self) -> Option<u64> {
        match self {
            Content::Plain { file, .. } => file.stream_position().ok(),
            #[cfg(feature = "gzip")]
            Content::Gzip(_) => None,
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Plain { file, left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                let length = file.read(buffer.get_mut(..most).unwrap_or_default())?;
                *left = left.saturating_sub(u64::try_from(length).unwrap_or(0));
                Ok(length)
            }
            #[cfg(feature = "gzip")]
            Content::Gzip(decoder) => decoder.read(buffer),
        }
    }
}
