//! An HPA as it is kept: there are as many as ScaledObjects, and most of one is looked at rarely.

use std::borrow::Cow;

use api::keda::annotations::HPA_OWNERSHIP;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// An HPA, of which what is asked of all HPAs at once is at hand, and the rest is text: as fields it is three times as large.
#[derive(Debug, Clone)]
pub(crate) struct KnownHpa {
    /// Who it is, whose, which version, and whether it is going; of its annotations the one that [`conflict`](crate::conflict) asks
    /// for, and no labels.
    pub(crate) metadata: ObjectMeta,
    /// The workload that it scales.
    pub(crate) target: CrossVersionObjectReference,
    /// The replicas that it saw when it looked last; nothing if it never did.
    pub(crate) seen_replicas: Option<u32>,
    /// The whole, but for what nobody here reads.
    text: Box<[u8]>,
}

impl KnownHpa {
    /// The HPA with all of its fields, but without what it measured and what it says of conditions that hold.
    pub(crate) fn whole(&self) -> HorizontalPodAutoscaler {
        serde_json::from_slice(&self.text).expect("it was written from such an object")
    }
}

impl<'de> Deserialize<'de> for KnownHpa {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut hpa = HorizontalPodAutoscaler::deserialize(from)?;
        forget(&mut hpa);
        let text = serde_json::to_vec(&hpa).map_err(D::Error::custom)?.into_boxed_slice();
        let seen_replicas = seen_replicas(&hpa);
        let HorizontalPodAutoscaler { mut metadata, spec, .. } = hpa;
        metadata.labels = None;
        metadata.annotations =
            metadata.annotations.and_then(|mut all| all.remove_entry(HPA_OWNERSHIP)).map(|kept| [kept].into());
        Ok(Self { metadata, target: spec.scale_target_ref, seen_replicas, text })
    }
}

/// Takes away what the API server keeps for itself, what the HPA controller measured, which is the largest part, and its words
/// about conditions that hold.
fn forget(hpa: &mut HorizontalPodAutoscaler) {
    hpa.metadata.managed_fields = None;
    let Some(status) = &mut hpa.status else { return };
    status.current_metrics = None;
    for condition in status.conditions.iter_mut().flatten().filter(|condition| condition.status == "True") {
        condition.message = None;
        condition.last_transition_time = None;
    }
}

/// Zero is left out of a status; only an HPA that has conditions has looked at all.
fn seen_replicas(hpa: &HorizontalPodAutoscaler) -> Option<u32> {
    let status = hpa.status.as_ref()?;
    status.conditions.as_ref().filter(|conditions| !conditions.is_empty())?;
    u32::try_from(status.current_replicas.unwrap_or(0)).ok()
}

impl Resource for KnownHpa {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        HorizontalPodAutoscaler::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        HorizontalPodAutoscaler::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        HorizontalPodAutoscaler::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        HorizontalPodAutoscaler::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::*;

    fn known(status: &Value) -> KnownHpa {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"},
                "annotations": {"note": "long", HPA_OWNERSHIP: "false"},
                "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "o"}],
            },
            "spec": {
                "minReplicas": 1, "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_whole_is_what_was_found() {
        let known = known(&json!({"desiredReplicas": 1, "currentReplicas": 2, "conditions": [
            {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": "not found"},
            {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "a long one"},
        ], "currentMetrics": [{"type": "External"}]}));
        let whole = serde_json::to_value(known.whole()).unwrap();
        assert_eq!(whole["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(whole["metadata"]["annotations"], json!({"note": "long", HPA_OWNERSHIP: "false"}));
        assert_eq!(whole["metadata"]["ownerReferences"][0]["uid"], "o");
        assert_eq!(whole["spec"]["maxReplicas"], 3);
        let conditions = json!([
            {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": "not found"},
            {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"},
        ]);
        assert_eq!(whole["status"], json!({"desiredReplicas": 1, "currentReplicas": 2, "conditions": conditions}));
    }

    #[test]
    fn what_all_are_asked_for_is_at_hand() {
        let hpa = known(&json!({"desiredReplicas": 0, "conditions": [{"type": "AbleToScale", "status": "True"}]}));
        assert_eq!((hpa.name_any().as_str(), hpa.resource_version().as_deref()), ("web", Some("7")));
        assert_eq!((hpa.target.kind.as_str(), hpa.owner_references().len()), ("Deployment", 1));
        assert_eq!(hpa.annotations().get(HPA_OWNERSHIP).map(String::as_str), Some("false"));
        assert_eq!(hpa.seen_replicas, Some(0), "it has looked, and zero is left out");
        assert_eq!(known(&json!({"desiredReplicas": 0})).seen_replicas, None, "it has not looked");
    }
}
