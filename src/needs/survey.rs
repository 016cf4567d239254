//! Which services need which, by their files.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use super::neighbour::Neighbour;
use super::{EndOrder, Ignored, cycles, resolve};
use crate::path;
use crate::sort::sort;
use crate::template::ServiceIdentity;

/// No more services than this are looked at.
const SERVICES_MAX: usize = 16 * 1024;

/// A service that was found.
#[derive(Debug)]
struct Service {
    path: Vec<u8>,
    /// Which service it is, whatever path leads to it.
    key: ServiceIdentity,
    /// The argument of its instance, if it is one.
    argument: Vec<u8>,
    /// The paths of those that it needs.
    needs: Vec<Vec<u8>>,
}

/// The needs of a service that are ignored because they close cycles.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IgnoredNeeds {
    /// The paths of the services that are not waited for, sorted.
    pub paths: Vec<Vec<u8>>,
    /// The names of the services of one of the cycles: first one that is not waited for, and then each that it needs until the service
    /// that is not to wait.
    pub names: Vec<Vec<u8>>,
}

impl Service {
    /// The service at `path`, if it is there. Of a directory that belongs to none of the users `believed`, nothing is believed.
    fn at(path: &[u8], believed: &[u32]) -> Option<Self> {
        let name = CString::new(path).ok()?;
        let neighbour = Neighbour::open(&name, believed).ok()?;
        let needs = neighbour.needs().iter().map(|need| resolve(path, &need.name)).collect();
        let argument = neighbour.instance.map(|instance| instance.argument.into_bytes()).unwrap_or_default();
        Some(Service { path: path.to_vec(), key: neighbour.identity, argument, needs })
    }

    /// By what the services of a cycle are ordered: all supervisors have to find the same.
    fn order(&self) -> Vec<u8> {
        let path = OsStr::from_bytes(&self.path);
        let real = std::fs::canonicalize(path).map_or_else(|_| path.to_owned(), Into::into);
        [real.as_bytes(), &self.argument].concat()
    }
}

/// Services, each with a number.
#[derive(Debug, Default)]
struct Survey {
    services: Vec<Service>,
    /// The same services by their paths.
    by_path: BTreeMap<Vec<u8>, usize>,
}

impl Survey {
    /// The number of the service at `path`, which is added if it is there and was not found before.
    fn number(&mut self, path: &[u8], believed: &[u32]) -> Option<usize> {
        if let Some(number) = self.by_path.get(path) {
            return Some(*number);
        }
        let found = Service::at(path, believed)?;
        let known = self.services.iter().position(|service| service.key == found.key);
        let number = known.unwrap_or(self.services.len());
        if known.is_none() {
            if number >= SERVICES_MAX {
                return None;
            }
            self.services.push(found);
        }
        self.by_path.insert(path.to_vec(), number);
        Some(number)
    }

    fn get(&self, number: usize) -> Option<&Service> {
        self.services.get(number)
    }

    fn name(&self, number: usize) -> Vec<u8> {
        self.get(number).and_then(|service| path::names(&service.path).last()).unwrap_or_default()
    }

    /// By what the services of a cycle are ordered.
    fn order(&self, number: usize) -> Option<Vec<u8>> {
        self.get(number).map(Service::order)
    }
}

/// The needs that are ignored of each of the services at `paths`; see [`cycles`]. `None` if more than `most` others can be reached
/// from them: whoever sees only a part of a cycle may ignore another need than those who see all of it.
#[must_use]
pub fn ignored(paths: &[&[u8]], believed: &[u32], most: usize) -> Option<Vec<IgnoredNeeds>> {
    let mut survey = Survey::default();
    let first: Vec<Option<usize>> = paths.iter().map(|path| survey.number(path, believed)).collect();
    let mut edges: Vec<Vec<usize>> = Vec::new();
    while let Some(service) = survey.get(edges.len()) {
        let needs = service.needs.clone();
        edges.push(needs.iter().filter_map(|path| survey.number(path, believed)).collect());
        if survey.services.len().saturating_sub(paths.len()) > most {
            return None;
        }
    }
    let all = cycles(&edges, |number| survey.order(number));
    let mut ignored_of: Vec<Vec<&Ignored>> = vec![Vec::new(); edges.len()];
    for ignored in &all {
        ignored_of.get_mut(ignored.from).into_iter().for_each(|of| of.push(ignored));
    }
    let of = |number: Option<usize>| {
        let mut result = IgnoredNeeds::default();
        let ignored = number.and_then(|number| ignored_of.get(number)).map(Vec::as_slice).unwrap_or_default();
        if ignored.is_empty() {
            return result;
        }
        let mut to: Vec<usize> = ignored.iter().map(|ignored| ignored.to).collect();
        sort(&mut to);
        let paths = number.and_then(|number| survey.get(number)).map(|service| service.needs.as_slice());
        let is_ignored = |path: &&Vec<u8>| {
            survey.by_path.get(*path).is_some_and(|number| to.binary_search(number).is_ok())
        };
        result.paths = paths.unwrap_or_default().iter().filter(is_ignored).cloned().collect();
        sort(&mut result.paths);
        let way = ignored.iter().flat_map(|ignored| &ignored.way);
        result.names = way.map(|&number| survey.name(number)).collect();
        result
    };
    Some(first.into_iter().map(of).collect())
}

/// The order in which the services at `paths` end; `None` if none of them needs another. Each number is the place in `paths`.
#[must_use]
pub fn end_order(paths: &[&[u8]], believed: &[u32]) -> Option<EndOrder> {
    let found: Vec<Option<Service>> = paths.iter().map(|path| Service::at(path, believed)).collect();
    if found.iter().flatten().all(|service| service.needs.is_empty()) {
        return None;
    }
    let by_path: BTreeMap<&[u8], usize> =
        paths.iter().enumerate().map(|(number, path)| (*path, number)).collect();
    let number = |path: &Vec<u8>| {
        by_path.get(path.as_slice()).copied().or_else(|| {
            let key = Service::at(path, believed)?.key;
            found.iter().position(|service| service.as_ref().is_some_and(|service| service.key == key))
        })
    };
    let needs_of = |service: &Option<Service>| {
        service.iter().flat_map(|service| &service.needs).filter_map(number).collect()
    };
    let needs: Vec<Vec<usize>> = found.iter().map(needs_of).collect();
    Some(EndOrder::new(needs, |number| found.get(number).and_then(Option::as_ref).map(Service::order)))
}
