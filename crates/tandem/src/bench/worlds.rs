//! The workloads that are timed, and what is demanded of each.

use std::{collections::BTreeMap, sync::Arc};

use requirements::{Operator, RequirementTerm, labels};
use scheduling::{
    LabelSelector, Node, NodeInclusion, NodeKey, NodeStage, Pod, PodAffinityTerm, PodKey, Snapshot, Strength,
    TopologySpread, WhenUnsatisfiable,
};
use units::{Amount, ResourceList, ResourceName};

use crate::generate::{Random, karpenter_mix_snapshot};

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// Makes it.
    pub world: fn() -> Snapshot,
    /// Whether what pods prefer is left to the scheduler.
    pub ignore_preferences: bool,
    /// The most pods without a place: those that nothing there is or could be takes.
    pub most_left: usize,
    /// The most time to the first plan, on two cores of no special kind. Unit: milliseconds.
    pub most_ms: Option<f64>,
    /// The most nodes of the first plan; Karpenter has as many. The plan by price may have more if it is cheaper.
    pub most_nodes: Option<usize>,
    /// The most memory of the process. Unit: MiB.
    pub most_mib: Option<u64>,
}

const SEED: u64 = 42;
const MIB: i64 = 1 << 20;

/// All of them.
pub const CASES: [Case; 11] = [
    // 21 nodes; Karpenter has 20, which is demanded from 1,000 pods on.
    case("mix-100", || karpenter_mix_snapshot(100, SEED)),
    Case { most_ms: Some(20.0), most_nodes: Some(200), ..case("mix-1k", || karpenter_mix_snapshot(1000, SEED)) },
    Case { most_nodes: Some(400), ..case("mix-2k", || karpenter_mix_snapshot(2000, SEED)) },
    Case { most_nodes: Some(1000), ..case("mix-5k", || karpenter_mix_snapshot(5000, SEED)) },
    Case { most_ms: Some(150.0), most_nodes: Some(2000), ..case("mix-10k", || karpenter_mix_snapshot(10_000, SEED)) },
    Case {
        most_ms: Some(2000.0),
        most_nodes: Some(20_000),
        most_mib: Some(500),
        ..case("mix-100k", || karpenter_mix_snapshot(100_000, SEED))
    },
    case("preferences-4k", || preferences(4000)),
    Case { ignore_preferences: true, ..case("preferences-4k-ignored", || preferences(4000)) },
    Case { most_mib: Some(60), ..case("host-spread-2k", || host_spread(2000)) },
    Case { most_ms: Some(100.0), ..case("nodes-5k-pending-500", || cluster(5000, 500)) },
    Case { most_ms: Some(1000.0), ..case("all-different-10k", || all_different(10_000)) },
];

pub(super) const fn case(name: &'static str, world: fn() -> Snapshot) -> Case {
    Case { name, world, ignore_preferences: false, most_left: 0, most_ms: None, most_nodes: None, most_mib: None }
}

/// The pool and the types of Karpenter's mix, without its pods.
pub(super) fn empty() -> Snapshot {
    karpenter_mix_snapshot(0, SEED)
}

pub(super) fn pod(name: String, milli_cpu: i64, mib: i64) -> Pod {
    let mut pod = Pod::new(PodKey::new("default", name));
    pod.requests = resources(milli_cpu, mib, 1);
    pod
}

pub(super) fn resources(milli_cpu: i64, mib: i64, pods: i64) -> ResourceList {
    ResourceList::new()
        .with(ResourceName::cpu(), Amount(milli_cpu))
        .with(ResourceName::memory(), Amount(mib * MIB))
        .with(ResourceName::pods(), Amount(pods))
}

pub(super) fn labelled(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

pub(super) fn apart(selected: BTreeMap<String, String>, key: &str, strength: Strength) -> PodAffinityTerm {
    PodAffinityTerm {
        strength,
        topology_key: key.to_owned(),
        selector: Some(LabelSelector { match_labels: selected, match_expressions: Vec::new() }),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    }
}

pub(super) fn even(selected: BTreeMap<String, String>, key: &str) -> TopologySpread {
    TopologySpread {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
        selector: Some(LabelSelector { match_labels: selected, match_expressions: Vec::new() }),
        min_domains: None,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
        match_label_keys: Vec::new(),
    }
}

/// Karpenter's pods with preferences: all alike, a zone that can be had, and to be apart from each other by zone, which
/// cannot be had, and by host, which can.
fn preferences(count: usize) -> Snapshot {
    let mut world = empty();
    let app = || labelled("app", "nginx");
    world.pods = (0..count)
        .map(|index| {
            let mut pod = pod(format!("pod-{index}"), 500, 512);
            pod.labels = app();
            let zone = RequirementTerm::new(labels::ZONE, Operator::In, ["test-zone-1"]);
            pod.preferred_node_affinity = vec![(1, vec![zone])];
            pod.pod_anti_affinity = vec![
                apart(app(), labels::ZONE, Strength::Preferred { weight: 10 }),
                apart(app(), labels::HOSTNAME, Strength::Preferred { weight: 1 }),
            ];
            Arc::new(pod)
        })
        .collect();
    world
}

/// Pods of one workload, one more on a host at most than on any other.
fn host_spread(count: usize) -> Snapshot {
    let mut world = empty();
    world.pods = (0..count)
        .map(|index| {
            let mut pod = pod(format!("pod-{index}"), 250, 256);
            pod.labels = labelled("app", "web");
            pod.topology_spread = vec![even(labelled("app", "web"), labels::HOSTNAME)];
            Arc::new(pod)
        })
        .collect();
    world
}

/// A large cluster, twenty pods on each node, one of which wants to be the only one of its kind there; and some pods of
/// Karpenter's mix that wait.
fn cluster(nodes: usize, pending: usize) -> Snapshot {
    let mut world = karpenter_mix_snapshot(pending, SEED);
    let mut random = Random::new(SEED);
    world.nodes = (0..nodes)
        .map(|node| {
            let name = format!("node-{node}");
            let pods = (0..20).map(|index| {
                let mut pod = pod(format!("running-{node}-{index}"), 700, 2500);
                if index == 0 {
                    pod.labels = labelled("app", "nginx");
                    pod.pod_anti_affinity = vec![apart(labelled("app", "nginx"), labels::HOSTNAME, Strength::Required)];
                } else {
                    pod.labels = labelled("my-label", random.pick(&["a", "b", "c", "d", "e", "f", "g"]));
                }
                Arc::new(pod)
            });
            Node {
                pods: pods.collect(),
                pool: Some(world.pools[0].key.clone()),
                stage: NodeStage::Ready,
                labels: BTreeMap::from([
                    (labels::NODEPOOL.to_owned(), "default".to_owned()),
                    (labels::HOSTNAME.to_owned(), name.clone()),
                    (labels::ZONE.to_owned(), format!("test-zone-{}", 1 + node % 3)),
                    (labels::CAPACITY_TYPE.to_owned(), "on-demand".to_owned()),
                    (labels::INSTANCE_TYPE.to_owned(), "fake-it-15".to_owned()),
                    (labels::ARCH.to_owned(), "amd64".to_owned()),
                    (labels::OS.to_owned(), "linux".to_owned()),
                ]),
                taints: Vec::new(),
                startup_taints: Vec::new(),
                allocatable: resources(15_000, 52_000, 160),
                volume_limits: BTreeMap::new(),
                price: None,
                key: NodeKey(name),
            }
        })
        .collect();
    world
}

/// Pods of which no two are alike: each with its own size, and spread and kept apart by its own label.
fn all_different(count: usize) -> Snapshot {
    let mut world = empty();
    let mut random = Random::new(SEED);
    world.pods = (0..count)
        .map(|index| {
            let own = format!("app-{index}");
            let (cpu, spare) = (random.below(1500), random.below(3000));
            let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            let mut pod = pod(format!("pod-{index}"), 100 + whole(cpu), 100 + whole(spare));
            pod.labels = labelled("app", &own);
            pod.topology_spread = vec![even(labelled("app", &own), labels::ZONE)];
            pod.pod_anti_affinity = vec![apart(labelled("app", &own), labels::HOSTNAME, Strength::Required)];
            Arc::new(pod)
        })
        .collect();
    world
}
