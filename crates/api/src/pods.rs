//! Which pods need a machine, which ones come with it, and which ones are only passing through.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::core::{Selector, SelectorExt as _};
use requirements::labels;

/// Whether a selector selects who bears these labels; one that is none selects nobody.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Whether the scheduler has said that this pod fits nowhere, and a machine could help it. Whether it is nominated for a
/// node is another question: see [`nominated_for`].
///
/// Not bound, not a daemon (it cannot choose its node), not static, not on its way out.
pub fn is_provisionable(pod: &Pod) -> bool {
    let bound = node_name(pod).is_some();
    let unschedulable = pod.status.as_ref().and_then(|s| s.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable"))
    });
    unschedulable && !bound && !is_leaving(pod) && !is_terminal(pod) && !is_daemon(pod) && !is_static(pod)
}

/// Whether a pod of a node that is leaving will want a place elsewhere: something recreates it, and nothing holds it.
///
/// A protected pod stays until it ends by itself; a machine kept ready for it would only cost money.
pub fn will_move(pod: &Pod) -> bool {
    !is_protected(pod)
        && !is_terminal(pod)
        && !is_leaving(pod)
        && !is_daemon(pod)
        && !is_static(pod)
        && controller(pod).is_some()
}

/// Whether the pod keeps its node from being empty.
pub fn occupies(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_daemon(pod) && !is_static(pod)
}

/// Whether its owner asked for it to be left alone.
pub fn is_protected(pod: &Pod) -> bool {
    let annotated =
        |key: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).is_some_and(|value| value == "true");
    annotated(labels::DO_NOT_EVICT) || annotated(labels::DO_NOT_DISRUPT)
}

/// The node the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty())
}

/// The node that is kept for the pod: the scheduler preempts others for it there, or we planned it there.
pub fn nominated_for(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).filter(|n| !n.is_empty())
}

/// Whether a DaemonSet made it.
pub fn is_daemon(pod: &Pod) -> bool {
    controller(pod) == Some("DaemonSet")
}

/// Whether the kubelet runs it from a file: it belongs to the node and cannot be evicted.
pub fn is_static(pod: &Pod) -> bool {
    controller(pod) == Some("Node")
        || pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"))
}

/// Whether it has finished and holds no resources any more.
pub fn is_terminal(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed")
}

/// Whether it is on its way to run: images are fetched, volumes attached, or its init containers run.
pub fn has_not_begun(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")
}

/// Whether it was told to go.
pub fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it may stay on a node that is being emptied, so that no drain evicts it or waits for it.
pub fn tolerates_removal(pod: &Pod) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        let right_key =
            (key.is_empty() && exists) || key == labels::DISRUPTED_TAINT || key == labels::UNSCHEDULABLE_TAINT;
        let right_value = exists || toleration.value.as_deref().unwrap_or_default().is_empty();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        right_key && right_value && (effect.is_empty() || effect == "NoSchedule")
    })
}

/// Whether the pod keeps a drain of its node from ending, as far as the pod itself says: it is waited for, and its owner asked for
/// it to be left alone. `v1alpha5`: by the rules for a Provisioner's nodes a pod that nothing would make again does so, too, and
/// then none of the node's pods is evicted.
pub fn blocks_drain(pod: &Pod, v1alpha5: bool) -> bool {
    let is_ownerless = || pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty);
    occupies(pod) && !is_leaving(pod) && !tolerates_removal(pod) && (is_protected(pod) || v1alpha5 && is_ownerless())
}

/// The UID, empty only for objects that never were in an API server.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn controller(pod: &Pod) -> Option<&str> {
    pod.metadata
        .owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.kind.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(patch: serde_json::Value) -> Pod {
        let mut base = json!({
            "metadata": { "name": "p", "namespace": "d", "uid": "u", "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true } ] },
            "spec": { "containers": [] },
            "status": { "phase": "Pending", "conditions": [
                { "type": "PodScheduled", "status": "False", "reason": "Unschedulable" } ] },
        });
        merge(&mut base, patch);
        serde_json::from_value(base).unwrap()
    }

    fn merge(base: &mut serde_json::Value, patch: serde_json::Value) {
        match (base, patch) {
            (serde_json::Value::Object(base), serde_json::Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(base.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
            (base, patch) => *base = patch,
        }
    }

    #[test]
    fn only_a_pod_the_scheduler_gave_up_on_needs_a_machine() {
        let table = [
            (json!({}), true),
            (json!({ "status": { "conditions": [] } }), false),
            (
                json!({ "status": { "conditions": [
                    { "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" } ] } }),
                false,
            ),
            (json!({ "spec": { "nodeName": "n" } }), false),
            (json!({ "status": { "nominatedNodeName": "n" } }), true),
            (json!({ "status": { "phase": "Failed" } }), false),
            (json!({ "metadata": { "deletionTimestamp": "2024-01-01T00:00:00Z" } }), false),
            (
                json!({ "metadata": { "ownerReferences": [
                    { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "o", "controller": true } ] } }),
                false,
            ),
            (
                json!({ "metadata": { "ownerReferences": [
                    { "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "o", "controller": true } ] } }),
                false,
            ),
        ];
        for (patch, wanted) in table {
            assert_eq!(is_provisionable(&pod(patch.clone())), wanted, "{patch}");
        }
    }

    #[test]
    fn a_pod_nobody_recreates_does_not_ask_for_a_new_place() {
        assert!(will_move(&pod(json!({ "spec": { "nodeName": "n" } }))));
        assert!(!will_move(&pod(json!({ "metadata": { "ownerReferences": [] } }))));
        assert!(!will_move(&pod(json!({ "metadata": { "annotations": { "karpenter.sh/do-not-evict": "true" } } }))));
    }

    #[test]
    fn who_is_protected_or_under_v1alpha5_ownerless_blocks_a_drain_that_waits_for_it() {
        let blocks =
            |patch: serde_json::Value| [false, true].map(|v1alpha5| blocks_drain(&pod(patch.clone()), v1alpha5));
        let protected = |patch: serde_json::Value| {
            let mut all = json!({ "metadata": { "annotations": { "karpenter.sh/do-not-disrupt": "true" } } });
            merge(&mut all, patch);
            all
        };
        assert_eq!(blocks(json!({})), [false, false]);
        assert_eq!(blocks(json!({ "metadata": { "ownerReferences": [] } })), [false, true]);
        assert_eq!(blocks(protected(json!({}))), [true, true]);
        let daemon = json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "o", "controller": true } ] } });
        assert_eq!(blocks(protected(daemon)), [false, false]);
        assert_eq!(blocks(protected(json!({ "spec": { "tolerations": [{ "operator": "Exists" }] } }))), [false, false]);
        assert_eq!(blocks(protected(json!({ "status": { "phase": "Succeeded" } }))), [false, false]);
        let going = json!({ "metadata": { "deletionTimestamp": "2024-01-01T00:00:00Z" } });
        assert_eq!(blocks(protected(going)), [false, false]);
    }

    #[test]
    fn a_finished_or_daemon_pod_does_not_occupy_a_node() {
        assert!(occupies(&pod(json!({ "status": { "phase": "Running" } }))));
        assert!(!occupies(&pod(json!({ "status": { "phase": "Succeeded" } }))));
    }
}
