//! Launch templates: what a machine of a class is, named after its own content.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest, LaunchTemplateHttpTokensState,
    LaunchTemplateIamInstanceProfileSpecificationRequest, LaunchTemplateInstanceMetadataEndpointState,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateInstanceMetadataProtocolIpv6,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplateTagSpecificationRequest,
    LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData, ResourceType, Tag, VolumeType,
};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::class::{Class, Disk, Family};

/// Tag on our launch templates: the cluster's name. Karpenter 0.16's.
pub(crate) const CLUSTER_TAG: &str = "karpenter.k8s.aws/cluster";

/// Tag on our launch templates: UID of the class they were made for.
pub(crate) const CLASS_TAG: &str = "tandem.dev/nodeclass-uid";

/// Everything a template holds; equal contents have equal names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) cluster: String,
    pub(crate) class_uid: String,
    pub(crate) image_id: String,
    pub(crate) profile: String,
    pub(crate) security_groups: Vec<String>,
    /// Not encoded yet.
    pub(crate) user_data: String,
    pub(crate) class: Class,
    /// Put on volumes and network interfaces.
    pub(crate) tags: BTreeMap<String, String>,
}

impl Content {
    /// `Karpenter-<cluster>-<hash>`: the name policies of Karpenter 0.16 allow. At most 127 of EC2's 128 characters,
    /// since a cluster's name has at most 100.
    pub(crate) fn name(&self) -> String {
        // Debug output names every field of every part, so that a new field changes the hash by itself. The user data
        // alone is left out of it, as a secret.
        let hash = Sha256::digest(format!("{:?}\n{}\n{}", self.data(), self.class_uid, self.user_data));
        let short = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("Karpenter-{}-{short:016x}", self.cluster)
    }

    /// Tags on the template itself.
    pub(crate) fn own_tags(&self) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        tags.insert(CLUSTER_TAG.to_owned(), self.cluster.clone());
        tags.insert(CLASS_TAG.to_owned(), self.class_uid.clone());
        tags
    }

    /// As EC2 takes it.
    pub(crate) fn data(&self) -> RequestLaunchTemplateData {
        let metadata = &self.class.metadata;
        let mut data = RequestLaunchTemplateData::builder()
            .image_id(&self.image_id)
            .user_data(base64::engine::general_purpose::STANDARD.encode(&self.user_data))
            .iam_instance_profile(
                LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(&self.profile).build(),
            )
            .monitoring(LaunchTemplatesMonitoringRequest::builder().enabled(self.class.detailed_monitoring).build())
            .metadata_options(
                LaunchTemplateInstanceMetadataOptionsRequest::builder()
                    .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::from(metadata.endpoint.as_str()))
                    .http_protocol_ipv6(LaunchTemplateInstanceMetadataProtocolIpv6::from(metadata.ipv6.as_str()))
                    .http_put_response_hop_limit(metadata.hop_limit)
                    .http_tokens(LaunchTemplateHttpTokensState::from(metadata.tokens.as_str()))
                    .build(),
            );
        data = match self.class.public_address {
            // A template may name groups itself or in an interface, not both.
            Some(public) => data.network_interfaces(
                LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
                    .device_index(0)
                    .associate_public_ip_address(public)
                    .set_groups(Some(self.security_groups.clone()))
                    .build(),
            ),
            None => data.set_security_group_ids(Some(self.security_groups.clone())),
        };
        for disk in disks(&self.class) {
            data = data.block_device_mappings(mapping(&disk));
        }
        for resource in [ResourceType::Volume, ResourceType::NetworkInterface] {
            data = data.tag_specifications(
                LaunchTemplateTagSpecificationRequest::builder()
                    .resource_type(resource)
                    .set_tags(Some(tags(&self.tags)))
                    .build(),
            );
        }
        data.build()
    }
}

/// The class's disks, or its family's own.
fn disks(class: &Class) -> Vec<Disk> {
    if !class.disks.is_empty() {
        return class.disks.clone();
    }
    let root = |device: &str, size_gib| Disk {
        device: device.to_owned(),
        size_gib: Some(size_gib),
        kind: Some("gp3".to_owned()),
        encrypted: Some(true),
        ..Disk::default()
    };
    match class.family {
        Family::Al2 | Family::Al2023 => vec![root("/dev/xvda", 20)],
        Family::Ubuntu => vec![root("/dev/sda1", 20)],
        Family::Bottlerocket => vec![root("/dev/xvda", 4), root("/dev/xvdb", 20)],
        Family::Custom => Vec::new(),
    }
}

fn mapping(disk: &Disk) -> LaunchTemplateBlockDeviceMappingRequest {
    let ebs = LaunchTemplateEbsBlockDeviceRequest::builder()
        .set_volume_size(disk.size_gib)
        .set_volume_type(disk.kind.as_deref().map(VolumeType::from))
        .set_encrypted(disk.encrypted)
        .delete_on_termination(disk.delete_on_termination.unwrap_or(true))
        .set_iops(disk.iops)
        .set_throughput(disk.throughput)
        .set_volume_initialization_rate(disk.initialization_rate)
        .set_kms_key_id(disk.kms_key.clone())
        .set_snapshot_id(disk.snapshot.clone())
        .build();
    LaunchTemplateBlockDeviceMappingRequest::builder().device_name(&disk.device).ebs(ebs).build()
}

/// As EC2 takes tags, keys sorted.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::tests::template;

    fn content() -> Content {
        Content {
            cluster: "c".to_owned(),
            class_uid: "u".to_owned(),
            image_id: "ami-1".to_owned(),
            profile: "nodes".to_owned(),
            security_groups: vec!["sg-1".to_owned()],
            user_data: "#!/bin/sh".to_owned(),
            class: template(),
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn equal_contents_have_equal_names_and_any_change_another() {
        let one = content();
        assert_eq!(one.name(), content().name());
        assert_eq!(one.name().len(), "Karpenter-c-".len() + 16);
        let changes: [fn(&mut Content); 7] = [
            |it| it.image_id = "ami-2".to_owned(),
            |it| it.profile = "other".to_owned(),
            |it| it.security_groups.push("sg-2".to_owned()),
            |it| it.user_data.push('\n'),
            |it| it.class.metadata.hop_limit = 3,
            |it| it.class.detailed_monitoring = true,
            |it| it.class_uid = "v".to_owned(),
        ];
        for change in changes {
            let mut other = content();
            change(&mut other);
            assert_ne!(one.name(), other.name());
        }
    }

    #[test]
    fn groups_stand_in_the_interface_when_there_is_one() {
        let mut it = content();
        it.class.public_address = Some(false);
        let data = it.data();
        assert!(data.security_group_ids().is_empty());
        assert_eq!(data.network_interfaces()[0].groups(), ["sg-1"]);
    }
}
