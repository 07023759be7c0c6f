//! Where volumes are, or may be made, and how many a node can attach.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, StorageClass};
use requirements::{Operator, RequirementTerm, labels};

use super::affinity::node_term;

/// The labels of volumes of before there was a node affinity that name the zone of their nodes (kube-scheduler: `VolumeZone`, which
/// looks at the region as well; but a zone has one only).
const ZONES: [&str; 2] = [labels::ZONE, "failure-domain.beta.kubernetes.io/zone"];

/// What a node must satisfy to reach this volume; all terms must hold.
///
/// Several alternatives on one key become one term; other alternatives cannot be expressed as terms
/// that all hold and are an error.
pub fn persistent_volume_zones(volume: &PersistentVolume) -> Result<Vec<RequirementTerm>, String> {
    let mut terms = one_of_them(alternatives(volume)?)?;
    let written = volume.metadata.labels.iter().flatten();
    let zones = written.filter(|(key, _)| ZONES.contains(&key.as_str()));
    // A disk that is kept in several zones names them all.
    terms.extend(zones.map(|(_, zones)| RequirementTerm::new(labels::ZONE, Operator::In, zones.split("__"))));
    Ok(terms)
}

/// What a node must satisfy at least to reach one of these volumes, whichever: for each label that all of them name the values, as
/// far as terms that all hold can say it.
pub fn any_volume_zones<'a>(
    volumes: impl IntoIterator<Item = &'a PersistentVolume>,
) -> Result<Vec<RequirementTerm>, String> {
    let volumes: Vec<_> = volumes.into_iter().collect();
    if let [only] = volumes[..] {
        return persistent_volume_zones(only);
    }
    let mut all = Vec::new();
    for volume in volumes {
        match alternatives(volume)? {
            // This one is reached from everywhere.
            none if none.is_empty() => return Ok(Vec::new()),
            some => all.extend(some),
        }
    }
    let mut common: Option<BTreeMap<String, BTreeSet<String>>> = None;
    for terms in all {
        let listed = terms.into_iter().filter(|term| term.operator == Operator::In);
        let mut listed: BTreeMap<_, BTreeSet<_>> =
            listed.map(|term| (term.key, term.values.into_iter().collect())).collect();
        if let Some(before) = common {
            listed.retain(|key, _| before.contains_key(key));
            for (key, values) in &mut listed {
                values.extend(before[key].iter().cloned());
            }
        }
        common = Some(listed);
    }
    let terms = common.into_iter().flatten();
    Ok(terms.map(|(key, values)| RequirementTerm::new(key, Operator::In, values)).collect())
}

fn alternatives(volume: &PersistentVolume) -> Result<Vec<Vec<RequirementTerm>>, String> {
    let required = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    let mut alternatives = Vec::new();
    for term in required.iter().flat_map(|required| &required.node_selector_terms) {
        alternatives.extend(node_term(term)?);
    }
    Ok(alternatives)
}

/// What a node must satisfy for a volume of this class to be made for it; all terms must hold.
pub fn storage_class_zones(class: &StorageClass) -> Result<Vec<RequirementTerm>, String> {
    let alternatives = class
        .allowed_topologies
        .iter()
        .flatten()
        .map(|topology| {
            topology
                .match_label_expressions
                .iter()
                .flatten()
                .map(|e| RequirementTerm::new(e.key.as_str(), Operator::In, e.values.clone()))
                .collect::<Vec<_>>()
        })
        .filter(|terms| !terms.is_empty())
        .collect();
    one_of_them(alternatives)
}

fn one_of_them(mut alternatives: Vec<Vec<RequirementTerm>>) -> Result<Vec<RequirementTerm>, String> {
    if alternatives.len() < 2 {
        return Ok(alternatives.pop().unwrap_or_default());
    }
    let mut merged: Option<RequirementTerm> = None;
    for terms in alternatives {
        match (<[RequirementTerm; 1]>::try_from(terms), &mut merged) {
            (Ok([term]), None) if term.operator == Operator::In => merged = Some(term),
            (Ok([term]), Some(all)) if term.operator == Operator::In && term.key == all.key => {
                all.values.extend(term.values);
            }
            _ => return Err("the volume's topology has alternatives on several labels".to_owned()),
        }
    }
    Ok(merged.into_iter().collect())
}

/// The CSI driver that attaches the volume, and what that driver calls it; none for a volume that nobody has to attach.
///
/// Volumes that were described before there were drivers are attached by those, and count against their limits (Kubernetes'
/// CSI migration, complete since 1.27): of EBS alone every cluster has some whose class is `gp2`.
pub fn attachment(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let spec = volume.spec.as_ref()?;
    let old = || {
        if let Some(disk) = &spec.aws_elastic_block_store {
            // `aws://us-east-1a/vol-1`, or the identifier alone.
            return Some((EBS, disk.volume_id.rsplit('/').next()?));
        }
        if let Some(disk) = &spec.gce_persistent_disk {
            return Some((GCE, disk.pd_name.as_str()));
        }
        if let Some(disk) = &spec.azure_disk {
            return Some((AZURE, disk.disk_uri.as_str()));
        }
        if let Some(disk) = &spec.cinder {
            return Some((CINDER, disk.volume_id.as_str()));
        }
        spec.vsphere_volume.as_ref().map(|disk| (VSPHERE, disk.volume_path.as_str()))
    };
    match &spec.csi {
        Some(csi) => Some((csi.driver.as_str(), csi.volume_handle.as_str())),
        None => old(),
    }
}

/// The CSI driver that will attach what the class makes.
pub fn attaching_driver(class: &StorageClass) -> &str {
    match class.provisioner.as_str() {
        "kubernetes.io/aws-ebs" => EBS,
        "kubernetes.io/gce-pd" => GCE,
        "kubernetes.io/azure-disk" => AZURE,
        "kubernetes.io/cinder" => CINDER,
        "kubernetes.io/vsphere-volume" => VSPHERE,
        driver => driver,
    }
}

/// How many volumes of each driver the node can attach, by driver; a driver that says nothing has no limit. The node has the
/// object's name.
pub fn volume_limits(node: &CSINode) -> BTreeMap<String, u32> {
    let limit = |driver: &CSINodeDriver| {
        let count = u32::try_from(driver.allocatable.as_ref()?.count?).ok()?;
        Some((driver.name.clone(), count))
    };
    node.spec.drivers.iter().filter_map(limit).collect()
}

const EBS: &str = "ebs.csi.aws.com";
const GCE: &str = "pd.csi.storage.gke.io";
const AZURE: &str = "disk.csi.azure.com";
const CINDER: &str = "cinder.csi.openstack.org";
const VSPHERE: &str = "csi.vsphere.vmware.com";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_volume_of_before_csi_is_attached_by_the_driver_that_took_over() {
        let attached = |source: Value| {
            let volume = serde_json::from_value(json!({ "metadata": {}, "spec": source })).unwrap();
            attachment(&volume).map(|(driver, handle)| format!("{driver} {handle}"))
        };
        let ebs = |id: &str| attached(json!({ "awsElasticBlockStore": { "volumeID": id } }));
        let csi = json!({ "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-1" } });
        assert_eq!(ebs("aws://us-east-1a/vol-1"), attached(csi), "one volume, however it is written");
        assert_eq!(ebs("vol-1").as_deref(), Some("ebs.csi.aws.com vol-1"));
        assert_eq!(attached(json!({ "nfs": { "server": "s", "path": "/" } })), None);
        let class = |provisioner: &str| {
            let class = json!({ "metadata": {}, "provisioner": provisioner });
            attaching_driver(&serde_json::from_value(class).unwrap()).to_owned()
        };
        assert_eq!(class("kubernetes.io/aws-ebs"), "ebs.csi.aws.com");
        assert_eq!(class("disk.example.com"), "disk.example.com");
    }

    #[test]
    fn alternatives_on_one_key_become_one_term() {
        let zone = |name: &str| {
            json!({ "matchExpressions": [
                { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [name] }] })
        };
        let volume = json!({ "metadata": {}, "spec": { "nodeAffinity": { "required": {
            "nodeSelectorTerms": [zone("a"), zone("b")] } } } });
        let terms = persistent_volume_zones(&serde_json::from_value(volume).unwrap()).unwrap();
        assert_eq!(terms[0].to_string(), "topology.kubernetes.io/zone In [a, b]");
        assert_eq!(terms.len(), 1);
    }

    #[test]
    fn a_volume_of_before_there_was_an_affinity_says_by_its_labels_where_it_is() {
        let volume = |labels: Value| serde_json::from_value(json!({ "metadata": { "labels": labels } })).unwrap();
        let terms = |labels: Value| {
            let terms = persistent_volume_zones(&volume(labels)).unwrap();
            terms.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let zone = ["topology.kubernetes.io/zone In [b]"];
        assert_eq!(terms(json!({ "topology.kubernetes.io/zone": "b", "team": "a" })), zone);
        assert_eq!(terms(json!({ "failure-domain.beta.kubernetes.io/zone": "b" })), zone);
        let several = ["topology.kubernetes.io/zone In [a, b]"];
        assert_eq!(
            terms(json!({ "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "a__b" })),
            several
        );
    }

    #[test]
    fn alternatives_on_several_keys_are_refused() {
        let class = json!({ "metadata": {}, "provisioner": "p", "allowedTopologies": [
            { "matchLabelExpressions": [{ "key": "zone", "values": ["a"] }] },
            { "matchLabelExpressions": [{ "key": "rack", "values": ["1"] }] }] });
        assert!(storage_class_zones(&serde_json::from_value(class).unwrap()).is_err());
    }
}
