//! Ten thousand small pods that each name a value of their own: what is done for each pair of them takes minutes.

use std::{collections::BTreeMap, sync::Arc};

use requirements::{Operator, Requirement, RequirementTerm, labels};
use scheduling::{Node, NodeKey, NodeStage, Pod, Snapshot, Strength, Toleration, TolerationOperator};

use super::worlds::{Case, apart, case, empty, even, labelled, pod, resources};

const PODS: usize = 10_000;
/// So many nodes there are in the case with nodes: half of its pods name one.
const NODES: usize = 5_000;
/// A label of nodes that the pool leaves open.
const LABEL: &str = "x/l";

/// All of them.
pub(super) const CASES: [Case; 9] = [
    case("labels-selected", || each(|pod, own| pod.node_selector = labelled(LABEL, own))),
    case("labels-listed", || {
        each(|pod, own| pod.required_node_affinity = vec![vec![of_nodes(Operator::In, &[own, &format!("w{own}")])]])
    }),
    case("labels-preferred", || {
        each(|pod, own| pod.preferred_node_affinity = vec![(1, vec![of_nodes(Operator::In, &[own])])])
    }),
    case("labels-excluded", || {
        each(|pod, own| pod.required_node_affinity = vec![vec![of_nodes(Operator::NotIn, &[own])]])
    }),
    case("labels-tolerated", || {
        each(|pod, own| {
            let (key, value) = (Some(LABEL.to_owned()), own.to_owned());
            pod.tolerations = vec![Toleration { key, operator: TolerationOperator::Equal, value, effect: None }];
        })
    }),
    case("labels-apart", || {
        each(|pod, own| {
            pod.labels = labelled("app", own);
            pod.pod_anti_affinity = vec![apart(labelled("app", own), labels::HOSTNAME, Strength::Required)];
        })
    }),
    case("labels-spread", || {
        each(|pod, own| {
            pod.labels = labelled("app", own);
            pod.topology_spread = vec![even(labelled("app", own), labels::ZONE)];
        })
    }),
    // All count the same pods, each on the nodes that it may be on.
    case("labels-selected-spread", || {
        each(|pod, own| {
            pod.labels = labelled("app", "web");
            pod.node_selector = labelled(LABEL, own);
            pod.topology_spread = vec![even(labelled("app", "web"), labels::ZONE)];
        })
    }),
    Case { most_left: PODS - NODES, ..case("labels-nodes", on_nodes) },
];

/// A pod for each value, and a pool whose nodes may have any.
fn each(ask: fn(&mut Pod, &str)) -> Snapshot {
    let mut world = empty();
    world.pools[0].requirements.add(Requirement::exists(LABEL));
    world.pods = (0..PODS)
        .map(|index| {
            let mut pod = pod(format!("pod-{index}"), 100, 128);
            ask(&mut pod, &format!("v{index}"));
            Arc::new(pod)
        })
        .collect();
    world
}

/// Pods that name nodes, half of which there are; the pool does not have the label.
fn on_nodes() -> Snapshot {
    let mut world = each(|pod, own| pod.node_selector = labelled(LABEL, own));
    world.pools = empty().pools;
    world.nodes = (0..NODES)
        .map(|index| Node {
            key: NodeKey(format!("node-{index}")),
            pool: None,
            stage: NodeStage::Ready,
            labels: labelled(LABEL, &format!("v{index}")),
            taints: Vec::new(),
            startup_taints: Vec::new(),
            allocatable: resources(1000, 1024, 10),
            pods: Vec::new(),
            volume_limits: BTreeMap::new(),
            price: None,
        })
        .collect();
    world
}

fn of_nodes(operator: Operator, values: &[&str]) -> RequirementTerm {
    RequirementTerm::new(LABEL, operator, values.iter().copied())
}
