use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use requirements::Requirements;
use serde::{Deserialize, Deserializer, Serialize};
use units::{ResourceList, UsdMicrosPerHour};

use crate::{Pod, Taint};

/// Everything known at one instant that placing depends on. The order of its lists means nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Which snapshot this is; later ones have larger numbers.
    #[serde(default)]
    pub sequence: u64,
    /// The pods to place: pending ones, and those that leave a node. Their keys are distinct.
    #[serde(default)]
    pub pods: Vec<Arc<Pod>>,
    /// The nodes there are and those under way. Their keys are distinct.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// The pools that may grow.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// One pod as each DaemonSet would make it: new nodes keep room for those that they would run.
    #[serde(default)]
    pub daemons: Vec<Arc<Pod>>,
    /// The labels of each namespace.
    #[serde(default)]
    pub namespace_labels: BTreeMap<String, BTreeMap<String, String>>,
}

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Whether wishes (preferred affinity, `ScheduleAnyway`) are left to the kube-scheduler. Otherwise they are demands
    /// that are given up one by one, in Karpenter's order, for a pod that finds no place with them. Karpenter's
    /// `PREFERENCE_POLICY`.
    pub ignore_preferences: bool,
    /// Whether a node may be made though fewer different values remain possible than `minValues` demands. Karpenter's
    /// `MIN_VALUES_POLICY=BestEffort`.
    pub relax_min_values: bool,
    /// How much work one solve may do before it stops with what it has; pods it did not come to are
    /// [`Unfit::NotTried`](crate::Unfit::NotTried). Unit: tests of one group of equal pods against one node or pool. A count, not
    /// a time, so that the same input ends at the same place.
    pub budget_work_units: u64,
    /// How much work the search for a cheaper plan may do before it stops with the best so far. Unit: steps of its inner
    /// loops, each some nanoseconds. A count for the same reason.
    pub search_work_units: u64,
    /// How many offerings a new node keeps at most, the cheapest; 0 counts as 1. Karpenter sends 60 types to CreateFleet.
    pub max_alternatives: usize,
    /// How near to the proven bound is near enough to stop searching. Unit: millionths of the bound. For few pods the search
    /// goes on to the end.
    pub target_gap_ppm: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ignore_preferences: false,
            relax_min_values: false,
            budget_work_units: 50_000_000,
            search_work_units: 100_000_000,
            max_alternatives: 60,
            target_gap_ppm: 5_000,
        }
    }
}

/// Reads a list into as much memory as it takes: a large cluster has a hundred thousand pods, most with one spread or term.
pub(crate) fn exactly<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Box::deserialize(deserializer).map(<[T]>::into_vec)
}

/// Which kind of object describes a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PoolKind {
    /// `karpenter.sh/v1alpha5`
    Provisioner,
    /// `karpenter.sh/v1`
    NodePool,
}

impl PoolKind {
    /// The label that names a node's pool.
    pub fn label(self) -> &'static str {
        match self {
            Self::Provisioner => requirements::labels::PROVISIONER_NAME,
            Self::NodePool => requirements::labels::NODEPOOL,
        }
    }
}

/// Which pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolKey {
    /// The kind of its object.
    pub kind: PoolKind,
    /// The name of its object.
    pub name: String,
}

/// `Provisioner/default`
impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.kind, self.name)
    }
}

/// A description of nodes that may be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Which pool.
    pub key: PoolKey,
    /// Pools of larger weight are tried first; among equal ones the cheapest plan counts, and the name where nothing is
    /// cheaper. Kubernetes allows 1 to 100.
    #[serde(default)]
    pub weight: u32,
    /// What its nodes' labels must be.
    #[serde(default)]
    pub requirements: Requirements,
    /// Labels its nodes get.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints its nodes keep.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Taints its nodes have until something takes them away; pods need not tolerate them.
    #[serde(default)]
    pub startup_taints: Vec<Taint>,
    /// How much capacity its nodes may have together; what is not named is not limited. `nodes` limits their number.
    #[serde(default)]
    pub limits: Option<ResourceList>,
    /// The capacity its nodes and claims have, those that are leaving included. `nodes` counts them.
    #[serde(default)]
    pub used: ResourceList,
    /// What its nodes can be.
    #[serde(default = "no_types")]
    pub instance_types: Arc<[InstanceType]>,
}

fn no_types() -> Arc<[InstanceType]> {
    Arc::from([])
}

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceType {
    /// Its name, distinct within a pool.
    pub name: String,
    /// The labels it can have. A label that no pool sets and this does not name will be absent.
    #[serde(default)]
    pub requirements: Requirements,
    /// All it has, including `pods`. The unit of each amount is its resource's: millicores for cpu, bytes for memory.
    pub capacity: ResourceList,
    /// What of it the system keeps. More than there is leaves nothing.
    #[serde(default)]
    pub overhead: ResourceList,
    /// Where and how it can be bought: one offering at most for each zone and capacity type. None: it cannot be bought.
    pub offerings: Vec<Offering>,
}

impl InstanceType {
    /// What is there for pods, daemons included.
    pub fn allocatable(&self) -> ResourceList {
        self.capacity.saturating_sub(&self.overhead)
    }
}

/// One way to buy an instance type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offering {
    /// The zone it is in.
    pub zone: String,
    /// How it is paid for.
    pub capacity_type: CapacityType,
    /// What it costs; nothing at least.
    pub price: UsdMicrosPerHour,
    /// Whether the cloud has it now, as far as is known.
    #[serde(default = "yes")]
    pub available: bool,
    /// How many more machines can be bought this way; `None` is as many as you like. Reserved capacity has a number.
    #[serde(default)]
    pub remaining: Option<u32>,
}

fn yes() -> bool {
    true
}

/// How a machine is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityType {
    /// Paid for in advance.
    Reserved,
    /// Spare capacity that can be taken back.
    Spot,
    /// By the hour.
    OnDemand,
}

impl CapacityType {
    /// The value of the label [`requirements::labels::CAPACITY_TYPE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CapacityType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Reserved, Self::Spot, Self::OnDemand]
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a capacity type (spot, on-demand, reserved)"))
    }
}

/// Which offering of which instance type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferingKey {
    /// The instance type's name.
    pub instance_type: String,
    /// The zone.
    pub zone: String,
    /// How it is paid for.
    pub capacity_type: CapacityType,
}

/// `m5.large in us-east-1a (spot)`
impl fmt::Display for OfferingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ({})", self.instance_type, self.zone, self.capacity_type)
    }
}

/// Which node: its name, or its claim's while it has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeKey(pub String);

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a node's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeStage {
    /// Initialized: takes pods now.
    Ready,
    /// A claim, or a node that is not initialized: will take pods.
    InFlight,
    /// Marked for deletion: takes no pods any more. Pods on it that are not terminating stay, as far as is known, and hold it.
    Leaving,
}

/// A node there is, or one under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Which node.
    pub key: NodeKey,
    /// The pool it belongs to; none: it is not ours.
    #[serde(default)]
    pub pool: Option<PoolKey>,
    /// How far it has come.
    pub stage: NodeStage,
    /// Its labels. If `kubernetes.io/hostname` is not among them, its key stands in for it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Taints that will go; not held against pods while it is in flight.
    #[serde(default)]
    pub startup_taints: Vec<Taint>,
    /// What it has for pods, daemons included; what its type has as long as the kubelet has not said.
    pub allocatable: ResourceList,
    /// The pods bound to it, daemons included, terminal ones not.
    #[serde(default)]
    pub pods: Vec<Arc<Pod>>,
    /// How many volumes it can attach, by CSI driver, as its CSINode says; a driver that is not named has no known limit.
    #[serde(default)]
    pub volume_limits: BTreeMap<String, u32>,
    /// What it costs, if known. Nothing is decided by it here.
    #[serde(default)]
    pub price: Option<UsdMicrosPerHour>,
}

impl Node {
    /// The taints that count for pods: not those that go away before it is ready.
    pub fn lasting_taints(&self) -> impl Iterator<Item = &Taint> {
        let startup: BTreeSet<&Taint> = self.startup_taints.iter().collect();
        let starting = self.stage == NodeStage::InFlight;
        self.taints.iter().filter(move |taint| !(starting && (startup.contains(taint) || is_ephemeral(taint))))
    }

    /// Whether it is there for the time being: it is not leaving, or some of its pods stay and so hold it.
    pub fn stays(&self) -> bool {
        self.stage != NodeStage::Leaving || self.pods.iter().any(|pod| !pod.terminating)
    }
}

/// Whether Kubernetes or the provisioner itself takes the taint away while a node starts.
fn is_ephemeral(taint: &Taint) -> bool {
    matches!(
        taint.key.as_str(),
        "node.kubernetes.io/not-ready"
            | "node.kubernetes.io/unreachable"
            | "node.cloudprovider.kubernetes.io/uninitialized"
            | requirements::labels::UNREGISTERED_TAINT
    ) || taint.key.starts_with("readiness.k8s.io/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaintEffect;

    #[test]
    fn a_capacity_type_reads_as_it_is_written() {
        for one in [CapacityType::Reserved, CapacityType::Spot, CapacityType::OnDemand] {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        assert!("preemptible".parse::<CapacityType>().is_err());
    }

    #[test]
    fn startup_taints_are_forgiven_only_while_the_node_starts() {
        let taint = |key: &str| Taint { key: key.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
        let mut node = Node {
            key: NodeKey("a".to_owned()),
            pool: None,
            stage: NodeStage::InFlight,
            labels: BTreeMap::new(),
            taints: vec![taint("cni"), taint("gpu"), taint("node.kubernetes.io/not-ready")],
            startup_taints: vec![taint("cni")],
            allocatable: ResourceList::new(),
            pods: Vec::new(),
            volume_limits: BTreeMap::new(),
            price: None,
        };
        assert_eq!(node.lasting_taints().cloned().collect::<Vec<_>>(), [taint("gpu")]);
        node.stage = NodeStage::Ready;
        assert_eq!(node.lasting_taints().count(), 3);
    }
}
