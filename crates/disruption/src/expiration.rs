use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use scheduling::{NodeKey, NodeStage, Pod, PodKey, Settings, Snapshot, Solution, Unfit, solve};

use crate::{Candidate, KeepReason, RemoveReason, Verdict, candidate::after};

/// Whether a node has become too old.
///
/// Counted from the creation of the node object, as in Karpenter v0.16 (`pkg/controllers/node/expiration.go`).
pub fn expiration(node: &Candidate, now: Timestamp) -> Verdict {
    let keep = |why| Verdict::Keep { next_look: None, why };
    if node.deleting {
        return keep(KeepReason::Deleting);
    }
    let Some(ttl) = node.ttl_until_expired else { return keep(KeepReason::NoTtl) };
    let until = after(node.created_at, ttl);
    if now < until {
        return Verdict::Keep { next_look: Some(until), why: KeepReason::NotYet };
    }
    if node.do_not_disrupt {
        return keep(KeepReason::DoNotDisrupt);
    }
    Verdict::Remove { reason: RemoveReason::Expired { created: node.created_at, ttl } }
}

/// Which expired node goes next.
#[derive(Clone, Debug, Default)]
pub struct Expirations {
    /// The node to delete now, with the plan for its pods.
    pub next: Option<Replacement>,
    /// Expired nodes whose pods have nowhere to go, and why not. They stay.
    pub stuck: BTreeMap<NodeKey, BTreeMap<PodKey, Vec<Unfit>>>,
    /// Expired nodes that wait for their turn, the oldest first.
    pub waiting: Vec<NodeKey>,
    /// When the next node expires that has not yet.
    pub next_look: Option<Timestamp>,
}

/// A node to replace.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The node.
    pub node: NodeKey,
    /// Why it goes.
    pub reason: RemoveReason,
    /// Where its pods go, with the new nodes that takes.
    pub plan: Solution,
}

/// Chooses at most one expired node: the oldest whose pods all have somewhere else to go.
///
/// `movable` names the pods of a node that will look for a new place: not daemons, not static ones, not those that have
/// ended. While any candidate is being deleted, none is chosen.
///
/// Karpenter v0.16 deletes every expired node at once and lets their pods wait for new ones; a fleet made in one hour dies
/// in one hour there. This differs on purpose.
pub fn next_expired(
    candidates: &[Candidate],
    snapshot: &Snapshot,
    settings: &Settings,
    movable: impl Fn(&NodeKey, &Pod) -> bool,
    now: Timestamp,
) -> Expirations {
    let mut expirations = Expirations::default();
    let mut expired = Vec::new();
    for candidate in candidates {
        match expiration(candidate, now) {
            Verdict::Remove { reason } => expired.push((candidate.created_at, &candidate.node, reason)),
            Verdict::Keep { next_look: Some(look), .. } => {
                expirations.next_look = Some(expirations.next_look.map_or(look, |earlier| earlier.min(look)));
            }
            _ => {}
        }
    }
    expired.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let busy = candidates.iter().any(|candidate| candidate.deleting);
    for (_, node, reason) in expired {
        if busy || expirations.next.is_some() {
            expirations.waiting.push(node.clone());
            continue;
        }
        let plan = solve(&without(snapshot, node, |pod| movable(node, pod)), settings);
        let mut homeless = plan.unplaced.clone();
        let pending = |key: &PodKey| snapshot.pods.iter().any(|pod| pod.key == *key);
        homeless.retain(|key, _| !pending(key));
        if homeless.is_empty() {
            expirations.next = Some(Replacement { node: node.clone(), reason, plan });
        } else {
            expirations.stuck.insert(node.clone(), homeless);
        }
    }
    expirations
}

/// The snapshot as it will be once the node is going: nothing new on it, and its movable pods without a place.
fn without(snapshot: &Snapshot, node: &NodeKey, movable: impl Fn(&Pod) -> bool) -> Snapshot {
    let mut after = snapshot.clone();
    for leaving in after.nodes.iter_mut().filter(|other| other.key == *node) {
        leaving.stage = NodeStage::Leaving;
        let (moving, staying): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = leaving.pods.drain(..).partition(|pod| movable(pod));
        leaving.pods = staying;
        after.pods.extend(moving);
    }
    after
}

#[cfg(test)]
mod tests;
