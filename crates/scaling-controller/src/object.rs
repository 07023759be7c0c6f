//! A ScaledObject as a manifest wrote it, checked once.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use api::FieldNotice;
use api::keda::{self, ScaleTrigger, ScaledJob, ScaledObject};
use api::validate::validate;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use scalers::MetricSpec;
use scaling::settings::POLLING_INTERVAL_SECONDS;
use scaling::{Bounds, Fallback, FallbackBehavior, Pausing, Settings};

/// Names one ScaledObject or ScaledJob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object that came from the API server.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What of a ScaledObject or ScaledJob its triggers depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    meta: &'a ObjectMeta,
    /// The kind, as KEDA's series say it.
    pub(crate) kind: &'static str,
    pub(crate) triggers: &'a [ScaleTrigger],
    pub(crate) interval: Duration,
    /// The ScaledObject, which may have a formula.
    pub(crate) object: Option<&'a ScaledObject>,
    /// The metrics that its triggers had when they could be made last.
    pub(crate) remembered: &'a [MetricSpec],
}

impl<'a> Subject<'a> {
    pub(crate) fn object(object: &'a ScaledObject) -> Self {
        let (meta, triggers, interval) = (&object.metadata, &object.spec.triggers, polling_interval(object));
        Self { meta, kind: "scaledobject", triggers, interval, object: Some(object), remembered: &[] }
    }

    pub(crate) fn job(job: &'a ScaledJob) -> Self {
        let (meta, triggers) = (&job.metadata, &job.spec.triggers);
        let interval = interval(job.spec.polling_interval);
        Self { meta, kind: "scaledjob", triggers, interval, object: None, remembered: &[] }
    }

    /// The same, of which these metrics are remembered.
    pub(crate) fn remembering(self, remembered: &'a [MetricSpec]) -> Self {
        Self { remembered, ..self }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        ObjectKey { namespace: text(&self.meta.namespace), name: text(&self.meta.name) }
    }

    pub(crate) fn uid(&self) -> &'a str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn generation(&self) -> i64 {
        self.meta.generation.unwrap_or_default()
    }
}

/// What is told when the triggers are looked at for the first time, in KEDA's words.
pub(crate) fn scalers_started(triggers: &[ScaleTrigger]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for text in triggers.iter().map(|trigger| format!("Scaler {} is built", trigger.r#type)) {
        if !told.contains(&text) {
            told.push(text);
        }
    }
    told.push("Started scalers watch".to_owned());
    told
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
/// Everything that is wrong with it, each with its field.
pub(crate) fn check(object: &ScaledObject) -> Result<Settings, Vec<String>> {
    let spec = &object.spec;
    let mut wrong: Vec<String> = validate(object).iter().map(ToString::to_string).collect();
    let fallback = match spec.fallback.as_ref().map(fallback).transpose() {
        Ok(fallback) => fallback,
        Err(error) => {
            wrong.push(error);
            None
        }
    };
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let bounds = Bounds { min: spec.min_replica_count, max: spec.max_replica_count, idle: spec.idle_replica_count };
    let seconds = |value: i32| SignedDuration::from_secs(i64::from(value));
    Ok(Settings {
        replicas: bounds.check().map_err(|error| vec![error.to_string()])?,
        cooldown: seconds(spec.effective_cooldown_period()),
        initial_cooldown: seconds(spec.initial_cooldown_period.unwrap_or(0)),
        fallback,
    })
}

fn fallback(written: &keda::Fallback) -> Result<Fallback, String> {
    let count = |value: i32| u32::try_from(value).ok();
    let (Some(failure_threshold), Some(replicas)) = (count(written.failure_threshold), count(written.replicas)) else {
        return Err("spec.fallback: counts must not be negative".to_owned());
    };
    let behavior = match written.behavior.unwrap_or_default() {
        keda::FallbackBehavior::Static => FallbackBehavior::Static,
        keda::FallbackBehavior::CurrentReplicas => FallbackBehavior::CurrentReplicas,
        keda::FallbackBehavior::CurrentReplicasIfHigher => FallbackBehavior::CurrentReplicasIfHigher,
        keda::FallbackBehavior::CurrentReplicasIfLower => FallbackBehavior::CurrentReplicasIfLower,
        keda::FallbackBehavior::ScalingModifiers => FallbackBehavior::ScalingModifiers,
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
    interval(object.spec.polling_interval)
}

fn interval(written: Option<i32>) -> Duration {
    let seconds = written.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    Duration::from_secs(seconds.unwrap_or(u64::from(POLLING_INTERVAL_SECONDS)))
}

/// When the object was created.
pub(crate) fn created(object: &ScaledObject) -> Timestamp {
    // An object that came from the API server has the time; without it the initial cooldown is over.
    object.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The notices in one line.
pub(crate) fn text(notices: &[FieldNotice]) -> String {
    notices.iter().map(|notice| format!("{}: {}", notice.field, notice.message)).collect::<Vec<_>>().join("; ")
}

/// How events name the object.
pub(crate) fn reference(object: &ScaledObject) -> ObjectReference {
    object.object_ref(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &serde_json::Value) -> ScaledObject {
        let mut whole = serde_json::json!({
            "scaleTargetRef": {"name": "web"},
            "triggers": [{"type": "prometheus", "metadata": {}}],
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        ScaledObject::new("web", serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn a_plain_object_has_the_documented_defaults() {
        let settings = check(&object(&serde_json::json!({}))).unwrap();
        assert_eq!((settings.replicas.min, settings.replicas.max, settings.replicas.idle), (0, 100, None));
        assert_eq!(settings.cooldown, SignedDuration::from_secs(300));
        assert_eq!(polling_interval(&object(&serde_json::json!({}))), Duration::from_secs(30));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = check(&object(&serde_json::json!({
            "minReplicaCount": 5, "maxReplicaCount": 3,
            "fallback": {"failureThreshold": -1, "replicas": 2},
            "advanced": {"scalingModifiers": {"formula": "a+", "target": "2"}},
        })))
        .unwrap_err()
        .join("; ");
        for part in
            ["MinReplicaCount=5 must be less than MaxReplicaCount=3", "spec.fallback", "scalingModifiers.formula"]
        {
            assert!(wrong.contains(part), "{wrong:?} does not contain {part:?}");
        }
    }

    #[test]
    fn what_validation_accepts_has_bounds_that_agree() {
        for (min, max, idle) in
            [(None, None, None), (Some(0), Some(1), Some(0)), (Some(2), Some(2), Some(1)), (None, Some(5), Some(0))]
        {
            let spec = serde_json::json!({"minReplicaCount": min, "maxReplicaCount": max, "idleReplicaCount": idle});
            let bounds = Bounds { min, max, idle }.check();
            assert_eq!(check(&object(&spec)).is_ok(), bounds.is_ok(), "{spec}");
        }
    }

    #[test]
    fn exactly_the_trigger_types_that_cannot_be_built_are_said_to_be_unsupported() {
        for name in scalers::catalog::KNOWN {
            let object = object(&serde_json::json!({"triggers": [{"type": name, "metadata": {}}]}));
            let silent = api::unsupported::unsupported(&object).is_empty();
            assert_eq!(silent, scalers::catalog::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_status_change_does_not_change_the_fingerprint() {
        let mut one = object(&serde_json::json!({}));
        one.metadata.resource_version = Some("1".into());
        let before = fingerprint(&one);
        one.metadata.resource_version = Some("2".into());
        one.status = Some(keda::ScaledObjectStatus::default());
        assert_eq!(fingerprint(&one), before);
        one.metadata.generation = Some(2);
        assert_ne!(fingerprint(&one), before);
    }
}
