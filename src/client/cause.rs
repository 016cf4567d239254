//! The second line about a service that cannot be used: the probable cause, and what to do.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::files::Identity;
use crate::say::printable_text;
use crate::{files, hint, serving, state};
use rustix::fs::{AtFlags, CWD, readlinkat, statat};

use super::target::{MAIN, Target, Trouble};

/// The probable cause of `trouble` with `service`, and what to do. `svdir` is the directory in which services with plain
/// names are.
pub fn hint(
    service: &Target,
    svdir: &OsStr,
    trouble: &Trouble,
    supervisors: &mut Supervisors,
) -> Option<String> {
    let has_svdir = Path::new(svdir).is_dir();
    let is_below = service.path.starts_with(svdir.as_bytes());
    let svdir = printable_text(svdir.as_bytes());
    let name = printable_text(&service.name);
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match trouble {
        _ if service.name.is_empty() => Some("the name of the service is empty".to_owned()),
        Trouble::Unable(_, error) if denied(error) => {
            // Not supervise/ itself, because its owner could keep the service from starting.
            let file = |name: &str| hint::quoted(&[&service.path, name.as_bytes()].concat());
            Some(format!(
                "you have no permission: become root, or let root give you the service: \
                 chmod 755 {}; chown USER {} {}",
                file("/supervise"),
                file("/supervise/ok"),
                file("/supervise/control")
            ))
        }
        Trouble::NoDirectory(error) if denied(error) => {
            Some("you have no permission to go into the service directory: become root".to_owned())
        }
        Trouble::NoDirectory(_) if dangling(service).is_some() => {
            dangling(service).map(|target| format!("it is a link to {target}, which is not there"))
        }
        Trouble::NoDirectory(_) if !is_below => Some("there is no such directory".to_owned()),
        Trouble::NoDirectory(_)
            if service.name.contains(&b'/') && Path::new(OsStr::from_bytes(&service.name)).is_dir() =>
        {
            Some(format!("a path needs ./ in front: {}", hint::quoted(&[b"./", &*service.name].concat())))
        }
        Trouble::NoDirectory(_) if !has_svdir => {
            Some(format!("there is no directory {svdir}: set SVDIR to the one that runsvdir serves"))
        }
        Trouble::NoDirectory(_) if Path::new("/etc/sv").join(&name).is_dir() => {
            let definition = hint::quoted(&[b"/etc/sv/", &*service.name].concat());
            Some(format!(
                "it is not enabled: ln -s {definition} {}",
                hint::quoted(format!("{svdir}/").as_bytes())
            ))
        }
        Trouble::NoDirectory(_) => {
            Some(format!("{svdir} has no service of this name; is SVDIR the directory that runsvdir serves?"))
        }
        Trouble::NotRunning | Trouble::Unable(..) => Some(unserved(service, &name, supervisors)),
        Trouble::BadFormat => Some("the file is not one that runsv wrote".to_owned()),
    }
}

/// The target of the service directory, if it is a link to nothing.
fn dangling(service: &Target) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(&service.path));
    let target = std::fs::read_link(path).ok()?;
    matches!(path.try_exists(), Ok(false)).then(|| printable_text(target.as_os_str().as_bytes()))
}

/// Why a service directory that exists is not supervised.
fn unserved(service: &Target, name: &str, supervisors: &mut Supervisors) -> String {
    if let Ok(Some(root)) = service.with_home(&MAIN, |home| Ok(state::root_of_another_user(home))) {
        let root = hint::quoted(root.as_os_str().as_bytes());
        return format!("another user supervises it: set RUNITBOX_STATE={root}");
    }
    if let Ok(dir) = service.dir()
        && let Ok(target) = readlinkat(dir, c"supervise", Vec::new())
        && service.look(c"supervise").is_ok_and(|stat| stat.is_none())
    {
        let target = printable_text(target.to_bytes());
        return format!("its link supervise leads to {target}, which is not there and could not be made");
    }
    match service.look(c"run") {
        Ok(None) => return "it has no file run".to_owned(),
        Ok(Some(stat)) if !files::is_executable(&stat) => {
            let path = hint::quoted(&[service.path.as_slice(), b"/run"].concat());
            return format!("its file run is not executable: chmod +x {path}");
        }
        Ok(Some(_)) | Err(_) => {}
    }
    let mut dir = parent(service);
    // A log service is served by what serves the directory of its service.
    if service.path.ends_with(b"/log") && dir.join("run").exists() {
        dir.pop();
    }
    match supervisors.serve(&dir) {
        Served::No => {
            let dir = printable_text(dir.as_os_str().as_bytes());
            let or = if service.is_by_path() { "" } else { ", or set SVDIR" };
            format!("no runsvdir serves {dir}: start it{or}")
        }
        Served::Unknown if !name.ends_with("/log") => {
            let dir = printable_text(dir.as_os_str().as_bytes());
            format!("it is not known whether a process serves {dir}: you may not see that; become root")
        }
        Served::Yes | Served::Unknown if name.ends_with("/log") => {
            "the service has no log service, or its runsv has not seen it yet".to_owned()
        }
        Served::Yes | Served::Unknown => {
            "runsvdir has not taken it up yet, or its runsv cannot start: see its messages".to_owned()
        }
    }
}

/// The directory in which the service directory is.
pub fn parent(service: &Target) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(&service.path));
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Whether a process serves a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// One does.
    Yes,
    /// None does.
    No,
    /// There is no `/proc`, or a process does not let us know what it serves.
    Unknown,
}

/// The processes that serve a directory. They are looked for once, when first needed.
#[derive(Debug, Default)]
pub struct Supervisors {
    seen: Option<Seen>,
}

/// What they serve.
#[derive(Debug)]
struct Seen {
    directories: Vec<Identity>,
    /// Whether nothing is missing in `directories`.
    is_complete: bool,
}

impl Supervisors {
    /// Whether a runsvdir or runsvinit serves `dir`.
    pub fn serve(&mut self, dir: &Path) -> Served {
        let Ok(wanted) = identity(dir) else { return Served::Unknown };
        let seen = self.seen.get_or_insert_with(Seen::look);
        if seen.directories.contains(&wanted) {
            Served::Yes
        } else if seen.is_complete {
            Served::No
        } else {
            Served::Unknown
        }
    }
}

impl Seen {
    fn look() -> Self {
        let Some(all) = serving::all() else {
            return Seen { directories: Vec::new(), is_complete: false };
        };
        let mut seen = Seen { directories: Vec::new(), is_complete: true };
        for process in all {
            let directory = process.directory();
            // An init that could announce nothing, as where all is read-only, serves some directory.
            seen.is_complete &= directory.is_ok() || process.pid != 1 || !process.is_runsvinit();
            match directory.and_then(|dir| identity(&dir)) {
                Ok(served) => seen.directories.push(served),
                // Where the process may not be looked at, it may serve the directory. Otherwise it serves none that we see.
                Err(error) => seen.is_complete &= error.kind() != io::ErrorKind::PermissionDenied,
            }
        }
        seen
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    Ok(files::identity(&statat(CWD, path, AtFlags::empty())?))
}
