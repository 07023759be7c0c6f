//! Groups of pods that are of use only together: a plan has places for as many of each as it needs, or for none of them.
//!
//! Whether a group is whole is known only when everything has been planned. So what is planned is looked at: if a group got some
//! places and too few, it is left out and the others are planned anew, for they may take what it leaves. The group of the
//! lowest priority goes first, of these the youngest, one at a time. After some rounds the greedy rule decides, and all that
//! it tears go at once; with each round there are fewer groups, so it ends.
//!
//! A plan does not know that half a group is of no use, and of pods of one priority it leaves out whom it likes. So at last the most
//! important group that was torn is planned for before the others of its priority, too: if that is worth more, it has its places.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{Pod, PodKey, Snapshot, Solution, Unfit};

/// So many whole plans are made for the sake of groups.
const ROUNDS: usize = 4;

/// The plan without groups that it would tear. `plan` makes one for some of the pods, and `by_rule` does so fast.
pub(super) fn whole(
    snapshot: &Snapshot,
    plan: impl Fn(&Snapshot) -> Solution,
    by_rule: impl Fn(&Snapshot) -> Solution,
) -> Solution {
    let groups = groups(snapshot);
    if groups.is_empty() {
        return plan(snapshot);
    }
    let mut left_out: BTreeMap<PodKey, Vec<Unfit>> = BTreeMap::new();
    for group in groups.iter().filter(|group| group.of() < group.needed as usize) {
        group.leave_out(&Solution::default(), group.of(), &mut left_out);
    }
    let mut rest = snapshot.clone();
    let mut lost = Vec::new();
    let mut round = 0;
    loop {
        rest.pods.retain(|pod| !left_out.contains_key(&pod.key));
        let all = round >= ROUNDS;
        let mut solution = if all { by_rule(&rest) } else { plan(&rest) };
        let mut torn: Vec<_> =
            groups.iter().filter_map(|group| group.torn_by(&solution).map(|found| (group, found))).collect();
        torn.sort_by_key(|(group, _)| group.rank());
        if torn.is_empty() {
            if !left_out.is_empty() {
                // It is one for the pods of the groups that are whole; nobody knows of another choice of groups.
                solution.lower_bound = None;
            }
            let favourite = lost.into_iter().max_by_key(|group: &&Group<'_>| group.rank());
            let favoured = favourite.and_then(|group| with_first(group, &groups, snapshot, &left_out, &plan));
            solution.unplaced.extend(left_out);
            return favoured
                .filter(|one| left_by_priority(snapshot, one) < left_by_priority(snapshot, &solution))
                .unwrap_or(solution);
        }
        for (group, found) in torn.into_iter().take(if all { usize::MAX } else { 1 }) {
            group.leave_out(&solution, found, &mut left_out);
            lost.push(group);
        }
        round += 1;
    }
}

/// The plan in which the group comes before all others of its priority; `None` if it is torn nevertheless, or another one is.
fn with_first(
    group: &Group<'_>,
    groups: &[Group<'_>],
    snapshot: &Snapshot,
    left_out: &BTreeMap<PodKey, Vec<Unfit>>,
    plan: impl Fn(&Snapshot) -> Solution,
) -> Option<Solution> {
    let mine: BTreeSet<&PodKey> = group.pods.iter().map(|pod| &pod.key).collect();
    let (mut others, mut favoured) = (left_out.clone(), snapshot.clone());
    others.retain(|key, _| !mine.contains(key));
    favoured.pods.retain(|pod| !others.contains_key(&pod.key));
    for pod in favoured.pods.iter_mut().filter(|pod| mine.contains(&pod.key)) {
        let pod = Arc::make_mut(pod);
        pod.priority = pod.priority.saturating_add(1);
    }
    let mut solution = plan(&favoured);
    let is_torn = groups.iter().any(|group| group.torn_by(&solution).is_some());
    // What costs least for these priorities is no minimum for the others.
    solution.lower_bound = None;
    solution.unplaced.extend(others);
    (!is_torn).then_some(solution)
}

/// How many pods have no place, by priority, the highest first.
fn left_by_priority(snapshot: &Snapshot, solution: &Solution) -> Vec<usize> {
    let mut left: BTreeMap<Reverse<i32>, usize> = BTreeMap::new();
    for pod in &snapshot.pods {
        *left.entry(Reverse(pod.priority)).or_default() += usize::from(solution.unplaced.contains_key(&pod.key));
    }
    left.into_values().collect()
}

/// A group of which some pods have no place yet.
struct Group<'a> {
    name: &'a str,
    needed: u32,
    running: usize,
    pods: Vec<&'a Pod>,
}

/// Those of the pods to place, by namespace and name.
fn groups(snapshot: &Snapshot) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<(&str, &str), Group<'_>> = BTreeMap::new();
    for pod in snapshot.pods.iter().map(Arc::as_ref) {
        if let Some(gang) = &pod.gang {
            let empty = || Group { name: &gang.name, needed: 0, running: 0, pods: Vec::new() };
            let group = groups.entry((&pod.key.namespace, &gang.name)).or_insert_with(empty);
            // If its pods do not agree, the most is sure to be enough.
            group.needed = group.needed.max(gang.needed);
            group.pods.push(pod);
        }
    }
    if groups.is_empty() {
        return Vec::new();
    }
    let waiting: BTreeSet<&PodKey> = groups.values().flat_map(|group| group.pods.iter().map(|pod| &pod.key)).collect();
    let bound = snapshot.nodes.iter().flat_map(|node| &node.pods);
    for pod in bound.filter(|pod| !pod.terminating && !waiting.contains(&pod.key)) {
        if let Some(gang) = &pod.gang
            && let Some(group) = groups.get_mut(&(pod.key.namespace.as_str(), gang.name.as_str()))
        {
            group.running += 1;
        }
    }
    groups.into_values().collect()
}

impl Group<'_> {
    /// How many pods it has, running or not.
    fn of(&self) -> usize {
        self.running + self.pods.len()
    }

    /// How many of its pods run or have a place, if some have a place and it is no use.
    fn torn_by(&self, solution: &Solution) -> Option<usize> {
        let placed = self.pods.iter().filter(|pod| solution.placed.contains_key(&pod.key)).count();
        let found = self.running + placed;
        (placed > 0 && found < self.needed as usize).then_some(found)
    }

    /// Which group has to go first: the lowest priority, then the youngest, then the last by name.
    fn rank(&self) -> (i32, Reverse<i64>, Reverse<&PodKey>) {
        let priority = self.pods.iter().map(|pod| pod.priority).max().unwrap_or_default();
        let created = self.pods.iter().map(|pod| pod.created_at_unix_seconds).min().unwrap_or_default();
        let first = self.pods.iter().map(|pod| &pod.key).min().expect("a group is made for a pod");
        (priority, Reverse(created), Reverse(first))
    }

    /// Says of its pods that there was a place for so many only, and of those without one what was in their way.
    fn leave_out(&self, solution: &Solution, found: usize, left_out: &mut BTreeMap<PodKey, Vec<Unfit>>) {
        for pod in &self.pods {
            let group = self.name.to_owned();
            let mut reasons = vec![Unfit::Gang { group, needed: self.needed, found, of: self.of() }];
            reasons.extend(solution.unplaced.get(&pod.key).into_iter().flatten().cloned());
            left_out.insert(pod.key.clone(), reasons);
        }
    }
}
