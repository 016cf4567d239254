//! A second line about a service that cannot be used: what is probably wrong, and what to do.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::readlinkat;
use svcore::{files, scan};

use super::service::{Service, Trouble};

/// What `trouble` with `service` probably comes from.
pub(crate) fn hint(service: &Service, svdir: &OsStr, trouble: &Trouble) -> Option<String> {
    let svdir = svdir.display();
    let name = String::from_utf8_lossy(&service.name).into_owned();
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match trouble {
        Trouble::Unable(_, error) if denied(error) => {
            // The FIFOs alone: who owns supervise/ can keep the service from starting.
            let dir = String::from_utf8_lossy(&service.path);
            Some(format!(
                "you have no permission: become root, or let root give you the service: \
                 chmod 755 {dir}/supervise; chown USER {dir}/supervise/ok {dir}/supervise/control"
            ))
        }
        Trouble::NoDirectory(error) if denied(error) => {
            Some("you have no permission to go into the service directory: become root".to_owned())
        }
        Trouble::NoDirectory(_) if !service.path.starts_with(svdir.to_string().as_bytes()) => {
            Some("there is no such directory".to_owned())
        }
        Trouble::NoDirectory(_) if !Path::new(&svdir.to_string()).is_dir() => {
            Some(format!("there is no directory {svdir}: set SVDIR to the one that runsvdir serves"))
        }
        Trouble::NoDirectory(_) if Path::new("/etc/sv").join(&name).is_dir() => {
            Some(format!("it is not enabled: ln -s /etc/sv/{name} {svdir}/"))
        }
        Trouble::NoDirectory(_) => {
            Some(format!("{svdir} has no service of this name; is SVDIR the directory that runsvdir serves?"))
        }
        Trouble::NotRunning | Trouble::Unable(..) => Some(unserved(service, &name)),
        Trouble::BadFormat => Some("the file is not one that runsv wrote".to_owned()),
    }
}

/// Why a service directory that exists is not supervised.
fn unserved(service: &Service, name: &str) -> String {
    if let Ok(dir) = service.dir()
        && let Ok(target) = readlinkat(dir, c"supervise", Vec::new())
        && service.look(c"supervise").is_ok_and(|stat| stat.is_none())
    {
        let target = target.to_string_lossy();
        return format!("its link supervise leads to {target}, which is not there and could not be made");
    }
    match service.look(c"run") {
        Ok(None) => return "it has no file run".to_owned(),
        Ok(Some(stat)) if !files::is_executable(&stat) => {
            return format!(
                "its file run is not executable: chmod +x {}/run",
                String::from_utf8_lossy(&service.path)
            );
        }
        Ok(Some(_)) | Err(_) => {}
    }
    let dir = parent(service);
    match served(&dir) {
        Served::No => format!("no runsvdir serves {}: start it, or set SVDIR", dir.display()),
        Served::Yes | Served::Unknown if name.ends_with("/log") => {
            "the service has no log service, or its runsv has not seen it yet".to_owned()
        }
        Served::Yes | Served::Unknown => {
            "runsvdir has not taken it up yet, or its runsv cannot start: see its messages".to_owned()
        }
    }
}

/// The directory that the service is in.
pub(crate) fn parent(service: &Service) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(&service.path));
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Whether a runsvdir runs for a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// One does.
    Yes,
    /// None does.
    No,
    /// There is nothing to tell it from.
    Unknown,
}

/// Looks through `/proc` for a runsvdir or runsvinit of `dir`.
pub(crate) fn served(dir: &Path) -> Served {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let (Some(wanted), Ok(processes)) = (identity(dir), std::fs::read_dir("/proc")) else {
        return Served::Unknown;
    };
    let mut seen_any = false;
    let mut unsure = false;
    for process in processes.flatten().map(|entry| entry.path()) {
        let Ok(comm) = std::fs::read(process.join("comm")) else { continue };
        seen_any = true;
        let comm = comm.trim_ascii_end();
        if comm != b"runsvdir" && comm != b"runsvinit" {
            continue;
        }
        // Another's working directory may be hidden from us.
        let Some(served) = scan::directory_of_process(&process) else { continue };
        match identity(&served) {
            Some(served) if served == wanted => return Served::Yes,
            Some(_) => {}
            None => unsure = true,
        }
    }
    if unsure || !seen_any { Served::Unknown } else { Served::No }
}
