//! `chpst` and its other names: change the process state, then execute a program. Source: chpst(8).
//!
//! `plan.rs` decides what to change; this file makes the changes, in the order of the plan's fields. Whatever no option
//! names stays as it was, even a closed descriptor 0 or an ignored SIGPIPE: chpst must leave no traces in the program.

mod caps;
mod descriptors;
mod plan;
mod script;
mod script_file;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RawMode, flock, openat, statat};
use rustix::io::Errno;
use svcore::envdir::{self, Change};
use svcore::passwd::{self, Ids, Refused};
use svcore::privilege::Capabilities;
use svcore::say::Message;
use svcore::sys::{capabilities, limits};
use svcore::trust::{self, Refusal};
use svcore::{Call, Context, Failed, Result, exec, hint, privilege, say, slice};

use plan::{Plan, WhenLocked};

/// The longest `/etc/passwd` or `/etc/group` that is read, in bytes.
const DATABASE_MAX: usize = 16 * 1024 * 1024;

/// Runs the applet. Returns only if the program could not be executed.
pub(crate) fn main(call: &Call<'_>) -> Result {
    let script = plan::script(call.name, call.args)?;
    let (plan, origin) = match script {
        None => (plan::parse(call.name, call.args)?, None),
        Some(words) => match script_file::plan(call.name, words)? {
            Some((plan, origin)) => (plan, Some(origin)),
            None => return Ok(call.codes.usage),
        },
    };
    if let Some(why) = &plan.bad_number {
        // Stock softlimit answers a bad number with chpst's usage line.
        let synopsis =
            crate::TABLE.iter().find(|applet| applet.name == "chpst").map_or("", |chpst| chpst.synopsis);
        say::err(&[b"usage: softlimit ", synopsis.as_bytes(), b"\n\n", &hint::line(Some(why))]);
        return Ok(call.codes.usage);
    }
    // The program is searched in the PATH that chpst was started with, not in one that an environment directory sets.
    let path = std::env::var_os("PATH");
    let mut environment: Vec<Vec<u8>> =
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();

    let closed = descriptors::prepare(&plan, call.closed)?;
    if plan.new_session {
        // This fails if the process leads a process group already, which is no reason to stop.
        let _ = rustix::process::setsid();
    }
    if let Some(score) = plan.oom_score {
        set_oom_score(score).while_doing(|| "unable to set OOM score")?;
    }
    let pipes = if plan.own_output { descriptors::own_pipes(&plan, closed) } else { Vec::new() };
    if let Some(dir) = &plan.envdir {
        environment = envdir::apply(environment, &read_envdir(dir, &plan)?);
    }
    if let Some(root) = &plan.root {
        change_directory(root)?;
        rustix::process::chroot(".").while_doing(|| "unable to change root directory")?;
    }
    if let Some(dir) = &plan.directory {
        change_directory(dir)?;
    }
    if let Some(mask) = plan.umask {
        rustix::process::umask(Mode::from_raw_mode(mask as RawMode));
    }
    if plan.nice != 0 {
        rustix::process::nice(plan.nice).while_doing(|| "unable to set nice level")?;
    }
    if let Some(user) = &plan.env_user {
        let place = || origin.as_ref().map(|it| it.place_of(user, |plan| plan.env_user.as_ref()));
        let Some(ids) = find_ids_or_report(user, plan.plain_account, &place) else {
            return Ok(call.codes.fatal);
        };
        let number = |id: u32| Change::Set(id.to_string().into_bytes());
        let gid = ids.gids.first().copied().unwrap_or_default();
        let changes = [(b"GID".to_vec(), number(gid)), (b"UID".to_vec(), number(ids.uid))];
        environment = envdir::apply(environment, &changes);
    }
    if let Some(user) = &plan.user {
        let place = || origin.as_ref().map(|it| it.place_of(user, |plan| plan.user.as_ref()));
        let Some(ids) = find_ids_or_report(user, plan.plain_account, &place) else {
            return Ok(call.codes.fatal);
        };
        descriptors::give_away(&pipes, ids.uid)?;
        if plan.caps.is_empty() {
            privilege::become_user(ids.uid, &ids.gids, 0)?;
        } else {
            change_capabilities(&plan, Some(&ids))?;
        }
    } else if !plan.caps.is_empty() {
        change_capabilities(&plan, None)?;
    }
    if let Some((file, when_locked)) = &plan.lock {
        match lock(file, *when_locked) {
            Err(_) if plan.quiet_failure => return Ok(0),
            locked => locked?,
        }
    }
    let saved_stderr = descriptors::close_standard(&plan, closed)?;
    for &(resource, value) in &plan.limits {
        limits::set_soft_limit(resource, value).while_doing(|| "unable to setrlimit()")?;
    }
    if plan.no_new_privileges {
        capabilities::set_no_new_privileges().while_doing(|| "unable to set no_new_privs")?;
    }
    let files = plan.argv.first().map_or_else(Vec::new, |program| exec::candidates(program, path.as_deref()));
    let error = execute(&plan, &files, environment);
    if plan.quiet_failure {
        return Ok(0);
    }
    let name = plan.argv0.as_ref().or(plan.argv.first()).map(|name| name.as_bytes()).unwrap_or_default();
    let what = [b"unable to run: ", name].concat();
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let hint = hint::of_candidates(&files, &error).or_else(|| {
        let hint = "no shell reads the script: exec, cd, export, A=b and the like are not known in it";
        (origin.is_some() && is_missing).then(|| hint.to_owned())
    });
    let message = Message::fatal("chpst", &what).because(&error);
    match &saved_stderr {
        Some(stderr) => say::write_all(stderr.as_fd(), &[&message.lines(hint.as_deref())]),
        None => message.print_with(hint.as_deref()),
    }
    Ok(call.codes.fatal)
}

/// Executes the program of the plan. Returns why that failed.
fn execute(plan: &Plan, files: &[CString], environment: Vec<Vec<u8>>) -> io::Error {
    // What has a NUL in it cannot be passed on and is left out. None of it should: the kernel passes no NULs, and in the
    // values of an environment directory they became newlines.
    let c = |bytes: Vec<u8>| CString::new(bytes).ok();
    let mut argv: Vec<CString> = plan.argv.iter().filter_map(|word| c(word.clone().into_vec())).collect();
    if let (Some(first), Some(name)) = (argv.first_mut(), &plan.argv0) {
        *first = c(name.clone().into_vec()).unwrap_or_default();
    }
    let environment: Vec<CString> = environment.into_iter().filter_map(c).collect();
    exec::replace(files, &argv, &environment)
}

/// Becomes the user, if there is one, and leaves to the program what the plan says of the capabilities.
#[inline(never)] // few services have this
fn change_capabilities(plan: &Plan, user: Option<&Ids>) -> Result<(), Failed> {
    let (mut held, permitted) = capabilities::held().while_doing(|| "unable to get capabilities")?;
    let user_without = user.filter(|ids| ids.uid != 0);
    let bounding = held.bounding;
    if user_without.is_some() {
        // Whoever becomes another user than root keeps none of these.
        held = Capabilities { bounding, ..Capabilities::default() };
    }
    let wanted = caps::wanted(&plan.caps, held, permitted).map_err(|name| {
        Failed::without_cause(["unable to add capability ", name, ": chpst itself does not have it"].concat())
    })?;
    privilege::reduce_bounding_set(bounding, wanted.bounding)?;
    if let Some(ids) = user {
        privilege::become_user(ids.uid, &ids.gids, user_without.map_or(0, |_| wanted.ambient))?;
    }
    if user_without.is_none() {
        privilege::set_capabilities(wanted)?;
    }
    privilege::verify_capabilities(wanted)
}

/// Sets how readily the kernel kills the program when memory is short.
fn set_oom_score(score: i32) -> io::Result<()> {
    let file = openat(CWD, c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, score.to_string().as_bytes())?;
    Ok(())
}

fn change_directory(dir: &OsStr) -> Result<(), Failed> {
    rustix::process::chdir(dir).while_doing(|| [b"unable to change directory: ", dir.as_bytes()].concat())
}

/// Reads an environment directory. The changes are in the order in which the directory lists its files.
fn read_envdir(name: &OsStr, plan: &Plan) -> Result<Vec<(Vec<u8>, Change)>, Failed> {
    let failed = |what: &'static str| move || [what.as_bytes(), b": ", name.as_bytes()].concat();
    let path =
        CString::new(name.as_bytes()).map_err(|_| Failed::without_cause("unable to switch to directory"))?;
    let dir = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .while_doing(failed("unable to switch to directory"))?;
    let entries = Dir::read_from(&dir).while_doing(failed("unable to open directory"))?;
    let mut changes = Vec::new();
    let mut total = 0_usize;
    for (count, entry) in entries.enumerate() {
        let entry = entry.while_doing(failed("unable to read directory"))?;
        let file = entry.file_name();
        // Two of the entries are `.` and `..`.
        if count >= envdir::FILES_MAX.saturating_add(2) || total > envdir::ALL_MAX {
            return Err(Errno::TOOBIG).while_doing(failed("unable to read directory"));
        }
        if file.to_bytes().starts_with(b".") {
            continue;
        }
        let what = || [b"unable to read ", name.as_bytes(), b"/", file.to_bytes()].concat();
        match read_variable(dir.as_fd(), file) {
            Ok(content) => {
                total = total.saturating_add(content.len());
                changes.push((file.to_bytes().to_vec(), envdir::change_of(&content)));
            }
            // A link to a file that does not exist changes nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::IsADirectory && plan.skip_directories => {
                if plan.verbose {
                    Message::warning("chpst", &what()).because(&error).print();
                }
            }
            Err(error) => return Err(error).while_doing(what),
        }
    }
    Ok(changes)
}

/// Reads the part of a file that can matter: up to the end of the block with its first newline.
fn read_variable(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    let file = trust::open_content(dir, name)?;
    let mut content = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))?;
        let block = slice::part(&buffer, ..length);
        content.extend_from_slice(block);
        let line = content.iter().position(|&byte| byte == b'\n');
        if line.unwrap_or(content.len()) > envdir::VALUE_MAX {
            return Err(Errno::FBIG.into());
        }
        if block.is_empty() || line.is_some() {
            return Ok(content);
        }
    }
}

/// Looks up a user in `/etc/passwd` and `/etc/group`, below the root directory as `-/` has changed it.
fn find_ids(spec: &OsStr, plain_account: bool) -> Result<Ids, Failed> {
    let spec_bytes = spec.as_bytes();
    let missing = |kind: &'static str| format!("unable to get {kind} file entry");
    let mut unreadable = None;
    let mut text = |path: &'static CStr, kind: &'static str| match read_database(path) {
        Ok(text) => Some(text),
        // Without the file, every name is unknown; numbers still work.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(error) => {
            unreadable = Some(Failed::because(error, missing(kind)));
            None
        }
    };
    let found = if plain_account {
        let text = text(c"/etc/passwd", "password");
        match text {
            Some(text) => passwd::user_in(&text, spec_bytes)
                .map(|(uid, gid)| Ids { uid, gids: vec![gid] })
                .ok_or(Refused::Unknown),
            None => Err(Refused::Unreadable),
        }
    } else {
        // `find` reads the group file only if it needs it, so it takes two closures. Both use `text`, hence the cell.
        let text = std::cell::RefCell::new(&mut text);
        let get = |path, kind| (text.borrow_mut())(path, kind);
        passwd::find(spec_bytes, || get(c"/etc/passwd", "password"), || get(c"/etc/group", "group"))
    };
    found.map_err(|refused| match refused {
        Refused::Unknown if plain_account => {
            Failed::without_cause([b"unknown account: ", spec_bytes].concat())
        }
        Refused::Unknown => Failed::without_cause([b"unknown user/group: ", spec_bytes].concat()),
        Refused::Empty => Failed::without_cause([b"empty uid or gid: ", spec_bytes].concat()),
        Refused::Numbers(numbers) => {
            Failed::without_cause([b"invalid uid/gids: ".as_slice(), &numbers].concat())
        }
        Refused::Unreadable => unreadable.unwrap_or_else(|| Failed::without_cause(missing("password"))),
    })
}

/// The same, or `None` after the failure was reported; `place`: where a script names the user.
fn find_ids_or_report(spec: &OsStr, plain_account: bool, place: &dyn Fn() -> Option<Vec<u8>>) -> Option<Ids> {
    match find_ids(spec, plain_account) {
        Ok(ids) => Some(ids),
        Err(failed) => {
            let hint = hint_about_ids(spec.as_bytes(), plain_account).filter(|_| failed.cause().is_none());
            let what = [place().unwrap_or_default().as_slice(), failed.doing()].concat();
            Message::fatal("chpst", &what).because(failed.cause()).print_with(hint.as_deref());
            None
        }
    }
}

/// How to write what was probably meant by a user and groups that were refused.
fn hint_about_ids(spec: &[u8], plain_account: bool) -> Option<String> {
    let (mut parts, mut numbers, mut names) = (0, 0, 0);
    let ids = spec.strip_prefix(b":").unwrap_or(spec);
    for part in ids.split(|&byte| byte == b':') {
        parts += 1;
        numbers += usize::from(!part.is_empty() && part.iter().all(u8::is_ascii_digit));
        names += usize::from(part.iter().any(|byte| !byte.is_ascii_digit()));
    }
    let ids = say::printable_text(ids);
    let both = if parts == 1 { [":", &ids, ":", &ids].concat() } else { [":", &ids].concat() };
    let has_colon = spec.starts_with(b":");
    match (numbers == parts, numbers + names == parts) {
        (true, _) if plain_account => {
            Some(["a name is needed here; with a number: chpst -u ", &both].concat())
        }
        (true, _) if has_colon && parts == 1 => Some(["a group is needed as well: ", &both].concat()),
        (true, _) => Some(["for a number write ", &both].concat()),
        (false, true) if numbers > 0 || has_colon => {
            Some("names and numbers cannot be mixed: user:group or :1000:1000".to_owned())
        }
        _ => None,
    }
}

fn read_database(path: &CStr) -> io::Result<Vec<u8>> {
    trust::read_at_most(&trust::open_content(CWD, path)?, DATABASE_MAX)
}

/// Locks `file`. The descriptor stays open for the program: the lock is held until the program, and every process that
/// inherited the descriptor from it, is gone.
fn lock(file: &OsStr, when_locked: WhenLocked) -> Result<(), Failed> {
    let failed = |what: &'static str| move || [what.as_bytes(), b": ", file.as_bytes()].concat();
    let fd = open_lock(file).while_doing(failed("unable to open lock"))?;
    let operation = match when_locked {
        WhenLocked::Wait => FlockOperation::LockExclusive,
        WhenLocked::Fail => FlockOperation::NonBlockingLockExclusive,
    };
    rustix::io::retry_on_intr(|| flock(&fd, operation)).while_doing(failed("unable to lock"))?;
    std::mem::forget(fd);
    Ok(())
}

/// Opens or creates a lock file. A link is followed only if it belongs to root or to our own user: with a link of his
/// own, a stranger could make chpst create files anywhere.
fn open_lock(file: &OsStr) -> io::Result<OwnedFd> {
    const FLAGS: OFlags = OFlags::WRONLY
        .union(OFlags::CREATE)
        .union(OFlags::APPEND)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY);
    let open = |more: OFlags| openat(CWD, file, FLAGS | more, Mode::RUSR | Mode::WUSR);
    match (open(OFlags::NOFOLLOW), statat(CWD, file, AtFlags::SYMLINK_NOFOLLOW)) {
        (Err(_), Ok(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            let uid = rustix::process::geteuid().as_raw();
            if stat.st_uid != uid && stat.st_uid != 0 {
                return Err(Refusal::Link.into());
            }
            Ok(open(OFlags::empty())?)
        }
        (opened, _) => Ok(opened?),
    }
}
