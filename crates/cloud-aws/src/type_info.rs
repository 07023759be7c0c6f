//! What EC2 says about an instance type, reduced to what is used, in exact numbers.

use aws_sdk_ec2::types::{
    ArchitectureType, EphemeralNvmeSupport, InstanceTypeInfo, UsageClassType, VirtualizationType,
};
use scheduling::CapacityType;

/// The processor architectures nodes exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// As the label `kubernetes.io/arch` has it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As EC2 has it.
    pub(crate) fn ec2(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Devices of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Devices {
    pub(crate) name: String,
    pub(crate) maker: String,
    pub(crate) count: i64,
    /// Memory of each. Unit: MiB.
    pub(crate) memory_mib: i64,
    /// Cores of each; Neuron only.
    pub(crate) cores: i64,
}

/// One instance type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeInfo {
    pub(crate) name: String,
    pub(crate) arch: Arch,
    pub(crate) vcpus: i64,
    pub(crate) memory_mib: i64,
    /// Interfaces on the default network card.
    pub(crate) enis: i64,
    /// IPv4 addresses on each of them.
    pub(crate) addresses_per_eni: i64,
    /// `nitro`, `xen`, or empty on bare metal.
    pub(crate) hypervisor: String,
    pub(crate) bare_metal: bool,
    pub(crate) cpu_maker: String,
    pub(crate) clock_mhz: Option<i64>,
    /// Total size of the NVMe instance store. Unit: GB (10⁹ bytes).
    pub(crate) nvme_gb: Option<i64>,
    pub(crate) network_mbps: Option<i64>,
    pub(crate) ebs_mbps: Option<i64>,
    pub(crate) encrypts_transit: bool,
    pub(crate) efas: i64,
    /// The only kind of GPU it has; empty if there are several kinds, which no type of today has.
    pub(crate) gpus: Option<Devices>,
    /// AWS's own accelerators.
    pub(crate) neuron: Option<Devices>,
    pub(crate) usage: Vec<CapacityType>,
}

impl TypeInfo {
    /// Reads EC2's record; `None` for types nodes cannot be made of: neither hvm nor of a known architecture, FPGA
    /// boards, Macs, and records without the numbers that matter.
    pub(crate) fn read(info: &InstanceTypeInfo) -> Option<Self> {
        let name = info.instance_type()?.as_str().to_owned();
        if !info.supported_virtualization_types().contains(&VirtualizationType::Hvm) || info.fpga_info().is_some() {
            return None;
        }
        let processor = info.processor_info()?;
        let architectures = processor.supported_architectures();
        let arch = if architectures.contains(&ArchitectureType::X8664) {
            Arch::Amd64
        } else if architectures.contains(&ArchitectureType::Arm64) {
            Arch::Arm64
        } else {
            return None;
        };
        let network = info.network_info()?;
        let default_card = network.default_network_card_index().unwrap_or(0);
        let card = network.network_cards().iter().find(|card| card.network_card_index() == Some(default_card));
        let store = info
            .instance_storage_info()
            .filter(|store| {
                matches!(store.nvme_support(), Some(EphemeralNvmeSupport::Required | EphemeralNvmeSupport::Supported))
            })
            .and_then(aws_sdk_ec2::types::InstanceStorageInfo::total_size_in_gb);
        let efas = network.efa_info().and_then(aws_sdk_ec2::types::EfaInfo::maximum_efa_interfaces).unwrap_or(0);
        Some(Self {
            arch,
            vcpus: i64::from(info.v_cpu_info()?.default_v_cpus()?),
            memory_mib: info.memory_info()?.size_in_mib()?,
            enis: i64::from(
                card.and_then(aws_sdk_ec2::types::NetworkCardInfo::maximum_network_interfaces)
                    .or(network.maximum_network_interfaces())?,
            ),
            addresses_per_eni: i64::from(network.ipv4_addresses_per_interface()?),
            hypervisor: info.hypervisor().map(|it| it.as_str().to_owned()).unwrap_or_default(),
            bare_metal: info.bare_metal().unwrap_or(false),
            cpu_maker: kebab(processor.manufacturer().unwrap_or_default()),
            clock_mhz: processor.sustained_clock_speed_in_ghz().and_then(thousandths),
            nvme_gb: store,
            network_mbps: card
                .and_then(aws_sdk_ec2::types::NetworkCardInfo::baseline_bandwidth_in_gbps)
                .and_then(thousandths),
            ebs_mbps: info
                .ebs_info()
                .and_then(|ebs| ebs.ebs_optimized_info())
                .and_then(aws_sdk_ec2::types::EbsOptimizedInfo::baseline_bandwidth_in_mbps)
                .map(i64::from),
            encrypts_transit: network.encryption_in_transit_supported().unwrap_or(false),
            efas: i64::from(efas),
            gpus: gpus(info),
            neuron: neuron(info),
            usage: info
                .supported_usage_classes()
                .iter()
                .filter_map(|usage| match usage {
                    UsageClassType::OnDemand => Some(CapacityType::OnDemand),
                    UsageClassType::Spot => Some(CapacityType::Spot),
                    _ => None,
                })
                .collect(),
            name,
        })
    }

    /// `m5` of `m5.large`.
    pub(crate) fn family(&self) -> &str {
        self.name.split_once('.').map_or(self.name.as_str(), |(family, _)| family)
    }

    /// `large` of `m5.large`.
    pub(crate) fn size(&self) -> &str {
        self.name.split_once('.').map_or("", |(_, size)| size)
    }

    /// The leading letters of the family (`m` of `m5`, `u` of `u-6tb1`) and its generation (`5`, `1`).
    pub(crate) fn category_and_generation(&self) -> Option<(&str, &str)> {
        let family = self.family();
        let letters = family.find(|c: char| !c.is_ascii_lowercase())?;
        let (category, rest) = family.split_at(letters);
        // u-6tb1: the size in terabytes stands between letters and generation.
        let rest = match rest.strip_prefix('-') {
            Some(terabytes) => terabytes.split_once("tb")?.1,
            None => rest,
        };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        (digits > 0 && !category.is_empty()).then(|| (category, &rest[..digits]))
    }

    /// Whether it has hardware most pods have no use for: whole machines and accelerators.
    pub(crate) fn is_exotic(&self) -> bool {
        self.bare_metal || self.gpus.is_some() || self.neuron.is_some()
    }
}

fn gpus(info: &InstanceTypeInfo) -> Option<Devices> {
    let [gpu] = info.gpu_info()?.gpus() else { return None };
    // A fraction of a GPU is announced as none whole and some logical ones; its device plug-in shows it as one.
    let count = match gpu.count().unwrap_or(0) {
        0 => gpu.logical_gpu_count().unwrap_or(1).max(1),
        count => count,
    };
    Some(Devices {
        name: kebab(gpu.name().unwrap_or_default()),
        maker: kebab(gpu.manufacturer().unwrap_or_default()),
        count: i64::from(count),
        memory_mib: gpu
            .memory_info()
            .and_then(aws_sdk_ec2::types::GpuDeviceMemoryInfo::size_in_mib)
            .map_or(0, i64::from),
        cores: 0,
    })
}

fn neuron(info: &InstanceTypeInfo) -> Option<Devices> {
    let [device] = info.neuron_info()?.neuron_devices() else { return None };
    Some(Devices {
        name: kebab(device.name().unwrap_or_default()),
        maker: "aws".to_owned(),
        count: i64::from(device.count()?),
        memory_mib: device
            .memory_info()
            .and_then(aws_sdk_ec2::types::NeuronDeviceMemoryInfo::size_in_mib)
            .map_or(0, i64::from),
        cores: device.core_info().and_then(aws_sdk_ec2::types::NeuronDeviceCoreInfo::count).map_or(0, i64::from),
    })
}

/// `Radeon Pro V520` → `radeon-pro-v520`: a label value.
fn kebab(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace(' ', "-")
}

/// A decimal of EC2 (`0.75` Gbps, `3.1` GHz) in thousandths; `None` when it is no such number.
fn thousandths(value: f64) -> Option<i64> {
    let scaled = (value * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    (scaled.is_finite() && (0.0..1e9).contains(&scaled)).then_some(scaled as i64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A type with the numbers the formulas read, and nothing special.
    pub(crate) fn plain(name: &str, arch: Arch, vcpus: i64, memory_mib: i64, enis: i64, addresses: i64) -> TypeInfo {
        TypeInfo {
            name: name.to_owned(),
            arch,
            vcpus,
            memory_mib,
            enis,
            addresses_per_eni: addresses,
            hypervisor: "nitro".to_owned(),
            bare_metal: false,
            cpu_maker: "intel".to_owned(),
            clock_mhz: None,
            nvme_gb: None,
            network_mbps: None,
            ebs_mbps: None,
            encrypts_transit: false,
            efas: 0,
            gpus: None,
            neuron: None,
            usage: vec![CapacityType::OnDemand, CapacityType::Spot],
        }
    }

    #[test]
    fn a_name_tells_category_and_generation() {
        let table = [
            ("m5.large", Some(("m", "5"))),
            ("c6gn.metal", Some(("c", "6"))),
            ("u-6tb1.56xlarge", Some(("u", "1"))),
            ("u7i-12tb.224xlarge", Some(("u", "7"))),
            ("inf2.xlarge", Some(("inf", "2"))),
            ("hpc7a.96xlarge", Some(("hpc", "7"))),
            ("p4de.24xlarge", Some(("p", "4"))),
            ("strange.large", None),
        ];
        for (name, expected) in table {
            let info = plain(name, Arch::Amd64, 2, 8192, 3, 10);
            assert_eq!(info.category_and_generation(), expected, "{name}");
        }
    }

    #[test]
    fn text_becomes_a_label_value_and_decimals_become_exact() {
        assert_eq!(kebab("Radeon Pro V520"), "radeon-pro-v520");
        assert_eq!((thousandths(0.75), thousandths(3.1), thousandths(f64::NAN)), (Some(750), Some(3100), None));
    }
}
