//! Reads the file `config` of a log directory, and decides whether its processor may be run.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Stat, fstat};
use svcore::sys::link::read_link;
use svcore::trust::{self, Refusal};

use super::super::config::{Config, Dialect, Processor};
use super::super::place::Place;
use super::super::report::Report;
use super::locked_directory::LockedDirectory;

/// The longest `config` that is read, in bytes.
const CONFIG_MAX: usize = 128 * 1024;

/// Reads `config`, and reports the lines in it that cannot be used. Without `config` the defaults hold.
///
/// That of a hosted log is looked for in the directory `log` of the service first, then beside the log; that of an instance of
/// a template beside its log, then in the directory `log`, and then in the directory of the logs of all instances.
pub(super) fn read(place: &Place, directory: &LockedDirectory, report: &Report) -> io::Result<Config> {
    let beside = (directory.fd.as_fd(), directory.stat);
    let in_log = place.log().map(|log| Ok::<_, io::Error>((log, fstat(log)?))).transpose()?;
    let all = place.open_all()?;
    let in_all = all.as_ref().map(|all| Ok::<_, io::Error>((all.as_fd(), fstat(all)?))).transpose()?;
    let (of_log, of_all) = (report.about(place.name().to_vec()), report.about(place.name_of_all()));
    let beside = Some((beside.0, beside.1, report));
    let in_log = in_log.map(|(directory, stat)| (directory, stat, &of_log));
    let in_all = in_all.map(|(directory, stat)| (directory, stat, &of_all));
    let order = if in_all.is_some() { [beside, in_log, in_all] } else { [in_log, beside, None] };
    let mut found = None;
    for (directory, stat, report) in order.into_iter().flatten() {
        match open(directory) {
            Ok((file, config)) => {
                found = Some((file, config, stat, report));
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let Some((file, stat, of_directory, report)) = found else { return Ok(Config::default()) };
    let text = trust::read_at_most(&file, CONFIG_MAX)?;
    report.file_info("read", "config");
    let dialect = if in_log.is_some() { Dialect::Hosted } else { Dialect::Stock };
    let (mut config, complaints) = Config::parse(&text, dialect);
    for (number, what) in complaints {
        report.config_warning(number, &what);
    }
    if matches!(config.processor, Some(Processor::Shell(_))) {
        // Without their processor, old logs are kept as they are.
        if let Err(refusal) = check_owner(&directory.stat).and_then(|()| check_owner(&of_directory)) {
            report.warning("processor refused", Some(&refusal.into()));
            config.processor = None;
        } else if let Err(refusal) = check_owner(&stat).and_then(|()| check_mode(&stat)) {
            report.file_warning("processor refused", "config", Some(&refusal.into()));
            config.processor = None;
        }
    }
    Ok(config)
}

/// Opens `config`. A link is followed only if it belongs to root or to our own user: with a link of his own, a stranger
/// could make svlogd read any file.
fn open(directory: BorrowedFd<'_>) -> io::Result<(OwnedFd, Stat)> {
    let opened = trust::open_regular(directory, c"config", OFlags::RDONLY, Mode::empty());
    let is_link = |error: &io::Error| trust::refusal(error) == Some(Refusal::Link);
    match opened {
        Err(error) if is_link(&error) => {}
        opened => return opened,
    }
    let (link, target) = read_link(directory, c"config")?;
    if trust::is_of_others(&link) {
        return Err(Refusal::Link.into());
    }
    trust::open_regular(directory, &target, OFlags::RDONLY, Mode::empty())
}

/// Refuses a directory or `config` of another user: he could have commands run with our rights.
fn check_owner(stat: &Stat) -> Result<(), Refusal> {
    if trust::is_of_others(stat) { Err(Refusal::OtherOwner) } else { Ok(()) }
}

/// Refuses a `config` that everybody may write to.
fn check_mode(stat: &Stat) -> Result<(), Refusal> {
    const EVERYBODY_WRITES: u32 = 0o002;
    #[allow(clippy::useless_conversion, reason = "the width of a mode differs between platforms")]
    let mode = u32::from(stat.st_mode);
    if mode & EVERYBODY_WRITES != 0 { Err(Refusal::OthersWrite) } else { Ok(()) }
}
