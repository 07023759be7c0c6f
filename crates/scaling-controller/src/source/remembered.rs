//! What is known of a trigger that this process never could make: its HPA asks for its metrics.
//!
//! A program that starts, or takes over, while a Secret is gone knows no less than the one before it: the trigger fails like
//! one whose source cannot be read, its failures count, and a fallback begins. Without this the whole object would stop.

use std::sync::Arc;

use api::keda::{ScaleTrigger, ScaledObject};
use async_trait::async_trait;
use k8s_openapi::api::autoscaling::v2::MetricTarget;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use scalers::{BuildError, MetricSpec, Sampled, Scaler, ScalerError, catalog};
use scaling::{COMPOSITE, Target};

use super::{Failure, Subject, Trigger, located};
use crate::hpa::owned_by;
use crate::known_hpa::KnownHpa;

/// The metrics of an object as its status and its HPA have them; none without an HPA of its own.
pub(crate) fn remembered(object: &ScaledObject, hpa: Option<&KnownHpa>) -> Vec<MetricSpec> {
    let metrics = hpa.filter(|hpa| owned_by(*hpa, object)).and_then(|hpa| hpa.whole().spec.metrics).unwrap_or_default();
    let external = metrics.iter().filter_map(|metric| metric.external.as_ref());
    let asked: Vec<(&str, Target)> =
        external.filter_map(|metric| Some((metric.metric.name.as_str(), target(&metric.target)?))).collect();
    // A formula makes one metric of several, and is compared with a target of its own.
    let of = |name: &str| asked.iter().find(|(known, _)| [name, COMPOSITE].contains(known)).map(|(_, target)| *target);
    let names = object.status.iter().flat_map(|status| &status.external_metric_names);
    names.filter_map(|name| Some(MetricSpec { name: name.clone(), target: of(name)? })).collect()
}

fn target(asked: &MetricTarget) -> Option<Target> {
    let amount = |of: &Option<Quantity>| of.as_ref().and_then(|quantity| quantity.0.parse().ok());
    amount(&asked.average_value).map(Target::AverageValue).or_else(|| amount(&asked.value).map(Target::Value))
}

/// Those of one trigger.
pub(super) fn of_trigger(remembered: &[MetricSpec], index: usize) -> Vec<MetricSpec> {
    let begin = format!("s{index}-");
    remembered.iter().filter(|spec| spec.name.starts_with(&begin)).cloned().collect()
}

impl Trigger {
    /// A trigger that is not to be read because of `failure`, which `error` tells; nothing if nobody remembers its metrics.
    pub(super) fn remembered(
        subject: &Subject<'_>,
        index: usize,
        written: &ScaleTrigger,
        failure: &Failure,
        error: &BuildError,
    ) -> Option<Self> {
        let specs = of_trigger(subject.remembered, index);
        if specs.is_empty() {
            return None;
        }
        let scaler = Unmade { label: catalog::find(&written.r#type)?.label };
        let unmade = Self {
            scaler: Arc::new(scaler),
            readable: Vec::new(),
            notices: Vec::new(),
            use_cached: written.use_cached_metrics,
            name: written.name.clone().filter(|name| !name.is_empty()),
            index,
            given: Err(failure.clone()),
            blocked: Some(located(index, error).join("; ").into()),
        };
        Some(unmade.knowing(subject, &specs))
    }
}

/// Stands in for the scaler of such a trigger; the trigger is blocked, so nobody reads it.
#[derive(Debug)]
struct Unmade {
    label: &'static str,
}

#[async_trait]
impl Scaler for Unmade {
    fn type_name(&self) -> &'static str {
        self.label
    }

    fn metrics(&self) -> &[MetricSpec] {
        &[]
    }

    async fn sample(&self, _: &str) -> Result<Sampled, ScalerError> {
        Err(ScalerError::NoNumber { what: "the trigger was never made".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use api::keda::ScaledObjectStatus;
    use serde_json::{Value, json};

    use super::*;

    fn object(names: &[&str]) -> ScaledObject {
        let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": []});
        let mut object = ScaledObject::new("web", serde_json::from_value(spec).unwrap());
        object.metadata.uid = Some("u".into());
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        object.status = Some(ScaledObjectStatus { external_metric_names: names, ..ScaledObjectStatus::default() });
        object
    }

    fn hpa(owner: &str, metrics: &[(&str, Value)]) -> KnownHpa {
        let metric = |(name, target): &(&str, Value)| json!({"type": "External", "external": {"metric": {"name": name}, "target": target}});
        let owner = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": owner}]);
        serde_json::from_value(json!({
            "metadata": {"ownerReferences": owner},
            "spec": {
                "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "metrics": metrics.iter().map(metric).collect::<Vec<_>>(),
            },
        }))
        .unwrap()
    }

    fn found(object: &ScaledObject, hpa: &KnownHpa) -> Vec<(String, Target)> {
        remembered(object, Some(hpa)).into_iter().map(|spec| (spec.name, spec.target)).collect()
    }

    #[test]
    fn metrics_are_those_that_its_own_hpa_asks_for() {
        let average = json!({"type": "AverageValue", "averageValue": "2500m"});
        let value = json!({"type": "Value", "value": "7"});
        let metrics = [("s0-prometheus", average), ("s2-mysql", value)];
        let known = found(&object(&["s0-prometheus", "s2-mysql", "s3-new"]), &hpa("u", &metrics));
        let wanted = [
            ("s0-prometheus".to_owned(), Target::AverageValue("2.5".parse().unwrap())),
            ("s2-mysql".to_owned(), Target::Value("7".parse().unwrap())),
        ];
        assert_eq!(known, wanted);
        assert!(found(&object(&["s0-prometheus"]), &hpa("another", &metrics)).is_empty());
        assert!(remembered(&object(&["s0-prometheus"]), None).is_empty());
    }

    #[test]
    fn what_a_formula_is_made_of_is_in_the_status_alone() {
        let metrics = [("composite-metric", json!({"type": "AverageValue", "averageValue": "4"}))];
        let known = found(&object(&["s0-prometheus", "s1-mysql"]), &hpa("u", &metrics));
        assert_eq!(known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["s0-prometheus", "s1-mysql"]);
    }

    #[test]
    fn a_trigger_has_the_metrics_of_its_index() {
        let spec = |name: &str| MetricSpec { name: name.into(), target: Target::Value("1".parse().unwrap()) };
        let all = ["s1-a", "s10-b", "s1-c"].map(spec);
        assert_eq!(of_trigger(&all, 1), ["s1-a", "s1-c"].map(spec));
    }
}
