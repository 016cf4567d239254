//! Services that need each other in a cycle: one of these needs is ignored.

use std::time::Duration;

use super::super::{Host, Place};
use super::Waiting;
use crate::moment::Moment;
use crate::needs::neighbour::believed_by;
use crate::needs::{has_cycle, survey};
use crate::trust;

/// How long a service waits before it is looked for a cycle; each pause before the next look is twice as long.
pub(super) const CYCLE_FIRST: Duration = Duration::from_millis(300);
/// A look for a cycle goes no further than one service for so many milliseconds of the pause after it: in a long chain under
/// `runsvdir`, every service that waits looks at all those before it.
const CYCLE_MILLIS_PER_SERVICE: usize = 20;
/// Tells that the first of the services with these `names` is not waited for, since they need each other in a cycle; and nor are
/// `others`. Of a long cycle only the ends are shown.
fn cycle_message(names: &[Vec<u8>], others: usize) -> Vec<u8> {
    const SHOWN: usize = 6;
    let first = names.first().map(Vec::as_slice).unwrap_or_default();
    let mut way: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    if way.len() > SHOWN {
        let after = way.len().saturating_sub(SHOWN / 2);
        way.splice(SHOWN / 2..after, [b"...".as_slice()]);
    }
    way.push(first);
    let way = way.join(b" needs ".as_slice());
    let mut what = [b"not waiting for ", first, b", since that is a cycle: ", &way].concat();
    match others {
        0 => {}
        1 => what.extend(b"; nor for 1 other"),
        _ => what.extend(format!("; nor for {others} others").into_bytes()),
    }
    what
}

impl Host {
    /// Whether all that wait need only services of this host, and no cycle of them. This is found out without reading a file; `false`
    /// if the files of other services may matter.
    fn has_no_cycle(&self) -> bool {
        let waiting = |place: Place| self.places.get(place)?.as_ref()?.waiting.as_ref();
        let mut edges = vec![Vec::new(); self.places.len()];
        for (place, edges) in edges.iter_mut().enumerate() {
            let needs = waiting(place).map(|waiting| waiting.needs.as_slice()).unwrap_or_default();
            for needed in needs.iter().filter(|needed| !needed.is_ignored) {
                let Some(to) = needed.place else { return false };
                let Some(service) = self.get(to) else { return false };
                // One that runs waits for nobody.
                let is_plain = service.known().status.pid.is_some() || !service.has_needs();
                if waiting(to).is_none() && !is_plain {
                    return false;
                }
                edges.push(to);
            }
        }
        !has_cycle(&edges)
    }

    /// Finds the needs of all that wait which close a cycle. They are ignored from now on.
    pub(super) fn look_for_cycles(&mut self, now: Moment) {
        if self.has_no_cycle() {
            for waiting in self.places.iter_mut().flatten().filter_map(|hosted| hosted.waiting.as_mut()) {
                waiting.look_again_for_cycles(now);
            }
            return;
        }
        let mut paths = Vec::new();
        let mut believed = trust::ours().to_vec();
        let mut waiting_at = Vec::new();
        let mut pause_max = CYCLE_FIRST;
        for (place, hosted) in self.places.iter_mut().enumerate() {
            let Some(hosted) = hosted else { continue };
            let Some(waiting) = &mut hosted.waiting else { continue };
            pause_max = pause_max.max(waiting.cycles.1);
            waiting.look_again_for_cycles(now);
            let own = waiting.believed.get_or_insert_with(|| believed_by(hosted.service.directory()));
            believed.extend(own.iter().filter(|user| !believed.contains(user)).collect::<Vec<_>>());
            paths.push(hosted.path().to_vec());
            waiting_at.push(place);
        }
        let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
        let most = usize::try_from(pause_max.as_millis()).unwrap_or(usize::MAX) / CYCLE_MILLIS_PER_SERVICE;
        let Some(ignored) = survey::ignored(&paths, &believed, most) else { return };
        for (place, ignored) in waiting_at.into_iter().zip(ignored) {
            let Some(Some(hosted)) = self.places.get_mut(place) else { continue };
            let Some(waiting) = &mut hosted.waiting else { continue };
            let (mut count, mut is_new) = (0_usize, false);
            for needed in &mut waiting.needs {
                if ignored.paths.binary_search_by(|path| path.as_slice().cmp(needed.path.to_bytes())).is_err()
                {
                    continue;
                }
                count = count.saturating_add(1);
                if !std::mem::replace(&mut needed.is_ignored, true) {
                    waiting.look_at = Some(Moment::START);
                }
                if !hosted.told_cycles.contains(&needed.need.name) {
                    hosted.told_cycles.push(needed.need.name.clone());
                    is_new = true;
                }
            }
            if is_new {
                hosted.service.warn_of_need(&cycle_message(&ignored.names, count.saturating_sub(1)), None);
            }
            if waiting.look_at == Some(Moment::START) {
                self.note(place);
            }
        }
    }
}

impl Waiting {
    /// It was looked for cycles now: when to do that again.
    fn look_again_for_cycles(&mut self, now: Moment) {
        let (_, pause) = self.cycles;
        self.cycles = (now.saturating_add(pause), pause.saturating_mul(2));
    }
}
