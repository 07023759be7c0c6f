//! What operators see of the triggers: KEDA's series, and ours.

mod age;
mod decisions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_runtime::metrics::Registry;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::object::{ObjectKey, Subject};
use crate::read::Outcome;
use age::Ages;
use decisions::Decisions;

/// The labels of one series. Every family of a trigger keeps them as its key, so clones share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Labels(Arc<[(&'static str, Box<str>)]>);

impl Labels {
    fn new<const N: usize>(labels: [(&'static str, &str); N]) -> Self {
        labels.into_iter().collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, &**value))
    }

    fn with(&self, name: &'static str, value: &str) -> Self {
        self.iter().chain([(name, value)]).collect()
    }
}

impl<'a> FromIterator<(&'static str, &'a str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'static str, &'a str)>>(labels: I) -> Self {
        Self(labels.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.iter().try_for_each(|label| label.encode(encoder.encode_label()))
    }
}

type Number = Gauge<f64, AtomicU64>;

/// Bounds of the durations of HTTP requests, in seconds: those that Prometheus' own clients use.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The label set of one metric of one trigger, in KEDA's words.
#[derive(Debug)]
pub(crate) struct TriggerLabels {
    common: Labels,
    /// KEDA's prometheus scaler has its own names for the same.
    empty: Labels,
    /// Its HTTP clients have others.
    http: Labels,
}

impl TriggerLabels {
    /// `type_name` is the scaler's own, `name` what its trigger is called: that again, unless the trigger has a name.
    pub(crate) fn new(kind: &str, key: &ObjectKey, metric: &str, type_name: &str, name: &str, index: usize) -> Self {
        let common = Labels::new([
            ("namespace", &key.namespace),
            ("metric", metric),
            ("scaledObject", &key.name),
            ("scaler", name),
            ("triggerIndex", &index.to_string()),
            ("type", kind),
        ]);
        let given = if name == type_name { "" } else { name };
        let http = Labels::new([
            ("namespace", &key.namespace),
            ("scaled_resource", &key.name),
            ("scaler", type_name.trim_end_matches("Scaler")),
            ("trigger_name", given),
            ("metric_name", metric),
        ]);
        let empty = Labels::new([
            ("namespace", &key.namespace),
            ("scaledResource", &key.name),
            ("triggerName", name),
            ("metricName", metric),
            ("resourceType", kind),
            ("ignoreNullValues", "true"),
        ]);
        Self { common, empty, http }
    }
}

/// All series of the scaling controller.
#[derive(Debug)]
pub struct Metrics {
    value: Family<Labels, Number>,
    latency: Family<Labels, Number>,
    active: Family<Labels, Gauge>,
    detail_errors: Family<Labels, Counter>,
    empty: Family<Labels, Counter>,
    paused: Family<Labels, Gauge>,
    object_errors: Family<Labels, Counter>,
    job_errors: Family<Labels, Counter>,
    jobs_made: Family<Labels, Counter>,
    loop_latency: Family<Labels, Number>,
    triggers: Family<Labels, Gauge>,
    resources: Family<Labels, Gauge>,
    scale_writes: Family<Labels, Counter>,
    status_writes: Counter,
    panics: Counter,
    validations: Family<Labels, Counter>,
    validation_errors: Family<Labels, Counter>,
    cloud_events: Family<Labels, Counter>,
    cloud_events_queued: Family<Labels, Gauge>,
    http_requests: Family<Labels, Counter>,
    http_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    /// The statuses that each trigger's requests ended with, so that their series can go with it.
    statuses: Mutex<BTreeSet<(Labels, String)>>,
    ages: Arc<Ages>,
    decisions: Decisions,
    counted: Mutex<BTreeSet<(&'static str, String)>>,
}

impl Metrics {
    /// Series that no registry knows.
    fn unknown() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            value: Family::default(),
            latency: Family::default(),
            active: Family::default(),
            detail_errors: Family::default(),
            empty: Family::default(),
            paused: Family::default(),
            object_errors: Family::default(),
            job_errors: Family::default(),
            jobs_made: Family::default(),
            loop_latency: Family::default(),
            triggers: Family::default(),
            resources: Family::default(),
            scale_writes: Family::default(),
            status_writes: Counter::default(),
            panics: Counter::default(),
            validations: Family::default(),
            validation_errors: Family::default(),
            cloud_events: Family::default(),
            cloud_events_queued: Family::default(),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(seconds),
            statuses: Mutex::default(),
            ages: Arc::default(),
            decisions: Decisions::default(),
            counted: Mutex::default(),
        }
    }

    /// Series that are known to `registry` from now on.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self::unknown();
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&this_build()).set(1);
        registry.register("keda_build_info", "The version that is running", build);
        registry.register("keda_scaler_metrics_value", "The last value of each trigger", metrics.value.clone());
        registry.register(
            "keda_scaler_metrics_latency_seconds",
            "How long the last read of each trigger took",
            metrics.latency.clone(),
        );
        registry.register("keda_scaler_active", "Whether each trigger is active", metrics.active.clone());
        registry.register("keda_scaler_detail_errors", "Failed reads of each trigger", metrics.detail_errors.clone());
        registry.register(
            "keda_scaler_empty_upstream_responses",
            "Reads without data that count as zero",
            metrics.empty.clone(),
        );
        registry.register("keda_scaled_object_paused", "Whether each object is paused", metrics.paused.clone());
        registry.register(
            "keda_scaled_object_errors",
            "Failed reconciles of each object",
            metrics.object_errors.clone(),
        );
        registry.register("keda_scaled_job_errors", "Failed polls of each ScaledJob", metrics.job_errors.clone());
        registry.register("tandem_jobs_made", "Jobs made for each ScaledJob", metrics.jobs_made.clone());
        registry.register(
            "keda_internal_scale_loop_latency_seconds",
            "How late the last poll of each object began",
            metrics.loop_latency.clone(),
        );
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
            "keda_scaler_http_requests",
            "HTTP requests made to read each trigger, by the status they ended with",
            metrics.http_requests.clone(),
        );
        registry.register(
            "keda_scaler_http_request_duration_seconds",
            "How long HTTP requests of triggers took",
            metrics.http_seconds.clone(),
        );
        let ages = Box::new(Arc::clone(&metrics.ages));
        registry.with(|inner| inner.register_collector(ages));
        registry.register("tandem_decision", "1 for what was last decided, and why", metrics.decisions.series());
        registry.register("tandem_scaled_object_panics", "Actors that ended in a panic", metrics.panics.clone());
        metrics
    }

    pub(crate) fn read(&self, labels: &TriggerLabels, outcome: &Outcome, took: Duration) {
        let empty = &labels.empty;
        let labels = &labels.common;
        self.latency.get_or_create(labels).set(took.as_secs_f64());
        match outcome {
            Ok(sampled) => {
                self.value.get_or_create(labels).set(sampled.value.to_f64());
                self.active.get_or_create(labels).set(i64::from(sampled.active));
                self.ages.sampled(labels);
                if sampled.empty {
                    self.empty.get_or_create(empty).inc();
                }
            }
            // The last value stays: an unknown one is not zero.
            Err(_) => {
                self.detail_errors.get_or_create(labels).inc();
            }
        }
    }

    pub(crate) fn forget_trigger(&self, labels: &TriggerLabels) {
        self.empty.remove(&labels.empty);
        let http = labels.http.clone();
        let labels = &labels.common;
        self.value.remove(labels);
        self.latency.remove(labels);
        self.active.remove(labels);
        self.detail_errors.remove(labels);
        self.ages.forget(labels);
        self.lock_statuses().retain(|(trigger, status)| {
            let same = *trigger == http;
            if same {
                self.http_requests.remove(&with_status(trigger, status));
            }
            !same
        });
    }

    /// A request for a trigger ended with this status, or without an answer.
    pub(crate) fn http_request(&self, labels: &TriggerLabels, status: Option<u16>, took: Duration) {
        let status = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        self.http_requests.get_or_create(&with_status(&labels.http, &status)).inc();
        let scaler = labels.http.iter().filter(|(name, _)| *name == "scaler").collect::<Labels>();
        self.http_seconds.get_or_create(&with_status(&scaler, &status)).observe(took.as_secs_f64());
        self.lock_statuses().insert((labels.http.clone(), status));
    }

    fn lock_statuses(&self) -> MutexGuard<'_, BTreeSet<(Labels, String)>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was decided about an object of this kind, and why.
    pub(crate) fn decided(&self, kind: &'static str, key: &ObjectKey, decision: &'static str, reason: &str) {
        self.decisions.set(kind, key, decision, reason);
    }

    pub(crate) fn set_paused(&self, key: &ObjectKey, paused: bool) {
        self.paused.get_or_create(&object(key)).set(i64::from(paused));
    }

    pub(crate) fn object_failed(&self, key: &ObjectKey) {
        self.object_errors.get_or_create(&object(key)).inc();
    }

    pub(crate) fn poll_began(&self, kind: &'static str, key: &ObjectKey, late: Duration) {
        self.loop_latency.get_or_create(&looped(kind, key)).set(late.as_secs_f64());
    }

    pub(crate) fn job_failed(&self, key: &ObjectKey) {
        self.job_errors.get_or_create(&job(key)).inc();
    }

    pub(crate) fn job_made(&self, key: &ObjectKey) {
        self.jobs_made.get_or_create(&job(key)).inc();
    }

    pub(crate) fn forget_job(&self, key: &ObjectKey) {
        self.job_errors.remove(&job(key));
        self.jobs_made.remove(&job(key));
        self.loop_latency.remove(&looped("scaledjob", key));
        self.decisions.forget("scaledjob", key);
    }

    pub(crate) fn scale_written(&self, reason: &str) {
        self.scale_writes.get_or_create(&Labels::new([("reason", reason)])).inc();
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    /// A ScaledObject was judged at admission; `action` is `create` or `update`, `reasons` those of refusals.
    pub(crate) fn judged<'a>(&self, namespace: &str, action: &str, reasons: impl Iterator<Item = &'a str>) {
        let labels = Labels::new([("namespace", namespace), ("action", action)]);
        self.validations.get_or_create(&labels).inc();
        for reason in reasons {
            let labels = labels.with("reason", reason);
            self.validation_errors.get_or_create(&labels).inc();
        }
    }

    /// An event about an object of `namespace` reached the destination of the source `name`, or was given up.
    pub(crate) fn cloud_event(&self, namespace: &str, name: &str, delivered: bool) {
        let state = if delivered { "emitted" } else { "failed" };
        self.cloud_events.get_or_create(&emitted(namespace, name, state)).inc();
    }

    pub(crate) fn cloud_events_queued(&self, namespace: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.cloud_events_queued.get_or_create(&Labels::new([("namespace", namespace)])).set(count);
    }

    pub(crate) fn forget_cloud_events(&self, namespace: &str, name: &str) {
        for state in ["emitted", "failed"] {
            self.cloud_events.remove(&emitted(namespace, name, state));
        }
        self.cloud_events_queued.remove(&Labels::new([("namespace", namespace)]));
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    pub(crate) fn forget_object(&self, key: &ObjectKey) {
        self.paused.remove(&object(key));
        self.object_errors.remove(&object(key));
        self.loop_latency.remove(&looped("scaledobject", key));
        self.decisions.forget("scaledobject", key);
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
            self.triggers.get_or_create(&Labels::new([("type", kind)])).set(count);
        }
        self.count_resources(&["scaled_object", "scaled_job"], &resources);
    }

    /// Counts objects of these kinds by kind and namespace; series of what is gone disappear.
    pub(crate) fn count_resources(&self, kinds: &[&'static str], now: &BTreeMap<(&'static str, String), i64>) {
        let labels =
            |(kind, namespace): &(&'static str, String)| Labels::new([("type", kind), ("namespace", namespace)]);
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

/// KEDA's labels; there is no Go here.
fn this_build() -> Labels {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Labels::new([
        ("version", env!("CARGO_PKG_VERSION")),
        ("git_commit", option_env!("TANDEM_GIT_COMMIT").unwrap_or("unknown")),
        ("goversion", "none"),
        ("goos", std::env::consts::OS),
        ("goarch", architecture),
    ])
}

fn with_status(labels: &Labels, status: &str) -> Labels {
    labels.with("status_code", status)
}

fn emitted(namespace: &str, name: &str, state: &str) -> Labels {
    Labels::new([("namespace", namespace), ("cloudeventsource", name), ("eventsink", "http"), ("state", state)])
}

fn object(key: &ObjectKey) -> Labels {
    Labels::new([("namespace", &key.namespace), ("scaledObject", &key.name)])
}

fn job(key: &ObjectKey) -> Labels {
    Labels::new([("namespace", &key.namespace), ("scaledJob", &key.name)])
}

fn looped(kind: &str, key: &ObjectKey) -> Labels {
    Labels::new([("namespace", &key.namespace), ("type", kind), ("resource", &key.name)])
}

#[cfg(test)]
mod tests;
