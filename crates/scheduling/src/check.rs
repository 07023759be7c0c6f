//! Verifies a solution against its snapshot without the solver's help.
//!
//! Shares the types with the solver and nothing else: labels are compared here term by term on every machine a new node may
//! become, not by the requirement algebra. The controller runs it before it launches anything.

mod labels;
mod machines;
mod pods;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use units::{Amount, Excess, ResourceList, UsdMicrosPerHour};

use crate::{
    HostPort, InstanceType, NodeKey, NodeStage, OfferingKey, Pod, PodKey, Pool, PoolKey, Snapshot, Solution, Taint,
    Target, Unfit,
};

/// A promise that a solution breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Violation {
    /// A pod of the snapshot is neither placed nor unplaced.
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
    /// An unplaced pod has no reason for a pool.
    NoReason {
        /// The pod.
        pod: PodKey,
        /// The pool; `None` if there is no reason at all.
        pool: Option<PoolKey>,
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
        what: String,
    },
    /// A new node has nothing to buy, or something that the pool does not offer or that is not available.
    Unlaunchable {
        /// The index of the new node.
        node: usize,
        /// The offering, if it is one.
        offering: Option<OfferingKey>,
        /// What is wrong.
        what: String,
    },
    /// A number of a new node or of the solution is not what it adds up to.
    WrongSum {
        /// Which number.
        what: String,
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
        what: String,
    },
    /// An offering contradicts its pool's requirements.
    OutsidePool {
        /// The index of the new node.
        node: usize,
        /// The offering.
        offering: OfferingKey,
        /// Which requirement.
        what: String,
    },
    /// Fewer values of a label remain possible than the pool demands.
    TooFewValues {
        /// The index of the new node.
        node: usize,
        /// The label.
        key: String,
    },
    /// Two pods of one node take the same port.
    PortClash {
        /// The node.
        node: Target,
        /// The port.
        port: HostPort,
    },
    /// A pool may pass its limit.
    LimitPassed {
        /// The pool.
        pool: PoolKey,
        /// Of what, by how much.
        excess: Excess,
    },
    /// A pod may be near another that it, or the other, must be away from.
    TooNear {
        /// The pod.
        pod: PodKey,
        /// The other.
        other: PodKey,
    },
    /// A demand of the pod relative to others is not met for certain.
    NotNear {
        /// The pod.
        pod: PodKey,
        /// Which demand.
        what: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |offering: &Option<OfferingKey>| offering.as_ref().map_or(String::new(), |key| format!(" as {key}"));
        match self {
            Self::Lost { pod } => write!(f, "pod {pod} is lost"),
            Self::Duplicated { pod } => write!(f, "pod {pod} is placed twice"),
            Self::UnknownPod { pod } => write!(f, "pod {pod} is not in the snapshot"),
            Self::NoReason { pod, pool: None } => write!(f, "pod {pod} is unplaced without a reason"),
            Self::NoReason { pod, pool: Some(pool) } => write!(f, "pod {pod} has no reason for {pool}"),
            Self::NoSuchNode { pod, node } => write!(f, "pod {pod} is on {node}, which takes no pods"),
            Self::WrongPool { node, what } => write!(f, "new node {node}: {what}"),
            Self::Unlaunchable { node, offering, what } => write!(f, "new node {node}{}: {what}", on(offering)),
            Self::WrongSum { what } => write!(f, "{what} does not add up"),
            Self::Overfull { node, offering, excess } => {
                write!(f, "{node}{}: {} of {} asked, {} there", on(offering), excess.asked, excess.name, excess.free)
            }
            Self::Untolerated { pod, taint } => write!(f, "pod {pod} does not tolerate {taint}"),
            Self::WrongLabels { pod, offering, what } => write!(f, "pod {pod}{}: {what}", on(offering)),
            Self::OutsidePool { node, offering, what } => write!(f, "new node {node} as {offering}: {what}"),
            Self::TooFewValues { node, key } => write!(f, "new node {node}: too few values of {key}"),
            Self::PortClash { node, port } => write!(f, "{node}: port {port} is taken twice"),
            Self::LimitPassed { pool, excess } => {
                write!(f, "{pool}: {} of {} at most, limit {}", excess.asked, excess.name, excess.free)
            }
            Self::TooNear { pod, other } => write!(f, "pod {pod} may be too near to {other}"),
            Self::NotNear { pod, what } => write!(f, "pod {pod}: {what} is not certain"),
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

/// Everything that is wrong with a solution; nothing, if it may be acted on.
pub fn check(snapshot: &Snapshot, solution: &Solution) -> Vec<Violation> {
    let mut violations = Vec::new();
    let pods: BTreeMap<&PodKey, &Pod> = snapshot.pods.iter().map(|pod| (&pod.key, &**pod)).collect();
    accounted_for(&pods, solution, &mut violations);
    reasons(snapshot, solution, &mut violations);

    let mut on: BTreeMap<&Target, Vec<&Pod>> = BTreeMap::new();
    for (key, placement) in &solution.placed {
        if let Some(pod) = pods.get(key) {
            on.entry(&placement.node).or_default().push(pod);
        }
    }
    for (target, placed) in &on {
        let known = match target {
            Target::New(index) => *index < solution.new_nodes.len(),
            Target::Existing(key) => {
                snapshot.nodes.iter().any(|node| node.key == *key && node.stage != NodeStage::Leaving)
            }
        };
        if !known {
            let nowhere = |pod: &&Pod| Violation::NoSuchNode { pod: pod.key.clone(), node: (*target).clone() };
            violations.extend(placed.iter().map(nowhere));
        }
    }
    for node in snapshot.nodes.iter().filter(|node| node.stage != NodeStage::Leaving) {
        if let Some(placed) = on.get(&Target::Existing(node.key.clone())) {
            machines::existing(snapshot, node, placed, &mut violations);
        }
    }
    for (index, node) in solution.new_nodes.iter().enumerate() {
        let placed = on.get(&Target::New(index)).map_or(&[][..], Vec::as_slice);
        machines::new(snapshot, index, node, placed, &mut violations);
    }
    limits(snapshot, solution, &mut violations);
    let cost = solution.new_nodes.iter().map(|node| node.price).sum::<UsdMicrosPerHour>();
    if cost != solution.cost {
        violations.push(Violation::WrongSum { what: "the cost of the solution".to_owned() });
    }
    pods::relations(snapshot, solution, &pods, &mut violations);
    // What is wrong with every offering of a node is said once.
    violations.dedup();
    violations
}

fn accounted_for(pods: &BTreeMap<&PodKey, &Pod>, solution: &Solution, violations: &mut Vec<Violation>) {
    for key in pods.keys() {
        match (solution.placed.contains_key(key), solution.unplaced.contains_key(key)) {
            (false, false) => violations.push(Violation::Lost { pod: (*key).clone() }),
            (true, true) => violations.push(Violation::Duplicated { pod: (*key).clone() }),
            _ => {}
        }
    }
    let named = solution.placed.keys().chain(solution.unplaced.keys());
    let unknown = named.filter(|key| !pods.contains_key(key)).map(|pod| Violation::UnknownPod { pod: pod.clone() });
    violations.extend(unknown);
    let mut listed = BTreeSet::new();
    for (index, node) in solution.new_nodes.iter().enumerate() {
        for pod in &node.pods {
            let here = solution.placed.get(pod).is_some_and(|placement| placement.node == Target::New(index));
            if !listed.insert(pod) || !here {
                violations.push(Violation::Duplicated { pod: pod.clone() });
            }
        }
    }
    for (pod, placement) in &solution.placed {
        if matches!(placement.node, Target::New(_)) && !listed.contains(pod) {
            violations.push(Violation::Lost { pod: pod.clone() });
        }
    }
}

/// Every unplaced pod has a reason for each pool, or one that holds for all.
fn reasons(snapshot: &Snapshot, solution: &Solution, violations: &mut Vec<Violation>) {
    for (pod, reasons) in &solution.unplaced {
        let general = |unfit: &Unfit| {
            matches!(unfit, Unfit::Invalid { .. } | Unfit::NotSupportedYet { .. } | Unfit::NotTried | Unfit::NoPools)
        };
        if reasons.is_empty() {
            violations.push(Violation::NoReason { pod: pod.clone(), pool: None });
        } else if !reasons.iter().any(general) {
            let named: BTreeSet<_> = reasons.iter().filter_map(Unfit::pool).collect();
            let silent = snapshot.pools.iter().map(|pool| &pool.key).filter(|pool| !named.contains(pool));
            violations.extend(silent.map(|pool| Violation::NoReason { pod: pod.clone(), pool: Some(pool.clone()) }));
        }
    }
}

/// No pool passes a limit, whatever of the offerings is bought; what adds nothing to a limited resource never does.
fn limits(snapshot: &Snapshot, solution: &Solution, violations: &mut Vec<Violation>) {
    for pool in &snapshot.pools {
        let mine: Vec<_> = solution.new_nodes.iter().filter(|node| node.pool == pool.key).collect();
        for (name, limit) in pool.limits.iter().flat_map(ResourceList::iter) {
            let counted = name.as_str() == "nodes";
            let added: i64 = mine
                .iter()
                .map(|node| if counted { 1 } else { machines::largest(pool, node).get(name).0 })
                .fold(0, i64::saturating_add);
            let standing = snapshot.nodes.iter().filter(|node| node.pool.as_ref() == Some(&pool.key)).count();
            let standing = if counted { i64::try_from(standing).unwrap_or(i64::MAX) } else { 0 };
            let used = pool.used.named(name).map_or(standing, |amount| amount.0);
            let total = used.saturating_add(added);
            if added > 0 && total > limit.0 {
                let excess = Excess { name: name.clone(), asked: Amount(total), free: limit };
                violations.push(Violation::LimitPassed { pool: pool.key.clone(), excess });
            }
        }
    }
}

fn pool_of<'a>(snapshot: &'a Snapshot, key: &PoolKey) -> Option<&'a Pool> {
    snapshot.pools.iter().find(|pool| pool.key == *key)
}

fn machine_of<'a>(pool: &'a Pool, key: &OfferingKey) -> Option<&'a InstanceType> {
    pool.instance_types.iter().find(|machine| machine.name == key.instance_type)
}

fn target_of(node: &NodeKey) -> Target {
    Target::Existing(node.clone())
}

#[cfg(test)]
mod tests;
