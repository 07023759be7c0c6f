//! The series of each ScaledObject and ScaledJob.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::gauge::ConstGauge;

use super::series::{Kept, each, family};
use super::triggers::counted;
use crate::object::ObjectKey;

/// What is known of one of them.
#[derive(Debug, Default)]
pub(super) struct State {
    /// How late the last poll began.
    pub(super) late: Option<Duration>,
    /// What was last decided, and why: one series, which changes its labels.
    pub(super) decision: Option<(&'static str, &'static str)>,
    pub(super) errors: u64,
    /// Jobs made; none for a ScaledObject.
    pub(super) made: u64,
    /// Nothing for a ScaledJob.
    pub(super) paused: Option<bool>,
}

pub(super) type Objects = Kept<ObjectKey, State>;

pub(super) fn write(objects: &Objects, jobs: &Objects, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (objects, jobs) = (&objects.all(), &jobs.all());
    let object = |key| named("scaledObject", key);
    let paused = each(objects, object, |state| Some(ConstGauge::new(i64::from(state.paused?))));
    family(to, ("keda_scaled_object_paused", "Whether each object is paused."), paused)?;
    let errors = each(objects, object, |state| counted(state.errors));
    family(to, ("keda_scaled_object_errors", "Failed reconciles of each object."), errors)?;
    let job = |key| named("scaledJob", key);
    let errors = each(jobs, job, |state| counted(state.errors));
    family(to, ("keda_scaled_job_errors", "Failed polls of each ScaledJob."), errors)?;
    let made = each(jobs, job, |state| counted(state.made));
    family(to, ("tandem_jobs_made", "Jobs made for each ScaledJob."), made)?;

    let kinds = [("scaledobject", objects), ("scaledjob", jobs)];
    let late = kinds.into_iter().flat_map(|(kind, members)| {
        let seconds = |late: Duration| ConstGauge::new(late.as_secs_f64());
        each(members, move |key| resource(kind, key), move |state| state.late.map(seconds))
    });
    let help = "How late the last poll of each object began.";
    family(to, ("keda_internal_scale_loop_latency_seconds", help), late)?;
    let decided = kinds.into_iter().flat_map(|(kind, members)| {
        let decided = each(members, move |key| resource(kind, key), |state| state.decision);
        decided.map(|(labels, (decision, reason))| {
            let labels = (labels, [("decision", decision), ("reason", reason)]);
            (labels, ConstGauge::new(1_i64))
        })
    });
    family(to, ("tandem_decision", "1 for what was last decided, and why."), decided)
}

fn named<'a>(kind: &'static str, key: &'a ObjectKey) -> [(&'static str, &'a str); 2] {
    [("namespace", &key.namespace), (kind, &key.name)]
}

fn resource<'a>(kind: &'static str, key: &'a ObjectKey) -> [(&'static str, &'a str); 3] {
    [("namespace", &key.namespace), ("type", kind), ("resource", &key.name)]
}
