//! Which image a machine boots from.

use std::collections::BTreeMap;

use crate::class::Family;
use crate::settings::Settings;
use crate::type_info::{Arch, TypeInfo};

/// What of a type decides the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Variant {
    pub(crate) arch: Arch,
    pub(crate) accelerator: Accelerator,
}

/// Hardware whose drivers are in an image of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Accelerator {
    None,
    Nvidia,
    Neuron,
}

impl Variant {
    /// The variant a type needs.
    pub(crate) fn of(info: &TypeInfo) -> Self {
        let accelerator = if info.neuron.is_some() {
            Accelerator::Neuron
        } else if info.gpus.as_ref().is_some_and(|gpus| gpus.maker == "nvidia") {
            Accelerator::Nvidia
        } else {
            Accelerator::None
        };
        Self { arch: info.arch, accelerator }
    }
}

/// The name of the parameter in which AWS (or Canonical) publishes the image's id; `None` where a family has no image
/// for the variant.
pub(crate) fn parameter(family: Family, version: &str, variant: Variant, settings: &Settings) -> Option<String> {
    use Accelerator::{Neuron, None as Plain, Nvidia};
    let (prefix, kubernetes) = (&settings.image_parameter_prefix, &settings.kubernetes_version);
    let recommended = if version == "latest" { "recommended" } else { version };
    let name = match family {
        Family::Al2 => {
            let flavour = match (variant.arch, variant.accelerator) {
                (Arch::Amd64, Plain) => "",
                (Arch::Amd64, Nvidia | Neuron) => "-gpu",
                (Arch::Arm64, Plain) => "-arm64",
                (Arch::Arm64, Nvidia | Neuron) => return None,
            };
            format!("{prefix}/eks/optimized-ami/{kubernetes}/amazon-linux-2{flavour}/{recommended}/image_id")
        }
        Family::Al2023 => {
            let flavour = match variant.accelerator {
                Plain => "standard",
                Nvidia => "nvidia",
                Neuron => "neuron",
            };
            let arch = variant.arch.ec2();
            format!("{prefix}/eks/optimized-ami/{kubernetes}/amazon-linux-2023/{arch}/{flavour}/{recommended}/image_id")
        }
        Family::Bottlerocket => {
            let flavour = if variant.accelerator == Nvidia { "-nvidia" } else { "" };
            let arch = variant.arch.ec2();
            format!("{prefix}/bottlerocket/aws-k8s-{kubernetes}{flavour}/{arch}/{version}/image_id")
        }
        Family::Ubuntu => {
            let arch = variant.arch.label();
            format!("{prefix}/canonical/ubuntu/eks/20.04/{kubernetes}/stable/current/{arch}/hvm/ebs-gp2/ami-id")
        }
        Family::Custom => return None,
    };
    Some(name)
}

/// An image that a selector found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) arch: Arch,
    /// ISO 8601, in which the order of texts is that of times.
    pub(crate) created: String,
}

/// The newest image of each architecture; of equally new ones the one with the smaller id, so that everybody agrees.
pub(crate) fn newest(images: &[Image]) -> BTreeMap<Arch, &str> {
    let mut chosen: BTreeMap<Arch, &Image> = BTreeMap::new();
    for image in images {
        let better = |best: &&Image| (&image.created, &best.id) > (&best.created, &image.id);
        if chosen.get(&image.arch).is_none_or(better) {
            chosen.insert(image.arch, image);
        }
    }
    chosen.into_iter().map(|(arch, image)| (arch, image.id.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_where_the_publishers_put_them() {
        use Accelerator::{Neuron, None as Plain, Nvidia};
        let settings = Settings::new("c", "u", "https://c", "1.28");
        let name =
            |family, version, arch, accelerator| parameter(family, version, Variant { arch, accelerator }, &settings);
        let table = [
            (
                name(Family::Al2, "latest", Arch::Amd64, Plain),
                "eks/optimized-ami/1.28/amazon-linux-2/recommended/image_id",
            ),
            (
                name(Family::Al2, "latest", Arch::Amd64, Neuron),
                "eks/optimized-ami/1.28/amazon-linux-2-gpu/recommended/image_id",
            ),
            (
                name(Family::Al2, "latest", Arch::Arm64, Plain),
                "eks/optimized-ami/1.28/amazon-linux-2-arm64/recommended/image_id",
            ),
            (
                name(Family::Al2023, "v20240101", Arch::Arm64, Nvidia),
                "eks/optimized-ami/1.28/amazon-linux-2023/arm64/nvidia/v20240101/image_id",
            ),
            (
                name(Family::Bottlerocket, "latest", Arch::Amd64, Nvidia),
                "bottlerocket/aws-k8s-1.28-nvidia/x86_64/latest/image_id",
            ),
            (
                name(Family::Ubuntu, "latest", Arch::Amd64, Plain),
                "canonical/ubuntu/eks/20.04/1.28/stable/current/amd64/hvm/ebs-gp2/ami-id",
            ),
        ];
        for (name, expected) in table {
            assert_eq!(name.as_deref(), Some(format!("/aws/service/{expected}").as_str()));
        }
        assert_eq!(name(Family::Al2, "latest", Arch::Arm64, Nvidia), None);
    }

    #[test]
    fn the_newest_image_of_each_architecture_is_chosen() {
        let image = |id: &str, arch, created: &str| Image { id: id.to_owned(), arch, created: created.to_owned() };
        let images = [
            image("ami-2", Arch::Amd64, "2024-02-01T00:00:00.000Z"),
            image("ami-1", Arch::Amd64, "2024-02-01T00:00:00.000Z"),
            image("ami-0", Arch::Amd64, "2024-01-01T00:00:00.000Z"),
            image("ami-9", Arch::Arm64, "2023-01-01T00:00:00.000Z"),
        ];
        assert_eq!(newest(&images), BTreeMap::from([(Arch::Amd64, "ami-1"), (Arch::Arm64, "ami-9")]));
    }
}
