//! First fit, with everything that depends only on the kind of a pod worked out once per kind.
//!
//! Pods are taken largest first. Each goes to the first node that takes it: ready nodes, nodes in flight, nodes this solve
//! has opened in the order of opening, and at last a new node of the first pool by weight. Within one solve nodes only
//! fill up, so a node that refused one pod refuses every later pod of its kind, and the search goes on where the last one
//! ended.

mod affinity;
mod axis;
mod existing;
mod kind;
mod open;
mod template;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use units::{ResourceName, UsdMicrosPerHour};

use self::{
    axis::Axis,
    existing::Existing,
    kind::{Kind, Kinds},
    open::Open,
    template::Template,
};
use crate::{
    NodeRefusals, NodeStage, Note, Placement, PlacementReason, Pod, PodKey, Settings, Snapshot, Solution, Strength,
    Target, Unfit, WhenUnsatisfiable,
};

/// Places the pods of a snapshot.
///
/// # Guarantees
/// Every pod of the snapshot is in [`Solution::placed`] or in [`Solution::unplaced`], there with at least one reason, and
/// with one for every pool unless the reason is the pod's own. A placed pod fits on its node whichever of the node's
/// offerings is bought. No limit is passed whichever are bought. The order of the snapshot's lists does not matter.
///
/// # Assumptions
/// Pods and nodes have distinct keys; the names of a pool's instance types are distinct.
///
/// # Caveats
/// Wishes are ignored with a note. Demands on the placing of pods among each other are kept where the pods bound already
/// decide them and refused as [`Unfit::NotSupportedYet`] where pods of this very solve would.
pub fn solve(snapshot: &Snapshot, settings: &Settings) -> Solution {
    solve_within(snapshot, settings, &|| false)
}

/// As [`solve`], but no longer than until `stop` says so, which is asked rarely: a guard against a machine that is slower
/// than the work budget assumes. A plan stopped that way is complete, but another run may give another one.
pub fn solve_within(snapshot: &Snapshot, settings: &Settings, stop: &dyn Fn() -> bool) -> Solution {
    let _ = stop;
    solve_greedy(snapshot, settings)
}

/// Places the pods of a snapshot by the greedy rule alone: the plan to fall back to, and the yardstick of the others.
pub fn solve_greedy(snapshot: &Snapshot, settings: &Settings) -> Solution {
    let mut solution = Solution { notes: notes(snapshot), ..Solution::default() };
    let pods = in_order(snapshot);
    let axis = Axis::of(snapshot);
    let mut kinds = Kinds::new(&axis);
    let affinity = affinity::Affinity::of(snapshot);
    let mut queue = Vec::new();
    for pod in &pods {
        match affinity.implied_by_bound_pods(pod).and_then(|implied| kinds.of(pod, implied)) {
            Ok(kind) => queue.push((*pod, kind)),
            Err(unfit) => {
                solution.unplaced.insert(pod.key.clone(), unfit);
            }
        }
    }
    let mut search = Search::new(snapshot, settings, &axis, kinds.into_kinds());
    let rest = search.place_all(queue);
    if !rest.untried.is_empty() {
        solution.notes.push(Note::BudgetExhausted { pods: rest.untried.len() });
    }
    for pod in rest.untried {
        solution.unplaced.insert(pod.key.clone(), vec![Unfit::NotTried]);
    }
    for (pod, kind) in rest.refused {
        solution.unplaced.insert(pod.key.clone(), search.reasons(kind));
    }
    search.finish(&mut solution);
    solution
}

/// Largest first: cpu, then memory, descending; then the oldest; then by name.
fn in_order(snapshot: &Snapshot) -> Vec<&Pod> {
    let (cpu, memory) = (ResourceName::cpu(), ResourceName::memory());
    let mut pods: Vec<_> = snapshot
        .pods
        .iter()
        .map(|pod| {
            let size = (pod.requests.get(&cpu), pod.requests.get(&memory));
            (std::cmp::Reverse(size), pod.created_at_unix_seconds, &pod.key, &pod.uid, Arc::as_ref(pod))
        })
        .collect();
    pods.sort_by(|a, b| (a.0, a.1, a.2, a.3).cmp(&(b.0, b.1, b.2, b.3)));
    let mut seen = BTreeSet::new();
    pods.into_iter().map(|(.., pod)| pod).filter(|pod| seen.insert(&pod.key)).collect()
}

fn notes(snapshot: &Snapshot) -> Vec<Note> {
    let wishes = |pod: &&Arc<Pod>| {
        let wish = |term: &crate::PodAffinityTerm| matches!(term.strength, Strength::Preferred { .. });
        !pod.preferred_node_affinity.is_empty()
            || pod.topology_spread.iter().any(|spread| spread.when_unsatisfiable == WhenUnsatisfiable::ScheduleAnyway)
            || pod.pod_affinity.iter().chain(&pod.pod_anti_affinity).any(wish)
    };
    let wishing = snapshot.pods.iter().filter(wishes).count();
    let attaching = snapshot.pods.iter().filter(|pod| !pod.volumes_by_driver.is_empty()).count();
    let mut notes = Vec::new();
    if wishing > 0 {
        notes.push(Note::PreferencesIgnored { pods: wishing });
    }
    if attaching > 0 {
        notes.push(Note::VolumeLimitsIgnored { pods: attaching });
    }
    notes
}

/// The state of one solve.
struct Search<'a> {
    settings: &'a Settings,
    existing: Vec<Existing<'a>>,
    templates: Vec<Template<'a>>,
    open: Vec<Open>,
    kinds: Vec<Kind<'a>>,
    placed: BTreeMap<PodKey, Placement>,
    work: u64,
}

/// The pods that found no place.
struct Rest<'a> {
    refused: Vec<(&'a Pod, usize)>,
    untried: Vec<&'a Pod>,
}

impl<'a> Search<'a> {
    fn new(snapshot: &'a Snapshot, settings: &'a Settings, axis: &'a Axis, kinds: Vec<Kind<'a>>) -> Self {
        let daemons = kind::daemons(snapshot, axis);
        let mut existing: Vec<_> = snapshot
            .nodes
            .iter()
            .filter(|node| node.stage != NodeStage::Leaving)
            .map(|node| Existing::new(node, axis, &daemons))
            .collect();
        existing.sort_by_key(|one| (one.node.stage, &one.node.key));
        let mut pools: Vec<_> = snapshot.pools.iter().collect();
        pools.sort_by_key(|pool| (std::cmp::Reverse(pool.weight), &pool.key));
        let templates = pools.into_iter().map(|pool| Template::new(pool, snapshot, axis, &daemons)).collect();
        Self { settings, existing, templates, open: Vec::new(), kinds, placed: BTreeMap::new(), work: 0 }
    }

    /// Tries every pod, and those that were refused again as long as that places any: a node that took pods may have
    /// become smaller than its pool's limit was charged for.
    fn place_all(&mut self, mut queue: Vec<(&'a Pod, usize)>) -> Rest<'a> {
        loop {
            let before = queue.len();
            let mut refused = Vec::new();
            let mut pods = queue.into_iter();
            for (pod, kind) in pods.by_ref() {
                if self.work >= self.settings.budget_work_units {
                    let untried = std::iter::once(pod).chain(pods.map(|(pod, _)| pod)).collect();
                    // What was refused keeps its reasons: those are true whatever comes later.
                    return Rest { refused, untried };
                }
                match self.place(pod, kind) {
                    Some(placement) => {
                        self.placed.insert(pod.key.clone(), placement);
                    }
                    None => refused.push((pod, kind)),
                }
            }
            let limits_matter = refused.iter().any(|(_, kind)| self.kinds[*kind].met_a_limit());
            if refused.len() == before || !limits_matter {
                return Rest { refused, untried: Vec::new() };
            }
            self.kinds.iter_mut().for_each(Kind::try_pools_again);
            queue = refused;
        }
    }

    fn place(&mut self, pod: &Pod, kind: usize) -> Option<Placement> {
        let existing = self.place_on_existing(kind);
        let (node, why) = if let Some(index) = existing {
            let node = self.existing[index].node;
            let why = match node.stage {
                NodeStage::Ready => PlacementReason::RoomOnReadyNode,
                NodeStage::InFlight | NodeStage::Leaving => PlacementReason::RoomOnNodeInFlight,
            };
            (Target::Existing(node.key.clone()), why)
        } else if let Some(index) = self.place_on_open(pod, kind) {
            (Target::New(index), PlacementReason::RoomOnNewNode)
        } else {
            (Target::New(self.open_for(pod, kind)?), PlacementReason::OpensNode)
        };
        Some(Placement { node, why })
    }

    fn place_on_existing(&mut self, kind: usize) -> Option<usize> {
        let kind = &mut self.kinds[kind];
        for index in kind.next_existing..self.existing.len() {
            self.work += 1;
            match self.existing[index].take(kind) {
                Ok(()) => {
                    kind.next_existing = index;
                    return Some(index);
                }
                Err(refusal) => refusal.count_in(&mut kind.refusals),
            }
        }
        kind.next_existing = self.existing.len();
        None
    }

    fn place_on_open(&mut self, pod: &Pod, kind_index: usize) -> Option<usize> {
        let kind = &mut self.kinds[kind_index];
        for index in kind.next_open..self.open.len() {
            self.work += 1;
            let open = &mut self.open[index];
            if open.take(&self.templates[open.template], kind, kind_index, pod) {
                kind.next_open = index;
                return Some(index);
            }
        }
        kind.next_open = self.open.len();
        None
    }

    fn open_for(&mut self, pod: &Pod, kind_index: usize) -> Option<usize> {
        let kind = &mut self.kinds[kind_index];
        while kind.passed.len() < self.templates.len() {
            self.work += 1;
            let index = kind.passed.len();
            match open::open(index, &self.templates[index], &mut self.open, kind, kind_index, pod) {
                Ok(()) => {
                    kind.next_open = self.open.len() - 1;
                    return Some(self.open.len() - 1);
                }
                Err(unfit) => kind.passed.push(unfit),
            }
        }
        None
    }

    /// Why no pod of this kind fits: a reason for each pool and one for the nodes there are, the nearest first.
    fn reasons(&self, kind: usize) -> Vec<Unfit> {
        let kind = &self.kinds[kind];
        let mut reasons = kind.passed.clone();
        if self.templates.is_empty() {
            reasons.push(Unfit::NoPools);
        }
        if kind.refusals != NodeRefusals::default() {
            reasons.push(Unfit::Nodes(kind.refusals));
        }
        // Stable: pools that are equally near stay in the order they were tried.
        reasons.sort_by_key(Unfit::distance);
        reasons
    }

    fn finish(self, solution: &mut Solution) {
        let Self { open, templates, settings, placed, .. } = self;
        solution.placed = placed;
        solution.new_nodes = open.into_iter().map(|node| node.finish(&templates, settings.max_alternatives)).collect();
        solution.cost = solution.new_nodes.iter().map(|node| node.price).sum::<UsdMicrosPerHour>();
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
