//! Two masters on one workload.

use api::keda::annotations::HPA_OWNERSHIP;
use api::keda::{ScaleTarget, ScaledObject};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt;

use crate::hpa::owned_by;

const TARGET: &str = "spec.scaleTargetRef";
const HPA_NAME: &str = "spec.advanced.horizontalPodAutoscalerConfig.name";

/// Why an object must not act: somebody else has its workload, or its HPA's name. The field at fault, and
/// then KEDA's text.
///
/// Of two ScaledObjects the older one wins, by creation and then by name, so that exactly one of them acts.
pub(crate) fn conflict<'a>(
    object: &ScaledObject,
    objects: impl Iterator<Item = &'a ScaledObject>,
    hpas: impl Iterator<Item = &'a HorizontalPodAutoscaler>,
) -> Option<String> {
    let namespace = object.namespace();
    let target = &object.spec.scale_target_ref;
    let hpa_name = object.spec.hpa_name(&object.name_any());
    let (workload, kind) = (&target.name, kind_text(target));
    for other in objects.filter(|o| o.namespace() == namespace && o.uid() != object.uid()) {
        if other.metadata.deletion_timestamp.is_some() || !is_older(other, object) {
            continue;
        }
        let name = other.name_any();
        if same_target(&other.spec.scale_target_ref, target) {
            return Some(format!(
                "{TARGET}: the workload '{workload}' of type '{kind}' is already managed by the ScaledObject '{name}'"
            ));
        }
        if other.spec.hpa_name(&name) == hpa_name {
            return Some(format!("{HPA_NAME}: the HPA '{hpa_name}' is already managed by the ScaledObject '{name}'"));
        }
    }
    for hpa in hpas.filter(|h| h.namespace() == namespace && !owned_by(h, object)) {
        let ignored = hpa.annotations().get(HPA_OWNERSHIP).is_some_and(|value| value == "false");
        // One with our name is adopted or refused when the HPA is written.
        if ignored || hpa.metadata.deletion_timestamp.is_some() || hpa.name_any() == hpa_name {
            continue;
        }
        // Those of other ScaledObjects are judged with their object.
        if hpa.owner_references().iter().any(|owner| owner.kind == "ScaledObject") {
            continue;
        }
        let r = &hpa.spec.scale_target_ref;
        if r.name == target.name
            && r.kind == target.effective_kind()
            && group(r.api_version.as_deref().unwrap_or_default()) == group(target.effective_api_version())
        {
            let name = hpa.name_any();
            return Some(format!(
                "{TARGET}: the workload '{workload}' of type '{kind}' is already managed by the hpa '{name}'"
            ));
        }
    }
    None
}

fn same_target(a: &ScaleTarget, b: &ScaleTarget) -> bool {
    a.name == b.name
        && a.effective_kind() == b.effective_kind()
        && group(a.effective_api_version()) == group(b.effective_api_version())
}

fn kind_text(target: &ScaleTarget) -> String {
    format!("{}.{}", target.effective_api_version(), target.effective_kind())
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn is_older(other: &ScaledObject, object: &ScaledObject) -> bool {
    let age = |o: &ScaledObject| (o.metadata.creation_timestamp.as_ref().map(|t| t.0), o.name_any());
    age(other) < age(object)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn object(name: &str, target: &str, created: i64) -> ScaledObject {
        let spec = serde_json::json!({"scaleTargetRef": {"name": target}, "triggers": []});
        let mut object = ScaledObject::new(name, serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("shop".into());
        object.metadata.uid = Some(format!("uid-{name}"));
        object.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
        object
    }

    fn hpa(name: &str, target: &str) -> HorizontalPodAutoscaler {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}},
        }))
        .unwrap()
    }

    #[test]
    fn the_older_of_two_objects_wins_whoever_asks() {
        let (old, new) = (object("old", "web", 1), object("new", "web", 2));
        let both = [old.clone(), new.clone()];
        assert_eq!(conflict(&old, both.iter(), [].iter()), None);
        assert_eq!(
            conflict(&new, both.iter(), [].iter()).unwrap(),
            "spec.scaleTargetRef: the workload 'web' of type 'apps/v1.Deployment' is already managed by the ScaledObject 'old'"
        );
        let twins = [object("a", "web", 1), object("b", "web", 1)];
        assert_eq!(twins.iter().filter(|t| conflict(t, twins.iter(), [].iter()).is_none()).count(), 1);
    }

    #[test]
    fn a_foreign_hpa_is_named_unless_it_says_not_to_count() {
        let mine = object("web", "web", 1);
        let foreign = hpa("by-hand", "web");
        let said = conflict(&mine, [].iter(), [foreign.clone()].iter()).unwrap();
        assert!(said.ends_with("is already managed by the hpa 'by-hand'"), "{said}");
        assert_eq!(conflict(&mine, [].iter(), [hpa("by-hand", "other")].iter()), None);
        let mut ignored = foreign;
        ignored.metadata.annotations = Some([(HPA_OWNERSHIP.to_owned(), "false".to_owned())].into());
        assert_eq!(conflict(&mine, [].iter(), [ignored].iter()), None);
    }

    #[test]
    fn other_namespaces_do_not_matter() {
        let mut elsewhere = object("old", "web", 1);
        elsewhere.metadata.namespace = Some("other".into());
        assert_eq!(conflict(&object("new", "web", 2), [elsewhere].iter(), [].iter()), None);
    }
}
