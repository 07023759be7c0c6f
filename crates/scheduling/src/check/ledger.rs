//! The solution as a whole: every pod once, a reason for each that has no place, limits kept, sums right.

use std::collections::{BTreeMap, BTreeSet};

use units::{Amount, Excess, ResourceList, ResourceName, UsdMicrosPerHour};

use super::{Violation, ground::Ground, machines::largest, violation::Sum};
use crate::{Note, OfferingKey, Pool, Snapshot, Target, Unfit};

/// The resource of which every node has one.
const NODES: &str = "nodes";

/// Every pod of the snapshot is placed or unplaced, once, on a node that takes pods and says so; no other pod is.
pub(super) fn accounted_for(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let solution = ground.solution;
    for (key, pod) in &ground.pods {
        match (solution.placed.contains_key(*key), solution.unplaced.contains_key(*key)) {
            (false, false) => violations.push(Violation::Lost { pod: (*key).clone() }),
            (true, true) => violations.push(Violation::Duplicated { pod: (*key).clone() }),
            (true, false) if !pod.invalid.is_empty() => violations.push(Violation::InvalidPod { pod: (*key).clone() }),
            _ => {}
        }
    }
    let named = solution.placed.keys().chain(solution.unplaced.keys());
    let unknown = named.filter(|key| !ground.pods.contains_key(key));
    violations.extend(unknown.map(|pod| Violation::UnknownPod { pod: pod.clone() }));
    let mut listed = BTreeSet::new();
    for (index, node) in solution.new_nodes.iter().enumerate() {
        for pod in &node.pods {
            let here = solution.placed.get(pod).is_some_and(|placement| placement.node == Target::New(index));
            if !listed.insert(pod) || !here {
                violations.push(Violation::Duplicated { pod: pod.clone() });
            }
        }
    }
    for (pod, placement) in &solution.placed {
        let open = match &placement.node {
            Target::New(index) => *index < solution.new_nodes.len(),
            Target::Existing(node) => ground.open(node).is_some(),
        };
        if !open {
            violations.push(Violation::NoSuchNode { pod: pod.clone(), node: placement.node.clone() });
        } else if matches!(placement.node, Target::New(_)) && !listed.contains(pod) {
            violations.push(Violation::Lost { pod: pod.clone() });
        }
    }
}

/// Every unplaced pod has a reason for each pool, or one that holds for all.
pub(super) fn reasons(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for (pod, reasons) in &ground.solution.unplaced {
        let general = |unfit: &Unfit| {
            matches!(
                unfit,
                Unfit::Invalid { .. }
                    | Unfit::NotSupportedYet { .. }
                    | Unfit::NotTried
                    | Unfit::NoPools
                    | Unfit::Gang { .. }
                    | Unfit::ClaimInUse { .. }
            )
        };
        if reasons.is_empty() {
            violations.push(Violation::NoReason { pod: pod.clone(), pool: None });
        } else if !reasons.iter().any(general) {
            let named: BTreeSet<_> = reasons.iter().filter_map(Unfit::pool).collect();
            let silent = ground.pools.keys().filter(|pool| !named.contains(*pool));
            violations.extend(silent.map(|pool| Violation::NoReason { pod: pod.clone(), pool: Some((*pool).clone()) }));
        }
    }
}

/// No pool passes a limit, whatever of the offerings is bought; what adds nothing to a limited resource never does.
pub(super) fn limits(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let capacities: Vec<ResourceList> = ground.looks.iter().map(largest).collect();
    for pool in &ground.snapshot.pools {
        let mine: Vec<&ResourceList> = ground
            .look_of
            .iter()
            .filter(|look| ground.looks[**look].node.pool == pool.key)
            .map(|look| &capacities[*look])
            .collect();
        for (name, limit) in pool.limits.iter().flat_map(ResourceList::iter) {
            let added: i64 = mine.iter().map(|capacity| charged(name, capacity)).fold(0, i64::saturating_add);
            let total = in_use(ground.snapshot, pool, name).saturating_add(added);
            if added > 0 && total > limit.0 {
                let excess = Excess { name: name.clone(), asked: Amount(total), free: limit };
                violations.push(Violation::LimitPassed { pool: pool.key.clone(), excess });
            }
        }
    }
}

/// What a node of this capacity adds to what a limit counts.
fn charged(name: &ResourceName, capacity: &ResourceList) -> i64 {
    if name.as_str() == NODES { 1 } else { capacity.get(name).0 }
}

/// What a limit of the pool counts already.
fn in_use(snapshot: &Snapshot, pool: &Pool, name: &ResourceName) -> i64 {
    let nodes = || snapshot.nodes.iter().filter(|node| node.pool.as_ref() == Some(&pool.key)).count();
    match pool.used.named(name) {
        None if name.as_str() == NODES => i64::try_from(nodes()).unwrap_or(i64::MAX),
        used => used.unwrap_or_default().0,
    }
}

/// Whether the limits of the pool leave room for one more node of this capacity.
pub(super) fn has_room_for_one(snapshot: &Snapshot, pool: &Pool, capacity: &ResourceList) -> bool {
    pool.limits.iter().flat_map(ResourceList::iter).all(|(name, limit)| {
        let added = charged(name, capacity);
        added <= 0 || in_use(snapshot, pool, name).saturating_add(added) <= limit.0
    })
}

/// No more nodes count on an offering as their cheapest than can be bought of it.
pub(super) fn stock(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let mut nodes: BTreeMap<(&OfferingKey, u32), usize> = BTreeMap::new();
    for look in &ground.look_of {
        let look = &ground.looks[*look];
        let Some(form) = look.forms.first() else { continue };
        let offerings = form.labels.machine.iter().flat_map(|machine| &machine.offerings);
        let mut same =
            offerings.filter(|one| one.zone == form.offering.zone && one.capacity_type == form.offering.capacity_type);
        if let Some(remaining) = same.find_map(|one| one.remaining) {
            *nodes.entry((form.offering, remaining)).or_default() += 1;
        }
    }
    for ((offering, remaining), nodes) in nodes {
        if nodes > remaining as usize {
            violations.push(Violation::Overbooked { offering: offering.clone(), nodes, remaining });
        }
    }
}

/// The cost is the sum of the prices, and no bound contradicts it.
pub(super) fn cost(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let solution = ground.solution;
    let cost = solution.new_nodes.iter().map(|node| node.price).sum::<UsdMicrosPerHour>();
    if cost != solution.cost {
        violations.push(Violation::WrongSum { what: Sum::Cost });
    }
    if solution.lower_bound.as_ref().is_some_and(|bound| bound.cost > solution.cost) {
        violations.push(Violation::WrongSum { what: Sum::LowerBound });
    }
}

/// How many new nodes the notes let have fewer alternatives than `minValues` demands.
pub(super) fn relaxed(ground: &Ground<'_>) -> usize {
    let relaxed = |note: &Note| if let Note::MinValuesRelaxed { nodes } = note { *nodes } else { 0 };
    ground.solution.notes.iter().map(relaxed).sum()
}
