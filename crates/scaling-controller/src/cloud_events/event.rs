//! One CloudEvent. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;

/// Something happened in the life of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lifecycle {
    pub(super) event_type: &'static str,
    /// In lower case: `scaledobject`.
    kind: String,
    /// Empty for a cluster-wide kind.
    pub(super) namespace: String,
    name: String,
    reason: String,
    message: String,
    at: Timestamp,
}

/// The CloudEvents type of what a Kubernetes event of this reason says, if it is one of those that are told.
fn event_type(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "ScaledObjectReady" => "keda.scaledobject.ready.v1",
        "ScaledObjectCheckFailed" => "keda.scaledobject.failed.v1",
        "ScaledObjectPaused" => "keda.scaledobject.paused.v1",
        "ScaledObjectUnpaused" => "keda.scaledobject.unpaused.v1",
        "ScaledObjectDeleted" => "keda.scaledobject.removed.v1",
        "ScaledJobReady" => "keda.scaledjob.ready.v1",
        "ScaledJobCheckFailed" => "keda.scaledjob.failed.v1",
        "ScaledJobPaused" => "keda.scaledjob.paused.v1",
        "ScaledJobUnpaused" => "keda.scaledjob.unpaused.v1",
        "ScaledJobDeleted" => "keda.scaledjob.removed.v1",
        "ScaledJobRolloutCleanupStarted" => "keda.scaledjob.rolloutcleanup.started.v1",
        "ScaledJobRolloutCleanupCompleted" => "keda.scaledjob.rolloutcleanup.completed.v1",
        "ScaledJobRolloutCleanupFailed" => "keda.scaledjob.rolloutcleanup.failed.v1",
        "TriggerAuthenticationAdded" => "keda.authentication.triggerauthentication.created.v1",
        "TriggerAuthenticationUpdated" => "keda.authentication.triggerauthentication.updated.v1",
        "TriggerAuthenticationDeleted" => "keda.authentication.triggerauthentication.removed.v1",
        "ClusterTriggerAuthenticationAdded" => "keda.authentication.clustertriggerauthentication.created.v1",
        "ClusterTriggerAuthenticationUpdated" => "keda.authentication.clustertriggerauthentication.updated.v1",
        "ClusterTriggerAuthenticationDeleted" => "keda.authentication.clustertriggerauthentication.removed.v1",
        _ => return None,
    })
}

impl Lifecycle {
    /// What a Kubernetes event says, if it is told.
    pub(super) fn of(regarding: &ObjectReference, reason: &str, message: &str, at: Timestamp) -> Option<Self> {
        let kind = regarding.kind.as_deref().unwrap_or_default();
        Some(Self {
            event_type: event_type(reason)?,
            kind: kind.to_lowercase(),
            namespace: regarding.namespace.clone().unwrap_or_default(),
            name: regarding.name.clone().unwrap_or_default(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            at,
        })
    }

    /// The event in HTTP's binary content mode, which is what KEDA sends: attributes are headers, data is the body.
    pub(super) fn request(
        &self,
        id: u128,
        cluster: &str,
        own_namespace: &str,
    ) -> (Vec<(&'static str, String)>, String) {
        let Self { kind, namespace, name, .. } = self;
        let headers = vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", uuid(id)),
            ("ce-type", self.event_type.to_owned()),
            ("ce-source", format!("/{cluster}/{own_namespace}/keda")),
            ("ce-subject", format!("/{cluster}/{namespace}/{kind}/{name}")),
            ("ce-time", self.at.to_string()),
            ("content-type", "application/json".to_owned()),
        ];
        (headers, json!({ "reason": self.reason, "message": self.message }).to_string())
    }
}

/// Random bits as a UUID of version 4.
fn uuid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 0x2 << 62;
    let text = format!("{bits:032x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(kind: &str, namespace: Option<&str>) -> ObjectReference {
        ObjectReference {
            kind: Some(kind.to_owned()),
            namespace: namespace.map(str::to_owned),
            name: Some("web".to_owned()),
            ..ObjectReference::default()
        }
    }

    #[test]
    fn an_event_has_the_names_that_keda_gives_it() {
        let at = Timestamp::UNIX_EPOCH;
        let event = Lifecycle::of(&about("ScaledObject", Some("shop")), "ScaledObjectReady", "ok", at).unwrap();
        let (headers, body) = event.request(u128::MAX, "prod", "keda");
        let lines: Vec<String> = headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            lines,
            [
                "ce-specversion: 1.0",
                "ce-id: ffffffff-ffff-4fff-bfff-ffffffffffff",
                "ce-type: keda.scaledobject.ready.v1",
                "ce-source: /prod/keda/keda",
                "ce-subject: /prod/shop/scaledobject/web",
                "ce-time: 1970-01-01T00:00:00Z",
                "content-type: application/json",
            ]
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            json!({"reason": "ScaledObjectReady", "message": "ok"})
        );
        assert_eq!(Lifecycle::of(&about("ScaledObject", None), "KEDAScalersStarted", "", at), None);
    }

    #[test]
    fn every_type_that_can_be_subscribed_to_is_told_for_some_reason() {
        let life = ["Ready", "CheckFailed", "Paused", "Unpaused", "Deleted", "Added", "Updated"];
        let rollout = ["RolloutCleanupStarted", "RolloutCleanupCompleted", "RolloutCleanupFailed"];
        let kinds = ["ScaledObject", "ScaledJob", "TriggerAuthentication", "ClusterTriggerAuthentication"];
        let mut told: Vec<&str> = kinds
            .iter()
            .flat_map(|kind| life.iter().chain(&rollout).filter_map(move |what| event_type(&format!("{kind}{what}"))))
            .collect();
        told.sort_unstable();
        assert_eq!(told, api::eventing::EVENT_TYPES);
    }
}
