//! A plan in which everything occurs, and careful changes of it.

use std::{collections::BTreeMap, sync::Arc};

use requirements::{Operator, Requirement, labels};
use units::{Amount, ResourceList};

use super::orders::spread_over;
use crate::{
    CapacityType, LowerBound, NewNode, Node, NodeKey, NodeStage, Offering, OfferingKey, Placement, PlacementReason,
    Pod, PodKey, Pool, PricedOffering, Snapshot, Solution, Target, Unfit, testing::*,
};

pub(super) const SPREAD: [&str; 2] = ["spread-0", "spread-1"];

pub(super) fn key(name: &str) -> PodKey {
    PodKey::new("shop", name)
}

pub(super) fn offering(instance_type: &str, zone: &str) -> OfferingKey {
    let (instance_type, zone) = (instance_type.to_owned(), zone.to_owned());
    OfferingKey { instance_type, zone, capacity_type: CapacityType::OnDemand }
}

pub(super) fn app(name: &str, app: &str, milli_cpu: i64) -> Pod {
    let mut pod = pod(name, milli_cpu, 1);
    pod.labels = labels_of(&[("app", app)]);
    pod.tolerations = vec![toleration("gpu")];
    pod
}

/// A new node of the pool that may become any of these, with all that follows.
pub(super) fn new_node(pool: &Pool, offerings: &[OfferingKey], pods: &[&Pod]) -> NewNode {
    let machine = |key: &OfferingKey| pool.instance_types.iter().find(|one| one.name == key.instance_type).unwrap();
    let priced = |key: &OfferingKey| {
        let mut all = machine(key).offerings.iter();
        let same = all.find(|one| one.zone == key.zone && one.capacity_type == key.capacity_type).unwrap();
        PricedOffering { key: key.clone(), price: same.price }
    };
    let mut offerings: Vec<PricedOffering> = offerings.iter().map(priced).collect();
    offerings.sort_by_key(|one| one.price);
    let (mut requests, mut capacity) = (ResourceList::new(), ResourceList::new());
    for pod in pods {
        requests.add(&pod.requests);
    }
    for one in &offerings {
        capacity.max_with(&machine(&one.key).capacity);
    }
    let mut labels = pool.labels.clone();
    labels.insert(pool.key.kind.label().to_owned(), pool.key.name.clone());
    NewNode {
        pool: pool.key.clone(),
        requirements: pool.requirements.clone(),
        price: offerings[0].price,
        offerings,
        labels,
        taints: pool.taints.clone(),
        startup_taints: pool.startup_taints.clone(),
        requests,
        capacity,
        pods: pods.iter().map(|pod| pod.key.clone()).collect(),
        why: Vec::new(),
    }
}

/// Two new nodes in two zones, two nodes there are, one that is leaving; every sort of demand, met just so.
pub(super) fn plan() -> (Snapshot, Solution) {
    let mut gpu = pool("gpu");
    gpu.taints = vec![taint("gpu")];
    gpu.labels = labels_of(&[("team", "blue")]);
    gpu.requirements.add(Requirement::one_of(labels::ARCH, ["amd64"]));
    gpu.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(2)));
    gpu.limits = Some(resources(16_000, 64, 1000).with("nodes".into(), Amount(2)));
    let mut full = node("full", 500);
    full.pods = vec![Arc::new(Pod { host_ports: vec![port(80)], ..pod("bound", 100, 1) })];
    full.volume_limits = BTreeMap::from([("csi".to_owned(), 2)]);
    let mut lonely = node("lonely", 4000);
    lonely.labels.insert(labels::ZONE.to_owned(), "b".to_owned());
    let mut hermit = pod("hermit", 100, 1);
    hermit.pod_anti_affinity = vec![near("solo", labels::HOSTNAME)];
    lonely.pods = vec![Arc::new(hermit)];
    let mut leaving = node("leaving", 8000);
    leaving.stage = NodeStage::Leaving;

    let mut pods: Vec<Pod> = SPREAD.map(|name| app(name, "spread", 500)).into();
    for pod in &mut pods {
        pod.topology_spread = vec![spread_over(labels::ZONE, "spread", 1)];
    }
    let mut apart = ["apart-0", "apart-1"].map(|name| app(name, "solo", 500));
    for pod in &mut apart {
        pod.pod_anti_affinity = vec![near("solo", labels::HOSTNAME)];
    }
    pods.extend(apart);
    let mut close = ["close-0", "close-1"].map(|name| app(name, "close", 500));
    for pod in &mut close {
        pod.pod_affinity = vec![near("close", labels::ZONE)];
    }
    pods.extend(close);
    let mut here = app("here", "here", 1000);
    here.node_selector = labels_of(&[(labels::ZONE, "a"), ("team", "blue")]);
    here.volume_zones = vec![term(labels::ZONE, Operator::In, &["a"])];
    here.required_node_affinity = vec![vec![term("karpenter.k8s.aws/instance-cpu", Operator::Gt, &["3"])]];
    here.host_ports = vec![port(80)];
    pods.push(here);
    let mut disk = pod("disk", 100, 1);
    disk.volumes_by_driver = BTreeMap::from([("csi".to_owned(), ["v0".to_owned(), "v1".to_owned()].into())]);
    pods.push(disk);
    pods.push(pod("big", 90_000, 1));

    let of = |names: &[&str]| names.iter().map(|n| pods.iter().find(|pod| pod.key.name == *n).unwrap()).collect();
    let in_a: Vec<&Pod> = of(&["spread-0", "apart-0", "close-0", "close-1", "here"]);
    let in_b: Vec<&Pod> = of(&["spread-1", "apart-1"]);
    let new_nodes = vec![
        new_node(&gpu, &[offering("m.xlarge", "a"), offering("m.2xlarge", "a")], &in_a),
        new_node(&gpu, &[offering("m.large", "b"), offering("m.xlarge", "b")], &in_b),
    ];
    let mut solution = Solution { new_nodes, ..Solution::default() };
    for (index, node) in solution.new_nodes.iter().enumerate() {
        let placement = Placement { node: Target::New(index), why: PlacementReason::OpensNode, turn: 0 };
        solution.placed.extend(node.pods.iter().map(|pod| (pod.clone(), placement.clone())));
    }
    let there = Placement { node: existing("full"), why: PlacementReason::RoomOnReadyNode, turn: 0 };
    solution.placed.insert(key("disk"), there);
    solution.cost = solution.new_nodes.iter().map(|node| node.price).sum();
    solution.lower_bound = Some(LowerBound { cost: solution.cost, ignores: Vec::new() });
    solution.unplaced.insert(key("big"), reason(&gpu));
    (snapshot(pods, vec![full, lonely, leaving], vec![gpu]), solution)
}

pub(super) fn reason(pool: &Pool) -> Vec<Unfit> {
    vec![Unfit::NoOffering { pool: pool.key.clone(), unavailable: 0, used_up: 0 }]
}

pub(super) fn existing(name: &str) -> Target {
    Target::Existing(NodeKey(name.to_owned()))
}

/// Takes a pod from where it is to another node, with all that follows for the sums.
pub(super) fn place(snapshot: &Snapshot, solution: &mut Solution, name: &str, node: &Target) {
    let pod = snapshot.pods.iter().find(|pod| pod.key.name == name).unwrap();
    let old = solution.placed.get_mut(&pod.key).unwrap();
    if let Target::New(index) = std::mem::replace(&mut old.node, node.clone()) {
        let from = &mut solution.new_nodes[index];
        from.pods.retain(|other| *other != pod.key);
        from.requests = from.requests.saturating_sub(&pod.requests);
    }
    if let Target::New(index) = node {
        solution.new_nodes[*index].pods.push(pod.key.clone());
        solution.new_nodes[*index].requests.add(&pod.requests);
    }
}

/// Gives a new node other offerings, with all that follows for the sums.
pub(super) fn offer(snapshot: &Snapshot, solution: &mut Solution, index: usize, offerings: &[OfferingKey]) {
    let pods: Vec<&Pod> = snapshot.pods.iter().map(AsRef::as_ref).collect();
    let old = &solution.new_nodes[index];
    let here: Vec<&Pod> = pods.into_iter().filter(|pod| old.pods.contains(&pod.key)).collect();
    let requirements = old.requirements.clone();
    solution.new_nodes[index] = NewNode { requirements, ..new_node(&snapshot.pools[0], offerings, &here) };
    solution.cost = solution.new_nodes.iter().map(|node| node.price).sum();
    solution.lower_bound = None;
}

pub(super) fn pod_mut<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut Pod {
    Arc::make_mut(snapshot.pods.iter_mut().find(|pod| pod.key.name == name).unwrap())
}

pub(super) fn node_mut<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut Node {
    snapshot.nodes.iter_mut().find(|node| node.key.0 == name).unwrap()
}

pub(super) fn machines(pool: &mut Pool, change: impl Fn(&mut Offering)) {
    let mut all = pool.instance_types.to_vec();
    all.iter_mut().flat_map(|machine| &mut machine.offerings).for_each(change);
    pool.instance_types = Arc::from(all);
}
