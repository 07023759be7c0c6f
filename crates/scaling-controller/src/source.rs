//! The triggers of one object, ready to be read.

use std::sync::Arc;
use std::time::Duration;

use api::keda::{ScaleTrigger, ScaledObject};
use kube::ResourceExt;
use scalers::{
    Authentication, BuildError, Cluster, Http, MetricSpec, MetricType, Notice, Scaler, TriggerContext, resource,
};
use scaling::hpa::HpaMetric;
use tokio::time::Instant;

use crate::metrics::{Metrics, TriggerLabels};
use crate::object::{ObjectKey, polling_interval};
use crate::read::{Cell, Outcome};

/// Oldest value an HPA question is answered with, unless the trigger asks for cached metrics. The HPA controller asks
/// every 15 s, so this only joins a question with a poll that happened to be near.
const FRESH: Duration = Duration::from_secs(5);

/// The triggers of one generation of one object.
#[derive(Debug)]
pub(crate) struct ObjectSource {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) triggers: Vec<Trigger>,
    /// All metrics of the HPA, in trigger order.
    pub(crate) metrics: Vec<HpaMetric>,
    interval: Duration,
}

/// One trigger that we read.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) scaler: Arc<dyn Scaler>,
    pub(crate) readable: Vec<Readable>,
    pub(crate) notices: Vec<Notice>,
    use_cached: bool,
}

/// One metric that we read.
#[derive(Debug)]
pub(crate) struct Readable {
    pub(crate) spec: MetricSpec,
    pub(crate) labels: Arc<TriggerLabels>,
    cell: Arc<Cell>,
}

/// Who wants a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The poll of the object's actor.
    Poll,
    /// The HPA controller.
    Hpa,
}

impl ObjectSource {
    /// Builds the triggers. Does no I/O.
    ///
    /// # Errors
    /// Every trigger that cannot be used, with the path of its field.
    pub(crate) fn build(
        object: &ScaledObject,
        http: &Arc<Http>,
        cluster: Option<&Arc<dyn Cluster>>,
    ) -> Result<Self, Vec<String>> {
        let key = ObjectKey::of(object);
        let (mut triggers, mut metrics, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (index, written) in object.spec.triggers.iter().enumerate() {
            let built = build_trigger(&key, index, written, http, cluster);
            match built {
                Ok(Built::Resource(metric)) => metrics.push(metric),
                Ok(Built::External(trigger)) => {
                    metrics.extend(trigger.readable.iter().map(|readable| HpaMetric::External {
                        name: readable.spec.name.clone(),
                        target: readable.spec.target,
                    }));
                    triggers.push(trigger);
                }
                Err(error) => wrong.extend(
                    error.each().map(|(field, what)| format!("spec.triggers[{index}].{}: {what}", path(field))),
                ),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            triggers,
            metrics,
            interval: polling_interval(object),
        })
    }

    /// The trigger and its part that give this metric.
    pub(crate) fn find(&self, metric: &str) -> Option<(&Trigger, &Readable)> {
        self.triggers.iter().find_map(|t| t.readable.iter().find(|r| r.spec.name == metric).map(|r| (t, r)))
    }

    /// Reads one metric, or takes the value that was read a moment ago.
    pub(crate) async fn read(
        &self,
        trigger: &Trigger,
        readable: &Readable,
        asker: Asker,
        metrics: &Arc<Metrics>,
    ) -> Outcome {
        let (scaler, name, labels, metrics) = (
            Arc::clone(&trigger.scaler),
            readable.spec.name.clone(),
            Arc::clone(&readable.labels),
            Arc::clone(metrics),
        );
        readable
            .cell
            .read(self.max_age(trigger, asker), move || async move {
                let began = Instant::now();
                let outcome = scaler.sample(&name).await.map_err(|error| Arc::from(error.text()));
                metrics.read(&labels, &outcome, began.elapsed());
                outcome
            })
            .await
    }

    fn max_age(&self, trigger: &Trigger, asker: Asker) -> Duration {
        match asker {
            // A poll is wanted now; it only joins a read that is under way or has just ended.
            Asker::Poll => (self.interval / 4).min(Duration::from_secs(1)),
            Asker::Hpa if trigger.use_cached => self.interval + self.interval / 5,
            Asker::Hpa => (self.interval / 2).min(FRESH),
        }
    }
}

enum Built {
    Resource(HpaMetric),
    External(Trigger),
}

fn build_trigger(
    key: &ObjectKey,
    index: usize,
    written: &ScaleTrigger,
    http: &Arc<Http>,
    cluster: Option<&Arc<dyn Cluster>>,
) -> Result<Built, BuildError> {
    let authentication = match written.authentication_ref {
        Some(_) => Authentication::Unresolved,
        None => Authentication::None,
    };
    let context = TriggerContext {
        metric_type: written.metric_type.as_deref().map(MetricType::parse).transpose()?,
        authentication,
        cluster,
        namespace: &key.namespace,
        name: &key.name,
        ..TriggerContext::new(index, &written.metadata, http)
    };
    if resource::is_resource(&written.r#type) {
        return resource::metric(&written.r#type, &context).map(Built::Resource);
    }
    let scaler = scalers::build(&written.r#type, &context)?;
    let name = written.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| scaler.type_name().to_owned());
    let readable = scaler
        .metrics()
        .iter()
        .map(|spec| Readable {
            spec: spec.clone(),
            labels: Arc::new(TriggerLabels::new(key, &spec.name, &name, index)),
            cell: Arc::default(),
        })
        .collect();
    let notices = scaler
        .notices()
        .iter()
        .map(|n| Notice { field: format!("triggers[{index}].{}", path(&n.field)), message: n.message.clone() })
        .collect();
    Ok(Built::External(Trigger { scaler, readable, notices, use_cached: written.use_cached_metrics }))
}

/// Where a field of a scaler is in a trigger.
fn path(field: &str) -> String {
    match field {
        "type" | "metricType" | "authenticationRef" => field.to_owned(),
        // A parameter of the TriggerAuthentication: `authenticationRef password`.
        other if other.starts_with("authenticationRef ") => other.to_owned(),
        other => format!("metadata.{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(triggers: &serde_json::Value) -> ScaledObject {
        let spec = serde_json::json!({"scaleTargetRef": {"name": "web"}, "triggers": triggers});
        let mut object = ScaledObject::new("web", serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("shop".into());
        object
    }

    fn http() -> Arc<Http> {
        Arc::new(Http::new(scalers::HTTP_TIMEOUT))
    }

    #[test]
    fn resource_triggers_use_up_an_index() {
        let source = ObjectSource::build(
            &object(&serde_json::json!([
                {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}},
                {"type": "prometheus", "metadata": {"serverAddress": "http://p", "query": "up", "threshold": "5"}},
            ])),
            &http(),
            None,
        )
        .unwrap();
        assert_eq!(source.metrics.len(), 2);
        assert!(source.find("s1-prometheus").is_some());
        assert!(source.find("s0-prometheus").is_none());
    }

    #[test]
    fn every_wrong_trigger_is_named_with_its_field() {
        let wrong = ObjectSource::build(
            &object(&serde_json::json!([
                {"type": "rabbitmq", "metadata": {}},
                {"type": "prometheus", "metadata": {"serverAddress": "http://p", "query": "up"}},
                {"type": "prometheus", "metadata": {}, "authenticationRef": {"name": "a"}},
            ])),
            &http(),
            None,
        )
        .unwrap_err();
        let begin: Vec<&str> = wrong.iter().filter_map(|w| w.split(": ").next()).collect();
        assert_eq!(
            begin,
            ["spec.triggers[0].type", "spec.triggers[1].metadata.threshold", "spec.triggers[2].authenticationRef"]
        );
    }
}
