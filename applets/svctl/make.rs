//! `svctl new`: makes a service directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use svcore::error::Context;
use svcore::hint::quoted as shown;
use svcore::say::{self, printable_text};
use svcore::{Error, Failed, Result, passwd};

use super::enable::Source;
use super::lint::name;
use super::options::Opt;
use super::place::{File, Place};
use super::script::{self, Script, command_line, quoted};
use super::tree::{Tree, is_path};
use super::{Asked, programs};

/// Where the service directory is made.
struct Target {
    /// The directory that it is made in.
    above: PathBuf,
    name: OsString,
    /// A supervisor looks at that directory, so a file `down` keeps the service from starting at once.
    is_served: bool,
}

/// Makes a service directory, and says what to do next.
pub(super) fn run(asked: &Asked) -> Result {
    let usage = |why: &str| Error::Usage(Some(why.to_owned()));
    let [name] = asked.names.as_slice() else { return Err(usage("new needs one name")) };
    if asked.after.is_empty() {
        return Err(usage("new needs a command: svctl new NAME -- COMMAND [ARGUMENT ...]"));
    }
    let target = target(name, asked);
    if let Some(why) = name::fault(target.name.as_bytes()) {
        let what = format!("{} cannot be the name of a service: {why}", printable_text(name.as_bytes()));
        return Err(Error::Usage(Some(what)));
    }
    let files = files(asked, target.is_served)?;
    let path = target.above.join(&target.name);
    let path = path.as_os_str().as_bytes();
    if asked.given.has(Opt::DryRun) {
        for (file, _) in &files {
            say::out(&[b"would write ", &say::printable(path), b"/", file.as_bytes(), b"\n"]);
        }
        return Ok(0);
    }
    make(&target, &files)?;
    let next = next(asked, &target, name);
    say::out(&[b"made ", &say::printable(path), b"\n", b"next: ", next.as_bytes(), b"\n"]);
    Ok(0)
}

/// The place that a name means: a path is one; a plain name is below `-s` or `SVSRC`; of a tree that was chosen by `-d`,
/// `--user` or `SVDIR` in it; otherwise in `/etc/sv`, if that exists.
fn target(name: &OsString, asked: &Asked) -> Target {
    if is_path(name) || name.as_bytes().contains(&b'/') {
        let path = std::path::absolute(name).unwrap_or_else(|_| name.into());
        let above = path.parent().unwrap_or(Path::new("/")).to_owned();
        return Target { above, name: path.file_name().unwrap_or_default().to_owned(), is_served: false };
    }
    let source = Source::new(&asked.given);
    let is_chosen =
        asked.given.has(Opt::Dir) || asked.given.has(Opt::User) || std::env::var_os("SVDIR").is_some();
    if source.is_chosen || !is_chosen && source.path.is_dir() {
        return Target { above: source.path, name: name.clone(), is_served: false };
    }
    Target { above: Tree::new(&asked.given).path().to_owned(), name: name.clone(), is_served: true }
}

/// The files of the service, by their paths in its directory.
fn files(asked: &Asked, is_served: bool) -> Result<Vec<(&'static str, File)>> {
    const COMMENT: &str = "Written by svctl new. It is yours now.";
    let given = &asked.given;
    let mut run = Script::new(COMMENT);
    if given.has(Opt::Log) {
        run.errors_to_log();
    }
    // A program that is meant from here is started from here.
    let is_from_here = asked.after.first().is_some_and(
        |program| matches!(program.as_bytes(), [first, rest @ ..] if *first != b'/' && rest.contains(&b'/')),
    );
    let here = is_from_here.then_some(OsStr::new("."));
    if let Some(dir) = given.value(Opt::WorkingDir).or(here) {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
        run.change_directory(dir.as_os_str().as_bytes());
    }
    for variable in given.values(Opt::Variable) {
        let variable = variable.as_bytes();
        let equals = variable.iter().position(|&byte| byte == b'=').unwrap_or(variable.len());
        let (name, value) = variable.split_at_checked(equals).unwrap_or_default();
        let Some(value) = value.strip_prefix(b"=").filter(|_| script::is_variable(name)) else {
            let what = format!("--env {}: it has to be NAME=VALUE", printable_text(variable));
            return Err(Error::Usage(Some(what)));
        };
        run.line(&[b"export ", name, b"=", &quoted(value)]);
    }
    let command = command_line(asked.after.iter().map(|word| word.as_bytes()));
    match given.value(Opt::Account) {
        Some(user) => {
            check_user(user.as_bytes())?;
            run.line(&[
                b"exec ",
                &programs::command("chpst"),
                b" -u ",
                &quoted(user.as_bytes()),
                b" ",
                &command,
            ]);
        }
        None => run.line(&[b"exec ", &command]),
    }
    let mut files = Vec::new();
    if given.has(Opt::Log) {
        let svlogd = programs::command("svlogd");
        files.push(("log/run", File::script(script::log_run(COMMENT, &svlogd, b"./main"))));
    }
    if is_served {
        files.push(("down", File::empty()));
    }
    files.push(("run", File::script(run.into_bytes())));
    Ok(files)
}

/// Whether `chpst -u` will find the user.
fn check_user(user: &[u8]) -> Result<()> {
    let read = |path: &str| std::fs::read(path).ok();
    match passwd::find(user, || read("/etc/passwd"), || read("/etc/group")) {
        Ok(_) => Ok(()),
        Err(why) => Err(Failed::without_cause(format!("{}: {why}", printable_text(user))).into()),
    }
}

/// Makes the directory under another name, and renames it when it is complete.
fn make(target: &Target, files: &[(&'static str, File)]) -> Result<()> {
    let above = Place::make(target.above.as_os_str().as_bytes())?;
    let name = target.name.as_bytes();
    let free = above.look(name).and_then(|stat| stat.map_or(Ok(()), |_| Err(Errno::EXIST.into())));
    free.unable_to("make", &above.path_of(name))?;
    let new = [b".".as_slice(), name, b".new-", std::process::id().to_string().as_bytes()].concat();
    let fill = || -> Result<(), Failed> {
        let service = above.make_child(&new)?;
        for (path, file) in files {
            match path.strip_prefix("log/") {
                Some(file_name) => {
                    let log = service.make_child(b"log")?;
                    log.make_child(b"main")?;
                    log.write(file_name.as_bytes(), file)?;
                }
                None => service.write(path.as_bytes(), file)?,
            }
        }
        above.rename(&new, name).unable_to("make", &above.path_of(name))
    };
    fill().map_err(|failed| {
        // It has the number of this process in its name, so it is ours.
        let _ = above.remove_all(&new);
        failed.into()
    })
}

/// The command that starts the service.
fn next(asked: &Asked, target: &Target, name: &OsString) -> String {
    let mut command = "svctl enable --now".to_owned();
    if let Some(dir) = asked.given.value(Opt::Dir) {
        command = command + " -d " + &shown(dir.as_bytes());
    }
    if asked.given.has(Opt::User) {
        command += " --user";
    }
    let is_by_path = name.as_bytes().contains(&b'/');
    let source = if is_by_path { Some(target.above.as_os_str()) } else { asked.given.value(Opt::Source) };
    if let Some(source) = source {
        command = command + " -s " + &shown(source.as_bytes());
    }
    command + " " + &shown(target.name.as_bytes())
}
