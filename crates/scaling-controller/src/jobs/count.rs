//! What the API server's Jobs and pods mean for a ScaledJob. Pure.

use api::keda::annotations::JOB_GENERATION;
use api::keda::{JobStrategy as Written, MultipleScalersCalculation, ScaledJob};
use api::validate::validate;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use scaling::jobs::history::{Ended, JobRecord, Limits};
use scaling::jobs::{Combination, JobSettings, JobStrategy};
use units::Milli;

/// Ended Jobs that are kept, when a manifest does not say. KEDA's default.
const HISTORY: u32 = 100;
/// The longest name that fits in a label.
const LONGEST_NAME: usize = 63;

/// What a decision depends on, if the object makes sense.
///
/// # Errors
/// Everything that is wrong with it, each with its field.
pub(super) fn check(object: &ScaledJob) -> Result<JobSettings, Vec<String>> {
    let spec = &object.spec;
    let mut wrong: Vec<String> = validate(object).iter().map(ToString::to_string).collect();
    let name = object.name_any();
    if name.len() > LONGEST_NAME {
        wrong.push(format!("metadata.name: {name:?} is longer than {LONGEST_NAME} characters, and is used as a label"));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let count = |value: i32| u32::try_from(value).unwrap_or(0);
    let written = spec.scaling_strategy.clone().unwrap_or_default();
    let strategy = match written.strategy.unwrap_or_default() {
        Written::Default => JobStrategy::Default,
        Written::Accurate => JobStrategy::Accurate,
        Written::Eager => JobStrategy::Eager,
        // A share that is no number is refused above; without one KEDA falls back, too.
        Written::Custom => match written.custom_scaling_running_job_percentage.and_then(|text| text.parse().ok()) {
            None => JobStrategy::Default,
            Some(share) => JobStrategy::Custom {
                deduction: i64::from(written.custom_scaling_queue_length_deduction.unwrap_or(0)),
                running_share: Milli::try_from_f64(share).map_err(|error| vec![share_is(&error)])?,
            },
        },
    };
    let combination = match written.multiple_scalers_calculation.unwrap_or_default() {
        MultipleScalersCalculation::Max => Combination::Max,
        MultipleScalersCalculation::Min => Combination::Min,
        MultipleScalersCalculation::Avg => Combination::Average,
        MultipleScalersCalculation::Sum => Combination::Sum,
    };
    let min = spec.min_replica_count.map_or(0, count);
    Ok(JobSettings { min, max: spec.max_replica_count.map(count), strategy, combination })
}

fn share_is(error: &dyn std::fmt::Display) -> String {
    format!("spec.scalingStrategy.customScalingRunningJobPercentage: {error}")
}

/// How many ended Jobs are kept.
pub(super) fn limits(object: &ScaledJob) -> Limits {
    let limit = |written: Option<i32>| written.and_then(|count| u32::try_from(count).ok()).unwrap_or(HISTORY);
    let spec = &object.spec;
    Limits { succeeded: limit(spec.successful_jobs_history_limit), failed: limit(spec.failed_jobs_history_limit) }
}

/// A Job of this object, as far as the decisions depend on it; `None` for one of another object with the same name.
pub(super) fn record(job: &Job, uid: &str) -> Option<JobRecord> {
    let ours = job.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid);
    ours.then(|| JobRecord {
        name: job.name_any(),
        ended: ended(job),
        generation: job.annotations().get(JOB_GENERATION).and_then(|text| text.parse().ok()),
    })
}

fn ended(job: &Job) -> Option<Ended> {
    let status = job.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let end = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let at = status.completion_time.as_ref().or(end.last_transition_time.as_ref());
    Some(Ended { at: at.map_or(Timestamp::UNIX_EPOCH, |time| time.0), failed: end.type_ == "Failed" })
}

/// How many of these unfinished Jobs have not begun: none of their pods runs or has run; or, if conditions are named, none
/// of their pods has all of them.
pub(super) fn pending(unfinished: &[&JobRecord], pods: &[Pod], conditions: &[String]) -> u32 {
    let begun = |pod: &Pod| {
        let Some(status) = &pod.status else { return false };
        if conditions.is_empty() {
            return matches!(status.phase.as_deref(), Some("Running" | "Succeeded"));
        }
        let found = status.conditions.as_deref().unwrap_or_default();
        conditions.iter().all(|wanted| found.iter().any(|c| c.type_ == *wanted && c.status == "True"))
    };
    let of = |pod: &Pod, job: &JobRecord| {
        pod.owner_references().iter().any(|owner| owner.kind == "Job" && owner.name == job.name)
    };
    let waits = |job: &&&JobRecord| !pods.iter().any(|pod| of(pod, job) && begun(pod));
    u32::try_from(unfinished.iter().filter(waits).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(spec: &Value) -> Result<JobSettings, Vec<String>> {
        let mut whole = json!({
            "jobTargetRef": {"template": {"spec": {"containers": []}}},
            "triggers": [{"type": "prometheus", "metadata": {}}],
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        check(&ScaledJob::new("sj", serde_json::from_value(whole).unwrap()))
    }

    #[test]
    fn a_strategy_is_read_with_its_numbers() {
        let strategy =
            |written: Value| settings(&json!({"scalingStrategy": written})).map(|settings| settings.strategy);
        assert_eq!(strategy(json!({})), Ok(JobStrategy::Default));
        assert_eq!(strategy(json!({"strategy": "accurate"})), Ok(JobStrategy::Accurate));
        let custom = json!({
            "strategy": "custom", "customScalingQueueLengthDeduction": 2, "customScalingRunningJobPercentage": "0.5",
        });
        let wanted = JobStrategy::Custom { deduction: 2, running_share: Milli::from_thousandths(500) };
        assert_eq!(strategy(custom), Ok(wanted));
        assert_eq!(strategy(json!({"strategy": "custom"})), Ok(JobStrategy::Default));
        let wrong = strategy(json!({"strategy": "custom", "customScalingRunningJobPercentage": "half"})).unwrap_err();
        assert!(wrong[0].contains("customScalingRunningJobPercentage"), "{wrong:?}");
    }

    #[test]
    fn a_metric_type_is_refused() {
        let triggers = json!([{"type": "prometheus", "metadata": {}, "metricType": "Value"}]);
        let wrong = settings(&json!({"triggers": triggers})).unwrap_err();
        assert!(wrong[0].contains("spec.triggers[0].metricType"), "{wrong:?}");
    }

    fn job(owner: &str, conditions: &Value) -> Job {
        serde_json::from_value(json!({
            "metadata": {
                "name": "j", "annotations": {"scaledjob.keda.sh/generation": "3"},
                "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "name": "sj", "uid": owner,
                                     "controller": true}],
            },
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_job_ends_by_its_conditions_and_belongs_to_its_owner() {
        let with = |kind: &str, status: &str| json!([{"type": kind, "status": status, "lastTransitionTime": "1970-01-01T00:00:07Z"}]);
        let ended = |conditions: Value| record(&job("u", &conditions), "u").unwrap().ended;
        let at = Timestamp::from_second(7).unwrap();
        assert_eq!(ended(json!([])), None);
        assert_eq!(ended(with("Suspended", "True")), None);
        assert_eq!(ended(with("Complete", "False")), None);
        assert_eq!(ended(with("Complete", "True")), Some(Ended { at, failed: false }));
        assert_eq!(ended(with("Failed", "True")), Some(Ended { at, failed: true }));
        assert_eq!(record(&job("u", &json!([])), "u").unwrap().generation, Some(3));
        assert_eq!(record(&job("another", &json!([])), "u"), None);
    }

    #[test]
    fn a_job_waits_until_one_of_its_pods_has_begun() {
        let record = |name: &str| JobRecord { name: name.into(), ended: None, generation: None };
        let pod = |job: &str, phase: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": "x"}]},
                "status": {"phase": phase, "conditions": [
                    {"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"}]},
            }))
            .unwrap()
        };
        let (a, b, c) = (record("a"), record("b"), record("c"));
        let jobs = [&a, &b, &c];
        let pods = [pod("a", "Running", "False"), pod("b", "Pending", "False"), pod("b", "Failed", "False")];
        assert_eq!(pending(&jobs, &pods, &[]), 2);
        assert_eq!(pending(&jobs, &pods, &["PodScheduled".into()]), 1);
        assert_eq!(pending(&jobs, &pods, &["PodScheduled".into(), "Ready".into()]), 3);
    }
}
