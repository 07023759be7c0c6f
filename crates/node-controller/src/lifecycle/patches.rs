//! The changes we make to Node objects, as JSON merge patches. Pure; nothing to change is `None`.
//!
//! Lists are written whole, so every patch with a list carries the resourceVersion it was made from: the API server
//! refuses it if somebody else was faster, and the next look makes a new one.

use std::collections::BTreeMap;

use api::karpenter_v1::NodeClaim;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::names;

/// Gives a Node what its claim says: labels, taints, owner, finalizer, and the mark that it is registered.
///
/// `hold` keeps pods off it beyond that, until [`open`].
pub fn register(claim: &NodeClaim, node: &Node, hold: bool) -> Option<Value> {
    let mut metadata = serde_json::Map::new();
    let mut labels: BTreeMap<String, String> = claim.labels().clone();
    labels.insert(names::REGISTERED.to_owned(), "true".to_owned());
    labels.retain(|key, value| node.labels().get(key) != Some(value));
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(labels));
    }
    let mut annotations: BTreeMap<String, String> = claim.annotations().clone();
    // The plan is the claim's business; what `kubectl apply` noted is about the claim as well.
    annotations.retain(|key, _| !key.starts_with(names::OURS) && key != names::LAST_APPLIED);
    annotations.insert(names::CLAIM.to_owned(), claim.name_any());
    annotations.retain(|key, value| node.annotations().get(key) != Some(value));
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    if !node.owner_references().iter().any(|owner| owner.uid == uid) {
        let mut owners = json!(node.owner_references());
        if let Some(list) = owners.as_array_mut() {
            list.push(json!({
                "apiVersion": NodeClaim::api_version(&()),
                "kind": NodeClaim::kind(&()),
                "name": claim.name_any(),
                "uid": uid,
                "blockOwnerDeletion": true,
            }));
        }
        metadata.insert("ownerReferences".to_owned(), owners);
    }
    finalizer(node, &mut metadata);

    let present = taints(node);
    let synced = node.labels().get(names::REGISTERED).is_some_and(|value| value == "true")
        || node.labels().get(names::DO_NOT_SYNC_TAINTS).is_some_and(|value| value == "true");
    let held = |taint: &Taint| synced && taint.effect == "NoSchedule";
    let mut wanted: Vec<Taint> = present.iter().filter(|taint| !is_closing(taint) || held(taint)).cloned().collect();
    if hold && !synced {
        // Unlike the NoExecute a machine boots with, it lets the daemons in that every node needs to become ready.
        let (key, effect) = (names::UNREGISTERED_TAINT.to_owned(), "NoSchedule".to_owned());
        wanted.push(Taint { key, effect, ..Taint::default() });
    }
    if !synced {
        for taint in claim.spec.taints.iter().chain(&claim.spec.startup_taints) {
            if !wanted.iter().any(|there| there.key == taint.key && there.effect == taint.effect) {
                wanted.push(taint.clone());
            }
        }
    }
    assemble(node, metadata, (wanted != present).then(|| json!({ "taints": wanted })))
}

/// Lets pods in.
pub fn open(node: &Node) -> Option<Value> {
    let mut wanted = taints(node);
    let all = wanted.len();
    wanted.retain(|taint| !is_closing(taint));
    let spec = (wanted.len() != all).then(|| json!({ "taints": wanted }));
    assemble(node, serde_json::Map::new(), spec)
}

/// Whether this taint is what keeps pods off until [`open`].
pub fn is_closing(taint: &Taint) -> bool {
    taint.key == names::UNREGISTERED_TAINT
}

/// Marks a registered Node as ready for pods.
pub fn initialize(node: &Node) -> Option<Value> {
    let done = node.labels().get(names::INITIALIZED).is_some_and(|value| value == "true");
    (!done).then(|| json!({ "metadata": { "labels": { names::INITIALIZED: "true" } } }))
}

/// Keeps new pods off a Node, and the Node until we are done with it. `removal` says why, if the Node is not deleted yet.
pub fn cordon(node: &Node, removal: Option<(&str, jiff::Timestamp)>) -> Option<Value> {
    let mut metadata = serde_json::Map::new();
    finalizer(node, &mut metadata);
    if let Some((reason, since)) = removal
        && !node.annotations().contains_key(names::REMOVAL)
    {
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut annotations = json!({ names::REMOVAL: reason, names::REMOVAL_SINCE: since });
        if is_unschedulable(node) {
            annotations[names::CORDONED_BEFORE] = json!("true");
        }
        metadata.insert("annotations".to_owned(), annotations);
    }
    let mut wanted = taints(node);
    let mut spec = serde_json::Map::new();
    if !wanted.iter().any(|taint| taint.key == names::DISRUPTED_TAINT) {
        wanted.push(Taint {
            key: names::DISRUPTED_TAINT.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
        spec.insert("taints".to_owned(), json!(wanted));
    }
    if !is_unschedulable(node) {
        spec.insert("unschedulable".to_owned(), json!(true));
    }
    assemble(node, metadata, (!spec.is_empty()).then_some(Value::Object(spec)))
}

/// Takes back [`cordon`], but not what a person had cordoned before.
pub fn uncordon(node: &Node) -> Option<Value> {
    let mut metadata = serde_json::Map::new();
    if node.annotations().contains_key(names::REMOVAL) {
        let none = json!({ names::REMOVAL: null, names::REMOVAL_SINCE: null, names::CORDONED_BEFORE: null });
        metadata.insert("annotations".to_owned(), none);
    }
    let stays_closed = node.annotations().get(names::CORDONED_BEFORE).is_some_and(|value| value == "true");
    let ours = |taint: &Taint| {
        taint.key == names::DISRUPTED_TAINT || (taint.key == names::UNSCHEDULABLE_TAINT && !stays_closed)
    };
    let present = taints(node);
    let wanted: Vec<&Taint> = present.iter().filter(|taint| !ours(taint)).collect();
    let mut spec = serde_json::Map::new();
    if wanted.len() != present.len() {
        spec.insert("taints".to_owned(), json!(wanted));
    }
    if is_unschedulable(node) && !stays_closed {
        spec.insert("unschedulable".to_owned(), Value::Null);
    }
    assemble(node, metadata, (!spec.is_empty()).then_some(Value::Object(spec)))
}

/// The finalizers of an object without ours, as a patch; `None` if ours is not there.
pub fn release(finalizers: &[String], resource_version: Option<&str>) -> Option<Value> {
    let kept: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != names::FINALIZER).collect();
    (kept.len() != finalizers.len())
        .then(|| json!({ "metadata": { "finalizers": kept, "resourceVersion": resource_version } }))
}

fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

fn finalizer(node: &Node, metadata: &mut serde_json::Map<String, Value>) {
    // The API server refuses new finalizers on an object that is being deleted.
    if node.metadata.deletion_timestamp.is_none() && !node.finalizers().iter().any(|f| f == names::FINALIZER) {
        let mut all = node.finalizers().to_vec();
        all.push(names::FINALIZER.to_owned());
        metadata.insert("finalizers".to_owned(), json!(all));
    }
}

fn assemble(node: &Node, mut metadata: serde_json::Map<String, Value>, spec: Option<Value>) -> Option<Value> {
    if metadata.is_empty() && spec.is_none() {
        return None;
    }
    metadata.insert("resourceVersion".to_owned(), json!(node.metadata.resource_version));
    let mut patch = json!({ "metadata": metadata });
    if let Some(spec) = spec {
        patch["spec"] = spec;
    }
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "n", "resourceVersion": "7", "labels": { "a": "old" } },
            "spec": { "taints": [
                { "key": "karpenter.sh/unregistered", "effect": "NoExecute" },
                { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" } ] },
        }))
        .unwrap()
    }

    fn claim() -> NodeClaim {
        serde_json::from_value(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "u", "annotations": { "mine": "kept", "tandem.dev/plan": "{}" }, "labels": { "a": "new", "karpenter.sh/provisioner-name": "p" } },
            "spec": {
                "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" },
                "taints": [ { "key": "team", "value": "a", "effect": "NoSchedule" } ],
                "startupTaints": [ { "key": "agent", "effect": "NoExecute" } ],
            },
        }))
        .unwrap()
    }

    fn apply(node: &Node, patch: &Value) -> Node {
        fn merge(base: &mut Value, patch: &Value) {
            match (base, patch) {
                (Value::Object(base), Value::Object(patch)) => {
                    for (key, value) in patch {
                        if value.is_null() {
                            base.remove(key);
                        } else {
                            merge(base.entry(key.clone()).or_insert(Value::Null), value);
                        }
                    }
                }
                (base, Value::Object(_)) => {
                    *base = json!({});
                    merge(base, patch);
                }
                (base, patch) => *base = patch.clone(),
            }
        }
        let mut value = serde_json::to_value(node).unwrap();
        merge(&mut value, patch);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn registering_gives_the_node_what_its_claim_says_once() {
        let (claim, before) = (claim(), node());
        let after = apply(&before, &register(&claim, &before, false).unwrap());
        let keys: Vec<String> = taints(&after).into_iter().map(|taint| taint.key).collect();
        assert_eq!(keys, ["node.kubernetes.io/not-ready", "team", "agent"]);
        assert_eq!(after.labels()["a"], "new");
        assert_eq!(after.labels()[names::REGISTERED], "true");
        assert_eq!(after.finalizers(), [names::FINALIZER]);
        assert_eq!(after.annotations()["mine"], "kept");
        assert!(!after.annotations().contains_key("tandem.dev/plan"));
        assert_eq!(after.owner_references()[0].uid, "u");
        assert_eq!(register(&claim, &after, false), None, "a second time there is nothing to do");
    }

    #[test]
    fn a_node_held_closed_is_opened_once() {
        let (claim, before) = (claim(), node());
        let held = apply(&before, &register(&claim, &before, true).unwrap());
        let closing: Vec<Taint> = taints(&held).into_iter().filter(is_closing).collect();
        assert_eq!(closing.len(), 1);
        assert_eq!(closing[0].effect, "NoSchedule", "daemons may come");
        assert_eq!(register(&claim, &held, false), None, "registering again does not open it");
        let opened = apply(&held, &open(&held).unwrap());
        let keys: Vec<String> = taints(&opened).into_iter().map(|taint| taint.key).collect();
        assert_eq!(keys, ["node.kubernetes.io/not-ready", "team", "agent"]);
        assert_eq!(open(&opened), None);
        assert_eq!(register(&claim, &opened, true), None, "an open node is not closed again");
    }

    #[test]
    fn a_startup_taint_that_was_removed_does_not_come_back() {
        let (claim, before) = (claim(), node());
        let mut after = apply(&before, &register(&claim, &before, false).unwrap());
        after.spec.as_mut().unwrap().taints.as_mut().unwrap().retain(|taint| taint.key != "agent");
        assert_eq!(register(&claim, &after, false), None);
    }

    #[test]
    fn a_cordon_can_be_taken_back() {
        let before = node();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let cordoned = apply(&before, &cordon(&before, Some(("Empty", at))).unwrap());
        assert!(crate::lifecycle::next::is_cordoned(&cordoned));
        assert_eq!(cordoned.annotations()[names::REMOVAL_SINCE], "1970-01-01T00:00:00Z");
        assert_eq!(cordon(&cordoned, Some(("Empty", at))), None);
        let back = apply(&cordoned, &uncordon(&cordoned).unwrap());
        assert_eq!(taints(&back), taints(&before));
        assert_eq!(back.spec.unwrap().unschedulable, None);
        assert!(!back.metadata.annotations.unwrap_or_default().contains_key(names::REMOVAL));
    }

    #[test]
    fn what_a_person_had_cordoned_stays_so() {
        let mut before = node();
        let spec = before.spec.get_or_insert_default();
        spec.unschedulable = Some(true);
        let closed = Taint { key: names::UNSCHEDULABLE_TAINT.into(), effect: "NoSchedule".into(), ..Taint::default() };
        spec.taints.get_or_insert_default().push(closed);
        let at = jiff::Timestamp::UNIX_EPOCH;
        let cordoned = apply(&before, &cordon(&before, Some(("Expired", at))).unwrap());
        let back = apply(&cordoned, &uncordon(&cordoned).unwrap());
        assert_eq!(taints(&back), taints(&before));
        assert_eq!(back.spec.unwrap().unschedulable, Some(true));
        assert!(!back.metadata.annotations.unwrap_or_default().contains_key(names::CORDONED_BEFORE));
    }

    #[test]
    fn releasing_leaves_other_finalizers_alone() {
        let finalizers = ["other/f".to_owned(), names::FINALIZER.to_owned()];
        assert_eq!(
            release(&finalizers, Some("3")),
            Some(json!({ "metadata": { "finalizers": ["other/f"], "resourceVersion": "3" } }))
        );
        assert_eq!(release(&finalizers[..1], Some("3")), None);
    }
}
