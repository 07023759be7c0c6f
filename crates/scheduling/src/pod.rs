use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use requirements::{Operator, RequirementTerm};
use serde::{Deserialize, Serialize};
use units::ResourceList;

/// Which pod. Written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PodKey {
    /// The pod of this name in this namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .map(|(namespace, name)| Self::new(namespace, name))
            .ok_or_else(|| format!("{text:?} is not namespace/name"))
    }
}

impl TryFrom<String> for PodKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PodKey> for String {
    fn from(key: PodKey) -> Self {
        key.to_string()
    }
}

/// What placing needs to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Which pod.
    pub key: PodKey,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it asks for, including `pods: 1`. The unit of each amount is its resource's: millicores for cpu, bytes for memory.
    /// Less than nothing makes the pod invalid.
    #[serde(default)]
    pub requests: ResourceList,
    /// Labels its node must have.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Alternatives, one of which its node must satisfy wholly; none: no demand.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub required_node_affinity: Vec<Vec<RequirementTerm>>,
    /// What it would like, each with its weight, in Kubernetes from 1 to 100. Of those that are left only the heaviest counts.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub preferred_node_affinity: Vec<(i32, Vec<RequirementTerm>)>,
    /// Taints it can live with.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub tolerations: Vec<Toleration>,
    /// How evenly pods like it must be spread.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub topology_spread: Vec<TopologySpread>,
    /// Pods it must or would like to be near.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub pod_affinity: Vec<PodAffinityTerm>,
    /// Pods it must or would like to be away from.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub pod_anti_affinity: Vec<PodAffinityTerm>,
    /// Ports it takes of its node.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub host_ports: Vec<HostPort>,
    /// Where its volumes are or may be made; all must hold.
    #[serde(default, deserialize_with = "crate::snapshot::exactly")]
    pub volume_zones: Vec<RequirementTerm>,
    /// The volumes it attaches, by CSI driver. Pods that name the same volume attach it once per node.
    #[serde(default)]
    pub volumes_by_driver: BTreeMap<String, BTreeSet<String>>,
    /// Its volume claims that no other pod may use at the same time (access mode `ReadWriteOncePod`), by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exclusive_claims: BTreeSet<String>,
    /// Its priority: the larger comes first. 2000000000 and above are the system's.
    #[serde(default)]
    pub priority: i32,
    /// When it was created: of equal pods the older comes first. Unit: seconds since 1970.
    #[serde(default)]
    pub created_at_unix_seconds: i64,
    /// What controls it.
    #[serde(default)]
    pub owner: Option<OwnerKey>,
    /// The group that it is of use with only as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<Gang>,
    /// Whether it runs and was told to go (`metadata.deletionTimestamp`) or goes with its node. Until it is gone it holds its room, its ports and its
    /// volumes and keeps others away; spreads do not count it (kube-scheduler, plugin `PodTopologySpread`), it is none of its gang,
    /// and nobody is planned near it who is not of its like: it may be gone before a machine is there. Of a pod to place it says
    /// nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminating: bool,
    /// What in it could not be understood. Not empty: the pod is refused with these.
    #[serde(default)]
    pub invalid: Vec<String>,
}

impl Pod {
    /// A pod without any demand but its slot.
    pub fn new(key: PodKey) -> Self {
        Self {
            key,
            uid: String::new(),
            labels: BTreeMap::new(),
            requests: ResourceList::new().with(units::ResourceName::pods(), units::Amount(1)),
            node_selector: BTreeMap::new(),
            required_node_affinity: Vec::new(),
            preferred_node_affinity: Vec::new(),
            tolerations: Vec::new(),
            topology_spread: Vec::new(),
            pod_affinity: Vec::new(),
            pod_anti_affinity: Vec::new(),
            host_ports: Vec::new(),
            volume_zones: Vec::new(),
            volumes_by_driver: BTreeMap::new(),
            exclusive_claims: BTreeSet::new(),
            priority: 0,
            created_at_unix_seconds: 0,
            owner: None,
            gang: None,
            terminating: false,
            invalid: Vec::new(),
        }
    }
}

/// Pods of one namespace of which so many have to run at once, and fewer are of no use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gang {
    /// What the group is called.
    pub name: String,
    /// How many of its pods have to run at once. If its pods differ in this, the most counts.
    pub needed: u32,
}

/// The object that controls a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnerKey {
    /// `ReplicaSet`, `StatefulSet`, `Job`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
}

/// What a node holds against pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, possibly empty.
    #[serde(default)]
    pub value: String,
    /// What it does to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// `key=value:Effect`, without `=value` when that is empty.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ":{}", self.effect)
    }
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaintEffect {
    /// Keeps pods from being placed.
    NoSchedule,
    /// Makes the node the last choice.
    PreferNoSchedule,
    /// Also drives out the pods that are there.
    NoExecute,
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A taint, or several, that a pod can live with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; `None` with `Exists` is every key.
    #[serde(default)]
    pub key: Option<String>,
    /// How the value is compared.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value, for `Equal`.
    #[serde(default)]
    pub value: String,
    /// The taint's effect; `None` is every effect.
    #[serde(default)]
    pub effect: Option<TaintEffect>,
}

/// How a toleration compares values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// The values are equal. Kubernetes' default.
    #[default]
    Equal,
    /// Any value.
    Exists,
}

impl Toleration {
    /// Whether the pod can live with the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let key = self.key.as_deref().unwrap_or_default();
        self.effect.is_none_or(|effect| effect == taint.effect)
            && match self.operator {
                TolerationOperator::Exists => key.is_empty() || key == taint.key,
                TolerationOperator::Equal => key == taint.key && self.value == taint.value,
            }
    }
}

/// Whether one of the tolerations covers the taint, or the taint is only a preference.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    taint.effect == TaintEffect::PreferNoSchedule || tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The first taint that keeps a pod with these tolerations away.
pub fn untolerated<'a>(tolerations: &[Toleration], taints: impl IntoIterator<Item = &'a Taint>) -> Option<&'a Taint> {
    taints.into_iter().find(|taint| !tolerates(tolerations, taint))
}

/// A port a pod takes of its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The address it listens on; empty, `0.0.0.0` and `::` are all of them.
    #[serde(default)]
    pub ip: String,
    /// The number, from 1 to 65535.
    pub port: u16,
    /// TCP, UDP or SCTP.
    #[serde(default)]
    pub protocol: Protocol,
}

impl HostPort {
    /// Whether both cannot be taken of one node.
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.is_everywhere() || other.is_everywhere())
    }

    pub(crate) fn is_everywhere(&self) -> bool {
        matches!(self.ip.as_str(), "" | "0.0.0.0" | "::")
    }
}

/// `443/TCP`, `10.0.0.1:443/TCP`
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_everywhere() {
            write!(f, "{}:", self.ip)?;
        }
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}

/// What travels through a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Kubernetes' default.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// Streams of messages.
    Sctp,
}

/// Which pods, by label. An empty selector is every pod; an absent one (`None` where it is optional) is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels they have.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements their labels satisfy.
    #[serde(default)]
    pub match_expressions: Vec<RequirementTerm>,
}

impl LabelSelector {
    /// Whether something with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |term: &RequirementTerm| {
            let value = labels.get(&term.key);
            let named = value.is_some_and(|value| term.values.contains(value));
            match term.operator {
                Operator::In => named,
                Operator::NotIn => !named,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                // Label selectors have no comparisons.
                Operator::Gt | Operator::Lt | Operator::Gte | Operator::Lte => false,
            }
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(holds)
    }
}

/// How evenly pods must be spread over the domains of a topology.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// How much fuller than the emptiest a domain may be. Unit: pods. At least 1, as the API server sees to.
    pub max_skew: u32,
    /// The label whose values are the domains.
    pub topology_key: String,
    /// Whether it is a demand or a wish.
    pub when_unsatisfiable: WhenUnsatisfiable,
    /// The pods that are counted, in the pod's namespace.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// How many domains there should be at least: with fewer, the emptiest counts as empty. `None` is 1.
    #[serde(default)]
    pub min_domains: Option<u32>,
    /// Whether only domains the pod's node affinity allows count. Kubernetes' default: they do.
    #[serde(default = "NodeInclusion::honor")]
    pub node_affinity_policy: NodeInclusion,
    /// Whether only nodes whose taints the pod tolerates count. Kubernetes' default: all do.
    #[serde(default = "NodeInclusion::ignore")]
    pub node_taints_policy: NodeInclusion,
    /// Labels whose values on the pod itself join the selector.
    #[serde(default)]
    pub match_label_keys: Vec<String>,
}

/// What to do when pods cannot be spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WhenUnsatisfiable {
    /// A demand.
    DoNotSchedule,
    /// A wish.
    ScheduleAnyway,
}

/// Whether a property of nodes is looked at when domains are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeInclusion {
    /// It is.
    Honor,
    /// It is not.
    Ignore,
}

impl NodeInclusion {
    fn honor() -> Self {
        Self::Honor
    }

    fn ignore() -> Self {
        Self::Ignore
    }
}

/// Pods to be near to, or away from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodAffinityTerm {
    /// Whether it is a demand or a wish.
    pub strength: Strength,
    /// The label whose equal values mean *near*.
    pub topology_key: String,
    /// The pods.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// Their namespaces. With no namespace selector either: the pod's own.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Their namespaces, by label.
    #[serde(default)]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels whose values on the pod itself join the selector.
    #[serde(default)]
    pub match_label_keys: Vec<String>,
    /// Labels whose values on the pod itself are excluded by the selector.
    #[serde(default)]
    pub mismatch_label_keys: Vec<String>,
}

/// A demand or a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strength {
    /// Must hold.
    Required,
    /// Should hold.
    Preferred {
        /// From 1 to 100.
        weight: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: TaintEffect) -> Taint {
        Taint { key: key.to_owned(), value: value.to_owned(), effect }
    }

    fn toleration(
        key: Option<&str>,
        operator: TolerationOperator,
        value: &str,
        effect: Option<TaintEffect>,
    ) -> Toleration {
        Toleration { key: key.map(str::to_owned), operator, value: value.to_owned(), effect }
    }

    #[test]
    fn a_toleration_covers_what_kubernetes_says() {
        use TaintEffect::{NoExecute, NoSchedule};
        use TolerationOperator::{Equal, Exists};
        let gpu = taint("gpu", "a", NoSchedule);
        for (toleration, expected) in [
            (toleration(Some("gpu"), Equal, "a", Some(NoSchedule)), true),
            (toleration(Some("gpu"), Equal, "a", None), true),
            (toleration(Some("gpu"), Equal, "b", None), false),
            (toleration(Some("gpu"), Equal, "a", Some(NoExecute)), false),
            (toleration(Some("gpu"), Exists, "", None), true),
            (toleration(Some("cpu"), Exists, "", None), false),
            (toleration(None, Exists, "", None), true),
            (toleration(None, Equal, "a", None), false),
        ] {
            assert_eq!(tolerates(std::slice::from_ref(&toleration), &gpu), expected, "{toleration:?}");
        }
        assert!(tolerates(&[], &taint("gpu", "", TaintEffect::PreferNoSchedule)));
    }

    #[test]
    fn ports_clash_on_any_address_they_share() {
        let port = |ip: &str, port, protocol| HostPort { ip: ip.to_owned(), port, protocol };
        let a = port("10.0.0.1", 80, Protocol::Tcp);
        for (other, expected) in [
            (port("10.0.0.1", 80, Protocol::Tcp), true),
            (port("10.0.0.2", 80, Protocol::Tcp), false),
            (port("0.0.0.0", 80, Protocol::Tcp), true),
            (port("", 80, Protocol::Tcp), true),
            (port("", 80, Protocol::Udp), false),
            (port("", 81, Protocol::Tcp), false),
        ] {
            assert_eq!(a.clashes_with(&other), expected, "{other}");
            assert_eq!(other.clashes_with(&a), expected, "{other}");
        }
    }

    #[test]
    fn a_pod_key_reads_as_it_is_written() {
        let key = PodKey::new("shop", "web-0");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("web-0".parse::<PodKey>().is_err());
    }
}
