//! What operators see of the triggers: KEDA's series, and ours.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use controller_runtime::metrics::Registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::object::{ObjectKey, Subject};
use crate::read::Outcome;

type Labels = Vec<(&'static str, String)>;
type Number = Gauge<f64, AtomicU64>;

/// The label set of one metric of one trigger, in KEDA's words.
#[derive(Debug)]
pub(crate) struct TriggerLabels {
    common: Labels,
    /// KEDA's prometheus scaler has its own names for the same.
    empty: Labels,
}

impl TriggerLabels {
    pub(crate) fn new(kind: &str, key: &ObjectKey, metric: &str, scaler: &str, index: usize) -> Self {
        let common = vec![
            ("namespace", key.namespace.clone()),
            ("metric", metric.to_owned()),
            ("scaledObject", key.name.clone()),
            ("scaler", scaler.to_owned()),
            ("triggerIndex", index.to_string()),
            ("type", kind.to_owned()),
        ];
        let empty = vec![
            ("namespace", key.namespace.clone()),
            ("scaledResource", key.name.clone()),
            ("triggerName", scaler.to_owned()),
            ("metricName", metric.to_owned()),
            ("resourceType", kind.to_owned()),
            ("ignoreNullValues", "true".to_owned()),
        ];
        Self { common, empty }
    }
}

/// All series of the scaling controller.
#[derive(Debug, Default)]
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
}

impl Metrics {
    /// Series that are known to `registry` from now on.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
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
        let labels = &labels.common;
        self.value.remove(labels);
        self.latency.remove(labels);
        self.active.remove(labels);
        self.detail_errors.remove(labels);
    }

    pub(crate) fn set_paused(&self, key: &ObjectKey, paused: bool) {
        self.paused.get_or_create(&object(key)).set(i64::from(paused));
    }

    pub(crate) fn object_failed(&self, key: &ObjectKey) {
        self.object_errors.get_or_create(&object(key)).inc();
    }

    pub(crate) fn poll_began(&self, key: &ObjectKey, late: Duration) {
        self.loop_latency.get_or_create(&looped(key)).set(late.as_secs_f64());
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
    }

    pub(crate) fn scale_written(&self, reason: &str) {
        self.scale_writes.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    /// A ScaledObject was judged at admission; `action` is `create` or `update`, `reasons` those of refusals.
    pub(crate) fn judged<'a>(&self, namespace: &str, action: &str, reasons: impl Iterator<Item = &'a str>) {
        let labels = vec![("namespace", namespace.to_owned()), ("action", action.to_owned())];
        self.validations.get_or_create(&labels).inc();
        for reason in reasons {
            let labels = [labels.as_slice(), &[("reason", reason.to_owned())]].concat();
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
        self.cloud_events_queued.get_or_create(&vec![("namespace", namespace.to_owned())]).set(count);
    }

    pub(crate) fn forget_cloud_events(&self, namespace: &str, name: &str) {
        for state in ["emitted", "failed"] {
            self.cloud_events.remove(&emitted(namespace, name, state));
        }
        self.cloud_events_queued.remove(&vec![("namespace", namespace.to_owned())]);
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    pub(crate) fn forget_object(&self, key: &ObjectKey) {
        self.paused.remove(&object(key));
        self.object_errors.remove(&object(key));
        self.loop_latency.remove(&looped(key));
    }

    /// Counts what is there; series of what is gone disappear.
    pub(crate) fn count<'a>(&self, subjects: impl Iterator<Item = Subject<'a>>) {
        let mut triggers = BTreeMap::<&str, i64>::new();
        let mut resources = BTreeMap::<(&str, String), i64>::new();
        for subject in subjects {
            *resources.entry((subject.kind, subject.key().namespace)).or_default() += 1;
            for trigger in subject.triggers {
                *triggers.entry(&trigger.r#type).or_default() += 1;
            }
        }
        self.triggers.clear();
        self.resources.clear();
        for (kind, count) in triggers {
            self.triggers.get_or_create(&vec![("type", kind.to_owned())]).set(count);
        }
        for ((kind, namespace), count) in resources {
            // The same kinds have an underscore here.
            let kind = kind.replace("scaled", "scaled_");
            self.resources.get_or_create(&vec![("type", kind), ("namespace", namespace)]).set(count);
        }
    }
}

fn emitted(namespace: &str, name: &str, state: &str) -> Labels {
    vec![
        ("namespace", namespace.to_owned()),
        ("cloudeventsource", name.to_owned()),
        ("eventsink", "http".to_owned()),
        ("state", state.to_owned()),
    ]
}

fn object(key: &ObjectKey) -> Labels {
    vec![("namespace", key.namespace.clone()), ("scaledObject", key.name.clone())]
}

fn job(key: &ObjectKey) -> Labels {
    vec![("namespace", key.namespace.clone()), ("scaledJob", key.name.clone())]
}

fn looped(key: &ObjectKey) -> Labels {
    vec![("namespace", key.namespace.clone()), ("type", "scaledobject".to_owned()), ("resource", key.name.clone())]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn series_have_the_names_and_labels_of_keda_and_go_with_their_object() {
        let registry = Arc::new(Registry::default());
        let metrics = Metrics::new(&registry);
        let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
        let labels = TriggerLabels::new("scaledobject", &key, "s0-prometheus", "prometheusScaler", 0);
        let sampled = scalers::Sampled { value: units::Milli::from_thousandths(1_500), active: true, empty: false };
        metrics.read(&labels, &Ok(sampled), Duration::from_millis(250));
        metrics.read(&labels, &Err("down".into()), Duration::from_millis(250));
        let text = registry.encode().unwrap();
        let set = "namespace=\"shop\",metric=\"s0-prometheus\",scaledObject=\"web\",scaler=\"prometheusScaler\",triggerIndex=\"0\",type=\"scaledobject\"";
        for line in [
            format!("keda_scaler_metrics_value{{{set}}} 1.5"),
            format!("keda_scaler_detail_errors_total{{{set}}} 1"),
            format!("keda_scaler_metrics_latency_seconds{{{set}}} 0.25"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        metrics.forget_trigger(&labels);
        assert!(!registry.encode().unwrap().contains("s0-prometheus"));
    }

    #[test]
    fn what_is_there_is_counted_by_kind_and_trigger() {
        let registry = Arc::new(Registry::default());
        let metrics = Metrics::new(&registry);
        let whole = |kind: &str| {
            serde_json::json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": kind, "metadata": {"name": "a", "namespace": "shop"},
                "spec": {
                    "scaleTargetRef": {"name": "a"}, "jobTargetRef": {}, "triggers": [{"type": "redis", "metadata": {}}],
                },
            })
        };
        let object: api::keda::ScaledObject = serde_json::from_value(whole("ScaledObject")).unwrap();
        let job: api::keda::ScaledJob = serde_json::from_value(whole("ScaledJob")).unwrap();
        metrics.count([Subject::object(&object), Subject::job(&job)].into_iter());
        let text = registry.encode().unwrap();
        for line in [
            "keda_trigger_registered_total{type=\"redis\"} 2",
            "keda_resource_registered_total{type=\"scaled_job\",namespace=\"shop\"} 1",
            "keda_resource_registered_total{type=\"scaled_object\",namespace=\"shop\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        metrics.count([Subject::object(&object)].into_iter());
        assert!(!registry.encode().unwrap().contains("scaled_job\""));
    }
}
