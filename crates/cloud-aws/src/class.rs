//! A class in one normal form, whichever of the three kinds it was written as.
//!
//! | kind | where the fields are | semantics |
//! |---|---|---|
//! | `Provisioner` (inline `provider`) | `spec.provider.*` | Karpenter 0.16 |
//! | `AWSNodeTemplate` | `spec.*` | Karpenter 0.16 |
//! | `EC2NodeClass` | `spec.*`, selector terms | Karpenter 1 |

use std::collections::{BTreeMap, BTreeSet};

use api::karpenter_aws::{AWSNodeTemplateSpec, BlockDeviceMapping, INLINE_EXCLUDED};
use cloud::{CloudError, NodeClass};
use serde_json::Value;
use units::{Quantity, ResourceName};

use crate::class_v1;
use crate::errors::Field;

/// Which original the class was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Karpenter 0.16.
    V1Alpha5,
    /// Karpenter 1.
    V1,
}

/// How nodes of a class boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Al2,
    Al2023,
    Bottlerocket,
    Ubuntu,
    Custom,
}

impl Family {
    /// As a manifest writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Al2 => "AL2",
            Self::Al2023 => "AL2023",
            Self::Bottlerocket => "Bottlerocket",
            Self::Ubuntu => "Ubuntu",
            Self::Custom => "Custom",
        }
    }
}

/// What a subnet, security group or image must be like: every part that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector {
    /// Any of these ids; empty = any id.
    pub(crate) ids: BTreeSet<String>,
    /// This name; empty = any.
    pub(crate) name: Option<String>,
    /// Owner account or alias; images only.
    pub(crate) owner: Option<String>,
    /// All of these tags; the value `*` or an empty one means that the key is there.
    pub(crate) tags: BTreeMap<String, String>,
}

/// Where the image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Images {
    /// AWS's parameters for the family; `latest` or a pinned version.
    Alias { version: String },
    /// One parameter of the account's own.
    Parameter(Vec<String>),
    /// The newest image for the architecture among those that match any.
    Selected(Vec<Selector>),
}

/// A disk as EC2 takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) device: String,
    /// Unit: GiB.
    pub(crate) size_gib: Option<i32>,
    pub(crate) kind: Option<String>,
    pub(crate) encrypted: Option<bool>,
    pub(crate) delete_on_termination: Option<bool>,
    pub(crate) iops: Option<i32>,
    /// Unit: MiB a second.
    pub(crate) throughput: Option<i32>,
    /// Unit: MiB a second, at which a snapshot is brought to the disk.
    pub(crate) initialization_rate: Option<i32>,
    pub(crate) kms_key: Option<String>,
    pub(crate) snapshot: Option<String>,
    /// Whether pods' scratch space is here.
    pub(crate) root: bool,
}

/// Instance metadata options, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) endpoint: String,
    pub(crate) ipv6: String,
    pub(crate) hop_limit: i32,
    pub(crate) tokens: String,
}

/// The normal form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    pub(crate) generation: Generation,
    /// `spec.provider` or `spec`.
    pub(crate) path: &'static str,
    pub(crate) family: Family,
    pub(crate) subnets: Vec<Selector>,
    pub(crate) security_groups: Vec<Selector>,
    pub(crate) images: Images,
    pub(crate) profile: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) launch_template: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) disks: Vec<Disk>,
    pub(crate) context: Option<String>,
    pub(crate) user_data: Option<String>,
    pub(crate) detailed_monitoring: bool,
    pub(crate) public_address: Option<bool>,
    pub(crate) raid0: bool,
    /// Kubelet settings that the class itself carries (v1).
    pub(crate) kubelet: Value,
}

impl Class {
    /// Reads a class of any kind.
    ///
    /// # Errors
    /// `Misconfigured` with the path of the field that is missing, excluded or does not parse.
    pub(crate) fn parse(class: &NodeClass) -> Result<Self, CloudError> {
        match class.kind.as_str() {
            "EC2NodeClass" => class_v1::parse(&class.spec),
            "AWSNodeTemplate" => parse_template("spec", &class.spec),
            "Provisioner" => {
                if let Some(field) = INLINE_EXCLUDED.iter().find(|field| class.spec.get(**field).is_some()) {
                    let path = format!("spec.provider.{field}");
                    return Err(CloudError::misconfigured(&path, "only an AWSNodeTemplate has this field"));
                }
                parse_template("spec.provider", &class.spec)
            }
            other => Err(CloudError::misconfigured("kind", format!("{other} is not a node class of AWS"))),
        }
    }

    /// The path of a field, as this kind spells it.
    pub(crate) fn path(&self, field: Field) -> String {
        let (v1alpha, v1) = match field {
            Field::Subnets => ("subnetSelector", "subnetSelectorTerms"),
            Field::SecurityGroups => ("securityGroupSelector", "securityGroupSelectorTerms"),
            Field::InstanceProfile => ("instanceProfile", "instanceProfile"),
            Field::Image => ("amiSelector", "amiSelectorTerms"),
            Field::ImageFamily => ("amiFamily", "amiFamily"),
            Field::LaunchTemplate => ("launchTemplate", "launchTemplate"),
            Field::BlockDevices => ("blockDeviceMappings", "blockDeviceMappings"),
            Field::UserData => ("userData", "userData"),
            Field::Tags => ("tags", "tags"),
            Field::MetadataOptions => ("metadataOptions", "metadataOptions"),
            Field::Permissions | Field::Protection | Field::Whole => return self.path.to_owned(),
        };
        let name = if self.generation == Generation::V1 { v1 } else { v1alpha };
        format!("{}.{name}", self.path)
    }

    /// A `Misconfigured` about one of its fields.
    pub(crate) fn misconfigured(&self, field: Field, what: impl std::fmt::Display) -> CloudError {
        CloudError::misconfigured(&self.path(field), what)
    }

    /// The kubelet settings that hold: the pool's, or else the class's own.
    pub(crate) fn kubelet<'a>(&'a self, pool: &'a Value) -> &'a Value {
        if pool.is_null() { &self.kubelet } else { pool }
    }
}

fn parse_template(path: &'static str, spec: &Value) -> Result<Class, CloudError> {
    let spec: AWSNodeTemplateSpec =
        serde_json::from_value(spec.clone()).map_err(|error| CloudError::misconfigured(path, error))?;
    let at = |field: &str| format!("{path}.{field}");
    let missing = |field: &str, what: &str| Err(CloudError::misconfigured(&at(field), what));

    if spec.launch_template.is_some() {
        let excluded = [
            ("securityGroupSelector", !spec.security_group_selector.is_empty()),
            ("metadataOptions", spec.metadata_options.is_some()),
            ("amiFamily", spec.ami_family.is_some()),
            ("instanceProfile", spec.instance_profile.is_some()),
            ("blockDeviceMappings", !spec.block_device_mappings.is_empty()),
            ("userData", spec.user_data.is_some()),
            ("amiSelector", !spec.ami_selector.is_empty()),
        ];
        if let Some((field, _)) = excluded.iter().find(|(_, given)| *given) {
            return missing(field, "may not be given beside launchTemplate, which holds it");
        }
    } else if spec.security_group_selector.is_empty() {
        return missing("securityGroupSelector", "is required unless launchTemplate is given");
    }
    if spec.subnet_selector.is_empty() {
        return missing("subnetSelector", "is required");
    }
    let family = family(spec.ami_family.as_deref().unwrap_or("AL2"))
        .ok_or_else(|| unknown_family(&at("amiFamily"), spec.ami_family.as_deref()))?;
    if family == Family::Custom && spec.ami_selector.is_empty() {
        return missing("amiSelector", "is required for amiFamily Custom");
    }
    if let Some(key) = spec.tags.keys().find(|key| key.is_empty()) {
        return missing("tags", &format!("{key:?} is not a tag key"));
    }
    let metadata = spec.metadata_options.unwrap_or_default();
    Ok(Class {
        generation: Generation::V1Alpha5,
        path,
        family,
        subnets: vec![selector(&spec.subnet_selector, &at("subnetSelector"))?],
        security_groups: if spec.security_group_selector.is_empty() {
            Vec::new()
        } else {
            vec![selector(&spec.security_group_selector, &at("securityGroupSelector"))?]
        },
        images: if spec.ami_selector.is_empty() {
            Images::Alias { version: "latest".to_owned() }
        } else {
            Images::Selected(vec![selector(&spec.ami_selector, &at("amiSelector"))?])
        },
        profile: spec.instance_profile,
        tags: spec.tags,
        launch_template: spec.launch_template,
        metadata: metadata_options(&metadata, 2, &at("metadataOptions"))?,
        disks: disks(&spec.block_device_mappings, &at("blockDeviceMappings"))?,
        context: spec.context,
        user_data: spec.user_data,
        detailed_monitoring: spec.detailed_monitoring.unwrap_or(false),
        public_address: None,
        raid0: false,
        kubelet: Value::Null,
    })
}

/// The family of that name. Windows is known to Karpenter and not to us yet.
pub(crate) fn family(name: &str) -> Option<Family> {
    match name {
        "AL2" => Some(Family::Al2),
        "AL2023" => Some(Family::Al2023),
        "Bottlerocket" => Some(Family::Bottlerocket),
        "Ubuntu" => Some(Family::Ubuntu),
        "Custom" => Some(Family::Custom),
        _ => None,
    }
}

pub(crate) fn unknown_family(path: &str, name: Option<&str>) -> CloudError {
    let name = name.unwrap_or_default();
    let what = if name.starts_with("Windows") { "is not supported yet; choose" } else { "is not one of" };
    CloudError::misconfigured(path, format!("{name:?} {what} AL2, AL2023, Bottlerocket, Ubuntu, Custom"))
}

/// A v1alpha selector: a map of tags in which the key `aws-ids` holds a comma list.
fn selector(map: &BTreeMap<String, String>, path: &str) -> Result<Selector, CloudError> {
    let mut selector = Selector::default();
    for (key, value) in map {
        if key.is_empty() || value.is_empty() {
            return Err(CloudError::misconfigured(path, format!("{key:?}: {value:?} has an empty side")));
        }
        if key == "aws-ids" || key == "aws::ids" {
            selector.ids = value.split(',').map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect();
            if selector.ids.is_empty() {
                return Err(CloudError::misconfigured(path, format!("{key} {value:?} names no id")));
            }
        } else {
            selector.tags.insert(key.clone(), value.clone());
        }
    }
    Ok(selector)
}

/// Fills in Karpenter's defaults; `hop_limit` differs between generations.
pub(crate) fn metadata_options(
    given: &api::karpenter_aws::MetadataOptions,
    hop_limit: i64,
    path: &str,
) -> Result<Metadata, CloudError> {
    let one_of = |field: &str, value: &Option<String>, default: &str, allowed: [&str; 2]| {
        let value = value.as_deref().unwrap_or(default);
        if allowed.contains(&value) {
            Ok(value.to_owned())
        } else {
            let path = format!("{path}.{field}");
            Err(CloudError::misconfigured(&path, format!("{value:?} is not {} or {}", allowed[0], allowed[1])))
        }
    };
    let switch = ["enabled", "disabled"];
    let hops = given.http_put_response_hop_limit.unwrap_or(hop_limit);
    let hop_limit = i32::try_from(hops).ok().filter(|hops| (1..=64).contains(hops)).ok_or_else(|| {
        CloudError::misconfigured(&format!("{path}.httpPutResponseHopLimit"), format!("{hops} is not in 1..64"))
    })?;
    Ok(Metadata {
        endpoint: one_of("httpEndpoint", &given.http_endpoint, "enabled", switch)?,
        ipv6: one_of("httpProtocolIPv6", &given.http_protocol_ipv6, "disabled", switch)?,
        hop_limit,
        tokens: one_of("httpTokens", &given.http_tokens, "required", ["required", "optional"])?,
    })
}

/// Disks with their sizes in the unit EC2 takes.
pub(crate) fn disks(mappings: &[BlockDeviceMapping], path: &str) -> Result<Vec<Disk>, CloudError> {
    let mut disks = Vec::with_capacity(mappings.len());
    for (index, mapping) in mappings.iter().enumerate() {
        let wrong = |field: &str, what: String| CloudError::misconfigured(&format!("{path}[{index}].{field}"), what);
        let device = mapping.device_name.clone().ok_or_else(|| wrong("deviceName", "is required".to_owned()))?;
        let ebs = mapping.ebs.as_ref().ok_or_else(|| wrong("ebs", "is required".to_owned()))?;
        let size_gib = match &ebs.volume_size {
            Some(size) => Some(gibibytes(&size.0).map_err(|what| wrong("ebs.volumeSize", what))?),
            None if ebs.snapshot_id.is_some() => None,
            None => return Err(wrong("ebs.volumeSize", "is required unless snapshotID is given".to_owned())),
        };
        let narrow = |field: &str, value: Option<i64>| {
            value.map(i32::try_from).transpose().map_err(|_| wrong(field, "is out of range".to_owned()))
        };
        disks.push(Disk {
            device,
            size_gib,
            kind: ebs.volume_type.clone(),
            encrypted: ebs.encrypted,
            delete_on_termination: ebs.delete_on_termination,
            iops: narrow("ebs.iops", ebs.iops)?,
            throughput: narrow("ebs.throughput", ebs.throughput)?,
            initialization_rate: ebs.volume_initialization_rate,
            kms_key: ebs.kms_key_id.clone(),
            snapshot: ebs.snapshot_id.clone(),
            root: mapping.root_volume.unwrap_or(false),
        });
    }
    Ok(disks)
}

/// Whole GiB, rounded up: what EC2's `VolumeSize` counts in. (Karpenter 0.16 passed units of 10⁹ bytes, so that `20Gi`
/// became 22 GiB.)
fn gibibytes(size: &str) -> Result<i32, String> {
    let quantity: Quantity = size.parse().map_err(|error| format!("{error}"))?;
    let bytes = quantity.to_amount_ceil(&ResourceName::memory()).map_err(|error| format!("{error}"))?.0;
    let gib = bytes.div_euclid(1 << 30) + i64::from(bytes.rem_euclid(1 << 30) > 0);
    i32::try_from(gib)
        .ok()
        .filter(|_| (1_000_000_000..=64 << 40).contains(&bytes))
        .ok_or_else(|| format!("{size} is not between 1G and 64T"))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// An AWSNodeTemplate with what is required and nothing more.
    pub(crate) fn template() -> Class {
        let spec = json!({"subnetSelector": {"discovery": "c"}, "securityGroupSelector": {"discovery": "c"}});
        parse_template("spec", &spec).expect("parses")
    }

    /// An EC2NodeClass with what is required and nothing more.
    pub(crate) fn v1() -> Class {
        class_v1::parse(&json!({
            "amiSelectorTerms": [{"alias": "al2023@latest"}],
            "subnetSelectorTerms": [{"tags": {"discovery": "c"}}],
            "securityGroupSelectorTerms": [{"tags": {"discovery": "c"}}],
            "instanceProfile": "nodes",
        }))
        .expect("parses")
    }

    fn inline(spec: Value) -> NodeClass {
        NodeClass {
            group: "karpenter.sh".to_owned(),
            kind: "Provisioner".to_owned(),
            name: "default".to_owned(),
            uid: "u".to_owned(),
            spec,
        }
    }

    fn complaint(spec: Value) -> String {
        Class::parse(&inline(spec)).expect_err("is refused").to_string()
    }

    #[test]
    fn an_inline_block_has_karpenters_defaults() {
        let class = Class::parse(&inline(json!({
            "apiVersion": "extensions.karpenter.sh/v1alpha1", "kind": "AWS",
            "subnetSelector": {"karpenter.sh/discovery": "c", "team": "*"},
            "securityGroupSelector": {"aws-ids": "sg-1, sg-2"},
        })))
        .expect("parses");
        assert_eq!(class.family, Family::Al2);
        assert_eq!((class.metadata.hop_limit, class.metadata.tokens.as_str()), (2, "required"));
        assert_eq!(class.security_groups[0].ids.iter().collect::<Vec<_>>(), ["sg-1", "sg-2"]);
        assert_eq!(class.subnets[0].tags["team"], "*");
        assert_eq!(class.path(Field::Subnets), "spec.provider.subnetSelector");
    }

    #[test]
    fn mistakes_name_their_field() {
        let sound = json!({"subnetSelector": {"a": "b"}, "securityGroupSelector": {"a": "b"}});
        let with = |field: &str, value: Value| {
            let mut spec = sound.clone();
            spec[field] = value;
            spec
        };
        let table = [
            (json!({"securityGroupSelector": {"a": "b"}}), "spec.provider.subnetSelector: is required"),
            (json!({"subnetSelector": {"a": "b"}}), "spec.provider.securityGroupSelector: is required unless"),
            (with("subnetSelector", json!({"a": ""})), "spec.provider.subnetSelector: \"a\": \"\" has an empty side"),
            (with("launchTemplate", json!("mine")), "spec.provider.securityGroupSelector: may not be given beside"),
            (with("userData", json!("x")), "spec.provider.userData: only an AWSNodeTemplate"),
            (
                with("amiFamily", json!("Windows2022")),
                "spec.provider.amiFamily: \"Windows2022\" is not supported yet; choose",
            ),
            (with("amiFamily", json!("Ubantu")), "spec.provider.amiFamily: \"Ubantu\" is not one of"),
            (
                with("metadataOptions", json!({"httpTokens": "yes"})),
                "spec.provider.metadataOptions.httpTokens: \"yes\"",
            ),
            (
                with("blockDeviceMappings", json!([{"deviceName": "/dev/xvda", "ebs": {}}])),
                "spec.provider.blockDeviceMappings[0].ebs.volumeSize: is required",
            ),
            (with("tags", json!([])), "spec.provider: invalid type"),
        ];
        for (spec, expected) in table {
            let text = complaint(spec);
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn volume_sizes_are_counted_in_gibibytes() {
        for (text, gib) in [("20Gi", 20), ("100G", 94), ("1Ti", 1024), ("1G", 1)] {
            assert_eq!(gibibytes(text), Ok(gib), "{text}");
        }
        assert!(gibibytes("65Ti").is_err() && gibibytes("1Mi").is_err() && gibibytes("20 Gi").is_err());
    }
}
