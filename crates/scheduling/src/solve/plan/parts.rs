//! Some of the pods first, and the others beside them.
//!
//! Where limits leave no room for all, a plan for all may give it to the wrong ones: to pods of lower priority, or to so many of
//! each kind that those that must be spread, or be beside others, find none. A plan for fewer pods does not, and is a beginning
//! of one for all.

use std::collections::{BTreeMap, BTreeSet};

use super::{Task, best::Best};
use crate::{Pod, PodKey, Snapshot};

/// Of fewer pods than this, part of them is no better a beginning; of more it takes too long.
const FEWEST: usize = 12;
const MOST: usize = 10_000;

/// The pods to be planned first, if that may give more of them a place: those of high priority, half of all, or three quarters
/// (unless these are a part already: its parts are halves).
pub(super) fn first<'a>(task: &Task<'_, 'a>, best: &Best<'a>, is_part: bool) -> Vec<BTreeSet<&'a PodKey>> {
    let queue = task.queue;
    if queue.len() > MOST || task.start.search.templates.iter().all(|template| template.limits.is_empty()) {
        return Vec::new();
    }
    let could = |asked: usize| !task.reach.is_nowhere(task.stages.least[asked]);
    let left_out = best.rest.refused.iter().filter(|(_, asked)| could(*asked));
    let left_out: BTreeMap<&PodKey, i32> = left_out.map(|(pod, _)| (&pod.key, pod.priority)).collect();
    let Some(highest) = left_out.values().max() else { return Vec::new() };
    let mut parts = Vec::new();
    let high: BTreeSet<&PodKey> =
        queue.iter().filter(|(pod, _)| pod.priority >= *highest).map(|(pod, _)| &pod.key).collect();
    if queue.iter().any(|(pod, _)| pod.priority < *highest && !left_out.contains_key(&pod.key)) {
        parts.push(high);
    }
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, asked) in queue {
        *counts.entry(*asked).or_default() += 1;
    }
    let quarters = if is_part { &[2][..] } else { &[2, 3] };
    for quarters in quarters.iter().filter(|_| queue.len() >= FEWEST) {
        // So many of each kind, and so many of all.
        let mut seen = 0;
        let part = |(asked, count): (&usize, &usize)| {
            let before = seen * quarters / 4;
            seen += count;
            (*asked, seen * quarters / 4 - before)
        };
        let mut left: BTreeMap<usize, usize> = counts.iter().map(part).collect();
        let mut is_first = |(_, asked): &&(&Pod, usize)| {
            let left = left.get_mut(asked).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        };
        parts.push(queue.iter().filter(|one| is_first(one)).map(|(pod, _)| &pod.key).collect());
    }
    parts
}

/// The snapshot with these of its pods alone.
pub(super) fn only(snapshot: &Snapshot, pods: &BTreeSet<&PodKey>) -> Snapshot {
    let mut part = snapshot.clone();
    part.pods.retain(|pod| pods.contains(&pod.key));
    part
}
