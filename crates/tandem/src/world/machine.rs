//! What a machine is, from its Node, its claim, its pool and its CSINode.

use std::collections::BTreeMap;

use api::{convert, karpenter_v1::NodeClaim};
use k8s_openapi::api::core::v1 as core;
use requirements::labels;
use scheduling::{CapacityType, InstanceType, Node, NodeKey, NodeStage, PoolKey};
use units::ResourceList;

use crate::objects::Objects;

pub(super) fn empty_node(name: &str) -> Node {
    Node {
        key: NodeKey(name.to_owned()),
        pool: None,
        stage: NodeStage::InFlight,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        startup_taints: Vec::new(),
        allocatable: ResourceList::new(),
        pods: Vec::new(),
        volume_limits: BTreeMap::new(),
        price: None,
    }
}

pub(super) fn node(object: &core::Node, claim: Option<&NodeClaim>) -> Node {
    let mut node = convert::node(object);
    let leaving = claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_some())
        || node.taints.iter().any(|taint| taint.key == labels::DISRUPTED_TAINT);
    if leaving {
        node.stage = NodeStage::Leaving;
    } else if let (NodeStage::InFlight, Some(claim)) = (node.stage, claim) {
        complete_from_claim(&mut node, claim);
    }
    node
}

/// A machine that is not ready: what its claim promises counts as long as the node does not say otherwise.
pub(super) fn complete_from_claim(node: &mut Node, claim: &NodeClaim) {
    if claim.metadata.deletion_timestamp.is_some() {
        node.stage = NodeStage::Leaving;
    }
    for (key, value) in claim.metadata.labels.iter().flatten() {
        node.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let single = claim.spec.requirements.iter().filter_map(|written| convert::claim_requirement(written).ok());
    for requirement in single {
        if let Some(value) = requirement.single() {
            node.labels.entry(requirement.key().to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    node.pool = node.pool.take().or_else(|| convert::pool_of(&node.labels));
    let taints = |list: &[core::Taint]| list.iter().filter_map(|taint| convert::taint(taint).ok()).collect::<Vec<_>>();
    node.startup_taints = taints(&claim.spec.startup_taints);
    if node.labels.get(labels::REGISTERED).map(String::as_str) != Some("true") {
        let more: Vec<_> = taints(&claim.spec.taints).into_iter().filter(|t| !node.taints.contains(t)).collect();
        node.taints.extend(more);
    }
    let announced = claim.status.as_ref().map(|status| &status.allocatable).filter(|list| !list.is_empty());
    // Not launched: room for exactly what it was planned for.
    let planned = claim.spec.resources.as_ref().map(|asked| &asked.requests);
    let list = announced.or(planned).and_then(|list| convert::quantities_floor(list, "").ok());
    for (name, amount) in list.unwrap_or_default() {
        if node.allocatable.get(&name).is_zero() {
            node.allocatable.set(name, amount);
        }
    }
}

/// The taints that each pool's nodes begin with.
pub(super) fn startup_taints(objects: &Objects) -> BTreeMap<PoolKey, Vec<scheduling::Taint>> {
    let provisioners = objects.provisioners.iter().map(|read| convert::provisioner(&read.object));
    let node_pools = objects.node_pools.iter().map(|read| convert::nodepool(&read.object));
    provisioners.chain(node_pools).flatten().map(|template| (template.key, template.startup_taints)).collect()
}

pub(super) fn limits_of(node: &k8s_openapi::api::storage::v1::CSINode) -> Option<(&str, BTreeMap<String, u32>)> {
    Some((node.metadata.name.as_deref()?, convert::volume_limits(node)))
}

pub(super) fn price(node: &Node, types: &[InstanceType]) -> Option<units::UsdMicrosPerHour> {
    let kind = node.labels.get(labels::INSTANCE_TYPE)?;
    let zone = node.labels.get(labels::ZONE)?;
    let capacity_type: CapacityType = node.labels.get(labels::CAPACITY_TYPE)?.parse().ok()?;
    let kind = types.iter().find(|one| one.name == *kind)?;
    kind.offerings.iter().find(|one| one.zone == *zone && one.capacity_type == capacity_type).map(|one| one.price)
}
