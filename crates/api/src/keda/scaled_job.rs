//! ScaledJob: Jobs made by the numbers its triggers report.
#![expect(clippy::duplicated_attributes, reason = "every printer column has the same keys")]

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_ignored::Path;
use serde_json::Value;
use serde_path_to_error::Track;

use super::{MAX_REPLICA_COUNT_DEFAULT, POLLING_INTERVAL_SECONDS_DEFAULT, ScaleTrigger, TriggerActivity};
use crate::FieldError;
use crate::condition::KedaCondition;
use crate::schema;

/// Which Jobs to make, how many, by which triggers.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ScaledJob",
    namespaced,
    status = "ScaledJobStatus",
    derive = "PartialEq",
    shortname = "sj",
    doc = "ScaledJob makes Jobs by the numbers its triggers report.",
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicaCount"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicaCount"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type==\"Active\")].status"),
    printcolumn(name = "Paused", type_ = "string", json_path = ".status.conditions[?(@.type==\"Paused\")].status"),
    printcolumn(name = "Triggers", type_ = "string", json_path = ".status.triggersTypes"),
    printcolumn(name = "Authentications", type_ = "string", json_path = ".status.authenticationsTypes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ScaledJobSpec {
    /// The spec of every Job, a `batch/v1` JobSpec. Kept as written, so that fields of newer
    /// Kubernetes releases reach the Job.
    #[schemars(schema_with = "schema::job_spec")]
    pub job_target_ref: Value,
    /// Seconds between two looks at the triggers; 30 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub polling_interval: Option<i32>,
    /// Completed Jobs that are kept; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub successful_jobs_history_limit: Option<i32>,
    /// Failed Jobs that are kept; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed_jobs_history_limit: Option<i32>,
    /// The container whose environment `…FromEnv` settings read; the first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_source_container_name: Option<String>,
    /// Jobs at least; 0 if absent, and never more than the maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_replica_count: Option<i32>,
    /// Jobs at most; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replica_count: Option<i32>,
    /// Deprecated: `rollout.strategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_strategy: Option<RolloutStrategy>,
    /// What a change does to Jobs that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How many Jobs a number means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_strategy: Option<ScalingStrategy>,
    /// Event sources; at least one.
    #[schemars(length(min = 1))]
    pub triggers: Vec<ScaleTrigger>,
}

impl ScaledJobSpec {
    /// Seconds between two looks at the triggers.
    pub fn effective_polling_interval(&self) -> i32 {
        self.polling_interval.unwrap_or(POLLING_INTERVAL_SECONDS_DEFAULT)
    }

    /// Jobs at most.
    pub fn effective_max(&self) -> i32 {
        self.max_replica_count.unwrap_or(MAX_REPLICA_COUNT_DEFAULT)
    }

    /// Jobs at least, never more than the maximum.
    pub fn effective_min(&self) -> i32 {
        self.min_replica_count.unwrap_or(0).min(self.effective_max())
    }

    /// The Job's spec as the release of Kubernetes knows it that this program was built for, and the fields that it does not
    /// know: from a newer release, or mistyped.
    ///
    /// # Errors
    /// Something has a wrong type, or is missing; the field says where.
    pub fn job_spec(&self) -> Result<(JobSpec, Vec<String>), FieldError> {
        let (mut unknown, mut track) = (Vec::new(), Track::new());
        let read = JobSpec::deserialize(serde_path_to_error::Deserializer::new(
            serde_ignored::Deserializer::new(&self.job_target_ref, &mut |path| {
                unknown.push(below_job_target_ref(&path));
            }),
            &mut track,
        ));
        let job = read.map_err(|error| {
            let path = track.path();
            let below = if path.iter().next().is_none() { String::new() } else { format!(".{path}") };
            FieldError::new(format!("spec.jobTargetRef{below}"), error.to_string())
        })?;
        Ok((job, unknown))
    }

    /// What a change does to Jobs that exist; the deprecated field counts if the new one is absent.
    pub fn effective_rollout_strategy(&self) -> RolloutStrategy {
        self.rollout.as_ref().and_then(|r| r.strategy).or(self.rollout_strategy).unwrap_or(RolloutStrategy::Immediate)
    }
}

/// A field as people write it.
fn below_job_target_ref(path: &Path<'_>) -> String {
    match path {
        Path::Root => "spec.jobTargetRef".to_owned(),
        Path::Seq { parent, index } => format!("{}[{index}]", below_job_target_ref(parent)),
        Path::Map { parent, key } => format!("{}.{key}", below_job_target_ref(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            below_job_target_ref(parent)
        }
    }
}

/// What a change does to Jobs that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Whether they go; `immediate` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
    /// How they go; `background` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<RolloutPropagation>,
}

/// Whether Jobs that exist go when the spec changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutStrategy {
    /// They end by themselves.
    Gradual,
    /// They are deleted.
    Immediate,
}

/// How Jobs are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutPropagation {
    /// The Job first.
    #[default]
    Background,
    /// Its pods first.
    Foreground,
}

/// How many Jobs a number means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStrategy {
    /// `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<JobStrategy>,
    /// `custom` only: subtracted from the queue's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_scaling_queue_length_deduction: Option<i32>,
    /// `custom` only: the share of running Jobs that is subtracted, a decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_scaling_running_job_percentage: Option<String>,
    /// Pod conditions that must all hold for a Job not to count as pending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_pod_conditions: Vec<String>,
    /// How several triggers combine; `max` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiple_scalers_calculation: Option<MultipleScalersCalculation>,
}

/// How running and pending Jobs count against a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JobStrategy {
    /// Running Jobs still have their message in the queue.
    #[default]
    Default,
    /// By the two `custom…` numbers.
    Custom,
    /// Running Jobs have taken their message off the queue.
    Accurate,
    /// All free slots, as soon as there is work.
    Eager,
}

/// How several triggers combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MultipleScalersCalculation {
    /// The shortest queue that is not empty.
    Min,
    /// The mean.
    Avg,
    /// The sum.
    Sum,
    /// The longest queue.
    #[default]
    Max,
}

/// What the autoscaler knows about a ScaledJob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaledJobStatus {
    /// When a trigger was last active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Time>,
    /// Ready, Active, Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KedaCondition>,
    /// Whether it is paused, as text.
    #[serde(default, rename = "Paused", skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Comma list of trigger types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers_types: Option<String>,
    /// Comma list of the authentications' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentications_types: Option<String>,
    /// Names of the metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_metric_names: Vec<String>,
    /// Which metrics are active.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers_activity: BTreeMap<String, TriggerActivity>,
}
