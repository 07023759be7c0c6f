//! `eventing.keda.sh/v1alpha1`: where the life of `keda.sh` objects is told to other programs, as CloudEvents.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FieldError;
use crate::condition::KedaCondition;
use crate::keda::AuthenticationRef;
use crate::validate::{Validate, check};

/// What can be told, as CloudEvents name it.
pub const EVENT_TYPES: [&str; 19] = [
    "keda.authentication.clustertriggerauthentication.created.v1",
    "keda.authentication.clustertriggerauthentication.removed.v1",
    "keda.authentication.clustertriggerauthentication.updated.v1",
    "keda.authentication.triggerauthentication.created.v1",
    "keda.authentication.triggerauthentication.removed.v1",
    "keda.authentication.triggerauthentication.updated.v1",
    "keda.scaledjob.failed.v1",
    "keda.scaledjob.paused.v1",
    "keda.scaledjob.ready.v1",
    "keda.scaledjob.removed.v1",
    "keda.scaledjob.rolloutcleanup.completed.v1",
    "keda.scaledjob.rolloutcleanup.failed.v1",
    "keda.scaledjob.rolloutcleanup.started.v1",
    "keda.scaledjob.unpaused.v1",
    "keda.scaledobject.failed.v1",
    "keda.scaledobject.paused.v1",
    "keda.scaledobject.ready.v1",
    "keda.scaledobject.removed.v1",
    "keda.scaledobject.unpaused.v1",
];

/// Where the events of one namespace go.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "eventing.keda.sh",
    version = "v1alpha1",
    kind = "CloudEventSource",
    namespaced,
    status = "CloudEventSourceStatus",
    derive = "PartialEq",
    doc = "CloudEventSource tells a destination what becomes of the keda.sh objects of its namespace.",
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type==\"Active\")].status")
)]
#[serde(rename_all = "camelCase")]
pub struct CloudEventSourceSpec {
    /// What the events call the cluster; the program's own name for it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Where the events go.
    pub destination: Destination,
    /// Credentials for the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_ref: Option<AuthenticationRef>,
    /// Which events go there; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_subscription: Option<EventSubscription>,
}

/// Where the events of all namespaces go.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "eventing.keda.sh",
    version = "v1alpha1",
    kind = "ClusterCloudEventSource",
    status = "CloudEventSourceStatus",
    derive = "PartialEq",
    doc = "ClusterCloudEventSource tells a destination what becomes of the keda.sh objects of all namespaces.",
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type==\"Active\")].status")
)]
#[serde(transparent)]
pub struct ClusterCloudEventSourceSpec(pub CloudEventSourceSpec);

/// Where events go; one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// An HTTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDestination>,
    /// An Azure Event Grid topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_event_grid_topic: Option<EventGridDestination>,
}

/// An HTTP server that takes CloudEvents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpDestination {
    /// Its URL.
    pub uri: String,
}

/// An Azure Event Grid topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventGridDestination {
    /// Its endpoint.
    pub endpoint: String,
}

/// Which events are told; at most one of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSubscription {
    /// Only these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_event_types: Vec<String>,
    /// All but these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_event_types: Vec<String>,
}

impl EventSubscription {
    /// Whether events of this type are told.
    pub fn takes(&self, event_type: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|one| one == event_type);
        if self.included_event_types.is_empty() {
            !named(&self.excluded_event_types)
        } else {
            named(&self.included_event_types)
        }
    }
}

/// What became of the destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudEventSourceStatus {
    /// Active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KedaCondition>,
}

impl CloudEventSourceSpec {
    /// Everything that keeps events from being sent; empty if nothing does.
    pub fn errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let Destination { http, azure_event_grid_topic } = &self.destination;
        check(
            &mut errors,
            http.is_some() != azure_event_grid_topic.is_some(),
            "spec.destination",
            "must have one of http and azureEventGridTopic",
        );
        if let Some(http) = http {
            let web = http.uri.starts_with("http://") || http.uri.starts_with("https://");
            check(&mut errors, web, "spec.destination.http.uri", "must begin with http:// or https://");
        }
        if let Some(subscription) = &self.event_subscription {
            subscription.check(&mut errors);
        }
        errors
    }
}

impl EventSubscription {
    /// What admission refuses, as KEDA does.
    pub(crate) fn check(&self, errors: &mut Vec<FieldError>) {
        let (included, excluded) = (&self.included_event_types, &self.excluded_event_types);
        check(
            errors,
            included.is_empty() || excluded.is_empty(),
            "spec.eventSubscription",
            "setting included types and excluded types at the same time is not supported",
        );
        for (list, name) in [(included, "includedEventTypes"), (excluded, "excludedEventTypes")] {
            for (index, unknown) in list.iter().enumerate().filter(|(_, one)| !EVENT_TYPES.contains(&one.as_str())) {
                let field = format!("spec.eventSubscription.{name}[{index}]");
                check(errors, false, &field, format!("eventType {unknown:?} is not known"));
            }
        }
    }
}

impl Validate for CloudEventSource {
    fn errors(&self) -> Vec<FieldError> {
        self.spec.errors()
    }
}

impl Validate for ClusterCloudEventSource {
    fn errors(&self) -> Vec<FieldError> {
        self.spec.0.errors()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> CloudEventSourceSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_subscription_includes_or_leaves_out() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let all = EventSubscription::default();
        let some = EventSubscription { included_event_types: list(&["a"]), ..EventSubscription::default() };
        let others = EventSubscription { excluded_event_types: list(&["a"]), ..EventSubscription::default() };
        let taken = [all, some, others].map(|s| (s.takes("a"), s.takes("b")));
        assert_eq!(taken, [(true, true), (true, false), (false, true)]);
    }

    #[test]
    fn a_source_has_one_destination_and_one_list_of_types_that_exist() {
        let fields = |value: Value| spec(value).errors().into_iter().map(|error| error.field).collect::<Vec<_>>();
        let http = json!({"http": {"uri": "https://events.example/"}});
        assert!(fields(json!({"destination": http})).is_empty());
        assert!(fields(json!({"destination": {"azureEventGridTopic": {"endpoint": "https://t"}}})).is_empty());
        assert_eq!(fields(json!({"destination": {}})), ["spec.destination"]);
        assert_eq!(fields(json!({"destination": {"http": {"uri": "ftp://x"}}})), ["spec.destination.http.uri"]);
        let lists = json!({"includedEventTypes": [EVENT_TYPES[0]], "excludedEventTypes": ["keda.nonsense.v1"]});
        assert_eq!(
            fields(json!({"destination": http, "eventSubscription": lists})),
            ["spec.eventSubscription", "spec.eventSubscription.excludedEventTypes[0]"]
        );
    }
}
