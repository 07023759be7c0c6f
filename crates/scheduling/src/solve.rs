//! First fit, with everything that depends only on the kind of a pod worked out once per kind.
//!
//! ```text
//! pods ─▶ written alike (kind.rs) ─▶ what they ask for, wish by wish (wishes.rs) ─▶ kinds that no node tells apart
//!                                              │
//!                              groups of related pods (relations.rs, bundles.rs) ─▶ counts by domain (topology.rs)
//! kinds ─▶ search.rs ─▶ find.rs: nodes there are (existing.rs), nodes opened (open.rs, settle.rs)
//!                    ├─▶ make.rs: new nodes of a pool (template.rs) within its limits (limits.rs)
//!                    ├─▶ reasons.rs: no place, and every reason
//!                    └─▶ merge.rs: new nodes that others make needless
//! ```
//!
//! Pods are taken by priority, then the largest first. Each goes to the first node that takes it: ready nodes, nodes in
//! flight, nodes this solve has opened, and at last a new node of the first pool by weight. Within one solve nodes only
//! fill up, so a node that refused a pod for its size, labels, ports, volumes or for pods to be away from refuses every
//! later pod of its kind, and the search goes on where the last one ended. Only spreads and affinities may let a pod in
//! later; nodes are looked through by domain for these, so that only what is allowed now is looked at.
//!
//! Who waits for a volume that one pod alone may use takes no part (exclusive.rs), and groups are planned whole or not at all
//! (gangs.rs).
//!
//! A pod's wishes are demands that are given up one by one while it finds no place.

mod ask;
mod axis;
mod bits;
mod bundles;
mod exclusive;
mod existing;
mod find;
mod gangs;
mod kind;
mod limits;
mod make;
mod map;
mod merge;
mod min_values;
mod named;
mod node_labels;
mod open;
mod plan;
mod reasons;
mod relations;
mod running;
mod search;
mod settle;
mod template;
mod topology;
mod twins;
mod wishes;

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use units::{ResourceName, UsdMicrosPerHour};

use self::{axis::Axis, kind::Alike, map::Set, search::Search, topology::Spot};
use crate::{NodeStage, Note, Placement, PlacementReason, Pod, PodKey, Settings, Snapshot, Solution, Target, Unfit};

/// Places the pods of a snapshot.
///
/// # Guarantees
/// Every pod of the snapshot is in [`Solution::placed`] or in [`Solution::unplaced`], there with at least one reason, and
/// with every one of every pool unless the reason is the pod's own. A placed pod fits on its node whichever of the node's
/// offerings is bought, and its spreads, affinities and anti-affinities hold for certain at its turn: the domains that
/// count are decided. No limit is passed whichever are bought. Of a group ([`Pod::gang`]) enough pods have a place, or none gets
/// one. The order of the snapshot's lists does not matter.
///
/// # Assumptions
/// Pods and nodes have distinct keys; the names of a pool's instance types are distinct.
///
/// # Caveats
/// A spread holds when its pod is placed. Pods that count in it and do not demand it themselves come first if they can, for the
/// kube-scheduler reckons with them as soon as they are nominated for a node. Those of lower priority come later and may
/// lie unevenly, and so may those that must be spread, or near somebody, themselves.
pub fn solve(snapshot: &Snapshot, settings: &Settings) -> Solution {
    solve_within(snapshot, settings, &|| false)
}

/// As [`solve`], but no longer than until `stop` says so, which is asked rarely: a guard against a machine that is slower
/// than the work budget assumes. A plan stopped that way is complete, but another run may give another one.
pub fn solve_within(snapshot: &Snapshot, settings: &Settings, stop: &dyn Fn() -> bool) -> Solution {
    let greedy = |snapshot: &Snapshot| by_rule(snapshot, settings);
    let cheapest = |snapshot: &Snapshot| plan::cheapest(snapshot, settings, stop, None);
    let solution = exclusive::apart(snapshot, |snapshot| gangs::whole(snapshot, cheapest, greedy));
    with_bound(snapshot, settings, stop, solution)
}

/// As [`solve_within`], with a plan made before at hand, for the same pods a moment later or for others like them.
///
/// # Guarantees
/// The answer ranks no worse, by pods without a place, those of high priority first, and then by cost, than the earlier plan does when it is carried out
/// again: its pods on its nodes in its order, each node at what it cost then, and the pods that are new by the greedy rule.
/// If the earlier plan is a solution for this snapshot too, that is the earlier plan itself: so more types, a looser limit, a
/// pod gone or a demand dropped never cost more. Twice the pods cost at most twice as much.
///
/// # Caveats
/// What of the earlier plan is not there any more, or breaks a demand now, is planned anew, and the answer may then be
/// dearer. A pod that may go to more domains than before has to be spread over more: there a plan that was one may be none
/// although a demand was dropped. A pod that is given one of its wishes back narrows what its node may be.
pub fn solve_after(snapshot: &Snapshot, settings: &Settings, stop: &dyn Fn() -> bool, previous: &Solution) -> Solution {
    let greedy = |snapshot: &Snapshot| by_rule(snapshot, settings);
    let cheapest = |snapshot: &Snapshot| plan::cheapest(snapshot, settings, stop, Some(previous));
    let solution = exclusive::apart(snapshot, |snapshot| gangs::whole(snapshot, cheapest, greedy));
    with_bound(snapshot, settings, stop, solution)
}

/// Places the pods of a snapshot by the greedy rule alone: the plan to fall back to, and the yardstick of the others.
pub fn solve_greedy(snapshot: &Snapshot, settings: &Settings) -> Solution {
    let greedy = |snapshot: &Snapshot| by_rule(snapshot, settings);
    let solution = exclusive::apart(snapshot, |snapshot| gangs::whole(snapshot, greedy, greedy));
    with_bound(snapshot, settings, &|| true, solution)
}

/// Adds what is proven of a plan of which nothing is proven yet.
fn with_bound(snapshot: &Snapshot, settings: &Settings, stop: &dyn Fn() -> bool, mut solution: Solution) -> Solution {
    if solution.lower_bound.is_none() {
        solution.lower_bound = Some(plan::bound_of_placed(snapshot, settings, stop, &solution));
    }
    solution
}

fn by_rule(snapshot: &Snapshot, settings: &Settings) -> Solution {
    let axis = Axis::of(snapshot);
    let (mut greedy, queue, mut solution) = prepare(snapshot, settings, &axis);
    let rest = greedy.place_all(queue);
    greedy.finish(rest, &mut solution);
    solution
}

/// Pods with the number of those that are alike, in the order of placing.
type Queue<'a> = Vec<(&'a Pod, usize)>;

/// Everything before the first pod is placed.
fn prepare<'a>(snapshot: &'a Snapshot, settings: &'a Settings, axis: &'a Axis) -> (Greedy<'a>, Queue<'a>, Solution) {
    let mut solution = Solution::default();
    if settings.ignore_preferences {
        let wishing = snapshot.pods.iter().filter(|pod| wishes::has_wishes(pod)).count();
        solution.notes.extend((wishing > 0).then_some(Note::PreferencesIgnored { pods: wishing }));
    }
    let pods = in_order(snapshot);
    let keys: Set<&PodKey> = pods.iter().filter(|_| !snapshot.nodes.is_empty()).map(|pod| &pod.key).collect();
    let (numbers, distinct) = Alike::number(&pods);
    let (mut search, asked) = Search::new(snapshot, settings, axis, &distinct, |key| keys.contains(key));
    let mut queue = Vec::new();
    for (pod, number) in pods.into_iter().zip(numbers) {
        match &asked[number] {
            Ok(asked) => queue.push((pod, *asked)),
            Err(unfit) => {
                solution.unplaced.insert(pod.key.clone(), unfit.clone());
            }
        }
    }
    queue.sort_by_key(|(pod, asked)| (Reverse(pod.priority), search.turns[*asked]));
    search.expect_pods(queue.iter().map(|(_, asked)| *asked));
    search.expect_domains(queue.iter().map(|(_, asked)| *asked));
    let given_up = vec![0; numbers_of(&queue)];
    (Greedy { search, placed: Vec::new(), relaxed: 0, given_up }, queue, solution)
}

/// How many numbers of pods written alike there are.
fn numbers_of(queue: &Queue<'_>) -> usize {
    queue.iter().map(|(_, asked)| asked + 1).max().unwrap_or(0)
}

/// By priority, the highest first; then the largest: cpu, then memory; then the oldest; then by name.
fn in_order(snapshot: &Snapshot) -> Vec<&Pod> {
    let (cpu, memory) = (ResourceName::cpu(), ResourceName::memory());
    let mut pods: Vec<_> = snapshot
        .pods
        .iter()
        .map(|pod| {
            let size = (pod.priority, pod.requests.get(&cpu), pod.requests.get(&memory));
            (Reverse(size), pod.created_at_unix_seconds, &pod.key, &pod.uid, Arc::as_ref(pod))
        })
        .collect();
    pods.sort_by(|a, b| (a.0, a.1, a.2, a.3).cmp(&(b.0, b.1, b.2, b.3)));
    let mut seen = Set::default();
    pods.into_iter().map(|(.., pod)| pod).filter(|pod| seen.insert(&pod.key)).collect()
}

/// How often, when nothing moves any more, one group of pods that must be near each other is let begin before the rest of
/// it has a place. After that all are.
const PATIENCE: usize = 16;

/// What makes a plan better: fewer pods without a place, those of the highest priority before all others; then less money.
/// The priorities of those pods, the highest first, and the cost.
type Rank = (Vec<i32>, UsdMicrosPerHour);

/// The greedy rule at work.
#[derive(Clone)]
struct Greedy<'a> {
    search: Search<'a>,
    placed: Vec<(&'a PodKey, Placement)>,
    /// How many pods were placed without some of their wishes.
    relaxed: usize,
    /// By number of pods written alike: how many wishes they gave up together.
    given_up: Vec<u32>,
}

/// The pods that found no place.
struct Rest<'a> {
    refused: Queue<'a>,
    untried: Vec<&'a Pod>,
}

impl<'a> Greedy<'a> {
    /// Tries every pod, and those that were refused again as long as that places any: a pod may have waited for others to
    /// be near to, and a node that took pods may have become smaller than its pool's limit was charged for.
    fn place_all(&mut self, mut queue: Queue<'a>) -> Rest<'a> {
        let mut waited = 0;
        loop {
            let before = queue.len();
            let mut refused = Vec::new();
            let mut pods = queue.into_iter();
            for (pod, asked) in pods.by_ref() {
                if self.search.work >= self.search.settings.budget_work_units {
                    let untried = std::iter::once(pod).chain(pods.map(|(pod, _)| pod)).collect();
                    // What was refused keeps its reasons: those are true whatever comes later.
                    return Rest { refused, untried };
                }
                if !self.is_put(pod, asked) {
                    refused.push((pod, asked));
                }
            }
            let may_change = refused.iter().any(|(_, asked)| self.search.may_change(*asked));
            let moved = refused.len() < before;
            let search = &mut self.search;
            let goes_on =
                |search: &mut Search<'_>| search.topology.stop_waiting(waited >= PATIENCE) || search.stop_expecting();
            if !may_change || !(moved || goes_on(search)) {
                return Rest { refused, untried: Vec::new() };
            }
            waited += usize::from(!moved);
            self.search.try_again();
            queue = refused;
        }
    }

    /// Puts a pod where the rule does, if anywhere.
    fn is_put(&mut self, pod: &'a Pod, asked: usize) -> bool {
        self.place(pod, asked).map(|placement| self.has_put(pod, asked, placement)).is_some()
    }

    /// Notes where a pod has been put.
    fn has_put(&mut self, pod: &'a Pod, asked: usize, placement: Placement) {
        self.search.has_place(asked);
        self.placed.push((&pod.key, placement));
    }

    /// Places a pod with as many of its wishes as can be.
    fn place(&mut self, pod: &'a Pod, asked: usize) -> Option<Placement> {
        let mut given_up = 0;
        while let Some(kind) = self.search.kind(asked, given_up) {
            if let Some(placement) = self.place_kind(pod, kind) {
                self.note_given_up(asked, given_up);
                return Some(placement);
            }
            given_up += 1;
        }
        None
    }

    /// Counts a pod that is placed without so many of its wishes.
    fn note_given_up(&mut self, asked: usize, wishes: usize) {
        self.relaxed += usize::from(wishes > 0 || self.search.is_in_vain(asked));
        self.given_up[asked] += u32::try_from(wishes).unwrap_or(u32::MAX);
    }

    fn place_kind(&mut self, pod: &'a Pod, kind: usize) -> Option<Placement> {
        let search = &mut self.search;
        if search.kinds[kind].refused_at == Some(search.placed()) {
            // Nothing has changed since.
            search.work += 1;
            return None;
        }
        let placement = match search.company(kind) {
            Some(group) => self.beside(pod, kind, group),
            None => self.anywhere(pod, kind),
        };
        if placement.is_none() {
            self.search.kinds[kind].refused_at = Some(self.search.placed());
        }
        placement
    }

    fn beside(&mut self, pod: &'a Pod, kind: usize, group: usize) -> Option<Placement> {
        match self.search.find_beside(kind, group)? {
            (Spot::Existing(index), _) => Some(self.on_existing(kind, index)),
            (Spot::Open(index), fit) => {
                self.search.put_on_open(kind, index, fit.expect("what fits on an opened node says how"), pod);
                Some(Placement {
                    node: Target::New(index),
                    why: PlacementReason::RoomOnNewNode,
                    turn: self.placed.len(),
                })
            }
        }
    }

    fn anywhere(&mut self, pod: &'a Pod, kind: usize) -> Option<Placement> {
        let search = &mut self.search;
        if let Some(index) = search.find_existing(kind) {
            return Some(self.on_existing(kind, index));
        }
        if let Some((index, fit)) = search.find_open(kind) {
            search.put_on_open(kind, index, fit, pod);
            return Some(Placement {
                node: Target::New(index),
                why: PlacementReason::RoomOnNewNode,
                turn: self.placed.len(),
            });
        }
        let index = search.open_for(kind, pod)?;
        Some(Placement { node: Target::New(index), why: PlacementReason::OpensNode, turn: self.placed.len() })
    }

    fn on_existing(&mut self, kind: usize, index: usize) -> Placement {
        self.search.put_on_existing(kind, index);
        let node = self.search.existing[index].node;
        let why = match node.stage {
            NodeStage::Ready => PlacementReason::RoomOnReadyNode,
            NodeStage::InFlight | NodeStage::Leaving => PlacementReason::RoomOnNodeInFlight,
        };
        Placement { node: Target::Existing(node.key.clone()), why, turn: self.placed.len() }
    }

    fn rank(&self, rest: &Rest<'_>) -> Rank {
        let cost = (0..self.search.open.len()).map(|index| self.search.bought(index).0.price).sum();
        let mut without: Vec<i32> = rest
            .refused
            .iter()
            .map(|(pod, _)| *pod)
            .chain(rest.untried.iter().copied())
            .map(|pod| pod.priority)
            .collect();
        without.sort_unstable_by_key(|priority| Reverse(*priority));
        (without, cost)
    }

    fn finish(self, rest: Rest<'a>, solution: &mut Solution) {
        let Self { mut search, placed, relaxed, .. } = self;
        let mut notes = Vec::new();
        if relaxed > 0 {
            notes.push(Note::PreferencesRelaxed { pods: relaxed });
        }
        let short = search.open.iter().filter(|node| node.lacks_values(&search.templates[node.template])).count();
        if short > 0 {
            notes.push(Note::MinValuesRelaxed { nodes: short });
        }
        if !rest.untried.is_empty() {
            notes.push(Note::BudgetExhausted { pods: rest.untried.len() });
        }
        solution.notes.extend(notes);
        for pod in rest.untried {
            solution.unplaced.insert(pod.key.clone(), vec![Unfit::NotTried]);
        }
        let mut reasons: BTreeMap<usize, Vec<Unfit>> = BTreeMap::new();
        for (pod, asked) in rest.refused {
            let kind = search.least_kind(asked);
            let reasons = reasons.entry(kind).or_insert_with(|| search.reasons(kind));
            let mut reasons = reasons.clone();
            for reason in &mut reasons {
                reason.name_volumes(pod);
            }
            solution.unplaced.insert(pod.key.clone(), reasons);
        }
        let Search { open, templates, settings, .. } = search;
        solution.placed = placed.into_iter().map(|(key, placement)| (key.clone(), placement)).collect();
        solution.new_nodes = open.into_iter().map(|node| node.finish(&templates, settings.max_alternatives)).collect();
        solution.cost = solution.new_nodes.iter().map(|node| node.price).sum::<UsdMicrosPerHour>();
    }
}

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod company_tests;
#[cfg(test)]
mod counting_tests;
#[cfg(test)]
mod domain_tests;
#[cfg(test)]
mod exclusive_tests;
#[cfg(test)]
mod gang_tests;
#[cfg(test)]
mod label_tests;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod reason_tests;
#[cfg(test)]
mod stock_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod topology_tests;
#[cfg(test)]
mod twin_tests;
#[cfg(test)]
mod wish_tests;
