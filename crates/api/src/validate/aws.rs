//! AWSNodeTemplate, the inline `provider`, EC2NodeClass.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;
use units::Quantity;

use super::{Validate, check, kubelet_errors};
use crate::FieldError;
use crate::karpenter_aws::{
    AWSNodeTemplate, AWSNodeTemplateSpec, BlockDeviceMapping, EC2NodeClass, INLINE_EXCLUDED, MetadataOptions,
};

impl Validate for AWSNodeTemplate {
    fn errors(&self) -> Vec<FieldError> {
        let mut errors = block(&self.spec, "spec");
        let spec = &self.spec;
        check(
            &mut errors,
            spec.ami_family.as_deref() != Some("Custom") || !spec.ami_selector.is_empty(),
            "spec.amiSelector",
            "amiFamily Custom needs an amiSelector",
        );
        selector(&mut errors, &spec.ami_selector, "spec.amiSelector", "ami-");
        errors
    }
}

/// What is wrong with a Provisioner's inline `provider`.
pub(super) fn inline(provider: &Value) -> Vec<FieldError> {
    const FIELD: &str = "spec.provider";
    let mut errors = unknown_provider_fields(provider);
    match AWSNodeTemplateSpec::deserialize(provider) {
        Ok(spec) => errors.extend(block(&spec, FIELD)),
        Err(error) => errors.push(FieldError::new(FIELD, error.to_string())),
    }
    errors
}

/// The fields of an inline `provider` that nobody knows, at any depth, and those it may not have.
///
/// The API server cannot refuse them: the block is opaque to it. The original decodes it strictly.
pub fn unknown_provider_fields(provider: &Value) -> Vec<FieldError> {
    let generator = SchemaSettings::openapi3().with(|s| s.inline_subschemas = true).into_generator();
    let schema = generator.into_root_schema_for::<AWSNodeTemplateSpec>().to_value();
    let mut errors = Vec::new();
    unknown(provider, &schema, "spec.provider", &mut errors);
    for field in INLINE_EXCLUDED.into_iter().filter(|field| provider.get(field).is_some()) {
        errors.push(FieldError::new(format!("spec.provider.{field}"), "needs an AWSNodeTemplate (providerRef)"));
    }
    errors
}

/// Goes through a value with its schema; maps of free keys end the search.
fn unknown(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let alternatives = schema["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    // An optional struct is "the struct, or null".
    let Some(schema) =
        std::iter::once(schema).chain(alternatives).find(|s| s["properties"].is_object() || s["items"].is_object())
    else {
        return;
    };
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let path = format!("{path}.{name}");
                match schema["properties"].get(name) {
                    Some(schema) => unknown(inner, schema, &path, errors),
                    None => errors.push(FieldError::new(path, "unknown field")),
                }
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                unknown(inner, &schema["items"], &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn block(spec: &AWSNodeTemplateSpec, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = |name: &str| format!("{field}.{name}");
    if let Some(family) = &spec.ami_family {
        one_of(&mut errors, family, &AMI_FAMILIES, &path("amiFamily"));
    }
    check(&mut errors, !spec.subnet_selector.is_empty(), &path("subnetSelector"), "is required");
    selector(&mut errors, &spec.subnet_selector, &path("subnetSelector"), "subnet-");
    check(
        &mut errors,
        spec.launch_template.is_some() || !spec.security_group_selector.is_empty(),
        &path("securityGroupSelector"),
        "is required unless launchTemplate is given",
    );
    selector(&mut errors, &spec.security_group_selector, &path("securityGroupSelector"), "sg-");
    if spec.launch_template.is_some() {
        for (name, given) in [
            ("securityGroupSelector", !spec.security_group_selector.is_empty()),
            ("metadataOptions", spec.metadata_options.is_some()),
            ("amiFamily", spec.ami_family.is_some()),
            ("instanceProfile", spec.instance_profile.is_some()),
            ("blockDeviceMappings", !spec.block_device_mappings.is_empty()),
            ("userData", spec.user_data.is_some()),
            ("amiSelector", !spec.ami_selector.is_empty()),
        ] {
            check(&mut errors, !given, &path(name), "cannot be given together with launchTemplate, which sets it");
        }
    }
    for key in spec.tags.keys() {
        check(&mut errors, !key.is_empty(), &path("tags"), "a tag's key must not be empty");
    }
    if let Some(options) = &spec.metadata_options {
        metadata_options(&mut errors, options, &path("metadataOptions"));
    }
    for (index, mapping) in spec.block_device_mappings.iter().enumerate() {
        device(&mut errors, mapping, &format!("{field}.blockDeviceMappings[{index}]"));
    }
    errors
}

/// Those of v1alpha1, and AL2023, which came after it.
const AMI_FAMILIES: [&str; 7] = ["AL2", "AL2023", "Bottlerocket", "Ubuntu", "Custom", "Windows2019", "Windows2022"];
const VOLUME_TYPES: [&str; 7] = ["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"];

fn one_of(errors: &mut Vec<FieldError>, value: &str, known: &[&str], field: &str) {
    check(errors, known.contains(&value), field, format!("{value:?} is none of {}", known.join(", ")));
}

fn selector(errors: &mut Vec<FieldError>, selector: &BTreeMap<String, String>, field: &str, prefix: &str) {
    for (key, value) in selector {
        check(errors, !key.is_empty() && !value.is_empty(), field, "keys and values must not be empty");
        if key == "aws-ids" {
            check(
                errors,
                value.split(',').all(|id| id.trim().starts_with(prefix)),
                &format!("{field}.aws-ids"),
                format!("{value:?} is not a comma list of {prefix}…"),
            );
        }
    }
}

fn metadata_options(errors: &mut Vec<FieldError>, options: &MetadataOptions, field: &str) {
    for (name, value, known) in [
        ("httpEndpoint", &options.http_endpoint, ["enabled", "disabled"]),
        ("httpProtocolIPv6", &options.http_protocol_ipv6, ["enabled", "disabled"]),
        ("httpTokens", &options.http_tokens, ["required", "optional"]),
    ] {
        if let Some(value) = value {
            one_of(errors, value, &known, &format!("{field}.{name}"));
        }
    }
    check(
        errors,
        options.http_put_response_hop_limit.is_none_or(|limit| (1..=64).contains(&limit)),
        &format!("{field}.httpPutResponseHopLimit"),
        "must be from 1 to 64",
    );
}

fn device(errors: &mut Vec<FieldError>, mapping: &BlockDeviceMapping, field: &str) {
    check(errors, mapping.device_name.is_some(), &format!("{field}.deviceName"), "is required");
    let Some(ebs) = &mapping.ebs else {
        errors.push(FieldError::new(format!("{field}.ebs"), "is required"));
        return;
    };
    if let Some(kind) = &ebs.volume_type {
        one_of(errors, kind, &VOLUME_TYPES, &format!("{field}.ebs.volumeType"));
    }
    let size = format!("{field}.ebs.volumeSize");
    match &ebs.volume_size {
        None => check(errors, ebs.snapshot_id.is_some(), &size, "is required unless snapshotID is given"),
        Some(text) => match text.0.parse::<Quantity>().and_then(|q| q.to_units_ceil()) {
            Ok(bytes) => check(
                errors,
                (1_000_000_000..=64 << 40).contains(&bytes),
                &size,
                format!("{} is not from 1G to 64Ti", text.0),
            ),
            Err(error) => errors.push(FieldError::new(size, error.to_string())),
        },
    }
}

impl Validate for EC2NodeClass {
    fn errors(&self) -> Vec<FieldError> {
        let spec = &self.spec;
        let mut errors = Vec::new();
        check(
            &mut errors,
            spec.role.is_some() != spec.instance_profile.is_some(),
            "spec",
            "expected exactly one of role and instanceProfile",
        );
        let alias = spec.ami_selector_terms.iter().any(|t| t.alias.is_some());
        check(
            &mut errors,
            spec.ami_family.is_some() || alias,
            "spec.amiFamily",
            "is required unless an alias names it",
        );
        check(
            &mut errors,
            !alias || spec.ami_selector_terms.len() == 1,
            "spec.amiSelectorTerms",
            "an alias must be the only term",
        );
        for (name, empty) in [
            ("subnetSelectorTerms", spec.subnet_selector_terms.is_empty()),
            ("securityGroupSelectorTerms", spec.security_group_selector_terms.is_empty()),
            ("amiSelectorTerms", spec.ami_selector_terms.is_empty()),
        ] {
            check(&mut errors, !empty, &format!("spec.{name}"), "needs at least one term");
        }
        if let Some(options) = &spec.metadata_options {
            metadata_options(&mut errors, options, "spec.metadataOptions");
        }
        for (index, mapping) in spec.block_device_mappings.iter().enumerate() {
            device(&mut errors, mapping, &format!("spec.blockDeviceMappings[{index}]"));
        }
        errors.extend(spec.kubelet.as_ref().map(|kubelet| kubelet_errors(kubelet, "spec.kubelet")).unwrap_or_default());
        errors
    }
}
