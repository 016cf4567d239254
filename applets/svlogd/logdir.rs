//! A log directory: what is still to be written to it, and the rotation of its `current`.
//!
//! Nothing in here waits. What cannot be done now is tried again later, beginning with the step that failed: no earlier
//! step is done twice, and no byte is written twice. Until then [`LogDir::is_behind`] is true and no more input is read.

mod config_file;
mod current;
mod locked_directory;
mod old_logs;
mod pending;
mod rotation;
mod writing;

use rustix::process::Pid;
use svcore::moment::Moment;
use svcore::sys::clock;
use svcore::tai::Tai64N;
use svcore::{Context, Failed};

use super::config::Config;
use super::options::Settings;
use super::place::Place;
use super::processor::Processing;
use super::report::{PAUSE, Report};
use super::stamp::{LineStamp, StampText};
use super::udp::Sender;
use current::{Current, Opened};
use locked_directory::LockedDirectory;
use pending::Pending;
use rotation::{Patience, RotationStep};
use writing::{Dropped, Written};

/// A log directory.
pub(crate) struct LogDir {
    /// The name of its place.
    name: Vec<u8>,
    report: Report,
    directory: LockedDirectory,
    pub(crate) config: Config,
    settings: Settings,
    /// `None` between the steps of a rotation that rename `current` and create the next one, and after the end.
    current: Option<Current>,
    pending: Pending,
    dropped: Dropped,
    /// The next step of the rotation that is under way.
    step: Option<RotationStep>,
    /// Something failed and is tried again at this moment.
    retry_at: Option<Moment>,
    /// The stamp of the latest old log: new ones get later stamps.
    last_stamp: Option<Tai64N>,
    processing: Processing,
    patience: Patience,
    /// After TERM: no rotation waits for the processor.
    is_hurried: bool,
    pub(crate) udp: Option<Sender>,
    /// The current line is written to this log.
    pub(crate) selected: bool,
}

impl LogDir {
    /// Opens and locks a directory, and opens its `current`. If that fails it is reported, if `is_new` says so of the
    /// message, and `None` is returned.
    pub(crate) fn open(
        place: &Place,
        settings: Settings,
        is_new: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Option<Self> {
        let report = Report::new(place.directory_name(), settings);
        let mut warn = |failed: Failed| report.new_failure(&failed, is_new);
        let directory = LockedDirectory::open(place, None).map_err(&mut warn).ok()?;
        let config = config_file::read(place, &directory, &report).while_doing(|| "unable to read config");
        let config = config.map_err(&mut warn).unwrap_or_default();
        let mut last_stamp = old_logs::newest_stamp(&directory.fd, &report).map_err(&mut warn).ok()?;
        let opened = current::open_or_create(&directory.fd, None, &mut last_stamp).map_err(&mut warn).ok()?;
        let mut log = LogDir {
            name: place.name().to_vec(),
            report,
            directory,
            udp: config.udp.map(Sender::new),
            config,
            settings,
            current: None,
            pending: Pending::default(),
            dropped: Dropped::default(),
            step: None,
            retry_at: None,
            last_stamp,
            processing: Processing::default(),
            patience: Patience::Idle,
            is_hurried: false,
            selected: true,
        };
        log.begin(opened);
        Some(log)
    }

    /// Opens the directory again and reads its `config` again. If that fails it is reported, and everything stays as it
    /// was. Either way, no pending byte is lost. Returns whether the directory can still be used.
    pub(crate) fn reopen(&mut self, place: &Place) -> bool {
        self.report = self.report.about(place.directory_name());
        match self.try_reopen(place) {
            Ok(()) => true,
            Err(failed) => {
                self.report.failure(&failed);
                !self.directory.is_removed()
            }
        }
    }

    fn try_reopen(&mut self, place: &Place) -> Result<(), Failed> {
        let directory = LockedDirectory::open(place, Some(&self.directory))?;
        let config =
            config_file::read(place, &directory, &self.report).while_doing(|| "unable to read config")?;
        self.last_stamp = self.last_stamp.max(old_logs::newest_stamp(&directory.fd, &self.report)?);
        let opened = current::open_or_create(&directory.fd, self.current.as_ref(), &mut self.last_stamp)?;
        if !directory.is_same(&self.directory) {
            self.processing.abandon();
        }
        self.directory = directory;
        self.udp = config.udp.map(Sender::new);
        self.config = config;
        self.retry_at = None;
        self.begin(opened);
        Ok(())
    }

    /// Continues with the opened `current`, and queues the unprocessed old logs.
    fn begin(&mut self, opened: Opened) {
        let mut current = opened.current;
        if opened.is_same {
            current.since = self.current.as_ref().map_or(current.since, |before| before.since);
            self.report.file_info("append", "current");
        } else {
            self.close_current();
            // A rotation under way was that of the `current` before.
            self.step = None;
            self.report.file_info(if current.length > 0 { "append" } else { "new" }, "current");
        }
        self.current = Some(current);
        if opened.made_old_log
            && let Err(error) = self.prune()
        {
            self.report.warning("unable to read directory", Some(&error));
        }
        if let Some(processor) = &self.config.processor {
            match old_logs::list(&self.directory.fd) {
                Ok(old) => self.processing.resume(&old, &self.directory.fd, &self.report, processor),
                Err(error) => self.report.warning("unable to read directory", Some(&error)),
            }
        }
    }

    /// The name of its place.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The timestamp before each line, by the command line or by `config`.
    pub(crate) fn stamp(&self) -> LineStamp {
        if self.settings.stamp == LineStamp::None { self.config.stamp } else { self.settings.stamp }
    }

    /// Frees memory that an idle log does not need: one of many logs of a process.
    pub(crate) fn release_memory(&mut self) {
        self.pending.release_memory();
    }

    /// Appends whole lines, or a part of a long line, to the pending bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.push(bytes);
    }

    /// Appends a line to the pending bytes: whole with its newline, or the head of a long one.
    pub(crate) fn push_line(&mut self, stamp: Option<&StampText>, text: &[u8], is_whole: bool) {
        let prefix = self.config.prefix.as_slice();
        let lengths = [stamp.map_or(0, |stamp| stamp.len()), prefix.len(), text.len(), 1];
        self.pending.reserve(lengths.into_iter().fold(0, usize::saturating_add));
        if let Some(stamp) = stamp {
            self.pending.push(stamp);
        }
        if !prefix.is_empty() {
            self.pending.push(prefix);
        }
        self.pending.push(text);
        if is_whole {
            self.pending.push(b"\n");
        }
    }

    /// How many bytes are pending.
    pub(crate) const fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a rotation is under way or bytes are pending. Until that is done, no input is read; but while the disk is
    /// full and lines are dropped (`-L`), pending bytes are not waited for.
    pub(crate) const fn is_behind(&self) -> bool {
        self.step.is_some() || (!self.pending.is_empty() && self.dropped.lines == 0)
    }

    /// Whether something failed and waits for its next try.
    pub(crate) const fn is_pausing(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Whether old logs are being processed or wait for it.
    pub(crate) fn is_processing(&self) -> bool {
        self.processing.is_busy()
    }

    /// Whether [`advance`](Self::advance) depends on the time.
    pub(crate) fn needs_clock(&self) -> bool {
        self.config.age.is_some() || self.deadline().is_some() || self.processing.is_busy()
    }

    /// When to call [`advance`](Self::advance) at the latest.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let too_old = self.too_old_at().filter(|_| self.length() > 0 && self.step.is_none());
        [self.retry_at, too_old, self.processing.deadline(), self.patience.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When `current` becomes too old.
    fn too_old_at(&self) -> Option<Moment> {
        let current = self.current.as_ref()?;
        self.config.age.map(|age| current.since.saturating_add(age))
    }

    /// The size of `current` in bytes.
    fn length(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.length)
    }

    /// Begins a rotation, unless `current` is empty or one is under way.
    pub(crate) fn rotate(&mut self) {
        if self.length() > 0 && self.step.is_none() {
            self.step = Some(RotationStep::AwaitProcessor);
        }
    }

    /// Does everything that can be done now: processing, rotating, writing.
    pub(crate) fn advance(&mut self, now: Moment) {
        self.advance_processing(now);
        if self.too_old_at().is_some_and(|at| now >= at) {
            // An empty `current` does not age: its age begins with what is written to it.
            match &mut self.current {
                Some(current) if current.length == 0 => current.since = now,
                _ => self.rotate(),
            }
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        loop {
            let result = match self.step {
                Some(step) => self.perform(step).map(|next| {
                    self.step = next;
                    next == Some(RotationStep::AwaitProcessor)
                }),
                None => self.write().map(|written| written != Written::Some),
            };
            match result {
                Ok(false) => {}
                Ok(true) => return,
                Err(failed) => {
                    self.report.pausing(&failed);
                    // The caller's `now` may not be the time: without a deadline it does not read the clock.
                    self.retry_at = Some(clock::monotonic().saturating_add(PAUSE));
                    return;
                }
            }
        }
    }

    fn advance_processing(&mut self, now: Moment) {
        let processor = self.config.processor.as_ref();
        self.processing.advance(now, &self.directory.fd, &self.report, processor);
    }

    /// A child has ended. Returns whether it was this directory's processor.
    pub(crate) fn processor_ended(&mut self, pid: Pid, succeeded: bool, now: Moment) -> bool {
        self.processing.child_ended(pid, succeeded, now, &self.report)
    }

    /// After TERM: ends a pause, and lets no rotation wait for the processor.
    pub(crate) fn hurry(&mut self) {
        self.retry_at = None;
        self.is_hurried = true;
    }

    /// At the end of the input: writes what is pending; a processor that fails is not started again.
    pub(crate) fn finish(&mut self, now: Moment) {
        self.processing.is_ending = true;
        self.advance(now);
    }

    /// Has the kernel begin to write `current` to the disk.
    pub(crate) fn begin_to_sync(&self) {
        if let Some(current) = &self.current {
            current.begin_to_sync();
        }
    }

    /// Kills the processor and completes `current`. Bytes that are still pending are lost, which is reported.
    pub(crate) fn close(&mut self) {
        self.processing.abandon();
        if !self.pending.is_empty() {
            self.report.warning(&format!("{} bytes not written", self.pending.len()), None);
        }
        self.close_current();
        self.report.info("close");
    }

    fn close_current(&mut self) {
        if let Some(current) = self.current.take() {
            current.close();
        }
    }
}
