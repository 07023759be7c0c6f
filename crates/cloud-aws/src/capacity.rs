//! How much a machine has, and how much of it pods get.
//!
//! The two generations differ: 0.16 counts the memory EC2 announces as capacity and the hypervisor's share as overhead,
//! and reserves 100m and 100Mi for the system; 1 takes the hypervisor's share off the capacity (and 64 MiB on arm64)
//! and reserves a tenth of the disk instead.

use units::{Amount, ResourceList, ResourceName};

use crate::class::{Class, Family, Generation};
use crate::kubelet::Kubelet;
use crate::settings::Settings;
use crate::type_info::TypeInfo;

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// Root disk of a family's own image. Unit: GiB.
const ROOT_DISK_GIB: i64 = 20;

/// Pods on a node that is not limited by its addresses: the kubelet's own default.
const PODS_DEFAULT: i64 = 110;

/// What a machine of this type has and what of it is not for pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) capacity: ResourceList,
    pub(crate) overhead: ResourceList,
}

/// Applies the formulas.
pub(crate) fn resources(info: &TypeInfo, class: &Class, kubelet: &Kubelet, settings: &Settings) -> Resources {
    let capacity = capacity(info, class, kubelet, settings);
    let pods = capacity.get(&ResourceName::pods()).0;
    let mut overhead = kube_reserved(info, class, kubelet, pods);
    overhead.add(&system_reserved(class, kubelet));
    overhead.add(&eviction(&capacity, class, kubelet));
    if class.generation == Generation::V1Alpha5 {
        let share = vm_overhead_mib(info.memory_mib, settings) * MIB;
        overhead.add(&ResourceList::new().with(ResourceName::memory(), Amount(share)));
    }
    Resources { capacity, overhead }
}

/// Pods the machine can run.
pub(crate) fn max_pods(info: &TypeInfo, class: &Class, kubelet: &Kubelet, settings: &Settings) -> i64 {
    let pods = match kubelet.max_pods {
        Some(pods) => i64::from(pods),
        None if settings.eni_limited_pod_density => eni_limited_pods(info, i64::from(settings.reserved_enis)),
        None => PODS_DEFAULT,
    };
    match kubelet.pods_per_core {
        Some(per_core) if class.family != Family::Bottlerocket => pods.min(i64::from(per_core) * info.vcpus),
        _ => pods,
    }
}

/// The VPC CNI's rule: each interface keeps its first address, and two pods use the host's.
fn eni_limited_pods(info: &TypeInfo, reserved: i64) -> i64 {
    match info.enis - reserved {
        usable if usable > 0 => usable * (info.addresses_per_eni - 1) + 2,
        _ => 0,
    }
}

fn capacity(info: &TypeInfo, class: &Class, kubelet: &Kubelet, settings: &Settings) -> ResourceList {
    let memory_mib = match class.generation {
        Generation::V1Alpha5 => info.memory_mib,
        Generation::V1 => {
            let seen = info.memory_mib - if info.arch == crate::type_info::Arch::Arm64 { 64 } else { 0 };
            seen - vm_overhead_mib(seen, settings)
        }
    };
    let mut list = ResourceList::new()
        .with(ResourceName::cpu(), Amount(info.vcpus * 1000))
        .with(ResourceName::memory(), Amount(memory_mib * MIB))
        .with(ResourceName::ephemeral_storage(), Amount(ephemeral_bytes(info, class)))
        .with(ResourceName::pods(), Amount(max_pods(info, class, kubelet, settings)));
    if let Some(gpus) = &info.gpus {
        let name = match gpus.maker.as_str() {
            "nvidia" => Some("nvidia.com/gpu"),
            "amd" => Some("amd.com/gpu"),
            "habana" => Some("habana.ai/gaudi"),
            _ => None,
        };
        if let Some(name) = name {
            list.set(name.into(), Amount(gpus.count));
        }
    }
    if let Some(neuron) = &info.neuron {
        list.set("aws.amazon.com/neuron".into(), Amount(neuron.count));
        if neuron.cores > 0 {
            list.set("aws.amazon.com/neuroncore".into(), Amount(neuron.count * neuron.cores));
        }
    }
    list
}

/// The hypervisor's share of that much memory, rounded up. Unit: MiB.
fn vm_overhead_mib(memory_mib: i64, settings: &Settings) -> i64 {
    let product = memory_mib.saturating_mul(i64::from(settings.vm_memory_overhead_permille));
    product.div_euclid(1000) + i64::from(product.rem_euclid(1000) > 0)
}

/// Size of the disk that pods' scratch space is on.
fn ephemeral_bytes(info: &TypeInfo, class: &Class) -> i64 {
    if let (true, Some(gigabytes)) = (class.raid0, info.nvme_gb) {
        return gigabytes * 1_000_000_000;
    }
    let device = match class.family {
        Family::Al2 | Family::Al2023 => "/dev/xvda",
        Family::Ubuntu => "/dev/sda1",
        Family::Bottlerocket => "/dev/xvdb",
        Family::Custom => "",
    };
    let disk = class.disks.iter().find(|disk| disk.root).or_else(|| {
        if device.is_empty() { class.disks.last() } else { class.disks.iter().find(|it| it.device == device) }
    });
    disk.and_then(|disk| disk.size_gib).map_or(ROOT_DISK_GIB, i64::from) * GIB
}

/// The kubelet's share: EKS's formula, with the user's own figures in its place where there are any.
fn kube_reserved(info: &TypeInfo, class: &Class, kubelet: &Kubelet, pods: i64) -> ResourceList {
    // Bottlerocket reckons with the pods it may run; the others with what the interfaces would allow.
    let reckoned = if class.family == Family::Bottlerocket { pods } else { eni_limited_pods(info, 0) };
    let mut list = ResourceList::new()
        .with(ResourceName::cpu(), Amount(reserved_millicores(info.vcpus)))
        .with(ResourceName::memory(), Amount((11 * reckoned + 255) * MIB))
        .with(ResourceName::ephemeral_storage(), Amount(GIB));
    for (name, amount) in &kubelet.kube_reserved {
        list.set(name.clone(), *amount);
    }
    list
}

/// 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest; in millicores, rounded down.
fn reserved_millicores(cores: i64) -> i64 {
    let beyond = |first: i64, last: i64| (cores.min(last) - first).max(0);
    // In quarters of a percent of a core: ten millicores are four of them.
    let quarters = beyond(0, 1) * 24 + beyond(1, 2) * 4 + beyond(2, 4) * 2 + beyond(4, i64::MAX);
    quarters * 10 / 4
}

fn system_reserved(class: &Class, kubelet: &Kubelet) -> ResourceList {
    let mut list = match class.generation {
        Generation::V1 => ResourceList::new(),
        Generation::V1Alpha5 => ResourceList::new()
            .with(ResourceName::cpu(), Amount(100))
            .with(ResourceName::memory(), Amount(100 * MIB))
            .with(ResourceName::ephemeral_storage(), Amount(GIB)),
    };
    for (name, amount) in &kubelet.system_reserved {
        list.set(name.clone(), *amount);
    }
    list
}

/// What the kubelet keeps free by evicting pods.
fn eviction(capacity: &ResourceList, class: &Class, kubelet: &Kubelet) -> ResourceList {
    let bytes = |signal: &str, name: ResourceName, default: i64| {
        kubelet.eviction_hard.get(signal).map_or(default, |threshold| threshold.bytes_of(capacity.get(&name).0))
    };
    let disk = capacity.get(&ResourceName::ephemeral_storage()).0;
    let tenth = match class.generation {
        Generation::V1Alpha5 => 0,
        Generation::V1 => disk.div_euclid(10) + i64::from(disk.rem_euclid(10) > 0),
    };
    ResourceList::new()
        .with(ResourceName::memory(), Amount(bytes("memory.available", ResourceName::memory(), 100 * MIB)))
        .with(
            ResourceName::ephemeral_storage(),
            Amount(bytes("nodefs.available", ResourceName::ephemeral_storage(), tenth)),
        )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::class::tests::{template, v1};
    use crate::type_info::Arch;
    use crate::type_info::tests::plain;

    fn m5_large() -> TypeInfo {
        plain("m5.large", Arch::Amd64, 2, 8192, 3, 10)
    }

    fn allocatable(info: &TypeInfo, class: &Class, kubelet: &Value) -> (i64, i64, i64, i64) {
        let kubelet = Kubelet::parse(kubelet).expect("parses");
        let settings = Settings::new("c", "u", "https://c", "1.28");
        let it = resources(info, class, &kubelet, &settings);
        let left = it.capacity.saturating_sub(&it.overhead);
        let get = |name: &ResourceName| left.get(name).0;
        (
            get(&ResourceName::cpu()),
            get(&ResourceName::memory()) / MIB,
            get(&ResourceName::pods()),
            get(&ResourceName::ephemeral_storage()) / GIB,
        )
    }

    #[test]
    fn reference_machines_have_the_allocatable_of_their_generation() {
        let c6g = plain("c6g.xlarge", Arch::Arm64, 4, 8192, 4, 15);
        assert_eq!(allocatable(&m5_large(), &v1(), &Value::Null), (1930, 6903, 29, 17));
        assert_eq!(allocatable(&c6g, &v1(), &Value::Null), (3920, 6525, 58, 17));
        assert_eq!(allocatable(&m5_large(), &template(), &Value::Null), (1830, 6803, 29, 18));
    }

    #[test]
    fn the_kubelets_own_figures_replace_the_formulas() {
        let kubelet = json!({
            "kubeReserved": {"cpu": "200m", "memory": "1Gi"},
            "systemReserved": {"cpu": "0", "memory": "0"},
            "evictionHard": {"memory.available": "10%"},
            "maxPods": 12,
        });
        // 8192 − 615 (hypervisor) − 1024 − 820 (a tenth, rounded up to bytes)
        assert_eq!(allocatable(&m5_large(), &template(), &kubelet), (1800, 5733, 12, 18));
    }

    #[test]
    fn pods_are_limited_by_addresses_cores_and_reserved_interfaces() {
        let pods = |settings: &Settings, kubelet: Value| {
            max_pods(&m5_large(), &template(), &Kubelet::parse(&kubelet).expect("parses"), settings)
        };
        let mut settings = Settings::new("c", "u", "https://c", "1.28");
        assert_eq!(pods(&settings, json!({"podsPerCore": 4})), 8);
        settings.reserved_enis = 1;
        assert_eq!(pods(&settings, Value::Null), 20);
        settings.reserved_enis = 3;
        assert_eq!(pods(&settings, Value::Null), 0);
        settings.eni_limited_pod_density = false;
        assert_eq!(pods(&settings, Value::Null), 110);
    }

    #[test]
    fn cores_are_reserved_in_falling_shares() {
        for (cores, millicores) in [(1, 60), (2, 70), (4, 80), (8, 90), (96, 310), (5, 82)] {
            assert_eq!(reserved_millicores(cores), millicores, "{cores}");
        }
    }
}
