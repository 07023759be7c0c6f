//! Where the volumes of a pod are, or may be made, and how many its node must attach.

use std::collections::BTreeMap;

use api::convert;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Volume},
    storage::v1::StorageClass,
};
use scheduling::Pod;

use crate::objects::Objects;

/// Marks the storage class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Volume claims, volumes and storage classes by name.
#[derive(Debug)]
pub(crate) struct Storage<'a> {
    claims: BTreeMap<(&'a str, &'a str), &'a PersistentVolumeClaim>,
    volumes: BTreeMap<&'a str, &'a PersistentVolume>,
    classes: BTreeMap<&'a str, &'a StorageClass>,
}

impl<'a> Storage<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Self {
        let claims =
            objects.volume_claims.iter().map(|read| &read.object).filter_map(|claim| {
                Some(((claim.metadata.namespace.as_deref()?, claim.metadata.name.as_deref()?), claim))
            });
        let volumes = objects.volumes.iter().map(|read| &read.object);
        let classes = objects.storage_classes.iter().map(|read| &read.object);
        Self {
            claims: claims.collect(),
            volumes: volumes.filter_map(|one| Some((one.metadata.name.as_deref()?, one))).collect(),
            classes: classes.filter_map(|one| Some((one.metadata.name.as_deref()?, one))).collect(),
        }
    }

    /// Adds to a converted pod what its volumes demand. A claim that is not there makes the pod invalid.
    pub(crate) fn add(&self, volumes: &[Volume], pod: &mut Pod) {
        for volume in volumes {
            let found = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(source), _) => self.demand_of(&source.claim_name, None, pod),
                // As the ephemeral volume controller names it; it makes the claim when the pod is there.
                (None, Some(source)) => {
                    let name = format!("{}-{}", pod.key.name, volume.name);
                    let class = source
                        .volume_claim_template
                        .as_ref()
                        .map(|t| t.spec.storage_class_name.as_deref().unwrap_or_default());
                    self.demand_of(&name, class, pod)
                }
                (None, None) => continue,
            };
            if let Err(message) = found {
                pod.invalid.push(format!("volume {}: {message}", volume.name));
            }
        }
    }

    /// Adds what a StatefulSet's own claim demands, which its controller makes from a template if it is not there.
    pub(crate) fn add_templated(&self, template: &PersistentVolumeClaim, pod: &mut Pod) {
        let volume = template.metadata.name.as_deref().unwrap_or_default();
        let class = template.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        if let Err(message) = self.demand_of(&format!("{volume}-{}", pod.key.name), Some(class), pod) {
            pod.invalid.push(format!("volume {volume}: {message}"));
        }
    }

    /// `to_be_made`: the class named by the template that the claim will be made from, if there is a template; empty if it
    /// names none.
    fn demand_of(&self, name: &str, to_be_made: Option<&str>, pod: &mut Pod) -> Result<(), String> {
        let id = format!("{}/{name}", pod.key.namespace);
        let claim = self.claims.get(&(pod.key.namespace.as_str(), name));
        let spec = claim.and_then(|claim| claim.spec.as_ref());
        if let Some(volume) = spec.and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty()) {
            return self.of_volume(volume, pod);
        }
        let class = match (claim, to_be_made) {
            (Some(_), _) => spec.and_then(|spec| spec.storage_class_name.as_deref()),
            (None, Some(class)) => Some(class),
            (None, None) => return Err(format!("claim {name} does not exist")),
        };
        let class = match class.filter(|name| !name.is_empty()) {
            Some(name) => Some(*self.classes.get(name).ok_or_else(|| format!("storage class {name} does not exist"))?),
            None => self.classes.values().copied().find(|class| is_default(class)),
        };
        let Some(class) = class else { return Ok(()) };
        // Kubernetes binds such a claim before it looks for a node, and no pod is placed until that is done.
        if claim.is_some() && class.volume_binding_mode.as_deref().unwrap_or("Immediate") == "Immediate" {
            let class = class.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "claim {name} is not bound, and its storage class {class} binds before a node is known"
            ));
        }
        pod.volume_zones.extend(convert::storage_class_zones(class)?);
        pod.volumes_by_driver.entry(convert::attaching_driver(class).to_owned()).or_default().insert(id);
        Ok(())
    }

    fn of_volume(&self, name: &str, pod: &mut Pod) -> Result<(), String> {
        let volume = self.volumes.get(name).ok_or_else(|| format!("volume {name} does not exist"))?;
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
