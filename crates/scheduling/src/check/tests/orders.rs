//! Orders of binding, against every order there is.

use std::{collections::BTreeMap, ops::Range};

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::labels;

use crate::{
    LabelSelector, Node, NodeInclusion, Placement, PlacementReason, Pod, PodAffinityTerm, Snapshot, Solution, Target,
    TopologySpread, WhenUnsatisfiable, check::check, testing::*,
};

pub(super) fn spread_over(key: &str, app: &str, max_skew: u32) -> TopologySpread {
    TopologySpread {
        max_skew,
        topology_key: key.to_owned(),
        when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
        selector: Some(LabelSelector { match_labels: labels_of(&[("app", app)]), match_expressions: Vec::new() }),
        min_domains: None,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
        match_label_keys: Vec::new(),
    }
}

/// The pods by the node they are on, as a plan.
fn on_nodes(nodes: Vec<Node>, placed: Vec<(Pod, usize)>) -> (Snapshot, Solution) {
    let placement = |(pod, node): &(Pod, usize)| {
        let node = Target::Existing(nodes[*node].key.clone());
        (pod.key.clone(), Placement { node, why: PlacementReason::RoomOnReadyNode, turn: 0 })
    };
    let solution = Solution { placed: placed.iter().map(placement).collect(), ..Solution::default() };
    (snapshot(placed.into_iter().map(|(pod, _)| pod).collect(), nodes, Vec::new()), solution)
}

/// The same plan, saying that it was made in the order of the pods' numbers.
fn in_order(mut solution: Solution) -> Solution {
    for (pod, placement) in &mut solution.placed {
        placement.turn = pod.name.trim_start_matches('p').parse().unwrap();
    }
    solution
}

// ---- what Kubernetes says, pod by pod ----

/// A node's value of a label, a pod's of `app`: all that the rules below look at.
struct World<'a> {
    nodes: &'a [Node],
    pods: Vec<(&'a Pod, usize)>,
}

impl World<'_> {
    fn value(&self, node: usize, key: &str) -> Option<String> {
        let of_host = || (key == labels::HOSTNAME).then(|| self.nodes[node].key.0.clone());
        self.nodes[node].labels.get(key).cloned().or_else(of_host)
    }

    fn suits(&self, pod: &Pod, node: usize) -> bool {
        pod.node_selector.iter().all(|(key, value)| self.value(node, key).as_ref() == Some(value))
    }

    fn counts(&self, pod: &Pod, spread: &TopologySpread, node: usize) -> bool {
        let honors = spread.node_affinity_policy == NodeInclusion::Honor;
        pod.topology_spread.iter().all(|one| self.value(node, &one.topology_key).is_some())
            && (!honors || self.suits(pod, node))
    }

    /// Whether the kube-scheduler would bind the pod to its node while these others are there, with hosts to spread over without
    /// end.
    fn binds(&self, index: usize, there: u32) -> bool {
        let (pod, node) = self.pods[index];
        let others = || (0..self.pods.len()).filter(|other| is_there(there, *other));
        let selects = |selector: &Option<LabelSelector>, other: usize| {
            selector.as_ref().is_some_and(|selector| selector.matches(&self.pods[other].0.labels))
        };
        let even = pod.topology_spread.iter().all(|spread| {
            let key = &spread.topology_key;
            let Some(mine) = self.value(node, key) else { return false };
            let mut counts: BTreeMap<String, usize> = (0..self.nodes.len())
                .filter(|node| self.counts(pod, spread, *node))
                .filter_map(|node| Some((self.value(node, key)?, 0)))
                .collect();
            if key == labels::HOSTNAME {
                // One more host could be added, and is empty.
                counts.insert(String::new(), 0);
            }
            for other in others().filter(|other| selects(&spread.selector, *other)) {
                let there = self.pods[other].1;
                if let Some(count) = self.value(there, key).and_then(|value| counts.get_mut(&value))
                    && self.counts(pod, spread, there)
                {
                    *count += 1;
                }
            }
            let few = counts.len() < spread.min_domains.unwrap_or(1) as usize;
            let least = if few { 0 } else { counts.values().min().copied().unwrap_or(usize::MAX) };
            let itself = usize::from(selects(&spread.selector, index));
            (counts.get(&mine).copied().unwrap_or(0) + itself).saturating_sub(least) <= spread.max_skew as usize
        });
        let near = |term: &PodAffinityTerm, other: usize| {
            let (a, b) = (self.value(node, &term.topology_key), self.value(self.pods[other].1, &term.topology_key));
            a.is_some() && a == b
        };
        let wanted = |other: usize| pod.pod_affinity.iter().all(|term| selects(&term.selector, other));
        let labelled = pod.pod_affinity.iter().all(|term| self.value(node, &term.topology_key).is_some());
        let met = pod.pod_affinity.iter().all(|term| others().any(|other| wanted(other) && near(term, other)));
        let has_a_place = |other: usize| {
            pod.pod_affinity.iter().any(|term| self.value(self.pods[other].1, &term.topology_key).is_some())
        };
        let first = wanted(index) && !others().any(|other| wanted(other) && has_a_place(other));
        let apart = others().all(|other| {
            let clash = |term: &PodAffinityTerm, one: usize| selects(&term.selector, one) && near(term, other);
            !pod.pod_anti_affinity.iter().any(|term| clash(term, other))
                && !self.pods[other].0.pod_anti_affinity.iter().any(|term| clash(term, index))
        });
        even && labelled && (met || first) && apart
    }

    fn has_an_order(&self) -> bool {
        let all = (1u32 << self.pods.len()) - 1;
        let (mut open, mut seen) = (vec![0u32], vec![false; 1 << self.pods.len()]);
        while let Some(there) = open.pop() {
            if there == all {
                return true;
            }
            for index in (0..self.pods.len()).filter(|index| !is_there(there, *index)) {
                let next = there | (1 << index);
                if !seen[next as usize] && self.binds(index, there) {
                    seen[next as usize] = true;
                    open.push(next);
                }
            }
        }
        false
    }
}

fn is_there(there: u32, index: usize) -> bool {
    there & (1 << index) != 0
}

/// A pod with demands on others that are labelled `web` or `db`, as it is.
pub(super) fn some_relations() -> impl Strategy<Value = Pod> {
    let key = || select(vec![labels::ZONE, labels::ZONE, labels::HOSTNAME, "rack"]);
    let app = || select(vec!["web", "db"]);
    let spread = (key(), app(), 1u32..3, option::weighted(0.2, 1u32..4), any::<bool>()).prop_map(
        |(key, app, skew, min_domains, honor)| {
            let mut spread = spread_over(key, app, skew);
            spread.min_domains = min_domains;
            spread.node_affinity_policy = if honor { NodeInclusion::Honor } else { NodeInclusion::Ignore };
            spread
        },
    );
    let term = || (app(), key()).prop_map(|(app, key)| near(app, key));
    let selected = option::weighted(0.2, select(vec!["a", "b"]));
    (app(), vec(spread, 0..3), vec(term(), 0..3), option::weighted(0.2, term()), selected, 0..3u8).prop_map(
        |(app, spread, near, away, zone, which)| {
            let mut pod = pod("", 0, 0);
            pod.labels = labels_of(&[("app", app)]);
            // Mostly one sort of demand; all at once can seldom be met.
            pod.topology_spread = if which == 1 { Vec::new() } else { spread };
            pod.pod_affinity = if which == 0 { Vec::new() } else { near };
            pod.pod_anti_affinity = away.into_iter().filter(|_| which == 2).collect();
            pod.node_selector = zone.iter().map(|zone| (labels::ZONE.to_owned(), (*zone).to_owned())).collect();
            pod
        },
    )
}

fn some_nodes(count: Range<usize>) -> impl Strategy<Value = Vec<Node>> {
    let place = (select(vec!["a", "b", "c"]), option::weighted(0.7, select(vec!["1", "2"])));
    vec(place, count).prop_map(|places| {
        let node = |(index, (zone, rack)): (usize, (&str, Option<&str>))| {
            let mut node = node(&format!("n{index}"), 100_000);
            node.allocatable = resources(100_000, 16, 100);
            node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
            node.labels.extend(rack.map(|rack| ("rack".to_owned(), rack.to_owned())));
            node
        };
        places.into_iter().enumerate().map(node).collect()
    })
}

/// Up to seven pods of few kinds on up to four nodes that they suit.
fn some_placement() -> impl Strategy<Value = (Vec<Node>, Vec<(Pod, usize)>)> {
    let nodes = some_nodes(1..5);
    let kinds = vec(some_relations(), 1..4);
    let pods = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8);
    (nodes, kinds, pods).prop_map(|(nodes, kinds, pods)| {
        let mut placed = Vec::new();
        for (number, (kind, node)) in pods.into_iter().enumerate() {
            let mut pod = kinds[kind.index(kinds.len())].clone();
            pod.key.name = format!("p{number}");
            let world = World { nodes: &nodes, pods: Vec::new() };
            let node = node.index(nodes.len());
            if world.suits(&pod, node) {
                placed.push((pod, node));
            }
        }
        (nodes, placed)
    })
}

/// Up to thirty pods on up to six nodes, bound one after another, each where it may be at its turn.
fn some_history() -> impl Strategy<Value = (Vec<Node>, Vec<(Pod, usize)>)> {
    let tries = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..90);
    (some_nodes(1..7), vec(some_relations(), 1..7), tries).prop_map(|(nodes, kinds, tries)| {
        let mut placed: Vec<(Pod, usize)> = Vec::new();
        for (kind, node) in tries {
            let mut pod = kinds[kind.index(kinds.len())].clone();
            pod.key.name = format!("p{}", placed.len());
            placed.push((pod, node.index(nodes.len())));
            let last = placed.len() - 1;
            let world = World { nodes: &nodes, pods: placed.iter().map(|(pod, node)| (pod, *node)).collect() };
            let (pod, node) = world.pods[last];
            let binds = last < 30 && world.suits(pod, node) && world.binds(last, (1 << last) - 1);
            if !binds {
                placed.pop();
            }
        }
        (nodes, placed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_was_bound_pod_by_pod_passes((nodes, placed) in some_history()) {
        let (snapshot, solution) = on_nodes(nodes, placed);
        prop_assert_eq!(check(&snapshot, &solution), []);
        prop_assert_eq!(check(&snapshot, &in_order(solution)), []);
    }

    #[test]
    fn a_plan_passes_if_and_only_if_some_order_of_binding_does((nodes, placed) in some_placement()) {
        let world = World { nodes: &nodes, pods: placed.iter().map(|(pod, node)| (pod, *node)).collect() };
        let expected = world.has_an_order();
        let (snapshot, solution) = on_nodes(nodes.clone(), placed.clone());
        // The order that a plan claims is one of those to try, and no proof.
        for solution in [in_order(solution.clone()), solution] {
            let violations = check(&snapshot, &solution);
            prop_assert_eq!(violations.is_empty(), expected, "{:?}", violations);
        }
    }
}
