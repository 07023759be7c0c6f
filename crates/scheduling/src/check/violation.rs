//! What can be wrong with a plan, as values; the one place where they become text.

use std::fmt;

use requirements::{Requirement, RequirementTerm};
use serde::{Deserialize, Serialize};
use units::Excess;

use crate::{HostPort, OfferingKey, PodKey, PoolKey, Taint, Target};

/// A promise that a solution breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Violation {
    /// A pod of the snapshot is neither placed nor unplaced, or its new node does not list it.
    Lost {
        /// The pod.
        pod: PodKey,
    },
    /// A pod is in more than one place.
    Duplicated {
        /// The pod.
        pod: PodKey,
    },
    /// The snapshot does not have this pod.
    UnknownPod {
        /// The pod.
        pod: PodKey,
    },
    /// A pod that could not be understood is placed.
    InvalidPod {
        /// The pod.
        pod: PodKey,
    },
    /// An unplaced pod has no reason for a pool.
    NoReason {
        /// The pod.
        pod: PodKey,
        /// The pool; `None` if there is no reason at all.
        pool: Option<PoolKey>,
    },
    /// Pods of a group have places, and too few for the group to be of use.
    TornGang {
        /// The group, as `namespace/name`.
        group: String,
        /// How many have to run at once.
        needed: u32,
        /// How many run or have a place.
        found: usize,
    },
    /// A pod has a place, and a volume claim of its own that is for one pod alone is another's, too.
    SharedClaim {
        /// The pod.
        pod: PodKey,
        /// Which other pod has the claim, running or placed.
        other: PodKey,
        /// The claim's name.
        claim: String,
    },
    /// A pod is on a node that is not there or is leaving.
    NoSuchNode {
        /// The pod.
        pod: PodKey,
        /// Where it is said to be.
        node: Target,
    },
    /// A new node belongs to no pool of the snapshot, or differs from what its pool says.
    WrongPool {
        /// The index of the new node.
        node: usize,
        /// What differs.
        what: PoolFault,
    },
    /// A new node's requirements admit what its pool or its pods do not.
    WrongRequirements {
        /// The index of the new node.
        node: usize,
        /// What they should demand at least.
        wanted: Requirement,
    },
    /// A new node has nothing to buy, or something that the pool does not offer or that is not available.
    Unlaunchable {
        /// The index of the new node.
        node: usize,
        /// The offering, if it is one.
        offering: Option<OfferingKey>,
        /// What is wrong.
        what: LaunchFault,
    },
    /// More new nodes count on an offering than can be bought of it.
    Overbooked {
        /// The offering.
        offering: OfferingKey,
        /// How many nodes have it as their cheapest.
        nodes: usize,
        /// How many there are.
        remaining: u32,
    },
    /// A number of a new node or of the solution is not what it adds up to.
    WrongSum {
        /// Which number.
        what: Sum,
    },
    /// The pods of a node do not fit on it.
    Overfull {
        /// The node.
        node: Target,
        /// The offering, on a new node.
        offering: Option<OfferingKey>,
        /// What there is too little of.
        excess: Excess,
    },
    /// A pod does not tolerate its node.
    Untolerated {
        /// The pod.
        pod: PodKey,
        /// The taint.
        taint: Taint,
    },
    /// A pod's node does not have, or may not have, the labels it demands.
    WrongLabels {
        /// The pod.
        pod: PodKey,
        /// The offering, on a new node.
        offering: Option<OfferingKey>,
        /// What is not satisfied.
        what: LabelDemand,
    },
    /// An offering contradicts its pool's requirements.
    OutsidePool {
        /// The index of the new node.
        node: usize,
        /// The offering.
        offering: OfferingKey,
        /// What the pool demands.
        wanted: Requirement,
    },
    /// Fewer values of a label remain possible than the pool demands, and no note says that this was given up.
    TooFewValues {
        /// The index of the new node.
        node: usize,
        /// The label.
        key: String,
        /// How many are demanded.
        needed: u32,
        /// How many remain.
        found: usize,
    },
    /// Two pods of one node take the same port.
    PortClash {
        /// The node.
        node: Target,
        /// The port.
        port: HostPort,
    },
    /// A node cannot attach so many volumes.
    TooManyVolumes {
        /// The node.
        node: Target,
        /// Whose volumes.
        driver: String,
        /// How many different ones its pods attach.
        attached: usize,
        /// How many it can.
        limit: u32,
    },
    /// A pool may pass its limit.
    LimitPassed {
        /// The pool.
        pool: PoolKey,
        /// Of what, by how much.
        excess: Excess,
    },
    /// A pod may be near another that it must be away from.
    TooNear {
        /// The pod whose demand it is.
        pod: PodKey,
        /// One of the others.
        other: PodKey,
        /// The label whose equal values mean *near*.
        key: String,
    },
    /// In no order of placing found, a pod that this one must be near is there before it.
    NotNear {
        /// The pod.
        pod: PodKey,
        /// Its node.
        node: Target,
        /// The label whose equal values mean *near*.
        key: String,
    },
    /// In no order of placing found, the pod's spread stays within its skew.
    Uneven {
        /// The pod.
        pod: PodKey,
        /// Its node.
        node: Target,
        /// The label whose values are the domains.
        key: String,
        /// How many pods are, or may be, in its domain before it, where the search ended.
        there: u32,
        /// How many are in the emptiest domain then.
        least: u32,
        /// How much fuller than that a domain may be.
        max_skew: u32,
    },
    /// A pod's node does not have, or may not have, the label that its spread or affinity is about.
    NoDomain {
        /// The pod.
        pod: PodKey,
        /// Its node.
        node: Target,
        /// The label.
        key: String,
    },
}

impl Violation {
    /// The pod whose promise is broken, if it is one pod's.
    pub fn pod(&self) -> Option<&PodKey> {
        match self {
            Self::Lost { pod }
            | Self::Duplicated { pod }
            | Self::UnknownPod { pod }
            | Self::InvalidPod { pod }
            | Self::NoReason { pod, .. }
            | Self::NoSuchNode { pod, .. }
            | Self::SharedClaim { pod, .. }
            | Self::Untolerated { pod, .. }
            | Self::WrongLabels { pod, .. }
            | Self::TooNear { pod, .. }
            | Self::NotNear { pod, .. }
            | Self::Uneven { pod, .. }
            | Self::NoDomain { pod, .. } => Some(pod),
            Self::WrongPool { .. }
            | Self::WrongRequirements { .. }
            | Self::Unlaunchable { .. }
            | Self::Overbooked { .. }
            | Self::WrongSum { .. }
            | Self::Overfull { .. }
            | Self::OutsidePool { .. }
            | Self::TooFewValues { .. }
            | Self::PortClash { .. }
            | Self::TooManyVolumes { .. }
            | Self::LimitPassed { .. }
            | Self::TornGang { .. } => None,
        }
    }
}

impl Violation {
    /// Every pod that it names, the one whose promise is broken first.
    pub fn pods(&self) -> Vec<&PodKey> {
        let other = if let Self::TooNear { other, .. } = self { Some(other) } else { None };
        self.pod().into_iter().chain(other).collect()
    }

    /// The node that it names, if it names one.
    pub fn node(&self) -> Option<Target> {
        match self {
            Self::NoSuchNode { node, .. }
            | Self::Overfull { node, .. }
            | Self::PortClash { node, .. }
            | Self::TooManyVolumes { node, .. }
            | Self::NotNear { node, .. }
            | Self::Uneven { node, .. }
            | Self::NoDomain { node, .. } => Some(node.clone()),
            Self::WrongPool { node, .. }
            | Self::WrongRequirements { node, .. }
            | Self::Unlaunchable { node, .. }
            | Self::OutsidePool { node, .. }
            | Self::TooFewValues { node, .. }
            | Self::WrongSum { what: Sum::Price { node } | Sum::Capacity { node } | Sum::Requests { node } } => {
                Some(Target::New(*node))
            }
            _ => None,
        }
    }
}

/// How a new node differs from its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PoolFault {
    /// The snapshot has no such pool.
    Missing {
        /// The pool.
        pool: PoolKey,
    },
    /// The taints, lasting or startup, are others.
    Taints,
    /// A label of the pool is missing or has another value.
    Label {
        /// The label.
        key: String,
        /// What it should be.
        value: String,
    },
}

/// Why a new node cannot be bought as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LaunchFault {
    /// It has no pods.
    NoPods,
    /// It has no offering.
    NoOffering,
    /// A dearer offering comes before a cheaper one.
    NotCheapestFirst,
    /// An offering is there twice.
    Twice,
    /// The pool has no such offering.
    NotOffered,
    /// The offering is not available.
    NotAvailable,
    /// The offering has another price.
    OtherPrice,
    /// The offering contradicts the node's own requirements.
    AgainstRequirements,
}

/// A number that must follow from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Sum {
    /// The cost of the solution: the sum of the nodes' prices.
    Cost,
    /// The lower bound: not above the cost.
    LowerBound,
    /// The price of a new node: that of its cheapest offering.
    Price {
        /// Its index.
        node: usize,
    },
    /// The capacity of a new node: the largest of its offerings.
    Capacity {
        /// Its index.
        node: usize,
    },
    /// The requests of a new node: those of its pods and daemons.
    Requests {
        /// Its index.
        node: usize,
    },
}

/// What a pod demands of its node's labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LabelDemand {
    /// A label of its node selector.
    NodeSelector {
        /// The label.
        key: String,
        /// The value.
        value: String,
    },
    /// Where its volumes are.
    VolumeTopology {
        /// The term.
        term: RequirementTerm,
    },
    /// One of the alternatives of its required node affinity.
    NodeAffinity,
}

impl Violation {
    /// The same, said of another new node, where it is about one.
    #[must_use]
    pub(super) fn of_node(mut self, index: usize) -> Self {
        match &mut self {
            Self::WrongPool { node, .. }
            | Self::WrongRequirements { node, .. }
            | Self::Unlaunchable { node, .. }
            | Self::OutsidePool { node, .. }
            | Self::TooFewValues { node, .. }
            | Self::WrongSum { what: Sum::Price { node } | Sum::Capacity { node } | Sum::Requests { node } } => {
                *node = index;
            }
            _ => {}
        }
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |offering: &Option<OfferingKey>| offering.as_ref().map_or(String::new(), |key| format!(" as {key}"));
        match self {
            Self::Lost { pod } => write!(f, "pod {pod} is lost"),
            Self::Duplicated { pod } => write!(f, "pod {pod} is placed twice"),
            Self::UnknownPod { pod } => write!(f, "pod {pod} is not in the snapshot"),
            Self::InvalidPod { pod } => write!(f, "pod {pod} is placed though it could not be understood"),
            Self::NoReason { pod, pool: None } => write!(f, "pod {pod} is unplaced without a reason"),
            Self::NoReason { pod, pool: Some(pool) } => write!(f, "pod {pod} has no reason for {pool}"),
            Self::NoSuchNode { pod, node } => write!(f, "pod {pod} is on {node}, which takes no pods"),
            Self::WrongPool { node, what } => write!(f, "new node {node}: {what}"),
            Self::WrongRequirements { node, wanted } => {
                write!(f, "new node {node}: its requirements do not hold it to {wanted}")
            }
            Self::Unlaunchable { node, offering, what } => write!(f, "new node {node}{}: {what}", on(offering)),
            Self::Overbooked { offering, nodes, remaining } => {
                write!(f, "{nodes} new nodes count on {offering}, of which {remaining} are left")
            }
            Self::WrongSum { what } => what.fmt(f),
            Self::SharedClaim { pod, other, claim } => {
                write!(f, "pod {pod} may not use its volume claim {claim} beside {other}")
            }
            Self::TornGang { group, needed, found } => {
                write!(f, "group {group} needs {needed} pods at once and gets {found}")
            }
            Self::Overfull { node, offering, excess } => {
                write!(f, "{node}{}: {} of {} asked, {} there", on(offering), excess.asked, excess.name, excess.free)
            }
            Self::Untolerated { pod, taint } => write!(f, "pod {pod} does not tolerate {taint}"),
            Self::WrongLabels { pod, offering, what } => write!(f, "pod {pod}{}: {what}", on(offering)),
            Self::OutsidePool { node, offering, wanted } => write!(f, "new node {node} as {offering}: {wanted}"),
            Self::TooFewValues { node, key, needed, found } => {
                write!(f, "new node {node}: {found} values of {key} remain, {needed} are demanded")
            }
            Self::PortClash { node, port } => write!(f, "{node}: port {port} is taken twice"),
            Self::TooManyVolumes { node, driver, attached, limit } => {
                write!(f, "{node}: {attached} volumes of {driver} attached, {limit} at most")
            }
            Self::LimitPassed { pool, excess } => {
                write!(f, "{pool}: {} of {} at most, limit {}", excess.asked, excess.name, excess.free)
            }
            Self::TooNear { pod, other, key } => write!(f, "pod {pod} may share its {key} with {other}"),
            Self::NotNear { pod, node, key } => {
                write!(f, "pod {pod} on {node}: no pod that it must share its {key} with can be there before it")
            }
            Self::Uneven { pod, node, key, there, least, max_skew } => {
                write!(
                    f,
                    "pod {pod} on {node}: its {key} has {there} before it, another {least}, the skew may be {max_skew}"
                )
            }
            Self::NoDomain { pod, node, key } => write!(f, "pod {pod} on {node}: the node may have no {key}"),
        }
    }
}

impl fmt::Display for PoolFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { pool } => write!(f, "there is no {pool}"),
            Self::Taints => f.write_str("its taints are not the pool's"),
            Self::Label { key, value } => write!(f, "label {key}={value} is missing"),
        }
    }
}

impl fmt::Display for LaunchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPods => "it has no pods",
            Self::NoOffering => "it has no offering",
            Self::NotCheapestFirst => "its offerings do not come cheapest first",
            Self::Twice => "an offering is there twice",
            Self::NotOffered => "the pool does not offer it",
            Self::NotAvailable => "it is not available",
            Self::OtherPrice => "its price is another",
            Self::AgainstRequirements => "the node's own requirements exclude it",
        })
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cost => f.write_str("the cost of the solution does not add up"),
            Self::LowerBound => f.write_str("the lower bound is above the cost"),
            Self::Price { node } => write!(f, "the price of new node {node} does not add up"),
            Self::Capacity { node } => write!(f, "the capacity of new node {node} does not add up"),
            Self::Requests { node } => write!(f, "the requests of new node {node} do not add up"),
        }
    }
}

impl fmt::Display for LabelDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeSelector { key, value } => write!(f, "node selector {key}={value}"),
            Self::VolumeTopology { term } => write!(f, "volume topology {term}"),
            Self::NodeAffinity => f.write_str("required node affinity"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existing(node) => write!(f, "node {node}"),
            Self::New(index) => write!(f, "new node {index}"),
        }
    }
}
