//! Every order of a small group, until one is found.

use std::collections::BTreeSet;

use super::{
    counters::{Behaviour, State},
    forward::Queue,
};

/// How many pods a group may have to be searched wholly.
const PODS: usize = 24;

/// How many partial placements are looked at. With the sizes above, a fraction of a second at most.
const STATES: usize = 20_000;

/// Whether some order is found. Nothing is placed before or after.
pub(super) fn exists(queues: &mut [Queue<'_, '_>], behaviours: &[Behaviour], state: &mut State<'_>) -> bool {
    queues.iter().map(Queue::left).sum::<usize>() <= PODS && search(queues, behaviours, state, &mut BTreeSet::new())
}

fn search(
    queues: &mut [Queue<'_, '_>],
    behaviours: &[Behaviour],
    state: &mut State<'_>,
    dead: &mut BTreeSet<Vec<usize>>,
) -> bool {
    let waits = |queue: &Queue<'_, '_>| behaviours[queue.behaviour].demands() && queue.left() > 0;
    if !queues.iter().any(waits) {
        return true;
    }
    let left = queues.iter().flat_map(|queue| queue.classes.iter().map(|class| class.left)).collect();
    if dead.len() >= STATES || !dead.insert(left) {
        return false;
    }
    for queue in 0..queues.len() {
        let behaviour = &behaviours[queues[queue].behaviour];
        for class in 0..queues[queue].classes.len() {
            let (site, left) = (queues[queue].classes[class].site, queues[queue].classes[class].left);
            if left == 0 || state.refusal(behaviour, site).is_some() {
                continue;
            }
            state.add(behaviour, site);
            queues[queue].classes[class].left -= 1;
            let found = search(queues, behaviours, state, dead);
            queues[queue].classes[class].left += 1;
            state.remove(behaviour, site);
            if found {
                return true;
            }
        }
    }
    false
}
