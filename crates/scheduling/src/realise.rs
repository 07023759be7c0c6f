//! What becomes of a plan when the kube-scheduler, not we, places the pods.
//!
//! ```text
//! Snapshot + Solution ──▶ World: the nodes there are and those planned, each as its cheapest offering
//!                           │
//!     pods in queue order ──▶ nominated node first ─▶ filters ─▶ scores ─▶ best node  ──▶ placed │ stranded
//!                                                                                                    │
//!                            planned cost  +  what solve_greedy asks for the stranded  =  realised cost
//! ```
//!
//! A tight plan is one placement among many. The scheduler does not know it, prefers empty nodes, and may use the room
//! meant for a large pod up for small ones; the large pod is then stranded and a second machine bought for it.
//! [`realise`] plays that through, [`nominations`] says how to prevent it.
//!
//! # What is simulated
//!
//! kube-scheduler 1.36 with its default profile, when all planned nodes are there at once. Order: PrioritySort, ties by
//! chance. Filters: node selector and affinity, taints, resources and pod slots, host ports, volume zones and attachment
//! limits, DoNotSchedule spread, required affinity and anti-affinity between pods. Scores: LeastAllocated,
//! BalancedAllocation, soft taints, preferred node affinity, preferred affinity between pods, ScheduleAnyway spread and
//! the system's default spread for pods of ReplicaSets and StatefulSets, with the default weights; the share of nodes that
//! are looked at in large clusters; ties by chance. Chance follows from the seed.
//!
//! Not simulated: preemption, images that are there already, extenders and other profiles, dynamic resources, reuse of
//! scores for equal pods in a row, and that requests are known per pod here, not per container, where absent ones are
//! presumed. A pod owned by a controller is taken to be selected by that controller alone.
//!
//! # What `status.nominatedNodeName` can be relied on for
//!
//! Read in the source of kube-scheduler 1.36.3 and tried on it:
//!
//! - A pod with the field set is tried on that node first and, if it passes the filters there, goes there without scoring.
//! - What it asks for is kept on that node against pods of equal and lower priority; pods of higher priority take it.
//! - The field is a preference: a pod that does not fit there goes through all nodes as any other.
//! - Whoever may patch `pods/status` can write it; no feature gate stands before that. On a bound pod the API server refuses
//!   it (422), and it clears it on binding (`ClearingNominatedNodeNameAfterBinding`, beta and on since 1.35).
//! - Since 1.35 (and before 1.34) the scheduler clears the field whenever an attempt to place the pod fails, also when the node
//!   is not there yet or still has a startup taint. Any node that opens makes the pods that might fit it be attempted, and
//!   a nomination for a node still closed is lost by that. A cleared nomination counts as a pod that has left: it makes the
//!   scheduler attempt every pending pod of equal or lower priority again, and those lose theirs too.
//! - So: nominate a node's pods when it is registered and ready but still closed by a taint of ours; look that the
//!   nominations are still there; then take the taint away. Do not nominate for nodes that are not about to open.
//! - KEP-5278 as of 1.35 has taken the use by others than the scheduler out of its scope: it works, but is not promised, and
//!   what the scheduler has set itself (after preemption, while binding) must not be overwritten.
//!
//! Tried with 911 and 1,000 pods planned on 47 and 48 nodes without slack: with all nodes open at once 1.8 to 2.1 % of the
//! pods were stranded by the scheduler itself (1.7 to 2.2 % here), with nominations none, and every pod was where it was
//! planned. With one node after another every two seconds 14 to 15 % were stranded (16 to 17 % here), and with nominations
//! written just before each node opened 0.6 to 0.8 %, most likely for nominations that were lost before their node opened.

mod counters;
mod dice;
mod kind;
mod queue;
mod relations;
mod score;
#[cfg(test)]
mod tests;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use units::{Amount, ResourceName, UsdMicrosPerHour};

use self::{queue::Scheduler, world::World};
use crate::{Node, NodeKey, NodeStage, PodKey, Settings, Snapshot, Solution, Target, solve_greedy};

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Realised {
    /// Where the scheduler put each pod that it could place, planned ones and others.
    pub placed: BTreeMap<PodKey, Target>,
    /// The pods that have a place in the plan and found none, by key.
    pub stranded: Vec<PodKey>,
    /// The stranded pods that no second plan has a place for either.
    pub unplaced: Vec<PodKey>,
    /// How many nodes the second plan adds.
    pub second_nodes: usize,
    /// What the plan costs.
    pub planned_cost: UsdMicrosPerHour,
    /// What it costs together with the nodes bought for the stranded pods.
    pub realised_cost: UsdMicrosPerHour,
}

/// When the planned nodes, and those under way, begin to take pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Opening {
    /// All before the first pod is tried.
    #[default]
    Together,
    /// One after another in a random order. Each time all pods that wait are tried; a node's pods are nominated just before
    /// it opens. This is nearer to what happens when machines boot and the controller nominates as said above.
    OneByOne,
}

/// Lets the scheduler place the pods of a snapshot on its nodes and on those of the solution.
///
/// # Guarantees
/// The same input, in any order, gives the same bytes. No pod is placed where the filters named above refuse it.
///
/// # Assumptions
/// The solution is one of this snapshot and passes [`crate::check::check`]. Of every new node the cheapest offering is
/// bought, and all open together.
pub fn realise(snapshot: &Snapshot, solution: &Solution, seed: u64) -> Realised {
    realise_nominated(snapshot, solution, &BTreeMap::new(), Opening::Together, seed)
}

/// As [`realise`], with these pods nominated for these nodes, which open as said. Nominations of unknown pods or for
/// unknown nodes are ignored.
pub fn realise_nominated(
    snapshot: &Snapshot,
    solution: &Solution,
    nominations: &BTreeMap<PodKey, Target>,
    opening: Opening,
    seed: u64,
) -> Realised {
    let (placed, stranded) = first_wave(snapshot, solution, nominations, opening, seed);
    let second = if stranded.is_empty() {
        Solution::default()
    } else {
        solve_greedy(&second_wave(snapshot, solution, &placed, &stranded), &Settings::default())
    };
    Realised {
        placed,
        stranded,
        unplaced: second.unplaced.into_keys().collect(),
        second_nodes: second.new_nodes.len(),
        planned_cost: solution.cost,
        realised_cost: [solution.cost, second.cost].into_iter().sum(),
    }
}

/// The plan's own node for every pod that it places on a node that is still closed: a new one, or one under way. Who goes to
/// a node that takes pods already is as likely to be there before anybody could nominate it.
///
/// Where all are nominated the scheduler's order and scores no longer matter to resources, slots and ports: what is kept for
/// a pod is there when its turn comes.
///
/// # Caveats
/// What depends on the pods that came before (spread, affinity) still may go wrong. Above all pods that must be spread over
/// zones, of which several are to go to one node: each is refused there as long as the others are nominated for it, because
/// the scheduler counts these as if they had come, and nobody in the other zones; it loses its nomination and what was kept.
///
/// To nominate only the pods that would be stranded does not help: what is kept for them strands others, and on tight plans
/// all but a few percent end up nominated for one order of arrival, and another order strands pods again.
pub fn nominations(snapshot: &Snapshot, solution: &Solution) -> BTreeMap<PodKey, Target> {
    let under_way = snapshot.nodes.iter().filter(|node| node.stage == NodeStage::InFlight);
    let under_way: BTreeSet<&NodeKey> = under_way.map(|node| &node.key).collect();
    let is_closed = |target: &Target| match target {
        Target::New(_) => true,
        Target::Existing(node) => under_way.contains(node),
    };
    let known = snapshot.pods.iter().filter(|pod| pod.invalid.is_empty());
    let planned = known.filter_map(|pod| Some((&pod.key, &solution.placed.get(&pod.key)?.node)));
    planned.filter(|(_, node)| is_closed(node)).map(|(pod, node)| (pod.clone(), node.clone())).collect()
}

/// Where the pods go, and which of the plan go nowhere.
fn first_wave(
    snapshot: &Snapshot,
    solution: &Solution,
    nominations: &BTreeMap<PodKey, Target>,
    opening: Opening,
    seed: u64,
) -> (BTreeMap<PodKey, Target>, Vec<PodKey>) {
    let placed = Scheduler::new(snapshot, World::of(snapshot, solution), nominations, seed).run(opening);
    let stranded = solution.placed.keys().filter(|pod| !placed.contains_key(*pod)).cloned().collect();
    (placed, stranded)
}

/// The snapshot after the first wave: the planned nodes are under way with the pods they got, the stranded pods wait.
fn second_wave(
    snapshot: &Snapshot,
    solution: &Solution,
    placed: &BTreeMap<PodKey, Target>,
    stranded: &[PodKey],
) -> Snapshot {
    let mut after = snapshot.clone();
    let pods: BTreeMap<&PodKey, _> = snapshot.pods.iter().map(|pod| (&pod.key, pod)).collect();
    let mut on: BTreeMap<&Target, Vec<_>> = BTreeMap::new();
    for (key, target) in placed {
        on.entry(target).or_default().extend(pods.get(key).map(|pod| Arc::clone(pod)));
    }
    for node in &mut after.nodes {
        node.pods.extend(on.remove(&Target::Existing(node.key.clone())).unwrap_or_default());
    }
    for site in World::of(snapshot, solution).sites {
        let Target::New(index) = site.target else { continue };
        let planned = &solution.new_nodes[index];
        let Some((_, machine)) = world::cheapest(snapshot, planned) else { continue };
        after.nodes.push(Node {
            key: NodeKey(world::future_name(index)),
            pool: Some(planned.pool.clone()),
            stage: NodeStage::InFlight,
            labels: site.labels,
            taints: site.taints,
            startup_taints: Vec::new(),
            allocatable: machine.allocatable(),
            pods: on.remove(&site.target).unwrap_or_default(),
            volume_limits: BTreeMap::new(),
            price: Some(planned.price),
        });
        if let Some(pool) = after.pools.iter_mut().find(|pool| pool.key == planned.pool) {
            pool.used.add(&machine.capacity);
            let nodes = ResourceName::new("nodes");
            if let Some(count) = pool.used.named(&nodes) {
                pool.used.set(nodes, count.saturating_add(Amount(1)));
            }
        }
    }
    after.pods = stranded.iter().filter_map(|key| pods.get(key)).map(|pod| Arc::clone(pod)).collect();
    after
}
