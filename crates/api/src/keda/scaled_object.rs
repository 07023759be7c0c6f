//! ScaledObject: a workload, its triggers and its bounds.
#![expect(clippy::duplicated_attributes, reason = "every printer column has the same keys")]
#![expect(unreachable_pub, reason = "KubeSchema copies the struct, with its `pub`, into a function")]

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    COOLDOWN_PERIOD_SECONDS_DEFAULT, MAX_REPLICA_COUNT_DEFAULT, POLLING_INTERVAL_SECONDS_DEFAULT, ScaleTrigger,
};
use crate::condition::KedaCondition;

/// What to scale, between which bounds, by which triggers.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledObject",
    namespaced,
    status = "ScaledObjectStatus",
    derive = "PartialEq",
    shortname = "so",
    doc = "ScaledObject scales a workload by the numbers its triggers report.",
    printcolumn(name = "ScaleTargetKind", type_ = "string", json_path = ".status.scaleTargetKind"),
    printcolumn(name = "ScaleTargetName", type_ = "string", json_path = ".spec.scaleTargetRef.name"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicaCount"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicaCount"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type==\"Active\")].status"),
    printcolumn(name = "Fallback", type_ = "string", json_path = ".status.conditions[?(@.type==\"Fallback\")].status"),
    printcolumn(name = "Paused", type_ = "string", json_path = ".status.conditions[?(@.type==\"Paused\")].status"),
    printcolumn(name = "Triggers", type_ = "string", json_path = ".status.triggersTypes"),
    printcolumn(name = "Authentications", type_ = "string", json_path = ".status.authenticationsTypes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minReplicaCount) || self.minReplicaCount <= (has(self.maxReplicaCount) ? self.maxReplicaCount : 100)").message("minReplicaCount must be less than or equal to maxReplicaCount"))]
#[x_kube(validation = Rule::new("!has(self.idleReplicaCount) || self.idleReplicaCount < (has(self.minReplicaCount) ? (self.minReplicaCount == 0 ? 1 : self.minReplicaCount) : 0)").message("IdleReplicaCount must be less than MinReplicaCount"))]
#[x_kube(validation = Rule::new("!has(self.fallback) || !has(self.fallback.behavior) || self.fallback.behavior != 'scalingModifiers' || (has(self.advanced) && has(self.advanced.scalingModifiers) && has(self.advanced.scalingModifiers.formula) && self.advanced.scalingModifiers.formula != '')").message("scalingModifiers fallback behavior requires scalingModifiers.formula to be defined"))]
pub struct ScaledObjectSpec {
    /// The workload to scale, in the same namespace.
    pub scale_target_ref: ScaleTarget,
    /// Seconds between two looks at the triggers; 30 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub polling_interval: Option<i32>,
    /// Seconds to wait after the last active trigger before going to zero or idle; 300 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cooldown_period: Option<i32>,
    /// Seconds after creation before a target that was never active may go to zero; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub initial_cooldown_period: Option<i32>,
    /// Replicas while nothing is active; must be below `minReplicaCount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub idle_replica_count: Option<i32>,
    /// Replicas at least; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_replica_count: Option<i32>,
    /// Replicas at most; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replica_count: Option<i32>,
    /// The HPA's behaviour and name, formulas, restoring the old size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced: Option<AdvancedConfig>,
    /// Event sources; at least one.
    #[schemars(length(min = 1))]
    pub triggers: Vec<ScaleTrigger>,
    /// What to do when a trigger keeps failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

impl ScaledObjectSpec {
    /// Seconds between two looks at the triggers.
    pub fn effective_polling_interval(&self) -> i32 {
        self.polling_interval.unwrap_or(POLLING_INTERVAL_SECONDS_DEFAULT)
    }

    /// Seconds after the last active trigger before going to zero or idle.
    pub fn effective_cooldown_period(&self) -> i32 {
        self.cooldown_period.unwrap_or(COOLDOWN_PERIOD_SECONDS_DEFAULT)
    }

    /// Replicas at least, for the scale loop; the HPA's own minimum is never below 1.
    pub fn effective_min(&self) -> i32 {
        self.min_replica_count.unwrap_or(0)
    }

    /// Replicas at most.
    pub fn effective_max(&self) -> i32 {
        self.max_replica_count.unwrap_or(MAX_REPLICA_COUNT_DEFAULT)
    }

    /// The name of the HPA for a ScaledObject called `name`.
    pub fn hpa_name(&self, name: &str) -> String {
        self.advanced
            .as_ref()
            .and_then(|a| a.horizontal_pod_autoscaler_config.as_ref())
            .and_then(|c| c.name.clone())
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| format!("keda-hpa-{name}"))
    }

    /// The formula block, when it says anything.
    pub fn scaling_modifiers(&self) -> Option<&ScalingModifiers> {
        let found = self.advanced.as_ref()?.scaling_modifiers.as_ref()?;
        (*found != ScalingModifiers::default()).then_some(found)
    }
}

/// Any object with a `/scale` subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTarget {
    /// Name of the workload.
    #[schemars(length(min = 1))]
    pub name: String,
    /// `apps/v1` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `Deployment` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The container whose environment `…FromEnv` settings read; the first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_source_container_name: Option<String>,
}

impl ScaleTarget {
    /// `apiVersion` with the default filled in.
    pub fn effective_api_version(&self) -> &str {
        self.api_version.as_deref().filter(|v| !v.is_empty()).unwrap_or("apps/v1")
    }

    /// `kind` with the default filled in. The built-in workloads may be written in lower case.
    pub fn effective_kind(&self) -> &str {
        match self.kind.as_deref().unwrap_or_default() {
            "" | "deployment" => "Deployment",
            "statefulset" => "StatefulSet",
            "replicaset" => "ReplicaSet",
            "replicationcontroller" => "ReplicationController",
            other => other,
        }
    }

    /// Whether it is a Deployment or StatefulSet, whose pods are known to come from its template.
    pub fn has_known_template(&self) -> bool {
        self.effective_api_version().starts_with("apps/")
            && matches!(self.effective_kind(), "Deployment" | "StatefulSet")
    }
}

/// Less common settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvancedConfig {
    /// The HPA that is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizontal_pod_autoscaler_config: Option<HorizontalPodAutoscalerConfig>,
    /// Whether deleting the ScaledObject gives the workload its old size back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restore_to_original_replica_count: bool,
    /// One formula over all triggers instead of one metric for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_modifiers: Option<ScalingModifiers>,
}

/// Settings of the HPA that is created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HorizontalPodAutoscalerConfig {
    /// Handed to the HPA as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// `keda-hpa-<name>` if absent; 63 characters at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A formula over the triggers' values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingModifiers {
    /// Expression over trigger names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formula: Option<String>,
    /// The value of one replica, a decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Active above this value, a decimal; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_target: Option<String>,
    /// `AverageValue` (default) or `Value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "composite_metric_type_schema")]
    pub metric_type: Option<String>,
}

fn composite_metric_type_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["AverageValue", "Value"] })
}

/// How many replicas to have while a trigger fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Failures in a row that are tolerated; fallback begins with the next.
    #[schemars(range(min = 0))]
    pub failure_threshold: i32,
    /// Replicas to have.
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// How `replicas` and the present size combine; `static` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "static"))]
    pub behavior: Option<FallbackBehavior>,
}

/// How `fallback.replicas` and the present size combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FallbackBehavior {
    /// `replicas`.
    #[default]
    Static,
    /// The present size.
    CurrentReplicas,
    /// The larger of the two.
    CurrentReplicasIfHigher,
    /// The smaller of the two.
    CurrentReplicasIfLower,
    /// The failing trigger enters the formula as nil.
    ScalingModifiers,
}

/// What the autoscaler knows about a ScaledObject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaledObjectStatus {
    /// `apps/v1.Deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_target_kind: Option<String>,
    /// The same, resolved.
    #[serde(default, rename = "scaleTargetGVKR", skip_serializing_if = "Option::is_none")]
    pub scale_target_gvkr: Option<GroupVersionKindResource>,
    /// Size of the workload when it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_replica_count: Option<i32>,
    /// When a trigger was last active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Time>,
    /// Names of the external metrics in the HPA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_metric_names: Vec<String>,
    /// Names of the resource metrics in the HPA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_metric_names: Vec<String>,
    /// `composite-metric` when a formula is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite_scaler_name: Option<String>,
    /// Ready, Active, Fallback, Paused, HPAActive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KedaCondition>,
    /// Failures of each metric, while a fallback is configured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub health: BTreeMap<String, HealthStatus>,
    /// Which metrics are active.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers_activity: BTreeMap<String, TriggerActivity>,
    /// Size asked for by the `paused-replicas` annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_replica_count: Option<i32>,
    /// Name of the HPA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpa_name: Option<String>,
    /// Comma list of trigger types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers_types: Option<String>,
    /// Comma list of the authentications' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentications_types: Option<String>,
}

/// A resolved kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupVersionKindResource {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural name.
    pub resource: String,
}

/// Failures of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// In a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_of_failures: Option<i32>,
    /// `Happy` or `Failing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "health_schema")]
    pub status: Option<String>,
}

fn health_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["Happy", "Failing"] })
}

/// Activity of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerActivity {
    /// Whether it is above its activation value.
    #[serde(default)]
    pub is_active: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_kinds_may_be_written_small() {
        let kind = |written: Option<&str>| {
            let target = ScaleTarget { kind: written.map(str::to_owned), ..ScaleTarget::default() };
            target.effective_kind().to_owned()
        };
        let small = [None, Some(""), Some("deployment"), Some("statefulset"), Some("Rollout")].map(kind);
        assert_eq!(small, ["Deployment", "Deployment", "Deployment", "StatefulSet", "Rollout"]);
    }
}
