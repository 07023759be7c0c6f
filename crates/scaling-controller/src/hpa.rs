//! The HorizontalPodAutoscaler object: how it should be, and whether it still is.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use api::keda::{SCALED_OBJECT_LABEL, ScaledObject};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, ExternalMetricSource, HPAScalingPolicy,
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use scaling::Target;
use scaling::hpa::{HpaMetric, HpaPlan, ResourceTarget};
use scaling::settings::Replicas;
use serde_json::Value;
use units::ResourceName;

/// The object a plan describes.
pub(crate) fn object(owner: &ScaledObject, plan: &HpaPlan) -> HorizontalPodAutoscaler {
    let name = owner.name_any();
    let target = &owner.spec.scale_target_ref;
    HorizontalPodAutoscaler {
        metadata: ObjectMeta {
            name: Some(plan.name.clone()),
            namespace: owner.namespace(),
            labels: Some(plan.labels.clone()),
            annotations: (!plan.annotations.is_empty()).then(|| plan.annotations.clone()),
            owner_references: owner_reference(owner).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(target.effective_api_version().to_owned()),
                kind: target.effective_kind().to_owned(),
                name: target.name.clone(),
            },
            min_replicas: Some(signed(plan.min_replicas)),
            max_replicas: signed(plan.max_replicas),
            metrics: Some(plan.metrics.iter().map(|metric| metric_spec(metric, &name)).collect()),
            behavior: behavior(owner, plan),
        },
        status: None,
    }
}

/// As KEDA writes it: who deletes the owner in the foreground waits for the HPA.
fn owner_reference(owner: &ScaledObject) -> Option<OwnerReference> {
    let reference = owner.controller_owner_ref(&())?;
    Some(OwnerReference { block_owner_deletion: Some(true), ..reference })
}

fn metric_spec(metric: &HpaMetric, object: &str) -> MetricSpec {
    match metric {
        HpaMetric::External { name, target } => MetricSpec {
            type_: "External".to_owned(),
            external: Some(ExternalMetricSource {
                metric: MetricIdentifier {
                    name: name.clone(),
                    selector: Some(LabelSelector {
                        match_labels: Some([(SCALED_OBJECT_LABEL.to_owned(), object.to_owned())].into()),
                        ..LabelSelector::default()
                    }),
                },
                target: external_target(*target),
            }),
            ..MetricSpec::default()
        },
        HpaMetric::Resource { resource, target } => MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource { name: (*resource).to_owned(), target: resource_target(target) }),
            ..MetricSpec::default()
        },
        HpaMetric::ContainerResource { resource, container, target } => MetricSpec {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricSource {
                name: (*resource).to_owned(),
                container: container.clone(),
                target: resource_target(target),
            }),
            ..MetricSpec::default()
        },
    }
}

fn external_target(target: Target) -> MetricTarget {
    let amount = Some(Quantity(target.amount().to_quantity_string()));
    match target {
        Target::AverageValue(_) => {
            MetricTarget { type_: "AverageValue".to_owned(), average_value: amount, ..MetricTarget::default() }
        }
        Target::Value(_) => MetricTarget { type_: "Value".to_owned(), value: amount, ..MetricTarget::default() },
    }
}

fn resource_target(target: &ResourceTarget) -> MetricTarget {
    match target {
        ResourceTarget::Utilization(percent) => MetricTarget {
            type_: "Utilization".to_owned(),
            average_utilization: Some(*percent),
            ..MetricTarget::default()
        },
        ResourceTarget::AverageValue(quantity) => MetricTarget {
            type_: "AverageValue".to_owned(),
            average_value: Some(Quantity(quantity.clone())),
            ..MetricTarget::default()
        },
    }
}

/// The manifest's behaviour, with the directions switched off that annotations pause.
fn behavior(owner: &ScaledObject, plan: &HpaPlan) -> Option<HorizontalPodAutoscalerBehavior> {
    let written = owner
        .spec
        .advanced
        .as_ref()
        .and_then(|advanced| advanced.horizontal_pod_autoscaler_config.as_ref())
        .and_then(|config| config.behavior.clone());
    if !plan.scale_up_disabled && !plan.scale_down_disabled {
        return written;
    }
    let mut behavior = written.unwrap_or_default();
    let disable = |rules: Option<HPAScalingRules>| {
        Some(HPAScalingRules { select_policy: Some("Disabled".to_owned()), ..rules.unwrap_or_default() })
    };
    if plan.scale_up_disabled {
        behavior.scale_up = disable(behavior.scale_up);
    }
    if plan.scale_down_disabled {
        behavior.scale_down = disable(behavior.scale_down);
    }
    Some(behavior)
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Whether the HPA holds its target at the idle count.
pub(crate) fn at_rest(hpa: &HorizontalPodAutoscaler, replicas: Replicas) -> bool {
    let idle = replicas.idle.map(signed).filter(|idle| *idle > 0);
    idle.is_some_and(|idle| (hpa.spec.min_replicas, hpa.spec.max_replicas) == (Some(idle), idle))
}

/// Whether the HPA belongs to this very object.
pub(crate) fn owned_by(hpa: &impl Resource, owner: &ScaledObject) -> bool {
    let uid = owner.metadata.uid.as_deref();
    uid.is_some() && hpa.meta().owner_references.iter().flatten().any(|reference| Some(reference.uid.as_str()) == uid)
}

/// Whether the HPA compares a metric with what the object wants it compared with, if it does. One that does not ask for it at all
/// is nobody whom a value could mislead.
pub(crate) fn compares_with(hpa: &HorizontalPodAutoscaler, metric: &str, wanted: Option<Target>) -> bool {
    let mut asked = hpa.spec.metrics.iter().flatten().filter_map(|metric| metric.external.as_ref());
    let Some(found) = asked.find(|asked| asked.metric.name == metric).map(|asked| &asked.target) else { return true };
    let Some(wanted) = wanted.map(external_target) else { return false };
    found.type_ == wanted.type_
        && same(found.value.as_ref(), wanted.value.as_ref())
        && same(found.average_value.as_ref(), wanted.average_value.as_ref())
}

/// Whether two quantities are the same number, however they are written.
fn same(a: Option<&Quantity>, b: Option<&Quantity>) -> bool {
    let amount =
        |quantity: &Quantity| quantity.0.parse::<units::Quantity>().ok()?.to_amount_ceil(&ResourceName::cpu()).ok();
    a == b || a.zip(b).is_some_and(|(a, b)| amount(a).is_some() && amount(a) == amount(b))
}

/// Whether the HPA could not have the scale of its target when it looked last. The target may be back since.
pub(crate) fn misses_its_target(hpa: &HorizontalPodAutoscaler) -> bool {
    unable(hpa).is_some_and(|condition| condition.reason.as_deref() == Some("FailedGetScale"))
}

/// The HPA's own word that it cannot scale at all. Its word about its metrics is from before that.
pub(crate) fn unable(hpa: &HorizontalPodAutoscaler) -> Option<&HorizontalPodAutoscalerCondition> {
    let conditions = hpa.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "AbleToScale" && condition.status == "False")
}

/// What we wrote and what the API server made of it.
///
/// The API server fills in defaults that depend on its version, so the written object is not what is found later. What it
/// answered to the write is, and any difference from that is somebody's edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Baseline {
    desired: u64,
    stored: u64,
    version: Option<u64>,
}

/// How a found HPA compares with the desired one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As it should be.
    InSync(Baseline),
    /// Older than our last write: the watch is behind.
    Stale,
    /// To be written again.
    Differs,
}

impl Baseline {
    /// Remembers the answer to a write.
    pub(crate) fn of(desired: &HorizontalPodAutoscaler, stored: &HorizontalPodAutoscaler) -> Self {
        Self { desired: hash(&essence(desired)), stored: hash(&asked_of(stored, desired)), version: version(stored) }
    }

    /// Whether nothing has changed since: the same is wanted, and this is the version that was found or written then.
    pub(crate) fn is(&self, desired: &HorizontalPodAutoscaler, found: &impl Resource) -> bool {
        self.version.is_some() && self.version == version(found) && self.desired == hash(&essence(desired))
    }
}

/// Compares. Without a baseline (a new leader) an HPA that contains all that is desired is taken as it is.
pub(crate) fn compare(
    baseline: Option<Baseline>,
    desired: &HorizontalPodAutoscaler,
    found: &HorizontalPodAutoscaler,
) -> Found {
    let now = Baseline::of(desired, found);
    match baseline {
        Some(known) if known.version.zip(now.version).is_some_and(|(wrote, found)| found < wrote) => Found::Stale,
        Some(known) if (known.desired, known.stored) == (now.desired, now.stored) => Found::InSync(now),
        None if contains(&essence(found), &essence(desired)) && behaves(found, desired) => Found::InSync(now),
        Some(_) | None => Found::Differs,
    }
}

/// Whether the found behaviour is what the API server makes of the desired one. A rule more may keep it from scaling at all.
fn behaves(found: &HorizontalPodAutoscaler, desired: &HorizontalPodAutoscaler) -> bool {
    found.spec.behavior == desired.spec.behavior.clone().map(with_defaults)
}

/// Fills in what `autoscaling/v2` does where there is a behaviour at all.
fn with_defaults(behavior: HorizontalPodAutoscalerBehavior) -> HorizontalPodAutoscalerBehavior {
    let policy = |type_: &str, value| HPAScalingPolicy { type_: type_.to_owned(), value, period_seconds: 15 };
    let filled = |rules: Option<HPAScalingRules>, window, policies: Vec<HPAScalingPolicy>| {
        let rules = rules.unwrap_or_default();
        Some(HPAScalingRules {
            stabilization_window_seconds: rules.stabilization_window_seconds.or(window),
            select_policy: rules.select_policy.or_else(|| Some("Max".to_owned())),
            policies: rules.policies.or(Some(policies)),
            ..rules
        })
    };
    HorizontalPodAutoscalerBehavior {
        scale_up: filled(behavior.scale_up, Some(0), vec![policy("Pods", 4), policy("Percent", 100)]),
        scale_down: filled(behavior.scale_down, None, vec![policy("Percent", 100)]),
    }
}

fn version(hpa: &impl Resource) -> Option<u64> {
    hpa.meta().resource_version.as_deref().and_then(|version| version.parse().ok())
}

/// Spec, labels, annotations and owners.
fn essence(hpa: &HorizontalPodAutoscaler) -> Value {
    serde_json::json!({
        "labels": hpa.metadata.labels,
        "annotations": hpa.metadata.annotations,
        "owners": hpa.metadata.owner_references,
        "spec": hpa.spec,
    })
}

/// The same without the labels and annotations that others have added: they may stay, as with KEDA, or we would take off for ever
/// what a policy engine or a deployment tool puts there again.
fn asked_of(found: &HorizontalPodAutoscaler, desired: &HorizontalPodAutoscaler) -> Value {
    let mut essence = essence(found);
    for (key, ours) in [("labels", &desired.metadata.labels), ("annotations", &desired.metadata.annotations)] {
        let Value::Object(mut found) = essence[key].take() else { continue };
        found.retain(|name, _| ours.as_ref().is_some_and(|ours| ours.contains_key(name)));
        if !found.is_empty() {
            essence[key] = Value::Object(found);
        }
    }
    essence
}

fn hash(essence: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    // The maps of `serde_json` are sorted, so equal objects have equal texts.
    essence.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Whether `whole` has everything `part` has. Lists have to be alike in length and order.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (_, Value::Null) => true,
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| value.is_null() || whole.get(key).is_some_and(|found| contains(found, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

#[cfg(test)]
mod tests {
    use scaling::{Pausing, hpa};
    use units::Milli;

    use super::*;

    fn owner(behavior: &Value) -> ScaledObject {
        let spec = serde_json::json!({
            "scaleTargetRef": {"name": "web"}, "triggers": [],
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        });
        let mut owner = ScaledObject::new("web", serde_json::from_value(spec).unwrap());
        owner.metadata.namespace = Some("shop".into());
        owner.metadata.uid = Some("u1".into());
        owner
    }

    fn desired(owner: &ScaledObject, pausing: Pausing) -> HorizontalPodAutoscaler {
        let source =
            hpa::Source { name: "web", labels: owner.labels(), annotations: owner.annotations(), hpa_name: None };
        let metric = HpaMetric::External {
            name: "s0-prometheus".into(),
            target: Target::AverageValue(Milli::from_thousandths(2_500)),
        };
        let plan = hpa::plan(source, (1, 9), &pausing, vec![metric], "0.1.0").unwrap();
        object(owner, &plan)
    }

    #[test]
    fn whether_a_target_rests_is_read_from_its_hpa() {
        let bounds = |min, max| {
            let spec = serde_json::json!({
                "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": min, "maxReplicas": max,
            });
            serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let idle = |idle| Replicas { min: 3, max: 9, idle };
        assert!(at_rest(&bounds(1, 1), idle(Some(1))));
        assert!(!at_rest(&bounds(3, 9), idle(Some(1))));
        assert!(!at_rest(&bounds(1, 9), idle(Some(1))));
        assert!(!at_rest(&bounds(1, 1), idle(None)), "the idle count is gone");
    }

    #[test]
    fn the_hpa_has_the_shape_people_know() {
        let hpa = desired(&owner(&Value::Null), Pausing::default());
        assert_eq!(
            serde_json::to_value(&hpa.spec).unwrap(),
            serde_json::json!({
                "maxReplicas": 9,
                "minReplicas": 1,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{
                    "type": "External",
                    "external": {
                        "metric": {
                            "name": "s0-prometheus",
                            "selector": {"matchLabels": {"scaledobject.keda.sh/name": "web"}},
                        },
                        "target": {"type": "AverageValue", "averageValue": "2500m"},
                    },
                }],
            })
        );
        let reference = &hpa.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (reference.kind.as_str(), reference.uid.as_str(), reference.controller),
            ("ScaledObject", "u1", Some(true))
        );
    }

    #[test]
    fn a_paused_direction_is_disabled_and_the_rest_of_the_behaviour_stays() {
        let owner = owner(&serde_json::json!({"scaleDown": {"stabilizationWindowSeconds": 60}}));
        let hpa = desired(&owner, Pausing { scale_in: true, ..Pausing::default() });
        assert_eq!(
            serde_json::to_value(hpa.spec.behavior).unwrap(),
            serde_json::json!({"scaleDown": {"stabilizationWindowSeconds": 60, "selectPolicy": "Disabled"}})
        );
    }

    /// What an API server makes of an HPA: defaults and a version.
    fn stored(hpa: &HorizontalPodAutoscaler, version: &str) -> HorizontalPodAutoscaler {
        let mut stored = hpa.clone();
        stored.metadata.resource_version = Some(version.into());
        stored.spec.behavior = stored.spec.behavior.map(with_defaults);
        stored
    }

    #[test]
    fn defaults_of_the_server_are_not_an_edit_and_edits_are() {
        let owner = owner(&serde_json::json!({"scaleDown": {"stabilizationWindowSeconds": 60}}));
        let wanted = desired(&owner, Pausing::default());
        let answer = stored(&wanted, "7");
        let baseline = Some(Baseline::of(&wanted, &answer));
        assert!(matches!(compare(baseline, &wanted, &answer), Found::InSync(_)));
        assert!(matches!(compare(None, &wanted, &answer), Found::InSync(_)), "a new leader takes it as it is");

        let mut edited = stored(&wanted, "8");
        edited.spec.max_replicas = 50;
        assert_eq!(compare(baseline, &wanted, &edited), Found::Differs);
        assert_eq!(compare(None, &wanted, &edited), Found::Differs);
        assert_eq!(compare(baseline, &wanted, &stored(&wanted, "6")), Found::Stale);
    }

    #[test]
    fn labels_and_annotations_of_others_stay_and_ours_are_put_back() {
        let wanted = desired(&owner(&Value::Null), Pausing::default());
        let baseline = Some(Baseline::of(&wanted, &stored(&wanted, "7")));
        let mut found = stored(&wanted, "8");
        found.metadata.annotations = Some([("example.com/tracking".into(), "abc".into())].into());
        found.metadata.labels.as_mut().unwrap().insert("team".into(), "shop".into());
        assert!(matches!(compare(baseline, &wanted, &found), Found::InSync(_)));
        found.metadata.labels.as_mut().unwrap().insert("app.kubernetes.io/managed-by".into(), "me".into());
        assert_eq!(compare(baseline, &wanted, &found), Found::Differs);
    }

    #[test]
    fn an_hpa_that_keda_left_is_written_once_for_its_version() {
        let owner = owner(&Value::Null);
        let wanted = desired(&owner, Pausing::default());
        let mut left = stored(&wanted, "7");
        let labels = left.metadata.labels.as_mut().unwrap();
        labels.insert("app.kubernetes.io/version".into(), "2.20.2".into());
        assert!(owned_by(&left, &owner));
        assert_eq!(compare(None, &wanted, &left), Found::Differs);
        let written = stored(&wanted, "8");
        let baseline = Some(Baseline::of(&wanted, &written));
        assert!(matches!(compare(baseline, &wanted, &written), Found::InSync(_)));
        left.metadata.labels.clone_from(&wanted.metadata.labels);
        assert!(matches!(compare(None, &wanted, &left), Found::InSync(_)), "nothing but the version differs");
    }

    #[test]
    fn an_hpa_compares_with_what_was_written_last() {
        let mut hpa = desired(&owner(&Value::Null), Pausing::default());
        let milli = |thousandths| Some(Target::AverageValue(Milli::from_thousandths(thousandths)));
        let asked = |hpa: &mut HorizontalPodAutoscaler, amount: &str| {
            let wanted = HpaMetric::External { name: "s0-prometheus".into(), target: milli(1).unwrap() };
            let mut spec = metric_spec(&wanted, "web");
            spec.external.as_mut().unwrap().target.average_value = Some(Quantity(amount.into()));
            hpa.spec.metrics = Some(vec![spec]);
        };
        asked(&mut hpa, "10");
        assert!(compares_with(&hpa, "s0-prometheus", milli(10_000)));
        assert!(!compares_with(&hpa, "s0-prometheus", milli(1_000)));
        assert!(!compares_with(&hpa, "s0-prometheus", Some(Target::Value(Milli::from_thousandths(10_000)))));
        assert!(!compares_with(&hpa, "s0-prometheus", None), "a formula has taken its place");
        assert!(compares_with(&hpa, "s1-cron", milli(1_000)), "it does not ask for that");
        asked(&mut hpa, "10000m");
        assert!(compares_with(&hpa, "s0-prometheus", milli(10_000)));
    }

    #[test]
    fn a_behaviour_nobody_asked_for_is_an_edit() {
        let wanted = desired(&owner(&Value::Null), Pausing::default());
        let mut edited = stored(&wanted, "8");
        edited.spec.behavior = Some(HorizontalPodAutoscalerBehavior::default());
        assert_eq!(compare(None, &wanted, &edited), Found::Differs);
    }

    /// A direction that was paused, or slowed down, until nobody led.
    #[test]
    fn a_new_leader_takes_no_rule_that_is_no_longer_wanted() {
        let of = |behavior: &Value, pausing| desired(&owner(behavior), pausing);
        let up = serde_json::json!({"scaleUp": {"stabilizationWindowSeconds": 0}});
        let slow = serde_json::json!({"scaleUp": {"stabilizationWindowSeconds": 0}, "scaleDown": {
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}]}});
        let wanted = of(&up, Pausing::default());
        let paused = stored(&of(&up, Pausing { scale_in: true, ..Pausing::default() }), "7");
        assert_eq!(compare(None, &wanted, &paused), Found::Differs);
        assert_eq!(compare(None, &wanted, &stored(&of(&slow, Pausing::default()), "7")), Found::Differs);
        assert!(matches!(compare(None, &wanted, &stored(&wanted, "7")), Found::InSync(_)));
    }

    #[test]
    fn a_status_change_is_not_an_edit() {
        let wanted = desired(&owner(&Value::Null), Pausing::default());
        let answer = stored(&wanted, "7");
        let baseline = Some(Baseline::of(&wanted, &answer));
        let mut later = stored(&wanted, "9");
        later.status = Some(k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus::default());
        assert!(matches!(compare(baseline, &wanted, &later), Found::InSync(_)));
    }
}
