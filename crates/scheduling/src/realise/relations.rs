//! What a pod demands and wishes of its place relative to other pods (plugins PodTopologySpread and InterPodAffinity).

use std::sync::Arc;

use requirements::labels;

use super::{
    counters::{Attitude, Counted, Counters, Selection},
    kind::Demand,
    score,
    world::World,
};
use crate::{NodeInclusion, Pod, PodAffinityTerm, Snapshot, Strength, TopologySpread, WhenUnsatisfiable};

/// The demands and wishes of one kind of pods.
#[derive(Debug, Default)]
pub(super) struct Relations {
    spread: Vec<Spread>,
    /// Counters of which one pod at least must be near; all count the same pods.
    near: Vec<usize>,
    /// Whether the pod is one of those it wants to be near.
    first_of_its_kind: bool,
    /// Counters of which no pod may be near: those it avoids and those that avoid it.
    away: Vec<usize>,
    soft_spread: Vec<SoftSpread>,
    /// Whether a node must have every label of the soft spreads to have points for them.
    needs_every_label: bool,
    /// Counters of liked pods, and of pods that like this one, with the weight.
    liked: Vec<(usize, i64)>,
}

#[derive(Debug)]
struct Spread {
    counter: usize,
    max_skew: i64,
    min_domains: usize,
    counts_itself: i64,
    /// The domains that must not fall behind.
    domains: Vec<usize>,
}

#[derive(Debug)]
struct SoftSpread {
    counter: usize,
    max_skew: u32,
}

/// The spreads of pods that ask for none, by hostname and zone (kube-scheduler's system defaults).
const DEFAULT_SPREAD: [(&str, u32); 2] = [(labels::HOSTNAME, 3), (labels::ZONE, 5)];

impl Relations {
    pub(super) fn of(
        pod: &Pod,
        demand: &Demand,
        counters: &mut Counters<'_>,
        world: &World<'_>,
        snapshot: &Snapshot,
    ) -> Self {
        let mut relations = Self::default();
        relations.add_spread(pod, demand, counters, world, snapshot);
        relations.add_soft_spread(pod, demand, counters, world, snapshot);
        relations.add_own_terms(pod, counters, world, snapshot);
        relations.add_terms_of_others(pod, counters, world, snapshot);
        relations
    }

    fn add_spread(
        &mut self,
        pod: &Pod,
        demand: &Demand,
        counters: &mut Counters<'_>,
        world: &World<'_>,
        snapshot: &Snapshot,
    ) {
        let hard: Vec<&TopologySpread> = of_strength(pod, WhenUnsatisfiable::DoNotSchedule);
        let labelled = with_every_label(&hard, world);
        for spread in hard {
            let nodes = included(spread, demand, &labelled);
            let topology = counters.topology(&spread.topology_key, world);
            let selection = Selection::of_spread(pod, spread);
            let counts_itself = i64::from(selection.selects(pod, snapshot));
            let place = &counters.topologies[topology].domain;
            let mut domains: Vec<usize> =
                (0..nodes.len()).filter(|node| nodes[*node]).filter_map(|node| place[node]).collect();
            domains.sort_unstable();
            domains.dedup();
            let counter = counters.counter(Counted::Staying(selection), topology, Some(nodes), snapshot);
            self.spread.push(Spread {
                counter,
                max_skew: i64::from(spread.max_skew),
                min_domains: spread.min_domains.unwrap_or(1) as usize,
                counts_itself,
                domains,
            });
        }
    }

    fn add_soft_spread(
        &mut self,
        pod: &Pod,
        demand: &Demand,
        counters: &mut Counters<'_>,
        world: &World<'_>,
        snapshot: &Snapshot,
    ) {
        if pod.topology_spread.is_empty() {
            // The default selector is that of the controller; its own pods are what it selects.
            let owner = pod
                .owner
                .as_ref()
                .filter(|owner| matches!(owner.kind.as_str(), "ReplicaSet" | "ReplicationController" | "StatefulSet"));
            let Some(owner) = owner else { return };
            let nodes: Arc<[bool]> = Arc::from(demand.affine.as_slice());
            for (key, max_skew) in DEFAULT_SPREAD {
                let topology = counters.topology(key, world);
                let nodes = (key != labels::HOSTNAME).then(|| Arc::clone(&nodes));
                let counted = Counted::Owned(pod.key.namespace.clone(), owner.clone());
                let counter = counters.counter(counted, topology, nodes, snapshot);
                self.soft_spread.push(SoftSpread { counter, max_skew });
            }
            return;
        }
        let soft = of_strength(pod, WhenUnsatisfiable::ScheduleAnyway);
        let labelled = with_every_label(&soft, world);
        self.needs_every_label = true;
        for spread in soft {
            let topology = counters.topology(&spread.topology_key, world);
            // On single nodes all pods are counted, whatever the policies say of the node.
            let nodes = (!counters.topologies[topology].is_hostname).then(|| included(spread, demand, &labelled));
            let counted = Counted::Staying(Selection::of_spread(pod, spread));
            let counter = counters.counter(counted, topology, nodes, snapshot);
            self.soft_spread.push(SoftSpread { counter, max_skew: spread.max_skew });
        }
    }

    fn add_own_terms(&mut self, pod: &Pod, counters: &mut Counters<'_>, world: &World<'_>, snapshot: &Snapshot) {
        let required = |terms: &[PodAffinityTerm]| -> Vec<PodAffinityTerm> {
            terms.iter().filter(|term| term.strength == Strength::Required).cloned().collect()
        };
        let near = required(&pod.pod_affinity);
        let wanted: Vec<Selection> = near.iter().map(|term| Selection::of_term(pod, term)).collect();
        self.first_of_its_kind = wanted.iter().all(|selection| selection.selects(pod, snapshot));
        for term in &near {
            let topology = counters.topology(&term.topology_key, world);
            self.near.push(counters.counter(Counted::Selected(wanted.clone()), topology, None, snapshot));
        }
        for term in required(&pod.pod_anti_affinity) {
            let topology = counters.topology(&term.topology_key, world);
            let counted = Counted::Selected(vec![Selection::of_term(pod, &term)]);
            self.away.push(counters.counter(counted, topology, None, snapshot));
        }
        for (terms, sign) in [(&pod.pod_affinity, 1), (&pod.pod_anti_affinity, -1)] {
            for term in terms {
                let Strength::Preferred { weight } = term.strength else { continue };
                let topology = counters.topology(&term.topology_key, world);
                let counted = Counted::Selected(vec![Selection::of_term(pod, term)]);
                let counter = counters.counter(counted, topology, None, snapshot);
                self.liked.push((counter, sign * i64::from(weight)));
            }
        }
    }

    fn add_terms_of_others(&mut self, pod: &Pod, counters: &mut Counters<'_>, world: &World<'_>, snapshot: &Snapshot) {
        let about_this: Vec<_> =
            counters.held().filter(|held| held.selection.selects(pod, snapshot)).cloned().collect();
        for held in about_this {
            let topology = counters.topology(&held.topology_key, world);
            let attitude = held.attitude;
            let counter = counters.counter(Counted::Holding(held), topology, None, snapshot);
            match attitude {
                Attitude::MustBeAway => self.away.push(counter),
                Attitude::MustBeNear => self.liked.push((counter, score::HARD_AFFINITY_AS_WISH)),
                Attitude::Likes(weight) => self.liked.push((counter, weight)),
            }
        }
    }

    pub(super) fn demands_nothing(&self) -> bool {
        self.spread.is_empty() && self.near.is_empty() && self.away.is_empty()
    }

    /// Whether the pod may go to the node, if pods of these groups were there too.
    pub(super) fn allow(&self, counters: &Counters<'_>, node: usize, also_there: &[usize]) -> bool {
        let more = |counter| if also_there.is_empty() { 0 } else { counters.would_add(counter, also_there, node) };
        self.is_away(counters, node, more) && self.is_near(counters, node, more) && self.is_even(counters, node, more)
    }

    fn is_away(&self, counters: &Counters<'_>, node: usize, more: impl Fn(usize) -> i64) -> bool {
        self.away.iter().all(|counter| counters.near(*counter, node) + more(*counter) == 0)
    }

    fn is_near(&self, counters: &Counters<'_>, node: usize, more: impl Fn(usize) -> i64) -> bool {
        if self.near.iter().any(|counter| counters.domain(*counter, node).is_none()) {
            return false;
        }
        self.near.iter().all(|counter| counters.near(*counter, node) + more(*counter) > 0)
            || self.first_of_its_kind && self.near.iter().all(|counter| counters.total(*counter) + more(*counter) == 0)
    }

    fn is_even(&self, counters: &Counters<'_>, node: usize, more: impl Fn(usize) -> i64) -> bool {
        self.spread.iter().all(|spread| {
            let Some(here) = counters.domain(spread.counter, node) else { return false };
            let more = more(spread.counter);
            let there =
                |domain: usize| counters.in_domain(spread.counter, domain) + if domain == here { more } else { 0 };
            let least = if spread.domains.len() < spread.min_domains {
                0
            } else {
                spread.domains.iter().map(|domain| there(*domain)).min().unwrap_or(i64::MAX)
            };
            (there(here) + spread.counts_itself).saturating_sub(least) <= spread.max_skew
        })
    }

    /// Adds the points of the nodes that would do for the pods that are there.
    pub(super) fn score(&self, counters: &Counters<'_>, nodes: &[usize], scores: &mut [i64]) {
        if !self.soft_spread.is_empty() {
            for (sum, points) in scores.iter_mut().zip(score::fewest_best(&self.crowding(counters, nodes))) {
                *sum += score::TOPOLOGY_SPREAD * points;
            }
        }
        if !self.liked.is_empty() {
            let liked =
                |node: &usize| self.liked.iter().map(|(counter, weight)| counters.near(*counter, *node) * weight).sum();
            let mut raw: Vec<i64> = nodes.iter().map(liked).collect();
            score::between_extremes(&mut raw);
            for (sum, points) in scores.iter_mut().zip(raw) {
                *sum += score::INTER_POD_AFFINITY * points;
            }
        }
    }

    fn crowding(&self, counters: &Counters<'_>, nodes: &[usize]) -> Vec<Option<i64>> {
        let has_label = |node: usize, spread: &SoftSpread| counters.domain(spread.counter, node).is_some();
        let ignored =
            |node: usize| self.needs_every_label && !self.soft_spread.iter().all(|spread| has_label(node, spread));
        let scored: Vec<usize> = nodes.iter().copied().filter(|node| !ignored(*node)).collect();
        let weights: Vec<f64> = self
            .soft_spread
            .iter()
            .map(|spread| {
                let topology = counters.topology_of(spread.counter);
                if topology.is_hostname {
                    return score::topology_weight(scored.len());
                }
                // Nodes outside every domain make one more.
                let mut met = vec![false; topology.domains + 1];
                for node in &scored {
                    met[topology.domain[*node].map_or(0, |domain| domain + 1)] = true;
                }
                score::topology_weight(met.into_iter().filter(|met| *met).count())
            })
            .collect();
        let crowd = |node: usize| {
            let parts = self.soft_spread.iter().zip(&weights).filter(|(spread, _)| has_label(node, spread));
            let sum: f64 = parts
                .map(|(spread, weight)| score::crowding(counters.near(spread.counter, node), spread.max_skew, *weight))
                .sum();
            score::rounded(sum)
        };
        nodes.iter().map(|node| (!ignored(*node)).then(|| crowd(*node))).collect()
    }
}

fn of_strength(pod: &Pod, strength: WhenUnsatisfiable) -> Vec<&TopologySpread> {
    pod.topology_spread.iter().filter(|spread| spread.when_unsatisfiable == strength).collect()
}

/// The nodes that are in a domain of every one of the spreads.
fn with_every_label(spreads: &[&TopologySpread], world: &World<'_>) -> Vec<bool> {
    let has = |site: &super::world::Site<'_>, spread: &&TopologySpread| {
        site.labels.contains_key(labels::normalize(&spread.topology_key))
    };
    world.sites.iter().map(|site| spreads.iter().all(|spread| has(site, spread))).collect()
}

/// The nodes whose pods and domains a spread counts.
fn included(spread: &TopologySpread, demand: &Demand, labelled: &[bool]) -> Arc<[bool]> {
    let counts = |node: usize| {
        labelled[node]
            && (spread.node_affinity_policy == NodeInclusion::Ignore || demand.affine[node])
            && (spread.node_taints_policy == NodeInclusion::Ignore || demand.tolerates[node])
    };
    (0..labelled.len()).map(counts).collect()
}
