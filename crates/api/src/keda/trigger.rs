//! A trigger: where a number comes from, and what it is compared with.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One event source of a ScaledObject or ScaledJob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTrigger {
    /// The scaler's name, such as `prometheus`. An unknown one is reported in the Ready condition.
    #[schemars(length(min = 1))]
    pub r#type: String,
    /// Unique in the object if given; formulas and metrics use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The scaler's own settings, all text.
    pub metadata: BTreeMap<String, String>,
    /// Where credentials come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_ref: Option<AuthenticationRef>,
    /// `AverageValue` (default for external metrics), `Value`, or `Utilization` for cpu and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "metric_type_schema")]
    pub metric_type: Option<String>,
    /// Whether the HPA is answered with the value of the last poll.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub use_cached_metrics: bool,
}

/// A TriggerAuthentication in the same namespace, or a ClusterTriggerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationRef {
    /// Name of the object.
    pub name: String,
    /// `TriggerAuthentication` (default) or `ClusterTriggerAuthentication`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "authentication_kind_schema")]
    pub kind: Option<String>,
}

impl AuthenticationRef {
    /// The kind that is meant, with the default filled in.
    pub fn effective_kind(&self) -> &str {
        self.kind.as_deref().filter(|k| !k.is_empty()).unwrap_or("TriggerAuthentication")
    }
}

/// Whether a trigger of this type is a resource metric, which the HPA reads by itself.
pub fn is_resource_trigger(r#type: &str) -> bool {
    matches!(r#type, "cpu" | "memory")
}

fn metric_type_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["AverageValue", "Value", "Utilization"] })
}

fn authentication_kind_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["TriggerAuthentication", "ClusterTriggerAuthentication"] })
}
