//! A ScaledObject as a manifest wrote it, checked once.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use api::keda::{self, ScaledObject};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};
use scaling::settings::POLLING_INTERVAL_SECONDS;
use scaling::{Bounds, Fallback, FallbackBehavior, Pausing, Settings};

/// Longest name of an HPA: it is also the value of a label.
const HPA_NAME_CHARS: usize = 63;

/// Names one ScaledObject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object that came from the API server.
    pub fn of(object: &ScaledObject) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What of an object a reconcile depends on, as one number: everything but its status.
pub(crate) fn fingerprint(object: &ScaledObject) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.metadata.generation.hash(&mut hasher);
    object.metadata.annotations.hash(&mut hasher);
    object.metadata.labels.hash(&mut hasher);
    object.metadata.finalizers.hash(&mut hasher);
    object.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

/// What a decision depends on, if the object makes sense.
///
/// # Errors
/// Everything that is wrong with it, each a sentence. The texts are KEDA's where it has one.
pub(crate) fn check(object: &ScaledObject) -> Result<Settings, Vec<String>> {
    let spec = &object.spec;
    let mut wrong = Vec::new();
    let bounds =
        Bounds { min: spec.min_replica_count, max: spec.max_replica_count, idle: spec.idle_replica_count }.check();
    if let Err(error) = &bounds {
        wrong.push(error.to_string());
    }
    check_names(object, &mut wrong);
    check_triggers(object, &mut wrong);
    let fallback = match spec.fallback.as_ref().map(fallback).transpose() {
        Ok(fallback) => fallback,
        Err(error) => {
            wrong.push(error);
            None
        }
    };
    if fallback.is_some() && spec.triggers.iter().all(|t| scalers::resource::is_resource(&t.r#type)) {
        wrong.push("fallback needs at least one trigger that is not cpu or memory".to_owned());
    }
    if spec.scaling_modifiers().is_some() {
        wrong.push(
            "advanced.scalingModifiers is not supported yet; without it the triggers would scale differently".into(),
        );
    }
    let seconds = |field: &str, value: i32, wrong: &mut Vec<String>| match i64::from(value) {
        value if value >= 0 => SignedDuration::from_secs(value),
        value => {
            wrong.push(format!("{field}={value} must not be negative"));
            SignedDuration::ZERO
        }
    };
    let cooldown = seconds("cooldownPeriod", spec.effective_cooldown_period(), &mut wrong);
    let initial_cooldown = seconds("initialCooldownPeriod", spec.initial_cooldown_period.unwrap_or(0), &mut wrong);
    match bounds {
        Ok(replicas) if wrong.is_empty() => Ok(Settings { replicas, cooldown, initial_cooldown, fallback }),
        _ => Err(wrong),
    }
}

fn check_names(object: &ScaledObject, wrong: &mut Vec<String>) {
    let name = object.name_any();
    if name.len() > HPA_NAME_CHARS {
        wrong.push(format!(
            "scaledobject name {name:?} is {} characters long; must be no more than {HPA_NAME_CHARS} because it is a label value",
            name.len()
        ));
    }
    let hpa = object.spec.hpa_name(&name);
    if hpa.len() > HPA_NAME_CHARS {
        wrong.push(format!(
            "HPA name {hpa:?} derived from scaledobject is {} characters long; must be no more than {HPA_NAME_CHARS}",
            hpa.len()
        ));
    }
}

fn check_triggers(object: &ScaledObject, wrong: &mut Vec<String>) {
    let triggers = &object.spec.triggers;
    if triggers.is_empty() {
        wrong.push("no triggers defined in the ScaledObject".to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    for trigger in triggers {
        if trigger.use_cached_metrics && matches!(trigger.r#type.as_str(), "cpu" | "memory" | "cron") {
            wrong.push(format!("property \"useCachedMetrics\" is not supported for {:?} scaler", trigger.r#type));
        }
        if let Some(name) = trigger.name.as_deref().filter(|name| !name.is_empty()) {
            if names.contains(&name) {
                wrong.push(format!("triggerName {name:?} is defined multiple times in the ScaledObject"));
            }
            names.push(name);
        }
    }
}

fn fallback(written: &keda::Fallback) -> Result<Fallback, String> {
    let count = |value: i32| u32::try_from(value).ok();
    let (Some(failure_threshold), Some(replicas)) = (count(written.failure_threshold), count(written.replicas)) else {
        return Err(format!(
            "FailureThreshold={} & Replicas={} must both be greater than or equal to 0",
            written.failure_threshold, written.replicas
        ));
    };
    let behavior = match written.behavior.unwrap_or_default() {
        keda::FallbackBehavior::Static => FallbackBehavior::Static,
        keda::FallbackBehavior::CurrentReplicas => FallbackBehavior::CurrentReplicas,
        keda::FallbackBehavior::CurrentReplicasIfHigher => FallbackBehavior::CurrentReplicasIfHigher,
        keda::FallbackBehavior::CurrentReplicasIfLower => FallbackBehavior::CurrentReplicasIfLower,
        keda::FallbackBehavior::ScalingModifiers => {
            return Err("scalingModifiers fallback behavior requires scalingModifiers.formula to be defined".to_owned());
        }
    };
    Ok(Fallback { failure_threshold, replicas, behavior })
}

/// The pauses its annotations ask for.
pub(crate) fn pausing(object: &ScaledObject) -> Result<Pausing, scaling::pause::PauseError> {
    let annotations = object.annotations();
    Pausing::read(|key| annotations.get(key).map(String::as_str))
}

/// The time between two polls.
pub(crate) fn polling_interval(object: &ScaledObject) -> Duration {
    let seconds = object.spec.polling_interval.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    Duration::from_secs(seconds.unwrap_or(u64::from(POLLING_INTERVAL_SECONDS)))
}

/// When the object was created.
pub(crate) fn created(object: &ScaledObject) -> Timestamp {
    // An object that came from the API server has the time; without it the initial cooldown is over.
    object.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// How events name the object.
pub(crate) fn reference(object: &ScaledObject) -> ObjectReference {
    object.object_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: serde_json::Value) -> ScaledObject {
        let mut whole = serde_json::json!({
            "scaleTargetRef": {"name": "web"},
            "triggers": [{"type": "prometheus", "metadata": {}}],
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        ScaledObject::new("web", serde_json::from_value(whole).unwrap())
    }

    fn check_says(spec: serde_json::Value, wanted: &[&str]) {
        let said = check(&object(spec.clone())).err().unwrap_or_default();
        assert_eq!(said.len(), wanted.len(), "{spec}: {said:?}");
        for (said, wanted) in said.iter().zip(wanted) {
            assert!(said.contains(wanted), "{said:?} does not contain {wanted:?}");
        }
    }

    #[test]
    fn a_plain_object_has_the_documented_defaults() {
        let settings = check(&object(serde_json::json!({}))).unwrap();
        assert_eq!((settings.replicas.min, settings.replicas.max, settings.replicas.idle), (0, 100, None));
        assert_eq!(settings.cooldown, SignedDuration::from_secs(300));
        assert_eq!(polling_interval(&object(serde_json::json!({}))), Duration::from_secs(30));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        check_says(
            serde_json::json!({"minReplicaCount": 5, "maxReplicaCount": 3, "fallback": {"failureThreshold": -1, "replicas": 2}}),
            &["MinReplicaCount=5 must be less than MaxReplicaCount=3", "FailureThreshold=-1 & Replicas=2"],
        );
        check_says(serde_json::json!({"triggers": []}), &["no triggers defined"]);
        check_says(
            serde_json::json!({"triggers": [
                {"type": "prometheus", "name": "a", "metadata": {}},
                {"type": "cpu", "name": "a", "metadata": {}, "useCachedMetrics": true}]}),
            &["useCachedMetrics", "\"a\" is defined multiple times"],
        );
        check_says(serde_json::json!({"advanced": {"scalingModifiers": {"formula": "a+b"}}}), &["scalingModifiers"]);
        check_says(
            serde_json::json!({"advanced": {"horizontalPodAutoscalerConfig": {"name": "x".repeat(64)}}}),
            &["64 characters long"],
        );
    }

    #[test]
    fn a_status_change_does_not_change_the_fingerprint() {
        let mut one = object(serde_json::json!({}));
        one.metadata.resource_version = Some("1".into());
        let before = fingerprint(&one);
        one.metadata.resource_version = Some("2".into());
        one.status = Some(keda::ScaledObjectStatus::default());
        assert_eq!(fingerprint(&one), before);
        one.metadata.generation = Some(2);
        assert_ne!(fingerprint(&one), before);
    }
}
