//! When a new node lets pods in, and whom it is meant for. Pure.
//!
//! The kube-scheduler does not know the plan. What it knows is `status.nominatedNodeName`: a pod goes to that node without
//! scoring if it fits there, and what it asks for is kept from others of equal and lower priority. But it forgets a
//! nomination whenever it tries the pod in vain, so one that comes before its node is open is soon lost, and one that comes
//! after is too late. Hence a node is held closed by a taint until it is ready otherwise; then its pods are nominated and
//! the taint is lifted in one breath. What the scheduler does with it in detail: `scheduling::realise`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use api::{convert, karpenter_v1::NodeClaim};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::ResourceExt as _;
use scheduling::{Taint, TaintEffect, tolerates};

use super::{next, patches};
use crate::{
    names,
    nominations::Nominations,
    plan::Plan,
    pods,
    world::{Member, World},
};

/// Whether a Node that is about to be registered stays closed until its pods are nominated.
///
/// Not one that takes pods already: some have been placed by score by now. Not one with startup taints: somebody else opens
/// it, at a moment we do not choose, and may need pods there to do so. And never where a daemon might have to run before
/// the node can be ready, and would be kept off.
pub fn stays_closed(daemon_sets: &[Arc<DaemonSet>], claim: &NodeClaim, node: &Node) -> bool {
    let planned = Plan::of(claim).is_some_and(|plan| !plan.pods.is_empty());
    let ours_to_taint = node.labels().get(names::DO_NOT_SYNC_TAINTS).is_none_or(|value| value != "true");
    planned
        && ours_to_taint
        && claim.spec.startup_taints.is_empty()
        && is_shut(node)
        && !daemon_sets.iter().any(|set| is_kept_from_starting(set))
}

/// Whether nothing but us keeps pods off a registered Node.
pub fn is_due(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let starting = taints.iter().any(|taint| next::is_ephemeral(taint) && !patches::is_closing(taint));
    next::is_ready(node) && !starting && taints.iter().any(patches::is_closing)
}

/// The pods to nominate for a member's node: those planned there that still have no node and are not kept a place on
/// another one. A place on a node that is gone or leaving does not count.
pub fn nominees(world: &World, member: &Member, nominations: &Nominations) -> Vec<Arc<Pod>> {
    let Some(node) = member.node.as_ref().and_then(|node| node.metadata.name.as_deref()) else { return Vec::new() };
    let planned: HashSet<&str> =
        nominations.iter().filter(|(_, place)| member.is_called(place)).map(|(pod, _)| pod).collect();
    if planned.is_empty() {
        return Vec::new();
    }
    let named =
        world.members.iter().filter_map(|member| Some((member.node.as_ref()?.metadata.name.as_deref()?, member)));
    let stays: HashMap<&str, bool> = named.map(|(name, member)| (name, !member.is_leaving())).collect();
    let elsewhere = |other: &str| other == node || stays.get(other).copied().unwrap_or(false);
    let wanted = |pod: &Pod| planned.contains(pods::uid(pod)) && is_free(pod, elsewhere);
    world.objects.pods.iter().filter(|pod| wanted(pod)).cloned().collect()
}

/// Whether a pod may be nominated: it waits for a node, and none is kept for it, as `kept` knows of nodes.
pub fn is_free(pod: &Pod, kept: impl Fn(&str) -> bool) -> bool {
    pods::node_name(pod).is_none()
        && !pods::is_terminal(pod)
        && !pods::is_leaving(pod)
        && !pods::nominated_for(pod).is_some_and(kept)
}

/// Whether a Node takes no pods yet.
fn is_shut(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    !next::is_ready(node) || taints.iter().any(next::is_ephemeral)
}

/// Whether the pods of a DaemonSet can run on nodes that are not ready, but not on one that we hold closed. Others have to
/// wait for the node to be ready in any case.
fn is_kept_from_starting(set: &DaemonSet) -> bool {
    let tolerations = convert::daemon_set(set).tolerations;
    let taint = |key: &str| Taint { key: key.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
    tolerates(&tolerations, &taint("node.kubernetes.io/not-ready"))
        && !tolerates(&tolerations, &taint(names::UNREGISTERED_TAINT))
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
