//! What the volumes of a pod demand of its node: where they are or may be made, what has to be attached, and which of them no
//! other pod may use.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, Volume},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};
use scheduling::Pod;
use units::Quantity;

use crate::{convert, pods};

/// Marks the storage class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The provisioner of classes whose volumes a person makes.
const NOBODY: &str = "kubernetes.io/no-provisioner";
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
    /// It is made from a template that says this, if anything.
    IsMade(Option<&'a PersistentVolumeClaimSpec>),
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
                    let missing = template.map_or(Missing::Stays, |template| Missing::IsMade(Some(&template.spec)));
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
        let missing = Missing::IsMade(template.spec.as_ref());
        if let Err(message) = self.demand_of(&format!("{volume}-{}", pod.key.name), missing, pod) {
            pod.invalid.push(format!("volume {volume}: {message}"));
        }
    }

    fn demand_of(&self, name: &str, missing: Missing<'_>, pod: &mut Pod) -> Result<(), String> {
        let claim = self.claims.get(&(pod.key.namespace.as_str(), name));
        if claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_some()) {
            return Err(format!("claim {name} is being deleted"));
        }
        let spec = claim.and_then(|claim| claim.spec.as_ref());
        if spec.is_some_and(|spec| spec.access_modes.iter().flatten().any(|mode| mode == ONE_POD)) {
            pod.exclusive_claims.insert(name.to_owned());
        }
        if let Some(volume) = spec.and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty()) {
            return self.of_volume(volume, pod);
        }
        let spec = match (claim, missing) {
            (Some(_), _) => spec,
            (None, Missing::IsMade(spec)) => spec,
            (None, Missing::Stays) => return Err(format!("claim {name} does not exist")),
        };
        let class = match spec.and_then(|spec| spec.storage_class_name.as_deref()) {
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
        if class.provisioner == NOBODY {
            return self.of_free_volume(name, class, spec, pod);
        }
        pod.volume_zones.extend(convert::storage_class_zones(class)?);
        let id = format!("{}/{name}", pod.key.namespace);
        pod.volumes_by_driver.entry(convert::attaching_driver(class).to_owned()).or_default().insert(id);
        Ok(())
    }

    /// The claim will be bound to a volume that is there and nobody's. Which one is not known: those that are large enough and can
    /// be used as the claim says, unless one of them is kept for it.
    fn of_free_volume(
        &self,
        name: &str,
        class: &StorageClass,
        claim: Option<&PersistentVolumeClaimSpec>,
        pod: &mut Pod,
    ) -> Result<(), String> {
        let class = class.metadata.name.as_deref().unwrap_or_default();
        let is_ours = |theirs: &ObjectReference| {
            theirs.name.as_deref() == Some(name) && theirs.namespace.as_deref() == Some(pod.key.namespace.as_str())
        };
        let serves = |volume: &&&PersistentVolume| {
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            let of_other =
                volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).is_some_and(|one| !is_ours(one));
            !of_other && matches!(phase, None | Some("Available" | "Pending")) && suits(volume, class, claim)
        };
        let mut free: Vec<&PersistentVolume> = self.made.values().filter(serves).copied().collect();
        let is_kept = |volume: &&PersistentVolume| volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        if free.iter().any(is_kept) {
            free.retain(is_kept);
        }
        if free.is_empty() {
            return Err(format!(
                "claim {name} is not bound, nobody makes volumes of its storage class {class}, and none that is free will do"
            ));
        }
        pod.volume_zones.extend(convert::any_volume_zones(free)?);
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

/// Whether a volume is of the class, is as large as a claim asks, and can be used as it says.
fn suits(volume: &PersistentVolume, class: &str, claim: Option<&PersistentVolumeClaimSpec>) -> bool {
    let Some(spec) = &volume.spec else { return false };
    let size = |list: Option<&BTreeMap<String, Text>>| -> Option<Quantity> { list?.get("storage")?.0.parse().ok() };
    let asked = size(claim.and_then(|claim| claim.resources.as_ref()?.requests.as_ref()));
    let is_block = |mode: Option<&String>| mode.is_some_and(|mode| mode == "Block");
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let mut wanted_modes = claim.and_then(|claim| claim.access_modes.as_ref()).into_iter().flatten();
    let selector = claim.and_then(|claim| claim.selector.as_ref());
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    spec.storage_class_name.as_deref() == Some(class)
        && volume.metadata.deletion_timestamp.is_none()
        && asked <= size(spec.capacity.as_ref())
        && is_block(spec.volume_mode.as_ref()) == is_block(claim.and_then(|claim| claim.volume_mode.as_ref()))
        && wanted_modes.all(|mode| modes.contains(mode))
        && selector.is_none_or(|selector| pods::selects(selector, &labels))
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

    #[test]
    fn a_claim_that_is_being_deleted_is_a_reason_not_to_place_the_pod() {
        let core = object(json!({ "metadata": { "name": "p", "namespace": "d" } }));
        let (mut pod, volume) = (convert::pod(&core), volume());
        let mut claims = claims();
        for claim in &mut claims {
            claim.metadata.deletion_timestamp = Some(object(json!("2026-01-01T00:00:00Z")));
        }
        pod.invalid.clear();
        let volumes = [object(claim("bound")), object(claim("waiting"))];
        Volumes::new(&claims, [&volume], &classes()).add(&volumes, true, &mut pod);
        assert_eq!(pod.invalid, ["bound", "waiting"].map(|name| format!("volume x: claim {name} is being deleted")));
        assert!(pod.volume_zones.is_empty() && pod.volumes_by_driver.is_empty());
    }

    #[test]
    fn a_claim_whose_volume_nobody_makes_is_bound_to_one_that_is_free_and_large_enough() {
        let class: StorageClass =
            object(json!({ "metadata": { "name": "local" }, "volumeBindingMode": "WaitForFirstConsumer",
            "provisioner": "kubernetes.io/no-provisioner" }));
        let claim: PersistentVolumeClaim = object(json!({ "metadata": { "name": "data", "namespace": "d" }, "spec": {
            "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "10Gi" } } } }));
        let on = |node: &str, patch: Value| -> PersistentVolume {
            let mut volume = json!({ "metadata": { "name": node }, "spec": { "storageClassName": "local",
                "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "10Gi" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] }] } } } });
            for (key, value) in patch.as_object().unwrap() {
                volume["spec"][key] = value.clone();
            }
            object(volume)
        };
        let asked = |volumes: &[PersistentVolume]| {
            let core = object(json!({ "metadata": { "name": "p", "namespace": "d" } }));
            let mut pod = convert::pod(&core);
            pod.invalid.clear();
            let source = json!({ "name": "x", "persistentVolumeClaim": { "claimName": "data" } });
            Volumes::new([&claim], volumes, [&class]).add(&[object(source)], true, &mut pod);
            if pod.invalid.is_empty() { zones(&pod) } else { pod.invalid }
        };
        let of_other = json!({ "claimRef": { "namespace": "d", "name": "other" } });
        let mut released = on("n8", json!({ "claimRef": { "namespace": "d", "name": "data", "uid": "of-before" } }));
        released.status = Some(object(json!({ "phase": "Released" })));
        let refused = vec![
            on("n0", json!({ "storageClassName": "c" })),
            on("n1", json!({ "capacity": { "storage": "9Gi" } })),
            on("n2", of_other),
            on("n3", json!({ "accessModes": ["ReadOnlyMany"] })),
            on("n4", json!({ "volumeMode": "Block" })),
            released,
        ];
        let nobody = "volume x: claim data is not bound, nobody makes volumes of its storage class local, and none that is free will do";
        assert_eq!(asked(&refused), [nobody]);
        let one = on("n5", json!({}));
        assert_eq!(asked(&[&refused[..], std::slice::from_ref(&one)].concat()), ["kubernetes.io/hostname In [n5]"]);
        let two = [one, on("n6", json!({ "capacity": { "storage": "1Ti" } }))];
        assert_eq!(asked(&two), ["kubernetes.io/hostname In [n5, n6]"]);
        let kept = on("n9", json!({ "claimRef": { "namespace": "d", "name": "data" } }));
        assert_eq!(asked(&[&two[..], &[kept]].concat()), ["kubernetes.io/hostname In [n9]"]);
        let also_in_a_zone = json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "kubernetes.io/hostname", "operator": "In", "values": ["n10"] },
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] } } });
        let three = [&two[..], &[on("n10", also_in_a_zone)]].concat();
        assert_eq!(asked(&three), ["kubernetes.io/hostname In [n10, n5, n6]"]);
        let anywhere = on("n7", json!({ "nodeAffinity": {} }));
        assert_eq!(asked(&[&two[..], &[anywhere]].concat()), [""; 0]);
    }
}
