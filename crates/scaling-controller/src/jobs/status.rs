//! What the status of a ScaledJob says, and the events that follow from it. Pure.

use std::collections::BTreeSet;

use api::keda::{ScaledJob, ScaledJobStatus};
use controller_runtime::events::Kind;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use scaling::condition::reason;
use scaling::jobs::{JobDecision, condition as text};
use scaling::settings::COOLDOWN_SECONDS;
use scaling::{Condition, TriggerReading, activity};

use crate::source::ObjectSource;
use crate::status::note_activity;

/// Puts a decided condition in a status.
pub(super) fn set(status: &mut ScaledJobStatus, condition: &Condition) {
    crate::status::put(&mut status.conditions, condition);
}

/// What follows from the manifest.
pub(super) fn describe(status: &mut ScaledJobStatus, object: &ScaledJob, source: &ObjectSource) {
    let triggers = &object.spec.triggers;
    let joined = |items: BTreeSet<&str>| (!items.is_empty()).then(|| items.into_iter().collect::<Vec<_>>().join(","));
    status.triggers_types = joined(triggers.iter().map(|t| t.r#type.as_str()).collect());
    status.authentications_types =
        joined(triggers.iter().filter_map(|t| t.authentication_ref.as_ref()).map(|a| a.name.as_str()).collect());
    let readable = source.triggers.iter().flat_map(|trigger| &trigger.readable);
    status.external_metric_names = readable.map(|readable| readable.spec.name.clone()).collect();
    let known = &status.external_metric_names;
    status.triggers_activity.retain(|name, _| known.contains(name));
}

/// What follows from a decision.
pub(super) fn decided(
    status: &mut ScaledJobStatus,
    readings: &[TriggerReading],
    decision: &JobDecision,
    now: Timestamp,
) {
    for condition in text::decided(decision) {
        set(status, &condition);
    }
    for reading in readings {
        note_activity(&mut status.triggers_activity, reading);
    }
    let recorded = status.last_active_time.as_ref().map(|time| time.0);
    // Nothing waits for it, so it is written as coarsely as that of a ScaledObject with the default cooldown.
    let cooldown = SignedDuration::from_secs(i64::from(COOLDOWN_SECONDS));
    if decision.active
        && let Some(at) = activity::to_record(recorded, Some(now), true, cooldown)
    {
        status.last_active_time = Some(Time(at));
    }
}

/// The events that follow from a change of conditions.
pub(super) fn changes(old: &ScaledJobStatus, new: &ScaledJobStatus) -> Vec<(Kind, &'static str, String)> {
    let find = |status: &ScaledJobStatus, kind: &str| status.conditions.iter().find(|c| c.r#type == kind).cloned();
    let turned = |kind: &str| {
        let (before, now) = (find(old, kind), find(new, kind)?);
        (before.is_none_or(|before| (before.status, before.reason) != (now.status.clone(), now.reason.clone())))
            .then_some(now)
    };
    let mut events = Vec::new();
    let ready = find(new, "Ready").filter(|now| find(old, "Ready").as_ref() != Some(now));
    events.extend(ready.and_then(|ready| match ready.reason.as_str() {
        // Pausing changes the text, and has an event of its own.
        text::READY if find(old, "Ready").is_none_or(|before| before.reason != text::READY) => {
            Some((Kind::Normal, text::READY, "ScaledJob is ready for scaling".to_owned()))
        }
        text::CHECK_FAILED => Some((Kind::Warning, text::CHECK_FAILED, ready.message)),
        reason::TRIGGER_ERROR | reason::PARTIAL_TRIGGER_ERROR => {
            Some((Kind::Warning, "KEDAScalerFailed", ready.message))
        }
        _ => None,
    }));
    if let Some(active) = turned("Active") {
        let was = find(old, "Active").is_some_and(|before| before.status == "True");
        match active.status.as_str() {
            "True" => events.push((Kind::Normal, "ScaledJobActive", active.message)),
            "False" if was => events.push((Kind::Normal, "ScaledJobInactive", active.message)),
            _ => {}
        }
    }
    if let Some(paused) = turned("Paused") {
        let was = find(old, "Paused").is_some_and(|before| before.status == "True");
        match paused.status.as_str() {
            "True" => events.push((Kind::Normal, text::PAUSED, paused.message)),
            _ if was => events.push((Kind::Normal, text::UNPAUSED, "ScaledJob is unpaused".to_owned())),
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(conditions: impl IntoIterator<Item = Condition>) -> ScaledJobStatus {
        let mut status = ScaledJobStatus::default();
        for condition in conditions {
            set(&mut status, &condition);
        }
        status
    }

    fn decision(active: bool, failing: &[&str]) -> JobDecision {
        JobDecision { create: 0, active, failing: failing.iter().map(|&text| text.to_owned()).collect() }
    }

    fn reasons(old: &ScaledJobStatus, new: &ScaledJobStatus) -> Vec<&'static str> {
        changes(old, new).into_iter().map(|(_, reason, _)| reason).collect()
    }

    #[test]
    fn events_follow_changes_and_nothing_else() {
        let new = ScaledJobStatus::default();
        let idle = with(text::decided(&decision(false, &[])));
        let active = with(text::decided(&decision(true, &[])));
        let failing = with(text::decided(&decision(false, &["s0-x: refused"])));
        assert_eq!(reasons(&new, &idle), ["ScaledJobReady"]);
        assert_eq!(reasons(&new, &active), ["ScaledJobReady", "ScaledJobActive"]);
        assert!(reasons(&active, &active).is_empty());
        assert_eq!(reasons(&active, &idle), ["ScaledJobInactive"]);
        assert_eq!(reasons(&idle, &failing), ["KEDAScalerFailed"]);
        let paused = with(text::paused());
        assert_eq!(reasons(&new, &paused), ["ScaledJobReady", "ScaledJobPaused"]);
        let mut unpaused = paused.clone();
        set(&mut unpaused, &text::unpaused());
        assert_eq!(reasons(&paused, &unpaused), ["ScaledJobUnpaused"]);
        assert_eq!(reasons(&idle, &with(text::check_failed("x"))), ["ScaledJobCheckFailed"]);
    }

    #[test]
    fn activity_is_written_when_it_begins_and_coarsely_after() {
        let mut status = ScaledJobStatus::default();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        decided(&mut status, &[], &decision(false, &[]), at(1));
        assert_eq!(status.last_active_time, None);
        decided(&mut status, &[], &decision(true, &[]), at(2));
        decided(&mut status, &[], &decision(true, &[]), at(3));
        assert_eq!(status.last_active_time, Some(Time(at(2))));
        decided(&mut status, &[], &decision(true, &[]), at(1_802));
        assert_eq!(status.last_active_time, Some(Time(at(1_802))));
    }
}
