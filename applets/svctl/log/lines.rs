//! One log, read line by line: old logs and `current`, in order, as if they were one file that never ends.
//!
//! svlogd rotates in the middle of a line if the line is longer than what it looks at, so the end of one file and the start
//! of the next are joined. But if svlogd was killed, its `current` may end within a line that nobody goes on with. Such a
//! file is not marked as complete; and a line that begins with a timestamp is a new one in any case.
//!
//! To follow a log, its `current` is held open. svlogd renames it, and creates the next one after that. So once there is
//! another `current`, the one that is held can be read to its end; then come the old logs that are later than it, whose
//! names sort in their order; then the new `current`. Compression replaces files meanwhile, but never changes a label.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use memchr::memchr;
use svcore::files::Identity;
use svcore::label::Label;
use svcore::moment::Moment;
use svcore::old_log::{Kind, OldLog};
use svcore::say::Message;
use svcore::slice;
use svcore::sys::clock;
use svcore::tai::{self, Tai64N};

use super::buffer::Buffer;
use super::content::{Content, Unreadable};
use super::directory::{Directory, Opened};
use super::filter::Filter;
use super::{seek, stamp};

/// A longer line is cut, in bytes.
const LINE_MAX: usize = 1024 * 1024;
/// Between two reports that lines were removed before they could be read.
const QUIET: Duration = Duration::from_secs(60);
/// As many rotations are followed before lines are printed.
const ROTATIONS_MAX: usize = 200;

/// A log directory that is read.
pub(super) struct Log {
    /// The service, as it was named.
    pub(super) name: Vec<u8>,
    /// The place of the service among those whose lines are printed.
    pub(super) number: usize,
    /// The place of the service among all that are asked for.
    pub(super) service: usize,
    /// No other log has this number, and none will.
    pub(super) id: usize,
    /// Its service has another log now, or is gone. Its last lines are followed until then.
    pub(super) retires: Option<Moment>,
    /// Lines up to this time are not shown: they are older than what another log of the service had last.
    pub(super) after: Option<Tai64N>,
    directory: Directory,
    is_followed: bool,
    /// What is read after `content`.
    queue: VecDeque<Next>,
    content: Option<Content>,
    /// In bytes.
    pub(super) buffer_size: usize,
    buffer: Buffer,
    line: Line,
    /// The time of the last line that has a timestamp.
    last_time: Option<Tai64N>,
    /// Stands for the time of lines before the first timestamp: when the file was last written to.
    written: Tai64N,
    /// The newest `current` that was opened.
    held: Option<Held>,
    /// All old logs up to this one were read, or are queued.
    known: Option<Label>,
    unreadable: Vec<NotRead>,
    /// svlogd removed old logs here that were not read, if it made any: between these two.
    gap: Option<(Label, Label)>,
    /// Lines were removed before they could be read, which was not reported yet.
    has_lost: bool,
    /// Until then that is not reported again.
    quiet_until: Moment,
    /// Something could not be read, which was reported.
    pub(super) has_failed: bool,
}

/// A file to be read.
enum Next {
    /// An old log, which is opened when it is its turn.
    Old(Label),
    /// An opened file, from a place on.
    Opened { opened: Opened, label: Option<Label>, offset: u64 },
}

/// The `current` that is followed. As long as it is open, no other file has its identity.
struct Held {
    file: File,
    identity: Identity,
}

/// Old logs that another program has compressed.
struct NotRead {
    program: &'static str,
    count: usize,
    first: Label,
}

/// The line that was read last.
#[derive(Debug, Clone, Copy)]
struct Line {
    from: usize,
    to: usize,
    has_stamp: bool,
    /// It has a newline in the file.
    is_ended: bool,
    time: Tai64N,
}

impl Log {
    /// Opens the log in a directory, from its beginning on. Without `is_followed` it ends with what it has now.
    ///
    /// # Errors
    ///
    /// That of open(2) for the directory, or of reading it.
    pub(super) fn open(name: &[u8], path: &Path, is_followed: bool) -> io::Result<Self> {
        let mut log = Log {
            name: name.to_vec(),
            number: 0,
            service: 0,
            id: 0,
            retires: None,
            after: None,
            directory: Directory::open(path)?,
            is_followed,
            queue: VecDeque::new(),
            content: None,
            buffer_size: 256 * 1024,
            buffer: Buffer::default(),
            line: Line { from: 0, to: 0, has_stamp: false, is_ended: true, time: tai::stamp(0, 0) },
            last_time: None,
            written: tai::now(),
            held: None,
            known: None,
            unreadable: Vec::new(),
            gap: None,
            has_lost: false,
            quiet_until: Moment::START,
            has_failed: false,
        };
        let current = log.current()?;
        // In this order: a `current` that was renamed since then is in the list, and the one that is open stands for it.
        let mut labels = log.directory.labels()?;
        let label = current
            .as_ref()
            .and_then(|opened| log.directory.label_of(&opened.file, opened.identity, &labels));
        labels.retain(|old| label.is_none_or(|label| *old < label));
        for label in &labels {
            log.queue.push_back(Next::Old(*label));
        }
        if let Some(opened) = current {
            log.hold(opened)?;
        }
        log.known = labels.last().copied();
        Ok(log)
    }

    /// Opens `current`. If it is nothing that svlogd can have made, that is reported, and there is none.
    fn current(&mut self) -> io::Result<Option<Opened>> {
        match self.directory.current() {
            Err(error) if svcore::trust::refusal(&error).is_some() => {
                self.warn(b"unable to read current", Some(&error));
                Ok(None)
            }
            opened => opened,
        }
    }

    /// Queues a `current` and holds it.
    fn hold(&mut self, opened: Opened) -> io::Result<()> {
        self.held = Some(Held { file: opened.file.try_clone()?, identity: opened.identity });
        self.queue.push_back(Next::Opened { opened, label: None, offset: 0 });
        Ok(())
    }

    /// Skips what was surely written before a time.
    pub(super) fn skip_to_time(&mut self, since: Tai64N) {
        let is_before = |next: &Next| match next {
            Next::Old(label) => {
                OldLog { label: *label, kind: Kind::Saved }.stamp().is_some_and(|at| at < since)
            }
            Next::Opened { .. } => false,
        };
        while self.queue.front().is_some_and(is_before) {
            self.queue.pop_front();
        }
    }

    /// Skips all but the last lines, and some before them. What may have been written from `new` on does not count, and is not
    /// skipped.
    pub(super) fn skip_to_last(&mut self, lines: u64, new: Option<Tai64N>) {
        /// The time of a line without a timestamp is that of one before it.
        const MORE: u64 = 50;
        let is_new = |next: &Next| match next {
            // The label is the time of the rotation.
            Next::Old(label) => OldLog { label: *label, kind: Kind::Saved }.stamp() >= new,
            Next::Opened { .. } => true,
        };
        let first_new = new.and_then(|_| self.queue.iter().position(is_new)).unwrap_or(self.queue.len());
        let mut read = VecDeque::new();
        while self.queue.len() > first_new
            && let Some(next) = self.queue.pop_back()
        {
            read.push_front(next);
        }
        let mut wanted = lines.saturating_add(MORE);
        while let Some(next) = self.queue.pop_back().filter(|_| wanted > 0) {
            let (opened, label) = match next {
                Next::Opened { opened, label, .. } => (opened, label),
                Next::Old(label) => match self.directory.old(&label) {
                    Ok(Some(opened)) => (opened, Some(label)),
                    // It is reported when it is read.
                    _ => {
                        read.push_front(next);
                        continue;
                    }
                },
            };
            let found = seek::from_end(&opened, wanted).unwrap_or(seek::Found::Lines(0));
            let (offset, lines) = match found {
                seek::Found::At(offset) => (offset, wanted),
                seek::Found::Lines(lines) => (0, lines),
            };
            wanted = wanted.saturating_sub(lines);
            read.push_front(Next::Opened { opened, label, offset });
        }
        self.queue = read;
    }

    /// Reads the next line that the filter lets pass. `false`: there is none, or none yet.
    pub(super) fn next(&mut self, filter: &mut Filter) -> bool {
        while self.read_line(filter.since) {
            let line = slice::part(&self.buffer.bytes, self.line.from..self.line.to);
            let stamp = stamp::of_line(line);
            self.line.has_stamp = stamp.is_some();
            self.last_time = stamp.or(self.last_time);
            self.line.time = self.last_time.unwrap_or(self.written);
            if self.after.is_some_and(|after| self.line.time <= after) {
                continue;
            }
            self.after = None;
            if filter.passes(self.line.time, self.text()) {
                return true;
            }
        }
        false
    }

    /// The line as it is in the file, without its newline.
    pub(super) fn raw(&self) -> &[u8] {
        slice::part(&self.buffer.bytes, self.line.from..self.line.to)
    }

    /// Whether the line has a newline in the file.
    pub(super) const fn is_ended(&self) -> bool {
        self.line.is_ended
    }

    /// The line without timestamp and newline.
    pub(super) fn text(&self) -> &[u8] {
        if self.line.has_stamp { stamp::after(self.raw()) } else { self.raw() }
    }

    /// The timestamp of the line.
    pub(super) fn stamp(&self) -> Option<Tai64N> {
        self.line.has_stamp.then_some(self.line.time)
    }

    /// Its timestamp, or the time that stands for it.
    pub(super) const fn time(&self) -> Tai64N {
        self.line.time
    }

    fn read_line(&mut self, since: Option<Tai64N>) -> bool {
        loop {
            if let Some(seam) = self.buffer.seam {
                match self.continues_at(seam) {
                    None if self.fill(since) => continue,
                    // Nobody knows yet, or nothing follows.
                    None => return self.ends_here(),
                    Some(true) => self.buffer.seam = None,
                    Some(false) => {
                        self.buffer.seam = None;
                        return self.cut(seam, false);
                    }
                }
            }
            let Buffer { ref bytes, to, scanned, from, .. } = self.buffer;
            if let Some(end) = memchr(b'\n', slice::part(bytes, scanned..to)) {
                return self.cut(scanned.saturating_add(end), true);
            }
            self.buffer.scanned = to;
            if to.saturating_sub(from) >= LINE_MAX {
                return self.cut(to, false);
            }
            if !self.fill(since) {
                return self.ends_here();
            }
        }
    }

    /// Whether what begins at a seam goes on with the line before. `None`: more has to be read first.
    fn continues_at(&self, seam: usize) -> Option<bool> {
        if !self.buffer.is_complete {
            return Some(false);
        }
        let after = slice::part(&self.buffer.bytes, seam..self.buffer.to);
        let is_enough = after.len() > stamp::LENGTH || after.contains(&b'\n');
        is_enough.then(|| stamp::of_line(after).is_none())
    }

    /// Nothing more is there. The end of a followed log may be written later.
    fn ends_here(&mut self) -> bool {
        if self.is_followed || self.buffer.rest().is_empty() {
            return false;
        }
        self.buffer.seam = None;
        self.cut(self.buffer.to, false)
    }

    /// Makes a line of what is before `end`.
    fn cut(&mut self, end: usize, is_ended: bool) -> bool {
        (self.line.from, self.line.to, self.line.is_ended) = (self.buffer.from, end, is_ended);
        self.buffer.from = end.saturating_add(is_ended.into());
        self.buffer.scanned = self.buffer.from;
        true
    }

    /// Reads more, of this file or of the next. `false`: there is nothing, or nothing yet.
    fn fill(&mut self, since: Option<Tai64N>) -> bool {
        loop {
            if let Some(content) = &mut self.content {
                let mut damaged = None;
                match self.buffer.fill(content, self.buffer_size) {
                    Ok(1..) => return true,
                    Ok(0) => {}
                    Err(error) => {
                        // Not the rest of a followed `current`: the error may be gone next time.
                        if self.queue.is_empty() && self.is_followed {
                            return false;
                        }
                        damaged = Some(error);
                    }
                }
                if self.queue.is_empty() {
                    return false;
                }
                self.buffer.add_seam(content.is_complete());
                self.content = None;
                if let Some(error) = damaged {
                    // What is wrong with compressed bytes is no error of the system.
                    let cause = Some(&error).filter(|error| error.raw_os_error().is_some());
                    self.warn(b"a log is damaged, and not all of it is shown", cause);
                }
            }
            let Some(next) = self.queue.pop_front() else { return false };
            self.begin(next, since);
        }
    }

    /// Opens the next file.
    fn begin(&mut self, next: Next, since: Option<Tai64N>) {
        let (opened, label, offset) = match next {
            Next::Opened { opened, label, offset } => (opened, label, offset),
            Next::Old(label) => match self.directory.old(&label) {
                Ok(Some(opened)) => (opened, Some(label), 0),
                Ok(None) => {
                    self.has_lost = true;
                    return;
                }
                Err(error) => return self.warn_about(&label, &error),
            },
        };
        let is_current = label.is_none();
        self.written =
            label.and_then(|label| OldLog { label, kind: Kind::Saved }.stamp()).unwrap_or(opened.written);
        let offset = match since {
            Some(since) if offset == 0 => seek::to_time(&opened, since),
            _ => offset,
        };
        let limit = if is_current && !self.is_followed { opened.size } else { u64::MAX };
        match Content::of(opened, limit) {
            Ok(mut content) => {
                if offset > 0
                    && let Err(error) = content.skip_to(offset)
                {
                    self.warn(b"unable to read a log", Some(&error));
                }
                self.content = Some(content);
            }
            Err(Unreadable::Failed(error)) => self.warn(b"unable to read a log", Some(&error)),
            Err(Unreadable::Compressed(program)) => {
                self.has_failed = true;
                match self.unreadable.iter_mut().find(|known| known.program == program) {
                    Some(known) => known.count = known.count.saturating_add(1),
                    None => {
                        if let Some(first) = label {
                            self.unreadable.push(NotRead { program, count: 1, first });
                        }
                    }
                }
            }
        }
    }

    /// Reports what was not read: the old logs that other programs have compressed, once; and that there were lines which
    /// svlogd has removed since, no more than once a minute.
    pub(super) fn report_unread(&mut self) {
        let now = clock::monotonic();
        if std::mem::take(&mut self.has_lost) && now >= self.quiet_until {
            self.quiet_until = now.saturating_add(QUIET);
            self.warn(b"some lines were removed before they could be read", None);
        }
        for NotRead { program, count, first } in std::mem::take(&mut self.unreadable) {
            let path = self.directory.path_of(&first);
            let path = svcore::hint::quoted(path.as_os_str().as_bytes());
            let many = if count == 1 { "1 old log is".to_owned() } else { format!("{count} old logs are") };
            let what =
                format!("{many} compressed by {program}, and not shown; to read one: {program} -dc {path}");
            self.warn(what.as_bytes(), None);
        }
    }

    /// Looks whether the log was rotated, and queues what is new. Call it when something in the directory has changed.
    pub(super) fn look(&mut self) {
        // A log without timestamps was written now.
        self.written = tai::now();
        for _ in 0..ROTATIONS_MAX {
            match self.look_once() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.warn(b"unable to look for new logs", Some(&error)),
            }
        }
    }

    /// Whether there is another `current`, which is queued then.
    fn look_once(&mut self) -> io::Result<bool> {
        let Some(current) = self.current()? else { return Ok(false) };
        if self.held.as_ref().is_some_and(|held| held.identity == current.identity) {
            self.begin_again_if_shorter(current.size);
            return Ok(false);
        }
        let mut labels = self.directory.labels()?;
        let label = self.directory.label_of(&current.file, current.identity, &labels);
        labels.retain(|old| label.is_none_or(|label| *old < label));
        let before = self.held.as_ref().and_then(|held| {
            let label = self.directory.label_of(&held.file, held.identity, &labels);
            // Where the kernel does not tell, the first new one is that of the file that was held.
            label.or_else(|| {
                if has_proc() {
                    None
                } else {
                    labels.iter().find(|label| Some(**label) > self.known).copied()
                }
            })
        });
        let known = before.max(self.known);
        for label in labels.iter().filter(|label| Some(**label) > known) {
            // Opened now: it may be compressed, or removed, before it is its turn.
            let next = match self.directory.old(label) {
                Ok(Some(opened)) if self.queue.len() < ROTATIONS_MAX => {
                    Next::Opened { opened, label: Some(*label), offset: 0 }
                }
                _ => Next::Old(*label),
            };
            self.queue.push_back(next);
        }
        let first_new = labels.iter().find(|label| Some(**label) > known).copied();
        // The log that was held is away, and so may be those that came after it.
        self.gap = before.filter(|before| !labels.contains(before)).zip(first_new.or(label)).or(self.gap);
        self.known = known.max(labels.last().copied());
        self.hold(current)?;
        Ok(true)
    }

    /// Begins again with the file that is read if somebody has emptied it.
    fn begin_again_if_shorter(&mut self, size: u64) {
        if self.queue.is_empty()
            && let Some(content) = &mut self.content
            && content.position().is_some_and(|at| at > size)
        {
            content.rewind();
        }
    }

    /// Notes that svlogd has made this old log at some time. If it was removed unread, lines are missing.
    pub(super) fn was_rotated_to(&mut self, label: Label) {
        if self.gap.is_some_and(|(from, to)| from < label && label < to) {
            (self.gap, self.has_lost) = (None, true);
        }
    }

    /// The time of the last line that was read, shown or not.
    pub(super) fn read_until(&self) -> Option<Tai64N> {
        Some(self.line.time).filter(|time| *time > tai::stamp(0, 0))
    }

    /// Whether its path still leads to the directory that is read.
    pub(super) fn is_there(&self) -> bool {
        self.directory.is_there()
    }

    /// Which directory is read.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.directory.identity()
    }

    /// From now on the directory has this path.
    pub(super) fn set_path(&mut self, path: &Path) {
        path.clone_into(&mut self.directory.path);
    }

    /// The path of its directory.
    pub(super) fn path(&self) -> &Path {
        &self.directory.path
    }

    fn warn_about(&mut self, label: &Label, error: &io::Error) {
        let path = self.directory.path_of(label);
        let what = [b"unable to read ", path.as_os_str().as_bytes()].concat();
        self.warn(&what, Some(error));
    }

    fn warn(&mut self, what: &[u8], error: Option<&io::Error>) {
        self.has_failed = true;
        Message::warning("svctl", &[self.name.as_slice(), b": ", what].concat()).because(error).print();
    }
}

fn has_proc() -> bool {
    Path::new("/proc/self/fd").exists()
}
