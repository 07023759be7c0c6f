//! cpu and memory: metrics that the HPA reads from the metrics server by itself.
//!
//! They are never polled, always count as active, and cannot scale to or from zero on their own.

use scaling::hpa::{HpaMetric, ResourceTarget};

use crate::context::{MetricType, TriggerContext};
use crate::error::BuildError;
use crate::metadata::{TriggerMetadata, parse};

/// CPU that the pods use. The HPA reads it from the metrics server by itself; it is always active, and cannot scale to zero
/// on its own. `metricType` beside `metadata` must be `Utilization` (per cent of the request) or `AverageValue`.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Cpu {
    #[param(nested)]
    resource: Resource,
}

/// Memory that the pods use. The HPA reads it from the metrics server by itself; it is always active, and cannot scale to
/// zero on its own. `metricType` beside `metadata` must be `Utilization` (per cent of the request) or `AverageValue`.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Memory {
    #[param(nested)]
    resource: Resource,
}

/// The settings of both.
#[derive(Debug, TriggerMetadata)]
#[trigger(removed("type", "the metadata key `type` was removed in KEDA 2.18; write metricType beside metadata"))]
struct Resource {
    /// Per cent of the request for `Utilization`, a quantity (`500m`, `2Gi`) for `AverageValue`.
    value: String,
    /// Count only this container of each pod.
    container_name: Option<String>,
}

/// Whether triggers of this type are resource metrics.
pub fn is_resource(trigger_type: &str) -> bool {
    matches!(trigger_type, "cpu" | "memory")
}

/// The HPA metric of a cpu or memory trigger.
///
/// # Errors
/// The error names the fields that are wrong.
pub fn metric(trigger_type: &str, context: &TriggerContext<'_>) -> Result<HpaMetric, BuildError> {
    let (resource, settings) = match trigger_type {
        "cpu" => ("cpu", parse::<Cpu>(context)?.0.resource),
        "memory" => ("memory", parse::<Memory>(context)?.0.resource),
        other => return Err(BuildError::new("type", format!("{other:?} is not cpu or memory"))),
    };
    let value = settings.value;
    let target = match context.metric_type {
        Some(MetricType::Utilization) => match value.parse::<i32>() {
            Ok(percent) if percent > 0 => ResourceTarget::Utilization(percent),
            _ => return Err(BuildError::new("value", format!("{value:?} is not a whole number of per cent above 0"))),
        },
        Some(MetricType::AverageValue) => {
            let quantity: units::Quantity =
                value.parse().map_err(|e| BuildError::new("value", format!("{value:?} is not a quantity: {e}")))?;
            ResourceTarget::AverageValue(quantity.to_string())
        }
        Some(MetricType::Value) | None => {
            return Err(BuildError::new("metricType", format!("{resource} needs Utilization or AverageValue")));
        }
    };
    Ok(match settings.container_name {
        Some(container) => HpaMetric::ContainerResource { resource, container, target },
        None => HpaMetric::Resource { resource, target },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::http::{HTTP_TIMEOUT, Http};

    fn parse(metric_type: Option<MetricType>, metadata: &[(&str, &str)]) -> Result<HpaMetric, String> {
        let metadata: BTreeMap<String, String> =
            metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let http = Arc::new(Http::new(HTTP_TIMEOUT));
        let context = TriggerContext { metric_type, ..TriggerContext::new(0, &metadata, &http) };
        metric("cpu", &context).map_err(|e| e.to_string())
    }

    #[test]
    fn a_cpu_trigger_becomes_a_resource_metric() {
        let utilization = Some(MetricType::Utilization);
        assert_eq!(
            parse(utilization, &[("value", "60")]),
            Ok(HpaMetric::Resource { resource: "cpu", target: ResourceTarget::Utilization(60) })
        );
        assert_eq!(
            parse(Some(MetricType::AverageValue), &[("value", "500m"), ("containerName", "app")]),
            Ok(HpaMetric::ContainerResource {
                resource: "cpu",
                container: "app".into(),
                target: ResourceTarget::AverageValue("500m".into())
            })
        );
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let utilization = Some(MetricType::Utilization);
        for (metric_type, metadata, field) in [
            (None, vec![("value", "60")], "metricType: "),
            (Some(MetricType::Value), vec![("value", "60")], "metricType: "),
            (utilization, vec![], "value: "),
            (utilization, vec![("value", "60%")], "value: "),
            (utilization, vec![("value", "60"), ("type", "Utilization")], "type: "),
        ] {
            let error = parse(metric_type, &metadata).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
