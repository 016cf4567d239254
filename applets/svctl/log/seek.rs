//! Places in a file of a log: so many lines from its end, or where a time begins. It is read from these places only, so a
//! large file takes no longer than a small one.

use std::io::{self, Read};

use memchr::{memchr, memrchr};
use rustix::io::{Errno, pread};
use svcore::slice;
use svcore::tai::Tai64N;

use super::content::Content;
use super::directory::{Opened, compression, start_of};
use super::stamp;

/// As much is read at once, in bytes.
const BLOCK: usize = 64 * 1024;

/// A line is not followed further back, in bytes. A file may have holes that are as long as anybody likes.
const LINE_MAX: u64 = 4 * 1024 * 1024;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// As many lines as wanted are after this place, or it is within a line that is too long.
    At(u64),
    /// The file has only so many lines.
    Lines(u64),
}

/// The place from which on a file has so many lines, or a place within a line that is longer than [`LINE_MAX`]. In a compressed file only its beginning is such a place, and a file
/// that cannot be read has no lines.
///
/// # Errors
///
/// That of read(2).
pub(super) fn from_end(opened: &Opened, wanted: u64) -> io::Result<Found> {
    if is_compressed(opened)? {
        let lines = count(opened)?;
        return Ok(if lines >= wanted { Found::At(0) } else { Found::Lines(lines) });
    }
    let mut block = vec![0; BLOCK];
    let (mut end, mut lines, mut line_ends) = (opened.size, 0_u64, opened.size);
    while end > 0 {
        let from = end.saturating_sub(size_of_block());
        let length = usize::try_from(end.saturating_sub(from)).unwrap_or(BLOCK);
        let length = read_at(opened, block.get_mut(..length).unwrap_or_default(), from)?;
        let mut bytes = slice::part(&block, ..length);
        while let Some(newline) = memrchr(b'\n', bytes) {
            // The newline of the last line ends no line before it.
            let after = from.saturating_add(u64::try_from(newline).unwrap_or(0)).saturating_add(1);
            if after < opened.size {
                lines = lines.saturating_add(1);
                if lines >= wanted {
                    return Ok(Found::At(after));
                }
            }
            line_ends = after;
            bytes = slice::part(bytes, ..newline);
        }
        if line_ends.saturating_sub(from) > LINE_MAX {
            return Ok(Found::At(from));
        }
        end = from;
    }
    Ok(Found::Lines(lines.saturating_add((opened.size > 0).into())))
}

const fn size_of_block() -> u64 {
    BLOCK as u64
}

/// A place before which all lines are older than a time, if the lines of the file are in the order of their time.
pub(super) fn to_time(opened: &Opened, since: Tai64N) -> u64 {
    if is_compressed(opened).unwrap_or(true) {
        return 0;
    }
    let mut block = vec![0; BLOCK];
    let (mut from, mut to) = (0, opened.size);
    while to.saturating_sub(from) > size_of_block() {
        let middle = from.midpoint(to);
        let length = read_at(opened, &mut block, middle).unwrap_or(0);
        let Some((at, time)) = first_stamp(slice::part(&block, ..length)) else { break };
        if time >= since {
            to = middle;
        } else {
            from = middle.saturating_add(at);
        }
    }
    from
}

/// Where the first whole line with a timestamp is, and its time.
fn first_stamp(bytes: &[u8]) -> Option<(u64, Tai64N)> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        at = at.saturating_add(memchr(b'\n', rest)?).saturating_add(1);
        let line = bytes.get(at..)?;
        if let Some(time) = stamp::of_line(line) {
            return Some((u64::try_from(at).ok()?, time));
        }
    }
}

fn is_compressed(opened: &Opened) -> io::Result<bool> {
    let mut start = [0; 8];
    let length = start_of(&opened.file, &mut start)?;
    Ok(compression(slice::part(&start, ..length)).is_some())
}

/// How many lines a compressed file has.
fn count(opened: &Opened) -> io::Result<u64> {
    let again = Opened { file: opened.file.try_clone()?, ..*opened };
    let Ok(mut content) = Content::of(again, u64::MAX) else { return Ok(0) };
    let mut block = vec![0; BLOCK];
    let mut lines = 0_u64;
    loop {
        match content.read(&mut block) {
            // A damaged file has the lines before the damage.
            Ok(0) | Err(_) => break,
            Ok(length) => {
                let newlines = slice::part(&block, ..length).iter().filter(|byte| **byte == b'\n').count();
                lines = lines.saturating_add(u64::try_from(newlines).unwrap_or(0));
            }
        }
    }
    // Both files have the same place.
    std::io::Seek::rewind(&mut &opened.file)?;
    Ok(lines)
}

fn read_at(opened: &Opened, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room @ [_, ..]) = buffer.get_mut(filled..) {
        match pread(&opened.file, room, at.saturating_add(u64::try_from(filled).unwrap_or(0))) {
            Ok(0) => break,
            Ok(length) => filled = filled.saturating_add(length),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use svcore::label::label_of;
    use svcore::tai;

    use super::super::directory::Directory;
    use super::*;

    /// A log directory with only a `current`.
    struct Log(PathBuf);

    impl Log {
        fn new(name: &str, content: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("svctl-seek-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::File::create(path.join("current")).unwrap().write_all(content).unwrap();
            Log(path)
        }

        fn opened(&self) -> Opened {
            Directory::open(&self.0).unwrap().current().unwrap().unwrap()
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_hole_as_long_as_a_disk_is_not_read_back() {
        let log = Log::new("hole", b"one\n");
        let current = std::fs::OpenOptions::new().write(true).open(log.0.join("current")).unwrap();
        current.set_len(1 << 40).unwrap();
        let Found::At(place) = from_end(&log.opened(), 10).unwrap() else { panic!("all of it was read") };
        assert!((1 << 40) - place <= LINE_MAX + size_of_block(), "{place}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]
        /// After the place are exactly as many lines as wanted, wherever blocks end.
        #[test]
        fn after_the_place_are_the_lines_that_were_wanted(
            lengths in prop::collection::vec(prop_oneof![0_usize..40, 60_000_usize..70_000], 0..12),
            is_ended: bool,
            wanted in 1_u64..14,
        ) {
            let mut content: Vec<u8> =
                lengths.iter().flat_map(|length| [vec![b'x'; *length], vec![b'\n']].concat()).collect();
            if !is_ended {
                content.extend_from_slice(b"end");
            }
            let log = Log::new("lines", &content);
            let lines = |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').count() as u64;
            let all = lines(&content);
            match from_end(&log.opened(), wanted).unwrap() {
                Found::At(place) => {
                    let after = &content[usize::try_from(place).unwrap()..];
                    prop_assert_eq!(lines(after), wanted);
                    prop_assert_eq!(content[usize::try_from(place).unwrap() - 1], b'\n');
                }
                Found::Lines(lines) => {
                    prop_assert_eq!(lines, all);
                    prop_assert!(all <= wanted);
                }
            }
        }

        /// No line that is late enough is before the place, and the place is near where the time begins.
        #[test]
        fn a_time_is_found(steps in prop::collection::vec(0_u32..3, 3000..4000), since in 0_i64..4000, width in 1_usize..60) {
            let mut time = 0;
            let mut content = Vec::new();
            let mut begins = None;
            for step in steps {
                time += i64::from(step);
                if time >= since && begins.is_none() {
                    begins = Some(content.len());
                }
                let label = label_of(&tai::stamp(time, 0));
                content.extend_from_slice(&[&label[..], b" ", &vec![b'y'; width], b"\nmore\n"].concat());
            }
            let begins = begins.unwrap_or(content.len());
            let log = Log::new("time", &content);
            let place = usize::try_from(to_time(&log.opened(), tai::stamp(since, 0))).unwrap();
            prop_assert!(place <= begins, "{} {}", place, begins);
            prop_assert!(begins - place <= 2 * BLOCK, "{} {}", place, begins);
        }
    }
}
