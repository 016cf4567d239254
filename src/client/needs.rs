//! What the services of a request need, and who needs them: by the files `needs`.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, statat};

use super::Observer;
use super::request::Request;
use super::sent::Sent;
use super::target::{MAIN, Target};
use crate::control::Command;
use crate::files;
use crate::needs::neighbour::needs_in;
use crate::needs::survey::end_order;
use crate::needs::{EndOrder, parent, resolve};
use crate::policy::Need;
use crate::sort::sort;
use crate::status::{State, Want};
use crate::{sys, trust};

/// The request by which a service that is needed is started.
const UP: Request = Request { commands: &[Command::Up], ..Request::CHECK };
/// No more services than this are looked at.
const SERVICES_MAX: usize = 16 * 1024;

/// Starts what `target` needs, directly or through others, and is not wanted up. Adds all that it needs to `needed`, the nearest
/// first.
pub(super) fn start(target: &Target, needed: &mut Vec<Target>) {
    let mut found = needed_by(target).unwrap_or_default();
    let first = needed.len();
    while let Some(next) = found.pop_front() {
        let is_known = next.path == target.path || needed.iter().any(|known| known.path == next.path);
        if !is_known && needed.len() < SERVICES_MAX {
            found.extend(needed_by(&next).unwrap_or_default());
            needed.push(next);
        }
    }
    // Those that nothing keeps from starting first.
    for target in needed.iter().skip(first).rev() {
        let Ok(view) = target.view(&MAIN) else { continue };
        let is_wanted = view.status.want == Some(Want::Up) || view.facts().done.is_some();
        if !is_wanted || view.facts().given_up.is_some() {
            // Where it cannot be sent, the service that needs it waits, and that is reported.
            let _ = Sent::new(target, &UP);
        }
    }
}

/// Those that `target` needs, if it has a file that says so.
///
/// Whoever else may write that file has no say about services of others.
fn needed_by(target: &Target) -> Option<VecDeque<Target>> {
    let dir = target.dir().ok()?;
    let needs = needs_in(dir);
    if needs.is_empty() {
        return None;
    }
    let owner = fstat(dir).ok()?.st_uid;
    let is_allowed = |target: &Target| {
        trust::ours().contains(&owner)
            || target.dir().ok().and_then(|dir| fstat(dir).ok()).is_some_and(|stat| stat.st_uid == owner)
    };
    let target_of = |need: &Need| {
        let path = resolve(&target.path, &need.name);
        let is_sibling = !need.name.contains(&b'/');
        let name = if is_sibling && !target.is_by_path() { need.name.clone() } else { path.clone() };
        let target = Target::at(&name, path);
        (!need.optional || target.dir().is_ok()).then_some(target)
    };
    Some(needs.iter().filter_map(target_of).filter(is_allowed).collect())
}

/// Tells the observer about each that is needed, and did not become ready in time.
pub(super) fn report_not_ready(needed: &[Target], observer: &mut dyn Observer) {
    for target in needed {
        match target.view(&MAIN) {
            Ok(view) if view.facts().done.is_some() => {}
            Ok(view) => {
                let is_ready = view.facts().readiness.is_none_or(|readiness| readiness.is_ready());
                if view.status.state != State::Run || !is_ready {
                    observer.needed_is_late(target, &view);
                }
            }
            Err(trouble) => observer.needed_is_in_trouble(target, &trouble),
        }
    }
}

/// Tells the observer about each service that needs one of `stopped`, is not one of them, and is up or wanted up.
pub(super) fn report_dependents(stopped: &[OsString], observer: &mut dyn Observer) {
    let targets: Vec<Target> =
        stopped.iter().map(|name| Target::new(name, observer.directories().0)).collect();
    let mut places: Vec<Vec<u8>> = Vec::new();
    let mut dependents: Vec<Dependent> = Vec::new();
    for target in &targets {
        let place = parent(&target.path);
        if !places.contains(&place) {
            dependents.extend(dependents_in(&place));
            places.push(place);
        }
    }
    dependents.retain(|dependent| targets.iter().all(|target| target.path != dependent.path));
    for target in &targets {
        let mut names: Vec<Vec<u8>> = dependents
            .iter()
            .filter(|dependent| dependent.needs(target) && dependent.is_up())
            .map(|dependent| dependent.name.clone())
            .collect();
        if !names.is_empty() {
            sort(&mut names);
            observer.is_needed_by(target, &names);
        }
    }
}

/// A service that needs others.
struct Dependent {
    name: Vec<u8>,
    path: Vec<u8>,
    /// Their paths.
    needs: Vec<Vec<u8>>,
}

impl Dependent {
    fn needs(&self, target: &Target) -> bool {
        let identity =
            || target.dir().ok().and_then(|dir| fstat(dir).ok()).map(|stat| files::identity(&stat));
        // A path may lead there in another way.
        self.needs.contains(&target.path)
            || self.needs.iter().any(|path| {
                let stat = statat(CWD, path.as_slice(), AtFlags::empty()).ok();
                stat.is_some_and(|stat| Some(files::identity(&stat)) == identity())
            })
    }

    fn is_up(&self) -> bool {
        let status = Target::at(&self.name, self.path.clone()).status(&MAIN);
        status.is_ok_and(|status| status.state != State::Down || status.want == Some(Want::Up))
    }
}

/// The services in the directory `place` that need others.
fn dependents_in(place: &[u8]) -> Vec<Dependent> {
    let Ok(entries) = fs::read_dir(OsStr::from_bytes(place)) else { return Vec::new() };
    let dependent = |name: OsString| {
        let name = name.as_bytes().to_vec();
        let path = [place, b"/", &name].concat();
        let needs = needs_in(open(&path)?.as_fd());
        let needs: Vec<Vec<u8>> = needs.iter().map(|need| resolve(&path, &need.name)).collect();
        (!needs.is_empty() && !name.starts_with(b".")).then_some(Dependent { name, path, needs })
    };
    entries.flatten().take(SERVICES_MAX).filter_map(|entry| dependent(entry.file_name())).collect()
}

fn open(path: &[u8]) -> Option<OwnedFd> {
    let path = CString::new(path).ok()?;
    openat(CWD, &path, sys::SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The order in which the named services are told to end; `None` if none of them needs another.
pub(super) fn order_of(names: &[OsString], observer: &mut dyn Observer) -> Option<EndOrder> {
    if names.len() < 2 {
        return None;
    }
    let paths: Vec<Vec<u8>> =
        names.iter().map(|name| Target::path_of(name, observer.directories().0)).collect();
    let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    end_order(&paths, &trust::ours())
}
