//! The series of each metric of each trigger.

use std::array;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use super::series::{Kept, each, family};
use crate::object::ObjectKey;
use crate::read::Outcome;

/// What one metric of one trigger is called. There may be tens of thousands, so all that is text is one allocation.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TriggerLabels {
    kind: &'static str,
    /// The scaler's own name.
    type_name: &'static str,
    text: Box<str>,
    /// Where in the text each part ends: namespace, object, metric, name of the trigger or nothing, its index.
    ends: [u32; 5],
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl TriggerLabels {
    /// `type_name` is the scaler's own, `name` what its trigger is called: that again, unless the trigger has a name.
    pub(crate) fn new(
        kind: &'static str,
        key: &ObjectKey,
        metric: &str,
        type_name: &'static str,
        name: &str,
        index: usize,
    ) -> Self {
        let given = if name == type_name { "" } else { name };
        let parts: [&str; 5] = [&key.namespace, &key.name, metric, given, &index.to_string()];
        let mut end = 0;
        let ends = parts.map(|part| {
            end += part.len();
            u32::try_from(end).expect("the API server takes no object of 4 GiB")
        });
        Self { kind, type_name, text: parts.concat().into(), ends }
    }

    fn parts(&self) -> [&str; 5] {
        array::from_fn(|part| {
            let begin = part.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[begin as usize..self.ends[part] as usize]
        })
    }

    /// In KEDA's words.
    fn common(&self) -> Labels<'_, 6> {
        let [namespace, object, metric, given, index] = self.parts();
        [
            ("namespace", namespace),
            ("metric", metric),
            ("scaledObject", object),
            ("scaler", self.name(given)),
            ("triggerIndex", index),
            ("type", self.kind),
        ]
    }

    /// KEDA's prometheus scaler has its own names for the same.
    fn empty(&self) -> Labels<'_, 6> {
        let [namespace, object, metric, given, _] = self.parts();
        [
            ("namespace", namespace),
            ("scaledResource", object),
            ("triggerName", self.name(given)),
            ("metricName", metric),
            ("resourceType", self.kind),
            ("ignoreNullValues", "true"),
        ]
    }

    /// Its HTTP clients have others.
    fn http(&self) -> Labels<'_, 5> {
        let [namespace, object, metric, given, _] = self.parts();
        [
            ("namespace", namespace),
            ("scaled_resource", object),
            ("scaler", self.scaler()),
            ("trigger_name", given),
            ("metric_name", metric),
        ]
    }

    fn name<'a>(&'a self, given: &'a str) -> &'a str {
        if given.is_empty() { self.type_name } else { given }
    }

    /// The scaler, as KEDA's HTTP clients call it.
    fn scaler(&self) -> &'static str {
        self.type_name.trim_end_matches("Scaler")
    }

    /// Under which a request for this trigger is counted among those of all triggers of its type.
    pub(super) fn answered(&self, status: Option<u16>) -> Answered {
        Answered { scaler: self.scaler(), status }
    }
}

/// How the requests of one type of trigger ended: with this status, or without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Answered {
    scaler: &'static str,
    status: Option<u16>,
}

impl EncodeLabelSet for Answered {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ([("scaler", self.scaler)], status_code(self.status)).encode(encoder)
    }
}

fn status_code(status: Option<u16>) -> [(&'static str, Cow<'static, str>); 1] {
    [("status_code", status.map_or("error".into(), |status| status.to_string().into()))]
}

/// What is known of one of them.
#[derive(Debug, Default)]
pub(super) struct State {
    /// How long the last read took.
    took: Option<Duration>,
    /// The last value stays while reads fail: an unknown one is not zero.
    sample: Option<Sample>,
    errors: u64,
    empty: u64,
    /// How many requests ended with which status, or without an answer.
    requests: Vec<(Option<u16>, u64)>,
}

#[derive(Debug)]
struct Sample {
    value: f64,
    active: bool,
    /// By the monotonic clock: a wall clock may jump.
    at: Instant,
}

impl State {
    pub(super) fn read(&mut self, outcome: &Outcome, took: Duration) {
        self.took = Some(took);
        match outcome {
            Ok(sampled) => {
                let (value, active) = (sampled.value.to_f64(), sampled.active);
                self.sample = Some(Sample { value, active, at: Instant::now() });
                self.empty += u64::from(sampled.empty);
            }
            Err(_) => self.errors += 1,
        }
    }

    pub(super) fn requested(&mut self, status: Option<u16>) {
        if let Some((_, count)) = self.requests.iter_mut().find(|(known, _)| *known == status) {
            *count += 1;
            return;
        }
        // Most only ever see one status, and a vector would make room for four.
        self.requests.reserve_exact(1);
        self.requests.push((status, 1));
    }
}

pub(super) type Triggers = Kept<Arc<TriggerLabels>, State>;

pub(super) fn write(triggers: &Triggers, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let all = &triggers.all();
    let value = each(all, |labels| labels.common(), |state| Some(ConstGauge::new(state.sample.as_ref()?.value)));
    family(to, ("keda_scaler_metrics_value", "The last value of each trigger."), value)?;
    let took = |state: &State| Some(ConstGauge::new(state.took?.as_secs_f64()));
    let latency = each(all, |labels| labels.common(), took);
    family(to, ("keda_scaler_metrics_latency_seconds", "How long the last read of each trigger took."), latency)?;
    let active =
        each(all, |labels| labels.common(), |state| Some(ConstGauge::new(i64::from(state.sample.as_ref()?.active))));
    family(to, ("keda_scaler_active", "Whether each trigger is active."), active)?;
    let errors = each(all, |labels| labels.common(), |state| counted(state.errors));
    family(to, ("keda_scaler_detail_errors", "Failed reads of each trigger."), errors)?;
    let empty = each(all, |labels| labels.empty(), |state| counted(state.empty));
    family(to, ("keda_scaler_empty_upstream_responses", "Reads without data that count as zero."), empty)?;

    // A ScaledObject and a ScaledJob of one name have the same labels here.
    let mut requests = BTreeMap::<_, u64>::new();
    for (labels, counts) in each(all, |labels| labels.http(), |state| Some(state.requests.clone())) {
        for (status, count) in counts {
            *requests.entry((labels, status)).or_default() += count;
        }
    }
    let requests =
        requests.into_iter().map(|((labels, status), count)| ((labels, status_code(status)), ConstCounter::new(count)));
    let help = "HTTP requests made to read each trigger, by the status they ended with.";
    family(to, ("keda_scaler_http_requests", help), requests)?;

    // Described even while nothing was read.
    let help = "Time since each trigger was last read without an error";
    let mut ages = to.encode_descriptor("tandem_sample_age_seconds", help, None, MetricType::Gauge)?;
    let age = |state: &State| Some(ConstGauge::new(state.sample.as_ref()?.at.elapsed().as_secs_f64()));
    each(all, |labels| labels.common(), age).try_for_each(|(labels, age)| age.encode(ages.encode_family(&labels)?))
}

/// A counter is there once it has counted something.
pub(super) fn counted(count: u64) -> Option<ConstCounter<u64>> {
    (count > 0).then(|| ConstCounter::new(count))
}
