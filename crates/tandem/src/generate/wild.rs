//! A snapshot from any bytes, for tests that look for input nobody thought of: names collide, labels meet, numbers are small,
//! exact, or beyond all sense. Few bytes make a small snapshot, so what a fuzzer finds can be made smaller byte by byte.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arbitrary::Unstructured;
use requirements::{Operator, Requirement, RequirementTerm, Requirements, labels};
use scheduling::{
    CapacityType, HostPort, InstanceType, LabelSelector, Node, NodeInclusion, NodeKey, NodeStage, Offering, OwnerKey,
    Pod, PodAffinityTerm, PodKey, Pool, PoolKey, PoolKind, Protocol, Snapshot, Strength, Taint, TaintEffect,
    Toleration, TolerationOperator, TopologySpread, WhenUnsatisfiable,
};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

const GIB: i64 = 1 << 30;
const ZONES: [&str; 4] = ["a", "b", "c", ""];
const APPS: [&str; 4] = ["web", "db", "batch", "x"];
const CPU_COUNT: &str = "example.com/cpus";
const KEYS: [&str; 7] =
    [labels::ZONE, labels::HOSTNAME, labels::CAPACITY_TYPE, "team", labels::ARCH, CPU_COUNT, labels::INSTANCE_TYPE];
const VALUES: [&str; 12] =
    ["a", "b", "spot", "on-demand", "red", "blue", "amd64", "arm64", "2", "8", "node-1", "type-1"];
const ODD: [i64; 8] = [0, 1, -1, i64::MAX, i64::MIN, i64::MAX / 2, 1 << 53, -(1 << 40)];

/// The snapshot that these bytes say.
pub fn wild_snapshot(bytes: &[u8]) -> Snapshot {
    let mut draw = Draw(Unstructured::new(bytes));
    // What is drawn first has most of the bytes; without pools and nodes nothing happens.
    let pools = draw.several(3, Draw::pool);
    let nodes = draw.several(4, Draw::node);
    let daemons = draw.several(3, |draw, index| {
        let mut pod = draw.pod(&format!("daemon-{index}"));
        pod.owner = Some(OwnerKey { kind: "DaemonSet".to_owned(), name: pod.key.name.clone(), uid: String::new() });
        Arc::new(pod)
    });
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    while pods.len() < 40 && !draw.0.is_empty() {
        let pod = draw.pod(&format!("pod-{}", pods.len()));
        // Workloads have several pods that are alike.
        let copies = if draw.rarely() { draw.below(6) } else { 0 };
        for copy in 0..copies {
            let mut other = pod.clone();
            other.key.name = format!("{}-{copy}", pod.key.name);
            pods.push(Arc::new(other));
        }
        pods.push(Arc::new(pod));
    }
    let namespace_labels = BTreeMap::from([("shop".to_owned(), BTreeMap::from([draw.label()]))]);
    Snapshot { sequence: 0, pods, nodes, pools, daemons, namespace_labels }
}

/// Choices, as the bytes have them; when these are used up, always the first and never what is rare.
struct Draw<'b>(Unstructured<'b>);

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        if self.0.is_empty() { u8::MAX } else { self.0.arbitrary().unwrap_or(u8::MAX) }
    }

    fn rarely(&mut self) -> bool {
        self.byte() < 48
    }

    fn below(&mut self, end: usize) -> usize {
        if self.0.is_empty() { 0 } else { self.0.int_in_range(0..=end.saturating_sub(1)).unwrap_or(0) }
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn several<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self, usize) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|index| one(self, index)).collect()
    }

    /// One of these, or rarely a number without sense.
    fn amount(&mut self, sensible: &[i64]) -> i64 {
        if self.byte() < 4 { self.pick(&ODD) } else { self.pick(sensible) }
    }

    fn resources(&mut self, cpus: &[i64], gibs: &[i64], pods: &[i64]) -> ResourceList {
        let bytes = self.amount(gibs);
        let mut list = ResourceList::new()
            .with(ResourceName::cpu(), Amount(self.amount(cpus)))
            .with(ResourceName::memory(), Amount(bytes.saturating_mul(GIB)))
            .with(ResourceName::pods(), Amount(self.amount(pods)));
        if self.rarely() {
            list.set("example.com/gpu".into(), Amount(self.amount(&[1, 2, 4])));
        }
        list
    }

    fn label(&mut self) -> (String, String) {
        (self.pick(&KEYS).to_owned(), self.pick(&VALUES).to_owned())
    }

    fn term(&mut self) -> RequirementTerm {
        let operators = [
            Operator::In,
            Operator::NotIn,
            Operator::Exists,
            Operator::DoesNotExist,
            Operator::Gt,
            Operator::Lt,
            Operator::Gte,
            Operator::Lte,
        ];
        let (key, operator) = (self.pick(&KEYS), self.pick(&operators));
        let count = match operator {
            Operator::In | Operator::NotIn => 1 + self.below(2),
            Operator::Exists | Operator::DoesNotExist => 0,
            _ => 1,
        };
        // Rarely a number of values that the operator does not take.
        let count = if self.byte() < 4 { self.below(3) } else { count };
        RequirementTerm::new(key, operator, (0..count).map(|_| self.pick(&VALUES)).collect::<Vec<_>>())
    }

    fn selector(&mut self) -> Option<LabelSelector> {
        if self.byte() < 8 {
            return None;
        }
        let match_labels = if self.byte() < 8 {
            BTreeMap::new()
        } else {
            BTreeMap::from([("app".to_owned(), self.pick(&APPS).to_owned())])
        };
        let match_expressions = if self.rarely() { vec![self.term()] } else { Vec::new() };
        Some(LabelSelector { match_labels, match_expressions })
    }

    fn taint(&mut self) -> Taint {
        let effects = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute];
        let key = self.pick(&["gpu", "team", "node.kubernetes.io/not-ready"]);
        Taint { key: key.to_owned(), value: self.pick(&["", "red"]).to_owned(), effect: self.pick(&effects) }
    }

    fn near(&mut self) -> PodAffinityTerm {
        let weight = self.pick(&[1, 100, 0, -5]);
        let strength = if self.rarely() { Strength::Preferred { weight } } else { Strength::Required };
        PodAffinityTerm {
            strength,
            topology_key: self.pick(&KEYS).to_owned(),
            selector: self.selector(),
            namespaces: if self.rarely() { vec![self.pick(&["shop", "back", ""]).to_owned()] } else { Vec::new() },
            namespace_selector: if self.rarely() { self.selector() } else { None },
            match_label_keys: if self.rarely() { vec!["app".to_owned()] } else { Vec::new() },
            mismatch_label_keys: if self.byte() < 8 { vec!["app".to_owned()] } else { Vec::new() },
        }
    }

    fn spread(&mut self) -> TopologySpread {
        let inclusion = [NodeInclusion::Honor, NodeInclusion::Ignore];
        let when = if self.rarely() { WhenUnsatisfiable::ScheduleAnyway } else { WhenUnsatisfiable::DoNotSchedule };
        TopologySpread {
            max_skew: self.pick(&[1, 1, 1, 2, 3, u32::MAX]),
            topology_key: self.pick(&KEYS).to_owned(),
            when_unsatisfiable: when,
            selector: self.selector(),
            min_domains: if self.rarely() { Some(self.pick(&[1, 2, 3, 0, u32::MAX])) } else { None },
            node_affinity_policy: self.pick(&inclusion),
            node_taints_policy: self.pick(&inclusion),
            match_label_keys: if self.rarely() { vec!["app".to_owned()] } else { Vec::new() },
        }
    }

    fn terms(&mut self) -> Vec<RequirementTerm> {
        self.several(2, |draw, _| draw.term())
    }

    fn pod(&mut self, name: &str) -> Pod {
        let namespace = if self.byte() < 16 { "back" } else { "shop" };
        let mut pod = Pod::new(PodKey::new(namespace, name));
        pod.requests = self.resources(&[100, 250, 500, 1000, 1900, 3000, 0], &[0, 1, 2, 8], &[1]);
        pod.labels.insert("app".to_owned(), self.pick(&APPS).to_owned());
        pod.priority = if self.rarely() { self.pick(&[1000, -1, i32::MAX, i32::MIN]) } else { 0 };
        if self.rarely() {
            pod.node_selector.extend([self.label()]);
        }
        if self.rarely() {
            pod.required_node_affinity = self.several(3, |draw, _| draw.terms());
        }
        if self.rarely() {
            pod.preferred_node_affinity = vec![(self.pick(&[1, 50, i32::MAX, -1]), self.terms())];
        }
        if self.rarely() {
            let operator = self.pick(&[TolerationOperator::Exists, TolerationOperator::Equal]);
            let key = Some(self.pick(&["gpu", "team", ""]).to_owned()).filter(|key| !key.is_empty());
            pod.tolerations = vec![Toleration { key, operator, value: String::new(), effect: None }];
        }
        if self.rarely() {
            pod.topology_spread = self.several(2, |draw, _| draw.spread());
        }
        if self.rarely() {
            pod.pod_affinity = self.several(2, |draw, _| draw.near());
        }
        if self.rarely() {
            pod.pod_anti_affinity = self.several(2, |draw, _| draw.near());
        }
        if self.rarely() {
            let protocol = self.pick(&[Protocol::Tcp, Protocol::Udp]);
            pod.host_ports =
                vec![HostPort { ip: self.pick(&["", "10.0.0.1"]).to_owned(), port: self.pick(&[80, 0]), protocol }];
        }
        if self.rarely() {
            pod.volume_zones = vec![RequirementTerm::new(labels::ZONE, Operator::In, [self.pick(&ZONES)])];
            let names = ["v1", "v2"].iter().take(1 + self.below(2)).map(|name| (*name).to_owned());
            pod.volumes_by_driver = BTreeMap::from([("disk".to_owned(), names.collect::<BTreeSet<_>>())]);
        }
        pod
    }

    fn node(&mut self, index: usize) -> Node {
        let name = format!("node-{index}");
        let mut own = BTreeMap::from([
            (labels::ZONE.to_owned(), self.pick(&ZONES).to_owned()),
            (labels::HOSTNAME.to_owned(), name.clone()),
            (labels::ARCH.to_owned(), "amd64".to_owned()),
        ]);
        if self.rarely() {
            own.extend([self.label()]);
        }
        let taints = if self.rarely() { vec![self.taint()] } else { Vec::new() };
        let pods = self.several(3, |draw, pod| Arc::new(draw.pod(&format!("bound-{index}-{pod}"))));
        Node {
            key: NodeKey(name),
            pool: self.rarely().then(|| pool_key(0)),
            stage: self.pick(&[NodeStage::Ready, NodeStage::InFlight, NodeStage::Leaving]),
            labels: own,
            startup_taints: if self.rarely() { taints.clone() } else { Vec::new() },
            taints,
            allocatable: self.resources(&[1900, 3900, 7900], &[4, 16], &[20, 3]),
            pods,
            volume_limits: if self.rarely() {
                BTreeMap::from([("disk".to_owned(), self.pick(&[1, 2, 0, u32::MAX]))])
            } else {
                BTreeMap::new()
            },
            price: None,
        }
    }

    fn pool(&mut self, index: usize) -> Pool {
        let mut wanted = Requirements::new();
        // What names a node is no pool's to say: the API refuses it.
        let own = |key: &str| key != labels::HOSTNAME;
        for term in self.terms().into_iter().filter(|term| own(&term.key)) {
            wanted.add_all(&Requirements::try_from([term].as_slice()).unwrap_or_default());
        }
        if self.byte() < 16 {
            wanted.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(self.pick(&[1, 2, 3, 99]))));
        }
        let limits = self.rarely().then(|| {
            let cpus = ResourceList::new().with(ResourceName::cpu(), Amount(self.amount(&[2000, 8000, 20_000])));
            if self.rarely() { cpus.with("nodes".into(), Amount(self.amount(&[1, 3]))) } else { cpus }
        });
        Pool {
            key: pool_key(index),
            weight: self.pick(&[0, 0, 10, u32::MAX]),
            requirements: wanted,
            labels: self.rarely().then(|| self.label()).into_iter().filter(|(key, _)| own(key)).collect(),
            taints: if self.byte() < 16 { vec![self.taint()] } else { Vec::new() },
            startup_taints: if self.byte() < 16 { vec![self.taint()] } else { Vec::new() },
            limits,
            used: ResourceList::new().with(ResourceName::cpu(), Amount(self.amount(&[0, 0, 4000]))),
            instance_types: self.several(4, Self::instance_type).into(),
        }
    }

    fn instance_type(&mut self, index: usize) -> InstanceType {
        let cpus = self.pick(&[2, 4, 8, 16]);
        let arch = self.pick(&["amd64", "amd64", "arm64"]);
        let mut offerings: Vec<Offering> = Vec::new();
        for _ in 0..=self.below(4) {
            let (zone, capacity_type) = (
                self.pick(&ZONES[..3]),
                self.pick(&[CapacityType::OnDemand, CapacityType::Spot, CapacityType::Reserved]),
            );
            let reserved = capacity_type == CapacityType::Reserved;
            let offering = Offering {
                zone: zone.to_owned(),
                capacity_type,
                price: UsdMicrosPerHour(self.amount(&[20_000, 50_000, 50_000, 51_000]).max(0).saturating_mul(cpus)),
                available: self.byte() >= 16,
                remaining: reserved.then(|| self.pick(&[0, 1, 2])),
            };
            let same = |one: &Offering| (&one.zone, one.capacity_type) == (&offering.zone, capacity_type);
            if !offerings.iter().any(same) {
                offerings.push(offering);
            }
        }
        let name = format!("type-{index}");
        InstanceType {
            requirements: [
                Requirement::one_of(labels::ARCH, [arch]),
                Requirement::one_of(labels::OS, ["linux"]),
                Requirement::one_of(labels::INSTANCE_TYPE, [name.as_str()]),
                Requirement::one_of(CPU_COUNT, [cpus.to_string()]),
            ]
            .into_iter()
            .collect(),
            capacity: self.resources(&[cpus * 1000], &[cpus * 2, cpus * 4], &[20, 5]),
            overhead: ResourceList::new().with(ResourceName::cpu(), Amount(self.amount(&[100, 0]))),
            offerings,
            name,
        }
    }
}

fn pool_key(index: usize) -> PoolKey {
    let kind = if index == 1 { PoolKind::Provisioner } else { PoolKind::NodePool };
    PoolKey { kind, name: format!("pool-{index}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Random;

    #[test]
    fn no_bytes_are_an_empty_world_and_many_are_one_in_which_things_happen() {
        let nothing = wild_snapshot(&[]);
        assert_eq!((nothing.pods.len(), nothing.nodes.len(), nothing.pools.len()), (0, 0, 0));
        let mut random = Random::new(1);
        let worlds: Vec<Snapshot> = (0..50)
            .map(|_| wild_snapshot(&(0..200).flat_map(|_| random.bits().to_le_bytes()).collect::<Vec<u8>>()))
            .collect();
        assert!(worlds.iter().any(|world| world.pods.len() > 10 && world.pools.len() > 1 && world.nodes.len() > 1));
        assert!(worlds.iter().flat_map(|world| &world.pods).any(|pod| !pod.topology_spread.is_empty()));
        assert!(worlds.iter().flat_map(|world| &world.pods).any(|pod| !pod.pod_affinity.is_empty()));
    }
}
