//! What the status of an object says, derived from what is known. Pure.

use std::collections::BTreeMap;

use api::condition::{KedaCondition, Status, set_keda};
use api::keda::{HealthStatus, ScaledObject, ScaledObjectStatus, TriggerActivity};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use scaling::hpa::HpaMetric;
use scaling::{
    COMPOSITE, Condition, ConditionKind, ConditionStatus, Decision, Pausing, Settings, TriggerReading, activity,
};

use crate::hpa::unable;
use crate::source::ObjectSource;

/// Puts a decided condition in a status.
pub(crate) fn set(status: &mut ScaledObjectStatus, condition: &Condition) {
    put(&mut status.conditions, condition);
}

/// Puts a decided condition among those of any kind.
pub(crate) fn put(conditions: &mut Vec<KedaCondition>, condition: &Condition) {
    let value = match condition.status {
        ConditionStatus::True => Status::True,
        ConditionStatus::False => Status::False,
        ConditionStatus::Unknown => Status::Unknown,
    };
    let name = condition.kind.name();
    let mut wanted = KedaCondition::new(name, value, condition.reason, condition.message.clone());
    if condition.kind == ConditionKind::Paused && condition.status == ConditionStatus::False {
        match conditions.iter().find(|found| found.r#type == name) {
            // What was paused is so no longer.
            Some(found) if found.status == "True" => {}
            Some(_) => return,
            // As KEDA has it: what never was paused was not unpaused either.
            None => wanted = KedaCondition::new(name, value, "", ""),
        }
    }
    set_keda(conditions, wanted);
}

/// Adds what nothing is known of yet, so that every column of `kubectl get` says something.
pub(crate) fn complete(status: &mut ScaledObjectStatus) {
    for condition in [Condition::no_fallback(), Condition::paused(&Pausing::default())] {
        if !status.conditions.iter().any(|found| found.r#type == condition.kind.name()) {
            set(status, &condition);
        }
    }
}

/// The reason of a condition, if it is there.
#[cfg(test)]
pub(crate) fn reason<'a>(status: &'a ScaledObjectStatus, kind: &str) -> Option<&'a str> {
    status.conditions.iter().find(|c| c.r#type == kind).map(|c| c.reason.as_str())
}

/// Whether a condition is there and true.
pub(crate) fn is_true(status: &ScaledObjectStatus, kind: &str) -> bool {
    status.conditions.iter().any(|c| c.r#type == kind && c.status == "True")
}

/// What follows from the manifest.
pub(crate) fn describe(status: &mut ScaledObjectStatus, object: &ScaledObject, source: &ObjectSource, hpa_name: &str) {
    let triggers = &object.spec.triggers;
    let joined = |items: Vec<&str>| {
        let mut once = Vec::new();
        for item in items {
            if !once.contains(&item) {
                once.push(item);
            }
        }
        (!once.is_empty()).then(|| once.join(","))
    };
    status.hpa_name = Some(hpa_name.to_owned());
    status.triggers_types = joined(triggers.iter().map(|t| t.r#type.as_str()).collect());
    status.authentications_types =
        joined(triggers.iter().filter_map(|t| t.authentication_ref.as_ref()).map(|a| a.name.as_str()).collect());
    // With a formula these are not what the HPA asks for, but what it is made of.
    status.external_metric_names =
        source.triggers.iter().flat_map(|t| &t.readable).map(|readable| readable.spec.name.clone()).collect();
    status.composite_scaler_name = source.modifiers.is_some().then(|| COMPOSITE.to_owned());
    status.resource_metric_names = source
        .metrics
        .iter()
        .filter_map(|metric| match metric {
            HpaMetric::Resource { resource, .. } | HpaMetric::ContainerResource { resource, .. } => {
                Some((*resource).to_owned())
            }
            HpaMetric::External { .. } => None,
        })
        .collect();
    let known = |name: &String| status.external_metric_names.contains(name);
    status.health.retain(|name, _| known(name));
    status.triggers_activity.retain(|name, _| known(name));
}

/// Says whether a trigger is active; of one that does not answer nothing, not even what was so before.
pub(crate) fn note_activity(all: &mut BTreeMap<String, TriggerActivity>, reading: &TriggerReading) {
    match reading.active {
        Some(is_active) => drop(all.insert(reading.metric_name.clone(), TriggerActivity { is_active })),
        None => drop(all.remove(&reading.metric_name)),
    }
}

/// What follows from a decision.
pub(crate) fn decided(
    status: &mut ScaledObjectStatus,
    settings: &Settings,
    readings: &[TriggerReading],
    decision: &Decision,
) {
    for condition in &decision.conditions {
        set(status, condition);
    }
    let recorded = status.last_active_time.as_ref().map(|time| time.0);
    if let Some(at) = activity::to_record(recorded, decision.last_active, decision.active, settings.cooldown) {
        status.last_active_time = Some(Time(whole_seconds(at)));
    }
    if settings.fallback.is_none() {
        status.health.clear();
    }
    for reading in readings {
        note_activity(&mut status.triggers_activity, reading);
        if settings.fallback.is_some() {
            let state = if reading.failures == 0 { "Happy" } else { "Failing" };
            let health = HealthStatus {
                number_of_failures: Some(i32::try_from(reading.failures).unwrap_or(i32::MAX)),
                status: Some(state.to_owned()),
            };
            status.health.insert(reading.metric_name.clone(), health);
        }
    }
}

/// Mirrors whether the HPA can scale, as KEDA does since 2.20; but an HPA that cannot reach its target is not active, whatever
/// it said of its metrics before.
pub(crate) fn mirror_hpa(status: &mut ScaledObjectStatus, hpa: Option<&HorizontalPodAutoscaler>) {
    let Some(conditions) = hpa.and_then(|hpa| hpa.status.as_ref()).and_then(|status| status.conditions.as_ref()) else {
        return;
    };
    let unable = hpa.and_then(unable);
    let found = unable.or_else(|| conditions.iter().find(|condition| condition.type_ == "ScalingActive"));
    let Some(found) = found else { return };
    let reason = found.reason.as_deref().unwrap_or("HPAMetricsUnavailable");
    let condition = match (found.status.as_str(), reason) {
        ("True", _) => KedaCondition::new("HPAActive", Status::True, "HPAActive", "HPA is actively scaling"),
        (_, "ScalingDisabled") => {
            let message = "scaling is disabled since the replica count of the target is zero";
            KedaCondition::new("HPAActive", Status::True, "ScalingDisabled", message)
        }
        _ => {
            let message = found.message.as_deref().unwrap_or_default();
            KedaCondition::new("HPAActive", Status::False, reason, format!("HPA is not actively scaling: {message}"))
        }
    };
    set_keda(&mut status.conditions, condition);
}

/// Writes down when the object was last active, exactly.
pub(crate) fn record_activity(status: &mut ScaledObjectStatus, last_active: Option<Timestamp>) {
    if let Some(at) = last_active {
        status.last_active_time = Some(Time(whole_seconds(at)));
    }
}

/// The API server keeps whole seconds; later ones round up, so that a wait is never cut short.
fn whole_seconds(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second() + up).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use scaling::{Sample, Target};
    use units::Milli;

    use super::*;
    use crate::hpa::misses_its_target;

    #[test]
    fn a_trigger_that_answers_no_more_is_not_called_active() {
        let mut reading = TriggerReading {
            metric_name: "s0-x".to_owned(),
            sample: Sample::Unknown { why: "refused".to_owned() },
            active: Some(true),
            target: Target::AverageValue(Milli::from_thousandths(1_000)),
            failures: 0,
            substituted: false,
        };
        let mut all = BTreeMap::new();
        note_activity(&mut all, &reading);
        assert_eq!(all.get("s0-x").map(|one| one.is_active), Some(true));
        reading.active = None;
        note_activity(&mut all, &reading);
        assert_eq!(all.get("s0-x").map(|one| one.is_active), None);
    }

    fn hpa(status: &str, reason: &str) -> HorizontalPodAutoscaler {
        serde_json::from_value(serde_json::json!({
            "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
            "status": {"desiredReplicas": 1, "conditions": [
                {"type": "ScalingActive", "status": status, "reason": reason, "message": "text"}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_last_activity_is_written_exactly_where_it_ends() {
        let mut status = ScaledObjectStatus::default();
        record_activity(&mut status, None);
        assert_eq!(status.last_active_time, None);
        record_activity(&mut status, Some(Timestamp::from_millisecond(1_500).unwrap()));
        assert_eq!(status.last_active_time, Some(Time(Timestamp::from_second(2).unwrap())));
    }

    #[test]
    fn the_hpas_own_trouble_is_shown_and_a_target_at_zero_is_none() {
        let mut status = ScaledObjectStatus::default();
        mirror_hpa(&mut status, Some(&hpa("False", "FailedGetExternalMetric")));
        assert_eq!(reason(&status, "HPAActive"), Some("FailedGetExternalMetric"));
        assert!(!is_true(&status, "HPAActive"));
        mirror_hpa(&mut status, Some(&hpa("False", "ScalingDisabled")));
        assert!(is_true(&status, "HPAActive"));
        mirror_hpa(&mut status, None);
        assert_eq!(reason(&status, "HPAActive"), Some("ScalingDisabled"), "left alone when the HPA is not there");
    }

    #[test]
    fn an_hpa_that_has_lost_its_target_is_not_active() {
        let mut status = ScaledObjectStatus::default();
        let mut lost = hpa("True", "ValidMetricFound");
        let unable = serde_json::from_value(serde_json::json!({
            "type": "AbleToScale", "status": "False", "reason": "FailedGetScale",
            "message": "the HPA controller was unable to get the target's current scale: deployments.apps \"web\" not found",
        }));
        assert!(!misses_its_target(&lost));
        lost.status.as_mut().unwrap().conditions.as_mut().unwrap().push(unable.unwrap());
        assert!(misses_its_target(&lost));
        mirror_hpa(&mut status, Some(&lost));
        assert_eq!(reason(&status, "HPAActive"), Some("FailedGetScale"));
        assert!(!is_true(&status, "HPAActive"));
    }

    #[test]
    fn a_fraction_of_a_second_is_rounded_up() {
        let at = Timestamp::from_millisecond(1_500).unwrap();
        assert_eq!(whole_seconds(at), Timestamp::from_second(2).unwrap());
        assert_eq!(whole_seconds(Timestamp::from_second(2).unwrap()), Timestamp::from_second(2).unwrap());
    }
}
