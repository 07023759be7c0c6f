//! Small worlds for tests: builders, a generator of random snapshots, and the best plan of a small one by trying all.

mod exhaustive;

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::{Operator, Requirement, RequirementTerm, Requirements, labels};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

use crate::{
    CapacityType, HostPort, InstanceType, LabelSelector, Node, NodeInclusion, NodeKey, NodeStage, Offering, OwnerKey,
    Pod, PodAffinityTerm, PodKey, Pool, PoolKey, PoolKind, Protocol, Snapshot, Solution, Strength, Taint, TaintEffect,
    Toleration, TolerationOperator, TopologySpread, WhenUnsatisfiable,
    check::{Violation, check},
};

pub(crate) use exhaustive::{Best, best, best_beyond, counts};

pub(crate) const GIB: i64 = 1 << 30;

pub(crate) fn resources(milli_cpu: i64, gib: i64, pods: i64) -> ResourceList {
    ResourceList::new()
        .with(ResourceName::cpu(), Amount(milli_cpu))
        .with(ResourceName::memory(), Amount(gib * GIB))
        .with(ResourceName::pods(), Amount(pods))
}

pub(crate) fn pod(name: &str, milli_cpu: i64, gib: i64) -> Pod {
    let mut pod = Pod::new(PodKey::new("shop", name));
    pod.requests = resources(milli_cpu, gib, 1);
    pod
}

pub(crate) fn term(key: &str, operator: Operator, values: &[&str]) -> RequirementTerm {
    RequirementTerm::new(key, operator, values.iter().copied())
}

pub(crate) fn taint(key: &str) -> Taint {
    Taint { key: key.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule }
}

pub(crate) fn toleration(key: &str) -> Toleration {
    let key = Some(key.to_owned());
    Toleration { key, operator: TolerationOperator::Exists, value: String::new(), effect: None }
}

pub(crate) fn port(port: u16) -> HostPort {
    HostPort { ip: String::new(), port, protocol: Protocol::Tcp }
}

/// The pods with this label, in one domain of the topology.
pub(crate) fn near(app: &str, topology_key: &str) -> PodAffinityTerm {
    PodAffinityTerm {
        strength: Strength::Required,
        topology_key: topology_key.to_owned(),
        selector: Some(LabelSelector { match_labels: labels_of(&[("app", app)]), match_expressions: Vec::new() }),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    }
}

/// The pods with this label, evenly over the domains of the topology.
pub(crate) fn spread(app: &str, topology_key: &str) -> TopologySpread {
    TopologySpread {
        max_skew: 1,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
        selector: near(app, topology_key).selector,
        min_domains: None,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
        match_label_keys: Vec::new(),
    }
}

pub(crate) fn labels_of(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn on_daemon_set(mut pod: Pod, set: &str) -> Pod {
    pod.owner = Some(OwnerKey { kind: "DaemonSet".to_owned(), name: set.to_owned(), uid: String::new() });
    pod
}

/// A type of so many cpus and four times the GiB, on demand at 0.05 $ per cpu in zones a and b, on spot at 0.02 $ in a.
pub(crate) fn machine(name: &str, arch: &str, cpus: i64) -> InstanceType {
    let offering = |zone: &str, capacity_type, price: i64| Offering {
        zone: zone.to_owned(),
        capacity_type,
        price: UsdMicrosPerHour(price * cpus),
        available: true,
        remaining: None,
    };
    InstanceType {
        name: name.to_owned(),
        requirements: [
            Requirement::one_of(labels::ARCH, [arch]),
            Requirement::one_of(labels::OS, ["linux"]),
            Requirement::one_of(labels::INSTANCE_TYPE, [name]),
            Requirement::one_of("karpenter.k8s.aws/instance-cpu", [cpus.to_string()]),
        ]
        .into_iter()
        .collect(),
        capacity: resources(cpus * 1000, cpus * 4, 20),
        overhead: resources(100, 0, 0),
        offerings: vec![
            offering("a", CapacityType::OnDemand, 50_000),
            offering("b", CapacityType::OnDemand, 50_000),
            offering("a", CapacityType::Spot, 20_000),
        ],
    }
}

pub(crate) fn catalogue() -> Arc<[InstanceType]> {
    Arc::from([
        machine("m.large", "amd64", 2),
        machine("m.xlarge", "amd64", 4),
        machine("m.2xlarge", "amd64", 8),
        machine("g.large", "arm64", 2),
        machine("g.4xlarge", "arm64", 16),
    ])
}

pub(crate) fn pool(name: &str) -> Pool {
    Pool {
        key: PoolKey { kind: PoolKind::NodePool, name: name.to_owned() },
        weight: 0,
        requirements: Requirements::new(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        startup_taints: Vec::new(),
        limits: None,
        used: ResourceList::new(),
        instance_types: catalogue(),
    }
}

pub(crate) fn node(name: &str, milli_cpu: i64) -> Node {
    Node {
        key: NodeKey(name.to_owned()),
        pool: None,
        stage: NodeStage::Ready,
        labels: labels_of(&[(labels::ZONE, "a"), (labels::ARCH, "amd64")]),
        taints: Vec::new(),
        startup_taints: Vec::new(),
        allocatable: resources(milli_cpu, 16, 20),
        pods: Vec::new(),
        volume_limits: BTreeMap::new(),
        price: None,
    }
}

pub(crate) fn snapshot(pods: Vec<Pod>, nodes: Vec<Node>, pools: Vec<Pool>) -> Snapshot {
    Snapshot { pods: pods.into_iter().map(Arc::new).collect(), nodes, pools, ..Snapshot::default() }
}

/// What is wrong with a solution.
pub(crate) fn broken(snapshot: &Snapshot, solution: &Solution) -> Vec<Violation> {
    check(snapshot, solution)
}

// ---- random worlds ----

fn some_terms() -> impl Strategy<Value = Vec<RequirementTerm>> {
    let one = select(vec![
        term(labels::ZONE, Operator::In, &["a"]),
        term(labels::ZONE, Operator::NotIn, &["a"]),
        term(labels::ARCH, Operator::In, &["arm64"]),
        term(labels::ARCH, Operator::In, &["amd64"]),
        term(labels::CAPACITY_TYPE, Operator::In, &["spot"]),
        term(labels::CAPACITY_TYPE, Operator::In, &["on-demand"]),
        term("karpenter.k8s.aws/instance-cpu", Operator::Gt, &["2"]),
        term("karpenter.k8s.aws/instance-cpu", Operator::Lt, &["16"]),
        term("team", Operator::In, &["red", "blue"]),
        term("team", Operator::In, &["blue"]),
        term("team", Operator::Exists, &[]),
        term("team", Operator::NotIn, &["red"]),
        term("team", Operator::DoesNotExist, &[]),
        term(labels::HOSTNAME, Operator::In, &["n0"]),
        term(labels::NODEPOOL, Operator::In, &["p1"]),
    ]);
    vec(one, 0..3)
}

fn rarely<T: Strategy>(strategy: T) -> impl Strategy<Value = Option<T::Value>>
where
    T::Value: Clone,
{
    option::weighted(0.2, strategy)
}

fn some_pod(prefix: &'static str) -> impl Strategy<Value = Pod> {
    let size = (select(vec![0i64, 100, 500, 1000, 1900, 3000, 9000]), 0i64..20);
    let place = (rarely(some_terms()), rarely(some_terms()), rarely(some_terms()), rarely(Just(())));
    let app = select(vec!["web", "db"]);
    let relations = (rarely((select(vec!["web", "db"]), 0..2u8)), rarely((select(vec!["web", "db"]), 0..2u8)));
    (0u16..1000, size, place, rarely(select(vec![80u16, 81])), app, relations, any::<bool>()).prop_map(
        move |(number, (cpu, gib), (affine, alternative, volumes, tolerant), ports, app, (close, apart), old)| {
            let mut pod = pod(&format!("{prefix}{number}"), cpu, gib);
            pod.required_node_affinity =
                [affine, alternative].into_iter().flatten().filter(|t| !t.is_empty()).collect();
            pod.volume_zones = volumes.into_iter().flatten().filter(|term| term.key == labels::ZONE).collect();
            pod.tolerations = tolerant.iter().map(|()| toleration("gpu")).collect();
            pod.host_ports = ports.map(port).into_iter().collect();
            pod.labels = labels_of(&[("app", app)]);
            pod.created_at_unix_seconds = i64::from(old);
            let key = |which| if which == 0 { labels::HOSTNAME } else { labels::ZONE };
            pod.pod_affinity = close.map(|(app, which)| near(app, key(which))).into_iter().collect();
            pod.pod_anti_affinity = apart.map(|(app, which)| near(app, key(which))).into_iter().collect();
            pod
        },
    )
}

fn some_pool(name: String) -> impl Strategy<Value = Pool> {
    let limit = (select(vec![0i64, 2000, 9000, 20_000, 64_000]), rarely(0i64..5), 0i64..9000);
    (
        some_terms(),
        option::of(limit),
        rarely(Just(())),
        rarely(Just(())),
        0u32..2,
        vec(any::<prop::sample::Index>(), 0..6),
        rarely(1u32..4),
    )
        .prop_map(move |(terms, limit, tainted, labelled, weight, gone, min_values)| {
            let mut pool = pool(&name);
            let allowed = |term: &RequirementTerm| term.key != labels::HOSTNAME && term.key != labels::NODEPOOL;
            let terms: Vec<_> = terms.into_iter().filter(allowed).collect();
            pool.requirements = Requirements::try_from(terms.as_slice()).unwrap();
            if let Some(least) = min_values {
                pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(least)));
            }
            pool.weight = weight;
            pool.taints = tainted.iter().map(|()| taint("gpu")).collect();
            pool.labels = labelled.map(|()| labels_of(&[("team", "blue")])).unwrap_or_default();
            pool.limits = limit.map(|(cpu, nodes, _)| {
                let list = ResourceList::new().with(ResourceName::cpu(), Amount(cpu));
                nodes.map_or(list.clone(), |count| list.with("nodes".into(), Amount(count)))
            });
            pool.used = limit.map_or(ResourceList::new(), |(.., used)| resources(used, 0, 0));
            let mut machines = catalogue().to_vec();
            for index in gone {
                let machine = index.index(machines.len());
                let offering = index.index(machines[machine].offerings.len());
                machines[machine].offerings[offering].available = false;
            }
            pool.instance_types = Arc::from(machines);
            pool
        })
}

fn some_node(name: String) -> impl Strategy<Value = Node> {
    let stage = select(vec![NodeStage::Ready, NodeStage::InFlight, NodeStage::Leaving]);
    let bound = vec((some_pod("bound-"), rarely(Just(()))), 0..3);
    (stage, select(vec![1000i64, 4000, 8000]), rarely(Just(())), any::<bool>(), bound, any::<bool>()).prop_map(
        move |(stage, cpu, tainted, team, bound, in_b)| {
            let mut node = node(&name, cpu);
            node.stage = stage;
            node.taints = tainted.iter().map(|()| taint("gpu")).collect();
            node.startup_taints = node.taints.clone();
            if team {
                node.labels.insert("team".to_owned(), "red".to_owned());
            }
            if in_b {
                node.labels.insert(labels::ZONE.to_owned(), "b".to_owned());
            }
            let mine = |(mut pod, told_to_go): (Pod, Option<()>)| {
                pod.key.name = format!("{name}-{}", pod.key.name);
                pod.terminating = told_to_go.is_some();
                Arc::new(pod)
            };
            node.pods = bound.into_iter().map(mine).collect();
            node
        },
    )
}

/// Any snapshot with a handful of pods, nodes and pools, in which everything can happen.
pub(crate) fn some_snapshot() -> impl Strategy<Value = Snapshot> {
    let pools = (some_pool("p0".to_owned()), some_pool("p1".to_owned()), 0usize..3);
    let nodes = (some_node("n0".to_owned()), some_node("n1".to_owned()), some_node("n2".to_owned()), 0usize..4);
    let daemons = vec(some_pod("daemon-"), 0..3);
    (vec(some_pod("pod-"), 0..25), pools, nodes, daemons).prop_map(|(pods, pools, nodes, daemons)| {
        let mut seen = std::collections::BTreeSet::new();
        let pods: Vec<Pod> = pods.into_iter().filter(|pod| seen.insert(pod.key.clone())).collect();
        let (p0, p1, count) = pools;
        let pools = vec![p0, p1].into_iter().take(count).collect();
        let (n0, n1, n2, count) = nodes;
        let nodes = vec![n0, n1, n2].into_iter().take(count).collect();
        let mut snapshot = snapshot(pods, nodes, pools);
        let small = |mut daemon: Pod| {
            daemon.requests = resources(100, 0, 1);
            daemon.pod_affinity.clear();
            daemon.pod_anti_affinity.clear();
            let set = daemon.key.name.clone();
            Arc::new(on_daemon_set(daemon, &set))
        };
        snapshot.daemons = daemons.into_iter().map(small).collect();
        snapshot
    })
}

/// Any such snapshot in which pods also demand or wish to be spread, and wish what they otherwise demand.
pub(crate) fn some_related_snapshot() -> impl Strategy<Value = Snapshot> {
    let even = rarely((select(vec!["web", "db"]), 0usize..3, 1..3u32));
    (some_snapshot(), vec((even, any::<bool>(), any::<bool>()), 25)).prop_map(|(mut snapshot, more)| {
        for (pod, (even, anyway, wished)) in snapshot.pods.iter_mut().zip(more) {
            let pod = Arc::make_mut(pod);
            if wished {
                for term in pod.pod_affinity.iter_mut().chain(&mut pod.pod_anti_affinity) {
                    term.strength = Strength::Preferred { weight: 10 };
                }
            }
            pod.topology_spread.extend(even.map(|(app, key, max_skew)| {
                let key = [labels::HOSTNAME, labels::ZONE, labels::CAPACITY_TYPE][key];
                let when = if anyway { WhenUnsatisfiable::ScheduleAnyway } else { WhenUnsatisfiable::DoNotSchedule };
                TopologySpread { max_skew, when_unsatisfiable: when, ..spread(app, key) }
            }));
        }
        snapshot
    })
}
