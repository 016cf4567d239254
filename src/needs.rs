//! What services need of each other. Without I/O, but for [`neighbour`] and [`survey`].
//!
//! - [`resolve`] finds out which service directory a name in a file `needs` means.
//! - [`standing`] decides whether a service is ready for those that need it.
//! - [`cycles`] finds the needs that are ignored because they close a cycle.
//! - [`EndOrder`] tells in which order services end: each after all those that need it.
//!
//! Several supervisors decide alone about one tree, so each decision depends only on what all of them see alike.
//!
//! Source: runit-service(5), "needs".
#![deny(clippy::arithmetic_side_effects)]

pub mod neighbour;
pub mod survey;

use crate::sort::sort;
use crate::status::{State, Status};

/// The path of the service that `need` means in the file `needs` of the service at `path`.
///
/// A plain name is a sibling: a service in the directory from which the path of the service leads, whatever links are on the way.
/// Anything with a slash is a path; a relative one begins at the service directory, as in `./run`.
#[must_use]
pub fn resolve(path: &[u8], need: &[u8]) -> Vec<u8> {
    if need.starts_with(b"/") {
        return need.to_vec();
    }
    if need.contains(&b'/') {
        return [path, b"/", need].concat();
    }
    [&*parent(path), b"/", need].concat()
}

/// The directory that the service at `path` is in, by that path alone.
#[must_use]
pub fn parent(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last.saturating_add(1));
    let path = path.get(..end).unwrap_or_default();
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let last = path.get(slash.map_or(0, |slash| slash.saturating_add(1))..).unwrap_or_default();
    match (last, slash) {
        // Only the kernel knows what is above.
        (b"." | b"..", _) => [path, b"/.."].concat(),
        (_, None) => b".".to_vec(),
        (_, Some(0)) => b"/".to_vec(),
        (_, Some(slash)) => path.get(..slash).unwrap_or_default().to_vec(),
    }
}

/// What is known of a service that others need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its status.
    pub status: Status,
    /// It exited 0, and that was all it was to do.
    pub is_done: bool,
    /// Whether it has told that it is ready; `None`: it has no way to tell.
    pub readiness: Option<bool>,
    /// It is not restarted after an exit with 0 or any other, so it counts when it is done and not before.
    pub is_task: bool,
    /// There is a `./check`.
    pub has_check: bool,
}

/// How a service stands with those that need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is ready.
    Ready,
    /// It is ready if `./check` exits 0.
    IfChecked,
    /// It is not ready.
    NotReady,
}

/// Whether a service that is supervised is ready for those that need it.
#[must_use]
pub fn standing(known: &Known) -> Standing {
    let Known { status, is_done, readiness, is_task, has_check } = known;
    let is_up = status.state == State::Run && status.pid.is_some() && !status.term;
    match readiness {
        _ if *is_done => Standing::Ready,
        _ if !is_up => Standing::NotReady,
        Some(true) => Standing::Ready,
        Some(false) => Standing::NotReady,
        None if *is_task => Standing::NotReady,
        None if *has_check => Standing::IfChecked,
        None => Standing::Ready,
    }
}

/// A need that is ignored because it closes a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The service whose need is ignored.
    pub from: usize,
    /// The service that it does not wait for.
    pub to: usize,
    /// The way from `to` back to `from`, both included, along the needs that are not ignored. It is empty if a need of `from`
    /// that comes before this one in the result has a way: services that all need each other have very many.
    pub way: Vec<usize>,
}

/// Finds the needs that are ignored so that no cycle remains. `needs` holds, for each service, the numbers of those that it needs;
/// `name` returns what the services of a cycle are ordered by.
///
/// Whoever knows all services that can be reached from a service finds the same needs of it: the services of which each
/// needs each other, directly or through others, are walked through depth first, beginning with the first name and following the needs in
/// the order of names. A need of a service that the walk is just coming from is ignored.
#[must_use]
pub fn cycles<N: Ord>(needs: &[Vec<usize>], mut name: impl FnMut(usize) -> N) -> Vec<Ignored> {
    let mut ignored = Vec::new();
    for part in parts(needs) {
        let mut members: Vec<(N, usize)> = part.iter().map(|&member| (name(member), member)).collect();
        sort(&mut members);
        let mut numbers = vec![None; needs.len()];
        for (number, (_, member)) in members.iter().enumerate() {
            if let Some(entry) = numbers.get_mut(*member) {
                *entry = Some(number);
            }
        }
        let number = |service: usize| numbers.get(service).copied().flatten();
        let within = |(_, member): &(N, usize)| {
            let all = needs.get(*member).map(Vec::as_slice).unwrap_or_default();
            let mut inner: Vec<usize> = all.iter().filter_map(|&need| number(need)).collect();
            sort(&mut inner);
            inner.dedup();
            inner
        };
        let inner: Vec<Vec<usize>> = members.iter().map(within).collect();
        let member = |number: usize| members.get(number).map_or(0, |(_, member)| *member);
        ignored.extend(back_edges(&inner).into_iter().map(|Ignored { from, to, way }| Ignored {
            from: member(from),
            to: member(to),
            way: way.into_iter().map(member).collect(),
        }));
    }
    ignored
}

/// Whether services need each other in a cycle. `needs` is as for [`cycles`].
#[must_use]
pub fn has_cycle(needs: &[Vec<usize>]) -> bool {
    !parts(needs).is_empty()
}

/// The sets of services each of which needs each other of its set; also a single service that needs itself. Source: Kosaraju
/// and Sharir.
fn parts(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut seen = vec![false; needs.len()];
    let order: Vec<usize> = (0..needs.len()).flat_map(|from| depth_first(needs, from, &mut seen)).collect();
    let dependents = reversed(needs);
    seen.fill(false);
    let needs_itself = |service: usize| needs.get(service).is_some_and(|needs| needs.contains(&service));
    order
        .into_iter()
        .rev()
        .map(|from| depth_first(&dependents, from, &mut seen))
        .filter(|part| part.len() > 1 || part.first().is_some_and(|&service| needs_itself(service)))
        .collect()
}

/// For each service, those that need it.
#[must_use]
pub fn reversed(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); needs.len()];
    for (from, needed) in needs.iter().enumerate() {
        for &to in needed {
            if let Some(dependents) = dependents.get_mut(to) {
                dependents.push(from);
            }
        }
    }
    dependents
}

/// What can be reached from `from` and was not `seen`, each after all that is reached from it.
fn depth_first(edges: &[Vec<usize>], from: usize, seen: &mut [bool]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut is_new = |node: usize| seen.get_mut(node).is_some_and(|seen| !std::mem::replace(seen, true));
    let mut way = if is_new(from) { vec![(from, 0_usize)] } else { Vec::new() };
    while let Some((node, next)) = way.last_mut() {
        let to = edges.get(*node).and_then(|edges| edges.get(*next)).copied();
        *next = next.saturating_add(1);
        match to {
            Some(to) if is_new(to) => way.push((to, 0)),
            Some(_) => {}
            None => {
                order.push(*node);
                way.pop();
            }
        }
    }
    order
}

/// The edges that lead back to where a walk from the first node is coming from.
fn back_edges(edges: &[Vec<usize>]) -> Vec<Ignored> {
    #[derive(Clone, Copy)]
    enum Seen {
        Never,
        OnTheWay,
        Done,
    }
    let mut found = Vec::new();
    let mut seen = vec![Seen::Never; edges.len()];
    let mut has_way = vec![false; edges.len()];
    let mut way = vec![(0_usize, 0_usize)];
    seen.first_mut().into_iter().for_each(|first| *first = Seen::OnTheWay);
    while let Some((node, next)) = way.last_mut() {
        let from = *node;
        let to = edges.get(from).and_then(|edges| edges.get(*next)).copied();
        *next = next.saturating_add(1);
        match to.map(|to| (to, seen.get_mut(to))) {
            None => {
                seen.get_mut(from).into_iter().for_each(|seen| *seen = Seen::Done);
                way.pop();
            }
            Some((to, Some(seen @ Seen::Never))) => {
                *seen = Seen::OnTheWay;
                way.push((to, 0));
            }
            Some((to, Some(Seen::OnTheWay))) => {
                let is_first = has_way.get_mut(from).is_some_and(|has| !std::mem::replace(has, true));
                let shown = if is_first { way.as_slice() } else { &[] };
                let way = shown.iter().map(|(node, _)| *node).skip_while(|node| *node != to).collect();
                found.push(Ignored { from, to, way });
            }
            Some((_, Some(Seen::Done) | None)) => {}
        }
    }
    found
}

/// The order in which services end: each after all those that need it, and those that are independent at the same time.
#[derive(Debug, Clone)]
pub struct EndOrder {
    needs: Vec<Vec<usize>>,
    /// How many of those that need it have not ended, for each service.
    waits_for: Vec<usize>,
    has_ended: Vec<bool>,
}

impl EndOrder {
    /// The order for services of which each needs those whose numbers are in `needs`. Cycles are broken by the order of `name`.
    #[must_use]
    pub fn new<N: Ord>(mut needs: Vec<Vec<usize>>, name: impl FnMut(usize) -> N) -> Self {
        for edges in &mut needs {
            sort(edges);
            edges.dedup();
        }
        for Ignored { from, to, .. } in cycles(&needs, name) {
            if let Some(needs) = needs.get_mut(from) {
                needs.retain(|need| *need != to);
            }
        }
        let waits_for = reversed(&needs).iter().map(Vec::len).collect();
        let has_ended = vec![false; needs.len()];
        EndOrder { needs, waits_for, has_ended }
    }

    /// Those that may end at once.
    #[must_use]
    pub fn first(&self) -> Vec<usize> {
        let numbered = self.waits_for.iter().enumerate();
        numbered.filter(|(_, waits_for)| **waits_for == 0).map(|(service, _)| service).collect()
    }

    /// A service has ended. Returns those that may end now, since nothing else that needs them is left.
    pub fn ended(&mut self, service: usize) -> Vec<usize> {
        let mut next = Vec::new();
        if self.has_ended.get_mut(service).is_none_or(|ended| std::mem::replace(ended, true)) {
            return next;
        }
        for &need in self.needs.get(service).into_iter().flatten() {
            if let Some(waits_for @ 1..) = self.waits_for.get_mut(need) {
                *waits_for = waits_for.saturating_sub(1);
                if *waits_for == 0 {
                    next.push(need);
                }
            }
        }
        next
    }

    /// Whether all may end: nothing is left to be put in order.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.waits_for.iter().all(|waits_for| *waits_for == 0)
    }

    /// Whether a service may end: all those that need it have ended.
    #[must_use]
    pub fn may_end(&self, service: usize) -> bool {
        self.waits_for.get(service).is_none_or(|waits_for| *waits_for == 0)
    }
}

#[cfg(test)]
mod tests;
