//! Some of the pods first, and the others beside them.
//!
//! Where limits leave no room for all, a plan for all may give it to the wrong ones: to pods of lower priority, or to so many of
//! each kind that those that must be spread, or be beside others, find none. A plan for fewer pods does not, and is a beginning
//! of one for all.

use std::collections::{BTreeMap, BTreeSet};

use super::{super::Queue, Task, best::Best};
use crate::{Pod, PodKey, Snapshot};

/// Of fewer pods than this, part of them is no better a beginning; of more it takes too long.
const FEWEST: usize = 12;
const MOST: usize = 10_000;
/// So many priorities are looked at, the highest of which pods are left out first.
const LEVELS: usize = 4;

/// The snapshot with the pods alone that are to be planned first, for each way that may give more of them a place: those of no less
/// than some priority, half of all, or three quarters (unless these are a part already: its parts are halves).
pub(super) fn first(task: &Task<'_, '_>, best: &Best<'_>, snapshot: &Snapshot, is_part: bool) -> Vec<Snapshot> {
    let queue = task.queue;
    if queue.len() > MOST || task.start.search.templates.iter().all(|template| template.limits.is_empty()) {
        return Vec::new();
    }
    let could = |asked: usize| !task.reach.is_nowhere(task.stages.least[asked]);
    let left_out = best.rest.refused.iter().filter(|(_, asked)| could(*asked));
    let Some(highest) = left_out.map(|(pod, _)| pod.priority).max() else { return Vec::new() };
    let mut parts: Vec<Queue<'_>> = Vec::new();
    // A plan that has a place for these may leave some of the next priority out for others.
    let levels: BTreeSet<i32> = queue.iter().map(|(pod, _)| pod.priority).filter(|level| *level <= highest).collect();
    for level in levels.into_iter().skip(1).rev().take(LEVELS) {
        parts.push(queue.iter().filter(|(pod, _)| pod.priority >= level).copied().collect());
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
        parts.push(queue.iter().filter(|one| is_first(one)).copied().collect());
    }
    parts.iter().map(|pods| only(snapshot, pods)).collect()
}

/// The snapshot with these of the pods to place alone.
pub(super) fn only(snapshot: &Snapshot, pods: &Queue<'_>) -> Snapshot {
    let pods: BTreeSet<&PodKey> = pods.iter().map(|(pod, _)| &pod.key).collect();
    let mut part = snapshot.clone();
    part.pods.retain(|pod| pods.contains(&pod.key));
    part
}
