//! Triggers whose metrics only their source knows.

use std::sync::Arc;

use api::keda::ScaleTrigger;
use futures::future::try_join_all;
use scalers::{MetricSpec, catalog};

use super::{Cell, ObjectSource, Readable, Subject, Trigger, TriggerLabels};

/// Whether one of the triggers has to be asked which metrics it has.
pub(crate) fn asks(triggers: &[ScaleTrigger]) -> bool {
    triggers.iter().any(|trigger| catalog::find(&trigger.r#type).is_some_and(|found| found.discovers))
}

impl ObjectSource {
    /// Asks the sources that alone know which metrics they have, if they were not asked before.
    ///
    /// # Errors
    /// The path of a trigger whose source does not say. Without its metrics the HPA would be another one, so none is made.
    pub(crate) async fn discover(mut self, subject: &Subject<'_>) -> Result<Self, Vec<String>> {
        let asked = self.triggers.iter().filter(|trigger| trigger.readable.is_empty()).map(|trigger| async {
            let specs = trigger.scaler.discover().await.map_err(|error| {
                vec![format!("spec.triggers[{}]: its metrics are not known: {}", trigger.index, error.text())]
            })?;
            Ok::<_, Vec<String>>((trigger.index, specs))
        });
        for (index, specs) in try_join_all(asked).await? {
            self.add(subject, index, &specs);
        }
        Ok(self)
    }

    /// Puts a trigger's metrics where they would be had they been known from the beginning.
    fn add(&mut self, subject: &Subject<'_>, index: usize, specs: &[MetricSpec]) {
        let before = |trigger: &Arc<Trigger>| trigger.index < index;
        let external: Vec<usize> = self.triggers.iter().filter(|t| before(t)).map(|t| t.readable.len()).collect();
        // A trigger that we do not read (cpu, memory) has one metric.
        let place = index - external.len() + external.iter().sum::<usize>();
        let Some(trigger) = self.triggers.iter_mut().find(|trigger| trigger.index == index) else { return };
        let known = Arc::new(trigger.knowing(subject, specs));
        // A formula has made one metric of all that we read.
        if self.modifiers.is_none() {
            self.metrics.splice(place..place, known.metrics());
        }
        *trigger = known;
    }
}

impl Trigger {
    /// The same trigger with these metrics.
    fn knowing(&self, subject: &Subject<'_>, specs: &[MetricSpec]) -> Self {
        let name = self.name.clone().unwrap_or_else(|| self.scaler.type_name().to_owned());
        let readable = |spec: &MetricSpec| Readable {
            spec: spec.clone(),
            labels: Arc::new(TriggerLabels::new(
                subject.kind,
                &subject.key(),
                &spec.name,
                self.scaler.type_name(),
                &name,
                self.index,
            )),
            cell: Arc::<Cell>::default(),
        };
        Self {
            scaler: Arc::clone(&self.scaler),
            readable: specs.iter().map(readable).collect(),
            notices: self.notices.clone(),
            use_cached: self.use_cached,
            name: self.name.clone(),
            index: self.index,
            given: self.given.clone(),
            blocked: self.blocked.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use api::keda::ScaledObject;
    use scalers::{Http, Sampled, Scaler, ScalerError};
    use scaling::Target;
    use scaling::hpa::HpaMetric;
    use serde_json::json;

    use super::*;
    use crate::credentials::Credentials;

    /// Has two metrics, of which it tells when it is asked.
    #[derive(Debug, Default)]
    struct Plugin(AtomicU32);

    #[async_trait::async_trait]
    impl Scaler for Plugin {
        fn type_name(&self) -> &'static str {
            "externalScaler"
        }

        fn metrics(&self) -> &[MetricSpec] {
            &[]
        }

        async fn discover(&self) -> Result<Vec<MetricSpec>, ScalerError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let target = Target::AverageValue("5".parse().unwrap());
            Ok(["s1-a", "s1-b"].map(|name| MetricSpec { name: name.into(), target }).into())
        }

        async fn sample(&self, _: &str) -> Result<Sampled, ScalerError> {
            Err(ScalerError::NoNumber { what: "none".into() })
        }
    }

    fn object() -> ScaledObject {
        let prometheus = json!({"serverAddress": "http://p", "query": "up", "threshold": "5"});
        let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": [
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}},
            {"type": "external", "metadata": {"scalerAddress": "127.0.0.1:1"}},
            {"type": "prometheus", "metadata": prometheus},
        ]});
        ScaledObject::new("web", serde_json::from_value(spec).unwrap())
    }

    fn build(object: &ScaledObject, old: Option<&ObjectSource>) -> ObjectSource {
        let http = Arc::new(Http::new(scalers::HTTP_TIMEOUT));
        let given = [(); 3].map(|()| Ok(Credentials::default()));
        ObjectSource::build(&Subject::object(object), &given, old, &http, None).unwrap()
    }

    fn names(source: &ObjectSource) -> Vec<String> {
        let name = |metric: &HpaMetric| match metric {
            HpaMetric::External { name, .. } => name.clone(),
            _ => "resource".to_owned(),
        };
        source.metrics.iter().map(name).collect()
    }

    #[tokio::test]
    async fn a_source_is_asked_once_and_its_metrics_stand_in_their_place() {
        let (object, plugin) = (object(), Arc::new(Plugin::default()));
        let subject = Subject::object(&object);
        let mut source = build(&object, None);
        assert_eq!(names(&source), ["resource", "s2-prometheus"]);
        let trigger = source.triggers[0].knowing(&subject, &[]);
        source.triggers[0] = Arc::new(Trigger { scaler: Arc::<Plugin>::clone(&plugin), ..trigger });
        let source = source.discover(&subject).await.unwrap();
        let wanted = ["resource", "s1-a", "s1-b", "s2-prometheus"];
        assert_eq!(names(&source), wanted);
        assert!(source.find("s1-b").is_some());
        let again = build(&object, Some(&source)).discover(&subject).await.unwrap();
        assert_eq!((names(&again), plugin.0.load(Ordering::SeqCst)), (wanted.map(str::to_owned).into(), 1));
    }

    #[tokio::test]
    async fn a_source_that_does_not_say_is_named() {
        let object = object();
        let wrong = build(&object, None).discover(&Subject::object(&object)).await.unwrap_err();
        assert!(wrong[0].starts_with("spec.triggers[1]: its metrics are not known: "), "{wrong:?}");
        assert!(asks(&object.spec.triggers) && !asks(&object.spec.triggers[..1]));
    }
}
