//! Following logs: waits until something is written to one of them, and for nothing else.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::stdio::stdout;
use svcore::event::{self, Wait};
use svcore::say::Message;
use svcore::sys::clock;
use svcore::sys::watch::{self, Inotify};

use super::super::map::Map;
use super::lines::Log;

/// How often to look at a log that cannot be watched, or whose directory is away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The watches of the directories of logs.
pub(super) struct Follower {
    inotify: Option<Inotify>,
    /// The logs by their watches.
    numbers: Map<i32, usize>,
    /// Logs without a watch.
    unwatched: Vec<usize>,
}

impl Follower {
    /// Begins to watch the logs. What is written from now on is noticed.
    pub(super) fn new(logs: &[Log]) -> Self {
        let mut follower =
            Follower { inotify: Inotify::new().ok(), numbers: Map::default(), unwatched: Vec::new() };
        for (number, log) in logs.iter().enumerate() {
            follower.watch(number, log.path());
        }
        if !follower.unwatched.is_empty() {
            let what = "some logs cannot be watched, so they are looked at once a second";
            Message::info("svctl", what).print();
        }
        follower
    }

    fn watch(&mut self, number: usize, path: &Path) {
        let watch = CString::new(path.as_os_str().as_bytes()).ok().and_then(|path| {
            let inotify = self.inotify.as_ref().filter(|_| !watch::is_silent(&path))?;
            inotify.add_writes(&path).ok()
        });
        match watch {
            Some(watch) => _ = self.numbers.set(watch, number),
            None => self.unwatched.push(number),
        }
    }

    /// Looks at the log of a number again; with `is_moved` its directory may be another one.
    fn look(&mut self, number: usize, logs: &mut [Log]) {
        let Some(log) = logs.get_mut(number) else { return };
        if !log.is_there() {
            // Its old directory may be watched still, which harms nobody.
            self.unwatched.retain(|unwatched| *unwatched != number);
            self.watch(number, log.path());
            log.reopen();
        }
        log.look();
    }

    /// Waits until some logs have changed, and looks at them.
    ///
    /// # Errors
    ///
    /// Nobody reads standard output any more.
    pub(super) fn wait(&mut self, logs: &mut [Log]) -> io::Result<()> {
        let until = match self.unwatched.as_slice() {
            [] => Wait::Forever,
            _ => Wait::Until(clock::monotonic().saturating_add(LOOK_EVERY)),
        };
        let out = stdout();
        // For no event: then only the end of the last reader is one.
        let mut fds = vec![PollFd::from_borrowed_fd(out, PollFlags::empty())];
        fds.extend(
            self.inotify.iter().map(|inotify| PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)),
        );
        event::wait(&mut fds, until);
        if fds
            .first()
            .is_some_and(|out| out.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL))
        {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut changed = std::mem::take(&mut self.unwatched);
        self.unwatched.clone_from(&changed);
        let mut has_lost = false;
        if let Some(inotify) = &self.inotify {
            inotify.read_each(|watch, _| match self.numbers.get(&watch) {
                Some(number) => changed.push(*number),
                None => has_lost |= watch < 0,
            });
        }
        if has_lost {
            changed = (0..logs.len()).collect();
        }
        svcore::sort::sort(&mut changed);
        changed.dedup();
        for number in changed {
            self.look(number, logs);
        }
        Ok(())
    }
}
