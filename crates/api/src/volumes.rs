//! What the volumes of a pod demand of its node: where they are or may be made, what has to be attached, and which of them no
//! other pod may use.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Volume},
    storage::v1::StorageClass,
};
use scheduling::Pod;

use crate::convert;

/// Marks the storage class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The access mode of a claim that one pod alone may use.
const ONE_POD: &str = "ReadWriteOncePod";

/// Volume claims, volumes and storage classes by name.
#[derive(Debug)]
pub struct Volumes<'a> {
    claims: BTreeMap<(&'a str, &'a str), &'a PersistentVolumeClaim>,
    made: BTreeMap<&'a str, &'a PersistentVolume>,
    classes: BTreeMap<&'a str, &'a StorageClass>,
}

/// What becomes of a claim that a pod needs and that is not there.
#[derive(Clone, Copy)]
enum Missing<'a> {
    /// Nobody makes it.
    Stays,
    /// It is made from a template that names this class, if any.
    IsMade(Option<&'a str>),
}

impl<'a> Volumes<'a> {
    /// Those of all namespaces.
    pub fn new(
        claims: impl IntoIterator<Item = &'a PersistentVolumeClaim>,
        volumes: impl IntoIterator<Item = &'a PersistentVolume>,
        classes: impl IntoIterator<Item = &'a StorageClass>,
    ) -> Self {
        let claims = claims
            .into_iter()
            .filter_map(|claim| Some(((claim.metadata.namespace.as_deref()?, claim.metadata.name.as_deref()?), claim)));
        let volumes = volumes.into_iter().filter_map(|one| Some((one.metadata.name.as_deref()?, one)));
        let classes = classes.into_iter().filter_map(|one| Some((one.metadata.name.as_deref()?, one)));
        Self { claims: claims.collect(), made: volumes.collect(), classes: classes.collect() }
    }

    /// Adds to a converted pod what its volumes demand. One that has no claim, or a claim that cannot be bound where the pod
    /// goes, makes the pod invalid; claims of ephemeral volumes may be ones that are yet `to_be_made`.
    pub fn add(&self, volumes: &[Volume], to_be_made: bool, pod: &mut Pod) {
        for volume in volumes {
            let found = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(source), _) => self.demand_of(&source.claim_name, Missing::Stays, pod),
                // As the ephemeral volume controller names it; it makes the claim when the pod is there.
                (None, Some(source)) => {
                    let name = format!("{}-{}", pod.key.name, volume.name);
                    let template = source.volume_claim_template.as_ref().filter(|_| to_be_made);
                    let missing = template.map_or(Missing::Stays, |template| {
                        Missing::IsMade(template.spec.storage_class_name.as_deref())
                    });
                    self.demand_of(&name, missing, pod)
                }
                (None, None) => continue,
            };
            if let Err(message) = found {
                pod.invalid.push(format!("volume {}: {message}", volume.name));
            }
        }
    }

    /// Adds what a StatefulSet's own claim demands, which its controller makes from a template if it is not there.
    pub fn add_templated(&self, template: &PersistentVolumeClaim, pod: &mut Pod) {
        let volume = template.metadata.name.as_deref().unwrap_or_default();
        let class = template.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
        if let Err(message) = self.demand_of(&format!("{volume}-{}", pod.key.name), Missing::IsMade(class), pod) {
            pod.invalid.push(format!("volume {volume}: {message}"));
        }
    }

    fn demand_of(&self, name: &str, missing: Missing<'_>, pod: &mut Pod) -> Result<(), String> {
        let claim = self.claims.get(&(pod.key.namespace.as_str(), name));
        let spec = claim.and_then(|claim| claim.spec.as_ref());
        if spec.is_some_and(|spec| spec.access_modes.iter().flatten().any(|mode| mode == ONE_POD)) {
            pod.exclusive_claims.insert(name.to_owned());
        }
        if let Some(volume) = spec.and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty()) {
            return self.of_volume(volume, pod);
        }
        let class = match (claim, missing) {
            (Some(_), _) => spec.and_then(|spec| spec.storage_class_name.as_deref()),
            (None, Missing::IsMade(class)) => class,
            (None, Missing::Stays) => return Err(format!("claim {name} does not exist")),
        };
        let class = match class {
            // Written as empty: a person makes the volume.
            Some("") => None,
            Some(name) => Some(*self.classes.get(name).ok_or_else(|| format!("storage class {name} does not exist"))?),
            None => self.classes.values().copied().find(|class| is_default(class)),
        };
        let Some(class) = class else {
            return match claim {
                Some(_) => Err(format!("claim {name} is not bound, and no storage class makes its volume")),
                None => Ok(()),
            };
        };
        // Kubernetes binds such a claim before it looks for a node, and no pod is placed until that is done.
        if claim.is_some() && class.volume_binding_mode.as_deref().unwrap_or("Immediate") == "Immediate" {
            let class = class.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "claim {name} is not bound, and its storage class {class} binds before a node is known"
            ));
        }
        pod.volume_zones.extend(convert::storage_class_zones(class)?);
        let id = format!("{}/{name}", pod.key.namespace);
        pod.volumes_by_driver.entry(convert::attaching_driver(class).to_owned()).or_default().insert(id);
        Ok(())
    }

    fn of_volume(&self, name: &str, pod: &mut Pod) -> Result<(), String> {
        let volume = self.made.get(name).ok_or_else(|| format!("volume {name} does not exist"))?;
        pod.volume_zones.extend(convert::persistent_volume_zones(volume)?);
        if let Some((driver, handle)) = convert::attachment(volume) {
            pod.volumes_by_driver.entry(driver.to_owned()).or_default().insert(handle.to_owned());
        }
        Ok(())
    }
}

fn is_default(class: &StorageClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn claims() -> Vec<PersistentVolumeClaim> {
        let claim =
            |name: &str, spec: Value| object(json!({ "metadata": { "name": name, "namespace": "d" }, "spec": spec }));
        vec![
            claim("bound", json!({ "volumeName": "v", "storageClassName": "c" })),
            claim("waiting", json!({ "storageClassName": "c" })),
            claim("p-scratch", json!({ "storageClassName": "c" })),
            claim("late", json!({ "storageClassName": "at-once" })),
            claim("by-hand", json!({ "storageClassName": "" })),
            claim("unnamed", json!({})),
            claim("mine", json!({ "volumeName": "v", "accessModes": ["ReadWriteOncePod"] })),
        ]
    }

    fn volume() -> PersistentVolume {
        object(json!({ "metadata": { "name": "v" }, "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] } } } }))
    }

    fn classes() -> [StorageClass; 2] {
        let waits = json!({ "metadata": { "name": "c" }, "provisioner": "ebs",
            "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": [
            { "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": ["b"] }] }] });
        [object(waits), object(json!({ "metadata": { "name": "at-once" }, "provisioner": "ebs" }))]
    }

    fn with(classes: &[StorageClass], source: Value, to_be_made: bool) -> Pod {
        let core = object(json!({ "metadata": { "name": "p", "namespace": "d" } }));
        let (claims, volume, mut pod) = (claims(), volume(), convert::pod(&core));
        pod.invalid.clear();
        Volumes::new(&claims, [&volume], classes).add(&[object(source)], to_be_made, &mut pod);
        pod
    }

    fn zones(pod: &Pod) -> Vec<String> {
        pod.volume_zones.iter().map(ToString::to_string).collect()
    }

    fn claim(name: &str) -> Value {
        json!({ "name": "x", "persistentVolumeClaim": { "claimName": name } })
    }

    #[test]
    fn a_bound_volume_says_where_it_is_and_an_unbound_one_where_it_may_be_made() {
        let zones_of = |source: Value| zones(&with(&classes(), source, false));
        assert_eq!(zones_of(claim("bound")), ["topology.kubernetes.io/zone In [a]"]);
        assert_eq!(zones_of(claim("waiting")), ["topology.kubernetes.io/zone In [b]"]);
        assert_eq!(zones_of(json!({ "name": "scratch", "ephemeral": {} })), ["topology.kubernetes.io/zone In [b]"]);
    }

    #[test]
    fn an_unbound_claim_that_does_not_wait_for_a_pod_is_a_reason_not_to_place_it() {
        let why = "volume x: claim late is not bound, and its storage class at-once binds before a node is known";
        assert_eq!(with(&classes(), claim("late"), false).invalid, [why]);
    }

    #[test]
    fn a_claim_without_a_class_is_a_reason_not_to_place_it_and_the_default_class_is_for_those_that_name_none() {
        let nobody =
            |claim: &str| [format!("volume x: claim {claim} is not bound, and no storage class makes its volume")];
        assert_eq!(with(&classes(), claim("by-hand"), false).invalid, nobody("by-hand"));
        assert_eq!(with(&classes(), claim("unnamed"), false).invalid, nobody("unnamed"));
        let [mut waits, at_once] = classes();
        waits.metadata.annotations = Some([(DEFAULT_CLASS.to_owned(), "true".to_owned())].into());
        let classes = [waits, at_once];
        assert_eq!(with(&classes, claim("by-hand"), false).invalid, nobody("by-hand"));
        assert_eq!(zones(&with(&classes, claim("unnamed"), false)), ["topology.kubernetes.io/zone In [b]"]);
    }

    #[test]
    fn a_missing_claim_is_a_reason_not_to_place_the_pod_unless_it_is_yet_to_be_made() {
        assert_eq!(with(&classes(), claim("no"), true).invalid, ["volume x: claim no does not exist"]);
        let template = json!({ "spec": { "storageClassName": "c" } });
        let ephemeral = json!({ "name": "tmp", "ephemeral": { "volumeClaimTemplate": template } });
        let refused = with(&classes(), ephemeral.clone(), false);
        assert_eq!(refused.invalid, ["volume tmp: claim p-tmp does not exist"]);
        assert_eq!(zones(&with(&classes(), ephemeral, true)), ["topology.kubernetes.io/zone In [b]"]);
    }

    #[test]
    fn a_claim_for_one_pod_alone_is_known_as_such() {
        assert!(with(&classes(), claim("bound"), false).exclusive_claims.is_empty());
        let mine = with(&classes(), claim("mine"), false);
        assert_eq!(mine.exclusive_claims.iter().collect::<Vec<_>>(), ["mine"]);
        assert_eq!(mine.invalid, Vec::<String>::new());
    }
}
