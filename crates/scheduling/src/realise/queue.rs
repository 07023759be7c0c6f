//! One pod after another, as the kube-scheduler takes them from its queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Opening,
    counters::Counters,
    dice::Dice,
    kind::Kinds,
    relations::Relations,
    score::{self, Best},
    world::World,
};
use crate::{Pod, PodKey, Snapshot, Target};

/// A pod that waits for its place.
#[derive(Clone, Copy, Debug)]
struct Waiting<'a> {
    pod: &'a Pod,
    shape: usize,
    group: usize,
    relations: usize,
    /// The node it is to be nominated for.
    planned: Option<usize>,
    /// The node it is nominated for.
    nominated: Option<usize>,
}

/// What is kept on a node for the pods nominated for it.
#[derive(Debug, Default)]
struct Kept<'a> {
    pods: Vec<Waiting<'a>>,
    /// What they ask for together, by priority.
    by_priority: BTreeMap<i32, Vec<i64>>,
}

/// A scheduler at work.
#[derive(Debug)]
pub(super) struct Scheduler<'a> {
    world: World<'a>,
    kinds: Kinds<'a>,
    counters: Counters<'a>,
    relations: Vec<Relations>,
    kept: Vec<Kept<'a>>,
    /// Grows when something about a node changes.
    states: Vec<u32>,
    /// Whether a node takes pods yet.
    open: Vec<bool>,
    queue: Vec<Waiting<'a>>,
    dice: Dice,
    /// Where the last look over the nodes ended.
    next_node: usize,
    placed: BTreeMap<PodKey, Target>,
    /// Volume claims that some pod has and no other one may use, by namespace and name.
    claims: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Scheduler<'a> {
    /// Everything ready to start: bound pods counted, the queue in its order, no node open.
    ///
    /// Pods that could not be understood wait for ever and are left out. Nominations of unknown pods or nodes are ignored.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        world: World<'a>,
        nominations: &BTreeMap<PodKey, Target>,
        seed: u64,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let pods = in_order(snapshot, &mut dice);
        let nodes: BTreeMap<&Target, usize> =
            world.sites.iter().enumerate().map(|(node, site)| (&site.target, node)).collect();
        let mut kinds = Kinds::default();
        let mut counters = Counters::default();
        let mut queue: Vec<Waiting<'a>> = pods
            .into_iter()
            .map(|pod| Waiting {
                pod,
                shape: kinds.shape(pod, &world),
                group: counters.group(pod, false),
                relations: 0,
                planned: nominations.get(&pod.key).and_then(|target| nodes.get(target)).copied(),
                nominated: None,
            })
            .collect();
        let bound: Vec<(usize, usize)> = (0..world.sites.len())
            .flat_map(|node| world.sites[node].bound.iter().map(move |pod| (node, *pod)))
            .map(|(node, pod)| (node, counters.group(pod, pod.terminating)))
            .collect();
        let mut relations = Vec::new();
        let mut known = BTreeMap::new();
        for waiting in &mut queue {
            let demand = kinds.shapes[waiting.shape].demand;
            waiting.relations = *known.entry((demand, waiting.group)).or_insert_with(|| {
                let demand = &kinds.demands[demand];
                relations.push(Relations::of(waiting.pod, demand, &mut counters, &world, snapshot));
                relations.len() - 1
            });
        }
        for (node, group) in bound {
            counters.add(group, node);
        }
        let claims = world.sites.iter().flat_map(|site| &site.bound).flat_map(|pod| exclusive_claims(pod)).collect();
        let kept = world.sites.iter().map(|_| Kept::default()).collect();
        // A shape that has not asked a node yet has seen state 0 of it.
        let states = vec![1; world.sites.len()];
        let open = vec![false; world.sites.len()];
        Self {
            world,
            kinds,
            counters,
            relations,
            kept,
            states,
            open,
            queue,
            dice,
            next_node: 0,
            placed: BTreeMap::new(),
            claims,
        }
    }

    /// Opens the nodes and places what can be placed.
    ///
    /// Whenever nodes open, the pods to go there are nominated first and then all that wait are tried. A pod that failed is
    /// tried again as long as others found a place or gave one up.
    pub(super) fn run(mut self, opening: Opening) -> BTreeMap<PodKey, Target> {
        let mut queue = std::mem::take(&mut self.queue);
        for nodes in self.openings(opening) {
            for node in nodes {
                self.open[node] = true;
                for waiting in queue.iter_mut().filter(|waiting| waiting.planned == Some(node)) {
                    waiting.nominated = Some(node);
                    self.kept[node].keep(*waiting, &self.kinds.shapes[waiting.shape].request);
                }
            }
            queue = self.try_all(queue);
        }
        self.placed
    }

    /// Which nodes open together, in the order of time.
    fn openings(&mut self, opening: Opening) -> Vec<Vec<usize>> {
        let all = 0..self.world.sites.len();
        match opening {
            Opening::Together => vec![all.collect()],
            Opening::OneByOne => {
                let (ready, mut others): (Vec<_>, Vec<_>) = all.partition(|node| self.world.sites[*node].ready);
                self.dice.shuffle(&mut others);
                std::iter::once(ready).chain(others.into_iter().map(|node| vec![node])).collect()
            }
        }
    }

    /// Tries every pod until nothing changes any more; what is left waits.
    fn try_all(&mut self, mut queue: Vec<Waiting<'a>>) -> Vec<Waiting<'a>> {
        loop {
            let mut changed = false;
            let mut failed = Vec::new();
            for mut waiting in queue {
                if let Some(node) = self.find(&waiting) {
                    self.place(&waiting, node);
                    changed = true;
                } else {
                    // The scheduler clears the nomination of a pod that it could not place.
                    changed |= self.give_up(&mut waiting);
                    failed.push(waiting);
                }
            }
            if failed.is_empty() || !changed {
                return failed;
            }
            queue = failed;
        }
    }

    fn find(&mut self, waiting: &Waiting<'a>) -> Option<usize> {
        if exclusive_claims(waiting.pod).any(|claim| self.claims.contains(&claim)) {
            return None;
        }
        if let Some(node) = waiting.nominated
            && self.takes_nominated(waiting, node)
        {
            return Some(node);
        }
        let nodes = self.feasible(waiting);
        if nodes.len() < 2 {
            return nodes.first().map(|(node, _)| *node);
        }
        Some(self.best(waiting, &nodes))
    }

    /// The nodes that would do, as many as the scheduler looks for, with the points for their room.
    fn feasible(&mut self, waiting: &Waiting<'a>) -> Vec<(usize, i64)> {
        let all = self.world.sites.len();
        let enough = score::enough_nodes(all);
        let mut feasible = Vec::new();
        let mut looked_at = 0;
        while looked_at < all && feasible.len() < enough {
            let node = (self.next_node + looked_at) % all;
            looked_at += 1;
            if let Some(points) = self.takes(waiting, node) {
                feasible.push((node, points));
            }
        }
        if all > 0 {
            self.next_node = (self.next_node + looked_at) % all;
        }
        feasible
    }

    /// Whether a node takes a pod that is not nominated for it, and the points for its room.
    fn takes(&mut self, waiting: &Waiting<'a>, node: usize) -> Option<i64> {
        let shape = &mut self.kinds.shapes[waiting.shape];
        if !(self.open[node] && self.kinds.demands[shape.demand].suits[node]) {
            return None;
        }
        let (site, kept) = (&self.world.sites[node], &self.kept[node]);
        let points = shape.room(node, self.states[node], |shape| {
            let reserved = kept.against(shape.priority, None, shape.request.len());
            let ports = kept.pods_against(shape.priority, None).flat_map(|other| &other.pod.host_ports);
            shape.fits(site, reserved.as_deref(), ports).then(|| shape.points(site))
        })?;
        (self.attaches(waiting, node) && self.allowed(waiting, node)).then_some(points)
    }

    /// Whether the node takes the pod that is nominated for it; what is kept there for itself is not in its way.
    fn takes_nominated(&self, waiting: &Waiting<'a>, node: usize) -> bool {
        let shape = &self.kinds.shapes[waiting.shape];
        let (site, kept) = (&self.world.sites[node], &self.kept[node]);
        let reserved = kept.against(shape.priority, Some((waiting.pod, &shape.request)), shape.request.len());
        let ports = kept.pods_against(shape.priority, Some(waiting.pod)).flat_map(|other| &other.pod.host_ports);
        self.kinds.demands[shape.demand].suits[node]
            && shape.fits(site, reserved.as_deref(), ports)
            && self.attaches(waiting, node)
            && self.allowed(waiting, node)
    }

    /// Whether the node can attach the volumes of the pod beside those that are there and those kept for.
    fn attaches(&self, waiting: &Waiting<'a>, node: usize) -> bool {
        let site = &self.world.sites[node];
        let against: Vec<&Waiting<'a>> =
            self.kept[node].pods_against(waiting.pod.priority, Some(waiting.pod)).collect();
        waiting.pod.volumes_by_driver.iter().all(|(driver, volumes)| {
            let Some(limit) = site.volume_limits.get(driver.as_str()) else { return true };
            let kept = against.iter().filter_map(|other| other.pod.volumes_by_driver.get(driver)).flatten();
            let mut there: BTreeSet<&str> = kept.map(String::as_str).collect();
            there.extend(site.volumes.get(driver.as_str()).into_iter().flatten());
            let before = there.len();
            there.extend(volumes.iter().map(String::as_str));
            there.len() == before || there.len() <= *limit
        })
    }

    /// Whether the pods around allow it: with the pods nominated for the node there, and also without them, since they may
    /// not come.
    fn allowed(&self, waiting: &Waiting<'a>, node: usize) -> bool {
        let relations = &self.relations[waiting.relations];
        if relations.demands_nothing() {
            return true;
        }
        let against = self.kept[node].pods_against(waiting.pod.priority, Some(waiting.pod));
        let groups: Vec<usize> = against.map(|other| other.group).collect();
        relations.allow(&self.counters, node, &[])
            && (groups.is_empty() || relations.allow(&self.counters, node, &groups))
    }

    /// The node with the most points; one of them by chance if several have as many.
    fn best(&mut self, waiting: &Waiting<'a>, feasible: &[(usize, i64)]) -> usize {
        let nodes: Vec<usize> = feasible.iter().map(|(node, _)| *node).collect();
        let mut scores: Vec<i64> = feasible.iter().map(|(_, points)| *points).collect();
        let demand = &self.kinds.demands[self.kinds.shapes[waiting.shape].demand];
        for (raw, best, weight) in [
            (&demand.wishes, Best::Most, score::NODE_AFFINITY),
            (&demand.soft_taints, Best::Least, score::TAINT_TOLERATION),
        ] {
            if raw.is_empty() {
                continue;
            }
            let mut points: Vec<i64> = nodes.iter().map(|node| raw[*node]).collect();
            score::in_proportion(&mut points, best);
            scores.iter_mut().zip(points).for_each(|(sum, points)| *sum += weight * points);
        }
        self.relations[waiting.relations].score(&self.counters, &nodes, &mut scores);
        let most = scores.iter().copied().max().unwrap_or(0);
        let best: Vec<usize> =
            nodes.into_iter().zip(scores).filter(|(_, score)| *score == most).map(|(node, _)| node).collect();
        best[self.dice.below(best.len())]
    }

    fn place(&mut self, waiting: &Waiting<'a>, node: usize) {
        let mut nominee = *waiting;
        self.give_up(&mut nominee);
        self.world.sites[node].take(waiting.pod, &self.kinds.shapes[waiting.shape].request);
        self.counters.add(waiting.group, node);
        self.claims.extend(exclusive_claims(waiting.pod));
        self.states[node] += 1;
        self.placed.insert(waiting.pod.key.clone(), self.world.sites[node].target.clone());
    }

    /// Takes back what is kept for the pod; whether anything was.
    fn give_up(&mut self, waiting: &mut Waiting<'a>) -> bool {
        let Some(node) = waiting.nominated.take() else { return false };
        self.kept[node].release(waiting.pod, &self.kinds.shapes[waiting.shape].request);
        self.states[node] += 1;
        true
    }
}

/// By namespace and name.
fn exclusive_claims(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    pod.exclusive_claims.iter().map(|claim| (pod.key.namespace.as_str(), claim.as_str()))
}

impl<'a> Kept<'a> {
    fn keep(&mut self, waiting: Waiting<'a>, request: &[i64]) {
        let sum = self.by_priority.entry(waiting.pod.priority).or_insert_with(|| vec![0; request.len()]);
        sum.iter_mut().zip(request).for_each(|(sum, asked)| *sum = sum.saturating_add(*asked));
        self.pods.push(waiting);
    }

    fn release(&mut self, pod: &Pod, request: &[i64]) {
        self.pods.retain(|kept| kept.pod.key != pod.key);
        if let Some(sum) = self.by_priority.get_mut(&pod.priority) {
            sum.iter_mut().zip(request).for_each(|(sum, asked)| *sum -= asked);
        }
    }

    /// What pods of this priority must leave free here; the pod itself, if it is one of those kept for, is not counted.
    fn against(&self, priority: i32, itself: Option<(&Pod, &[i64])>, resources: usize) -> Option<Vec<i64>> {
        if self.pods.is_empty() {
            return None;
        }
        let mut sum = vec![0i64; resources];
        for kept in self.by_priority.range(priority..).map(|(_, kept)| kept) {
            sum.iter_mut().zip(kept).for_each(|(sum, asked)| *sum = sum.saturating_add(*asked));
        }
        if let Some((_, request)) = itself {
            sum.iter_mut().zip(request).for_each(|(sum, asked)| *sum -= asked);
        }
        Some(sum)
    }

    fn pods_against(&self, priority: i32, itself: Option<&Pod>) -> impl Iterator<Item = &Waiting<'a>> {
        let counts = move |kept: &&Waiting<'_>| {
            kept.pod.priority >= priority && itself.is_none_or(|itself| itself.key != kept.pod.key)
        };
        self.pods.iter().filter(counts)
    }
}

/// By priority, the highest first, then by age; those that tie in a random order.
fn in_order<'a>(snapshot: &'a Snapshot, dice: &mut Dice) -> Vec<&'a Pod> {
    let readable = snapshot.pods.iter().map(Arc::as_ref).filter(|pod| pod.invalid.is_empty());
    // The order of the snapshot means nothing, and a key is there once.
    let by_key: BTreeMap<&PodKey, &Pod> = readable.map(|pod| (&pod.key, pod)).collect();
    let mut pods: Vec<&Pod> = by_key.into_values().collect();
    dice.shuffle(&mut pods);
    pods.sort_by_key(|pod| (std::cmp::Reverse(pod.priority), pod.created_at_unix_seconds));
    pods
}
