//! The policies of a service: what the small files in its directory say. Without I/O.
//!
//! A file whose content makes no sense has no effect: [`Senseless`] says what it should be, and the service runs as if the
//! file were not there.
//!
//! Source: runit-service(5).

use std::ffi::CStr;
use std::time::Duration;

use crate::decimal;

/// The most ends that `restart-limit` may count.
const ENDS_MAX: u64 = 4096;
/// The highest descriptor that `notification-fd` may name.
const FD_MAX: u64 = 1023;
/// The shortest pause of `restart-delay`: a service that cannot run must not keep a processor busy.
const DELAY_MIN: Duration = Duration::from_millis(10);

/// A file that holds a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFile {
    /// The descriptor on which `./run` tells that it is ready.
    NotificationFd,
    /// `./run` gets a socket for the messages of sd_notify(3).
    NotificationSocket,
    /// How often `./run` has to tell that it is alive.
    Watchdog,
    /// How long `./run` may take until it is ready.
    TimeoutReady,
    /// The services that have to be ready first.
    Needs,
    /// Whether `./run` is started again after an unexpected exit.
    Restart,
    /// The pause before that.
    RestartDelay,
    /// After how many exits it is given up.
    RestartLimit,
    /// Signals are sent to the process group of `./run`.
    KillGroup,
    /// `./run` has a control group of its own.
    Cgroup,
    /// The program that is told of failures.
    OnFailure,
}

impl PolicyFile {
    /// All of them.
    pub const ALL: [PolicyFile; 11] = [
        PolicyFile::NotificationFd,
        PolicyFile::NotificationSocket,
        PolicyFile::Watchdog,
        PolicyFile::TimeoutReady,
        PolicyFile::Needs,
        PolicyFile::Restart,
        PolicyFile::RestartDelay,
        PolicyFile::RestartLimit,
        PolicyFile::KillGroup,
        PolicyFile::Cgroup,
        PolicyFile::OnFailure,
    ];

    /// Its name in the service directory.
    #[must_use]
    pub const fn name(self) -> &'static CStr {
        match self {
            PolicyFile::NotificationFd => c"notification-fd",
            PolicyFile::NotificationSocket => c"notification-socket",
            PolicyFile::Watchdog => c"watchdog",
            PolicyFile::TimeoutReady => c"timeout-ready",
            PolicyFile::Needs => c"needs",
            PolicyFile::Restart => c"restart",
            PolicyFile::RestartDelay => c"restart-delay",
            PolicyFile::RestartLimit => c"restart-limit",
            PolicyFile::KillGroup => c"kill-group",
            PolicyFile::Cgroup => c"cgroup",
            PolicyFile::OnFailure => c"on-failure",
        }
    }

    const fn bit(self) -> u16 {
        const { assert!(PolicyFile::ALL.len() <= u16::BITS as usize) };
        1_u16.wrapping_shl(self as u32)
    }
}

/// Which of the files a service directory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyFiles(u16);

impl PolicyFiles {
    /// None of them.
    pub const NONE: PolicyFiles = PolicyFiles(0);
    /// All of them: for a directory that cannot be listed, in which each has to be looked for.
    pub const ALL: PolicyFiles = PolicyFiles((1_u16 << PolicyFile::ALL.len()) - 1);

    /// Adds the file of this name, if it is one of them.
    pub fn add(&mut self, name: &[u8]) {
        if let Some(file) = PolicyFile::ALL.into_iter().find(|file| file.name().to_bytes() == name) {
            self.0 |= file.bit();
        }
    }

    /// Whether this one is there.
    #[must_use]
    pub const fn has(self, file: PolicyFile) -> bool {
        self.0 & file.bit() != 0
    }

    /// Whether none is there.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of those that decide about the next start is there.
    #[must_use]
    pub const fn has_restart(self) -> bool {
        self.has(PolicyFile::Restart)
            || self.has(PolicyFile::RestartDelay)
            || self.has(PolicyFile::RestartLimit)
    }
}

/// What the content of a file should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Senseless(pub &'static str);

/// When `./run` is started again after an exit that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// After each.
    #[default]
    Always,
    /// Not after an exit with 0: then the service is done.
    OnFailure,
    /// After none.
    Never,
}

impl Restart {
    /// Reads the file `restart`.
    ///
    /// # Errors
    ///
    /// The content is none of its words.
    pub fn parse(text: &[u8]) -> Result<Self, Senseless> {
        match text.trim_ascii() {
            b"always" => Ok(Restart::Always),
            b"on-failure" => Ok(Restart::OnFailure),
            b"never" => Ok(Restart::Never),
            _ => Err(Senseless("always, on-failure or never")),
        }
    }
}

/// The pause between an exit that nobody asked for and the next start. It is doubled each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartDelay {
    /// The first pause.
    pub min: Duration,
    /// The longest pause; after a run longer than this, the next pause is the first one again.
    pub max: Duration,
}

impl RestartDelay {
    /// Reads the file `restart-delay`: `MIN` or `MIN MAX`, in milliseconds.
    ///
    /// # Errors
    ///
    /// The content is something else.
    pub fn parse(text: &[u8]) -> Result<Self, Senseless> {
        let (min, max) = match numbers(text).as_deref() {
            Some(&[min]) => (min, min),
            Some(&[min, max]) if min <= max => (min, max),
            _ => return Err(Senseless("MIN or MIN MAX in milliseconds")),
        };
        let pause = |millis| Duration::from_millis(millis).max(DELAY_MIN);
        Ok(RestartDelay { min: pause(min), max: pause(max) })
    }
}

/// A service that exits this often within this time is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartLimit {
    /// How many exits that nobody asked for.
    pub ends: u16,
    /// Within which time.
    pub window: Duration,
}

impl RestartLimit {
    /// Reads the file `restart-limit`: `N SECONDS`.
    ///
    /// # Errors
    ///
    /// The content is something else.
    pub fn parse(text: &[u8]) -> Result<Self, Senseless> {
        match numbers(text).as_deref() {
            Some(&[ends @ 1..=ENDS_MAX, seconds]) if seconds > 0 => Ok(RestartLimit {
                ends: u16::try_from(ends).unwrap_or(u16::MAX),
                window: Duration::from_secs(seconds),
            }),
            _ => Err(Senseless("N SECONDS, with N from 1 to 4096")),
        }
    }
}

/// Reads the file `notification-fd`.
///
/// # Errors
///
/// The content is no descriptor that a program may get beside its first three.
pub fn notification_fd(text: &[u8]) -> Result<i32, Senseless> {
    match numbers(text).as_deref() {
        Some(&[fd @ 3..=FD_MAX]) => Ok(i32::try_from(fd).unwrap_or(i32::MAX)),
        _ => Err(Senseless("a number from 3 to 1023")),
    }
}

/// Reads a file with a time: `watchdog` or `timeout-ready`.
///
/// # Errors
///
/// The content is no number of milliseconds from 1.
pub fn millis(text: &[u8]) -> Result<Duration, Senseless> {
    match numbers(text).as_deref() {
        Some(&[millis]) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(Senseless("a number of milliseconds from 1")),
    }
}

/// A service that has to be ready first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// A name, for a service in the same tree; or, with a slash, a path.
    pub name: Vec<u8>,
    /// It is no fault if there is no such service.
    pub optional: bool,
}

/// Reads the file `needs`: names and paths between blanks and line ends. A `?` at the end makes one optional, and from a `#` at the beginning of a word
/// to the end of the line is a comment. No name comes twice.
///
/// # Errors
///
/// A word cannot name a service: it is only a `?`, or contains a null byte.
pub fn needs(text: &[u8]) -> Result<Vec<Need>, Senseless> {
    let mut needs: Vec<Need> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for word in words.take_while(|word| word.first() != Some(&b'#')) {
            let (name, optional) = word.strip_suffix(b"?").map_or((word, false), |name| (name, true));
            if name.is_empty() || name.contains(&0) || matches!(name, b"." | b"..") {
                return Err(Senseless("names of services"));
            }
            match needs.iter_mut().find(|need| need.name == name) {
                Some(need) => need.optional &= optional,
                None => needs.push(Need { name: name.to_vec(), optional }),
            }
        }
    }
    Ok(needs)
}

/// The numbers that `text` is, with blanks between them; `None` if it is anything else.
fn numbers(text: &[u8]) -> Option<Vec<u64>> {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.map(decimal::whole).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn each_file_is_known_by_its_name() {
        for file in PolicyFile::ALL {
            let mut files = PolicyFiles::default();
            files.add(file.name().to_bytes());
            assert_eq!(
                PolicyFile::ALL.map(|other| files.has(other)),
                PolicyFile::ALL.map(|other| other == file)
            );
            assert!(PolicyFiles::ALL.has(file) && !files.is_empty());
        }
        let mut files = PolicyFiles::default();
        for name in [b"run".as_slice(), b"restart.new", b"Restart", b""] {
            files.add(name);
        }
        assert!(files.is_empty());
    }

    #[test]
    fn words_and_numbers() {
        assert_eq!(Restart::parse(b" on-failure\n"), Ok(Restart::OnFailure));
        assert!(Restart::parse(b"On-Failure").is_err() && Restart::parse(b"").is_err());
        assert_eq!(RestartDelay::parse(b"200\n"), Ok(RestartDelay { min: ms(200), max: ms(200) }));
        assert_eq!(RestartDelay::parse(b"0\t60000"), Ok(RestartDelay { min: DELAY_MIN, max: ms(60_000) }));
        assert!(
            [b"2 1".as_slice(), b"1 2 3", b"-1", b"1s", b""]
                .iter()
                .all(|it| RestartDelay::parse(it).is_err())
        );
        let limit = RestartLimit { ends: 5, window: Duration::from_secs(60) };
        assert_eq!(RestartLimit::parse(b"5 60\n"), Ok(limit));
        assert!(
            [b"0 60".as_slice(), b"5", b"5 0", b"4097 1"].iter().all(|it| RestartLimit::parse(it).is_err())
        );
        assert_eq!((notification_fd(b"3\n"), notification_fd(b"1023")), (Ok(3), Ok(1023)));
        assert!([b"2".as_slice(), b"", b"3 4", b"1024"].iter().all(|it| notification_fd(it).is_err()));
        assert_eq!(millis(b"1500"), Ok(ms(1500)));
        assert!(millis(b"0").is_err() && millis(b"1.5").is_err());
    }

    #[test]
    fn needs_are_names_and_paths() {
        let need = |name: &str, optional| Need { name: name.into(), optional };
        let text = b"# before all\ndb cache?  # why\n\t../other/mail\r\ndb? # again\n/srv/x?\na#b\n";
        let expected = [
            need("db", false),
            need("cache", true),
            need("../other/mail", false),
            need("/srv/x", true),
            need("a#b", false),
        ];
        assert_eq!(needs(text).as_deref(), Ok(expected.as_slice()));
        assert_eq!(needs(b"# nothing\n"), Ok(Vec::new()));
        assert!([b"?".as_slice(), b"a\0b", b"..", b". "].iter().all(|it| needs(it).is_err()));
    }

    proptest! {
        #[test]
        fn no_content_is_a_panic(text: Vec<u8>) {
            let _ = (Restart::parse(&text), RestartDelay::parse(&text), RestartLimit::parse(&text));
            let _ = (notification_fd(&text), millis(&text), needs(&text));
        }
    }
}
