//! What operators see of the triggers: KEDA's series, and ours.

mod objects;
mod series;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller_runtime::metrics::Registry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::object::{ObjectKey, Subject};
use crate::read::Outcome;
use objects::Objects;
pub(crate) use triggers::TriggerLabels;
use triggers::{Answered, Triggers};

/// The labels of one series of those that are few.
type Labels = Vec<(&'static str, String)>;

fn label_set<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.map(|(name, value)| (name, value.to_owned())).into()
}

/// Bounds of the durations of HTTP requests, in seconds: those that Prometheus' own clients use.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All series of the scaling controller.
#[derive(Debug)]
pub struct Metrics {
    many: Arc<Many>,
    triggers: Family<Labels, Gauge>,
    resources: Family<Labels, Gauge>,
    scale_writes: Family<Labels, Counter>,
    status_writes: Counter,
    panics: Counter,
    validations: Family<Labels, Counter>,
    validation_errors: Family<Labels, Counter>,
    cloud_events: Family<Labels, Counter>,
    cloud_events_queued: Family<Labels, Gauge>,
    http_seconds: Family<Answered, Histogram, fn() -> Histogram>,
    counted: Mutex<BTreeSet<(&'static str, String)>>,
}

impl Metrics {
    /// Series that no registry knows.
    fn unknown() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            many: Arc::new(Many { triggers: Triggers::new(), objects: Objects::new(), jobs: Objects::new() }),
            triggers: Family::default(),
            resources: Family::default(),
            scale_writes: Family::default(),
            status_writes: Counter::default(),
            panics: Counter::default(),
            validations: Family::default(),
            validation_errors: Family::default(),
            cloud_events: Family::default(),
            cloud_events_queued: Family::default(),
            http_seconds: Family::new_with_constructor(seconds),
            counted: Mutex::default(),
        }
    }

    /// Series that are known to `registry` from now on.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self::unknown();
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&this_build()).set(1);
        registry.register("keda_build_info", "The version that is running", build);
        registry.register("keda_trigger_registered_total", "Triggers by type", metrics.triggers.clone());
        registry.register("keda_resource_registered_total", "Objects by type and namespace", metrics.resources.clone());
        registry.register(
            "tandem_scale_writes",
            "Replica counts written by us, by reason",
            metrics.scale_writes.clone(),
        );
        registry.register("tandem_status_writes", "Status patches of ScaledObjects", metrics.status_writes.clone());
        registry.register(
            "keda_webhook_scaled_object_validations",
            "ScaledObjects that admission has judged",
            metrics.validations.clone(),
        );
        registry.register(
            "keda_webhook_scaled_object_validation_errors",
            "Refusals of ScaledObjects at admission, by reason",
            metrics.validation_errors.clone(),
        );
        registry.register(
            "keda_cloudeventsource_events_emitted",
            "CloudEvents sent to each source's destination, or given up",
            metrics.cloud_events.clone(),
        );
        registry.register(
            "keda_cloudeventsource_events_queued",
            "CloudEvents that wait for a destination, by the source's namespace",
            metrics.cloud_events_queued.clone(),
        );
        registry.register(
            "keda_scaler_http_request_duration_seconds",
            "How long HTTP requests of triggers took",
            metrics.http_seconds.clone(),
        );
        let many = Box::new(Arc::clone(&metrics.many));
        registry.with(|inner| inner.register_collector(many));
        registry.register("tandem_scaled_object_panics", "Actors that ended in a panic", metrics.panics.clone());
        metrics
    }

    pub(crate) fn read(&self, labels: &Arc<TriggerLabels>, outcome: &Outcome, took: Duration) {
        self.many.triggers.update(labels, |state| state.read(outcome, took));
    }

    /// A request for a trigger ended with this status, or without an answer.
    pub(crate) fn http_request(&self, labels: &Arc<TriggerLabels>, status: Option<u16>, took: Duration) {
        self.many.triggers.update(labels, |state| state.requested(status));
        self.http_seconds.get_or_create(&labels.answered(status)).observe(took.as_secs_f64());
    }

    pub(crate) fn forget_trigger(&self, labels: &Arc<TriggerLabels>) {
        self.many.triggers.forget(labels);
    }

    /// What was decided about an object of this kind, and why.
    pub(crate) fn decided(&self, kind: &str, key: &ObjectKey, decision: &'static str, reason: &'static str) {
        self.many.of_kind(kind).update(key, |state| state.decision = Some((decision, reason)));
    }

    pub(crate) fn poll_began(&self, kind: &str, key: &ObjectKey, late: Duration) {
        self.many.of_kind(kind).update(key, |state| state.late = Some(late));
    }

    pub(crate) fn set_paused(&self, key: &ObjectKey, paused: bool) {
        self.many.objects.update(key, |state| state.paused = Some(paused));
    }

    pub(crate) fn object_failed(&self, key: &ObjectKey) {
        self.many.objects.update(key, |state| state.errors += 1);
    }

    pub(crate) fn job_failed(&self, key: &ObjectKey) {
        self.many.jobs.update(key, |state| state.errors += 1);
    }

    pub(crate) fn job_made(&self, key: &ObjectKey) {
        self.many.jobs.update(key, |state| state.made += 1);
    }

    pub(crate) fn forget_object(&self, key: &ObjectKey) {
        self.many.objects.forget(key);
    }

    pub(crate) fn forget_job(&self, key: &ObjectKey) {
        self.many.jobs.forget(key);
    }

    pub(crate) fn scale_written(&self, reason: &str) {
        self.scale_writes.get_or_create(&label_set([("reason", reason)])).inc();
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    /// A ScaledObject was judged at admission; `action` is `create` or `update`, `reasons` those of refusals.
    pub(crate) fn judged<'a>(&self, namespace: &str, action: &str, reasons: impl Iterator<Item = &'a str>) {
        let [namespace, action] = [("namespace", namespace), ("action", action)];
        self.validations.get_or_create(&label_set([namespace, action])).inc();
        for reason in reasons {
            self.validation_errors.get_or_create(&label_set([namespace, action, ("reason", reason)])).inc();
        }
    }

    /// An event about an object of `namespace` reached the destination of the source `name`, or was given up.
    pub(crate) fn cloud_event(&self, namespace: &str, name: &str, delivered: bool) {
        let state = if delivered { "emitted" } else { "failed" };
        self.cloud_events.get_or_create(&emitted(namespace, name, state)).inc();
    }

    pub(crate) fn cloud_events_queued(&self, namespace: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.cloud_events_queued.get_or_create(&label_set([("namespace", namespace)])).set(count);
    }

    pub(crate) fn forget_cloud_events(&self, namespace: &str, name: &str) {
        for state in ["emitted", "failed"] {
            self.cloud_events.remove(&emitted(namespace, name, state));
        }
        self.cloud_events_queued.remove(&label_set([("namespace", namespace)]));
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts what is there; series of what is gone disappear.
    pub(crate) fn count<'a>(&self, subjects: impl Iterator<Item = Subject<'a>>) {
        let mut triggers = BTreeMap::<&str, i64>::new();
        let mut resources = BTreeMap::<(&'static str, String), i64>::new();
        for subject in subjects {
            let kind = if subject.kind == "scaledjob" { "scaled_job" } else { "scaled_object" };
            *resources.entry((kind, subject.key().namespace)).or_default() += 1;
            for trigger in subject.triggers {
                *triggers.entry(&trigger.r#type).or_default() += 1;
            }
        }
        self.triggers.clear();
        for (kind, count) in triggers {
            self.triggers.get_or_create(&label_set([("type", kind)])).set(count);
        }
        self.count_resources(&["scaled_object", "scaled_job"], &resources);
    }

    /// Counts objects of these kinds by kind and namespace; series of what is gone disappear.
    pub(crate) fn count_resources(&self, kinds: &[&'static str], now: &BTreeMap<(&'static str, String), i64>) {
        let labels = |(kind, namespace): &(&'static str, String)| label_set([("type", kind), ("namespace", namespace)]);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.retain(|key| {
            let gone = kinds.contains(&key.0) && !now.contains_key(key);
            if gone {
                self.resources.remove(&labels(key));
            }
            !gone
        });
        for (key, count) in now {
            self.resources.get_or_create(&labels(key)).set(*count);
            counted.insert(key.clone());
        }
    }
}

/// What each trigger and object has, of which there may be tens of thousands.
#[derive(Debug)]
struct Many {
    triggers: Triggers,
    objects: Objects,
    jobs: Objects,
}

impl Many {
    fn of_kind(&self, kind: &str) -> &Objects {
        if kind == "scaledjob" { &self.jobs } else { &self.objects }
    }
}

impl Collector for Many {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        triggers::write(&self.triggers, &mut encoder)?;
        objects::write(&self.objects, &self.jobs, &mut encoder)
    }
}

/// KEDA's labels; there is no Go here.
fn this_build() -> Labels {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    label_set([
        ("version", env!("CARGO_PKG_VERSION")),
        ("git_commit", option_env!("TANDEM_GIT_COMMIT").unwrap_or("unknown")),
        ("goversion", "none"),
        ("goos", std::env::consts::OS),
        ("goarch", architecture),
    ])
}

fn emitted(namespace: &str, name: &str, state: &str) -> Labels {
    label_set([("namespace", namespace), ("cloudeventsource", name), ("eventsink", "http"), ("state", state)])
}

#[cfg(test)]
mod tests;
