//! Where the volumes of a pod are, or may be made.

use std::collections::HashMap;

use api::convert;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod as CorePod},
    storage::v1::StorageClass,
};
use scheduling::Pod;

use crate::world::Objects;

/// Volume claims, volumes and storage classes by name.
#[derive(Debug)]
pub struct Zones<'a> {
    claims: HashMap<(&'a str, &'a str), &'a PersistentVolumeClaim>,
    volumes: HashMap<&'a str, &'a PersistentVolume>,
    classes: HashMap<&'a str, &'a StorageClass>,
}

/// Marks the storage class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

impl<'a> Zones<'a> {
    /// Indexes the objects.
    pub fn new(objects: &'a Objects) -> Self {
        let claims = objects.volume_claims.iter().filter_map(|claim| {
            Some(((claim.metadata.namespace.as_deref()?, claim.metadata.name.as_deref()?), claim.as_ref()))
        });
        let volumes = objects.volumes.iter().filter_map(|v| Some((v.metadata.name.as_deref()?, v.as_ref())));
        let classes = objects.storage_classes.iter().filter_map(|c| Some((c.metadata.name.as_deref()?, c.as_ref())));
        Self { claims: claims.collect(), volumes: volumes.collect(), classes: classes.collect() }
    }

    /// Adds to a converted pod what its volumes demand. A claim that is not there makes the pod invalid.
    pub fn with_volumes(&self, core: &CorePod, mut pod: Pod) -> Pod {
        let volumes = core.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        for volume in volumes {
            let name = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(source), _) => source.claim_name.clone(),
                // As the ephemeral volume controller names it.
                (None, Some(_)) => format!("{}-{}", pod.key.name, volume.name),
                (None, None) => continue,
            };
            let Some(claim) = self.claims.get(&(pod.key.namespace.as_str(), name.as_str())) else {
                pod.invalid.push(format!("volume {}: claim {name} does not exist", volume.name));
                continue;
            };
            match self.demands(claim, &mut pod) {
                Ok(()) => {}
                Err(message) => pod.invalid.push(format!("volume {}: {message}", volume.name)),
            }
        }
        pod
    }

    fn demands(&self, claim: &PersistentVolumeClaim, pod: &mut Pod) -> Result<(), String> {
        let spec = claim.spec.as_ref();
        if let Some(name) = spec.and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty()) {
            let volume = self.volumes.get(name).ok_or_else(|| format!("volume {name} does not exist"))?;
            pod.volume_zones.extend(convert::persistent_volume_zones(volume)?);
            if let Some((driver, handle)) = convert::attachment(volume) {
                pod.volumes_by_driver.entry(driver.to_owned()).or_default().insert(handle.to_owned());
            }
            return Ok(());
        }
        let class = match spec.and_then(|spec| spec.storage_class_name.as_deref()) {
            // Written as empty: a person makes the volume.
            Some("") => None,
            Some(name) => Some(*self.classes.get(name).ok_or_else(|| format!("storage class {name} does not exist"))?),
            None => self.classes.values().copied().find(|class| is_default(class)),
        };
        let class = class.ok_or("is not bound yet, and no storage class makes its volume")?;
        // Its volume is made without waiting for a pod, and where is known only then.
        if class.volume_binding_mode.as_deref().unwrap_or("Immediate") == "Immediate" {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            return Err(format!("is not bound yet, and storage class {name} binds immediately"));
        }
        pod.volume_zones.extend(convert::storage_class_zones(class)?);
        let (namespace, name) = (claim.metadata.namespace.as_deref(), claim.metadata.name.as_deref());
        let id = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
        pod.volumes_by_driver.entry(convert::attaching_driver(class).to_owned()).or_default().insert(id);
        Ok(())
    }
}

fn is_default(class: &StorageClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn check(objects: &Objects, source: &Value) -> (Vec<String>, Vec<String>) {
        let core: CorePod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "d" },
            "spec": { "containers": [], "volumes": [source] },
        }))
        .unwrap();
        let pod = Zones::new(objects).with_volumes(&core, convert::pod(&core));
        (pod.volume_zones.iter().map(ToString::to_string).collect(), pod.invalid)
    }

    fn objects() -> Objects {
        let claim = |name: &str, spec: Value| {
            Arc::new(
                serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "d" }, "spec": spec }))
                    .unwrap(),
            )
        };
        let volume = json!({ "metadata": { "name": "v" }, "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] } } } });
        let class = json!({ "metadata": { "name": "c" }, "provisioner": "ebs",
            "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": [
            { "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": ["b"] }] }] });
        Objects {
            volume_claims: vec![
                claim("bound", json!({ "volumeName": "v", "storageClassName": "c" })),
                claim("waiting", json!({ "storageClassName": "c" })),
                claim("p-scratch", json!({ "storageClassName": "c" })),
                claim("late", json!({ "storageClassName": "at-once" })),
                claim("by-hand", json!({ "storageClassName": "" })),
                claim("unnamed", json!({})),
            ],
            volumes: vec![Arc::new(serde_json::from_value(volume).unwrap())],
            storage_classes: vec![
                Arc::new(serde_json::from_value(class).unwrap()),
                Arc::new(
                    serde_json::from_value(json!({ "metadata": { "name": "at-once" }, "provisioner": "ebs" })).unwrap(),
                ),
            ],
            ..Objects::default()
        }
    }

    #[test]
    fn a_bound_volume_says_where_it_is_and_an_unbound_one_where_it_may_be_made() {
        let pvc = |name: &str| json!({ "name": "x", "persistentVolumeClaim": { "claimName": name } });
        assert_eq!(check(&objects(), &pvc("bound")).0, ["topology.kubernetes.io/zone In [a]"]);
        assert_eq!(check(&objects(), &pvc("waiting")).0, ["topology.kubernetes.io/zone In [b]"]);
        assert_eq!(
            check(&objects(), &json!({ "name": "scratch", "ephemeral": {} })).0,
            ["topology.kubernetes.io/zone In [b]"]
        );
    }

    #[test]
    fn an_unbound_claim_that_does_not_wait_for_a_pod_is_a_reason_not_to_place_it() {
        let (_, invalid) = check(&objects(), &json!({ "name": "x", "persistentVolumeClaim": { "claimName": "late" } }));
        assert_eq!(invalid, ["volume x: is not bound yet, and storage class at-once binds immediately"]);
    }

    #[test]
    fn a_claim_without_a_class_is_a_reason_not_to_place_it_and_the_default_class_is_for_those_that_name_none() {
        let pvc = |name: &str| json!({ "name": "x", "persistentVolumeClaim": { "claimName": name } });
        let mut objects = objects();
        let nobody = ["volume x: is not bound yet, and no storage class makes its volume"];
        assert_eq!(check(&objects, &pvc("by-hand")).1, nobody);
        assert_eq!(check(&objects, &pvc("unnamed")).1, nobody);
        let mut class = (*objects.storage_classes[0]).clone();
        class.metadata.annotations = Some([(DEFAULT_CLASS.to_owned(), "true".to_owned())].into());
        objects.storage_classes[0] = Arc::new(class);
        assert_eq!(check(&objects, &pvc("by-hand")).1, nobody);
        assert_eq!(check(&objects, &pvc("unnamed")).0, ["topology.kubernetes.io/zone In [b]"]);
    }

    #[test]
    fn a_missing_claim_is_a_reason_not_to_place_the_pod() {
        let (_, invalid) = check(&objects(), &json!({ "name": "x", "persistentVolumeClaim": { "claimName": "no" } }));
        assert_eq!(invalid, ["volume x: claim no does not exist"]);
    }
}
