//! Two masters on one workload.

use std::collections::HashSet;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use api::keda::annotations::{HPA_OWNERSHIP, TRANSFER_HPA_OWNERSHIP};
use api::keda::{ScaleTarget, ScaledObject};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use kube::ResourceExt;

use crate::hpa::owned_by;
use crate::known_hpa::KnownHpa;
use crate::object::pausing;
use crate::status::is_true;

/// Somebody else has the workload of an object, or its HPA's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// One word, for series.
    pub(crate) reason: &'static str,
    field: &'static str,
    /// KEDA's text.
    pub(crate) message: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Names of workloads that HPAs of no ScaledObject scale or that several ScaledObjects name, by namespace. Kept up to date by who
/// watches them, so that an object knows at every look, and without a look at all of them, whether [`conflict`] may have
/// something to say.
#[derive(Debug, Default)]
pub(crate) struct Claims(RwLock<HashSet<(String, String)>>);

impl Claims {
    /// Replaces what is claimed.
    pub(crate) fn set(&self, claimed: HashSet<(String, String)>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = claimed;
    }

    /// Whether the name of an object's workload is claimed; it may be that of another kind.
    pub(crate) fn may_concern(&self, object: &ScaledObject) -> bool {
        let claimed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let workload = || (object.namespace().unwrap_or_default(), object.spec.scale_target_ref.name.clone());
        !claimed.is_empty() && claimed.contains(&workload())
    }
}

const TARGET: &str = "spec.scaleTargetRef";
const HPA_NAME: &str = "spec.advanced.horizontalPodAutoscalerConfig.name";

/// Why an object must not act.
///
/// Of two ScaledObjects the one whose HPA scales the workload already wins: an edit that points another one there must not take
/// it away. If both have one there or neither has, the older one wins, by creation and then by name, so that exactly one acts.
/// An HPA that another one has left on the workload, because it cannot have the one that it names now, is a second master, too.
pub(crate) fn conflict<'a>(
    object: &ScaledObject,
    objects: impl Iterator<Item = &'a ScaledObject> + Clone,
    hpas: impl Iterator<Item = &'a KnownHpa> + Clone,
) -> Option<Conflict> {
    let hpa_name = object.spec.hpa_name(&object.name_any());
    let target = &object.spec.scale_target_ref;
    // Who has what both want comes first, then who is older.
    let rank = |of: &ScaledObject, about_target: bool| {
        let has = |hpa: &KnownHpa| {
            owned_by(hpa, of) && if about_target { scales(&hpa.target, target) } else { hpa.name_any() == hpa_name }
        };
        // A pause takes the HPA away, and not the workload, until the HPA is back.
        let in_part = pausing(of).is_ok_and(|pausing| pausing.any() && pausing.full.is_none());
        let paused = !in_part && of.status.as_ref().is_some_and(|status| is_true(status, "Paused"));
        let standing = if hpas.clone().any(has) {
            0
        } else if paused {
            1
        } else {
            2
        };
        (standing, of.metadata.creation_timestamp.as_ref().map(|time| time.0), of.name_any())
    };
    let first = objects.clone().filter(|other| {
        let about_target = same_target(&other.spec.scale_target_ref, target);
        other.uid() != object.uid()
            && (about_target || other.spec.hpa_name(&other.name_any()) == hpa_name)
            && rank(other, about_target) < rank(object, about_target)
    });
    let other_object = with_object(object, first);
    // One with our name is adopted or refused when the HPA is written.
    let mut foreign = hpas.filter(|hpa| !owned_by(*hpa, object) && hpa.name_any() != hpa_name);
    let left = move |hpa: &&KnownHpa| {
        let elsewhere = |other: &ScaledObject| !same_target(&other.spec.scale_target_ref, target);
        scales(&hpa.target, target)
            && hpa.namespace() == object.namespace()
            && hpa.metadata.deletion_timestamp.is_none()
            && objects.clone().any(|other| owned_by(*hpa, other) && elsewhere(other))
    };
    other_object
        .or_else(|| with_hpa(object, foreign.clone()))
        .or_else(|| foreign.find(left).map(|hpa| Conflict::with_hpa(object, &hpa.name_any())))
}

/// Why an object should not be written: whoever is there already was first.
pub(crate) fn admission_conflict<'a>(
    object: &ScaledObject,
    objects: impl Iterator<Item = &'a ScaledObject>,
    hpas: impl Iterator<Item = &'a KnownHpa>,
) -> Option<Conflict> {
    let name = object.name_any();
    let others = objects.filter(|other| other.name_any() != name);
    let takes_over = object.annotations().get(TRANSFER_HPA_OWNERSHIP).is_some_and(|value| value == "true");
    let config = object.spec.advanced.as_ref().and_then(|a| a.horizontal_pod_autoscaler_config.as_ref());
    let chosen = config.and_then(|config| config.name.as_deref()).filter(|name| !name.is_empty());
    let foreign = hpas.filter(|hpa| !(takes_over && chosen == Some(hpa.name_any().as_str())));
    with_hpa(object, foreign)
        .map(|conflict| if takes_over && chosen.is_none() { conflict.transfer_without_name(object) } else { conflict })
        .or_else(|| with_object(object, others))
}

impl Conflict {
    fn with_hpa(object: &ScaledObject, hpa: &str) -> Self {
        let (target, kind) = (&object.spec.scale_target_ref, kind_text(&object.spec.scale_target_ref));
        let message = format!("the workload '{}' of type '{kind}' is already managed by the hpa '{hpa}'", target.name);
        Self { reason: "other-hpa", field: TARGET, message }
    }

    fn transfer_without_name(self, object: &ScaledObject) -> Self {
        let target = &object.spec.scale_target_ref;
        let hpa = self.message.rsplit('\'').nth(1).unwrap_or_default();
        let message = format!(
            "the existing hpa '{hpa}' for workload '{}' of type '{}' must be specified by name in advanced settings to enable \
             ownership transfer",
            target.name,
            kind_text(target)
        );
        Self { reason: "transfer-ownership-missing-hpa-name", field: HPA_NAME, message }
    }
}

fn with_object<'a>(object: &ScaledObject, others: impl Iterator<Item = &'a ScaledObject>) -> Option<Conflict> {
    let namespace = object.namespace();
    let target = &object.spec.scale_target_ref;
    let hpa_name = object.spec.hpa_name(&object.name_any());
    for other in others.filter(|o| o.namespace() == namespace && o.metadata.deletion_timestamp.is_none()) {
        let name = other.name_any();
        if same_target(&other.spec.scale_target_ref, target) {
            let message = format!(
                "the workload '{}' of type '{}' is already managed by the ScaledObject '{name}'",
                target.name,
                kind_text(target)
            );
            return Some(Conflict { reason: "other-scaled-object", field: TARGET, message });
        }
        if other.spec.hpa_name(&name) == hpa_name {
            let message = format!("the HPA '{hpa_name}' is already managed by the ScaledObject '{name}'");
            return Some(Conflict { reason: "other-scaled-object-hpa", field: HPA_NAME, message });
        }
    }
    None
}

fn with_hpa<'a>(object: &ScaledObject, hpas: impl Iterator<Item = &'a KnownHpa>) -> Option<Conflict> {
    let namespace = object.namespace();
    let target = &object.spec.scale_target_ref;
    let foreign = hpas
        .filter(|hpa| hpa.namespace() == namespace && hpa.metadata.deletion_timestamp.is_none())
        .filter(|hpa| hpa.annotations().get(HPA_OWNERSHIP).is_none_or(|value| value != "false"))
        // Those of ScaledObjects are judged with their object.
        .filter(|hpa| !hpa.owner_references().iter().any(|owner| owner.kind == "ScaledObject"));
    let mut foreign = foreign.filter(|hpa| scales(&hpa.target, target));
    foreign.next().map(|hpa| Conflict::with_hpa(object, &hpa.name_any()))
}

/// Whether what an HPA scales is this target, in whatever version.
pub(crate) fn scales(scaled: &CrossVersionObjectReference, target: &ScaleTarget) -> bool {
    scaled.name == target.name
        && scaled.kind == target.effective_kind()
        && group(scaled.api_version.as_deref().unwrap_or_default()) == group(target.effective_api_version())
}

pub(crate) fn same_target(a: &ScaleTarget, b: &ScaleTarget) -> bool {
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

    fn hpa(name: &str, target: &str) -> KnownHpa {
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
            conflict(&new, both.iter(), [].iter()).unwrap().to_string(),
            "spec.scaleTargetRef: the workload 'web' of type 'apps/v1.Deployment' is already managed by the ScaledObject 'old'"
        );
        let twins = [object("a", "web", 1), object("b", "web", 1)];
        assert_eq!(twins.iter().filter(|t| conflict(t, twins.iter(), [].iter()).is_none()).count(), 1);
    }

    #[test]
    fn whose_hpa_scales_the_workload_keeps_it_whoever_is_older() {
        let (edited, victim) = (object("edited", "web", 1), object("victim", "web", 2));
        let of = |object: &ScaledObject, name: &str, target: &str| {
            let mut hpa = hpa(name, target);
            hpa.metadata.owner_references = Some(vec![serde_json::from_value(serde_json::json!(
                {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": object.name_any(), "uid": object.uid()}
            ))
            .unwrap()]);
            hpa
        };
        let both = [edited.clone(), victim.clone()];
        let hpas = [of(&edited, "keda-hpa-edited", "elsewhere"), of(&victim, "keda-hpa-victim", "web")];
        assert_eq!(conflict(&victim, both.iter(), hpas.iter()), None);
        let said = conflict(&edited, both.iter(), hpas.iter()).unwrap().message;
        assert!(said.ends_with("is already managed by the ScaledObject 'victim'"), "{said}");
        // While it is paused it has no HPA.
        let mut paused = victim.clone();
        paused.status = serde_json::from_value(serde_json::json!(
            {"conditions": [{"type": "Paused", "status": "True"}]}
        ))
        .unwrap();
        let both = [edited.clone(), paused.clone()];
        assert_eq!(conflict(&paused, both.iter(), hpas[..1].iter()), None);
        assert!(conflict(&edited, both.iter(), hpas[..1].iter()).is_some());
        // A pause in part leaves the HPA where it is.
        paused.metadata.annotations =
            Some([("autoscaling.keda.sh/paused-scale-in".to_owned(), "true".to_owned())].into());
        let both = [edited.clone(), paused.clone()];
        assert!(conflict(&paused, both.iter(), hpas[..1].iter()).is_some(), "it has none");
        // What the edited one left behind scales on.
        let third = object("third", "elsewhere", 3);
        let three = [edited, victim.clone(), third.clone()];
        let said = conflict(&third, three.iter(), hpas.iter()).unwrap().message;
        assert!(said.ends_with("is already managed by the hpa 'keda-hpa-edited'"), "{said}");
        assert_eq!(conflict(&third, three[1..].iter(), hpas.iter()), None, "nobody's, so it goes");
        // The same for an HPA's name.
        let mut named = object("named", "other", 1);
        named.spec.advanced = serde_json::from_value(serde_json::json!(
            {"horizontalPodAutoscalerConfig": {"name": "keda-hpa-victim"}}
        ))
        .unwrap();
        let both = [named.clone(), victim.clone()];
        let hpas = [of(&named, "keda-hpa-named", "other"), of(&victim, "keda-hpa-victim", "web")];
        assert_eq!(conflict(&victim, both.iter(), hpas.iter()), None);
        assert_eq!(conflict(&named, both.iter(), hpas.iter()).unwrap().reason, "other-scaled-object-hpa");
    }

    #[test]
    fn a_foreign_hpa_is_named_unless_it_says_not_to_count() {
        let mine = object("web", "web", 1);
        let foreign = hpa("by-hand", "web");
        let said = conflict(&mine, [].iter(), [foreign.clone()].iter()).unwrap().to_string();
        assert!(said.ends_with("is already managed by the hpa 'by-hand'"), "{said}");
        assert_eq!(conflict(&mine, [].iter(), [hpa("by-hand", "other")].iter()), None);
        let mut ignored = foreign;
        ignored.metadata.annotations = Some([(HPA_OWNERSHIP.to_owned(), "false".to_owned())].into());
        assert_eq!(conflict(&mine, [].iter(), [ignored].iter()), None);
    }

    #[test]
    fn at_admission_whoever_is_there_was_first() {
        let said = |object: &ScaledObject, objects: &[ScaledObject], hpas: &[KnownHpa]| {
            admission_conflict(object, objects.iter(), hpas.iter()).map(|conflict| conflict.message)
        };
        let (mine, other) = (object("old", "web", 1), object("new", "web", 2));
        assert_eq!(
            said(&mine, &[mine.clone(), other], &[]).unwrap(),
            "the workload 'web' of type 'apps/v1.Deployment' is already managed by the ScaledObject 'new'"
        );
        assert_eq!(said(&mine, std::slice::from_ref(&mine), &[]), None, "itself");
        let foreign = [hpa("by-hand", "web")];
        assert!(said(&mine, &[], &foreign).unwrap().ends_with("is already managed by the hpa 'by-hand'"));
        let mut heir = mine;
        heir.metadata.annotations = Some([(TRANSFER_HPA_OWNERSHIP.to_owned(), "true".to_owned())].into());
        let unnamed = said(&heir, &[], &foreign).unwrap();
        assert!(unnamed.starts_with("the existing hpa 'by-hand' for workload 'web' of type"), "{unnamed}");
        let advanced = serde_json::json!({"horizontalPodAutoscalerConfig": {"name": "by-hand"}});
        heir.spec.advanced = Some(serde_json::from_value(advanced).unwrap());
        assert_eq!(said(&heir, &[], &foreign), None);
    }

    #[test]
    fn a_claim_concerns_the_objects_of_its_workload() {
        let claims = Claims::default();
        assert!(!claims.may_concern(&object("a", "web", 1)));
        claims.set([("shop".to_owned(), "web".to_owned())].into());
        assert!(claims.may_concern(&object("a", "web", 1)));
        assert!(!claims.may_concern(&object("web", "other", 1)));
        let mut elsewhere = object("a", "web", 1);
        elsewhere.metadata.namespace = Some("other".into());
        assert!(!claims.may_concern(&elsewhere));
        claims.set(HashSet::new());
        assert!(!claims.may_concern(&object("a", "web", 1)));
    }

    #[test]
    fn other_namespaces_do_not_matter() {
        let mut elsewhere = object("old", "web", 1);
        elsewhere.metadata.namespace = Some("other".into());
        assert_eq!(conflict(&object("new", "web", 2), [elsewhere].iter(), [].iter()), None);
    }
}
