//! The best plan of a small problem, by trying every one; what is possible is the checker's word alone.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use requirements::labels;
use units::{ResourceList, UsdMicrosPerHour};

use super::node;
use crate::{
    InstanceType, NewNode, Offering, OfferingKey, Placement, PlacementReason, Pod, Pool, PricedOffering, Snapshot,
    Solution, Target, Unfit, WhenUnsatisfiable, check::check,
};

/// How good the best plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Best {
    /// The most pods that can be placed.
    pub(crate) placed: usize,
    /// The least that this costs.
    pub(crate) cost: UsdMicrosPerHour,
}

/// A new node of the pool that is one machine, with all that follows.
pub(crate) fn planned(pool: &Pool, machine: &InstanceType, offering: &Offering, pods: &[&Pod]) -> NewNode {
    let key = OfferingKey {
        instance_type: machine.name.clone(),
        zone: offering.zone.clone(),
        capacity_type: offering.capacity_type,
    };
    let mut requests = ResourceList::new();
    for pod in pods {
        requests.add(&pod.requests);
    }
    let mut labels = pool.labels.clone();
    labels.insert(pool.key.kind.label().to_owned(), pool.key.name.clone());
    for requirement in pool.requirements.iter() {
        let decided = labels.contains_key(requirement.key()) || machine.requirements.get(requirement.key()).is_some();
        if let (false, Some(only)) = (decided, requirement.single()) {
            labels.insert(requirement.key().to_owned(), only.to_owned());
        }
    }
    NewNode {
        pool: pool.key.clone(),
        requirements: pool.requirements.clone(),
        offerings: vec![PricedOffering { key, price: offering.price }],
        labels,
        taints: pool.taints.clone(),
        startup_taints: pool.startup_taints.clone(),
        requests,
        capacity: machine.capacity.clone(),
        pods: pods.iter().map(|pod| pod.key.clone()).collect(),
        price: offering.price,
        why: Vec::new(),
    }
}

/// The most pods that any plan places, and the least that costs; `None` if more than so many plans had to be looked at.
///
/// For problems of at most six pods, without daemons, without `minValues`, and with pools that leave no label open but the
/// machines': one value of it would have to be picked.
pub(crate) fn best(snapshot: &Snapshot, budget: u32) -> Option<Best> {
    best_beyond(snapshot, Best { placed: 0, cost: UsdMicrosPerHour::ZERO }, budget)
}

/// As [`best`], where a plan as good as `known` is known: only what could be better is looked at, so that larger problems are
/// within the budget. `known` if nothing is better.
pub(crate) fn best_beyond(snapshot: &Snapshot, known: Best, budget: u32) -> Option<Best> {
    assert!(snapshot.pods.len() <= 6 && snapshot.daemons.is_empty(), "small problems only");
    let machines = snapshot.pools.iter().flat_map(|pool| {
        let of = move |machine: &'_ InstanceType| machine.offerings.iter().filter(|one| one.available).count();
        pool.instance_types.iter().map(of)
    });
    assert!(machines.sum::<usize>() <= 40, "few machines only");
    let mut search = Search {
        snapshot,
        related: snapshot.pods.iter().any(|pod| is_related(pod))
            || snapshot.nodes.iter().flat_map(|node| &node.pods).any(|pod| is_related(pod))
            || snapshot.pools.iter().any(|pool| pool.limits.is_some()),
        left: Cell::new(budget),
        options: BTreeMap::new(),
        best: known,
    };
    search.assign(&mut Vec::new())?;
    Some(search.best)
}

fn is_related(pod: &Pod) -> bool {
    !(pod.topology_spread.is_empty() && pod.pod_affinity.is_empty() && pod.pod_anti_affinity.is_empty())
}

/// Where a pod goes: nowhere, to a node there is, or with some others to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Existing(usize),
    New(usize),
}

struct Search<'a> {
    snapshot: &'a Snapshot,
    /// Whether nodes bear on each other.
    related: bool,
    left: Cell<u32>,
    /// For pods that share a new node: what it can be, the cheapest first, were there no others.
    options: BTreeMap<Vec<usize>, Vec<NewNode>>,
    best: Best,
}

impl Search<'_> {
    fn assign(&mut self, places: &mut Vec<Place>) -> Option<()> {
        if places.len() == self.snapshot.pods.len() {
            return self.complete(places);
        }
        let opened =
            places.iter().filter_map(|place| if let Place::New(block) = place { Some(block + 1) } else { None });
        let opened = opened.max().unwrap_or(0);
        let choices = (0..=opened).map(Place::New);
        let choices = choices.chain((0..self.snapshot.nodes.len()).map(Place::Existing)).chain([Place::Nowhere]);
        for place in choices {
            places.push(place);
            let nowhere = places.iter().filter(|place| **place == Place::Nowhere).count();
            if self.snapshot.pods.len() - nowhere >= self.best.placed {
                self.assign(places)?;
            }
            places.pop();
        }
        Some(())
    }

    /// Every choice of machines for the new nodes.
    fn complete(&mut self, places: &[Place]) -> Option<()> {
        let blocks =
            places.iter().filter_map(|place| if let Place::New(block) = place { Some(block + 1) } else { None });
        let blocks = blocks.max().unwrap_or(0);
        let members = |block: usize| -> Vec<usize> {
            (0..places.len()).filter(|pod| places[*pod] == Place::New(block)).collect()
        };
        let mut options = Vec::new();
        for block in 0..blocks {
            let members = members(block);
            if !self.options.contains_key(&members) {
                let found = self.options_of(&members)?;
                self.options.insert(members.clone(), found);
            }
            options.push(self.options[&members].clone());
        }
        self.choose(places, &options, &mut Vec::new())
    }

    fn choose(&mut self, places: &[Place], options: &[Vec<NewNode>], chosen: &mut Vec<NewNode>) -> Option<()> {
        let placed = places.iter().filter(|place| **place != Place::Nowhere).count();
        let least = options[chosen.len()..].iter().filter_map(|options| options.first()).map(|node| node.price);
        let cost: UsdMicrosPerHour = chosen.iter().map(|node| node.price).chain(least).sum();
        let better = placed > self.best.placed || cost < self.best.cost;
        if placed < self.best.placed || (!better && self.best.placed > 0) {
            return Some(());
        }
        let Some(next) = options.get(chosen.len()) else {
            if self.is_possible(places, chosen)? {
                self.best = Best { placed, cost };
            }
            return Some(());
        };
        // Where nothing bears on anything, the cheapest is as possible as the others.
        for node in next.iter().take(if self.related { usize::MAX } else { 1 }) {
            chosen.push(node.clone());
            self.choose(places, options, chosen)?;
            chosen.pop();
        }
        Some(())
    }

    fn is_possible(&self, places: &[Place], new_nodes: &[NewNode]) -> Option<bool> {
        self.left.set(self.left.get().checked_sub(1)?);
        Some(passes(self.snapshot, places, new_nodes))
    }

    /// What a new node with these pods alone can be, whatever they demand of each other.
    fn options_of(&self, members: &[usize]) -> Option<Vec<NewNode>> {
        let mut alone = self.snapshot.clone();
        alone.nodes.clear();
        alone.pods = members.iter().map(|pod| Arc::new(unrelated(&self.snapshot.pods[*pod]))).collect();
        let pods: Vec<&Pod> = alone.pods.iter().map(AsRef::as_ref).collect();
        let places = vec![Place::New(0); members.len()];
        let mut found = Vec::new();
        for pool in &self.snapshot.pools {
            for machine in pool.instance_types.iter() {
                for offering in machine.offerings.iter().filter(|one| one.available) {
                    self.left.set(self.left.get().checked_sub(1)?);
                    let node = planned(pool, machine, offering, &pods);
                    if passes(&alone, &places, std::slice::from_ref(&node)) {
                        found.push(node);
                    }
                }
            }
        }
        found.sort_by_key(|node| node.price);
        Some(found)
    }
}

fn unrelated(pod: &Pod) -> Pod {
    Pod { topology_spread: Vec::new(), pod_affinity: Vec::new(), pod_anti_affinity: Vec::new(), ..pod.clone() }
}

fn passes(snapshot: &Snapshot, places: &[Place], new_nodes: &[NewNode]) -> bool {
    let mut solution = Solution {
        new_nodes: new_nodes.to_vec(),
        cost: new_nodes.iter().map(|node| node.price).sum(),
        ..Solution::default()
    };
    for (pod, place) in snapshot.pods.iter().zip(places) {
        let node = match place {
            Place::Nowhere => {
                solution.unplaced.insert(pod.key.clone(), vec![Unfit::NotTried]);
                continue;
            }
            Place::Existing(index) => Target::Existing(snapshot.nodes[*index].key.clone()),
            Place::New(index) => Target::New(*index),
        };
        let placement = Placement { node, why: PlacementReason::CheapestPlan, turn: 0 };
        solution.placed.insert(pod.key.clone(), placement);
    }
    check(snapshot, &solution).is_empty() && holds_after_the_counted(snapshot, &solution)
}

/// Whether a pod demands a spread in which another one counts.
pub(crate) fn counts(pod: &Pod, other: &Pod) -> bool {
    pod.topology_spread.iter().any(|spread| {
        spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule
            && spread.selector.as_ref().is_some_and(|selector| selector.matches(&other.labels))
    })
}

/// Whether the plan can be carried out when those are there already that a spread counts and that wait for nobody: the
/// kube-scheduler counts them as soon as they are nominated.
fn holds_after_the_counted(snapshot: &Snapshot, solution: &Solution) -> bool {
    let is_first = |pod: &Pod| {
        pod.topology_spread.is_empty()
            && pod.pod_affinity.is_empty()
            && snapshot.pods.iter().any(|other| counts(other, pod))
    };
    if !snapshot.pods.iter().any(|pod| is_first(pod)) {
        return true;
    }
    let mut after = snapshot.clone();
    let mut nodes: BTreeMap<Target, usize> = BTreeMap::new();
    for (index, node) in after.nodes.iter().enumerate() {
        nodes.insert(Target::Existing(node.key.clone()), index);
    }
    for (index, new) in solution.new_nodes.iter().enumerate() {
        let OfferingKey { instance_type, zone, capacity_type } = &new.offerings[0].key;
        let mut node = node(&format!("new-{index}"), 0);
        node.labels.clone_from(&new.labels);
        for (key, value) in [
            (labels::INSTANCE_TYPE, instance_type.as_str()),
            (labels::ZONE, zone),
            (labels::CAPACITY_TYPE, capacity_type.as_str()),
        ] {
            node.labels.insert(key.to_owned(), value.to_owned());
        }
        node.allocatable = new.capacity.clone();
        nodes.insert(Target::New(index), after.nodes.len());
        after.nodes.push(node);
    }
    let mut rest = Solution { unplaced: solution.unplaced.clone(), ..Solution::default() };
    for (key, placement) in &solution.placed {
        let node = &mut after.nodes[nodes[&placement.node]];
        let pod = snapshot.pods.iter().find(|pod| pod.key == *key).expect("a pod of the snapshot");
        if is_first(pod) {
            node.pods.push(Arc::clone(pod));
            after.pods.retain(|pod| pod.key != *key);
        } else {
            let node = Target::Existing(node.key.clone());
            rest.placed.insert(key.clone(), Placement { node, ..placement.clone() });
        }
    }
    check(&after, &rest).is_empty()
}
