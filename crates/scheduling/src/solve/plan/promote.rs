//! Another order for the greedy rule, where it leaves pods without a place that could have one.
//!
//! The rule takes the largest pods first. They may fill the only node that would do for a small one, or take the zone from which
//! others must stay away. So whoever is refused comes first the next time, among the pods of its priority and turn.

use std::{cmp::Reverse, collections::BTreeSet};

use super::super::{Greedy, Queue, Rest};

/// How often. Each time costs as much as the greedy rule, and who is refused for want of room under a limit gains nothing.
const TIMES: usize = 4;

/// The order that leaves the fewest without a place, and what the greedy rule makes of it, if that is better than this plan.
/// `is_nowhere`: whether no place at all would do for such pods.
pub(super) fn in_better_order<'a>(
    start: &Greedy<'a>,
    queue: &Queue<'a>,
    (greedy, rest): (&Greedy<'a>, &Rest<'a>),
    is_nowhere: impl Fn(usize) -> bool,
    stop: &dyn Fn() -> bool,
) -> Option<(Queue<'a>, Greedy<'a>, Rest<'a>)> {
    let refused = |rest: &Rest<'a>| {
        let asked = rest.refused.iter().map(|(_, asked)| *asked);
        asked.filter(|asked| !is_nowhere(*asked)).collect::<BTreeSet<usize>>()
    };
    let (mut best, mut rank) = (None, greedy.rank(rest));
    let (mut first, mut new) = (BTreeSet::new(), refused(rest));
    for _ in 0..TIMES {
        if new.is_empty() || stop() {
            break;
        }
        first.append(&mut new);
        let mut queue = queue.clone();
        queue.sort_by_key(|(pod, asked)| (Reverse(pod.priority), start.search.turns[*asked], !first.contains(asked)));
        let mut attempt = start.clone();
        let rest = attempt.place_all(queue.clone());
        new = &refused(&rest) - &first;
        let placed = attempt.rank(&rest);
        // What it costs is looked for later.
        if rest.untried.is_empty() && placed.0 < rank.0 {
            rank = placed;
            best = Some((queue, attempt, rest));
        }
    }
    best
}
