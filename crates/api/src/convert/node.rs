//! Nodes and their taints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use requirements::labels;
use scheduling::{Node, NodeKey, NodeStage, PoolKey, PoolKind, Taint, TaintEffect};
use units::{Quantity, ResourceList, ResourceName};

/// The taint that Kubernetes puts on a node somebody cordoned.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What placing needs to know of a node.
///
/// `pods`, `startup_taints` and `price` are left empty: they are in other objects. A node of ours is
/// [`NodeStage::InFlight`] until it has the label `karpenter.sh/initialized`.
pub fn node(node: &core::Node) -> Node {
    let metadata = &node.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    let pool = pool_of(&labels);
    let stage = if metadata.deletion_timestamp.is_some() {
        NodeStage::Leaving
    } else if pool.is_some() && labels.get(labels::INITIALIZED).map(String::as_str) != Some("true") {
        NodeStage::InFlight
    } else {
        NodeStage::Ready
    };
    let spec = node.spec.as_ref();
    // A taint whose effect is not known keeps pods away: the careful reading.
    let mut taints: Vec<Taint> = spec
        .and_then(|s| s.taints.as_ref())
        .into_iter()
        .flatten()
        .map(|t| taint(t).unwrap_or_else(|_| with_effect(t, TaintEffect::NoSchedule)))
        .collect();
    if spec.and_then(|s| s.unschedulable) == Some(true) && !taints.iter().any(|t| t.key == UNSCHEDULABLE) {
        let effect = TaintEffect::NoSchedule;
        taints.push(Taint { key: UNSCHEDULABLE.to_owned(), value: String::new(), effect });
    }
    Node {
        key: NodeKey(metadata.name.clone().unwrap_or_default()),
        pool,
        stage,
        labels,
        taints,
        startup_taints: Vec::new(),
        allocatable: allocatable(node),
        pods: Vec::new(),
        volume_limits: BTreeMap::new(),
        price: None,
    }
}

/// A resource whose quantity cannot be read is not there: the careful reading.
fn allocatable(node: &core::Node) -> ResourceList {
    let mut found = ResourceList::new();
    for (name, text) in node.status.iter().flat_map(|s| s.allocatable.iter().flatten()) {
        let name = ResourceName::new(name.as_str());
        if let Some(amount) = text.0.parse::<Quantity>().ok().and_then(|q| q.to_amount_floor(&name).ok()) {
            found.set(name, amount);
        }
    }
    found
}

/// The pool a node or claim with these labels belongs to.
pub fn pool_of(labels: &BTreeMap<String, String>) -> Option<PoolKey> {
    [PoolKind::Provisioner, PoolKind::NodePool].into_iter().find_map(|kind| {
        let name = labels.get(kind.label()).filter(|name| !name.is_empty())?;
        Some(PoolKey { kind, name: name.clone() })
    })
}

/// A Kubernetes taint; an error if its effect is none of the three.
pub fn taint(taint: &core::Taint) -> Result<Taint, String> {
    effect(&taint.effect).map(|effect| with_effect(taint, effect))
}

fn with_effect(taint: &core::Taint, effect: TaintEffect) -> Taint {
    Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default(), effect }
}

/// The taint effect of this name.
pub(super) fn effect(text: &str) -> Result<TaintEffect, String> {
    match text {
        "NoSchedule" => Ok(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Ok(TaintEffect::PreferNoSchedule),
        "NoExecute" => Ok(TaintEffect::NoExecute),
        _ => Err(format!("{text:?} is not a taint effect (NoSchedule, PreferNoSchedule, NoExecute)")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn converted(object: Value) -> Node {
        node(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_node_of_ours_is_in_flight_until_it_is_initialized() {
        let mut object =
            json!({ "metadata": { "name": "n", "labels": { "karpenter.sh/provisioner-name": "default" } } });
        assert_eq!(converted(object.clone()).stage, NodeStage::InFlight);
        assert_eq!(converted(object.clone()).pool.unwrap().to_string(), "Provisioner/default");
        object["metadata"]["labels"]["karpenter.sh/initialized"] = json!("true");
        assert_eq!(converted(object.clone()).stage, NodeStage::Ready);
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(converted(object).stage, NodeStage::Leaving);
    }

    #[test]
    fn a_cordoned_node_is_tainted_and_amounts_round_down() {
        let found = converted(json!({ "metadata": { "name": "n" }, "spec": { "unschedulable": true },
            "status": { "allocatable": { "cpu": "1930.9m", "memory": "1Gi", "pods": "17" } } }));
        assert_eq!(found.taints[0].to_string(), "node.kubernetes.io/unschedulable:NoSchedule");
        assert_eq!(found.allocatable.to_string(), "cpu: 1930m, memory: 1Gi, pods: 17");
        assert_eq!(found.stage, NodeStage::Ready);
    }
}
