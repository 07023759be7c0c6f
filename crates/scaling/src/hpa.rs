//! The HorizontalPodAutoscaler that scales 1..N, as plain values, and the values it is answered with.

use std::collections::BTreeMap;

use thiserror::Error;
use units::Milli;

use crate::fallback::{Fallback, NoFallbackValue};
use crate::modifiers::COMPOSITE;
use crate::name::{default_hpa_name, label_value};
use crate::pause::Pausing;
use crate::sample::{Sample, Target};

/// The label that ties a metric to its object, and the selector the HPA asks with.
pub const OBJECT_LABEL: &str = "scaledobject.keda.sh/name";
/// Names labels of the object that are not copied to the HPA.
pub const EXCLUDED_LABELS: &str = "scaledobject.keda.sh/hpa-excluded-labels";
/// `kubectl apply` keeps the whole object in this annotation; no HPA gets it.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One metric of an HPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HpaMetric {
    /// A metric that we answer.
    External {
        /// `s0-prometheus`.
        name: String,
        /// What its value is compared with.
        target: Target,
    },
    /// cpu or memory of whole pods, which the metrics server answers.
    Resource {
        /// `cpu` or `memory`.
        resource: &'static str,
        /// What usage is compared with.
        target: ResourceTarget,
    },
    /// cpu or memory of one container.
    ContainerResource {
        /// `cpu` or `memory`.
        resource: &'static str,
        /// The container.
        container: String,
        /// What usage is compared with.
        target: ResourceTarget,
    },
}

impl HpaMetric {
    /// KEDA's order: by the type's name, and by trigger within a type.
    fn rank(&self) -> u8 {
        match self {
            Self::ContainerResource { .. } => 0,
            // KEDA puts it behind all others.
            Self::External { name, .. } if name == COMPOSITE => 3,
            Self::External { .. } => 1,
            Self::Resource { .. } => 2,
        }
    }
}

/// What usage of cpu or memory is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceTarget {
    /// Per cent of the request.
    Utilization(i32),
    /// A Kubernetes quantity per pod.
    AverageValue(String),
}

/// The object an HPA is derived from, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// `advanced.horizontalPodAutoscalerConfig.name`.
    pub hpa_name: Option<&'a str>,
}

/// The HPA that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HpaPlan {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// At least 1: an HPA does not scale to zero.
    pub min_replicas: u32,
    /// The most replicas.
    pub max_replicas: u32,
    /// Sorted.
    pub metrics: Vec<HpaMetric>,
    /// Scaling out is switched off by annotation.
    pub scale_up_disabled: bool,
    /// Scaling in is switched off by annotation.
    pub scale_down_disabled: bool,
}

/// No HPA can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// An HPA needs a metric.
    #[error("no trigger gives a metric, so there is nothing to scale by")]
    NoMetrics,
    /// Two triggers give the same name.
    #[error("metric name {0:?} is used by two triggers")]
    SameName(String),
}

/// The HPA for an object, which may choose between the least and the most of these replicas
/// ([`Replicas::of_hpa`](crate::settings::Replicas::of_hpa)).
///
/// Shape and names are KEDA's. Differs: `kubectl`'s record of the applied manifest is not copied, because it makes the HPA
/// look as if it had been applied by hand; the sort keeps the triggers' order.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(
    source: Source<'_>,
    (min_replicas, max_replicas): (u32, u32),
    pausing: &Pausing,
    mut metrics: Vec<HpaMetric>,
    version: &str,
) -> Result<HpaPlan, PlanError> {
    if metrics.is_empty() {
        return Err(PlanError::NoMetrics);
    }
    let mut seen = Vec::new();
    for metric in &metrics {
        if let HpaMetric::External { name, .. } = metric {
            if seen.contains(&name) {
                return Err(PlanError::SameName(name.clone()));
            }
            seen.push(name);
        }
    }
    metrics.sort_by_key(HpaMetric::rank);
    let name = source.hpa_name.map_or_else(|| default_hpa_name(source.name), str::to_owned);
    let excluded: Vec<&str> = source
        .annotations
        .get(EXCLUDED_LABELS)
        .map(|list| list.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let mut labels: BTreeMap<String, String> = source
        .labels
        .iter()
        .filter(|(key, _)| !excluded.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in [
        ("app.kubernetes.io/name", label_value(&name)),
        ("app.kubernetes.io/version", version.to_owned()),
        ("app.kubernetes.io/part-of", label_value(source.name)),
        ("app.kubernetes.io/managed-by", "keda-operator".to_owned()),
    ] {
        labels.entry(key.to_owned()).or_insert(value);
    }
    let annotations = source
        .annotations
        .iter()
        .filter(|(key, _)| key.as_str() != LAST_APPLIED)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok(HpaPlan {
        name,
        labels,
        annotations,
        min_replicas,
        max_replicas,
        metrics,
        scale_up_disabled: pausing.scale_out,
        scale_down_disabled: pausing.scale_in,
    })
}

/// Why the HPA is not told a value. It then leaves the target alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// The source gave no number, and no fallback is in force.
    #[error("{why}")]
    Unknown {
        /// What the source said.
        why: String,
    },
    /// The source gave no number, and the fallback has none either.
    #[error("{why}; {fallback}")]
    Fallback {
        /// What the source said.
        why: String,
        /// Why the fallback does not help.
        fallback: NoFallbackValue,
    },
}

/// The value to answer the HPA with.
///
/// A number is passed on exactly; a negative one reads as 0, as in KEDA. Without a number the fallback answers, once it
/// applies (`failures` in a row); before that there is no answer. `current` and `ready` are the target's replicas and how
/// many of them are ready, `None` when they are not known.
///
/// # Errors
/// See [`NoAnswer`].
pub fn answer(
    sample: &Sample,
    target: Target,
    fallback: Option<(&Fallback, u32)>,
    current: Option<u32>,
    ready: Option<u32>,
) -> Result<Milli, NoAnswer> {
    match (sample, fallback) {
        (Sample::Value(value), _) => Ok((*value).max(Milli::from_thousandths(0))),
        (Sample::Unknown { why }, Some((fallback, failures))) if fallback.applies(failures) => {
            fallback.value(target, current, ready).map_err(|fallback| NoAnswer::Fallback { why: why.clone(), fallback })
        }
        (Sample::Unknown { why }, _) => Err(NoAnswer::Unknown { why: why.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fallback::FallbackBehavior;

    fn external(name: &str) -> HpaMetric {
        HpaMetric::External { name: name.into(), target: Target::AverageValue(Milli::from_thousandths(5_000)) }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn planned(
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
        metrics: Vec<HpaMetric>,
    ) -> HpaPlan {
        let source = Source { name: "web", labels, annotations, hpa_name: None };
        plan(source, (1, 100), &Pausing::default(), metrics, "0.1.0").unwrap()
    }

    #[test]
    fn the_hpa_has_the_name_labels_and_bounds_people_expect() {
        let hpa = planned(&map(&[("team", "a")]), &map(&[("note", "x")]), vec![external("s0-prometheus")]);
        assert_eq!((hpa.name.as_str(), hpa.min_replicas, hpa.max_replicas), ("keda-hpa-web", 1, 100));
        assert_eq!(
            hpa.labels,
            map(&[
                ("app.kubernetes.io/managed-by", "keda-operator"),
                ("app.kubernetes.io/name", "keda-hpa-web"),
                ("app.kubernetes.io/part-of", "web"),
                ("app.kubernetes.io/version", "0.1.0"),
                ("team", "a"),
            ])
        );
        assert_eq!(hpa.annotations, map(&[("note", "x")]));
    }

    #[test]
    fn excluded_labels_and_the_applied_manifest_are_not_copied() {
        let annotations = map(&[(EXCLUDED_LABELS, "argo, team"), (LAST_APPLIED, "{}")]);
        let hpa = planned(&map(&[("team", "a"), ("argo", "b"), ("tier", "c")]), &annotations, vec![external("s0-x")]);
        assert_eq!((hpa.labels.get("team"), hpa.labels.get("argo")), (None, None));
        assert_eq!(hpa.labels.get("tier").map(String::as_str), Some("c"));
        assert!(!hpa.annotations.contains_key(LAST_APPLIED));
    }

    #[test]
    fn metrics_are_sorted_by_type_and_stay_in_trigger_order() {
        let cpu = HpaMetric::Resource { resource: "cpu", target: ResourceTarget::Utilization(60) };
        let container = HpaMetric::ContainerResource {
            resource: "memory",
            container: "app".into(),
            target: ResourceTarget::AverageValue("1Gi".into()),
        };
        let hpa = planned(
            &BTreeMap::new(),
            &BTreeMap::new(),
            vec![cpu.clone(), external("s2-b"), external("s1-a"), container.clone()],
        );
        assert_eq!(hpa.metrics, [container, external("s2-b"), external("s1-a"), cpu.clone()]);
        let composite = external(COMPOSITE);
        let hpa = planned(&BTreeMap::new(), &BTreeMap::new(), vec![composite.clone(), cpu.clone()]);
        assert_eq!(hpa.metrics, [cpu, composite]);
    }

    #[test]
    fn an_hpa_needs_metrics_with_different_names() {
        let empty = BTreeMap::new();
        let source = Source { name: "web", labels: &empty, annotations: &empty, hpa_name: Some("mine") };
        let bounds = (1, 2);
        let with = |metrics| plan(source, bounds, &Pausing::default(), metrics, "v");
        assert_eq!(with(vec![]), Err(PlanError::NoMetrics));
        assert_eq!(with(vec![external("a"), external("a")]), Err(PlanError::SameName("a".into())));
        assert_eq!(with(vec![external("a")]).unwrap().name, "mine");
    }

    #[test]
    fn the_hpa_is_answered_exactly_or_not_at_all() {
        let target = Target::AverageValue(Milli::from_thousandths(5_000));
        let fallback = Fallback { failure_threshold: 1, replicas: 4, behavior: FallbackBehavior::Static };
        let zero = Fallback { replicas: 0, ..fallback };
        let value = |milli| Sample::Value(Milli::from_thousandths(milli));
        let unknown = Sample::Unknown { why: "timed out".into() };
        let say = |sample: &Sample, fallback: Option<(&Fallback, u32)>| match answer(
            sample,
            target,
            fallback,
            Some(3),
            Some(3),
        ) {
            Ok(value) => value.to_quantity_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(say(&value(12_345), None), "12345m");
        assert_eq!(say(&value(-7), None), "0");
        assert_eq!(say(&unknown, None), "timed out");
        assert_eq!(say(&unknown, Some((&fallback, 1))), "timed out");
        assert_eq!(say(&unknown, Some((&fallback, 2))), "20");
        assert_eq!(
            say(&unknown, Some((&zero, 2))),
            "timed out; the fallback is to 0 replicas, and an unknown metric does not scale in"
        );
    }
}
