//! Where volumes are, or may be made, and how many a node can attach.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, StorageClass};
use requirements::{Operator, RequirementTerm};

use super::affinity::node_term;

/// What a node must satisfy to reach this volume; all terms must hold.
///
/// Several alternatives on one key become one term; other alternatives cannot be expressed as terms
/// that all hold and are an error.
pub fn persistent_volume_zones(volume: &PersistentVolume) -> Result<Vec<RequirementTerm>, String> {
    let required = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    let Some(required) = required else { return Ok(Vec::new()) };
    let mut alternatives = Vec::new();
    for term in &required.node_selector_terms {
        alternatives.extend(node_term(term)?);
    }
    one_of_them(alternatives)
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

/// How many volumes of each driver the node can attach, by driver; a driver that says nothing has no limit. The node has the
/// object's name.
pub fn volume_limits(node: &CSINode) -> BTreeMap<String, u32> {
    let limit = |driver: &CSINodeDriver| {
        let count = u32::try_from(driver.allocatable.as_ref()?.count?).ok()?;
        Some((driver.name.clone(), count))
    };
    node.spec.drivers.iter().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
    fn alternatives_on_several_keys_are_refused() {
        let class = json!({ "metadata": {}, "provisioner": "p", "allowedTopologies": [
            { "matchLabelExpressions": [{ "key": "zone", "values": ["a"] }] },
            { "matchLabelExpressions": [{ "key": "rack", "values": ["1"] }] }] });
        assert!(storage_class_zones(&serde_json::from_value(class).unwrap()).is_err());
    }
}
