//! Reads an EC2NodeClass into the normal form.

use api::karpenter_aws::{AmiSelectorTerm, EC2NodeClassSpec};
use cloud::CloudError;
use serde_json::Value;

use crate::class::{Class, Family, Generation, Images, Selector, disks, family, metadata_options, unknown_family};

/// Reads the spec of an EC2NodeClass.
///
/// # Errors
/// `Misconfigured` with the path of a field that does not parse or that this adapter cannot honour.
pub(crate) fn parse(spec: &Value) -> Result<Class, CloudError> {
    let spec: EC2NodeClassSpec =
        serde_json::from_value(spec.clone()).map_err(|error| CloudError::misconfigured("spec", error))?;
    refuse_what_is_ignored(&spec)?;
    let (family, images) = images(&spec)?;
    let metadata = spec.metadata_options.unwrap_or_default();
    Ok(Class {
        generation: Generation::V1,
        path: "spec",
        family,
        subnets: spec
            .subnet_selector_terms
            .into_iter()
            .map(|term| Selector { ids: term.id.into_iter().collect(), tags: term.tags, ..Selector::default() })
            .collect(),
        security_groups: spec
            .security_group_selector_terms
            .into_iter()
            .map(|term| Selector { ids: term.id.into_iter().collect(), name: term.name, tags: term.tags, owner: None })
            .collect(),
        images,
        profile: spec.instance_profile,
        tags: spec.tags,
        launch_template: None,
        metadata: metadata_options(&metadata, 1, "spec.metadataOptions")?,
        disks: disks(&spec.block_device_mappings, "spec.blockDeviceMappings")?,
        context: spec.context,
        user_data: spec.user_data,
        detailed_monitoring: spec.detailed_monitoring.unwrap_or(false),
        public_address: spec.associate_public_ip_address,
        raid0: spec.instance_store_policy.as_deref() == Some("RAID0"),
        kubelet: spec.kubelet.unwrap_or(Value::Null),
    })
}

/// Better no node than one that lacks what was asked for.
fn refuse_what_is_ignored(spec: &EC2NodeClassSpec) -> Result<(), CloudError> {
    let given = [
        ("role", spec.role.is_some(), "is not supported, give instanceProfile"),
        ("capacityReservationSelectorTerms", !spec.capacity_reservation_selector_terms.is_empty(), UNSUPPORTED),
        ("placementGroupSelector", spec.placement_group_selector.is_some(), UNSUPPORTED),
        ("ipPrefixCount", spec.ip_prefix_count.is_some(), UNSUPPORTED),
        ("networkInterfaces", !spec.network_interfaces.is_empty(), UNSUPPORTED),
        ("connectionTracking", spec.connection_tracking.is_some(), UNSUPPORTED),
        ("cpuOptions", spec.cpu_options.is_some(), UNSUPPORTED),
        ("enclaveOptions", spec.enclave_options.is_some(), UNSUPPORTED),
    ];
    match given.iter().find(|(_, given, _)| *given) {
        Some((field, _, what)) => Err(CloudError::misconfigured(&format!("spec.{field}"), what)),
        None => Ok(()),
    }
}

const UNSUPPORTED: &str = "is not supported yet";

fn images(spec: &EC2NodeClassSpec) -> Result<(Family, Images), CloudError> {
    let path = "spec.amiSelectorTerms";
    let named = spec
        .ami_family
        .as_deref()
        .map(|name| family(name).ok_or_else(|| unknown_family("spec.amiFamily", Some(name))))
        .transpose()?;
    let terms = &spec.ami_selector_terms;
    if let [AmiSelectorTerm { alias: Some(alias), .. }] = terms.as_slice() {
        let (name, version) = alias
            .split_once('@')
            .ok_or_else(|| CloudError::misconfigured(path, format!("alias {alias:?} is not family@version")))?;
        let of_alias = match name {
            "al2" => Family::Al2,
            "al2023" => Family::Al2023,
            "bottlerocket" => Family::Bottlerocket,
            _ => return Err(unknown_family(path, Some(name))),
        };
        return Ok((named.unwrap_or(of_alias), Images::Alias { version: version.to_owned() }));
    }
    let family = named.ok_or_else(|| CloudError::misconfigured("spec.amiFamily", "is required without an alias"))?;
    if terms.is_empty() {
        return Err(CloudError::misconfigured(path, "is required"));
    }
    let parameters: Vec<String> = terms.iter().filter_map(|term| term.ssm_parameter.clone()).collect();
    if !parameters.is_empty() {
        if parameters.len() < terms.len() {
            return Err(CloudError::misconfigured(
                path,
                "ssmParameter beside other kinds of terms is not supported yet",
            ));
        }
        return Ok((family, Images::Parameter(parameters)));
    }
    let selectors = terms
        .iter()
        .map(|term| Selector {
            ids: term.id.clone().into_iter().collect(),
            name: term.name.clone(),
            owner: term.owner.clone(),
            tags: term.tags.clone(),
        })
        .collect();
    Ok((family, Images::Selected(selectors)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({
            "amiSelectorTerms": [{"alias": "bottlerocket@1.20.0"}],
            "subnetSelectorTerms": [{"id": "subnet-1"}, {"tags": {"team": "*"}}],
            "securityGroupSelectorTerms": [{"name": "nodes"}],
            "instanceProfile": "nodes",
            "instanceStorePolicy": "RAID0",
        })
    }

    #[test]
    fn terms_are_kept_apart_because_any_of_them_will_do() {
        let class = parse(&spec()).expect("parses");
        assert_eq!(class.family, Family::Bottlerocket);
        assert_eq!(class.images, Images::Alias { version: "1.20.0".to_owned() });
        assert_eq!(class.subnets.len(), 2);
        assert_eq!(class.security_groups[0].name.as_deref(), Some("nodes"));
        assert_eq!(class.metadata.hop_limit, 1);
        assert!(class.raid0);
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_name() {
        for (field, value) in [("role", json!("r")), ("ipPrefixCount", json!(1)), ("cpuOptions", json!({}))] {
            let mut spec = spec();
            spec[field] = value;
            let text = parse(&spec).expect_err("is refused").to_string();
            assert!(text.starts_with(&format!("spec.{field}: ")), "{text}");
        }
    }
}
